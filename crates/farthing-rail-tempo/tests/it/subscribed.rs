//! Subscriptions on a real chain: charged once a period by a key that may do nothing else, whatever is lost.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Admission, Answer, Ask, Dunning, Invitation, Payer as _, Presented, Protocol, Quote, Rail,
    Recovered, Recovery, Refusal, Rejection, Renewed, Renewing, SUBSCRIPTION, Scope, Store as _,
    SubscriptionAct, SubscriptionPayer as _, SubscriptionPrice, Till,
};
use farthing_ledger::{
    Audit, ChargeFailure, Ending, Event, Fingerprint, Holder, Outcome, Record, Side, Subscription,
    SubscriptionEvent, SubscriptionState, Terms, audit,
};
use farthing_money::{Amount, Timestamp};
use farthing_mpp::base64url;
use farthing_rail_tempo::{
    Address, KeyRing, Settings, SubscriptionSettings, TempoPayer, TempoRail,
};
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD};
use farthing_testkit::rail::Hand;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::sponsored::{SPONSOR, limits, sponsor};
use crate::world::{Fault, Proxy, World, nodes, settings, tokens};

/// The price of a day, in atoms.
const PRICE: u64 = 5_000_000;

/// How long a period is.
const DAY: u64 = 86_400;

const CHARGED: Renewed = Renewed { charged: 1, failed: 0, ended: 0, open: 0 };
const FAILED: Renewed = Renewed { charged: 0, failed: 1, ended: 0, open: 0 };
const ENDED: Renewed = Renewed { charged: 0, failed: 0, ended: 1, open: 0 };
const OPEN: Renewed = Renewed { charged: 0, failed: 0, ended: 0, open: 1 };
const NOTHING: Renewed = Renewed { charged: 0, failed: 0, ended: 0, open: 0 };

/// A seller with a book, a payer with a few days' money, and a node between them and the chain.
struct Scene {
    world: World,
    proxy: Proxy,
    rail: Arc<TempoRail>,
    paper: Paper,
    store: Arc<MemoryStore>,
    payer: TempoPayer,
    renewing: Renewing,
    recovery: Recovery,
    now: Timestamp,
    challenges: u8,
}

fn dunning() -> Dunning {
    let hours = |hours| Duration::from_hours(hours);
    Dunning { retries: vec![hours(1), hours(6)], grace: hours(72) }
}

fn price() -> SubscriptionPrice {
    SubscriptionPrice {
        amount: Amount::new("usd".parse().unwrap(), PRICE.into()),
        period: "1 day".parse().unwrap(),
        expires_at: None,
        plan: "pro".into(),
        dunning: dunning(),
    }
}

fn rail_over(url: &str, periods: u32, secrets: [u8; 2]) -> TempoRail {
    let settings = Settings {
        push: false,
        sponsor: Some(sponsor(limits())),
        wait: Duration::from_secs(5),
        ..settings()
    };
    let [current, former] = secrets;
    TempoRail::new(nodes(&[url]), settings).with_subscriptions(SubscriptionSettings {
        keys: KeyRing::new([current; 32], vec![[former; 32]]),
        periods,
        fee_max: 1_000_000,
    })
}

impl Scene {
    async fn open() -> Option<Self> {
        Self::lasting(12).await
    }

    /// A seller whose subscriptions are authorised for so many days.
    async fn lasting(periods: u32) -> Option<Self> {
        let world = World::start().await?;
        let proxy = Proxy::start(&world).await;
        let rail = Arc::new(rail_over(&proxy.url, periods, [1, 2]));
        let payer = TempoPayer::new(&[0x77; 32], world.nodes(), tokens()).unwrap();
        world.leave(payer.address(), PRICE * 10).await;
        let paper = Paper::default();
        let now = time(&world).await;
        let store = Arc::new(MemoryStore::open(paper.clone(), now));
        let renewing = Renewing::with(dunning());
        let recovery = Recovery::default();
        let challenges = 0;
        Some(Self { world, proxy, rail, paper, store, payer, renewing, recovery, now, challenges })
    }

    /// Lets time pass, for the chain and for everybody.
    async fn pass(&mut self, seconds: u64) {
        self.world.wait(seconds).await;
        self.now = time(&self.world).await;
    }

    fn ask(&self) -> Ask {
        let seller = Holder::new("seller").unwrap();
        let rail = self.rail.subscription().unwrap();
        let request = rail.quote_subscription(&price(), &seller).unwrap();
        let quote = Quote::subscription("tempo", price(), seller, &request);
        let quote = quote.completed(rail.completes().unwrap(), &request);
        Ask {
            scope: Scope::default(),
            quotes: vec![Arc::new(quote)],
            vouchers_buy: true,
            description: None,
            offer_ttl: Duration::from_mins(5),
            authorization_is_taken: false,
            terms: Terms { repeatable: true, ..Terms::default() },
            idempotency_key: None,
        }
    }

    /// A fresh challenge as a buyer reads it, and the trace that it carries.
    fn invite(&mut self) -> Invited {
        self.challenges += 1;
        let entropy = [self.challenges; 10];
        let offers = self.ask().offers(self.now, || entropy);
        let [offer] = offers.as_slice() else { panic!("{offers:?}") };
        let named = Fingerprint::of("challenge of the test", &[&offer.trace.to_bytes()]);
        let invitation = Invitation {
            protocol: "fake",
            method: "tempo".into(),
            intent: SUBSCRIPTION.into(),
            realm: "api.example.com".into(),
            challenge: base64url::encode(named.as_bytes()),
            request: serde_json::from_str(&offer.request()).unwrap(),
            expires_at: Some(offer.expires_at),
            expires: Some(offer.expires_at.to_string()),
            description: None,
            body: None,
            echo: String::new(),
        };
        Invited { invitation, trace: offer.trace }
    }

    async fn credential(&mut self, act: SubscriptionAct) -> Presented {
        let invited = self.invite();
        invited.answered(&self.payer, act).await
    }

    fn till_on(&self, rail: &Arc<TempoRail>, presented: Option<Presented>) -> Till {
        let hand = |it| -> Arc<dyn Protocol> { Arc::new(Hand(it)) };
        let protocols = presented.map(hand).into_iter().collect();
        Till { protocols, rails: vec![rail.clone()], store: self.store.clone() }
    }

    /// Presents a credential, and answers what it buys. Says what came of it.
    async fn take(&self, presented: &Presented) -> String {
        let till = self.till_on(&self.rail, Some(presented.clone()));
        said(till.admit(&self.ask(), &HeaderMap::new(), self.now).await, self.now)
    }

    async fn begin(&mut self) -> String {
        let credential = self.credential(SubscriptionAct::Begin { until: None }).await;
        self.take(&credential).await
    }

    async fn using(&mut self) -> String {
        let id = self.stands().await.facts.id.to_string();
        let credential = self.credential(SubscriptionAct::Use { id }).await;
        self.take(&credential).await
    }

    /// The only subscription.
    async fn stands(&self) -> Subscription {
        let all = self.store.subscriptions().await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Looks after subscriptions, as a gateway does.
    async fn renew(&mut self) -> Renewed {
        let till = self.till_on(&self.rail, None);
        till.renew(&mut self.renewing, self.now).await
    }

    async fn recover(&mut self) -> Recovered {
        let till = self.till_on(&self.rail, None);
        till.recover(&mut self.recovery, self.now).await
    }

    fn records(&self) -> Vec<Record> {
        self.paper.records()
    }

    fn audit(&self) -> Audit {
        audit(&self.records()).unwrap()
    }

    /// What the seller has earned by the books, and by the chain since `before`. They are the same.
    async fn earned(&self, before: u128) -> u128 {
        let account = "payable/seller/usd".parse().unwrap();
        let booked = self.audit().accounts.get(&account).map_or(0, |it| it.credits_posted);
        assert_eq!(self.world.balance(1).await - before, booked, "the chain and the books agree");
        booked
    }

    /// What the sponsor has spent by the books.
    fn fees(&self) -> u128 {
        let account = "spent/fees/usd".parse().unwrap();
        self.audit().accounts.get(&account).map_or(0, |it| it.debits_posted)
    }
}

/// A challenge, and what only the seller reads in it.
struct Invited {
    invitation: Invitation,
    trace: farthing_ledger::TraceId,
}

impl Invited {
    async fn answered(&self, payer: &TempoPayer, act: SubscriptionAct) -> Presented {
        let paid = payer.subscribe(&self.invitation, act).await.ok().unwrap();
        let presented = farthing_testkit::rail::present(&self.invitation, paid);
        Presented { trace: self.trace, ..presented }
    }
}

fn said(admitted: Result<Admission, Refusal>, now: Timestamp) -> String {
    match admitted {
        Ok(Admission::Deliver(posted)) => {
            assert!(posted.payment().amount.is_zero(), "what is asked within costs nothing");
            let answer = Answer { status: 200, fields: HeaderMap::new(), body: b"a".to_vec() };
            posted.delivered(Outcome { status: 200 }, Some(answer), now);
            "answered".into()
        }
        Ok(Admission::Again(_)) => "again".into(),
        Ok(Admission::Unsubscribed(it)) => it.subscription.state.name().into(),
        Ok(admission) => panic!("{admission:?}"),
        Err(Refusal::Subscription(refusal)) => format!("{:?}", refusal.error),
        Err(refusal) => format!("{refusal:?}"),
    }
}

/// The chain's clock.
async fn time(world: &World) -> Timestamp {
    let block = world.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    let text = block["result"]["timestamp"].as_str().unwrap();
    let secs = u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    Timestamp::from_micros(secs * 1_000_000)
}

fn only(name: &str) -> Value {
    name.into()
}

/// TSU.S05, TSU.S06, TSU.S07, TSU.S08: the first charge makes the key known and pays the first day; each day
/// after it is charged once, when it has begun by the chain's clock, for as long as nobody ends it. Days are
/// counted from the first charge's block. The seller pays the fees.
#[tokio::test]
async fn each_day_is_charged_once() {
    let Some(mut scene) = Scene::open().await else { return };
    let (before, fees) = (scene.world.balance(1).await, scene.world.balance(SPONSOR).await);
    assert_eq!(scene.begin().await, "answered");
    let begun = scene.stands().await;
    assert_eq!((begun.state, begun.charges), (SubscriptionState::Active, 1));
    let hash = begun.reference.clone().unwrap();
    let receipt = scene.world.ask("eth_getTransactionReceipt", json!([hash])).await;
    let block = json!([receipt["result"]["blockNumber"], false]);
    let block = scene.world.ask("eth_getBlockByNumber", block).await;
    let mined_s = block["result"]["timestamp"].as_str().unwrap().trim_start_matches("0x");
    let mined_s = u64::from_str_radix(mined_s, 16).unwrap();
    assert_eq!(begun.anchor.unwrap().as_secs(), mined_s, "the chain says when it began");
    assert_eq!(scene.using().await, "answered");
    assert_eq!(scene.renew().await, NOTHING);
    assert_eq!(scene.earned(before).await, u128::from(PRICE));
    for day in 1..=3 {
        scene.pass(DAY - 60).await;
        // A minute is missing yet, and whatever the seller's own clock says, the chain decides.
        scene.pass(60).await;
        assert_eq!(scene.renew().await, CHARGED, "day {day}");
        assert_eq!(scene.renew().await, NOTHING);
        assert_eq!(scene.using().await, "answered");
        let stands = scene.stands().await;
        assert_eq!((stands.charged, stands.charges), (Some(day), day + 1));
        assert_eq!(stands.facts.id, begun.facts.id);
        assert_ne!(stands.reference, begun.reference);
    }
    // At use, before anybody has looked; and what was missed is not made up for.
    scene.pass(3 * DAY).await;
    assert_eq!(scene.using().await, "answered");
    let stands = scene.stands().await;
    assert_eq!((stands.charged, stands.charges), (Some(6), 5));
    assert_eq!(scene.earned(before).await, 5 * u128::from(PRICE));
    assert_eq!(scene.world.holds(scene.payer.address()).await, 5 * u128::from(PRICE));
    let paid = fees - scene.world.balance(SPONSOR).await;
    assert!(paid > 0);
    assert_eq!(scene.fees(), paid, "what it cost is in the books");
}

/// TSU.S06: a day that has begun by the seller's clock and not by the chain's is not charged yet.
#[tokio::test]
async fn the_chain_says_when_a_day_begins() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    // The seller's clock runs ahead.
    scene.now = scene.stands().await.begins(1).unwrap();
    assert_eq!(scene.renew().await, OPEN);
    assert_eq!(scene.using().await, "TryAgain");
    assert_eq!(scene.earned(before).await, u128::from(PRICE));
    scene.pass(DAY).await;
    assert_eq!(scene.using().await, "answered", "the control");
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// TSU.S06, SUB.C03: the same credential is the same subscription: it makes no second key known, is charged
/// once, and is answered as before, by another gateway too.
#[tokio::test]
async fn an_authorisation_that_comes_again_begins_nothing() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    let credential = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&credential).await, "answered");
    assert_eq!(scene.take(&credential).await, "again");
    let elsewhere = Arc::new(rail_over(&scene.world.chain.url, 12, [1, 2]));
    let till = scene.till_on(&elsewhere, Some(credential.clone()));
    let again = till.admit(&scene.ask(), &HeaderMap::new(), scene.now).await;
    // The ask of a rail is its own: another gateway asks with the same key for the same offer.
    assert_eq!(said(again, scene.now), "again");
    assert_eq!(scene.stands().await.charges, 1);
    assert_eq!(scene.earned(before).await, u128::from(PRICE));
}

/// A wallet that knows nothing but to authorise again, as the standard's own do, is let into what it has paid
/// for; it is not charged again, and what it signed then is never made known to the chain.
#[tokio::test]
async fn a_second_authorisation_of_the_same_payer_uses_the_first() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    let second = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&second).await, "answered");
    assert_eq!(scene.take(&second).await, "again");
    assert_eq!(scene.stands().await.charges, 1);
    scene.pass(DAY).await;
    assert_eq!(scene.begin().await, "answered");
    assert_eq!((scene.stands().await.charges, scene.earned(before).await), (2, 10_000_000));
    // What is over is not gone on with: another begins.
    let id = scene.stands().await.facts.id.to_string();
    let cancel = scene.credential(SubscriptionAct::Cancel { id }).await;
    assert_eq!(scene.take(&cancel).await, "cancelled");
    assert_eq!(scene.begin().await, "answered", "it is paid for until tomorrow");
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, ENDED);
    assert_eq!(scene.begin().await, "answered");
    assert_eq!(scene.store.subscriptions().await.unwrap().len(), 2);
    assert_eq!(scene.earned(before).await, 15_000_000);
}

/// TSU.S04, SUB.S03: who uses a subscription is its payer, proved for the very challenge; whoever else knows
/// its name is told nothing.
#[tokio::test]
async fn only_its_payer_uses_it() {
    let Some(mut scene) = Scene::open().await else { return };
    assert_eq!(scene.begin().await, "answered");
    let id = scene.stands().await.facts.id.to_string();
    let using = SubscriptionAct::Use { id: id.clone() };
    let invited = scene.invite();
    let theirs = invited.answered(&scene.payer, using.clone()).await;
    let stranger = TempoPayer::new(&[0x66; 32], scene.world.nodes(), tokens()).unwrap();
    let strange = invited.answered(&stranger, using.clone()).await;
    assert_eq!(scene.take(&strange).await, "Unknown");
    let named = Presented { source: theirs.source.clone(), ..strange };
    let invalid = format!("{:?}", Refusal::Payer(Rejection::Invalid));
    assert_eq!(scene.take(&named).await, invalid);
    // What was signed for one challenge is good for no other, and a use is no cancellation.
    let other = scene.invite();
    let moved = other.answered(&scene.payer, using).await;
    let moved = Presented { payload: theirs.payload.clone(), ..moved };
    assert_eq!(scene.take(&moved).await, invalid);
    let mut turned = theirs.clone();
    turned.payload.insert("type".into(), only("subscriptionCancel"));
    assert_eq!(scene.take(&turned).await, invalid);
    assert_eq!(scene.take(&theirs).await, "answered", "the control");
    assert_eq!(scene.stands().await.state, SubscriptionState::Active);
}

/// TSU.S09, TSU.S03, R-08: each challenge has a key of its own, and an authorisation of one answers no other;
/// nor is it anybody's but its signer's.
#[tokio::test]
async fn an_authorisation_answers_its_own_challenge() {
    let Some(mut scene) = Scene::open().await else { return };
    let (one, other) = (scene.invite(), scene.invite());
    let key = |it: &Invited| it.invitation.request["methodDetails"]["accessKey"].clone();
    assert_ne!(key(&one)["accessKeyAddress"], key(&other)["accessKeyAddress"]);
    let begin = SubscriptionAct::Begin { until: None };
    let for_one = one.answered(&scene.payer, begin.clone()).await;
    let for_other = other.answered(&scene.payer, begin).await;
    let mixed = Presented { payload: for_one.payload.clone(), ..for_other };
    let invalid = format!("{:?}", Refusal::Payer(Rejection::Invalid));
    assert_eq!(scene.take(&mixed).await, invalid);
    let stranger = format!("did:pkh:eip155:42431:{}", DEVELOPMENT_ACCOUNTS[3]);
    let renamed = Presented { source: Some(stranger), ..for_one.clone() };
    assert_eq!(scene.take(&renamed).await, invalid);
    let unnamed = Presented { source: None, ..for_one };
    assert_eq!(scene.take(&unnamed).await, "answered", "the control");
    let payer = scene.stands().await.facts.payer;
    assert_eq!(payer, scene.payer.account(), "found out from what was signed");
}

/// TSU.S05, SUB.S01: without the money nothing begins and nothing is paid to the network; the same credential
/// begins it once there is. An empty account later makes it past due, and it recovers.
#[tokio::test]
async fn an_empty_account_is_past_due_until_it_is_funded() {
    let Some(mut scene) = Scene::open().await else { return };
    let (before, payer) = (scene.world.balance(1).await, scene.payer.address());
    let fees = scene.world.balance(SPONSOR).await;
    scene.world.leave(payer, PRICE - 1).await;
    let credential = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&credential).await, "Short");
    assert_eq!(scene.stands().await.state, SubscriptionState::Opening);
    assert_eq!(scene.world.balance(SPONSOR).await, fees, "what would fail is not sent");
    scene.world.leave(payer, PRICE).await;
    assert_eq!(scene.take(&credential).await, "answered");
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, FAILED);
    let due = scene.stands().await;
    assert_eq!((due.state, due.failures), (SubscriptionState::PastDue, 1));
    assert_eq!(due.retry_at, Some(scene.now.after(Duration::from_hours(1))));
    assert_eq!(scene.using().await, "Unpaid");
    assert_eq!(scene.renew().await, NOTHING, "not before it is due again");
    scene.pass(3_601).await;
    assert_eq!(scene.renew().await, FAILED);
    assert_eq!(scene.stands().await.failures, 2);
    // Funded: the payer needs not wait for the next try.
    scene.world.leave(payer, 2 * PRICE).await;
    assert_eq!(scene.using().await, "answered");
    let stands = scene.stands().await;
    assert_eq!((stands.state, stands.failures), (SubscriptionState::Active, 0));
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
    // Never funded again: over after the grace.
    scene.world.leave(payer, 0).await;
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, FAILED);
    scene.pass(3 * DAY + 1).await;
    assert_eq!(scene.renew().await, ENDED);
    let ended = SubscriptionState::Ended { why: Ending::Lapsed };
    assert_eq!(scene.stands().await.state, ended);
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// TSU.S10: a payer who has taken the key back on the chain has cancelled: it is noted as theirs, nothing is
/// tried again, and another subscription can be begun.
#[tokio::test]
async fn a_revoked_key_is_a_cancellation_by_the_payer() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    let invited = scene.invite();
    let terms = scene.payer.subscription_terms(&invited.invitation).unwrap();
    let revocable = terms.revocable.unwrap();
    // The chain takes back only what it knows.
    assert!(scene.payer.revoke(&revocable).await.is_err());
    let begin = SubscriptionAct::Begin { until: None };
    let credential = invited.answered(&scene.payer, begin).await;
    assert_eq!(scene.take(&credential).await, "answered");
    scene.payer.revoke(&revocable).await.unwrap();
    scene.payer.revoke(&revocable).await.unwrap();
    assert_eq!(scene.using().await, "answered", "the day is paid for");
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, FAILED);
    let stands = scene.stands().await;
    assert_eq!(stands.state, SubscriptionState::Cancelled { by: Side::Payer });
    let failed = scene.records().into_iter().find_map(|record| {
        let Event::Subscription { step, .. } = record.event else { return None };
        if let SubscriptionEvent::Failed { why, .. } = step { Some(why) } else { None }
    });
    assert_eq!(failed, Some(ChargeFailure::Revoked), "whose doing it was");
    assert_eq!(scene.using().await, "Over");
    scene.pass(5).await;
    assert_eq!(scene.renew().await, ENDED);
    assert_eq!(scene.begin().await, "answered", "another one");
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// SUB.S04, TSU.S07: any number of gateways with one book charge a day once; and what one has begun another
/// goes on with, under the secrets that they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gateways_at_once_charge_once() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    scene.pass(DAY).await;
    let id = scene.stands().await.facts.id.to_string();
    let mut uses = Vec::new();
    for _ in 0..4 {
        uses.push(scene.credential(SubscriptionAct::Use { id: id.clone() }).await);
    }
    // The second gateway's secret has become the first's former one.
    let other = Arc::new(rail_over(&scene.world.chain.url, 12, [3, 1]));
    let mut tasks = Vec::new();
    for (at, presented) in uses.into_iter().enumerate() {
        let till = scene.till_on(&scene.rail, Some(presented));
        let renews = scene.till_on(if at % 2 == 0 { &scene.rail } else { &other }, None);
        let (ask, now) = (scene.ask(), scene.now);
        tasks.push(tokio::spawn(async move {
            let mut renewing = Renewing::with(dunning());
            let fields = HeaderMap::new();
            let (renewed, used) =
                tokio::join!(renews.renew(&mut renewing, now), till.admit(&ask, &fields, now));
            (renewed.charged, said(used, now))
        }));
    }
    let mut answered = 0;
    for task in tasks {
        let (_, used) = task.await.unwrap();
        assert!(["answered", "TryAgain"].contains(&used.as_str()), "{used}");
        answered += u32::from(used == "answered");
    }
    scene.renew().await;
    assert_eq!(scene.using().await, "answered", "after {answered} of four");
    assert_eq!(scene.stands().await.charges, 2);
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// F-07: the node takes a charge and its answer is lost. The charge is found on the chain, and not made again.
#[tokio::test]
async fn a_lost_answer_is_found_on_the_chain() {
    for fault in [Fault::Loses, Fault::Hangs] {
        let Some(mut scene) = Scene::open().await else { return };
        let before = scene.world.balance(1).await;
        assert_eq!(scene.begin().await, "answered");
        scene.pass(DAY).await;
        scene.proxy.turn(fault);
        scene.renew().await;
        scene.proxy.turn(Fault::None);
        assert_eq!(scene.using().await, "answered");
        assert_eq!(scene.stands().await.charges, 2);
        assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
    }
}

/// F-08: a charge that the node dropped is found out by its own order: it is not made again while the chain
/// could still take it, is given up once that is over, and then made anew.
#[tokio::test]
async fn a_dropped_charge_is_made_again_once_it_is_certain() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    scene.pass(DAY).await;
    scene.proxy.turn(Fault::Drops);
    assert_eq!(scene.renew().await, OPEN);
    let on_its_way = scene.stands().await.in_flight.unwrap();
    assert_eq!(scene.renew().await, NOTHING, "one at a time");
    assert_eq!(scene.using().await, "TryAgain");
    assert_eq!(scene.stands().await.in_flight, Some(on_its_way), "it could still be taken");
    scene.proxy.turn(Fault::None);
    scene.pass(60).await;
    // The first day's charge is confirmed meanwhile, as every payment is.
    let voided = Recovered { voided: 1, matched: 1, ..Recovered::default() };
    assert_eq!(scene.recover().await, voided);
    assert_eq!(scene.renew().await, CHARGED);
    assert_eq!(scene.stands().await.charges, 2);
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// F-08: a charge that comes late, after everybody has given up waiting, is found by recovery; the order of
/// things between the seller and the chain does not matter.
#[tokio::test]
async fn a_late_charge_is_found_by_recovery() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    scene.proxy.turn(Fault::Stalls);
    let credential = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&credential).await, "TryAgain");
    assert_eq!(scene.take(&credential).await, "TryAgain", "nobody knows yet");
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(scene.recover().await, open);
    scene.proxy.catch_up().await;
    loop {
        scene.pass(1).await;
        if scene.recover().await.posted > 0 {
            break;
        }
    }
    let stands = scene.stands().await;
    assert_eq!((stands.state, stands.charges), (SubscriptionState::Active, 1));
    assert_eq!(scene.take(&credential).await, "answered", "the payer comes back for the answer");
    assert_eq!(scene.earned(before).await, u128::from(PRICE));
}

/// F-07: a gateway dies between the claim and the chain, or while it waits. The next one knows the order, hands
/// the same one over where that is safe, and makes no other.
#[tokio::test]
async fn a_crash_between_the_claim_and_the_chain_charges_once() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    // Nothing leaves, and the gateway stops.
    scene.proxy.turn(Fault::Busy);
    let credential = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&credential).await, "TryAgain");
    assert!(scene.stands().await.in_flight.is_some(), "the order is in the book");
    scene.store = Arc::new(MemoryStore::open(scene.paper.clone(), scene.now));
    scene.proxy.turn(Fault::None);
    assert_eq!(scene.take(&credential).await, "answered", "the same order, sent once");
    scene.pass(DAY).await;
    // The charge is at the chain, and the gateway stops while it waits.
    scene.proxy.turn(Fault::Hangs);
    let till = scene.till_on(&scene.rail, None);
    let mut renewing = Renewing::with(dunning());
    let waiting = till.renew(&mut renewing, scene.now);
    let mined = async {
        while scene.world.balance(1).await - before < 2 * u128::from(PRICE) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        renewed = waiting => panic!("it waits: {renewed:?}"),
        () = mined => {}
    }
    scene.store = Arc::new(MemoryStore::open(scene.paper.clone(), scene.now));
    scene.proxy.turn(Fault::None);
    let posted = Recovered { posted: 1, matched: 1, ..Recovered::default() };
    assert_eq!(scene.recover().await, posted);
    assert_eq!(scene.using().await, "answered");
    let attempts = scene.records().into_iter().filter(|record| {
        let Event::Claimed { payment, .. } = &record.event else { return false };
        payment.subscription.is_some_and(|it| it.is_charge())
    });
    assert_eq!(attempts.count(), 2, "one for each day");
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// TSU.S05, SUB.S05: nothing is charged from the moment on that the payer has signed; and the offer says one
/// that lies within the periods that the seller wants.
#[tokio::test]
async fn nothing_is_charged_after_the_end() {
    let Some(mut scene) = Scene::lasting(2).await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    let expires = scene.stands().await.facts.expires_at.unwrap();
    assert!(expires < scene.stands().await.begins(2).unwrap());
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, CHARGED);
    assert_eq!(scene.stands().await.paid_until(), Some(expires));
    scene.pass(DAY - 1_200).await;
    assert_eq!(scene.using().await, "Over");
    assert_eq!(scene.renew().await, ENDED);
    let ended = SubscriptionState::Ended { why: Ending::Expired };
    assert_eq!(scene.stands().await.state, ended);
    scene.pass(DAY).await;
    assert_eq!(scene.renew().await, NOTHING);
    assert_eq!(scene.earned(before).await, 2 * u128::from(PRICE));
}

/// SUB.S05: once it is cancelled, by either side, nothing is charged; what was paid for is used.
#[tokio::test]
async fn nothing_is_charged_once_it_is_cancelled() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    assert_eq!(scene.begin().await, "answered");
    let id = scene.stands().await.facts.id;
    let cancel = SubscriptionAct::Cancel { id: id.to_string() };
    let credential = scene.credential(cancel).await;
    assert_eq!(scene.take(&credential).await, "cancelled");
    assert_eq!(scene.using().await, "answered");
    scene.pass(DAY).await;
    assert_eq!(scene.using().await, "Over");
    assert_eq!(scene.renew().await, ENDED);
    assert_eq!(scene.earned(before).await, u128::from(PRICE));
}

/// what a sponsor does not pay for is not charged, and is the seller's to mend.
#[tokio::test]
async fn without_the_fee_nothing_is_charged() {
    let Some(mut scene) = Scene::open().await else { return };
    let before = scene.world.balance(1).await;
    let dear = rail_over(&scene.proxy.url, 12, [1, 2]);
    let rich = Arc::clone(&scene.rail);
    scene.rail = Arc::new(dear.with_subscriptions(SubscriptionSettings {
        keys: KeyRing::new([1; 32], Vec::new()),
        periods: 12,
        fee_max: 1,
    }));
    let credential = scene.credential(SubscriptionAct::Begin { until: None }).await;
    assert_eq!(scene.take(&credential).await, "TryAgain");
    assert_eq!((scene.stands().await.attempts, scene.earned(before).await), (0, 0));
    scene.rail = rich;
    assert_eq!(scene.take(&credential).await, "answered", "the control");
    // Without a secret that made the key, nobody can charge it.
    let stranger = Arc::new(rail_over(&scene.proxy.url, 12, [8, 9]));
    scene.pass(DAY).await;
    let till = scene.till_on(&stranger, None);
    assert_eq!(till.renew(&mut Renewing::with(dunning()), scene.now).await, OPEN);
    assert_eq!(scene.renew().await, CHARGED, "the control");
    let token: Address = PATH_USD.parse().unwrap();
    assert!(scene.world.nodes().balance(token, scene.payer.address()).await.is_ok());
}
