//! Throw-away children of the agent: the same executable, started again for work that is risky.
//!
//! Every `main` that can be an agent calls [`run_if_child`] before anything else, while the process has
//! one thread only: what a child gives up, it gives up for all of its threads.

use std::process::ExitCode;

/// The first argument of a child. The second is its kind.
pub const CHILD_ARGUMENT: &str = "__agent-child";

/// Exit code of a child that was started in a way that it does not understand.
const EXIT_USAGE: u8 = 2;

/// Carries the child's work out, if this process was started as one.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CHILD_ARGUMENT {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    eprintln!("{CHILD_ARGUMENT}: this build has no child of the kind {kind:?}");
    Some(ExitCode::from(EXIT_USAGE))
}
