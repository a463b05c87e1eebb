//! Custody records: what was collected, where, by which task, and who holds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Custody, HandedIn};
use crate::id::{AgentId, Digest, NodeId, RunId};

/// All records, in the order in which they came, with indexes that are derived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    records: Vec<Custody>,
    by_digest: BTreeMap<Digest, Vec<u32>>,
    by_run: BTreeMap<RunId, Vec<u32>>,
    by_agent: BTreeMap<AgentId, Vec<u32>>,
    handed_in: Vec<HandedIn>,
    /// What is the same: content, submission and who.
    same_handed_in: BTreeMap<(Digest, String, String), u32>,
}

impl Evidence {
    /// All.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Custody> {
        self.records.iter()
    }

    /// What people handed in.
    pub fn handed_in(&self) -> impl DoubleEndedIterator<Item = &HandedIn> {
        self.handed_in.iter()
    }

    /// How many records there are of both kinds.
    pub fn len(&self) -> usize {
        self.records.len() + self.handed_in.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        match same {
            Some(i) => gains(&mut self.records[i as usize].nodes, &custody.nodes),
            None => {
                let mut nodes = Vec::new();
                gains(&mut nodes, &custody.nodes);
                self.push(Custody {
                    nodes,
                    ..custody.clone()
                });
                true
            }
        }
    }

    /// Takes what a person handed in. The same content, of the same person under the same name, only adds the nodes that
    /// hold it. Returns whether anything is new.
    pub(crate) fn take_handed_in(&mut self, handed_in: &HandedIn) -> bool {
        match self.same_handed_in.get(&key_of(handed_in)) {
            Some(&i) => gains(&mut self.handed_in[i as usize].nodes, &handed_in.nodes),
            None => {
                let mut nodes = Vec::new();
                gains(&mut nodes, &handed_in.nodes);
                self.push_handed_in(HandedIn {
                    nodes,
                    ..handed_in.clone()
                });
                true
            }
        }
    }

    pub(crate) fn push_handed_in(&mut self, handed_in: HandedIn) {
        let i = self.handed_in.len() as u32;
        self.same_handed_in.insert(key_of(&handed_in), i);
        self.handed_in.push(handed_in);
    }

    pub(crate) fn push(&mut self, custody: Custody) {
        let i = self.records.len() as u32;
        self.by_digest.entry(custody.sha256).or_default().push(i);
        self.by_run.entry(custody.task.run).or_default().push(i);
        self.by_agent.entry(custody.agent.clone()).or_default().push(i);
        self.records.push(custody);
    }
}

fn key_of(handed_in: &HandedIn) -> (Digest, String, String) {
    let HandedIn {
        sha256,
        submission,
        operator,
        ..
    } = handed_in;
    (*sha256, submission.clone(), operator.clone())
}

/// Adds holders to those of a record, in order and each once; whether there is a new one.
fn gains(nodes: &mut Vec<NodeId>, more: &[NodeId]) -> bool {
    let all: BTreeSet<_> = nodes.iter().chain(more).copied().collect();
    let all: Vec<_> = all.into_iter().collect();
    let new = all != *nodes;
    *nodes = all;
    new
}
