//! The seller's side of channels on Tempo: openings and top-ups are handed over and found on the chain.
//!
//! ```text
//! Funded (checked, pure) ─► sponsored? ─► handed over ─► mined ─► its event ─► the escrow agrees
//!                             │ declined    │ unsent       │ unknown   └─ no event: unknown
//! ```
//!
//! **Architecture invariant:** a channel counts for what its escrow says of it, at a block that is named.
//! A receipt that shows no opening opens nothing.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use farthing_core::SettleError;
use farthing_money::Amount;
use tempo_primitives::AASigned;

use crate::handover::Handover;
use crate::receipt;
use crate::rpc::{CallError, NoAnswer, Nodes, TxReceipt};
use crate::session::channel::{Escrow, Family};
use crate::session::events::{self, Happened};
use crate::session::funding::{Funded, Unfit};
use crate::session::state::{ChannelState, Seen};
use crate::sponsor::{GAS_MAX_CHANNEL, Sponsor, refused};
use crate::transaction::Mismatch;

/// The channels of one escrow on Tempo, as their payee's side handles them.
#[derive(Clone, Debug)]
pub struct Channels {
    nodes: Arc<Nodes>,
    handover: Handover,
    escrow: Escrow,
    sponsor: Option<Sponsor>,
    wait: Duration,
}

/// A channel that was opened or topped up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credited {
    /// The transaction that did it.
    pub transaction: B256,
    /// What the escrow says of the channel afterwards.
    pub state: Seen<ChannelState>,
    /// What it has cost the sponsor.
    pub cost: Option<Amount>,
}

impl Channels {
    /// Channels in `escrow`. Fees of openings and top-ups are paid by `sponsor`, where there is one.
    #[must_use]
    pub fn new(
        nodes: Arc<Nodes>,
        escrow: Escrow,
        sponsor: Option<Sponsor>,
        confirmations: u64,
        wait: Duration,
    ) -> Self {
        let handover = Handover::new(Arc::clone(&nodes), confirmations);
        Self { nodes, handover, escrow, sponsor, wait }
    }

    /// The escrow.
    #[must_use]
    pub const fn escrow(&self) -> &Escrow {
        &self.escrow
    }

    /// The chain.
    #[must_use]
    pub const fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// What the escrow says of channels, in their order, and of which block that is true.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn states(&self, ids: &[B256]) -> Result<Seen<Vec<Option<ChannelState>>>, NoAnswer> {
        self.nodes.channels(&self.escrow, ids).await.map_err(|_| NoAnswer)
    }

    /// How long the payee has after a request to close, in seconds.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn grace_s(&self) -> Result<u64, NoAnswer> {
        self.nodes.grace_s(&self.escrow).await.map_err(|_| NoAnswer)
    }

    /// Whether the sponsor pays for a transaction, as far as that is known without asking. Pure.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn permits(&self, funded: &Funded, now_s: u64) -> Result<(), Unfit> {
        if !funded.payment.wants_sponsor {
            return Ok(());
        }
        let sponsor = self.sponsor.as_ref().ok_or(Mismatch::NotSponsored)?;
        Ok(sponsor.permits_up_to(GAS_MAX_CHANNEL, funded.payment.signed.tx(), now_s)?)
    }

    /// Hands an opening or a top-up over and waits for it. Handing the same one over again is safe: it
    /// is mined at most once, and found where it was.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::settle`].
    pub async fn fund(&self, funded: &Funded) -> Result<Credited, SettleError> {
        // What was opened before is open, whoever handed it over.
        if funded.opens
            && let Ok(Seen { what, .. }) =
                self.nodes.channels(&self.escrow, &[funded.channel]).await
            && what.iter().any(Option::is_some)
        {
            return self.inquire(funded).await;
        }
        if !funded.payment.wants_sponsor {
            return self.fund_unsponsored(funded).await;
        }
        let sponsor = self.sponsor.as_ref().ok_or(SettleError::Declined)?;
        let trial = self.would_succeed(funded);
        let complete =
            sponsor.complete_if(&self.nodes, &funded.payment, GAS_MAX_CHANNEL, trial).await;
        let (signed, reserved) = complete?;
        match self.handover.hand_over(&signed, self.wait).await {
            Ok(receipt) => {
                let cost = sponsor.cost(&receipt);
                reserved.spend(cost.as_ref().map_or(0, Amount::atoms));
                self.credited(funded, &receipt, cost).await
            }
            // A relay signs anew each time: what the chain refuses now it may have taken before.
            Err(SettleError::Declined) if sponsor.account().is_none() => Err(SettleError::Unknown),
            Err(error @ (SettleError::Declined | SettleError::Unsent)) => {
                reserved.release();
                Err(error)
            }
            Err(SettleError::Unknown) => Err(SettleError::Unknown),
        }
    }

    /// Hands over what the payer pays the fee of. What would fail as things stand, and what no node knows,
    /// is not sent, and never was with any effect.
    async fn fund_unsponsored(&self, funded: &Funded) -> Result<Credited, SettleError> {
        if !self.would_succeed(funded).await? {
            return match self.inquire(funded).await {
                Err(SettleError::Unsent) => Err(SettleError::Declined),
                found => found,
            };
        }
        match self.handover.hand_over(&funded.payment.signed, self.wait).await {
            Ok(receipt) => self.credited(funded, &receipt, None).await,
            // What one node refuses another may have: it is over when its time is.
            Err(SettleError::Declined) => match self.inquire(funded).await {
                Err(SettleError::Unsent) => Err(SettleError::Unknown),
                found => found,
            },
            Err(error @ (SettleError::Unsent | SettleError::Unknown)) => Err(error),
        }
    }

    /// What became of an opening or a top-up, as far as the chain knows by now. Nothing is sent.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::inquire`].
    pub async fn inquire(&self, funded: &Funded) -> Result<Credited, SettleError> {
        let late = funded.payment.valid_before_s;
        let (hash, sponsor) = match self.foreseen(funded) {
            Some((signed, sponsor)) => (*signed.hash(), sponsor),
            None => (self.found(funded).await?.unwrap_or_default(), None),
        };
        let receipt = match self.handover.mined(hash, late).await {
            // Somebody else may have completed it: its event tells under which name.
            Err(error @ (SettleError::Unsent | SettleError::Declined)) => {
                let hash = self.found(funded).await?.ok_or(error)?;
                self.handover.mined(hash, late).await?
            }
            receipt => receipt?,
        };
        let cost = sponsor.and_then(|it| it.cost(&receipt));
        self.credited(funded, &receipt, cost).await
    }

    /// The complete transaction, where it is known under which name it is mined.
    fn foreseen(&self, funded: &Funded) -> Option<(AASigned, Option<&Sponsor>)> {
        if !funded.payment.wants_sponsor {
            return Some((funded.payment.signed.clone(), None));
        }
        let sponsor = self.sponsor.as_ref()?;
        Some((sponsor.foreseen(&funded.payment)?, Some(sponsor)))
    }

    /// The transaction of an opening that somebody else has completed: only its event tells its name. A
    /// top-up has no name of its own, and stays unknown until it is too late for it.
    async fn found(&self, funded: &Funded) -> Result<Option<B256>, SettleError> {
        if !funded.opens {
            return Ok(None);
        }
        let since_s = funded.payment.valid_before_s.saturating_sub(crate::VALID_S_MAX);
        let told = self.nodes.told_of(&self.escrow, funded.channel, since_s).await;
        let told = told.map_err(|_| SettleError::Unknown)?;
        let opening = told.iter().find(|it| matches!(it.event.what, Happened::Opened { .. }));
        Ok(opening.map(|it| it.transaction))
    }

    /// Whether an opening or top-up would go through as things stand.
    async fn would_succeed(&self, funded: &Funded) -> Result<bool, SettleError> {
        let payer = funded.payment.sender;
        let balance = self.nodes.balance(funded.token, payer).await;
        if balance.map_err(|_| SettleError::Unsent)? < funded.atoms {
            return Ok(false);
        }
        let tx = funded.payment.signed.tx();
        let Some(gas) = refused(self.nodes.estimate_gas(payer, tx).await)? else {
            return Ok(false);
        };
        // Gas that runs out is a matter of whoever pays for it.
        if funded.payment.wants_sponsor && gas > tx.gas_limit {
            return Ok(false);
        }
        match self.escrow.family {
            // The reserve makes a channel of the transaction that opens it, which is more than a call.
            Family::TempoV2 => Ok(true),
            Family::TempoV1 | Family::Evm => match self.nodes.try_all(payer, &tx.calls).await {
                Ok(tried) => Ok(tried.iter().all(|it| it.succeeds)),
                // Nodes that do not try calls together were asked for the whole.
                Err(CallError::Refused(_)) => Ok(true),
                Err(CallError::Unsent | CallError::Lost) => Err(SettleError::Unsent),
            },
        }
    }

    /// What a mined transaction has done: its event, and the escrow, have to agree with what it says.
    async fn credited(
        &self,
        funded: &Funded,
        receipt: &TxReceipt,
        cost: Option<Amount>,
    ) -> Result<Credited, SettleError> {
        let transaction = receipt.transaction_hash;
        if receipt::failed(receipt) {
            return Err(SettleError::Declined);
        }
        if !shows(&self.escrow, receipt, funded) {
            // This transaction cannot succeed without its event: whoever says so is wrong somewhere.
            tracing::error!(hash = %transaction, "a node's receipt contradicts the transaction");
            return Err(SettleError::Unknown);
        }
        let Seen { what, head } = match self.nodes.channels(&self.escrow, &[funded.channel]).await {
            Ok(seen) => seen,
            Err(CallError::Unsent | CallError::Lost | CallError::Refused(_)) => {
                return Err(SettleError::Unknown);
            }
        };
        let state = what.into_iter().next().flatten();
        // It may be over already; then there is nothing to serve on it.
        let state = state.ok_or(SettleError::Declined)?;
        Ok(Credited { transaction, state: Seen { what: state, head }, cost })
    }
}

/// Whether a receipt shows the opening or the top-up, and that of nothing else.
fn shows(escrow: &Escrow, receipt: &TxReceipt, funded: &Funded) -> bool {
    let told = events::read_all(escrow, &receipt.logs);
    told.iter().any(|it| {
        let ours = it.channel == funded.channel && it.payer == funded.payment.sender;
        ours && match it.what {
            Happened::Opened { token, deposit, expiring_nonce_hash, .. } => {
                let hash = funded.descriptor.map(|it| it.expiring_nonce_hash);
                let amount = deposit == funded.atoms && token == funded.token;
                funded.opens && amount && hash.is_none_or(|hash| hash == expiring_nonce_hash)
            }
            Happened::ToppedUp { additional, .. } => !funded.opens && additional == funded.atoms,
            Happened::Settled { .. }
            | Happened::CloseRequested { .. }
            | Happened::CloseCancelled
            | Happened::Closed { .. } => false,
        }
    })
}
