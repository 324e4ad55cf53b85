//! Every test is one line of a story: what was asked of the book, and what it answered.

use std::collections::BTreeSet;
use std::time::Duration;

use farthing_money::{Amount, AssetId, Timestamp};
use proptest::prelude::*;

use crate::*;

pub(crate) const START: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

/// A cold index that knows what a test tells it.
#[derive(Default)]
pub(crate) struct Shelf(pub(crate) BTreeSet<Fingerprint>);

impl Cold for Shelf {
    fn is_claimed(&self, proof: &Proof) -> Result<bool, ClaimError> {
        Ok(self.0.contains(&proof.fingerprint))
    }
}

pub(crate) fn usd(atoms: u128) -> Amount {
    Amount::new(AssetId::new("usd").unwrap(), atoms)
}

pub(crate) fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

pub(crate) fn key(of: &str) -> SpendingKey {
    SpendingKey(*Fingerprint::of("key", &[of.as_bytes()]).as_bytes())
}

/// A request to buy something for 5, proven by challenge `name`.
pub(crate) fn purchase(name: &str, money: Money) -> ClaimRequest {
    let fingerprint = Fingerprint::of("challenge", &[name.as_bytes()]);
    let keep_until = Some(START.after(Duration::from_mins(5)));
    let seller = Account::new(AccountKind::Payable, holder("seller"), usd(0).asset().clone());
    let from = match money {
        Money::Book => Source::Key(key("alice")),
        Money::Rail | Money::None => Source::Account("clearing/test/usd".parse().unwrap()),
    };
    ClaimRequest {
        payment: Payment {
            id: PaymentId::of(&fingerprint),
            trace: TraceId::new(START, [7; 10]),
            protocol: "mpp".into(),
            method: "prepaid".into(),
            intent: "charge".into(),
            challenge: name.into(),
            amount: usd(5),
            payer: "alice".into(),
            payee: holder("seller"),
            route: "weather".into(),
            scope: "scope".into(),
            credential: Fingerprint::of("credential", &[name.as_bytes()]),
            expires_at: START.after(Duration::from_mins(5)),
            request: None,
            inquiry: None,
            terms: Terms { repeatable: true, ..Terms::default() },
            voucher: None,
            decision: None,
            subscription: None,
        },
        proofs: vec![Proof { fingerprint, keep_until }],
        idempotency: None,
        legs: vec![Leg { from, to: seller, atoms: 5 }],
        money,
        caps: vec![],
        voucher: None,
    }
}

/// A book in a test, with its journal and whatever the store would have on disk.
pub(crate) struct Desk {
    pub(crate) book: Book,
    pub(crate) journal: Vec<Record>,
    pub(crate) shelf: Shelf,
    pub(crate) now: Timestamp,
}

impl Desk {
    /// A book in which alice has 12 and a key.
    pub(crate) fn new() -> Self {
        let mut desk =
            Self { book: Book::default(), journal: vec![], shelf: Shelf::default(), now: START };
        let opened = desk.book.open(START);
        desk.write(Some(opened));
        for entry in [
            Entry::AttachKey { key: key("alice"), holder: holder("alice") },
            Entry::Fund { holder: holder("alice"), amount: usd(12), reference: "first".into() },
        ] {
            desk.enter(entry).unwrap();
        }
        desk
    }

    pub(crate) fn write(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.shelf.0.extend(claimed_proofs(&record).iter().map(|(proof, _)| proof.fingerprint));
            self.journal.push(record);
        }
    }

    pub(crate) fn enter(&mut self, entry: Entry) -> Result<bool, EntryError> {
        let record = self.book.enter(entry, &self.shelf, self.now)?;
        let written = record.is_some();
        self.write(record);
        Ok(written)
    }

    pub(crate) fn claim(&mut self, request: ClaimRequest) -> Result<Claim, ClaimError> {
        let (claim, record) = self.book.claim(request, &self.shelf, self.now)?;
        self.write(record);
        Ok(claim)
    }

    /// Carries out `step` and says in a word what came of it.
    pub(crate) fn run(&mut self, step: &str) -> String {
        let (verb, name) = step.split_once(' ').unwrap_or((step, "a"));
        let payment = purchase(name, Money::Book).payment.id;
        let settlement = Settlement::new("tx".into(), self.now);
        let record = match verb {
            "buy" | "rail" | "other" | "theft" | "once" | "reserve" | "hold" => {
                let money = if verb == "rail" { Money::Rail } else { Money::Book };
                let mut request = purchase(name, money);
                request.payment.terms.repeatable = !matches!(verb, "once" | "hold");
                if matches!(verb, "reserve" | "hold") {
                    request.payment.terms.capture = Capture::After;
                }
                if verb == "other" {
                    request.payment.credential = Fingerprint::of("credential", &[b"other"]);
                }
                if verb == "theft" {
                    request.payment.id = PaymentId::of(&Fingerprint::of("challenge", &[b"x"]));
                }
                return match self.claim(request) {
                    Ok(Claim::Undelivered(_)) => "undelivered".into(),
                    Ok(Claim::Delivered(..)) => "delivered".into(),
                    Ok(Claim::Pending(_)) => "pending".into(),
                    Ok(claim) => format!("{claim:?}").to_lowercase(),
                    Err(error) => format!("{error:?}"),
                };
            }
            "post" => self.book.post(payment, settlement, self.now),
            "void" => self.book.void(payment, VoidReason::Declined, self.now),
            "fail" => self.book.fail(payment, Outcome { status: 503 }, self.now),
            "deliver" => self.book.deliver(payment, Outcome { status: 200 }, self.now),
            "refund" | "order" | "part" | "credit" => return self.refund(verb, name),
            "sent" => self.book.post_refund(payment, self.last_refund(name), settlement, self.now),
            "lost" => self.book.void_refund(payment, self.last_refund(name), self.now),
            "begun" => {
                self.book.give_back(payment, true);
                return "-".into();
            }
            "return" => {
                self.book.give_back(payment, false);
                return "-".into();
            }
            "restart" => {
                self.restart();
                return "-".into();
            }
            "wait" => {
                self.now = self.now.after(Duration::from_secs(name.parse().unwrap()));
                return "-".into();
            }
            "back" => {
                self.now = self.now.before(Duration::from_secs(name.parse().unwrap()));
                return "-".into();
            }
            _ => unreachable!("{step}"),
        };
        let done = if record.is_some() { "done" } else { "nothing" };
        self.write(record);
        done.into()
    }

    /// Gives all that is left of a payment back, or a part of 2: at once, or by the rail's order.
    fn refund(&mut self, verb: &str, name: &str) -> String {
        let payment = purchase(name, Money::Book).payment;
        // Whoever asks has read the payment's story, as a store's callers do.
        let of_it = |record: &&Record| {
            let claimed =
                matches!(&record.event, Event::Claimed { payment: it, .. } if it.id == payment.id);
            claimed
                || matches!(&record.event, Event::Voided { payment: it, .. } if *it == payment.id)
        };
        match self.journal.iter().rfind(of_it).map(|record| &record.event) {
            None => return "unknown".into(),
            Some(Event::Voided { .. }) => return "never paid".into(),
            Some(_) => {}
        }
        let (amount, way) = match verb {
            "part" => (usd(2), Way::Back),
            "order" => (usd(5), Way::Back),
            "credit" => (usd(self.book.refunds.left(&payment)), Way::Credit),
            _ => (usd(self.book.refunds.left(&payment)), Way::Back),
        };
        let reference = format!("{verb} {}", self.book.refunds_voided(payment.id));
        let to = match verb {
            "order" => "clearing/test/usd",
            _ => "prepaid/alice/usd",
        };
        let mut request =
            RefundRequest::new(&payment, amount, to.parse().unwrap(), way, &reference);
        request.refund.order = (verb == "order").then(|| "send it".into());
        match self.book.refund(request, self.now) {
            Ok((standing, record)) => {
                let is_new = if record.is_some() { "new" } else { "known" };
                self.write(record);
                let standing = match standing {
                    RefundStanding::Pending => "pending",
                    RefundStanding::Posted(_) => "posted",
                    RefundStanding::Voided => "voided",
                };
                format!("{is_new} {standing}")
            }
            Err(error) => format!("{error:?}"),
        }
    }

    fn last_refund(&self, name: &str) -> RefundId {
        let payment = purchase(name, Money::Book).payment.id;
        RefundId::of(payment, &format!("order {}", self.book.refunds_voided(payment)))
    }

    /// Another process takes the book over, knowing only the journal.
    pub(crate) fn restart(&mut self) {
        let mut book = Book::default();
        for record in &self.journal {
            book.replay(record).unwrap();
        }
        self.book = book;
        let opened = self.book.open(self.now);
        self.write(Some(opened));
    }

    pub(crate) fn available(&self) -> u128 {
        self.book.balances().of(&"prepaid/alice/usd".parse().unwrap()).available()
    }

    pub(crate) fn earned(&self) -> u128 {
        self.book.balances().of(&"payable/seller/usd".parse().unwrap()).credits_posted
    }
}

/// Runs steps and compares the answers; afterwards the journal must be sound, and must rebuild the
/// very same book.
#[track_caller]
pub(crate) fn check(steps: &str, want: &str) -> Desk {
    let mut desk = Desk::new();
    let got: Vec<String> = steps.split("; ").map(|step| desk.run(step)).collect();
    assert_eq!(got.join("; "), want, "{steps}");
    let audit = audit(&desk.journal).unwrap();
    let balances = desk.book.balances().iter().map(|(a, b)| (a.clone(), *b)).collect();
    assert_eq!(audit.accounts, balances);
    desk
}

#[test]
fn money_in_the_book_moves_with_the_claim() {
    let desk = check("buy; deliver; buy", "fresh; done; delivered");
    assert_eq!((desk.available(), desk.earned()), (7, 5));
}

#[test]
fn an_account_is_not_overdrawn_and_a_refused_claim_claims_nothing() {
    let desk = check("buy a; buy b; buy c; buy c", "fresh; fresh; Overdrawn; Overdrawn");
    assert_eq!((desk.available(), desk.earned()), (2, 10));
    let mut desk = desk;
    let more = Entry::Fund { holder: holder("alice"), amount: usd(3), reference: "more".into() };
    assert_eq!(desk.enter(more), Ok(true));
    assert_eq!(desk.run("buy c"), "fresh");
    assert_eq!((desk.available(), desk.earned()), (0, 15));
}

#[test]
fn money_on_a_rail_waits_for_the_rail() {
    let desk = check("rail; post; deliver", "fresh; done; done");
    assert_eq!(desk.earned(), 5);
    let desk = check("rail; void; post; rail", "fresh; done; nothing; spent");
    assert_eq!(desk.earned(), 0);
}

#[test]
fn every_step_counts_once() {
    check(
        "rail; post; post; void; deliver; deliver",
        "fresh; done; nothing; nothing; done; nothing",
    );
    check("deliver; post; void", "nothing; nothing; nothing");
}

#[test]
fn whoever_holds_a_payment_is_alone_with_it() {
    check(
        "rail; rail; post; rail; deliver; rail",
        "fresh; pending; done; pending; done; delivered",
    );
    check("buy; buy; return; buy; buy", "fresh; pending; -; undelivered; pending");
}

#[test]
fn a_retry_after_a_crash_is_delivered_once() {
    check(
        "buy; restart; buy; buy; deliver; buy",
        "fresh; -; undelivered; pending; done; delivered",
    );
    check("rail; post; restart; rail; rail", "fresh; done; -; undelivered; pending");
}

/// F-07: an unknown outcome stays one over a restart, and one at a time finds out about it.
#[test]
fn an_unknown_outcome_stays_open_over_a_restart() {
    check(
        "rail; restart; rail; rail; return; rail; restart; rail; post; deliver; rail",
        "fresh; -; unsettled; pending; -; unsettled; -; unsettled; done; done; delivered",
    );
    check("rail; return; rail; void; rail", "fresh; -; unsettled; done; spent");
}

/// What costs nothing moves nothing, and is answered once all the same.
#[test]
fn a_price_of_nothing_is_claimed_and_moves_nothing() {
    let mut desk = Desk::new();
    let free = || {
        let mut request = purchase("a", Money::None);
        request.payment.amount = usd(0);
        ClaimRequest { legs: vec![], ..request }
    };
    assert_eq!(desk.claim(free()), Ok(Claim::Fresh));
    assert!(matches!(desk.claim(free()), Ok(Claim::Pending(_))));
    desk.run("return");
    let settlement = Settlement::new("a".into(), START);
    assert_eq!(desk.claim(free()), Ok(Claim::Undelivered(settlement)), "it cites the challenge");
    assert_eq!(desk.run("deliver"), "done");
    assert!(matches!(desk.claim(free()), Ok(Claim::Delivered(..))));
    assert_eq!((audit(&desk.journal).unwrap().delivered, desk.earned()), (1, 0));
}

/// What it cost to move money stands in the books beside it, once.
#[test]
fn a_network_fee_is_an_expense() {
    let mut desk = check("rail", "fresh");
    let payment = purchase("a", Money::Rail).payment.id;
    let settlement = Settlement { cost: Some(usd(2)), ..Settlement::new("tx".into(), START) };
    for _ in 0..2 {
        let record = desk.book.post(payment, settlement.clone(), START);
        desk.write(record);
    }
    assert_eq!(desk.earned(), 5);
    let balance = |account: &str| desk.book.balances().of(&account.parse().unwrap());
    assert_eq!(balance("spent/fees/usd").debits_posted, 2);
    assert_eq!(balance("purse/fees/usd").credits_posted, 2);
    assert!(audit(&desk.journal).is_ok());
    // A fee that is not what the settlement says is found.
    let mut forged = desk.journal.clone();
    forged.last_mut().unwrap().transfers.last_mut().unwrap().atoms = 3;
    assert_eq!(audit(&forged).unwrap_err().what, What::Phase);
    forged.last_mut().unwrap().transfers.pop();
    assert_eq!(audit(&forged).unwrap_err().what, What::Cost);
}

/// What must not happen twice is not begun again once it may have happened; unless the handler itself
/// said that it failed, or never began. What was undertaken when it was paid for counts, whatever the
/// seller undertakes by now.
#[test]
fn what_must_not_happen_twice_is_begun_once() {
    check("once; restart; once; once", "fresh; -; interrupted; interrupted");
    check("once; restart; buy; buy", "fresh; -; interrupted; interrupted");
    check("once; begun; once; buy", "fresh; -; interrupted; interrupted");
    check("buy; restart; once; deliver", "fresh; -; undelivered; done");
    check("hold; restart; hold; reserve", "fresh; -; abandoned; pending");
    check("hold; begun; reserve; void", "fresh; -; abandoned; done");
    check("reserve; begun; hold; post", "fresh; -; unsettled; done");
    check("once; return; once; deliver", "fresh; -; undelivered; done");
    check(
        "once; fail; once; fail; restart; once",
        "fresh; done; undelivered; done; -; undelivered",
    );
    check("fail; once; deliver; fail", "nothing; fresh; done; nothing");
    // The second attempt is as much an attempt as the first.
    check("once; fail; once; restart; once", "fresh; done; undelivered; -; interrupted");
    check("once; return; once; restart; once", "fresh; -; undelivered; -; interrupted");
    let mut desk = check("once; return", "fresh; -");
    let snapshot = desk.book.snapshot();
    desk.run("once");
    desk.book = Book::restore(snapshot);
    desk.book.replay(desk.journal.last().unwrap()).unwrap();
    desk.book.open(desk.now);
    assert_eq!(desk.book.all_unfinished().next().unwrap().open, Open::Interrupted);
}

#[test]
fn another_credential_for_the_same_challenge_buys_nothing() {
    check("buy; other", "fresh; spent");
    check("buy; theft", "fresh; spent");
}

/// R-06, K-04: a proof is refused before and after its challenge expires, before and after a
/// restart, and when the clock is set back over it.
#[test]
fn a_used_proof_stays_used() {
    check(
        "buy; deliver; wait 299; buy; wait 1; buy; wait 1; buy; wait 130; buy; restart; buy",
        "fresh; done; -; delivered; -; spent; -; spent; -; spent; -; spent",
    );
    check(
        "buy a; deliver; wait 3600; buy b; back 3600; buy a; restart; buy a",
        "fresh; done; -; fresh; -; spent; -; delivered",
    );
}

#[test]
fn memory_holds_what_is_alive_and_not_what_is_over() {
    let mut desk = Desk::new();
    let all = Entry::Fund { holder: holder("alice"), amount: usd(50_000), reference: "all".into() };
    desk.enter(all).unwrap();
    for at in 0..5_000_u32 {
        desk.now = desk.now.after(Duration::from_secs(1));
        let mut request = purchase(&at.to_string(), Money::Book);
        request.proofs[0].keep_until = Some(desk.now.after(Duration::from_mins(5)));
        let id = request.payment.id;
        assert_eq!(desk.claim(request), Ok(Claim::Fresh));
        desk.book.deliver(id, Outcome { status: 200 }, desk.now).unwrap();
    }
    assert!(desk.book.proofs.len() < 320, "{}", desk.book.proofs.len());
    assert!(desk.book.live.len() < 320, "{}", desk.book.live.len());
    assert_eq!(desk.book.unfinished(), 0);
}

/// an idempotency key is claimed together with the first payment made under it.
#[test]
fn an_idempotency_key_buys_once() {
    let mut desk = Desk::new();
    let keyed = |name: &str| {
        let fingerprint = Fingerprint::of("idempotency", &[b"order-1"]);
        let keep_until = Some(START.after(Duration::from_hours(24)));
        let idempotency = Some(Proof { fingerprint, keep_until });
        ClaimRequest { idempotency, ..purchase(name, Money::Book) }
    };
    assert_eq!(desk.claim(keyed("a")), Ok(Claim::Fresh));
    assert!(matches!(desk.claim(keyed("b")), Ok(Claim::Pending(_))), "it is a's");
    assert!(matches!(desk.claim(keyed("a")), Ok(Claim::Pending(_))), "the payment itself is known");
    assert_eq!(desk.claim(purchase("b", Money::Book)), Ok(Claim::Fresh), "b was never claimed");
    assert_eq!(desk.earned(), 10);
}

/// a key that is used again after its day holds for another day, over a restart too.
#[test]
fn an_idempotency_key_that_is_used_again_holds_again() {
    let mut desk = Desk::new();
    let keyed = |name: &str, now: Timestamp| {
        let fingerprint = Fingerprint::of("idempotency", &[b"daily"]);
        let keep_until = Some(now.after(Duration::from_hours(24)));
        let idempotency = Some(Proof { fingerprint, keep_until });
        ClaimRequest { idempotency, ..purchase(name, Money::Rail) }
    };
    assert_eq!(desk.claim(keyed("monday", desk.now)), Ok(Claim::Fresh));
    desk.run("wait 90000");
    assert_eq!(desk.claim(purchase("b", Money::Rail)), Ok(Claim::Fresh), "which forgets");
    let tuesday = keyed("tuesday", desk.now);
    assert_eq!(desk.claim(tuesday.clone()), Ok(Claim::Fresh));
    // A store tells the book of what still matters first, and then of the journal.
    let mut book = Book::default();
    book.remember(tuesday.idempotency.unwrap(), tuesday.payment.id);
    desk.journal.iter().for_each(|record| book.replay(record).unwrap());
    desk.book = book;
    assert_eq!(desk.claim(purchase("x", Money::Rail)), Ok(Claim::Fresh), "which forgets");
    let at_once = desk.claim(keyed("at once", desk.now));
    assert_eq!(at_once, Ok(Claim::Pending(tuesday.payment.id)));
    desk.restart();
    assert_eq!(desk.claim(purchase("c", Money::Rail)), Ok(Claim::Fresh), "which forgets");
    assert_eq!(desk.claim(keyed("again", desk.now)), Err(ClaimError::Duplicate));
    desk.run("wait 90000");
    assert_eq!(desk.claim(purchase("d", Money::Rail)), Ok(Claim::Fresh), "which forgets");
    assert_eq!(desk.claim(keyed("wednesday", desk.now)), Ok(Claim::Fresh));
    assert_eq!(audit(&desk.journal).unwrap().claimed, 7);
}

#[test]
fn keys_spend_exactly_their_account() {
    let mut desk = Desk::new();
    let attach = |name: &str| Entry::AttachKey { key: key("alice"), holder: holder(name) };
    assert_eq!(desk.enter(attach("alice")), Ok(false), "again is nothing new");
    assert_eq!(desk.enter(attach("bob")), Err(EntryError::KeyTaken));
    assert_eq!(desk.enter(Entry::DetachKey { key: key("alice") }), Ok(true));
    assert_eq!(desk.enter(Entry::DetachKey { key: key("alice") }), Ok(false));
    assert_eq!(desk.claim(purchase("a", Money::Book)), Err(ClaimError::UnknownKey));
    assert_eq!(desk.enter(attach("bob")), Ok(true));
    assert_eq!(desk.claim(purchase("a", Money::Book)), Err(ClaimError::Overdrawn));
}

#[test]
fn a_funding_reference_counts_once() {
    let mut desk = Desk::new();
    let fund = |name: &str, atoms| Entry::Fund {
        holder: holder(name),
        amount: usd(atoms),
        reference: "first".into(),
    };
    assert_eq!(desk.enter(fund("alice", 12)), Ok(false));
    assert_eq!(desk.enter(fund("alice", 13)), Err(EntryError::ReferenceTaken));
    assert_eq!(desk.enter(fund("bob", 12)), Err(EntryError::ReferenceTaken));
    desk.restart();
    assert_eq!(desk.enter(fund("alice", 12)), Ok(false));
    assert_eq!(desk.available(), 12);
}

#[test]
fn a_cap_holds_in_the_same_moment_as_the_claim() {
    let mut desk = Desk::new();
    let capped = |name: &str, credits_max| ClaimRequest {
        caps: vec![Cap { account: "payable/seller/usd".parse().unwrap(), credits_max }],
        ..purchase(name, Money::Rail)
    };
    assert_eq!(desk.claim(capped("a", 10)), Ok(Claim::Fresh));
    assert_eq!(desk.claim(capped("b", 9)), Err(ClaimError::OverCap));
    assert_eq!(desk.claim(capped("b", 10)), Ok(Claim::Fresh), "held money counts");
    assert_eq!(desk.claim(capped("c", 10)), Err(ClaimError::OverCap));
    desk.run("void a");
    assert_eq!(desk.claim(capped("c", 10)), Ok(Claim::Fresh), "voided money does not");
}

#[test]
fn a_snapshot_and_the_rest_of_the_journal_make_the_same_book() {
    let mut desk = check("buy a; rail b; deliver a", "fresh; fresh; done");
    let snapshot = desk.book.snapshot();
    let json = serde_json::to_string(&snapshot).unwrap();
    let mut restored = Book::restore(serde_json::from_str(&json).unwrap());
    assert_eq!(restored.snapshot(), snapshot);
    let before = desk.journal.len();
    desk.run("post b");
    desk.run("deliver b");
    for record in &desk.journal[before..] {
        restored.replay(record).unwrap();
    }
    assert_eq!(restored.snapshot(), desk.book.snapshot());
}

fn steps() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((0_usize..15, 0_u8..4), 1..60)
}

proptest! {
    /// Whatever happens in whatever order: the books balance, each credential is answered `fresh`
    /// at most once, the seller earns exactly what was posted, and the journal replays to the same
    /// bytes.
    #[test]
    fn any_history_is_sound(steps in steps()) {
        let verbs = [
            "buy", "rail", "post", "void", "deliver", "return", "restart", "other", "reserve",
            "refund", "order", "part", "sent", "lost", "fail",
        ];
        let history: Vec<String> = steps
            .iter()
            .map(|&(verb, name)| match verbs[verb] {
                "restart" => "restart".to_owned(),
                verb => format!("{verb} {name}"),
            })
            .collect();
        let run = || {
            let mut desk = Desk::new();
            let answers: Vec<String> = history.iter().map(|step| desk.run(step)).collect();
            (desk, answers)
        };
        let (desk, answers) = run();
        let fresh = answers.iter().filter(|answer| *answer == "fresh").count();
        let names: BTreeSet<u8> = steps.iter().map(|(_, name)| *name).collect();
        prop_assert!(fresh <= names.len());
        let sound = audit(&desk.journal).unwrap();
        let posted = sound.undelivered.saturating_add(sound.delivered);
        // What was given back instead of an answer was posted before.
        let compensated = desk.earned().saturating_sub(u128::from(posted).saturating_mul(5));
        prop_assert!(compensated.is_multiple_of(5));
        prop_assert!(u128::from(sound.refunded).saturating_mul(5) >= compensated);
        let lines = |desk: &Desk| desk.journal.iter().map(Record::to_json).collect::<Vec<_>>();
        prop_assert_eq!(lines(&desk), lines(&run().0));
        let mut replayed = Book::default();
        for (record, line) in desk.journal.iter().zip(lines(&desk)) {
            prop_assert_eq!(&Record::from_json(line.as_bytes()).unwrap(), record);
            replayed.replay(record).unwrap();
        }
        prop_assert_eq!(desk.book.snapshot().difference(&replayed.snapshot()), None);
    }
}

/// what has to be remembered is what can still be presented: over 200,000 purchases, 500 a second for
/// 400 seconds, of challenges that live for 60, the book stops growing after the first minute. Nothing is
/// accepted twice meanwhile, neither while the book knows it nor when only the index does.
#[test]
fn the_registry_grows_with_what_is_open_and_not_with_history() {
    const PER_SECOND: usize = 500;
    const LIFE_SECS: u64 = 60;
    let mut book = Book::default();
    let mut shelf = Shelf::default();
    let fund =
        Entry::Fund { holder: holder("alice"), amount: usd(5_000_000), reference: "first".into() };
    for entry in [Entry::AttachKey { key: key("alice"), holder: holder("alice") }, fund] {
        book.enter(entry, &shelf, START).unwrap();
    }
    let at = |second: u64| START.after(Duration::from_secs(second));
    let request = |second: u64, number: usize| {
        let mut request = purchase(&format!("{second} {number}"), Money::Book);
        request.payment.expires_at = at(second + LIFE_SECS);
        request.proofs[0].keep_until = Some(at(second + LIFE_SECS));
        request
    };
    let mut sizes = Vec::new();
    for second in 0..400 {
        let now = at(second);
        for number in 0..PER_SECOND {
            let request = request(second, number);
            let (id, proof) = (request.payment.id, request.proofs[0]);
            assert_eq!(book.claim(request, &shelf, now).unwrap().0, Claim::Fresh);
            book.deliver(id, Outcome { status: 200 }, now).unwrap();
            shelf.0.insert(proof.fingerprint);
        }
        for ago in [0, 1, LIFE_SECS - 1, LIFE_SECS + 1, 3 * LIFE_SECS] {
            let Some(then) = second.checked_sub(ago) else { continue };
            let again = book.claim(request(then, 7), &shelf, now).unwrap().0;
            assert!(matches!(again, Claim::Delivered(..) | Claim::Spent), "{again:?}");
        }
        sizes.push(book.proofs.len().max(book.live.len()));
    }
    let open = PER_SECOND * usize::try_from(LIFE_SECS + 2).unwrap();
    assert!(sizes[30] > open / 3, "it remembers what is open: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= open), "and not what is over: {sizes:?}");
}
