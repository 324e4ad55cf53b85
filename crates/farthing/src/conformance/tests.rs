use serde_json::{Value, json};

use super::respond;

#[track_caller]
fn ask(op: &str, input: &Value) -> Value {
    respond(json!({ "schema": 1, "op": op, "input": input }).to_string().as_bytes())
}

/// Asks and expects a value.
#[track_caller]
fn value(op: &str, input: &Value) -> Value {
    let response = ask(op, input);
    assert_eq!(response["ok"], true, "{op}: {response}");
    response["value"].clone()
}

/// Asks and expects an error of this type, with words.
#[track_caller]
fn fails(op: &str, input: &Value, kind: &str) {
    let response = ask(op, input);
    assert_eq!(response["ok"], false, "{op}: {response}");
    assert_eq!(response["error"]["type"], kind, "{op}: {response}");
    assert!(response["error"]["message"].as_str().is_some_and(|it| !it.is_empty()), "{response}");
}

const HEADER: &str = r#"Payment id="c-1", realm="shop.example", method="prepaid", intent="charge", request="eyJhbW91bnQiOiI3In0", description="A \"fine\" thing""#;

#[test]
fn challenges_are_read_and_written() {
    let challenge = value("challenge.parse", &json!({ "header": HEADER }));
    let want = json!({
        "id": "c-1", "realm": "shop.example", "method": "prepaid", "intent": "charge",
        "request": { "amount": "7" }, "description": "A \"fine\" thing",
    });
    assert_eq!(challenge, want);
    assert_eq!(value("challenge.format", &want), json!({ "header": HEADER }));
    let opaque = format!("{HEADER}, opaque=\"anything\", colour=\"red\"");
    let challenge = value("challenge.parse", &json!({ "header": opaque }));
    assert_eq!(challenge["opaque"], "anything", "a text, whatever it encodes");
    assert_eq!(challenge.get("colour"), None);
}

#[test]
fn what_is_no_challenge_is_a_parse_error() {
    let error =
        |header: &str| fails("challenge.parse", &json!({ "header": header }), "parse_error");
    error("");
    error("Payment");
    error("Bearer x");
    error(&HEADER.replace("id=\"c-1\", ", ""));
    error(&HEADER.replace("c-1", ""));
    error(&HEADER.replace("eyJhbW91bnQiOiI3In0", "bm8ganNvbg"));
    error(&HEADER.replace("eyJhbW91bnQiOiI3In0", "!!!"));
    error(&format!("{HEADER}, id=\"c-2\""));
    let challenge = value("challenge.parse", &json!({ "header": HEADER }));
    for (name, odd) in [("id", ""), ("method", "UPPER"), ("realm", "a\r\nb"), ("intent", "a b")] {
        let mut challenge = challenge.clone();
        challenge[name] = odd.into();
        fails("challenge.format", &challenge, "format_error");
    }
    fails("challenge.format", &json!({ "id": "c" }), "format_error");
}

#[test]
fn credentials_are_read_and_written() {
    let mut credential = json!({
        "challenge": {
            "id": "c-1", "realm": "r", "method": "prepaid", "intent": "charge",
            "request": { "b": 1, "a": [true] }, "header": "Payment-Authorization",
        },
        "payload": { "type": "signature", "signature": "AAAA" },
        "source": "did:key:z6Mk",
    });
    let header = value("credential.format", &credential);
    assert!(header["header"].as_str().unwrap().starts_with("Payment ey"));
    assert_eq!(value("credential.parse", &header), credential);
    credential.as_object_mut().unwrap().remove("source");
    let header = value("credential.format", &credential);
    assert_eq!(value("credential.parse", &header), credential);
    for odd in ["Payment W10", "Payment e30", "Payment ???", "Bearer e30", "Payment", ""] {
        fails("credential.parse", &json!({ "header": odd }), "parse_error");
    }
    credential["challenge"]["id"] = "".into();
    fails("credential.format", &credential, "format_error");
    fails("credential.format", &json!({ "payload": {} }), "format_error");
}

#[test]
fn receipts_are_read_and_written() {
    let receipt = json!({
        "status": "success", "method": "prepaid", "timestamp": "2026-11-21T08:00:00Z",
        "reference": "pay_1", "externalId": "order-7",
    });
    let header = value("receipt.format", &receipt);
    assert_eq!(value("receipt.parse", &header), receipt);
    for (name, odd) in [("status", "failed"), ("timestamp", "yesterday"), ("reference", "")] {
        let mut receipt = receipt.clone();
        receipt[name] = odd.into();
        fails("receipt.format", &receipt, "format_error");
    }
    for odd in ["", "W10", "e30", "!"] {
        fails("receipt.parse", &json!({ "header": odd }), "parse_error");
    }
}

#[test]
fn base64url_is_strict() {
    for (text, encoded) in [("", ""), ("a", "YQ"), ("ü?>", "w7w_Pg"), ("~~~", "fn5-")] {
        let (text, encoded) = (json!({ "text": text }), json!({ "text": encoded }));
        assert_eq!(value("base64url.encode", &text), encoded);
        assert_eq!(value("base64url.decode", &encoded), text);
    }
    for odd in ["YQ=!", "a", "not valid", "_w"] {
        fails("base64url.decode", &json!({ "text": odd }), "encoding_error");
    }
}

/// The ids of §5.1.2.1.1 under a short key: the same as `openssl dgst -sha256 -hmac secret` says
/// of `r|prepaid|charge|e30|||` and of the same with a digest, a field and correlation data.
#[test]
fn ids_are_generated() {
    let input = json!({
        "secretKey": "secret", "realm": "r", "method": "prepaid", "intent": "charge",
        "request": {},
    });
    let id = |input: &Value| value("challenge.id", input)["id"].as_str().unwrap().to_owned();
    assert_eq!(id(&input), "nMuCfQFmj_Zc50wB-yqTv3xalvLlntC9C1AedzTTGvg");
    let mut more = input.clone();
    more["description"] = "not bound".into();
    more["header"] = "Authorization".into();
    assert_eq!(id(&more), id(&input));
    more["expires"] = "2026-11-21T08:00:00Z".into();
    more["digest"] = "sha-256=:AAAA:".into();
    more["header"] = "Payment-Authorization".into();
    more["opaque"] = "o".into();
    assert_eq!(id(&more), "F8xFv04GJ_N29gy2c8eJQBP7KFndnQGEIBTKEOyf1nk");
    fails("challenge.id", &json!({ "secretKey": "s" }), "generation_error");
    fails("challenge.id", &json!({ "realm": "r" }), "generation_error");
}

#[test]
fn what_is_not_understood_is_said_so() {
    fails("tempo.receipt.forge", &json!({}), "unsupported_operation");
    fails("challenge.parse", &json!({ "text": "" }), "unknown_error");
    for odd in ["", "{", "[]", r#"{"schema":2,"op":"challenge.parse","input":{}}"#] {
        let response = respond(odd.as_bytes());
        assert_eq!(response["error"]["type"], "unknown_error", "{odd}: {response}");
    }
}

/// TCH.S05: what an account signs names the chain, the account, the challenge and the realm.
#[test]
fn a_proof_is_typed_data() {
    let account = "0x1234567890123456789012345678901234567890";
    let input = json!({ "chainId": 42431, "account": account, "challengeId": "c-1", "realm": "shop.example" });
    let data = value("tempo.proof.typed_data", &input);
    assert_eq!(data["domain"], json!({ "name": "MPP", "version": "3", "chainId": 42431 }));
    let message = json!({ "account": account, "challengeId": "c-1", "realm": "shop.example" });
    assert_eq!((&data["message"], &data["primaryType"]), (&message, &json!("Proof")));
    let named = json!({ "chainId": 42431, "account": "0x12", "challengeId": "c", "realm": "r" });
    fails("tempo.proof.typed_data", &named, "generation_error");
}

const TOKEN: &str = "0x1234567890123456789012345678901234567890";

/// The attribution memo of challenge `c-1` at `shop.example`, computed independently of this code.
const MEMO: &str = "0xef1ed71201f3359a17b890db508d33000000000000000000008a8eec0db28a22";

fn mined(memo: Option<&str>) -> Value {
    let word = |address: &str| format!("0x{}{address}", "0".repeat(24));
    let (from, to) = (word(&"ab".repeat(20)), word(&"45".repeat(20)));
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let with_memo = "0x57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0";
    let topics = match memo {
        Some(memo) => json!([with_memo, from, to, memo]),
        None => json!([transfer, from, to]),
    };
    let data = format!("0x{:064x}", 1_000);
    json!({
        "transactionHash": "0xhash",
        "status": "0x1",
        "logs": [{ "address": TOKEN, "topics": topics, "data": data }],
    })
}

fn credential(id: &str, realm: &str) -> Value {
    let recipient = format!("0x{}", "45".repeat(20));
    let request = json!({ "amount": "1000", "currency": TOKEN, "recipient": recipient });
    json!({ "challenge": { "id": id, "realm": realm, "request": request } })
}

/// B-07, F-03: a mined transaction pays the challenge its memo names, and nothing without one.
#[test]
fn a_receipt_pays_one_challenge() {
    for op in ["tempo.receipt.verify", "tempo.transaction.verify"] {
        let input =
            |id, realm, receipt| json!({ "credential": credential(id, realm), "receipt": receipt });
        let paid = value(op, &input("c-1", "shop.example", mined(Some(MEMO))));
        assert_eq!(paid, json!({ "status": "success", "reference": "0xhash" }));
        let kind = "verification_error";
        fails(op, &input("c-2", "shop.example", mined(Some(MEMO))), kind);
        fails(op, &input("c-1", "other.example", mined(Some(MEMO))), kind);
        fails(op, &input("c-1", "shop.example", mined(None)), kind);
        let strange = format!("0x{}", "cd".repeat(32));
        fails(op, &input("c-1", "shop.example", mined(Some(&strange))), kind);
        let mut undone = mined(Some(MEMO));
        undone["status"] = "0x0".into();
        fails(op, &input("c-1", "shop.example", undone), kind);
        fails(op, &json!({}), kind);
    }
}

/// F-13: a sponsor signs for exactly the payment, within its limits.
#[test]
fn a_sponsor_looks_before_it_signs() {
    let memo = &MEMO[2..];
    let to = format!("{}{}", "0".repeat(24), "45".repeat(20));
    let paying = format!("0x95777d59{to}{:064x}{memo}", 1_000);
    let good = || {
        let mut input = credential("c-1", "shop.example");
        input["request"] = input["challenge"]["request"].clone();
        input["request"]["methodDetails"] = json!({ "feePayer": true, "chainId": 42431 });
        input["payerPrivateKey"] = format!("0x{}", "11".repeat(32)).into();
        input["feePayerPrivateKey"] = format!("0x{}", "22".repeat(32)).into();
        input["feeToken"] = TOKEN.into();
        input["transaction"] = json!({
            "chainId": 42431, "maxPriorityFeePerGas": 1, "maxFeePerGas": 1, "gasLimit": 1_000_000,
            "calls": [{ "to": TOKEN, "value": 0, "data": paying }], "accessList": [],
            "nonceKey": "max", "nonce": 0, "validBefore": "now+60", "feeToken": null,
        });
        input
    };
    let signed = value("tempo.fee_payer.cosign", &good());
    assert_eq!(
        signed,
        json!({
            "type": "0x76", "feeToken": TOKEN, "feePayerSignaturePresent": true,
            "accessListLength": 0, "callCount": 1,
        })
    );
    let refused = |name: &str, other: Value, why: &str| {
        let mut input = good();
        input["transaction"][name] = other;
        let response = ask("tempo.fee_payer.cosign", &input);
        assert_eq!(response["error"]["type"], "verification_error", "{name}: {response}");
        let said = response["error"]["message"].as_str().unwrap();
        assert!(said.contains(why), "{name}: {said}");
    };
    let call = |data: &str| json!({ "to": TOKEN, "value": 0, "data": data });
    let plain = format!("0xa9059cbb{to}{:064x}", 1_000);
    refused("calls", json!([call(&plain)]), "no matching payment call found");
    refused("calls", json!([call(&paying), call(&paying)]), "unauthorized extra calls");
    refused("gasLimit", 2_000_001.into(), "gas limit exceeds sponsor policy");
    refused("feeToken", json!(format!("0x{}", "99".repeat(20))), "must not include fee_token");
    refused("nonceKey", 0.into(), "must use expiring nonce key");
    refused("validBefore", "now+1800".into(), "validity window exceeds sponsor policy");
    let list = json!([[TOKEN, [format!("0x{}", "00".repeat(32))]]]);
    refused("accessList", list, "access list is not allowed");
    refused("chainId", 1.into(), "another chain");
}
