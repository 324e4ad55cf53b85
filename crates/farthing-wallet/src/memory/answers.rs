//! Answers to purchases that their callers have named, so that asking once more gives the same one.

use std::time::Duration;

use farthing_keys::{KeyError, SecretKey};
use farthing_ledger::{Fingerprint, PaymentId};
use farthing_money::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Memory, MemoryError};
use crate::outcome::{Outcome, PaidFor};

/// The table. An answer is sealed under the wallet's key.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS answer (
    attempt BLOB PRIMARY KEY,
    at      INTEGER NOT NULL,
    sealed  BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS answer_at ON answer (at);
";

/// For how long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);

/// The longest body that is kept, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What is kept beside the body.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    fields: Vec<(String, String)>,
    paid: PaidFor,
    /// Whether the body was too long to be kept.
    cut: bool,
}

/// What is known of a purchase that was answered.
pub(crate) enum Kept {
    /// The answer.
    Whole(Box<Outcome>),
    /// That it was answered at length.
    Cut(PaymentId),
}

fn context(attempt: &Fingerprint) -> String {
    format!("answer to {attempt}")
}

impl Memory {
    /// Keeps the answer to a purchase; the first one stays. Old ones are given up.
    ///
    /// # Crash safety
    ///
    /// It is on disk when this returns.
    pub(crate) fn keep_answer(
        &self,
        attempt: &Fingerprint,
        outcome: &Outcome,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<(), MemoryError> {
        let Some(paid) = &outcome.paid else { return Ok(()) };
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        };
        // What was handed on as it came is not here.
        let cut = outcome.streamed || outcome.body.len() > BODY_BYTES_MAX;
        let head = Head {
            status: outcome.status.as_u16(),
            fields: outcome.fields.iter().filter_map(field).collect(),
            paid: paid.clone(),
            cut,
        };
        // A line of JSON, and then the body.
        let mut plain = Zeroizing::new(serde_json::to_vec(&head).unwrap_or_default());
        plain.push(b'\n');
        plain.extend_from_slice(if cut { &[] } else { &outcome.body });
        let sealed = key.seal(&context(attempt), &plain)?;
        let connection = self.connection();
        let old = now.before(KEPT).as_micros().cast_signed();
        connection.execute("DELETE FROM answer WHERE at < ?", [old])?;
        let sql = "INSERT OR IGNORE INTO answer (attempt, at, sealed) VALUES (?, ?, ?)";
        let at = now.as_micros().cast_signed();
        connection.execute(sql, params![attempt.as_bytes(), at, sealed])?;
        Ok(())
    }

    /// The answer to a purchase, if it is kept.
    pub(crate) fn answer_to(
        &self,
        attempt: &Fingerprint,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<Kept>, MemoryError> {
        let old = now.before(KEPT).as_micros().cast_signed();
        let sql = "SELECT sealed FROM answer WHERE attempt = ? AND at >= ?";
        let sealed: Option<Vec<u8>> = self
            .connection()
            .query_row(sql, params![attempt.as_bytes(), old], |row| row.get(0))
            .optional()?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = key.open(&context(attempt), &sealed)?;
        let damaged = || MemoryError::Key(KeyError::Damaged);
        let end = plain.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let (head, body) = plain.split_at_checked(end).ok_or_else(damaged)?;
        let head: Head = serde_json::from_slice(head).map_err(|_| damaged())?;
        if head.cut {
            return Ok(Some(Kept::Cut(head.paid.payment)));
        }
        let mut fields = HeaderMap::new();
        for (name, value) in head.fields {
            let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = (name, value) else { return Err(damaged()) };
            fields.append(name, value);
        }
        Ok(Some(Kept::Whole(Box::new(Outcome {
            status: StatusCode::from_u16(head.status).map_err(|_| damaged())?,
            fields,
            body: body.get(1..).unwrap_or_default().to_vec().into(),
            paid: Some(head.paid),
            streamed: false,
        }))))
    }
}
