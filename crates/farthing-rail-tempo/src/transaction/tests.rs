use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{address, hex};
use farthing_money::{Amount, AssetId};
use proptest::prelude::*;
use tempo_primitives::transaction::{
    FEE_PAYER_SIGNATURE_MARKER, PrimitiveSignature, TempoSignature,
};

use super::*;
use crate::envelope;
use crate::memo::attribution;

const REALM: &str = "api.example.com";
const EXPIRES_S: u64 = 1_763_712_300;

/// A charge of 2,500 atoms.
pub(crate) fn terms() -> Terms {
    Terms {
        amount: Amount::new(AssetId::new("usd").unwrap(), 2_500),
        token: Address(address!("20c0000000000000000000000000000000000000")),
        recipient: Address(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")),
        chain_id: 42_431,
        memo: None,
        splits: Vec::new(),
        sponsored: false,
        pull: true,
        push: true,
    }
}

fn bound() -> Bound<'static> {
    Bound { realm: REALM, challenge: "a", expires_at_s: EXPIRES_S }
}

/// The transaction of an honest buyer, changed before it is signed.
fn signed(change: impl FnOnce(&mut TempoTransaction)) -> String {
    let mut transaction =
        build(&terms(), attribution(REALM, "a"), NonZeroU64::new(EXPIRES_S).unwrap());
    change(&mut transaction);
    let signature = sign_message(B256::repeat_byte(7), transaction.signature_hash()).unwrap();
    let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
    let mut raw = Vec::new();
    transaction.into_signed(signature).eip2718_encode(&mut raw);
    hex::encode_prefixed(raw)
}

/// A sponsored charge, its transaction changed before the buyer signs it, and the buyer.
pub(crate) fn sponsored(change: impl FnOnce(&mut TempoTransaction)) -> (AASigned, Address) {
    let terms = Terms { sponsored: true, ..terms() };
    let mut transaction =
        build(&terms, attribution(REALM, "a"), NonZeroU64::new(EXPIRES_S).unwrap());
    transaction.gas_limit = 100_000;
    transaction.max_fee_per_gas = 40_000_000_000;
    change(&mut transaction);
    let signature = sign_message(B256::repeat_byte(7), transaction.signature_hash()).unwrap();
    let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
    (transaction.into_signed(signature), Address::of_secret(&[7; 32]).unwrap())
}

/// The same as it travels.
pub(crate) fn waiting(change: impl FnOnce(&mut TempoTransaction)) -> String {
    let (signed, sender) = sponsored(change);
    hex::encode_prefixed(envelope::close(&raw(&signed), sender.0).unwrap())
}

/// The sponsored charge.
pub(crate) fn sponsored_payment(
    change: impl FnOnce(&mut TempoTransaction),
) -> Result<Payment, Mismatch> {
    Payment::read(&waiting(change), &Terms { sponsored: true, ..terms() }, &bound())
}

#[track_caller]
fn check(change: impl FnOnce(&mut TempoTransaction), want: Result<(), Mismatch>) {
    let read = Payment::read(&signed(change), &terms(), &bound());
    assert_eq!(read.map(drop), want);
}

fn input(change: impl FnOnce(&mut Vec<u8>)) -> impl FnOnce(&mut TempoTransaction) {
    |tx| {
        let mut input = tx.calls[0].input.to_vec();
        change(&mut input);
        tx.calls[0].input = input.into();
    }
}

/// TCH.S02: the charge, the whole charge and nothing but the charge.
#[test]
fn a_transaction_does_what_was_asked_and_nothing_else() {
    check(|_| {}, Ok(()));
    let pay = |to, amount: u64, memo: B256| {
        move |tx: &mut TempoTransaction| {
            let call = transferWithMemoCall { to, amount: U256::from(amount), memo };
            tx.calls[0].input = call.abi_encode().into();
        }
    };
    let (payee, memo) = (terms().recipient.0, attribution(REALM, "a"));
    check(pay(payee, 2_500, memo), Ok(()));
    check(pay(payee, 2_499, memo), Err(Mismatch::Less));
    check(pay(payee, 2_501, memo), Err(Mismatch::Calls));
    check(pay(alloy_primitives::Address::ZERO, 2_500, memo), Err(Mismatch::Calls));
    // A memo of the sender's own is the sender's business; one for another challenge is not.
    check(pay(payee, 2_500, B256::repeat_byte(9)), Ok(()));
    check(pay(payee, 2_500, attribution(REALM, "b")), Err(Mismatch::Memo));
    let plain = transferCall { to: payee, amount: U256::from(2_500) }.abi_encode();
    check(|tx| tx.calls[0].input = plain.into(), Ok(()));
    check(|tx| tx.calls[0].to = TxKind::Call(payee), Err(Mismatch::Calls));
    check(|tx| tx.calls[0].to = TxKind::Create, Err(Mismatch::Calls));
    check(|tx| tx.calls[0].value = U256::from(1), Err(Mismatch::Calls));
    check(|tx| tx.calls.push(tx.calls[0].clone()), Err(Mismatch::ExtraCalls));
    check(|tx| tx.calls.clear(), Err(Mismatch::Malformed));
    check(|tx| tx.chain_id = 4_217, Err(Mismatch::Chain));
    // A marker is nobody's signature.
    check(|tx| tx.fee_payer_signature = Some(FEE_PAYER_SIGNATURE_MARKER), Err(Mismatch::Malformed));
}

/// TCH.C01: a transaction is not valid for longer than its challenge.
#[test]
fn a_transaction_does_not_outlive_its_challenge() {
    let until = |at| move |tx: &mut TempoTransaction| tx.valid_before = NonZeroU64::new(at);
    check(until(EXPIRES_S), Ok(()));
    check(until(EXPIRES_S + 1), Err(Mismatch::Outlives));
    check(until(0), Err(Mismatch::Outlives));
    check(|tx| tx.valid_after = NonZeroU64::new(EXPIRES_S), Err(Mismatch::Malformed));
}

/// M-06: calldata with something behind it or inside its padding, an access list, and encodings that
/// are not the canonical one.
#[test]
fn a_transaction_has_one_spelling() {
    check(input(|_| {}), Ok(()));
    check(input(|bytes| bytes.push(0)), Err(Mismatch::Calls));
    check(input(|bytes| bytes[4] = 1), Err(Mismatch::Calls));
    check(input(|bytes| bytes.truncate(99)), Err(Mismatch::Calls));
    let entry = serde_json::json!([{ "address": terms().token.to_string(), "storageKeys": [] }]);
    check(|tx| tx.access_list = serde_json::from_value(entry).unwrap(), Err(Mismatch::Lists));
    let good = signed(|_| {});
    for bad in [
        format!("{good}00"),
        good.replacen("0x76", "0x78", 1),
        good.replacen("0x76", "0x02", 1),
        good.to_uppercase().replacen("0X", "0x", 1),
        good.trim_start_matches("0x").to_owned(),
        format!(" {good}"),
        "0x76".into(),
        "0x".into(),
        String::new(),
        format!("0x76{}", "00".repeat(BYTES_MAX)),
    ] {
        let read = Payment::read(&bad, &terms(), &bound());
        assert_eq!(read.map(drop), Err(Mismatch::Malformed), "{bad}");
    }
}

/// B-13: another signature over the same intention is the same payment.
#[test]
fn a_twin_signature_is_no_other_payment() {
    let first = Payment::read(&signed(|_| {}), &terms(), &bound()).unwrap();
    let second = Payment::read(&signed(|_| {}), &terms(), &bound()).unwrap();
    assert_eq!(first.identity, second.identity);
    let later = signed(|tx| tx.gas_limit += 1);
    let later = Payment::read(&later, &terms(), &bound()).unwrap();
    assert_ne!(first.identity, later.identity);
    assert_eq!(first.sender, later.sender);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(0x76)?[0-9a-f]{0,400}") {
        prop_assert!(Payment::read(&text, &terms(), &bound()).is_err());
    }

    #[test]
    fn no_damage_is_overlooked(at in any::<prop::sample::Index>(), digit in "[0-9a-f]") {
        let good = signed(|_| {});
        let digits = good.trim_start_matches("0x");
        let at = at.index(digits.len());
        let mut bad = digits.to_owned();
        bad.replace_range(at..=at, &digit);
        let bad = format!("0x{bad}");
        // Damage that still is a transaction is one of somebody else's.
        let sender = |text: &str| Payment::read(text, &terms(), &bound()).map(|it| it.sender);
        prop_assert!(bad == good || sender(&bad) != sender(&good));
    }
}

/// F-13: what waits for a sponsor was signed by its sender, does exactly what was asked, and
/// names the challenge; and nothing waits where nobody sponsors.
#[test]
fn a_sponsored_transaction_is_the_payment() {
    let read = |change: fn(&mut TempoTransaction)| sponsored_payment(change).map(|it| it.sender);
    let sender = Address::of_secret(&[7; 32]).unwrap();
    assert_eq!(read(|_| {}), Ok(sender), "the control");
    assert_eq!(read(|tx| tx.calls.push(tx.calls[0].clone())), Err(Mismatch::ExtraCalls));
    let plain = |tx: &mut TempoTransaction| {
        let (to, amount) = (terms().recipient.0, U256::from(2_500));
        tx.calls[0].input = transferCall { to, amount }.abi_encode().into();
    };
    assert_eq!(read(plain), Err(Mismatch::Memo));
    let other = |tx: &mut TempoTransaction| {
        let (to, amount) = (terms().recipient.0, U256::from(2_500));
        let memo = attribution(REALM, "b");
        tx.calls[0].input = transferWithMemoCall { to, amount, memo }.abi_encode().into();
    };
    assert_eq!(read(other), Err(Mismatch::Memo));
    let unsponsored = Payment::read(&waiting(|_| {}), &terms(), &bound());
    assert_eq!(unsponsored.map(drop), Err(Mismatch::NotSponsored));
    // An envelope that names another sender than the one who signed.
    let (signed, _) = sponsored(|_| {});
    let stranger = Address::of_secret(&[8; 32]).unwrap();
    let forged = hex::encode_prefixed(envelope::close(&raw(&signed), stranger.0).unwrap());
    let read = Payment::read(&forged, &Terms { sponsored: true, ..terms() }, &bound());
    assert_eq!(read.map(drop), Err(Mismatch::Sender));
}

/// Whoever pays the fee, and in whichever form it travels, it is the same payment.
#[test]
fn a_sponsor_makes_no_other_payment() {
    let payment = sponsored_payment(|_| {}).unwrap();
    let mut tx = payment.signed.tx().clone();
    tx.fee_token = Some(terms().token.0);
    let signature =
        sign_message(B256::repeat_byte(9), tx.fee_payer_signature_hash(payment.sender.0));
    tx.fee_payer_signature = Some(signature.unwrap());
    let complete = tx.into_signed(payment.signed.signature().clone());
    let read = Payment::read(&raw(&complete).to_string(), &terms(), &bound()).unwrap();
    assert_eq!((read.identity, read.wants_sponsor), (payment.identity, false));
}

/// CHG.S03: splits are paid with the price, each by a call of its own, in any order.
#[test]
fn splits_are_paid_one_for_one() {
    let split = |seed, atoms, memo| Transfer {
        to: Address(alloy_primitives::Address::repeat_byte(seed)),
        atoms,
        memo,
    };
    let memo = B256::repeat_byte(5);
    let splits = vec![split(1, 500, None), split(1, 500, None), split(2, 250, Some(memo))];
    let terms = Terms { splits, ..terms() };
    let read = |change: fn(&mut TempoTransaction)| {
        let valid_before = NonZeroU64::new(EXPIRES_S).unwrap();
        let mut tx = build(&terms, attribution(REALM, "a"), valid_before);
        change(&mut tx);
        let signature = sign_message(B256::repeat_byte(7), tx.signature_hash()).unwrap();
        let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
        let text = raw(&tx.into_signed(signature)).to_string();
        Payment::read(&text, &terms, &bound()).map(|it| it.transfers.len())
    };
    assert_eq!(read(|_| {}), Ok(4), "the control");
    assert_eq!(read(|tx| tx.calls.reverse()), Ok(4));
    assert_eq!(read(|tx| drop(tx.calls.pop())), Err(Mismatch::Calls));
    assert_eq!(read(|tx| tx.calls[1] = tx.calls[0].clone()), Err(Mismatch::Calls));
    assert_eq!(read(|tx| tx.calls.push(tx.calls[1].clone())), Err(Mismatch::ExtraCalls));
}
