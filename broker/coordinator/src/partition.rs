//! Which partition of `__consumer_offsets` coordinates a group.

/// Kafka's choice: the absolute value of Java's `String.hashCode` modulo the partition count.
///
/// `String.hashCode` runs over UTF-16 code units; the absolute value of the smallest int is 0.
///
/// # Panics
/// If `partitions` is not positive.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "__consumer_offsets has no partitions");
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn follows_java() {
        // "hello".hashCode() == 99162322; "polygenelubricants".hashCode() == Integer.MIN_VALUE.
        assert_eq!(partition_for("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("", 50), 0);
        // U+1F600 is the surrogate pair D83D DE00: 31 * 0xD83D + 0xDE00 = 1772899.
        assert_eq!(partition_for("\u{1F600}", 1 << 30), 1_772_899);
        // "consumer-group-z" overflows: checked against the definition in 64 bits.
        let wide = "consumer-group-z".bytes().fold(0u64, |h, b| {
            h.wrapping_mul(31).wrapping_add(b.into()) & 0xffff_ffff
        });
        let expect = i64::from(wide as u32 as i32).unsigned_abs() % 50;
        assert_eq!(partition_for("consumer-group-z", 50) as u64, expect);
    }
}
