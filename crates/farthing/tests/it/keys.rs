//! `farthing wallet`.

use std::os::unix::fs::PermissionsExt;

use crate::world::{KEY, World, any_file_contains, echo, run};

#[test]
fn a_new_wallet_allows_nothing() {
    let world = World::empty();
    let made = world.farthing(&["wallet", "new"]);
    assert!(made.err.contains("allows no payment until you set a cap"), "{}", made.err);
    let did = made.ok();
    assert!(did.starts_with("did:key:z6Mk"), "{did}");
    assert_eq!(world.farthing(&["wallet", "list"]).ok(), format!("main             {did}"));
    world.farthing(&["wallet", "new"]).fails(8, "keys are never overwritten");
    world.farthing(&["wallet", "new", "No Name"]).fails(8, "a key name is");
    let second = world.farthing(&["wallet", "new", "second"]).ok();
    assert_ne!(second, did);
    assert!(world.read("home/wallet.toml").contains("key = \"main\""));
    assert_eq!(world.farthing(&["wallet", "receipts"]).ok(), "");
    assert_eq!(world.farthing(&["wallet", "outstanding", "--json"]).json(), serde_json::json!([]));
}

/// The public half of an imported key is what RFC 8032 says it is, and its secret half is nowhere.
#[test]
fn an_imported_key_is_the_same_key_and_is_kept_encrypted() {
    let world = World::empty();
    // RFC 8032 §7.1, test 1: known to everybody.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let did = world.farthing_with(&["wallet", "import", "known"], seed).ok();
    assert_eq!(did.trim_end(), "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw");
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(!any_file_contains(&world.path("home"), seed.as_bytes()));
    assert!(!any_file_contains(&world.path("home"), &bytes));
    let file = world.path("home/keys/known.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for odd in ["", "0707", &KEY[1..], &format!("{KEY}0"), &KEY.replace('7', "g")] {
        let err = world.farthing_with(&["wallet", "import", "odd"], odd).fails(8, "64 hexadecimal");
        assert!(odd.is_empty() || !err.contains(odd), "{err}");
    }
    let mut without = world.command(&["wallet", "new", "other"]);
    without.env("FARTHING_PASSPHRASE", "");
    run(without, "").fails(8, "a key needs a passphrase");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_kept_and_listed() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    world.pay(&[&shop.url("/quote?x")]).ok();
    let receipts = world.farthing(&["wallet", "receipts"]).ok();
    assert_eq!(receipts.lines().count(), 2);
    assert!(receipts.lines().next().unwrap().ends_with("/quote?x"), "the latest first: {receipts}");
    assert!(receipts.contains("0.25 usd"), "{receipts}");
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    assert_eq!(receipts[0]["receipt"]["method"], "prepaid");
    assert_eq!(world.farthing(&["wallet", "outstanding"]).ok(), "");
}
