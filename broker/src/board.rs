//! Counts of requests and topics, which `/metrics` writes out when somebody asks. On the hot path: an
//! addition each. A topic's counts go with the topic.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use ottla_proto::ids::NodeId;
use ottla_proto::metadata::Group;

use crate::api::APIS;
use crate::lag::Lags;
use crate::metadata::Metadata;
use crate::quantiles::Quantiles;
use crate::topics::Topics;

/// Kafka's error codes begin at -1. What is above them counts as the highest.
const ERROR_CODES: usize = 160;

/// As Kafka's exporters name them.
const QUANTILES: [(&str, f64); 4] = [
    ("0.5", 0.5),
    ("0.95", 0.95),
    ("0.99", 0.99),
    ("0.999", 0.999),
];

/// Of one API.
pub struct RequestCounts {
    requests: AtomicU64,
    answers: AtomicU64,
    total_micros: AtomicU64,
    recent: Quantiles,
    errors: [AtomicU64; ERROR_CODES],
}

impl RequestCounts {
    pub const fn new() -> RequestCounts {
        RequestCounts {
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            total_micros: AtomicU64::new(0),
            recent: Quantiles::new(),
            errors: [const { AtomicU64::new(0) }; ERROR_CODES],
        }
    }

    pub fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// From the last byte of a request to the last of its answer.
    pub fn answered(&self, took: Duration) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        self.total_micros.fetch_add(micros, Ordering::Relaxed);
        self.recent.record(took);
    }

    /// One partition's error code, if it is one.
    pub fn outcome(&self, error_code: i16) {
        if error_code != 0 {
            let at = usize::try_from(error_code.saturating_add(1)).unwrap_or(0);
            self.errors[at.min(ERROR_CODES - 1)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn errors(&self) -> impl Iterator<Item = (i16, u64)> {
        let counts = self.errors.iter().map(|n| n.load(Ordering::Relaxed));
        (-1..).zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Of one topic, or of all.
#[derive(Default)]
pub struct TopicCounts {
    bytes_in: AtomicU64,
    messages_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl TopicCounts {
    pub fn add_in(&self, bytes: usize, messages: i32) {
        let messages = u64::try_from(messages).unwrap_or(0);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages_in.fetch_add(messages, Ordering::Relaxed);
    }

    pub fn add_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What there is to write out.
pub struct Board {
    pub topics: Arc<Topics>,
    pub metadata: Arc<Metadata>,
    pub lags: Arc<Lags>,
}

impl Board {
    /// In Prometheus' text format.
    pub fn write(&self, text: &mut String) {
        write_requests(text);
        self.write_traffic(text);
        self.write_partitions(text);
        self.lags.write(text);
    }

    /// Groups in which this broker's replica is not in sync, as their leaders told the controller. A
    /// replica that a move adds counts once the move is done.
    pub fn replicas_behind(&self) -> usize {
        let me = self.metadata.node_id();
        let image = self.metadata.current();
        image.groups().filter(|g| is_behind(g, me)).count()
    }

    fn write_traffic(&self, text: &mut String) {
        type Count = fn(&TopicCounts) -> &AtomicU64;
        let families: [(&str, Count); 3] = [
            ("bytesin", |counts| &counts.bytes_in),
            ("bytesout", |counts| &counts.bytes_out),
            ("messagesin", |counts| &counts.messages_in),
        ];
        let topics = self.topics.all();
        for (family, count) in families {
            let name = format!("kafka_server_brokertopicmetrics_{family}_total");
            let value = |counts| count(counts).load(Ordering::Relaxed);
            begin(text, &name, "counter");
            let _ = writeln!(text, "{name} {}", value(&self.topics.counts));
            for topic in &topics {
                let of_topic = value(&topic.counts);
                if of_topic > 0 {
                    let topic = &topic.topic.name;
                    let _ = writeln!(text, "{name}{{topic=\"{topic}\"}} {of_topic}");
                }
            }
        }
    }

    fn write_partitions(&self, text: &mut String) {
        let image = self.metadata.current();
        let topics = self.topics.all();
        let lives = |id: &NodeId| image.live_broker(*id).is_some();
        let follows = |group: &Group, id: &NodeId| group.in_sync.contains(id) && lives(id);
        let is_whole = |id| {
            let group = image.group(id);
            group.is_some_and(|g| match g.is_moving() {
                false => g.members.len() == 1 || g.members.iter().all(|id| follows(g, id)),
                // As many as it had before, or is to have.
                true => {
                    let wanted = [&g.members, &g.former].into_iter().map(|ids| ids.len());
                    let wanted = wanted.filter(|len| *len > 0).min().unwrap_or(1);
                    g.in_sync.iter().filter(|id| lives(id)).count() >= wanted
                }
            })
        };
        let (mut led, mut offline, mut under_replicated) = (0, 0, 0);
        for topic in &topics {
            for (_, replica) in topic.replicas().filter(|(_, r)| r.lead(-1).is_ok()) {
                led += 1;
                under_replicated += usize::from(!is_whole(replica.partition.group));
            }
            // What is led here may not have been told yet.
            let is_led = |index, group| {
                let led = || topic.replica(index).is_ok_and(|r| r.lead(-1).is_ok());
                image.group(group).is_some_and(|g| g.leader.is_some()) || led()
            };
            let partitions = (0..).zip(&topic.topic.partitions);
            offline += partitions
                .filter(|(index, p)| !is_led(*index, p.group))
                .count();
        }
        let gauges = [
            (
                "kafka_controller_kafkacontroller_activecontrollercount",
                usize::from(self.metadata.is_leader()),
            ),
            (
                "kafka_controller_kafkacontroller_offlinepartitionscount",
                offline,
            ),
            ("kafka_server_replicamanager_leadercount", led),
            (
                "kafka_server_replicamanager_underreplicatedpartitions",
                under_replicated,
            ),
        ];
        for (name, value) in gauges {
            begin(text, name, "gauge");
            let _ = writeln!(text, "{name} {value}");
        }
    }
}

fn is_behind(group: &Group, me: NodeId) -> bool {
    // A group that is new has no leader that could tell.
    let is_told = !group.in_sync.is_empty();
    let stays = group.members.contains(&me) && group.adding().all(|id| id != me);
    is_told && stays && !group.in_sync.contains(&me)
}

/// Says of what kind the values that follow are.
pub(crate) fn begin(text: &mut String, name: &str, kind: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

fn write_requests(text: &mut String) {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let seen: Vec<_> = APIS
        .iter()
        .filter(|api| load(&api.counts.requests) > 0)
        .collect();
    let mut family = |name: &str, value: &dyn Fn(&RequestCounts) -> f64| {
        let name = format!("kafka_network_requestmetrics_{name}");
        begin(text, &name, "counter");
        for api in &seen {
            let value = value(&api.counts);
            let _ = writeln!(text, "{name}{{request=\"{}\"}} {value}", api.name);
        }
    };
    family("requests_total", &|c| load(&c.requests) as f64);
    family("totaltimems_count", &|c| load(&c.answers) as f64);
    family("totaltimems_sum", &|c| load(&c.total_micros) as f64 / 1e3);
    let name = "kafka_network_requestmetrics_totaltimems";
    begin(text, name, "gauge");
    for api in &seen {
        let times = api.counts.recent.millis(QUANTILES.map(|(_, share)| share));
        for ((label, _), ms) in QUANTILES.iter().zip(times.iter().flatten()) {
            let api = api.name;
            let _ = writeln!(
                text,
                "{name}{{request=\"{api}\",quantile=\"{label}\"}} {ms}"
            );
        }
    }
    let name = "kafka_network_requestmetrics_errors_total";
    begin(text, name, "counter");
    for api in &seen {
        for (code, count) in api.counts.errors() {
            let (api, error) = (api.name, error_name(code));
            let _ = writeln!(
                text,
                "{name}{{error=\"{error}\",request=\"{api}\"}} {count}"
            );
        }
    }
    for (what, api) in [("produce", "Produce"), ("fetch", "Fetch")] {
        let name = format!("kafka_server_brokertopicmetrics_failed{what}requests_total");
        let of_api = APIS.iter().filter(|a| a.name == api);
        let failed: u64 = of_api.flat_map(|a| a.counts.errors()).map(|(_, n)| n).sum();
        begin(text, &name, "counter");
        let _ = writeln!(text, "{name} {failed}");
    }
}

/// As Kafka writes it: `NOT_LEADER_OR_FOLLOWER`.
fn error_name(code: i16) -> String {
    let error = match ResponseError::try_from_code(code) {
        None | Some(ResponseError::Unknown(_)) => return code.to_string(),
        Some(error) => error,
    };
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        match letter {
            letter if letter.is_uppercase() && !name.is_empty() => name.push('_'),
            _ => {}
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use ottla_proto::ids::GroupId;

    use super::*;

    #[test]
    fn errors_have_kafkas_names() {
        assert_eq!(error_name(6), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(error_name(-1), "UNKNOWN_SERVER_ERROR");
        assert_eq!(error_name(158), "158");
    }

    #[test]
    fn who_is_behind() {
        let group = |members: &[NodeId], former: &[NodeId], in_sync: &[NodeId]| Group {
            id: GroupId(3),
            members: members.into(),
            former: former.into(),
            leaving: [].into(),
            founders: [].into(),
            leader: in_sync.first().copied(),
            leader_epoch: 1,
            in_sync: in_sync.into(),
            partitions: 1,
            by_hand: false,
        };
        for (case, group, expected) in [
            ("in sync", group(&[1, 2, 3], &[], &[1, 2, 3]), false),
            ("left behind", group(&[1, 2, 3], &[], &[2, 3]), true),
            ("no member", group(&[2, 3, 4], &[], &[2, 3]), false),
            ("nobody has said yet", group(&[1, 2, 3], &[], &[]), false),
            ("being added", group(&[1, 2, 3], &[2, 3, 4], &[2, 3]), false),
            ("stays in a move", group(&[1, 2, 5], &[1, 2, 3], &[2]), true),
        ] {
            assert_eq!(is_behind(&group, 1), expected, "{case}");
        }
    }

    #[test]
    fn every_code_has_a_place() {
        let counts = RequestCounts::new();
        for code in [0, -1, 3, 3, i16::MAX, i16::MIN] {
            counts.outcome(code.max(-2));
        }
        let seen: Vec<_> = counts.errors().collect();
        assert_eq!(seen, [(-1, 2), (3, 2), (ERROR_CODES as i16 - 2, 1)]);
    }
}
