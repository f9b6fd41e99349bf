//! Parts of Kafka that do not exist here: tiered storage, share groups and streams groups. Turning
//! tiered storage on is refused. Tuning groups that cannot exist is accepted, because Kafka's own
//! sample file does it; clients see that the APIs of these groups are not offered.

use super::super::{
    ConfigDef, TIERED, boolean, class, class_unset, double, int, list, long, short, text,
    text_unset,
};

const SHARE: &str = "share groups are not built";
const STREAMS: &str = "streams groups are not built";

pub(super) static DEFS: &[ConfigDef] = &[
    boolean(
        "remote.log.storage.system.enable",
        "false",
        "Turns tiered storage on.",
    )
    .not_built(TIERED),
    class_unset(
        "remote.log.storage.manager.class.name",
        "The Java class that stores remote data.",
    )
    .not_built(TIERED),
    text_unset(
        "remote.log.storage.manager.class.path",
        "Where that class is.",
    )
    .not_built(TIERED),
    text(
        "remote.log.storage.manager.impl.prefix",
        "rsm.config.",
        "The prefix of keys for that class.",
    )
    .not_built(TIERED),
    class(
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "The Java class that knows what is remote.",
    )
    .not_built(TIERED),
    text_unset(
        "remote.log.metadata.manager.class.path",
        "Where that class is.",
    )
    .not_built(TIERED),
    text(
        "remote.log.metadata.manager.impl.prefix",
        "rlmm.config.",
        "The prefix of keys for that class.",
    )
    .not_built(TIERED),
    text_unset(
        "remote.log.metadata.manager.listener.name",
        "The listener that class uses.",
    )
    .not_built(TIERED),
    int(
        "remote.log.metadata.custom.metadata.max.bytes",
        "128",
        "Bytes of metadata that a plug-in may add.",
    )
    .not_built(TIERED),
    long(
        "remote.log.index.file.cache.total.size.bytes",
        "1073741824",
        "Disk space for remote indexes.",
    )
    .not_built(TIERED),
    long(
        "remote.log.index.file.cache.ttl.ms",
        "900000",
        "How long a remote index stays on disk.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.thread.pool.size",
        "2",
        "Threads of the remote log manager.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.follower.thread.pool.size",
        "2",
        "Threads that followers use.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.copier.thread.pool.size",
        "10",
        "Threads that copy to remote storage.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.expiration.thread.pool.size",
        "10",
        "Threads that delete remote data.",
    )
    .not_built(TIERED),
    long(
        "remote.log.manager.task.interval.ms",
        "30000",
        "How often there is copying and deleting.",
    )
    .not_built(TIERED),
    long(
        "remote.log.manager.task.retry.backoff.ms",
        "500",
        "The wait after a failure.",
    )
    .not_built(TIERED),
    long(
        "remote.log.manager.task.retry.backoff.max.ms",
        "30000",
        "The longest that wait grows to.",
    )
    .not_built(TIERED),
    double(
        "remote.log.manager.task.retry.jitter",
        "0.2",
        "A random part of that wait.",
    )
    .not_built(TIERED),
    long(
        "remote.log.manager.copy.max.bytes.per.second",
        "9223372036854775807",
        "Bytes a second that are copied.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.copy.quota.window.num",
        "11",
        "Samples that the previous limit looks back on.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.copy.quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .not_built(TIERED),
    long(
        "remote.log.manager.fetch.max.bytes.per.second",
        "9223372036854775807",
        "Bytes a second that are read back.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.fetch.quota.window.num",
        "11",
        "Samples that the previous limit looks back on.",
    )
    .not_built(TIERED),
    int(
        "remote.log.manager.fetch.quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .not_built(TIERED),
    int(
        "remote.log.reader.threads",
        "10",
        "Threads that read remote data.",
    )
    .not_built(TIERED),
    int(
        "remote.log.reader.max.pending.tasks",
        "100",
        "Reads of remote data that may wait.",
    )
    .not_built(TIERED),
    int(
        "remote.fetch.max.wait.ms",
        "500",
        "How long a fetch waits for remote data.",
    )
    .not_built(TIERED),
    long(
        "remote.list.offsets.request.timeout.ms",
        "30000",
        "How long a search for remote offsets may take.",
    )
    .not_built(TIERED),
    boolean(
        "follower.fetch.last.tiered.offset.enable",
        "false",
        "Whether a new replica skips what is remote.",
    )
    .not_built(TIERED),
    boolean("group.share.enable", "false", "Turns share groups on.").not_built("share groups"),
    list(
        "group.share.assignors",
        "simple",
        "The assignor of share groups.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.size",
        "200",
        "Members that a share group may have.",
    )
    .no_effect(SHARE),
    short(
        "group.share.max.groups",
        "10",
        "Share groups that there may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.session.timeout.ms",
        "45000",
        "How long a member may be silent.",
    )
    .no_effect(SHARE),
    int(
        "group.share.min.session.timeout.ms",
        "45000",
        "The least that timeout may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.session.timeout.ms",
        "60000",
        "The most that timeout may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.heartbeat.interval.ms",
        "5000",
        "How often members heartbeat.",
    )
    .no_effect(SHARE),
    int(
        "group.share.min.heartbeat.interval.ms",
        "5000",
        "The least that interval may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.heartbeat.interval.ms",
        "15000",
        "The most that interval may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.initialize.retry.interval.ms",
        "30000",
        "The wait before share state is initialized again.",
    )
    .no_effect(SHARE),
    int(
        "group.share.delivery.count.limit",
        "5",
        "Times that a record is delivered at most.",
    )
    .no_effect(SHARE),
    int(
        "group.share.min.delivery.count.limit",
        "2",
        "The least that limit may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.delivery.count.limit",
        "10",
        "The most that limit may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.record.lock.duration.ms",
        "30000",
        "How long a delivered record is locked.",
    )
    .no_effect(SHARE),
    int(
        "group.share.min.record.lock.duration.ms",
        "15000",
        "The least that time may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.record.lock.duration.ms",
        "60000",
        "The most that time may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.partition.max.record.locks",
        "2000",
        "Records of a partition that may be locked.",
    )
    .no_effect(SHARE),
    int(
        "group.share.min.partition.max.record.locks",
        "100",
        "The least that limit may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.partition.max.record.locks",
        "4000",
        "The most that limit may be.",
    )
    .no_effect(SHARE),
    int(
        "group.share.max.share.sessions",
        "2000",
        "Share sessions that a broker holds.",
    )
    .no_effect(SHARE),
    class_unset(
        "group.share.persister.class.name",
        "The Java class that keeps share state.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.append.linger.ms",
        "5",
        "How long share state is gathered before it is written.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.cached.buffer.max.bytes",
        "1048588",
        "The largest buffer kept for reuse.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.cold.partition.snapshot.interval.ms",
        "300000",
        "How often idle share state is written out.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.load.buffer.size",
        "5242880",
        "Bytes read at once when share state is loaded.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.snapshot.update.records.per.snapshot",
        "500",
        "Updates after which share state is written out.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.state.topic.compression.codec",
        "0",
        "Compression of `__share_group_state`.",
    )
    .no_effect(SHARE),
    short(
        "share.coordinator.state.topic.min.isr",
        "2",
        "`min.insync.replicas` of `__share_group_state`.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.state.topic.num.partitions",
        "50",
        "Partitions of `__share_group_state`.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.state.topic.prune.interval.ms",
        "300000",
        "How often old share state is removed.",
    )
    .no_effect(SHARE),
    short(
        "share.coordinator.state.topic.replication.factor",
        "3",
        "Replicas of `__share_group_state`.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.state.topic.segment.bytes",
        "104857600",
        "The size of a file of `__share_group_state`.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.threads",
        "1",
        "Threads of the share coordinator.",
    )
    .no_effect(SHARE),
    int(
        "share.coordinator.write.timeout.ms",
        "5000",
        "How long writing share state may take.",
    )
    .no_effect(SHARE),
    int(
        "share.fetch.max.fetch.records",
        "2147483647",
        "Records that one share fetch returns.",
    )
    .no_effect(SHARE),
    int(
        "share.fetch.purgatory.purge.interval.requests",
        "1000",
        "Requests after which waiting share fetches are swept.",
    )
    .no_effect(SHARE),
    int(
        "group.streams.session.timeout.ms",
        "45000",
        "How long a member may be silent.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.min.session.timeout.ms",
        "45000",
        "The least that timeout may be.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.max.session.timeout.ms",
        "60000",
        "The most that timeout may be.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.heartbeat.interval.ms",
        "5000",
        "How often members heartbeat.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.min.heartbeat.interval.ms",
        "5000",
        "The least that interval may be.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.max.heartbeat.interval.ms",
        "15000",
        "The most that interval may be.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.max.size",
        "2147483647",
        "Members that a streams group may have.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.num.standby.replicas",
        "0",
        "Standby copies of each task.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.max.standby.replicas",
        "2",
        "The most that number may be.",
    )
    .no_effect(STREAMS),
    int(
        "group.streams.initial.rebalance.delay.ms",
        "3000",
        "How long a new group waits for more members.",
    )
    .no_effect(STREAMS),
];
