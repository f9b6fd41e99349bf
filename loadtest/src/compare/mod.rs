//! `compare`: real Apache Kafka and Ottla in turn, the same scenario, each time on a fresh data
//! folder and a fresh process; medians and ratios. It reports times and never judges them.

mod broker;
mod cluster;
mod kafka;
pub mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::{
    CompareArgs, Compared, WriteArgs, bounded, check_record_bytes, failover_plan, produce_plan,
};
use crate::error::{LoadError, Result};
use crate::json::Json;
use crate::report::{Report, grouped, median};
use crate::scenario::failover;
use crate::scenario::latency::LatencyPlan;
use crate::scenario::many_partitions::{self, ManyPartitionsPlan};
use crate::scenario::produce::{self, ProducePlan};
use crate::scenario::{BYTES_PER_MB, Interrupt, Target};
use broker::Contender;
use cluster::Cluster;

/// One figure of one run.
struct Figure {
    name: &'static str,
    value: f64,
}

/// One contender, measured once.
struct Round {
    contender: &'static str,
    figures: Vec<Figure>,
}

pub async fn run(args: &CompareArgs, interrupt: &Interrupt) -> Result<Report> {
    bounded("--runs", args.runs, 1, 1_000)?;
    bounded("--writers", args.writers, 1, 100_000)?;
    bounded("--brokers", args.brokers, 1, 9)?;
    check_record_bytes(args.shape.record_bytes)?;
    let mut contenders = vec![Contender::kafka(args).await?];
    if args.ottla_bin.is_some() {
        contenders.push(Contender::ottla(args)?);
    }
    let work_dir = make_work_dir(args)?;
    let mut rounds = Vec::new();
    for run in 0..args.runs {
        // Whoever goes second finds a warmer or a fuller machine: take turns.
        let order: Vec<&Contender> = if run % 2 == 0 {
            contenders.iter().collect()
        } else {
            contenders.iter().rev().collect()
        };
        for contender in order {
            if interrupt.is_set() {
                break;
            }
            let folder = work_dir.join(format!("{}-{run}", contender.name));
            let measured = round(args, contender, &folder, interrupt).await;
            // A signal during a round leaves its figures out: they cover less than the others.
            match measured {
                Ok(round) if !interrupt.is_set() => rounds.push(round),
                Ok(_) => {}
                Err(_) if interrupt.is_set() => {}
                Err(error) => {
                    eprintln!(
                        "{} {run} failed, its files are in {}",
                        contender.name,
                        folder.display()
                    );
                    return Err(error);
                }
            }
        }
    }
    remove(&work_dir)?;
    Ok(report(args, &contenders, &rounds, interrupt.is_set()))
}

/// A folder of this process's own.
fn make_work_dir(args: &CompareArgs) -> Result<PathBuf> {
    let parent = args
        .work_dir
        .clone()
        .map_or_else(|| Ok(kafka::cache_dir()?.join("compare")), Ok)?;
    let folder = parent.join(std::process::id().to_string());
    fs::create_dir_all(&folder)
        .map_err(|cause| LoadError::system(format!("cannot make {}", folder.display()), cause))?;
    Ok(folder)
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder)
        .map_err(|cause| LoadError::system(format!("cannot remove {}", folder.display()), cause))
}

/// Starts, warms, measures and ends one contender.
async fn round(
    args: &CompareArgs,
    contender: &Contender,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Round> {
    fs::create_dir_all(folder)
        .map_err(|cause| LoadError::system(format!("cannot make {}", folder.display()), cause))?;
    if args.output.progress() {
        eprintln!("starting {}", contender.label);
    }
    let mut cluster = Cluster::start(contender, args.brokers, folder).await?;
    let mut figures = vec![Figure {
        name: "start_ms",
        value: cluster.start_ms,
    }];
    let target = Target {
        bootstrap: cluster.bootstrap().to_string(),
        pids: cluster.pids(),
        threads: args.output.threads(),
        progress: args.output.progress(),
    };
    if args.warm_records > 0 {
        let plan = warm_plan(args, target.clone())?;
        produce::run(&plan, interrupt).await?;
    }
    figures.extend(match args.scenario {
        Compared::Produce => {
            let mut plan = produce_plan(target, &write_args(args), &args.shape)?;
            plan.verify = true;
            produce_figures(&plan, interrupt).await?
        }
        Compared::Latency => {
            let plan = latency_plan(args, target);
            latency_figures(&plan, interrupt).await?
        }
        Compared::ManyPartitions => many_partitions_figures(args, target, interrupt).await?,
        Compared::Failover | Compared::Restart => {
            failover_figures(args, target, &mut cluster, interrupt).await?
        }
    });
    cluster.terminate().await?;
    remove(folder)?;
    let round = Round {
        contender: contender.name,
        figures,
    };
    if args.output.progress() {
        let shown: Vec<String> = round
            .figures
            .iter()
            .map(|figure| format!("{} {}", figure.name, grouped(figure.value, 2)))
            .collect();
        eprintln!("{}: {}", round.contender, shown.join(", "));
    }
    Ok(round)
}

/// Three replicas, or as many as there are brokers.
fn replication_factor(args: &CompareArgs) -> i16 {
    let most = args.brokers.min(3) as i16;
    args.write.replication_factor.unwrap_or(most)
}

fn write_args(args: &CompareArgs) -> WriteArgs {
    let factor = Some(replication_factor(args));
    WriteArgs {
        replication_factor: factor,
        ..args.write.clone()
    }
}

/// The same batches to another topic, as many records as were asked for, however long it takes.
fn warm_plan(args: &CompareArgs, target: Target) -> Result<ProducePlan> {
    let mut plan = produce_plan(target, &write_args(args), &args.shape)?;
    plan.topic = format!("{}-warm-up", plan.topic);
    plan.records_max = Some(args.warm_records);
    plan.rate_bytes_per_s = None;
    plan.warmup = Duration::ZERO;
    plan.measure = Duration::from_secs(600);
    plan.verify = false;
    Ok(plan)
}

fn latency_plan(args: &CompareArgs, target: Target) -> ProducePlan {
    LatencyPlan {
        target,
        topic: args.write.topic.clone(),
        partitions: args.write.partitions,
        replication_factor: replication_factor(args),
        record_bytes: args.shape.record_bytes,
        acks: args.write.acks,
        writers: args.writers,
        idempotent: args.write.idempotent,
        warmup: Duration::from_secs_f64(args.write.warmup_seconds),
        measure: Duration::from_secs_f64(args.write.seconds),
        verify: true,
    }
    .into_produce()
}

async fn produce_figures(plan: &ProducePlan, interrupt: &Interrupt) -> Result<Vec<Figure>> {
    let result = produce::run(plan, interrupt).await?;
    let gb = (result.bytes as f64 / crate::scenario::BYTES_PER_GB).max(1e-9);
    Ok(vec![
        Figure {
            name: "mb_per_s",
            value: result.mb_per_s(),
        },
        Figure {
            name: "broker_cpu_s_per_gb",
            value: result.broker_cpu_s_per_gb(),
        },
        Figure {
            name: "p50_ms",
            value: result.latency.p50_ms,
        },
        Figure {
            name: "p99_ms",
            value: result.latency.p99_ms,
        },
        Figure {
            name: "p999_ms",
            value: result.latency.p999_ms,
        },
        Figure {
            name: "rss_peak_mb",
            value: result.rss_peak_bytes as f64 / BYTES_PER_MB,
        },
        Figure {
            name: "harness_cpu_s_per_gb",
            value: result.cpu.own_s / gb,
        },
        Figure {
            name: "machine_busy_cores",
            value: result.cpu.machine_s / result.cpu.wall_s.max(1e-9),
        },
    ])
}

async fn latency_figures(plan: &ProducePlan, interrupt: &Interrupt) -> Result<Vec<Figure>> {
    let result = produce::run(plan, interrupt).await?;
    Ok(vec![
        Figure {
            name: "requests_per_s",
            value: result.requests_per_s(),
        },
        Figure {
            name: "p50_ms",
            value: result.latency.p50_ms,
        },
        Figure {
            name: "p99_ms",
            value: result.latency.p99_ms,
        },
        Figure {
            name: "p999_ms",
            value: result.latency.p999_ms,
        },
        Figure {
            name: "broker_cpu_us_per_request",
            value: result.broker_cpu_us_per_request(),
        },
        Figure {
            name: "rss_peak_mb",
            value: result.rss_peak_bytes as f64 / BYTES_PER_MB,
        },
    ])
}

async fn many_partitions_figures(
    args: &CompareArgs,
    target: Target,
    interrupt: &Interrupt,
) -> Result<Vec<Figure>> {
    let (topic, factor) = (&args.write.topic, replication_factor(args));
    let plan = ManyPartitionsPlan::new(target, topic, args.many_partitions, factor);
    let result = many_partitions::run(&plan, interrupt).await?;
    let idle_kb = result.kb_per_partition(&plan, result.rss_idle_bytes);
    Ok(vec![
        Figure {
            name: "created_ms",
            value: result.created_ms,
        },
        Figure {
            name: "acknowledged_ms",
            value: result.acknowledged_ms,
        },
        Figure {
            name: "broker_cpu_s",
            value: result.broker_cpu_s,
        },
        Figure {
            name: "rss_per_partition_idle_kb",
            value: idle_kb,
        },
        Figure {
            name: "idle_cores",
            value: result.idle_cores,
        },
    ])
}

async fn failover_figures(
    args: &CompareArgs,
    target: Target,
    cluster: &mut Cluster<'_>,
    interrupt: &Interrupt,
) -> Result<Vec<Figure>> {
    let factor = replication_factor(args);
    let plan = failover_plan(target, &args.write.topic, factor, &args.failover);
    let fault = async |leader: &str| match args.scenario {
        Compared::Restart => cluster.restart(leader).await,
        _ => cluster.kill(leader),
    };
    let result = failover::run(&plan, interrupt, fault).await?;
    let repeated: u64 = result.repeated.values().sum();
    Ok(vec![
        Figure {
            name: "silence_ms",
            value: result.longest_ms(),
        },
        Figure {
            name: "silence_median_ms",
            value: median(&result.silences_ms),
        },
        Figure {
            name: "usual_ms",
            value: result.usual_ms,
        },
        Figure {
            name: "repeated",
            value: repeated as f64,
        },
        Figure {
            name: "acknowledged",
            value: result.acknowledged as f64,
        },
    ])
}

/// One line per figure: the median of each contender and Ottla's share of Kafka's.
fn report(
    args: &CompareArgs,
    contenders: &[Contender],
    rounds: &[Round],
    interrupted: bool,
) -> Report {
    let mut report = Report::new("compare");
    report.interrupted = interrupted;
    report.text("of", "scenario", args.scenario.name());
    let counts: Vec<String> = contenders
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                rounds.iter().filter(|r| r.contender == c.name).count(),
                c.label
            )
        })
        .collect();
    report.text("runs", "runs", counts.join(", "));
    let heads: String = contenders
        .iter()
        .map(|c| format!("{:>14}", c.name))
        .collect();
    let columns = contenders.iter().map(|c| Json::text(c.name)).collect();
    let heads = format!("{heads}{:>10}", "ratio");
    report.value("columns", "median of", heads, Json::List(columns));
    let names: Vec<&str> = rounds
        .first()
        .map(|round| round.figures.iter().map(|f| f.name).collect())
        .unwrap_or_default();
    for name in names {
        let values: Vec<(&str, Vec<f64>)> = contenders
            .iter()
            .map(|c| (c.name, values_of(rounds, c.name, name)))
            .collect();
        let (text, json) = line(&values);
        report.value(name, name, text, json);
    }
    report.note("ratio: the last column's median over the first's");
    if args.scenario != Compared::ManyPartitions {
        report.note("every run that is counted here was read back and verified");
    }
    report
}

fn values_of(rounds: &[Round], contender: &str, name: &str) -> Vec<f64> {
    let own = rounds.iter().filter(|round| round.contender == contender);
    own.flat_map(|round| &round.figures)
        .filter(|f| f.name == name)
        .map(|f| f.value)
        .collect()
}

fn line(values: &[(&str, Vec<f64>)]) -> (String, Json) {
    let (mut text, mut members, mut medians) = (String::new(), Vec::new(), Vec::new());
    for (contender, values) in values {
        let middle = median(values);
        text += &format!(
            "{:>14}",
            grouped(middle, if middle.abs() < 10.0 { 3 } else { 1 })
        );
        let all = values.iter().map(|value| Json::Number(*value)).collect();
        members.push((
            contender.to_string(),
            Json::Object(vec![
                ("median".into(), Json::Number(middle)),
                ("runs".into(), Json::List(all)),
            ]),
        ));
        medians.push(middle);
    }
    if let [first, .., last] = medians[..]
        && first != 0.0
    {
        text += &format!("{:>9.2}x", last / first);
        members.push(("ratio".into(), Json::Number(last / first)));
    }
    (text, Json::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_medians_and_their_ratio() {
        let (text, json) = line(&[
            ("kafka", vec![2.0, 4.0, 3.0]),
            ("ottla", vec![1.5, 1.5, 9.0]),
        ]);
        assert_eq!(
            text,
            format!("{:>14}{:>14}{:>10}", "3.000", "1.500", "0.50x")
        );
        assert_eq!(
            json.to_string(),
            r#"{"kafka":{"median":3,"runs":[2,4,3]},"ottla":{"median":1.5,"runs":[1.5,1.5,9]},"ratio":0.5}"#
        );
        let (text, _) = line(&[("kafka", vec![1234.0])]);
        assert_eq!(text, format!("{:>14}", "1,234.0"));
    }

    #[test]
    fn figures_are_collected_by_contender() {
        let round = |contender, value| Round {
            contender,
            figures: vec![
                Figure { name: "a", value },
                Figure {
                    name: "b",
                    value: 0.0,
                },
            ],
        };
        let rounds = [
            round("kafka", 1.0),
            round("ottla", 2.0),
            round("kafka", 3.0),
        ];
        assert_eq!(values_of(&rounds, "kafka", "a"), [1.0, 3.0]);
        assert_eq!(values_of(&rounds, "ottla", "a"), [2.0]);
    }
}
