//! Reads blob files, to say where in which file a batch is damaged: RocksDB names neither. All of them from end
//! to end for who checks a folder ([`scan_blobs`]); keys only, and one batch, for who met damage ([`find_damaged`]).
//!
//! The format (RocksDB's wiki, "BlobDB"): a header of 30 bytes; records of key length u64, value length
//! u64, expiration u64, CRC-32C of these, CRC-32C of key and value (both masked), key, value; a footer of
//! 32 bytes: magic u32, number of records u64, expirations 2 * u64, CRC-32C. Little endian.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
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
/// Longer keys are none of batches.
const KEY_BYTES: u64 = 64;
const CHECKSUM: &str = "the checksum is wrong";
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
    let mut found = Vec::new();
    for name in blob_files(path) {
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

/// Their names, the oldest first.
fn blob_files(path: &Path) -> Vec<String> {
    let mut files = names(path);
    files.retain(|name| name.ends_with(".blob"));
    files.sort_unstable();
    files
}

/// Where the batch is that holds this offset, or is the last one before it, if it is damaged. Reads the headers and
/// keys of all blob files, so that it takes seconds for each million batches.
pub(crate) fn find_damaged(path: &Path, partition: PartitionId, offset: i64) -> Option<BlobDamage> {
    let mut nearest: Option<(i64, String, u64)> = None;
    for name in blob_files(path) {
        // What cannot be read is passed over: it may be the damage, but is not known to be.
        let _ = headers(&path.join(&name), &mut |byte, key| {
            let found =
                keys::batch_offset(key).filter(|(of, at)| *of == partition && *at <= offset);
            if let Some((_, at)) = found
                && nearest.as_ref().is_none_or(|(best, ..)| at >= *best)
            {
                nearest = Some((at, name.clone(), byte));
            }
        });
    }
    let (base_offset, file, byte) = nearest?;
    let is_whole = is_whole(&path.join(&file), byte).unwrap_or(false);
    (!is_whole).then(|| BlobDamage {
        file,
        byte,
        batch: Some((partition, base_offset)),
        detail: CHECKSUM.into(),
    })
}

type Tell<'a> = &'a mut dyn FnMut(u64, Option<(PartitionId, i64)>, String);

/// A blob file at its first record, and where its footer begins; or what is wrong with its ends.
fn open(path: &Path) -> io::Result<Result<(BufReader<File>, u64), String>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(PIECE_BYTES, file);
    if length < HEADER_BYTES + FOOTER_BYTES {
        return Ok(Err(format!("{length} bytes are no blob file")));
    }
    let header = bytes::<{ HEADER_BYTES as usize }>(&mut file)?;
    Ok(match number(&header, 0) as u32 == MAGIC {
        true => Ok((file, length - FOOTER_BYTES)),
        false => Err("its first bytes are not those of a blob file".into()),
    })
}

/// The lengths of a record's key and value and the checksum of both, or `None` if they cannot be: it must fit
/// into `left` bytes.
fn record_header(file: &mut impl Read, left: u64) -> io::Result<Option<(u64, u64, u32)>> {
    let header = bytes::<{ RECORD_HEADER_BYTES as usize }>(file)?;
    let (key_bytes, value_bytes) = (number(&header, 0), number(&header, 8));
    let left = left.saturating_sub(RECORD_HEADER_BYTES);
    let fits = key_bytes
        .checked_add(value_bytes)
        .is_some_and(|b| b <= left);
    let is_whole = masked(crc32c::crc32c(&header[..24])) == number(&header, 24) as u32;
    Ok((is_whole && fits).then_some((key_bytes, value_bytes, number(&header, 28) as u32)))
}

/// Where each record of a blob file begins, and its key.
fn headers(path: &Path, found: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
    let Ok((mut file, end)) = open(path)? else {
        return Ok(());
    };
    let mut at = HEADER_BYTES;
    while at < end
        && let Some((key_bytes, value_bytes, _)) = record_header(&mut file, end - at)?
    {
        let mut key = vec![0; key_bytes.min(KEY_BYTES) as usize];
        file.read_exact(&mut key)?;
        found(at, &key);
        let left = key_bytes + value_bytes - key.len() as u64;
        file.seek_relative(i64::try_from(left).map_err(io::Error::other)?)?;
        at += RECORD_HEADER_BYTES + key_bytes + value_bytes;
    }
    Ok(())
}

/// Whether the record at this place has its checksum.
fn is_whole(path: &Path, byte: u64) -> io::Result<bool> {
    let Ok((mut file, end)) = open(path)? else {
        return Ok(false);
    };
    file.seek(io::SeekFrom::Start(byte))?;
    let Some((key_bytes, value_bytes, crc)) = record_header(&mut file, end.saturating_sub(byte))?
    else {
        return Ok(false);
    };
    Ok(masked(checksum(&mut file, key_bytes, value_bytes)?.1) == crc)
}

fn scan(path: &Path, read: &mut impl FnMut(u64), tell: Tell) -> io::Result<()> {
    let (mut file, end) = match open(path)? {
        Ok(opened) => opened,
        Err(why) => {
            tell(0, None, why);
            return Ok(());
        }
    };
    let mut at = HEADER_BYTES;
    let (mut records, mut told) = (0, 0);
    while at < end {
        let Some((key_bytes, value_bytes, expected)) = record_header(&mut file, end - at)? else {
            tell(
                at,
                None,
                "a record's header is damaged; the rest of the file cannot be told apart".into(),
            );
            return Ok(());
        };
        let (key, crc) = checksum(&mut file, key_bytes, value_bytes)?;
        if masked(crc) != expected {
            told += 1;
            if told <= DAMAGES_PER_FILE {
                tell(at, keys::batch_offset(&key), CHECKSUM.into());
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
        if key.is_empty() && key_bytes <= KEY_BYTES {
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
