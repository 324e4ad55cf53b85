//! What is said within subscriptions: on the purse the book charges, on the wire an order of the seller's does,
//! by what the payer has authorised once.

use farthing_core::{
    BoxFuture, Due, Grant, NoCharge, Object, Presented, Rejection, SUBSCRIPTION, SettleError,
    Settled, Subscribing, SubscriptionPrice, SubscriptionRail, Unquotable,
};
use farthing_ledger::{Account, AccountKind, Holder, Money, Payment, Source, SubscriptionId};
use farthing_money::{AssetId, Timestamp};
use serde_json::Value;

use super::{Kind, SimRail, key_of, text};
use crate::Planted;
use crate::fault::Fault;
use crate::truth::{OfPeriod, Token};

/// How long an order may be carried out, in milliseconds.
const VALID_MS: (u64, u64) = (20_000, 60_000);

impl SimRail {
    async fn prepared_charge(&self, due: Due<'_>) -> Result<Box<str>, NoCharge> {
        self.sim.pause().await;
        let facts = &due.subscription.facts;
        let mandate = facts.grant.as_deref().unwrap_or_default();
        if self.sim.with(|state| state.truth.revoked.contains(mandate)) {
            return Err(NoCharge::Revoked);
        }
        if self.sim.fault(Fault::Short) {
            return Err(NoCharge::Short);
        }
        if self.sim.fault(Fault::Unsent) {
            return Err(NoCharge::Later);
        }
        let order = format!("charge-{}", self.sim.serial());
        let deadline = self.sim.now().after(self.sim.millis(VALID_MS.0, VALID_MS.1));
        let (subscription, period) = (facts.id, due.period);
        let of = Some(OfPeriod { subscription, period });
        let made = Token { deadline, of, ..Token::default() };
        self.sim.with(|state| {
            state.note(&format!("{subscription} period {period} is ordered by {order}"));
            state.truth.tokens.insert(order.clone(), made);
        });
        if self.sim.is_planted(Planted::ChargesUnordered) {
            self.sim.with(|state| state.charge_early(&order));
        }
        Ok(order.into())
    }

    async fn carried_out(&self, payment: &Payment) -> Result<Settled, SettleError> {
        let token = payment.inquiry.as_deref().unwrap_or_default();
        self.hand_over(payment.id, token).await
    }

    fn begun(&self, presented: &Presented, payer: &str) -> Result<Grant, Rejection> {
        let asset = text(&presented.request, "currency").ok_or(Rejection::Foreign)?;
        let asset = AssetId::new(asset).map_err(|_| Rejection::Foreign)?;
        let is_purse = self.kind == Kind::Purse;
        let clearing = Holder::new(self.kind.method()).map_err(|_| Rejection::Foreign)?;
        let cash = Account::new(AccountKind::Clearing, clearing, asset);
        let mandate = text(&presented.payload, "token").ok_or(Rejection::Malformed)?;
        Ok(Grant {
            payer: payer.to_owned(),
            from: if is_purse { Source::Key(key_of(payer)) } else { Source::Account(cash) },
            expires_at: None,
            money: if is_purse { Money::Book } else { Money::Rail },
            words: (!is_purse).then(|| mandate.into()),
            joins: !is_purse,
        })
    }
}

impl SubscriptionRail for SimRail {
    fn quote_subscription(
        &self,
        price: &SubscriptionPrice,
        payee: &Holder,
    ) -> Result<Object, Unquotable> {
        if price.amount.is_zero() {
            return Err(Unquotable::Amount);
        }
        let mut request = Object::new();
        request.insert("amount".into(), price.amount.atoms().to_string().into());
        request.insert("currency".into(), price.amount.asset().as_str().into());
        request.insert("period".into(), price.period.to_string().into());
        request.insert("plan".into(), price.plan.as_ref().into());
        request.insert("recipient".into(), payee.as_str().into());
        Ok(request)
    }

    fn check_subscription(
        &self,
        presented: &Presented,
        _now: Timestamp,
    ) -> Result<Subscribing, Rejection> {
        if presented.intent != SUBSCRIPTION {
            return Err(Rejection::Unsupported);
        }
        let act = presented.payload.get("act").and_then(Value::as_object);
        let act = act.ok_or(Rejection::Malformed)?;
        let payer = presented.source.clone().ok_or(Rejection::Malformed)?;
        let id = || -> Result<SubscriptionId, Rejection> {
            let id = text(act, "subscription").ok_or(Rejection::Malformed)?;
            id.parse().map_err(|_| Rejection::Malformed)
        };
        Ok(match text(act, "act").unwrap_or_default() {
            "subscribe" => Subscribing::Begin(Box::new(self.begun(presented, &payer)?)),
            "use" => Subscribing::Use { id: id()?, payer },
            "cancel" => Subscribing::Cancel { id: id()?, payer },
            _ => return Err(Rejection::Malformed),
        })
    }

    fn prepare_charge<'a>(&'a self, due: Due<'a>) -> BoxFuture<'a, Result<Box<str>, NoCharge>> {
        Box::pin(self.prepared_charge(due))
    }

    fn charge<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.carried_out(payment))
    }
}
