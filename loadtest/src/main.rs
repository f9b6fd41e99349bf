//! `ottla-loadtest`: see README.md beside this crate for each scenario, its fields and their units.

mod args;
mod batch;
mod client;
mod compare;
mod error;
mod histogram;
mod json;
mod procstat;
mod report;
mod scenario;
#[cfg(test)]
mod stub;
mod verify;

use std::process::ExitCode;

use args::{Cli, OutputArgs, Scenario};
use clap::Parser;
use error::{LoadError, Result};
use report::Report;
use scenario::{Interrupt, churn, commits, consume, failover, many_partitions, produce, start};

/// Exit codes: 1 the run failed, 2 the options are wrong (clap's too), 3 it did not verify.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = output_of(&cli.scenario).clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(output.threads())
        .enable_all()
        .build()
        .map_err(|cause| LoadError::system("cannot start threads", cause));
    match runtime.and_then(|runtime| runtime.block_on(run(cli.scenario))) {
        Ok(report) => {
            if output.json {
                println!("{}", report.json());
            } else {
                print!("{}", report.table());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ottla-loadtest: {error}");
            match error {
                LoadError::Usage(_) => ExitCode::from(2),
                LoadError::NotVerified(_) => ExitCode::from(3),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn output_of(scenario: &Scenario) -> &OutputArgs {
    match scenario {
        Scenario::Produce(args) => &args.target.output,
        Scenario::Consume(args) => &args.target.output,
        Scenario::ManyPartitions(args) => &args.target.output,
        Scenario::Latency(args) => &args.target.output,
        Scenario::Churn(args) => &args.target.output,
        Scenario::Commits(args) => &args.output,
        Scenario::Failover(args) => &args.target.output,
        Scenario::Start(args) => &args.output,
        Scenario::Compare(args) => &args.output,
    }
}

async fn run(scenario: Scenario) -> Result<Report> {
    let interrupt = Interrupt::listen()
        .map_err(|cause| LoadError::system("cannot listen for signals", cause))?;
    match scenario {
        Scenario::Produce(args) => {
            let plan = args.plan()?;
            let result = produce::run(&plan, &interrupt).await?;
            Ok(produce::report("produce", &plan, &result))
        }
        Scenario::Latency(args) => {
            let plan = args.plan()?;
            let result = produce::run(&plan, &interrupt).await?;
            Ok(produce::report("latency", &plan, &result))
        }
        Scenario::Consume(args) => {
            let mut plan = args.plan()?;
            plan.read.interrupt = Some(interrupt);
            let result = consume::run(&plan).await?;
            Ok(consume::report(&plan, &result))
        }
        Scenario::ManyPartitions(args) => {
            let plan = args.plan()?;
            let result = many_partitions::run(&plan, &interrupt).await?;
            Ok(many_partitions::report(&plan, &result))
        }
        Scenario::Churn(args) => {
            let plan = args.plan()?;
            let result = churn::run(&plan, &interrupt).await?;
            Ok(churn::report(&plan, &result))
        }
        Scenario::Commits(args) => {
            let result = commits::run(&args, &interrupt).await?;
            Ok(commits::report(&args, &result))
        }
        Scenario::Failover(args) => {
            let plan = args.plan()?;
            let fault = async |leader: &str| args.fault(leader);
            let result = failover::run(&plan, &interrupt, fault).await?;
            Ok(failover::report(&plan, &result))
        }
        Scenario::Start(args) => {
            let plan = args.plan()?;
            let result = start::run(&plan, &interrupt).await?;
            Ok(start::report(&plan, &result))
        }
        Scenario::Compare(args) => compare::run(&args, &interrupt).await,
    }
}
