//! The events that come in while the run of a case goes on.

use playbook::canonical::canonical_json;
use playbook::manifest::{Kind, Manifest};
use playbook::yaml::Node;

use super::fields::Reader;
use crate::suite::Incoming;

const INCOMING: &[&str] = &["at", "event", "ignored"];

/// All of them, in the order of time.
pub(super) fn incoming(reader: &mut Reader, manifest: &Manifest, case: &Node) -> Vec<Incoming> {
    let mut all = Vec::new();
    let Some(node) = case.get("events") else {
        return all;
    };
    let mut steps = manifest.steps.iter().chain(&manifest.finally);
    if !steps.any(|step| matches!(step.kind, Kind::WaitEvent { .. })) {
        let hint = "what starts the run is `event`";
        reader.problem(
            "T0106",
            node.place,
            "no step of the playbook waits for an event",
            hint,
        );
    }
    for node in reader.list(node, "`events`") {
        all.extend(one(reader, node));
    }
    all.sort_by_key(|incoming: &Incoming| incoming.at_ms);
    all
}

fn one(reader: &mut Reader, node: &Node) -> Option<Incoming> {
    let node = reader.fields(node, "an event that comes in", INCOMING)?;
    let (Some(at), Some(event)) = (node.get("at"), node.get("event")) else {
        let hint = "write `{at: 10m, event: {class_uid: 2004, ...}}`";
        reader.problem("T0103", node.place, "this does not say when, or what", hint);
        return None;
    };
    let at_ms = reader.duration(at, "`at`");
    let ignored = match node.get("ignored") {
        None => Some(false),
        Some(node) => reader.flag(node, "`ignored`"),
    };
    match engine::events::read(&canonical_json(&event.to_json()), None) {
        Ok(read) => Some(Incoming {
            place: node.place,
            at_ms: at_ms?,
            event: read,
            ignored: ignored?,
        }),
        Err(why) => {
            let what = format!("a cluster refuses this event: {why}");
            reader.problem("T0105", event.place, what, "");
            None
        }
    }
}
