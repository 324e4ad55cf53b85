#![allow(clippy::unwrap_used)]

use alloy_primitives::{address, b256};

use super::*;
use crate::session::Family;
use crate::session::terms::tests::terms;
use crate::session::voucher::Voucher;

fn payer() -> Address {
    Address(address!("70997970c51812dc3a010c7d01b50e0d17dc79c8"))
}

fn descriptor() -> Descriptor {
    let terms = terms(Family::Evm);
    Descriptor {
        payer: payer(),
        payee: terms.recipient,
        operator: NOBODY,
        token: terms.token,
        salt: B256::repeat_byte(1),
        authorized_signer: NOBODY,
        expiring_nonce_hash: B256::ZERO,
    }
}

fn authorization(nonce: B256) -> Authorization {
    Authorization {
        from: payer(),
        to: terms(Family::Evm).escrow.address,
        value: 500,
        valid_after_s: 0,
        valid_before_s: 2_000,
        nonce,
        salt: None,
        signature: Bytes::new(),
    }
}

fn open(authorization: Authorization) -> Open {
    let channel = descriptor().id(&terms(Family::Evm).escrow);
    Open {
        funding: Funding::Authorization(Box::new(authorization)),
        descriptor: None,
        authorized_signer: None,
        salt: Some(descriptor().salt),
        voucher: Voucher { channel, cumulative: 0, signature: Box::default() },
    }
}

/// EVS.C02: what is signed is what tokens in use verify, by the hash of its type that they publish.
#[test]
fn what_is_signed_is_what_tokens_verify() {
    let published = b256!("d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8");
    assert_eq!(keccak256(RECEIVE_TYPE), published);
    let (one, other) = (authorization(B256::ZERO), B256::repeat_byte(2));
    let mut more = one.clone();
    more.value = 501;
    assert_ne!(one.digest(B256::ZERO), more.digest(B256::ZERO));
    assert_ne!(one.digest(B256::ZERO), one.digest(other), "another token, or another chain");
}

/// EVS.C02, EVS.S10: a nonce says what a deposit is for; one that says something else is refused.
#[test]
fn a_nonce_says_what_it_is_for() {
    let terms = terms(Family::Evm);
    let good = authorization(opening_nonce(&descriptor()));
    assert!(Signed::opening(&open(good.clone()), &terms).is_ok(), "the control");
    let other = Descriptor { salt: B256::repeat_byte(9), ..descriptor() };
    let forged = authorization(opening_nonce(&other));
    assert_eq!(Signed::opening(&open(forged), &terms), Err(Unfit::Approval));
    let elsewhere = Authorization { to: payer(), ..good.clone() };
    assert_eq!(Signed::opening(&open(elsewhere), &terms), Err(Unfit::Approval));
    let nothing = Authorization { value: 0, ..good.clone() };
    assert_eq!(Signed::opening(&open(nothing), &terms), Err(Unfit::Deposit));
    let others = Authorization { from: terms.recipient, ..good };
    assert_eq!(Signed::opening(&open(others), &terms), Err(Unfit::Channel));
}

/// EVS.S10: a top-up is by as much as was signed away, for its own channel.
#[test]
fn a_top_up_is_what_was_signed_away() {
    let terms = terms(Family::Evm);
    let channel = descriptor().id(&terms.escrow);
    let salt = B256::repeat_byte(3);
    let signed = Authorization {
        salt: Some(salt),
        ..authorization(top_up_nonce(channel, 500, payer(), salt))
    };
    let top_up = |channel, additional, signed: &Authorization| TopUp {
        channel,
        descriptor: None,
        funding: Funding::Authorization(Box::new(signed.clone())),
        additional,
    };
    assert!(Signed::top_up(&top_up(channel, 500, &signed), &terms).is_ok(), "the control");
    let more = Signed::top_up(&top_up(channel, 501, &signed), &terms);
    assert_eq!(more, Err(Unfit::Deposit));
    let other = Signed::top_up(&top_up(B256::repeat_byte(8), 500, &signed), &terms);
    assert_eq!(other, Err(Unfit::Approval));
    let unsalted = Authorization { salt: None, ..signed };
    assert_eq!(Signed::top_up(&top_up(channel, 500, &unsalted), &terms), Err(Unfit::Approval));
}

/// What is signed is good for a while: long enough to be sent, and not for ever.
#[test]
fn what_is_signed_is_good_for_a_while() {
    let terms = terms(Family::Evm);
    let at = |valid_after_s, valid_before_s| {
        let signed = authorization(opening_nonce(&descriptor()));
        let signed = Authorization { valid_after_s, valid_before_s, ..signed };
        Signed::opening(&open(signed), &terms).unwrap().in_time(1_000)
    };
    assert_eq!(at(0, 1_900), Ok(()), "the control");
    assert_eq!(at(0, 1_000 + VALID_S_MIN - 1), Err(Rejection::Expired));
    assert_eq!(at(1_000, 1_900), Err(Rejection::Expired), "not yet");
    assert_eq!(at(0, 1_000 + VALID_S_MAX + 1), Err(Rejection::Invalid));
}

/// What stands in the book is read again as it was written.
#[test]
fn an_order_is_read_as_it_was_written() {
    let signed = Authorization {
        salt: Some(B256::repeat_byte(3)),
        signature: Bytes::from(vec![7; 65]),
        ..authorization(B256::repeat_byte(2))
    };
    for funding in [Funding::Authorization(Box::new(signed)), Funding::Hash(B256::repeat_byte(4))] {
        assert_eq!(Funding::of_order(Family::Evm, &funding.order()), Some(funding));
    }
    assert_eq!(Funding::of_order(Family::Evm, "{}"), None);
}
