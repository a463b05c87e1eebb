//! Triggers: what starts playbooks by itself, and what came of it.

use engine::Command;
use engine::id::TriggerId;
use engine::state::triggers::Trigger;
use engine::{State, Timestamp};
use playbook::manifest::TriggerOn;
use proto::v1;

use super::{Operators, not_found, parse};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn list_triggers(
        &self,
        _: String,
        asked: v1::ListTriggersRequest,
    ) -> Result<v1::ListTriggersReply, ApiError> {
        let triggers = self
            .control
            .query(|state| {
                let all = state.triggers().iter();
                all.filter(|trigger| asked.playbook.is_empty() || trigger.id.playbook == asked.playbook)
                    .map(|trigger| convert(state, trigger))
                    .collect()
            })
            .await?;
        Ok(v1::ListTriggersReply { triggers })
    }

    pub(super) async fn set_trigger(
        &self,
        operator: String,
        asked: v1::SetTriggerRequest,
    ) -> Result<v1::Trigger, ApiError> {
        let id: TriggerId = parse("id", &asked.id)?;
        let command = Command::SetTrigger {
            trigger: id.clone(),
            enabled: asked.enabled,
            reason: asked.reason,
        };
        self.submit(operator, &asked.request_id, command).await?;
        let found = self
            .control
            .query(|state| state.triggers().get(&id).map(|trigger| convert(state, trigger)));
        found.await?.ok_or_else(|| not_found("trigger", id))
    }
}

fn convert(state: &State, trigger: &Trigger) -> v1::Trigger {
    let (on, what) = in_words(&trigger.declared.on);
    let disabled = trigger.disabled.as_ref();
    let problem = trigger.problem.as_ref();
    let (seen, counted) = trigger.keys();
    let waiting = state
        .triggers()
        .firings()
        .filter(|firing| firing.trigger == trigger.id);
    let ms = |at: Option<Timestamp>| at.map_or(0, |at| at.0);
    v1::Trigger {
        id: trigger.id.to_string(),
        version: trigger.version,
        on: on.to_owned(),
        what,
        dedupe: trigger.declared.dedupe.as_ref().map_or(String::new(), |dedupe| {
            format!("{} within {} s", dedupe.key, dedupe.window_ms / 1000)
        }),
        disabled_by: disabled.map_or(String::new(), |disabled| disabled.by.clone()),
        disabled_reason: disabled.map_or(String::new(), |disabled| disabled.reason.clone()),
        disabled_at_ms: ms(disabled.map(|disabled| disabled.at)),
        matched: trigger.counts.matched,
        fired: trigger.counts.fired,
        deduplicated: trigger.counts.deduplicated,
        dropped: trigger.counts.dropped,
        refused: trigger.counts.refused,
        broken: trigger.counts.broken,
        evicted: trigger.counts.evicted,
        missed: trigger.counts.missed,
        problem: problem.map_or(String::new(), |(_, why)| why.clone()),
        problem_at_ms: ms(problem.map(|(at, _)| *at)),
        last_run_id: trigger.last_run.map_or(String::new(), |run| run.to_string()),
        next_at_ms: ms(trigger.next_at),
        waiting: whole(waiting.count()),
        keys_seen: whole(seen),
        keys_counted: whole(counted),
    }
}

/// What a trigger waits for: the word of the language, and the rest.
fn in_words(on: &TriggerOn) -> (&'static str, String) {
    let when = |when: &Option<playbook::manifest::Expression>| {
        when.as_ref()
            .map_or(String::new(), |when| format!(" when {}", when.0))
    };
    match on {
        TriggerOn::Event { class, when: of } => ("event", format!("{class}{}", when(of))),
        TriggerOn::Threshold {
            class,
            when: of,
            by,
            at_least,
            within_ms,
        } => (
            "threshold",
            format!(
                "{at_least} of {class}{} with one {} within {} s",
                when(of),
                by.0,
                within_ms / 1000
            ),
        ),
        TriggerOn::Schedule {
            cron,
            time_zone,
            catch_up,
        } => {
            let missed = if *catch_up {
                ", what was missed is caught up"
            } else {
                ""
            };
            ("schedule", format!("{cron} in {time_zone}{missed}"))
        }
        TriggerOn::Submission { name } => ("submission", name.clone()),
        TriggerOn::Webhook { name } => ("webhook", name.clone()),
    }
}

/// A number that the engine bounds far below.
fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
