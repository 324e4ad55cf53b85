//! A rail with a dial for every failure.
//!
//! Anybody pays on it with a token of their own making, and a [`Dial`] decides what the rail says:
//! settled, declined, not sent, or nothing at all. It keeps its own account of the money it moved,
//! so that a test can compare it with the books. It is for tests and demos and moves no real money.
//!
//! Where the program that sells is to die and the money is not, the account is kept by a [`teller`] in
//! another process, and the rail asks it.
//!
//! **Architecture invariant:** passes the rail suite of the testkit; a behaviour that is not in the
//! suite is not relied upon.

pub mod teller;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_core::{
    BoxFuture, Evidence, Held, Invitation, NoRefund, Object, Paid, PayError, Payer, Presented,
    Price, Rail, RailRules, Refunds, Rejection, SettleError, Settled, Unpayable, Unquotable,
};
use farthing_ledger::{
    Account, AccountKind, Fingerprint, Holder, Money, Payment, PaymentId, Proof, Refund, RefundId,
    Source,
};
use farthing_money::{Amount, AssetId, Assets, Timestamp, parse_atoms};
use serde_json::Value;
use tokio::sync::Semaphore;

/// The payment method.
const METHOD: &str = "test";

/// What counts as what, as far as a test rail has money at all.
const RULES: RailRules = RailRules {
    authorised: "a token that was never seen before",
    settled: "the rail's answer",
    reversed: "by a refund on the rail",
    reference: "the payment's id",
    holds: false,
    refunds: Refunds::Rail,
    recheck_after: None,
};

/// The same where somebody else keeps the account: what it has said is held against what it says later.
const TELLERS_RULES: RailRules = RailRules { recheck_after: Some(Duration::ZERO), ..RULES };

/// What the rail says to the next settlements and refunds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// The money moved.
    #[default]
    Settled,
    /// The rail said no, for good.
    Declined,
    /// The request never left.
    Unsent,
    /// The money moved, and the answer was lost.
    MovedUnknown,
    /// The money did not move, and the answer was lost.
    StuckUnknown,
    /// The money did not move, and the rail says it did; asked later, it says the truth.
    Lies,
}

/// Turns what the rail does. Clones turn the same rail.
#[derive(Clone, Debug)]
pub struct Dial {
    state: Arc<Mutex<State>>,
    /// Before the money moves.
    gate: Arc<Semaphore>,
    /// Before it is said.
    exit: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    answer: Answer,
    moved: BTreeMap<PaymentId, Amount>,
    arrived: u64,
    settlements: u64,
    given_back: BTreeMap<RefundId, Amount>,
}

impl Default for Dial {
    fn default() -> Self {
        let open = || Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { state: Arc::default(), gate: open(), exit: open() }
    }
}

impl Dial {
    /// Sets what the rail says from now on.
    pub fn set(&self, answer: Answer) {
        self.state().answer = answer;
    }

    /// Holds every settlement until [`Dial::release`].
    pub fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets `count` settlements through that [`Dial::hold`] holds.
    pub fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Holds the answer of every settlement, after its money has moved, until [`Dial::open`].
    pub fn hold_answers(&self) {
        self.exit.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Holds nothing any more.
    pub fn open(&self) {
        for held in [&self.gate, &self.exit] {
            held.add_permits(Semaphore::MAX_PERMITS.saturating_sub(held.available_permits()));
        }
    }

    /// How much money the rail has moved, payment by payment.
    #[must_use]
    pub fn moved(&self) -> BTreeMap<PaymentId, Amount> {
        self.state().moved.clone()
    }

    /// How much money the rail has given back, refund by refund.
    #[must_use]
    pub fn given_back(&self) -> BTreeMap<RefundId, Amount> {
        self.state().given_back.clone()
    }

    /// How many settlements have arrived, those that are held included.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.state().arrived
    }

    /// How often the rail was asked to move money, and decided.
    #[must_use]
    pub fn settlements(&self) -> u64 {
        self.state().settlements
    }

    /// Moves the money of a payment, or does what the dial says instead.
    async fn settle(&self, payment: PaymentId, amount: Amount) -> Result<Settled, SettleError> {
        {
            let mut state = self.state();
            state.arrived = state.arrived.saturating_add(1);
        }
        pass(&self.gate).await;
        let decided = self.decide(payment, amount);
        pass(&self.exit).await;
        decided
    }

    fn decide(&self, payment: PaymentId, amount: Amount) -> Result<Settled, SettleError> {
        let mut state = self.state();
        state.settlements = state.settlements.saturating_add(1);
        let settled = settled(payment);
        // Asked again, the rail keeps to what it did.
        if state.moved.contains_key(&payment) {
            return Ok(settled);
        }
        match state.answer {
            Answer::Settled => drop(state.moved.insert(payment, amount)),
            Answer::Lies => {}
            Answer::Declined => return Err(SettleError::Declined),
            Answer::Unsent => return Err(SettleError::Unsent),
            Answer::StuckUnknown => return Err(SettleError::Unknown),
            Answer::MovedUnknown => {
                state.moved.insert(payment, amount);
                return Err(SettleError::Unknown);
            }
        }
        Ok(settled)
    }

    /// Says what became of a payment.
    fn inquire(&self, payment: PaymentId) -> Result<Settled, SettleError> {
        let state = self.state();
        match state.answer {
            _ if state.moved.contains_key(&payment) => Ok(settled(payment)),
            Answer::Declined | Answer::Lies => Err(SettleError::Declined),
            Answer::Settled | Answer::Unsent => Err(SettleError::Unsent),
            Answer::StuckUnknown | Answer::MovedUnknown => Err(SettleError::Unknown),
        }
    }

    /// Moves money back, or does what the dial says instead.
    fn refund(&self, refund: RefundId, amount: Amount) -> Result<Settled, SettleError> {
        let mut state = self.state();
        let settled = given_back(refund);
        // Sent again, the rail keeps to what it did.
        if state.given_back.contains_key(&refund) {
            return Ok(settled);
        }
        match state.answer {
            Answer::Settled => drop(state.given_back.insert(refund, amount)),
            Answer::Lies => {}
            Answer::Declined => return Err(SettleError::Declined),
            Answer::Unsent => return Err(SettleError::Unsent),
            Answer::StuckUnknown => return Err(SettleError::Unknown),
            Answer::MovedUnknown => {
                state.given_back.insert(refund, amount);
                return Err(SettleError::Unknown);
            }
        }
        Ok(settled)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a gate lets one more through.
async fn pass(gate: &Semaphore) {
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
}

/// The rail's word on a payment whose money moved.
fn settled(payment: PaymentId) -> Settled {
    Settled::new(format!("test-{payment}"))
}

/// The rail's word on a refund whose money moved.
fn given_back(refund: RefundId) -> Settled {
    Settled::new(format!("test-{refund}"))
}

/// The seller's side.
#[derive(Clone, Debug)]
pub struct TestRail {
    assets: Assets,
    account: Kept,
}

/// Who keeps the account of the money that was moved.
#[derive(Clone, Debug)]
enum Kept {
    /// This process.
    Here(Dial),
    /// A teller.
    At(SocketAddr),
}

impl TestRail {
    /// A rail that carries `assets` and does what `dial` says.
    #[must_use]
    pub const fn new(assets: Assets, dial: Dial) -> Self {
        Self { assets, account: Kept::Here(dial) }
    }

    /// A rail that carries `assets` and asks the teller at `address`.
    #[must_use]
    pub const fn at(assets: Assets, address: SocketAddr) -> Self {
        Self { assets, account: Kept::At(address) }
    }
}

impl Rail for TestRail {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn rules(&self) -> &'static RailRules {
        match self.account {
            Kept::Here(_) => &RULES,
            Kept::At(_) => &TELLERS_RULES,
        }
    }

    fn quote(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable> {
        let asset = self.assets.get(amount.asset()).ok_or(Unquotable::Asset)?;
        if amount.is_zero() {
            return Err(Unquotable::Amount);
        }
        let mut request = Object::new();
        request.insert("amount".into(), amount.atoms().to_string().into());
        request.insert("currency".into(), asset.id().as_str().into());
        request.insert("recipient".into(), payee.as_str().into());
        Ok(request)
    }

    fn check(&self, presented: &Presented, _now: Timestamp) -> Result<Evidence, Rejection> {
        if presented.intent != "charge" {
            return Err(Rejection::Unsupported);
        }
        let (amount, recipient) =
            terms(&presented.request, &self.assets).map_err(|_| Rejection::Foreign)?;
        let text = |name| presented.payload.get(name).and_then(Value::as_str);
        let token = text("token").filter(|token| !token.is_empty()).ok_or(Rejection::Malformed)?;
        let paid = text("amount").ok_or(Rejection::Malformed)?;
        let paid = parse_atoms(paid).map_err(|_| Rejection::Malformed)?;
        let signed = [presented.challenge.as_str(), recipient.as_str(), &presented.realm, token];
        if text("seal") != Some(seal(&signed, &amount, paid).as_str()) {
            return Err(Rejection::Invalid);
        }
        if paid < amount.atoms() {
            return Err(Rejection::Insufficient);
        }
        let clearing = Holder::new(METHOD).map_err(|_| Rejection::Foreign)?;
        let from = Account::new(AccountKind::Clearing, clearing, amount.asset().clone());
        Ok(Evidence {
            payer: presented.source.clone().unwrap_or_else(|| "anonymous".to_owned()),
            payee: recipient,
            amount,
            shares: Vec::new(),
            from: Source::Account(from),
            proofs: vec![Proof {
                fingerprint: Fingerprint::of("test token", &[token.as_bytes()]),
                keep_until: None,
            }],
            money: Money::Rail,
            // A teller needs no more than the payment's id; that there is something says whom to ask.
            inquiry: match self.account {
                Kept::Here(_) => None,
                Kept::At(_) => Some("by its id".into()),
            },
        })
    }

    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let (payment, amount) = (held.key(), held.payment().amount.clone());
        Box::pin(async move {
            match &self.account {
                Kept::Here(dial) => dial.settle(payment, amount).await,
                Kept::At(address) => teller::settle(*address, payment, &amount).await,
            }
        })
    }

    fn inquire<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async {
            match &self.account {
                Kept::Here(dial) => dial.inquire(payment.id),
                Kept::At(address) => teller::inquire(*address, payment.id).await,
            }
        })
    }

    fn prepare_refund<'a>(
        &'a self,
        refund: &'a Refund,
    ) -> BoxFuture<'a, Result<Box<str>, NoRefund>> {
        Box::pin(async { Ok(refund.id.to_string().into()) })
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async {
            match &self.account {
                Kept::Here(dial) => dial.refund(refund.id, refund.amount.clone()),
                Kept::At(address) => teller::refund(*address, refund.id, &refund.amount).await,
            }
        })
    }
}

/// The buyer's side: makes a new token for every payment.
#[derive(Debug)]
pub struct TestPayer {
    assets: Assets,
    name: String,
    next: AtomicU64,
}

impl TestPayer {
    /// A payer called `name`; two payers of one name make the same tokens.
    #[must_use]
    pub fn new(name: &str, assets: Assets) -> Self {
        Self { assets, name: name.to_owned(), next: AtomicU64::new(0) }
    }
}

impl Payer for TestPayer {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn account(&self) -> String {
        self.name.clone()
    }

    fn price(&self, invitation: &Invitation) -> Result<Price, Unpayable> {
        if invitation.method != METHOD || invitation.intent != "charge" {
            return Err(Unpayable::Method);
        }
        let (amount, recipient) = terms(&invitation.request, &self.assets)?;
        Ok(Price { amount, recipient: recipient.to_string(), shares: Vec::new() })
    }

    fn pay<'a>(&'a self, invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async {
            let price = self.price(invitation)?;
            let token = format!("{}-{}", self.name, self.next.fetch_add(1, Ordering::Relaxed));
            let signed =
                [invitation.challenge.as_str(), &price.recipient, &invitation.realm, &token];
            let atoms = price.amount.atoms();
            let mut payload = Object::new();
            payload.insert("seal".into(), seal(&signed, &price.amount, atoms).into());
            payload.insert("amount".into(), atoms.to_string().into());
            payload.insert("token".into(), token.into());
            Ok(Paid { payload, source: Some(self.name.clone()), keepsake: None })
        })
    }
}

fn terms(request: &Object, assets: &Assets) -> Result<(Amount, Holder), Unpayable> {
    let text = |name| request.get(name).and_then(Value::as_str).ok_or(Unpayable::Malformed);
    let atoms = parse_atoms(text("amount")?).map_err(|_| Unpayable::Malformed)?;
    let id = AssetId::new(text("currency")?).map_err(|_| Unpayable::Asset)?;
    let asset = assets.get(&id).ok_or(Unpayable::Asset)?;
    let recipient = Holder::new(text("recipient")?).map_err(|_| Unpayable::Malformed)?;
    if atoms == 0 {
        return Err(Unpayable::Malformed);
    }
    Ok((asset.atoms(atoms), recipient))
}

/// Stands in for a signature: anybody can make one, and only for exactly these parts.
fn seal(parts: &[&str; 4], price: &Amount, paid: u128) -> String {
    let [challenge, recipient, realm, token] = parts.map(str::as_bytes);
    let price_atoms = price.atoms().to_be_bytes();
    let asset = price.asset().as_str().as_bytes();
    let paid = paid.to_be_bytes();
    let parts = [challenge, recipient, realm, token, asset, &price_atoms, &paid];
    Fingerprint::of("test seal", &parts).to_string()
}
