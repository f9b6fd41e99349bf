//! What a search of a whole log for the record with the highest timestamp found, so that the next one
//! only looks at what came since.

use std::collections::HashMap;
use std::sync::Mutex;

use ottla_proto::ids::PartitionId;
use ottla_proto::limits::NEWEST_RECORDS;

/// A record's offset and timestamp, and where the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    pub best: Option<(i64, i64)>,
    pub up_to: i64,
}

impl Searched {
    pub fn nothing(up_to: i64) -> Searched {
        Searched { best: None, up_to }
    }
}

#[derive(Default)]
pub struct Newest(Mutex<HashMap<PartitionId, Searched>>);

impl Newest {
    /// What is known of a log that begins at `log_start_offset`: nothing, if the record was deleted with
    /// its front. Whether compaction has left it the caller has to see.
    pub fn get(&self, partition: PartitionId, log_start_offset: i64) -> Searched {
        let known = self.0.lock().expect("never poisoned");
        let found = known.get(&partition).copied();
        found
            .filter(|s| s.best.is_some_and(|(offset, _)| offset >= log_start_offset))
            .unwrap_or(Searched::nothing(log_start_offset))
    }

    pub fn put(&self, partition: PartitionId, searched: Searched) {
        let mut known = self.0.lock().expect("never poisoned");
        if known.len() >= NEWEST_RECORDS && !known.contains_key(&partition) {
            known.clear();
        }
        known.insert(partition, searched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_on_where_the_last_one_ended() {
        let newest = Newest::default();
        let nothing = Searched::nothing;
        assert_eq!(newest.get(PartitionId(1), 5), nothing(5));
        let searched = Searched {
            best: Some((7, 1000)),
            up_to: 20,
        };
        newest.put(PartitionId(1), searched);
        assert_eq!(newest.get(PartitionId(1), 7), searched);
        assert_eq!(newest.get(PartitionId(1), 8), nothing(8), "it was deleted");
        assert_eq!(newest.get(PartitionId(2), 0), nothing(0));
        for n in 0..2 * NEWEST_RECORDS as u64 {
            newest.put(PartitionId(n), searched);
        }
        assert!(newest.0.lock().unwrap().len() <= NEWEST_RECORDS);
    }
}
