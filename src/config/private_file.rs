//! Key files: made whole, for their owner alone, and refused if anybody else could read them.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a key whole, for its owner alone; one that another process has made meanwhile stays.
///
/// # Errors
/// Unavailable, if the file cannot be written.
pub fn make_key_file(path: &Path, text: &str) -> Result<()> {
    let failed = |cause: std::io::Error| Error::unavailable(format!("the key {} cannot be made", path.display())).caused_by(cause);
    let new = path.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // Whether it was linked or not, its own name goes.
    let removed = std::fs::remove_file(&new);
    // What the key wraps may be committed next: its name must outlast a power cut, too.
    let kept = std::fs::File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
    linked.and(removed).and(kept).map_err(failed)
}

/// The text of a key file; `None` if it is not there.
///
/// # Errors
/// Unavailable, if it cannot be read; invalid, if others than its owner may read or change it.
pub fn read_key_file(path: &Path) -> Result<Option<String>> {
    let unread = |cause| Error::unavailable(format!("the key {} cannot be read", path.display())).caused_by(cause);
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(unread(cause)),
    };
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0 {
        return Err(Error::invalid(format!(
            "the key {0} may be read or changed by others than its owner: run `chmod 600 {0}`, and think of the key as known to them",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map(Some).map_err(unread)
}
