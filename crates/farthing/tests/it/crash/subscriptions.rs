//! The same of a subscription: at each step of it, killed before the step was written, while it was being
//! written and before anybody heard, and as soon as the client knew.
//!
//! ```text
//!            before it was written      written, nobody told        the client knows
//! subscribe  ┐ another writer of the    a link that loses every     nobody: the kill follows
//! use        │ book's file holds it     answer; the journal says    the answer
//! cancel     ┘                          that it is there
//! ```
//!
//! Subscribing writes more than one record: what is agreed on, the charge of the first period, and the answer
//! within it. The kill falls between any two of them. After it the gateway starts on the same book, and the
//! client sends the same credential again: it is one subscription, charged once, and answered.

use std::net::SocketAddr;

use farthing_core::{Buyer, Invitation, SUBSCRIPTION, SubscriptionAct, SubscriptionPayer as _};
use farthing_ledger::{Book as Ledger, Event, Record, Subscription, SubscriptionId};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;

use crate::crash::book::{Book, Place};
use crate::crash::kitchen::Kitchen;
use crate::crash::link;
use crate::crash::shop::{assets, send, until, waiting};
use crate::world::{Serving, World, gateway_toml};

/// The price of a period, in atoms.
const PRICE: u128 = 25;

/// Where the gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Unwritten,
    Unheard,
    Answered,
}

const POINTS: [Point; 3] = [Point::Unwritten, Point::Unheard, Point::Answered];

/// A gateway that is killed again and again, and somebody who subscribes.
struct Street {
    world: World,
    book: Book,
    serving: Option<Serving>,
    payer: PrepaidPayer,
    http: reqwest::Client,
    orders: usize,
}

impl Street {
    async fn open() -> Self {
        let (upstream, _) = Kitchen::open().await;
        let world = World::set_up(upstream);
        let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]";
        let usual = gateway_toml(upstream, "").replace("[store]", admin);
        let head = usual.split_once("[[routes]]").unwrap().0.to_owned();
        let route = "[[routes]]\nname = \"meal\"\nmethods = [\"GET\"]\npath = \"/meal\"\n\
                     upstream = \"up\"\nintents = [\"subscription\"]\n\
                     subscription = { price = \"0.25 usd\", period = \"1 month\" }\n";
        let book = Book::make(&world, Place::File, &(head + route));
        let fund = ["prepaid", "fund", "agent-inc", "5000.00 usd", "--reference", "second"];
        world.farthing(&fund).ok();
        let serving = Some(world.serve());
        let payer = PrepaidPayer::new(&[7; 32], assets());
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { world, book, serving, payer, http, orders: 0 }
    }

    fn url(&self) -> String {
        self.serving.as_ref().unwrap().url.clone()
    }

    async fn invited(&mut self) -> Invitation {
        self.orders += 1;
        let url = format!("{}/meal?n={}", self.url(), self.orders);
        let asked = self.http.get(url).send().await.unwrap();
        assert_eq!(asked.status(), 402, "nothing is served to somebody who has not paid");
        let offers = MppBuyer.read_offers(asked.headers());
        offers.into_iter().find(|offer| offer.intent == SUBSCRIPTION).unwrap()
    }

    fn subscription(&self, id: SubscriptionId) -> Option<Subscription> {
        let mut ledger = Ledger::default();
        for record in self.book.records() {
            ledger.replay(&record).unwrap();
        }
        ledger.subscription(id).cloned()
    }

    /// Brings one step to a point, kills the gateway there, and sends the same again. Says which subscription
    /// the step has begun, if it begins one.
    async fn step(&mut self, act: SubscriptionAct, point: Point) -> SubscriptionId {
        let invitation = self.invited().await;
        let path = format!("/meal?n={}", self.orders);
        let begun = SubscriptionId::of(invitation.protocol, &invitation.challenge);
        let paid = self.payer.subscribe(&invitation, act).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
        let credential = value.to_str().unwrap().to_owned();
        let before = self.book.records().len();
        let gateway = self.url();
        let through = if point == Point::Unheard {
            let address: SocketAddr = gateway.trim_start_matches("http://").parse().unwrap();
            format!("http://{}", link::lossy(address).await)
        } else {
            gateway
        };
        let blocker = (point == Point::Unwritten).then(|| self.book.block());
        let (http, sent_path, sent) = (self.http.clone(), path.clone(), credential.clone());
        let asking = tokio::spawn(async move {
            let answer = send(&http, &through, "GET", &sent_path, &sent).await.ok()?;
            Some(answer.status().as_u16())
        });
        match point {
            Point::Unwritten => {
                // This one and a look of recovery's wait for the disk.
                until("it waits", async || {
                    (waiting(&self.http, self.serving.as_ref().unwrap()).await > 1).then_some(())
                })
                .await;
            }
            Point::Unheard => {
                let written = || self.book.records().iter().skip(before).any(is_step);
                until("it is written", async || written().then_some(())).await;
            }
            Point::Answered => {
                let answered = asking.await.unwrap().unwrap();
                assert!(matches!(answered, 200 | 204), "it is answered: {answered}");
            }
        }
        self.serving.take().unwrap().kill();
        if let Some(blocker) = blocker {
            blocker.end();
            assert_eq!(self.book.records().len(), before, "nothing was written");
        }
        self.serving = Some(self.world.serve());
        self.world.farthing(&["ledger", "verify"]).ok();
        // The client, who may not know, sends the same again; and once more, for good measure.
        for _ in 0..2 {
            let answered = until("an answer", async || {
                let sent = send(&self.http, &self.url(), "GET", &path, &credential).await.ok()?;
                let status = sent.status().as_u16();
                // What was being answered when the gateway died is told apart in a moment.
                (status != 503 && status != 409).then_some(status)
            });
            let answered = answered.await;
            assert!(matches!(answered, 200 | 204), "at {point:?}: {answered}");
        }
        begun
    }
}

/// Whether a record is one of a subscription, or of a payment of one.
fn is_step(record: &Record) -> bool {
    if let Event::Claimed { payment, .. } = &record.event {
        return payment.subscription.is_some();
    }
    matches!(record.event, Event::Subscription { .. })
}

/// C-01, C-02, C-05, C-06, SUB.S04: killed at every point of subscribing, using and cancelling: it is one
/// subscription, charged once, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_subscription() {
    let mut street = Street::open().await;
    for point in POINTS {
        let id = street.step(SubscriptionAct::Begin { until: None }, point).await;
        let stands = street.subscription(id).unwrap();
        assert_eq!((stands.state.name(), stands.charges), ("active", 1), "{point:?}");
        street.step(SubscriptionAct::Use { id: id.to_string() }, point).await;
        assert_eq!(street.subscription(id).unwrap().charges, 1);
        street.step(SubscriptionAct::Cancel { id: id.to_string() }, point).await;
        let stands = street.subscription(id).unwrap();
        assert_eq!((stands.state.name(), stands.charges), ("cancelled", 1), "{point:?}");
    }
    let verified = street.world.farthing(&["ledger", "verify", "--json"]).json();
    let seller = &verified["audit"]["accounts"]["payable/seller/usd"];
    assert_eq!(seller["credits_posted"], (PRICE * 3).to_string().as_str(), "one charge each");
}
