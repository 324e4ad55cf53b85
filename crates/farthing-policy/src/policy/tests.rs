use farthing_money::{Asset, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{BudgetRule, Counted, PriceRise, Then, Window};

fn assets() -> Assets {
    [("usdc", 6), ("eurc", 6), ("dai", 18), ("jpyx", 0)]
        .map(|(name, decimals)| Asset::new(AssetId::new(name).unwrap(), decimals).unwrap())
        .into_iter()
        .collect()
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, &[], &assets()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn wrong(text: &str) -> String {
    match Policy::parse(text, &[], &assets()) {
        Ok(policy) => panic!("it was read:\n{}", policy.cedar()),
        Err(error) => error.to_string(),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Ten cents for a forecast, which was bought before at the same price.
fn forecast() -> Facts {
    Facts {
        agent: "researcher".to_owned(),
        task: None,
        operation: "pay".to_owned(),
        origin: "https://api.example.com".to_owned(),
        method: "GET".to_owned(),
        path: "/forecast/rome".to_owned(),
        tool: None,
        category: None,
        rail: "tempo".to_owned(),
        network: Some("eip155:4217".to_owned()),
        asset: AssetId::new("usdc").unwrap(),
        atoms: 100_000,
        recipient: "0xaa".to_owned(),
        identity: None,
        known_identity: None,
        known_recipient: Some("0xaa".to_owned()),
        known_atoms: Some(100_000),
        before_atoms: None,
        purses: Vec::new(),
        intent: "1234".to_owned(),
        at: at("2026-11-26T12:00:00Z"),
    }
}

fn paying(atoms: u128) -> Facts {
    Facts { atoms, known_atoms: None, ..forecast() }
}

/// The verdict and the rules that decided, in one line.
fn said(policy: &Policy, facts: &Facts) -> String {
    let decision = policy.decide(facts);
    let rules: Vec<&str> = decision.reasons.iter().map(|reason| reason.rule.as_str()).collect();
    format!("{:?} {}", decision.verdict, rules.join(" "))
}

/// Whoever explains a decision finds the amount that a rule compares with, and the budgets that stand although
/// nothing was drawn from them.
#[test]
fn rules_and_budgets_are_explained() {
    let policy = policy(USUAL);
    let threshold = |rule: &str| policy.threshold(rule);
    assert_eq!(threshold("wallet.max.usdc").as_deref(), Some("1 usdc"));
    assert_eq!(threshold("wallet.ask_above.any").as_deref(), Some("0.25 usd"));
    for other in ["wallet.max.dai", "wallet.sellers", "agents.researcher.max.usdc", "wallet", "x"] {
        assert_eq!(threshold(other), None, "{other}");
    }
    let standing = policy.standing_budgets(at("2026-11-26T12:00:00Z"));
    let drawn = policy.decide(&paying(100_000)).draws;
    for draw in &standing {
        assert_eq!((draw.amount, draw.used), (0, 0));
        let theirs = drawn.iter().find(|it| it.key == draw.key).expect("it is the same budget");
        assert_eq!((theirs.limit, &theirs.rule), (draw.limit, &draw.rule));
        let counted = Counted::of(&draw.key).unwrap();
        assert_eq!(counted.each, None);
    }
    assert!(!standing.is_empty());
    let day =
        standing.iter().find(|draw| draw.key.as_str().starts_with("agent researcher|")).unwrap();
    let counted = Counted::of(&day.key).unwrap();
    assert_eq!((counted.level, counted.time, counted.unit), ("agent researcher", "86400s", "any"));
}

const USUAL: &str = r#"
version = "7"

[reference]
currency = "usd"
rates = { usdc = "1", eurc = "1.08" }

[wallet]
max = { usdc = "1", eurc = "1" }
ask_above = { any = "0.25" }

[agents.researcher]
sellers = ["https://api.example.com", "https://*.weather.example"]

[[agents.researcher.budgets]]
max = { any = "5" }
per = "24h"

[[agents.researcher.budgets]]
payments = 60
per = "1m"
each = "seller"
"#;

#[test]
fn what_is_within_the_rules_is_paid_and_what_is_dear_is_asked_for() {
    let policy = policy(USUAL);
    for (atoms, expected) in [
        (1, "Allow agents.researcher"),
        (250_000, "Allow agents.researcher"),
        (250_001, "Ask wallet.ask_above.any"),
        (1_000_000, "Ask wallet.ask_above.any"),
        (1_000_001, "Deny wallet.max.usdc"),
    ] {
        assert_eq!(said(&policy, &paying(atoms)), expected, "{atoms}");
    }
    let decision = policy.decide(&paying(250_001));
    assert_eq!(decision.approvals, 1);
    assert_eq!(decision.reasons[0].because, "what costs more than 0.25 usd is asked for");
    // 0.25 euros are 0.27 dollars.
    let euros = Facts { asset: AssetId::new("eurc").unwrap(), ..paying(250_000) };
    assert_eq!(said(&policy, &euros), "Ask wallet.ask_above.any");
}

/// P-16: what nobody knows, and what cannot be computed, is denied.
#[test]
fn unknown_agents_assets_and_operations_are_denied() {
    let policy = policy(USUAL);
    let usual = forecast();
    assert_eq!(said(&policy, &usual), "Allow agents.researcher");
    let dai = AssetId::new("dai").unwrap();
    for (facts, expected) in [
        (Facts { agent: "stranger".to_owned(), ..usual.clone() }, "Deny default"),
        (Facts { operation: "drain".to_owned(), ..usual.clone() }, "Deny unknown"),
        (Facts { asset: AssetId::new("doge").unwrap(), ..usual.clone() }, "Deny unknown"),
        (Facts { asset: dai.clone(), atoms: 1, ..usual.clone() }, "Deny wallet.max"),
        (Facts { atoms: u128::MAX, ..usual.clone() }, "Deny unknown"),
        (Facts { origin: String::new(), ..usual.clone() }, "Deny unknown"),
        (Facts { recipient: "a\nb".to_owned(), ..usual.clone() }, "Deny unknown"),
        (Facts { path: "/".repeat(3_000), ..usual.clone() }, "Deny unknown"),
    ] {
        assert_eq!(said(&policy, &facts), expected);
    }
    // A budget across assets cannot count one that has no rate.
    let with_dai = USUAL
        .replace("usdc = \"1\", eurc = \"1\" }\nask_above = { any = \"0.25\" }", "dai = \"9\" }");
    let policy = self::policy(&with_dai);
    let facts = Facts { asset: dai, ..paying(1_000_000_000_000_000_000) };
    assert_eq!(said(&policy, &facts), "Deny unknown");
}

#[test]
fn an_empty_policy_allows_nothing() {
    assert_eq!(said(&policy(""), &forecast()), "Deny default");
    assert_eq!(said(&policy("[agents.researcher]"), &forecast()), "Allow agents.researcher");
    assert_eq!(
        said(&policy("[agents.researcher]\nsellers = []"), &forecast()),
        "Deny agents.researcher.sellers"
    );
    let owner = Facts { agent: OWNER.to_owned(), ..forecast() };
    assert_eq!(said(&policy("[wallet]"), &owner), "Deny wallet.max");
    assert_eq!(said(&policy("[wallet]\nmax = { usdc = \"1\" }"), &owner), "Allow wallet");
}

/// A-06: a seller is its whole origin, and nothing that looks like it.
#[test]
fn a_look_alike_is_another_seller() {
    let policy = policy(USUAL);
    let from = |origin: &str| said(&policy, &Facts { origin: origin.to_owned(), ..forecast() });
    for origin in
        ["https://api.example.com", "https://eu.weather.example", "https://a.b.weather.example"]
    {
        assert_eq!(from(origin), "Allow agents.researcher", "{origin}");
    }
    for origin in [
        "https://api.example.com.evil.example",
        "https://api-example.com",
        "https://xn--pi-7ta.example.com",
        "http://api.example.com",
        "https://api.example.com:8443",
        "https://weather.example",
        "https://myweather.example",
        "https://eu.weather.example.evil.example",
        "https://eu.weather.example:8443",
    ] {
        assert_eq!(from(origin), "Deny agents.researcher.sellers", "{origin}");
    }
}

#[test]
fn every_list_allows_what_it_names_and_nothing_else() {
    let base = "[wallet]\nmax = { usdc = \"1\" }\n[agents.researcher]\n";
    let full = Facts {
        tool: Some("weather.get".to_owned()),
        category: Some("weather".to_owned()),
        identity: Some("did:key:z6Mk".to_owned()),
        ..forecast()
    };
    for (list, named, other) in [
        ("operations", "pay", "deposit"),
        ("recipients", "0xaa", "0xbb"),
        ("identities", "did:key:z6Mk", "did:key:z6Ml"),
        ("categories", "weather", "gambling"),
        ("routes", "/forecast/*", "/forecas"),
        ("methods", "GET", "POST"),
        ("tools", "weather.get", "weather"),
        ("rails", "tempo", "prepaid"),
        ("networks", "eip155:4217", "eip155:1"),
        ("assets", "usdc", "eurc"),
    ] {
        let with = |entry: &str| policy(&format!("{base}{list} = [\"{entry}\"]"));
        assert_eq!(said(&with(named), &full), "Allow agents.researcher", "{list}");
        assert_eq!(said(&with(other), &full), format!("Deny agents.researcher.{list}"));
        // A fact that is not there is not the one that was named.
        let bare =
            Facts { tool: None, category: None, identity: None, network: None, ..full.clone() };
        if ["identities", "categories", "tools", "networks"].contains(&list) {
            assert_eq!(said(&with(named), &bare), format!("Deny agents.researcher.{list}"));
        }
    }
    for (list, entry) in [
        ("block_sellers", "https://*.example.com"),
        ("block_recipients", "0xaa"),
        ("block_identities", "did:key:z6Mk"),
    ] {
        let blocked = policy(&format!("{base}{list} = [\"{entry}\"]"));
        assert_eq!(said(&blocked, &full), format!("Deny agents.researcher.{list}"));
    }
}

#[test]
fn text_in_a_policy_stays_text() {
    let odd = "a\"b\\c*é";
    let text =
        format!("[wallet]\nmax = {{ usdc = \"1\" }}\nrecipients = ['{odd}']\n[agents.researcher]");
    let policy = policy(&text);
    let to = |recipient: &str| {
        let known_recipient = Some(recipient.to_owned());
        said(&policy, &Facts { recipient: recipient.to_owned(), known_recipient, ..forecast() })
    };
    assert_eq!(to(odd), "Allow agents.researcher");
    assert_eq!(to("a\"b\\cXé"), "Deny wallet.recipients");
}

/// P-05: what has not begun, or is over, is not paid for.
#[test]
fn times_are_kept_on_the_owner_s_clock() {
    let text = r#"
utc_offset = "+01:00"
[wallet]
max = { usdc = "1" }
not_before = "2026-11-01T00:00:00Z"
expires = "2026-12-01T00:00:00Z"
[agents.researcher]
hours = { from = "08:00", until = "20:00", days = ["mon", "tue", "wed", "thu", "fri"] }
[agents.night]
hours = { from = "22:00", until = "06:00" }
"#;
    let policy = policy(text);
    let when = |agent: &str, moment: &str| {
        said(&policy, &Facts { agent: agent.to_owned(), at: at(moment), ..forecast() })
    };
    assert_eq!(when("researcher", "2026-11-26T07:00:00Z"), "Allow agents.researcher");
    assert_eq!(when("researcher", "2026-11-26T06:59:59Z"), "Deny agents.researcher.hours");
    assert_eq!(when("researcher", "2026-11-26T19:00:00Z"), "Deny agents.researcher.hours");
    assert_eq!(
        when("researcher", "2026-11-28T12:00:00Z"),
        "Deny agents.researcher.hours",
        "a Saturday"
    );
    assert_eq!(when("night", "2026-11-28T21:00:00Z"), "Allow agents.night");
    assert_eq!(when("night", "2026-11-28T04:59:59Z"), "Allow agents.night");
    assert_eq!(when("night", "2026-11-28T12:00:00Z"), "Deny agents.night.hours");
    assert_eq!(when("night", "2026-10-31T23:59:59Z"), "Deny wallet.not_before");
    assert_eq!(when("night", "2026-12-01T00:00:00Z"), "Deny wallet.expires");
}

/// A-02: who is paid for a seller is who was paid for it first.
#[test]
fn another_recipient_is_asked_for_and_so_is_a_stranger_where_the_owner_wants() {
    let base = "[wallet]\nmax = { usdc = \"1\" }\n[agents.researcher]\n";
    let moved = Facts { known_recipient: Some("0xbb".to_owned()), ..forecast() };
    assert_eq!(said(&policy(base), &moved), "Ask wallet.recipient_change");
    let strict = format!("{base}recipient_change = \"deny\"\n");
    assert_eq!(said(&policy(&strict), &moved), "Deny agents.researcher.recipient_change");
    // The same for the key that it had proven to have.
    let pinned = format!("{base}identity_change = \"ask\"\n");
    let key = |known: Option<&str>, now: Option<&str>| {
        let (known_identity, identity) = (known.map(str::to_owned), now.map(str::to_owned));
        said(&policy(&pinned), &Facts { identity, known_identity, ..forecast() })
    };
    assert_eq!(key(Some("k1"), Some("k1")), "Allow agents.researcher");
    assert_eq!(key(None, Some("k1")), "Allow agents.researcher", "nothing was known");
    assert_eq!(key(Some("k1"), Some("k2")), "Ask agents.researcher.identity_change");
    assert_eq!(key(Some("k1"), None), "Ask agents.researcher.identity_change", "none any more");
    assert!(policy(&pinned).asks_identity() && !policy(base).asks_identity());
    let first = Facts { known_recipient: None, ..forecast() };
    assert_eq!(said(&policy(base), &first), "Allow agents.researcher");
    let wary = format!("{base}first_payment = \"ask\"\napprovals = 2\n");
    assert_eq!(said(&policy(&wary), &first), "Ask agents.researcher.first_payment");
    assert_eq!(policy(&wary).decide(&first).approvals, 2);
}

/// P-13: a price that creeps up is noticed at the bound, whatever it rose by at a time.
#[test]
fn a_price_that_rose_too_far_is_asked_for() {
    let text =
        "[wallet]\nmax = { usdc = \"1\" }\nprice_rise = { percent = 20 }\n[agents.researcher]";
    let policy = policy(text);
    let rise = |known: u128, now: u128| {
        said(&policy, &Facts { atoms: now, known_atoms: Some(known), ..forecast() })
    };
    assert_eq!(rise(100_000, 120_000), "Allow agents.researcher");
    assert_eq!(rise(100_000, 120_001), "Ask wallet.price_rise");
    assert_eq!(rise(100_000, 50_000), "Allow agents.researcher");
    assert_eq!(rise(0, 1), "Ask wallet.price_rise");
}

#[test]
fn a_deposit_and_a_subscription_have_limits_of_their_own_or_that_of_a_payment() {
    let text = "[wallet]\nmax = { usdc = \"1\" }\n[agents.researcher]\nmax = { usdc = \"0.5\" }\n";
    for (operation, limit) in [("deposit", "deposit_max"), ("subscribe", "subscription_max")] {
        let apart = format!("{text}{limit} = {{ usdc = \"0.7\" }}\n");
        for other in ["pay", "deposit", "subscribe"] {
            let facts = Facts { operation: other.to_owned(), ..paying(600_000) };
            assert_eq!(said(&policy(text), &facts), "Deny agents.researcher.max.usdc", "{other}");
            let want = if other == operation {
                "Allow agents.researcher"
            } else {
                "Deny agents.researcher.max.usdc"
            };
            assert_eq!(said(&policy(&apart), &facts), want, "{other} with {limit}");
        }
        let large = Facts { operation: operation.to_owned(), ..paying(700_001) };
        let want = format!("Deny agents.researcher.{limit}.usdc");
        assert_eq!(said(&policy(&apart), &large), want);
    }
}

#[test]
fn dust_and_coins_of_eighteen_decimals_are_compared_exactly() {
    let text = r#"
[wallet]
max = { dai = "20.000000001", jpyx = "500" }
min = { dai = "0.000000002" }
[agents.researcher]
"#;
    let policy = policy(text);
    let dai = |atoms: u128| {
        said(&policy, &Facts { asset: AssetId::new("dai").unwrap(), ..paying(atoms) })
    };
    assert_eq!(dai(20_000_000_001_000_000_000), "Allow agents.researcher");
    assert_eq!(dai(20_000_000_001_000_000_001), "Deny wallet.max.dai");
    assert_eq!(dai(2_000_000_000), "Allow agents.researcher");
    assert_eq!(dai(1_999_999_999), "Deny wallet.min.dai");
    let yen = |atoms: u128| {
        said(&policy, &Facts { asset: AssetId::new("jpyx").unwrap(), ..paying(atoms) })
    };
    assert_eq!(
        (yen(500).as_str(), yen(501).as_str()),
        ("Allow agents.researcher", "Deny wallet.max.jpyx")
    );
}

#[test]
fn an_agent_with_tasks_works_for_one_of_them() {
    let text = r#"
[wallet]
max = { usdc = "1" }
[agents.researcher]
[agents.researcher.tasks.summary]
max = { usdc = "0.05" }
[agents.researcher.tasks.survey]
"#;
    let policy = policy(text);
    let work =
        |task: Option<&str>| said(&policy, &Facts { task: task.map(str::to_owned), ..forecast() });
    assert_eq!(work(Some("survey")), "Allow agents.researcher");
    assert_eq!(work(Some("summary")), "Deny agents.researcher.tasks.summary.max.usdc");
    assert_eq!(work(Some("other")), "Deny agents.researcher.tasks");
    assert_eq!(work(None), "Deny agents.researcher.tasks");
}

/// P-10, P-11: a purchase cut into small ones draws on every budget it belongs to.
#[test]
fn a_payment_says_what_it_draws_from_which_budget() {
    let text = r#"
utc_offset = "+01:00"
[reference]
currency = "usd"
rates = { usdc = "1", eurc = "1.08" }
[wallet]
max = { any = "1" }
[[wallet.budgets]]
max = { any = "5", usdc = "4" }
per = "day"
[agents.researcher]
[[agents.researcher.budgets]]
max = { any = "3" }
payments = 10
per = "1h"
each = "recipient"
[[agents.researcher.budgets]]
payments = 3
per = "10m"
each = "request"
[agents.other]
[[agents.other.budgets]]
payments = 1
per = "ever"
"#;
    let policy = policy(text);
    let drawn = |facts: &Facts| -> Vec<(String, u128, u128)> {
        let draws = policy.decide(facts).draws;
        draws.iter().map(|it| (it.key.to_string(), it.amount, it.limit)).collect()
    };
    let late = Facts { at: at("2026-11-26T23:30:00Z"), ..forecast() };
    assert_eq!(
        drawn(&late),
        [
            ("agent researcher|3600s|any|recipient 0xaa".to_owned(), 100_000_000, 3_000_000_000),
            ("agent researcher|3600s|payments|recipient 0xaa".to_owned(), 1, 10),
            ("agent researcher|600s|payments|request 1234".to_owned(), 1, 3),
            ("wallet|2026-11-27|any".to_owned(), 100_000_000, 5_000_000_000),
            ("wallet|2026-11-27|usdc".to_owned(), 100_000, 4_000_000),
        ]
    );
    let euros = Facts { asset: AssetId::new("eurc").unwrap(), ..late };
    assert_eq!(drawn(&euros)[3], ("wallet|2026-11-27|any".to_owned(), 108_000_000, 5_000_000_000));
    assert_eq!(drawn(&euros).len(), 4, "euros draw on no budget of dollars");
    let windows: Vec<Window> = policy.decide(&euros).draws.iter().map(|it| it.window).collect();
    assert_eq!(windows[0], Window::Rolling(3_600));
    assert_eq!(windows[3], Window::Until(at("2026-11-27T23:00:00Z")));
}

#[test]
fn a_budget_that_is_used_up_denies_and_says_by_what() {
    let policy = policy(USUAL);
    let key = |decision: &Decision| decision.draws[1].key.clone();
    let decision = policy.decide(&forecast());
    let key = key(&decision);
    assert_eq!(key.as_str(), "agent researcher|86400s|any");
    let with = |used: u128| policy.decide_with(&forecast(), &Usage::from([(key.clone(), used)]));
    assert_eq!(with(4_900_000_000).verdict, Verdict::Allow);
    let over = with(4_900_000_001);
    assert_eq!(over.verdict, Verdict::Deny);
    assert_eq!(over.reasons[0].rule, "agents.researcher.budgets[0].max.any");
    let exceeded = over.reasons[0].exceeded.clone().unwrap();
    assert_eq!(
        (exceeded.limit, exceeded.used, exceeded.requested),
        (5_000_000_000, 4_900_000_001, 100_000_000)
    );
    assert!(over.draws.is_empty());
    assert_eq!(with(u128::MAX).verdict, Verdict::Deny);
}

#[test]
fn two_rules_that_count_the_same_are_one_budget_with_the_smaller_limit() {
    let text = r#"
[wallet]
max = { usdc = "1" }
budgets = [{ max = { usdc = "5" }, per = "24h" }, { max = { usdc = "3" }, per = "1d" }]
[agents.researcher]
"#;
    let draws = policy(text).decide(&forecast()).draws;
    assert_eq!(
        (draws.len(), draws[0].limit, draws[0].rule.as_str()),
        (1, 3_000_000, "wallet.budgets[1].max.usdc")
    );
}

#[test]
fn cedar_beside_the_file_is_checked_against_the_schema_and_decides_with_it() {
    let assets = assets();
    let text = format!("cedar = [\"more.cedar\"]\n{USUAL}");
    let with =
        |cedar: &str| Policy::parse(&text, &[("more.cedar".to_owned(), cedar.to_owned())], &assets);
    let policy = with(
        r#"
@id("no-small-hours")
@because("nothing is bought in the small hours")
forbid (principal, action, resource) when { context.minute < 360 };

@id("look-at-posts")
@approvals("2")
forbid (principal, action == Farthing::Action::"pay_unattended", resource)
when { context.method == "POST" };

permit (principal == Farthing::Agent::"guest", action, resource)
when { context.amount <= 10000000 };
"#,
    )
    .unwrap();
    assert_eq!(said(&policy, &forecast()), "Allow agents.researcher");
    assert_eq!(
        said(&policy, &Facts { at: at("2026-11-26T05:59:00Z"), ..forecast() }),
        "Deny no-small-hours"
    );
    let post = Facts { method: "POST".to_owned(), ..forecast() };
    assert_eq!(said(&policy, &post), "Ask look-at-posts");
    assert_eq!(policy.decide(&post).approvals, 2);
    let guest = |atoms| said(&policy, &Facts { agent: "guest".to_owned(), ..paying(atoms) });
    assert_eq!(guest(10_000), "Allow more.cedar:policy2");
    assert_eq!(guest(10_001), "Deny default");
    // Limits of the file hold for whomever Cedar lets in.
    assert_eq!(guest(2_000_000), "Deny wallet.max.usdc");

    for (cedar, expected) in [
        ("permit (principal, action, resource) when { context.amuont < 5 };", "amuont"),
        ("permit (principal, action, resource) when { context.tool == \"x\" };", "tool"),
        (
            "permit (principal, action, resource) when { context.amount < \"5\" };",
            "more.cedar:policy0",
        ),
        ("permit (principal == Agent::\"x\", action, resource);", "Agent"),
        ("\n\npermit (principal, action resource);", "more.cedar, line 3"),
        ("permit (principal == ?principal, action, resource);", "templates"),
        ("@id(\"wallet\") permit (principal, action, resource);", "two policies"),
        ("@approvals(\"0\") forbid (principal, action, resource);", "@approvals"),
    ] {
        let error = with(cedar).unwrap_err().to_string();
        assert!(error.contains(expected), "{cedar}: {error}");
    }
    let missing = Policy::parse(&text, &[], &assets).unwrap_err().to_string();
    assert!(missing.contains("more.cedar"), "{missing}");
}

/// P-16: a rule that fails while it is evaluated denies, also where it would have forbidden.
#[test]
fn an_error_in_the_middle_is_a_denial() {
    let overflow = "@id(\"sum\") forbid (principal, action, resource) when { context.amount * 9000000000000 > 5 };";
    let text = format!("cedar = [\"more.cedar\"]\n{USUAL}");
    let files = [("more.cedar".to_owned(), overflow.to_owned())];
    let policy = Policy::parse(&text, &files, &assets()).unwrap();
    assert_eq!(said(&policy, &forecast()), "Deny error");
    // The positive control: where nothing overflows, and nothing is forbidden.
    assert_eq!(
        said(&policy, &Facts { operation: "prove".to_owned(), ..paying(0) }),
        "Allow agents.researcher"
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_named_with_its_place() {
    for (text, expected) in [
        ("colour = 1", "line 1"),
        ("[wallet]\nmaxx = { usdc = \"1\" }", "line 2"),
        ("[agents.x]\nmaxx = 1", "agents.x: unknown field `maxx`"),
        ("[agents.x.tasks.y]\nmaxx = 1", "agents.x.tasks.y: unknown field `maxx`"),
        ("[agents.x]\ntasks = 1", "agents.x.tasks: tasks are tables"),
        ("[agents.\"x y\"]", "agents: \"x y\": a name is"),
        ("[wallet]\nmax = { doge = \"1\" }", "wallet: doge: the wallet knows no such asset"),
        ("[wallet]\nmax = { usdc = \"0.0000001\" }", "wallet: max.usdc: 0.0000001"),
        ("[wallet]\nmax = { dai = \"0.0000000001\" }", "wallet: max.dai: 0.0000000001"),
        ("[wallet]\nmax = { dai = \"99999999999\" }", "is more than"),
        ("[wallet]\nmax = { any = \"1\" }", "wallet: max.any needs a [reference]"),
        ("[wallet]\nassets = [\"doge\"]", "wallet: doge"),
        (
            "[wallet]\noperations = [\"drain\"]",
            "wallet: operations: \"drain\" is none of pay, deposit, call, stream, subscribe, prove",
        ),
        (
            "[wallet]\nsellers = [\"api.example.com\"]",
            "wallet: sellers: \"api.example.com\" is no origin",
        ),
        ("[wallet]\nsellers = [\"https://a.*.example\"]", "is no origin"),
        ("[wallet]\nsellers = [\"https://EXAMPLE.com\"]", "is no origin"),
        ("[wallet]\nsellers = [\"https://example.com/x\"]", "is no origin"),
        ("[wallet]\nroutes = [\"forecast\"]", "wallet: routes: \"forecast\": a path begins"),
        ("[wallet]\nhours = { from = \"8\", until = \"20:00\" }", "wallet: hours.from: \"8\""),
        (
            "[wallet]\nhours = { from = \"08:00\", until = \"20:00\", days = [\"monday\"] }",
            "\"monday\" is none of",
        ),
        ("[wallet]\nexpires = \"soon\"", "wallet: expires: \"soon\""),
        ("[wallet]\napprovals = 0", "wallet: approvals is at least 1"),
        (
            "approvers = [\"alice\"]\n[wallet]\napprovals = 2",
            "wallet: approvals is 2, and there are 1 approvers",
        ),
        ("[[wallet.budgets]]\nper = \"day\"", "wallet.budgets[0]: a budget needs max or payments"),
        ("[[wallet.budgets]]\npayments = 1\nper = \"1y\"", "wallet.budgets[0]: per is a time like"),
        ("[[wallet.budgets]]\npayments = 1\nper = \"0s\"", "wallet.budgets[0]: per is a time like"),
        (
            "[[wallet.budgets]]\npayments = 1\nper = \"day\"\neach = \"cat\"",
            "wallet.budgets[0]: each is",
        ),
        (
            "[[wallet.budgets]]\nmax = { any = \"1\" }\nper = \"day\"",
            "wallet.budgets[0]: max.any needs",
        ),
        ("[reference]\ncurrency = \"usd\"\nrates = { usdc = \"0\" }", "reference.rates: usdc"),
        (
            "[categories]\na = [\"https://x\"]\nb = [\"https://x\"]",
            "categories: \"https://x\" is filed under",
        ),
        ("utc_offset = \"CET\"", "line 1"),
    ] {
        let error = wrong(text);
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

/// P-15: what was decided names the policy it was decided under, and everything in it counts.
#[test]
fn a_policy_s_name_follows_whatever_a_decision_depends_on() {
    let name = policy(USUAL).name();
    assert_eq!((name.version.as_str(), name.sha256.len()), ("7", 64));
    assert_eq!(policy(USUAL).name(), name);
    for (from, to) in [
        ("per = \"24h\"", "per = \"23h\""),
        ("\"1.08\"", "\"1.09\""),
        ("usdc = \"1\", eurc = \"1\" }\na", "usdc = \"1\", eurc = \"2\" }\na"),
    ] {
        let other = USUAL.replace(from, to);
        assert_ne!(other, USUAL, "{from}");
        assert_ne!(policy(&other).name().sha256, name.sha256, "{from}");
    }
}

#[test]
fn facts_come_back_as_they_were_written_down() {
    let facts = Facts { atoms: u128::MAX, ..forecast() };
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    let policy = policy(USUAL);
    let decision = policy.decide(&forecast());
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
}

#[test]
fn a_token_only_narrows() {
    let policy = policy(USUAL);
    let limits = Limits {
        max: BTreeMap::from([("usdc".to_owned(), "0.05".to_owned())]),
        budgets: vec![BudgetRule {
            payments: Some(2),
            per: "ever".to_owned(),
            ..BudgetRule::default()
        }],
        ..Limits::default()
    };
    let narrow = policy.within(vec![("a1b2".to_owned(), limits)]).unwrap();
    assert_eq!(said(&narrow, &paying(50_000)), "Allow agents.researcher");
    assert_eq!(said(&narrow, &paying(50_001)), "Deny token.a1b2.max.usdc");
    let draws = narrow.decide(&paying(1)).draws;
    assert!(draws.iter().any(|it| it.key.as_str() == "token a1b2|ever|payments" && it.limit == 2));
    assert_ne!(narrow.name().sha256, policy.name().sha256);
    let wide = Limits {
        max: BTreeMap::from([("usdc".to_owned(), "900".to_owned())]),
        ..Limits::default()
    };
    let wide = policy.within(vec![("a1b2".to_owned(), wide)]).unwrap();
    assert_eq!(said(&wide, &paying(1_000_001)), "Deny wallet.max.usdc");
    let unknown = Limits { assets: Some(vec!["doge".to_owned()]), ..Limits::default() };
    assert!(policy.within(vec![("a1b2".to_owned(), unknown)]).is_err());
}

#[test]
fn caps_alone_are_a_policy_for_the_owner() {
    let caps = BTreeMap::from([(AssetId::new("usdc").unwrap(), 500_000_u128)]);
    let policy = Policy::of_caps(&caps, &BTreeMap::new(), &BTreeMap::new(), &assets()).unwrap();
    let owner = |atoms| said(&policy, &Facts { agent: OWNER.to_owned(), ..paying(atoms) });
    assert_eq!(owner(500_000), "Allow wallet");
    assert_eq!(owner(500_001), "Deny wallet.max.usdc");
    assert_eq!(said(&policy, &paying(1)), "Deny default", "an agent is not the owner");
    let odd =
        [("dai", 1), ("jpyx", u128::MAX)].map(|(name, cap)| (AssetId::new(name).unwrap(), cap));
    let policy = Policy::of_caps(&odd.into(), &caps, &caps, &assets()).unwrap();
    let dust = Facts { agent: OWNER.to_owned(), asset: AssetId::new("dai").unwrap(), ..paying(1) };
    assert_eq!(said(&policy, &dust), "Allow wallet");
}

#[test]
fn a_change_that_was_not_accepted_lowers_and_does_not_raise() {
    let accepted = policy(USUAL);
    let lower = policy(&USUAL.replace("max = { usdc = \"1\",", "max = { usdc = \"0.2\","));
    let higher = policy(
        &USUAL.replace("max = { usdc = \"1\",", "max = { usdc = \"2\",").replace("\"5\"", "\"9\""),
    );
    let both =
        |new: &Policy, atoms| accepted.decide(&paying(atoms)).and(new.decide(&paying(atoms)));
    assert_eq!(both(&lower, 200_000).verdict, Verdict::Allow);
    assert_eq!(both(&lower, 200_001).reasons[0].rule, "wallet.max.usdc");
    assert_eq!(higher.decide(&paying(1_500_000)).verdict, Verdict::Ask, "the positive control");
    assert_eq!(both(&higher, 1_500_000).verdict, Verdict::Deny);
    let draws = both(&higher, 1).draws;
    assert_eq!(limit_of(&draws, "agent researcher|86400s|any"), Some(5_000_000_000));
    assert_eq!(both(&accepted, 1).policy, accepted.name());
    assert_ne!(both(&higher, 1).policy.sha256, higher.name().sha256);
}

#[test]
fn the_ready_policies_are_read_and_do_what_they_say() {
    let assets: Assets = [("usd", 6), ("eurc", 6)]
        .map(|(name, decimals)| Asset::new(AssetId::new(name).unwrap(), decimals).unwrap())
        .into_iter()
        .collect();
    let read = |text: &str| Policy::parse(text, &[], &assets).unwrap();
    let one = read(include_str!("../../../../docs/policies/one-agent.toml"));
    let buys = |agent: &str, atoms| Facts {
        agent: agent.to_owned(),
        asset: AssetId::new("usd").unwrap(),
        ..paying(atoms)
    };
    assert_eq!(said(&one, &buys("assistant", 500_000)), "Allow agents.assistant");
    assert_eq!(said(&one, &buys("assistant", 500_001)), "Ask wallet.ask_above.usd");
    let first = Facts { known_recipient: None, ..buys("assistant", 1) };
    assert_eq!(said(&one, &first), "Ask agents.assistant.first_payment");
    let team = read(include_str!("../../../../docs/policies/team.toml"));
    let data = Facts { category: Some("data".to_owned()), ..buys("researcher", 1_000_000) };
    assert_eq!(said(&team, &data), "Allow agents.researcher");
    assert_eq!(team.category("https://gpu.example.net"), Some("compute"));
    let other = Facts { category: Some("compute".to_owned()), ..data };
    assert_eq!(said(&team, &other), "Deny agents.researcher.categories");
    let trains = Facts { agent: "trainer".to_owned(), atoms: 20_000_000, ..other };
    assert_eq!(said(&team, &trains), "Deny agents.trainer.tasks");
    let nightly = Facts { task: Some("nightly".to_owned()), ..trains };
    assert_eq!(
        (said(&team, &nightly).as_str(), team.decide(&nightly).approvals),
        ("Ask wallet.ask_above.any", 2)
    );
    let crawler = read(include_str!("../../../../docs/policies/crawler.toml"));
    assert_eq!(said(&crawler, &buys("crawler", 20_000)), "Allow agents.crawler");
    assert_eq!(crawler.decide(&buys("crawler", 20_000)).draws.len(), 5);
    let deposit = Facts { operation: "deposit".to_owned(), ..buys("crawler", 1) };
    assert_eq!(said(&crawler, &deposit), "Deny agents.crawler.operations");
}

// --- any limits and any facts -----------------------------------------------------------------

fn amount() -> impl Strategy<Value = String> {
    (0_u32..=200).prop_map(|cents| format!("{}.{:02}", cents / 100, cents % 100))
}

fn amounts() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(prop_oneof!["usdc", "eurc", "any"], amount(), 0..3)
}

fn list(of: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
    proptest::option::weighted(
        0.3,
        proptest::collection::vec(proptest::sample::select(of).prop_map(str::to_owned), 0..3),
    )
}

fn then() -> impl Strategy<Value = Option<Then>> {
    proptest::option::of(prop_oneof![Just(Then::Allow), Just(Then::Ask), Just(Then::Deny)])
}

const SELLERS: &[&str] = &["https://api.example.com", "https://*.example.com", "https://b.example"];

fn limits() -> impl Strategy<Value = Limits> {
    let amounts_of = (amounts(), amounts(), amounts(), amounts());
    let lists = (
        list(SELLERS),
        list(&["0xaa", "0xbb"]),
        list(&["usdc", "eurc"]),
        list(&["pay", "deposit"]),
        list(&["/a", "/b/*"]),
    );
    let budget = (amounts(), proptest::option::of(0_u64..4), prop_oneof!["1h", "day", "ever"])
        .prop_filter_map("a budget limits something", |(max, payments, per)| {
            let rule = BudgetRule { max, payments, per, each: None };
            (!rule.max.is_empty() || payments.is_some()).then_some(rule)
        });
    let rise = proptest::option::of(
        (0_u32..50).prop_map(|percent| PriceRise { percent, then: Then::Ask }),
    );
    (amounts_of, lists, then(), then(), rise, proptest::collection::vec(budget, 0..2)).prop_map(
        |(
            (max, deposit_max, min, ask_above),
            (sellers, recipients, assets, operations, routes),
            first,
            change,
            price_rise,
            budgets,
        )| Limits {
            max,
            deposit_max,
            min,
            ask_above,
            sellers,
            recipients,
            assets,
            operations,
            routes,
            first_payment: first,
            recipient_change: change,
            price_rise,
            budgets,
            ..Limits::default()
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let who = proptest::sample::select(&["researcher", "owner", "stranger"][..]);
    let where_ = proptest::sample::select(
        &[
            "https://api.example.com",
            "https://c.example.com",
            "https://b.example",
            "https://evil.example",
        ][..],
    );
    let what = proptest::sample::select(&["pay", "deposit", "subscribe", "prove", "drain"][..]);
    let asset = proptest::sample::select(&["usdc", "eurc", "dai", "doge"][..]);
    let to = proptest::sample::select(&["0xaa", "0xbb", "0xcc"][..]);
    let known = proptest::option::of(Just("0xaa".to_owned()));
    let path = proptest::sample::select(&["/a", "/b/c", "/c"][..]);
    let atoms = prop_oneof![0_u128..3_000_000, Just(u128::MAX)];
    (who, where_, what, (asset, atoms), to, known, path).prop_map(
        |(agent, origin, operation, (asset, atoms), recipient, known_recipient, path)| Facts {
            agent: agent.to_owned(),
            origin: origin.to_owned(),
            operation: operation.to_owned(),
            asset: AssetId::new(asset).unwrap(),
            atoms,
            recipient: recipient.to_owned(),
            known_recipient,
            path: path.to_owned(),
            ..forecast()
        },
    )
}

fn built(levels: Vec<(Level, Limits)>) -> Policy {
    let rates = [("usdc", 1_000_000_000), ("eurc", 1_080_000_000)];
    let rates = rates.map(|(name, rate)| (AssetId::new(name).unwrap(), rate)).into_iter().collect();
    let unbuilt = Unbuilt {
        version: String::new(),
        assets: assets(),
        offset: UtcOffset::default(),
        approvers: Vec::new(),
        reference: Some(Reference { currency: "usd".to_owned(), rates }),
        categories: BTreeMap::new(),
        levels,
        extra: Vec::new(),
    };
    unbuilt.build().unwrap()
}

fn researcher() -> Level {
    Level::Agent("researcher".to_owned())
}

/// Every limit of the two, the lower of each.
fn limit_of(draws: &[Draw], key: &str) -> Option<u128> {
    draws.iter().find(|it| it.key.as_str() == key).map(|it| it.limit)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever two levels allow together, each allows alone.
    #[test]
    fn an_intersection_never_allows_more_than_either(
        wallet in limits(), token in limits(), facts in proptest::collection::vec(facts(), 8)
    ) {
        let agent = (researcher(), Limits::default());
        let open = Limits {
            max: BTreeMap::from([("any".to_owned(), "999999".to_owned())]),
            recipient_change: Some(Then::Allow),
            ..Limits::default()
        };
        let one = built(vec![(Level::Wallet, wallet.clone()), agent.clone()]);
        let block = (Level::Token("t".to_owned()), token.clone());
        let other = built(vec![(Level::Wallet, open), agent.clone(), block.clone()]);
        let both = built(vec![(Level::Wallet, wallet), agent, block]);
        for facts in &facts {
            let decided = [&one, &other, &both].map(|it| it.decide(facts));
            prop_assert!(decided[2].verdict >= decided[0].verdict.max(decided[1].verdict), "{facts:?} {decided:?}");
            if decided[2].verdict != Verdict::Deny {
                for draw in decided[0].draws.iter().chain(&decided[1].draws) {
                    let limit = limit_of(&decided[2].draws, draw.key.as_str());
                    prop_assert!(limit.is_some_and(|limit| limit <= draw.limit), "{draw:?}");
                }
            }
        }
    }

    /// Whatever a policy allows after one limit was lowered, it allowed before.
    #[test]
    fn lowering_a_limit_never_allows_more(
        limits in limits(), lower in limits(), which in 0_usize..12, facts in proptest::collection::vec(facts(), 8)
    ) {
        let less = |ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>| {
            let number = |text: &String| nano_asset().parse(text).unwrap().atoms();
            let mut out = ours.clone();
            for (name, text) in theirs {
                if ours.get(name).is_none_or(|known| number(known) > number(text)) {
                    out.insert(name.clone(), text.clone());
                }
            }
            out
        };
        let fewer = |ours: &Option<Vec<String>>, theirs: &Option<Vec<String>>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => Some(ours.iter().filter(|it| theirs.contains(it)).cloned().collect()),
            (ours, theirs) => ours.clone().or_else(|| theirs.clone()),
        };
        let mut narrow = limits.clone();
        let mut wide = limits;
        // Absent at the wallet means that it is asked.
        wide.recipient_change = Some(wide.recipient_change.unwrap_or(Then::Ask));
        narrow.recipient_change = wide.recipient_change;
        match which {
            // A new maximum at the wallet names an asset that was not paid in: it raises.
            0 => narrow.max = less(&wide.max, &lower.max).into_iter().filter(|(name, _)| wide.max.contains_key(name)).collect(),
            // So does a deposit's own, which takes it from under that of a payment.
            1 => narrow.deposit_max = less(&wide.deposit_max, &lower.deposit_max).into_iter().filter(|(name, _)| wide.deposit_max.contains_key(name)).collect(),
            2 => narrow.ask_above = less(&wide.ask_above, &lower.ask_above),
            3 => narrow.sellers = fewer(&wide.sellers, &lower.sellers),
            4 => narrow.recipients = fewer(&wide.recipients, &lower.recipients),
            5 => narrow.assets = fewer(&wide.assets, &lower.assets),
            6 => narrow.operations = fewer(&wide.operations, &lower.operations),
            7 => narrow.routes = fewer(&wide.routes, &lower.routes),
            8 => narrow.first_payment = wide.first_payment.max(lower.first_payment),
            9 => narrow.recipient_change = wide.recipient_change.max(lower.recipient_change),
            10 => narrow.block_recipients.push("0xaa".to_owned()),
            _ => narrow.budgets.extend(lower.budgets),
        }
        let (before, after) = (
            built(vec![(Level::Wallet, wide), (researcher(), Limits::default())]),
            built(vec![(Level::Wallet, narrow), (researcher(), Limits::default())]),
        );
        for facts in &facts {
            let (before, after) = (before.decide(facts), after.decide(facts));
            prop_assert!(after.verdict >= before.verdict, "{facts:?} {before:?} {after:?}");
            for draw in before.draws.iter().filter(|_| after.verdict != Verdict::Deny) {
                prop_assert!(limit_of(&after.draws, draw.key.as_str()).is_some_and(|limit| limit <= draw.limit));
            }
        }
    }

    /// Nobody who is not named, and nothing that nobody knows, is ever allowed.
    #[test]
    fn the_unknown_is_never_allowed(limits in limits(), facts in proptest::collection::vec(facts(), 8)) {
        let policy = built(vec![(Level::Wallet, limits), (researcher(), Limits::default())]);
        for facts in &facts {
            let is_unknown = facts.agent == "stranger"
                || facts.operation == "drain"
                || facts.asset.as_str() == "doge"
                || facts.atoms == u128::MAX;
            if is_unknown {
                prop_assert_eq!(policy.decide(facts).verdict, Verdict::Deny);
            }
        }
    }

    /// No text that a person can write makes the reader do anything but say yes or no.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}", cedar in "\\PC{0,60}") {
        let _ = Policy::parse(&text, &[], &assets());
        let _ = Policy::parse("cedar = [\"f\"]", &[("f".to_owned(), cedar)], &assets());
    }
}
