//! A pack proves what it contains to whoever has the seller's keys, and nothing of it can be altered.

use farthing_ledger::{
    Book, Erasure, ErasureKey, Fingerprint, Holder, Proof, Refund, RefundId, Survey, Terms,
    Transfer, TransferId, Way, Whose,
};
use farthing_ledger::{Phase, VoidReason, audit};
use farthing_money::Amount;

use super::*;
use crate::SecretKey;

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

/// The instant so many hours later.
fn hour(hours: u64) -> Timestamp {
    NOW.after(std::time::Duration::from_hours(hours))
}

fn notary() -> Notary {
    Notary::new("api.example.com", SecretKey::from_bytes(&[7; 32]), &[]).ok().unwrap()
}

/// A journal that a test writes; each step happens an hour after the one before.
#[derive(Default)]
struct Desk(Vec<Record>);

impl Desk {
    fn write(&mut self, trace: Option<TraceId>, event: Event, transfers: Vec<Transfer>) {
        let seq = count(self.0.len()).saturating_add(1);
        let at = hour(seq);
        self.0.push(Record { seq, at, trace, event, transfers });
    }

    fn fund(&mut self, holder: &str, atoms: u128) {
        let transfer = Transfer {
            id: TransferId::derive(holder.as_bytes(), "fund"),
            debit: format!("funding/{holder}/usd").parse().unwrap(),
            credit: format!("prepaid/{holder}/usd").parse().unwrap(),
            atoms,
            phase: Phase::Posted,
        };
        self.write(None, Event::Funded { reference: holder.into() }, vec![transfer]);
    }

    /// `payer` buys something; it settles at once, and is answered with `status`.
    fn buy(&mut self, name: &str, payer: &str, atoms: u128, status: u16) {
        let payment = payment(name, payer, atoms);
        let (id, trace) = (payment.id, payment.trace);
        let proofs = vec![Proof {
            fingerprint: Fingerprint::of("challenge", &[name.as_bytes()]),
            keep_until: None,
        }];
        let settlement = Some(Settlement::new(id.to_string(), NOW));
        let transfer = Transfer {
            id: TransferId::derive(name.as_bytes(), "claim 0"),
            debit: format!("prepaid/{payer}/usd").parse().unwrap(),
            credit: "payable/seller/usd".parse().unwrap(),
            atoms,
            phase: Phase::Posted,
        };
        let event = Event::Claimed { payment: Box::new(payment), proofs, settlement };
        self.write(Some(trace), event, vec![transfer]);
        let outcome = Outcome { status };
        self.write(Some(trace), Event::Delivered { payment: id, outcome, kept: None }, Vec::new());
    }

    fn rows(&self) -> Vec<Row> {
        audit(&self.0).unwrap();
        let row = |record: &Record| Row {
            seq: record.seq,
            at: record.at,
            trace: record.trace,
            line: record.to_json(),
        };
        self.0.iter().map(row).collect()
    }
}

fn payment(name: &str, payer: &str, atoms: u128) -> Payment {
    let identity = Fingerprint::of("challenge", &[name.as_bytes()]);
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&identity.as_bytes()[..10]);
    Payment {
        id: PaymentId::of(&identity),
        trace: TraceId::new(NOW, entropy),
        protocol: "mpp".into(),
        method: "prepaid".into(),
        intent: "charge".into(),
        challenge: name.into(),
        amount: Amount::new("usd".parse().unwrap(), atoms),
        payer: payer.into(),
        payee: Holder::new("seller").unwrap(),
        route: "forecast".into(),
        scope: "0123456789abcdef0123456789abcdef".into(),
        credential: Fingerprint::of("credential", &[name.as_bytes()]),
        expires_at: NOW,
        request: None,
        inquiry: None,
        terms: Terms::default(),
        voucher: None,
        decision: None,
        subscription: None,
    }
}

/// alice and bob are funded; alice buys `a`, bob buys `b` and `c`, alice buys `d`, which is answered with
/// a 404. `c` is given back.
fn journal() -> Desk {
    let mut desk = Desk::default();
    desk.write(None, Event::Opened { epoch: 1 }, Vec::new());
    desk.fund("alice", 100);
    desk.fund("bob", 100);
    desk.buy("a", "alice", 5, 200);
    desk.buy("b", "bob", 7, 200);
    desk.buy("c", "bob", 11, 204);
    desk.buy("d", "alice", 13, 404);
    let paid = payment("c", "bob", 11);
    let refund = Refund {
        id: RefundId::of(paid.id, "sorry"),
        payment: paid.id,
        trace: paid.trace,
        method: paid.method,
        amount: paid.amount,
        payer: paid.payer,
        payee: paid.payee,
        way: Way::Back,
        reference: "sorry".into(),
        reason: String::new(),
        order: None,
    };
    let transfer = Transfer {
        id: TransferId::derive(b"c", "refund"),
        debit: "payable/seller/usd".parse().unwrap(),
        credit: "prepaid/bob/usd".parse().unwrap(),
        atoms: 11,
        phase: Phase::Posted,
    };
    let settlement = Some(Settlement::new("sorry".into(), NOW));
    desk.write(
        Some(paid.trace),
        Event::Refunded { refund: Box::new(refund), settlement },
        vec![transfer],
    );
    desk
}

/// A checkpoint that was published when the journal had this many records.
fn published(rows: &[Row], size: usize) -> String {
    let forest: Forest = rows[..size].iter().map(|row| Hash::leaf(row.line.as_bytes())).collect();
    let size = forest.size();
    Checkpoint::new(&notary(), size, forest.root(size).unwrap()).sign(&notary())
}

fn pack(selection: Selection) -> Pack {
    let rows = journal().rows();
    let earlier = [published(&rows, 4), published(&rows, 9)];
    export(&notary(), &rows, selection, &earlier, NOW).unwrap()
}

fn seqs(pack: &Pack) -> Vec<u64> {
    pack.records.iter().map(|it| it.seq).collect()
}

fn usd(pack: &Pack) -> Sums {
    pack.manifest.totals[&"usd".parse().unwrap()]
}

#[test]
fn a_payment_is_proven_with_its_whole_story() {
    let id = payment("c", "bob", 11).id;
    let pack = pack(Selection::Payment(id));
    assert_eq!(seqs(&pack), [8, 9, 12]);
    let [evidence] = &pack.payments[..] else { panic!("{:?}", pack.payments) };
    let decisions: Vec<&str> = evidence.decisions.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(decisions, ["claimed", "delivered", "refunded"]);
    assert_eq!(evidence.payment.challenge, "c");
    assert_eq!(usd(&pack).refunded, 11);
    let report = verify(pack.to_json().as_bytes(), notary().published()).unwrap();
    assert_eq!((report.checkpoint.size, report.continues), (12, vec![4, 9]));
    let receipt = report.pack.payments[0].receipt.clone().unwrap();
    let expected = Expected { challenge: Some("c"), issuer: Some("api.example.com") };
    let claims = ReceiptClaims::verify(&receipt, notary().published(), expected).unwrap();
    assert_eq!(claims.amount.atoms(), 11);
}

#[test]
fn a_period_and_a_party_are_whole_stories() {
    let period = pack(Selection::Period { from: hour(3), until: hour(7) });
    assert_eq!(seqs(&period), [3, 4, 5, 6, 7], "b was answered after it");
    let alice = pack(Selection::Party("alice".into()));
    assert_eq!(seqs(&alice), [2, 4, 5, 10, 11]);
    let seller = pack(Selection::Party("seller".into()));
    assert_eq!(seqs(&seller), [4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for pack in [period, alice, seller] {
        verify(pack.to_json().as_bytes(), notary().published()).unwrap();
    }
}

#[test]
fn nothing_is_not_exported_and_neither_is_a_journal_that_contradicts_what_was_published() {
    let rows = journal().rows();
    let nobody = Selection::Party("nobody".into());
    let export = |rows: &[Row], selection, published: &[String]| {
        export(&notary(), rows, selection, published, NOW).map(|pack| seqs(&pack))
    };
    assert_eq!(export(&rows, nobody, &[]), Err(ExportError::Nothing));
    let alice = || Selection::Party("alice".into());
    let before = published(&rows, 4);
    assert!(export(&rows, alice(), std::slice::from_ref(&before)).is_ok(), "the control");
    let mut rewritten = rows.clone();
    rewritten[1].line = rewritten[1].line.replace("100", "900");
    let refused = export(&rewritten, alice(), std::slice::from_ref(&before));
    assert_eq!(refused, Err(ExportError::Published { size: 4 }));
    let refused = export(&rows[..3], alice(), &[before]);
    assert_eq!(refused, Err(ExportError::Published { size: 4 }));
    let other = Notary::new("api.example.com", SecretKey::from_bytes(&[8; 32]), &[]).ok().unwrap();
    let foreign = Checkpoint::new(&other, 0, Hash::empty()).sign(&other);
    assert!(matches!(export(&rows, alice(), &[foreign]), Err(ExportError::Checkpoint(_))));
    let mut shifted = rows;
    shifted.remove(2);
    assert_eq!(export(&shifted, alice(), &[]), Err(ExportError::Damaged { seq: 4 }));
}

/// U-04: what the receipts say was paid is what the ledger moved and what the rails settled, counted from
/// three different places; and a file in which they differ is refused.
#[test]
fn receipts_ledger_and_settlements_add_up_to_the_same() {
    let pack = pack(Selection::Party("seller".into()));
    verify(pack.to_json().as_bytes(), notary().published()).unwrap();
    let by_receipts: u128 = pack
        .payments
        .iter()
        .filter_map(|it| it.receipt.as_deref())
        .map(|it| ReceiptClaims::verify(it, notary().published(), Expected::default()).unwrap())
        .map(|claims| claims.amount.atoms())
        .sum();
    let by_settlements: u128 = pack
        .payments
        .iter()
        .filter(|it| it.settlement.is_some())
        .map(|it| it.payment.amount.atoms())
        .sum();
    let sound = audit(&journal().0).unwrap();
    let by_ledger = sound.accounts[&"payable/seller/usd".parse().unwrap()].credits_posted;
    let sums = usd(&pack);
    // The 404 was paid for, and has no receipt.
    assert_eq!((by_receipts, sums.receipts), (23, 23));
    assert_eq!((by_receipts + 13, sums.without_receipt), (by_settlements, 13));
    assert_eq!((sums.settlements, sums.ledger), (by_settlements, by_ledger));
    assert!(sums.agree());
    assert!(!Sums { ledger: sums.ledger - 1, ..sums }.agree());
    assert!(!Sums { receipts: sums.receipts + 1, ..sums }.agree());
}

/// Whoever alters a pack with our own types, and spells it well, is told what is wrong.
#[test]
fn an_altered_part_is_named_in_a_sentence() {
    let keys = notary().published().clone();
    let check = |alter: fn(&mut Pack), want: &str| {
        let mut altered = pack(Selection::Party("bob".into()));
        verify(altered.to_json().as_bytes(), &keys).unwrap();
        alter(&mut altered);
        let fault = verify(altered.to_json().as_bytes(), &keys).unwrap_err().to_string();
        assert!(fault.contains(want), "{want:?} is not {fault:?}");
    };
    check(
        |it| it.records[1].line = it.records[1].line.replace('7', "8"),
        "record 6 does not stand",
    );
    check(|it| it.records[1].seq = 5, "record 5 does not stand");
    check(|it| it.records[1].inclusion.clear(), "record 6 does not stand");
    check(|it| it.records.swap(0, 1), "record 3 does not stand");
    check(|it| it.records[1] = it.records[0].clone(), "record 3 does not stand");
    check(|it| drop(it.records.remove(2)), "is not what its records say");
    check(|it| drop(it.records.remove(0)), "does not count what");
    check(|it| drop(it.payments.remove(0)), "another number");
    check(|it| it.payments[0].payment.payer = "alice".into(), "is not what its records say");
    check(|it| it.payments[0].outcome = None, "is not what its records say");
    check(|it| it.payments[0].receipt = None, "the receipt of pay_");
    check(|it| it.payments[0].receipt = it.payments[1].receipt.clone(), "the receipt of pay_");
    check(|it| it.checkpoint = it.checkpoint.replace("12", "13"), "the checkpoint is not believed");
    check(|it| it.checkpoint = it.published[0].checkpoint.clone(), "does not stand at its place");
    check(|it| it.published[0].consistency.clear(), "published checkpoint of 4 records");
    check(|it| it.published.clear(), "the part `published`");
    check(|it| it.selection = Selection::Party("alice".into()), "record 3 does not belong");
    check(
        |it| {
            it.selection = Selection::Period { from: NOW, until: Timestamp::from_micros(u64::MAX) }
        },
        "the part `selection`",
    );
    check(|it| it.manifest.realm = "api.example.org".into(), "names another realm");
    check(|it| it.manifest.made_at = Timestamp::default(), "the manifest is not believed");
    check(|it| it.manifest.records = 3, "does not count what");
    check(|it| it.manifest.totals.clear(), "the totals of usd");
    check(|it| it.manifest.digests.clear(), "the part `checkpoint`");
    check(|it| _ = it.manifest.digests.insert("more".into(), Hash::empty()), "does not count what");
    check(|it| it.signature.clear(), "the manifest is not believed");
    check(|it| it.farthing_evidence = 2, "version 2");
    // Somebody else's signature is none, however good.
    let thief = Notary::new("api.example.com", SecretKey::from_bytes(&[8; 32]), &[]).ok().unwrap();
    let stolen =
        export(&thief, &journal().rows(), Selection::Party("bob".into()), &[], NOW).unwrap();
    let fault = verify(stolen.to_json().as_bytes(), &keys).unwrap_err();
    assert!(matches!(fault, PackFault::Checkpoint(_)), "{fault}");
}

/// Every byte of the file counts.
#[test]
fn no_byte_can_be_altered() {
    let keys = notary().published().clone();
    let file = pack(Selection::Payment(payment("a", "alice", 5).id)).to_json().into_bytes();
    verify(&file, &keys).unwrap();
    for at in 0..file.len() {
        let mut altered = file.clone();
        altered[at] ^= if altered[at].is_ascii_alphanumeric() { 0x02 } else { 0x01 };
        let fault = verify(&altered, &keys).expect_err("every byte counts");
        assert!(!fault.to_string().is_empty());
    }
    for odd in [&file[..file.len() - 1], &[file.as_slice(), b"\n"].concat(), b"", b"{}"] {
        verify(odd, &keys).unwrap_err();
    }
}

/// A pending payment that was given up has a story and no receipt.
#[test]
fn a_failed_payment_has_no_receipt() {
    let mut desk = Desk::default();
    desk.fund("alice", 100);
    let paid = payment("x", "alice", 5);
    let (id, trace) = (paid.id, paid.trace);
    let hold = Transfer {
        id: TransferId::derive(b"x", "claim 0"),
        debit: "prepaid/alice/usd".parse().unwrap(),
        credit: "payable/seller/usd".parse().unwrap(),
        atoms: 5,
        phase: Phase::Pending,
    };
    let void = Transfer {
        id: TransferId::derive(b"x", "void 0"),
        phase: Phase::Void(hold.id),
        ..hold.clone()
    };
    let event = Event::Claimed { payment: Box::new(paid), proofs: Vec::new(), settlement: None };
    desk.write(Some(trace), event, vec![hold]);
    desk.write(
        Some(trace),
        Event::Voided { payment: id, reason: VoidReason::Declined },
        vec![void],
    );
    let pack = export(&notary(), &desk.rows(), Selection::Payment(id), &[], NOW).unwrap();
    assert_eq!(pack.payments[0].receipt, None);
    assert_eq!(usd(&pack), Sums::default());
    verify(pack.to_json().as_bytes(), notary().published()).unwrap();
}

/// The journal before and after alice was erased from it, who had spent all she had.
fn erased() -> (Vec<Row>, Vec<Row>) {
    let mut desk = journal();
    desk.buy("rest", "alice", 82, 200);
    let before = desk.rows();
    let erasure = Erasure {
        whose: Whose::Payer { name: "alice".into(), key: None },
        reason: "case 17".into(),
        key: ErasureKey([5; 32]),
    };
    let (mut book, mut survey) = (Book::default(), Survey::begin(erasure));
    for record in &desk.0 {
        book.replay(record).unwrap();
        survey.take(record);
    }
    let plan = survey.end(&book).unwrap();
    let (mut rows, mut anew) = (before.clone(), Vec::new());
    for seq in plan.seqs() {
        let row = rows.iter_mut().find(|row| row.seq == seq).unwrap();
        if let Some(rewritten) = plan.rewrite(seq, &row.line).unwrap() {
            row.line.clone_from(&rewritten.line);
            anew.push(rewritten);
        }
    }
    for record in book.erase(&plan, &anew, NOW) {
        let (seq, at, trace) = (record.seq, record.at, record.trace);
        rows.push(Row { seq, at, trace, line: record.to_json() });
    }
    (before, rows)
}

/// U-03: after an erasure a pack proves what was sealed, says which records were erased, and continues
/// what was published before; a pack from before is as good as it was. An erasure that is made up is found.
#[test]
fn an_erased_record_is_proven_by_what_was_sealed() {
    let keys = notary().published().clone();
    let (before, after) = erased();
    let earlier = [published(&before, 4), published(&before, 14)];
    let old = export(&notary(), &before, Selection::Party("alice".into()), &earlier, NOW).unwrap();
    let report = verify(old.to_json().as_bytes(), &keys).unwrap();
    assert_eq!((report.erased, report.pack.farthing_evidence), (vec![], 1));

    let id = payment("a", "alice", 5).id;
    let new = || export(&notary(), &after, Selection::Payment(id), &earlier, NOW).unwrap();
    let report = verify(new().to_json().as_bytes(), &keys).unwrap();
    assert_eq!((&*report.erased, &*report.continues), (&[4][..], &[4, 14][..]));
    assert_eq!((seqs(&report.pack), report.pack.farthing_evidence), (vec![4, 5, 15], 2));
    assert!(!new().to_json().contains("alice"));
    assert_eq!(usd(&report.pack).settlements, 5);
    // What nobody erased is proven as ever.
    let bob = export(&notary(), &after, Selection::Party("bob".into()), &earlier, NOW).unwrap();
    assert_eq!(verify(bob.to_json().as_bytes(), &keys).unwrap().erased, Vec::<u64>::new());

    let check = |alter: fn(&mut Pack), want: &str| {
        let mut altered = new();
        alter(&mut altered);
        let fault = verify(altered.to_json().as_bytes(), &keys).unwrap_err().to_string();
        assert!(fault.contains(want), "{want:?} is not {fault:?}");
    };
    check(|it| drop(it.records.pop()), "record 4 is not the line that was sealed");
    check(
        |it| it.records[0].line = it.records[0].line.replace("\"5\"", "\"6\""),
        "record 4 is not the line that was sealed",
    );
    check(|it| it.records[0].sealed = Some(Hash::empty()), "record 4 does not stand");
    check(
        |it| {
            it.records[1].sealed = Some(Hash::leaf(it.records[1].line.as_bytes()));
            it.records[1].line = it.records[1].line.replace("200", "404");
        },
        "record 5 is not the line that was sealed",
    );
    check(|it| it.farthing_evidence = 1, "version 1");
    check(
        |it| {
            it.records[0].sealed = None;
            it.farthing_evidence = 1;
        },
        "record 4 does not stand",
    );
}
