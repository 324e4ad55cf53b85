//! What an authorisation has to be, to the letter.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::B256;
use tempo_primitives::SignatureType;
use tempo_primitives::transaction::PrimitiveSignature;

use super::super::terms::tests::{request, tokens};
use super::*;

fn asked() -> Asked {
    Asked::read(&request(), &tokens()).unwrap()
}

const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn signed(authorization: KeyAuthorization) -> SignedKeyAuthorization {
    let signature = sign_message(B256::from([7; 32]), authorization.signature_hash()).unwrap();
    authorization.into_signed(PrimitiveSignature::Secp256k1(signature))
}

fn verified(change: impl FnOnce(&mut KeyAuthorization)) -> Result<Address, Unfit> {
    let mut authorization = asked_for(&asked());
    change(&mut authorization);
    verify(&signed(authorization), &asked(), CHALLENGE)
}

/// TSU.S03, TSU.C03: whatever allows more, or something else, than one transfer of the price to the recipient in each
/// period until the end is refused; what was asked for is not.
#[test]
fn an_authorisation_is_exactly_what_was_asked_for() {
    let payer = Address::of_secret(&[7; 32]).unwrap();
    assert_eq!(verified(|_| {}), Ok(payer), "the control");
    assert_eq!(verified(|it| it.chain_id = 1), Err(Unfit::Chain));
    assert_eq!(verified(|it| it.key_id = payer.0), Err(Unfit::Key));
    assert_eq!(verified(|it| it.key_type = SignatureType::P256), Err(Unfit::Key));
    assert_eq!(verified(|it| it.is_admin = true), Err(Unfit::Key));
    assert_eq!(verified(|it| it.expiry = None), Err(Unfit::Expiry));
    let later = asked().expires_s.saturating_add(1);
    assert_eq!(verified(|it| it.expiry = NonZeroU64::new(later)), Err(Unfit::Expiry));
    assert_eq!(verified(|it| it.limits = None), Err(Unfit::Limit));
    let limit = |change: fn(&mut TokenLimit)| {
        verified(|it| it.limits.as_mut().unwrap().iter_mut().for_each(change))
    };
    assert_eq!(limit(|it| it.limit = U256::from(10_000_001)), Err(Unfit::Limit));
    assert_eq!(limit(|it| it.limit = U256::from(9_999_999)), Err(Unfit::Limit));
    assert_eq!(limit(|it| it.period = 0), Err(Unfit::Limit), "once in all");
    assert_eq!(limit(|it| it.period = 86_400), Err(Unfit::Limit));
    assert_eq!(limit(|it| it.token = alloy_primitives::Address::ZERO), Err(Unfit::Limit));
    let second = |it: &mut KeyAuthorization| {
        let limits = it.limits.as_mut().unwrap();
        let other = TokenLimit { token: alloy_primitives::Address::ZERO, ..limits[0].clone() };
        limits.push(other);
    };
    assert_eq!(verified(second), Err(Unfit::Limit));
}

/// TSU.S03: the calls that are allowed are to the token alone, by name, and to the recipient alone.
#[test]
fn nothing_but_paying_the_recipient_is_allowed() {
    let scopes =
        |change: fn(&mut Vec<CallScope>)| verified(|it| change(it.allowed_calls.as_mut().unwrap()));
    assert!(scopes(|_| {}).is_ok(), "the control");
    assert_eq!(verified(|it| it.allowed_calls = None), Err(Unfit::Scope), "anything");
    assert_eq!(scopes(Vec::clear), Err(Unfit::Scope), "nothing");
    assert_eq!(scopes(|it| it.push(it[0].clone())), Err(Unfit::Scope));
    let elsewhere = alloy_primitives::Address::ZERO;
    assert_eq!(
        verified(|it| it.allowed_calls.as_mut().unwrap()[0].target = elsewhere),
        Err(Unfit::Scope)
    );
    let rules = |change: fn(&mut Vec<SelectorRule>)| {
        verified(|it| change(&mut it.allowed_calls.as_mut().unwrap()[0].selector_rules))
    };
    assert_eq!(rules(Vec::clear), Err(Unfit::Scope), "any call of the token");
    // `approve(address,uint256)` would let the key's holder take it all another way.
    assert_eq!(rules(|it| it[0].selector = [0x09, 0x5e, 0xa7, 0xb3]), Err(Unfit::Scope));
    let approve = |it: &mut Vec<SelectorRule>| {
        it.push(SelectorRule { selector: [0x09, 0x5e, 0xa7, 0xb3], ..it[0].clone() });
    };
    assert_eq!(rules(approve), Err(Unfit::Scope));
    assert_eq!(rules(|it| it.push(it[0].clone())), Err(Unfit::Scope), "twice");
    assert_eq!(rules(|it| it[1].recipients.clear()), Err(Unfit::Scope), "to anybody");
    let more = |it: &mut Vec<SelectorRule>| {
        it[0].recipients.push(alloy_primitives::Address::ZERO);
    };
    assert_eq!(rules(more), Err(Unfit::Scope));
    assert!(rules(|it| drop(it.pop())).is_ok(), "one way to pay is enough");
    assert!(rules(|it| drop(it.remove(0))).is_ok(), "and so is the other");
}

/// TSU.S04: who pays is whoever has signed, and an authorisation that names a challenge, or an account, names
/// this one.
#[test]
fn the_signer_pays() {
    let payer = Address::of_secret(&[7; 32]).unwrap();
    let named: Vec<u8> = (0..32).collect();
    assert_eq!(verified(|it| it.witness = Some(B256::from_slice(&named))), Ok(payer));
    assert_eq!(verified(|it| it.witness = Some(B256::ZERO)), Err(Unfit::Witness));
    assert_eq!(verified(|it| it.account = Some(payer.0)), Ok(payer));
    let nobody = Some(alloy_primitives::Address::ZERO);
    assert_eq!(verified(|it| it.account = nobody), Err(Unfit::Signer));
    // Whoever alters it has signed something else.
    let other = KeyAuthorization { chain_id: 42_431, ..asked_for(&asked()) };
    let moved = SignedKeyAuthorization::new(
        asked_for(&asked()),
        signed(other.with_expiry(5)).signature.clone(),
    );
    assert_ne!(verify(&moved, &asked(), CHALLENGE), Ok(payer));
}

/// TSU.C02, M-05: one authorisation has one encoding, in either case of its digits; and what follows it is
/// refused.
#[test]
fn an_authorisation_has_one_encoding() {
    let text = write(&signed(asked_for(&asked())));
    assert_eq!(text, text.to_lowercase());
    let read_back = read(&text).unwrap();
    assert_eq!(write(&read_back), text);
    let upper = format!("0x{}", text[2..].to_uppercase());
    assert_eq!(write(&read(&upper).unwrap()), text);
    for wrong in [
        text[2..].to_owned(),
        format!("{text}00"),
        text[..text.len() - 2].to_owned(),
        "0x".to_owned(),
        format!("0x{}", "00".repeat(BYTES_MAX + 1)),
    ] {
        assert_eq!(read(&wrong).err(), Some(Unfit::Malformed));
    }
}

/// What is kept says what is charged by, and nothing that is a secret.
#[test]
fn words_are_read_as_they_were_written() {
    let offer = TraceId::new("2026-01-15T12:00:00Z".parse().unwrap(), [1; 10]);
    let authorization = write(&signed(asked_for(&asked())));
    let words = Words { offer, authorization: authorization.clone() }.write();
    let (read_offer, signed) = Words::read(&words).unwrap();
    assert_eq!((read_offer, write(&signed)), (offer, authorization));
    assert!(Words::read("{}").is_none());
}
