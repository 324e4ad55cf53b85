//! The servers that are measured, each in a process of its own.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::routing::get;
use farthing_core::{Quote, Rail, SessionPrice, Store, Tending, Till};
use farthing_gate::{Clock as _, Gate, PriceTag, SystemClock, Tag};
use farthing_gateway::{Config, Gateway};
use farthing_ledger::{Entry, Holder, SpendingKey};
use farthing_money::{Asset, Assets};
use farthing_mpp::Secret;
use farthing_rail_prepaid::PrepaidRail;
use farthing_rail_tempo::session::{Escrow, Family, SessionSettings, Teller};
use farthing_rail_tempo::{Nodes, Settings, TempoRail, Token, Tokens, parse_node};
use farthing_store_sqlite::{Options, Reader, SqliteStore};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, development_key,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::{buyer, peer};

/// A secret for play money.
pub(crate) const SECRET: &str = "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf";

/// What a request costs, in cents.
pub(crate) const PRICE_ATOMS: u128 = 25;

/// Which of the development accounts is paid on a chain.
pub(crate) const SELLER: usize = 1;

/// What a unit of a session costs, in millionths.
pub(crate) const UNIT_ATOMS: u128 = 100;

/// How long a handler takes that does.
const SLOWLY: Duration = Duration::from_millis(200);

/// How long the chain may take to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a settlement is waited for.
const WAIT: Duration = Duration::from_secs(20);

/// How often channels are looked after.
const TENDED: Duration = Duration::from_secs(5);

/// More cents than any run spends.
const FUNDS_ATOMS: u128 = 1_000_000_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// What the gateway stands in front of.
    Upstream,
    /// `farthing serve`: a reverse proxy with a book on disk.
    Gateway,
    /// An axum app with the gate as a layer, and a book on disk.
    Layer,
    /// An axum app of the `mpp` crate, with balances in memory.
    Peer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
            Self::Layer => "layer",
            Self::Peer => "mpp crate",
        })
    }
}

/// A server under test.
pub(crate) struct Process {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
}

/// What a server is told at its start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setting<'a> {
    /// What it stands in front of.
    pub(crate) upstream: Option<SocketAddr>,
    /// The node of a chain that it is paid on.
    pub(crate) node: Option<&'a str>,
    /// The escrow of the sessions that it is paid in.
    pub(crate) escrow: Option<&'a str>,
    /// A library that counts its syncs, and the file that it counts in.
    pub(crate) counted: Option<(&'a Path, &'a Path)>,
}

impl Process {
    pub(crate) async fn start(kind: Kind, folder: &Path, setting: Setting<'_>) -> Result<Self> {
        let Setting { upstream, node, escrow, counted } = setting;
        let name = format!("{kind:?}").to_lowercase();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &name, "--folder"]).arg(folder);
        if let Some(upstream) = upstream {
            command.args(["--upstream", &upstream.to_string()]);
        }
        if let Some(node) = node {
            command.args(["--node", node]);
        }
        if let Some(escrow) = escrow {
            command.args(["--escrow", escrow]);
        }
        if let Some((library, file)) = counted {
            command.env("LD_PRELOAD", library).env("FARTHING_BENCH_SYNCS", file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let address = line.trim().parse().with_context(|| format!("{kind} did not start"))?;
        Ok(Self { kind, address, child })
    }

    /// What it has written to the disk so far, in bytes, as the kernel counts it.
    pub(crate) fn written_bytes(&self) -> Result<u64> {
        let id = self.child.id().context("it is gone")?;
        let counters = std::fs::read_to_string(format!("/proc/{id}/io"))?;
        let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(written.context("the kernel does not count")?.parse()?)
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        ensure!(self.child.wait().await?.success(), "{} did not stop well", self.kind);
        Ok(())
    }
}

/// Serves until standard input ends; paid on the chain of `node`, if there is one.
pub(crate) fn serve(
    kind: Kind,
    folder: &Path,
    upstream: Option<SocketAddr>,
    node: Option<&str>,
    escrow: Option<&str>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match kind {
            Kind::Upstream => axum_server(forecasts()).await,
            Kind::Peer => match (node, escrow) {
                (None, _) => axum_server(peer::router()).await,
                (Some(node), None) => axum_server(peer::chain_router(node)?).await,
                (Some(node), Some(escrow)) => {
                    axum_server(peer::session_router(node, escrow)?).await
                }
            },
            Kind::Layer => match (node, escrow) {
                (Some(node), Some(escrow)) => {
                    session_layer(&folder.join("layer.db"), node, escrow).await
                }
                (_, _) => layer(&folder.join("layer.db")).await,
            },
            Kind::Gateway => {
                let upstream = upstream.context("no upstream")?;
                gateway(folder, upstream, node, escrow).await
            }
        }
    })
}

fn forecasts() -> Router {
    let router = Router::new().route("/slow", get(slow));
    ["/free", "/paid", "/once"]
        .into_iter()
        .fold(router, |router, path| router.route(path, get(async || "sunny\n")))
}

/// A handler that has something to do.
async fn slow() -> &'static str {
    tokio::time::sleep(SLOWLY).await;
    "sunny\n"
}

async fn axum_server(router: Router) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // A server that cannot have it is only slower.
        drop(stream.set_nodelay(true));
    });
    axum::serve(listener, router).with_graceful_shutdown(stdin_ends()).await?;
    Ok(())
}

async fn layer(book: &Path) -> Result<()> {
    let usd = usd()?;
    let store = Arc::new(SqliteStore::open(book, Options::default(), SystemClock.now())?);
    fund(&*store).await?;
    let gate = Gate::builder("localhost", Secret::new(SECRET.to_owned())?)?
        .rail(PrepaidRail::new(Assets::from_iter([usd.clone()])))
        .store(store);
    let tag = gate.tag("forecast", &usd.atoms(PRICE_ATOMS), &Holder::new("forecasts-inc")?);
    let paid = Router::new()
        .route("/paid", get(async || "sunny\n"))
        .layer(gate.layer(move |_: &http::request::Parts| tag.clone()));
    axum_server(Router::new().route("/free", get(async || "sunny\n")).merge(paid)).await
}

/// The layer with sessions on a chain. Whoever builds an app looks after its channels.
async fn session_layer(book: &Path, node: &str, escrow: &str) -> Result<()> {
    let usd = Asset::new("usd".parse()?, 6)?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(book, Options::default(), SystemClock.now())?);
    let url = parse_node(node).context("the address of a node")?;
    let nodes = Arc::new(Nodes::new(TEMPO_CHAIN_ID, vec![url], NODE_TIMEOUT)?);
    let token = Token { asset: usd.clone(), address: PATH_USD.parse()? };
    let seller = Holder::new("forecasts-inc")?;
    let settings = Settings {
        payee: seller.clone(),
        recipient: DEVELOPMENT_ACCOUNTS[SELLER].parse()?,
        tokens: Tokens::new(vec![token.clone()]),
        push: false,
        confirmations: 1,
        wait: WAIT,
        sponsor: None,
        splits: Vec::new(),
        refunder: None,
    };
    let key = development_key(SELLER);
    let teller = Teller::new(&key, Arc::clone(&nodes), token, 1, WAIT)?;
    let escrow = Escrow::new(Family::TempoV1, TEMPO_CHAIN_ID, escrow.parse()?);
    let rail = TempoRail::new(nodes, settings).with_sessions(SessionSettings { escrow, teller });
    let rail: Arc<dyn Rail> = Arc::new(rail);
    let price = SessionPrice {
        unit: usd.atoms(UNIT_ATOMS),
        unit_type: Some("request".into()),
        suggested_deposit: None,
        deposit_min_atoms: 0,
        delta_min_atoms: 0,
    };
    let session = rail.session().context("sessions")?;
    let request = session.quote_session(&price, &seller)?;
    let quote = Arc::new(Quote::session(rail.method(), price, seller, &request));
    let tag = Tag::Priced(PriceTag::new("forecast", vec![quote]));
    let gate = Gate::builder("localhost", Secret::new(SECRET.to_owned())?)?
        .rails([Arc::clone(&rail)])
        .store(Arc::clone(&store));
    let till = Till { protocols: Vec::new(), rails: vec![rail], store };
    tokio::spawn(async move {
        let mut tending = Tending::default();
        loop {
            till.tend(&mut tending, SystemClock.now()).await;
            tokio::time::sleep(TENDED).await;
        }
    });
    let paid = Router::new()
        .route("/paid", get(async || "sunny\n"))
        .route("/slow", get(slow))
        .layer(gate.layer(move |_: &http::request::Parts| tag.clone()));
    axum_server(Router::new().route("/free", get(async || "sunny\n")).merge(paid)).await
}

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
sqlite = "gateway.db"

RAIL

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "terms"
methods = ["GET"]
path = "/free"
upstream = "api"
free = true

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/paid"
upstream = "api"
price = "0.25 usd"
description = "A forecast"
"#;

const PREPAID: &str = "[assets.usd]
decimals = 2

[rails.prepaid]";

const TEMPO: &str = r#"[assets.usd]
decimals = 6

[rails.tempo]
chain_id = CHAIN_ID
nodes = ["NODE"]
recipient = "RECIPIENT"
tokens = { usd = "PATH_USD" }"#;

/// What is sold in sessions, and singly for the same price.
const SESSIONS: &str = r#"
[rails.tempo.session]
escrow = "ESCROW"
key = "env:PAYEE"
fee_asset = "usd"

[[routes]]
name = "slowly"
methods = ["GET"]
path = "/slow"
upstream = "api"
price = "0.0001 usd"
intents = ["session"]

[[routes]]
name = "singly"
methods = ["GET"]
path = "/once"
upstream = "api"
price = "0.0001 usd"
"#;

async fn gateway(
    folder: &Path,
    upstream: SocketAddr,
    node: Option<&str>,
    escrow: Option<&str>,
) -> Result<()> {
    let rail = node.map_or_else(|| PREPAID.to_owned(), tempo_rail);
    let mut text = CONFIG.replace("UPSTREAM", &upstream.to_string()).replace("RAIL", &rail);
    if let Some(escrow) = escrow {
        let intents = "price = \"0.0001 usd\"\nintents = [\"session\"]";
        text = text.replace("price = \"0.25 usd\"", intents);
        text.push_str(&SESSIONS.replace("ESCROW", escrow));
    }
    let secret = |name: &str| match name {
        "PAYEE" => Some(DEVELOPMENT_KEYS[SELLER].to_owned()),
        _ => Some(SECRET.to_owned()),
    };
    let config = Config::parse(&text, folder, &secret)?;
    let gateway = Gateway::start(&config).await?;
    if node.is_none() {
        fund(&*gateway.store().port()).await?;
    }
    println!("{}", gateway.address());
    stdin_ends().await;
    gateway.stop().await;
    Ok(())
}

/// Paid in pathUSD, with everything else as a seller finds it.
fn tempo_rail(node: &str) -> String {
    TEMPO
        .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
        .replace("NODE", node)
        .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[SELLER])
        .replace("PATH_USD", PATH_USD)
}

async fn stdin_ends() {
    let mut nothing = Vec::new();
    // An error is an end as well.
    drop(tokio::io::stdin().read_to_end(&mut nothing).await);
}

async fn fund(store: &dyn Store) -> Result<()> {
    let holder = Holder::new("agent-inc")?;
    let key = SpendingKey(buyer::public_key());
    let amount = usd()?.atoms(FUNDS_ATOMS);
    let reference = "opening".to_owned();
    store
        .enter(Entry::Fund { holder: holder.clone(), amount, reference }, SystemClock.now())
        .await?;
    store.enter(Entry::AttachKey { key, holder }, SystemClock.now()).await?;
    Ok(())
}

/// The asset of all prices here.
pub(crate) fn usd() -> Result<Asset> {
    Ok(Asset::new("usd".parse()?, 2)?)
}

/// Recomputes a server's book from its journal: it balances, and holds exactly these payments.
pub(crate) fn audit(kind: Kind, folder: &Path, payments: usize) -> Result<()> {
    let book = format!("{}.db", format!("{kind:?}").to_lowercase());
    let journal = Reader::open(&folder.join(book))?.journal()?;
    let audit =
        farthing_ledger::audit(&journal).map_err(|fault| anyhow::anyhow!("{kind}: {fault}"))?;
    let delivered = usize::try_from(audit.delivered)?;
    ensure!(delivered == payments, "{kind}: {delivered} of {payments} payments were delivered");
    Ok(())
}
