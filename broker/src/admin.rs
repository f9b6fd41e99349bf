//! `ottla broker`: looks after the brokers of a running cluster, as any Kafka client could: by Metadata and
//! IncrementalAlterConfigs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::{Args, Subcommand};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    IncrementalAlterConfigsRequest, MetadataRequest, MetadataResponse, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{ADMIN_ANSWER_BYTES, ADMIN_CALL_WAIT_MS, ADMIN_LOOK_MS};

const METADATA_VERSION: i16 = 9;
const ALTER_CONFIGS_VERSION: i16 = 1;
/// ConfigResource.Type of a broker, and AlterConfigOp's set and delete.
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const DRAIN: &str = "ottla.broker.drain";

#[derive(Subcommand)]
pub enum BrokerCommand {
    /// The brokers, and how many partitions each has and leads.
    List {
        #[command(flatten)]
        to: To,
    },
    /// Empty a broker: what it leads goes to others, then its replicas. It may stop once this ends.
    ///
    /// Exit code 0: it has no replicas any more; 1: it has some, and there is no other broker for them.
    Drain {
        broker: NodeId,
        #[command(flatten)]
        to: To,
        /// Do not wait until it is empty.
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a broker that was drained take replicas and leaderships again.
    Undrain {
        broker: NodeId,
        #[command(flatten)]
        to: To,
    },
}

#[derive(Args)]
pub struct To {
    /// Brokers to ask; one that answers is enough.
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    bootstrap_server: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error("no broker answers: {0}. Name one with --bootstrap-server HOST:PORT")]
    Unreachable(String),
    #[error("{address}: {error}")]
    Lost { address: String, error: io::Error },
    #[error("{0} sent an answer that can't be read")]
    Malformed(String),
    #[error("{0}")]
    Refused(String),
}

pub fn run(command: BrokerCommand) -> ExitCode {
    let done = match command {
        BrokerCommand::List { to } => list(&to),
        BrokerCommand::Drain {
            broker,
            to,
            no_wait,
        } => drain(&to, broker, !no_wait),
        BrokerCommand::Undrain { broker, to } => {
            set_drained(&to, broker, false).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("ottla: {error}");
        ExitCode::FAILURE
    })
}

/// What a broker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    partitions: usize,
    led: usize,
}

fn list(to: &To) -> Result<ExitCode, AdminError> {
    let metadata = metadata(to)?;
    let shares = shares(&metadata);
    let mut text = format!(
        "{:>6}  {:<28}{:<16}{:>12}{:>10}\n",
        "broker", "address", "rack", "partitions", "leads"
    );
    for broker in &metadata.brokers {
        let share = shares.get(&broker.node_id.0).copied().unwrap_or_default();
        let address = format!("{}:{}", broker.host, broker.port);
        let rack = broker.rack.as_deref().unwrap_or("-");
        let (id, Share { partitions, led }) = (broker.node_id.0, share);
        let _ = writeln!(
            text,
            "{id:>6}  {address:<28}{rack:<16}{partitions:>12}{led:>10}"
        );
    }
    // A closed pipe (`| head`) is no error.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn shares(metadata: &MetadataResponse) -> BTreeMap<NodeId, Share> {
    let mut shares: BTreeMap<NodeId, Share> = BTreeMap::new();
    let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in partitions {
        for replica in &partition.replica_nodes {
            shares.entry(replica.0).or_default().partitions += 1;
        }
        shares.entry(partition.leader_id.0).or_default().led += 1;
    }
    shares
}

/// Partitions of this broker that have no other broker to go to, and how many brokers they need.
fn stuck(metadata: &MetadataResponse, broker: NodeId) -> Option<(usize, usize)> {
    let others = metadata.brokers.iter().filter(|b| b.node_id.0 != broker);
    let others = others.count();
    let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let own = partitions.filter(|p| p.replica_nodes.iter().any(|id| id.0 == broker));
    let replicas = own.map(|p| p.replica_nodes.len());
    let stuck: Vec<usize> = replicas.filter(|replicas| *replicas > others).collect();
    Some((stuck.len(), *stuck.iter().max()?))
}

fn drain(to: &To, broker: NodeId, wait: bool) -> Result<ExitCode, AdminError> {
    set_drained(to, broker, true)?;
    if !wait {
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = None;
    loop {
        let metadata = metadata(to)?;
        let share = shares(&metadata).get(&broker).copied().unwrap_or_default();
        if told != Some(share) {
            let Share { partitions, led } = share;
            eprintln!("broker {broker} has {partitions} partitions, and leads {led}");
            told = Some(share);
        }
        if share == Share::default() {
            println!("broker {broker} is empty: it may stop");
            return Ok(ExitCode::SUCCESS);
        }
        if let (0, Some((count, replicas))) = (share.led, stuck(&metadata, broker)) {
            eprintln!(
                "ottla: {count} partitions stay: they have {replicas} replicas, and there are not as many other \
                 brokers. Start another one; the broker stays marked, and is emptied then"
            );
            return Ok(ExitCode::FAILURE);
        }
        std::thread::sleep(Duration::from_millis(ADMIN_LOOK_MS));
    }
}

fn metadata(to: &To) -> Result<MetadataResponse, AdminError> {
    let everything = MetadataRequest::default()
        .with_topics(None)
        .with_allow_auto_topic_creation(false);
    call(to, METADATA_VERSION, &everything)
}

fn set_drained(to: &To, broker: NodeId, drained: bool) -> Result<(), AdminError> {
    let value = drained.then(|| StrBytes::from_static_str("true"));
    let config = AlterableConfig::default()
        .with_name(StrBytes::from_static_str(DRAIN))
        .with_config_operation(if drained { SET } else { DELETE })
        .with_value(value);
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(broker.to_string()))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = call(to, ALTER_CONFIGS_VERSION, &request)?;
    for altered in answer.responses {
        if let Some(error) = ResponseError::try_from_code(altered.error_code) {
            let told = altered.error_message.map(|text| text.to_string());
            return Err(AdminError::Refused(told.unwrap_or(error.to_string())));
        }
    }
    Ok(())
}

/// One request to the first broker that takes a connection.
fn call<R: Request>(to: &To, version: i16, request: &R) -> Result<R::Response, AdminError> {
    let (address, mut stream) = connect(to)?;
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("ottla")));
    let mut body = BytesMut::new();
    header
        .encode(&mut body, R::header_version(version))
        .and_then(|()| request.encode(&mut body, version))
        .map_err(|error| AdminError::Refused(error.to_string()))?;
    let answer = exchange(&mut stream, &body);
    let mut answer = answer.map_err(|error| AdminError::Lost {
        address: address.clone(),
        error,
    })?;
    let decoded = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
        .and_then(|_| R::Response::decode(&mut answer, version));
    decoded.map_err(|_| AdminError::Malformed(address))
}

fn connect(to: &To) -> Result<(String, TcpStream), AdminError> {
    let wait = Duration::from_millis(ADMIN_CALL_WAIT_MS);
    let mut tried = String::new();
    for address in &to.bootstrap_server {
        let opened = address.to_socket_addrs().and_then(|mut found| {
            let first = found.next().ok_or(io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&first, wait)?;
            stream.set_read_timeout(Some(wait))?;
            stream.set_write_timeout(Some(wait))?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => return Ok((address.clone(), stream)),
            Err(error) => {
                let comma = if tried.is_empty() { "" } else { ", " };
                let _ = write!(tried, "{comma}{address}: {error}");
            }
        }
    }
    Err(AdminError::Unreachable(tried))
}

fn exchange(stream: &mut TcpStream, body: &[u8]) -> io::Result<Bytes> {
    stream.write_all(&(body.len() as u32).to_be_bytes())?;
    stream.write_all(body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ADMIN_ANSWER_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = Vec::new();
    stream.take(length as u64).read_to_end(&mut answer)?;
    if answer.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.into())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;

    fn cluster(brokers: i32, partitions: &[&[i32]]) -> MetadataResponse {
        let broker = |id| MetadataResponseBroker::default().with_node_id(BrokerId(id));
        let partitions = partitions.iter().map(|replicas| {
            MetadataResponsePartition::default()
                .with_leader_id(BrokerId(replicas[0]))
                .with_replica_nodes(replicas.iter().map(|id| BrokerId(*id)).collect())
        });
        MetadataResponse::default()
            .with_brokers((1..=brokers).map(broker).collect())
            .with_topics(vec![
                MetadataResponseTopic::default().with_partitions(partitions.collect()),
            ])
    }

    #[test]
    fn what_a_broker_has() {
        let metadata = cluster(3, &[&[1, 2, 3], &[1], &[2]]);
        let shares = shares(&metadata);
        let share = |partitions, led| Share { partitions, led };
        assert_eq!(shares[&1], share(2, 2));
        assert_eq!(shares[&2], share(2, 1));
        assert_eq!(shares[&3], share(1, 0));
    }

    #[test]
    fn replicas_need_other_brokers() {
        assert_eq!(stuck(&cluster(3, &[&[1, 2, 3], &[1]]), 1), Some((1, 3)));
        assert_eq!(stuck(&cluster(4, &[&[1, 2, 3], &[1]]), 1), None);
        assert_eq!(stuck(&cluster(3, &[&[1], &[2]]), 1), None);
    }
}
