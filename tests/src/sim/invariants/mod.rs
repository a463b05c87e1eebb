//! What must hold after every step, whatever fails. One property per file.

mod acknowledged;
mod at_most_once;
mod lease;
mod one_child;
mod same_answer;
mod same_state;
pub mod termination;

pub use acknowledged::Acknowledged;
pub use at_most_once::AtMostOnce;
pub use lease::Lease;
pub use one_child::OneChild;
pub use same_answer::SameAnswer;
pub use same_state::SameState;
pub use termination::Termination;

/// All of them, with what each remembers.
#[derive(Debug, Default)]
pub struct Invariants {
    /// Nothing acknowledged is lost.
    pub acknowledged: Acknowledged,
    /// Equal request, equal answer.
    pub same_answer: SameAnswer,
    /// Equal index, equal state.
    pub same_state: SameState,
    /// No effect twice.
    pub at_most_once: AtMostOnce,
    /// No hand-out without a lease.
    pub lease: Lease,
    /// No attempt begins two runs.
    pub one_child: OneChild,
    /// Every task ends.
    pub termination: Termination,
}

/// The broken property, and how.
pub type Check = Result<(), (&'static str, String)>;
