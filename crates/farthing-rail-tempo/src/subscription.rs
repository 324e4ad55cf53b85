//! Subscriptions on Tempo (draft-tempo-subscription-00): the payer authorises a key of the seller's once, and
//! the seller charges it once a period.
//!
//! ```text
//!  wallet                              gateway                                   chain
//!    │ 402: this key, this much a period, until then                               │
//!    │◄──────────────────────────────────┤                                         │
//!    │ the key, authorised               │ order: authorise + transfer, sponsored  │
//!    ├──────────────────────────────────►│ claimed with the order ────────────────►│ key known, period 0 paid
//!    │ 200, period 0                     │◄────────────────────────────────────────┤
//!    │◄──────────────────────────────────┤ a period later: transfer ──────────────►│ limit: once a period
//! ```
//!
//! The key is derived from a secret and from the challenge's name, so that each challenge has one of its own,
//! nothing is kept of those that nobody answers, and no authorisation can be shown for another challenge.
//!
//! A charge is one signed transaction, good for less than half a minute, whose nonce expires with it
//! (TIP-1009). It stands in the journal before it is handed over: whoever comes after a crash asks the chain
//! about that very transaction.
//!
//! The seller pays the network's fee. A payer cannot with a key as narrow as this one: the fee would count
//! against the limit of the period, and leave less than the price.
//!
//! **Architecture invariant:** nothing is charged by a key that may do more than pay this price to this
//! recipient, once a period, until the end; and no order is given up that the chain could still take.

mod act;
mod grant;
mod keys;
mod order;
mod payer;
mod terms;

use std::sync::Arc;

use farthing_core::{
    BoxFuture, Complete, Due, Grant, NoCharge, Object, Presented, Rejection, SUBSCRIPTION,
    SettleError, Settled, Subscribing, SubscriptionPrice, SubscriptionRail, Unquotable,
};
use farthing_ledger::{Account, AccountKind, Holder, Money, Payment, Source, TraceId};
use farthing_money::Timestamp;
use serde_json::Value;

use crate::METHOD;
use crate::handover::Handover;
use crate::rpc::Nodes;
use crate::settings::Settings;
use crate::wire::{did, parse_did};

pub use keys::KeyRing;

use act::Act;
use grant::Words;
use terms::{Asked, Rolling};

/// What a seller has decided about subscriptions.
#[derive(Debug)]
pub struct SubscriptionSettings {
    /// What access keys are derived from.
    pub keys: KeyRing,
    /// For how many periods one is authorised at most; the seller's own end may come before.
    pub periods: u32,
    /// The most that the network may be paid for one charge, in atoms of the sponsor's token. The first is the
    /// dearest by far: the chain writes the key down.
    pub fee_max: u128,
}

/// The subscriptions of one seller.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    nodes: Arc<Nodes>,
    /// The seller's; its sponsor is there.
    settings: Arc<Settings>,
    handover: Handover,
    keys: Arc<KeyRing>,
    periods: u32,
    fee_max: u128,
}

impl Subscriptions {
    pub(crate) fn new(
        nodes: &Arc<Nodes>,
        settings: &Arc<Settings>,
        handover: &Handover,
        own: SubscriptionSettings,
    ) -> Self {
        Self {
            nodes: Arc::clone(nodes),
            settings: Arc::clone(settings),
            handover: handover.clone(),
            keys: Arc::new(own.keys),
            periods: own.periods,
            fee_max: own.fee_max,
        }
    }

    /// What a request of ours asks for.
    fn asked(&self, request: &Object) -> Option<Asked> {
        let asked = Asked::read(request, &self.settings.tokens).ok()?;
        let ours =
            asked.chain_id == self.nodes.chain_id() && asked.recipient == self.settings.recipient;
        ours.then_some(asked)
    }

    /// An authorisation that is what was asked for, to the letter.
    fn begin(presented: &Presented, asked: &Asked, now: Timestamp) -> Result<Grant, Rejection> {
        // What ends before its offer does is offered to nobody (§4.2).
        if asked.expires_s <= presented.expires_at.as_secs() {
            return Err(Rejection::Foreign);
        }
        if asked.expires_s <= now.as_secs() {
            return Err(Rejection::Expired);
        }
        let text = presented.payload.get("signature").and_then(Value::as_str);
        let signed = grant::read(text.ok_or(Rejection::Malformed)?)?;
        let payer = grant::verify(&signed, asked, &presented.challenge)?;
        if let Some(source) = presented.source.as_deref() {
            let source = parse_did(source).ok_or(Rejection::Malformed)?;
            if source != (asked.chain_id, payer) {
                return Err(Rejection::Invalid);
            }
        }
        let clearing = Holder::new(METHOD).map_err(|_| Rejection::Foreign)?;
        let asset = asked.amount.asset().clone();
        let words = Words { offer: presented.trace, authorization: grant::write(&signed) };
        Ok(Grant {
            payer: did(asked.chain_id, payer),
            from: Source::Account(Account::new(AccountKind::Clearing, clearing, asset)),
            expires_at: Some(terms::moment(asked.expires_s)),
            money: Money::Rail,
            words: Some(words.write()),
            joins: true,
        })
    }
}

impl SubscriptionRail for Subscriptions {
    fn quote_subscription(
        &self,
        price: &SubscriptionPrice,
        _payee: &Holder,
    ) -> Result<Object, Unquotable> {
        if self.settings.sponsor.is_none() || price.amount.is_zero() {
            return Err(Unquotable::Amount);
        }
        let token = self.settings.tokens.named(price.amount.asset()).ok_or(Unquotable::Asset)?;
        terms::write(price, token.address, self.settings.recipient, self.nodes.chain_id())
    }

    fn completes(&self) -> Option<Arc<dyn Complete>> {
        let chain_id = self.nodes.chain_id();
        Some(Arc::new(Rolling { keys: Arc::clone(&self.keys), periods: self.periods, chain_id }))
    }

    fn check_subscription(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Subscribing, Rejection> {
        if presented.intent != SUBSCRIPTION {
            return Err(Rejection::Unsupported);
        }
        // The request is our own, bound into the challenge's id; what does not fit is not ours.
        let asked = self.asked(&presented.request).ok_or(Rejection::Foreign)?;
        match presented.payload.get("type").and_then(Value::as_str) {
            Some("keyAuthorization") => {
                Self::begin(presented, &asked, now).map(|it| Subscribing::Begin(Box::new(it)))
            }
            Some(name) => {
                let act = Act::named(name).ok_or(Rejection::Malformed)?;
                let (id, account) = act::read(act, presented, asked.chain_id)?;
                let payer = did(asked.chain_id, account);
                Ok(match act {
                    Act::Use => Subscribing::Use { id, payer },
                    Act::Cancel => Subscribing::Cancel { id, payer },
                })
            }
            None => Err(Rejection::Malformed),
        }
    }

    fn prepare_charge<'a>(&'a self, due: Due<'a>) -> BoxFuture<'a, Result<Box<str>, NoCharge>> {
        Box::pin(self.order(due))
    }

    fn charge<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.carry_out(payment))
    }
}

/// The trace of an offer, where a text is one.
fn parse_trace(text: &str) -> Option<TraceId> {
    text.parse().ok()
}
