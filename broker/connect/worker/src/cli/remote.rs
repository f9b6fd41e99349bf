//! Commands that ask a worker's REST API.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::{Outcome, runtime};
use crate::net::path_part;

const ASK_WAIT: Duration = Duration::from_secs(60);

fn ask(method: reqwest::Method, url: &str, path: &str) -> Result<Value, String> {
    let address = format!("{}{path}", url.trim_end_matches('/'));
    let asked = async {
        let client = reqwest::Client::builder().timeout(ASK_WAIT).build()?;
        let answer = client.request(method, &address).send().await?;
        let status = answer.status();
        Ok((status, answer.bytes().await?))
    };
    let (status, body) = runtime()?
        .block_on(asked)
        .map_err(|e: reqwest::Error| format!("{address}: {e}"))?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(json);
    }
    let message = json["message"]
        .as_str()
        .map_or(status.to_string(), str::to_owned);
    Err(message)
}

pub fn list(url: &str) -> Outcome {
    let all = ask(reqwest::Method::GET, url, "/connectors?expand=status")?;
    for (name, entry) in all.as_object().into_iter().flatten() {
        let status = &entry["status"];
        let tasks = status["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        let states: Vec<_> = tasks.iter().filter_map(|t| t["state"].as_str()).collect();
        println!(
            "{name}\t{}\t{}",
            text(&status["connector"]["state"]),
            states.join(",")
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

pub fn status(url: &str, name: &str) -> Outcome {
    let status = ask(
        reqwest::Method::GET,
        url,
        &format!("/connectors/{}/status", path_part(name)),
    )?;
    println!("{name}\t{}", text(&status["connector"]["state"]));
    let mut failed = false;
    for task in status["tasks"].as_array().into_iter().flatten() {
        failed |= task["state"] == "FAILED";
        println!("task {}\t{}", task["id"], text(&task["state"]));
        for line in task["trace"].as_str().unwrap_or_default().lines() {
            println!("  {line}");
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

pub fn restart(url: &str, name: &str, only_failed: bool) -> Outcome {
    let path = format!(
        "/connectors/{}/restart?includeTasks=true&onlyFailed={only_failed}",
        path_part(name)
    );
    ask(reqwest::Method::POST, url, &path)?;
    Ok(ExitCode::SUCCESS)
}

pub fn lag(url: &str, name: &str) -> Outcome {
    let lags = ask(
        reqwest::Method::GET,
        url,
        &format!("/connectors/{}/lag", path_part(name)),
    )?;
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    println!("TOPIC\tPARTITION\tCOMMITTED\tEND\tLAG");
    for lag in lags.as_array().into_iter().flatten() {
        let (committed, end) = (number(&lag["committed"]), number(&lag["end"]));
        let (topic, partition) = (text(&lag["topic"]), number(&lag["partition"]));
        println!(
            "{topic}\t{partition}\t{committed}\t{end}\t{}",
            end - committed
        );
    }
    Ok(ExitCode::SUCCESS)
}
