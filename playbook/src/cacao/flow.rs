//! How CACAO's steps lead to each other.

use serde_json::{Map, Value};

/// The properties by which a step leads on.
pub(super) const SEQUENCE: [&str; 3] = ["on_completion", "on_success", "on_failure"];

/// One branch that a step opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch<'a> {
    /// The property that names it.
    pub property: &'static str,
    /// The case of a `switch`; else as the property.
    pub case: &'a str,
    /// Its first step.
    pub to: &'a str,
}

/// The branches that a step opens, in the order in which they are written; one that is named twice is there twice.
pub(super) fn branches(step: &Map<String, Value>) -> impl Iterator<Item = Branch<'_>> {
    let one = |property: &'static str| {
        let to = step.get(property)?.as_str()?;
        Some(Branch {
            property,
            case: property,
            to,
        })
    };
    let cases = step.get("cases").and_then(Value::as_object).into_iter().flatten();
    let cases = cases.filter_map(|(case, to)| {
        Some(Branch {
            property: "cases",
            case,
            to: to.as_str()?,
        })
    });
    let parallel = step
        .get("next_steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let parallel = parallel.filter_map(|to| {
        Some(Branch {
            property: "next_steps",
            case: "next_steps",
            to: to.as_str()?,
        })
    });
    one("on_true")
        .into_iter()
        .chain(one("on_false"))
        .chain(cases)
        .chain(parallel)
}
