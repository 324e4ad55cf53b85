use proptest::prelude::*;

use super::{OddPath, canonical_path};

#[track_caller]
fn check(path: &str, forwarded: &str, matched: &str) {
    let got = canonical_path(path).unwrap();
    assert_eq!((got.forwarded.as_str(), got.matched.as_str()), (forwarded, matched), "{path}");
}

/// W-06: one resource has one spelling.
#[test]
fn a_path_has_one_spelling() {
    check("/", "/", "/");
    check("/weather", "/weather", "/weather");
    check("/weather/", "/weather/", "/weather");
    check("/w%65ather", "/weather", "/weather");
    check("/%7Euser/%c3%a9", "/~user/%C3%A9", "/~user/%C3%A9");
    check("/a%20b", "/a%20b", "/a%20b");
    check("/a:b@c,d=e", "/a:b@c,d=e", "/a:b@c,d=e");
    check("/a%3Fb", "/a%3Fb", "/a%3Fb");
    check("/...", "/...", "/...");
}

/// W-06: what servers are known to read differently is refused.
#[test]
fn an_odd_path_is_refused() {
    for path in [
        "",
        "weather",
        "*",
        "//",
        "//weather",
        "/weather//",
        "/a//b",
        "/./a",
        "/a/..",
        "/../a",
        "/a/%2e%2e/b",
        "/%2E",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;x=1",
        "/a%3bx",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
        "/a b",
        "/é",
        "/a\"b",
        "/a<b",
        "/%%32%65",
    ] {
        assert_eq!(canonical_path(path), Err(OddPath), "{path:?}");
    }
}

proptest! {
    #[test]
    fn canonical_is_a_fixed_point(path in "/[a-zA-Z0-9/%.~;:é ]{0,20}") {
        if let Ok(once) = canonical_path(&path) {
            prop_assert_eq!(canonical_path(&once.forwarded), Ok(once));
        }
    }

    #[test]
    fn no_text_panics(path in "(?s).{0,60}") {
        let _ = canonical_path(&path);
    }
}
