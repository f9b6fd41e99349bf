//! `/metrics` of a worker, in Prometheus' text format: docs/connect.md says what each one means.

use std::fmt::Write as _;

use crate::herder::Info;
use crate::task::{Counts, State};

const STATES: [State; 4] = [
    State::Unassigned,
    State::Running,
    State::Paused,
    State::Failed,
];

type Count = fn(&Counts) -> u64;
const COUNTS: [(&str, Count); 5] = [
    ("bytes", |counts| counts.bytes),
    ("commits", |counts| counts.commits),
    ("dead_letters", |counts| counts.dead_letters),
    ("manifests", |counts| counts.manifests),
    ("records", |counts| counts.records),
];

pub fn text(connectors: &[Info]) -> String {
    let mut text = String::new();
    let count = connectors.len();
    begin(&mut text, "ottla_connect_connectors", "gauge");
    let _ = writeln!(text, "ottla_connect_connectors {count}");
    let name = "ottla_connect_tasks";
    begin(&mut text, name, "gauge");
    for connector in connectors {
        let label = label(&connector.name);
        for state in STATES.map(State::name) {
            let here = connector.tasks.iter().filter(|t| t.counts.is_some());
            let tasks = here.filter(|task| task.state == state).count();
            let state = state.to_lowercase();
            let _ = writeln!(
                text,
                "{name}{{connector=\"{label}\",state=\"{state}\"}} {tasks}"
            );
        }
    }
    for (what, count) in COUNTS {
        let name = format!("ottla_connect_task_{what}_total");
        begin(&mut text, &name, "counter");
        for connector in connectors {
            let label = label(&connector.name);
            for task in &connector.tasks {
                let Some(counts) = &task.counts else { continue };
                let (id, value) = (task.id, count(counts));
                let _ = writeln!(
                    text,
                    "{name}{{connector=\"{label}\",task=\"{id}\"}} {value}"
                );
            }
        }
    }
    text
}

fn begin(text: &mut String, name: &str, kind: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

/// A label's value: a connector may have any name.
fn label(name: &str) -> String {
    let mut value = String::new();
    for letter in name.chars() {
        match letter {
            '\\' => value.push_str("\\\\"),
            '"' => value.push_str("\\\""),
            '\n' => value.push_str("\\n"),
            letter => value.push(letter),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use ottla_connect::config::Props;

    use super::*;
    use crate::herder::TaskInfo;

    #[test]
    fn states_and_counts_of_each_connector() {
        let task = |id, state: State, records: Option<u64>| TaskInfo {
            id,
            state: state.name().into(),
            trace: None,
            worker_id: "w:1".into(),
            counts: records.map(|records| Counts {
                records,
                ..Counts::default()
            }),
        };
        let connector = Info {
            name: "a \"b\"\n\\".into(),
            config: Props::new(),
            state: State::Running.name().into(),
            worker_id: "w:1".into(),
            tasks: vec![
                task(0, State::Failed, Some(7)),
                task(1, State::Running, Some(9)),
                // Another worker's.
                task(2, State::Running, None),
            ],
        };
        let text = text(&[connector]);
        let label = r#"connector="a \"b\"\n\\""#;
        for line in [
            "ottla_connect_connectors 1".to_owned(),
            format!("ottla_connect_tasks{{{label},state=\"failed\"}} 1"),
            format!("ottla_connect_tasks{{{label},state=\"paused\"}} 0"),
            format!("ottla_connect_tasks{{{label},state=\"running\"}} 1"),
            format!("ottla_connect_task_records_total{{{label},task=\"1\"}} 9"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
