//! Memory that connections share: for requests that are being read, and for records on their way
//! out. Each kind has its own room, so that none can take another's.

use std::sync::Arc;
use std::time::Duration;

use ottla_proto::limits::{
    ANSWER_ROOM_WAIT_MS, FETCH_ROOM_BYTES_MIN, FETCHES_OF_FULL_SIZE, LARGE_ANSWER_BYTES,
    LARGE_ANSWERS, ORDINARY_REQUEST_BYTES, OTHER_REQUEST_BYTES, READ_BUFFER_BYTES,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// What a request holds until it is answered or its records are handed on.
pub type Room = Vec<OwnedSemaphorePermit>;

/// Memory of requests larger than `READ_BUFFER_BYTES`. Room for a large Produce is taken at once, as
/// holding some of it while waiting for more could block everyone; ordinary ones take it as their
/// bytes come, and the last part can come out of a room that each leaves without waiting again.
pub struct RequestRoom {
    large: Pool,
    ordinary: Pool,
    last: Pool,
    other: Pool,
    largest_bytes: usize,
}

struct Pool {
    permits: Arc<Semaphore>,
    bytes: usize,
}

impl Pool {
    fn new(bytes: usize) -> Pool {
        let bytes = bytes.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Pool {
            permits: Arc::new(Semaphore::new(bytes)),
            bytes,
        }
    }

    async fn reserve(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = bytes.min(self.bytes) as u32;
        let permit = self.permits.clone().acquire_many_owned(bytes).await;
        permit.expect("the semaphore is never closed")
    }

    fn try_reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.permits.clone().try_acquire_many_owned(bytes).ok()
    }

    fn available(&self) -> usize {
        self.permits.available_permits()
    }
}

impl RequestRoom {
    /// Divides `total_bytes` so that a request of `request_max_bytes` fits if that leaves enough for
    /// others.
    pub fn new(total_bytes: usize, request_max_bytes: usize) -> RequestRoom {
        let large = (total_bytes / 2).max(request_max_bytes.min(total_bytes / 8 * 5));
        let (other, last) = (total_bytes / 8, total_bytes / 16);
        RequestRoom {
            large: Pool::new(large),
            ordinary: Pool::new(total_bytes - large - other - last),
            last: Pool::new(last),
            other: Pool::new(other),
            largest_bytes: request_max_bytes.min(large),
        }
    }

    /// The largest request that is taken; only Produce carries records.
    pub fn largest_bytes(&self, is_produce: bool) -> usize {
        match is_produce {
            true => self.largest_bytes,
            false => {
                let most = OTHER_REQUEST_BYTES.min(self.other.bytes);
                self.largest_bytes.min(most.max(READ_BUFFER_BYTES))
            }
        }
    }

    /// Room for the next bytes of a request of which `had` of `length` bytes have come, and how many
    /// they are. Waits while others have it.
    pub async fn next(
        &self,
        is_produce: bool,
        had: usize,
        length: usize,
    ) -> (OwnedSemaphorePermit, usize) {
        let rest = length - had;
        if !is_produce {
            return (self.other.reserve(rest).await, rest);
        }
        if length > ORDINARY_REQUEST_BYTES.min(self.last.bytes) {
            return (self.large.reserve(rest).await, rest);
        }
        let step = if self.ordinary.available() > self.ordinary.bytes / 2 {
            rest
        } else {
            had.min(rest)
        };
        if let Some(permit) = self.ordinary.try_reserve(step) {
            return (permit, step);
        }
        tokio::select! {
            biased;
            permit = self.ordinary.reserve(step) => (permit, step),
            permit = self.last.reserve(rest) => (permit, rest),
        }
    }
}

/// Memory of answers: records that were read from disk or that a slow client keeps in memory, and
/// whatever else is large.
pub struct FetchRoom {
    answers: Pool,
    searches: Pool,
    /// Large answers that are being made; what they take then is in no pool yet.
    places: Arc<Semaphore>,
}

impl FetchRoom {
    pub fn new(total_bytes: usize) -> FetchRoom {
        let searches = total_bytes / 8;
        FetchRoom {
            answers: Pool::new(total_bytes - searches),
            searches: Pool::new(searches),
            places: Arc::new(Semaphore::new(LARGE_ANSWERS)),
        }
    }

    /// The largest answer without records.
    pub fn answer_bytes(&self) -> usize {
        LARGE_ANSWER_BYTES.min(self.answers.bytes / 2)
    }

    /// Waits for the turn to make a large answer.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        let place = self.places.clone().acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// Room for an answer of `bytes` that is in memory already. `None` if there is none in time.
    pub async fn charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wait = Duration::from_millis(ANSWER_ROOM_WAIT_MS);
        timeout(wait, self.answers.reserve(bytes)).await.ok()
    }

    /// The most that one fetch reads from disk.
    pub fn fetch_bytes(&self) -> usize {
        (self.answers.bytes / FETCHES_OF_FULL_SIZE).max(FETCH_ROOM_BYTES_MIN)
    }

    /// Room for up to `bytes`: less if there is not so much, and none if there is none before the
    /// deadline.
    pub async fn reserve(&self, bytes: usize, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let mut wanted = bytes.min(self.answers.bytes);
        loop {
            if let Some(permit) = self.answers.try_reserve(wanted) {
                return Some(permit);
            }
            if wanted <= FETCH_ROOM_BYTES_MIN {
                return timeout_at(deadline, self.answers.reserve(wanted))
                    .await
                    .ok();
            }
            wanted = (wanted / 2).max(FETCH_ROOM_BYTES_MIN);
        }
    }

    /// Room for `bytes` that are in memory already; a single batch may be larger than all of it.
    pub fn try_charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.answers.try_reserve(bytes.min(self.answers.bytes))
    }

    /// Others will soon have to wait for what slow clients hold.
    pub fn is_short(&self) -> bool {
        self.answers.available() < self.answers.bytes / 4
    }

    /// Waits for room to look for a record: no client can hold it.
    pub async fn reserve_search(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.searches.reserve(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MB: usize = 1 << 20;

    #[test]
    fn the_rooms_fit_the_whole() {
        for (total, largest) in [(192, 100), (128, 80), (64, 40), (32, 20)] {
            let room = RequestRoom::new(total * MB, 100 * MB);
            let pools = [&room.large, &room.ordinary, &room.last, &room.other];
            let sum: usize = pools.iter().map(|pool| pool.bytes).sum();
            assert_eq!(sum, total * MB);
            assert!(pools.iter().all(|pool| pool.bytes >= 2 * MB));
            assert_eq!(room.largest_bytes(true), largest * MB);
            assert!(room.largest_bytes(false) <= room.other.bytes);
        }
    }

    /// However much of the room is held by requests that wait for more, one of them goes on.
    #[tokio::test]
    async fn ordinary_requests_never_wait_for_each_other() {
        let room = RequestRoom::new(32 * MB, 100 * MB);
        let mut held = Vec::new();
        while let Some(permit) = room.ordinary.try_reserve(MB / 4) {
            held.push(permit);
        }
        let first = room.next(true, MB / 4, MB).now_or_never();
        assert_eq!(first.expect("the last room is free").1, MB / 4 * 3);
        let whole = room.next(true, MB / 4, 20 * MB).now_or_never();
        assert_eq!(
            whole.expect("large ones have their own").1,
            20 * MB - MB / 4
        );
    }

    #[tokio::test]
    async fn a_fetch_takes_what_there_is() {
        let room = FetchRoom::new(32 * MB);
        let now = Instant::now();
        let all = room.reserve(64 * MB, now).await.expect("it is free");
        assert_eq!(all.num_permits(), 28 * MB);
        assert!(room.is_short() && room.reserve(MB, now).await.is_none());
        assert!(room.reserve_search(4 * MB).now_or_never().is_some());
        drop(all);
        let _most = room.try_charge(27 * MB).expect("it is free");
        let some = room.reserve(8 * MB, now).await.expect("some is free");
        assert_eq!(some.num_permits(), MB);
    }
}
