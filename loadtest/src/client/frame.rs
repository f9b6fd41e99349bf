//! Produce frames by hand: a few dozen bytes written per batch, and the batches' tails as slices of
//! the pool, sent by vectored writes. Hot path: one allocation per request, the list of slices.

use std::io::{self, IoSlice};

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::AsyncWriteExt;

use super::read::{Reader, Truncated};
use super::{CLIENT_ID, version};

/// One Produce request (version 9) for one topic, built in buffers that are used again.
pub struct ProduceFrame {
    topic: String,
    acks: i16,
    timeout_ms: i32,
    /// Everything but the tails, in order.
    small: Vec<u8>,
    /// Each tail, and how much of `small` comes before it.
    tails: Vec<(usize, Bytes)>,
}

impl ProduceFrame {
    pub fn new(topic: &str, acks: i16, timeout_ms: i32) -> Self {
        let (small, tails) = (Vec::new(), Vec::new());
        ProduceFrame {
            topic: topic.to_string(),
            acks,
            timeout_ms,
            small,
            tails,
        }
    }

    /// Starts a request that carries `batches` batches, each for another partition.
    pub fn begin(&mut self, correlation_id: i32, batches: usize) {
        self.small.clear();
        self.tails.clear();
        let out = &mut self.small;
        out.extend_from_slice(&[0; 4]); // length, see finish
        out.extend_from_slice(&(ApiKey::Produce as i16).to_be_bytes());
        out.extend_from_slice(&version::PRODUCE.to_be_bytes());
        out.extend_from_slice(&correlation_id.to_be_bytes());
        out.extend_from_slice(&(CLIENT_ID.len() as i16).to_be_bytes());
        out.extend_from_slice(CLIENT_ID.as_bytes());
        out.push(0); // header tags
        out.push(0); // no transactional id
        out.extend_from_slice(&self.acks.to_be_bytes());
        out.extend_from_slice(&self.timeout_ms.to_be_bytes());
        put_uvarint(out, 2); // one topic
        put_uvarint(out, self.topic.len() as u64 + 1);
        out.extend_from_slice(self.topic.as_bytes());
        put_uvarint(out, batches as u64 + 1);
    }

    /// Adds one batch: `stamp` appends its head to the buffer it is given and returns its tail.
    pub fn add(&mut self, partition: u32, bytes: usize, stamp: impl FnOnce(&mut Vec<u8>) -> Bytes) {
        self.small.extend_from_slice(&partition.to_be_bytes());
        put_uvarint(&mut self.small, bytes as u64 + 1);
        let head_at = self.small.len();
        let tail = stamp(&mut self.small);
        assert_eq!(
            self.small.len() - head_at + tail.len(),
            bytes,
            "a batch of the declared size"
        );
        self.tails.push((self.small.len(), tail));
        self.small.push(0); // partition tags
    }

    /// Ends the request; it can then be written.
    pub fn finish(&mut self) {
        self.small.extend_from_slice(&[0, 0]); // topic tags, request tags
        let tails: usize = self.tails.iter().map(|(_, tail)| tail.len()).sum();
        let length = (self.small.len() + tails - 4) as u32;
        self.small[..4].copy_from_slice(&length.to_be_bytes());
    }

    pub async fn write(&self, stream: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        let mut slices = self.slices();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match stream.write_vectored(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
        Ok(())
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.tails.len() + 1);
        let mut from = 0;
        for (until, tail) in &self.tails {
            slices.push(IoSlice::new(&self.small[from..*until]));
            if !tail.is_empty() {
                slices.push(IoSlice::new(tail));
            }
            from = *until;
        }
        slices.push(IoSlice::new(&self.small[from..]));
        slices
    }
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What a broker says about one batch of a Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceAck {
    pub partition: i32,
    pub code: i16,
    pub base_offset: i64,
}

/// Walks a Produce answer (version 9, after the length) and hands every partition to `each`.
/// Returns the correlation id.
pub fn read_produce_answer(
    answer: &[u8],
    mut each: impl FnMut(ProduceAck),
) -> Result<i32, Truncated> {
    let r = &mut Reader::new(answer);
    let correlation_id = r.i32()?;
    r.skip_tags()?;
    for _ in 0..r.compact_array_len(3)? {
        r.compact_string()?;
        for _ in 0..r.compact_array_len(32)? {
            let (partition, code, base_offset) = (r.i32()?, r.i16()?, r.i64()?);
            r.take(16)?; // log append time, log start offset
            for _ in 0..r.compact_array_len(6)? {
                r.i32()?; // index of a refused record
                r.compact_nullable_string()?;
                r.skip_tags()?;
            }
            r.compact_nullable_string()?;
            r.skip_tags()?;
            each(ProduceAck {
                partition,
                code,
                base_offset,
            });
        }
        r.skip_tags()?;
    }
    r.i32()?; // throttle time
    r.skip_tags()?;
    if r.is_empty() {
        Ok(correlation_id)
    } else {
        Err(Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Identity, Pool, ProducerFields};
    use bytes::{Buf, BytesMut};
    use kafka_protocol::messages::produce_response::*;
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse, RequestHeader, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use kafka_protocol::records::RecordBatchDecoder;

    /// Accepts `step` bytes at a time, so that writes stop within slices.
    struct Slow(Vec<u8>, usize);

    impl tokio::io::AsyncWrite for Slow {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            std::task::Poll::Ready(Ok(taken))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_crate_decodes_what_is_written() {
        for (batch_bytes, batches, step) in [(1000, 1, 7), (20_000, 3, 999), (1, 200, 64)] {
            let pool = Pool::new(5, 100, batch_bytes);
            let mut frame = ProduceFrame::new("some-topic", -1, 30_000);
            for correlation_id in [41, 42] {
                frame.begin(correlation_id, batches);
                for partition in 0..batches as u32 {
                    let identity = Identity {
                        connection: 1,
                        partition,
                        sequence: 8,
                    };
                    frame.add(partition, pool.batch_bytes(), |out| {
                        pool.stamp(u64::from(partition), identity, ProducerFields::NONE, 1, out)
                    });
                }
                frame.finish();
            }
            let mut wire = Slow(Vec::new(), step);
            frame.write(&mut wire).await.unwrap();

            let mut bytes = Bytes::from(wire.0);
            assert_eq!(bytes.get_i32() as usize, bytes.len());
            let header = RequestHeader::decode(&mut bytes, 2).unwrap();
            assert_eq!(header.correlation_id, 42);
            assert_eq!((header.request_api_key, header.request_api_version), (0, 9));
            assert_eq!(header.client_id.unwrap().as_str(), CLIENT_ID);
            let request = ProduceRequest::decode(&mut bytes, 9).unwrap();
            assert!(bytes.is_empty());
            assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
            assert_eq!(request.topic_data.len(), 1);
            let topic = &request.topic_data[0];
            assert_eq!(topic.name.as_str(), "some-topic");
            assert_eq!(topic.partition_data.len(), batches);
            for (i, data) in topic.partition_data.iter().enumerate() {
                assert_eq!(data.index, i as i32);
                let mut records = data.records.clone().unwrap();
                let set = RecordBatchDecoder::decode(&mut records).unwrap();
                assert_eq!(set.records.len(), pool.records_per_batch as usize);
            }
        }
    }

    #[test]
    fn answers_as_the_crate_encodes_them() {
        let partition = |index: i32, code: i16, offset: i64| {
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(code)
                .with_base_offset(offset)
                .with_record_errors(vec![BatchIndexAndErrorMessage::default()])
                .with_error_message(Some(StrBytes::from_static_str("why")))
        };
        let topic = TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partition_responses(vec![partition(4, 0, 77), partition(5, 6, -1)]);
        let mut encoded = BytesMut::from(&[0, 0, 0, 9, 0][..]); // correlation id 9, no tags
        ProduceResponse::default()
            .with_responses(vec![topic])
            .encode(&mut encoded, 9)
            .unwrap();

        let mut acks = Vec::new();
        assert_eq!(read_produce_answer(&encoded, |ack| acks.push(ack)), Ok(9));
        assert_eq!(
            acks,
            [
                ProduceAck {
                    partition: 4,
                    code: 0,
                    base_offset: 77
                },
                ProduceAck {
                    partition: 5,
                    code: 6,
                    base_offset: -1
                }
            ]
        );
        for length in 0..encoded.len() {
            assert_eq!(
                read_produce_answer(&encoded[..length], |_| ()),
                Err(Truncated)
            );
        }
    }
}
