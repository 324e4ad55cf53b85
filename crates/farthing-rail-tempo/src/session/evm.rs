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

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::transaction::RlpEcdsaEncodableTx as _;
use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_primitives::{B256, Bytes, TxKind, U64, U128, U256, keccak256};
use farthing_core::SettleError;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use farthing_money::{Amount, Asset};

use crate::handover::Handover;
use crate::payer::MalformedKey;
use crate::receipt;
use crate::rpc::{CallError, GAS_PERCENT, NoAnswer, Nodes, TxReceipt};
use crate::session::channel::{Escrow, Family};
use crate::session::contract::{Deployed, creation_code};
use crate::session::events;
use crate::session::revert::Revert;
use crate::session::teller::{Errand, Outcome, Taken};
use crate::session::voucher::VoucherKey;
use crate::wire::Address;

mod nonces;
#[cfg(test)]
mod tests;

use nonces::{Bid, Nonces};

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
    nonces: Nonces,
    /// What gas is paid in, where that is counted.
    coin: Option<Asset>,
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
        let (key, nonces) = (VoucherKey::new(secret)?, Nonces::default());
        Ok(Self { key, nodes, handover, patience, wait, fee_max: u128::MAX, nonces, coin: None })
    }

    /// Shares the account with every process that names this file: one of them sends at a time, and each
    /// knows what the others have signed.
    #[must_use]
    pub fn sharing(self, file: &Path) -> Self {
        Self { nonces: Nonces::at(file), ..self }
    }

    /// Takes turns with `other`, where that is the same account on the same chain.
    #[must_use]
    pub fn taking_turns_with(self, other: &Self) -> Self {
        let is_same =
            other.address() == self.address() && other.nodes.chain_id() == self.nodes.chain_id();
        let nonces = if is_same { other.nonces.clone() } else { self.nonces };
        Self { nonces, ..self }
    }

    /// Counts what gas costs, in the chain's coin.
    #[must_use]
    pub fn counting_gas_in(self, coin: Asset) -> Self {
        Self { coin: Some(coin), ..self }
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
        let receipt = self.mined(to, input).await?;
        // Others may have their turn meanwhile.
        self.deep(receipt).await
    }

    /// The same, until it is mined.
    async fn mined(&self, to: Address, input: Vec<u8>) -> Result<TxReceipt, SettleError> {
        self.mined_as(TxKind::Call(to.0), input.into()).await
    }

    async fn mined_as(&self, to: TxKind, input: Bytes) -> Result<TxReceipt, SettleError> {
        let mut turn = self.nonces.turn().await.map_err(|error| unwritten(&error))?;
        let since = Instant::now();
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
            let last = turn.last();
            let bid = self.bid(nonce, last).await.map_err(|_| unsent)?;
            // What waits is offered as much for as may be: nothing replaces it.
            let waits = !sent.is_empty() && last.is_some_and(|last| !bid.replaces(last));
            if !waits {
                let raw = self.sign(bid, gas, to, &input).ok_or(unsent)?;
                turn.keep(bid).map_err(|error| unwritten(&error)).map_err(|_| unsent)?;
                let hash = keccak256(&raw);
                match self.nodes.send(&raw).await {
                    Ok(()) | Err(CallError::Lost) => sent.push(hash),
                    Err(CallError::Unsent) => return Err(unsent),
                    // It pays too little to replace what waits, or its nonce is used: another look tells.
                    Err(CallError::Refused(why)) => {
                        tracing::info!(%hash, why, nonce, "refused by the chain");
                        sleep(LOOK_AGAIN).await;
                        if let Some(receipt) = self.mined_of(&sent).await {
                            return Ok(receipt);
                        }
                        continue;
                    }
                }
            }
            match self.watch(&sent, nonce, since, !waits).await {
                Came::Mined(receipt) => return Ok(receipt),
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
                cost: self.cost(&receipt),
            })),
            Err(SettleError::Declined) => Outcome::Refused(Revert::Other),
            Err(SettleError::Unsent) => Outcome::Unsent,
            Err(SettleError::Unknown) => Outcome::Unknown,
        }
    }

    /// What a transaction of this account's has cost it, where that is counted.
    pub(crate) fn cost(&self, receipt: &TxReceipt) -> Option<Amount> {
        let ours = receipt.from == Some(self.address().0);
        let atoms = receipt::gas_cost(receipt).filter(|atoms| ours && *atoms > 0)?;
        Some(self.coin.as_ref()?.atoms(atoms))
    }

    /// What a transaction has taken, as far as that can be found out; nothing if it cannot, or has failed.
    pub(crate) async fn look_up(&self, escrow: &Escrow, transaction: B256) -> Option<Taken> {
        let receipt = self.nodes.receipt(transaction).await.ok().flatten()?;
        (!receipt::failed(&receipt)).then(|| Taken {
            transaction: receipt.transaction_hash,
            block: receipt.block_number.to(),
            events: events::read_all(escrow, &receipt.logs),
            cost: self.cost(&receipt),
        })
    }

    /// Whether something that was signed here may still be mined, or nobody knows.
    pub(crate) async fn owes(&self) -> bool {
        let Ok(turn) = self.nonces.turn().await else { return true };
        let Some(last) = turn.last() else { return false };
        self.nonce().await.map_or(true, |next| last.nonce >= next)
    }

    /// The same of whatever the account has signed, wherever: as far as nodes know.
    pub(crate) async fn waits(&self) -> bool {
        let asked = json!([self.address().to_string(), "pending"]);
        let pending = self.nodes.call::<U64>("eth_getTransactionCount", asked).await;
        let Ok(next) = self.nonce().await else { return true };
        pending.map_or(true, |it| it.to::<u64>() > next) || self.owes().await
    }

    /// Uses the next nonce up for nothing, so that whatever was signed for it can never be mined, unless it
    /// is mined by then.
    ///
    /// # Errors
    ///
    /// As [`EvmAccount::call`].
    pub(crate) async fn clear(&self) -> Result<(), SettleError> {
        self.mined(self.address(), Vec::new()).await.map(drop)
    }

    /// What the account holds of the chain's coin, in its smallest unit.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn coins(&self) -> Result<u128, NoAnswer> {
        let asked = json!([self.address().to_string(), "latest"]);
        let held = self.nodes.call::<U256>("eth_getBalance", asked).await.map_err(|_| NoAnswer)?;
        Ok(u128::try_from(held).unwrap_or(u128::MAX))
    }

    /// Puts an escrow for sessions on the chain. Nobody owns it, this account no more than others.
    ///
    /// # Idempotency
    ///
    /// None: each call makes another escrow. One that is never used costs its gas and nothing more.
    ///
    /// # Errors
    ///
    /// A [`SettleError`]. [`SettleError::Declined`] where the chain would not: most often since the account
    /// cannot pay for the gas.
    pub async fn deploy_escrow(&self) -> Result<Deployed, SettleError> {
        let code = creation_code(Family::Evm).ok_or(SettleError::Declined)?;
        let receipt = self.mined_as(TxKind::Create, code).await?;
        let receipt = self.deep(receipt).await?;
        let address = Address(receipt.contract_address.ok_or(SettleError::Unknown)?);
        let escrow = Escrow::new(Family::Evm, self.nodes.chain_id(), address);
        // Whatever answers this is an escrow.
        self.nodes.grace_s(&escrow).await.map_err(|_| SettleError::Unknown)?;
        let (transaction, cost) = (receipt.transaction_hash, self.cost(&receipt));
        Ok(Deployed { escrow, transaction, cost })
    }

    /// Why a call would fail as things stand.
    pub(crate) async fn would_fail(
        &self,
        to: Address,
        input: &[u8],
    ) -> Result<Option<Revert>, CallError> {
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

    async fn estimate(&self, to: TxKind, input: &Bytes) -> Result<u64, CallError> {
        let to = to.to().map(ToString::to_string);
        let call = json!({ "from": self.address().to_string(), "to": to, "data": input });
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

    fn sign(&self, bid: Bid, gas_limit: u64, to: TxKind, input: &Bytes) -> Option<Bytes> {
        let tx = TxEip1559 {
            chain_id: self.nodes.chain_id(),
            nonce: bid.nonce,
            gas_limit,
            max_fee_per_gas: bid.fee_max,
            max_priority_fee_per_gas: bid.tip,
            to,
            input: input.clone(),
            ..TxEip1559::default()
        };
        let signature = self.key.ecdsa(tx.signature_hash())?;
        let mut raw = Vec::new();
        tx.eip2718_encode(&signature, &mut raw);
        Some(raw.into())
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

/// A turn that cannot be written down is not taken.
fn unwritten(error: &std::io::Error) -> SettleError {
    tracing::error!(%error, "what an account signs cannot be written down");
    SettleError::Unsent
}

/// A quarter more.
const fn raised(price: u128) -> u128 {
    price.saturating_add(price.div_ceil(4)).saturating_add(1)
}
