//! The consumer protocol's subscription, the one member metadata that the coordinator looks into.
//!
//! `ConsumerProtocolSubscription`: version i16, topics array of string, then user data and, in later
//! versions, owned partitions, generation and rack, none of which matter here.

use std::collections::HashSet;

use crate::ReplayError;
use crate::records::Reader;

/// The protocol type of consumer groups; others (`connect`, `sr`) have metadata of their own.
pub(crate) const CONSUMER: &str = "consumer";

/// Adds the topics of one subscription to `topics`.
pub(crate) fn collect_topics(
    metadata: &[u8],
    topics: &mut HashSet<String>,
) -> Result<(), ReplayError> {
    let mut input = Reader::new(metadata);
    let version = input.i16("subscription version")?;
    if version < 0 {
        return Err(ReplayError::UnknownVersion {
            kind: "subscription",
            version,
        });
    }
    let count =
        usize::try_from(input.i32("topics")?).map_err(|_| ReplayError::BadLength("topics"))?;
    for _ in 0..count {
        topics.insert(input.string("topic")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_topics_and_refuses_nonsense() {
        let mut topics = HashSet::new();
        let v1 = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        collect_topics(v1, &mut topics).unwrap();
        assert_eq!(topics, HashSet::from(["a".to_owned(), "bc".to_owned()]));
        assert!(collect_topics(b"", &mut topics).is_err());
        assert!(collect_topics(b"\xff\xff\0\0\0\0", &mut topics).is_err());
        assert!(collect_topics(b"\0\0\x7f\xff\xff\xff\0\x01a", &mut topics).is_err());
    }
}
