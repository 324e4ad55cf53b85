use std::time::Duration;

use super::WalletConfig;

const WHOLE: &str = r#"
key = "agent"
validity_max_s = 600

[assets.usd]
decimals = 2
per_payment_max = "0.50"
total_max = "20"

[assets.eur]
decimals = 2

[sellers."https://api.example"]
realm = "Example"
recipients = ["seller"]
"#;

#[test]
fn a_whole_configuration_is_read() {
    let config = WalletConfig::parse(WHOLE).unwrap();
    assert_eq!(config.key, "agent");
    assert_eq!(config.rules.validity_max, Duration::from_mins(10));
    assert_eq!(config.rules.per_payment[&"usd".parse().unwrap()], 50);
    assert_eq!(config.rules.total[&"usd".parse().unwrap()], 2_000);
    assert!(!config.rules.per_payment.contains_key(&"eur".parse().unwrap()));
    let seller = &config.rules.sellers["https://api.example"];
    assert_eq!(seller.realm.as_deref(), Some("Example"));
    assert_eq!(seller.recipients, ["seller"]);
}

#[track_caller]
fn check(was: &str, is: &str, expected: &str) {
    let text = WHOLE.replacen(was, is, 1);
    assert_ne!(text, WHOLE, "the change changes something");
    let error = WalletConfig::parse(&text).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_mistake_is_said_where_it_stands() {
    check("key = \"agent\"", "", "missing field `key`");
    check("per_payment_max", "per_payment_maximum", "unknown field `per_payment_maximum`");
    check("\"0.50\"", "\"0.505\"", "[assets.usd]: 0.505:");
    check("\"0.50\"", "\"-1\"", "[assets.usd]: -1:");
    check("\"20\"", "20", "expected a string");
    check("[assets.usd]", "[assets.\"U SD\"]", "[assets.U SD]:");
    check("https://api.example", "api.example", "a seller is named by its origin");
    check("https://api.example", "https://api.example/", "the origin is spelled");
    check("https://api.example", "https://API.example:443", "the origin is spelled");
}
