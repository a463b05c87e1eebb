//! The snapshot: the whole state as bytes, and its hash.
//!
//! ```text
//! "CORDONST" | format version, u32 big-endian | SHA-256 of the body, 32 bytes | body: MessagePack
//! ```
//! A reader takes its own format and older ones, and refuses newer ones: a node is upgraded before it
//! reads what an upgraded one wrote. The body has field names; a field that is added gets `#[serde(default)]`
//! and the version stays. The version grows when the meaning of a field changes, or that of a task, which is
//! a tuple without names. What is derived is not written: it is built again here.

use std::sync::Arc;

use playbook::manifest::{FORMAT_WHOLE, Manifest, Over};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::command::{Custody, HandedIn};
use crate::id::{ApprovalId, Digest, RunId};
use crate::state::agents::Agent;
use crate::state::approvals::Approval;
use crate::state::audit::Audit;
use crate::state::dedup::Dedup;
use crate::state::nodes::{Cluster, Nodes};
use crate::state::playbooks::Published;
use crate::state::roles::Roles;
use crate::state::runs::Run;
use crate::state::tasks::TaskStatus;
use crate::state::timers::Timer;
use crate::state::tokens::Token;
use crate::state::triggers::{Triggers, Writing, Written};
use crate::state::{State, TaskCounts};
use crate::time::Timestamp;

const MAGIC: &[u8; 8] = b"CORDONST";
/// The newest that this build reads.
const VERSION: u32 = 8;
/// Of a state with a run of which something is undone: it has more steps than its manifest, and may be rolling back.
/// An older reader, which knows neither, refuses it as newer than itself; it still reads every other state.
const VERSION_UNDO: u32 = 2;
/// Of a state with a run that has a plan hash: an older reader would drop it, and bind its approvals otherwise.
const VERSION_PLANNED: u32 = 3;
/// Of a state with a run that claims something, or with a member that is about to leave: an older reader would drop that,
/// and let other runs begin, or the last copies of evidence go.
const VERSION_CLAIMED: u32 = 4;
/// Of a state with a run in which steps follow others host by host: an older reader would let them wait for all hosts.
const VERSION_FOLLOWED: u32 = 5;
/// Of a state with a run that begins others, or that another began: an older reader would make calls of its tasks, and
/// lose whose it is.
const VERSION_NESTED: u32 = 6;
/// Of a state with triggers, or with a run that waits for an event: an older reader would drop them.
const VERSION_TRIGGERED: u32 = 7;
/// Of a state with files that people handed in: an older reader would drop whose they are and where.
const VERSION_HANDED_IN: u32 = 8;
/// Of every other state.
const VERSION_PLAIN: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 32;

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer version.
    #[error("the snapshot has version {found}, this build reads up to {supported}: upgrade this node")]
    Version {
        /// In the file.
        found: u32,
        /// By this build.
        supported: u32,
    },
    /// Not a snapshot, or damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// What is written, borrowed.
#[derive(Serialize)]
struct BodyRef<'a> {
    applied_index: u64,
    now: Timestamp,
    cluster: &'a Option<Cluster>,
    nodes: &'a Nodes,
    agents: Vec<&'a Agent>,
    tokens: Vec<&'a Token>,
    /// None where the body is only hashed: the hash stands for the manifest. (Maps of JSON within it keep the
    /// order of their keys in some builds and not in others.)
    manifests: Vec<(&'a Digest, Option<&'a Manifest>)>,
    runs: Vec<&'a Run>,
    finished: Vec<&'a RunId>,
    roles: &'a Roles,
    approvals: Vec<&'a Approval>,
    approvals_last: ApprovalId,
    evidence: Vec<&'a Custody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handed_in: Vec<&'a HandedIn>,
    playbooks: Vec<&'a Published>,
    #[serde(skip_serializing_if = "Option::is_none")]
    triggers: Option<Writing<'a>>,
    /// None where the body is only hashed: the chain's head stands for its records.
    audit: Option<&'a Audit>,
    audit_head: (u64, Digest),
    dedup: &'a Dedup,
}

/// What is read.
#[derive(Deserialize)]
struct Body {
    applied_index: u64,
    now: Timestamp,
    cluster: Option<Cluster>,
    nodes: Nodes,
    agents: Vec<Agent>,
    tokens: Vec<Token>,
    manifests: Vec<(Digest, Manifest)>,
    runs: Vec<Run>,
    finished: Vec<RunId>,
    #[serde(default)]
    roles: Roles,
    #[serde(default)]
    approvals: Vec<Approval>,
    #[serde(default)]
    approvals_last: ApprovalId,
    evidence: Vec<Custody>,
    #[serde(default)]
    handed_in: Vec<HandedIn>,
    #[serde(default)]
    playbooks: Vec<Published>,
    #[serde(default)]
    triggers: Written,
    audit: Audit,
    dedup: Dedup,
}

impl State {
    /// The versioned snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let body = crate::codec::to_bytes(&self.body(Some(&self.audit)));
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.version().to_be_bytes());
        bytes.extend_from_slice(&sha2::Sha256::digest(&body));
        bytes.extend_from_slice(&body);
        bytes
    }

    /// The least that a reader must know to read this state.
    fn version(&self) -> u32 {
        let handed_in = match self.evidence.handed_in().next() {
            Some(_) => VERSION_HANDED_IN,
            None => VERSION_PLAIN,
        };
        let least = match (self.triggers.is_nothing(), self.nodes.leaving.is_empty()) {
            (false, _) => VERSION_TRIGGERED,
            (true, false) => VERSION_CLAIMED,
            (true, true) => VERSION_PLAIN,
        };
        let nested = |run: &Run| {
            run.parent.is_some() || (0..run.manifest().step_count()).any(|step| run.begins_run(step))
        };
        let of = |run: &Run| match (run.plan_hash, run.undo.is_nothing()) {
            _ if nested(run) => VERSION_NESTED,
            _ if run.manifest.format > FORMAT_WHOLE => VERSION_FOLLOWED,
            _ if !run.claims.is_nothing() => VERSION_CLAIMED,
            (Some(_), _) => VERSION_PLANNED,
            (None, false) => VERSION_UNDO,
            (None, true) => VERSION_PLAIN,
        };
        self.runs.iter().map(of).fold(least.max(handed_in), u32::max)
    }

    /// Reads a snapshot of this version or an older one.
    pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
        let damaged = |why: &str| SnapshotError::Damaged(why.to_owned());
        let (header, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| damaged("it is shorter than its header"))?;
        if &header[..8] != MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        let found = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if found > VERSION {
            return Err(SnapshotError::Version {
                found,
                supported: VERSION,
            });
        }
        if sha2::Sha256::digest(body)[..] != header[12..] {
            return Err(damaged("its hash is not the one in its header"));
        }
        let body: Body = rmp_serde::from_slice(body).map_err(|e| SnapshotError::Damaged(e.to_string()))?;
        State::from_body(body)
    }

    /// A hash over the whole state: equal on every node at an equal index. Costs one encoding of everything
    /// but the audit's records and the manifests, which their hashes stand for: some ten milliseconds with 10,000 agents.
    pub fn hash(&self) -> Digest {
        let mut hash = Hasher(sha2::Sha256::new());
        let mut serializer = rmp_serde::Serializer::new(&mut hash).with_struct_map();
        self.body(None)
            .serialize(&mut serializer)
            .expect("every type of ours can be encoded, and a hash can be written to");
        Digest(hash.0.finalize().into())
    }

    fn body<'a>(&'a self, audit: Option<&'a Audit>) -> BodyRef<'a> {
        BodyRef {
            applied_index: self.applied_index,
            now: self.now,
            cluster: &self.cluster,
            nodes: &self.nodes,
            agents: self.agents.iter().collect(),
            tokens: self.tokens.iter().collect(),
            manifests: self
                .runs
                .manifests()
                .iter()
                .map(|(hash, manifest)| (hash, audit.map(|_| &**manifest)))
                .collect(),
            runs: self.runs.iter().collect(),
            finished: self.runs.finished.iter().collect(),
            roles: &self.roles,
            approvals: self.approvals.iter().collect(),
            approvals_last: self.approvals.last(),
            evidence: self.evidence.iter().collect(),
            handed_in: self.evidence.handed_in().collect(),
            playbooks: self.playbooks.iter().collect(),
            triggers: (!self.triggers.is_nothing()).then(|| self.triggers.writing()),
            audit,
            audit_head: (self.audit.sequence(), self.audit.head()),
            dedup: &self.dedup,
        }
    }

    fn from_body(body: Body) -> Result<State, SnapshotError> {
        let mut state = State {
            applied_index: body.applied_index,
            now: body.now,
            cluster: body.cluster,
            nodes: body.nodes,
            audit: body.audit,
            roles: body.roles,
            triggers: Triggers::read(body.triggers),
            dedup: body.dedup,
            ..State::default()
        };
        for agent in body.agents {
            state.agents.insert(agent);
        }
        for token in body.tokens {
            state.tokens.insert(token);
        }
        for approval in body.approvals {
            if !approval.status.is_end() {
                let at = Some(approval.expires_at);
                state.timers.change(Timer::Approval(approval.id), None, at);
            }
            state.approvals.insert(approval);
        }
        state.approvals.set_last(body.approvals_last);
        for custody in body.evidence {
            state.evidence.push(custody);
        }
        for handed_in in body.handed_in {
            state.evidence.push_handed_in(handed_in);
        }
        for published in body.playbooks {
            state.playbooks.insert(published);
        }
        for (hash, manifest) in body.manifests {
            state.runs.store_manifest(hash, &manifest);
        }
        for mut run in body.runs {
            let manifest = state.runs.manifests().get(&run.manifest_hash);
            run.manifest = Arc::clone(manifest.ok_or_else(|| {
                SnapshotError::Damaged(format!("the manifest of run {} is missing", run.id))
            })?);
            if run.steps.len() != usize::from(run.manifest.step_count()) + run.undo.steps.len() {
                return Err(SnapshotError::Damaged(format!(
                    "run {} has other steps than its manifest and what undoes them",
                    run.id
                )));
            }
            if !run.undoes_what_is_there() {
                return Err(SnapshotError::Damaged(format!(
                    "run {} undoes what it has not done",
                    run.id
                )));
            }
            state.index_run(&mut run)?;
            state.runs.insert(run);
        }
        state.runs.finished = body.finished.into();
        state.runs.recount();
        Ok(state)
    }

    /// Builds what is derived from a run.
    fn index_run(&mut self, run: &mut Run) -> Result<(), SnapshotError> {
        let ticks = run.paused_at.is_none();
        self.timers
            .change(Timer::Run(run.id), None, run.deadline.filter(|_| ticks));
        for number in 0..run.steps.len() {
            let step = number as u16;
            let state = &run.steps[number];
            if ticks && state.is_timed() {
                self.timers.change(Timer::Step(run.id, step), None, state.due_at);
            }
            let over_hosts = matches!(run.declared(step).over, Over::Targets(_));
            let mut counts = TaskCounts::default();
            for item in 0..run.steps[number].tasks.len() as u32 {
                let key = crate::id::TaskKey {
                    run: run.id,
                    step,
                    item,
                };
                let (status, wake) = (run.task(step, item).status, run.task(step, item).wake);
                *counts.of_mut(status) += 1;
                let host = run.task(step, item).host;
                if over_hosts && host != item {
                    run.steps[number].items.insert(host, item);
                }
                let still = run.stands_still(step, item);
                self.timers
                    .change(Timer::Task(key), None, wake.filter(|_| !still));
                if status.is_end() {
                    continue;
                }
                if run.steps[number].is_call() {
                    match status {
                        TaskStatus::Waiting => run.steps[number].ready.insert(item),
                        TaskStatus::Started => run.steps[number].calls.insert(item),
                        TaskStatus::Judging => run.steps[number].judging.insert(item),
                        _ => false,
                    };
                    continue;
                }
                let agent = run
                    .agent_of(step, item)
                    .and_then(|id| self.agents.get_mut(id))
                    .ok_or_else(|| SnapshotError::Damaged(format!("task {key:?} has no agent")))?;
                agent.open.insert(key);
                let online = agent.is_online();
                match status {
                    TaskStatus::Waiting if online => run.steps[number].ready.insert(item),
                    TaskStatus::Judging => run.steps[number].judging.insert(item),
                    _ => false,
                };
            }
            if !run.trimmed && counts != run.steps[number].counts {
                return Err(SnapshotError::Damaged(format!("run {} has wrong counts", run.id)));
            }
        }
        if !run.status.is_end() {
            (0..run.steps.len() as u16).for_each(|step| run.weigh_hosts(step));
        }
        Ok(())
    }
}

struct Hasher(sha2::Sha256);

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
