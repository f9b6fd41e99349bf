//! The table of configuration keys: what each is called, what it may hold, and what this server
//! does with it. [`topic`] lists the configs of a topic, [`broker`] the keys of `server.properties`.
//!
//! Names, types, defaults and ranges are those of Kafka 4.1, so that a file or a tool written for
//! Kafka works unchanged. [`Effect`] says where this server differs.

pub mod broker;
pub mod topic;

/// The type of a value, as DescribeConfigs reports it. The discriminants are the numbers of
/// `ConfigType` in KIP-569.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    /// Never shown: not in an answer, not in a log line, not in an error.
    Password = 9,
}

/// What a well-formed value must also satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    Any,
    AtLeast(i64),
    /// Both ends included.
    Between(i64, i64),
    /// For [`Kind::Double`], both ends included.
    Ratio(f64, f64),
    OneOf(&'static [&'static str]),
    /// For [`Kind::List`]: each element is one of these.
    EachOf(&'static [&'static str]),
    /// A text that is not empty.
    NonEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Whether a broker key may change while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Read once, at start-up.
    ReadOnly,
    /// May be set for one broker, not for all at once.
    PerBroker,
    /// May be set for one broker or as the default of all.
    ClusterWide,
}

/// What this server does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The server does what the key says.
    Honoured,
    /// Any valid value is accepted, and the server does some of what it says: this much. Said once
    /// at start-up.
    Partly(&'static str),
    /// Any valid value is accepted and changes nothing, for this reason. Said once at start-up.
    NoEffect(&'static str),
    /// Only these values are accepted, because the server cannot do what the others ask for.
    Only(&'static [&'static str], &'static str),
    /// Belongs to a part that does not exist here: only the default or an empty value is accepted.
    NotBuilt(&'static str),
}

/// A broker key that supplies a value where a more specific key is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub key: &'static str,
    /// What one unit of `key` is in the unit of the key it supplies (60,000 for minutes to ms).
    pub factor: i64,
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: Kind,
    /// `None` is Kafka's null: no value at all.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub importance: Importance,
    pub update: Update,
    pub effect: Effect,
    /// Broker keys that supply the value, the most specific first. Of a topic config: where its
    /// default comes from. Of a broker key: the family it belongs to, itself included.
    pub synonyms: &'static [Synonym],
    pub doc: &'static str,
}

impl ConfigDef {
    const fn new(
        kind: Kind,
        name: &'static str,
        default: Option<&'static str>,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            valid: Valid::Any,
            importance: Importance::Medium,
            update: Update::ReadOnly,
            effect: Effect::Honoured,
            synonyms: &[],
            doc,
        }
    }

    const fn valid(mut self, valid: Valid) -> Self {
        self.valid = valid;
        self
    }
    const fn at_least(self, min: i64) -> Self {
        self.valid(Valid::AtLeast(min))
    }
    const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }
    const fn low(mut self) -> Self {
        self.importance = Importance::Low;
        self
    }
    /// The broker applies a new value while it runs.
    const fn cluster_wide(mut self) -> Self {
        self.update = Update::ClusterWide;
        self
    }
    const fn per_broker(mut self) -> Self {
        self.update = Update::PerBroker;
        self
    }
    const fn partly(mut self, what: &'static str) -> Self {
        self.effect = Effect::Partly(what);
        self
    }
    const fn no_effect(mut self, why: &'static str) -> Self {
        self.effect = Effect::NoEffect(why);
        self
    }
    const fn only(mut self, accepted: &'static [&'static str], why: &'static str) -> Self {
        self.effect = Effect::Only(accepted, why);
        self
    }
    const fn not_built(mut self, what: &'static str) -> Self {
        self.effect = Effect::NotBuilt(what);
        self
    }
    const fn supplied_by(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// True for values that are never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

// One constructor per type keeps a row of the tables short. `default` of "" is an empty text or
// list; the functions that end in `_unset` make a key whose default is null.
const fn boolean(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Boolean, name, Some(default), doc)
}
const fn int(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Int, name, Some(default), doc)
}
const fn int_unset(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Int, name, None, doc)
}
const fn short(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Short, name, Some(default), doc)
}
const fn long(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Long, name, Some(default), doc)
}
const fn long_unset(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Long, name, None, doc)
}
const fn double(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Double, name, Some(default), doc)
}
const fn text(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::String, name, Some(default), doc)
}
const fn text_unset(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::String, name, None, doc)
}
const fn list(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::List, name, Some(default), doc)
}
const fn class(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Class, name, Some(default), doc)
}
const fn class_unset(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Class, name, None, doc)
}
const fn password(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::Password, name, None, doc)
}

const fn synonym(key: &'static str) -> Synonym {
    Synonym { key, factor: 1 }
}
const fn scaled(key: &'static str, factor: i64) -> Synonym {
    Synonym { key, factor }
}
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const OWN_PACE: &str = "nodes notice each other's silence by themselves, in a second or less";
const NO_SEGMENTS: &str = "records are rows of RocksDB, not segment files";
const ALWAYS_SYNCED: &str = "an acknowledged record is already synced to disk";
const KEEPS_COMPRESSION: &str = "Ottla keeps batches as the producer compressed them";
const NO_UNCLEAN: &str = "a leader always holds every acknowledged record";
const TIERED: &str = "tiered storage";
/// Kafka's name of the selector that goes by racks.
pub(super) const RACK_AWARE_SELECTOR: &str =
    "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const THROTTLES: &str = "replication throttles";

const RETENTION: &[Synonym] = &[
    synonym("log.retention.ms"),
    scaled("log.retention.minutes", MINUTE_MS),
    scaled("log.retention.hours", HOUR_MS),
];
const ROLL: &[Synonym] = &[synonym("log.roll.ms"), scaled("log.roll.hours", HOUR_MS)];
const ROLL_JITTER: &[Synonym] = &[
    synonym("log.roll.jitter.ms"),
    scaled("log.roll.jitter.hours", HOUR_MS),
];
const FLUSH: &[Synonym] = &[
    synonym("log.flush.interval.ms"),
    synonym("log.flush.scheduler.interval.ms"),
];
