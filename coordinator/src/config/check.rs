//! Looks at every value of a configuration and tells all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use engine::command::NodeInfo;
use engine::id::NodeId;
use toml::Spanned;

use super::{
    Agents, Config, Evidence, Leader, Listen, Problem, Raft, RawConfig, RawEvidence, RawListen, RawMember,
};
use crate::connect::ConnectionConfig;
use crate::storage::DiskLimits;

/// No time of a section is longer.
const HOUR_MS: u64 = 3_600_000;

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
        let evidence = self.evidence(raw.evidence);
        let disk = self.disk(raw.disk);
        let leader = self.leader(raw.leader);
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
            evidence,
            disk,
            leader,
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
        self.within(
            &raw,
            "raft.tick_ms",
            raft.tick_ms,
            1..=1_000,
            "50 suits most networks, 10 a LAN",
        );
        if raft.heartbeat_ticks == 0
            || raft.election_ticks <= raft.heartbeat_ticks
            || raft.election_ticks > 1_000
        {
            self.add_in(
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
        let good = self.within(
            &raw,
            "agents.heartbeat_ms",
            agents.heartbeat_ms,
            100..=HOUR_MS,
            "5000 is the default",
        );
        if good && !(2 * agents.heartbeat_ms..=4 * HOUR_MS).contains(&agents.lease_ms) {
            self.add_in(
                &raw,
                "agents.lease_ms",
                format!(
                    "a lease of {} ms does not outlast two heartbeats of {} ms, or lasts more than four hours",
                    agents.lease_ms, agents.heartbeat_ms
                ),
                "at least twice heartbeat_ms (5000 and 15000 are the defaults)",
            );
        }
        self.within(
            &raw,
            "agents.leaderless_ms",
            agents.leaderless_ms,
            100..=HOUR_MS,
            "longer than an election takes: 5000 is the default",
        );
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

    fn evidence(&mut self, raw: Option<Spanned<RawEvidence>>) -> Evidence {
        let Some(raw) = raw else {
            return Evidence::default();
        };
        if raw.get_ref().free_percent_min.is_some() {
            self.add_in(
                &raw,
                "evidence.free_percent_min",
                "there is no such key any more",
                "it is evidence_free_percent_min in the section [disk] now",
            );
        }
        let evidence = Evidence::default();
        let size_bytes_max = raw.get_ref().size_bytes_max.unwrap_or(evidence.size_bytes_max);
        self.within(
            &raw,
            "evidence.size_bytes_max",
            size_bytes_max,
            1..=1 << 50,
            "16 GiB, 17179869184, is the default",
        );
        Evidence { size_bytes_max }
    }

    fn disk(&mut self, raw: Option<Spanned<DiskLimits>>) -> DiskLimits {
        let Some(raw) = raw else {
            return DiskLimits::default();
        };
        let disk = *raw.get_ref();
        for (key, percent) in [
            ("disk.evidence_free_percent_min", disk.evidence_free_percent_min),
            ("disk.runs_free_percent_min", disk.runs_free_percent_min),
        ] {
            self.within(
                &raw,
                key,
                percent,
                0..=100,
                "give a percentage; 0 never refuses (10 for evidence and 5 for runs are the defaults)",
            );
        }
        disk
    }

    fn leader(&mut self, raw: Option<Spanned<Leader>>) -> Leader {
        let Some(raw) = raw else { return Leader::default() };
        let leader = *raw.get_ref();
        self.within(
            &raw,
            "leader.grace_ms",
            leader.grace_ms,
            0..=60_000,
            "200 is the default",
        );
        self.within(
            &raw,
            "leader.node_lost_ms",
            leader.node_lost_ms,
            100..=HOUR_MS,
            "longer than an election takes: 5000 is the default",
        );
        leader
    }

    /// Whether a number of a section is in bounds.
    fn within<T>(
        &mut self,
        section: &Spanned<T>,
        key: &'static str,
        value: u64,
        bounds: RangeInclusive<u64>,
        mend: &str,
    ) -> bool {
        let good = bounds.contains(&value);
        if !good {
            let what = format!("{value} is not from {} to {}", bounds.start(), bounds.end());
            self.add_in(section, key, what, mend);
        }
        good
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
        self.add_at(self.line(at.span().start), key, what, mend);
    }

    /// A problem with a key of a section: on the key's line where it has one, on the section's where it has its
    /// default or the section is written in one line.
    fn add_in<T>(&mut self, section: &Spanned<T>, key: &'static str, what: impl Into<String>, mend: &str) {
        let first = self.line(section.span().start);
        let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
        let is_key = |line: &str| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let lines = self.text.lines().enumerate().skip(first);
        let own = lines
            .take_while(|(_, line)| !line.trim_start().starts_with('['))
            .find(|(_, line)| is_key(line));
        self.add_at(own.map_or(first, |(at, _)| at + 1), key, what, mend);
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn add_at(&mut self, line: usize, key: &'static str, what: impl Into<String>, mend: &str) {
        self.problems.push(Problem {
            line,
            key,
            what: what.into(),
            mend: mend.to_owned(),
        });
    }
}
