//! Key files and their folders: 0600 in 0700, ours alone, or they are not used.
//!
//! A file is made under a temporary name with O_EXCL, written, fsynced, then renamed over the old one, so a
//! reader sees the old text or the new one and a crash leaves nothing half written.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// The mode of a folder that holds keys.
pub const FOLDER_MODE: u32 = 0o700;
/// The mode of a key file.
pub const SECRET_MODE: u32 = 0o600;
/// The mode of a certificate file, which is no secret.
pub const PUBLIC_MODE: u32 = 0o644;
/// Largest file that is read, in bytes.
pub const FILE_LENGTH_MAX: u64 = 1 << 20;

/// Makes a folder, and the ones above it, with mode 0700. One that is there already is checked instead.
///
/// # Errors
/// When it cannot be made, or is looser than 0700, or is someone else's.
pub fn make_private_folder(folder: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|source| FileError::io("make the folder", folder, source))?;
    check_private_folder(folder)
}

/// Refuses a folder that others may read or write, or that belongs to someone else.
///
/// # Errors
/// What is wrong with it, and the command that mends it.
pub fn check_private_folder(folder: &Path) -> Result<(), FileError> {
    let meta = fs::metadata(folder).map_err(|source| FileError::io("look at", folder, source))?;
    check_owner(folder, meta.uid())?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::FolderMode {
            path: folder.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Reads a secret, refusing one that others may read or write, a link, or one in a loose folder.
///
/// # Errors
/// What is wrong with the file or its folder, and the command that mends it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    check_private_folder(parent(path))?;
    // The checks are made on the opened file, not on its name, so that nothing can be put in between.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
        .map_err(|source| FileError::io("open", path, source))?;
    let meta = file
        .metadata()
        .map_err(|source| FileError::io("look at", path, source))?;
    if !meta.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    check_owner(path, meta.uid())?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(FileError::SecretMode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    read_bounded(&mut file, path, meta.len(), &mut bytes)?;
    Ok(bytes)
}

/// Reads a file that is no secret.
///
/// # Errors
/// When it cannot be read, or is larger than [`FILE_LENGTH_MAX`].
pub fn read_public(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut file = File::open(path).map_err(|source| FileError::io("open", path, source))?;
    let meta = file
        .metadata()
        .map_err(|source| FileError::io("look at", path, source))?;
    let mut bytes = Vec::new();
    read_bounded(&mut file, path, meta.len(), &mut bytes)?;
    Ok(bytes)
}

/// Makes a new file; one that is there already is an error, so nothing is ever overwritten by mistake.
///
/// # Errors
/// When it exists, or cannot be written.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write_exclusive(path, bytes, mode)?;
    sync_folder(parent(path))
}

/// Puts a file in the place of another in one step. Both may hold secrets.
///
/// # Errors
/// When it cannot be written; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write_aside(path, bytes, mode)?;
    move_aside_into_place(path)
}

/// The name under which a file waits before it takes its place.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Writes a file's next content beside it, durably.
pub(crate) fn write_aside(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let fresh = aside(path);
    // A crash may have left one behind. It was never in use.
    match fs::remove_file(&fresh) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::io("remove", &fresh, source));
        }
        _ => {}
    }
    create_new(&fresh, bytes, mode)
}

/// Makes the content that waits beside a file the file's own, durably.
pub(crate) fn move_aside_into_place(path: &Path) -> Result<(), FileError> {
    fs::rename(aside(path), path).map_err(|source| FileError::io("replace", path, source))?;
    sync_folder(parent(path))
}

fn write_exclusive(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(no_follow())
        .open(path)
        .map_err(|source| FileError::io("make", path, source))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| FileError::io("write", path, source))
}

fn read_bounded(file: &mut File, path: &Path, length: u64, into: &mut Vec<u8>) -> Result<(), FileError> {
    if length > FILE_LENGTH_MAX {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    // Room for all of it at once: a growing buffer would leave copies of a key behind.
    into.reserve_exact(length as usize + 1);
    file.take(FILE_LENGTH_MAX)
        .read_to_end(into)
        .map_err(|source| FileError::io("read", path, source))?;
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| FileError::io("sync the folder", folder, source))
}

fn check_owner(path: &Path, owner: u32) -> Result<(), FileError> {
    let me = rustix::process::geteuid().as_raw();
    if owner == me || owner == 0 {
        Ok(())
    } else {
        Err(FileError::Owner {
            path: path.to_owned(),
            owner,
            me,
        })
    }
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Why a file of ours was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {verb} {path}: {source}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is readable or writable by others (mode {mode:04o}); keys are only used from a folder with mode 0700: run `chmod 700 {path}`"
    )]
    FolderMode { path: PathBuf, mode: u32 },
    #[error(
        "{path} is readable or writable by others (mode {mode:04o}); a key is only used with mode 0600: run `chmod 600 {path}`, and think about who may have copied it"
    )]
    SecretMode { path: PathBuf, mode: u32 },
    #[error("{path} belongs to user {owner}, and this process is user {me}: run as its owner, or `chown` it")]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("{path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path} is larger than {FILE_LENGTH_MAX} bytes; it cannot be a key or a certificate")]
    TooLarge { path: PathBuf },
    #[error("{path} {problem}")]
    Content { path: PathBuf, problem: String },
}

impl FileError {
    fn io(verb: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn content(path: &Path, problem: impl Into<String>) -> FileError {
        FileError::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
