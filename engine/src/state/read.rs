//! What others read of the state. All of it is cheap: no walk over the fleet but in an iterator.

use std::collections::BTreeMap;
use std::sync::Arc;

use playbook::manifest::Manifest;

use crate::command::{Custody, HandedIn, NodeInfo};
use crate::effect::Reply;
use crate::id::{AgentId, ApprovalId, Digest, NodeId, RequestId, RunId};
use crate::state::State;
use crate::state::agents::Agent;
use crate::state::approvals::Approval;
use crate::state::audit::AuditRecord;
use crate::state::nodes::Cluster;
use crate::state::playbooks::Playbooks;
use crate::state::roles::Roles;
use crate::state::runs::{Run, TaskView};
use crate::state::tokens::Token;
use crate::state::triggers::Triggers;
use crate::time::Timestamp;

impl State {
    /// What the request was answered, and would be again; None: it was not, or that is forgotten.
    pub fn answer_to(&self, request: &RequestId) -> Option<&Reply> {
        self.dedup.get(request).map(|(_, reply)| reply)
    }

    /// The index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Notes that an entry without a command (raft's own) was applied.
    pub fn skip_to(&mut self, index: u64) {
        self.applied_index = index;
    }

    /// The greatest time seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The earliest deadline: the leader proposes a `Tick` when its clock reaches it.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Who this cluster is; None before it was bootstrapped.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The members' address book, by raft id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.by_id.values()
    }

    /// It is a member, and is not about to be removed.
    pub fn stays(&self, node: NodeId) -> bool {
        self.nodes.by_id.contains_key(&node) && !self.nodes.leaving.contains(&node)
    }

    /// Whether it was a member, and is none any more: its id is never used again.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.nodes.removed.contains(&node)
    }

    /// A member.
    pub fn node(&self, node: NodeId) -> Option<&NodeInfo> {
        self.nodes.by_id.get(&node)
    }

    /// An agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// All agents, in the order of their ids.
    pub fn agents(&self) -> impl DoubleEndedIterator<Item = &Agent> {
        self.agents.iter()
    }

    /// The agents behind this id.
    pub fn agents_after(&self, id: &AgentId) -> impl Iterator<Item = &Agent> {
        self.agents.after(id)
    }

    /// How many agents there are.
    pub fn agents_total(&self) -> usize {
        self.agents.len()
    }

    /// How many agents have a session.
    pub fn agents_online(&self) -> usize {
        self.agents.online()
    }

    /// The sessions that this node is said to hold: a node that starts closes them all, for it holds none.
    pub fn sessions_of(&self, node: NodeId) -> impl Iterator<Item = (&AgentId, u64)> {
        self.agents.iter().filter_map(move |agent| {
            let session = agent.session.as_ref().filter(|session| session.node == node)?;
            Some((&agent.id, session.session))
        })
    }

    /// All join tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter()
    }

    /// A join token, by its public half.
    pub fn token(&self, id: &str) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// A run.
    pub fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.get(id)
    }

    /// All runs, the newest first.
    pub fn runs_newest_first(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().rev()
    }

    /// The runs before this one, the newest first.
    pub fn runs_before(&self, id: &RunId) -> impl Iterator<Item = &Run> {
        self.runs.before(id)
    }

    /// The runs that are not over: what a new leader has to go on with. Their deadlines are in
    /// [`State::next_deadline`], their agents' work in [`State::assignments`].
    pub fn active_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.active().iter().filter_map(|id| self.runs.get(id))
    }

    /// How many runs are not over.
    pub fn runs_active(&self) -> usize {
        self.runs.active().len()
    }

    /// The tasks of a step, from this item on.
    pub fn tasks(&self, run: &RunId, step: u16, from: u32) -> impl Iterator<Item = TaskView<'_>> {
        self.runs
            .get(run)
            .into_iter()
            .flat_map(move |run| run.tasks(step, from))
    }

    /// An approval request.
    pub fn approval(&self, id: ApprovalId) -> Option<&Approval> {
        self.approvals.get(id)
    }

    /// All approval requests that are kept, the newest first.
    pub fn approvals_newest_first(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().rev()
    }

    /// The approval requests before this one, the newest first.
    pub fn approvals_before(&self, id: ApprovalId) -> impl Iterator<Item = &Approval> {
        self.approvals.before(id)
    }

    /// What people are asked about a run.
    pub fn approvals_waiting(&self, run: RunId) -> impl Iterator<Item = &Approval> {
        self.approvals.waiting_of(run)
    }

    /// Who holds which role.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// A manifest that a run was started with.
    pub fn manifest(&self, hash: &Digest) -> Option<&Arc<Manifest>> {
        self.runs.manifests().get(hash)
    }

    /// All manifests, by hash.
    pub fn manifests(&self) -> &BTreeMap<Digest, Arc<Manifest>> {
        self.runs.manifests()
    }

    /// Published playbooks.
    pub fn playbooks(&self) -> &Playbooks {
        &self.playbooks
    }

    /// What starts playbooks by itself.
    pub fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// All custody records, in the order in which they came.
    pub fn evidence(&self) -> impl DoubleEndedIterator<Item = &Custody> {
        self.evidence.iter()
    }

    /// What people handed in, in the order in which it came.
    pub fn handed_in(&self) -> impl DoubleEndedIterator<Item = &HandedIn> {
        self.evidence.handed_in()
    }

    /// Everything that is held: its content's name and size, and who has it by that record.
    pub fn held(&self) -> impl Iterator<Item = (&Digest, u64, &[NodeId])> {
        let collected = self.evidence.iter();
        let collected = collected.map(|record| (&record.sha256, record.size_bytes, record.nodes.as_slice()));
        let handed_in = self.evidence.handed_in();
        collected.chain(handed_in.map(|record| (&record.sha256, record.size_bytes, record.nodes.as_slice())))
    }

    /// The custody records of a run.
    pub fn evidence_of_run(&self, run: &RunId) -> impl Iterator<Item = &Custody> {
        self.evidence.of_run(run)
    }

    /// The custody records of a host.
    pub fn evidence_of_agent(&self, agent: &AgentId) -> impl Iterator<Item = &Custody> {
        self.evidence.of_agent(agent)
    }

    /// The custody records of a content.
    pub fn custody(&self, sha256: &Digest) -> impl Iterator<Item = &Custody> {
        self.evidence.of_digest(sha256)
    }

    /// Up to `limit` audit records behind a sequence number.
    pub fn audit_after(&self, sequence: u64, limit: usize) -> impl Iterator<Item = &AuditRecord> {
        self.audit.after(sequence, limit, None)
    }

    /// Up to `limit` audit records of a run behind a sequence number.
    pub fn audit_of_run(
        &self,
        run: RunId,
        sequence: u64,
        limit: usize,
    ) -> impl Iterator<Item = &AuditRecord> {
        self.audit.after(sequence, limit, Some(run))
    }

    /// The newest audit record of this verb about a run.
    pub fn audit_newest(&self, run: RunId, verb: &str) -> Option<&AuditRecord> {
        self.audit.newest(run, verb)
    }

    /// The hash of the newest audit record: what a reader remembers to notice a changed past.
    pub fn audit_head(&self) -> Digest {
        self.audit.head()
    }

    /// How many audit records there ever were.
    pub fn audit_sequence(&self) -> u64 {
        self.audit.sequence()
    }
}
