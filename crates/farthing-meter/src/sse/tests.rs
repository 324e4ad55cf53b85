#![allow(clippy::arithmetic_side_effects, reason = "what is counted here is small")]

use proptest::collection::vec;
use proptest::prelude::*;
use sse_parse::SseParser;

use super::*;

/// The pieces of a stream that comes in these chunks, and what its end lacks.
fn pieces(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, &'static [u8]) {
    let mut cutter = Cutter::new(1 << 20);
    let mut pieces = Vec::new();
    for chunk in chunks {
        let mut chunk = Bytes::copy_from_slice(chunk);
        while !chunk.is_empty() {
            pieces.extend(cutter.cut(&mut chunk).unwrap().map(|piece| piece.to_vec()));
        }
    }
    let (rest, lacks) = cutter.finish().unwrap_or_default();
    pieces.extend((!rest.is_empty()).then(|| rest.to_vec()));
    (pieces, lacks)
}

fn check(stream: &str, expected: &[&str]) {
    let expected: Vec<Vec<u8>> = expected.iter().map(|it| it.as_bytes().to_vec()).collect();
    assert_eq!(pieces(&[stream.as_bytes()]).0, expected, "{stream:?} whole");
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(pieces(&bytes).0, expected, "{stream:?} by the byte");
}

#[test]
fn an_event_ends_with_its_blank_line() {
    check("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"]);
    check("data: a\r\n\r\ndata: b\r\n\r\n", &["data: a\r\n\r\n", "data: b\r\n\r\n"]);
    check("data: a\r\rdata: b\r\r", &["data: a\r\r", "data: b\r\r"]);
    check("data: a\r\n\ndata: b\n\r\nx", &["data: a\r\n\n", "data: b\n\r", "\n", "x"]);
    check("data: a\r\n\rdata: b\n\n", &["data: a\r\n\r", "data: b\n\n"]);
    check("\n\n: hi\n\n", &["\n", "\n", ": hi\n\n"]);
    check("event: x\ndata: a\ndata: b\nid: 1\n\n", &["event: x\ndata: a\ndata: b\nid: 1\n\n"]);
}

#[test]
fn a_bom_is_a_piece_of_its_own_and_half_of_one_is_not() {
    check("\u{FEFF}data: a\n\n", &["\u{FEFF}", "data: a\n\n"]);
    check("\u{FEFF}\u{FEFF}data: a\n\n", &["\u{FEFF}", "\u{FEFF}data: a\n\n"]);
    check("\n\u{FEFF}\n\n", &["\n", "\u{FEFF}\n\n"]);
    assert_eq!(pieces(&[b"\xEF\xBBdata: a\n\n"]).0, [b"\xEF\xBBdata: a\n\n".to_vec()]);
}

#[test]
fn an_end_without_a_blank_line_lacks_one() {
    for (stream, lacks) in [
        ("data: a", "\n\n"),
        ("data: a\n", "\n"),
        ("data: a\r", "\n\n"),
        ("data: a\r\n", "\n"),
        ("data: a\r\n\r", ""),
        ("data: a\n\n", ""),
    ] {
        assert_eq!(pieces(&[stream.as_bytes()]).1, lacks.as_bytes(), "{stream:?}");
    }
    assert_eq!(pieces(&[b"\xEF\xBB"]).1, b"\n\n");
}

#[test]
fn an_event_may_be_as_long_as_the_limit_and_no_longer() {
    let event = b"data: 0123456789\n\n";
    for chunk in [1, 5, event.len()] {
        let cut = |bytes_max: usize| {
            let mut cutter = Cutter::new(bytes_max);
            let cuts = event.chunks(chunk).map(|chunk| cutter.cut(&mut Bytes::from_static(chunk)));
            cuts.collect::<Result<Vec<_>, _>>().map(|cuts| cuts.into_iter().flatten().count())
        };
        assert_eq!(cut(event.len()), Ok(1));
        assert_eq!(cut(event.len() - 1), Err(TooLong));
    }
}

#[test]
fn fields_are_read_as_the_standard_says() {
    let read = |event: &str| Fields::read(event.as_bytes());
    assert_eq!(read(": comment\nretry: 5\n\n"), Fields::default());
    let fields = read("event: a\nevent:  b\ndata\ndata:x\ndata:  y\nDATA: z\n\n");
    assert_eq!(fields.name, b" b");
    assert_eq!(fields.data.as_deref(), Some(&b"\nx\n y"[..]));
}

/// Streams made of what matters to a parser.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("\r\n"),
        Just("\u{FEFF}"),
        Just("data"),
        Just("data: "),
        Just("event: "),
        Just("event:"),
        Just(": "),
        Just("payment-receipt"),
        Just("x"),
        Just(" "),
        Just("é"),
        Just("\n\n"),
    ];
    vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
}

/// `bytes` in chunks as long as `lengths` say.
fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for &length in lengths {
        let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

proptest! {
    #[test]
    fn cuts_depend_on_bytes_alone(stream in stream(), lengths in vec(0usize..9, 0..60)) {
        let whole = pieces(&[&stream]);
        prop_assert_eq!(whole.0.concat(), stream.clone());
        prop_assert_eq!(pieces(&chunks(&stream, &lengths)), whole);
    }

    /// The oracle sees the same events, piece by piece and in the whole.
    #[test]
    fn a_parser_of_the_standard_agrees(stream in stream()) {
        let (mut pieces, lacks) = pieces(&[&stream]);
        if let Some(last) = pieces.last_mut() {
            last.extend_from_slice(lacks);
        }
        let mut oracle = SseParser::new();
        oracle.feed(&pieces.concat());
        let mut expected = Vec::new();
        while let Some(event) = oracle.next_event() {
            expected.push((event.event, event.data));
        }
        let mut found = Vec::new();
        for fields in pieces.iter().map(|piece| Fields::read(piece)) {
            let Some(data) = fields.data else { continue };
            let name = if fields.name.is_empty() { b"message".to_vec() } else { fields.name };
            found.push((String::from_utf8(name).unwrap(), String::from_utf8(data).unwrap()));
        }
        prop_assert_eq!(found, expected);
    }
}
