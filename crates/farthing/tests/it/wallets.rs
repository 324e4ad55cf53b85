//! Two daemons of one wallet, on one book in PostgreSQL: they spend one budget, and whichever is killed, wherever
//! it is, nothing is paid twice and no atom too much.
//!
//! Agents pay through both. Between the daemons and the gateway stands a toll that holds one request at one step
//! of its way and has the daemon killed there that made it; whoever waited asks the other daemon for the same
//! purchase, and the one that was killed comes back. The books of the wallet and of the seller are then held
//! against what the agents were told.
//!
//! `./x crash --store wallet --runs N` goes through each step N times; otherwise it is once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use farthing_testkit::postgres::Cluster;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::policy::issue;
use crate::world::{Serving, WALLET, World, echo, serve};

/// How many agents there are, and how many purchases the budget holds: too few for half of the last ones.
const AGENTS: usize = 8;
const HELD: usize = AGENTS * STEPS.len() - AGENTS / 2;

/// Where on its way a daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It asks for the price; nothing is held.
    Asks,
    /// It has held, signed and remembered, and presents.
    Presents,
    /// The seller has taken it, and the answer has not arrived.
    Taken,
    /// The answer has arrived, and may be written down or not.
    Answered,
}

const STEPS: [Step; 4] = [Step::Asks, Step::Presents, Step::Taken, Step::Answered];

/// How often each step is gone through.
fn runs() -> usize {
    std::env::var("FARTHING_CRASH_RUNS").map_or(1, |runs| runs.parse().unwrap())
}

/// Asks for a daemon to be killed, and says when it was.
type Kill = (usize, oneshot::Sender<()>);

/// What stands between the daemons and the gateway.
#[derive(Clone)]
struct Toll {
    gateway: SocketAddr,
    armed: Arc<Mutex<Option<Step>>>,
    kills: mpsc::UnboundedSender<Kill>,
}

impl Toll {
    /// Has the daemon killed that made a request, if that is to happen at this step.
    async fn reach(&self, step: Step, daemon: usize) {
        let is_here = {
            let mut armed = self.armed.lock().unwrap();
            let is_here = *armed == Some(step);
            if is_here {
                *armed = None;
            }
            is_here
        };
        if is_here {
            let (killed, is_killed) = oneshot::channel();
            self.kills.send((daemon, killed)).unwrap();
            let _ = is_killed.await;
        }
    }

    async fn pass(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path_and_query().unwrap().to_string();
        // Whoever asks first names the daemon it asks through; the other keeps the name, to ask for the same.
        let daemon = usize::from(path.ends_with("via=1"));
        let is_paying = request.headers().contains_key("authorization");
        self.reach(if is_paying { Step::Presents } else { Step::Asks }, daemon).await;
        let url = format!("http://{}{path}", self.gateway);
        let mut forwarded = reqwest::Client::new().get(url);
        for (name, value) in request.headers() {
            if name != "host" {
                forwarded = forwarded.header(name, value);
            }
        }
        let answer = forwarded.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != "transfer-encoding" && name != "content-length" {
                response = response.header(name, value);
            }
        }
        let is_sold = answer.status().is_success();
        let body = answer.bytes().await.unwrap();
        if is_sold {
            self.reach(Step::Taken, daemon).await;
            let toll = self.clone();
            tokio::spawn(async move { toll.reach(Step::Answered, daemon).await });
        }
        response.body(Body::from(body)).unwrap()
    }
}

/// What an agent was told in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Paid(String),
    Denied,
}

/// One agent, which wants one purchase and does not give up.
async fn agent(apis: Arc<Mutex<[String; 2]>>, token: String, url: String, first: usize) -> Told {
    let http = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
    for attempt in 0..600 {
        let api = apis.lock().unwrap()[(first + attempt) % 2].clone();
        let purchase = json!({ "url": url, "name": url }).to_string();
        let asked = http.post(format!("{api}/v1/pay")).bearer_auth(&token);
        let asked = asked.header("content-type", "application/json").body(purchase);
        let Ok(answer) = asked.send().await else {
            // It was killed, and is not back yet.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let status = answer.status().as_u16();
        let document = answer.bytes().await.unwrap_or_default();
        let document: Value = serde_json::from_slice(&document).unwrap_or_default();
        match status {
            200 if document["status"] == 200 => {
                return Told::Paid(document["paid"]["payment"].as_str().unwrap().to_owned());
            }
            403 => return Told::Denied,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{url} has no end");
}

fn daemon(world: &World) -> (Serving, String) {
    let daemon = world.serve_wallet(&["--listen", "127.0.0.1:0"]);
    let api = daemon.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    (daemon, format!("http://{api}"))
}

/// P-02, P-12, A-11, C-11: two daemons on one book are killed at every step of a payment. No budget is passed by
/// one atom, nothing is paid twice, and what an agent was told is what both books say.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_daemons_are_killed_at_every_step_and_spend_one_budget() {
    for _ in 0..runs() {
        killed_at_every_step().await;
    }
}

async fn killed_at_every_step() {
    let world = World::set_up(echo().await);
    world.write("database", &Cluster::shared().new_database());
    let store = "[store]\npostgres = \"env:DATABASE\"\nlease_ttl_ms = 1000\n";
    let wallet = WALLET.replace("total_max = \"3.00\"\n", "total_max = \"100.00\"\n");
    world.write("home/wallet.toml", &format!("{wallet}\n{store}"));
    let most = HELD * 25;
    let policy = format!(
        "[wallet]\nmax = {{ usd = \"0.50\" }}\n[[wallet.budgets]]\nmax = {{ usd = \"{}.{:02}\" }}\nper = \"ever\"\n[agents.bot]\n",
        most / 100,
        most % 100
    );
    world.write("home/policy.toml", &policy);
    world.farthing(&["policy", "accept"]).ok();
    let token = issue(&world, "bot");
    let more = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "more"];
    world.farthing(&more).ok();
    let shop = world.serve();
    let (kills, mut to_kill) = mpsc::unbounded_channel::<Kill>();
    let gateway = shop.url.trim_start_matches("http://").parse().unwrap();
    let toll = Toll { gateway, armed: Arc::default(), kills };
    let passing = toll.clone();
    let address = serve(
        axum::Router::new().fallback(move |request: Request<Body>| passing.clone().pass(request)),
    )
    .await;
    let (first, second) = (daemon(&world), daemon(&world));
    let apis = Arc::new(Mutex::new([first.1, second.1]));
    let mut daemons = [Some(first.0), Some(second.0)];
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for step in STEPS {
        *toll.armed.lock().unwrap() = Some(step);
        let mut asking = Vec::new();
        for at in 0..AGENTS {
            let url = format!("http://{address}/quote?{step:?}={at}&via={}", at % 2);
            let (apis, token) = (Arc::clone(&apis), token.clone());
            asking.push(tokio::spawn(async move {
                let told = agent(apis, token, url.clone(), at % 2).await;
                (url, told)
            }));
        }
        let (which, killed) = to_kill.recv().await.unwrap();
        daemons[which].take().unwrap().kill();
        // Whoever waited to say so may be gone with the connection.
        let _ = killed.send(());
        let (serving, api) = daemon(&world);
        apis.lock().unwrap()[which] = api;
        daemons[which] = Some(serving);
        for asked in asking {
            let (url, came) = asked.await.unwrap();
            told.insert(url, came);
        }
        *toll.armed.lock().unwrap() = None;
    }
    let paid: Vec<&String> = told
        .values()
        .filter_map(|it| match it {
            Told::Paid(payment) => Some(payment),
            Told::Denied => None,
        })
        .collect();
    let distinct: std::collections::BTreeSet<&String> = paid.iter().copied().collect();
    assert!(paid.len() == distinct.len() && paid.len() <= HELD, "{told:?}");
    for daemon in daemons.into_iter().flatten() {
        let (code, log) = daemon.stop();
        assert_eq!(code, 0, "{log}");
    }
    shop.stop();
    // The seller: each purchase once, and what it earned.
    let seller = world.farthing(&["ledger", "verify", "--json"]).json()["audit"].clone();
    let sold = paid.len();
    assert_eq!((&seller["claimed"], &seller["delivered"]), (&sold.into(), &sold.into()));
    let earned = (sold * 25).to_string();
    assert_eq!(seller["accounts"]["payable/seller/usd"]["credits_posted"], earned.as_str());
    // The wallet: the same, and no moment at which more was held and spent than the budget allows.
    let audit = world.farthing(&["ledger", "verify", "--wallet", "--json"]).json()["audit"].clone();
    let purse = &audit["accounts"]["purse/wallet/usd"];
    assert_eq!(purse["credits_posted"], earned.as_str(), "{audit}");
    let journal = world.farthing(&["ledger", "journal", "--wallet", "--json"]).ok();
    let (mut held, mut spent) = (BTreeMap::new(), 0_u64);
    for line in journal.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let event = &record["event"];
        let atoms = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
        match event["is"].as_str().unwrap() {
            "claimed" => {
                let payment = &event["payment"];
                held.insert(payment["id"].to_string(), atoms(&payment["amount"]["atoms"]));
            }
            "posted" => spent += held.remove(&event["payment"].to_string()).unwrap_or_default(),
            "voided" => {
                held.remove(&event["payment"].to_string());
            }
            _ => {}
        }
        let used = spent + held.values().sum::<u64>();
        assert!(used <= u64::try_from(most).unwrap(), "{used} are held and spent at {line}");
    }
    // What a daemon held when it was killed, and nothing was signed for, is held until its offer has expired.
    assert_eq!(held.len(), HELD - sold, "and the budget was used to the atom: {told:?}");
}
