use farthing_money::Timestamp;
use proptest::prelude::*;

use super::{Fingerprint, PaymentId, TraceId, TransferId};

#[test]
fn a_trace_is_a_uuid_of_version_7() {
    let now: Timestamp = "2026-11-21T08:00:00.123456Z".parse().unwrap();
    let trace = TraceId::new(now, [0xff; 10]);
    assert_eq!(trace.to_string(), "01a1fd1e-8c7b-7fff-bfff-ffffffffffff");
    assert_eq!(trace.begins_at(), now.floor_to_millis());
    assert!(TraceId::new(now.after(std::time::Duration::from_millis(1)), [0; 10]) > trace);
}

#[test]
fn fingerprints_of_different_things_differ() {
    let base = Fingerprint::of("a", &[b"bc", b"d"]);
    assert_eq!(base, Fingerprint::of("a", &[b"bc", b"d"]));
    for other in [
        Fingerprint::of("a", &[b"b", b"cd"]),
        Fingerprint::of("ab", &[b"c", b"d"]),
        Fingerprint::of("a", &[b"bcd"]),
        Fingerprint::of("a", &[b"bc", b"d", b""]),
    ] {
        assert_ne!(base, other);
    }
    let payment = PaymentId::of(&base);
    assert_ne!(
        TransferId::derive(&payment.to_bytes(), "post 0"),
        TransferId::derive(&payment.to_bytes(), "void 0")
    );
}

/// M-05: an id has one spelling.
#[test]
fn ids_have_one_spelling() {
    let id = PaymentId::of(&Fingerprint::of("a", &[]));
    let text = id.to_string();
    assert_eq!(text.parse(), Ok(id));
    for other in [
        text.to_uppercase(),
        text.replace("pay_", ""),
        text.replace("pay_", "trf_"),
        format!("{text}0"),
        text[..text.len() - 1].to_owned(),
        text.replacen("pay_", "pay_+", 1),
    ] {
        assert!(other.parse::<PaymentId>().is_err(), "{other}");
    }
    assert!("019aa562ec7b7fffbfffffffffffffff".parse::<TraceId>().is_err());
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(bytes: [u8; 32], micros in 0..u64::MAX / 2, entropy: [u8; 10]) {
        let fingerprint = Fingerprint::from_bytes(bytes);
        prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        let payment = PaymentId::of(&fingerprint);
        prop_assert_eq!(payment.to_string().parse(), Ok(payment));
        let trace = TraceId::new(Timestamp::from_micros(micros), entropy);
        prop_assert_eq!(trace.to_string().parse(), Ok(trace));
    }

    #[test]
    fn no_text_panics(text in "(pay_|trf_)?.{0,70}") {
        let _ = text.parse::<PaymentId>();
        let _ = text.parse::<TransferId>();
        let _ = text.parse::<TraceId>();
        let _ = text.parse::<Fingerprint>();
    }
}
