//! What the wallet's book says was paid, by whom, and what of its caps and budgets is used.

use std::collections::BTreeMap;

use farthing_ledger::{Account, Balance, Draw, Event, Payment, PaymentId, Record, TraceId};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_policy::Facts;

use crate::books::purse;
use crate::{Books, BooksError};

/// A payment, as the wallet's book has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastPayment {
    /// The payment.
    pub payment: PaymentId,
    /// Its story.
    pub trace: TraceId,
    /// When it was held.
    pub at: Timestamp,
    /// Who asked for it; not said by books from before agents were told apart.
    pub agent: Option<String>,
    /// What was bought: the method, and the address without its query.
    pub what: String,
    /// The price, or the deposit.
    pub amount: Amount,
    /// Who is paid.
    pub recipient: String,
    /// The payment method.
    pub method: String,
    /// How it stands.
    pub state: PaymentState,
    /// The rail's reference, once there is one.
    pub reference: Option<String>,
}

/// How a payment stands in the wallet's book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// Its price is held.
    Held,
    /// It is spent.
    Paid,
    /// It was given up, and nothing of it was spent.
    Released,
}

impl PaymentState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paid => "paid",
            Self::Released => "released",
        }
    }
}

/// The book as somebody may see it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The payments, the latest first.
    pub payments: Vec<PastPayment>,
    /// How much of each asset is held and spent by everybody: what total caps count.
    pub totals: BTreeMap<AssetId, u128>,
    /// The budgets that the payments drew from, as they were declared last, with what is used by now.
    pub budgets: Vec<(Draw, u128)>,
}

impl Books {
    /// What was paid for an agent, or for everybody if nobody is named. Reads beside whoever writes.
    ///
    /// # Errors
    ///
    /// A [`BooksError`].
    pub fn history(&self, agent: Option<&str>) -> Result<History, BooksError> {
        let journal = self.journal()?;
        let mut history = History::default();
        let mut draws: BTreeMap<String, Draw> = BTreeMap::new();
        let mut places: BTreeMap<PaymentId, usize> = BTreeMap::new();
        for record in &journal {
            if let Event::Claimed { payment, settlement, .. } = &record.event {
                let decision = payment.decision.as_deref();
                let mut past = claimed(record.at, payment);
                if let Some(settlement) = settlement {
                    past.state = PaymentState::Paid;
                    past.reference = Some(settlement.reference.clone());
                }
                if agent.is_some_and(|agent| past.agent.as_deref() != Some(agent)) {
                    continue;
                }
                for draw in decision.map(|it| it.draws.as_slice()).unwrap_or_default() {
                    draws.insert(draw.key.to_string(), draw.clone());
                }
                places.insert(payment.id, history.payments.len());
                history.payments.push(past);
            }
            if let Event::Posted { payment, settlement } = &record.event
                && let Some(past) = places.get(payment).and_then(|at| history.payments.get_mut(*at))
            {
                past.state = PaymentState::Paid;
                past.reference = Some(settlement.reference.clone());
                past.amount = settlement.moved.clone().unwrap_or(past.amount.clone());
            }
            if let Event::Voided { payment, .. } = &record.event
                && let Some(past) = places.get(payment).and_then(|at| history.payments.get_mut(*at))
            {
                past.state = PaymentState::Released;
            }
        }
        history.payments.reverse();
        history.totals = totals(&journal)?;
        let keys = draws.values().map(|draw| draw.key.clone()).collect();
        let used = self.owner(keys)?.used.into_iter().map(|used| used.amount);
        history.budgets = draws.into_values().zip(used).collect();
        Ok(history)
    }
}

fn claimed(at: Timestamp, payment: &Payment) -> PastPayment {
    PastPayment {
        payment: payment.id,
        trace: payment.trace,
        at,
        agent: payment.decision.as_ref().map(|decision| decision.agent.clone()),
        what: payment.route.clone(),
        amount: price(payment),
        recipient: payment.payee.to_string(),
        method: payment.method.clone(),
        state: PaymentState::Held,
        reference: None,
    }
}

/// The price: for what is paid from a deposit, the one that was decided upon.
fn price(payment: &Payment) -> Amount {
    let facts = payment.decision.as_ref().map(|it| serde_json::from_str::<Facts>(&it.facts));
    match facts {
        Some(Ok(facts)) if facts.is_in_session() => {
            let before = facts.before_atoms.unwrap_or_default();
            Amount::new(facts.asset, facts.atoms.saturating_sub(before))
        }
        Some(_) | None => payment.amount.clone(),
    }
}

/// What is held and spent of each asset.
fn totals(journal: &[Record]) -> Result<BTreeMap<AssetId, u128>, BooksError> {
    let audit = farthing_ledger::audit(journal).map_err(|_| BooksError::Unavailable)?;
    let of_purse = |(account, balance): (&Account, &Balance)| {
        let asset = &account.asset;
        (*account == purse(asset)).then(|| (asset.clone(), balance.credits_held()))
    };
    Ok(audit.accounts.iter().filter_map(of_purse).collect())
}
