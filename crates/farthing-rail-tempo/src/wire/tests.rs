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

#[test]
fn what_this_rail_does_not_do_is_refused_by_name() {
    for (name, value) in [
        ("feePayer", json!(true)),
        ("splits", json!([{ "amount": "1", "recipient": RECIPIENT }])),
        ("memo", json!("0x00")),
    ] {
        let mut other = request();
        other["methodDetails"][name] = value;
        assert_eq!(read(&other), Err(Unreadable::Unsupported), "{name}");
    }
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
