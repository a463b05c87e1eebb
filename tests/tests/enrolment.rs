//! A one-time token is good for one host, whoever asks at the same moment, and whoever dies meanwhile.

mod support;

use std::time::Duration;

use certs::Role;
use certs::tls::{ClientTls, ConnectOptions, connect};
use cordon::demo::world::Cluster;
use futures::StreamExt as _;
use proto::v1;
use proto::v1::enroll_service_client::EnrollServiceClient;

/// Hosts that all have the same token, each with a key of its own.
const HOSTS: usize = 1_000;
/// How many of them ask at once.
const AT_ONCE: usize = 100;
/// How often a host asks again that got no answer.
const TRIES_MAX: usize = 60;

#[test]
fn a_thousand_uses_of_a_token_give_one_certificate_across_a_leader_kill() {
    support::in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 3).await?;
        let operator = cluster.operator()?;
        let token = operator.create_token("").await?;
        let pin: [u8; 32] = hex::decode(&token.ca_sha256)?.try_into().expect("a SHA-256");
        let tls = ClientTls::pinned(pin)?;
        let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.enroll_endpoint()).collect();
        let leader = cluster.leader(None).await?;

        let asked = futures::stream::iter(0..HOSTS)
            .map(|host| enroll(host, &endpoints, &tls, &token.token))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<anyhow::Result<Host>>>();
        let killed = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            leader.kill().await
        };
        let (answers, killed) = tokio::join!(asked, killed);
        killed?;
        let hosts = answers.into_iter().collect::<anyhow::Result<Vec<Host>>>()?;
        let certified: Vec<&Host> = hosts.iter().filter(|host| host.is_certified).collect();
        assert!(
            certified.len() <= 1,
            "{} certificates for one use",
            certified.len()
        );
        let agents = operator.agents().await?;
        assert_eq!(agents.len(), 1, "one agent is known");
        // It is the one with the certificate, or its answer died with the leader.
        let winner = hosts.iter().find(|host| host.key_sha256 == agents[0].key_sha256);
        let winner = winner.expect("the agent is one of those who asked");
        assert!(winner.is_certified || (winner.was_unanswered && certified.is_empty()));
        cluster.shut_down().await?;
        Ok(())
    });
}

/// How it went for one host.
struct Host {
    /// Of its key, in hexadecimal.
    key_sha256: String,
    is_certified: bool,
    /// It asked at least once without an answer.
    was_unanswered: bool,
}

/// Asks for a certificate. Without an answer it asks again, elsewhere and with the same key, as an
/// agent does.
async fn enroll(host: usize, endpoints: &[String], tls: &ClientTls, token: &str) -> anyhow::Result<Host> {
    let (_key, csr) = certs::new_key_and_csr()?;
    let request = v1::EnrollRequest {
        token: token.to_owned(),
        csr_der: csr.into(),
        hostname: format!("host-{host}"),
    };
    let mut asked = Host {
        key_sha256: hex::encode(certs::key_sha256_of_csr(&request.csr_der)?),
        is_certified: false,
        was_unanswered: false,
    };
    let mut last = String::new();
    for attempt in 0..TRIES_MAX {
        let endpoint = &endpoints[(host + attempt) % endpoints.len()];
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(2),
            ..ConnectOptions::default()
        };
        match connect(endpoint, tls, Role::Coordinator, options).await {
            Err(error) => last = error.to_string(),
            Ok(channel) => match EnrollServiceClient::new(channel).enroll(request.clone()).await {
                Ok(_) => {
                    asked.is_certified = true;
                    return Ok(asked);
                }
                // Refused: the token is used, or this address has guessed too often.
                Err(status)
                    if matches!(
                        status.code(),
                        tonic::Code::PermissionDenied
                            | tonic::Code::FailedPrecondition
                            | tonic::Code::Unauthenticated
                            | tonic::Code::ResourceExhausted
                    ) =>
                {
                    return Ok(asked);
                }
                Err(status) => {
                    asked.was_unanswered = true;
                    last = status.to_string();
                }
            },
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("host-{host} got no answer in {TRIES_MAX} tries: {last}")
}
