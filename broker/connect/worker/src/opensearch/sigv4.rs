//! Requests signed for AWS ([Signature Version 4]).
//!
//! [Signature Version 4]: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html

use bytes::Bytes;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};

pub struct Signer {
    pub credentials: AwsCredentialProvider,
    pub service: String,
    pub region: String,
}

impl Signer {
    pub async fn sign(&self, request: &mut reqwest::Request, body: Bytes) -> Result<(), String> {
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|e| format!("AWS credentials: {e}"))?;
        let mut signed = HttpRequest::new(HttpRequestBody::from(body));
        *signed.method_mut() = request.method().clone();
        let uri = request.url().as_str().parse();
        *signed.uri_mut() =
            uri.map_err(|_| format!("{} cannot be signed", request.url().path()))?;
        *signed.headers_mut() = request.headers().clone();
        AwsAuthorizer::new(&credential, &self.service, &self.region)
            .try_authorize(&mut signed, None)
            .map_err(|e| format!("AWS signature: {e}"))?;
        *request.headers_mut() = std::mem::take(signed.headers_mut());
        Ok(())
    }
}
