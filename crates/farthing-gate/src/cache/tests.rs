use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

use super::make_private;

/// CORE.S20, W-01: whatever the seller said, no shared cache may keep what was paid for.
#[test]
fn a_paid_answer_is_private() {
    for (said, want) in [
        (&[][..], "private"),
        (&["public, max-age=60"], "private, max-age=60"),
        (&["s-maxage=600", "max-age=60"], "private, max-age=60"),
        (&["Public, S-MaxAge=1"], "private"),
        (&["private"], "private"),
        (&["private=\"x\", no-store"], "private, no-store"),
        (&["no-cache"], "private, no-cache"),
        (&[" , "], "private"),
    ] {
        let mut fields = HeaderMap::new();
        for value in said {
            fields.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        fields.insert("expires", HeaderValue::from_static("Thu, 01 Dec 2099 16:00:00 GMT"));
        make_private(&mut fields);
        let got: Vec<_> = fields.get_all(CACHE_CONTROL).iter().collect();
        assert_eq!(got, [want], "{said:?}");
        assert!(!fields.contains_key("expires"));
    }
}

/// W-01: fields that speak to shared caches alone, and overrule the others there, do not pass.
#[test]
fn nothing_speaks_to_shared_caches_alone() {
    let mut fields = HeaderMap::new();
    for name in ["X-Accel-Expires", "Surrogate-Control", "CDN-Cache-Control"] {
        fields
            .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), "600".parse().unwrap());
    }
    fields.insert("etag", "\"v1\"".parse().unwrap());
    make_private(&mut fields);
    let names: Vec<_> = fields.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["etag", "cache-control"]);
}
