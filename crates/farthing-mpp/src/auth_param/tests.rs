use std::time::Instant;

use proptest::prelude::*;

use super::schemes;

/// Renders what was read as `scheme[name=value …]`, one per challenge.
#[track_caller]
fn check(value: &str, want: &str) {
    let got: Vec<String> = schemes(value)
        .iter()
        .map(|scheme| {
            let params: Vec<_> = scheme.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}[{}]", scheme.name, params.join(" "))
        })
        .collect();
    assert_eq!(got.join(" "), want, "{value}");
}

#[test]
fn schemes_and_parameters_are_told_apart() {
    check(r#"Payment id="a", realm=r"#, "Payment[id=a realm=r]");
    check(r#"Payment id = "a" ,,  ,realm	=	r"#, "Payment[id=a realm=r]");
    check(r#"Basic realm="b", Payment id="a""#, "Basic[realm=b] Payment[id=a]");
    check(r#"Negotiate YIIabc==, Payment id="a""#, "Negotiate[] Payment[id=a]");
    check(r#"Negotiate, Payment id="a""#, "Negotiate[] Payment[id=a]");
    check(r#"Payment ID="a,b", Realm="Payment id=c""#, "Payment[id=a,b realm=Payment id=c]");
    check(r#"Payment d="say \"hi\" \\ \n""#, r#"Payment[d=say "hi" \ n]"#);
    check("Payment", "Payment[]");
    check("", "");
}

/// M-02, M-11: a value that breaks off holds no challenge, for what limits it may be what was lost.
#[test]
fn a_value_makes_sense_to_its_end_or_not_at_all() {
    check(r#"Payment id="a", d="whole""#, "Payment[id=a d=whole]");
    check(r#"Payment id="a", d="open"#, "");
    check(r#"Payment id="a", d="#, "");
    check(r#"Payment id="a", d="half "quoted" tail", e=f"#, "");
    check(r#"Payment id="a" opaque="b""#, "");
    check(r#"Payment id="a" Payment id="b""#, "");
    check(r#"Payment id="a", Payment id="b", d="open"#, "");
    check(r#"Payment id="a", di{gest="b""#, "");
    check(r#"Basic realm Payment id="b""#, "");
    check(r#"Payment id="a", =b"#, "");
    check(r#"id="a", Payment id="b""#, "");
    check("Payment id=\"a\r\nX: y\"", "");
    check("Payment id=\"a\0\"", "");
}

/// M-11: hostile text costs no more than its length; doubling it at most doubles the time.
#[test]
fn hostile_text_is_read_in_linear_time() {
    let cases = [
        |n: usize| format!("Payment id=\"a\", fuzz=\"{}", "\\".repeat(n)),
        |n: usize| format!("Payment {}", ",".repeat(n)),
        |n: usize| format!("Payment {}", "a=b,".repeat(n / 4)),
        |n: usize| "a ".repeat(n / 2),
        |n: usize| format!("Payment id=\"{}\"", "\\\"".repeat(n / 2)),
    ];
    for (case, text) in cases.iter().enumerate() {
        let time = |n: usize| {
            let text = text(n);
            let mut best = u128::MAX;
            for _ in 0..5 {
                #[expect(clippy::disallowed_methods, reason = "the test measures time")]
                let start = Instant::now();
                std::hint::black_box(schemes(&text));
                best = best.min(start.elapsed().as_micros());
            }
            best
        };
        let (small, large) = (time(12_000), time(48_000));
        assert!(large <= 12 * small.max(100), "case {case}: {small} then {large} µs");
    }
    assert!(schemes(&"a".repeat(1024 * 1024)).is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = schemes(&text);
    }

    #[test]
    fn a_quoted_value_comes_back(value in "[ -~\t\u{80}-\u{ff}]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("Payment a=\"{quoted}\", b=c");
        let read = schemes(&line);
        prop_assert_eq!(read[0].param("a").unwrap(), &value);
        prop_assert_eq!(read[0].param("b").unwrap(), "c");
    }
}
