//! Plans in the words of the wire.

use std::collections::BTreeMap;

use engine::plan::{Plan, PlannedGate, PlannedHost, PlannedStep};
use playbook::manifest::OnExpiry;
use proto::v1;

/// A plan, with what the compiler had to say before its own warnings.
pub fn plan(plan: &Plan, mut warnings: Vec<String>) -> v1::Plan {
    let places: BTreeMap<_, u32> = plan.hosts.iter().map(|host| &host.id).zip(0..).collect();
    let set = |(name, hosts): (&String, &Vec<engine::id::AgentId>)| v1::PlannedSet {
        name: name.clone(),
        hosts: hosts.iter().filter_map(|id| places.get(id).copied()).collect(),
    };
    warnings.extend(plan.warnings.iter().cloned());
    v1::Plan {
        sha256: plan.hash.to_string(),
        playbook: plan.manifest.playbook.clone(),
        version: plan.manifest.version,
        manifest_sha256: plan.manifest_hash.to_string(),
        inputs_json: plan.inputs.to_string(),
        fleet: whole(plan.fleet),
        hosts: plan.hosts.iter().map(host).collect(),
        targets: plan.targets.iter().map(set).collect(),
        steps: plan.steps.iter().map(step).collect(),
        above_observe: plan.above_observe(),
        warnings,
    }
}

fn host(host: &PlannedHost) -> v1::PlannedHost {
    v1::PlannedHost {
        agent_id: host.id.to_string(),
        online: host.is_online,
        critical: host.is_critical,
        touched: host.is_touched,
    }
}

fn step(step: &PlannedStep) -> v1::PlannedStep {
    v1::PlannedStep {
        name: step.name.clone(),
        finally: step.is_finally,
        kind: step.kind.into(),
        action: step.action.clone(),
        impact: step.impact.map_or("", |impact| impact.as_str()).into(),
        runs_on: step.runs_on.map_or("", |place| place.as_str()).into(),
        target_set: step.set.clone(),
        tasks: step.tasks.map(whole),
        when: step.when.clone().unwrap_or_default(),
        parameters_json: step.parameters.to_string(),
        gate: step.gate.as_ref().map(gate),
        undo: step.undo.as_str().into(),
        undo_action: step.undo.action().unwrap_or_default().into(),
        starts: step.starts.as_ref().map(|starts| v1::PlannedRun {
            playbook: starts.playbook.clone(),
            version: starts.version.unwrap_or_default(),
            found: starts.found.unwrap_or_default(),
            wait: starts.wait,
        }),
    }
}

fn gate(gate: &PlannedGate) -> v1::PlannedGate {
    v1::PlannedGate {
        question: gate.is_question,
        when: gate.when.clone().unwrap_or_default(),
        waits: gate.waits.map(whole),
        of: gate.of.map(whole),
        roles: gate.roles.clone(),
        quorum: gate.quorum,
        why: gate.why.clone().unwrap_or_default(),
        expires_ms: gate.expires_ms,
        on_expiry: match gate.on_expiry {
            OnExpiry::Reject => "reject",
            OnExpiry::Escalate => "escalate",
        }
        .into(),
        escalate_to: gate.escalate_to.clone(),
        not_requester: gate.not_requester,
        people: gate.people.clone(),
        people_later: gate.people_later.clone(),
    }
}

/// A number of hosts or tasks, which the engine bounds far below.
fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
