//! `farthing serve`: signals, refusals to start, crashes and logs.

use crate::world::{SECRET, TOKEN, World, any_file_contains, echo, gateway_toml, hanging, serve};

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_in_good_order() {
    let world = World::set_up(echo().await);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    let (code, log) = shop.stop();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("\"message\":\"stopped\""), "{log}");
    // The book is free again.
    let did = world.did();
    world.farthing(&["prepaid", "detach", &did]).ok();
}

/// SIGHUP takes a new configuration; one that is wrong is refused with its place, and the old one
/// stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_validated() {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let shop = world.serve();
    let text = gateway_toml(upstream, "");
    world.write("farthing.toml", &text.replacen("\"0.25 usd\"", "\"0.255 usd\"", 1));
    shop.signal("-HUP");
    let line = shop.log.wait_for("configuration not reloaded");
    assert!(line.contains("farthing.toml: line "), "{line}");
    assert!(line.contains("has 2 decimals"), "{line}");
    let offers = world.pay(&["--dry-run", &shop.url("/quote")]).ok();
    assert!(offers.contains("0.25 usd"), "{offers}");
    world.write("farthing.toml", &text.replacen("\"0.25 usd\"", "\"0.26 usd\"", 1));
    shop.signal("-HUP");
    shop.log.wait_for("configuration reloaded");
    let offers = world.pay(&["--dry-run", &shop.url("/quote")]).ok();
    assert!(offers.contains("0.26 usd"), "{offers}");
}

/// C-10, C-11: without a secret, with a weak one, with a rail that does not exist, or with a book
/// that somebody else writes, it does not start.
#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_to_start_on_bad_ground() {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let text = world.read("farthing.toml");
    let mut without = world.command(&["serve"]);
    without.env_remove("SECRET");
    crate::world::run(without, "").fails(2, "the environment variable SECRET is not set");
    let mut weak = world.command(&["serve"]);
    weak.env("SECRET", "0123456789");
    let err = crate::world::run(weak, "").fails(2, "needs at least 32");
    assert!(err.contains("line 4, column 12"), "{err}");
    assert!(!err.contains("0123456789"), "{err}");
    world.write("farthing.toml", &text.replace("[rails.prepaid]", "[rails.gold]"));
    world.farthing(&["serve"]).fails(2, "there is no rail called gold");
    world.write("farthing.toml", &text.replace("\"127.0.0.1:0\"", "\"0.0.0.0:0\""));
    world.farthing(&["serve"]).fails(2, "payment needs TLS");
    world.write("farthing.toml", &text);
    world.farthing(&["serve", "--config", "other.toml"]).fails(2, "other.toml");
    world.farthing(&["serve", "--log", "farthing=loud"]).fails(2, "--log");
    let ok = world.farthing(&["serve", "--check"]).ok();
    assert!(ok.contains("can be started"), "{ok}");
    let _shop = world.serve();
    world.farthing(&["serve"]).fails(1, "another process has the book open");
}

/// C-03, F-04: `kill -9` in the middle of a delivery. `payments stuck` says what hangs; what may happen
/// twice is answered by the same command, and what must not is neither repeated nor charged again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_says_what_hangs() {
    let (upstream, hanging) = hanging().await;
    let world = World::set_up(upstream);
    let shop = world.serve();
    let pays = |method: &str, url: &str| {
        let mut pay = world.command(&["pay", "-X", method, url]);
        pay.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        pay.spawn().unwrap()
    };
    let mut wallets = vec![pays("GET", &shop.url("/quote")), pays("POST", &shop.url("/quote"))];
    // Both handlers have begun.
    for _ in 0..2 {
        hanging.started.acquire().await.unwrap().forget();
    }
    let address = shop.url.trim_start_matches("http://").to_owned();
    shop.kill();
    for wallet in &mut wallets {
        wallet.kill().unwrap();
        wallet.wait().unwrap();
    }
    let stuck = world.farthing(&["payments", "stuck"]).ok();
    assert!(stuck.ends_with("2 unfinished\n"), "{stuck}");
    assert_eq!(stuck.matches("0.25 usd for quote from did:key:").count(), 2, "{stuck}");
    hanging.release.close();
    let text = world.read("farthing.toml").replace("127.0.0.1:0", &address);
    world.write("farthing.toml", &text);
    let shop = world.serve();
    let stuck = world.farthing(&["payments", "stuck", "--json"]).json();
    let interrupted = |it: &serde_json::Value| it["why"].as_str().unwrap().contains("interrupted");
    assert!(stuck.as_array().unwrap().iter().all(interrupted), "{stuck}");
    world.pay(&[&shop.url("/quote")]).ok();
    // What must not happen twice is not begun again: its money goes back.
    let made_up = || world.farthing(&["payments", "stuck"]).ok() == "0 unfinished\n";
    while !made_up() {
        std::thread::yield_now();
    }
    world.pay(&["-X", "POST", &shop.url("/quote")]).fails(4, "was given back");
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    let audit = &verified["audit"];
    assert_eq!((&audit["claimed"], &audit["delivered"]), (&2.into(), &1.into()), "{audit}");
    let seller = &audit["accounts"]["payable/seller/usd"];
    assert_eq!((&seller["credits_posted"], &seller["debits_posted"]), (&"50".into(), &"25".into()));
}

/// a credential that was spent buys nothing more, over a crash and a restart: it is given the same
/// answer, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_forgets_nothing_that_was_paid() {
    // Remembers what it was shown, as a thief on the way would.
    let shown = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let world = World::set_up(echo().await);
    let shop = world.serve();
    let thief = thief_before(shop.url.clone(), shown.clone()).await;
    world.pay(&[&format!("http://{thief}/quote")]).ok();
    let credential = shown.lock().unwrap().pop().unwrap();
    let present = async |url: String| {
        let request = reqwest::Client::new().get(url).header("authorization", &credential);
        let answer = request.send().await.unwrap();
        let replayed = answer.headers().contains_key("farthing-replayed");
        (answer.status().as_u16(), replayed)
    };
    assert_eq!(present(shop.url("/quote")).await, (200, true));
    shop.kill();
    let shop = world.serve();
    assert_eq!(present(shop.url("/quote")).await, (200, true));
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["audit"]["claimed"], 1);
    assert_eq!(verified["audit"]["accounts"]["payable/seller/usd"]["credits_posted"], "25");
}

/// A server that passes requests on and remembers their credentials.
async fn thief_before(
    shop: String,
    shown: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
) -> std::net::SocketAddr {
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (shop, shown) = (shop.clone(), shown.clone());
        async move {
            let mut on = reqwest::Client::new().get(format!("{shop}{}", request.uri()));
            if let Some(credential) = request.headers().get("authorization") {
                shown.lock().unwrap().push(credential.to_str().unwrap().to_owned());
                on = on.header("authorization", credential);
            }
            let answer = on.send().await.unwrap();
            let (status, fields) = (answer.status(), answer.headers().clone());
            let mut response =
                axum::http::Response::new(axum::body::Body::from(answer.bytes().await.unwrap()));
            *response.status_mut() = status;
            for (name, value) in &fields {
                if name != "transfer-encoding" {
                    response.headers_mut().append(name, value.clone());
                }
            }
            response
        }
    });
    serve(router).await
}

/// C-12: at the loudest level, after good and bad payments, no log line, no metric, no file and no
/// message contains a credential, a signature or a secret.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_ever_written() {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let admin = "\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TOKEN\"\n";
    let text = gateway_toml(upstream, "").replace("\n[store]", &format!("{admin}\n[store]"));
    world.write("farthing.toml", &text);
    let shop = world.serve_with(&["--log", "trace"]);
    let shown = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let thief = thief_before(shop.url.clone(), shown.clone()).await;
    let paid = world.pay(&["-v", &format!("http://{thief}/quote")]);
    let credential = shown.lock().unwrap().pop().unwrap();
    let token = credential.strip_prefix("Payment ").unwrap().to_owned();
    let http = reqwest::Client::new();
    let broken = format!("Payment {}", &token[..token.len() - 40]);
    for (line, status) in [(credential.as_str(), 200), (broken.as_str(), 402)] {
        let asked = http.get(shop.url("/quote")).header("authorization", line).send().await;
        assert_eq!(asked.unwrap().status(), status);
    }
    let wrong = http.post(format!("http://{}/v1/prepaid/fund", shop.admin.as_ref().unwrap()));
    let wrong = wrong.bearer_auth(TOKEN).json_body("{}").send().await.unwrap();
    assert_eq!(wrong.status(), 422);
    let metrics = format!("http://{}/metrics", shop.admin.as_ref().unwrap());
    let metrics = http.get(metrics).send().await.unwrap().text().await.unwrap();
    let (_, log) = shop.stop();
    assert!(log.contains("\"verdict\":\"paid\""), "the log says what happened: {log}");
    assert!(log.contains("\"verdict\":\"rejected\""), "{log}");
    let object = farthing_mpp::base64url::decode(&token).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
    let signature = object["payload"]["signature"].as_str().unwrap();
    let middle = &token[token.len() / 2..token.len() / 2 + 40];
    for secret in [signature, middle, SECRET, TOKEN, crate::world::KEY, "correct horse"] {
        assert!(!log.contains(secret), "the log contains {secret}");
        assert!(!metrics.contains(secret));
        assert!(!paid.err.contains(secret) && !paid.out.contains(secret));
        assert!(!any_file_contains(&world.path("home"), secret.as_bytes()), "{secret}");
        assert!(!any_file_contains(&world.path("."), secret.as_bytes()), "{secret}");
    }
}

/// U-06: what a client says of people, wherever it says it, is not in the books, not in the log and not in
/// the metrics: of a request they keep digests. The names are made up.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_say_of_people_is_not_kept() {
    const CORPUS: [&str; 12] = [
        "Erika.Mustermann@example.org",
        "Jane-Q-Public",
        "+49-30-5550123",
        "DE89370400440532013000",
        "4111111111111111",
        "078-05-1120",
        "1985-04-12",
        "221b-baker-street",
        "203.0.113.77",
        "passport-C01X00T47",
        "diagnosis-J45-asthma",
        "mrn-000-314-159",
    ];
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let admin = "\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TOKEN\"\n";
    let text = gateway_toml(upstream, "").replace("\n[store]", &format!("{admin}\n[store]"));
    world.write("farthing.toml", &text);
    let shop = world.serve_with(&["--log", "trace"]);
    for said in CORPUS {
        let url = shop.url(&format!("/quote?about={said}"));
        let name = format!("Idempotency-Key: {said}");
        let note = format!("X-About: {said}");
        let paid = world.pay(&["-X", "POST", "-d", said, "-H", &name, "-H", &note, &url]);
        assert_eq!(paid.code, 0, "{}", paid.err);
    }
    let metrics = format!("http://{}/metrics", shop.admin.as_ref().unwrap());
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let (_, log) = shop.stop();
    let book = farthing_store_sqlite::Reader::open(&world.path("book.db")).unwrap();
    let journal = book.journal().unwrap();
    let sold =
        journal.iter().filter(|it| matches!(it.event, farthing_ledger::Event::Claimed { .. }));
    assert_eq!(sold.count(), CORPUS.len());
    let journal: String = journal.iter().map(farthing_ledger::Record::to_json).collect();
    for said in CORPUS {
        for (place, text) in [("journal", &journal), ("log", &log), ("metrics", &metrics)] {
            assert!(!text.contains(said), "the {place} contains {said}");
        }
    }
    // The control: what is meant to be there is found in the same way.
    assert!(journal.contains("agent-inc") && log.contains("\"route\""), "{log}");
}

trait JsonBody {
    fn json_body(self, text: &'static str) -> Self;
}

impl JsonBody for reqwest::RequestBuilder {
    fn json_body(self, text: &'static str) -> Self {
        self.header("content-type", "application/json").body(text)
    }
}
