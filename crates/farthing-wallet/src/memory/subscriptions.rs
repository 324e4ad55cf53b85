//! What the wallet remembers of its subscriptions.

use farthing_core::Object;
use farthing_ledger::{Fingerprint, PaymentId};
use farthing_money::{Amount, Period, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{IntentLock, Memory, MemoryError};

/// A subscription with one seller, as the wallet knows it. It holds no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSubscription {
    /// What of the wallet's caps is held for it: a payment of the wallet's book. It is also the wallet's own
    /// name for it.
    pub hold: PaymentId,
    /// The seller's name for it, once it has said one.
    pub id: Option<String>,
    /// The payment method.
    pub method: String,
    /// The only origin it is used with.
    pub origin: String,
    /// What it is bound to.
    pub binding: String,
    /// Who is paid.
    pub recipient: String,
    /// Where it was begun, and where it is cancelled.
    pub url: String,
    /// With which method.
    pub http_method: String,
    /// Where it stands.
    pub state: WalletSubscriptionState,
    /// The price of a period.
    pub amount: Amount,
    /// How long a period is.
    pub period: Period,
    /// For how many periods it may be charged at most.
    pub periods: u64,
    /// From when on nothing may be charged any more.
    pub until: Timestamp,
    /// For how many periods it was charged at most, as far as the seller has said.
    pub charges: u64,
    /// The request that it was begun with.
    pub begun_with: PaymentId,
    /// Until when the seller can take the authorisation.
    pub offered_until: Timestamp,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// What it takes to take the authorisation back at the rail, without the seller; nothing where only the
    /// seller can end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocable: Option<Object>,
}

/// Where a wallet's subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalletSubscriptionState {
    /// Whether the seller has taken it is not known.
    Beginning,
    /// It is used and charged.
    Active,
    /// It is not charged any more, and can be used as long as it is paid for.
    Cancelled,
    /// The seller did not take it. Until its offer has expired, that may change.
    Refused,
    /// Nobody knows whether the seller has taken it, and it cannot be asked any more: what was held stays
    /// held.
    Lost,
    /// It is over: what was charged is spent, and the rest is free.
    Over,
}

impl WalletSubscriptionState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Beginning => "beginning",
            Self::Active => "active",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Over => "over",
        }
    }

    /// Whether it can be used, now or once its beginning is known.
    const fn is_usable(self) -> bool {
        match self {
            Self::Beginning | Self::Active | Self::Cancelled => true,
            Self::Refused | Self::Lost | Self::Over => false,
        }
    }
}

impl WalletSubscription {
    /// What was charged at most, and never more than was authorised.
    #[must_use]
    pub fn spent(&self) -> Amount {
        let charges = u128::from(self.charges.min(self.periods));
        let atoms = self.amount.atoms().saturating_mul(charges);
        Amount::new(self.amount.asset().clone(), atoms)
    }
}

impl Memory {
    /// Waits until nobody else works on the subscription with an origin that is bound to `binding`.
    pub(crate) async fn lock_subscription(
        &self,
        origin: &str,
        binding: &str,
    ) -> Result<IntentLock, MemoryError> {
        let parts = [origin.as_bytes(), binding.as_bytes()];
        self.lock_file(&Fingerprint::of("wallet subscription", &parts), "subscription").await
    }

    /// Remembers a subscription as it stands now, instead of as it stood before.
    ///
    /// # Crash safety
    ///
    /// It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; nothing must be sent then.
    pub(crate) fn keep_subscription(&self, it: &WalletSubscription) -> Result<(), MemoryError> {
        let body = serde_json::to_string(it).map_err(|_| MemoryError::Unreadable)?;
        self.connection().execute(
            "INSERT OR REPLACE INTO subscription (hold, origin, binding, usable, body)
             VALUES (?, ?, ?, ?, ?)",
            params![it.hold.to_string(), it.origin, it.binding, it.state.is_usable(), body],
        )?;
        Ok(())
    }

    /// The subscription with an origin that is bound to `binding` and can be used.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn subscription_with(
        &self,
        origin: &str,
        binding: &str,
    ) -> Result<Option<WalletSubscription>, MemoryError> {
        let connection = self.connection();
        let body: Option<String> = connection
            .query_row(
                "SELECT body FROM subscription WHERE origin = ? AND binding = ? AND usable = 1",
                [origin, binding],
                |row| row.get(0),
            )
            .optional()?;
        body.map(|body| read(&body)).transpose()
    }

    /// Every subscription, the latest first.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub fn subscriptions(&self) -> Result<Vec<WalletSubscription>, MemoryError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT body FROM subscription")?;
        let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
        let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
        let mut all = bodies.iter().map(|body| read(body)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|it| std::cmp::Reverse(it.begun_at));
        Ok(all)
    }
}

fn read(body: &str) -> Result<WalletSubscription, MemoryError> {
    serde_json::from_str(body).map_err(|_| MemoryError::Unreadable)
}
