//! Subscriptions on the prepaid rail, at a till with a clock that is set by hand.

#![allow(clippy::arithmetic_side_effects)]

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Admission, Ask, Dunning, Invitation, Object, Payer, Presented, Protocol, Quote, Rail,
    ReceiptFacts, Recovery, Refusal, Rejection, Renewed, Renewing, SUBSCRIPTION, Scope, Store,
    Subscribing, SubscriptionAct, SubscriptionPayer, SubscriptionPrice, SubscriptionRail, Till,
};
use farthing_ledger::{
    Claim, Entry, Event, Fingerprint, Holder, Outcome, SpendingKey, Subscription,
    SubscriptionState, Terms, TraceId, audit,
};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_rail_prepaid::{PrepaidPayer, PrepaidRail, parse_did_key};
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::rail::assets;
use http::HeaderMap;

/// The golden vectors of `docs/prepaid-subscription.md`, made by another implementation of Ed25519.
const BEGIN: &str =
    "yfWNtcCoTtgbQF6eRpoVaTcj-wM0BzVQNqZr3jg-D71Ub184gjrJHaqmfowLdskDU4M3UOJSPB-VDdrFMkByBw";
const USE: &str =
    "d5w7YfYU2al0vksF3FzsqHBHWFHSqjygL_ZJNmX3SOqtdTp7cvRI0DD-Fsu_kxYXPTGk7D3yv9PmZfd20YEkDw";
const CANCEL: &str =
    "OHZh-SS4DXyZLxbA1xlvg3XtBgyMtKLkgBxnbGcXfA_mfefBufAAxcxHOEYHDQimihOAx1YbSqsRxFL-L3hsDw";

/// Hands a credential on that was read already.
struct Hand(Presented);

impl Protocol for Hand {
    fn name(&self) -> &'static str {
        "mpp"
    }

    fn present(
        &self,
        _: &HeaderMap,
        _: &Ask,
        _: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        Ok(Some(self.0.clone()))
    }

    fn write_offers(&self, _: &[farthing_core::Offer], _: &HeaderMap, _: &mut HeaderMap) {}

    fn write_receipt(&self, _: &ReceiptFacts<'_>, _: &mut HeaderMap) {}
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn usd(atoms: u128) -> Amount {
    Amount::new(AssetId::new("usd").unwrap(), atoms)
}

fn price() -> SubscriptionPrice {
    SubscriptionPrice {
        amount: usd(500),
        period: "1 month".parse().unwrap(),
        expires_at: None,
        plan: "pro".into(),
        dunning: dunning(),
    }
}

fn dunning() -> Dunning {
    let hours = |hours| Duration::from_hours(hours);
    Dunning { retries: vec![hours(1), hours(24)], grace: hours(72) }
}

/// A seller, its book, and somebody with a key.
struct Scene {
    store: Arc<MemoryStore>,
    paper: Paper,
    price: SubscriptionPrice,
    now: Timestamp,
    renewing: Renewing,
    challenges: u32,
}

fn payer() -> PrepaidPayer {
    PrepaidPayer::new(&[7; 32], assets())
}

fn stranger() -> PrepaidPayer {
    PrepaidPayer::new(&[8; 32], assets())
}

impl Scene {
    async fn with(atoms: u128) -> Self {
        Self::selling(price(), atoms).await
    }

    async fn selling(price: SubscriptionPrice, atoms: u128) -> Self {
        let now = at("2026-01-31T10:00:00Z");
        let paper = Paper::default();
        let store = Arc::new(MemoryStore::open(paper.clone(), now));
        let renewing = Renewing::with(dunning());
        let mut scene = Self { store, paper, price, now, renewing, challenges: 0 };
        for (payer, holder) in [(payer(), "alice"), (stranger(), "bob")] {
            let key = SpendingKey(parse_did_key(&payer.account()).unwrap());
            let holder = Holder::new(holder).unwrap();
            scene.enter(Entry::AttachKey { key, holder }).await;
        }
        scene.fund(atoms, "first").await;
        scene
    }

    async fn enter(&mut self, entry: Entry) {
        self.store.enter(entry, self.now).await.unwrap();
    }

    async fn fund(&mut self, atoms: u128, reference: &str) {
        let holder = Holder::new("alice").unwrap();
        let amount = usd(atoms);
        self.enter(Entry::Fund { holder, amount, reference: reference.into() }).await;
    }

    fn quote(&self) -> Quote {
        let payee = Holder::new("seller").unwrap();
        let rail = PrepaidRail::new(assets());
        let request = rail.quote_subscription(&self.price, &payee).unwrap();
        Quote::subscription("prepaid", self.price.clone(), payee, &request)
    }

    /// A fresh challenge, as a buyer reads it.
    fn invite(&mut self) -> Invitation {
        self.challenges += 1;
        let request: Object = serde_json::from_str(self.quote().request()).unwrap();
        let expires_at = self.now.after(Duration::from_mins(5));
        Invitation {
            protocol: "mpp",
            method: "prepaid".into(),
            intent: SUBSCRIPTION.into(),
            realm: "api.example.com".into(),
            challenge: format!("ch_{}", self.challenges),
            request,
            expires_at: Some(expires_at),
            expires: Some(expires_at.to_string()),
            description: None,
            body: None,
            echo: String::new(),
        }
    }

    /// A credential that answers a fresh challenge.
    async fn credential(&mut self, payer: &PrepaidPayer, act: SubscriptionAct) -> Presented {
        let invitation = self.invite();
        present(&invitation, payer, act).await
    }

    fn till(&self, presented: Option<Presented>) -> Till {
        let mut protocols: Vec<Arc<dyn Protocol>> = Vec::new();
        if let Some(presented) = presented {
            protocols.push(Arc::new(Hand(presented)));
        }
        let rails: Vec<Arc<dyn Rail>> = vec![Arc::new(PrepaidRail::new(assets()))];
        Till { protocols, rails, store: self.store.clone() }
    }

    /// Presents a credential, and answers what it buys. Says what came of it.
    async fn take(&self, presented: &Presented) -> String {
        let ask = Ask {
            scope: Scope::default(),
            quotes: vec![Arc::new(self.quote())],
            vouchers_buy: true,
            description: None,
            offer_ttl: Duration::from_mins(5),
            authorization_is_taken: false,
            terms: Terms { repeatable: true, ..Terms::default() },
            idempotency_key: None,
        };
        let till = self.till(Some(presented.clone()));
        match till.admit(&ask, &HeaderMap::new(), self.now).await {
            Ok(Admission::Deliver(posted)) => {
                assert!(posted.payment().amount.is_zero(), "what is asked within costs nothing");
                assert!(posted.payment().subscription.is_some());
                let answer = farthing_core::Answer {
                    status: 200,
                    fields: HeaderMap::new(),
                    body: b"answer".to_vec(),
                };
                posted.delivered(Outcome { status: 200 }, Some(answer), self.now);
                "answered".into()
            }
            Ok(Admission::Again(_)) => "again".into(),
            Ok(Admission::Unsubscribed(it)) => it.subscription.state.name().into(),
            Ok(admission) => panic!("{admission:?}"),
            Err(Refusal::Subscription(refusal)) => format!("{:?}", refusal.error),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    async fn begin(&mut self) -> String {
        let begin = SubscriptionAct::Begin { until: None };
        let credential = self.credential(&payer(), begin).await;
        self.take(&credential).await
    }

    async fn using(&mut self) -> String {
        let id = self.stands().await.facts.id.to_string();
        let credential = self.credential(&payer(), SubscriptionAct::Use { id }).await;
        self.take(&credential).await
    }

    async fn cancel(&mut self) -> String {
        let id = self.stands().await.facts.id.to_string();
        let credential = self.credential(&payer(), SubscriptionAct::Cancel { id }).await;
        self.take(&credential).await
    }

    /// The only subscription.
    async fn stands(&self) -> Subscription {
        let all = self.store.subscriptions().await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Looks after subscriptions at `now`, as a gateway does.
    async fn renew(&mut self, now: &str) -> Renewed {
        self.now = at(now);
        self.till(None).renew(&mut self.renewing, self.now).await
    }

    fn earned(&self) -> u128 {
        let audit = audit(&self.paper.records()).unwrap();
        let account = "payable/seller/usd".parse().unwrap();
        audit.accounts.get(&account).map_or(0, |balance| balance.credits_posted)
    }
}

async fn present(invitation: &Invitation, payer: &PrepaidPayer, act: SubscriptionAct) -> Presented {
    let paid = payer.subscribe(invitation, act).await.ok().unwrap();
    let challenge = invitation.challenge.clone();
    let credential = serde_json::json!({ "challenge": challenge, "payload": paid.payload });
    let named = *Fingerprint::of("trace", &[challenge.as_bytes()]).as_bytes();
    Presented {
        protocol: "mpp",
        method: invitation.method.clone(),
        intent: invitation.intent.clone(),
        realm: invitation.realm.clone(),
        trace: TraceId::new(at("2026-01-31T10:00:00Z"), std::array::from_fn(|at| named[at])),
        route: "reports".into(),
        scope: Scope::default().digest(),
        request: invitation.request.clone(),
        payload: paid.payload,
        source: paid.source,
        expires_at: invitation.expires_at.unwrap(),
        expires: invitation.expires.clone().unwrap(),
        credential: Fingerprint::of("credential", &[credential.to_string().as_bytes()]),
        idempotency_key: None,
        challenge,
    }
}

const CHARGED: Renewed = Renewed { charged: 1, failed: 0, ended: 0, open: 0 };
const FAILED: Renewed = Renewed { charged: 0, failed: 1, ended: 0, open: 0 };
const ENDED: Renewed = Renewed { charged: 0, failed: 0, ended: 1, open: 0 };
const NOTHING: Renewed = Renewed { charged: 0, failed: 0, ended: 0, open: 0 };

/// SUB.S01, SUB.S04: it is active once its first charge is collected; the same credential is the same
/// subscription, charged once, and answered as before.
#[tokio::test]
async fn a_subscription_begins_once() {
    let mut scene = Scene::with(10_000).await;
    let begin = SubscriptionAct::Begin { until: None };
    let credential = scene.credential(&payer(), begin).await;
    assert_eq!(scene.take(&credential).await, "answered");
    let stands = scene.stands().await;
    assert_eq!((stands.state, stands.charges), (SubscriptionState::Active, 1));
    assert_eq!(stands.anchor, Some(scene.now));
    for _ in 0..3 {
        assert_eq!(scene.take(&credential).await, "again");
    }
    assert_eq!(scene.stands().await.charges, 1);
    assert_eq!(scene.earned(), 500);
    assert_eq!(scene.using().await, "answered");
    assert_eq!(scene.earned(), 500, "its period is paid");
}

/// SUB.S01: without the money nothing begins; the same credential begins it once there is.
#[tokio::test]
async fn nothing_begins_without_the_first_charge() {
    let mut scene = Scene::with(499).await;
    let begin = SubscriptionAct::Begin { until: None };
    let credential = scene.credential(&payer(), begin).await;
    assert_eq!(scene.take(&credential).await, "Short");
    assert_eq!(scene.stands().await.state, SubscriptionState::Opening);
    assert_eq!(scene.using().await, "Short", "and cannot be used");
    scene.fund(1, "second").await;
    assert_eq!(scene.take(&credential).await, "answered");
    assert_eq!((scene.earned(), scene.stands().await.charges), (500, 1));
}

/// SUB.S02: renewals are made at or after each boundary, once, by whoever comes first; what was missed is
/// not made up for.
#[tokio::test]
async fn each_period_is_charged_once() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    assert_eq!(scene.renew("2026-02-28T09:59:59Z").await, NOTHING);
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, CHARGED);
    assert_eq!(scene.renew("2026-02-28T10:00:10Z").await, NOTHING);
    assert_eq!(scene.using().await, "answered");
    // At use, before anybody has looked.
    scene.now = at("2026-03-31T10:00:00Z");
    assert_eq!(scene.using().await, "answered");
    assert_eq!(scene.stands().await.charges, 3);
    assert_eq!(scene.renew("2026-03-31T10:00:10Z").await, NOTHING);
    // Nobody was there for two months.
    assert_eq!(scene.renew("2026-06-30T12:00:00Z").await, CHARGED);
    let stands = scene.stands().await;
    assert_eq!((stands.charges, stands.charged), (4, Some(5)));
    assert_eq!(stands.paid_until(), Some(at("2026-07-31T10:00:00Z")));
    assert_eq!(scene.earned(), 2_000);
    let is_charge = |record: &farthing_ledger::Record| {
        let Event::Claimed { payment, .. } = &record.event else { return false };
        payment.subscription.is_some_and(|it| it.is_charge())
    };
    let charges = scene.paper.records().into_iter().filter(is_charge);
    assert_eq!(charges.count(), 4);
}

/// SUB.S04: any number of requests and looks at once, over two gateways, charge a period once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn renewals_at_once_charge_once() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    scene.now = at("2026-02-28T10:00:00Z");
    let id = scene.stands().await.facts.id.to_string();
    let mut credentials = Vec::new();
    for _ in 0..32 {
        let act = SubscriptionAct::Use { id: id.clone() };
        credentials.push(scene.credential(&payer(), act).await);
    }
    let scene = Arc::new(scene);
    let uses: Vec<_> = credentials
        .into_iter()
        .map(|credential| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.take(&credential).await })
        })
        .collect();
    let looks: Vec<_> = (0..8)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move {
                let mut renewing = Renewing::with(dunning());
                scene.till(None).renew(&mut renewing, scene.now).await;
            })
        })
        .collect();
    for task in uses {
        assert_eq!(task.await.unwrap(), "answered");
    }
    for task in looks {
        task.await.unwrap();
    }
    assert_eq!((scene.stands().await.charges, scene.earned()), (2, 1_000));
}

/// SUB.S04: a process that died between the charge and what follows has charged once, and the period is
/// given.
#[tokio::test]
async fn a_crash_after_the_charge_charges_nothing_more() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    scene.now = at("2026-02-28T10:00:00Z");
    // The charge is claimed, and whoever claimed it is gone.
    let mut charge = None;
    let facts = scene.stands().await.facts;
    for record in scene.paper.records() {
        if let Event::Claimed { payment, .. } = record.event
            && payment.subscription.is_some_and(|it| it.is_charge())
        {
            charge = Some(*payment);
        }
    }
    let mut payment = charge.unwrap();
    let fingerprint = facts.charge(1, 1);
    payment.id = farthing_ledger::PaymentId::of(&fingerprint);
    payment.subscription.as_mut().unwrap().period = 1;
    payment.subscription.as_mut().unwrap().part =
        farthing_ledger::SubscribedPart::Charge { attempt: 1 };
    payment.trace = TraceId::new(scene.now, [5; 10]);
    let claim = farthing_ledger::ClaimRequest {
        payment,
        proofs: vec![farthing_ledger::Proof { fingerprint, keep_until: None }],
        idempotency: None,
        legs: vec![farthing_ledger::Leg {
            from: facts.from.clone(),
            to: "payable/seller/usd".parse().unwrap(),
            atoms: 500,
        }],
        money: facts.money,
        caps: Vec::new(),
        voucher: None,
    };
    assert_eq!(scene.store.claim(claim, scene.now).await, Ok(Claim::Fresh));
    scene.store = Arc::new(MemoryStore::open(scene.paper.clone(), scene.now));
    assert_eq!(scene.renew("2026-02-28T10:00:01Z").await, NOTHING);
    let recovered = scene.till(None).recover(&mut Recovery::default(), scene.now).await;
    assert_eq!((recovered.posted, recovered.refunded), (1, 0), "the period was given");
    assert_eq!(scene.using().await, "answered");
    // Long after, nothing of it is owed or given back.
    scene.now = at("2026-03-30T10:00:00Z");
    let recovered = scene.till(None).recover(&mut Recovery::default(), scene.now).await;
    assert_eq!(recovered, farthing_core::Recovered::default());
    assert_eq!((scene.stands().await.charges, scene.earned()), (2, 1_000));
}

/// SUB.S03: whoever knows a subscription's name, and not its payer's key, is told nothing and given nothing.
#[tokio::test]
async fn its_name_is_not_enough_to_use_it() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    let id = scene.stands().await.facts.id.to_string();
    let theirs = SubscriptionAct::Use { id: id.clone() };
    let credential = scene.credential(&stranger(), theirs).await;
    assert_eq!(scene.take(&credential).await, "Unknown");
    let cancel = scene.credential(&stranger(), SubscriptionAct::Cancel { id: id.clone() }).await;
    assert_eq!(scene.take(&cancel).await, "Unknown");
    // Who claims to be the payer, without the key.
    let mut forged = scene.credential(&stranger(), SubscriptionAct::Use { id: id.clone() }).await;
    forged.source = Some(payer().account());
    assert_eq!(scene.take(&forged).await, "Payer(Invalid)");
    // A use is good for its own challenge, and is no cancellation.
    let own = scene.credential(&payer(), SubscriptionAct::Use { id: id.clone() }).await;
    let elsewhere = Presented { challenge: "ch_999".into(), ..own.clone() };
    assert_eq!(scene.take(&elsewhere).await, "Payer(Invalid)");
    let mut other = own.clone();
    other.payload.insert("action".into(), "cancel".into());
    assert_eq!(scene.take(&other).await, "Payer(Invalid)");
    let realm = Presented { realm: "other.example.com".into(), ..own.clone() };
    assert_eq!(scene.take(&realm).await, "Payer(Invalid)");
    assert_eq!(scene.take(&own).await, "answered", "the control");
    assert_eq!(scene.stands().await.state, SubscriptionState::Active);
}

/// SUB.S02: another plan of the same seller is not used with it.
#[tokio::test]
async fn a_subscription_is_used_for_its_own_plan() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    scene.price.plan = "gold".into();
    assert_eq!(scene.using().await, "Unknown");
    scene.price.plan = "pro".into();
    // A price that has changed since does not change what was agreed on.
    scene.price.amount = usd(900);
    assert_eq!(scene.using().await, "answered");
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, CHARGED);
    assert_eq!(scene.earned(), 1_000);
}

/// SUB.S06: what is not paid is past due: it is asked for again by the seller's schedule, answered with 402
/// meanwhile, and over in the end.
#[tokio::test]
async fn what_is_not_paid_is_past_due_and_then_over() {
    let mut scene = Scene::with(700).await;
    scene.begin().await;
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, FAILED);
    let due = scene.stands().await;
    assert_eq!((due.state, due.failures), (SubscriptionState::PastDue, 1));
    assert_eq!(due.retry_at, Some(at("2026-02-28T11:00:00Z")));
    assert_eq!(scene.renew("2026-02-28T10:30:00Z").await, NOTHING, "not yet");
    let lines = scene.paper.records().len();
    assert_eq!(scene.using().await, "Unpaid");
    assert_eq!(scene.paper.records().len(), lines, "asking in between writes nothing");
    assert_eq!(scene.renew("2026-02-28T11:00:00Z").await, FAILED);
    assert_eq!(scene.stands().await.retry_at, Some(at("2026-03-01T11:00:00Z")));
    assert_eq!(scene.renew("2026-03-01T11:00:00Z").await, FAILED);
    assert_eq!(scene.stands().await.retry_at, None);
    assert_eq!(scene.renew("2026-03-03T09:59:59Z").await, NOTHING);
    assert_eq!(scene.renew("2026-03-03T10:00:00Z").await, ENDED);
    assert_eq!(scene.stands().await.state.name(), "ended");
    scene.fund(10_000, "too late").await;
    assert_eq!(scene.using().await, "Over");
    assert_eq!(scene.earned(), 500);
}

/// SUB.S02: a later success in the same period is fine: at use, as soon as there is money.
#[tokio::test]
async fn a_payer_who_has_funded_the_account_is_served_at_once() {
    let mut scene = Scene::with(700).await;
    scene.begin().await;
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, FAILED);
    scene.fund(10_000, "second").await;
    scene.now = at("2026-02-28T10:01:00Z");
    assert_eq!(scene.using().await, "answered");
    let paid = scene.stands().await;
    assert_eq!((paid.state, paid.charges, paid.retry_at), (SubscriptionState::Active, 2, None));
    assert_eq!(paid.paid_until(), Some(at("2026-03-31T10:00:00Z")), "boundaries do not drift");
}

/// SUB.S05, SUB.S07: nothing is charged after a cancellation, whoever cancels; what is paid for is served.
#[tokio::test]
async fn cancelling_ends_the_charges() {
    for by_payer in [true, false] {
        let mut scene = Scene::with(10_000).await;
        scene.begin().await;
        if by_payer {
            assert_eq!(scene.cancel().await, "cancelled");
            assert_eq!(scene.cancel().await, "cancelled", "a second time is the same");
        } else {
            let id = scene.stands().await.facts.id;
            let cancelled = scene.till(None).cancel_subscription(id, scene.now).await.unwrap();
            assert_eq!(cancelled.state.name(), "cancelled");
        }
        scene.now = at("2026-02-28T09:59:59Z");
        assert_eq!(scene.using().await, "answered");
        scene.now = at("2026-02-28T10:00:00Z");
        assert_eq!(scene.using().await, "Over");
        assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, ENDED);
        assert_eq!(scene.renew("2026-03-31T10:00:00Z").await, NOTHING);
        assert_eq!(scene.using().await, "Over");
        assert_eq!(scene.earned(), 500);
    }
}

/// SUB.S05: the payer's own end counts as the seller's does.
#[tokio::test]
async fn nothing_is_charged_from_the_end_that_the_payer_has_signed() {
    let mut scene = Scene::with(10_000).await;
    let until = Some(at("2026-03-31T09:50:00Z"));
    let credential = scene.credential(&payer(), SubscriptionAct::Begin { until }).await;
    let mut longer = credential.clone();
    longer.payload.insert("until".into(), "2027-03-31T09:50:00Z".into());
    assert_eq!(scene.take(&longer).await, "Payer(Invalid)", "it is signed");
    assert_eq!(scene.take(&credential).await, "answered");
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, CHARGED);
    assert_eq!(scene.renew("2026-03-31T10:00:00Z").await, ENDED);
    assert_eq!(scene.stands().await.state.name(), "expired");
    assert_eq!(scene.using().await, "Over");
    assert_eq!(scene.earned(), 1_000);
}

/// A key that may not spend any more is not charged.
#[tokio::test]
async fn a_detached_key_is_not_charged() {
    let mut scene = Scene::with(10_000).await;
    scene.begin().await;
    let key = SpendingKey(parse_did_key(&payer().account()).unwrap());
    scene.enter(Entry::DetachKey { key }).await;
    assert_eq!(scene.renew("2026-02-28T10:00:00Z").await, FAILED);
    assert_eq!(scene.using().await, "Unpaid");
    assert_eq!(scene.earned(), 500);
}

/// SUB.S09: a request has the fields of the intent and no others, and what cannot be read is refused.
#[tokio::test]
async fn a_request_says_what_is_charged_and_nothing_else() {
    let mut scene = Scene::selling(
        SubscriptionPrice { expires_at: Some(at("2027-01-01T00:00:00Z")), ..price() },
        0,
    )
    .await;
    assert_eq!(
        scene.quote().request(),
        r#"{"amount":"500","currency":"usd","externalId":"pro","methodDetails":{"decimals":6},"periodCount":"1","periodUnit":"month","recipient":"seller","subscriptionExpires":"2027-01-01T00:00:00Z"}"#
    );
    let terms = |invitation: &Invitation| payer().subscription_terms(invitation);
    let sound = scene.invite();
    assert_eq!(terms(&sound).unwrap().period.to_string(), "1 month");
    for (name, value) in [
        ("periodCount", serde_json::json!("0")),
        ("periodCount", serde_json::json!("01")),
        ("periodCount", serde_json::json!(1)),
        ("periodUnit", serde_json::json!("year")),
        ("amount", serde_json::json!("0")),
        ("trialDays", serde_json::json!("30")),
        ("subscriptionExpires", serde_json::json!("soon")),
    ] {
        let mut odd = sound.clone();
        odd.request.insert(name.into(), value);
        assert!(terms(&odd).is_err(), "{name}");
    }
}

/// What is signed is what anybody can sign: the golden vectors of `docs/prepaid-subscription.md`.
#[tokio::test]
async fn what_is_signed_is_written_down() {
    // The seed of RFC 8032's first test, known to everybody.
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    let payer = PrepaidPayer::new(&seed, assets());
    let mut scene = Scene::with(0).await;
    let invitation = scene.invite();
    assert_eq!(invitation.challenge, "ch_1");
    let until = Some(at("2027-01-31T09:50:00Z"));
    let id = "sub_00112233445566778899aabbccddeeff".to_owned();
    for (act, signature) in [
        (SubscriptionAct::Begin { until }, BEGIN),
        (SubscriptionAct::Use { id: id.clone() }, USE),
        (SubscriptionAct::Cancel { id }, CANCEL),
    ] {
        let presented = present(&invitation, &payer, act.clone()).await;
        assert_eq!(presented.payload["signature"], signature, "{act:?}");
        let rail = PrepaidRail::new(assets());
        let read = rail.check_subscription(&presented, scene.now).unwrap();
        assert!(matches!(
            (act, read),
            (SubscriptionAct::Begin { .. }, Subscribing::Begin(_))
                | (SubscriptionAct::Use { .. }, Subscribing::Use { .. })
                | (SubscriptionAct::Cancel { .. }, Subscribing::Cancel { .. })
        ));
    }
}
