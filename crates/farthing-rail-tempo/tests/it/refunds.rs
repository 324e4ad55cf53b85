//! Money goes back: once, to whoever paid, whatever happens on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{NoRefund, Recovered, RefundRefusal};
use farthing_ledger::{Holder, Payment, RefundError, RefundStanding, StoryStanding, Way};
use farthing_rail_tempo::{Nodes, Refunder, Settings, Split, TempoRail};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, development_key};
use farthing_testkit::rail::{Counter, Railway};
use farthing_testkit::store::START;
use serde_json::{Value, json};

use crate::sponsored::{SPONSOR, limits, sponsor};
use crate::world::{Fault, Proxy, World, nodes, settings};

/// The account that gives back, and the one that paid.
const REFUNDER: usize = 6;
const PAYER: usize = 2;

fn refunding() -> Settings {
    let refunder = Refunder::new(&development_key(REFUNDER)).unwrap();
    Settings { refunder: Some(refunder), ..settings() }
}

fn seller(world: &World, nodes: Arc<Nodes>) -> Railway {
    let settings = Settings { wait: Duration::from_secs(2), ..refunding() };
    world.railway_with(TempoRail::new(nodes, settings))
}

/// A counter at which challenge `name` was paid and answered.
async fn paid(railway: &Railway, name: &str) -> (Counter, Payment) {
    let counter = Counter::new(&railway.rail, &[]).await;
    let payment = pay(&counter, railway, name).await;
    (counter, payment)
}

async fn pay(counter: &Counter, railway: &Railway, name: &str) -> Payment {
    let presented = railway.pay(&railway.invite(name)).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    counter.payments().into_iter().find(|it| it.challenge == name).unwrap()
}

fn reference(standing: &RefundStanding) -> String {
    let RefundStanding::Posted(settlement) = standing else { panic!("{standing:?}") };
    settlement.reference.clone()
}

/// What was taken from the seller's earnings, in atoms: given back, and on its way.
fn given_back(counter: &Counter) -> (u128, u128) {
    let earned = counter.audit().accounts[&"payable/seller/usd".parse().unwrap()];
    (earned.debits_posted, earned.debits_pending)
}

fn came(refunded: usize) -> Recovered {
    Recovered { refunded, ..Recovered::default() }
}

/// By command: the money goes back to the account that paid, in the token that was paid in, from the
/// refund account, which pays the fee. The transfer names the payment, the book the transfer and the fee;
/// and the same reference again moves nothing.
#[tokio::test]
async fn a_refund_goes_back_to_whoever_paid() {
    let Some(world) = World::start().await else { return };
    let railway = seller(&world, world.nodes());
    let (counter, payment) = paid(&railway, "a").await;
    let before = [world.balance(PAYER).await, world.balance(REFUNDER).await];
    let (way, standing) = counter.refund(&payment, None, "first").await.unwrap();
    let after = [world.balance(PAYER).await, world.balance(REFUNDER).await];
    assert_eq!((way, after[0] - before[0]), (Way::Back, 2_500));
    let fee = before[1] - after[1] - 2_500;
    let spent = counter.audit().accounts[&"spent/fees/usd".parse().unwrap()].debits_posted;
    assert!(fee > 0);
    assert_eq!((spent, given_back(&counter)), (fee, (2_500, 0)));
    let hash = reference(&standing);
    let receipt = world.ask("eth_getTransactionReceipt", json!([hash])).await;
    let logs = receipt["result"]["logs"].as_array().unwrap().clone();
    let memo = logs.iter().find_map(|log| log["topics"][3].as_str()).unwrap().to_owned();
    let named = payment.id.to_string().replace("pay_", "");
    assert_eq!(memo[12..44], named, "the memo names the payment: {memo}");
    assert_eq!(counter.refund(&payment, Some(2_500), "first").await.unwrap(), (way, standing));
    let too_much = RefundRefusal::Book(RefundError::TooMuch);
    assert_eq!(counter.refund(&payment, Some(1), "second").await, Err(too_much));
    assert_eq!(counter.recover(START).await, Recovered::default(), "nothing is left to do");
    assert_eq!([world.balance(PAYER).await, world.balance(REFUNDER).await], after);
    assert_eq!(counter.story(&payment).standing, StoryStanding::Refunded);
}

/// In parts, up to the price and not beyond.
#[tokio::test]
async fn a_payment_is_given_back_in_parts() {
    let Some(world) = World::start().await else { return };
    let railway = seller(&world, world.nodes());
    let (counter, payment) = paid(&railway, "a").await;
    let before = world.balance(PAYER).await;
    let too_much = || Err(RefundRefusal::Book(RefundError::TooMuch));
    assert_eq!(counter.refund(&payment, Some(2_501), "all and one").await, too_much());
    let mut references = BTreeSet::new();
    for (atoms, name) in [(Some(1_000), "one"), (Some(1_000), "two"), (None, "the rest")] {
        let (_, standing) = counter.refund(&payment, atoms, name).await.unwrap();
        references.insert(reference(&standing));
    }
    assert_eq!(references.len(), 3, "equal parts are refunds of their own");
    assert_eq!(counter.refund(&payment, Some(1), "one more").await, too_much());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
}

/// By rule: what failed is given back by itself, once.
#[tokio::test]
async fn what_failed_is_given_back_by_itself() {
    let Some(world) = World::start().await else { return };
    let railway = seller(&world, world.nodes());
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take_in_vain(&presented).await, Ok(()));
    let before = world.balance(PAYER).await;
    assert_eq!(counter.recover(START).await, came(1), "ordered");
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((0, 2_500), before));
    assert_eq!(counter.recover(START).await, came(1), "sent");
    assert_eq!(counter.recover(START).await, Recovered::default());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
    assert!(counter.take(&presented).await.is_err(), "what was given back buys nothing");
}

/// A crash between the order and its sending, and one between the sending and the answer: whoever
/// restarts carries the same order out, also with another key by then, and the money moves once.
#[tokio::test]
async fn a_crash_does_not_refund_twice_or_never() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = seller(&world, nodes(&[&proxy.url]));
    let (counter, payment) = paid(&railway, "a").await;
    let before = world.balance(PAYER).await;
    counter.order_refund(&payment, "first").await;
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((0, 2_500), before));
    let other = Refunder::new(&development_key(5)).unwrap();
    let other = Settings { refunder: Some(other), ..settings() };
    let restarted = world.railway_with(TempoRail::new(world.nodes(), other));
    let restarted = counter.on(&restarted.rail);
    assert_eq!(restarted.recover(START).await, came(1));
    assert_eq!(restarted.recover(START).await, Recovered::default());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
    // The node passes it on and never answers; the process is gone before anybody knows.
    let payment = pay(&counter, &railway, "b").await;
    let before = world.balance(PAYER).await;
    proxy.turn(Fault::Hangs);
    let moved = async {
        while world.balance(PAYER).await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        made = counter.refund(&payment, None, "second") => panic!("{made:?}"),
        () = moved => {}
    }
    assert_eq!(given_back(&counter), (2_500, 2_500), "ordered, and nobody knows more");
    assert_eq!(restarted.recover(START).await, came(1));
    let again = restarted.refund(&payment, Some(2_500), "second").await.unwrap();
    assert!(reference(&again.1).starts_with("0x"));
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((5_000, 0), before + 2_500));
}

/// An answer that is lost does not lose the refund, and a refund that is dropped is sent again for as
/// long as it may be mined.
#[tokio::test]
async fn a_lost_answer_does_not_refund_twice() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = seller(&world, nodes(&[&proxy.url]));
    let (counter, payment) = paid(&railway, "a").await;
    let before = world.balance(PAYER).await;
    proxy.turn(Fault::Loses);
    let (_, standing) = counter.refund(&payment, Some(1_000), "lost").await.unwrap();
    assert!(reference(&standing).starts_with("0x"), "it was found on the chain");
    proxy.turn(Fault::Drops);
    let (_, standing) = counter.refund(&payment, None, "dropped").await.unwrap();
    assert_eq!(standing, RefundStanding::Pending);
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open);
    assert_eq!(
        (given_back(&counter), world.balance(PAYER).await),
        ((1_000, 1_500), before + 1_000)
    );
    proxy.turn(Fault::None);
    assert_eq!(counter.recover(START).await, came(1));
    assert_eq!(counter.recover(START).await, Recovered::default());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
}

/// An order whose time is over without being mined never moves: it is given up, and not before; and what
/// is owed by rule is ordered anew.
#[tokio::test]
async fn an_order_that_comes_too_late_is_made_anew() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = seller(&world, nodes(&[&proxy.url]));
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take_in_vain(&presented).await, Ok(()));
    let before = world.balance(PAYER).await;
    assert_eq!(counter.recover(START).await, came(1), "ordered");
    proxy.turn(Fault::Refuses);
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open, "a node's no is not the end of it");
    world.wait(60).await;
    let voided = Recovered { voided: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, voided);
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((0, 0), before));
    proxy.turn(Fault::None);
    assert_eq!(counter.recover(START).await, came(1), "ordered anew");
    assert_eq!(counter.recover(START).await, came(1), "sent");
    assert_eq!(counter.recover(START).await, Recovered::default());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
}

/// A node that forgets what it has mined does not get a refund made twice, where another remembers.
#[tokio::test]
async fn a_forgetful_node_does_not_refund_twice() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = seller(&world, nodes(&[&proxy.url]));
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take_in_vain(&presented).await, Ok(()));
    let before = world.balance(PAYER).await;
    assert_eq!(counter.recover(START).await, came(1), "ordered");
    proxy.turn(Fault::Forgets);
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open, "sent, and nobody knows");
    assert_eq!(world.balance(PAYER).await, before + 2_500);
    world.wait(60).await;
    let both = seller(&world, nodes(&[&proxy.url, &world.chain.url]));
    let restarted = counter.on(&both.rail);
    assert_eq!(restarted.recover(START).await, came(1), "found");
    assert_eq!(restarted.recover(START).await, Recovered::default());
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
}

/// With too little in the refund account, and with no node, nothing is ordered and nothing is taken; with
/// no refund account at all the payer is credited. And an order whose account was emptied since stays
/// good until its time is over.
#[tokio::test]
async fn what_cannot_be_given_back_is_said() {
    let Some(world) = World::start().await else { return };
    let railway = seller(&world, world.nodes());
    let (counter, payment) = paid(&railway, "a").await;
    let before = world.balance(PAYER).await;
    let account = DEVELOPMENT_ACCOUNTS[REFUNDER].parse().unwrap();
    for atoms in [0, 2_499, 2_500] {
        world.leave(account, atoms).await;
        let short = Err(RefundRefusal::Rail(NoRefund::Short));
        assert_eq!(counter.refund(&payment, None, "first").await, short, "{atoms}");
    }
    let nowhere = seller(&world, nodes(&["http://127.0.0.1:1"]));
    let later = counter.on(&nowhere.rail).refund(&payment, None, "first").await;
    assert_eq!(later, Err(RefundRefusal::Rail(NoRefund::Later)));
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((0, 0), before));
    world.leave(account, 1_000_000).await;
    counter.order_refund(&payment, "first").await;
    world.leave(account, 0).await;
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open);
    world.leave(account, 1_000_000).await;
    assert_eq!(counter.recover(START).await, came(1), "the control");
    assert_eq!((given_back(&counter), world.balance(PAYER).await), ((2_500, 0), before + 2_500));
    let without = world.railway();
    let payment = pay(&counter, &without, "b").await;
    let before = world.balance(PAYER).await;
    let credited = counter.on(&without.rail).refund(&payment, None, "first").await.unwrap();
    assert_eq!(credited.0, Way::Credit);
    let credit = format!("prepaid/{}/usd", payment.payer);
    let credit = counter.audit().accounts[&credit.parse().unwrap()];
    assert_eq!((credit.credits_posted, world.balance(PAYER).await), (2_500, before));
}

/// A sponsored payment goes back to its sender, not to the sponsor. Of a split one the seller gives back
/// the whole price out of its own earnings, as far as they go: what others were paid stays theirs.
#[tokio::test]
async fn sponsored_and_split_payments_are_given_back() {
    let Some(world) = World::start().await else { return };
    let settings = Settings { push: false, sponsor: Some(sponsor(limits())), ..refunding() };
    let railway = world.railway_with(TempoRail::new(world.nodes(), settings));
    let (counter, payment) = paid(&railway, "a").await;
    let before = [world.balance(PAYER).await, world.balance(SPONSOR).await];
    let (way, _) = counter.refund(&payment, None, "first").await.unwrap();
    let after = [world.balance(PAYER).await, world.balance(SPONSOR).await];
    assert_eq!((way, after), (Way::Back, [before[0] + 2_500, before[1]]));
    let partner = Split {
        payee: Holder::new("partner").unwrap(),
        recipient: DEVELOPMENT_ACCOUNTS[5].parse().unwrap(),
        basis_points: 3_000,
    };
    let settings = Settings { splits: vec![partner], ..refunding() };
    let railway = world.railway_with(TempoRail::new(world.nodes(), settings));
    let (counter, payment) = paid(&railway, "b").await;
    let short = Err(RefundRefusal::Book(RefundError::Short));
    assert_eq!(counter.refund(&payment, None, "all").await, short, "more than it has earned");
    assert!(counter.refund(&payment, Some(1_750), "the seller's part").await.is_ok());
    pay(&counter, &railway, "c").await;
    let before = [world.balance(PAYER).await, world.balance(5).await];
    assert!(counter.refund(&payment, None, "the rest").await.is_ok());
    let after = [world.balance(PAYER).await, world.balance(5).await];
    assert_eq!((after, given_back(&counter)), ([before[0] + 750, before[1]], (2_500, 0)));
}

/// Any number of refunds go from one account at once: each is settled once, by a transfer of its own.
#[tokio::test(flavor = "multi_thread")]
async fn one_account_refunds_many_at_once() {
    let Some(world) = World::start().await else { return };
    let railway = seller(&world, world.nodes());
    let counter = Arc::new(Counter::new(&railway.rail, &[]).await);
    let mut payments = Vec::new();
    for at in 0..32 {
        payments.push(pay(&counter, &railway, &format!("c{at}")).await);
    }
    let before = [world.balance(PAYER).await, world.balance(REFUNDER).await];
    let mut refunding = Vec::new();
    for payment in payments.clone() {
        let counter = Arc::clone(&counter);
        refunding.push(tokio::spawn(async move {
            counter.refund(&payment, None, "back").await.unwrap()
        }));
    }
    let mut references = BTreeSet::new();
    for refunded in refunding {
        references.insert(reference(&refunded.await.unwrap().1));
    }
    assert_eq!(references.len(), 32);
    assert_eq!(counter.recover(START).await, Recovered::default());
    let spent = counter.audit().accounts[&"spent/fees/usd".parse().unwrap()].debits_posted;
    let after = [before[0] + 32 * 2_500, before[1] - 32 * 2_500 - spent];
    assert_eq!([world.balance(PAYER).await, world.balance(REFUNDER).await], after);
    assert_eq!(given_back(&counter), (32 * 2_500, 0));
    // Each transfer is in the chain once, under its own memo.
    let mut memos = BTreeSet::new();
    for hash in &references {
        let receipt: Value = world.ask("eth_getTransactionReceipt", json!([hash])).await;
        let logs = receipt["result"]["logs"].as_array().unwrap().clone();
        memos.extend(logs.iter().filter_map(|log| log["topics"][3].as_str().map(str::to_owned)));
    }
    assert_eq!(memos.len(), 32);
}
