//! What the wallet remembers of its sessions.

use std::collections::BTreeSet;

use farthing_core::{Object, PreparedSession};
use farthing_ledger::{Fingerprint, PaymentId};
use farthing_money::{Amount, Timestamp};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Memory, MemoryError};

#[cfg(test)]
mod tests;

/// A session with one seller, as the wallet knows it. It holds no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSession {
    /// The payment method.
    pub method: String,
    /// Its channel, as the rail spells it.
    pub channel: String,
    /// The only origin it is used with.
    pub origin: String,
    /// What it is bound to.
    pub binding: String,
    /// Who is paid.
    pub recipient: String,
    /// Where it was opened, and where it is closed.
    pub url: String,
    /// With which method.
    pub http_method: String,
    /// Where it stands.
    pub state: WalletSessionState,
    /// How much was deposited.
    pub deposit: Amount,
    /// The most that was ever signed for, in all: what the seller can take at worst.
    pub signed: Amount,
    /// What was bought so far, by the wallet's own count; a request whose end is not known counts.
    pub spent: Amount,
    /// The request that is under way, or whose end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Who made its deposits; not said by sessions from before agents were told apart, which are everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Depositor>,
    /// What of the wallet's caps is held for it: a payment of the wallet's book for each deposit.
    pub holds: Vec<(PaymentId, Amount)>,
    /// A further deposit whose end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topping: Option<Amount>,
    /// From when on the rail can say, or give back, what is left of one that is not gone on with; nothing
    /// where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves_at: Option<Timestamp>,
    /// What its rail wants to be given again.
    pub keepsake: Object,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
}

/// Who made a deposit, and in whose budgets it is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depositor {
    /// The agent.
    pub agent: String,
    /// The task it was for, if one was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The blocks of the token it was made with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<String>,
    /// Whose budgets of money it is held in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub purses: BTreeSet<String>,
}

impl Depositor {
    /// Whether it is the very same, whatever the budgets are by now.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (&self.agent, &self.task, &self.blocks) == (&other.agent, &other.task, &other.blocks)
    }

    /// Whether `other` may spend what was deposited: the depositor, and whoever's payments count in the very
    /// same budgets, so that nobody spends what only another's budget paid for.
    #[must_use]
    pub fn lends_to(&self, other: &Self) -> bool {
        self.is(other) || self.purses == other.purses
    }
}

/// A request within a session whose end is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What it was to buy.
    pub intent: Fingerprint,
    /// What was signed for it, in all.
    pub cumulative: Amount,
    /// What it costs.
    pub price: Amount,
}

/// Where a wallet's session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalletSessionState {
    /// Whether it was opened is not known.
    Opening,
    /// It can be used.
    Open,
    /// It is to be closed.
    Closing,
    /// Nothing is paid with it any more, and what is left of it is not the wallet's again yet: the seller
    /// has closed it and the rail does not know that, or the rail was asked without the seller.
    Leaving,
    /// It is closed, and what was not spent is the wallet's again.
    Closed,
}

impl WalletSessionState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Leaving => "leaving",
            Self::Closed => "closed",
        }
    }
}

impl WalletSession {
    /// What its rail needs to go on with it.
    #[must_use]
    pub fn prepared(&self) -> PreparedSession {
        PreparedSession { channel: self.channel.clone(), keepsake: self.keepsake.clone() }
    }

    /// What a request must sign for in all: what it signed for before if it was asked before, and else
    /// enough for its price on top of everything that was bought, and more than was ever signed for.
    #[must_use]
    pub fn next(&self, intent: &Fingerprint, price: &Amount, delta_min: u128) -> u128 {
        match &self.asked {
            Some(asked) if asked.intent == *intent && asked.price == *price => {
                asked.cumulative.atoms()
            }
            Some(_) | None => {
                let enough = self.spent.atoms().saturating_add(price.atoms());
                enough.max(self.signed.atoms().saturating_add(delta_min.max(1)))
            }
        }
    }

    /// Whether a request is the one that is under way.
    pub(crate) fn asks(&self, intent: &Fingerprint, price: &Amount) -> bool {
        self.asked.as_ref().is_some_and(|it| it.intent == *intent && it.price == *price)
    }

    pub(crate) fn with(&self, atoms: u128) -> Amount {
        Amount::new(self.deposit.asset().clone(), atoms)
    }
}

impl Memory {
    /// Remembers a session as it stands now, instead of as it stood before.
    ///
    /// # Crash safety
    ///
    /// It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; nothing must be sent then.
    pub(crate) fn keep_session(&self, session: &WalletSession) -> Result<(), MemoryError> {
        let body = serde_json::to_string(session).map_err(|_| MemoryError::Unreadable)?;
        // The column says whether it is past use.
        let is_closed = match session.state {
            WalletSessionState::Opening
            | WalletSessionState::Open
            | WalletSessionState::Closing => false,
            WalletSessionState::Leaving | WalletSessionState::Closed => true,
        };
        self.connection().execute(
            "INSERT OR REPLACE INTO session (channel, origin, binding, closed, body)
             VALUES (?, ?, ?, ?, ?)",
            params![session.channel, session.origin, session.binding, is_closed, body],
        )?;
        Ok(())
    }

    /// The session with an origin that is bound to `binding` and that `by` can use: its own rather than another's
    /// that lends.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn session_with(
        &self,
        origin: &str,
        binding: &str,
        by: &Depositor,
    ) -> Result<Option<WalletSession>, MemoryError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT body FROM session WHERE origin = ? AND binding = ? AND closed = 0",
        )?;
        let bodies = statement.query_map([origin, binding], |row| row.get::<_, String>(0))?;
        let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
        let mut known = bodies.iter().map(|body| read(body)).collect::<Result<Vec<_>, _>>()?;
        known.retain(|session| session.by.as_ref().is_none_or(|it| it.lends_to(by)));
        let is_own = |session: &WalletSession| session.by.as_ref().is_some_and(|it| it.is(by));
        known.sort_by_key(|session| (!is_own(session), session.opened_at));
        Ok(known.into_iter().next())
    }

    /// Every session, the latest first.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn sessions(&self) -> Result<Vec<WalletSession>, MemoryError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT body FROM session")?;
        let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
        let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
        let mut sessions = bodies.iter().map(|body| read(body)).collect::<Result<Vec<_>, _>>()?;
        sessions.sort_by_key(|session| std::cmp::Reverse(session.opened_at));
        Ok(sessions)
    }
}

fn read(body: &str) -> Result<WalletSession, MemoryError> {
    serde_json::from_str(body).map_err(|_| MemoryError::Unreadable)
}
