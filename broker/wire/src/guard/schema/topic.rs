//! Requests that administer topics, partitions and configurations.

use super::{
    Api, api, array, boolean, int8, int8s, int16, int32, int32s, int64, string, strings, uuid,
};

pub(super) const APIS: &[Api] = &[
    api(19, "CreateTopics")
        .version_range(2, 7)
        .flexible_since(5)
        .of(&[
            array("Topics").of(&[
                string("Name"),
                int32("NumPartitions"),
                int16("ReplicationFactor"),
                array("Assignments").of(&[int32("PartitionIndex"), int32s("BrokerIds")]),
                array("Configs").of(&[string("Name"), string("Value").nullable()]),
            ]),
            int32("TimeoutMs"),
            boolean("ValidateOnly"),
        ]),
    api(20, "DeleteTopics")
        .version_range(1, 6)
        .flexible_since(4)
        .of(&[
            array("Topics")
                .of(&[string("Name").nullable(), uuid("TopicId")])
                .since(6),
            strings("TopicNames").until(5),
            int32("TimeoutMs"),
        ]),
    api(21, "DeleteRecords")
        .version_range(0, 2)
        .flexible_since(2)
        .of(&[
            array("Topics").of(&[
                string("Name"),
                array("Partitions").of(&[int32("PartitionIndex"), int64("Offset")]),
            ]),
            int32("TimeoutMs"),
        ]),
    api(37, "CreatePartitions")
        .version_range(0, 3)
        .flexible_since(2)
        .of(&[
            array("Topics").of(&[
                string("Name"),
                int32("Count"),
                array("Assignments").of(&[int32s("BrokerIds")]).nullable(),
            ]),
            int32("TimeoutMs"),
            boolean("ValidateOnly"),
        ]),
    api(32, "DescribeConfigs")
        .version_range(1, 4)
        .flexible_since(4)
        .of(&[
            array("Resources").of(&[
                int8("ResourceType"),
                string("ResourceName"),
                strings("ConfigurationKeys").nullable(),
            ]),
            boolean("IncludeSynonyms"),
            boolean("IncludeDocumentation").since(3),
        ]),
    api(33, "AlterConfigs")
        .version_range(0, 2)
        .flexible_since(2)
        .of(&[
            array("Resources").of(&[
                int8("ResourceType"),
                string("ResourceName"),
                array("Configs").of(&[string("Name"), string("Value").nullable()]),
            ]),
            boolean("ValidateOnly"),
        ]),
    api(44, "IncrementalAlterConfigs")
        .version_range(0, 1)
        .flexible_since(1)
        .of(&[
            array("Resources").of(&[
                int8("ResourceType"),
                string("ResourceName"),
                array("Configs").of(&[
                    string("Name"),
                    int8("ConfigOperation"),
                    string("Value").nullable(),
                ]),
            ]),
            boolean("ValidateOnly"),
        ]),
    api(74, "ListConfigResources")
        .version_range(0, 1)
        .flexible_since(0)
        .of(&[int8s("ResourceTypes").since(1)]),
    api(43, "ElectLeaders")
        .version_range(0, 2)
        .flexible_since(2)
        .of(&[
            int8("ElectionType").since(1),
            array("TopicPartitions")
                .of(&[string("Topic"), int32s("Partitions")])
                .nullable(),
            int32("TimeoutMs"),
        ]),
    api(45, "AlterPartitionReassignments")
        .version_range(0, 1)
        .flexible_since(0)
        .of(&[
            int32("TimeoutMs"),
            boolean("AllowReplicationFactorChange").since(1),
            array("Topics").of(&[
                string("Name"),
                array("Partitions").of(&[int32("PartitionIndex"), int32s("Replicas").nullable()]),
            ]),
        ]),
    api(46, "ListPartitionReassignments")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[
            int32("TimeoutMs"),
            array("Topics")
                .of(&[string("Name"), int32s("PartitionIndexes")])
                .nullable(),
        ]),
];
