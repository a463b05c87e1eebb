//! What one apply gathers while it changes the state: effects and audit events, each said once.

use std::collections::BTreeSet;

use crate::effect::Effect;
use crate::id::{AgentId, RunId};
use crate::state::agents::Agents;
use crate::state::approvals::Approvals;
use crate::state::audit::TaskEvents;
use crate::state::children::Cascade;
use crate::state::timers::Timers;
use crate::time::Timestamp;

/// Effects, without repeats, in an order that is the same on every node.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub runs: BTreeSet<RunId>,
    pub planned: BTreeSet<RunId>,
    pub agents: BTreeSet<AgentId>,
    pub approvals: bool,
    pub triggers: bool,
    pub presence: bool,
    pub others: Vec<Effect>,
    /// What is still to be told to the runs that others began; nothing of it is left when the apply is over.
    pub cascade: Vec<Cascade>,
}

impl Outbox {
    pub fn into_effects(self) -> Vec<Effect> {
        let approvals = self.approvals.then_some(Effect::Approvals);
        let triggers = self.triggers.then_some(Effect::Triggers);
        let presence = self.presence.then_some(Effect::Presence);
        self.others
            .into_iter()
            .chain(self.agents.into_iter().map(Effect::Assignments))
            .chain(approvals)
            .chain(triggers)
            .chain(presence)
            .chain(self.runs.into_iter().map(Effect::Run))
            .chain(self.planned.into_iter().map(Effect::Planned))
            .collect()
    }
}

/// Everything but the runs, while a run is changed.
pub(crate) struct Around<'a> {
    pub index: u64,
    pub now: Timestamp,
    pub agents: &'a mut Agents,
    pub approvals: &'a mut Approvals,
    pub timers: &'a mut Timers,
    pub out: &'a mut Outbox,
    pub events: &'a mut TaskEvents,
}
