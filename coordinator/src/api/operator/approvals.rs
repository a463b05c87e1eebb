//! What waits for people, and their answers. The types of a form are checked here; who may answer what is checked in
//! the apply of the answer, where nothing can come between.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::command::{GiveAnswer, Said};
use engine::effect::Effect;
use engine::id::{ApprovalId, RunId};
use engine::{Command, State};
use futures::StreamExt;
use futures::stream::BoxStream;
use playbook::manifest::Kind;
use proto::v1;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::{Operators, fill, not_found, page, parse};
use crate::api::convert::{self, Detail};
use crate::api::error::ApiError;
use crate::control::Control;

/// Changes that one look at the state tells a watcher about. More are told at the next.
const CHANGES_MAX: usize = 1_000;

impl Operators {
    pub(super) async fn list_approvals(
        &self,
        _: String,
        asked: v1::ListApprovalsRequest,
    ) -> Result<v1::ListApprovalsReply, ApiError> {
        let run: Option<RunId> = match asked.run_id.as_str() {
            "" => None,
            id => Some(parse("run_id", id)?),
        };
        let before = ApprovalId(match asked.before_id {
            0 => u64::MAX,
            id => id,
        });
        let (approvals, is_more) = self
            .control
            .query(|state| {
                let wanted = state
                    .approvals_before(before)
                    .filter(|approval| asked.all || !approval.status.is_end())
                    .filter(|approval| run.is_none_or(|run| approval.run == run));
                let told = wanted.map(|approval| convert::approval(state, approval, Detail::Listed));
                fill(told, page(asked.limit), |_| 512)
            })
            .await?;
        let last = approvals.last().filter(|_| is_more);
        Ok(v1::ListApprovalsReply {
            next_before_id: last.map_or(0, |approval| approval.id),
            approvals,
        })
    }

    pub(super) async fn get_approval(
        &self,
        _: String,
        asked: v1::GetApprovalRequest,
    ) -> Result<v1::Approval, ApiError> {
        self.told(ApprovalId(asked.id)).await
    }

    pub(super) async fn answer_approval(
        &self,
        operator: String,
        asked: v1::AnswerApprovalRequest,
    ) -> Result<v1::Approval, ApiError> {
        let approval = ApprovalId(asked.id);
        let said = match asked.verdict.as_str() {
            "approve" => Said::Approve,
            "deny" => Said::Deny,
            "answer" => Said::Fill(self.filled_in(approval, &asked.output_json).await?),
            other => {
                return Err(ApiError::Invalid {
                    field: "verdict",
                    problem: format!("{other:?} is not approve, deny or answer"),
                });
            }
        };
        let command = Command::Answer(Box::new(GiveAnswer {
            approval,
            binding: parse("binding", &asked.binding)?,
            said,
            reason: asked.reason,
        }));
        self.submit(operator, &asked.request_id, command).await?;
        self.told(approval).await
    }

    async fn told(&self, id: ApprovalId) -> Result<v1::Approval, ApiError> {
        let told = self.control.query(|state| {
            state
                .approval(id)
                .map(|approval| convert::approval(state, approval, Detail::Full))
        });
        told.await?.ok_or_else(|| not_found("approval", id))
    }

    /// What a form holds once this is filled in, checked against its types.
    async fn filled_in(&self, id: ApprovalId, output_json: &str) -> Result<Value, ApiError> {
        let given: Value = match output_json {
            "" => Value::Object(serde_json::Map::new()),
            text => serde_json::from_str(text).map_err(|error| ApiError::Invalid {
                field: "output_json",
                problem: error.to_string(),
            })?,
        };
        let asked = self.control.query(|state| {
            let approval = state.approval(id)?;
            let run = state.run(&approval.run)?;
            let form = match &run.declared(approval.step).kind {
                Kind::Ask { form, .. } => form.clone(),
                _ => BTreeMap::new(),
            };
            let defaults = approval
                .question
                .as_ref()
                .map(|question| question.defaults.clone());
            Some((form, defaults))
        });
        let (form, defaults) = asked.await?.ok_or_else(|| not_found("approval", id))?;
        // A gate has no form: the state says that it takes no answer of this kind.
        let Some(defaults) = defaults else {
            return Ok(given);
        };
        let defaults: Value = serde_json::from_str(&defaults)
            .map_err(|error| ApiError::Internal(format!("the defaults of approval {id}: {error}")))?;
        playbook::bind_form(&form, &defaults, &given).map_err(|problems| ApiError::Form(problems.to_string()))
    }

    pub(super) async fn watch_approvals(
        &self,
    ) -> Result<BoxStream<'static, Result<v1::Approval, Status>>, ApiError> {
        // Before the first look, so that no change falls between.
        let effects = self.control.watch();
        let waiting = self.control.query(waiting).await?;
        let watch = Watch {
            control: self.control.clone(),
            effects,
            told: waiting.iter().map(|(id, mark, _)| (*id, *mark)).collect(),
            queue: waiting.into_iter().map(|(_, _, approval)| approval).collect(),
        };
        Ok(futures::stream::unfold(watch, |mut watch| async move {
            watch.next().await.map(|approval| (Ok(approval), watch))
        })
        .boxed())
    }
}

/// What differs when there is news about an approval.
type Mark = (bool, u32, bool, engine::id::Digest);

fn mark(approval: &engine::state::Approval) -> Mark {
    (
        approval.status.is_end(),
        approval.answers.len() as u32,
        approval.escalated,
        approval.binding,
    )
}

/// Everything that waits, the oldest first.
fn waiting(state: &State) -> Vec<(ApprovalId, Mark, v1::Approval)> {
    let mut all: Vec<_> = state
        .approvals_newest_first()
        .filter(|approval| !approval.status.is_end())
        .take(CHANGES_MAX)
        .map(|a| (a.id, mark(a), convert::approval(state, a, Detail::Listed)))
        .collect();
    all.reverse();
    all
}

struct Watch {
    control: Control,
    effects: Receiver<Arc<Vec<Effect>>>,
    /// What was last told of each that waits.
    told: BTreeMap<ApprovalId, Mark>,
    queue: std::collections::VecDeque<v1::Approval>,
}

impl Watch {
    async fn next(&mut self) -> Option<v1::Approval> {
        loop {
            if let Some(approval) = self.queue.pop_front() {
                return Some(approval);
            }
            match self.effects.recv().await {
                Ok(effects) if !effects.contains(&Effect::Approvals) => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
            self.look();
        }
    }

    /// Notes what has changed since the last look: what waits, and what waited.
    fn look(&mut self) {
        let told = &mut self.told;
        let queue = &mut self.queue;
        self.control.local(|state| {
            let ended: Vec<ApprovalId> = told
                .keys()
                .copied()
                .filter(|id| {
                    state
                        .approval(*id)
                        .is_none_or(|approval| approval.status.is_end())
                })
                .collect();
            for id in ended {
                told.remove(&id);
                queue.extend(
                    state
                        .approval(id)
                        .map(|a| convert::approval(state, a, Detail::Listed)),
                );
            }
            for (id, mark, approval) in waiting(state) {
                if told.get(&id) != Some(&mark) {
                    told.insert(id, mark);
                    queue.push_back(approval);
                }
            }
        });
    }
}
