//! `ottla connector validate`: what it passes, and what it says of each wrong key.

use std::process::Command;

use ottla_tests::broker::binary;

fn validate(text: &str) -> (bool, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a file");
    let output = Command::new(binary())
        .args(["connector", "validate"])
        .arg(file.path())
        .output();
    let output = output.expect("ottla runs");
    let name = format!("{}: ", file.path().display());
    let text = String::from_utf8_lossy(&output.stdout).replace(&name, "");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text + &errors)
}

/// As their makers' documentation shows them.
#[test]
fn published_files_pass_unchanged() {
    let confluent = "name=s3-sink\nconnector.class=io.confluent.connect.s3.S3SinkConnector\ntasks.max=1\n\
        topics=s3_topic\ns3.region=us-west-2\ns3.bucket.name=confluent-kafka-connect-s3-testing\n\
        s3.part.size=5242880\nflush.size=3\nstorage.class=io.confluent.connect.s3.storage.S3Storage\n\
        format.class=io.confluent.connect.s3.format.json.JsonFormat\n\
        partitioner.class=io.confluent.connect.storage.partitioner.DefaultPartitioner\n\
        schema.compatibility=NONE\n";
    let aiven = "name=aiven-s3\nconnector.class=io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector\n\
        key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
        value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\ntasks.max=1\n\
        topics=some-topic\naws.access.key.id=YOUR_AWS_ACCESS_KEY\naws.secret.access.key=YOUR_SECRET\n\
        aws.s3.bucket.name=my-bucket\naws.s3.region=eu-central-1\nfile.compression.type=gzip\n\
        format.output.fields=key,value,offset,timestamp\n\
        file.name.template={{topic}}-{{partition}}-{{start_offset:padding=true}}.gz\n";
    let msk = r#"{"connectorName":"msk","kafkaConnectVersion":"2.7.1","capacity":{"provisionedCapacity":{}},
        "connectorConfiguration":{"connector.class":"io.confluent.connect.s3.S3SinkConnector",
        "s3.region":"us-east-1","format.class":"io.confluent.connect.s3.format.json.JsonFormat",
        "flush.size":"1","schema.compatibility":"NONE","tasks.max":"2","topics":"t",
        "partitioner.class":"io.confluent.connect.storage.partitioner.DefaultPartitioner",
        "storage.class":"io.confluent.connect.s3.storage.S3Storage","s3.bucket.name":"bucket"}}"#;
    let search = "name=es-sink\nconnector.class=io.confluent.connect.elasticsearch.ElasticsearchSinkConnector\n\
        tasks.max=1\ntopics=test-elasticsearch-sink\nkey.ignore=true\nconnection.url=http://localhost:9200\n\
        type.name=kafka-connect\n";
    let aiven_search = r#"{"name":"os-sink","connector.class":"io.aiven.kafka.connect.opensearch.OpensearchSinkConnector",
        "topics":"t","connection.url":"https://os.example.com:9200","connection.username":"u",
        "connection.password":"p","type.name":"t","tasks.max":"1","key.ignore":"true",
        "key.ignore.id.strategy":"record.key","value.converter":"org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable":"false","schema.ignore":"true","behavior.on.version.conflict":"ignore"}"#;
    for text in [confluent, aiven, msk, search, aiven_search] {
        let (passes, said) = validate(text);
        assert!(passes, "{text}\n{said}");
    }
}

#[test]
fn wrong_keys_are_named_with_the_nearest_right_one() {
    let text = "name=x\nconnector.class=S3Sink\ntopics=t\ns3.bucket.nam=b\nflush.size=0\n\
        format.class=io.confluent.connect.s3.format.parquet.ParquetFormat\n\
        consumer.override.interceptor.classes=a\nstore.url=http://169.254.169.254/\ns3.acl.canned=public-read\n";
    let (passes, said) = validate(text);
    assert!(!passes);
    for part in [
        "Configuration is not defined: s3.bucket.nam. Did you mean s3.bucket.name?",
        "Missing required configuration \"s3.bucket.name\"",
        "Invalid value 0 for configuration flush.size",
        "not supported: JsonFormat and ByteArrayFormat are built",
        "consumer.interceptor.classes is not supported",
        "s3.acl.canned is not supported",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn keys_of_opensearch_that_do_not_go_together_are_refused() {
    let with = |class: &str, more: &str| {
        let text = format!(
            "name=x\ntopics=t\nconnector.class={class}\nconnection.url=http://localhost:9200\n{more}"
        );
        validate(&text)
    };
    let (aiven, confluent) = ("OpensearchSinkConnector", "ElasticsearchSinkConnector");
    for (class, more, expected) in [
        (
            aiven,
            "data.stream.enabled=true\nindex.write.method=upsert\n",
            "data streams take no upsert",
        ),
        (
            aiven,
            "index.write.method=upsert\nkey.ignore=true\n",
            "upsert needs the record's key as id",
        ),
        (aiven, "connection.username=u\n", "set both or not at all"),
        (
            aiven,
            "index.name=a-%{+QQ}\n",
            "Invalid value a-%{+QQ} for configuration index.name",
        ),
        (
            aiven,
            "connection.ssl.truststore.type=JKS\n",
            "Java key stores are not read",
        ),
        (
            confluent,
            "data.stream.type=logs\n",
            "set both or not at all",
        ),
        (confluent, "proxy.host=p\n", "proxies are not built"),
        (confluent, "batch.sise=3\n", "Did you mean batch.size?"),
    ] {
        let (passes, said) = with(class, more);
        assert!(
            !passes && said.contains(expected),
            "{more}: {expected:?} is not in:\n{said}"
        );
    }
}

#[test]
fn cloud_metadata_is_refused() {
    let text = "name=x\nconnector.class=S3Sink\ntopics=t\ns3.bucket.name=bbb\nflush.size=1\n\
        format.class=JsonFormat\nstore.url=http://169.254.169.254/\n";
    let (passes, said) = validate(text);
    assert!(
        !passes && said.contains("ottla.connect.allow.link.local"),
        "{said}"
    );
}
