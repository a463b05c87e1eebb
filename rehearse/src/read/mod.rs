//! The YAML of a test file, checked against its playbook.

mod expect;
mod fields;
mod fill;
mod given;
mod incoming;
mod meanwhile;
mod named;
mod people;

use playbook::manifest::Manifest;
use playbook::yaml::{self, Node};
use playbook::{Place, Problem, Problems, nearest};

use crate::suite::{CASES_MAX, Case, Suite, TEXT_BYTES_MAX};
use fields::Reader;

const TOP: &[&str] = &[
    "playbook", "inputs", "config", "fleet", "fakes", "people", "cases",
];
const CASE: &[&str] = &[
    "inputs",
    "event",
    "group",
    "config",
    "requester",
    "at",
    "fleet",
    "fakes",
    "people",
    "events",
    "meanwhile",
    "expect",
];

/// Reads a test file of this playbook.
pub(crate) fn suite(manifest: &Manifest, playbook: &str, text: &str) -> Result<Suite, Problems> {
    let one = |problem| Problems::new(vec![problem], text);
    if text.len() > TEXT_BYTES_MAX {
        return Err(one(Problem {
            code: "T0001",
            place: Place::default(),
            message: format!(
                "a test file of {} bytes is longer than {TEXT_BYTES_MAX}",
                text.len()
            ),
            hint: "split the playbook, and its tests with it".to_owned(),
        }));
    }
    let root = yaml::read(text).map_err(|problem| one(*problem))?;
    let mut reader = Reader::default();
    let cases = file(&mut reader, manifest, &root).unwrap_or_default();
    if reader.found.is_empty() {
        Ok(Suite {
            manifest: manifest.clone(),
            playbook: playbook.to_owned(),
            cases,
            text: text.to_owned(),
        })
    } else {
        Err(Problems::new(reader.found, text))
    }
}

fn file(reader: &mut Reader, manifest: &Manifest, root: &Node) -> Option<Vec<Case>> {
    reader.fields(root, "a test file", TOP)?;
    if let Some(node) = root.get("playbook") {
        let name = reader.text(node, "the playbook's name")?;
        if name != manifest.playbook {
            reader.problem(
                "T0104",
                node.place,
                format!(
                    "these are tests of `{name}`, the playbook is `{}`",
                    manifest.playbook
                ),
                "a test file stands beside its playbook: NAME.yaml and NAME.test.yaml",
            );
        }
    }
    let Some(node) = root.get("cases") else {
        let hint = "write `cases:` with a name for each and what it expects";
        reader.problem("T0103", root.place, "there are no cases", hint);
        return None;
    };
    let entries = reader.map(node, "`cases`")?;
    if entries.is_empty() || entries.len() > CASES_MAX {
        let message = format!("there are {} cases, of 1 to {CASES_MAX}", entries.len());
        reader.problem("T0001", node.place, message, "");
    }
    let mut cases = Vec::new();
    for (key, node) in entries {
        let what = format!("the case `{}`", key.name);
        let Some(node) = reader.fields(node, &what, CASE) else {
            continue;
        };
        let given = given::given(reader, manifest, root, node);
        let fleet: Vec<&str> = given.fleet.iter().map(|host| host.id.as_str()).collect();
        let Some(expected) = node.get("expect") else {
            let hint = "write `expect:`, at least with `run: succeeded`";
            reader.problem("T0103", key.place, format!("{what} expects nothing"), hint);
            continue;
        };
        let expect = expect::expect(reader, manifest, &fleet, expected);
        cases.push(Case {
            name: key.name.clone(),
            place: key.place,
            given,
            expect,
        });
    }
    Some(cases)
}

/// A host of the case's fleet; a problem where it is none.
fn host_of(reader: &mut Reader, fleet: &[&str], node: &Node) -> Option<String> {
    let name = reader.text(node, "a host")?;
    known_host(reader, fleet, &name, node.place);
    Some(name)
}

fn known_host(reader: &mut Reader, fleet: &[&str], name: &str, place: Place) {
    if !fleet.contains(&name) {
        let hint = nearest::hint(name, fleet.iter().copied());
        reader.problem("T0104", place, format!("the fleet has no host `{name}`"), hint);
    }
}
