//! What an account has signed last, and whose turn it is: among the tasks of one process, and of several.
//!
//! **Architecture invariant:** what is signed for a nonce is written down before it is sent, so that whoever
//! comes later knows which nonces may still be used up by something.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// How long a process waits before it tries again to have its turn.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What was offered for a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bid {
    pub(super) nonce: u64,
    pub(super) fee_max: u128,
    pub(super) tip: u128,
}

/// Whose turn it is. Its clones share the turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Nonces {
    last: Arc<Mutex<Option<Bid>>>,
    path: Option<PathBuf>,
}

/// A turn.
pub(super) struct Turn<'a> {
    last: MutexGuard<'a, Option<Bid>>,
    file: Option<File>,
}

impl Nonces {
    /// The same, shared with every process that names this file.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..Self::default() }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> std::io::Result<Turn<'_>> {
        let mut last = self.last.lock().await;
        let Some(path) = &self.path else { return Ok(Turn { last, file: None }) };
        let mut file = open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        *last = read(&mut file)?;
        Ok(Turn { last, file: Some(file) })
    }
}

impl Turn<'_> {
    /// What was signed last.
    pub(super) fn last(&self) -> Option<Bid> {
        *self.last
    }

    /// Writes down what is about to be signed.
    pub(super) fn keep(&mut self, bid: Bid) -> std::io::Result<()> {
        if let Some(file) = &mut self.file {
            let line = format!("{} {} {}\n", bid.nonce, bid.fee_max, bid.tip);
            file.rewind()?;
            file.write_all(line.as_bytes())?;
            file.set_len(u64::try_from(line.len()).unwrap_or(u64::MAX))?;
            file.sync_all()?;
        }
        *self.last = Some(bid);
        Ok(())
    }
}

#[cfg(unix)]
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// A line that was cut off says nothing: its nonce was not sent anything yet.
fn read(file: &mut File) -> std::io::Result<Option<Bid>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let Some(line) = text.strip_suffix('\n') else { return Ok(None) };
    let mut parts = line.split(' ');
    let bid = || {
        let nonce = parts.next()?.parse().ok()?;
        let (fee_max, tip) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Bid { nonce, fee_max, tip })
    };
    Ok({ bid }())
}
