//! `cordon demo`: a whole deployment on one computer, and a ransomware response through it.
//!
//! | module | noun |
//! |---|---|
//! | [`world`] | machines, coordinators, agents, an operator: also what the end-to-end tests stand on |
//! | `plant` | the harmless look-alikes on the hosts, and what is known of them |
//! | `probe` | connections from the hosts, before, during and after |
//! | `scenario` | the story from the first certificate to the last probe |
//! | `chaos` | the death of the leader in the middle, and the proof that nothing was lost or done twice |
//! | `check` | what must hold in the end |
//! | `document` | the JSON document |
//! | `story` | what people read |

mod chaos;
mod check;
mod document;
mod elf;
mod plant;
mod probe;
mod scenario;
mod story;
pub mod world;

use crate::{exit_codes, output};
use story::Story;
use world::{Reality, namespace};

/// Fewest agents: two infected hosts and one that only has the file.
const AGENTS_MIN: u16 = 3;
/// Most agents: each is a process and a machine on this one computer.
const AGENTS_MAX: u16 = 50;
/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// `cordon demo`
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many agents, each on a host of its own.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(i64::from(AGENTS_MIN)..=i64::from(AGENTS_MAX)))]
    pub agents: u16,
    /// Kill the leader while tasks are in flight, and prove that nothing was lost or done twice.
    #[arg(long)]
    pub chaos: bool,
    /// Print one JSON document; the story goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Keep the folder with logs, journals and evidence.
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo and returns the exit code: 0 only if every assertion held.
///
/// The process must have a single thread still: without root it makes a user namespace for itself.
pub fn run(args: &Args) -> u8 {
    let story = Story::new(args.json);
    let reality = namespace::survey(true);
    if reality.is_real()
        && let Err(error) = namespace::enter_network()
    {
        story.problem(&format!("{error}, although a trial of it succeeded"));
        return exit_codes::INTERNAL;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            story.problem(&format!("cannot start a runtime: {error}"));
            return exit_codes::INTERNAL;
        }
    };
    runtime.block_on(until_interrupted(args, &story, reality))
}

/// Dropping the scenario ends its machines and removes its folder, so Ctrl-C leaves nothing behind.
async fn until_interrupted(args: &Args, story: &Story, reality: Reality) -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                story.problem(&format!("cannot listen to signals: {error}"));
                return exit_codes::INTERNAL;
            }
        };
    tokio::select! {
        result = Box::pin(scenario::run(args, story, reality)) => match result {
            Ok(outcome) => {
                let json = output::Output::new(output::Format::Json);
                if args.json && let Err(error) = json.line(&outcome.document.to_string()) {
                    story.problem(&error.to_string());
                    return error.exit_code;
                }
                if outcome.ok { exit_codes::OK } else { exit_codes::FAILED }
            }
            Err(error) => {
                story.problem(&error.to_string());
                exit_codes::FAILED
            }
        },
        _ = interrupt.recv() => {
            story.problem("interrupted: everything that the demo started has been ended");
            INTERRUPTED
        }
        _ = terminate.recv() => {
            story.problem("terminated: everything that the demo started has been ended");
            INTERRUPTED
        }
    }
}
