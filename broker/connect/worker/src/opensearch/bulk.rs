//! One bulk request until every item of it has an end.
//!
//! What may pass (429, 5xx, a time-out, a node that is gone) is tried again without changing what the documents
//! become: they carry their ids and versions. Of a request with 200 every item is looked at.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_connect::data::RawRecord;
use ottla_connect::error::{ConnectError, ErrorKind};
use ottla_connect::sink::BadRecord;
use reqwest::Method;
use serde::Deserialize;

use super::client::{Answer, Cluster};
use super::indices::{Indices, Prepared, Target};

/// Only what is looked at comes back.
const PATH: &str =
    "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason,items.*.result";
const TYPE: &str = "application/x-ndjson";
/// Longest pause between two tries.
const PAUSE_LAST: Duration = Duration::from_secs(10);
/// While nothing gets through, the log says so this often.
const SAY_EVERY: u32 = 10;

pub struct Item {
    pub record: Arc<RawRecord>,
    /// Its lines in the batch.
    pub lines: Range<usize>,
    pub target: usize,
    /// Where the order of writes to one document counts.
    pub ordered_id: Option<u64>,
}

#[derive(Default)]
pub struct Batch {
    pub lines: Vec<u8>,
    pub items: Vec<Item>,
    pub targets: Vec<Arc<Target>>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub bad: Vec<BadRecord>,
    /// Documents that were there already, from an earlier try.
    pub duplicates: u64,
    pub written: u64,
}

/// How often and how slowly.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    pub most: u32,
    pub first: Duration,
}

pub struct Bulk {
    pub cluster: Arc<Cluster>,
    pub indices: Arc<Indices>,
    pub retries: Retries,
    pub connector: String,
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<AnswerItem>,
}

/// `{"index": {...}}`, whatever the operation.
#[derive(Deserialize)]
struct AnswerItem {
    #[serde(alias = "index", alias = "delete", alias = "update")]
    create: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
}

/// What one item's status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Written,
    Duplicate,
    Again,
    /// The index has gone; it is made again.
    Gone,
    Bad,
}

/// A try of some items.
enum Tried {
    Answered(Vec<ItemResult>),
    /// All of them, later.
    Later(String),
    /// Too many bytes, or one of them is nothing that the server can read: in smaller requests.
    Smaller(String),
}

fn verdict(item: &ItemResult) -> Verdict {
    let kind = item.error.as_ref().map_or("", |e| e.kind.as_str());
    match item.status {
        200..300 => Verdict::Written,
        // Of an index's operation with our version, and of creating an id of ours. An update collides
        // with another writer.
        409 if kind == "version_conflict_engine_exception" => Verdict::Duplicate,
        404 if kind == "index_not_found_exception" => Verdict::Gone,
        // A document to delete is not there; the delete is done.
        404 if kind.is_empty() => Verdict::Written,
        // A block of the index, which somebody will lift, or the disk's flood stage.
        403 if kind == "cluster_block_exception" => Verdict::Again,
        409 | 429 | 500.. => Verdict::Again,
        _ => Verdict::Bad,
    }
}

fn fatal(message: String) -> ConnectError {
    ConnectError::new(ErrorKind::Connect, message)
}

/// Pauses between tries: doubled, with a random part.
struct Pauses {
    retries: Retries,
    failed: u32,
}

impl Pauses {
    async fn wait(&mut self, connector: &str, why: &str) -> Result<(), ConnectError> {
        if self.failed >= self.retries.most {
            let most = self.retries.most;
            return Err(fatal(format!("max.retries ({most}) is reached: {why}")));
        }
        if self.failed % SAY_EVERY == 1 {
            tracing::warn!("{connector}: bulk request, to be tried again: {why}");
        }
        let doubled = self.retries.first * (1 << self.failed.min(16));
        self.failed = self.failed.saturating_add(1);
        let most = doubled.min(PAUSE_LAST);
        tokio::time::sleep(most.mul_f64(rand::random_range(0.5..=1.0))).await;
        Ok(())
    }
}

impl Bulk {
    /// Writes the batch, however long it takes.
    pub async fn write(&self, batch: Batch) -> Result<Outcome, ConnectError> {
        let mut outcome = Outcome::default();
        let mut pauses = Pauses {
            retries: self.retries,
            failed: 0,
        };
        let mut left: Vec<usize> = (0..batch.items.len()).collect();
        // Smaller requests after one that was refused as a whole.
        let mut most = left.len();
        while !left.is_empty() {
            let refused = self.prepare(&batch, &left, &mut pauses).await?;
            left.retain(
                |i| match refused.iter().find(|(t, _)| *t == batch.items[*i].target) {
                    Some((_, why)) => {
                        outcome.bad.push(bad(&batch.items[*i], why.clone()));
                        false
                    }
                    None => true,
                },
            );
            let now: Vec<usize> = left.iter().copied().take(most.max(1)).collect();
            if now.is_empty() {
                break;
            }
            match self.try_once(&batch, &now).await? {
                Tried::Answered(results) => {
                    let (again, why) = self.look(&batch, &now, &results, &mut outcome);
                    let later: Vec<usize> = left[now.len()..].to_vec();
                    let failed = again.len();
                    left = again;
                    left.extend(later);
                    if failed > 0 {
                        pauses.wait(&self.connector, &why).await?;
                    } else {
                        pauses.failed = 0;
                    }
                }
                Tried::Later(why) => pauses.wait(&self.connector, &why).await?,
                Tried::Smaller(why) if now.len() == 1 => {
                    outcome.bad.push(bad(&batch.items[now[0]], why));
                    left.remove(0);
                }
                Tried::Smaller(_) => most = now.len().div_ceil(2),
            }
        }
        Ok(outcome)
    }

    /// Sees to the indexes of these items. Those that the server refuses, and why.
    async fn prepare(
        &self,
        batch: &Batch,
        items: &[usize],
        pauses: &mut Pauses,
    ) -> Result<Vec<(usize, String)>, ConnectError> {
        let wanted: HashSet<usize> = items.iter().map(|i| batch.items[*i].target).collect();
        let mut refused = Vec::new();
        for target in wanted {
            loop {
                match self
                    .indices
                    .prepare(&self.cluster, &batch.targets[target])
                    .await
                {
                    Prepared::Ready => break,
                    Prepared::Refused(why) => {
                        refused.push((target, why));
                        break;
                    }
                    Prepared::Later(why) => pauses.wait(&self.connector, &why).await?,
                    Prepared::Never(why) => return Err(fatal(why)),
                }
            }
        }
        Ok(refused)
    }

    async fn try_once(&self, batch: &Batch, items: &[usize]) -> Result<Tried, ConnectError> {
        let bytes = items.iter().map(|i| batch.items[*i].lines.len()).sum();
        let mut body = Vec::with_capacity(bytes);
        for i in items {
            body.extend_from_slice(&batch.lines[batch.items[*i].lines.clone()]);
        }
        let body = Bytes::from(body);
        let answer = match self.cluster.send(Method::POST, PATH, TYPE, body).await {
            Ok(answer) => answer,
            Err(unanswered) => return Ok(Tried::Later(unanswered.to_string())),
        };
        match answer.status {
            200 => Ok(read(&answer, items.len())),
            400 | 413 => Ok(Tried::Smaller(answer.reason())),
            408 | 429 | 500.. => Ok(Tried::Later(answer.reason())),
            _ => Err(fatal(format!("bulk request: {}", answer.reason()))),
        }
    }

    /// Notes what became of each item. Those to be tried again, and why.
    fn look(
        &self,
        batch: &Batch,
        items: &[usize],
        results: &[ItemResult],
        outcome: &mut Outcome,
    ) -> (Vec<usize>, String) {
        let mut again = Vec::new();
        let mut why = String::new();
        // An older change must not come after a newer one: what follows it is written again too.
        let mut reordered = HashSet::new();
        for (i, result) in items.iter().zip(results) {
            let item = &batch.items[*i];
            let repeat = item.ordered_id.is_some_and(|id| reordered.contains(&id));
            let mut found = verdict(result);
            if found == Verdict::Duplicate && item.ordered_id.is_some() {
                found = Verdict::Again;
            }
            match found {
                Verdict::Bad => outcome.bad.push(bad(item, reason(result))),
                Verdict::Again | Verdict::Gone => {
                    if found == Verdict::Gone {
                        self.indices.forget(&batch.targets[item.target]);
                    }
                    why = reason(result);
                    reordered.extend(item.ordered_id);
                    again.push(*i);
                }
                _ if repeat => again.push(*i),
                Verdict::Duplicate => outcome.duplicates += 1,
                Verdict::Written => outcome.written += 1,
            }
        }
        (again, why)
    }
}

fn read(answer: &Answer, items: usize) -> Tried {
    match serde_json::from_slice::<BulkAnswer>(&answer.body) {
        Ok(parsed) if parsed.items.len() == items => {
            Tried::Answered(parsed.items.into_iter().map(|i| i.create).collect())
        }
        Ok(parsed) => Tried::Later(format!(
            "the answer has {} items, the request {items}",
            parsed.items.len()
        )),
        Err(error) => Tried::Later(format!("the answer cannot be read: {error}")),
    }
}

fn reason(result: &ItemResult) -> String {
    let text = result.error.as_ref().map_or(String::new(), |e| {
        format!("{}: {}", e.kind, e.reason.as_deref().unwrap_or_default())
    });
    format!("status {} {text}", result.status)
}

fn bad(item: &Item, why: String) -> BadRecord {
    BadRecord {
        record: item.record.clone(),
        error: ConnectError::data(format!("the document was refused: {why}")),
    }
}
