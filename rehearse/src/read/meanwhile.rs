//! What people do to a run while it goes on, and afterwards.

use playbook::manifest::Manifest;
use playbook::yaml::{Data, Node};

use super::fields::Reader;
use super::host_of;
use super::named::step_of;
use crate::suite::{COMMANDER, Deed, Happening, Settled, Which};

/// The deeds, each by its field.
const DEEDS: &[&str] = &[
    "cancel",
    "cancel_and_rollback",
    "rollback",
    "pause",
    "resume",
    "retry",
    "settle",
];
const HAPPENING: &[&str] = &[
    "at",
    "by",
    "refused",
    "cancel",
    "cancel_and_rollback",
    "rollback",
    "pause",
    "resume",
    "retry",
    "settle",
];
const RETRY: &[&str] = &["step", "unknown"];
const SETTLE: &[&str] = &["step", "host", "item", "as", "reason"];

/// All of it, in the order of time.
pub(super) fn meanwhile(
    reader: &mut Reader,
    manifest: &Manifest,
    fleet: &[&str],
    case: &Node,
) -> Vec<Happening> {
    let mut all = Vec::new();
    let Some(node) = case.get("meanwhile") else {
        return all;
    };
    for node in reader.list(node, "`meanwhile`") {
        all.extend(happening(reader, manifest, fleet, node));
    }
    all.sort_by_key(|happening| happening.at_ms);
    all
}

fn happening(reader: &mut Reader, manifest: &Manifest, fleet: &[&str], node: &Node) -> Option<Happening> {
    let fields = reader.fields(node, "what happens meanwhile", HAPPENING)?;
    let deeds: Vec<&str> = DEEDS
        .iter()
        .copied()
        .filter(|deed| fields.get(deed).is_some())
        .collect();
    let (Some(at), [deed]) = (fields.get("at"), &deeds[..]) else {
        let hint = "write `{at: 10m, cancel: WHY}`, or one of `cancel_and_rollback: WHY`, `rollback: WHY`, `pause: WHY`, \
                    `resume: true`, `retry: {step: NAME}` and `settle: {step: NAME, as: succeeded, reason: WHY}`";
        let what = "this does not say when, or not one thing that is done";
        reader.problem("T0103", node.place, what, hint);
        return None;
    };
    let at_ms = reader.duration(at, "`at`");
    let by = match fields.get("by") {
        None => Some(COMMANDER.to_owned()),
        Some(node) => reader.text(node, "`by`"),
    };
    let refused = match fields.get("refused") {
        None => Some(None),
        Some(node) => reader.text(node, "`refused`").map(Some),
    };
    let what = read_deed(reader, manifest, fleet, deed, fields.get(deed)?);
    Some(Happening {
        place: node.place,
        at_ms: at_ms?,
        by: by?,
        what: what?,
        refused: refused?,
    })
}

fn read_deed(
    reader: &mut Reader,
    manifest: &Manifest,
    fleet: &[&str],
    deed: &str,
    node: &Node,
) -> Option<Deed> {
    let what = format!("`{deed}`");
    match deed {
        "cancel" => reader.text(node, &what).map(Deed::Cancel),
        "cancel_and_rollback" => reader.text(node, &what).map(Deed::CancelAndRollBack),
        "rollback" => reader.text(node, &what).map(Deed::RollBack),
        "pause" => reader.text(node, &what).map(Deed::Pause),
        "resume" => match reader.flag(node, &what)? {
            true => Some(Deed::Resume),
            false => {
                reader.problem("T0101", node.place, "`resume` is true, or left out", "");
                None
            }
        },
        "retry" => {
            if matches!(node.data, Data::Null) {
                return Some(Deed::Retry {
                    step: None,
                    unknown: false,
                });
            }
            let node = reader.fields(node, &what, RETRY)?;
            let step = match node.get("step") {
                None => None,
                Some(node) => {
                    let name = reader.text(node, "a step's name")?;
                    Some(step_of(reader, manifest, &name, node.place)?.name)
                }
            };
            let unknown = match node.get("unknown") {
                None => false,
                Some(node) => reader.flag(node, "`unknown`")?,
            };
            Some(Deed::Retry { step, unknown })
        }
        _ => settle(reader, manifest, fleet, node).map(Deed::Settle),
    }
}

fn settle(reader: &mut Reader, manifest: &Manifest, fleet: &[&str], node: &Node) -> Option<Settled> {
    let node = reader.fields(node, "`settle`", SETTLE)?;
    let (Some(step), Some(as_what), Some(reason)) = (node.get("step"), node.get("as"), node.get("reason"))
    else {
        let hint = "write `{step: NAME, host: NAME, as: succeeded, reason: WHY}`, or `as: failed`";
        let what = "this does not say which task is settled, as what, and why";
        reader.problem("T0103", node.place, what, hint);
        return None;
    };
    let which = match (node.get("host"), node.get("item")) {
        (Some(host), None) => Which::Host(host_of(reader, fleet, host)?),
        (None, Some(item)) => Which::Item(item.to_json()),
        (None, None) => Which::Only,
        (Some(_), Some(item)) => {
            let what = "a task is named by its host or by its item";
            reader.problem("T0103", item.place, what, "leave the one or the other out");
            return None;
        }
    };
    let name = reader.text(step, "a step's name")?;
    Some(Settled {
        step: step_of(reader, manifest, &name, step.place)?.name,
        which,
        succeeded: reader.word(as_what, "way to settle a task", &["succeeded", "failed"])? == "succeeded",
        reason: reader.text(reason, "`reason`")?,
    })
}
