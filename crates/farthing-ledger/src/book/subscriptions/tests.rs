//! What may be charged and used, when.

#![allow(clippy::arithmetic_side_effects)]

use farthing_money::{Amount, AssetId, Period, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::book::tests::Shelf;
use crate::{
    Account, AccountKind, ChargeFailure, Claim, ClaimError, ClaimRequest, Entry, EraseError,
    Erasure, ErasureKey, Holder, Leg, Money, Outcome, Side, Source, SpendingKey, StillOpen, Survey,
    Terms, TraceId, VoidReason, Whose, audit,
};

const KEY: SpendingKey = SpendingKey([7; 32]);

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn usd() -> AssetId {
    AssetId::new("usd").unwrap()
}

pub(crate) fn facts(name: &str, period: &str) -> SubscriptionFacts {
    SubscriptionFacts {
        id: SubscriptionId::of("mpp", name),
        trace: TraceId::new(at("2026-01-31T10:00:00Z"), [1; 10]),
        protocol: "mpp".into(),
        method: "prepaid".into(),
        challenge: name.into(),
        offered_until: at("2026-01-31T10:05:00Z"),
        payer: "did:key:z6MkPayer".into(),
        payee: Holder::new("acme").unwrap(),
        asset: usd(),
        atoms: 500,
        period: period.parse::<Period>().unwrap(),
        expires_at: None,
        plan: "pro".into(),
        route: "reports".into(),
        from: Source::Key(KEY),
        money: Money::Book,
        grant: None,
    }
}

struct Desk {
    book: Book,
    journal: Vec<Record>,
    facts: SubscriptionFacts,
}

impl Desk {
    /// A book in which the payer has `atoms`.
    fn with(facts: SubscriptionFacts, atoms: u128) -> Self {
        let mut desk = Self { book: Book::default(), journal: Vec::new(), facts };
        let now = at("2026-01-31T09:00:00Z");
        let opened = desk.book.open(now);
        desk.journal.push(opened);
        let holder = Holder::new("alice").unwrap();
        let attach = Entry::AttachKey { key: KEY, holder: holder.clone() };
        let amount = Amount::new(usd(), atoms);
        let fund = Entry::Fund { holder, amount, reference: "invoice".into() };
        for entry in [attach, fund] {
            let record = desk.book.enter(entry, &Shelf::default(), now).unwrap();
            desk.journal.extend(record);
        }
        desk
    }

    fn step(
        &mut self,
        step: SubscriptionStep,
        now: &str,
    ) -> Result<Subscription, SubscriptionError> {
        let (it, record) = self.book.subscribe(step, &Shelf::default(), at(now))?;
        self.journal.extend(record);
        Ok(it)
    }

    fn open(&mut self, now: &str) -> Result<Subscription, SubscriptionError> {
        self.step(SubscriptionStep::Open(Box::new(self.facts.clone())), now)
    }

    fn look(&mut self) -> Subscription {
        self.step(SubscriptionStep::Look { id: self.facts.id }, "2026-01-31T10:00:00Z").unwrap()
    }

    fn request(&self, part: Subscribed, now: &str) -> ClaimRequest {
        let facts = &self.facts;
        let (fingerprint, atoms) = match part.part {
            SubscribedPart::Charge { attempt } => (facts.charge(part.period, attempt), facts.atoms),
            SubscribedPart::Use => (crate::Fingerprint::of("use", &[now.as_bytes()]), 0),
        };
        let legs = Leg {
            from: facts.from.clone(),
            to: Account::new(AccountKind::Payable, facts.payee.clone(), usd()),
            atoms,
        };
        ClaimRequest {
            payment: Payment {
                id: PaymentId::of(&fingerprint),
                trace: TraceId::new(at(now), [2; 10]),
                protocol: "mpp".into(),
                method: "prepaid".into(),
                intent: "subscription".into(),
                challenge: "c".into(),
                amount: Amount::new(usd(), atoms),
                payer: facts.payer.clone(),
                payee: facts.payee.clone(),
                route: "reports".into(),
                scope: String::new(),
                credential: fingerprint,
                expires_at: at("2027-01-01T00:00:00Z"),
                request: None,
                inquiry: None,
                terms: Terms::default(),
                voucher: None,
                decision: None,
                subscription: Some(part),
            },
            proofs: vec![Proof { fingerprint, keep_until: None }],
            idempotency: None,
            legs: (atoms > 0).then_some(legs).into_iter().collect(),
            money: if atoms == 0 { Money::None } else { facts.money },
            caps: Vec::new(),
            voucher: None,
        }
    }

    fn claim(&mut self, request: ClaimRequest, now: &str) -> Result<Claim, ClaimError> {
        let (claim, record) = self.book.claim(request, &Shelf::default(), at(now))?;
        self.journal.extend(record);
        Ok(claim)
    }

    /// Charges period `period`, as attempt `attempt`.
    fn charge(&mut self, period: u64, attempt: u64, now: &str) -> Result<Claim, ClaimError> {
        let part = SubscribedPart::Charge { attempt };
        let request = self.request(Subscribed { id: self.facts.id, period, part }, now);
        let payment = request.payment.id;
        let claim = self.claim(request, now)?;
        let delivered = self.book.deliver(payment, Outcome { status: 204 }, at(now));
        self.journal.extend(delivered);
        Ok(claim)
    }

    fn using(&mut self, period: u64, now: &str) -> Result<Claim, ClaimError> {
        let part = Subscribed { id: self.facts.id, period, part: SubscribedPart::Use };
        let request = self.request(part, now);
        self.claim(request, now)
    }

    /// What the journal says is what the book says, read anew and read from a snapshot.
    fn is_sound(&self) {
        let lines: Vec<String> = self.journal.iter().map(Record::to_json).collect();
        let read: Vec<Record> =
            lines.iter().map(|line| Record::from_json(line.as_bytes()).unwrap()).collect();
        assert_eq!(read, self.journal);
        audit(&self.journal).unwrap();
        let mut anew = Book::default();
        self.journal.iter().for_each(|record| anew.replay(record).unwrap());
        let snapshot = self.book.snapshot();
        assert_eq!(anew.snapshot().difference(&snapshot), None);
        let text = serde_json::to_string(&snapshot).unwrap();
        let restored = Book::restore(serde_json::from_str(&text).unwrap());
        assert_eq!(restored.snapshot().difference(&snapshot), None);
    }
}

fn refused(error: SubscriptionError) -> Result<Claim, ClaimError> {
    Err(ClaimError::Subscription(error))
}

/// SUB.S02: a period is charged once, when it has begun, and what was missed is not made up for.
#[test]
fn a_period_is_charged_once_and_missed_ones_never() {
    let mut desk = Desk::with(facts("a", "1 month"), 10_000);
    assert_eq!(desk.open("2026-01-31T10:00:00Z").unwrap().state, SubscriptionState::Opening);
    assert_eq!(desk.using(0, "2026-01-31T10:00:00Z"), refused(SubscriptionError::Unpaid));
    assert_eq!(desk.charge(0, 0, "2026-01-31T10:00:01Z"), Ok(Claim::Fresh));
    assert_eq!(desk.look().anchor, Some(at("2026-01-31T10:00:01Z")));
    assert_eq!(desk.using(0, "2026-02-28T10:00:00Z"), Ok(Claim::Fresh));

    let paid = refused(SubscriptionError::Paid);
    assert_eq!(desk.charge(1, 1, "2026-02-28T10:00:00.999999Z"), paid, "a moment too early");
    assert_eq!(desk.charge(1, 1, "2026-02-28T10:00:01Z"), Ok(Claim::Fresh));
    assert_eq!(desk.charge(1, 2, "2026-02-28T10:00:01Z"), paid, "a second time");
    assert!(
        matches!(desk.charge(1, 1, "2026-03-01T00:00:00Z"), Ok(Claim::Delivered(..))),
        "the same"
    );

    // March and April are missed.
    let unpaid = refused(SubscriptionError::Unpaid);
    assert_eq!(desk.using(1, "2026-05-20T00:00:00Z"), unpaid);
    let stale = refused(SubscriptionError::OutOfOrder);
    assert_eq!(desk.charge(2, 2, "2026-05-20T00:00:00Z"), stale, "a period that is over");
    assert_eq!(desk.charge(3, 2, "2026-05-20T00:00:00Z"), Ok(Claim::Fresh));
    assert_eq!(desk.using(3, "2026-05-20T00:00:01Z"), Ok(Claim::Fresh));
    assert_eq!(desk.look().charges, 3);
    let earned: Account = "payable/acme/usd".parse().unwrap();
    assert_eq!(desk.book.balances().of(&earned).available(), 1_500);
    desk.is_sound();
}

/// What is due is found by when it is due, and by nothing else: among many, the one; also in a book that was
/// read anew.
#[test]
fn what_is_due_is_found_among_many() {
    let mut desk = Desk::with(facts("a", "1 day"), 10_000);
    let many = 500;
    for number in 0..many {
        let name = number.to_string();
        desk.facts = facts(&name, if number == 7 { "1 day" } else { "1 week" });
        desk.open("2026-01-31T10:00:00Z").unwrap();
        if number < 10 {
            desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
        }
    }
    let grace = Duration::from_hours(24);
    let due = |desk: &Desk, now: &str| {
        let found = desk.book.subscriptions_due(at(now), grace);
        found.due.into_iter().map(|it| it.facts.challenge).collect::<Vec<_>>()
    };
    assert!(due(&desk, "2026-01-31T10:04:59Z").is_empty());
    let begun = many - 10;
    assert_eq!(due(&desk, "2026-01-31T10:05:00Z").len(), begun, "their offers are over");
    for number in 10..many {
        desk.facts = facts(&number.to_string(), "1 week");
        let end = SubscriptionStep::End { id: desk.facts.id, why: Ending::Declined };
        desk.step(end, "2026-01-31T10:05:00Z").unwrap();
    }
    assert!(due(&desk, "2026-02-01T09:59:59Z").is_empty());
    assert_eq!(due(&desk, "2026-02-01T10:00:00Z"), ["7"]);
    assert_eq!(due(&desk, "2026-02-07T10:00:00Z").len(), 10);
    let census = desk.book.subscriptions_due(at("2026-02-01T10:00:00Z"), grace).census;
    assert_eq!(census, [("prepaid".to_owned(), SubscriptionState::Active, 10)]);
    let restored = Book::restore(desk.book.snapshot());
    let again = restored.subscriptions_due(at("2026-02-01T10:00:00Z"), grace);
    assert_eq!((again.due.len(), again.census), (1, census));
    desk.is_sound();
}

/// SUB.C03: one that joins begins nothing where its payer has the same already, at the same price; and what it
/// was let into and is over begins none either.
#[test]
fn whoever_joins_has_one() {
    let mut desk = Desk::with(facts("a", "1 day"), 10_000);
    let now = "2026-01-31T10:00:00Z";
    desk.open(now).unwrap();
    desk.charge(0, 0, now).unwrap();
    let join = |other: SubscriptionFacts| SubscriptionStep::Join(Box::new(other));
    let lines = desk.journal.len();
    let same = desk.step(join(facts("b", "1 day")), now).unwrap();
    assert_eq!((same.facts.id, desk.journal.len()), (desk.facts.id, lines));
    let own = desk.step(join(facts("a", "1 day")), now).unwrap();
    assert_eq!(own.facts.id, desk.facts.id);
    for other in [
        SubscriptionFacts { payer: "did:key:z6MkOther".into(), ..facts("c", "1 day") },
        SubscriptionFacts { plan: "gold".into(), ..facts("d", "1 day") },
        SubscriptionFacts { atoms: 501, ..facts("e", "1 day") },
        facts("f", "1 week"),
    ] {
        let id = other.id;
        assert_eq!(desk.step(join(other), now).unwrap().facts.id, id, "it is another");
    }
    let lines = desk.journal.len();
    let id = desk.facts.id;
    desk.step(SubscriptionStep::Cancel { id, by: Side::Payer }, now).unwrap();
    assert_eq!(desk.step(join(facts("g", "1 day")), now).unwrap().facts.id, id, "it is paid for");
    let over = "2026-02-01T10:00:00Z";
    let begun = desk.step(join(facts("h", "1 day")), over).unwrap();
    assert_ne!(begun.facts.id, id);
    assert_eq!(desk.journal.len(), lines + 2);
    desk.is_sound();
}

/// SUB.S05: nothing is charged after a cancellation, and what was paid for can be used to its end.
#[test]
fn nothing_is_charged_once_it_is_cancelled() {
    for by in [Side::Payer, Side::Seller] {
        let mut desk = Desk::with(facts("a", "1 week"), 10_000);
        desk.open("2026-01-31T10:00:00Z").unwrap();
        desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
        let id = desk.facts.id;
        let cancel = SubscriptionStep::Cancel { id, by };
        let cancelled = desk.step(cancel.clone(), "2026-02-01T00:00:00Z").unwrap();
        assert_eq!(cancelled.state, SubscriptionState::Cancelled { by });
        assert_eq!(desk.using(0, "2026-02-07T09:59:59Z"), Ok(Claim::Fresh), "it was paid for");
        let over = refused(SubscriptionError::Over);
        assert_eq!(desk.using(0, "2026-02-07T10:00:00Z"), over);
        assert_eq!(desk.charge(1, 1, "2026-02-07T10:00:00Z"), over);
        let lines = desk.journal.len();
        desk.step(cancel, "2026-02-08T00:00:00Z").unwrap();
        assert_eq!(desk.journal.len(), lines, "a second time is the same");
        let end = SubscriptionStep::End { id, why: Ending::Cancelled };
        let early = desk.step(end.clone(), "2026-02-07T09:00:00Z");
        assert_eq!(early, Err(SubscriptionError::OutOfOrder));
        let ended = desk.step(end, "2026-02-07T10:00:00Z").unwrap();
        assert_eq!(ended.state, SubscriptionState::Ended { why: Ending::Cancelled });
        desk.is_sound();
    }
}

#[test]
fn nothing_is_charged_or_used_from_the_moment_it_expires() {
    let expires_at = Some(at("2026-02-10T00:00:00Z"));
    let mut desk = Desk::with(SubscriptionFacts { expires_at, ..facts("a", "1 week") }, 10_000);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
    assert_eq!(desk.charge(1, 1, "2026-02-07T10:00:00Z"), Ok(Claim::Fresh));
    assert_eq!(desk.look().paid_until(), expires_at);
    assert_eq!(desk.using(1, "2026-02-09T23:59:59Z"), Ok(Claim::Fresh));
    let over = refused(SubscriptionError::Over);
    assert_eq!(desk.using(1, "2026-02-10T00:00:00Z"), over);
    assert_eq!(desk.charge(2, 2, "2026-02-14T10:00:00Z"), over);
    let end = SubscriptionStep::End { id: desk.facts.id, why: Ending::Expired };
    desk.step(end, "2026-02-10T00:00:00Z").unwrap();
    desk.is_sound();
}

/// SUB.S04: what was begun is begun once, by whoever comes first; and a failure is noted once.
#[test]
fn what_fails_is_past_due_until_it_is_paid_or_given_up() {
    let mut desk = Desk::with(facts("a", "1 day"), 700);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    desk.open("2026-01-31T10:00:01Z").unwrap();
    let somebody = SubscriptionFacts { payer: "did:key:z6MkOther".into(), ..desk.facts.clone() };
    let taken = desk.step(SubscriptionStep::Open(Box::new(somebody)), "2026-01-31T10:00:00Z");
    assert_eq!(taken, Err(SubscriptionError::Taken));
    desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
    let now = "2026-02-01T10:00:00Z";
    assert_eq!(desk.charge(1, 1, now), Err(ClaimError::Overdrawn));
    let id = desk.facts.id;
    let fail = SubscriptionStep::Fail {
        id,
        period: 1,
        failures: 0,
        why: ChargeFailure::Short,
        retry_at: Some(at("2026-02-01T11:00:00Z")),
    };
    let lines = desk.journal.len();
    let due = desk.step(fail.clone(), now).unwrap();
    assert_eq!((due.state, due.failures), (SubscriptionState::PastDue, 1));
    desk.step(fail, now).unwrap();
    assert_eq!(desk.journal.len(), lines + 1, "it is noted once");
    let fund = Entry::Fund {
        holder: Holder::new("alice").unwrap(),
        amount: Amount::new(usd(), 1_000),
        reference: "invoice 2".into(),
    };
    let funded = desk.book.enter(fund, &Shelf::default(), at(now)).unwrap();
    desk.journal.extend(funded);
    // A day later than it was due: only the day that it is by now.
    assert_eq!(desk.charge(2, 1, "2026-02-02T12:00:00Z"), Ok(Claim::Fresh));
    let paid = desk.look();
    assert_eq!((paid.state, paid.failures, paid.charges), (SubscriptionState::Active, 0, 2));
    let lapsed = SubscriptionStep::End { id, why: Ending::Lapsed };
    assert_eq!(desk.step(lapsed, now), Err(SubscriptionError::OutOfOrder), "it is paid");
    desk.is_sound();
}

/// SUB.S04: a charge that its rail has not confirmed is the only one, and its anchor is the rail's word.
#[test]
fn a_charge_on_its_way_is_alone() {
    let cash = Account::new(AccountKind::Clearing, Holder::new("chain").unwrap(), usd());
    let rails = SubscriptionFacts {
        money: Money::Rail,
        from: Source::Account(cash),
        ..facts("a", "1 day")
    };
    let mut desk = Desk::with(rails, 1);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    assert_eq!(desk.charge(0, 0, "2026-01-31T10:00:00Z"), Ok(Claim::Fresh));
    let busy = refused(SubscriptionError::Busy);
    assert_eq!(desk.charge(0, 1, "2026-01-31T10:00:01Z"), busy);
    assert_eq!(desk.using(0, "2026-01-31T10:00:01Z"), refused(SubscriptionError::Unpaid));
    desk.is_sound();
    let payment = desk.look().in_flight.unwrap().payment;
    let voided = desk.book.void(payment, VoidReason::Declined, at("2026-01-31T10:00:02Z"));
    desk.journal.extend(voided);
    assert_eq!(desk.charge(0, 1, "2026-01-31T10:00:03Z"), Ok(Claim::Fresh), "another attempt");
    let payment = desk.look().in_flight.unwrap().payment;
    let settled = Settlement::new("0xabc".into(), at("2026-01-31T09:59:58Z"));
    let posted = desk.book.post(payment, settled, at("2026-01-31T10:00:09Z"));
    desk.journal.extend(posted);
    let it = desk.look();
    assert_eq!(
        (it.state, it.anchor),
        (SubscriptionState::Active, Some(at("2026-01-31T09:59:58Z")))
    );
    assert_eq!(it.reference.as_deref(), Some("0xabc"));
    assert_eq!(desk.using(0, "2026-01-31T10:00:10Z"), Ok(Claim::Fresh));
    desk.is_sound();
}

/// The lines of a journal are kept for ever: what they look like does not change.
#[test]
fn lines_look_as_they_always_did() {
    let mut desk = Desk::with(facts("a", "1 month"), 700);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    let id = desk.facts.id;
    desk.step(SubscriptionStep::Cancel { id, by: Side::Seller }, "2026-02-01T00:00:00Z").unwrap();
    let lines: Vec<String> = desk.journal.iter().skip(3).map(Record::to_json).collect();
    let key = KEY.to_string();
    let golden = [
        format!(
            r#"{{"seq":4,"at":1769853600000000,"trace":"{}","event":{{"is":"subscription","subscription":"{id}","step":{{"opened":{{"facts":{{"id":"{id}","trace":"{0}","protocol":"mpp","method":"prepaid","challenge":"a","offered_until":1769853900000000,"payer":"did:key:z6MkPayer","payee":"acme","asset":"usd","atoms":"500","period":{{"unit":"month","count":1}},"plan":"pro","route":"reports","from":{{"key":"{key}"}},"money":"book"}}}}}}}}}}"#,
            desk.facts.trace
        ),
        format!(
            r#"{{"seq":5,"at":1769904000000000,"trace":"{}","event":{{"is":"subscription","subscription":"{id}","step":{{"cancelled":{{"by":"seller"}}}}}}}}"#,
            desk.facts.trace
        ),
    ];
    assert_eq!(lines, golden);
}

/// What a journal must not say, the audit finds.
#[test]
fn the_audit_finds_a_second_charge() {
    let mut desk = Desk::with(facts("a", "1 month"), 10_000);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
    desk.charge(1, 1, "2026-02-28T10:00:00Z").unwrap();
    desk.is_sound();
    let mut forged = desk.journal.clone();
    for record in &mut forged {
        if let Event::Claimed { payment, .. } = &mut record.event
            && let Some(part) = &mut payment.subscription
        {
            part.period = 0;
        }
    }
    assert!(audit(&forged).is_err());
}

/// Who has subscribed is erased once the subscription is over, and not before; what is read anew is the same
/// book.
#[test]
fn who_has_subscribed_is_erased_once_it_is_over() {
    let mut desk = Desk::with(facts("a", "1 day"), 10_000);
    desk.open("2026-01-31T10:00:00Z").unwrap();
    desk.charge(0, 0, "2026-01-31T10:00:00Z").unwrap();
    let plan = |desk: &Desk| {
        let whose = Whose::Payer { name: "did:key:z6MkPayer".into(), key: None };
        let erasure = Erasure { whose, reason: "case 17".into(), key: ErasureKey([3; 32]) };
        let mut survey = Survey::begin(erasure);
        desk.journal.iter().for_each(|record| survey.take(record));
        survey.end(&desk.book)
    };
    let id = desk.facts.id;
    let open = plan(&desk).err();
    assert_eq!(open, Some(EraseError::Open(vec![StillOpen::Subscription(id)])));
    desk.step(SubscriptionStep::Cancel { id, by: Side::Payer }, "2026-01-31T11:00:00Z").unwrap();
    let end = SubscriptionStep::End { id, why: Ending::Cancelled };
    desk.step(end, "2026-02-01T10:00:00Z").unwrap();
    let plan = plan(&desk).unwrap();
    let mut anew = Vec::new();
    for record in &mut desk.journal {
        if let Some(rewritten) = plan.rewrite(record.seq, &record.to_json()).unwrap() {
            *record = Record::from_json(rewritten.line.as_bytes()).unwrap();
            anew.push(rewritten);
        }
    }
    let erased = desk.book.erase(&plan, &anew, at("2026-02-02T00:00:00Z"));
    desk.journal.extend(erased);
    let journal: String = desk.journal.iter().map(Record::to_json).collect();
    let known = serde_json::to_string(&desk.book.snapshot()).unwrap();
    assert!(!journal.contains("z6MkPayer") && !known.contains("z6MkPayer"), "{journal} {known}");
    let opened = desk.journal.iter().find(|it| matches!(it.event, Event::Subscription { .. }));
    let opened = opened.unwrap().to_json();
    assert!(!opened.contains(&KEY.to_string()), "{opened}");
    assert!(opened.contains("\"500\""), "what was agreed on stays");
    desk.is_sound();
}

proptest! {
    /// SUB.S02: whatever is tried, in whatever order, no period is charged twice and none before it begins.
    #[test]
    fn no_period_is_charged_twice(tries in prop::collection::vec((0_u64..400, 0_u64..4, any::<bool>()), 1..40)) {
        let mut desk = Desk::with(facts("a", "1 month"), 1_000_000);
        desk.open("2026-01-31T10:00:00Z").unwrap();
        let mut now = at("2026-01-31T10:00:00Z");
        let mut charged = std::collections::BTreeSet::new();
        for (hours, skew, retries) in tries {
            now = now.after(std::time::Duration::from_hours(hours));
            let it = desk.look();
            let index = it.period_at(now).unwrap();
            let attempt = if retries { it.attempts } else { it.attempts + 1 };
            let period = (index + skew).saturating_sub(1);
            if desk.charge(period, attempt, &now.to_string()) == Ok(Claim::Fresh) {
                prop_assert_eq!(period, index);
                prop_assert!(charged.insert(period));
            }
        }
        let earned: Account = "payable/acme/usd".parse().unwrap();
        let atoms = u128::try_from(charged.len()).unwrap() * 500;
        prop_assert_eq!(desk.book.balances().of(&earned).available(), atoms);
        desk.is_sound();
    }
}
