//! Decisions as text. Records are read here once more, apart from the crate's own code.

use std::fmt::Write;

use ottla_coordinator::{
    Decision, DescribedGroup, Event, GroupError, Joined, Record, Response, TopicResult,
};

pub fn decision(decision: &Decision) -> String {
    let mut out: String = decision.events.iter().map(event).collect();
    if let Some(producer) = decision.producer {
        writeln!(out, "> in a transaction of producer {}:", producer.id).unwrap();
    }
    out.extend(decision.records.iter().map(record));
    for (token, reply) in &decision.replies {
        write!(out, "#{token} {}", response(reply)).unwrap();
    }
    out
}

fn event(event: &Event) -> String {
    match event {
        Event::Rebalancing {
            group_id,
            generation_id,
            reason,
        } => {
            format!("* {group_id}/{generation_id} rebalances: {reason}\n")
        }
        Event::Formed {
            group_id,
            generation_id,
            members,
        } => {
            format!("* {group_id}/{generation_id} formed of {members}\n")
        }
        Event::Stabilized {
            group_id,
            generation_id,
        } => {
            format!("* {group_id}/{generation_id} stable\n")
        }
        Event::MemberRemoved {
            group_id,
            member_id,
            reason,
        } => {
            format!("* {group_id} lost {member_id}: {reason}\n")
        }
        Event::Emptied {
            group_id,
            generation_id,
        } => {
            format!("* {group_id}/{generation_id} empty\n")
        }
        Event::Expired {
            group_id,
            offsets,
            group_removed,
        } => {
            format!("* {group_id} expired offsets={offsets} removed={group_removed}\n")
        }
    }
}

fn response(response: &Response) -> String {
    match response {
        Response::Join(Ok(joined)) => join(joined),
        Response::Join(Err(refused)) => {
            format!("join: {:?} member={}\n", refused.error, refused.member_id)
        }
        Response::Sync(Ok(s)) => format!(
            "sync: ok type={} protocol={} assignment={}\n",
            opt(&s.protocol_type),
            opt(&s.protocol_name),
            s.assignment.escape_ascii()
        ),
        Response::Sync(Err(error)) => format!("sync: {error:?}\n"),
        Response::Heartbeat(outcome) => format!("heartbeat: {}\n", code(&outcome.err())),
        Response::Leave(Err(error)) => format!("leave: {error:?}\n"),
        Response::Leave(Ok(members)) => members.iter().fold("leave:\n".to_owned(), |out, m| {
            let instance = opt(&m.group_instance_id);
            format!("{out}  {}@{instance} {}\n", m.member_id, code(&m.error))
        }),
        Response::CommitOffsets(topics) => format!("commit:\n{}", results(topics)),
        Response::FetchOffsets(groups) => groups.iter().fold("fetch:\n".to_owned(), |out, g| {
            let topics = g.topics.iter().flat_map(|t| {
                t.partitions.iter().map(move |p| {
                    let (name, index) = (&t.name, p.partition);
                    let (offset, epoch) = (p.offset, p.leader_epoch);
                    let error = p.error.map_or(String::new(), |e| format!(" {e:?}"));
                    format!(
                        "    {name}/{index} {offset} epoch={epoch} {:?}{}\n",
                        p.metadata, error
                    )
                })
            });
            format!("{out}  {:?}\n{}", g.group_id, topics.collect::<String>())
        }),
        Response::DeleteOffsets(Err(error)) => format!("delete-offsets: {error:?}\n"),
        Response::DeleteOffsets(Ok(topics)) => format!("delete-offsets:\n{}", results(topics)),
        Response::DeleteGroups(groups) => groups
            .iter()
            .fold("delete-groups:\n".to_owned(), |out, (id, error)| {
                format!("{out}  {id} {}\n", code(error))
            }),
        Response::DescribeGroups(groups) => {
            format!(
                "describe:\n{}",
                groups.iter().map(described).collect::<String>()
            )
        }
        Response::ListGroups(groups) => groups.iter().fold("list:\n".to_owned(), |out, g| {
            format!("{out}  {} {:?} {}\n", g.group_id, g.protocol_type, g.state)
        }),
        Response::TopicsDeleted => "topics-deleted\n".to_owned(),
    }
}

fn join(joined: &Joined) -> String {
    let mut out = format!(
        "join: ok generation={} type={} protocol={} leader={} member={}",
        joined.generation_id,
        opt(&joined.protocol_type),
        opt(&joined.protocol_name),
        joined.leader,
        joined.member_id
    );
    if joined.skip_assignment {
        out.push_str(" skip-assignment");
    }
    for member in &joined.members {
        let instance = opt(&member.group_instance_id);
        let metadata = member.metadata.escape_ascii();
        write!(out, "\n  {}@{instance} {metadata}", member.member_id).unwrap();
    }
    out.push('\n');
    out
}

fn described(group: &DescribedGroup) -> String {
    let mut out = format!(
        "  {} {} {} type={:?} protocol={:?}\n",
        group.group_id,
        code(&group.error),
        group.state,
        group.protocol_type,
        group.protocol
    );
    for m in &group.members {
        writeln!(
            out,
            "    {}@{} client={} host={} metadata={} assignment={}",
            m.member_id,
            opt(&m.group_instance_id),
            m.client_id,
            m.client_host,
            m.metadata.escape_ascii(),
            m.assignment.escape_ascii()
        )
        .unwrap();
    }
    out
}

fn results(topics: &[TopicResult]) -> String {
    let lines = topics.iter().flat_map(|t| {
        let line = move |(p, e)| format!("  {}/{p} {}\n", t.name, code(e));
        t.partitions.iter().map(|(p, e)| (p, e)).map(line)
    });
    lines.collect()
}

fn code(error: &Option<GroupError>) -> String {
    error.map_or("ok".to_owned(), |e| format!("{e:?}"))
}

fn opt(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

/// One record, as a reader who only knows Kafka's format would print it.
pub fn record(record: &Record) -> String {
    let mut key = Fields(&record.key);
    let kind = key.int(2);
    let group = key.text();
    let value = record.value.as_deref().map(Fields);
    match (kind, value) {
        (1, value) => {
            let (topic, partition) = (key.text(), key.int(4));
            let value = value.map_or("tombstone".to_owned(), |v| offset(v));
            format!("> offset {group} {topic}/{partition} {value}\n")
        }
        (2, None) => format!("> group {group} tombstone\n"),
        (2, Some(value)) => format!("> group {group} {}\n", generation(value)),
        (other, _) => panic!("key type {other}"),
    }
}

fn offset(mut value: Fields<'_>) -> String {
    let version = value.int(2);
    let offset = value.int(8);
    let epoch = if version == 3 { value.int(4) } else { -1 };
    let metadata = value.text();
    let mut out = format!(
        "v{version} {offset} epoch={epoch} {metadata:?} at={}",
        value.int(8)
    );
    if version == 1 {
        write!(out, " expire={}", value.int(8)).unwrap();
    }
    value.end();
    out
}

fn generation(mut value: Fields<'_>) -> String {
    let version = value.int(2);
    let kind = value.text();
    let generation = value.int(4);
    let (protocol, leader) = (value.text(), value.text());
    let at = value.int(8);
    let mut out = format!(
        "v{version} {kind:?} generation={generation} protocol={protocol} leader={leader} at={at}"
    );
    for _ in 0..value.int(4) {
        let (id, instance) = (value.text(), value.text());
        let (client, host) = (value.text(), value.text());
        let (rebalance, session) = (value.int(4), value.int(4));
        let (subscription, assignment) = (value.blob(), value.blob());
        write!(
            out,
            "\n    {id}@{instance} {client} {host} rebalance={rebalance} session={session} {subscription} -> {assignment}"
        )
        .unwrap();
    }
    value.end();
    out
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn int(&mut self, size: usize) -> i64 {
        let (head, rest) = self.0.split_at(size);
        self.0 = rest;
        let sign = if head[0] >= 0x80 { -1 } else { 0 };
        head.iter().fold(sign, |n, b| n << 8 | i64::from(*b))
    }

    fn text(&mut self) -> String {
        match self.int(2) {
            -1 => "-".to_owned(),
            length => self.take(length as usize),
        }
    }

    fn blob(&mut self) -> String {
        let length = self.int(4);
        self.take(length as usize)
    }

    fn take(&mut self, length: usize) -> String {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head.escape_ascii().to_string()
    }

    fn end(&self) {
        assert!(self.0.is_empty(), "bytes are left: {:?}", self.0);
    }
}
