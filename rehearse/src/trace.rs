//! What a case came to.

use playbook::Problems;
use serde_json::Value;

/// What a case came to.
#[derive(Debug)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// Everything that was expected and did not hold. None: it passed.
    pub findings: Option<Problems>,
    /// The run's end, or `refused`, or where it stood when nothing more could happen.
    pub status: String,
    /// Why; empty where it succeeded.
    pub reason: String,
    /// How long the run took in virtual time.
    pub took_ms: u64,
    /// In the playbook's order.
    pub steps: Vec<StepEnd>,
    /// Everything that was asked of hosts and systems, attempt by attempt.
    pub asked: Vec<Asked>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnd {
    /// Its name.
    pub name: String,
    /// In the words of the language.
    pub status: &'static str,
    /// Why; empty where it succeeded.
    pub reason: String,
}

/// One attempt that a host or a system was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// From the run's start on.
    pub at_ms: u64,
    /// The step's name.
    pub step: String,
    /// The action's name.
    pub action: String,
    /// Where; None: on the coordinator.
    pub host: Option<String>,
    /// Of a `foreach`.
    pub item: Option<Value>,
    /// From 1.
    pub attempt: u32,
    /// As they were rendered.
    pub parameters: Value,
}
