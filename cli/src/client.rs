//! The operators' API, through whichever coordinator answers.
//!
//! Any node takes any request. A call that finds its node gone is made again on the next endpoint with the same
//! request id, so that what was done already is answered and not done twice.

use std::time::Duration;

use certs::{
    Identity, Role, Roots,
    tls::{ClientTls, ConnectOptions, connect},
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
        let give_up = Instant::now() + PATIENCE;
        let mut failures = 0;
        loop {
            let refusal = match self.api().await {
                Err(refusal) => refusal,
                Ok(api) => match timeout(CALL_TIMEOUT, call(api)).await {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) if !is_transient(&status) => return Err(status.into()),
                    Ok(Err(status)) => self.describe(status.into()),
                    Err(_) => CliError::new(
                        exit_codes::CONNECTION,
                        format!(
                            "{} did not answer within {} s",
                            self.endpoint(),
                            CALL_TIMEOUT.as_secs()
                        ),
                    ),
                },
            };
            failures += 1;
            if refusal.exit_code == exit_codes::INVALID || Instant::now() >= give_up {
                return Err(self.hint(refusal));
            }
            self.move_on();
            if failures % self.endpoints.len() == 0 {
                // Every endpoint refuses this certificate: more patience will not make it welcome.
                if refusal.exit_code == exit_codes::DENIED {
                    return Err(refusal);
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// The connection that stands, or a new one to the endpoint whose turn it is.
    ///
    /// # Errors
    /// Why that endpoint cannot be used.
    pub async fn api(&mut self) -> Result<Api> {
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
    // tonic reports a connection that broke as Unknown with the transport's error as the source.
    let broken = status.code() == Code::Unknown && std::error::Error::source(status).is_some();
    broken || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// An id for a request that changes something; a repeat with it changes nothing more.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
