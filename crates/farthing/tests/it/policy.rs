//! `farthing policy`, `approvals`, `agents` and `wallet freeze`: an owner at the command line.

use serde_json::Value;

use crate::world::{Ended, World, echo, run};

const POLICY: &str = r#"version = "1"

[wallet]
max = { usd = "0.50" }
ask_above = { usd = "0.30" }

[agents.bot]
"#;

/// Pays as whoever has the token.
pub(crate) fn pay_as(world: &World, token: &str, url: &str) -> Ended {
    let mut command = world.command(&["pay", url]);
    command.env("FARTHING_AGENT_TOKEN", token);
    run(command, "")
}

pub(crate) fn issue(world: &World, agent: &str) -> String {
    let issue = ["agents", "issue", agent, "--expires", "2099-01-01T00:00:00Z"];
    world.farthing(&issue).ok().trim().to_owned()
}

/// P-04, P-09: an agent pays with a token, within it, until it is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_pays_with_a_token_and_only_within_it() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = shop.url("/quote");
    world
        .farthing(&["agents", "issue", "bot", "--expires", "2099-01-01T00:00:00Z"])
        .fails(2, "[agents.bot]");
    world.write("home/policy.toml", POLICY);
    let token = issue(&world, "bot");
    // What was not accepted raises nothing: there was no agent before.
    pay_as(&world, &token, &quote).fails(3, "no rule allows it");
    world.farthing(&["policy", "accept"]).ok();
    assert_eq!(pay_as(&world, &token, &quote).ok().trim_end(), "GET /quote");
    pay_as(&world, "fta1_e30.AAAA", &quote).fails(3, "no agent's token");
    let other = World::set_up(echo().await);
    other.write("home/policy.toml", POLICY);
    pay_as(&world, &issue(&other, "bot"), &quote).fails(3, "not made by this wallet");
    // It is narrowed where there is no wallet at all.
    world.write("small.toml", "max = { usd = \"0.10\" }");
    let mut narrow =
        world.command(&["agents", "narrow", "--to", "helper", "--limits", "small.toml"]);
    narrow.env("FARTHING_AGENT_TOKEN", &token).env("FARTHING_HOME", world.path("nowhere"));
    let narrowed = run(narrow, "").ok().trim().to_owned();
    pay_as(&world, &narrowed, &quote).fails(3, "max.usd");
    assert_eq!(pay_as(&world, &token, &quote).ok().trim_end(), "GET /quote");
    world.write("wrong.toml", "maxx = 1");
    let wrong =
        ["agents", "issue", "bot", "--expires", "2099-01-01T00:00:00Z", "--limits", "wrong.toml"];
    world.farthing(&wrong).fails(2, "unknown field `maxx`");
    let mut issued =
        world.farthing(&["agents", "issue", "bot", "--expires", "2099-01-01T00:00:00Z"]);
    let name = issued.err.rsplit_once("revoke ").unwrap().1.trim().trim_end_matches('`').to_owned();
    issued.err.clear();
    let token = issued.ok().trim().to_owned();
    pay_as(&world, &token, &quote).ok();
    world.farthing(&["agents", "revoke", &name]).ok();
    pay_as(&world, &token, &quote).fails(3, "revoked");
    let old = ["agents", "issue", "bot", "--expires", "2020-01-01T00:00:00Z"];
    let old = world.farthing(&old).ok().trim().to_owned();
    pay_as(&world, &old, &quote).fails(3, "it has expired");
}

/// P-15: what waits is approved once; what is raised waits for its acceptance; and what was decided is decided
/// again to the same end.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_asked_answers_and_changes_the_policy() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = shop.url("/quote");
    world.write("home/policy.toml", &POLICY.replace("0.30", "0.10"));
    world.farthing(&["policy", "accept"]).ok();
    let parked = world.pay(&["--report", "why.json", &quote]);
    parked.fails(9, "waits for approval");
    let why: Value = serde_json::from_str(&world.read("why.json")).unwrap();
    assert_eq!(
        (why["verdict"].as_str(), why["approval"]["atoms"].as_str()),
        (Some("ask"), Some("25"))
    );
    let id = why["approval"]["id"].as_str().unwrap();
    let waiting = world.farthing(&["approvals", "list"]).ok();
    assert!(waiting.contains(id) && waiting.contains("wallet.ask_above.usd"), "{waiting}");
    world.farthing(&["approvals", "show", id]).fails(9, "waits for approval");
    let mut wrong = world.command(&["approvals", "approve", id]);
    wrong.env("FARTHING_PASSPHRASE", "wrong");
    run(wrong, "").fails(8, "passphrase");
    let waiting = world.command(&["approvals", "show", "--wait", id]).spawn().unwrap();
    world.farthing(&["approvals", "approve", id]).ok();
    let waited = waiting.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&waited.stdout).contains("\"state\": \"approved\""),
        "{waited:?}"
    );
    assert!(waited.status.success());
    world.pay(&[&quote]).ok();
    world.pay(&[&quote]).fails(9, "waits for approval");
    // Raised, and not accepted: still asked for. Lowered: at once.
    world.write("home/policy.toml", POLICY);
    world.pay(&[&quote]).fails(9, "waits for approval");
    world.write("home/policy.toml", &POLICY.replace("0.50", "0.20"));
    world.pay(&["--report", "why.json", &quote]).fails(3, "wallet.max.usd");
    let why: Value = serde_json::from_str(&world.read("why.json")).unwrap();
    assert_eq!(why["offers"][0]["decision"]["reasons"][0]["rule"], "wallet.max.usd", "{why}");
    world.write("home/policy.toml", POLICY);
    world.farthing(&["policy", "accept"]).ok();
    world.pay(&[&quote]).ok();
    let since = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
    let again = world.farthing(&since).json();
    assert_eq!(again["broken"], serde_json::json!([]), "{again}");
    world.write("draft.toml", &POLICY.replace("0.50", "0.20"));
    let mut draft = since.to_vec();
    draft.extend(["--policy", "draft.toml"]);
    let draft = world.farthing(&draft).json();
    let others = draft["other"].as_array().unwrap();
    assert!(others.iter().all(|it| it["is"] == "deny") && !others.is_empty(), "{draft}");
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_shown_and_tried_without_paying() {
    let world = World::set_up(echo().await);
    world.write("home/policy.toml", "[wallet]\nmaxx = 1");
    world.farthing(&["policy", "check"]).fails(2, "unknown field `maxx`");
    world.pay(&["http://127.0.0.1:1/"]).fails(2, "policy.toml");
    world.write("home/policy.toml", &format!("cedar = [\"more.cedar\"]\n{POLICY}"));
    world.farthing(&["policy", "check"]).fails(2, "more.cedar");
    world.write("home/more.cedar", "@id(\"no-posts\") forbid (principal, action, resource) when { context.method == \"POST\" };");
    assert!(world.farthing(&["policy", "check"]).ok().starts_with("1 sha256:"));
    let shown = world.farthing(&["policy", "show"]).ok();
    assert!(shown.contains("@id(\"wallet.max.usd\")"), "{shown}");
    let decide = |amount: &str, method: &str| {
        world.farthing(&[
            "policy",
            "decide",
            "--seller",
            "https://api.example.com",
            "--recipient",
            "inc",
            "--amount",
            amount,
            "--method",
            method,
        ])
    };
    assert_eq!(decide("0.30 usd", "GET").json()["verdict"], "allow");
    decide("0.31 usd", "GET").fails(9, "wait for approval");
    decide("0.51 usd", "GET").fails(3, "denied");
    decide("0.30 usd", "POST").fails(3, "denied");
    assert!(!world.path("home/book.db").exists(), "nothing was written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_pays_nobody_until_it_is_thawed() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = shop.url("/quote");
    world.pay(&[&quote]).ok();
    let mut freeze = world.command(&["wallet", "freeze", "--reason", "odd"]);
    freeze.env_remove("FARTHING_PASSPHRASE");
    run(freeze, "").ok();
    world.pay(&[&quote]).fails(3, "frozen");
    let mut wrong = world.command(&["wallet", "unfreeze"]);
    wrong.env("FARTHING_PASSPHRASE", "wrong");
    run(wrong, "").fails(8, "passphrase");
    world.pay(&[&quote]).fails(3, "frozen");
    world.farthing(&["wallet", "unfreeze"]).ok();
    world.pay(&[&quote]).ok();
    let journal = world.farthing(&["ledger", "journal", "--wallet"]).ok();
    assert!(journal.contains("frozen for everybody: odd"), "{journal}");
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

/// A-02, A-06: a seller is known by the key that it proves to have: those that are named are paid, and nobody who
/// proves another, or none; and one that was paid before and proves another now is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_is_known_by_the_key_it_proves_to_have() {
    let world = World::set_up(echo().await);
    let bare = world.read("farthing.toml");
    let signing = |world: &World, keys: &str| {
        world.write("farthing.toml", &format!("{bare}\n[receipts]\nkeys = [{keys}]\n"));
    };
    world.farthing(&["receipt", "new-key", "first.key"]).ok();
    world.farthing(&["receipt", "new-key", "second.key"]).ok();
    signing(&world, "\"file:first.key\"");
    let keys = world.farthing(&["receipt", "keys"]).json();
    let kid = keys["keys"][0]["kid"].as_str().unwrap().to_owned();
    let accept = |limit: &str| {
        let policy = format!("[wallet]\nmax = {{ usd = \"0.50\" }}\n{limit}\n");
        world.write("home/policy.toml", &policy);
        world.farthing(&["policy", "accept"]).ok();
    };
    let shop = world.serve();
    let quote = shop.url("/quote");
    accept("identities = [\"another\"]");
    world.pay(&[&quote]).fails(3, "wallet.identities");
    accept(&format!("block_identities = [\"{kid}\"]"));
    world.pay(&[&quote]).fails(3, "wallet.block_identities");
    accept(&format!("identities = [\"{kid}\"]"));
    world.pay(&[&quote]).ok();
    let port = quote.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let again = |config: &str| {
        world.write(
            "farthing.toml",
            &config.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1),
        );
    };
    shop.stop();
    // Another key in its place, and none at all.
    accept("identity_change = \"ask\"");
    signing(&world, "\"file:second.key\", \"file:first.key\"");
    again(&world.read("farthing.toml"));
    let shop = world.serve();
    let parked = world.pay(&["--report", "why.json", &quote]);
    parked.fails(9, "wallet.identity_change");
    let why: Value = serde_json::from_str(&world.read("why.json")).unwrap();
    world.farthing(&["approvals", "approve", why["approval"]["id"].as_str().unwrap()]).ok();
    world.pay(&[&quote]).ok();
    world.pay(&[&quote]).ok();
    shop.stop();
    again(&bare);
    let shop = world.serve();
    world.pay(&[&quote]).fails(9, "wallet.identity_change");
    accept(&format!("identities = [\"{kid}\"]"));
    world.pay(&[&quote]).fails(3, "wallet.identities");
    shop.stop();
    let audit = world.farthing(&["ledger", "verify", "--json"]).json()["audit"].clone();
    assert_eq!(audit["delivered"], 3);
}

/// A draft says what it would have decided, on every payment and with budgets of its own, and changes nothing
/// before it is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_tried_out_and_decides_nothing() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = |round: u32| shop.url(&format!("/quote?{round}"));
    world.write("home/policy.toml", POLICY);
    world.farthing(&["policy", "accept"]).ok();
    world.farthing(&["policy", "rollout", "status"]).fails(2, "no policy is tried out");
    world.pay(&[&quote(0)]).ok();
    // It would let a quarter pass once a day, and ask for nothing.
    let draft = "version = \"2\"\n[wallet]\nmax = { usd = \"0.80\" }\n[agents.bot]\n\
                 [[wallet.budgets]]\nmax = { usd = \"0.30\" }\nper = \"24h\"\n";
    world.write("draft.toml", &draft.replace("usd", "doge"));
    world.farthing(&["policy", "rollout", "start", "draft.toml"]).fails(2, "doge");
    world.write("draft.toml", draft);
    let mut wrong = world.command(&["policy", "rollout", "start", "draft.toml"]);
    wrong.env("FARTHING_PASSPHRASE", "wrong");
    run(wrong, "").fails(8, "passphrase");
    world.farthing(&["policy", "rollout", "start", "draft.toml"]).ok();
    // One that it would allow, one whose budget it would have used up, one that it would deny for its price.
    world.pay(&[&quote(1)]).ok();
    world.pay(&[&quote(2)]).ok();
    world.pay(&["--max-amount", "0.75 usd", &shop.url("/report")]).fails(3, "");
    let status = world.farthing(&["policy", "rollout", "status", "--json"]).json();
    assert_eq!(
        (&status["same"], &status["policy"]["version"]),
        (&1.into(), &"2".into()),
        "{status}"
    );
    let others: Vec<(&str, &str, &str)> = status["other"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let text = |value: &'static str| it[value].as_str().unwrap();
            (text("was"), text("would"), it["wouldBy"][0].as_str().unwrap())
        })
        .collect();
    assert_eq!(others, [("allowed", "denied", "wallet.budgets[0].max.usd")], "{status}");
    let shown = world.farthing(&["policy", "rollout", "status"]).ok();
    assert!(shown.contains("it would have been Denied by wallet.budgets[0].max.usd"), "{shown}");
    assert!(shown.ends_with("1 the same, 1 other\n"), "{shown}");
    // The records say so, the book is sound, and what was decided is decided again to the same end.
    let journal = world.farthing(&["ledger", "journal", "--wallet", "--json"]).ok();
    assert_eq!(journal.matches("\"draft\":{").count(), 2, "{journal}");
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
    let since = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
    let again = world.farthing(&since).json();
    assert_eq!((&again["broken"], &again["other"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    // Accepted, it holds; what it had counted under its own name begins anew.
    world.farthing(&["policy", "rollout", "accept"]).ok();
    assert_eq!(world.read("home/policy.toml"), draft);
    world.farthing(&["policy", "rollout", "status"]).fails(2, "no policy is tried out");
    world.pay(&[&quote(3)]).ok();
    world.pay(&[&quote(4)]).fails(3, "wallet.budgets[0].max.usd");
    let journal = world.farthing(&["ledger", "journal", "--wallet", "--json"]).ok();
    assert_eq!(journal.matches("\"draft\":{").count(), 2, "it is tried out no longer");
    world.farthing(&["policy", "rollout", "start", "draft.toml"]).ok();
    world.farthing(&["policy", "rollout", "stop"]).ok();
    world.farthing(&["policy", "rollout", "status"]).fails(2, "no policy is tried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_policies_are_good_as_they_are() {
    for which in ["one-agent", "team", "crawler"] {
        let world = World::set_up(echo().await);
        let wallet = world.read("home/wallet.toml") + "\n[assets.eurc]\ndecimals = 6\n";
        world.write("home/wallet.toml", &wallet);
        world.farthing(&["policy", "new", which]).ok();
        world.farthing(&["policy", "check"]).ok();
        world.farthing(&["policy", "accept"]).ok();
        world.farthing(&["policy", "new", which]).fails(2, "is there already");
    }
}
