//! Changing who the members are, and who leads, from any node: done here where this node leads, and asked of
//! the leader elsewhere.
//!
//! Done twice, each change is done once: a member that is added again is one already, and one that is removed
//! again is none any more. So it can be asked again after an unknown outcome, by this node and by a person.

use std::time::Duration;

use engine::id::NodeId;
use tokio::time::Instant;

use crate::api::peers::client::ForwardError;
use crate::control::{Control, SubmitError};
use crate::raft::{Change, ChangeError, ChangeRefused, ProposeError, TransferError};

/// How long a change is tried before its sender is told.
pub const RESHAPE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before it is tried again, unless the leader changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A change of the cluster's shape. The numbers are raft ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// Adds a member that only listens; the leader gives it a vote when it has caught up.
    Add(u64),
    /// Takes a member out.
    Remove(u64),
    /// Makes a voter the leader.
    Lead(u64),
}

/// Why the cluster keeps its shape, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeError {
    /// The leader refuses it as things stand; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Another change is under way; nothing was changed.
    #[error("{0}")]
    Pending(String),
    /// This node does not lead; nothing was changed.
    #[error("this node does not lead")]
    NotLeader,
    /// It could not be carried out, or nobody knows whether it was.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Control {
    /// Makes a change, wherever the leader is.
    pub async fn reshape(&self, reshape: Reshape) -> Result<(), ReshapeError> {
        let deadline = Instant::now() + RESHAPE_DEADLINE;
        let mut role = self.raft().role();
        loop {
            let leader = role.borrow_and_update().leader;
            let tried = match leader {
                Some(leader) if reshape == Reshape::Lead(leader) => Ok(()),
                Some(leader) if NodeId(leader) == self.node() => self.reshape_here(reshape).await,
                Some(leader) => tokio::select! {
                    asked = self.peers().reshape(NodeId(leader), reshape) => asked.unwrap_or_else(|error| Err(not_asked(error))),
                    // A leader that was cut off would be waited for in vain.
                    _moved = role.wait_for(|role| role.leader != Some(leader)) => Err(SubmitError::OutcomeUnknown.into()),
                },
                None => Err(ReshapeError::NotLeader),
            };
            let error = match tried {
                Ok(()) => return Ok(()),
                Err(error @ (ReshapeError::Refused(_) | ReshapeError::Submit(SubmitError::TooLarge))) => {
                    return Err(error);
                }
                Err(ReshapeError::NotLeader) => SubmitError::NoLeader.into(),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            tokio::select! {
                changed = role.changed() => changed.map_err(|_| SubmitError::Halted)?,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }

    /// Makes a change here and no further, for who knows that this node leads.
    pub async fn reshape_here(&self, reshape: Reshape) -> Result<(), ReshapeError> {
        let change = match reshape {
            Reshape::Add(id) => Change::AddLearner(id),
            Reshape::Remove(id) => Change::Remove(id),
            Reshape::Lead(to) => return self.raft().transfer_leader(to).await.map_err(not_transferred),
        };
        match self.raft().change_membership(change).await {
            // It hands over first, and is removed by the next leader.
            Err(ChangeError::Refused(ChangeRefused::Leads(_)))
                if let Some(heir) = self.raft().status().heir() =>
            {
                self.raft().transfer_leader(heir).await.map_err(not_transferred)?;
                Err(ReshapeError::NotLeader)
            }
            Err(ChangeError::Refused(ChangeRefused::Member(_))) if matches!(reshape, Reshape::Add(_)) => {
                Ok(())
            }
            Err(ChangeError::Refused(ChangeRefused::NotMember(_)))
                if matches!(reshape, Reshape::Remove(_)) =>
            {
                Ok(())
            }
            changed => changed.map_err(not_changed),
        }
    }
}

fn not_changed(error: ChangeError) -> ReshapeError {
    match error {
        ChangeError::Refused(pending @ ChangeRefused::Pending) => ReshapeError::Pending(pending.to_string()),
        ChangeError::Refused(refused) => ReshapeError::Refused(refused.to_string()),
        ChangeError::Proposal(ProposeError::NotLeader { .. }) => ReshapeError::NotLeader,
        ChangeError::Proposal(ProposeError::Busy) => SubmitError::Busy.into(),
        // No change of the cluster's shape starts a run.
        ChangeError::Proposal(ProposeError::DiskFull) => SubmitError::Busy.into(),
        ChangeError::Proposal(ProposeError::OutcomeUnknown) => SubmitError::OutcomeUnknown.into(),
        ChangeError::Proposal(ProposeError::TooLarge { .. }) => SubmitError::TooLarge.into(),
        ChangeError::Proposal(ProposeError::Halted) => SubmitError::Halted.into(),
    }
}

fn not_transferred(error: TransferError) -> ReshapeError {
    match error {
        TransferError::NotLeader { .. } => ReshapeError::NotLeader,
        TransferError::Timeout(_) => ReshapeError::Refused(error.to_string()),
        TransferError::Halted => SubmitError::Halted.into(),
    }
}

fn not_asked(error: ForwardError) -> ReshapeError {
    match error {
        ForwardError::NotLeader | ForwardError::Unreachable(_) | ForwardError::Halted => {
            ReshapeError::NotLeader
        }
        ForwardError::Busy | ForwardError::DiskFull => SubmitError::Busy.into(),
        ForwardError::OutcomeUnknown(_) => SubmitError::OutcomeUnknown.into(),
        ForwardError::TooLarge => SubmitError::TooLarge.into(),
    }
}
