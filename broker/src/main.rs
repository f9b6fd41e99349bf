//! `ottla`: one binary. See `ottla help`.

mod admin;
mod api;
mod board;
mod calls;
mod cleaner;
mod cli;
mod control;
mod controllers;
mod coordinator;
mod doctor;
mod duty;
mod formation;
mod identity;
mod lag;
mod leaderships;
mod membership;
mod memory;
mod metadata;
mod metadata_snapshot;
mod net;
mod newest;
mod node;
mod preferred;
mod producer_ids;
mod progress;
mod quantiles;
mod quorum;
mod reconcile;
mod registration;
mod retention;
mod room;
mod server;
mod services;
#[cfg(test)]
mod simulation;
mod skew;
mod telemetry;
mod topics;

/// Request buffers of a megabyte come and go; glibc would give each back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
