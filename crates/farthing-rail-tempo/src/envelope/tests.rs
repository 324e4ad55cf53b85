use alloy_primitives::hex;
use proptest::prelude::*;

use super::*;
use crate::transaction::tests::{sponsored, waiting};
use crate::transaction::{decode, raw};

/// Both waiting forms, and the marked one, are the same transaction.
#[test]
fn a_waiting_transaction_opens_in_both_forms() {
    let (signed, sender) = sponsored(|_| {});
    let envelope = close(&raw(&signed), sender.0).unwrap();
    assert_eq!(open(&envelope), Some((raw(&signed).to_vec(), Form::Envelope(sender.0))));
    let mut placeholder = Vec::new();
    signed.encode_for_fee_payer_service(&mut placeholder);
    assert_eq!(open(&placeholder), Some((raw(&signed).to_vec(), Form::Placeholder)));
    let again = |bytes: &[u8]| decode(&hex::encode_prefixed(bytes)).unwrap().0;
    assert_eq!(again(&envelope), again(&placeholder));
}

/// M-06: a form has one spelling, and a marker is nobody's signature.
#[test]
fn what_is_not_one_of_the_forms_is_refused() {
    let (signed, sender) = sponsored(|_| {});
    let marked = raw(&signed);
    assert_eq!(open(&marked), None);
    let envelope = close(&marked, sender.0).unwrap();
    assert!(open(&envelope).is_some(), "the control");
    for bad in [
        [&envelope[..], &[0]].concat(),
        envelope[..envelope.len() - 1].to_vec(),
        [&[0x77], &envelope[1..]].concat(),
        [&[0x76], &envelope[1..]].concat(),
        vec![0x78],
        vec![0x78, 0xc0],
        vec![0x78, 0xcb, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        vec![],
    ] {
        let opened = open(&bad).filter(|(_, form)| *form != Form::Complete);
        assert_eq!(opened, None, "{}", hex::encode(&bad));
    }
    assert_eq!(close(&envelope, sender.0), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = open(&bytes);
        let _ = close(&bytes, Address::ZERO);
        let _ = open(&[&[0x78], bytes.as_slice()].concat());
    }

    #[test]
    fn no_damage_is_overlooked(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let text = waiting(|_| {});
        let good = hex::decode(text).unwrap();
        let mut bad = good.clone();
        let at = at.index(bad.len());
        bad[at] = byte;
        // Whatever opens closes into the same bytes again.
        if let Some((opened, Form::Envelope(sender))) = open(&bad) {
            prop_assert_eq!(close(&opened, sender), Some(bad));
        }
    }
}
