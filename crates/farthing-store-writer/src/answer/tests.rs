use farthing_core::Answer;
use farthing_ledger::{Fingerprint, Outcome, PaymentId};
use farthing_money::Timestamp;
use http::{HeaderMap, HeaderValue};

use farthing_core::write_fields;

use super::read_fields;
use crate::{Ask, Said};

fn answer() -> Answer {
    let mut fields = HeaderMap::new();
    fields.insert("content-type", HeaderValue::from_static("text/plain"));
    fields.append("link", HeaderValue::from_static("</a>; rel=\"x\", <b: c>"));
    fields.append("link", HeaderValue::from_bytes(b"\xe9").unwrap());
    Answer { status: 201, fields, body: b"sunny\r\n\x00\xff".to_vec() }
}

#[test]
fn fields_are_read_as_they_were_written() {
    let Answer { fields, .. } = answer();
    assert_eq!(read_fields(&write_fields(&fields)), fields);
    assert_eq!(read_fields(b"no field\r\na b: c\r\n"), HeaderMap::new());
}

/// What goes over a wire arrives as it was, bytes that are no text included.
#[test]
fn an_answer_survives_json() {
    let said = Said::Answer(Some(Box::new(answer())));
    let text = serde_json::to_string(&said).unwrap();
    assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said);

    let payment = PaymentId::of(&Fingerprint::of("challenge", &[b"a"]));
    let (outcome, now) = (Outcome { status: 201 }, Timestamp::from_micros(7));
    for kept in [Some(answer()), None] {
        let ask = Ask::deliver(payment, outcome, kept, now);
        let text = serde_json::to_string(&ask).unwrap();
        assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask);
    }
    let damaged = text.replace("c3Vubnk", "c3V*bnk");
    assert_ne!(damaged, text);
    assert!(serde_json::from_str::<Said>(&damaged).is_err());
}
