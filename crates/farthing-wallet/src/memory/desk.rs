//! What is remembered beside requests for approval: the decision that asked, links that were given out, and who
//! was told.

use std::time::Duration;

use farthing_ledger::{Decided, Fingerprint};
use farthing_money::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::owner::{APPROVAL, ApprovalRequest, request};
use super::{ApprovalState, IntentLock, Memory, MemoryError};

#[cfg(test)]
mod tests;

/// The tables. A link is kept as its digest.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS asked (
    approval TEXT PRIMARY KEY,
    decided  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS link (
    digest     BLOB PRIMARY KEY,
    approver   TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notice (
    approval TEXT NOT NULL,
    event    TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at  INTEGER NOT NULL,
    over     INTEGER NOT NULL,
    PRIMARY KEY (approval, event)
) STRICT;
";

/// How long a link to the owner's page can be opened, once.
pub const LINK_LASTS: Duration = Duration::from_mins(10);

/// How far back somebody is told what was asked and decided.
pub const TOLD_FOR: Duration = Duration::from_hours(24);

/// What can be told of a request for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// Somebody is to answer.
    Requested,
    /// Enough have approved it.
    Approved,
    /// Somebody has denied it.
    Denied,
    /// Nobody has answered in time.
    Expired,
}

impl NoticeEvent {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }

    /// How a request was decided that stands so.
    const fn decided(state: ApprovalState) -> Option<Self> {
        match state {
            ApprovalState::Waiting => None,
            ApprovalState::Approved | ApprovalState::Used => Some(Self::Approved),
            ApprovalState::Denied => Some(Self::Denied),
            ApprovalState::Expired => Some(Self::Expired),
        }
    }
}

/// Something that is to be told of a request, and was not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The request, as it stands.
    pub request: ApprovalRequest,
    /// What is told of it.
    pub event: NoticeEvent,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: Timestamp,
}

/// Keeps the decision that asked, so that how it ended can be written down in the same words.
pub(super) fn keep_decided(
    transaction: &Transaction<'_>,
    approval: &str,
    decided: &Decided,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO asked (approval, decided) VALUES (?, ?)";
    // In-memory data with string keys always serialises.
    let text = serde_json::to_string(decided).unwrap_or_default();
    transaction.execute(sql, params![approval, text])?;
    Ok(())
}

impl Memory {
    /// A request by its name.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn approval(&self, id: &str) -> Result<Option<ApprovalRequest>, MemoryError> {
        let sql = format!("{APPROVAL} WHERE id = ?");
        Ok(self.connection().query_row(&sql, [id], request).optional()?)
    }

    /// The decision that asked for an approval.
    pub(crate) fn asked(&self, id: &str) -> Result<Option<Decided>, MemoryError> {
        let sql = "SELECT decided FROM asked WHERE approval = ?";
        let text: Option<String> =
            self.connection().query_row(sql, [id], |row| row.get(0)).optional()?;
        text.map(|text| serde_json::from_str(&text).map_err(|_| MemoryError::Unreadable))
            .transpose()
    }

    /// Waits until nobody else notes what has expired.
    pub(crate) async fn lock_expiry(&self) -> Result<IntentLock, MemoryError> {
        self.lock_file(&Fingerprint::of("wallet expiry", &[]), "expiry").await
    }

    /// Requests that nobody has answered in time, of which that was not noted yet.
    pub(crate) fn overdue(&self, now: Timestamp) -> Result<Vec<ApprovalRequest>, MemoryError> {
        let connection = self.connection();
        let sql =
            format!("{APPROVAL} WHERE state = 'waiting' AND expires_at <= ? ORDER BY asked_at");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([now.as_micros().cast_signed()], request)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a request has expired.
    pub(crate) fn expired(&self, id: &str) -> Result<(), MemoryError> {
        let sql = "UPDATE approval SET state = 'expired' WHERE id = ? AND state = 'waiting'";
        self.connection().execute(sql, [id])?;
        Ok(())
    }

    /// For whom nothing is signed; `*` is everybody.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn frozen(&self) -> Result<Vec<String>, MemoryError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT agent FROM frozen ORDER BY agent")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    // --- links --------------------------------------------------------------------------------

    /// Remembers a link to the owner's page, for an approver. Links that are over are forgotten.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn give_link(
        &self,
        secret: &str,
        approver: &str,
        now: Timestamp,
    ) -> Result<(), MemoryError> {
        let connection = self.connection();
        connection
            .execute("DELETE FROM link WHERE expires_at <= ?", [now.as_micros().cast_signed()])?;
        let until = now.after(LINK_LASTS).as_micros().cast_signed();
        let sql = "INSERT INTO link (digest, approver, expires_at) VALUES (?, ?, ?)";
        connection.execute(sql, params![digest(secret).as_bytes(), approver, until])?;
        Ok(())
    }

    /// Whose link it is, if it can still be opened.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn whose_link(&self, secret: &str, now: Timestamp) -> Result<Option<String>, MemoryError> {
        let sql = "SELECT approver FROM link WHERE digest = ? AND expires_at > ?";
        let values = (*digest(secret).as_bytes(), now.as_micros().cast_signed());
        Ok(self.connection().query_row(sql, values, |row| row.get(0)).optional()?)
    }

    /// Opens a link, once: whose it was.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn open_link(&self, secret: &str, now: Timestamp) -> Result<Option<String>, MemoryError> {
        let sql = "DELETE FROM link WHERE digest = ? AND expires_at > ? RETURNING approver";
        let values = (*digest(secret).as_bytes(), now.as_micros().cast_signed());
        Ok(self.connection().query_row(sql, values, |row| row.get(0)).optional()?)
    }

    // --- who is told --------------------------------------------------------------------------

    /// What is to be told by `now`, in the order in which it was asked for, and of each request first that it
    /// was. What is older than [`TOLD_FOR`] is told no more.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn notices(&self, now: Timestamp) -> Result<Vec<Notice>, MemoryError> {
        let connection = self.connection();
        let since = now.before(TOLD_FOR).as_micros().cast_signed();
        let sql = format!("{APPROVAL} WHERE asked_at > ? ORDER BY asked_at, id");
        let mut statement = connection.prepare_cached(&sql)?;
        let requests = statement.query_map([since], request)?.collect::<Result<Vec<_>, _>>()?;
        let mut noted = connection.prepare_cached(
            "SELECT attempts, next_at, over FROM notice WHERE approval = ? AND event = ?",
        )?;
        let mut notices = Vec::new();
        for request in requests {
            let decided = NoticeEvent::decided(request.state);
            for event in std::iter::once(NoticeEvent::Requested).chain(decided) {
                let stands = noted.query_row([request.id.as_str(), event.name()], |row| {
                    let at = Timestamp::from_micros(row.get::<_, i64>(1)?.cast_unsigned());
                    Ok((row.get::<_, u32>(0)?, at, row.get::<_, bool>(2)?))
                });
                let begun = (0, request.asked_at, false);
                let (attempts, next_at, over) = stands.optional()?.unwrap_or(begun);
                if over {
                    continue;
                }
                notices.push(Notice { request: request.clone(), event, attempts, next_at });
                // What comes after it waits for it.
                break;
            }
        }
        Ok(notices)
    }

    /// Notes what became of an attempt: when it is tried again, or that it is over.
    ///
    /// # Crash safety
    ///
    /// What was taken and not noted is told again, under the same name.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn noticed(&self, notice: &Notice, again: Option<Timestamp>) -> Result<(), MemoryError> {
        let next_at = again.unwrap_or(notice.next_at).as_micros().cast_signed();
        self.connection().execute(
            "INSERT OR REPLACE INTO notice (approval, event, attempts, next_at, over)
             VALUES (?, ?, ?, ?, ?)",
            params![
                notice.request.id,
                notice.event.name(),
                notice.attempts.saturating_add(1),
                next_at,
                again.is_none()
            ],
        )?;
        Ok(())
    }
}

fn digest(secret: &str) -> Fingerprint {
    Fingerprint::of("wallet link", &[secret.as_bytes()])
}
