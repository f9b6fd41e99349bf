//! Real Apache Kafka: its jars come from Maven once and stay in the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{LoadError, Result};

pub const KAFKA_VERSION: &str = "4.3.0";
const POM: &str = include_str!("../../compare/pom.xml");

/// `OTTLA_TEST_CACHE`, or `.cache/ottla` in the home folder.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("OTTLA_TEST_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME")
        .ok_or_else(|| LoadError::Usage("set OTTLA_TEST_CACHE or HOME".to_string()))?;
    Ok(Path::new(&home).join(".cache/ottla"))
}

/// The class path of Kafka's jars, fetched if they are not there yet.
pub async fn class_path() -> Result<String> {
    let folder = cache_dir()?.join("kafka");
    let complete = folder.join(KAFKA_VERSION);
    if !complete.is_dir() {
        let target = complete.clone();
        let fetched = tokio::task::spawn_blocking(move || fetch(&folder, &target)).await;
        fetched.map_err(|panic| LoadError::Usage(panic.to_string()))??;
    }
    Ok(format!("{}/*", complete.display()))
}

/// Fetches beside the target and renames, so that what is there is whole.
fn fetch(folder: &Path, target: &Path) -> Result<()> {
    eprintln!(
        "fetching Apache Kafka {KAFKA_VERSION} into {}",
        target.display()
    );
    let partial = folder.join(format!("{KAFKA_VERSION}.partial-{}", std::process::id()));
    let failed = |cause| LoadError::system(format!("cannot write {}", partial.display()), cause);
    fs::create_dir_all(&partial).map_err(failed)?;
    let pom = partial.join("pom.xml");
    fs::write(&pom, POM).map_err(failed)?;
    let status = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ])
        .arg("-f")
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .status()
        .map_err(|cause| LoadError::system("cannot start mvn (install maven)", cause))?;
    if !status.success() {
        return Err(LoadError::Usage(format!(
            "mvn could not fetch Kafka: {status}"
        )));
    }
    fs::rename(&partial, target)
        .or_else(|cause| {
            // Another process was faster: its folder is as good.
            if target.is_dir() {
                fs::remove_dir_all(&partial)
            } else {
                Err(cause)
            }
        })
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_the_version() {
        assert!(POM.contains(&format!("<version>{KAFKA_VERSION}</version>")));
    }
}
