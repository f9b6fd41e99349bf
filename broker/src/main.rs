//! `ottla`: one binary. See `ottla help`.

mod api;
mod board;
mod cleaner;
mod cli;
mod coordinator;
mod doctor;
mod identity;
mod memory;
mod metadata;
mod net;
mod newest;
mod producer_ids;
mod quantiles;
mod reconcile;
mod registration;
mod retention;
mod room;
mod server;
mod services;
mod telemetry;
mod topics;

/// Request buffers of a megabyte come and go; glibc would give each back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
