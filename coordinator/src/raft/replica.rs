//! A replica: raft and the state machine together, without a clock, a disk or a network.
//!
//! # The drive loop
//!
//! Whoever drives a replica (the driver of a real node, the simulation) does this, single-threaded:
//!
//! 1. [`Boot::load`] from the disk, then [`Replica::new`].
//! 2. Any number of [`Replica::step`], then [`Replica::ready`] until it gives `None`. (Batching inputs between
//!    two rounds of `ready` is group commit: all proposals of a batch go into one message and one write.)
//! 3. Each [`Output`] is done whole, in the order of its fields: `messages` are sent at once, before and without
//!    waiting for `write`. `write` is durable when its checkpoint (if any) is, then its log part
//!    ([`Write::to_log`]) and a [`LogStore::sync`](crate::storage::LogStore::sync); then, and only then,
//!    [`Input::Persisted`] with its number is stepped. Writes are made in order, one sync may cover several, and
//!    the caller does not wait: it goes on stepping and asking for outputs meanwhile.
//! 4. A crash is: drop the replica, lose what was not synced, and start at 1 with another `incarnation`.
//!
//! Messages that must not leave before a write is durable (votes, acknowledgements) are held back inside the
//! replica and come out in `messages` after `Persisted`. With the feature `fault-skip-fsync` the replica takes
//! every write for durable at once: the simulation must catch that.
//!
//! An `Err` of `step` or `ready`, and any panic, ends the node.
//!
//! Identical inputs give identical outputs if `election_ticks_fixed` is set.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use engine::id::Digest;
use engine::{Entry as Command, State};
use parking_lot::RwLock;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};

use super::boot::Boot;
use super::cache::Cache;
use super::contact::Contact;
use super::io::*;
use super::membership::{Change, ChangeRefused};
use super::memory;
use super::message::{PeerMessage, conf_from_raft, describe, entry_to_log};
use super::reads::Reads;
use super::snapshots::{Arriving, Leaving};
use crate::storage::{CheckpointMeta, ConfState, HardState};

/// The largest entry. (The rule for commands is 64 KiB; plans and manifests may be larger.)
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Entries of one append message.
const MESSAGE_BYTES_MAX: u64 = 512 << 10;
/// Append messages under way to a follower.
const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Proposals under way, in bytes. More are refused as busy.
const UNCOMMITTED_BYTES_MAX: u64 = 32 << 20;
/// Commands applied in one round, in bytes: other inputs wait that long.
const APPLY_BYTES_MAX: u64 = 256 << 10;
/// Committed entries that are not applied, of which no more proposals are taken.
const APPLY_LAG_MAX: u64 = 10_000;
/// Reads under way. More are given up at once.
const READS_MAX: usize = 65_536;
/// Hashes of this node's own state that are kept to be compared with the leader's.
const HASHES_KEPT: usize = 16;

struct Waiter {
    index: u64,
    id: ProposalId,
}

/// See the module.
pub struct Replica {
    config: ReplicaConfig,
    node: RawNode<Cache>,
    state: Arc<RwLock<State>>,
    role: Role,
    conf_told: ConfState,

    /// Proposals since the last round: (id, encoded entry).
    proposals: Vec<(ProposalId, Bytes)>,
    /// Proposals in the log, in the order of their indices, of `waiters_term`.
    waiters: VecDeque<Waiter>,
    waiters_term: u64,
    change: Option<Waiter>,
    refused: Vec<(ProposalId, Refused)>,

    reads: Reads,
    reads_failed: Vec<u64>,
    contact: Contact,
    arriving: Arriving,
    fetch: Option<SnapshotWanted>,
    leaving: Leaving,

    /// Writes that were asked for and are not durable: (number, whether it changes term or vote).
    writing: VecDeque<(u64, bool)>,
    /// The number of the last ready.
    last_ready: u64,
    /// Messages that wait for a write: (number, messages).
    held: VecDeque<(u64, Vec<PeerMessage>)>,
    released: Vec<PeerMessage>,
    installing: Option<(u64, CheckpointMeta)>,

    checkpoint_running: Option<u64>,
    checkpoint_wanted: bool,
    bytes_since_checkpoint: u64,
    compact: Option<u64>,

    hashes: BTreeMap<u64, Digest>,
    leader_hash: Option<(u64, u64, Digest)>,
}

impl Replica {
    /// A replica from what is on the disk.
    pub fn new(config: ReplicaConfig, boot: Boot) -> Result<Replica, Halt> {
        let Boot {
            log,
            checkpoint,
            state,
        } = boot;
        let raft_config = raft::Config {
            id: config.id,
            election_tick: config.election_ticks as usize,
            heartbeat_tick: config.heartbeat_ticks as usize,
            min_election_tick: config.election_ticks_fixed.unwrap_or(0) as usize,
            max_election_tick: config.election_ticks_fixed.map_or(0, |t| t as usize + 1),
            applied: checkpoint.as_ref().map_or(0, |c| c.index),
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            ..raft::Config::default()
        };
        let cache = Cache::new(log, checkpoint);
        let conf = cache.conf().clone();
        let node = RawNode::new(&raft_config, cache, &super::logger::logger())?;
        let role = Role {
            term: node.raft.term,
            ..Role::default()
        };
        Ok(Replica {
            reads: Reads::new(
                config.id,
                config.incarnation,
                config.heartbeat_ticks,
                config.election_ticks * 4,
            ),
            leaving: Leaving::new(config.election_ticks * 4),
            config,
            node,
            state: Arc::new(RwLock::new(state)),
            role,
            conf_told: conf,
            proposals: Vec::new(),
            waiters: VecDeque::new(),
            waiters_term: 0,
            change: None,
            refused: Vec::new(),
            reads_failed: Vec::new(),
            contact: Contact::default(),
            arriving: Arriving::default(),
            fetch: None,
            writing: VecDeque::new(),
            last_ready: 0,
            held: VecDeque::new(),
            released: Vec::new(),
            installing: None,
            checkpoint_running: None,
            checkpoint_wanted: false,
            bytes_since_checkpoint: 0,
            compact: None,
            hashes: BTreeMap::new(),
            leader_hash: None,
        })
    }

    /// Takes an input. What it leads to comes out of [`Replica::ready`].
    pub fn step(&mut self, input: Input) -> Result<(), Halt> {
        match input {
            Input::Tick => self.tick(),
            Input::Message(message) => return self.message(message),
            Input::Propose { id, at, envelope } => self.propose(
                id,
                &Command {
                    at,
                    envelope: *envelope,
                },
            ),
            Input::Read { id } if self.reads.len() >= READS_MAX => self.reads_failed.push(id),
            Input::Read { id } => self.reads.add(id),
            Input::Persisted(number) => self.persisted(number),
            Input::SnapshotArrived(fetched) => {
                if self.is_installing() || self.node.snap().is_some() {
                    // One at a time; the leader announces it again.
                    self.arriving.failed(fetched.checkpoint.meta.index);
                } else if let Some(message) = self.arriving.arrived(*fetched) {
                    self.raft_step(message)?;
                }
            }
            Input::SnapshotFailed { index } => self.arriving.failed(index),
            Input::SnapshotServed { to } => self.leaving.served(to),
            Input::Unreachable { to, snapshot } => {
                self.node.report_unreachable(to);
                if snapshot {
                    self.leaving.ended(to);
                    self.node.report_snapshot(to, SnapshotStatus::Failure);
                }
            }
            Input::ChangeMembership { id, change } => self.change_membership(id, change),
            Input::TransferLeader { to } => {
                if self.is_leader() {
                    self.node.transfer_leader(to);
                }
            }
            Input::CheckpointDurable(meta) => self.checkpoint_durable(meta),
            Input::PeerHash { from, index, hash } => {
                if Some(from) == self.leader() && from != self.config.id {
                    self.leader_hash = Some((index, from, hash));
                }
                return self.compare_hashes();
            }
        }
        Ok(())
    }

    /// The next thing to do, if there is any.
    pub fn ready(&mut self) -> Result<Option<Output>, Halt> {
        self.settle_waiters();
        self.flush_proposals()?;
        if let Some(context) = self.reads.begin() {
            self.node.read_index(context);
        }

        let mut output = Output::default();
        if self.node.has_ready() {
            self.raft_ready(&mut output)?;
        }
        self.settle_waiters();
        self.note_role(&mut output);
        output.messages.append(&mut self.released);
        output.refused.append(&mut self.refused);
        output.reads = self.reads.take_finished(self.applied_index());
        output.reads_failed.append(&mut self.reads_failed);
        output.fetch = self.fetch.take();
        output.compact = self.compact.take();
        output.checkpoint = self.begin_checkpoint();
        Ok(is_something(&output).then_some(output))
    }

    /// The applied state. Locked for writing only within [`Replica::ready`].
    pub fn state(&self) -> &Arc<RwLock<State>> {
        &self.state
    }

    /// This node's id.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The last applied index.
    pub fn applied_index(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// The greatest index known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last index of the log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The first index that the log still holds.
    pub fn first_index(&self) -> u64 {
        self.node.store().start_index() + 1
    }

    /// The term and the bytes of an entry that was given to the disk and is not compacted.
    pub fn entry(&self, index: u64) -> Option<(u64, Bytes)> {
        self.node.store().entry(index).map(|e| (e.term, e.data.clone()))
    }

    /// The applied entries that the log still holds, as [`Replica::entry`] gives them.
    pub fn applied_entries(&self) -> Vec<(u64, Bytes)> {
        let all = self.first_index()..=self.applied_index();
        let store = self.node.store();
        let data = |index| Some((index, entry_to_log(store.entry(index)?).data));
        all.filter_map(data).collect()
    }

    /// The members as this node knows them.
    pub fn conf(&self) -> &ConfState {
        self.node.store().conf()
    }

    /// The last durable checkpoint.
    pub fn checkpoint(&self) -> Option<&CheckpointMeta> {
        self.node.store().checkpoint()
    }

    /// For each other member: (id, the greatest index it is known to hold durably, heard of lately). Empty
    /// unless this node leads.
    pub fn peers(&self) -> Vec<(u64, u64, bool)> {
        if !self.is_leader() {
            return Vec::new();
        }
        let mut peers: Vec<_> = self
            .node
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != self.config.id)
            .map(|(id, progress)| {
                let age = self.contact.age(*id, self.node.raft.term);
                let heard = age.is_some_and(|age| age <= u64::from(self.config.election_ticks));
                (*id, progress.matched, heard)
            })
            .collect();
        peers.sort_unstable();
        peers
    }

    /// How many more ticks the lease lasts: this node has heard of its leader (or, leading, of a majority)
    /// within the last election timeout. 0: no lease.
    pub fn lease_ticks(&self) -> u32 {
        let raft = &self.node.raft;
        let age = if self.is_leader() {
            self.contact
                .quorum_age(self.config.id, &self.conf().voters, raft.term)
        } else {
            self.leader()
                .and_then(|leader| self.contact.age(leader, raft.term))
        };
        let age = age.and_then(|age| u32::try_from(age).ok());
        age.map_or(0, |age| self.config.election_ticks.saturating_sub(age))
    }

    fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != 0)
    }

    /// A snapshot has taken the log's place in memory and is not durable yet. Raft must not start an election
    /// meanwhile (it would look for entries that are gone), so it hears of neither time nor messages.
    fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    fn tick(&mut self) {
        self.contact.tick();
        if self.is_installing() {
            return;
        }
        self.node.tick();
        self.reads_failed.append(&mut self.reads.tick());
        let prs = self.node.raft.prs();
        let still = |to: u64| {
            prs.get(to)
                .is_some_and(|p| p.state == raft::ProgressState::Snapshot)
        };
        for to in self.leaving.tick(still) {
            self.node.report_snapshot(to, SnapshotStatus::Failure);
        }
    }

    fn message(&mut self, message: PeerMessage) -> Result<(), Halt> {
        if self.is_installing() {
            return Ok(());
        }
        let message = message.0;
        let raft = &self.node.raft;
        match message.msg_type {
            // A peer never sends these; a proposal that raft forwarded would lose its waiter.
            MessageType::MsgPropose | MessageType::MsgTransferLeader => return Ok(()),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
                if message.term >= raft.term =>
            {
                self.contact.hear(message.from, message.term);
            }
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
                if message.term == raft.term =>
            {
                self.contact.hear(message.from, message.term);
            }
            _ => {}
        }
        match message.msg_type {
            MessageType::MsgSnapshot => return self.snapshot_announced(message),
            MessageType::MsgHeartbeat => {
                memory::holds_what_it_acknowledged(&raft.raft_log, raft.term, &message)?;
            }
            MessageType::MsgAppend => {
                memory::leader_holds_what_was_committed(&raft.raft_log, raft.term, &message)?;
            }
            _ => {}
        }
        self.raft_step(message)
    }

    fn snapshot_announced(&mut self, message: Message) -> Result<(), Halt> {
        let Some(meta) = describe(message.get_snapshot()) else {
            return Ok(());
        };
        let log = &self.node.raft.raft_log;
        if message.term >= self.node.raft.term {
            memory::is_committed_as(log, meta.index, meta.term, message.from)?;
        }
        let known = meta.index <= log.committed || log.match_term(meta.index, meta.term);
        if message.term < self.node.raft.term || known {
            return self.raft_step(message);
        }
        if let Some(wanted) = self.arriving.announced(message, meta) {
            self.fetch = Some(wanted);
        }
        Ok(())
    }

    fn raft_step(&mut self, message: Message) -> Result<(), Halt> {
        match self.node.step(message) {
            Ok(())
            | Err(raft::Error::StepLocalMsg | raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => {
                Ok(())
            }
            Err(error) => Err(Halt::Raft(error)),
        }
    }

    fn propose(&mut self, id: ProposalId, command: &Command) {
        if !self.is_leader() {
            let leader = self.leader();
            return self.refused.push((id, Refused::NotLeader { leader }));
        }
        if self.commit_index() - self.applied_index() > APPLY_LAG_MAX {
            return self.refused.push((id, Refused::Busy));
        }
        let bytes = super::codec::encode(command);
        if bytes.len() > ENTRY_BYTES_MAX {
            let refused = Refused::TooLarge {
                size_bytes: bytes.len(),
                limit_bytes: ENTRY_BYTES_MAX,
            };
            return self.refused.push((id, refused));
        }
        self.proposals.push((id, bytes.into()));
    }

    /// Puts the batch into the log, as one message for each part of it that fits.
    fn flush_proposals(&mut self) -> Result<(), Halt> {
        let mut batch = std::mem::take(&mut self.proposals).into_iter().peekable();
        while batch.peek().is_some() {
            let mut ids = Vec::new();
            let mut entries = Vec::new();
            let mut bytes = 0;
            while let Some((id, data)) =
                batch.next_if(|(_, data)| bytes == 0 || bytes + data.len() <= MESSAGE_BYTES_MAX as usize)
            {
                bytes += data.len();
                entries.push(Entry {
                    data,
                    ..Entry::default()
                });
                ids.push(id);
            }
            if !self.is_leader() {
                let leader = self.leader();
                self.refused
                    .extend(ids.into_iter().map(|id| (id, Refused::NotLeader { leader })));
                continue;
            }
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.config.id;
            message.set_entries(entries.into());
            let first = self.last_index() + 1;
            match self.node.step(message) {
                Ok(()) => {
                    self.waiters_term = self.node.raft.term;
                    let waiters = ids
                        .into_iter()
                        .zip(first..)
                        .map(|(id, index)| Waiter { index, id });
                    self.waiters.extend(waiters);
                }
                // Too much is under way, or leadership is being handed over.
                Err(raft::Error::ProposalDropped) => {
                    self.refused.extend(ids.into_iter().map(|id| (id, Refused::Busy)));
                }
                Err(error) => return Err(Halt::Raft(error)),
            }
        }
        Ok(())
    }

    fn change_membership(&mut self, id: ProposalId, change: Change) {
        self.settle_waiters();
        if !self.is_leader() {
            let leader = self.leader();
            return self.refused.push((id, Refused::NotLeader { leader }));
        }
        let last = self.last_index();
        let lacks = |id: u64| {
            let progress = self.node.raft.prs().get(id);
            progress.map_or(u64::MAX, |p| last.saturating_sub(p.matched))
        };
        if let Err(why) = change.check(self.conf(), self.config.id, lacks) {
            return self.refused.push((id, Refused::Change(why)));
        }
        // A new leader does not know whether an older change is under way until it has applied its own term.
        if self.node.raft.has_pending_conf() || self.change.is_some() || !self.role.ready {
            return self.refused.push((id, Refused::Change(ChangeRefused::Pending)));
        }
        match self
            .node
            .propose_conf_change(change.encode().to_vec(), change.to_raft())
        {
            Ok(()) => {
                self.waiters_term = self.node.raft.term;
                let index = self.last_index();
                self.change = Some(Waiter { index, id });
            }
            Err(_) => self.refused.push((id, Refused::Busy)),
        }
    }

    /// Whoever waits for an entry of a term that is over is told that its outcome is not known.
    fn settle_waiters(&mut self) {
        if self.is_leader() && self.node.raft.term == self.waiters_term {
            return;
        }
        let lost = self.waiters.drain(..).chain(self.change.take());
        self.refused.extend(lost.map(|w| (w.id, Refused::OutcomeUnknown)));
    }

    fn persisted(&mut self, number: u64) {
        while self.writing.front().is_some_and(|(n, _)| *n <= number) {
            self.writing.pop_front();
        }
        self.advance_persisted();
        if let Some((_, meta)) = self.installing.take_if(|(n, _)| *n <= number) {
            self.node.advance_apply_to(meta.index);
            self.checkpoint_durable(meta);
        }
    }

    /// Tells raft how far the disk is, and lets go of the messages that waited for it.
    fn advance_persisted(&mut self) {
        let durable = match self.writing.front() {
            Some((next, _)) => next - 1,
            None => self.last_ready,
        };
        self.node.on_persist_ready(durable);
        while let Some((_, messages)) = self.held.pop_front_if(|(number, _)| *number <= durable) {
            self.released.extend(messages);
        }
    }

    fn raft_ready(&mut self, output: &mut Output) -> Result<(), Halt> {
        let mut ready = self.node.ready();
        self.last_ready = ready.number();
        let old = self.node.store().hard_state();
        let hard_state = ready.hs().map_or(old, |hs| HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit,
        });
        let install = self.take_install(&ready);
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();
        let direct = ready.take_messages();
        let after = ready.take_persisted_messages();
        for state in ready.take_read_states() {
            self.reads.confirm(&state.request_ctx, state.index);
        }

        let must_write = ready.must_sync();
        let store = self.node.mut_store();
        if let Some(fetched) = &install {
            store.reset(&fetched.checkpoint.meta);
        }
        store.append(&entries);
        store.set_hard_state(hard_state);
        self.node.advance_append_async(ready);

        if let Some(fetched) = install {
            output.write = Some(self.install(fetched, hard_state));
        }
        if must_write {
            let votes = (old.term, old.vote) != (hard_state.term, hard_state.vote);
            self.writing.push_back((self.last_ready, votes));
            let write = output.write.get_or_insert_with(|| Write {
                number: self.last_ready,
                install: None,
                entries: Vec::new(),
                hard_state,
            });
            write.entries = entries.iter().map(entry_to_log).collect();
        }
        // A leader's appends need not wait for its own disk, unless even its term is not on it yet: a sole voter
        // elects itself without asking anyone.
        let own_term_unsaved = self.writing.iter().any(|(_, votes)| *votes);
        let (now, later) = if own_term_unsaved {
            (Vec::new(), direct.into_iter().chain(after).collect())
        } else {
            (direct, after)
        };
        self.send(now, &mut output.messages);
        let mut held = Vec::new();
        self.send(later, &mut held);
        if !held.is_empty() {
            self.held.push_back((self.last_ready, held));
        }
        if cfg!(feature = "fault-skip-fsync") {
            self.persisted(self.last_ready);
        }
        if self.writing.is_empty() {
            self.advance_persisted();
        }
        self.apply(committed, output)
    }

    fn send(&mut self, messages: Vec<Message>, to: &mut Vec<PeerMessage>) {
        for message in messages {
            let message = PeerMessage(message);
            // A proposal or transfer that raft forwards is none of ours.
            if matches!(
                message.0.msg_type,
                MessageType::MsgPropose | MessageType::MsgTransferLeader
            ) {
                continue;
            }
            if message.is_snapshot() {
                self.leaving.began(message.to());
            }
            to.push(message);
        }
    }

    fn take_install(&mut self, ready: &raft::Ready) -> Option<Fetched> {
        let arrived = self.arriving.take();
        if ready.snapshot().is_empty() {
            return None;
        }
        let index = ready.snapshot().get_metadata().index;
        let fetched = arrived.expect("raft restores only a snapshot that has arrived");
        assert_eq!(
            fetched.checkpoint.meta.index, index,
            "raft restores the snapshot that has arrived"
        );
        Some(fetched)
    }

    fn install(&mut self, fetched: Fetched, hard_state: HardState) -> Write {
        *self.state.write() = fetched.state;
        self.hashes.clear();
        self.bytes_since_checkpoint = 0;
        self.installing = Some((self.last_ready, fetched.checkpoint.meta.clone()));
        Write {
            number: self.last_ready,
            install: Some(fetched.checkpoint),
            entries: Vec::new(),
            hard_state,
        }
    }

    fn apply(&mut self, committed: Vec<Entry>, output: &mut Output) -> Result<(), Halt> {
        let Some(last) = committed.last() else {
            return Ok(());
        };
        let last_index = last.index;
        let state = Arc::clone(&self.state);
        let mut state = state.write();
        for entry in committed {
            self.bytes_since_checkpoint += (entry.data.len() + 24) as u64;
            let index = entry.index;
            match entry.entry_type {
                EntryType::EntryNormal if entry.data.is_empty() => state.skip_to(index),
                EntryType::EntryNormal => {
                    let command =
                        super::codec::decode(&entry.data).map_err(|why| Halt::Entry { index, why })?;
                    let applied = state.apply(index, command.at, &command.envelope);
                    let proposal = self.waiters.pop_front_if(|w| w.index == index).map(|w| w.id);
                    output.applied.push(AppliedEntry {
                        index,
                        proposal,
                        reply: applied.reply,
                        effects: Arc::new(applied.effects),
                    });
                }
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    state.skip_to(index);
                    self.apply_change(index, &entry.context, output)?;
                }
            }
            if self.config.hash_entries != 0 && index % self.config.hash_entries == 0 {
                let hash = state.hash();
                self.hashes.insert(index, hash);
                while self.hashes.len() > HASHES_KEPT {
                    self.hashes.pop_first();
                }
                output.hash = Some((index, hash));
            }
        }
        drop(state);
        self.node.advance_apply_to(last_index);
        self.compare_hashes()
    }

    fn apply_change(&mut self, index: u64, context: &[u8], output: &mut Output) -> Result<(), Halt> {
        let change = Change::decode(context).ok_or_else(|| Halt::Entry {
            index,
            why: "not a membership change".to_owned(),
        })?;
        let conf = conf_from_raft(&self.node.apply_conf_change(&change.to_raft())?);
        self.node.mut_store().set_conf(conf.clone());
        // Raft 0.7 panics in a leader that is no member. It hands over before it is removed; should an old
        // change remove it all the same, it steps down here.
        if self.is_leader() && !conf.voters.contains(&self.config.id) {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
        output.removed |= change == Change::Remove(self.config.id);
        if let Some(waiter) = self.change.take_if(|w| w.index == index) {
            output.changed.push((waiter.id, conf));
        }
        Ok(())
    }

    fn note_role(&mut self, output: &mut Output) {
        let is_leader = self.is_leader();
        let role = Role {
            leader: self.leader(),
            is_leader,
            ready: is_leader && self.node.raft.apply_to_current_term(),
            term: self.node.raft.term,
        };
        if role != self.role {
            self.role = role;
            output.role = Some(role);
        }
        if self.conf_told != *self.conf() {
            self.conf_told = self.conf().clone();
            output.conf = Some(self.conf_told.clone());
        }
    }

    fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        let store = self.node.mut_store();
        self.checkpoint_wanted |= store.take_snapshot_missing();
        if self.checkpoint_running.is_some() || self.installing.is_some() {
            return None;
        }
        let index = self.node.raft.raft_log.applied;
        let last = self.checkpoint().map_or(0, |c| c.index);
        let due = index - last.min(index) >= self.config.checkpoint_entries
            || self.bytes_since_checkpoint >= self.config.checkpoint_bytes
            || self.checkpoint_wanted;
        let term = self.node.store().term_at(index)?;
        if !due || index <= last {
            return None;
        }
        self.checkpoint_wanted = false;
        self.checkpoint_running = Some(index);
        self.bytes_since_checkpoint = 0;
        Some(CheckpointJob {
            index,
            term,
            conf: self.conf().clone(),
            state: self.state.read().clone(),
        })
    }

    fn checkpoint_durable(&mut self, meta: CheckpointMeta) {
        self.checkpoint_running.take_if(|index| *index == meta.index);
        if self.checkpoint().is_some_and(|c| c.index >= meta.index) {
            return;
        }
        let below = meta.index.saturating_sub(self.config.retained_entries);
        let store = self.node.mut_store();
        store.set_checkpoint(meta);
        if below > store.start_index() {
            store.compact(below);
            self.compact = Some(below);
        }
    }

    fn compare_hashes(&self) -> Result<(), Halt> {
        if let Some((index, leader, hash)) = self.leader_hash
            && let Some(own) = self.hashes.get(&index)
            && *own != hash
        {
            return Err(Halt::Diverged { index, leader });
        }
        Ok(())
    }
}

fn is_something(output: &Output) -> bool {
    !output.messages.is_empty()
        || output.write.is_some()
        || !output.applied.is_empty()
        || !output.refused.is_empty()
        || !output.changed.is_empty()
        || !output.reads.is_empty()
        || !output.reads_failed.is_empty()
        || output.role.is_some()
        || output.conf.is_some()
        || output.fetch.is_some()
        || output.checkpoint.is_some()
        || output.compact.is_some()
        || output.hash.is_some()
        || output.removed
}
