//! Logs and metrics. Metrics are served at `/metrics` (Prometheus text), with `/health/live` and
//! `/health/ready`, on `ottla.metrics.listener`. Neither ever carries a payload or a secret.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use ottla_log::{RocksStore, Store, Trouble};
use ottla_proto::config::LogFormat;
use ottla_proto::limits::{METRICS_CONNECTIONS, METRICS_HEADER_WAIT_MS};
use ottla_proto::memory::MemoryShares;
use ottla_raft::Groups;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

/// Logs to standard error; `RUST_LOG` chooses levels, `info` by default.
pub fn start_logs(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=warn"));
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
}

/// What the metrics endpoint can tell.
pub struct Telemetry {
    handle: PrometheusHandle,
    ready: AtomicBool,
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
        Ok(Arc::new(Telemetry {
            handle,
            ready: AtomicBool::new(false),
        }))
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
                tokio::time::sleep(Duration::from_millis(100)).await;
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
                    .keep_alive(false);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
        let ready = self.ready.load(Ordering::Acquire);
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => (StatusCode::OK, self.render(sources)),
            (&Method::GET, "/health/live") => (StatusCode::OK, "live\n".to_owned()),
            (&Method::GET, "/health/ready") if ready => readiness(sources.store.trouble()),
            (&Method::GET, "/health/ready") => (
                StatusCode::SERVICE_UNAVAILABLE,
                "starting or stopping\n".to_owned(),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                "GET /metrics, /health/live or /health/ready\n".to_owned(),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let kind =
            hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response
            .headers_mut()
            .insert(hyper::header::CONTENT_TYPE, kind);
        response
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
        metrics::gauge!("ottla_tail_cache_bytes").set(sources.groups.tail_cache_bytes() as f64);
        self.handle.render()
    }
}

/// A full disk is no reason to send clients elsewhere: all but new records is served.
fn readiness(trouble: Option<Trouble>) -> (StatusCode, String) {
    match trouble {
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
