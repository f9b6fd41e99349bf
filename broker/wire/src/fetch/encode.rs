//! The encoder. On the hot path: one buffer for the fixed parts, one list of segments.

use bytes::Bytes;

use super::{FetchResponse, NodeEndpoint, Partition, Segments, Topic, VERSIONS};
use crate::varint::put_unsigned;

/// Batches below this are copied into the fixed part: a segment of their own would cost more in the
/// list and in the kernel than these bytes do.
const COPY_BELOW_BYTES: usize = 512;

/// The first version with compact lengths and tagged fields.
const FLEXIBLE_SINCE: i16 = 12;
const ENDPOINTS_SINCE: i16 = 16;

/// Encodes an answer with its length and response header in front.
///
/// Panics if `version` is outside [`VERSIONS`], or the answer is not below 2 GiB: the caller has
/// checked the one and bounded the other.
pub fn encode(response: FetchResponse<'_>, version: i16, correlation_id: i32) -> Segments {
    assert!(VERSIONS.contains(&version), "the version is one we serve");
    debug_assert!(
        response.session_id == 0 || version >= 7,
        "no sessions before version 7"
    );
    let mut out = Encoder::new(version, fixed_size_estimate(&response));
    out.int32(0); // the frame's length, patched at the end
    out.int32(correlation_id);
    out.no_tagged_fields(); // of the response header, which is version 1 if flexible
    out.int32(response.throttle_time_ms);
    if version >= 7 {
        out.int16(response.error_code);
        out.int32(response.session_id);
    }
    out.count(response.topics.len());
    for topic in response.topics {
        out.topic(topic);
    }
    if version >= ENDPOINTS_SINCE && !response.node_endpoints.is_empty() {
        out.node_endpoints(&response.node_endpoints);
    } else {
        out.no_tagged_fields();
    }
    out.finish()
}

/// Enough for the fixed parts unless small batches and aborted transactions are many.
fn fixed_size_estimate(response: &FetchResponse<'_>) -> usize {
    const MESSAGE_BYTES: usize = 64;
    const TOPIC_BYTES: usize = 24;
    const PARTITION_BYTES: usize = 80;
    let topics = response.topics.iter();
    MESSAGE_BYTES
        + topics
            .map(|topic| TOPIC_BYTES + topic.name.len() + PARTITION_BYTES * topic.partitions.len())
            .sum::<usize>()
}

struct Encoder {
    version: i16,
    fixed: Vec<u8>,
    /// Record slices, each with the place in `fixed` that it goes to.
    records: Vec<(usize, Bytes)>,
}

impl Encoder {
    fn new(version: i16, capacity: usize) -> Encoder {
        Encoder {
            version,
            fixed: Vec::with_capacity(capacity),
            records: Vec::new(),
        }
    }

    fn topic(&mut self, topic: Topic<'_>) {
        if self.version >= 13 {
            self.fixed.extend_from_slice(topic.id.as_bytes());
        } else {
            self.string(topic.name);
        }
        self.count(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.no_tagged_fields();
    }

    fn partition(&mut self, mut partition: Partition) {
        self.int32(partition.index);
        self.int16(partition.error_code);
        self.int64(partition.high_watermark);
        self.int64(partition.last_stable_offset);
        if self.version >= 5 {
            self.int64(partition.log_start_offset);
        }
        match &partition.aborted_transactions {
            None => self.null_array(),
            Some(aborted) => {
                self.count(aborted.len());
                for transaction in aborted {
                    self.int64(transaction.producer_id);
                    self.int64(transaction.first_offset);
                    self.no_tagged_fields();
                }
            }
        }
        if self.version >= 11 {
            self.int32(partition.preferred_read_replica);
        }
        self.records(std::mem::take(&mut partition.records));
        if self.is_flexible() {
            put_partition_tagged_fields(&mut self.fixed, &partition);
        }
    }

    fn records(&mut self, records: Vec<Bytes>) {
        self.count(records.iter().map(Bytes::len).sum());
        for batch in records {
            if batch.len() < COPY_BELOW_BYTES {
                self.fixed.extend_from_slice(&batch);
            } else {
                self.records.push((self.fixed.len(), batch));
            }
        }
    }

    /// The message's tagged fields: node endpoints are tag 0, and the only one.
    fn node_endpoints(&mut self, endpoints: &[NodeEndpoint<'_>]) {
        let mut inner = Encoder::new(self.version, 64 * endpoints.len());
        inner.count(endpoints.len());
        for endpoint in endpoints {
            inner.int32(endpoint.node_id);
            inner.string(endpoint.host);
            inner.int32(endpoint.port);
            match endpoint.rack {
                Some(rack) => inner.string(rack),
                None => put_unsigned(&mut inner.fixed, 0),
            }
            inner.no_tagged_fields();
        }
        put_unsigned(&mut self.fixed, 1);
        put_tagged_field(&mut self.fixed, 0, &inner.fixed);
    }

    fn is_flexible(&self) -> bool {
        self.version >= FLEXIBLE_SINCE
    }

    fn no_tagged_fields(&mut self) {
        if self.is_flexible() {
            self.fixed.push(0);
        }
    }

    /// The count of an array, or the length of bytes.
    fn count(&mut self, count: usize) {
        let count = i32::try_from(count).expect("an answer is below 2 GiB");
        if self.is_flexible() {
            put_unsigned(&mut self.fixed, count as u32 + 1);
        } else {
            self.int32(count);
        }
    }

    fn null_array(&mut self) {
        if self.is_flexible() {
            self.fixed.push(0);
        } else {
            self.int32(-1);
        }
    }

    fn string(&mut self, text: &str) {
        let size = i16::try_from(text.len()).expect("names and hosts are below 32 KiB");
        if self.is_flexible() {
            put_unsigned(&mut self.fixed, size as u32 + 1);
        } else {
            self.int16(size);
        }
        self.fixed.extend_from_slice(text.as_bytes());
    }

    fn int16(&mut self, value: i16) {
        self.fixed.extend_from_slice(&value.to_be_bytes());
    }

    fn int32(&mut self, value: i32) {
        self.fixed.extend_from_slice(&value.to_be_bytes());
    }

    fn int64(&mut self, value: i64) {
        self.fixed.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes the frame's length, and cuts the fixed part where records go.
    fn finish(mut self) -> Segments {
        const LENGTH_BYTES: usize = 4;
        let records_size: usize = self.records.iter().map(|(_, batch)| batch.len()).sum();
        let size_bytes = self.fixed.len() + records_size;
        let length = i32::try_from(size_bytes - LENGTH_BYTES).expect("an answer is below 2 GiB");
        self.fixed[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());

        let mut rest = Bytes::from(self.fixed);
        let mut segments = Vec::with_capacity(2 * self.records.len() + 1);
        let mut cut = 0;
        for (at, batch) in self.records {
            if at > cut {
                segments.push(rest.split_to(at - cut));
                cut = at;
            }
            segments.push(batch);
        }
        if !rest.is_empty() {
            segments.push(rest);
        }
        Segments {
            segments,
            size_bytes,
        }
    }
}

/// A partition's tagged fields with their count: each is a struct without tagged fields of its own.
fn put_partition_tagged_fields(out: &mut Vec<u8>, partition: &Partition) {
    let diverging = partition.diverging_epoch.map(|e| {
        let mut value = [0; 13];
        value[..4].copy_from_slice(&e.epoch.to_be_bytes());
        value[4..12].copy_from_slice(&e.end_offset.to_be_bytes());
        value
    });
    let leader = partition.current_leader.map(|l| {
        let mut value = [0; 9];
        value[..4].copy_from_slice(&l.leader_id.to_be_bytes());
        value[4..8].copy_from_slice(&l.leader_epoch.to_be_bytes());
        value
    });
    let snapshot = partition.snapshot_id.map(|s| {
        let mut value = [0; 13];
        value[..8].copy_from_slice(&s.end_offset.to_be_bytes());
        value[8..12].copy_from_slice(&s.epoch.to_be_bytes());
        value
    });
    let fields = [
        diverging.as_ref().map(|value| &value[..]),
        leader.as_ref().map(|value| &value[..]),
        snapshot.as_ref().map(|value| &value[..]),
    ];
    put_unsigned(out, fields.iter().flatten().count() as u32);
    for (tag, value) in fields.iter().enumerate() {
        if let Some(value) = value {
            put_tagged_field(out, tag as u32, value);
        }
    }
}

fn put_tagged_field(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    put_unsigned(out, tag);
    put_unsigned(out, value.len() as u32);
    out.extend_from_slice(value);
}
