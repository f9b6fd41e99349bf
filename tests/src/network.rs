//! Hosts on one machine: a network namespace for each node, joined by a bridge in one more, and to the
//! clients, who stay where the test runs. Needs root.
//!
//! Cuts and losses are one nftables ruleset on the bridge, which sees where a packet comes from and where
//! it goes, so that one direction can be cut alone; ARP passes, so that the other direction lives. Not every
//! kernel has `tc netem`, so a slow link is one of little bandwidth (`tc tbf`), whose queue delays.

use std::fmt;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Clients,
    Node(i32),
}

/// What is wrong with the packets from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    pub from: End,
    pub to: End,
    pub lost_percent: u32,
}

/// 100 of 100 packets.
pub const CUT: u32 = 100;
/// Networks of other test processes beside this one.
const NETWORKS: u32 = 250;
/// The clients' own number in the network.
const CLIENTS: u8 = 254;
/// What a slow node is sent: a batch of 64 KB takes half a second.
const SLOW_RATE: &str = "1mbit";
const SLOW_BURST: &str = "32kb";
/// A packet that would wait longer is dropped.
const SLOW_LATENCY: &str = "500ms";

/// Whether this process may make networks.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

pub struct Network {
    /// Third byte of its addresses, and part of its names.
    number: u8,
    nodes: Vec<i32>,
}

impl fmt::Display for End {
    /// The name of its port of the bridge.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Clients => f.write_str("clients"),
            End::Node(id) => write!(f, "node{id}"),
        }
    }
}

impl Network {
    /// Why not, where this may not make one.
    pub fn make(nodes: &[i32]) -> Result<Network, String> {
        // Names say whose they are: what a process that is gone has left is removed.
        remove_leftovers()?;
        let start = std::process::id() % NETWORKS;
        let mut refused = String::new();
        for step in 0..NETWORKS {
            let number = ((start + step) % NETWORKS) as u8;
            // The link to the clients has a name that only one process can have.
            let host = host_port(number);
            match ip(&format!("link add {host} type veth peer name {host}c")) {
                Ok(()) => {
                    let nodes = nodes.to_vec();
                    let network = Network { number, nodes };
                    return network.connect().map(|()| network);
                }
                // Another process's, or there is no right to make one.
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn connect(&self) -> Result<(), String> {
        let (hub, host) = (self.hub(), host_port(self.number));
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add bridge type bridge"))?;
        ip(&format!("-n {hub} link set bridge up"))?;
        ip(&format!("link set {host}c netns {hub} name clients"))?;
        ip(&format!("addr add {}/24 dev {host}", self.clients()))?;
        ip(&format!("link set {host} up"))?;
        ip(&format!("-n {hub} link set clients master bridge up"))?;
        for id in &self.nodes {
            let (namespace, port) = (self.namespace(*id), End::Node(*id));
            let address = self.address(*id);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!(
                "-n {hub} link add {port} type veth peer name eth0 netns {namespace}"
            ))?;
            ip(&format!("-n {hub} link set {port} master bridge up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        self.set(&[])
    }

    pub fn nodes(&self) -> &[i32] {
        &self.nodes
    }

    /// Where a node is; any port of it is free.
    pub fn address(&self, id: i32) -> Ipv4Addr {
        self.address_of(u8::try_from(id).expect("a few nodes"))
    }

    /// The clients' address: a proxy of the test's listens there.
    pub fn clients(&self) -> Ipv4Addr {
        self.address_of(CLIENTS)
    }

    /// RFC 2544's block for benchmarks, which no route leads to.
    fn address_of(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, host)
    }

    /// The name of a node's namespace.
    pub fn namespace(&self, id: i32) -> String {
        format!("ottla{}-{}-{id}", self.number, std::process::id())
    }

    fn hub(&self) -> String {
        format!("ottla{}-{}-hub", self.number, std::process::id())
    }

    /// From now on these, and no others, are the links in trouble.
    pub fn set(&self, troubles: &[Trouble]) -> Result<(), String> {
        let rules: String = troubles.iter().map(rule).collect();
        // Declared first, so that deleting it cannot fail; applied as a whole.
        let ruleset = format!(
            "table bridge faults\ndelete table bridge faults\ntable bridge faults {{\nchain links {{\n\
             type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
        );
        self.in_hub("nft", &["-f", "-"], &ruleset)
    }

    /// Packets to the node go through a narrow pipe, or no longer.
    pub fn set_slow(&self, id: i32, slow: bool) -> Result<(), String> {
        let port = End::Node(id).to_string();
        if slow {
            let shape = format!(
                "qdisc replace dev {port} root tbf rate {SLOW_RATE} burst {SLOW_BURST} latency {SLOW_LATENCY}"
            );
            self.in_hub("tc", &shape.split(' ').collect::<Vec<_>>(), "")
        } else {
            let _was_not = self.in_hub("tc", &["qdisc", "del", "dev", &port, "root"], "");
            Ok(())
        }
    }

    fn in_hub(&self, program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
        let hub = self.hub();
        let whole = [&["netns", "exec", &hub, program], arguments].concat();
        run("ip", &whole, input)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let nodes = self.nodes.iter().map(|id| self.namespace(*id));
        for name in nodes.chain([self.hub()]) {
            let _ = run("ip", &["netns", "del", &name], "");
        }
        // Its other end is gone; the kernel takes a moment for this one.
        let _ = run("ip", &["link", "del", &host_port(self.number)], "");
    }
}

fn host_port(number: u8) -> String {
    format!("ottla{number}")
}

fn rule(trouble: &Trouble) -> String {
    let Trouble {
        from,
        to,
        lost_percent,
    } = trouble;
    let some = match *lost_percent {
        CUT.. => String::new(),
        some => format!("numgen random mod 100 < {some} "),
    };
    format!("ether type ip iifname \"{from}\" oifname \"{to}\" {some}drop\n")
}

/// Namespaces of processes that are gone: `ottla<number>-<process>-<node>`.
fn remove_leftovers() -> Result<(), String> {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map_err(|e| format!("ip: {e}"))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    for name in text.lines().filter_map(|line| line.split(' ').next()) {
        let mut parts = name.split('-');
        let (first, process) = (parts.next().unwrap_or_default(), parts.next());
        let number = first.strip_prefix("ottla");
        let is_ours = number.is_some_and(|n| n.parse::<u8>().is_ok());
        let lives = |process| std::path::Path::new("/proc").join::<&str>(process).exists();
        if is_ours && process.is_some_and(|process| !lives(process)) {
            // Another process may be about to do the same.
            let _ = run("ip", &["netns", "del", name], "");
        }
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>(), "")
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", what()))?;
    // What the program did not read, it complains of.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    let done = child
        .wait_with_output()
        .map_err(|e| format!("{}: {e}", what()))?;
    let errors = String::from_utf8_lossy(&done.stderr);
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", what(), errors.trim())),
    }
}
