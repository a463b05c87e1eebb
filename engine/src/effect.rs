//! Every output of the state machine: the reply to who asked, and what is asked of the world.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::id::{AgentId, RunId};

/// What one applied command gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// For who proposed it.
    pub reply: Reply,
    /// For the node. They may be lost between apply and dispatch: whoever acts on them derives what is
    /// outstanding from the state when it starts.
    pub effects: Vec<Effect>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing to say.
    Done,
    /// The join token was consumed (or had been, by the same key).
    Enrolled {
        /// The agent's id from now on.
        agent: AgentId,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// The run was started (or had been, by the same request).
    RunStarted {
        /// Its id: a repeated request gets the first one's.
        run: RunId,
    },
    /// Per report of the batch: None, it was taken (or had been); or why it never will be.
    Reports(Vec<Option<String>>),
    /// Per session opened in the batch: None, it stands; or why it must be closed.
    Sessions(Vec<Option<String>>),
    /// What came of events: how many runs they set off, how many of them were seen before, and how many steps had waited.
    Events {
        /// Firings, each of which is to become a run.
        fired: u32,
        /// Matches that start nothing, for the same was seen.
        deduplicated: u32,
        /// Steps that went on.
        heard: u32,
    },
    /// How many decisions of the plan were stale.
    Planned {
        /// The number.
        stale: u32,
    },
    /// Refused; nothing changed, but for an audit record of the refusal where one is due.
    Refused(Refusal),
}

/// What is asked of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The assignments of this agent changed otherwise than by its own reports: the node that holds
    /// its session reads them again ([`crate::State::assignments`]).
    Assignments(AgentId),
    /// The run changed: watchers read it again, the planner looks at it.
    Run(RunId),
    /// One command of the planner that concerned this run was applied, stale or not.
    Planned(RunId),
    /// A session is no longer the agent's: its node closes the stream.
    CloseSession {
        /// Whose.
        agent: AgentId,
        /// Which.
        session: u64,
        /// For the agent.
        reason: String,
    },
    /// What waits for people changed: who watches it looks again.
    Approvals,
    /// Triggers were armed, or fired, or are not any more: the leader looks again.
    Triggers,
    /// Agents came or went.
    Presence,
    /// Something that a person should look at.
    Alarm(String),
}
