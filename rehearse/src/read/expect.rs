//! What a case expects.

use playbook::manifest::Manifest;
use playbook::yaml::Node;
use playbook::{Place, nearest};

use super::fields::Reader;
use super::named::{actions, step_of};
use super::{host_of, known_host};
use crate::suite::{Expect, ExpectApproval, ExpectAsked, ExpectNotified, ExpectStep, ExpectTask, Wanted};

const EXPECT: &[&str] = &[
    "run",
    "reason",
    "refused",
    "steps",
    "approvals",
    "outputs",
    "outputs_exact",
    "order",
    "asked",
    "notified",
    "took",
];
const STEP: &[&str] = &["status", "reason", "output", "tasks", "hosts", "items"];
const TASK: &[&str] = &["status", "error", "attempts", "output"];
const ITEM: &[&str] = &["item", "status", "error", "attempts", "output"];
const ASKED: &[&str] = &["step", "action", "host", "item", "with", "times"];
const NOTIFIED: &[&str] = &["to", "text", "severity", "times"];
const APPROVAL: &[&str] = &["status", "hosts", "escalated", "quorum", "times"];
const TOOK: &[&str] = &["at_least", "at_most"];

const RUN_ENDS: &[&str] = &["succeeded", "failed", "cancelled"];
const STEP_ENDS: &[&str] = &["succeeded", "failed", "skipped", "cancelled", "unknown"];
const APPROVAL_ENDS: &[&str] = &[
    "approved",
    "answered",
    "denied",
    "expired",
    "cancelled",
    "waiting",
];
const TASK_ENDS: &[&str] = &[
    "succeeded",
    "failed",
    "skipped",
    "cancelled",
    "expired",
    "unknown",
];

pub(super) fn expect(reader: &mut Reader, manifest: &Manifest, fleet: &[&str], node: &Node) -> Expect {
    let mut all = Expect::default();
    let Some(node) = reader.fields(node, "`expect`", EXPECT) else {
        return all;
    };
    if node.get("run").is_none() && node.get("refused").is_none() {
        let hint = "write `run: succeeded`, `failed` or `cancelled`, or `refused: WHY`";
        reader.problem("T0103", node.place, "how the run ends is not expected", hint);
    }
    if let Some(refused) = node.get("refused")
        && reader.map(node, "`expect`").is_some_and(|all| all.len() > 1)
    {
        let what = "a run that is refused has no steps and no end: what stands beside `refused` would never be looked at";
        reader.problem("T0103", refused.place, what, "leave the one or the other out");
    }
    let wanted = |node: &Node, text: Option<String>| {
        let place = node.place;
        text.map(|value| Wanted { place, value })
    };
    if let Some(node) = node.get("run") {
        all.run = wanted(node, reader.word(node, "end of a run", RUN_ENDS));
    }
    if let Some(node) = node.get("reason") {
        all.reason = wanted(node, reader.text(node, "`reason`"));
    }
    if let Some(node) = node.get("refused") {
        all.refused = wanted(node, reader.text(node, "`refused`"));
    }
    if let Some(node) = node.get("steps") {
        for (key, node) in reader.map(node, "`steps`").unwrap_or_default() {
            if step_of(reader, manifest, &key.name, key.place).is_some()
                && let Some(value) = step(reader, fleet, &key.name, node)
            {
                all.steps.push(Wanted {
                    place: node.place,
                    value,
                });
            }
        }
    }
    if let Some(node) = node.get("approvals") {
        for (key, node) in reader.map(node, "`approvals`").unwrap_or_default() {
            if step_of(reader, manifest, &key.name, key.place).is_some()
                && let Some(value) = approval(reader, fleet, &key.name, node)
            {
                let place = node.place;
                all.approvals.push(Wanted { place, value });
            }
        }
    }
    if let Some(node) = node.get("outputs") {
        for (key, node) in reader.map(node, "`outputs`").unwrap_or_default() {
            output_of(reader, manifest, &key.name, key.place);
            let (place, value) = (node.place, node.to_json());
            all.outputs.push((key.name.clone(), Wanted { place, value }));
        }
    }
    if let Some(node) = node.get("outputs_exact") {
        for (key, _) in reader.map(node, "`outputs_exact`").unwrap_or_default() {
            output_of(reader, manifest, &key.name, key.place);
        }
        let (place, value) = (node.place, reader.object(node, "`outputs_exact`"));
        all.outputs_exact = Some(Wanted { place, value });
    }
    if let Some(node) = node.get("order") {
        let mut names = Vec::new();
        for node in reader.list(node, "`order`") {
            if let Some(name) = reader.text(node, "a step's name")
                && step_of(reader, manifest, &name, node.place).is_some()
            {
                names.push(name);
            }
        }
        let (place, value) = (node.place, names);
        all.order = Some(Wanted { place, value });
    }
    if let Some(node) = node.get("asked") {
        for node in reader.list(node, "`asked`") {
            if let Some(value) = asked(reader, manifest, fleet, node) {
                let place = node.place;
                all.asked.push(Wanted { place, value });
            }
        }
    }
    if let Some(node) = node.get("notified") {
        for node in reader.list(node, "`notified`") {
            if let Some(value) = notified(reader, node) {
                let place = node.place;
                all.notified.push(Wanted { place, value });
            }
        }
    }
    if let Some(node) = node.get("took")
        && let Some(node) = reader.fields(node, "`took`", TOOK)
    {
        let mut bound = |name: &str| {
            let node = node.get(name)?;
            let value = reader.duration(node, name)?;
            let place = node.place;
            Some(Wanted { place, value })
        };
        all.took_at_least_ms = bound("at_least");
        all.took_at_most_ms = bound("at_most");
    }
    all
}

/// `STATUS`, or a map of what is expected.
fn step(reader: &mut Reader, fleet: &[&str], name: &str, node: &Node) -> Option<ExpectStep> {
    let mut all = ExpectStep {
        name: name.to_owned(),
        status: None,
        reason: None,
        output: None,
        tasks: None,
        hosts: Vec::new(),
        items: Vec::new(),
    };
    if matches!(node.data, playbook::yaml::Data::Text(_)) {
        all.status = Some(reader.word(node, "end of a step", STEP_ENDS)?);
        return Some(all);
    }
    let node = reader.fields(node, "what is expected of a step", STEP)?;
    if let Some(node) = node.get("status") {
        all.status = Some(reader.word(node, "end of a step", STEP_ENDS)?);
    }
    if let Some(node) = node.get("reason") {
        all.reason = Some(reader.text(node, "`reason`")?);
    }
    all.output = node.get("output").map(Node::to_json);
    if let Some(node) = node.get("tasks") {
        all.tasks = Some(reader.count(node, "`tasks`")?);
    }
    if let Some(node) = node.get("hosts") {
        for (key, node) in reader.map(node, "`hosts`")? {
            known_host(reader, fleet, &key.name, key.place);
            let (place, value) = (node.place, task(reader, node, TASK)?);
            all.hosts.push((key.name.clone(), Wanted { place, value }));
        }
    }
    if let Some(node) = node.get("items") {
        for node in reader.list(node, "`items`") {
            let Some(item) = node.get("item").map(Node::to_json) else {
                let hint = "write `{item: VALUE, status: END}`";
                reader.problem("T0103", node.place, "this does not say of which item", hint);
                continue;
            };
            let (place, value) = (node.place, (item, task(reader, node, ITEM)?));
            all.items.push(Wanted { place, value });
        }
    }
    Some(all)
}

/// `STATUS`, or a map of what is expected.
fn task(reader: &mut Reader, node: &Node, known: &[&str]) -> Option<ExpectTask> {
    let mut all = ExpectTask::default();
    if matches!(node.data, playbook::yaml::Data::Text(_)) {
        all.status = Some(reader.word(node, "end of a task", TASK_ENDS)?);
        return Some(all);
    }
    let node = reader.fields(node, "what is expected of a task", known)?;
    if let Some(node) = node.get("status") {
        all.status = Some(reader.word(node, "end of a task", TASK_ENDS)?);
    }
    if let Some(node) = node.get("error") {
        all.error = Some(reader.text(node, "`error`")?);
    }
    if let Some(node) = node.get("attempts") {
        all.attempts = Some(reader.count(node, "`attempts`")?);
    }
    all.output = node.get("output").map(Node::to_json);
    Some(all)
}

/// `STATUS`, or a map of what is expected of the newest request of a step.
fn approval(reader: &mut Reader, fleet: &[&str], name: &str, node: &Node) -> Option<ExpectApproval> {
    let mut all = ExpectApproval {
        step: name.to_owned(),
        ..ExpectApproval::default()
    };
    if matches!(node.data, playbook::yaml::Data::Text(_)) {
        all.status = Some(reader.word(node, "end of an approval", APPROVAL_ENDS)?);
        return Some(all);
    }
    let node = reader.fields(node, "what is expected of an approval", APPROVAL)?;
    if let Some(node) = node.get("status") {
        all.status = Some(reader.word(node, "end of an approval", APPROVAL_ENDS)?);
    }
    if let Some(node) = node.get("hosts") {
        let mut hosts = Vec::new();
        for node in reader.list(node, "`hosts`") {
            hosts.push(host_of(reader, fleet, node)?);
        }
        all.hosts = Some(hosts);
    }
    if let Some(node) = node.get("escalated") {
        all.escalated = Some(reader.flag(node, "`escalated`")?);
    }
    if let Some(node) = node.get("quorum") {
        all.quorum = Some(reader.count(node, "`quorum`")?);
    }
    if let Some(node) = node.get("times") {
        all.times = Some(reader.count(node, "`times`")?);
    }
    Some(all)
}

fn asked(reader: &mut Reader, manifest: &Manifest, fleet: &[&str], node: &Node) -> Option<ExpectAsked> {
    let node = reader.fields(node, "what was asked", ASKED)?;
    let mut step = None;
    if let Some(node) = node.get("step") {
        let name = reader.text(node, "a step's name")?;
        step_of(reader, manifest, &name, node.place)?;
        step = Some(name);
    }
    let mut action = None;
    if let Some(node) = node.get("action") {
        action = Some(reader.word(node, "action in the playbook", &actions(manifest))?);
    }
    if step.is_none() && action.is_none() {
        let hint = "write `step: NAME` or `action: NAME`";
        reader.problem("T0103", node.place, "this does not say what was asked for", hint);
    }
    Some(ExpectAsked {
        step,
        action,
        host: match node.get("host") {
            None => None,
            Some(node) => Some(host_of(reader, fleet, node)?),
        },
        item: node.get("item").map(Node::to_json),
        with: node.get("with").map(Node::to_json),
        times: match node.get("times") {
            None => None,
            Some(node) => Some(reader.count(node, "`times`")?),
        },
    })
}

fn notified(reader: &mut Reader, node: &Node) -> Option<ExpectNotified> {
    let node = reader.fields(node, "who was told what", NOTIFIED)?;
    let mut text = |name: &str| match node.get(name) {
        None => Some(None),
        Some(node) => reader.text(node, name).map(Some),
    };
    Some(ExpectNotified {
        to: text("to")?,
        text: text("text")?,
        severity: text("severity")?,
        times: match node.get("times") {
            None => None,
            Some(node) => Some(reader.count(node, "`times`")?),
        },
    })
}

fn output_of(reader: &mut Reader, manifest: &Manifest, name: &str, place: Place) {
    if !manifest.outputs.contains_key(name) {
        let hint = nearest::hint(name, manifest.outputs.keys().map(String::as_str));
        reader.problem(
            "T0104",
            place,
            format!("the playbook has no output `{name}`"),
            hint,
        );
    }
}
