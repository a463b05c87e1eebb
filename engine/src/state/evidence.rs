//! Custody records: what was collected, where, by which task, and who holds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Custody;
use crate::id::{AgentId, Digest, RunId};

/// All records, in the order in which they came, with indexes that are derived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    records: Vec<Custody>,
    by_digest: BTreeMap<Digest, Vec<u32>>,
    by_run: BTreeMap<RunId, Vec<u32>>,
    by_agent: BTreeMap<AgentId, Vec<u32>>,
}

impl Evidence {
    /// All.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Custody> {
        self.records.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Of this content.
    pub fn of_digest(&self, digest: &Digest) -> impl Iterator<Item = &Custody> {
        self.pick(self.by_digest.get(digest))
    }

    /// Collected by this run.
    pub fn of_run(&self, run: &RunId) -> impl Iterator<Item = &Custody> {
        self.pick(self.by_run.get(run))
    }

    /// Read on this host.
    pub fn of_agent(&self, agent: &AgentId) -> impl Iterator<Item = &Custody> {
        self.pick(self.by_agent.get(agent))
    }

    fn pick<'a>(&'a self, at: Option<&'a Vec<u32>>) -> impl Iterator<Item = &'a Custody> {
        at.into_iter().flatten().map(|&i| &self.records[i as usize])
    }

    /// Takes a record. The same content, task and path again only adds the nodes that hold it.
    /// Returns whether anything is new.
    pub(crate) fn take(&mut self, custody: &Custody) -> bool {
        let same = self.by_digest.get(&custody.sha256).and_then(|at| {
            at.iter().copied().find(|&i| {
                let record = &self.records[i as usize];
                record.task == custody.task && record.path == custody.path
            })
        });
        let nodes: BTreeSet<_> = custody.nodes.iter().copied().collect();
        match same {
            Some(i) => {
                let record = &mut self.records[i as usize];
                let all: Vec<_> = record
                    .nodes
                    .iter()
                    .copied()
                    .collect::<BTreeSet<_>>()
                    .union(&nodes)
                    .copied()
                    .collect();
                let new = all != record.nodes;
                record.nodes = all;
                new
            }
            None => {
                self.push(Custody {
                    nodes: nodes.into_iter().collect(),
                    ..custody.clone()
                });
                true
            }
        }
    }

    pub(crate) fn push(&mut self, custody: Custody) {
        let i = self.records.len() as u32;
        self.by_digest.entry(custody.sha256).or_default().push(i);
        self.by_run.entry(custody.task.run).or_default().push(i);
        self.by_agent.entry(custody.agent.clone()).or_default().push(i);
        self.records.push(custody);
    }
}
