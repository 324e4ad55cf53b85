//! The seller's side of channels on EVM chains: what payers have sent is looked for, what they have signed is
//! sent, and what vouchers say is taken by the payee's own account.
//!
//! ```text
//! shown by its hash    found on the chain, deep enough ─► written down ─► found again
//! signed for           tried ─► written down ─► used already? ─► sent, under the account's next number
//! ```
//!
//! **Architecture invariant:** whether what was signed has been used is asked before it is sent, each time:
//! the escrow opens a channel once, and the token uses a signature once.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use farthing_core::{SettleError, Unfounded};

use crate::handover::Handover;
use crate::is_late;
use crate::receipt;
use crate::rpc::{CallError, TxReceipt};
use crate::session::channel::Escrow;
use crate::session::evm::EvmAccount;
use crate::session::payload::{Authorization, Funding};
use crate::session::pushed::Expected;
use crate::session::relayed::Used;
use crate::session::revert::Revert;
use crate::session::seller::Credited;
use crate::session::state::Seen;

/// Acts for a seller on an EVM chain.
#[derive(Debug)]
pub(crate) struct EvmSeller {
    account: Arc<EvmAccount>,
    escrow: Escrow,
    handover: Handover,
    wait: Duration,
}

impl EvmSeller {
    /// Acts with `account`, the payee's own.
    pub(crate) fn new(
        account: Arc<EvmAccount>,
        escrow: Escrow,
        confirmations: u64,
        wait: Duration,
    ) -> Self {
        let handover = Handover::new(Arc::clone(account.nodes()), confirmations);
        Self { account, escrow, handover, wait }
    }

    /// The payee's account.
    pub(crate) const fn account(&self) -> &Arc<EvmAccount> {
        &self.account
    }

    /// How much a deposit is, once it is deep enough or would go through. Only asks.
    pub(crate) async fn ascertain(
        &self,
        expected: &Expected,
        funding: &Funding,
    ) -> Result<u128, Unfounded> {
        match funding {
            Funding::Hash(hash) => {
                let sent = self.handover.sent(*hash, self.wait).await;
                let receipt = sent.map_err(|_| Unfounded::Later)?;
                if receipt::failed(&receipt) {
                    return Err(Unfounded::Undone);
                }
                expected.found_in(&self.escrow, &receipt).ok_or(Unfounded::Declined)
            }
            Funding::Authorization(it) => {
                match self.found(expected, it).await {
                    Ok(Some(_)) => return Ok(it.value),
                    Ok(None) => {}
                    Err(SettleError::Declined) => return Err(Unfounded::Declined),
                    Err(SettleError::Unsent | SettleError::Unknown) => {
                        return Err(Unfounded::Later);
                    }
                }
                let input = it.input(expected.opens.as_ref(), expected.channel);
                match self.account.would_fail(self.escrow.address, &input).await {
                    Ok(None) => Ok(it.value),
                    Ok(Some(Revert::Transfer)) => Err(Unfounded::Short),
                    Ok(Some(why)) => {
                        tracing::info!(channel = %expected.channel, %why, "a deposit would fail");
                        Err(Unfounded::Undone)
                    }
                    Err(_) => Err(Unfounded::Later),
                }
            }
            Funding::Transaction(_) => Err(Unfounded::Declined),
        }
    }

    /// Sees to it that a deposit is made which was written down, and that its channel is as it was said.
    pub(crate) async fn carry(
        &self,
        expected: &Expected,
        funding: &Funding,
    ) -> Result<Credited, SettleError> {
        let receipt = match funding {
            Funding::Hash(hash) => self.handover.sent(*hash, self.wait).await?,
            Funding::Authorization(it) => self.submitted(expected, it).await?,
            Funding::Transaction(_) => return Err(SettleError::Unknown),
        };
        let transaction = receipt.transaction_hash;
        if receipt::failed(&receipt) || expected.found_in(&self.escrow, &receipt).is_none() {
            return Err(SettleError::Declined);
        }
        let seen = self.account.nodes().channels(&self.escrow, &[expected.channel]).await;
        let Seen { what, head } = seen.map_err(|_| SettleError::Unknown)?;
        let state = what.into_iter().next().flatten().ok_or(SettleError::Unknown)?;
        // It may be over already, or about to be; then there is nothing to serve on it.
        if !state.is_open() {
            return Err(SettleError::Declined);
        }
        let cost = self.account.cost(&receipt);
        Ok(Credited { transaction, state: Seen { what: state, head }, cost })
    }

    /// Sends what a payer has signed, unless it was sent before.
    async fn submitted(
        &self,
        expected: &Expected,
        signed: &Authorization,
    ) -> Result<TxReceipt, SettleError> {
        if let Some(receipt) = self.found(expected, signed).await? {
            return Ok(receipt);
        }
        let head = self.account.nodes().latest().await.map_err(|_| SettleError::Unsent)?;
        if is_late(head.time_s, signed.valid_before_s) {
            return Err(SettleError::Declined);
        }
        let input = signed.input(expected.opens.as_ref(), expected.channel);
        match self.account.call(self.escrow.address, input).await {
            // It would fail by now: it may have been sent before, by whomever.
            Err(SettleError::Declined) => match self.found(expected, signed).await? {
                Some(receipt) => Ok(receipt),
                None if self.account.waits().await => Err(SettleError::Unknown),
                None => Err(SettleError::Declined),
            },
            came => came,
        }
    }

    /// The transaction that has used what a payer has signed, if one has; as deep as it has to be.
    async fn found(
        &self,
        expected: &Expected,
        signed: &Authorization,
    ) -> Result<Option<TxReceipt>, SettleError> {
        let used = self.account.nodes().used(expected.token, signed).await;
        let hash: B256 = match used {
            Ok(Used::No) => return Ok(None),
            Ok(Used::By(hash)) => hash,
            Ok(Used::Cancelled) => return Err(SettleError::Declined),
            Err(CallError::Unsent) => return Err(SettleError::Unsent),
            Ok(Used::Somehow) | Err(CallError::Lost | CallError::Refused(_)) => {
                return Err(SettleError::Unknown);
            }
        };
        let receipt = self.handover.sent(hash, self.wait).await?;
        match expected.found_in(&self.escrow, &receipt) {
            Some(_) => Ok(Some(receipt)),
            // The same nonce stood for another channel, or another amount.
            None => Err(SettleError::Declined),
        }
    }
}
