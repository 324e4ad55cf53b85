use serde_json::{Value, json};

use super::*;

const RECIPIENT: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const TOKEN: &str = "0x20c0000000000000000000000000000000000000";

fn tokens() -> Tokens {
    let asset = Asset::new("usd".parse().unwrap(), 6).unwrap();
    Tokens::new(vec![Token { asset, address: TOKEN.parse().unwrap() }])
}

fn request() -> Value {
    json!({
        "amount": "10000",
        "currency": TOKEN,
        "recipient": RECIPIENT,
        "methodDetails": { "chainId": 42431 },
    })
}

fn read(request: &Value) -> Result<Terms, Unreadable> {
    Terms::read(request.as_object().unwrap(), &tokens())
}

#[test]
fn a_request_is_read_as_it_was_written() {
    let terms = read(&request()).unwrap();
    assert!(terms.pull && terms.push);
    assert_eq!(Terms::read(&terms.write(), &tokens()), Ok(terms.clone()));
    let pull_only = Terms { push: false, ..terms };
    assert_eq!(pull_only.write()["methodDetails"]["supportedModes"], json!(["pull"]));
    assert_eq!(Terms::read(&pull_only.write(), &tokens()), Ok(pull_only));
}

/// M-05: an address in any case is one address.
#[test]
fn case_makes_no_other_address() {
    let mut other = request();
    other["recipient"] = RECIPIENT.to_lowercase().into();
    other["currency"] = TOKEN.to_uppercase().replace("0X", "0x").into();
    assert_eq!(read(&other), read(&request()));
    for wrong in [
        "70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x7099",
        "",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8 ",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}

/// TCH.C04, CHG.C01: splits are together less than the price, each is something, and there are ten at
/// most; what cannot be read is refused and never passed over.
#[test]
fn splits_leave_the_recipient_something() {
    let with = |name: &str, value: Value| {
        let mut other = request();
        other["methodDetails"][name] = value;
        read(&other)
    };
    let split = |amount: &str| json!({ "amount": amount, "recipient": TOKEN });
    let terms = with("splits", json!([split("4000"), split("5999")])).unwrap();
    let atoms: Vec<u128> = terms.transfers().iter().map(|it| it.atoms).collect();
    assert_eq!(atoms, [1, 4_000, 5_999]);
    assert_eq!(Terms::read(&terms.write(), &tokens()), Ok(terms));
    for wrong in [
        json!([split("4000"), split("6000")]),
        json!([split("10000")]),
        json!([split("0")]),
        json!([split("-1")]),
        json!([]),
        json!([{ "amount": "1" }]),
        json!([{ "amount": "1", "recipient": TOKEN, "memo": "0x00" }]),
        json!({}),
        Value::from(vec![split("1"); 11]),
        json!([split(&u128::MAX.to_string()), split(&u128::MAX.to_string())]),
    ] {
        assert_eq!(with("splits", wrong.clone()), Err(Unreadable::Malformed), "{wrong}");
    }
    assert!(with("splits", Value::from(vec![split("1"); 10])).is_ok(), "the control");
}

/// TCH.S04, TCH.C05: who is sponsored does not send the payment itself.
#[test]
fn what_is_sponsored_is_pulled() {
    let with = |details: Value| {
        let mut other = request();
        other["methodDetails"] = details;
        read(&other)
    };
    let sponsored = with(json!({ "chainId": 42431, "feePayer": true })).unwrap();
    assert!(sponsored.sponsored && sponsored.pull && !sponsored.push);
    let unsponsored = with(json!({ "chainId": 42431, "feePayer": false })).unwrap();
    assert!(!unsponsored.sponsored && unsponsored.push);
    let impossible = json!({ "chainId": 42431, "feePayer": true, "supportedModes": ["push"] });
    assert_eq!(with(impossible), Err(Unreadable::Malformed));
    let odd = json!({ "chainId": 42431, "feePayer": "yes" });
    assert_eq!(with(odd), Err(Unreadable::Malformed));
}

#[test]
fn what_the_seller_wants_to_read_is_written() {
    let memo = format!("0x{}", "ab".repeat(32));
    let mut other = request();
    other["methodDetails"]["memo"] = memo.clone().into();
    let terms = read(&other).unwrap();
    assert_eq!(terms.memo.unwrap().to_string(), memo);
    assert_eq!(Terms::read(&terms.write(), &tokens()), Ok(terms));
    for wrong in ["0x00", "", &memo[2..], &format!("{memo}00")] {
        other["methodDetails"]["memo"] = wrong.into();
        assert_eq!(read(&other), Err(Unreadable::Malformed), "{wrong}");
    }
}

#[test]
fn a_chain_and_a_token_are_never_guessed() {
    let mut no_chain = request();
    no_chain["methodDetails"] = json!({});
    assert_eq!(read(&no_chain), Err(Unreadable::Malformed));
    let mut other_token = request();
    other_token["currency"] = RECIPIENT.into();
    assert_eq!(read(&other_token), Err(Unreadable::Token));
}

#[test]
fn an_account_has_one_name() {
    let account: Address = RECIPIENT.parse().unwrap();
    assert_eq!(parse_did(&did(42431, account)), Some((42431, account)));
    for wrong in ["did:pkh:eip155:042431:", "did:key:z6Mk", "did:pkh:eip155:1:0x12"] {
        assert_eq!(parse_did(wrong), None, "{wrong}");
    }
    assert_eq!(parse_did(&format!("did:pkh:eip155:01:{RECIPIENT}")), None);
}
