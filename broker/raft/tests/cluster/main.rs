//! Groups of several members: replication, catching up, leadership, membership, and a simulation.

mod harness;
mod leadership;
mod membership;
mod replication;
mod simulation;
