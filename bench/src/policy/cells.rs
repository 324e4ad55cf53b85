//! The cells: what is asked, what is answered, and what it cost.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use farthing_core::{Buyer as _, Payer as _, Store};
use farthing_gate::{Clock as _, SystemClock};
use farthing_ledger::{Claim, Decided, Ruling};
use farthing_money::Assets;
use farthing_mpp::base64url;
use farthing_policy::{Facts, Policy, Verdict};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_store_sqlite::{Options, SqliteStore};
use farthing_wallet::{PayFailure, PayOptions, PayRequest, Wallet};
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::policy::shop::{SEED, SHORT, Shop};
use crate::policy::{PRICE_ATOMS, SHAPE, Stages};
use crate::server::usd;

/// A key that has no account with the seller.
const STRANGER: [u8; 32] = [9; 32];

/// How many purchases the labelled workload has, and how many different ones of them run away.
const LABELLED: u64 = 400;
const RUNAWAYS: u64 = 6;

/// How often it is decided and reserved where only that is timed.
const RESERVED: usize = 10_000;

/// What stands between an agent and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Baseline {
    Free,
    Paid,
    Policy,
}

impl Baseline {
    pub(crate) const ALL: [Self; 3] = [Self::Free, Self::Paid, Self::Policy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Paid => "paid",
            Self::Policy => "policy",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Every purchase is within the budget.
    Normal,
    /// Agents want more than the budget holds, in the published proportion.
    Overspend,
    /// What was paid with is presented again: for the same, and for something else.
    Replay,
    /// Credentials that were never good.
    Invalid,
    /// Credentials that were good, too late.
    Expiry,
    /// Every purchase is asked for twice.
    Idempotency,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Normal,
        Self::Overspend,
        Self::Replay,
        Self::Invalid,
        Self::Expiry,
        Self::Idempotency,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Overspend => "overspend",
            Self::Replay => "replay",
            Self::Invalid => "invalid",
            Self::Expiry => "expiry",
            Self::Idempotency => "idempotency",
        }
    }

    /// Whether what counts is what was blocked, and not what was served.
    pub(crate) const fn is_attack(self) -> bool {
        match self {
            Self::Normal | Self::Overspend => false,
            Self::Replay | Self::Invalid | Self::Expiry | Self::Idempotency => true,
        }
    }
}

/// What came of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many purchases were wanted that would cost something.
    pub(crate) wished: u64,
    /// How many of them were answered.
    pub(crate) served: u64,
    /// How many the owner's policy denied.
    pub(crate) denied: u64,
    /// How often something that must not be answered was not, or moved nothing a second time.
    pub(crate) blocked: u64,
    /// What was spent, by the seller's book.
    pub(crate) spent_atoms: u128,
}

/// The same, with how long it took.
pub(crate) struct Cell {
    pub(crate) counts: Counts,
    pub(crate) stages: Stages,
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)
    }
}

/// How many of `size` purchases the budget of an overspending cell holds.
pub(crate) const fn held_of(size: u64) -> u64 {
    (size * SHAPE.1).div_ceil(SHAPE.0)
}

impl Cell {
    /// Whether it came as it has to.
    pub(crate) fn check(&self, baseline: Baseline, scenario: Scenario, size: u64) -> Result<()> {
        let Counts { wished, served, denied, blocked, spent_atoms } = self.counts;
        let served_wanted = match (baseline, scenario) {
            (Baseline::Policy, Scenario::Overspend) => held_of(size),
            _ => wished,
        };
        ensure!(served == served_wanted, "{served} of {served_wanted} were served");
        ensure!(denied == wished - served, "{denied} were denied");
        let is_free = baseline == Baseline::Free;
        let spent_wanted = if is_free { 0 } else { u128::from(served) * PRICE_ATOMS };
        ensure!(spent_atoms == spent_wanted, "{spent_atoms} were spent");
        let blocked_wanted = if is_free || !scenario.is_attack() { 0 } else { size };
        ensure!(blocked == blocked_wanted, "{blocked} of {blocked_wanted} were blocked");
        Ok(())
    }
}

/// The owner's policy for a cell.
fn policy(baseline: Baseline, scenario: Scenario, size: u64) -> String {
    let wallet = "[wallet]\nmax = { usd = \"25\" }\n[agents.agent]\n";
    let most = match scenario {
        Scenario::Overspend => held_of(size),
        Scenario::Normal
        | Scenario::Replay
        | Scenario::Invalid
        | Scenario::Expiry
        | Scenario::Idempotency => size,
    };
    let most = u128::from(most) * PRICE_ATOMS / 100;
    match baseline {
        Baseline::Free | Baseline::Paid => wallet.to_owned(),
        Baseline::Policy => format!(
            "{wallet}[[wallet.budgets]]\nmax = {{ usd = \"{most}\" }}\nper = \"24h\"\n\
             [[agents.agent.budgets]]\npayments = 1000000\nper = \"day\"\n"
        ),
    }
}

/// Runs one cell in a shop of its own.
pub(crate) async fn run(
    shop: &Shop,
    baseline: Baseline,
    scenario: Scenario,
    size: u64,
    agents: usize,
) -> Result<Cell> {
    let policy = policy(baseline, scenario, size);
    let (mut counts, stages) = match (baseline, scenario) {
        (Baseline::Free, _) => free(shop, scenario, size).await?,
        (_, Scenario::Normal | Scenario::Overspend) => {
            buy(shop, &policy, size, agents, false).await?
        }
        (_, Scenario::Idempotency) => buy(shop, &policy, size, agents, true).await?,
        (_, Scenario::Replay) => replay(shop, size).await?,
        (_, Scenario::Invalid) => invalid(shop, size).await?,
        (_, Scenario::Expiry) => expiry(shop, size).await?,
    };
    let (earned, delivered) = shop.earned()?;
    counts.spent_atoms = earned;
    if baseline != Baseline::Free {
        ensure!(delivered == counts.served, "{delivered} are delivered by the seller's book");
    }
    if matches!(scenario, Scenario::Normal | Scenario::Overspend | Scenario::Idempotency) {
        let spent = shop.spent()?;
        ensure!(spent == earned, "the wallet's book says {spent}, and the seller's {earned}");
    }
    Ok(Cell { counts, stages })
}

pub(crate) fn get(url: &str) -> Result<PayRequest> {
    let (fields, body) = (HeaderMap::new(), Vec::new().into());
    Ok(PayRequest { method: Method::GET, url: url.parse()?, fields, body })
}

/// What a wallet says to one purchase.
async fn bought(wallet: &Wallet, url: &str, options: &PayOptions) -> Result<bool> {
    match wallet.pay(&get(url)?, options).await {
        Ok(outcome) if outcome.status.is_success() => Ok(true),
        Ok(outcome) => bail!("{} came", outcome.status),
        Err(PayFailure::Objections(_) | PayFailure::Denied(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Agents buy side by side; twice each under one name, if they are asked to.
async fn buy(
    shop: &Shop,
    policy: &str,
    size: u64,
    agents: usize,
    twice: bool,
) -> Result<(Counts, Stages)> {
    let mut buying = Vec::new();
    for agent in 0..agents {
        let wallet = shop.wallet(agent, policy)?;
        let base = shop.url("/paid");
        let of: u64 = agent.try_into()?;
        let step: u64 = agents.try_into()?;
        buying.push(tokio::spawn(async move {
            let (mut counts, mut stages) = (Counts::default(), Stages::new());
            for at in (of..size).step_by(usize::try_from(step)?) {
                let url = format!("{base}?n={at}");
                let name = twice.then(|| at.to_string());
                let options = PayOptions { name, ..PayOptions::default() };
                counts.wished += 1;
                let began = Instant::now();
                if bought(&wallet, &url, &options).await? {
                    counts.served += 1;
                    stages.add("wallet: a payment, whole", began.elapsed())?;
                } else {
                    counts.denied += 1;
                    stages.add("wallet: a denial, whole", began.elapsed())?;
                }
                if twice {
                    let began = Instant::now();
                    let again = bought(&wallet, &url, &options).await?;
                    counts.blocked += u64::from(again);
                    stages.add("wallet: the same again", began.elapsed())?;
                }
            }
            anyhow::Ok((counts, stages))
        }));
    }
    let (mut counts, mut stages) = (Counts::default(), Stages::new());
    for one in buying {
        let (more, took) = one.await??;
        counts.wished += more.wished;
        counts.served += more.served;
        counts.denied += more.denied;
        counts.blocked += more.blocked;
        stages.join(took)?;
    }
    // What was answered again was not sold again.
    ensure!(shop.served() == counts.served, "the upstream was asked {} times", shop.served());
    Ok((counts, stages))
}

/// Nothing is asked for, so that nothing is refused.
async fn free(shop: &Shop, scenario: Scenario, size: u64) -> Result<(Counts, Stages)> {
    let (http, url, mut stages) = (Wallet::client()?, shop.url("/free"), Stages::new());
    let rounds = if scenario.is_attack() { 2 } else { 1 };
    for _ in 0..size * rounds {
        let began = Instant::now();
        let answer = http.get(&url).header("authorization", "Payment e30").send().await?;
        ensure!(answer.status().is_success(), "{} came", answer.status());
        answer.bytes().await?;
        stages.add("gateway: serve, nothing asked", began.elapsed())?;
    }
    ensure!(shop.served() == size * rounds, "the upstream was asked {} times", shop.served());
    Ok((Counts { wished: size, served: size, ..Counts::default() }, stages))
}

// --- credentials ----------------------------------------------------------------------------------

/// Somebody who asks for a price and signs for it, without a wallet.
struct Customer {
    http: reqwest::Client,
    payer: PrepaidPayer,
}

/// A credential, and the moment at which it is no good any more.
struct Signed {
    value: String,
    expires_at: farthing_money::Timestamp,
}

impl Customer {
    fn new(seed: &[u8; 32]) -> Result<Self> {
        let payer = PrepaidPayer::new(seed, Assets::from_iter([usd()?]));
        Ok(Self { http: Wallet::client()?, payer })
    }

    /// Asks what something costs, and signs.
    async fn sign(&self, url: &str, stages: &mut Stages) -> Result<Signed> {
        let began = Instant::now();
        let asked = self.http.get(url).send().await?;
        ensure!(asked.status().as_u16() == 402, "{} came", asked.status());
        let invitation = MppBuyer.read_offers(asked.headers()).pop().context("an offer")?;
        asked.bytes().await?;
        stages.add("gateway: challenge", began.elapsed())?;
        let began = Instant::now();
        let paid = self.payer.pay(&invitation).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        let written = MppBuyer.write_credential(&invitation, &paid);
        let (_, value) = written.map_err(|error| anyhow::anyhow!("{error}"))?;
        stages.add("buyer: sign", began.elapsed())?;
        let expires_at = invitation.expires_at.context("an offer that expires")?;
        Ok(Signed { value: value.to_str()?.to_owned(), expires_at })
    }

    /// Presents a credential: the status, and whether an answer came that is sold.
    async fn present(&self, url: &str, value: &str) -> Result<(u16, bool)> {
        let answer = self.http.get(url).header("authorization", value).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await?.as_ref() == b"sunny\n"))
    }

    /// The control: an honest payment.
    async fn honest(&self, url: &str, stages: &mut Stages) -> Result<Signed> {
        let signed = self.sign(url, stages).await?;
        let began = Instant::now();
        let (status, is_sold) = self.present(url, &signed.value).await?;
        ensure!(status == 200 && is_sold, "an honest payment is answered with {status}");
        stages.add("gateway: verify, settle, serve", began.elapsed())?;
        Ok(signed)
    }
}

/// One of ten is honest, and at least four: the controls of a rejection.
fn controls(size: u64) -> u64 {
    (size / 10).max(4)
}

async fn replay(shop: &Shop, size: u64) -> Result<(Counts, Stages)> {
    let (customer, mut stages) = (Customer::new(&SEED)?, Stages::new());
    let mut blocked = 0;
    for at in 0..size {
        let url = format!("{}?n={at}", shop.url("/paid"));
        let signed = customer.honest(&url, &mut stages).await?;
        let before = shop.served();
        let began = Instant::now();
        if at % 2 == 0 {
            let (status, is_sold) = customer.present(&shop.url("/other"), &signed.value).await?;
            blocked += u64::from(status == 402 && !is_sold && shop.served() == before);
        } else {
            // The same answer is given again, and nothing is sold.
            let (status, _) = customer.present(&url, &signed.value).await?;
            blocked += u64::from((status == 200 || status == 402) && shop.served() == before);
        }
        stages.add("gateway: a replay, refused", began.elapsed())?;
    }
    Ok((Counts { wished: size, served: size, blocked, ..Counts::default() }, stages))
}

/// A credential that was never good, one way or another.
fn forged(at: u64, good: &str, strangers: &str) -> Result<String> {
    let token = good.strip_prefix("Payment ").context("a credential")?;
    let mut value: Value = serde_json::from_slice(&base64url::decode(token)?)?;
    match at % 5 {
        // Somebody who has no account.
        0 => return Ok(strangers.to_owned()),
        1 => {
            let signature = value.pointer_mut("/payload/signature").context("a signature")?;
            let text = signature.as_str().context("text")?;
            let first = if text.starts_with('A') { "B" } else { "A" };
            *signature = format!("{first}{}", text.get(1..).unwrap_or_default()).into();
        }
        // For a lower price.
        2 => {
            let request = value.pointer_mut("/challenge/request").context("a request")?;
            let text = base64url::decode(request.as_str().context("text")?)?;
            let text = String::from_utf8(text)?.replace("\"2500\"", "\"1\"");
            *request = base64url::encode(text).into();
        }
        // In another's name.
        3 => {
            let token = strangers.strip_prefix("Payment ").context("a credential")?;
            let other: Value = serde_json::from_slice(&base64url::decode(token)?)?;
            value["source"] = other["source"].clone();
        }
        _ => return Ok(format!("Payment {}", base64url::encode(at.to_string()))),
    }
    Ok(format!("Payment {}", base64url::encode(value.to_string())))
}

async fn invalid(shop: &Shop, size: u64) -> Result<(Counts, Stages)> {
    let (customer, mut stages) = (Customer::new(&SEED)?, Stages::new());
    let stranger = Customer::new(&STRANGER)?;
    let url = shop.url("/paid");
    let honest = controls(size);
    for at in 0..honest {
        customer.honest(&format!("{url}?n={at}"), &mut stages).await?;
    }
    let mut blocked = 0;
    for at in 0..size {
        let url = format!("{url}?forged={at}");
        let good = customer.sign(&url, &mut stages).await?.value;
        let strangers = stranger.sign(&url, &mut stages).await?.value;
        let value = forged(at, &good, &strangers)?;
        ensure!(value != good, "nothing was forged");
        let began = Instant::now();
        let (status, is_sold) = customer.present(&url, &value).await?;
        stages.add("gateway: an invalid one, refused", began.elapsed())?;
        blocked += u64::from(matches!(status, 400..=402) && !is_sold);
    }
    ensure!(shop.served() == honest, "the upstream was asked {} times", shop.served());
    Ok((Counts { wished: honest, served: honest, blocked, ..Counts::default() }, stages))
}

async fn expiry(shop: &Shop, size: u64) -> Result<(Counts, Stages)> {
    let (customer, mut stages) = (Customer::new(&SEED)?, Stages::new());
    let (url, honest) = (shop.url("/short"), controls(size));
    for at in 0..honest {
        customer.honest(&format!("{url}?n={at}"), &mut stages).await?;
    }
    let mut late = Vec::new();
    for at in 0..size {
        let url = format!("{url}?late={at}");
        let signed = customer.sign(&url, &mut stages).await?;
        late.push((url, signed));
    }
    let last = late.iter().map(|(_, signed)| signed.expires_at).max().unwrap_or_default();
    while SystemClock.now() <= last {
        tokio::time::sleep(SHORT / 10).await;
    }
    let mut blocked = 0;
    for (url, signed) in late {
        let began = Instant::now();
        let (status, is_sold) = customer.present(&url, &signed.value).await?;
        stages.add("gateway: an expired one, refused", began.elapsed())?;
        blocked += u64::from(status == 402 && !is_sold);
    }
    ensure!(shop.served() == honest, "the upstream was asked {} times", shop.served());
    Ok((Counts { wished: honest, served: honest, blocked, ..Counts::default() }, stages))
}

// --- beside the six -------------------------------------------------------------------------------

/// Many agents at once on one budget that holds `most` purchases: each asks for one.
pub(crate) async fn shared(shop: &Shop, agents: usize, most: u64) -> Result<Counts> {
    let dollars = u128::from(most) * PRICE_ATOMS / 100;
    let policy = format!(
        "[wallet]\nmax = {{ usd = \"25\" }}\n[agents.agent]\n\
         [[wallet.budgets]]\nmax = {{ usd = \"{dollars}\" }}\nper = \"24h\"\n"
    );
    let size: u64 = agents.try_into()?;
    let (mut counts, _) = buy(shop, &policy, size, agents, false).await?;
    counts.spent_atoms = shop.earned()?.0;
    ensure!(shop.spent()? == counts.spent_atoms, "the two books disagree");
    Ok(counts)
}

/// How well a policy tells what runs away from what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labelled {
    pub(crate) wanted_served: u64,
    pub(crate) wanted_denied: u64,
    pub(crate) runaway_served: u64,
    pub(crate) runaway_denied: u64,
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted_served, wanted_denied, runaway_served, runaway_denied } = *self;
        let share = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
        write!(
            f,
            "\nlabelled: of {} purchases that are wanted {wanted_denied} were denied ({:.1} %); of {} that run \
             away {runaway_denied} were (recall {:.1} %, precision {:.1} %)",
            wanted_served + wanted_denied,
            share(wanted_denied, wanted_served + wanted_denied),
            runaway_served + runaway_denied,
            share(runaway_denied, runaway_served + runaway_denied),
            share(runaway_denied, runaway_denied + wanted_denied),
        )
    }
}

/// Seven of ten purchases are wanted and each another; three are the same few again and again. The policy knows
/// no labels: it allows two of the same in an hour, and three quarters of everything in a day.
pub(crate) async fn labelled(shop: &Shop) -> Result<Labelled> {
    let dollars = u128::from(LABELLED * 3 / 4) * PRICE_ATOMS / 100;
    let policy = format!(
        "[wallet]\nmax = {{ usd = \"25\" }}\n[agents.agent]\n\
         [[wallet.budgets]]\nmax = {{ usd = \"{dollars}\" }}\nper = \"day\"\n\
         [[wallet.budgets]]\npayments = 2\nper = \"1h\"\neach = \"request\"\n"
    );
    let wallet = shop.wallet(0, &policy)?;
    let mut labelled = Labelled::default();
    for at in 0..LABELLED {
        // Spread evenly, in an order that is always the same.
        let runs_away = at * 3 % 10 < 3;
        let url = if runs_away {
            format!("{}?again={}", shop.url("/paid"), at % RUNAWAYS)
        } else {
            format!("{}?n={at}", shop.url("/paid"))
        };
        let is_served = bought(&wallet, &url, &PayOptions::default()).await?;
        let count = match (runs_away, is_served) {
            (false, true) => &mut labelled.wanted_served,
            (false, false) => &mut labelled.wanted_denied,
            (true, true) => &mut labelled.runaway_served,
            (true, false) => &mut labelled.runaway_denied,
        };
        *count += 1;
    }
    Ok(labelled)
}

/// Only the decision and the reservation, as the wallet makes them: the policy, and one durable claim that holds the
/// price in every budget.
pub(crate) async fn reserve(folder: &Path, in_flight: usize) -> Result<Stages> {
    let assets = Assets::from_iter([usd()?]);
    let policy =
        Policy::parse(&policy(Baseline::Policy, Scenario::Normal, 1_000_000), &[], &assets)?;
    let policy = Arc::new(policy);
    let folder = tempfile::tempdir_in(folder)?;
    let book = folder.path().join("book.db");
    let store = Arc::new(SqliteStore::open(&book, Options::default(), SystemClock.now())?);
    let (stage, decision) = match in_flight {
        1 => ("decide and reserve, 1 at once", "decide"),
        _ => ("decide and reserve, 64 at once", "decide, 64 at once"),
    };
    let mut tasks = Vec::new();
    for task in 0..in_flight {
        let (policy, store) = (Arc::clone(&policy), Arc::clone(&store));
        tasks.push(tokio::spawn(async move {
            let mut stages = Stages::new();
            for at in (task..RESERVED).step_by(in_flight) {
                let request =
                    farthing_testkit::store::rail_purchase(&format!("{task} {at}"), PRICE_ATOMS);
                let began = Instant::now();
                let facts = facts(at)?;
                let decision_made = policy.decide(&facts);
                ensure!(decision_made.verdict == Verdict::Allow, "{decision_made:?}");
                stages.add(decision, began.elapsed())?;
                let text = serde_json::to_string(&facts)?;
                let mut request = request;
                request.payment.decision = Some(Box::new(Decided {
                    agent: facts.agent.clone(),
                    ruling: Ruling::Allowed,
                    policy: decision_made.policy.version.clone(),
                    policy_sha256: decision_made.policy.sha256.clone(),
                    digest: Decided::digest_of(&text),
                    facts: text.into(),
                    rules: decision_made.reasons.into_iter().map(|it| it.rule).collect(),
                    draws: decision_made.draws,
                    approval: None,
                    draft: None,
                }));
                let claimed = store.claim(request, SystemClock.now()).await;
                ensure!(matches!(claimed, Ok(Claim::Fresh)), "{claimed:?}");
                stages.add(stage, began.elapsed())?;
            }
            anyhow::Ok(stages)
        }));
    }
    let mut stages = Stages::new();
    for task in tasks {
        stages.join(task.await??)?;
    }
    Ok(stages)
}

fn facts(at: usize) -> Result<Facts> {
    Ok(Facts {
        agent: "agent".to_owned(),
        task: None,
        operation: "pay".to_owned(),
        origin: "http://127.0.0.1".to_owned(),
        method: "GET".to_owned(),
        path: "/paid".to_owned(),
        tool: None,
        category: None,
        rail: "prepaid".to_owned(),
        network: None,
        asset: "usd".parse()?,
        atoms: PRICE_ATOMS,
        recipient: "forecasts-inc".to_owned(),
        identity: None,
        known_identity: None,
        known_recipient: Some("forecasts-inc".to_owned()),
        known_atoms: Some(PRICE_ATOMS),
        before_atoms: None,
        purses: Vec::new(),
        intent: at.to_string(),
        at: SystemClock.now(),
    })
}
