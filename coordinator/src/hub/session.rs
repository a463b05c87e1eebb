//! One agent's live session: one task, which is the response stream itself. Polled by the connection, it
//! takes in what the agent says and gives out what the agent must know; dropped, it says goodbye for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::tls::Peer;
use engine::command::{ReportBody, SessionOpened};
use engine::id::{AgentId, AttemptKey, Digest};
use engine::{Actor, Command, Envelope, Reply};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::coordinator_message::Body;
use tokio::time::Instant;
use tonic::Status;

use super::Hub;
use super::line::{Answer, Close, Line};
use super::outbox::{Order, Outbox};
use super::{reports, wire};
use crate::api::error::ApiError;
use crate::api::limits;
use crate::clock;

/// How long a new stream may stay silent.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Reports of one session that may be under way; beyond it the stream is not read (R61).
const UNANSWERED_MAX: usize = 256;
/// Of host facts (JSON).
const FACTS_BYTES_MAX: usize = 16 << 10;
/// Of short texts that an agent says of itself.
const TEXT_BYTES_MAX: usize = 128;
/// Attempts that an agent may say it is at.
const RUNNING_MAX: usize = 1_024;

/// The agent's half of the stream.
pub type Inbound = BoxStream<'static, Result<v1::AgentMessage, Status>>;

/// A session, from the first byte to the last.
struct Session {
    hub: Hub,
    agent: AgentId,
    trust_domain: String,
    /// The key that this stream has proved: the certificate's, or the one of a renewal over it.
    key: Digest,
    /// When the certificate ends, and the session with it (R13).
    certified_until: Option<Instant>,
    inbound: Inbound,
    stage: Stage,
    outgoing: VecDeque<v1::CoordinatorMessage>,
    unanswered: usize,
    is_renewing: bool,
    heard_by: Instant,
}

enum Stage {
    Silent,
    Attached { line: Arc<Line>, outbox: Outbox },
    Over,
}

impl Hub {
    /// Serves a stream whose agent and key the TLS acceptor has verified.
    pub fn serve(
        &self,
        agent: AgentId,
        key: Digest,
        peer: &Peer,
        inbound: Inbound,
    ) -> impl Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send + use<> {
        let left = peer
            .not_after
            .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let session = Box::new(Session {
            hub: self.clone(),
            agent,
            trust_domain: peer
                .spiffe
                .as_ref()
                .map_or_else(String::new, |spiffe| spiffe.trust_domain().to_owned()),
            key,
            certified_until: left.map(|left| Instant::now() + left),
            inbound,
            stage: Stage::Silent,
            outgoing: VecDeque::new(),
            unanswered: 0,
            is_renewing: false,
            heard_by: Instant::now() + HELLO_WITHIN,
        });
        futures::stream::unfold(session, |mut session| async move {
            session.next().await.map(|message| (message, session))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Stage::Attached { line, .. } = &self.stage {
            self.hub.detach(line);
        }
    }
}

impl Session {
    /// The next message to the agent; None when the session is over.
    async fn next(&mut self) -> Option<Result<v1::CoordinatorMessage, Status>> {
        loop {
            if let Some(message) = self.outgoing.pop_front() {
                return Some(Ok(message));
            }
            let turned = match &self.stage {
                Stage::Over => return None,
                Stage::Silent => self.begin().await,
                Stage::Attached { line, .. } => {
                    let line = line.clone();
                    self.turn(&line).await
                }
            };
            if let Err(status) = turned {
                self.end();
                return Some(Err(status));
            }
        }
    }

    /// Waits for Hello, checks it, attaches.
    async fn begin(&mut self) -> Result<(), Status> {
        let first = tokio::time::timeout_at(self.heard_by, self.inbound.next()).await;
        let message = match first {
            Err(_) => {
                return Err(refuse(
                    "hello",
                    format!("no Hello within {} s", HELLO_WITHIN.as_secs()),
                ));
            }
            Ok(None) => {
                self.end();
                return Ok(());
            }
            Ok(Some(message)) => message.map_err(unreadable)?,
        };
        let Some(Said::Hello(hello)) = wire::said(message) else {
            return Err(refuse("hello", "the first message of a session is Hello".into()));
        };
        self.check_hello(&hello)?;
        self.check_record().await?;
        let running = self.running(&hello.running);
        let line = self.hub.attach(self.agent.clone());
        let mut outbox = Outbox::default();
        for (key, step) in &running {
            outbox.note_running(*key, step.clone());
        }
        self.stage = Stage::Attached {
            line: line.clone(),
            outbox,
        };
        let settings = &self.hub.inner.settings;
        self.outgoing.push_back(wire::message(Body::Welcome(v1::Welcome {
            heartbeat_ms: settings.heartbeat_ms as u32,
            lease_ms: settings.lease_ms as u32,
            node_id: self.hub.inner.node_name.clone(),
            server_time_ms: clock::now().0,
            max_message_bytes: limits::CONTROL_MESSAGE_BYTES_MAX as u64,
            max_chunk_bytes: limits::CHUNK_BYTES_MAX as u64,
        })));
        self.heard();
        let opened = SessionOpened {
            agent: self.agent.clone(),
            session: line.session,
            key: self.key,
            version: hello.agent_version,
            boot_id: hello.boot_id,
            facts: hello.facts_json,
            running: running.into_iter().map(|(key, _)| key).collect(),
        };
        self.hub.inner.presence.opened(opened, line).await;
        Ok(())
    }

    /// What a host says of itself must be what its certificate says, and of a reasonable size.
    fn check_hello(&self, hello: &v1::Hello) -> Result<(), Status> {
        if hello.agent_id != self.agent.as_str() || hello.trust_domain != self.trust_domain {
            // What it claims to be is the host's text and stays out of the log; who it is does not.
            tracing::warn!(agent = %self.agent, "ALARM: an agent says that it is another than its certificate says; refused");
            return Err(refuse(
                "identity",
                format!(
                    "the certificate is of agent {} in {}, and Hello names another",
                    self.agent, self.trust_domain
                ),
            ));
        }
        if hello.protocol != wire::PROTOCOL {
            return Err(refuse(
                "protocol",
                format!(
                    "this node speaks protocol {}, the agent {}: upgrade the older of the two",
                    wire::PROTOCOL,
                    hello.protocol
                ),
            ));
        }
        if hello.agent_version.len() > TEXT_BYTES_MAX || hello.boot_id.len() > TEXT_BYTES_MAX {
            return Err(refuse(
                "hello",
                format!("agent_version and boot_id have at most {TEXT_BYTES_MAX} bytes"),
            ));
        }
        if hello.running.len() > RUNNING_MAX {
            return Err(refuse(
                "hello",
                format!("at most {RUNNING_MAX} attempts can be running"),
            ));
        }
        check_facts(&hello.facts_json).map_err(|problem| refuse("facts", problem))
    }

    /// The key must be the one that the agent's record holds (R10, R11).
    async fn check_record(&mut self) -> Result<(), Status> {
        let is_enrolled = |state: &engine::State| {
            state
                .agent(&self.agent)
                .is_some_and(|agent| agent.accepts_key(&self.key))
        };
        let control = &self.hub.inner.control;
        // This node may be behind: only what is not there even linearizably is refused.
        if control.local(is_enrolled) || control.query(is_enrolled).await.map_err(ApiError::from)? {
            return Ok(());
        }
        Err(ApiError::NotEnrolled(self.agent.to_string()).into())
    }

    /// The attempts that the agent is at, those that exist, each with its step's name.
    fn running(&self, keys: &[v1::AttemptKey]) -> Vec<(AttemptKey, String)> {
        let named: Vec<_> = keys.iter().filter_map(|key| wire::attempt(key).ok()).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let exists = |state: &engine::State, attempt: crate::attempt::NamedAttempt| {
            Some((attempt.resolve(state)?, attempt.step))
        };
        let control = &self.hub.inner.control;
        control.local(|state| {
            named
                .into_iter()
                .filter_map(|attempt| exists(state, attempt))
                .collect()
        })
    }

    /// One turn of an attached session: what was told to it, or one message of the agent.
    async fn turn(&mut self, line: &Arc<Line>) -> Result<(), Status> {
        let told = line.take();
        if let Some(close) = told.close {
            self.close(close);
            return Ok(());
        }
        let is_idle = !told.assignments && told.answers.is_empty();
        if told.assignments {
            self.hand_out(line);
        }
        if !told.answers.is_empty() {
            self.note_answers(&told.answers);
            self.outgoing.extend(wire::answers(told.answers));
        }
        if !is_idle {
            return Ok(());
        }
        let deadline = self
            .certified_until
            .map_or(self.heard_by, |until| until.min(self.heard_by));
        tokio::select! {
            () = line.told() => Ok(()),
            message = self.inbound.next(), if self.unanswered < UNANSWERED_MAX => match message {
                None => {
                    self.end();
                    Ok(())
                }
                Some(message) => {
                    let message = sized(message.map_err(unreadable)?)?;
                    self.heard();
                    self.hear(line, message).await
                }
            },
            () = tokio::time::sleep_until(deadline) => {
                self.close(self.silence());
                Ok(())
            }
        }
    }

    fn silence(&self) -> Close {
        let expired = self.certified_until.is_some_and(|until| until <= Instant::now());
        Close {
            reason: match expired {
                true => "the agent's certificate has expired".into(),
                false => "nothing was heard of the agent for longer than its lease".into(),
            },
            retry_elsewhere: false,
        }
    }

    /// Sends what this node's state assigns to the agent and this session has not sent.
    fn hand_out(&mut self, line: &Arc<Line>) {
        let Stage::Attached { outbox, .. } = &mut self.stage else {
            return;
        };
        let control = &self.hub.inner.control;
        let assignments = control.local(|state| state.assignments(&line.agent));
        let orders = outbox.orders(assignments, control.raft().has_lease());
        let now = clock::now();
        self.outgoing.extend(orders.into_iter().map(|order| match order {
            Order::Assign(assignment) => wire::assign(&assignment, now),
            Order::Cancel { key, step, reason } => wire::cancel(&key, &step, reason),
        }));
    }

    fn note_answers(&mut self, answers: &[Answer]) {
        for answer in answers {
            match answer {
                Answer::Report { .. } => self.unanswered = self.unanswered.saturating_sub(1),
                Answer::Renewed { key, .. } => {
                    self.key = *key;
                    self.is_renewing = false;
                    // What is certified from now on is the new key, which this stream has proved.
                    self.certified_until = self
                        .certified_until
                        .map(|_| Instant::now() + certs::AGENT_VALIDITY);
                }
                Answer::NotRenewed(_) => self.is_renewing = false,
            }
        }
    }

    async fn hear(&mut self, line: &Arc<Line>, message: v1::AgentMessage) -> Result<(), Status> {
        match wire::said(message) {
            Some(Said::Heartbeat(heartbeat)) => {
                self.outgoing.push_back(wire::sign_of_life());
                if !heartbeat.facts_json.is_empty() {
                    check_facts(&heartbeat.facts_json).map_err(|problem| refuse("facts", problem))?;
                    self.hub
                        .inner
                        .presence
                        .facts(self.agent.clone(), heartbeat.facts_json)
                        .await;
                }
                Ok(())
            }
            Some(Said::Reports(reports)) => {
                for report in reports.reports {
                    self.report(line, report).await;
                }
                Ok(())
            }
            Some(Said::Renew(renew)) => {
                self.renew(line, renew);
                Ok(())
            }
            Some(Said::Hello(_)) => Err(refuse("hello", "Hello is said once a session".into())),
            // A newer agent may say what this node does not know; it is told nothing, and goes on.
            None => Ok(()),
        }
    }

    async fn report(&mut self, line: &Arc<Line>, report: v1::Report) {
        let key = report.key.clone();
        match reports::check(&self.hub.inner.control, &self.agent, report).await {
            Ok(checked) => {
                self.unanswered += 1;
                if let (ReportBody::Ended(_), Stage::Attached { outbox, .. }) =
                    (&checked.body, &mut self.stage)
                {
                    outbox.note_ended(&checked.key);
                }
                let reports = &self.hub.inner.reports;
                reports
                    .hand_in(line, checked.key, checked.attempt, checked.body, checked.weight)
                    .await;
            }
            Err(reason) => {
                tracing::debug!(agent = %self.agent, reason, "a report was refused");
                self.outgoing.push_back(wire::refused(key, reason));
            }
        }
    }

    /// A new key over the live stream (R6). In a task of its own: committing it takes longer than the
    /// agent's other business should wait.
    fn renew(&mut self, line: &Arc<Line>, renew: v1::RenewRequest) {
        if std::mem::replace(&mut self.is_renewing, true) {
            return;
        }
        let (hub, line, current) = (self.hub.clone(), line.clone(), self.key);
        tokio::spawn(async move {
            let renewed = hub.renew(&line.agent, current, &renew.csr_der).await;
            line.answer(renewed.unwrap_or_else(Answer::NotRenewed));
        });
    }

    fn heard(&mut self) {
        self.heard_by = Instant::now() + Duration::from_millis(self.hub.inner.settings.lease_ms);
    }

    fn close(&mut self, close: Close) {
        self.outgoing.push_back(wire::goodbye(close));
        self.end();
    }

    fn end(&mut self) {
        if let Stage::Attached { line, .. } = std::mem::replace(&mut self.stage, Stage::Over) {
            self.hub.detach(&line);
        }
    }
}

impl Hub {
    /// Records an agent's next key and certifies it. An error is why not.
    async fn renew(&self, agent: &AgentId, current: Digest, csr_der: &[u8]) -> Result<Answer, String> {
        let next = Digest(certs::key_sha256_of_csr(csr_der).map_err(|error| error.to_string())?);
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(self.inner.control.node()),
            command: Command::RenewKey {
                agent: agent.clone(),
                current,
                next,
            },
        };
        match self.inner.control.submit(envelope).await {
            Ok((_, Reply::Refused(refusal))) => return Err(refusal.to_string()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        let name = certs::SpiffeId::new(
            self.inner.issuer.trust_domain(),
            certs::Role::Agent,
            agent.as_str(),
        )
        .map_err(|error| error.to_string())?;
        let issued = self
            .inner
            .issuer
            .issue_from_csr(csr_der, &name, certs::AGENT_VALIDITY);
        let chain_der = issued.map_err(|error| {
            tracing::error!(%agent, %error, "cannot issue a renewed certificate");
            error.to_string()
        })?;
        Ok(Answer::Renewed { chain_der, key: next })
    }
}

fn check_facts(json: &str) -> Result<(), String> {
    if json.len() > FACTS_BYTES_MAX {
        return Err(format!(
            "facts_json has {} bytes, more than the {FACTS_BYTES_MAX} that are allowed",
            json.len()
        ));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json) {
        Err(error) if !json.is_empty() => Err(format!("facts_json is no JSON object: {error}")),
        _ => Ok(()),
    }
}

fn refuse(field: &'static str, problem: String) -> Status {
    ApiError::Invalid { field, problem }.into()
}

/// The agents' service takes chunks, which are larger than anything that a session may say (R60).
fn sized(message: v1::AgentMessage) -> Result<v1::AgentMessage, Status> {
    if prost::Message::encoded_len(&message) > limits::CONTROL_MESSAGE_BYTES_MAX {
        return Err(too_large());
    }
    Ok(message)
}

fn too_large() -> Status {
    refuse(
        "message",
        format!(
            "a message is larger than the {} bytes that Welcome names",
            limits::CONTROL_MESSAGE_BYTES_MAX
        ),
    )
}

/// A stream that broke, or a message that is too large or not of this protocol.
fn unreadable(status: Status) -> Status {
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => too_large(),
        _ => status,
    }
}
