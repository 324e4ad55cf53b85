//! What waits for approval: on the owner's page, by a webhook, and as the agent is told.

mod browser;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use farthing_wallet_client::{At, PayOptions, Problem, Request, Wallet};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::sync::watch;

use crate::daemon::{payments, refused, token};
use crate::world::{HOOK, Serving, WALLET, World, echo, run, serve};

/// An agent that asks for everything that costs something.
const POLICY: &str = r#"version = "1"

[wallet]
max = { usd = "0.50" }

[agents.careful]
ask_above = { usd = "0.10" }

[[agents.careful.budgets]]
max = { usd = "2" }
per = "day"
"#;

/// A gateway, a wallet whose daemon shows a page, and an agent that has to ask.
struct Scene {
    world: World,
    shop: Serving,
    daemon: Serving,
    agent: Wallet,
}

impl Scene {
    /// With these settings of `[approvals]`, and this policy.
    async fn new(approvals: &str, policy: &str) -> Self {
        let world = World::set_up(echo().await);
        world.write("home/wallet.toml", &format!("{WALLET}\n[approvals]\n{approvals}\n"));
        world.write("home/policy.toml", policy);
        world.farthing(&["policy", "accept"]).ok();
        let shop = world.serve();
        let daemon = world.serve_wallet(&["--page", "127.0.0.1:0"]);
        let agent =
            Wallet::new(At::Unix(world.path("home/wallet.sock")), &token(&world, "careful"));
        Self { world, shop, daemon, agent }
    }

    fn page(&self) -> &str {
        self.daemon.page.as_deref().unwrap()
    }

    fn quote(&self, round: u32) -> Request {
        Request::get(&self.shop.url(&format!("/quote?{round}")))
    }

    /// Asks for a payment that waits, and says how that was told.
    fn park(&self, round: u32) -> Problem {
        let problem = refused(self.agent.pay(&self.quote(round), &PayOptions::default()));
        assert_eq!(problem.code, "waiting", "{}", problem.document);
        problem
    }

    fn pays(&self, round: u32) -> bool {
        self.agent.pay(&self.quote(round), &PayOptions::default()).is_ok()
    }

    fn link(&self) -> String {
        self.world.farthing(&["approvals", "link"]).ok().trim().to_owned()
    }

    fn state(&self, id: &str) -> Value {
        let all = self.world.farthing(&["approvals", "list", "--all", "--json"]).json();
        let all = all.as_array().unwrap().clone();
        all.into_iter().find(|it| it["id"] == id).unwrap_or_else(|| panic!("{id}"))
    }

    /// Waits until a request stands so.
    async fn until(&self, id: &str, state: &str) {
        while self.state(id)["state"] != state {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The decisions in the wallet's book: what was said, and by which rules.
    fn decisions(&self) -> Vec<String> {
        let journal = self.world.farthing(&["ledger", "journal", "--wallet", "--json"]).ok();
        let decided = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            let event = &record["event"];
            let found = [&event["step"]["decided"], &event["payment"]["decision"]];
            let decided = found.into_iter().find(|it| it.is_object())?;
            let rules: Vec<&str> = decided["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap())
                .collect();
            Some(format!("{} {}", decided["ruling"].as_str().unwrap(), rules.join(" ")))
        };
        journal.lines().filter_map(decided).collect()
    }
}

fn id(problem: &Problem) -> String {
    problem.document["approval"]["id"].as_str().unwrap().to_owned()
}

/// What an agent is told says which rule asks, how much is used, where its people answer, and until when; it can
/// wait for the answer; and neither many requests nor the same one many times fill the owner's page.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_why_and_can_wait_but_not_flood() {
    let scene = Scene::new("per_agent_max = 2", POLICY).await;
    let told = scene.park(1);
    let reasons = &told.document["reasons"];
    assert_eq!(reasons[0]["rule"], "agents.careful.ask_above.usd");
    assert_eq!(
        (&reasons[0]["limit"], &reasons[0]["requested"]),
        (&json!("0.10 usd"), &json!("0.25 usd"))
    );
    assert_eq!(reasons[1]["rule"], "agents.careful.budgets[0].max.usd");
    assert_eq!(
        (&reasons[1]["limit"], &reasons[1]["used"], &reasons[1]["requested"]),
        (&json!("200"), &json!("0"), &json!("25"))
    );
    let approval = &told.document["approval"];
    let name = id(&told);
    assert_eq!(approval["link"], format!("{}/approvals/{name}", scene.page()));
    assert!(approval["expiresAt"].is_string());
    // The same request joins the one that waits; another one of another body waits by itself; a third is too many.
    assert_eq!(id(&scene.park(1)), name);
    scene.park(2);
    let flooded = refused(scene.agent.pay(&scene.quote(3), &PayOptions::default()));
    assert_eq!(flooded.document["reasons"][0]["rule"], "approvals.waiting", "{}", flooded.document);
    assert_eq!(id(&scene.park(1)), name);
    let asked = "asked agents.careful.ask_above.usd";
    assert_eq!(scene.decisions(), [asked, asked, "denied approvals.waiting"]);
    // Whoever waits is woken by the answer; nobody else may wait for it.
    let address = scene.world.path("home/wallet.sock");
    let show = |token: String, query: &str| {
        let request = format!(
            "GET /v1/approvals/{name}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        crate::daemon::raw(&address, &request)
    };
    let careful = token(&scene.world, "careful");
    let waits = show(careful.clone(), "?wait=0");
    assert!(waits.contains("\"state\":\"waiting\""), "{waits}");
    let (one, two) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| show(careful.clone(), "?wait=60"));
        scene.world.farthing(&["approvals", "approve", &name]).ok();
        (waiting.join().unwrap(), show(careful.clone(), "?wait=60"))
    });
    for answer in [one, two] {
        assert!(
            answer.contains("\"state\":\"approved\"") && answer.contains("\"by\":[\"agent\"]"),
            "{answer}"
        );
    }
    assert!(show("fta1_x".to_owned(), "?wait=60").starts_with("HTTP/1.1 401 "));
    assert!(scene.pays(1));
    assert_eq!(payments(&scene.world), (1, 1));
    assert_eq!(scene.decisions().last().unwrap(), &format!("allowed {}", &asked[6..]));
    let again = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
    assert_eq!(scene.world.farthing(&again).json()["broken"], json!([]));
}

/// Nobody's answer is no, and a no of somebody's stands in the book as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_and_what_somebody_denies_is_a_decision() {
    let scene = Scene::new("lasts_s = 1", POLICY).await;
    let first = id(&scene.park(1));
    scene.until(&first, "expired").await;
    scene.world.farthing(&["approvals", "approve", &first]).fails(2, "expired");
    scene.world.farthing(&["approvals", "show", &first]).fails(3, "it is expired");
    let asked = "asked agents.careful.ask_above.usd";
    assert_eq!(scene.decisions(), [asked, "denied approvals.expired"]);
    // It may be asked for again, which is another request.
    let second = id(&scene.park(1));
    assert_ne!(first, second);
    scene.world.farthing(&["approvals", "deny", &second]).ok();
    assert!(!scene.pays(1));
    let after = ["denied approvals.expired", asked, "denied approvals.denied"];
    assert_eq!(scene.decisions()[1..4], after);
    assert_eq!(payments(&scene.world), (0, 0));
    let again = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
    assert_eq!(scene.world.farthing(&again).json()["broken"], json!([]));
    scene.world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

// --- the page, by its forms ----------------------------------------------------------------------

/// A browser of few words: it keeps one cookie, and says of itself what it is told to.
struct Forms<'a> {
    scene: &'a Scene,
    client: reqwest::Client,
    cookie: Mutex<String>,
}

struct Page {
    status: u16,
    fields: reqwest::header::HeaderMap,
    text: String,
}

impl Page {
    /// The value of the hidden field of a form.
    fn seal(&self, id: &str) -> String {
        let (_, card) = self.text.split_once(&format!("id=\"{id}\"")).expect("it is shown");
        let (_, rest) = card.split_once("name=\"seal\" value=\"").expect("it has a form");
        rest.split_once('"').unwrap().0.to_owned()
    }
}

impl<'a> Forms<'a> {
    fn new(scene: &'a Scene) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { scene, client: client.build().unwrap(), cookie: Mutex::default() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let cookie = self.cookie.lock().unwrap().clone();
        let answer = request.header("cookie", cookie).send().await.unwrap();
        if let Some(set) = answer.headers().get("set-cookie") {
            let set = set.to_str().unwrap().split_once(';').unwrap().0.to_owned();
            *self.cookie.lock().unwrap() = set;
        }
        let (status, fields) = (answer.status().as_u16(), answer.headers().clone());
        Page { status, fields, text: answer.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Page {
        self.send(self.client.get(format!("{}{path}", self.scene.page()))).await
    }

    /// Sends a form, as pages of `origin` do.
    async fn post_from(&self, origin: Option<&str>, path: &str, form: &[(&str, &str)]) -> Page {
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.post(format!("{}{path}", self.scene.page()));
        request = request.header("content-type", "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        self.send(request.body(body.join("&"))).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        self.post_from(Some(self.scene.page()), path, form).await
    }

    /// Opens a link: the path of the session.
    async fn open(&self, link: &str) -> String {
        let path = link.strip_prefix(self.scene.page()).unwrap();
        assert_eq!(self.get(path).await.status, 200);
        let entered = self.post(path, &[]).await;
        assert_eq!(entered.status, 303, "{}", entered.text);
        entered.fields["location"].to_str().unwrap().to_owned()
    }
}

/// The page is opened by its own link, once, and by no token; forms are good for what they are of; and whatever
/// comes from elsewhere is answered nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_the_owners_and_a_form_is_for_what_it_shows() {
    let scene = Scene::new("", POLICY).await;
    let (one, two) = (id(&scene.park(1)), id(&scene.park(2)));
    let forms = Forms::new(&scene);
    let stub = forms.get(&format!("/approvals/{one}")).await;
    assert!(stub.status == 401 && stub.text.contains("approvals link"), "{}", stub.text);
    assert!(!stub.text.contains("0.25"), "what waits is nobody's business: {}", stub.text);
    for nobody in ["/desk/0000", "/open/0000", "/answer/x", &format!("/answer/{one}?signature=00")]
    {
        assert!([401, 403].contains(&forms.get(nobody).await.status), "{nobody}");
    }
    let link = scene.link();
    let desk = forms.open(&link).await;
    let path = link.strip_prefix(scene.page()).unwrap();
    assert_eq!(forms.get(path).await.status, 401, "it was opened");
    assert_eq!(forms.post(path, &[]).await.status, 401);
    let list = forms.get(&desk).await;
    assert_eq!(list.status, 200);
    let policy = list.fields["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
    assert_eq!(
        (list.fields["cache-control"].as_ref(), list.fields["x-frame-options"].as_ref()),
        (b"no-store".as_ref(), b"DENY".as_ref())
    );
    for text in [
        "0.25 usd",
        "seller",
        "GET /quote",
        "careful",
        "agents.careful.ask_above.usd",
        "0.00 usd of 2.00 usd",
    ] {
        assert!(list.text.contains(text), "{text}: {}", list.text);
    }
    let (seal, other) = (list.seal(&one), list.seal(&two));
    let answer = format!("{desk}/approvals/{one}");
    let approve = [("seal", seal.as_str()), ("answer", "approve")];
    // Forms of others, of other requests, and of nobody.
    for (origin, form) in [
        (Some("http://127.0.0.1:1"), approve.as_slice()),
        (Some("https://evil.example"), &approve),
        (Some("null"), &approve),
        (None, &approve),
        (Some(scene.page()), &[("seal", other.as_str()), ("answer", "approve")]),
        (Some(scene.page()), &[("answer", "approve")]),
        (Some(scene.page()), &[("seal", seal.as_str())]),
        (Some(scene.page()), &[("seal", seal.as_str()), ("answer", "perhaps")]),
    ] {
        let refused = forms.post_from(origin, &answer, form).await;
        assert_eq!(refused.status, 403, "{origin:?} {form:?}: {}", refused.text);
    }
    // Other hosts that lead here, other sites that ask, and no cookie.
    let elsewhere =
        forms.client.get(format!("{}{desk}", scene.page())).header("host", "evil.example");
    assert_eq!(forms.send(elsewhere).await.status, 403);
    let framed =
        forms.client.get(format!("{}{desk}", scene.page())).header("sec-fetch-site", "same-site");
    assert_eq!(forms.send(framed).await.status, 403);
    let cookie = std::mem::take(&mut *forms.cookie.lock().unwrap());
    assert_eq!(forms.post(&answer, &approve).await.status, 401);
    *forms.cookie.lock().unwrap() = cookie;
    assert_eq!(
        (scene.state(&one)["state"].clone(), payments(&scene.world)),
        (json!("waiting"), (0, 0))
    );
    // The very form, of the very page.
    let approved = forms.post(&answer, &approve).await;
    assert_eq!(
        (approved.status, approved.fields["location"].to_str().unwrap()),
        (303, answer.as_str())
    );
    let again = forms.post(&answer, &approve).await;
    assert!(again.status == 409 && again.text.contains("answered already"), "{}", again.text);
    assert!(scene.pays(1));
    let denied = [("seal", other.as_str()), ("answer", "deny")];
    assert_eq!(forms.post(&format!("{desk}/approvals/{two}"), &denied).await.status, 303);
    assert!(!scene.pays(2));
    // Used is used, whatever an old tab says.
    let late = forms.post(&answer, &[("seal", &seal), ("answer", "deny")]).await;
    assert!(late.status == 409 && late.text.contains("it is used"), "{}", late.text);
    assert_eq!(payments(&scene.world), (1, 1));
    assert_eq!(forms.post(&format!("{desk}/leave"), &[]).await.status, 200);
    assert_eq!(forms.get(&desk).await.status, 401, "whoever has left is outside");
    let (_, log) = scene.daemon.stop();
    assert!(!log.contains("/open/") && !log.contains(&desk), "no link is in a log: {log}");
    scene.world.farthing(&["approvals", "link"]).fails(2, "no page is served");
}

/// Where the policy asks for two, two have to answer, each by a link of their own.
#[tokio::test(flavor = "multi_thread")]
async fn two_approvers_answer_each_by_a_link_of_their_own() {
    let policy = format!("approvers = [\"agent\", \"bob\"]\n{POLICY}")
        .replace("ask_above = { usd = \"0.10\" }", "ask_above = { usd = \"0.10\" }\napprovals = 2");
    let scene = Scene::new("", &policy).await;
    let bobs = "0808080808080808080808080808080808080808080808080808080808080808";
    for name in ["bob", "eve"] {
        scene.world.farthing_with(&["wallet", "import", name], bobs).ok();
    }
    let asked = id(&scene.park(1));
    let link = |name: &str| {
        scene.world.farthing(&["approvals", "link", "--by", name]).ok().trim().to_owned()
    };
    let mut wrong = scene.world.command(&["approvals", "link", "--by", "bob"]);
    wrong.env("FARTHING_PASSPHRASE", "wrong");
    run(wrong, "").fails(8, "passphrase");
    let agents = Forms::new(&scene);
    let desk = agents.open(&link("agent")).await;
    let answer = format!("{desk}/approvals/{asked}");
    let seal = agents.get(&answer).await.seal(&asked);
    let approve = [("seal", seal.as_str()), ("answer", "approve")];
    assert_eq!(agents.post(&answer, &approve).await.status, 303);
    let twice = agents.post(&answer, &approve).await;
    assert!(twice.status == 409 && twice.text.contains("approved it already"), "{}", twice.text);
    scene.park(1);
    let eves = Forms::new(&scene);
    let desk = eves.open(&link("eve")).await;
    let seen = eves.get(&desk).await.text;
    assert!(
        seen.contains("eve is none of the policy") && !seen.contains("name=\"seal\""),
        "{seen}"
    );
    let bobs = Forms::new(&scene);
    let desk = bobs.open(&link("bob")).await;
    let answer = format!("{desk}/approvals/{asked}");
    let seal = bobs.get(&answer).await.seal(&asked);
    assert_eq!(bobs.post(&answer, &[("seal", &seal), ("answer", "approve")]).await.status, 303);
    assert!(scene.pays(1));
    assert_eq!(scene.state(&asked)["by"], json!(["agent", "bob"]));
    assert_eq!(payments(&scene.world), (1, 1));
}

// --- the webhook ---------------------------------------------------------------------------------

type Arrived = Vec<(String, Value, u16)>;

/// Somebody who is told, and believes only what is signed.
struct Receiver {
    address: SocketAddr,
    answer: Arc<Mutex<u16>>,
    arrived: Arc<watch::Sender<Arrived>>,
}

impl Receiver {
    async fn open(status: u16) -> Self {
        let answer = Arc::new(Mutex::new(status));
        let arrived = Arc::new(watch::channel(Vec::new()).0);
        let (how, log) = (Arc::clone(&answer), Arc::clone(&arrived));
        let router = axum::Router::new().fallback(async move |fields: HeaderMap, body: Bytes| {
            Webhook::new(HOOK).unwrap().verify(&body, &fields).expect("it is signed");
            let status = *how.lock().unwrap();
            let id = fields["webhook-id"].to_str().unwrap().to_owned();
            let said = serde_json::from_slice(&body).unwrap();
            log.send_modify(|log: &mut Arrived| log.push((id, said, status)));
            StatusCode::from_u16(status).unwrap()
        });
        Self { address: serve(router).await, answer, arrived }
    }

    async fn until(&self, enough: impl Fn(&Arrived) -> bool) -> Arrived {
        self.arrived.subscribe().wait_for(enough).await.unwrap().clone()
    }
}

/// What is asked and decided is told, signed, until it is taken; whoever is told may answer once, by the link
/// that is in the message and good for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_and_answers_once() {
    let receiver = Receiver::open(503).await;
    let setting = format!(
        "page = \"127.0.0.1:0\"\nwebhook = \"http://{}/asked\"\nwebhook_secret = \"file:hook.secret\"\n\
         webhook_answers = true",
        receiver.address
    );
    let world = World::set_up(echo().await);
    world.write("home/wallet.toml", &format!("{WALLET}\n[approvals]\n{setting}\n"));
    world.write("home/policy.toml", POLICY);
    world.farthing(&["policy", "accept"]).ok();
    world.farthing(&["wallet", "serve"]).fails(2, "the file cannot be read");
    world.write("home/hook.secret", HOOK);
    let shop = world.serve();
    let daemon = world.serve_wallet(&[]);
    let agent = Wallet::new(At::Unix(world.path("home/wallet.sock")), &token(&world, "careful"));
    let scene = Scene { world, shop, daemon, agent };
    let (one, two) = (id(&scene.park(1)), id(&scene.park(2)));
    // What is not taken is told again, under the same name and in the same words; also over a crash.
    let count = |arrived: &Arrived, event: &str| arrived.iter().filter(|it| it.0 == event).count();
    let asked = format!("evt_{one}_requested");
    receiver.until(|arrived| count(arrived, &asked) == 1).await;
    let Scene { world, shop, daemon, agent } = scene;
    daemon.kill();
    *receiver.answer.lock().unwrap() = 200;
    let daemon = world.serve_wallet(&[]);
    let scene = Scene { world, shop, daemon, agent };
    let was_taken = |it: &(String, Value, u16)| it.0 == asked && it.2 == 200;
    let arrived = receiver.until(|arrived| arrived.iter().any(was_taken)).await;
    let first = &arrived.iter().find(|it| it.0 == asked).unwrap().1;
    let taken = &arrived.iter().find(|it| was_taken(it)).unwrap().1;
    let facts = &taken["data"];
    assert_eq!((&first["type"], &first["timestamp"]), (&taken["type"], &taken["timestamp"]));
    assert_eq!((&taken["type"], &facts["approval"]), (&json!("approval.requested"), &json!(one)));
    assert_eq!(facts["amount"], json!({ "asset": "usd", "atoms": "25", "text": "0.25 usd" }));
    assert_eq!((&facts["recipient"], &facts["agent"]), (&json!("seller"), &json!("careful")));
    assert_eq!(facts["reasons"][0]["limit"], "0.10 usd");
    let link = facts["links"]["answer"].as_str().unwrap().to_owned();
    let client = reqwest::Client::new();
    let answer = |link: String, form: &'static str| {
        let request = client
            .post(link)
            .body(form)
            .header("content-type", "application/x-www-form-urlencoded");
        async move { request.send().await.unwrap().status().as_u16() }
    };
    // Looking answers nothing, a link is for its own request, and it answers once.
    assert_eq!(client.get(&link).send().await.unwrap().status().as_u16(), 200);
    assert_eq!(answer(link.replace(&one, &two), "answer=approve").await, 403);
    assert_eq!(answer(format!("{link}0"), "answer=approve").await, 403);
    let from = client.post(&link).header("origin", "https://evil.example").body("answer=approve");
    assert_eq!(from.send().await.unwrap().status().as_u16(), 403);
    assert_eq!(scene.state(&one)["state"], "waiting");
    assert_eq!(answer(link.clone(), "answer=approve").await, 200);
    assert_eq!(answer(link.clone(), "answer=approve").await, 409);
    let decided = format!("evt_{one}_approved");
    let arrived = receiver.until(|arrived| count(arrived, &decided) > 0).await;
    let said = &arrived.iter().find(|it| it.0 == decided).unwrap().1;
    assert_eq!(said["type"], "approval.decided");
    assert_eq!(
        (&said["data"]["decision"]["outcome"], &said["data"]["decision"]["by"]),
        (&json!("approved"), &json!(["agent"]))
    );
    assert!(said["data"]["links"].is_null(), "there is nothing more to answer");
    // What the command line answers is told too.
    scene.world.farthing(&["approvals", "deny", &two]).ok();
    receiver.until(|arrived| count(arrived, &format!("evt_{two}_denied")) > 0).await;
    assert!(scene.pays(1) && !scene.pays(2));
    assert_eq!(payments(&scene.world), (1, 1));
    let (_, log) = scene.daemon.stop();
    assert!(!log.contains("signature="), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_settings_is_said() {
    let world = World::set_up(echo().await);
    let check = |approvals: &str, expected: &str| {
        world.write("home/wallet.toml", &format!("{WALLET}\n[approvals]\n{approvals}\n"));
        world.farthing(&["wallet", "serve"]).fails(2, expected);
    };
    check("page = \"0.0.0.0:4042\"", "for this machine");
    check("lasts_s = 0", "lasts_s is between");
    check("webhook = \"ftp://x\"", "https URL");
    check("webhook = \"http://example.com/\"\nwebhook_secret = \"env:HOOK\"", "use https");
    check("webhook = \"https://example.com/\"", "webhook_secret says where");
    check(
        "webhook = \"https://example.com/\"\nwebhook_secret = \"whsec_x\"",
        "webhook_secret says where",
    );
    check("webhook_secret = \"env:HOOK\"", "webhook says where to send");
    check(
        "webhook = \"https://example.com/\"\nwebhook_secret = \"env:HOOK\"\nwebhook_answers = true",
        "needs a page",
    );
    check(
        "webhook = \"https://example.com/\"\nwebhook_secret = \"env:SECRET\"",
        "whsec_ and base64",
    );
}
