//! Opening files and folders without ever leaving the roots that the local policy allows.
//!
//! Everything goes through `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_MAGICLINKS`, so the kernel itself refuses a path that a race has turned into something
//! else; there is no check that is separate from the use. A file is first taken with `O_PATH`, which
//! opens no device and wakes no writer of a FIFO, looked at, and only then, being regular, opened for
//! reading through that very handle.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat2};
use rustix::io::Errno;

/// How every path below a root is resolved.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Why a path was not opened: a stable code for outputs.
pub type Refusal = &'static str;

/// The folders that actions on files may look into.
#[derive(Clone, Debug)]
pub struct Fence {
    roots: Vec<PathBuf>,
}

/// An open regular file, and what `fstat` said when it was opened.
#[derive(Debug)]
pub struct RegularFile {
    /// For reading.
    pub file: File,
    /// At the time of opening.
    pub stat: Stat,
}

impl Fence {
    /// A fence around these folders; none means the whole system.
    pub fn new(roots: &[PathBuf]) -> Self {
        let roots = if roots.is_empty() {
            vec![PathBuf::from("/")]
        } else {
            roots.to_vec()
        };
        Fence { roots }
    }

    /// Where a walk that was asked for `wanted` may start: `wanted` itself if it lies inside the fence,
    /// else those roots of the fence that lie inside `wanted`.
    ///
    /// # Errors
    /// `invalid_path` for a path that is not absolute or climbs with `..`; `outside_policy` when the
    /// fence and the wish have nothing in common.
    pub fn narrow(&self, wanted: &Path) -> Result<Vec<PathBuf>, Refusal> {
        let wanted = plain(wanted)?;
        if self.roots.iter().any(|root| wanted.starts_with(root)) {
            return Ok(vec![wanted]);
        }
        let inside: Vec<PathBuf> = self
            .roots
            .iter()
            .filter(|root| root.starts_with(&wanted))
            .cloned()
            .collect();
        if inside.is_empty() {
            Err("outside_policy")
        } else {
            Ok(inside)
        }
    }

    /// Opens a folder for reading its entries.
    ///
    /// # Errors
    /// A code, see [`code`]; `pseudo_filesystem` for `/proc` and its like.
    pub fn open_folder(&self, path: &Path) -> Result<OwnedFd, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.open(path, flags)?;
        refuse_pseudo(folder.as_fd())?;
        Ok(folder)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// A code, see [`code`]; `not_regular` for everything that is no regular file.
    pub fn open_file(&self, path: &Path) -> Result<RegularFile, Refusal> {
        let handle = self.open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        regular(handle)
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Refusal> {
        let path = plain(path)?;
        // The longest root that contains the path: what lies above it was chosen by the host's owner and
        // may pass through links; what lies below it may not.
        let root = self
            .roots
            .iter()
            .filter(|root| path.starts_with(root))
            .max_by_key(|root| root.as_os_str().len())
            .ok_or("outside_policy")?;
        let root_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let start =
            openat2(CWD, root, root_flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map_err(code)?;
        let below = path.strip_prefix(root).map_err(|_| "outside_policy")?;
        let below = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        openat2(&start, below, flags, Mode::empty(), STRICT).map_err(code)
    }
}

/// Opens a folder by its name in an open folder, on the same mount.
///
/// # Errors
/// `symlink` when a race put a link there, `other_mount` for a mount point.
pub fn open_folder_in(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(
        folder,
        OsStr::from_bytes(name),
        flags,
        Mode::empty(),
        STRICT | ResolveFlags::NO_XDEV,
    )
    .map_err(code)
}

/// Opens a regular file by its name in an open folder, on the same mount.
///
/// # Errors
/// As [`Fence::open_file`].
pub fn open_file_in(folder: BorrowedFd<'_>, name: &[u8]) -> Result<RegularFile, Refusal> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat2(
        folder,
        OsStr::from_bytes(name),
        flags,
        Mode::empty(),
        STRICT | ResolveFlags::NO_XDEV,
    )
    .map_err(code)?;
    regular(handle)
}

/// The stable code of a system error, as outputs carry it.
pub fn code(error: Errno) -> Refusal {
    match error {
        Errno::NOENT => "not_found",
        Errno::NOTDIR => "not_a_folder",
        Errno::ISDIR | Errno::NXIO => "not_regular",
        Errno::LOOP => "symlink",
        Errno::XDEV => "other_mount",
        Errno::ACCESS | Errno::PERM => "denied",
        Errno::NAMETOOLONG => "name_too_long",
        Errno::AGAIN | Errno::TXTBSY | Errno::BUSY => "busy",
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => "limit",
        Errno::STALE => "gone",
        Errno::NOSYS => "unsupported",
        _ => "io",
    }
}

/// The code of an error of the standard library.
pub fn code_of_io(error: &std::io::Error) -> Refusal {
    Errno::from_io_error(error).map_or("io", code)
}

/// Reopens an `O_PATH` handle of a regular file for reading.
fn regular(handle: OwnedFd) -> Result<RegularFile, Refusal> {
    let stat = fstat(&handle).map_err(code)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err("symlink"),
        _ => return Err("not_regular"),
    }
    refuse_pseudo(handle.as_fd())?;
    // The kernel's own name of the handle: no path is walked again, so nothing can be swapped in between.
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Looking at evidence should not change its access time; only the file's owner and root may ask that.
    let opened =
        rustix::fs::open(&link, flags | OFlags::NOATIME, Mode::empty()).or_else(|error| match error {
            Errno::PERM => rustix::fs::open(&link, flags, Mode::empty()),
            other => Err(other),
        });
    let file = File::from(opened.map_err(code)?);
    Ok(RegularFile { file, stat })
}

/// Files that the kernel makes up have no end, no meaning as evidence, and some of them block.
fn refuse_pseudo(handle: BorrowedFd<'_>) -> Result<(), Refusal> {
    /// `f_type` of procfs, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, pstore, configfs,
    /// efivarfs, mqueue, devpts, selinuxfs, smackfs, binfmt_misc, fusectl, nsfs (linux/magic.h).
    const PSEUDO: [u32; 18] = [
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6165_676c,
        0x6265_6570,
        0xde5e_81e4,
        0x1980_0202,
        0x1cd1,
        0xf97c_ff8c,
        0x4341_5d53,
        0x4249_4e4d,
        0x6573_5543,
        0x6e73_6673,
    ];
    let kind = fstatfs(handle).map_err(code)?.f_type;
    // The type's width and sign differ between architectures; the magic numbers are 32 bits.
    if PSEUDO.contains(&(kind as u32)) {
        Err("pseudo_filesystem")
    } else {
        Ok(())
    }
}

/// An absolute path without `.` and `..`.
fn plain(path: &Path) -> Result<PathBuf, Refusal> {
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return Err("invalid_path");
    }
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => plain.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err("invalid_path"),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_inside_the_fence_opens() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).expect("made");
        std::fs::write(inside.join("file"), b"x").expect("written");
        std::fs::write(folder.path().join("secret"), b"x").expect("written");
        symlink("../secret", inside.join("link")).expect("linked");
        symlink(folder.path(), inside.join("up")).expect("linked");
        let fence = Fence::new(std::slice::from_ref(&inside));

        assert!(fence.open_file(&inside.join("file")).is_ok());
        assert!(fence.open_file(&inside.join("./file")).is_ok());
        let refusals = [
            (inside.join("link"), "symlink"),
            (inside.join("up/secret"), "symlink"),
            (folder.path().join("secret"), "outside_policy"),
            (inside.join("../secret"), "invalid_path"),
            (PathBuf::from("relative"), "invalid_path"),
            (inside.clone(), "not_regular"),
            (inside.join("absent"), "not_found"),
            (inside.join("file/below"), "not_a_folder"),
        ];
        for (path, refusal) in refusals {
            assert_eq!(
                fence.open_file(&path).map(|_| ()),
                Err(refusal),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn fifos_devices_and_made_up_files_are_refused_without_being_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        let made = rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
        made.expect("a FIFO");
        let fence = Fence::new(&[]);
        assert_eq!(fence.open_file(&fifo).map(|_| ()), Err("not_regular"));
        assert_eq!(
            fence.open_file(Path::new("/dev/zero")).map(|_| ()),
            Err("not_regular")
        );
        assert_eq!(
            fence.open_file(Path::new("/proc/kmsg")).map(|_| ()),
            Err("pseudo_filesystem")
        );
        assert_eq!(
            fence.open_folder(Path::new("/proc")).map(|_| ()),
            Err("pseudo_filesystem")
        );
    }

    #[test]
    fn a_wish_wider_than_the_policy_is_narrowed_to_it() {
        let fence = Fence::new(&[PathBuf::from("/home"), PathBuf::from("/srv/data")]);
        assert_eq!(
            fence.narrow(Path::new("/home/a")),
            Ok(vec![PathBuf::from("/home/a")])
        );
        assert_eq!(
            fence.narrow(Path::new("/srv")),
            Ok(vec![PathBuf::from("/srv/data")])
        );
        assert_eq!(fence.narrow(Path::new("/etc")), Err("outside_policy"));
        // A prefix of the text is no prefix of the path.
        assert_eq!(fence.narrow(Path::new("/homestead")), Err("outside_policy"));
    }
}
