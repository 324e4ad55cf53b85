//! The same within sessions: at each step of one, killed before the step was written, after it was and before
//! anybody heard, and as soon as the client knew.
//!
//! ```text
//!            C-01 before it was written C-05 written, nobody told  C-06 the client knows
//! open       ┐
//! voucher    │ another writer of the    a link that loses every     nobody: the kill follows
//! top up     │ book holds it            answer; the journal says    the answer
//! close      ┘                          that it is there
//! ```
//!
//! A deposit is the book's own here, so that writing a step is making it. One run takes six sessions through
//! five steps, all six to the same point at once. After each kill the gateway starts on the same book, and
//! the clients send the same credentials again, twice: each step was made once, whatever was acknowledged is
//! there, and a deposit is what was spent and what is left.

use std::net::SocketAddr;

use farthing_core::{Act, Buyer, PreparedSession, SESSION, SessionPayer as _};
use farthing_ledger::{Book as Ledger, Channel, ChannelState, Event, Record};
use farthing_money::Amount;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use tokio::task::JoinSet;

use crate::crash::book::{Book, Place};
use crate::crash::kitchen::Kitchen;
use crate::crash::link;
use crate::crash::shop::{EVENTUALLY, LOOK_AGAIN, Point, assets, send, until, waiting};
use crate::crash::tally::{Fate, Tally};
use crate::world::{Serving, World, gateway_toml};

/// The price of a request, in atoms.
const PRICE: u128 = 25;

/// How many sessions go through one run.
const SESSIONS: u8 = 6;

/// The life of a session, and what its steps are called in the table.
const STEPS: [(&str, &str, Act); 5] = [
    ("session, open", "GET", Act::Open { cumulative: PRICE }),
    ("session, voucher", "GET", Act::Voucher { cumulative: PRICE * 2 }),
    ("session, top up", "HEAD", Act::TopUp { additional: PRICE * 2, before: PRICE * 4 }),
    ("session, voucher", "GET", Act::Voucher { cumulative: PRICE * 3 }),
    ("session, close", "HEAD", Act::Close { cumulative: PRICE * 3 }),
];

/// What of a session stands where: deposited, spent, and whether it is over.
type Sums = (u128, u128, bool);

/// Sessions, and a gateway that is killed again and again.
pub(crate) struct Street {
    world: World,
    book: Book,
    point: Point,
    serving: Option<Serving>,
    payer: PrepaidPayer,
    http: reqwest::Client,
    salts: u8,
    orders: usize,
    runs: u128,
    tally: Tally,
}

/// A step that is ready to be sent.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    path: String,
    credential: String,
}

impl Street {
    pub(crate) async fn open(point: Point, place: Place) -> Self {
        let (upstream, _) = Kitchen::open().await;
        let world = World::set_up(upstream);
        let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]";
        let usual = gateway_toml(upstream, "").replace("[store]", admin);
        let head = usual.split_once("[[routes]]").unwrap().0.to_owned();
        let route = "[[routes]]\nname = \"meal\"\nmethods = [\"GET\"]\npath = \"/meal\"\n\
                     upstream = \"up\"\nprice = \"0.25 usd\"\nintents = [\"session\"]\n";
        let book = Book::make(&world, place, &(head + route));
        let fund = ["prepaid", "fund", "agent-inc", "50000.00 usd", "--reference", "second"];
        world.farthing(&fund).ok();
        let serving = Some(world.serve());
        let payer = PrepaidPayer::new(&[7; 32], assets());
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let tally = Tally::default();
        Self { world, book, point, serving, payer, http, salts: 0, orders: 0, runs: 0, tally }
    }

    /// One run: six sessions from their opening to their end, with a kill at each step.
    pub(crate) async fn run(&mut self) {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(self.prepare().await);
        }
        let mut before: Sums = (0, 0, false);
        for (arm, method, act) in STEPS {
            let after = made(before, act);
            self.step(&sessions, method, act, (before, after), arm).await;
            before = after;
        }
        self.runs += 1;
    }

    fn url(&self) -> String {
        self.serving.as_ref().unwrap().url.clone()
    }

    async fn prepare(&mut self) -> PreparedSession {
        self.salts = self.salts.wrapping_add(1);
        let invitation = self.invited("GET").await;
        let deposit = Amount::new("usd".parse().unwrap(), PRICE * 4);
        let mut salt = [self.salts; 32];
        salt[..8].copy_from_slice(&self.orders.to_be_bytes());
        self.payer.prepare(&invitation, &deposit, salt).await.ok().unwrap()
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

    async fn signed(&mut self, session: &PreparedSession, method: &'static str, act: Act) -> Sent {
        let invitation = self.invited(method).await;
        let path = format!("/meal?n={}", self.orders);
        let paid = self.payer.act(&invitation, session, act).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
        Sent { method, path, credential: value.to_str().unwrap().to_owned() }
    }

    /// Every channel, as the journal has them.
    fn channels(&self) -> Vec<Channel> {
        let mut ledger = Ledger::default();
        for record in self.book.records() {
            ledger.replay(&record).unwrap();
        }
        ledger.channels().cloned().collect()
    }

    /// Brings one step of all sessions to the point, kills the gateway there, and sends the same again.
    async fn step(
        &mut self,
        sessions: &[PreparedSession],
        method: &'static str,
        act: Act,
        (before, after): (Sums, Sums),
        arm: &str,
    ) {
        let mut steps = Vec::new();
        for session in sessions {
            steps.push(self.signed(session, method, act).await);
        }
        self.kill_at_the_point(&steps, act).await;
        let found = self.channels();
        for session in sessions {
            let stands = sums(&found, session);
            let may_be: &[Sums] = match self.point {
                Point::Verified => &[before],
                Point::Delivered | Point::Answered => &[after],
                Point::Claimed | Point::Settled | Point::Executed => &[before, after],
            };
            assert!(may_be.contains(&stands), "{act:?}: {stands:?} of {may_be:?}");
        }
        self.serving = Some(self.world.serve());
        // The clients, who may not know, send the same again; and once more, for good measure.
        for _ in 0..2 {
            let mut clients = JoinSet::new();
            for sent in steps.clone() {
                clients.spawn(answered(self.http.clone(), self.url(), sent));
            }
            let answers = clients.join_all().await;
            let good = |it: &u16| matches!(it, 200 | 204);
            assert!(answers.iter().all(good), "{act:?} at {:?}: {answers:?}", self.point);
        }
        let found = self.channels();
        for session in sessions {
            let stands = sums(&found, session);
            let fate = match stands {
                it if it == after => Fate::Served,
                it if it.0 > after.0 || it.1 > after.1 => Fate::Double,
                _ => Fate::Lost,
            };
            self.tally.count(arm.to_owned(), fate);
        }
        self.world.farthing(&["ledger", "verify"]).ok();
    }

    async fn kill_at_the_point(&mut self, steps: &[Sent], act: Act) {
        let written = self.book.records().len();
        let gateway = self.url();
        let through = if self.point == Point::Delivered {
            let address: SocketAddr = gateway.trim_start_matches("http://").parse().unwrap();
            format!("http://{}", link::lossy(address).await)
        } else {
            gateway
        };
        let blocker = (self.point == Point::Verified).then(|| self.book.block());
        let mut asking = JoinSet::new();
        for sent in steps.iter().cloned() {
            let (http, through) = (self.http.clone(), through.clone());
            asking.spawn(async move {
                let Sent { method, path, credential } = sent;
                let answer = send(&http, &through, method, &path, &credential).await.ok()?;
                Some(answer.status().as_u16())
            });
        }
        match self.point {
            Point::Verified => {
                // All of them and a look of recovery's wait for the disk.
                until("they wait", async || {
                    (waiting(&self.http, self.serving.as_ref().unwrap()).await > steps.len())
                        .then_some(())
                })
                .await;
            }
            Point::Delivered => {
                let are_written = || {
                    let records = self.book.records();
                    records.iter().skip(written).filter(|it| is_step(it, act)).count()
                };
                until("they are written", async || (are_written() == steps.len()).then_some(()))
                    .await;
            }
            Point::Claimed | Point::Settled | Point::Executed | Point::Answered => {
                while let Some(ended) = asking.join_next().await {
                    let status = ended.unwrap().unwrap();
                    assert!(matches!(status, 200 | 204), "{act:?} is answered: {status}");
                }
            }
        }
        self.serving.take().unwrap().kill();
        if let Some(blocker) = blocker {
            blocker.end();
            assert_eq!(self.book.records().len(), written, "nothing was written of {act:?}");
        }
    }

    /// Stops, and holds what the seller has earned against what was bought.
    pub(crate) fn close(mut self) -> Tally {
        let (code, log) = self.serving.take().unwrap().stop();
        assert_eq!(code, 0, "{log}");
        let verified = self.world.farthing(&["ledger", "verify", "--json"]).json();
        let seller = &verified["audit"]["accounts"]["payable/seller/usd"];
        let earned = PRICE * 3 * u128::from(SESSIONS) * self.runs;
        let all = earned.to_string();
        assert_eq!(seller["credits_posted"], all.as_str(), "three requests in each session");
        self.tally
    }
}

/// How a session stands once a step was made.
const fn made((deposit, spent, is_over): Sums, act: Act) -> Sums {
    match act {
        Act::Open { cumulative } => (PRICE * 4, cumulative, is_over),
        Act::Voucher { cumulative } => (deposit, cumulative, is_over),
        Act::TopUp { additional, .. } => (deposit + additional, spent, is_over),
        Act::Close { cumulative } => (deposit, cumulative, true),
    }
}

/// How a session stands. A deposit is what was spent, what is left and what was given back.
fn sums(channels: &[Channel], session: &PreparedSession) -> Sums {
    let found = channels.iter().find(|it| it.facts.id.on_rail() == session.channel);
    let Some(channel) = found else { return (0, 0, false) };
    let is_over = channel.state == ChannelState::Closed;
    let left = if is_over { 0 } else { channel.refundable() };
    assert_eq!(channel.deposit, channel.spent + left + channel.returned);
    (channel.deposit, channel.spent, is_over)
}

/// What a client is told at last: what was being answered when the gateway died is told apart in a moment.
async fn answered(http: reqwest::Client, url: String, sent: Sent) -> u16 {
    let Sent { method, path, credential } = sent;
    let asking = async {
        loop {
            let answer = send(&http, &url, method, &path, &credential).await;
            match answer.map(|answer| answer.status().as_u16()) {
                Err(_) | Ok(503 | 409) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(status) => break status,
            }
        }
    };
    tokio::time::timeout(EVENTUALLY, asking).await.expect("an answer")
}

/// Whether a record makes a step: a session opens with the voucher of what is bought.
fn is_step(record: &Record, act: Act) -> bool {
    match (&record.event, act) {
        (Event::Claimed { payment, .. }, Act::Open { .. } | Act::Voucher { .. }) => {
            payment.voucher.is_some()
        }
        (Event::Channel { .. }, Act::TopUp { .. } | Act::Close { .. }) => true,
        _ => false,
    }
}
