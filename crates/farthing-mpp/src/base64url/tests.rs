use proptest::prelude::*;

use super::{decode, encode};

/// M-07: one value has one unpadded spelling.
#[test]
fn other_spellings_are_refused() {
    assert_eq!(decode("aGVsbG8").unwrap(), b"hello");
    assert_eq!(decode("aGVsbG8=").unwrap(), b"hello");
    for text in
        ["AB", "aGVs\nbG8", "aGVs bG8", "a+b/", "aGV=bG8", "aGVsbG8===", "aGVsb", "!!!", "=", "é"]
    {
        assert!(decode(text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
        let text = encode(&bytes);
        prop_assert!(!text.contains('='));
        prop_assert_eq!(decode(&text).unwrap(), bytes);
    }

    #[test]
    fn a_text_that_decodes_is_the_text_that_encodes(text in "[A-Za-z0-9_=+/ -]{0,12}") {
        if let Ok(bytes) = decode(&text) {
            prop_assert_eq!(encode(bytes), text.trim_end_matches('='));
        }
    }
}
