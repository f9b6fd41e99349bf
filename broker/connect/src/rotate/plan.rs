//! Plans, and how they are written into the metadata of committed offsets.
//!
//! `ottla1:` and base64 (URL alphabet, no padding) of:
//!
//! | field | form |
//! | --- | --- |
//! | flags | u8: 1 = there is a cut, 2 = there is a chain of manifests |
//! | settled | varint: offset after the last one whose dead letter is acknowledged, less the floor |
//! | cut | varint, if flagged: last offset of the cut, less the floor |
//! | number of written outputs | varint |
//! | each: output | 10 bytes of its hash |
//! | last | varint: last offset that is written, less the floor |
//! | number of planned objects | varint |
//! | each: output | 10 bytes of its hash |
//! | first, length | varints: first offset less the floor, last less first |
//! | name | varint of its length, and the output itself where it cannot be computed again |
//! | chain | if flagged, varint: number of the next manifest; from 1 on: 32 bytes of the last one's SHA-256 |
//! | counts | if there is a chain and a cut, varints: written, filtered, dead-lettered, skipped, no record |
//!
//! With a chain no outputs are written and no objects planned but by the cut.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::ledger::Chain;
use crate::audit::{Counts, Link};

/// Kafka's `offset.metadata.max.bytes`, by default.
pub const MAX_METADATA_BYTES: usize = 4096;
const PREFIX: &str = "ottla1:";
/// What fits below that, after base64.
const MAX_PLAN_BYTES: usize = (MAX_METADATA_BYTES - PREFIX.len()) / 4 * 3;
/// Room for what may grow without another object: settled, the cut, and the numbers of entries.
const RESERVED_BYTES: usize = 32;
const KEY_BYTES: usize = 10;
const HAS_CUT: u8 = 1;
const HAS_CHAIN: u8 = 2;

/// The hash of an output and its schema: 80 bits, so that a chance collision of a million is 10^-12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputKey([u8; KEY_BYTES]);

impl OutputKey {
    pub fn of(output: &str, schema: u64) -> OutputKey {
        let mut hash = Sha256::new();
        hash.update(schema.to_be_bytes());
        hash.update(output.as_bytes());
        let hash = hash.finalize();
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&hash[..KEY_BYTES]);
        OutputKey(key)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedObject {
    pub output: OutputKey,
    pub first: i64,
    pub last: i64,
    /// The output, where the same records may get another one the next time.
    pub name: Option<String>,
}

/// What is promised about a topic-partition above its committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Offsets below it have had their dead letters sent.
    pub settled: i64,
    pub cut: Option<i64>,
    pub written: Vec<(OutputKey, i64)>,
    pub planned: Vec<PlannedObject>,
    pub chain: Option<Chain>,
}

/// What to commit for a topic-partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub offset: i64,
    pub metadata: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the offset's metadata is of a newer version: {0:.20}")]
    Newer(String),
    #[error("the offset's metadata is damaged")]
    Damaged,
}

impl Plan {
    /// Whether nothing above the floor is written or planned.
    pub(super) fn is_empty(&self) -> bool {
        self.cut.is_none() && self.written.is_empty() && self.planned.is_empty()
    }

    /// Whether the metadata of this plan is small enough.
    pub(super) fn fits(&self, floor: i64) -> bool {
        self.bytes(floor).len() + RESERVED_BYTES <= MAX_PLAN_BYTES
    }

    pub fn encode(&self, floor: i64) -> Commit {
        let empty = self.is_empty() && self.chain.is_none();
        let metadata = if empty && self.settled <= floor {
            String::new()
        } else {
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.bytes(floor)))
        };
        assert!(metadata.len() <= MAX_METADATA_BYTES, "plans are kept small");
        Commit {
            offset: floor,
            metadata,
        }
    }

    fn bytes(&self, floor: i64) -> Vec<u8> {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let cut = flag(self.cut.is_some(), HAS_CUT);
        let mut out = vec![cut | flag(self.chain.is_some(), HAS_CHAIN)];
        varint((self.settled - floor).max(0) as u64, &mut out);
        if let Some(cut) = self.cut {
            varint((cut - floor).max(0) as u64, &mut out);
        }
        varint(self.written.len() as u64, &mut out);
        for (output, last) in &self.written {
            out.extend_from_slice(&output.0);
            varint((last - floor) as u64, &mut out);
        }
        varint(self.planned.len() as u64, &mut out);
        for object in &self.planned {
            out.extend_from_slice(&object.output.0);
            varint((object.first - floor) as u64, &mut out);
            varint((object.last - object.first) as u64, &mut out);
            let name = object.name.as_deref().unwrap_or("");
            varint(name.len() as u64, &mut out);
            out.extend_from_slice(name.as_bytes());
        }
        if let Some(chain) = &self.chain {
            varint(chain.link.sequence, &mut out);
            out.extend_from_slice(chain.link.previous.as_ref().map_or(&[], |h| &h[..]));
            for count in chain.counts.iter().flat_map(counts_in_order) {
                varint(count, &mut out);
            }
        }
        out
    }

    /// Reads what is committed. Metadata that is not of this program means no plan: somebody has reset
    /// the offsets.
    pub fn decode(offset: i64, metadata: &str) -> Result<Plan, PlanError> {
        let Some(text) = metadata.strip_prefix(PREFIX) else {
            if metadata.starts_with("ottla") {
                return Err(PlanError::Newer(metadata.to_owned()));
            }
            return Ok(Plan {
                settled: offset,
                ..Plan::default()
            });
        };
        if text.len() > MAX_METADATA_BYTES * 16 {
            return Err(PlanError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| PlanError::Damaged)?;
        let mut reader = Reader(&bytes);
        let plan = reader.plan(offset).ok_or(PlanError::Damaged)?;
        if reader.0.is_empty() {
            Ok(plan)
        } else {
            Err(PlanError::Damaged)
        }
    }
}

fn counts_in_order(counts: &Counts) -> [u64; 5] {
    [
        counts.written,
        counts.filtered,
        counts.dead_lettered,
        counts.skipped,
        counts.no_record,
    ]
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn plan(&mut self, floor: i64) -> Option<Plan> {
        let flags = self.take(1)?[0];
        if flags & !(HAS_CUT | HAS_CHAIN) != 0 {
            return None;
        }
        let settled = self.offset(floor)?;
        let cut = if flags & HAS_CUT != 0 {
            Some(self.offset(floor)?)
        } else {
            None
        };
        // Each entry has more than ten bytes, so the bytes bound the numbers.
        let mut written = Vec::new();
        for _ in 0..self.varint()? {
            written.push((self.key()?, self.offset(floor)?));
        }
        let mut planned = Vec::new();
        for _ in 0..self.varint()? {
            let output = self.key()?;
            let first = self.offset(floor)?;
            let last = self.offset(first)?;
            let length = usize::try_from(self.varint()?).ok()?;
            let name = std::str::from_utf8(self.take(length)?).ok()?;
            planned.push(PlannedObject {
                output,
                first,
                last,
                name: (!name.is_empty()).then(|| name.to_owned()),
            });
        }
        let chain = if flags & HAS_CHAIN != 0 {
            Some(self.chain(cut.is_some())?)
        } else {
            None
        };
        if chain.is_some() && !(written.is_empty() && planned.is_empty()) {
            return None;
        }
        Some(Plan {
            settled,
            cut,
            written,
            planned,
            chain,
        })
    }

    fn chain(&mut self, has_cut: bool) -> Option<Chain> {
        let sequence = self.varint()?;
        let previous = if sequence > 0 {
            Some(self.take(32)?.try_into().ok()?)
        } else {
            None
        };
        let counts = if has_cut {
            Some(Counts {
                written: self.varint()?,
                filtered: self.varint()?,
                dead_lettered: self.varint()?,
                skipped: self.varint()?,
                no_record: self.varint()?,
            })
        } else {
            None
        };
        Some(Chain {
            link: Link { sequence, previous },
            counts,
        })
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn key(&mut self) -> Option<OutputKey> {
        self.take(KEY_BYTES)?.try_into().ok().map(OutputKey)
    }

    fn offset(&mut self, base: i64) -> Option<i64> {
        base.checked_add(i64::try_from(self.varint()?).ok()?)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
