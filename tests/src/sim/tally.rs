//! What happened in a world, counted, so that a reader sees that the faults are real.

use std::collections::BTreeMap;

/// Something worth counting. Each has to happen in a fair share of all worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happened {
    /// A node died.
    NodeCrash,
    /// A node died with writes that it had not synced, and they were gone when it came back.
    LostWrites,
    /// Of the bytes of a write only some had arrived when its node died: cut off at the restart.
    TornWrite,
    /// The leader died or was cut off: another one took over.
    LeaderChange,
    /// A message between nodes found its direction cut while the other direction was open.
    CutOneWay,
    /// A message between nodes found both directions cut.
    CutBothWays,
    /// A message between nodes was lost to bad weather.
    Drop,
    /// A message between nodes arrived twice.
    Duplicate,
    /// A message between nodes arrived after one that was sent later.
    Reordering,
    /// A message between nodes came in before the one before it had been acted on.
    TakenTogether,
    /// A sync took longer than a healthy disk ever does.
    SlowSync,
    /// The leader proposed with a clock that was wrong.
    SkewedProposal,
    /// A proposal was stamped with a time before that of the state.
    ClockBackwards,
    /// An agent acted with a wrong clock.
    SkewedAgent,
    /// An agent died.
    AgentCrash,
    /// An agent died with the intent of something above observe in its journal and no outcome.
    AgentCrashBetween,
    /// An agent died with something in its journal that was not synced, and it was gone.
    AgentLostWrites,
    /// A log was compacted.
    Compaction,
    /// A node that fell behind was sent a snapshot and installed it.
    SnapshotInstalled,
    /// A node died while a snapshot was not wholly on its disk.
    CrashInInstall,
    /// A client asked again before it was answered.
    Retry,
    /// A request was answered more than once.
    AnsweredAgain,
    /// A request was answered again under another leader.
    AnsweredAgainLater,
    /// Something above observe was held back for want of a lease.
    HeldBack,
    /// An agent was told to do, at contain or above, what its journal says that it had begun.
    ToldAgain,
    /// A run was rolled back, and what it did was undone on some host.
    RolledBack,
    /// A step began a run.
    ChildBegan,
    /// A run that a leader proposed for an attempt was refused: there was one, or the attempt was over.
    ChildRefused,
    /// A person's answer was taken.
    PersonAnswered,
    /// A run was paused, and later resumed.
    Paused,
    /// A person had tried again what had not succeeded.
    TriedAgain,
}

impl Happened {
    /// Every one.
    pub const ALL: [Happened; 31] = [
        Happened::NodeCrash,
        Happened::LostWrites,
        Happened::TornWrite,
        Happened::LeaderChange,
        Happened::CutOneWay,
        Happened::CutBothWays,
        Happened::Drop,
        Happened::Duplicate,
        Happened::Reordering,
        Happened::TakenTogether,
        Happened::SlowSync,
        Happened::SkewedProposal,
        Happened::ClockBackwards,
        Happened::SkewedAgent,
        Happened::AgentCrash,
        Happened::AgentCrashBetween,
        Happened::AgentLostWrites,
        Happened::Compaction,
        Happened::SnapshotInstalled,
        Happened::CrashInInstall,
        Happened::Retry,
        Happened::AnsweredAgain,
        Happened::AnsweredAgainLater,
        Happened::HeldBack,
        Happened::ToldAgain,
        Happened::RolledBack,
        Happened::ChildBegan,
        Happened::ChildRefused,
        Happened::PersonAnswered,
        Happened::Paused,
        Happened::TriedAgain,
    ];
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Happened, u64>);

impl Tally {
    /// It happened once more.
    pub fn note(&mut self, what: Happened) {
        *self.0.entry(what).or_default() += 1;
    }

    /// How often it happened.
    pub fn count(&self, what: Happened) -> u64 {
        self.0.get(&what).copied().unwrap_or(0)
    }
}

/// The tallies of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    worlds: u64,
    seen: BTreeMap<Happened, (u64, u64)>,
}

impl Totals {
    /// One more world.
    pub fn add(&mut self, tally: &Tally) {
        self.worlds += 1;
        for (what, count) in &tally.0 {
            let (worlds, total) = self.seen.entry(*what).or_default();
            *worlds += 1;
            *total += count;
        }
    }

    /// In how many worlds in a hundred it happened.
    pub fn percent(&self, what: Happened) -> f64 {
        let (worlds, _) = self.seen.get(&what).copied().unwrap_or_default();
        worlds as f64 * 100.0 / self.worlds.max(1) as f64
    }

    /// How often it happened in all of them.
    pub fn total(&self, what: Happened) -> u64 {
        self.seen.get(&what).map_or(0, |(_, total)| *total)
    }
}
