//! The stages of a payment. Each is proof that everything before it was done.

use std::fmt;
use std::sync::Arc;

use farthing_ledger::{
    Account, AccountKind, Capture, ClaimRequest, Fingerprint, Holder, Leg, Money, Outcome, Payment,
    PaymentId, Proof, Settlement, Source, Subscribed, SubscribedPart, Subscription, Terms, TraceId,
    VoidReason, Voucher, VoucherClaim,
};
use farthing_money::{Amount, Timestamp};

use crate::{
    Answer, Ask, Evidence, Object, Quote, Rail, Rejection, ScopeDigest, Store, StoreError,
};

/// How long an `Idempotency-Key` is remembered.
const IDEMPOTENCY_KEPT: std::time::Duration = std::time::Duration::from_hours(24);

/// A credential that answers an offer of ours for this very request. What it pays with is still to
/// be believed.
#[derive(Clone)]
pub struct Presented {
    /// The wire protocol.
    pub protocol: &'static str,
    /// The payment method.
    pub method: String,
    /// The intent.
    pub intent: String,
    /// The protection space the challenge was issued for.
    pub realm: String,
    /// The challenge, which can be answered once.
    pub challenge: String,
    /// Names the payment's story.
    pub trace: TraceId,
    /// The route's name.
    pub route: Arc<str>,
    /// What was bought.
    pub scope: ScopeDigest,
    /// What the rail asked for, in its own words.
    pub request: Object,
    /// The rail's proof. A secret until it is spent.
    pub payload: Object,
    /// Who claims to pay.
    pub source: Option<String>,
    /// When the challenge expires.
    pub expires_at: Timestamp,
    /// The same, as the challenge spells it; signatures cover the spelling.
    pub expires: String,
    /// The SHA-256 of the credential.
    pub credential: Fingerprint,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("trace", &self.trace)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A credential that pays what the offer asked. No money has moved and nothing is recorded.
#[derive(Debug)]
pub struct Checked {
    presented: Presented,
    evidence: Evidence,
    /// The digest of the whole request.
    request: Fingerprint,
    terms: Terms,
    voucher: Option<VoucherClaim>,
    /// What it is to a subscription, and by what its period was paid for.
    subscribed: Option<(Subscribed, String)>,
}

impl Checked {
    /// Lets `rail` check what was presented.
    pub(crate) fn by(
        rail: &dyn Rail,
        presented: Presented,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Self, Rejection> {
        let evidence = rail.check(&presented, now)?;
        let request = request_of(&presented, ask);
        // Only money that lies in the book can be held until the handler has succeeded.
        let capture = match evidence.money {
            Money::Book => ask.terms.capture,
            Money::Rail | Money::None => Capture::Before,
        };
        let terms = Terms { capture, ..ask.terms };
        Ok(Self { presented, evidence, request, terms, voucher: None, subscribed: None })
    }

    /// A request that pays the price of `quote` with a voucher whose signature holds.
    ///
    /// A session's challenge is answered by many vouchers: the voucher identifies the payment, and together
    /// with what it is to buy it is the credential. The same voucher for the same request is the same
    /// payment, under whichever challenge it comes; for another request it is none.
    pub(crate) fn with_voucher(
        mut presented: Presented,
        claim: VoucherClaim,
        quote: &Quote,
        ask: &Ask,
    ) -> Self {
        let request = request_of(&presented, ask);
        let Voucher { channel, cumulative, signature } = &claim.voucher;
        let identity = channel.voucher(*cumulative);
        let parts = [signature.as_bytes(), claim.signer.as_bytes(), request.as_bytes()];
        presented.credential = Fingerprint::of("voucher credential", &parts);
        presented.trace = TraceId::new(presented.trace.begins_at(), entropy_of(&identity));
        let evidence = Evidence {
            payer: claim.signer.clone(),
            payee: quote.payee().clone(),
            amount: quote.amount().clone(),
            shares: Vec::new(),
            from: Source::Account(channel.account(quote.amount().asset())),
            proofs: Vec::new(),
            money: Money::Book,
            inquiry: None,
        };
        let terms = Terms { capture: Capture::Before, ..ask.terms };
        Self { presented, evidence, request, terms, voucher: Some(claim), subscribed: None }
    }

    /// A request that is answered within period `period` of a subscription, whose payer has proved to be
    /// the one who asks. It costs nothing.
    pub(crate) fn within(
        presented: Presented,
        subscription: &Subscription,
        period: u64,
        ask: &Ask,
    ) -> Self {
        let request = request_of(&presented, ask);
        let facts = &subscription.facts;
        let evidence = Evidence {
            payer: facts.payer.clone(),
            payee: facts.payee.clone(),
            amount: Amount::zero(facts.asset.clone()),
            shares: Vec::new(),
            from: facts.from.clone(),
            proofs: Vec::new(),
            money: Money::None,
            inquiry: None,
        };
        let terms = Terms { capture: Capture::Before, ..ask.terms };
        let part = Subscribed { id: facts.id, period, part: SubscribedPart::Use };
        let subscribed = Some((part, subscription.reference.clone().unwrap_or_default()));
        Self { presented, evidence, request, terms, voucher: None, subscribed }
    }

    /// What the rail calls the money that it is paid with, where that has moved before.
    pub(crate) fn reference(&self) -> Option<&str> {
        self.subscribed.as_ref().map(|(_, reference)| reference.as_str())
    }

    /// What the books are asked to do.
    ///
    /// The challenge identifies the payment: answering it twice, even with two different proofs, is
    /// answering it once.
    pub(crate) fn claim(&self) -> ClaimRequest {
        let Self { presented, evidence, .. } = self;
        let identity = match &self.voucher {
            Some(claim) => claim.voucher.channel.voucher(claim.voucher.cumulative),
            None => identity(presented.protocol, &presented.challenge),
        };
        let keep_until = Some(presented.expires_at);
        let mut proofs = vec![Proof { fingerprint: identity, keep_until }];
        proofs.extend(&evidence.proofs);
        ClaimRequest {
            payment: self.payment(identity),
            proofs,
            idempotency: self.idempotency(),
            legs: self.legs(),
            money: evidence.money,
            caps: Vec::new(),
            voucher: self.voucher.clone().map(Box::new),
        }
    }

    /// Everybody's part, the seller's first. A price of zero moves nothing.
    fn legs(&self) -> Vec<Leg> {
        let Evidence { payee, amount, shares, from, .. } = &self.evidence;
        let others = shares.iter().fold(0, |sum: u128, share| sum.saturating_add(share.atoms));
        let sellers = (payee, amount.atoms().saturating_sub(others));
        let parts = std::iter::once(sellers).chain(shares.iter().map(|it| (&it.payee, it.atoms)));
        let leg = |(payee, atoms): (&Holder, u128)| Leg {
            from: from.clone(),
            to: Account::new(AccountKind::Payable, payee.clone(), amount.asset().clone()),
            atoms,
        };
        parts.filter(|(_, atoms)| *atoms > 0).map(leg).collect()
    }

    fn payment(&self, identity: Fingerprint) -> Payment {
        let Self { presented, evidence, .. } = self;
        Payment {
            id: PaymentId::of(&identity),
            trace: presented.trace,
            protocol: presented.protocol.to_owned(),
            method: presented.method.clone(),
            intent: presented.intent.clone(),
            challenge: presented.challenge.clone(),
            amount: evidence.amount.clone(),
            payer: evidence.payer.clone(),
            payee: evidence.payee.clone(),
            route: presented.route.to_string(),
            scope: presented.scope.to_string(),
            credential: presented.credential,
            expires_at: presented.expires_at,
            request: presented.idempotency_key.as_ref().map(|_| self.request),
            inquiry: evidence.inquiry.clone(),
            terms: self.terms,
            voucher: None,
            decision: None,
            subscription: self.subscribed.as_ref().map(|(part, _)| *part),
        }
    }

    /// The client's key, scoped to who pays and to the route, so that nobody can use up another's.
    fn idempotency(&self) -> Option<Proof> {
        let key = self.presented.idempotency_key.as_deref()?;
        let parts = [self.evidence.payer.as_str(), &self.presented.route, key];
        Some(Proof {
            fingerprint: Fingerprint::of("idempotency key", &parts.map(str::as_bytes)),
            keep_until: Some(self.presented.expires_at.after(IDEMPOTENCY_KEPT)),
        })
    }

    pub(crate) fn money(&self) -> Money {
        self.evidence.money
    }

    pub(crate) fn held(self, payment: Payment, store: Arc<dyn Store>) -> Held {
        let right = Right::new(payment.id, store);
        Held { payment, presented: self.presented, right }
    }
}

/// The digest of the whole request, its body included.
fn request_of(presented: &Presented, ask: &Ask) -> Fingerprint {
    let body = ask.scope.body.unwrap_or_default();
    let scope = presented.scope.to_string();
    Fingerprint::of("request", &[scope.as_bytes(), &body])
}

/// Ten bytes that are as hard to foresee as the signature they come from.
pub(crate) fn entropy_of(identity: &Fingerprint) -> [u8; 10] {
    let mut entropy = [0; 10];
    entropy.copy_from_slice(identity.as_bytes().split_at(10).0);
    entropy
}

/// The fingerprint of answering one challenge of one protocol; the payment's id is made of it.
#[must_use]
pub fn identity(protocol: &str, challenge: &str) -> Fingerprint {
    Fingerprint::of("challenge", &[protocol.as_bytes(), challenge.as_bytes()])
}

/// A payment whose proof is consumed and whose pending entry is durable. Holding one is the right to
/// settle, or to find out how an earlier settlement ended.
///
/// From here on a crash loses nothing: whoever restarts finds the hold and asks the rail. Dropped
/// before it is posted or voided, it gives the right back: the same credential can be presented
/// again, and the rail is asked then.
pub struct Held {
    pub(crate) payment: Payment,
    presented: Presented,
    right: Right,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("payment", &self.payment.id).finish_non_exhaustive()
    }
}

impl Held {
    /// The key under which a rail settles at most once.
    #[must_use]
    pub const fn key(&self) -> PaymentId {
        self.payment.id
    }

    /// The payment.
    #[must_use]
    pub const fn payment(&self) -> &Payment {
        &self.payment
    }

    /// What was presented: the rail's request and proof.
    #[must_use]
    pub const fn presented(&self) -> &Presented {
        &self.presented
    }

    /// Uses the right up.
    pub(crate) fn into_payment(mut self) -> Payment {
        self.right.use_up();
        self.payment
    }
}

/// A payment whose money is held in the book until its handler has succeeded. Holding one is the right
/// to run the handler, once.
///
/// Dropped before it is settled or released, nobody was paid, and recovery gives the hold up.
pub struct Reserved(Held);

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("payment", &self.0.payment.id).finish_non_exhaustive()
    }
}

impl Reserved {
    pub(crate) const fn new(held: Held) -> Self {
        Self(held)
    }

    /// The payment.
    #[must_use]
    pub const fn payment(&self) -> &Payment {
        &self.0.payment
    }

    /// Says that the handler begins: from here on nobody can tell what was done, unless it is said.
    pub const fn begin(&mut self) {
        self.0.right.begun = true;
    }

    /// Moves the money, since the handler has succeeded. Its answer may be given once this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nobody was paid, and the answer must not be given.
    pub async fn settle(self, now: Timestamp) -> Result<Posted, StoreError> {
        let Self(held) = self;
        let store = held.right.store().ok_or(StoreError)?;
        let settlement = Settlement::new(held.payment.id.to_string(), now);
        store.post(held.key(), settlement.clone(), now).await?;
        let mut posted = Posted::new(held.into_payment(), settlement, store);
        // Its handler has run.
        posted.begin();
        Ok(posted)
    }

    /// Gives the money free, since the handler has failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; recovery gives it free later.
    pub async fn release(self, now: Timestamp) -> Result<(), StoreError> {
        let Self(held) = self;
        let store = held.right.store().ok_or(StoreError)?;
        // The right goes with the hold, or back to the book for recovery.
        store.void(held.key(), VoidReason::Failed, now).await
    }
}

/// The rail's word that the money moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The rail's reference: a transaction hash, an invoice id, a charge id.
    pub reference: String,
    /// What moving it cost us beside the price.
    pub cost: Option<Amount>,
    /// When it moved, by the rail's own clock; when it was written down, where that counts.
    pub at: Option<Timestamp>,
}

impl Settled {
    /// The rail's word, at no cost of ours.
    #[must_use]
    pub const fn new(reference: String) -> Self {
        Self { reference, cost: None, at: None }
    }

    /// The same, at this cost.
    #[must_use]
    pub fn costing(self, cost: Option<Amount>) -> Self {
        Self { cost, ..self }
    }

    /// The same, moved at this moment by the rail's clock.
    #[must_use]
    pub fn moved_at(self, at: Timestamp) -> Self {
        Self { at: Some(at), ..self }
    }

    /// What is written down of it.
    pub(crate) fn written(self, now: Timestamp) -> Settlement {
        let Self { reference, cost, at } = self;
        Settlement { cost, ..Settlement::new(reference, at.unwrap_or(now)) }
    }
}

/// A payment on the books, not yet delivered. Holding one is the right to deliver, once.
///
/// Dropped without [`Posted::delivered`], it gives the right back: the same credential can be
/// presented again and will be answered without paying again.
///
/// Nobody else can make one:
///
/// ```compile_fail,E0451
/// # use farthing_core::*;
/// # fn forge(payment: farthing_ledger::Payment, store: std::sync::Arc<dyn Store>) {
/// # let settlement = farthing_ledger::Settlement::new(String::new(), Default::default());
/// # let right = panic!();
/// let free_lunch = Posted { payment, settlement, right };
/// # }
/// ```
///
/// nor take one twice:
///
/// ```compile_fail,E0599
/// # use farthing_core::Posted;
/// fn twice(posted: Posted) -> (Posted, Posted) {
///     (posted.clone(), posted)
/// }
/// ```
pub struct Posted {
    payment: Payment,
    settlement: Settlement,
    right: Right,
}

impl Posted {
    pub(crate) fn new(payment: Payment, settlement: Settlement, store: Arc<dyn Store>) -> Self {
        let right = Right::new(payment.id, store);
        Self { payment, settlement, right }
    }

    /// The payment.
    #[must_use]
    pub const fn payment(&self) -> &Payment {
        &self.payment
    }

    /// The rail's word, which the receipt cites.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// Says that the handler begins: from here on nobody can tell what was done, unless it is said.
    /// Dropped now, the payment is one whose delivery was interrupted.
    pub const fn begin(&mut self) {
        self.right.begun = true;
    }

    /// Notes that the answer was given, which uses the right to deliver up. What is kept of it can be
    /// given again.
    pub fn delivered(mut self, outcome: Outcome, answer: Option<Answer>, now: Timestamp) {
        if let Some(store) = self.right.use_up() {
            store.deliver(self.payment.id, outcome, answer, now);
        }
    }

    /// Notes that the answer will be given, and waits until that is durable. What must not happen twice is
    /// answered only then: whatever dies afterwards, the book knows that nothing is owed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the answer must not be given. The delivery counts as interrupted, unless it was
    /// noted after all.
    pub async fn recorded(
        mut self,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let store = self.right.store().ok_or(StoreError)?;
        store.record_delivery(self.payment.id, outcome, answer, now).await?;
        self.right.use_up();
        Ok(())
    }

    /// Notes that the handler failed: the answer is still owed.
    pub fn failed(mut self, outcome: Outcome, now: Timestamp) {
        if let Some(store) = self.right.use_up() {
            store.fail(self.payment.id, outcome, now);
        }
    }
}

impl fmt::Debug for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posted").field("payment", &self.payment.id).finish_non_exhaustive()
    }
}

/// The right to act on a payment, alone. Dropped before it is used up, it is given back.
pub(crate) struct Right {
    payment: PaymentId,
    store: Option<Arc<dyn Store>>,
    begun: bool,
}

impl Right {
    pub(crate) fn new(payment: PaymentId, store: Arc<dyn Store>) -> Self {
        Self { payment, store: Some(store), begun: false }
    }

    pub(crate) const fn payment(&self) -> PaymentId {
        self.payment
    }

    fn store(&self) -> Option<Arc<dyn Store>> {
        self.store.clone()
    }

    fn use_up(&mut self) -> Option<Arc<dyn Store>> {
        self.store.take()
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        if let Some(store) = self.use_up() {
            store.give_back(self.payment, self.begun);
        }
    }
}
