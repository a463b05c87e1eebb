//! Requests that were answered: the same id again gets the same answer.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::codec::to_bytes;
use crate::command::{Command, Envelope};
use crate::effect::Reply;
use crate::id::{Digest, RequestId};
use crate::limits::REQUESTS_REMEMBERED_MAX;

/// The newest [`REQUESTS_REMEMBERED_MAX`] answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dedup {
    answers: BTreeMap<RequestId, (Digest, Reply)>,
    order: VecDeque<RequestId>,
}

impl Dedup {
    /// What was asked and answered under this id.
    pub fn get(&self, id: &RequestId) -> Option<&(Digest, Reply)> {
        self.answers.get(id)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn remember(&mut self, id: RequestId, asked: Digest, reply: Reply) {
        if self.answers.insert(id, (asked, reply)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REQUESTS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }
}

/// What makes two requests the same. Of a `StartRun` it is what the client asked for: the run's id, the
/// resolved targets and what others have locked are drawn by the node that takes the request, and differ when it is repeated elsewhere.
pub(crate) fn fingerprint(envelope: &Envelope) -> Digest {
    let bytes = match &envelope.command {
        Command::StartRun(start) => {
            let (actor, verb, manifest) = (&envelope.actor, "start_run", start.manifest_hash);
            let expected = start.foretold.as_ref().and_then(|foretold| foretold.expected);
            match (start.asked, expected) {
                (None, None) => to_bytes(&(actor, verb, manifest, &start.inputs)),
                (None, Some(expected)) => to_bytes(&((actor, verb, manifest, &start.inputs), expected)),
                (Some(asked), expected) => to_bytes(&(actor, verb, manifest, asked, expected)),
            }
        }
        command => to_bytes(&(&envelope.actor, command)),
    };
    Digest(sha2::Sha256::digest(bytes).into())
}
