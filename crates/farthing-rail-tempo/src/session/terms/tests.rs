#![allow(clippy::unwrap_used)]

use alloy_primitives::address;
use farthing_money::AssetId;

use super::*;
use crate::wire::Token;

/// What a session of a family asks for.
pub(crate) fn terms(family: Family) -> SessionTerms {
    let contract = Address(address!("1234567890abcdef1234567890abcdef12345678"));
    let escrow = match family {
        Family::TempoV1 => Escrow::new(family, 42_431, contract),
        Family::TempoV2 => Escrow::new(family, 42_431, RESERVE),
        Family::Evm => Escrow::new(family, 196, contract),
    };
    SessionTerms {
        amount: Amount::new(AssetId::new("usd").unwrap(), 25),
        unit: Some("llm_token".into()),
        suggested_deposit: Some(10_000_000),
        token: Address(address!("20c0000000000000000000000000000000000000")),
        recipient: Address(address!("742d35cc6634c0532925a3b844bc9e7595f8fe00")),
        escrow,
        channel: None,
        delta_min: 0,
        operator: NOBODY,
        sponsored: false,
        means: if family == Family::Evm { vec![Means::Hash] } else { Vec::new() },
    }
}

fn tokens() -> Tokens {
    let asset = farthing_money::Asset::new(AssetId::new("usd").unwrap(), 6).unwrap();
    Tokens::new(vec![Token { asset, address: terms(Family::TempoV1).token }])
}

fn method(family: Family) -> &'static str {
    match family {
        Family::TempoV1 | Family::TempoV2 => "tempo",
        Family::Evm => "evm",
    }
}

/// TSE.S02: what is asked for is read as it was written, in every family.
#[test]
fn terms_survive_the_wire() {
    for family in [Family::TempoV1, Family::TempoV2, Family::Evm] {
        let plain = terms(family);
        let full = SessionTerms {
            channel: Some(B256::repeat_byte(1)),
            delta_min: 7,
            sponsored: true,
            operator: if family == Family::TempoV2 { plain.recipient } else { NOBODY },
            means: match family {
                Family::Evm => vec![Means::Authorization, Means::Hash],
                Family::TempoV1 | Family::TempoV2 => Vec::new(),
            },
            ..plain.clone()
        };
        for terms in [plain, full] {
            let request = terms.write();
            assert_eq!(SessionTerms::read(method(family), &request, &tokens()), Ok(terms));
            let details = request["methodDetails"].as_object().unwrap();
            assert!(details.contains_key("chainId") && details.contains_key("escrowContract"));
        }
    }
}

/// TSE.C01: another version's challenge is never taken for this one's, and what is unknown is not
/// guessed.
#[test]
fn a_version_is_what_the_challenge_says() {
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut request = json!(terms(Family::TempoV1).write());
        change(&mut request);
        SessionTerms::read("tempo", request.as_object().unwrap(), &tokens())
    };
    let silent =
        altered(&|it| drop(it["methodDetails"].as_object_mut().unwrap().remove("sessionProtocol")));
    assert_eq!(silent.unwrap().escrow.family, Family::TempoV1, "whoever does not say is old");
    let newer = altered(&|it| it["methodDetails"]["sessionProtocol"] = "v3".into());
    assert_eq!(newer, Err(Unreadable::Malformed));
    let odd = altered(&|it| it["methodDetails"]["sessionProtocol"] = 2.into());
    assert_eq!(odd, Err(Unreadable::Malformed));
    let chain = altered(&|it| drop(it["methodDetails"].as_object_mut().unwrap().remove("chainId")));
    assert_eq!(chain.unwrap().escrow.chain_id, 4217);
    let escrow =
        altered(&|it| drop(it["methodDetails"].as_object_mut().unwrap().remove("escrowContract")));
    assert_eq!(escrow, Err(Unreadable::Malformed));
    let token = altered(&|it| it["currency"] = "0x1111111111111111111111111111111111111111".into());
    assert_eq!(token, Err(Unreadable::Token));
    for name in ["amount", "recipient", "currency"] {
        let missing = altered(&|it| drop(it.as_object_mut().unwrap().remove(name)));
        assert!(missing.is_err(), "{name}");
    }
    for amount in ["-1", "1.0", "0x1", "01", ""] {
        let malformed = altered(&|it| it["amount"] = amount.into());
        assert_eq!(malformed, Err(Unreadable::Malformed), "{amount}");
    }
    let v2 = json!(terms(Family::TempoV2).write());
    let mut chainless = v2.clone();
    chainless["methodDetails"].as_object_mut().unwrap().remove("chainId");
    let read = |it: &Value| SessionTerms::read("tempo", it.as_object().unwrap(), &tokens());
    assert_eq!(read(&chainless), Err(Unreadable::Malformed));
    assert!(read(&v2).is_ok(), "the control");
    let stranger = SessionTerms::read("stripe", v2.as_object().unwrap(), &tokens());
    assert_eq!(stranger, Err(Unreadable::Malformed));
}
