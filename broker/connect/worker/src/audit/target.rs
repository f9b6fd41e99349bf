//! Where the manifests and objects are: a folder, or a bucket. Names begin below the target.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use ottla_connect::audit::{MAX_MANIFEST_BYTES, StoredObject, hex};
use sha2::{Digest, Sha256};

use super::{Meter, S3Options};
use crate::net::{Guard, trace};
use crate::s3::{Address, builder};

const PIECE_BYTES: usize = 1 << 20;

pub enum Target {
    Folder(PathBuf),
    Bucket {
        store: AmazonS3,
        bucket: String,
        folder: Path,
    },
}

/// A manifest's file.
pub enum File {
    Bytes(Vec<u8>),
    /// More than a manifest may have.
    TooLarge,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Folder(folder) => write!(f, "{}", folder.display()),
            Target::Bucket { bucket, folder, .. } => write!(f, "s3://{bucket}/{folder}"),
        }
    }
}

impl Target {
    pub fn open(text: &str, options: &S3Options) -> Result<Target, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            let folder = PathBuf::from(text);
            return match std::fs::read_dir(&folder) {
                Ok(_) => Ok(Target::Folder(folder)),
                Err(error) => Err(format!("{text}: {error}")),
            };
        };
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let folder = Path::parse(folder.trim_end_matches('/'));
        let region = options.region.clone().or_else(|| {
            let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
            variables.iter().find_map(|name| std::env::var(name).ok())
        });
        let address = Address {
            bucket,
            region: region.as_deref().unwrap_or("us-east-1"),
            endpoint: options.endpoint.as_deref(),
            path_style: !options.virtual_hosted,
            retries: 10,
            first_pause_ms: 200,
        };
        // Whoever runs a command may go where it says.
        let guard = Guard {
            allow_link_local: true,
            ..Guard::default()
        };
        let store = builder(&address, &guard).map_err(|e| e.to_string())?;
        Ok(Target::Bucket {
            store: store.build().map_err(|e| trace(&e))?,
            bucket: bucket.to_owned(),
            folder: folder.map_err(|e| format!("{text}: {e}"))?,
        })
    }

    /// Says name and size of everything there is, in any order.
    pub async fn list(&self, mut found: impl FnMut(&str, u64)) -> Result<(), String> {
        match self {
            Target::Folder(folder) => list_folder(folder, "", &mut found)
                .map_err(|e| format!("{}: {e}", folder.display())),
            Target::Bucket { store, folder, .. } => {
                let before = match folder.as_ref() {
                    "" => String::new(),
                    folder => format!("{folder}/"),
                };
                let mut listed = store.list(Some(folder));
                while let Some(object) = listed.next().await {
                    let object = object.map_err(|e| self.wrong(&e))?;
                    // An object that has the folder's own name is not in it.
                    if let Some(name) = object.location.as_ref().strip_prefix(&before) {
                        found(name, object.size);
                    }
                }
                Ok(())
            }
        }
    }

    /// A manifest, or `None` if it is not there.
    pub async fn manifest(&self, name: &str, meter: &dyn Meter) -> Result<Option<File>, String> {
        let limit = MAX_MANIFEST_BYTES as u64;
        let bytes = match self {
            Target::Folder(folder) => {
                let file = match std::fs::File::open(folder.join(name)) {
                    Ok(file) => file,
                    Err(error) => return self.absent(name, &error),
                };
                let mut bytes = Vec::new();
                let read = file.take(limit + 1).read_to_end(&mut bytes);
                read.map_err(|e| format!("{self}/{name}: {e}"))?;
                bytes
            }
            Target::Bucket { store, folder, .. } => {
                let answer = match store.get(&below(folder, name)).await {
                    Ok(answer) => answer,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.wrong(&error)),
                };
                if answer.meta.size > limit {
                    return Ok(Some(File::TooLarge));
                }
                let bytes = answer.bytes().await;
                bytes.map_err(|e| self.wrong(&e))?.to_vec()
            }
        };
        meter.read(bytes.len() as u64);
        if bytes.len() as u64 > limit {
            return Ok(Some(File::TooLarge));
        }
        Ok(Some(File::Bytes(bytes)))
    }

    /// Reads all bytes of an object, or `None` if it is not there.
    pub async fn digest(
        self: Arc<Target>,
        name: &str,
        meter: Arc<dyn Meter>,
    ) -> Result<Option<StoredObject>, String> {
        // A manifest may say anything; what is no plain name below the target is not there.
        match Path::parse(name) {
            Ok(path) if path.as_ref() == name => {}
            _ => return Ok(None),
        }
        match &*self {
            Target::Folder(folder) => {
                let (path, target, name) = (folder.join(name), self.clone(), name.to_owned());
                let read =
                    tokio::task::spawn_blocking(move || match digest_file(&path, meter.as_ref()) {
                        Ok(stored) => Ok(Some(stored)),
                        Err(error) => target.absent(&name, &error),
                    });
                read.await.map_err(|e| e.to_string())?
            }
            Target::Bucket { store, folder, .. } => {
                let answer = match store.get(&below(folder, name)).await {
                    Ok(answer) => answer,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.wrong(&error)),
                };
                let (mut hash, mut bytes) = (Sha256::new(), 0);
                let mut pieces = answer.into_stream();
                while let Some(piece) = pieces.next().await {
                    let piece = piece.map_err(|e| self.wrong(&e))?;
                    hash.update(&piece);
                    bytes += piece.len() as u64;
                    meter.read(piece.len() as u64);
                }
                let sha256 = hex(&hash.finalize());
                Ok(Some(StoredObject { sha256, bytes }))
            }
        }
    }

    fn wrong(&self, error: &object_store::Error) -> String {
        format!("{self}: {}", trace(error))
    }

    fn absent<T>(&self, name: &str, error: &io::Error) -> Result<Option<T>, String> {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Ok(None),
            _ => Err(format!("{self}/{name}: {error}")),
        }
    }
}

/// The name in the bucket, of a name that is known to be plain.
fn below(folder: &Path, name: &str) -> Path {
    let name = match folder.as_ref() {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    };
    Path::parse(name).expect("a plain name")
}

fn list_folder(
    folder: &std::path::Path,
    before: &str,
    found: &mut impl FnMut(&str, u64),
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| io::Error::other(format!("{} is not UTF-8", entry.path().display())))?;
        let name = format!("{before}{name}");
        // Links are not followed: they could lead in a circle.
        if entry.file_type()?.is_dir() {
            list_folder(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found(&name, entry.metadata()?.len());
        }
    }
    Ok(())
}

fn digest_file(path: &std::path::Path, meter: &dyn Meter) -> io::Result<StoredObject> {
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&piece[..read]);
                bytes += read as u64;
                meter.read(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let sha256 = hex(&hash.finalize());
    Ok(StoredObject { sha256, bytes })
}
