//! What the fault tests share.

use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DescribeLogDirsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::read_all;
use ottla_tests::broker::{Broker, free_address};
use ottla_tests::client::{ClientError, Connection, FetchAsk, checked, code};
use ottla_tests::disk::Disk;
pub use ottla_tests::history::batch;
use ottla_tests::history::name_of;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const TOPIC: &str = "faults";
/// Long enough for every condition that a test waits for.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A broker on a disk that can fail, not started yet; and where it serves metrics.
pub fn broker_on(overrides: &[(&str, &str)]) -> (Broker, Disk, String) {
    let metrics = free_address().to_string();
    let mut settings = overrides.to_vec();
    settings.push(("ottla.metrics.listener", &metrics));
    let mut broker = Broker::prepare(&settings);
    let disk = Disk::new(&broker.data());
    for (key, value) in disk.environment() {
        broker.set_environment(key, &value);
    }
    (broker, disk, metrics)
}

/// What the broker answers on its metrics listener: status line and body.
pub async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("metrics are served");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the request goes out");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("an answer comes");
    answer
}

pub async fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.address)
        .await
        .expect("the broker is up")
}

/// Produces record `number` to partition 0; the error code.
pub async fn produce(connection: &mut Connection, number: u64, size_bytes: usize) -> i16 {
    let records = batch(number, 0, size_bytes);
    let answer = connection.produce(TOPIC, 0, records).await;
    answer.expect("a produce is answered").error_code
}

/// The number of the record at `offset`, or the error code.
pub async fn read(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<u64, i16> {
    let mut ask = FetchAsk::of(topic, partition, offset);
    ask.partition_max_bytes = 1;
    let data = connection.fetch(ask).await.expect("a fetch is answered");
    if data.error_code != 0 {
        return Err(data.error_code);
    }
    let batches = read_all(data.records.unwrap_or_default()).expect("whole batches");
    let records = batches.into_iter().flat_map(|batch| batch.records);
    let found = records.into_iter().find(|(at, _)| *at == offset);
    let (_, record) = found.unwrap_or_else(|| panic!("offset {offset} is silently missing"));
    let value = record.value.expect("every record has a value");
    let id = name_of(&value, partition).expect("the value is what was sent");
    Ok(id.number)
}

/// Checks that the records with these numbers stand in partition 0 from its log start offset on, in order.
pub async fn assert_all_there(connection: &mut Connection, numbers: &[u64]) {
    let mut edge = async |timestamp| {
        let found = connection.list_offset(TOPIC, 0, timestamp).await;
        found.expect("offsets are known").offset
    };
    let (start, end) = (edge(-2).await, edge(-1).await);
    let mut found = Vec::new();
    for offset in start..end {
        found.push(read(connection, TOPIC, 0, offset).await.expect("readable"));
    }
    let mut expected = numbers.iter();
    let mut next = expected.next();
    // What was not acknowledged may be there, too.
    for number in found {
        if Some(&number) == next {
            next = expected.next();
        }
    }
    assert_eq!(next, None, "acknowledged and not there");
}

/// Waits for a condition that only the broker brings about.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < WAIT, "{what}: not after {WAIT:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub async fn delete_records(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<i64, ClientError> {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = connection.call(2, &request).await?;
    let result = &answer.topics[0].partitions[0];
    checked("DeleteRecords", result.error_code, result.low_watermark)
}

/// The error code of the log directory.
pub async fn log_dir_error(connection: &mut Connection) -> i16 {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let answer = connection.call(4, &request).await.expect("it is answered");
    answer.results[0].error_code
}

pub fn is_storage_error(code: i16) -> bool {
    code == code::KAFKA_STORAGE_ERROR
}
