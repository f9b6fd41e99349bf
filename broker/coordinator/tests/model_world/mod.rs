//! The world of the model test: eight clients in two groups, a log, a clock, and the rules.

mod rules;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ottla_coordinator::*;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub enum Action {
    Join {
        who: usize,
        protocols: u8,
        known: bool,
        version: u8,
    },
    Sync {
        who: usize,
        skew: i32,
    },
    Heartbeat {
        who: usize,
        skew: i32,
    },
    Leave {
        who: usize,
        twice: bool,
    },
    Commit {
        who: usize,
        partition: i32,
        offset: i64,
    },
    CommitSimple {
        group: usize,
        offset: i64,
    },
    CommitPending {
        group: usize,
        producer: i64,
        offset: i64,
    },
    EndTransaction {
        producer: i64,
        committed: bool,
    },
    Restart {
        who: usize,
    },
    DeleteOffsets {
        group: usize,
    },
    DeleteGroup {
        group: usize,
    },
    TopicsDeleted,
    Advance(i64),
    Crash,
}

/// Clients 0 to 3 are in group 0, the others in group 1; every fourth is static.
#[derive(Default, Clone)]
struct Client {
    member_id: String,
    generation_id: i32,
    /// The members it is to assign to, if it leads.
    followers: Vec<String>,
}

type Partition = (String, String, i32);

/// What the log holds: records, by producers or not, and ends of transactions.
enum Entry {
    Record(Option<Producer>, Record),
    End(i64, bool),
}

pub struct World {
    shard: Shard,
    now_ms: i64,
    token: Token,
    ids: u128,
    log: Vec<Entry>,
    clients: Vec<Client>,
    /// Who waits for a reply, and the member id it had when it asked.
    waiting: HashMap<Token, (usize, String)>,
    /// What a fetch must say, and when it was written.
    offsets: BTreeMap<Partition, (usize, i64)>,
    /// The same of open transactions, by producer.
    pending: BTreeMap<(i64, Partition), (usize, i64)>,
    /// Of this life: who leads a generation, and how far each group has come.
    leaders: HashMap<(String, i32), String>,
    generations: HashMap<String, i32>,
    /// Over all lives, until a tombstone.
    stored_generations: HashMap<String, i32>,
}

fn config() -> GroupConfig {
    GroupConfig {
        group_max_size: 3,
        members_max: 6,
        offsets_retention_ms: 3_600_000,
        ..GroupConfig::default()
    }
}

fn group_of(who: usize) -> String {
    format!("group-{}", who / 4)
}

fn instance_of(who: usize) -> Option<String> {
    (who % 4 == 3).then(|| format!("instance-{who}"))
}

impl World {
    pub fn new() -> World {
        World {
            shard: shard(0),
            now_ms: 1_000_000,
            token: 0,
            ids: 0,
            log: Vec::new(),
            clients: vec![Client::default(); 8],
            waiting: HashMap::new(),
            offsets: BTreeMap::new(),
            pending: BTreeMap::new(),
            leaders: HashMap::new(),
            generations: HashMap::new(),
            stored_generations: HashMap::new(),
        }
    }

    pub fn act(&mut self, action: Action) {
        match action {
            Action::Join {
                who,
                protocols,
                known,
                version,
            } => {
                self.join(who, protocols, known, version);
            }
            Action::Sync { who, skew } => self.sync(who, skew),
            Action::Heartbeat { who, skew } => {
                let client = &self.clients[who];
                self.ask(
                    who,
                    Command::Heartbeat(Heartbeat {
                        group_id: group_of(who),
                        generation_id: client.generation_id + skew,
                        member_id: client.member_id.clone(),
                        group_instance_id: instance_of(who),
                    }),
                );
            }
            Action::Leave { who, twice } => {
                let member = LeavingMember {
                    member_id: self.clients[who].member_id.clone(),
                    group_instance_id: instance_of(who),
                    reason: None,
                };
                let members = vec![member; 1 + usize::from(twice)];
                let group_id = group_of(who);
                self.ask(who, Command::LeaveGroup(LeaveGroup { group_id, members }));
            }
            Action::Commit {
                who,
                partition,
                offset,
            } => self.commit(who, partition, offset),
            Action::CommitSimple { group, offset } => {
                self.commit_as(
                    format!("group-{group}"),
                    -1,
                    String::new(),
                    None,
                    5,
                    offset,
                    None,
                );
            }
            Action::CommitPending {
                group,
                producer,
                offset,
            } => {
                let by = Some(Producer {
                    id: producer,
                    epoch: 0,
                });
                let group = format!("group-{group}");
                self.commit_as(group, -1, String::new(), None, 5, offset, by);
            }
            Action::EndTransaction {
                producer,
                committed,
            } => self.end(producer, committed),
            Action::Restart { who } => self.clients[who] = Client::default(),
            Action::DeleteOffsets { group } => self.delete_offsets(format!("group-{group}")),
            Action::DeleteGroup { group } => self.delete_group(format!("group-{group}")),
            Action::TopicsDeleted => {
                self.offsets.retain(|(_, topic, _), _| topic != "topic");
                self.pending
                    .retain(|(_, (_, topic, _)), _| topic != "topic");
                self.ask(0, Command::TopicsDeleted(vec!["topic".to_owned()]));
            }
            Action::Advance(by_ms) => self.advance(by_ms),
            Action::Crash => self.crash(),
        }
        self.check();
    }

    fn join(&mut self, who: usize, protocols: u8, known: bool, version: u8) {
        let names: &[&str] = match protocols {
            0 => &["range"],
            1 => &["range", "sticky"],
            _ => &["sticky", "range"],
        };
        let protocols = names.iter().map(|name| Protocol {
            name: (*name).to_owned(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x05topic\xff\xff\xff\xff"),
        });
        let member_id = match known {
            true => self.clients[who].member_id.clone(),
            false => String::new(),
        };
        let session_timeout_ms = 6_000 + 1_000 * who as i32;
        self.ask(
            who,
            Command::JoinGroup(JoinGroup {
                group_id: group_of(who),
                member_id,
                group_instance_id: instance_of(who),
                protocol_type: "consumer".to_owned(),
                protocols: protocols.collect(),
                session_timeout_ms,
                rebalance_timeout_ms: 4_000 * who as i32,
                client_id: format!("client-{who}"),
                client_host: "/127.0.0.1".to_owned(),
                requires_known_member_id: version > 0 && instance_of(who).is_none(),
                supports_skip_assignment: version > 1,
                reason: None,
            }),
        );
    }

    fn sync(&mut self, who: usize, skew: i32) {
        let client = &self.clients[who];
        let share = |m: &String| (m.clone(), Bytes::from(m.clone()));
        self.ask(
            who,
            Command::SyncGroup(SyncGroup {
                group_id: group_of(who),
                generation_id: client.generation_id + skew,
                member_id: client.member_id.clone(),
                group_instance_id: instance_of(who),
                protocol_type: None,
                protocol_name: None,
                assignments: client.followers.iter().map(share).collect(),
            }),
        );
    }

    fn commit(&mut self, who: usize, partition: i32, offset: i64) {
        let client = self.clients[who].clone();
        let (id, instance) = (client.member_id, instance_of(who));
        self.commit_as(
            group_of(who),
            client.generation_id,
            id,
            instance,
            partition,
            offset,
            None,
        );
    }

    #[allow(clippy::too_many_arguments)] // a commit has these fields
    fn commit_as(
        &mut self,
        group_id: String,
        generation_id: i32,
        member_id: String,
        group_instance_id: Option<String>,
        partition: i32,
        offset: i64,
        producer: Option<Producer>,
    ) {
        let topic = if offset % 2 == 0 { "topic" } else { "other" };
        let commit = CommitPartition {
            partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let replies = self.ask(
            0,
            Command::CommitOffsets(CommitOffsets {
                group_id: group_id.clone(),
                generation_id,
                member_id,
                group_instance_id,
                producer,
                retention_time_ms: None,
                topics: vec![CommitTopic {
                    name: topic.to_owned(),
                    partitions: vec![commit],
                }],
            }),
        );
        let Some(Response::CommitOffsets(results)) = replies.last() else {
            panic!("a commit is answered at once: {replies:?}");
        };
        if results[0].partitions[0].1.is_none() {
            let key = (group_id, topic.to_owned(), partition);
            let written = (self.log.len(), offset);
            match producer {
                Some(by) => self.pending.insert((by.id, key), written),
                None => self.offsets.insert(key, written),
            };
        }
    }

    fn delete_offsets(&mut self, group_id: String) {
        let replies = self.ask(
            0,
            Command::DeleteOffsets(DeleteOffsets {
                group_id: group_id.clone(),
                topics: vec![TopicPartitions {
                    name: "other".to_owned(),
                    partitions: vec![0, 5],
                }],
            }),
        );
        if let Some(Response::DeleteOffsets(Ok(results))) = replies.last() {
            for (partition, error) in &results[0].partitions {
                if error.is_none() {
                    let key = (group_id.clone(), "other".to_owned(), *partition);
                    self.pending.retain(|(_, partition), _| *partition != key);
                    self.offsets.remove(&key);
                }
            }
        }
    }

    fn delete_group(&mut self, group_id: String) {
        let replies = self.ask(0, Command::DeleteGroups(vec![group_id.clone()]));
        if let Some(Response::DeleteGroups(results)) = replies.last()
            && results[0].1.is_none()
        {
            self.offsets.retain(|(group, _, _), _| *group != group_id);
            self.pending
                .retain(|(_, (group, _, _)), _| *group != group_id);
        }
    }

    /// Hands in a command, and returns the replies to it and to others.
    fn ask(&mut self, who: usize, command: Command) -> Vec<Response> {
        self.token += 1;
        let may_wait = matches!(command, Command::JoinGroup(_) | Command::SyncGroup(_));
        let asked_as = self.clients[who].member_id.clone();
        self.waiting.insert(self.token, (who, asked_as));
        let decision = self.shard.handle(self.now_ms, self.token, command);
        let replies = self.take(decision);
        assert!(may_wait || !self.waiting.contains_key(&self.token));
        replies
    }

    fn take(&mut self, decision: Decision) -> Vec<Response> {
        for record in &decision.records {
            self.check_generation(record);
        }
        let by = decision.producer;
        let entry = |record| Entry::Record(by, record);
        self.log.extend(decision.records.into_iter().map(entry));
        let mut responses = Vec::new();
        for (token, response) in decision.replies {
            let (who, asked_as) = self.waiting.remove(&token).expect("a token that waits");
            self.hear(who, &asked_as, &response);
            responses.push(response);
        }
        responses
    }

    fn advance(&mut self, by_ms: i64) {
        let until_ms = self.now_ms + by_ms;
        let mut ticks = 0;
        while let Some(at_ms) = self.shard.next_deadline_ms().filter(|&at| at <= until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            let decision = self.shard.tick(self.now_ms);
            for event in &decision.events {
                if let Event::Expired { group_id, .. } = event {
                    self.forget_expired(group_id, &decision.records);
                }
            }
            self.take(decision);
            ticks += 1;
            assert!(ticks < 10_000, "time passes");
        }
        self.now_ms = until_ms;
    }

    fn crash(&mut self) {
        self.ids += 1_000_000;
        let copy = self.replayed();
        assert_eq!(
            copy.snapshot(),
            self.shard.snapshot(),
            "the log says it all"
        );
        self.shard = copy;
        self.shard.loaded(self.now_ms);
        self.waiting.clear();
        self.leaders.clear();
        self.generations.clear();
    }

    fn replayed(&self) -> Shard {
        let mut copy = shard(self.ids);
        for entry in &self.log {
            let replayed = match entry {
                Entry::Record(None, r) => copy.replay(self.now_ms, &r.key, r.value.as_deref()),
                Entry::Record(Some(by), r) => {
                    copy.replay_transactional(self.now_ms, by.id, &r.key, r.value.as_deref())
                }
                Entry::End(producer, committed) => {
                    copy.end_transaction(self.now_ms, *producer, *committed);
                    Ok(())
                }
            };
            replayed.expect("our own record");
        }
        copy
    }

    /// A transaction ends: its offsets count, unless a later one was committed meanwhile.
    fn end(&mut self, producer: i64, committed: bool) {
        self.shard.end_transaction(self.now_ms, producer, committed);
        self.log.push(Entry::End(producer, committed));
        for ((by, key), written) in std::mem::take(&mut self.pending) {
            if by != producer {
                self.pending.insert((by, key), written);
            } else if committed && self.offsets.get(&key).is_none_or(|o| o.0 < written.0) {
                self.offsets.insert(key, written);
            }
        }
    }

    /// Nobody says anything any more, for longer than every timeout.
    pub fn fall_silent(&mut self) {
        for producer in 0..3 {
            self.end(producer, true);
        }
        self.advance(24 * 3_600_000);
        assert!(self.waiting.is_empty(), "everyone is answered in the end");
        assert_eq!(self.shard.next_deadline_ms(), None, "no timer is left");
        assert_eq!(self.shard.snapshot(), Vec::new(), "nothing is stored");
        assert_eq!(self.replayed().snapshot(), Vec::new());
        let replies = self.ask(0, Command::ListGroups { states: Vec::new() });
        assert_eq!(replies, [Response::ListGroups(Vec::new())]);
    }
}

fn shard(first: u128) -> Shard {
    let mut last = first;
    let next = move || {
        last += 1;
        Uuid::from_u128(last)
    };
    Shard::with_ids(config(), Box::new(next))
}
