//! The side of a gateway that does not write.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_store_writer::{Ask, Asker, GiveBack, Owed, Refused, Said, owe};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Claim, FRAME_BYTES_MAX, Hello, Nonces, Seal, Secret, ToGateway, ToWriter, VERSION, Welcome,
    hear, nonce, read_frame, say, unproven,
};

/// How many bytes of frames are written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// An open link to the writer. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    out: UnboundedSender<ToWriter>,
    waiting: Arc<Mutex<Waiting>>,
    give_back: GiveBack,
    waiting_max: usize,
}

/// Who waits for an answer.
#[derive(Default)]
struct Waiting {
    next: u64,
    askers: BTreeMap<u64, Asker>,
    is_over: bool,
}

/// The two directions of an open link.
pub(crate) struct Wires {
    link: Link,
    read: (BufReader<OwnedReadHalf>, Seal),
    write: (OwnedWriteHalf, Seal),
    outgoing: UnboundedReceiver<ToWriter>,
    silence: Duration,
}

/// Opens a link to the writer at `address`, which has to prove that it holds the lease. It counts as lost
/// after `silence` without a sign of life.
pub(crate) async fn open(
    address: &str,
    secret: &Secret,
    silence: Duration,
    waiting_max: usize,
) -> io::Result<(Link, Wires)> {
    let opened = timeout(silence, shake_hands(address, secret)).await;
    let (stream, nonces) = opened.map_err(io::Error::from)??;
    let (read, write) = stream.into_split();
    let (out, outgoing) = mpsc::unbounded_channel();
    let backwards = out.clone();
    let give_back: GiveBack = Arc::new(move |payment| {
        // The link over, the writer gives everything back that was given over it.
        let _ = backwards.send(ToWriter::Tell(Ask::GiveBack(payment, false)));
    });
    let link = Link { out, waiting: Arc::default(), give_back, waiting_max };
    let read = (BufReader::new(read), secret.seal("to gateway", nonces));
    let write = (write, secret.seal("to writer", nonces));
    Ok((link.clone(), Wires { link, read, write, outgoing, silence }))
}

async fn shake_hands(address: &str, secret: &Secret) -> io::Result<(TcpStream, Nonces)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Hello { version, nonce: writer } = hear(&mut stream).await?;
    if version != VERSION {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let nonces = Nonces { writer, gateway: nonce()? };
    let claim = Claim {
        book: secret.book.clone(),
        epoch: secret.epoch,
        nonce: nonces.gateway,
        proof: secret.derive("gateway", nonces),
    };
    say(&mut stream, &claim).await?;
    let Welcome { proof } = hear(&mut stream).await?;
    if secret.proves(&proof, "writer", nonces) { Ok((stream, nonces)) } else { Err(unproven()) }
}

impl Link {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves the list as the last whole step left it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers are waited for.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting().askers.len()
    }

    /// Asks the writer. The request is on its way when this returns.
    pub(crate) fn put(&self, ask: Ask) -> Result<Owed, Refused> {
        let mut waiting = self.waiting();
        if waiting.is_over {
            return Err(Refused::Stopped);
        }
        if waiting.askers.len() >= self.waiting_max && ask.ends_right().is_none() {
            return Err(Refused::Full);
        }
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        let (asker, owed) = owe(ask.right(), &self.give_back);
        // Requests leave in the order of their numbers.
        self.out.send(ToWriter::Ask(number, ask)).map_err(|_| Refused::Stopped)?;
        waiting.askers.insert(number, asker);
        Ok(owed)
    }

    /// Tells the writer something without waiting.
    pub(crate) fn tell(&self, ask: Ask) -> Result<(), Refused> {
        self.out.send(ToWriter::Tell(ask)).map_err(|_| Refused::Stopped)
    }

    fn heard(&self, number: u64, said: Option<Said>) {
        let asker = self.waiting().askers.remove(&number);
        if let (Some(asker), Some(said)) = (asker, said) {
            asker.say(said);
        }
    }

    /// Everybody who waits is told that no answer comes.
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.is_over = true;
        let askers = std::mem::take(&mut waiting.askers);
        drop(waiting);
        drop(askers);
    }
}

/// Tells everybody, however the link ends.
struct Ending(Link);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Wires {
    /// Drives the link until it is lost, and says why.
    pub(crate) async fn drive(self) -> io::Error {
        let Self { link, read, write, outgoing, silence } = self;
        let ending = Ending(link);
        let ended = tokio::select! {
            ended = listen(&ending.0, read, silence) => ended,
            ended = speak(write, outgoing, silence) => ended,
        };
        ended.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }
}

async fn listen(
    link: &Link,
    (mut stream, mut seal): (BufReader<OwnedReadHalf>, Seal),
    silence: Duration,
) -> io::Result<()> {
    loop {
        let sealed = timeout(silence, read_frame(&mut stream, FRAME_BYTES_MAX)).await??;
        match seal.open(&sealed)? {
            ToGateway::Said(number, said) => link.heard(number, Some(said)),
            ToGateway::Unable(number) => link.heard(number, None),
            ToGateway::Pong => {}
        }
    }
}

async fn speak(
    (mut stream, mut seal): (OwnedWriteHalf, Seal),
    mut outgoing: UnboundedReceiver<ToWriter>,
    silence: Duration,
) -> io::Result<()> {
    let mut pulse = interval(silence.checked_div(3).unwrap_or(silence));
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            message = outgoing.recv() => message.unwrap_or(ToWriter::Ping),
            _ = pulse.tick() => ToWriter::Ping,
        };
        let mut out = Vec::new();
        seal.close(&first, &mut out)?;
        while out.len() < CHUNK_BYTES
            && let Ok(message) = outgoing.try_recv()
        {
            seal.close(&message, &mut out)?;
        }
        stream.write_all(&out).await?;
    }
}
