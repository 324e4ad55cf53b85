use super::*;

/// Seconds and dates are waits, longer ones than a day are a day, and nonsense is none.
#[test]
fn an_endpoint_may_ask_to_be_left_alone() {
    let now = Timestamp::from_micros(784_111_777_000_000);
    let asked = |text: &str| {
        let mut fields = HeaderMap::new();
        fields.insert(RETRY_AFTER, text.parse().unwrap());
        asked_wait(&fields, now)
    };
    assert_eq!(asked("120"), Some(Duration::from_mins(2)));
    assert_eq!(asked("99999999"), Some(RETRY_AFTER_MAX));
    assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_mins(1)));
    assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
    assert_eq!((asked("soon"), asked("-1")), (None, None));
}

#[test]
fn this_machine_has_more_than_one_name() {
    let at = |text: &str| is_loopback(&Url::parse(text).unwrap());
    assert!(at("http://127.0.0.1:1/") && at("http://[::1]/") && at("http://localhost/x"));
    assert!(!at("http://127.0.0.1.example.com/") && !at("http://10.0.0.1/"));
}
