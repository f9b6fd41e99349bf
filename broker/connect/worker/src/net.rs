//! Which hosts a connector may talk to.
//!
//! A connector's file names endpoints, and whoever may write such a file must not reach cloud metadata
//! through the worker. Names are checked when they are resolved, at every connection, so that neither a
//! redirect nor a name that changes its address gets around it. Redirects are not followed at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// `ottla.connect.allow.link.local` and `ottla.connect.allowed.hosts`.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    pub allow_link_local: bool,
    /// Any if empty.
    pub allowed_hosts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} is no http:// or https:// address")]
    Address(String),
    #[error("{0} is not in ottla.connect.allowed.hosts")]
    Host(String),
    #[error(
        "{0} is link-local, where clouds keep their metadata: refused unless ottla.connect.allow.link.local=true"
    )]
    LinkLocal(String),
}

impl Guard {
    /// Checks an endpoint as it is written.
    pub fn check(&self, address: &str) -> Result<Url, Refused> {
        let bad = || Refused::Address(address.to_owned());
        let url = Url::parse(address).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let host = url.host_str().ok_or_else(bad)?;
        self.check_host(host)?;
        let literal = host
            .trim_matches(|c| c == '[' || c == ']')
            .parse::<IpAddr>();
        if let Ok(ip) = literal {
            self.check_address(host, ip)?;
        }
        Ok(url)
    }

    fn check_host(&self, host: &str) -> Result<(), Refused> {
        let allowed = |name: &String| name.eq_ignore_ascii_case(host);
        if self.allowed_hosts.is_empty() || self.allowed_hosts.iter().any(allowed) {
            return Ok(());
        }
        Err(Refused::Host(host.to_owned()))
    }

    fn check_address(&self, host: &str, ip: IpAddr) -> Result<(), Refused> {
        if self.allow_link_local || !is_link_local(ip) {
            return Ok(());
        }
        Err(Refused::LinkLocal(host.to_owned()))
    }

    /// Makes clients whose every connection is checked.
    pub fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver(self.clone())))
    }
}

/// 169.254.0.0/16, fe80::/10, and the address of AWS's metadata service over IPv6; also where they are
/// written as IPv4 in IPv6.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().or_else(|| v6.to_ipv4());
            v6.is_unicast_link_local()
                || v6.segments()[..3] == [0xfd00, 0x0ec2, 0]
                || mapped.is_some_and(|v4| v4.is_link_local())
        }
    }
}

struct GuardedResolver(Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            guard.check_host(&host)?;
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            for address in &found {
                guard.check_address(&host, address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Gives object_store the guarded client.
#[derive(Debug)]
pub struct GuardedConnector(pub Guard);

impl HttpConnector for GuardedConnector {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.0.builder().connect_timeout(Duration::from_secs(5));
        client
            .timeout(Duration::from_secs(60))
            .build()
            .map(HttpClient::new)
            .map_err(|e| object_store::Error::Generic {
                store: "S3",
                source: Box::new(e),
            })
    }
}

/// An error and its causes, each once.
pub fn trace(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// What stands in a path for itself.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A name as a part of a path.
pub fn path_part(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_is_refused_however_it_is_written() {
        let guard = Guard::default();
        for address in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]:80/",
            "http://[::ffff:169.254.169.254]/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://[fd00:ec2::254]/",
        ] {
            let refused = guard.check(address).unwrap_err();
            assert!(
                matches!(refused, Refused::LinkLocal(_)),
                "{address}: {refused}"
            );
        }
        assert!(guard.check("ftp://a/").is_err());
        assert!(guard.check("http://127.0.0.1:9200").is_ok());
        let open = Guard {
            allow_link_local: true,
            ..Guard::default()
        };
        assert!(open.check("http://169.254.169.254/").is_ok());
    }

    #[test]
    fn only_named_hosts_where_some_are_named() {
        let guard = Guard {
            allow_link_local: false,
            allowed_hosts: vec!["s3.example.com".into()],
        };
        assert!(guard.check("https://S3.example.com/x").is_ok());
        let refused = guard.check("https://s3.example.com.evil.org").unwrap_err();
        assert!(matches!(refused, Refused::Host(_)));
    }
}
