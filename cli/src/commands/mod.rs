//! One file per noun of the command line.

mod action;
mod agent;
mod approval;
mod audit;
mod cacao;
mod cluster;
mod confirm;
mod control;
mod enroll_token;
mod event;
mod evidence;
mod explain;
mod offline;
mod plan;
mod playbook;
mod playbook_test;
mod published;
mod role;
mod rollback;
mod run;
mod status;
mod submission;
mod timeline;
mod trigger;
mod watch;
mod why;

use std::collections::HashMap;

use clap::CommandFactory;

use crate::{
    args::{self, Cli, Command, Global, Playbook},
    client::Client,
    config,
    error::{CliError, Result},
    exit_codes,
    output::Output,
};

/// Runs one command; the answer is the exit code.
///
/// # Errors
/// What stood against it.
pub fn run(cli: Cli) -> Result<u8> {
    let out = Output::new(cli.global.output);
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => offline::init(out, &args),
        Command::Operator(command) => offline::operator(out, &command),
        Command::Coordinator(command) => offline::coordinator(out, &command),
        Command::Playbook(Playbook::Validate { playbooks }) => playbook::validate(out, &playbooks),
        Command::Playbook(Playbook::Import(args)) => cacao::import(out, &args),
        Command::Playbook(Playbook::Export(args)) => cacao::export(out, &args),
        Command::Playbook(Playbook::Test {
            files,
            case,
            coverage,
            min_coverage,
        }) => playbook_test::run(
            out,
            &files,
            &playbook_test::Asked {
                case: case.as_deref(),
                coverage,
                min_coverage,
            },
        ),
        Command::Playbook(Playbook::Schema) => playbook::schema(out),
        Command::Playbook(Playbook::Graph {
            playbook,
            format,
            run: None,
        }) => playbook::graph(out, &playbook, format, None),
        Command::Playbook(Playbook::Graph {
            playbook,
            format,
            run: Some(id),
        }) => online(global, async |mut client| {
            let run = run::get(&mut client, id).await?;
            playbook::graph(out, &playbook, format, Some(&run))
        }),
        Command::Playbook(Playbook::Plan(args)) => online(global, async |mut client| {
            plan::plan(out, &mut client, &args).await
        }),
        Command::Playbook(Playbook::Publish { playbook, note }) => online(global, async |mut client| {
            published::publish(out, &mut client, &playbook, note).await
        }),
        Command::Playbook(Playbook::List) => online(global, async |mut client| {
            published::list(out, &mut client, "").await
        }),
        Command::Playbook(Playbook::History { name }) => online(global, async |mut client| {
            published::list(out, &mut client, &name).await
        }),
        Command::Playbook(Playbook::Show { name }) => online(global, async |mut client| {
            published::show(out, &mut client, &name).await
        }),
        Command::Playbook(Playbook::Diff { from, to }) => online(global, async |mut client| {
            published::diff(out, &mut client, &from, &to).await
        }),
        Command::Explain { code } => explain::run(out, code.as_deref()),
        Command::Action(command) => action::run(out, &command),
        Command::Demo(args) => Ok(crate::demo::run(&args)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cordon", &mut script);
            out.print(&String::from_utf8_lossy(&script))?;
            Ok(exit_codes::OK)
        }
        Command::Status => online(global, async |mut client| status::run(out, &mut client).await),
        Command::Agent(command) => online(global, async |mut client| {
            agent::run(out, &mut client, command).await
        }),
        Command::EnrollToken(command) => online(global, async |mut client| {
            enroll_token::run(out, &mut client, command).await
        }),
        Command::Run(command) => online(global, async |mut client| {
            run::run(out, &mut client, command).await
        }),
        Command::Event(args::Event::Send(args)) => online(global, async |mut client| {
            event::send(out, &mut client, args).await
        }),
        Command::Trigger(command) => online(global, async |mut client| {
            trigger::run(out, &mut client, command).await
        }),
        Command::Evidence(command) => online(global, async |mut client| {
            evidence::run(out, &mut client, command).await
        }),
        Command::Cluster(command) => online(global, async |mut client| {
            cluster::run(out, &mut client, command).await
        }),
        Command::Approval(command) => online(global, async |mut client| {
            approval::run(out, &mut client, command).await
        }),
        Command::Role(command) => online(global, async |mut client| {
            role::run(out, &mut client, command).await
        }),
        Command::Audit(command) => online(global, async |mut client| {
            audit::run(out, &mut client, command).await
        }),
    }
}

/// Reads the configuration and runs a command that talks to the cluster.
fn online(global: &Global, command: impl AsyncFnOnce(Client) -> Result<u8>) -> Result<u8> {
    let context = config::load(global.config.as_deref(), global.context.as_deref())?;
    let client = Client::new(&context)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(exit_codes::INTERNAL, format!("cannot start: {error}")))?
        .block_on(command(client))
}

/// `KEY=VALUE` arguments as a map; a key given twice is an error.
fn key_values(given: &[String]) -> Result<HashMap<String, String>> {
    let mut map = HashMap::new();
    for text in given {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| CliError::new(exit_codes::USAGE, format!("`{text}` is not KEY=VALUE")))?;
        if map.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(CliError::new(
                exit_codes::USAGE,
                format!("`{key}` is given twice"),
            ));
        }
    }
    Ok(map)
}

/// Labels for a table's cell, in order.
fn labels_text(labels: &HashMap<String, String>) -> String {
    let mut labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    labels.join(",")
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
