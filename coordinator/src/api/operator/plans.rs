//! Plans: compiled, bound, resolved and frozen over a copy of the state, away from the threads that answer.

use std::collections::BTreeSet;

use engine::id::RequestId;
use engine::plan::{Ground, Plan, PlanError, draw};
use engine::{Refusal, Reply};
use playbook::manifest::Manifest;
use proto::v1;
use serde_json::{Value, json};

use super::Operators;
use crate::api::error::ApiError;
use crate::api::plan;

/// A plan, and what the compiler has to say.
pub(super) struct Drawn {
    pub plan: Plan,
    pub compile_warnings: Vec<String>,
}

/// A playbook and its inputs, before the cluster is looked at.
struct Bound {
    manifest: Manifest,
    warnings: Vec<String>,
    inputs: Value,
    /// The cluster's named constants; the state records none yet.
    config: Value,
}

impl Operators {
    pub(super) async fn plan_run(
        &self,
        operator: String,
        asked: v1::PlanRunRequest,
    ) -> Result<v1::Plan, ApiError> {
        let drawn = self
            .draw(operator, asked.playbook_yaml, asked.inputs_json, None)
            .await?;
        Ok(plan::plan(&drawn.plan, drawn.compile_warnings))
    }

    /// What a run would do, over the state as it is at the call or later. `request`: the one that is to start it; if it
    /// has, its own run is not in its way.
    pub(super) async fn draw(
        &self,
        operator: String,
        playbook_yaml: String,
        inputs_json: String,
        request: Option<RequestId>,
    ) -> Result<Drawn, ApiError> {
        let _turn = self
            .drawing
            .acquire()
            .await
            .map_err(|closed| ApiError::Internal(format!("no plan is drawn: {closed}")))?;
        let (bound, named) = apart(move || {
            let bound = bind(&playbook_yaml, &inputs_json)?;
            let named = playbook::named_hosts(&bound.manifest, &bound.inputs, &bound.config);
            Ok((bound, named))
        })
        .await?;
        let ground = self
            .control
            .query(|state| {
                let started = match request.and_then(|request| state.answer_to(&request)) {
                    Some(Reply::RunStarted { run }) => BTreeSet::from([*run]),
                    _ => BTreeSet::new(),
                };
                Ground::of(state, named.as_ref(), &started).with_playbooks(state, &bound.manifest)
            })
            .await?;
        apart(move || {
            let plan =
                draw(bound.manifest, bound.inputs, bound.config, &ground, &operator).map_err(refused)?;
            Ok(Drawn {
                plan,
                compile_warnings: bound.warnings,
            })
        })
        .await
    }
}

/// Thinks on a thread of its own: calls are answered, and the log is applied, meanwhile.
pub(super) async fn apart<R: Send + 'static>(
    think: impl FnOnce() -> Result<R, ApiError> + Send + 'static,
) -> Result<R, ApiError> {
    tokio::task::spawn_blocking(think)
        .await
        .map_err(|error| ApiError::Internal(format!("it was not thought through: {error}")))?
}

fn bind(playbook_yaml: &str, inputs_json: &str) -> Result<Bound, ApiError> {
    let compiled =
        playbook::compile(playbook_yaml).map_err(|problems| ApiError::Playbook(problems.to_string()))?;
    let given: Value = match inputs_json {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(|error| ApiError::Invalid {
            field: "inputs_json",
            problem: error.to_string(),
        })?,
    };
    let inputs = playbook::bind_inputs(&compiled.manifest, &given)
        .map_err(|problems| ApiError::Playbook(problems.to_string()))?;
    Ok(Bound {
        manifest: compiled.manifest,
        warnings: compiled.warnings.iter().map(ToString::to_string).collect(),
        inputs,
        config: json!({}),
    })
}

fn refused(error: PlanError) -> ApiError {
    match error {
        PlanError::Targets(problems) => ApiError::Playbook(problems.to_string()),
        PlanError::FactsDecide { .. } => ApiError::FactsDecide(error),
        PlanError::Limits { .. } => ApiError::Playbook(error.to_string()),
        PlanError::AllHeld { .. } => ApiError::Refused(Refusal::State(error.to_string())),
    }
}
