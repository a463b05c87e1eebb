//! The JSON shapes of the wire's messages: stable, snake_case, described in `docs/cli.md`.
//!
//! Moments are milliseconds since the epoch (`_ms`, 0: never). What the cluster keeps as JSON text is
//! given as JSON.

use proto::v1;
use serde_json::{Value, json};

/// JSON text as a value; text that is none stays text, and nothing is null.
pub fn parsed(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

pub fn status(status: &v1::StatusReply) -> Value {
    json!({
        "cluster_id": status.cluster_id, "trust_domain": status.trust_domain, "node_id": status.node_id,
        "leader_id": status.leader_id, "term": status.term, "applied_index": status.applied_index,
        "agents_total": status.agents_total, "agents_online": status.agents_online,
        "runs_active": status.runs_active, "version": status.version, "operator_id": status.operator_id,
    })
}

pub fn agent(agent: &v1::Agent) -> Value {
    json!({
        "id": agent.id, "online": agent.online, "node_id": agent.node_id, "labels": agent.labels,
        "facts": parsed(&agent.facts_json), "version": agent.version, "enrolled_at_ms": agent.enrolled_at_ms,
        "last_attached_ms": agent.last_attached_ms, "key_sha256": agent.key_sha256,
        "tasks_open": agent.tasks_open, "alarm": agent.alarm, "revoked": agent.revoked,
    })
}

pub fn token(token: &v1::EnrollToken) -> Value {
    json!({
        "id": token.id, "uses": token.uses, "used": token.used, "expires_at_ms": token.expires_at_ms,
        "labels": token.labels, "revoked": token.revoked, "created_by": token.created_by,
    })
}

pub fn run(run: &v1::Run) -> Value {
    json!({
        "id": run.id, "playbook": run.playbook, "version": run.version, "status": run.status,
        "requester": run.requester, "created_at_ms": run.created_at_ms, "ended_at_ms": run.ended_at_ms,
        "reason": run.reason, "rollback": run.rollback, "not_undone": run.not_undone, "revision": run.revision, "manifest_sha256": run.manifest_sha256,
        "plan_sha256": run.plan_sha256,
        "inputs": parsed(&run.inputs_json), "outputs": parsed(&run.outputs_json),
        "targets": targets(&run.targets), "steps": run.steps.iter().map(step).collect::<Vec<_>>(),
        "waits": run.waits.iter().map(approval).collect::<Vec<_>>(),
        "trigger": run.trigger.as_ref().map(|by| json!({
            "id": by.trigger_id, "at_ms": by.at_ms, "sha256": by.sha256, "text": by.text,
        })),
        "event": parsed(&run.event_json), "group": parsed(&run.group_json),
        "parent": run.parent.as_ref().map(parent),
        "children": run.children.iter().map(child).collect::<Vec<_>>(), "children_total": run.children_total,
    })
}

fn parent(parent: &v1::ParentRun) -> Value {
    json!({
        "run_id": parent.run_id, "step": parent.step, "item": parent.item, "attempt": parent.attempt,
        "depth": parent.depth,
    })
}

fn child(child: &v1::ChildRun) -> Value {
    json!({
        "run_id": child.run_id, "step": child.step, "item": child.item, "attempt": child.attempt,
        "playbook": child.playbook, "version": child.version, "status": child.status,
    })
}

pub fn undo(undo: &v1::Undo) -> Value {
    let task = |task: &v1::UndoTask| {
        json!({
            "item": task.item, "agent_id": task.agent_id, "parameters": parsed(&task.parameters_json),
            "problem": task.problem, "unknown": task.unknown,
        })
    };
    json!({
        "step": undo.step, "action": undo.action, "roles": undo.roles, "tasks_total": undo.tasks_total,
        "tasks": undo.tasks.iter().map(task).collect::<Vec<_>>(),
    })
}

pub fn targets(sets: &[v1::TargetSet]) -> Value {
    sets.iter()
        .map(|set| json!({ "name": set.name, "agent_ids": set.agent_ids }))
        .collect()
}

pub fn plan(plan: &v1::Plan) -> Value {
    let ids = |holds: fn(&v1::PlannedHost) -> bool| -> Vec<&str> {
        let hosts = plan.hosts.iter().filter(|host| holds(host));
        hosts.map(|host| host.agent_id.as_str()).collect()
    };
    let targets: Vec<Value> = plan
        .targets
        .iter()
        .map(|set| {
            let ids: Vec<&str> = hosts_of(plan, set).map(|host| host.agent_id.as_str()).collect();
            json!({ "name": set.name, "agent_ids": ids })
        })
        .collect();
    json!({
        "plan_sha256": plan.sha256, "playbook": plan.playbook, "version": plan.version,
        "manifest_sha256": plan.manifest_sha256, "inputs": parsed(&plan.inputs_json), "fleet": plan.fleet,
        "targets": targets, "offline": ids(|host| !host.online), "critical": ids(|host| host.critical),
        "touched": ids(|host| host.touched), "above_observe": plan.above_observe,
        "steps": plan.steps.iter().map(planned_step).collect::<Vec<_>>(), "warnings": plan.warnings,
    })
}

/// The hosts of one of a plan's sets.
pub fn hosts_of<'a>(
    plan: &'a v1::Plan,
    set: &'a v1::PlannedSet,
) -> impl Iterator<Item = &'a v1::PlannedHost> {
    set.hosts.iter().filter_map(|&at| plan.hosts.get(at as usize))
}

fn planned_step(step: &v1::PlannedStep) -> Value {
    json!({
        "name": step.name, "finally": step.finally, "kind": step.kind, "action": step.action,
        "impact": step.impact, "runs_on": step.runs_on, "target_set": step.target_set, "tasks": step.tasks,
        "when": step.when, "parameters": parsed(&step.parameters_json),
        "gate": step.gate.as_ref().map(planned_gate), "undo": step.undo, "undo_action": step.undo_action,
        "starts": step.starts.as_ref().map(|starts| json!({
            "playbook": starts.playbook, "version": starts.version, "found": starts.found, "wait": starts.wait,
        })),
    })
}

fn planned_gate(gate: &v1::PlannedGate) -> Value {
    json!({
        "kind": if gate.question { "question" } else { "gate" }, "when": gate.when, "waits": gate.waits,
        "of": gate.of, "roles": gate.roles, "quorum": gate.quorum, "why": gate.why,
        "expires_ms": gate.expires_ms, "on_expiry": gate.on_expiry, "escalate_to": gate.escalate_to,
        "not_requester": gate.not_requester, "people": gate.people, "people_later": gate.people_later,
    })
}

fn step(step: &v1::Step) -> Value {
    let counts = step.tasks.unwrap_or_default();
    json!({
        "name": step.name, "kind": step.kind, "action": step.action, "status": step.status,
        "reason": step.reason, "finally": step.finally, "about": step.about, "output": parsed(&step.output_json),
        "started_at_ms": step.started_at_ms, "ended_at_ms": step.ended_at_ms,
        "tasks": {
            "total": counts.total, "waiting": counts.waiting, "gated": counts.gated, "running": counts.running,
            "succeeded": counts.succeeded, "failed": counts.failed, "skipped": counts.skipped,
            "cancelled": counts.cancelled, "expired": counts.expired, "unknown": counts.unknown,
        },
    })
}

pub fn task(task: &v1::Task) -> Value {
    let error = match task.error_code.as_str() {
        "" => Value::Null,
        code => json!({ "code": code, "message": task.error_message }),
    };
    json!({
        "step": task.step, "item": task.item, "item_value": parsed(&task.item_json), "agent_id": task.agent_id,
        "action": task.action, "impact": task.impact, "status": task.status, "attempts": task.attempts,
        "token": task.token, "output": parsed(&task.output_json), "error": error,
        "started_at_ms": task.started_at_ms, "ended_at_ms": task.ended_at_ms, "run_ids": task.run_ids,
    })
}

pub fn evidence(record: &v1::EvidenceRecord) -> Value {
    json!({
        "sha256": record.sha256, "size_bytes": record.size_bytes, "agent_id": record.agent_id,
        "path": record.path, "path_hex": hex::encode(&record.path_bytes), "run_id": record.run_id,
        "step": record.step, "item": record.item, "collected_at_ms": record.collected_at_ms,
        "changed_during_read": record.changed_during_read, "nodes": record.nodes, "operator": record.operator,
        "submission": record.submission, "media": record.media,
    })
}

pub fn copy(copy: &v1::EvidenceCopy) -> Value {
    json!({
        "node_id": copy.node_id, "present": copy.present, "verified": copy.verified, "problem": copy.problem,
    })
}

pub fn member(member: &v1::Member) -> Value {
    json!({
        "node_id": member.node_id, "raft_id": member.raft_id, "peer_endpoint": member.peer_endpoint,
        "role": member.role, "matched_index": member.matched_index, "applied_index": member.applied_index,
        "state_hash": member.state_hash, "self": member.self_,
    })
}

pub fn audit(record: &v1::AuditRecord) -> Value {
    json!({
        "sequence": record.sequence, "index": record.index, "at_ms": record.at_ms, "actor": record.actor,
        "verb": record.verb, "subject": record.subject, "detail": parsed(&record.detail_json), "hash": record.hash,
    })
}

pub fn approval(approval: &v1::Approval) -> Value {
    let answer = |answer: &v1::ApprovalAnswer| {
        json!({
            "operator_id": answer.operator_id, "role": answer.role, "yes": answer.yes, "reason": answer.reason,
            "at_ms": answer.at_ms,
        })
    };
    let task = |task: &v1::ApprovalTask| {
        json!({
            "item": task.item, "agent_id": task.agent_id, "item_value": parsed(&task.item_json),
            "parameters": parsed(&task.parameters_json), "online": task.online, "labels": task.labels,
        })
    };
    let field = |field: &v1::FormField| json!({ "name": field.name, "type": field.r#type, "default": parsed(&field.default_json) });
    json!({
        "id": approval.id, "kind": approval.kind, "status": approval.status, "run_id": approval.run_id,
        "playbook": approval.playbook, "version": approval.version, "requester": approval.requester,
        "step": approval.step, "action": approval.action, "impact": approval.impact, "binding": approval.binding,
        "plan_sha256": approval.plan_sha256,
        "roles": approval.roles, "quorum": approval.quorum, "missing": approval.missing,
        "not_requester": approval.not_requester, "created_at_ms": approval.created_at_ms,
        "expires_at_ms": approval.expires_at_ms, "ended_at_ms": approval.ended_at_ms,
        "escalated": approval.escalated, "on_expiry": approval.on_expiry, "note": approval.note,
        "answers": approval.answers.iter().map(answer).collect::<Vec<_>>(),
        "tasks_total": approval.tasks_total, "tasks": approval.tasks.iter().map(task).collect::<Vec<_>>(),
        "text": approval.text, "form": approval.form.iter().map(field).collect::<Vec<_>>(),
        "output": parsed(&approval.output_json), "now_ms": approval.now_ms, "on_hosts": approval.on_hosts,
    })
}

pub fn role(binding: &v1::RoleBinding) -> Value {
    json!({ "operator_id": binding.operator_id, "role": binding.role })
}
