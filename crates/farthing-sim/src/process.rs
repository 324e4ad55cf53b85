//! The process: a till over the simulated disk and rails, and what a gateway does with it.
//!
//! [`serve`] follows the gate's delivery step by step; the gate itself is made of HTTP and threads.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use farthing_core::{
    Admission, Answer, Ask, Dunning, Posted, Quote, Rail, Recovered, Recovery, RefundAsk, Refusal,
    Renewing, Reserved, Scope, SessionPrice, Settling, SubscriptionPrice, Tending, Till,
};
use farthing_ledger::{
    Capture, Delivery, Earned, Entry, Holder, Outcome, Payment, PaymentId, Payout, RefundLimit,
    RefundLimits, Remedy, Story, TraceId, Way, Work,
};
use farthing_money::{Amount, AssetId, Period, PeriodUnit, Timestamp};
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};

use crate::Planted;
use crate::auditor::Ack;
use crate::client::{Reply, Sent};
use crate::executor::Side;
use crate::fault::Fault;
use crate::protocol::{Wire, fields};
use crate::rail::{Kind, SimRail, key_of};
use crate::sim::Sim;
use crate::store::{self, Writer};
use crate::truth::Ended;

/// How many routes the seller has; the last one costs nothing.
pub(crate) const ROUTES: u64 = 6;

/// Customers with accounts.
pub(crate) const PAYERS: [&str; 3] = ["alice", "bob", "carol"];

/// How long a request waits for another with the same credential.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// How long after it was last used a session is closed.
const SESSION_IDLE: Duration = Duration::from_hours(2);

/// How long something may be owed in a session before it is settled.
const SETTLE_AFTER: Duration = Duration::from_mins(10);

/// How long an offer stands.
const OFFER_TTL: Duration = Duration::from_mins(5);

/// The process.
pub(crate) struct Process {
    pub(crate) sim: Sim,
    pub(crate) till: Till,
    pub(crate) limits: RefundLimits,
    terms: Vec<farthing_ledger::Terms>,
}

/// The asset of a route.
fn asset(route: u64) -> AssetId {
    let name = if route.is_multiple_of(2) { "usd" } else { "eur" };
    AssetId::new(name).unwrap_or_else(|_| unreachable!("three letters name an asset"))
}

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap_or_else(|_| unreachable!("letters name a holder"))
}

/// How much may be given back, at once and in a day.
pub(crate) fn limits() -> RefundLimits {
    let limit = |route| RefundLimit {
        each_max: Amount::new(asset(route), 450),
        per_day_max: Amount::new(asset(route), 1_500),
    };
    RefundLimits(vec![limit(0), limit(1)])
}

/// What a seller undertakes, at random.
fn terms(sim: &Sim) -> farthing_ledger::Terms {
    let remedy = Remedy::ALL.get(sim.with(|state| state.random.place(Remedy::ALL.len())));
    farthing_ledger::Terms {
        repeatable: sim.between(0, 1) == 0,
        capture: if sim.between(0, 1) == 0 { Capture::Before } else { Capture::After },
        remedy: remedy.copied().unwrap_or_default(),
    }
}

/// Starts the process; nothing if it cannot start now.
pub(crate) fn start(sim: &Sim, before: Option<&[farthing_ledger::Terms]>) -> Option<Arc<Process>> {
    let writer = Writer::open(sim)?;
    let (jobs, queue) = mpsc::unbounded_channel();
    sim.spawn(Side::Process, writer.run(queue));
    let keeps = before.filter(|_| !sim.fault(Fault::OtherTerms));
    let terms = keeps.map_or_else(|| (0..ROUTES).map(|_| terms(sim)).collect(), <[_]>::to_vec);
    let rail = |kind| -> Arc<dyn Rail> {
        Arc::new(SimRail { sim: sim.clone(), kind, has_told: AtomicBool::new(false) })
    };
    let till = Till {
        protocols: vec![Arc::new(Wire)],
        rails: Kind::ALL.map(rail).to_vec(),
        store: store::port(sim, jobs),
    };
    let ignores = sim.is_planted(Planted::IgnoresLimits);
    let limits = if ignores { RefundLimits::default() } else { limits() };
    let process = Arc::new(Process { sim: sim.clone(), till, limits, terms });
    if !sim.is_planted(Planted::NeverRecovers) {
        sim.spawn(Side::Process, recover(Arc::clone(&process)));
        sim.spawn(Side::Process, tend(Arc::clone(&process)));
        sim.spawn(Side::Process, renew(Arc::clone(&process)));
    }
    sim.spawn(Side::Process, prepare(Arc::clone(&process)));
    Some(process)
}

/// Finishes what was begun, for as long as the process lives.
async fn recover(process: Arc<Process>) {
    let mut recovery = Recovery::within(process.limits.clone());
    loop {
        let Process { sim, till, .. } = &*process;
        let Recovered { owed, .. } = till.recover(&mut recovery, sim.clock()).await;
        sim.with(|state| {
            for (payment, refusal) in owed {
                state.note(&format!("{payment} could not be given back: {refusal}"));
                state.auditor.could_not_give_back(payment, refusal);
            }
        });
        let (low, high) =
            if sim.with(|state| state.is_calm) { (15_000, 30_000) } else { (500, 5_000) };
        sim.sleep(sim.millis(low, high)).await;
    }
}

/// Looks after sessions, for as long as the process lives.
async fn tend(process: Arc<Process>) {
    let mut tending = Tending::default();
    tending.close_after(Some(SESSION_IDLE));
    let above = [(asset(0), 300), (asset(1), 300)].into();
    tending.settle(&Settling { above, after: Some(SETTLE_AFTER), ..Settling::default() });
    loop {
        let Process { sim, till, .. } = &*process;
        let tended = till.tend(&mut tending, sim.clock()).await;
        sim.with(|state| {
            for channel in tended.overdue {
                state.note(&format!("{channel} is not closed in time"));
            }
        });
        let (low, high) =
            if sim.with(|state| state.is_calm) { (8_000, 14_000) } else { (500, 5_000) };
        sim.sleep(sim.millis(low, high)).await;
    }
}

/// What is done where a charge comes to nothing.
fn dunning() -> Dunning {
    let hours = |hours| Duration::from_hours(hours);
    Dunning { retries: vec![hours(1), hours(5)], grace: hours(20) }
}

/// Looks after subscriptions, for as long as the process lives.
async fn renew(process: Arc<Process>) {
    let mut renewing = Renewing::with(dunning());
    loop {
        let Process { sim, till, .. } = &*process;
        till.renew(&mut renewing, sim.clock()).await;
        let (low, high) =
            if sim.with(|state| state.is_calm) { (9_000, 16_000) } else { (500, 5_000) };
        sim.sleep(sim.millis(low, high)).await;
    }
}

/// Gives customers their keys and a little money.
async fn prepare(process: Arc<Process>) {
    for payer in PAYERS {
        let attach = Entry::AttachKey { key: key_of(payer), holder: holder(payer) };
        let mut entries = vec![attach];
        entries.extend((0..2).map(|route| Entry::Fund {
            holder: holder(payer),
            amount: Amount::new(asset(route), 3_000),
            reference: format!("opening {payer} {route}"),
        }));
        for entry in entries {
            let entered = process.till.store.enter(entry, process.sim.clock()).await;
            if entered.is_err() {
                return;
            }
        }
    }
}

impl Process {
    pub(crate) fn terms(&self) -> &[farthing_ledger::Terms] {
        &self.terms
    }

    fn ask(&self, sent: &Sent) -> Ask {
        let place = usize::try_from(sent.route).unwrap_or(0);
        let is_free = sent.route.saturating_add(1) == ROUTES;
        let price =
            if is_free { 0 } else { u128::from(sent.route.saturating_add(1)).saturating_mul(100) };
        let amount = Amount::new(asset(sent.route), price);
        let payee = holder(if sent.route < 3 { "anna" } else { "ben" });
        let quote = |rail: &Arc<dyn Rail>| {
            let request = rail.quote(&amount, &payee).ok()?;
            let quote =
                Quote::new(rail.method(), "charge", amount.clone(), payee.clone(), &request);
            Some(Arc::new(quote))
        };
        let session = |rail: &Arc<dyn Rail>| {
            let price = SessionPrice {
                unit: amount.clone(),
                unit_type: None,
                suggested_deposit: None,
                deposit_min_atoms: 0,
                delta_min_atoms: 0,
            };
            let request = rail.session()?.quote_session(&price, &payee).ok()?;
            Some(Arc::new(Quote::session(rail.method(), price, payee.clone(), &request)))
        };
        let subscription = |rail: &Arc<dyn Rail>| {
            let price = SubscriptionPrice {
                amount: amount.clone(),
                period: Period::new(PeriodUnit::Day, NonZeroU32::MIN),
                expires_at: None,
                plan: format!("plan-{}", sent.route).into(),
                dunning: dunning(),
            };
            let request = rail.subscription()?.quote_subscription(&price, &payee).ok()?;
            Some(Arc::new(Quote::subscription(rail.method(), price, payee.clone(), &request)))
        };
        let method = match (sent.manages, sent.body) {
            (true, _) => "HEAD",
            (false, Some(_)) => "POST",
            (false, None) => "GET",
        };
        let rails = &self.till.rails;
        Ask {
            scope: Scope {
                route: format!("route-{}", sent.route).into(),
                method: method.to_owned(),
                path: format!("/{}", sent.route),
                query: sent.item.clone(),
                body: sent.body,
            },
            quotes: rails
                .iter()
                .filter_map(quote)
                .chain(rails.iter().filter_map(session))
                .chain(rails.iter().filter_map(subscription))
                .collect(),
            description: None,
            offer_ttl: OFFER_TTL,
            authorization_is_taken: false,
            idempotency_key: sent.key.clone(),
            terms: self.terms.get(place).copied().unwrap_or_default(),
            vouchers_buy: true,
        }
    }
}

/// The right to run a handler, as the gate has it.
enum Right {
    Posted(Box<Posted>),
    Reserved(Box<Reserved>),
}

impl Right {
    const fn payment(&self) -> &Payment {
        match self {
            Self::Posted(posted) => posted.payment(),
            Self::Reserved(reserved) => reserved.payment(),
        }
    }

    const fn begin(&mut self) {
        match self {
            Self::Posted(posted) => posted.begin(),
            Self::Reserved(reserved) => reserved.begin(),
        }
    }
}

/// Runs something that may be dropped at any of its awaits; nothing if it was.
async fn cut<T>(sim: &Sim, task: impl Future<Output = T>) -> Option<T> {
    let mut task = Box::pin(task);
    poll_fn(|context| {
        if sim.fault(Fault::Cut) {
            return Poll::Ready(None);
        }
        task.as_mut().poll(context).map(Some)
    })
    .await
}

/// Decides one request and delivers what it buys.
pub(crate) async fn serve(process: Arc<Process>, sent: Sent, client: oneshot::Sender<Reply>) {
    let Process { sim, till, .. } = &*process;
    sim.pause().await;
    let ask = process.ask(&sent);
    let since = sim.now();
    let fields = fields(sent.credential.as_deref());
    let admitted = loop {
        let Some(admitted) = cut(sim, till.admit(&ask, &fields, sim.clock())).await else { return };
        match admitted {
            Err(Refusal::InProgress(_)) if sim.now().since(since) < JOIN_WAIT => {
                sim.sleep(Duration::from_millis(250)).await;
            }
            decided => break decided,
        }
    };
    let reply = match admitted {
        Ok(Admission::Deliver(posted)) => {
            return run(&process, Right::Posted(posted), client).await;
        }
        Ok(Admission::Execute(reserved)) => {
            return run(&process, Right::Reserved(reserved), client).await;
        }
        Ok(Admission::Again(answer)) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let payment = text.split(' ').next().and_then(|id| id.parse().ok());
            sim.with(|state| payment.inspect(|payment| state.told(*payment, &text)));
            Reply::Answer
        }
        Ok(Admission::Managed(managed)) => {
            sim.with(|state| state.acknowledged(&Ack::channel(&managed.channel)));
            Reply::Answer
        }
        Ok(Admission::Unsubscribed(done)) => {
            sim.with(|state| state.acknowledged(&Ack::subscription(&done.subscription)));
            Reply::Answer
        }
        Ok(Admission::Challenge) => {
            let entropy = || {
                let [high, low] = sim.with(|state| [state.serial(), state.random.draw()]);
                let mut entropy = [0; 10];
                entropy[..2].copy_from_slice(high.to_be_bytes().split_at(6).1);
                entropy[2..].copy_from_slice(&low.to_be_bytes());
                entropy
            };
            Reply::Offers(ask.offers(sim.clock(), entropy))
        }
        Err(refusal) => {
            sim.note(&format!("intent {} refused: {refusal:?}", sent.intent));
            Reply::Refused(refusal)
        }
    };
    // A client that went away does not need to know.
    drop(client.send(reply));
}

/// Runs the handler of a payment, and gives what it says.
async fn run(process: &Process, mut right: Right, client: oneshot::Sender<Reply>) {
    let sim = &process.sim;
    let payment = right.payment().id;
    sim.with(|state| state.begun(payment));
    if !sim.is_planted(Planted::ForgetsToBegin) {
        right.begin();
    }
    let Some(ended) = handler(sim, payment).await else { return };
    sim.with(|state| state.ended(payment, &ended));
    let status = if matches!(ended, Ended::Succeeded(_)) { 200 } else { 500 };
    let text = if let Ended::Succeeded(text) = ended { Some(text) } else { None };
    let posted = match right {
        Right::Posted(posted) => posted,
        Right::Reserved(reserved) => {
            if text.is_none() {
                // What cannot be given free now, recovery gives free.
                let _ = reserved.release(sim.clock()).await;
                drop(client.send(Reply::Failed));
                return;
            }
            if sim.is_planted(Planted::AnswersBeforeSettling) {
                let early = text.clone().unwrap_or_default();
                sim.with(|state| state.told(payment, &early));
            }
            match reserved.settle(sim.clock()).await {
                Ok(posted) => Box::new(posted),
                Err(_) => return drop(client.send(Reply::Refused(Refusal::TryAgain))),
            }
        }
    };
    let outcome = Outcome { status };
    let Some(text) = text else {
        posted.failed(outcome, sim.clock());
        return drop(client.send(Reply::Failed));
    };
    let is_kept = sim.between(0, 9) > 0;
    let body = text.clone().into_bytes();
    let answer = is_kept.then(|| Answer { status, fields: HeaderMap::new(), body });
    let in_haste = sim.is_planted(Planted::AnswersBeforeRecording);
    if !posted.payment().terms.repeatable && !in_haste {
        if posted.recorded(outcome, answer, sim.clock()).await.is_err() {
            return drop(client.send(Reply::Failed));
        }
        sim.with(|state| state.told(payment, &text));
        return drop(client.send(Reply::Answer));
    }
    // The answer is on its way before the book knows of it.
    sim.with(|state| state.told(payment, &text));
    drop(client.send(Reply::Answer));
    sim.pause().await;
    posted.delivered(outcome, answer, sim.clock());
}

/// What is sold: it succeeds, fails, takes long, or dies in the middle.
async fn handler(sim: &Sim, payment: PaymentId) -> Option<Ended> {
    sim.pause().await;
    if sim.fault(Fault::HandlerHangs) {
        sim.sleep(sim.millis(1_000, 400_000)).await;
    }
    if sim.fault(Fault::HandlerDies) {
        sim.with(|state| state.ended(payment, &Ended::Died));
        return None;
    }
    sim.pause().await;
    if sim.fault(Fault::HandlerFails) {
        return Some(Ended::Failed);
    }
    Some(Ended::Succeeded(format!("{payment} answer {}", sim.serial())))
}

/// An operator does something to some payment, as the desk of the gateway does.
pub(crate) async fn operate(process: Arc<Process>) {
    let sim = &process.sim;
    // Those made singly are few among many vouchers, and only they are given back on a rail.
    let singly = sim.between(0, 3) > 0;
    let Some(trace) = sim.with(|state| {
        let traces = state.auditor.traces(singly);
        traces.get(state.random.place(traces.len())).copied()
    }) else {
        return;
    };
    let Some(story) = story(&process, trace).await else { return };
    // An operator thinks before acting, and the payment may go on meanwhile.
    sim.sleep(sim.millis(0, 500)).await;
    if sim.between(0, 2) > 0 {
        give_back(&process, &story).await;
    } else {
        pay_out(&process, &story).await;
    }
}

async fn story(process: &Process, trace: TraceId) -> Option<Story> {
    let records = process.till.store.story(trace).await.ok()?;
    Story::tell(&records)
}

async fn give_back(process: &Process, story: &Story) {
    let sim = &process.sim;
    let asset = story.payment.amount.asset().clone();
    let part = (sim.between(0, 1) == 0).then(|| Amount::new(asset, 30));
    let Ok(ask) = RefundAsk::of(story, part) else { return };
    let way = if sim.between(0, 3) == 0 { Way::Credit } else { Way::Back };
    let reference = format!("case {}", sim.between(1, 3));
    let ask = RefundAsk { way, reference, reason: "a complaint".to_owned(), ..ask };
    let made = process.till.refund(&ask, &process.limits, sim.clock()).await;
    sim.note(&format!("{} an operator gives back: {:?}", ask.payment.id, made.map(|it| it.1)));
}

async fn pay_out(process: &Process, story: &Story) {
    let sim = &process.sim;
    let earned = || Earned::of(story);
    let reason = "an operator".to_owned();
    let entry = match sim.between(0, 5) {
        0 => Entry::HoldPayout { payment: earned(), reason },
        1 => Entry::ReleasePayout { payment: earned(), reason },
        2 => Entry::Resolve { payment: story.payment.id, note: reason },
        _ => {
            let amount = Amount::new(story.payment.amount.asset().clone(), story.due());
            let delivered = story.lifecycle.delivery == Delivery::Delivered;
            if amount.is_zero() || !delivered || story.lifecycle.payout == Payout::Paid {
                return;
            }
            let reference = format!("payout {}", sim.between(1, 3));
            Entry::PayOut { payment: earned(), amount, reference }
        }
    };
    let entered = process.till.store.enter(entry, sim.clock()).await;
    sim.note(&format!("{} an operator enters: {entered:?}", story.payment.id));
}

/// What is open, as the book says it.
pub(crate) async fn open(process: Arc<Process>, tell: oneshot::Sender<(Work, Timestamp)>) {
    if let Ok(work) = process.till.store.work().await {
        drop(tell.send((work, process.sim.clock())));
    }
}
