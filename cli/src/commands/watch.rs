//! Following a run: live on a terminal, a line per change elsewhere, through the loss of any node.

use std::{collections::HashMap, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::v1::{Run, WatchRunRequest};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client::{Client, is_transient},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean, moment, tell},
    shape,
};

/// How long to look for a node that answers before giving the watch up. The run goes on without us.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a node may take to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);

/// Follows a run until it has ended; the answer is 0 when it succeeded and 1 otherwise.
///
/// # Errors
/// When there is no such run, or no node answers for two minutes.
pub async fn watch(out: Output, client: &mut Client, run_id: &str) -> Result<u8> {
    let mut view = View::new(out);
    let mut after_revision = 0;
    let mut give_up = Instant::now() + PATIENCE;
    loop {
        let request = WatchRunRequest {
            run_id: run_id.to_owned(),
            after_revision,
        };
        let broken = match open(client, request).await {
            Err(error) => error,
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(event)) => {
                        give_up = Instant::now() + PATIENCE;
                        let Some(run) = event.run else { continue };
                        after_revision = run.revision;
                        view.show(&run)?;
                        if is_over(&run.status) {
                            return view.finish(&run);
                        }
                    }
                    // A node that stops closes its streams in good order; the run has not ended.
                    Ok(None) => {
                        break CliError::new(exit_codes::CONNECTION, "the coordinator closed the stream");
                    }
                    Err(status) if is_transient(&status) => break client.judge(status),
                    Err(status) => return Err(status.into()),
                }
            },
        };
        if broken.exit_code != exit_codes::CONNECTION {
            return Err(broken);
        }
        if Instant::now() >= give_up {
            return Err(broken.with_hint(format!(
                "the run goes on; look again with `cordon run watch {run_id}`"
            )));
        }
        view.moving(client.endpoint());
        client.move_on();
        sleep(PAUSE).await;
    }
}

/// Whether a run of this status changes no more.
pub fn is_over(status: &str) -> bool {
    matches!(status, "succeeded" | "failed" | "cancelled")
}

async fn open(
    client: &mut Client,
    request: WatchRunRequest,
) -> Result<tonic::Streaming<proto::v1::RunEvent>> {
    let mut api = client.api().await?;
    match timeout(OPEN_TIMEOUT, api.watch_run(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(client.judge(status)),
        Err(_) => Err(CliError::new(
            exit_codes::CONNECTION,
            format!("{} did not answer", client.endpoint()),
        )),
    }
}

/// What the watcher sees.
struct View {
    out: Output,
    /// The status that was last shown of each step, and what of each approval.
    shown: HashMap<String, String>,
    bar: ProgressBar,
}

impl View {
    fn new(out: Output) -> View {
        let live = out.format == Format::Table && out.terminal && std::io::stderr().is_terminal();
        let bar = ProgressBar::new(0);
        bar.set_draw_target(if live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        // The template is a constant; were it ever wrong, the default bar serves as well.
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {elapsed} [{bar:30}] {pos}/{len} tasks {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        View {
            out,
            shown: HashMap::new(),
            bar,
        }
    }

    fn show(&mut self, run: &Run) -> Result<()> {
        if self.out.format == Format::Jsonl {
            return self.out.one("", &shape::run(run));
        }
        let (mut total, mut open) = (0, 0);
        let mut running = Vec::new();
        for step in &run.steps {
            let counts = step.tasks.unwrap_or_default();
            total += counts.total;
            open += counts.waiting + counts.gated + counts.running;
            if step.status == "running" {
                running.push(clean(&step.name));
            }
            if self.shown.get(&step.name) == Some(&step.status) || step.status == "waiting" {
                continue;
            }
            self.shown.insert(step.name.clone(), step.status.clone());
            let at = if step.ended_at_ms == 0 {
                step.started_at_ms
            } else {
                step.ended_at_ms
            };
            self.line(&format!(
                "{}  {}  {}{}",
                moment(at),
                step.name,
                step.status,
                counts_text(step)
            ))?;
        }
        for approval in &run.waits {
            let key = format!("approval {}", approval.id);
            let mark = format!("{} {}", approval.missing, approval.roles.join(" "));
            if self.shown.get(&key) != Some(&mark) {
                self.shown.insert(key, mark);
                self.line(&format!(
                    "{}  {}",
                    moment(approval.created_at_ms),
                    super::approval::line(approval)
                ))?;
            }
        }
        self.bar.set_length(total.into());
        self.bar.set_position((total - open.min(total)).into());
        self.bar.set_message(running.join(", "));
        Ok(())
    }

    fn line(&self, text: &str) -> Result<()> {
        if self.out.format != Format::Table {
            return Ok(());
        }
        self.bar.suspend(|| self.out.line(&clean(text)))
    }

    /// Said on standard error: it is about the way here, not about the run.
    fn moving(&self, from: &str) {
        self.bar.suspend(|| {
            tell(format_args!(
                "{from} is gone or stopped; going on at the next coordinator"
            ));
        });
    }

    fn finish(&self, run: &Run) -> Result<u8> {
        self.bar.finish_and_clear();
        match self.out.format {
            Format::Table => {
                let reason = if run.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", run.reason)
                };
                self.line(&format!(
                    "{}  run {} {}{reason}",
                    moment(run.ended_at_ms),
                    run.id,
                    run.status
                ))?;
            }
            Format::Json => self.out.json(&shape::run(run))?,
            Format::Jsonl => {}
        }
        Ok(if run.status == "succeeded" {
            exit_codes::OK
        } else {
            exit_codes::FAILED
        })
    }
}

/// How a fan-out went, and why a step failed.
pub fn counts_text(step: &proto::v1::Step) -> String {
    let counts = step.tasks.unwrap_or_default();
    let parts: Vec<String> = [
        (counts.waiting, "waiting"),
        (counts.gated, "waiting for approval"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.cancelled, "cancelled"),
        (counts.expired, "expired"),
        (counts.unknown, "unknown"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let counts = if parts.is_empty() {
        String::new()
    } else {
        format!("  ({} tasks: {})", counts.total, parts.join(", "))
    };
    let reason = if step.reason.is_empty() {
        String::new()
    } else {
        format!("  {}", step.reason)
    };
    format!("{counts}{reason}")
}
