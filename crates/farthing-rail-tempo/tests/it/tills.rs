//! Sessions through the core: what the chain and the books say of one channel is the same.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Admission, Ask, ChannelFate, Object, Presented, Protocol, Quote, Rail, Refusal, Rejection,
    SESSION, Scope, SessionPrice, SettleError, Settling, Store as _, Tended, Tending, Till,
};
use farthing_ledger::{
    Audit, Channel, ChannelState, Fingerprint, Holder, Outcome, Terms, TraceId, audit,
};
use farthing_money::{Amount, Timestamp};
use farthing_rail_tempo::session::{Leave, Opening, SessionSettings, SessionTerms};
use farthing_rail_tempo::{Settings, TempoPayer, TempoRail};
use farthing_store_memory::MemoryStore;
use farthing_testkit::rail::Hand;
use farthing_testkit::store::START;
use http::HeaderMap;

use crate::channels::{PAYEE, Town, account};
use crate::world::{Fault, Proxy, nodes, settings};

/// A till with a rail that has sessions, and a book.
struct Shop {
    town: Town,
    rail: Arc<TempoRail>,
    store: Arc<MemoryStore>,
    /// Where the rail asks.
    proxy: Proxy,
}

fn usd(atoms: u128) -> Amount {
    Amount::new("usd".parse().unwrap(), atoms)
}

fn price() -> SessionPrice {
    SessionPrice {
        unit: usd(25),
        unit_type: Some("request".into()),
        suggested_deposit: Some(usd(10_000)),
        deposit_min_atoms: 100,
        delta_min_atoms: 0,
    }
}

impl Shop {
    async fn open() -> Option<Self> {
        let town = Town::start().await?;
        let proxy = Proxy::start(&town.world).await;
        let settings = Settings { wait: Duration::from_secs(5), ..settings() };
        let teller = Town::teller_over(&proxy.url, PAYEE);
        let sessions = SessionSettings { escrow: town.escrow, teller };
        let rail = TempoRail::new(nodes(&[&proxy.url]), settings).with_sessions(sessions);
        Some(Self { town, rail: Arc::new(rail), store: Arc::new(MemoryStore::new(START)), proxy })
    }

    fn request(&self) -> Object {
        let seller = Holder::new("seller").unwrap();
        self.rail.session().unwrap().quote_session(&price(), &seller).unwrap()
    }

    fn terms(&self) -> SessionTerms {
        SessionTerms { delta_min: 0, ..self.town.terms() }
    }

    fn till(&self, protocols: Vec<Arc<dyn Protocol>>) -> Till {
        let rail: Arc<dyn Rail> = self.rail.clone();
        Till { protocols, rails: vec![rail], store: self.store.clone() }
    }

    /// What a payer presents with this payload, under a challenge of this name.
    fn presented(&self, challenge: &str, payload: Object, payer: &TempoPayer) -> Presented {
        presented(&self.request(), challenge, payload, Some(payer.source()))
    }

    async fn take(&self, method: &str, presented: Presented) -> Result<Took, Refusal> {
        let till = self.till(vec![Arc::new(Hand(presented))]);
        let seller = Holder::new("seller").unwrap();
        let quote = Quote::session("tempo", price(), seller, &self.request());
        let ask = Ask {
            scope: Scope { method: method.into(), ..Scope::default() },
            quotes: vec![Arc::new(quote)],
            description: None,
            offer_ttl: Duration::from_mins(5),
            authorization_is_taken: false,
            terms: Terms { repeatable: true, ..Terms::default() },
            vouchers_buy: method != "HEAD",
            idempotency_key: None,
        };
        match till.admit(&ask, &HeaderMap::new(), START).await? {
            Admission::Deliver(posted) => {
                posted.delivered(Outcome { status: 200 }, None, START);
                Ok(Took::Answer)
            }
            Admission::Managed(managed) => Ok(Took::Managed(Box::new(managed.channel))),
            Admission::Again(_)
            | Admission::Execute(_)
            | Admission::Unsubscribed(_)
            | Admission::Challenge => panic!("no such"),
        }
    }

    async fn tend(&self, at: Timestamp) -> Tended {
        self.till(Vec::new()).tend(&mut Tending::default(), at).await
    }

    async fn channel(&self) -> Channel {
        self.store.channels().await.unwrap().remove(0)
    }

    fn audit(&self) -> Audit {
        audit(&self.store.records()).unwrap()
    }

    /// What an account has been credited and debited.
    fn books(&self, account: &str) -> (u128, u128) {
        posted(&self.audit(), account)
    }
}

/// What an account has been credited and debited, by an audit.
pub(crate) fn posted(audit: &Audit, account: &str) -> (u128, u128) {
    let balance = audit.accounts.get(&account.parse().unwrap());
    balance.map_or((0, 0), |it| (it.credits_posted, it.debits_posted))
}

/// What is presented with this payload, under a challenge of this name.
pub(crate) fn presented(
    request: &Object,
    challenge: &str,
    payload: Object,
    source: Option<String>,
) -> Presented {
    let named = *Fingerprint::of("trace", &[challenge.as_bytes()]).as_bytes();
    let expires_at = START.after(Duration::from_hours(1));
    Presented {
        protocol: "fake",
        method: "tempo".into(),
        intent: SESSION.into(),
        realm: "api.example.com".into(),
        trace: TraceId::new(START, std::array::from_fn(|at| named[at])),
        route: "route".into(),
        scope: Scope::default().session_digest(),
        request: request.clone(),
        payload,
        source,
        expires_at,
        expires: expires_at.to_string(),
        credential: Fingerprint::of("credential", &[challenge.as_bytes()]),
        idempotency_key: None,
        challenge: challenge.into(),
    }
}

#[derive(Debug, PartialEq)]
enum Took {
    Answer,
    Managed(Box<Channel>),
}

/// S-14, TSE.S04, TSE.S06, TSE.S08: a session from its opening to its close: the chain and the books agree
/// to the atom, and each voucher buys once.
#[tokio::test]
async fn a_session_is_had_on_the_chain_and_in_the_books() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let terms = shop.terms();
    let opening = payer.open_channel(&terms, 10_000, 25, shop.town.salt()).await.unwrap();
    let opened = shop.presented("a", opening.payload, &payer);
    assert_eq!(shop.take("GET", opened.clone()).await, Ok(Took::Answer));
    assert_eq!(shop.town.state(opening.channel).await.unwrap().deposit, 10_000);
    let voucher = |owed| payer.voucher(&shop.town.escrow, &opening.descriptor, owed).unwrap();
    for owed in [50, 75] {
        let paid = shop.presented("a", voucher(owed), &payer);
        assert_eq!(shop.take("GET", paid.clone()).await, Ok(Took::Answer));
        assert!(shop.take("GET", paid).await.is_err(), "the same buys nothing again");
    }
    // A stranger's signature, a lower voucher, and one beyond the deposit buy nothing.
    let stranger = shop.town.world.payer(3);
    let forged = stranger.voucher(&shop.town.escrow, &opening.descriptor, 100).unwrap();
    for refused in [forged, voucher(60), voucher(10_001)] {
        let refused = shop.take("GET", shop.presented("a", refused, &payer)).await;
        assert!(matches!(refused, Err(Refusal::Session(_))), "{refused:?}");
    }
    let channel = shop.channel().await;
    assert_eq!((channel.state, channel.spent, channel.accepted), (ChannelState::Open, 75, 75));
    // The last voucher has to say what was spent, since the escrow pays what it says.
    let close = |owed| payer.close(&shop.town.escrow, &opening.descriptor, owed).unwrap();
    let over = shop.take("GET", shop.presented("a", close(500), &payer)).await;
    assert!(over.is_err(), "{over:?}");
    let before = shop.town.holds(account(2)).await;
    let closed = shop.take("GET", shop.presented("a", close(75), &payer)).await.unwrap();
    let Took::Managed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!((closed.state, closed.settled, closed.returned), (ChannelState::Closed, 75, 9_925));
    assert_eq!(shop.town.holds(account(2)).await, before + 9_925);
    assert_eq!(shop.books("payable/seller/usd").0, 75);
    assert_eq!(shop.books("clearing/tempo/usd").1, 75);
    let (in_escrow, out_of_escrow) = shop.books("clearing/tempo-escrow/usd");
    assert_eq!(in_escrow, out_of_escrow, "nothing is left in the escrow");
    let late = shop.take("GET", shop.presented("a", voucher(100), &payer)).await;
    assert!(late.is_err(), "{late:?}");
}

/// S-09, S-17, SES.S11: a payer asks the chain for its money back: nothing more is sold, and what was
/// taken is settled in time.
#[tokio::test]
async fn a_payer_who_leaves_is_noticed_in_time() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let opening = payer.open_channel(&shop.terms(), 10_000, 25, shop.town.salt()).await.unwrap();
    let opened = shop.presented("a", opening.payload, &payer);
    assert_eq!(shop.take("GET", opened).await, Ok(Took::Answer));
    let earned = shop.town.holds(account(PAYEE)).await;
    let tended = shop.tend(START.after(Duration::from_secs(20))).await;
    assert_eq!(tended, Tended { looked_at: 1, ..Tended::default() });
    let descriptor = opening.descriptor;
    payer.leave(&shop.town.escrow, &descriptor, Leave::RequestClose).await.unwrap();
    let noticing = async {
        while !matches!(shop.channel().await.state, ChannelState::CloseRequested { .. }) {
            shop.tend(START.after(Duration::from_secs(40))).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noticing).await.expect("it is noticed");
    let more = payer.voucher(&shop.town.escrow, &descriptor, 50).unwrap();
    let refused = shop.take("GET", shop.presented("b", more, &payer)).await;
    assert!(refused.is_err(), "{refused:?}");
    let tended = shop.tend(START.after(Duration::from_secs(41))).await;
    assert_eq!((tended.closed, tended.open), (1, 0));
    let closed = shop.channel().await;
    assert_eq!((closed.state, closed.settled), (ChannelState::Closed, 25));
    let fee = earned + 25 - shop.town.holds(account(PAYEE)).await;
    let noted = shop.books("spent/fees/usd").1;
    assert!(fee > 0, "{noted}");
    let state = shop.town.state(opening.channel).await.unwrap();
    assert!(state.is_finalized && state.settled == 25);
    let withdraw = payer.leave(&shop.town.escrow, &descriptor, Leave::Withdraw).await;
    assert!(withdraw.is_err());
}

/// S-01, B-04: what is presented for another escrow, another payee, or with another signature is refused
/// before the books are asked, in every action.
#[tokio::test]
async fn every_action_is_verified_before_anything_happens() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let opening = payer.open_channel(&shop.terms(), 10_000, 25, shop.town.salt()).await.unwrap();
    let voucher = payer.voucher(&shop.town.escrow, &opening.descriptor, 25).unwrap();
    let close = payer.close(&shop.town.escrow, &opening.descriptor, 25).unwrap();
    let session = shop.rail.session().unwrap();
    let check = |presented: &Presented| session.check_action(presented, START);
    for payload in [&opening.payload, &voucher, &close] {
        let presented = shop.presented("a", payload.clone(), &payer);
        assert!(check(&presented).is_ok(), "the control");
        let elsewhere = shop.town.terms();
        let elsewhere = SessionTerms { recipient: account(5), ..elsewhere }.write();
        let other = Presented { request: elsewhere, ..presented.clone() };
        assert_eq!(check(&other), Err(Rejection::Foreign));
        let mut torn = presented.clone();
        let mut signature = torn.payload["signature"].as_str().unwrap().to_owned();
        signature.replace_range(130..132, "1d");
        torn.payload.insert("signature".into(), signature.into());
        assert_eq!(check(&torn), Err(Rejection::Signature));
        let other = Presented { intent: "charge".into(), ..presented };
        assert_eq!(check(&other), Err(Rejection::Unsupported));
    }
    let stranger = shop.town.world.payer(3);
    let named = shop.presented("a", opening.payload.clone(), &stranger);
    assert_eq!(check(&named), Err(Rejection::Invalid));
    let mut forged = opening.payload.clone();
    let other = stranger.voucher(&shop.town.escrow, &opening.descriptor, 25).unwrap();
    forged.insert("signature".into(), other["signature"].clone());
    let forged = shop.presented("a", forged, &payer);
    assert_eq!(check(&forged), Err(Rejection::Signature));
    assert!(shop.store.channels().await.unwrap().is_empty());
}

/// F-07, C-03: an opening that was written down and not answered is finished by whoever looks after
/// channels, once.
#[tokio::test]
async fn an_opening_that_got_lost_is_finished() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let opening = payer.open_channel(&shop.terms(), 10_000, 0, shop.town.salt()).await.unwrap();
    let opened = shop.presented("a", opening.payload, &payer);
    shop.proxy.turn(Fault::Busy);
    assert_eq!(shop.take("HEAD", opened.clone()).await, Err(Refusal::TryAgain));
    assert_eq!(shop.channel().await.state, ChannelState::Opening);
    shop.proxy.turn(Fault::None);
    let tended = shop.tend(START.after(Duration::from_secs(10))).await;
    assert_eq!((tended.confirmed, tended.open), (1, 0));
    let channel = shop.channel().await;
    assert_eq!((channel.state, channel.deposit), (ChannelState::Open, 10_000));
    // The same credential again finds it open, and moves nothing.
    let again = shop.take("HEAD", opened).await.unwrap();
    let Took::Managed(again) = again else { panic!("{again:?}") };
    assert_eq!((again.deposit, again.pending), (10_000, None));
    assert_eq!(shop.town.state(opening.channel).await.unwrap().deposit, 10_000);
    // One whose transaction came to nothing is given up, and nothing was taken.
    let opening = payer.open_channel(&shop.terms(), 5_000, 0, shop.town.salt()).await.unwrap();
    let opened = shop.presented("b", opening.payload, &payer);
    shop.proxy.turn(Fault::Drops);
    assert_eq!(shop.take("HEAD", opened).await, Err(Refusal::TryAgain));
    shop.proxy.turn(Fault::None);
    shop.town.world.wait(60).await;
    let tended = shop.tend(START.after(Duration::from_secs(90))).await;
    assert_eq!((tended.abandoned, tended.confirmed), (1, 0));
}

/// TSE.S05, S-11: a top-up is credited once, by what the chain has added.
#[tokio::test]
async fn a_top_up_is_credited_once() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let opening = payer.open_channel(&shop.terms(), 1_000, 0, shop.town.salt()).await.unwrap();
    let opened = shop.presented("a", opening.payload, &payer);
    shop.take("HEAD", opened).await.unwrap();
    let top_up = payer.top_up_channel(&shop.terms(), &opening.descriptor, 500).await.unwrap();
    let first = shop.take("HEAD", shop.presented("b", top_up.clone(), &payer)).await.unwrap();
    let Took::Managed(first) = first else { panic!("{first:?}") };
    assert_eq!(first.deposit, 1_500);
    // The same transaction under another challenge is the same money.
    let again = shop.take("HEAD", shop.presented("c", top_up, &payer)).await;
    assert!(again.is_err(), "{again:?}");
    assert_eq!(shop.channel().await.deposit, 1_500);
    assert_eq!(shop.town.state(opening.channel).await.unwrap().deposit, 1_500);
    let stranger = shop.town.world.payer(3);
    assert!(
        stranger.top_up_channel(&shop.terms(), &opening.descriptor, 500).await.is_err(),
        "only the payer deposits"
    );
}

impl Shop {
    /// Opens a channel whose opening voucher says `owed`, pays one request of 25 with it, and says what it is
    /// made of.
    async fn opened(&self, payer: &TempoPayer, challenge: &str, owed: u128) -> Opening {
        let terms = self.terms();
        let opening = payer.open_channel(&terms, 10_000, owed, self.town.salt()).await.unwrap();
        let opened = self.presented(challenge, opening.payload.clone(), payer);
        assert_eq!(self.take("GET", opened).await, Ok(Took::Answer));
        opening
    }

    /// Pays one more request.
    async fn paid(&self, payer: &TempoPayer, of: &Opening, owed: u128) {
        let voucher = payer.voucher(&self.town.escrow, &of.descriptor, owed).unwrap();
        let paid = self.take("GET", self.presented("v", voucher, payer)).await;
        assert_eq!(paid, Ok(Took::Answer));
    }

    /// The rail of a seller who forgoes up to `atoms` of what was spent.
    fn forgoing(&self, atoms: u128) -> TempoRail {
        let settings = Settings { wait: Duration::from_secs(5), ..settings() };
        let teller = Town::teller_over(&self.proxy.url, PAYEE);
        let sessions = SessionSettings { escrow: self.town.escrow, teller };
        let rail = TempoRail::new(nodes(&[&self.proxy.url]), settings);
        rail.with_sessions_forgoing(sessions, vec![usd(atoms)])
    }

    async fn of(&self, opening: &Opening) -> Channel {
        let channels = self.store.channels().await.unwrap();
        let name = opening.channel.to_string();
        channels.into_iter().find(|it| it.facts.id.on_rail() == name).unwrap()
    }

    /// What settling has cost by the books.
    fn fees(&self) -> u128 {
        self.books("spent/fees/usd").1
    }
}

fn settling_above(atoms: u128) -> Tending {
    let mut tending = Tending::default();
    let above = [("usd".parse().unwrap(), atoms)].into();
    tending.settle(&Settling { above, ..Settling::default() });
    tending
}

/// S-14, S-21: what was taken is settled while the session goes on, once, whether or not anybody lived to
/// write it down; what it cost is on the books; and closing takes only what is left.
#[tokio::test]
async fn a_session_is_settled_and_goes_on() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let opening = shop.opened(&payer, "a", 25).await;
    let (till, mut tending) = (shop.till(Vec::new()), settling_above(75));
    let look = |after_s| START.after(Duration::from_secs(after_s));
    assert_eq!(till.tend(&mut tending, look(1)).await.settled, 0);
    shop.paid(&payer, &opening, 50).await;
    shop.paid(&payer, &opening, 75).await;
    let earned = shop.town.holds(account(PAYEE)).await;
    let tended = till.tend(&mut tending, look(2)).await;
    assert_eq!((tended.settled, tended.open, &*tended.refused), (1, 0, [].as_slice()));
    let channel = shop.of(&opening).await;
    assert_eq!((channel.state, channel.settled, channel.owed()), (ChannelState::Open, 75, 0));
    assert_eq!(shop.town.state(opening.channel).await.unwrap().settled, 75);
    let fee = earned + 75 - shop.town.holds(account(PAYEE)).await;
    assert!(fee > 0 && shop.fees() == fee, "{} {fee}", shop.fees());
    assert_eq!(till.tend(&mut tending, look(3)).await.settled, 0, "nothing is left to settle");
    // Somebody settles and dies before it is written down: the next look finds it and settles nothing.
    for owed in [100, 125, 150] {
        shop.paid(&payer, &opening, owed).await;
    }
    let session = shop.rail.session().unwrap();
    let lost = session.settle_voucher(&shop.of(&opening).await).await.unwrap();
    assert_eq!((lost.atoms, shop.of(&opening).await.settled), (150, 75));
    let earned = shop.town.holds(account(PAYEE)).await;
    let mut tending = settling_above(75);
    assert_eq!(till.tend(&mut tending, look(4)).await.open, 0, "it looks first");
    let tended = till.tend(&mut tending, look(5)).await;
    assert_eq!(tended.open, 0);
    assert_eq!(shop.of(&opening).await.settled, 150);
    assert_eq!(shop.town.holds(account(PAYEE)).await, earned, "it was settled once");
    assert_eq!(shop.fees(), fee + lost.settled.cost.unwrap().atoms(), "and has cost what it has");
    shop.paid(&payer, &opening, 175).await;
    let id = shop.of(&opening).await.facts.id;
    let closed = shop.till(Vec::new()).close_channel(&id, look(6)).await.unwrap();
    assert_eq!((closed.settled, closed.returned), (175, 9_825));
    let (in_escrow, out_of_escrow) = shop.books("clearing/tempo-escrow/usd");
    assert_eq!(in_escrow, out_of_escrow);
    assert_eq!(shop.books("clearing/tempo/usd").1, 175);
}

/// S-20: several channels are settled in one transaction, and one whose voucher the escrow would not take is
/// left out and named; the others are settled once, and share what it has cost to the atom.
#[tokio::test]
async fn a_bad_voucher_in_a_batch_is_left_out() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let mut channels = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let opening = shop.opened(&payer, name, 25).await;
        channels.push(shop.of(&opening).await);
    }
    let signature = channels[1].voucher.as_ref().unwrap().signature.clone();
    channels[0].voucher.as_mut().unwrap().signature = signature;
    let before = shop.town.holds(account(PAYEE)).await;
    let session = shop.rail.session().unwrap();
    let came = session.settle_vouchers(&channels).await;
    assert_eq!(came[0], Err(SettleError::Declined), "another channel's signature");
    let done: Vec<_> = came[1..].iter().map(|it| it.clone().unwrap()).collect();
    assert!(done.iter().all(|it| it.atoms == 25));
    assert!(done.iter().all(|it| it.settled.reference == done[0].settled.reference), "{done:?}");
    let cost: u128 = done.iter().map(|it| it.settled.cost.as_ref().unwrap().atoms()).sum();
    assert_eq!(shop.town.holds(account(PAYEE)).await, before + 75 - cost);
    // Again, nothing is settled; what was is found.
    let again = session.settle_vouchers(&channels[1..]).await;
    assert!(again.iter().all(|it| it.as_ref().unwrap().atoms == 25), "{again:?}");
    assert_eq!(shop.town.holds(account(PAYEE)).await, before + 75 - cost);
    // Closing them is one transaction as well, and one that cannot be closed is not taken for closed.
    let came = session.close_channels(&channels).await;
    assert_eq!(came[0], Err(SettleError::Declined), "{came:?}");
    assert!(came[1..].iter().all(|it| it.as_ref().unwrap().atoms == 25), "{came:?}");
}

/// S-18: whoever tells what a batch has settled and leaves a channel out, or adds to a sum, is not believed of
/// that channel: what was settled of it, the escrow itself says. The others count.
#[tokio::test]
async fn a_batch_that_is_told_wrongly_is_found_out() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let session = shop.rail.session().unwrap();
    for (fault, names) in [(Fault::Omits, ["a", "b", "c"]), (Fault::Adds, ["d", "e", "f"])] {
        let mut channels = Vec::new();
        for name in names {
            let opening = shop.opened(&payer, name, 25).await;
            channels.push(shop.of(&opening).await);
        }
        shop.proxy.turn(fault);
        let came = session.settle_vouchers(&channels).await;
        shop.proxy.turn(Fault::None);
        let (lied, told): (Vec<_>, Vec<_>) =
            channels.iter().zip(&came).partition(|(_, it)| it.is_err());
        assert_eq!((lied.len(), told.len()), (1, 2), "{came:?}");
        assert_eq!(lied[0].1, &Err(SettleError::Unknown));
        assert!(told.iter().all(|(_, it)| it.as_ref().unwrap().atoms == 25), "the control");
        let fate = session.inquire_channel(lied[0].0).await.unwrap();
        let ChannelFate::Settled(seen, found) = fate else { panic!("{fate:?}") };
        assert_eq!((seen.settled, found.atoms), (25, 25));
        let one = told[0].1.as_ref().unwrap();
        assert_eq!(found.settled.reference, one.settled.reference, "by the same transaction");
    }
}

/// S-05, S-06: where the highest voucher is ahead of what was spent, the seller takes no more than was spent,
/// by an earlier voucher; and where there is none, forgoes a little, or gives credit for the rest.
#[tokio::test]
async fn a_close_takes_no_more_than_was_spent() {
    let Some(shop) = Shop::open().await else { return };
    let payer = shop.town.world.payer(2);
    let exact = shop.opened(&payer, "a", 25).await;
    let ahead = payer.voucher(&shop.town.escrow, &exact.descriptor, 500).unwrap();
    shop.take("HEAD", shop.presented("b", ahead, &payer)).await.unwrap();
    let channel = shop.of(&exact).await;
    assert_eq!((channel.spent, channel.accepted), (25, 500));
    let shop = &shop;
    let close = |channel: Channel| async move {
        shop.till(Vec::new()).close_channel(&channel.facts.id, START).await.unwrap()
    };
    let closed = close(channel).await;
    assert_eq!((closed.settled, closed.returned), (25, 9_975));
    assert_eq!(shop.town.state(exact.channel).await.unwrap().settled, 25);
    assert_eq!(shop.books(&format!("prepaid/{}/usd", payer.source())).0, 0, "no credit is needed");
    // One voucher for much more than was spent: nobody can take exactly that.
    let vague = shop.opened(&payer, "c", 500).await;
    let forgoing = shop.forgoing(25);
    let came = forgoing.session().unwrap().close(&shop.of(&vague).await).await.unwrap();
    assert_eq!(came.atoms, 0, "the seller forgoes it");
    let vague = shop.opened(&payer, "d", 500).await;
    let closed = close(shop.of(&vague).await).await;
    assert_eq!((closed.settled, closed.returned), (500, 9_975));
    assert_eq!(shop.books(&format!("prepaid/{}/usd", payer.source())).0, 475, "credit");
}
