//! The connection to one coordinator at a time: which one next, after what pause, and whether it still lives.

use super::jitter::Jitter;

/// Bounds of what a coordinator may ask for.
const HEARTBEAT_MS: (u64, u64) = (200, 600_000);
const LEASE_MS: (u64, u64) = (1_000, 3_600_000);

/// The times of a connection. The defaults suit a fleet; a simulation may take shorter ones.
#[derive(Clone, Debug)]
pub struct LinkTimes {
    /// TCP, TLS and HTTP/2 together.
    pub connect_ms_max: u64,
    /// The same, where a session broke and is to be taken up again: whoever is gone must not be waited for long.
    pub return_ms_max: u64,
    /// From Hello to Welcome.
    pub greeting_ms_max: u64,
    /// After a session that had lived: a random pause up to this, so that the agents of a node that died
    /// do not all arrive elsewhere in the same moment.
    pub spread_ms: u64,
    /// After the first failure; doubled with each one that follows, with half of it at random.
    pub backoff_ms_min: u64,
    /// Longest pause.
    pub backoff_ms_max: u64,
    /// A session shorter than this counts as a failure.
    pub proven_ms: u64,
    /// A session of at least this is taken up again where it was.
    pub settled_ms: u64,
}

impl Default for LinkTimes {
    fn default() -> Self {
        LinkTimes {
            connect_ms_max: 6_000,
            return_ms_max: 2_000,
            greeting_ms_max: 10_000,
            spread_ms: 1_000,
            backoff_ms_min: 500,
            backoff_ms_max: 30_000,
            proven_ms: 1_000,
            settled_ms: 10_000,
        }
    }
}

/// The connection and what comes after it.
#[derive(Debug)]
pub struct Link {
    times: LinkTimes,
    /// Indices of the coordinators, in this agent's own order.
    order: Vec<usize>,
    cursor: usize,
    connection: u64,
    failures: u32,
    /// A session broke here, and its coordinator is tried once more before the others.
    returning: bool,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Waiting { until_ms: u64 },
    Connecting { deadline_ms: u64 },
    Greeting { deadline_ms: u64 },
    Live(Live),
    Closed,
}

#[derive(Clone, Debug)]
struct Live {
    since_ms: u64,
    heard_ms: u64,
    lease_ms: u64,
    heartbeat_ms: u64,
    next_heartbeat_ms: u64,
    sequence: u64,
    message_bytes_max: usize,
}

/// What time has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Open this connection to this coordinator.
    Connect {
        /// Its name.
        connection: u64,
        /// Index into the list.
        endpoint: usize,
    },
    /// Nothing came in time: give the connection up.
    Silent {
        /// Why.
        reason: String,
    },
    /// Say that the agent is there.
    Heartbeat {
        /// From 1.
        sequence: u64,
    },
}

impl Link {
    /// `endpoints` coordinators, in a random order but for the one to try first. The first try comes after a random part of `spread_ms`,
    /// so that a fleet that was switched on at once does not arrive at once.
    pub fn new(
        endpoints: usize,
        first: Option<usize>,
        times: LinkTimes,
        now_ms: u64,
        jitter: &mut Jitter,
    ) -> Link {
        let mut order = jitter.shuffled(endpoints);
        if let Some(at) = order.iter().position(|endpoint| Some(*endpoint) == first) {
            order.swap(0, at);
        }
        Link {
            order,
            cursor: 0,
            connection: 0,
            failures: 0,
            returning: false,
            phase: Phase::Waiting {
                until_ms: now_ms + jitter.between(0, times.spread_ms / 4),
            },
            times,
        }
    }

    /// The connection that counts now.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Which coordinator that is.
    pub fn endpoint(&self) -> usize {
        self.order.get(self.cursor).copied().unwrap_or(0)
    }

    /// Welcome was heard.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// A connection exists or is being made.
    pub fn is_open(&self) -> bool {
        matches!(
            self.phase,
            Phase::Connecting { .. } | Phase::Greeting { .. } | Phase::Live(_)
        )
    }

    /// Reports for one message, in bytes: a margin below what the coordinator takes.
    pub fn reports_bytes_max(&self) -> usize {
        match &self.phase {
            Phase::Live(live) => live.message_bytes_max.saturating_mul(3) / 4,
            _ => 0,
        }
    }

    /// The stream is open. False when nobody waits for it.
    pub fn connected(&mut self, now_ms: u64) -> bool {
        let Phase::Connecting { .. } = self.phase else {
            return false;
        };
        self.phase = Phase::Greeting {
            deadline_ms: now_ms + self.times.greeting_ms_max,
        };
        true
    }

    /// The coordinator takes the agent. True when the session begins with this; a Welcome within a session
    /// only changes its times.
    pub fn welcomed(
        &mut self,
        now_ms: u64,
        heartbeat_ms: u64,
        lease_ms: u64,
        message_bytes_max: u64,
        jitter: &mut Jitter,
    ) -> bool {
        let heartbeat_ms = heartbeat_ms.clamp(HEARTBEAT_MS.0, HEARTBEAT_MS.1);
        let lease_ms = lease_ms.clamp(LEASE_MS.0, LEASE_MS.1);
        let message_bytes_max = message_bytes_max.clamp(128 * 1024, 4 * 1024 * 1024) as usize;
        self.returning = false;
        match &mut self.phase {
            Phase::Greeting { .. } => {
                self.phase = Phase::Live(Live {
                    since_ms: now_ms,
                    heard_ms: now_ms,
                    lease_ms,
                    heartbeat_ms,
                    next_heartbeat_ms: now_ms + jitter.between(heartbeat_ms / 2, heartbeat_ms),
                    sequence: 0,
                    message_bytes_max,
                });
                true
            }
            Phase::Live(live) => {
                live.lease_ms = lease_ms;
                live.heartbeat_ms = heartbeat_ms;
                live.message_bytes_max = message_bytes_max;
                false
            }
            _ => false,
        }
    }

    /// The node said anything at all.
    pub fn heard(&mut self, now_ms: u64) {
        if let Phase::Live(live) = &mut self.phase {
            live.heard_ms = now_ms;
        }
    }

    fn has_lived(&self, now_ms: u64, at_least_ms: u64) -> bool {
        match &self.phase {
            Phase::Live(live) => now_ms.saturating_sub(live.since_ms) >= at_least_ms,
            _ => false,
        }
    }

    /// The connection broke, or none came about. A session that had lived is taken up where it was, where an upload
    /// may have its part: soon, and once. The pause until the next try, in ms.
    pub fn broken(&mut self, now_ms: u64, jitter: &mut Jitter) -> u64 {
        if !self.has_lived(now_ms, self.times.settled_ms) {
            return self.lost(now_ms, true, jitter);
        }
        self.failures = 0;
        self.returning = true;
        self.wait(now_ms, jitter.between(0, self.times.spread_ms / 4))
    }

    /// The connection is gone, or given up; `elsewhere`: the next coordinator's turn. The pause until then, in ms.
    pub fn lost(&mut self, now_ms: u64, elsewhere: bool, jitter: &mut Jitter) -> u64 {
        // Nobody being there any more is no failure of this agent's: it moves on as if it had not looked.
        let returned = std::mem::take(&mut self.returning);
        let pause_ms = if returned || self.has_lived(now_ms, self.times.proven_ms) {
            self.failures = 0;
            jitter.between(0, self.times.spread_ms)
        } else {
            self.failures = self.failures.saturating_add(1);
            let doublings = (self.failures - 1).min(16);
            let whole = self
                .times
                .backoff_ms_min
                .saturating_mul(1 << doublings)
                .min(self.times.backoff_ms_max);
            jitter.between(whole / 2, whole)
        };
        if elsewhere && !self.order.is_empty() {
            self.cursor = (self.cursor + 1) % self.order.len();
        }
        self.wait(now_ms, pause_ms)
    }

    fn wait(&mut self, now_ms: u64, pause_ms: u64) -> u64 {
        self.phase = Phase::Waiting {
            until_ms: now_ms + pause_ms,
        };
        pause_ms
    }

    /// No connection from now on.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
    }

    /// What is due now; ask again until None.
    pub fn due(&mut self, now_ms: u64) -> Option<Due> {
        match &mut self.phase {
            Phase::Waiting { until_ms } if *until_ms <= now_ms && !self.order.is_empty() => {
                self.connection += 1;
                let within_ms = match self.returning {
                    true => self.times.return_ms_max.min(self.times.connect_ms_max),
                    false => self.times.connect_ms_max,
                };
                self.phase = Phase::Connecting {
                    deadline_ms: now_ms + within_ms,
                };
                Some(Due::Connect {
                    connection: self.connection,
                    endpoint: self.endpoint(),
                })
            }
            Phase::Connecting { deadline_ms } if *deadline_ms <= now_ms => Some(Due::Silent {
                reason: "no connection in time".to_owned(),
            }),
            Phase::Greeting { deadline_ms } if *deadline_ms <= now_ms => Some(Due::Silent {
                reason: "no welcome in time".to_owned(),
            }),
            Phase::Live(live) if live.heard_ms + live.lease_ms <= now_ms => Some(Due::Silent {
                reason: format!("not a word for {} ms", live.lease_ms),
            }),
            Phase::Live(live) if live.next_heartbeat_ms <= now_ms => {
                live.next_heartbeat_ms = now_ms + live.heartbeat_ms;
                live.sequence += 1;
                Some(Due::Heartbeat {
                    sequence: live.sequence,
                })
            }
            _ => None,
        }
    }

    /// When [`Link::due`] has something to say, if nothing else happens before.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Waiting { until_ms } => (!self.order.is_empty()).then_some(*until_ms),
            Phase::Connecting { deadline_ms } | Phase::Greeting { deadline_ms } => Some(*deadline_ms),
            Phase::Live(live) => Some(live.next_heartbeat_ms.min(live.heard_ms + live.lease_ms)),
            Phase::Closed => None,
        }
    }
}
