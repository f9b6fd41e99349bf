//! The brokers of a contender while it is measured: started, killed or restarted, and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::broker::{Contender, START_TIMEOUT_MS};
use super::process::Process;
use crate::client::cluster::wait_for_brokers;
use crate::client::connection::Connection;
use crate::error::{LoadError, Result};
use crate::scenario::start::{first_answer, free_address};

/// Where a broker listens.
pub struct Node {
    pub id: usize,
    pub client: String,
    pub controller: String,
}

/// Brokers that answer.
pub struct Cluster<'a> {
    contender: &'a Contender,
    nodes: Vec<Node>,
    folders: Vec<PathBuf>,
    /// `None`: killed.
    processes: Vec<Option<Process>>,
    /// From the start of the processes until all have answered and know each other; formatting is not
    /// counted.
    pub start_ms: f64,
}

impl<'a> Cluster<'a> {
    /// Starts so many brokers in `folder`, which is empty.
    pub async fn start(contender: &'a Contender, brokers: usize, folder: &Path) -> Result<Self> {
        let nodes = (1..=brokers).map(|id| {
            Ok(Node {
                id,
                client: free_address()?.to_string(),
                controller: free_address()?.to_string(),
            })
        });
        let nodes = nodes.collect::<Result<Vec<Node>>>()?;
        let mut folders = Vec::new();
        for node in &nodes {
            let folder = folder.join(node.id.to_string());
            fs::create_dir_all(&folder).map_err(|cause| {
                LoadError::system(format!("cannot make {}", folder.display()), cause)
            })?;
            contender.prepare(&nodes, node, &folder).await?;
            folders.push(folder);
        }
        let begin = Instant::now();
        let processes: Result<Vec<_>> = folders
            .iter()
            .map(|folder| contender.spawn(folder).map(Some))
            .collect();
        let mut cluster = Cluster {
            contender,
            nodes,
            folders,
            processes: processes?,
            start_ms: 0.0,
        };
        cluster.wait_for_all(begin).await?;
        cluster.start_ms = begin.elapsed().as_secs_f64() * 1000.0;
        Ok(cluster)
    }

    async fn wait_for_all(&mut self, begin: Instant) -> Result<()> {
        let deadline = begin + Duration::from_millis(START_TIMEOUT_MS);
        for (node, process) in self.nodes.iter().zip(&mut self.processes) {
            if let Some(process) = process {
                first_answer(&node.client, process, deadline).await?;
            }
        }
        let mut connection = Connection::open(&self.nodes[0].client).await?;
        wait_for_brokers(&mut connection, self.nodes.len()).await
    }

    pub fn bootstrap(&self) -> &str {
        &self.nodes[0].client
    }

    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(Process::id).collect()
    }

    fn index_of(&self, address: &str) -> Result<usize> {
        let index = self.nodes.iter().position(|node| node.client == address);
        index.ok_or_else(|| LoadError::Usage(format!("{address} is none of the brokers started")))
    }

    /// SIGKILL for the broker that listens there.
    pub fn kill(&mut self, address: &str) -> Result<()> {
        let index = self.index_of(address)?;
        // A process dies when it is dropped.
        drop(self.processes[index].take());
        Ok(())
    }

    /// SIGTERM for the broker that listens there, and a new process once it has ended.
    pub async fn restart(&mut self, address: &str) -> Result<()> {
        let index = self.index_of(address)?;
        if let Some(process) = self.processes[index].take() {
            process.terminate().await?;
        }
        self.processes[index] = Some(self.contender.spawn(&self.folders[index])?);
        Ok(())
    }

    /// SIGTERM for all, together: who is left alone may have nobody to say goodbye to.
    pub async fn terminate(self) -> Result<()> {
        let mut ends = JoinSet::new();
        for process in self.processes.into_iter().flatten() {
            ends.spawn(process.terminate());
        }
        while let Some(ended) = ends.join_next().await {
            ended.map_err(|panic| LoadError::Usage(panic.to_string()))??;
        }
        Ok(())
    }
}
