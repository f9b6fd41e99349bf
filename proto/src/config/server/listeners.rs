//! Listeners, advertised listeners and the metadata quorum, with the rules that Kafka's KRaft mode
//! sets for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Problems, Roles};
use crate::config::values::Values;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "PLAINTEXT" => Self::Plaintext,
            "SSL" => Self::Ssl,
            "SASL_PLAINTEXT" => Self::SaslPlaintext,
            "SASL_SSL" => Self::SaslSsl,
            _ => return None,
        })
    }
}

/// A named address. An empty host is every interface where the server listens, and this host's own
/// name where it is advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// In capitals, as Kafka compares them.
    pub name: String,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
    pub protocol: SecurityProtocol,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(
            f,
            "{}://{open}{}{close}:{}",
            self.name, self.host, self.port
        )
    }
}

/// An address of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVoter {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

impl QuorumVoter {
    pub fn address(&self) -> HostPort {
        HostPort {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// As `controller.quorum.voters` writes it: `id@host:port`.
impl FromStr for QuorumVoter {
    type Err = ();

    fn from_str(text: &str) -> Result<QuorumVoter, ()> {
        let (id, address) = text.split_once('@').ok_or(())?;
        let id = id.parse().ok().filter(|id| *id >= 0).ok_or(())?;
        let (host, port) = reachable(address).ok_or(())?;
        Ok(QuorumVoter { id, host, port })
    }
}

impl fmt::Display for QuorumVoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}@[{}]:{}", self.id, self.host, self.port),
            false => write!(f, "{}@{}:{}", self.id, self.host, self.port),
        }
    }
}

/// Everything about addresses, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// The listeners of the broker role.
    pub broker: Vec<Listener>,
    /// The listeners of the controller role.
    pub controller: Vec<Listener>,
    /// What clients and other brokers are told.
    pub advertised: Vec<Listener>,
    /// What other controllers are told; empty if nothing says otherwise than `controller`.
    pub advertised_controller: Vec<Listener>,
    pub inter_broker_name: String,
    /// The first one is what a broker uses to reach the controllers.
    pub controller_names: Vec<String>,
}

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const CONTROLLER_NAMES: &str = "controller.listener.names";
const PROTOCOL_MAP: &str = "listener.security.protocol.map";
const INTER_BROKER: &str = "inter.broker.listener.name";
const ROLES: &str = "process.roles";

pub(super) fn resolve(values: &Values, roles: Roles, problems: &mut Problems) -> Listeners {
    let controller_names: Vec<String> = values
        .list(CONTROLLER_NAMES)
        .iter()
        .map(|name| name.to_uppercase())
        .collect();
    let protocols = protocol_map(values, &controller_names, problems);
    let all = endpoints(values, LISTENERS, &protocols, problems);
    refuse_shared_ports(&all, problems);
    let is_controller = |l: &Listener| controller_names.contains(&l.name);
    let (controller, broker): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_controller);
    check_roles(
        values,
        roles,
        &broker,
        &controller,
        &controller_names,
        problems,
    );

    let advertised = if values.is_set(ADVERTISED) {
        endpoints(values, ADVERTISED, &protocols, problems)
    } else {
        broker.clone()
    };
    check_advertised(&advertised, &all, &controller_names, problems);
    let (advertised_controller, advertised): (Vec<_>, Vec<_>) =
        advertised.into_iter().partition(is_controller);
    let inter_broker_name = inter_broker(values, roles, &advertised, &controller_names, problems);
    Listeners {
        broker,
        controller,
        advertised,
        advertised_controller,
        inter_broker_name,
        controller_names,
    }
}

/// As in Kafka, a controller listener that an unset map does not name is PLAINTEXT.
fn protocol_map(
    values: &Values,
    controller_names: &[String],
    problems: &mut Problems,
) -> BTreeMap<String, SecurityProtocol> {
    let mut map = BTreeMap::new();
    if !values.is_set(PROTOCOL_MAP) {
        for name in controller_names {
            map.insert(name.clone(), SecurityProtocol::Plaintext);
        }
    }
    for entry in values.list(PROTOCOL_MAP) {
        let parsed = entry.split_once(':').and_then(|(name, protocol)| {
            let protocol = SecurityProtocol::parse(&protocol.trim().to_uppercase())?;
            Some((name.trim().to_uppercase(), protocol))
        });
        match parsed {
            Some((name, _)) if name.is_empty() => {
                problems.add(
                    &[PROTOCOL_MAP],
                    format!("{entry}: the listener has no name"),
                );
            }
            Some((name, protocol)) => {
                map.insert(name, protocol);
            }
            None => problems.add(
                &[PROTOCOL_MAP],
                format!(
                    "{entry}: not of the form name:protocol, with PLAINTEXT, SSL, SASL_PLAINTEXT \
                     or SASL_SSL for a protocol"
                ),
            ),
        }
    }
    map
}

fn endpoints(
    values: &Values,
    key: &'static str,
    protocols: &BTreeMap<String, SecurityProtocol>,
    problems: &mut Problems,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for text in values.list(key) {
        let Some((name, host, port)) = parse_endpoint(&text) else {
            problems.add(&[key], format!("{text}: not of the form name://host:port"));
            continue;
        };
        if listeners.iter().any(|l| l.name == name) {
            problems.add(&[key], format!("the name {name} occurs twice"));
            continue;
        }
        match protocols.get(&name) {
            Some(SecurityProtocol::Plaintext) => {}
            Some(_) => {
                let text = format!("{text}: not built: TLS and SASL; use PLAINTEXT");
                problems.add(&[key, PROTOCOL_MAP], text);
            }
            None => {
                let text = format!("{text}: {PROTOCOL_MAP} has no protocol for {name}");
                problems.add(&[key, PROTOCOL_MAP], text);
            }
        }
        let protocol = SecurityProtocol::Plaintext;
        listeners.push(Listener {
            name,
            host,
            port,
            protocol,
        });
    }
    listeners
}

/// Splits `name://host:port`, where the host may be empty, a name, or an address, and an IPv6
/// address stands in brackets.
fn parse_endpoint(text: &str) -> Option<(String, String, u16)> {
    let (name, address) = text.split_once("://")?;
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    {
        return None;
    }
    let (host, port) = split_host(address)?;
    Some((name.to_uppercase(), host, port))
}

/// Splits `host:port`.
fn split_host(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    let bracketed = host.strip_prefix('[').map(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => inner?,
        None => host,
    };
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-._%:".contains(&b);
    if !host.bytes().all(known) || (bracketed.is_none() && host.contains(':')) {
        return None;
    }
    Some((host.to_owned(), port))
}

/// Kafka lets two listeners share a port only if one is IPv4 and the other IPv6.
fn refuse_shared_ports(listeners: &[Listener], problems: &mut Problems) {
    for (i, a) in listeners.iter().enumerate() {
        for b in &listeners[i + 1..] {
            let families_differ = !a.host.is_empty()
                && !b.host.is_empty()
                && a.host.contains(':') != b.host.contains(':');
            if a.port == b.port && a.port != 0 && !families_differ {
                let text = format!("{a} and {b} have the same port");
                problems.add(&[LISTENERS], text);
            }
        }
    }
}

fn check_roles(
    values: &Values,
    roles: Roles,
    broker: &[Listener],
    controller: &[Listener],
    controller_names: &[String],
    problems: &mut Problems,
) {
    if roles.broker && broker.is_empty() {
        let text =
            "there is no listener for the broker: all are named in controller.listener.names";
        problems.add(&[LISTENERS, CONTROLLER_NAMES, ROLES], text.into());
    }
    if !roles.broker && !broker.is_empty() {
        let names: Vec<_> = broker.iter().map(|l| l.name.as_str()).collect();
        let text = format!(
            "a process that is only a controller listens only where controller.listener.names \
             says; it does not name {}",
            names.join(", ")
        );
        problems.add(&[LISTENERS, CONTROLLER_NAMES, ROLES], text);
    }
    if !roles.controller && !controller.is_empty() {
        let text = format!(
            "{} is a listener of controllers, and this process is only a broker",
            controller[0].name
        );
        problems.add(&[LISTENERS, CONTROLLER_NAMES, ROLES], text);
    }
    if roles.controller && controller.is_empty() && !controller_names.is_empty() {
        let text = "a controller needs a listener that controller.listener.names names";
        problems.add(&[LISTENERS, CONTROLLER_NAMES, ROLES], text.into());
    }
    // A process that is its own whole quorum needs nobody to reach its controller.
    let alone = roles.broker && roles.controller && values.list(super::VOTERS).len() <= 1;
    if controller_names.is_empty() && !alone {
        let text = "is required: it names the listeners of the controllers";
        problems.add(&[CONTROLLER_NAMES, ROLES], text.into());
    }
}

fn check_advertised(
    advertised: &[Listener],
    listeners: &[Listener],
    controller_names: &[String],
    problems: &mut Problems,
) {
    for listener in advertised {
        if matches!(listener.host.as_str(), "0.0.0.0" | "::") {
            let text = format!(
                "{listener}: nobody can connect to {}; advertise an address that clients can reach",
                listener.host
            );
            problems.add(&[ADVERTISED, LISTENERS], text);
        }
        let known = listeners.iter().any(|l| l.name == listener.name);
        if !known && !controller_names.contains(&listener.name) {
            let text = format!("{listener}: listeners has no {}", listener.name);
            problems.add(&[ADVERTISED, LISTENERS], text);
        }
    }
}

fn inter_broker(
    values: &Values,
    roles: Roles,
    advertised: &[Listener],
    controller_names: &[String],
    problems: &mut Problems,
) -> String {
    let key = "security.inter.broker.protocol";
    if values.is_set(INTER_BROKER) && values.is_set(key) {
        let text = format!("only one of {INTER_BROKER} and {key} may be set");
        problems.add(&[INTER_BROKER, key], text);
    }
    let name = values
        .text(INTER_BROKER)
        .unwrap_or("PLAINTEXT")
        .to_uppercase();
    if !roles.broker {
        return name;
    }
    if controller_names.contains(&name) {
        let text = format!("{name} is a listener of controllers");
        problems.add(&[INTER_BROKER, CONTROLLER_NAMES], text);
    } else if !advertised.iter().any(|l| l.name == name) && !problems.has(&[LISTENERS, ADVERTISED])
    {
        let text = if values.is_set(INTER_BROKER) {
            format!("{name} must be one of {ADVERTISED}")
        } else {
            format!("no listener is called {name}: set {INTER_BROKER} to the one that brokers use")
        };
        problems.add(&[INTER_BROKER, ADVERTISED, LISTENERS], text);
    }
    name
}

/// Reads `id@host:port` of every voter.
pub(super) fn voters(values: &Values, problems: &mut Problems) -> Vec<QuorumVoter> {
    let mut voters: Vec<QuorumVoter> = Vec::new();
    let mut seen = BTreeSet::new();
    for text in values.list(super::VOTERS) {
        match text.parse::<QuorumVoter>() {
            Ok(voter) if !seen.insert(voter.id) => {
                problems.add(
                    &[super::VOTERS],
                    format!("the voter {} occurs twice", voter.id),
                );
            }
            Ok(voter) => voters.push(voter),
            Err(()) => {
                problems.add(
                    &[super::VOTERS],
                    format!("{text}: not of the form id@host:port"),
                );
            }
        }
    }
    voters
}

/// Reads a list of `host:port`.
pub(super) fn addresses(
    values: &Values,
    key: &'static str,
    problems: &mut Problems,
) -> Vec<HostPort> {
    let mut addresses = Vec::new();
    for text in values.list(key) {
        match reachable(&text) {
            Some((host, port)) => addresses.push(HostPort { host, port }),
            None => problems.add(&[key], format!("{text}: not of the form host:port")),
        }
    }
    addresses
}

/// An address that one can connect to: it has a host and a port.
fn reachable(address: &str) -> Option<(String, u16)> {
    split_host(address).filter(|(host, port)| !host.is_empty() && *port != 0)
}

/// Reads one `host:port` to listen on; empty is none.
pub(super) fn bind_address(
    values: &Values,
    key: &'static str,
    problems: &mut Problems,
) -> Option<HostPort> {
    let text = values.text(key)?;
    match split_host(text) {
        Some((host, port)) => Some(HostPort { host, port }),
        None => {
            problems.add(&[key], format!("{text}: not of the form host:port"));
            None
        }
    }
}

/// Reads `address:count`, comma separated. Nothing here asks a name server, so a host name is refused.
pub(super) fn limits_per_address(
    values: &Values,
    key: &'static str,
    problems: &mut Problems,
) -> BTreeMap<IpAddr, u32> {
    let mut limits = BTreeMap::new();
    for text in values.list(key) {
        let limit = text.rsplit_once(':').and_then(|(address, count)| {
            let address: IpAddr = address.trim().trim_matches(['[', ']']).parse().ok()?;
            let count: i32 = count.trim().parse().ok()?;
            Some((address.to_canonical(), u32::try_from(count).ok()?))
        });
        match limit {
            Some((address, count)) => {
                limits.insert(address, count);
            }
            None => problems.add(
                &[key],
                format!("{text}: not of the form address:count, with an IP address"),
            ),
        }
    }
    limits
}
