//! Answers of one connection, in the order of its requests. Hot path: one vectored write takes the
//! slices of an answer to the socket.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla_proto::limits::{
    CLOSED_CLIENT_LATE_WAIT_MS, CLOSED_CLIENT_WAIT_MS, FETCH_ROOM_BYTES_MIN, RESPONSE_WAIT_MS,
    SLOW_ANSWER_BYTES_MIN, SLOW_ANSWER_MS, WRITE_SLICES,
};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{Malformed, Pending, Reply};
use crate::room::Room;
use crate::services::Services;

/// A request that waits for its turn to be answered.
pub(super) struct Queued {
    pending: Pending,
    /// Its frame's memory, held until there is an answer.
    room: Room,
    began: Instant,
}

impl Queued {
    /// `room` is given back at once if nothing of the frame is needed any more.
    pub(super) fn new(pending: Pending, room: Room) -> Queued {
        let room = if pending.holds_frame {
            room
        } else {
            Room::new()
        };
        let began = Instant::now();
        Queued {
            pending,
            room,
            began,
        }
    }
}

pub(super) struct Writer {
    write: OwnedWriteHalf,
    answers: mpsc::Receiver<Queued>,
    gone: watch::Receiver<bool>,
    services: Arc<Services>,
    /// How long an answer may take once the client sends nothing more.
    patience: Duration,
}

impl Writer {
    pub(super) fn new(
        write: OwnedWriteHalf,
        answers: mpsc::Receiver<Queued>,
        gone: watch::Receiver<bool>,
        services: Arc<Services>,
    ) -> Writer {
        Writer {
            write,
            answers,
            gone,
            services,
            patience: Duration::from_millis(CLOSED_CLIENT_WAIT_MS),
        }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut is_complete = true;
        while let Some(queued) = self.answers.recv().await {
            let Queued {
                pending,
                room,
                began,
            } = queued;
            let counts = &pending.api.counts;
            let reply = self.outcome(pending).await;
            drop(room);
            match reply {
                Some(reply) if is_complete => {
                    self.send(reply.map_err(io::Error::other)?).await?;
                    counts.answered(began.elapsed());
                }
                // Answers come in order, or not at all. The requests are carried out all the same.
                _ => is_complete = false,
            }
        }
        Ok(())
    }

    /// The answer; `None` if it keeps a client waiting that has gone.
    async fn outcome(&mut self, pending: Pending) -> Option<Result<Reply, Malformed>> {
        let mut answer = pending.answer;
        tokio::select! {
            biased;
            reply = &mut answer => return Some(reply),
            _ = self.gone.wait_for(|gone| *gone) => {}
        }
        let reply = timeout(self.patience, answer).await.ok();
        if reply.is_none() {
            self.patience = Duration::from_millis(CLOSED_CLIENT_LATE_WAIT_MS);
        }
        reply
    }

    /// Writes all segments. Memory is given back as it is taken.
    async fn send(&mut self, reply: Reply) -> io::Result<()> {
        let Reply {
            mut segments,
            permit,
        } = reply;
        let mut pace = None;
        let mut held = permit;
        let mut first = 0;
        while first < segments.len() {
            let end = segments.len().min(first + WRITE_SLICES);
            let slices: Vec<IoSlice> = segments[first..end]
                .iter()
                .map(|s| IoSlice::new(s))
                .collect();
            let pace = pace.get_or_insert_with(Pace::new);
            let written = timeout_at(pace.ends, self.write.write_vectored(&slices)).await;
            let mut written = match written {
                Ok(written) => written?,
                Err(_) => 0,
            };
            if written == 0 && slices_are_empty(&slices) {
                first = end;
                continue;
            }
            pace.taken += written;
            while first < segments.len() && written >= segments[first].len() {
                written -= segments[first].len();
                segments[first] = Bytes::new();
                first += 1;
            }
            if let Some(partly) = segments.get_mut(first) {
                partly.advance(written);
                if Instant::now() >= pace.ends {
                    let left = segments[first..].iter().map(Bytes::len).sum();
                    pace.next(&self.services, &mut held, left)?;
                }
            }
        }
        drop(held);
        metrics::counter!("kafka_server_socketservermetrics_responses_total").increment(1);
        Ok(())
    }
}

fn slices_are_empty(slices: &[IoSlice]) -> bool {
    slices.iter().all(|slice| slice.is_empty())
}

/// How fast a client takes an answer.
struct Pace {
    ends: Instant,
    taken: usize,
    silent_ms: u64,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            ends: Instant::now() + Duration::from_millis(SLOW_ANSWER_MS),
            taken: 0,
            silent_ms: 0,
        }
    }

    /// The client is slow: from now on, what the answer keeps in memory counts, and the client may
    /// have to go for others.
    fn next(
        &mut self,
        services: &Services,
        held: &mut Option<OwnedSemaphorePermit>,
        left: usize,
    ) -> io::Result<()> {
        self.silent_ms = match self.taken {
            0 => self.silent_ms + SLOW_ANSWER_MS,
            _ => 0,
        };
        let room = &services.fetch_room;
        let must_go = match held {
            _ if self.silent_ms >= RESPONSE_WAIT_MS => true,
            None if left <= FETCH_ROOM_BYTES_MIN => false,
            None => {
                *held = room.try_charge(left);
                held.is_none()
            }
            Some(permit) => {
                let more_than_left = permit.num_permits().saturating_sub(left);
                drop(permit.split(more_than_left));
                self.taken < SLOW_ANSWER_BYTES_MIN && room.is_short()
            }
        };
        if must_go {
            metrics::counter!("ottla_connections_slow_closed_total").increment(1);
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.ends = Instant::now() + Duration::from_millis(SLOW_ANSWER_MS);
        self.taken = 0;
        Ok(())
    }
}
