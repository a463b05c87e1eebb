//! Every bound of the state machine and the planner, in one place. What `apply` uses of them is part
//! of the law: all nodes of a cluster must agree, so a change of one is a change of the log's meaning.

/// Host facts of one agent, bytes of JSON.
pub const FACTS_BYTES_MAX: usize = 16 * 1024;
/// Labels of one agent.
pub const LABELS_MAX: usize = 64;
/// One label's name or value, bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// Output of one task, bytes of JSON.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// An error message of one task, bytes; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// The text of one published playbook.
pub const PLAYBOOK_BYTES_MAX: usize = 512 * 1024;
/// Versions of published playbooks, of all together.
pub const PUBLISHED_MAX: usize = 10_000;
/// Their texts, of all together: they are part of every snapshot.
pub const PUBLISHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Agents that one join token can admit.
pub const TOKEN_USES_MAX: u32 = 100_000;
/// Join tokens that are kept. The oldest that can no longer be used make room.
pub const TOKENS_MAX: usize = 10_000;
/// Members in the address book.
pub const NODES_MAX: usize = 64;
/// Runs that are not over at the same time.
pub const ACTIVE_RUNS_MAX: usize = 10_000;
/// Hosts in all target sets of one run.
pub const RUN_TARGETS_MAX: usize = 200_000;
/// Tasks of one step: bounded by the largest target set, and this bounds a `foreach`.
pub const STEP_TASKS_MAX: usize = 100_000;
/// Steps of one run, `finally` included.
pub const STEPS_MAX: usize = 1_000;
/// With those that undo others, and tell of them.
pub const RUN_STEPS_MAX: usize = 3 * STEPS_MAX;

/// Requests whose answers are remembered. With 1,000 requests a second that is a minute; a client
/// that retries does so within seconds.
pub const REQUESTS_REMEMBERED_MAX: usize = 65_536;
/// Audit records in the state. Older ones leave it, and the chain's head still covers them: whoever must keep
/// everything reads the audit through the operators' API before that.
pub const AUDIT_RECORDS_MAX: usize = 200_000;
/// What finished runs may hold in tasks, bytes (estimated). Above it the longest finished run loses
/// its list of tasks with their outputs; the run, its steps, counts and outputs stay.
pub const FINISHED_TASK_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Approval requests that are kept once they are over. The oldest makes room; the audit has them all.
pub const APPROVALS_OVER_MAX: usize = 10_000;
/// Roles that operators hold, all together.
pub const ROLE_BINDINGS_MAX: usize = 10_000;
/// How long one approval may be waited for, and again after an escalation (SECURITY.md R24).
pub const APPROVAL_MS_MAX: u64 = playbook::manifest::GATE_MS_MAX;
/// The label, and its value, of hosts on which nothing above `collect` is let go by one person alone (R25).
pub const CRITICAL_LABEL: (&str, &str) = ("criticality", "critical");
/// A greater share of the fleet than this, in percent, is not acted on by one person's word alone (R25).
pub const FLEET_PERCENT_MAX: usize = 5;
/// Custody records. At the bound new evidence is refused.
pub const CUSTODY_RECORDS_MAX: usize = 1_000_000;
/// Each text that a person says of a file that is handed in: its name, its media type, the submission's name.
pub const HANDED_IN_TEXT_BYTES_MAX: usize = 256;

/// Runs above one another, beside the first: as deep as the language lets playbooks be nested.
pub const DEPTH_MAX: u32 = playbook::manifest::DEPTH_MAX;
/// How long an attempt of a `playbook` step may take when the playbook says nothing. Its run has deadlines of its own, and people
/// may be asked in it; this is for one that people paused and forgot.
pub const CHILD_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;

/// Calls of one step that are in flight when the playbook says nothing.
pub const CALLS_PARALLEL_DEFAULT: u32 = 32;
/// How long a task waits for its host when the playbook says nothing.
pub const QUEUE_MS_DEFAULT: u64 = 60 * 60 * 1000;
/// How long an attempt may run when neither the playbook nor the catalogue says anything.
pub const ATTEMPT_MS_DEFAULT: u64 = 10 * 60 * 1000;
/// How long the delivery of a message may take.
pub const NOTIFY_MS_DEFAULT: u64 = 30 * 1000;
/// How long after its last moment to start an attempt may still be reported as started: covers the
/// agent's own clock and the way to the log.
pub const START_GRACE_MS: u64 = 10 * 1000;
/// How long an agent has to answer that it stopped, once it was asked to.
pub const STOP_GRACE_MS: u64 = 15 * 1000;
/// Sessions of one agent that replace each other within `SUPERSEDED_WITHIN_MS` before it is alarming
/// although the boot id is the same.
pub const SUPERSEDED_MAX: u32 = 4;
/// See [`SUPERSEDED_MAX`].
pub const SUPERSEDED_WITHIN_MS: u64 = 60 * 1000;

/// The JSON text of one event.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;
/// How deep an event may be nested.
pub const EVENT_DEPTH_MAX: usize = 32;
/// Events in one command.
pub const EVENTS_MAX: usize = 500;
/// What tells events apart: the value of `by`, or of `dedupe.key`, bytes of JSON.
pub const EVENT_KEY_BYTES_MAX: usize = 1024;
/// Armed triggers of all playbooks.
pub const TRIGGERS_MAX: usize = 10_000;
/// Keys that one trigger remembers so that it does not fire twice. At the bound those that are forgotten soonest make room.
pub const TRIGGER_SEEN_MAX: usize = 100_000;
/// Keys for which one threshold counts events. At the bound the one that has been quiet for longest makes room.
pub const WINDOW_KEYS_MAX: usize = 10_000;
/// The texts of the events that one threshold counts, of all its keys. Beyond, the quietest key makes room.
pub const WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The texts of the events of one key. Of more, the newest are kept, and the others still count.
pub const GROUP_BYTES_MAX: usize = 256 * 1024;
/// What is to become runs and has not yet. At the bound events are not taken until some have.
pub const FIRINGS_MAX: usize = 10_000;
/// Their texts. Likewise.
pub const FIRINGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A schedule that is later than this has missed its time.
pub const SCHEDULE_LATE_MS: u64 = 60 * 1000;

/// What the planner aims at for one command, bytes (estimated): large entries slow every small one.
pub const COMMAND_BYTES: usize = 48 * 1024;
/// Rendered parameters of one task, bytes of JSON.
pub const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
/// How long the planner waits for its own proposals to be applied before it thinks that they were
/// dropped and decides again.
pub const PROPOSAL_WAIT_MS: u64 = 1_000;
