//! Whether the brokers compact topics: for sinks that account for every record.

use std::time::Duration;

use ottla_connect::error::ConnectError;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;

const ASK_WAIT: Duration = Duration::from_secs(30);

/// An error if one of these topics is compacted. Brokers that do not say are only warned about: they may not allow
/// the question.
pub fn refuse(admin: &ClientConfig, runtime: &Handle, topics: &[&str]) -> Result<(), ConnectError> {
    let policies = match policies(admin, runtime, topics) {
        Ok(policies) => policies,
        Err(error) => {
            tracing::warn!(
                "whether {} are compacted is not known: {error}",
                topics.join(", ")
            );
            return Ok(());
        }
    };
    for (topic, policy) in topics.iter().zip(policies) {
        match policy {
            Ok(policy) if policy.split(',').any(|p| p.trim() == "compact") => {
                return Err(ConnectError::config(format!(
                    "topic {topic} has cleanup.policy={policy}: with ottla.audit.enable every record is accounted \
                     for, and compaction takes records away before that. Only topics with delete can be audited"
                )));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("whether {topic} is compacted is not known: {error}"),
        }
    }
    Ok(())
}

/// Values of `cleanup.policy`, in the order of the topics.
fn policies(
    admin: &ClientConfig,
    runtime: &Handle,
    topics: &[&str],
) -> Result<Vec<Result<String, String>>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = admin.create()?;
    let asked: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK_WAIT));
    let answers = runtime.block_on(admin.describe_configs(&asked, &options))?;
    let policies = answers.into_iter().map(|answer| {
        let resource = answer.map_err(|code| code.to_string())?;
        let policy = resource.get("cleanup.policy");
        let policy = policy.and_then(|entry| entry.value.clone());
        policy.ok_or_else(|| "it has no cleanup.policy".to_owned())
    });
    Ok(policies.collect())
}
