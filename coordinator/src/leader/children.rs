//! The runs that steps of other runs begin, drawn and proposed here for as long as this node leads.
//!
//! What is wanted is in the state, so a leader that is lost between drawing a run and proposing it loses nothing, and the
//! state takes one run for each attempt, however many leaders propose one. A run that cannot be drawn, or that the state
//! refuses though it is still wanted, ends its attempt with the reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::command::TaskError;
use engine::effect::Effect;
use engine::id::{AttemptKey, RunId};
use engine::plan::child::{Asked, REFUSED, not_begun};
use engine::{Actor, Command, Envelope, Reply};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::{BUSY_PAUSE, Over};
use crate::control::Control;
use crate::raft::ProposeError;

/// Runs that are drawn at the same time: each may look at the whole fleet.
const DRAWING_MAX: usize = 2;

/// Begins runs until leadership is over.
pub(super) async fn keep(control: &Control) -> Over {
    let mut effects = control.watch();
    let mut children = Children {
        control,
        known: BTreeSet::new(),
        beginning: JoinSet::new(),
        drawing: Arc::new(Semaphore::new(DRAWING_MAX)),
    };
    children.look_at_all();
    loop {
        tokio::select! {
            received = effects.recv() => match received {
                Ok(batch) => {
                    for effect in batch.iter() {
                        if let Effect::Run(run) = effect {
                            children.look_at(*run);
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => children.look_at_all(),
                Err(RecvError::Closed) => return Over,
            },
            Some(done) = children.beginning.join_next() => match done {
                Ok((key, Ok(()))) => {
                    children.known.remove(&key);
                    // What changed while it was under way was not looked at for it.
                    children.look_at(key.task.run);
                }
                Ok((_, Err(Over))) => return Over,
                // Tried again here it would end so again: another leader tries it, or its time ends it.
                Err(error) => tracing::error!(%error, "a run that a step asks for was not begun"),
            }
        }
    }
}

/// What is under way.
struct Children<'a> {
    control: &'a Control,
    known: BTreeSet<AttemptKey>,
    beginning: JoinSet<(AttemptKey, Result<(), Over>)>,
    drawing: Arc<Semaphore>,
}

impl Children<'_> {
    fn look_at_all(&mut self) {
        let runs: Vec<RunId> = self
            .control
            .local(|state| state.active_runs().map(|run| run.id).collect());
        for run in runs {
            self.look_at(run);
        }
    }

    fn look_at(&mut self, run: RunId) {
        for call in self.control.local(|state| state.children_wanted(&run)) {
            if self.known.insert(call.key) {
                let (control, drawing) = (self.control.clone(), self.drawing.clone());
                self.beginning.spawn(async move {
                    let begun = begin(&control, &drawing, call.key).await;
                    (call.key, begun)
                });
            }
        }
    }
}

/// Begins the run of one attempt, or ends the attempt.
async fn begin(control: &Control, drawing: &Semaphore, key: AttemptKey) -> Result<(), Over> {
    let drawn = {
        let _turn = drawing.acquire().await.map_err(|_closed| Over)?;
        draw(control, key).await
    };
    let Some(command) = drawn else { return Ok(()) };
    let Some(refused) = propose(control, command).await? else {
        return Ok(());
    };
    let still = control.local(|state| {
        state
            .children_wanted(&key.task.run)
            .iter()
            .any(|call| call.key == key)
    });
    if still {
        propose(control, ended(key, REFUSED, refused)).await?;
    }
    Ok(())
}

/// What to propose for an attempt; None: it asks for nothing any more.
async fn draw(control: &Control, key: AttemptKey) -> Option<Command> {
    // Results and cancels are always taken; what is new is not (R69).
    if !control.raft().has_room_for_runs() {
        let why = "the disk of the leading coordinator is nearly full: no run is started".to_owned();
        return Some(ended(key, REFUSED, why));
    }
    let asked = match control.local(|state| Asked::of(state, key))? {
        Ok(asked) => asked,
        Err(why) => return Some(Command::Calls(vec![not_begun(key, why)])),
    };
    let bound = match apart(move || asked.bind()).await {
        Ok(bound) => bound,
        Err(why) => return Some(Command::Calls(vec![not_begun(key, why)])),
    };
    let ground = control.local(|state| bound.ground(state));
    let run = RunId(uuid::Uuid::now_v7());
    Some(match apart(move || bound.draw(&ground, run)).await {
        Ok(child) => Command::StartChild(Box::new(child)),
        Err(why) => Command::Calls(vec![not_begun(key, why)]),
    })
}

/// Thinks on a thread of its own: calls are answered, and the log is applied, meanwhile.
async fn apart<R: Send + 'static>(
    think: impl FnOnce() -> Result<R, TaskError> + Send + 'static,
) -> Result<R, TaskError> {
    tokio::task::spawn_blocking(think).await.unwrap_or_else(|error| {
        Err(TaskError {
            code: REFUSED.into(),
            message: format!("its plan was not drawn: {error}"),
        })
    })
}

fn ended(key: AttemptKey, code: &str, message: String) -> Command {
    let why = TaskError {
        code: code.into(),
        message,
    };
    Command::Calls(vec![not_begun(key, why)])
}

/// Proposes it until it is in the log; why it was refused, if it was.
async fn propose(control: &Control, command: Command) -> Result<Option<String>, Over> {
    loop {
        let envelope = Envelope {
            request: None,
            actor: Actor::Leader,
            command: command.clone(),
        };
        match control.raft().propose(envelope).await {
            Ok((_, Reply::Refused(refusal))) => return Ok(Some(refusal.to_string())),
            Ok(_) => return Ok(None),
            Err(ProposeError::Busy | ProposeError::DiskFull | ProposeError::OutcomeUnknown) => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error @ ProposeError::TooLarge { .. }) => return Ok(Some(error.to_string())),
            Err(ProposeError::NotLeader { .. } | ProposeError::Halted) => return Err(Over),
        }
    }
}
