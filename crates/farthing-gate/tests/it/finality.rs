//! What the rail said, and what it says later: chains that go back, rails that lie, and one
//! authorisation at two counters.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farthing_core::{
    BoxFuture, Buyer, Evidence, Held, Object, Payer, Presented, Rail, RailRules, Recovery,
    Rejection, SettleError, Settled, Store, Till, Unquotable,
};
use farthing_gate::{Clock, Gate, PriceTag, Tag};
use farthing_ledger::{Delivery, Holder, Matching, Payment, PaymentId, Payout, Story, audit};
use farthing_money::{Amount, Timestamp};
use farthing_mpp::Secret;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_test::{Dial, TestPayer, TestRail};
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::rail::assets;
use farthing_testkit::store::START;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

use crate::shop::{Shop, earned};

/// A chain that is sometimes another one: a block for each payment, and as many on top as are waited for.
#[derive(Default)]
struct Chain {
    blocks: Mutex<Vec<Option<PaymentId>>>,
}

impl Chain {
    fn mine(&self, payment: Option<PaymentId>) {
        self.blocks.lock().unwrap().push(payment);
    }

    fn knows(&self, payment: PaymentId) -> bool {
        self.blocks.lock().unwrap().contains(&Some(payment))
    }

    /// Its last `depth` blocks turn out not to be; others, without the payments, take their place.
    fn reorganise(&self, depth: usize) {
        let mut blocks = self.blocks.lock().unwrap();
        let kept = blocks.len().saturating_sub(depth);
        blocks.truncate(kept);
        blocks.resize(kept + depth + 1, None);
    }
}

/// A rail on a chain, which believes a payment once `confirmations` blocks are on top of its own.
struct ChainRail {
    words: TestRail,
    chain: Arc<Chain>,
    confirmations: usize,
    /// Says that payments are settled which it has never sent.
    lies: bool,
}

const RULES: RailRules = RailRules {
    authorised: "a token",
    settled: "so many blocks on top",
    reversed: "by a refund on the chain",
    reference: "the payment's id",
    holds: false,
    refunds: farthing_core::Refunds::Never,
    recheck_after: Some(Duration::from_mins(1)),
};

impl Rail for ChainRail {
    fn method(&self) -> &'static str {
        self.words.method()
    }

    fn rules(&self) -> &'static RailRules {
        &RULES
    }

    fn quote(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable> {
        self.words.quote(amount, payee)
    }

    fn check(&self, presented: &Presented, now: Timestamp) -> Result<Evidence, Rejection> {
        let evidence = self.words.check(presented, now)?;
        Ok(Evidence { inquiry: Some("by its id".into()), ..evidence })
    }

    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        if !self.lies {
            self.chain.mine(Some(held.key()));
            (0..self.confirmations).for_each(|_| self.chain.mine(None));
        }
        Box::pin(async { Ok(Settled::new(held.key().to_string())) })
    }

    fn inquire<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let found = self.chain.knows(payment.id).then(|| Settled::new(payment.id.to_string()));
        Box::pin(async { found.ok_or(SettleError::Declined) })
    }
}

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Buys once on a chain, lets the chain go back by `depth`, asks again, and gives where the payment
/// stands, and whether its money is there.
async fn bought(confirmations: usize, depth: usize, lies: bool) -> (Story, bool) {
    let (chain, paper) = (Arc::new(Chain::default()), Paper::default());
    let rail = || {
        let words = TestRail::new(assets(), Dial::default());
        ChainRail { words, chain: Arc::clone(&chain), confirmations, lies }
    };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open(paper.clone(), START));
    let secret = Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).unwrap();
    let gate = Gate::builder("shop.example", secret).unwrap().clock(Arc::new(Fixed(START)));
    let gate = gate.rail(rail()).store(Arc::clone(&store));
    let price = assets().get(&"usd".parse().unwrap()).unwrap().atoms(2_500);
    let tag = PriceTag::new("a", gate.quotes(&price, &Holder::new("seller").unwrap()));
    let inner = service_fn(|_: Request<farthing_gate::Body>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("the answer"))))
    });
    let service = gate.layer(move |_: &http::request::Parts| Tag::Priced(tag.clone())).layer(inner);
    let ask = |credential: Option<(http::HeaderName, http::HeaderValue)>| {
        let mut request = Request::get("/a").body(Full::<Bytes>::default()).unwrap();
        request.headers_mut().extend(credential);
        service.clone().oneshot(request)
    };
    let asked = ask(None).await.unwrap();
    let invitation = MppBuyer.read_offers(asked.headers()).remove(0);
    let paid = TestPayer::new("alice", assets()).pay(&invitation).await.ok().unwrap();
    let answer = ask(Some(MppBuyer.write_credential(&invitation, &paid).unwrap())).await.unwrap();
    assert_eq!(answer.status(), 200);
    http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    chain.reorganise(depth);
    let till = Till { protocols: vec![], rails: vec![Arc::new(rail())], store };
    let later = START.after(Duration::from_mins(2));
    till.recover(&mut Recovery::default(), later).await;
    let records = paper.records();
    audit(&records).unwrap();
    let of_payment: Vec<_> = records.into_iter().filter(|it| it.trace.is_some()).collect();
    let story = Story::tell(&of_payment).unwrap();
    let is_there = chain.knows(story.payment.id);
    (story, is_there)
}

/// F-01: what was delivered is lost exactly where the chain goes back further than was waited for. The
/// book finds every loss, and no seller is paid out for one.
#[tokio::test]
async fn a_loss_is_deeper_than_the_confirmations() {
    for confirmations in [0, 1, 3] {
        for depth in [0, 1, 2, 3, 5] {
            for _ in 0..20 {
                let (story, is_there) = bought(confirmations, depth, false).await;
                let lifecycle = story.lifecycle;
                assert_eq!(lifecycle.delivery, Delivery::Delivered);
                assert_eq!(
                    !is_there,
                    depth > confirmations,
                    "{depth} back, {confirmations} on top"
                );
                let (matching, payout) = if is_there {
                    (Matching::Matched, Payout::Eligible)
                } else {
                    (Matching::Missing, Payout::Ineligible)
                };
                assert_eq!((lifecycle.matching, lifecycle.payout), (matching, payout));
            }
        }
    }
}

/// F-02: a rail that says settled without a transaction is found out when it is asked again, however many
/// blocks it claims to have waited for.
#[tokio::test]
async fn a_settlement_without_a_transaction_is_found_out() {
    for confirmations in [0, 1, 3] {
        let (story, is_there) = bought(confirmations, 0, true).await;
        assert!(!is_there);
        assert_eq!(story.lifecycle.matching, Matching::Missing);
        assert_eq!(story.lifecycle.payout, Payout::Ineligible);
        let (story, is_there) = bought(confirmations, 0, false).await;
        assert!(is_there, "the control");
        assert_eq!(story.lifecycle.matching, Matching::Matched);
    }
}

/// F-11: one authorisation at two counters, at once, is one credit. Two are two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_authorisation_is_one_credit() {
    let shop = Arc::new(Shop::open());
    for round in 0..20 {
        // Two payers of one name make the same token, for two challenges.
        let alike = format!("payer {round}");
        let mut presented = Vec::new();
        for route in ["GET /a", "GET /b"] {
            let invitation = shop.send(route, &[], "").await.invitations().remove(0);
            let paid = TestPayer::new(&alike, assets()).pay(&invitation).await.ok().unwrap();
            let (name, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
            let value = value.to_str().unwrap().to_owned();
            let (shop, name) = (Arc::clone(&shop), name.to_string());
            presented.push(tokio::spawn(async move {
                shop.present(route, &(name, value), "").await.status.as_u16()
            }));
        }
        let mut statuses = Vec::new();
        for one in presented {
            statuses.push(one.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 402]);
    }
    assert_eq!((shop.served(), shop.dial.moved().len()), (20, 20));
    assert_eq!(earned(&shop.books()), 20 * 2_500);
    for route in ["GET /a", "GET /b"] {
        let credential = shop.buy(route, "").await;
        assert_eq!(shop.present(route, &credential, "").await.status, 200);
    }
    assert_eq!(earned(&shop.books()), 22 * 2_500);
}

/// U-02, U-04: receipts, the ledger and the rail say the same, one by one and in sum, and what failed has
/// no receipt and a record.
#[tokio::test]
async fn receipts_ledger_and_rail_agree() {
    let shop = Shop::open();
    let (mut references, mut failed) = (Vec::new(), 0);
    for number in 0..30 {
        let credential = shop.buy("GET /a", "").await;
        let status = if number % 3 == 0 { 500 } else { 200 };
        shop.answer_with(status, &[("payment-receipt", "forged")]);
        let answer = shop.present("GET /a", &credential, "").await;
        assert_eq!(answer.status, status);
        match answer.receipt() {
            Some(receipt) => references.push(receipt["reference"].as_str().unwrap().to_owned()),
            None => failed += 1,
        }
        assert_eq!(answer.fields.contains_key("payment-receipt"), status == 200);
    }
    assert_eq!((references.len(), failed), (20, 10));
    let moved: Vec<_> = shop.dial.moved().into_keys().map(|it| format!("test-{it}")).collect();
    assert!(references.iter().all(|reference| moved.contains(reference)));
    let books = shop.books();
    assert_eq!((books.delivered, books.undelivered), (20, 10), "what failed is owed, and written");
    assert_eq!(earned(&books), 30 * 2_500);
    let records = shop.paper().records();
    let fails =
        records.iter().filter(|it| matches!(it.event, farthing_ledger::Event::Failed { .. }));
    assert_eq!(fails.count(), 10);
}
