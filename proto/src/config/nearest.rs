//! Finds the name that somebody probably meant.

/// Names longer than this are compared by their first bytes only.
const MAX_NAME_BYTES: usize = 120;

/// The candidate with the fewest edits to `name`, if there are few enough for a typing error: at
/// most a quarter of the name, and never more than five.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.len() / 4).clamp(1, 5);
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= most)
        .map(|candidate| (edits(name.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits from one text to the other: letters put in, left out, exchanged for others, or swapped
/// with their neighbour (the optimal string alignment distance).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (
        &a[..a.len().min(MAX_NAME_BYTES)],
        &b[..b.len().min(MAX_NAME_BYTES)],
    );
    // Three rows of the table suffice: a swap looks two rows back.
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let exchange = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = exchange.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row[j] = least;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definitions::broker;

    #[test]
    fn edit_distances() {
        for (a, b, n) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes()), n, "{a} {b}");
            assert_eq!(edits(b.as_bytes(), a.as_bytes()), n, "{b} {a}");
        }
    }

    #[test]
    fn finds_what_was_meant() {
        let names = || broker::all().map(|def| def.name);
        for (typed, meant) in [
            ("num.partitons", Some("num.partitions")),
            ("log.dri", Some("log.dir")),
            ("log.retention.hour", Some("log.retention.hours")),
            ("advertised.listener", Some("advertised.listeners")),
            (
                "auto.create.topic.enable",
                Some("auto.create.topics.enable"),
            ),
            ("cfg.node.id", None),
            ("something.entirely.different", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names()), meant, "{typed}");
        }
    }
}
