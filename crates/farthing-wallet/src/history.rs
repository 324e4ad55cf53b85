//! What the wallet's book says was paid, by whom, and what of its caps and budgets is used.

use std::collections::{BTreeMap, BTreeSet};

use farthing_ledger::{
    Book, BudgetKey, Draw, Event, OwnerView, Payment, PaymentId, Record, TraceId, Used, Window,
};
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
    /// The budgets that the payments drew from, as they were declared last, with what is used by now. Those
    /// whose time is over are left out.
    pub budgets: Vec<(Draw, u128)>,
}

/// What was read of the book so far. It is read on from there, so that looking again costs what has happened
/// since, and not the whole journal.
#[derive(Default)]
pub(crate) struct Seen {
    book: Book,
    last: Option<Record>,
    payments: Vec<PastPayment>,
    places: BTreeMap<PaymentId, usize>,
    /// What agents drew from last, and at which place of the journal.
    draws: BTreeMap<(String, BudgetKey), (u64, Draw)>,
    assets: BTreeSet<AssetId>,
}

impl Seen {
    /// Reads on; `records` reads some from a place on, and none where there is no book.
    fn read_on(
        &mut self,
        records: impl Fn(u64) -> Result<Vec<Record>, BooksError>,
    ) -> Result<(), BooksError> {
        loop {
            let page = records(self.last.as_ref().map_or(1, |record| record.seq))?;
            let mut fresh = page.as_slice();
            if let Some(last) = &self.last {
                match page.split_first() {
                    Some((first, rest)) if first == last => fresh = rest,
                    // Another book stands in its place, as after a restore, or none.
                    Some(_) | None => {
                        *self = Self::default();
                        continue;
                    }
                }
            }
            let Some(last) = fresh.last().cloned() else { return Ok(()) };
            for record in fresh {
                self.book.replay(record).map_err(|_| BooksError::Unavailable)?;
                self.follow(record);
            }
            self.last = Some(last);
        }
    }

    fn follow(&mut self, record: &Record) {
        if let Event::Claimed { payment, settlement, .. } = &record.event {
            let mut past = claimed(record.at, payment);
            if let Some(settlement) = settlement {
                past.state = PaymentState::Paid;
                past.reference = Some(settlement.reference.clone());
            }
            for draw in payment.decision.iter().flat_map(|decision| &decision.draws) {
                let agent = past.agent.clone().unwrap_or_default();
                self.draws.insert((agent, draw.key.clone()), (record.seq, draw.clone()));
            }
            self.assets.insert(payment.amount.asset().clone());
            self.places.insert(payment.id, self.payments.len());
            self.payments.push(past);
        }
        if let Event::Posted { payment, settlement } = &record.event
            && let Some(past) = self.past(*payment)
        {
            past.state = PaymentState::Paid;
            past.reference = Some(settlement.reference.clone());
            past.amount = settlement.moved.clone().unwrap_or(past.amount.clone());
        }
        if let Event::Voided { payment, .. } = &record.event
            && let Some(past) = self.past(*payment)
        {
            past.state = PaymentState::Released;
        }
    }

    fn past(&mut self, payment: PaymentId) -> Option<&mut PastPayment> {
        let at = *self.places.get(&payment)?;
        self.payments.get_mut(at)
    }

    /// How much of budgets is held and spent, and who is frozen.
    fn owner(&self, budgets: Vec<BudgetKey>, now: Timestamp) -> OwnerView {
        self.book.owner(budgets, now)
    }

    /// What is held and spent of each asset.
    fn totals(&self) -> BTreeMap<AssetId, u128> {
        let held = |asset: &AssetId| self.book.balances().of(&purse(asset)).credits_held();
        self.assets.iter().map(|asset| (asset.clone(), held(asset))).collect()
    }

    fn budgets(&self, agent: Option<&str>, now: Timestamp) -> Vec<(Draw, u128)> {
        let mut latest: BTreeMap<&BudgetKey, &(u64, Draw)> = BTreeMap::new();
        for ((of, key), drawn) in &self.draws {
            let is_theirs = agent.is_none_or(|agent| agent == of);
            if is_theirs && latest.get(key).is_none_or(|known| known.0 < drawn.0) {
                latest.insert(key, drawn);
            }
        }
        let counts = |draw: &Draw| match draw.window {
            Window::Until(end) => end > now,
            Window::Rolling(_) | Window::Ever => true,
        };
        let draws = latest.into_values().map(|(_, draw)| draw.clone()).filter(counts);
        let draws: Vec<Draw> = draws.collect();
        let used = self.owner(draws.iter().map(|draw| draw.key.clone()).collect(), now).used;
        draws.into_iter().zip(used.into_iter().map(|used| used.amount)).collect()
    }
}

impl Books {
    /// What was paid for an agent, or for everybody if nobody is named. Reads beside whoever writes.
    ///
    /// # Errors
    ///
    /// A [`BooksError`].
    pub fn history(&self, agent: Option<&str>) -> Result<History, BooksError> {
        let now = self.now();
        self.see(|seen| {
            let is_theirs = |past: &&PastPayment| {
                agent.is_none_or(|agent| past.agent.as_deref() == Some(agent))
            };
            History {
                payments: seen.payments.iter().rev().filter(is_theirs).cloned().collect(),
                totals: seen.totals(),
                budgets: seen.budgets(agent, now),
            }
        })
    }

    /// How much of budgets is held and spent, and who is frozen. Reads beside whoever writes.
    ///
    /// # Errors
    ///
    /// A [`BooksError`].
    pub fn owner(&self, budgets: Vec<BudgetKey>) -> Result<OwnerView, BooksError> {
        let now = self.now();
        self.see(|seen| seen.owner(budgets, now))
    }

    /// The same draws, with what is used of their budgets by now.
    pub(crate) fn used(&self, draws: &[Draw]) -> Result<Vec<Draw>, BooksError> {
        if draws.is_empty() {
            return Ok(Vec::new());
        }
        let used = self.owner(draws.iter().map(|draw| draw.key.clone()).collect())?.used;
        let with = |(draw, used): (&Draw, Used)| Draw { used: used.amount, ..draw.clone() };
        Ok(draws.iter().zip(used).map(with).collect())
    }

    /// Looks at the book as it stands now.
    fn see<T>(&self, look: impl FnOnce(&Seen) -> T) -> Result<T, BooksError> {
        let mut seen = self.seen();
        if let Err(error) = seen.read_on(|from| self.records(from)) {
            // What was half read is read anew.
            *seen = Seen::default();
            return Err(error);
        }
        Ok(look(&seen))
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
