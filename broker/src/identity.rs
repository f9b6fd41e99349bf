//! The data folder's identity: whose data it holds. Written once, when an empty folder is formatted;
//! checked before anything else is opened, so that a wrong folder is refused untouched.
//!
//! The file is `meta.properties`, as Kafka's (`version`, `cluster.id`, `node.id`, `directory.id`), with
//! `ottla.format` in addition: a folder of Kafka's own logs is recognised and refused. Until the node
//! belongs to a cluster, `cluster.id` is missing. `ottla.founders` are the replicas that the metadata
//! quorum began with, `ottla.voters` its voters (`id@host:port`) where the configuration has only their
//! addresses.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ottla_proto::config::{QuorumVoter, properties};
use ottla_proto::ids::replica_id;
use ottla_proto::limits::CLUSTER_ID_BYTES;
use uuid::Uuid;

const FILE: &str = "meta.properties";
/// What [`FILE`] is written to at first.
const DRAFT: &str = "meta.properties.tmp";
const FORMAT: &str = "2";
/// RocksDB's folder within the data folder.
const DATABASE: &str = "db";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: i32,
    /// Drawn anew for each data folder (KIP-858).
    pub directory_id: Uuid,
    /// The replicas that the metadata quorum began with, the preferred leader first. Empty where this
    /// node was not one of them.
    pub founders: Vec<u64>,
    /// The voters, as they were when this node joined the cluster or last learned them.
    pub voters: Vec<QuorumVoter>,
}

/// A data folder that is this node's, and belongs to a cluster or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    Formed(Identity),
    Prepared(Prepared),
}

/// The part of an identity that a folder has before its node belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    folder: PathBuf,
    pub node_id: i32,
    pub directory_id: Uuid,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} holds Apache Kafka's data (meta.properties has no ottla.format): choose an empty log.dirs", .0.display())]
    OfKafka(PathBuf),
    #[error("log.dirs: {} is a file, not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("{} is not empty and has no meta.properties: choose an empty log.dirs", .0.display())]
    NotOurs(PathBuf),
    #[error("{} belongs to node.id {found}, not {expected}", path.display())]
    OtherNode {
        path: PathBuf,
        found: String,
        expected: i32,
    },
    #[error("{} has format {found}; this release reads format {FORMAT}", path.display())]
    Format { path: PathBuf, found: String },
    #[error("{}: {detail}", path.display())]
    Malformed { path: PathBuf, detail: String },
}

impl Folder {
    /// Reads what the folder is, or prepares it if it is empty or missing.
    pub fn open(folder: &Path, node_id: i32) -> Result<Folder, IdentityError> {
        let file = folder.join(FILE);
        if folder.is_file() {
            return Err(IdentityError::NotAFolder(folder.to_owned()));
        }
        match fs::read_to_string(&file) {
            Ok(text) => Folder::parse(folder, &text, Some(node_id)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                prepare(folder, node_id).map(Folder::Prepared)
            }
            Err(source) => Err(IdentityError::Io { path: file, source }),
        }
    }
}

impl Prepared {
    pub fn replica_id(&self) -> u64 {
        replica_id(self.node_id, self.directory_id)
    }

    /// The node belongs to a cluster from now on.
    pub fn join(
        self,
        cluster_id: String,
        founders: Vec<u64>,
        voters: &[QuorumVoter],
    ) -> Result<Identity, IdentityError> {
        let identity = Identity {
            cluster_id,
            node_id: self.node_id,
            directory_id: self.directory_id,
            founders,
            voters: voters.to_vec(),
        };
        identity.write(&self.folder)?;
        Ok(identity)
    }
}

/// `more`: what a folder has only once its node belongs to a cluster.
fn write(
    folder: &Path,
    (node_id, directory_id): (i32, Uuid),
    more: &str,
) -> Result<(), IdentityError> {
    let text = format!(
        "version=1\nottla.format={FORMAT}\nnode.id={node_id}\ndirectory.id={directory_id}\n{more}"
    );
    let (draft, file) = (folder.join(DRAFT), folder.join(FILE));
    let write = || -> io::Result<()> {
        let mut out = fs::File::create(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&draft, &file)?;
        fs::File::open(folder)?.sync_all()?;
        // The folder's own name, if it was made just now. The one above may not be ours to read.
        if let Some(parent) = std::path::absolute(folder)?.parent() {
            let _ = fs::File::open(parent).and_then(|parent| parent.sync_all());
        }
        Ok(())
    };
    write().map_err(|source| IdentityError::Io {
        path: file.clone(),
        source,
    })
}

/// As a configuration writes it: comma separated.
pub fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(",")
}

impl Identity {
    /// Reads the identity of a folder, whoever's it is. Writes nothing.
    pub fn read(folder: &Path) -> Result<Identity, IdentityError> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path);
        let text = text.map_err(|source| IdentityError::Io {
            path: path.clone(),
            source,
        })?;
        match Folder::parse(folder, &text, None)? {
            Folder::Formed(identity) => Ok(identity),
            Folder::Prepared(_) => {
                let detail = "cluster.id is missing: the node has not joined a cluster yet".into();
                Err(IdentityError::Malformed { path, detail })
            }
        }
    }

    /// Writes down other voters than before.
    pub fn learn_voters(
        &mut self,
        folder: &Path,
        voters: &[QuorumVoter],
    ) -> Result<(), IdentityError> {
        if self.voters != voters {
            self.voters = voters.to_vec();
            self.write(folder)?;
        }
        Ok(())
    }

    fn write(&self, folder: &Path) -> Result<(), IdentityError> {
        let more = format!(
            "cluster.id={}\nottla.founders={}\nottla.voters={}\n",
            self.cluster_id,
            list(&self.founders),
            list(&self.voters)
        );
        write(folder, (self.node_id, self.directory_id), &more)
    }

    pub fn database(folder: &Path) -> PathBuf {
        folder.join(DATABASE)
    }

    pub fn replica_id(&self) -> u64 {
        replica_id(self.node_id, self.directory_id)
    }
}

impl Folder {
    fn parse(folder: &Path, text: &str, expected: Option<i32>) -> Result<Folder, IdentityError> {
        let path = || folder.join(FILE);
        let malformed = |detail: String| IdentityError::Malformed {
            path: path(),
            detail,
        };
        let entries = properties::parse(text).map_err(|e| malformed(e.to_string()))?;
        let values: BTreeMap<String, String> =
            entries.into_iter().map(|p| (p.key, p.value)).collect();
        let get = |key: &str| {
            values
                .get(key)
                .cloned()
                .ok_or_else(|| malformed(format!("{key} is missing")))
        };
        let Some(format) = values.get("ottla.format") else {
            return Err(IdentityError::OfKafka(folder.to_owned()));
        };
        if format != FORMAT {
            return Err(IdentityError::Format {
                path: path(),
                found: format.clone(),
            });
        }
        let found = get("node.id")?;
        let node_id = found
            .parse()
            .map_err(|_| malformed("node.id is no number".into()))?;
        if let Some(expected) = expected.filter(|expected| *expected != node_id) {
            return Err(IdentityError::OtherNode {
                path: path(),
                found,
                expected,
            });
        }
        let directory_id = get("directory.id")?
            .parse()
            .map_err(|_| malformed("directory.id is no UUID".into()))?;
        let Some(cluster_id) = values.get("cluster.id").cloned() else {
            return Ok(Folder::Prepared(Prepared {
                folder: folder.to_owned(),
                node_id,
                directory_id,
            }));
        };
        if !(1..=CLUSTER_ID_BYTES).contains(&cluster_id.len()) {
            return Err(malformed(format!(
                "cluster.id has {} bytes, not 1 to {CLUSTER_ID_BYTES}",
                cluster_id.len()
            )));
        }
        let founders = get("ottla.founders")?;
        let founders: Result<Vec<u64>, _> = items(&founders).map(str::parse).collect();
        // Folders of earlier releases have none.
        let voters = values.get("ottla.voters").map_or("", String::as_str);
        let voters: Result<Vec<QuorumVoter>, _> = items(voters).map(str::parse).collect();
        Ok(Folder::Formed(Identity {
            cluster_id,
            node_id,
            directory_id,
            founders: founders.map_err(|_| malformed("ottla.founders are no numbers".into()))?,
            voters: voters
                .map_err(|()| malformed("ottla.voters are not of the form id@host:port".into()))?,
        }))
    }
}

/// The items of a list; nothing has none.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|item| !item.is_empty())
}

fn prepare(folder: &Path, node_id: i32) -> Result<Prepared, IdentityError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let name = entry.map_err(io(folder))?.file_name();
        // A fresh file system has its own folder; a crash while this was done before leaves the draft.
        if name != "lost+found" && name != DRAFT {
            return Err(IdentityError::NotOurs(folder.to_owned()));
        }
    }
    let prepared = Prepared {
        folder: folder.to_owned(),
        node_id,
        directory_id: Uuid::new_v4(),
    };
    write(folder, (node_id, prepared.directory_id), "")?;
    Ok(prepared)
}

/// 16 random bytes in URL-safe base64 without padding, as Kafka's `random-uuid`; never with a leading
/// dash, which command lines would take for an option.
pub fn random_cluster_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    loop {
        let mut number = Uuid::new_v4().as_u128();
        let mut id = String::with_capacity(22);
        for _ in 0..22 {
            id.push(ALPHABET[(number & 63) as usize] as char);
            number >>= 6;
        }
        if !id.starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(folder: &Path) -> Prepared {
        match Folder::open(folder, 1).unwrap() {
            Folder::Prepared(prepared) => prepared,
            Folder::Formed(identity) => panic!("{identity:?}"),
        }
    }

    #[test]
    fn a_folder_keeps_its_identity_and_refuses_others() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let first = prepared(&folder);
        assert_eq!(prepared(&folder), first, "it has not joined yet");
        assert!(Identity::read(&folder).is_err());
        let replica = first.replica_id();
        let joined = first.join("c".into(), vec![replica, 7], &[]).unwrap();
        assert_eq!(
            Folder::open(&folder, 1).unwrap(),
            Folder::Formed(joined.clone())
        );
        assert_eq!((joined.replica_id(), joined.founders[1]), (replica, 7));
        assert!(matches!(
            Folder::open(&folder, 2),
            Err(IdentityError::OtherNode { .. })
        ));
        fs::write(folder.join(FILE), "version=1\ncluster.id=x\nnode.id=1\n").unwrap();
        assert!(matches!(
            Folder::open(&folder, 1),
            Err(IdentityError::OfKafka(_))
        ));
    }

    #[test]
    fn half_a_format_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DRAFT), "version=1\nottla.fo").unwrap();
        let made = prepared(folder.path());
        assert_eq!(prepared(folder.path()), made);
        assert!(!folder.path().join(DRAFT).exists());
    }

    #[test]
    fn another_folder_is_another_replica() {
        let [a, b] = [(); 2].map(|()| prepared(tempfile::tempdir().unwrap().path()).replica_id());
        assert_ne!(a, b);
        assert_eq!((a >> 32, b >> 32), (1, 1));
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "precious").unwrap();
        assert!(matches!(
            Folder::open(folder.path(), 1),
            Err(IdentityError::NotOurs(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
