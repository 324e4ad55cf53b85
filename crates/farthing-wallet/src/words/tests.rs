use super::plain;

#[test]
fn what_is_read_is_what_is_there() {
    assert_eq!(plain("naïve 支払い – fine"), "naïve 支払い – fine");
    assert_eq!(
        plain("\u{1b}[2Jpay\u{202e}elttil\r\n"),
        "\u{fffd}[2Jpay\u{fffd}elttil\u{fffd}\u{fffd}"
    );
}
