//! Requests of idempotent and transactional producers (KIP-98, KIP-890).

use super::{Api, api, array, boolean, int16, int32, int32s, int64, int64s, string, strings};

pub(super) const APIS: &[Api] = &[
    api(22, "InitProducerId")
        .version_range(0, 5)
        .flexible_since(2)
        .of(&[
            string("TransactionalId").nullable(),
            int32("TransactionTimeoutMs"),
            int64("ProducerId").since(3),
            int16("ProducerEpoch").since(3),
        ]),
    api(24, "AddPartitionsToTxn")
        .version_range(0, 5)
        .flexible_since(3)
        .of(&[
            array("Transactions")
                .of(&[
                    string("TransactionalId"),
                    int64("ProducerId"),
                    int16("ProducerEpoch"),
                    boolean("VerifyOnly"),
                    array("Topics").of(&[string("Name"), int32s("Partitions")]),
                ])
                .since(4),
            string("V3AndBelowTransactionalId").until(3),
            int64("V3AndBelowProducerId").until(3),
            int16("V3AndBelowProducerEpoch").until(3),
            array("V3AndBelowTopics")
                .of(&[string("Name"), int32s("Partitions")])
                .until(3),
        ]),
    api(25, "AddOffsetsToTxn")
        .version_range(0, 4)
        .flexible_since(3)
        .of(&[
            string("TransactionalId"),
            int64("ProducerId"),
            int16("ProducerEpoch"),
            string("GroupId"),
        ]),
    api(26, "EndTxn")
        .version_range(0, 5)
        .flexible_since(3)
        .of(&[
            string("TransactionalId"),
            int64("ProducerId"),
            int16("ProducerEpoch"),
            boolean("Committed"),
        ]),
    api(28, "TxnOffsetCommit")
        .version_range(0, 5)
        .flexible_since(3)
        .of(&[
            string("TransactionalId"),
            string("GroupId"),
            int64("ProducerId"),
            int16("ProducerEpoch"),
            int32("GenerationId").since(3),
            string("MemberId").since(3),
            string("GroupInstanceId").nullable().since(3),
            array("Topics").of(&[
                string("Name"),
                array("Partitions").of(&[
                    int32("PartitionIndex"),
                    int64("CommittedOffset"),
                    int32("CommittedLeaderEpoch").since(2),
                    string("CommittedMetadata").nullable(),
                ]),
            ]),
        ]),
    api(65, "DescribeTransactions")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[strings("TransactionalIds")]),
    api(66, "ListTransactions")
        .version_range(0, 2)
        .flexible_since(0)
        .of(&[
            strings("StateFilters"),
            int64s("ProducerIdFilters"),
            int64("DurationFilter").since(1),
            string("TransactionalIdPattern").nullable().since(2),
        ]),
    api(27, "WriteTxnMarkers")
        .version_range(1, 1)
        .flexible_since(1)
        .of(&[array("Markers").of(&[
            int64("ProducerId"),
            int16("ProducerEpoch"),
            boolean("TransactionResult"),
            array("Topics").of(&[string("Name"), int32s("PartitionIndexes")]),
            int32("CoordinatorEpoch"),
        ])]),
];
