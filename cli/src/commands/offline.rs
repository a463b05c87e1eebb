//! `init`, `operator issue` and `coordinator issue`: what needs the CAs' keys and no cluster.

use certs::init::{self, InitError, Member};
use serde_json::json;

use crate::{
    args::{Coordinator, Init, Operator},
    error::{CliError, Result},
    exit_codes,
    output::{Output, moment},
};

pub fn init(out: Output, args: &Init) -> Result<u8> {
    let members: Vec<Member> = if args.members.is_empty() {
        vec!["c1=127.0.0.1".parse()?]
    } else {
        args.members
            .iter()
            .map(|text| text.parse())
            .collect::<std::result::Result<_, _>>()?
    };
    let cluster = init::create(&args.dir, &args.trust_domain, members, &args.operator)?;
    let dir = args.dir.display();
    let names: Vec<&str> = cluster
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    let operator = &args.operator;
    let text = format!(
        "Made cluster {id} ({domain}) in {dir}: {members}.\n\
         Next:\n\
         1. Copy {dir}/coordinators/NAME to each coordinator (keep the modes: `cp -a`, `rsync -a`) and start\n   \
            `cordon-coordinator --config NAME/coordinator.toml` there.\n\
         2. Use `--config {dir}/operators/{operator}/config.toml`, or `export CORDON_CONFIG=` it: `cordon status`.\n   \
            The certificate holds 12 hours; renew it with `cordon operator issue {dir} {operator}`.\n\
         3. Keep {dir}/ca offline. The operator CA's key is nowhere else.\n",
        id = cluster.id,
        domain = cluster.trust_domain,
        members = names.join(", "),
    );
    let value = json!({
        "cluster_id": cluster.id, "trust_domain": cluster.trust_domain, "dir": args.dir.to_string_lossy(),
        "members": cluster.members.iter().map(|member| json!({ "name": member.name, "raft_id": member.raft_id })).collect::<Vec<_>>(),
        "operator": operator,
    });
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

pub fn operator(out: Output, command: &Operator) -> Result<u8> {
    let Operator::Issue { dir, name } = command;
    let cluster = init::load(dir)?;
    let (home, identity) = init::issue_operator(dir, &cluster, name)?;
    let until = unix_ms(identity.not_after())?;
    let text = format!(
        "Issued {} until {}: {}\nOn another machine, copy that folder with its modes.\n",
        identity.spiffe(),
        moment(until),
        home.display()
    );
    let value = json!({
        "name": identity.spiffe().to_string(), "not_after_ms": until, "dir": home.to_string_lossy(),
        "key_sha256": hex::encode(identity.key_sha256()),
    });
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

pub fn coordinator(out: Output, command: &Coordinator) -> Result<u8> {
    let Coordinator::Issue {
        dir,
        name,
        add,
        replace,
    } = command;
    let mut cluster = init::load(dir)?;
    let add: Option<Member> = add.as_deref().map(str::parse).transpose()?;
    let (text, value) = match (name, replace, add) {
        (Some(name), _, _) => {
            let (home, identity) = init::renew_coordinator(dir, &cluster, name)?;
            let until = unix_ms(identity.not_after())?;
            let text = format!(
                "Issued {} until {}.\nCopy {}/identity to that coordinator; it is taken up without a restart.\n",
                identity.spiffe(),
                moment(until),
                home.display()
            );
            (
                text,
                json!({ "name": name, "not_after_ms": until, "dir": home.to_string_lossy() }),
            )
        }
        (None, Some(old), add) => replaced(&init::replace_coordinator(dir, &mut cluster, old, add)?),
        (None, None, Some(add)) => {
            let added = init::add_coordinator(dir, &mut cluster, add);
            let (home, member) = added.map_err(|error| match error {
                InitError::Twice { .. } | InitError::MemberCount(_) => CliError::from(error)
                    .with_hint("a member that is lost gives its place up with `--replace NAME`"),
                error => error.into(),
            })?;
            let text = format!(
                "Made {home}.\nCopy it to the new coordinator, start it there, then:\n  {}\n",
                cluster_add(&member),
                home = home.display(),
            );
            (
                text,
                json!({ "name": member.name, "raft_id": member.raft_id, "dir": home.to_string_lossy() }),
            )
        }
        (None, None, None) => {
            return Err(CliError::new(
                exit_codes::USAGE,
                "give a member's name, --add NAME=HOST or --replace NAME",
            ));
        }
    };
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

fn replaced(replacement: &init::Replacement) -> (String, serde_json::Value) {
    let init::Replacement {
        home,
        member,
        old,
        aside,
    } = replacement;
    let kept = aside.as_ref().map_or(String::new(), |aside| {
        format!(" (the folder of the old one is now {})", aside.display())
    });
    let text = format!(
        "Made {home} for {} with raft id {}, in the place of {} with raft id {}{kept}.\nNext:\n\
         1. If `cordon cluster status` lists the old one: cordon cluster remove {}\n\
         2. Move the old coordinator's folder aside on its host, copy the new one there, and start it.\n\
         3. {}\n",
        member.name,
        member.raft_id,
        old.name,
        old.raft_id,
        old.raft_id,
        cluster_add(member),
        home = home.display(),
    );
    let value = json!({
        "name": member.name, "raft_id": member.raft_id, "dir": home.to_string_lossy(),
        "replaced": {
            "name": old.name, "raft_id": old.raft_id,
            "dir": aside.as_ref().map(|aside| aside.to_string_lossy()),
        },
    });
    (text, value)
}

/// The command that makes a new folder's member one of the cluster.
fn cluster_add(member: &Member) -> String {
    format!(
        "cordon cluster add {} --raft-id {} --peer {} --agent {} --operator {} --enroll {}",
        member.name,
        member.raft_id,
        member.endpoint(member.peer_port),
        member.endpoint(member.agent_port),
        member.endpoint(member.operator_port),
        member.endpoint(member.enroll_port),
    )
}

fn unix_ms(at: std::time::SystemTime) -> Result<u64> {
    at.duration_since(std::time::UNIX_EPOCH)
        .map(|since| since.as_millis() as u64)
        .map_err(|_| CliError::new(exit_codes::INTERNAL, "the certificate ends before 1970"))
}
