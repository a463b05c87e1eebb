//! Refusals: inside `apply` they are data. A broken invariant is a panic, and there is nothing between.

use serde::{Deserialize, Serialize};

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The cluster already has another identity.
    #[error("this cluster is {0}")]
    OtherCluster(String),
    /// No cluster yet.
    #[error("the cluster has not been bootstrapped")]
    NotBootstrapped,
    /// Nothing of that name.
    #[error("there is no {what} {name}")]
    NotFound {
        /// What kind of thing.
        what: String,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("the {what} {name} exists already")]
    Exists {
        /// What kind of thing.
        what: String,
        /// Its name.
        name: String,
    },
    /// The join token is not good (any more).
    #[error("the join token is not valid: {0}")]
    Token(String),
    /// The same request id with another command.
    #[error("the request id was used for something else")]
    RequestReused,
    /// The thing is in a state in which that cannot be done.
    #[error("{0}")]
    State(String),
    /// The command breaks a limit.
    #[error("{what}: {value} is more than the limit of {limit}")]
    Limit {
        /// Of what.
        what: String,
        /// What was asked.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Something else listens to events than when these were weighed: weigh them again.
    #[error("what listens to events has changed meanwhile")]
    Stale,
    /// There is no room for now: nothing was taken, and the same can be tried again soon.
    #[error("{0}: send it again in a moment")]
    Full(String),
    /// The plan is another one than what was expected.
    #[error("the plan has changed: what would run now is {found}, and {expected} was asked for")]
    OtherPlan {
        /// The hash that was asked for, in hex.
        expected: String,
        /// The hash of what would run, in hex.
        found: String,
    },
    /// The answer to an approval request or a question was not taken.
    #[error(transparent)]
    Answer(#[from] AnswerRefusal),
    /// Nobody gives this role to himself.
    #[error("nobody can give himself a role: somebody else must grant you {0}")]
    Own(String),
    /// Something in the command is not valid.
    #[error("{0}")]
    Invalid(String),
}

/// Why an answer to an approval request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerRefusal {
    /// It came too late: the request is over.
    #[error("approval {id} is over: {status}")]
    Late {
        /// Of the request.
        id: u64,
        /// How it ended.
        status: String,
    },
    /// The same person answered before.
    #[error("{operator} has answered approval {id} already, and counts once")]
    Repeated {
        /// Of the request.
        id: u64,
        /// Who.
        operator: String,
    },
    /// The operator holds none of the roles that are asked.
    #[error("approval {id} is for {roles}, and {operator} holds none of these roles")]
    Foreign {
        /// Of the request.
        id: u64,
        /// Who.
        operator: String,
        /// Who may, for people.
        roles: String,
    },
    /// The run is the operator's own, and the gate lets no requester answer.
    #[error("{operator} asked for the run, and may not answer approval {id} for that")]
    Requester {
        /// Of the request.
        id: u64,
        /// Who.
        operator: String,
    },
    /// What is asked is not (any more) what the answer is to.
    #[error("approval {id} is not for what was answered: what would be done has changed")]
    Changed {
        /// Of the request.
        id: u64,
    },
    /// An approval was filled in, or a question approved.
    #[error("approval {id} is {what}")]
    Kind {
        /// Of the request.
        id: u64,
        /// What it takes instead.
        what: String,
    },
    /// Without a reason nobody can tell later why.
    #[error("an answer needs a reason")]
    Unreasoned,
}
