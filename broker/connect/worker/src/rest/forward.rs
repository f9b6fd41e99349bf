//! Requests that change something go to the worker that does them, as in Kafka Connect: to the group's
//! leader, or to the one that runs the task. One that was sent on once is not sent on again.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State as Held};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::{Api, BODY_BYTES_MAX, RestError};
use crate::herder::Place;

/// Stopping tasks takes a while.
const FORWARD_WAIT: Duration = Duration::from_secs(90);
/// Longest answer that is handed on.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub async fn to_whom_it_concerns(Held(api): Held<Api>, request: Request, next: Next) -> Response {
    if request.method().is_safe() || !request.uri().path().starts_with("/connectors") {
        return next.run(request).await;
    }
    let task = task_of(request.method(), request.uri().path());
    let place = api
        .herder
        .place(task.as_ref().map(|(c, t)| (c.as_str(), *t)));
    let sent_on = request.uri().query().unwrap_or_default();
    let sent_on = sent_on.split('&').any(|p| p == "forward=false");
    match place {
        Place::Here => next.run(request).await,
        Place::Nowhere(why) => RestError::new(StatusCode::CONFLICT, why).into_response(),
        Place::There(_) if sent_on => {
            let why = "Cannot complete request because of a conflicting operation (e.g. worker rebalance)";
            RestError::new(StatusCode::CONFLICT, why).into_response()
        }
        Place::There(url) => match forward(&url, request).await {
            Ok(response) => response,
            Err(why) => {
                let message = format!("IO Error trying to forward REST request: {why}");
                RestError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
            }
        },
    }
}

/// The task that `POST /connectors/NAME/tasks/N/restart` names.
fn task_of(method: &Method, path: &str) -> Option<(String, u32)> {
    let mut parts = path.strip_prefix("/connectors/")?.split('/');
    let (name, tasks, task, restart) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if method != Method::POST || tasks != "tasks" || restart != "restart" {
        return None;
    }
    Some((decoded(name).into_owned(), task.parse().ok()?))
}

/// A part of a path as it is meant.
fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

async fn forward(url: &str, request: Request) -> Result<Response, String> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|e| e.to_string())?;
    let query = parts.uri.query().map_or(String::new(), |q| format!("{q}&"));
    let address = format!(
        "{}{}?{query}forward=false",
        url.trim_end_matches('/'),
        parts.uri.path()
    );
    let asked = async {
        let client = reqwest::Client::builder()
            .timeout(FORWARD_WAIT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let mut request = client.build()?.request(parts.method, &address).body(body);
        for name in [header::CONTENT_TYPE, header::ACCEPT, header::AUTHORIZATION] {
            if let Some(value) = parts.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        request.send().await
    };
    let mut answer = asked
        .await
        .map_err(|e: reqwest::Error| crate::net::trace(&e))?;
    let mut response = Response::builder().status(answer.status());
    for name in [header::CONTENT_TYPE, header::LOCATION] {
        if let Some(value) = answer.headers().get(&name) {
            response = response.header(name, value);
        }
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    response.body(body.into()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_found_in_paths() {
        let of = |path| task_of(&Method::POST, path);
        assert_eq!(
            of("/connectors/a%20b/tasks/3/restart"),
            Some(("a b".into(), 3))
        );
        assert_eq!(of("/connectors/a/restart"), None);
        assert_eq!(of("/connectors/a/tasks/x/restart"), None);
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
