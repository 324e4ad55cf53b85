//! One gateway among those of a book: it writes, or it forwards to whoever does.
//!
//! ```text
//!        ┌──► the lease is free ──► read the book, write ──► fenced, or out of reach ──┐
//!  look ─┤                                                                             ├──► look again
//!        └──► somebody has it ────► link, forward ─────────► the link is lost ─────────┘
//! ```

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use farthing_money::Timestamp;
use farthing_store_writer::{Ask, Counts, Desk, Job, Writer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::connection::connect_to_write;
use crate::journal::{PgJournal, Setting, WriteError};
use crate::lease::{self, Candidate, Found, Holder, TOKEN_BYTES};
use crate::link::gateway::Link;
use crate::link::{self, Secret};
use crate::load::load;
use crate::store::{Began, OpenError, Options, Route, Shared};

/// How many connections of other gateways there may be.
const CONNECTIONS_MAX: usize = 256;

/// How long to wait before looking at the lease again: at least, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// What a writer lets others have.
#[derive(Clone)]
struct Serving {
    secret: Secret,
    desk: Desk,
}

pub(crate) struct Node {
    setting: Setting,
    options: Options,
    /// A name for people.
    holder: String,
    /// Where the others reach this node.
    advertised: String,
    shared: Arc<Shared>,
    closing: watch::Receiver<bool>,
    /// The time when the store was opened, and when that was.
    opened: (Timestamp, Instant),
    began: Began,
    listener: Option<TcpListener>,
    serving: watch::Sender<Option<Serving>>,
    /// For looking at the lease.
    client: Option<Client>,
    sessions: u64,
}

impl Node {
    pub(crate) fn new(
        setting: Setting,
        options: Options,
        listener: TcpListener,
        shared: Arc<Shared>,
        closing: watch::Receiver<bool>,
        now: Timestamp,
        began: Began,
    ) -> Self {
        let own = listener.local_addr().map(|address| address.to_string());
        let advertised = options.advertise.clone().or(own.ok()).unwrap_or_default();
        Self {
            holder: format!("{advertised} of process {}", std::process::id()),
            advertised,
            setting,
            options,
            shared,
            closing,
            opened: (now, Instant::now()),
            began,
            listener: Some(listener),
            serving: watch::channel(None).0,
            client: None,
            sessions: 0,
        }
    }

    /// Takes part until the store is closed.
    pub(crate) async fn run(mut self) {
        let mut accepting = JoinSet::new();
        if let Some(listener) = self.listener.take() {
            accepting.spawn(accept(listener, self.serving.subscribe(), self.setting.ttl));
        }
        while !*self.closing.borrow() {
            if let Err(error) = self.take_part().await {
                self.client = None;
                match self.began.badly(error) {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(book = &*self.setting.book, %error, "the book is out of reach");
                    }
                }
            }
            self.shared.set_route(Route::Nobody);
            let pause = self.setting.ttl.checked_div(20).unwrap_or(PAUSE.0);
            let closed = self.closing.wait_for(|closing| *closing);
            // Closed or not is looked at above.
            let _ = timeout(pause.clamp(PAUSE.0, PAUSE.1), closed).await;
        }
        self.shared.set_route(Route::Closed);
    }

    /// The time, as it was given when the store was opened and has gone on since.
    fn now(&self) -> Timestamp {
        let (at, opened) = self.opened;
        // The first time is exact, so that the same story makes the same journal.
        if self.sessions == 0 { at } else { at.after(opened.elapsed()) }
    }

    /// Looks who has the book, and does its part for as long as that lasts.
    async fn take_part(&mut self) -> Result<(), OpenError> {
        let mut token = [0; TOKEN_BYTES];
        getrandom::fill(&mut token).map_err(std::io::Error::other)?;
        let asked_at = Instant::now();
        match self.look(&token).await? {
            Found::Ours(epoch) => {
                let secret = self.secret(epoch, token.to_vec());
                self.write(secret, asked_at).await
            }
            Found::Theirs(holder) => {
                self.forward(holder).await;
                Ok(())
            }
        }
    }

    fn secret(&self, epoch: i64, token: Vec<u8>) -> Secret {
        Secret { book: self.setting.book.to_string(), epoch, token }
    }

    async fn look(&mut self, token: &[u8; TOKEN_BYTES]) -> Result<Found, OpenError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => connect_to_write(&self.setting.address, self.setting.ttl).await?,
        };
        let candidate = Candidate {
            book: &self.setting.book,
            holder: &self.holder,
            address: &self.advertised,
            token,
            ttl: self.setting.ttl,
        };
        let bound = self.setting.ttl.max(Duration::from_secs(2));
        let found = timeout(bound, lease::take(&client, &candidate)).await;
        let found = found.map_err(|_| WriteError::Silent)??;
        self.client = Some(client);
        Ok(found)
    }

    /// Reads the book and writes it, until somebody else has it, the database is gone, or the store is
    /// closed.
    async fn write(&mut self, secret: Secret, asked_at: Instant) -> Result<(), OpenError> {
        let (desk, queue) = farthing_store_writer::open(&self.options.writer);
        let (ready, is_ready) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let post = Post {
            setting: self.setting.clone(),
            options: self.options.writer,
            epoch: secret.epoch,
            asked_at,
            now: self.now(),
        };
        let counts = Arc::clone(desk.counts());
        let thread = std::thread::Builder::new().name("book".into());
        thread.spawn(move || {
            let ended = post.hold(&queue, counts, ready);
            drop(queue);
            // Nobody listening is fine: the node may be gone already.
            let _ = done.send(ended);
        })?;
        // A writer that ends without a word has panicked.
        is_ready.await.unwrap_or(Err(OpenError::Write(WriteError::Silent)))?;
        self.sessions = self.sessions.saturating_add(1);
        self.shared.set_route(Route::Here(self.sessions, desk.clone()));
        self.serving.send_replace(Some(Serving { secret, desk }));
        self.began.well();
        tracing::info!(book = &*self.setting.book, "this gateway writes the book");
        let mut is_done = is_done;
        let mut closing = self.closing.clone();
        let ended = tokio::select! {
            ended = &mut is_done => Some(ended),
            _ = closing.wait_for(|closing| *closing) => None,
        };
        // The last desk dropped ends the writer, after it has answered everybody.
        self.shared.set_route(Route::Nobody);
        self.serving.send_replace(None);
        let ended = match ended {
            Some(ended) => ended,
            None => is_done.await,
        };
        if let Ok(Err(error)) = ended {
            tracing::error!(book = &*self.setting.book, %error, "this gateway stops writing the book");
        }
        Ok(())
    }

    /// Forwards to whoever has the book, until the link is lost.
    async fn forward(&mut self, holder: Holder) {
        let Holder { epoch, address, token } = holder;
        let secret = self.secret(epoch, token);
        let waiting_max = self.options.writer.queue_max;
        let opened = link::gateway::open(&address, &secret, self.setting.ttl, waiting_max).await;
        let (link, wires) = match opened {
            Ok(open) => open,
            Err(error) => {
                tracing::debug!(book = &*self.setting.book, %error, "the writer cannot be reached");
                return;
            }
        };
        self.sessions = self.sessions.saturating_add(1);
        self.shared.set_route(Route::There(self.sessions, link.clone()));
        self.began.well();
        tracing::info!(book = &*self.setting.book, %address, "another gateway writes the book");
        let mut closing = self.closing.clone();
        tokio::select! {
            error = wires.drive() => {
                tracing::warn!(book = &*self.setting.book, %error, "the writer is lost");
            }
            () = close(&mut closing, link, self.setting.ttl) => {}
        }
    }
}

/// Resolves when the store is being closed and the writer has everything that was said.
async fn close(closing: &mut watch::Receiver<bool>, link: Link, wait_max: Duration) {
    // The sender gone is the store gone.
    let _ = closing.wait_for(|closing| *closing).await;
    // One last question: its answer says that everything before has arrived.
    let last = link.put(Ask::Work);
    let answered = async {
        if let Ok(owed) = last {
            owed.await;
        }
        while link.waiting_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // A writer that is lost meanwhile is as good as a crash.
    let _ = timeout(wait_max, answered).await;
}

/// What a writer's thread needs.
struct Post {
    setting: Setting,
    options: farthing_store_writer::Options,
    epoch: i64,
    asked_at: Instant,
    now: Timestamp,
}

impl Post {
    /// Holds it, from reading the book to the last answer.
    fn hold(
        self,
        queue: &Receiver<Job>,
        counts: Arc<Counts>,
        ready: oneshot::Sender<Result<(), OpenError>>,
    ) -> Result<(), WriteError> {
        let writer = match self.begin(counts) {
            Ok(writer) => writer,
            Err(error) => {
                // Nobody listening is fine: the node may be gone already.
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        // As above.
        let _ = ready.send(Ok(()));
        writer.run(queue)
    }

    fn begin(self, counts: Arc<Counts>) -> Result<Writer<PgJournal>, OpenError> {
        let Self { setting, options, epoch, asked_at, now } = self;
        let name = Arc::clone(&setting.book);
        let mut journal = PgJournal::open(setting, epoch, asked_at)?;
        let read = load(&mut journal, &name, now)?;
        let mut writer = Writer::new(read, journal, options, counts);
        writer.take_over(now)?;
        Ok(writer)
    }
}

/// Lets other gateways in, for as long as this one writes.
async fn accept(
    listener: TcpListener,
    serving: watch::Receiver<Option<Serving>>,
    silence: Duration,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: the next one may be luckier.
            tokio::time::sleep(PAUSE.1).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let now = serving.borrow().clone();
        if let (Some(now), Ok(place)) = (now, Arc::clone(&room).try_acquire_owned()) {
            let serving = serving.clone();
            connections.spawn(async move {
                serve(stream, now, serving, silence).await;
                drop(place);
            });
        }
    }
}

/// Serves another gateway until it goes, or until this one stops writing.
async fn serve(
    stream: TcpStream,
    now: Serving,
    mut serving: watch::Receiver<Option<Serving>>,
    silence: Duration,
) {
    let epoch = now.secret.epoch;
    let is_over = |serving: &Option<Serving>| {
        serving.as_ref().is_none_or(|serving| serving.secret.epoch != epoch)
    };
    tokio::select! {
        ended = link::writer::serve(stream, now.desk, &now.secret, silence) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "another gateway is gone");
            }
        }
        _ = serving.wait_for(is_over) => {}
    }
}
