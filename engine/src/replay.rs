//! A run, decided again from the log: shows that what its leaders decided follows from what they saw.
//!
//! The log is applied again to the state from before the run began, and wherever a leader drew decisions of the run, they
//! are drawn again, from the state as it was then, and compared with those of the log. What comes from outside (reports,
//! answers of people and of other systems, the clock) is in the log, and is taken as it is.

use std::collections::BTreeMap;

use crate::codec::{DecodeError, to_bytes};
use crate::command::{Command, Entry};
use crate::id::RunId;
use crate::planner::{Decision, decisions_of};
use crate::state::{Run, State};

/// What was found where everything came out the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The index of the entry that started the run.
    pub first: u64,
    /// The index of the last entry that was applied again.
    pub last: u64,
    /// Times at which decisions of the run were drawn, and again.
    pub drawn: usize,
    /// Decisions of the run in the log, each of which was drawn again.
    pub decisions: usize,
}

/// Why a run is not what its log says, or cannot be decided again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log does not go back so far.
    #[error(
        "run {run} began before entry {first}, the first that this node's log still holds behind a checkpoint: it cannot be decided again here"
    )]
    TooOld {
        /// Which.
        run: RunId,
        /// The first index.
        first: u64,
    },
    /// The log has a gap, or bytes that are no entry.
    #[error("entry {index} of the log cannot be applied again: {why}")]
    Unreadable {
        /// Which.
        index: u64,
        /// Why.
        why: String,
    },
    /// The log has other decisions than those that follow from the state.
    #[error(
        "entry {index} has {recorded} of the run, and from the state as of entry {drawn_at} that does not follow: drawn again it is {again}"
    )]
    Decided {
        /// Of the decision.
        index: u64,
        /// As of which it was drawn.
        drawn_at: u64,
        /// In the log, as Rust shows it.
        recorded: String,
        /// The one that was expected in its place.
        again: String,
    },
    /// Applied again, the log gives another run than the state holds.
    #[error("applied again up to entry {last}, the log gives another run than the state holds: {what}")]
    Different {
        /// The last index.
        last: u64,
        /// What differs.
        what: String,
    },
}

impl From<(u64, DecodeError)> for ReplayError {
    fn from((index, error): (u64, DecodeError)) -> ReplayError {
        ReplayError::Unreadable {
            index,
            why: error.to_string(),
        }
    }
}

/// Decides a run again. `base`: the state from before it began. `entries`: the bytes of the log behind that, in order and
/// without gaps, empty where raft's own entries are; the last is the one up to which `expected`, the run as the state
/// holds it, has come.
///
/// # Errors
/// The first difference; or why there is nothing to compare.
pub fn replay<B: AsRef<[u8]>>(
    mut state: State,
    entries: &[(u64, B)],
    expected: &Run,
) -> Result<Replayed, ReplayError> {
    let id = expected.id;
    let base = state.applied_index();
    let drawn = drawn_of(entries, id)?;
    let mut found = Replayed {
        first: 0,
        last: base,
        drawn: 0,
        decisions: 0,
    };
    if state.run(&id).is_some() {
        let first = base + 1;
        return Err(ReplayError::TooOld { run: id, first });
    }
    for (index, bytes) in entries {
        if *index != state.applied_index() + 1 {
            return Err(ReplayError::Unreadable {
                index: *index,
                why: format!("the one before it is {}", state.applied_index()),
            });
        }
        match bytes.as_ref() {
            [] => state.skip_to(*index),
            bytes => {
                let entry = Entry::decode(bytes).map_err(|error| (*index, error))?;
                state.apply(*index, entry.at, &entry.envelope);
            }
        }
        if found.first == 0 && state.run(&id).is_some() {
            found.first = *index;
        }
        if let Some(recorded) = drawn.get(index) {
            found.drawn += 1;
            found.decisions += compare(&state, id, *index, recorded)?;
        }
        found.last = *index;
    }
    match state.run(&id) {
        None => Err(ReplayError::TooOld {
            run: id,
            first: base + 1,
        }),
        Some(run) if run == expected => Ok(found),
        Some(run) => Err(ReplayError::Different {
            last: found.last,
            what: difference(run, expected),
        }),
    }
}

/// Decisions of one run in one entry.
struct Recorded {
    index: u64,
    decisions: Vec<Decision>,
}

/// The decisions of a run, by the index as of which they were drawn.
fn drawn_of<B: AsRef<[u8]>>(
    entries: &[(u64, B)],
    run: RunId,
) -> Result<BTreeMap<u64, Vec<Recorded>>, ReplayError> {
    let mut drawn: BTreeMap<u64, Vec<Recorded>> = BTreeMap::new();
    for (index, bytes) in entries.iter().filter(|(_, bytes)| !bytes.as_ref().is_empty()) {
        let entry = Entry::decode(bytes.as_ref()).map_err(|error| (*index, error))?;
        let Command::Plan { drawn_at, decisions } = entry.envelope.command else {
            continue;
        };
        let decisions: Vec<_> = decisions.into_iter().filter(|d| d.run() == run).collect();
        if !decisions.is_empty() {
            let index = *index;
            drawn
                .entry(drawn_at)
                .or_default()
                .push(Recorded { index, decisions });
        }
    }
    Ok(drawn)
}

/// Draws again what was drawn as of this state. What one look at a run gives can be in several entries, of which some may
/// have been lost with their leader, and can be drawn by two leaders: each entry has a part of it, as it stands.
fn compare(state: &State, run: RunId, drawn_at: u64, recorded: &[Recorded]) -> Result<usize, ReplayError> {
    // As the bytes say them: that is what was applied.
    let bytes = |decisions: &[Decision]| -> Vec<Vec<u8>> { decisions.iter().map(to_bytes).collect() };
    let again = decisions_of(state, &run);
    let again_bytes = bytes(&again);
    let mut count = 0;
    for Recorded { index, decisions } in recorded {
        let there = bytes(decisions);
        count += there.len();
        if again_bytes.windows(there.len()).any(|part| part == there) {
            continue;
        }
        // The place at which the most agree says best what is different.
        let agree = |from: usize| {
            let pairs = there.iter().zip(&again_bytes[from..]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let from = (0..=again.len()).max_by_key(|&from| (agree(from), std::cmp::Reverse(from)));
        let from = from.unwrap_or(0);
        let at = agree(from);
        let show = |decision: Option<&Decision>| {
            decision.map_or("nothing more".to_owned(), |decision| format!("{decision:?}"))
        };
        return Err(ReplayError::Decided {
            index: *index,
            drawn_at,
            recorded: show(decisions.get(at)),
            again: show(again.get(from + at)),
        });
    }
    Ok(count)
}

/// The first thing in which two versions of a run differ, for people.
fn difference(replayed: &Run, held: &Run) -> String {
    if replayed.word() != held.word() {
        return format!("it is {} there, and {} here", replayed.word(), held.word());
    }
    for number in 0..held.steps.len().min(replayed.steps.len()) {
        let (there, here) = (&replayed.steps[number], &held.steps[number]);
        if there == here {
            continue;
        }
        let name = &held.declared(number as u16).name;
        if there.status != here.status {
            return format!(
                "step {name} is {} there, and {} here",
                there.status.as_str(),
                here.status.as_str()
            );
        }
        let differ = there.tasks.iter().zip(&here.tasks).position(|(a, b)| a != b);
        return match differ {
            Some(item) => format!(
                "task {name}/{item} is {} after {} attempts there, and {} after {} here",
                there.tasks[item].status.as_str(),
                there.tasks[item].attempt,
                here.tasks[item].status.as_str(),
                here.tasks[item].attempt
            ),
            None => format!(
                "step {name} has {} tasks there, and {} here",
                there.tasks.len(),
                here.tasks.len()
            ),
        };
    }
    match replayed.outputs == held.outputs {
        false => "its outputs are others".to_owned(),
        true => "its record is another".to_owned(),
    }
}
