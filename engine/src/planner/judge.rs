//! What reported outcomes mean: `expect` of those that succeeded, `retry.when` of those that did not.

use playbook::eval::Scope;
use playbook::manifest::{Expression, Over};
use serde_json::Value;

use super::decision::{Decision, Verdict};
use super::run::Plan;
use super::scope::{Sources, error_value, parsed};
use crate::command::TaskError;

impl Plan<'_> {
    /// Judges every outcome of a step that waits for it.
    pub(super) fn judge(&mut self, step: u16) {
        let state = &self.run.steps[usize::from(step)];
        if state.judging.is_empty()
            || self
                .verdicts
                .range((step, 0)..)
                .next()
                .is_some_and(|((s, _), _)| *s == step)
        {
            return;
        }
        let declared = self.run.declared(step);
        let again = declared.retry.as_ref().and_then(|retry| retry.when.as_ref());
        let sources = Sources::of(declared.expect.iter().chain(again));
        let base = self.scope(&sources);
        let mut verdicts = Vec::with_capacity(state.judging.len());
        for &item in &state.judging {
            let verdict = self.judge_one(&base, &sources, step, item, declared.expect.as_ref(), again);
            verdicts.push((item, self.run.task(step, item).attempt, verdict));
        }
        for (item, _, verdict) in &verdicts {
            self.verdicts.insert((step, *item), verdict.clone());
        }
        for chunk in verdicts.chunks(1_000) {
            self.decisions.push(Decision::Judge {
                run: self.run.id,
                step,
                verdicts: chunk.to_vec(),
            });
        }
    }

    fn judge_one(
        &self,
        base: &Scope<'_>,
        sources: &Sources<'_>,
        step: u16,
        item: u32,
        expect: Option<&Expression>,
        again: Option<&Expression>,
    ) -> Verdict {
        let task = self.run.task(step, item);
        let mut scope = base.child();
        scope.bind(
            "output",
            &task.output.as_ref().map_or(Value::Null, |text| parsed(text)),
        );
        scope.bind("error", &task.error.as_deref().map_or(Value::Null, error_value));
        if let Some(agent) = self.run.agent_of(step, item) {
            self.bind_host(&mut scope, sources, agent, task.host);
        }
        if let Over::ForEach { name, .. } = &self.run.declared(step).over {
            scope.bind(name, &task.item.as_ref().map_or(Value::Null, |text| parsed(text)));
        }
        let broken = |why: playbook::eval::EvalError| Verdict::Failed {
            error: Some(TaskError {
                code: "expression".into(),
                message: why.to_string(),
            }),
            again: false,
        };
        let failed = match (task.error.as_deref(), expect) {
            (Some(reported), _) => {
                // Reported as failed: only whether it is tried again is asked.
                return match again.map_or(Ok(true), |when| scope.test(when)) {
                    Ok(again) => Verdict::Failed { error: None, again },
                    Err(why) => broken(why).with_reported(reported),
                };
            }
            (None, None) => return Verdict::Succeeded,
            (None, Some(expect)) => match scope.test(expect) {
                Ok(true) => return Verdict::Succeeded,
                Err(why) => return broken(why),
                Ok(false) => TaskError {
                    code: "expectation".into(),
                    message: format!("its output does not hold {}", expect.0),
                },
            },
        };
        // What took hold of a host is not done a second time because its output was not liked.
        let shared = self.run.steps[usize::from(step)].shared.as_ref();
        if shared.is_none_or(|shared| shared.impact >= catalogue::Impact::Contain) {
            return Verdict::Failed {
                error: Some(failed),
                again: false,
            };
        }
        scope.bind("error", &error_value(&failed));
        match again.map_or(Ok(true), |when| scope.test(when)) {
            Ok(again) => Verdict::Failed {
                error: Some(failed),
                again,
            },
            Err(why) => broken(why),
        }
    }
}

impl Verdict {
    /// Names what the agent reported beside the expression that broke on it.
    fn with_reported(self, reported: &TaskError) -> Verdict {
        match self {
            Verdict::Failed {
                error: Some(error),
                again,
            } => Verdict::Failed {
                error: Some(TaskError {
                    message: format!(
                        "{} (after {}: {})",
                        error.message, reported.code, reported.message
                    ),
                    ..error
                }),
                again,
            },
            other => other,
        }
    }
}
