//! The same within a session: at each step of it, killed before the step was written, after it was and before
//! anybody heard, and as soon as the client knew.
//!
//! ```text
//!            before it was written      written, nobody told        the client knows
//! open       ┐
//! voucher    │ another writer of the    a link that loses every     nobody: the kill follows
//! top up     │ book's file holds it     answer; the journal says    the answer
//! close      ┘                          that it is there
//! ```
//!
//! After each kill the gateway starts on the same book, and the client sends the same credential again: each
//! step was made once, whatever was acknowledged is there, and the deposit is what was spent and what is left.

use std::net::SocketAddr;

use farthing_core::{Act, Buyer, PreparedSession, SESSION, SessionPayer as _};
use farthing_ledger::{Book as Ledger, Channel, ChannelState, Event, Record};
use farthing_money::Amount;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;

use crate::crash::book::{Book, Place};
use crate::crash::kitchen::Kitchen;
use crate::crash::link;
use crate::crash::shop::{assets, send, until};
use crate::world::{Serving, World, gateway_toml};

/// The price of a request, in atoms.
const PRICE: u128 = 25;

/// Where the gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Unwritten,
    Unheard,
    Answered,
}

const POINTS: [Point; 3] = [Point::Unwritten, Point::Unheard, Point::Answered];

/// A session, and a gateway that is killed again and again.
struct Street {
    world: World,
    book: Book,
    serving: Option<Serving>,
    payer: PrepaidPayer,
    http: reqwest::Client,
    /// What was told to the client: how much was deposited, and how much was spent.
    told: (u128, u128),
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
                     upstream = \"up\"\nprice = \"0.25 usd\"\nintents = [\"session\"]\n";
        let book = Book::make(&world, Place::File, &(head + route));
        let fund = ["prepaid", "fund", "agent-inc", "5000.00 usd", "--reference", "second"];
        world.farthing(&fund).ok();
        let serving = Some(world.serve());
        let payer = PrepaidPayer::new(&[7; 32], assets());
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { world, book, serving, payer, http, told: (0, 0), orders: 0 }
    }

    fn url(&self) -> String {
        self.serving.as_ref().unwrap().url.clone()
    }

    async fn prepare(&mut self, salt: u8) -> PreparedSession {
        self.told = (0, 0);
        let invitation = self.invited("GET").await;
        let deposit = Amount::new("usd".parse().unwrap(), PRICE * 4);
        self.payer.prepare(&invitation, &deposit, [salt; 32]).await.ok().unwrap()
    }

    async fn invited(&mut self, method: &str) -> farthing_core::Invitation {
        self.orders += 1;
        let url = format!("{}/meal?n={}", self.url(), self.orders);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.http.request(method, url).send().await.unwrap();
        assert_eq!(asked.status(), 402, "nothing is served to somebody who has not paid");
        let offers = MppBuyer.read_offers(asked.headers());
        offers.into_iter().find(|offer| offer.intent == SESSION).unwrap()
    }

    fn channel(&self, session: &PreparedSession) -> Option<Channel> {
        let mut ledger = Ledger::default();
        for record in self.book.records() {
            ledger.replay(&record).unwrap();
        }
        ledger.channels().find(|it| it.facts.id.on_rail() == session.channel).cloned()
    }

    async fn waiting(&self) -> usize {
        let admin = self.serving.as_ref().unwrap().admin.as_ref().unwrap();
        let url = format!("http://{admin}/metrics");
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("farthing_store_queue "));
        line.unwrap().parse().unwrap()
    }

    /// Brings one step of a session to a point, kills the gateway there, and sends the same again.
    async fn step(
        &mut self,
        session: &PreparedSession,
        method: &'static str,
        act: Act,
        point: Point,
    ) {
        let invitation = self.invited(method).await;
        let path = format!("/meal?n={}", self.orders);
        let paid = self.payer.act(&invitation, session, act).await.ok().unwrap();
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
            let answer = send(&http, &through, method, &sent_path, &sent).await.ok()?;
            Some(answer.status().as_u16())
        });
        match point {
            Point::Unwritten => {
                // This one and a look of recovery's wait for the disk.
                until("it waits", async || (self.waiting().await > 1).then_some(())).await;
            }
            Point::Unheard => {
                let written = || {
                    let records = self.book.records();
                    records.iter().skip(before).any(is_step)
                };
                until("it is written", async || written().then_some(())).await;
            }
            Point::Answered => {
                let answered = asking.await.unwrap().unwrap();
                assert!(matches!(answered, 200 | 204), "{act:?} is answered: {answered}");
                self.tell(act);
            }
        }
        self.serving.take().unwrap().kill();
        if let Some(blocker) = blocker {
            blocker.end();
            assert_eq!(self.book.records().len(), before, "nothing was written of {act:?}");
        }
        self.serving = Some(self.world.serve());
        self.sound(session, point, act);
        // The client, who may not know, sends the same again; and once more, for good measure.
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answered = until("an answer", async || {
                let sent = send(&self.http, &self.url(), method, &path, &credential).await.ok()?;
                let status = sent.status().as_u16();
                // What was being answered when the gateway died is told apart in a moment.
                (status != 503 && status != 409).then_some(status)
            });
            answers.push(answered.await);
        }
        assert!(
            answers.iter().all(|it| matches!(it, 200 | 204)),
            "{act:?} at {point:?}: {answers:?}"
        );
        if point != Point::Answered {
            self.tell(act);
        }
        self.sound(session, Point::Answered, act);
    }

    /// What the client knows from now on.
    fn tell(&mut self, act: Act) {
        let (deposit, spent) = self.told;
        self.told = match act {
            Act::Open { .. } => (PRICE * 4, PRICE),
            Act::Voucher { cumulative } => (deposit, cumulative),
            Act::TopUp { additional } => (deposit + additional, spent),
            Act::Close { .. } => (deposit, spent),
        };
    }

    /// Whatever was acknowledged is in the book, nothing twice, and everything adds up.
    fn sound(&self, session: &PreparedSession, point: Point, act: Act) {
        let (deposit, spent) = self.told;
        let Some(channel) = self.channel(session) else {
            assert_eq!((deposit, point), (0, Point::Unwritten), "{act:?}");
            return;
        };
        let (now_deposit, now_spent) = (channel.deposit, channel.spent);
        if point == Point::Answered {
            assert_eq!((now_deposit, now_spent), (deposit, spent), "{act:?}");
            let closed = matches!(act, Act::Close { .. });
            assert_eq!(channel.state == ChannelState::Closed, closed, "{act:?}");
        } else {
            assert!(now_deposit >= deposit && now_spent >= spent, "{act:?}: {channel:?}");
        }
        let left = if channel.state == ChannelState::Closed { 0 } else { channel.refundable() };
        assert_eq!(now_deposit, now_spent + left + channel.returned, "{act:?}");
        self.world.farthing(&["ledger", "verify"]).ok();
    }
}

/// Whether a record is one of a session, or of a payment in it.
fn is_step(record: &Record) -> bool {
    if let Event::Claimed { payment, .. } = &record.event {
        return payment.voucher.is_some();
    }
    matches!(record.event, Event::Channel { .. })
}

/// C-01, C-02, C-05, C-06, S-14, S-11: killed at every point of opening, paying, depositing more and closing:
/// nothing that was acknowledged is lost, each step is made once, and a deposit is what was spent and what is
/// left.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_session() {
    let mut street = Street::open().await;
    for (salt, point) in (1..).zip(POINTS) {
        let session = street.prepare(salt).await;
        let steps = [
            ("GET", Act::Open { cumulative: PRICE }),
            ("GET", Act::Voucher { cumulative: PRICE * 2 }),
            ("HEAD", Act::TopUp { additional: PRICE * 2 }),
            ("GET", Act::Voucher { cumulative: PRICE * 3 }),
            ("HEAD", Act::Close { cumulative: PRICE * 3 }),
        ];
        for (method, act) in steps {
            street.step(&session, method, act, point).await;
        }
    }
    let verified = street.world.farthing(&["ledger", "verify", "--json"]).json();
    let seller = &verified["audit"]["accounts"]["payable/seller/usd"];
    let earned = (PRICE * 3 * 3).to_string();
    assert_eq!(
        seller["credits_posted"],
        earned.as_str(),
        "three requests in each of three sessions"
    );
}
