//! Logs and metrics. Metrics are served at `/metrics` (Prometheus text), with `/health/live` and
//! `/health/ready`, on `ottla.metrics.listener`. Neither ever carries a payload or a secret.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use ottla_log::{RocksStore, Store, Trouble};
use ottla_proto::config::LogFormat;
use ottla_proto::limits::{
    ACCEPT_RETRY_MS, METRICS_CONNECTION_WAIT_MS, METRICS_CONNECTIONS, METRICS_HEADER_WAIT_MS,
    METRICS_REQUEST_BYTES,
};
use ottla_proto::memory::MemoryShares;
use ottla_raft::Groups;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

use crate::board::Board;

/// Logs to standard error; `RUST_LOG` chooses levels, `info` by default.
pub fn start_logs(format: LogFormat) {
    let standard = || EnvFilter::new("info,openraft=error");
    let (filter, malformed) = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(levels) => match EnvFilter::try_new(&levels) {
            Ok(filter) => (filter, None),
            Err(error) => (standard(), Some(format!("{levels}: {error}"))),
        },
        Err(std::env::VarError::NotPresent) => (standard(), None),
        Err(error) => (standard(), Some(error.to_string())),
    };
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if human {
        logs.with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .init();
    } else {
        logs.json().init();
    }
    if let Some(what) = malformed {
        tracing::warn!("RUST_LOG is not understood ({what}): the level is info");
    }
}

/// The counters without labels. docs/metrics.md says what each metric means.
const COUNTERS: &[&str] = &[
    "kafka_server_group_coordinator_metrics_group_completed_rebalance_total",
    "kafka_server_group_coordinator_metrics_offset_expiration_total",
    "kafka_server_socketservermetrics_responses_total",
    "ottla_connections_refused_total",
    "ottla_connections_slow_closed_total",
    "ottla_log_cleaner_dropped_records_total",
    "ottla_log_cleaner_passes_total",
    "ottla_log_cleaner_read_bytes_total",
    "ottla_log_cleaner_rewritten_bytes_total",
    "ottla_log_cleaner_unreadable_batches_total",
    "ottla_log_flush_micros_total",
    "ottla_log_flush_total",
    "ottla_log_reclaim_failed_passes_total",
    "ottla_log_reclaim_passes_total",
    "ottla_log_write_bytes_total",
    "ottla_producers_refused_total",
];

/// Gauges that something sets only once it has happened.
const GAUGES: &[&str] = &[
    "kafka_log_logcleaner_cleaner_recopy_percent",
    "kafka_log_logcleaner_max_buffer_utilization_percent",
    "kafka_log_logcleaner_max_clean_time_secs",
    "kafka_log_logcleanermanager_max_dirty_percent",
    "kafka_log_logcleanermanager_time_since_last_run_ms",
    "kafka_log_logcleanermanager_uncleanable_bytes",
    "kafka_log_logcleanermanager_uncleanable_partitions_count",
    "ottla_clock_skew_ms",
    "ottla_disk_free_bytes",
    "ottla_disk_full",
];

/// What the metrics endpoint can tell.
pub struct Telemetry {
    handle: PrometheusHandle,
    ready: AtomicBool,
    /// Once there are topics.
    board: OnceLock<Board>,
}

/// Sizes that are looked up when somebody asks.
pub struct Sources {
    pub store: Arc<RocksStore>,
    pub groups: Arc<Groups>,
    pub memory: MemoryShares,
}

impl Telemetry {
    /// Installs the process-wide recorder.
    pub fn install() -> Result<Arc<Telemetry>, String> {
        let handle = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|e| e.to_string())?;
        // So that a scrape has them before the first event.
        for counter in COUNTERS {
            metrics::counter!(*counter).increment(0);
        }
        for gauge in GAUGES {
            metrics::gauge!(*gauge).set(0.0);
        }
        for kind in ottla_log::FAILURE_KINDS {
            metrics::counter!("ottla_storage_failures_total", "kind" => kind).increment(0);
        }
        Ok(Arc::new(Telemetry {
            handle,
            ready: AtomicBool::new(false),
            board: OnceLock::new(),
        }))
    }

    /// To be called once.
    pub fn set_board(&self, board: Board) {
        assert!(self.board.set(board).is_ok(), "there is one board");
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Serves the endpoint for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, sources: Arc<Sources>) {
        let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                continue;
            };
            let (telemetry, sources) = (self.clone(), sources.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = telemetry.answer(&request, &sources);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_millis(METRICS_HEADER_WAIT_MS))
                    .max_buf_size(METRICS_REQUEST_BYTES)
                    .keep_alive(false);
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let wait = Duration::from_millis(METRICS_CONNECTION_WAIT_MS);
                let _ = tokio::time::timeout(wait, connection).await;
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
        let ready = self.ready.load(Ordering::Acquire);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let text = |status, text: &str| (status, text.to_owned());
        let (status, body) = match request.uri().path() {
            "/metrics" | "/health/live" | "/health/ready" if !is_read => {
                text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n")
            }
            "/metrics" => (StatusCode::OK, self.render(sources)),
            "/health/live" => text(StatusCode::OK, "live\n"),
            "/health/ready" if ready => readiness(sources.store.trouble(), self.replicas_behind()),
            "/health/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "GET /metrics, /health/live or /health/ready\n",
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        headers.insert(CONTENT_TYPE, kind);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    fn replicas_behind(&self) -> usize {
        self.board.get().map_or(0, Board::replicas_behind)
    }

    fn render(&self, sources: &Sources) -> String {
        let failed = matches!(sources.store.trouble(), Some(Trouble::Failed(_)));
        metrics::gauge!("kafka_log_logmanager_offlinelogdirectorycount")
            .set(f64::from(u8::from(failed)));
        let stats = sources.store.stats();
        metrics::gauge!("ottla_memory_budget_bytes").set(sources.memory.budget_bytes as f64);
        metrics::gauge!("ottla_log_disk_bytes").set(stats.disk_bytes as f64);
        metrics::gauge!("ottla_log_memtable_bytes").set(stats.memtable_bytes as f64);
        metrics::gauge!("ottla_log_block_cache_bytes").set(stats.block_cache_bytes as f64);
        metrics::gauge!("ottla_producer_bytes").set(sources.groups.producer_bytes() as f64);
        metrics::gauge!("ottla_tail_cache_bytes").set(sources.groups.tail_cache_bytes() as f64);
        let mut text = self.handle.render();
        if let Some(board) = self.board.get() {
            board.write(&mut text);
        }
        text
    }
}

/// A full disk is no reason to send clients elsewhere: all but new records is served.
/// A replica that has not caught up is: whoever stops brokers one after another waits for it.
fn readiness(trouble: Option<Trouble>, replicas_behind: usize) -> (StatusCode, String) {
    match trouble {
        None | Some(Trouble::DiskFull) if replicas_behind > 0 => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not in sync: replicas in {replicas_behind} groups have not caught up\n"),
        ),
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(Trouble::DiskFull) => (
            StatusCode::OK,
            "ready, but the disk is full: new records are refused\n".to_owned(),
        ),
        Some(Trouble::Failed(reason)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("storage takes no writes until a restart: {reason}\n"),
        ),
    }
}

/// Binds the endpoint's port.
pub async fn bind(host: &str, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((host, port)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
