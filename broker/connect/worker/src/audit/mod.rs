//! `ottla audit verify TARGET`: checks chains of manifests against the objects, without any broker.
//!
//! 1. Everything under the target is listed once: which manifests there are, and which objects.
//! 2. Each topic-partition's manifests are read in their order, each checked against the one before, and all
//!    bytes of the objects that they name are read, a few objects at a time ([`chain`]).
//! 3. Objects that no manifest names are looked for by listing once more, if there are any.
//!
//! Memory is 8 bytes per manifest, about 40 bytes per object, a few manifests that are read ahead, and a piece of
//! each object that is being read; nothing grows with the objects' bytes.

mod chain;
mod heads;
mod names;
mod report;
mod target;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ottla_connect::audit::{HmacKey, MANIFESTS, Verifier, parse_manifest_name};
use ottla_connect::config::Secret;

use crate::system::read_text;
use chain::Walk;
use heads::Heads;
use names::Names;
use report::Report;
use target::Target;

/// Shows how far a check is.
pub trait Meter: Send + Sync {
    /// So many bytes more are to be read.
    fn expect(&self, bytes: u64);
    fn read(&self, bytes: u64);
    /// Takes away what is shown.
    fn clear(&self);
}

/// What `ottla audit` does.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Check what a sink with `ottla.audit.enable=true` has delivered. Reads all of it, writes nothing.
    ///
    /// Checks that each topic-partition's manifests are an unbroken chain that accounts for every offset once, and
    /// that every object is there, byte for byte. Exit code 0: whole; 1: damage was found, and is listed; 2: it could
    /// not be checked.
    Verify(Verify),
}

#[derive(Args)]
pub struct Verify {
    /// The folder that has `_manifests` in it: `s3://BUCKET/TOPICS.DIR`, or a copy of it on this machine.
    target: String,
    #[command(flatten)]
    s3: S3Options,
    /// Manifests whose SHA-256 was kept: each must be there, and be the same.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// If all is whole, write the SHA-256 of each chain's last manifest, as sha256sum does. Keep it elsewhere.
    #[arg(long, value_name = "FILE")]
    write_heads: Option<PathBuf>,
    /// A key of `ottla.audit.key.id` and the file that has it; every manifest must be signed. May be given several times.
    #[arg(long = "key", value_name = "ID=FILE")]
    keys: Vec<String>,
}

/// How an `s3://` target is reached. Credentials come from the environment, as the sink's do: AWS_ACCESS_KEY_ID and
/// its like, a web identity token, a container's or an instance's role.
#[derive(Args)]
pub struct S3Options {
    /// Address of an S3-compatible store; Amazon's if not given.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket; AWS_REGION, or us-east-1, if not given.
    #[arg(long)]
    region: Option<String>,
    /// The bucket's name stands in the host and not in the path.
    #[arg(long)]
    virtual_hosted: bool,
}

/// Runs a command. What is found goes to the standard output.
pub fn run(command: AuditCommand, meter: Arc<dyn Meter>) -> ExitCode {
    let AuditCommand::Verify(options) = command;
    let checked = verify(&options, &meter);
    meter.clear();
    match checked {
        Err(message) => {
            eprintln!("ottla: {message}");
            ExitCode::from(2)
        }
        Ok(report) => {
            // A closed pipe (`| head`) is no error.
            let _ = std::io::stdout().write_all(report.text().as_bytes());
            ExitCode::from(u8::from(report.is_damaged()))
        }
    }
}

/// `Err`: it could not be checked; damage is in the report.
fn verify(options: &Verify, meter: &Arc<dyn Meter>) -> Result<Report, String> {
    let keys = Keys::read(&options.keys)?;
    let heads = match &options.heads {
        Some(file) => Heads::parse(&text_of(file)?).map_err(|e| named(file, &e))?,
        None => Heads::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no threads: {e}"))?;
    let target = Target::open(&options.target, &options.s3)?;
    let report = runtime.block_on(check(Arc::new(target), &keys, &heads, meter))?;
    if let Some(file) = &options.write_heads
        && !report.is_damaged()
    {
        let written = std::fs::write(file, report.heads().to_string());
        written.map_err(|e| named(file, &e))?;
    }
    Ok(report)
}

async fn check(
    target: Arc<Target>,
    keys: &Keys,
    heads: &Heads,
    meter: &Arc<dyn Meter>,
) -> Result<Report, String> {
    // Numbers of the manifests of each topic-partition.
    let mut chains: BTreeMap<(String, i32), Vec<u64>> = BTreeMap::new();
    let mut names = Names::default();
    let mut strange = Vec::new();
    let mut elsewhere = None;
    let mut bytes = 0u64;
    let list = |name: &str, size: u64| {
        bytes += size;
        if let Some((topic, partition, sequence)) = parse_manifest_name(name) {
            let chain = chains.entry((topic.to_owned(), partition));
            chain.or_default().push(sequence);
        } else if names::is_among_manifests(name) {
            strange.push(name.to_owned());
        } else {
            let below = name.split_once(&format!("/{MANIFESTS}/"));
            elsewhere = elsewhere
                .take()
                .or(below.map(|(folder, _)| folder.to_owned()));
            names.listed(name);
        }
    };
    target.list(list).await?;
    if chains.is_empty() && heads.is_empty() {
        let found = elsewhere.map_or(String::new(), |folder| format!(": {folder} in it has"));
        return Err(format!(
            "{target} is not the folder that has {MANIFESTS} in it{found}"
        ));
    }
    for (topic, partition) in heads.chains() {
        chains.entry((topic.to_owned(), partition)).or_default();
    }
    meter.expect(bytes);
    let mut report = Report::new(strange);
    let mut walk = Walk {
        target: target.clone(),
        keys: keys.verifier(),
        heads,
        names,
        meter: meter.clone(),
    };
    for ((topic, partition), mut sequences) in chains {
        sequences.sort_unstable();
        report.chain(walk.chain(topic, partition, &sequences).await?);
    }
    let names = walk.names;
    if names.unnamed() > 0 {
        let look = |name: &str, _| {
            if !names::is_among_manifests(name) && names.is_unnamed(name) {
                report.unnamed(name);
            }
        };
        target.list(look).await?;
    }
    Ok(report)
}

/// Keys of signatures. Without any, signatures are not looked at.
struct Keys(Vec<HmacKey>);

impl Keys {
    fn read(options: &[String]) -> Result<Keys, String> {
        let keys = options.iter().map(|option| {
            let parts = option.split_once('=');
            let (id, file) = parts.ok_or_else(|| format!("--key {option}: ID=FILE is needed"))?;
            let file = Path::new(file);
            let secret = Secret::new(text_of(file)?.trim_end());
            HmacKey::new(id, &secret).map_err(|e| named(file, &e))
        });
        keys.collect::<Result<_, _>>().map(Keys)
    }

    fn verifier(&self) -> Option<&dyn Verifier> {
        (!self.0.is_empty()).then_some(self)
    }
}

impl Verifier for Keys {
    fn verify(
        &self,
        algorithm: &str,
        key_id: &str,
        message: &[u8],
        signature: &str,
    ) -> Option<bool> {
        let answers = self.0.iter();
        answers
            .filter_map(|key| key.verify(algorithm, key_id, message, signature))
            .reduce(|a, b| a || b)
    }
}

fn text_of(file: &Path) -> Result<String, String> {
    read_text(file).map_err(|e| named(file, &e))
}

fn named(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

#[cfg(test)]
mod tests;
