//! What becomes of objects once they are written.

use std::collections::BTreeSet;

use super::super::ledger::Segment;
use super::super::plan::OutputKey;
use super::{ObjectId, Outputs};

impl Outputs {
    /// An object is in the store. Panics if it was not writable: then exactly once is lost already.
    pub fn written(&mut self, id: ObjectId) {
        let object = self.planned.get_mut(&id).expect("a planned object");
        assert!(
            object.version <= self.durable && !object.done,
            "written before its plan, or twice"
        );
        object.done = true;
        let (key, in_cut) = (object.key, object.in_cut);
        if self.ledger.is_some() {
            self.cut_left -= 1;
            return;
        }
        self.full = false;
        if !self.stable {
            self.release();
        } else if in_cut {
            self.cut_left -= 1;
            if self.cut_left == 0 {
                self.end_cut();
            }
        } else if self
            .cut
            .is_none_or(|(cut, _)| self.planned[&id].last <= cut)
        {
            self.promote(key);
        }
        self.forget();
    }

    /// What the next manifest of the chain is about, once all of it is closed.
    pub fn segment(&self) -> Option<Segment> {
        let ledger = self.ledger.as_ref()?;
        let (last, first) = self.cut?;
        Some(Segment {
            link: ledger.link,
            first,
            last,
            counts: ledger.cut?,
            complete: self.cut_left == 0 && self.cut_version <= self.durable,
        })
    }

    /// The manifest of the segment is in the store: the floor moves behind it. What was due meanwhile is closed now.
    /// Panics if the segment was not complete.
    pub fn manifested(&mut self, hash: [u8; 32]) -> Vec<ObjectId> {
        let segment = self.segment().filter(|s| s.complete);
        let segment = segment.expect("a segment that is complete");
        self.end_cut();
        let ledger = self.ledger.as_mut().expect("outputs of a chain");
        ledger.advance(segment.last + 1, hash);
        if std::mem::take(&mut self.full) {
            return self.close_segment();
        }
        Vec::new()
    }

    /// Whether something is due, and waits for the manifest before it.
    pub fn is_overdue(&self) -> bool {
        self.ledger.is_some() && self.full
    }

    /// All of the cut is written. What was written after it counts from now on.
    pub(super) fn end_cut(&mut self) {
        let of_cut = self.planned.values().filter(|p| p.in_cut);
        let ids: Vec<_> = of_cut.map(|p| (p.first, p.id)).collect();
        for (first, id) in ids {
            self.planned.remove(&id);
            self.firsts.remove(&(first, id));
        }
        let (cut, _) = self.cut.take().expect("a cut");
        self.written.retain(|_, last| *last > cut);
        let done = self.planned.values().filter(|p| p.done);
        let keys: BTreeSet<_> = done.map(|p| p.key).collect();
        keys.into_iter().for_each(|key| self.promote(key));
    }

    /// What lies below the floor needs no mention.
    pub(super) fn forget(&mut self) {
        let floor = self.floor();
        self.written.retain(|_, last| *last >= floor);
    }

    /// What is known by its name alone is mentioned as planned until all its offsets lie below the
    /// floor: made again, it would be the same.
    fn release(&mut self) {
        let waiting = self.planned.values().filter(|p| !p.done).map(|p| p.first);
        let open = self.open.values().map(|o| o.first);
        let first = waiting.chain(open).chain(self.replay.first()).min();
        let mut floor = first.unwrap_or(self.next).min(self.next);
        loop {
            let held = self.planned.values().filter(|p| p.done && p.last >= floor);
            match held.map(|p| p.first).min() {
                Some(first) if first < floor => floor = first,
                _ => break,
            }
        }
        let firsts = &mut self.firsts;
        self.planned.retain(|id, p| {
            let keep = !p.done || p.last >= floor;
            if !keep {
                firsts.remove(&(p.first, *id));
            }
            keep
        });
    }

    /// An output's objects count as written in their order, so that one offset says it all.
    fn promote(&mut self, key: OutputKey) {
        let of_key = self.planned.values().filter(|p| p.key == key && !p.in_cut);
        let mut objects: Vec<_> = of_key.map(|p| (p.first, p.last, p.id, p.done)).collect();
        objects.sort_unstable();
        for (first, last, id, _) in objects.into_iter().take_while(|(.., done)| *done) {
            self.written.insert(key, last);
            self.planned.remove(&id);
            self.firsts.remove(&(first, id));
        }
    }
}
