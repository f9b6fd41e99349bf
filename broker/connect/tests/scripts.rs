//! Runs the scripts in `scripts/`: a configuration and a record in, what becomes of it out.
//!
//! A case is `case NAME`, lines `with KEY = VALUE`, lines `in PART TEXT`, and lines `out ..`, which are
//! what comes out. `with` keys are those of a connector; `transforms` and `predicates` follow from the
//! aliases used. Parts are `topic`, `key`, `value` and `header NAME`. JSON with an envelope is read with
//! its schema; `hex:` and base 16 digits are bytes. `OTTLA_FIX_SCRIPTS=1` writes what comes out into the
//! scripts.

use std::path::Path;
use std::sync::Arc;

use ottla_connect::config::{Props, with_prefix};
use ottla_connect::converter::{Converter, Converters, build};
use ottla_connect::data::{RawHeader, RawRecord, SchemaAndValue, TimestampType};
use ottla_connect::errors::Pipeline;
use ottla_connect::transform::Chain;

#[derive(Default)]
struct Case<'a> {
    with: Props,
    input: Vec<(&'a str, &'a str)>,
}

#[test]
fn scripts_do_what_they_say() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/scripts");
    let fix = std::env::var_os("OTTLA_FIX_SCRIPTS").is_some();
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let (ran, n) = run(&script);
        cases += n;
        if fix {
            std::fs::write(&path, ran).unwrap();
        } else {
            for (i, (is, should)) in ran.lines().zip(script.lines()).enumerate() {
                assert_eq!(is, should, "{}:{}", path.display(), i + 1);
            }
            assert_eq!(ran, script, "{}", path.display());
        }
    }
    assert!(cases > 60, "{cases} cases");
}

/// The script with the output that its cases have.
fn run(script: &str) -> (String, usize) {
    let mut out = String::new();
    let mut cases = 0;
    let mut case: Option<Case<'_>> = None;
    for line in script.lines().chain(std::iter::once("")) {
        if line.starts_with("out ") {
            continue;
        }
        if line.is_empty()
            && let Some(case) = case.take()
        {
            cases += 1;
            for line in outcome(&case) {
                out += &format!("out {line}\n");
            }
        }
        if line.starts_with("case ") {
            case = Some(Case::default());
        } else if let Some(setting) = line.strip_prefix("with ") {
            let (key, value) = setting.split_once(" = ").expect("with KEY = VALUE");
            let case = case.as_mut().expect("a case before with");
            case.with.insert(key.to_owned(), value.to_owned());
        } else if let Some(input) = line.strip_prefix("in ") {
            let input = input.split_once(' ').unwrap_or((input, ""));
            case.as_mut().expect("a case before in").input.push(input);
        }
        out += line;
        out.push('\n');
    }
    (out.trim_end().to_owned() + "\n", cases)
}

fn outcome(case: &Case<'_>) -> Vec<String> {
    let mut with = case.with.clone();
    for list in ["transforms", "predicates"] {
        let mut aliases: Vec<String> = Vec::new();
        for key in with.keys() {
            let alias = key.strip_prefix(list).and_then(|k| k.strip_prefix('.'));
            let alias = alias.and_then(|k| k.split('.').next()).map(str::to_owned);
            aliases.extend(alias.filter(|a| !aliases.contains(a)));
        }
        with.insert(list.to_owned(), aliases.join(","));
    }
    let chain = match Chain::build(&with) {
        Ok(chain) => chain,
        Err(problems) => {
            return problems
                .iter()
                .map(|p| format!("refused {}: {}", p.key, p.message))
                .collect();
        }
    };
    let raw = Arc::new(record(&case.input));
    let mut pipeline = Pipeline {
        converters: Converters {
            key: converter(&with, "key.converter", raw.key.as_deref()),
            value: converter(&with, "value.converter", raw.value.as_deref()),
            header: build(
                "org.apache.kafka.connect.storage.SimpleHeaderConverter",
                &Props::new(),
                true,
            )
            .unwrap(),
        },
        transforms: chain,
    };
    match pipeline.process(raw) {
        Err(failure) => {
            let class = failure.class.rsplit('.').next().unwrap();
            vec![format!(
                "error {} {class}: {}",
                failure.stage.name(),
                failure.error
            )]
        }
        Ok(None) => vec!["dropped".into()],
        Ok(Some(record)) => {
            let mut lines = vec![];
            if &*record.topic != "orders" {
                lines.push(format!("topic {}", record.topic));
            }
            if record.key != SchemaAndValue::NULL {
                lines.push(format!("key {}", shown(&with, &record.key)));
            }
            lines.push(format!("value {}", shown(&with, &record.value)));
            let headers = record.headers.iter();
            lines.extend(headers.map(|h| format!("header {} {}", h.key, shown(&with, &h.value))));
            lines
        }
    }
}

/// Where no converter is named: JSON, with schemas if the record has an envelope.
fn converter(with: &Props, key: &str, bytes: Option<&[u8]>) -> Box<dyn Converter> {
    let mut props = with_prefix(with, &format!("{key}."));
    let envelope = bytes.is_some_and(|b| b.starts_with(b"{\"schema\":"));
    let class = with.get(key).map_or("JsonConverter", String::as_str);
    if class == "JsonConverter" && !props.contains_key("schemas.enable") {
        props.insert("schemas.enable".into(), envelope.to_string());
    }
    build(class, &props, false).unwrap()
}

fn record(input: &[(&str, &str)]) -> RawRecord {
    let mut record = RawRecord {
        topic: "orders".into(),
        partition: 3,
        offset: 42,
        // 2026-01-03T15:04:05.678Z
        timestamp: Some(1_767_452_645_678),
        timestamp_type: TimestampType::CreateTime,
        key: None,
        value: None,
        headers: vec![],
    };
    let bytes = |text: &str| match text.strip_prefix("hex:") {
        Some(digits) => (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
            .collect(),
        None => text.as_bytes().to_vec(),
    };
    for (part, text) in input {
        match *part {
            "topic" => record.topic = (*text).into(),
            "key" => record.key = Some(bytes(text).into()),
            "value" => record.value = Some(bytes(text).into()),
            "header" => {
                let (name, text) = text.split_once(' ').expect("in header NAME TEXT");
                record.headers.push(RawHeader {
                    key: name.into(),
                    value: Some(bytes(text).into()),
                });
            }
            other => panic!("in {other}"),
        }
    }
    record
}

fn shown(with: &Props, data: &SchemaAndValue) -> String {
    let mut props = Props::new();
    props.insert("schemas.enable".into(), data.schema.is_some().to_string());
    for key in ["decimal.format", "replace.null.with.default"] {
        if let Some(value) = with.get(&format!("value.converter.{key}")) {
            props.insert(key.into(), value.clone());
        }
    }
    let mut json = build("JsonConverter", &props, false).unwrap();
    match json.from_connect(data.schema.as_ref(), &data.value) {
        Ok(None) => "null".into(),
        Ok(Some(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(error) => format!("not writable: {error}"),
    }
}
