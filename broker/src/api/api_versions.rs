//! ApiVersions v0 to v4 (KIP-35, KIP-511, KIP-584): what is served, from the API table. The response
//! header is always version 0, so that any client can read it; an unsupported version is answered in
//! a v0 body.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::metadata::{Image, SUPPORTED_FEATURES};

use super::{APIS, Malformed, Pending, Reply, RequestContext};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = named(&request.client_software_name) && named(&request.client_software_version);
    match named || context.version < 3 {
        true => response(context.version, &services.metadata.current()),
        false => refused(ResponseError::InvalidRequest),
    }
}

fn refused(error: ResponseError) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(error.code())
}

fn response(version: i16, image: &Image) -> ApiVersionsResponse {
    let response = ApiVersionsResponse::default().with_api_keys(api_keys());
    if version < 3 {
        return response;
    }
    let supported = SUPPORTED_FEATURES.iter().map(|f| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(f.name))
            // Versions before 4 have no way to tell a minimum of 0 (KIP-1022).
            .with_min_version(if version < 4 {
                f.min_level.max(1)
            } else {
                f.min_level
            })
            .with_max_version(f.max_level)
    });
    let finalized = image.features().map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.to_string()))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    response
        .with_supported_features(supported.filter(|f| f.max_version > 0).collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(image.applied_offset())
}

fn api_keys() -> Vec<ApiVersion> {
    let key = |api: &super::Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.advertised.0)
            .with_max_version(api.advertised.1)
    };
    APIS.iter().map(key).collect()
}

/// KIP-511's pattern for a client's software name and version.
fn named(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner)
}

/// A version that is not served: error 35 with what is, for ApiVersions; for others the connection
/// closes, as Kafka's does.
pub(super) fn unsupported(
    _services: &Arc<Services>,
    context: RequestContext,
) -> Result<Pending, Malformed> {
    if context.api.key != ApiKey::ApiVersions {
        return Err(Malformed::Version {
            api: context.api.name,
            version: context.version,
        });
    }
    let response = refused(ResponseError::UnsupportedVersion).with_api_keys(api_keys());
    let reply = Reply::encode_as(&context, &response, 0)?;
    Ok(Pending::holding(context.api, async move { Ok(reply) }))
}

#[cfg(test)]
pub(super) mod tests {
    use ottla_proto::metadata::{MetadataRecord, records, restore};
    use proptest::prelude::*;

    use super::super::responses::{error, list, text};
    use super::*;

    fn image() -> impl Strategy<Value = Arc<Image>> {
        let feature = (text(), 0..=i16::MAX).prop_map(|(name, level)| {
            MetadataRecord::Feature(records::Feature {
                name,
                level: level.into(),
            })
        });
        (0i64.., list(feature)).prop_map(|(offset, records)| restore(offset, &records).unwrap())
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<ApiVersionsResponse> {
        prop_oneof![
            image().prop_map(move |image| response(version, &image)),
            error().prop_map(refused),
        ]
        .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: ApiVersionsResponse) -> ApiVersionsResponse {
        response
    }
}
