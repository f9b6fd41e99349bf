//! Groups of several members: replication, catching up, leadership, membership, and a simulation.

mod child;
mod disk;
mod harness;
mod leadership;
mod membership;
mod replication;
mod simulation;
