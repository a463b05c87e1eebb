//! What a planned run claims: evaluated where the plan is drawn.

use std::collections::BTreeSet;

use playbook::canonical::canonical_json;
use playbook::eval::Scope;
use playbook::manifest::{Manifest, OnLocked};
use serde_json::Value;

use super::{Ground, PlanError};
use crate::hash::Bound;
use crate::id::Digest;
use crate::state::claims::Claims;

/// The claims of a run with these inputs.
///
/// # Errors
/// When an expression of `limits` fails, or `lock.each` gives no list.
pub(super) fn claims_of(
    manifest: &Manifest,
    inputs: &Value,
    config: &Value,
    ground: &Ground,
) -> Result<Claims, PlanError> {
    let mut scope = Scope::new();
    scope.bind("inputs", inputs);
    scope.bind("config", config);
    scope.bind("event", &ground.event);
    scope.bind("group", &ground.group);
    let render = |what: &'static str, template| {
        scope.render(template).map_err(|error| PlanError::Limits {
            what,
            problem: error.to_string(),
        })
    };
    let concurrency = manifest.limits.concurrency.as_ref();
    let key = concurrency.and_then(|limit| limit.key.as_ref());
    let key = key.map(|key| render("concurrency.key", key)).transpose()?;
    let mut locked = BTreeSet::new();
    if let Some(lock) = &manifest.limits.lock {
        match render("lock.each", &lock.each)? {
            Value::Array(values) => locked.extend(values.iter().map(canonical_json)),
            other => {
                return Err(PlanError::Limits {
                    what: "lock.each",
                    problem: format!(
                        "it gives {}, and what is locked is a list",
                        canonical_json(&other)
                    ),
                });
            }
        }
    }
    Ok(Claims {
        key: key.as_ref().map(canonical_json),
        locked,
    })
}

/// Names the inputs, where some of them may be left out.
pub(super) fn asked(manifest: &Manifest, inputs: &Value) -> Option<Digest> {
    drops(manifest).then(|| {
        let mut hash = Bound::new("cordon inputs 1");
        hash.text(&canonical_json(inputs));
        hash.finish()
    })
}

fn drops(manifest: &Manifest) -> bool {
    let lock = manifest.limits.lock.as_ref();
    lock.is_some_and(|lock| lock.on_conflict == OnLocked::DropItem)
}

/// Leaves out of the inputs what other runs hold, where the playbook says so, and gives what that was.
///
/// # Errors
/// When nothing is left.
pub(super) fn drop_held(
    manifest: &Manifest,
    inputs: &mut Value,
    claims: &mut Claims,
    ground: &Ground,
) -> Result<BTreeSet<String>, PlanError> {
    if !drops(manifest) {
        return Ok(BTreeSet::new());
    }
    let held: BTreeSet<String> = claims
        .locked
        .iter()
        .filter(|value| ground.held.contains_key(*value))
        .cloned()
        .collect();
    if let Some(first) = held.first().filter(|_| held.len() == claims.locked.len()) {
        return Err(PlanError::AllHeld {
            run: ground.held[first].to_string(),
        });
    }
    for value in &held {
        claims.locked.remove(value);
    }
    for input in inputs
        .as_object_mut()
        .into_iter()
        .flat_map(|all| all.values_mut())
    {
        if let Value::Array(values) = input {
            values.retain(|value| !held.contains(&canonical_json(value)));
        }
    }
    Ok(held)
}
