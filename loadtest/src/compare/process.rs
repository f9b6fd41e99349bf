//! A broker's process: started in a group of its own (so that Ctrl-C reaches the harness first), and
//! ended by its id.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{LoadError, Result};

/// Processes that run now, for an end without destructors.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills what this harness has started, before it exits at once.
pub fn kill_all() {
    let ids: Vec<String> = running().iter().map(u32::to_string).collect();
    if !ids.is_empty() {
        let _ = Command::new("kill").arg("-KILL").args(ids).status();
    }
}

const TERMINATE_TIMEOUT_MS: u64 = 60_000;

pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program with arguments; its output goes to `log`, or nowhere.
    pub fn spawn(
        command: &[String],
        log: Option<&Path>,
        environment: &[(&str, String)],
    ) -> Result<Process> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| LoadError::Usage("no command to start was given".into()))?;
        let failed = |cause| LoadError::system(format!("cannot start {program}"), cause);
        let output = || match log {
            None => Ok(Stdio::null()),
            Some(path) => File::options()
                .create(true)
                .append(true)
                .open(path)
                .map(Stdio::from),
        };
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(output().map_err(failed)?)
            .stderr(output().map_err(failed)?)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        running().insert(child.id());
        Ok(Process {
            name: program.clone(),
            child,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let failed = |cause| LoadError::system(format!("cannot wait for {}", self.name), cause);
        let status = self.child.try_wait().map_err(failed)?;
        if status.is_some() {
            running().remove(&self.child.id());
        }
        Ok(status)
    }

    /// An error once the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => Err(LoadError::Usage(format!(
                "{} has ended: {status}; see its output",
                self.name
            ))),
        }
    }

    /// SIGTERM, and a wait for the end.
    pub async fn terminate(mut self) -> Result<()> {
        let failed = |cause| LoadError::system("cannot send SIGTERM", cause);
        let id = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .map_err(failed)?;
        let deadline = Instant::now() + Duration::from_millis(TERMINATE_TIMEOUT_MS);
        while self.check_alive().is_ok() {
            if Instant::now() > deadline {
                let what = format!("{} does not end after SIGTERM", self.name);
                return Err(LoadError::Timeout(what));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Never leaves a process behind.
impl Drop for Process {
    fn drop(&mut self) {
        running().remove(&self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn starts_and_ends() {
        let mut process = Process::spawn(&["sleep".into(), "60".into()], None, &[]).unwrap();
        process.check_alive().unwrap();
        let id = process.id();
        process.terminate().await.unwrap();
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[tokio::test]
    async fn says_what_could_not_start_or_has_ended() {
        let error = Process::spawn(&["/no/such/program".into()], None, &[])
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
        let mut process = Process::spawn(&["false".into()], None, &[]).unwrap();
        let error = loop {
            match process.check_alive() {
                Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("false has ended"), "{error}");
    }
}
