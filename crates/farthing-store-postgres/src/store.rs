//! The store: one door to a book, whoever writes it just now.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use farthing_core::StoreError;
use farthing_ledger::{PaymentId, Record, TraceId};
use farthing_money::Timestamp;
use farthing_store_writer::{Ask, Asks, Desk, Owed, Refused, Said, store_that_asks};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::address::Address;
use crate::connection::{ConnectError, connect_to_write};
use crate::journal::{Setting, WriteError};
use crate::link::gateway::Link;
use crate::load::LoadError;
use crate::node::Node;
use crate::reader::Reads;
use crate::schema::{Guards, SCHEMA_VERSION, SchemaError, bring, version};
use crate::wait;

/// How long an erasure may take before nobody waits for it any longer.
const ERASING: Duration = Duration::from_mins(10);

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it writes, when it is the one that does.
    pub writer: farthing_store_writer::Options,
    /// How long the lease lasts without being renewed: how long nobody writes after the writer is lost.
    pub lease_ttl: Duration,
    /// How long a request waits for somebody to write the book before it is told to try again later.
    pub patience: Duration,
    /// How long the database may be out of reach before whoever writes gives up.
    pub give_up: Duration,
    /// Where this gateway listens for the others when it writes. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the others reach that, if it is somewhere else.
    pub advertise: Option<String>,
    /// Whether to bring an older schema up to date, or make one.
    pub migrate: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            writer: farthing_store_writer::Options::default(),
            lease_ttl: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            give_up: Duration::from_secs(30),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            migrate: true,
        }
    }
}

/// What a store does for its book just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the lease and writes.
    Writes,
    /// It forwards what it is asked to whoever writes.
    Forwards,
    /// Nobody that it knows of writes; requests wait, and not for long.
    Waits,
    /// It is closed.
    Closed,
}

/// A book in the database. Dropping it answers what is queued, and gives the lease up if it has it.
pub struct PostgresStore {
    shared: Arc<Shared>,
    reads: Reads,
    closing: watch::Sender<bool>,
    crashed: Arc<AtomicBool>,
    node: Option<JoinHandle<()>>,
}

/// Who is asked just now.
#[derive(Clone)]
pub(crate) enum Route {
    Nobody,
    /// The writer of this process, in a session of its own.
    Here(u64, Desk),
    /// The writer of another process.
    There(u64, Link),
    Closed,
}

impl Route {
    /// What a right is worth something in.
    const fn session(&self) -> Option<u64> {
        match self {
            Self::Here(session, _) | Self::There(session, _) => Some(*session),
            Self::Nobody | Self::Closed => None,
        }
    }

    fn put(&self, ask: Ask) -> Result<Owed, Refused> {
        match self {
            Self::Here(_, desk) => desk.put(ask),
            Self::There(_, link) => link.put(ask),
            Self::Nobody | Self::Closed => Err(Refused::Stopped),
        }
    }

    fn tell(&self, ask: Ask) -> Result<(), Refused> {
        match self {
            Self::Here(_, desk) => desk.tell(ask),
            Self::There(_, link) => link.tell(ask),
            Self::Nobody | Self::Closed => Err(Refused::Stopped),
        }
    }
}

/// What the store and its node share.
pub(crate) struct Shared {
    route: watch::Sender<Route>,
    /// The session in which each right was given that is not ended. A right ends with its session.
    rights: Mutex<BTreeMap<PaymentId, u64>>,
    patience: Duration,
    /// The node's runtime, which keeps time.
    handle: Handle,
}

impl Shared {
    pub(crate) fn set_route(&self, route: Route) {
        self.route.send_replace(route);
    }

    fn rights(&self) -> MutexGuard<'_, BTreeMap<PaymentId, u64>> {
        // A panic elsewhere leaves the map as the last whole step left it.
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whoever writes, and waits no longer than anybody would.
    async fn ask(&self, ask: Ask, tried: Option<u64>) -> Option<Said> {
        let patience = {
            let _runtime = self.handle.enter();
            // To erase, the whole journal is looked through.
            let is_long = matches!(ask, Ask::Erase(..));
            tokio::time::sleep(if is_long { self.patience.max(ERASING) } else { self.patience })
        };
        tokio::select! {
            biased;
            said = self.insist(ask, tried) => said,
            () = patience => None,
        }
    }

    /// Asks whoever writes; where that one is lost meanwhile, the next one, if asking twice is harmless.
    async fn insist(&self, ask: Ask, mut tried: Option<u64>) -> Option<Said> {
        let mut routes = self.route.subscribe();
        loop {
            let is_new = |route: &Route| match route {
                Route::Here(session, _) | Route::There(session, _) => Some(*session) != tried,
                Route::Closed => true,
                Route::Nobody => false,
            };
            let route = routes.wait_for(is_new).await.ok()?.clone();
            let session = route.session()?;
            if self.is_stale(&ask, session) {
                return None;
            }
            let (right, put) = (ask.right(), route.put(ask.clone()));
            // A writer ends when nobody can ask it any more.
            drop(route);
            match put {
                Ok(owed) => {
                    if let Some(said) = owed.await {
                        if let Some(payment) = right.filter(|_| said.gives_right()) {
                            self.rights().insert(payment, session);
                        }
                        match (&ask, &said) {
                            (Ask::Void(payment, ..), Said::Voided(true))
                            | (Ask::Deliver(payment, ..), Said::Known(true)) => {
                                self.rights().remove(payment);
                            }
                            _ => {}
                        }
                        return Some(said);
                    }
                    if !ask.may_be_repeated() {
                        return None;
                    }
                }
                Err(Refused::Stopped) => {}
                Err(Refused::Full) => return None,
            }
            tried = Some(session);
        }
    }

    /// Whether a request leans on a right that ended with its session. Somebody else may have it by now.
    fn is_stale(&self, ask: &Ask, session: u64) -> bool {
        match ask {
            Ask::Void(payment, ..) => {
                self.rights().get(payment).is_some_and(|given_in| *given_in != session)
            }
            Ask::Claim(..)
            | Ask::Post(..)
            | Ask::Enter(..)
            | Ask::Deliver(..)
            | Ask::Fail(..)
            | Ask::GiveBack(..)
            | Ask::Answer(_)
            | Ask::IsClaimed(_)
            | Ask::Work
            | Ask::Refund(..)
            | Ask::PostRefund(..)
            | Ask::VoidRefund(..)
            | Ask::Reconcile(..)
            | Ask::TakeUp(_)
            | Ask::Step(..)
            | Ask::Channels
            | Ask::ChannelNews(..)
            | Ask::HeardOfChannels(_)
            | Ask::Owner(..)
            | Ask::Subscribe(..)
            | Ask::Subscriptions
            | Ask::SubscriptionsDue(..)
            | Ask::Note(..)
            | Ask::Erase(..) => false,
        }
    }

    fn tell(self: &Arc<Self>, ask: Ask) {
        let route = self.route.borrow().clone();
        let given_in = ask.ends_right().and_then(|payment| self.rights().remove(&payment));
        if !matches!(ask, Ask::Deliver(..)) {
            // Whoever lost the right has nothing more to say about it.
            if given_in.is_some() && given_in == route.session() {
                let _ = route.tell(ask);
            }
            return;
        }
        // That an answer was given stays true, whoever writes it down.
        let (tried, put) = (route.session(), route.put(ask.clone()));
        let own = Arc::clone(self);
        self.handle.spawn(async move {
            let noted = match put {
                Ok(owed) => owed.await,
                Err(Refused::Stopped | Refused::Full) => None,
            };
            if noted.is_none() {
                own.ask(ask, tried).await;
            }
        });
    }
}

impl PostgresStore {
    /// Opens the book called `name` in the database at `address`, making it if there is none: takes it
    /// over if nobody has it, and speaks to whoever has it otherwise.
    ///
    /// # Errors
    ///
    /// An [`OpenError`]: the database says no, the schema or the journal cannot be used, or whoever has
    /// the book cannot be reached and has not given it up.
    pub fn open(
        address: Address,
        name: &str,
        options: &Options,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let address = Arc::new(address);
        let crashed = Arc::new(AtomicBool::new(false));
        let setting = Setting {
            address: Arc::clone(&address),
            book: name.into(),
            ttl: options.lease_ttl,
            give_up: options.give_up,
            crashed: Arc::clone(&crashed),
        };
        let (closing, closed) = watch::channel(false);
        let (ready, started) = mpsc::channel();
        let options = options.clone();
        let wait_max = options.lease_ttl.saturating_mul(2).saturating_add(options.give_up);
        let run = move || {
            let runtime = match wait::runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(OpenError::Io(error)))),
            };
            runtime.block_on(async {
                let shared = Arc::new(Shared {
                    route: watch::channel(Route::Nobody).0,
                    rights: Mutex::default(),
                    patience: options.patience,
                    handle: Handle::current(),
                });
                let prepared = prepare(&setting, &options).await;
                match prepared {
                    Ok(listener) => {
                        let own = Arc::clone(&shared);
                        let began = Began { ready: Some(ready), shared };
                        Node::new(setting, options, listener, own, closed, now, began).run().await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        };
        let node = std::thread::Builder::new().name("book-node".into()).spawn(run)?;
        let began = started.recv_timeout(wait_max).unwrap_or(Err(OpenError::NobodyWrites));
        match began {
            Ok(shared) => {
                let reads = Reads::new(address, name.into(), shared.handle.clone());
                Ok(Self { shared, reads, closing, crashed, node: Some(node) })
            }
            Err(error) => {
                closing.send_replace(true);
                let _ = node.join();
                Err(error)
            }
        }
    }

    /// What it does for its book just now.
    #[must_use]
    pub fn role(&self) -> Role {
        match &*self.shared.route.borrow() {
            Route::Nobody => Role::Waits,
            Route::Here(..) => Role::Writes,
            Route::There(..) => Role::Forwards,
            Route::Closed => Role::Closed,
        }
    }

    /// Whether somebody writes the book. While nobody does, requests wait, and are refused in the end.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self.role() {
            Role::Writes | Role::Forwards => true,
            Role::Waits | Role::Closed => false,
        }
    }

    /// Resolves when the store is closed. A lost writer or database does not close it.
    pub async fn stopped(&self) {
        let mut routes = self.shared.route.subscribe();
        // The sender gone means the store gone.
        let _ = routes.wait_for(|route| matches!(route, Route::Closed)).await;
    }

    /// How many requests of this process wait for an answer, or of everybody where it is the writer.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        match &*self.shared.route.borrow() {
            Route::Here(_, desk) => desk.counts().waiting(),
            Route::There(_, link) => link.waiting_count(),
            Route::Nobody | Route::Closed => 0,
        }
    }

    /// How many payments were claimed and are neither delivered nor given up, as far as this process
    /// knows: only the writer does.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        match &*self.shared.route.borrow() {
            Route::Here(_, desk) => desk.counts().unfinished(),
            Route::There(..) | Route::Nobody | Route::Closed => 0,
        }
    }

    /// Ends as a crash would: nothing is saved, and the lease is left to expire.
    #[doc(hidden)]
    pub fn crash(self) {
        self.crashed.store(true, Ordering::Relaxed);
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(node) = self.node.take() {
            // A node that panicked has nothing more to say here.
            let _ = node.join();
        }
    }
}

/// Whoever waits for a store to be open.
pub(crate) struct Began {
    ready: Option<mpsc::Sender<Result<Arc<Shared>, OpenError>>>,
    shared: Arc<Shared>,
}

impl Began {
    /// The store has found its first role.
    pub(crate) fn well(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Whoever waited may have given up.
            let _ = ready.send(Ok(Arc::clone(&self.shared)));
        }
    }

    /// The store cannot be opened; gives the error back where it was open before.
    pub(crate) fn badly(&mut self, error: OpenError) -> Result<(), OpenError> {
        match self.ready.take() {
            Some(ready) => {
                let _ = ready.send(Err(error));
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// Makes sure of the schema, and of a place to listen at.
async fn prepare(setting: &Setting, options: &Options) -> Result<TcpListener, OpenError> {
    let mut client = connect_to_write(&setting.address, setting.ttl).await?;
    let found = version(&client).await?;
    if found < SCHEMA_VERSION && options.migrate {
        bring(&mut client, SCHEMA_VERSION, Guards::Triggers).await?;
    } else if found != SCHEMA_VERSION {
        return Err(SchemaError::Version { found }.into());
    }
    TcpListener::bind(options.listen).await.map_err(OpenError::Listen)
}

impl Asks for PostgresStore {
    async fn ask(&self, ask: Ask) -> Option<Said> {
        self.shared.ask(ask, None).await
    }

    fn tell(&self, ask: Ask) {
        self.shared.tell(ask);
    }

    async fn read(&self, from: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.reads.records(from, limit).await
    }

    async fn read_story(&self, trace: TraceId) -> Result<Vec<Record>, StoreError> {
        self.reads.of_trace(trace).await
    }

    async fn read_note(&self, name: String) -> Result<Option<String>, StoreError> {
        self.reads.noted(name).await
    }

    fn leads(&self) -> bool {
        self.role() == Role::Writes
    }
}

store_that_asks!(PostgresStore);

/// Why a book cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Whoever has the book cannot be reached, and has not given it up.
    #[error(
        "another gateway has the book and cannot be reached at the address in its lease; see that \
         `listen` and `advertise` in [store] lead there, or stop it"
    )]
    NobodyWrites,
    /// The schema cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The book cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The book cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The database says no.
    #[error("the book cannot be opened: {}", crate::connection::told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Nobody can listen there.
    #[error("the others could not be listened for: {0}")]
    Listen(#[source] io::Error),
    /// The operating system says no.
    #[error("the book cannot be opened: {0}")]
    Io(#[from] io::Error),
}
