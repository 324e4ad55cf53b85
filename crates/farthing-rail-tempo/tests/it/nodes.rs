//! Nodes that stop, hang, refuse, forget, and stand in for each other.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Fate, NoRefund, Payer as _, Recovered, RefundRefusal, Refusal};
use farthing_ledger::RefundStanding;
use farthing_rail_tempo::{Refunder, Settings, TempoPayer, TempoRail};
use farthing_testkit::chain::development_key;
use farthing_testkit::rail::{Counter, present};
use farthing_testkit::store::START;
use serde_json::json;

use crate::world::{Fault, Proxy, World, nodes, nodes_within, settings, tokens};

/// How long a node may take that never answers.
const BRIEFLY: Duration = Duration::from_millis(300);

/// F-07: an RPC that times out is passed over where there is another; alone it leaves an outcome nobody
/// knows, which the same credential finds out once the node answers again.
#[tokio::test]
async fn a_node_that_hangs_is_passed_over() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let both = nodes_within(&[&proxy.url, &world.chain.url], BRIEFLY);
    let railway = world.railway_with(TempoRail::new(both, settings()));
    let counter = Counter::new(&railway.rail, &[]).await;
    proxy.turn(Fault::Deaf);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    let wait = Duration::from_secs(1);
    let alone =
        TempoRail::new(nodes_within(&[&proxy.url], BRIEFLY), Settings { wait, ..settings() });
    let alone = world.railway_with(alone);
    let counter = Counter::new(&alone.rail, &[]).await;
    let before = world.balance(1).await;
    proxy.turn(Fault::None);
    // It is known to be the chain's.
    assert_eq!(counter.take(&alone.pay(&alone.invite("b")).await).await, Ok(()));
    let presented = alone.pay(&alone.invite("c")).await;
    proxy.turn(Fault::Hangs);
    assert_eq!(counter.take(&presented).await, Ok(()), "it was passed on, and is found");
    let presented = alone.pay(&alone.invite("d")).await;
    proxy.turn(Fault::Deaf);
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!(counter.audit().pending, 1);
    proxy.turn(Fault::None);
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (7_500, before + 7_500));
}

/// F-07: what one node may have taken is not off because another refuses it; and a node that has too much
/// to do has not refused.
#[tokio::test]
async fn a_refusal_does_not_undo_what_another_took() {
    let Some(world) = World::start().await else { return };
    let (first, second) = (Proxy::start(&world).await, Proxy::start(&world).await);
    let both = nodes_within(&[&first.url, &second.url], BRIEFLY);
    let railway = world.railway_with(TempoRail::new(both, settings()));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    let presented = railway.pay(&railway.invite("a")).await;
    first.turn(Fault::Hangs);
    second.turn(Fault::Refuses);
    assert_eq!(counter.take(&presented).await, Ok(()), "the first had passed it on");
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
    let presented = railway.pay(&railway.invite("b")).await;
    first.turn(Fault::Busy);
    second.turn(Fault::Busy);
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!((counter.audit().pending, counter.audit().voided), (1, 0));
    second.turn(Fault::None);
    assert_eq!(counter.take(&presented).await, Ok(()));
    let presented = railway.pay(&railway.invite("c")).await;
    first.turn(Fault::Refuses);
    second.turn(Fault::Refuses);
    assert_eq!(counter.take(&presented).await, Err(Refusal::Declined), "the control");
}

/// F-08: a node that has stopped takes a transaction and does nothing with it. It is handed to the others
/// too, and found where it was mined.
#[tokio::test]
async fn a_node_that_has_stopped_is_found_out() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let both = nodes(&[&proxy.url, &world.chain.url]);
    let railway = world.railway_with(TempoRail::new(both, settings()));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    let presented = railway.pay(&railway.invite("a")).await;
    proxy.turn(Fault::Stopped);
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// Whoever looks after the nodes is not left with one that has stopped: by its clock everything that is
/// signed would be over.
#[tokio::test]
async fn the_soundest_node_is_asked_first() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    proxy.turn(Fault::Stopped);
    world.wait(100).await;
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let both = || nodes(&[&proxy.url, &world.chain.url]);
    // A wallet looks around before it gives up.
    let payer = TempoPayer::new(&development_key(2), both(), tokens()).unwrap();
    let invitation = railway.invite("a");
    let paid = payer.pay(&invitation).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(counter.take(&present(&invitation, paid)).await, Ok(()));
    // A seller that gives money back has somebody who looks around from time to time.
    let payment = counter.payments().remove(0);
    let watched = both();
    let refunder = Some(Refunder::new(&development_key(6)).unwrap());
    let rail = TempoRail::new(Arc::clone(&watched), Settings { refunder, ..settings() });
    let seller = world.railway_with(rail);
    let refunds = counter.on(&seller.rail);
    let later = Err(RefundRefusal::Rail(NoRefund::Later));
    assert_eq!(refunds.refund(&payment, None, "first").await, later);
    let health = watched.health().await;
    assert!(health.iter().all(|node| watched.serves(node)), "{health:?}");
    let refunded = refunds.refund(&payment, None, "first").await.unwrap();
    assert!(matches!(refunded.1, RefundStanding::Posted(_)), "{refunded:?}");
}

/// F-07, F-08: a node that has lost what it knew does not get a payment given up that another has seen
/// mined; neither the seller's side nor the buyer's believes it.
#[tokio::test]
async fn what_one_node_forgets_another_remembers() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let wait = Duration::from_secs(1);
    let alone = TempoRail::new(nodes(&[&proxy.url]), Settings { wait, ..settings() });
    let alone = world.railway_with(alone);
    let counter = Counter::new(&alone.rail, &[]).await;
    let before = world.balance(1).await;
    let invitation = alone.invite("a");
    let paid = world.payer(2).pay(&invitation).await.ok().unwrap();
    let kept = paid.keepsake.clone().unwrap();
    let presented = present(&invitation, paid);
    proxy.turn(Fault::Forgets);
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    world.wait(60).await;
    let both = || nodes(&[&proxy.url, &world.chain.url]);
    let payer = TempoPayer::new(&development_key(2), both(), tokens()).unwrap();
    assert!(matches!(payer.fate(&kept).await, Ok(Fate::Moved { .. })));
    let restarted = world.railway_with(TempoRail::new(both(), settings()));
    let posted = Recovered { posted: 1, ..Recovered::default() };
    assert_eq!(counter.on(&restarted.rail).recover(START).await, posted);
    assert_eq!(counter.on(&restarted.rail).take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-08: a chain that makes no blocks settles nothing and loses nothing; what it makes at last counts
/// once.
#[tokio::test]
async fn a_chain_that_stands_still_settles_late() {
    let Some(world) = World::start().await else { return };
    let wait = Duration::from_secs(1);
    let rail = TempoRail::new(world.nodes(), Settings { wait, ..settings() });
    let railway = world.railway_with(rail);
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    let presented = railway.pay(&railway.invite("a")).await;
    world.ask("evm_setIntervalMining", json!([0])).await;
    world.ask("evm_setAutomine", json!([false])).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    let open = Recovered { open: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open);
    assert_eq!((counter.audit().pending, world.balance(1).await), (1, before));
    world.ask("evm_mine", json!([])).await;
    assert_eq!(counter.recover(START).await, Recovered { posted: 1, ..Recovered::default() });
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-10: 64 sellers' processes settle one payment at once: one transaction, and everybody is told the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn many_settle_one_payment_and_it_moves_once() {
    let Some(world) = World::start().await else { return };
    let (railway, before) = (world.railway(), world.balance(1).await);
    let presented = railway.pay(&railway.invite("a")).await;
    let mut settling = Vec::new();
    for _ in 0..64 {
        // Each with a book and connections of its own.
        let own = world.railway();
        let (counter, presented) = (Counter::new(&own.rail, &[]).await, presented.clone());
        settling.push(tokio::spawn(async move {
            let taken = counter.take(&presented).await;
            (taken, counter.settlements())
        }));
    }
    let mut references = std::collections::BTreeSet::new();
    for settled in settling {
        let (taken, settlements) = settled.await.unwrap();
        assert_eq!(taken, Ok(()));
        references.extend(settlements);
    }
    assert_eq!((references.len(), world.balance(1).await), (1, before + 2_500));
    // At one counter one at a time settles, and the others are told that it is in progress, or done.
    let presented = railway.pay(&railway.invite("b")).await;
    let counter = Arc::new(Counter::new(&railway.rail, &[]).await);
    let mut taking = Vec::new();
    for _ in 0..64 {
        let (counter, presented) = (Arc::clone(&counter), presented.clone());
        taking.push(tokio::spawn(async move { counter.take(&presented).await }));
    }
    let mut served = 0;
    for taken in taking {
        match taken.await.unwrap() {
            Ok(()) => served += 1,
            Err(Refusal::InProgress(_) | Refusal::Answered) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((served, counter.earned()), (1, 2_500));
    assert_eq!(world.balance(1).await, before + 5_000);
}
