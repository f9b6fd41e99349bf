//! One topic-partition's manifests, in their order, with all bytes of their objects.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_connect::audit::{
    ChainCheck, Fault, Manifest, ManifestError, ObjectEntry, Proof, StoredObject, Verifier,
    check_object, hex, manifest_name,
};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::Meter;
use super::heads::Heads;
use super::names::Names;
use super::target::{File, Target};

/// Objects that are read at a time.
const OBJECTS_AHEAD: usize = 16;
/// Manifests that are read before they are needed.
const MANIFESTS_AHEAD: usize = 8;

pub struct Walk<'a> {
    pub target: Arc<Target>,
    pub keys: Option<&'a dyn Verifier>,
    pub heads: &'a Heads,
    pub names: Names,
    pub meter: Arc<dyn Meter>,
}

/// What has been found of a chain.
pub struct ChainReport {
    pub topic: String,
    pub partition: i32,
    pub proof: Proof,
    /// Hash of the last manifest that was checked.
    pub head: Option<[u8; 32]>,
    /// The name of the first manifest that does not hold, and why.
    pub broken: Option<(String, Fault)>,
    /// Whether there are signatures that were not looked at.
    pub unchecked_signatures: bool,
}

type Reading<T> = JoinHandle<Result<T, String>>;

/// An object that is being read.
struct Ahead {
    manifest: String,
    object: ObjectEntry,
    stored: Reading<Option<StoredObject>>,
}

async fn joined<T>(reading: Reading<T>) -> Result<T, String> {
    reading.await.map_err(|e| e.to_string())?
}

impl Walk<'_> {
    /// Checks the chain until its first fault. Manifests behind that are only read for the objects that they name.
    /// `sequences`: the numbers of the manifests that were listed, in their order.
    pub async fn chain(
        &mut self,
        topic: String,
        partition: i32,
        sequences: &[u64],
    ) -> Result<ChainReport, String> {
        let mut check = ChainCheck::new(&topic, partition, self.keys);
        let mut broken = None;
        let mut unchecked_signatures = false;
        let mut objects: VecDeque<Ahead> = VecDeque::new();
        let mut files = Files {
            target: self.target.clone(),
            meter: self.meter.clone(),
            place: (&topic, partition),
            listed: sequences.iter(),
            ahead: VecDeque::new(),
        };
        loop {
            let (sequence, file) = match files.next().await? {
                Some(found) => found,
                // Those that were written since the list was made.
                None if broken.is_none() => {
                    let sequence = check.expected();
                    match joined(files.start(sequence)).await? {
                        Some(file) => (sequence, file),
                        None => break,
                    }
                }
                None => break,
            };
            let name = manifest_name(&topic, partition, sequence);
            if broken.is_some() {
                self.only_name(&file);
                continue;
            }
            let fault = match self.link(&mut check, (&topic, partition, sequence), file) {
                Ok(manifest) => {
                    unchecked_signatures |= self.keys.is_none() && !manifest.signature.is_empty();
                    let entries = manifest.objects.clone();
                    self.read_objects(&name, entries, &mut objects, &mut check)
                        .await?
                }
                // What was read before comes first.
                Err(fault) => {
                    let earlier = finish(&mut objects, 0, &mut check).await?;
                    Some(earlier.unwrap_or((name, fault)))
                }
            };
            broken = fault;
        }
        if broken.is_none() {
            broken = finish(&mut objects, 0, &mut check).await?;
        }
        if broken.is_none() {
            let missing = self.heads.from(&topic, partition, check.expected());
            let cut_off = |n| (manifest_name(&topic, partition, n), Fault::CutOff);
            broken = missing.map(cut_off);
        }
        let (proof, head) = (check.proof().clone(), check.head());
        Ok(ChainReport {
            proof,
            head,
            broken,
            unchecked_signatures,
            topic,
            partition,
        })
    }

    fn link<'c>(
        &self,
        check: &'c mut ChainCheck<'_>,
        (topic, partition, sequence): (&str, i32, u64),
        file: File,
    ) -> Result<&'c Manifest, Fault> {
        let File::Bytes(file) = file else {
            return Err(ManifestError::TooLarge.into());
        };
        let expected = check.expected();
        if sequence != expected {
            let found = sequence;
            return Err(Fault::ManifestMissing { expected, found });
        }
        if let Some(kept) = self.heads.of(topic, partition, sequence) {
            let found = hex(&Sha256::digest(&file));
            if found != kept {
                let kept = kept.to_owned();
                return Err(Fault::OtherHead { kept, found });
            }
        }
        check.link(&file)
    }

    /// Begins to read objects, and waits for some of those that were begun before.
    async fn read_objects(
        &mut self,
        manifest: &str,
        entries: Vec<ObjectEntry>,
        objects: &mut VecDeque<Ahead>,
        check: &mut ChainCheck<'_>,
    ) -> Result<Option<(String, Fault)>, String> {
        let mut fault = None;
        for object in entries {
            let first = self.names.name(&object.key);
            if fault.is_some() {
                continue;
            }
            if !first {
                let earlier = finish(objects, 0, check).await?;
                let twice = Fault::ObjectTwice { key: object.key };
                fault = Some(earlier.unwrap_or((manifest.to_owned(), twice)));
                continue;
            }
            fault = finish(objects, OBJECTS_AHEAD - 1, check).await?;
            let (target, meter) = (self.target.clone(), self.meter.clone());
            let key = object.key.clone();
            objects.push_back(Ahead {
                manifest: manifest.to_owned(),
                object,
                stored: tokio::spawn(async move { target.digest(&key, meter).await }),
            });
        }
        if fault.is_some() {
            objects.clear();
        }
        Ok(fault)
    }

    fn only_name(&mut self, file: &File) {
        if let File::Bytes(file) = file
            && let Ok(manifest) = Manifest::from_bytes(file)
        {
            for object in &manifest.objects {
                self.names.name(&object.key);
            }
        }
    }
}

/// Waits for objects, the first begun first, until no more than `left` are being read. Gives the first one that is not
/// as it was written, with its manifest.
async fn finish(
    objects: &mut VecDeque<Ahead>,
    left: usize,
    check: &mut ChainCheck<'_>,
) -> Result<Option<(String, Fault)>, String> {
    while objects.len() > left
        && let Some(ahead) = objects.pop_front()
    {
        let stored = joined(ahead.stored).await?;
        if let Err(fault) = check_object(&ahead.object, stored.as_ref()) {
            return Ok(Some((ahead.manifest, fault)));
        }
        if let Some(stored) = &stored {
            check.object(stored);
        }
    }
    Ok(None)
}

/// The manifests that were listed, read ahead.
struct Files<'a> {
    target: Arc<Target>,
    meter: Arc<dyn Meter>,
    place: (&'a str, i32),
    listed: std::slice::Iter<'a, u64>,
    ahead: VecDeque<(u64, Reading<Option<File>>)>,
}

impl Files<'_> {
    /// The next one, with its number. One that has gone since the list was made is left out, as if it had not been
    /// listed.
    async fn next(&mut self) -> Result<Option<(u64, File)>, String> {
        loop {
            while self.ahead.len() < MANIFESTS_AHEAD
                && let Some(sequence) = self.listed.next()
            {
                let reading = self.start(*sequence);
                self.ahead.push_back((*sequence, reading));
            }
            let Some((sequence, reading)) = self.ahead.pop_front() else {
                return Ok(None);
            };
            if let Some(file) = joined(reading).await? {
                return Ok(Some((sequence, file)));
            }
        }
    }

    fn start(&self, sequence: u64) -> Reading<Option<File>> {
        let name = manifest_name(self.place.0, self.place.1, sequence);
        let (target, meter) = (self.target.clone(), self.meter.clone());
        tokio::spawn(async move { target.manifest(&name, meter.as_ref()).await })
    }
}
