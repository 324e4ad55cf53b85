#![allow(clippy::unwrap_used)]

use alloy_primitives::{B256, b256, hex};
use serde_json::json;

use super::*;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The parts that all vectors of one family share.
fn parts() -> Descriptor {
    Descriptor {
        payer: address("0x1111111111111111111111111111111111111111"),
        payee: address("0x742d35cc6634c0532925a3b844bc9e7595f8fe00"),
        operator: NOBODY,
        token: address("0x20c0000000000000000000000000000000000000"),
        salt: B256::repeat_byte(0xaa),
        authorized_signer: NOBODY,
        expiring_nonce_hash: B256::repeat_byte(0xbb),
    }
}

/// SES.C07, SES.P02: each family's ids and digests, against values that were computed elsewhere.
#[test]
fn ids_and_digests_are_those_of_others() {
    let contract = address("0x1234567890abcdef1234567890abcdef12345678");
    for (family, chain_id, escrow, id, digest) in [
        (
            Family::TempoV1,
            4217,
            contract,
            "58d19df4e2fef413bf3f391d1b64b45705580be09a0e760cd04755b006f5cd1f",
            "e013fbb6542bd2dfebaea2a60f89f924909e4be49c4eb9a269d1ebc9684fbd0c",
        ),
        (
            Family::TempoV1,
            42_431,
            contract,
            "91af95f2c72070ec84cc316c30ff30042387e66e1c8d7fb05d7763ab3e9fd02f",
            "f636de697cf2ebe38828c893fc3dd6e5171c3855bc213cd7a16fa41e3576889a",
        ),
        (
            Family::Evm,
            196,
            contract,
            "ce6cc32fa12e01200d3b4880391c1be149e2ef33eeb117c39131a9d8680710e1",
            "784c99f403e168318413e3eaf513e2bd575fa0d0fdbc6f24f42e50cac6dcbf96",
        ),
        (
            Family::TempoV2,
            4217,
            RESERVE,
            "10ccd2bb009fa0ae6d9c23eef69fa9e4304e8c6aacf89b07f73b33d761820214",
            "cdf8f30a98267ccc8a10464cf989ea6448eeb174e5613ec899d260338490c94c",
        ),
    ] {
        let escrow = Escrow::new(family, chain_id, escrow);
        let channel = parts().id(&escrow);
        assert_eq!(hex::encode(channel), id, "{escrow:?}");
        assert_eq!(hex::encode(escrow.voucher_digest(channel, 250_000)), digest, "{escrow:?}");
    }
}

/// TSE.S01: the second version's own published vectors.
#[test]
fn the_second_version_agrees_with_its_publishers() {
    let descriptor = Descriptor {
        payer: address("0x3d6885f89100445ca9869d1b0a49c97cfdbafeee"),
        payee: address("0xda2390fee8d9744b39a8a855675649e95617acd8"),
        operator: NOBODY,
        token: address("0x20c0000000000000000000000000000000000000"),
        salt: b256!("fb05173ba9285aef8a91f275930f68ad3565a491edb810c07baa60b643fdd378"),
        authorized_signer: address("0xfe9d3d9cbb5f6fbe495b03f7ec90d4adc22126f5"),
        expiring_nonce_hash: b256!(
            "4e40183cda8c676032af4f7b038178505d877ae1c36b374239fe20ac3485c3ab"
        ),
    };
    let escrow = Escrow::new(Family::TempoV2, 42_431, RESERVE);
    let id = b256!("b3946b996bd166db3b61fba0f6af2918b6687bc054e2f4bae979edffc7bd0b4d");
    assert_eq!(descriptor.id(&escrow), id);
    let channel = b256!("57e629663a75a0a49f8dc65c9f62ee38ab5dfa9124d7316d160766e4ecbc1227");
    let voucher = b256!("41a23f1573d302acae1dcec60d237f78d2514768faf670ef27458931c38b5db3");
    assert_eq!(escrow.voucher_digest(channel, 50), voucher);
    let close = b256!("223b6a6cbf14199a5c3cbf882d847396b680bab705d0597f3d4d7227bc24e887");
    assert_eq!(escrow.close_digest(channel, 50), close);
}

/// S-02, S-03: whatever differs between two channels makes two ids.
#[test]
fn another_part_makes_another_id() {
    let other = address("0x9999999999999999999999999999999999999999");
    let v2 = Escrow::new(Family::TempoV2, 42_431, RESERVE);
    let id = parts().id(&v2);
    let changes: [fn(&mut Descriptor, Address); 7] = [
        |it, other| it.payer = other,
        |it, other| it.payee = other,
        |it, other| it.operator = other,
        |it, other| it.token = other,
        |it, other| it.authorized_signer = other,
        |it, _| it.salt = B256::ZERO,
        |it, _| it.expiring_nonce_hash = B256::ZERO,
    ];
    for change in changes {
        let mut descriptor = parts();
        change(&mut descriptor, other);
        assert_ne!(descriptor.id(&v2), id);
    }
    assert_eq!(parts().id(&v2), id, "the control");
    assert_ne!(parts().id(&Escrow::new(Family::TempoV2, 4217, RESERVE)), id);
    assert_ne!(parts().id(&Escrow::new(Family::TempoV2, 42_431, other)), id);
}

/// A descriptor survives the wire, and one with a part missing is none.
#[test]
fn a_descriptor_is_read_as_it_was_written() {
    let written = parts().write();
    assert_eq!(Descriptor::read(&written), Some(parts()));
    for name in written.keys() {
        let mut torn = written.clone();
        torn.remove(name);
        assert_eq!(Descriptor::read(&torn), None, "{name}");
        let mut odd = written.clone();
        odd.insert(name.clone(), json!("0x12"));
        assert_eq!(Descriptor::read(&odd), None, "{name}");
    }
    assert_eq!(parts().signer(), parts().payer);
    let delegated = Descriptor { authorized_signer: parts().payee, ..parts() };
    assert_eq!(delegated.signer(), parts().payee);
}
