//! `agent.toml`, and the checks that are made before anything is believed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use catalogue::RunsOn;
use serde::Deserialize;

use crate::actions::IsolationMode;
use crate::guard::{Mode, Policy};

/// The file in the state folder that enrolment leaves for agents whose `agent.toml` names no coordinators.
const COORDINATORS_FILE: &str = "coordinators";

/// An agent's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's own folder, 0700.
    pub state_dir: PathBuf,
    /// host:port of the coordinators' agent listeners. May be empty before enrolment.
    pub coordinators: Vec<String>,
    /// What this host allows.
    pub policy: Policy,
    /// Whether isolation is real here.
    pub isolation: IsolationMode,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}. Give the right file with --config", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could change it.
    #[error(
        "{0} could be changed by others (mode {mode:04o}, owner {owner}): the policy of this host is in it. \
         Mend it with: chown root {0} && chmod go-w {0}", path.display()
    )]
    Loose {
        /// Which.
        path: PathBuf,
        /// As it is.
        mode: u32,
        /// As it is.
        owner: u32,
    },
    /// It is no valid TOML, or has a wrong key.
    #[error(
        "{}: {problem}\nCorrect it (docs/configuration.md lists the keys); `cordon-agent check --config FILE` tries again",
        path.display()
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What, with line and column.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    state_dir: PathBuf,
    #[serde(default)]
    coordinators: Vec<String>,
    #[serde(default)]
    policy: RawPolicy,
    #[serde(default)]
    isolation: RawIsolation,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    mode: Mode,
    actions: Option<Vec<String>>,
    #[serde(default)]
    roots: Vec<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIsolation {
    #[serde(default)]
    mode: RawIsolationMode,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawIsolationMode {
    #[default]
    Enforce,
    Check,
}

impl Config {
    /// Reads and checks the file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let meta = std::fs::metadata(path).map_err(read)?;
        let own = rustix::process::geteuid().as_raw();
        if meta.mode() & 0o022 != 0 || (meta.uid() != 0 && meta.uid() != own) {
            let mode = meta.mode() & 0o7777;
            return Err(ConfigError::Loose {
                path: path.to_owned(),
                mode,
                owner: meta.uid(),
            });
        }
        let content = |problem: String| ConfigError::Content {
            path: path.to_owned(),
            problem,
        };
        let raw: Raw =
            toml::from_str(&text).map_err(|error| content(error.to_string().trim_end().to_owned()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let state_dir = std::path::absolute(folder.join(&raw.state_dir)).map_err(read)?;
        for endpoint in &raw.coordinators {
            check_endpoint(endpoint).map_err(content)?;
        }
        if let Some(relative) = raw.policy.roots.iter().find(|root| !root.is_absolute()) {
            return Err(content(format!(
                "policy.roots: {} is not an absolute path",
                relative.display()
            )));
        }
        if let Some(unknown) = raw
            .policy
            .actions
            .iter()
            .flatten()
            .find(|action| catalogue::find(action).is_none_or(|known| known.runs_on != RunsOn::Agent))
        {
            let names: Vec<&str> = catalogue::all()
                .iter()
                .filter(|action| action.runs_on == RunsOn::Agent)
                .map(|action| action.name)
                .collect();
            let names = names.join(", ");
            return Err(content(format!(
                "policy.actions: agents have no action {unknown:?}; they have {names}"
            )));
        }
        let mut coordinators = raw.coordinators;
        if coordinators.is_empty() {
            coordinators = enrolled_coordinators(&state_dir);
        }
        Ok(Config {
            state_dir,
            coordinators,
            policy: Policy {
                mode: raw.policy.mode,
                actions: raw.policy.actions,
                roots: raw.policy.roots,
            },
            isolation: match raw.isolation.mode {
                RawIsolationMode::Enforce => IsolationMode::Enforce,
                RawIsolationMode::Check => IsolationMode::Check,
            },
        })
    }

    /// The folder of the agent's key and chain.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    /// The CAs of the coordinators.
    pub fn roots_file(&self) -> PathBuf {
        self.state_dir.join("roots").join("coordinator.pem")
    }

    /// The journal's folder.
    pub fn journal_dir(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    /// What enrolment writes the coordinators' endpoints to, one a line.
    pub fn coordinators_file(&self) -> PathBuf {
        self.state_dir.join(COORDINATORS_FILE)
    }
}

/// `host:port`, or why not.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let valid = endpoint
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    if valid {
        Ok(())
    } else {
        Err(format!(
            "{endpoint:?} is no endpoint: write host:port, e.g. \"10.0.0.1:7401\""
        ))
    }
}

fn enrolled_coordinators(state_dir: &Path) -> Vec<String> {
    // Without the file the agent has not been enrolled, which `run` says.
    let text = std::fs::read_to_string(state_dir.join(COORDINATORS_FILE)).unwrap_or_default();
    text.lines()
        .filter(|line| check_endpoint(line).is_ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn a_whole_file_is_understood() {
        let config = load(
            "state_dir = \"state\"\ncoordinators = [\"c1:7401\", \"[fd00::1]:7401\"]\n\
             [policy]\nmode = \"observe-only\"\nactions = [\"host.info\"]\nroots = [\"/srv\"]\n\
             [isolation]\nmode = \"check\"\n",
        )
        .unwrap();
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
        assert_eq!(
            (config.policy.mode, config.isolation),
            (Mode::ObserveOnly, IsolationMode::Check)
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, says) in [
            ("state_dir = \"s\"\nstate = 1\n", "line 2"),
            ("state_dir = \"s\"\ncoordinators = [\"c1\"]\n", "host:port"),
            ("state_dir = \"s\"\n[policy]\nroots = [\"srv\"]\n", "absolute"),
            (
                "state_dir = \"s\"\n[policy]\nactions = [\"host.nuke\"]\n",
                "host.nuke",
            ),
            ("state_dir = \"s\"\n[policy]\nmode = \"all\"\n", "observe-only"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
