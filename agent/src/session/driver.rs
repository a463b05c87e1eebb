//! Carries out what the machine decides: one task owns the machine, the connection and the journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use certs::tls::ClientTls;
use proto::v1;
use proto::v1::agent_message::Body;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::actions::{AttemptKey, Environment, IsolationMode};
use crate::evidence::Uploads;
use crate::facts::{self, Facts};
use crate::guard::Policy;
use crate::journal::{Journal, JournalError, Record};
use crate::killpoint::KillPoint;
use crate::probe::Probe;
use crate::renew::Renewal;
use crate::runner::{self, Executor, wall_ms};

use super::connection::{self, Event};
use super::current::Current;
use super::event::{Input, Notice, Now, Output, Sent, Written};
use super::last::LastCoordinator;
use super::machine::{Machine, Settings};
use super::wire::{self, Incoming};

/// The version of the protocol that this agent speaks.
const PROTOCOL: u32 = 1;
/// What happened and was not looked at yet; whoever has more waits.
const EVENTS_MAX: usize = 64;
/// Notes for the journal that wait for a write to go with.
const NOTES_MAX: usize = 64;
/// How often the host's facts are read again.
const FACTS_EVERY: Duration = Duration::from_secs(600);

/// Everything that makes an agent. A swarm has thousands of these in one process and one runtime.
pub struct Parts {
    /// As in the certificate.
    pub agent_id: String,
    /// As in the certificate.
    pub trust_domain: String,
    /// host:port of the coordinators' agent listeners.
    pub endpoints: Vec<String>,
    /// What connections show and believe.
    pub tls: ClientTls,
    /// The identity; None when `tls` is kept fresh by someone else.
    pub renewal: Option<Renewal>,
    /// What this host allows.
    pub policy: Policy,
    /// Whether isolation is real here.
    pub isolation: IsolationMode,
    /// The agent's own folder.
    pub state_dir: PathBuf,
    /// Where the last session was.
    pub last: LastCoordinator,
    /// The machine's bounds; `endpoints` and `first` in it are set from the two above.
    pub settings: Settings,
    /// In the state folder or in memory.
    pub journal: Journal,
    /// Does what is assigned.
    pub executor: Arc<dyn Executor>,
    /// What the agent says of its host.
    pub facts: Facts,
    /// For everything that is spread at random.
    pub seed: u64,
}

/// Why an agent ended, other than by being stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Without its journal an agent does nothing.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The thread that wrote the journal broke down.
    #[error("the journal's thread broke down: {0}")]
    JournalThread(String),
}

/// Runs an agent until it is stopped; then waits for what is urgent, for at most ten seconds by default.
///
/// # Errors
/// When the journal fails.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), AgentError> {
    Box::pin(Driver::new(parts)?.run(stop)).await
}

/// The journal comes back from its thread, with what was written.
type Batch = (Journal, Vec<Record>, Result<(), JournalError>);

struct Driver {
    agent_id: String,
    trust_domain: String,
    endpoints: Vec<String>,
    last: LastCoordinator,
    tls: ClientTls,
    connect_within: Duration,
    renewal: Option<Renewal>,
    policy: Policy,
    executor: Arc<dyn Executor>,
    facts: Facts,
    facts_sent: String,
    facts_read: Instant,
    environment: Arc<Environment>,
    current: Current,

    machine: Machine,
    began: Instant,
    events: mpsc::Receiver<Event>,
    events_in: mpsc::Sender<Event>,
    connection: Option<Connection>,
    running: BTreeMap<AttemptKey, CancellationToken>,

    /// None while a batch is being written.
    journal: Option<Journal>,
    writing: Option<JoinHandle<Batch>>,
    to_write: Vec<Record>,
    /// Of the records in `to_write`, and of the batch that is being written.
    to_confirm: Vec<Written>,
    confirming: Vec<Written>,
    to_recall: Vec<AttemptKey>,
    kill_point: Option<KillPoint>,
    stopped: bool,
}

struct Connection {
    number: u64,
    outgoing: Option<mpsc::Sender<v1::AgentMessage>>,
    task: AbortHandle,
}

impl Driver {
    fn new(parts: Parts) -> Result<Driver, AgentError> {
        let Parts {
            mut journal,
            mut settings,
            endpoints,
            tls,
            ..
        } = parts;
        settings.endpoints = endpoints.len();
        settings.first = parts.last.among(&endpoints);
        let current = Current::default();
        let environment = Environment {
            state_dir: parts.state_dir,
            coordinators: endpoints.clone(),
            evidence: Arc::new(Uploads::new(current.clone())),
            probe: Arc::new(Probe::new(endpoints.clone(), tls.clone())),
            isolation: parts.isolation,
            roots: parts.policy.roots.clone(),
        };
        let recovered = journal.recovered()?;
        let now = Now {
            monotonic_ms: 0,
            wall_ms: wall_ms(),
        };
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        Ok(Driver {
            agent_id: parts.agent_id,
            trust_domain: parts.trust_domain,
            endpoints,
            last: parts.last,
            tls,
            // A little less than the machine waits, so that it hears why.
            connect_within: Duration::from_millis(settings.times.connect_ms_max).mul_f32(0.9),
            renewal: parts.renewal,
            policy: parts.policy,
            executor: parts.executor,
            facts: parts.facts,
            facts_sent: String::new(),
            facts_read: Instant::now(),
            environment: Arc::new(environment),
            current,
            machine: Machine::new(settings, recovered, parts.seed, now),
            began: Instant::now(),
            events,
            events_in,
            connection: None,
            running: BTreeMap::new(),
            journal: Some(journal),
            writing: None,
            to_write: Vec::new(),
            to_confirm: Vec::new(),
            confirming: Vec::new(),
            to_recall: Vec::new(),
            kill_point: KillPoint::from_environment(),
            stopped: false,
        })
    }

    async fn run(mut self, stop: CancellationToken) -> Result<(), AgentError> {
        let mut stopping = false;
        self.input(Input::Wake);
        loop {
            self.carry_out()?;
            if self.stopped && self.writing.is_none() && self.to_write.is_empty() {
                return Ok(());
            }
            let wake = self.next_wake();
            tokio::select! {
                written = finished(&mut self.writing) => self.written(written)?,
                Some(event) = self.events.recv() => self.event(event),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.input(Input::Shutdown);
                }
                () = sleep_until(wake) => self.wake(),
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.began.elapsed().as_millis() as u64,
            wall_ms: wall_ms(),
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.machine.handle(now, input);
    }

    /// The machine's deadline, or the renewal's while there is a session to renew over.
    fn next_wake(&self) -> Option<Instant> {
        let deadline = self
            .machine
            .next_deadline_ms()
            .map(|ms| self.began + Duration::from_millis(ms));
        let renewal = self
            .renewal
            .as_ref()
            .filter(|_| self.machine.is_attached())
            .map(|renewal| {
                let until = renewal
                    .due()
                    .duration_since(SystemTime::now())
                    .unwrap_or_default();
                // The wall clock may jump: it is looked at again every hour at least.
                Instant::now() + until.min(Duration::from_secs(3_600))
            });
        [deadline, renewal].into_iter().flatten().min()
    }

    fn wake(&mut self) {
        self.input(Input::Wake);
        let now = SystemTime::now();
        if self.machine.is_attached()
            && let Some(renewal) = self.renewal.as_mut().filter(|renewal| renewal.due() <= now)
        {
            match renewal.request(now) {
                Ok(request) => self.say(Body::Renew(request)),
                Err(error) => tracing::error!(%error, "the certificate is not renewed"),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected {
                connection,
                outgoing,
                channel,
            } => {
                if let Some(own) = self.connection.as_mut().filter(|own| own.number == connection) {
                    own.outgoing = Some(outgoing);
                    self.current.set(Some(channel));
                    self.input(Input::Connected { connection });
                }
            }
            Event::Lost { connection, reason } => self.lost(connection, reason),
            Event::Received { connection, message } => match wire::incoming(message, &self.policy) {
                Incoming::Machine(message) => self.input(Input::Received { connection, message }),
                Incoming::Renewed(reply) => self.renewed(reply),
            },
            Event::Ended { key, outcome } => {
                self.running.remove(&key);
                self.input(Input::Ended { key, outcome });
            }
        }
    }

    fn lost(&mut self, connection: u64, reason: String) {
        if self
            .connection
            .as_ref()
            .is_some_and(|own| own.number == connection)
        {
            self.disconnect();
        }
        self.input(Input::Lost { connection, reason });
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.task.abort();
        }
        self.current.set(None);
    }

    fn renewed(&mut self, reply: v1::RenewReply) {
        let Some(renewal) = &mut self.renewal else { return };
        match renewal.accept(reply, SystemTime::now()) {
            Ok(identity) => {
                self.tls.replace(&identity);
                tracing::info!("the certificate is renewed");
            }
            Err(error) => tracing::error!(%error, "the certificate is not renewed"),
        }
    }

    /// Does everything that the machine has asked for.
    fn carry_out(&mut self) -> Result<(), AgentError> {
        loop {
            while let Some(output) = self.machine.poll_output() {
                self.output(output);
            }
            self.recall()?;
            // In memory a write is done at once, and may bring new outputs.
            if !self.write()? {
                return Ok(());
            }
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect { connection, endpoint } => self.connect(connection, endpoint),
            Output::Disconnect { connection, .. } => {
                if self
                    .connection
                    .as_ref()
                    .is_some_and(|own| own.number == connection)
                {
                    self.disconnect();
                }
            }
            Output::Send { connection, message } => {
                if self
                    .connection
                    .as_ref()
                    .is_some_and(|own| own.number == connection)
                {
                    self.send(message);
                }
            }
            Output::WriteIntent(intent) => {
                self.to_confirm.push(Written::Intent(intent.key.clone()));
                self.to_write.push(Record::intent(&intent));
            }
            Output::WriteOutcome { key, outcome } => {
                self.to_write.push(Record::outcome(&key, &outcome));
                self.to_confirm.push(Written::Outcome(key));
            }
            Output::Acknowledge(key) => self.to_write.push(Record::Acknowledged { key: (&key).into() }),
            Output::Forget { keys, floor } => {
                let keys = keys.iter().map(Into::into).collect();
                self.to_write.push(Record::Forget { keys, floor });
            }
            Output::Recall(key) => self.to_recall.push(key),
            Output::Run(assignment) => {
                let cancel = CancellationToken::new();
                let key = assignment.key.clone();
                self.running.insert(key.clone(), cancel.clone());
                let attempt = runner::run(
                    self.executor.clone(),
                    self.environment.clone(),
                    *assignment,
                    cancel,
                );
                let events = self.events_in.clone();
                tokio::spawn(async move {
                    let outcome = attempt.await;
                    // Nobody listens any more when the agent has ended; the journal holds the intent.
                    let _ = events.send(Event::Ended { key, outcome }).await;
                });
            }
            Output::CancelRun { key, reason } => {
                tracing::debug!(?key, reason, "an attempt is told to stop");
                if let Some(cancel) = self.running.get(&key) {
                    cancel.cancel();
                }
            }
            Output::Notice(notice) => self.notice(notice),
            Output::Stopped => self.stopped = true,
        }
    }

    fn connect(&mut self, connection: u64, endpoint: usize) {
        self.disconnect();
        let Some(endpoint) = self.endpoints.get(endpoint).cloned() else {
            return;
        };
        let (tls, events, within) = (self.tls.clone(), self.events_in.clone(), self.connect_within);
        let task = tokio::spawn(Box::pin(async move {
            let reason = connection::converse(connection, &endpoint, within, &tls, &events).await;
            // As above: without a listener there is nothing to tell.
            let _ = events.send(Event::Lost { connection, reason }).await;
        }));
        self.connection = Some(Connection {
            number: connection,
            outgoing: None,
            task: task.abort_handle(),
        });
    }

    fn send(&mut self, message: Sent) {
        let body = match message {
            Sent::Hello { running } => {
                self.facts_sent = self.facts.read();
                self.facts_read = Instant::now();
                Body::Hello(v1::Hello {
                    agent_id: self.agent_id.clone(),
                    trust_domain: self.trust_domain.clone(),
                    agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                    boot_id: facts::boot_id(),
                    facts_json: self.facts_sent.clone(),
                    running: running.iter().map(wire::wire_key).collect(),
                    protocol: PROTOCOL,
                })
            }
            Sent::Heartbeat { sequence } => {
                let facts_json = self.changed_facts();
                Body::Heartbeat(v1::Heartbeat { sequence, facts_json })
            }
            Sent::Reports(reports) => Body::Reports(wire::wire_reports(reports)),
        };
        self.say(body);
    }

    fn say(&mut self, body: Body) {
        let Some(connection) = &self.connection else {
            return;
        };
        let Some(outgoing) = &connection.outgoing else {
            return;
        };
        if outgoing.try_send(v1::AgentMessage { body: Some(body) }).is_err() {
            let reason = "the coordinator does not take what the agent says".to_owned();
            self.lost(connection.number, reason);
        }
    }

    /// The facts, when they are others than those that were sent; else nothing.
    fn changed_facts(&mut self) -> String {
        if self.facts_read.elapsed() < FACTS_EVERY {
            return String::new();
        }
        self.facts_read = Instant::now();
        let facts = self.facts.read();
        if facts == self.facts_sent {
            return String::new();
        }
        self.facts_sent.clone_from(&facts);
        facts
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Attached { endpoint } => {
                if let Some(endpoint) = self.endpoints.get(endpoint) {
                    tracing::info!(coordinator = endpoint, "attached");
                    self.last.attached(endpoint);
                }
            }
            Notice::Detached { reason, retry_in_ms } => tracing::info!(reason, retry_in_ms, "not attached"),
            Notice::Fenced { key, newest } => tracing::warn!(?key, newest, "an old assignment was dropped"),
            Notice::ReportRefused { key, reason } => tracing::warn!(?key, reason, "a report was refused"),
            Notice::Interrupted { key, status } => {
                tracing::warn!(
                    ?key,
                    status = status.as_str(),
                    "this was under way when the agent ended"
                );
            }
        }
    }

    /// Begins to write what waits. True when it is done already.
    fn write(&mut self) -> Result<bool, AgentError> {
        let pressing = !self.to_confirm.is_empty() || self.to_write.len() >= NOTES_MAX || self.stopped;
        if self.to_write.is_empty() || !pressing {
            return Ok(false);
        }
        let Some(mut journal) = self.journal.take() else {
            return Ok(false);
        };
        let records = std::mem::take(&mut self.to_write);
        self.confirming = std::mem::take(&mut self.to_confirm);
        if let Some(point) = &mut self.kill_point {
            point.before(&records);
        }
        if journal.is_slow() {
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let result = journal.append(&records);
                (journal, records, result)
            }));
            return Ok(false);
        }
        let result = journal.append(&records);
        self.written(Ok((journal, records, result)))?;
        Ok(true)
    }

    fn written(&mut self, written: Result<Batch, tokio::task::JoinError>) -> Result<(), AgentError> {
        self.writing = None;
        let (journal, records, result) =
            written.map_err(|error| AgentError::JournalThread(error.to_string()))?;
        result?;
        self.journal = Some(journal);
        if let Some(point) = &self.kill_point {
            point.after(&records);
        }
        for written in std::mem::take(&mut self.confirming) {
            self.input(Input::Written(written));
        }
        Ok(())
    }

    fn recall(&mut self) -> Result<(), AgentError> {
        if self.to_recall.is_empty() {
            return Ok(());
        }
        let Some(mut journal) = self.journal.take() else {
            return Ok(());
        };
        for key in std::mem::take(&mut self.to_recall) {
            let outcome = journal.recall(&key)?;
            self.input(Input::Recalled { key, outcome });
        }
        self.journal = Some(journal);
        while let Some(output) = self.machine.poll_output() {
            self.output(output);
        }
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.disconnect();
        for cancel in self.running.values() {
            cancel.cancel();
        }
    }
}

async fn finished<T>(handle: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match handle {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
