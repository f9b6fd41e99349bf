//! A strict reader of Prometheus' text format 0.0.4. What Prometheus itself would forgive is an error
//! here: samples without a type, a metric in two places, the same sample twice.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Scrape {
    /// Metric name to counter, gauge, histogram, summary or untyped.
    pub types: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    pub fn parse(text: &str) -> Result<Scrape, String> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut scrape = Scrape::default();
        let mut groups = Groups::default();
        for (number, line) in text.lines().enumerate() {
            let read = scrape.line(line, &mut groups);
            read.map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
        }
        Ok(scrape)
    }

    /// One sample's value; 0 for a counter that nothing has counted yet.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let sample = self.samples.get(&(name.to_owned(), labels.collect()));
        sample.copied().unwrap_or(0.0)
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|(sample, _)| sample == name)
    }

    pub fn labels_of(&self, name: &str) -> BTreeSet<&str> {
        let samples = self.samples.keys().filter(|(sample, _)| sample == name);
        samples
            .flat_map(|(_, labels)| labels.keys().map(String::as_str))
            .collect()
    }

    fn line(&mut self, line: &str, groups: &mut Groups) -> Result<(), String> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let Some(comment) = line.strip_prefix('#') else {
            return self.sample(line, groups);
        };
        let mut words = comment.splitn(4, ' ').skip(1);
        match (words.next(), words.next(), words.next()) {
            (Some("TYPE"), Some(name), Some(kind)) => {
                groups.enter(metric_name(name)?)?;
                const KINDS: &[&str] = &["counter", "gauge", "histogram", "summary", "untyped"];
                if !KINDS.contains(&kind) {
                    return Err(format!("no type: {kind}"));
                }
                let before = self.types.insert(name.to_owned(), kind.to_owned());
                before.map_or(Ok(()), |_| Err("a second type".to_owned()))
            }
            (Some("HELP"), Some(name), _) => groups.enter(metric_name(name)?),
            (Some("TYPE"), _, _) | (Some("HELP"), _, _) => Err("not whole".to_owned()),
            _ => Ok(()),
        }
    }

    fn sample(&mut self, line: &str, groups: &mut Groups) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let name = metric_name(&line[..end])?;
        let (labels, rest) = match line[end..].strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Labels::new(), &line[end..]),
        };
        let mut words = rest
            .strip_prefix(' ')
            .ok_or("no space before the value")?
            .split(' ');
        let value = number(words.next().unwrap_or_default())?;
        if let Some(timestamp) = words.next() {
            timestamp.parse::<i64>().map_err(|e| e.to_string())?;
        }
        if words.next().is_some() {
            return Err("something follows".to_owned());
        }
        let family = self.family(name).ok_or("no type before it")?;
        groups.enter(&family)?;
        let is_counter = self.types[&family] == "counter";
        if is_counter && (value.is_nan() || value < 0.0) {
            return Err("a counter below zero".to_owned());
        }
        let before = self.samples.insert((name.to_owned(), labels), value);
        before.map_or(Ok(()), |_| Err("a second time".to_owned()))
    }

    /// The metric that a sample belongs to.
    fn family(&self, sample: &str) -> Option<String> {
        let named = |name: &str, kinds: &[&str]| {
            let kind = self.types.get(name)?;
            kinds.contains(&kind.as_str()).then(|| name.to_owned())
        };
        let suffixed = |suffix: &str, kinds: &[&str]| named(sample.strip_suffix(suffix)?, kinds);
        named(sample, &["counter", "gauge", "summary", "untyped"])
            .or_else(|| suffixed("_bucket", &["histogram"]))
            .or_else(|| suffixed("_sum", &["histogram", "summary"]))
            .or_else(|| suffixed("_count", &["histogram", "summary"]))
    }
}

/// All lines of one metric stand together.
#[derive(Default)]
struct Groups {
    current: String,
    left: BTreeSet<String>,
}

impl Groups {
    fn enter(&mut self, name: &str) -> Result<(), String> {
        if self.current != name {
            if self.left.contains(name) {
                return Err("its other lines stand elsewhere".to_owned());
            }
            let left = std::mem::replace(&mut self.current, name.to_owned());
            self.left.insert(left);
        }
        Ok(())
    }
}

fn metric_name(name: &str) -> Result<&str, String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let legal = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    legal
        .then_some(name)
        .ok_or(format!("no metric name: {name:?}"))
}

fn label_name(name: &str) -> Result<&str, String> {
    match name.contains(':') {
        true => Err(format!("no label name: {name:?}")),
        false => metric_name(name),
    }
}

/// What stands between the braces, and what follows them.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        let name = label_name(name)?;
        let (value, after) = label_value(after)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("{name} twice"));
        }
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.starts_with('}') => after,
            None => return Err("no comma between labels".to_owned()),
        };
    }
}

fn label_value(rest: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &rest[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("no such escape".to_owned()),
            },
            c => value.push(c),
        }
    }
    Err("a label value without an end".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => {
            text.parse().map_err(|_| format!("no number: {text}"))
        }
        _ => Err(format!("no number: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_right() {
        let text = "# HELP a_total What it counts.\n# TYPE a_total counter\n\
                    a_total{topic=\"x\",path=\"C:\\\\d\\n\\\"q\\\"\"} 3\na_total 1e3 1395066363000\n\n\
                    # TYPE b gauge\nb -0.5\n# TYPE h histogram\n\
                    h_bucket{le=\"+Inf\"} 2\nh_sum 7\nh_count 2\n# any words\n";
        let scrape = Scrape::parse(text).unwrap();
        let quoted = [("topic", "x"), ("path", "C:\\d\n\"q\"")];
        assert_eq!(scrape.value("a_total", &quoted), 3.0);
        assert_eq!(scrape.value("a_total", &[]), 1000.0);
        assert_eq!(
            (scrape.value("b", &[]), scrape.value("c", &[])),
            (-0.5, 0.0)
        );
        assert_eq!(scrape.types["h"], "histogram");
        assert_eq!(scrape.labels_of("a_total"), ["path", "topic"].into());
        assert!(scrape.has("h_sum") && !scrape.has("h"));
        assert!(Scrape::parse("").is_ok());
    }

    #[test]
    fn refuses_what_is_wrong() {
        let of_a = |line: &str| format!("# TYPE a counter\n{line}\n");
        for text in [
            "a 1\n".to_owned(),
            "# TYPE a counter\na 1".to_owned(),
            "# TYPE a many\n".to_owned(),
            "# TYPE a\n".to_owned(),
            "# TYPE a counter\n# TYPE a counter\n".to_owned(),
            "# TYPE a counter\na 1\n# TYPE b gauge\nb 1\na{x=\"1\"} 1\n".to_owned(),
            of_a("a"),
            of_a("a "),
            of_a("a one"),
            of_a("a inf"),
            of_a("a -1"),
            of_a("a NaN"),
            of_a("a 1 2 3"),
            of_a("a  1"),
            of_a("a 1\na 2"),
            of_a("a{} 1\na 2"),
            of_a("a{x=\"1\"}1"),
            of_a("a{x=1} 1"),
            of_a("a{x=\"1} 1"),
            of_a("a{x=\"\\t\"} 1"),
            of_a("a{x=\"1\" y=\"2\"} 1"),
            of_a("a{x=\"1\",x=\"2\"} 1"),
            of_a("a{1x=\"1\"} 1"),
            of_a("a{x:y=\"1\"} 1"),
            of_a("a_bucket 1"),
            of_a("9a 1"),
        ] {
            assert!(Scrape::parse(&text).is_err(), "{text}");
        }
    }
}
