//! `farthing ledger`, `farthing trace` and `farthing prepaid`.

use crate::world::{TOKEN, World, echo, free_address, gateway_toml, nowhere};

/// One payment is found by its trace, by its own name and by its challenge, in the seller's book
/// and in the wallet's.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_traced_from_the_challenge_to_the_answer() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&["--report", "report.json", &shop.url("/quote")]).ok();
    let report: serde_json::Value = serde_json::from_str(&world.read("report.json")).unwrap();
    let receipt = &report["receipt"];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (trace, payment) = (text(&receipt["trace"]), text(&report["payment"]));
    let challenge = text(&receipt["challengeId"]);
    let story = world.farthing(&["trace", &trace]).ok();
    for part in [
        "paid and delivered",
        &payment,
        "0.25 usd",
        "did:key:z6Mk",
        "challenged: ",
        "claimed and posted",
        "debit  prepaid/agent-inc/usd",
        "credit payable/seller/usd",
        "delivered with status 200",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert_eq!(world.farthing(&["trace", &payment]).ok(), story);
    assert_eq!(world.farthing(&["trace", &challenge]).ok(), story);
    let json = world.farthing(&["trace", &challenge, "--json"]).json();
    assert_eq!(json["standing"], "delivered");
    assert_eq!(json["payment"]["challenge"], challenge);
    assert_eq!(json["steps"].as_array().unwrap().len(), 3);
    // The wallet's own story of the same payment.
    let own = world.farthing(&["trace", "--wallet", &challenge]).ok();
    assert!(own.contains("debit  spent/seller/usd"), "{own}");
    assert!(own.contains("delivered with status 200"), "{own}");
    world.farthing(&["trace", "pay_00000000000000000000000000000000"]).fails(1, "no payment");
    world.farthing(&["trace", "-nothing"]).fails(1, "no payment of this name");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_read_beside_the_gateway() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    let balances = world.farthing(&["ledger", "balances"]).ok();
    let line = |name: &str| {
        let line = balances.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("funding/agent-inc/usd"), "5.00 usd 0.00 usd");
    assert_eq!(line("prepaid/agent-inc/usd"), "4.75 usd 0.00 usd");
    assert_eq!(line("payable/seller/usd"), "0.25 usd 0.00 usd");
    assert!(balances.ends_with("debits 5.25 usd = credits 5.25 usd\n"), "{balances}");
    let journal = world.farthing(&["ledger", "journal"]).ok();
    assert!(journal.contains("funded, reference first"), "{journal}");
    assert!(journal.contains("from prepaid/agent-inc/usd to payable/seller/usd"), "{journal}");
    let lines = world.farthing(&["ledger", "journal", "--json"]).ok();
    let records: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], at + 1);
    }
    let tail = world.farthing(&["ledger", "journal", "--json", "--from", "3"]).ok();
    assert_eq!(tail.lines().count(), records.len() - 2);
    let verified = world.farthing(&["ledger", "verify"]).ok();
    assert!(verified.starts_with("sound: "), "{verified}");
    let own = world.farthing(&["ledger", "balances", "--wallet"]).ok();
    assert!(own.contains("spent/seller/usd"), "{own}");
}

/// A journal that somebody changed is found out, at the record that cannot be true.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_journal_is_found_out() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    shop.stop();
    world.farthing(&["ledger", "verify"]).ok();
    // With the triggers dropped, as somebody with the file in hand can.
    let sql = "DROP TRIGGER journal_is_never_changed; \
               UPDATE journal SET body = replace(body, '\"atoms\":\"25\",\"phase\"', '\"atoms\":\"24\",\"phase\"');";
    let python = format!(
        "import sqlite3; c = sqlite3.connect({:?}); c.executescript({sql:?})",
        world.path("book.db").display().to_string()
    );
    let changed = std::process::Command::new("python3").args(["-c", &python]).status();
    assert!(changed.unwrap().success());
    world.farthing(&["ledger", "verify"]).fails(1, "the transfers do not add up to the price");
    world.farthing(&["ledger", "balances"]).fails(1, "not sound: record ");
}

#[test]
fn a_book_that_is_not_there_is_said_so() {
    let world = World::empty();
    world.farthing(&["ledger", "verify"]).fails(2, "farthing.toml");
    world.farthing(&["ledger", "verify", "--wallet"]).fails(2, "farthing wallet new");
    world.write("farthing.toml", &gateway_toml(nowhere(), ""));
    world.farthing(&["ledger", "verify"]).fails(1, "book.db");
    let memory = gateway_toml(nowhere(), "").replace("sqlite = \"book.db\"", "memory = true");
    world.write("farthing.toml", &memory);
    world.farthing(&["ledger", "verify"]).fails(2, "keeps its book in memory");
}

/// Entries are made in the book itself, or through the gateway that has it open; each counts once.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_funded_offline_and_online() {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let fund = |amount: &str| {
        world.farthing(&["prepaid", "fund", "agent-inc", amount, "--reference", "second"])
    };
    assert_eq!(fund("1 usd").ok(), "done\n");
    assert_eq!(fund("1 usd").ok(), "done before; nothing has changed\n");
    fund("2 usd").fails(1, "reference");
    fund("1.005 usd").fails(2, "has 2 decimals");
    fund("1 gbp").fails(2, "there is no asset called gbp");
    world.farthing(&["prepaid", "attach", "did:key:x", "a"]).fails(2, "did:key");
    let shop = world.serve();
    fund("1 usd").fails(2, "set listen and token in [admin]");
    shop.stop();
    let admin = format!("\n[admin]\nlisten = \"{}\"\ntoken = \"env:TOKEN\"\n", free_address());
    let text = gateway_toml(upstream, "").replace("\n[store]", &format!("{admin}\n[store]"));
    world.write("farthing.toml", &text);
    let _shop = world.serve();
    assert_eq!(fund("1 usd").ok(), "done before; nothing has changed\n");
    let third = ["prepaid", "fund", "agent-inc", "0.50 usd", "--reference", "third"];
    assert_eq!(world.farthing(&third).ok(), "done\n");
    let mut stranger = world.command(&third);
    stranger.env("TOKEN", TOKEN.to_uppercase());
    crate::world::run(stranger, "").fails(1, "401");
    let balances = world.farthing(&["ledger", "balances"]).ok();
    assert!(balances.contains("6.50 usd"), "{balances}");
}

/// Money is given back by command, beside a running gateway and without one: once for each reference, and
/// no more than was paid.
#[tokio::test(flavor = "multi_thread")]
async fn money_is_given_back_by_command() {
    let world = World::set_up(echo().await);
    let toml = gateway_toml_with_admin(&world);
    let shop = world.serve();
    world.write("farthing.toml", &toml.replace("ADMIN", shop.admin.as_ref().unwrap()));
    world.pay(&[&shop.url("/quote")]).ok();
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    let payment = receipts[0]["receipt"]["reference"].as_str().unwrap().to_owned();
    let refund = |amount: &str, reference: &str| {
        let command = ["refund", &payment, "--amount", amount, "--reference", reference];
        world.farthing(&[&command[..], &["--reason", "too late"]].concat())
    };
    let given = refund("0.10 usd", "t1").ok();
    assert!(given.starts_with("0.10 usd given back, ref_"), "{given}");
    assert_eq!(refund("0.10 usd", "t1").ok(), given, "the same reference is the same refund");
    refund("0.16 usd", "t2").fails(1, "no more can be given back");
    shop.stop();
    let given = refund("0.15 usd", "t2").ok();
    assert!(given.starts_with("0.15 usd given back"), "{given}");
    refund("0.01 usd", "t3").fails(1, "no more can be given back");
    world
        .farthing(&["refund", "pay_00", "--reference", "a", "--reason", "b"])
        .fails(1, "no payment");
    let story = world.farthing(&["trace", &payment]).ok();
    assert!(story.contains("paid and given back"), "{story}");
    assert!(story.contains("given back, reference t1: too late"), "{story}");
    let audit = &world.farthing(&["ledger", "verify", "--json"]).json()["audit"];
    let agent = &audit["accounts"]["prepaid/agent-inc/usd"];
    assert_eq!((&agent["credits_posted"], &agent["debits_posted"]), (&"525".into(), &"25".into()));
    assert_eq!(world.farthing(&["payments", "stuck"]).ok(), "0 unfinished\n");
    world.farthing(&["payouts", "hold", &payment, "--reason", "?"]).ok();
    world.farthing(&["payouts", "paid", &payment, "--reference", "wire"]).fails(1, "nothing was");
}

/// The configuration with a management listener, which is named ADMIN once its port is known.
pub(crate) fn gateway_toml_with_admin(world: &World) -> String {
    let toml = world.read("farthing.toml");
    let admin =
        |listen: &str| format!("[admin]\nlisten = \"{listen}\"\ntoken = \"env:TOKEN\"\n\n[store]");
    world.write("farthing.toml", &toml.replace("[store]", &admin("127.0.0.1:0")));
    toml.replace("[store]", &admin("ADMIN"))
}
