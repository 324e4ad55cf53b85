use std::path::Path;
use std::time::Duration;

use farthing_evidence::SecretKey;
use farthing_gate::BoundQuery;
use farthing_meter::Measure;
use http::Method;

use super::{BodyPolicy, BookConfig, Config, ConfigError, RailConfig, StoreConfig};

const SECRET: &str = "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf";

const WHOLE: &str = r#"
[gateway]
listen = "127.0.0.1:8402"
realm = "api.example"
secrets = ["env:NEW_SECRET", "env:OLD_SECRET"]
title = "Weather"

[admin]
listen = "127.0.0.1:9402"
token = "env:ADMIN_TOKEN"

[store]
sqlite = "book.db"

[assets.usd]
decimals = 2

[rails.prepaid]
[rails.test]

[seller]
name = "weather-inc"

[limits]
requests_per_second = 50

[upstreams.weather]
url = "http://127.0.0.1:9000/v1"
response_timeout_ms = 2500

[[routes]]
name = "forecast"
methods = ["GET", "POST"]
path = "/forecast/{city}"
upstream = "weather"
price = "0.25 usd"
rails = ["prepaid"]
query = ["days"]
description = { "" = "A forecast", de = "Eine Vorhersage" }
offer_ttl_s = 120
[[routes.when]]
query = { days = "14" }
price = "0.50 usd"

[[routes]]
name = "terms"
methods = ["GET"]
path = "/terms"
upstream = "weather"
free = true
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/farthing"), &|name| match name {
        "NEW_SECRET" => Some(SECRET.to_owned()),
        "OLD_SECRET" => Some(SECRET.chars().rev().collect()),
        "ADMIN_TOKEN" => Some(SECRET.to_lowercase()),
        "SHORT" => Some("short".to_owned()),
        "EMPTY" => Some(String::new()),
        "PLACEHOLDER" => Some("change-me-before-going-to-production".to_owned()),
        "REPEATED" => Some("ab".repeat(20)),
        _ => key(name),
    })
}

/// A development key for receipts.
fn key(name: &str) -> Option<String> {
    match name {
        "NEW_KEY" => Some("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned()),
        "OLD_KEY" => Some("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=".to_owned()),
        _ => None,
    }
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(WHOLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.realm, "api.example");
    assert_eq!(config.store, StoreConfig::Sqlite("/etc/farthing/book.db".into()));
    assert_eq!(config.rails, [RailConfig::Prepaid, RailConfig::Test { teller: None }]);
    assert_eq!(config.shutdown_grace, Duration::from_secs(30));
    assert!(config.admin.unwrap().token.is_some());
    let [forecast, terms] = config.routes.as_slice() else { panic!() };
    assert_eq!(forecast.rails, [RailConfig::Prepaid]);
    assert_eq!(forecast.prices[0].atoms(), 25);
    assert_eq!(forecast.variants[0].prices[0].atoms(), 50);
    assert_eq!(forecast.query, BoundQuery::Only(vec!["days".into()]));
    assert_eq!(forecast.upstream.response_timeout, Duration::from_millis(2_500));
    assert_eq!(forecast.offer_ttl, Duration::from_mins(2));
    assert!(terms.is_free());
}

/// CORE.S06: bodies of POST, PUT and PATCH are bound unless the file says otherwise.
#[test]
fn bodies_are_bound_by_default() {
    let policy = |more: &str| {
        let text = WHOLE.replacen("offer_ttl_s = 120", more, 1);
        parse(&text).unwrap_or_else(|error| panic!("{error}")).routes[0].body
    };
    let usual = policy("");
    assert_eq!(usual.bytes_max(&Method::POST), Some(1024 * 1024));
    assert_eq!(usual.bytes_max(&Method::PATCH), Some(1024 * 1024));
    assert_eq!(usual.bytes_max(&Method::GET), None);
    assert_eq!(policy("body = \"bind\"").bytes_max(&Method::GET), Some(1024 * 1024));
    assert_eq!(policy("body_bytes_max = 9").bytes_max(&Method::PUT), Some(9));
    assert_eq!(policy("body = \"any\""), BodyPolicy::Any);
}

#[test]
fn the_first_key_signs_receipts_and_all_are_published() {
    assert!(parse(WHOLE).ok().unwrap().notary.is_none());
    let with = "[receipts]\nkeys = [\"env:NEW_KEY\", \"env:OLD_KEY\"]\n\n[limits]";
    let text = WHOLE.replacen("[limits]", with, 1);
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let notary = config.notary.unwrap();
    let [new, old] = [[1; 32], [2; 32]].map(|it| SecretKey::from_bytes(&it).public());
    assert_eq!((notary.realm(), notary.published().keys()), ("api.example", &[new, old][..]));
    // Whoever reads the books finds the same keys, and needs no other secret.
    let book = BookConfig::parse(&text, Path::new("/"), &|_| None).unwrap();
    let environment = |name: &str| key(name);
    let own = book.notary(Path::new("/"), &environment).unwrap().unwrap();
    assert_eq!(own.published(), notary.published());
    assert!(book.notary(Path::new("/"), &|_| None).err().unwrap().contains("NEW_KEY is not set"));
    let receipts = |keys: &str| format!("[receipts]\nkeys = {keys}\n[limits]");
    check("[limits]", &receipts("[]"), "at least one key is needed");
    check("[limits]", &receipts("[\"env:SHORT\"]"), "32 bytes in base64");
    check("[limits]", &receipts("[\"AQEB\"]"), "a secret is named");
    let spaced = text.replacen("api.example", "my api", 1);
    assert!(parse(&spaced).err().unwrap().what.contains("a realm without spaces"));
}

/// Replaces one text of the whole configuration by another and expects the error, placed between
/// the head of the table and what was put there.
#[track_caller]
fn check(was: &str, is: &str, expected: &str) {
    let text = WHOLE.replacen(was, is, 1);
    assert_ne!(text, WHOLE, "the change changes something");
    let Err(error) = parse(&text) else { panic!("accepted: {is}") };
    assert!(error.what.contains(expected), "{error}");
    let at = WHOLE.find(was).unwrap();
    let lines = |text: &str| text.matches('\n').count();
    let (table, _) = WHOLE[..=at].rsplit_once("\n[").unwrap();
    // The line after the one that ends before the table's head.
    let places = lines(table).saturating_add(2)..=lines(&format!("{}{is}\n", &WHOLE[..at]));
    assert!(places.contains(&error.line), "{error}");
}

/// C-10: a missing, empty, short, default or written-out secret keeps the gateway from starting.
#[test]
fn a_weak_secret_is_refused_where_it_is_named() {
    let new = "\"env:NEW_SECRET\"";
    check(new, "\"env:ABSENT\"", "the environment variable ABSENT is not set");
    check(new, "\"env:EMPTY\"", "the environment variable EMPTY is not set");
    check(new, "\"env:SHORT\"", "the secret has 5 bytes and needs at least 32");
    check(new, "\"env:PLACEHOLDER\"", "the secret is a placeholder");
    check(new, "\"env:REPEATED\"", "the secret is a placeholder");
    check(new, &format!("\"{SECRET}\""), "a secret is named, not written here");
    check(new, "\"file:/nowhere/secret\"", "the file cannot be read");
    check("\"env:OLD_SECRET\"", "\"env:SHORT\"", "the secret has 5 bytes");
    check("[\"env:NEW_SECRET\", \"env:OLD_SECRET\"]", "[]", "at least one secret is needed");
    check("secrets = [\"env:NEW_SECRET\", \"env:OLD_SECRET\"]\n", "", "missing field `secrets`");
    check("\"env:ADMIN_TOKEN\"", "\"env:SHORT\"", "an admin token has at least 32 characters");
}

/// C-10: a secret's own text is never repeated, even when it is refused.
#[test]
fn a_refused_secret_is_not_repeated() {
    let text = WHOLE.replacen("env:NEW_SECRET", SECRET, 1);
    let Err(error) = parse(&text) else { panic!() };
    assert!(!error.to_string().contains(SECRET), "{error}");
}

#[test]
fn a_secret_can_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let text = WHOLE.replacen("env:NEW_SECRET", &format!("file:{}", path.display()), 1);
    assert!(parse(&text).is_ok());
}

#[test]
fn a_rail_that_cannot_be_built_is_refused() {
    check("[rails.test]", "[rails.gold]", "there is no rail called gold");
    check("[rails.test]", "[rails.test]\nspeed = 2", "unknown field `speed`");
    check("rails = [\"prepaid\"]", "rails = [\"tempo\"]", "there is no rail of this name");
    check("rails = [\"prepaid\"]", "rails = []", "a priced route needs a rail");
    check("[rails.test]", "[rails.test]\npush = true", "this rail has no settings but a teller");
    check("[rails.prepaid]", "[rails.prepaid]\nteller = \"127.0.0.1:1\"", "has no settings");
    check("[rails.test]", "[rails.tempo]\nteller = \"127.0.0.1:1\"", "only the test rail");
    check("[rails.test]", "[rails.test]\nteller = \"somewhere\"", "invalid socket address");
}

const TEMPO: &str = r#"[rails.tempo]
chain_id = 42431
nodes = ["http://127.0.0.1:8545", "env:NODE"]
recipient = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
tokens = { usd = "0x20c0000000000000000000000000000000000000" }
"#;

/// Nothing about a chain is guessed: neither which one it is, nor who is paid on it, nor in what.
#[test]
fn the_tempo_rail_says_all_of_it() {
    let whole = format!("{WHOLE}\n{TEMPO}");
    let parse = |text: &str| {
        let environment = |name: &str| match name {
            "NODE" => Some("https://node.example/v1/a-key-of-the-provider".to_owned()),
            "REFUND_KEY" => Some("07".repeat(32)),
            _ => Some(SECRET.to_owned()),
        };
        Config::parse(text, Path::new("/etc/farthing"), &environment)
    };
    let refunds = format!("{whole}refund_key = \"env:REFUND_KEY\"\n");
    let refunds = parse(&refunds).unwrap_or_else(|error| panic!("{error}"));
    let [_, RailConfig::Tempo(tempo), _] = refunds.rails.as_slice() else { panic!("three rails") };
    assert_eq!(tempo.refund_key.as_deref(), Some(&[7; 32]));
    assert!(!format!("{tempo:?}").contains("refund"), "a key is not shown");
    let config = parse(&whole).unwrap_or_else(|error| panic!("{error}"));
    let [_, RailConfig::Tempo(tempo), _] = config.rails.as_slice() else { panic!("three rails") };
    assert_eq!((tempo.chain_id, tempo.confirmations, tempo.push), (42_431, 1, false));
    assert!(!format!("{tempo:?}").contains("a-key-of"), "nodes are not shown");
    for (from, to, want) in [
        ("chain_id = 42431\n", "", "needs chain_id"),
        ("nodes = [\"http://127.0.0.1:8545\", \"env:NODE\"]", "nodes = []", "needs nodes"),
        ("http://127.0.0.1:8545", "ftp://127.0.0.1", "an http or https URL"),
        ("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "0x7099", "40 hexadecimal digits"),
        ("{ usd =", "{ gold =", "no asset called gold"),
        (
            "chain_id = 42431",
            "chain_id = 42431\nrefund_key = \"env:NODE\"",
            "64 hexadecimal digits",
        ),
        ("{ usd = \"0x20c0000000000000000000000000000000000000\" }", "{}", "needs tokens"),
    ] {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from}");
        let error = parse(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(want), "{to}: {error}");
    }
}

/// Sessions say who settles, and in whose name; a contract settles for the recipient alone, and the chain's
/// own reserve for an operator too.
#[test]
fn sessions_on_tempo_say_who_settles() {
    // The key of the recipient is a well-known one of development.
    let key = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    let parse = |session: &str| {
        let text = format!("{WHOLE}\n{TEMPO}\n[rails.tempo.session]\n{session}");
        let environment = |name: &str| match name {
            "NODE" => Some("https://node.example".to_owned()),
            "PAYEE_KEY" => Some(key.to_owned()),
            "OTHER_KEY" => Some("07".repeat(32)),
            _ => Some(SECRET.to_owned()),
        };
        Config::parse(&text, Path::new("/etc/farthing"), &environment)
    };
    let escrow = "escrow = \"0x1234567890abcdef1234567890abcdef12345678\"\n";
    let (ours, fees) = ("key = \"env:PAYEE_KEY\"\n", "fee_asset = \"usd\"\n");
    let config = parse(&format!("{escrow}{ours}{fees}"));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let [_, RailConfig::Tempo(tempo), _] = config.rails.as_slice() else { panic!("three rails") };
    let session = tempo.session.as_ref().unwrap();
    assert_eq!(session.escrow.family, farthing_rail_tempo::session::Family::TempoV1);
    let other = "key = \"env:OTHER_KEY\"\n";
    let operated = parse(&format!("{other}{fees}"));
    let operated = operated.unwrap_or_else(|error| panic!("{error}"));
    let [_, RailConfig::Tempo(tempo), _] = operated.rails.as_slice() else { panic!("three") };
    let session = tempo.session.as_ref().unwrap();
    assert_eq!(session.escrow.address, farthing_rail_tempo::session::RESERVE);
    for (session, want) in [
        (format!("{escrow}{other}{fees}"), "the key has to be its own"),
        (format!("{escrow}{ours}"), "fee_asset says what"),
        (format!("{escrow}{fees}"), "missing field `key`"),
        (format!("{escrow}{ours}fee_asset = \"gold\"\n"), "one of the tokens"),
        (format!("escrow = \"0x12\"\n{ours}{fees}"), "40 hexadecimal digits"),
    ] {
        let error = parse(&session).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(want), "{session}: {error}");
    }
}

/// Sessions on an EVM chain say which chain, which escrow and whose account; what Tempo alone has is no setting
/// of theirs, nor the other way around.
#[test]
fn sessions_on_an_evm_chain_say_all_of_it() {
    // The key of the recipient is a well-known one of development.
    let key = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    let escrow = "escrow = \"0x1234567890abcdef1234567890abcdef12345678\"\n";
    let ours = "key = \"env:PAYEE_KEY\"\n";
    let rail = TEMPO.replace("[rails.tempo]", "[rails.evm]");
    let parse = |session: &str| {
        let text = format!("{WHOLE}\n{rail}\n[rails.evm.session]\n{session}");
        let environment = |name: &str| match name {
            "NODE" => Some("https://node.example".to_owned()),
            "PAYEE_KEY" => Some(key.to_owned()),
            "OTHER_KEY" => Some("07".repeat(32)),
            _ => Some(SECRET.to_owned()),
        };
        Config::parse(&text, Path::new("/etc/farthing"), &environment)
    };
    let whole = format!(
        "{escrow}{ours}gas_asset = \"usd\"\nfee_max_gwei = 7\nreplace_after_ms = 5\nrelays = true\n"
    );
    let config = parse(&whole).unwrap_or_else(|error| panic!("{error}"));
    let evm = config.rails.iter().find_map(RailConfig::evm).unwrap();
    let session = evm.session.as_ref().unwrap();
    assert_eq!(session.escrow.family, farthing_rail_tempo::session::Family::Evm);
    assert_eq!((session.fee_max, session.relays), (Some(7_000_000_000), true));
    assert!(!format!("{evm:?}").contains("node.example"), "nodes are not shown");
    for (session, want) in [
        (ours.to_owned(), "need escrow"),
        (format!("{escrow}{ours}fee_asset = \"usd\"\n"), "gas_asset, not fee_asset"),
        (format!("{escrow}{ours}gas_asset = \"gold\"\n"), "no asset of this name"),
        (format!("{escrow}{ours}fee_max_gwei = 0\n"), "nothing is mined"),
        (format!("{escrow}key = \"env:OTHER_KEY\"\n"), "the key has to be its own"),
    ] {
        let error = parse(&session).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(want), "{session}: {error}");
    }
}

/// What is metered says how, is paid in sessions alone, and costs something.
#[test]
fn a_meter_says_what_it_charges_for() {
    let metered = |meter: &str| {
        let sold = format!("intents = [\"session\"]\nmeter = {{ {meter} }}\noffer_ttl_s = 120");
        WHOLE.replacen("offer_ttl_s = 120", &sold, 1)
    };
    let meter = |text: &str| {
        let config = parse(&metered(text)).unwrap_or_else(|error| panic!("{error}"));
        config.routes[0].meter.clone().unwrap()
    };
    let tokens =
        meter("measure = \"tokens\", every = 1000, output = 5, reserve_units = 2, wait_s = 9");
    let Measure::Tokens(weights) = &tokens.terms.measure else { panic!("{tokens:?}") };
    assert_eq!((weights.input, weights.output, weights.estimate_bytes.get()), (1, 5, 4));
    assert_eq!((tokens.terms.every.get(), tokens.terms.reserve_units), (1_000, 2));
    assert_eq!((tokens.terms.wait, tokens.ask_for_usage), (Duration::from_secs(9), None));
    let header = meter("measure = \"header\", field = \"X-Units\"").terms.measure;
    assert_eq!(header, Measure::Header("x-units".try_into().unwrap()));
    let report = meter("measure = \"report\", pointer = \"/units\", cumulative = true").terms;
    let Measure::Report(report) = report.measure else { panic!() };
    assert_eq!((report.estimate, report.cumulative, &*report.event), (1, true, ""));
    for measure in ["bytes", "lines", "events", "seconds"] {
        meter(&format!("measure = \"{measure}\""));
    }
    for (text, want) in [
        (metered("every = 2"), "missing field `measure`"),
        (metered("measure = \"words\""), "a measure is \"bytes\""),
        (metered("measure = \"bytes\", every = 0"), "nonzero"),
        (metered("measure = \"bytes\", input = 2"), "input goes with measure = \"tokens\""),
        (metered("measure = \"tokens\", estimate = 2"), "estimate goes with measure = \"report\""),
        (metered("measure = \"tokens\", input = 0, output = 0"), "not both 0"),
        (metered("measure = \"header\""), "field names the field"),
        (metered("measure = \"header\", field = \"a b\""), "field names the field"),
        (metered("measure = \"report\", pointer = \"units\""), "pointer says where"),
        (metered("measure = \"bytes\", wait_s = 4000"), "an hour at most"),
        (metered("measure = \"bytes\", unit = 1"), "unknown field `unit`"),
        (
            metered("measure = \"bytes\"").replace("[\"session\"]", "[\"session\", \"charge\"]"),
            "only sessions can",
        ),
        (
            metered("measure = \"bytes\"").replace("intents = [\"session\"]\n", ""),
            "only sessions can",
        ),
    ] {
        let error = parse(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(want), "{want:?}: {error}");
    }
}

/// CORE.S13: plain HTTP is for this machine only, unless the operator says that something else
/// terminates TLS.
#[test]
fn plain_http_stays_at_home() {
    let (home, away) = ("\"127.0.0.1:8402\"", "\"0.0.0.0:8402\"");
    check(home, away, "payment needs TLS");
    let meant = format!("{away}\nplain_http = true");
    assert!(parse(&WHOLE.replacen(home, &meant, 1)).is_ok());
    let tls = format!("{away}\ntls = {{ certificate = \"c.pem\", key = \"k.pem\" }}");
    assert!(parse(&WHOLE.replacen(home, &tls, 1)).is_ok());
    assert!(parse(&WHOLE.replacen(home, "\"[::1]:8402\"", 1)).is_ok());
    check("listen = \"127.0.0.1:9402\"", "listen = \"0.0.0.0:9402\"", "speaks plain HTTP");
}

#[test]
fn a_mistake_is_said_where_it_stands() {
    check("realm = \"api.example\"", "realm = \"a|b\"", "a realm is printable ASCII");
    check("title = \"Weather\"", "titel = \"Weather\"", "unknown field `titel`");
    check("sqlite = \"book.db\"", "", "a book is kept in one place");
    check("sqlite = \"book.db\"", "sqlite = \"b\"\nmemory = true", "a book is kept in one place");
    check("decimals = 2", "decimals = 200", "decimals");
    check("name = \"weather-inc\"", "name = \"weather inc\"", "");
    check("http://127.0.0.1:9000/v1", "127.0.0.1:9000", "an upstream is http://host:port");
    check("http://127.0.0.1:9000/v1", "unix:/run/x", "an upstream is http://host:port");
    check("upstream = \"weather\"", "upstream = \"wether\"", "there is no upstream of this name");
    check("\"GET\", \"POST\"", "\"get\"", "a method is written like GET or POST");
    check("\"GET\", \"POST\"", "\"CONNECT\"", "a method is written like GET or POST");
    check("\"0.25 usd\"", "\"0.255 usd\"", "");
    check("\"0.25 usd\"", "\"0.25\"", "an amount is a number and an asset");
    check("\"0.25 usd\"", "\"0.25 gbp\"", "there is no asset called gbp");
    check("\"0.25 usd\"", "0.25", "");
    check("price = \"0.25 usd\"", "", "a route is either free = true or has a price");
    check("free = true", "", "a route is either free = true or has a price");
    check("free = true", "free = true\nprice = \"1 usd\"", "a route is either free");
    check("{ days = \"14\" }", "{ city = \"Rome\" }", "must be part of what is bought");
    check("query = [\"days\"]", "query = \"some\"", "query is \"all\", \"none\" or a list");
    check("\"A forecast\"", "\"A\\nforecast\"", "a description is one line of text");
    check("offer_ttl_s = 120", "body = \"some\"", "body is \"bind\" or \"any\"");
    check("name = \"terms\"", "name = \"forecast\"", "two routes have this name");
    check("[seller]", "[sellr]", "");
    check("[limits]", "[limits", "");
}

const WEBHOOK: &str = r#"
[[webhooks]]
name = "ops"
url = "https://ops.example/hooks"
secrets = ["env:HOOK", "env:OLD_HOOK"]
events = ["payment.*", "refund.settled"]
timeout_ms = 2500
attempts_max = 3
retry_ms = [10, 20]
"#;

fn parse_webhook(from: &str, to: &str) -> Result<Config, ConfigError> {
    let text = format!("{WHOLE}{}", WEBHOOK.replacen(from, to, 1));
    Config::parse(&text, Path::new("/etc/farthing"), &|name| match name {
        "HOOK" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        "OLD_HOOK" => Some("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()),
        "PLACE" => Some("https://ops.example/a-key-in-the-path".to_owned()),
        "ADMIN_TOKEN" => Some(SECRET.to_lowercase()),
        "ABSENT" => None,
        _ => Some(SECRET.to_owned()),
    })
}

#[test]
fn webhooks_are_read() {
    let config = parse_webhook("", "").unwrap_or_else(|error| panic!("{error}"));
    let [ops] = config.webhooks.as_slice() else { panic!("one webhook") };
    assert_eq!((&*ops.name, ops.url.as_str()), ("ops", "https://ops.example/hooks"));
    assert_eq!((ops.secrets.len(), ops.events.len()), (2, 7));
    assert_eq!((ops.timeout, ops.parallel), (Duration::from_millis(2_500), 8));
    assert_eq!((ops.retries.attempts_max, ops.retries.waits.len()), (3, 2));
    let usual = parse_webhook("attempts_max = 3\nretry_ms = [10, 20]", "").unwrap();
    let retries = &usual.webhooks[0].retries;
    assert_eq!((retries.attempts_max, retries.waits.len()), (10, 9));
    assert_eq!(retries.waits[..2], [Duration::from_secs(5), Duration::from_mins(5)]);
    let hidden = parse_webhook("https://ops.example/hooks", "env:PLACE").unwrap();
    assert_eq!(hidden.webhooks[0].url.path(), "/a-key-in-the-path");
    for own in ["http://127.0.0.1:9", "http://[::1]:9", "http://localhost:9"] {
        assert!(parse_webhook("https://ops.example/hooks", own).is_ok(), "{own}");
    }
    let meant = "\"http://ops.internal\"\nplain_http = true";
    assert!(parse_webhook("\"https://ops.example/hooks\"", meant).is_ok());
}

/// C-10: a mistake about a webhook is said where it stands, and a secret is not repeated.
#[test]
fn a_webhooks_mistakes_are_said_where_they_stand() {
    let again = WEBHOOK.replace("https://", "https://two.");
    let lines = WHOLE.matches('\n').count();
    for (from, to, line, want) in [
        ("\"ops\"", "\"o p s\"", 3, "one printable word"),
        ("\"ops\"", "\"o/s\"", 3, "one printable word"),
        ("https://ops.example/hooks", "http://ops.example", 4, "use https"),
        ("https://ops.example/hooks", "http://10.0.0.1", 4, "use https"),
        ("https://ops.example/hooks", "ftp://ops.example", 4, "an https URL"),
        ("https://ops.example/hooks", "ops.example", 4, "an https URL"),
        ("https://ops.example/hooks", "env:ABSENT", 4, "ABSENT is not set"),
        ("[\"env:HOOK\", \"env:OLD_HOOK\"]", "[]", 5, "at least one secret"),
        ("env:HOOK", "env:ABSENT", 5, "ABSENT is not set"),
        ("env:HOOK", "env:SECRET", 5, "whsec_ and base64"),
        ("env:HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 5, "a secret is named"),
        ("payment.*", "payments.*", 6, "no event has this name"),
        ("[\"payment.*\", \"refund.settled\"]", "[]", 6, "without events"),
        ("2500", "0", 7, "some time to answer"),
        ("attempts_max = 3", "attempts_max = 0", 8, "sent once at least"),
        ("[10, 20]", "[]", 9, "at least one wait"),
        ("[10, 20]", "[10]\nparallel = 0", 10, "between 1 and 64"),
        ("[10, 20]", "[10]\nparalel = 1", 10, "unknown field `paralel`"),
        ("[10, 20]", &format!("[10]\n{again}"), 12, "two webhooks have this name"),
    ] {
        let Err(error) = parse_webhook(from, to) else { panic!("accepted: {to}") };
        assert!(error.what.contains(want), "{to}: {error}");
        assert!(!error.to_string().contains("MfKQ9r8G"), "{error}");
        assert_eq!(error.line, lines + line, "{to}: {error}");
    }
}

/// W-06: a pattern stands in the one spelling that requests are matched in, and no two routes can
/// both match one request.
#[test]
fn patterns_are_plain_and_distinct() {
    let plain = "a path is written in its plain spelling";
    for odd in ["forecast", "/a//b", "/a/../b", "/a;x=1", "/a%2fb", "/fore cast"] {
        check("\"/forecast/{city}\"", &format!("\"{odd}\""), plain);
    }
    check("\"/terms\"", "\"/forecast/{town}\"", "");
    check("\"/terms\"", "\"/forecast/{city}\"", "GET /forecast/{city} belongs to another route");
    assert!(parse(&WHOLE.replacen("\"/terms\"", "\"/forecast/terms\"", 1)).is_ok());
}

/// M-08: zero is not a price; what costs nothing is configured as free.
#[test]
fn zero_is_not_a_price() {
    check("\"0.25 usd\"", "\"0 usd\"", "");
    check("\"0.25 usd\"", "\"0.00 usd\"", "");
    check("\"0.25 usd\"", "\"-0.25 usd\"", "");
}
