//! The wallet as a daemon: programs pay over its API, through its proxy, or with its signature.

mod description;
mod proxy;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use farthing_wallet_client::{
    At, Client, Ending, Error, PayOptions, Plain, Problem, Request, Wallet,
};
use serde_json::{Value, json};

use crate::world::{Ended, Serving, World, echo, nowhere, run};

/// Two agents; the first may spend 0.75 usd a day.
const POLICY: &str = r#"version = "1"

[wallet]
max = { usd = "0.50" }

[agents.bot]
[[agents.bot.budgets]]
max = { usd = "0.75" }
per = "day"

[agents.other]

[agents.careful]
ask_above = { usd = "0.10" }
"#;

/// A gateway, a wallet with a policy, and its daemon.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) shop: Serving,
    pub(crate) daemon: Serving,
}

impl Scene {
    pub(crate) async fn new(args: &[&str]) -> Self {
        let world = World::set_up(echo().await);
        accept(&world);
        let shop = world.serve();
        let daemon = world.serve_wallet(args);
        Self { world, shop, daemon }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.world.path("home/wallet.sock")
    }

    /// The wallet, as an agent reaches it.
    pub(crate) fn wallet(&self, token: &str) -> Wallet {
        Wallet::new(At::Unix(self.socket()), token)
    }

    pub(crate) fn token(&self, agent: &str) -> String {
        token(&self.world, agent)
    }

    pub(crate) fn owner(&self) -> Wallet {
        self.wallet(&self.world.farthing(&["wallet", "token"]).ok())
    }

    /// How many payments the gateway has taken, and how many the wallet has made.
    pub(crate) fn payments(&self) -> (u64, u64) {
        payments(&self.world)
    }
}

pub(crate) fn accept(world: &World) {
    world.write("home/policy.toml", POLICY);
    world.farthing(&["policy", "accept"]).ok();
}

pub(crate) fn token(world: &World, agent: &str) -> String {
    let expires = ["--expires", "2099-01-01T00:00:00Z"];
    world.farthing(&["agents", "issue", agent, expires[0], expires[1]]).ok().trim().to_owned()
}

/// What the books say: the gateway's, and the wallet's.
pub(crate) fn payments(world: &World) -> (u64, u64) {
    let claimed = |args: &[&str]| {
        let verified = world.farthing(args).json();
        verified["audit"]["claimed"].as_u64().unwrap()
    };
    let wallet = if world.path("home/book.db").exists() {
        claimed(&["ledger", "verify", "--wallet", "--json"])
    } else {
        0
    };
    (claimed(&["ledger", "verify", "--json"]), wallet)
}

pub(crate) fn refused<T>(asked: Result<T, Error>) -> Problem {
    match asked {
        Err(Error::Refused(problem)) => *problem,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was let pass"),
    }
}

fn pay(wallet: &Wallet, request: &Request) -> Result<String, Error> {
    let (answer, paid) = wallet.pay(request, &PayOptions::default())?;
    let amount = paid.and_then(|paid| paid.amount).unwrap_or_default();
    Ok(format!("{} {} {amount}", answer.status, String::from_utf8_lossy(&answer.body).trim()))
}

/// A request in so many bytes, and its answer.
pub(crate) fn raw(socket: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_a_token_pays_within_its_limits() {
    let scene = Scene::new(&[]).await;
    let mode = std::fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bot = scene.wallet(&scene.token("bot"));
    let quote = |round: u32| Request::get(&scene.shop.url(&format!("/quote?{round}")));
    let post = Request::post(&scene.shop.url("/quote"), "{}").with("content-type", "text/plain");
    assert_eq!(pay(&bot, &post).unwrap(), "200 POST /quote text/plain  {} 0.25 usd");
    assert_eq!(pay(&bot, &Request::get(&scene.shop.url("/free"))).unwrap(), "200 GET /free ");
    for round in 1..=2 {
        assert_eq!(pay(&bot, &quote(round)).unwrap(), format!("200 GET /quote?{round} 0.25 usd"));
    }
    assert_eq!(scene.payments(), (3, 3));
    // Its day is used up; the rule says so, and the books that nothing was paid.
    let denied = refused(pay(&bot, &quote(3)));
    assert_eq!((denied.status, denied.code.as_str()), (403, "no-offer"));
    let reason = &denied.document["reasons"][0];
    assert_eq!(reason["rule"], "agents.bot.budgets[0].max.usd");
    assert_eq!((&reason["limit"], &reason["used"]), (&json!("75"), &json!("75")));
    assert_eq!(scene.payments(), (3, 3));
    // Another agent has a day of its own, and its own cap on one payment.
    let other = scene.wallet(&scene.token("other"));
    let cheap = Request { max_amount: Some("0.24 usd".to_owned()), ..quote(4) };
    let capped = refused(pay(&other, &cheap));
    assert_eq!(capped.document["reasons"][0]["limit"], "0.24 usd");
    let dear = refused(pay(&other, &Request::get(&scene.shop.url("/report"))));
    assert_eq!(dear.document["reasons"][0]["requested"], "0.75 usd");
    assert_eq!(scene.payments(), (3, 3));
    assert!(pay(&other, &quote(4)).is_ok());
    // Each sees its own.
    let seen = |wallet: &Wallet| wallet.status().unwrap()["payments"].as_array().unwrap().len();
    assert_eq!((seen(&bot), seen(&other), seen(&scene.owner())), (3, 1, 4));
    let (code, log) = scene.daemon.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!scene.world.path("home/wallet.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_good_token_gets_nothing() {
    let scene = Scene::new(&[]).await;
    let (bot, other) = (scene.token("bot"), scene.token("other"));
    let quote = Request::get(&scene.shop.url("/quote"));
    // The positive control.
    assert!(pay(&scene.wallet(&bot), &quote).is_ok());
    let paid = scene.payments();
    let mut forged = bot.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let soon = ["agents", "issue", "bot", "--expires", "2020-01-01T00:00:00Z"];
    let expired = scene.world.farthing(&soon).ok();
    for wrong in ["", "fta1_", "fto1_00", forged.as_str(), expired.as_str()] {
        let problem = refused(pay(&scene.wallet(wrong), &quote));
        assert_eq!((problem.status, problem.code.as_str()), (401, "token"), "{wrong:?}");
    }
    let bare =
        raw(&scene.socket(), "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(
        bare.starts_with("HTTP/1.1 401 ") && bare.contains("www-authenticate: Bearer"),
        "{bare}"
    );
    // Revoked, it is worth nothing from the next request on; another's goes on.
    let listed = run(
        {
            let mut narrow = scene.world.command(&["agents", "narrow", "--to", "helper"]);
            narrow.env("FARTHING_AGENT_TOKEN", &bot);
            narrow
        },
        "",
    );
    let named = listed.err.split_whitespace().nth(1).unwrap().to_owned();
    let narrowed = scene.wallet(&listed.ok());
    assert!(pay(&narrowed, &quote).is_ok());
    scene.world.farthing(&["agents", "revoke", &named]).ok();
    assert_eq!(refused(pay(&narrowed, &quote)).code, "token");
    assert!(scene.wallet(&other).status().is_ok());
    // Nobody but the owner is the owner.
    let sessions = |token: &str| {
        let head = format!("Host: x\r\nAuthorization: Bearer {token}\r\nConnection: close");
        raw(&scene.socket(), &format!("GET /v1/sessions HTTP/1.1\r\n{head}\r\n\r\n"))
    };
    assert!(sessions(&other).contains("\"code\":\"owner\""));
    let owner = scene.world.farthing(&["wallet", "token"]).ok();
    assert!(sessions(owner.trim()).starts_with("HTTP/1.1 200 "));
    scene.world.farthing(&["wallet", "freeze", "--agent", "other"]).ok();
    let frozen = refused(pay(&scene.wallet(&other), &quote));
    assert_eq!((frozen.status, frozen.code.as_str()), (403, "frozen"));
    let (sold, bought) = scene.payments();
    assert_eq!((sold, bought), (paid.0 + 1, paid.1 + 1));
}

/// A page in a browser reaches this machine under any name its own server likes.
#[tokio::test(flavor = "multi_thread")]
async fn pages_get_nothing_and_neither_does_anybody_elsewhere() {
    let scene = Scene::new(&["--listen", "127.0.0.1:0"]).await;
    let address = scene.daemon.url.strip_prefix("http://").unwrap().to_owned();
    let token = scene.token("bot");
    let status = |more: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!(
            "GET /v1/status HTTP/1.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let host = format!("Host: {address}\r\n");
    assert!(status(&host).starts_with("HTTP/1.1 200 "));
    let port = address.rsplit_once(':').unwrap().1;
    assert!(status(&format!("Host: localhost:{port}\r\n")).starts_with("HTTP/1.1 200 "));
    for page in [
        format!("Host: evil.example:{port}\r\n"),
        "Host: 127.0.0.1\r\n".to_owned(),
        format!("{host}Origin: http://{address}\r\n"),
        format!("{host}Sec-Fetch-Site: same-origin\r\n"),
    ] {
        let answer = status(&page);
        assert!(answer.contains("\"code\":\"browser\""), "{page}: {answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    }
    for elsewhere in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let serve = ["wallet", "serve", "--listen", elsewhere];
        scene.world.farthing(&serve).fails(1, "can be reached from elsewhere");
    }
}

/// What a daemon that died has left does not keep the next one from starting; one that lives does.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_has_one_daemon() {
    let Scene { world, daemon, shop } = Scene::new(&[]).await;
    world.farthing(&["wallet", "serve"]).fails(1, "somebody listens");
    daemon.kill();
    let daemon = world.serve_wallet(&[]);
    let scene = Scene { world, shop, daemon };
    assert!(pay(&scene.owner(), &Request::get(&scene.shop.url("/quote"))).is_ok());
}

/// `farthing pay` by a daemon: with a token, and without a key, a passphrase or a folder.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_pays_by_a_daemon() {
    let scene = Scene::new(&[]).await;
    let (bot, socket) = (scene.token("bot"), scene.socket());
    let by_daemon = |token: &str, args: &[&str]| -> Ended {
        let mut all = vec!["pay"];
        all.extend(args);
        let mut command = scene.world.command(&all);
        command.env_remove("FARTHING_HOME").env_remove("FARTHING_PASSPHRASE").env_remove("HOME");
        command.env("FARTHING_WALLET", &socket).env("FARTHING_AGENT_TOKEN", token);
        run(command, "")
    };
    let quote = scene.shop.url("/quote");
    let shown = by_daemon(&bot, &["--dry-run", &quote]).ok();
    assert!(shown.starts_with("pay         0.25 usd to seller by prepaid/charge"), "{shown}");
    assert_eq!(scene.payments(), (0, 0));
    let paid = by_daemon(&bot, &["-i", "-d", "a=1", &quote]);
    assert!(paid.err.starts_with("farthing: paid 0.25 usd to seller, pay_"), "{}", paid.err);
    assert!(paid.ok().ends_with("POST /quote application/x-www-form-urlencoded  a=1"));
    by_daemon(&bot, &["--max-amount", "0.10 usd", &quote]).fails(3, "the cap is 0.10 usd");
    by_daemon(&bot, &[&scene.shop.url("/report")]).fails(3, "the cap is 0.50 usd");
    by_daemon("fta1_x", &[&quote]).fails(8, "the token is none of this wallet's");
    by_daemon(&bot, &[&scene.shop.url("/nothing")]).fails(6, "404 Not Found");
    by_daemon(&bot, &[&format!("http://{}/", nowhere())]).fails(7, "cannot be reached");
    let careful = scene.token("careful");
    by_daemon(&careful, &["--report", "report.json", &quote]).fails(9, "waits for approval");
    let report: Value = serde_json::from_str(&scene.world.read("report.json")).unwrap();
    assert_eq!(report["code"], "waiting");
    // The owner lets it pass, over the API, and the same command goes through.
    let owner = scene.world.farthing(&["wallet", "token"]).ok();
    let href = report["approval"]["href"].as_str().unwrap();
    let body = "{\"approve\":true}";
    let approved = raw(
        &socket,
        &format!(
            "POST {href} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            owner.trim(),
            body.len()
        ),
    );
    assert!(approved.contains("\"state\":\"approved\""), "{approved}");
    by_daemon(&careful, &[&quote]).ok();
    assert_eq!(scene.payments(), (2, 2));
    scene.daemon.stop();
    by_daemon(&bot, &[&quote]).fails(7, "the wallet cannot be reached");
}

/// A device makes its requests itself, and the wallet signs.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_asks_for_nothing_but_the_signature() {
    let scene = Scene::new(&["--sign-for-others"]).await;
    let client = Client::new(scene.wallet(&scene.token("bot")), Plain);
    let quote = Request::get(&scene.shop.url("/quote"));
    let fetched = client.fetch(&quote).unwrap();
    assert_eq!(fetched.answer.body, b"GET /quote   ");
    assert_eq!(fetched.ending, Some(Ending::Paid));
    let free = client.fetch(&Request::get(&scene.shop.url("/free"))).unwrap();
    assert_eq!((free.answer.status, free.payment), (200, None));
    let post = Request::post(&scene.shop.url("/quote"), [0xff, 0x00]);
    assert!(client.fetch(&post).unwrap().answer.body.starts_with(b"POST /quote"));
    let dear = refused(client.fetch(&Request::get(&scene.shop.url("/report"))));
    assert_eq!(dear.code, "no-offer");
    assert_eq!(scene.payments(), (2, 2));
    // The receipts are kept, and the holds are spent.
    let outstanding = scene.world.farthing(&["wallet", "outstanding", "--json"]).json();
    assert_eq!(outstanding, json!([]));
    let receipts = scene.world.farthing(&["wallet", "receipts", "--json"]).json();
    assert_eq!(receipts.as_array().unwrap().len(), 2);
}

/// A-13: a credential is asked for once for each purchase, is its agent's alone, and is let go by nobody's word.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_stays_held_until_its_end_is_known() {
    let scene = Scene::new(&["--sign-for-others"]).await;
    let (bot, other) = (scene.wallet(&scene.token("bot")), scene.wallet(&scene.token("other")));
    let quote = Request::get(&scene.shop.url("/quote"));
    let sign = |wallet: &Wallet, request: &Request| {
        let challenges = challenges(&request.url);
        assert!(!challenges.is_empty());
        let challenges: Vec<&str> = challenges.iter().map(String::as_str).collect();
        wallet.sign(request, &challenges)
    };
    let first = sign(&bot, &quote).unwrap();
    assert_eq!(first.document["amount"]["text"], "0.25 usd");
    let again = sign(&bot, &quote).unwrap();
    assert_eq!((&again.payment, &again.value), (&first.payment, &first.value));
    let theirs = sign(&other, &quote).unwrap();
    assert_ne!(theirs.payment, first.payment);
    let named = Request { name: Some("the second".to_owned()), ..quote.clone() };
    let second = sign(&bot, &named).unwrap();
    assert_ne!(second.payment, first.payment);
    assert_eq!(scene.payments(), (0, 3));
    assert_eq!(refused(other.conclude(&first.payment, None)).code, "no-payment");
    // Whatever the agent says, 0.50 of its day are held.
    assert_eq!(bot.conclude(&first.payment, None).unwrap(), Ending::Open);
    let no = farthing_wallet_client::Answer { status: 402, fields: Vec::new(), body: Vec::new() };
    assert_eq!(bot.conclude(&second.payment, Some(&no)).unwrap(), Ending::Refused);
    let used = bot.status().unwrap()["budgets"][0]["used"].clone();
    assert_eq!(used, "50");
    let third = |name: &str| Request { name: Some(name.to_owned()), ..quote.clone() };
    sign(&bot, &third("the third")).unwrap();
    assert_eq!(refused(sign(&bot, &third("the fourth"))).code, "no-offer");
    let told = farthing_wallet_client::Answer { status: 200, ..no };
    assert_eq!(bot.conclude(&first.payment, Some(&told)).unwrap(), Ending::Paid);
    assert_eq!(refused(bot.conclude(&first.payment, Some(&told))).code, "no-payment");
    assert_eq!(refused(bot.conclude("pay_x", None)).code, "no-payment");
}

/// The challenges of a seller's 402.
pub(crate) fn challenges(url: &str) -> Vec<String> {
    let place = url.strip_prefix("http://").unwrap();
    let (address, path) = place.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let field = |line: &str| line.strip_prefix("www-authenticate: ").map(str::to_owned);
    text.lines().filter_map(field).collect()
}

/// Signing for others relies on their word, so that it is the owner's to turn on.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_signs_for_others_only_where_it_was_told_to() {
    let scene = Scene::new(&[]).await;
    let client = Client::new(scene.wallet(&scene.token("bot")), Plain);
    let problem = refused(client.fetch(&Request::get(&scene.shop.url("/quote"))));
    assert_eq!((problem.status, problem.code.as_str()), (403, "signs-not"));
    assert_eq!(scene.payments(), (0, 0));
}

/// P-06: a purchase with a name is over once it was answered: whoever lost the answer gets it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_purchase_is_answered_again_and_not_paid_again() {
    let scene = Scene::new(&[]).await;
    let (bot, other) = (scene.token("bot"), scene.token("other"));
    let quote = scene.shop.url("/quote");
    let paid = |token: &str, name: &str| {
        let wallet = scene.wallet(token);
        let named = Request { name: Some(name.to_owned()), ..Request::get(&quote) };
        let (answer, paid) = wallet.pay(&named, &PayOptions::default()).unwrap();
        (answer, paid.unwrap().document)
    };
    let first = paid(&bot, "monday's");
    assert_eq!(paid(&bot, "monday's"), first);
    // A daemon that was started anew knows as well, and so does one beside it.
    let beside = scene.world.serve_wallet(&["--socket", "beside.sock"]);
    let wallet = Wallet::new(At::Unix(scene.world.path("beside.sock")), &bot);
    let named = Request { name: Some("monday's".to_owned()), ..Request::get(&quote) };
    let (answer, again) = wallet.pay(&named, &PayOptions::default()).unwrap();
    assert_eq!((answer, again.unwrap().document), first);
    beside.stop();
    assert_eq!(scene.payments(), (1, 1));
    // Another name and another agent's same name are other purchases.
    assert_ne!(paid(&bot, "tuesday's").1["payment"], first.1["payment"]);
    assert_ne!(paid(&other, "monday's").1["payment"], first.1["payment"]);
    assert_eq!(scene.payments(), (3, 3));
}

/// A daemon that is killed while a payment hangs takes it up again, and pays once.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_pays_no_second_time() {
    let world = World::set_up(nowhere());
    accept(&world);
    let shop = world.serve();
    let daemon = world.serve_wallet(&[]);
    let scene = Scene { world, shop, daemon };
    let bot = scene.token("bot");
    let quote = Request::get(&scene.shop.url("/quote"));
    // The upstream is gone, so that the gateway takes the payment and owes the answer.
    let problem = refused(pay(&scene.wallet(&bot), &quote));
    assert_eq!((problem.status, problem.code.as_str()), (504, "unknown"));
    let payment = problem.document["payment"].as_str().unwrap().to_owned();
    let Scene { world, shop, daemon } = scene;
    daemon.kill();
    let daemon = world.serve_wallet(&[]);
    let scene = Scene { world, shop, daemon };
    let problem = refused(pay(&scene.wallet(&bot), &quote));
    assert_eq!(problem.document["payment"], payment.as_str());
    assert_eq!(scene.payments(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_limits() {
    let scene = Scene::new(&[]).await;
    let token = scene.token("bot");
    let post = |kind: &str, length: usize, body: &str| {
        raw(
            &scene.socket(),
            &format!(
                "POST /v1/pay HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
                 Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    };
    let json = |body: &str| post("application/json", body.len(), body);
    assert!(json("{").contains("\"code\":\"malformed\""));
    assert!(json("{\"url\":\"http://127.0.0.1/\",\"extra\":1}").contains("malformed"));
    assert!(json("{\"url\":\"no\"}").contains("malformed"));
    assert!(json("{\"url\":\"http://shop.example/\"}").contains("\"code\":\"unsafe-url\""));
    for field in ["host", "Authorization", "content-length", "payment-authorization"] {
        let value = if field == "Authorization" { "Payment e30" } else { "1" };
        let body = json!({"url": scene.shop.url("/quote"), "headers": {field: value}});
        assert!(json(&body.to_string()).contains("malformed"), "{field}");
    }
    for text in ["name", "task", "tool"] {
        let body = |length: usize| {
            json!({"url": scene.shop.url("/free"), text: "é".repeat(length)}).to_string()
        };
        assert!(json(&body(257)).contains(&format!("{text} has more than 256")), "{text}");
        assert!(json(&body(256)).starts_with("HTTP/1.1 200 "), "{text}");
    }
    let fields = |many: usize| {
        let fields: serde_json::Map<_, _> =
            (0..many).map(|at| (format!("x-{at}"), "".into())).collect();
        json!({"url": scene.shop.url("/free"), "headers": fields}).to_string()
    };
    assert!(json(&fields(40_000)).contains("more than 100 headers"));
    assert!(json(&fields(90)).starts_with("HTTP/1.1 200 "));
    assert!(post("text/plain", 2, "{}").contains("\"code\":\"media-type\""));
    assert!(post("application/json", 13 * 1024 * 1024, "{").contains("\"code\":\"too-long\""));
    let nothing = raw(&scene.socket(), "GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(nothing.contains("\"code\":\"nothing\""), "{nothing}");
    assert_eq!(scene.payments(), (0, 0));
}
