use farthing_money::Timestamp;
use proptest::prelude::*;

use super::{Receipt, ReceiptError};
use crate::base64url;

fn settled() -> Timestamp {
    "2026-03-10T21:00:00Z".parse().unwrap()
}

/// CORE.S08: a receipt says success, and nothing else can be written or read.
#[test]
fn a_receipt_only_ever_says_success() {
    let receipt = Receipt::new("prepaid", settled(), "pay_1").with("challengeId", "ch_1");
    let read = Receipt::parse(&receipt.format()).unwrap();
    assert_eq!(read, receipt);
    assert_eq!(read.extra["challengeId"], "ch_1");
    let json = base64url::decode(&receipt.format()).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert_eq!(
        json,
        r#"{"status":"success","method":"prepaid","timestamp":"2026-03-10T21:00:00Z","reference":"pay_1","challengeId":"ch_1"}"#
    );
    for (from, to) in [
        ("success", "failed"),
        ("2026-03-10T21:00:00Z", "yesterday"),
        ("\"pay_1\"", "\"\""),
        ("\"prepaid\"", "\"\""),
        ("reference", "ref"),
    ] {
        let value = base64url::encode(json.replace(from, to));
        assert_eq!(Receipt::parse(&value), Err(ReceiptError::Fields), "{to}");
    }
    for value in ["", "!!!", "W10", &"A".repeat(70_000)] {
        assert_eq!(Receipt::parse(value), Err(ReceiptError::Encoding));
    }
}

/// CORE.S11: fields this code does not know survive reading and writing, to the last digit.
#[test]
fn unknown_fields_are_kept() {
    let json = r#"{"status":"success","method":"a","timestamp":"2026-03-10T21:00:00Z","reference":"b","refundSats":9223372036854775807}"#;
    let receipt = Receipt::parse(&base64url::encode(json)).unwrap();
    assert_eq!(base64url::decode(&receipt.format()).unwrap(), json.as_bytes());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(method in "[a-z]{1,9}", reference in "[ -~é\"]{1,40}", id in "[ -~]{0,43}") {
        let receipt = Receipt::new(&method, settled(), &reference).with("challengeId", id);
        prop_assert_eq!(Receipt::parse(&receipt.format()), Ok(receipt));
    }

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = Receipt::parse(&text);
        let _ = Receipt::parse(&base64url::encode(text));
    }
}
