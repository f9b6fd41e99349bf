//! Reads blob files from end to end, to say where in which file a batch is damaged: RocksDB names
//! neither.
//!
//! The format (RocksDB's wiki, "BlobDB"): a header of 30 bytes; records of key length u64, value length
//! u64, expiration u64, CRC-32C of these, CRC-32C of key and value (both masked), key, value; a footer of
//! 32 bytes: magic u32, number of records u64, expirations 2 * u64, CRC-32C. Little endian.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use ottla_proto::ids::PartitionId;

use crate::keys;
use crate::open::names;
use crate::wal::masked;

const MAGIC: u32 = 2_395_959;
const HEADER_BYTES: u64 = 30;
const RECORD_HEADER_BYTES: u64 = 32;
const FOOTER_BYTES: u64 = 32;
const PIECE_BYTES: usize = 1 << 20;
/// Damages told of one file; more are likely one.
const DAMAGES_PER_FILE: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDamage {
    pub file: String,
    /// Where the damaged record begins.
    pub byte: u64,
    /// Whose batch it is, as far as its key can be trusted.
    pub batch: Option<(PartitionId, i64)>,
    pub detail: String,
}

/// Reads every blob file of a database. A damaged record that no key leads to is told as well.
pub fn scan_blobs(path: &Path, mut read: impl FnMut(u64)) -> Vec<BlobDamage> {
    let mut files: Vec<String> = names(path);
    files.retain(|name| name.ends_with(".blob"));
    files.sort_unstable();
    let mut found = Vec::new();
    for name in files {
        let mut damage = |byte, batch, detail: String| {
            found.push(BlobDamage {
                file: name.clone(),
                byte,
                batch,
                detail,
            });
        };
        if let Err(error) = scan(&path.join(&name), &mut read, &mut damage) {
            damage(0, None, error.to_string());
        }
    }
    found
}

type Tell<'a> = &'a mut dyn FnMut(u64, Option<(PartitionId, i64)>, String);

fn scan(path: &Path, read: &mut impl FnMut(u64), tell: Tell) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(PIECE_BYTES, file);
    if length < HEADER_BYTES + FOOTER_BYTES {
        tell(0, None, format!("{length} bytes are no blob file"));
        return Ok(());
    }
    let header = bytes::<{ HEADER_BYTES as usize }>(&mut file)?;
    if number(&header, 0) as u32 != MAGIC {
        tell(
            0,
            None,
            "its first bytes are not those of a blob file".into(),
        );
        return Ok(());
    }
    let (mut at, end) = (HEADER_BYTES, length - FOOTER_BYTES);
    let (mut records, mut told) = (0, 0);
    while at < end {
        let header = bytes::<{ RECORD_HEADER_BYTES as usize }>(&mut file)?;
        let (key_bytes, value_bytes) = (number(&header, 0), number(&header, 8));
        let left = end.saturating_sub(at + RECORD_HEADER_BYTES);
        let fits = key_bytes
            .checked_add(value_bytes)
            .is_some_and(|b| b <= left);
        if masked(crc32c::crc32c(&header[..24])) != number(&header, 24) as u32 || !fits {
            tell(
                at,
                None,
                "a record's header is damaged; the rest of the file cannot be told apart".into(),
            );
            return Ok(());
        }
        let (key, crc) = checksum(&mut file, key_bytes, value_bytes)?;
        if masked(crc) != number(&header, 28) as u32 {
            told += 1;
            if told <= DAMAGES_PER_FILE {
                tell(at, keys::batch_offset(&key), "the checksum is wrong".into());
            }
        }
        records += 1;
        let size = RECORD_HEADER_BYTES + key_bytes + value_bytes;
        read(size);
        at += size;
    }
    let footer = bytes::<{ FOOTER_BYTES as usize }>(&mut file)?;
    let crc = masked(crc32c::crc32c(&footer[..28])) == number(&footer, 28) as u32;
    match (
        number(&footer, 0) as u32 == MAGIC && crc,
        number(&footer, 4),
    ) {
        (true, count) if count == records => {}
        (true, count) => tell(
            end,
            None,
            format!("{records} records, its footer says {count}"),
        ),
        (false, _) => tell(
            end,
            None,
            "its footer is damaged, or the file was cut".into(),
        ),
    }
    Ok(())
}

/// The key (if it is short), and the checksum of key and value; nothing longer than a piece is kept.
fn checksum(file: &mut impl Read, key_bytes: u64, value_bytes: u64) -> io::Result<(Vec<u8>, u32)> {
    let mut crc = 0;
    let mut key = Vec::new();
    let mut piece = vec![0; PIECE_BYTES.min((key_bytes + value_bytes) as usize)];
    let mut left = key_bytes + value_bytes;
    while left > 0 {
        let part = left.min(piece.len() as u64) as usize;
        file.read_exact(&mut piece[..part])?;
        if key.is_empty() && key_bytes <= 64 {
            key.extend_from_slice(&piece[..part.min(key_bytes as usize)]);
        }
        crc = crc32c::crc32c_append(crc, &piece[..part]);
        left -= part as u64;
    }
    Ok((key, crc))
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The number at `at`, of which eight bytes are read as far as they are there.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    let end = bytes.len().min(at + 8);
    number[..end - at].copy_from_slice(&bytes[at..end]);
    u64::from_le_bytes(number)
}
