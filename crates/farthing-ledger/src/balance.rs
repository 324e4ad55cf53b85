//! Transfers and the balances they add up to.

use std::collections::BTreeMap;

use farthing_money::{Amount, AssetId, parse_atoms};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Account, Rule, TransferId};

#[cfg(test)]
mod tests;

/// Money moving from one account to another, in one asset. Never changed once written: a pending
/// transfer is finished by another transfer that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Names the transfer; derived from what it is for.
    pub id: TransferId,
    /// The account debited: what we owe shrinks there, or what we own and spent grows.
    pub debit: Account,
    /// The account credited: what we owe grows there, or what we own shrinks.
    pub credit: Account,
    /// How much, in atoms of the accounts' asset.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
    /// Whether it counts now, later, or finishes an earlier one.
    #[serde(flatten)]
    pub phase: Phase,
}

/// When a transfer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", content = "of", rename_all = "lowercase")]
pub enum Phase {
    /// At once.
    Posted,
    /// When a later transfer posts it. Until then it holds the debit account's money.
    Pending,
    /// It makes the named pending transfer count, in whole or in part; the rest is released.
    Post(TransferId),
    /// It gives the named pending transfer up.
    Void(TransferId),
}

/// What has gone through an account, in atoms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// Debited and not yet counting.
    #[serde(with = "atoms_text")]
    pub debits_pending: u128,
    /// Debited.
    #[serde(with = "atoms_text")]
    pub debits_posted: u128,
    /// Credited and not yet counting.
    #[serde(with = "atoms_text")]
    pub credits_pending: u128,
    /// Credited.
    #[serde(with = "atoms_text")]
    pub credits_posted: u128,
}

impl Balance {
    /// Debits that count or may come to count.
    #[must_use]
    pub const fn debits_held(&self) -> u128 {
        self.debits_pending.saturating_add(self.debits_posted)
    }

    /// Credits that count or may come to count.
    #[must_use]
    pub const fn credits_held(&self) -> u128 {
        self.credits_pending.saturating_add(self.credits_posted)
    }

    /// What can still be debited under [`Rule::DebitsWithinCredits`]: pending credits do not count
    /// yet, and pending debits count already.
    #[must_use]
    pub const fn available(&self) -> u128 {
        self.credits_posted.saturating_sub(self.debits_held())
    }
}

/// Every account's balance, and the transfers still pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    accounts: BTreeMap<Account, Balance>,
    pending: BTreeMap<TransferId, Transfer>,
}

impl Balances {
    /// The balance of `account`; zero if it was never used.
    #[must_use]
    pub fn of(&self, account: &Account) -> Balance {
        self.accounts.get(account).copied().unwrap_or_default()
    }

    /// Every account that was ever used, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Account, &Balance)> {
        self.accounts.iter()
    }

    /// The pending transfer called `id`.
    #[must_use]
    pub fn pending(&self, id: TransferId) -> Option<&Transfer> {
        self.pending.get(&id)
    }

    /// Every pending transfer.
    pub fn all_pending(&self) -> impl Iterator<Item = &Transfer> {
        self.pending.values()
    }

    /// Gives accounts other names. Two that get the same one become one.
    pub(crate) fn rename(&mut self, name: &impl Fn(&Account) -> Account) {
        let accounts = std::mem::take(&mut self.accounts);
        for (account, balance) in accounts {
            let sum = self.accounts.entry(name(&account)).or_default();
            for (sum, more) in [
                (&mut sum.debits_pending, balance.debits_pending),
                (&mut sum.debits_posted, balance.debits_posted),
                (&mut sum.credits_pending, balance.credits_pending),
                (&mut sum.credits_posted, balance.credits_posted),
            ] {
                *sum = sum.saturating_add(more);
            }
        }
        for transfer in self.pending.values_mut() {
            (transfer.debit, transfer.credit) = (name(&transfer.debit), name(&transfer.credit));
        }
    }

    /// Applies transfers, all or none.
    ///
    /// # Errors
    ///
    /// The first [`TransferError`]; nothing has changed then.
    pub fn apply(&mut self, transfers: &[Transfer]) -> Result<(), TransferError> {
        let mut undo = Undo::default();
        for transfer in transfers {
            if let Err(error) = self.apply_one(transfer, &mut undo) {
                undo.roll_back(self);
                return Err(error);
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, transfer: &Transfer, undo: &mut Undo) -> Result<(), TransferError> {
        if transfer.debit == transfer.credit {
            return Err(TransferError::SameAccount);
        }
        if transfer.debit.asset != transfer.credit.asset {
            return Err(TransferError::AssetMismatch);
        }
        let finished = match transfer.phase {
            Phase::Posted | Phase::Pending => None,
            Phase::Post(id) | Phase::Void(id) => Some(self.finished(id, transfer)?),
        };
        let moves = Moves::of(transfer, finished.as_ref());
        for (account, side) in [(&transfer.debit, Side::Debit), (&transfer.credit, Side::Credit)] {
            let before = self.of(account);
            let after = moves.applied_to(before, side).ok_or(TransferError::Overflow)?;
            let overdraws = account.kind.rule() == Rule::DebitsWithinCredits
                && after.debits_held() > after.credits_posted
                && after.debits_held() > before.debits_held();
            if overdraws {
                return Err(TransferError::Overdrawn);
            }
            undo.accounts.push((account.clone(), self.accounts.insert(account.clone(), after)));
        }
        if let Some(finished) = finished {
            self.pending.remove(&finished.id);
            undo.finished.push(finished);
        }
        if transfer.phase == Phase::Pending {
            if self.pending.contains_key(&transfer.id) {
                return Err(TransferError::Duplicate);
            }
            self.pending.insert(transfer.id, transfer.clone());
            undo.started.push(transfer.id);
        }
        Ok(())
    }

    /// The pending transfer that `by` finishes, if `by` fits it.
    fn finished(&self, id: TransferId, by: &Transfer) -> Result<Transfer, TransferError> {
        let pending = self.pending.get(&id).ok_or(TransferError::NotPending)?;
        let same_accounts = pending.debit == by.debit && pending.credit == by.credit;
        let fits = match by.phase {
            Phase::Void(_) => by.atoms == pending.atoms,
            Phase::Post(_) | Phase::Posted | Phase::Pending => by.atoms <= pending.atoms,
        };
        if same_accounts && fits {
            Ok(pending.clone())
        } else {
            Err(TransferError::PendingMismatch)
        }
    }
}

/// Rebuilds balances from a snapshot's parts.
impl FromIterator<(Account, Balance)> for Balances {
    fn from_iter<I: IntoIterator<Item = (Account, Balance)>>(accounts: I) -> Self {
        Self { accounts: accounts.into_iter().collect(), pending: BTreeMap::new() }
    }
}

impl Extend<Transfer> for Balances {
    fn extend<I: IntoIterator<Item = Transfer>>(&mut self, pending: I) {
        self.pending.extend(pending.into_iter().map(|transfer| (transfer.id, transfer)));
    }
}

#[derive(Clone, Copy)]
enum Side {
    Debit,
    Credit,
}

/// What a transfer adds to the four sums of an account.
struct Moves {
    pending_add: u128,
    pending_take: u128,
    posted_add: u128,
}

impl Moves {
    fn of(transfer: &Transfer, finished: Option<&Transfer>) -> Self {
        let pending_take = finished.map_or(0, |pending| pending.atoms);
        let (pending_add, posted_add) = match transfer.phase {
            Phase::Posted | Phase::Post(_) => (0, transfer.atoms),
            Phase::Pending => (transfer.atoms, 0),
            Phase::Void(_) => (0, 0),
        };
        Self { pending_add, pending_take, posted_add }
    }

    fn applied_to(&self, mut balance: Balance, side: Side) -> Option<Balance> {
        let (pending, posted) = match side {
            Side::Debit => (&mut balance.debits_pending, &mut balance.debits_posted),
            Side::Credit => (&mut balance.credits_pending, &mut balance.credits_posted),
        };
        *pending = pending.checked_add(self.pending_add)?.checked_sub(self.pending_take)?;
        *posted = posted.checked_add(self.posted_add)?;
        // No sum of an account may leave the range in which it can be added to its neighbour.
        pending.checked_add(*posted)?;
        Some(balance)
    }
}

/// How to take back what a failed batch has done so far.
#[derive(Default)]
struct Undo {
    accounts: Vec<(Account, Option<Balance>)>,
    started: Vec<TransferId>,
    finished: Vec<Transfer>,
}

impl Undo {
    fn roll_back(self, balances: &mut Balances) {
        for id in self.started {
            balances.pending.remove(&id);
        }
        balances.extend(self.finished);
        for (account, before) in self.accounts.into_iter().rev() {
            match before {
                Some(balance) => balances.accounts.insert(account, balance),
                None => balances.accounts.remove(&account),
            };
        }
    }
}

/// Why a transfer cannot be made, the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum TransferError {
    /// The two accounts are one.
    #[error("a transfer needs two accounts")]
    SameAccount,
    /// The two accounts count different assets.
    #[error("the two accounts are in different assets")]
    AssetMismatch,
    /// The transfer to finish is not pending, or not any more.
    #[error("no such transfer is pending")]
    NotPending,
    /// The transfer to finish has other accounts or less money.
    #[error("the pending transfer has other accounts or another amount")]
    PendingMismatch,
    /// A sum would leave 128 bits.
    #[error("the sum does not fit in 128 bits")]
    Overflow,
    /// The debited account does not hold that much.
    #[error("the account does not hold that much")]
    Overdrawn,
    /// A pending transfer of this id exists.
    #[error("the transfer exists")]
    Duplicate,
}

/// The sum of debits and of credits of one asset over all accounts; equal in a sound book.
#[must_use]
pub fn totals<'a>(
    accounts: impl IntoIterator<Item = (&'a Account, &'a Balance)>,
) -> BTreeMap<AssetId, (Amount, Amount)> {
    let mut totals: BTreeMap<AssetId, (Amount, Amount)> = BTreeMap::new();
    for (account, balance) in accounts {
        let asset = &account.asset;
        let (debits, credits) = totals
            .entry(asset.clone())
            .or_insert_with(|| (Amount::zero(asset.clone()), Amount::zero(asset.clone())));
        for (sum, atoms) in [(debits, balance.debits_held()), (credits, balance.credits_held())] {
            let more = Amount::new(asset.clone(), atoms);
            // Past 2^128 atoms of one asset a total says nothing; it stays at the limit.
            *sum = sum.checked_add(&more).unwrap_or_else(|_| Amount::new(asset.clone(), u128::MAX));
        }
    }
    totals
}

/// Atoms as a decimal string, since a JSON number loses digits past 2^53.
pub(crate) mod atoms_text {
    use super::{Deserialize, Deserializer, Serializer, parse_atoms};

    pub(crate) fn serialize<S: Serializer>(atoms: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(atoms)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_atoms(&text).map_err(serde::de::Error::custom)
    }
}
