//! Every error of the APIs, and the one match that makes a status of it.
//!
//! A status carries `cordon-code`, stable, for programs, and `cordon-hint`, how to mend it, for people.

use engine::Refusal;
use engine::error::AnswerRefusal;
use tonic::{Code, Status};

use crate::control::{QueryError, SubmitError};
use crate::evidence::EvidenceError;
use crate::reshape::ReshapeError;

/// The metadata key of the stable code.
pub const CODE_KEY: &str = "cordon-code";
/// The metadata key of the hint.
pub const HINT_KEY: &str = "cordon-hint";

/// Why a call is not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The table does not allow it, or the certificate is not one that may call.
    #[error("this certificate may not call that")]
    NotAllowed,
    /// The agent's record does not have this certificate's key (any more).
    #[error("the agent {0} is not enrolled with this key")]
    NotEnrolled(String),
    /// A field of the request does not parse.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The playbook does not compile, or cannot be planned: all problems, whole.
    #[error("the playbook cannot be run as asked:\n{0}")]
    Playbook(String),
    /// What was filled in is not what the form asks for: all problems, whole.
    #[error("the answer is not what is asked for:\n{0}")]
    Form(String),
    /// A set that decides where something above `collect` is done goes by what hosts say of themselves.
    #[error(transparent)]
    FactsDecide(engine::plan::PlanError),
    /// Nothing of that name.
    #[error("there is no {what} {name}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Too many guesses from one address.
    #[error("too many refused requests from your address")]
    TooMany,
    /// The state machine refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be committed.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The state could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A change of membership, or of the leader, did not come about.
    #[error("the cluster was not changed: {0}")]
    Reshape(String),
    /// A certificate could not be made.
    #[error("the certificate could not be issued: {0}")]
    Issue(String),
    /// Something that must not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<ReshapeError> for ApiError {
    fn from(error: ReshapeError) -> ApiError {
        match error {
            ReshapeError::Refused(why) | ReshapeError::Pending(why) => ApiError::Reshape(why),
            ReshapeError::NotLeader => SubmitError::NoLeader.into(),
            ReshapeError::Submit(error) => error.into(),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let (code, stable, hint) = describe(&error);
        let mut status = Status::new(code, error.to_string());
        let metadata = status.metadata_mut();
        metadata.insert(CODE_KEY, stable.parse().expect("codes are plain ASCII"));
        metadata.insert(HINT_KEY, hint.parse().expect("hints are plain ASCII"));
        status
    }
}

/// The status code, the stable code and the hint of an error. Exhaustive: a new error says all three.
fn describe(error: &ApiError) -> (Code, &'static str, &'static str) {
    match error {
        ApiError::NotAllowed => (
            Code::PermissionDenied,
            "not_allowed",
            "use the port and the certificate of your role",
        ),
        ApiError::NotEnrolled(_) => (
            Code::PermissionDenied,
            "not_enrolled",
            "enrol the agent again with a new token; a revoked agent stays revoked",
        ),
        ApiError::Invalid { .. } => (
            Code::InvalidArgument,
            "invalid",
            "correct the field that is named",
        ),
        ApiError::Playbook(_) => (
            Code::InvalidArgument,
            "playbook",
            "mend what is listed; `cordon playbook validate FILE` checks without starting anything",
        ),
        ApiError::Form(_) => (
            Code::InvalidArgument,
            "form",
            "correct the fields that are named; `cordon approval show` lists them with their types",
        ),
        ApiError::FactsDecide(_) => (
            Code::InvalidArgument,
            "facts_decide",
            "select by agent.id or agent.labels, which administrators set, or list the hosts",
        ),
        ApiError::NotFound { .. } => (
            Code::NotFound,
            "not_found",
            "check the name; the list commands show what there is",
        ),
        ApiError::TooMany => (
            Code::ResourceExhausted,
            "too_many",
            "wait a minute, then try with a valid token",
        ),
        ApiError::Refused(refusal) => describe_refusal(refusal),
        ApiError::Submit(error) => describe_submit(error),
        ApiError::Query(QueryError::NoLeader) => NO_LEADER,
        ApiError::Query(QueryError::Halted) => HALTED,
        ApiError::Evidence(error) => describe_evidence(error),
        ApiError::Reshape(_) => (
            Code::FailedPrecondition,
            "membership",
            "`cordon cluster status` shows the members and who leads; change one at a time",
        ),
        ApiError::Issue(_) => (
            Code::Internal,
            "issue",
            "look at this node's log: its issuing CA may be missing or expired",
        ),
        ApiError::Internal(_) => (
            Code::Internal,
            "internal",
            "look at this node's log, and report it",
        ),
    }
}

const NO_LEADER: (Code, &str, &str) = (
    Code::Unavailable,
    "no_leader",
    "try again, or ask another node: a majority of the coordinators must be up and see each other",
);
const HALTED: (Code, &str, &str) = (
    Code::Unavailable,
    "halted",
    "ask another node, and look at this one's log",
);

fn describe_submit(error: &SubmitError) -> (Code, &'static str, &'static str) {
    match error {
        SubmitError::Busy => (Code::ResourceExhausted, "busy", "try again in a moment"),
        SubmitError::DiskFull { .. } => (
            Code::ResourceExhausted,
            "disk_full",
            "make room on that disk; if that node leads, let another one (`cordon cluster transfer`), if not, ask another one; [disk] runs_free_percent_min says where the line is",
        ),
        SubmitError::NoLeader => NO_LEADER,
        SubmitError::OutcomeUnknown => (
            Code::Aborted,
            "outcome_unknown",
            "try again with the same request id: it is carried out once at most",
        ),
        SubmitError::TooLarge => (
            Code::ResourceExhausted,
            "too_large",
            "split it, or pass large content as evidence",
        ),
        SubmitError::Halted => HALTED,
    }
}

fn describe_refusal(refusal: &Refusal) -> (Code, &'static str, &'static str) {
    match refusal {
        Refusal::OtherCluster(_) => (
            Code::FailedPrecondition,
            "other_cluster",
            "this data belongs to another cluster: check cluster.id in coordinator.toml",
        ),
        Refusal::NotBootstrapped => (
            Code::Unavailable,
            "not_bootstrapped",
            "wait until a majority of the members has started",
        ),
        Refusal::NotFound { .. } => (
            Code::NotFound,
            "not_found",
            "check the name; the list commands show what there is",
        ),
        Refusal::Exists { .. } => (Code::AlreadyExists, "exists", "choose another name"),
        Refusal::Token(_) => (
            Code::PermissionDenied,
            "token",
            "ask for a new token: `cordon enroll-token create`",
        ),
        Refusal::RequestReused => (
            Code::AlreadyExists,
            "request_reused",
            "draw a new request id for a new request",
        ),
        Refusal::State(_) => (
            Code::FailedPrecondition,
            "state",
            "look at what it is doing now, then decide again",
        ),
        Refusal::Limit { .. } => (
            Code::ResourceExhausted,
            "limit",
            "stay under the limit that is named",
        ),
        Refusal::Stale => (Code::Aborted, "stale", "send it again"),
        Refusal::Full(_) => (
            Code::ResourceExhausted,
            "full",
            "send it again in a moment; nothing of it was taken",
        ),
        Refusal::OtherPlan { .. } => (
            Code::FailedPrecondition,
            "plan_changed",
            "look at what would run now with `cordon playbook plan`, have that approved, and give its hash",
        ),
        Refusal::Answer(refusal) => describe_answer(refusal),
        Refusal::Own(_) => (
            Code::FailedPrecondition,
            "own_role",
            "ask another administrator: `cordon role grant` by somebody else",
        ),
        Refusal::Invalid(_) => (Code::InvalidArgument, "invalid", "correct what is named"),
    }
}

fn describe_answer(refusal: &AnswerRefusal) -> (Code, &'static str, &'static str) {
    match refusal {
        AnswerRefusal::Late { .. } => (
            Code::FailedPrecondition,
            "approval_late",
            "`cordon approval show` says how it ended; what still waits is in `cordon approval list`",
        ),
        AnswerRefusal::Repeated { .. } => (
            Code::AlreadyExists,
            "approval_repeated",
            "others must answer: `cordon approval show` says who may and how many are missing",
        ),
        AnswerRefusal::Foreign { .. } => (
            Code::PermissionDenied,
            "approval_foreign",
            "somebody with one of these roles must answer; `cordon role list` says who that is",
        ),
        AnswerRefusal::Requester { .. } => (
            Code::PermissionDenied,
            "approval_requester",
            "somebody else with one of its roles must answer; `cordon role list` says who that is",
        ),
        AnswerRefusal::Changed { .. } => (
            Code::FailedPrecondition,
            "approval_changed",
            "look at it again with `cordon approval show`, and answer what it asks now",
        ),
        AnswerRefusal::Kind { .. } => (
            Code::InvalidArgument,
            "approval_kind",
            "`cordon approval answer` fills in a question, `approve` and `deny` are for approvals",
        ),
        AnswerRefusal::Unreasoned => (Code::InvalidArgument, "approval_reason", "give it with --reason"),
    }
}

fn describe_evidence(error: &EvidenceError) -> (Code, &'static str, &'static str) {
    match error {
        EvidenceError::NotAssigned => (
            Code::PermissionDenied,
            "not_assigned",
            "upload only for an attempt that this agent was given and has not ended",
        ),
        EvidenceError::NotCollecting(_) => (
            Code::PermissionDenied,
            "not_collecting",
            "only actions with the impact collect upload",
        ),
        EvidenceError::UploadId(_) => (
            Code::InvalidArgument,
            "upload_id",
            "draw an id within the grammar",
        ),
        EvidenceError::Offset { .. } => (
            Code::FailedPrecondition,
            "offset",
            "ask EvidenceOffset and go on there",
        ),
        EvidenceError::TooLarge { .. } => (
            Code::ResourceExhausted,
            "too_large",
            "raise max_bytes of the step, or collect less",
        ),
        EvidenceError::Mismatch { .. } => (Code::DataLoss, "mismatch", "upload it again from the beginning"),
        EvidenceError::TakenOver => (Code::Aborted, "taken_over", "go on with the newer stream"),
        EvidenceError::DiskLow { .. } => (
            Code::ResourceExhausted,
            "disk_low",
            "make room on the coordinator's disk, or upload through another node",
        ),
        EvidenceError::NoSecondCopy(_) => (
            Code::Unavailable,
            "no_second_copy",
            "it is tried again, and goes on at its end once another node takes a copy: start the nodes that do not answer, make room on those that are full",
        ),
        EvidenceError::NotFound(_) => (
            Code::NotFound,
            "not_found",
            "`cordon evidence list` shows what there is",
        ),
        EvidenceError::Unreachable(_) => (
            Code::Unavailable,
            "unreachable",
            "start the nodes that hold it; `cordon evidence list` names them",
        ),
        EvidenceError::Damaged { .. } => (
            Code::DataLoss,
            "damaged",
            "do not use what was received; `cordon evidence verify` shows which copies are good",
        ),
        EvidenceError::Refused(refusal) => describe_refusal(refusal),
        EvidenceError::Submit(error) => describe_submit(error),
        EvidenceError::Query(QueryError::NoLeader) => NO_LEADER,
        EvidenceError::Query(QueryError::Halted) => HALTED,
        EvidenceError::Io { .. } | EvidenceError::Store(_) => (
            Code::Internal,
            "disk",
            "look at this node's log and disk; another node can take the request",
        ),
    }
}
