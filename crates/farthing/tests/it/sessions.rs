//! A wallet and a gateway with sessions between them, as processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::policy::{issue, pay_as};
use crate::world::{Serving, TOKEN, WALLET, World, echo, gateway_toml, nowhere, serve};

/// The usual gateway, which sells its quotes in sessions too, and is managed.
fn selling_sessions(upstream: SocketAddr) -> String {
    let text = gateway_toml(upstream, "");
    let session = "price = \"0.25 usd\"\nintents = [\"session\", \"charge\"]\nsession = { deposit = \"2.00 usd\" }";
    let admin = "\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TOKEN\"\n";
    text.replace("price = \"0.25 usd\"", session) + admin
}

/// A wallet that deposits up to 1.00 usd at once, of `total_max` in all.
fn set_up(upstream: SocketAddr, total_max: &str) -> World {
    let world = World::set_up(upstream);
    world.write("farthing.toml", &selling_sessions(upstream));
    let total = format!("total_max = \"{total_max}\"\nsession_deposit_max = \"1.00\"");
    world.write("home/wallet.toml", &WALLET.replace("total_max = \"3.00\"", &total));
    world
}

fn sessions(world: &World) -> Vec<Value> {
    let listed = world.farthing(&["sessions", "list", "--all", "--json"]).json();
    listed.as_array().unwrap().clone()
}

fn atoms(session: &Value, name: &str) -> u128 {
    session[name]["atoms"].as_str().unwrap().parse().unwrap()
}

fn earned(world: &World) -> String {
    let balances = world.farthing(&["ledger", "balances", "--json"]).json();
    balances["payable/seller/usd"].to_string()
}

/// Many processes use one session; it is topped up when it runs out, and closing gives back the rest.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_session_until_it_is_closed() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    for round in 1..=5_u128 {
        let paid = world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
        assert!(paid.err.contains("paid 0.25 usd to seller"), "{}", paid.err);
        assert_eq!(paid.ok().trim_end(), format!("GET /quote?round={round}"));
        let all = sessions(&world);
        assert_eq!(all.len(), 1, "one session for all of them");
        assert_eq!(atoms(&all[0], "spent"), round * 25);
        assert_eq!(atoms(&all[0], "deposit"), if round < 5 { 100 } else { 200 });
    }
    let listed = world.farthing(&["sessions", "list"]).ok();
    assert!(listed.contains("open") && listed.contains("1.25 usd"), "{listed}");
    let channel = sessions(&world)[0]["channel"].as_str().unwrap().to_owned();
    let shown = world.farthing(&["sessions", "show", &channel[..12]]).ok();
    assert!(shown.contains(&channel) && shown.contains("2.00 usd"), "{shown}");
    let closed = world.farthing(&["sessions", "close", &channel]).ok();
    assert!(closed.contains("1.25 usd spent, 0.75 usd free again"), "{closed}");
    world.farthing(&["sessions", "close", &channel]).ok();
    world.farthing(&["sessions", "show", "none"]).fails(2, "no session none");
    assert_eq!(sessions(&world)[0]["state"], "closed");
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    assert_eq!(receipts.as_array().unwrap().len(), 5);
    let (code, _) = shop.stop();
    assert_eq!(code, 0);
    let verified = world.farthing(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["audit"]["delivered"], 5);
    assert!(earned(&world).contains("125"), "{}", earned(&world));
}

/// With `session_low`, more is deposited beside a request once little is left, and not when a request needs it:
/// once, whichever process comes, and no further than the caps go.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_topped_up_beside_a_request() {
    let world = set_up(echo().await, "2.50");
    let wallet = world.read("home/wallet.toml");
    world.write("home/wallet.toml", &format!("{wallet}session_low = \"0.50\"\n"));
    let shop = world.serve();
    let deposits = |rounds: std::ops::RangeInclusive<u32>| {
        rounds
            .map(|round| {
                world.pay(&[&shop.url(&format!("/quote?round={round}"))]).ok();
                atoms(&sessions(&world)[0], "deposit")
            })
            .collect::<Vec<_>>()
    };
    // The first opens with 1.00; the third leaves 0.25, and so do the seventh and the ninth, where half of what is
    // wanted is left of the cap, and then nothing.
    assert_eq!(deposits(1..=7), [100, 100, 200, 200, 200, 200, 250]);
    assert_eq!(deposits(8..=10), [250, 250, 250]);
    world.pay(&[&shop.url("/quote?round=11")]).fails(3, "total cap");
    let all = sessions(&world);
    assert_eq!((all.len(), atoms(&all[0], "spent")), (1, 250));
    world.farthing(&["sessions", "close", "--all"]).ok();
    drop(shop);
    world.farthing(&["ledger", "verify"]).ok();
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
    assert!(earned(&world).contains("250"), "{}", earned(&world));
}

/// However many processes come at once to a session that runs low, one further deposit is made.
#[tokio::test(flavor = "multi_thread")]
async fn many_processes_top_up_once() {
    let world = set_up(echo().await, "3.00");
    let wallet = world.read("home/wallet.toml");
    world.write("home/wallet.toml", &format!("{wallet}session_low = \"0.50\"\n"));
    let shop = world.serve();
    for round in 1..=2 {
        world.pay(&[&shop.url(&format!("/quote?round={round}"))]).ok();
    }
    let url = |round: u32| shop.url(&format!("/quote?round={round}"));
    let paying: Vec<_> =
        (3..=6).map(|round| world.command(&["pay", &url(round)]).spawn().unwrap()).collect();
    for mut each in paying {
        assert!(each.wait().unwrap().success());
    }
    let known = &sessions(&world)[0];
    assert_eq!((atoms(known, "spent"), atoms(known, "deposit")), (150, 200), "{known}");
}

/// The answer to a deposit ahead of its need is lost, and the process with it: the request is answered all the same,
/// and whoever needs the deposit next finds it, and makes no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_deposit_ahead_is_found() {
    let world = set_up(echo().await, "3.00");
    let wallet = world.read("home/wallet.toml");
    world.write("home/wallet.toml", &format!("{wallet}session_low = \"0.50\"\n"));
    let shop = world.serve();
    let (gateway, loses) = (shop.url.clone(), Arc::new(AtomicBool::new(false)));
    let losing = Arc::clone(&loses);
    let front = axum::Router::new().fallback(move |request: Request| {
        let (gateway, loses) = (gateway.clone(), losing.load(Ordering::SeqCst));
        async move { pass(&gateway, loses, request).await }
    });
    let front = format!("http://{}", serve(front).await);
    let pay = |round: u32| world.pay(&[&format!("{front}/quote?round={round}")]).ok();
    pay(1);
    pay(2);
    loses.store(true, Ordering::SeqCst);
    assert_eq!(pay(3).trim_end(), "GET /quote?round=3");
    assert_eq!(atoms(&sessions(&world)[0], "deposit"), 100, "nobody has said so");
    loses.store(false, Ordering::SeqCst);
    pay(4);
    pay(5);
    let known = &sessions(&world)[0];
    assert_eq!((atoms(known, "spent"), atoms(known, "deposit")), (125, 200), "{known}");
    let closed = world.farthing(&["sessions", "close", "--all"]).ok();
    assert!(closed.contains("1.25 usd spent, 0.75 usd free again"), "{closed}");
    drop(shop);
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
    assert!(earned(&world).contains("125"), "{}", earned(&world));
}

/// Passes a request on; and loses what is answered to a top-up, if it `loses`.
async fn pass(gateway: &str, loses: bool, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let line = head.headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
    let token = line.as_deref().and_then(|line| line.strip_prefix("Payment "));
    let tops_up = token.is_some_and(|token| {
        let credential = farthing_mpp::base64url::decode(token).unwrap();
        let credential: Value = serde_json::from_slice(&credential).unwrap();
        credential["payload"]["action"] == "topUp"
    });
    let mut fields = head.headers.clone();
    fields.remove("host");
    let url = format!("{gateway}{}", head.uri);
    let answer = reqwest::Client::new().request(head.method, url).headers(fields).send();
    let answer = answer.await.unwrap();
    let (status, mut fields) = (answer.status(), answer.headers().clone());
    fields.remove("transfer-encoding");
    fields.remove("content-length");
    let body = answer.bytes().await.unwrap();
    if loses && tops_up {
        return axum::http::StatusCode::BAD_GATEWAY.into_response();
    }
    (status, fields, body).into_response()
}

/// The owner's cap holds over sessions: what is deposited is held, and nothing is paid beyond it; what a
/// session did not spend is free again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_stops_at_its_cap() {
    let world = set_up(echo().await, "1.50");
    let shop = world.serve();
    let pay = |round: usize| world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
    for round in 1..=6 {
        pay(round).ok();
    }
    pay(7).fails(3, "total cap");
    assert_eq!(atoms(&sessions(&world)[0], "deposit"), 150, "a second deposit as far as it goes");
    world.farthing(&["sessions", "close", "--all"]).ok();
    pay(8).fails(3, "total cap");
    assert_eq!(sessions(&world).len(), 1, "no other session was opened");
}

/// A session that was closed unspent has freed the cap it held.
#[tokio::test(flavor = "multi_thread")]
async fn closing_frees_what_was_held() {
    let world = set_up(echo().await, "1.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    world.farthing(&["sessions", "close", "--all"]).ok();
    world.pay(&[&shop.url("/quote?b")]).ok();
    let all = sessions(&world);
    assert_eq!(
        (all.len(), atoms(&all[0], "deposit")),
        (2, 50),
        "0.75 usd are left: a smaller deposit"
    );
}

/// The seller crashes and comes back: the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_after_the_seller_crashed() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let address = shop.url.clone();
    shop.kill();
    let text = world.read("farthing.toml");
    let port = address.rsplit(':').next().unwrap();
    world.write("farthing.toml", &text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?b")]).ok();
    let all = sessions(&world);
    assert_eq!((all.len(), atoms(&all[0], "spent")), (1, 50));
}

/// An answer that was lost is asked for with the same voucher, and paid for once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_with_the_same_voucher() {
    let world = set_up(nowhere(), "3.00");
    let shop = world.serve();
    // The upstream is gone: the gateway took the voucher and cannot answer.
    world.pay(&[&shop.url("/quote?a")]).fails(5, "does not pay twice");
    assert_eq!(atoms(&sessions(&world)[0], "signed"), 25);
    let port = shop.url.rsplit(':').next().unwrap().to_owned();
    shop.stop();
    let text = selling_sessions(echo().await);
    world.write("farthing.toml", &text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
    let shop = world.serve();
    assert_eq!(world.pay(&[&shop.url("/quote?a")]).ok().trim_end(), "GET /quote?a");
    let all = sessions(&world);
    assert_eq!((atoms(&all[0], "signed"), atoms(&all[0], "spent")), (25, 25), "no second voucher");
    assert!(earned(&world).contains("25"), "{}", earned(&world));
}

async fn close_at(shop: &Serving, channel: &str) {
    let url = format!("http://{}/v1/sessions/close", shop.admin.as_ref().unwrap());
    let order = format!("{{\"channel\":\"prepaid:{channel}\"}}");
    let request = reqwest::Client::new().post(url).bearer_auth(TOKEN).body(order);
    let closed = request.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(closed.status(), 200, "{}", closed.text().await.unwrap());
}

/// A session that the seller has closed is counted up, and another one is opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_is_replaced() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let first = sessions(&world)[0]["channel"].as_str().unwrap().to_owned();
    close_at(&shop, &first).await;
    world.pay(&[&shop.url("/quote?b")]).ok();
    let all = sessions(&world);
    let states: Vec<_> = all.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["open", "closed"]);
    assert_eq!((atoms(&all[0], "spent"), atoms(&all[1], "spent")), (25, 25));
}

/// What a command left half done is finished: a session of which nobody knows whether it was opened.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_half_done_is_recovered() {
    let world = set_up(nowhere(), "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).fails(5, "does not pay twice");
    assert_eq!(sessions(&world)[0]["state"], "opening");
    let recovered = world.farthing(&["sessions", "recover"]).ok();
    assert!(recovered.contains("0.25 usd spent, 0.75 usd free again"), "{recovered}");
    assert_eq!(world.farthing(&["sessions", "recover"]).ok(), "", "nothing is left to do");
}

/// A seller that asks for more than was bought gets no signature for it.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_signed_than_what_was_bought() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let channel = sessions(&world)[0]["channel"].as_str().unwrap().to_owned();
    // The same seller, gone bad: its offers are real, and it wants 0.90 usd in all.
    let real = shop.url.clone();
    let greedy = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (real, channel) = (real.clone(), channel.clone());
        let url = format!("{real}{}", request.uri());
        async move { greedy(&url, &channel).await }
    });
    let bad = serve(greedy).await;
    // The wallet knows sellers by their origin: what it remembers of the one, it is made to ask the other.
    let memory = rusqlite::Connection::open(world.path("home/memory.db")).unwrap();
    let origin = format!("http://{bad}");
    memory
        .execute(
            "UPDATE session SET origin = ?, body = replace(body, ?, ?)",
            [&origin, &shop.url, &origin],
        )
        .unwrap();
    drop(memory);
    world.pay(&[&format!("{origin}/quote?b")]).fails(4, "at most 50 are owed");
    assert!(atoms(&sessions(&world)[0], "signed") <= 50);
}

/// Passes challenges on, and answers every voucher with a claim for more.
async fn greedy(url: &str, channel: &str) -> axum::response::Response {
    use axum::response::IntoResponse;
    let asked = reqwest::get(url).await.unwrap();
    let all: Vec<_> = asked.headers().get_all("www-authenticate").iter().cloned().collect();
    let problem = serde_json::json!({
        "type": "https://paymentauth.org/problems/session/insufficient-balance",
        "title": "Insufficient Balance",
        "status": 402,
        "detail": "more",
        "channelId": channel,
        "requiredCumulative": "90",
    });
    let mut fields = axum::http::HeaderMap::new();
    for value in all {
        fields.append("www-authenticate", value);
    }
    (axum::http::StatusCode::PAYMENT_REQUIRED, fields, problem.to_string()).into_response()
}

/// Puts a policy in force.
fn accept(world: &World, policy: &str) {
    world.write("home/policy.toml", policy);
    world.farthing(&["policy", "accept"]).ok();
}

/// The facts of what was decided upon within sessions, and whether it was allowed.
fn calls(world: &World) -> Vec<(Value, bool)> {
    let journal = world.farthing(&["ledger", "journal", "--wallet", "--json"]).ok();
    let records = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let decided = |record: Value| {
        let allowed = record.pointer("/event/payment/decision").cloned();
        let refused = record.pointer("/event/step/decided").cloned();
        let is_allowed = allowed.is_some();
        let facts = allowed.or(refused)?["facts"].as_str()?.to_owned();
        Some((serde_json::from_str::<Value>(&facts).unwrap(), is_allowed))
    };
    let of_call = |(facts, _): &(Value, bool)| facts["operation"] == "call";
    records.filter_map(decided).filter(of_call).collect()
}

/// P-01, P-17: each call within a session is a decision of the owner's: routes, counts and a freeze hold for
/// it, whatever was deposited, and each is written down once.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_in_a_session_is_decided_upon() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    let pay = |round: usize| world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
    let policy = "[wallet]\nmax = { usd = \"0.50\" }\ndeposit_max = { usd = \"1\" }\n\
                  [[wallet.budgets]]\npayments = 3\nper = \"30d\"\n";
    accept(&world, policy);
    pay(1).ok();
    world.farthing(&["wallet", "freeze"]).ok();
    pay(2).fails(3, "frozen");
    world.farthing(&["wallet", "unfreeze"]).ok();
    world.write("home/policy.toml", &policy.replace("[wallet]", "[wallet]\nroutes = [\"/other\"]"));
    pay(2).fails(3, "wallet.routes");
    assert_eq!(atoms(&sessions(&world)[0], "signed"), 25, "nothing was signed for it");
    world.write("home/policy.toml", policy);
    pay(2).ok();
    pay(3).ok();
    pay(4).fails(3, "wallet.budgets[0].payments");
    let all = sessions(&world);
    assert_eq!((all.len(), atoms(&all[0], "signed"), atoms(&all[0], "deposit")), (1, 75, 100));
    let allowed: Vec<bool> = calls(&world).into_iter().map(|(_, allowed)| allowed).collect();
    assert_eq!(allowed, [true, false, true, true, false], "one record for each");
    let since = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
    assert_eq!(world.farthing(&since).json()["broken"], serde_json::json!([]));
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
    assert!(earned(&world).contains("75"), "{}", earned(&world));
}

/// A deposit fills its budget, and what is spent of it does not count once more; only a further deposit is too
/// much.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_counts_a_deposit_and_not_once_more_what_is_spent_of_it() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    let policy = "[wallet]\nmax = { usd = \"0.50\" }\ndeposit_max = { usd = \"1\" }\n\
                  [[wallet.budgets]]\nmax = { usd = \"1\" }\nper = \"ever\"\n";
    accept(&world, policy);
    let pay = |round: usize| world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
    for round in 1..=4 {
        pay(round).ok();
    }
    pay(5).fails(3, "wallet.budgets[0].max.usd");
    let all = sessions(&world);
    assert_eq!((all.len(), atoms(&all[0], "spent"), atoms(&all[0], "deposit")), (1, 100, 100));
    world.farthing(&["sessions", "close", "--all"]).ok();
    pay(6).fails(3, "wallet.budgets[0].max.usd");
    assert!(earned(&world).contains("100"), "{}", earned(&world));
}

/// a deposit that one agent's budget paid for is not spent by another; one that counts in everybody's
/// budgets alone is shared.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_spends_no_deposit_of_another_s_budget() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    let policy = "[wallet]\nmax = { usd = \"0.50\" }\ndeposit_max = { usd = \"0.50\" }\n\
                  [[wallet.budgets]]\nmax = { usd = \"3\" }\nper = \"ever\"\n\
                  [agents.a]\n[[agents.a.budgets]]\nmax = { usd = \"0.50\" }\nper = \"ever\"\n\
                  [agents.b]\n[[agents.b.budgets]]\nmax = { usd = \"0.25\" }\nper = \"ever\"\n\
                  [agents.c]\n[agents.d]\n";
    accept(&world, policy);
    let tokens = ["a", "b", "c", "d"].map(|agent| issue(&world, agent));
    let [a, b, c, d] = &tokens;
    let deposits = || -> Vec<(u128, u128)> {
        let mut all: Vec<_> =
            sessions(&world).iter().map(|it| (atoms(it, "deposit"), atoms(it, "spent"))).collect();
        all.reverse();
        all
    };
    pay_as(&world, a, &shop.url("/quote?1")).ok();
    pay_as(&world, b, &shop.url("/quote?2")).ok();
    assert_eq!(deposits(), [(50, 25), (25, 25)], "each its own");
    pay_as(&world, b, &shop.url("/quote?3")).fails(3, "agents.b.budgets[0].max.usd");
    assert_eq!(deposits(), [(50, 25), (25, 25)], "what is left is a's");
    pay_as(&world, a, &shop.url("/quote?4")).ok();
    pay_as(&world, c, &shop.url("/quote?5")).ok();
    pay_as(&world, d, &shop.url("/quote?6")).ok();
    assert_eq!(deposits(), [(50, 50), (25, 25), (50, 50)], "c and d share");
    assert!(earned(&world).contains("125"), "{}", earned(&world));
}
