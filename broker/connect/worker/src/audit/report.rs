//! What was found, as people read it.

use std::fmt::Write;

use super::chain::ChainReport;
use super::heads::Heads;

/// Names that are shown of each kind; of the others the number.
const NAMES_SHOWN: usize = 10;

#[derive(Default)]
pub struct Report {
    chains: Vec<ChainReport>,
    /// Files among the manifests that are none.
    strange: Vec<String>,
    unnamed: Vec<String>,
    more_unnamed: u64,
}

const COLUMNS: [&str; 11] = [
    "TOPIC",
    "PARTITION",
    "OFFSETS",
    "MANIFESTS",
    "OBJECTS",
    "WRITTEN",
    "FILTERED",
    "DEAD-LETTERED",
    "SKIPPED",
    "NO RECORD",
    "STATE",
];

impl Report {
    pub fn new(strange: Vec<String>) -> Report {
        Report {
            strange,
            ..Report::default()
        }
    }

    pub fn chain(&mut self, chain: ChainReport) {
        self.chains.push(chain);
    }

    /// An object that no manifest names.
    pub fn unnamed(&mut self, name: &str) {
        if self.unnamed.len() < NAMES_SHOWN {
            self.unnamed.push(name.to_owned());
        } else {
            self.more_unnamed += 1;
        }
    }

    pub fn is_damaged(&self) -> bool {
        let broken = self.chains.iter().any(|chain| chain.broken.is_some());
        broken || !self.strange.is_empty() || !self.unnamed.is_empty()
    }

    #[cfg(test)]
    pub fn first_broken(&self) -> Option<&(String, ottla_connect::audit::Fault)> {
        self.chains.iter().find_map(|chain| chain.broken.as_ref())
    }

    /// The last manifest of each chain.
    pub fn heads(&self) -> Heads {
        let mut heads = Heads::default();
        for chain in &self.chains {
            if let (Some(hash), Some(last)) = (&chain.head, chain.proof.manifests.checked_sub(1)) {
                heads.insert(&chain.topic, chain.partition, last, hash);
            }
        }
        heads
    }

    pub fn text(&self) -> String {
        let rows: Vec<_> = self.chains.iter().map(row).collect();
        let mut text = table(&rows);
        for chain in &self.chains {
            if let Some((manifest, fault)) = &chain.broken {
                let (topic, partition) = (&chain.topic, chain.partition);
                line(
                    &mut text,
                    &format!("DAMAGED: {topic}-{partition}: {manifest}: {fault}"),
                );
            }
        }
        for name in self.strange.iter().take(NAMES_SHOWN) {
            line(&mut text, &format!("DAMAGED: {name} is no manifest's name"));
        }
        more(
            &mut text,
            self.strange.len().saturating_sub(NAMES_SHOWN) as u64,
        );
        for name in &self.unnamed {
            let what = format!("DAMAGED: object {name} is in the store, and no manifest names it");
            line(&mut text, &what);
        }
        more(&mut text, self.more_unnamed);
        if self.chains.iter().any(|chain| chain.unchecked_signatures) {
            line(
                &mut text,
                "Signatures were not looked at: no --key was given.",
            );
        }
        line(&mut text, &self.sum());
        text
    }

    fn sum(&self) -> String {
        let total = |of: fn(&ChainReport) -> u64| self.chains.iter().map(of).sum::<u64>();
        let (manifests, objects, bytes) = (
            total(|c| c.proof.manifests),
            total(|c| c.proof.objects),
            total(|c| c.proof.bytes),
        );
        let broken = total(|c| u64::from(c.broken.is_some()));
        let state = match (self.is_damaged(), broken) {
            (false, _) => "Whole".to_owned(),
            (true, broken) => format!("Damaged ({broken} of {} chains broken)", self.chains.len()),
        };
        format!("{state}: {manifests} manifests and {objects} objects with {bytes} bytes hold.")
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn more(text: &mut String, names: u64) {
    if names > 0 {
        line(text, &format!("DAMAGED: so it is with {names} more"));
    }
}

fn row(chain: &ChainReport) -> [String; 11] {
    let proof = &chain.proof;
    let counts = &proof.counts;
    let offsets = match proof.manifests {
        0 => "none".to_owned(),
        _ => format!("{} to {}", proof.first_offset, proof.last_offset),
    };
    let state = if chain.broken.is_some() {
        "BROKEN"
    } else {
        "whole"
    };
    [
        chain.topic.clone(),
        chain.partition.to_string(),
        offsets,
        proof.manifests.to_string(),
        proof.objects.to_string(),
        counts.written.to_string(),
        counts.filtered.to_string(),
        counts.dead_lettered.to_string(),
        counts.skipped.to_string(),
        counts.no_record.to_string(),
        state.to_owned(),
    ]
}

fn table(rows: &[[String; 11]]) -> String {
    let mut widths = COLUMNS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for cells in std::iter::once(COLUMNS.map(str::to_owned)).chain(rows.iter().cloned()) {
        let mut row = String::new();
        for (width, cell) in widths.iter().zip(&cells) {
            let _ = write!(row, "{cell:width$}  ");
        }
        line(&mut text, row.trim_end());
    }
    text
}
