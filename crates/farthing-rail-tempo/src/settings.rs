//! What a seller has decided.

use std::time::Duration;

use farthing_core::Unquotable;
use farthing_ledger::Holder;
use farthing_money::Amount;

use crate::refund::Refunder;
use crate::sponsor::Sponsor;
use crate::wire::{Address, Tokens, Transfer};

#[cfg(test)]
mod tests;

/// A whole, in basis points.
const WHOLE: u128 = 10_000;

/// What a seller has decided.
#[derive(Debug)]
pub struct Settings {
    /// Who is paid, on the books.
    pub payee: Holder,
    /// Who is paid, on the chain.
    pub recipient: Address,
    /// The tokens accepted.
    pub tokens: Tokens,
    /// Whether buyers may send the payment themselves and show its hash. Never where a sponsor pays
    /// the fee.
    pub push: bool,
    /// How many blocks a payment has to be deep; 1 is the block it is mined in.
    pub confirmations: u64,
    /// How long to wait for that.
    pub wait: Duration,
    /// Who pays the network's fee; nobody means that buyers do.
    pub sponsor: Option<Sponsor>,
    /// Who else is paid out of each price, at most ten; together less than all of it.
    pub splits: Vec<Split>,
    /// Who gives money back; nobody means that payers are credited.
    pub refunder: Option<Refunder>,
}

/// Somebody who is paid out of each price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Who, on the books.
    pub payee: Holder,
    /// Who, on the chain.
    pub recipient: Address,
    /// How much of the price, in basis points; rounded down to an atom, in the seller's favour.
    pub basis_points: u16,
}

impl Settings {
    /// The parts of a price that go to others than the seller.
    ///
    /// # Errors
    ///
    /// [`Unquotable::Amount`] where a part would be nothing, or all of it would be others'.
    pub(crate) fn split(&self, amount: &Amount) -> Result<Vec<Transfer>, Unquotable> {
        let split = |it: &Split| {
            let atoms = amount.atoms().checked_mul(it.basis_points.into());
            let atoms = atoms.map(|atoms| atoms / WHOLE).filter(|&atoms| atoms > 0);
            let atoms = atoms.ok_or(Unquotable::Amount)?;
            Ok(Transfer { to: it.recipient, atoms, memo: None })
        };
        let splits: Vec<Transfer> = self.splits.iter().map(split).collect::<Result<_, _>>()?;
        let sum = splits.iter().fold(0, |sum: u128, it| sum.saturating_add(it.atoms));
        let fits = splits.is_empty() || sum < amount.atoms();
        if fits { Ok(splits) } else { Err(Unquotable::Amount) }
    }
}
