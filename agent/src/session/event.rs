//! Everything that goes into the machine and everything that comes out of it.

use catalogue::Impact;

use crate::actions::AttemptKey;

/// The two clocks, read by the caller when something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since any fixed moment; never goes back. Every deadline is on this clock.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970: only for what people read.
    pub wall_ms: u64,
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The stream that `Output::Connect` asked for is open; nothing was sent on it yet.
    Connected {
        /// Which; one that the machine has given up is ignored.
        connection: u64,
    },
    /// The connection could not be made, or ended.
    Lost {
        /// Which; one that the machine has given up is ignored.
        connection: u64,
        /// For the log.
        reason: String,
    },
    /// The coordinator said something.
    Received {
        /// On which connection; one that the machine has given up is ignored.
        connection: u64,
        /// What.
        message: Received,
    },
    /// What was asked to be written is on disk.
    Written(Written),
    /// The answer to `Output::Recall`; None when the journal does not hold the outcome any more.
    Recalled {
        /// Of which attempt.
        key: AttemptKey,
        /// As it was written.
        outcome: Option<Outcome>,
    },
    /// What `Output::Run` asked for has ended.
    Ended {
        /// Which attempt.
        key: AttemptKey,
        /// How.
        outcome: Outcome,
    },
    /// Take no more work, let what is urgent finish, then say `Output::Stopped`.
    Shutdown,
    /// The deadline that the machine named has come.
    Wake,
}

/// What a coordinator says, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The answer to Hello.
    Welcome {
        /// How often it wants a heartbeat.
        heartbeat_ms: u64,
        /// How long its silence is borne.
        lease_ms: u64,
        /// The greatest message that it takes.
        message_bytes_max: u64,
    },
    /// Something to do.
    Assign(Box<Assignment>),
    /// Something to stop.
    Cancel {
        /// Which attempt.
        key: AttemptKey,
        /// Why.
        reason: String,
    },
    /// Reports that are on a majority, or that will never be taken.
    Committed {
        /// Started reports.
        started: Vec<AttemptKey>,
        /// Ended reports.
        ended: Vec<AttemptKey>,
        /// With the reason.
        refused: Vec<(AttemptKey, String)>,
    },
    /// The coordinator closes the session.
    Goodbye {
        /// Why.
        reason: String,
        /// Another coordinator would do better.
        retry_elsewhere: bool,
    },
    /// Anything else: it only proves that the node is there.
    Other,
}

/// One attempt to make, as it was received and judged by the guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The attempt, with its fencing token.
    pub key: AttemptKey,
    /// From the catalogue.
    pub action: String,
    /// A JSON object, as text.
    pub parameters_json: String,
    /// The greater one of what the catalogue and the coordinator say.
    pub impact: Impact,
    /// Goes before collection and scans.
    pub urgent: bool,
    /// How long it may run, from its start.
    pub timeout_ms: u64,
    /// Not to be begun later than this after it was received; 0: no bound.
    pub start_within_ms: u64,
    /// The guard's refusal: it will not be run, and this is its outcome.
    pub refusal: Option<Failure>,
}

/// Why something did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, `[a-z_]+`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The intent to act: durable before the act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The attempt.
    pub key: AttemptKey,
    /// What is about to be done.
    pub action: String,
    /// What it does to the host.
    pub impact: Impact,
    /// The agent's clock.
    pub at_ms: u64,
}

/// How an attempt ended: durable before it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which way.
    pub status: Status,
    /// A JSON object of at most 64 KiB as text; empty when there is none.
    pub output_json: String,
    /// Unless it succeeded.
    pub error: Option<Failure>,
    /// The agent's clock; when it never started, the time of the decision.
    pub started_at_ms: u64,
    /// The agent's clock.
    pub ended_at_ms: u64,
}

/// Which way an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Succeeded,
    /// Not done, and known not to be.
    Failed,
    /// Stopped before it was done, as asked.
    Cancelled,
    /// May have been done.
    Unknown,
}

/// What is on disk now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The intent of this attempt.
    Intent(AttemptKey),
    /// The outcome of this attempt.
    Outcome(AttemptKey),
}

/// What the journal held when the agent started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Assignments up to this token were forgotten: what is not in `records` is never run.
    pub floor: u64,
    /// In the order in which they were first written.
    pub records: Vec<RecoveredAttempt>,
}

/// One attempt in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveredAttempt {
    /// The attempt.
    pub key: AttemptKey,
    /// None: it ended without having been begun.
    pub intent: Option<Intent>,
    /// None: the agent died in between.
    pub outcome: Option<Outcome>,
    /// The cluster has committed the outcome.
    pub acknowledged: bool,
}

/// What the machine asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a session; answered by `Input::Connected` or `Input::Lost`.
    Connect {
        /// Names it from now on; greater than all before.
        connection: u64,
        /// Index into the list of coordinators.
        endpoint: usize,
    },
    /// Give the connection up. No answer is needed.
    Disconnect {
        /// Which.
        connection: u64,
        /// For the log.
        reason: String,
    },
    /// Say this on the connection. What cannot be sent is dropped by a `Lost`.
    Send {
        /// On which.
        connection: u64,
        /// What.
        message: Sent,
    },
    /// Make the intent durable, then answer `Written::Intent`.
    WriteIntent(Intent),
    /// Make the outcome durable, then answer `Written::Outcome`.
    WriteOutcome {
        /// Of which attempt.
        key: AttemptKey,
        /// How it ended.
        outcome: Outcome,
    },
    /// Note that the cluster holds the outcome. Losing this note is harmless: it need not be durable at once.
    Acknowledge(AttemptKey),
    /// Forget these attempts; all tokens up to `floor` are refused from now on. Losing this is harmless.
    Forget {
        /// Which.
        keys: Vec<AttemptKey>,
        /// Kept with them, in the same write.
        floor: u64,
    },
    /// Read an outcome; answered by `Input::Recalled`.
    Recall(AttemptKey),
    /// Carry it out now; answered by `Input::Ended`. Said at most once for each attempt.
    Run(Box<Assignment>),
    /// Ask a running attempt to stop; it still ends by `Input::Ended`.
    CancelRun {
        /// Which.
        key: AttemptKey,
        /// Why.
        reason: String,
    },
    /// For the log.
    Notice(Notice),
    /// The machine is done after `Input::Shutdown`; it says nothing more.
    Stopped,
}

/// What the agent says to a coordinator. The caller fills in what only it knows (facts, versions).
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// The first message of a session.
    Hello {
        /// What was begun here and whose end is not committed.
        running: Vec<AttemptKey>,
    },
    /// The agent is there.
    Heartbeat {
        /// From 1, per session.
        sequence: u64,
    },
    /// What happened.
    Reports(Vec<Report>),
}

/// What happened to one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// It has begun.
    Started {
        /// Which.
        key: AttemptKey,
        /// The agent's clock.
        at_ms: u64,
    },
    /// It has ended.
    Ended {
        /// Which.
        key: AttemptKey,
        /// How.
        outcome: Outcome,
    },
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session is up.
    Attached {
        /// Index into the list of coordinators.
        endpoint: usize,
    },
    /// A session is gone, or could not be made.
    Detached {
        /// Why.
        reason: String,
        /// When the next try comes.
        retry_in_ms: u64,
    },
    /// An assignment older than what is known was dropped.
    Fenced {
        /// Which.
        key: AttemptKey,
        /// The newest token seen for the task.
        newest: u64,
    },
    /// The cluster will never take this report.
    ReportRefused {
        /// Which attempt.
        key: AttemptKey,
        /// Why.
        reason: String,
    },
    /// An attempt was under way when the agent died.
    Interrupted {
        /// Which.
        key: AttemptKey,
        /// What it is now.
        status: Status,
    },
}

impl Outcome {
    /// An attempt that ended without being run.
    pub fn not_run(status: Status, code: &str, message: impl Into<String>, at_ms: u64) -> Outcome {
        Outcome {
            status,
            output_json: String::new(),
            error: Some(Failure {
                code: code.to_owned(),
                message: message.into(),
            }),
            started_at_ms: at_ms,
            ended_at_ms: at_ms,
        }
    }

    /// About how much it takes in memory, in a message and on disk.
    pub fn size_bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |e| e.code.len() + e.message.len());
        self.output_json.len() + error + 64
    }
}

impl Status {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Unknown => "unknown",
        }
    }
}
