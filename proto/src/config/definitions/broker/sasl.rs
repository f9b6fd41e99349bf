//! SASL authentication. Not built: a value that asks for it is refused, so that nobody believes a
//! broker protected that is open.

use super::super::{
    ConfigDef, boolean, class, class_unset, double, int, int_unset, list, long, password, short,
    text, text_unset,
};
use super::list_unset;

const SASL: &str = "SASL authentication";

pub(super) static DEFS: &[ConfigDef] = &[
    class_unset(
        "sasl.client.callback.handler.class",
        "A Java class for the client side of SASL.",
    )
    .not_built(SASL),
    list(
        "sasl.enabled.mechanisms",
        "GSSAPI",
        "The SASL mechanisms on offer.",
    )
    .not_built(SASL),
    password("sasl.jaas.config", "The JAAS login of a SASL mechanism.").not_built(SASL),
    text(
        "sasl.kerberos.kinit.cmd",
        "/usr/bin/kinit",
        "The kinit command.",
    )
    .not_built(SASL),
    long(
        "sasl.kerberos.min.time.before.relogin",
        "60000",
        "The wait between two Kerberos logins.",
    )
    .not_built(SASL),
    list(
        "sasl.kerberos.principal.to.local.rules",
        "DEFAULT",
        "Rules that shorten Kerberos names.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.kerberos.service.name",
        "The Kerberos name of the brokers.",
    )
    .not_built(SASL),
    double(
        "sasl.kerberos.ticket.renew.jitter",
        "0.05",
        "A random part of the renewal time of tickets.",
    )
    .not_built(SASL),
    double(
        "sasl.kerberos.ticket.renew.window.factor",
        "0.8",
        "The part of a ticket's life after which it is renewed.",
    )
    .not_built(SASL),
    class_unset(
        "sasl.login.callback.handler.class",
        "A Java class for SASL logins.",
    )
    .not_built(SASL),
    class_unset("sasl.login.class", "A Java class that logs in.").not_built(SASL),
    int_unset(
        "sasl.login.connect.timeout.ms",
        "How long connecting to the authority may take.",
    )
    .not_built(SASL),
    int_unset(
        "sasl.login.read.timeout.ms",
        "How long an answer of the authority may take.",
    )
    .not_built(SASL),
    short(
        "sasl.login.refresh.buffer.seconds",
        "300",
        "Time before expiry at which a login is renewed at the latest.",
    )
    .not_built(SASL),
    short(
        "sasl.login.refresh.min.period.seconds",
        "60",
        "The least time between two renewals.",
    )
    .not_built(SASL),
    double(
        "sasl.login.refresh.window.factor",
        "0.8",
        "The part of a login's life after which it is renewed.",
    )
    .not_built(SASL),
    double(
        "sasl.login.refresh.window.jitter",
        "0.05",
        "A random part of that time.",
    )
    .not_built(SASL),
    long(
        "sasl.login.retry.backoff.ms",
        "100",
        "The wait after a failed login.",
    )
    .not_built(SASL),
    long(
        "sasl.login.retry.backoff.max.ms",
        "10000",
        "The longest that wait grows to.",
    )
    .not_built(SASL),
    text(
        "sasl.mechanism.controller.protocol",
        "GSSAPI",
        "The SASL mechanism between brokers and controllers.",
    )
    .not_built(SASL),
    text(
        "sasl.mechanism.inter.broker.protocol",
        "GSSAPI",
        "The SASL mechanism between brokers.",
    )
    .not_built(SASL),
    class_unset(
        "sasl.server.callback.handler.class",
        "A Java class for the server side of SASL.",
    )
    .not_built(SASL),
    int(
        "sasl.server.max.receive.size",
        "524288",
        "The largest message of a SASL exchange.",
    )
    .not_built(SASL),
    long(
        "connections.max.reauth.ms",
        "0",
        "How long a session lasts until it authenticates again; 0 is for ever.",
    )
    .not_built(SASL),
    text(
        "sasl.oauthbearer.assertion.algorithm",
        "RS256",
        "How assertions are signed.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.claim.aud",
        "The audience in assertions.",
    )
    .not_built(SASL),
    int(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        "300",
        "How long assertions are good for.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.claim.iss",
        "The issuer in assertions.",
    )
    .not_built(SASL),
    boolean(
        "sasl.oauthbearer.assertion.claim.jti.include",
        "false",
        "Whether assertions have an id.",
    )
    .not_built(SASL),
    int(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        "60",
        "From how long ago assertions are good.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.claim.sub",
        "The subject in assertions.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.file",
        "A file with a ready assertion.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.private.key.file",
        "The file of the key that signs assertions.",
    )
    .not_built(SASL),
    password(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "The passphrase of that key.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.assertion.template.file",
        "A file with the fixed parts of assertions.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.client.credentials.client.id",
        "The client id at the authority.",
    )
    .not_built(SASL),
    password(
        "sasl.oauthbearer.client.credentials.client.secret",
        "The client secret at the authority.",
    )
    .not_built(SASL),
    int(
        "sasl.oauthbearer.clock.skew.seconds",
        "30",
        "How far clocks may differ.",
    )
    .not_built(SASL),
    list_unset(
        "sasl.oauthbearer.expected.audience",
        "Audiences that a token must name one of.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.expected.issuer",
        "The issuer that a token must name.",
    )
    .not_built(SASL),
    boolean(
        "sasl.oauthbearer.header.urlencode",
        "false",
        "Whether credentials are URL-encoded.",
    )
    .not_built(SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "3600000",
        "How often the authority's keys are fetched.",
    )
    .not_built(SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        "100",
        "The wait after a failed fetch of keys.",
    )
    .not_built(SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "10000",
        "The longest that wait grows to.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.jwks.endpoint.url",
        "Where the authority's keys are.",
    )
    .not_built(SASL),
    class(
        "sasl.oauthbearer.jwt.retriever.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        "A Java class that fetches tokens.",
    )
    .not_built(SASL),
    class(
        "sasl.oauthbearer.jwt.validator.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        "A Java class that checks tokens.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.scope",
        "The scope that tokens are asked for.",
    )
    .not_built(SASL),
    text(
        "sasl.oauthbearer.scope.claim.name",
        "scope",
        "The claim that holds the scope.",
    )
    .not_built(SASL),
    text(
        "sasl.oauthbearer.sub.claim.name",
        "sub",
        "The claim that holds the subject.",
    )
    .not_built(SASL),
    text_unset(
        "sasl.oauthbearer.token.endpoint.url",
        "Where tokens come from.",
    )
    .not_built(SASL),
];
