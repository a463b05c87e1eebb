//! Exit codes, stable: scripts depend on them. `docs/cli.md` lists them for people.

/// Done. For `run watch` and `run start --watch`: the run succeeded.
pub const OK: u8 = 0;
/// The run that was watched failed or was cancelled, a playbook's tests failed, or evidence did not verify.
pub const FAILED: u8 = 1;
/// The command line is not understood.
pub const USAGE: u8 = 2;
/// What was asked for does not exist.
pub const NOT_FOUND: u8 = 3;
/// No coordinator could be reached, or none has a leader.
pub const CONNECTION: u8 = 4;
/// Not allowed, or the certificate is refused.
pub const DENIED: u8 = 5;
/// Refused as things stand: a conflict, a limit, a plan that has changed, a confirmation that was not given.
pub const REFUSED: u8 = 6;
/// The playbook, its inputs, the configuration or another file is invalid.
pub const INVALID: u8 = 7;
/// The answer could not be written to standard output.
pub const OUTPUT: u8 = 8;
/// Something that should not happen. Please report it.
pub const INTERNAL: u8 = 70;
