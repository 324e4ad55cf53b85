//! What is known of a payment when it is decided upon.

use farthing_money::{AssetId, Assets, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::Reference;

/// What a wallet can be asked to do. Whatever else is asked is denied.
pub const OPERATIONS: [&str; 6] = ["pay", "deposit", "call", "stream", "subscribe", "prove"];

/// A purchase within a session.
pub(crate) const CALL: &str = "call";

/// What a stream asks for on top of the call that it began with.
pub(crate) const STREAM: &str = "stream";

/// A deposit into a session.
pub(crate) const DEPOSIT: &str = "deposit";

/// The longest text of a fact, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;

/// Decimals of the numbers that rules compare: billionths of a unit, which fit what Cedar counts in.
pub(crate) const NANO_DECIMALS: u8 = 9;

/// The facts of one payment, as the wallet established them. They come from parsed offers, from the
/// request and from the wallet's own memory; no text of a seller's or of a model's is among them.
///
/// Serialised they are the inputs of a decision's record, from which it can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Who asks: the name in the agent's token, or [`OWNER`](crate::OWNER).
    pub agent: String,
    /// What for, where the agent says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What is asked: one of [`OPERATIONS`].
    pub operation: String,
    /// The seller: scheme, host and port.
    pub origin: String,
    /// The method of the request that is paid for.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The tool it belongs to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What the owner files the seller under, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The payment method, such as `tempo`.
    pub rail: String,
    /// The network, such as `eip155:4217`, where the rail has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What is paid in.
    pub asset: AssetId,
    /// How much, in atoms.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
    /// Who is paid.
    pub recipient: String,
    /// The key the seller has proven to have, where it has proven one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The key the seller had proven to have when it was first paid; nothing if it had proven none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_identity: Option<String>,
    /// Whom this seller was paid through when it was last paid; nothing if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_recipient: Option<String>,
    /// What the same thing cost when it was last bought, in atoms of the same asset.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_atoms_text")]
    pub known_atoms: Option<u128>,
    /// What of the amount was decided upon before, in atoms: what was signed for a stream up to now.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_atoms_text")]
    pub before_atoms: Option<u128>,
    /// In whose budgets the deposit is held that this is paid from, as
    /// [`Policy::purses`](crate::Policy::purses) names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purses: Vec<String>,
    /// Names what is bought: one for the same method, address and body.
    pub intent: String,
    /// When it is decided.
    pub at: Timestamp,
}

/// Facts as rules see them.
pub(crate) struct Seen {
    /// The amount in billionths of a unit, rounded up.
    pub(crate) amount: i64,
    /// The same, rounded down.
    pub(crate) amount_floor: i64,
    /// The amount in the reference currency in billionths, rounded up; nothing without a rate.
    pub(crate) reference: Option<i64>,
    /// What of that was not decided upon before.
    pub(crate) more: Option<i64>,
    /// By how much the price rose, in hundredths of a percent, rounded up.
    pub(crate) rise_bps: i64,
}

impl Facts {
    /// Whether it is paid from a deposit that was decided upon before.
    #[must_use]
    pub fn is_in_session(&self) -> bool {
        matches!(self.operation.as_str(), CALL | STREAM)
    }

    /// Whether the seller was never paid before.
    #[must_use]
    pub const fn is_first_payment(&self) -> bool {
        self.known_recipient.is_none()
    }

    /// Whether the seller names somebody else to be paid than it did before.
    #[must_use]
    pub fn is_recipient_changed(&self) -> bool {
        self.known_recipient.as_ref().is_some_and(|known| *known != self.recipient)
    }

    /// Whether the seller has proven another key than before, or none any more.
    #[must_use]
    pub fn is_identity_changed(&self) -> bool {
        self.known_identity.is_some() && self.known_identity != self.identity
    }

    /// Checks the facts and computes what rules compare.
    pub(crate) fn see(
        &self,
        assets: &Assets,
        reference: Option<&Reference>,
    ) -> Result<Seen, Unclear> {
        if !OPERATIONS.contains(&self.operation.as_str()) {
            return Err(Unclear::Operation);
        }
        let optional = [&self.task, &self.tool, &self.category, &self.network, &self.identity];
        let texts = [
            &self.agent,
            &self.origin,
            &self.method,
            &self.path,
            &self.rail,
            &self.recipient,
            &self.intent,
        ];
        let is_clear = |text: &String| {
            (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        if !texts.into_iter().chain(optional.into_iter().flatten()).all(is_clear) {
            return Err(Unclear::Text);
        }
        let asset = assets.get(&self.asset).ok_or(Unclear::Asset)?;
        let (floor, ceiling) = scaled(self.atoms, asset.decimals()).ok_or(Unclear::Amount)?;
        let rate = reference.and_then(|it| it.rate(&self.asset));
        let valued = |atoms: u128| {
            let value = |rate| in_reference(atoms, asset.decimals(), rate).ok_or(Unclear::Amount);
            rate.map(value).transpose()
        };
        let reference = valued(self.atoms)?;
        // Rounded up in all, and not once for each part.
        let before = valued(self.before_atoms.unwrap_or_default())?.unwrap_or_default();
        let more = reference.map(|it| it.saturating_sub(before));
        let fit = |number: u128| i64::try_from(number).map_err(|_| Unclear::Amount);
        Ok(Seen {
            amount: fit(ceiling)?,
            amount_floor: fit(floor)?,
            reference: reference.map(fit).transpose()?,
            more: more.map(fit).transpose()?,
            rise_bps: self.known_atoms.map_or(Ok(0), |known| rise_bps(known, self.atoms))?,
        })
    }
}

/// Atoms in billionths of a unit: rounded down, and rounded up.
pub(crate) fn scaled(atoms: u128, decimals: u8) -> Option<(u128, u128)> {
    if let Some(more) = NANO_DECIMALS.checked_sub(decimals) {
        let exact = atoms.checked_mul(10_u128.checked_pow(more.into())?)?;
        return Some((exact, exact));
    }
    let unit = 10_u128.checked_pow(decimals.checked_sub(NANO_DECIMALS)?.into())?;
    Some((atoms.checked_div(unit)?, atoms.div_ceil(unit)))
}

/// Atoms in billionths of the reference currency, rounded up. `rate` is what one unit is worth, in billionths.
pub(crate) fn in_reference(atoms: u128, decimals: u8, rate: u128) -> Option<u128> {
    let unit = 10_u128.checked_pow(decimals.into())?;
    Some(atoms.checked_mul(rate)?.div_ceil(unit))
}

/// By how much a price rose over a known one, in hundredths of a percent, rounded up.
fn rise_bps(known: u128, now: u128) -> Result<i64, Unclear> {
    let more = now.saturating_sub(known);
    if more == 0 {
        return Ok(0);
    }
    // What was free and costs something has risen beyond any bound.
    let Some(known) = std::num::NonZeroU128::new(known) else { return Ok(i64::MAX) };
    let bps = more.checked_mul(10_000).ok_or(Unclear::Amount)?.div_ceil(known.get());
    Ok(i64::try_from(bps).unwrap_or(i64::MAX))
}

/// Why facts cannot be decided upon, so that they are denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Nobody knows such an operation.
    #[error("the wallet knows no such operation")]
    Operation,
    /// Nobody knows the asset.
    #[error("the wallet does not know the asset")]
    Asset,
    /// The amount is beyond what rules can count.
    #[error("the amount is too large to be compared with any limit")]
    Amount,
    /// A text is empty, too long or contains control characters.
    #[error("a fact is empty, longer than 2048 bytes or has control characters in it")]
    Text,
}

/// Atoms as text, since JSON's numbers end at 2^53 for many who read them.
pub(crate) mod atoms_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(atoms: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        atoms.to_string().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        farthing_money::parse_atoms(&text).map_err(D::Error::custom)
    }
}

/// The same, where there may be none.
pub(crate) mod maybe_atoms_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the shape serde asks for")]
    pub(crate) fn serialize<S: Serializer>(
        atoms: &Option<u128>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        atoms.map(|atoms| atoms.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u128>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| farthing_money::parse_atoms(&text).map_err(D::Error::custom)).transpose()
    }
}
