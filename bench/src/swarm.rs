//! Thousands of real agents in this one process: each has an identity of its own, its own mutually
//! authenticated connection and the session of the product. Only three things differ from an endpoint: the
//! journal is in memory, the facts are given, and an action does nothing but write down that it was done.
//! What was written down is the oracle ([`Log::check`]): load whose outcome nobody compares proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::actions::{ActionError, AttemptKey, Context, IsolationMode};
use agent::facts::Facts;
use agent::guard::Policy;
use agent::journal::{Journal, MemoryJournal};
use agent::renew::Renewal;
use agent::runner::Executor;
use agent::session::driver::{self, Parts};
use agent::session::last::LastCoordinator;
use agent::session::machine::Settings;
use anyhow::{Context as _, bail};
use certs::tls::{ClientTls, ConnectOptions, connect};
use certs::{Identity, Role, Roots};
use cordon::demo::world::{OperatorClient, request_id};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::enroll_service_client::EnrollServiceClient;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::deployment::Deployment;

/// Enrolments under way at once, on one connection each.
const ENROLLING: usize = 8;
/// How long a token lives.
const TOKEN_MS: u64 = 3_600_000;
/// How long a stopped agent may take to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(30);
/// Runs that are compared at once.
const CHECKING: usize = 8;

/// Enrolled agents; started, they attach to the cluster.
pub struct Swarm {
    members: Vec<Member>,
    endpoints: Vec<String>,
    trust_domain: String,
    log: Arc<Log>,
    settings: Settings,
    running: JoinSet<Result<(), driver::AgentError>>,
    stop: CancellationToken,
}

/// One agent before it runs.
struct Member {
    identity: Identity,
    tls: ClientTls,
}

/// One thing that an agent did.
#[derive(Clone, Debug)]
pub struct Done {
    pub agent: Arc<str>,
    pub key: AttemptKey,
    pub at: Instant,
}

/// Everything that the swarm did, in order.
#[derive(Default)]
pub struct Log {
    done: Mutex<Vec<Done>>,
}

/// What the log and the cluster say of the same runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Tasks that the cluster calls succeeded.
    pub tasks: u64,
    /// Attempts that were carried out more than once.
    pub duplicates: u64,
    /// Tasks that the cluster calls succeeded and no agent did as the cluster has it.
    pub lost: u64,
    /// Things that were done and that the cluster knows nothing of.
    pub foreign: u64,
}

impl Swarm {
    /// Enrols so many agents, named `swarm-00000` and on, with one token.
    pub async fn enroll(deployment: &Deployment, count: usize) -> anyhow::Result<Swarm> {
        let request = v1::CreateEnrollTokenRequest {
            uses: u32::try_from(count)?,
            ttl_ms: TOKEN_MS,
            request_id: request_id(),
            ..Default::default()
        };
        let token = deployment
            .operator
            .call("CreateEnrollToken", async |mut api| {
                api.create_enroll_token(request.clone()).await
            })
            .await?;
        let pin: [u8; 32] = hex::decode(&token.ca_sha256)?
            .try_into()
            .map_err(|_| anyhow::anyhow!("the pin is no SHA-256: {}", token.ca_sha256))?;
        let tls = ClientTls::pinned(pin)?;
        let trust_domain = deployment.cluster.info().trust_domain.clone();
        let mut shares = Vec::new();
        for share in 0..ENROLLING {
            let node = &deployment.cluster.nodes[share % deployment.cluster.nodes.len()];
            let endpoint = node.enroll_endpoint();
            let channel = connect(&endpoint, &tls, Role::Coordinator, ConnectOptions::default()).await?;
            shares.push((share, EnrollServiceClient::new(channel)));
        }
        let (token, trust) = (token.token.as_str(), trust_domain.as_str());
        let members: Vec<Vec<Member>> = stream::iter(shares)
            .map(async |(share, mut client)| {
                let mut members = Vec::new();
                for number in (share..count).step_by(ENROLLING) {
                    members.push(enroll_one(&mut client, token, trust, number).await?);
                }
                anyhow::Ok(members)
            })
            .buffer_unordered(ENROLLING)
            .try_collect()
            .await?;
        Ok(Swarm {
            members: members.into_iter().flatten().collect(),
            settings: Settings::new(deployment.cluster.nodes.len()),
            endpoints: deployment.cluster.agent_endpoints(),
            trust_domain,
            log: Arc::default(),
            running: JoinSet::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Takes away the random pause that an agent makes before it dials, which spares a real cluster.
    pub fn without_pause(&mut self) {
        self.settings.times.spread_ms = 0;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.identity.spiffe().id())
    }

    /// What they did.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Starts all of them at once.
    pub fn start(&mut self) {
        for (number, member) in self.members.iter().enumerate() {
            let id = member.identity.spiffe().id();
            let executor = Noop {
                agent: id.into(),
                log: self.log.clone(),
            };
            let parts = Parts {
                agent_id: id.to_owned(),
                trust_domain: self.trust_domain.clone(),
                endpoints: self.endpoints.clone(),
                tls: member.tls.clone(),
                renewal: Some(Renewal::new(member.identity.clone(), None, number as u64)),
                policy: Policy::default(),
                isolation: IsolationMode::Check,
                state_dir: std::env::temp_dir(),
                last: LastCoordinator::default(),
                settings: self.settings.clone(),
                journal: Journal::Memory(MemoryJournal::default()),
                executor: Arc::new(executor),
                facts: Facts::Fixed(json!({"hostname": id, "os": "linux"}).to_string().into()),
                seed: number as u64,
            };
            self.running.spawn(driver::run(parts, self.stop.clone()));
        }
    }

    /// Attaches all and waits until the cluster has recorded it.
    pub async fn attach(&mut self, deployment: &Deployment, within: Duration) -> anyhow::Result<()> {
        self.start();
        deployment.online(self.len(), within).await
    }

    /// Stops all; an agent that ended with an error fails it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                ended.context("an agent of the swarm broke down")??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(GOODBYE_MAX, all)
            .await
            .context("the swarm does not stop")?
    }
}

async fn enroll_one(
    client: &mut EnrollServiceClient<tonic::transport::Channel>,
    token: &str,
    trust_domain: &str,
    number: usize,
) -> anyhow::Result<Member> {
    let (key, csr) = certs::new_key_and_csr()?;
    let request = v1::EnrollRequest {
        token: token.to_owned(),
        csr_der: csr.into(),
        hostname: format!("swarm-{number:05}"),
    };
    let reply = client.enroll(request).await?.into_inner();
    let chain = reply.chain_der.iter().map(|der| der.to_vec()).collect();
    let identity = Identity::new(key, chain)?;
    let roots = reply.coordinator_roots_der.iter().map(|der| der.to_vec());
    let roots = Roots::from_der(roots.collect())?;
    let tls = ClientTls::new(Some(identity.clone()), &roots, trust_domain)?;
    Ok(Member { identity, tls })
}

/// Does nothing, and writes down that it did.
struct Noop {
    agent: Arc<str>,
    log: Arc<Log>,
}

impl Executor for Noop {
    fn run(&self, action: String, context: Context) -> BoxFuture<'static, Result<Value, ActionError>> {
        self.log.done.lock().push(Done {
            agent: self.agent.clone(),
            key: context.key,
            at: Instant::now(),
        });
        let agent = self.agent.clone();
        Box::pin(async move {
            match action.as_str() {
                "host.info" => Ok(json!({
                    "hostname": &*agent, "os": "linux", "os_version": "", "kernel": "", "arch": "",
                    "boot_id": "", "uptime_s": 1, "cpus": 1, "memory_bytes": 1, "interfaces": [], "disks": [],
                })),
                other => Err(ActionError {
                    code: "unsupported",
                    message: format!("the swarm does host.info only, and not {other}"),
                    uncertain: false,
                }),
            }
        })
    }
}

impl Log {
    /// All that was done in this run, in order.
    pub fn of(&self, run_id: &str) -> Vec<Done> {
        let done = self.done.lock();
        done.iter()
            .filter(|done| done.key.run_id == run_id)
            .cloned()
            .collect()
    }

    /// Compares what was done with what the cluster says was done, over all tasks of these runs.
    ///
    /// # Errors
    /// When anything was lost, done twice or done without order.
    pub async fn check(&self, operator: &OperatorClient, runs: &[String]) -> anyhow::Result<Verdict> {
        let mut by_run: BTreeMap<&str, Vec<Done>> =
            runs.iter().map(|run| (run.as_str(), Vec::new())).collect();
        for done in &*self.done.lock() {
            if let Some(of_run) = by_run.get_mut(done.key.run_id.as_str()) {
                of_run.push(done.clone());
            }
        }
        let mut verdicts = stream::iter(by_run)
            .map(async |(run_id, done)| {
                let run = operator.run(run_id).await?;
                let tasks = operator.tasks(&run).await?;
                anyhow::Ok(compare(&tasks, &done))
            })
            .buffer_unordered(CHECKING);
        let mut sum = Verdict::default();
        while let Some(one) = verdicts.try_next().await? {
            sum.tasks += one.tasks;
            sum.duplicates += one.duplicates;
            sum.lost += one.lost;
            sum.foreign += one.foreign;
        }
        if sum.duplicates + sum.lost + sum.foreign > 0 {
            bail!("the swarm's log contradicts the cluster: {sum:?}");
        }
        Ok(sum)
    }
}

/// One run: its tasks by the cluster, and what was done by the agents.
fn compare(tasks: &[v1::Task], done: &[Done]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut attempts: BTreeMap<(&str, u32, u32), Vec<&Done>> = BTreeMap::new();
    for done in done {
        let key = &done.key;
        attempts
            .entry((&key.step, key.item, key.attempt))
            .or_default()
            .push(done);
    }
    verdict.duplicates = attempts.values().map(|done| done.len() as u64 - 1).sum();
    let mut known = std::collections::BTreeSet::new();
    for task in tasks {
        known.insert((task.step.as_str(), task.item));
        if task.status != "succeeded" || task.agent_id.is_empty() {
            continue;
        }
        verdict.tasks += 1;
        let is_done = attempts
            .get(&(task.step.as_str(), task.item, task.attempts))
            .is_some_and(|done| {
                done.iter()
                    .any(|done| *done.agent == *task.agent_id && done.key.token == task.token)
            });
        verdict.lost += u64::from(!is_done);
    }
    let is_foreign = |done: &&Done| !known.contains(&(done.key.step.as_str(), done.key.item));
    verdict.foreign = done.iter().filter(is_foreign).count() as u64;
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(item: u32, status: &str) -> v1::Task {
        v1::Task {
            step: "s".into(),
            item,
            agent_id: format!("a{item}"),
            status: status.into(),
            attempts: 1,
            token: 7,
            ..Default::default()
        }
    }

    fn done(item: u32, attempt: u32, token: u64) -> Done {
        Done {
            agent: format!("a{item}").into(),
            key: AttemptKey {
                run_id: "r".into(),
                step: "s".into(),
                item,
                attempt,
                token,
            },
            at: Instant::now(),
        }
    }

    #[test]
    fn what_agrees_is_no_contradiction() {
        let verdict = compare(&[task(0, "succeeded"), task(1, "failed")], &[done(0, 1, 7)]);
        let expected = Verdict {
            tasks: 1,
            ..Verdict::default()
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn each_contradiction_is_told() {
        let tasks = [task(0, "succeeded"), task(1, "succeeded"), task(2, "succeeded")];
        // Twice; by another order; not at all; of a task that nobody knows.
        let log = [done(0, 1, 7), done(0, 1, 7), done(1, 1, 8), done(9, 1, 7)];
        let verdict = compare(&tasks, &log);
        let expected = Verdict {
            tasks: 3,
            duplicates: 1,
            lost: 2,
            foreign: 1,
        };
        assert_eq!(verdict, expected);
    }
}
