//! The four codecs of record batches, each with a bound on the bytes that come out.
//!
//! Kafka's codec ids are in the lowest three bits of a batch's attributes: 1 gzip (RFC 1952),
//! 2 snappy (in xerial's framing or as one raw block), 3 LZ4 (the frame format), 4 zstd (RFC 8878,
//! KIP-110).

use std::io::{Read, Write};

/// A codec of Kafka's record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec of Kafka's id, if there is one.
    pub fn from_id(id: i16) -> Option<Codec> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Kafka's id.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The name Kafka's `compression.type` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Why bytes did not decompress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("{} data is malformed", .0.name())]
    Malformed(Codec),
    #[error("data is larger than {max_bytes} bytes when decompressed")]
    TooLarge { max_bytes: usize },
}

/// Decompresses `data` into at most `max_bytes` bytes.
///
/// Memory beyond the output: zstd's window of at most 8 MB or `max_bytes` rounded up to a power of
/// two, whichever is larger, but never above 128 MB; LZ4's blocks of at most 8 MB.
pub fn decompress(codec: Codec, data: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    match codec {
        Codec::None if data.len() > max_bytes => Err(DecompressError::TooLarge { max_bytes }),
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => read_bounded(
            codec,
            flate2::read::MultiGzDecoder::new(data),
            data.len(),
            max_bytes,
        ),
        Codec::Snappy => unsnappy(data, max_bytes),
        Codec::Lz4 => read_bounded(
            codec,
            lz4_flex::frame::FrameDecoder::new(data),
            data.len(),
            max_bytes,
        ),
        Codec::Zstd => unzstd(data, max_bytes),
    }
}

/// Compresses `data`; snappy in xerial's framing, as Java clients do.
pub fn compress(codec: Codec, data: &[u8]) -> Vec<u8> {
    const NO_IO: &str = "compression into memory does not fail";
    match codec {
        Codec::None => data.to_vec(),
        Codec::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(data).expect(NO_IO);
            out.finish().expect(NO_IO)
        }
        Codec::Snappy => snappy(data),
        Codec::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(data).expect(NO_IO);
            out.finish().expect(NO_IO)
        }
        Codec::Zstd => zstd::bulk::compress(data, zstd::DEFAULT_COMPRESSION_LEVEL).expect(NO_IO),
    }
}

fn read_bounded(
    codec: Codec,
    reader: impl Read,
    compressed_bytes: usize,
    max_bytes: usize,
) -> Result<Vec<u8>, DecompressError> {
    /// Records of ordinary clients rarely become more than this many times as long.
    const USUAL_RATIO: usize = 4;
    let mut out = Vec::with_capacity(max_bytes.min(compressed_bytes * USUAL_RATIO));
    reader
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| DecompressError::Malformed(codec))?;
    if out.len() > max_bytes {
        return Err(DecompressError::TooLarge { max_bytes });
    }
    Ok(out)
}

/// RFC 8878 asks every decoder for windows of 8 MB; streaming encoders declare windows larger than
/// the data, so a window above `max_bytes` is not an error by itself.
fn unzstd(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    const WINDOW_LOG_MIN: u32 = 23;
    const WINDOW_LOG_MAX: u32 = 27;
    let malformed = |_| DecompressError::Malformed(Codec::Zstd);
    let window_log = max_bytes
        .checked_next_power_of_two()
        .map_or(WINDOW_LOG_MAX, usize::ilog2)
        .clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(malformed)?;
    decoder.window_log_max(window_log).map_err(malformed)?;
    read_bounded(Codec::Zstd, decoder, data.len(), max_bytes)
}

/// What opens xerial's framing: magic, then a version and the lowest compatible version, which no
/// known decoder looks at.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn unsnappy(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        unsnappy_block(data, &mut out, max_bytes)?;
        return Ok(out);
    }
    const MALFORMED: DecompressError = DecompressError::Malformed(Codec::Snappy);
    let mut rest = data.get(XERIAL_HEADER_BYTES..).ok_or(MALFORMED)?;
    while !rest.is_empty() {
        let (size, after) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let size = u32::from_be_bytes(*size) as usize;
        let (block, after) = after.split_at_checked(size).ok_or(MALFORMED)?;
        unsnappy_block(block, &mut out, max_bytes)?;
        rest = after;
    }
    Ok(out)
}

/// Appends one raw snappy block to `out`.
///
/// A block says how long it becomes. A copy of 64 bytes takes 3, so nothing legitimate grows more
/// than 22-fold, and a short block cannot ask for a large allocation.
fn unsnappy_block(data: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), DecompressError> {
    const GROWTH_MAX: usize = 22;
    const MALFORMED: DecompressError = DecompressError::Malformed(Codec::Snappy);
    let size = snap::raw::decompress_len(data).map_err(|_| MALFORMED)?;
    if size > data.len().saturating_mul(GROWTH_MAX) {
        return Err(MALFORMED);
    }
    let start = out.len();
    if size > max_bytes - start {
        return Err(DecompressError::TooLarge { max_bytes });
    }
    out.resize(start + size, 0);
    let written = snap::raw::Decoder::new()
        .decompress(data, &mut out[start..])
        .map_err(|_| MALFORMED)?;
    if written != size {
        return Err(MALFORMED);
    }
    Ok(())
}

fn snappy(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + data.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder
            .compress_vec(block)
            .expect("a block of 32 KiB is within snappy's bounds");
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(bytes: usize) -> Vec<u8> {
        (0..bytes)
            .map(|i| b"the quick brown fox "[i * i % 20])
            .collect()
    }

    #[test]
    fn every_codec_round_trips_up_to_the_bound() {
        for codec in Codec::ALL {
            for size in [0, 1, 100, 40_000, 3_000_000] {
                let data = words(size);
                let packed = compress(codec, &data);
                assert_eq!(
                    decompress(codec, &packed, size),
                    Ok(data),
                    "{codec:?} {size}"
                );
                if size > 0 {
                    assert_eq!(
                        decompress(codec, &packed, size - 1),
                        Err(DecompressError::TooLarge {
                            max_bytes: size - 1
                        }),
                        "{codec:?} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let data = words(50_000);
        let packed = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::Snappy, &packed, 50_000), Ok(data));
    }

    #[test]
    fn a_short_snappy_block_cannot_ask_for_gigabytes() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert_eq!(
            decompress(Codec::Snappy, &claim, usize::MAX),
            Err(DecompressError::Malformed(Codec::Snappy))
        );
    }

    #[test]
    fn snappy_at_its_greatest_growth_is_accepted() {
        let data = vec![7u8; 1 << 20];
        let packed = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::Snappy, &packed, 1 << 20), Ok(data));
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let zeros = vec![0u8; 64 << 20];
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let packed = compress(codec, &zeros);
            assert_eq!(
                decompress(codec, &packed, 1 << 20),
                Err(DecompressError::TooLarge { max_bytes: 1 << 20 })
            );
        }
    }

    #[test]
    fn a_streamed_zstd_frame_with_a_window_above_the_bound_is_read() {
        let data = words(10_000);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(23).unwrap();
        encoder.write_all(&data).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(decompress(Codec::Zstd, &packed, 10_000), Ok(data));
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_bounded(data: Vec<u8>, id in 1i16..5) {
            let codec = Codec::from_id(id).unwrap();
            if let Ok(out) = decompress(codec, &data, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }

        #[test]
        fn damage_is_an_error_or_bounded(at: usize, byte: u8, cut: usize, id in 1i16..5) {
            let codec = Codec::from_id(id).unwrap();
            let mut packed = compress(codec, &words(5000));
            let at = at % packed.len();
            packed[at] = byte;
            packed.truncate(packed.len() - cut % 3);
            if let Ok(out) = decompress(codec, &packed, 6000) {
                prop_assert!(out.len() <= 6000);
            }
        }
    }
}
