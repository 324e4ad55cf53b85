//! `farthing receipt`, `farthing evidence` and `farthing ledger checkpoint`.

use std::os::unix::fs::PermissionsExt;

use crate::world::{Ended, World, echo};

/// A gateway that signs what it sells.
async fn signing() -> World {
    let world = World::set_up(echo().await);
    world.farthing(&["receipt", "new-key", "receipt.key"]).ok();
    let text = world.read("farthing.toml");
    world.write("farthing.toml", &format!("{text}\n[receipts]\nkeys = [\"file:receipt.key\"]\n"));
    world.write("keys.json", &world.farthing(&["receipt", "keys"]).ok());
    world
}

/// The signed receipt in the head of an answer.
fn receipt(paid: Ended) -> String {
    let head = paid.ok();
    let line = head.lines().find_map(|line| line.strip_prefix("farthing-receipt: "));
    line.unwrap_or_else(|| panic!("{head}")).to_owned()
}

/// Alters the book as somebody with the file in hand can.
fn alter(world: &World, sql: &str) {
    let python = format!(
        "import sqlite3; c = sqlite3.connect({:?}); c.executescript({sql:?}); c.close()",
        world.path("book.db").display().to_string()
    );
    let altered = std::process::Command::new("python3").args(["-c", &python]).status();
    assert!(altered.unwrap().success());
}

/// U-01: whoever has the published keys checks a receipt; one that was altered, or is for another
/// challenge, is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_checked_by_anybody() {
    let world = signing().await;
    let mode = std::fs::metadata(world.path("receipt.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.farthing(&["receipt", "new-key", "receipt.key"]).fails(1, "receipt.key");
    let shop = world.serve();
    let published = reqwest::get(shop.url("/.well-known/farthing/jwks.json")).await.unwrap();
    let published = published.text().await.unwrap();
    assert_eq!(published, world.read("keys.json").trim_end());
    assert!(!published.contains(world.read("receipt.key").trim_end()));
    let receipt = receipt(world.pay(&["-i", &shop.url("/quote")]));
    let verify = |receipt: &str, more: &[&str]| {
        let args = ["receipt", "verify", receipt, "--keys", "keys.json"];
        world.farthing(&[&args, more].concat())
    };
    let claims = verify(&receipt, &["--issuer", "127.0.0.1"]).json();
    assert_eq!(claims["amount"], serde_json::json!({ "asset": "usd", "atoms": "25" }));
    let challenge = claims["challenge"].as_str().unwrap();
    verify(&receipt, &["--challenge", challenge]).ok();
    // An id may begin with any letter of base64url.
    verify(&receipt, &["--challenge", "-another"]).fails(1, "the receipt is for the challenge");
    verify(&receipt, &["--issuer", "another"]).fails(1, "the receipt is one of 127.0.0.1");
    let from_stdin = ["receipt", "verify", "-", "--keys", "keys.json"];
    assert_eq!(world.farthing_with(&from_stdin, &format!("{receipt}\n")).json(), claims);
    let mut altered = receipt.clone().into_bytes();
    altered[receipt.find('.').unwrap() + 30] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    verify(&altered, &[]).fails(1, "the receipt is not believed");
    world.farthing(&["receipt", "new-key", "other.key"]).ok();
    let text = world.read("farthing.toml").replace("receipt.key", "other.key");
    world.write("other.toml", &text);
    let others = world.farthing(&["receipt", "keys", "--config", "other.toml"]).ok();
    world.write("keys.json", &others);
    verify(&receipt, &[]).fails(1, "not among the trusted ones");
}

/// U-03, U-04: what was published of a book keeps whoever holds it from rewriting it; and a part of it
/// proves itself to whoever has the seller's keys and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_book_proves_itself_and_the_whole_cannot_be_rewritten() {
    let world = signing().await;
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    // Published beside a running gateway.
    world.write("published", &world.farthing(&["ledger", "checkpoint"]).ok());
    assert!(world.read("published").starts_with("127.0.0.1/book\n"));
    world.pay(&["-X", "POST", &shop.url("/quote")]).ok();
    shop.stop();
    let verify = ["ledger", "verify", "--checkpoint", "published"];
    let sound = world.farthing(&verify).ok();
    assert!(sound.contains("continues 1 published"), "{sound}");
    world.farthing(&[&verify[..], &["--keys", "keys.json"]].concat()).ok();

    let export = ["evidence", "export", "--checkpoint", "published"];
    let exported = |more: &[&str]| {
        world.farthing(&[&export[..], more, &["--output", "pack.json"]].concat()).ok();
        world.farthing(&["evidence", "verify", "pack.json", "--keys", "keys.json"]).ok()
    };
    let said = exported(&["--party", "seller"]);
    for part in [
        "genuine: 4 records and 2 payments of 127.0.0.1",
        "continues the published checkpoint of",
        "usd: 50 settled = 50 in the ledger = 50 with receipts + 0 without",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        exported(&["--from", "2020-01-01T00:00:00Z", "--until", "2200-01-01T00:00:00Z"])
            .contains("2 payments")
    );
    let pack: serde_json::Value = serde_json::from_str(&world.read("pack.json")).unwrap();
    let payment = pack["payments"][0]["payment"]["id"].as_str().unwrap();
    assert!(exported(&["--payment", payment]).contains("2 records and 1 payments"));
    // Any byte.
    let text = world.read("pack.json");
    world.write(
        "altered.json",
        &text.replacen("\\\"atoms\\\":\\\"25\\\"", "\\\"atoms\\\":\\\"24\\\"", 1),
    );
    let altered = ["evidence", "verify", "altered.json", "--keys", "keys.json"];
    world.farthing(&altered).fails(1, "does not stand at its place in the journal");
    world.write("altered.json", &text.replacen(": ", ":  ", 1));
    world.farthing(&altered).fails(1, "white space");

    world.farthing(&["evidence", "export"]).fails(2, "--payment");
    world.farthing(&["evidence", "export", "--party", "nobody"]).fails(1, "no record of it");
    world.farthing(&["evidence", "export", "--from", "2020-01-01T00:00:00Z"]).fails(2, "--until");

    // Somebody alters a row, and is named; then writes the book anew, seals and all, and is found by
    // what was published.
    let triggers = "DROP TRIGGER journal_is_never_changed;";
    let edit = "UPDATE journal SET body = replace(body, 'quote', 'quota') WHERE seq = 6;";
    alter(&world, &format!("{triggers} {edit}"));
    world.farthing(&["ledger", "verify"]).fails(1, "record 6 is not the line that was sealed");
    world.farthing(&["ledger", "checkpoint"]).fails(1, "not sound");
    world.farthing(&["evidence", "export", "--party", "seller"]).fails(1, "not sound");
    alter(
        &world,
        "DROP TABLE seal; DROP TABLE erasing; ALTER TABLE snapshot DROP COLUMN edge;
         PRAGMA user_version = 3;",
    );
    // The next start seals what it finds, as it does with a book of that age.
    let fund = ["prepaid", "fund", "agent-inc", "1.00 usd", "--reference", "second"];
    world.farthing(&fund).ok();
    world.farthing(&["ledger", "verify"]).ok();
    world.farthing(&verify).fails(1, "are not those of the published checkpoint");
    world.farthing(&[&export[..], &["--party", "seller"]].concat()).fails(1, "rewritten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_nobody_signs_for_says_how_to_begin() {
    let world = World::set_up(echo().await);
    for command in [
        &["ledger", "checkpoint"][..],
        &["evidence", "export", "--party", "seller"],
        &["receipt", "keys"],
    ] {
        world.farthing(command).fails(2, "farthing receipt new-key");
    }
    let text = world.read("farthing.toml");
    world.write("farthing.toml", &format!("{text}\n[receipts]\nkeys = [\"file:missing\"]\n"));
    world.farthing(&["receipt", "keys"]).fails(2, "[receipts] keys: the file cannot be read");
    world.farthing(&["serve", "--check"]).fails(2, "the file cannot be read");
}
