//! How a wallet stands, as programs and people are told: one form for the daemon's API, the command line and
//! the dashboard.

use std::collections::BTreeMap;
use std::fmt;

use farthing_ledger::{Draw, PaymentId, TraceId};
use farthing_money::{Amount, AssetId, Assets, Timestamp};
use farthing_policy::{Counted, OWNER, Policy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::memory::{ApprovalRequest, ApprovalState, Asker, Asking, Outstanding, Quote};
use crate::{
    Books, BooksError, BudgetView, DeskError, History, Memory, PastPayment, Rules, Wallet,
    WalletSession, WalletSessionState, WalletSubscription,
};

/// How many of the latest payments stand in the status.
const LATEST: usize = 10;

/// A moment, as RFC 3339 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub Timestamp);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// An amount, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The asset.
    pub asset: String,
    /// How many atoms of it, as text: JSON's numbers lose digits.
    pub atoms: String,
    /// The same for people.
    pub text: String,
}

impl Sum {
    /// An amount.
    #[must_use]
    pub fn of(amount: &Amount, assets: &Assets) -> Self {
        Self {
            asset: amount.asset().to_string(),
            atoms: amount.atoms().to_string(),
            text: assets.print(amount),
        }
    }
}

/// A payment of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentLine {
    /// The payment.
    pub payment: PaymentId,
    /// Its story.
    pub trace: TraceId,
    /// When it was held.
    pub at: When,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What was bought: the method, and the address without its query.
    pub what: String,
    /// The price, or the deposit.
    pub amount: Sum,
    /// Who is paid.
    pub recipient: String,
    /// The payment method.
    pub method: String,
    /// How it stands.
    pub state: String,
    /// The rail's reference, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl PaymentLine {
    /// A payment of the book.
    #[must_use]
    pub fn of(past: PastPayment, assets: &Assets) -> Self {
        Self {
            payment: past.payment,
            trace: past.trace,
            at: When(past.at),
            agent: past.agent,
            what: past.what,
            amount: Sum::of(&past.amount, assets),
            recipient: past.recipient,
            method: past.method,
            state: past.state.name().to_owned(),
            reference: past.reference,
        }
    }
}

/// A session of the wallet's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionLine {
    /// Its channel.
    pub channel: String,
    /// The payment method.
    pub method: String,
    /// The seller.
    pub origin: String,
    /// Who is paid.
    pub recipient: String,
    /// How it stands.
    pub state: String,
    /// What was deposited.
    pub deposit: Sum,
    /// What was signed for.
    pub signed: Sum,
    /// What the seller has taken.
    pub spent: Sum,
    /// When it was opened.
    pub opened_at: When,
    /// When it was last used.
    pub used_at: When,
}

impl SessionLine {
    /// A session.
    #[must_use]
    pub fn of(session: &WalletSession, assets: &Assets) -> Self {
        Self {
            channel: session.channel.clone(),
            method: session.method.clone(),
            origin: session.origin.clone(),
            recipient: session.recipient.clone(),
            state: session.state.name().to_owned(),
            deposit: Sum::of(&session.deposit, assets),
            signed: Sum::of(&session.signed, assets),
            spent: Sum::of(&session.spent, assets),
            opened_at: When(session.opened_at),
            used_at: When(session.used_at),
        }
    }
}

/// A subscription of the wallet's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionLine {
    /// The wallet's own name for it: what is held for it.
    pub hold: PaymentId,
    /// The seller's name for it, once it has said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The payment method.
    pub method: String,
    /// The seller.
    pub origin: String,
    /// Who is paid.
    pub recipient: String,
    /// How it stands.
    pub state: String,
    /// The price of a period.
    pub amount: Sum,
    /// How long a period is.
    pub period: String,
    /// For how many periods it may be charged at most.
    pub periods: u64,
    /// For how many it was, as far as the seller has said.
    pub charges: u64,
    /// What was charged at most.
    pub spent: Sum,
    /// From when on nothing may be charged any more.
    pub until: When,
    /// When it was begun.
    pub begun_at: When,
    /// When it was last used.
    pub used_at: When,
}

impl SubscriptionLine {
    /// A subscription.
    #[must_use]
    pub fn of(it: &WalletSubscription, assets: &Assets) -> Self {
        Self {
            hold: it.hold,
            id: it.id.clone(),
            method: it.method.clone(),
            origin: it.origin.clone(),
            recipient: it.recipient.clone(),
            state: it.state.name().to_owned(),
            amount: Sum::of(&it.amount, assets),
            period: it.period.to_string(),
            periods: it.periods,
            charges: it.charges,
            spent: Sum::of(&it.spent(), assets),
            until: When(it.until),
            begun_at: When(it.begun_at),
            used_at: When(it.used_at),
        }
    }
}

/// A payment that waits for approval, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalLine {
    /// Its name.
    pub id: String,
    /// Who asks.
    pub agent: String,
    /// Since when.
    pub asked_at: When,
    /// Until when it can be approved, and an approval be used; or until when it stays denied.
    pub expires_at: When,
    /// Where it stands.
    pub state: String,
    /// The seller.
    pub origin: String,
    /// What is bought: the method and the path.
    pub what: String,
    /// Who would be paid.
    pub recipient: String,
    /// In which asset.
    pub asset: String,
    /// How many atoms of it, as text.
    pub atoms: String,
    /// Why it is asked: the rules, and what they say.
    pub because: Vec<String>,
    /// How many approvers it needs.
    pub approvals: u8,
    /// Who has approved it.
    pub by: Vec<String>,
    /// When the last answer came.
    pub answered_at: Option<When>,
    /// How much, for programs and for people.
    pub amount: Sum,
    /// For which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// With which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The payment method.
    pub method: String,
    /// The rules that ask, with the amounts that they compare with.
    pub reasons: Vec<Asker>,
    /// The budgets that it would draw from, as they stood when it was asked.
    pub budgets: Vec<BudgetView>,
    /// The seller's offer that it was asked upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<QuoteLine>,
    /// Where the owner answers, if the wallet shows a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// The offer of a seller that approval is asked upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuoteLine {
    /// The seller's name for it.
    pub challenge: String,
    /// Until when it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<When>,
    /// The seller's own words, which prove nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl From<Quote> for QuoteLine {
    fn from(Quote { challenge, expires_at, description }: Quote) -> Self {
        Self { challenge, expires_at: expires_at.map(When), description }
    }
}

impl ApprovalLine {
    /// A request as it stands `now`.
    #[must_use]
    pub fn of(request: ApprovalRequest, now: Timestamp, assets: &Assets) -> Self {
        let state = request.state_at(now).name().to_owned();
        let ApprovalRequest { id, terms: _, agent, asked_at, expires_at, state: _, asked } =
            request;
        let Asking {
            origin,
            what,
            recipient,
            asset,
            atoms,
            because,
            approvals,
            by,
            answered_at,
            task,
            tool,
            method,
            reasons,
            draws,
            quote,
            answer_by: _,
        } = asked;
        let number = farthing_money::parse_atoms(&atoms).unwrap_or_default();
        let budget = |draw: &Draw| BudgetView::of(draw, draw.used, assets);
        Self {
            id,
            agent,
            asked_at: When(asked_at),
            expires_at: When(expires_at),
            state,
            origin,
            what,
            recipient,
            amount: Sum::of(&Amount::new(asset.clone(), number), assets),
            asset: asset.to_string(),
            atoms,
            because,
            approvals,
            by,
            answered_at: answered_at.map(When),
            task,
            tool,
            method,
            reasons,
            budgets: draws.iter().map(budget).collect(),
            quote: quote.map(QuoteLine::from),
            link: None,
        }
    }
}

/// A payment whose end is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutstandingLine {
    /// The payment.
    pub payment: PaymentId,
    /// The seller.
    pub origin: String,
    /// When its credential cannot be spent any more.
    pub expires_at: When,
    /// Whether the seller has said that it does not take it.
    pub refused: bool,
}

impl From<&Outstanding> for OutstandingLine {
    fn from(it: &Outstanding) -> Self {
        Self {
            payment: it.payment,
            origin: it.origin.clone(),
            expires_at: When(it.expires_at),
            refused: it.refused,
        }
    }
}

/// The caps of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapLine {
    /// The asset.
    pub asset: String,
    /// The most that a payment may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_payment_max: Option<String>,
    /// The most that may be held and spent in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_max: Option<String>,
    /// The most that may be deposited at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_deposit_max: Option<String>,
    /// What is held and spent by everybody; for the owner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// How much of the total that is, in thousandths; for the owner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_permille: Option<u16>,
}

/// How the wallet stands, as far as it is the business of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletStatus {
    /// Who asks.
    pub agent: String,
    /// Whether nothing is signed for them.
    pub frozen: bool,
    /// For whom nothing is signed; `*` is everybody. For the owner alone.
    pub frozen_agents: Vec<String>,
    /// The caps.
    pub caps: Vec<CapLine>,
    /// The budgets that count a level together, and those that payments drew from.
    pub budgets: Vec<BudgetView>,
    /// The latest payments.
    pub payments: Vec<PaymentLine>,
    /// What waits for approval.
    pub approvals: Vec<ApprovalLine>,
    /// Payments whose end is not known; for the owner alone.
    pub outstanding: Vec<OutstandingLine>,
    /// What is deposited in sessions that are not closed, by asset; for the owner alone.
    pub deposits: Vec<Sum>,
    /// The sessions; for the owner alone.
    pub sessions: Vec<SessionLine>,
    /// The subscriptions; for the owner alone.
    pub subscriptions: Vec<SubscriptionLine>,
}

/// What a status is read from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The book.
    pub books: &'a Books,
    /// The memory.
    pub memory: &'a Memory,
    /// The caps.
    pub rules: &'a Rules,
    /// The policies whose budgets are shown although nothing was drawn from them.
    pub policies: &'a [Policy],
    /// The assets.
    pub assets: &'a Assets,
}

impl Wallet {
    /// How the wallet stands for whoever has it.
    ///
    /// # Errors
    ///
    /// A [`DeskError`].
    pub fn status(&self, assets: &Assets) -> Result<WalletStatus, DeskError> {
        let Self { books, memory, rules, authority, .. } = self;
        let policies = authority.policies();
        Sources { books, memory, rules, policies, assets }.status(authority.agent())
    }
}

impl Sources<'_> {
    /// How the wallet stands for an agent, or for its owner.
    ///
    /// # Errors
    ///
    /// A [`DeskError`].
    pub fn status(&self, agent: &str) -> Result<WalletStatus, DeskError> {
        let Self { books, memory, assets, .. } = *self;
        let (is_owner, now) = (agent == OWNER, books.now());
        let history = books.history((!is_owner).then_some(agent))?;
        let mut approvals = memory.approvals()?;
        approvals.retain(|request| {
            (is_owner || request.agent == agent) && request.state_at(now) == ApprovalState::Waiting
        });
        let mut status = WalletStatus {
            agent: agent.to_owned(),
            frozen: memory.is_frozen(agent)?,
            frozen_agents: Vec::new(),
            caps: self.caps(is_owner.then_some(&history)),
            budgets: self.budgets(agent, &history, now)?,
            payments: Vec::new(),
            approvals: approvals
                .into_iter()
                .map(|request| ApprovalLine::of(request, now, assets))
                .collect(),
            outstanding: Vec::new(),
            deposits: Vec::new(),
            sessions: Vec::new(),
            subscriptions: Vec::new(),
        };
        let latest = history.payments.into_iter().take(LATEST);
        status.payments = latest.map(|past| PaymentLine::of(past, assets)).collect();
        if is_owner {
            let (sessions, subscriptions) = (memory.sessions()?, memory.subscriptions()?);
            status.frozen_agents = memory.frozen()?;
            status.outstanding =
                memory.all_outstanding()?.iter().map(OutstandingLine::from).collect();
            status.deposits = deposits(&sessions, assets);
            status.sessions = sessions.iter().map(|it| SessionLine::of(it, assets)).collect();
            status.subscriptions =
                subscriptions.iter().map(|it| SubscriptionLine::of(it, assets)).collect();
        }
        Ok(status)
    }

    fn caps(&self, history: Option<&History>) -> Vec<CapLine> {
        let Self { rules, assets, .. } = self;
        let cap = |asset: &farthing_money::Asset| {
            let id = asset.id();
            let text = |atoms: &u128| assets.print(&Amount::new(id.clone(), *atoms));
            let used = history.map(|it| it.totals.get(id).copied().unwrap_or_default());
            let total = rules.total.get(id);
            let share = |used: u128| total.map(|total| crate::budgets::permille(used, *total));
            CapLine {
                asset: id.to_string(),
                per_payment_max: rules.per_payment.get(id).map(text),
                total_max: total.map(text),
                session_deposit_max: rules.session_deposit.get(id).map(text),
                used: used.as_ref().map(text),
                used_permille: used.and_then(share),
            }
        };
        assets.iter().map(cap).collect()
    }

    /// The budgets that payments drew from, and those of a whole level that none has drawn from yet.
    fn budgets(
        &self,
        agent: &str,
        history: &History,
        now: Timestamp,
    ) -> Result<Vec<BudgetView>, BooksError> {
        let mut all: BTreeMap<String, (Draw, u128)> = BTreeMap::new();
        let standing: Vec<Draw> = self
            .policies
            .iter()
            .flat_map(|policy| policy.standing_budgets(now))
            .filter(|draw| agent == OWNER || concerns(draw, agent))
            .collect();
        for draw in self.books.used(&standing)? {
            all.insert(draw.key.to_string(), (draw.clone(), draw.used));
        }
        for (draw, used) in &history.budgets {
            all.entry(draw.key.to_string()).or_insert_with(|| (draw.clone(), *used));
        }
        Ok(all.values().map(|(draw, used)| BudgetView::of(draw, *used, self.assets)).collect())
    }
}

/// Whether an agent's payments would draw from a budget of a whole level.
fn concerns(draw: &Draw, agent: &str) -> bool {
    Counted::of(&draw.key).is_some_and(|counted| match counted.level.split_once(' ') {
        None => counted.level == "wallet",
        Some(("agent", name)) => name == agent,
        Some(("task", name)) => name.split_once('/').is_some_and(|(of, _)| of == agent),
        Some((level, _)) => level == "token",
    })
}

/// What is deposited in sessions that are not closed.
fn deposits(sessions: &[WalletSession], assets: &Assets) -> Vec<Sum> {
    let mut by_asset: BTreeMap<AssetId, u128> = BTreeMap::new();
    for session in sessions.iter().filter(|it| it.state != WalletSessionState::Closed) {
        let held = by_asset.entry(session.deposit.asset().clone()).or_default();
        *held = held.saturating_add(session.deposit.atoms());
    }
    let sum = |(asset, atoms): (AssetId, u128)| Sum::of(&Amount::new(asset, atoms), assets);
    by_asset.into_iter().map(sum).collect()
}
