//! Looks at every value of a configuration and tells all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use engine::command::NodeInfo;
use engine::id::NodeId;
use toml::Spanned;

use super::{Agents, Config, Listen, Problem, Raft, RawConfig, RawListen, RawMember};
use crate::connect::ConnectionConfig;
use crate::storage::DiskLimits;

/// Collects problems; a value with a problem is None, so that the rest is still looked at.
pub(super) struct Check<'a> {
    pub(super) text: &'a str,
    pub(super) problems: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn config(&mut self, home: PathBuf, raw: RawConfig) -> Option<Config> {
        let name = self.name("node.name", &raw.node.name);
        let node = self.raft_id("node.raft_id", &raw.node.raft_id);
        let cluster = self.cluster_id(&raw.cluster.id);
        let trust_domain = self.trust_domain(&raw.cluster.trust_domain);
        let members: Vec<_> = raw
            .cluster
            .member
            .iter()
            .map(|member| self.member(member))
            .collect();
        self.membership(&raw);
        let listen = self.listen(&raw.listen);
        let raft = self.raft(raw.raft);
        let agents = self.agents(raw.agents);
        let disk = self.disk(raw.disk);
        let connections = self.connections(raw.connections);
        Some(Config {
            data: home.join(raw.data),
            home,
            node: node?,
            name: name?,
            join: raw.node.join,
            cluster: cluster?,
            trust_domain: trust_domain?,
            members: members.into_iter().collect::<Option<_>>()?,
            listen: listen?,
            raft,
            agents,
            evidence: raw.evidence,
            disk,
            leader: raw.leader,
            connections,
        })
    }

    /// A member list that contradicts itself or this node.
    fn membership(&mut self, raw: &RawConfig) {
        let mut ids = BTreeSet::new();
        let mut names = BTreeSet::new();
        for member in &raw.cluster.member {
            if !ids.insert(*member.raft_id.get_ref()) {
                self.add(
                    &member.raft_id,
                    "cluster.member.raft_id",
                    "two members have this raft id",
                    "give every member its own; an id is never used again",
                );
            }
            if !names.insert(member.name.get_ref().as_str()) {
                self.add(
                    &member.name,
                    "cluster.member.name",
                    "two members have this name",
                    "give every member its own",
                );
            }
        }
        let id = *raw.node.raft_id.get_ref();
        match raw
            .cluster
            .member
            .iter()
            .find(|member| *member.raft_id.get_ref() == id)
        {
            Some(member) if member.name.get_ref() != raw.node.name.get_ref() => {
                let what = format!(
                    "this node is {:?}, but the member with raft id {id} is {:?}",
                    raw.node.name.get_ref(),
                    member.name.get_ref()
                );
                self.add(
                    &raw.node.name,
                    "node.name",
                    what,
                    "use the same name in [node] and in [[cluster.member]]",
                );
            }
            Some(_) => {}
            None => {
                let what = format!("no [[cluster.member]] has raft_id = {id}");
                self.add(
                    &raw.node.raft_id,
                    "node.raft_id",
                    what,
                    "add this node's own [[cluster.member]]: the others reach it there",
                );
            }
        }
    }

    fn member(&mut self, raw: &RawMember) -> Option<NodeInfo> {
        let node = self.raft_id("cluster.member.raft_id", &raw.raft_id);
        let name = self.name("cluster.member.name", &raw.name);
        let peer = self.endpoint("cluster.member.peer", &raw.peer);
        let agent = self.endpoint("cluster.member.agent", &raw.agent);
        let operator = self.endpoint("cluster.member.operator", &raw.operator);
        let enroll = self.endpoint("cluster.member.enroll", &raw.enroll);
        Some(NodeInfo {
            node: node?,
            name: name?,
            peer_endpoint: peer?,
            agent_endpoint: agent?,
            operator_endpoint: operator?,
            enroll_endpoint: enroll?,
        })
    }

    fn listen(&mut self, raw: &RawListen) -> Option<Listen> {
        let operator = self.address("listen.operator", &raw.operator);
        let agent = self.address("listen.agent", &raw.agent);
        let peer = self.address("listen.peer", &raw.peer);
        let enroll = self.address("listen.enroll", &raw.enroll);
        let listen = Listen {
            operator: operator?,
            agent: agent?,
            peer: peer?,
            enroll: enroll?,
        };
        let mut seen = BTreeSet::new();
        for (key, address, raw) in [
            ("listen.operator", listen.operator, &raw.operator),
            ("listen.agent", listen.agent, &raw.agent),
            ("listen.peer", listen.peer, &raw.peer),
            ("listen.enroll", listen.enroll, &raw.enroll),
        ] {
            if address.port() != 0 && !seen.insert(address) {
                self.add(
                    raw,
                    key,
                    format!("two listeners share {address}"),
                    "each role has a port of its own",
                );
            }
        }
        Some(listen)
    }

    fn raft(&mut self, raw: Option<Spanned<Raft>>) -> Raft {
        let Some(raw) = raw else { return Raft::default() };
        let raft = *raw.get_ref();
        if !(1..=1_000).contains(&raft.tick_ms) {
            self.add(
                &raw,
                "raft.tick_ms",
                format!("{} is not from 1 to 1000", raft.tick_ms),
                "50 suits most networks, 10 a LAN",
            );
        }
        if raft.heartbeat_ticks == 0
            || raft.election_ticks <= raft.heartbeat_ticks
            || raft.election_ticks > 1_000
        {
            self.add(
                &raw,
                "raft.election_ticks",
                format!(
                    "{} election ticks with {} heartbeat ticks cannot work",
                    raft.election_ticks, raft.heartbeat_ticks
                ),
                "heartbeat_ticks at least 1, election_ticks greater (10 and 2 are the defaults)",
            );
        }
        raft
    }

    fn agents(&mut self, raw: Option<Spanned<Agents>>) -> Agents {
        let Some(raw) = raw else { return Agents::default() };
        let agents = *raw.get_ref();
        if agents.heartbeat_ms < 100 || agents.lease_ms < 2 * agents.heartbeat_ms {
            self.add(
                &raw,
                "agents.lease_ms",
                format!(
                    "a lease of {} ms does not outlast two heartbeats of {} ms",
                    agents.lease_ms, agents.heartbeat_ms
                ),
                "heartbeat_ms at least 100, lease_ms at least twice that (5000 and 15000 are the defaults)",
            );
        }
        agents
    }

    fn connections(
        &mut self,
        raw: BTreeMap<String, Spanned<ConnectionConfig>>,
    ) -> BTreeMap<String, ConnectionConfig> {
        for (name, connection) in &raw {
            let named = engine::id::AgentId::from_str(name).is_ok();
            let found = match named {
                true => crate::connect::check(connection.get_ref()).err(),
                false => Some(format!("{name:?} is not 1 to 63 of a-z, 0-9 and -")),
            };
            if let Some(what) = found {
                self.add(
                    connection,
                    "connections",
                    what,
                    "docs/configuration.md shows a connection of each kind",
                );
            }
        }
        raw.into_iter()
            .map(|(name, connection)| (name, connection.into_inner()))
            .collect()
    }

    fn disk(&mut self, raw: Option<Spanned<DiskLimits>>) -> DiskLimits {
        let Some(raw) = raw else {
            return DiskLimits::default();
        };
        let disk = *raw.get_ref();
        let mut bounded = |key, percent| {
            if percent > 100 {
                self.add(
                    &raw,
                    key,
                    format!("{percent} is no share of a disk"),
                    "give a percentage from 0, which never refuses, to 100 (10 for evidence and 5 for runs are the defaults)",
                );
            }
        };
        bounded("disk.evidence_free_percent_min", disk.evidence_free_percent_min);
        bounded("disk.runs_free_percent_min", disk.runs_free_percent_min);
        disk
    }

    fn name(&mut self, key: &'static str, raw: &Spanned<String>) -> Option<String> {
        let name = raw.get_ref();
        // The grammar of names is one and the same for every role.
        if engine::id::AgentId::from_str(name).is_ok() {
            return Some(name.clone());
        }
        self.add(
            raw,
            key,
            format!("{name:?} is not 1 to 63 of a-z, 0-9 and -"),
            "use the name that the node's certificate holds, such as c1",
        );
        None
    }

    fn raft_id(&mut self, key: &'static str, raw: &Spanned<u64>) -> Option<NodeId> {
        if *raw.get_ref() == 0 {
            self.add(raw, key, "0 means \"no node\" to raft", "count from 1");
            return None;
        }
        Some(NodeId(*raw.get_ref()))
    }

    fn cluster_id(&mut self, raw: &Spanned<String>) -> Option<uuid::Uuid> {
        match uuid::Uuid::try_parse(raw.get_ref()) {
            Ok(id) => Some(id),
            Err(error) => {
                self.add(
                    raw,
                    "cluster.id",
                    format!("{:?} is no UUID: {error}", raw.get_ref()),
                    "copy it from another node's file, or let `cordon init` draw one",
                );
                None
            }
        }
    }

    fn trust_domain(&mut self, raw: &Spanned<String>) -> Option<String> {
        let domain = raw.get_ref();
        let valid = (1..=255).contains(&domain.len())
            && domain
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'));
        if valid {
            return Some(domain.clone());
        }
        self.add(
            raw,
            "cluster.trust_domain",
            format!("{domain:?} is not 1 to 255 of a-z, 0-9, '.', '-' and '_'"),
            "use the domain in the node's certificate, such as cordon.internal",
        );
        None
    }

    fn address(&mut self, key: &'static str, raw: &Spanned<String>) -> Option<SocketAddr> {
        match raw.get_ref().parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.add(
                    raw,
                    key,
                    format!("{:?} is no address to listen on", raw.get_ref()),
                    "give an IP address and a port, such as \"0.0.0.0:7400\" or \"[::]:7400\"",
                );
                None
            }
        }
    }

    fn endpoint(&mut self, key: &'static str, raw: &Spanned<String>) -> Option<String> {
        let text = raw.get_ref();
        let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
            let host_is_plain = !host.is_empty() && !host.contains(['/', ' ', '@']);
            let port_is_one = port.parse::<u16>().is_ok_and(|port| port != 0);
            host_is_plain && port_is_one && (!host.contains(':') || host.starts_with('['))
        });
        if valid {
            return Some(text.clone());
        }
        self.add(
            raw,
            key,
            format!("{text:?} is no host:port"),
            "give what others can reach, such as \"10.0.0.1:7402\"",
        );
        None
    }

    fn add<T>(&mut self, at: &Spanned<T>, key: &'static str, what: impl Into<String>, mend: &str) {
        let before = &self.text.as_bytes()[..at.span().start.min(self.text.len())];
        self.problems.push(Problem {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            key,
            what: what.into(),
            mend: mend.to_owned(),
        });
    }
}
