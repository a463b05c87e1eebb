//! Why things are as they are, in scripts.

use std::fmt::Write as _;

use engine::Timestamp;
use engine::explain::{About, explain, find_task};
use engine::id::RunId;

use super::{World, short, uuid};

/// Of each step, tasks that are explained behind every line.
const TASKS_EXPLAINED: u32 = 5;

impl World {
    /// RUN, RUN/STEP or RUN/STEP/HOST.
    pub(super) fn explain(&mut self, what: &str) {
        let mut parts = what.splitn(3, '/');
        let id = RunId(uuid(parts.next().expect("a run")));
        let run = self.state.run(&id).expect("a run");
        let step = parts.next().map(|name| run.step_number(name).expect("a step"));
        let about = match (step, parts.next()) {
            (None, _) => Ok(About::Run),
            (Some(step), None) => Ok(About::Step(step)),
            (Some(step), Some(task)) => find_task(run, step, task),
        };
        let said = match about {
            Ok(about) => explain(&self.state, run, about, Timestamp(self.now)),
            Err(why) => why.to_string(),
        };
        let _ = writeln!(self.out, "  {}", said.replace(&id.to_string(), &short(id)));
    }

    /// Whatever the state is, everything in it can be explained, on one line of bounded length.
    pub(super) fn explain_everything(&self) {
        for run in self.state.runs_newest_first() {
            let mut all = vec![About::Run];
            for step in 0..run.steps.len() as u16 {
                all.push(About::Step(step));
                let tasks = run.steps[usize::from(step)].tasks.len() as u32;
                all.extend((0..tasks.min(TASKS_EXPLAINED)).map(|item| About::Task(step, item)));
            }
            for about in all {
                let said = explain(&self.state, run, about, Timestamp(self.now));
                assert!(said.len() > 10 && said.chars().count() <= 2_001, "{said}");
                assert!(!said.contains(char::is_control), "{said:?}");
            }
        }
    }
}
