//! The operators' API, through whichever coordinator answers.
//!
//! Any node takes any request. A call that finds its node gone is made again on the next endpoint with the same
//! request id, so that what was done already is answered and not done twice.

use std::time::Duration;

use certs::{
    Identity, Role, Roots,
    tls::{ClientTls, ConnectError, ConnectOptions, connect},
};
use proto::v1::operator_service_client::OperatorServiceClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    config::Context,
    error::{CliError, Result},
    exit_codes,
};

/// The generated client over one connection.
pub type Api = OperatorServiceClient<Channel>;

/// How long a command looks for a coordinator that answers. An election is over well before.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one call may take. Lists are paged, so none takes long.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait after every endpoint was tried once.
const PAUSE: Duration = Duration::from_millis(300);
/// Largest answer, in bytes: a page of runs with their steps.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A connection to the cluster that moves from endpoint to endpoint.
pub struct Client {
    endpoints: Vec<String>,
    at: usize,
    tls: ClientTls,
    api: Option<Api>,
}

impl Client {
    /// Reads the identity and the roots; connects when first used.
    ///
    /// # Errors
    /// When a file does not hold, or the certificate has expired.
    pub fn new(context: &Context) -> Result<Client> {
        let identity = Identity::load(&context.identity).map_err(|error| {
            CliError::invalid(error.to_string())
                .with_hint("`cordon operator issue DIR NAME` makes a new identity")
        })?;
        if identity.not_after() < std::time::SystemTime::now() {
            return Err(CliError::new(
                exit_codes::DENIED,
                format!("the certificate in {} has expired", context.identity.display()),
            )
            .with_hint(
                "an operator's lasts 12 hours; renew it offline with `cordon operator issue DIR NAME`",
            ));
        }
        let roots = Roots::load(&context.roots).map_err(|error| CliError::invalid(error.to_string()))?;
        let tls = ClientTls::new(Some(identity), &roots, &context.trust_domain)
            .map_err(|error| CliError::new(exit_codes::INTERNAL, error.to_string()))?;
        Ok(Client {
            endpoints: context.endpoints.clone(),
            at: 0,
            tls,
            api: None,
        })
    }

    /// Makes a call, moving on until a node answers or patience ends. `call` may run several times.
    ///
    /// # Errors
    /// The cluster's answer, or why no endpoint could be reached.
    pub async fn call<T>(
        &mut self,
        call: impl AsyncFn(Api) -> std::result::Result<Response<T>, Status>,
    ) -> Result<T> {
        self.call_within(CALL_TIMEOUT, call).await
    }

    /// The same, with as long as this for each try.
    ///
    /// # Errors
    /// The cluster's answer, or why no endpoint could be reached.
    pub async fn call_within<T>(
        &mut self,
        longest: Duration,
        call: impl AsyncFn(Api) -> std::result::Result<Response<T>, Status>,
    ) -> Result<T> {
        let give_up = Instant::now() + PATIENCE;
        let mut failures = 0;
        // Whether an endpoint of this round may answer differently a moment later.
        let mut hope = false;
        // What a coordinator said of itself tells more than that another is not there.
        let mut said = None;
        loop {
            let refusal = match self.api().await {
                Err(error) => {
                    hope |= error.is_transient();
                    error.into()
                }
                Ok(api) => match timeout(longest, call(api)).await {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) if !is_transient(&status) => return Err(status.into()),
                    Ok(Err(status)) => {
                        let error = self.judge(status);
                        hope |= error.exit_code != exit_codes::DENIED;
                        self.describe(error)
                    }
                    Err(_) => {
                        hope = true;
                        let text = format!(
                            "{} did not answer within {} s",
                            self.endpoint(),
                            longest.as_secs()
                        );
                        CliError::new(exit_codes::CONNECTION, text)
                    }
                },
            };
            self.move_on();
            failures += 1;
            let refusal = match said.take() {
                Some(said) if refusal.server_code.is_none() => said,
                _ => refusal,
            };
            if failures % self.endpoints.len() == 0 {
                if !hope || Instant::now() >= give_up {
                    return Err(self.hint(refusal));
                }
                hope = false;
                sleep(PAUSE).await;
            } else if refusal.server_code.is_some() {
                said = Some(refusal);
            }
        }
    }

    /// The connection that stands, or a new one to the endpoint whose turn it is.
    ///
    /// # Errors
    /// Why that endpoint cannot be used.
    pub async fn api(&mut self) -> std::result::Result<Api, ConnectError> {
        if let Some(api) = &self.api {
            return Ok(api.clone());
        }
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(3),
            ..ConnectOptions::default()
        };
        let channel = connect(self.endpoint(), &self.tls, Role::Coordinator, options).await?;
        let api = OperatorServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(self.api.insert(api).clone())
    }

    /// Gives this endpoint up for the next.
    pub fn move_on(&mut self) {
        self.api = None;
        self.at = (self.at + 1) % self.endpoints.len();
    }

    /// The endpoint in use.
    pub fn endpoint(&self) -> &str {
        &self.endpoints[self.at]
    }

    /// What a failed call means, once TLS has been asked whether the server refused this certificate.
    pub fn judge(&self, status: Status) -> CliError {
        match self.tls.refusal() {
            Some(why) if is_transient(&status) => CliError::denied(why),
            _ => status.into(),
        }
    }

    fn describe(&self, mut error: CliError) -> CliError {
        error.what = format!("{}: {}", self.endpoint(), error.what);
        error
    }

    fn hint(&self, error: CliError) -> CliError {
        if error.hint.is_some() || error.exit_code != exit_codes::CONNECTION {
            return error;
        }
        let tried = self.endpoints.join(", ");
        error.with_hint(format!(
            "tried {tried}; are the coordinators running, and is this the right --context?"
        ))
    }
}

/// Whether another node, or the same one a moment later, may answer instead.
pub fn is_transient(status: &Status) -> bool {
    // A status with a cause was made on this side, by a connection that broke.
    let broken = std::error::Error::source(status).is_some();
    broken || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// An id for a request that changes something; a repeat with it changes nothing more.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
