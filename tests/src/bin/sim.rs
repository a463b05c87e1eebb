//! `cargo run --release -p tests --bin sim -- --seeds 1000`: many worlds; prints every failing seed with its
//! invariant and, last, one line of JSON. `--seed N --trace` replays one exactly. `--stats` says before the last
//! line in how many worlds each fault really happened, and how often.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use tests::sim::{self, Happened, Options, Totals};

/// Runs simulated clusters, each from a seed.
#[derive(Parser)]
struct Args {
    /// How many worlds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this world.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event (with --seed).
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Print in how many worlds each fault happened.
    #[arg(long)]
    stats: bool,
    /// Stop at the first world that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Worlds at the same time.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let options = Options {
        trace: args.trace,
        ..Options::default()
    };
    if !args.trace {
        // A panic is a finding of its seed, told below with the seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.clamp(1, seeds.max(1)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || args.fail_fast && failed.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                    match sim::run(seed, &options) {
                        Ok(summary) => {
                            totals.lock().expect("no thread panics").add(&summary.tally);
                            if args.seed.is_some() {
                                println!("{summary:?}");
                            }
                        }
                        Err(v) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {}: {} at {} us: {}", v.seed, v.invariant, v.at_us, v.detail);
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    if args.stats {
        let totals = totals.into_inner().expect("no thread panics");
        for what in Happened::ALL {
            println!(
                "{:<20} in {:>5.1} % of the worlds, {:>9} times",
                format!("{what:?}"),
                totals.percent(what),
                totals.total(what)
            );
        }
    }
    let failed = failed.into_inner();
    let done = done.into_inner();
    let per_s = done as f64 / began.elapsed().as_secs_f64().max(1e-9);
    println!(
        "{}",
        serde_json::json!({"seeds": done, "failed": failed, "seeds_per_s": (per_s * 10.0).round() / 10.0})
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
