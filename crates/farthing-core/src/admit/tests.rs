//! Every test is one line of a story: what was presented, what the rail said, what came out.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use farthing_ledger::*;
use farthing_money::{Amount, AssetId, Timestamp};
use http::{HeaderMap, HeaderValue};

use crate::*;

#[test]
fn no_credential_is_a_challenge() {
    check(&[Step::browse()], "challenge");
}

#[test]
fn a_paid_request_is_delivered() {
    check(&[Step::pay("a")], "deliver");
}

#[test]
fn the_same_proof_buys_once() {
    check(&[Step::pay("a"), Step::pay("a"), Step::pay("b")], "deliver; again; deliver");
}

#[test]
fn money_in_the_book_is_paid_with_the_claim_and_no_rail_is_called() {
    let rail = Step::pay("a").book().rail(Err(SettleError::Declined));
    check(&[rail, rail], "deliver; again");
}

#[test]
fn an_invalid_proof_reaches_neither_the_books_nor_the_rail() {
    check(&[Step::pay("bad"), Step::pay("a")], "Payer(Invalid); deliver");
}

#[test]
fn an_unsupported_method_is_refused() {
    check(&[Step::pay("a").method("barter")], "Payer(Unsupported)");
}

#[test]
fn a_decline_keeps_the_proof_spent() {
    check(&[Step::pay("a").rail(Err(SettleError::Declined)), Step::pay("a")], "Declined; Replayed");
}

/// F-07, F-08: an unknown outcome is neither delivered nor settled again. The rail is asked until it
/// knows, and its late answer counts once.
#[test]
fn an_unknown_outcome_is_asked_about() {
    let unknown = Step::pay("a").rail(Err(SettleError::Unknown));
    let asking = |answer| Step::pay("a").asked(answer);
    let open = asking(Err(SettleError::Unknown));
    check(
        &[unknown, open, open, asking(Ok(())), open],
        "TryAgain; TryAgain; TryAgain; deliver; again",
    );
    let declined = asking(Err(SettleError::Declined));
    check(&[unknown, open, declined, asking(Ok(()))], "TryAgain; TryAgain; Declined; Replayed");
}

#[test]
fn what_was_certainly_never_sent_is_sent() {
    let unsent = Step::pay("a").rail(Err(SettleError::Unsent));
    let asked = Step::pay("a").asked(Err(SettleError::Unsent));
    check(&[unsent, asked, asked], "TryAgain; deliver; again");
    let again = asked.rail(Err(SettleError::Unsent));
    check(&[unsent, again, asked], "TryAgain; TryAgain; deliver");
}

#[test]
fn what_costs_nothing_is_delivered_without_a_rail() {
    let free = Step { money: Money::None, ..Step::pay("a").rail(Err(SettleError::Declined)) };
    check(&[free, free], "deliver; again");
}

#[test]
fn a_failed_delivery_can_be_retried_with_the_same_credential() {
    check(&[Step::pay("a").fail(), Step::pay("a"), Step::pay("a")], "failed; deliver; again");
}

#[test]
fn a_retry_after_a_crash_is_delivered() {
    check(&[Step::pay("a").crash_after_post(), Step::pay("a")], "TryAgain; deliver");
}

#[test]
fn a_store_that_is_down_is_ours_to_fix() {
    check(&[Step::pay("a").store_down(), Step::pay("a")], "TryAgain; deliver");
}

#[test]
fn an_empty_account_is_told_from_an_outage() {
    check(&[Step::pay("poor").book()], "Short");
}

#[test]
fn two_protocols_with_a_credential_each_are_ambiguous() {
    check(&[Step::pay("a").twice()], "Payer(Ambiguous)");
}

/// Where the money is held for the handler, the handler runs first; what somebody stopped in the middle of
/// is given up and not begun again. A rail that cannot hold is settled before.
#[test]
fn a_handler_may_run_before_the_money_moves() {
    check(&[Step::pay("a").book().after(), Step::pay("a").book().after()], "executed; Answered");
    check(
        &[Step::pay("a").book().after().fail(), Step::pay("a").book().after()],
        "dropped; executed",
    );
    let once = Step::pay("a").book().after().once();
    check(&[once.fail(), once], "dropped; Declined");
    check(
        &[Step::pay("a").book().after().crash_after_post(), Step::pay("a").book().after()],
        "not settled; deliver",
    );
    check(&[Step::pay("a").after(), Step::pay("b").book()], "deliver; deliver");
}

/// CORE.S04, D2: two offers are never the same, and each is bound to what is bought.
#[test]
fn offers_differ_even_for_the_same_thing() {
    let ask = ask();
    let mut counter = 0_u8;
    let mut entropy = || {
        counter = counter.wrapping_add(1);
        [counter; 10]
    };
    let now = Timestamp::from_micros(1_763_712_000_123_456);
    let (a, b) = (ask.offers(now, &mut entropy), ask.offers(now, &mut entropy));
    assert_ne!(a[0].trace, b[0].trace);
    assert_eq!(a[0].expires_at.to_string(), "2025-11-21T08:05:00.123Z");
    let digest = |alter: fn(&mut Scope)| {
        let mut scope = ask.scope.clone();
        alter(&mut scope);
        scope.digest()
    };
    assert_eq!(digest(|_| ()), a[0].scope);
    for altered in [
        digest(|scope| scope.route = "other".into()),
        digest(|scope| scope.method = "POST".into()),
        digest(|scope| scope.path = "/v".into()),
        digest(|scope| scope.query = "a=1".into()),
    ] {
        assert_ne!(altered, a[0].scope);
    }
}

#[track_caller]
fn check(steps: &[Step], want: &str) {
    let store = Arc::new(FakeStore::default());
    let got: Vec<String> = steps.iter().map(|step| step.run(&store)).collect();
    assert_eq!(got.join("; "), want);
}

#[derive(Clone, Copy)]
struct Step {
    credential: Option<&'static str>,
    method: &'static str,
    rail: Result<(), SettleError>,
    asked: Result<(), SettleError>,
    money: Money,
    fault: Option<Fault>,
    twice: bool,
    fail: bool,
    capture: Capture,
    repeatable: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Down,
    CrashAfterPost,
}

impl Step {
    fn browse() -> Self {
        Self {
            credential: None,
            method: "fake",
            rail: Ok(()),
            asked: Err(SettleError::Unknown),
            money: Money::Rail,
            fault: None,
            twice: false,
            fail: false,
            capture: Capture::Before,
            repeatable: true,
        }
    }

    fn pay(credential: &'static str) -> Self {
        Self { credential: Some(credential), ..Self::browse() }
    }

    fn book(self) -> Self {
        Self { money: Money::Book, ..self }
    }

    fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    fn rail(self, rail: Result<(), SettleError>) -> Self {
        Self { rail, ..self }
    }

    fn asked(self, asked: Result<(), SettleError>) -> Self {
        Self { asked, ..self }
    }

    fn crash_after_post(self) -> Self {
        Self { fault: Some(Fault::CrashAfterPost), ..self }
    }

    fn store_down(self) -> Self {
        Self { fault: Some(Fault::Down), ..self }
    }

    fn twice(self) -> Self {
        Self { twice: true, ..self }
    }

    fn after(self) -> Self {
        Self { capture: Capture::After, ..self }
    }

    fn once(self) -> Self {
        Self { repeatable: false, ..self }
    }

    fn fail(self) -> Self {
        Self { fail: true, ..self }
    }

    fn run(self, store: &Arc<FakeStore>) -> String {
        *store.fault.lock().unwrap() = self.fault;
        let protocol: Arc<dyn Protocol> = Arc::new(FakeProtocol { method: self.method });
        let till = Till {
            protocols: vec![protocol; if self.twice { 2 } else { 1 }],
            rails: vec![Arc::new(FakeRail {
                answer: self.rail,
                asked: self.asked,
                money: self.money,
            })],
            store: store.clone(),
        };
        let mut fields = HeaderMap::new();
        if let Some(credential) = self.credential {
            fields.insert("pay", HeaderValue::from_static(credential));
        }
        let mut ask = ask();
        ask.terms.capture = self.capture;
        ask.terms.repeatable = self.repeatable;
        match block_on(till.admit(&ask, &fields, Timestamp::default())) {
            Ok(Admission::Challenge) => "challenge".into(),
            Ok(Admission::Deliver(_)) if self.fail => "failed".into(),
            Ok(Admission::Again(_)) => "again".into(),
            Ok(Admission::Managed(_)) => "managed".into(),
            Ok(Admission::Unsubscribed(_)) => "unsubscribed".into(),
            Ok(Admission::Execute(_)) if self.fail => "dropped".into(),
            Ok(Admission::Execute(reserved)) => {
                match block_on(reserved.settle(Timestamp::default())) {
                    Ok(posted) => {
                        posted.delivered(Outcome { status: 200 }, None, Timestamp::default());
                        "executed".into()
                    }
                    Err(StoreError) => "not settled".into(),
                }
            }
            Ok(Admission::Deliver(posted)) => {
                let answer =
                    Answer { status: 200, fields: HeaderMap::new(), body: b"sunny".to_vec() };
                posted.delivered(Outcome { status: 200 }, Some(answer), Timestamp::default());
                "deliver".into()
            }
            Err(refusal) => format!("{refusal:?}"),
        }
    }
}

fn ask() -> Ask {
    let amount = Amount::new(AssetId::new("usd").unwrap(), 5);
    let payee = Holder::new("seller").unwrap();
    Ask {
        scope: Scope { route: "weather".into(), method: "GET".into(), ..Scope::default() },
        quotes: vec![Arc::new(Quote::new("fake", "charge", amount, payee, &Object::new()))],
        description: None,
        offer_ttl: std::time::Duration::from_mins(5),
        authorization_is_taken: false,
        terms: farthing_ledger::Terms { repeatable: true, ..farthing_ledger::Terms::default() },
        vouchers_buy: true,
        idempotency_key: None,
    }
}

/// Reads the field `pay` and believes that its challenge is ours.
struct FakeProtocol {
    method: &'static str,
}

impl Protocol for FakeProtocol {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn present(
        &self,
        fields: &HeaderMap,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        let Some(value) = fields.get("pay") else { return Ok(None) };
        Ok(Some(Presented {
            protocol: "fake",
            method: self.method.into(),
            intent: "charge".into(),
            realm: "test".into(),
            challenge: value.to_str().unwrap().into(),
            trace: TraceId::new(now, [0; 10]),
            route: Arc::clone(&ask.scope.route),
            scope: ask.scope.digest(),
            request: Object::new(),
            payload: Object::new(),
            source: None,
            expires_at: now,
            expires: now.to_string(),
            credential: Fingerprint::of("credential", &[value.as_bytes()]),
            idempotency_key: None,
        }))
    }

    fn write_offers(&self, _: &[Offer], _: &HeaderMap, _: &mut HeaderMap) {}

    fn write_receipt(&self, _: &ReceiptFacts<'_>, _: &mut HeaderMap) {}
}

struct FakeRail {
    answer: Result<(), SettleError>,
    asked: Result<(), SettleError>,
    money: Money,
}

impl Rail for FakeRail {
    fn method(&self) -> &'static str {
        "fake"
    }

    fn rules(&self) -> &'static RailRules {
        &RailRules {
            authorised: "",
            settled: "",
            reversed: "",
            reference: "",
            holds: true,
            refunds: Refunds::Never,
            recheck_after: None,
        }
    }

    fn quote(&self, _: &Amount, _: &Holder) -> Result<Object, Unquotable> {
        Ok(Object::new())
    }

    fn check(&self, presented: &Presented, _: Timestamp) -> Result<Evidence, Rejection> {
        if presented.challenge == "bad" {
            return Err(Rejection::Invalid);
        }
        Ok(Evidence {
            payer: "payer".into(),
            payee: Holder::new("seller").unwrap(),
            amount: Amount::new(AssetId::new("usd").unwrap(), 5),
            shares: Vec::new(),
            from: Source::Account("clearing/fake/usd".parse().unwrap()),
            proofs: vec![],
            money: self.money,
            inquiry: None,
        })
    }

    fn settle<'a>(&'a self, _: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        assert_eq!(self.money, Money::Rail, "money in the book never reaches a rail");
        Box::pin(async { self.answer.map(|()| Settled::new("tx".into())) })
    }

    fn inquire<'a>(&'a self, _: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async { self.asked.map(|()| Settled::new("tx".into())) })
    }
}

/// Knows the answers and nothing else; the real stores have a suite of their own.
#[derive(Default)]
struct FakeStore {
    claims: Mutex<BTreeMap<PaymentId, Claim>>,
    answer: Mutex<Option<Answer>>,
    fault: Mutex<Option<Fault>>,
}

impl FakeStore {
    fn fails(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == Some(fault)
    }

    fn set(&self, id: PaymentId, to: Claim) {
        self.claims.lock().unwrap().insert(id, to);
    }
}

impl Store for FakeStore {
    fn subscribe(
        &self,
        _: SubscriptionStep,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Subscription, SubscriptionError>> {
        Box::pin(async { Err(SubscriptionError::Unavailable) })
    }

    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn subscriptions_due(
        &self,
        _: Timestamp,
        _: std::time::Duration,
    ) -> BoxFuture<'_, Result<SubscriptionsDue, StoreError>> {
        Box::pin(async { Ok(SubscriptionsDue::default()) })
    }

    fn erase(
        &self,
        _: farthing_ledger::Erasure,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<farthing_ledger::Erased, farthing_ledger::EraseError>> {
        Box::pin(async { Err(farthing_ledger::EraseError::Unavailable) })
    }

    fn claim(
        &self,
        request: ClaimRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Claim, ClaimError>> {
        Box::pin(async move {
            if self.fails(Fault::Down) {
                return Err(ClaimError::Unavailable);
            }
            if request.payment.challenge == "poor" {
                return Err(ClaimError::Overdrawn);
            }
            let id = request.payment.id;
            let known = self.claims.lock().unwrap().get(&id).cloned();
            if known.is_none() {
                let settlement = Settlement::new("book".into(), now);
                self.set(
                    id,
                    match (request.money, request.payment.terms.capture) {
                        (Money::Book, Capture::Before) | (Money::None, _) => {
                            Claim::Undelivered(settlement)
                        }
                        (Money::Book, Capture::After) | (Money::Rail, _) => Claim::Pending(id),
                    },
                );
            }
            if known == Some(Claim::Unsettled) {
                self.set(id, Claim::Pending(id));
                if request.money == Money::Book && !request.payment.terms.repeatable {
                    return Ok(Claim::Abandoned);
                }
            }
            Ok(known.unwrap_or(Claim::Fresh))
        })
    }

    fn post(
        &self,
        id: PaymentId,
        settlement: Settlement,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.set(id, Claim::Undelivered(settlement));
            if self.fails(Fault::CrashAfterPost) { Err(StoreError) } else { Ok(()) }
        })
    }

    fn void(
        &self,
        id: PaymentId,
        _: VoidReason,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.set(id, Claim::Spent);
            Ok(())
        })
    }

    fn deliver(&self, id: PaymentId, outcome: Outcome, answer: Option<Answer>, now: Timestamp) {
        let settlement = Settlement::new("tx".into(), now);
        self.set(id, Claim::Delivered(id, settlement, outcome));
        *self.answer.lock().unwrap() = answer;
    }

    fn record_delivery(
        &self,
        id: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.deliver(id, outcome, answer, now);
            Ok(())
        })
    }

    fn fail(&self, _: PaymentId, _: Outcome, _: Timestamp) {}

    fn answer(&self, _: PaymentId) -> BoxFuture<'_, Result<Option<Answer>, StoreError>> {
        Box::pin(async { Ok(self.answer.lock().unwrap().clone()) })
    }

    fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>> {
        Box::pin(async { Ok(Work::default()) })
    }

    fn refund(
        &self,
        _: RefundRequest,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Ordered, RefundError>> {
        unreachable!("no test here gives anything back")
    }

    fn post_refund(
        &self,
        _: PaymentId,
        _: RefundId,
        _: Settlement,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!("no test here gives anything back")
    }

    fn void_refund(
        &self,
        _: PaymentId,
        _: RefundId,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!("no test here gives anything back")
    }

    fn reconcile(
        &self,
        _: PaymentId,
        _: Finding,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!("no test here is held against a rail")
    }

    fn step(&self, _: ChannelStep, _: Timestamp) -> BoxFuture<'_, Result<Channel, ChannelError>> {
        unreachable!("no test here has a session")
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<Channel>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn channel_news(
        &self,
        _: Option<ChannelsPlace>,
        _: Vec<ChannelId>,
    ) -> BoxFuture<'_, Result<ChannelNews, StoreError>> {
        Box::pin(async { Ok(ChannelNews::default()) })
    }

    fn heard_of_channels(&self, _: ChannelsHeard) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn owner(
        &self,
        _: Vec<farthing_ledger::BudgetKey>,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<farthing_ledger::OwnerView, StoreError>> {
        unreachable!("no test here is a wallet")
    }

    fn take_up(&self, _: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    fn is_claimed(&self, _: Fingerprint) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(true) })
    }

    fn give_back(&self, id: PaymentId, _: bool) {
        let mut claims = self.claims.lock().unwrap();
        if claims.get(&id) == Some(&Claim::Pending(id)) {
            claims.insert(id, Claim::Unsettled);
        }
    }

    fn enter(&self, _: Entry, _: Timestamp) -> BoxFuture<'_, Result<bool, EntryError>> {
        unreachable!("no test here enters anything")
    }

    fn records(&self, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        unreachable!("no test here follows the book")
    }

    fn story(&self, _: TraceId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        unreachable!("no test here follows the book")
    }

    fn noted(&self, _: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        unreachable!("no test here follows the book")
    }

    fn note(&self, _: &str, _: String) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!("no test here follows the book")
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("fakes never wait"),
    }
}
