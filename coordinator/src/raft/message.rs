//! Raft's messages, opaque to everyone outside `raft/`, and their conversion to the wire, by hand.
//!
//! Raft's own protobuf code is never given bytes: RUSTSEC-2024-0437 is in its decoder. What arrives is
//! decoded by prost into our wire types and copied field by field. (docs/adr/0010-raft-never-decodes.md)

use bytes::Bytes;
use proto::v1 as wire;
use raft::eraftpb;

use crate::storage::{CheckpointMeta, ConfState, EntryKind, LogEntry};

/// Length of the snapshot description that travels in raft's snapshot data: size (8 bytes, LE), SHA-256.
const DESCRIPTION_BYTES: usize = 40;

/// A message of one replica to another.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage(pub(super) eraftpb::Message);

/// A message from the wire that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A type that this version does not know, or that only a node itself may step.
    #[error("message type {0} is not taken from a peer")]
    Type(u32),
    /// An entry type that this version does not know.
    #[error("entry type {0} is not known: upgrade this node")]
    EntryType(u32),
    /// A snapshot that is not described.
    #[error("a snapshot message without a valid description")]
    Snapshot,
    /// A read request without its context.
    #[error("a read message with {0} entries instead of 1")]
    Read(usize),
}

impl PeerMessage {
    /// Whom it is for.
    pub fn to(&self) -> u64 {
        self.0.to
    }

    /// Who sent it.
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// The sender's term; 0 in a forwarded read.
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// Raft's name for it, for traces.
    pub fn kind(&self) -> String {
        format!("{:?}", self.0.msg_type)
    }

    /// Whether it announces a snapshot: the sender wants to know when it cannot be delivered.
    pub fn is_snapshot(&self) -> bool {
        self.0.msg_type == eraftpb::MessageType::MsgSnapshot
    }

    /// Roughly what it takes on the wire.
    pub fn size_bytes(&self) -> usize {
        64 + self
            .0
            .entries
            .iter()
            .map(|e| e.data.len() + e.context.len() + 24)
            .sum::<usize>()
    }

    /// For the wire.
    pub fn to_wire(&self) -> wire::RaftMessage {
        let m = &self.0;
        wire::RaftMessage {
            msg_type: m.msg_type as u32,
            to: m.to,
            from: m.from,
            term: m.term,
            log_term: m.log_term,
            index: m.index,
            entries: m.entries.iter().map(entry_to_wire).collect(),
            commit: m.commit,
            commit_term: m.commit_term,
            snapshot: m
                .snapshot
                .as_ref()
                .and_then(describe)
                .map(|meta| snapshot_to_wire(&meta)),
            request_snapshot: m.request_snapshot,
            reject: m.reject,
            reject_hint: m.reject_hint,
            context: m.context.clone(),
            priority: m.priority,
        }
    }

    /// From the wire. Proposals, transfers and raft's local messages are refused: a peer never sends them.
    pub fn from_wire(w: wire::RaftMessage) -> Result<PeerMessage, BadMessage> {
        let msg_type = message_type(w.msg_type)?;
        let mut m = eraftpb::Message::default();
        m.set_msg_type(msg_type);
        m.to = w.to;
        m.from = w.from;
        m.term = w.term;
        m.log_term = w.log_term;
        m.index = w.index;
        m.commit = w.commit;
        m.commit_term = w.commit_term;
        m.request_snapshot = w.request_snapshot;
        m.reject = w.reject;
        m.reject_hint = w.reject_hint;
        m.context = w.context;
        m.priority = w.priority;
        let entries = w
            .entries
            .into_iter()
            .map(entry_from_wire)
            .collect::<Result<Vec<_>, _>>()?;
        m.set_entries(entries.into());
        match (msg_type, w.snapshot) {
            (eraftpb::MessageType::MsgSnapshot, Some(s)) => m.set_snapshot(snapshot_from_wire(s)?),
            (eraftpb::MessageType::MsgSnapshot, None) => return Err(BadMessage::Snapshot),
            (eraftpb::MessageType::MsgReadIndex | eraftpb::MessageType::MsgReadIndexResp, _)
                if m.entries.len() != 1 =>
            {
                return Err(BadMessage::Read(m.entries.len()));
            }
            _ => {}
        }
        Ok(PeerMessage(m))
    }
}

fn message_type(number: u32) -> Result<eraftpb::MessageType, BadMessage> {
    use eraftpb::MessageType as T;
    let known = [
        T::MsgAppend,
        T::MsgAppendResponse,
        T::MsgRequestVote,
        T::MsgRequestVoteResponse,
        T::MsgSnapshot,
        T::MsgHeartbeat,
        T::MsgHeartbeatResponse,
        T::MsgTimeoutNow,
        T::MsgReadIndex,
        T::MsgReadIndexResp,
        T::MsgRequestPreVote,
        T::MsgRequestPreVoteResponse,
    ];
    known
        .into_iter()
        .find(|t| *t as u32 == number)
        .ok_or(BadMessage::Type(number))
}

fn entry_to_wire(e: &eraftpb::Entry) -> wire::RaftEntry {
    wire::RaftEntry {
        entry_type: e.entry_type as u32,
        term: e.term,
        index: e.index,
        data: e.data.clone(),
        context: e.context.clone(),
    }
}

fn entry_from_wire(w: wire::RaftEntry) -> Result<eraftpb::Entry, BadMessage> {
    let mut e = eraftpb::Entry::default();
    e.set_entry_type(match w.entry_type {
        0 => eraftpb::EntryType::EntryNormal,
        2 => eraftpb::EntryType::EntryConfChangeV2,
        other => return Err(BadMessage::EntryType(other)),
    });
    e.term = w.term;
    e.index = w.index;
    e.data = w.data;
    e.context = w.context;
    Ok(e)
}

/// To the log's type. The bytes are shared, not copied.
pub(super) fn entry_to_log(e: &eraftpb::Entry) -> LogEntry {
    let kind = match e.entry_type {
        eraftpb::EntryType::EntryNormal => EntryKind::Command,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => EntryKind::Membership,
    };
    LogEntry {
        kind,
        term: e.term,
        index: e.index,
        data: match kind {
            EntryKind::Command => e.data.clone(),
            // Raft's encoding of a change is for raft's proposer only; ours is in the context.
            EntryKind::Membership => Bytes::new(),
        },
        context: e.context.clone(),
    }
}

/// From the log's type.
pub(super) fn entry_from_log(l: LogEntry) -> eraftpb::Entry {
    let mut e = eraftpb::Entry::default();
    e.set_entry_type(match l.kind {
        EntryKind::Command => eraftpb::EntryType::EntryNormal,
        EntryKind::Membership => eraftpb::EntryType::EntryConfChangeV2,
    });
    e.term = l.term;
    e.index = l.index;
    e.data = l.data;
    e.context = l.context;
    e
}

/// Raft's snapshot: the members, and our description as its data.
pub(super) fn snapshot_of(meta: &CheckpointMeta) -> eraftpb::Snapshot {
    let mut data = Vec::with_capacity(DESCRIPTION_BYTES);
    data.extend_from_slice(&meta.size_bytes.to_le_bytes());
    data.extend_from_slice(&meta.sha256);
    let mut snapshot = eraftpb::Snapshot {
        data: data.into(),
        ..eraftpb::Snapshot::default()
    };
    let metadata = snapshot.mut_metadata();
    metadata.index = meta.index;
    metadata.term = meta.term;
    metadata.set_conf_state(conf_to_raft(&meta.conf));
    snapshot
}

/// The inverse of [`snapshot_of`]; None if the data is no description of ours.
pub(super) fn describe(snapshot: &eraftpb::Snapshot) -> Option<CheckpointMeta> {
    let (size, sha256) = snapshot.data.split_first_chunk::<8>()?;
    let metadata = snapshot.get_metadata();
    Some(CheckpointMeta {
        index: metadata.index,
        term: metadata.term,
        conf: conf_from_raft(metadata.get_conf_state()),
        size_bytes: u64::from_le_bytes(*size),
        sha256: sha256.try_into().ok()?,
    })
}

fn snapshot_to_wire(meta: &CheckpointMeta) -> wire::RaftSnapshot {
    wire::RaftSnapshot {
        index: meta.index,
        term: meta.term,
        conf_state: Some(wire::RaftConfState {
            voters: meta.conf.voters.clone(),
            learners: meta.conf.learners.clone(),
            ..Default::default()
        }),
        size_bytes: meta.size_bytes,
        sha256: Bytes::copy_from_slice(&meta.sha256),
    }
}

fn snapshot_from_wire(w: wire::RaftSnapshot) -> Result<eraftpb::Snapshot, BadMessage> {
    let conf = w.conf_state.ok_or(BadMessage::Snapshot)?;
    let sha256 = w.sha256.as_ref().try_into().map_err(|_| BadMessage::Snapshot)?;
    // Changes are made one at a time, so a joint configuration is never ours.
    let joint = !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty() || conf.auto_leave;
    if w.index == 0 || joint || conf.voters.is_empty() {
        return Err(BadMessage::Snapshot);
    }
    Ok(snapshot_of(&CheckpointMeta {
        index: w.index,
        term: w.term,
        conf: ConfState {
            voters: conf.voters,
            learners: conf.learners,
        },
        size_bytes: w.size_bytes,
        sha256,
    }))
}

/// To raft's type.
pub(super) fn conf_to_raft(conf: &ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState::from((conf.voters.iter().copied(), conf.learners.iter().copied()))
}

/// From raft's type; sorted.
pub(super) fn conf_from_raft(conf: &eraftpb::ConfState) -> ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    ConfState {
        voters: sorted(&conf.voters),
        learners: sorted(&conf.learners),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: eraftpb::MessageType) -> eraftpb::Message {
        let mut m = eraftpb::Message::default();
        m.set_msg_type(kind);
        (m.to, m.from, m.term, m.log_term, m.index) = (1, 2, 3, 4, 5);
        (m.commit, m.commit_term, m.request_snapshot, m.reject_hint) = (6, 7, 8, 9);
        m.reject = true;
        m.priority = -10;
        m.context = Bytes::from_static(b"context");
        m
    }

    #[test]
    fn every_field_survives_the_wire() {
        let mut append = message(eraftpb::MessageType::MsgAppend);
        let mut entry = eraftpb::Entry::default();
        (entry.term, entry.index) = (11, 12);
        entry.data = Bytes::from_static(b"data");
        entry.context = Bytes::from_static(b"why");
        entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
        append.set_entries(vec![entry].into());
        let append = PeerMessage(append);
        assert_eq!(PeerMessage::from_wire(append.to_wire()), Ok(append));

        let mut announce = message(eraftpb::MessageType::MsgSnapshot);
        let conf = ConfState {
            voters: vec![1, 2],
            learners: vec![3],
        };
        let meta = Checkpoint::new(20, 3, conf, Bytes::from_static(b"state")).meta;
        announce.set_snapshot(snapshot_of(&meta));
        let announce = PeerMessage(announce);
        assert_eq!(describe(announce.0.get_snapshot()), Some(meta));
        assert_eq!(PeerMessage::from_wire(announce.to_wire()), Ok(announce));
    }

    #[test]
    fn what_no_peer_may_send_is_refused() {
        for kind in [
            eraftpb::MessageType::MsgHup,
            eraftpb::MessageType::MsgBeat,
            eraftpb::MessageType::MsgPropose,
            eraftpb::MessageType::MsgUnreachable,
            eraftpb::MessageType::MsgSnapStatus,
            eraftpb::MessageType::MsgCheckQuorum,
            eraftpb::MessageType::MsgTransferLeader,
        ] {
            let wire = PeerMessage(message(kind)).to_wire();
            assert_eq!(PeerMessage::from_wire(wire), Err(BadMessage::Type(kind as u32)));
        }
        let no_snapshot = PeerMessage(message(eraftpb::MessageType::MsgSnapshot)).to_wire();
        assert_eq!(PeerMessage::from_wire(no_snapshot), Err(BadMessage::Snapshot));
        let no_context = PeerMessage(message(eraftpb::MessageType::MsgReadIndex)).to_wire();
        assert_eq!(PeerMessage::from_wire(no_context), Err(BadMessage::Read(0)));
    }

    use crate::storage::Checkpoint;
}
