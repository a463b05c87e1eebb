//! Ends this process at a named point of a task's life, so that tests can see what a crash there leaves.
//!
//! `CORDON_KILL_AT=before-intent|after-intent|after-outcome[:ACTION]`, in debug builds only.

use std::collections::BTreeMap;

use crate::actions::AttemptKey;
use crate::journal::Record;

/// Where to end.
#[derive(Debug)]
pub struct KillPoint {
    point: String,
    action: Option<String>,
    actions: BTreeMap<AttemptKey, String>,
}

impl KillPoint {
    /// As the environment says; None in a release build.
    pub fn from_environment() -> Option<KillPoint> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let text = std::env::var("CORDON_KILL_AT").ok()?;
        let (point, action) = match text.split_once(':') {
            Some((point, action)) => (point.to_owned(), Some(action.to_owned())),
            None => (text, None),
        };
        Some(KillPoint {
            point,
            action,
            actions: BTreeMap::new(),
        })
    }

    /// These records are about to be written.
    pub fn before(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Intent { key, action, .. } = record {
                self.actions.insert(key.into(), action.clone());
                self.reached("before-intent", action.clone());
            }
        }
    }

    /// These records are durable.
    pub fn after(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::Intent { action, .. } => self.reached("after-intent", action.clone()),
                Record::Outcome { key, .. } => {
                    if let Some(action) = self.actions.get(&key.into()) {
                        self.reached("after-outcome", action.clone());
                    }
                }
                _ => {}
            }
        }
    }

    fn reached(&self, point: &str, action: String) {
        if self.point != point || self.action.as_ref().is_some_and(|wanted| *wanted != action) {
            return;
        }
        tracing::warn!(point, action, "CORDON_KILL_AT: ending here");
        if let Err(error) =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        {
            tracing::error!(%error, "CORDON_KILL_AT: cannot end");
        }
    }
}
