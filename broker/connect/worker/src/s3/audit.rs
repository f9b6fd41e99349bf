//! The chain of manifests of a topic-partition, as the sink writes it (`ottla.audit.enable`).
//!
//! When all objects of a segment are in the store, its manifest is put like an object, once; and then the
//! offset moves on. What the manifest says is fixed by the plan and by the objects' bytes, so that whoever does
//! it again after a crash puts the same.

use ottla_connect::audit::{HmacKey, MANIFESTS, Manifest, ObjectEntry, manifest_name};
use ottla_connect::config::Settings;
use ottla_connect::config::classes::Vendor;
use ottla_connect::error::{ConnectError, ErrorKind};
use ottla_connect::partition::Naming;
use ottla_connect::rotate::Segment;
use ottla_connect::sink::TopicPartition;

use super::store::{Bucket, NewObject};

/// What the keys say.
#[derive(Clone)]
pub struct Audit {
    connector: String,
    /// The folder that has the objects and the manifests: empty, or with a slash at its end.
    folder: String,
    key: Option<std::sync::Arc<HmacKey>>,
}

/// What is known of the chain of an open topic-partition.
pub struct ChainState {
    pub cluster_id: String,
    /// Objects of the segment that are in the store.
    pub objects: Vec<ObjectEntry>,
    /// Whether the store's chain ends where the offset's metadata says so.
    pub place: Place,
    /// The manifest is on its way.
    pub putting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Unknown,
    Asked,
    Sure,
}

impl Audit {
    pub fn of(
        vendor: Vendor,
        settings: &Settings,
        naming: &Naming,
    ) -> Result<Option<Audit>, ConnectError> {
        if !settings.boolean("ottla.audit.enable") {
            return Ok(None);
        }
        if !naming.is_stable() {
            return Err(ConnectError::config(match vendor {
                Vendor::Aiven => {
                    "ottla.audit.enable needs names that follow from the records: set \
                     file.name.timestamp.source to event"
                }
                Vendor::Confluent | Vendor::Ottla => {
                    "ottla.audit.enable needs paths that follow from the records: set \
                     timestamp.extractor to Record or RecordField"
                }
            }));
        }
        let key = match settings.secret("ottla.audit.key") {
            Some(secret) => {
                let id = settings.required_text("ottla.audit.key.id");
                let key = HmacKey::new(id, secret);
                let key = key.map_err(|e| ConnectError::config(format!("ottla.audit.key: {e}")))?;
                Some(std::sync::Arc::new(key))
            }
            None => None,
        };
        Ok(Some(Audit {
            connector: settings.required_text("name").to_owned(),
            folder: folder(vendor, settings),
            key,
        }))
    }

    pub fn new_chain(&self, cluster_id: Option<String>) -> Result<ChainState, ConnectError> {
        let cluster_id = cluster_id.ok_or_else(|| {
            let message = "the brokers have not told the cluster's id, which manifests name";
            ConnectError::new(ErrorKind::Connect, message)
        })?;
        Ok(ChainState {
            cluster_id,
            objects: Vec::new(),
            place: Place::Unknown,
            putting: false,
        })
    }

    /// The object's name as manifests have it. A name among the manifests is the record's fault.
    pub fn name<'a>(&self, key: &'a str) -> Result<&'a str, ConnectError> {
        let name = key.trim_start_matches('/').strip_prefix(&self.folder);
        let name = name
            .ok_or_else(|| ConnectError::data(format!("object {key} is not in {}", self.folder)))?;
        match name.strip_prefix(MANIFESTS) {
            Some(rest) if rest.starts_with('/') => Err(ConnectError::data(format!(
                "object {key}: {MANIFESTS} is the folder of manifests"
            ))),
            _ => Ok(name),
        }
    }

    fn manifest_key(&self, partition: &TopicPartition, sequence: u64) -> String {
        let name = manifest_name(&partition.topic, partition.partition, sequence);
        format!("{}{name}", self.folder)
    }

    /// The manifest as it is put, and its hash.
    pub fn manifest(
        &self,
        chain: &ChainState,
        partition: &TopicPartition,
        segment: &Segment,
    ) -> (NewObject, [u8; 32]) {
        let manifest = Manifest::new(
            segment.link,
            (&chain.cluster_id, &self.connector),
            (&partition.topic, partition.partition),
            (segment.first, segment.last),
            segment.counts,
            chain.objects.clone(),
        );
        let manifest = match &self.key {
            Some(key) => manifest.signed(key.as_ref()),
            None => manifest,
        };
        let object = NewObject {
            key: self.manifest_key(partition, segment.link.sequence),
            body: manifest.to_bytes().into(),
            first: segment.first,
            last: segment.last,
            content_type: "application/json",
        };
        (object, manifest.hash())
    }

    /// Before the first objects since the start: whether the store has another manifest in the segment's place
    /// already.
    pub async fn check_place(
        self,
        bucket: Bucket,
        partition: TopicPartition,
        segment: Segment,
    ) -> Result<(), ConnectError> {
        let key = self.manifest_key(&partition, segment.link.sequence);
        let own = (segment.first.to_string(), segment.last.to_string());
        match bucket.offsets(&key).await? {
            Some(found) if found != own => {
                let message = format!(
                    "{}-{}: manifest {key} is there already, of offsets {} to {}, and not of {} to {}: the offsets \
                     of the connector were reset, auditing was off for a time, or another connector writes here. \
                     Nothing was written. Give the connector another topics.dir (or aws.s3.prefix), where a new \
                     chain begins, or set its offsets back to where they were",
                    partition.topic, partition.partition, found.0, found.1, own.0, own.1
                );
                Err(ConnectError::new(ErrorKind::Connect, message))
            }
            _ => Ok(()),
        }
    }
}

/// What stands before all objects' names, up to the last slash.
fn folder(vendor: Vendor, settings: &Settings) -> String {
    let before = match vendor {
        Vendor::Aiven => {
            let prefix = settings.required_text("aws.s3.prefix");
            let fixed = prefix.split("{{").next().unwrap_or_default();
            fixed.rfind('/').map_or("", |end| &fixed[..end])
        }
        Vendor::Confluent | Vendor::Ottla => match settings.required_text("directory.delim") {
            "/" => settings.required_text("topics.dir"),
            _ => "",
        },
    };
    match before.trim_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

#[cfg(test)]
mod tests {
    use ottla_connect::config::Props;
    use ottla_connect::config::classes::Vendor;

    use super::*;

    /// What comes of a connector's keys.
    fn audit(vendor: Vendor, more: &[(&str, &str)]) -> Result<Audit, String> {
        let mut props = Props::new();
        let common = [
            ("name", "c"),
            ("connector.class", "S3Sink"),
            ("s3.bucket.name", "b"),
            ("aws.s3.bucket.name", "b"),
            ("format.class", "JsonFormat"),
            ("flush.size", "3"),
            ("ottla.audit.enable", "true"),
        ];
        for (key, value) in common.iter().chain(more) {
            props.insert(key.to_string(), value.to_string());
        }
        let settings = super::super::settings(vendor, &props).map_err(|e| e.to_string())?;
        let config = super::super::config(vendor, &settings, 1000).map_err(|e| e.to_string())?;
        assert!(config.policy.chained);
        Ok(config.audit.expect("it is on"))
    }

    #[test]
    fn paths_by_the_wall_clock_are_refused() {
        let hourly = (
            "partitioner.class",
            "io.confluent.connect.storage.partitioner.HourlyPartitioner",
        );
        let places = [("locale", "en"), ("timezone", "UTC"), hourly];
        let error = audit(Vendor::Confluent, &places).err().unwrap();
        assert!(
            error.contains("set timestamp.extractor to Record"),
            "{error}"
        );
        let by_record = [&places[..], &[("timestamp.extractor", "Record")]].concat();
        assert!(audit(Vendor::Confluent, &by_record).is_ok());
        let template = "{{topic}}/{{timestamp:unit=HH}}/{{partition}}-{{start_offset}}";
        let aiven = [("file.name.template", template)];
        let error = audit(Vendor::Aiven, &aiven).err().unwrap();
        assert!(error.contains("file.name.timestamp.source"), "{error}");
        let short = [("ottla.audit.key", "short")];
        assert!(audit(Vendor::Confluent, &short).is_err());
    }

    #[test]
    fn names_begin_below_the_folder_of_the_manifests() {
        let t = TopicPartition {
            topic: "t".into(),
            partition: 3,
        };
        let audit = audit(Vendor::Confluent, &[("topics.dir", "a/b")]).unwrap();
        let key = audit.manifest_key(&t, 7);
        assert_eq!(key, "a/b/_manifests/t/3/00000000000000000007.json");
        assert_eq!(
            audit.name("a/b/t/partition=3/t+3+0.json").unwrap(),
            "t/partition=3/t+3+0.json"
        );
        assert!(audit.name("a/b/_manifests/partition=3/x").is_err());
        for (prefix, folder) in [
            ("", ""),
            ("x/", "x/"),
            ("x/y-", "x/"),
            ("x/{{utc_date}}/", "x/"),
            ("x{{utc_date}}/", ""),
        ] {
            let keys = [
                ("aws.s3.prefix", prefix),
                ("file.name.timestamp.source", "event"),
            ];
            let audit = super::tests::audit(Vendor::Aiven, &keys).unwrap();
            assert_eq!(audit.folder, folder, "{prefix}");
        }
    }
}
