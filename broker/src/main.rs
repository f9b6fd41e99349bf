//! `ottla`: one binary. See `ottla help`.

mod admin;
mod api;
mod board;
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
mod net;
mod newest;
mod preferred;
mod producer_ids;
mod quantiles;
mod reconcile;
mod registration;
mod retention;
mod room;
mod server;
mod services;
mod skew;
mod telemetry;
mod topics;

/// Request buffers of a megabyte come and go; glibc would give each back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
