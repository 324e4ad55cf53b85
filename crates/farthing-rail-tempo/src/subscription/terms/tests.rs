//! What a request says, and what it must not.

use farthing_core::Dunning;
use farthing_money::{Asset, AssetId};

use super::*;
use crate::wire::Token;

/// A token with six decimals.
pub(crate) fn tokens() -> Tokens {
    let asset = Asset::new(AssetId::new("usd").unwrap(), 6).unwrap();
    let address = "0x20c0000000000000000000000000000000000001".parse().unwrap();
    Tokens::new(vec![Token { asset, address }])
}

pub(crate) fn recipient() -> Address {
    "0x742d35cc6634c0532925a3b844bc9e7595f8fe00".parse().unwrap()
}

fn price(period: &str) -> SubscriptionPrice {
    SubscriptionPrice {
        amount: Amount::new(AssetId::new("usd").unwrap(), 10_000_000),
        period: period.parse().unwrap(),
        expires_at: None,
        plan: "pro".into(),
        dunning: Dunning::default(),
    }
}

fn offer() -> TraceId {
    TraceId::new("2026-01-15T12:00:00.123Z".parse().unwrap(), [1; 10])
}

/// A completed request.
pub(crate) fn request() -> Object {
    completed(&price("30 days"), 6)
}

fn completed(price: &SubscriptionPrice, periods: u32) -> Object {
    let token = tokens().iter().next().unwrap().address;
    let begun = write(price, token, recipient(), CHAIN_ID).unwrap();
    let keys = Arc::new(KeyRing::new([1; 32], Vec::new()));
    Rolling { keys, periods, chain_id: CHAIN_ID }.complete(&begun, offer())
}

/// TSU.C02, SUB.S09: the request as it stands on the wire: digits without zeros before them, hexadecimal in
/// lower case, and an end in whole seconds.
#[test]
fn a_request_is_written_as_it_is_specified() {
    let key = KeyRing::new([1; 32], Vec::new()).of(CHAIN_ID, offer()).unwrap();
    let key = hex(key.address().unwrap());
    let expected = format!(
        r#"{{"amount":"10000000","currency":"0x20c0000000000000000000000000000000000001","externalId":"pro","methodDetails":{{"accessKey":{{"accessKeyAddress":"{key}","keyType":"secp256k1"}},"chainId":42431}},"periodCount":"30","periodUnit":"day","recipient":"0x742d35cc6634c0532925a3b844bc9e7595f8fe00","subscriptionExpires":"2026-07-14T11:40:00Z"}}"#
    );
    assert_eq!(farthing_mpp::json::canonical(&Value::Object(request())), expected);
    assert_eq!(key, key.to_lowercase());
    let asked = Asked::read(&request(), &tokens()).unwrap();
    assert_eq!((asked.period_s, asked.amount.atoms()), (2_592_000, 10_000_000));
    assert_eq!(asked.plan.as_deref(), Some("pro"));
}

/// TSU.S02: months are no number of seconds, and are not offered; the seller's own end comes first.
#[test]
fn what_the_chain_cannot_charge_by_is_not_offered() {
    let token = tokens().iter().next().unwrap().address;
    let refused = write(&price("1 month"), token, recipient(), CHAIN_ID);
    assert_eq!(refused, Err(Unquotable::Period));
    assert!(write(&price("4294967295 weeks"), token, recipient(), CHAIN_ID).is_ok(), "the control");
    let until = "2026-02-01T00:00:00Z".parse().unwrap();
    let ending = SubscriptionPrice { expires_at: Some(until), ..price("1 week") };
    assert_eq!(completed(&ending, 12)["subscriptionExpires"], "2026-02-01T00:00:00Z");
    assert_eq!(completed(&ending, 1)["subscriptionExpires"], "2026-01-22T11:40:00Z");
}

/// TSU.S02, TSU.C01: what cannot be read in one way is read in none.
#[test]
fn a_request_means_one_thing() {
    let read = |change: &dyn Fn(&mut Object)| {
        let mut request = request();
        change(&mut request);
        Asked::read(&request, &tokens()).map(|_| ())
    };
    let set = |name: &'static str, value: Value| {
        read(&move |request: &mut Object| drop(request.insert(name.into(), value.clone())))
    };
    assert_eq!(read(&|_| {}), Ok(()), "the control");
    for (name, value) in [
        ("amount", json!("0")),
        ("amount", json!(10)),
        ("amount", json!("010")),
        ("periodUnit", json!("month")),
        ("periodUnit", json!("dev_second")),
        ("periodCount", json!("0")),
        ("periodCount", json!("01")),
        ("periodCount", json!("+1")),
        ("periodCount", json!("4294967296")),
        ("periodCount", json!(1)),
        ("subscriptionExpires", json!("2026-07-14T12:00:00.5Z")),
        ("subscriptionExpires", json!("soon")),
        ("recipient", json!("seller")),
        ("methodDetails", json!({ "chainId": 42_431 })),
        ("externalId", json!(7)),
        ("coupon", json!("half")),
    ] {
        assert_eq!(set(name, value.clone()), Err(Unreadable::Malformed), "{name} {value}");
    }
    assert_eq!(set("currency", hex(recipient()).into()), Err(Unreadable::Token));
    for name in ["amount", "currency", "periodUnit", "periodCount", "subscriptionExpires"] {
        assert!(read(&|request| drop(request.remove(name))).is_err(), "{name}");
    }
    // Where no chain is named it is this one.
    let unnamed = read(&|request| {
        let details = request.get_mut("methodDetails").and_then(Value::as_object_mut);
        drop(details.unwrap().remove("chainId"));
    });
    assert_eq!(unnamed, Ok(()));
}
