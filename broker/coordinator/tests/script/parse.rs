//! Lines of a script as commands. A line is a verb, plain words, and `name=value` words.

use bytes::Bytes;
use ottla_coordinator::{
    Command, CommitOffsets, CommitPartition, CommitTopic, DeleteOffsets, FetchGroup, FetchOffsets,
    GroupConfig, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, Producer, Protocol, Record,
    SyncGroup, TopicPartitions,
};
use uuid::Uuid;

pub struct Words<'a> {
    line: &'a str,
    verb: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Words<'a> {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a verb");
        let rest = words.collect();
        Words { line, verb, rest }
    }

    pub fn verb(&self) -> &'a str {
        self.verb
    }

    /// The next plain word; `''` is the empty string.
    pub fn plain(&mut self) -> String {
        let at = self.rest.iter().position(|w| !w.contains('='));
        let at = at.unwrap_or_else(|| panic!("a word is missing: {}", self.line));
        match self.rest.remove(at) {
            "''" => String::new(),
            word => word.to_owned(),
        }
    }

    pub fn number(&mut self) -> i64 {
        let word = self.plain();
        word.parse()
            .unwrap_or_else(|_| panic!("not a number: {word} in {}", self.line))
    }

    pub fn member(&mut self) -> String {
        member_id(&self.plain())
    }

    pub fn plain_words(&mut self) -> Vec<String> {
        let (plain, rest) = self.rest.drain(..).partition(|w| !w.contains('='));
        self.rest = rest;
        let unquote = |w: &str| if w == "''" { "" } else { w }.to_owned();
        plain.into_iter().map(unquote).collect()
    }

    pub fn named(&mut self, name: &str) -> Option<String> {
        let is = |w: &&str| w.split_once('=').is_some_and(|(n, _)| n == name);
        let at = self.rest.iter().position(is)?;
        let (_, value) = self.rest.remove(at).split_once('=')?;
        Some(value.to_owned())
    }

    fn named_number(&mut self, name: &str, default: i64) -> i64 {
        self.named(name)
            .map_or(default, |v| v.parse().expect("a number"))
    }

    pub fn configure(&mut self, config: &mut GroupConfig) {
        for word in std::mem::take(&mut self.rest) {
            let (name, value) = word.split_once('=').expect("name=value");
            let value: i64 = value.parse().expect("a number");
            match name {
                "initial_rebalance_delay_ms" => config.initial_rebalance_delay_ms = value as i32,
                "new_member_join_timeout_ms" => config.new_member_join_timeout_ms = value,
                "group_max_size" => config.group_max_size = value as usize,
                "offset_metadata_bytes_max" => config.offset_metadata_bytes_max = value as usize,
                "offsets_retention_ms" => config.offsets_retention_ms = value,
                "offsets_retention_check_interval_ms" => {
                    config.offsets_retention_check_interval_ms = value;
                }
                "groups_max" => config.groups_max = value as usize,
                "members_max" => config.members_max = value as usize,
                "member_metadata_bytes_max" => config.member_metadata_bytes_max = value as usize,
                "group_record_bytes_max" => config.group_record_bytes_max = value as usize,
                "offsets_max" => config.offsets_max = value as usize,
                "offset_text_bytes_max" => config.offset_text_bytes_max = value as usize,
                _ => panic!("no such setting: {name}"),
            }
        }
    }

    /// `key=` and `value=` in hexadecimal.
    pub fn raw_record(&mut self) -> Record {
        let key = unhex(&self.named("key").expect("key="));
        let value = self.named("value").map(|v| unhex(&v));
        Record { key, value }
    }

    pub fn end(&self) {
        assert!(
            self.rest.is_empty(),
            "what is {:?} in {}",
            self.rest,
            self.line
        );
    }
}

pub fn command(words: &mut Words<'_>) -> Command {
    match words.verb() {
        "join" => join(words),
        "sync" => sync(words),
        "heartbeat" => Command::Heartbeat(Heartbeat {
            group_id: words.plain(),
            generation_id: words.number() as i32,
            member_id: words.member(),
            group_instance_id: words.named("instance"),
        }),
        "leave" => leave(words),
        "commit" => commit(words),
        "fetch" => fetch(words),
        "delete-offsets" => Command::DeleteOffsets(DeleteOffsets {
            group_id: words.plain(),
            topics: topics(&words.plain_words()),
        }),
        "delete-groups" => Command::DeleteGroups(words.plain_words()),
        "describe" => Command::DescribeGroups(words.plain_words()),
        "list" => Command::ListGroups {
            states: words.plain_words(),
        },
        "topics-deleted" => Command::TopicsDeleted(words.plain_words()),
        verb => panic!("no such command: {verb}"),
    }
}

/// `v` is the version of the request: 4 needs a known member id, 9 knows skip_assignment.
fn join(words: &mut Words<'_>) -> Command {
    let version = words.named_number("v", 3);
    let instance = words.named("instance");
    let session_timeout_ms = words.named_number("session", 10_000) as i32;
    let protocols = words.named("protocols").unwrap_or("range".to_owned());
    Command::JoinGroup(JoinGroup {
        group_id: words.plain(),
        member_id: words
            .named("member")
            .map_or_else(String::new, |m| member_id(&m)),
        requires_known_member_id: version >= 4 && instance.is_none(),
        supports_skip_assignment: version >= 9,
        group_instance_id: instance,
        protocol_type: words.named("type").unwrap_or("consumer".to_owned()),
        protocols: protocols
            .split(',')
            .filter(|p| !p.is_empty())
            .map(protocol)
            .collect(),
        session_timeout_ms,
        rebalance_timeout_ms: words.named_number("rebalance", 60_000) as i32,
        client_id: words.named("client").unwrap_or("c".to_owned()),
        client_host: "/h".to_owned(),
        reason: words.named("reason"),
    })
}

/// `name`, `name:text`, or `name:sub(a+b)`, a consumer's subscription to topics a and b.
fn protocol(text: &str) -> Protocol {
    let (name, metadata) = text.split_once(':').unwrap_or((text, ""));
    let topics = metadata
        .strip_prefix("sub(")
        .and_then(|t| t.strip_suffix(')'));
    let metadata = match topics {
        Some(topics) => subscription(topics),
        None => Bytes::copy_from_slice(metadata.as_bytes()),
    };
    Protocol {
        name: name.to_owned(),
        metadata,
    }
}

fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split('+').collect();
    let mut out = vec![0, 0];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

fn sync(words: &mut Words<'_>) -> Command {
    let assign = words.named("assign").unwrap_or_default();
    let pairs = assign.split(',').filter_map(|p| p.split_once(':'));
    Command::SyncGroup(SyncGroup {
        group_id: words.plain(),
        generation_id: words.number() as i32,
        member_id: words.member(),
        group_instance_id: words.named("instance"),
        protocol_type: words.named("type"),
        protocol_name: words.named("protocol"),
        assignments: pairs
            .map(|(m, a)| (member_id(m), Bytes::copy_from_slice(a.as_bytes())))
            .collect(),
    })
}

/// Members are plain words; `@instance` or `id@instance` names a static one.
fn leave(words: &mut Words<'_>) -> Command {
    let group_id = words.plain();
    let reason = words.named("reason");
    let member = |word: &String| {
        let (id, instance) = match word.split_once('@') {
            Some((id, instance)) => (id, Some(instance.to_owned())),
            None => (word.as_str(), None),
        };
        LeavingMember {
            member_id: member_id(id),
            group_instance_id: instance,
            reason: reason.clone(),
        }
    };
    Command::LeaveGroup(LeaveGroup {
        group_id,
        members: words.plain_words().iter().map(member).collect(),
    })
}

/// Offsets are `topic/partition:offset`, then optional `:epoch` and `:metadata`.
fn commit(words: &mut Words<'_>) -> Command {
    let group_id = words.plain();
    let generation_id = words.number() as i32;
    let member_id = words.member();
    let group_instance_id = words.named("instance");
    let retention_time_ms = words.named("retention").map(|r| r.parse().expect("ms"));
    let producer = words.named("producer").map(|id| Producer {
        id: id.parse().expect("a number"),
        epoch: 0,
    });
    let mut topics: Vec<CommitTopic> = Vec::new();
    for word in words.plain_words() {
        let mut parts = word.split(':');
        let (name, partition) = topic_partition(parts.next().expect("topic/partition"));
        let offset = parts.next().expect("an offset");
        let epoch = parts.next().filter(|e| !e.is_empty());
        let commit = CommitPartition {
            partition,
            offset: offset.parse().expect("a number"),
            leader_epoch: epoch.map_or(-1, |e| e.parse().expect("a number")),
            metadata: parts.next().unwrap_or_default().to_owned(),
        };
        match topics.last_mut().filter(|t| t.name == name) {
            Some(topic) => topic.partitions.push(commit),
            None => topics.push(CommitTopic {
                name,
                partitions: vec![commit],
            }),
        }
    }
    Command::CommitOffsets(CommitOffsets {
        group_id,
        generation_id,
        member_id,
        group_instance_id,
        producer,
        retention_time_ms,
        topics,
    })
}

/// `fetch g t/0 t/1 + h` : partitions of g, and all of h.
fn fetch(words: &mut Words<'_>) -> Command {
    let require_stable = words.named("stable").is_some();
    let words = words.plain_words();
    let groups = words.split(|w| w == "+").map(|words| FetchGroup {
        group_id: words[0].clone(),
        topics: (words.len() > 1).then(|| topics(&words[1..])),
    });
    Command::FetchOffsets(FetchOffsets {
        groups: groups.collect(),
        require_stable,
    })
}

fn topics(words: &[String]) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for word in words {
        let (name, partition) = topic_partition(word);
        match topics.last_mut().filter(|t| t.name == name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(TopicPartitions {
                name,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn topic_partition(text: &str) -> (String, i32) {
    let (topic, partition) = text.split_once('/').expect("topic/partition");
    (topic.to_owned(), partition.parse().expect("a number"))
}

/// `c-1` is c and the first UUID of the script.
fn member_id(text: &str) -> String {
    let counted = text.rsplit_once('-');
    let counted = counted.and_then(|(prefix, n)| Some((prefix, n.parse::<u128>().ok()?)));
    match (text, counted) {
        ("''", _) => String::new(),
        (_, Some((prefix, n))) => format!("{prefix}-{}", Uuid::from_u128(n)),
        (text, None) => text.to_owned(),
    }
}

fn unhex(text: &str) -> Bytes {
    let digit = |b: u8| char::from(b).to_digit(16).expect("hexadecimal") as u8;
    let pair = |p: &[u8]| digit(p[0]) << 4 | digit(p[1]);
    text.as_bytes().chunks_exact(2).map(pair).collect()
}
