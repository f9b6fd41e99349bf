//! TLS, ACLs and delegation tokens. None is built: a value that asks for one is refused, so that
//! nobody believes a broker protected that is open.

use super::super::{
    ConfigDef, boolean, class, class_unset, list, long, password, text, text_unset,
};

const TLS: &str = "TLS";
const ACLS: &str = "authorization (ACLs)";
const TOKENS: &str = "delegation tokens";

pub(super) static DEFS: &[ConfigDef] = &[
    text(
        "authorizer.class.name",
        "",
        "The authorizer that checks ACLs; empty lets everybody do everything.",
    )
    .low()
    .not_built(ACLS),
    text_unset(
        "super.users",
        "Principals whom no ACL holds back, semicolon separated.",
    )
    .low()
    .not_built(ACLS),
    boolean(
        "allow.everyone.if.no.acl.found",
        "false",
        "Whether a resource without ACLs is open to everybody.",
    )
    .low()
    .not_built(ACLS),
    class(
        "principal.builder.class",
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        "A Java class that names the user of a connection.",
    )
    .not_built("Java principal builders"),
    text_unset("security.providers", "Java security providers.")
        .low()
        .not_built(TLS),
    password(
        "delegation.token.secret.key",
        "The secret that signs delegation tokens.",
    )
    .not_built(TOKENS),
    password(
        "delegation.token.master.key",
        "The older name of `delegation.token.secret.key`.",
    )
    .not_built(TOKENS),
    long(
        "delegation.token.max.lifetime.ms",
        "604800000",
        "How long a delegation token can be renewed.",
    )
    .at_least(1)
    .not_built(TOKENS),
    long(
        "delegation.token.expiry.time.ms",
        "86400000",
        "How long a delegation token lasts without renewal.",
    )
    .at_least(1)
    .not_built(TOKENS),
    long(
        "delegation.token.expiry.check.interval.ms",
        "3600000",
        "How often expired delegation tokens are removed.",
    )
    .at_least(1)
    .low()
    .not_built(TOKENS),
    list("ssl.cipher.suites", "", "The cipher suites on offer.").not_built(TLS),
    text(
        "ssl.client.auth",
        "none",
        "Whether clients must show a certificate.",
    )
    .not_built(TLS),
    list(
        "ssl.enabled.protocols",
        "TLSv1.2,TLSv1.3",
        "The TLS versions on offer.",
    )
    .not_built(TLS),
    text(
        "ssl.endpoint.identification.algorithm",
        "https",
        "How the name in a server certificate is checked.",
    )
    .not_built(TLS),
    class_unset(
        "ssl.engine.factory.class",
        "A Java class that makes TLS engines.",
    )
    .not_built(TLS),
    password("ssl.key.password", "The password of the private key.").not_built(TLS),
    text(
        "ssl.keymanager.algorithm",
        "SunX509",
        "The algorithm of the key manager.",
    )
    .not_built(TLS),
    password(
        "ssl.keystore.certificate.chain",
        "The certificate chain, as PEM.",
    )
    .not_built(TLS),
    password("ssl.keystore.key", "The private key, as PEM.").not_built(TLS),
    text_unset("ssl.keystore.location", "The file of the key store.").not_built(TLS),
    password("ssl.keystore.password", "The password of the key store.").not_built(TLS),
    text("ssl.keystore.type", "JKS", "The format of the key store.").not_built(TLS),
    list(
        "ssl.principal.mapping.rules",
        "DEFAULT",
        "Rules that turn the name in a certificate into a principal.",
    )
    .not_built(TLS),
    text(
        "ssl.protocol",
        "TLSv1.3",
        "The TLS version that is preferred.",
    )
    .not_built(TLS),
    text_unset("ssl.provider", "The Java provider of TLS.").not_built(TLS),
    text_unset(
        "ssl.secure.random.implementation",
        "The source of random numbers.",
    )
    .not_built(TLS),
    text(
        "ssl.trustmanager.algorithm",
        "PKIX",
        "The algorithm of the trust manager.",
    )
    .not_built(TLS),
    password(
        "ssl.truststore.certificates",
        "The trusted certificates, as PEM.",
    )
    .not_built(TLS),
    text_unset("ssl.truststore.location", "The file of the trust store.").not_built(TLS),
    password(
        "ssl.truststore.password",
        "The password of the trust store.",
    )
    .not_built(TLS),
    text(
        "ssl.truststore.type",
        "JKS",
        "The format of the trust store.",
    )
    .not_built(TLS),
    boolean(
        "ssl.allow.dn.changes",
        "false",
        "Whether a reloaded certificate may change its subject.",
    )
    .not_built(TLS),
    boolean(
        "ssl.allow.san.changes",
        "false",
        "Whether a reloaded certificate may change its alternative names.",
    )
    .not_built(TLS),
];
