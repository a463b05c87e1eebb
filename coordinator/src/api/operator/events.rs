//! Events of other systems: checked here, weighed against what listens, then committed.

use engine::events::{Event, Matched, Source, read, weigh};
use engine::id::RequestId;
use engine::limits::EVENTS_MAX;
use engine::{Actor, Command, Envelope, Refusal, Reply};
use proto::v1;

use super::plans::apart;
use super::{Operators, request};
use crate::api::error::ApiError;
use crate::clock;

/// How often events are weighed again because something else began to listen meanwhile.
const WEIGHED_MAX: usize = 20;

impl Operators {
    pub(super) async fn send_events(
        &self,
        operator: String,
        asked: v1::SendEventsRequest,
    ) -> Result<v1::SendEventsReply, ApiError> {
        if asked.events.len() > EVENTS_MAX {
            return Err(ApiError::Invalid {
                field: "events",
                problem: format!(
                    "{} events, of at most {EVENTS_MAX} in one request",
                    asked.events.len()
                ),
            });
        }
        // Without an id of the sender's, a proposal whose answer is lost is still made once.
        let id = request(&asked.request_id)?.unwrap_or_else(|| RequestId(uuid::Uuid::now_v7()));
        let read = apart(move || Ok(read_all(&asked))).await?;
        let good: Vec<Event> = read
            .iter()
            .filter_map(|event| event.as_ref().ok())
            .cloned()
            .collect();
        let (matched, came) = self.take(operator, id, good).await?;
        let mut matched = matched.into_iter();
        let events = read.into_iter().map(|event| match event {
            Err(problem) => v1::EventTaken {
                problem,
                ..v1::EventTaken::default()
            },
            Ok(_) => taken(matched.next().unwrap_or_default()),
        });
        Ok(v1::SendEventsReply {
            events: events.collect(),
            ..came
        })
    }

    /// Weighs events and commits what came of it, until nothing else has begun to listen in between.
    pub(super) async fn take(
        &self,
        operator: String,
        id: RequestId,
        events: Vec<Event>,
    ) -> Result<(Vec<Matched>, v1::SendEventsReply), ApiError> {
        let mut came = v1::SendEventsReply::default();
        for _ in 0..WEIGHED_MAX {
            let (weighed, before) = self
                .control
                .query(|state| {
                    let before = state.answer_to(&id).cloned();
                    (weigh(state, clock::now(), &events), before)
                })
                .await?;
            let seen: u32 = weighed.matched.iter().map(|matched| matched.deduplicated).sum();
            let Some(command) = weighed.command else {
                return Ok((weighed.matched, came));
            };
            let reply = match before {
                // It was taken; only the answer was lost.
                Some(reply) => reply,
                None => {
                    let envelope = Envelope {
                        request: Some(id),
                        actor: Actor::Operator(operator.clone()),
                        command: Command::Events(Box::new(command)),
                    };
                    self.control.submit(envelope).await?.1
                }
            };
            match reply {
                Reply::Events {
                    fired,
                    deduplicated,
                    heard,
                } => {
                    (came.fired, came.deduplicated, came.heard) = (fired, deduplicated.max(seen), heard);
                    return Ok((weighed.matched, came));
                }
                Reply::Refused(Refusal::Stale | Refusal::RequestReused) => {}
                Reply::Refused(refusal) => return Err(refusal.into()),
                other => return Err(ApiError::Internal(format!("events were taken with {other:?}"))),
            }
        }
        Err(Refusal::Full("what listens to events changes without a pause".to_owned()).into())
    }
}

/// Checks each; of those that are not taken, why.
fn read_all(asked: &v1::SendEventsRequest) -> Vec<Result<Event, String>> {
    let class = Some(asked.class.as_str()).filter(|class| !class.is_empty());
    let webhook = Some(asked.webhook.as_str()).filter(|name| !name.is_empty());
    let texts = asked.events.iter();
    texts
        .map(|text| match webhook {
            Some(name) => engine::events::read_any(text, Source::Webhook(name.to_owned())),
            None => read(text, class),
        })
        .map(|event| event.map_err(|problem| problem.to_string()))
        .collect()
}

pub(super) fn taken(matched: Matched) -> v1::EventTaken {
    v1::EventTaken {
        problem: String::new(),
        triggers: matched.triggers,
        waits: matched.waits,
        notes: matched.problems,
    }
}
