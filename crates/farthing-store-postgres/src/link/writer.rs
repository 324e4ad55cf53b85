//! The side of the gateway that writes.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_ledger::PaymentId;
use farthing_store_writer::{Ask, Desk, Said};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    Claim, FRAME_BYTES_MAX, Hello, Nonces, Seal, Secret, ToGateway, ToWriter, VERSION, Welcome,
    hear, nonce, read_frame, say, unproven,
};

/// How long the other side has to prove that it has read the lease.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// How many bytes of frames are written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The rights that were given over one connection and not ended.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<BTreeSet<PaymentId>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PaymentId>> {
        // A panic elsewhere leaves the set as the last whole step left it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection to its end. Whatever right was given over it then goes back: nobody knows how
/// far the other side came.
pub(crate) async fn serve(
    mut stream: TcpStream,
    desk: Desk,
    secret: &Secret,
    silence: Duration,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let nonces = timeout(HANDSHAKE_WAIT, shake_hands(&mut stream, secret)).await??;
    let (read, write) = stream.into_split();
    let (say, outgoing) = mpsc::unbounded_channel();
    let mut seen = Connection { desk, say, held: Held::default(), answers: JoinSet::new() };
    let read = (BufReader::new(read), secret.seal("to writer", nonces));
    let write = (write, secret.seal("to gateway", nonces));
    tokio::select! {
        ended = seen.listen(read, silence) => ended,
        ended = speak(write, outgoing) => ended,
    }
}

async fn shake_hands(stream: &mut TcpStream, secret: &Secret) -> io::Result<Nonces> {
    let writer = nonce()?;
    say(stream, &Hello { version: VERSION, nonce: writer }).await?;
    let Claim { book, epoch, nonce: gateway, proof } = hear(stream).await?;
    let nonces = Nonces { writer, gateway };
    let is_proven = secret.proves(&proof, "gateway", nonces);
    if !is_proven || book != secret.book || epoch != secret.epoch {
        return Err(unproven());
    }
    say(stream, &Welcome { proof: secret.derive("writer", nonces) }).await?;
    Ok(nonces)
}

struct Connection {
    desk: Desk,
    say: UnboundedSender<ToGateway>,
    held: Held,
    /// Those who wait for the writer on behalf of the other side.
    answers: JoinSet<()>,
}

impl Connection {
    async fn listen(
        &mut self,
        (mut stream, mut seal): (BufReader<OwnedReadHalf>, Seal),
        silence: Duration,
    ) -> io::Result<()> {
        loop {
            let sealed = timeout(silence, read_frame(&mut stream, FRAME_BYTES_MAX)).await??;
            match seal.open(&sealed)? {
                ToWriter::Ask(number, ask) => self.ask(number, ask),
                ToWriter::Tell(ask) => self.tell(ask),
                ToWriter::Ping => drop(self.say.send(ToGateway::Pong)),
            }
            // Those that are done make room.
            while self.answers.try_join_next().is_some() {}
        }
    }

    /// Hands a request in at once, so that requests are decided in the order in which they came.
    fn ask(&mut self, number: u64, ask: Ask) {
        if !self.may(&ask) {
            drop(self.say.send(ToGateway::Said(number, Said::Done)));
            return;
        }
        let right = ask.right();
        let voids = if let Ask::Void(payment, ..) = &ask { Some(*payment) } else { None };
        let Ok(owed) = self.desk.put(ask) else {
            drop(self.say.send(ToGateway::Unable(number)));
            return;
        };
        let (say, held) = (self.say.clone(), self.held.clone());
        self.answers.spawn(async move {
            let Some(said) = owed.await else {
                drop(say.send(ToGateway::Unable(number)));
                return;
            };
            if let Some(payment) = right.filter(|_| said.gives_right()) {
                held.lock().insert(payment);
            }
            if let (Some(payment), Said::Voided(true)) = (voids, &said) {
                held.lock().remove(&payment);
            }
            drop(say.send(ToGateway::Said(number, said)));
        });
    }

    fn tell(&self, ask: Ask) {
        if self.may(&ask) {
            // The writer gone, the connection ends too.
            let _ = self.desk.tell(ask);
        }
    }

    /// Notes the rights that a request ends. What only the holder of a right may say counts for nothing
    /// from anybody else.
    fn may(&self, ask: &Ask) -> bool {
        let held = ask.ends_right().is_some_and(|payment| self.held.lock().remove(&payment));
        match ask {
            Ask::GiveBack(..) | Ask::Fail(..) => held,
            Ask::Claim(..)
            | Ask::Post(..)
            | Ask::Void(..)
            | Ask::Enter(..)
            | Ask::Deliver(..)
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
            | Ask::Erase(..) => true,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What was never sent goes back as if nobody had been told, and what was sent as abandoned. The
        // runtime has one thread: no answer is on its way while this runs.
        self.answers.abort_all();
        for payment in std::mem::take(&mut *self.held.lock()) {
            self.desk.abandon(payment);
        }
    }
}

async fn speak(
    (mut stream, mut seal): (OwnedWriteHalf, Seal),
    mut outgoing: UnboundedReceiver<ToGateway>,
) -> io::Result<()> {
    while let Some(first) = outgoing.recv().await {
        let mut out = Vec::new();
        seal.close(&first, &mut out)?;
        while out.len() < CHUNK_BYTES
            && let Ok(message) = outgoing.try_recv()
        {
            seal.close(&message, &mut out)?;
        }
        stream.write_all(&out).await?;
    }
    Ok(())
}
