//! Spare segments, made ahead by a thread of their own, under names that no segment ever has.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::error::{StorageError, io_error};
use super::segment::make_spare;

/// What a spare's name starts with.
const PREFIX: &str = "spare-";

/// The maker of spares: one lies ready, at most.
#[derive(Debug)]
pub(super) struct Spares {
    folder: PathBuf,
    size: usize,
    /// None only while it is dropped.
    ready: Option<Receiver<Result<PathBuf, StorageError>>>,
    maker: Option<JoinHandle<()>>,
}

impl Spares {
    /// Removes what an earlier process left and begins.
    pub(super) fn start(folder: &Path, size: usize) -> Result<Spares, StorageError> {
        for file in std::fs::read_dir(folder).map_err(io_error("list", folder))? {
            let file = file.map_err(io_error("list", folder))?;
            if file.file_name().to_string_lossy().starts_with(PREFIX) {
                let path = file.path();
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        let (sender, ready) = sync_channel(0);
        let target = folder.to_owned();
        let maker = std::thread::Builder::new()
            .name("wal-spare".to_owned())
            .spawn(move || {
                for number in 0u64.. {
                    let path = target.join(format!("{PREFIX}{number}"));
                    let made = make_spare(&path, size).map(|()| path);
                    let failed = made.is_err();
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(io_error("start the thread that fills", folder))?;
        Ok(Spares {
            folder: folder.to_owned(),
            size,
            ready: Some(ready),
            maker: Some(maker),
        })
    }

    /// A zero-filled file of at least `size` bytes, and its size.
    pub(super) fn take(&self, size: usize) -> Result<(PathBuf, usize), StorageError> {
        if size > self.size {
            let path = self.folder.join(format!("{PREFIX}large"));
            make_spare(&path, size)?;
            return Ok((path, size));
        }
        let gone = |_| {
            let source = std::io::Error::other("the thread that fills spare segments ended");
            io_error("fill a segment in", &self.folder)(source)
        };
        Ok((
            self.ready.as_ref().expect("not dropped").recv().map_err(gone)??,
            self.size,
        ))
    }
}

impl Drop for Spares {
    /// Waits for the thread, while the folder is still locked: it must not fill a file that the folder's next owner
    /// has published under another name.
    fn drop(&mut self) {
        self.ready = None;
        if let Some(maker) = self.maker.take() {
            // It returns its errors; a panic would have shown up as a closed channel.
            let _ = maker.join();
        }
    }
}
