//! Giving money back: a transfer of its own, from an account of the seller's.
//!
//! ```text
//! prepare  balance? ─► tried ─► signed, good for less than half a minute ─► the order, durable
//! refund   does a node know it? ─► handed over ─► waited for ─► the events say: given back
//!            └─ none does, and its time is over on every node that answers: never
//! ```
//!
//! **Architecture invariant:** an order is one signed transaction whose nonce expires with it (TIP-1009).
//! The chain mines it at most once, whoever hands it over and however often, and not at all once its
//! time is over. Before that it is never given up, whatever a node says about it.

use std::fmt;
use std::num::NonZeroU64;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_primitives::{B256, TxKind};
use farthing_core::{NoRefund, SettleError, Settled};
use farthing_ledger::Refund;
use farthing_money::Amount;
use tempo_primitives::AASigned;
use tempo_primitives::transaction::{PrimitiveSignature, TempoSignature};
use zeroize::Zeroizing;

use crate::envelope::Form;
use crate::memo::refunding;
use crate::payer::MalformedKey;
use crate::rpc::{CallError, Nodes, TxReceipt};
use crate::transaction::{build, decode, fee_max, paying, raw};
use crate::wire::{Address, Terms, Token, Transfer};
use crate::{hash_of, receipt};

#[cfg(test)]
mod tests;

/// How long an order may be mined, in seconds; the chain allows thirty (TIP-1009).
const VALID_S: u64 = 25;

/// Gives money back from an account of the seller's, which also pays the fee, in the same token.
pub struct Refunder {
    key: Zeroizing<[u8; 32]>,
    account: Address,
}

impl fmt::Debug for Refunder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refunder").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Refunder {
    /// Gives back from the account of `secret`, a key of secp256k1.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(secret: &[u8; 32]) -> Result<Self, MalformedKey> {
        let account = Address::of_secret(secret).ok_or(MalformedKey)?;
        Ok(Self { key: Zeroizing::new(*secret), account })
    }

    /// The account that gives.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// A signed transfer of `refund` to `to`. Nothing is sent.
    pub(crate) async fn order(
        &self,
        nodes: &Nodes,
        token: &Token,
        to: Address,
        refund: &Refund,
    ) -> Result<Box<str>, NoRefund> {
        let balance = nodes.balance(token.address, self.account).await;
        let balance = balance.map_err(|_| NoRefund::Later)?;
        if balance < refund.amount.atoms() {
            return Err(NoRefund::Short);
        }
        let now_s = nodes.latest_block_time_s().await?;
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S)).ok_or(NoRefund::Later)?;
        let terms = Terms {
            amount: refund.amount.clone(),
            token: token.address,
            recipient: to,
            chain_id: nodes.chain_id(),
            memo: None,
            splits: Vec::new(),
            sponsored: false,
            pull: true,
            push: false,
        };
        let mut tx = build(&terms, refunding(refund.payment, refund.id), valid_before);
        nodes.limit(self.account, token.address, &mut tx).await?;
        let needed = refund.amount.atoms().saturating_add(fee_max(&tx, token.asset.decimals()));
        if balance < needed {
            return Err(NoRefund::Short);
        }
        let signature = sign_message(B256::from(*self.key), tx.signature_hash());
        let signature = signature.map_err(|_| NoRefund::Unable)?;
        let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
        Ok(raw(&tx.into_signed(signature)).to_string().into())
    }
}

/// Nothing was sent: these calls only ask.
impl From<CallError> for NoRefund {
    fn from(error: CallError) -> Self {
        if let CallError::Refused(why) = &error {
            tracing::warn!(why, "the chain would not take a refund");
        }
        Self::Later
    }
}

/// An order, as it stands in the journal.
#[derive(Debug)]
pub(crate) struct Order {
    /// The transaction.
    pub(crate) signed: AASigned,
    /// When the chain stops taking it, in seconds since 1970.
    pub(crate) valid_before_s: u64,
    /// Who gives: whoever signed it, also when another key is configured by now.
    account: Address,
    token: Address,
    transfer: Transfer,
}

impl Order {
    /// Reads the order of a refund to `to`. Nothing if it is no order, or another refund's.
    pub(crate) fn read(refund: &Refund, to: Address) -> Option<Self> {
        let (signed, form) = decode(refund.order.as_deref()?).ok()?;
        let account = Address(signed.recover_signer().ok()?);
        let tx = signed.tx();
        let [call] = tx.calls.as_slice() else { return None };
        let TxKind::Call(token) = call.to else { return None };
        let token = Address(token);
        let transfer = paying(call, token).ok()?;
        let memo = Some(refunding(refund.payment, refund.id));
        let atoms = refund.amount.atoms();
        let ours = form == Form::Complete
            && tx.is_expiring_nonce_tx()
            && transfer == Transfer { to, atoms, memo };
        let valid_before_s = tx.valid_before.filter(|_| ours)?.get();
        Some(Self { signed, valid_before_s, account, token, transfer })
    }

    /// What it came to, mined as it is.
    pub(crate) fn verdict(
        &self,
        mined: &TxReceipt,
        refund: &Refund,
    ) -> Result<Settled, SettleError> {
        let hash = mined.transaction_hash;
        if receipt::pays(mined, self.token, self.account, std::slice::from_ref(&self.transfer)) {
            let fee = receipt::fee(mined, self.token, self.account);
            let cost = (fee > 0).then(|| Amount::new(refund.amount.asset().clone(), fee));
            Ok(Settled::new(hash_of(mined)).costing(cost))
        } else if receipt::failed(mined) {
            tracing::warn!(%hash, refund = %refund.id, "the chain has undone a refund");
            Err(SettleError::Declined)
        } else {
            tracing::error!(%hash, refund = %refund.id, "a node's receipt contradicts the refund");
            Err(SettleError::Unknown)
        }
    }
}
