//! Walking a tree with bounded memory, without following anything out of it.
//!
//! Depth first, over handles: a folder is opened by its name in its parent's handle, so a folder that a
//! race replaces by a symbolic link is refused by the kernel, and listed as such. Memory is one open
//! handle and one buffer of directory entries per level. Other mounts are not entered (their roots are
//! listed as `other_mount`): what lies on them is asked for by naming them as roots.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use tokio_util::sync::CancellationToken;

use super::ActionError;
use super::beneath::{self, Fence, Refusal, RegularFile};
use super::patterns::Patterns;

/// Folders nested deeper than this are listed as `too_deep`.
const DEPTH_MAX: usize = 128;

/// A walk ends, truncated, after this many entries.
const VISITED_MAX: u64 = 20_000_000;

/// A regular file that the walk came by.
pub struct Entry<'a> {
    folder: BorrowedFd<'a>,
    name: &'a [u8],
    /// From the root of the walk, without a leading slash.
    pub relative: &'a [u8],
    /// The whole path.
    pub absolute: &'a [u8],
    /// Of the entry itself.
    pub stat: &'a Stat,
}

/// What a walk tells its visitor.
pub enum Step<'a> {
    /// A regular file.
    File(Entry<'a>),
    /// Something could not be looked at.
    Problem(&'a [u8], Refusal),
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Entries looked at, folders included.
    pub visited: u64,
    /// The visitor, or the limit on entries, ended it early.
    pub stopped: bool,
}

struct Level {
    dir: Dir,
    /// Length of the absolute path of this folder.
    path_len: usize,
}

impl Entry<'_> {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// A code: by now it may be something else, or nothing.
    pub fn open(&self) -> Result<RegularFile, Refusal> {
        beneath::open_file_in(self.folder, self.name)
    }
}

/// Walks each of `roots`, as far as the fence allows, and shows every regular file to `visit`.
/// What `exclude` matches is left out, folders with all that is in them.
///
/// # Errors
/// `cancelled`. Everything else is told to `visit` as a problem.
pub fn walk(
    fence: &Fence,
    roots: &[PathBuf],
    exclude: &Patterns,
    cancel: &CancellationToken,
    mut visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Walked, ActionError> {
    let mut walked = Walked::default();
    for wanted in roots {
        let starts = match fence.narrow(wanted) {
            Ok(starts) => starts,
            Err(refusal) => {
                if visit(Step::Problem(wanted.as_os_str().as_bytes(), refusal)).is_break() {
                    walked.stopped = true;
                    return Ok(walked);
                }
                continue;
            }
        };
        for start in starts {
            walk_one(fence, &start, exclude, cancel, &mut visit, &mut walked)?;
            if walked.stopped {
                return Ok(walked);
            }
        }
    }
    Ok(walked)
}

fn walk_one(
    fence: &Fence,
    root: &Path,
    exclude: &Patterns,
    cancel: &CancellationToken,
    visit: &mut impl FnMut(Step<'_>) -> ControlFlow<()>,
    walked: &mut Walked,
) -> Result<(), ActionError> {
    let mut path = root.as_os_str().as_bytes().to_vec();
    let opened = fence
        .open_folder(root)
        .and_then(|folder| Dir::new(folder).map_err(beneath::code));
    let dir = match opened {
        Ok(dir) => dir,
        Err(refusal) => {
            walked.stopped = visit(Step::Problem(&path, refusal)).is_break();
            return Ok(());
        }
    };
    if path == b"/" {
        path.clear();
    }
    let root_len = path.len() + 1;
    let mut levels = vec![Level {
        dir,
        path_len: path.len(),
    }];

    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        path.truncate(level.path_len);
        let entry = match level.dir.read() {
            None => {
                levels.pop();
                continue;
            }
            Some(Err(error)) => {
                walked.stopped = visit(Step::Problem(&path, beneath::code(error))).is_break();
                levels.pop();
                if walked.stopped {
                    return Ok(());
                }
                continue;
            }
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if cancel.is_cancelled() {
            return Err(ActionError::cancelled());
        }
        walked.visited += 1;
        if walked.visited > VISITED_MAX {
            walked.stopped = true;
            return Ok(());
        }
        path.push(b'/');
        path.extend_from_slice(name);
        let relative = &path[root_len..];
        if exclude.matches(relative, &path) {
            continue;
        }
        let folder = level
            .dir
            .fd()
            .map_err(|error| ActionError::io("reading a folder", &error.into()))?;
        // Most entries need no look of their own: the folder says what kind they are.
        let kind = entry.file_type();
        if !matches!(
            kind,
            FileType::RegularFile | FileType::Directory | FileType::Unknown
        ) {
            continue;
        }
        let step = match statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(error) => visit(Step::Problem(&path, beneath::code(error))),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => visit(Step::File(Entry {
                    folder: folder.as_fd(),
                    name,
                    relative,
                    absolute: &path,
                    stat: &stat,
                })),
                FileType::Directory => {
                    let opened = if depth >= DEPTH_MAX {
                        Err("too_deep")
                    } else {
                        beneath::open_folder_in(folder, name)
                            .and_then(|folder| Dir::new(folder).map_err(beneath::code))
                    };
                    match opened {
                        Err(refusal) => visit(Step::Problem(&path, refusal)),
                        Ok(dir) => {
                            levels.push(Level {
                                dir,
                                path_len: path.len(),
                            });
                            ControlFlow::Continue(())
                        }
                    }
                }
                // It was something to look at when the folder was read, and is not any more.
                FileType::Symlink if kind != FileType::Unknown => visit(Step::Problem(&path, "symlink")),
                _ => ControlFlow::Continue(()),
            },
        };
        if step.is_break() {
            walked.stopped = true;
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn nothing() -> Patterns {
        Patterns::new("exclude", &[]).expect("no globs")
    }

    fn look(fence: &Fence, root: &Path, exclude: &Patterns) -> (Vec<String>, BTreeMap<String, Refusal>) {
        let (mut files, mut problems) = (Vec::new(), BTreeMap::new());
        walk(
            fence,
            &[root.to_owned()],
            exclude,
            &CancellationToken::new(),
            |step| {
                match step {
                    Step::File(entry) => files.push(String::from_utf8_lossy(entry.relative).into_owned()),
                    Step::Problem(path, refusal) => {
                        problems.insert(String::from_utf8_lossy(path).into_owned(), refusal);
                    }
                }
                ControlFlow::Continue(())
            },
        )
        .expect("walks");
        files.sort();
        (files, problems)
    }

    #[test]
    fn files_are_found_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        std::fs::create_dir_all(root.join("skip/me")).expect("made");
        for name in ["one", "a/two", "a/b/three", "skip/me/four"] {
            std::fs::write(root.join(name), name).expect("written");
        }
        symlink("/etc", root.join("a/etc")).expect("linked");
        symlink("one", root.join("link")).expect("linked");
        let exclude = Patterns::new("exclude", &["skip".to_owned()]).expect("a glob");
        let (files, problems) = look(&Fence::new(&[]), root, &exclude);
        assert_eq!(files, ["a/b/three", "a/two", "one"]);
        assert_eq!(problems, BTreeMap::new());
    }

    #[test]
    fn other_mounts_are_listed_and_not_entered() {
        let exclude: Vec<String> = ["/[!dp]*", "/dev/[!p]*"].map(str::to_owned).to_vec();
        let (_, problems) = look(
            &Fence::new(&[]),
            Path::new("/"),
            &Patterns::new("exclude", &exclude).expect("globs"),
        );
        assert_eq!(problems.get("/proc"), Some(&"other_mount"));
        let (_, problems) = look(&Fence::new(&[]), Path::new("/proc"), &nothing());
        assert_eq!(problems.get("/proc"), Some(&"pseudo_filesystem"));
    }

    #[test]
    fn what_lies_too_deep_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = vec!["d"; DEPTH_MAX + 3].join("/");
        std::fs::create_dir_all(folder.path().join(&deep)).expect("made");
        std::fs::write(folder.path().join(&deep).join("file"), b"x").expect("written");
        let (files, problems) = look(&Fence::new(&[]), folder.path(), &nothing());
        assert_eq!(files.len(), 0);
        assert_eq!(problems.values().collect::<Vec<_>>(), [&"too_deep"]);
    }

    /// A folder inside the root and a link to a folder outside of it swap places all the time; nothing of
    /// the outside may ever be read.
    #[test]
    fn a_folder_that_turns_into_a_link_leads_nowhere() {
        let outside = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("secret"), b"secret").expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        std::fs::create_dir(root.join("swap")).expect("made");
        std::fs::write(root.join("swap/harmless"), b"harmless").expect("written");
        symlink(outside.path(), root.join("link")).expect("linked");

        let stop = Arc::new(AtomicBool::new(false));
        let swapper = std::thread::spawn({
            let (root, stop) = (root.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let cwd = rustix::fs::CWD;
                    rustix::fs::renameat_with(cwd, root.join("swap"), cwd, root.join("link"), flags)
                        .expect("swaps");
                }
            }
        });
        let mut seen = BTreeMap::<String, usize>::new();
        for _ in 0..3000 {
            let fence = Fence::new(std::slice::from_ref(&root));
            walk(
                &fence,
                std::slice::from_ref(&root),
                &nothing(),
                &CancellationToken::new(),
                |step| {
                    let said = match step {
                        Step::Problem(_, refusal) => refusal.to_owned(),
                        Step::File(entry) => match entry.open() {
                            Ok(opened) => std::io::read_to_string(opened.file).expect("reads"),
                            Err(refusal) => refusal.to_owned(),
                        },
                    };
                    *seen.entry(said).or_default() += 1;
                    ControlFlow::Continue(())
                },
            )
            .expect("walks");
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().expect("ends");
        assert!(seen.contains_key("harmless"), "{seen:?}");
        assert!(!seen.contains_key("secret"), "{seen:?}");
    }

    #[test]
    fn a_cancelled_walk_ends() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let walked = walk(
            &Fence::new(&[]),
            &[PathBuf::from("/etc")],
            &nothing(),
            &cancel,
            |_| ControlFlow::Continue(()),
        );
        assert_eq!(walked.map_err(|error| error.code), Err("cancelled"));
    }
}
