//! Agents on machines of a world.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Cluster, Launch, Machine, OperatorClient, World, WorldError};

/// The hidden argument under which this executable is an agent.
pub const AGENT_ARGUMENT: &str = "__agent";
/// How long an agent may take to be ready, and a command of it to end.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long an agent may take to be seen by the cluster.
const ONLINE_MAX: Duration = Duration::from_secs(60);
/// The name of its process on its machine.
const PROCESS: &str = "agent";

/// An agent on a machine of its own, with a disk of its own.
pub struct AgentProcess {
    id: String,
    pub machine: Machine,
    config: PathBuf,
    /// Its disk, as this process sees it.
    pub disk_outside: PathBuf,
    /// Its disk, as the machine sees it.
    pub disk: PathBuf,
}

/// One line of an agent's journal, as `cordon-agent journal --json` prints it.
#[derive(Debug, Clone, Deserialize)]
pub struct JournalLine {
    pub run_id: String,
    pub step: String,
    pub item: u32,
    pub attempt: u32,
    pub token: u64,
    #[serde(default)]
    pub action: String,
    /// `intent`, `outcome`, `acknowledged`.
    pub record: String,
    #[serde(default)]
    pub status: Option<String>,
}

impl AgentProcess {
    /// Makes its machine, disk and configuration. `extra` is added to the configuration file.
    pub async fn prepare(
        world: &mut World,
        cluster: &Cluster,
        id: &str,
        extra: &str,
    ) -> Result<AgentProcess, WorldError> {
        let machine = world.machine(id).await?;
        let home = world.folder().join("agents").join(id);
        let disk_outside = world.folder().join("hosts").join(id);
        for path in [&home, &disk_outside] {
            std::fs::create_dir_all(path).map_err(|source| WorldError::File {
                path: path.clone(),
                source,
            })?;
        }
        let real = world.reality().is_real();
        let disk = if real {
            machine.bind(&disk_outside, &world.disk()).await?;
            world.disk()
        } else {
            disk_outside.clone()
        };
        let text = configuration(&home, &cluster.agent_endpoints(), real, &disk)? + extra;
        let config = home.join("agent.toml");
        write_private(&config, &text)?;
        Ok(AgentProcess {
            id: id.to_owned(),
            machine,
            config,
            disk_outside,
            disk,
        })
    }

    /// Its id, which is also its host's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Enrols with a fresh token through the enrolment port of the cluster's first node.
    pub async fn enroll(&self, cluster: &Cluster, operator: &OperatorClient) -> Result<(), WorldError> {
        let token = operator.create_token(&self.id).await?;
        let endpoint = cluster.nodes[0].enroll_endpoint();
        let config = self.config.to_string_lossy();
        let arguments = [
            AGENT_ARGUMENT,
            "enroll",
            "--config",
            &config,
            "--token",
            &token.token,
            "--ca-sha256",
            &token.ca_sha256,
            "--endpoint",
            &endpoint,
            "--hostname",
            &self.id,
        ];
        let output = self.machine.run(Launch::own(arguments), READY_MAX).await?;
        if output.exit.code == Some(0) {
            return Ok(());
        }
        Err(self.problem(format!(
            "cannot enrol ({}): {}",
            output.exit,
            output.stderr.trim()
        )))
    }

    /// Starts its process and waits until it is ready.
    pub async fn start(&self) -> Result<(), WorldError> {
        self.start_with(|launch| launch).await?;
        self.machine.ready(PROCESS, READY_MAX).await.map(drop)
    }

    /// Starts its process with something changed about it, and waits for nothing.
    pub async fn start_with(&self, change: impl FnOnce(Launch) -> Launch) -> Result<(), WorldError> {
        let launch = Launch::own([AGENT_ARGUMENT, "run", "--config", &self.config.to_string_lossy()]);
        self.machine.spawn(PROCESS, change(launch)).await.map(drop)
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<(), WorldError> {
        self.machine.kill(PROCESS).await
    }

    /// Waits until its process has ended by itself.
    pub async fn exited(&self, within: Duration) -> Result<super::Exit, WorldError> {
        self.machine.wait(PROCESS, within).await
    }

    /// The id of its process, by the machine's own count.
    pub fn pid(&self) -> Option<u32> {
        self.machine.pid(PROCESS)
    }

    /// Where it logs to.
    pub fn log(&self) -> PathBuf {
        self.machine.log_path(PROCESS)
    }

    /// What it did, as its journal has it.
    pub async fn journal(&self) -> Result<Vec<JournalLine>, WorldError> {
        let config = self.config.to_string_lossy();
        let launch = Launch::own([AGENT_ARGUMENT, "journal", "--config", &config, "--json"]);
        let output = self.machine.run(launch, READY_MAX).await?;
        if output.exit.code != Some(0) {
            return Err(self.problem(format!("cannot read its journal: {}", output.stderr.trim())));
        }
        output
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|error| {
                    self.problem(format!(
                        "its journal has a line that is not understood ({error}): {line}"
                    ))
                })
            })
            .collect()
    }

    /// Ends everything on its machine and waits until it is gone.
    pub async fn shut_down(self) -> Result<(), WorldError> {
        self.machine.shut_down().await
    }

    fn problem(&self, what: String) -> WorldError {
        WorldError::Machine {
            machine: self.id.clone(),
            what,
        }
    }
}

/// Waits until the cluster sees all of these agents online.
pub async fn all_online(operator: &OperatorClient, agents: &[AgentProcess]) -> Result<(), WorldError> {
    super::level("all agents online", ONLINE_MAX, async || {
        let seen = operator.agents().await?;
        let missing: Vec<&str> = agents
            .iter()
            .map(AgentProcess::id)
            .filter(|id| !seen.iter().any(|agent| agent.id == **id && agent.online))
            .collect();
        Ok(if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("offline: {}", missing.join(", ")))
        })
    })
    .await
}

/// Outside of namespaces the agent must not touch the computer's firewall, and must see its own disk only.
fn configuration(
    home: &Path,
    coordinators: &[String],
    real: bool,
    disk: &Path,
) -> Result<String, WorldError> {
    #[derive(serde::Serialize)]
    struct File<'a> {
        state_dir: PathBuf,
        coordinators: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        isolation: Option<Isolation>,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Policy<'a>>,
    }
    #[derive(serde::Serialize)]
    struct Isolation {
        mode: &'static str,
    }
    #[derive(serde::Serialize)]
    struct Policy<'a> {
        mode: &'static str,
        roots: [&'a Path; 1],
    }
    let file = File {
        state_dir: home.join("state"),
        coordinators,
        isolation: (!real).then_some(Isolation { mode: "check" }),
        policy: (!real).then_some(Policy {
            mode: "full",
            roots: [disk],
        }),
    };
    toml::to_string(&file).map_err(|error| WorldError::Machine {
        machine: home.display().to_string(),
        what: format!("its configuration cannot be written: {error}"),
    })
}

fn write_private(path: &Path, text: &str) -> Result<(), WorldError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let written = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| WorldError::File {
        path: path.to_owned(),
        source,
    })
}
