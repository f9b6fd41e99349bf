//! Kafka Connect's REST API: its paths, answers and statuses.

mod forward;

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State as Held};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use ottla_connect::cluster::configs::Target;
use ottla_connect::config::classes::{CONNECTORS, PluginKind, SinkKind};
use ottla_connect::config::files::{self, InitialState};
use ottla_connect::config::{Props, tables::connector};
use ottla_connect::transform::{PREDICATES, TRANSFORMS};
use serde_json::{Value, json};

use crate::groups;
use crate::herder::{Herder, Info, Restart, TaskInfo};
use crate::metrics;
use crate::worker::WorkerError;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = files::MAX_FILE_BYTES;

type Answer = Result<Response, RestError>;
type Arguments = Query<std::collections::HashMap<String, String>>;

/// As Kafka Connect says what is wrong.
pub struct RestError {
    status: StatusCode,
    message: String,
}

impl RestError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> RestError {
        RestError {
            status,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> RestError {
        RestError::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let body = json!({"error_code": self.status.as_u16(), "message": self.message});
        (self.status, Json(body)).into_response()
    }
}

impl From<WorkerError> for RestError {
    fn from(error: WorkerError) -> RestError {
        let status = match &error {
            WorkerError::NotFound(_) | WorkerError::NoTask(..) => StatusCode::NOT_FOUND,
            WorkerError::Exists(_) | WorkerError::Rebalancing(_) => StatusCode::CONFLICT,
            WorkerError::Config(_) | WorkerError::NotStopped(_) => StatusCode::BAD_REQUEST,
            WorkerError::Client(_) | WorkerError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = match &error {
            WorkerError::Config(problems) => format!(
                "Connector configuration is invalid and contains the following {} error(s):\n{error}\n\
                 You can also find the above list of errors at the endpoint \
                 `/connector-plugins/{{connectorType}}/config/validate`",
                problems.len()
            ),
            _ => error.to_string(),
        };
        RestError { status, message }
    }
}

#[derive(Clone)]
pub struct Api {
    pub(super) herder: Arc<dyn Herder>,
}

pub fn router(herder: Arc<dyn Herder>) -> Router {
    let api = Api { herder };
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/metrics", get(exposition))
        .route("/connectors", get(list).post(create))
        .route("/connectors/{name}", get(one).delete(remove))
        .route(
            "/connectors/{name}/config",
            get(config).put(put_config).patch(patch_config),
        )
        .route("/connectors/{name}/status", get(status))
        .route("/connectors/{name}/tasks", get(tasks))
        .route("/connectors/{name}/tasks/{task}/status", get(task_status))
        .route(
            "/connectors/{name}/tasks/{task}/restart",
            post(restart_task),
        )
        .route("/connectors/{name}/restart", post(restart))
        .route("/connectors/{name}/pause", put(pause))
        .route("/connectors/{name}/resume", put(resume))
        .route("/connectors/{name}/stop", put(stop))
        .route(
            "/connectors/{name}/offsets",
            get(offsets).patch(not_built).delete(not_built),
        )
        .route("/connectors/{name}/lag", get(lag))
        .route("/connectors/{name}/topics", get(topics))
        .route("/connector-plugins", get(plugins))
        .route("/connector-plugins/{class}/config/validate", put(validate))
        .route("/admin/loggers", get(not_built))
        .fallback(|| async {
            RestError {
                status: StatusCode::NOT_FOUND,
                message: "HTTP 404 Not Found".into(),
            }
        })
        .layer(middleware::from_fn_with_state(
            api.clone(),
            forward::to_whom_it_concerns,
        ))
        .layer(middleware::from_fn(same_origin))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

/// A page of another site that a browser shows must not start connectors.
async fn same_origin(request: Request, next: Next) -> Response {
    let writes = !request.method().is_safe();
    if writes && request.headers().contains_key(header::ORIGIN) {
        let message = "requests of web pages are refused".into();
        return RestError {
            status: StatusCode::FORBIDDEN,
            message,
        }
        .into_response();
    }
    next.run(request).await
}

/// Work that waits for threads or brokers does not hold up the others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestError> + Send + 'static,
) -> Result<T, RestError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| {
        Err(RestError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: e.to_string(),
        })
    })
}

async fn root(Held(api): Held<Api>) -> Answer {
    let cluster = blocking(move || Ok(groups::cluster_id(api.herder.worker().props()))).await?;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": "unknown",
        "kafka_cluster_id": cluster,
    });
    Ok(Json(body).into_response())
}

async fn health() -> Answer {
    let body = json!({"status": "healthy", "message": "Worker has completed startup and is ready to handle requests."});
    Ok(Json(body).into_response())
}

async fn exposition(Held(api): Held<Api>) -> Answer {
    let text = blocking(move || {
        let names = api.herder.names().into_iter();
        // One that is removed meanwhile is left out.
        let connectors = names.filter_map(|name| api.herder.info(&name).ok());
        Ok(metrics::text(&connectors.collect::<Vec<_>>()))
    });
    let text = text.await?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn list(
    Held(api): Held<Api>,
    Query(query): Arguments,
    raw: axum::extract::RawQuery,
) -> Answer {
    let names = api.herder.names();
    if !query.contains_key("expand") {
        return Ok(Json(names).into_response());
    }
    // `expand` may be there twice.
    let raw = raw.0.unwrap_or_default();
    let wants = |what: &str| raw.split('&').any(|p| p == format!("expand={what}"));
    let mut all = serde_json::Map::new();
    for name in names {
        let Ok(info) = api.herder.info(&name) else {
            continue;
        };
        let mut entry = serde_json::Map::new();
        if wants("info") {
            entry.insert("info".into(), info_json(&info));
        }
        if wants("status") {
            entry.insert("status".into(), status_json(&info));
        }
        all.insert(name, entry.into());
    }
    Ok(Json(all).into_response())
}

fn config_json(config: &Props) -> Value {
    let entries = config
        .iter()
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())));
    Value::Object(entries.collect())
}

fn info_json(info: &Info) -> Value {
    let tasks = info.tasks.iter();
    let tasks = tasks.map(|task| json!({"connector": info.name, "task": task.id}));
    json!({
        "name": info.name,
        "config": config_json(&info.config),
        "tasks": tasks.collect::<Vec<_>>(),
        "type": "sink",
    })
}

fn status_json(info: &Info) -> Value {
    json!({
        "name": info.name,
        "connector": {
            "state": info.state,
            "worker_id": info.worker_id,
            "version": env!("CARGO_PKG_VERSION"),
        },
        "tasks": info.tasks.iter().map(task_json).collect::<Vec<_>>(),
        "type": "sink",
    })
}

fn task_json(task: &TaskInfo) -> Value {
    let mut body = json!({
        "id": task.id,
        "state": task.state,
        "worker_id": task.worker_id,
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(trace) = &task.trace {
        body["trace"] = json!(trace);
    }
    body
}

fn flat(body: &[u8]) -> Result<Value, RestError> {
    serde_json::from_slice(body).map_err(|e| RestError::bad(format!("not JSON: {e}")))
}

async fn create(Held(api): Held<Api>, body: axum::body::Bytes) -> Answer {
    blocking(move || {
        let text = String::from_utf8_lossy(&body);
        let file = files::parse("request", &text).map_err(|e| RestError::bad(e.to_string()))?;
        let (name, state) = (file.name.clone(), Some(file.initial_state));
        api.herder.put(&name, file.config, state, false)?;
        let info = api.herder.info(&name)?;
        let place = [(header::LOCATION, format!("/connectors/{name}"))];
        Ok((StatusCode::CREATED, place, Json(info_json(&info))).into_response())
    })
    .await
}

fn props(name: &str, body: &[u8]) -> Result<Props, RestError> {
    let Value::Object(mut map) = flat(body)? else {
        return Err(RestError::bad("the body must be an object"));
    };
    map.entry("name").or_insert_with(|| json!(name));
    let text = Value::Object(map).to_string();
    let file = files::parse("request", &text).map_err(|e| RestError::bad(e.to_string()))?;
    if file.name != name {
        return Err(RestError::bad(format!(
            "Connector name configuration ({}) doesn't match connector name in the URL ({name})",
            file.name
        )));
    }
    Ok(file.config)
}

async fn put_config(
    Held(api): Held<Api>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    blocking(move || {
        let new = api
            .herder
            .put(&name, props(&name, &body)?, None::<InitialState>, true)?;
        let status = if new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Ok((status, Json(info_json(&api.herder.info(&name)?))).into_response())
    })
    .await
}

/// KIP-477: what is null goes, the rest is put over what is there.
async fn patch_config(
    Held(api): Held<Api>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    blocking(move || {
        let mut config = api.herder.info(&name)?.config;
        let Value::Object(map) = flat(&body)? else {
            return Err(RestError::bad("the body must be an object"));
        };
        for (key, value) in &map {
            if value.is_null() {
                config.shift_remove(key);
            }
        }
        let patch = props(&name, &body)?;
        config.extend(patch);
        api.herder.put(&name, config, None, true)?;
        Ok(Json(info_json(&api.herder.info(&name)?)).into_response())
    })
    .await
}

async fn one(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    Ok(Json(info_json(&api.herder.info(&name)?)).into_response())
}

async fn config(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    Ok(Json(config_json(&api.herder.info(&name)?.config)).into_response())
}

async fn remove(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    blocking(move || Ok(api.herder.remove(&name)?)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn status(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    Ok(Json(status_json(&api.herder.info(&name)?)).into_response())
}

async fn tasks(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    let info = api.herder.info(&name)?;
    let tasks = info.tasks.iter().map(|task| {
        json!({"id": {"connector": name, "task": task.id}, "config": config_json(&info.config)})
    });
    Ok(Json(tasks.collect::<Vec<_>>()).into_response())
}

async fn task_status(Held(api): Held<Api>, Path((name, task)): Path<(String, u32)>) -> Answer {
    let info = api.herder.info(&name)?;
    let found = info.tasks.iter().find(|t| t.id == task);
    let found = found.ok_or(WorkerError::NoTask(name, task))?;
    Ok(Json(task_json(found)).into_response())
}

async fn restart_task(Held(api): Held<Api>, Path((name, task)): Path<(String, u32)>) -> Answer {
    blocking(move || Ok(api.herder.restart(&name, Restart::Task(task))?)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// KIP-745: alone it restarts the connector, which has nothing of its own to restart here.
async fn restart(
    Held(api): Held<Api>,
    Path(name): Path<String>,
    Query(query): Arguments,
) -> Answer {
    let flag = |key: &str| query.get(key).is_some_and(|v| v == "true");
    let (tasks, failed) = (flag("includeTasks"), flag("onlyFailed"));
    let info = blocking(move || {
        let what = Restart::Connector {
            include_tasks: tasks,
            only_failed: failed,
        };
        api.herder.restart(&name, what)?;
        Ok(api.herder.info(&name)?)
    })
    .await?;
    if tasks || failed {
        return Ok((StatusCode::ACCEPTED, Json(status_json(&info))).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn set(api: Api, name: String, target: Target, status: StatusCode) -> Answer {
    blocking(move || Ok(api.herder.set_target(&name, target)?)).await?;
    Ok(status.into_response())
}

async fn pause(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    set(api, name, Target::Paused, StatusCode::ACCEPTED).await
}

async fn resume(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    set(api, name, Target::Running, StatusCode::ACCEPTED).await
}

async fn stop(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    set(api, name, Target::Stopped, StatusCode::NO_CONTENT).await
}

async fn offsets(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    blocking(move || {
        let info = api.herder.info(&name)?;
        let lags = groups::lags(api.herder.worker().props(), &info.config);
        let lags = lags.map_err(|e| RestError::from(WorkerError::Client(e)))?;
        let offsets = lags.iter().map(|lag| {
            json!({
                "partition": {"kafka_topic": lag.topic, "kafka_partition": lag.partition},
                "offset": {"kafka_offset": lag.committed},
            })
        });
        Ok(Json(json!({"offsets": offsets.collect::<Vec<_>>()})).into_response())
    })
    .await
}

/// Not Kafka Connect's: what is committed beside the end of each topic-partition.
async fn lag(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    blocking(move || {
        let info = api.herder.info(&name)?;
        let lags = groups::lags(api.herder.worker().props(), &info.config);
        let lags = lags.map_err(|e| RestError::from(WorkerError::Client(e)))?;
        let lags = lags.iter().map(|l| {
            json!({"topic": l.topic, "partition": l.partition, "committed": l.committed, "end": l.end})
        });
        Ok(Json(lags.collect::<Vec<_>>()).into_response())
    })
    .await
}

async fn topics(Held(api): Held<Api>, Path(name): Path<String>) -> Answer {
    blocking(move || {
        let info = api.herder.info(&name)?;
        let topics = groups::topics(api.herder.worker().props(), &info.config);
        let topics = topics.map_err(|e| RestError::from(WorkerError::Client(e)))?;
        Ok(Json(json!({ name: {"topics": topics} })).into_response())
    })
    .await
}

async fn plugins(Query(query): Arguments) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    let plugin = |class: &str, kind: PluginKind| json!({"class": class, "type": kind.name(), "version": version});
    let built = CONNECTORS.iter().filter(|c| c.sink == SinkKind::S3);
    let mut all: Vec<Value> = built.map(|c| plugin(c.class, PluginKind::Sink)).collect();
    if query.get("connectorsOnly").is_some_and(|v| v == "false") {
        let groups = [
            (connector::CONVERTERS, PluginKind::Converter),
            (connector::HEADER_CONVERTERS, PluginKind::HeaderConverter),
        ];
        for (classes, kind) in groups {
            all.extend(classes.iter().map(|c| plugin(c, kind)));
        }
        all.extend(
            TRANSFORMS
                .iter()
                .map(|t| plugin(t.class, PluginKind::Transformation)),
        );
        all.extend(
            PREDICATES
                .iter()
                .map(|p| plugin(p.class, PluginKind::Predicate)),
        );
    }
    Ok(Json(all).into_response())
}

async fn validate(
    Held(api): Held<Api>,
    Path(class): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    blocking(move || {
        let name = flat(&body)?
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("unnamed")
            .to_owned();
        let props = props(&name, &body)?;
        let given = props.get("connector.class").cloned().unwrap_or_default();
        let of = |name: &str| ottla_connect::config::classes::connector(name).map(|c| c.class);
        if of(&given) != of(&class) || of(&class).is_none() {
            return Err(RestError::bad(format!(
                "Included connector type {given} does not match request type {class}"
            )));
        }
        Ok(Json(api.herder.worker().validate(&props)?).into_response())
    })
    .await
}

async fn not_built() -> Answer {
    Err(RestError {
        status: StatusCode::NOT_IMPLEMENTED,
        message: "This is not built".into(),
    })
}
