//! Runs: compiled, bound, resolved and frozen here, then committed.

use std::collections::{BTreeMap, BTreeSet};

use engine::command::StartRun;
use engine::id::{AgentId, Digest, RunId};
use engine::{Command, Reply, State};
use playbook::manifest::{Kind, Manifest, Over, TargetSource};
use proto::v1;
use serde_json::{Value, json};

use super::{Operators, fill, not_found, page, parse};
use crate::api::convert::{self, Detail};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn start_run(
        &self,
        operator: String,
        asked: v1::StartRunRequest,
    ) -> Result<v1::StartRunReply, ApiError> {
        // Results, cancels and releases are always taken (R69).
        if !self.control.raft().has_room_for_runs() {
            return Err(self.control.disk_full(self.control.node()).into());
        }
        let compiled = playbook::compile(&asked.playbook_yaml)
            .map_err(|problems| ApiError::Playbook(problems.to_string()))?;
        let manifest = compiled.manifest;
        playbook::runnable(&manifest).map_err(|problems| ApiError::Playbook(problems.to_string()))?;
        let given: Value = match asked.inputs_json.as_str() {
            "" => json!({}),
            text => serde_json::from_str(text).map_err(|error| ApiError::Invalid {
                field: "inputs_json",
                problem: error.to_string(),
            })?,
        };
        let inputs = playbook::bind_inputs(&manifest, &given)
            .map_err(|problems| ApiError::Playbook(problems.to_string()))?;
        // The cluster's named constants; the state records none yet.
        let config = json!({});
        let targets = self.resolve(&manifest, &inputs, &config).await?;
        let mut warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(self.control.local(|state| offline_warning(state, &targets)));
        let manifest_hash: Digest = parse("manifest", &manifest.sha256())?;
        let command = Command::StartRun(Box::new(StartRun {
            run: RunId(uuid::Uuid::now_v7()),
            manifest_hash,
            manifest,
            inputs,
            targets,
            config,
        }));
        let run = match self.submit(operator, &asked.request_id, command).await? {
            Reply::RunStarted { run } => run,
            other => return Err(ApiError::Internal(format!("a run was started with {other:?}"))),
        };
        // A repeated request is answered with the first one's run, whatever was resolved this time.
        let started = self
            .control
            .query(|state| {
                state
                    .run(&run)
                    .map(|run| (run.manifest_hash, convert::targets(run)))
            })
            .await?;
        let (manifest_hash, targets) = started.ok_or_else(|| not_found("run", run))?;
        Ok(v1::StartRunReply {
            run_id: run.to_string(),
            manifest_sha256: manifest_hash.to_string(),
            targets,
            warnings,
        })
    }

    /// Resolves the target sets. What decides where something above `collect` is done is resolved without
    /// what agents report of themselves, so that no host can choose to be in it (R23).
    async fn resolve(
        &self,
        manifest: &Manifest,
        inputs: &Value,
        config: &Value,
    ) -> Result<BTreeMap<String, Vec<AgentId>>, ApiError> {
        let guarded = guarded_sets(manifest)?;
        // Evaluated outside of the state's lock, over what it holds now.
        let selects = manifest
            .targets
            .values()
            .any(|set| matches!(set.source, TargetSource::Select(_)));
        let values = |state: &State| (agent_values(state, selects), agent_values(state, false));
        let (agents, agents_unreported) = self.control.query(values).await?;
        let mut resolved = BTreeMap::new();
        for (is_guarded, agents) in [(false, agents), (true, agents_unreported)] {
            let mut part = manifest.clone();
            part.targets
                .retain(|name, _| guarded.contains(name) == is_guarded);
            if part.targets.is_empty() {
                continue;
            }
            let sets = playbook::resolve_targets(&part, inputs, config, &agents)
                .map_err(|problems| ApiError::Playbook(problems.to_string()))?;
            for (name, hosts) in sets {
                let mut hosts = hosts
                    .iter()
                    .map(|id| parse("targets", id))
                    .collect::<Result<Vec<AgentId>, _>>()?;
                hosts.sort_unstable();
                hosts.dedup();
                resolved.insert(name, hosts);
            }
        }
        Ok(resolved)
    }

    pub(super) async fn list_runs(
        &self,
        _: String,
        asked: v1::ListRunsRequest,
    ) -> Result<v1::ListRunsReply, ApiError> {
        let before: Option<RunId> = match asked.before_id.as_str() {
            "" => None,
            id => Some(parse("before_id", id)?),
        };
        let (runs, is_more) = self
            .control
            .query(|state| {
                let runs: Box<dyn Iterator<Item = _>> = match &before {
                    None => Box::new(state.runs_newest_first()),
                    Some(before) => Box::new(state.runs_before(before)),
                };
                let runs = runs.filter(|run| !asked.active_only || !run.status.is_end());
                let runs = runs.map(|run| convert::run(state, run, Detail::Listed));
                fill(runs, page(asked.limit), |run| 512 + 256 * run.steps.len())
            })
            .await?;
        let last = runs.last().filter(|_| is_more);
        Ok(v1::ListRunsReply {
            next_before_id: last.map(|run| run.id.clone()).unwrap_or_default(),
            runs,
        })
    }

    pub(super) async fn get_run(&self, _: String, asked: v1::GetRunRequest) -> Result<v1::Run, ApiError> {
        let id: RunId = parse("id", &asked.id)?;
        let found = self
            .control
            .query(|state| state.run(&id).map(|run| convert::run(state, run, Detail::Full)))
            .await?;
        found.ok_or_else(|| not_found("run", id))
    }

    pub(super) async fn list_tasks(
        &self,
        _: String,
        asked: v1::ListTasksRequest,
    ) -> Result<v1::ListTasksReply, ApiError> {
        let id: RunId = parse("run_id", &asked.run_id)?;
        let reply = self.control.query(|state| {
            let run = state.run(&id).ok_or_else(|| not_found("run", id))?;
            let steps = match asked.step.as_str() {
                "" => 0..run.steps.len() as u16,
                name => {
                    let number = run.step_number(name).ok_or_else(|| not_found("step", name))?;
                    number..number + 1
                }
            };
            // `after` counts tasks over all the steps that are asked for.
            let tasks = steps
                .flat_map(|step| state.tasks(&id, step, 0))
                .skip(asked.after as usize);
            let weigh = |task: &v1::Task| {
                256 + task.output_json.len() + task.error_message.len() + task.item_json.len()
            };
            let (tasks, is_more) = fill(tasks.map(|task| convert::task(&task)), page(asked.limit), weigh);
            let next_after = if is_more {
                asked.after + tasks.len() as u32
            } else {
                0
            };
            Ok(v1::ListTasksReply { tasks, next_after })
        });
        reply.await?
    }
}

/// The selected sets over which an action above `collect` goes. One that reads facts is refused, with
/// the step for which that matters.
fn guarded_sets(manifest: &Manifest) -> Result<BTreeSet<String>, ApiError> {
    let mut guarded = BTreeSet::new();
    for step in manifest.steps.iter().chain(&manifest.finally) {
        let Kind::Do { action, .. } = &step.kind else {
            continue;
        };
        let impact = catalogue::find(action).map_or(catalogue::Impact::Configure, |action| action.impact);
        let set = match &step.over {
            Over::Targets(set) => set,
            Over::ForEach { host: Some(host), .. } => &host.within,
            Over::ForEach { host: None, .. } | Over::Once => continue,
        };
        let Some(TargetSource::Select(select)) = manifest.targets.get(set).map(|set| &set.source) else {
            continue;
        };
        if impact <= catalogue::Impact::Collect {
            continue;
        }
        if playbook::reads_facts(select) {
            return Err(ApiError::FactsDecide {
                set: set.clone(),
                step: step.name.clone(),
                action: action.clone(),
                impact: impact.as_str(),
            });
        }
        guarded.insert(set.clone());
    }
    Ok(guarded)
}

/// The agents as expressions see them; revoked ones are no targets.
fn agent_values(state: &State, with_reported: bool) -> Vec<Value> {
    let value = |agent: &engine::state::agents::Agent| {
        let mut value = json!({"id": agent.id, "online": agent.is_online(), "labels": agent.labels});
        if with_reported {
            let facts: Value = serde_json::from_str(&agent.facts).unwrap_or_else(|_| json!({}));
            value["facts"] = facts;
            value["version"] = json!(agent.version);
        }
        value
    };
    state
        .agents()
        .filter(|agent| agent.revoked.is_none())
        .map(value)
        .collect()
}

fn offline_warning(state: &State, targets: &BTreeMap<String, Vec<AgentId>>) -> Option<String> {
    let hosts: BTreeSet<&AgentId> = targets.values().flatten().collect();
    let offline: Vec<_> = hosts
        .into_iter()
        .filter(|host| {
            !state
                .agent(host)
                .is_some_and(engine::state::agents::Agent::is_online)
        })
        .map(AgentId::as_str)
        .collect();
    let named = offline.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    let more = if offline.len() > 10 { ", ..." } else { "" };
    (!offline.is_empty()).then(|| format!("{} of the targets are offline: {named}{more}", offline.len()))
}
