//! What the wallet remembers beside its book: credentials whose end it does not know, and receipts.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_core::Object;
use farthing_keys::{KeyError, SecretKey};
use farthing_ledger::{Fingerprint, PaymentId};
use farthing_money::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod answers;
mod desk;
mod owner;
mod sessions;
mod subscriptions;

pub(crate) use answers::Kept;
pub use desk::{LINK_LASTS, Notice, NoticeEvent, TOLD_FOR};
pub use owner::{
    APPROVAL_LASTS, AnswerError, ApprovalRequest, ApprovalState, Asker, Asking, DENIAL_LASTS,
    Quote, WAITING_MAX, WAITING_PER_AGENT_MAX, Waiting,
};
pub(crate) use owner::{AskedFor, Lesson};
pub use sessions::{Asked, Depositor, WalletSession, WalletSessionState};
pub use subscriptions::{WalletSubscription, WalletSubscriptionState};

/// The tables. A credential is sealed under the wallet's key and erased when its end is known.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS outstanding (
    payment    BLOB PRIMARY KEY,
    intent     BLOB NOT NULL,
    origin     TEXT NOT NULL,
    header     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    refused    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS outstanding_intent ON outstanding (intent);
CREATE TABLE IF NOT EXISTS receipt (
    payment BLOB PRIMARY KEY,
    at      INTEGER NOT NULL,
    url     TEXT NOT NULL,
    body    TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS session (
    channel TEXT PRIMARY KEY,
    origin  TEXT NOT NULL,
    binding TEXT NOT NULL,
    closed  INTEGER NOT NULL,
    body    TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS subscription (
    hold    TEXT PRIMARY KEY,
    origin  TEXT NOT NULL,
    binding TEXT NOT NULL,
    usable  INTEGER NOT NULL,
    body    TEXT NOT NULL
) STRICT;
";

/// How long to pause between two looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The wallet's memory, in one SQLite file.
pub struct Memory {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// The right to work on an intent. Whoever else wants to, in whichever process, waits for it to be
/// dropped; a process that dies drops it too.
pub struct IntentLock {
    _file: File,
}

/// A credential that was made and whose end is not known.
pub struct Outstanding {
    /// The payment.
    pub payment: PaymentId,
    /// What it was to buy.
    pub intent: Fingerprint,
    /// The only origin it may be sent to.
    pub origin: String,
    /// The header field it travels in.
    pub header: String,
    /// When it cannot be spent any more.
    pub expires_at: Timestamp,
    /// Whether the seller said that it does not take it. Until it expires, that may change.
    pub refused: bool,
    /// Whether that is the word of whoever had the credential, and was not seen by the wallet.
    pub(crate) hearsay: bool,
    sealed: Vec<u8>,
}

/// A receipt, as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredReceipt {
    /// The payment.
    pub payment: PaymentId,
    /// When it was received.
    pub at: Timestamp,
    /// What was paid for.
    pub url: String,
    /// What the seller said.
    pub receipt: Object,
}

impl Memory {
    /// Opens the memory at `path`, making it if there is none.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn open(path: &Path) -> Result<Self, MemoryError> {
        // SQLite does not wait for whoever makes the file at the same moment.
        let opening = private_file(&beside(path, "opening"))?;
        opening.lock().map_err(MemoryError::Io)?;
        private_file(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;",
        )?;
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(owner::SCHEMA)?;
        connection.execute_batch(desk::SCHEMA)?;
        connection.execute_batch(answers::SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Waits until nobody else works on an intent. A retry thus finds out how the attempt before
    /// it ended, even one that is still running.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub async fn lock(&self, intent: &Fingerprint) -> Result<IntentLock, MemoryError> {
        self.lock_file(intent, "lock").await
    }

    /// Waits until nobody else works on a session. These locks are others than those of intents, since
    /// whoever works on a session does so for an intent.
    pub(crate) async fn lock_apart(&self, of: &Fingerprint) -> Result<IntentLock, MemoryError> {
        self.lock_file(of, "session").await
    }

    async fn lock_file(&self, of: &Fingerprint, kind: &str) -> Result<IntentLock, MemoryError> {
        // A file for each first byte: as few as 256, and enough to rarely wait for a stranger.
        let [first, ..] = of.as_bytes();
        let file = private_file(&beside(&self.path, &format!("{kind}-{first:02x}")))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(IntentLock { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(MemoryError::Io(error)),
            }
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A statement that panicked has changed nothing that was not committed.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a credential, and what its rail wants to be told later, before either is used.
    ///
    /// # Crash safety
    ///
    /// It is on disk when this returns, sealed under `key`.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; the credential must not be sent then.
    pub(crate) fn remember(
        &self,
        outstanding: &NewOutstanding<'_>,
        key: &SecretKey,
    ) -> Result<(), MemoryError> {
        let NewOutstanding { payment, intent, origin, header, secret, expires_at } = outstanding;
        let plain = Zeroizing::new(serde_json::to_vec(secret).unwrap_or_default());
        let sealed = key.seal(&context(*payment), &plain)?;
        self.connection().execute(
            "INSERT INTO outstanding (payment, intent, origin, header, sealed, expires_at)
             VALUES (?, ?, ?, ?, ?, ?)",
            params![
                payment.to_bytes(),
                intent.as_bytes(),
                origin,
                header,
                sealed,
                expires_at.as_micros().cast_signed()
            ],
        )?;
        Ok(())
    }

    /// The credential that was made for an intent and whose end is not known.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn outstanding_for(
        &self,
        intent: &Fingerprint,
    ) -> Result<Option<Outstanding>, MemoryError> {
        let sql = format!("{OUTSTANDING} WHERE intent = ? ORDER BY expires_at DESC LIMIT 1");
        let connection = self.connection();
        let mut statement = connection.prepare(&sql)?;
        Ok(statement.query_row([intent.as_bytes()], outstanding).optional()?)
    }

    /// Every credential whose end is not known.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn all_outstanding(&self) -> Result<Vec<Outstanding>, MemoryError> {
        let sql = format!("{OUTSTANDING} ORDER BY expires_at");
        let connection = self.connection();
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map([], outstanding)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that the seller does not take a credential.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn refused(&self, payment: PaymentId) -> Result<(), MemoryError> {
        let sql = "UPDATE outstanding SET refused = ? WHERE payment = ?";
        self.connection().execute(sql, params![SEEN_REFUSED, payment.to_bytes()])?;
        Ok(())
    }

    /// Remembers that whoever has a credential says that it was refused. What was seen stays seen.
    pub(crate) fn told_refused(&self, payment: PaymentId) -> Result<(), MemoryError> {
        let sql = "UPDATE outstanding SET refused = ? WHERE payment = ? AND refused = ?";
        let values = params![TOLD_REFUSED, payment.to_bytes(), NOT_REFUSED];
        self.connection().execute(sql, values)?;
        Ok(())
    }

    /// Erases a credential whose end is known.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn forget(&self, payment: PaymentId) -> Result<(), MemoryError> {
        let sql = "DELETE FROM outstanding WHERE payment = ?";
        self.connection().execute(sql, [payment.to_bytes()])?;
        Ok(())
    }

    /// Keeps a receipt. The first one of a payment stays.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn keep_receipt(&self, receipt: &StoredReceipt) -> Result<(), MemoryError> {
        let body = serde_json::to_string(&receipt.receipt).unwrap_or_default();
        self.connection().execute(
            "INSERT OR IGNORE INTO receipt (payment, at, url, body) VALUES (?, ?, ?, ?)",
            params![
                receipt.payment.to_bytes(),
                receipt.at.as_micros().cast_signed(),
                receipt.url,
                body
            ],
        )?;
        Ok(())
    }

    /// Every receipt, the latest first.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn receipts(&self) -> Result<Vec<StoredReceipt>, MemoryError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT payment, at, url, body FROM receipt ORDER BY at DESC, payment")?;
        let rows = statement.query_map([], |row| {
            let body: String = row.get(3)?;
            Ok(StoredReceipt {
                payment: PaymentId::from_bytes(row.get(0)?),
                at: Timestamp::from_micros(row.get::<_, i64>(1)?.cast_unsigned()),
                url: row.get(2)?,
                receipt: serde_json::from_str(&body).unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The path of a file beside `path`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut beside = path.to_owned().into_os_string();
    beside.push(format!(".{what}"));
    beside.into()
}

/// A file that only its owner reads.
fn private_file(path: &Path) -> Result<File, MemoryError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(MemoryError::Io)
}

/// A credential to remember.
pub(crate) struct NewOutstanding<'a> {
    pub(crate) payment: PaymentId,
    pub(crate) intent: Fingerprint,
    pub(crate) origin: &'a str,
    pub(crate) header: &'a str,
    pub(crate) secret: Secret,
    pub(crate) expires_at: Timestamp,
}

/// What is sealed of a payment whose end is not known.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secret {
    /// The credential.
    pub(crate) credential: String,
    /// The payment method.
    pub(crate) method: String,
    /// What the rail wants to be given when it is asked about the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keepsake: Option<Object>,
    /// Whom it was made for; not said by what was sealed before agents were told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
}

/// What stands for how a credential was taken.
const NOT_REFUSED: i64 = 0;
const SEEN_REFUSED: i64 = 1;
const TOLD_REFUSED: i64 = 2;

const OUTSTANDING: &str =
    "SELECT payment, intent, origin, header, sealed, expires_at, refused FROM outstanding";

fn outstanding(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outstanding> {
    Ok(Outstanding {
        payment: PaymentId::from_bytes(row.get(0)?),
        intent: Fingerprint::from_bytes(row.get(1)?),
        origin: row.get(2)?,
        header: row.get(3)?,
        sealed: row.get(4)?,
        expires_at: Timestamp::from_micros(row.get::<_, i64>(5)?.cast_unsigned()),
        refused: row.get::<_, i64>(6)? != NOT_REFUSED,
        hearsay: row.get::<_, i64>(6)? == TOLD_REFUSED,
    })
}

impl Outstanding {
    /// What was sealed.
    pub(crate) fn secret(&self, key: &SecretKey) -> Result<Secret, MemoryError> {
        let plain = Zeroizing::new(key.open(&context(self.payment), &self.sealed)?);
        serde_json::from_slice(&plain).map_err(|_| MemoryError::Unreadable)
    }
}

fn context(payment: PaymentId) -> String {
    format!("credential of {payment}")
}

/// Why the memory fails.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// SQLite says no.
    #[error("the wallet's memory: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A credential cannot be sealed or opened.
    #[error("the wallet's memory: {0}")]
    Key(#[from] KeyError),
    /// What was sealed is not what this version seals.
    #[error("the wallet's memory holds a credential that cannot be read")]
    Unreadable,
    /// The operating system says no.
    #[error("the wallet's memory: {0}")]
    Io(#[source] std::io::Error),
}
