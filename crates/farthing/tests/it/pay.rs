//! `farthing pay`: what goes out, what comes back, and how it ends.

use crate::world::{World, echo, nowhere, serve};

#[tokio::test(flavor = "multi_thread")]
async fn one_command_pays_and_prints_the_answer() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let paid = world.pay(&[&shop.url("/quote")]);
    assert!(paid.err.starts_with("farthing: paid 0.25 usd to seller, pay_"), "{}", paid.err);
    assert_eq!(paid.ok().trim_end(), "GET /quote");
    let silent = world.pay(&["-s", &shop.url("/quote")]);
    assert_eq!(silent.err, "");
    silent.ok();
    let free = world.pay(&[&shop.url("/free")]);
    assert_eq!(free.err, "");
    assert_eq!(free.ok().trim_end(), "GET /free");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_curls_habits() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = shop.url("/quote");
    let form = world.pay(&[&quote, "-d", "a=1", "-d", "b=2", "-H", "X-Agent: me"]).ok();
    assert_eq!(form, "POST /quote application/x-www-form-urlencoded me a=1&b=2");
    let json = world.pay(&["--json", "{\"q\":1}", &quote]).ok();
    assert_eq!(json, "POST /quote application/json  {\"q\":1}");
    world.write("body.txt", "from a file");
    let file =
        world.pay(&["-X", "POST", "-d", "@body.txt", "-H", "Content-Type: text/plain", &quote]);
    assert_eq!(file.ok(), "POST /quote text/plain  from a file");
    let piped = world.farthing_with(&["pay", &quote, "-d", "@-"], "piped").ok();
    assert!(piped.ends_with("piped"), "{piped}");
    let head = world.pay(&["-i", &shop.url("/free")]).ok();
    assert!(head.starts_with("HTTP 200 OK\r\ncontent-type: text/plain"), "{head}");
    assert!(head.contains("\r\n\r\nGET /free"), "{head}");
    let out = world.pay(&["-o", "answer.txt", &shop.url("/free#part")]).ok();
    assert_eq!((out.as_str(), world.read("answer.txt").trim_end()), ("", "GET /free"));
    let verbose = world.pay(&["-v", &shop.url("/free")]);
    assert!(verbose.err.contains("content-type: text/plain"), "{}", verbose.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_happened() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let (quote, report) = (shop.url("/quote"), shop.url("/report"));
    world.pay(&[&report]).fails(3, "the offer costs 0.75 usd and the cap is 0.50 usd");
    world.pay(&["--max-amount", "0.24 usd", &quote]).fails(3, "the cap is 0.24 usd");
    world.pay(&[&shop.url("/nothing")]).fails(6, "404 Not Found");
    world.pay(&[&format!("http://{}/", nowhere())]).fails(7, "cannot be reached");
    world.pay(&["http://shop.example/"]).fails(2, "plain HTTP is for this machine only");
    world.pay(&["no url"]).fails(2, "no url");
    world.pay(&["--max-amount", "0.25", &quote]).fails(2, "an amount is a number and an asset");
    world.pay(&["--max-amount", "0.25 gbp", &quote]).fails(2, "no asset called gbp");
    world.pay(&["-H", "no colon", &quote]).fails(2, "Name: value");
    world.pay(&["-H", "Authorization: Payment e30", &quote]).fails(2, "makes payment credentials");
    world.pay(&["-d", "@missing.txt", &quote]).fails(2, "missing.txt");
    world.pay(&["--key", "other", &quote]).fails(8, "there is no key called other");
    let mut wrong = world.command(&["pay", &quote]);
    crate::world::run(
        {
            wrong.env("FARTHING_PASSPHRASE", "wrong");
            wrong
        },
        "",
    )
    .fails(8, "the passphrase does not open this key");
    world.write("home/wallet.toml", "key = 1");
    world.pay(&[&quote]).fails(2, "wallet.toml");
    // None of it cost anything.
    let balances = world.farthing(&["ledger", "balances", "--json"]).json();
    assert_eq!(balances.get("payable/seller/usd"), None);
}

/// A payment that the seller refuses, and one that nobody answers.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_and_silence_have_their_own_codes() {
    let world = World::set_up(nowhere());
    let shop = world.serve();
    // The upstream is gone: the gateway keeps the payment, and so does the wallet.
    world.pay(&[&shop.url("/quote")]).fails(5, "does not pay twice");
    let outstanding = world.farthing(&["wallet", "outstanding"]).ok();
    assert!(outstanding.contains("unanswered"), "{outstanding}");
    let verified = world.farthing(&["ledger", "verify"]).ok();
    assert!(verified.contains("1 owed an answer"), "{verified}");
    // Without a key attached, the gateway refuses.
    let did = world.did();
    shop.stop();
    world.farthing(&["prepaid", "detach", &did]).ok();
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?again")]).fails(4, "the seller did not take the payment");
    let outstanding = world.farthing(&["wallet", "outstanding", "--json"]).json();
    let refused = outstanding.as_array().unwrap().iter().filter(|it| it["refused"] == true);
    assert_eq!(refused.count(), 1);
}

/// Many programs pay from one wallet, and its first payments may come all at once.
#[tokio::test(flavor = "multi_thread")]
async fn first_payments_come_all_at_once() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let pays = |number: u32| {
        let mut pay = world.command(&["pay", &shop.url(&format!("/quote?{number}"))]);
        pay.spawn().unwrap()
    };
    let paying: Vec<_> = (0..8).map(pays).collect();
    for paid in paying {
        let paid = paid.wait_with_output().unwrap();
        assert!(paid.status.success(), "{}", String::from_utf8_lossy(&paid.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_offers_and_pays_nothing() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let shown = world.pay(&["--dry-run", &shop.url("/quote"), "--report", "offers.json"]).ok();
    assert!(shown.starts_with("pay         0.25 usd to seller by prepaid/charge"), "{shown}");
    let report: serde_json::Value = serde_json::from_str(&world.read("offers.json")).unwrap();
    assert_eq!(report["offers"][0]["chosen"], true);
    let dear = world.pay(&["--dry-run", &shop.url("/report")]);
    assert!(dear.out.contains("the offer costs 0.75 usd and the cap is 0.50 usd"), "{}", dear.out);
    dear.fails(3, "none of the offers would be paid");
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["audit"]["claimed"], 0);
}

/// What cannot be written is found out before anything is paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_the_answer_comes_first() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let quote = shop.url("/quote");
    world.pay(&["-o", "no/such/folder/file", &quote]).fails(2, "no/such/folder/file");
    world.pay(&["--report", "no/such/folder/file", &quote]).fails(2, "no/such/folder/file");
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["audit"]["claimed"], 0);
    world.pay(&["--report", "report.json", "-o", "answer.txt", &quote]).ok();
    let report: serde_json::Value = serde_json::from_str(&world.read("report.json")).unwrap();
    assert!(report["payment"].as_str().unwrap().starts_with("pay_"));
    assert_eq!(report["receipt"]["status"], "success");
}

/// A seller's own error is shown, with a code of its own; the payment was taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_sellers_error_is_shown() {
    let gone = axum::Router::new().fallback(|| async { (axum::http::StatusCode::GONE, "gone") });
    let world = World::set_up(serve(gone).await);
    let shop = world.serve();
    let ended = world.pay(&[&shop.url("/quote")]);
    assert_eq!(ended.out, "gone");
    ended.fails(6, "410 Gone");
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["audit"]["delivered"], 1);
}
