//! The data folder's identity: whose data it holds. Written once, when an empty folder is formatted;
//! checked before anything else is opened, so that a wrong folder is refused untouched.
//!
//! The file is `meta.properties`, as Kafka's (`version`, `cluster.id`, `node.id`, `directory.id`), with
//! `ottla.format` in addition: a folder of Kafka's own logs is recognised and refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ottla_proto::config::properties;
use ottla_proto::limits::CLUSTER_ID_BYTES;
use uuid::Uuid;

const FILE: &str = "meta.properties";
/// What [`FILE`] is written to at first.
const DRAFT: &str = "meta.properties.tmp";
const FORMAT: &str = "1";
/// RocksDB's folder within the data folder.
const DATABASE: &str = "db";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: i32,
    /// Drawn anew for each data folder (KIP-858).
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

impl Identity {
    /// Reads the folder's identity, or formats the folder if it is empty or missing.
    pub fn load_or_format(folder: &Path, node_id: i32) -> Result<Identity, IdentityError> {
        let file = folder.join(FILE);
        if folder.is_file() {
            return Err(IdentityError::NotAFolder(folder.to_owned()));
        }
        match fs::read_to_string(&file) {
            Ok(text) => Identity::parse(folder, &text, Some(node_id)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => format(folder, node_id),
            Err(source) => Err(IdentityError::Io { path: file, source }),
        }
    }

    /// Reads the identity of a folder, whoever's it is. Writes nothing.
    pub fn read(folder: &Path) -> Result<Identity, IdentityError> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Identity::parse(folder, &text, None),
            Err(source) => Err(IdentityError::Io { path, source }),
        }
    }

    pub fn database(folder: &Path) -> PathBuf {
        folder.join(DATABASE)
    }

    /// This replica's Raft id: the node, and which of its data folders (always the first, so far).
    pub fn replica_id(&self) -> u64 {
        (self.node_id as u64) << 32
    }

    fn parse(folder: &Path, text: &str, expected: Option<i32>) -> Result<Identity, IdentityError> {
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
        let cluster_id = get("cluster.id")?;
        if !(1..=CLUSTER_ID_BYTES).contains(&cluster_id.len()) {
            return Err(malformed(format!(
                "cluster.id has {} bytes, not 1 to {CLUSTER_ID_BYTES}",
                cluster_id.len()
            )));
        }
        Ok(Identity {
            cluster_id,
            node_id,
            directory_id,
        })
    }
}

fn format(folder: &Path, node_id: i32) -> Result<Identity, IdentityError> {
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
    let identity = Identity {
        cluster_id: random_cluster_id(),
        node_id,
        directory_id: Uuid::new_v4(),
    };
    let text = format!(
        "version=1\nottla.format={FORMAT}\ncluster.id={}\nnode.id={node_id}\ndirectory.id={}\n",
        identity.cluster_id, identity.directory_id
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
    write().map_err(io(&file))?;
    Ok(identity)
}

/// 16 random bytes in URL-safe base64 without padding, as Kafka's `random-uuid`; never with a leading
/// dash, which command lines would take for an option.
fn random_cluster_id() -> String {
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

    #[test]
    fn a_folder_keeps_its_identity_and_refuses_others() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let first = Identity::load_or_format(&folder, 1).unwrap();
        assert_eq!(Identity::load_or_format(&folder, 1).unwrap(), first);
        assert!(matches!(
            Identity::load_or_format(&folder, 2),
            Err(IdentityError::OtherNode { .. })
        ));
        fs::write(folder.join(FILE), "version=1\ncluster.id=x\nnode.id=1\n").unwrap();
        assert!(matches!(
            Identity::load_or_format(&folder, 1),
            Err(IdentityError::OfKafka(_))
        ));
    }

    #[test]
    fn half_a_format_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DRAFT), "version=1\nottla.fo").unwrap();
        let made = Identity::load_or_format(folder.path(), 1).unwrap();
        assert_eq!(Identity::load_or_format(folder.path(), 1).unwrap(), made);
        assert!(!folder.path().join(DRAFT).exists());
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "precious").unwrap();
        assert!(matches!(
            Identity::load_or_format(folder.path(), 1),
            Err(IdentityError::NotOurs(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
