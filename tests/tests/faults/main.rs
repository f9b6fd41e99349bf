//! Disks that fail below a real broker: full, broken, without power, damaged.
//!
//! `probe.rs` tries the failing disk itself; the others try the broker on it.

mod damage;
mod errors;
mod full;
mod lost;
mod power;
mod probe;
mod scarce;
mod support;
