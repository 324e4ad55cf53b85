//! What the wallet remembers for its owner: who was paid what before, who asks for approval, who is frozen,
//! which tokens are revoked, and which policy was accepted.

use std::time::Duration;

use farthing_keys::SecretKey;
use farthing_ledger::{Decided, Draw, Fingerprint};
use farthing_money::{AssetId, Timestamp};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Memory, MemoryError, desk};

#[cfg(test)]
mod tests;

/// The tables.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS payee (
    seller    TEXT PRIMARY KEY,
    recipient TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS identity (
    origin TEXT PRIMARY KEY,
    key    TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS price (
    what  TEXT PRIMARY KEY,
    atoms TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS approval (
    id         TEXT PRIMARY KEY,
    terms      BLOB NOT NULL,
    agent      TEXT NOT NULL,
    asked_at   INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state      TEXT NOT NULL,
    body       TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS approval_terms ON approval (terms);
CREATE TABLE IF NOT EXISTS frozen (
    agent TEXT PRIMARY KEY
) STRICT;
CREATE TABLE IF NOT EXISTS revoked (
    block TEXT PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sealed (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
";

/// How long a request for approval may wait, and an approval be used, unless the owner says otherwise.
pub const APPROVAL_LASTS: Duration = Duration::from_hours(1);

/// How long a denied request stays denied.
pub const DENIAL_LASTS: Duration = Duration::from_hours(24);

/// How many requests of one agent may wait unless the owner says otherwise, so that nobody is worn down by
/// asking.
pub const WAITING_PER_AGENT_MAX: u32 = 5;

/// How many may wait in all unless the owner says otherwise.
pub const WAITING_MAX: u32 = 20;

/// How long requests wait, and how many may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long a request may wait, and an approval be used.
    pub lasts: Duration,
    /// How many of one agent may wait.
    pub per_agent_max: u32,
    /// How many may wait in all.
    pub max: u32,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { lasts: APPROVAL_LASTS, per_agent_max: WAITING_PER_AGENT_MAX, max: WAITING_MAX }
    }
}

/// The name of everybody among the frozen; no agent can be called so.
const EVERYBODY: &str = "*";

/// Where a request for approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody, or not enough, have said anything.
    Waiting,
    /// Enough have approved it.
    Approved,
    /// Somebody has denied it.
    Denied,
    /// It was used.
    Used,
    /// Nobody, or not enough, have said anything in time, which denies it.
    Expired,
}

impl ApprovalState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let all = [Self::Waiting, Self::Approved, Self::Denied, Self::Used, Self::Expired];
        all.into_iter().find(|state| state.name() == name)
    }
}

/// A payment that waits for approval. It is for exactly these terms, once, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequest {
    /// Its name, which cannot be guessed.
    pub id: String,
    /// What exactly would be paid, in one fingerprint.
    #[serde(skip)]
    pub terms: Fingerprint,
    /// Who asks.
    pub agent: String,
    /// Since when.
    pub asked_at: Timestamp,
    /// Until when it can be approved, and an approval be used; or until when it stays denied.
    pub expires_at: Timestamp,
    /// Where it stands.
    pub state: ApprovalState,
    /// The rest.
    #[serde(flatten)]
    pub asked: Asking,
}

impl ApprovalRequest {
    /// Where it stands at a moment: what nobody has answered or used in time has expired, whether that was
    /// noted or not.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> ApprovalState {
        match self.state {
            ApprovalState::Waiting | ApprovalState::Approved if self.expires_at <= now => {
                ApprovalState::Expired
            }
            state @ (ApprovalState::Waiting
            | ApprovalState::Approved
            | ApprovalState::Denied
            | ApprovalState::Used
            | ApprovalState::Expired) => state,
        }
    }
}

/// What is asked of an approver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asking {
    /// The seller.
    pub origin: String,
    /// What is bought: the method and the path.
    pub what: String,
    /// Who would be paid.
    pub recipient: String,
    /// In which asset.
    pub asset: AssetId,
    /// How many atoms of it, as text.
    pub atoms: String,
    /// Why it is asked: the rules, and what they say.
    pub because: Vec<String>,
    /// How many approvers it needs.
    pub approvals: u8,
    /// Who has approved it.
    #[serde(default)]
    pub by: Vec<String>,
    /// When the last of them did.
    #[serde(default)]
    pub answered_at: Option<Timestamp>,
    /// For which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// With which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The payment method.
    #[serde(default)]
    pub method: String,
    /// The rules that ask, for programs.
    #[serde(default)]
    pub reasons: Vec<Asker>,
    /// What it would draw from budgets, and what was used of them when it was asked.
    #[serde(default)]
    pub draws: Vec<Draw>,
    /// The seller's offer that it was asked upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    /// Until when it could be answered, however it was.
    #[serde(default)]
    pub answer_by: Option<Timestamp>,
}

/// A rule that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asker {
    /// Its name.
    pub rule: String,
    /// What it says.
    pub because: String,
    /// The amount that it compares with, where it is one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// The offer of a seller that approval is asked upon. Approved are the terms, not the offer: the seller makes
/// another one each time it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// The seller's name for it.
    pub challenge: String,
    /// Until when it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The seller's own words, which prove nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What became of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedFor {
    /// It stands like this.
    Stands(Box<ApprovalRequest>),
    /// Too many wait already.
    TooMany,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such request.
    #[error("there is no such request; `farthing approvals list` shows those that there are")]
    Unknown,
    /// Its time is over: nobody answered, which is a denial.
    #[error("the request has expired, which denies it")]
    Expired,
    /// It was answered before.
    #[error("the request is {0} already")]
    Answered(&'static str),
    /// The same person approves twice.
    #[error("{0} has approved it before; somebody else has to as well")]
    Twice(String),
    /// The policy names other approvers.
    #[error("{0} is none of the policy's approvers")]
    Nobody(String),
}

/// What a successful purchase teaches.
pub(crate) struct Lesson<'a> {
    /// The seller, and in which asset: whom it is paid through may differ by asset.
    pub(crate) seller: &'a str,
    /// Who was paid.
    pub(crate) recipient: &'a str,
    /// What was bought.
    pub(crate) what: &'a str,
    /// For how much.
    pub(crate) atoms: u128,
    /// From which origin.
    pub(crate) origin: &'a str,
    /// Which key it has proven to have.
    pub(crate) identity: Option<String>,
    /// Whether somebody has approved it, other recipient, other price and all.
    pub(crate) approved: bool,
}

impl Memory {
    /// Whom a seller was paid through before.
    pub(crate) fn known_recipient(&self, seller: &str) -> Result<Option<String>, MemoryError> {
        let sql = "SELECT recipient FROM payee WHERE seller = ?";
        Ok(self.connection().query_row(sql, [seller], |row| row.get(0)).optional()?)
    }

    /// Which key a seller had proven to have when it was first paid.
    pub(crate) fn known_identity(&self, origin: &str) -> Result<Option<String>, MemoryError> {
        let sql = "SELECT key FROM identity WHERE origin = ?";
        Ok(self.connection().query_row(sql, [origin], |row| row.get(0)).optional()?)
    }

    /// What something cost before.
    pub(crate) fn known_price(&self, what: &str) -> Result<Option<u128>, MemoryError> {
        let sql = "SELECT atoms FROM price WHERE what = ?";
        let text: Option<String> =
            self.connection().query_row(sql, [what], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| farthing_money::parse_atoms(&text).ok()))
    }

    /// Remembers a purchase. A price that is remembered only falls, unless somebody has approved a higher
    /// one: one that creeps up is always compared with where it began.
    pub(crate) fn learn(&self, lesson: &Lesson<'_>) -> Result<(), MemoryError> {
        let before = self.known_price(lesson.what)?;
        let price = match before {
            Some(before) if !lesson.approved => before.min(lesson.atoms),
            Some(_) | None => lesson.atoms,
        };
        let connection = self.connection();
        let sql = if lesson.approved {
            "INSERT INTO payee (seller, recipient) VALUES (?1, ?2)
             ON CONFLICT (seller) DO UPDATE SET recipient = ?2"
        } else {
            "INSERT OR IGNORE INTO payee (seller, recipient) VALUES (?1, ?2)"
        };
        connection.execute(sql, [lesson.seller, lesson.recipient])?;
        match &lesson.identity {
            Some(key) => {
                let sql = if lesson.approved {
                    "INSERT INTO identity (origin, key) VALUES (?1, ?2)
                     ON CONFLICT (origin) DO UPDATE SET key = ?2"
                } else {
                    "INSERT OR IGNORE INTO identity (origin, key) VALUES (?1, ?2)"
                };
                connection.execute(sql, [lesson.origin, key.as_str()])?;
            }
            // Somebody has approved that it proves none.
            None if lesson.approved => {
                connection.execute("DELETE FROM identity WHERE origin = ?", [lesson.origin])?;
            }
            None => {}
        }
        let sql = "INSERT INTO price (what, atoms) VALUES (?1, ?2)
                   ON CONFLICT (what) DO UPDATE SET atoms = ?2";
        connection.execute(sql, params![lesson.what, price.to_string()])?;
        Ok(())
    }

    /// Stops or allows new signatures for an agent, or for everybody. It counts from the next signature on,
    /// in every process.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn freeze(&self, agent: Option<&str>, frozen: bool) -> Result<(), MemoryError> {
        let agent = agent.unwrap_or(EVERYBODY);
        let sql = if frozen {
            "INSERT OR IGNORE INTO frozen (agent) VALUES (?)"
        } else {
            "DELETE FROM frozen WHERE agent = ?"
        };
        self.connection().execute(sql, [agent])?;
        Ok(())
    }

    /// Whether nothing may be signed for an agent.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; nothing may be signed then.
    pub fn is_frozen(&self, agent: &str) -> Result<bool, MemoryError> {
        let sql = "SELECT 1 FROM frozen WHERE agent IN (?, ?)";
        let found = self.connection().query_row(sql, [agent, EVERYBODY], |_| Ok(())).optional()?;
        Ok(found.is_some())
    }

    /// Revokes a token, and every token that was made of it.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn revoke(&self, block: &str, now: Timestamp) -> Result<(), MemoryError> {
        let sql = "INSERT OR IGNORE INTO revoked (block, at) VALUES (?, ?)";
        self.connection().execute(sql, params![block, now.as_micros().cast_signed()])?;
        Ok(())
    }

    /// Whether a token's block was revoked.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; the token must not be taken then.
    pub fn is_revoked(&self, block: &str) -> Result<bool, MemoryError> {
        let sql = "SELECT 1 FROM revoked WHERE block = ?";
        Ok(self.connection().query_row(sql, [block], |_| Ok(())).optional()?.is_some())
    }

    /// Keeps something under the wallet's key, instead of what was kept under the name before. Only whoever
    /// has the passphrase can.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn seal(&self, name: &str, plain: &[u8], key: &SecretKey) -> Result<(), MemoryError> {
        let body = key.seal(&format!("kept as {name}"), plain)?;
        let sql = "INSERT INTO sealed (name, body) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET body = ?2";
        self.connection().execute(sql, params![name, body])?;
        Ok(())
    }

    /// What was kept under a name.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`], also if it was kept under another key or tampered with.
    pub fn unseal(
        &self,
        name: &str,
        key: &SecretKey,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, MemoryError> {
        let sql = "SELECT body FROM sealed WHERE name = ?";
        let body: Option<Vec<u8>> =
            self.connection().query_row(sql, [name], |row| row.get(0)).optional()?;
        let open = |body: Vec<u8>| key.open(&format!("kept as {name}"), &body);
        Ok(body.map(open).transpose()?)
    }

    // --- approvals ----------------------------------------------------------------------------

    /// How a request with these terms stands, if there is one whose time is not over.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn approval_of(
        &self,
        terms: &Fingerprint,
        now: Timestamp,
    ) -> Result<Option<ApprovalRequest>, MemoryError> {
        standing(&self.connection().unchecked_transaction()?, terms, now)
    }

    /// Asks for approval, unless it was asked for already.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub(crate) fn ask(
        &self,
        (id, terms, agent): (String, Fingerprint, &str),
        (asked, decided): (Asking, &Decided),
        waiting: Waiting,
        now: Timestamp,
    ) -> Result<AskedFor, MemoryError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(known) = standing(&transaction, &terms, now)? {
            return Ok(AskedFor::Stands(Box::new(known)));
        }
        let count = |sql: &str, agent: &str| -> rusqlite::Result<u32> {
            let now = now.as_micros().cast_signed();
            transaction.query_row(sql, params![now, agent], |row| row.get(0))
        };
        let of_agent = count(
            "SELECT count(*) FROM approval WHERE state = 'waiting' AND expires_at > ?1 AND agent = ?2",
            agent,
        )?;
        let of_all = count(
            "SELECT count(*) FROM approval WHERE state = 'waiting' AND expires_at > ?1 AND ?2 <> ''",
            agent,
        )?;
        if of_agent >= waiting.per_agent_max || of_all >= waiting.max {
            return Ok(AskedFor::TooMany);
        }
        let request = ApprovalRequest {
            id,
            terms,
            agent: agent.to_owned(),
            asked_at: now,
            expires_at: now.after(waiting.lasts),
            state: ApprovalState::Waiting,
            asked: Asking { answer_by: Some(now.after(waiting.lasts)), ..asked },
        };
        transaction.execute(
            "INSERT INTO approval (id, terms, agent, asked_at, expires_at, state, body)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                request.id,
                request.terms.as_bytes(),
                request.agent,
                request.asked_at.as_micros().cast_signed(),
                request.expires_at.as_micros().cast_signed(),
                request.state.name(),
                serde_json::to_string(&request.asked).unwrap_or_default(),
            ],
        )?;
        desk::keep_decided(&transaction, &request.id, decided)?;
        transaction.commit()?;
        Ok(AskedFor::Stands(Box::new(request)))
    }

    /// Every request, the latest first.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn approvals(&self) -> Result<Vec<ApprovalRequest>, MemoryError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare(&format!("{APPROVAL} ORDER BY asked_at DESC, id"))?;
        let rows = statement.query_map([], request)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Answers a request. An approval may be used for [`APPROVAL_LASTS`].
    ///
    /// # Errors
    ///
    /// An [`AnswerError`] within, where it cannot be answered so; a [`MemoryError`] where nobody knows.
    pub fn answer(
        &self,
        id: &str,
        approver: &str,
        approve: bool,
        now: Timestamp,
    ) -> Result<Result<ApprovalRequest, AnswerError>, MemoryError> {
        self.answer_for(id, approver, approve, (APPROVAL_LASTS, now))
    }

    /// The same, where an approval may be used for a time that the owner has set.
    pub(crate) fn answer_for(
        &self,
        id: &str,
        approver: &str,
        approve: bool,
        (lasts, now): (Duration, Timestamp),
    ) -> Result<Result<ApprovalRequest, AnswerError>, MemoryError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!("{APPROVAL} WHERE id = ?");
        let Some(mut found) = transaction.query_row(&sql, [id], request).optional()? else {
            return Ok(Err(AnswerError::Unknown));
        };
        // A denial may follow an approval that was not used, and an approval never a denial.
        match (found.state_at(now), approve) {
            (ApprovalState::Waiting, _) | (ApprovalState::Approved, false) => {}
            (ApprovalState::Expired, _) => return Ok(Err(AnswerError::Expired)),
            (
                state @ (ApprovalState::Approved | ApprovalState::Denied | ApprovalState::Used),
                _,
            ) => return Ok(Err(AnswerError::Answered(state.name()))),
        }
        if approve {
            if found.asked.by.iter().any(|it| it == approver) {
                return Ok(Err(AnswerError::Twice(approver.to_owned())));
            }
            found.asked.by.push(approver.to_owned());
            let enough = found.asked.by.len() >= usize::from(found.asked.approvals);
            found.state = if enough { ApprovalState::Approved } else { ApprovalState::Waiting };
            if enough {
                found.expires_at = now.after(lasts);
            }
        } else {
            found.state = ApprovalState::Denied;
            found.expires_at = now.after(DENIAL_LASTS);
        }
        found.asked.answered_at = Some(now);
        let body = serde_json::to_string(&found.asked).unwrap_or_default();
        transaction.execute(
            "UPDATE approval SET state = ?, expires_at = ?, body = ? WHERE id = ?",
            params![found.state.name(), found.expires_at.as_micros().cast_signed(), body, id],
        )?;
        transaction.commit()?;
        Ok(Ok(found))
    }

    /// Notes that an approval was used. That it is used once, the book sees to.
    pub(crate) fn used(&self, id: &str) -> Result<(), MemoryError> {
        let sql = "UPDATE approval SET state = 'used' WHERE id = ?";
        self.connection().execute(sql, [id])?;
        Ok(())
    }
}

pub(super) const APPROVAL: &str =
    "SELECT id, terms, agent, asked_at, expires_at, state, body FROM approval";

/// The request with these terms that counts: the latest whose time is not over and that was not used.
fn standing(
    transaction: &Transaction<'_>,
    terms: &Fingerprint,
    now: Timestamp,
) -> Result<Option<ApprovalRequest>, MemoryError> {
    let sql = format!(
        "{APPROVAL} WHERE terms = ? AND expires_at > ? AND state NOT IN ('used', 'expired') ORDER BY asked_at DESC LIMIT 1"
    );
    let at = now.as_micros().cast_signed();
    Ok(transaction.query_row(&sql, params![terms.as_bytes(), at], request).optional()?)
}

pub(super) fn request(row: &rusqlite::Row<'_>) -> rusqlite::Result<ApprovalRequest> {
    let unreadable = |at: usize| {
        let error = Box::new(MemoryError::Unreadable);
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error)
    };
    let time = |at: usize| {
        Ok::<_, rusqlite::Error>(Timestamp::from_micros(row.get::<_, i64>(at)?.cast_unsigned()))
    };
    let (state, body): (String, String) = (row.get(5)?, row.get(6)?);
    Ok(ApprovalRequest {
        id: row.get(0)?,
        terms: Fingerprint::from_bytes(row.get(1)?),
        agent: row.get(2)?,
        asked_at: time(3)?,
        expires_at: time(4)?,
        state: ApprovalState::of(&state).ok_or_else(|| unreadable(5))?,
        asked: serde_json::from_str(&body).map_err(|_| unreadable(6))?,
    })
}
