//! Who this process is: its roles, the metadata quorum, and how it starts and stops.

use super::super::{
    ConfigDef, Valid, boolean, int, int_unset, list, long, long_unset, text, text_unset,
};
use super::{FIXED_QUORUM, METADATA_KEPT, NO_ZOOKEEPER, PERIODIC, ROWS_NOT_FILES};
use crate::memory::MIN_MEMORY_BYTES;

pub(super) static DEFS: &[ConfigDef] = &[
    list(
        "process.roles",
        "",
        "What this process is: `broker`, `controller`, or `broker,controller`. Only the last of them \
         starts yet.",
    )
    .valid(Valid::EachOf(&["broker", "controller"]))
    .high(),
    int("node.id", "-1", "The id of this process, unique in the cluster.")
        .at_least(-1)
        .high(),
    int(
        "broker.id",
        "-1",
        "The older name of `node.id`; if both are set they must be equal.",
    )
    .at_least(-1)
    .high(),
    text_unset(
        "broker.rack",
        "The rack or zone of this broker. Replicas of a partition are spread over racks.",
    ),
    list(
        "controller.quorum.voters",
        "",
        "The voters of the metadata quorum, as `id@host:port`, comma separated. The first start of \
         a cluster takes all of them.",
    )
    .high(),
    list(
        "controller.quorum.bootstrap.servers",
        "",
        "The controllers, all of them, as `host:port`: where there is no `controller.quorum.voters` \
         they are asked for their ids. A process that is broker and controller and names only one \
         address is a cluster of its own.",
    )
    .high(),
    boolean(
        "controller.quorum.auto.join.enable",
        "false",
        "Whether a new controller adds itself to the voters.",
    )
    .low()
    .not_built("controllers that join the quorum by themselves"),
    int(
        "controller.quorum.election.timeout.ms",
        "1000",
        "How long a controller waits to hear from a leader before it stands for election.",
    )
    .at_least(1)
    .high()
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.fetch.timeout.ms",
        "2000",
        "How long a controller goes without a successful fetch before it seeks a new leader.",
    )
    .at_least(1)
    .high()
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.election.backoff.max.ms",
        "1000",
        "The longest wait between two elections.",
    )
    .at_least(0)
    .high()
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.append.linger.ms",
        "25",
        "How long the leader gathers metadata records before it syncs them.",
    )
    .at_least(0)
    .no_effect("writes are gathered while the previous one syncs"),
    int(
        "controller.quorum.request.timeout.ms",
        "2000",
        "How long a controller waits for the answer of another.",
    )
    .at_least(0)
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.retry.backoff.ms",
        "20",
        "The wait before a failed request to the quorum is tried again.",
    )
    .at_least(0)
    .low()
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.fetch.max.bytes",
        "1048576",
        "Bytes that one fetch between controllers returns.",
    )
    .at_least(1)
    .no_effect(FIXED_QUORUM),
    int(
        "controller.quorum.fetch.snapshot.max.bytes",
        "1048576",
        "Bytes of a snapshot that one fetch between controllers returns.",
    )
    .at_least(1)
    .no_effect(FIXED_QUORUM),
    long(
        "controller.performance.sample.period.ms",
        "60000",
        "How often the controller reports its slow events.",
    )
    .at_least(100)
    .no_effect(PERIODIC),
    long(
        "controller.performance.always.log.threshold.ms",
        "2000",
        "Controller events slower than this are logged.",
    )
    .at_least(0)
    .no_effect(PERIODIC),
    int(
        "controller.socket.timeout.ms",
        "30000",
        "The socket timeout of the ZooKeeper-era controller.",
    )
    .no_effect(NO_ZOOKEEPER),
    int(
        "initial.broker.registration.timeout.ms",
        "60000",
        "How long a starting broker tries to register before it exits.",
    )
    .at_least(1),
    int(
        "broker.heartbeat.interval.ms",
        "2000",
        "How often a broker tells the controller that it is alive.",
    )
    .at_least(1),
    int(
        "broker.session.timeout.ms",
        "9000",
        "How long a broker may be silent before the controller fences it.",
    )
    .at_least(1),
    long(
        "server.max.startup.time.ms",
        "9223372036854775807",
        "How long start-up may take.",
    )
    .at_least(0)
    .no_effect("start-up ends when recovery ends"),
    boolean(
        "controlled.shutdown.enable",
        "true",
        "Whether a broker hands its leaderships over before it stops.",
    ),
    boolean(
        "delete.topic.enable",
        "true",
        "Whether topics may be deleted. If not, DeleteTopics answers TOPIC_DELETION_DISABLED.",
    )
    .high(),
    boolean(
        "auto.leader.rebalance.enable",
        "true",
        "Whether leaderships move back to the preferred replicas by themselves.",
    )
    .high(),
    int(
        "leader.imbalance.check.interval.seconds",
        "300",
        "How often a broker looks for leaderships to move back: those whose preferred replica has been in \
         sync for 10 seconds.",
    )
    .at_least(1)
    .high(),
    boolean(
        "unclean.leader.election.enable",
        "false",
        "Whether a replica that misses acknowledged records may become leader.",
    )
    .high()
    .only(&["false"], super::super::NO_UNCLEAN),
    long(
        "unclean.leader.election.interval.ms",
        "300000",
        "How often the controller looks for partitions that need an unclean election.",
    )
    .at_least(1)
    .no_effect(super::super::NO_UNCLEAN),
    int(
        "background.threads",
        "10",
        "Threads for background work.",
    )
    .at_least(1)
    .high()
    .no_effect(super::THREADS),
    text_unset(
        "metadata.log.dir",
        "Where the metadata log lives.",
    )
    .high()
    .no_effect("the metadata log is in the database of `log.dirs`"),
    long(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
        "Bytes of metadata records after which a snapshot is taken. The log then begins behind what \
         it covers.",
    )
    .at_least(1)
    .high(),
    long(
        "metadata.log.max.snapshot.interval.ms",
        "3600000",
        "Time after which a snapshot of the metadata is taken if there is anything new; 0 is never.",
    )
    .at_least(0)
    .high(),
    int(
        "metadata.log.segment.bytes",
        "1073741824",
        "The size of a file of the metadata log.",
    )
    .at_least(12)
    .high()
    .no_effect(ROWS_NOT_FILES),
    int(
        "metadata.log.segment.min.bytes",
        "8388608",
        "The least that `metadata.log.segment.bytes` may be.",
    )
    .at_least(12)
    .high()
    .no_effect(ROWS_NOT_FILES),
    long(
        "metadata.log.segment.ms",
        "604800000",
        "The time after which the metadata log starts a new file.",
    )
    .high()
    .no_effect(ROWS_NOT_FILES),
    long(
        "metadata.max.retention.bytes",
        "104857600",
        "Bytes of metadata log and snapshots that are kept.",
    )
    .high()
    .no_effect(METADATA_KEPT),
    long(
        "metadata.max.retention.ms",
        "604800000",
        "How long metadata log and snapshots are kept.",
    )
    .high()
    .no_effect(METADATA_KEPT),
    int(
        "metadata.max.idle.interval.ms",
        "500",
        "How often an idle controller writes an empty metadata record.",
    )
    .at_least(0)
    .low()
    .no_effect("an idle quorum keeps in touch by Raft heartbeats"),
    int_unset(
        "internal.metadata.log.segment.bytes",
        "The size of a file of the metadata log, for Kafka's own tests.",
    )
    .low()
    .no_effect(ROWS_NOT_FILES),
    int(
        "internal.metadata.max.batch.size.in.bytes",
        "8388608",
        "The largest batch of metadata records, for Kafka's own tests.",
    )
    .low()
    .no_effect(ROWS_NOT_FILES),
    int(
        "internal.metadata.delete.delay.millis",
        "60000",
        "The wait before a metadata file is unlinked, for Kafka's own tests.",
    )
    .low()
    .no_effect(ROWS_NOT_FILES),
    list(
        "early.start.listeners",
        "",
        "Listeners that open before authorization is ready.",
    )
    .no_effect("every listener opens when the server is ready"),
    boolean(
        "unstable.api.versions.enable",
        "false",
        "Whether API versions still in development are offered.",
    )
    .high()
    .not_built("API versions that Kafka has not released"),
    boolean(
        "unstable.feature.versions.enable",
        "false",
        "Whether feature levels still in development may be finalized.",
    )
    .high()
    .not_built("feature levels that Kafka has not released"),
    text(
        "ottla.metrics.listener",
        "127.0.0.1:9644",
        "Where metrics are served over HTTP, as `host:port`; empty serves none. A key of Ottla.",
    ),
    text(
        "ottla.log.format",
        "auto",
        "How log lines are written: `human`, `json`, or `auto`, which is `human` on a terminal \
         and `json` elsewhere. A key of Ottla.",
    )
    .valid(Valid::OneOf(&["human", "json", "auto"])),
    long_unset(
        "ottla.memory.bytes",
        "Memory that the process may use: memtables, caches, queued records, requests, fetches and \
         compaction share it. Unset: half of the machine's or the control group's memory, at most 2 \
         GiB. A key of Ottla.",
    )
    .at_least(MIN_MEMORY_BYTES as i64),
    long(
        "ottla.disk.reserve.bytes",
        "-1",
        "Disk space that new records leave free, beyond what is still to be flushed from memory. \
         Below it they are refused with KAFKA_STORAGE_ERROR, which clients retry; deletes, \
         retention and reads go on, and so do offset commits until half of the reserve is used, and \
         then fail with COORDINATOR_NOT_AVAILABLE, which clients retry, too. -1 is 5 % of the volume, at least 64 MiB and at \
         most 4 GiB. A key of Ottla.",
    )
    .valid(Valid::AtLeast(-1)),
    boolean(
        "ottla.storage.accept.loss",
        "false",
        "Whether to start although acknowledged data is missing from the data folder, without what \
         is lost. Without it such a start is refused and says where the damage is. Every record that \
         is whole is served; batches without records take the offsets of lost ones, and the log \
         names them. The damaged write-ahead logs are kept aside. Needed for one start. A key of \
         Ottla.",
    ),
];
