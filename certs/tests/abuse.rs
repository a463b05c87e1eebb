//! TLS abuses: whatever is wrong with a certificate, a client or a server, nobody gets in.
//!
//! The server writes one byte to every client that it admits, because in TLS 1.3 a client believes itself
//! connected before the server has judged its certificate. "Refused" means that the byte never comes.

mod foundry;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use certs::{
    Role,
    tls::{ClientTls, ConnectError, ConnectOptions, Limits, Peer, ServerTls, dial, incoming_with, listen},
};
use foundry::{Foundry, Recipe, RudeClient};
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::StreamExt;

const DOMAIN: &str = "cordon.test";

struct Server {
    endpoint: String,
    peers: mpsc::UnboundedReceiver<Peer>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start(tls: ServerTls, limits: Limits) -> Server {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (seen, peers) = mpsc::unbounded_channel();
        let mut incoming = incoming_with(listener, tls, limits);
        let task = tokio::spawn(async move {
            while let Some(stream) = incoming.next().await {
                let mut stream = stream.unwrap();
                let _ = seen.send(stream.peer().clone());
                tokio::spawn(async move {
                    let _ = stream.write_all(b"!").await;
                    let _ = stream.flush().await;
                    // Keeps the connection until the client leaves.
                    let _ = stream.read(&mut [0; 1]).await;
                });
            }
        });
        Server {
            endpoint,
            peers,
            task,
        }
    }

    /// A listener for one role, with its CA and a coordinator's identity.
    fn for_role(house: &House, role: Role) -> Server {
        Server::start(house.server_tls(role), Limits::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One CA per role, as `cordon init` makes them, but able to sign anything.
struct House {
    cas: [Foundry; 3],
}

impl House {
    fn new() -> House {
        House {
            cas: [Foundry::new(), Foundry::new(), Foundry::new()],
        }
    }

    fn ca(&self, role: Role) -> &Foundry {
        &self.cas[Role::ALL.iter().position(|known| *known == role).unwrap()]
    }

    fn server_tls(&self, role: Role) -> ServerTls {
        let identity = self
            .ca(Role::Coordinator)
            .identity(&Recipe::of(Role::Coordinator, "c1"));
        ServerTls::new(identity, Some(self.ca(role).roots()), Some(role), DOMAIN).unwrap()
    }
}

async fn admitted(server: &Server, client: &RudeClient) -> bool {
    client.is_admitted(&server.endpoint).await
}

#[tokio::test]
async fn the_right_client_is_admitted_and_known() {
    let house = House::new();
    for role in Role::ALL {
        let mut server = Server::for_role(&house, role);
        let identity = house.ca(role).identity(&Recipe::of(role, "it-1"));
        let client = RudeClient::showing(&identity);
        assert!(admitted(&server, &client).await, "{role}");
        let peer = server.peers.recv().await.unwrap();
        assert_eq!(peer.spiffe.as_ref(), Some(identity.spiffe()));
        assert_eq!(peer.key_sha256, Some(identity.key_sha256()));
        assert_eq!(peer.serial, Some(identity.serial()));
        assert_eq!(peer.not_after, Some(identity.not_after()));
    }
}

#[tokio::test]
async fn a_certificate_that_breaks_any_rule_is_refused() {
    let house = House::new();
    let server = Server::for_role(&house, Role::Agent);
    let ca = house.ca(Role::Agent);
    let good = || Recipe::of(Role::Agent, "it-1");
    let uri = |text: &str| foundry::uri(text);
    use rcgen::ExtendedKeyUsagePurpose as Eku;

    let mut abuses: Vec<(String, Recipe)> = vec![
        ("expired".into(), good().lasting(-7200, -3600)),
        ("not valid yet".into(), good().lasting(3600, 7200)),
        (
            "another trust domain".into(),
            good().named(vec![uri("spiffe://elsewhere/agent/it-1")]),
        ),
        (
            "two URI names".into(),
            good().named(vec![
                uri("spiffe://cordon.test/agent/a"),
                uri("spiffe://cordon.test/agent/b"),
            ]),
        ),
        (
            "the same name twice".into(),
            good().named(vec![
                uri("spiffe://cordon.test/agent/a"),
                uri("spiffe://cordon.test/agent/a"),
            ]),
        ),
        (
            "a URI and a DNS name".into(),
            good().named(vec![
                uri("spiffe://cordon.test/agent/a"),
                foundry::dns("agent.example"),
            ]),
        ),
        (
            "a DNS name only".into(),
            good().named(vec![foundry::dns("cordon.test")]),
        ),
        ("a common name only".into(), good().named(vec![])),
        (
            "CA:TRUE".into(),
            Recipe {
                is_ca: true,
                ..good()
            },
        ),
        (
            "for servers only".into(),
            good().for_purposes(vec![Eku::ServerAuth]),
        ),
        (
            "for code signing".into(),
            good().for_purposes(vec![Eku::CodeSigning]),
        ),
        ("for any purpose".into(), good().for_purposes(vec![Eku::Any])),
        ("for no purpose".into(), good().for_purposes(vec![])),
        (
            "P-384".into(),
            Recipe {
                algorithm: &rcgen::PKCS_ECDSA_P384_SHA384,
                ..good()
            },
        ),
        (
            "Ed25519".into(),
            Recipe {
                algorithm: &rcgen::PKCS_ED25519,
                ..good()
            },
        ),
    ];
    for name in [
        "spiffe://cordon.test/agent",
        "spiffe://cordon.test/agent/",
        "spiffe://cordon.test/agent/a/b",
        "spiffe://cordon.test/agent/A",
        "spiffe://cordon.test/agent/a%61",
        "spiffe://cordon.test/agent/a?b",
        "spiffe://cordon.test/agents/a",
        "spiffe://cordon.test:7401/agent/a",
        "spiffe://CORDON.test/agent/a",
        "https://cordon.test/agent/a",
        "spiffe://cordon.test/ca/agent",
    ] {
        abuses.push((format!("the name {name}"), good().named(vec![uri(name)])));
    }
    for role in [Role::Operator, Role::Coordinator] {
        abuses.push((
            format!("our CA, but a name of the role {role}"),
            Recipe::of(role, "it-1"),
        ));
    }
    for (abuse, recipe) in abuses {
        let client = RudeClient::with(ca.sign(&recipe));
        assert!(!admitted(&server, &client).await, "{abuse} was admitted");
    }
    let client = RudeClient::with(ca.sign(&good()));
    assert!(
        admitted(&server, &client).await,
        "the recipes are broken: the good one was refused too"
    );
}

#[tokio::test]
async fn a_certificate_of_one_role_opens_no_other_port() {
    let house = House::new();
    for port in Role::ALL {
        let server = Server::for_role(&house, port);
        for role in Role::ALL {
            let client = RudeClient::showing(&house.ca(role).identity(&Recipe::of(role, "it-1")));
            assert_eq!(
                admitted(&server, &client).await,
                role == port,
                "{role} at the port for {port}"
            );
            // The other CA signing the port's own name is no better.
            if role != port {
                let client = RudeClient::with(house.ca(role).sign(&Recipe::of(port, "it-1")));
                assert!(
                    !admitted(&server, &client).await,
                    "{role} CA's {port} at the port for {port}"
                );
            }
        }
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let house = House::new();
    let server = Server::for_role(&house, Role::Agent);
    let recipe = Recipe::of(Role::Agent, "it-1");
    assert!(
        !admitted(&server, &RudeClient::anonymous()).await,
        "no certificate"
    );
    assert!(
        !admitted(&server, &RudeClient::with(Foundry::new().sign(&recipe))).await,
        "a foreign CA"
    );
    assert!(
        !admitted(&server, &RudeClient::with(foundry::self_signed(&recipe))).await,
        "self-signed"
    );

    // An agent that plays CA with its own certificate.
    let agent = house.ca(Role::Agent).as_signed_foundry(&recipe);
    let mut forged = agent.sign(&Recipe::of(Role::Agent, "it-2"));
    forged.chain.push(agent.certificate());
    assert!(
        !admitted(&server, &RudeClient::with(forged)).await,
        "issued by an agent"
    );

    // A CA of the same name with another key.
    let mut padded = house.ca(Role::Agent).sign(&recipe);
    for _ in 0..3 {
        padded.chain.push(Foundry::new().certificate());
    }
    assert!(
        !admitted(&server, &RudeClient::with(padded)).await,
        "a chain of four"
    );
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let house = House::new();
    let server = Server::for_role(&house, Role::Agent);
    let identity = house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, "it-1"));
    for protocols in [vec![], vec![b"http/1.1".to_vec()], vec![b"h3".to_vec()]] {
        let client = RudeClient::showing(&identity).speaking(protocols.clone());
        assert!(!admitted(&server, &client).await, "{protocols:?}");
    }
}

#[tokio::test]
async fn tls_1_2_and_garbage_get_an_end() {
    let house = House::new();
    let server = Server::for_role(&house, Role::Agent);
    // A TLS 1.2 ClientHello: version 3.3, one suite (ECDHE-ECDSA-AES128-GCM-SHA256), no supported_versions.
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut hello = vec![22, 3, 1];
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.extend([1, 0, 0, body.len() as u8]);
    hello.extend(body);

    let answer = raw_exchange(&server.endpoint, &hello).await;
    // A fatal alert, `protocol_version` (70): TLS record type 21.
    assert_eq!(
        (answer.first(), answer.last()),
        (Some(&21), Some(&70)),
        "{answer:?}"
    );

    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 600],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[22, 3, 1, 0xff, 0xff],
    ] {
        // What matters is that the exchange ends, without the byte of the admitted.
        assert_ne!(raw_exchange(&server.endpoint, garbage).await, b"!");
    }
    let client = RudeClient::showing(&house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, "it-1")));
    assert!(admitted(&server, &client).await, "the listener did not survive");
}

/// Sends, ends the sending side, and reads until the server ends too.
async fn raw_exchange(endpoint: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(endpoint).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let house = House::new();
    let limits = Limits {
        handshake: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Server::start(house.server_tls(Role::Agent), limits);
    let mut stream = TcpStream::connect(&server.endpoint).await.unwrap();
    // Nothing is sent; only the server can end this.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn pending_handshakes_are_bounded() {
    let house = House::new();
    let limits = Limits {
        handshake: Duration::from_secs(600),
        pending_max: 2,
    };
    let server = Server::start(house.server_tls(Role::Agent), limits);
    let silent = [
        TcpStream::connect(&server.endpoint).await.unwrap(),
        TcpStream::connect(&server.endpoint).await.unwrap(),
    ];
    let client = RudeClient::showing(&house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, "it-1")));
    let third = admitted(&server, &client);
    tokio::pin!(third);
    // Should the machine be so slow that this says nothing, the test still passes: it cannot fail by chance.
    assert!(
        tokio::time::timeout(Duration::from_millis(200), &mut third)
            .await
            .is_err(),
        "a third was served"
    );
    drop(silent);
    assert!(third.await, "the place was not given back");
}

#[tokio::test]
async fn no_ticket_is_given_and_nothing_resumes() {
    let house = House::new();
    let server = Server::for_role(&house, Role::Agent);
    let client =
        RudeClient::showing(&house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, "it-1"))).resuming();
    for _ in 0..3 {
        let (kind, tickets) = client.handshake_kind_and_tickets(&server.endpoint).await;
        assert_eq!((kind, tickets), (Some(HandshakeKind::Full), 0));
    }
}

#[tokio::test]
async fn a_revoked_client_is_refused_by_name_and_told_so() {
    let house = House::new();
    let identity = house
        .ca(Role::Coordinator)
        .identity(&Recipe::of(Role::Coordinator, "c1"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let tls = ServerTls::with_denial(
        identity,
        Some(house.ca(Role::Agent).roots()),
        Some(Role::Agent),
        DOMAIN,
        Some(Arc::new(move |leaf| {
            count.fetch_add(1, Ordering::Relaxed);
            leaf.spiffe.id() == "gone"
        })),
    )
    .unwrap();
    let server = Server::start(tls, Limits::default());
    for (id, welcome) in [("gone", false), ("here", true)] {
        let client = RudeClient::showing(&house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, id)));
        assert_eq!(admitted(&server, &client).await, welcome, "{id}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);

    let gone = house.ca(Role::Agent).identity(&Recipe::of(Role::Agent, "gone"));
    let tls = ClientTls::new(Some(gone), &house.ca(Role::Coordinator).roots(), DOMAIN).unwrap();
    let options = ConnectOptions::default();
    let mut stream = dial(&server.endpoint, &tls, Role::Coordinator, &options)
        .await
        .unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert!(
        certs::tls::explain(&error).unwrap().contains("revoked"),
        "{error}"
    );
}

#[tokio::test]
async fn the_enrolment_listener_asks_for_nothing() {
    let house = House::new();
    let identity = house
        .ca(Role::Coordinator)
        .identity(&Recipe::of(Role::Coordinator, "c1"));
    assert!(
        ServerTls::new(identity.clone(), None, Some(Role::Agent), DOMAIN).is_err(),
        "half a trust"
    );
    let mut server = Server::start(
        ServerTls::new(identity, None, None, DOMAIN).unwrap(),
        Limits::default(),
    );
    assert!(admitted(&server, &RudeClient::anonymous()).await);
    assert!(server.peers.recv().await.unwrap().spiffe.is_none());
}

/// Dials a server that shows this recipe, issued by this CA, and returns what became of it.
async fn dial_server(
    house: &House,
    ca: &Foundry,
    recipe: &Recipe,
    tls: &ClientTls,
) -> Result<(), ConnectError> {
    let server = foundry::rude_server(ca.sign(recipe)).await;
    let _ = house;
    dial(&server, tls, Role::Coordinator, &ConnectOptions::default())
        .await
        .map(|_| ())
}

#[tokio::test]
async fn a_server_that_breaks_any_rule_is_refused() {
    let house = House::new();
    let ca = house.ca(Role::Coordinator);
    let tls = ClientTls::new(None, &ca.roots(), DOMAIN).unwrap();
    let good = Recipe::of(Role::Coordinator, "c1");
    dial_server(&house, ca, &good, &tls).await.unwrap();

    let foreign = Foundry::new();
    let both = || Recipe::of(Role::Coordinator, "c1");
    for (abuse, ca, recipe) in [
        ("an agent's name", ca, Recipe::of(Role::Agent, "c1")),
        ("a foreign CA", &foreign, both()),
        ("the agents' CA", house.ca(Role::Agent), both()),
        ("expired", ca, both().lasting(-7200, -3600)),
        ("not valid yet", ca, both().lasting(3600, 7200)),
        (
            "another trust domain",
            ca,
            both().named(vec![foundry::uri("spiffe://elsewhere/coordinator/c1")]),
        ),
        ("a DNS name", ca, both().named(vec![foundry::dns("127.0.0.1")])),
        (
            "for clients only",
            ca,
            both().for_purposes(vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]),
        ),
        (
            "CA:TRUE",
            ca,
            Recipe {
                is_ca: true,
                ..both()
            },
        ),
    ] {
        let refusal = dial_server(&house, ca, &recipe, &tls).await;
        let Err(refusal) = refusal else {
            panic!("{abuse} was believed")
        };
        assert!(
            matches!(refusal, ConnectError::Tls { .. }) && !refusal.is_transient(),
            "{abuse}: {refusal}"
        );
    }

    let server = foundry::rude_server(ca.sign(&good)).await;
    let options = ConnectOptions {
        expect_id: Some("c2".into()),
        ..ConnectOptions::default()
    };
    let refusal = dial(&server, &tls, Role::Coordinator, &options)
        .await
        .unwrap_err();
    assert!(matches!(refusal, ConnectError::Id { .. }), "{refusal}");
}

#[tokio::test]
async fn a_pin_admits_one_ca_key_only() {
    let house = House::new();
    let ca = house.ca(Role::Coordinator);
    let good = Recipe::of(Role::Coordinator, "c1");
    let tls = ClientTls::pinned(ca.roots().pin()).unwrap();

    let mut with_ca = ca.sign(&good);
    with_ca.chain.push(ca.certificate());
    let server = foundry::rude_server(with_ca).await;
    dial(&server, &tls, Role::Coordinator, &ConnectOptions::default())
        .await
        .unwrap();

    let other = Foundry::new();
    let mut foreign = other.sign(&good);
    foreign.chain.push(other.certificate());
    // The pinned CA is shown, but it did not sign the leaf.
    let mut borrowed = other.sign(&good);
    borrowed.chain.push(ca.certificate());
    let mut agent = ca.sign(&Recipe::of(Role::Agent, "a"));
    agent.chain.push(ca.certificate());
    let alone = ca.sign(&good);
    for (abuse, shown) in [
        ("another CA", foreign),
        ("a borrowed CA", borrowed),
        ("an agent", agent),
        ("the leaf alone", alone),
    ] {
        let server = foundry::rude_server(shown).await;
        let refusal = dial(&server, &tls, Role::Coordinator, &ConnectOptions::default()).await;
        assert!(matches!(refusal, Err(ConnectError::Tls { .. })), "{abuse}");
    }
}

#[tokio::test]
async fn a_replaced_identity_is_shown_without_a_restart() {
    let house = House::new();
    let ca = house.ca(Role::Agent);
    let mut server = Server::for_role(&house, Role::Agent);
    let first = ca.identity(&Recipe::of(Role::Agent, "it-1"));
    let second = ca.identity(&Recipe::of(Role::Agent, "it-1"));
    let tls = ClientTls::new(Some(first.clone()), &house.ca(Role::Coordinator).roots(), DOMAIN).unwrap();
    for identity in [first, second] {
        tls.replace(&identity);
        let stream = dial(
            &server.endpoint,
            &tls,
            Role::Coordinator,
            &ConnectOptions::default(),
        )
        .await
        .unwrap();
        assert_eq!(
            server.peers.recv().await.unwrap().key_sha256,
            Some(identity.key_sha256())
        );
        drop(stream);
    }
}

#[tokio::test]
async fn what_is_no_endpoint_says_so() {
    let tls = ClientTls::pinned([0; 32]).unwrap();
    for endpoint in ["", "host", ":7400", "host:", "host:99999", "https://host:7400/x"] {
        let refusal = dial(endpoint, &tls, Role::Coordinator, &ConnectOptions::default()).await;
        assert!(refusal.is_err(), "{endpoint}");
    }
}
