//! What can happen, and what passes between nodes.

use coordinator::raft::{Input, PeerMessage, SnapshotWanted};
use coordinator::storage::Checkpoint;
use engine::Reply;
use engine::command::{CallEnded, Command, Envelope};
use engine::id::AttemptKey;

use super::agents::{Up, Write};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    NodeTick {
        node: u64,
        life: u64,
    },
    NodeInput {
        node: u64,
        life: u64,
        input: Box<Input>,
    },
    NodeFlush {
        node: u64,
        life: u64,
    },
    NodeBack {
        node: u64,
    },
    NodeDies {
        node: u64,
        life: u64,
        back_us: u64,
    },
    Arrive {
        from: u64,
        to: u64,
        packet: Packet,
    },
    Synced {
        node: u64,
        life: u64,
        number: u64,
    },
    CheckpointDone {
        node: u64,
        life: u64,
        checkpoint: Box<Checkpoint>,
    },
    Fetched {
        node: u64,
        life: u64,
        wanted: SnapshotWanted,
    },
    ChildDrawn {
        node: u64,
        life: u64,
        key: AttemptKey,
        command: Box<Command>,
    },
    CallEnds {
        node: u64,
        life: u64,
        ended: CallEnded,
    },
    SyncNormal {
        node: u64,
    },

    AgentWake {
        agent: usize,
        life: u64,
    },
    AgentBack {
        agent: usize,
    },
    AgentDies {
        agent: usize,
        life: u64,
        back_us: u64,
    },
    AgentLink {
        agent: usize,
        life: u64,
        connection: u64,
        node: u64,
    },
    AgentInput {
        agent: usize,
        life: u64,
        input: Box<agent::session::event::Input>,
    },
    AgentWrote {
        agent: usize,
        life: u64,
        write: Write,
    },
    AgentEffect {
        agent: usize,
        life: u64,
        run: u64,
    },
    AgentEnds {
        agent: usize,
        life: u64,
        run: u64,
    },
    FromAgent {
        agent: usize,
        connection: u64,
        node: u64,
        life: u64,
        up: Up,
    },

    ClientTry {
        client: usize,
        step: usize,
    },
    ClientAgain {
        client: usize,
        step: usize,
    },
    Fault,
    FaultsEnd,
    Mend {
        pairs: Vec<(u64, u64)>,
    },
    SkewEnds {
        agent: usize,
    },
    Weather,
    Look,
}

/// What passes between nodes.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Raft {
        message: PeerMessage,
        from_leader: bool,
    },
    Hash {
        index: u64,
        hash: engine::id::Digest,
    },
    Forward {
        id: u64,
        envelope: Box<Envelope>,
    },
    ForwardReply {
        id: u64,
        result: Result<(u64, Reply), ()>,
    },
}

impl Event {
    /// For the fingerprint of a world: it tells kinds of events apart, not their order in the source.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Event::NodeTick { node, .. } => 100 + node,
            Event::Arrive { from, to, .. } => 200 + from * 10 + to,
            Event::Synced { node, number, .. } => 300 + node + number * 1_000,
            Event::AgentEffect { agent, run, .. } => 400 + *agent as u64 + run * 1_000,
            Event::FromAgent { agent, node, .. } => 500 + *agent as u64 * 10 + node,
            Event::ClientTry { client, step } => 600 + *client as u64 * 10 + *step as u64,
            _ => 700,
        }
    }
}
