//! The payee takes what vouchers say: settles channels and closes them, several in one transaction.
//!
//! ```text
//! order      tried, one by one ─► what would fail is left out ─► signed, good for half a minute
//! carry out  known to a node? ─► handed over ─► waited for ─► the events say what was taken
//! ```
//!
//! An order is one signed transaction whose nonce expires with it (TIP-1009): no order waits for
//! another, so that nobody has to keep count of nonces; and one whose price was too low to be mined is
//! over within half a minute, after which a new one is signed at the price of then. Taking twice does
//! no harm: an escrow pays each atom once, and refuses the second time.
//!
//! **Architecture invariant:** an order is given up only when no chain that answers could still take it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, TxKind, U256, Uint};
use alloy_sol_types::SolCall as _;
use farthing_core::SettleError;
use farthing_money::Amount;
use tempo_primitives::transaction::Call;
use tokio::time::{Instant, sleep};

use crate::envelope::Form;
use crate::handover::Handover;
use crate::payer::MalformedKey;
use crate::receipt;
use crate::rpc::{CallError, GAS_PERCENT, NoAnswer, Nodes, TxReceipt};
use crate::session::abi::{contract, reserve};
use crate::session::channel::{Descriptor, Escrow, Family};
use crate::session::events::{self, ChannelEvent};
use crate::session::revert::Revert;
use crate::session::simulate::Tried;
use crate::session::voucher::{Voucher, VoucherKey};
use crate::transaction::{batch, decode, raw};
use crate::wire::{Address, Token};

/// How long an order may be mined, in seconds; the chain allows thirty (TIP-1009).
const VALID_S: u64 = 25;

/// How many errands are tried at once, and go into one order at most.
const AT_ONCE: usize = 50;

/// The most gas of one order: two thirds of what the chain allows a transaction.
const GAS_MAX: u64 = 20_000_000;

/// How long the outcome of an order is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long after a look at the chain the next one follows, where the first did not tell.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often an order that was not mined is signed anew, each time at a higher price.
const TRIES: u128 = 4;

/// Something to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// What the channel is made of.
    pub descriptor: Descriptor,
    /// What is to be done.
    pub take: Take,
}

/// What is to be done with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// Take what the voucher says, and go on.
    Settle(Voucher),
    /// Take what the voucher says and give the rest back. Version 2 takes `capture` of it instead.
    Close {
        /// The last voucher.
        voucher: Voucher,
        /// What was spent of it, in atoms.
        capture: u128,
    },
    /// Take nothing beyond what was settled before, which is this much, and give the rest back. No
    /// voucher is needed.
    Release {
        /// What was settled, in atoms.
        settled: u128,
    },
}

impl Take {
    /// What has been settled in all once it is done, in atoms.
    pub(crate) const fn settles(&self) -> u128 {
        match self {
            Self::Settle(voucher) => voucher.cumulative,
            Self::Close { capture, .. } => *capture,
            Self::Release { settled } => *settled,
        }
    }
}

impl Errand {
    /// The channel.
    #[must_use]
    pub fn channel(&self, escrow: &Escrow) -> B256 {
        self.descriptor.id(escrow)
    }

    /// What is said to the escrow.
    pub(crate) fn input(&self, escrow: &Escrow) -> Vec<u8> {
        let channel = self.channel(escrow);
        match escrow.family {
            Family::TempoV1 | Family::Evm => {
                let close = |cumulative, signature| contract::closeCall {
                    channelId: channel,
                    cumulativeAmount: cumulative,
                    signature,
                };
                match &self.take {
                    Take::Settle(voucher) => contract::settleCall {
                        channelId: channel,
                        cumulativeAmount: voucher.cumulative,
                        signature: bytes(voucher),
                    }
                    .abi_encode(),
                    Take::Close { voucher, .. } => {
                        close(voucher.cumulative, bytes(voucher)).abi_encode()
                    }
                    Take::Release { settled } => close(*settled, Bytes::new()).abi_encode(),
                }
            }
            Family::TempoV2 => {
                let close = |cumulative, capture, signature| reserve::closeCall {
                    descriptor: (&self.descriptor).into(),
                    cumulativeAmount: Uint::saturating_from(cumulative),
                    captureAmount: Uint::saturating_from(capture),
                    signature,
                };
                match &self.take {
                    Take::Settle(voucher) => reserve::settleCall {
                        descriptor: (&self.descriptor).into(),
                        cumulativeAmount: Uint::saturating_from(voucher.cumulative),
                        signature: bytes(voucher),
                    }
                    .abi_encode(),
                    Take::Close { voucher, capture } => {
                        close(voucher.cumulative, *capture, bytes(voucher)).abi_encode()
                    }
                    Take::Release { settled } => {
                        close(*settled, *settled, Bytes::new()).abi_encode()
                    }
                }
            }
        }
    }

    fn call(&self, escrow: &Escrow) -> Call {
        let input = self.input(escrow).into();
        Call { to: TxKind::Call(escrow.address.0), value: U256::ZERO, input }
    }
}

fn bytes(voucher: &Voucher) -> Bytes {
    voucher.signature.to_vec().into()
}

/// A signed transaction that does some errands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The transaction, in the encoding that nodes take. Whoever has it can only do this.
    pub raw: Box<str>,
    /// The errands it does, by their places.
    pub does: Vec<usize>,
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The transaction.
    pub transaction: B256,
    /// The block it was mined in.
    pub block: u64,
    /// What happened to which channel.
    pub events: Vec<ChannelEvent>,
    /// What it has cost the payee.
    pub cost: Option<Amount>,
}

/// What became of each errand, by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done by this transaction.
    Done(Arc<Taken>),
    /// The escrow would not, as things stand, and was not asked to.
    Refused(Revert),
    /// Nothing was sent: try again.
    Unsent,
    /// Something was sent and nobody knows what became of it: look at the escrow later.
    Unknown,
}

/// Acts for the payee of channels on Tempo.
#[derive(Debug)]
pub struct Teller {
    key: VoucherKey,
    nodes: Arc<Nodes>,
    handover: Handover,
    fee_token: Token,
    wait: Duration,
}

impl Teller {
    /// Acts with `secret`, the key of the payee's account (or of its operator's), which pays the fees in
    /// `fee_token`.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(
        secret: &[u8; 32],
        nodes: Arc<Nodes>,
        fee_token: Token,
        confirmations: u64,
        wait: Duration,
    ) -> Result<Self, MalformedKey> {
        let handover = Handover::new(Arc::clone(&nodes), confirmations);
        Ok(Self { key: VoucherKey::new(secret)?, nodes, handover, fee_token, wait })
    }

    /// The account that acts.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.key.account()
    }

    /// Does errands, as many in one transaction as go into it. What would fail is left out and costs
    /// nothing. An order that was not mined is signed anew, at a higher price, once nobody can mine it
    /// any more.
    pub async fn run(&self, escrow: &Escrow, errands: &[Errand]) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Unsent; errands.len()];
        let mut open: Vec<usize> = (0..errands.len()).collect();
        for factor in 2..2_u128.saturating_add(TRIES) {
            if open.is_empty() {
                break;
            }
            let (orders, left_out) = match self.orders(escrow, errands, &open, factor).await {
                Ok(orders) => orders,
                Err(NoAnswer) => return outcomes,
            };
            for (at, why) in left_out {
                set(&mut outcomes, &[at], &Outcome::Refused(why));
            }
            open.clear();
            for order in orders {
                let outcome = match self.persist(escrow, &order.raw).await {
                    Ok(taken) => Outcome::Done(Arc::new(taken)),
                    // It was undone, or came too late: it is tried again, and left out if it would fail.
                    Err(SettleError::Declined) => {
                        open.extend(&order.does);
                        Outcome::Unsent
                    }
                    Err(SettleError::Unsent) => Outcome::Unsent,
                    Err(SettleError::Unknown) => Outcome::Unknown,
                };
                set(&mut outcomes, &order.does, &outcome);
            }
        }
        outcomes
    }

    /// Carries an order out, and waits until somebody knows what became of it, or twice as long as any
    /// chain can take it.
    async fn persist(&self, escrow: &Escrow, order: &str) -> Result<Taken, SettleError> {
        let since = Instant::now();
        loop {
            let taken = self.carry_out(escrow, order).await;
            if taken != Err(SettleError::Unknown) || since.elapsed() > PATIENCE {
                return taken;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Signs orders for the errands that would succeed as things stand, and says of the others why not.
    /// Nothing is sent. Keep an order before it is carried out: whoever has it knows what became of it.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn prepare(
        &self,
        escrow: &Escrow,
        errands: &[Errand],
    ) -> Result<(Vec<Order>, Vec<(usize, Revert)>), NoAnswer> {
        let all: Vec<usize> = (0..errands.len()).collect();
        self.orders(escrow, errands, &all, 2).await
    }

    async fn orders(
        &self,
        escrow: &Escrow,
        errands: &[Errand],
        which: &[usize],
        price_factor: u128,
    ) -> Result<(Vec<Order>, Vec<(usize, Revert)>), NoAnswer> {
        let (mut orders, mut left_out) = (Vec::new(), Vec::new());
        for which in which.chunks(AT_ONCE) {
            let calls: Vec<(usize, Call)> =
                which.iter().filter_map(|at| Some((*at, errands.get(*at)?.call(escrow)))).collect();
            let tried = self.try_each(&calls).await.map_err(|_| NoAnswer)?;
            let (mut batch, mut gas) = (Vec::new(), 0_u64);
            for ((at, call), tried) in calls.into_iter().zip(tried) {
                if !tried.succeeds {
                    left_out.push((at, Revert::read(&tried.answer)));
                    continue;
                }
                if gas.saturating_add(tried.gas) > GAS_MAX && !batch.is_empty() {
                    let full = std::mem::take(&mut batch);
                    orders.push(self.sign(escrow, full, gas, price_factor).await?);
                    gas = 0;
                }
                gas = gas.saturating_add(tried.gas);
                batch.push((at, call));
            }
            if !batch.is_empty() {
                orders.push(self.sign(escrow, batch, gas, price_factor).await?);
            }
        }
        Ok((orders, left_out))
    }

    /// What each call would do. One that fails does not stop those after it, here.
    async fn try_each(&self, calls: &[(usize, Call)]) -> Result<Vec<Tried>, CallError> {
        let account = self.account();
        let all: Vec<Call> = calls.iter().map(|(_, call)| call.clone()).collect();
        match self.nodes.try_all(account, &all).await {
            // Nodes that do not simulate several calls are asked for one after the other.
            Err(CallError::Refused(_)) => {
                let mut tried = Vec::with_capacity(all.len());
                for call in all {
                    let TxKind::Call(to) = call.to else { return Err(CallError::Lost) };
                    let answer = self.nodes.try_call(account, Address(to), &call.input).await;
                    let succeeds = match answer {
                        Ok(()) => true,
                        Err(CallError::Refused(_)) => false,
                        Err(error) => return Err(error),
                    };
                    let gas = GAS_MAX.saturating_div(10);
                    tried.push(Tried { succeeds, gas, answer: Bytes::new() });
                }
                Ok(tried)
            }
            tried => tried,
        }
    }

    async fn sign(
        &self,
        escrow: &Escrow,
        calls: Vec<(usize, Call)>,
        gas: u64,
        price_factor: u128,
    ) -> Result<Order, NoAnswer> {
        let (does, calls) = calls.into_iter().unzip();
        let now_s = self.nodes.latest_block_time_s().await.map_err(|_| NoAnswer)?;
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S)).ok_or(NoAnswer)?;
        let mut tx = batch(escrow.chain_id, Some(self.fee_token.address), calls, valid_before);
        let estimated = self.nodes.estimate_gas(self.account(), &tx).await;
        let gas = gas.max(estimated.map_err(|_| NoAnswer)?);
        tx.gas_limit = gas.saturating_mul(GAS_PERCENT).saturating_div(100);
        let price = self.nodes.gas_price().await.map_err(|_| NoAnswer)?;
        tx.max_fee_per_gas = price.saturating_mul(price_factor);
        let signature = self.key.seal(tx.signature_hash()).ok_or(NoAnswer)?;
        Ok(Order { raw: raw(&tx.into_signed(signature)).to_string().into(), does })
    }

    /// Carries an order out, or finds out how it was. The same order any number of times.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::refund`]: declined is an order that was undone, or that no chain can
    /// take any more.
    pub async fn carry_out(&self, escrow: &Escrow, order: &str) -> Result<Taken, SettleError> {
        let (signed, form) = decode(order).map_err(|_| SettleError::Unknown)?;
        let valid_before_s = signed.tx().valid_before.map_or(u64::MAX, NonZeroU64::get);
        if form != Form::Complete {
            return Err(SettleError::Unknown);
        }
        let receipt = match self.handover.mined(*signed.hash(), valid_before_s).await {
            Ok(receipt) => receipt,
            Err(SettleError::Declined) => return Err(SettleError::Declined),
            Err(SettleError::Unsent | SettleError::Unknown) => {
                match self.handover.hand_over(&signed, self.wait).await {
                    Ok(receipt) => receipt,
                    Err(SettleError::Unsent) => return Err(SettleError::Unsent),
                    // What a node refuses now, it or another may take a moment later.
                    Err(SettleError::Declined | SettleError::Unknown) => {
                        self.handover.mined(*signed.hash(), valid_before_s).await.map_err(late)?
                    }
                }
            }
        };
        self.taken(escrow, &receipt)
    }

    /// What a transaction has taken, as far as that can be found out; nothing if it cannot, or has failed.
    pub(crate) async fn look_up(&self, escrow: &Escrow, transaction: B256) -> Option<Taken> {
        let receipt = self.nodes.receipt(transaction).await.ok().flatten()?;
        self.taken(escrow, &receipt).ok()
    }

    fn taken(&self, escrow: &Escrow, receipt: &TxReceipt) -> Result<Taken, SettleError> {
        let token = &self.fee_token;
        if receipt::failed(receipt) {
            tracing::warn!(hash = %receipt.transaction_hash, "the chain has undone an errand");
            return Err(SettleError::Declined);
        }
        let fee = receipt::fee(receipt, token.address, self.account());
        Ok(Taken {
            transaction: receipt.transaction_hash,
            block: receipt.block_number.to(),
            events: events::read_all(escrow, &receipt.logs),
            cost: (fee > 0).then(|| token.asset.atoms(fee)),
        })
    }
}

/// What was not sent once may have been sent before.
const fn late(error: SettleError) -> SettleError {
    match error {
        SettleError::Declined => SettleError::Declined,
        SettleError::Unsent | SettleError::Unknown => SettleError::Unknown,
    }
}

fn set(outcomes: &mut [Outcome], which: &[usize], outcome: &Outcome) {
    for at in which {
        if let Some(place) = outcomes.get_mut(*at) {
            place.clone_from(outcome);
        }
    }
}
