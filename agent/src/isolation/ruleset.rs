//! The firewall rules of an isolation, as nftables' JSON (libnftables-json(5)). Pure: no IO.
//!
//! Everything lives in tables of our own, so nothing of the host's firewall is read or changed. A table's
//! `accept` never overrides another table's `drop`, so our chains can only narrow what the host allows,
//! and nothing that the host allows can widen ours.
//!
//! The lease is a set whose elements have a timeout. The first rule of each chain accepts everything
//! that is *not* in that set: when the kernel drops the elements, the isolation is over, agent or not.
//!
//! There is no `ct state established`: each packet is judged by its addresses and ports alone, so a
//! connection that was open before is cut unless it is one to a coordinator, and the rules need no
//! connection tracking.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The name of our tables.
pub const TABLE: &str = "cordon";

/// The family of the table for what the host sends, receives and forwards.
pub const INET: &str = "inet";

/// The family of the table for frames that leave a link whatever made them: raw sockets, macvlan, bridges.
pub const NETDEV: &str = "netdev";

/// After reassembly of fragments (-400), before everything else that hosts usually have (raw is -300).
const PRIORITY: i32 = -350;

/// What an isolation lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The coordinators' agent listeners.
    pub coordinators: BTreeSet<SocketAddr>,
    /// Resolvers that may be asked; empty: no DNS.
    pub resolvers: BTreeSet<IpAddr>,
    /// Links whose outgoing frames are judged too; empty: that guard is off.
    pub links: BTreeSet<String>,
}

/// Commands that nft carries out in one transaction.
#[derive(Debug, Serialize)]
pub struct Document {
    nftables: Vec<Command>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Add(Object),
    Delete(Object),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Object {
    Table(Table),
    Set(Set),
    Chain(Chain),
    Rule(Rule),
}

#[derive(Debug, Serialize)]
struct Table {
    family: &'static str,
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct Set {
    family: &'static str,
    table: &'static str,
    name: &'static str,
    #[serde(rename = "type")]
    kind: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elem: Vec<Value>,
}

#[derive(Debug, Serialize)]
struct Chain {
    family: &'static str,
    table: &'static str,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    hook: &'static str,
    prio: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<String>,
    policy: &'static str,
}

#[derive(Debug, Serialize)]
struct Rule {
    family: &'static str,
    table: &'static str,
    chain: String,
    expr: Vec<Statement>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Statement {
    Match {
        op: &'static str,
        left: Value,
        right: Value,
    },
    Accept(()),
    Drop(()),
    Reject(Reject),
}

#[derive(Clone, Debug, Serialize)]
struct Reject {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expr: Option<&'static str>,
}

/// Which end of a packet is the remote one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// Puts the isolation in place of whatever isolation there was, at once, for `lease_s` seconds.
pub fn isolation(spec: &Spec, lease_s: u64) -> Document {
    let mut builder = Builder::new(INET);
    builder.replace_table();
    builder.lease(json!("nf_proto"), ["ipv4", "ipv6"], lease_s);
    builder.address_sets(spec);

    let dns = !spec.resolvers.is_empty();
    builder.chain("input", "input", None);
    builder.rule("input", vec![not_leased("nfproto"), ACCEPT]);
    builder.rule("input", vec![equal(meta("iif"), json!("lo")), ACCEPT]);
    builder.accept_peers("input", Direction::In, dns);
    // A path may have a smaller packet size than the link, also the one to a coordinator.
    builder.rule(
        "input",
        vec![
            equal(field("icmp", "type"), json!("destination-unreachable")),
            equal(field("icmp", "code"), json!(4)),
            ACCEPT,
        ],
    );
    builder.rule(
        "input",
        vec![equal(field("icmpv6", "type"), json!("packet-too-big")), ACCEPT],
    );
    builder.accept_neighbours("input", Direction::In);
    builder.accept_dhcp("input", Direction::In);
    builder.rule("input", vec![DROP]);

    builder.chain("output", "output", None);
    builder.rule("output", vec![not_leased("nfproto"), ACCEPT]);
    builder.rule("output", vec![equal(meta("oif"), json!("lo")), ACCEPT]);
    builder.accept_peers("output", Direction::Out, dns);
    builder.accept_neighbours("output", Direction::Out);
    builder.accept_dhcp("output", Direction::Out);
    // The host's own programs hear of it at once instead of waiting; nothing of this leaves the host.
    builder.rule(
        "output",
        vec![
            is_first_packet("=="),
            Statement::Reject(Reject {
                kind: "tcp reset",
                expr: None,
            }),
        ],
    );
    builder.rule(
        "output",
        vec![
            equal(meta("l4proto"), json!("udp")),
            Statement::Reject(Reject {
                kind: "icmpx",
                expr: Some("admin-prohibited"),
            }),
        ],
    );
    builder.rule("output", vec![DROP]);

    builder.chain("forward", "forward", None);
    builder.rule("forward", vec![not_leased("nfproto"), ACCEPT]);
    builder.rule("forward", vec![DROP]);
    let mut commands = builder.commands;

    if !spec.links.is_empty() {
        let mut builder = Builder::new(NETDEV);
        builder.replace_table();
        builder.lease(json!("ifname"), spec.links.iter().map(String::as_str), lease_s);
        builder.address_sets(spec);
        for (index, link) in spec.links.iter().enumerate() {
            let chain = format!("egress{index}");
            builder.chain(&chain, "egress", Some(link));
            builder.rule(&chain, vec![not_leased("oifname"), ACCEPT]);
            builder.rule(&chain, vec![equal(meta("protocol"), json!("arp")), ACCEPT]);
            builder.accept_peers(&chain, Direction::Out, dns);
            builder.accept_neighbours(&chain, Direction::Out);
            builder.accept_dhcp(&chain, Direction::Out);
            builder.rule(&chain, vec![DROP]);
        }
        commands.append(&mut builder.commands);
    }
    Document { nftables: commands }
}

/// Takes our tables away at once, whether they are there or not.
pub fn removal(with_links: bool) -> Document {
    let families: &[&'static str] = if with_links { &[INET, NETDEV] } else { &[INET] };
    let table = |family| Object::Table(Table { family, name: TABLE });
    let commands = families
        .iter()
        .flat_map(|family| [Command::Add(table(family)), Command::Delete(table(family))]);
    Document {
        nftables: commands.collect(),
    }
}

impl Spec {
    /// The SHA-256 (hex) of the rules, whatever the length of the lease.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(isolation(self, 0).lines().join("\n")))
    }

    /// What it lets through, in words.
    pub fn allowed(&self) -> Vec<String> {
        let mut allowed = vec![
            "loopback".to_owned(),
            "neighbour discovery".to_owned(),
            "dhcp (link-local)".to_owned(),
        ];
        allowed.extend(self.coordinators.iter().map(|address| format!("tcp {address}")));
        allowed.extend(self.resolvers.iter().map(|address| format!("dns {address}")));
        allowed
    }
}

impl Document {
    /// As nft reads it.
    pub fn to_json(&self) -> Vec<u8> {
        // Text, numbers and lists only: writing them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Document {
    /// One command a line, the same in every build.
    fn lines(&self) -> Vec<String> {
        let document = serde_json::to_value(self).unwrap_or_default();
        let commands = document["nftables"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        commands
            .iter()
            .map(|command| sorted(command).to_string())
            .collect()
    }
}

/// The same value with its keys in order: whether serde_json keeps the order in which they came depends on
/// what else is built into the executable.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.clone(), value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

const ACCEPT: Statement = Statement::Accept(());
const DROP: Statement = Statement::Drop(());

struct Builder {
    family: &'static str,
    commands: Vec<Command>,
}

impl Builder {
    fn new(family: &'static str) -> Self {
        Builder {
            family,
            commands: Vec::new(),
        }
    }

    /// Added first, so that deleting it never fails; all of it is one transaction.
    fn replace_table(&mut self) {
        let table = || {
            Object::Table(Table {
                family: self.family,
                name: TABLE,
            })
        };
        self.commands.extend([
            Command::Add(table()),
            Command::Delete(table()),
            Command::Add(table()),
        ]);
    }

    fn lease<'a>(&mut self, kind: Value, keys: impl IntoIterator<Item = &'a str>, lease_s: u64) {
        let element = |key| json!({"elem": {"val": key, "timeout": lease_s}});
        let elem = keys.into_iter().map(element).collect();
        self.set("lease", kind, vec!["timeout"], elem);
    }

    fn address_sets(&mut self, spec: &Spec) {
        let endpoints = |v4: bool| {
            let of_family = spec
                .coordinators
                .iter()
                .filter(move |address| address.is_ipv4() == v4);
            of_family
                .map(|address| json!({"concat": [address.ip(), address.port()]}))
                .collect()
        };
        self.set(
            "coordinators4",
            json!(["ipv4_addr", "inet_service"]),
            vec![],
            endpoints(true),
        );
        self.set(
            "coordinators6",
            json!(["ipv6_addr", "inet_service"]),
            vec![],
            endpoints(false),
        );
        if !spec.resolvers.is_empty() {
            let of_family = |v4: bool| {
                spec.resolvers
                    .iter()
                    .filter(|address| address.is_ipv4() == v4)
                    .map(|address| json!(address))
                    .collect()
            };
            self.set("resolvers4", json!("ipv4_addr"), vec![], of_family(true));
            self.set("resolvers6", json!("ipv6_addr"), vec![], of_family(false));
        }
    }

    fn set(&mut self, name: &'static str, kind: Value, flags: Vec<&'static str>, elem: Vec<Value>) {
        self.commands.push(Command::Add(Object::Set(Set {
            family: self.family,
            table: TABLE,
            name,
            kind,
            flags,
            elem,
        })));
    }

    fn chain(&mut self, name: &str, hook: &'static str, dev: Option<&str>) {
        self.commands.push(Command::Add(Object::Chain(Chain {
            family: self.family,
            table: TABLE,
            name: name.to_owned(),
            kind: "filter",
            hook,
            prio: PRIORITY,
            dev: dev.map(str::to_owned),
            policy: "accept",
        })));
    }

    fn rule(&mut self, chain: &str, expr: Vec<Statement>) {
        self.commands.push(Command::Add(Object::Rule(Rule {
            family: self.family,
            table: TABLE,
            chain: chain.to_owned(),
            expr,
        })));
    }

    /// The coordinators' listeners and the resolvers. What comes in from them must not open a connection.
    fn accept_peers(&mut self, chain: &str, direction: Direction, dns: bool) {
        let (address, port) = direction.remote();
        for (protocol, coordinators, resolvers) in [
            ("ip", "@coordinators4", "@resolvers4"),
            ("ip6", "@coordinators6", "@resolvers6"),
        ] {
            let answers = || (direction == Direction::In).then(|| is_first_packet("!="));
            let endpoint = json!({"concat": [field(protocol, address), field("tcp", port)]});
            let mut rule = vec![equal(endpoint, json!(coordinators))];
            rule.extend(answers());
            rule.push(ACCEPT);
            self.rule(chain, rule);
            if dns {
                let resolver = equal(field(protocol, address), json!(resolvers));
                self.rule(
                    chain,
                    vec![resolver.clone(), equal(field("udp", port), json!(53)), ACCEPT],
                );
                let mut rule = vec![resolver, equal(field("tcp", port), json!(53))];
                rule.extend(answers());
                rule.push(ACCEPT);
                self.rule(chain, rule);
            }
        }
    }

    /// IPv6 finds its neighbours and routers over IP itself (RFC 4861: hop limit 255), and switches learn
    /// who listens (RFC 3810: hop limit 1). Without them there is no way to a coordinator.
    fn accept_neighbours(&mut self, chain: &str, direction: Direction) {
        let (discovery, listening) = match direction {
            Direction::In => (
                ["nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert"],
                ["mld-listener-query"].as_slice(),
            ),
            Direction::Out => (
                ["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"],
                ["mld-listener-report", "mld2-listener-report"].as_slice(),
            ),
        };
        for (types, hop_limit) in [(json!({"set": discovery}), 255), (json!({"set": listening}), 1)] {
            let hops = equal(field("ip6", "hoplimit"), json!(hop_limit));
            self.rule(chain, vec![equal(field("icmpv6", "type"), types), hops, ACCEPT]);
        }
    }

    /// A host that cannot renew its address loses it, and with it the coordinators. Only broadcasts and
    /// link-local multicasts may leave for that, which no router carries on.
    fn accept_dhcp(&mut self, chain: &str, direction: Direction) {
        let ports = |source: u16, destination: u16| {
            [
                equal(field("udp", "sport"), json!(source)),
                equal(field("udp", "dport"), json!(destination)),
            ]
        };
        let rules: [(Statement, [Statement; 2]); 2] = match direction {
            Direction::In => [
                (equal(meta("protocol"), json!("ip")), ports(67, 68)),
                (
                    equal(
                        field("ip6", "saddr"),
                        json!({"prefix": {"addr": "fe80::", "len": 10}}),
                    ),
                    ports(547, 546),
                ),
            ],
            Direction::Out => [
                (
                    equal(field("ip", "daddr"), json!("255.255.255.255")),
                    ports(68, 67),
                ),
                (equal(field("ip6", "daddr"), json!("ff02::1:2")), ports(546, 547)),
            ],
        };
        for (to, [source, destination]) in rules {
            self.rule(chain, vec![to, source, destination, ACCEPT]);
        }
    }
}

impl Direction {
    fn remote(self) -> (&'static str, &'static str) {
        match self {
            Direction::In => ("saddr", "sport"),
            Direction::Out => ("daddr", "dport"),
        }
    }
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn equal(left: Value, right: Value) -> Statement {
    Statement::Match {
        op: "==",
        left,
        right,
    }
}

/// The lease is over.
fn not_leased(key: &str) -> Statement {
    Statement::Match {
        op: "!=",
        left: meta(key),
        right: json!("@lease"),
    }
}

/// A TCP packet that opens a connection: SYN and nothing of FIN, RST, ACK.
fn is_first_packet(op: &'static str) -> Statement {
    // Pairs: nft before 1.0.8 reads no longer list.
    let any = json!({"|": [{"|": [{"|": ["fin", "syn"]}, "rst"]}, "ack"]});
    let flags = json!({"&": [field("tcp", "flags"), any]});
    Statement::Match {
        op,
        left: flags,
        right: json!("syn"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            coordinators: ["10.0.0.1:7401", "[fd00::1]:7401"]
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            resolvers: BTreeSet::from(["10.0.0.53".parse().expect("an address")]),
            links: BTreeSet::from(["eth0".to_owned()]),
        }
    }

    #[test]
    fn the_rules_are_as_they_were_reviewed() {
        insta::assert_snapshot!(isolation(&spec(), 30).lines().join("\n"));
    }

    #[test]
    fn the_digest_names_the_rules_and_not_the_lease() {
        let mut other = spec();
        assert_eq!(spec().sha256(), other.sha256());
        other.resolvers.clear();
        assert_ne!(spec().sha256(), other.sha256());
    }
}
