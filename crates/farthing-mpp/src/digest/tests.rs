use proptest::prelude::*;

use super::{BodyDigest, BodyHasher};

/// CORE.S07: the RFC 9530 form is written; that form and the one in use are read.
#[test]
fn both_spellings_name_the_same_digest() {
    let digest = BodyDigest::of("hello");
    assert_eq!(digest.to_string(), "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:");
    for text in [
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ:",
        "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ",
    ] {
        assert_eq!(text.parse(), Ok(digest), "{text}");
    }
    for text in [
        "",
        "sha-256=",
        "sha-256=::",
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "SHA-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "sha-512=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmC=:",
        "sha-256=:LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:;p=1",
    ] {
        assert!(text.parse::<BodyDigest>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn pieces_and_whole_agree(body: Vec<u8>, cut in 0_usize..64) {
        let (head, tail) = body.split_at(cut.min(body.len()));
        let mut hasher = BodyHasher::default();
        hasher.update(head);
        hasher.update(tail);
        let digest = hasher.finish();
        prop_assert_eq!(digest, BodyDigest::of(&body));
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn no_text_panics(text in "(sha-256=)?.{0,60}") {
        let _ = text.parse::<BodyDigest>();
    }
}
