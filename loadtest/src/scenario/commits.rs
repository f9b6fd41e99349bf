//! `commits`: millions of offset commits, then kill -9, and how long until every group can be read again.

use std::time::{Duration, Instant};

use clap::Args;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::Interrupt;
use super::start::first_answer;
use crate::args::OutputArgs;
use crate::client::cluster::{prepare_topic, topic_name};
use crate::client::connection::Connection;
use crate::client::read::{Reader, Truncated};
use crate::compare::process::Process;
use crate::error::{LoadError, Result};
use crate::report::Report;

const OFFSET_COMMIT: i16 = 7;
const OFFSET_FETCH: i16 = 5;
const TOPIC: &str = "loadtest-commits";
/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: later.
const NOT_YET: [i16; 3] = [14, 15, 16];
const RETRY_INTERVAL_MS: u64 = 1;
const START_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Args)]
pub struct CommitsArgs {
    /// Where the broker that is started will answer
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub bootstrap: String,
    #[arg(long, default_value_t = 10_000_000)]
    pub commits: u64,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub groups: u32,
    /// Partitions whose offsets go in one request
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Between the last commit and the kill: time for compaction
    #[arg(long, default_value_t = 0.0)]
    pub settle_seconds: f64,
    #[command(flatten)]
    pub output: OutputArgs,
    /// The broker's command line, after --
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

pub struct CommitsResult {
    pub interrupted: bool,
    commits: u64,
    write_s: f64,
    first_answer_ms: f64,
    readable_ms: f64,
}

pub async fn run(args: &CommitsArgs, interrupt: &Interrupt) -> Result<CommitsResult> {
    let address = &args.bootstrap;
    let mut process = Process::spawn(&args.command, None, &[])?;
    first_answer(address, &mut process, Instant::now() + START_TIMEOUT).await?;
    let mut connection = Connection::open_checked(address).await?;
    prepare_topic(&mut connection, TOPIC, args.partitions, 1).await?;
    let began = Instant::now();
    let (mut commits, mut last) = (0, vec![-1; args.groups as usize]);
    for round in 0i64.. {
        let group = (round % i64::from(args.groups)) as usize;
        if commits >= args.commits || interrupt.is_set() {
            break;
        }
        commit(&mut connection, args, group, round).await?;
        last[group] = round;
        commits += u64::from(args.partitions);
    }
    let write_s = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs_f64(args.settle_seconds)).await;
    // Ends it by SIGKILL.
    drop(process);
    let start = Instant::now();
    let mut process = Process::spawn(&args.command, None, &[])?;
    first_answer(address, &mut process, start + START_TIMEOUT).await?;
    let first_answer_ms = start.elapsed().as_secs_f64() * 1000.0;
    let mut connection = Connection::open_checked(address).await?;
    for (group, offset) in last.iter().enumerate().filter(|(_, offset)| **offset >= 0) {
        check(&mut connection, args, group, *offset, start + START_TIMEOUT).await?;
    }
    let readable_ms = start.elapsed().as_secs_f64() * 1000.0;
    process.terminate().await?;
    Ok(CommitsResult {
        interrupted: interrupt.is_set(),
        commits,
        write_s,
        first_answer_ms,
        readable_ms,
    })
}

fn group_id(group: usize) -> GroupId {
    GroupId(StrBytes::from_string(format!("loadtest-{group}")))
}

/// Commits `offset` for every partition.
async fn commit(
    connection: &mut Connection,
    args: &CommitsArgs,
    group: usize,
    offset: i64,
) -> Result<()> {
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_static_str("")))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions((0..args.partitions as i32).map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    loop {
        let answer = connection.request(OFFSET_COMMIT, &request).await?;
        let code = connection.parse(&answer, parse_commit)?;
        if !NOT_YET.contains(&code) {
            return LoadError::check(code, || "committing offsets".into());
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

/// The first error code, or 0.
fn parse_commit(r: &mut Reader<'_>) -> std::result::Result<i16, Truncated> {
    r.i32()?;
    let mut first = 0;
    for _ in 0..r.array_len(6)? {
        r.string()?;
        for _ in 0..r.array_len(6)? {
            r.i32()?;
            let code = r.i16()?;
            first = if first == 0 { code } else { first };
        }
    }
    Ok(first)
}

/// Waits until the group is loaded; its offsets must be those of the last commit.
async fn check(
    connection: &mut Connection,
    args: &CommitsArgs,
    group: usize,
    offset: i64,
    deadline: Instant,
) -> Result<()> {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partition_indexes((0..args.partitions as i32).collect());
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(Some(vec![topic]));
    loop {
        let answer = connection.request(OFFSET_FETCH, &request).await?;
        let (code, offsets) = connection.parse(&answer, parse_fetch)?;
        if !NOT_YET.contains(&code) {
            LoadError::check(code, || "fetching offsets".into())?;
            let whole = offsets.len() == args.partitions as usize;
            return match whole && offsets.iter().all(|found| *found == offset) {
                true => Ok(()),
                false => Err(LoadError::NotVerified(format!(
                    "group {group} was acknowledged {offset} for every partition and has {offsets:?}"
                ))),
            };
        }
        if Instant::now() > deadline {
            return Err(LoadError::Timeout(format!("group {group} is not loaded")));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

fn parse_fetch(r: &mut Reader<'_>) -> std::result::Result<(i16, Vec<i64>), Truncated> {
    r.i32()?;
    let (mut first, mut offsets) = (0, Vec::new());
    for _ in 0..r.array_len(6)? {
        r.string()?;
        for _ in 0..r.array_len(20)? {
            r.i32()?;
            offsets.push(r.i64()?);
            r.i32()?;
            r.nullable_string()?;
            let code = r.i16()?;
            first = if first == 0 { code } else { first };
        }
    }
    let code = r.i16()?;
    Ok((if code == 0 { first } else { code }, offsets))
}

pub fn report(args: &CommitsArgs, result: &CommitsResult) -> Report {
    let mut report = Report::new("commits");
    report.interrupted = result.interrupted;
    report.text("command", "command", args.command.join(" "));
    report.number("commits", "commits", result.commits as f64, 0, "");
    report.number("groups", "groups", f64::from(args.groups), 0, "");
    let rate = result.commits as f64 / result.write_s.max(1e-9);
    report.number("commits_per_s", "acknowledged", rate, 0, "per s");
    let first = result.first_answer_ms;
    report.number(
        "first_answer_ms",
        "first answer after kill -9",
        first,
        1,
        "ms",
    );
    let readable = result.readable_ms;
    report.number("readable_ms", "all groups read after", readable, 1, "ms");
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed() {
        let commit = [
            0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 0, 16,
        ];
        assert_eq!(parse_commit(&mut Reader::new(&commit)), Ok(16));
        let mut fetch = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5];
        fetch.extend([0, 0, 0, 0, 0, 0, 0, 9, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse_fetch(&mut Reader::new(&fetch)), Ok((0, vec![9])));
        assert!(parse_fetch(&mut Reader::new(&fetch[..30])).is_err());
    }
}
