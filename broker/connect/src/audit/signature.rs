//! Who vouches for a manifest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// Signs manifests. A key that others can check without being able to sign is another implementation.
pub trait Signer {
    /// Named in the manifest, with the key.
    fn algorithm(&self) -> &'static str;
    fn key_id(&self) -> &str;
    /// The signature of these bytes, as text.
    fn sign(&self, message: &[u8]) -> String;
}

/// Checks signatures of the keys it knows.
pub trait Verifier {
    /// Whether the signature is of these bytes; `None` if the algorithm or the key is not known.
    fn verify(
        &self,
        algorithm: &str,
        key_id: &str,
        message: &[u8],
        signature: &str,
    ) -> Option<bool>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit key must have at least 32 bytes")]
pub struct KeyError;

/// HMAC-SHA256 with one secret key: whoever verifies could have signed.
pub struct HmacKey {
    id: String,
    key: Hmac<Sha256>,
}

const HMAC_SHA256: &str = "hmac-sha256";

impl HmacKey {
    pub fn new(id: impl Into<String>, secret: &Secret) -> Result<HmacKey, KeyError> {
        let secret = secret.reveal().as_bytes();
        if secret.len() < 32 {
            return Err(KeyError);
        }
        Ok(HmacKey {
            id: id.into(),
            key: Hmac::new_from_slice(secret).map_err(|_| KeyError)?,
        })
    }
}

impl Signer for HmacKey {
    fn algorithm(&self) -> &'static str {
        HMAC_SHA256
    }

    fn key_id(&self) -> &str {
        &self.id
    }

    fn sign(&self, message: &[u8]) -> String {
        let mut mac = self.key.clone();
        mac.update(message);
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl Verifier for HmacKey {
    fn verify(
        &self,
        algorithm: &str,
        key_id: &str,
        message: &[u8],
        signature: &str,
    ) -> Option<bool> {
        if algorithm != HMAC_SHA256 || key_id != self.id {
            return None;
        }
        let mut mac = self.key.clone();
        mac.update(message);
        let signature = STANDARD.decode(signature).unwrap_or_default();
        Some(mac.verify_slice(&signature).is_ok())
    }
}
