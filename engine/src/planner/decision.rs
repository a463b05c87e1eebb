//! What the planner decides: deltas that `apply` checks against the run as it then is.

use std::sync::Arc;

use playbook::manifest::{Kind, Step};
use serde::{Deserialize, Serialize};

use crate::command::TaskError;
use crate::id::RunId;
use crate::state::steps::{Shared, StepStatus};

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The step's needs hold: its delay begins.
    Delay {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
    },
    /// The step's tasks, or the next of them; as many as may be are assigned at once.
    Open {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
        /// With the first tasks only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared: Option<Shared>,
        /// The item of the first of these tasks.
        from: u32,
        /// The tasks.
        tasks: NewTasks,
        /// Which of them wait for people, where the step has a gate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gated: Option<Gated>,
    },
    /// The step asks people to fill in its form.
    Ask {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
        /// What they are told; may be empty.
        text: String,
        /// What fields hold unless they say otherwise: the JSON text of an object.
        defaults: Arc<str>,
    },
    /// The step begins to wait for an event.
    Listen {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
    },
    /// A group of the step's tasks has ended: the pause before the next one begins.
    Soak {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
    },
    /// Tasks that are ready are assigned, as many as may be.
    Assign {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
    },
    /// What reported outcomes mean: (item, attempt, verdict).
    Judge {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
        /// In the order of the items.
        verdicts: Vec<(u32, u32, Verdict)>,
    },
    /// The step's rule of failure holds already: no further task is assigned.
    Stop {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
        /// For people.
        reason: String,
    },
    /// The step ends: every task has, or it never had one.
    Close {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
        /// An end.
        status: StepStatus,
        /// For people; empty where it succeeded.
        reason: String,
        /// A `decide`'s output, JSON.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Arc<str>>,
    },
    /// Every step has ended: these undo what was done, and tell of it, before `finally`.
    Undo {
        /// Of which run.
        run: RunId,
        /// In their order.
        steps: Vec<NewUndo>,
    },
    /// The run ends: every step has.
    End {
        /// Which.
        run: RunId,
        /// The run's outputs: JSON text of an object.
        outputs: Arc<str>,
        /// Why an output could not be evaluated: fails a run that would have succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
}

impl Decision {
    /// The run that it is about.
    pub fn run(&self) -> RunId {
        match self {
            Decision::Delay { run, .. }
            | Decision::Open { run, .. }
            | Decision::Soak { run, .. }
            | Decision::Listen { run, .. }
            | Decision::Ask { run, .. }
            | Decision::Undo { run, .. }
            | Decision::Assign { run, .. }
            | Decision::Judge { run, .. }
            | Decision::Stop { run, .. }
            | Decision::Close { run, .. }
            | Decision::End { run, .. } => *run,
        }
    }

    /// The step that it is about.
    pub fn step(&self) -> Option<u16> {
        match self {
            Decision::Delay { step, .. }
            | Decision::Open { step, .. }
            | Decision::Soak { step, .. }
            | Decision::Listen { step, .. }
            | Decision::Ask { step, .. }
            | Decision::Assign { step, .. }
            | Decision::Judge { step, .. }
            | Decision::Stop { step, .. }
            | Decision::Close { step, .. } => Some(*step),
            Decision::Undo { .. } | Decision::End { .. } => None,
        }
    }

    /// An estimate of its encoded size, bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let text = |t: &Option<Arc<str>>| t.as_ref().map_or(0, |t| t.len() + 5);
        64 + match self {
            Decision::Delay { .. }
            | Decision::Soak { .. }
            | Decision::Listen { .. }
            | Decision::Assign { .. } => 0,
            Decision::Ask { text, defaults, .. } => text.len() + defaults.len(),
            Decision::Open {
                shared, tasks, gated, ..
            } => {
                let gated = gated.as_ref().map_or(0, |gated| {
                    12 * gated.items.len() + gated.problem.as_ref().map_or(0, String::len)
                });
                gated
                    + shared.as_ref().map_or(0, |shared| 96 + text(&shared.parameters))
                    + match tasks {
                        NewTasks::Hosts { .. } => 16,
                        NewTasks::Each(tasks) => tasks.iter().map(NewTask::size_bytes).sum(),
                    }
            }
            Decision::Judge { verdicts, .. } => verdicts
                .iter()
                .map(|(_, _, verdict)| match verdict {
                    Verdict::Succeeded => 24,
                    Verdict::Failed { error, .. } => {
                        48 + error.as_ref().map_or(0, |e| e.code.len() + e.message.len())
                    }
                })
                .sum(),
            Decision::Stop { reason, .. } => reason.len(),
            Decision::Close { reason, output, .. } => reason.len() + text(output),
            Decision::Undo { steps, .. } => steps.iter().map(NewUndo::size_bytes).sum(),
            Decision::End { outputs, .. } => outputs.len(),
        }
    }
}

/// A step that undoes what another did, or tells that it failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewUndo {
    /// The number of that step.
    pub of: u16,
    /// What it does. What an action is done with is rendered when it begins.
    pub declared: Step,
}

impl NewUndo {
    fn size_bytes(&self) -> usize {
        match &self.declared.kind {
            Kind::Notify { to, .. } => 2_048 + 128 * to.len(),
            _ => 1_024,
        }
    }
}

/// Tasks that wait for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gated {
    /// Their items, as inclusive ranges in order. (Of a gate without a condition all do, whatever stands here.)
    pub items: Vec<(u32, u32)>,
    /// Why the condition could not be evaluated for some of them, which wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Tasks of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewTasks {
    /// One on each of the next hosts of the set, with the shared parameters.
    Hosts {
        /// How many hosts.
        count: u32,
    },
    /// One by one.
    Each(Vec<NewTask>),
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its host's position in the step's set.
    pub host: u32,
    /// The `foreach` item, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Arc<str>>,
    /// JSON; None: the shared ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Arc<str>>,
    /// It ends as it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Born>,
}

impl NewTask {
    pub(crate) fn size_bytes(&self) -> usize {
        let text = |t: &Option<Arc<str>>| t.as_ref().map_or(0, |t| t.len() + 16);
        let born = match &self.born {
            Some(Born::Failed(why)) => why.code.len() + why.message.len() + 32,
            Some(Born::Skipped) => 16,
            None => 0,
        };
        16 + text(&self.item) + text(&self.parameters) + born
    }
}

/// How a task ends that never begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Born {
    /// Its condition is false.
    Skipped,
    /// Its condition or its parameters could not be evaluated, or are not valid.
    Failed(TaskError),
}

/// What a reported outcome means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is what was expected.
    Succeeded,
    /// It is not, or had failed.
    Failed {
        /// None: the reported one.
        error: Option<TaskError>,
        /// It may be tried again (where attempts are left).
        again: bool,
    },
}
