//! Several gateways on one book.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_core::Store as _;
use farthing_ledger::{Claim, ClaimError, Open, Outcome, Settlement, VoidReason, audit};
use farthing_store_postgres::{OpenError, Options, PostgresStore, Role};
use farthing_testkit::store::{
    START, Stores as _, Story, closing, opening, payment, purchase, rail_purchase,
    voucher_purchase, word,
};

use super::{Postgres, long, short};

/// Opens a book with alice's money in it, and a store that writes it, another that forwards.
async fn two(stores: &Postgres) -> (Arc<PostgresStore>, Arc<PostgresStore>) {
    Story::begin(stores).await.end();
    let (writes, forwards) = (Arc::new(stores.store(START)), Arc::new(stores.store(START)));
    assert_eq!((writes.role(), forwards.role()), (Role::Writes, Role::Forwards));
    (writes, forwards)
}

async fn claim(store: &PostgresStore, request: farthing_ledger::ClaimRequest) -> String {
    match store.claim(request, START).await {
        Ok(claim) => word(&claim).to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// Claims until the answer is another one than `pending`: what somebody held goes back soon.
async fn settled(store: &PostgresStore, request: &farthing_ledger::ClaimRequest) -> String {
    loop {
        let answer = claim(store, request.clone()).await;
        if answer != "pending" {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn once(mut request: farthing_ledger::ClaimRequest) -> farthing_ledger::ClaimRequest {
    request.payment.terms.repeatable = false;
    request
}

async fn race(
    stores: [&Arc<PostgresStore>; 2],
    requests: impl Iterator<Item = farthing_ledger::ClaimRequest>,
) -> BTreeMap<String, usize> {
    let mut tasks = tokio::task::JoinSet::new();
    for (at, request) in requests.enumerate() {
        let store = Arc::clone(stores[at % 2]);
        tasks.spawn(async move { claim(&store, request).await });
    }
    let mut answers = BTreeMap::new();
    for answer in tasks.join_all().await {
        let count: &mut usize = answers.entry(answer).or_default();
        *count = count.saturating_add(1);
    }
    answers
}

/// R-02, C-11: one credential, 2 to 248 times at once over two gateways, buys once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claims_at_two_gateways_one_is_fresh() {
    let stores = Postgres::new(Options::default());
    let (writes, forwards) = two(&stores).await;
    let counts = [2, 3, 8, 31, 64, 128, 248];
    for count in counts {
        let name = format!("{count} times");
        let answers = race([&writes, &forwards], (0..count).map(|_| purchase(&name, 1))).await;
        assert_eq!(answers["fresh"], 1, "{answers:?}");
        assert_eq!(answers["pending"], count - 1, "{answers:?}");
    }
    drop((writes, forwards));
    assert_eq!(audit(&stores.journal()).unwrap().claimed, u64::try_from(counts.len()).unwrap());
}

/// Two hundred payments of 7 against 1,000, over two gateways: 142 fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_is_not_overdrawn_by_two_gateways() {
    let stores = Postgres::new(Options::default());
    let (writes, forwards) = two(&stores).await;
    let requests = (0..200).map(|at| purchase(&at.to_string(), 7));
    let answers = race([&writes, &forwards], requests).await;
    assert_eq!(answers["fresh"], 142, "{answers:?}");
    assert_eq!(answers["Overdrawn"], 58, "{answers:?}");
}

/// C-11, C-03: a gateway that crashes is replaced when its lease is over, and what it acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_of_the_writer_loses_nothing() {
    let stores = Postgres::new(short());
    let (writes, forwards) = two(&stores).await;
    let mut acknowledged = Vec::new();
    for (at, store) in [&writes, &forwards].into_iter().cycle().take(20).enumerate() {
        let name = format!("before {at}");
        assert_eq!(claim(store, once(purchase(&name, 1))).await, "fresh");
        acknowledged.push(name);
    }
    // Delivered by the other one, and not told to anybody yet when the writer goes.
    let writer = Arc::try_unwrap(writes).unwrap_or_else(|_| panic!("nobody else has it"));
    writer.crash();
    forwards.deliver(payment("before 1"), Outcome { status: 200 }, None, START);
    // What is asked over a link that breaks is not answered; what is asked afterwards waits for the next
    // writer, which is the other gateway.
    until(|| forwards.role() != Role::Forwards).await;
    assert_eq!(claim(&forwards, purchase("after", 1)).await, "fresh");
    assert_eq!(forwards.role(), Role::Writes);
    assert_eq!(settled(&forwards, &once(purchase("before 1", 1))).await, "delivered");
    for name in &acknowledged[2..] {
        // Whoever held it is gone, or lost its right with the writer: nobody knows what was done.
        assert_eq!(claim(&forwards, once(purchase(name, 1))).await, "interrupted", "{name}");
    }
    drop(forwards);
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!((sound.claimed, sound.delivered), (21, 1));
}

/// Whoever has lost the lease writes nothing more, and says so; its next request goes to the new writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_was_replaced_is_fenced() {
    let stores = Postgres::new(long());
    Story::begin(&stores).await.end();
    let old = stores.store(START);
    assert_eq!(claim(&old, purchase("before", 1)).await, "fresh");
    // To the database the lease has expired; the old writer has not looked for a while.
    let expire =
        "UPDATE farthing.lease SET epoch = epoch + 1, expires_at = '2000-01-01' WHERE book = $book";
    stores.sql(expire).unwrap();
    let new = stores.store(START);
    assert_eq!(new.role(), Role::Writes);
    assert_eq!(old.role(), Role::Writes, "it does not know");
    assert_eq!(claim(&new, purchase("new", 1)).await, "fresh");

    assert_eq!(old.claim(purchase("old", 1), START).await, Err(ClaimError::Unavailable));
    until(|| old.role() == Role::Forwards).await;
    assert_eq!(claim(&old, purchase("old", 1)).await, "fresh", "by way of the new one");
    assert_eq!(claim(&new, purchase("old", 1)).await, "pending");
    drop(old);
    drop(new);
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!((sound.claimed, sound.records), (3, 3 + 1 + 1 + 1 + 1 + 2));
}

/// A writer that was replaced does not even hand out what it need not write down.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_right_is_not_given_by_a_writer_that_was_replaced() {
    let stores = Postgres::new(long());
    Story::begin(&stores).await.end();
    let old = stores.store(START);
    assert_eq!(claim(&old, purchase("a", 1)).await, "fresh");
    old.give_back(payment("a"), false);
    let expire =
        "UPDATE farthing.lease SET epoch = epoch + 1, expires_at = '2000-01-01' WHERE book = $book";
    stores.sql(expire).unwrap();
    let new = stores.store(START);
    assert_eq!(claim(&new, purchase("a", 1)).await, "undelivered");
    // The old one's book says that nobody is at it.
    assert_eq!(claim(&old, purchase("a", 1)).await, "Unavailable");
    until(|| old.role() == Role::Forwards).await;
    assert_eq!(claim(&old, purchase("a", 1)).await, "pending");
}

/// What the old writer's callers held is not theirs any more: they cannot give back what somebody else has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_right_ends_with_its_session() {
    let stores = Postgres::new(long());
    Story::begin(&stores).await.end();
    let old = stores.store(START);
    for name in ["given back", "failed", "delivered"] {
        assert_eq!(claim(&old, purchase(name, 1)).await, "fresh");
    }
    assert_eq!(claim(&old, rail_purchase("void", 1)).await, "fresh");
    let expire =
        "UPDATE farthing.lease SET epoch = epoch + 1, expires_at = '2000-01-01' WHERE book = $book";
    stores.sql(expire).unwrap();
    let new = stores.store(START);
    for name in ["given back", "failed", "delivered"] {
        assert_eq!(claim(&new, purchase(name, 1)).await, "undelivered");
    }
    assert_eq!(claim(&new, rail_purchase("void", 1)).await, "unsettled");
    assert_eq!(claim(&old, purchase("x", 1)).await, "Unavailable");
    until(|| old.role() == Role::Forwards).await;

    old.give_back(payment("given back"), false);
    old.fail(payment("failed"), Outcome { status: 503 }, START);
    assert!(old.void(payment("void"), VoidReason::Failed, START).await.is_err());
    old.deliver(payment("delivered"), Outcome { status: 200 }, None, START);
    // All of it has arrived when this has.
    assert_eq!(claim(&old, purchase("last", 1)).await, "fresh");
    assert_eq!(claim(&new, purchase("given back", 1)).await, "pending");
    assert_eq!(claim(&new, purchase("failed", 1)).await, "pending");
    assert_eq!(claim(&new, rail_purchase("void", 1)).await, "pending");
    // That an answer was given stays true.
    assert_eq!(claim(&new, purchase("delivered", 1)).await, "delivered");
}

/// A gateway that goes leaves what it held behind: what was not settled for recovery, what was paid as
/// interrupted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_lost_gateway_held_goes_back() {
    let stores = Postgres::new(Options::default());
    let (writes, forwards) = two(&stores).await;
    assert_eq!(claim(&forwards, once(purchase("paid", 1))).await, "fresh");
    assert_eq!(claim(&forwards, purchase("repeatable", 1)).await, "fresh");
    assert_eq!(claim(&forwards, rail_purchase("pending", 1)).await, "fresh");
    assert_eq!(claim(&forwards, rail_purchase("posted", 1)).await, "fresh");
    let settlement = Settlement::new("tx".to_owned(), START);
    forwards.post(payment("posted"), settlement, START).await.unwrap();
    assert_eq!(claim(&forwards, purchase("done", 1)).await, "fresh");
    forwards.deliver(payment("done"), Outcome { status: 200 }, None, START);
    assert_eq!(claim(&forwards, purchase("given back", 1)).await, "fresh");
    forwards.give_back(payment("given back"), false);
    assert_eq!(claim(&writes, once(purchase("paid", 1))).await, "pending");
    assert_eq!(claim(&writes, purchase("own", 1)).await, "fresh");
    drop(forwards);

    assert_eq!(settled(&writes, &once(purchase("paid", 1))).await, "interrupted");
    let work = writes.work().await.unwrap();
    let open: BTreeMap<_, _> =
        work.payments.into_iter().map(|it| (it.payment.challenge, it.open)).collect();
    assert_eq!(open["pending"], Open::Unsettled);
    assert_eq!(open["posted"], Open::Interrupted);
    assert_eq!(open["given back"], Open::Owed);
    assert_eq!(claim(&writes, purchase("repeatable", 1)).await, "undelivered");
    assert_eq!(claim(&writes, rail_purchase("pending", 1)).await, "unsettled");
    assert_eq!(claim(&writes, purchase("done", 1)).await, "delivered");
    assert_eq!(claim(&writes, purchase("own", 1)).await, "pending", "the writer's own stays");
}

/// Giving up what was paid comes to nothing, and leaves the right with whoever has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_void_that_comes_too_late_takes_nothing_away() {
    let stores = Postgres::new(Options::default());
    let (writes, forwards) = two(&stores).await;
    for (store, name) in [(&writes, "here"), (&forwards, "there")] {
        assert_eq!(claim(store, purchase(name, 1)).await, "fresh");
        store.void(payment(name), VoidReason::Declined, START).await.unwrap();
        assert_eq!(claim(store, purchase(name, 1)).await, "pending");
        store.give_back(payment(name), false);
        assert_eq!(claim(store, purchase(name, 1)).await, "undelivered", "{name}");
    }
}

/// A lease that is given up is taken over at once, by whoever is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_closes_hands_over() {
    // Nobody would live to see such a lease expire.
    let stores = Postgres::new(long());
    let (writes, forwards) = two(&stores).await;
    assert_eq!(claim(&writes, purchase("a", 1)).await, "fresh");
    writes.deliver(payment("a"), Outcome { status: 200 }, None, START);
    drop(writes);
    until(|| forwards.role() != Role::Forwards).await;
    assert_eq!(claim(&forwards, purchase("a", 1)).await, "delivered");
    assert!(forwards.leads());
    assert_eq!(claim(&forwards, purchase("b", 1)).await, "fresh");
}

/// While nobody writes, requests wait, and not for ever: an outage of ours, and never the payer's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_book_that_nobody_writes_is_unavailable() {
    let patience = std::time::Duration::from_millis(300);
    let stores = Postgres::new(Options { patience, ..long() });
    let (writes, forwards) = two(&stores).await;
    assert_eq!(claim(&forwards, purchase("a", 1)).await, "fresh", "the control");
    Arc::try_unwrap(writes).unwrap_or_else(|_| panic!("nobody else has it")).crash();
    assert_eq!(forwards.claim(purchase("b", 1), START).await, Err(ClaimError::Unavailable));
    assert!(forwards.work().await.is_err());
    assert!(!forwards.is_running());
    // What is written can still be read.
    assert!(!forwards.records(1, 10).await.unwrap().is_empty());
    // And a gateway that starts now does not get anywhere either.
    let options = Options { give_up: patience, lease_ttl: patience, ..stores.options.clone() };
    let started = PostgresStore::open(stores.address(), &stores.book, &options, START);
    let refused = started.err().unwrap();
    assert!(matches!(refused, OpenError::NobodyWrites), "{refused}");
}

/// Too many waiting callers are told to come back, by way of the link as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_pushes_back() {
    let writer = farthing_store_writer::Options { queue_max: 8, ..Default::default() };
    let stores = Postgres::new(Options { writer, ..Options::default() });
    let (writes, forwards) = two(&stores).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..128 {
        let store = Arc::clone(if at % 2 == 0 { &writes } else { &forwards });
        tasks.spawn(async move { store.claim(rail_purchase(&at.to_string(), 1), START).await });
    }
    let answers = tasks.join_all().await;
    let fresh = answers.iter().filter(|answer| **answer == Ok(Claim::Fresh)).count();
    let refused = answers.iter().filter(|answer| **answer == Err(ClaimError::Unavailable)).count();
    assert_eq!(fresh + refused, answers.len());
    assert!(fresh >= 8 && refused > 0, "{fresh} fresh, {refused} refused");
    assert_eq!((writes.queue_len(), forwards.queue_len()), (0, 0));
    drop((writes, forwards));
    assert_eq!(audit(&stores.journal()).unwrap().pending, u64::try_from(fresh).unwrap());
}

/// S-12: vouchers of one session at two gateways at once are each taken once, and no more is sold than paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn vouchers_at_two_gateways_are_taken_once() {
    let stores = Postgres::new(Options::default());
    let (writes, forwards) = two(&stores).await;
    writes.step(opening("a", 100), START).await.unwrap();
    // Each of fifty vouchers comes to both.
    let requests = (0..100_u128).map(|at| {
        let cumulative = (at / 2 * 37) % 50 + 1;
        voucher_purchase("a", cumulative, &cumulative.to_string(), 1)
    });
    let answers = race([&writes, &forwards], requests).await;
    let sold = answers["bought"];
    let pending = answers.get("pending").copied().unwrap_or_default();
    assert!(sold >= 1 && pending <= sold, "{answers:?}");
    for store in [&writes, &forwards] {
        let channel = store.channels().await.unwrap().remove(0);
        assert_eq!((channel.accepted, channel.spent), (50, u128::try_from(sold).unwrap()));
        assert_eq!(channel.deposit, channel.spent + channel.refundable());
    }
    let closed = forwards.step(closing("a"), START).await.unwrap();
    assert_eq!(closed.returned, 100 - u128::try_from(sold).unwrap());
    drop((writes, forwards));
    audit(&stores.journal()).unwrap();
}
