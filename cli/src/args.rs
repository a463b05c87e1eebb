//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// Fleet-wide incident response that cannot lose its place.
#[derive(Debug, Parser)]
#[command(
    name = "cordon",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done, 1 the run or a check failed, 2 usage, 3 not found, 4 no coordinator, 5 denied, 6 refused, 7 invalid input, 8 answer not written, 70 internal. See docs/cli.md."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// The form of the answer.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// The context of the configuration file to use.
    #[arg(long, global = true, env = "CORDON_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The configuration file [default: $CORDON_CONFIG, then ~/.config/cordon/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster's keys and folders, offline, in an empty folder.
    Init(Init),
    /// Issue or renew an operator's certificate, offline.
    #[command(subcommand)]
    Operator(Operator),
    /// Issue or renew a coordinator's certificate, offline.
    #[command(subcommand)]
    Coordinator(Coordinator),
    /// Show how the cluster is.
    Status,
    /// List agents and look after them.
    #[command(subcommand)]
    Agent(Agent),
    /// Make the tokens that let agents join.
    #[command(subcommand)]
    EnrollToken(EnrollToken),
    /// Check playbooks, plan and draw them, and bring them in and out.
    #[command(subcommand)]
    Playbook(Playbook),
    /// Say what a problem's code means, such as E0301, offline; without a code, list all.
    Explain { code: Option<String> },
    /// See what Cordon can do, on hosts and from the coordinators, offline.
    #[command(subcommand)]
    Action(Action),
    /// Start runs and follow them.
    #[command(subcommand)]
    Run(Run),
    /// Hand in events of other systems, which set off playbooks or let them go on.
    #[command(subcommand)]
    Event(Event),
    /// See what starts playbooks by itself, and hold it back.
    #[command(subcommand)]
    Trigger(Trigger),
    /// Read the evidence that runs collected.
    #[command(subcommand)]
    Evidence(Evidence),
    /// See and change the cluster's members.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Read the audit record.
    #[command(subcommand)]
    Audit(Audit),
    /// See what waits for people, and answer it.
    #[command(subcommand)]
    Approval(Approval),
    /// See and change who may approve and answer what.
    #[command(subcommand)]
    Role(Role),
    /// Show a whole cluster on this computer, and a ransomware response through it.
    Demo(crate::demo::Args),
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct Init {
    /// An empty or absent folder.
    pub dir: PathBuf,
    #[arg(long, default_value = certs::init::TRUST_DOMAIN_DEFAULT, value_name = "DOMAIN")]
    pub trust_domain: String,
    /// A coordinator: NAME=HOST, NAME=HOST:PORT or NAME=HOST,operator=PORT,agent=PORT,... [default: c1=127.0.0.1]
    #[arg(long = "member", value_name = "NAME=HOST")]
    pub members: Vec<String>,
    /// The first operator's id.
    #[arg(long, default_value = "admin", value_name = "NAME")]
    pub operator: String,
}

#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Issue a certificate for 12 hours, with a new key.
    Issue {
        /// The folder of `cordon init`.
        dir: PathBuf,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Coordinator {
    /// Issue a member's certificate for 7 days, with a new key.
    Issue {
        /// The folder of `cordon init`.
        dir: PathBuf,
        /// A member of the cluster, to renew.
        #[arg(required_unless_present_any = ["add", "replace"])]
        name: Option<String>,
        /// Make the folder of another member instead, which joins with `cordon cluster add`.
        #[arg(long, value_name = "NAME=HOST", conflicts_with = "name")]
        add: Option<String>,
        /// Make the folder of a new member in the place of this one, which is lost: with its name and
        /// addresses, or with those of --add.
        #[arg(long, value_name = "NAME", conflicts_with = "name")]
        replace: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Agent {
    /// List them, by id.
    List {
        /// Only those with a live session.
        #[arg(long)]
        online: bool,
    },
    /// Show one with its labels and facts.
    Show { id: String },
    /// Set labels (KEY=VALUE) and remove them (KEY-).
    Label {
        id: String,
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Revoke its identity for good and cut its session.
    Revoke {
        id: String,
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum EnrollToken {
    /// Make one. Its secret is shown once.
    Create {
        /// How many agents may use it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it holds.
        #[arg(long, default_value = "10m", value_name = "DURATION")]
        ttl: String,
        /// A label of every agent that joins with it.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// The id of the agent that joins with it; only with one use.
        #[arg(long, value_name = "ID")]
        agent_id: Option<String>,
    },
    /// List them, without their secrets.
    List,
    /// Make one useless.
    Revoke { id: String },
}

/// How a playbook is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A flowchart for code hosts and wikis.
    #[default]
    Mermaid,
    /// A picture for browsers and reports.
    Svg,
}

#[derive(Debug, Subcommand)]
pub enum Playbook {
    /// Check playbooks and show all problems at once.
    Validate {
        /// A file, or library:NAME.
        #[arg(required = true, value_name = "FILE|library:NAME")]
        playbooks: Vec<String>,
    },
    /// Carry out the cases beside playbooks, in virtual time; the exit code is 1 unless all pass.
    Test {
        /// NAME.yaml with its tests in NAME.test.yaml, either of the two, or library:NAME.
        #[arg(required = true, value_name = "FILE|library:NAME")]
        files: Vec<String>,
        /// Only the case of this name.
        #[arg(long, value_name = "NAME")]
        case: Option<String>,
        /// Show every branch of the playbook with the number of cases that took it, not only those that none did.
        #[arg(long)]
        coverage: bool,
        /// Fail also when the cases take less than this share of a playbook's branches.
        #[arg(long, value_name = "PERCENT", conflicts_with = "case", value_parser = clap::value_parser!(u8).range(0..=100))]
        min_coverage: Option<u8>,
    },
    /// Print the JSON Schema of the playbook language, for editors.
    Schema,
    /// Draw a playbook as a Mermaid flowchart, or as SVG.
    Graph {
        /// A file, or library:NAME.
        #[arg(value_name = "FILE|library:NAME")]
        playbook: String,
        /// How it is drawn.
        #[arg(long, value_enum, default_value_t)]
        format: GraphFormat,
        /// Colour it by how the steps of this run of it ended.
        #[arg(long, value_name = "ID")]
        run: Option<String>,
    },
    /// Show what a run would do, where, who must agree and what can be undone. Nothing is started.
    Plan(PlanArgs),
    /// Keep a version of a playbook in the cluster, under the name and number that it says.
    Publish {
        /// A file, or library:NAME.
        #[arg(value_name = "FILE|library:NAME")]
        playbook: String,
        /// What changed, for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// List the published playbooks, the newest version of each.
    List,
    /// List all versions of a published playbook.
    History {
        /// Its name.
        name: String,
    },
    /// Show the text of a published playbook.
    Show {
        /// Its name; without a version the newest.
        #[arg(value_name = "NAME[@VERSION]")]
        name: String,
    },
    /// Show what differs between two playbooks.
    Diff {
        /// A file, library:NAME, published:NAME or published:NAME@VERSION.
        from: String,
        /// Another one.
        to: String,
    },
    /// Read a playbook of another format and show it in our language. Nothing of it is carried out.
    Import(Import),
    /// Write a playbook in another format.
    Export(Export),
}

#[derive(Debug, Args)]
pub struct Import {
    /// The format: OASIS CACAO 2.0.
    #[arg(long, required = true)]
    pub cacao: bool,
    /// The document.
    pub file: PathBuf,
    /// Repair what can be repaired without guessing, and say what was.
    #[arg(long)]
    pub lenient: bool,
    /// Refuse it unless this key has signed it: a public key or a certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    pub signer: Option<PathBuf>,
    /// A new file for the playbook; the document is kept beside it, byte for byte [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The format: OASIS CACAO 2.0.
    #[arg(long, required = true)]
    pub cacao: bool,
    /// A file, or library:NAME.
    #[arg(value_name = "FILE|library:NAME")]
    pub playbook: String,
    /// The author: a STIX identity.
    #[arg(long, value_name = "identity--UUID")]
    pub created_by: Option<String>,
    /// When the playbook was first made [default: as --modified]
    #[arg(long, value_name = "MOMENT")]
    pub created: Option<String>,
    /// When this version was made [default: now]
    #[arg(long, value_name = "MOMENT")]
    pub modified: Option<String>,
    /// A new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the catalogue.
    List,
    /// Show an action's parameters and output.
    Describe { name: String },
}

#[derive(Debug, Subcommand)]
pub enum Run {
    /// Start a playbook.
    Start(Start),
    /// List runs, the newest first.
    List {
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Only those that have not ended.
        #[arg(long)]
        active: bool,
    },
    /// Show one with its steps.
    Show {
        id: String,
        /// Its tasks as well.
        #[arg(long)]
        tasks: bool,
    },
    /// Follow one until it ends; the exit code is 1 unless it succeeded.
    Watch { id: String },
    /// Show who did what to one, and when, in order.
    Timeline {
        id: String,
        /// Start behind this sequence number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// How many moments at most.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Say in one sentence why one, a step or a task of it waits, failed, or ended as it did.
    Explain {
        id: String,
        /// A step [default: the run as a whole]
        #[arg(default_value = "", hide_default_value = true)]
        step: String,
        /// Its task on this host, for this item, or of this number [default: the step as a whole]
        #[arg(value_name = "HOST|ITEM", default_value = "", hide_default_value = true)]
        task: String,
    },
    /// Decide one again from its log, and say whether every decision and the run come out the same. The exit code is 1
    /// when something differs, 6 when the log does not go back so far.
    Replay { id: String },
    #[command(flatten)]
    Control(Control),
}

#[derive(Debug, Subcommand)]
pub enum Event {
    /// Send OCSF events: one JSON object, a list, or a stream of objects. The exit code is 7 when some were refused.
    Send(SendEvents),
}

#[derive(Debug, Args)]
pub struct SendEvents {
    /// Where they are; `-` is standard input.
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// What events are that do not say so themselves: an OCSF class, by name or number.
    #[arg(long, conflicts_with = "webhook")]
    pub class: Option<String>,
    /// They are requests for this webhook, and need not be OCSF.
    #[arg(long, value_name = "NAME")]
    pub webhook: Option<String>,
    /// Hand in one file under this name, as evidence, instead of events.
    #[arg(long, value_name = "NAME", requires = "handed_in", conflicts_with_all = ["class", "webhook", "file"])]
    pub submission: Option<String>,
    /// The file, of at most 100 MiB.
    #[arg(long = "file", value_name = "FILE", requires = "submission")]
    pub handed_in: Option<PathBuf>,
    /// Its media type. Without it, a name that ends in .eml is a message/rfc822, whose headers are read.
    #[arg(long, value_name = "TYPE", requires = "submission")]
    pub media: Option<String>,
    /// A JSON object with further fields of the event, such as `reporter`; `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "submission")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Trigger {
    /// List those of the newest version of each published playbook.
    List {
        /// Only those of this playbook.
        playbook: Option<String>,
    },
    /// Show one, with what came of it.
    Show {
        /// As `trigger list` names it: PLAYBOOK/NUMBER.
        id: String,
    },
    /// Hold one back: nothing that it waits for starts a run, nor what it had set off and is no run yet.
    Disable {
        /// As `trigger list` names it: PLAYBOOK/NUMBER.
        id: String,
        /// Why, for the audit and for who finds it held back.
        #[arg(long)]
        reason: String,
    },
    /// Let one that is held back fire again.
    Enable {
        /// As `trigger list` names it: PLAYBOOK/NUMBER.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Control {
    /// Stop one: what waits is not started, what runs is cancelled where it can be.
    Cancel {
        id: String,
        #[arg(long)]
        reason: String,
        /// And undo what it did, the last step to end first. Shows that, and asks.
        #[arg(long)]
        rollback: bool,
        /// Do not ask.
        #[arg(long, requires = "rollback")]
        confirm: bool,
    },
    /// Undo what one did that is over, the last step to end first. Shows that, and asks.
    Rollback {
        id: String,
        #[arg(long)]
        reason: String,
        /// Do not ask.
        #[arg(long)]
        confirm: bool,
    },
    /// Hold one: nothing more is started, what runs on hosts goes on.
    Pause {
        id: String,
        #[arg(long)]
        reason: String,
    },
    /// Let a paused one go on.
    Resume { id: String },
    /// Try again what failed, expired or was not begun, in one that goes on or is over.
    Retry {
        id: String,
        /// Only this step's tasks.
        #[arg(long, default_value = "", hide_default_value = true)]
        step: String,
        /// Also what may have been done: it is done again.
        #[arg(long)]
        unknown: bool,
    },
    /// Say what became of a task that nobody knows to be done or not.
    Settle {
        id: String,
        /// The task, as `run show --tasks` names it.
        #[arg(value_name = "STEP/ITEM", value_parser = task_name)]
        task: (String, u32),
        #[arg(long = "as", value_name = "OUTCOME")]
        outcome: Settled,
        /// By what that was found out.
        #[arg(long)]
        reason: String,
    },
}

/// The step and the item that `STEP/ITEM` names.
fn task_name(text: &str) -> Result<(String, u32), String> {
    text.split_once('/')
        .and_then(|(step, item)| Some((step.to_owned(), item.parse().ok()?)))
        .filter(|(step, _)| !step.is_empty())
        .ok_or_else(|| "a task is STEP/ITEM, such as isolate/3".to_owned())
}

/// What became of a task.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Settled {
    /// It was done.
    Succeeded,
    /// It was not done.
    Failed,
}

impl Settled {
    pub fn as_str(self) -> &'static str {
        match self {
            Settled::Succeeded => "succeeded",
            Settled::Failed => "failed",
        }
    }
}

/// What would run.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A file, library:NAME, published:NAME or published:NAME@VERSION.
    #[arg(value_name = "FILE|library:NAME|published:NAME")]
    pub playbook: String,
    /// An input. JSON where it is JSON, text otherwise.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub inputs: Vec<String>,
    /// A JSON file with an object of inputs; --input goes before it.
    #[arg(long, value_name = "FILE")]
    pub inputs_file: Option<PathBuf>,
}

/// A hash in hex, as it is printed.
fn sha256(text: &str) -> Result<String, String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "a plan's hash is 64 hex digits".to_owned())
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub asked: PlanArgs,
    /// Start it only if this is its plan: the hash that `cordon playbook plan` ends in.
    #[arg(long, value_name = "HASH", value_parser = sha256)]
    pub plan: Option<String>,
    /// Follow it until it ends; the exit code is 1 unless it succeeded.
    #[arg(long)]
    pub watch: bool,
    /// Do not ask before a run that does more than observe.
    #[arg(long)]
    pub confirm: bool,
}

#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// List what was collected.
    List {
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        run: String,
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        agent: String,
    },
    /// Fetch one, verified by its hash.
    Get {
        sha256: String,
        /// A new file to write to, or `-` for standard output.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Read every copy again and compare its hash.
    Verify { sha256: String },
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Show the members, and who does not answer.
    Status,
    /// Add a member that waits with `join = true`.
    Add {
        /// Its name.
        name: String,
        #[arg(long)]
        raft_id: u64,
        #[arg(long, value_name = "HOST:PORT")]
        peer: String,
        #[arg(long, value_name = "HOST:PORT")]
        agent: String,
        #[arg(long, value_name = "HOST:PORT")]
        operator: String,
        #[arg(long, value_name = "HOST:PORT")]
        enroll: String,
    },
    /// Remove a member for good.
    Remove {
        raft_id: u64,
        /// Do not ask before.
        #[arg(long)]
        confirm: bool,
        /// Go on even where no other member holds a piece of evidence that this one held.
        #[arg(long)]
        lose_evidence: bool,
    },
    /// Hand leadership to a member.
    Transfer { raft_id: u64 },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List records in order.
    List {
        /// Start behind this sequence number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[arg(long, default_value_t = 200)]
        limit: u32,
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Approval {
    /// List what waits, the newest first.
    List {
        /// Also those that are over.
        #[arg(long)]
        all: bool,
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        run: String,
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show what will happen to which hosts, who answered, and how many are missing.
    Show { id: u64 },
    /// Let it happen, for your part.
    Approve(Say),
    /// Say no: it does not happen, whatever others say.
    Deny(Say),
    /// Fill in the form of a question.
    Answer {
        #[command(flatten)]
        say: Say,
        /// A field. JSON where its type asks for it; an element of a list may be given alone.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Follow what waits, until it is stopped.
    Watch,
}

#[derive(Debug, Args)]
pub struct Say {
    pub id: u64,
    /// Why. It is kept, with your name.
    #[arg(long)]
    pub reason: String,
    /// What `show` said that it is bound to: something else is refused [default: what it is bound to now]
    #[arg(long, value_name = "HASH")]
    pub binding: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Role {
    /// Give an operator a role. Nobody gives one to himself.
    Grant { operator: String, role: String },
    /// Take it away. What he approved by it, and others have not completed, does not count any more.
    Revoke { operator: String, role: String },
    /// List who holds which.
    List,
}
