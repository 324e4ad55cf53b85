use super::*;

fn request(te: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(TE, HeaderValue::from_static(te))])
}

#[test]
fn a_client_says_that_it_takes_trailers() {
    for te in ["trailers", "Trailers", "deflate;q=0.5, trailers"] {
        assert!(takes_trailers(&request(te)), "{te}");
    }
    for te in ["", "gzip", "trailers;q=0.5x", "no-trailers"] {
        assert!(!takes_trailers(&request(te)), "{te}");
    }
    assert!(!takes_trailers(&HeaderMap::new()));
}
