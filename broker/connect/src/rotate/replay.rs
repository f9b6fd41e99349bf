//! Objects that were planned before a crash, and are made again.

use super::RotateError;
use super::plan::{OutputKey, PlannedObject};

#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    /// Not whole yet.
    planned: Vec<PlannedObject>,
    /// Not seen to its end yet.
    cut: Option<i64>,
}

impl Replay {
    pub fn new(planned: Vec<PlannedObject>, cut: Option<i64>) -> Replay {
        Replay { planned, cut }
    }

    pub fn objects(&self) -> impl Iterator<Item = &PlannedObject> {
        self.planned.iter()
    }

    pub fn first(&self) -> Option<i64> {
        self.planned.iter().map(|p| p.first).min()
    }

    pub fn output(&self, offset: i64, schema: u64) -> Option<&str> {
        self.planned.iter().find_map(|p| {
            let name = p.name.as_deref()?;
            let here = (p.first..=p.last).contains(&offset);
            (here && OutputKey::of(name, schema) == p.output).then_some(name)
        })
    }

    /// Whether the record belongs to an object that is made again.
    pub fn place(&self, key: OutputKey, offset: i64, open: bool) -> Result<bool, RotateError> {
        let of_key = self
            .planned
            .iter()
            .filter(|p| p.output == key && p.last >= offset);
        if let Some(object) = of_key.min_by_key(|p| p.first) {
            // It begins with the record it began with, and has all records after that.
            if offset == object.first || (offset > object.first && open) {
                return Ok(true);
            }
            return Err(mismatch(object, offset));
        }
        Ok(self.cut.is_some_and(|cut| offset <= cut))
    }

    /// Whether an object of the plan is whole with this record. It is taken off the list then: it is
    /// among the closed ones.
    pub fn ends(&mut self, key: OutputKey, offset: i64) -> bool {
        let found = self
            .planned
            .iter()
            .position(|p| p.output == key && p.last == offset);
        found.map(|at| self.planned.swap_remove(at)).is_some()
    }

    /// No record below the position comes any more.
    pub fn passed(&self, position: i64) -> Result<(), RotateError> {
        match self.planned.iter().find(|p| p.last < position) {
            Some(object) => Err(mismatch(object, position)),
            None => Ok(()),
        }
    }

    /// The cut's last offset, until it has been seen.
    pub fn cut(&self) -> Option<i64> {
        self.cut
    }

    /// Whether the cut has been seen to its end, which is said once.
    pub fn cut_ends(&mut self, next: i64) -> bool {
        let ends = self.cut.is_some_and(|cut| cut < next);
        if ends {
            self.cut = None;
        }
        ends
    }
}

fn mismatch(object: &PlannedObject, at: i64) -> RotateError {
    RotateError::Replay {
        first: object.first,
        last: object.last,
        at,
    }
}
