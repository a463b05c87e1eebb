//! The plan hash: what people approve, computed alike where a plan is drawn and where its run is started.

use std::collections::BTreeMap;

use playbook::canonical::canonical_json;
use playbook::manifest::{Kind, Manifest, Over, Step};
use serde_json::Value;

use super::Foreseen;
use super::gate::{why_two, why_two_of_run};
use crate::hash::Bound;
use crate::id::{AgentId, Digest};

/// What a plan fixes.
pub(crate) struct Frozen<'a> {
    pub manifest: &'a Manifest,
    pub manifest_hash: Digest,
    pub inputs: &'a Value,
    pub config: &'a Value,
    /// Each sorted.
    pub targets: &'a BTreeMap<String, Vec<AgentId>>,
    /// By number.
    pub steps: &'a [Foreseen],
    /// What set it off; null: nothing did.
    pub event: &'a Value,
    /// And the group that is.
    pub group: &'a Value,
}

impl Frozen<'_> {
    /// The hash over everything that a run of this plan is decided by before it begins: the manifest, the inputs, the
    /// constants, the frozen targets with their labels, and of each step the impact, what undoes it, and whether its
    /// gate needs a second person.
    ///
    /// What hosts say of themselves is not in it, nor who is online and who holds which role: a host that comes and
    /// goes could make every plan stale, and roles are asked when somebody answers.
    pub fn hash<'l>(
        &self,
        labels: impl Fn(&AgentId) -> Option<&'l BTreeMap<String, String>>,
        fleet: usize,
    ) -> Digest {
        let mut hash = Bound::new("cordon plan 1");
        hash.text(&self.manifest_hash.to_string());
        hash.text(&canonical_json(self.inputs));
        hash.text(&canonical_json(self.config));
        hash.number(self.targets.len() as u64);
        for (name, hosts) in self.targets {
            hash.text(name);
            hash.number(hosts.len() as u64);
            for host in hosts {
                hash.text(host.as_str());
                let labels = labels(host);
                hash.number(labels.map_or(0, BTreeMap::len) as u64);
                for (name, value) in labels.into_iter().flatten() {
                    hash.text(name);
                    hash.text(value);
                }
            }
        }
        let declared = self.manifest.steps.iter().chain(&self.manifest.finally);
        for (declared, foreseen) in declared.zip(self.steps) {
            hash.text(foreseen.impact.as_str());
            hash.text(foreseen.undo.as_deref().unwrap_or(""));
            let two = declared.gate.is_some() && {
                let hosts = set_of(declared)
                    .and_then(|set| self.targets.get(set))
                    .map_or(&[][..], Vec::as_slice);
                match declared.kind {
                    Kind::Playbook { .. } => why_two_of_run(foreseen.impact),
                    _ => why_two(foreseen.impact, hosts.len(), fleet, || {
                        hosts.iter().filter_map(&labels).any(super::is_critical)
                    }),
                }
                .is_some()
            };
            hash.number(u64::from(two));
        }
        for (what, value) in [("event", self.event), ("group", self.group)] {
            if !value.is_null() {
                hash.text(what);
                hash.text(&canonical_json(value));
            }
        }
        hash.finish()
    }
}

/// The target set on whose hosts a step's tasks run.
pub(crate) fn set_of(step: &Step) -> Option<&str> {
    match &step.over {
        Over::Targets(set) => Some(set),
        Over::ForEach { host, .. } => host.as_ref().map(|host| host.within.as_str()),
        Over::Once => None,
    }
}
