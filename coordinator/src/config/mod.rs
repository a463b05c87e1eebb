//! `coordinator.toml`: read whole, checked whole, every problem told with its line and its cure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::command::NodeInfo;
use engine::id::NodeId;
use serde::Deserialize;
use toml::Spanned;

use self::check::Check;
use crate::connect::ConnectionConfig;
use crate::storage::DiskLimits;

mod check;

/// A checked configuration. Every path in it is absolute or relative to the working directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that holds `identity/`, `roots/` and `issuers/`: the one of the configuration file.
    pub home: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// This node's raft id.
    pub node: NodeId,
    /// This node's name, as in its certificate.
    pub name: String,
    /// Starts with an empty raft configuration and waits to be added as a learner.
    pub join: bool,
    /// The cluster's id.
    pub cluster: uuid::Uuid,
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// The members at the first start; afterwards the replicated address book counts.
    pub members: Vec<NodeInfo>,
    /// Where to listen.
    pub listen: Listen,
    /// Raft's clockwork.
    pub raft: Raft,
    /// What agents are told, and how their sessions are bounded.
    pub agents: Agents,
    /// Bounds of evidence.
    pub evidence: Evidence,
    /// What is refused on a disk that is almost full.
    pub disk: DiskLimits,
    /// How the leader begins its term.
    pub leader: Leader,
    /// Other systems, by the names that playbooks use.
    pub connections: BTreeMap<String, ConnectionConfig>,
}

/// The four listeners, one per role (R1).
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Operators.
    pub operator: SocketAddr,
    /// Agents.
    pub agent: SocketAddr,
    /// The other coordinators.
    pub peer: SocketAddr,
    /// Enrolment.
    pub enroll: SocketAddr,
}

/// Raft's clockwork: the election timeout is `tick_ms * election_ticks`, drawn up to twice that.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Length of a tick.
    pub tick_ms: u64,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
}

/// What agents are told, and how their sessions are bounded.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// How often an agent gives a sign of life.
    pub heartbeat_ms: u64,
    /// Without word from the other side for this long, an agent goes elsewhere and a node closes the session.
    pub lease_ms: u64,
    /// A node without word from a leader for this long sends its agents elsewhere.
    pub leaderless_ms: u64,
}

/// Bounds of evidence.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// No single piece is larger, whatever a task allows.
    pub size_bytes_max: u64,
}

/// How a leader begins its term.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leader {
    /// How long a new leader listens to what agents say they are running before it dispatches. Short:
    /// sessions live on every node and outlive the leader, so it only spares needless retries.
    pub grace_ms: u64,
    /// Sessions of a node that is not heard of for this long are closed in its name.
    pub node_lost_ms: u64,
}

impl Default for Raft {
    fn default() -> Self {
        Raft {
            tick_ms: 50,
            election_ticks: 10,
            heartbeat_ticks: 2,
        }
    }
}

impl Default for Agents {
    fn default() -> Self {
        Agents {
            heartbeat_ms: 5_000,
            lease_ms: 15_000,
            leaderless_ms: 5_000,
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence {
            size_bytes_max: 16 << 30,
        }
    }
}

impl Default for Leader {
    fn default() -> Self {
        Leader {
            grace_ms: 200,
            node_lost_ms: 5_000,
        }
    }
}

/// A configuration that cannot be used: all that is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}\n  mend: give the path of a coordinator.toml with --config; `cordon init` writes one per node", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of the right shape.
    #[error("{}: {message}\n  mend: correct the line shown; docs/configuration.md lists the keys, and `cordon-coordinator check --config FILE` tries again", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// With line, column and excerpt.
        message: String,
    },
    /// The values do not make sense.
    #[error("{}", Problems(file, problems))]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// All of them, by line.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// Which key.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Config::parse(file, &text)
    }

    /// Checks the text of a file.
    pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            file: file.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let mut check = Check {
            text,
            problems: Vec::new(),
        };
        let home = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let config = check.config(home, raw);
        match config {
            Some(config) if check.problems.is_empty() => Ok(config),
            _ => {
                check.problems.sort();
                Err(ConfigError::Invalid {
                    file: file.to_owned(),
                    problems: check.problems,
                })
            }
        }
    }

    /// This node, as the address book has it at the first start.
    pub fn this_member(&self) -> Option<&NodeInfo> {
        self.members.iter().find(|member| member.node == self.node)
    }

    /// One election timeout.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.raft.tick_ms * self.raft.election_ticks as u64)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default = "default_data")]
    data: PathBuf,
    node: RawNode,
    cluster: RawCluster,
    listen: RawListen,
    #[serde(default)]
    raft: Option<Spanned<Raft>>,
    #[serde(default)]
    agents: Option<Spanned<Agents>>,
    #[serde(default)]
    evidence: Option<Spanned<RawEvidence>>,
    #[serde(default)]
    disk: Option<Spanned<DiskLimits>>,
    #[serde(default)]
    leader: Option<Spanned<Leader>>,
    #[serde(default)]
    connections: BTreeMap<String, Spanned<ConnectionConfig>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvidence {
    size_bytes_max: Option<u64>,
    /// Of earlier versions.
    free_percent_min: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    raft_id: Spanned<u64>,
    #[serde(default)]
    join: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    id: Spanned<String>,
    trust_domain: Spanned<String>,
    #[serde(default)]
    member: Vec<RawMember>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    raft_id: Spanned<u64>,
    name: Spanned<String>,
    peer: Spanned<String>,
    agent: Spanned<String>,
    operator: Spanned<String>,
    enroll: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    operator: Spanned<String>,
    agent: Spanned<String>,
    peer: Spanned<String>,
    enroll: Spanned<String>,
}

fn default_data() -> PathBuf {
    PathBuf::from("data")
}

/// Prints a file's problems, one after another.
struct Problems<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.1.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{}:{}: {}: {}\n  mend: {}",
                self.0.display(),
                problem.line,
                problem.key,
                problem.what,
                problem.mend
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"data = "data"
[node]
name = "c1"
raft_id = 1
[cluster]
id = "01926b7e-3c1a-7c3e-8f21-0a1b2c3d4e5f"
trust_domain = "cordon.internal"
[[cluster.member]]
raft_id = 1
name = "c1"
peer = "10.0.0.1:7402"
agent = "10.0.0.1:7401"
operator = "10.0.0.1:7400"
enroll = "10.0.0.1:7403"
[listen]
operator = "0.0.0.0:7400"
agent = "0.0.0.0:7401"
peer = "0.0.0.0:7402"
enroll = "0.0.0.0:7403"
"#;

    /// What is told of a file that differs from the good one in these replacements.
    fn problems(changes: &[(&str, &str)]) -> String {
        let text = changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from:?} is not in the good file");
            text.replacen(from, to, 1)
        });
        Config::parse(Path::new("/etc/cordon/coordinator.toml"), &text)
            .expect_err("this configuration must be refused")
            .to_string()
    }

    #[test]
    fn a_good_file_is_read_relative_to_its_folder() {
        let config = Config::parse(Path::new("/etc/cordon/coordinator.toml"), GOOD).unwrap();
        assert_eq!(config.data, Path::new("/etc/cordon/data"));
        assert_eq!(config.this_member().unwrap().agent_endpoint, "10.0.0.1:7401");
        assert_eq!(config.election_timeout(), Duration::from_millis(500));
    }

    #[test]
    fn a_wrong_key_is_shown_with_its_line() {
        insta::assert_snapshot!(problems(&[("raft_id = 1\n[cluster]", "raft_di = 1\n[cluster]")]));
    }

    #[test]
    fn every_bad_value_is_told_at_once() {
        insta::assert_snapshot!(problems(&[
            ("name = \"c1\"", "name = \"C1\""),
            ("01926b7e-3c1a-7c3e-8f21-0a1b2c3d4e5f", "my-cluster"),
            ("cordon.internal", "Cordon Internal"),
            ("10.0.0.1:7402", "https://10.0.0.1:7402"),
            ("0.0.0.0:7401", "7401"),
        ]));
    }

    #[test]
    fn contradictions_are_told() {
        insta::assert_snapshot!(problems(&[
            ("raft_id = 1\n[cluster]", "raft_id = 2\n[cluster]"),
            ("0.0.0.0:7401", "0.0.0.0:7400"),
            (
                "[listen]",
                "[raft]\nelection_ticks = 2\n[agents]\nlease_ms = 10\n[disk]\nruns_free_percent_min = 101\n[listen]"
            ),
        ]));
    }

    #[test]
    fn numbers_that_make_no_sense_are_told_on_their_own_lines() {
        insta::assert_snapshot!(problems(&[(
            "[listen]",
            "[agents]\nheartbeat_ms = 9223372036854775807\n# leaderless_ms = 1\nleaderless_ms = 0\n\
             [evidence]\nfree_percent_min = 10\nsize_bytes_max = 0\n\
             [disk]\nevidence_free_percent_min = 0\nruns_free_percent_min = 101\n\
             [leader]\ngrace_ms = 9223372036854775807\nnode_lost_ms = 0\n[listen]"
        )]));
    }

    #[test]
    fn a_section_in_one_line_is_told_on_it() {
        let told = problems(&[("[node]", "disk = {runs_free_percent_min = 101}\n[node]")]);
        assert!(
            told.starts_with("/etc/cordon/coordinator.toml:2: disk.runs"),
            "{told}"
        );
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = Config::load(Path::new("/nonexistent/coordinator.toml")).unwrap_err();
        insta::assert_snapshot!(error.to_string());
    }
}
