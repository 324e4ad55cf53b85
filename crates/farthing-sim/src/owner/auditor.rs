//! Computes every limit of an owner from the journal, with plain numbers and code of its own.
//!
//! What was asked for is known from outside; from the journal the auditor takes when it was claimed, what
//! became of it, and what was said of it. It asks neither the policy nor the book.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use farthing_ledger::{Decided, Event, OwnerStep, PaymentId, Record, Ruling};
use farthing_money::Timestamp;
use serde_json::Value;

use crate::owner::OwnerInvariant;
use crate::owner::rules::{ASSETS, Each, Level, NANO, Per, Rule, Rules, Unit, agent_name};
use crate::owner::world::{Broken, Deal, Deposit, Fate, Kind, Truth, Wish};

/// What is counted together: the rule's place, what of it, and the day where days are counted.
type Scope = (usize, [usize; 3], u64);

/// How much of one scope is held and spent.
#[derive(Default)]
struct Tally {
    held: u128,
    /// What was spent and still counts, with the moment at which its end was known.
    spent: VecDeque<(Timestamp, u128)>,
    spent_sum: u128,
    /// What may still be counted, since a window may let go of it a little late.
    late: VecDeque<(Timestamp, u128)>,
}

/// What a payment counts for.
struct Counted {
    amounts: Vec<(Scope, u128)>,
    is_over: bool,
}

/// The auditor.
pub(crate) struct Auditor {
    rules: Rules,
    read: usize,
    tallies: BTreeMap<Scope, Tally>,
    counted: BTreeMap<PaymentId, Counted>,
    approvals: BTreeSet<String>,
    frozen: BTreeSet<Option<String>>,
    recorded: BTreeMap<&'static str, u64>,
}

fn within(what: String) -> Broken {
    (OwnerInvariant::Within, what)
}

impl Rule {
    fn covers(&self, wish: &Wish) -> bool {
        match self.level {
            Level::Wallet => true,
            Level::Agent(agent) => agent == wish.agent,
            Level::Task(agent, task) => agent == wish.agent && wish.task == Some(task),
        }
    }

    /// Which of those that the rule counts apart a wish is of.
    fn part(&self, wish: &Wish) -> [usize; 3] {
        match self.each {
            Each::All => [0, 0, 0],
            Each::Agent => [wish.agent, 0, 0],
            Each::Task => [wish.agent, wish.task.map_or(0, |it| it.saturating_add(1)), 0],
            Each::Seller => [wish.seller, 0, 0],
            Each::Recipient => [wish.recipient, 0, 0],
            Each::Request => [wish.seller, wish.thing, 0],
        }
    }

    /// How much of it a wish is; nothing where it is another's business.
    fn amount(&self, wish: &Wish, deposit: Option<&Deposit>) -> Option<u128> {
        if !self.covers(wish) {
            return None;
        }
        let is_money = self.unit != Unit::Payments;
        let of_request = self.each == Each::Request;
        let is_anothers = match wish.kind {
            Kind::Pay => false,
            // A deposit buys nothing yet.
            Kind::Deposit => !is_money || of_request,
            // What it is paid from is counted already, where the deposit was.
            Kind::Call(_) => {
                let by = deposit.map(|it| it.by)?;
                let is_counted = self.covers(&by) && self.part(&by) == self.part(wish);
                is_money && !of_request && is_counted
            }
        };
        if is_anothers { None } else { self.value(wish, wish.atoms) }
    }

    fn value(&self, wish: &Wish, atoms: u128) -> Option<u128> {
        match self.unit {
            Unit::Payments => Some(1),
            Unit::Asset(asset) => (asset == wish.asset).then_some(atoms),
            Unit::Any => ASSETS.get(wish.asset).map(|(.., worth)| atoms.saturating_mul(*worth)),
        }
    }
}

/// The day that a moment is in.
fn day(at: Timestamp) -> u64 {
    at.as_micros().checked_div(86_400_000_000).unwrap_or_default()
}

/// Whether a payment ended in the journal as it did outside.
fn ended(
    payment: PaymentId,
    deal: &Deal,
    moved: Option<u128>,
    truth: &Truth,
) -> Result<(), Broken> {
    let is_right = match deal.deposit.and_then(|it| truth.deposits.get(&it)) {
        Some(deposit) => moved == Some(deposit.spent) && deposit.spent <= deal.wish.atoms,
        None => deal.fate == Fate::Moved && moved.is_none(),
    };
    if is_right {
        return Ok(());
    }
    let what = format!("{payment} is {:?}, and {moved:?} of it counts", deal.fate);
    Err((OwnerInvariant::Settled, what))
}

/// When something was decided, as its facts say.
fn decided_at(decided: &Decided) -> Option<Timestamp> {
    let facts: Value = serde_json::from_str(&decided.facts).ok()?;
    let at = facts.get("at")?;
    at.as_u64().map(Timestamp::from_micros).or_else(|| at.as_str()?.parse().ok())
}

impl Tally {
    /// Lets go of what does not count any more.
    fn pass(&mut self, per: Per, now: Timestamp) {
        let Per::Seconds(seconds) = per else { return };
        let window = Duration::from_secs(seconds);
        while let Some((at, amount)) = self.spent.front().copied() {
            if at.after(window) > now {
                break;
            }
            self.spent.pop_front();
            self.spent_sum = self.spent_sum.saturating_sub(amount);
            self.late.push_back((at, amount));
        }
        // A thousandth of the window, and the end of the part it is in.
        let longest = window
            .saturating_add(Duration::from_millis(seconds))
            .saturating_add(Duration::from_micros(1));
        while self.late.front().is_some_and(|(at, _)| at.after(longest) <= now) {
            self.late.pop_front();
        }
    }

    fn sum(&self) -> u128 {
        self.held.saturating_add(self.spent_sum)
    }

    /// The most that the book may count.
    fn most(&self) -> u128 {
        self.late.iter().fold(self.sum(), |sum, (_, amount)| sum.saturating_add(*amount))
    }
}

impl Auditor {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            read: 0,
            tallies: BTreeMap::new(),
            counted: BTreeMap::new(),
            approvals: BTreeSet::new(),
            frozen: BTreeSet::new(),
            recorded: BTreeMap::new(),
        }
    }

    /// The payments that a journal contains.
    pub(crate) fn claimed(&self, records: &[Record]) -> BTreeSet<PaymentId> {
        let known = self.counted.keys().copied();
        let mut claimed: BTreeSet<PaymentId> = known.collect();
        for record in records.iter().skip(self.read) {
            if let Event::Claimed { payment, .. } = &record.event {
                claimed.insert(payment.id);
            }
        }
        claimed
    }

    /// Reads what has become durable.
    pub(crate) fn read(&mut self, records: &[Record], truth: &Truth) -> Result<(), Broken> {
        for record in records.iter().skip(self.read) {
            self.read = self.read.saturating_add(1);
            if u64::try_from(self.read) != Ok(record.seq) {
                return Err((OwnerInvariant::Rebuilt, format!("record {} is missing", self.read)));
            }
            self.follow(record, truth)?;
        }
        Ok(())
    }

    fn follow(&mut self, record: &Record, truth: &Truth) -> Result<(), Broken> {
        let at = record.at;
        match &record.event {
            Event::Claimed { payment, settlement, .. } => {
                let deal = truth.deals.get(&payment.id);
                let decided = payment.decision.as_deref();
                let (Some(deal), Some(decided)) = (deal, decided) else {
                    let what = format!("{} is claimed, and nobody asked or decided", payment.id);
                    return Err((OwnerInvariant::Recorded, what));
                };
                let of_call = matches!(deal.wish.kind, Kind::Call(_));
                self.claimed_now(payment.id, deal, decided, truth, at)?;
                if settlement.is_some() != of_call {
                    let what = format!("{} counts before its end is known", payment.id);
                    return Err((OwnerInvariant::Settled, what));
                }
                if of_call {
                    self.over(payment.id, &deal.wish, Some(deal.wish.atoms), at);
                }
            }
            Event::Posted { payment, settlement } => {
                let Some(deal) = truth.deals.get(payment) else { return Ok(()) };
                let moved = settlement.moved.as_ref().map(farthing_money::Amount::atoms);
                self.over(*payment, &deal.wish, Some(moved.unwrap_or(deal.wish.atoms)), at);
                ended(*payment, deal, moved, truth)?;
            }
            Event::Voided { payment, .. } => {
                let Some(deal) = truth.deals.get(payment) else { return Ok(()) };
                self.over(*payment, &deal.wish, None, at);
                let came_to_nothing = matches!(deal.fate, Fate::Nothing | Fate::Unsigned);
                if deal.wish.kind == Kind::Pay && !came_to_nothing {
                    let what = format!("{payment} is let go, and {:?}", deal.fate);
                    return Err((OwnerInvariant::Settled, what));
                }
            }
            Event::Owner { step } => match step {
                OwnerStep::Decided(decided) => self.noted(decided)?,
                OwnerStep::Frozen { agent, .. } => {
                    self.frozen.insert(agent.clone());
                }
                OwnerStep::Thawed { agent, .. } => {
                    self.frozen.remove(agent);
                }
            },
            // What a seller's book has beside, and that an answer was given.
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. }
            | Event::PaidOut { .. }
            | Event::Erased { .. } => {}
        }
        Ok(())
    }

    /// A decision stands in the journal: it says what it was made on.
    fn noted(&mut self, decided: &Decided) -> Result<(), Broken> {
        let facts: Value = serde_json::from_str(&decided.facts).unwrap_or_default();
        let is_whole = facts["agent"] == decided.agent.as_str()
            && decided.digest == Decided::digest_of(&decided.facts)
            && !decided.policy_sha256.is_empty()
            && !decided.rules.is_empty();
        if !is_whole {
            let what = format!("a decision does not say what it was made on: {decided:?}");
            return Err((OwnerInvariant::Recorded, what));
        }
        let name = match decided.ruling {
            Ruling::Allowed => "allowed",
            Ruling::Asked => "asked",
            Ruling::Denied => "denied",
        };
        let count = self.recorded.entry(name).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Every limit that a wish counts for, with how much.
    fn counts(&self, wish: &Wish, at: Timestamp, deposit: Option<&Deposit>) -> Vec<(Scope, u128)> {
        let counts = |(place, rule): (usize, &Rule)| {
            let amount = rule.amount(wish, deposit)?;
            let day = if rule.per == Per::Day { day(at) } else { 0 };
            Some(((place, rule.part(wish), day), amount))
        };
        self.rules.rules.iter().enumerate().filter_map(counts).collect()
    }

    fn claimed_now(
        &mut self,
        payment: PaymentId,
        deal: &Deal,
        decided: &Decided,
        truth: &Truth,
        at: Timestamp,
    ) -> Result<(), Broken> {
        let wish = &deal.wish;
        self.noted(decided)?;
        let agent = agent_name(wish.agent);
        if decided.agent != agent || decided.ruling != Ruling::Allowed {
            let what = format!("{payment} of {agent} is on record as {decided:?}");
            return Err((OwnerInvariant::Recorded, what));
        }
        if self.frozen.contains(&None) || self.frozen.contains(&Some(agent)) {
            return Err((OwnerInvariant::Frozen, format!("{payment} is claimed by who is frozen")));
        }
        let worth = ASSETS.get(wish.asset).map_or(0, |(.., worth)| *worth);
        let needs_one = wish.atoms.saturating_mul(worth).div_ceil(NANO)
            > self.rules.ask_above.checked_div(NANO).unwrap_or_default();
        let is_new = decided.approval.as_ref().map(|it| self.approvals.insert(it.id.clone()));
        if needs_one != is_new.is_some() || is_new == Some(false) {
            let what = format!("{payment} with approval {:?}", decided.approval);
            return Err((OwnerInvariant::ApprovedOnce, what));
        }
        let deposit = match wish.kind {
            Kind::Call(deposit) => truth.deposits.get(&deposit),
            Kind::Pay | Kind::Deposit => None,
        };
        if let Some(deposit) = deposit {
            self.may_spend(payment, wish, deposit)?;
        }
        let amounts = self.counts(wish, decided_at(decided).unwrap_or(at), deposit);
        for (scope, amount) in &amounts {
            let Some(rule) = self.rules.rules.get(scope.0) else { continue };
            let tally = self.tallies.entry(*scope).or_default();
            tally.pass(rule.per, at);
            tally.held = tally.held.saturating_add(*amount);
            if tally.sum() > rule.limit {
                let what = format!(
                    "{payment} of {wish:?}: {} of {rule:?} are held and spent by {at}",
                    tally.sum()
                );
                return Err(within(what));
            }
        }
        self.counted.insert(payment, Counted { amounts, is_over: false });
        Ok(())
    }

    /// Whose a deposit is: its depositor's, and theirs whose payments count in the same limits of money.
    fn may_spend(&self, payment: PaymentId, wish: &Wish, deposit: &Deposit) -> Result<(), Broken> {
        let by = &deposit.by;
        let purses = |wish: &Wish| -> BTreeSet<(Level, String, [usize; 3])> {
            let rules = self.rules.rules.iter().filter(|rule| {
                rule.covers(wish) && rule.unit != Unit::Payments && rule.each != Each::Request
            });
            rules.map(|it| (it.level, format!("{:?}", it.each), it.part(wish))).collect()
        };
        let is_own = (by.agent, by.task) == (wish.agent, wish.task);
        if (is_own || purses(by) == purses(wish)) && deposit.spent <= by.atoms {
            return Ok(());
        }
        let what = format!("{payment} of {wish:?} is paid from the deposit of {by:?}");
        Err((OwnerInvariant::OwnDeposit, what))
    }

    /// The end of a payment is known: what of it moved counts from now on.
    fn over(&mut self, payment: PaymentId, wish: &Wish, moved: Option<u128>, at: Timestamp) {
        let Some(counted) = self.counted.get_mut(&payment).filter(|it| !it.is_over) else { return };
        counted.is_over = true;
        for (scope, amount) in &counted.amounts {
            let Some(rule) = self.rules.rules.get(scope.0) else { continue };
            let Some(tally) = self.tallies.get_mut(scope) else { continue };
            tally.held = tally.held.saturating_sub(*amount);
            let spent = moved.and_then(|moved| rule.value(wish, moved)).unwrap_or_default();
            if spent > 0 {
                tally.spent.push_back((at, spent));
                tally.spent_sum = tally.spent_sum.saturating_add(spent);
            }
        }
    }

    /// Something was refused because a budget did not hold it: was it so?
    pub(crate) fn refused(
        &mut self,
        wish: &Wish,
        decided: &Decided,
        draw: usize,
        (at, truth): (Timestamp, &Truth),
    ) -> Result<(), Broken> {
        let decided_at = decided_at(decided).unwrap_or(at);
        // What was decided in a period that is over is decided anew.
        let is_over = day(decided_at) != day(at);
        let deposit = match wish.kind {
            Kind::Call(deposit) => truth.deposits.get(&deposit),
            Kind::Pay | Kind::Deposit => None,
        };
        for (scope, amount) in self.counts(wish, decided_at, deposit) {
            let Some(rule) = self.rules.rules.get(scope.0) else { continue };
            let tally = self.tallies.entry(scope).or_default();
            tally.pass(rule.per, at);
            // Each part is rounded up, to a billionth or an atom.
            let parts = tally.spent.len().saturating_add(tally.late.len()).saturating_add(2);
            let slack = match rule.unit {
                Unit::Any => u128::try_from(parts).unwrap_or(0).saturating_mul(NANO),
                Unit::Asset(_) | Unit::Payments => 0,
            };
            // What is held is rounded up as well.
            let slack = slack.saturating_mul(2);
            let most = tally.most().saturating_add(amount).saturating_add(slack);
            if most > rule.limit || (is_over && rule.per == Per::Day) {
                return Ok(());
            }
        }
        let draw = decided.draws.get(draw);
        let what = format!("{wish:?} is refused by {draw:?}, and every limit would hold it");
        Err((OwnerInvariant::RefusedRightly, what))
    }

    /// Every outcome is known and written down: nothing is held any more, and what is spent has moved.
    pub(crate) fn at_rest(&mut self, truth: &Truth, _: Timestamp) -> Result<(), Broken> {
        for (payment, deal) in &truth.deals {
            if self.counted.get(payment).is_none_or(|it| !it.is_over) {
                let what = format!("{payment} is {:?}, and still held", deal.fate);
                return Err((OwnerInvariant::Settled, what));
            }
        }
        if let Some((scope, tally)) = self.tallies.iter().find(|(_, tally)| tally.held > 0) {
            let what = format!("{} are held of {scope:?} for nothing", tally.held);
            return Err((OwnerInvariant::Settled, what));
        }
        for (ruling, told) in &truth.decided {
            let recorded = self.recorded.get(ruling).copied().unwrap_or_default();
            if recorded < *told {
                let what = format!("{told} were told that it is {ruling}, and {recorded} recorded");
                return Err((OwnerInvariant::Recorded, what));
            }
        }
        Ok(())
    }
}
