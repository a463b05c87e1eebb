//! What operators call. Split by noun; here is only the list, which hands each call to its noun.

mod agents;
mod approvals;
mod audit;
mod cluster;
mod control;
mod events;
mod evidence;
mod explain;
mod plans;
mod playbooks;
mod replay;
mod roles;
mod rollback;
mod runs;
mod submissions;
mod tokens;
mod triggers;
mod watch;

use std::sync::Arc;

use engine::id::RequestId;
use engine::{Actor, Command, Envelope, Reply};
use futures::stream::BoxStream;
use proto::v1;
use proto::v1::operator_service_server::OperatorService;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::auth;
use super::error::ApiError;
use crate::api::peers::client::PeerClients;
use crate::control::Control;
use crate::evidence::Evidence;

/// Answers of a list carry at most this much text, whatever limit is asked for.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Things in an answer when no limit is asked for.
const PAGE_DEFAULT: usize = 100;
/// And when a large one is.
const PAGE_MAX: usize = 1_000;

/// Plans that are drawn at once on one node.
const PLANS_DRAWN_MAX: usize = 2;

/// The operators' service.
pub struct Operators {
    control: Control,
    evidence: Evidence,
    peers: PeerClients,
    about: About,
    /// Drawing a plan over a large fleet takes a processor for seconds: so many at once, others wait.
    drawing: Arc<Semaphore>,
    /// A replay takes a second copy of the state: one at a time.
    replaying: Arc<Semaphore>,
}

/// What does not change while a node runs.
pub struct About {
    /// The cluster's id.
    pub cluster: uuid::Uuid,
    /// The trust domain.
    pub trust_domain: String,
    /// This node's name.
    pub node_name: String,
    /// SHA-256 of the coordinators' CA key: what enrolling agents pin.
    pub ca_sha256: [u8; 32],
}

impl Operators {
    /// Over this node's control and evidence.
    pub fn new(control: Control, evidence: Evidence, peers: PeerClients, about: About) -> Operators {
        Operators {
            control,
            evidence,
            peers,
            about,
            drawing: Arc::new(Semaphore::new(PLANS_DRAWN_MAX)),
            replaying: Arc::new(Semaphore::new(1)),
        }
    }

    /// Commits a command of a person. A refusal is an error.
    async fn submit(&self, operator: String, request_id: &str, command: Command) -> Result<Reply, ApiError> {
        let envelope = Envelope {
            request: request(request_id)?,
            actor: Actor::Operator(operator),
            command,
        };
        match self.control.submit(envelope).await?.1 {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }
}

/// How many things a page holds.
fn page(limit: u32) -> usize {
    match limit {
        0 => PAGE_DEFAULT,
        limit => (limit as usize).min(PAGE_MAX),
    }
}

/// Takes things for a page until it is full, by number or by weight; then the second value is true.
fn fill<T>(things: impl Iterator<Item = T>, limit: usize, weigh: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut page = Vec::new();
    let mut weight = 0;
    for thing in things {
        weight += weigh(&thing);
        if page.len() == limit || (weight > PAGE_BYTES_MAX && !page.is_empty()) {
            return (page, true);
        }
        page.push(thing);
    }
    (page, false)
}

/// A client's request id; none is drawn here for it, so that a repeat without one is a new request.
fn request(id: &str) -> Result<Option<RequestId>, ApiError> {
    if id.is_empty() {
        return Ok(None);
    }
    parse("request_id", id).map(Some)
}

/// Parses a name.
fn parse<T: std::str::FromStr<Err = engine::id::InvalidId>>(
    field: &'static str,
    text: &str,
) -> Result<T, ApiError> {
    text.parse()
        .map_err(|error: engine::id::InvalidId| ApiError::Invalid {
            field,
            problem: error.to_string(),
        })
}

fn not_found(what: &'static str, name: impl ToString) -> ApiError {
    ApiError::NotFound {
        what,
        name: name.to_string(),
    }
}

/// The service: what is written out, and calls that are only handed on, with who calls.
macro_rules! service {
    ({ $($written:tt)* } $($rpc:ident($request:ident) -> $reply:ident;)*) => {
        #[tonic::async_trait]
        impl OperatorService for Operators {
            $($written)*

            $(
                async fn $rpc(&self, request: Request<v1::$request>) -> Result<Response<v1::$reply>, Status> {
                    let operator = auth::operator(&request)?;
                    Ok(Response::new(Operators::$rpc(self, operator, request.into_inner()).await?))
                }
            )*
        }
    };
}

service! {
{
    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let operator = auth::operator(&request)?;
        Ok(Response::new(Operators::status(self, operator).await?))
    }

    async fn cluster_status(&self, request: Request<v1::ClusterStatusRequest>) -> Result<Response<v1::ClusterStatusReply>, Status> {
        auth::operator(&request)?;
        Ok(Response::new(Operators::cluster_status(self).await?))
    }

    async fn list_enroll_tokens(&self, request: Request<v1::ListEnrollTokensRequest>) -> Result<Response<v1::ListEnrollTokensReply>, Status> {
        auth::operator(&request)?;
        Ok(Response::new(Operators::list_enroll_tokens(self).await?))
    }

    type WatchRunStream = BoxStream<'static, Result<v1::RunEvent, Status>>;

    async fn watch_run(&self, request: Request<v1::WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        auth::operator(&request)?;
        Ok(Response::new(Operators::watch_run(self, request.into_inner()).await?))
    }

    async fn list_roles(&self, request: Request<v1::ListRolesRequest>) -> Result<Response<v1::ListRolesReply>, Status> {
        auth::operator(&request)?;
        Ok(Response::new(Operators::list_roles(self).await?))
    }

    type WatchApprovalsStream = BoxStream<'static, Result<v1::Approval, Status>>;

    async fn watch_approvals(&self, request: Request<v1::WatchApprovalsRequest>) -> Result<Response<Self::WatchApprovalsStream>, Status> {
        auth::operator(&request)?;
        Ok(Response::new(Operators::watch_approvals(self).await?))
    }

    async fn submit(&self, request: Request<Streaming<v1::SubmitChunk>>) -> Result<Response<v1::SubmitReply>, Status> {
        let operator = auth::operator(&request)?;
        Ok(Response::new(self.take_submission(operator, request.into_inner()).await?))
    }

    type GetEvidenceStream = BoxStream<'static, Result<v1::EvidenceData, Status>>;

    async fn get_evidence(&self, request: Request<v1::GetEvidenceRequest>) -> Result<Response<Self::GetEvidenceStream>, Status> {
        let operator = auth::operator(&request)?;
        Ok(Response::new(Operators::get_evidence(self, operator, request.into_inner()).await?))
    }
}
    add_member(AddMemberRequest) -> AddMemberReply;
    remove_member(RemoveMemberRequest) -> RemoveMemberReply;
    transfer_leader(TransferLeaderRequest) -> TransferLeaderReply;
    list_agents(ListAgentsRequest) -> ListAgentsReply;
    get_agent(GetAgentRequest) -> Agent;
    set_agent_labels(SetAgentLabelsRequest) -> Agent;
    revoke_agent(RevokeAgentRequest) -> RevokeAgentReply;
    create_enroll_token(CreateEnrollTokenRequest) -> CreateEnrollTokenReply;
    revoke_enroll_token(RevokeEnrollTokenRequest) -> RevokeEnrollTokenReply;
    plan_run(PlanRunRequest) -> Plan;
    start_run(StartRunRequest) -> StartRunReply;
    list_runs(ListRunsRequest) -> ListRunsReply;
    get_run(GetRunRequest) -> Run;
    list_tasks(ListTasksRequest) -> ListTasksReply;
    cancel_run(CancelRunRequest) -> CancelRunReply;
    pause_run(PauseRunRequest) -> ControlRunReply;
    resume_run(ResumeRunRequest) -> ControlRunReply;
    retry_run(RetryRunRequest) -> ControlRunReply;
    plan_rollback(PlanRollbackRequest) -> PlanRollbackReply;
    rollback_run(RollbackRunRequest) -> ControlRunReply;
    settle_task(SettleTaskRequest) -> ControlRunReply;
    explain_run(ExplainRunRequest) -> ExplainRunReply;
    replay_run(ReplayRunRequest) -> ReplayRunReply;
    publish_playbook(PublishPlaybookRequest) -> PublishedPlaybook;
    list_playbooks(ListPlaybooksRequest) -> ListPlaybooksReply;
    get_playbook(GetPlaybookRequest) -> PublishedPlaybook;
    send_events(SendEventsRequest) -> SendEventsReply;
    list_triggers(ListTriggersRequest) -> ListTriggersReply;
    set_trigger(SetTriggerRequest) -> Trigger;
    list_evidence(ListEvidenceRequest) -> ListEvidenceReply;
    verify_evidence(VerifyEvidenceRequest) -> VerifyEvidenceReply;
    list_audit(ListAuditRequest) -> ListAuditReply;
    list_approvals(ListApprovalsRequest) -> ListApprovalsReply;
    get_approval(GetApprovalRequest) -> Approval;
    answer_approval(AnswerApprovalRequest) -> Approval;
    grant_role(GrantRoleRequest) -> GrantRoleReply;
    revoke_role(RevokeRoleRequest) -> RevokeRoleReply;
}
