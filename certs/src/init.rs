//! The offline birth of a cluster, and the offline issuing that follows it.
//!
//! `create` is the only way to a first operator: it works on an empty or absent folder, on a machine that
//! no coordinator can reach, and no RPC does anything like it. What it leaves in the folder:
//!
//! ```text
//! cluster.toml                     the cluster's id, trust domain and members
//! ca/{operator,agent,coordinator}.{key,crt}      keep offline
//! coordinators/<name>/             copy to that member; everything but the operator CA's key
//!     coordinator.toml  identity/  roots/  issuers/  data/
//! operators/<name>/                copy to that person's machine
//!     config.toml  identity/  roots/coordinator.pem
//! ```

use std::{
    fmt::Write,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    csr::{self, CsrError},
    files::{self, FileError, PUBLIC_MODE, SECRET_MODE},
    identity::{Identity, IdentityError},
    issue::{CA_VALIDITY, IssueError, IssuingCa, Validity},
    roots::{Roots, RootsError},
    spiffe::{Role, SpiffeError, SpiffeId, check_id, check_trust_domain},
};

/// The trust domain when none is given.
pub const TRUST_DOMAIN_DEFAULT: &str = "cordon.internal";
/// Most members that a cluster is born with: a Raft of more only gets slower.
pub const MEMBERS_MAX: usize = 9;

const CLUSTER_FILE: &str = "cluster.toml";

/// Beside a member's configuration: it may start with an empty data folder, which its first start ends.
pub const FIRST_START_FILE: &str = "first-start";

/// What a cluster is born with. It is also what `cluster.toml` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub id: String,
    pub trust_domain: String,
    #[serde(rename = "member")]
    pub members: Vec<Member>,
}

/// A coordinator, as the others and its clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub raft_id: u64,
    pub name: String,
    /// A name or an address, without brackets.
    pub host: String,
    pub operator_port: u16,
    pub agent_port: u16,
    pub peer_port: u16,
    pub enroll_port: u16,
    /// Where it listens; by default on every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<IpAddr>,
}

impl Member {
    /// `host:port` of one of its listeners.
    pub fn endpoint(&self, port: u16) -> String {
        host_and_port(&self.host, port)
    }

    fn listen_address(&self, port: u16) -> String {
        let address = self.listen.unwrap_or(match self.host.parse() {
            Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        });
        host_and_port(&address.to_string(), port)
    }
}

/// `NAME=HOST`, `NAME=HOST:PORT` (four ports from there on: operator, agent, peer, enroll), or
/// `NAME=HOST,operator=P,agent=P,peer=P,enroll=P,listen=ADDRESS` with any of them. `raft_id` is 0 until it joins a cluster.
impl FromStr for Member {
    type Err = InitError;

    fn from_str(text: &str) -> Result<Member, InitError> {
        let problem = |problem: &str| InitError::Member {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        let (name, rest) = text.split_once('=').ok_or_else(|| problem("there is no `=`"))?;
        check_id(name)?;
        let mut parts = rest.split(',');
        let (host, base) = split_host(parts.next().unwrap_or_default());
        let base = match base {
            None => 7400,
            Some(base) => base
                .parse::<u16>()
                .ok()
                .filter(|base| (1..=65532).contains(base))
                .ok_or_else(|| problem("the port must be 1 to 65532"))?,
        };
        if host.is_empty()
            || !host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
        {
            return Err(problem("the host must be a name or an address"));
        }
        let mut member = Member {
            raft_id: 0,
            name: name.to_owned(),
            host: host.to_owned(),
            operator_port: base,
            agent_port: base + 1,
            peer_port: base + 2,
            enroll_port: base + 3,
            listen: None,
        };
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| problem("after a comma comes `key=value`"))?;
            let port = || {
                value
                    .parse::<u16>()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| problem("a port must be 1 to 65535"))
            };
            match key {
                "operator" => member.operator_port = port()?,
                "agent" => member.agent_port = port()?,
                "peer" => member.peer_port = port()?,
                "enroll" => member.enroll_port = port()?,
                "listen" => {
                    member.listen = Some(
                        value
                            .parse()
                            .map_err(|_| problem("`listen` must be an IP address"))?,
                    );
                }
                _ => return Err(problem("the keys are operator, agent, peer, enroll and listen")),
            }
        }
        Ok(member)
    }
}

/// Makes a whole cluster's keys and folders. Members get their Raft ids in the order given, from 1.
///
/// # Errors
/// When the folder holds anything, a name breaks the grammar, or a file cannot be written; a folder left
/// half made must be removed by hand, since nothing here ever deletes keys.
pub fn create(
    folder: &Path,
    trust_domain: &str,
    mut members: Vec<Member>,
    operator: &str,
) -> Result<Cluster, InitError> {
    check_trust_domain(trust_domain)?;
    check_id(operator)?;
    check_members(&members)?;
    refuse_unless_empty(folder)?;
    for (member, raft_id) in members.iter_mut().zip(1..) {
        member.raft_id = raft_id;
    }
    let cluster = Cluster {
        id: uuid::Uuid::new_v4().to_string(),
        trust_domain: trust_domain.to_owned(),
        members,
    };

    files::make_private_folder(folder)?;
    for role in Role::ALL {
        IssuingCa::create(role, trust_domain, CA_VALIDITY)?.save_new(&folder.join("ca"))?;
    }
    for member in &cluster.members {
        make_coordinator_folder(folder, &cluster, member, false)?;
    }
    issue_operator(folder, &cluster, operator)?;
    // Last, because it is what the other commands look for: half a cluster is none.
    save_cluster(folder, &cluster)?;
    Ok(cluster)
}

/// Reads what `create` left.
///
/// # Errors
/// When the folder is not one that `cordon init` made.
pub fn load(folder: &Path) -> Result<Cluster, InitError> {
    let path = folder.join(CLUSTER_FILE);
    let text = files::read_public(&path)?;
    let text = String::from_utf8(text).map_err(|_| FileError::content(&path, "is not UTF-8"))?;
    toml::from_str(&text)
        .map_err(|error| FileError::content(&path, format!("is not understood: {error}")).into())
}

/// Issues an operator's identity (12 h) with a new key, and returns the folder to use or copy. Also the
/// renewal: an existing folder keeps its configuration.
///
/// # Errors
/// When the CA cannot be read or the folder not be written.
pub fn issue_operator(
    folder: &Path,
    cluster: &Cluster,
    name: &str,
) -> Result<(PathBuf, Identity), InitError> {
    let home = folder.join("operators").join(name);
    let identity = issue(folder, &cluster.trust_domain, Role::Operator, name)?;
    files::make_private_folder(&home)?;
    identity.save(&home.join("identity"))?;
    files::make_private_folder(&home.join("roots"))?;
    load_roots(folder, Role::Coordinator)?.save(&home.join("roots/coordinator.pem"))?;
    let config = home.join("config.toml");
    if !config.exists() {
        files::create_new(&config, operator_config(cluster).as_bytes(), SECRET_MODE)?;
    }
    Ok((home, identity))
}

/// Issues a member's identity (7 days) with a new key into its folder, and returns the folder.
///
/// # Errors
/// When there is no such member, the CA cannot be read or the folder not be written.
pub fn renew_coordinator(
    folder: &Path,
    cluster: &Cluster,
    name: &str,
) -> Result<(PathBuf, Identity), InitError> {
    if !cluster.members.iter().any(|member| member.name == name) {
        return Err(InitError::NoSuchMember {
            name: name.to_owned(),
        });
    }
    let home = coordinator_home(folder, name);
    let identity = issue(folder, &cluster.trust_domain, Role::Coordinator, name)?;
    identity.save(&home.join("identity"))?;
    Ok((home, identity))
}

/// Adds a member to a cluster that lives: its folder says `join = true`, and it waits to be added with
/// `cordon cluster add`. Returns the member with its Raft id, which is never one used before.
///
/// # Errors
/// When the name or the limit stands against it, or a file cannot be written.
pub fn add_coordinator(
    folder: &Path,
    cluster: &mut Cluster,
    mut member: Member,
) -> Result<(PathBuf, Member), InitError> {
    let mut all = cluster.members.clone();
    member.raft_id = unused_raft_id(&all);
    all.push(member.clone());
    check_members(&all)?;
    refuse_if_there(&coordinator_home(folder, &member.name))?;
    cluster.members = all;
    let home = make_coordinator_folder(folder, cluster, &member, true)?;
    save_cluster(folder, cluster)?;
    Ok((home, member))
}

/// A member that took another's place.
#[derive(Debug)]
pub struct Replacement {
    /// The new member's folder.
    pub home: PathBuf,
    /// The new member.
    pub member: Member,
    /// The member that it takes the place of.
    pub old: Member,
    /// Where that one's folder is now, if there was one: keys are never deleted here.
    pub aside: Option<PathBuf>,
}

/// Puts a new member in the place of one that is lost: of the same name and addresses, unless `new` gives others.
/// It is added to the cluster like any other new one, and the lost one is removed, by hand.
///
/// # Errors
/// When there is no such member, the new one's name or addresses stand against it, or a file cannot be written.
/// What is half done then is finished by replacing once more.
pub fn replace_coordinator(
    folder: &Path,
    cluster: &mut Cluster,
    old: &str,
    new: Option<Member>,
) -> Result<Replacement, InitError> {
    let at = cluster.members.iter().position(|member| member.name == old);
    let at = at.ok_or_else(|| InitError::NoSuchMember { name: old.to_owned() })?;
    let mut all = cluster.members.clone();
    let raft_id = unused_raft_id(&all);
    let old = all.remove(at);
    let member = Member {
        raft_id,
        ..new.unwrap_or_else(|| old.clone())
    };
    all.push(member.clone());
    check_members(&all)?;
    let old_home = coordinator_home(folder, &old.name);
    let aside = coordinator_home(folder, &format!("{}.replaced-{}", old.name, old.raft_id));
    refuse_if_there(&aside)?;
    if member.name != old.name {
        refuse_if_there(&coordinator_home(folder, &member.name))?;
    }

    cluster.members = all;
    // First, so that the new raft id is spent whatever comes now.
    save_cluster(folder, cluster)?;
    let aside = match fs::rename(&old_home, &aside) {
        Ok(()) => Some(aside),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => {
            return Err(FileError::Io {
                verb: "move aside",
                path: old_home,
                source,
            }
            .into());
        }
    };
    let home = make_coordinator_folder(folder, cluster, &member, true)?;
    Ok(Replacement {
        home,
        member,
        old,
        aside,
    })
}

/// Members leave the list only for one with a larger id, so the largest was given last.
fn unused_raft_id(members: &[Member]) -> u64 {
    members.iter().map(|member| member.raft_id).max().unwrap_or(0) + 1
}

fn coordinator_home(folder: &Path, name: &str) -> PathBuf {
    folder.join("coordinators").join(name)
}

fn refuse_if_there(home: &Path) -> Result<(), InitError> {
    match home.exists() {
        true => Err(InitError::FolderThere {
            folder: home.to_owned(),
        }),
        false => Ok(()),
    }
}

fn make_coordinator_folder(
    folder: &Path,
    cluster: &Cluster,
    member: &Member,
    join: bool,
) -> Result<PathBuf, InitError> {
    let home = coordinator_home(folder, &member.name);
    for part in ["roots", "issuers", "data"] {
        files::make_private_folder(&home.join(part))?;
    }
    issue(folder, &cluster.trust_domain, Role::Coordinator, &member.name)?.save(&home.join("identity"))?;
    for role in Role::ALL {
        load_roots(folder, role)?.save(&home.join("roots").join(format!("{role}.pem")))?;
    }
    // R30: with the operator CA's key on no coordinator, a stolen one cannot make itself an operator.
    for role in [Role::Agent, Role::Coordinator] {
        IssuingCa::load(&folder.join("ca"), role)?.save_new(&home.join("issuers"))?;
    }
    files::create_new(
        &home.join("coordinator.toml"),
        coordinator_config(cluster, member, join).as_bytes(),
        PUBLIC_MODE,
    )?;
    files::create_new(
        &home.join(FIRST_START_FILE),
        b"Lets this coordinator start with an empty data folder, once: the first start removes this file.\n",
        PUBLIC_MODE,
    )?;
    Ok(home)
}

fn issue(folder: &Path, trust_domain: &str, role: Role, name: &str) -> Result<Identity, InitError> {
    let ca = IssuingCa::load(&folder.join("ca"), role)?;
    let (key, csr) = csr::new_key_and_csr()?;
    let name = SpiffeId::new(trust_domain, role, name)?;
    let chain = ca.issue_from_csr(&csr, &name, Validity::lasting(role.validity()))?;
    Ok(Identity::new(key, chain)?)
}

fn load_roots(folder: &Path, role: Role) -> Result<Roots, InitError> {
    Ok(Roots::load(&folder.join("ca").join(format!("{role}.crt")))?)
}

fn save_cluster(folder: &Path, cluster: &Cluster) -> Result<(), InitError> {
    let path = folder.join(CLUSTER_FILE);
    let text = toml::to_string(cluster).map_err(|error| FileError::content(&path, error.to_string()))?;
    Ok(files::replace(&path, text.as_bytes(), PUBLIC_MODE)?)
}

fn refuse_unless_empty(folder: &Path) -> Result<(), InitError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(InitError::NotEmpty {
                folder: folder.to_owned(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(InitError::NotAFolder {
            folder: folder.to_owned(),
        }),
        Err(source) => Err(FileError::Io {
            verb: "look into",
            path: folder.to_owned(),
            source,
        }
        .into()),
    }
}

fn check_members(members: &[Member]) -> Result<(), InitError> {
    if !(1..=MEMBERS_MAX).contains(&members.len()) {
        return Err(InitError::MemberCount(members.len()));
    }
    for (at, member) in members.iter().enumerate() {
        check_id(&member.name)?;
        let others = &members[..at];
        if others.iter().any(|other| other.name == member.name) {
            return Err(InitError::Twice {
                what: "name",
                value: member.name.clone(),
            });
        }
        let ports = [
            member.operator_port,
            member.agent_port,
            member.peer_port,
            member.enroll_port,
        ];
        for (at, port) in ports.into_iter().enumerate() {
            let endpoint = member.endpoint(port);
            let taken_by_other = others.iter().any(|other| {
                [
                    other.operator_port,
                    other.agent_port,
                    other.peer_port,
                    other.enroll_port,
                ]
                .into_iter()
                .any(|port| other.endpoint(port) == endpoint)
            });
            if taken_by_other || ports[..at].contains(&port) {
                return Err(InitError::Twice {
                    what: "address",
                    value: endpoint,
                });
            }
        }
    }
    Ok(())
}

/// Every value in it has passed a grammar without quotes or backslashes, so plain text is enough.
fn coordinator_config(cluster: &Cluster, me: &Member, join: bool) -> String {
    let mut text = format!(
        "# Made by `cordon init`. Paths are relative to this file.\ndata = \"data\"\n\n\
         [node]\nname = \"{}\"\nraft_id = {}\n",
        me.name, me.raft_id
    );
    if join {
        text.push_str("# Starts empty and waits for `cordon cluster add`.\njoin = true\n");
    }
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "\n[cluster]\nid = \"{}\"\ntrust_domain = \"{}\"\n",
        cluster.id, cluster.trust_domain
    );
    for member in &cluster.members {
        let _ = write!(
            text,
            "\n[[cluster.member]]\nraft_id = {}\nname = \"{}\"\npeer = \"{}\"\nagent = \"{}\"\noperator = \"{}\"\nenroll = \"{}\"\n",
            member.raft_id,
            member.name,
            member.endpoint(member.peer_port),
            member.endpoint(member.agent_port),
            member.endpoint(member.operator_port),
            member.endpoint(member.enroll_port),
        );
    }
    let _ = write!(
        text,
        "\n[listen]\noperator = \"{}\"\nagent = \"{}\"\npeer = \"{}\"\nenroll = \"{}\"\n",
        me.listen_address(me.operator_port),
        me.listen_address(me.agent_port),
        me.listen_address(me.peer_port),
        me.listen_address(me.enroll_port),
    );
    text
}

fn operator_config(cluster: &Cluster) -> String {
    let endpoints: Vec<String> = cluster
        .members
        .iter()
        .map(|member| format!("\"{}\"", member.endpoint(member.operator_port)))
        .collect();
    format!(
        "# Made by `cordon init`. Paths are relative to this file.\ncurrent = \"default\"\n\n\
         [context.default]\nendpoints = [{}]\nidentity = \"identity\"\nroots = \"roots/coordinator.pem\"\ntrust_domain = \"{}\"\n",
        endpoints.join(", "),
        cluster.trust_domain
    )
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
fn split_host(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, after.strip_prefix(':'));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Why a cluster was not made, or a certificate not issued.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "{folder} is not empty; a cluster is only made in an empty or absent folder, and keys are never overwritten: name another folder"
    )]
    NotEmpty { folder: PathBuf },
    #[error(
        "{folder} is a file or lies beneath one; a cluster is made in an empty or absent folder: name another path"
    )]
    NotAFolder { folder: PathBuf },
    #[error(
        "`{text}` is not a member: {problem}; write NAME=HOST, NAME=HOST:PORT or NAME=HOST,operator=PORT,agent=PORT,peer=PORT,enroll=PORT,listen=ADDRESS"
    )]
    Member { text: String, problem: String },
    #[error("{0} members were given; a cluster has 1 to {MEMBERS_MAX}, and 3 or 5 are what survives a loss")]
    MemberCount(usize),
    #[error("the {what} `{value}` is given twice; each must be its own")]
    Twice { what: &'static str, value: String },
    #[error(
        "there is no coordinator `{name}` in this cluster; add one with `cordon coordinator issue DIR --add NAME=HOST`"
    )]
    NoSuchMember { name: String },
    #[error(
        "{folder} is there already, and keys are never overwritten: move it away if that coordinator is gone, or choose another name"
    )]
    FolderThere { folder: PathBuf },
    #[error(transparent)]
    Name(#[from] SpiffeError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_cluster_is_born_complete_and_only_once() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("fleet");
        let members = ["c1=10.0.0.1", "c2=[fd00::2]:7500", "c3=10.0.0.3,enroll=9000"];
        let members = members.map(|text| text.parse().unwrap()).to_vec();
        let mut cluster = create(&folder, "cordon.internal", members.clone(), "ada").unwrap();
        assert_eq!(load(&folder).unwrap(), cluster);

        let home = folder.join("coordinators/c2");
        let identity = Identity::load(&home.join("identity")).unwrap();
        assert_eq!(
            identity.spiffe().to_string(),
            "spiffe://cordon.internal/coordinator/c2"
        );
        for role in Role::ALL {
            Roots::load(&home.join(format!("roots/{role}.pem"))).unwrap();
        }
        IssuingCa::load(&home.join("issuers"), Role::Agent).unwrap();
        IssuingCa::load(&home.join("issuers"), Role::Coordinator).unwrap();
        assert!(!home.join("issuers/operator.key").exists());
        let config = fs::read_to_string(home.join("coordinator.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        assert_eq!(config["listen"]["operator"].as_str(), Some("[::]:7500"));
        assert_eq!(
            config["cluster"]["member"][1]["enroll"].as_str(),
            Some("[fd00::2]:7503")
        );
        assert_eq!(
            config["cluster"]["member"][2]["enroll"].as_str(),
            Some("10.0.0.3:9000")
        );

        let operator = folder.join("operators/ada");
        let first = Identity::load(&operator.join("identity")).unwrap();
        let (_, second) = issue_operator(&folder, &cluster, "ada").unwrap();
        assert_ne!(first.key_sha256(), second.key_sha256());

        let (joined, member) =
            add_coordinator(&folder, &mut cluster, "c4=10.0.0.4".parse().unwrap()).unwrap();
        assert_eq!(member.raft_id, 4);
        assert!(
            fs::read_to_string(joined.join("coordinator.toml"))
                .unwrap()
                .contains("join = true")
        );

        assert!(matches!(
            create(&folder, "cordon.internal", members, "ada"),
            Err(InitError::NotEmpty { .. })
        ));
        let file = folder.join("kept");
        std::fs::write(&file, "here").unwrap();
        let refused = create(
            &file,
            "cordon.internal",
            vec!["c1=127.0.0.1".parse().unwrap()],
            "ada",
        );
        assert!(matches!(refused, Err(InitError::NotAFolder { .. })));
    }

    #[test]
    fn a_lost_member_gives_its_place_to_a_new_one() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("fleet");
        let members = ["c1=10.0.0.1", "c2=10.0.0.2:7500,listen=10.0.0.2", "c3=10.0.0.3"];
        let members = members.map(|text| text.parse().unwrap()).to_vec();
        let mut cluster = create(&folder, "d", members, "ada").unwrap();
        let old_key = fs::read(folder.join("coordinators/c2/identity/key.pem")).unwrap();

        // As often as one likes: the list grows no longer, and no id comes back.
        for round in 0..10 {
            let replaced = replace_coordinator(&folder, &mut cluster, "c2", None).unwrap();
            assert_eq!(replaced.member.raft_id, 4 + round);
            let same = Member {
                raft_id: replaced.old.raft_id,
                ..replaced.member.clone()
            };
            assert_eq!(same, replaced.old);
            assert_eq!(load(&folder).unwrap(), cluster);
            let config = fs::read_to_string(replaced.home.join("coordinator.toml")).unwrap();
            assert!(config.contains("join = true"), "{config}");
            assert!(replaced.home.join(FIRST_START_FILE).exists());
            let listed = config.parse::<toml::Table>().unwrap()["cluster"]["member"].clone();
            assert_eq!(listed.as_array().unwrap().len(), 3, "{config}");
        }
        let kept = fs::read(folder.join("coordinators/c2.replaced-2/identity/key.pem")).unwrap();
        assert_eq!(kept, old_key);

        // By another name, at another place; the folder may be gone.
        fs::remove_dir_all(folder.join("coordinators/c1")).unwrap();
        let elsewhere = "c4=10.0.0.4".parse().unwrap();
        let replaced = replace_coordinator(&folder, &mut cluster, "c1", Some(elsewhere)).unwrap();
        assert_eq!((replaced.member.raft_id, replaced.aside), (14, None));
        let names: Vec<&str> = cluster
            .members
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        assert_eq!(names, ["c3", "c2", "c4"]);

        // Not onto another member, nor over a folder that holds keys.
        let taken = "c9=10.0.0.3".parse().unwrap();
        let refused = replace_coordinator(&folder, &mut cluster, "c2", Some(taken)).unwrap_err();
        assert!(matches!(refused, InitError::Twice { .. }), "{refused}");
        fs::create_dir(folder.join("coordinators/c9")).unwrap();
        let there = "c9=10.0.0.9".parse().unwrap();
        let refused = replace_coordinator(&folder, &mut cluster, "c2", Some(there)).unwrap_err();
        assert!(matches!(refused, InitError::FolderThere { .. }), "{refused}");
        let refused = replace_coordinator(&folder, &mut cluster, "c1", None).unwrap_err();
        assert!(matches!(refused, InitError::NoSuchMember { .. }), "{refused}");
        assert_eq!(load(&folder).unwrap(), cluster);
    }

    #[test]
    fn loose_keys_are_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("fleet");
        create(&folder, "d", vec!["c1=h".parse().unwrap()], "ada").unwrap();
        let identity = folder.join("operators/ada/identity");
        fs::set_permissions(identity.join("key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        let refusal = Identity::load(&identity).err().unwrap().to_string();
        assert!(
            refusal.contains("mode 0640") && refusal.contains("chmod 600"),
            "{refusal}"
        );
        fs::set_permissions(identity.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o755)).unwrap();
        let refusal = Identity::load(&identity).err().unwrap().to_string();
        assert!(
            refusal.contains("mode 0755") && refusal.contains("chmod 700"),
            "{refusal}"
        );
    }

    #[test]
    fn members_that_make_no_sense_are_refused() {
        for text in [
            "c1",
            "=h",
            "C1=h",
            "c1=",
            "c1=h:0",
            "c1=h:x",
            "c1=h:65533",
            "c1=h\"x",
            "c1=h,agent",
            "c1=h,web=1",
            "c1=h,agent=0",
        ] {
            assert!(text.parse::<Member>().is_err(), "{text:?} was accepted");
        }
        let same = vec!["c1=h".parse().unwrap(), "c2=h".parse().unwrap()];
        assert!(matches!(
            check_members(&same),
            Err(InitError::Twice { what: "address", .. })
        ));
    }
}
