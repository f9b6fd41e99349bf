//! A sorted map whose copies share what they have in common.
//!
//! Entries live in sorted chunks of up to [`CHUNK`], each behind an `Arc`: a clone costs one
//! reference per chunk, and a write copies the one chunk it lands in, unless no other map shares it.
//! So an image with 100,000 partitions is derived from its predecessor by copying a few hundred
//! pointers and a few hundred entries.
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Entries per chunk: a write copies at most this many.
const CHUNK: usize = 256;

pub struct SharedMap<K, V> {
    /// Never an empty chunk; keys ascend within and across chunks.
    chunks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, found) = self.find(key)?;
        let index = found.ok()?;
        Some(&mut Arc::make_mut(&mut self.chunks[chunk])[index].1)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((chunk, found)) = self.find(&key) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let entries = Arc::make_mut(&mut self.chunks[chunk]);
        let index = match found {
            Ok(index) => return Some(std::mem::replace(&mut entries[index].1, value)),
            Err(index) => index,
        };
        entries.insert(index, (key, value));
        self.len += 1;
        if entries.len() > CHUNK {
            // Ids ascend: a full last chunk stays full, others split in the middle.
            let at_end = chunk + 1 == self.chunks.len() && index == CHUNK;
            let entries = Arc::make_mut(&mut self.chunks[chunk]);
            let tail = entries.split_off(if at_end { CHUNK } else { CHUNK / 2 });
            self.chunks.insert(chunk + 1, Arc::new(tail));
        }
        None
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, found) = self.find(key)?;
        let index = found.ok()?;
        let entries = Arc::make_mut(&mut self.chunks[chunk]);
        let (_, value) = entries.remove(index);
        self.len -= 1;
        if entries.is_empty() {
            self.chunks.remove(chunk);
        } else if entries.len() < CHUNK / 4 {
            self.merge_into_previous(chunk);
        }
        Some(value)
    }

    /// Keeps the number of chunks in proportion to the number of entries.
    fn merge_into_previous(&mut self, chunk: usize) {
        let Some(previous) = chunk.checked_sub(1) else {
            return;
        };
        if self.chunks[previous].len() + self.chunks[chunk].len() <= CHUNK * 3 / 4 {
            let tail = Arc::unwrap_or_clone(self.chunks.remove(chunk));
            Arc::make_mut(&mut self.chunks[previous]).extend(tail);
        }
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, found) = self.find(key)?;
        Some(&self.chunks[chunk][found.ok()?].1)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Entries whose keys are `from` or greater, in key order.
    pub fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        from: &Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, Q, K, V>
    where
        K: Borrow<Q>,
    {
        let (chunk, index) = match self.find(from) {
            Some((chunk, Ok(index) | Err(index))) => (chunk, index),
            None => (0, 0),
        };
        let rest = self.chunks.get(chunk + 1..).unwrap_or_default();
        let first = self.chunks.get(chunk).map_or(&[][..], |c| &c[index..]);
        first
            .iter()
            .chain(rest.iter().flat_map(|c| c.iter()))
            .map(|(k, v)| (k, v))
    }

    /// The chunk that holds or should hold `key`, and its place there; `None` if the map is empty.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(usize, Result<usize, usize>)>
    where
        K: Borrow<Q>,
    {
        let last = self.chunks.len().checked_sub(1)?;
        let below = |chunk: &Arc<Vec<(K, V)>>| {
            let (greatest, _) = chunk.last().expect("no chunk is empty");
            greatest.borrow().cmp(key) == Ordering::Less
        };
        let chunk = self.chunks.partition_point(below).min(last);
        let found = self.chunks[chunk].binary_search_by(|(k, _)| k.borrow().cmp(key));
        Some((chunk, found))
    }
}

impl<K, V> SharedMap<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks
            .iter()
            .flat_map(|c| c.iter())
            .map(|(k, v)| (k, v))
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, v)| v)
    }

    /// The entry with the greatest key.
    pub fn last(&self) -> Option<(&K, &V)> {
        let (key, value) = self.chunks.last()?.last()?;
        Some((key, value))
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u16),
        Remove(u16),
        Bump(u16),
        Clone,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u16..2000, any::<u16>()).prop_map(|(k, v)| Step::Insert(k, v)),
            4 => (0u16..2000).prop_map(Step::Remove),
            2 => (0u16..2000).prop_map(Step::Bump),
            1 => Just(Step::Clone),
        ]
    }

    fn check(map: &SharedMap<u16, u16>, model: &BTreeMap<u16, u16>) {
        assert!(map.iter().eq(model.iter()));
        assert_eq!(map.len(), model.len());
        assert!(map.chunks.iter().all(|c| (1..=CHUNK).contains(&c.len())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn behaves_like_a_btree_map(steps in prop::collection::vec(step(), 0..3000), from in 0u16..2000) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut older = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(k, v) => prop_assert_eq!(map.insert(k, v), model.insert(k, v)),
                    Step::Remove(k) => prop_assert_eq!(map.remove(&k), model.remove(&k)),
                    Step::Bump(k) => {
                        let (ours, theirs) = (map.get_mut(&k), model.get_mut(&k));
                        prop_assert_eq!(ours.as_deref(), theirs.as_deref());
                        if let (Some(ours), Some(theirs)) = (ours, theirs) {
                            *ours = ours.wrapping_add(1);
                            *theirs = theirs.wrapping_add(1);
                        }
                    }
                    Step::Clone => older.push((map.clone(), model.clone())),
                }
            }
            older.push((map, model));
            for (map, model) in &older {
                check(map, model);
                prop_assert!(map.range_from(&from).eq(model.range(from..)));
                prop_assert_eq!(map.get(&from), model.get(&from));
                prop_assert_eq!(map.last(), model.last_key_value());
            }
        }
    }

    #[test]
    fn a_write_copies_one_chunk() {
        let mut map = SharedMap::default();
        for key in 0..10 * CHUNK {
            map.insert(key, 0);
        }
        let before = map.clone();
        *map.get_mut(&5).unwrap() = 1;
        let shared = map.chunks.iter().zip(&before.chunks);
        assert_eq!(shared.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!(before.get(&5), Some(&0));
    }

    #[test]
    fn ascending_keys_fill_their_chunks() {
        let mut map = SharedMap::default();
        for key in 0..10 * CHUNK {
            map.insert(key, ());
        }
        assert_eq!(map.chunks.len(), 10);
    }
}
