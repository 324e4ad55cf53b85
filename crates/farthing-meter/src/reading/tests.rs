use super::*;

fn read(reader: &mut Reader, chunk: &str) -> Vec<Said> {
    reader.push(Bytes::copy_from_slice(chunk.as_bytes()));
    std::iter::from_fn(|| reader.read().unwrap()).collect()
}

fn need() -> NeedVoucher {
    NeedVoucher {
        accepted_cumulative: 25,
        channel_id: "0x6d".to_owned(),
        deposit: 100,
        required_cumulative: 50,
    }
}

/// What is said of payments is told from the stream's own, wherever the chunks are cut.
#[test]
fn payments_are_told_from_the_stream() {
    let stream = format!(
        ": hello\n\ndata: a\n\n{}event: other\r\ndata: b\r\n\r\nevent: payment-receipt\ndata: {{\"spent\":\"50\"}}\n\n",
        need().to_event()
    );
    for size in 1..stream.len() {
        let mut reader = Reader::new(1_000);
        let mut all = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            all.extend(read(&mut reader, std::str::from_utf8(chunk).unwrap()));
        }
        let own = |bytes: &'static str, has_data| Said::Event { bytes: bytes.into(), has_data };
        let Some(Said::Receipt(receipt)) = all.pop() else { panic!("{all:?}") };
        assert_eq!(receipt["spent"], "50");
        let expected = [
            own(": hello\n\n", false),
            own("data: a\n\n", true),
            Said::NeedVoucher(need()),
            own("event: other\r\ndata: b\r\n\r\n", true),
        ];
        assert_eq!(all, expected, "{size}");
        assert_eq!(reader.rest(), None);
    }
}

/// Nothing follows from what cannot be read, and an event that is too long ends it.
#[test]
fn what_cannot_be_read_is_nothing() {
    let mut reader = Reader::new(100);
    for data in ["", "{}", "[]", "{\"acceptedCumulative\":25}"] {
        let all = read(&mut reader, &format!("event: payment-need-voucher\ndata: {data}\n\n"));
        assert_eq!(all, [Said::Unreadable], "{data}");
    }
    let amount = need().to_event().replace("\"50\"", "\"-50\"");
    let mut reader = Reader::new(1_000);
    assert_eq!(read(&mut reader, &amount), [Said::Unreadable]);
    assert_eq!(read(&mut reader, "data: half"), []);
    assert_eq!(reader.rest().unwrap(), "data: half");
    let mut reader = Reader::new(10);
    reader.push("data: longer than ten".into());
    assert_eq!(reader.read(), Err(EventTooLong(10)));
}
