//! A book is altered in one place, and the place is named.

use super::*;
use crate::book::tests::{Desk, START, purchase};
use crate::*;

/// Everything a store keeps of a book.
#[derive(Clone)]
struct Kept {
    rows: Vec<Row>,
    seals: Vec<Seal>,
    snapshot: (Snapshot, Tree),
    proofs: Vec<Indexed>,
    answers: Vec<(Answered, Fingerprint)>,
    published: Vec<Published>,
}

/// opened, key, funded; `a` bought and delivered; `b` claimed, posted and delivered. A seal after every
/// two records, a snapshot in the middle.
fn kept() -> Kept {
    let mut desk = Desk::new();
    let mut answers = Vec::new();
    for (name, money) in [("a", Money::Book), ("b", Money::Rail)] {
        let request = purchase(name, money);
        let id = request.payment.id;
        desk.claim(request).unwrap();
        for record in [
            desk.book.post(id, Settlement::new("tx".into(), desk.now), desk.now),
            desk.book.deliver_kept(id, Outcome { status: 200 }, digest(name), desk.now),
        ] {
            desk.write(record);
        }
        answers.extend(desk.book.answered(id).zip(Some(answer(name))));
    }
    let mut sealer = Sealer::default();
    let (mut seals, mut book) = (Vec::new(), Book::default());
    let mut snapshot = None;
    for records in desk.journal.chunks(2) {
        seals.push(sealer.seal(records.iter().map(Record::to_json)));
        for record in records {
            book.replay(record).unwrap();
        }
        snapshot = snapshot
            .or_else(|| (book.seq() >= 6).then(|| (book.snapshot(), sealer.tree().clone())));
    }
    let row = |record: &Record| Row {
        seq: record.seq,
        at: record.at,
        trace: record.trace,
        line: record.to_json(),
    };
    let indexed = |record: &Record| {
        let trace = record.trace;
        let index = move |(proof, payment)| Indexed { proof, payment, trace };
        claimed_proofs(record).into_iter().map(index).collect::<Vec<_>>()
    };
    Kept {
        rows: desk.journal.iter().map(row).collect(),
        published: vec![Published { size: seals[1].size, root: seals[1].root }],
        seals,
        snapshot: snapshot.unwrap(),
        proofs: desk.journal.iter().flat_map(indexed).collect(),
        answers,
    }
}

/// The digest of the answer that is kept for a payment.
fn answer(name: &str) -> Fingerprint {
    answer_digest(Some((200, b"", name.as_bytes())))
}

/// What the journal says of it: nothing of `b`, as before there were such digests.
fn digest(name: &str) -> Option<Fingerprint> {
    (name == "a").then(|| answer(name))
}

fn verify(kept: &Kept) -> Result<Verified, AllWrong> {
    let snapshot = Some(kept.snapshot.clone());
    let mut check = Verification::begin(&kept.seals, snapshot, kept.published.clone());
    kept.rows.iter().for_each(|row| check.row(row));
    kept.proofs.iter().for_each(|proof| check.proof(proof));
    kept.answers.iter().for_each(|(answer, digest)| check.answer(answer, *digest));
    check.finish(START, START)
}

/// Alters the book; the first thing named must be `want`.
#[track_caller]
fn check(alter: impl FnOnce(&mut Kept), want: &str) {
    let mut altered = kept();
    alter(&mut altered);
    let wrong = verify(&altered).unwrap_err().to_string();
    assert!(wrong.lines().any(|line| line.contains(want)), "{want:?} is not in\n{wrong}");
}

fn edit(row: &mut Row, alter: impl FnOnce(&mut Record)) {
    let mut record = Record::from_json(row.line.as_bytes()).unwrap();
    alter(&mut record);
    (row.seq, row.at, row.trace, row.line) =
        (record.seq, record.at, record.trace, record.to_json());
}

#[test]
fn a_book_that_nobody_altered_is_sound() {
    let kept = kept();
    let verified = verify(&kept).unwrap();
    assert_eq!((verified.audit.records, verified.audit.delivered, verified.seals), (8, 2, 4));
    assert_eq!(verified.root, kept.seals[3].root);
    let empty = Verification::begin(&[], None, Vec::new()).finish(START, START).unwrap();
    assert_eq!((empty.audit.records, empty.root), (0, merkle::Hash::empty()));
}

/// U-03: a row of the journal that was deleted, inserted, moved or edited is named.
#[test]
fn an_altered_row_of_the_journal_is_named() {
    check(|kept| drop(kept.rows.remove(3)), "record 4 was deleted");
    check(|kept| drop(kept.rows.pop()), "record 8 was deleted");
    check(|kept| kept.rows.clear(), "record 1 was deleted");
    check(
        |kept| {
            let mut more = kept.rows[7].clone();
            edit(&mut more, |record| record.seq = 9);
            kept.rows.push(more);
        },
        "record 9 was never sealed",
    );
    check(
        |kept| {
            let (one, other) = (kept.rows[3].line.clone(), kept.rows[4].line.clone());
            (kept.rows[3].line, kept.rows[4].line) = (other, one);
        },
        "record 4 was sealed as record 5",
    );
    check(|kept| edit(&mut kept.rows[2], |it| it.transfers[0].atoms = 13), "record 3 is not the");
    check(
        |kept| edit(&mut kept.rows[7], |it| it.at = START.after(std::time::Duration::from_secs(1))),
        "record 8 is not the line",
    );
    check(|kept| kept.rows[4].line.push(' '), "record 5 is not the line");
    check(|kept| kept.rows[4].line.clear(), "record 5 cannot be read");
    check(|kept| kept.rows[4].trace = None, "record 5: the column `trace`");
    check(
        |kept| kept.rows[4].at = START.after(std::time::Duration::from_secs(1)),
        "record 5: the column `at`",
    );
}

/// U-03: so is a row that was altered together with everything that seals it, as long as something was
/// published before.
#[test]
fn a_journal_that_was_rewritten_with_its_seals_is_found_by_what_was_published() {
    let rewrite = |kept: &mut Kept| {
        edit(&mut kept.rows[2], |it| it.transfers[0].atoms = 13);
        let lines: Vec<&Row> = kept.rows.iter().collect();
        let mut sealer = Sealer::default();
        let mut book = Book::default();
        kept.seals = lines.chunks(2).map(|it| sealer.seal(it.iter().map(|it| &it.line))).collect();
        let mut tree = Tree::default();
        for row in kept.rows.iter().take(6) {
            tree.push(merkle::Hash::leaf(row.line.as_bytes()));
            book.replay(&Record::from_json(row.line.as_bytes()).unwrap()).unwrap();
        }
        kept.snapshot = (book.snapshot(), tree);
        kept.proofs.retain(|it| it.trace.is_some());
        for (proof, payment) in
            claimed_proofs(&Record::from_json(kept.rows[2].line.as_bytes()).unwrap())
        {
            kept.proofs.push(Indexed { proof, payment, trace: None });
        }
    };
    check(rewrite, "the first 4 records are not those of the published checkpoint");
    // The control: to whoever published nothing, the forgery looks like a book.
    let mut forged = kept();
    rewrite(&mut forged);
    forged.published.clear();
    verify(&forged).unwrap();
    // Cutting the end off, seals and all, is found by a checkpoint of it.
    check(
        |kept| {
            kept.published = vec![Published { size: 8, root: kept.seals[3].root }];
            kept.rows.truncate(6);
            kept.seals.truncate(3);
            kept.answers.truncate(1);
        },
        "a checkpoint of 8 records was published, and there are 6",
    );
}

#[test]
fn an_altered_seal_is_named() {
    check(|kept| drop(kept.seals.remove(1)), "the seal over the first 6 records: it does not");
    check(|kept| drop(kept.seals.pop()), "record 7 was never sealed");
    check(|kept| kept.seals.swap(1, 2), "the seal over the first 6 records");
    check(|kept| kept.seals[1].leaves[0] = kept.seals[0].root, "record 3 is not the line");
    check(|kept| kept.seals[1].root = kept.seals[0].root, "over the first 4 records: its leaves");
    check(|kept| kept.seals[1].chain = kept.seals[0].root, "over the first 4 records: its chain");
    check(|kept| kept.seals[1].size = u64::MAX, "the seal over the first 18446744073709551615");
}

#[test]
fn an_altered_projection_is_named() {
    check(|kept| _ = kept.proofs.remove(0), "of record 3 was deleted from the index");
    check(|kept| kept.proofs[2].trace = None, "of record 4 does not stand in the index");
    check(|kept| kept.proofs[2].proof.keep_until = None, "of record 4 does not stand");
    check(
        |kept| kept.proofs[2].proof.fingerprint = Fingerprint::of("other", &[]),
        "in the index was never claimed",
    );
    check(|kept| drop(kept.answers.remove(0)), "the answer kept for pay_");
    check(|kept| kept.answers[0].0.outcome.status = 500, "is not what the journal says");
    check(|kept| kept.answers[0].0.payment = PaymentId::from_bytes([1; 16]), "was never delivered");
    check(|kept| kept.answers[0].1 = answer("b"), "is not the one that was given");
    check(|kept| kept.snapshot.0.seq = 9, "the snapshot at record 9 is not what the journal makes");
    check(|kept| kept.snapshot.1 = Tree::default(), "the hashes of the journal's tree");
    let altered = |alter: fn(&mut serde_json::Value)| {
        move |kept: &mut Kept| {
            let mut json = serde_json::to_value(&kept.snapshot.0).unwrap();
            alter(&mut json);
            kept.snapshot.0 = serde_json::from_value(json).unwrap();
        }
    };
    let accounts = altered(|it| it["accounts"][0][1]["debits_posted"] = "99".into());
    check(accounts, "the balance of ");
    check(altered(|it| it["epoch"] = 9.into()), "how often the book was opened");
    check(altered(|it| it["keys"] = serde_json::json!([])), "the key ");
    check(altered(|it| it["live"] = serde_json::json!([])), "the payment pay_");
}

#[test]
fn what_could_be_dropped_is_not_missed() {
    let mut kept = kept();
    kept.proofs.retain(|it| it.proof.keep_until.is_none());
    kept.answers.clear();
    verify(&kept).unwrap_err();
    let snapshot = Some(kept.snapshot.clone());
    let mut check = Verification::begin(&kept.seals, snapshot, Vec::new());
    kept.rows.iter().for_each(|row| check.row(row));
    kept.proofs.iter().for_each(|proof| check.proof(proof));
    let later = START.after(std::time::Duration::from_hours(1));
    check.finish(later, later).unwrap();
}

/// What was kept before the journal said what was kept is not held against anything.
#[test]
fn an_answer_from_before_there_were_digests_is_believed() {
    let mut old = kept();
    old.answers[1].1 = answer("c");
    verify(&old).unwrap();
    assert!(!old.rows[7].line.contains("kept"), "{}", old.rows[7].line);
}

/// A book that is altered in very many places is not described for ever.
#[test]
fn very_much_that_is_wrong_is_counted() {
    let mut check = Verification::begin(&[], None, Vec::new());
    let mut row = kept().rows.remove(0);
    row.seq = 1_000_000;
    check.row(&row);
    let wrong = check.finish(START, START).unwrap_err();
    assert_eq!(wrong.named.len(), NAMED_MAX);
    assert!(wrong.to_string().ends_with("more"), "{wrong}");
}
