//! The bucket: puts an object once, and knows its own objects again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use ottla_connect::audit::hex;
use ottla_connect::config::Settings;
use ottla_connect::config::classes::Vendor;
use ottla_connect::error::{ConnectError, ErrorKind};
use sha2::{Digest, Sha256};

use crate::net::{Guard, GuardedConnector, trace};

/// Between two tries of an object at first; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(20);
/// A request with all its tries in the library takes no longer.
const REQUEST_WAIT: Duration = Duration::from_secs(120);
/// A request goes in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

const FIRST_OFFSET: &str = "ottla-first-offset";
const LAST_OFFSET: &str = "ottla-last-offset";

/// An object as it is put.
#[derive(Clone, Debug)]
pub struct NewObject {
    pub key: String,
    pub body: Bytes,
    pub first: i64,
    pub last: i64,
    pub content_type: &'static str,
}

impl NewObject {
    fn attributes(&self, sha256: &str) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, self.content_type.into());
        for (name, value) in self.marks(sha256) {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        }
        attributes
    }

    /// By these an object is known again.
    fn marks(&self, sha256: &str) -> [(&'static str, String); 3] {
        [
            (FIRST_OFFSET, self.first.to_string()),
            (LAST_OFFSET, self.last.to_string()),
            ("ottla-sha256", sha256.to_owned()),
        ]
    }
}

/// How a bucket is reached.
pub struct Address<'a> {
    pub bucket: &'a str,
    pub region: &'a str,
    /// Amazon's if there is none.
    pub endpoint: Option<&'a str>,
    /// Whether the bucket's name stands in the path and not in the host.
    pub path_style: bool,
    pub retries: usize,
    pub first_pause_ms: u64,
}

/// With the environment's credentials: keys, a web identity token, a container's or an instance's role.
pub fn builder(address: &Address<'_>, guard: &Guard) -> Result<AmazonS3Builder, ConnectError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(address.bucket)
        .with_region(address.region)
        .with_virtual_hosted_style_request(!address.path_style)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_http_connector(GuardedConnector(guard.clone()))
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(address.first_pause_ms),
                ..BackoffConfig::default()
            },
            max_retries: address.retries,
            retry_timeout: REQUEST_WAIT,
        });
    if let Some(endpoint) = address.endpoint {
        let url = guard
            .check(endpoint)
            .map_err(|e| ConnectError::config(e.to_string()))?;
        let mut endpoint = endpoint.trim_end_matches('/').to_owned();
        if !address.path_style {
            let host = url.host_str().unwrap_or_default();
            endpoint = endpoint.replacen(host, &format!("{}.{host}", address.bucket), 1);
        }
        builder = builder
            .with_endpoint(endpoint)
            .with_allow_http(url.scheme() == "http");
    }
    Ok(builder)
}

#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
}

enum Put {
    Done,
    Later(String),
}

impl Bucket {
    pub fn of(vendor: Vendor, settings: &Settings, guard: &Guard) -> Result<Bucket, ConnectError> {
        let aiven = vendor == Vendor::Aiven;
        let name = |confluent, of_aiven| if aiven { of_aiven } else { confluent };
        let bucket = settings.required_text(name("s3.bucket.name", "aws.s3.bucket.name"));
        let region = settings.required_text(name("s3.region", "aws.s3.region"));
        let path_style = settings.boolean(name(
            "s3.path.style.access.enabled",
            "aws.s3.path.style.access.enabled",
        ));
        let tries = if aiven {
            3
        } else {
            settings.long("s3.part.retries")
        };
        let first = settings.long(name("s3.retry.backoff.ms", "aws.s3.backoff.delay.ms"));
        let address = Address {
            bucket,
            region,
            endpoint: settings.text(name("store.url", "aws.s3.endpoint")),
            path_style,
            retries: tries.max(0) as usize,
            first_pause_ms: first.max(1) as u64,
        };
        let mut builder = builder(&address, guard)?;
        let secret = |key| settings.secret(key).map_or("", |s| s.reveal());
        let (id, key) = (secret("aws.access.key.id"), secret("aws.secret.access.key"));
        if !id.is_empty() {
            builder = builder.with_access_key_id(id).with_secret_access_key(key);
        }
        let encryption = settings.required_text(name("s3.ssea.name", "aws.s3.sse.algorithm"));
        let kms_key = if aiven {
            ""
        } else {
            settings.required_text("s3.sse.kms.key.id")
        };
        builder = match encryption {
            "" => builder,
            "aws:kms" if !kms_key.is_empty() => builder.with_sse_kms_encryption(kms_key),
            other => {
                let key = "aws_server_side_encryption".parse();
                builder.with_config(key.map_err(|e| wrong(&e))?, other)
            }
        };
        let store = builder.build().map_err(|e| wrong(&e))?;
        Ok(Bucket {
            store: Arc::new(store),
        })
    }

    /// Puts the object, however long it takes, and gives its SHA-256. Only what no repetition can change is an
    /// error.
    pub async fn put(&self, object: NewObject) -> Result<String, ConnectError> {
        let sha256 = hex(&Sha256::digest(&object.body));
        let path = Path::parse(&object.key)
            .map_err(|e| ConnectError::data(format!("object {}: {e}", object.key)))?;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.put_once(&path, &object, &sha256).await? {
                Put::Done => return Ok(sha256),
                Put::Later(why) => {
                    tracing::warn!("object {}, to be tried again: {why}", object.key);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn put_once(
        &self,
        path: &Path,
        object: &NewObject,
        sha256: &str,
    ) -> Result<Put, ConnectError> {
        let mut body = object.body.clone();
        let mut pieces = Vec::with_capacity(body.len() / PIECE_BYTES + 1);
        while body.len() > PIECE_BYTES {
            pieces.push(body.split_to(PIECE_BYTES));
        }
        pieces.push(body);
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: object.attributes(sha256),
            ..PutOptions::default()
        };
        let payload = PutPayload::from_iter(pieces);
        match self.store.put_opts(path, payload, options).await {
            Ok(_) => Ok(Put::Done),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => self.compare(path, object, sha256).await,
            Err(error) => later_or_never(&object.key, error).map(Put::Later),
        }
    }

    /// The first and last offset of the object of this name, however long it takes. `None`: there is none, or who
    /// may write may not look.
    pub async fn offsets(&self, key: &str) -> Result<Option<(String, String)>, ConnectError> {
        let path =
            Path::parse(key).map_err(|e| ConnectError::data(format!("object {key}: {e}")))?;
        let mut pause = FIRST_PAUSE;
        loop {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            let error = match self.store.get_opts(&path, options).await {
                Ok(found) => {
                    let mark = |name: &'static str| {
                        let mark = found.attributes.get(&Attribute::Metadata(name.into()));
                        mark.map_or(String::new(), |m| m.as_ref().to_owned())
                    };
                    return Ok(Some((mark(FIRST_OFFSET), mark(LAST_OFFSET))));
                }
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(object_store::Error::PermissionDenied { .. }) => return Ok(None),
                Err(error) => error,
            };
            let why = later_or_never(key, error)?;
            tracing::warn!("object {key}, to be looked for again: {why}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Somebody put an object of this name. If it has the same records and bytes, it is this one.
    async fn compare(
        &self,
        path: &Path,
        object: &NewObject,
        sha256: &str,
    ) -> Result<Put, ConnectError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let found = match self.store.get_opts(path, options).await {
            Ok(found) => found,
            // Another put of the same name was on its way, and has failed.
            Err(object_store::Error::NotFound { .. }) => {
                return Ok(Put::Later("a put of the same name collided with it".into()));
            }
            Err(error) => return later_or_never(&object.key, error).map(Put::Later),
        };
        let same = object.marks(sha256).into_iter().all(|(name, value)| {
            let mark = found.attributes.get(&Attribute::Metadata(name.into()));
            mark.is_some_and(|m| m.as_ref() == value)
        });
        if same && found.meta.size == object.body.len() as u64 {
            return Ok(Put::Done);
        }
        Err(ConnectError::new(
            ErrorKind::Connect,
            format!(
                "object {} exists and is another one than offsets {} to {} with SHA-256 {sha256}: \
                 another task or connector writes here, or the offsets were reset",
                object.key, object.first, object.last
            ),
        ))
    }
}

fn wrong(error: &object_store::Error) -> ConnectError {
    ConnectError::config(format!("S3: {error}"))
}

/// Without a bucket or permission, no repetition helps; whatever else may pass.
fn later_or_never(key: &str, error: object_store::Error) -> Result<String, ConnectError> {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let text = trace(&error);
    match error {
        NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. } => {
            let message = format!("object {key}: {text}");
            Err(ConnectError::new(ErrorKind::Connect, message))
        }
        _ => Ok(text),
    }
}
