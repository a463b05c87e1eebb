//! The compiled form of a playbook: immutable, hashed, stored by the cluster, interpreted by the planner.
//!
//! Everything in it has been checked. Expressions are kept as source text, so that the same bytes
//! mean the same on every node; they are compiled again, and cached, by whoever evaluates them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The newest version of this format. A reader refuses a manifest with a greater one.
pub const FORMAT: u32 = 3;
/// Of a manifest in which no step follows another host by host: readers from before there was that take it too.
pub const FORMAT_WHOLE: u32 = 2;

/// A compiled playbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] at the time of compiling, or an older one that says the same.
    pub format: u32,
    /// `[a-z0-9-]{1,63}`.
    pub playbook: String,
    /// The author's version number.
    pub version: u32,
    /// Descriptive only; never decides anything.
    pub info: serde_json::Value,
    /// What starts it by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// By name.
    pub inputs: BTreeMap<String, Input>,
    /// Bounds of the whole run.
    pub limits: Limits,
    /// Named sets of hosts, resolved when the run is planned, then frozen.
    pub targets: BTreeMap<String, TargetSet>,
    /// In the order of the text. `needs` refer to positions in this list; a step's number in a task key
    /// is its position here, with `finally` counted on behind.
    pub steps: Vec<Step>,
    /// Always run, one after another, when no step is left; cannot fail the run.
    pub finally: Vec<Step>,
    /// Evaluated when the run ends.
    pub outputs: BTreeMap<String, Template>,
}

/// A declared input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Where a triggered run takes it from; `event` and `group` are in scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Template>,
    /// Used when the input is not given; already checked against `kind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// Least length (lists, strings) or value (numbers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest length (lists, strings) or value (numbers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Duplicates are removed, the first kept.
    #[serde(default)]
    pub distinct: bool,
    /// A regular expression that the whole string must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The media type that an artifact must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
    /// A larger artifact is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
}

/// The type of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Any text.
    String,
    /// 64-bit signed.
    Int,
    /// Finite.
    Float,
    /// true or false.
    Bool,
    /// RFC 3339.
    Timestamp,
    /// `30s`, `5m`, `24h`, `7d`, or sums of them.
    Duration,
    /// IPv4 or IPv6 address.
    Ip,
    /// Address and prefix length.
    Cidr,
    /// Absolute URL.
    Url,
    /// `local@domain`.
    Email,
    /// An agent's id.
    Host,
    /// 64 lower-case hex digits.
    Sha256,
    /// An absolute path.
    Path,
    /// A reference to evidence.
    Artifact,
    /// Any JSON.
    Json,
    /// Every element of the inner type.
    List(Box<Type>),
    /// Keys are strings, every value of the inner type.
    Map(Box<Type>),
    /// One of these strings.
    Enum(Vec<String>),
}

/// Bounds of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The run is cancelled when it takes longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// A plan with more hosts than this is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_targets: Option<u32>,
    /// How many runs of the playbook there may be at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What no other active run may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// How many runs of one playbook there may be at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Runs with another key do not count; None: all runs of the playbook do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Template>,
    /// At least 1.
    pub max: u32,
    /// What happens to one too many.
    pub on_conflict: OnConflict,
}

/// What happens to a run that one too many would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It is refused, with the run that is in its way.
    #[default]
    Refuse,
    /// A triggered one is left out, and counted; one that a person starts is refused.
    Drop,
}

/// Values that no two active runs of any playbook may hold at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// Gives a list; each of its values is locked.
    pub each: Template,
    /// What happens to one that is locked already.
    pub on_conflict: OnLocked,
}

/// What happens to a run that would lock what another one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLocked {
    /// It is refused, with the run that is in its way.
    #[default]
    Refuse,
    /// The value is left out of the inputs that name it, and of the targets; with nothing left, the run is refused.
    DropItem,
}

/// What starts a playbook by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// What happens.
    pub on: TriggerOn,
    /// The same key again within the window starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
}

/// What a trigger waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerOn {
    /// An event of an OCSF class.
    Event {
        /// The class's name, such as `detection_finding`.
        class: String,
        /// `event` is in scope.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<Expression>,
    },
    /// So many events of one key within a time.
    Threshold {
        /// The class's name.
        class: String,
        /// Which of them count; `event` is in scope.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<Expression>,
        /// Their key; `event` is in scope.
        by: Expression,
        /// How many, at least 1.
        at_least: u32,
        /// Within which time.
        within_ms: u64,
    },
    /// The clock.
    Schedule {
        /// Five fields: minute, hour, day of month, month, day of week.
        cron: String,
        /// An IANA name.
        time_zone: String,
        /// Whether a time that passed while no coordinator led is caught up with, once.
        catch_up: bool,
    },
    /// A file that was handed in under this name.
    Submission {
        /// The name.
        name: String,
    },
    /// A request to the webhook of this name.
    Webhook {
        /// The name.
        name: String,
    },
}

/// What makes two triggers one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dedupe {
    /// `event` and `group` are in scope.
    pub key: Template,
    /// For how long.
    pub window_ms: u64,
}

/// A named set of hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetSet {
    /// Where the hosts come from.
    pub source: TargetSource,
    /// More hosts than this refuse the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Otherwise an empty set refuses the plan.
    #[serde(default)]
    pub allow_empty: bool,
}

/// Where the hosts of a set come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetSource {
    /// A list of agent ids.
    Hosts(Template),
    /// Every agent for which this holds; `agent` is in scope.
    Select(Expression),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `[a-z][a-z0-9_]{0,62}`, unique in the playbook, `finally` included.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// All must hold before it starts. Empty: starts at once.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// False: the step is skipped. One that reads `target` or the item's name (see `when_per_task`) is
    /// asked per task, and skips that task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// `when` reads `target`, `steps.*.here` or the item's name.
    #[serde(default)]
    pub when_per_task: bool,
    /// Over what its tasks go.
    pub over: Over,
    /// How its tasks are let go.
    pub strategy: Strategy,
    /// Per task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Per task.
    pub timeout: Timeout,
    /// Waited after the needs hold, before the first task.
    #[serde(default)]
    pub delay_ms: u64,
    /// False on a task's output: the task failed, with the code `expectation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expression>,
    /// What the step's failure means for the run.
    pub on_failure: OnFailure,
    /// Which tasks wait for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What undoes a task that succeeded. None: what the catalogue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Compensate>,
}

impl Step {
    /// It follows other steps host by host.
    pub fn follows(&self) -> bool {
        self.needs.iter().any(|need| need.by_host)
    }

    /// One that runs once, at once, and fails the run if it fails.
    pub fn plain(name: String, kind: Kind) -> Step {
        Step {
            name,
            kind,
            needs: Vec::new(),
            when: None,
            when_per_task: false,
            over: Over::Once,
            strategy: Strategy::default(),
            retry: None,
            timeout: Timeout::default(),
            delay_ms: 0,
            expect: None,
            on_failure: OnFailure::Fail,
            gate: None,
            compensate: None,
        }
    }
}

/// How deep runs may begin runs, at most: so many are above one another beside the first.
pub const DEPTH_MAX: u32 = 16;
/// The longest that a gate may wait, and again after it escalated: nobody remembers for longer what was asked.
pub const GATE_MS_MAX: u64 = 60 * 60 * 1000;

/// Tasks that wait for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Only tasks for which this holds wait; `target` or the item is in scope. None: all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// Who may approve: any of these roles.
    pub roles: Vec<String>,
    /// How many different people must, at least 1.
    pub quorum: u32,
    /// How long the gate waits, at most [`GATE_MS_MAX`].
    pub expires_ms: u64,
    /// What then.
    pub on_expiry: OnExpiry,
    /// The roles that are asked next, where it escalates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escalate_to: Vec<String>,
    /// Who asked for the run may not approve.
    #[serde(default)]
    pub not_requester: bool,
}

/// What happens when people did not answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// The task is not carried out.
    #[default]
    Reject,
    /// The roles of `escalate_to` are asked, for as long again; then it is rejected.
    Escalate,
}

/// What undoes a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compensate {
    /// An action of the catalogue.
    pub action: String,
    /// Its parameters; what the task saw is in scope, and its `output`.
    pub with: BTreeMap<String, Template>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An action of the catalogue.
    Do {
        /// Its name, e.g. `host.isolate`.
        action: String,
        /// Its parameters: a map of templates.
        with: BTreeMap<String, Template>,
    },
    /// The first rule that holds decides; its `set` is the step's output.
    Decide {
        /// In order; the last is the `else`, without a condition.
        rules: Vec<Rule>,
    },
    /// Adds up the rules that hold; which did is kept.
    Score {
        /// In order.
        rules: Vec<ScoreRule>,
    },
    /// Asks people; what they fill in is the step's output.
    Ask {
        /// Who may answer: any of these roles.
        roles: Vec<String>,
        /// What they are told; may be empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<Template>,
        /// How long the question stands; then the step has failed, with the code `expired`.
        expires_ms: u64,
        /// What is asked for, by name.
        form: BTreeMap<String, Field>,
    },
    /// Tells people; its delivery is the step's one task.
    Notify {
        /// `KIND:ADDRESS`, each.
        to: Vec<Template>,
        /// In the words of whom it is sent to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        severity: Option<Template>,
        /// What.
        text: Template,
    },
    /// Waits for an event; it is the step's output.
    WaitEvent {
        /// The OCSF class's name.
        class: String,
        /// Which of them; `event` is in scope beside what the step sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<Expression>,
        /// How long; then the step has failed, with the code `expired`.
        expires_ms: u64,
    },
    /// Another playbook, as a run of its own.
    Playbook {
        /// Its name.
        name: String,
        /// Which of its versions; None: the newest that is published when the step begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
        /// The step ends as that run does, and its outputs are the step's; otherwise it ends when the run began.
        wait: bool,
        /// How deep such runs may be nested, at least 1.
        depth_max: u32,
        /// Its inputs.
        with: BTreeMap<String, Template>,
    },
}

/// One rule of a `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRule {
    /// What it adds when it holds; may be negative.
    pub add: i64,
    /// When it holds.
    pub when: Expression,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A field of a form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// What values it takes.
    pub input: Input,
    /// What it holds unless people say otherwise. None: they must fill it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Template>,
}

/// One rule of a `decide`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// None: the `else`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// The output, name by name.
    pub set: BTreeMap<String, Template>,
}

/// A condition on another step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Position in [`Manifest::steps`].
    pub step: u16,
    /// What must be true of it.
    pub state: NeedState,
    /// It must be true of the other step's task on the same host, not of the step: both go over the same set, and the
    /// one follows the other host by host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_host: bool,
}

/// What a need asks of the other step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedState {
    /// `a`: it succeeded. If it was skipped, the step that needs it is skipped too.
    Succeeded,
    /// `a.done`: it ended, in whatever way.
    Done,
    /// `a.failed`: it failed.
    Failed,
}

/// Over what a step's tasks go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// One task, on the coordinator (or none, for a `decide`).
    Once,
    /// One task per host of the named set, on that host's agent.
    Targets(String),
    /// One task per item of a list.
    ForEach {
        /// The list.
        list: Expression,
        /// The name that an item has in scope.
        name: String,
        /// Duplicates are removed, the first kept.
        distinct: bool,
        /// The host on whose agent an item's task runs, and the frozen set that it must be in.
        /// None: the items run on the coordinator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<ItemHost>,
    },
}

/// Where an item of a `foreach` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemHost {
    /// Gives an agent id, with the item in scope.
    pub id: Expression,
    /// The target set that must hold it: a fan-out never leaves what was frozen.
    pub within: String,
}

/// How a step's tasks are let go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// None: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// None: `failed > 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_when: Option<Expression>,
    /// So many first: the others only if each of them succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// The tasks in groups, one group after the other; those that are left are the last group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// The pause behind each group, the last one left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub soak_ms: u64,
    /// The step waits for all tasks of what it needs, also where both go over the same hosts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub barrier: bool,
}

/// How large a group of tasks is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wave {
    /// So many, at least 1.
    Count(u32),
    /// That share of all, rounded up; over 0, up to 100.
    Percent(f64),
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// When a failed task is tried again. A task that ended `unknown` never is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Retries behind the first attempt.
    pub max: u32,
    /// The first pause.
    pub initial_ms: u64,
    /// Each pause is this times the one before.
    pub factor: f64,
    /// No pause is longer.
    pub delay_ms_max: u64,
    /// Spread each pause over its upper half.
    pub jitter: bool,
    /// Only errors for which this holds; `error` is in scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
}

/// Bounds of one task. Every one of them ends it in a named state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// How long to wait for a host that is offline: then `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<u64>,
    /// How long one attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u64>,
    /// How long the task may take, retries and pauses included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// How long a running attempt may go without a sign of life of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

/// What a step's failure means for the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails: no further step starts, `finally` runs.
    #[default]
    Fail,
    /// The run goes on.
    Continue,
    /// The run fails, and before its `finally` these are undone and those are told.
    Then {
        /// Numbers of steps that came before, in the order in which they are undone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        compensate: Vec<u16>,
        /// `KIND:ADDRESS`, each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notify: Vec<Template>,
    },
}

/// CEL source text that parsed, and stayed under the limits, when the playbook was compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// A value in which expressions may stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Has no expression in it.
    Literal(serde_json::Value),
    /// Wholly `${expr}`: keeps the expression's type.
    Expression(Expression),
    /// Text around expressions: renders as text.
    Text(Vec<TextPart>),
    /// A list with at least one expression in it.
    List(Vec<Template>),
    /// A map with at least one expression in it.
    Map(BTreeMap<String, Template>),
}

/// As it is written in a playbook, on one line.
impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Template::Literal(serde_json::Value::String(text)) => f.write_str(text),
            Template::Literal(value) => f.write_str(&crate::canonical::canonical_json(value)),
            Template::Expression(expression) => write!(f, "${{{}}}", expression.0),
            Template::Text(parts) => parts.iter().try_for_each(|part| match part {
                TextPart::Text(text) => f.write_str(text),
                TextPart::Expression(expression) => write!(f, "${{{}}}", expression.0),
            }),
            Template::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Template::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
        }
    }
}

/// A part of a text template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPart {
    /// As it stands.
    Text(String),
    /// Rendered in its place.
    Expression(Expression),
}

impl Kind {
    /// The word of the language.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Do { .. } => "do",
            Kind::Decide { .. } => "decide",
            Kind::Score { .. } => "score",
            Kind::Ask { .. } => "ask",
            Kind::Notify { .. } => "notify",
            Kind::WaitEvent { .. } => "wait_event",
            Kind::Playbook { .. } => "playbook",
        }
    }
}

impl Manifest {
    /// The SHA-256 of the manifest's canonical JSON (sorted keys, no spaces), in lower-case hex.
    pub fn sha256(&self) -> String {
        use sha2::{Digest, Sha256};
        let value = serde_json::to_value(self).expect("a manifest is always representable as JSON");
        let bytes = crate::canonical::canonical_json(&value);
        hex::encode(Sha256::digest(bytes))
    }

    /// The step with this number: `steps` first, `finally` counted on behind.
    pub fn step(&self, number: u16) -> Option<&Step> {
        let number = usize::from(number);
        self.steps
            .get(number)
            .or_else(|| self.finally.get(number - self.steps.len().min(number)))
    }

    /// How many steps there are, `finally` included.
    pub fn step_count(&self) -> u16 {
        (self.steps.len() + self.finally.len()) as u16
    }

    /// The number of the step with this name.
    pub fn step_number(&self, name: &str) -> Option<u16> {
        self.steps
            .iter()
            .chain(&self.finally)
            .position(|step| step.name == name)
            .map(|at| at as u16)
    }
}
