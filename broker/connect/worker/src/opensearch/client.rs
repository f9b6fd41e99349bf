//! Requests to the nodes of a cluster: the next node takes over for one that does not answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use super::sigv4::Signer;

/// A node that did not answer is left out this long, doubled each time.
const AWAY_FIRST: Duration = Duration::from_millis(500);
const AWAY_LAST: Duration = Duration::from_secs(30);
/// Answers above this are not read: a bulk answer is some hundred bytes an item.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Time-outs double up to this, so that a slow server is not asked for ever in vain.
const READ_LAST: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// For a message: the error's type and reason, or the beginning of whatever came.
    pub fn reason(&self) -> String {
        const SHOWN: usize = 300;
        let parsed: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let error = &parsed["error"];
        let text = match (error["type"].as_str(), error["reason"].as_str()) {
            (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
            _ => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let shown: String = text.chars().take(SHOWN).collect();
        format!("status {} {shown}", self.status)
            .trim_end()
            .to_owned()
    }
}

/// No answer came. It may be that the request was carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {reason}")]
pub struct Unanswered {
    node: String,
    reason: String,
}

#[derive(Default)]
struct Health {
    failures: u32,
    away_until: Option<Instant>,
}

struct Node {
    url: Url,
    /// Without user and password, for messages.
    name: String,
    authorization: Option<HeaderValue>,
    health: Mutex<Health>,
}

/// How requests are made.
pub struct Connection {
    pub client: reqwest::Client,
    pub urls: Vec<Url>,
    pub authorization: Option<HeaderValue>,
    pub signer: Option<Signer>,
    pub gzip: bool,
    pub read_timeout: Duration,
}

pub struct Cluster {
    client: reqwest::Client,
    nodes: Vec<Node>,
    next: AtomicUsize,
    signer: Option<Signer>,
    gzip: bool,
    read_first: Duration,
    read_ms: AtomicU64,
}

impl Cluster {
    pub fn new(connection: Connection) -> Cluster {
        assert!(
            !connection.urls.is_empty(),
            "the configuration asks for one"
        );
        let nodes = connection.urls.into_iter().map(|mut url| {
            let given = user_of(&url);
            // Neither can fail on a URL with a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            Node {
                name: url.as_str().trim_end_matches('/').to_owned(),
                authorization: given.or_else(|| connection.authorization.clone()),
                url,
                health: Mutex::default(),
            }
        });
        Cluster {
            nodes: nodes.collect(),
            client: connection.client,
            // Tasks do not all begin with the same node.
            next: AtomicUsize::new(rand::random_range(0..1 << 16)),
            signer: connection.signer,
            gzip: connection.gzip,
            read_first: connection.read_timeout,
            read_ms: AtomicU64::new(connection.read_timeout.as_millis() as u64),
        }
    }

    /// The next node that is not away; if all are, the next one.
    fn node(&self) -> &Node {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let around = (0..self.nodes.len()).map(|i| &self.nodes[(start + i) % self.nodes.len()]);
        let mut around = around.peekable();
        let first = *around.peek().expect("there is a node");
        let here = |node: &&Node| {
            let health = node.health.lock().expect("no panic while it is held");
            health.away_until.is_none_or(|until| until <= now)
        };
        around.find(here).unwrap_or(first)
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Answer, Unanswered> {
        let node = self.node();
        let fail = |reason: String| Unanswered {
            node: node.name.clone(),
            reason,
        };
        let asked = self.ask(node, method, path, content_type, body).await;
        let mut health = node.health.lock().expect("no panic while it is held");
        match asked {
            Ok(answer) => {
                // A gateway speaks for a node that does not.
                if matches!(answer.status, 502..=504) {
                    health.leave();
                } else {
                    *health = Health::default();
                }
                Ok(answer)
            }
            Err(error) => {
                health.leave();
                if error.timed_out {
                    let longest = READ_LAST.max(self.read_first).as_millis() as u64;
                    let doubled = |ms: u64| Some((ms * 2).min(longest));
                    let order = Ordering::Relaxed;
                    let _ = self.read_ms.fetch_update(order, order, doubled);
                }
                Err(fail(error.reason))
            }
        }
    }

    async fn ask(
        &self,
        node: &Node,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Answer, Failed> {
        let base = node.url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}")).map_err(|e| Failed::of(&e))?;
        let timeout = Duration::from_millis(self.read_ms.load(Ordering::Relaxed));
        let (body, packed) = if self.gzip && !body.is_empty() {
            (gzip(&body), true)
        } else {
            (body, false)
        };
        let mut request = self.client.request(method, url).timeout(timeout);
        if !body.is_empty() {
            request = request
                .header(CONTENT_TYPE, content_type)
                .body(body.clone());
        }
        if packed {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(authorization) = &node.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut request = request.build().map_err(|e| Failed::of(&e))?;
        if let Some(signer) = &self.signer {
            signer.sign(&mut request, body).await.map_err(Failed::new)?;
        }
        let mut response = self.client.execute(request).await.map_err(Failed::http)?;
        let status = response.status().as_u16();
        let mut whole = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(Failed::http)? {
            if whole.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failed::new(format!(
                    "an answer of more than {ANSWER_BYTES_MAX} bytes"
                )));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            body: whole.freeze(),
        })
    }
}

impl Health {
    fn leave(&mut self) {
        let wait = AWAY_FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.away_until = Some(Instant::now() + wait.min(AWAY_LAST));
    }
}

struct Failed {
    reason: String,
    timed_out: bool,
}

impl Failed {
    fn new(reason: String) -> Failed {
        Failed {
            reason,
            timed_out: false,
        }
    }

    fn of(error: &dyn std::error::Error) -> Failed {
        Failed::new(crate::net::trace(error))
    }

    /// Without the URL, which is named already.
    fn http(error: reqwest::Error) -> Failed {
        let error = error.without_url();
        Failed {
            timed_out: error.is_timeout() && !error.is_connect(),
            reason: crate::net::trace(&error),
        }
    }
}

fn gzip(body: &[u8]) -> Bytes {
    use std::io::Write;
    let fast = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), fast);
    encoder.write_all(body).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all").into()
}

/// `http://user:password@host`
fn user_of(url: &Url) -> Option<HeaderValue> {
    let password = url.password()?;
    basic(&decoded(url.username())?, &decoded(password)?)
}

/// Text without percent signs' codes.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let code = [rest.next()?, rest.next()?];
        let code = std::str::from_utf8(&code).ok()?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

pub fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(urls: &[&str]) -> Cluster {
        Cluster::new(Connection {
            client: reqwest::Client::new(),
            urls: urls.iter().map(|u| Url::parse(u).unwrap()).collect(),
            authorization: None,
            signer: None,
            gzip: false,
            read_timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn a_node_that_fails_is_left_out_until_all_do() {
        let cluster = cluster(&["http://a:1", "http://b:1", "http://c:1"]);
        cluster.nodes[1].health.lock().unwrap().leave();
        let names: Vec<_> = (0..6).map(|_| cluster.node().name.clone()).collect();
        assert!(!names.contains(&"http://b:1".to_owned()), "{names:?}");
        assert!(
            names.contains(&"http://a:1".to_owned()) && names.contains(&"http://c:1".to_owned())
        );
        for node in &cluster.nodes {
            node.health.lock().unwrap().leave();
        }
        cluster.node();
    }

    #[test]
    fn a_users_name_in_a_url_is_sent_and_not_shown() {
        let cluster = cluster(&["http://u:p%40ss@a:1"]);
        assert_eq!(cluster.nodes[0].name, "http://a:1");
        let header = cluster.nodes[0].authorization.clone().unwrap();
        assert_eq!(header, "Basic dTpwQHNz");
        assert!(header.is_sensitive());
    }
}
