//! Mounts of one machine. They are private to its mount namespace and end with it.

use std::ffi::CString;
use std::path::Path;

use rustix::mount::MountFlags;

/// Mounts an empty tmpfs of this size.
pub fn tmpfs(at: &Path, size_bytes: u64) -> Result<(), String> {
    let failed = |problem: String| format!("cannot mount a tmpfs on {}: {problem}", at.display());
    let options =
        CString::new(format!("size={size_bytes},mode=0700")).map_err(|error| failed(error.to_string()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", at, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(|error| failed(error.to_string()))
}

/// Shows the folder `from` at the folder `at`.
pub fn bind(from: &Path, at: &Path) -> Result<(), String> {
    rustix::mount::mount_bind(from, at)
        .map_err(|error| format!("cannot show {} at {}: {error}", from.display(), at.display()))
}
