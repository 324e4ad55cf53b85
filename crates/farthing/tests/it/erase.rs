//! `farthing store erase`.

use crate::books::gateway_toml_with_admin;
use crate::world::{World, echo};

/// Whoever paid is erased beside a running gateway and from a stopped one's book; what was bought stays,
/// and the books are sound. Nothing is erased that is still needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_is_erased_from_a_book() {
    let world = World::set_up(echo().await);
    let toml = gateway_toml_with_admin(&world);
    let shop = world.serve();
    world.write("farthing.toml", &toml.replace("ADMIN", shop.admin.as_ref().unwrap()));
    world.pay(&["--report", "report.json", &shop.url("/quote")]).ok();
    let report: serde_json::Value = serde_json::from_str(&world.read("report.json")).unwrap();
    let payment = report["payment"].as_str().unwrap().to_owned();
    let payer = || {
        let story = world.farthing(&["trace", &payment, "--json"]).json();
        story["payment"]["payer"].as_str().unwrap().to_owned()
    };
    let known = payer();
    assert!(known.starts_with("did:key:"), "{known}");
    let erase = |more: &[&str]| world.farthing(&[&["store", "erase"], more].concat());
    let of_payer = ["--payer", &known, "--reason", "case 17"];
    erase(&["--payer", "agent-inc", "--reason", "case 17"]).fails(1, "holds money");
    erase(&of_payer).fails(1, "detach it first");
    world.farthing(&["prepaid", "detach", &known]).ok();
    erase(&["--payer", "nobody", "--reason", "case 17"]).fails(1, "no payer and no holder");
    erase(&["--payer", &known, "--reason", &known]).fails(1, "the reason names whom");
    erase(&["--payer", &known]).fails(2, "--reason");
    let would = erase(&["--payer", &known, "--dry-run"]).ok();
    assert!(would.starts_with("1 payments, 0 accounts' holders and 1 keys would be"), "{would}");
    assert_eq!(payer(), known, "nothing was erased");
    let erased = erase(&of_payer).ok();
    assert_eq!(erased, "1 payments, 0 accounts' holders and 1 keys erased, in 3 records\n");
    let pseudonym = payer();
    assert!(pseudonym.starts_with("erased-"), "{pseudonym}");
    let verified = world.farthing(&["ledger", "verify"]).ok();
    assert!(verified.contains("personal data was erased from 3 records"), "{verified}");
    let story = world.farthing(&["trace", &payment]).ok();
    assert!(story.contains("0.25 usd") && story.contains("paid and delivered"), "{story}");
    world
        .farthing(&["refund", &payment, "--reference", "late", "--reason", "came late"])
        .fails(1, "who paid was erased");
    shop.stop();
    let file = std::fs::read(world.path("book.db")).unwrap();
    let is_there = |what: &str| file.windows(what.len()).any(|it| it == what.as_bytes());
    assert!(is_there(&pseudonym) && !is_there(&known));
    world.farthing(&["store", "check"]).ok();
}

/// What is older than the configuration keeps is erased by its age.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_outdated_is_erased_by_its_age() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    shop.stop();
    let erase = |more: &[&str]| world.farthing(&[&["store", "erase"], more].concat());
    erase(&["--outdated", "--reason", "age"]).fails(2, "[retention]");
    erase(&["--before", "2999-01-01T00:00:00Z", "--reason", "age"]).fails(1, "has passed");
    let config = world.read("farthing.toml");
    world.write("farthing.toml", &format!("{config}\n[retention]\ndays = 0\n"));
    erase(&["--outdated", "--reason", "age"]).fails(2, "farthing.toml");
    world.write("farthing.toml", &format!("{config}\n[retention]\ndays = 3650\n"));
    let nothing = erase(&["--outdated", "--reason", "age"]).ok();
    assert!(
        nothing.starts_with("0 payments, 0 accounts' holders and 0 keys erased, in 0"),
        "{nothing}"
    );
    let story = world.farthing(&["ledger", "journal", "--json"]).ok();
    let last = story.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["event"]["is"], "opened", "nothing was written for nothing");
    // A moment ago, everything that is finished is old; the account holds money and stays.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = farthing_money::Timestamp::from_micros(u64::try_from(now.as_micros()).unwrap());
    let erased = erase(&["--before", &now.to_string(), "--reason", "age", "--json"]).json();
    assert_eq!((&erased["payments"], &erased["holders"]), (&1.into(), &0.into()), "{erased}");
    assert_eq!(erased["wiped"], true);
    world.farthing(&["ledger", "verify"]).ok();
}
