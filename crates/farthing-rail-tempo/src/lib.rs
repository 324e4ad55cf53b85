//! Stablecoin charges on Tempo (draft-tempo-charge-00).
//!
//! The buyer signs a transaction that transfers a TIP-20 token to the seller; the seller hands it to
//! the chain and waits until it is mined (*pull*). Or the buyer sends it and shows its hash (*push*),
//! in which case the transfer's memo has to name the challenge.
//!
//! ```text
//! check (pure)                settle
//! decode ─ charge? ─ sender   hand over ─► wait ─► receipt ─► events say: paid
//!                               │ no node      │ deadline       │ reverted, or paid somebody else
//!                               ▼ unsent       ▼ unknown        ▼ declined
//! ```
//!
//! **Architecture invariant:** what a node says is never enough to be paid: the events of a mined
//! transaction have to show the token, the payer, the payee, the amount and, for push, the memo.
//!
//! **Architecture invariant:** a transaction is handed over only after its proof was claimed, and
//! nothing but the bytes that the buyer signed is ever handed over.

mod memo;
mod payer;
mod receipt;
mod rpc;
mod transaction;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use farthing_core::{
    BoxFuture, Evidence, Held, Object, Presented, Rail, Rejection, SettleError, Settled, Unquotable,
};
use farthing_ledger::{Account, AccountKind, Fingerprint, Holder, Money, Proof, Source};
use farthing_money::{Amount, Timestamp};
use serde_json::Value;
use tokio::time::{sleep, timeout};

pub use payer::{MalformedKey, TempoPayer};
pub use reqwest::Url;
pub use rpc::{NoAnswer, NodeHealth, Nodes, NodesError, parse_node};
pub use wire::{Address, MalformedAddress, Token, Tokens};

use memo::attribution;
use rpc::{CallError, TxReceipt};
use transaction::{Bound, Mismatch, Payment};
use wire::{Terms, Unreadable, did, parse_did};

/// The payment method.
const METHOD: &str = "tempo";

/// How long a transaction has to be valid still, in seconds, to be claimed: what the chain would no
/// longer take is better refused before anything is held.
const VALID_S_MIN: u64 = 4;

/// How long after a look at the chain the next one follows.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The seller's side.
#[derive(Clone, Debug)]
pub struct TempoRail {
    nodes: Arc<Nodes>,
    settings: Arc<Settings>,
}

/// What a seller has decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is paid, on the books.
    pub payee: Holder,
    /// Who is paid, on the chain.
    pub recipient: Address,
    /// The tokens accepted.
    pub tokens: Tokens,
    /// Whether buyers may send the payment themselves and show its hash.
    pub push: bool,
    /// How many blocks a payment has to be deep; 1 is the block it is mined in.
    pub confirmations: u64,
    /// How long to wait for that.
    pub wait: Duration,
}

impl TempoRail {
    /// A rail over `nodes`. Nothing is sent yet.
    #[must_use]
    pub fn new(nodes: Arc<Nodes>, settings: Settings) -> Self {
        Self { nodes, settings: Arc::new(settings) }
    }

    /// The charge that a request of ours asked for.
    fn terms(&self, request: &Object) -> Option<Terms> {
        let terms = Terms::read(request, &self.settings.tokens).ok()?;
        let ours =
            terms.chain_id == self.nodes.chain_id() && terms.recipient == self.settings.recipient;
        ours.then_some(terms)
    }

    /// What was presented, read; the same each time.
    fn read(&self, presented: &Presented) -> Result<(Terms, Shown), Rejection> {
        let terms = self.terms(&presented.request).ok_or(Rejection::Foreign)?;
        let text = |name| presented.payload.get(name).and_then(Value::as_str);
        let source = presented.source.as_deref().map(|source| {
            let (chain_id, account) = parse_did(source).ok_or(Rejection::Malformed)?;
            if chain_id == terms.chain_id { Ok(account) } else { Err(Rejection::Invalid) }
        });
        let source = source.transpose()?;
        match text("type") {
            Some("transaction") if terms.pull => {
                let bound = Bound {
                    realm: &presented.realm,
                    challenge: &presented.challenge,
                    expires_at_s: presented.expires_at.as_secs(),
                };
                let signed = text("signature").ok_or(Rejection::Malformed)?;
                let payment = Payment::read(signed, &terms, &bound)?;
                if source.is_some_and(|source| source != payment.sender) {
                    return Err(Rejection::Invalid);
                }
                Ok((terms, Shown::Transaction(payment)))
            }
            Some("hash") if terms.push => {
                let hash = text("hash").and_then(parse_hash);
                // Whoever shows a hash says whose payment it is; the chain then has to agree.
                let sender = source.ok_or(Rejection::Malformed)?;
                Ok((terms, Shown::Hash { hash: hash.ok_or(Rejection::Malformed)?, sender }))
            }
            Some("transaction" | "hash") => Err(Rejection::Invalid),
            Some(_) | None => Err(Rejection::Malformed),
        }
    }

    async fn pull(&self, terms: &Terms, payment: &Payment) -> Result<Settled, SettleError> {
        let receipt = match self.nodes.send(&payment.raw).await {
            Ok(()) | Err(CallError::Lost) => self.mined(payment.hash).await,
            Err(CallError::Unsent) => return Err(SettleError::Unsent),
            Err(CallError::Refused(why)) => {
                tracing::info!(hash = %payment.hash, why, "refused by the chain");
                // It may have been handed over before: then it is mined, or about to be.
                if !self.nodes.has(payment.hash).await.map_err(|_| SettleError::Unknown)? {
                    return Err(SettleError::Declined);
                }
                self.mined(payment.hash).await
            }
        };
        let receipt = self.deep(receipt).await;
        if receipt::pays(&receipt, terms, payment.sender, payment.memo) {
            Ok(Settled { reference: payment.hash.to_string() })
        } else if receipt::failed(&receipt) {
            Err(SettleError::Declined)
        } else {
            // This transaction cannot succeed without paying: whoever says so is wrong somewhere.
            tracing::error!(hash = %payment.hash, "a node's receipt contradicts the transaction");
            Err(SettleError::Unknown)
        }
    }

    /// A payment that the buyer sent: its memo has to name the challenge.
    async fn push(
        &self,
        terms: &Terms,
        hash: B256,
        sender: Address,
        presented: &Presented,
    ) -> Result<Settled, SettleError> {
        // Only questions are asked here, so that asking again is always safe.
        let mined = match self.nodes.receipt(hash).await {
            Ok(Some(receipt)) => receipt,
            Ok(None) | Err(CallError::Lost | CallError::Refused(_)) => self.mined(hash).await,
            Err(CallError::Unsent) => return Err(SettleError::Unsent),
        };
        let receipt = self.deep(mined).await;
        let memo = attribution(&presented.realm, &presented.challenge);
        if receipt::pays(&receipt, terms, sender, Some(memo)) {
            Ok(Settled { reference: hash.to_string() })
        } else {
            Err(SettleError::Declined)
        }
    }

    /// Waits until a transaction is mined.
    async fn mined(&self, hash: B256) -> TxReceipt {
        loop {
            if let Ok(Some(receipt)) = self.nodes.receipt(hash).await {
                return receipt;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until a mined transaction is as deep as it has to be, and says what it did from there.
    async fn deep(&self, mut receipt: TxReceipt) -> TxReceipt {
        let more = self.settings.confirmations.saturating_sub(1);
        loop {
            let deep = receipt.block_number.to::<u64>().saturating_add(more);
            if more == 0 || self.nodes.block_number().await.is_ok_and(|head| head >= deep) {
                return receipt;
            }
            sleep(LOOK_AGAIN).await;
            // A chain may think better of it meanwhile.
            receipt = self.mined(receipt.transaction_hash).await;
        }
    }
}

/// What a credential shows.
enum Shown {
    Transaction(Payment),
    Hash { hash: B256, sender: Address },
}

fn parse_hash(text: &str) -> Option<B256> {
    text.starts_with("0x").then(|| text.parse().ok()).flatten()
}

impl From<Mismatch> for Rejection {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Malformed => Self::Malformed,
            Mismatch::Less => Self::Insufficient,
            Mismatch::Other => Self::Invalid,
        }
    }
}

impl Rail for TempoRail {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn quote(&self, amount: &Amount, _payee: &Holder) -> Result<Object, Unquotable> {
        let token = self.settings.tokens.of(amount).ok_or(Unquotable::Asset)?;
        if amount.is_zero() {
            return Err(Unquotable::Amount);
        }
        let terms = Terms {
            amount: amount.clone(),
            token: token.address,
            recipient: self.settings.recipient,
            chain_id: self.nodes.chain_id(),
            pull: true,
            push: self.settings.push,
        };
        Ok(terms.write())
    }

    fn check(&self, presented: &Presented, now: Timestamp) -> Result<Evidence, Rejection> {
        if presented.intent != "charge" {
            return Err(Rejection::Unsupported);
        }
        let (terms, shown) = self.read(presented)?;
        let chain = terms.chain_id.to_be_bytes();
        let (sender, fingerprint) = match &shown {
            Shown::Transaction(payment) => {
                if payment.valid_before_s < now.as_secs().saturating_add(VALID_S_MIN) {
                    return Err(Rejection::Expired);
                }
                let parts = [chain.as_slice(), payment.identity.as_slice()];
                (payment.sender, Fingerprint::of("tempo transaction", &parts))
            }
            // A hash alone is known to everybody who watches the chain. Together with the memo it
            // has to carry, it is this challenge's, and nobody can use it up for another.
            Shown::Hash { hash, sender } => {
                let memo = attribution(&presented.realm, &presented.challenge);
                let parts = [chain.as_slice(), hash.as_slice(), memo.as_slice()];
                (*sender, Fingerprint::of("tempo transfer", &parts))
            }
        };
        let clearing = Holder::new(METHOD).map_err(|_| Rejection::Foreign)?;
        let from = Account::new(AccountKind::Clearing, clearing, terms.amount.asset().clone());
        Ok(Evidence {
            payer: did(terms.chain_id, sender),
            payee: self.settings.payee.clone(),
            amount: terms.amount,
            from: Source::Account(from),
            proofs: vec![Proof { fingerprint, keep_until: None }],
            money: Money::Rail,
        })
    }

    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async {
            let presented = held.presented();
            // It was read before it was held; what cannot be read now was never sent.
            let (terms, shown) = self.read(presented).map_err(|_| SettleError::Declined)?;
            let settled = async {
                match shown {
                    Shown::Transaction(payment) => self.pull(&terms, &payment).await,
                    Shown::Hash { hash, sender } => {
                        self.push(&terms, hash, sender, presented).await
                    }
                }
            };
            timeout(self.settings.wait, settled).await.unwrap_or(Err(SettleError::Unknown))
        })
    }
}

impl From<Unreadable> for farthing_core::Unpayable {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::Malformed,
            Unreadable::Token => Self::Asset,
            Unreadable::Unsupported => Self::Method,
        }
    }
}
