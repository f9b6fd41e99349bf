//! Requests of authentication, ACLs, SCRAM credentials and quotas.

use super::{Api, api, array, boolean, bytes, float64, int8, int32, string};

pub(super) const APIS: &[Api] = &[
    api(17, "SaslHandshake")
        .version_range(0, 1)
        .of(&[string("Mechanism")]),
    api(36, "SaslAuthenticate")
        .version_range(0, 2)
        .flexible_since(2)
        .of(&[bytes("AuthBytes")]),
    api(29, "DescribeAcls")
        .version_range(1, 3)
        .flexible_since(2)
        .of(&[
            int8("ResourceTypeFilter"),
            string("ResourceNameFilter").nullable(),
            int8("PatternTypeFilter"),
            string("PrincipalFilter").nullable(),
            string("HostFilter").nullable(),
            int8("Operation"),
            int8("PermissionType"),
        ]),
    api(30, "CreateAcls")
        .version_range(1, 3)
        .flexible_since(2)
        .of(&[array("Creations").of(&[
            int8("ResourceType"),
            string("ResourceName"),
            int8("ResourcePatternType"),
            string("Principal"),
            string("Host"),
            int8("Operation"),
            int8("PermissionType"),
        ])]),
    api(31, "DeleteAcls")
        .version_range(1, 3)
        .flexible_since(2)
        .of(&[array("Filters").of(&[
            int8("ResourceTypeFilter"),
            string("ResourceNameFilter").nullable(),
            int8("PatternTypeFilter"),
            string("PrincipalFilter").nullable(),
            string("HostFilter").nullable(),
            int8("Operation"),
            int8("PermissionType"),
        ])]),
    api(50, "DescribeUserScramCredentials")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[array("Users").of(&[string("Name")]).nullable()]),
    api(51, "AlterUserScramCredentials")
        .version_range(0, 0)
        .flexible_since(0)
        .of(&[
            array("Deletions").of(&[string("Name"), int8("Mechanism")]),
            array("Upsertions").of(&[
                string("Name"),
                int8("Mechanism"),
                int32("Iterations"),
                bytes("Salt"),
                bytes("SaltedPassword"),
            ]),
        ]),
    api(48, "DescribeClientQuotas")
        .version_range(0, 1)
        .flexible_since(1)
        .of(&[
            array("Components").of(&[
                string("EntityType"),
                int8("MatchType"),
                string("Match").nullable(),
            ]),
            boolean("Strict"),
        ]),
    api(49, "AlterClientQuotas")
        .version_range(0, 1)
        .flexible_since(1)
        .of(&[
            array("Entries").of(&[
                array("Entity").of(&[string("EntityType"), string("EntityName").nullable()]),
                array("Ops").of(&[string("Key"), float64("Value"), boolean("Remove")]),
            ]),
            boolean("ValidateOnly"),
        ]),
];
