//! Stablecoin charges on Tempo (draft-tempo-charge-00), and sessions there and on any EVM chain.
//!
//! The buyer signs a transaction that transfers a TIP-20 token to the seller; the seller hands it to
//! the chain and waits until it is mined (*pull*), and may pay the network's fee for it (*sponsored*).
//! Or the buyer sends it and shows its hash (*push*), in which case the transfer's memo has to name the
//! challenge. Where the price is zero, the buyer *proves* which account it is, and nothing moves.
//!
//! ```text
//! check (pure)                settle                                        inquire
//! decode ─ charge? ─ sender   sponsor ─► hand over ─► wait ─► receipt       what the chain says by now
//!                               │ budget    │ no node    │ deadline  │ events say: paid
//!                               ▼           ▼ unsent     ▼ unknown   ▼ reverted, or paid somebody else
//!                              declined                              declined
//! ```
//!
//! **Architecture invariant:** what a node says is never enough to be paid: the events of a mined
//! transaction have to show the token, the payer, every payee, every amount and, for push, the memo.
//!
//! **Architecture invariant:** a transaction is handed over only after its proof was claimed, and
//! nothing but the bytes that the buyer signed, and the sponsor behind the buyer, is ever handed over;
//! or the order of a refund, once it is in the journal.
//!
//! **Architecture invariant:** nothing is given up that the chain could still take: only what its last
//! moment has passed for on every node that answers, while none of them knows it, never moved.

mod envelope;
mod evm;
mod handover;
mod memo;
mod payer;
mod proof;
mod receipt;
mod refund;
mod rpc;
mod settings;
mod sponsor;
mod transaction;
mod verify;
mod wire;

pub mod session;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use farthing_core::{
    BoxFuture, Evidence, Held, NoRefund, Object, Presented, Rail, RailRules, Refunds, Rejection,
    SUBSCRIPTION, SessionRail, SettleError, Settled, Share, SubscriptionRail, Unquotable,
};
use farthing_ledger::{
    Account, AccountKind, Fingerprint, Holder, Money, Payment as Booked, Proof, Refund, Source,
};
use farthing_money::{Amount, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use evm::{EvmRail, EvmSettings};
pub use payer::{MalformedKey, TempoPayer};
pub use refund::Refunder;
pub use reqwest::Url;
pub use rpc::{NoAnswer, NodeHealth, Nodes, NodesError, parse_node};
pub use settings::{Settings, Split};
pub use sponsor::{Sponsor, SponsorLimits};
pub use subscription::{KeyRing, SubscriptionSettings};
pub use verify::{Unverified, Verified, cosign, proof_typed_data, verify_receipt};
pub use wire::{Address, MalformedAddress, Token, Tokens, Unreadable};

use handover::Handover;
use memo::attribution;
use proof::Signer;
use refund::Order;
use rpc::TxReceipt;
use session::{SessionSettings, Sessions};
use subscription::Subscriptions;
use transaction::{Bound, Mismatch, Payment};
use wire::{Terms, Transfer, did, parse_did, parse_word};

/// The payment method.
const METHOD: &str = "tempo";

/// What counts as what: the chain is right about money, and the book about what was delivered for it.
const RULES: RailRules = RailRules {
    authorised: "a transaction, or a proof of account, that the payer's key has signed",
    settled: "a mined transaction as deep as `confirmations` asks, whose events show every transfer",
    reversed: "not by the payer; a chain that goes back further than was waited for disowns it, and a \
               person decides. A refund is a transfer of its own, from the account of `refund_key`",
    reference: "the transaction's hash",
    holds: false,
    refunds: Refunds::Rail,
    recheck_after: Some(RECHECK),
};

/// How long after a payment was settled the chain is asked once more.
const RECHECK: Duration = Duration::from_secs(30);

/// How long a transaction has to be valid still, in seconds, to be claimed: what the chain would no
/// longer take is better refused before anything is held.
const VALID_S_MIN: u64 = 4;

/// The longest a sponsored transaction may be valid, in seconds.
const VALID_S_MAX: u64 = 15 * 60;

/// The longest one refund is waited for: others may be due, and recovery comes back.
const REFUND_WAIT: Duration = Duration::from_secs(5);

/// How long after its last moment a transaction that nobody knows is given up, in seconds of the chain:
/// a node may lag behind.
const LATE_S: u64 = 10;

/// The seller's side.
#[derive(Clone, Debug)]
pub struct TempoRail {
    nodes: Arc<Nodes>,
    settings: Arc<Settings>,
    handover: Handover,
    sessions: Option<Arc<Sessions>>,
    subscriptions: Option<Arc<Subscriptions>>,
}

/// A credential, wherever it was kept.
struct Shown<'a> {
    realm: &'a str,
    challenge: &'a str,
    expires_at: Timestamp,
    request: &'a Object,
    payload: &'a Object,
    source: Option<&'a str>,
}

impl<'a> From<&'a Presented> for Shown<'a> {
    fn from(presented: &'a Presented) -> Self {
        Self {
            realm: &presented.realm,
            challenge: &presented.challenge,
            expires_at: presented.expires_at,
            request: &presented.request,
            payload: &presented.payload,
            source: presented.source.as_deref(),
        }
    }
}

/// What stands in the books for [`TempoRail::inquire`]: the credential, less what the payment says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inquiry {
    realm: String,
    request: Object,
    payload: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

/// What a credential pays with.
enum Means {
    /// A signed transaction, to be handed over.
    Transaction(Box<Payment>),
    /// A transaction that the buyer has sent.
    Hash { hash: B256, sender: Address },
    /// Nothing but a name.
    Proof { account: Address, signer: Signer },
}

impl TempoRail {
    /// A rail over `nodes`. Nothing is sent yet.
    #[must_use]
    pub fn new(nodes: Arc<Nodes>, settings: Settings) -> Self {
        let handover = Handover::new(Arc::clone(&nodes), settings.confirmations);
        let settings = Arc::new(settings);
        Self { nodes, settings, handover, sessions: None, subscriptions: None }
    }

    /// The same, and payments in sessions.
    #[must_use]
    pub fn with_sessions(self, settings: SessionSettings) -> Self {
        self.with_sessions_forgoing(settings, Vec::new())
    }

    /// The same, of a seller who forgoes a little at a close: up to so much of what was spent, by asset,
    /// where no voucher says exactly that and the escrow pays whatever a voucher says. Beyond it, the next
    /// voucher is taken, and what it says beyond what was spent is the payer's credit on the books.
    #[must_use]
    pub fn with_sessions_forgoing(
        self,
        settings: SessionSettings,
        forgone_max: Vec<Amount>,
    ) -> Self {
        let sessions = Sessions::new(&self.nodes, &self.settings, settings).forgoing(forgone_max);
        Self { sessions: Some(Arc::new(sessions)), ..self }
    }

    /// The same, and subscriptions. They are offered where a sponsor pays the network's fees.
    #[must_use]
    pub fn with_subscriptions(self, own: SubscriptionSettings) -> Self {
        let own = Subscriptions::new(&self.nodes, &self.settings, &self.handover, own);
        Self { subscriptions: Some(Arc::new(own)), ..self }
    }

    /// The chain it is paid on.
    #[must_use]
    pub const fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// Who pays the network's fees, if the seller does.
    #[must_use]
    pub fn sponsor(&self) -> Option<&Sponsor> {
        self.settings.sponsor.as_ref()
    }

    /// Who gives money back, if anybody does.
    #[must_use]
    pub fn refunder(&self) -> Option<&Refunder> {
        self.settings.refunder.as_ref()
    }

    /// The tokens it is paid in.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.settings.tokens
    }

    /// The charge that a request of ours asked for.
    fn terms(&self, request: &Object) -> Option<Terms> {
        let terms = Terms::read(request, &self.settings.tokens).ok()?;
        let ours = terms.chain_id == self.nodes.chain_id()
            && terms.recipient == self.settings.recipient
            && (!terms.sponsored || self.settings.sponsor.is_some());
        ours.then_some(terms)
    }

    /// What was presented, read; the same each time.
    fn read(&self, shown: &Shown<'_>) -> Result<(Terms, Means), Rejection> {
        let terms = self.terms(shown.request).ok_or(Rejection::Foreign)?;
        let text = |name| shown.payload.get(name).and_then(Value::as_str);
        let source = shown.source.map(|source| {
            let (chain_id, account) = parse_did(source).ok_or(Rejection::Malformed)?;
            if chain_id == terms.chain_id { Ok(account) } else { Err(Rejection::Invalid) }
        });
        let source = source.transpose()?;
        // What costs nothing is proved, and what costs something is paid.
        let is_free = terms.amount.is_zero();
        match text("type") {
            Some("transaction") if terms.pull && !is_free => {
                let bound = Bound {
                    realm: shown.realm,
                    challenge: shown.challenge,
                    expires_at_s: shown.expires_at.as_secs(),
                };
                let signed = text("signature").ok_or(Rejection::Malformed)?;
                let payment = Payment::read(signed, &terms, &bound)?;
                if source.is_some_and(|source| source != payment.sender) {
                    return Err(Rejection::Invalid);
                }
                Ok((terms, Means::Transaction(Box::new(payment))))
            }
            Some("hash") if terms.push && !is_free => {
                let hash = text("hash").and_then(parse_word);
                // Whoever shows a hash says whose payment it is; the chain then has to agree.
                let sender = source.ok_or(Rejection::Malformed)?;
                Ok((terms, Means::Hash { hash: hash.ok_or(Rejection::Malformed)?, sender }))
            }
            Some("proof") if is_free => {
                let account = source.ok_or(Rejection::Malformed)?;
                let digest = proof::digest(terms.chain_id, account, shown.realm, shown.challenge);
                let signature = text("signature").ok_or(Rejection::Malformed)?;
                let signer = proof::signer(signature, digest, account);
                let signer = signer.ok_or(Rejection::Invalid)?;
                Ok((terms, Means::Proof { account, signer }))
            }
            Some("transaction" | "hash" | "proof") => Err(Rejection::Invalid),
            Some(_) | None => Err(Rejection::Malformed),
        }
    }

    /// The parts of the price that are others' than the seller's.
    fn shares(&self, terms: &Terms) -> Result<Vec<Share>, Rejection> {
        // Two payees may share an account on the chain: each is found once, in their order.
        let mut known: Vec<&Split> = self.settings.splits.iter().collect();
        let share = |split: &Transfer| {
            let at = known.iter().position(|it| it.recipient == split.to);
            let payee = known.remove(at.ok_or(Rejection::Foreign)?).payee.clone();
            Ok(Share { payee, atoms: split.atoms })
        };
        terms.splits.iter().map(share).collect()
    }

    async fn pull(&self, terms: &Terms, payment: &Payment) -> Result<Settled, SettleError> {
        if !payment.wants_sponsor {
            let receipt = self.handover.hand_over(&payment.signed, self.settings.wait).await?;
            return verdict(&receipt, terms, payment).map(|()| Settled::new(hash_of(&receipt)));
        }
        let sponsor = self.settings.sponsor.as_ref().ok_or(SettleError::Declined)?;
        let (signed, reserved) = sponsor.complete(&self.nodes, payment).await?;
        // Whatever becomes of it, it counts until it is known what it cost.
        match self.handover.hand_over(&signed, self.settings.wait).await {
            Ok(receipt) => {
                let cost = sponsor.cost(&receipt);
                reserved.spend(cost.as_ref().map_or(0, Amount::atoms));
                verdict(&receipt, terms, payment)?;
                Ok(Settled::new(hash_of(&receipt)).costing(cost))
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

    /// What became of a payment, as far as the chain knows by now.
    async fn ask(&self, shown: &Shown<'_>) -> Result<Settled, SettleError> {
        // It was read before it was claimed.
        let (terms, means) = self.read(shown).map_err(|_| SettleError::Unknown)?;
        match means {
            Means::Transaction(payment) => self.ask_transaction(&terms, &payment).await,
            Means::Hash { hash, sender } => {
                let receipt = self.handover.mined(hash, shown.expires_at.as_secs()).await?;
                pushed(&receipt, &terms, sender, shown)
            }
            Means::Proof { account, signer } => self.prove(account, signer, shown).await,
        }
    }

    async fn ask_transaction(
        &self,
        terms: &Terms,
        payment: &Payment,
    ) -> Result<Settled, SettleError> {
        let sponsor = self.settings.sponsor.as_ref().filter(|_| payment.wants_sponsor);
        let late = payment.valid_before_s;
        let foreseen = match sponsor {
            None => Some(*payment.signed.hash()),
            Some(sponsor) => sponsor.foreseen(payment).map(|signed| *signed.hash()),
        };
        let receipt = if let Some(hash) = foreseen {
            self.handover.mined(hash, late).await?
        } else {
            // Where another signed, only the chain knows under which name it was mined. How far it is
            // comes first: what is not found afterwards did not happen by then.
            let open = self.handover.mined(B256::ZERO, late).await;
            match self.find(terms, payment).await? {
                Some(hash) => self.handover.mined(hash, late).await?,
                None => open?,
            }
        };
        verdict(&receipt, terms, payment)?;
        let cost = sponsor.and_then(|sponsor| sponsor.cost(&receipt));
        Ok(Settled::new(hash_of(&receipt)).costing(cost))
    }

    /// The transaction that made a payment's named transfer.
    async fn find(&self, terms: &Terms, payment: &Payment) -> Result<Option<B256>, SettleError> {
        let named = payment.transfers.iter().find(|it| it.memo.is_some());
        let Some(named) = named else { return Ok(None) };
        let since_s = payment.valid_before_s.saturating_sub(VALID_S_MAX);
        let found = self.nodes.transferred(terms.token, payment.sender, named, since_s).await;
        found.map_err(|_| SettleError::Unknown)
    }

    /// The account of a payer of this chain.
    fn account_of(&self, payer: &str) -> Option<Address> {
        let (chain_id, account) = parse_did(payer)?;
        (chain_id == self.nodes.chain_id()).then_some(account)
    }

    /// Signs what gives money back to whoever paid, in the token that was paid in.
    async fn order(&self, refund: &Refund) -> Result<Box<str>, NoRefund> {
        let refunder = self.settings.refunder.as_ref().ok_or(NoRefund::Unable)?;
        let token = self.settings.tokens.named(refund.amount.asset()).ok_or(NoRefund::Unable)?;
        let to = self.account_of(&refund.payer).ok_or(NoRefund::Unable)?;
        refunder.order(&self.nodes, token, to, refund).await
    }

    /// Carries a refund's order out, or finds out how it was.
    async fn give_back(&self, refund: &Refund) -> Result<Settled, SettleError> {
        let order = self.account_of(&refund.payer).and_then(|to| Order::read(refund, to));
        let Some(order) = order else {
            tracing::error!(refund = %refund.id, "the order of a refund cannot be read");
            return Err(SettleError::Unknown);
        };
        let receipt = match self.handover.mined(*order.signed.hash(), order.valid_before_s).await {
            Ok(receipt) => receipt,
            Err(SettleError::Declined) => return Err(SettleError::Declined),
            Err(SettleError::Unsent | SettleError::Unknown) => {
                // What a node refuses now it, or another, may take a moment later.
                let wait = self.settings.wait.min(REFUND_WAIT);
                let sent = self.handover.hand_over(&order.signed, wait).await;
                sent.map_err(|error| match error {
                    SettleError::Declined | SettleError::Unknown => SettleError::Unknown,
                    SettleError::Unsent => SettleError::Unsent,
                })?
            }
        };
        order.verdict(&receipt, refund)
    }

    /// A proof by a key that is not the account's own.
    async fn prove(
        &self,
        account: Address,
        signer: Signer,
        shown: &Shown<'_>,
    ) -> Result<Settled, SettleError> {
        let authorised = match signer {
            Signer::Account => Ok(true),
            Signer::Key(key) => self.nodes.is_access_key(account, key).await,
        };
        match authorised {
            Ok(true) => Ok(Settled::new(shown.challenge.to_owned())),
            Ok(false) => Err(SettleError::Declined),
            Err(_) => Err(SettleError::Unsent),
        }
    }

    async fn settled(&self, shown: &Shown<'_>) -> Result<Settled, SettleError> {
        // It was read before it was held; what cannot be read now was never sent.
        let (terms, means) = self.read(shown).map_err(|_| SettleError::Declined)?;
        match means {
            Means::Transaction(payment) => self.pull(&terms, &payment).await,
            Means::Hash { hash, sender } => {
                let receipt = self.handover.sent(hash, self.settings.wait).await?;
                pushed(&receipt, &terms, sender, shown)
            }
            Means::Proof { account, signer } => self.prove(account, signer, shown).await,
        }
    }
}

/// Whether a chain that is so far cannot take any more what is valid before a moment.
const fn is_late(at_s: u64, valid_before_s: u64) -> bool {
    at_s >= valid_before_s.saturating_add(LATE_S)
}

/// What a mined transaction of the buyer's came to.
fn verdict(receipt: &TxReceipt, terms: &Terms, payment: &Payment) -> Result<(), SettleError> {
    if receipt::pays(receipt, terms.token, payment.sender, &payment.transfers) {
        Ok(())
    } else if receipt::failed(receipt) {
        Err(SettleError::Declined)
    } else {
        // This transaction cannot succeed without paying: whoever says so is wrong somewhere.
        let hash = receipt.transaction_hash;
        tracing::error!(%hash, "a node's receipt contradicts the transaction");
        Err(SettleError::Unknown)
    }
}

/// What a transaction that the buyer sent came to: its memo has to name the challenge.
fn pushed(
    receipt: &TxReceipt,
    terms: &Terms,
    sender: Address,
    shown: &Shown<'_>,
) -> Result<Settled, SettleError> {
    let owed = owed(terms, shown.realm, shown.challenge);
    if receipt::pays(receipt, terms.token, sender, &owed) {
        Ok(Settled::new(hash_of(receipt)))
    } else {
        Err(SettleError::Declined)
    }
}

/// What is owed under a challenge, the transfer to the recipient named after it.
fn owed(terms: &Terms, realm: &str, challenge: &str) -> Vec<Transfer> {
    let mut owed = terms.transfers();
    if let Some(primary) = owed.first_mut() {
        primary.memo = primary.memo.or_else(|| Some(attribution(realm, challenge)));
    }
    owed
}

fn hash_of(receipt: &TxReceipt) -> String {
    receipt.transaction_hash.to_string()
}

impl From<Mismatch> for Rejection {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Malformed => Self::Malformed,
            Mismatch::Less => Self::Insufficient,
            Mismatch::Sender
            | Mismatch::Chain
            | Mismatch::Outlives
            | Mismatch::Lists
            | Mismatch::NotSponsored
            | Mismatch::FeeToken
            | Mismatch::Nonce
            | Mismatch::KeyAuthorization
            | Mismatch::Window
            | Mismatch::Gas
            | Mismatch::ExtraCalls
            | Mismatch::Calls
            | Mismatch::Memo => Self::Invalid,
        }
    }
}

impl Rail for TempoRail {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn rules(&self) -> &'static RailRules {
        &RULES
    }

    fn quote(&self, amount: &Amount, _payee: &Holder) -> Result<Object, Unquotable> {
        let token = self.settings.tokens.named(amount.asset()).ok_or(Unquotable::Asset)?;
        let splits = if amount.is_zero() { Vec::new() } else { self.settings.split(amount)? };
        let sponsored = self.settings.sponsor.is_some() && !amount.is_zero();
        let terms = Terms {
            amount: amount.clone(),
            token: token.address,
            recipient: self.settings.recipient,
            chain_id: self.nodes.chain_id(),
            memo: None,
            splits,
            sponsored,
            pull: true,
            push: self.settings.push && !sponsored,
        };
        Ok(terms.write())
    }

    fn check(&self, presented: &Presented, now: Timestamp) -> Result<Evidence, Rejection> {
        if presented.intent != "charge" {
            return Err(Rejection::Unsupported);
        }
        let (terms, means) = self.read(&presented.into())?;
        let chain = terms.chain_id.to_be_bytes();
        let (payer, proof, money) = match &means {
            Means::Transaction(payment) => {
                if payment.valid_before_s < now.as_secs().saturating_add(VALID_S_MIN) {
                    return Err(Rejection::Expired);
                }
                if let Some(sponsor) = self.sponsor().filter(|_| payment.wants_sponsor) {
                    sponsor.permits(payment.signed.tx(), now.as_secs())?;
                }
                let parts = [chain.as_slice(), payment.identity.as_slice()];
                let proof = Fingerprint::of("tempo transaction", &parts);
                (payment.sender, Some(proof), Money::Rail)
            }
            // A hash alone is known to everybody who watches the chain. Together with the memo it
            // has to carry, it is this challenge's, and nobody can use it up for another.
            Means::Hash { hash, sender } => {
                let memo = attribution(&presented.realm, &presented.challenge);
                let parts = [chain.as_slice(), hash.as_slice(), memo.as_slice()];
                (*sender, Some(Fingerprint::of("tempo transfer", &parts)), Money::Rail)
            }
            // A proof is for its challenge, which is answered once anyway.
            Means::Proof { account, signer: Signer::Account } => (*account, None, Money::None),
            Means::Proof { account, signer: Signer::Key(_) } => (*account, None, Money::Rail),
        };
        let clearing = Holder::new(METHOD).map_err(|_| Rejection::Foreign)?;
        let from = Account::new(AccountKind::Clearing, clearing, terms.amount.asset().clone());
        let inquiry = (money == Money::Rail).then(|| inquiry(presented));
        Ok(Evidence {
            payer: did(terms.chain_id, payer),
            payee: self.settings.payee.clone(),
            shares: self.shares(&terms)?,
            amount: terms.amount,
            from: Source::Account(from),
            proofs: proof
                .map(|fingerprint| Proof { fingerprint, keep_until: None })
                .into_iter()
                .collect(),
            money,
            inquiry,
        })
    }

    fn session(&self) -> Option<&dyn SessionRail> {
        let sessions: &Sessions = self.sessions.as_deref()?;
        Some(sessions)
    }

    fn subscription(&self) -> Option<&dyn SubscriptionRail> {
        let subscriptions: &Subscriptions = self.subscriptions.as_deref()?;
        Some(subscriptions)
    }

    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async { self.settled(&held.presented().into()).await })
    }

    fn inquire<'a>(&'a self, payment: &'a Booked) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async {
            if payment.intent == SUBSCRIPTION {
                // Without them nobody here knows what its order was.
                let subscriptions = self.subscriptions.as_ref().ok_or(SettleError::Unknown)?;
                return subscriptions.became(payment).await;
            }
            let kept = payment.inquiry.as_deref().unwrap_or_default();
            let kept: Inquiry = serde_json::from_str(kept).map_err(|_| SettleError::Unknown)?;
            let shown = Shown {
                realm: &kept.realm,
                challenge: &payment.challenge,
                expires_at: payment.expires_at,
                request: &kept.request,
                payload: &kept.payload,
                source: kept.source.as_deref(),
            };
            self.ask(&shown).await
        })
    }

    fn prepare_refund<'a>(
        &'a self,
        refund: &'a Refund,
    ) -> BoxFuture<'a, Result<Box<str>, NoRefund>> {
        Box::pin(self.order(refund))
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.give_back(refund))
    }
}

/// The credential for the books. Nobody can use it for anything but this payment.
fn inquiry(presented: &Presented) -> Box<str> {
    let kept = Inquiry {
        realm: presented.realm.clone(),
        request: presented.request.clone(),
        payload: presented.payload.clone(),
        source: presented.source.clone(),
    };
    // In-memory JSON with string keys always serialises.
    serde_json::to_string(&kept).unwrap_or_default().into()
}

impl From<Unreadable> for farthing_core::Unpayable {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed => Self::Malformed,
            Unreadable::Token => Self::Asset,
        }
    }
}
