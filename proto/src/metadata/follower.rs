//! Follows the log of the metadata quorum, from wherever that begins.
//!
//! A snapshot is part of the log, as records among the others: each has the offset that the snapshot
//! covers as its key (8 bytes, big endian), and the last one has no value. Once it is committed the log
//! may begin right behind the offset that it covers. Changes that were committed while the snapshot was
//! written stand between that offset and the snapshot's end: who begins there keeps them until it is
//! whole. Who follows already has no use for it.

use std::sync::Arc;

use super::image::Image;
use super::record::{DecodeError, MetadataRecord, decode};
use super::replay::{ReplayError, replay_all};
use super::snapshot::restore;

/// What a batch of the log holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Changes(Vec<MetadataRecord>),
    Snapshot(Part),
}

/// Consecutive records of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The image was taken at this offset.
    pub covers: i64,
    pub records: Vec<MetadataRecord>,
    pub is_last: bool,
}

/// Key of the records of a snapshot that covers `covers`.
pub fn snapshot_key(covers: i64) -> [u8; 8] {
    covers.to_be_bytes()
}

/// Reads the keys and values of one batch.
pub fn content<'a>(
    records: impl IntoIterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
) -> Result<Content, DecodeError> {
    let mut snapshot: Option<Part> = None;
    let mut changes = Vec::new();
    for (key, value) in records {
        let Some(key) = key else {
            changes.push(decode(value.unwrap_or_default())?);
            continue;
        };
        let covers = key.try_into().map(i64::from_be_bytes);
        let covers = covers.map_err(|_| malformed("a key is no offset"))?;
        let part = snapshot.get_or_insert(Part {
            covers,
            records: Vec::new(),
            is_last: false,
        });
        if part.covers != covers || part.is_last {
            return Err(malformed("records of two snapshots in one batch"));
        }
        match value {
            Some(value) => part.records.push(decode(value)?),
            None => part.is_last = true,
        }
    }
    match snapshot {
        None => Ok(Content::Changes(changes)),
        Some(part) if changes.is_empty() => Ok(Content::Snapshot(part)),
        Some(_) => Err(malformed("changes among records of a snapshot")),
    }
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(what.into())
}

/// The image at the place in the log that was reached.
#[derive(Debug, Default)]
pub struct Follower {
    image: Arc<Image>,
    /// The log begins in the middle, and the snapshot is not whole yet.
    gathered: Option<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    log_start_offset: i64,
    /// With the base offset of each batch.
    changes: Vec<(i64, Vec<MetadataRecord>)>,
    snapshot: Option<(i64, Vec<MetadataRecord>)>,
}

impl Follower {
    /// Of a log that begins at `log_start_offset`.
    pub fn new(log_start_offset: i64) -> Follower {
        let gathered = (log_start_offset > 0).then(|| Gathered {
            log_start_offset,
            ..Gathered::default()
        });
        Follower {
            image: Arc::default(),
            gathered,
        }
    }

    /// `None` until it is known.
    pub fn image(&self) -> Option<&Arc<Image>> {
        self.gathered.is_none().then_some(&self.image)
    }

    /// Takes in the next batch, of offsets `base_offset` to `last_offset`. An error leaves no trace.
    pub fn replay(
        &mut self,
        base_offset: i64,
        last_offset: i64,
        content: Content,
    ) -> Result<(), ReplayError> {
        let Some(gathered) = &mut self.gathered else {
            let next = match content {
                Content::Changes(records) => replay_all(&self.image, base_offset, &records)?,
                Content::Snapshot(_) => replay_all(&self.image, base_offset, [])?,
            };
            self.image = at(next, last_offset);
            return Ok(());
        };
        match content {
            Content::Changes(records) => gathered.changes.push((base_offset, records)),
            Content::Snapshot(part) => {
                if let Some(image) = gathered.part(part)? {
                    self.image = at(image, last_offset);
                    self.gathered = None;
                }
            }
        }
        Ok(())
    }
}

impl Gathered {
    /// The image, if this was the snapshot's last part.
    fn part(&mut self, part: Part) -> Result<Option<Arc<Image>>, ReplayError> {
        // One that was begun and never finished; what it covers ends before the log begins.
        if part.covers + 1 < self.log_start_offset {
            return Ok(None);
        }
        let begun = self.snapshot.take().filter(|(at, _)| *at == part.covers);
        let (covers, mut records) = begun.unwrap_or((part.covers, Vec::new()));
        records.extend(part.records);
        if !part.is_last {
            self.snapshot = Some((covers, records));
            return Ok(None);
        }
        let mut image = restore(covers, &records)?;
        for (base_offset, records) in &self.changes {
            if *base_offset > covers {
                image = replay_all(&image, *base_offset, records)?;
            }
        }
        Ok(Some(image))
    }
}

/// The image where nothing but parts of snapshots follow up to `last_offset`.
fn at(mut image: Arc<Image>, last_offset: i64) -> Arc<Image> {
    if image.applied_offset < last_offset {
        Arc::make_mut(&mut image).applied_offset = last_offset;
    }
    image
}
