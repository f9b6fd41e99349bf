//! Requests about the cluster and its brokers, and client telemetry (KIP-714).

use super::{Api, api, array, boolean, bytes, int8, int16, int32, int32s, string, uuid};

pub(super) const APIS: &[Api] = &[
    api(18, "ApiVersions")
        .version_range(0, 4)
        .flexible_since(3)
        .of(&[
            string("ClientSoftwareName").since(3),
            string("ClientSoftwareVersion").since(3),
        ]),
    api(60, "DescribeCluster")
        .version_range(0, 2)
        .flexible_since(0)
        .of(&[
            boolean("IncludeClusterAuthorizedOperations"),
            int8("EndpointType").since(1),
            boolean("IncludeFencedBrokers").since(2),
        ]),
    api(55, "DescribeQuorum")
        .version_range(0, 2)
        .flexible_since(0)
        .of(&[array("Topics").of(&[
            string("TopicName"),
            array("Partitions").of(&[int32("PartitionIndex")]),
        ])]),
    api(64, "UnregisterBroker")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[int32("BrokerId")]),
    api(57, "UpdateFeatures")
        .version_range(0, 2)
        .flexible_since(0)
        .of(&[
            int32("TimeoutMs"),
            array("FeatureUpdates").of(&[
                string("Feature"),
                int16("MaxVersionLevel"),
                boolean("AllowDowngrade").until(0),
                int8("UpgradeType").since(1),
            ]),
            boolean("ValidateOnly").since(1),
        ]),
    api(35, "DescribeLogDirs")
        .version_range(1, 4)
        .flexible_since(2)
        .of(&[array("Topics")
            .of(&[string("Topic"), int32s("Partitions")])
            .nullable()]),
    api(34, "AlterReplicaLogDirs")
        .version_range(1, 2)
        .flexible_since(2)
        .of(&[array("Dirs").of(&[
            string("Path"),
            array("Topics").of(&[string("Name"), int32s("Partitions")]),
        ])]),
    api(71, "GetTelemetrySubscriptions")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[uuid("ClientInstanceId")]),
    api(72, "PushTelemetry")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[
            uuid("ClientInstanceId"),
            int32("SubscriptionId"),
            boolean("Terminating"),
            int8("CompressionType"),
            bytes("Metrics"),
        ]),
];
