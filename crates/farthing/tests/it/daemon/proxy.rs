//! Programs that know nothing of payments, through the proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use serde_json::Value;
use tokio::sync::Notify;

use crate::daemon::{Scene, accept, payments, token};
use crate::world::{Ended, World, echo, gateway_toml, run, serve};

/// A daemon with a proxy, and the proxy's address for an agent.
async fn scene() -> (Scene, String) {
    let scene = Scene::new(&["--proxy", "127.0.0.1:0"]).await;
    let address = through(&scene, &scene.token("bot"));
    (scene, address)
}

fn through(scene: &Scene, token: &str) -> String {
    let proxy = scene.daemon.proxy.as_ref().unwrap();
    proxy.replace("http://", &format!("http://agent:{token}@"))
}

/// curl, which knows nothing but the variables that everybody knows.
fn curl(proxy: &str, args: &[&str]) -> Ended {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60"]).args(args);
    curl.env_remove("no_proxy").env_remove("NO_PROXY");
    curl.env("http_proxy", proxy).env("https_proxy", proxy);
    captured(curl)
}

fn python(proxy: &str, script: &str, args: &[&str]) -> Ended {
    let mut python = Command::new("python3");
    python.args(["-c", script]).args(args);
    python.env_remove("no_proxy").env_remove("NO_PROXY");
    python.env("HTTP_PROXY", proxy).env("HTTPS_PROXY", proxy);
    captured(python)
}

fn captured(mut command: Command) -> Ended {
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(command, "")
}

/// The status and the body of what curl is asked to fetch.
fn fetched(ended: Ended) -> (u16, String) {
    let out = ended.ok();
    let (body, status) = out.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

const STATUS: [&str; 2] = ["-w", "\n%{http_code}"];

fn code(body: &str) -> String {
    let problem: Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_pays_without_knowing() {
    let (scene, proxy) = scene().await;
    let quote = scene.shop.url("/quote?by=curl");
    let paid = curl(&proxy, &["-i", &quote]).ok();
    assert!(paid.starts_with("HTTP/1.1 200 OK"), "{paid}");
    assert!(
        paid.contains("farthing-payment: pay_") && paid.contains("payment-receipt: "),
        "{paid}"
    );
    assert!(paid.ends_with("GET /quote?by=curl   "), "{paid}");
    let posted = curl(&proxy, &["-H", "X-Agent: me", "-d", "a=1", &scene.shop.url("/quote")]).ok();
    assert_eq!(posted, "POST /quote application/x-www-form-urlencoded me a=1");
    let free = curl(&proxy, &["-i", &scene.shop.url("/free")]).ok();
    assert!(free.ends_with("GET /free   ") && !free.contains("farthing-payment"), "{free}");
    assert_eq!(scene.payments(), (2, 2));
    let outstanding = scene.world.farthing(&["wallet", "outstanding", "--json"]).json();
    assert_eq!(outstanding, serde_json::json!([]));
}

/// The standard library of Python, both ways that it has.
#[tokio::test(flavor = "multi_thread")]
async fn python_pays_without_knowing() {
    let (scene, proxy) = scene().await;
    let urllib =
        "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let paid = python(&proxy, urllib, &[&scene.shop.url("/quote")]).ok();
    assert_eq!(paid.trim_end(), "GET /quote");
    let http_client = "
import sys, base64, http.client, urllib.parse
proxy = urllib.parse.urlsplit(sys.argv[1])
shown = base64.b64encode((proxy.username + ':' + proxy.password).encode()).decode()
connection = http.client.HTTPConnection(proxy.hostname, proxy.port)
for path in ('/quote?1', '/free', '/quote?2'):
    connection.request('POST' if 'quote' in path else 'GET', sys.argv[2] + path,
                       body='b' if 'quote' in path else None, headers={'Proxy-Authorization': 'Basic ' + shown})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode().strip())
";
    let paid = python(&proxy, http_client, &[&proxy, &scene.shop.url]).ok();
    assert_eq!(paid, "200 POST /quote?1   b\n200 GET /free\n200 POST /quote?2   b\n");
    assert_eq!(scene.payments(), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_without_leave() {
    let (scene, proxy) = scene().await;
    let quote = scene.shop.url("/quote");
    let fetch = |proxy: &str, args: &[&str]| {
        let mut all = STATUS.to_vec();
        all.extend(args);
        fetched(curl(proxy, &all))
    };
    let free = scene.shop.url("/free");
    // Without a token there is no way through, not even to what is free.
    let bare = scene.daemon.proxy.clone().unwrap();
    for wrong in [bare, through(&scene, "fta1_x"), through(&scene, "")] {
        let (status, body) = fetch(&wrong, &[&free]);
        assert_eq!((status, code(&body).as_str()), (407, "token"));
        let tunnel = curl(&wrong, &["-p", &free]);
        assert_ne!(tunnel.code, 0, "{tunnel:?}");
    }
    let (status, body) = fetch(&proxy, &[&scene.shop.url("/report")]);
    assert_eq!((status, code(&body).as_str()), (403, "no-offer"));
    let careful = through(&scene, &scene.token("careful"));
    let (status, body) = fetch(&careful, &[&quote]);
    assert_eq!((status, code(&body).as_str()), (403, "waiting"));
    let id = serde_json::from_str::<Value>(&body).unwrap()["approval"]["id"].clone();
    assert_eq!(scene.payments(), (0, 0));
    scene.world.farthing(&["approvals", "approve", id.as_str().unwrap()]).ok();
    assert_eq!(fetch(&careful, &[&quote]).0, 200);
    for _ in 0..3 {
        assert_eq!(fetch(&proxy, &[&quote]).0, 200);
    }
    // The day's budget is used up.
    let (status, body) = fetch(&proxy, &[&quote]);
    assert_eq!((status, code(&body).as_str()), (403, "no-offer"));
    assert!(body.contains("\"rule\":\"agents.bot.budgets[0].max.usd\""), "{body}");
    let other = through(&scene, &scene.token("other"));
    scene.world.farthing(&["wallet", "freeze"]).ok();
    let (status, body) = fetch(&other, &[&quote]);
    assert_eq!((status, code(&body).as_str()), (403, "frozen"));
    assert_eq!(fetch(&other, &[&free]).0, 200);
    scene.world.farthing(&["wallet", "unfreeze"]).ok();
    assert_eq!(fetch(&other, &[&quote]).0, 200);
    assert_eq!(scene.payments(), (5, 5));
}

/// Requests for the same thing at the same time are as many purchases, and each has an answer.
#[tokio::test(flavor = "multi_thread")]
async fn many_programs_pay_at_once() {
    let (scene, proxy) = scene().await;
    let quote = scene.shop.url("/quote");
    let fetching: Vec<_> = (0..3)
        .map(|_| {
            let (proxy, quote) = (proxy.clone(), quote.clone());
            std::thread::spawn(move || curl(&proxy, &["-f", &quote]).ok())
        })
        .collect();
    for fetched in fetching {
        assert_eq!(fetched.join().unwrap().trim_end(), "GET /quote");
    }
    assert_eq!(scene.payments(), (3, 3));
}

/// What is said to the proxy's own address, or to those that only speak to their own machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_no_way_into_this_machine() {
    let scene = Scene::new(&["--proxy", "127.0.0.1:0", "--listen", "127.0.0.1:0"]).await;
    let proxy = through(&scene, &scene.token("bot"));
    let own = scene.daemon.proxy.clone().unwrap();
    let api = scene.daemon.url("/v1/status");
    for wrong in [
        own.as_str(),
        api.as_str(),
        &*api.replace("127.0.0.1", "localhost"),
        &*api.replace("127.0.0.1", "127.1.2.3"),
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
    ] {
        let (status, body) = fetched(curl(&proxy, &[STATUS[0], STATUS[1], wrong]));
        assert_eq!((status, code(&body).as_str()), (403, "off-limits"), "{wrong}");
        // The same through a tunnel.
        let tunnel = curl(&proxy, &["-p", wrong]);
        assert!(tunnel.err.contains("403"), "{wrong}: {tunnel:?}");
    }
    let (status, _) = fetched(curl(&proxy, &[STATUS[0], STATUS[1], &scene.shop.url("/free")]));
    assert_eq!(status, 200);
}

/// What two readers could disagree about is for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_through() {
    let (scene, _) = scene().await;
    let token = scene.token("bot");
    let free = scene.shop.url("/free");
    let host = scene.shop.url.strip_prefix("http://").unwrap().to_owned();
    let proxy = scene.daemon.proxy.as_ref().unwrap().strip_prefix("http://").unwrap().to_owned();
    let say = |first: &str, fields: &str, body: &str| {
        let mut stream = TcpStream::connect(&proxy).unwrap();
        let head = format!(
            "{first} HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\nConnection: close\r\n{fields}\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        // Whoever is refused may be cut off.
        let _ = stream.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let ok = format!("GET {free}");
    let ok = ok.as_str();
    assert!(say(ok, &format!("Host: {host}\r\n"), "").contains(" 200 "));
    for (first, fields, body) in [
        (ok, String::new(), ""),
        (ok, "Host: other.example\r\n".to_owned(), ""),
        (ok, format!("Host: {host}\r\nHost: {host}\r\n"), ""),
        ("GET /free", format!("Host: {host}\r\n"), ""),
        ("GET https://127.0.0.1/free", "Host: 127.0.0.1\r\n".to_owned(), ""),
        (ok, format!("Host: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n"), "ab"),
        (ok, format!("Host: {host}\r\nTransfer-Encoding: gzip, identity\r\n"), ""),
        (ok, format!("Host: {host}\r\nX : y\r\n"), ""),
        (ok, format!("Host: {host}\r\nX: a\r\n folded\r\n"), ""),
    ] {
        let answer = say(first, &fields, body);
        assert!(answer.contains(" 400 "), "{first}\n{fields}: {answer}");
    }
}

/// What costs nothing is handed on as it comes: the first part is here before the second is made.
#[tokio::test(flavor = "multi_thread")]
async fn free_answers_are_streamed() {
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let router = axum::Router::new().fallback(move || {
        let waiting = Arc::clone(&waiting);
        async move { Body::new(Slow { waiting, said: 0 }) }
    });
    let upstream = serve(router).await;
    let world = World::set_up(upstream);
    accept(&world);
    let daemon = world.serve_wallet(&["--proxy", "127.0.0.1:0"]);
    let proxy = daemon.proxy.as_ref().unwrap().strip_prefix("http://").unwrap().to_owned();
    let token = token(&world, "bot");
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(proxy).unwrap();
        let request = format!(
            "GET http://{upstream}/ HTTP/1.1\r\nHost: {upstream}\r\nProxy-Authorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines();
        let first = lines.any(|line| line.unwrap() == "first");
        go_on.notify_one();
        (first, lines.any(|line| line.unwrap() == "second"))
    });
    assert_eq!(read.await.unwrap(), (true, true));
    assert_eq!(payments(&world), (0, 0));
}

/// A body whose second part comes when it is told to.
struct Slow {
    waiting: Arc<Notify>,
    said: u8,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        use std::task::Poll;
        let part = match self.said {
            0 => "first\n",
            1 => {
                let waiting = Arc::clone(&self.waiting);
                let is_told = std::pin::pin!(waiting.notified()).poll(context).is_ready();
                // The permit is kept: whoever was told before asks again.
                if !is_told {
                    let waker = context.waker().clone();
                    tokio::spawn(async move {
                        waiting.notified().await;
                        waiting.notify_one();
                        waker.wake();
                    });
                    return Poll::Pending;
                }
                "second\n"
            }
            _ => return Poll::Ready(None),
        };
        self.said += 1;
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}

/// A gateway that speaks TLS as `localhost`, and a wallet that trusts its certificate.
async fn tls_scene() -> (World, crate::world::Serving) {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    accept(&world);
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    world.write("shop.pem", &certified.cert.pem());
    world.write("shop.key", &certified.signing_key.serialize_pem());
    let tls = "tls = { certificate = \"shop.pem\", key = \"shop.key\" }";
    let config =
        gateway_toml(upstream, tls).replace("realm = \"127.0.0.1\"", "realm = \"localhost\"");
    world.write("farthing.toml", &config);
    let mut shop = world.serve();
    shop.url = shop.url.replace("http://127.0.0.1", "https://localhost");
    (world, shop)
}

fn serve_trusting(world: &World, args: &[&str]) -> crate::world::Serving {
    let mut all = vec!["wallet", "serve", "--proxy", "127.0.0.1:0"];
    all.extend(args);
    let mut command = world.command(&all);
    command.env("SSL_CERT_FILE", world.path("shop.pem"));
    World::serve_by(command)
}

/// By default a tunnel is bytes: the program speaks to the seller itself, and nobody pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_not_read() {
    let (world, shop) = tls_scene().await;
    let daemon = serve_trusting(&world, &[]);
    let proxy = daemon.proxy.as_ref().unwrap();
    let proxy = proxy.replace("http://", &format!("http://agent:{}@", token(&world, "bot")));
    let certificate = world.path("shop.pem");
    let trusting = ["--cacert", certificate.to_str().unwrap()];
    let free = curl(&proxy, &[trusting[0], trusting[1], &shop.url("/free")]).ok();
    assert_eq!(free.trim_end(), "GET /free");
    let args = [trusting[0], trusting[1], STATUS[0], STATUS[1], &shop.url("/quote")];
    assert_eq!(fetched(curl(&proxy, &args)).0, 402);
    assert_eq!(payments(&world), (0, 0));
}

/// With an authority that the owner has made, for hosts that the owner has named, HTTPS pays as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_host_is_read_and_paid() {
    let (world, shop) = tls_scene().await;
    let intercept = ["--intercept", "localhost"];
    let serve = ["wallet", "serve", "--proxy", "127.0.0.1:0", "--intercept", "localhost"];
    world.farthing(&serve).fails(2, "farthing wallet ca create");
    let told = world.farthing(&["wallet", "ca", "create", "--host", "localhost"]);
    assert!(told.err.contains("is good for localhost until"), "{}", told.err);
    told.ok();
    let other = ["wallet", "serve", "--proxy", "127.0.0.1:0", "--intercept", "bank.example"];
    world.farthing(&other).fails(2, "not for bank.example");
    // The key stands nowhere in the clear.
    assert!(!crate::world::any_file_contains(&world.path("home"), b"PRIVATE KEY"));
    let daemon = serve_trusting(&world, &intercept);
    let proxy = daemon.proxy.as_ref().unwrap();
    let bot = proxy.replace("http://", &format!("http://agent:{}@", token(&world, "bot")));
    let authority = world.path("home/ca.pem");
    let trusting = ["--cacert", authority.to_str().unwrap()];
    let quote = shop.url("/quote");
    let paid = curl(&bot, &["-i", trusting[0], trusting[1], "-d", "a=1", &quote]).ok();
    assert!(paid.contains("farthing-payment: pay_"), "{paid}");
    assert!(paid.ends_with("POST /quote application/x-www-form-urlencoded  a=1"), "{paid}");
    let free = curl(&bot, &[trusting[0], trusting[1], &shop.url("/free")]).ok();
    assert_eq!(free.trim_end(), "GET /free");
    let script = "
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
handlers = (urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler())
print(urllib.request.build_opener(*handlers).open(sys.argv[2]).read().decode())
";
    let by_python = python(&bot, script, &[authority.to_str().unwrap(), &quote]).ok();
    assert_eq!(by_python.trim_end(), "GET /quote");
    assert_eq!(payments(&world), (2, 2));
    // A program that was not told to trust the authority is not read.
    let stranger = curl(&bot, &["--cacert", world.path("shop.pem").to_str().unwrap(), &quote]);
    assert_ne!(stranger.code, 0, "{stranger:?}");
    // Within a tunnel, the token and the host that it was opened with hold.
    let args = [trusting[0], trusting[1], STATUS[0], STATUS[1], "-H", "Host: bank.example", &quote];
    let (status, body) = fetched(curl(&bot, &args));
    assert_eq!((status, code(&body).as_str()), (400, "malformed"));
    world.farthing(&["wallet", "freeze"]).ok();
    let args = [trusting[0], trusting[1], STATUS[0], STATUS[1], &quote];
    let (status, body) = fetched(curl(&bot, &args));
    assert_eq!((status, code(&body).as_str()), (403, "frozen"));
    assert_eq!(payments(&world), (2, 2));
    world.farthing(&["wallet", "ca", "remove"]).ok();
    world.farthing(&serve).fails(2, "farthing wallet ca create");
}
