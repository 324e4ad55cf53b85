//! The seller: a gateway on loopback, with its upstream and its book.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{Config, Gateway};
use farthing_keys::SecretKey;
use farthing_ledger::{Entry, Holder, SpendingKey};
use farthing_money::Assets;
use farthing_policy::{Grant, Policy};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_store_sqlite::Reader;
use farthing_wallet::{Authority, Books, KnownOffers, Memory, OpenBook, Rules, Wallet};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::buyer;
use crate::server::{SECRET, usd};

/// A development key; it spends play money on loopback.
pub(crate) const SEED: [u8; 32] = [7; 32];

/// More cents than any run spends.
const FUNDS_ATOMS: u128 = 1_000_000_000_000;

/// How long an offer of the route stands that is for credentials that expire.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "127.0.0.1"
secrets = ["env:SECRET"]

[store]
sqlite = "seller.db"

[assets.usd]
decimals = 2

[rails.prepaid]

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "free"
methods = ["GET"]
path = "/free"
upstream = "api"
free = true

[[routes]]
name = "paid"
methods = ["GET"]
path = "/paid"
upstream = "api"
price = "25.00 usd"

[[routes]]
name = "other"
methods = ["GET"]
path = "/other"
upstream = "api"
price = "25.00 usd"

[[routes]]
name = "short"
methods = ["GET"]
path = "/short"
upstream = "api"
price = "25.00 usd"
offer_ttl_s = 1
"#;

/// A seller, and the folder that its buyers' wallets lie in.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    gateway: Gateway,
    served: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    book: OpenBook,
}

impl Shop {
    pub(crate) async fn open(parent: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(parent)?;
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let router = Router::new().fallback(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { "sunny\n" }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async {
                // A shop that is dropped stops as well.
                drop(stopped.await);
            };
            drop(axum::serve(listener, router).with_graceful_shutdown(stopped).await);
        });
        let text = CONFIG.replace("UPSTREAM", &upstream.to_string());
        let config = Config::parse(&text, folder.path(), &|_| Some(SECRET.to_owned()))?;
        let gateway = Gateway::start(&config).await?;
        let store = gateway.store().port();
        let holder = Holder::new("agent-inc")?;
        let amount = usd()?.atoms(FUNDS_ATOMS);
        let now = SystemClock.now();
        let reference = "opening".to_owned();
        store.enter(Entry::Fund { holder: holder.clone(), amount, reference }, now).await?;
        let key = SpendingKey(buyer::public_key());
        store.enter(Entry::AttachKey { key, holder }, now).await?;
        let book = OpenBook::new(&folder.path().join("wallet.db"));
        Ok(Self { address: gateway.address(), folder, gateway, served, stop, book })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often the upstream was asked.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// The wallet, as `agent` may use it. Each agent's has a connection and a memory of its own; the book and its
    /// budgets are everybody's.
    pub(crate) fn wallet(&self, agent: usize, policy: &str) -> Result<Wallet> {
        let assets = Assets::from_iter([usd()?]);
        let policy = Policy::parse(policy, &[], &assets)?;
        let grant = Grant {
            agent: "agent".to_owned(),
            task: None,
            handed_to: Vec::new(),
            issued_at: SystemClock.now(),
            blocks: Vec::new(),
        };
        let mut rules = Rules { validity_max: Duration::from_hours(1), ..Rules::default() };
        rules.per_payment.insert("usd".parse()?, u128::from(u64::MAX));
        let clock = Arc::new(SystemClock);
        Ok(Wallet {
            payers: vec![Arc::new(PrepaidPayer::new(&SEED, assets))],
            buyers: vec![Arc::new(MppBuyer)],
            rules,
            authority: Authority::of_token(&[policy], grant)?,
            books: Books::keeping(self.book.clone(), clock.clone()),
            memory: Memory::open(&self.folder.path().join(format!("memory{agent}.db")))?,
            key: SecretKey::from_bytes(SEED),
            clock,
            http: Wallet::client()?,
            pause: Wallet::PAUSE,
            offers: KnownOffers::default(),
        })
    }

    /// What the seller has earned and delivered, by its own book, which balances.
    pub(crate) fn earned(&self) -> Result<(u128, u64)> {
        let audit = audit(&self.folder.path().join("seller.db"))?;
        let account = "payable/forecasts-inc/usd".parse()?;
        let earned = audit.accounts.get(&account).map_or(0, |balance| balance.credits_posted);
        Ok((earned, audit.delivered))
    }

    /// What the wallet has spent and still holds, by its book.
    pub(crate) fn spent(&self) -> Result<u128> {
        let path = self.folder.path().join("wallet.db");
        if !path.exists() {
            return Ok(0);
        }
        let account = "purse/wallet/usd".parse()?;
        let audit = audit(&path)?;
        Ok(audit.accounts.get(&account).map_or(0, farthing_ledger::Balance::credits_held))
    }

    pub(crate) async fn close(self) -> Result<()> {
        self.gateway.stop().await;
        self.stop.send(()).ok().context("the upstream is gone")
    }
}

fn audit(path: &Path) -> Result<farthing_ledger::Audit> {
    let journal = Reader::open(path)?.journal()?;
    farthing_ledger::audit(&journal).map_err(|fault| anyhow::anyhow!("{fault}"))
}
