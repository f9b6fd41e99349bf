//! Requests of consumer groups, classic and KIP-848.

use super::{Api, api, array, boolean, bytes, int8, int32, int32s, int64, string, strings, uuid};

pub(super) const APIS: &[Api] = &[
    api(8, "OffsetCommit")
        .version_range(2, 9)
        .flexible_since(8)
        .of(&[
            string("GroupId"),
            int32("GenerationIdOrMemberEpoch"),
            string("MemberId"),
            string("GroupInstanceId").nullable().since(7),
            int64("RetentionTimeMs").until(4),
            array("Topics").of(&[
                string("Name"),
                array("Partitions").of(&[
                    int32("PartitionIndex"),
                    int64("CommittedOffset"),
                    int32("CommittedLeaderEpoch").since(6),
                    string("CommittedMetadata").nullable(),
                ]),
            ]),
        ]),
    api(9, "OffsetFetch")
        .version_range(1, 9)
        .flexible_since(6)
        .of(&[
            string("GroupId").until(7),
            array("Topics")
                .of(&[string("Name"), int32s("PartitionIndexes")])
                .nullable_since(2)
                .until(7),
            array("Groups")
                .of(&[
                    string("GroupId"),
                    string("MemberId").nullable().since(9),
                    int32("MemberEpoch").since(9),
                    array("Topics")
                        .of(&[string("Name"), int32s("PartitionIndexes")])
                        .nullable(),
                ])
                .since(8),
            boolean("RequireStable").since(7),
        ]),
    api(10, "FindCoordinator")
        .version_range(0, 6)
        .flexible_since(3)
        .of(&[
            string("Key").until(3),
            int8("KeyType").since(1),
            strings("CoordinatorKeys").since(4),
        ]),
    api(11, "JoinGroup")
        .version_range(0, 9)
        .flexible_since(6)
        .of(&[
            string("GroupId"),
            int32("SessionTimeoutMs"),
            int32("RebalanceTimeoutMs").since(1),
            string("MemberId"),
            string("GroupInstanceId").nullable().since(5),
            string("ProtocolType"),
            array("Protocols").of(&[string("Name"), bytes("Metadata")]),
            string("Reason").nullable().since(8),
        ]),
    api(12, "Heartbeat")
        .version_range(0, 4)
        .flexible_since(4)
        .of(&[
            string("GroupId"),
            int32("GenerationId"),
            string("MemberId"),
            string("GroupInstanceId").nullable().since(3),
        ]),
    api(13, "LeaveGroup")
        .version_range(0, 5)
        .flexible_since(4)
        .of(&[
            string("GroupId"),
            string("MemberId").until(2),
            array("Members")
                .of(&[
                    string("MemberId"),
                    string("GroupInstanceId").nullable(),
                    string("Reason").nullable().since(5),
                ])
                .since(3),
        ]),
    api(14, "SyncGroup")
        .version_range(0, 5)
        .flexible_since(4)
        .of(&[
            string("GroupId"),
            int32("GenerationId"),
            string("MemberId"),
            string("GroupInstanceId").nullable().since(3),
            string("ProtocolType").nullable().since(5),
            string("ProtocolName").nullable().since(5),
            array("Assignments").of(&[string("MemberId"), bytes("Assignment")]),
        ]),
    api(15, "DescribeGroups")
        .version_range(0, 6)
        .flexible_since(5)
        .of(&[
            strings("Groups"),
            boolean("IncludeAuthorizedOperations").since(3),
        ]),
    api(16, "ListGroups")
        .version_range(0, 5)
        .flexible_since(3)
        .of(&[
            strings("StatesFilter").since(4),
            strings("TypesFilter").since(5),
        ]),
    api(42, "DeleteGroups")
        .version_range(0, 2)
        .flexible_since(2)
        .of(&[strings("GroupsNames")]),
    api(47, "OffsetDelete").version_range(0, 0).of(&[
        string("GroupId"),
        array("Topics").of(&[
            string("Name"),
            array("Partitions").of(&[int32("PartitionIndex")]),
        ]),
    ]),
    api(68, "ConsumerGroupHeartbeat")
        .version_range(0, 1)
        .flexible_since(0)
        .of(&[
            string("GroupId"),
            string("MemberId"),
            int32("MemberEpoch"),
            string("InstanceId").nullable(),
            string("RackId").nullable(),
            int32("RebalanceTimeoutMs"),
            strings("SubscribedTopicNames").nullable(),
            string("SubscribedTopicRegex").nullable().since(1),
            string("ServerAssignor").nullable(),
            array("TopicPartitions")
                .of(&[uuid("TopicId"), int32s("Partitions")])
                .nullable(),
        ]),
    api(69, "ConsumerGroupDescribe")
        .version_range(0, 1)
        .flexible_since(0)
        .of(&[strings("GroupIds"), boolean("IncludeAuthorizedOperations")]),
];
