//! One producing connection. Hot path: per request one clock reading, one frame built in place, one
//! vectored write, and for its answer one lock that nobody else wants.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pacer::Gate;
use crate::batch::{Identity, ProducerFields, SharedPool, now_ms};
use crate::client::connection::{open_stream, read_frame};
use crate::client::frame::{ProduceAck, ProduceFrame, read_produce_answer};
use crate::error::{LoadError, Result};
use crate::histogram::LocalLatencies;
use crate::verify::Ledger;

const ANSWER_BYTES_MAX: usize = 16 << 20;
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// What all producing connections of a run share.
pub struct Run {
    pub topic: String,
    pub pool: SharedPool,
    pub acks: i16,
    pub batches_per_request: usize,
    /// A sequence of due times for each connection begins here.
    pub start: Instant,
    /// Acknowledgements count from here on; what comes before is warm-up.
    pub measure_from: Instant,
    /// Nanoseconds after `start` at which measuring ends.
    pub measure_to_ns: AtomicU64,
    /// Records that may still be sent.
    pub records_left: AtomicU64,
    pub measured: Measured,
}

/// What was acknowledged between warm-up and end.
#[derive(Default)]
pub struct Measured {
    pub requests: AtomicU64,
    pub batches: AtomicU64,
    /// Requests sent, and how many of them had to wait for an earlier acknowledgement.
    pub sent: AtomicU64,
    pub waited: AtomicU64,
}

impl Run {
    fn measures(&self, now: Instant) -> bool {
        now >= self.measure_from
            && (now - self.start).as_nanos()
                < u128::from(self.measure_to_ns.load(Ordering::Relaxed))
    }

    /// Ends measuring now.
    pub fn end_measuring(&self, now: Instant) {
        let ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        self.measure_to_ns.fetch_min(ns, Ordering::Relaxed);
    }

    /// Takes one request's records from what may still be sent.
    fn take_records(&self) -> bool {
        let wanted = u64::from(self.pool.records_per_batch) * self.batches_per_request as u64;
        let take = |left: u64| {
            (left > 0).then(|| {
                if left == u64::MAX {
                    left
                } else {
                    left.saturating_sub(wanted)
                }
            })
        };
        self.records_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// An open loop: when this connection's requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub first: Duration,
    pub interval: Duration,
}

/// One connection to one broker, and what it has sent.
pub struct Producer {
    pub run: Arc<Run>,
    pub gate: Arc<Gate>,
    address: String,
    schedule: Option<Schedule>,
    /// Id and epoch of an idempotent producer.
    idempotent: Option<(i64, i16)>,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    in_flight: VecDeque<InFlight>,
    latencies: LocalLatencies,
    errors: BTreeMap<i16, u64>,
    writer_done: bool,
}

struct InFlight {
    correlation_id: i32,
    /// When it was sent, or should have been.
    due: Instant,
    first_send: u64,
    batches: u64,
    answered: u64,
}

/// What is left of a producer when it has ended.
pub struct Outcome {
    pub ledger: Ledger,
    /// Refused batches by Kafka error code.
    pub errors: BTreeMap<i16, u64>,
}

impl Producer {
    pub fn new(
        run: Arc<Run>,
        gate: Arc<Gate>,
        address: &str,
        ledger: Ledger,
        latencies: LocalLatencies,
        schedule: Option<Schedule>,
        idempotent: Option<(i64, i16)>,
    ) -> Self {
        assert!(!ledger.partitions.is_empty() && ledger.sent == 0);
        let state = State {
            ledger,
            in_flight: VecDeque::new(),
            latencies,
            errors: BTreeMap::new(),
            writer_done: false,
        };
        let state = Mutex::new(state);
        Producer {
            run,
            gate,
            address: address.to_string(),
            schedule,
            idempotent,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the account: what is still in flight counts as not acknowledged.
    pub fn outcome(&self) -> Outcome {
        let mut state = self.state();
        while let Some(request) = state.in_flight.pop_front() {
            let sends = request.first_send..request.first_send + request.batches;
            state.ledger.unacknowledged.extend(sends);
        }
        state.latencies.flush();
        Outcome {
            ledger: state.ledger.clone(),
            errors: state.errors.clone(),
        }
    }

    pub async fn connect(&self) -> Result<TcpStream> {
        open_stream(&self.address).await
    }

    /// Sends until the gate closes or the records are used up, then waits for what is in flight.
    pub async fn produce(&self, mut stream: TcpStream) -> Result<()> {
        let (mut read_half, mut write_half) = stream.split();
        let reader = self.read_answers(&mut read_half);
        let writer = self.write_requests(&mut write_half);
        tokio::pin!(reader, writer);
        tokio::select! {
            ended = &mut reader => return ended,
            ended = &mut writer => ended.map_err(|cause| self.lost(cause))?,
        }
        let drained = {
            let mut state = self.state();
            state.writer_done = true;
            state.in_flight.is_empty()
        };
        if drained { Ok(()) } else { reader.await }
    }

    async fn write_requests(&self, stream: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        let run = &*self.run;
        let mut frame = ProduceFrame::new(&run.topic, run.acks, REQUEST_TIMEOUT_MS);
        for request in 0u32.. {
            let scheduled = self
                .schedule
                .map(|schedule| run.start + schedule.first + schedule.interval * request);
            if let Some(due) = scheduled
                && !self.gate.wait_until(due).await
            {
                break;
            }
            let Some(waited) = self.take_permit().await else {
                break;
            };
            if !run.take_records() {
                break;
            }
            let now = Instant::now();
            if run.measures(now) {
                run.measured.sent.fetch_add(1, Ordering::Relaxed);
                run.measured
                    .waited
                    .fetch_add(u64::from(waited), Ordering::Relaxed);
            }
            self.build(&mut frame, request as i32, scheduled.unwrap_or(now));
            frame.write(stream).await?;
            if run.acks == 0 {
                self.account_unanswered();
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Whether there was a wait for a place in flight; `None` once the gate is closed.
    async fn take_permit(&self) -> Option<bool> {
        let (permit, waited) = match self.gate.permits.try_acquire() {
            Ok(permit) => (permit, false),
            Err(_) => (self.gate.permits.acquire().await.ok()?, true),
        };
        permit.forget();
        Some(waited)
    }

    /// Builds the next request and books it as in flight.
    fn build(&self, frame: &mut ProduceFrame, correlation_id: i32, due: Instant) {
        let run = &*self.run;
        let batches = run.batches_per_request as u64;
        let timestamp_ms = now_ms();
        let mut state = self.state();
        let first_send = state.ledger.sent;
        frame.begin(correlation_id, run.batches_per_request);
        for send in first_send..first_send + batches {
            let (partition, sequence) = (
                state.ledger.partition_of(send),
                state.ledger.sequence_of(send),
            );
            let identity = Identity {
                connection: state.ledger.connection,
                partition,
                sequence,
            };
            let producer = self.producer_fields(sequence);
            frame.add(partition, run.pool.batch_bytes(), |out| {
                run.pool.stamp(send, identity, producer, timestamp_ms, out)
            });
        }
        frame.finish();
        state.ledger.sent += batches;
        state.in_flight.push_back(InFlight {
            correlation_id,
            due,
            first_send,
            batches,
            answered: 0,
        });
    }

    fn producer_fields(&self, sequence: u64) -> ProducerFields {
        self.idempotent.map_or(ProducerFields::NONE, |(id, epoch)| {
            // Record sequences wrap from i32::MAX to 0.
            let base = sequence.wrapping_mul(u64::from(self.run.pool.records_per_batch));
            ProducerFields {
                id,
                epoch,
                base_sequence: (base & 0x7fff_ffff) as i32,
            }
        })
    }

    /// With acks=0 there is no answer: written is done, but nothing is acknowledged.
    fn account_unanswered(&self) {
        let mut state = self.state();
        if let Some(request) = state.in_flight.pop_front() {
            let sends = request.first_send..request.first_send + request.batches;
            state.ledger.unacknowledged.extend(sends);
            if self.run.measures(Instant::now()) {
                self.run.measured.requests.fetch_add(1, Ordering::Relaxed);
                self.run
                    .measured
                    .batches
                    .fetch_add(request.batches, Ordering::Relaxed);
            }
        }
        self.gate.permits.add_permits(1);
    }

    async fn read_answers(&self, stream: &mut (impl AsyncReadExt + Unpin)) -> Result<()> {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        loop {
            let answer = read_frame(stream, &mut buffer, ANSWER_BYTES_MAX).await;
            let answer = answer.map_err(|cause| self.lost(cause))?;
            self.account(&answer)?;
            self.gate.permits.add_permits(1);
            let state = self.state();
            if state.writer_done && state.in_flight.is_empty() {
                return Ok(());
            }
        }
    }

    fn account(&self, answer: &[u8]) -> Result<()> {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        let Some(mut request) = state.in_flight.pop_front() else {
            return Err(self.malformed("an answer to no request"));
        };
        let (mut accepted, mut refused, mut stray) = (0, None, false);
        let read = read_produce_answer(answer, |ack| {
            match find_send(&mut request, &state.ledger, ack) {
                None => stray = true,
                Some(send) => match ResponseError::try_from_code(ack.code) {
                    None => accepted += 1,
                    Some(error) => {
                        *state.errors.entry(ack.code).or_insert(0) += 1;
                        state.ledger.unacknowledged.insert(send);
                        if !error.is_retriable() {
                            refused = Some((ack.partition, error));
                        }
                    }
                },
            }
        });
        match read {
            Ok(id) if id != request.correlation_id => {
                return Err(self.malformed("an answer out of order"));
            }
            Ok(_) if stray || request.answered != request.batches => {
                return Err(self.malformed("an answer for other partitions than were asked"));
            }
            Ok(_) => {}
            Err(_) => return Err(self.malformed("a produce answer that ends too early")),
        }
        if let Some((partition, error)) = refused {
            let doing = format!("producing to {} partition {partition}", self.run.topic);
            return Err(LoadError::Broker {
                doing,
                error,
                detail: None,
            });
        }
        if accepted > 0 && self.run.measures(now) {
            self.run.measured.requests.fetch_add(1, Ordering::Relaxed);
            self.run
                .measured
                .batches
                .fetch_add(accepted, Ordering::Relaxed);
            state
                .latencies
                .record(now.saturating_duration_since(request.due));
        }
        Ok(())
    }

    fn lost(&self, cause: io::Error) -> LoadError {
        LoadError::Lost {
            address: self.address.clone(),
            cause,
        }
    }

    fn malformed(&self, what: &str) -> LoadError {
        LoadError::Malformed {
            address: self.address.clone(),
            what: what.to_string(),
        }
    }
}

/// The send that an acknowledgement is for. Brokers answer in the order of the request, which is
/// tried first.
fn find_send(request: &mut InFlight, ledger: &Ledger, ack: ProduceAck) -> Option<u64> {
    let sends = request.first_send..request.first_send + request.batches;
    let matches = |send: &u64| i64::from(ledger.partition_of(*send)) == i64::from(ack.partition);
    let expected = request.first_send + request.answered;
    request.answered += 1;
    if sends.contains(&expected) && matches(&expected) {
        return Some(expected);
    }
    sends.clone().find(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Pool;
    use crate::histogram::Latencies;
    use crate::scenario::pacer::Pacer;

    fn producer(acks: i16) -> (Producer, Latencies) {
        let start = Instant::now();
        let run = Run {
            topic: "t".into(),
            pool: Arc::new(Pool::new(1, 100, 250)),
            acks,
            batches_per_request: 2,
            start,
            measure_from: start,
            measure_to_ns: AtomicU64::new(u64::MAX),
            records_left: AtomicU64::new(u64::MAX),
            measured: Measured::default(),
        };
        let latencies = Latencies::new();
        let ledger = Ledger {
            connection: 0,
            partitions: vec![4, 5, 6],
            ..Ledger::default()
        };
        let gate = Pacer::new(start).gate(5, None);
        let local = latencies.local();
        (
            Producer::new(Arc::new(run), gate, "x:1", ledger, local, None, None),
            latencies,
        )
    }

    fn answer(correlation_id: i32, partitions: &[(i32, i16)]) -> Vec<u8> {
        use kafka_protocol::messages::ProduceResponse;
        use kafka_protocol::messages::produce_response::*;
        use kafka_protocol::protocol::Encodable;
        let each = partitions.iter().map(|(index, code)| {
            PartitionProduceResponse::default()
                .with_index(*index)
                .with_error_code(*code)
        });
        let topic = TopicProduceResponse::default().with_partition_responses(each.collect());
        let mut out = BytesMut::from(&correlation_id.to_be_bytes()[..]);
        out.extend_from_slice(&[0]);
        ProduceResponse::default()
            .with_responses(vec![topic])
            .encode(&mut out, 9)
            .unwrap();
        out.to_vec()
    }

    fn send(producer: &Producer, correlation_id: i32) {
        let mut frame = ProduceFrame::new("t", -1, 1);
        producer.build(&mut frame, correlation_id, Instant::now());
    }

    #[test]
    fn acknowledgements_are_booked() {
        let (producer, latencies) = producer(-1);
        (0..3).for_each(|id| send(&producer, id));
        producer.account(&answer(0, &[(4, 0), (5, 0)])).unwrap();
        producer.account(&answer(1, &[(4, 0), (6, 6)])).unwrap(); // not the leader: retriable
        let outcome = producer.outcome();
        assert_eq!(outcome.errors, BTreeMap::from([(6, 1)]));
        assert_eq!(outcome.ledger.sent, 6);
        assert_eq!(outcome.ledger.unacknowledged, [2, 4, 5].into());
        assert_eq!(producer.run.measured.batches.load(Ordering::Relaxed), 3);
        assert_eq!(latencies.summary().count, 2);
    }

    #[test]
    fn wrong_answers_are_errors() {
        for (bytes, word) in [
            (answer(1, &[(4, 0), (5, 0)]), "order"),
            (answer(0, &[(4, 0)]), "partitions"),
            (answer(0, &[(4, 0), (6, 0)]), "partitions"),
            (answer(0, &[(4, 10), (5, 0)]), "--batch-bytes"),
            (vec![0, 0, 0, 0], "early"),
        ] {
            let (producer, _) = producer(-1);
            send(&producer, 0);
            let error = producer.account(&bytes).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let (producer, _) = producer(-1);
        let error = producer.account(&answer(0, &[])).unwrap_err().to_string();
        assert!(error.contains("no request"), "{error}");
    }

    #[test]
    fn records_that_may_be_sent_run_out() {
        let (producer, _) = producer(-1);
        let per_request = u64::from(producer.run.pool.records_per_batch) * 2;
        producer
            .run
            .records_left
            .store(per_request + 1, Ordering::Relaxed);
        assert!(producer.run.take_records());
        assert!(producer.run.take_records());
        assert!(!producer.run.take_records());
    }
}
