//! The wallet under its owner's rules, everybody who asks it to pay, and what becomes of what it signed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{
    Account, AccountKind, Approval, Book, Claim, ClaimError, ClaimRequest, Decided, Entry,
    Fingerprint, Holder, Leg, Money, Outcome, OwnerStep, Payment, PaymentId, Proof, Record, Ruling,
    Settlement, Snapshot, Source, Terms, TraceId, VoidReason, Window,
};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_policy::{Decision, Facts, Policy, Verdict};

use crate::disk::{Disk, Line};
use crate::owner::auditor::Auditor;
use crate::owner::rules::{
    AGENTS, ASSETS, RECIPIENTS, Rules, SELLERS, TASKS, THINGS, agent_name, assets, task_name,
    tasks_of,
};
use crate::owner::{OwnerInvariant, OwnerPlan, OwnerPlanted, OwnerRun};
use crate::random::Random;
use crate::sim::START;

/// What breaks an invariant.
pub(crate) type Broken = (OwnerInvariant, String);

/// How long an approval lasts.
const APPROVAL_LASTS: Duration = Duration::from_hours(1);

/// How long a proof is kept.
const PROOF_LASTS: Duration = Duration::from_mins(10);

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wish {
    pub(crate) agent: usize,
    pub(crate) task: Option<usize>,
    pub(crate) kind: Kind,
    pub(crate) seller: usize,
    pub(crate) recipient: usize,
    pub(crate) thing: usize,
    pub(crate) asset: usize,
    pub(crate) atoms: u128,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pay,
    Deposit,
    /// A purchase from the deposit with this number.
    Call(u64),
}

/// What became of something that was signed, as it is true outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was never signed.
    Unsigned,
    /// Nobody knows yet; it will be this.
    Unknown { moves: bool },
    /// It moved, or, for a deposit, was made.
    Moved,
    /// It came to nothing.
    Nothing,
}

/// One payment, as it is true outside.
#[derive(Clone, Debug)]
pub(crate) struct Deal {
    pub(crate) wish: Wish,
    pub(crate) fate: Fate,
    /// The deposit that it is.
    pub(crate) deposit: Option<u64>,
}

/// A deposit, as the wallet remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Deposit {
    pub(crate) payment: PaymentId,
    pub(crate) by: Wish,
    pub(crate) purses: BTreeSet<String>,
    pub(crate) spent: u128,
    is_open: bool,
}

/// Everything that is true outside of the book.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) deals: BTreeMap<PaymentId, Deal>,
    pub(crate) deposits: BTreeMap<u64, Deposit>,
    /// How many decisions somebody was told of, by their ruling.
    pub(crate) decided: BTreeMap<&'static str, u64>,
}

/// Something that was decided and is on its way to the book.
struct Flight {
    wish: Wish,
    decided: Decided,
    decision: Decision,
    proof: Option<Proof>,
    purses: BTreeSet<String>,
}

/// What is told once the commit is on the disk.
enum Ack {
    Claimed(PaymentId),
    Decided(&'static str),
}

/// An answer of the owner to something that had to be asked for.
struct Asked {
    id: String,
    until: Timestamp,
    is_used: bool,
}

/// The simulation.
pub(crate) struct World {
    random: Random,
    planted: Option<OwnerPlanted>,
    policy: Policy,
    now: Timestamp,
    disk: Disk,
    book: Book,
    auditor: Auditor,
    truth: Truth,
    asked: BTreeMap<Wish, Asked>,
    /// What was asked for lately, and will be asked for again.
    again: Vec<Wish>,
    frozen: BTreeSet<Option<String>>,
    flights: Vec<Flight>,
    lines: Vec<Line>,
    acks: Vec<Ack>,
    /// What was let go last, for a bug that lets go of it again.
    let_go: Option<PaymentId>,
    serial: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn rebuilt(what: impl std::fmt::Display) -> Broken {
    (OwnerInvariant::Rebuilt, what.to_string())
}

impl World {
    pub(crate) fn new(plan: &OwnerPlan) -> Result<Self, Broken> {
        let mut random = Random::new(plan.seed);
        let rules = Rules::draw(&mut random);
        let text = rules.text();
        let policy = Policy::parse(&text, &[], &assets())
            .map_err(|error| rebuilt(format!("{error}\n{text}")))?;
        let mut world = Self {
            random,
            planted: plan.planted,
            auditor: Auditor::new(rules),
            policy,
            now: START,
            disk: Disk::default(),
            book: Book::default(),
            truth: Truth::default(),
            asked: BTreeMap::new(),
            again: Vec::new(),
            frozen: BTreeSet::new(),
            flights: Vec::new(),
            lines: Vec::new(),
            acks: Vec::new(),
            let_go: None,
            serial: 0,
            counts: BTreeMap::new(),
        };
        let opened = world.book.open(world.now);
        world.write(Some(opened));
        world.sync()?;
        Ok(world)
    }

    fn is_planted(&self, planted: OwnerPlanted) -> bool {
        self.planted == Some(planted)
    }

    fn count(&mut self, what: &'static str) {
        let count = self.counts.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    fn write(&mut self, record: Option<Record>) {
        self.lines.extend(record.map(Line::Record));
    }

    fn serial(&mut self) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    fn pick(&mut self, of: usize) -> usize {
        self.random.place(of)
    }

    /// Agents ask and things go wrong, until so many decisions were made.
    pub(crate) fn live(&mut self, decisions: u64) -> Result<(), Broken> {
        let mut made = 0_u64;
        while made < decisions {
            let span = Duration::from_micros(self.random.below(200_000));
            self.now = self.now.after(span);
            match self.random.below(1_000) {
                0..=6 => self.crash()?,
                7..=8 => self.midnight(),
                9..=16 => self.freeze(),
                17..=46 => self.close_a_deposit(),
                47..=96 => self.learn_an_outcome(),
                97..=246 => self.sync()?,
                247..=620 => self.claim_one()?,
                _ => {
                    made = made.saturating_add(1);
                    self.decide_one();
                }
            }
            if self.random.chance(20) {
                let snapshot = Box::new(self.book.snapshot());
                self.lines.push(Line::Snapshot(snapshot, self.now));
            }
        }
        Ok(())
    }

    /// Everything is well from now on: what is under way ends, and every outcome becomes known.
    pub(crate) fn rest(&mut self) -> Result<(), Broken> {
        while !self.flights.is_empty() {
            self.claim_one()?;
        }
        self.sync()?;
        for fate in self.truth.deals.values_mut().map(|deal| &mut deal.fate) {
            if let Fate::Unknown { moves } = *fate {
                *fate = if moves { Fate::Moved } else { Fate::Nothing };
            }
        }
        let open: Vec<u64> = self.truth.deposits.keys().copied().collect();
        for deposit in open {
            self.close(deposit);
        }
        let deals: Vec<PaymentId> = self.truth.deals.keys().copied().collect();
        for payment in deals {
            self.finish(payment);
        }
        self.sync()?;
        self.auditor.at_rest(&self.truth, self.now)?;
        let records = &self.disk.image.records;
        farthing_ledger::audit(records).map_err(|error| rebuilt(format!("{error:?}")))?;
        let whole = self.disk.image.whole().map_err(rebuilt)?;
        match self.book.snapshot().difference(&whole.snapshot()) {
            None => Ok(()),
            Some(part) => Err(rebuilt(format!("{part:?} is not what the journal makes"))),
        }
    }

    pub(crate) fn end(mut self) -> OwnerRun {
        self.counts.insert("records", u64::try_from(self.disk.image.records.len()).unwrap_or(0));
        OwnerRun { counts: self.counts, digest: Some(self.disk.digest()) }
    }

    // --- deciding -----------------------------------------------------------------------------

    fn wish(&mut self) -> Wish {
        if !self.again.is_empty() && self.random.chance(2_500) {
            let at = self.pick(self.again.len());
            let is_enough = self.random.chance(4_000);
            let again = self.again.get(at).copied();
            if is_enough {
                self.again.swap_remove(at);
            }
            if let Some(again) = again.filter(|it| !matches!(it.kind, Kind::Call(_))) {
                return again;
            }
        }
        let agent = self.pick(AGENTS);
        let task = (tasks_of(agent) > 0).then(|| self.pick(TASKS));
        let seller = self.pick(SELLERS);
        let is_dust = agent == 0 && task == Some(TASKS.saturating_sub(1));
        let (asset, atoms) = if is_dust {
            // A half more than so many billionths.
            let billionths = u128::from(self.random.between(1, 5));
            (2, billionths.saturating_mul(1_000_000_000).saturating_add(500_000_000))
        } else {
            let dear = self.random.chance(1_500);
            let (low, high) = if dear { (58, 60) } else { (1, 45) };
            (self.pick(2), u128::from(self.random.between(low, high)))
        };
        let wish = Wish {
            agent,
            task,
            kind: Kind::Pay,
            seller,
            recipient: self.pick(RECIPIENTS),
            thing: self.pick(THINGS),
            asset,
            atoms,
        };
        if is_dust {
            return wish;
        }
        match self.random.below(10) {
            0 => Wish {
                kind: Kind::Deposit,
                atoms: u128::from(self.random.between(100, 400)),
                ..wish
            },
            1..=4 => self.call(wish).unwrap_or(wish),
            _ => wish,
        }
    }

    /// The same bought from a deposit, where there is one that whoever asks may spend.
    fn call(&mut self, wish: Wish) -> Option<Wish> {
        let anybody = self.is_planted(OwnerPlanted::SpendsOthersDeposits);
        let purses = self.policy.purses(&self.facts(&wish, &BTreeSet::new()));
        let may = |deposit: &Deposit| {
            let by = &deposit.by;
            let is_own = (by.agent, by.task) == (wish.agent, wish.task);
            let left = by.atoms.saturating_sub(deposit.spent);
            // Whom a session pays is part of it, as is in what.
            let purses_there = by.seller == wish.seller && by.recipient == wish.recipient;
            deposit.is_open
                && left >= wish.atoms
                && by.asset == wish.asset
                && purses_there
                && (is_own || anybody || deposit.purses == purses)
        };
        let found = self.truth.deposits.iter().find(|(_, deposit)| may(deposit))?;
        Some(Wish { kind: Kind::Call(*found.0), ..wish })
    }

    fn facts(&self, wish: &Wish, purses: &BTreeSet<String>) -> Facts {
        let (asset, ..) = ASSETS.get(wish.asset).copied().unwrap_or_default();
        let operation = match wish.kind {
            Kind::Pay => "pay",
            Kind::Deposit => "deposit",
            Kind::Call(_) => "call",
        };
        let recipient = format!("recipient{}", wish.recipient);
        Facts {
            agent: agent_name(wish.agent),
            task: wish.task.map(task_name),
            operation: operation.to_owned(),
            origin: format!("https://seller{}.example", wish.seller),
            method: "GET".to_owned(),
            path: format!("/thing{}", wish.thing),
            tool: None,
            category: None,
            rail: "test".to_owned(),
            network: None,
            asset: asset_id(asset),
            atoms: wish.atoms,
            known_recipient: Some(recipient.clone()),
            recipient,
            identity: None,
            known_identity: None,
            known_atoms: None,
            before_atoms: None,
            purses: purses.iter().cloned().collect(),
            intent: format!("thing{} of seller{}", wish.thing, wish.seller),
            at: self.now,
        }
    }

    /// Somebody asks to pay, and the policy decides. What is allowed is claimed later, and others come first.
    fn decide_one(&mut self) {
        let wish = self.wish();
        let deposit = match wish.kind {
            Kind::Call(deposit) => self.truth.deposits.get(&deposit),
            Kind::Pay | Kind::Deposit => None,
        };
        let mut purses = deposit.map(|it| it.purses.clone()).unwrap_or_default();
        if self.is_planted(OwnerPlanted::CountsTwice) {
            purses.clear();
        }
        let facts = self.facts(&wish, &purses);
        let decision = self.policy.decide(&facts);
        let text = serde_json::to_string(&facts).unwrap_or_default();
        let mut decided = Decided {
            agent: facts.agent.clone(),
            ruling: Ruling::Allowed,
            policy: decision.policy.version.clone(),
            policy_sha256: decision.policy.sha256.clone(),
            digest: Decided::digest_of(&text),
            facts: text.into(),
            rules: decision.reasons.iter().map(|reason| reason.rule.clone()).collect(),
            draws: decision.draws.clone(),
            approval: None,
            draft: None,
        };
        let mut proof = None;
        match decision.verdict {
            Verdict::Deny => {
                decided.ruling = Ruling::Denied;
                return self.write_down(decided, "denied");
            }
            Verdict::Ask if self.is_planted(OwnerPlanted::AsksNobody) => {}
            Verdict::Ask => {
                let (now, serial) = (self.now, self.serial());
                let known = self.asked.get(&wish).filter(|it| !it.is_used && it.until > now);
                let Some(known) = known else {
                    let id = format!("apr_{serial}");
                    let until = now.after(APPROVAL_LASTS);
                    self.asked.insert(wish, Asked { id, until, is_used: false });
                    self.again.push(wish);
                    decided.ruling = Ruling::Asked;
                    return self.write_down(decided, "asked");
                };
                let fingerprint = Fingerprint::of("approval", &[known.id.as_bytes()]);
                proof = Some(Proof { fingerprint, keep_until: Some(known.until) });
                let (id, by) = (known.id.clone(), vec!["owner".to_owned()]);
                decided.approval = Some(Approval { id, by, at: now });
            }
            Verdict::Allow => {}
        }
        if self.is_planted(OwnerPlanted::ReusesApprovals) {
            proof = None;
        }
        self.spoil(&mut decided);
        let purses = self.policy.purses(&facts);
        self.flights.push(Flight { wish, decided, decision, proof, purses });
    }

    /// Bugs in how decisions become claims.
    fn spoil(&self, decided: &mut Decided) {
        let Some(planted) = self.planted else { return };
        let agent = decided.agent.clone();
        match planted {
            OwnerPlanted::WindowTooShort => {
                for draw in &mut decided.draws {
                    if let Window::Rolling(seconds) = &mut draw.window {
                        *seconds = seconds.saturating_sub(1).max(1);
                    }
                }
            }
            OwnerPlanted::RoundsDown => {
                let halves = |key: &str| key.contains("|any");
                for draw in decided.draws.iter_mut().filter(|it| halves(it.key.as_str())) {
                    if decided.facts.contains("\"asset\":\"dai\"") {
                        draw.amount = draw.amount.saturating_sub(1);
                    }
                }
            }
            OwnerPlanted::CountsApart => {
                for draw in &mut decided.draws {
                    let key = format!("{}|{agent}", draw.key);
                    draw.key = farthing_ledger::BudgetKey::new(key);
                }
            }
            OwnerPlanted::ForgetsAnAsset if decided.facts.contains("\"asset\":\"eur\"") => {
                decided.draws.retain(|draw| !draw.key.as_str().contains("|any"));
            }
            OwnerPlanted::NamesAnother => decided.agent = agent_name(0),
            OwnerPlanted::ChecksThenActs => {
                let keys = decided.draws.iter().map(|draw| draw.key.clone()).collect();
                let used = self.book.owner(keys, self.now).used;
                for (draw, used) in decided.draws.iter_mut().zip(used) {
                    if used.amount.saturating_add(draw.amount) <= draw.limit {
                        draw.limit = u128::MAX;
                    }
                }
            }
            OwnerPlanted::ForgetsAnAsset
            | OwnerPlanted::ForgetsARelease
            | OwnerPlanted::ReleasesTwice
            | OwnerPlanted::ForgetsHolds
            | OwnerPlanted::GivesUpUnknown
            | OwnerPlanted::CountsTwice
            | OwnerPlanted::SpendsOthersDeposits
            | OwnerPlanted::ReusesApprovals
            | OwnerPlanted::AsksNobody
            | OwnerPlanted::KeepsDenialsQuiet
            | OwnerPlanted::CountsInAnotherDay => {}
        }
    }

    /// Puts a decision that lets nothing pass on record.
    fn write_down(&mut self, decided: Decided, what: &'static str) {
        self.count(what);
        self.acks.push(Ack::Decided(what));
        if what != "asked" && self.is_planted(OwnerPlanted::KeepsDenialsQuiet) {
            return;
        }
        let entry = Entry::Owner(Box::new(OwnerStep::Decided(Box::new(decided))));
        let entered = self.book.enter(entry, &self.disk.image, self.now);
        self.write(entered.ok().flatten());
    }

    // --- claiming -----------------------------------------------------------------------------

    /// One of those that were allowed comes to the book, whatever came in between.
    fn claim_one(&mut self) -> Result<(), Broken> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let at = self.pick(self.flights.len());
        let Flight { wish, mut decided, decision, proof, purses } = self.flights.swap_remove(at);
        if self.is_planted(OwnerPlanted::CountsInAnotherDay) {
            for draw in &mut decided.draws {
                if let Window::Until(end) = &mut draw.window
                    && *end <= self.now
                {
                    *end = self.now.after(Duration::from_hours(24));
                }
            }
        }
        if let Kind::Call(deposit) = wish.kind {
            let open = self.truth.deposits.get_mut(&deposit).filter(|it| it.is_open);
            let left = open.filter(|it| it.by.atoms.saturating_sub(it.spent) >= wish.atoms);
            // The session was closed or used up meanwhile.
            let Some(left) = left else { return Ok(()) };
            left.spent = left.spent.saturating_add(wish.atoms);
        }
        let request = self.request(&wish, &decided, proof)?;
        let payment = request.payment.id;
        match self.book.claim(request, &self.disk.image, self.now) {
            Ok((Claim::Fresh, record)) => {
                self.write(record);
                self.count("allowed");
                let serial = self.serial();
                let deposit = (wish.kind == Kind::Deposit).then_some(serial);
                self.truth.deals.insert(payment, Deal { wish, fate: Fate::Unsigned, deposit });
                if let Some(deposit) = deposit {
                    let made = Deposit { payment, by: wish, purses, spent: 0, is_open: false };
                    self.truth.deposits.insert(deposit, made);
                }
                self.acks.push(Ack::Claimed(payment));
            }
            Ok(_) => {
                self.count("approval used before");
                self.unspend(&wish);
            }
            Err(ClaimError::OverBudget { draw, used }) => {
                self.unspend(&wish);
                if let Some(over) = decided.draws.get_mut(usize::from(draw)) {
                    over.used = used;
                    let decision = decision.over(over, used);
                    decided.rules = decision.reasons.into_iter().map(|it| it.rule).collect();
                }
                // The auditor knows what the book knows once it has read it.
                self.sync()?;
                let at = (self.now, &self.truth);
                self.auditor.refused(&wish, &decided, usize::from(draw), at)?;
                decided.ruling = Ruling::Denied;
                decided.approval = None;
                self.write_down(decided, "over budget");
            }
            Err(ClaimError::Frozen) => {
                self.count("frozen");
                self.unspend(&wish);
            }
            Err(error) => return Err(rebuilt(format!("the book says: {error}"))),
        }
        Ok(())
    }

    fn unspend(&mut self, wish: &Wish) {
        if let Kind::Call(deposit) = wish.kind
            && let Some(deposit) = self.truth.deposits.get_mut(&deposit)
        {
            deposit.spent = deposit.spent.saturating_sub(wish.atoms);
        }
    }

    fn request(
        &mut self,
        wish: &Wish,
        decided: &Decided,
        proof: Option<Proof>,
    ) -> Result<ClaimRequest, Broken> {
        let serial = self.serial();
        let fingerprint = Fingerprint::of("wish", &[&serial.to_be_bytes()]);
        let (asset, ..) = ASSETS.get(wish.asset).copied().unwrap_or_default();
        let asset = asset_id(asset);
        let holder = |name: &str| Holder::new(name).map_err(rebuilt);
        let payee = holder(&format!("recipient{}", wish.recipient))?;
        let leg = Leg {
            from: Source::Account(Account::new(AccountKind::Spent, payee.clone(), asset.clone())),
            to: Account::new(AccountKind::Purse, holder("wallet")?, asset.clone()),
            atoms: wish.atoms,
        };
        let is_call = matches!(wish.kind, Kind::Call(_));
        let expires_at = self.now.after(PROOF_LASTS);
        let own = Proof { fingerprint, keep_until: Some(expires_at) };
        Ok(ClaimRequest {
            payment: Payment {
                id: PaymentId::of(&fingerprint),
                trace: TraceId::new(self.now, entropy(serial)),
                protocol: "mpp".to_owned(),
                method: "test".to_owned(),
                intent: "charge".to_owned(),
                challenge: serial.to_string(),
                // What is paid from a deposit moves nothing by itself.
                amount: Amount::new(asset, if is_call { 0 } else { wish.atoms }),
                payer: "wallet".to_owned(),
                payee,
                route: format!("GET seller{}/thing{}", wish.seller, wish.thing),
                scope: format!("thing{} of seller{}", wish.thing, wish.seller),
                credential: fingerprint,
                expires_at,
                request: None,
                inquiry: None,
                terms: Terms { repeatable: true, ..Terms::default() },
                voucher: None,
                decision: Some(Box::new(decided.clone())),
                subscription: None,
            },
            proofs: [own].into_iter().chain(proof).collect(),
            idempotency: None,
            legs: (!is_call).then_some(leg).into_iter().collect(),
            money: if is_call { Money::None } else { Money::Rail },
            caps: Vec::new(),
            voucher: None,
        })
    }

    /// The commit is on the disk: what was allowed is signed, and the auditor reads what there is.
    fn sync(&mut self) -> Result<(), Broken> {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            self.disk.write(&lines);
            self.disk.sync();
        }
        for ack in std::mem::take(&mut self.acks) {
            match ack {
                Ack::Decided(what) => self.told(if what == "asked" { what } else { "denied" }),
                Ack::Claimed(payment) => {
                    self.told("allowed");
                    self.sign(payment);
                }
            }
        }
        self.auditor.read(&self.disk.image.records, &self.truth)
    }

    fn told(&mut self, what: &'static str) {
        let count = self.truth.decided.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    /// What becomes of what is signed is drawn here, and known now or later.
    fn sign(&mut self, payment: PaymentId) {
        let moves = !self.random.chance(2_000);
        let fate = match (self.random.chance(2_500), moves) {
            (true, moves) => Fate::Unknown { moves },
            (false, true) => Fate::Moved,
            (false, false) => Fate::Nothing,
        };
        let Some(deal) = self.truth.deals.get_mut(&payment) else { return };
        let wish = deal.wish;
        match wish.kind {
            // A voucher that was signed counts.
            Kind::Call(_) => deal.fate = Fate::Moved,
            Kind::Deposit => {
                deal.fate = Fate::Moved;
                let deposit = deal.deposit.and_then(|it| self.truth.deposits.get_mut(&it));
                if let Some(deposit) = deposit {
                    deposit.is_open = true;
                }
            }
            Kind::Pay => {
                deal.fate = fate;
                self.finish(payment);
            }
        }
        if let Some(asked) = self.asked.get_mut(&wish)
            && !self.planted.is_some_and(|it| it == OwnerPlanted::ReusesApprovals)
        {
            asked.is_used = true;
        }
    }

    /// Writes down what became of a payment, where it is known.
    fn finish(&mut self, payment: PaymentId) {
        let Some(deal) = self.truth.deals.get(&payment) else { return };
        if deal.wish.kind != Kind::Pay {
            return;
        }
        let gives_up = self.is_planted(OwnerPlanted::GivesUpUnknown);
        match deal.fate {
            Fate::Moved => self.post(payment, None),
            Fate::Nothing | Fate::Unsigned => self.let_go(payment),
            Fate::Unknown { .. } if gives_up => self.let_go(payment),
            Fate::Unknown { .. } => {}
        }
    }

    fn post(&mut self, payment: PaymentId, moved: Option<Amount>) {
        let settlement = Settlement { moved, ..Settlement::new("moved".to_owned(), self.now) };
        let posted = self.book.post(payment, settlement, self.now);
        self.write(posted);
        let delivered = self.book.deliver(payment, Outcome { status: 200 }, self.now);
        self.write(delivered);
    }

    fn let_go(&mut self, payment: PaymentId) {
        if self.is_planted(OwnerPlanted::ForgetsARelease) && self.random.chance(500) {
            self.truth.deals.get_mut(&payment).into_iter().for_each(|it| it.fate = Fate::Nothing);
            return;
        }
        let voided = self.book.void(payment, VoidReason::Expired, self.now);
        if voided.is_some() {
            self.write(voided);
            self.let_go = Some(payment);
            self.count("let go");
        }
    }

    // --- what else happens --------------------------------------------------------------------

    fn learn_an_outcome(&mut self) {
        let unknown = |deal: &Deal| matches!(deal.fate, Fate::Unknown { .. });
        let unknown: Vec<PaymentId> =
            self.truth.deals.iter().filter(|it| unknown(it.1)).map(|it| *it.0).collect();
        let at = self.pick(unknown.len());
        let Some(payment) = unknown.get(at).copied() else { return };
        if let Some(deal) = self.truth.deals.get_mut(&payment)
            && let Fate::Unknown { moves } = deal.fate
        {
            deal.fate = if moves { Fate::Moved } else { Fate::Nothing };
        }
        self.count("outcome learnt late");
        self.finish(payment);
    }

    fn close_a_deposit(&mut self) {
        let open: Vec<u64> =
            self.truth.deposits.iter().filter(|it| it.1.is_open).map(|it| *it.0).collect();
        let at = self.pick(open.len());
        if let Some(deposit) = open.get(at) {
            self.close(*deposit);
        }
    }

    fn close(&mut self, deposit: u64) {
        let Some(deposit) = self.truth.deposits.get_mut(&deposit) else { return };
        let (payment, spent, asset) = (deposit.payment, deposit.spent, deposit.by.asset);
        if !std::mem::replace(&mut deposit.is_open, false) {
            return;
        }
        self.count("deposit closed");
        if spent == 0 {
            return self.let_go(payment);
        }
        let (asset, ..) = ASSETS.get(asset).copied().unwrap_or_default();
        self.post(payment, Some(Amount::new(asset_id(asset), spent)));
    }

    fn freeze(&mut self) {
        let agent = self.random.chance(8_000).then(|| agent_name(self.random.place(AGENTS)));
        let (reason, is_frozen) = ("odd".to_owned(), self.frozen.contains(&agent));
        let step = if is_frozen {
            self.frozen.remove(&agent);
            OwnerStep::Thawed { agent, reason }
        } else {
            self.frozen.insert(agent.clone());
            self.count("freezes");
            OwnerStep::Frozen { agent, reason }
        };
        self.enter(step);
        // Nobody stays frozen for long, or nothing would be seen.
        if self.frozen.len() > 2 {
            while let Some(agent) = self.frozen.pop_first() {
                self.enter(OwnerStep::Thawed { agent, reason: "enough".to_owned() });
            }
        }
    }

    fn enter(&mut self, step: OwnerStep) {
        let entered = self.book.enter(Entry::Owner(Box::new(step)), &self.disk.image, self.now);
        self.write(entered.ok().flatten());
    }

    /// The next day is about to begin.
    fn midnight(&mut self) {
        let day = 86_400_000_000_u64;
        let into = self.now.as_micros().checked_rem(day).unwrap_or_default();
        let left = Duration::from_micros(day.saturating_sub(into));
        self.now = self.now.after(left.saturating_sub(Duration::from_millis(500)));
        self.count("midnights");
    }

    /// The process dies with all that was under way, and its successor begins with what is on the disk.
    fn crash(&mut self) -> Result<(), Broken> {
        self.count("crashes");
        self.flights.clear();
        self.acks.clear();
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            self.disk.write(&lines);
        }
        self.disk.crash(&mut self.random);
        self.disk.open();
        self.book = self.disk.image.book(self.now).map_err(rebuilt)?;
        self.spoil_the_book();
        let opened = self.book.open(self.now);
        self.write(Some(opened));
        self.frozen = self.book.owner(Vec::new(), self.now).frozen.into_iter().collect();
        self.recover();
        self.sync()
    }

    /// Bugs of a restart.
    fn spoil_the_book(&mut self) {
        let Ok(mut text) = serde_json::to_value(self.book.snapshot()) else { return };
        let tallies = |text: &mut serde_json::Value| {
            let tallies = text.pointer_mut("/budgets/tallies");
            tallies.and_then(|it| it.as_object_mut()).cloned().unwrap_or_default()
        };
        let mut known = tallies(&mut text);
        if self.is_planted(OwnerPlanted::ForgetsHolds) {
            for tally in known.values_mut() {
                tally["held"] = "0".into();
            }
        } else if self.is_planted(OwnerPlanted::ReleasesTwice)
            && let Some(payment) = self.let_go
            && let Some(deal) = self.truth.deals.get(&payment)
        {
            let decided = self.policy.decide(&self.facts(&deal.wish, &BTreeSet::new()));
            for draw in decided.draws {
                if let Some(tally) = known.get_mut(draw.key.as_str()) {
                    let held = tally["held"].as_str().and_then(|it| it.parse::<u128>().ok());
                    let left = held.unwrap_or_default().saturating_sub(draw.amount);
                    tally["held"] = left.to_string().into();
                }
            }
        } else {
            return;
        }
        text["budgets"]["tallies"] = known.into();
        if let Ok(snapshot) = serde_json::from_value::<Snapshot>(text) {
            // What the store adds to a snapshot is not spoilt: only budgets are looked at here.
            self.book = Book::restore(snapshot);
        }
    }

    /// Finds out about everything that hangs, as the wallet does after a restart.
    fn recover(&mut self) {
        let durable: BTreeSet<PaymentId> = self.auditor.claimed(&self.disk.image.records);
        // What was lost with the power never was.
        self.truth.deals.retain(|payment, _| durable.contains(payment));
        self.truth.deposits.retain(|_, deposit| durable.contains(&deposit.payment));
        let unsigned: Vec<PaymentId> = self
            .truth
            .deals
            .iter()
            .filter(|(_, deal)| deal.fate == Fate::Unsigned)
            .map(|(payment, _)| *payment)
            .collect();
        for payment in unsigned {
            let Some(deal) = self.truth.deals.get_mut(&payment) else { continue };
            match deal.wish.kind {
                // It is counted, and not signed: whoever asks again asks for another.
                Kind::Call(_) => deal.fate = Fate::Moved,
                Kind::Pay | Kind::Deposit => {
                    deal.fate = Fate::Nothing;
                    self.let_go(payment);
                }
            }
        }
        // What was under way when the power went is finished now.
        let deals: Vec<PaymentId> = self.truth.deals.keys().copied().collect();
        for payment in deals {
            self.finish(payment);
        }
        let closed: Vec<(PaymentId, u128, usize)> = self
            .truth
            .deposits
            .values()
            .filter(|it| !it.is_open)
            .map(|it| (it.payment, it.spent, it.by.asset))
            .collect();
        for (payment, spent, asset) in closed {
            let (asset, ..) = ASSETS.get(asset).copied().unwrap_or_default();
            match spent {
                0 => self.let_go(payment),
                spent => self.post(payment, Some(Amount::new(asset_id(asset), spent))),
            }
        }
    }
}

fn asset_id(name: &str) -> AssetId {
    AssetId::new(name).unwrap_or_else(|_| unreachable!("the assets' names are names"))
}

fn entropy(serial: u64) -> [u8; 10] {
    let mut entropy = [0; 10];
    let (_, low) = entropy.split_at_mut(2);
    low.copy_from_slice(&serial.to_be_bytes());
    entropy
}
