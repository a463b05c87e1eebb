//! What a run claims while it is active: one of the places that its playbook has (`limits.concurrency`), and values
//! that no other active run may hold (`limits.lock`).
//!
//! Who proposes a run evaluates them ([`crate::plan`]); `apply` only compares, against the runs that are active at that
//! index. Nothing is kept besides the runs themselves, so that what is claimed ends with the run, however it ends. What a
//! run did is undone whoever has its claims by then: an undo waits for nobody.

use std::collections::BTreeSet;

use playbook::manifest::Manifest;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::id::RunId;
use crate::limits::{MESSAGE_BYTES_MAX, RUN_TARGETS_MAX};
use crate::state::State;
use crate::state::enrolment::within;
use crate::state::runs::Run;

/// What one run claims. Each value as canonical JSON, as people see it in the playbook's list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Runs of the same playbook with the same key count together; None: all of them do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// No two active runs hold the same one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub locked: BTreeSet<String>,
}

impl Claims {
    /// It claims nothing by name.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Claims::default()
    }
}

impl State {
    /// The active run that holds this value (canonical JSON), if one does.
    pub fn holder_of(&self, value: &str) -> Option<&Run> {
        self.active_runs().find(|run| run.claims.locked.contains(value))
    }

    /// The active runs that take a place from a run of this playbook with this key, the oldest first.
    pub(crate) fn rivals<'a>(
        &'a self,
        playbook: &'a str,
        claims: &'a Claims,
    ) -> impl Iterator<Item = &'a Run> {
        self.active_runs()
            .filter(move |run| run.manifest().playbook == playbook && run.claims.key == claims.key)
    }

    /// That a run may become active with these claims. `line`: the runs that are not in its way, as those above it.
    ///
    /// # Errors
    /// Names the run that is in its way.
    pub(super) fn check_claims(
        &self,
        manifest: &Manifest,
        claims: &Claims,
        line: &BTreeSet<RunId>,
    ) -> Result<(), Refusal> {
        within(
            "bytes of the key of limits.concurrency",
            claims.key.as_ref().map_or(0, String::len),
            MESSAGE_BYTES_MAX,
        )?;
        within("values of limits.lock", claims.locked.len(), RUN_TARGETS_MAX)?;
        if let Some(limit) = &manifest.limits.concurrency {
            let mut rivals = self
                .rivals(&manifest.playbook, claims)
                .filter(|run| !line.contains(&run.id));
            let first = rivals.next();
            let count = rivals.count() + usize::from(first.is_some());
            if let Some(first) = first.filter(|_| count >= limit.max as usize) {
                let with = claims.key.as_ref().map(|key| format!(" with the key {key}"));
                return Err(Refusal::State(format!(
                    "limits.concurrency of playbook {} allows {} at once, and {count} of its runs{} go on, run {} among them: wait for one to end, or cancel it",
                    manifest.playbook,
                    limit.max,
                    with.unwrap_or_default(),
                    first.id
                )));
            }
        }
        for run in self.active_runs().filter(|run| !line.contains(&run.id)) {
            if let Some(value) = run.claims.locked.intersection(&claims.locked).next() {
                return Err(Refusal::State(format!(
                    "{value} is locked by run {} of playbook {}: wait for its end, or leave it out",
                    run.id,
                    run.manifest().playbook
                )));
            }
        }
        Ok(())
    }

    /// That a run that is over may go on.
    pub(super) fn check_claims_again(&self, id: RunId) -> Result<(), Refusal> {
        match self.runs.get(&id) {
            Some(run) => {
                // Those below it may go on, or have been begun again, without it.
                let below = |other: &&Run| self.line_of(other.id).contains(&id);
                let mut line = self.line_of(id);
                line.extend(self.active_runs().filter(below).map(|other| other.id));
                self.check_claims(run.manifest(), &run.claims, &line)
            }
            None => Ok(()),
        }
    }
}
