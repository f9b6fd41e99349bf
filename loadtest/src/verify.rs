//! Compares what is read with what was acknowledged: every batch's CRC-32C, every record's own
//! checksum, dense offsets, and for every connection and partition each sequence once and in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::batch::Stamp;
use crate::client::fetch::BatchView;

/// What one producing connection sent. It sends round robin: send `n` goes to partition
/// `partitions[n % P]` with sequence `n / P`.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub connection: u32,
    pub partitions: Vec<u32>,
    /// How many batches were sent in all.
    pub sent: u64,
    /// The sends that were not acknowledged: they may be in the log or not.
    pub unacknowledged: BTreeSet<u64>,
}

impl Ledger {
    pub fn partition_of(&self, send: u64) -> u32 {
        self.partitions[(send % self.partitions.len() as u64) as usize]
    }

    pub fn sequence_of(&self, send: u64) -> u64 {
        send / self.partitions.len() as u64
    }

    pub fn acknowledged(&self) -> u64 {
        self.sent - self.unacknowledged.len() as u64
    }

    fn send_of(&self, partition: u32, sequence: u64) -> Option<u64> {
        let index = self.partitions.iter().position(|p| *p == partition)? as u64;
        sequence
            .checked_mul(self.partitions.len() as u64)?
            .checked_add(index)
    }

    fn was_sent(&self, partition: u32, sequence: u64) -> bool {
        self.send_of(partition, sequence)
            .is_some_and(|send| send < self.sent)
    }

    fn was_acknowledged(&self, partition: u32, sequence: u64) -> bool {
        let send = self.send_of(partition, sequence);
        send.is_some_and(|send| send < self.sent && !self.unacknowledged.contains(&send))
    }
}

/// What reading found; all but the first four and `missing_batches` must be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub batches: u64,
    pub records: u64,
    /// Bytes of record values.
    pub bytes: u64,
    /// Batches that the run (or, without a run, any run of the harness) did not write.
    pub foreign_batches: u64,
    /// Sequences between others that were not found; not an error if they were never acknowledged.
    pub missing_batches: u64,
    pub lost_batches: u64,
    pub duplicate_batches: u64,
    pub reordered_batches: u64,
    pub corrupt_batches: u64,
    pub corrupt_records: u64,
    pub misplaced_batches: u64,
    pub offset_gaps: u64,
}

impl Findings {
    pub fn add(&mut self, other: &Findings) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.foreign_batches += other.foreign_batches;
        self.missing_batches += other.missing_batches;
        self.lost_batches += other.lost_batches;
        self.duplicate_batches += other.duplicate_batches;
        self.reordered_batches += other.reordered_batches;
        self.corrupt_batches += other.corrupt_batches;
        self.corrupt_records += other.corrupt_records;
        self.misplaced_batches += other.misplaced_batches;
        self.offset_gaps += other.offset_gaps;
    }

    /// What is wrong, in words; `None` if nothing is.
    pub fn problem(&self) -> Option<String> {
        let problems = [
            (self.lost_batches, "acknowledged batches are lost"),
            (self.duplicate_batches, "batches are there twice"),
            (self.reordered_batches, "batches are out of order"),
            (
                self.corrupt_batches,
                "batches have a wrong CRC or cannot be read",
            ),
            (self.corrupt_records, "records have a wrong checksum"),
            (
                self.misplaced_batches,
                "batches are where they were not sent to",
            ),
            (
                self.offset_gaps,
                "times an offset is not the one after its predecessor",
            ),
        ];
        let words: Vec<String> = problems
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The run that is verified: batches of other runs are foreign.
#[derive(Clone, Debug)]
pub struct Expected {
    pub run_id: u64,
    /// By connection.
    pub ledgers: HashMap<u32, Ledger>,
}

impl Expected {
    pub fn new(run_id: u64, ledgers: &[Ledger]) -> Self {
        let ledgers = ledgers
            .iter()
            .map(|ledger| (ledger.connection, ledger.clone()))
            .collect();
        Expected { run_id, ledgers }
    }
}

/// How far one connection's batches were seen in one partition.
#[derive(Default)]
struct Progress {
    next: u64,
    /// Sequences passed over, as from -> until.
    missing: BTreeMap<u64, u64>,
}

enum Arrival {
    InOrder,
    Late,
    Duplicate,
}

impl Progress {
    fn arrive(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            if sequence > self.next {
                self.missing.insert(self.next, sequence);
            }
            self.next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        let Some((&from, &until)) = self.missing.range(..=sequence).next_back() else {
            return Arrival::Duplicate;
        };
        if sequence >= until {
            return Arrival::Duplicate;
        }
        self.missing.remove(&from);
        for (from, until) in [(from, sequence), (sequence + 1, until)] {
            if from < until {
                self.missing.insert(from, until);
            }
        }
        Arrival::Late
    }

    fn missing_count(&self) -> u64 {
        self.missing
            .iter()
            .fold(0, |sum, (from, until)| sum.saturating_add(until - from))
    }
}

/// Reads one partition's batches in order of offsets.
pub struct PartitionVerifier {
    partition: u32,
    next_offset: i64,
    /// Without it, sequences are followed from the first one seen.
    run_id: Option<u64>,
    progress: HashMap<(u64, u32), Progress>,
    pub findings: Findings,
}

impl PartitionVerifier {
    pub fn new(partition: u32, first_offset: i64, run_id: Option<u64>) -> Self {
        PartitionVerifier {
            partition,
            next_offset: first_offset,
            run_id,
            progress: HashMap::new(),
            findings: Findings::default(),
        }
    }

    /// Where the next fetch begins.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Counts a batch; with `check`, examines it.
    pub fn batch(&mut self, batch: &BatchView<'_>, check: bool) {
        let last = batch.last_offset.max(self.next_offset);
        if check && batch.base_offset != self.next_offset {
            self.findings.offset_gaps += 1;
        }
        self.next_offset = last.saturating_add(1);
        if batch.control {
            return;
        }
        self.findings.batches += 1;
        self.findings.records += u64::try_from(batch.records_count).unwrap_or(0);
        if check && !batch.intact() {
            self.findings.corrupt_batches += 1;
        } else if batch.compressed {
            self.findings.foreign_batches += 1;
        } else if check {
            self.check_records(batch);
        } else if batch
            .values(|value| self.findings.bytes += value.len() as u64)
            .is_err()
        {
            self.findings.corrupt_batches += 1;
        }
    }

    fn check_records(&mut self, batch: &BatchView<'_>) {
        let mut first: Option<Stamp> = None;
        let (mut index, mut foreign, mut bytes, mut corrupt) = (0u32, false, 0u64, 0u64);
        let read = batch.values(|value| {
            bytes += value.len() as u64;
            match Stamp::read(value) {
                None => foreign = true,
                Some(stamp) => {
                    let first = *first.get_or_insert(stamp);
                    let belongs = (stamp.run_id, stamp.slot, stamp.index)
                        == (first.run_id, first.slot, index);
                    corrupt += u64::from(!stamp.intact || !belongs);
                }
            }
            index += 1;
        });
        self.findings.bytes += bytes;
        let Some(first) = first.filter(|_| !foreign) else {
            self.findings.foreign_batches += 1;
            return;
        };
        if self.run_id.is_some_and(|run_id| run_id != first.run_id) {
            self.findings.foreign_batches += 1;
            return;
        }
        if read.is_err()
            || i64::from(batch.records_count) != batch.last_offset - batch.base_offset + 1
        {
            self.findings.corrupt_batches += 1;
            return;
        }
        self.findings.corrupt_records += corrupt;
        self.follow(&first);
    }

    fn follow(&mut self, first: &Stamp) {
        if first.identity.partition != self.partition {
            self.findings.misplaced_batches += 1;
            return;
        }
        let sequence = first.identity.sequence;
        let start = if self.run_id.is_some() { 0 } else { sequence };
        let progress = self
            .progress
            .entry((first.run_id, first.identity.connection))
            .or_insert_with(|| Progress {
                next: start,
                ..Progress::default()
            });
        match progress.arrive(sequence) {
            Arrival::InOrder => {}
            Arrival::Late => self.findings.reordered_batches += 1,
            Arrival::Duplicate => self.findings.duplicate_batches += 1,
        }
    }

    /// What was found, once everything was read.
    pub fn finish(mut self, expected: Option<&Expected>) -> Findings {
        let missing = self.progress.values().map(Progress::missing_count);
        self.findings.missing_batches = missing.fold(0, u64::saturating_add);
        if let Some(expected) = expected {
            for ledger in expected.ledgers.values() {
                let key = (expected.run_id, ledger.connection);
                let progress = self.progress.remove(&key).unwrap_or_default();
                self.settle(ledger, &progress);
            }
            // Left over: connections that the run did not have.
            self.findings.misplaced_batches += self.progress.len() as u64;
        }
        self.findings
    }

    fn settle(&mut self, ledger: &Ledger, progress: &Progress) {
        let partition = self.partition;
        let Some(first) = ledger.send_of(partition, 0) else {
            self.findings.misplaced_batches += u64::from(progress.next > 0);
            return;
        };
        if progress.next > 0 && !ledger.was_sent(partition, progress.next - 1) {
            self.findings.misplaced_batches += 1;
            return;
        }
        let per_round = ledger.partitions.len() as u64;
        let sent = ledger.sent.saturating_sub(first).div_ceil(per_round);
        let gaps = progress.missing.iter().map(|(from, until)| *from..*until);
        for sequence in gaps.chain(std::iter::once(progress.next..sent)).flatten() {
            self.findings.lost_batches += u64::from(ledger.was_acknowledged(partition, sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Identity, Pool, ProducerFields};
    use crate::client::fetch::next_batch;

    const RUN: u64 = 11;

    /// A partition's log, written the way a broker would.
    struct Log(Vec<u8>, i64, Pool);

    impl Log {
        fn new() -> Self {
            Log(Vec::new(), 0, Pool::new(RUN, 60, 200))
        }

        fn append(&mut self, connection: u32, partition: u32, sequence: u64) -> &mut Self {
            let Log(bytes, offset, pool) = self;
            let from = bytes.len();
            let identity = Identity {
                connection,
                partition,
                sequence,
            };
            let tail = pool.stamp(sequence, identity, ProducerFields::NONE, 1, bytes);
            bytes.extend_from_slice(&tail);
            bytes[from..from + 8].copy_from_slice(&offset.to_be_bytes());
            *offset += i64::from(pool.records_per_batch);
            self
        }

        fn verify(&self, run_id: Option<u64>, ledgers: &[Ledger]) -> Findings {
            let mut verifier = PartitionVerifier::new(0, 0, run_id);
            let mut rest = &self.0[..];
            while let Some(batch) = next_batch(&mut rest).unwrap() {
                verifier.batch(&batch, true);
            }
            let expected = run_id.map(|run_id| Expected::new(run_id, ledgers));
            verifier.finish(expected.as_ref())
        }
    }

    /// Two partitions, so sends 0, 2, 4 are sequences 0, 1, 2 of partition 0.
    fn ledger(connection: u32, sent: u64, unacknowledged: &[u64]) -> Ledger {
        Ledger {
            connection,
            partitions: vec![0, 1],
            sent,
            unacknowledged: unacknowledged.iter().copied().collect(),
        }
    }

    #[test]
    fn a_good_log_verifies() {
        let mut log = Log::new();
        log.append(0, 0, 0)
            .append(1, 0, 0)
            .append(0, 0, 1)
            .append(0, 0, 2);
        let findings = log.verify(Some(RUN), &[ledger(0, 6, &[]), ledger(1, 1, &[])]);
        assert_eq!(findings.problem(), None);
        assert_eq!((findings.batches, findings.foreign_batches), (4, 0));
        assert_eq!(findings.bytes, findings.records * 60);
    }

    #[test]
    fn loss_in_the_middle_and_at_the_end() {
        let mut log = Log::new();
        log.append(0, 0, 0).append(0, 0, 2);
        assert_eq!(log.verify(Some(RUN), &[ledger(0, 5, &[])]).lost_batches, 1);
        assert_eq!(log.verify(Some(RUN), &[ledger(0, 7, &[])]).lost_batches, 2);
        assert_eq!(
            log.verify(Some(RUN), &[ledger(0, 7, &[2, 6])]).problem(),
            None
        );
        let other_connection_too = [ledger(0, 5, &[2]), ledger(1, 3, &[])];
        assert_eq!(log.verify(Some(RUN), &other_connection_too).lost_batches, 2);
        assert_eq!(log.verify(None, &[]).missing_batches, 1);
    }

    #[test]
    fn duplicates_and_disorder() {
        let mut log = Log::new();
        log.append(0, 0, 0)
            .append(0, 0, 2)
            .append(0, 0, 1)
            .append(0, 0, 2)
            .append(0, 0, 0);
        let findings = log.verify(Some(RUN), &[ledger(0, 5, &[])]);
        assert_eq!(
            (findings.duplicate_batches, findings.reordered_batches),
            (2, 1)
        );
        assert_eq!(findings.lost_batches, 0);
        assert!(findings.problem().unwrap().contains("twice"));
    }

    #[test]
    fn what_was_never_sent_is_misplaced() {
        let mut log = Log::new();
        log.append(0, 0, 0)
            .append(0, 1, 0)
            .append(7, 0, 0)
            .append(0, 0, 1);
        let findings = log.verify(Some(RUN), &[ledger(0, 2, &[])]);
        assert_eq!(findings.misplaced_batches, 3);
    }

    #[test]
    fn damage_and_gaps_of_offsets() {
        let mut log = Log::new();
        log.append(0, 0, 0).append(0, 0, 1);
        log.1 += 5;
        log.append(0, 0, 2);
        assert_eq!(log.verify(Some(RUN), &[ledger(0, 5, &[])]).offset_gaps, 1);
        let last = log.0.len() - 3;
        log.0[last] ^= 1;
        let findings = log.verify(Some(RUN), &[ledger(0, 5, &[])]);
        assert_eq!((findings.corrupt_batches, findings.lost_batches), (1, 1));
    }

    #[test]
    fn batches_of_other_runs_are_foreign() {
        let mut log = Log::new();
        log.append(0, 0, 0);
        let findings = log.verify(Some(RUN + 1), &[]);
        assert_eq!((findings.foreign_batches, findings.problem()), (1, None));
    }
}
