//! When objects are closed, and what is promised about them before they are written.
//!
//! **Exactly once.** A task writes an object only after its plan is durable in the committed offset's
//! metadata. What is committed is the *floor*: everything below it is in objects that are written. Above
//! it, the metadata says which objects are written already (their outputs, and up to which offset), and
//! which are planned. After a crash the task reads again from the floor, skips what is written, and makes
//! of the planned ones exactly the same objects, whatever the clock says by then. An object that exists
//! already then has the same bytes.
//!
//! **Bounded.** Metadata has at most [`plan::MAX_METADATA_BYTES`]. Where a plan with another object would
//! be larger, all open outputs are closed at one offset, the *cut*, which needs no list: what is not
//! written yet and not above the cut is one object for each output. Until the cut is written, other
//! objects stay open beyond their bounds.
//!
//! **Chained.** Where a chain of manifests accounts for every offset ([`crate::audit`]), objects are closed by
//! cuts alone, one at a time, and the floor moves when the manifest of a cut is written. Whatever becomes due
//! meanwhile stays open until then.

mod ledger;
mod outputs;
pub mod plan;
mod policy;
mod replay;

pub use ledger::{Chain, Segment};
pub use outputs::{Appended, Incoming, ObjectId, Outputs, Planned, RotateError};
pub use plan::{Commit, Plan, PlanError};
pub use policy::RotationPolicy;

#[cfg(test)]
mod tests;
