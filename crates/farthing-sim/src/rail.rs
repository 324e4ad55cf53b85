//! The rails: one whose money lies in the book, two that are somebody else's, one that keeps deposits for
//! sessions, and one that moves nothing. What is said within sessions is in [`session`], and within
//! subscriptions in [`subscription`].

mod session;
mod subscription;

pub(crate) use session::signature;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farthing_core::{
    BoxFuture, Evidence, Held, NoRefund, Object, Presented, Rail, RailRules, Refunds, Rejection,
    SUBSCRIPTION, SessionRail, SettleError, Settled, SubscriptionRail, Unquotable,
};
use farthing_ledger::{
    Account, AccountKind, Fingerprint, Holder, Money, Payment, PaymentId, Proof, Refund, Source,
    SpendingKey,
};
use farthing_money::{Amount, AssetId, Timestamp, parse_atoms};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::executor::Side;
use crate::fault::Fault;
use crate::sim::{Sim, State, lock};
use crate::truth::Order;
use crate::{Invariant, Planted};

/// How long an adapter waits for its rail.
const PATIENCE: Duration = Duration::from_secs(3);

/// What kind of rail it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The money lies in the book.
    Purse,
    /// Somebody else moves it, and moves it back.
    Wire,
    /// Somebody else moves it, and never moves it back.
    Cash,
    /// There is none.
    Vow,
    /// Somebody else keeps deposits, and pays what was spent of them.
    Chest,
}

const PURSE: RailRules = RailRules {
    authorised: "a key that may spend the account",
    settled: "the book",
    reversed: "by the book",
    reference: "the payment's id",
    holds: true,
    refunds: Refunds::Book,
    recheck_after: None,
};

const WIRE: RailRules = RailRules {
    authorised: "a token",
    settled: "the rail's word",
    reversed: "by a refund, or when the rail disowns it",
    reference: "the token",
    holds: false,
    refunds: Refunds::Rail,
    recheck_after: Some(Duration::from_secs(30)),
};

const CASH: RailRules = RailRules { refunds: Refunds::Never, recheck_after: None, ..WIRE };

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Purse, Self::Wire, Self::Cash, Self::Vow, Self::Chest];

    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Purse => "purse",
            Self::Wire => "wire",
            Self::Cash => "cash",
            Self::Vow => "vow",
            Self::Chest => "chest",
        }
    }

    const fn rules(self) -> &'static RailRules {
        match self {
            Self::Purse => &PURSE,
            Self::Wire | Self::Chest => &WIRE,
            Self::Cash | Self::Vow => &CASH,
        }
    }
}

/// The key that spends a customer's account.
pub(crate) fn key_of(payer: &str) -> SpendingKey {
    SpendingKey(*Fingerprint::of("key", &[payer.as_bytes()]).as_bytes())
}

/// A rail, as the process knows it.
pub(crate) struct SimRail {
    pub(crate) sim: Sim,
    pub(crate) kind: Kind,
    /// Whether it has told since the process began.
    pub(crate) has_told: AtomicBool,
}

impl SimRail {
    /// Sends something over the network, which does with it what it likes.
    fn send<T: Send + 'static>(
        &self,
        at_rail: impl Fn(&mut State) -> T + Send + Sync + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let at_rail = Arc::new(at_rail);
        let copies = if self.sim.fault(Fault::Duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let (sim, answer, at_rail) = (self.sim.clone(), answer.clone(), at_rail.clone());
            self.sim.spawn(Side::World, async move {
                sim.sleep(sim.with(State::travel)).await;
                if sim.fault(Fault::Lost) {
                    return;
                }
                let said = sim.with(|state| at_rail(state));
                sim.sleep(sim.with(State::travel)).await;
                if sim.fault(Fault::AnswerLost) {
                    return;
                }
                if let Some(answer) = lock(&answer).take() {
                    // Nobody may be waiting any more.
                    drop(answer.send(said));
                }
            });
        }
        answered
    }

    async fn settled(&self, held: &Held) -> Result<Settled, SettleError> {
        let token = text(&held.presented().payload, "token").unwrap_or_default();
        self.hand_over(held.key(), token).await
    }

    /// Tells the rail to move what is authorised under a name.
    async fn hand_over(&self, payment: PaymentId, token: &str) -> Result<Settled, SettleError> {
        self.sim.pause().await;
        if self.sim.fault(Fault::Unsent) {
            return Err(SettleError::Unsent);
        }
        let token = token.to_owned();
        self.sim.with(|state| {
            state.note(&format!("{payment} is sent to the rail"));
            state.truth.token_of.insert(payment, token.clone());
            let it = state.truth.tokens.entry(token.clone()).or_default();
            if std::mem::replace(&mut it.has_left, true) {
                state.breaks(Invariant::SentOnce, format!("{payment} is sent a second time"));
            }
        });
        if self.sim.fault(Fault::Disowned) {
            let (sim, token) = (self.sim.clone(), token.clone());
            self.sim.spawn(Side::World, async move {
                sim.sleep(sim.millis(100, 200_000)).await;
                sim.with(|state| state.disown(&token));
            });
        }
        let answered = self.send(move |state| state.settle_at_rail(&token, payment));
        self.sim.within(PATIENCE, answered).await.unwrap_or(Err(SettleError::Unknown))
    }

    async fn inquired(&self, payment: &Payment) -> Result<Settled, SettleError> {
        self.sim.pause().await;
        if payment.intent == SUBSCRIPTION {
            // The order is in the book: it has a name before it was ever sent.
            let order = payment.inquiry.as_deref().unwrap_or_default().to_owned();
            self.sim.with(|state| state.truth.token_of.insert(payment.id, order));
        }
        let payment = payment.id;
        let answered = self.send(move |state| state.inquire_at_rail(payment));
        let said = self.sim.within(PATIENCE, answered).await.unwrap_or(Err(SettleError::Unknown));
        match said {
            Err(SettleError::Unknown) if self.sim.is_planted(Planted::SendsUnknownAgain) => {
                Err(SettleError::Unsent)
            }
            Err(SettleError::Unknown) if self.sim.is_planted(Planted::GivesUpUnknown) => {
                Err(SettleError::Declined)
            }
            said => said,
        }
    }

    async fn prepared(&self, refund: &Refund) -> Result<Box<str>, NoRefund> {
        self.sim.pause().await;
        if self.sim.fault(Fault::NoRefund) {
            return Err(match self.sim.between(0, 2) {
                0 => NoRefund::Unable,
                1 => NoRefund::Short,
                _ => NoRefund::Later,
            });
        }
        let order = format!("order-{}", self.sim.serial());
        let made = Order { refund: refund.id, moved: 0, is_refused: false };
        self.sim.with(|state| state.truth.orders.insert(order.clone(), made));
        if self.sim.is_planted(Planted::RefundsUnordered) {
            let order = order.clone();
            drop(self.send(move |state| state.refund_at_rail(&order)));
            self.sim.sleep(Duration::from_secs(1)).await;
        }
        Ok(order.into())
    }

    async fn refunded(&self, refund: &Refund) -> Result<Settled, SettleError> {
        self.sim.pause().await;
        if self.sim.fault(Fault::Unsent) {
            return Err(SettleError::Unsent);
        }
        let order = refund.order.as_deref().unwrap_or_default().to_owned();
        let answered = self.send(move |state| state.refund_at_rail(&order));
        self.sim.within(PATIENCE, answered).await.unwrap_or(Err(SettleError::Unknown))
    }
}

fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

impl Rail for SimRail {
    fn method(&self) -> &'static str {
        self.kind.method()
    }

    fn rules(&self) -> &'static RailRules {
        self.kind.rules()
    }

    fn quote(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable> {
        if self.kind == Kind::Chest || amount.is_zero() != (self.kind == Kind::Vow) {
            return Err(Unquotable::Amount);
        }
        let mut request = Object::new();
        request.insert("amount".into(), amount.atoms().to_string().into());
        request.insert("currency".into(), amount.asset().as_str().into());
        request.insert("recipient".into(), payee.as_str().into());
        Ok(request)
    }

    fn check(&self, presented: &Presented, _now: Timestamp) -> Result<Evidence, Rejection> {
        if presented.intent != "charge" || self.kind == Kind::Chest {
            return Err(Rejection::Unsupported);
        }
        let of = |name| text(&presented.request, name).ok_or(Rejection::Foreign);
        let atoms = parse_atoms(of("amount")?).map_err(|_| Rejection::Foreign)?;
        let asset = AssetId::new(of("currency")?).map_err(|_| Rejection::Foreign)?;
        let payee = Holder::new(of("recipient")?).map_err(|_| Rejection::Foreign)?;
        let token = text(&presented.payload, "token").ok_or(Rejection::Malformed)?;
        let payer = presented.source.clone().ok_or(Rejection::Malformed)?;
        let clearing = Holder::new(self.method()).map_err(|_| Rejection::Foreign)?;
        let from = match self.kind {
            Kind::Purse => Source::Key(key_of(&payer)),
            Kind::Wire | Kind::Cash | Kind::Vow | Kind::Chest => {
                Source::Account(Account::new(AccountKind::Clearing, clearing, asset.clone()))
            }
        };
        let money = match self.kind {
            Kind::Purse => Money::Book,
            Kind::Wire | Kind::Cash | Kind::Chest => Money::Rail,
            Kind::Vow => Money::None,
        };
        let proof =
            Proof { fingerprint: Fingerprint::of("token", &[token.as_bytes()]), keep_until: None };
        Ok(Evidence {
            payer,
            payee,
            amount: Amount::new(asset, atoms),
            shares: Vec::new(),
            from,
            proofs: if self.kind == Kind::Purse { Vec::new() } else { vec![proof] },
            money,
            inquiry: (self.kind == Kind::Wire).then(|| token.into()),
        })
    }

    fn session(&self) -> Option<&dyn SessionRail> {
        matches!(self.kind, Kind::Purse | Kind::Chest).then_some(self)
    }

    fn subscription(&self) -> Option<&dyn SubscriptionRail> {
        matches!(self.kind, Kind::Purse | Kind::Wire).then_some(self)
    }

    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async {
            let answer = self.settled(held).await;
            self.sim.note(&format!("{} the rail says {answer:?}", held.key()));
            answer
        })
    }

    fn inquire<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.inquired(payment))
    }

    fn prepare_refund<'a>(
        &'a self,
        refund: &'a Refund,
    ) -> BoxFuture<'a, Result<Box<str>, NoRefund>> {
        Box::pin(self.prepared(refund))
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.refunded(refund))
    }
}
