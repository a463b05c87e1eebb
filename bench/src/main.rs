//! `cargo run --release -p bench -- NAME`: measurements, one JSON line each. Figures that were seen, with the
//! machine they were seen on, stand in docs/benchmarks.md.
//!
//! Absent on purpose: thresholds. Machines are noisy; a figure is read beside the physical limit that the same
//! run prints.

mod attach;
mod cluster;
mod commit;
mod deployment;
mod disk;
mod engine_alone;

mod failover;
mod fanout;
mod fleet;
mod memory;
mod plan;
mod steps;
mod swarm;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures Cordon.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Durable commands a second: three nodes, mutual TLS, fsync, 256-byte commands.
    Commit {
        /// Concurrent clients, one measurement each.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
        clients: Vec<usize>,
        /// For how long each one runs.
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// The raw rate of fdatasync over small appends on this disk: the limit of one client.
    Disk {
        /// For how long.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// One task on every agent of a swarm, until all results are committed.
    Fanout {
        /// Agents, one measurement each.
        #[arg(long, value_delimiter = ',', default_values_t = [5_000, 10_000])]
        agents: Vec<usize>,
        /// Runs over all of them.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Five dependent steps on each of many hosts at once.
    Steps {
        /// Hosts.
        #[arg(long, default_value_t = 100)]
        hosts: usize,
        /// For how long each shape runs.
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// Dependent steps one at a time.
    Step {
        /// Length of the chain.
        #[arg(long, default_value_t = 500)]
        steps: usize,
    },
    /// A fleet that attaches all at once.
    Attach {
        /// Agents.
        #[arg(long, default_value_t = 5_000)]
        agents: usize,
    },
    /// Resident memory of an idle agent, and of a coordinator for each agent.
    Memory {
        /// Agents.
        #[arg(long, default_value_t = 5_000)]
        agents: usize,
        /// How long everything rests before it is looked at.
        #[arg(long, default_value_t = 15)]
        settle_s: u64,
        /// The agent's executable, such as target/release/cordon-agent; by default this one is the agent too.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
    },
    /// Planning a run over a fleet, in this process: engine only.
    Plan {
        /// Agents, one measurement each.
        #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
        agents: Vec<usize>,
        /// Plans of each.
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
    /// The engine alone: fan-outs over hosts and over items, many runs at once, and what a finished task keeps.
    Engine {
        /// Tasks of a fan-out, one measurement each.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
        tasks: Vec<usize>,
        /// Runs at once.
        #[arg(long, default_value_t = 1_000)]
        runs: usize,
        /// Rounds of each.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Validating and compiling each example and each playbook of the library, in this process.
    Validate {
        /// Times that each is compiled.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// SIGKILL of the leader to the next task that is done.
    Failover {
        /// Agents that are kept at work.
        #[arg(long, default_value_t = 100)]
        agents: usize,
        /// Leaders that die.
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // The coordinators and agents of a deployment are this executable too.
    if let Some(code) = cordon::hidden() {
        return Ok(code);
    }
    let bench = Args::parse().bench;
    allow_files()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match bench {
            Bench::Commit { clients, seconds } => {
                disk::run(seconds.min(3))?;
                commit::run(&clients, seconds).await
            }
            Bench::Disk { seconds } => disk::run(seconds),
            Bench::Fanout { agents, rounds } => fanout::run(&agents, rounds).await,
            Bench::Steps { hosts, seconds } => {
                disk::run(3)?;
                steps::many(hosts, seconds).await
            }
            Bench::Step { steps } => {
                disk::run(3)?;
                steps::chain(steps).await
            }
            Bench::Attach { agents } => attach::run(agents).await,
            Bench::Memory {
                agents,
                settle_s,
                agent,
            } => Box::pin(memory::run(agents, Duration::from_secs(settle_s), agent)).await,
            Bench::Plan { agents, rounds } => plan::run(&agents, rounds),
            Bench::Engine { tasks, runs, rounds } => engine_alone::run(&tasks, runs, rounds),
            Bench::Validate { rounds } => validate::run(rounds),
            Bench::Failover { agents, rounds } => Box::pin(failover::run(agents, rounds)).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// As many descriptors as the system gives: a swarm needs one for each agent, and so do its coordinators, which
/// inherit this.
fn allow_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("the limit of open files cannot be raised")
}

/// A value of sorted measurements, in microseconds.
fn percentile(sorted_us: &[u64], percent: usize) -> u64 {
    sorted_us
        .get((sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}
