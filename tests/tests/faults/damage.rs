//! Damaged files: flipped bits, cut files, missing files. Whatever is damaged: a read gives the right
//! record or an error, never a wrong record, never a silent end; or the broker refuses to start and
//! says why.
//!
//! `OTTLA_DAMAGES` damages (default 60) drawn from `OTTLA_SEED`; `make soak` runs it with thousands.

use std::fs;
use std::path::Path;

use ottla_tests::broker::{Broker, free_address};
use ottla_tests::client::{Topic, code};
use ottla_tests::damage::{copy, cut, files, flip, flush};
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::support::{TOPIC, batch, connect, delete_records, get, read, until};

const PARTITIONS: i32 = 3;
/// So many records of each partition are in files of their own; the rest in the write-ahead log.
const FLUSHED: u64 = 30;
const RECORDS: u64 = 60;
/// What names damage at a start that is refused.
const REASONS: [&str; 6] = [
    "damaged",
    "missing",
    "Corruption",
    "checksum",
    "No such file",
    "mismatch",
];

/// Record sizes below and above what goes into a blob file.
fn size(number: u64) -> usize {
    [40, 300, 3000, 40_000][number as usize % 4]
}

/// A stopped broker with records in tables, blob files and the write-ahead log, all acknowledged;
/// and where it serves metrics.
async fn prepared() -> (Broker, String) {
    let metrics = free_address().to_string();
    let mut broker = Broker::start_with(&[("ottla.metrics.listener", &metrics)]).await;
    let mut connection = connect(&broker).await;
    let topic = Topic {
        name: TOPIC,
        partitions: PARTITIONS,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    for number in 0..RECORDS {
        if number == FLUSHED {
            flush(&mut broker).await;
            connection = connect(&broker).await;
        }
        for partition in 0..PARTITIONS {
            let records = batch(number, partition, size(number));
            let answer = connection.produce(TOPIC, partition, records).await;
            assert_eq!(answer.expect("answered").error_code, 0);
        }
    }
    broker.kill9();
    (broker, metrics)
}

/// Damages one file, and says how.
fn damage(broker: &Broker, random: &mut Random) -> String {
    let kinds = [
        ".log",
        ".sst",
        ".blob",
        "MANIFEST-",
        "CURRENT",
        "db/durable",
    ];
    let found = files(
        &broker.data(),
        kinds[random.below(kinds.len() as u64) as usize],
    );
    let file = &found[random.below(found.len() as u64) as usize];
    let length = fs::metadata(file).expect("a file").len();
    let at = random.below(length.max(1));
    let how = match random.below(8) {
        0 => {
            fs::remove_file(file).expect("it is removed");
            "missing".to_owned()
        }
        1 => {
            cut(file, at);
            format!("cut at {at} of {length}")
        }
        _ if length == 0 => "empty anyway".to_owned(),
        _ => {
            let bit = random.below(8) as u32;
            flip(file, at, bit);
            format!("bit {bit} of byte {at} of {length} flipped")
        }
    };
    format!("{}: {how}", file.display())
}

/// What a damaged broker turned out to be.
#[derive(Debug, Default)]
struct Seen {
    whole: u32,
    with_errors: u32,
    refused: u32,
}

async fn look(broker: &mut Broker, what: &str, seen: &mut Seen) {
    let before = broker.log().len();
    broker.spawn();
    if let Err(status) = broker.up_or_ended().await {
        let log = &broker.log()[before..];
        assert!(!status.success(), "{what}: ended with {status}");
        assert!(
            REASONS.iter().any(|r| log.contains(r)),
            "{what}: no reason:\n{log}"
        );
        assert!(!log.contains("panicked"), "{what}:\n{log}");
        let reason = log.lines().rfind(|l| l.starts_with("ottla:"));
        println!("refused: {what}\n         {}", reason.unwrap_or_default());
        seen.refused += 1;
        return;
    }
    let mut connection = connect(broker).await;
    let mut errors = 0;
    for partition in 0..PARTITIONS {
        let end = connection.list_offset(TOPIC, partition, -1).await;
        match end.expect("it is answered") {
            end if end.error_code == 0 => assert_eq!(end.offset, RECORDS as i64, "{what}"),
            end => assert!(code::is_retriable(end.error_code), "{what}: {end:?}"),
        }
        for number in 0..RECORDS {
            match read(&mut connection, TOPIC, partition, number as i64).await {
                Ok(found) => assert_eq!(found, number, "{what}: partition {partition}"),
                Err(code::CORRUPT_MESSAGE | code::KAFKA_STORAGE_ERROR) => errors += 1,
                Err(code) => panic!("{what}: error {code}"),
            }
        }
    }
    println!("{errors} errors: {what}");
    match errors {
        0 => seen.whole += 1,
        _ => seen.with_errors += 1,
    }
    assert!(
        !broker.log().contains("panicked"),
        "{what}: {}",
        broker.log_tail()
    );
    broker.kill9();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_never_wrong_data() {
    let damages: u32 = match std::env::var("OTTLA_DAMAGES") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_DAMAGES={text}: not a number")),
        Err(_) => 60,
    };
    let seed = Random::seed();
    println!("{damages} damages, OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    within(120 + 10 * u64::from(damages), "damage", async {
        let (mut broker, _) = prepared().await;
        let template = tempfile::tempdir().expect("a temporary folder");
        copy(&broker.data(), template.path());
        for _ in 0..damages {
            copy(template.path(), &broker.data());
            let what = damage(&broker, &mut random);
            look(&mut broker, &what, &mut seen).await;
        }
    })
    .await;
    println!("{seen:?}");
    let all = seen.whole + seen.with_errors + seen.refused;
    assert_eq!(all, damages);
    assert!(
        damages < 40 || (seen.with_errors > 0 && seen.refused > 0),
        "{seen:?}"
    );
}

/// The byte of a file where a record's value begins.
fn find(file: &Path, number: u64, partition: i32) -> Option<u64> {
    let wanted = ottla_tests::history::value(
        ottla_tests::history::Id {
            producer: 1,
            number,
        },
        partition,
        size(number),
    );
    let bytes = fs::read(file).expect("a file");
    let at = bytes.windows(64).position(|w| w == &wanted[..64])?;
    Some(at as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_and_the_rest_is_served_and_deleting_mends() {
    within(120, "a damaged blob", async {
        let (mut broker, metrics) = prepared().await;
        let bad = 7;
        let blobs = files(&broker.data(), ".blob");
        let place = blobs.iter().find_map(|f| Some((f, find(f, bad, 1)?)));
        let (file, at) = place.expect("a large record is in a blob file");
        flip(file, at + 1000, 3);
        broker.restart().await;
        let mut connection = connect(&broker).await;
        for number in 0..RECORDS {
            let found = read(&mut connection, TOPIC, 1, number as i64).await;
            match number == bad {
                true => assert_eq!(found, Err(code::CORRUPT_MESSAGE)),
                false => assert_eq!(found, Ok(number)),
            }
        }
        let log = broker.log();
        let said = log.lines().find(|l| l.contains("damaged data"));
        let said = said.expect("it is in the log");
        assert!(
            said.contains("offset 7") && said.contains("CRC mismatch"),
            "{said}"
        );
        let name = file.file_name().expect("a name").to_string_lossy();
        until("the place is in the log", || async {
            let log = broker.log();
            let place = log
                .lines()
                .find(|l| l.contains("the damaged batch is there"));
            place.is_some_and(|place| {
                let (_, byte) = place.split_once("\"byte\":").expect("a byte");
                let digits: String = byte.chars().take_while(char::is_ascii_digit).collect();
                let byte: u64 = digits.parse().expect("a number");
                place.contains(&*name) && (byte..byte + 300).contains(&at)
            })
        })
        .await;
        let counted = get(&metrics, "/metrics").await;
        assert!(counted.contains("ottla_storage_failures_total{kind=\"damaged\"}"));
        let start = delete_records(&mut connection, TOPIC, 1, bad as i64 + 1).await;
        assert_eq!(start.expect("deletes go on"), bad as i64 + 1);
        let all = bad + 1..RECORDS;
        for number in all {
            assert_eq!(
                read(&mut connection, TOPIC, 1, number as i64).await,
                Ok(number)
            );
        }
        let next = connection.produce(TOPIC, 1, batch(RECORDS, 1, 100)).await;
        assert_eq!(next.expect("answered").error_code, 0);
        broker.terminate().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_never_cut_short_in_silence() {
    within(120, "a damaged log", async {
        let (mut broker, _) = prepared().await;
        let logs = files(&broker.data(), ".log");
        let place = logs.iter().find_map(|f| Some((f, find(f, 50, 0)?)));
        let (file, at) = place.expect("a late record is in the write-ahead log");
        flip(file, at + 5, 0);
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for _ in 0..2 {
            broker.spawn();
            let refused = broker.up_or_ended().await;
            assert!(!refused.expect_err("it must not start").success());
            let log = broker.log_tail();
            assert!(log.contains("acknowledged data is missing"), "{log}");
            assert!(
                log.contains(&format!("{name} is whole up to byte")),
                "{log}"
            );
            assert!(log.contains("ottla.storage.accept.loss=true"), "{log}");
        }
        let kept = broker.data().join("db/damaged-logs").join(&name);
        assert!(
            kept.exists(),
            "the log is kept for whoever wants to look at it"
        );
        broker.set("ottla.storage.accept.loss", "true");
        broker.restart().await;
        let mut connection = connect(&broker).await;
        let end = connection
            .list_offset(TOPIC, 0, -1)
            .await
            .expect("known")
            .offset;
        assert!((30..=50).contains(&end), "{end}");
        for offset in 0..end {
            assert_eq!(
                read(&mut connection, TOPIC, 0, offset).await,
                Ok(offset as u64)
            );
        }
        let next = connection.produce(TOPIC, 0, batch(99, 0, 100)).await;
        assert_eq!(next.expect("answered").error_code, 0);
        broker.kill9();
        broker.set("ottla.storage.accept.loss", "false");
        broker.restart().await;
        assert_eq!(
            read(&mut connect(&broker).await, TOPIC, 0, end).await,
            Ok(99)
        );
    })
    .await;
}
