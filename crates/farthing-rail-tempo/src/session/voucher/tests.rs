#![allow(clippy::unwrap_used)]

use alloy_primitives::U256;

use super::*;
use crate::session::channel::RESERVE;

/// The order of secp256k1.
const ORDER: U256 = U256::from_be_bytes([
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
]);

fn escrow(family: Family) -> Escrow {
    Escrow::new(family, 42_431, RESERVE)
}

fn key() -> VoucherKey {
    VoucherKey::new(&[0x42; 32]).unwrap()
}

const CHANNEL: B256 = B256::repeat_byte(0x11);

fn signed(family: Family) -> Voucher {
    key().sign(&escrow(family), CHANNEL, 250_000).unwrap()
}

/// The same signature in 64 bytes (EIP-2098).
fn compact(voucher: &Voucher) -> Voucher {
    let mut bytes = voucher.signature[..64].to_vec();
    bytes[32] |= u8::from(voucher.signature[64] == 28) << 7;
    Voucher { signature: bytes.into(), ..voucher.clone() }
}

/// S-01, S-02, SES.S02: a voucher counts for its amount, its channel, its escrow, its signer, and for
/// nothing else.
#[test]
fn a_voucher_is_for_one_channel_and_one_amount() {
    for family in [Family::TempoV1, Family::TempoV2, Family::Evm] {
        let (ours, voucher) = (escrow(family), signed(family));
        let verify = |it: &Voucher, escrow: &Escrow, signer| it.verify(escrow, signer);
        assert_eq!(verify(&voucher, &ours, key().account()), Ok(()), "the control");
        assert_eq!(verify(&compact(&voucher), &ours, key().account()), Ok(()), "EIP-2098");
        let stranger = VoucherKey::new(&[0x43; 32]).unwrap().account();
        assert_eq!(verify(&voucher, &ours, stranger), Err(VoucherError::Signer));
        let more = Voucher { cumulative: 250_001, ..voucher.clone() };
        assert_eq!(verify(&more, &ours, key().account()), Err(VoucherError::Signer));
        let other = Voucher { channel: B256::repeat_byte(0x12), ..voucher.clone() };
        assert_eq!(verify(&other, &ours, key().account()), Err(VoucherError::Signer));
        let elsewhere = Escrow::new(family, 4217, RESERVE);
        assert_eq!(verify(&voucher, &elsewhere, key().account()), Err(VoucherError::Signer));
        let contract = Escrow::new(family, 42_431, key().account());
        assert_eq!(verify(&voucher, &contract, key().account()), Err(VoucherError::Signer));
    }
    // The three domains are three.
    for (made, shown) in [
        (Family::TempoV1, Family::TempoV2),
        (Family::TempoV2, Family::Evm),
        (Family::Evm, Family::TempoV1),
    ] {
        let verdict = signed(made).verify(&escrow(shown), key().account());
        assert_eq!(verdict, Err(VoucherError::Signer));
    }
}

/// B-13, SES.S03: one signature has one spelling, so that a twin is no second voucher.
#[test]
fn a_signature_has_one_spelling() {
    let (ours, voucher) = (escrow(Family::TempoV1), signed(Family::TempoV1));
    let verdict = |signature: Vec<u8>| {
        let other = Voucher { signature: signature.into(), ..voucher.clone() };
        other.verify(&ours, key().account())
    };
    let bytes = voucher.signature.to_vec();
    assert_eq!(verdict(bytes.clone()), Ok(()), "the control");
    // The twin with the other s and the other recovery signs the same, and is refused.
    let s = U256::try_from_be_slice(&bytes[32..64]).unwrap();
    let twin = [&bytes[..32], &(ORDER - s).to_be_bytes::<32>(), &[55 - bytes[64]]].concat();
    assert_eq!(verdict(twin), Err(VoucherError::Malformed));
    for v in [0, 1, 2, 26, 29, 255] {
        let other = [&bytes[..64], &[v]].concat();
        assert_eq!(verdict(other), Err(VoucherError::Malformed), "v = {v}");
    }
    for length in [0, 1, 63, 66, 130] {
        let mut other = bytes.clone();
        other.resize(length, 0);
        assert_eq!(verdict(other), Err(VoucherError::Malformed), "{length} bytes");
    }
    let zero_r = [&[0; 32], &bytes[32..]].concat();
    assert_ne!(verdict(zero_r), Ok(()));
    let zero_s = [&bytes[..32], &[0; 32], &bytes[64..]].concat();
    assert_ne!(verdict(zero_s), Ok(()));
}

/// S-04: what an escrow cannot hold is neither signed nor taken.
#[test]
fn amounts_keep_to_the_width_of_their_escrow() {
    let most = Family::TempoV2.atoms_max();
    let v2 = escrow(Family::TempoV2);
    let voucher = key().sign(&v2, CHANNEL, most).unwrap();
    assert_eq!(voucher.verify(&v2, key().account()), Ok(()), "the control");
    assert_eq!(key().sign(&v2, CHANNEL, most + 1), None);
    let over = Voucher { cumulative: most + 1, ..voucher };
    assert_eq!(over.verify(&v2, key().account()), Err(VoucherError::Amount));
    let v1 = escrow(Family::TempoV1);
    let all = key().sign(&v1, CHANNEL, u128::MAX).unwrap();
    assert_eq!(all.verify(&v1, key().account()), Ok(()));
}

/// A payer's word that a channel may be closed is no voucher, nor the reverse.
#[test]
fn a_voucher_does_not_agree_to_a_close() {
    let v2 = escrow(Family::TempoV2);
    let agreed = key().agree_to_close(&v2, CHANNEL, 7).unwrap();
    let digest = v2.close_digest(CHANNEL, 7);
    assert_eq!(signer_of(Family::TempoV2, &agreed, digest), Ok(key().account()), "the control");
    let shown = Voucher { channel: CHANNEL, cumulative: 7, signature: agreed };
    assert_eq!(shown.verify(&v2, key().account()), Err(VoucherError::Signer));
    let voucher = key().sign(&v2, CHANNEL, 7).unwrap();
    assert_ne!(signer_of(Family::TempoV2, &voucher.signature, digest), Ok(key().account()));
}

/// A key says whose it is, and nothing else.
#[test]
fn a_key_does_not_show() {
    let shown = format!("{:?}", key());
    assert!(shown.contains(&key().account().to_string()) && !shown.contains("4242"));
}

/// A voucher that a key of P-256 has signed, as the chain spells it (TIP-1020), and the key's account.
fn of_p256(cumulative: u128) -> (Voucher, Address) {
    use p256::ecdsa::signature::hazmat::PrehashSigner as _;

    let v2 = escrow(Family::TempoV2);
    let digest = v2.voucher_digest(CHANNEL, cumulative);
    let key = p256::ecdsa::SigningKey::from_slice(&[0x21; 32]).unwrap();
    let signed: p256::ecdsa::Signature = key.sign_prehash(digest.as_slice()).unwrap();
    let signed = signed.normalize_s().unwrap_or(signed);
    let point = key.verifying_key().to_encoded_point(false);
    let signature = [&[1], &signed.to_bytes()[..], &point.as_bytes()[1..], &[0]].concat();
    let read = PrimitiveSignature::from_bytes(&signature).unwrap();
    let account = Address(read.recover_signer(&digest).unwrap());
    (Voucher { channel: CHANNEL, cumulative, signature: signature.into() }, account)
}

/// TSE.S01, B-13: version 2 takes the other kinds of keys that its chain takes, in the chain's spelling and
/// without a wrapper; version 1 does not.
#[test]
fn version_two_takes_keys_of_p256() {
    let v2 = escrow(Family::TempoV2);
    let (voucher, account) = of_p256(9);
    assert_eq!(voucher.verify(&v2, account), Ok(()), "the control");
    assert_eq!(voucher.verify(&v2, key().account()), Err(VoucherError::Signer));
    assert_eq!(voucher.verify(&escrow(Family::TempoV1), account), Err(VoucherError::Malformed));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut signature = voucher.signature.to_vec();
        change(&mut signature);
        Voucher { signature: signature.into(), ..voucher.clone() }.verify(&v2, account)
    };
    assert!(with(&|it| it[1] ^= 1).is_err());
    assert!(with(&|it| it[0] = 2).is_err());
    assert!(with(&|it| it[0] = 3).is_err());
    assert_eq!(with(&|it| it[129] = 7), Err(VoucherError::Malformed), "one flag, one spelling");
    assert!(with(&|it| it.push(0)).is_err());
    // An access key in its wrapper is not a signature of its own.
    let inner = key().sign(&v2, CHANNEL, 9).unwrap().signature;
    let wrapped = [&[4], account.0.as_slice(), &inner].concat();
    let wrapped = Voucher { signature: wrapped.into(), ..voucher };
    assert!(wrapped.verify(&v2, account).is_err());
    assert!(wrapped.verify(&v2, key().account()).is_err());
}
