//! People who do things to the run of a case: what they may is the engine's to say.

use engine::id::TaskKey;
use engine::{Actor, Command, Reply};

use crate::fakes::{holds, parsed};
use crate::suite::{Deed, Happening, Settled, Which};
use crate::world::{RUN, World};

impl World<'_> {
    /// One person does something to the run.
    pub(crate) fn does(&mut self, happening: &Happening) {
        let why = match self.command_of(&happening.what) {
            Err(why) => Some(why),
            Ok(command) => match self.apply(Actor::Operator(happening.by.clone()), command) {
                Reply::Refused(why) => Some(why.to_string()),
                _ => None,
            },
        };
        let what = format!("`{}` by {}", happening.what.word(), happening.by);
        self.heed(happening.place, &what, happening.refused.as_deref(), why);
    }

    fn command_of(&self, deed: &Deed) -> Result<Command, String> {
        let (run, reason) = (RUN, |reason: &String| reason.clone());
        let subject = self.subject().ok_or("there is no run")?;
        Ok(match deed {
            Deed::Cancel(why) => Command::CancelRun {
                run,
                reason: reason(why),
            },
            Deed::CancelAndRollBack(why) => Command::CancelAndRollBack {
                run,
                reason: reason(why),
            },
            Deed::RollBack(why) => Command::RollbackRun {
                run,
                reason: reason(why),
                revision: subject.revision,
            },
            Deed::Pause(why) => Command::PauseRun {
                run,
                reason: reason(why),
            },
            Deed::Resume => Command::ResumeRun { run },
            Deed::Retry { step, unknown } => Command::RetryRun {
                run,
                step: match step {
                    None => None,
                    Some(name) => Some(self.number_of(name)?),
                },
                unknown: *unknown,
            },
            Deed::Settle(settled) => Command::SettleTask {
                task: self.task_of(settled)?,
                succeeded: settled.succeeded,
                reason: reason(&settled.reason),
            },
        })
    }

    fn number_of(&self, step: &str) -> Result<u16, String> {
        let number = self.subject().and_then(|run| run.step_number(step));
        number.ok_or_else(|| format!("the run has no step `{step}` yet"))
    }

    fn task_of(&self, settled: &Settled) -> Result<TaskKey, String> {
        let (name, step) = (&settled.step, self.number_of(&settled.step)?);
        let tasks = self.subject().into_iter().flat_map(|run| run.tasks(step, 0));
        let mut fitting = tasks.filter(|task| match &settled.which {
            Which::Only => true,
            Which::Host(host) => task.agent.is_some_and(|agent| agent.as_str() == host),
            Which::Item(item) => holds(item, &parsed(task.item_json())),
        });
        let (first, more) = (fitting.next(), fitting.next().is_some());
        let first = first.ok_or_else(|| format!("step `{name}` has no such task"))?;
        if more && matches!(settled.which, Which::Only) {
            return Err(format!(
                "step `{name}` has more than one task: name its host or item"
            ));
        }
        Ok(TaskKey {
            run: RUN,
            step,
            item: first.item,
        })
    }
}

impl Deed {
    /// As the test file calls it.
    fn word(&self) -> &'static str {
        match self {
            Deed::Cancel(_) => "cancel",
            Deed::CancelAndRollBack(_) => "cancel_and_rollback",
            Deed::RollBack(_) => "rollback",
            Deed::Pause(_) => "pause",
            Deed::Resume => "resume",
            Deed::Retry { .. } => "retry",
            Deed::Settle(_) => "settle",
        }
    }
}
