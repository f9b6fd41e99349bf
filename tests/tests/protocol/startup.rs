//! The process: its command line, its data folder, how it ends and how it comes back.

use std::process::{Command, Output};
use std::time::Instant;

use kafka_protocol::messages::FetchRequest;
use ottla_tests::batch::{Batch, read_all};
use ottla_tests::broker::{Broker, binary, free_address};
use ottla_tests::client::{FETCH, FetchAsk, Topic, fetch_request};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, small};

/// Runs `ottla server` with settings that must make it refuse, in an empty folder; returns what it
/// said, after checking that it wrote nothing.
fn refused(settings: &[&str], file: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("server").current_dir(folder.path());
    let config = folder.path().join("server.properties");
    if let Some(text) = file {
        std::fs::write(&config, text).unwrap();
        command.arg(&config);
    }
    let data = folder.path().join("data");
    command.args(["--override", &format!("log.dirs={}", data.display())]);
    command.args([
        "--override",
        &format!("listeners=PLAINTEXT://{}", free_address()),
    ]);
    for setting in settings {
        command.args(["--override", setting]);
    }
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{settings:?} {file:?}: {said}");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(
        left.iter().all(|path| *path == config),
        "{settings:?} left {left:?}"
    );
    said
}

#[tokio::test]
async fn wrong_settings_are_one_clear_line() {
    let cases: [(&[&str], Option<&str>, &[&str]); 9] = [
        (
            &["nmu.partitions=2"],
            None,
            &["nmu.partitions", "num.partitions"],
        ),
        (
            &["log.retention.hour=2"],
            None,
            &["log.retention.hour", "log.retention.hours"],
        ),
        (&["num.partitions=many"], None, &["num.partitions", "many"]),
        (&["num.partitions=-1"], None, &["num.partitions", "-1"]),
        (
            &["auto.create.topics.enable=perhaps"],
            None,
            &["auto.create.topics.enable", "perhaps"],
        ),
        (&["listeners=PLAINTEXT://127.0.0.1"], None, &["listeners"]),
        (&["node.id=one"], None, &["node.id", "one"]),
        (
            &[],
            Some("num.partitions=3\nlisteenrs=PLAINTEXT://:9\n"),
            &["server.properties", "listeenrs", "listeners"],
        ),
        (
            &[],
            Some("num.partitions=\n"),
            &["server.properties", "num.partitions"],
        ),
    ];
    for (settings, file, words) in cases {
        let said = refused(settings, file);
        assert!(
            said.lines().all(|line| line.starts_with("ottla: ")),
            "no trace, no log: {said}"
        );
        // A file may lack other keys too, and a listener that can't be read is missing elsewhere.
        let alone = file.is_none() && !said.contains("listeners");
        assert!(said.lines().count() == 1 || !alone, "{said}");
        let first = said.lines().next().unwrap_or_default();
        assert!(
            words.iter().all(|word| first.contains(word)),
            "what was written comes first: {said}"
        );
    }
}

#[tokio::test]
async fn a_missing_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .args(["server", "absent.properties"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("absent.properties"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    within(TEST_SECONDS, "a taken port", async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let said = refused(&[&format!("listeners=PLAINTEXT://{address}")], None);
        assert!(said.contains(&address), "{said}");
    })
    .await;
}

/// Starts the broker's folder as it lies, with other settings; it must refuse.
fn second_process(broker: &Broker, settings: &[&str]) -> String {
    let mut command = Command::new(binary());
    command
        .arg("server")
        .current_dir(broker.data().parent().unwrap());
    let own = [
        format!("log.dirs={}", broker.data().display()),
        format!("listeners=PLAINTEXT://{}", free_address()),
    ];
    for setting in own
        .iter()
        .map(String::as_str)
        .chain(settings.iter().copied())
        .chain(["ottla.metrics.listener="])
    {
        command.args(["--override", setting]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{settings:?}: {said}");
    said
}

#[tokio::test]
async fn another_nodes_folder_is_refused() {
    within(TEST_SECONDS, "another node", async {
        let mut bench = Bench::restartable().await;
        bench.append(&small(3)).await;
        bench.broker.terminate().await;
        let said = second_process(&bench.broker, &["node.id=5"]);
        assert!(said.contains("node.id") && said.contains('5'), "{said}");
        // It is still what it was.
        bench.broker.restart().await;
        bench.reconnect().await;
        assert_eq!(bench.append(&small(1)).await, 3);
    })
    .await;
}

#[tokio::test]
async fn two_processes_never_share_a_folder() {
    within(TEST_SECONDS, "a shared folder", async {
        let mut bench = Bench::restartable().await;
        bench.append(&small(3)).await;
        let said = second_process(&bench.broker, &[]);
        assert!(
            said.lines().count() <= 2,
            "one clear line, not a trace: {said}"
        );
        assert_eq!(
            bench.append(&small(1)).await,
            3,
            "the first process goes on"
        );
        bench.broker.terminate().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_start_sees_everything() {
    within(TEST_SECONDS, "second start", async {
        let mut bench = Bench::restartable().await;
        let configs = [("retention.ms", "123456"), ("max.message.bytes", "5000")];
        bench
            .connection
            .create_topic(Topic {
                name: "kept",
                partitions: 3,
                configs: &configs,
            })
            .await
            .unwrap();
        let id = bench.connection.topic_id("kept").await.unwrap();
        let (producer_id, epoch) = bench.connection.init_producer_id().await.unwrap();
        for n in 0..3 {
            let batch = small(2).by(producer_id, epoch, 2 * n).encode();
            bench.connection.produce("kept", 1, batch).await.unwrap();
        }
        bench.connection.find_coordinator("g").await.unwrap();
        bench.connection.commit("g", "kept", 1, 4).await.unwrap();
        let cluster = bench.connection.metadata("kept").await.unwrap().cluster_id;
        for kill in [false, true, false] {
            match kill {
                true => bench.broker.kill9(),
                false => bench.broker.terminate().await,
            }
            let began = Instant::now();
            bench.broker.restart().await;
            println!("up after {:?} (kill -9 before: {kill})", began.elapsed());
            bench.reconnect().await;
            let metadata = bench.connection.metadata("kept").await.unwrap();
            assert_eq!(
                (
                    metadata.topics[0].topic_id,
                    metadata.topics[0].partitions.len()
                ),
                (id, 3)
            );
            assert_eq!(metadata.cluster_id, cluster);
            let data = bench
                .connection
                .fetch(FetchAsk::of("kept", 1, 0))
                .await
                .unwrap();
            let batches = read_all(data.records.unwrap()).unwrap();
            let sequences: Vec<_> = batches
                .iter()
                .map(|b| (b.base_offset, b.producer_id, b.base_sequence))
                .collect();
            assert_eq!(
                sequences,
                vec![
                    (0, producer_id, 0),
                    (2, producer_id, 2),
                    (4, producer_id, 4)
                ]
            );
            let too_large = bench
                .connection
                .produce("kept", 0, Batch::filled(1, 5000).encode())
                .await
                .unwrap();
            assert_eq!(
                too_large.error_code, 10,
                "the topic's own max.message.bytes holds"
            );
        }
    })
    .await;
}

/// SIGTERM while a client waits in a long poll, with appends just acknowledged.
#[tokio::test]
async fn sigterm_does_not_wait_for_long_polls() {
    within(TEST_SECONDS, "SIGTERM", async {
        let mut bench = Bench::restartable().await;
        bench.append(&small(3)).await;
        let mut waiting = bench.connect().await;
        let ask = FetchAsk {
            min_bytes: 1,
            max_wait_ms: 25_000,
            ..FetchAsk::of(&bench.topic, 0, 3)
        };
        let sent = waiting.send(FETCH, &fetch_request(&[ask])).await.unwrap();
        bench.connection.api_versions().await.unwrap();
        let began = Instant::now();
        bench.broker.terminate().await;
        let took = began.elapsed();
        assert!(took.as_secs() < 10, "SIGTERM took {took:?}");
        // An answer or the end of the connection; not silence.
        let _ = waiting.receive::<FetchRequest>(FETCH, sent).await;
        waiting
            .wait_until_closed()
            .await
            .expect("the connection ends with the process");
        bench.broker.restart().await;
        bench.reconnect().await;
        assert_eq!(bench.append(&small(1)).await, 3);
    })
    .await;
}

#[tokio::test]
async fn version_and_help() {
    for (arguments, word) in [
        (vec!["--version"], "ottla"),
        (vec!["help"], "server"),
        (vec!["server", "--help"], "override"),
    ] {
        let output = Command::new(binary()).args(&arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.contains(word),
            "{arguments:?}: {said}"
        );
    }
}
