//! Runs tests/scripts/*.txt: commands in time, each followed by `----` and what the coordinator
//! decides. `REWRITE=1 cargo test` writes what it decides now; read the difference before keeping it.
//!
//! Member ids end in a UUID that counts up; scripts say `c-1` for `c-00000000-...-000000000001`.
//! Requests are numbered: `#3` is the reply to the third one.

mod script;

use std::path::Path;

use script::machine::Machine;

#[test]
fn scripts_say_what_happens() {
    // As cargo says when it runs the test: one target directory may serve several checkouts.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    let folder = Path::new(&package).join("tests/scripts");
    let entries = std::fs::read_dir(&folder).expect("the folder of scripts");
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "the scripts are found");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let before = std::fs::read_to_string(&path).expect("a script");
        let after = run(&before);
        if before == after {
            continue;
        }
        if rewrite {
            std::fs::write(&path, after).expect("write the script");
        } else {
            wrong.push(format!(
                "{}:\n{}",
                path.display(),
                difference(&before, &after)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs each command of a script and returns the script with its true output.
fn run(text: &str) -> String {
    let mut machine = Machine::new();
    let mut out = String::new();
    let mut in_output = false;
    for line in text.lines() {
        match line {
            "" => {
                in_output = false;
                out.push('\n');
            }
            _ if in_output => {}
            "----" => in_output = true,
            comment if comment.starts_with('#') => {
                out.push_str(comment);
                out.push('\n');
            }
            command => {
                let output = machine.run(command);
                out.push_str(&format!("{command}\n----\n{output}"));
            }
        }
    }
    out
}

fn difference(before: &str, after: &str) -> String {
    let same = |(a, b): &(&str, &str)| a == b;
    let line = before.lines().zip(after.lines()).take_while(same).count();
    let part = |text: &str| {
        text.lines()
            .skip(line)
            .take(6)
            .collect::<Vec<_>>()
            .join("\n  ")
    };
    format!(
        "line {}\n expected\n  {}\n got\n  {}",
        line + 1,
        part(before),
        part(after)
    )
}
