//! Sends a snapshot: the states of the group's partitions, then the data that the receiver lacks.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::type_config::alias::SnapshotOf;
use ottla_log::{IndexRow, StoreError, batch_span};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{PEER_FRAME_BYTES, SNAPSHOT_SILENCE_MS};
use ottla_proto::peer::snapshot_part::Kind;
use ottla_proto::peer::{
    Frame, SnapshotBegin, SnapshotData as Data, SnapshotEnd, SnapshotHave, SnapshotIndexRow,
    SnapshotPart, SnapshotState, SnapshotStates,
};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until};

use crate::group_log::GroupLog;
use crate::install::Image;
use crate::network::Client;
use crate::off_reactor;
use crate::rows;
use crate::state::PartitionState;
use crate::storage::SnapshotData;
use crate::transport::{Channel, ConnectError, Connection};
use crate::types::{TypeConfig, Vote};
use crate::wire::{self, WireError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection has ended")]
    Ended,
    #[error("the other side is silent")]
    Silent,
    #[error("the other side failed: {0}")]
    Refused(String),
    #[error("the other side sent {0}")]
    Unexpected(&'static str),
    #[error("{0} has changed since the snapshot was taken")]
    Changed(PartitionId),
    #[error("the snapshot carries no data")]
    Empty,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wire(#[from] WireError),
}

pub(crate) fn part(kind: Kind) -> Frame {
    let snapshot = Some(SnapshotPart { kind: Some(kind) });
    Frame {
        snapshot,
        ..Default::default()
    }
}

pub(crate) async fn put(sender: &mpsc::Sender<Frame>, kind: Kind) -> Result<(), TransferError> {
    let silence = Duration::from_millis(SNAPSHOT_SILENCE_MS);
    match tokio::time::timeout(silence, sender.send(part(kind))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(TransferError::Ended),
        Err(_) => Err(TransferError::Silent),
    }
}

pub(crate) async fn get(receiver: &mut mpsc::Receiver<Frame>) -> Result<Kind, TransferError> {
    let silence = Duration::from_millis(SNAPSHOT_SILENCE_MS);
    loop {
        let frame = match tokio::time::timeout(silence, receiver.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(TransferError::Ended),
            Err(_) => return Err(TransferError::Silent),
        };
        match frame.snapshot.and_then(|part| part.kind) {
            Some(Kind::Wait(_)) => {}
            Some(Kind::Failed(why)) => return Err(TransferError::Refused(why)),
            Some(kind) => return Ok(kind),
            None => return Err(TransferError::Unexpected("no part of a snapshot")),
        }
    }
}

/// Sends data when its time has come.
async fn put_data(
    client: &Client,
    sender: &mpsc::Sender<Frame>,
    data: Data,
) -> Result<(), TransferError> {
    let bytes = data.batches.iter().map(Bytes::len).sum();
    if let Some(at) = client.peer.throttle.take(bytes) {
        let mut silence = interval(Duration::from_millis(SNAPSHOT_SILENCE_MS / 4));
        loop {
            tokio::select! {
                biased;
                () = sleep_until(at) => break,
                _ = silence.tick() => put(sender, Kind::Wait(true)).await?,
            }
        }
    }
    put(sender, Kind::Data(data)).await
}

/// Sends the snapshot; the receiver's vote once it is installed there.
pub(crate) async fn send(
    client: &Client,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
) -> Result<Vote, TransferError> {
    let image = snapshot.snapshot.0.ok_or(TransferError::Empty)?;
    let turn = client.peer.transfers.acquire().await;
    let _turn = turn.expect("the semaphore is never closed");
    let Connection {
        sender,
        mut receiver,
    } = client.peer.connect(Channel::Snapshot).await?;
    let begin = SnapshotBegin {
        group: client.log.id.0,
        from: client.from,
        to: client.to,
        vote: Some(wire::put_vote(&vote)),
        checkpoint: rows::encode_checkpoint(&image.checkpoint),
        removed: rows::encode_removed(&image.removed),
    };
    put(&sender, Kind::Begin(begin)).await?;
    send_states(&image, &sender).await?;
    let haves = receive_haves(&mut receiver, image.partitions.len()).await?;
    for (index, (id, state)) in image.partitions.iter().enumerate() {
        send_data(client, *id, state, haves.get(&id.0), &sender).await?;
        // A receiver that has failed says so while data is still on its way.
        if index % 64 == 0
            && let Ok(frame) = receiver.try_recv()
            && let Some(Kind::Failed(why)) = frame.snapshot.and_then(|part| part.kind)
        {
            return Err(TransferError::Refused(why));
        }
    }
    put(&sender, Kind::End(SnapshotEnd {})).await?;
    match get(&mut receiver).await? {
        Kind::Installed(installed) => Ok(wire::vote(&installed.vote)?),
        _ => Err(TransferError::Unexpected("no end")),
    }
}

async fn send_states(image: &Image, sender: &mpsc::Sender<Frame>) -> Result<(), TransferError> {
    let mut states = Vec::new();
    let mut bytes = 0;
    for (id, state) in &image.partitions {
        let (partition, row) = (id.0, rows::encode_partition(state));
        bytes += row.len();
        states.push(SnapshotState { partition, row });
        if bytes >= PEER_FRAME_BYTES {
            bytes = 0;
            let (states, last) = (std::mem::take(&mut states), false);
            put(sender, Kind::States(SnapshotStates { states, last })).await?;
        }
    }
    let last = true;
    put(sender, Kind::States(SnapshotStates { states, last })).await
}

async fn receive_haves(
    receiver: &mut mpsc::Receiver<Frame>,
    at_most: usize,
) -> Result<HashMap<u64, SnapshotHave>, TransferError> {
    let mut haves = HashMap::new();
    loop {
        let Kind::Haves(part) = get(receiver).await? else {
            return Err(TransferError::Unexpected("something else than what it has"));
        };
        haves.extend(part.haves.into_iter().map(|have| (have.partition, have)));
        if haves.len() > at_most {
            return Err(TransferError::Unexpected("more partitions than there are"));
        }
        if part.last {
            return Ok(haves);
        }
    }
}

/// Where to begin, and whether what the receiver has goes.
fn start(state: &PartitionState, have: Option<&SnapshotHave>) -> (i64, bool) {
    let (log_start, end) = (state.log_start_offset, state.log_end_offset);
    match have {
        None => (log_start, false),
        Some(have) if have.end_offset <= log_start => (log_start, false),
        Some(have) => {
            let same =
                have.end_offset <= end && state.epoch_at(have.end_offset - 1) == have.leader_epoch;
            match same {
                true => (have.end_offset, false),
                false => (log_start, true),
            }
        }
    }
}

async fn send_data(
    client: &Client,
    id: PartitionId,
    state: &PartitionState,
    have: Option<&SnapshotHave>,
    sender: &mpsc::Sender<Frame>,
) -> Result<(), TransferError> {
    let log = &client.log;
    let (mut next, mut replace) = start(state, have);
    let end = state.log_end_offset;
    if replace {
        tracing::warn!(group = %log.id, partition = %id, ?have, "a replica's data differs from its leader's; it is replaced");
    }
    while next < end || replace {
        let (reader, from) = (log.clone(), next);
        let read = off_reactor(move || read(&reader, id, from, end)).await?;
        let Some((first, last)) = span(&read.0) else {
            // Trimmed or compacted away since. A replacement is told all the same.
            if replace {
                put_data(client, sender, data(id, true, read)).await?;
            }
            return Ok(());
        };
        if last >= end {
            return Err(TransferError::Changed(id));
        }
        if first < next && next > state.log_start_offset {
            // What it has ends within one of our batches.
            (next, replace) = (state.log_start_offset, true);
            continue;
        }
        next = last + 1;
        put_data(client, sender, data(id, replace, read)).await?;
        replace = false;
    }
    Ok(())
}

type Read = (Vec<Bytes>, Vec<IndexRow>);

fn read(log: &GroupLog, id: PartitionId, from: i64, end: i64) -> Result<Read, StoreError> {
    let batches = log.store().batches(id, from, end, PEER_FRAME_BYTES)?;
    let Some((first, last)) = span(&batches) else {
        return Ok((batches, Vec::new()));
    };
    let mut index = Vec::new();
    let mut next = first;
    loop {
        let rows = log.store().index_rows(id, next, 64)?;
        let Some(row) = rows.last().copied() else {
            break;
        };
        index.extend(rows.into_iter().take_while(|row| row.base_offset <= last));
        if row.base_offset > last {
            break;
        }
        next = row.base_offset + 1;
    }
    Ok((batches, index))
}

fn span(batches: &[Bytes]) -> Option<(i64, i64)> {
    let (first, _) = batch_span(batches.first()?)?;
    let (_, last) = batch_span(batches.last()?)?;
    Some((first, last))
}

fn data(id: PartitionId, replace: bool, (batches, index): Read) -> Data {
    let row = |row: IndexRow| SnapshotIndexRow {
        base_offset: row.base_offset,
        max_timestamp_ms: row.max_timestamp_ms,
        interval_timestamp_ms: row.interval_timestamp_ms,
        position_bytes: row.position_bytes,
    };
    Data {
        partition: id.0,
        replace,
        batches_crc: wire::checksum(&batches),
        batches,
        index: index.into_iter().map(row).collect(),
    }
}
