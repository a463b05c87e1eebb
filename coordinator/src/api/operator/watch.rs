//! Watching a run: as it stands, then every change, until it has ended. On any node, because every node
//! applies every entry; a watcher whose node dies goes on at another with the last revision that it saw.

use std::sync::Arc;
use std::time::Duration;

use engine::effect::Effect;
use engine::id::RunId;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::v1;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tonic::Status;

use super::{Operators, not_found, parse};
use crate::api::convert::{self, Detail};
use crate::api::error::ApiError;
use crate::control::Control;

/// Changes closer together than this are told as one; the end is told at once.
const COALESCE: Duration = Duration::from_millis(50);

struct Watch {
    control: Control,
    effects: Receiver<Arc<Vec<Effect>>>,
    run: RunId,
    after_revision: u64,
    next_at: Instant,
    is_over: bool,
}

impl Operators {
    pub(super) async fn watch_run(
        &self,
        asked: v1::WatchRunRequest,
    ) -> Result<BoxStream<'static, Result<v1::RunEvent, Status>>, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        // Before the first look, so that no change falls between.
        let effects = self.control.watch();
        if !self.control.query(|state| state.run(&run).is_some()).await? {
            return Err(not_found("run", run));
        }
        let watch = Watch {
            control: self.control.clone(),
            effects,
            run,
            after_revision: asked.after_revision,
            next_at: Instant::now(),
            is_over: false,
        };
        Ok(futures::stream::unfold(watch, |mut watch| async move {
            watch.next().await.map(|event| (Ok(event), watch))
        })
        .boxed())
    }
}

impl Watch {
    async fn next(&mut self) -> Option<v1::RunEvent> {
        while !self.is_over {
            let seen = self.after_revision;
            let look = |state: &engine::State| {
                let run = state.run(&self.run)?;
                let is_over = run.status.is_end();
                // Who resumes behind the last change of an ended run still hears how it ended.
                let is_news = run.revision > seen || is_over;
                Some((is_over, is_news.then(|| convert::run(state, run, Detail::Full))))
            };
            let (is_over, news) = self.control.local(look)?;
            self.is_over = is_over;
            if let Some(run) = news {
                self.after_revision = run.revision;
                self.next_at = Instant::now() + COALESCE;
                return Some(v1::RunEvent { run: Some(run) });
            }
            self.changed().await?;
        }
        None
    }

    /// Waits until the run may have changed, and a moment longer for company unless it has ended.
    async fn changed(&mut self) -> Option<()> {
        let mut is_news = false;
        loop {
            let received = tokio::select! {
                received = self.effects.recv() => received,
                () = tokio::time::sleep_until(self.next_at), if is_news => return Some(()),
            };
            match received {
                Ok(effects)
                    if effects
                        .iter()
                        .any(|effect| matches!(effect, Effect::Run(run) if *run == self.run)) =>
                {
                    is_news = true;
                }
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => is_news = true,
                Err(RecvError::Closed) => return None,
            }
            let has_ended =
                |state: &engine::State| state.run(&self.run).is_none_or(|run| run.status.is_end());
            if self.control.local(has_ended) {
                return Some(());
            }
        }
    }
}
