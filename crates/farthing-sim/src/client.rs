//! Clients: honest ones that try again, forgetful ones, and thieves.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Offer, Refusal};
use farthing_ledger::Fingerprint;
use tokio::sync::oneshot;

use crate::executor::Side;
use crate::fault::Fault;
use crate::process::{self, PAYERS, ROUTES};
use crate::protocol::{challenge, credential};
use crate::rail::Kind;
use crate::sim::Sim;
use crate::truth::Token;

/// How often a client tries.
const TRIES_MAX: u64 = 9;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) intent: u64,
    pub(crate) route: u64,
    pub(crate) item: String,
    pub(crate) body: Option<[u8; 32]>,
    pub(crate) key: Option<String>,
    /// Whether it buys nothing, and only does something about a session.
    pub(crate) manages: bool,
    pub(crate) credential: Option<String>,
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Reply {
    Offers(Vec<Offer>),
    Answer,
    Failed,
    Refused(Refusal),
}

/// Something that a client wants once.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    /// Whether the client may have paid twice by its own doing.
    pub(crate) pays_twice: bool,
}

/// How a purchase ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has what it wanted, or knows that it cannot have it.
    Over,
    /// It was told that nothing was taken, and may buy anew.
    NothingTaken,
}

/// Sends a request; nothing comes back if anything on the way breaks.
pub(crate) async fn request(sim: &Sim, sent: &Sent, patience: Duration) -> Option<Reply> {
    sim.sleep(sim.millis(1, 50)).await;
    let (answer, answered) = oneshot::channel();
    let process = sim.with(|state| {
        if sent.credential.is_some() {
            state.truth.heard.push(sent.clone());
        }
        state.process.clone()
    })?;
    sim.spawn(Side::Process, process::serve(process, sent.clone(), answer));
    if sim.fault(Fault::Vanish) {
        sim.sleep(sim.millis(1, 3_000)).await;
        return None;
    }
    sim.within(patience, answered).await
}

/// What a client of this number wants.
fn wanted(sim: &Sim, intent: u64) -> Sent {
    let route = sim.between(0, ROUTES.saturating_sub(1));
    let has_body = sim.between(0, 1) == 0;
    let body = has_body.then(|| *Fingerprint::of("body", &[&intent.to_be_bytes()]).as_bytes());
    let key = (has_body && sim.between(0, 1) == 0).then(|| format!("key {intent}"));
    let item = format!("item={intent}");
    Sent { intent, route, item, body, key, manages: false, credential: None }
}

/// A client that wants something once, keeps its credential until it knows, and pays again only when it
/// was told that nothing was taken.
pub(crate) async fn buy(sim: Sim) {
    let intent = sim.serial();
    let sent = wanted(&sim, intent);
    let payer = PAYERS.get(sim.with(|state| state.random.place(PAYERS.len()))).copied();
    let payer = payer.unwrap_or_default().to_owned();
    let pays_twice = sent.key.is_some() && sim.fault(Fault::PaysTwice);
    let it = Intent { pays_twice };
    sim.with(|state| state.truth.intents.insert(intent, it));
    if pays_twice {
        // The key is what makes it one purchase.
        let (sim, sent, payer) = (sim.clone(), sent.clone(), payer.clone());
        sim.clone().spawn(Side::World, async move {
            purchase(&sim, sent, &payer).await;
        });
    }
    for _ in 0..3 {
        if purchase(&sim, sent.clone(), &payer).await == End::Over {
            break;
        }
    }
    if sent.key.is_some() && sim.fault(Fault::Misuse) {
        let body = Some(*Fingerprint::of("another body", &[]).as_bytes());
        let intent = sim.serial();
        let it = Intent { pays_twice: false };
        sim.with(|state| state.truth.intents.insert(intent, it));
        purchase(&sim, Sent { intent, body, ..sent }, &payer).await;
    }
}

/// A client that buys the same under the same name, day after day, and sometimes pays twice for a day.
pub(crate) async fn subscribe(sim: Sim) {
    let sent = Sent { key: Some("daily".to_owned()), ..wanted(&sim, sim.serial()) };
    let body = Some(*Fingerprint::of("the daily", &[]).as_bytes());
    for _ in 0..6 {
        let intent = sim.serial();
        let it = Intent { pays_twice: true };
        sim.with(|state| state.truth.intents.insert(intent, it));
        purchase(&sim, Sent { intent, body, ..sent.clone() }, "alice").await;
        if sim.between(0, 1) == 0 {
            sim.sleep(Duration::from_hours(sim.between(1, 25))).await;
        }
    }
}

/// Gets an offer, pays, and asks until it knows.
async fn purchase(sim: &Sim, sent: Sent, payer: &str) -> End {
    let offers = offered(sim, &sent, "charge").await;
    let Some(offer) = choose(sim, &offers) else { return End::Over };
    let token = authorise(sim, sent.intent, offer);
    let sent = Sent { credential: Some(credential(offer, payer, &token)), ..sent };
    insist(sim, &sent).await
}

/// Asks what something costs until it is told, by the offers of one intent.
pub(crate) async fn offered(sim: &Sim, sent: &Sent, intent: &str) -> Vec<Offer> {
    for _ in 0..TRIES_MAX {
        match request(sim, sent, Duration::from_secs(5)).await {
            Some(Reply::Offers(mut made)) => {
                made.retain(|offer| offer.quote.intent() == intent);
                return made;
            }
            Some(Reply::Answer | Reply::Failed | Reply::Refused(_)) | None => {
                sim.sleep(sim.millis(100, 20_000)).await;
            }
        }
    }
    Vec::new()
}

/// Chooses a way to pay; most often the one on which most can happen.
fn choose<'a>(sim: &Sim, offers: &'a [Offer]) -> Option<&'a Offer> {
    let wire = offers.iter().find(|it| it.quote.method() == Kind::Wire.method());
    let place = sim.with(|state| state.random.place(offers.len()));
    wire.filter(|_| sim.between(0, 2) == 0).or_else(|| offers.get(place))
}

/// Authorises the payment of an offer on its rail.
fn authorise(sim: &Sim, intent: u64, offer: &Offer) -> String {
    let token = format!("t{}", sim.serial());
    let deadline = sim.now().after(sim.millis(20_000, 400_000));
    sim.with(|state| {
        state.truth.challenges.insert(challenge(offer.trace), intent);
        if offer.quote.method() != Kind::Purse.method() {
            let it = Token { deadline, ..Token::default() };
            state.truth.tokens.insert(token.clone(), it);
        }
        state.note(&format!("intent {intent} pays by {} with {token}", offer.quote.method()));
    });
    token
}

/// Presents a credential until it is clear what came of it.
pub(crate) async fn insist(sim: &Sim, sent: &Sent) -> End {
    for _ in 0..TRIES_MAX {
        let patience = sim.millis(500, 30_000);
        match request(sim, sent, patience).await {
            Some(Reply::Answer) => {
                // Now and then the answer does not arrive where it is wanted.
                if sim.between(0, 3) > 0 {
                    return End::Over;
                }
            }
            Some(Reply::Failed | Reply::Refused(Refusal::InProgress(_) | Refusal::TryAgain))
            | None => {}
            Some(Reply::Refused(Refusal::Declined | Refusal::Short | Refusal::GivenBack)) => {
                return End::NothingTaken;
            }
            Some(Reply::Offers(_) | Reply::Refused(_)) => return End::Over,
        }
        if sim.between(0, 1) == 0 {
            sim.sleep(sim.millis(10, 60_000)).await;
        }
    }
    End::Over
}

/// A thief: presents what somebody else has paid with, for the same, for another body, or for an offer of
/// their own; once or many times at once.
pub(crate) async fn steal(sim: Sim) {
    sim.sleep(sim.millis(0, 200_000)).await;
    let heard = sim.with(|state| {
        let place = state.random.place(state.truth.heard.len());
        state.truth.heard.get(place).cloned()
    });
    let Some(heard) = heard else { return };
    match sim.between(0, 2) {
        0 => {
            let body = Some(*Fingerprint::of("a thief's body", &[]).as_bytes());
            request(&sim, &Sent { body, ..heard }, Duration::from_secs(5)).await;
        }
        1 => other_offer(&sim, heard).await,
        _ => {
            for _ in 0..sim.between(1, 12) {
                let (sim, heard) = (sim.clone(), heard.clone());
                sim.clone().spawn(Side::World, async move {
                    request(&sim, &heard, Duration::from_secs(5)).await;
                });
            }
        }
    }
}

/// Answers a new offer with what paid for another.
async fn other_offer(sim: &Sim, heard: Sent) {
    let old = heard.credential.clone().unwrap_or_default();
    let bare = Sent { credential: None, ..heard };
    let Some(Reply::Offers(offers)) = request(sim, &bare, Duration::from_secs(5)).await else {
        return;
    };
    let old: serde_json::Value = serde_json::from_str(&old).unwrap_or_default();
    let text = |name: &str| old[name].as_str().unwrap_or_default().to_owned();
    // The purse's proof is a signature over its challenge: there is nothing to carry over.
    let is_open = |offer: &&Offer| {
        let way = (offer.quote.method(), offer.quote.intent());
        way == (&text("method"), &text("intent")) && text("method") != "purse"
    };
    let Some(offer) = offers.iter().find(is_open) else { return };
    let stolen = credential(offer, &text("payer"), &text("token"));
    sim.with(|state| {
        let intent = bare.intent;
        state.truth.challenges.insert(challenge(offer.trace), intent);
    });
    let sent = Sent { credential: Some(stolen), ..bare };
    request(sim, &sent, Duration::from_secs(5)).await;
}

/// Sends an operator to the desk, if there is one.
pub(crate) fn visit(sim: &Sim) {
    let process = sim.with(|state| state.process.clone());
    if let Some(process) = process {
        sim.spawn(Side::Process, process::operate(Arc::clone(&process)));
    }
}
