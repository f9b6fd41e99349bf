//! Damaged folders, and such as are none. Damages that need the database's own rows to be changed are
//! tried beside the doctor's sources.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use ottla_tests::broker::Broker;
use ottla_tests::client::FetchAsk;
use ottla_tests::damage::{copy, cut, files, flip};
use ottla_tests::random::Random;
use ottla_tests::within;

use super::*;

const RECORDS: u64 = 60;

/// A killed broker's folder with records in tables, blob files and the write-ahead log.
async fn prepared() -> Broker {
    let mut broker = Broker::start().await;
    create(&broker, TOPIC, &[]).await;
    produce(&broker, TOPIC, 0..RECORDS / 2).await;
    flush(&mut broker).await;
    produce(&broker, TOPIC, RECORDS / 2..RECORDS).await;
    broker.kill9();
    broker
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).expect("a file").len()
}

/// Where a file has these bytes.
fn find(file: &Path, bytes: &[u8]) -> Option<u64> {
    let content = fs::read(file).expect("readable");
    let at = content.windows(bytes.len()).position(|w| w == bytes)?;
    Some(at as u64)
}

/// The blob file, and where in it the value of a record of partition 1 stands.
fn place(folder: &Path, number: u64) -> (PathBuf, u64) {
    let whole = batch(number, 1, [40, 300, 3000, 40_000][number as usize % 4]);
    // Behind what the broker writes: the checksum is one of its own.
    let part = &whole[17..];
    let found = |file: PathBuf| find(&file, part).map(|at| (file, at));
    files(folder, ".blob")
        .into_iter()
        .find_map(found)
        .expect("it is in a blob file")
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_found_and_named() {
    within(240, "damaged files", async {
        let broker = prepared().await;
        let (good, bad) = (broker.data(), broker.data().with_file_name("damaged"));
        doctor(&broker).assert(WHOLE, &[]);
        let check = |file: &dyn Fn() -> PathBuf, damage: &dyn Fn(&Path), named: &[&str]| {
            copy(&good, &bad);
            let file = file();
            damage(&file);
            let name = name(&file);
            let mut named = named.to_vec();
            named.push(&name);
            let verdict = doctor_with(&bad, &[]).assert(DAMAGED, &named);
            let json = doctor_with(&bad, &["--json"]);
            json.assert(DAMAGED, &["\"damaged\":true", &name]);
            verdict
        };
        let blob = || place(&bad, 7).0;
        let manifest = || files(&bad, "MANIFEST-")[0].clone();
        // A bit in a record: offset 7 of partition 1, and nothing else.
        let flipped = |file: &Path| flip(file, place(&bad, 7).1, 3);
        let verdict = check(
            &blob,
            &flipped,
            &["doctor-1, offset 7", "at byte", "checksum"],
        );
        let lines = verdict.text.lines().filter(|l| l.starts_with("DAMAGED"));
        assert!(
            lines.clone().all(|l| l.contains("doctor-1, offset 7")),
            "{}",
            verdict.text
        );
        let others = ["doctor-0", "doctor-2"].map(|p| {
            let line = verdict.text.lines().find(|l| l.starts_with(p));
            line.expect("a line").ends_with("whole")
        });
        assert_eq!(others, [true, true], "{}", verdict.text);
        // Two records with one between them.
        let twice = |file: &Path| {
            flip(file, place(&bad, 7).1, 3);
            flip(file, place(&bad, 11).1, 3);
        };
        check(
            &blob,
            &twice,
            &["doctor-1, offset 7", "doctor-1, offset 11"],
        );
        let half = |file: &Path| cut(file, length(file) / 2);
        let gone = |file: &Path| fs::remove_file(file).expect("removed");
        let middle = |file: &Path| flip(file, length(file) / 3, 0);
        check(&blob, &half, &["record batches"]);
        check(&blob, &gone, &["record batches"]);
        for sst in files(&good, ".sst") {
            let sst = || bad.join("db").join(name(&sst));
            check(&sst, &middle, &[]);
            check(&sst, &half, &[]);
            check(&sst, &gone, &[]);
        }
        let log = || files(&bad, ".log").pop().expect("a log");
        check(
            &log,
            &|file| flip(file, length(file).min(9000) / 2, 1),
            &["write-ahead logs"],
        );
        check(&manifest, &half, &[]);
        copy(&good, &bad);
        cut(&log(), 1000);
        doctor_with(&bad, &[]).assert(DAMAGED, &["write-ahead logs"]);
        copy(&good, &bad);
        gone(&log());
        doctor_with(&bad, &[]).assert(DAMAGED, &[]);
        copy(&good, &bad);
        fs::write(bad.join("db/durable"), vec![7; 1024]).expect("written");
        doctor_with(&bad, &[]).assert(DAMAGED, &["durable"]);
        copy(&good, &bad);
        gone(&bad.join("db/CURRENT"));
        doctor_with(&bad, &[]).assert(DAMAGED, &["CURRENT"]);
        copy(&good, &bad);
        fs::write(bad.join("meta.properties"), "ottla.format=1\nnode.id=x\n").expect("written");
        doctor_with(&bad, &[]).assert(DAMAGED, &["meta.properties", "node.id"]);
    })
    .await;
}

/// `OTTLA_DAMAGES` damages (default 40) drawn from `OTTLA_SEED`. A folder that the doctor calls whole
/// starts, and every record is there.
#[tokio::test(flavor = "multi_thread")]
async fn any_damage_is_found_or_harmless() {
    let damages = std::env::var("OTTLA_DAMAGES").map_or(40, |n| n.parse().expect("a number"));
    let seed = Random::seed();
    println!("OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    within(60 + damages * 20, "random damage", async {
        let mut broker = prepared().await;
        let (good, bad) = (broker.data(), broker.data().with_file_name("damaged"));
        let mut found = 0;
        for round in 0..damages {
            copy(&good, &bad);
            let kinds = [".log", ".sst", ".blob", "MANIFEST-", "CURRENT", "durable"];
            let among = files(&bad, kinds[random.below(kinds.len() as u64) as usize]);
            let file = &among[random.below(among.len() as u64) as usize];
            let at = random.below(length(file).max(1));
            let how = match random.below(8) {
                0 => {
                    cut(file, at);
                    "cut"
                }
                1 => {
                    let noise = (0..300).map(|_| random.below(256) as u8);
                    let noise: Vec<u8> = noise.collect();
                    let opened = OpenOptions::new().write(true).open(file).expect("opens");
                    opened.write_all_at(&noise, at).expect("written");
                    "noise"
                }
                _ if length(file) == 0 => "nothing",
                _ => {
                    flip(file, at, random.below(8) as u32);
                    "flipped"
                }
            };
            let verdict = doctor_with(&bad, &["--json"]);
            println!("{round}: {} {how} at {at}: {}", name(file), verdict.code);
            match verdict.code {
                DAMAGED => found += 1,
                WHOLE => assert_complete(&mut broker, &bad).await,
                _ => panic!("{}", verdict.text),
            }
        }
        assert!(
            damages < 20 || found > damages / 3,
            "{found} of {damages} were found"
        );
    })
    .await;
}

/// A broker starts on the folder and has every record.
async fn assert_complete(broker: &mut Broker, folder: &Path) {
    broker.set_data(folder.to_owned());
    broker.restart().await;
    let mut connection = connect(broker).await;
    for partition in 0..PARTITIONS {
        let end = connection.list_offset(TOPIC, partition, -1).await;
        assert_eq!(end.expect("offsets are known").offset, RECORDS as i64);
        for offset in 0..RECORDS as i64 {
            let mut ask = FetchAsk::of(TOPIC, partition, offset);
            ask.partition_max_bytes = 1;
            let data = connection.fetch(ask).await.expect("answered");
            assert_eq!(data.error_code, 0, "partition {partition}, offset {offset}");
            assert!(data.records.is_some_and(|r| !r.is_empty()));
        }
    }
    broker.kill9();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_data_folder_is_refused_or_damaged() {
    within(120, "garbage", async {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        doctor_with(&folder.join("nowhere"), &[]).assert(NOT_CHECKED, &["nowhere"]);
        doctor_with(folder, &[]).assert(NOT_CHECKED, &["meta.properties"]);
        let meta = folder.join("meta.properties");
        fs::write(&meta, "version=1\ncluster.id=x\nnode.id=1\n").expect("written");
        doctor_with(folder, &[]).assert(NOT_CHECKED, &["Apache Kafka"]);
        let ours = "ottla.format=1\ncluster.id=x\nnode.id=1\n\
                    directory.id=67e55044-10b1-426f-9247-bb680e5fe0c8\n";
        fs::write(&meta, ours).expect("written");
        doctor_with(folder, &[]).assert(NOT_CHECKED, &["no database"]);
        // Every file of a real database, with the bytes of none.
        let broker = prepared().await;
        let mut random = Random::new(Random::seed());
        for round in 0..12 {
            let bad = folder.join("bad");
            copy(&broker.data(), &bad);
            for file in files(&bad, "") {
                let keep = round > 0 && (random.one_in(2) || name(&file).starts_with("CURRENT"));
                if keep {
                    continue;
                }
                let noise: Vec<u8> = (0..random.below(100_000))
                    .map(|_| random.below(256) as u8)
                    .collect();
                fs::write(&file, noise).expect("written");
            }
            doctor_with(&bad, &[]).assert(DAMAGED, &[]);
        }
    })
    .await;
}
