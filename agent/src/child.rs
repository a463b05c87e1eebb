//! Throw-away children of the agent: the same executable, started again for work that is risky.
//!
//! Every `main` that can be an agent calls [`run_if_child`] before anything else, while the process has
//! one thread only: what a child gives up, it gives up for all of its threads.
//!
//! A child is handed its work over a socket that is its standard input, open files included
//! ([`handover`]), and answers with lines of JSON on its standard output. It opens nothing itself: before
//! it touches any data, it gives up files, network, capabilities and the starting of programs
//! ([`sandbox`]).

#[cfg(target_os = "linux")]
pub mod handover;
#[cfg(target_os = "linux")]
pub mod sandbox;
#[cfg(all(target_os = "linux", feature = "yara"))]
pub mod yara;

use std::io::Write as _;
use std::process::ExitCode;

/// The first argument of a child. The second is its kind.
pub const CHILD_ARGUMENT: &str = "__agent-child";

/// The kind that scans with YARA rules.
pub const SCAN_YARA: &str = "scan-yara";

/// Exit code of a child that failed.
pub const EXIT_FAILED: u8 = 1;

/// Exit code of a child that was started in a way that it does not understand.
const EXIT_USAGE: u8 = 2;

/// Carries the child's work out, if this process was started as one.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CHILD_ARGUMENT {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    #[cfg(all(target_os = "linux", feature = "yara"))]
    if kind == SCAN_YARA {
        return Some(match yara::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{SCAN_YARA}: {error:#}");
                ExitCode::from(EXIT_FAILED)
            }
        });
    }
    // Who closed it does not want to hear it.
    let _ = writeln!(
        std::io::stderr(),
        "{CHILD_ARGUMENT}: this build has no child of the kind {kind:?}"
    );
    Some(ExitCode::from(EXIT_USAGE))
}
