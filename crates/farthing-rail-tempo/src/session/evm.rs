//! An account on an EVM chain whose transactions follow one another: who owns its nonces, and what is
//! done about a transaction that gets stuck.
//!
//! ```text
//! nonce n   signed at price p ─► waiting … too long ─► signed again at 5/4 p ─► … one of them is mined
//! nonce n+1                                                                      └─► the next
//! ```
//!
//! **Architecture invariant:** an account has one owner, which sends one thing at a time: whatever is
//! signed for a nonce replaces what was signed for it before, so that one of them is mined at most, and
//! which one is found out before the next nonce is used.

use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::transaction::RlpEcdsaEncodableTx as _;
use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_primitives::{B256, Bytes, TxKind, U64, U128, U256, keccak256};
use farthing_core::SettleError;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::handover::Handover;
use crate::payer::MalformedKey;
use crate::receipt;
use crate::rpc::{CallError, GAS_PERCENT, Nodes, TxReceipt};
use crate::session::channel::Escrow;
use crate::session::events;
use crate::session::revert::Revert;
use crate::session::teller::{Errand, Outcome, Taken};
use crate::session::voucher::VoucherKey;
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// How often what was sent is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many times a price is raised, at most, before an outcome stays open.
const RAISES_MAX: u32 = 20;

/// An account on an EVM chain. Nobody else may use its key while this does.
#[derive(Debug)]
pub struct EvmAccount {
    key: VoucherKey,
    nodes: Arc<Nodes>,
    handover: Handover,
    /// How long a transaction may wait before another replaces it.
    patience: Duration,
    /// How long an outcome is waited for altogether.
    wait: Duration,
    /// The most that is offered for a unit of gas.
    fee_max: u128,
    /// What was signed last: one at a time.
    turn: Mutex<Option<Bid>>,
}

/// What was offered for a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bid {
    nonce: u64,
    fee_max: u128,
    tip: u128,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    base_fee_per_gas: Option<U128>,
}

/// What became of one offer.
enum Came {
    Mined(TxReceipt),
    /// Something else has taken the nonce.
    Taken,
    Waiting,
}

impl EvmAccount {
    /// The account of `secret`. A transaction that is not mined within `patience` is replaced by one
    /// that pays more; an outcome is waited for until `wait` is over.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(
        secret: &[u8; 32],
        nodes: Arc<Nodes>,
        confirmations: u64,
        patience: Duration,
        wait: Duration,
    ) -> Result<Self, MalformedKey> {
        let handover = Handover::new(Arc::clone(&nodes), confirmations);
        let (key, turn) = (VoucherKey::new(secret)?, Mutex::default());
        Ok(Self { key, nodes, handover, patience, wait, fee_max: u128::MAX, turn })
    }

    /// Offers no more than `fee_max` for a unit of gas, in the smallest unit of the chain's coin. What the
    /// chain does not take at that price waits, and its outcome stays open.
    #[must_use]
    pub fn offering_at_most(self, fee_max: u128) -> Self {
        Self { fee_max, ..self }
    }

    /// The account.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.key.account()
    }

    /// The key, for vouchers.
    #[must_use]
    pub const fn key(&self) -> &VoucherKey {
        &self.key
    }

    /// The chain.
    #[must_use]
    pub const fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// Calls a contract, and waits until that is as deep as it has to be. What would fail as things stand
    /// is not sent.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::settle`]: [`SettleError::Declined`] for what would fail, or was undone.
    pub(crate) async fn call(&self, to: Address, input: Vec<u8>) -> Result<TxReceipt, SettleError> {
        let mut turn = self.turn.lock().await;
        let (since, input) = (Instant::now(), Bytes::from(input));
        let (mut sent, mut gas): (Vec<B256>, u64) = (Vec::new(), 0);
        for _ in 0..RAISES_MAX {
            let unsent = if sent.is_empty() { SettleError::Unsent } else { SettleError::Unknown };
            let nonce = self.nonce().await.map_err(|_| unsent)?;
            // What replaces another does the same, and nodes that try it on top of the other are wrong.
            if sent.is_empty() {
                gas = self.estimate(to, &input).await.map_err(|error| match error {
                    CallError::Refused(why) => {
                        tracing::info!(why, "a call would fail");
                        SettleError::Declined
                    }
                    CallError::Unsent | CallError::Lost => SettleError::Unsent,
                })?;
            }
            let bid = self.bid(nonce, *turn).await.map_err(|_| unsent)?;
            // What waits is offered as much for as may be: nothing replaces it.
            let waits = !sent.is_empty() && turn.is_some_and(|last| !bid.replaces(last));
            if !waits {
                let raw = self.sign(bid, gas, to, &input).ok_or(unsent)?;
                *turn = Some(bid);
                let hash = keccak256(&raw);
                match self.nodes.send(&raw).await {
                    Ok(()) | Err(CallError::Lost) => sent.push(hash),
                    Err(CallError::Unsent) => return Err(unsent),
                    // It pays too little to replace what waits, or its nonce is used: another look tells.
                    Err(CallError::Refused(why)) => {
                        tracing::info!(%hash, why, nonce, "refused by the chain");
                        sleep(LOOK_AGAIN).await;
                        if let Some(receipt) = self.mined_of(&sent).await {
                            return self.deep(receipt).await;
                        }
                        continue;
                    }
                }
            }
            match self.watch(&sent, nonce, since, !waits).await {
                Came::Mined(receipt) => return self.deep(receipt).await,
                Came::Taken | Came::Waiting if since.elapsed() >= self.wait => {
                    return Err(SettleError::Unknown);
                }
                // Nothing of ours can be mined any more under a nonce that is used.
                Came::Taken => sent.clear(),
                Came::Waiting => {}
            }
        }
        Err(if sent.is_empty() { SettleError::Unsent } else { SettleError::Unknown })
    }

    /// Does errands for the payee of channels, one after the other. What would fail is left out.
    pub async fn run(&self, escrow: &Escrow, errands: &[Errand]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(errands.len());
        for errand in errands {
            outcomes.push(self.run_one(escrow, errand).await);
        }
        outcomes
    }

    async fn run_one(&self, escrow: &Escrow, errand: &Errand) -> Outcome {
        let input = errand.input(escrow);
        match self.would_fail(escrow.address, &input).await {
            Ok(None) => {}
            Ok(Some(why)) => return Outcome::Refused(why),
            Err(_) => return Outcome::Unsent,
        }
        match self.call(escrow.address, input).await {
            Ok(receipt) => Outcome::Done(Arc::new(Taken {
                transaction: receipt.transaction_hash,
                block: receipt.block_number.to(),
                events: events::read_all(escrow, &receipt.logs),
                cost: None,
            })),
            Err(SettleError::Declined) => Outcome::Refused(Revert::Other),
            Err(SettleError::Unsent) => Outcome::Unsent,
            Err(SettleError::Unknown) => Outcome::Unknown,
        }
    }

    /// Why a call would fail as things stand.
    async fn would_fail(&self, to: Address, input: &[u8]) -> Result<Option<Revert>, CallError> {
        let call = tempo_primitives::transaction::Call {
            to: TxKind::Call(to.0),
            value: U256::ZERO,
            input: input.to_vec().into(),
        };
        match self.nodes.try_all(self.address(), &[call]).await {
            Ok(tried) => {
                let failed = tried.iter().find(|it| !it.succeeds);
                Ok(failed.map(|it| Revert::read(&it.answer)))
            }
            Err(CallError::Refused(_)) => {
                let tried = self.nodes.try_call(self.address(), to, &input.to_vec().into()).await;
                match tried {
                    Ok(()) => Ok(None),
                    Err(CallError::Refused(_)) => Ok(Some(Revert::Other)),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for one of the transactions of a nonce, for as long as patience lasts; where nothing more may be
    /// offered, until the end.
    async fn watch(&self, sent: &[B256], nonce: u64, since: Instant, may_raise: bool) -> Came {
        let began = Instant::now();
        loop {
            if let Some(receipt) = self.mined_of(sent).await {
                return Came::Mined(receipt);
            }
            if self.nonce().await.is_ok_and(|used| used > nonce) {
                // Between the two questions it may have been one of ours.
                return self.mined_of(sent).await.map_or(Came::Taken, Came::Mined);
            }
            let impatient = may_raise && began.elapsed() >= self.patience;
            if impatient || since.elapsed() >= self.wait {
                return Came::Waiting;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn mined_of(&self, sent: &[B256]) -> Option<TxReceipt> {
        for hash in sent {
            if let Ok(Some(receipt)) = self.nodes.receipt(*hash).await {
                return Some(receipt);
            }
        }
        None
    }

    /// Waits until a transaction that was mined is as deep as it has to be.
    async fn deep(&self, receipt: TxReceipt) -> Result<TxReceipt, SettleError> {
        let receipt = self.handover.sent(receipt.transaction_hash, self.wait).await?;
        if receipt::failed(&receipt) { Err(SettleError::Declined) } else { Ok(receipt) }
    }

    /// The account's next nonce, by what was mined.
    async fn nonce(&self) -> Result<u64, CallError> {
        let asked = json!([self.address().to_string(), "latest"]);
        self.nodes.call::<U64>("eth_getTransactionCount", asked).await.map(|it| it.to())
    }

    async fn estimate(&self, to: Address, input: &Bytes) -> Result<u64, CallError> {
        let call = json!({
            "from": self.address().to_string(), "to": to.to_string(), "data": input,
        });
        let gas: U64 = self.nodes.call("eth_estimateGas", json!([call, "latest"])).await?;
        Ok(gas.to::<u64>().saturating_mul(GAS_PERCENT).saturating_div(100))
    }

    /// What to offer for a nonce: what the chain asks for now, twice over; and a quarter more than what
    /// was offered for the same nonce before.
    async fn bid(&self, nonce: u64, last: Option<Bid>) -> Result<Bid, CallError> {
        let latest = json!(["latest", false]);
        let block: Option<Block> = self.nodes.call("eth_getBlockByNumber", latest).await?;
        let base = block.and_then(|it| it.base_fee_per_gas).unwrap_or_default().to::<u128>();
        let asked = self.nodes.call::<U128>("eth_maxPriorityFeePerGas", json!([])).await;
        let tip = asked.map_or(1_000_000_000, |it| it.to::<u128>());
        let now = Bid { nonce, fee_max: base.saturating_mul(2).saturating_add(tip), tip };
        let bid = match last.filter(|it| it.nonce == nonce) {
            None => now,
            Some(last) => now.above(last),
        };
        let (fee_max, tip) = (bid.fee_max.min(self.fee_max), bid.tip.min(self.fee_max));
        Ok(Bid { nonce, fee_max, tip })
    }

    fn sign(&self, bid: Bid, gas_limit: u64, to: Address, input: &Bytes) -> Option<Bytes> {
        let tx = TxEip1559 {
            chain_id: self.nodes.chain_id(),
            nonce: bid.nonce,
            gas_limit,
            max_fee_per_gas: bid.fee_max,
            max_priority_fee_per_gas: bid.tip,
            to: TxKind::Call(to.0),
            input: input.clone(),
            ..TxEip1559::default()
        };
        let signature = self.key.ecdsa(tx.signature_hash())?;
        let mut raw = Vec::new();
        tx.eip2718_encode(&signature, &mut raw);
        Some(raw.into())
    }

    /// What a view of a contract answers.
    pub(crate) async fn view(&self, to: Address, input: Vec<u8>) -> Result<Bytes, CallError> {
        let call: Value = json!({ "to": to.to_string(), "data": Bytes::from(input) });
        self.nodes.call("eth_call", json!([call, "latest"])).await
    }
}

impl Bid {
    /// At least a quarter more than `last`, which nodes want of a replacement.
    fn above(self, last: Self) -> Self {
        Self {
            nonce: self.nonce,
            fee_max: self.fee_max.max(raised(last.fee_max)),
            tip: self.tip.max(raised(last.tip)),
        }
    }

    /// Whether it offers enough to replace `last`.
    const fn replaces(&self, last: Self) -> bool {
        self.nonce != last.nonce || self.fee_max >= raised(last.fee_max)
    }
}

/// A quarter more.
const fn raised(price: u128) -> u128 {
    price.saturating_add(price.div_ceil(4)).saturating_add(1)
}
