//! `init`, `operator issue` and `coordinator issue`: what needs the CAs' keys and no cluster.

use certs::init::{self, Member};
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
    let Coordinator::Issue { dir, name, add } = command;
    let mut cluster = init::load(dir)?;
    let (text, value) = match (name, add) {
        (Some(name), None) => {
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
        (None, Some(add)) => {
            let (home, member) = init::add_coordinator(dir, &mut cluster, add.parse()?)?;
            let text = format!(
                "Made {home}.\nCopy it to the new coordinator, start it there, then:\n  \
                 cordon cluster add {} --raft-id {} --peer {} --agent {} --operator {} --enroll {}\n",
                member.name,
                member.raft_id,
                member.endpoint(member.peer_port),
                member.endpoint(member.agent_port),
                member.endpoint(member.operator_port),
                member.endpoint(member.enroll_port),
                home = home.display(),
            );
            (
                text,
                json!({ "name": member.name, "raft_id": member.raft_id, "dir": home.to_string_lossy() }),
            )
        }
        _ => {
            return Err(CliError::new(
                exit_codes::USAGE,
                "give either a member's name or --add NAME=HOST",
            ));
        }
    };
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

fn unix_ms(at: std::time::SystemTime) -> Result<u64> {
    at.duration_since(std::time::UNIX_EPOCH)
        .map(|since| since.as_millis() as u64)
        .map_err(|_| CliError::new(exit_codes::INTERNAL, "the certificate ends before 1970"))
}
