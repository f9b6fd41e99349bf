//! The last offset of each key, in memory of a fixed size.
//!
//! A key is known by a 128-bit hash under a random key of the map's own (two finishes of SipHash-1-3,
//! the standard library's, over one reading of the key), so that nobody can make two keys collide: by
//! chance, two of a billion do so once in 10^20 maps. A slot takes 24 bytes. Open addressing, linear
//! probing; nothing is ever removed.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes of one slot.
pub const SLOT_BYTES: usize = size_of::<Slot>();
/// Fuller than this, probing gets long.
const LOAD_FACTOR_MAX: f64 = 0.95;
const LOAD_FACTOR_MIN: f64 = 0.1;

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: [u64; 2],
    /// The offset and one; 0 is an empty slot.
    next_offset: u64,
}

pub struct OffsetMap {
    hashing: RandomState,
    slots: Vec<Slot>,
    used: usize,
    /// Keys that the map takes.
    capacity: usize,
}

/// The map holds as many keys as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl OffsetMap {
    /// A map in at most `max_bytes`, of which `load_factor` may be in use, and no larger than it takes
    /// for `keys` keys. It holds at least one.
    pub fn new(max_bytes: usize, load_factor: f64, keys: u64) -> OffsetMap {
        let load = load_factor.clamp(LOAD_FACTOR_MIN, LOAD_FACTOR_MAX);
        let wanted = (keys.min(1 << 40) as f64 / load).ceil() as usize + 1;
        let slots = (max_bytes / SLOT_BYTES).min(wanted).max(2);
        let capacity = ((slots as f64 * load) as usize).clamp(1, slots - 1);
        OffsetMap {
            hashing: RandomState::new(),
            // Zeroed by the system when first touched.
            slots: vec![Slot::default(); slots],
            used: 0,
            capacity,
        }
    }

    /// Notes that `key` stands at `offset`, which must not be below any offset noted before.
    pub fn put(&mut self, key: &[u8], offset: i64) -> Result<(), Full> {
        let hash = self.hash(key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.next_offset == 0 {
            if self.used == self.capacity {
                return Err(Full);
            }
            self.used += 1;
            slot.hash = hash;
        }
        debug_assert!(slot.next_offset <= next(offset), "offsets ascend");
        slot.next_offset = next(offset);
        Ok(())
    }

    /// The last offset of `key`.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let slot = &self.slots[self.find(self.hash(key))];
        slot.next_offset.checked_sub(1).map(|offset| offset as i64)
    }

    /// How much of what the map takes is taken, 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.used as f64 / self.capacity as f64
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut first = self.hashing.build_hasher();
        first.write(key);
        let mut second = first.clone();
        first.write_u8(0);
        second.write_u8(1);
        [first.finish(), second.finish()]
    }

    /// The slot of a hash, or the empty one where it would be. There is one: the map is never full.
    fn find(&self, hash: [u64; 2]) -> usize {
        // The high half of a product spreads the hash over any number of slots.
        let slots = self.slots.len();
        let mut at = ((hash[0] as u128 * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot.next_offset == 0 || slot.hash == hash {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

fn next(offset: i64) -> u64 {
    offset as u64 + 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..4), 0..300),
            slots in 2usize..200, load in 0.0f64..1.2,
        ) {
            let mut map = OffsetMap::new(slots * SLOT_BYTES, load, u64::MAX);
            let mut model: HashMap<Vec<u8>, i64> = HashMap::new();
            for (offset, key) in (0i64..).zip(&keys) {
                match map.put(key, offset) {
                    Ok(()) => drop(model.insert(key.clone(), offset)),
                    Err(Full) => prop_assert!(!model.contains_key(key) && !model.is_empty()),
                }
                for key in &keys {
                    prop_assert_eq!(map.get(key), model.get(key).copied());
                }
            }
            prop_assert!(map.utilization() <= 1.0);
        }
    }

    #[test]
    fn it_takes_as_many_keys_as_it_says_and_no_more_memory() {
        let keys = |bytes, load, wanted| {
            let mut map = OffsetMap::new(bytes, load, wanted);
            let taken = (0..).take_while(|i: &i64| map.put(&i.to_be_bytes(), *i).is_ok());
            (taken.count(), map.slots.len())
        };
        assert_eq!(keys(2400, 0.9, u64::MAX), (90, 100));
        assert_eq!(keys(0, 0.9, u64::MAX), (1, 2));
        let (taken, slots) = keys(1 << 20, 0.9, 100);
        assert!(
            (100..=102).contains(&taken) && slots < 120,
            "{taken} {slots}"
        );
    }
}
