//! An operator of the world's cluster: the real API with a real certificate, through whichever node
//! answers, so that the death of one is no more than a pause.

use std::path::Path;
use std::time::{Duration, Instant};

use certs::tls::{ClientTls, ConnectOptions, connect};
use certs::{Identity, Role, Roots};
use proto::v1;
use proto::v1::operator_service_client::OperatorServiceClient;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::WorldError;

/// The generated client over one connection.
pub type Api = OperatorServiceClient<Channel>;

/// How long a call looks for a node that answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one node may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after every endpoint was tried once.
const PAUSE: Duration = Duration::from_millis(50);
/// Tasks, records and the like in one page.
const PAGE: u32 = 500;

/// An operator with a certificate, and the endpoints of the nodes that it may ask.
pub struct OperatorClient {
    endpoints: Vec<String>,
    tls: ClientTls,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    at: usize,
    api: Option<Api>,
}

impl OperatorClient {
    /// Reads the identity that `cordon init` left in `home`.
    pub fn new(
        home: &Path,
        trust_domain: &str,
        endpoints: Vec<String>,
    ) -> Result<OperatorClient, WorldError> {
        let say = |error: &dyn std::fmt::Display| WorldError::Certificates(error.to_string());
        let identity = Identity::load(&home.join("identity")).map_err(|error| say(&error))?;
        let roots = Roots::load(&home.join("roots/coordinator.pem")).map_err(|error| say(&error))?;
        let tls = ClientTls::new(Some(identity), &roots, trust_domain).map_err(|error| say(&error))?;
        Ok(OperatorClient {
            endpoints,
            tls,
            standing: Mutex::default(),
        })
    }

    /// Makes a call on one node after the other until one answers. `call` may run several times, so what
    /// it asks must carry a request id where it changes anything.
    pub async fn call<T>(
        &self,
        name: &'static str,
        call: impl AsyncFn(Api) -> Result<Response<T>, Status>,
    ) -> Result<T, WorldError> {
        let give_up = Instant::now() + PATIENCE;
        let mut tries = 0;
        loop {
            let reason = match self.api().await {
                Err(reason) => reason,
                Ok(api) => match tokio::time::timeout(CALL_TIMEOUT, call(api)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    Ok(Err(status)) if !is_transient(&status) => {
                        return Err(WorldError::Call {
                            call: name,
                            reason: describe(&status),
                        });
                    }
                    Ok(Err(status)) => describe(&status),
                    Err(_) => "no answer in time".to_owned(),
                },
            };
            if Instant::now() >= give_up {
                return Err(WorldError::Call { call: name, reason });
            }
            tries += 1;
            let mut standing = self.standing.lock().await;
            *standing = Standing {
                at: (standing.at + 1) % self.endpoints.len(),
                api: None,
            };
            drop(standing);
            if tries % self.endpoints.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The connection that is in use, or a new one.
    pub async fn api(&self) -> Result<Api, String> {
        let mut standing = self.standing.lock().await;
        if let Some(api) = &standing.api {
            return Ok(api.clone());
        }
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(2),
            ..ConnectOptions::default()
        };
        let endpoint = &self.endpoints[standing.at];
        let channel = connect(endpoint, &self.tls, Role::Coordinator, options)
            .await
            .map_err(|error| error.to_string())?;
        let api = OperatorServiceClient::new(channel).max_decoding_message_size(16 << 20);
        Ok(standing.api.insert(api).clone())
    }

    /// Who leads and how many agents are there.
    pub async fn status(&self) -> Result<v1::StatusReply, WorldError> {
        self.call("Status", async |mut api| api.status(v1::StatusRequest {}).await)
            .await
    }

    /// Decides a run again from the log. What did not come out the same; nothing, if everything did.
    pub async fn replay(&self, run_id: &str) -> Result<Result<(), String>, WorldError> {
        let reply = self.call("ReplayRun", async |mut api| {
            let run_id = run_id.to_owned();
            api.replay_run(v1::ReplayRunRequest { run_id }).await
        });
        let reply = reply.await?;
        Ok(match reply.difference.as_str() {
            "" if reply.decisions == 0 => Err("its log has no decision of it".to_owned()),
            "" => Ok(()),
            difference => Err(difference.to_owned()),
        })
    }

    /// The members.
    pub async fn cluster_status(&self) -> Result<v1::ClusterStatusReply, WorldError> {
        self.call("ClusterStatus", async |mut api| {
            api.cluster_status(v1::ClusterStatusRequest {}).await
        })
        .await
    }

    /// All agents.
    pub async fn agents(&self) -> Result<Vec<v1::Agent>, WorldError> {
        let mut agents = Vec::new();
        let mut after_id = String::new();
        loop {
            let request = v1::ListAgentsRequest {
                after_id: after_id.clone(),
                limit: PAGE,
                online_only: false,
            };
            let page = self
                .call("ListAgents", async |mut api| {
                    api.list_agents(request.clone()).await
                })
                .await?;
            agents.extend(page.agents);
            after_id = page.next_after_id;
            if after_id.is_empty() {
                return Ok(agents);
            }
        }
    }

    /// A token with which one agent enrols, under this id.
    pub async fn create_token(&self, agent_id: &str) -> Result<v1::CreateEnrollTokenReply, WorldError> {
        let request = v1::CreateEnrollTokenRequest {
            uses: 1,
            agent_id: agent_id.to_owned(),
            request_id: request_id(),
            ..Default::default()
        };
        self.call("CreateEnrollToken", async |mut api| {
            api.create_enroll_token(request.clone()).await
        })
        .await
    }

    /// Starts a run.
    pub async fn start_run(
        &self,
        playbook_yaml: &str,
        inputs: &serde_json::Value,
    ) -> Result<v1::StartRunReply, WorldError> {
        let request = v1::StartRunRequest {
            playbook_yaml: playbook_yaml.to_owned(),
            inputs_json: inputs.to_string(),
            request_id: request_id(),
            plan_sha256: String::new(),
        };
        self.call("StartRun", async |mut api| api.start_run(request.clone()).await)
            .await
    }

    /// The run as it stands.
    pub async fn run(&self, id: &str) -> Result<v1::Run, WorldError> {
        let request = v1::GetRunRequest { id: id.to_owned() };
        self.call("GetRun", async |mut api| api.get_run(request.clone()).await)
            .await
    }

    /// All tasks of the run, step by step.
    pub async fn tasks(&self, run: &v1::Run) -> Result<Vec<v1::Task>, WorldError> {
        let mut tasks = Vec::new();
        for step in &run.steps {
            let mut after = 0;
            loop {
                let request = v1::ListTasksRequest {
                    run_id: run.id.clone(),
                    step: step.name.clone(),
                    after,
                    limit: PAGE,
                };
                let page = self
                    .call("ListTasks", async |mut api| api.list_tasks(request.clone()).await)
                    .await?;
                tasks.extend(page.tasks);
                after = page.next_after;
                if after == 0 {
                    break;
                }
            }
        }
        Ok(tasks)
    }

    /// Waits until the run has ended, and returns it.
    pub async fn ended(&self, id: &str, within: Duration) -> Result<v1::Run, WorldError> {
        super::level(&format!("the end of run {id}"), within, async || {
            let run = self.run(id).await?;
            Ok(if has_ended(&run) {
                Ok(run)
            } else {
                Err(run_in_words(&run))
            })
        })
        .await
    }

    /// The evidence of a run.
    pub async fn evidence(&self, run_id: &str) -> Result<Vec<v1::EvidenceRecord>, WorldError> {
        let request = v1::ListEvidenceRequest {
            run_id: run_id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .call("ListEvidence", async |mut api| {
                api.list_evidence(request.clone()).await
            })
            .await?;
        Ok(reply.records)
    }

    /// Reads a piece of evidence and returns the SHA-256 and the size of what arrived.
    pub async fn read_evidence(&self, sha256: &str) -> Result<(String, u64), WorldError> {
        let request = v1::GetEvidenceRequest {
            sha256: sha256.to_owned(),
            offset_bytes: 0,
        };
        self.call("GetEvidence", async |mut api| {
            let mut stream = api.get_evidence(request.clone()).await?.into_inner();
            let (mut digest, mut size_bytes) = (Sha256::new(), 0);
            while let Some(piece) = stream.message().await? {
                digest.update(&piece.data);
                size_bytes += piece.data.len() as u64;
            }
            Ok(Response::new((hex::encode(digest.finalize()), size_bytes)))
        })
        .await
    }

    /// Has every copy read again.
    pub async fn verify_evidence(&self, sha256: &str) -> Result<v1::VerifyEvidenceReply, WorldError> {
        let request = v1::VerifyEvidenceRequest {
            sha256: sha256.to_owned(),
        };
        self.call("VerifyEvidence", async |mut api| {
            api.verify_evidence(request.clone()).await
        })
        .await
    }

    /// All audit records after this sequence number; of one run, or of all where `run_id` is empty.
    pub async fn audit(&self, run_id: &str, after_sequence: u64) -> Result<Vec<v1::AuditRecord>, WorldError> {
        let (mut records, mut after_sequence) = (Vec::new(), after_sequence);
        loop {
            let request = v1::ListAuditRequest {
                after_sequence,
                limit: PAGE,
                run_id: run_id.to_owned(),
            };
            let page = self
                .call("ListAudit", async |mut api| api.list_audit(request.clone()).await)
                .await?;
            let last = page.records.last().map(|record| record.sequence);
            records.extend(page.records);
            match (last, page.next_after) {
                (None, _) | (_, 0) => return Ok(records),
                (Some(last), next) => after_sequence = next.max(last),
            }
        }
    }
}

/// A fresh id for a request that changes something.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether the run has come to its end.
pub fn has_ended(run: &v1::Run) -> bool {
    matches!(run.status.as_str(), "succeeded" | "failed" | "cancelled")
}

/// The run's state in a line, for errors.
pub fn run_in_words(run: &v1::Run) -> String {
    let steps: Vec<String> = run
        .steps
        .iter()
        .map(|step| format!("{} {}{}", step.name, step.status, because(&step.reason)))
        .collect();
    format!("{}{} ({})", run.status, because(&run.reason), steps.join(", "))
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn is_transient(status: &Status) -> bool {
    // tonic gives a connection that broke as Unknown or Cancelled with the transport's error as source.
    let broken = std::error::Error::source(status).is_some()
        && matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal);
    broken
        || matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        )
}

fn describe(status: &Status) -> String {
    certs::tls::explain(status).unwrap_or_else(|| format!("{:?}: {}", status.code(), status.message()))
}
