//! A gateway to be killed, its book, its rail, its upstream and its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farthing_core::{Buyer, Payer, identity};
use farthing_ledger::{Delivery, Event, Pay, PaymentId, Record, Story};
use farthing_money::{Amount, Asset, Assets};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_rail_test::{Dial, TestPayer, teller};
use reqwest::Method;
use tokio::task::JoinSet;

use crate::crash::book::{Book, Place};
use crate::crash::kitchen::{Hold, Kitchen, answer};
use crate::crash::link;
use crate::crash::tally::{Fate, Tally};
use crate::world::{Serving, World, gateway_toml};

/// The price of everything, in atoms.
const PRICE: u128 = 25;

/// The routes: paid from an account in the book before the handler runs, after it has succeeded, and on
/// a rail outside.
const ROUTES: [(&str, &str); 3] =
    [("before", "prepaid, before"), ("after", "prepaid, after"), ("outside", "test rail")];

/// Long enough for anything that happens at all.
pub(crate) const EVENTUALLY: Duration = Duration::from_mins(2);

/// How soon after a look the next one follows.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Where the gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Verified,
    Claimed,
    Settled,
    Executed,
    Delivered,
    Answered,
}

impl Point {
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::Verified => "C-01",
            Self::Claimed => "C-02",
            Self::Settled => "C-03",
            Self::Executed => "C-04",
            Self::Delivered => "C-05",
            Self::Answered => "C-06",
        }
    }
}

/// Who holds the credential when the gateway is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Its owner, who sends it again.
    Honest,
    /// A thief, and then its owner.
    Robbed,
    /// Nobody.
    Gone,
}

const CLIENTS: [(Client, &str); 3] =
    [(Client::Honest, "retries"), (Client::Robbed, "replayed"), (Client::Gone, "gone")];

/// Something that is bought.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    route: &'static str,
    method: &'static str,
    /// Names it to the kitchen.
    number: String,
    credential: String,
    payment: PaymentId,
}

impl Order {
    fn path(&self) -> String {
        format!("/{}?{}", self.route, self.number)
    }

    fn is_repeatable(&self) -> bool {
        self.method == "GET"
    }
}

/// An order of a run, and what its client has seen of it so far.
struct Bought {
    order: Order,
    client: Client,
    arm: String,
    was_answered: bool,
}

pub(crate) struct Shop {
    pub(crate) world: World,
    book: Book,
    pub(crate) dial: Dial,
    point: Point,
    kitchen: Arc<Kitchen>,
    serving: Option<Serving>,
    payer: PrepaidPayer,
    tester: TestPayer,
    http: reqwest::Client,
    next: AtomicUsize,
    tally: Tally,
    bought: Vec<(Bought, Fate)>,
}

pub(crate) fn assets() -> Assets {
    [Asset::new("usd".parse().unwrap(), 2).unwrap()].into_iter().collect()
}

/// The configuration: the usual one, with a rail outside and three routes.
fn configuration(upstream: SocketAddr, teller: SocketAddr) -> String {
    let usual = gateway_toml(upstream, "");
    let (head, _) = usual.split_once("[[routes]]").unwrap();
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]";
    let rails = format!("[rails.prepaid]\n\n[rails.test]\nteller = \"{teller}\"\n");
    let head = head.replace("[store]", admin).replace("[rails.prepaid]", &rails);
    let route = |(route, _): &(&str, &str)| {
        let rail = if *route == "outside" { "test" } else { "prepaid" };
        let settle = if *route == "after" { "settle = \"after\"" } else { "" };
        format!(
            "[[routes]]\nname = \"{route}\"\nmethods = [\"GET\", \"POST\"]\npath = \"/{route}\"\n\
             upstream = \"up\"\nprice = \"0.25 usd\"\nrails = [\"{rail}\"]\n{settle}\n"
        )
    };
    head + &ROUTES.iter().map(route).collect::<String>()
}

/// Looks again until something holds.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let found = tokio::time::timeout(EVENTUALLY, looking).await;
    found.unwrap_or_else(|_| panic!("it never came to this: {what}"))
}

impl Shop {
    pub(crate) async fn open(point: Point, place: Place) -> Self {
        let (upstream, kitchen) = Kitchen::open().await;
        let dial = Dial::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let teller = listener.local_addr().unwrap();
        tokio::spawn(teller::serve(listener, dial.clone()));
        let world = World::set_up(upstream);
        let book = Book::make(&world, place, &configuration(upstream, teller));
        let fund = ["prepaid", "fund", "agent-inc", "5000.00 usd", "--reference", "second"];
        world.farthing(&fund).ok();
        let serving = Some(world.serve());
        Self {
            world,
            book,
            dial,
            point,
            kitchen,
            serving,
            payer: PrepaidPayer::new(&[7; 32], assets()),
            tester: TestPayer::new("alice", assets()),
            // A connection each: what is held on one holds nobody else.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            next: AtomicUsize::default(),
            tally: Tally::default(),
            bought: Vec::new(),
        }
    }

    fn serving(&self) -> &Serving {
        self.serving.as_ref().unwrap()
    }

    /// Starts the gateway anew, on a disk where no file grows beyond `kib`.
    pub(crate) fn restart_within(&mut self, kib: u64) {
        self.serving.take().unwrap().stop();
        self.serving = Some(self.world.serve_within(kib));
    }

    pub(crate) fn restart(&mut self) {
        self.serving = Some(self.world.serve());
    }

    /// Waits until the gateway has ended by itself.
    pub(crate) fn end(&mut self) -> (i32, String) {
        self.serving.take().unwrap().ended()
    }

    pub(crate) fn story(&self, order: &Order) -> Option<Story> {
        self.book.story(order.payment)
    }

    pub(crate) async fn until_story(&self, order: &Order, is_so: impl Fn(&Story) -> bool) -> Story {
        until("a story", async || self.story(order).filter(&is_so)).await
    }

    /// Asks for something and pays for it: nothing is presented yet.
    pub(crate) async fn order(&self, route: &'static str, method: &'static str) -> Order {
        let number = format!("n={}", self.next.fetch_add(1, Ordering::SeqCst));
        let url = self.serving().url(&format!("/{route}?{number}"));
        let method_name = Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.http.request(method_name, url).send().await.unwrap();
        assert_eq!(asked.status(), 402, "nothing is served to somebody who has not paid");
        let invitation = MppBuyer.read_offers(asked.headers()).remove(0);
        let payer: &dyn Payer = if route == "outside" { &self.tester } else { &self.payer };
        let paid = payer.pay(&invitation).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
        let payment = PaymentId::of(&identity("mpp", &invitation.challenge));
        let credential = value.to_str().unwrap().to_owned();
        Order { route, method, number, credential, payment }
    }

    /// Presents an order's credential for what it was bought for. Nothing if no answer came.
    pub(crate) async fn present(&self, order: &Order) -> Option<(u16, String)> {
        present(&self.http, &self.serving().url, order.method, &order.path(), &order.credential)
            .await
    }

    /// One run: everybody to the point, the kill, and everybody's fate.
    pub(crate) async fn run(&mut self) {
        let mut bought = Vec::new();
        for (route, rail) in ROUTES {
            for method in ["GET", "POST"] {
                for (client, name) in CLIENTS {
                    let order = self.order(route, method).await;
                    let arm = format!("{rail}, {name}");
                    bought.push(Bought { order, client, arm, was_answered: false });
                }
            }
        }
        self.bring_to_the_point(&mut bought).await;
        for route in ROUTES {
            self.kitchen.hold_at(route.0, Hold::Nothing);
        }
        self.dial.open();
        self.serving = Some(self.world.serve());
        self.robbed(&bought).await;
        let mut fates = Vec::new();
        for one in bought {
            let fate = self.fate(&one).await;
            self.tally.count(one.arm.clone(), fate);
            fates.push((one, fate));
        }
        self.bought.append(&mut fates);
        self.world.farthing(&["ledger", "verify"]).ok();
    }

    /// Brings all orders to the point at once, and kills the gateway there.
    async fn bring_to_the_point(&mut self, bought: &mut [Bought]) {
        for (route, _) in ROUTES {
            self.kitchen.hold_at(route, self.point.hold(route));
        }
        let (arrived, moved, held) =
            (self.dial.arrived(), self.dial.moved().len(), self.kitchen.held());
        let mut blocker = None;
        match self.point {
            Point::Verified => blocker = Some(self.book.block()),
            Point::Claimed => self.dial.hold(),
            Point::Settled => self.dial.hold_answers(),
            Point::Executed | Point::Delivered | Point::Answered => {}
        }
        let gateway = self.serving().url.clone();
        let through = if self.point == Point::Delivered {
            let address = gateway.trim_start_matches("http://").parse().unwrap();
            format!("http://{}", link::lossy(address).await)
        } else {
            gateway
        };
        let mut clients = JoinSet::new();
        let heads = Arc::new(AtomicUsize::default());
        for (at, one) in bought.iter().enumerate() {
            let (through, order, heads) = (through.clone(), one.order.clone(), Arc::clone(&heads));
            let http = self.http.clone();
            clients.spawn(async move {
                let path = order.path();
                let sent = send(&http, &through, order.method, &path, &order.credential);
                let answer = sent.await.ok()?;
                heads.fetch_add(1, Ordering::SeqCst);
                assert_eq!(answer.status(), 200);
                let body = answer.text().await.ok()?;
                assert_eq!(body, crate::crash::kitchen::answer(&order.number));
                Some(at)
            });
        }
        let third = bought.len() / ROUTES.len();
        let held_here = || self.kitchen.held() - held;
        let is_there = async || match self.point {
            // All of them and a look of recovery's wait for the disk: it is the only other one that asks.
            Point::Verified => waiting(&self.http, self.serving()).await > bought.len(),
            Point::Claimed => {
                self.dial.arrived() - arrived == u64::try_from(third).unwrap()
                    && held_here() == 2 * third
            }
            // Those whose handler comes first have been given the head of their answer.
            Point::Settled => {
                self.dial.moved().len() - moved == third
                    && held_here() == 2 * third
                    && heads.load(Ordering::SeqCst) == third
            }
            Point::Executed => held_here() == 3 * third,
            Point::Delivered => bought.iter().all(|one| {
                let story = self.story(&one.order);
                story.is_some_and(|it| it.lifecycle.delivery == Delivery::Delivered)
            }),
            Point::Answered => true,
        };
        if self.point == Point::Answered {
            // The last client has its answer: at once.
            while let Some(ended) = clients.join_next().await {
                bought[ended.unwrap().unwrap()].was_answered = true;
            }
        } else {
            until("everybody at the point", async || is_there().await.then_some(())).await;
        }
        let written = self.records().len();
        self.serving.take().unwrap().kill();
        if let Some(blocker) = blocker {
            blocker.end();
            assert_eq!(self.records().len(), written, "nothing was written of it");
            for one in bought.iter() {
                assert!(self.story(&one.order).is_none());
            }
        }
        while let Some(ended) = clients.join_next().await {
            assert_eq!(ended.unwrap(), None, "nobody has a whole answer");
        }
    }

    /// A thief shows every credential it has stolen, many times at once, for what it bought and for
    /// everything else.
    async fn robbed(&self, bought: &[Bought]) {
        let mut thieves = JoinSet::new();
        for one in bought.iter().filter(|one| one.client == Client::Robbed) {
            let order = one.order.clone();
            let mut tries = vec![(order.method, order.path()); 8];
            let other = if order.method == "GET" { "POST" } else { "GET" };
            tries.push((other, order.path()));
            tries.push((order.method, format!("{}0", order.path())));
            let elsewhere = ROUTES.iter().map(|it| it.0).filter(|route| *route != order.route);
            tries.extend(elsewhere.map(|it| (order.method, format!("/{it}?{}", order.number))));
            for (method, path) in tries {
                let (url, order) = (self.serving().url.clone(), order.clone());
                let http = self.http.clone();
                thieves.spawn(async move {
                    let own = (method, path.clone()) == (order.method, order.path());
                    let (status, body) =
                        present(&http, &url, method, &path, &order.credential).await.unwrap();
                    if own && status == 200 {
                        assert_eq!(body, answer(&order.number), "the one answer and no other");
                    } else {
                        assert_ne!(status, 200, "{method} {path}: a credential is for one thing");
                    }
                });
            }
        }
        while let Some(ended) = thieves.join_next().await {
            ended.unwrap();
        }
    }

    /// What became of one order.
    async fn fate(&self, one: &Bought) -> Fate {
        let Bought { order, client, .. } = one;
        let outcome = match client {
            Client::Honest | Client::Robbed => self.retried(order).await,
            Client::Gone => self.waited_for(order),
        };
        let done = self.kitchen.done(&order.number);
        let done_max = if order.is_repeatable() { 2 } else { 1 };
        let story = self.story(order);
        let net = story.as_ref().map_or(0, charged);
        if done > done_max || net > PRICE {
            return Fate::Double;
        }
        match outcome {
            Fate::Refunded | Fate::NotCharged if net > 0 => Fate::Lost,
            Fate::Served if net == 0 => Fate::ServedAndRefunded,
            Fate::Refunded if one.was_answered => Fate::ServedAndRefunded,
            Fate::Served if done == 0 => Fate::Lost,
            Fate::Served
            | Fate::Refunded
            | Fate::NotCharged
            | Fate::Listed
            | Fate::ServedAndRefunded
            | Fate::Lost
            | Fate::Double => outcome,
        }
    }

    /// An honest client sends the same again until it is answered, or told that it will not be.
    async fn retried(&self, order: &Order) -> Fate {
        until("an end for a client that comes back", async || {
            let (status, body) = self.present(order).await?;
            if status == 200 {
                assert_eq!(body, answer(&order.number));
                return Some(Fate::Served);
            }
            let fate = self.story(order).as_ref().and_then(ended)?;
            // What the book says, the client is told, with a challenge to buy again.
            let told: &[&str] = match fate {
                Fate::Refunded => &["was given back"],
                Fate::Served
                | Fate::NotCharged
                | Fate::Listed
                | Fate::ServedAndRefunded
                | Fate::Lost
                | Fate::Double => &["was declined", "was answered before"],
            };
            (status == 402 && told.iter().any(|it| body.contains(it))).then_some(fate)
        })
        .await
    }

    /// Nobody comes back: what the book makes of it alone, or what the operator is told.
    fn waited_for(&self, order: &Order) -> Fate {
        let Some(story) = self.story(order) else { return Fate::NotCharged };
        if story.lifecycle.delivery == Delivery::Delivered {
            return Fate::Served;
        }
        if let Some(fate) = ended(&story) {
            return fate;
        }
        // Either it says where it hangs, or it has ended meanwhile.
        let stuck = self.world.farthing(&["payments", "stuck", "--json"]).json();
        let id = order.payment.to_string();
        let listed = stuck.as_array().unwrap().iter().find(|it| it["what"] == id.as_str());
        match listed {
            Some(it) if !it["why"].as_str().unwrap().is_empty() => Fate::Listed,
            _ => self.story(order).as_ref().and_then(ended).unwrap_or(Fate::Lost),
        }
    }

    fn records(&self) -> Vec<Record> {
        self.book.records()
    }

    /// Stops, and holds everything against everything: what clients have paid by the book, what the
    /// rail outside says it moved, and what was bought.
    pub(crate) async fn close(mut self) -> Tally {
        let is_under_way = |story: &Story| story.lifecycle.pay == Pay::Refunding;
        let stories =
            || self.bought.iter().filter_map(|(one, _)| self.story(&one.order)).collect::<Vec<_>>();
        until("an end of every refund", async || {
            (!stories().iter().any(is_under_way)).then_some(())
        })
        .await;
        let (code, log) = self.serving.take().unwrap().stop();
        assert_eq!(code, 0, "{log}");
        self.world.farthing(&["ledger", "verify"]).ok();
        let records = self.records();
        let claimed = records.iter().filter(|it| matches!(it.event, Event::Claimed { .. })).count();
        let stories: Vec<_> =
            self.bought.iter().filter_map(|(one, _)| self.story(&one.order)).collect();
        assert_eq!(claimed, stories.len(), "a credential is claimed once");
        let audit = farthing_ledger::audit(&records).unwrap();
        let (mut book, mut rail) = (0, 0);
        for story in &stories {
            *(if story.payment.method == "test" { &mut rail } else { &mut book }) += charged(story);
        }
        let account = &audit.accounts[&"prepaid/agent-inc/usd".parse().unwrap()];
        let paid = account.debits_posted + 500_500 - account.credits_posted;
        assert_eq!(paid, book, "the account has paid for what was bought and for nothing else");
        let sum = |amounts: Vec<Amount>| amounts.iter().map(Amount::atoms).sum::<u128>();
        let moved = sum(self.dial.moved().into_values().collect());
        let back = sum(self.dial.given_back().into_values().collect());
        let unheard: u128 = stories
            .iter()
            .filter(|it| {
                it.lifecycle.pay == Pay::Held && self.dial.moved().contains_key(&it.payment.id)
            })
            .map(|it| it.payment.amount.atoms())
            .sum();
        // Ordered, and not sent before it was stopped: the next gateway sends it.
        let given_back = self.dial.given_back();
        let unsent: u128 = records
            .iter()
            .filter_map(|it| match &it.event {
                Event::Refunded { refund, settlement: None }
                    if !given_back.contains_key(&refund.id) =>
                {
                    Some(refund.amount.atoms())
                }
                Event::Opened { .. }
                | Event::KeyAttached { .. }
                | Event::KeyDetached { .. }
                | Event::Funded { .. }
                | Event::Claimed { .. }
                | Event::Posted { .. }
                | Event::Voided { .. }
                | Event::Failed { .. }
                | Event::Resumed { .. }
                | Event::Delivered { .. }
                | Event::Refunded { .. }
                | Event::RefundPosted { .. }
                | Event::RefundVoided { .. }
                | Event::Reconciled { .. }
                | Event::PayoutHeld { .. }
                | Event::PayoutReleased { .. }
                | Event::PaidOut { .. }
                | Event::Channel { .. }
                | Event::Owner { .. }
                | Event::Subscription { .. }
                | Event::Erased { .. } => None,
            })
            .sum();
        assert_eq!(moved - back, rail + unheard + unsent, "and so it is on the rail outside");
        self.tally
    }
}

/// How a story has ended without an answer, if it has.
const fn ended(story: &Story) -> Option<Fate> {
    match story.lifecycle.pay {
        Pay::Voided => Some(Fate::NotCharged),
        Pay::Refunded => Some(Fate::Refunded),
        Pay::Held | Pay::Settled | Pay::Refunding | Pay::PartlyRefunded => None,
    }
}

/// What a payment has cost its client, in atoms: by the transfers of its story.
fn charged(story: &Story) -> u128 {
    match story.lifecycle.pay {
        Pay::Held | Pay::Voided => 0,
        Pay::Settled | Pay::Refunding | Pay::PartlyRefunded | Pay::Refunded => {
            let back = story.payment.amount.atoms() - story.lifecycle.left();
            story.payment.amount.atoms() - back
        }
    }
}

/// How many requests wait for the book, as the gateway itself says.
pub(crate) async fn waiting(http: &reqwest::Client, serving: &Serving) -> usize {
    let url = format!("http://{}/metrics", serving.admin.as_ref().unwrap());
    let text = http.get(url).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("farthing_store_queue "));
    line.unwrap().parse().unwrap()
}

pub(crate) async fn send(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    credential: &str,
) -> reqwest::Result<reqwest::Response> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = http.request(method, format!("{url}{path}"));
    request.header("authorization", credential).send().await
}

async fn present(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    credential: &str,
) -> Option<(u16, String)> {
    let answer = send(http, url, method, path, credential).await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}
