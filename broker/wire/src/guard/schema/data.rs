//! Requests about records and where they are: produce, fetch, offsets, metadata.

use super::{
    Api, api, array, boolean, bytes, int8, int16, int32, int32s, int64, string, structure, uuid,
};

pub(super) const APIS: &[Api] = &[
    api(0, "Produce")
        .version_range(3, 13)
        .flexible_since(9)
        .of(&[
            string("TransactionalId").nullable(),
            int16("Acks"),
            int32("TimeoutMs"),
            array("TopicData").of(&[
                string("Name").until(12),
                uuid("TopicId").since(13),
                array("PartitionData").of(&[int32("Index"), bytes("Records").nullable()]),
            ]),
        ]),
    api(1, "Fetch")
        .version_range(4, 18)
        .flexible_since(12)
        .of(&[
            int32("ReplicaId").until(14),
            int32("MaxWaitMs"),
            int32("MinBytes"),
            int32("MaxBytes"),
            int8("IsolationLevel"),
            int32("SessionId").since(7),
            int32("SessionEpoch").since(7),
            array("Topics").of(&[
                string("Topic").until(12),
                uuid("TopicId").since(13),
                array("Partitions").of(&[
                    int32("Partition"),
                    int32("CurrentLeaderEpoch").since(9),
                    int64("FetchOffset"),
                    int32("LastFetchedEpoch").since(12),
                    int64("LogStartOffset").since(5),
                    int32("PartitionMaxBytes"),
                    uuid("ReplicaDirectoryId").since(17).tag(0),
                    int64("HighWatermark").since(18).tag(1),
                ]),
            ]),
            array("ForgottenTopicsData")
                .of(&[
                    string("Topic").until(12),
                    uuid("TopicId").since(13),
                    int32s("Partitions"),
                ])
                .since(7),
            string("RackId").since(11),
            string("ClusterId").nullable().since(12).tag(0),
            structure("ReplicaState")
                .of(&[int32("ReplicaId"), int64("ReplicaEpoch")])
                .since(15)
                .tag(1),
        ]),
    api(2, "ListOffsets")
        .version_range(1, 10)
        .flexible_since(6)
        .of(&[
            int32("ReplicaId"),
            int8("IsolationLevel").since(2),
            array("Topics").of(&[
                string("Name"),
                array("Partitions").of(&[
                    int32("PartitionIndex"),
                    int32("CurrentLeaderEpoch").since(4),
                    int64("Timestamp"),
                ]),
            ]),
            int32("TimeoutMs").since(10),
        ]),
    api(3, "Metadata")
        .version_range(0, 13)
        .flexible_since(9)
        .of(&[
            array("Topics")
                .of(&[uuid("TopicId").since(10), string("Name").nullable_since(10)])
                .nullable_since(1),
            boolean("AllowAutoTopicCreation").since(4),
            boolean("IncludeClusterAuthorizedOperations")
                .since(8)
                .until(10),
            boolean("IncludeTopicAuthorizedOperations").since(8),
        ]),
    api(23, "OffsetForLeaderEpoch")
        .version_range(2, 4)
        .flexible_since(4)
        .of(&[
            int32("ReplicaId").since(3),
            array("Topics").of(&[
                string("Topic"),
                array("Partitions").of(&[
                    int32("Partition"),
                    int32("CurrentLeaderEpoch"),
                    int32("LeaderEpoch"),
                ]),
            ]),
        ]),
    api(75, "DescribeTopicPartitions")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[
            array("Topics").of(&[string("Name")]),
            int32("ResponsePartitionLimit"),
            structure("Cursor")
                .of(&[string("TopicName"), int32("PartitionIndex")])
                .nullable(),
        ]),
    api(61, "DescribeProducers")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[array("Topics").of(&[string("Name"), int32s("PartitionIndexes")])]),
];
