//! Damages that no checksum notices, planted through the store: rows that contradict each other.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_log::{BATCH_HEAD_BYTES, IndexRow, Op, RocksStore, StateKey, Store, StoreOptions, Tag};
use ottla_proto::ids::{GroupId, METADATA_GROUP, METADATA_PARTITION, PartitionId};
use ottla_proto::memory::MemoryShares;
use ottla_proto::metadata::records as pb;
use ottla_proto::metadata::{self, MetadataRecord};
use ottla_raft::{Command, Group, Groups, Outcome, RowWriter};
use ottla_wire::batch::{BatchBuilder, BatchHeader, patch_head, retain};
use uuid::Uuid;

use super::report::Report;
use crate::cleaner::CleanerState;
use crate::identity::{Folder, Identity};
use crate::progress::Progress;
use crate::topics::append_command;

const GROUP: GroupId = GroupId(1);
const PLAIN: PartitionId = PartitionId(1);
const COMPACTED: PartitionId = PartitionId(2);
/// Batches of each partition, of two records each.
const BATCHES: i64 = 20;
const END: i64 = 2 * BATCHES;

/// A folder as a broker leaves it: metadata, a plain and a compacted partition.
struct World {
    folder: tempfile::TempDir,
    store: Arc<RocksStore>,
}

fn uuid(number: u128) -> Option<pb::Uuid> {
    Some(Uuid::from_u128(number).into())
}

fn topic(name: &str, number: u128, id: PartitionId) -> [MetadataRecord; 2] {
    let topic = pb::Topic {
        name: name.into(),
        topic_id: uuid(number),
    };
    let partition = pb::Partition {
        topic_id: uuid(number),
        index: 0,
        partition_id: id.0,
        group_id: GROUP.0,
    };
    [
        MetadataRecord::Topic(topic),
        MetadataRecord::Partition(partition),
    ]
}

fn metadata_records(cluster_id: &str) -> Vec<MetadataRecord> {
    let mut records = vec![
        MetadataRecord::Cluster(pb::Cluster {
            cluster_id: cluster_id.into(),
        }),
        MetadataRecord::Group(pb::Group {
            group_id: GROUP.0,
            members: vec![1],
            removed: false,
            founders: vec![1 << 32],
            ..pb::Group::default()
        }),
    ];
    records.extend(topic("plain", 1, PLAIN));
    records.extend(topic("compacted", 2, COMPACTED));
    records.push(MetadataRecord::Config(pb::Config {
        resource_type: pb::ConfigResource::Topic.into(),
        resource_name: "compacted".into(),
        key: "cleanup.policy".into(),
        value: Some("compact".into()),
    }));
    records
}

/// A batch of two records, of which the values take as many bytes.
fn batch(number: i64, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for part in [0, 1] {
        let key = format!("{number} {part}");
        builder.append(
            Some(key.as_bytes()),
            Some(&vec![7; value_bytes]),
            1000 + number,
        );
    }
    builder.build()
}

async fn append(group: &Group, partition: PartitionId, batch: &Bytes) {
    let header = BatchHeader::parse(batch).unwrap();
    let checked = append_command(partition, batch, &header);
    command(group, checked.command).await;
}

async fn command(group: &Group, command: Command) {
    let outcomes = group
        .append(vec![command], 0, None)
        .outcome()
        .await
        .unwrap();
    assert!(!matches!(outcomes[0], Outcome::OffsetOutOfRange));
}

impl World {
    async fn new() -> World {
        World::with(|_| Vec::new()).await
    }

    /// With more commands at the end of the group's log, behind its checkpoint.
    async fn with(more: impl Fn(PartitionId) -> Vec<Command>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let identity = match Folder::open(&data, 1).unwrap() {
            Folder::Formed(identity) => identity,
            Folder::Prepared(prepared) => {
                prepared.join("a-cluster".into(), Vec::new(), &[]).unwrap()
            }
        };
        let memory = MemoryShares::of(256 << 20);
        let options = StoreOptions::new(memory);
        let store = RocksStore::open(&Identity::database(&data), &options).unwrap();
        let store = Arc::new(store);
        let groups = Groups::new(store.clone(), Arc::new(|| 5000), &memory);
        let replica = identity.replica_id();
        let quorum = groups.start_alone(METADATA_GROUP, replica).await.unwrap();
        let group = groups.start_alone(GROUP, replica).await.unwrap();
        for group in [&quorum, &group] {
            let wait = std::time::Duration::from_secs(30);
            group.wait_for_leadership(wait).await.expect("a leader");
        }
        let mut builder = BatchBuilder::new();
        for record in metadata_records(&identity.cluster_id) {
            builder.append(None, Some(&metadata::encode(&record)), 1000);
        }
        append(&quorum, METADATA_PARTITION, &builder.build()).await;
        for number in 0..BATCHES {
            for partition in [PLAIN, COMPACTED] {
                append(&group, partition, &batch(number, 6000)).await;
            }
            if number == BATCHES / 2 {
                group.checkpoint().await;
            }
        }
        for extra in more(PLAIN) {
            command(&group, extra).await;
        }
        drop((quorum, group, groups));
        World { folder, store }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn plant(&self, op: Op) {
        self.store.write(vec![op]).unwrap();
    }

    fn stored(&self, partition: PartitionId, offset: i64) -> BytesMut {
        let found = self
            .store
            .batches(partition, offset, offset + 1, 1)
            .unwrap();
        BytesMut::from(&found[0][..])
    }

    fn put(&self, partition: PartitionId, base_offset: i64, batch: &[u8]) {
        let (head, body) = batch.split_at(BATCH_HEAD_BYTES);
        self.plant(Op::PutBatch {
            partition,
            base_offset,
            head: Bytes::copy_from_slice(head),
            body: Bytes::copy_from_slice(body),
        });
    }

    fn state(&self, key: StateKey) -> Bytes {
        self.store.state(key).unwrap().expect("a row")
    }

    /// The first index row at or behind an offset.
    fn index(&self, partition: PartitionId, offset: i64) -> IndexRow {
        self.store.index_rows(partition, offset, 1).unwrap()[0]
    }

    fn check(&self) -> Report {
        check(&self.data())
    }

    #[track_caller]
    fn assert_whole(&self) -> Report {
        let report = self.check();
        assert!(!report.is_damaged(), "{}", report.text(true));
        report
    }

    /// Damage, and nothing but what is said here.
    #[track_caller]
    fn assert_damaged(&self, says: &[&str]) {
        let report = self.check();
        let text = report.text(true);
        assert!(report.is_damaged(), "{text}");
        let findings: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
        assert_eq!(findings.len(), says.len(), "{text}");
        for (finding, says) in findings.iter().zip(says) {
            assert!(finding.contains(says), "{says:?} in: {text}");
        }
        assert!(report.json().contains("\"damaged\":true"));
    }
}

fn check(data: &Path) -> Report {
    super::check(data, &Progress::new(false)).expect("it can be checked")
}

/// A row of ours with other bytes in it, and a checksum that fits.
fn with_bytes(row: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut body = row[..row.len() - 4].to_vec();
    body[at..at + bytes.len()].copy_from_slice(bytes);
    let mut writer = RowWriter::new(body[0], body.len());
    for byte in &body[1..] {
        writer.u8(*byte);
    }
    writer.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_leaves_is_whole() {
    let world = World::new().await;
    let report = world.assert_whole();
    let names: Vec<_> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["__cluster_metadata-0", "compacted-0", "plain-0"]);
    let plain = &report.rows[2];
    assert_eq!((plain.batches, plain.records), (BATCHES as u64, END as u64));
    assert_eq!((plain.log_end_offset, plain.reclaimable_bytes), (END, 0));
    assert!(report.json().contains("\"partition\":\"plain-0\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_and_removed_partitions_are_whole() {
    let trim = |partition| {
        vec![Command::Trim {
            partition,
            log_start_offset: 11,
        }]
    };
    let world = World::with(trim).await;
    let report = world.assert_whole();
    let size = world.stored(PLAIN, 0).len() as u64;
    let plain = &report.rows[2];
    assert_eq!(
        (plain.log_start_offset, plain.reclaimable_bytes),
        (11, 5 * size)
    );
    // The batch that holds offset 11 has to be there, those before it need not.
    let delete = |to| Op::DeleteBatches {
        partition: PLAIN,
        from: 0,
        to,
        bytes: 0,
    };
    world.plant(delete(10));
    assert_eq!(world.assert_whole().rows[2].reclaimable_bytes, 0);
    world.plant(delete(12));
    world.assert_damaged(&["plain-0, offset 11: missing"]);
    let world = World::with(|partition| vec![Command::Remove { partition }]).await;
    world.assert_whole();
}

/// What waits for the end of a snapshot, behind the log and beside it, is neither damage nor data.
#[tokio::test(flavor = "multi_thread")]
async fn data_of_a_snapshot_under_way_is_no_damage() {
    let world = World::new().await;
    let before = world.assert_whole().rows.len();
    let beside = PartitionId(PLAIN.0 | 1 << 63);
    let whole = world.stored(PLAIN, 0);
    world.put(beside, 0, &whole);
    let mut behind = whole.clone();
    behind[..8].copy_from_slice(&END.to_be_bytes());
    world.put(PLAIN, END, &behind);
    world.plant(Op::PutIndex {
        partition: PLAIN,
        row: IndexRow {
            base_offset: END,
            max_timestamp_ms: 5000,
            interval_timestamp_ms: 5000,
            position_bytes: 1,
        },
    });
    let key = StateKey {
        tag: Tag::Staged,
        ..StateKey::partition(GROUP, PLAIN)
    };
    // Where it began, where the replica's log ended, how far it has come, its leader epoch, no flags.
    let mut row = RowWriter::new(1, 29);
    row.i64(END).i64(END).i64(END + 2).i32(1).u8(0);
    let value = row.finish();
    world.plant(Op::PutState { key, value });
    assert_eq!(world.assert_whole().rows.len(), before);
    let mut torn = whole;
    torn[80] ^= 1;
    torn[..8].copy_from_slice(&END.to_be_bytes());
    world.put(PLAIN, END, &torn);
    world.assert_damaged(&["plain-0, offset 40: "]);
    world.put(PLAIN, END, &behind);
    world.plant(Op::DeleteState { key });
    world.assert_damaged(&[
        "metadata does not know",
        "plain-0, offsets 40 to 41: stored behind the end of its group's log, 40",
        "plain-0, offset 40: 1 bytes before it",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_foreign_batches_are_found() {
    let world = World::new().await;
    let delete = |partition| Op::DeleteBatch {
        partition,
        base_offset: 8,
        bytes: 0,
    };
    world.plant(delete(COMPACTED));
    world.assert_whole();
    world.plant(delete(PLAIN));
    world.assert_damaged(&["plain-0, offsets 8 to 9: missing"]);

    let world = World::new().await;
    world.plant(Op::DeleteBatches {
        partition: PLAIN,
        from: END - 2,
        to: END,
        bytes: 0,
    });
    world.assert_damaged(&["plain-0, offsets 38 to 39: missing"]);

    let world = World::new().await;
    let mut late = world.stored(PLAIN, 4);
    patch_head(&mut late, END, 1);
    world.put(PLAIN, END, &late);
    world.assert_damaged(&["plain-0, offsets 40 to 41: stored behind the end"]);

    let world = World::new().await;
    world.put(PartitionId(999), 0, &world.stored(PLAIN, 0));
    world.assert_damaged(&["p999: data of a partition that the metadata does not know"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_batches_are_found() {
    let world = World::new().await;
    let good = world.stored(PLAIN, 4);
    let put = |change: &dyn Fn(&mut BytesMut)| {
        let mut bad = good.clone();
        change(&mut bad);
        world.put(PLAIN, 4, &bad);
    };
    put(&|batch| patch_head(batch, 5, 1));
    world.assert_damaged(&["plain-0, offset 4: its header says offset 5"]);
    put(&|batch| batch[3000] ^= 1);
    world.assert_damaged(&["plain-0, offset 4: record batch is corrupt"]);
    put(&|batch| batch[16] = 1);
    world.assert_damaged(&["plain-0, offset 4: "]);
    put(&|batch| batch[11] ^= 1);
    world.assert_damaged(&["plain-0, offset 4: "]);
    put(&|batch| patch_head(batch, 4, 77));
    world.assert_damaged(&["plain-0, offset 4: its header says leader epoch 77"]);
    // Compaction leaves fewer records in a batch; elsewhere there must be as many as offsets.
    for partition in [COMPACTED, PLAIN] {
        let whole = world.stored(partition, 6).freeze();
        let fewer = retain(&whole, 1 << 20, |record| record.offset == 7).unwrap();
        world.put(partition, 6, &fewer.expect("one is dropped"));
    }
    put(&|_| {});
    let report = world.check();
    let findings: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
    assert!(
        findings.iter().all(|f| f.contains("plain-0")),
        "{findings:?}"
    );
    assert!(
        findings[0].contains("offset 6: 1 records take 2 offsets"),
        "{findings:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_index_rows_are_found() {
    let world = World::new().await;
    let second = world.index(PLAIN, 1);
    let put = |row| {
        world.plant(Op::PutIndex {
            partition: PLAIN,
            row,
        })
    };
    put(IndexRow {
        position_bytes: second.position_bytes + 5,
        ..second
    });
    let report = world.check();
    let at = format!("plain-0, offset {}: ", second.base_offset);
    assert!(
        report.findings.iter().any(|f| f.to_string().contains(&at)),
        "{}",
        report.text(true)
    );
    put(IndexRow {
        max_timestamp_ms: 1,
        ..second
    });
    world.assert_damaged(&["its highest timestamp 1 is too low"]);
    put(second);
    world.assert_whole();
    put(IndexRow {
        base_offset: 3,
        ..second
    });
    world.assert_damaged(&["plain-0, offset 3: leads to no batch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_contradicts_the_log_is_found() {
    let world = World::new().await;
    let key = StateKey::partition(GROUP, PLAIN);
    let good = world.state(key);
    let put = |key, value| world.plant(Op::PutState { key, value });
    // Log end offset: bytes 9 to 17 of a partition's row.
    put(key, with_bytes(&good, 9, &(END + 7).to_be_bytes()));
    let report = world.check();
    assert!(report.is_damaged());
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.to_string().contains("plain-0")),
        "{}",
        report.text(true)
    );
    let mut bad = good.to_vec();
    bad[12] ^= 1;
    put(key, bad.into());
    world.assert_damaged(&["plain-0: group g1: a partition's checkpoint is damaged: its checksum"]);
    // Log start offset behind the end.
    put(key, with_bytes(&good, 1, &(END + 7).to_be_bytes()));
    let text = world.check().text(true);
    assert!(
        text.contains("contradicts itself: log start offset 47"),
        "{text}"
    );
    put(key, good);
    world.assert_whole();

    let vote = StateKey::group(Tag::Vote, GROUP);
    let good = world.state(vote);
    put(vote, with_bytes(&good, 1, &0u64.to_be_bytes()));
    world.assert_damaged(&["its log has term 1, its vote 0"]);
    put(vote, good);

    let cleaner = StateKey::cleaner(GROUP, COMPACTED);
    put(cleaner, CleanerState::default().encode());
    world.assert_whole();
    put(cleaner, Bytes::from_static(b"nonsense"));
    world.assert_damaged(&["cleaner's row"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_a_group_s_log_are_found() {
    let world = World::new().await;
    let (last, _) = world.store.last_raft_row(GROUP).unwrap().expect("rows");
    world.plant(Op::DeleteRaft {
        group: GROUP,
        from: last - 2,
        to: last - 1,
    });
    let text = world.check().text(true);
    let missing = format!("group g1: rows {0} to {0} of its log are missing", last - 2);
    assert!(text.contains(&missing), "{text}");

    // The log's end is cut off, below what its checkpoint has.
    let world = World::new().await;
    world.plant(Op::DeleteRaft {
        group: GROUP,
        from: 2,
        to: u64::MAX,
    });
    let text = world.check().text(true);
    assert!(text.contains("its log ends at 1"), "{text}");

    let world = World::new().await;
    let mut row = world
        .store
        .last_raft_row(GROUP)
        .unwrap()
        .expect("rows")
        .1
        .to_vec();
    row[12] ^= 1;
    world.plant(Op::PutRaft {
        group: GROUP,
        index: last,
        row: row.into(),
    });
    let text = world.check().text(true);
    assert!(
        text.contains(&format!("row {last} of its log: a raft row is damaged")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_does_not_fit_is_found() {
    let world = World::new().await;
    let meta = world.data().join("meta.properties");
    let text = std::fs::read_to_string(&meta).unwrap();
    let cluster = Identity::read(&world.data()).unwrap().cluster_id;
    std::fs::write(&meta, text.replace(&cluster, "another")).unwrap();
    world.assert_damaged(&["meta.properties: meta.properties says cluster another"]);
    std::fs::write(&meta, text.replace("node.id=1", "node.id=2")).unwrap();
    let other = Identity::read(&world.data()).unwrap().replica_id();
    world.assert_damaged(&[&format!("this folder's is {other}")]);
    std::fs::write(&meta, text).unwrap();

    let mut bad = world.stored(METADATA_PARTITION, 0);
    let last = bad.len() - 1;
    bad[last] ^= 1;
    world.put(METADATA_PARTITION, 0, &bad);
    world.assert_damaged(&[
        "metadata, __cluster_metadata-0, offset 0",
        "batches, __cluster_metadata-0, offset 0",
    ]);
}
