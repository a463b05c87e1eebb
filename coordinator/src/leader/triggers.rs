//! What triggers set off becomes runs here, and schedules come due, for as long as this node leads.
//!
//! What is to become a run is in the state, and the state takes one run for each, however many leaders propose one. A
//! calendar's rules are those of the build that leads: the log records the times that it gives.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::command::Schedule as Times;
use engine::effect::Effect;
use engine::id::{RunId, TriggerId};
use engine::limits::MESSAGE_BYTES_MAX;
use engine::plan::fired::Asked;
use engine::{Actor, Command, Envelope, Refusal, Reply, Timestamp};
use playbook::manifest::TriggerOn;
use playbook::schedule::Schedule;
use tokio::sync::broadcast::error::RecvError;

use super::{BUSY_PAUSE, Over, SLEEP_MAX, until};
use crate::clock;
use crate::control::Control;
use crate::raft::ProposeError;

/// How often a run is drawn again that the state refused: what it was drawn from may have changed meanwhile.
const TRIES: usize = 3;

/// Starts runs and watches the calendar until leadership is over: each without the other, for a storm of events makes no
/// schedule late.
pub(super) async fn keep(control: &Control) -> Over {
    tokio::select! {
        over = keep_firings(control) => over,
        over = keep_calendar(control) => over,
    }
}

async fn keep_firings(control: &Control) -> Over {
    let mut effects = control.watch();
    loop {
        if fire_all(control).await.is_err() || changed(&mut effects).await.is_err() {
            return Over;
        }
    }
}

async fn keep_calendar(control: &Control) -> Over {
    let mut effects = control.watch();
    loop {
        let next = match keep_times(control).await {
            Ok(next) => next,
            Err(Over) => return Over,
        };
        let sleep = next.map_or(SLEEP_MAX, |at| until(Some(at), clock::now()).min(SLEEP_MAX));
        tokio::select! {
            changed = changed(&mut effects) => if changed.is_err() {
                return Over;
            },
            () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
        }
    }
}

/// Waits until triggers were armed or fired.
async fn changed(
    effects: &mut tokio::sync::broadcast::Receiver<std::sync::Arc<Vec<Effect>>>,
) -> Result<(), Over> {
    loop {
        match effects.recv().await {
            Ok(batch) if batch.contains(&Effect::Triggers) => return Ok(()),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return Ok(()),
            Err(RecvError::Closed) => return Err(Over),
        }
    }
}

/// One after another, in the order in which they were set off: an earlier run may be in a later one's way.
async fn fire_all(control: &Control) -> Result<(), Over> {
    while let Some(firing) = control.local(|state| state.triggers().firings().next().map(|firing| firing.id))
    {
        fire(control, firing).await?;
    }
    Ok(())
}

/// Starts the run of one firing, or says why there is none.
async fn fire(control: &Control, firing: u64) -> Result<(), Over> {
    let mut refused = String::new();
    for _ in 0..TRIES {
        // Results and cancels are always taken; what is new waits for room (R69).
        while !control.raft().has_room_for_runs() {
            tokio::time::sleep(SLEEP_MAX).await;
        }
        let command = match draw(control, firing).await {
            None => return Ok(()),
            Some(Ok(command)) => command,
            Some(Err(why)) => {
                refused = why;
                break;
            }
        };
        match propose(control, command).await? {
            None => return Ok(()),
            Some(why) => refused = why.to_string(),
        }
    }
    let why = short(&refused);
    tracing::warn!(firing, why, "what a trigger set off becomes no run");
    // Refused only when it is over already.
    propose(control, Command::NotFired { firing, why }).await?;
    Ok(())
}

/// The command that starts the run; None: the firing is over.
async fn draw(control: &Control, firing: u64) -> Option<Result<Command, String>> {
    let asked = match control.local(|state| Asked::of(state, firing))? {
        Ok(asked) => asked,
        Err(why) => return Some(Err(why)),
    };
    let bound = match apart(move || asked.bind()).await {
        Ok(bound) => bound,
        Err(why) => return Some(Err(why)),
    };
    let ground = control.local(|state| bound.ground(state));
    let run = RunId(uuid::Uuid::now_v7());
    let drawn = apart(move || bound.draw(&ground, run)).await;
    Some(drawn.map(|start| Command::StartRun(Box::new(start))))
}

/// Thinks on a thread of its own: calls are answered, and the log is applied, meanwhile.
async fn apart<R: Send + 'static>(
    think: impl FnOnce() -> Result<R, String> + Send + 'static,
) -> Result<R, String> {
    tokio::task::spawn_blocking(think)
        .await
        .unwrap_or_else(|error| Err(format!("its plan was not drawn: {error}")))
}

/// Tells the state which times schedules have, and that some have come. The next one of all; None: there is none.
async fn keep_times(control: &Control) -> Result<Option<Timestamp>, Over> {
    loop {
        let now = control.local(|state| clock::now().max(state.now()));
        let (said, next) = control.local(|state| {
            let mut next: Option<Timestamp> = None;
            let mut said = BTreeMap::new();
            for trigger in state.triggers().armed() {
                let TriggerOn::Schedule { cron, time_zone, .. } = &trigger.declared.on else {
                    continue;
                };
                match trigger.next_at {
                    Some(at) if at > now => next = Some(next.map_or(at, |next| next.min(at))),
                    due if due.is_some() || !trigger.scheduled => {
                        said.insert(
                            trigger.id.clone(),
                            (trigger.version, due, cron.clone(), time_zone.clone()),
                        );
                    }
                    _ => {}
                }
            }
            (said, next)
        });
        if said.is_empty() {
            return Ok(next);
        }
        for (trigger, (version, due, cron, time_zone)) in said {
            let times = Times {
                next: next_time(&trigger, &cron, &time_zone, now),
                trigger,
                version,
                due,
            };
            if let Some(why) = propose(control, Command::Schedule(times)).await? {
                // Another version of the playbook came, or an earlier leader said it: it is looked at again.
                tracing::debug!(%why, "the state did not take the times of a schedule");
            }
        }
    }
}

/// The first time of a schedule behind now; None: it has none any more.
fn next_time(trigger: &TriggerId, cron: &str, time_zone: &str, now: Timestamp) -> Option<Timestamp> {
    let schedule = match Schedule::parse(cron, time_zone) {
        Ok(schedule) => schedule,
        Err(why) => {
            // It compiled when it was published: this build knows another calendar.
            tracing::error!(%trigger, why, "a schedule cannot be read");
            return None;
        }
    };
    let next = schedule.next_after(i64::try_from(now.0).ok()?)?;
    u64::try_from(next).ok().map(Timestamp)
}

/// Proposes it until it is in the log; why it was refused, if it was.
async fn propose(control: &Control, command: Command) -> Result<Option<Refusal>, Over> {
    loop {
        let envelope = Envelope {
            request: None,
            actor: Actor::Leader,
            command: command.clone(),
        };
        match control.raft().propose(envelope).await {
            Ok((_, Reply::Refused(refusal))) => return Ok(Some(refusal)),
            Ok(_) => return Ok(None),
            Err(ProposeError::Busy | ProposeError::DiskFull | ProposeError::OutcomeUnknown) => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error @ ProposeError::TooLarge { .. }) => {
                return Ok(Some(Refusal::Invalid(error.to_string())));
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Halted) => return Err(Over),
        }
    }
}

/// A reason that the state takes.
fn short(why: &str) -> String {
    let end = (0..=why.len().min(MESSAGE_BYTES_MAX))
        .rev()
        .find(|&at| why.is_char_boundary(at));
    why[..end.unwrap_or(0)].to_owned()
}
