//! Copies of a book for the day on which the disk is gone.

use std::path::{Path, PathBuf};

use crate::file::{self, OpenError};
use crate::reader::{ReadError, Reader};

impl Reader {
    /// Copies the book as it stands at this moment to the file at `to`, beside whoever writes it. The file
    /// must not be there yet.
    ///
    /// # Errors
    ///
    /// A [`BackupError`]; what is there is not a backup then.
    pub fn back_up(&self, to: &Path) -> Result<(), BackupError> {
        if to.exists() {
            return Err(BackupError::Exists);
        }
        file::create_private(to).map_err(BackupError::Open)?;
        let name = to.to_str().ok_or(BackupError::Name)?;
        self.connection.execute("VACUUM INTO ?1", [name]).map_err(ReadError::from)?;
        file::sync(to).map_err(BackupError::Io)
    }
}

/// Puts the backup at `from` in the place of the book at `to`, which nobody may have open. What is there
/// now is moved aside, and its new name is told.
///
/// # Errors
///
/// A [`BackupError`]; the book at `to` is as it was.
pub fn restore(from: &Path, to: &Path) -> Result<Option<PathBuf>, BackupError> {
    // It is a book, and one of this version.
    drop(Reader::open(from).map_err(BackupError::Open)?);
    let _lock = file::lock(to).map_err(BackupError::Open)?;
    let beside = |end: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let fresh = beside(".restored");
    file::create_private(&fresh).map_err(BackupError::Open)?;
    std::fs::copy(from, &fresh).map_err(BackupError::Io)?;
    file::sync(&fresh).map_err(BackupError::Io)?;
    let aside = to.exists().then(|| {
        let free =
            (1..10_000_u32).map(|at| beside(&format!(".replaced-{at}"))).find(|it| !it.exists());
        free.unwrap_or_else(|| beside(".replaced"))
    });
    if let Some(aside) = &aside {
        // What its log holds belongs to it and to no other file.
        for end in ["-wal", "-shm"] {
            let mut name = aside.as_os_str().to_owned();
            name.push(end);
            if beside(end).exists() {
                std::fs::rename(beside(end), PathBuf::from(name)).map_err(BackupError::Io)?;
            }
        }
        std::fs::rename(to, aside).map_err(BackupError::Io)?;
    }
    std::fs::rename(&fresh, to).map_err(BackupError::Io)?;
    Ok(aside)
}

/// Why there is no backup, or none was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("the file is there already; name another one")]
    Exists,
    /// The name is not text.
    #[error("the file's name is not text")]
    Name,
    /// A book cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The book cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system says no.
    #[error("{0}")]
    Io(#[source] std::io::Error),
}
