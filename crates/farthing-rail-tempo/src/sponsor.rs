//! The seller pays the network's fee (draft-tempo-charge-00 §6): what is paid for, and how much of it.
//!
//! A sponsor signs over a transaction that its sender has signed already, and over nothing else. The
//! signature takes no nonce of the sponsor's account and depends on nothing but the transaction and the
//! fee's token. So any number of payments can be sponsored at once, by any number of gateways with one
//! key; and whoever signs again after a crash signs the same bytes, which the chain takes at most once.
//!
//! **Architecture invariant:** nothing is signed before the sender's signature, the exact list of calls,
//! the limits, the budgets and a simulation have been found in order (attacks, F-13).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::B256;
use farthing_core::SettleError;
use farthing_money::Amount;
use reqwest::Url;
use tempo_primitives::transaction::TEMPO_EXPIRING_NONCE_KEY;
use tempo_primitives::{AASigned, TempoTransaction};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::payer::MalformedKey;
use crate::rpc::{CallError, Nodes, NodesError, TxReceipt};
use crate::transaction::{self, Mismatch, Payment};
use crate::wire::{Address, Token};
use crate::{VALID_S_MAX, envelope, receipt};

#[cfg(test)]
mod tests;

/// The most gas of one payment. A transfer takes 50,000, and 300,000 to an account that is new.
const GAS_MAX: u64 = 2_000_000;

/// The most gas of a channel's opening: the chain charges 250,000 for each new word it keeps.
pub(crate) const GAS_MAX_CHANNEL: u64 = 4_000_000;

/// How long a balance is believed.
const BALANCE_KEPT: Duration = Duration::from_secs(2);

/// Pays the fees of buyers' transactions. Its clones share one budget.
#[derive(Clone)]
pub struct Sponsor {
    signer: Arc<Signer>,
    token: Token,
    limits: SponsorLimits,
    spent: Arc<Mutex<Spent>>,
    balance: Arc<tokio::sync::Mutex<Option<(Instant, u128)>>>,
}

/// How much a sponsor pays, in atoms of the fee's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SponsorLimits {
    /// For one payment.
    pub per_payment: u128,
    /// For one buyer, in one period.
    pub per_payer: u128,
    /// For everybody together, in one period.
    pub total: u128,
    /// How long a period lasts.
    pub period: Duration,
    /// What has to be left in the sponsor's account; below it, nothing is sponsored.
    pub balance_min: u128,
}

/// The most that one transaction may burn and cost, where that is not what a payment may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ceiling {
    pub(crate) gas: u64,
    /// In atoms of the fee's token.
    pub(crate) atoms: u128,
}

enum Signer {
    Local { key: Zeroizing<[u8; 32]>, account: Address },
    Relay(Nodes),
}

/// What was spent in the current period.
#[derive(Default)]
struct Spent {
    since: Option<Instant>,
    total: u128,
    by_payer: HashMap<Address, u128>,
}

/// A part of the budget, taken before a transaction is signed.
pub(crate) struct Reservation<'a> {
    sponsor: &'a Sponsor,
    payer: Address,
    atoms: u128,
}

impl fmt::Debug for Sponsor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sponsor").field("account", &self.account()).finish_non_exhaustive()
    }
}

impl Sponsor {
    /// Signs with `secret`, a key of secp256k1 whose account pays the fees in `token`.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn local(
        secret: &[u8; 32],
        token: Token,
        limits: SponsorLimits,
    ) -> Result<Self, MalformedKey> {
        let account = Address::of_secret(secret).ok_or(MalformedKey)?;
        let signer = Signer::Local { key: Zeroizing::new(*secret), account };
        Ok(Self::new(signer, token, limits))
    }

    /// Lets the service at `url` sign: a JSON-RPC endpoint with `eth_signRawTransaction`, as the
    /// chain's own wallets use for sponsors. It pays from an account of its own, in `token`.
    ///
    /// # Errors
    ///
    /// A [`NodesError`].
    pub fn relay(
        url: Url,
        token: Token,
        limits: SponsorLimits,
        timeout: Duration,
    ) -> Result<Self, NodesError> {
        Ok(Self::new(Signer::Relay(Nodes::service(url, timeout)?), token, limits))
    }

    fn new(signer: Signer, token: Token, limits: SponsorLimits) -> Self {
        let (spent, balance) = (Arc::default(), Arc::default());
        Self { signer: Arc::new(signer), token, limits, spent, balance }
    }

    /// The account that pays; nothing where a relay pays.
    #[must_use]
    pub fn account(&self) -> Option<Address> {
        match self.signer.as_ref() {
            Signer::Local { account, .. } => Some(*account),
            Signer::Relay(_) => None,
        }
    }

    /// The token it pays in.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// How much it pays.
    #[must_use]
    pub const fn limits(&self) -> &SponsorLimits {
        &self.limits
    }

    /// What is left of the current period's budget, in atoms.
    #[must_use]
    pub fn left(&self) -> u128 {
        self.limits.total.saturating_sub(self.spent(Instant::now()).total)
    }

    /// Whether a transaction is one that is paid for. Pure.
    pub(crate) fn permits(&self, tx: &TempoTransaction, now_s: u64) -> Result<(), Mismatch> {
        self.permits_up_to(GAS_MAX, tx, now_s)
    }

    /// The same, with more or less gas.
    pub(crate) fn permits_up_to(
        &self,
        gas_max: u64,
        tx: &TempoTransaction,
        now_s: u64,
    ) -> Result<(), Mismatch> {
        let ensure = |holds, otherwise| if holds { Ok(()) } else { Err(otherwise) };
        ensure(tx.access_list.is_empty(), Mismatch::Lists)?;
        ensure(tx.fee_token.is_none(), Mismatch::FeeToken)?;
        ensure(tx.key_authorization.is_none(), Mismatch::KeyAuthorization)?;
        let expires = tx.nonce_key == TEMPO_EXPIRING_NONCE_KEY && tx.nonce == 0;
        let valid_before_s = tx.valid_before.filter(|_| expires).ok_or(Mismatch::Nonce)?.get();
        let window = valid_before_s <= now_s.saturating_add(VALID_S_MAX);
        ensure(window, Mismatch::Window)?;
        let ceiling = Ceiling { gas: gas_max, atoms: self.limits.per_payment };
        ensure(self.affords(ceiling, tx), Mismatch::Gas)
    }

    /// Whether a transaction stays within what is paid for one payment.
    fn affords(&self, ceiling: Ceiling, tx: &TempoTransaction) -> bool {
        (1..=ceiling.gas).contains(&tx.gas_limit)
            && tx.max_fee_per_gas > 0
            && tx.max_priority_fee_per_gas <= tx.max_fee_per_gas
            && self.fee_max(tx) <= ceiling.atoms
    }

    /// The most a transaction can cost, in atoms of the fee's token, rounded up.
    fn fee_max(&self, tx: &TempoTransaction) -> u128 {
        transaction::fee_max(tx, self.token.asset.decimals())
    }

    /// The complete transaction, if it is known without asking anybody.
    pub(crate) fn foreseen(&self, payment: &Payment) -> Option<AASigned> {
        let Signer::Local { key, .. } = self.signer.as_ref() else { return None };
        let mut tx = payment.signed.tx().clone();
        tx.fee_token = Some(self.token.address.0);
        let digest = tx.fee_payer_signature_hash(payment.sender.0);
        tx.fee_payer_signature = Some(sign_message(B256::from(**key), digest).ok()?);
        Some(tx.into_signed(payment.signed.signature().clone()))
    }

    /// Finds everything in order and signs.
    pub(crate) async fn complete(
        &self,
        nodes: &Nodes,
        payment: &Payment,
    ) -> Result<(AASigned, Reservation<'_>), SettleError> {
        self.complete_if(nodes, payment, GAS_MAX, would_succeed(nodes, payment)).await
    }

    /// The same, where something else than a payment has to be found in order.
    pub(crate) async fn complete_if(
        &self,
        nodes: &Nodes,
        payment: &Payment,
        gas_max: u64,
        would_succeed: impl Future<Output = Result<bool, SettleError>>,
    ) -> Result<(AASigned, Reservation<'_>), SettleError> {
        let ceiling = Ceiling { gas: gas_max, atoms: self.limits.per_payment };
        self.complete_within(nodes, payment, ceiling, would_succeed).await
    }

    /// The same, within another ceiling than a payment's.
    pub(crate) async fn complete_within(
        &self,
        nodes: &Nodes,
        payment: &Payment,
        ceiling: Ceiling,
        would_succeed: impl Future<Output = Result<bool, SettleError>>,
    ) -> Result<(AASigned, Reservation<'_>), SettleError> {
        let tx = payment.signed.tx();
        if !self.affords(ceiling, tx) {
            return Err(SettleError::Declined);
        }
        let reservation = self.reserve(payment.sender, self.fee_max(tx))?;
        let signed = self.sign(nodes, payment, would_succeed).await;
        match signed {
            Ok(signed) => Ok((signed, reservation)),
            Err(error) => {
                reservation.release();
                Err(error)
            }
        }
    }

    async fn sign(
        &self,
        nodes: &Nodes,
        payment: &Payment,
        would_succeed: impl Future<Output = Result<bool, SettleError>>,
    ) -> Result<AASigned, SettleError> {
        if let Some(key) = payment.access_key {
            let active = nodes.is_access_key(payment.sender, key).await;
            if !active.map_err(|_| SettleError::Unsent)? {
                return Err(SettleError::Declined);
            }
        }
        self.can_pay(nodes).await?;
        if !would_succeed.await? {
            return Err(SettleError::Declined);
        }
        match self.signer.as_ref() {
            Signer::Local { .. } => self.foreseen(payment).ok_or(SettleError::Unsent),
            Signer::Relay(relay) => relayed(relay, payment).await,
        }
    }

    /// Whether the account holds enough to go on.
    async fn can_pay(&self, nodes: &Nodes) -> Result<(), SettleError> {
        let Some(account) = self.account() else { return Ok(()) };
        let mut kept = self.balance.lock().await;
        let fresh = kept.filter(|(at, _)| at.elapsed() < BALANCE_KEPT);
        let balance = if let Some((_, balance)) = fresh {
            balance
        } else {
            let asked = nodes.balance(self.token.address, account).await;
            let balance = asked.map_err(|_| SettleError::Unsent)?;
            *kept = Some((Instant::now(), balance));
            balance
        };
        if balance < self.limits.balance_min {
            tracing::error!(%account, balance, "the sponsor's account is low; nothing is sponsored");
            return Err(SettleError::Unsent);
        }
        Ok(())
    }

    /// What it cost, as the chain tells.
    pub(crate) fn cost(&self, mined: &TxReceipt) -> Option<Amount> {
        let atoms = receipt::fee(mined, self.token.address, self.account()?);
        (atoms > 0).then(|| self.token.asset.atoms(atoms))
    }

    /// Takes the most out of the budget that a transaction can cost which was signed before.
    pub(crate) fn reserve_for(
        &self,
        payer: Address,
        tx: &TempoTransaction,
    ) -> Result<Reservation<'_>, SettleError> {
        self.reserve(payer, self.fee_max(tx))
    }

    fn reserve(&self, payer: Address, atoms: u128) -> Result<Reservation<'_>, SettleError> {
        let mut spent = self.spent(Instant::now());
        let total = spent.total.saturating_add(atoms);
        if total > self.limits.total {
            tracing::error!("the sponsor's budget is used up; nothing is sponsored");
            return Err(SettleError::Unsent);
        }
        let by_payer = spent.by_payer.entry(payer).or_default();
        if by_payer.saturating_add(atoms) > self.limits.per_payer {
            tracing::warn!(%payer, "the buyer's share of the sponsor's budget is used up");
            return Err(SettleError::Declined);
        }
        *by_payer = by_payer.saturating_add(atoms);
        spent.total = total;
        Ok(Reservation { sponsor: self, payer, atoms })
    }

    /// What was spent, in a new period if the last is over.
    fn spent(&self, now: Instant) -> MutexGuard<'_, Spent> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let over = spent.since.is_none_or(|since| now.duration_since(since) >= self.limits.period);
        if over {
            *spent = Spent { since: Some(now), ..Spent::default() };
        }
        spent
    }
}

impl Reservation<'_> {
    /// Nothing was sent: gives all of it back.
    pub(crate) fn release(self) {
        self.spend(0);
    }

    /// It cost `atoms`; the rest is given back.
    pub(crate) fn spend(self, atoms: u128) {
        let back = self.atoms.saturating_sub(atoms);
        let mut spent = self.sponsor.spent(Instant::now());
        spent.total = spent.total.saturating_sub(back);
        if let Some(by_payer) = spent.by_payer.get_mut(&self.payer) {
            *by_payer = by_payer.saturating_sub(back);
        }
    }
}

/// Whether a payment would go through as things stand: what fails costs the sponsor as much as what
/// succeeds.
async fn would_succeed(nodes: &Nodes, payment: &Payment) -> Result<bool, SettleError> {
    let tx = payment.signed.tx();
    // Every call is one of the charge's token.
    let token = tx.calls.first().and_then(|call| call.to.to().copied());
    let Some(token) = token.map(Address) else { return Ok(false) };
    let total = payment.transfers.iter().fold(0, |sum: u128, it| sum.saturating_add(it.atoms));
    let balance = nodes.balance(token, payment.sender).await;
    if balance.map_err(|_| SettleError::Unsent)? < total {
        return Ok(false);
    }
    for call in &tx.calls {
        if refused(nodes.try_call(payment.sender, token, &call.input).await)?.is_none() {
            return Ok(false);
        }
    }
    let gas = refused(nodes.estimate_gas(payment.sender, tx).await)?;
    Ok(gas.is_some_and(|gas| gas <= tx.gas_limit))
}

/// What the chain answered; nothing if it will not.
pub(crate) fn refused<T>(answer: Result<T, CallError>) -> Result<Option<T>, SettleError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::Refused(_)) => Ok(None),
        Err(CallError::Unsent | CallError::Lost) => Err(SettleError::Unsent),
    }
}

/// Lets a relay sign, and sees to it that it changed nothing.
async fn relayed(relay: &Nodes, payment: &Payment) -> Result<AASigned, SettleError> {
    let waiting = transaction::raw(&payment.signed);
    let waiting = envelope::close(&waiting, payment.sender.0).ok_or(SettleError::Unsent)?;
    let signed = relay.sign_raw(&waiting.into()).await.map_err(|_| SettleError::Unsent)?;
    let mut rest = signed.get(1..).unwrap_or_default();
    let signed = AASigned::rlp_decode(&mut rest).map_err(|_| SettleError::Unsent)?;
    let mut tx = signed.tx().clone();
    let sponsored = tx.fee_payer_signature.is_some() && tx.fee_token.is_some();
    tx.fee_payer_signature = payment.signed.tx().fee_payer_signature;
    tx.fee_token = None;
    let same = tx == *payment.signed.tx() && signed.signature() == payment.signed.signature();
    if sponsored && same {
        return Ok(signed);
    }
    tracing::error!("the relay did not sign the transaction that it was given");
    Err(SettleError::Unsent)
}
