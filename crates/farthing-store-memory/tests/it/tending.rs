//! Looking after many sessions on a rail that is somebody else's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Rail, Settling, Store as _, Tended, Tending, Till};
use farthing_ledger::{Channel, ChannelEvent, ChannelId, ChannelState, ChannelStep, Event, audit};
use farthing_money::Timestamp;
use farthing_store_memory::MemoryStore;
use farthing_testkit::store::{START, asset};
use farthing_testkit::vault::{SIGNED, Vault, channel, opening, voucher_purchase};

struct Town {
    store: Arc<MemoryStore>,
    vault: Arc<Vault>,
    tending: Tending,
    now: Timestamp,
}

impl Town {
    /// So many channels with a deposit of a hundred each, called `0`, `1` and so on.
    async fn with(count: usize) -> Self {
        let store = Arc::new(MemoryStore::new(START));
        for at in 0..count {
            for step in opening(&at.to_string(), 100) {
                store.step(step, START).await.unwrap();
            }
        }
        let vault = Arc::new(Vault::default());
        Self { store, vault, tending: Tending::default(), now: START }
    }

    async fn look(&mut self) -> Tended {
        self.now = self.now.after(Duration::from_secs(1));
        self.vault.truth().now = self.now;
        let rail: Arc<dyn Rail> = self.vault.clone();
        let till = Till { protocols: vec![], rails: vec![rail], store: self.store.clone() };
        till.tend(&mut self.tending, self.now).await
    }

    async fn pay(&self, name: &str, cumulative: u128, atoms: u128, signature: &str) {
        let request = voucher_purchase(name, cumulative, atoms, signature);
        self.store.claim(request, self.now).await.unwrap();
    }

    async fn of(&self, name: &str) -> Channel {
        let channels = self.store.channels().await.unwrap();
        channels.into_iter().find(|it| it.facts.id == channel(name)).unwrap()
    }

    /// How often the books say that something happened to a channel.
    fn count(&self, what: impl Fn(&ChannelEvent) -> bool) -> usize {
        let records = self.store.records();
        let said = |event: &Event| matches!(event, Event::Channel { step, .. } if what(step));
        records.iter().filter(|record| said(&record.event)).count()
    }

    fn settle_above(&mut self, atoms: u128, at_once: usize) {
        let above = [(asset(), atoms)].into();
        self.tending.settle(&Settling { above, at_once, ..Settling::default() });
    }
}

/// D-06: sessions that nobody uses cost nothing, however many there are: no look reads any of them, and no
/// rail is asked about them one by one. What changes is looked at, alone.
#[tokio::test]
async fn a_look_costs_what_there_is_to_do() {
    const MANY: usize = 20_000;
    let mut town = Town::with(MANY).await;
    let first = town.look().await;
    assert_eq!(first.looked_at, MANY, "after a start, each of them");
    let mut looks = 1;
    while town.vault.truth().inquiries < MANY {
        let tended = town.look().await;
        assert!(tended.looked_at <= 1_000, "a look is bounded: {tended:?}");
        looks += 1;
        assert!(looks <= MANY / 1_000 + 1, "{:?}", town.vault.truth().inquiries);
    }
    town.look().await;
    let listened = town.vault.truth().listened;
    for _ in 0..600 {
        assert_eq!(town.look().await, Tended::default());
    }
    assert_eq!(town.vault.truth().inquiries, MANY);
    let listened = town.vault.truth().listened - listened;
    assert_eq!(listened, 600 / 15, "once in a quarter of a minute, of all of them at once");
    // A voucher is taken all the while, since nothing was told of its channel.
    let mut request = voucher_purchase("7", 10, 10, SIGNED);
    request.voucher.as_mut().unwrap().heard_since = Some(town.now.before(Duration::from_mins(1)));
    town.store.claim(request, town.now).await.unwrap();
    assert_eq!(town.look().await.looked_at, 1);
    assert_eq!(town.look().await.looked_at, 0);
    // What the rail tells of one channel is looked into at once, and of no other.
    let until = town.now.after(Duration::from_mins(15));
    town.vault.truth().told.insert(channel("8"));
    town.vault.truth().close_requested.insert(channel("8"), until);
    let mut looked_at = 0;
    for _ in 0..20 {
        looked_at += town.look().await.looked_at;
    }
    assert_eq!(town.of("8").await.state, ChannelState::Closed);
    assert!(looked_at <= 4, "{looked_at}");
    let tally = town.tending.tally();
    assert_eq!(tally.sessions[&("vault".to_owned(), "open")], 19_999);
    assert_eq!(tally.owed[&("vault".to_owned(), asset())], 10);
    assert_eq!(tally.refundable[&("vault".to_owned(), asset())], 19_999 * 100 - 10);
}

/// S-20: a thousand channels are settled in batches, and one whose voucher the rail would not take is left
/// out and named; all others are settled once, though some answers are lost.
#[tokio::test]
async fn a_thousand_are_settled_and_one_is_left_out() {
    let mut town = Town::with(1_000).await;
    town.settle_above(10, 100);
    for at in 0..1_000 {
        let signature = if at == 417 { "forged" } else { SIGNED };
        town.pay(&at.to_string(), 10, 10, signature).await;
    }
    let mut refused = BTreeSet::<ChannelId>::new();
    town.vault.truth().answers_lost = 3;
    let (mut settled, mut looks) = (0, 0);
    while settled < 999 {
        let tended = town.look().await;
        assert!(tended.settled <= 100, "{tended:?}");
        settled += tended.settled;
        refused.extend(tended.refused);
        looks += 1;
        assert!(looks < 100, "{settled}");
    }
    assert_eq!(refused, [channel("417")].into(), "named");
    {
        let truth = town.vault.truth();
        assert_eq!(truth.paid.values().sum::<u128>(), 9_990);
        let (all, largest) = (&truth.transactions, truth.transactions.iter().max());
        assert_eq!(all.iter().sum::<usize>(), 999, "each is paid in one transaction");
        assert!(all.len() <= 14 && *largest.unwrap() <= 100, "{all:?}");
    }
    assert_eq!(town.count(|step| matches!(step, ChannelEvent::Settled { .. })), 999);
    let bad = town.of("417").await;
    assert_eq!((bad.settled, bad.owed(), bad.state), (0, 10, ChannelState::Open));
    for _ in 0..100 {
        assert_eq!(town.look().await.settled, 0);
    }
    let audit = audit(&town.store.records()).unwrap();
    let cash = audit.accounts[&"clearing/vault/usd".parse().unwrap()];
    assert_eq!(cash.debits_posted, 9_990);
    // What the payer signs next is good: it is settled with the rest.
    town.pay("417", 20, 10, SIGNED).await;
    for _ in 0..61 {
        town.look().await;
    }
    assert_eq!(town.of("417").await.settled, 20);
}

/// S-09: a close that the payer has asked for and that does not get through is told of while there is time,
/// once, and done as soon as it can be.
#[tokio::test]
async fn a_close_that_does_not_get_through_is_told_of_in_time() {
    let mut town = Town::with(2).await;
    town.pay("0", 10, 10, SIGNED).await;
    town.look().await;
    let until = town.now.after(Duration::from_mins(15));
    town.vault.truth().close_requested.insert(channel("0"), until);
    town.vault.truth().told.insert(channel("0"));
    while town.of("0").await.state == ChannelState::Open {
        town.look().await;
    }
    town.vault.truth().is_down = true;
    let asked_at = town.now;
    let mut overdue = Vec::new();
    while overdue.is_empty() {
        overdue = town.look().await.overdue;
        assert!(town.now < until, "in time");
    }
    assert_eq!(overdue, [channel("0")]);
    let (told_after, whole) = (town.now.since(asked_at), until.since(asked_at));
    assert!(told_after.as_secs().abs_diff(whole.as_secs() / 2) <= 2, "{told_after:?}");
    town.look().await;
    assert_eq!(town.tending.tally().overdue["vault"], 1);
    for _ in 0..60 {
        assert_eq!(town.look().await.overdue, []);
    }
    assert_eq!(town.count(|step| matches!(step, ChannelEvent::CloseOverdue)), 1);
    town.vault.truth().is_down = false;
    while town.of("0").await.state != ChannelState::Closed {
        town.look().await;
        assert!(town.now < until, "in time");
    }
    town.look().await;
    assert_eq!(town.tending.tally().overdue["vault"], 0);
    assert_eq!(town.vault.truth().paid[&channel("0")], 10);
}

/// Many that are to be closed are closed in batches, by one transaction each, once.
#[tokio::test]
async fn many_are_closed_in_batches() {
    let mut town = Town::with(120).await;
    town.pay("3", 10, 10, SIGNED).await;
    town.look().await;
    town.tending.close_after(Some(Duration::from_mins(10)));
    town.now = town.now.after(Duration::from_mins(11));
    let mut closed = 0;
    while closed < 120 {
        let tended = town.look().await;
        closed += tended.closed;
        assert!(tended.closed <= 50, "{tended:?}");
    }
    assert_eq!(town.vault.truth().transactions, [50, 50, 20]);
    assert_eq!(town.count(|step| matches!(step, ChannelEvent::Closed { .. })), 120);
    let again = ChannelStep::Close { channel: channel("3"), voucher: None, exactly: false };
    let stands = town.store.step(again, town.now).await.unwrap();
    assert_eq!((stands.state, stands.settled, stands.returned), (ChannelState::Closed, 10, 90));
    audit(&town.store.records()).unwrap();
}

/// S-19: what one payer owes over several sessions is one risk: once it is too much, all of them are settled, and
/// nobody else's. What comes after is settled once it is too much again.
#[tokio::test]
async fn a_payers_sessions_are_one_risk() {
    let mut town = Town::with(0).await;
    for (name, payer) in [("a", "alice"), ("b", "alice"), ("c", "alice"), ("x", "xavier")] {
        for mut step in opening(name, 100) {
            if let ChannelStep::Open(opening) = &mut step {
                opening.facts.payer = payer.into();
            }
            town.store.step(step, START).await.unwrap();
        }
    }
    let payer_above = [(asset(), 25)].into();
    town.tending.settle(&Settling { payer_above, ..Settling::default() });
    for name in ["a", "b", "x"] {
        town.pay(name, 10, 10, SIGNED).await;
    }
    let mut settled = 0;
    for _ in 0..20 {
        settled += town.look().await.settled;
    }
    assert_eq!(settled, 0, "20 are less than 25, whoever else owes");
    town.pay("c", 5, 5, SIGNED).await;
    for _ in 0..3 {
        settled += town.look().await.settled;
    }
    assert_eq!(settled, 3);
    for (name, atoms) in [("a", 10), ("b", 10), ("c", 5), ("x", 0)] {
        assert_eq!(town.of(name).await.settled, atoms, "{name}");
    }
    // It begins anew.
    town.pay("a", 20, 10, SIGNED).await;
    assert_eq!(town.look().await.settled, 0);
    town.pay("b", 30, 20, SIGNED).await;
    for _ in 0..3 {
        settled += town.look().await.settled;
    }
    assert_eq!(settled, 5);
    // What the rail refuses is tried again later, and keeps nobody busy meanwhile.
    town.pay("a", 60, 40, "forged").await;
    let mut looked_at = 0;
    for _ in 0..10 {
        looked_at += town.look().await.looked_at;
    }
    assert!(looked_at <= 10, "{looked_at}");
    assert_eq!(town.of("a").await.settled, 20);
}
