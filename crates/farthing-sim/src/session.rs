//! Clients that deposit once and pay many times: one after the other and at once, ahead and again, and who
//! close, ask the rail for the rest, or never come back.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::SESSION;
use farthing_ledger::ChannelId;
use serde_json::{Map, Value, json};

use crate::client::{End, Intent, Sent, insist, offered};
use crate::executor::Side;
use crate::fault::Fault;
use crate::process::{PAYERS, ROUTES};
use crate::protocol::{acting, challenge};
use crate::rail::{Kind, signature};
use crate::sim::Sim;
use crate::truth::Token;

/// How long a payer has to wait who asks the chest for the rest.
const GRACE: Duration = Duration::from_mins(15);

/// A session, as its client knows it.
#[derive(Clone)]
struct Session {
    sim: Sim,
    kind: Kind,
    payer: Arc<str>,
    /// The channel's name on its rail.
    name: Arc<str>,
    route: u64,
    price: u128,
}

/// Opens a session and does something with it.
pub(crate) async fn spend(sim: Sim) {
    let payer = PAYERS.get(sim.with(|state| state.random.place(PAYERS.len()))).copied();
    let kind = if sim.between(0, 2) == 0 { Kind::Purse } else { Kind::Chest };
    let route = sim.between(0, ROUTES.saturating_sub(2));
    let session = Session {
        kind,
        payer: payer.unwrap_or_default().into(),
        name: format!("ses_{}", sim.serial()).into(),
        price: u128::from(route.saturating_add(1)).saturating_mul(100),
        sim,
        route,
    };
    session.live().await;
}

impl Session {
    async fn live(self) {
        let sim = self.sim.clone();
        let mut deposit = self.price.saturating_mul(sim.between(1, 6).into());
        let mut signed = self.price;
        let opens = [
            self.voucher(signed),
            self.signed(deposit),
            vec![("act", "open".into()), ("deposit", deposit.to_string().into())],
        ];
        // An opening buys something at once, or nothing yet.
        let manages = sim.between(0, 3) == 0;
        self.act(opens.concat(), manages).await;
        for _ in 0..sim.between(1, 9) {
            match sim.between(0, 9) {
                0..=3 => {
                    signed = signed.saturating_add(self.price);
                    self.pay(signed).await;
                }
                4 | 5 => {
                    let many = sim.between(2, 4);
                    for _ in 0..many {
                        signed = signed.saturating_add(self.price);
                        let (session, signed) = (self.clone(), signed);
                        sim.spawn(Side::World, async move { session.pay(signed).await });
                    }
                    sim.sleep(sim.millis(10, 5_000)).await;
                }
                6 => {
                    let more = self.price.saturating_mul(sim.between(1, 4).into());
                    deposit = deposit.saturating_add(more);
                    let act = vec![("act", "top up".into()), ("deposit", more.to_string().into())];
                    self.act([self.signed(more), act].concat(), true).await;
                }
                7 => {
                    // Ahead, as far as the deposit goes, and once in a while beyond.
                    signed = signed.saturating_add(self.price.saturating_mul(2));
                    let act = vec![("act", "voucher".into())];
                    self.act([self.voucher(signed), act].concat(), true).await;
                }
                8 => {
                    // A voucher that is forged, or was used before.
                    let forged = Self { payer: "mallory".into(), ..self.clone() };
                    let by = if sim.between(0, 1) == 0 { &forged } else { &self };
                    let again = by.voucher(signed);
                    self.act([again, vec![("act", "voucher".into())]].concat(), false).await;
                }
                _ => sim.sleep(sim.millis(100, 400_000)).await,
            }
        }
        match sim.between(0, 3) {
            // Whoever closes does not know for certain what was spent: the book says no to what is not.
            0 | 1 => {
                let act = vec![("act", "close".into())];
                self.act([self.voucher(signed.min(deposit)), act].concat(), true).await;
            }
            2 if self.kind == Kind::Chest => self.leave().await,
            _ => {}
        }
    }

    /// Asks the chest for the rest, and takes it when it may.
    async fn leave(&self) {
        let sim = &self.sim;
        let Ok(channel) = ChannelId::new(self.kind.method(), &self.name) else { return };
        let until = sim.now().after(GRACE);
        sim.with(|state| state.request_close(&channel, until));
        if sim.fault(Fault::Vanish) {
            return;
        }
        sim.sleep(GRACE).await;
        sim.with(|state| state.withdraw(&channel));
    }

    async fn pay(&self, signed: u128) {
        self.act([self.voucher(signed), vec![("act", "voucher".into())]].concat(), false).await;
    }

    fn voucher(&self, cumulative: u128) -> Vec<(&'static str, Value)> {
        let signed = signature(&self.payer, "voucher", &self.name, cumulative);
        vec![("cumulative", cumulative.to_string().into()), ("voucher", signed.into())]
    }

    fn signed(&self, deposit: u128) -> Vec<(&'static str, Value)> {
        vec![("signed", signature(&self.payer, "signed", &self.name, deposit).into())]
    }

    /// Presents something under an offer of its own, until it is clear what came of it.
    async fn act(&self, mut act: Vec<(&'static str, Value)>, manages: bool) -> End {
        let sim = &self.sim;
        let intent = sim.serial();
        sim.with(|state| state.truth.intents.insert(intent, Intent { pays_twice: false }));
        let item = format!("item={intent}");
        let sent = Sent {
            intent,
            route: self.route,
            item,
            body: None,
            key: None,
            manages,
            credential: None,
        };
        let offers = offered(sim, &sent, SESSION).await;
        let offer = offers.iter().find(|it| it.quote.method() == self.kind.method());
        let Some(offer) = offer else { return End::Over };
        let token = format!("t{}", sim.serial());
        let deadline = sim.now().after(sim.millis(20_000, 400_000));
        sim.with(|state| {
            state.truth.challenges.insert(challenge(offer.trace), intent);
            let it = Token { deadline, ..Token::default() };
            state.truth.tokens.insert(token.clone(), it);
            let what = act.iter().find(|(name, _)| *name == "act").map(|(_, what)| what.clone());
            state.note(&format!("{} intent {intent}: {what:?}", self.name));
        });
        act.push(("channel", json!(*self.name)));
        let act: Map<String, Value> =
            act.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let credential = Some(acting(offer, &self.payer, &token, &Value::Object(act)));
        insist(sim, &Sent { credential, ..sent }).await
    }
}
