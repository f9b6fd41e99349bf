//! Certificates and keys of connections.

use ottla_connect::config::Settings;
use ottla_connect::config::classes::Vendor;
use ottla_connect::error::ConnectError;
use reqwest::{Certificate, ClientBuilder, Identity};

/// Certificates and keys are some kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub fn configure(
    mut builder: ClientBuilder,
    vendor: Vendor,
    settings: &Settings,
) -> Result<ClientBuilder, ConnectError> {
    let of_confluent = vendor == Vendor::Confluent;
    if of_confluent
        && settings
            .required_text("elastic.security.protocol")
            .eq_ignore_ascii_case("PLAINTEXT")
    {
        return Ok(builder);
    }
    let prefix = if of_confluent {
        "elastic.https."
    } else {
        "connection."
    };
    let key = |name: &str| format!("{prefix}ssl.{name}");
    let pem = |text: &str, file: &str| -> Result<Option<String>, ConnectError> {
        match (settings.secret(&key(text)), settings.text(&key(file))) {
            (Some(_), Some(_)) => {
                let (text, file) = (key(text), key(file));
                Err(ConnectError::config(format!(
                    "{text} and {file} are both set"
                )))
            }
            (Some(text), None) => Ok(Some(text.reveal().to_owned())),
            (None, Some(path)) => read(&key(file), path).map(Some),
            (None, None) => Ok(None),
        }
    };
    if let Some(trusted) = pem("truststore.certificates", "truststore.location")? {
        let wrong = |e| ConnectError::config(format!("{}: {e}", key("truststore")));
        let certificates = Certificate::from_pem_bundle(trusted.as_bytes()).map_err(wrong)?;
        if certificates.is_empty() {
            let message = format!("{} has no certificate in PEM", key("truststore"));
            return Err(ConnectError::config(message));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(chain) = pem("keystore.certificate.chain", "keystore.location")? {
        // A file has both, the key in its own place.
        let own = settings.secret(&key("keystore.key"));
        let private = own.map_or(private_key(&chain), |s| s.reveal());
        let identity = Identity::from_pkcs8_pem(chain.as_bytes(), private.as_bytes());
        let wrong = |e| {
            let e = crate::net::trace(&e);
            ConnectError::config(format!(
                "{}, certificate and PKCS #8 key in PEM: {e}",
                key("keystore")
            ))
        };
        builder = builder.identity(identity.map_err(wrong)?);
    }
    let algorithm = key("endpoint.identification.algorithm");
    if settings.required_text(&algorithm).is_empty() {
        builder = builder.tls_danger_accept_invalid_hostnames(true);
    }
    if !of_confluent && settings.boolean("connection.trust.all.certificates") {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    Ok(builder)
}

/// The part of a file that is the key.
fn private_key(file: &str) -> &str {
    let start = file.find("-----BEGIN PRIVATE KEY").unwrap_or(0);
    const END: &str = "-----END PRIVATE KEY-----";
    let end = file[start..].find(END).map(|at| start + at + END.len());
    &file[start..end.unwrap_or(file.len())]
}

fn read(key: &str, path: &str) -> Result<String, ConnectError> {
    use std::io::Read;
    let wrong = |e: std::io::Error| ConnectError::config(format!("{key}: {path}: {e}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(wrong)?;
    Ok(text)
}
