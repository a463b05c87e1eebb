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
    /// Something in the command is not valid.
    #[error("{0}")]
    Invalid(String),
}
