//! The suite for [`Store`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Answer, Store};
use farthing_ledger::{
    Account, AccountKind, Audit, Cap, Claim, ClaimError, ClaimRequest, Earned, Entry, EntryError,
    EraseError, Erased, Erasure, ErasureKey, Event, Fingerprint, Holder, Leg, Money, Open, Outcome,
    Payment, PaymentId, Proof, Record, RefundError, RefundRequest, Settlement, Source, SpendingKey,
    StillOpen, Terms, TraceId, VoidReason, Way, Whose, audit, is_pseudonym,
};
use farthing_money::{Amount, AssetId, Timestamp};
use http::{HeaderMap, HeaderValue};

mod budgets;
mod sessions;
mod subscriptions;

pub use budgets::{
    a_budget_is_held_until_the_end_is_known, a_budget_is_not_passed_by_a_race, allowed_purchase,
    who_is_frozen_claims_nothing,
};
pub use sessions::{
    a_deposit_under_way_survives_a_restart, a_request_to_close_survives_a_restart,
    a_session_lives_through_restarts, a_stream_is_paid_for_over_a_restart, channel, closing,
    deposits_are_conserved_in_a_race, of_vouchers_at_once_the_highest_counts, opening, top_up,
    voucher_purchase,
};

pub use subscriptions::{
    a_subscription_lives_through_restarts, charge, of_renewals_at_once_one_is_made, subscription,
    within,
};

/// The instant at which every story begins.
pub const START: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

/// A place in which one book is kept, over any number of restarts.
pub trait Stores {
    /// Opens the book, as a freshly started process would.
    fn open(&self, now: Timestamp) -> Opened;

    /// Every record of the book, as it would be found after a crash at this moment.
    fn journal(&self) -> Vec<Record>;
}

/// An open store and the means to close it.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// How it is closed, where it needs to be.
    pub close: Option<Box<dyn FnOnce() + Send>>,
}

impl Opened {
    /// A store that needs no closing.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, close: None }
    }

    /// A store that `close` closes, so that the book can be opened again.
    #[must_use]
    pub fn closed_by(store: Arc<dyn Store>, close: impl FnOnce() + Send + 'static) -> Self {
        Self { store, close: Some(Box::new(close)) }
    }
}

/// One story: a book, and what happens to it.
pub struct Story<'a> {
    stores: &'a dyn Stores,
    opened: Option<Opened>,
    /// The time in the story.
    pub now: Timestamp,
}

impl<'a> Story<'a> {
    /// Opens a book in which alice has 1,000 and a key.
    pub async fn begin(stores: &'a dyn Stores) -> Self {
        let story = Self { stores, opened: Some(stores.open(START)), now: START };
        let attach = Entry::AttachKey { key: key("alice"), holder: holder("alice") };
        assert_eq!(story.enter(attach).await, Ok(true));
        assert_eq!(story.fund("alice", 1_000, "opening").await, Ok(true));
        story
    }

    /// Goes on with a book that was closed.
    pub fn resume(stores: &'a dyn Stores) -> Self {
        Self { stores, opened: Some(stores.open(START)), now: START }
    }

    /// The open store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.opened.as_ref().unwrap().store
    }

    /// Closes the book and opens it again.
    pub fn restart(&mut self) {
        self.put_away();
        self.opened = Some(self.stores.open(self.now));
    }

    /// Closes the book.
    pub fn close(mut self) {
        self.put_away();
    }

    fn put_away(&mut self) {
        let mut opened = self.opened.take().unwrap();
        let close = opened.close.take();
        drop(opened);
        if let Some(close) = close {
            close();
        }
    }

    /// Makes an entry.
    ///
    /// # Errors
    ///
    /// What the store answers.
    pub async fn enter(&self, entry: Entry) -> Result<bool, EntryError> {
        self.store().enter(entry, self.now).await
    }

    /// Funds an account.
    ///
    /// # Errors
    ///
    /// What the store answers.
    pub async fn fund(&self, name: &str, atoms: u128, reference: &str) -> Result<bool, EntryError> {
        let reference = reference.to_owned();
        self.enter(Entry::Fund { holder: holder(name), amount: usd(atoms), reference }).await
    }

    /// Claims a payment and says in a word what came of it.
    pub async fn claim(&self, request: ClaimRequest) -> String {
        match self.store().claim(request, self.now).await {
            Ok(claim) => word(&claim).into(),
            Err(error) => format!("{error:?}"),
        }
    }

    /// Posts the payment called `name`.
    pub async fn post(&self, name: &str) {
        let settlement = Settlement::new(format!("tx {name}"), self.now);
        self.store().post(payment(name), settlement, self.now).await.unwrap();
    }

    /// Delivers the payment called `name`.
    pub fn deliver(&self, name: &str) {
        self.store().deliver(payment(name), Outcome { status: 200 }, None, self.now);
    }

    /// Ends the story: the journal must be sound. What was noted without waiting is in it.
    pub fn end(mut self) -> Audit {
        self.restart();
        audit(&self.stores.journal()).unwrap()
    }
}

/// A request to buy something for `atoms` with challenge `name`, from alice's account.
#[must_use]
pub fn purchase(name: &str, atoms: u128) -> ClaimRequest {
    let fingerprint = challenge(name);
    let expires_at = START.after(Duration::from_mins(5));
    let seller = Account::new(AccountKind::Payable, holder("seller"), asset());
    ClaimRequest {
        payment: Payment {
            id: PaymentId::of(&fingerprint),
            trace: TraceId::new(START, trace_entropy(name)),
            protocol: "mpp".into(),
            method: "prepaid".into(),
            intent: "charge".into(),
            challenge: name.into(),
            amount: usd(atoms),
            payer: "alice".into(),
            payee: holder("seller"),
            route: "weather".into(),
            scope: "0".repeat(32),
            credential: Fingerprint::of("credential", &[name.as_bytes()]),
            expires_at,
            request: None,
            inquiry: None,
            terms: Terms { repeatable: true, ..Terms::default() },
            voucher: None,
            decision: None,
            subscription: None,
        },
        proofs: vec![Proof { fingerprint, keep_until: Some(expires_at) }],
        idempotency: None,
        legs: vec![Leg { from: Source::Key(key("alice")), to: seller, atoms }],
        money: Money::Book,
        caps: vec![],
        voucher: None,
    }
}

/// The same on a rail: the money is not in the book.
#[must_use]
pub fn rail_purchase(name: &str, atoms: u128) -> ClaimRequest {
    let mut request = purchase(name, atoms);
    let clearing = Account::new(AccountKind::Clearing, holder("test"), asset());
    request.money = Money::Rail;
    request.legs[0].from = Source::Account(clearing);
    request
}

pub(crate) fn challenge(name: &str) -> Fingerprint {
    Fingerprint::of("challenge", &[b"mpp", name.as_bytes()])
}

fn trace_entropy(name: &str) -> [u8; 10] {
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&challenge(name).as_bytes()[..10]);
    entropy
}

/// The payment that [`purchase`] makes for `name`.
#[must_use]
pub fn payment(name: &str) -> PaymentId {
    PaymentId::of(&challenge(name))
}

/// What is paid in these stories.
///
/// # Panics
///
/// Never: its name is one.
#[must_use]
pub fn asset() -> AssetId {
    AssetId::new("usd").unwrap()
}

fn usd(atoms: u128) -> Amount {
    Amount::new(asset(), atoms)
}

pub(crate) fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

fn key(name: &str) -> SpendingKey {
    SpendingKey(*Fingerprint::of("key", &[name.as_bytes()]).as_bytes())
}

/// What alice can still spend and what the seller has earned.
fn sums(audit: &Audit) -> (u128, u128) {
    let balance =
        |name: &str| audit.accounts.get(&name.parse().unwrap()).copied().unwrap_or_default();
    (balance("prepaid/alice/usd").available(), balance("payable/seller/usd").credits_posted)
}

/// Makes a test of every story of the suite. `$stores` is an expression that makes a fresh
/// [`Stores`].
#[macro_export]
macro_rules! store_suite {
    ($stores:expr) => {
        $crate::store_suite!(@each $stores;
            a_claim_moves_money_that_lies_in_the_book
            a_claim_on_a_rail_waits_for_the_rail
            a_refused_claim_claims_nothing
            the_answers_survive_a_restart
            an_answer_is_kept
            the_book_can_be_followed
            a_payer_is_erased_and_the_book_stays_whole
            what_is_old_is_erased_and_what_is_open_stays
            an_erasure_under_load_loses_nothing
            what_must_not_happen_twice_is_begun_once
            what_is_unfinished_is_known
            whoever_holds_a_payment_is_alone_with_it
            a_used_proof_stays_used
            a_proof_without_end_is_remembered_for_ever
            an_idempotency_key_buys_once
            of_many_concurrent_claims_one_is_fresh
            different_payments_do_not_disturb_each_other
            an_account_is_not_overdrawn_by_a_race
            a_cap_is_not_passed_by_a_race
            a_budget_is_not_passed_by_a_race
            a_budget_is_held_until_the_end_is_known
            who_is_frozen_claims_nothing
            every_acknowledged_claim_is_in_the_journal
            a_caller_that_went_away_leaves_no_payment_behind
            entries_are_made_once
            the_same_requests_make_the_same_journal
            a_session_lives_through_restarts
            of_vouchers_at_once_the_highest_counts
            deposits_are_conserved_in_a_race
            a_request_to_close_survives_a_restart
            a_deposit_under_way_survives_a_restart
            a_stream_is_paid_for_over_a_restart
            a_subscription_lives_through_restarts
            of_renewals_at_once_one_is_made
        );
    };
    (@each $stores:expr; $($story:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $story() {
            $crate::store::$story(&$stores).await;
        }
    )*};
}

/// Money in the book moves with the claim, once.
pub async fn a_claim_moves_money_that_lies_in_the_book(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("a", 5)).await, "fresh");
    story.deliver("a");
    assert_eq!(story.claim(purchase("a", 5)).await, "delivered");
    let audit = story.end();
    assert_eq!((sums(&audit), audit.delivered), ((995, 5), 1));
}

/// Money on a rail counts when the rail says so, and not when it declines.
pub async fn a_claim_on_a_rail_waits_for_the_rail(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    for name in ["paid", "declined", "unknown"] {
        assert_eq!(story.claim(rail_purchase(name, 5)).await, "fresh");
    }
    story.post("paid").await;
    story.post("paid").await;
    let declined = payment("declined");
    story.store().void(declined, VoidReason::Declined, story.now).await.unwrap();
    story.post("declined").await;
    assert_eq!(story.claim(rail_purchase("declined", 5)).await, "spent");
    let audit = story.end();
    assert_eq!((sums(&audit).1, audit.undelivered, audit.voided, audit.pending), (5, 1, 1, 1));
}

/// A refusal writes nothing, and the same credential may come again.
pub async fn a_refused_claim_claims_nothing(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    let before = stores.journal().len();
    assert_eq!(story.claim(purchase("dear", 1_001)).await, "Overdrawn");
    let mut strange = purchase("strange", 1);
    strange.legs[0].from = Source::Key(key("mallory"));
    assert_eq!(story.claim(strange).await, "UnknownKey");
    assert_eq!(stores.journal().len(), before);
    story.fund("alice", 1, "more").await.unwrap();
    assert_eq!(story.claim(purchase("dear", 1_001)).await, "fresh");
    assert_eq!(sums(&story.end()), (0, 1_001));
}

/// Fresh, pending, unsettled, undelivered and delivered are told apart, before and after a restart.
pub async fn the_answers_survive_a_restart(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("undelivered", 1)).await, "fresh");
    assert_eq!(story.claim(purchase("spent", 1)).await, "fresh");
    story.deliver("spent");
    assert_eq!(story.claim(rail_purchase("pending", 1)).await, "fresh");
    story.restart();
    assert_eq!(story.claim(purchase("undelivered", 1)).await, "undelivered");
    assert_eq!(story.claim(purchase("spent", 1)).await, "delivered");
    assert_eq!(story.claim(rail_purchase("pending", 1)).await, "unsettled");
    assert_eq!(story.claim(rail_purchase("pending", 1)).await, "pending");
    assert_eq!(story.claim(purchase("fresh", 1)).await, "fresh");
    story.end();
}

/// An answer that was kept is given again as it was, also after a restart, until its credential expires.
pub async fn an_answer_is_kept(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let mut fields = HeaderMap::new();
    fields.insert("content-type", HeaderValue::from_static("text/plain"));
    fields.append("link", HeaderValue::from_static("</a>; rel=\"x\", <b: c>"));
    fields.append("link", HeaderValue::from_bytes(b"\xe9").unwrap());
    let answer = Answer { status: 201, fields, body: b"sunny\r\n\x00".to_vec() };
    for name in ["kept", "long"] {
        assert_eq!(story.claim(purchase(name, 1)).await, "fresh");
    }
    let outcome = Outcome { status: 201 };
    story.store().deliver(payment("kept"), outcome, Some(answer.clone()), story.now);
    story.store().deliver(payment("long"), outcome, None, story.now);
    // Noted once.
    let other = Answer { status: 500, ..answer.clone() };
    story.store().deliver(payment("kept"), outcome, Some(other), story.now);
    for _ in 0..2 {
        for (name, kept) in [("kept", Some(&answer)), ("long", None), ("never", None)] {
            assert_eq!(story.store().answer(payment(name)).await.unwrap().as_ref(), kept, "{name}");
        }
        assert_eq!(story.claim(purchase("kept", 1)).await, "delivered");
        assert!(story.store().is_claimed(challenge("kept")).await.unwrap());
        assert!(!story.store().is_claimed(challenge("never")).await.unwrap());
        story.restart();
    }
    story.end();
}

/// What is unfinished is known, with its facts, before and after a restart; and one at a time takes up
/// what nobody knows about.
pub async fn what_is_unfinished_is_known(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    for name in ["settling", "posted"] {
        assert_eq!(story.claim(rail_purchase(name, 1)).await, "fresh");
    }
    story.post("posted").await;
    for name in ["delivering", "failed", "done"] {
        assert_eq!(story.claim(purchase(name, 1)).await, "fresh");
    }
    story.store().fail(payment("failed"), Outcome { status: 503 }, story.now);
    story.deliver("done");
    let known = async |story: &Story<'_>| -> BTreeMap<String, Open> {
        let work = story.store().work().await.unwrap();
        work.payments.into_iter().map(|it| (it.payment.challenge, it.open)).collect()
    };
    let expect = |all: &[(&str, Open)]| {
        let all = all.iter().map(|(name, open)| ((*name).to_owned(), *open));
        all.collect::<BTreeMap<_, _>>()
    };
    // What somebody is at is nobody else's work.
    assert_eq!(known(&story).await, expect(&[("failed", Open::Failed)]));
    assert!(!story.store().take_up(payment("settling")).await.unwrap(), "somebody is at it");
    story.restart();
    let restarted = expect(&[
        ("delivering", Open::Interrupted),
        ("failed", Open::Failed),
        ("posted", Open::Interrupted),
        ("settling", Open::Unsettled),
    ]);
    assert_eq!(known(&story).await, restarted);
    assert!(story.store().take_up(payment("settling")).await.unwrap());
    assert!(!story.store().take_up(payment("settling")).await.unwrap());
    assert_eq!(story.claim(rail_purchase("settling", 1)).await, "pending");
    story.store().give_back(payment("settling"), false);
    assert!(!story.store().take_up(payment("posted")).await.unwrap(), "its end is known");
    assert_eq!(story.claim(rail_purchase("settling", 1)).await, "unsettled");
    story.end();
}

/// What is durable can be read beside the book: page by page, story by story; and so can the notes of
/// those who follow it.
pub async fn the_book_can_be_followed(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    for name in ["a", "b"] {
        assert_eq!(story.claim(purchase(name, 1)).await, "fresh");
    }
    story.deliver("a");
    // What does not wait is written with what comes after it.
    story.store().note("webhooks", "1".into()).await.unwrap();
    for _ in 0..2 {
        let all = stores.journal();
        let page = async |from, limit| story.store().records(from, limit).await.unwrap();
        assert_eq!(page(1, u32::MAX).await, all);
        assert_eq!(page(2, 2).await, all[1..3]);
        assert!(page(u64::try_from(all.len()).unwrap() + 1, 9).await.is_empty());
        let trace = purchase("a", 1).payment.trace;
        let of_trace: Vec<_> = all.iter().filter(|it| it.trace == Some(trace)).cloned().collect();
        assert!(of_trace.len() >= 2);
        assert_eq!(story.store().story(trace).await.unwrap(), of_trace);
        story.restart();
    }
    let noted = async |name: &str| story.store().noted(name).await.unwrap();
    assert_eq!(noted("webhooks").await.as_deref(), Some("1"));
    assert_eq!(noted("other").await, None);
    story.store().note("webhooks", "2".into()).await.unwrap();
    assert_eq!(noted("webhooks").await.as_deref(), Some("2"));
    story.end();
}

/// Others buy while somebody is erased: whatever was acknowledged is there, whole.
pub async fn an_erasure_under_load_loses_nothing(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("all", 1_000)).await, "fresh");
    story.deliver("all");
    story.store().work().await.unwrap();
    let mut buyers = Vec::new();
    for buyer in 0..4 {
        let store = Arc::clone(story.store());
        buyers.push(tokio::spawn(async move {
            for turn in 0..25 {
                let name = format!("{buyer} {turn}");
                let mut request = rail_purchase(&name, 1);
                request.payment.payer = format!("buyer-{buyer}");
                assert_eq!(word(&store.claim(request, START).await.unwrap()), "fresh");
                let settlement = Settlement::new(format!("tx {name}"), START);
                store.post(payment(&name), settlement, START).await.unwrap();
                store.deliver(payment(&name), Outcome { status: 200 }, None, START);
            }
        }));
    }
    let erased = story.store().erase(erasure("alice", "case 17"), story.now).await.unwrap();
    assert_eq!((erased.payments, erased.holders), (1, 1));
    for buyer in buyers {
        buyer.await.unwrap();
    }
    assert_eq!(mentions(stores, "alice"), 0);
    assert_eq!(mentions(stores, "\"payer\":\"buyer-"), 100);
    let audit = story.end();
    assert_eq!((audit.delivered, sums(&audit).1), (101, 1_100));
}

/// Asks to erase the payer called `name`.
#[must_use]
pub fn erasure(name: &str, reason: &str) -> Erasure {
    let whose = Whose::Payer { name: name.to_owned(), key: None };
    Erasure { whose, reason: reason.to_owned(), key: ErasureKey([7; 32]) }
}

/// How often a text stands in what is kept of a book.
fn mentions(stores: &impl Stores, what: &str) -> usize {
    let lines = stores.journal();
    lines.iter().map(Record::to_json).filter(|line| line.contains(what)).count()
}

/// Who bought is not known any more, what was bought is: the accounts add up as before, and the book goes
/// on, at once and after a restart. Whoever has something open is not erased.
pub async fn a_payer_is_erased_and_the_book_stays_whole(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("a", 5)).await, "fresh");
    let body = b"for alice alone".to_vec();
    let answer = Answer { status: 200, fields: HeaderMap::new(), body };
    let outcome = Outcome { status: 200 };
    story.store().deliver(payment("a"), outcome, Some(answer), story.now);
    let mut other = rail_purchase("other", 7);
    other.payment.payer = "bob".into();
    assert_eq!(story.claim(other).await, "fresh");
    story.post("other").await;
    story.deliver("other");

    let erase = async |story: &Story<'_>, name: &str, reason: &str| {
        story.store().erase(erasure(name, reason), story.now).await
    };
    let account = || Account::new(AccountKind::Prepaid, holder("alice"), asset());
    let refused = erase(&story, "alice", "case 17").await;
    assert_eq!(refused, Err(EraseError::Open(vec![StillOpen::Balance(account())])));
    assert_eq!(story.claim(purchase("rest", 995)).await, "fresh");
    let refused = erase(&story, "alice", "case 17").await;
    assert_eq!(refused, Err(EraseError::Open(vec![StillOpen::Payment(payment("rest"))])));
    story.deliver("rest");
    let earned = Earned {
        payment: payment("rest"),
        trace: purchase("rest", 995).payment.trace,
        payee: holder("seller"),
        given_back: 0,
    };
    let reason = "alice has complained".to_owned();
    let hold = Entry::HoldPayout { payment: earned.clone(), reason: reason.clone() };
    assert_eq!(story.enter(hold).await, Ok(true));
    let refused = erase(&story, "alice", "case 17").await;
    assert_eq!(refused, Err(EraseError::Open(vec![StillOpen::PayoutHeld(payment("rest"))])));
    let release = Entry::ReleasePayout { payment: earned.clone(), reason };
    assert_eq!(story.enter(release).await, Ok(true));
    assert_eq!(erase(&story, "alice", "Alice asks for it").await, Err(EraseError::Named));
    assert_eq!(erase(&story, "mallory", "case 17").await, Err(EraseError::Unknown));
    assert!(mentions(stores, "alice") > 0, "the control");
    assert!(story.store().answer(payment("a")).await.unwrap().is_some(), "the control");

    let before = audit(&stores.journal()).unwrap();
    let erased = erase(&story, "alice", "case 17").await.unwrap();
    let Erased { payments, holders, keys, rows, wiped: _ } = erased;
    assert_eq!((payments, holders, keys, rows), (2, 1, 1, 6), "{erased:?}");
    for _ in 0..2 {
        assert_eq!(mentions(stores, "alice"), 0);
        assert_eq!(mentions(stores, "bob"), 1, "nobody else is touched");
        let after = audit(&stores.journal()).unwrap();
        assert_eq!(after.totals, before.totals);
        assert_eq!(after.accounts.len(), before.accounts.len());
        assert_eq!((after.delivered, sums(&after).1), (3, 1_007));
        assert_eq!(story.store().answer(payment("a")).await.unwrap(), None);
        assert_eq!(story.claim(purchase("a", 5)).await, "spent");
        let mut paid = rail_purchase("other", 7);
        paid.payment.payer = "bob".into();
        assert_eq!(story.claim(paid).await, "delivered");
        assert_eq!(erase(&story, "alice", "case 17").await, Err(EraseError::Unknown));
        assert_eq!(story.fund("alice", 1_000, "opening").await, Err(EntryError::ReferenceTaken));
        story.restart();
    }
    // What is left of a story is what a seller and a court need.
    let told = stores.journal();
    let told = told.iter().find_map(|record| {
        if let Event::Claimed { payment: facts, .. } = &record.event
            && facts.id == payment("a")
        {
            return Some((facts, &record.transfers));
        }
        None
    });
    let (facts, transfers) = told.unwrap();
    assert!(is_pseudonym(&facts.payer), "{}", facts.payer);
    assert_eq!((facts.amount.clone(), transfers[0].atoms), (usd(5), 5));
    assert_eq!((&*facts.challenge, &*facts.route), ("a", "weather"));
    // Its seller is paid out, and nobody is given anything back.
    let amount = usd(995);
    let pay_out = Entry::PayOut { payment: earned, amount, reference: "march".into() };
    assert_eq!(story.enter(pay_out).await, Ok(true));
    let back = RefundRequest::new(facts, usd(5), account(), Way::Back, "late");
    let refused = story.store().refund(back, story.now).await;
    assert_eq!(refused.map(|_| ()), Err(RefundError::Erased));
    // Somebody new may have the old name, and no key of the old one's spends their account.
    assert_eq!(story.fund("alice", 9, "second").await, Ok(true));
    assert_eq!(story.claim(purchase("new", 9)).await, "UnknownKey");
    let attach = Entry::AttachKey { key: key("alice"), holder: holder("alice") };
    assert_eq!(story.enter(attach).await, Ok(true));
    assert_eq!(story.claim(purchase("new", 9)).await, "fresh");
    story.deliver("new");
    story.end();
}

/// What was finished before a moment is erased, whoever has paid; what is open stays, and so does an
/// account with money in it.
pub async fn what_is_old_is_erased_and_what_is_open_stays(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    for (name, payer) in [("done", "bob"), ("open", "carol"), ("late", "dave")] {
        let mut request = rail_purchase(name, 5);
        request.payment.payer = payer.into();
        request.proofs[0].keep_until = Some(START.after(Duration::from_hours(100)));
        if name == "late" {
            story.now = START.after(Duration::from_hours(30));
        }
        assert_eq!(story.claim(request).await, "fresh");
        if name != "open" {
            story.post(name).await;
            story.deliver(name);
        }
    }
    assert_eq!(story.claim(purchase("prepaid", 1)).await, "fresh");
    story.deliver("prepaid");
    story.store().work().await.unwrap();
    let before = |hours| Erasure {
        whose: Whose::Before(START.after(Duration::from_hours(hours))),
        reason: "over ten years old".into(),
        key: ErasureKey([9; 32]),
    };
    let nothing = Erasure { whose: Whose::Before(START), ..before(1) };
    assert_eq!(story.store().erase(nothing, story.now).await.unwrap().rows, 0);
    let erased = story.store().erase(before(1), story.now).await.unwrap();
    assert_eq!((erased.payments, erased.holders, erased.rows), (1, 0, 1), "{erased:?}");
    let known = |name| mentions(stores, &format!("\"payer\":\"{name}\""));
    assert_eq!((known("bob"), known("carol"), known("dave"), known("alice")), (0, 1, 1, 1));
    assert_eq!(story.store().erase(before(1), story.now).await.unwrap().rows, 0, "once");
    story.restart();
    // An account is erased when nothing is in it any more, and its key with it.
    let later = story.store().erase(before(31), story.now).await.unwrap();
    assert_eq!((later.payments, later.holders, later.keys), (2, 0, 0), "{later:?}");
    assert_eq!((known("dave"), known("alice")), (0, 0));
    assert!(mentions(stores, "prepaid/alice/usd") > 0);
    assert_eq!(story.claim(purchase("rest", 999)).await, "fresh");
    story.deliver("rest");
    story.store().work().await.unwrap();
    let last = story.store().erase(before(31), story.now).await.unwrap();
    assert_eq!((last.payments, last.holders, last.keys), (1, 1, 1), "{last:?}");
    assert_eq!((mentions(stores, "alice"), known("carol")), (0, 1));
    story.end();
}

/// What must not happen twice is begun once, whatever happens in between.
pub async fn what_must_not_happen_twice_is_begun_once(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let once = |name: &str| {
        let mut request = purchase(name, 1);
        request.payment.terms.repeatable = false;
        request
    };
    for name in ["crash", "begun", "failed"] {
        assert_eq!(story.claim(once(name)).await, "fresh");
    }
    story.store().give_back(payment("begun"), true);
    assert_eq!(story.claim(once("begun")).await, "interrupted");
    story.store().fail(payment("failed"), Outcome { status: 503 }, story.now);
    assert_eq!(story.claim(once("failed")).await, "undelivered");
    story.store().fail(payment("failed"), Outcome { status: 503 }, story.now);
    story.restart();
    assert_eq!(story.claim(once("crash")).await, "interrupted");
    assert_eq!(story.claim(once("failed")).await, "undelivered");
    let claimed_anew = story.claim(purchase("crash", 1)).await;
    assert_eq!(claimed_anew, "interrupted", "what was undertaken then counts");
    assert_eq!(story.claim(purchase("again", 1)).await, "fresh");
    story.restart();
    assert_eq!(story.claim(once("again")).await, "undelivered", "it may happen twice");
    story.end();
}

/// At any moment at most one caller holds the right to settle, or to deliver.
pub async fn whoever_holds_a_payment_is_alone_with_it(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("a", 1)).await, "fresh");
    assert_eq!(story.claim(purchase("a", 1)).await, "pending");
    story.store().give_back(payment("a"), false);
    assert_eq!(story.claim(purchase("a", 1)).await, "undelivered");
    assert_eq!(story.claim(purchase("a", 1)).await, "pending");
    let mut other = purchase("a", 1);
    other.payment.credential = Fingerprint::of("credential", &[b"other"]);
    assert_eq!(story.claim(other).await, "spent");
    assert_eq!(story.claim(rail_purchase("b", 1)).await, "fresh");
    assert_eq!(story.claim(rail_purchase("b", 1)).await, "pending");
    story.store().give_back(payment("b"), false);
    assert_eq!(story.claim(rail_purchase("b", 1)).await, "unsettled");
    assert_eq!(story.claim(rail_purchase("b", 1)).await, "pending");
    assert_eq!(sums(&story.end()), (999, 1));
}

/// a proof is refused at its expiry, past it, past a restart, and when the clock goes back.
pub async fn a_used_proof_stays_used(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    assert_eq!(story.claim(purchase("a", 1)).await, "fresh");
    story.deliver("a");
    for seconds in [299, 300, 301, 430, 4_000, 100_000] {
        story.now = START.after(Duration::from_secs(seconds));
        // While the credential could be good, its answer can be given again; nothing is bought anew.
        let bought = if seconds < 300 { "delivered" } else { "spent" };
        assert_eq!(story.claim(purchase("a", 1)).await, bought, "{seconds} s");
        // Other business lets a store forget what it may forget.
        assert_eq!(story.claim(later_purchase(seconds)).await, "fresh");
        story.now = START;
        let again = story.claim(purchase("a", 1)).await;
        assert!(["delivered", "spent"].contains(&again.as_str()), "clock set back: {again}");
        story.now = START.after(Duration::from_secs(seconds));
        story.restart();
        assert_eq!(story.claim(purchase("a", 1)).await, bought, "{seconds} s, restarted");
        story.now = START;
        let again = story.claim(purchase("a", 1)).await;
        assert!(["delivered", "spent"].contains(&again.as_str()), "restarted, set back: {again}");
    }
    story.end();
}

fn later_purchase(seconds: u64) -> ClaimRequest {
    let mut request = purchase(&seconds.to_string(), 1);
    request.proofs[0].keep_until = Some(START.after(Duration::from_secs(seconds + 300)));
    request
}

/// A transaction hash, say, must never be accepted again.
pub async fn a_proof_without_end_is_remembered_for_ever(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let with_hash = |name: &str| {
        let mut request = rail_purchase(name, 1);
        let fingerprint = Fingerprint::of("transaction", &[b"0xabc"]);
        request.proofs.push(Proof { fingerprint, keep_until: None });
        request
    };
    assert_eq!(story.claim(with_hash("a")).await, "fresh");
    assert_eq!(story.claim(with_hash("b")).await, "spent");
    story.now = START.after(Duration::from_hours(24 * 365));
    story.restart();
    assert_eq!(story.claim(with_hash("c")).await, "spent");
    assert_eq!(story.claim(rail_purchase("b", 1)).await, "fresh", "b itself was never claimed");
    story.end();
}

/// one payment per key, and a refused one is not claimed.
pub async fn an_idempotency_key_buys_once(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let keyed = |name: &str| {
        let fingerprint = Fingerprint::of("idempotency", &[b"order 1"]);
        let keep_until = Some(START.after(Duration::from_hours(24)));
        let idempotency = Some(Proof { fingerprint, keep_until });
        ClaimRequest { idempotency, ..purchase(name, 1) }
    };
    assert_eq!(story.claim(keyed("a")).await, "fresh");
    assert_eq!(story.claim(keyed("b")).await, "pending", "it is a's");
    let misused = |name: &str| {
        let mut request = keyed(name);
        request.payment.request = Some(Fingerprint::of("request", &[b"other"]));
        request
    };
    assert_eq!(story.claim(misused("b")).await, "KeyMisused");
    story.restart();
    assert_eq!(story.claim(keyed("b")).await, "Duplicate", "nobody is at it");
    story.deliver("a");
    assert_eq!(story.claim(keyed("b")).await, "delivered", "a's answer");
    story.restart();
    assert_eq!(story.claim(keyed("b")).await, "delivered");
    assert_eq!(story.claim(misused("b")).await, "KeyMisused");
    story.now = START.after(Duration::from_hours(25));
    assert_eq!(story.claim(keyed("b")).await, "Duplicate", "its answer is gone");
    assert_eq!(story.claim(purchase("b", 1)).await, "fresh");
    assert_eq!(sums(&story.end()), (998, 2));
}

/// 50 rounds of up to 64 callers with one credential.
pub async fn of_many_concurrent_claims_one_is_fresh(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    for round in 0..50 {
        let name = format!("round {round}");
        let answers = race(&story, (0..64).map(|_| purchase(&name, 1))).await;
        assert_eq!(answers["fresh"], 1, "{answers:?}");
        assert_eq!(answers["pending"], 63, "{answers:?}");
    }
    assert_eq!(sums(&story.end()), (950, 50));
}

/// legitimate payments at the same instant are all served.
pub async fn different_payments_do_not_disturb_each_other(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    let answers = race(&story, (0..200).map(|at| purchase(&at.to_string(), 5))).await;
    assert_eq!(answers, BTreeMap::from([("fresh".to_owned(), 200)]));
    assert_eq!(sums(&story.end()), (0, 1_000));
}

/// Two hundred payments of 7 against 1,000: 142 fit, whatever their order.
pub async fn an_account_is_not_overdrawn_by_a_race(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    let answers = race(&story, (0..200).map(|at| purchase(&at.to_string(), 7))).await;
    assert_eq!(answers["fresh"], 142);
    assert_eq!(answers["Overdrawn"], 58);
    assert_eq!(sums(&story.end()), (6, 994));
}

/// A hundred payments of 5 under a cap of 123 on what the seller may be owed: 24 fit.
pub async fn a_cap_is_not_passed_by_a_race(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    let capped = |at: usize| ClaimRequest {
        caps: vec![Cap { account: "payable/seller/usd".parse().unwrap(), credits_max: 123 }],
        ..rail_purchase(&at.to_string(), 5)
    };
    let answers = race(&story, (0..100).map(capped)).await;
    assert_eq!(answers["fresh"], 24);
    assert_eq!(answers["OverCap"], 76);
    story.end();
}

/// What was acknowledged is found by whoever reads the journal at that very moment.
pub async fn every_acknowledged_claim_is_in_the_journal(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    for name in ["a", "b", "c"] {
        assert_eq!(story.claim(rail_purchase(name, 5)).await, "fresh");
        assert_eq!(audit(&stores.journal()).unwrap().pending, 1);
        story.post(name).await;
        assert_eq!(audit(&stores.journal()).unwrap().pending, 0);
    }
    story.end();
}

/// A claim whose caller is gone when the answer comes is nobody's, and a retry is answered.
pub async fn a_caller_that_went_away_leaves_no_payment_behind(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    for at in 0..20 {
        let name = at.to_string();
        let book = Arc::clone(story.store());
        let (request, now) = (purchase(&name, 1), story.now);
        let task = tokio::spawn(async move { book.claim(request, now).await });
        tokio::task::yield_now().await;
        task.abort();
        let outcome = task.await;
        let mut answer = story.claim(purchase(&name, 1)).await;
        if outcome.is_ok() {
            assert_eq!(answer, "pending", "the answer arrived before the caller left");
            continue;
        }
        // The caller left first: nothing was claimed, or the claim is given back soon.
        for _ in 0..10_000 {
            if answer != "pending" {
                break;
            }
            tokio::task::yield_now().await;
            answer = story.claim(purchase(&name, 1)).await;
        }
        assert!(matches!(answer.as_str(), "fresh" | "undelivered"), "{answer}");
    }
    assert_eq!(sums(&story.end()), (980, 20));
}

/// Entries are idempotent, across a restart too.
pub async fn entries_are_made_once(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    story.restart();
    assert_eq!(story.fund("alice", 1_000, "opening").await, Ok(false));
    assert_eq!(story.fund("alice", 1, "opening").await, Err(EntryError::ReferenceTaken));
    let attach = |name| Entry::AttachKey { key: key("alice"), holder: holder(name) };
    assert_eq!(story.enter(attach("alice")).await, Ok(false));
    assert_eq!(story.enter(attach("bob")).await, Err(EntryError::KeyTaken));
    assert_eq!(story.enter(Entry::DetachKey { key: key("alice") }).await, Ok(true));
    story.restart();
    assert_eq!(story.claim(purchase("a", 1)).await, "UnknownKey");
    assert_eq!(sums(&story.end()), (1_000, 0));
}

/// The journal is a function of the requests: any two stores write the same bytes.
pub async fn the_same_requests_make_the_same_journal(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    story.claim(purchase("a", 5)).await;
    story.deliver("a");
    story.claim(rail_purchase("b", 7)).await;
    story.restart();
    story.post("b").await;
    story.claim(rail_purchase("b", 7)).await;
    story.deliver("b");
    story.end();
    let lines: Vec<String> = stores.journal().iter().map(Record::to_json).collect();
    let digest = Fingerprint::of("journal", &[lines.join("\n").as_bytes()]);
    assert_eq!(
        digest.to_string(),
        "3de5617c1221d21234515da96ad544140c85a63d7dd7aabfd74dd0a9c8dc43c8",
        "{lines:#?}"
    );
}

/// A claim's answer in a word.
pub fn word(claim: &Claim) -> &'static str {
    match claim {
        Claim::Fresh => "fresh",
        Claim::Pending(_) => "pending",
        Claim::Unsettled => "unsettled",
        Claim::Abandoned => "abandoned",
        Claim::Undelivered(_) => "undelivered",
        Claim::Interrupted => "interrupted",
        Claim::Delivered(..) => "delivered",
        Claim::Bought(..) => "bought",
        Claim::GivenBack => "given back",
        Claim::Spent => "spent",
    }
}

/// Claims everything at once and counts the answers.
async fn race(
    story: &Story<'_>,
    requests: impl Iterator<Item = ClaimRequest>,
) -> BTreeMap<String, usize> {
    let tasks: Vec<_> = requests
        .map(|request| {
            let (book, now) = (Arc::clone(story.store()), story.now);
            tokio::spawn(async move { book.claim(request, now).await })
        })
        .collect();
    let mut answers = BTreeMap::new();
    for task in tasks {
        let answer = match task.await.unwrap() {
            Ok(claim) => word(&claim).into(),
            Err(ClaimError::Unavailable) => panic!("the store is down"),
            Err(error) => format!("{error:?}"),
        };
        *answers.entry(answer).or_default() += 1;
    }
    answers
}
