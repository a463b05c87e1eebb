//! Asks a coordinator something over a connection that did not exist before: the proof, under isolation,
//! that this host can still be reached by those who can release it.

use std::time::Duration;

use certs::Role;
use certs::tls::{ClientTls, ConnectOptions};
use futures::future::{BoxFuture, FutureExt, select_ok};
use proto::v1;
use proto::v1::agent_service_client::AgentServiceClient;
use tonic::Code;

use crate::actions::CoordinatorProbe;

/// Tries all coordinators at once; one answer is enough.
#[derive(Clone)]
pub struct Probe {
    endpoints: Vec<String>,
    tls: ClientTls,
}

impl Probe {
    /// Of these coordinators' agent listeners.
    pub fn new(endpoints: Vec<String>, tls: ClientTls) -> Probe {
        Probe { endpoints, tls }
    }
}

impl CoordinatorProbe for Probe {
    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), String>> {
        async move {
            if self.endpoints.is_empty() {
                return Err("no coordinator is configured".to_owned());
            }
            let asked = self
                .endpoints
                .iter()
                .map(|endpoint| ask(endpoint, &self.tls, within).boxed());
            match tokio::time::timeout(within, select_ok(asked)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(problem)) => Err(problem),
                Err(_) => Err(format!(
                    "no coordinator answered within {} ms",
                    within.as_millis()
                )),
            }
        }
        .boxed()
    }
}

async fn ask(endpoint: &str, tls: &ClientTls, within: Duration) -> Result<(), String> {
    let options = ConnectOptions {
        connect_timeout: within,
        ..ConnectOptions::default()
    };
    let channel = certs::tls::connect(endpoint, tls, Role::Coordinator, options)
        .await
        .map_err(|error| error.to_string())?;
    let request = v1::EvidenceOffsetRequest {
        key: None,
        upload_id: "probe".to_owned(),
    };
    match AgentServiceClient::new(channel).evidence_offset(request).await {
        Ok(_) => Ok(()),
        // A refusal of the request is an answer: it came from a coordinator that had accepted our certificate.
        Err(status)
            if matches!(
                status.code(),
                Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition
            ) =>
        {
            Ok(())
        }
        Err(status) => Err(format!("{endpoint}: {:?}: {}", status.code(), status.message())),
    }
}
