//! Clients that authorise once and come for days: at once and again, who cancel, take back what they have
//! authorised, or never come back.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::SUBSCRIPTION;
use farthing_ledger::SubscriptionId;
use serde_json::{Value, json};

use crate::client::{Intent, Sent, insist, offered};
use crate::executor::Side;
use crate::fault::Fault;
use crate::process::{PAYERS, ROUTES};
use crate::protocol::{acting, challenge};
use crate::rail::Kind;
use crate::sim::Sim;

/// Somebody who subscribes, and what they have.
#[derive(Clone)]
struct Subscriber {
    sim: Sim,
    kind: Kind,
    payer: Arc<str>,
    route: u64,
}

/// Subscribes to something, and does something with it for some days.
pub(crate) async fn subscribe(sim: Sim) {
    let payer = PAYERS.get(sim.with(|state| state.random.place(PAYERS.len()))).copied();
    let kind = if sim.between(0, 2) == 0 { Kind::Purse } else { Kind::Wire };
    let route = sim.between(0, ROUTES.saturating_sub(2));
    let payer = payer.unwrap_or_default().into();
    Subscriber { sim, kind, payer, route }.live().await;
}

impl Subscriber {
    async fn live(self) {
        let sim = self.sim.clone();
        let Some((id, mandate)) = self.begin().await else { return };
        for _ in 0..sim.between(1, 8) {
            match sim.between(0, 9) {
                0..=4 => self.act("use", Some(id)).await,
                5 | 6 => {
                    for _ in 0..sim.between(2, 4) {
                        let it = self.clone();
                        sim.spawn(Side::World, async move { it.act("use", Some(id)).await });
                    }
                    sim.sleep(sim.millis(10, 5_000)).await;
                }
                // Whoever knows the name and not the key.
                7 => {
                    let mallory = Self { payer: "mallory".into(), ..self.clone() };
                    mallory.act("use", Some(id)).await;
                }
                8 if sim.fault(Fault::Revokes) => {
                    sim.with(|state| state.truth.revoked.insert(mandate.clone()));
                }
                _ => sim.sleep(Duration::from_hours(sim.between(1, 30))).await,
            }
        }
        if sim.between(0, 1) == 0 {
            self.act("cancel", Some(id)).await;
        }
    }

    /// Authorises it; on the wire perhaps a second time, as a wallet does that remembers nothing.
    async fn begin(&self) -> Option<(SubscriptionId, String)> {
        let (sent, id, mandate) = self.credential("subscribe", None).await?;
        if self.sim.between(0, 3) == 0 {
            let (sim, sent) = (self.sim.clone(), sent.clone());
            self.sim.spawn(Side::World, async move {
                insist(&sim, &sent).await;
            });
        }
        insist(&self.sim, &sent).await;
        if self.kind == Kind::Wire && self.sim.between(0, 2) == 0 {
            self.act("subscribe", None).await;
        }
        Some((id, mandate))
    }

    async fn act(&self, act: &str, id: Option<SubscriptionId>) {
        if let Some((sent, ..)) = self.credential(act, id).await {
            insist(&self.sim, &sent).await;
        }
    }

    /// What is presented under an offer of its own; with the subscription that it begins, if it begins one,
    /// and the name of what is authorised.
    async fn credential(
        &self,
        act: &str,
        id: Option<SubscriptionId>,
    ) -> Option<(Sent, SubscriptionId, String)> {
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
            manages: false,
            credential: None,
        };
        let offers = offered(sim, &sent, SUBSCRIPTION).await;
        let offer = offers.iter().find(|it| it.quote.method() == self.kind.method())?;
        let mandate = format!("m{}", sim.serial());
        let name = challenge(offer.trace);
        let begins = SubscriptionId::of("sim", &name);
        sim.with(|state| {
            state.truth.challenges.insert(name, intent);
            let id = id.unwrap_or(begins);
            state.note(&format!("{id} intent {intent}: {} to {act}", self.payer));
        });
        let said: Value = match id {
            Some(id) => json!({ "act": act, "subscription": id }),
            None => json!({ "act": act }),
        };
        let credential = Some(acting(offer, &self.payer, &mandate, &said));
        Some((Sent { credential, ..sent }, begins, mandate))
    }
}
