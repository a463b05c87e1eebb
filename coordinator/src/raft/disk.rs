//! The threads that wait for the disk, so that the driver never does: one writes and syncs the log, one writes
//! checkpoints.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::handle::{Event, Shared};
use super::io::{CheckpointJob, Halted, Write};
use crate::storage::{CheckpointStore, DiskLimits, LogStore, StorageError, Wal};

/// Writes that wait for the log's thread. When it is that far behind, the driver waits for it.
const WRITES_MAX: usize = 256;
/// The pause before the driver's full queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What the log's thread is told.
pub(super) enum LogJob {
    Write(Write),
    Compact(u64),
}

/// The disk, as the driver sees it.
pub(super) struct Disk {
    log: Option<SyncSender<LogJob>>,
    checkpoints: Option<Sender<CheckpointJob>>,
    persisted: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    /// Starts the threads. An error in one of them halts the node.
    pub(super) fn start(wal: Wal, store: &CheckpointStore, shared: &Arc<Shared>) -> std::io::Result<Disk> {
        let (log, writes) = sync_channel(WRITES_MAX);
        let (checkpoints, jobs) = channel();
        let persisted = Arc::new(AtomicU64::new(0));
        let threads = vec![
            thread("raft-log", shared, {
                let (shared, store, persisted) = (Arc::clone(shared), store.clone(), Arc::clone(&persisted));
                move || write_log(wal, &writes, &store, &persisted, &shared)
            })?,
            thread("raft-checkpoint", shared, {
                let (shared, store) = (Arc::clone(shared), store.clone());
                move || write_checkpoints(&jobs, &store, &shared)
            })?,
        ];
        Ok(Disk {
            log: Some(log),
            checkpoints: Some(checkpoints),
            persisted,
            threads,
        })
    }

    /// Hands a job to the log's thread. False: the thread has ended.
    pub(super) fn log(&self, job: LogJob) -> bool {
        self.log.as_ref().is_some_and(|log| log.send(job).is_ok())
    }

    /// Hands over a checkpoint; the replica asks for one at a time. False: the thread has ended.
    pub(super) fn checkpoint(&self, job: CheckpointJob) -> bool {
        self.checkpoints
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// The number of the last durable write.
    pub(super) fn persisted(&self) -> u64 {
        self.persisted.load(Ordering::Acquire)
    }
}

impl Drop for Disk {
    /// Waits until everything that was handed over is written.
    fn drop(&mut self) {
        self.log = None;
        self.checkpoints = None;
        for thread in self.threads.drain(..) {
            // A panic in there has halted the node already.
            let _ = thread.join();
        }
    }
}

/// Runs a thread whose failure, by error or by panic, halts the node.
pub(super) fn thread<E: Into<Halted>>(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (shared, label) = (Arc::clone(shared), name.to_owned());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let why = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.into(),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
                Halted {
                    reason: format!(
                        "the thread {label} panicked: {}",
                        message.unwrap_or("for an unknown reason")
                    ),
                    of_data: false,
                }
            }
        };
        shared.halt(why);
    })
}

fn write_log(
    mut wal: Wal,
    jobs: &Receiver<LogJob>,
    store: &CheckpointStore,
    persisted: &AtomicU64,
    shared: &Shared,
) -> Result<(), StorageError> {
    while let Ok(first) = jobs.recv() {
        let mut last = None;
        // One sync for all that has gathered: group commit.
        for job in std::iter::once(first).chain(std::iter::from_fn(|| jobs.try_recv().ok())) {
            match job {
                LogJob::Write(write) => {
                    if let Some(installed) = &write.install {
                        store.put(installed)?;
                    }
                    write.to_log(&mut wal)?;
                    last = Some(write.number);
                }
                LogJob::Compact(index) => wal.compact(index)?,
            }
        }
        wal.sync()?;
        if let Some(number) = last {
            persisted.store(number, Ordering::Release);
            // If the queue is full the driver is awake, and looks at the number anyway.
            let _ = shared.send(Event::Wake);
        }
    }
    Ok(())
}

fn write_checkpoints(
    jobs: &Receiver<CheckpointJob>,
    store: &CheckpointStore,
    shared: &Shared,
) -> Result<(), StorageError> {
    while let Ok(job) = jobs.recv() {
        let checkpoint = job.encode();
        drop(job);
        store.put(&checkpoint)?;
        tracing::debug!(
            index = checkpoint.meta.index,
            bytes = checkpoint.meta.size_bytes,
            "checkpoint written"
        );
        // Waits for room: losing it would end checkpoints for good. But not for a driver that waits for this thread.
        let mut event = Event::CheckpointDurable(checkpoint.meta);
        while let Err(TrySendError::Full(back)) = shared.send(event) {
            if shared.stop.load(Ordering::Acquire) || shared.halted.borrow().is_some() {
                return Ok(());
            }
            event = back;
            std::thread::sleep(FULL_PAUSE);
        }
    }
    Ok(())
}

/// Where the free space is measured, and against what.
pub(super) struct Room {
    pub(super) folder: PathBuf,
    pub(super) limits: DiskLimits,
}

impl Room {
    /// Measures the free space and publishes whether it is enough for new runs.
    pub(super) fn look(&self, shared: &Shared) {
        match crate::storage::free_percent(&self.folder) {
            Ok(free_percent) => {
                let short = !self.limits.has_room_for_runs(free_percent);
                if shared.disk_is_short.swap(short, Ordering::Relaxed) != short {
                    tracing::warn!(
                        free_percent,
                        short,
                        "the room for new runs on the data folder's disk"
                    );
                }
            }
            Err(error) => tracing::debug!(%error, "free space"),
        }
    }
}
