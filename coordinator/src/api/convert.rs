//! The state in the words of the wire, for operators. By hand, so that neither side's shape binds the other.

use std::collections::BTreeMap;

use engine::command::{Custody, HandedIn};
use engine::id::{Digest, TaskKey};
use engine::state::agents::Agent;
use engine::state::approvals::Approval;
use engine::state::audit::AuditRecord;
use engine::state::runs::{Run, TaskView};
use engine::state::tasks::TaskCounts;
use engine::state::tokens::Token;
use engine::{State, Timestamp};
use playbook::manifest::{Field, Kind, OnExpiry};
use proto::v1;

/// An agent, with the name of the node that holds its session.
pub fn agent(state: &State, agent: &Agent) -> v1::Agent {
    let node = agent
        .session
        .as_ref()
        .and_then(|session| state.node(session.node));
    v1::Agent {
        id: agent.id.to_string(),
        online: agent.is_online(),
        node_id: node.map(|node| node.name.clone()).unwrap_or_default(),
        labels: agent.labels.clone().into_iter().collect(),
        facts_json: agent.facts.to_string(),
        version: agent.version.clone(),
        enrolled_at_ms: agent.enrolled_at.0,
        last_attached_ms: time(agent.last_attached_at),
        key_sha256: agent.key.to_string(),
        tasks_open: agent.tasks_open(),
        alarm: agent.alarm.clone().unwrap_or_default(),
        revoked: agent.revoked.is_some(),
    }
}

/// A join token, without its secret, which nobody has.
pub fn token(token: &Token) -> v1::EnrollToken {
    v1::EnrollToken {
        id: token.id.clone(),
        uses: token.uses,
        used: token.used(),
        expires_at_ms: token.expires_at.0,
        labels: token.labels.clone().into_iter().collect(),
        revoked: token.revoked,
        created_by: token.created_by.clone(),
    }
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Full,
    /// Without outputs and inputs: one of many.
    Listed,
}

/// Of the runs that a run began, so many are told one by one.
const CHILDREN_MAX: usize = 200;

/// A run as it stands, with what it waits for.
pub fn run(state: &State, run: &Run, detail: Detail) -> v1::Run {
    let full = detail == Detail::Full;
    let steps = (0..run.steps.len() as u16)
        .map(|number| step(run, number, full))
        .collect();
    v1::Run {
        id: run.id.to_string(),
        playbook: run.manifest().playbook.clone(),
        version: run.manifest().version,
        status: run.word().into(),
        requester: run.requester.clone(),
        created_at_ms: run.created_at.0,
        ended_at_ms: time(run.ended_at),
        steps,
        inputs_json: if full {
            run.inputs.to_string()
        } else {
            String::new()
        },
        outputs_json: run
            .outputs
            .as_ref()
            .filter(|_| full)
            .map(|outputs| outputs.to_string())
            .unwrap_or_default(),
        reason: run.reason.clone(),
        revision: run.revision,
        manifest_sha256: run.manifest_hash.to_string(),
        plan_sha256: hash(run.plan_hash),
        targets: if full { targets(run) } else { Vec::new() },
        waits: state
            .approvals_waiting(run.id)
            .map(|waits| approval(state, waits, Detail::Listed))
            .collect(),
        rollback: run.rollback_word().into(),
        not_undone: run.not_undone(),
        trigger: run.trigger.as_ref().map(|trigger| v1::SetOff {
            trigger_id: trigger.by.to_string(),
            at_ms: trigger.at.0,
            sha256: trigger.sha256.to_string(),
            text: trigger
                .text
                .as_deref()
                .filter(|_| full)
                .unwrap_or_default()
                .to_owned(),
        }),
        event_json: text_of(&run.event, full),
        group_json: text_of(&run.group, full),
        parent: run.parent.and_then(|parent| {
            let key = parent.attempt;
            Some(v1::ParentRun {
                run_id: key.task.run.to_string(),
                step: state.run(&key.task.run)?.declared(key.task.step).name.clone(),
                item: key.task.item,
                attempt: key.attempt,
                depth: parent.depth,
            })
        }),
        children: match full {
            true => state
                .children(run.id)
                .take(CHILDREN_MAX)
                .map(|it| child(run, it))
                .collect(),
            false => Vec::new(),
        },
        children_total: state.children(run.id).count() as u32,
    }
}

/// JSON, unless it is null or not asked for.
fn text_of(value: &serde_json::Value, wanted: bool) -> String {
    match value.is_null() || !wanted {
        true => String::new(),
        false => value.to_string(),
    }
}

/// A run that a step of this one began.
fn child(run: &Run, child: &Run) -> v1::ChildRun {
    let of = child.parent.map(|parent| parent.attempt);
    v1::ChildRun {
        run_id: child.id.to_string(),
        step: of.map_or(String::new(), |key| run.declared(key.task.step).name.clone()),
        item: of.map_or(0, |key| key.task.item),
        attempt: of.map_or(0, |key| key.attempt),
        playbook: child.manifest().playbook.clone(),
        version: child.manifest().version,
        status: child.word().into(),
    }
}

/// The frozen targets of a run.
pub fn targets(run: &Run) -> Vec<v1::TargetSet> {
    let set = |(name, agents): (&String, &Vec<engine::id::AgentId>)| v1::TargetSet {
        name: name.clone(),
        agent_ids: agents.iter().map(ToString::to_string).collect(),
    };
    run.targets.iter().map(set).collect()
}

fn step(run: &Run, number: u16, full: bool) -> v1::Step {
    let state = &run.steps[usize::from(number)];
    let (kind, action) = run.kind(number);
    let about = run.about(number);
    let output = state.output.as_ref().filter(|_| full);
    v1::Step {
        name: run.declared(number).name.clone(),
        kind: kind.into(),
        action: action.unwrap_or_default().into(),
        status: state.status.as_str().into(),
        tasks: Some(counts(&state.counts)),
        output_json: output.map(|output| output.to_string()).unwrap_or_default(),
        reason: state.reason.clone(),
        started_at_ms: time(state.started_at),
        ended_at_ms: time(state.ended_at),
        finally: run.is_finally(number) && about.is_none(),
        about: about.map(|of| run.declared(of).name.clone()).unwrap_or_default(),
    }
}

/// The wire counts what waits for its agent with what its agent has begun: handed out is running.
fn counts(counts: &TaskCounts) -> v1::TaskCounts {
    v1::TaskCounts {
        total: counts.total(),
        waiting: counts.waiting,
        gated: counts.gated,
        running: counts.assigned + counts.running,
        succeeded: counts.succeeded,
        failed: counts.failed,
        skipped: counts.skipped,
        cancelled: counts.cancelled,
        expired: counts.expired,
        unknown: counts.unknown,
    }
}

/// A task.
pub fn task(state: &State, run: &Run, view: &TaskView<'_>) -> v1::Task {
    let error = view.error();
    v1::Task {
        step: view.step_name.into(),
        item: view.item,
        agent_id: view.agent.map(ToString::to_string).unwrap_or_default(),
        status: view.status().into(),
        attempts: view.attempts(),
        token: view.task.token,
        output_json: view.output().unwrap_or_default().into(),
        error_code: error.map(|error| error.code.clone()).unwrap_or_default(),
        error_message: error.map(|error| error.message.clone()).unwrap_or_default(),
        started_at_ms: time(view.task.started_at),
        ended_at_ms: time(view.task.ended_at),
        item_json: view.item_json().unwrap_or_default().into(),
        action: view.action.into(),
        impact: view.impact.as_str().into(),
        run_ids: match run.begins_run(view.step) {
            true => {
                let task = TaskKey {
                    run: run.id,
                    step: view.step,
                    item: view.item,
                };
                state
                    .children_of_task(task)
                    .map(|child| child.id.to_string())
                    .collect()
            }
            false => Vec::new(),
        },
    }
}

/// Tasks of an approval that are told one by one.
const APPROVAL_TASKS_MAX: usize = 1_000;
/// And of their parameters so much text.
const APPROVAL_BYTES_MAX: usize = 1 << 20;

/// A request for people's approval, or a question.
pub fn approval(state: &State, approval: &Approval, detail: Detail) -> v1::Approval {
    let run = state.run(&approval.run);
    let declared = run.map(|run| run.declared(approval.step));
    let shared = run.and_then(|run| run.steps[usize::from(approval.step)].shared.as_ref());
    let question = approval.question.as_ref();
    let escalates = declared
        .and_then(|step| step.gate.as_ref())
        .is_some_and(|gate| gate.on_expiry == OnExpiry::Escalate && !approval.escalated);
    let full = detail == Detail::Full;
    let output = run.and_then(|run| run.steps[usize::from(approval.step)].output.as_ref());
    v1::Approval {
        id: approval.id.0,
        kind: if question.is_some() { "question" } else { "gate" }.into(),
        status: approval.status.as_str().into(),
        run_id: approval.run.to_string(),
        playbook: run.map(|run| run.manifest().playbook.clone()).unwrap_or_default(),
        version: run.map_or(0, |run| run.manifest().version),
        requester: run.map(|run| run.requester.clone()).unwrap_or_default(),
        step: declared.map(|step| step.name.clone()).unwrap_or_default(),
        action: run
            .and_then(|run| run.kind(approval.step).1)
            .unwrap_or_default()
            .into(),
        impact: shared.map_or("", |shared| shared.impact.as_str()).into(),
        binding: approval.binding.to_string(),
        roles: approval.roles.clone(),
        quorum: approval.quorum,
        missing: approval.missing(),
        not_requester: approval.barred.is_some(),
        created_at_ms: approval.created_at.0,
        expires_at_ms: approval.expires_at.0,
        ended_at_ms: time(approval.ended_at),
        escalated: approval.escalated,
        on_expiry: if escalates { "escalate" } else { "reject" }.into(),
        note: approval.note.clone(),
        answers: approval.answers.iter().map(answer).collect(),
        tasks_total: approval.tasks(),
        tasks: run
            .filter(|_| full)
            .map(|run| approval_tasks(state, run, approval))
            .unwrap_or_default(),
        text: question.map(|question| question.text.clone()).unwrap_or_default(),
        form: match declared.map(|step| &step.kind) {
            Some(Kind::Ask { form, .. }) if full => {
                form_fields(form, question.map_or("{}", |question| &question.defaults))
            }
            _ => Vec::new(),
        },
        output_json: output
            .filter(|_| full && question.is_some())
            .map(|output| output.to_string())
            .unwrap_or_default(),
        now_ms: state.now().0,
        on_hosts: shared.is_some_and(|shared| !shared.is_call()),
        plan_sha256: hash(run.and_then(|run| run.plan_hash)),
    }
}

fn answer(answer: &engine::state::Answer) -> v1::ApprovalAnswer {
    v1::ApprovalAnswer {
        operator_id: answer.operator.clone(),
        role: answer.role.clone(),
        yes: answer.yes,
        reason: answer.reason.clone(),
        at_ms: answer.at.0,
    }
}

fn approval_tasks(state: &State, run: &Run, approval: &Approval) -> Vec<v1::ApprovalTask> {
    let step = &run.steps[usize::from(approval.step)];
    let shared = step.shared.as_ref().and_then(|shared| shared.parameters.as_ref());
    let mut size = 0;
    approval
        .each_item()
        .filter_map(|item| Some((item, step.tasks.get(item as usize)?)))
        .take(APPROVAL_TASKS_MAX)
        .map(|(item, task)| {
            let agent = run.agent_of(approval.step, item);
            let known = agent.and_then(|id| state.agent(id));
            let parameters = task.parameters.as_ref().or(shared);
            v1::ApprovalTask {
                item,
                agent_id: agent.map(ToString::to_string).unwrap_or_default(),
                item_json: task.item.as_deref().unwrap_or_default().into(),
                parameters_json: parameters.map(|text| text.to_string()).unwrap_or_default(),
                online: known.is_some_and(Agent::is_online),
                labels: known
                    .map(|agent| agent.labels.clone().into_iter().collect())
                    .unwrap_or_default(),
            }
        })
        .take_while(|task| {
            size += task.parameters_json.len() + task.item_json.len() + 128;
            size <= APPROVAL_BYTES_MAX || size == task.parameters_json.len() + task.item_json.len() + 128
        })
        .collect()
}

fn form_fields(form: &BTreeMap<String, Field>, defaults: &str) -> Vec<v1::FormField> {
    // Made by the leader from JSON values: it parses.
    let defaults: serde_json::Value = serde_json::from_str(defaults).unwrap_or_default();
    form.iter()
        .map(|(name, field)| v1::FormField {
            name: name.clone(),
            r#type: playbook::type_name(&field.input.kind),
            default_json: defaults.get(name).map(ToString::to_string).unwrap_or_default(),
        })
        .collect()
}

/// A custody record.
pub fn evidence(state: &State, custody: &Custody) -> v1::EvidenceRecord {
    let step = state.run(&custody.task.run).and_then(|run| {
        run.manifest()
            .step(custody.task.step)
            .map(|step| step.name.clone())
    });
    let name = |node: &engine::id::NodeId| {
        state
            .node(*node)
            .map_or_else(|| node.0.to_string(), |node| node.name.clone())
    };
    v1::EvidenceRecord {
        sha256: custody.sha256.to_string(),
        size_bytes: custody.size_bytes,
        agent_id: custody.agent.to_string(),
        path: path_for_people(&custody.path),
        path_bytes: custody.path.clone().into(),
        run_id: custody.task.run.to_string(),
        step: step.unwrap_or_default(),
        item: custody.task.item,
        collected_at_ms: custody.collected_at.0,
        changed_during_read: custody.changed_during_read,
        nodes: custody.nodes.iter().map(name).collect(),
        ..v1::EvidenceRecord::default()
    }
}

/// The record of what a person handed in.
pub fn handed_in(state: &State, record: &HandedIn) -> v1::EvidenceRecord {
    let name = |node: &engine::id::NodeId| {
        state
            .node(*node)
            .map_or_else(|| node.0.to_string(), |node| node.name.clone())
    };
    v1::EvidenceRecord {
        sha256: record.sha256.to_string(),
        size_bytes: record.size_bytes,
        path: path_for_people(record.file.as_bytes()),
        path_bytes: record.file.clone().into_bytes().into(),
        collected_at_ms: record.received_at.0,
        nodes: record.nodes.iter().map(name).collect(),
        operator: record.operator.clone(),
        submission: record.submission.clone(),
        media: record.media.clone(),
        ..v1::EvidenceRecord::default()
    }
}

/// An audit record.
pub fn audit(record: &AuditRecord) -> v1::AuditRecord {
    v1::AuditRecord {
        sequence: record.sequence,
        index: record.index,
        at_ms: record.at.0,
        actor: record.actor.clone(),
        verb: record.verb.clone(),
        subject: record.subject.clone(),
        detail_json: record.detail.clone(),
        hash: record.hash.to_string(),
    }
}

/// A hash as hex; empty where there is none.
pub fn hash(hash: Option<Digest>) -> String {
    hash.map(|hash| hash.to_string()).unwrap_or_default()
}

fn time(at: Option<Timestamp>) -> u64 {
    at.map_or(0, |at| at.0)
}

/// A host's path as text: what is not UTF-8, and what a terminal would act on, is escaped (R65).
pub fn path_for_people(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_where_they_could_mislead() {
        assert_eq!(path_for_people("/home/ä/note.txt".as_bytes()), "/home/ä/note.txt");
        assert_eq!(path_for_people(b"/tmp/\xff\xfe"), "/tmp/\\xff\\xfe");
        assert_eq!(path_for_people(b"/a\x1b[2J\n\\"), "/a\\u{1b}[2J\\n\\\\");
    }

    #[test]
    fn what_is_handed_out_counts_as_running() {
        let sum = counts(&TaskCounts {
            waiting: 1,
            assigned: 2,
            running: 3,
            succeeded: 4,
            ..Default::default()
        });
        assert_eq!(
            (sum.total, sum.waiting, sum.running, sum.succeeded),
            (10, 1, 5, 4)
        );
    }
}
