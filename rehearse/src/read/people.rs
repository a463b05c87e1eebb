//! What people say in a case: the file's own, step by step replaced by what the case has.

use std::collections::BTreeMap;

use playbook::manifest::{Kind, Manifest};
use playbook::yaml::Node;

use super::fields::Reader;
use super::named::{Named, step_of};
use crate::suite::{AFTER_MS, Says, Word};

const SAYS: &[&str] = &[
    "by", "role", "after", "approve", "deny", "fill", "reason", "refused",
];
/// The reason of an answer that says none.
const REASON: &str = "as the test says";

pub(super) fn people(
    reader: &mut Reader,
    manifest: &Manifest,
    root: &Node,
    case: &Node,
) -> BTreeMap<String, Vec<Says>> {
    let mut all = BTreeMap::new();
    for node in [root, case].into_iter().filter_map(|node| node.get("people")) {
        for (key, node) in reader.map(node, "`people`").unwrap_or_default() {
            let Some(step) = step_of(reader, manifest, &key.name, key.place) else {
                continue;
            };
            let roles = roles(&step);
            if roles.is_empty() {
                let what = format!("`{}` asks nobody: it has no gate, and is no `ask`", step.name);
                reader.problem("T0106", key.place, what, "");
                continue;
            }
            let mut says = Vec::new();
            for node in reader.one_or_more(node) {
                says.extend(one(reader, &step, &roles, node));
            }
            all.insert(step.name, says);
        }
    }
    all
}

/// Who may answer for a step, those to whom it escalates last. What undoes a step asks those whom the step asked.
fn roles<'a>(named: &Named<'a>) -> Vec<&'a str> {
    let step = named.step;
    let asked: &[String] = match &step.kind {
        Kind::Ask { roles, .. } => roles,
        _ => &[],
    };
    let gate = step
        .gate
        .iter()
        .filter(|_| named.own || !named.tells)
        .flat_map(|gate| gate.roles.iter().chain(&gate.escalate_to));
    asked.iter().chain(gate).map(String::as_str).collect()
}

fn one(reader: &mut Reader, step: &Named<'_>, roles: &[&str], node: &Node) -> Option<Says> {
    let node = reader.fields(node, "what a person says", SAYS)?;
    let Some(by) = node.get("by") else {
        let hint = "write `by: NAME`, of whoever answers";
        reader.problem("T0103", node.place, "this does not say who answers", hint);
        return None;
    };
    let operator = reader.text(by, "`by`")?;
    let refused = match node.get("refused") {
        None => None,
        Some(node) => Some(reader.text(node, "`refused`")?),
    };
    let role = match node.get("role") {
        None => roles.first().copied().unwrap_or_default().to_owned(),
        // Whoever is to be refused may have any.
        Some(node) if refused.is_some() => reader.text(node, "`role`")?,
        Some(node) => reader.word(node, "role that the step asks", roles)?,
    };
    let after_ms = match node.get("after") {
        None => AFTER_MS,
        Some(node) => reader.duration(node, "`after`")?,
    };
    let is_question = matches!(step.step.kind, Kind::Ask { .. });
    let ways: &[&str] = if is_question {
        &["fill", "deny"]
    } else {
        &["approve", "deny"]
    };
    let given: Vec<&str> = ["approve", "deny", "fill"]
        .into_iter()
        .filter(|way| node.get(way).is_some())
        .collect();
    let [way] = given[..] else {
        let hint = format!(
            "write one of {}",
            ways.iter()
                .map(|way| match *way {
                    "fill" => "`fill: {FIELD: VALUE}`".to_owned(),
                    way => format!("`{way}: WHY`"),
                })
                .collect::<Vec<_>>()
                .join(" and ")
        );
        let what = format!("a person says one thing, this says {}", given.len());
        reader.problem("T0103", node.place, what, hint);
        return None;
    };
    if !ways.contains(&way) {
        let hint = format!("write `{}`", ways.join("` or `"));
        let what = format!(
            "`{}` is {}: nobody can {way} it",
            step.name,
            if is_question { "a question" } else { "no question" }
        );
        reader.problem("T0106", node.place, what, hint);
        return None;
    }
    let value = node.get(way)?;
    let (word, said) = match way {
        "fill" => (Word::Fill(reader.object(value, "`fill`")), None),
        "deny" => (Word::Deny, Some(reader.text(value, "the reason of a `deny`")?)),
        _ => (
            Word::Approve,
            Some(reader.text(value, "the reason of an `approve`")?),
        ),
    };
    let reason = match (said, node.get("reason")) {
        (Some(said), _) => said,
        (None, Some(node)) => reader.text(node, "`reason`")?,
        (None, None) => REASON.to_owned(),
    };
    Some(Says {
        place: node.place,
        operator,
        role,
        after_ms,
        word,
        reason,
        refused,
    })
}
