//! Runs seeds, each in a process of its own (`ottla_simulation::child`).

use std::path::PathBuf;

use ottla_simulation::child;
use ottla_tests::lies::Lie;

use super::journal::Counts;
use super::{Broken, Outcome, WHOLE, run};

const TEST: &str = "simulation::tests::promises_are_kept";
const SEEDS: u64 = 1000;

/// Seeds that failed once, each with what was wrong. As the code changes, a seed becomes another history: each
/// also has a test of its own beside the code that was wrong.
const FAILED_ONCE: &[(u64, &str)] = &[
    (
        72,
        "a leader waited for an answer of the follower that waited for its snapshot",
    ),
    (
        1005,
        "a founder that started late had been forgotten, and so had no log to be elected with",
    ),
    (
        2121,
        "a replica that had left and come back with nothing elected one that lacked what was acknowledged",
    ),
];

/// Names for what is broken, to ask a process for it.
const BROKEN: &[(&str, Broken)] = &[
    ("whole", WHOLE),
    ("acknowledges-at-once", lying(Lie::AckAtOnce)),
    ("stale-reads", lying(Lie::StaleReads)),
    ("forgets-producers", lying(Lie::ForgetProducers)),
    ("old-offsets", lying(Lie::OldOffsets)),
    (
        "never-syncs",
        Broken {
            disks: ottla_simulation::Lie::NeverSyncs,
            ..WHOLE
        },
    ),
];

const fn lying(lie: Lie) -> Broken {
    Broken { lie, ..WHOLE }
}

/// What a process answers: counts, violations, and the whole history.
fn written(outcome: &Outcome) -> String {
    let Counts {
        acknowledged,
        commits,
        elections,
        crashes,
        generations,
        operations,
    } = outcome.counts;
    let violations: Vec<_> = outcome
        .violations
        .iter()
        .map(|v| v.to_string().replace('\n', "\t"))
        .collect();
    format!(
        "{acknowledged} {commits} {elections} {crashes} {generations} {operations}\n{}\n{}\n{}",
        violations.len(),
        violations.join("\n"),
        outcome.history
    )
}

/// What a process came to, as read from its answer.
struct Answer {
    counts: Counts,
    violations: Vec<String>,
    whole: String,
}

fn read(whole: String) -> Answer {
    let mut lines = whole.lines();
    let counts = lines.next().expect("counts");
    let mut numbers = counts.split(' ').map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("six numbers");
    let counts = Counts {
        acknowledged: next(),
        commits: next(),
        elections: next(),
        crashes: next(),
        generations: next(),
        operations: next(),
    };
    let violations = lines.next().and_then(|n| n.parse().ok());
    let violations = lines.take(violations.expect("a number")).map(str::to_owned);
    Answer {
        counts,
        violations: violations.collect(),
        whole,
    }
}

fn apart(seed: u64, broken: &str) -> Answer {
    match child::run(TEST, &format!("{seed} {broken}")) {
        Ok(answer) => read(answer),
        Err(why) => panic!("seed {seed} ({}): {why}", again(seed)),
    }
}

fn again(seed: u64) -> String {
    format!("make sim SEED={seed} runs it alone")
}

/// Where the history of a seed is kept for who wants to read it.
fn keep(seed: u64, answer: &Answer) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ottla-sim-{seed}.txt"));
    std::fs::write(&path, &answer.whole).expect("the history is written");
    path
}

fn judge(seed: u64, answer: &Answer) {
    assert!(
        answer.violations.is_empty(),
        "seed {seed} ({}): {}\nits history is in {}",
        again(seed),
        answer.violations.join("\n"),
        keep(seed, answer).display()
    );
}

/// In a process that was started for one simulation.
fn simulate(asked: &str) {
    let log = tracing_subscriber::fmt().with_env_filter(
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()),
    );
    let _ = log.with_writer(std::io::stderr).try_init();
    // A panic of any task is one of the process.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::abort();
    }));
    let (seed, name) = asked.split_once(' ').expect("a seed and a name");
    let mut known = BROKEN.iter().filter(|(known, _)| *known == name);
    let (_, broken) = known.next().expect("a known name");
    child::answer(&written(&run(seed.parse().expect("a seed"), *broken)));
}

#[test]
fn promises_are_kept() {
    if let Some(asked) = child::asked() {
        return simulate(&asked);
    }
    if let Some(seed) = child::number("OTTLA_SIM_SEED") {
        let answer = apart(seed, "whole");
        println!("seed {seed}: {:?}", answer.counts);
        println!("its history is in {}", keep(seed, &answer).display());
        return judge(seed, &answer);
    }
    for (seed, what) in FAILED_ONCE {
        println!("seed {seed}: {what}");
        judge(*seed, &apart(*seed, "whole"));
    }
    let mut all = Counts::default();
    let seeds = child::number("OTTLA_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let answer = apart(seed, "whole");
        judge(seed, &answer);
        all += answer.counts;
    }
    println!("{seeds} seeds: {all:?}");
    let seen = [all.acknowledged / 50, all.commits / 5, all.elections / 4];
    let done = [all.crashes, all.generations, all.operations];
    for count in seen.into_iter().chain(done) {
        assert!(count >= seeds, "too little happened: {all:?}");
    }
}

#[test]
fn a_seed_is_one_history() {
    for seed in [4, 5] {
        let [one, other] = [(); 2].map(|()| apart(seed, "whole"));
        let lines = one.whole.lines().zip(other.whole.lines());
        for (line, (a, b)) in lines.enumerate() {
            assert_eq!(a, b, "seed {seed}: line {line}");
        }
        assert!(one.whole == other.whole, "seed {seed}");
    }
}

/// Runs a cluster that is broken on purpose until the checker has found it by one of these rules.
fn is_found(broken: &str, rules: &[&str]) {
    const TRIES: u64 = 20;
    for seed in 0..TRIES {
        let answer = apart(seed, broken);
        let breaks = |violation: &&String| rules.iter().any(|rule| violation.starts_with(rule));
        if let Some(violation) = answer.violations.iter().find(breaks) {
            println!("{broken}: found with seed {seed}: {violation}");
            return;
        }
    }
    panic!("{broken}: not found by {rules:?} with {TRIES} seeds");
}

#[test]
fn an_early_acknowledgement_is_found() {
    is_found("acknowledges-at-once", &["LostWrite"]);
}

#[test]
fn a_stale_read_is_found() {
    is_found("stale-reads", &["Realtime", "TakenBack"]);
}

#[test]
fn a_forgotten_producer_is_found() {
    is_found("forgets-producers", &["Duplicate"]);
}

#[test]
fn an_old_offset_is_found() {
    is_found("old-offsets", &["OffsetRegress"]);
}

#[test]
fn a_disk_that_never_syncs_is_found() {
    is_found("never-syncs", &["LostWrite"]);
}
