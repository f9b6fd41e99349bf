//! What replies, records and time may do to the world: the rules of the model test.

use std::collections::{BTreeMap, HashSet};

use ottla_coordinator::*;

use super::{Client, Partition, World, group_of, instance_of};

impl World {
    /// What a client learns from a reply.
    pub(super) fn hear(&mut self, who: usize, asked_as: &str, response: &Response) {
        match response {
            Response::Join(Ok(joined)) => self.hear_joined(who, joined),
            Response::Join(Err(refused)) => match refused.error {
                GroupError::MemberIdRequired => {
                    self.clients[who].member_id.clone_from(&refused.member_id);
                }
                GroupError::UnknownMemberId => self.clients[who] = Client::default(),
                _ => {}
            },
            Response::Sync(Ok(synced)) => {
                // A static member keeps the share that its instance had under an earlier id.
                let share = String::from_utf8_lossy(&synced.assignment);
                let own = match instance_of(who) {
                    Some(instance) => share.starts_with(&format!("{instance}-")),
                    None => share == asked_as,
                };
                assert!(own || share.is_empty(), "{asked_as} got {share}");
            }
            _ => {}
        }
    }

    fn hear_joined(&mut self, who: usize, joined: &Joined) {
        let group = group_of(who);
        let reached = self.generations.entry(group.clone()).or_insert(0);
        assert!(
            joined.generation_id >= *reached,
            "generations do not decrease"
        );
        *reached = joined.generation_id;
        let leads = joined.leader == joined.member_id;
        if leads && !joined.skip_assignment {
            let key = (group, joined.generation_id);
            let leader = self
                .leaders
                .entry(key)
                .or_insert_with(|| joined.leader.clone());
            assert_eq!(*leader, joined.leader, "one generation, one leader");
        }
        assert_eq!(leads, !joined.members.is_empty());
        let members = joined.members.iter().map(|m| m.member_id.clone());
        self.clients[who] = Client {
            member_id: joined.member_id.clone(),
            generation_id: joined.generation_id,
            followers: members.collect(),
        };
    }

    /// Offsets may expire: then and only then does the model forget them.
    pub(super) fn forget_expired(&mut self, group: &str, records: &[Record]) {
        let gone: HashSet<&[u8]> = records
            .iter()
            .filter(|r| r.value.is_none())
            .map(|r| &r.key[..])
            .collect();
        self.offsets.retain(|(g, topic, partition), _| {
            g != group || !gone.contains(&offset_key(g, topic, *partition)[..])
        });
    }

    pub(super) fn check_generation(&mut self, record: &Record) {
        if record.key[..2] != [0, 2] {
            return;
        }
        let group = String::from_utf8(record.key[4..].to_vec()).expect("a group id");
        let Some(value) = &record.value else {
            self.stored_generations.remove(&group);
            self.generations.remove(&group);
            self.leaders.retain(|(g, _), _| *g != group);
            return;
        };
        let at = 4 + usize::from(u16::from_be_bytes([value[2], value[3]]));
        let bytes = value[at..at + 4].try_into().expect("four bytes");
        let generation = i32::from_be_bytes(bytes);
        let before = self.stored_generations.insert(group, generation);
        assert!(
            before.is_none_or(|b| b <= generation),
            "stored generations do not decrease"
        );
    }

    pub(super) fn check(&mut self) {
        let groups: Vec<String> = (0..3).map(|g| format!("group-{g}")).collect();
        let fetch = groups.iter().map(|g| FetchGroup {
            group_id: g.clone(),
            topics: None,
        });
        let fetch = FetchOffsets {
            groups: fetch.collect(),
            require_stable: false,
        };
        let replies = self.ask(0, Command::FetchOffsets(fetch));
        let [Response::FetchOffsets(found)] = &replies[..] else {
            panic!("a fetch is answered at once: {replies:?}");
        };
        let mut stored = BTreeMap::new();
        for (group, topic) in found
            .iter()
            .flat_map(|g| g.topics.iter().map(move |t| (g, t)))
        {
            for p in &topic.partitions {
                let key = (group.group_id.clone(), topic.name.clone(), p.partition);
                stored.insert(key, p.offset);
            }
        }
        let expect = self
            .offsets
            .iter()
            .map(|(key, (_, offset))| (key.clone(), *offset));
        let expect: BTreeMap<Partition, i64> = expect.collect();
        assert_eq!(stored, expect, "offsets are what was committed");
        let replies = self.ask(0, Command::DescribeGroups(groups));
        let [Response::DescribeGroups(described)] = &replies[..] else {
            panic!("a description is answered at once: {replies:?}");
        };
        for group in described {
            assert!(group.members.len() <= 6);
            let ids: HashSet<_> = group.members.iter().map(|m| &m.member_id).collect();
            assert_eq!(ids.len(), group.members.len());
            let mut instances = HashSet::new();
            let names = group
                .members
                .iter()
                .filter_map(|m| m.group_instance_id.as_ref());
            assert!(names.into_iter().all(|i| instances.insert(i)));
        }
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = vec![0, 1];
    for text in [group, topic] {
        key.extend((text.len() as i16).to_be_bytes());
        key.extend(text.as_bytes());
    }
    key.extend(partition.to_be_bytes());
    key
}
