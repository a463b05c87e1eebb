//! Named connections to other systems, and what is done over them: calls, which the leader carries out.
//!
//! A playbook names a connection, never an address or a secret. Addresses and the files of the secrets are in each
//! coordinator's configuration, because any of them may lead. A secret is read when it is used, so that it can be
//! changed without a restart, and is never logged, reported or part of an error.
//!
//! Absent on purpose: redirects (they would carry the secret elsewhere), proxies of the environment, cookies.

mod http;
mod notify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::files::{self, FileError};
use engine::Assignment;
use engine::command::{Outcome, OutcomeStatus, TaskError};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;

/// The connection itself must stand within this time; the whole call has its task's.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// One connection, as it is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionConfig {
    /// What paths are beneath: `https://host:port/base`, without a query.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// With `password_file`: sent as `Authorization: Basic`.
    #[serde(default)]
    pub user: Option<String>,
    /// See `user`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A header that holds the secret of `header_file`, such as `X-Api-Key`.
    #[serde(default)]
    pub header: Option<String>,
    /// See `header`.
    #[serde(default)]
    pub header_file: Option<PathBuf>,
    /// Certificates of the authorities that the other side may be of, PEM. None: those of this system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Lets `http://` be used to another machine than this one: everybody between can read and change it.
    #[serde(default)]
    pub allow_plain: bool,
}

/// A connection that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// One of its files.
    #[error("connection {name}: {error}")]
    File {
        /// Which connection.
        name: String,
        /// What is wrong, and how to mend it.
        error: FileError,
    },
    /// Anything else.
    #[error("connection {name}: {what}")]
    Invalid {
        /// Which connection.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// All connections of a node.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    by_name: Arc<BTreeMap<String, Connection>>,
}

#[derive(Debug)]
struct Connection {
    name: String,
    url: Url,
    secret: Secret,
    client: Client,
}

/// What is sent to be let in.
#[derive(Debug)]
enum Secret {
    None,
    Bearer(PathBuf),
    Basic { user: String, password: PathBuf },
    Header { name: HeaderName, value: PathBuf },
}

impl Connections {
    /// Builds the clients, and reads every secret once, so that what is missing is told at the start.
    pub fn load(
        home: &Path,
        configured: &BTreeMap<String, ConnectionConfig>,
    ) -> Result<Connections, ConnectionError> {
        let mut by_name = BTreeMap::new();
        for (name, config) in configured {
            let connection = Connection::new(home, name, config)?;
            connection.secret.header().map_err(|why| why.of(name))?;
            by_name.insert(name.clone(), connection);
        }
        Ok(Connections {
            by_name: Arc::new(by_name),
        })
    }

    /// Carries a call out. The future may be dropped at any time: the call is then broken off where it is.
    pub async fn call(&self, call: &Assignment, idempotency_key: &str) -> Outcome {
        let parameters: Value = match serde_json::from_str(&call.parameters) {
            Ok(parameters) => parameters,
            Err(error) => return failed("parameters", error.to_string()),
        };
        match call.action.as_str() {
            engine::NOTIFY => notify::send(self, &parameters, idempotency_key).await,
            "http.call" => http::call(self, &parameters, idempotency_key).await,
            other => failed(
                catalogue::NOT_IMPLEMENTED,
                format!("this version of the coordinator cannot carry out {other}"),
            ),
        }
    }

    fn get(&self, name: &str) -> Result<&Connection, Box<Outcome>> {
        self.by_name.get(name).ok_or_else(|| {
            Box::new(failed(
                "no_connection",
                format!(
                    "the leader has no connection {name:?}; add [connections.{name}] to every coordinator.toml"
                ),
            ))
        })
    }
}

impl Connection {
    fn new(home: &Path, name: &str, config: &ConnectionConfig) -> Result<Connection, ConnectionError> {
        let invalid = |what: String| ConnectionError::Invalid {
            name: name.to_owned(),
            what,
        };
        let url = check(config).map_err(invalid)?;
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .https_only(url.scheme() == "https")
            .user_agent(concat!("cordon/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &config.ca_file {
            let pem = files::read_public(&home.join(file)).map_err(|error| ConnectionError::File {
                name: name.to_owned(),
                error,
            })?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| invalid(format!("ca_file {}: {error}", file.display())))?;
            if roots.is_empty() {
                return Err(invalid(format!(
                    "ca_file {} holds no certificate",
                    file.display()
                )));
            }
            builder = builder.tls_certs_only(roots);
        }
        let secret = match config {
            ConnectionConfig {
                token_file: Some(file),
                ..
            } => Secret::Bearer(home.join(file)),
            ConnectionConfig {
                user: Some(user),
                password_file: Some(file),
                ..
            } => Secret::Basic {
                user: user.clone(),
                password: home.join(file),
            },
            ConnectionConfig {
                header: Some(header),
                header_file: Some(file),
                ..
            } => Secret::Header {
                name: header
                    .parse()
                    .map_err(|_| invalid(format!("{header:?} is no name of a header")))?,
                value: home.join(file),
            },
            _ => Secret::None,
        };
        Ok(Connection {
            name: name.to_owned(),
            url,
            secret,
            client: builder
                .build()
                .map_err(|error| invalid(format!("no client can be made: {error}")))?,
        })
    }
}

/// What is wrong with a connection's own values; its address otherwise.
pub(crate) fn check(config: &ConnectionConfig) -> Result<Url, String> {
    let url = Url::parse(&config.url).map_err(|error| format!("{:?} is no URL: {error}", config.url))?;
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("the url has no query, no fragment, no user and no password".to_owned());
    }
    let local = match url.host() {
        None => return Err("the url has no host".to_owned()),
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if local || config.allow_plain => {}
        "http" => {
            return Err(
                "http:// to another machine can be read and changed by everybody between; use https://, or say allow_plain = true"
                    .to_owned(),
            );
        }
        other => return Err(format!("{other}:// is neither https:// nor http://")),
    }
    if config.user.is_some() != config.password_file.is_some() {
        return Err("user and password_file go together".to_owned());
    }
    if config.header.is_some() != config.header_file.is_some() {
        return Err("header and header_file go together".to_owned());
    }
    let secrets = [&config.token_file, &config.password_file, &config.header_file];
    if secrets.iter().filter(|file| file.is_some()).count() > 1 {
        return Err(
            "a connection has one secret: token_file, or user and password_file, or header and header_file"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Why a secret cannot be sent.
enum NoSecret {
    File(FileError),
    Content(PathBuf),
}

impl NoSecret {
    fn of(self, name: &str) -> ConnectionError {
        let name = name.to_owned();
        match self {
            NoSecret::File(error) => ConnectionError::File { name, error },
            NoSecret::Content(file) => ConnectionError::Invalid {
                name,
                what: format!("{} holds what no header can hold", file.display()),
            },
        }
    }
}

impl Secret {
    /// The header that lets in.
    fn header(&self) -> Result<Option<(HeaderName, HeaderValue)>, NoSecret> {
        use base64::Engine as _;
        let read = |file: &Path| {
            let secret = files::read_secret(file).map_err(NoSecret::File)?;
            String::from_utf8(secret.to_vec())
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|_| NoSecret::Content(file.to_owned()))
        };
        let (name, text, file) = match self {
            Secret::None => return Ok(None),
            Secret::Bearer(file) => (AUTHORIZATION, format!("Bearer {}", read(file)?), file),
            Secret::Basic { user, password } => {
                let pair = format!("{user}:{}", read(password)?);
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                (AUTHORIZATION, format!("Basic {encoded}"), password)
            }
            Secret::Header { name, value } => (name.clone(), read(value)?, value),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| NoSecret::Content(file.clone()))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

fn failed(code: &str, message: impl Into<String>) -> Outcome {
    ended(OutcomeStatus::Failed, code, message)
}

fn unknown(code: &str, message: impl Into<String>) -> Outcome {
    ended(OutcomeStatus::Unknown, code, message)
}

fn ended(status: OutcomeStatus, code: &str, message: impl Into<String>) -> Outcome {
    Outcome {
        status,
        output: Value::Null,
        error: Some(TaskError {
            code: code.to_owned(),
            message: message.into(),
        }),
    }
}
