//! Nodes talk to each other by gRPC (HTTP/2) on the port that Kafka clients use: `peer.proto` says what.
//!
//! [`PeerServer`] answers, [`GrpcTransport`] dials. Each link has a TCP connection of its own, so that
//! neither a snapshot nor a megabyte of entries stands in front of a vote. What is said on links is the
//! raft crate's business; here are only sockets.

mod client;
mod server;

pub use client::{Addresses, GrpcTransport, introduce};
pub use server::{Control, PeerServer};

use ottla_proto::peer::Frame;
use tokio::sync::mpsc;
use tonic::Streaming;

/// Frames of a connection that wait between this crate and the raft crate, in each direction.
const DEPTH: usize = 4;

const NODE: &str = "ottla-node";
const CLUSTER: &str = "ottla-cluster";
const CHANNEL: &str = "ottla-channel";

/// Hands on what comes, until one side ends it.
fn pump(mut incoming: Streaming<Frame>) -> mpsc::Receiver<Frame> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                biased;
                () = sender.closed() => return,
                message = incoming.message() => message,
            };
            match message {
                Ok(Some(frame)) => {
                    if sender.send(frame).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "a peer's connection broke");
                    return;
                }
            }
        }
    });
    receiver
}
