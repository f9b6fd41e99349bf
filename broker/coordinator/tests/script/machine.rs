//! A shard with a clock and a log in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_coordinator::{Decision, GroupConfig, Record, ReplayError, Shard, Token};
use uuid::Uuid;

use super::parse::{Words, command};
use super::render;

/// What the log holds.
enum Entry {
    Plain(Record),
    Transactional(i64, Record),
    Marker { producer_id: i64, committed: bool },
}

pub struct Machine {
    shard: Shard,
    config: GroupConfig,
    log: Vec<Entry>,
    now_ms: i64,
    token: Token,
    ids: Arc<AtomicU64>,
}

impl Machine {
    pub fn new() -> Machine {
        let config = GroupConfig::default();
        let ids = Arc::new(AtomicU64::new(0));
        Machine {
            shard: shard(&config, &ids),
            config,
            log: Vec::new(),
            now_ms: 0,
            token: 0,
            ids,
        }
    }

    /// Carries out one line.
    pub fn run(&mut self, line: &str) -> String {
        let mut words = Words::new(line);
        let output = match words.verb() {
            "config" => {
                words.configure(&mut self.config);
                assert!(self.log.is_empty(), "configure first: {line}");
                self.shard = shard(&self.config, &self.ids);
                String::new()
            }
            "advance" => self.advance(words.number()),
            "crash" => self.crash(),
            "load" => {
                self.log.push(Entry::Plain(words.raw_record()));
                self.crash()
            }
            "end-transaction" => {
                let producer_id = words.number();
                let committed = words.plain() == "commit";
                self.shard
                    .end_transaction(self.now_ms, producer_id, committed);
                let marker = Entry::Marker {
                    producer_id,
                    committed,
                };
                self.log.push(marker);
                String::new()
            }
            "deadline" => format!("{:?}\n", self.shard.next_deadline_ms()),
            "snapshot" => self.shard.snapshot().iter().map(render::record).collect(),
            _ => {
                self.token += 1;
                let command = command(&mut words);
                let decision = self.shard.handle(self.now_ms, self.token, command);
                self.take(decision)
            }
        };
        words.end();
        self.check_replay();
        let trimmed = output.lines().map(|l| format!("{}\n", l.trim_end()));
        let output: String = trimmed.collect();
        let ids = self.ids.load(Ordering::Relaxed);
        (1..=ids).fold(output, |text, id| {
            text.replace(&Uuid::from_u128(id.into()).to_string(), &id.to_string())
        })
    }

    fn take(&mut self, decision: Decision) -> String {
        let text = render::decision(&decision);
        let producer = decision.producer;
        let entry = |record| match producer {
            Some(producer) => Entry::Transactional(producer.id, record),
            None => Entry::Plain(record),
        };
        self.log.extend(decision.records.into_iter().map(entry));
        text
    }

    /// Lets time pass from deadline to deadline.
    fn advance(&mut self, by_ms: i64) -> String {
        let until_ms = self.now_ms + by_ms;
        let mut out = String::new();
        while let Some(at_ms) = self.shard.next_deadline_ms().filter(|&at| at <= until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            let decision = self.shard.tick(self.now_ms);
            let text = self.take(decision);
            if !text.is_empty() {
                out.push_str(&format!("[{} ms]\n{text}", self.now_ms));
            }
        }
        self.now_ms = until_ms;
        out
    }

    /// Loses what waits and loads again from the log.
    fn crash(&mut self) -> String {
        self.shard = shard(&self.config, &self.ids);
        let errors = replay(&mut self.shard, self.now_ms, &self.log);
        let out = errors.iter().map(|e| format!("replay: {e}\n")).collect();
        self.shard.loaded(self.now_ms);
        out
    }

    /// The log alone always says what the shard holds durably.
    fn check_replay(&self) {
        let mut copy = shard(&self.config, &self.ids);
        replay(&mut copy, self.now_ms, &self.log);
        assert_eq!(copy.snapshot(), self.shard.snapshot());
    }
}

fn replay(shard: &mut Shard, now_ms: i64, log: &[Entry]) -> Vec<ReplayError> {
    let replay = |entry: &Entry| match entry {
        Entry::Plain(r) => shard.replay(now_ms, &r.key, r.value.as_deref()).err(),
        Entry::Transactional(producer_id, r) => {
            let value = r.value.as_deref();
            let replayed = shard.replay_transactional(now_ms, *producer_id, &r.key, value);
            replayed.err()
        }
        Entry::Marker {
            producer_id,
            committed,
        } => {
            shard.end_transaction(now_ms, *producer_id, *committed);
            None
        }
    };
    log.iter().filter_map(replay).collect()
}

fn shard(config: &GroupConfig, ids: &Arc<AtomicU64>) -> Shard {
    let ids = ids.clone();
    let next = move || Uuid::from_u128((ids.fetch_add(1, Ordering::Relaxed) + 1).into());
    Shard::with_ids(config.clone(), Box::new(next))
}
