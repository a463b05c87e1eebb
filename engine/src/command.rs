//! Every input of the state machine, in one enum.
//!
//! Time, ids and everything random travel in the command: `apply` draws nothing. The encoding is
//! MessagePack with field names, so that an old reader skips a field that it does not know and a new
//! reader fills one in that an old writer did not send; an unknown *variant* is an error, and halts
//! the node that cannot apply it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use crate::id::{AgentId, ApprovalId, AttemptKey, Digest, NodeId, RequestId, RunId, TaskKey, TriggerId};
use crate::plan::Foretold;
use crate::planner::Decision;
use crate::state::claims::Claims;
use crate::time::Timestamp;

/// A log entry: an envelope, stamped by the leader that proposed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's clock. Apply uses max(state's now, this).
    pub at: Timestamp,
    /// What is proposed.
    pub envelope: Envelope,
}

/// A proposal, as it travels to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// A repeat with the same id and the same command gets the first one's reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Who asks; already authenticated and authorised.
    pub actor: Actor,
    /// What for.
    pub command: Command,
}

/// On whose behalf a command is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A person, by the id in the certificate.
    Operator(String),
    /// A coordinator: sessions, batches of reports, custody.
    Node(NodeId),
    /// The leader's planner and timers.
    Leader,
}

impl Actor {
    /// The id of the person who asks; None: it is nobody's wish.
    pub(crate) fn person(&self) -> Option<String> {
        match self {
            Actor::Operator(id) => Some(id.clone()),
            Actor::Node(_) | Actor::Leader => None,
        }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Operator(id) => write!(f, "operator/{id}"),
            Actor::Node(node) => write!(f, "node/{}", node.0),
            Actor::Leader => f.write_str("leader"),
        }
    }
}

/// Everything that can be asked of the state machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first entry of a cluster. Refused afterwards, unless it names the same cluster.
    Bootstrap {
        /// Drawn by `cordon init`.
        cluster: uuid::Uuid,
        /// The trust domain of every identity.
        trust_domain: String,
        /// The members' address book.
        nodes: Vec<NodeInfo>,
    },
    /// Adds a member to the address book, or replaces its entry. (Its vote is raft's affair.)
    PutNode(NodeInfo),
    /// A member is about to be removed: from now on nothing counts on the evidence that it holds. ([`Command::PutNode`]
    /// takes this back.)
    NodeLeaves {
        /// Which.
        node: NodeId,
        /// Also where no other member holds a piece of evidence.
        lose_evidence: bool,
    },
    /// Takes a member out of the address book; its sessions are closed.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
    /// Makes a join token.
    CreateToken {
        /// The public half, to list and revoke.
        id: String,
        /// SHA-256 of the secret half.
        hash: Digest,
        /// How many agents may join with it, at least 1.
        uses: u32,
        /// When it stops working.
        expires_at: Timestamp,
        /// What its agents are labelled with.
        labels: BTreeMap<String, String>,
        /// Fixes the id of its one agent.
        agent: Option<AgentId>,
    },
    /// Makes a join token useless.
    RevokeToken {
        /// The public half.
        id: String,
    },
    /// Consumes one use of a join token. The same token and key again give the same agent.
    Enroll {
        /// SHA-256 of the secret half.
        token: Digest,
        /// SHA-256 of the key that was proved.
        key: Digest,
        /// A wish for the agent's id; made a valid and unused one.
        hostname: String,
    },
    /// An agent's new key, proved over its live session.
    RenewKey {
        /// Whose.
        agent: AgentId,
        /// SHA-256 of the key that the session's certificate holds: must be the recorded one.
        current: Digest,
        /// SHA-256 of the new key.
        next: Digest,
    },
    /// Replaces an agent's labels.
    SetLabels {
        /// Whose.
        agent: AgentId,
        /// All of them.
        labels: BTreeMap<String, String>,
    },
    /// The agent is denied for good; its open tasks end.
    RevokeAgent {
        /// Whom.
        agent: AgentId,
        /// Why, for the audit.
        reason: String,
    },
    /// What changed among the sessions of one node, batched.
    Sessions {
        /// The node that holds them.
        node: NodeId,
        /// Agents that attached.
        opened: Vec<SessionOpened>,
        /// Agents that left.
        closed: Vec<SessionClosed>,
        /// New facts of agents that are attached: (agent, JSON object of at most 16 KiB).
        facts: Vec<(AgentId, String)>,
    },
    /// Starts a run: the plan, frozen.
    StartRun(Box<StartRun>),
    /// Starts the run that an attempt of a `playbook` step asks for. (A variant of its own: an old reader must not take it
    /// for a run that nobody waits for.)
    StartChild(Box<StartChild>),
    /// Ends a run early: nothing more is assigned, what is assigned is cancelled, `finally` runs.
    CancelRun {
        /// Which.
        run: RunId,
        /// Why, for the audit and the agents.
        reason: String,
    },
    /// Cancels a run, and undoes what it did before its `finally`. (A variant of its own: an old reader must not take
    /// it for a mere cancel.)
    CancelAndRollBack {
        /// Which.
        run: RunId,
        /// Why, for the audit and the agents.
        reason: String,
    },
    /// Undoes what a run did that is over.
    RollbackRun {
        /// Which.
        run: RunId,
        /// Why, for the audit.
        reason: String,
        /// The run's, as it was when people were shown what would be done: a changed one is refused.
        revision: u64,
    },
    /// Nothing more of the run is opened or assigned until it is resumed; what agents hold goes on.
    PauseRun {
        /// Which.
        run: RunId,
        /// Why, for the audit.
        reason: String,
    },
    /// A paused run goes on.
    ResumeRun {
        /// Which.
        run: RunId,
    },
    /// Gives tasks that ended and did not succeed another attempt, in a run that goes on or is over.
    RetryRun {
        /// Which.
        run: RunId,
        /// Only this step's; None: all steps'.
        step: Option<u16>,
        /// Also those that may have been done.
        unknown: bool,
    },
    /// A person found out what became of a task that ended `unknown`.
    SettleTask {
        /// Which.
        task: TaskKey,
        /// It was done; otherwise it was not.
        succeeded: bool,
        /// By what that was found out, for the audit.
        reason: String,
    },
    /// What the planner decided. Refused, decision by decision, where the run has moved on.
    Plan {
        /// The index of the last entry that the planner had seen.
        drawn_at: u64,
        /// In order.
        decisions: Vec<Decision>,
    },
    /// What agents said, batched by their node.
    Reports {
        /// The node that batched them.
        node: NodeId,
        /// In the order in which each agent said them.
        reports: Vec<Report>,
    },
    /// Keeps a version of a playbook under its name.
    Publish(Box<Publish>),
    /// What happened elsewhere, and what listens to it.
    Events(Box<TakeEvents>),
    /// A trigger is held back, or not any more.
    SetTrigger {
        /// Which.
        trigger: TriggerId,
        /// It fires.
        enabled: bool,
        /// Why, for the audit.
        reason: String,
    },
    /// When a schedule is due next, as the leader's calendar says, and that it is due now.
    Schedule(Schedule),
    /// What a trigger set off becomes no run.
    NotFired {
        /// Which firing.
        firing: u64,
        /// Why, for people.
        why: String,
    },
    /// How calls ended that the leader carried out.
    Calls(Vec<CallEnded>),
    /// Evidence that is on enough disks.
    Custody(Box<Custody>),
    /// A file that a person handed in, and that is on enough disks.
    HandedIn(Box<HandedIn>),
    /// A person answers an approval request or a question.
    Answer(Box<GiveAnswer>),
    /// An operator gets a role.
    GrantRole {
        /// Who.
        operator: String,
        /// Its name.
        role: String,
    },
    /// An operator loses a role.
    RevokeRole {
        /// Who.
        operator: String,
        /// Its name.
        role: String,
    },
    /// Nothing but the time: deadlines up to it fire.
    Tick,
}

/// A member of the cluster, for people and for agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its raft id.
    pub node: NodeId,
    /// Its name, as in its certificate: `[a-z0-9-]{1,63}`.
    pub name: String,
    /// host:port of the peers' listener.
    pub peer_endpoint: String,
    /// host:port of the agents' listener.
    pub agent_endpoint: String,
    /// host:port of the operators' listener.
    pub operator_endpoint: String,
    /// host:port of the enrolment listener.
    pub enroll_endpoint: String,
}

/// An agent attached to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Who.
    pub agent: AgentId,
    /// Drawn by the node; a greater one never comes from an older stream of the same node.
    pub session: u64,
    /// SHA-256 of the key in the certificate that it showed.
    pub key: Digest,
    /// The agent's version.
    pub version: String,
    /// The kernel's boot id, as the agent says.
    pub boot_id: String,
    /// Host facts as a JSON object of at most 16 KiB. Never used to authorise, nor to target above collect.
    pub facts: String,
    /// What it says it has begun and not ended.
    pub running: Vec<AttemptKey>,
}

/// An agent left a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClosed {
    /// Who.
    pub agent: AgentId,
    /// Which of its sessions.
    pub session: u64,
}

/// A plan to carry out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRun {
    /// Drawn by the node that took the request.
    pub run: RunId,
    /// SHA-256 of the manifest.
    pub manifest_hash: Digest,
    /// The manifest itself; stored once per hash.
    pub manifest: playbook::manifest::Manifest,
    /// Bound and checked: a JSON object.
    pub inputs: serde_json::Value,
    /// Resolved and frozen, each sorted.
    pub targets: BTreeMap<String, Vec<AgentId>>,
    /// The cluster's named constants, as they were.
    pub config: serde_json::Value,
    /// What the plan says besides. None: a proposer of before there were plan hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold: Option<Foretold>,
    /// The event that triggered it; null: a person started it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub event: serde_json::Value,
    /// The events that a threshold counted, and their key; null: no threshold triggered it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub group: serde_json::Value,
    /// What it claims while it is active, as its proposer evaluated `limits`.
    #[serde(default, skip_serializing_if = "Claims::is_nothing")]
    pub claims: Claims,
    /// SHA-256 over the canonical inputs as they were asked for, where the playbook leaves out what others have locked:
    /// the same request is the same, whatever was left out of it this time. None: all of `inputs` was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// What set it off; None: a person, or another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Fired>,
}

/// What sets a run off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// Which firing: it becomes one run.
    pub firing: u64,
    /// What tells it from others, where only the whole group says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Digest>,
}

/// Events, weighed by the node that took them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeEvents {
    /// What listened then: [`crate::state::triggers::Triggers::revision`].
    pub listeners: u64,
    /// Those that something listens to, in the order in which they came.
    pub events: Vec<NewEvent>,
    /// How many more triggers matched and start nothing, for the same was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deduplicated: Vec<(TriggerId, u32)>,
    /// How many events had no key for a trigger, and why the last had none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<(TriggerId, u32, String)>,
}

/// An event that something listens to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// As expressions see it: JSON.
    pub text: Arc<str>,
    /// SHA-256 of what came in.
    pub sha256: Digest,
    /// What listens.
    pub hits: Vec<Hit>,
}

/// What listens to an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hit {
    /// A trigger whose condition holds.
    Trigger {
        /// Which.
        of: TriggerId,
        /// The key under which a threshold counts it, JSON.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// What tells it from others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dedupe: Option<Digest>,
    },
    /// A step that waits for it.
    Wait {
        /// Of the run.
        run: RunId,
        /// Its number.
        step: u16,
    },
}

/// Times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Which.
    pub trigger: TriggerId,
    /// The version of its playbook: another one's times are no longer its.
    pub version: u32,
    /// The time that has come; None: it had none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The first time behind now; None: never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

/// A run that a step of another one begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartChild {
    /// The attempt that it is of: one run for each.
    pub attempt: AttemptKey,
    /// The plan to carry out.
    pub start: StartRun,
}

/// What an agent says of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who says it: the agent of the session, not a field of its message.
    pub agent: AgentId,
    /// Of which attempt.
    pub key: AttemptKey,
    /// What.
    pub body: ReportBody,
}

/// A version of a playbook. Whoever proposes it has compiled the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// As the text says.
    pub name: String,
    /// As the text says.
    pub version: u32,
    /// As it was handed in.
    pub text: std::sync::Arc<str>,
    /// SHA-256 of the manifest that it compiles to.
    pub manifest_hash: Digest,
    /// What the author says of the change; may be empty.
    pub note: String,
    /// What starts it by itself, as the text says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<playbook::manifest::Trigger>,
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnded {
    /// The attempt.
    pub key: AttemptKey,
    /// How it ended.
    pub outcome: Outcome,
}

/// The two things an agent says of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportBody {
    /// It has begun: the intent is in the agent's journal.
    Started,
    /// It has ended: the outcome is in the agent's journal.
    Ended(Outcome),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which way.
    pub status: OutcomeStatus,
    /// A JSON object of at most 64 KiB, checked against the action's schema by the node that took it.
    pub output: serde_json::Value,
    /// Why, unless it succeeded.
    pub error: Option<TaskError>,
}

/// Which way an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// Done.
    Succeeded,
    /// Not done, and known not to be.
    Failed,
    /// Stopped before it was done, as asked.
    Cancelled,
    /// May have been done.
    Unknown,
}

/// Why a task did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// Stable, `[a-z_]+`; playbooks match on it.
    pub code: String,
    /// For people; never parsed.
    pub message: String,
}

/// A person's answer to an approval request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GiveAnswer {
    /// Which.
    pub approval: ApprovalId,
    /// What the person saw: [`crate::state::Approval::binding`].
    pub binding: Digest,
    /// What the person says.
    pub said: Said,
    /// Why; never empty, at most 1 KiB.
    pub reason: String,
}

/// What a person says to an approval request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It may be done.
    Approve,
    /// It may not.
    Deny,
    /// What a form holds: a JSON object with every field, checked by the node that took it.
    Fill(serde_json::Value),
}

/// Evidence and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// SHA-256 of the content: its name.
    pub sha256: Digest,
    /// Of the content.
    pub size_bytes: u64,
    /// The host it was read on.
    pub agent: AgentId,
    /// The path there, as the host's bytes.
    pub path: Vec<u8>,
    /// The task that read it.
    pub task: TaskKey,
    /// When the host read it, by the host's clock.
    pub collected_at: Timestamp,
    /// The file changed while it was read.
    pub changed_during_read: bool,
    /// The nodes that hold it durably.
    pub nodes: Vec<NodeId>,
}

/// A file that a person handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedIn {
    /// SHA-256 of the content: its name.
    pub sha256: Digest,
    /// Of the content.
    pub size_bytes: u64,
    /// Who handed it in.
    pub operator: String,
    /// Under which name, as triggers have it.
    pub submission: String,
    /// Its media type, as the sender says.
    pub media: String,
    /// The file's name, as the sender says.
    pub file: String,
    /// When its last byte had come, by the clock of the node that took it.
    pub received_at: Timestamp,
    /// The nodes that hold it durably.
    pub nodes: Vec<NodeId>,
}
