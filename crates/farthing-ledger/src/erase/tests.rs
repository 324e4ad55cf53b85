//! Somebody is erased: what was sealed holds, and whatever else was done to a row is found.

use std::time::Duration;

use super::*;
use crate::book::tests::{Desk, START, holder, purchase, usd};
use crate::merkle::Tree;
use crate::*;

/// A book, and everything a store keeps of it.
struct Kept {
    desk: Desk,
    rows: Vec<Row>,
    sealer: Sealer,
    seals: Vec<Seal>,
}

impl Kept {
    /// alice bought `a` and `b` with all she had; bob bought `c` over a rail, and was given it back.
    fn new() -> Self {
        let mut desk = Desk::new();
        let names = [("a", Money::Book), ("b", Money::Book), ("c", Money::Rail)];
        for (entropy, (name, money)) in (0..).zip(names) {
            let mut request = purchase(name, money);
            request.payment.trace = TraceId::new(START, [entropy; 10]);
            request.payment.request = Some(Fingerprint::of("request", &[]));
            if name == "c" {
                request.payment.payer = "bob".into();
            }
            let facts = request.payment.clone();
            desk.claim(request).unwrap();
            let records = [
                desk.book.post(facts.id, Settlement::new("tx".into(), desk.now), desk.now),
                desk.book.deliver(facts.id, Outcome { status: 200 }, desk.now),
            ];
            for record in records {
                desk.write(record);
            }
            if name == "c" {
                let to = "clearing/test/usd".parse().unwrap();
                let mut back = RefundRequest::new(&facts, usd(5), to, Way::Back, "ticket 4");
                back.refund.reason = "bob is ill".into();
                let (_, record) = desk.book.refund(back, desk.now).unwrap();
                desk.write(record);
            }
        }
        let spend = |desk: &mut Desk| {
            let mut request = purchase("rest", Money::Book);
            request.payment.trace = TraceId::new(START, [9; 10]);
            (request.payment.amount, request.legs[0].atoms) = (usd(2), 2);
            let id = request.payment.id;
            desk.claim(request).unwrap();
            let record = desk.book.deliver(id, Outcome { status: 200 }, desk.now);
            desk.write(record);
        };
        spend(&mut desk);
        let mut kept =
            Self { desk, rows: Vec::new(), sealer: Sealer::default(), seals: Vec::new() };
        kept.seal();
        kept
    }

    /// Seals what the journal has more than was sealed.
    fn seal(&mut self) {
        let new: Vec<Record> = self.desk.journal[self.rows.len()..].to_vec();
        for record in &new {
            let (seq, at, trace) = (record.seq, record.at, record.trace);
            self.rows.push(Row { seq, at, trace, line: record.to_json() });
        }
        self.seals.push(self.sealer.seal(new.iter().map(Record::to_json)));
    }

    fn plan(&self, whose: Whose, reason: &str) -> Result<Plan, EraseError> {
        let key = ErasureKey([3; 32]);
        let mut survey = Survey::begin(Erasure { whose, reason: reason.into(), key });
        for row in &self.rows {
            survey.take(&Record::from_json(row.line.as_bytes()).unwrap());
        }
        survey.end(&self.desk.book)
    }

    /// Erases as a store does.
    fn erase(&mut self, name: &str) -> Erased {
        let plan = self.plan(payer(name), "case 17").unwrap();
        let mut anew = Vec::new();
        for seq in plan.seqs() {
            let row = self.rows.iter_mut().find(|row| row.seq == seq).unwrap();
            let rewritten = plan.rewrite(seq, &row.line).unwrap();
            if let Some(rewritten) = rewritten {
                row.line.clone_from(&rewritten.line);
                anew.push(rewritten);
            }
        }
        for record in self.desk.book.erase(&plan, &anew, self.desk.now) {
            self.desk.write(Some(record));
        }
        self.seal();
        plan.counts(&anew)
    }

    /// Verifies everything; answers and proofs stand as the rows say.
    fn verify(&self) -> Result<Verified, AllWrong> {
        let snapshot = Some((self.desk.book.snapshot(), self.sealer.tree().clone()));
        let mut check = Verification::begin(&self.seals, snapshot, Vec::new());
        self.rows.iter().for_each(|row| check.row(row));
        for row in &self.rows {
            let Ok(record) = Record::from_json(row.line.as_bytes()) else { continue };
            for (proof, payment) in claimed_proofs(&record) {
                check.proof(&Indexed { proof, payment, trace: record.trace });
            }
            if let Event::Delivered { payment, .. } = record.event
                && let Some(answered) = self.desk.book.answered(payment)
            {
                check.answer(&answered, answer_digest(None));
            }
        }
        check.finish(START, START)
    }

    fn alter(&mut self, seq: u64, alter: impl FnOnce(&mut Record)) {
        let row = self.rows.iter_mut().find(|row| row.seq == seq).unwrap();
        let mut record = Record::from_json(row.line.as_bytes()).unwrap();
        alter(&mut record);
        row.line = record.to_json();
    }

    fn mentions(&self, what: &str) -> usize {
        self.rows.iter().filter(|row| row.line.contains(what)).count()
    }
}

fn payer(name: &str) -> Whose {
    Whose::Payer { name: name.into(), key: None }
}

/// The first thing that is wrong once `alter` was done to a book from which alice is erased.
#[track_caller]
fn check(alter: impl FnOnce(&mut Kept), want: &str) {
    let mut kept = Kept::new();
    kept.erase("alice");
    kept.verify().unwrap();
    alter(&mut kept);
    let wrong = kept.verify().unwrap_err().to_string();
    assert!(wrong.lines().any(|line| line.contains(want)), "{want:?} is not in\n{wrong}");
}

#[test]
fn what_was_sealed_holds_after_an_erasure() {
    let mut kept = Kept::new();
    let before = kept.verify().unwrap();
    assert_eq!(kept.mentions("alice"), 5);
    let erased = kept.erase("alice");
    assert_eq!((erased.payments, erased.holders, erased.keys), (3, 1, 1));
    assert_eq!(kept.mentions("alice"), 0);
    let after = kept.verify().unwrap();
    assert_eq!((after.erased, before.erased), (erased.rows, 0));
    assert_eq!(after.audit.totals, before.audit.totals);
    // What was published before is continued.
    let published = Published { size: kept.seals[0].size, root: before.root };
    let mut check = Verification::begin(&kept.seals, None, vec![published]);
    kept.rows.iter().for_each(|row| check.row(row));
    let wrong = check.finish(START, START).unwrap_err().to_string();
    assert!(!wrong.contains("published"), "{wrong}");
    // The book in memory is the one that the journal makes.
    let mut replayed = Book::default();
    for row in &kept.rows {
        replayed.replay(&Record::from_json(row.line.as_bytes()).unwrap()).unwrap();
    }
    assert_eq!(replayed.snapshot().difference(&kept.desk.book.snapshot()), None);
    assert_eq!(replayed.keys(), kept.desk.book.keys());
}

/// Somebody else's row in the same story of the books is erased later, under another key, and what was
/// erased before holds on.
#[test]
fn one_erasure_follows_another() {
    let mut kept = Kept::new();
    kept.erase("alice");
    let erased = kept.erase("bob");
    assert_eq!((erased.payments, erased.holders, erased.rows), (1, 0, 2));
    assert_eq!((kept.mentions("bob"), kept.mentions("is ill"), kept.mentions("alice")), (0, 0, 0));
    assert_eq!(kept.mentions("ticket 4"), 1, "a reference stays");
    kept.verify().unwrap();
    assert_eq!(kept.plan(payer("bob"), "case 18").err(), Some(EraseError::Unknown));
}

/// U-03: an edit of an erased row, an erasure that nobody recorded, and a record that claims what was
/// not erased are found; each beside a book in which nothing else was done.
#[test]
fn what_is_not_an_erasure_is_found() {
    let edit = |record: &mut Record| record.transfers[0].atoms += 1;
    check(|kept| kept.alter(4, edit), "record 4 is not the line that was sealed");
    // The row as it was before it was erased.
    let first = Kept::new().rows[3].line.clone();
    check(|kept| kept.rows[3].line = first, "says that record 4 was erased, and that is not");
    // Nobody recorded it.
    let unrecorded = |record: &mut Record| record.trace = None;
    check(|kept| kept.alter(8, unrecorded), "record 8 is not the line that was sealed");
    // The record was edited to name one row more.
    check(
        |kept| {
            kept.alter(8, |record| record.trace = None);
            let (sealed, line) = (kept.seals[0].leaves[7], kept.rows[7].line.clone());
            let last = kept.desk.book.seq();
            kept.alter(last, |record| {
                let Event::Erased { rows, .. } = &mut record.event else { panic!("{record:?}") };
                rows.push(ErasedRow { seq: 8, sealed, stands: Hash::leaf(line.as_bytes()) });
            });
        },
        "record 8 is not the line that was sealed",
    );
    // It was deleted.
    check(|kept| drop(kept.rows.pop()), "record 4 is not the line that was sealed");
    // An erased row was deleted.
    check(|kept| drop(kept.rows.remove(3)), "record 4 was deleted");
}

/// A record of an erasure that our own program seals claims rows that it did not write, or that another
/// hash was sealed: a program that errs is found like anybody else.
#[test]
fn a_sealed_claim_that_is_not_true_is_found() {
    for (name, sealed_as_it_was) in [("a row that stands as it was", true), ("another hash", false)]
    {
        let mut kept = Kept::new();
        let line = kept.rows[3].line.clone();
        let sealed = if sealed_as_it_was { kept.seals[0].leaves[3] } else { Hash::leaf(b"other") };
        let row = ErasedRow { seq: 4, sealed, stands: Hash::leaf(b"never written") };
        let event = Event::Erased { reason: "none".into(), payments: Vec::new(), rows: vec![row] };
        let record = kept.desk.book.enter_event(START, event);
        kept.desk.write(Some(record));
        kept.seal();
        let wrong = kept.verify().unwrap_err().to_string();
        assert!(wrong.contains("says that record 4 was erased"), "{name}: {wrong}\n{line}");
    }
}

#[test]
fn whoever_has_something_open_is_not_erased() {
    let mut kept = Kept::new();
    let more = Entry::Fund { holder: holder("alice"), amount: usd(5), reference: "more".into() };
    kept.desk.enter(more).unwrap();
    kept.seal();
    let open = |kept: &Kept| match kept.plan(payer("alice"), "case 17") {
        Err(EraseError::Open(open)) => open,
        other => panic!("{other:?}"),
    };
    let account: Account = "prepaid/alice/usd".parse().unwrap();
    assert_eq!(open(&kept), [StillOpen::Balance(account)]);
    let request = purchase("more", Money::Book);
    let id = request.payment.id;
    kept.desk.claim(request).unwrap();
    kept.seal();
    assert_eq!(open(&kept), [StillOpen::Payment(id)]);
    let record = kept.desk.book.deliver(id, Outcome { status: 200 }, START);
    kept.desk.write(record);
    kept.seal();
    kept.plan(payer("alice"), "case 17").unwrap();
    assert_eq!(kept.plan(payer("alice"), "for alice").err(), Some(EraseError::Named));
    assert_eq!(kept.plan(payer("mallory"), "case 17").err(), Some(EraseError::Unknown));
}

/// A key that somebody else's account is spent with is theirs until it is detached.
#[test]
fn a_key_in_use_is_not_erased() {
    let kept = Kept::new();
    let (key, _) = kept.desk.book.keys().first_key_value().unwrap();
    let whose = Whose::Payer { name: "did:key:z6Mk".into(), key: Some(*key) };
    let refused = kept.plan(whose.clone(), "case 17").unwrap_err();
    assert_eq!(refused, EraseError::Open(vec![StillOpen::Key(*key)]));
    let (mut kept, key) = (Kept::new(), *key);
    kept.desk.enter(Entry::DetachKey { key }).unwrap();
    kept.seal();
    assert!(kept.mentions(&key.to_string()) == 2);
    let plan = kept.plan(whose, "case 17").unwrap();
    let rewritten = plan.seqs().into_iter().filter_map(|seq| {
        let line = &kept.rows[usize::try_from(seq).unwrap() - 1].line;
        plan.rewrite(seq, line).unwrap()
    });
    let lines: Vec<String> = rewritten.map(|it| it.line).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| !line.contains(&key.to_string())), "{lines:?}");
    assert!(lines[0].contains("alice"), "the holder is somebody else");
}

/// The pseudonym of a name says nothing of it without the key, and is the same with it.
#[test]
fn a_pseudonym_follows_from_the_key_of_its_erasure() {
    let (one, other) = (ErasureKey([1; 32]), ErasureKey([2; 32]));
    let pseudonym = one.pseudonym("alice");
    assert!(is_pseudonym(&pseudonym) && Holder::new(&pseudonym).is_ok(), "{pseudonym}");
    assert_eq!(one.pseudonym("alice"), pseudonym);
    assert_ne!(other.pseudonym("alice"), pseudonym);
    assert_ne!(one.pseudonym("bob"), pseudonym);
    assert_eq!(other.pseudonym(&pseudonym), pseudonym, "nobody is erased twice");
    assert!(!is_pseudonym("erased-by-hand") && !is_pseudonym("alice"));
    assert_eq!(format!("{one:?}"), "ErasureKey");
}

/// What happened since a moment stays, and so does an account that holds something.
#[test]
fn what_is_old_is_erased_by_its_age() {
    let mut kept = Kept::new();
    let soon = START.after(Duration::from_secs(1));
    let plan = kept.plan(Whose::Before(START), "old").unwrap();
    assert_eq!(plan.seqs(), Vec::<u64>::new());
    let plan = kept.plan(Whose::Before(soon), "old").unwrap();
    assert_eq!((plan.payments().len(), plan.counts(&[]).holders, plan.counts(&[]).keys), (4, 1, 1));
    kept.desk.now = soon;
    let more = Entry::Fund { holder: holder("alice"), amount: usd(5), reference: "more".into() };
    kept.desk.enter(more).unwrap();
    kept.seal();
    let plan = kept.plan(Whose::Before(soon), "old").unwrap();
    assert_eq!((plan.payments().len(), plan.counts(&[]).holders, plan.counts(&[]).keys), (4, 0, 0));
}

/// Reading only the end of a journal, what was erased before it is nobody's to explain.
#[test]
fn lines_are_held_against_seals_from_any_place() {
    let mut kept = Kept::new();
    kept.erase("alice");
    let sealed: Vec<Hash> = kept.seals.iter().flat_map(|seal| seal.leaves.clone()).collect();
    for from in 0..kept.rows.len() {
        let (mut leaves, mut tree) = (Leaves::default(), Tree::default());
        sealed[..from].iter().for_each(|leaf| tree.push(*leaf));
        for (row, sealed) in kept.rows.iter().zip(&sealed).skip(from) {
            tree.push(leaves.line(row.seq, Some(*sealed), &row.line));
            leaves.record(&Record::from_json(row.line.as_bytes()).unwrap());
        }
        assert_eq!(leaves.unexplained(), Vec::new(), "from {from}");
        assert_eq!(tree.root(), kept.sealer.tree().root());
    }
}

/// A record that was put behind the last seal explains nothing.
#[test]
fn an_erasure_that_was_not_sealed_explains_nothing() {
    let mut kept = Kept::new();
    kept.erase("alice");
    kept.seals.pop();
    let wrong = kept.verify().unwrap_err().to_string();
    for want in ["was never sealed", "record 4 is not the line that was sealed"] {
        assert!(wrong.contains(want), "{want:?} is not in\n{wrong}");
    }
}
