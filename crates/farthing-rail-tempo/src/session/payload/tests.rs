#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(family: Family, payload: &Value) -> Result<Action, Rejection> {
    Action::read(family, payload.as_object().unwrap())
}

fn voucher() -> Value {
    json!({
        "action": "voucher",
        "channelId": B256::repeat_byte(1).to_string(),
        "cumulativeAmount": "250000",
        "signature": format!("0x{}", "ab".repeat(65)),
    })
}

fn descriptor() -> Value {
    let account = "0x1111111111111111111111111111111111111111";
    json!({
        "payer": account, "payee": account, "operator": account, "token": account,
        "salt": B256::ZERO.to_string(), "authorizedSigner": account,
        "expiringNonceHash": B256::ZERO.to_string(),
    })
}

/// SES.S15, TSE.S03: what is known is read, what is not known beside it is passed over, and an action
/// that is not known is no action.
#[test]
fn an_action_is_one_of_four() {
    let Ok(Action::Voucher(shown)) = read(Family::TempoV1, &voucher()) else { panic!() };
    assert_eq!((shown.voucher.cumulative, shown.voucher.signature.len()), (250_000, 65));
    let mut more = voucher();
    more["unknown"] = json!({ "to": "us" });
    assert!(read(Family::TempoV1, &more).is_ok());
    for action in [json!("settle"), json!("Open"), json!(""), json!(1), Value::Null] {
        let mut other = voucher();
        other["action"] = action;
        assert_eq!(read(Family::TempoV1, &other), Err(Rejection::Malformed));
    }
    let mut close = voucher();
    close["action"] = "close".into();
    assert!(matches!(read(Family::TempoV1, &close), Ok(Action::Close(_, None))));
    close["closeSignature"] = "0x1234".into();
    let Ok(Action::Close(_, Some(agreed))) = read(Family::Evm, &close) else { panic!() };
    assert_eq!(*agreed, [0x12, 0x34]);
}

/// TSE.S01: version 2 says in every action what the channel is made of.
#[test]
fn version_two_always_describes_its_channel() {
    assert_eq!(read(Family::TempoV2, &voucher()), Err(Rejection::Malformed));
    let mut described = voucher();
    described["descriptor"] = descriptor();
    let action = read(Family::TempoV2, &described).unwrap();
    assert!(action.descriptor().is_some());
    assert_eq!(action.channel(), B256::repeat_byte(1));
    // The others say it by the id alone.
    assert!(read(Family::TempoV1, &described).unwrap().descriptor().is_none());
}

/// Each family funds channels in its own way.
#[test]
fn a_family_funds_in_its_own_way() {
    let mut open = voucher();
    open["action"] = "open".into();
    open["descriptor"] = descriptor();
    for family in [Family::TempoV1, Family::TempoV2, Family::Evm] {
        assert_eq!(read(family, &open), Err(Rejection::Malformed), "no type");
    }
    open["type"] = "transaction".into();
    open["transaction"] = "0x76".into();
    assert!(read(Family::TempoV1, &open).is_ok() && read(Family::TempoV2, &open).is_ok());
    assert_eq!(read(Family::Evm, &open), Err(Rejection::Unsupported));
    open["type"] = "hash".into();
    assert_eq!(read(Family::Evm, &open), Err(Rejection::Malformed), "no hash");
    open["hash"] = B256::repeat_byte(2).to_string().into();
    assert!(read(Family::Evm, &open).is_ok());
    assert_eq!(read(Family::TempoV1, &open), Err(Rejection::Unsupported));
}

/// M-01: a payload with a part missing, or of another kind, is malformed and nothing worse.
#[test]
fn a_torn_payload_is_malformed() {
    for name in ["channelId", "cumulativeAmount", "signature"] {
        let mut torn = voucher();
        torn.as_object_mut().unwrap().remove(name);
        assert_eq!(read(Family::TempoV1, &torn), Err(Rejection::Malformed), "{name}");
        for value in [json!(1), json!("x"), json!("0x1"), json!([]), Value::Null] {
            let mut odd = voucher();
            odd[name] = value;
            assert_eq!(read(Family::TempoV1, &odd), Err(Rejection::Malformed), "{name}");
        }
    }
}

proptest! {
    /// Whatever a stranger writes is read or refused.
    #[test]
    fn a_stranger_is_read_or_refused(
        action in "open|topUp|voucher|close|.{0,6}",
        texts in proptest::collection::vec(".{0,80}", 4),
    ) {
        let payload = json!({
            "action": action, "type": texts[0], "channelId": texts[1],
            "cumulativeAmount": texts[2], "signature": texts[3], "transaction": texts[3],
        });
        let _ = read(Family::TempoV1, &payload);
        let _ = read(Family::TempoV2, &payload);
        let _ = read(Family::Evm, &payload);
    }
}
