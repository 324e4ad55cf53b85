use std::net::IpAddr;

use farthing_money::Timestamp;

use super::{Limiter, RateLimit};

/// CORE.S21: one client's haste does not slow another's pace.
#[test]
fn clients_are_limited_one_by_one() {
    let limiter = Limiter::new(RateLimit { per_second: 1, burst: 2 });
    let now = Timestamp::from_micros(1_000_000_000);
    let take = |client: &str| limiter.take(client.parse::<IpAddr>().unwrap(), now).is_ok();
    assert!(take("192.0.2.1") && take("192.0.2.1") && !take("192.0.2.1"));
    assert!(take("192.0.2.2"));
    assert!(take("2001:db8::1") && take("2001:db8::2") && !take("2001:db8::3"), "one /64");
    assert!(take("2001:db8:0:1::1"));
    assert!(!take("::ffff:192.0.2.1"), "the same client, spelled as IPv6");
}
