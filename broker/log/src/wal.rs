//! Reads RocksDB's log format, to say where a write-ahead log or a manifest is damaged.
//!
//! The format (RocksDB's wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
//! CRC-32C u32 (masked), length u16, type u8, in recycled logs also the low half of the log's number
//! u32, and the payload; little endian. A record that does not fit its block is split. What is left
//! of a block when a header does not fit is zeros.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const RECYCLABLE_HEADER_BYTES: usize = 11;
const MASK_DELTA: u32 = 0xa282_ead8;

/// Where the whole records of a log end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// Bytes up to the end of the last whole record.
    pub whole_bytes: u64,
    pub file_bytes: u64,
    pub records: u64,
    /// Why it does not go on there; none where the file just ends.
    pub broken: Option<&'static str>,
}

const IN_HEADER: &str = "the file ends within a header";
const IN_RECORD: &str = "the file ends within a record";
const BLANK: &str = "nothing was written here";

impl LogEnd {
    /// The log has damage in it, other than an end that was not written to the end.
    pub fn damage(&self) -> Option<&'static str> {
        let unfinished = |why: &&str| [IN_HEADER, IN_RECORD, BLANK].contains(why);
        self.broken.filter(|why| !unfinished(why))
    }
}

/// One fragment: its payload's length and type, and the bytes it takes with its header.
enum Fragment {
    Whole {
        kind: u8,
        bytes: usize,
    },
    /// The rest of the block holds no header.
    Padding,
    Broken(&'static str),
}

/// Reads a log from its beginning, a block at a time. `number` is that of its name; `None`: a manifest,
/// which is never recycled.
pub(crate) fn scan(path: &Path, number: Option<u64>) -> io::Result<LogEnd> {
    let file = File::open(path)?;
    let mut scan = Scan::default();
    scan.end.file_bytes = file.metadata()?.len();
    let mut file = file;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while scan.end.broken.is_none() {
        block.clear();
        file.by_ref()
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut block)?;
        if block.is_empty() {
            scan.finish();
            break;
        }
        scan.block(&block, number.map(|number| number as u32));
    }
    Ok(scan.end)
}

#[derive(Default)]
struct Scan {
    end: LogEnd,
    /// Bytes of the blocks before.
    before: u64,
    within_record: bool,
}

impl Scan {
    /// Takes the next block; only the last one may be short.
    fn block(&mut self, block: &[u8], number: Option<u32>) {
        let mut at = 0;
        while at < block.len() {
            match fragment(&block[at..], BLOCK_BYTES - at, number) {
                Fragment::Padding => break,
                Fragment::Broken(why) => {
                    self.end.broken = Some(why);
                    return;
                }
                Fragment::Whole { kind, bytes } => {
                    at += bytes;
                    let (first, last) = match kind {
                        2 | 6 => (true, false),
                        3 | 7 => (false, false),
                        4 | 8 => (false, true),
                        // A whole record, or a note between records.
                        _ => (true, true),
                    };
                    if first == self.within_record {
                        self.end.broken = Some("a piece of a record is missing");
                        return;
                    }
                    self.within_record = !last;
                    if last {
                        self.end.whole_bytes = self.before + at as u64;
                        self.end.records += 1;
                    }
                }
            }
        }
        self.before += block.len() as u64;
    }

    fn finish(&mut self) {
        if self.within_record {
            self.end.broken = Some(IN_RECORD);
        }
    }
}

/// The fragment at the start of `block`, of which the file has `block.len()` of `left` bytes.
fn fragment(block: &[u8], left: usize, number: Option<u32>) -> Fragment {
    if left < HEADER_BYTES {
        return Fragment::Padding;
    }
    let Some(header) = block.get(..HEADER_BYTES) else {
        return Fragment::Broken(IN_HEADER);
    };
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    if kind == 0 && length == 0 {
        let blank = block.iter().all(|b| *b == 0);
        return match blank && left < RECYCLABLE_HEADER_BYTES {
            true => Fragment::Padding,
            false => Fragment::Broken(BLANK),
        };
    }
    let recyclable = matches!(kind, 5..=8 | 11 | 131);
    let header_bytes = match recyclable {
        true => RECYCLABLE_HEADER_BYTES,
        false => HEADER_BYTES,
    };
    if recyclable && number.is_none() {
        return Fragment::Broken("a type of recycled logs");
    }
    if header_bytes + length > left {
        return Fragment::Broken("a length that does not fit its block");
    }
    let Some(whole) = block.get(..header_bytes + length) else {
        return Fragment::Broken(IN_RECORD);
    };
    let stored_number = || whole.get(HEADER_BYTES..RECYCLABLE_HEADER_BYTES);
    if recyclable && stored_number() != number.map(u32::to_le_bytes).as_ref().map(|n| &n[..]) {
        return Fragment::Broken("an older log's record follows");
    }
    let stored = u32::from_le_bytes([whole[0], whole[1], whole[2], whole[3]]);
    if masked(crc32c::crc32c(&whole[6..])) != stored {
        return Fragment::Broken("the checksum is wrong");
    }
    Fragment::Whole {
        kind,
        bytes: whole.len(),
    }
}

pub(crate) fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan_bytes(log: &[u8], number: Option<u32>) -> LogEnd {
        let mut scan = Scan::default();
        for block in log.chunks(BLOCK_BYTES) {
            if scan.end.broken.is_none() {
                scan.block(block, number);
            }
        }
        if scan.end.broken.is_none() {
            scan.finish();
        }
        scan.end
    }

    /// Writes records as RocksDB does; `recycled` logs carry their number.
    fn log(records: &[Vec<u8>], recycled: bool, number: u32) -> Vec<u8> {
        let mut log: Vec<u8> = Vec::new();
        let header = match recycled {
            true => RECYCLABLE_HEADER_BYTES,
            false => HEADER_BYTES,
        };
        for record in records {
            let mut rest = &record[..];
            let mut first = true;
            loop {
                let mut left = BLOCK_BYTES - log.len() % BLOCK_BYTES;
                if left < header {
                    log.extend(vec![0; left]);
                    left = BLOCK_BYTES;
                }
                let (piece, later) = rest.split_at(rest.len().min(left - header));
                let last = later.is_empty();
                let kind = match (first, last) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                } + if recycled { 4 } else { 0 };
                let mut body = vec![kind];
                if recycled {
                    body.extend(number.to_le_bytes());
                }
                body.extend(piece);
                log.extend(masked(crc32c::crc32c(&body)).to_le_bytes());
                log.extend((piece.len() as u16).to_le_bytes());
                log.extend(body);
                (rest, first) = (later, false);
                if last {
                    break;
                }
            }
        }
        log
    }

    proptest! {
        #[test]
        fn whole_logs_and_flipped_bits(
            sizes in proptest::collection::vec(0..70_000usize, 1..6), recycled: bool, at: usize, bit in 0..8u8,
        ) {
            let records: Vec<_> = sizes.iter().map(|size| vec![7; *size]).collect();
            let good = log(&records, recycled, 9);
            let end = scan_bytes(&good, Some(9));
            prop_assert_eq!((end.records, end.broken), (records.len() as u64, None));
            let mut bad = good.clone();
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
            let end = scan_bytes(&bad, Some(9));
            // Only padding between blocks may be damaged unnoticed.
            prop_assert!(end.broken.is_none_or(|_| end.whole_bytes <= at as u64));
            prop_assert!(end.broken.is_some() || end.records == records.len() as u64);
            let cut = scan_bytes(&good[..at], Some(9));
            prop_assert!(cut.whole_bytes <= at as u64);
        }

        #[test]
        fn garbage_is_read_within_bounds(log: Vec<u8>) {
            for number in [Some(1), None] {
                prop_assert!(scan_bytes(&log, number).whole_bytes <= log.len() as u64);
            }
        }
    }

    /// Whatever its length says: it must not be taken for an end that was not written.
    #[test]
    fn no_manifest_has_a_type_of_recycled_logs() {
        let good = log(&[vec![1; 100], vec![2; 100]], false, 0);
        let second = HEADER_BYTES + 100;
        for kind in [5, 6, 7, 8, 11, 131] {
            for length in [100u16, 101, 5000] {
                let mut bad = good.clone();
                bad[second + 4..second + 6].copy_from_slice(&length.to_le_bytes());
                bad[second + 6] = kind;
                let end = scan_bytes(&bad, None);
                assert_eq!((end.records, end.whole_bytes), (1, second as u64));
                assert!(end.damage().is_some(), "{kind} {length}");
            }
        }
        assert!(scan_bytes(&good[..second + 50], None).damage().is_none());
    }

    #[test]
    fn an_older_log_behind_the_end_is_told_from_damage() {
        let mut recycled = log(&[vec![1; 100], vec![2; 100]], true, 5);
        let new = log(&[vec![3; 50]], true, 8);
        recycled[..new.len()].copy_from_slice(&new);
        let end = scan_bytes(&recycled, Some(8));
        assert_eq!((end.records, end.whole_bytes), (1, new.len() as u64));
        assert!(end.broken.is_some());
    }
}
