//! Raft's log lines, as events of ours.

use slog::{Drain, Level, Logger, OwnedKVList, Record};

/// A logger for raft that feeds `tracing`. Raft's "info" is our debug: its elections are told by the driver.
pub(super) fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => {}
        }
        Ok(())
    }
}
