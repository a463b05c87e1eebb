//! What a case is given: the file's own, with the case's over it.

use std::collections::BTreeMap;

use engine::Timestamp;
use engine::id::AgentId;
use playbook::manifest::{Kind, Manifest};
use playbook::yaml::{Data, Node};
use serde_json::{Map, Value, json};

use super::fields::Reader;
use super::fill::filled;
use super::host_of;
use super::incoming::incoming;
use super::meanwhile::meanwhile;
use super::named::step_of;
use super::people::people;
use crate::suite::{AFTER_MS, Answer, BEGINS_AT, Ends, Fake, Given, HOSTS_MAX, Host, REQUESTER};

const HOST: &[&str] = &["labels", "facts", "online", "offline"];
const OFFLINE: &[&str] = &["from", "until"];
const FAKE: &[&str] = &[
    "host", "item", "with", "attempts", "output", "error", "message", "fault", "after",
];
const ANSWER: &[&str] = &["output", "error", "message", "fault", "after"];
const FAULTS: &[&str] = &["timeout", "lost", "silent"];

pub(super) fn given(reader: &mut Reader, manifest: &Manifest, root: &Node, case: &Node) -> Given {
    let mut object = |node: &Node, name: &str| match node.get(name) {
        None => Map::new(),
        Some(node) => reader.object(node, name),
    };
    let (inputs, own_inputs) = (object(root, "inputs"), object(case, "inputs"));
    let mut config = object(root, "config");
    config.extend(object(case, "config"));
    let fleet = fleet(reader, root, case);
    let names: Vec<&str> = fleet.iter().map(|host| host.id.as_str()).collect();
    let mut fakes: BTreeMap<String, Vec<Fake>> = BTreeMap::new();
    // The case's own are asked first.
    for (node, own) in [(case, true), (root, false)] {
        let Some(node) = node.get("fakes") else { continue };
        for (key, node) in reader.map(node, "`fakes`").unwrap_or_default() {
            let Some(step) = step_of(reader, manifest, &key.name, key.place) else {
                continue;
            };
            let action = step.action;
            // What rolls back the runs of a fake has nothing to ask: nothing was begun.
            let runs = step.own && matches!(step.step.kind, Kind::Playbook { .. });
            if action.is_none() && !step.tells && !runs {
                let kind = step.step.kind.name();
                let what = format!("`{}` does `{kind}`: it asks no host and no system", step.name);
                reader.problem("T0106", key.place, what, "");
                continue;
            }
            let all = reader.one_or_more(node);
            if all.is_empty() {
                let hint = "write how the step's tasks end, or leave the step out";
                reader.problem("T0103", node.place, "there is no fake here", hint);
            }
            for node in all {
                // A host of the file's own fakes may be missing from a case's fleet: then it is never asked.
                let known = if own { Some(&names[..]) } else { None };
                if let Some(fake) = fake(reader, action, known, node) {
                    fakes.entry(step.name.clone()).or_default().push(fake);
                }
            }
        }
    }
    let events = incoming(reader, manifest, case);
    let meanwhile = meanwhile(reader, manifest, &names, case);
    Given {
        inputs,
        own_inputs,
        event: case.get("event").map(Node::to_json),
        group: case.get("group").map(Node::to_json),
        config,
        requester: case
            .get("requester")
            .and_then(|node| reader.text(node, "`requester`"))
            .unwrap_or_else(|| REQUESTER.to_owned()),
        begins_at: case
            .get("at")
            .and_then(|node| moment(reader, node))
            .unwrap_or(BEGINS_AT),
        fleet,
        fakes,
        people: people(reader, manifest, root, case),
        events,
        meanwhile,
    }
}

fn fleet(reader: &mut Reader, root: &Node, case: &Node) -> Vec<Host> {
    let mut hosts: BTreeMap<AgentId, Host> = BTreeMap::new();
    for node in [root, case].into_iter().filter_map(|node| node.get("fleet")) {
        for (key, node) in reader.map(node, "`fleet`").unwrap_or_default() {
            let Ok(id) = key.name.parse::<AgentId>() else {
                let what = format!("`{}` is no agent's id", key.name);
                reader.problem("T0101", key.place, what, "1 to 63 of a-z, 0-9 and -");
                continue;
            };
            let known = hosts.remove(&id).unwrap_or_else(|| Host {
                id: id.clone(),
                labels: BTreeMap::new(),
                facts: json!({"os": "linux"}),
                away: Vec::new(),
            });
            // With a problem it is a host still: whoever names it makes no other mistake.
            let host = host(reader, known.clone(), node).unwrap_or(known);
            hosts.insert(id, host);
        }
    }
    if hosts.len() > HOSTS_MAX {
        let message = format!("there are {} hosts, of at most {HOSTS_MAX}", hosts.len());
        reader.problem("T0001", case.place, message, "");
    }
    hosts.into_values().collect()
}

/// A host with what is said of it over what was known: labels and facts one by one.
fn host(reader: &mut Reader, mut host: Host, node: &Node) -> Option<Host> {
    if matches!(node.data, Data::Null) {
        return Some(host);
    }
    let node = reader.fields(node, "a host", HOST)?;
    if let Some(labels) = node.get("labels") {
        for (key, value) in reader.map(labels, "`labels`")? {
            host.labels
                .insert(key.name.clone(), reader.text(value, "a label")?);
        }
    }
    if let (Some(facts), Value::Object(known)) = (node.get("facts"), &mut host.facts) {
        known.extend(reader.object(facts, "`facts`"));
    }
    if let Some(online) = node.get("online") {
        host.away.clear();
        if !reader.flag(online, "`online`")? {
            host.away.push((0, None));
        }
    }
    if let Some(offline) = node.get("offline") {
        host.away.clear();
        for node in reader.one_or_more(offline) {
            let node = reader.fields(node, "`offline`", OFFLINE)?;
            let mut at = |name: &str| node.get(name).map(|node| reader.duration(node, name));
            let from = at("from").unwrap_or(Some(0))?;
            let until = match at("until") {
                None => None,
                Some(until) => Some(until?),
            };
            let before = host.away.last();
            if until.is_some_and(|until| until <= from)
                || before.is_some_and(|(_, until)| until.is_none_or(|until| until >= from))
            {
                let hint =
                    "one after the other, each with `until` behind `from`; only the last may have none";
                reader.problem("T0101", node.place, "these times overlap or are empty", hint);
                return None;
            }
            host.away.push((from, until));
        }
    }
    Some(host)
}

fn fake(
    reader: &mut Reader,
    action: Option<&catalogue::Action>,
    fleet: Option<&[&str]>,
    node: &Node,
) -> Option<Fake> {
    let node = reader.fields(node, "a fake", FAKE)?;
    let mut hosts = Vec::new();
    if let Some(named) = node.get("host") {
        let named = reader.one_or_more(named);
        if named.is_empty() {
            let hint = "name a host, or leave `host` out for any";
            reader.problem("T0103", node.place, "a fake for no host answers nobody", hint);
            return None;
        }
        for node in named {
            hosts.push(match fleet {
                Some(fleet) => host_of(reader, fleet, node)?,
                None => reader.text(node, "a host")?,
            });
        }
    }
    let attempts = match node.get("attempts") {
        None => vec![answer(reader, action, node)?],
        Some(list) => {
            if let Some(beside) = ANSWER.iter().find(|name| node.get(name).is_some()) {
                let what = format!("`{beside}` beside `attempts` would never be looked at");
                reader.problem(
                    "T0103",
                    node.place,
                    what,
                    "write it in the attempts that it is of",
                );
            }
            let mut all = Vec::new();
            for node in reader.list(list, "`attempts`") {
                let node = reader.fields(node, "an attempt", ANSWER)?;
                all.push(answer(reader, action, node)?);
            }
            if all.is_empty() {
                reader.problem("T0103", list.place, "there is no attempt", "");
                return None;
            }
            all
        }
    };
    Some(Fake {
        place: node.place,
        hosts,
        item: node.get("item").map(Node::to_json),
        with: node.get("with").map(Node::to_json),
        attempts,
    })
}

fn answer(reader: &mut Reader, action: Option<&catalogue::Action>, node: &Node) -> Option<Answer> {
    let after_ms = match node.get("after") {
        None => AFTER_MS,
        Some(node) => reader.duration(node, "`after`")?,
    };
    let ways = ["output", "error", "fault"];
    let given: Vec<&str> = ways.into_iter().filter(|way| node.get(way).is_some()).collect();
    if given.len() != 1 {
        let hint = "write one of `output: {...}`, `error: CODE` and `fault: timeout`, `lost` or `silent`";
        let what = match given.len() {
            0 => "this does not say how it ends".to_owned(),
            _ => format!("it cannot end in {} ways ({})", given.len(), given.join(", ")),
        };
        reader.problem("T0103", node.place, what, hint);
        return None;
    }
    let ends = if let Some(output) = node.get("output") {
        let value = match action {
            Some(action) => filled(action.output_schema(), output.to_json()),
            None => output.to_json(),
        };
        match action {
            Some(action) => {
                for finding in action.check_output(&value) {
                    let hint = format!("see `cordon action describe {}`", action.name);
                    let message = format!("{} never gives this: {finding}", action.name);
                    reader.problem("T0105", output.place, message, hint);
                }
            }
            None if value == json!({}) => {}
            None => {
                let hint = "write `output: {}` for a message that was delivered";
                reader.problem("T0105", output.place, "a notify gives nothing", hint);
            }
        }
        Ends::Output(value)
    } else if let Some(error) = node.get("error") {
        let code = reader.text(error, "an error's code")?;
        if code.is_empty()
            || !code
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            let what = format!("`{code}` is no error's code");
            reader.problem("T0101", error.place, what, "a-z, 0-9 and _, such as rate_limited");
        }
        let message = match node.get("message") {
            None => "as the test says".to_owned(),
            Some(node) => reader.text(node, "`message`")?,
        };
        Ends::Error { code, message }
    } else {
        let fault = node.get("fault")?;
        match reader.word(fault, "fault", FAULTS)?.as_str() {
            "timeout" => Ends::Hangs,
            "lost" => Ends::Lost,
            _ => Ends::Silent,
        }
    };
    Some(Answer { ends, after_ms })
}

fn moment(reader: &mut Reader, node: &Node) -> Option<Timestamp> {
    let text = reader.text(node, "`at`")?;
    let parsed = text.parse::<jiff::Timestamp>().ok();
    let parsed = parsed.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    if parsed.is_none() {
        let hint = "as in RFC 3339, such as \"2026-01-05T09:00:00Z\"";
        reader.problem("T0101", node.place, format!("`{text}` is no moment"), hint);
    }
    parsed.map(Timestamp)
}
