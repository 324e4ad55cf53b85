//! A charge on the chain: made ready, written down, carried out, and asked about.
//!
//! ```text
//! prepare  as far as the period? ─► key? ─► balance? ─► limit? ─► tried ─► signed, and sponsored
//!            │ later                  │ revoked │ short     │ later  │ declined
//! charge   handed over ─► waited for ─► the events say: paid; the block says: when
//! inquire  mined? ─► what it did; or, once its time is over on every node: never
//! ```

use std::num::NonZeroU64;

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_primitives::{B256, TxKind, U256, keccak256};
use alloy_sol_types::SolCall as _;
use farthing_core::{Due, NoCharge, SettleError, Settled};
use farthing_ledger::{Fingerprint, Payment as Booked};
use tempo_primitives::AASigned;
use tempo_primitives::transaction::{
    Call, KeychainSignature, SignedKeyAuthorization, TempoSignature,
};

use super::grant::{TRANSFER_WITH_MEMO, Words};
use super::keys::AccessKey;
use super::{Subscriptions, terms};
use crate::envelope::Form;
use crate::rpc::{CallError, KeyStanding, TxReceipt};
use crate::sponsor::Ceiling;
use crate::transaction::{self, Payment, decode, paying};
use crate::wire::{Address, Transfer, parse_did};
use crate::{hash_of, receipt};

#[cfg(test)]
mod tests;

/// How long an order may be mined, in seconds; the chain allows thirty (TIP-1009).
const VALID_S: u64 = 25;

/// The most gas of a charge that also makes the key known. The chain charges 250,000 for each new word it
/// keeps, and takes no transaction that does not allow for them: 3.1 million for one call, 4.4 million for two.
const GAS_FIRST: u64 = 6_000_000;

/// The most gas of any other.
const GAS_MAX: u64 = 2_000_000;

/// What checking the key and its limit burns beside what a transfer does.
const GAS_KEY: u64 = 150_000;

/// An order, as it stands in the journal.
#[derive(Debug)]
pub(crate) struct Order {
    /// The transaction.
    signed: AASigned,
    /// When the chain stops taking it, in seconds since 1970.
    valid_before_s: u64,
    payer: Address,
    token: Address,
    transfer: Transfer,
}

/// A charge that is to be made ready.
struct Charge {
    authorization: SignedKeyAuthorization,
    key: AccessKey,
    payer: Address,
    token: Address,
    transfer: Transfer,
}

impl Subscriptions {
    /// A signed and sponsored transaction that charges a period. Nothing is sent.
    pub(super) async fn order(&self, due: Due<'_>) -> Result<Box<str>, NoCharge> {
        let charge = self.charge_of(&due)?;
        let Charge { authorization, payer, token, transfer, .. } = &charge;
        let (payer, token) = (*payer, *token);
        let now_s = self.nodes.latest_block_time_s().await?;
        // By the chain's clock: before, its own limit has not begun anew.
        if due.begins_at.is_some_and(|begins| terms::moment(now_s) < begins) {
            return Err(NoCharge::Later);
        }
        let key = Address(authorization.key_id);
        let standing = self.nodes.key_standing(payer, key).await?;
        let is_known = match standing {
            // The first charge makes it known; and so does one after the chain has thought better of that.
            KeyStanding::Unknown => false,
            KeyStanding::Active => true,
            KeyStanding::Revoked => return Err(NoCharge::Revoked),
            // By the chain's clock it is over; by ours it is in a moment.
            KeyStanding::Expired => return Err(NoCharge::Later),
        };
        let balance = self.nodes.balance(token, payer).await.map_err(|_| NoCharge::Later)?;
        if balance < transfer.atoms {
            return Err(NoCharge::Short);
        }
        if is_known && self.nodes.key_limit(payer, key, token).await? < transfer.atoms {
            tracing::warn!(%key, "the chain's limit for the period is used up before the charge");
            return Err(NoCharge::Later);
        }
        let signed = self.signed(&charge, is_known, now_s).await?;
        Ok(transaction::raw(&signed).to_string().into())
    }

    /// What a period's charge is, from what was agreed on.
    fn charge_of(&self, due: &Due<'_>) -> Result<Charge, NoCharge> {
        let facts = &due.subscription.facts;
        let read = || {
            let (offer, authorization) = Words::read(facts.grant.as_deref()?)?;
            let (chain_id, payer) = parse_did(&facts.payer)?;
            let limit = authorization.limits.as_deref()?.first()?;
            let scope = authorization.allowed_calls.as_deref()?.first()?;
            let named = scope.selector_rules.iter().find(|it| it.selector == TRANSFER_WITH_MEMO);
            let to = named.or(scope.selector_rules.first())?.recipients.first().copied()?;
            let memo = charging(&facts.charge(due.period, due.subscription.attempts));
            let transfer =
                Transfer { to: Address(to), atoms: facts.atoms, memo: named.map(|_| memo) };
            let token = Address(limit.token);
            (chain_id == self.nodes.chain_id()).then_some(())?;
            Some((offer, authorization, payer, token, transfer))
        };
        let Some((offer, authorization, payer, token, transfer)) = read() else {
            tracing::error!(subscription = %facts.id, "what a subscription is charged by cannot be read");
            return Err(NoCharge::Later);
        };
        let address = Address(authorization.key_id);
        let Some(key) = self.keys.find(self.nodes.chain_id(), offer, address) else {
            tracing::error!(
                subscription = %facts.id,
                "a subscription was begun under a secret that is not configured any more"
            );
            return Err(NoCharge::Later);
        };
        Ok(Charge { authorization, key, payer, token, transfer })
    }

    async fn signed(
        &self,
        charge: &Charge,
        is_known: bool,
        now_s: u64,
    ) -> Result<AASigned, NoCharge> {
        let Charge { authorization, key, payer, token, transfer } = charge;
        let (payer, token) = (*payer, *token);
        let call = transfer.call(token);
        // What would not go through is found out before anybody pays for it.
        match self.nodes.try_call(payer, token, &call.input).await {
            Ok(()) => {}
            Err(CallError::Refused(why)) => {
                tracing::info!(%payer, why, "the chain would not take a charge");
                return Err(NoCharge::Declined);
            }
            Err(CallError::Unsent | CallError::Lost) => return Err(NoCharge::Later),
        }
        let expiry_s = authorization.expiry.map_or(0, NonZeroU64::get);
        let valid_before_s = now_s.saturating_add(VALID_S).min(expiry_s);
        let valid_before = NonZeroU64::new(valid_before_s).ok_or(NoCharge::Later)?;
        let mut tx = transaction::batch(self.nodes.chain_id(), None, vec![call], valid_before);
        tx.max_fee_per_gas = self.nodes.gas_price().await?.saturating_mul(2);
        tx.gas_limit = if is_known {
            let gas = self.nodes.estimate_gas(payer, &tx).await?;
            gas.saturating_add(GAS_KEY).min(GAS_MAX)
        } else {
            tx.key_authorization = Some(authorization.clone());
            GAS_FIRST
        };
        let digest = KeychainSignature::signing_hash(tx.signature_hash(), payer.0);
        let signature = key.sign(digest).ok_or(NoCharge::Later)?;
        let signature = TempoSignature::Keychain(KeychainSignature::new(payer.0, signature));
        let signed = tx.into_signed(signature);
        let payment = Payment {
            sender: payer,
            // It was looked after above; the first charge is what makes it one.
            access_key: None,
            identity: signed.expiring_nonce_hash(payer.0),
            transfers: vec![*transfer],
            valid_before_s,
            signed,
            wants_sponsor: true,
        };
        let sponsor = self.settings.sponsor.as_ref().ok_or(NoCharge::Later)?;
        let ceiling = Ceiling { gas: GAS_FIRST.max(GAS_MAX), atoms: self.fee_max };
        let sound = std::future::ready(Ok(true));
        let completed = sponsor.complete_within(&self.nodes, &payment, ceiling, sound).await;
        // Nothing is sent yet: what is sent is reserved when it is.
        let (signed, reserved) = completed.map_err(|error| {
            tracing::warn!(%payer, %error, "a subscription's charge is not sponsored");
            NoCharge::Later
        })?;
        reserved.release();
        Ok(signed)
    }

    /// Hands the order of a charge over, and waits for it.
    pub(super) async fn carry_out(&self, payment: &Booked) -> Result<Settled, SettleError> {
        let order = Order::read(payment).ok_or_else(|| unreadable(payment))?;
        let sponsor = self.settings.sponsor.as_ref().ok_or(SettleError::Unsent)?;
        let reserved = sponsor.reserve_for(order.payer, order.signed.tx());
        let reserved = reserved.map_err(|_| SettleError::Unsent)?;
        match self.handover.hand_over(&order.signed, self.settings.wait).await {
            Ok(receipt) => {
                let cost = sponsor.cost(&receipt);
                reserved.spend(cost.as_ref().map_or(0, farthing_money::Amount::atoms));
                self.verdict(&order, &receipt).await
            }
            Err(SettleError::Unsent) => {
                reserved.release();
                Err(SettleError::Unsent)
            }
            // What a node refuses now it, or another, may take a moment later: until its time is over.
            Err(SettleError::Declined | SettleError::Unknown) => Err(SettleError::Unknown),
        }
    }

    /// What became of a charge, as far as the chain knows by now. Only asks.
    pub(crate) async fn became(&self, payment: &Booked) -> Result<Settled, SettleError> {
        let order = Order::read(payment).ok_or_else(|| unreadable(payment))?;
        let hash = *order.signed.hash();
        let receipt = self.handover.mined(hash, order.valid_before_s).await?;
        self.verdict(&order, &receipt).await
    }

    /// What a mined charge came to. Periods are counted from the time of the first one's block (§6.3).
    async fn verdict(&self, order: &Order, mined: &TxReceipt) -> Result<Settled, SettleError> {
        let hash = mined.transaction_hash;
        let owed = std::slice::from_ref(&order.transfer);
        if receipt::pays(mined, order.token, order.payer, owed) {
            let at_s = self.nodes.block_time_s(mined.block_number.to()).await;
            let at_s = at_s.map_err(|_| SettleError::Unknown)?;
            let cost = self.settings.sponsor.as_ref().and_then(|it| it.cost(mined));
            Ok(Settled::new(hash_of(mined)).costing(cost).moved_at(terms::moment(at_s)))
        } else if receipt::failed(mined) {
            tracing::warn!(%hash, "the chain has undone a subscription's charge");
            Err(SettleError::Declined)
        } else {
            tracing::error!(%hash, "a node's receipt contradicts a subscription's charge");
            Err(SettleError::Unknown)
        }
    }
}

impl Order {
    /// Reads the order of a charge. Nothing if it is no order, or another charge's.
    pub(crate) fn read(payment: &Booked) -> Option<Self> {
        let (signed, form) = decode(payment.inquiry.as_deref()?).ok()?;
        let payer = Address(signed.recover_signer().ok()?);
        let tx = signed.tx();
        let [call] = tx.calls.as_slice() else { return None };
        let TxKind::Call(token) = call.to else { return None };
        let token = Address(token);
        let transfer = paying(call, token).ok()?;
        let memo = charging(&payment.credential);
        let ours = form == Form::Complete
            && tx.is_expiring_nonce_tx()
            && parse_did(&payment.payer) == Some((tx.chain_id, payer))
            && transfer.atoms == payment.amount.atoms()
            && transfer.memo.is_none_or(|it| it == memo);
        let valid_before_s = tx.valid_before.filter(|_| ours)?.get();
        Some(Self { signed, valid_before_s, payer, token, transfer })
    }
}

impl Transfer {
    fn call(&self, token: Address) -> Call {
        let (to, amount) = (self.to.0, U256::from(self.atoms));
        let input = match self.memo {
            Some(memo) => transaction::transferWithMemoCall { to, amount, memo }.abi_encode(),
            None => transaction::transferCall { to, amount }.abi_encode(),
        };
        Call { to: TxKind::Call(token.0), value: U256::ZERO, input: input.into() }
    }
}

/// The memo of a charge, which says what is charged, and as which attempt: no two charges have the same.
///
/// ```text
/// keccak("farthing subscription")[0..4] │ 01 │ the charge's fingerprint[0..27]
/// ```
fn charging(charge: &Fingerprint) -> B256 {
    let tag = keccak256("farthing subscription");
    let parts = tag.iter().take(4).copied().chain([1]).chain(charge.as_bytes().iter().copied());
    let mut memo = [0; 32];
    memo.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    memo.into()
}

/// An order that was written down by something else than this: nobody knows what it did.
fn unreadable(payment: &Booked) -> SettleError {
    tracing::error!(payment = %payment.id, "the order of a subscription's charge cannot be read");
    SettleError::Unknown
}

/// Nothing was sent: these calls only ask.
impl From<CallError> for NoCharge {
    fn from(error: CallError) -> Self {
        if let CallError::Refused(why) = &error {
            tracing::warn!(why, "the chain would not say what a charge depends on");
        }
        Self::Later
    }
}
