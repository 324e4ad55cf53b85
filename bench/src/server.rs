//! The servers that are measured, each in a process of its own.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::routing::get;
use farthing_core::Store;
use farthing_gate::{Clock as _, Gate, SystemClock};
use farthing_gateway::{Config, Gateway};
use farthing_ledger::{Entry, Holder, SpendingKey};
use farthing_money::{Asset, Assets};
use farthing_mpp::Secret;
use farthing_rail_prepaid::PrepaidRail;
use farthing_store_sqlite::{Options, Reader, SqliteStore};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD, TEMPO_CHAIN_ID};
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

impl Process {
    pub(crate) async fn start(
        kind: Kind,
        folder: &Path,
        upstream: Option<SocketAddr>,
        node: Option<&str>,
    ) -> Result<Self> {
        let name = format!("{kind:?}").to_lowercase();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &name, "--folder"]).arg(folder);
        if let Some(upstream) = upstream {
            command.args(["--upstream", &upstream.to_string()]);
        }
        if let Some(node) = node {
            command.args(["--node", node]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let address = line.trim().parse().with_context(|| format!("{kind} did not start"))?;
        Ok(Self { kind, address, child })
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
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match kind {
            Kind::Upstream => axum_server(forecasts()).await,
            Kind::Peer => match node {
                None => axum_server(peer::router()).await,
                Some(node) => axum_server(peer::chain_router(node)?).await,
            },
            Kind::Layer => layer(&folder.join("layer.db")).await,
            Kind::Gateway => gateway(folder, upstream.context("no upstream")?, node).await,
        }
    })
}

fn forecasts() -> Router {
    Router::new().route("/free", get(async || "sunny\n")).route("/paid", get(async || "sunny\n"))
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

async fn gateway(folder: &Path, upstream: SocketAddr, node: Option<&str>) -> Result<()> {
    let rail = node.map_or_else(|| PREPAID.to_owned(), tempo_rail);
    let text = CONFIG.replace("UPSTREAM", &upstream.to_string()).replace("RAIL", &rail);
    let config = Config::parse(&text, folder, &|_| Some(SECRET.to_owned()))?;
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
