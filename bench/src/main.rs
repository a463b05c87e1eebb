//! `cargo run --release -p bench -- NAME`: measurements, one JSON line each. Figures that were seen, with the
//! machine they were seen on, stand in docs/benchmarks.md.
//!
//! Absent on purpose: thresholds. Machines are noisy; a figure is read beside the physical limit that the same
//! run prints.

mod cluster;
mod commit;
mod disk;

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Commit { clients, seconds } => {
            disk::run(seconds.min(3))?;
            commit::run(&clients, seconds).await
        }
        Bench::Disk { seconds } => disk::run(seconds),
    }
}

/// A value of sorted measurements, in microseconds.
fn percentile(sorted_us: &[u64], percent: usize) -> u64 {
    sorted_us
        .get((sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}
