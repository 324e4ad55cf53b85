//! How a gateway speaks to the one that writes its book.
//!
//! Both sides know the token in the lease, and prove it to each other over a fresh nonce of each. From
//! then on every frame is encrypted and numbered under keys of that one connection: nobody on the way
//! can read it, change it, repeat it or leave one out.
//!
//! ```text
//! writer  ──► gateway   hello    nonce
//! gateway ──► writer    claim    book, epoch, nonce, HMAC(token, "gateway" …)
//! writer  ──► gateway   welcome  HMAC(token, "writer" …)
//! then, both ways       length · ChaCha20-Poly1305(JSON)
//! ```

use std::io;

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use farthing_store_writer::{Ask, Said};
use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) mod gateway;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

/// The longest frame: an answer that is kept, in base64, and everything around it.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// The longest message before the other side has proved anything.
const HANDSHAKE_BYTES_MAX: usize = 4 << 10;

/// The version of this protocol.
const VERSION: u32 = 1;

type Bytes32 = [u8; 32];

/// What both sides must agree about.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) book: String,
    pub(crate) epoch: i64,
    /// The token of the lease.
    pub(crate) token: Vec<u8>,
}

/// What a gateway says to the writer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToWriter {
    Ask(u64, Ask),
    Tell(Ask),
    /// Still there?
    Ping,
}

/// What the writer says to a gateway.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToGateway {
    Said(u64, Said),
    /// What was asked is not answered.
    Unable(u64),
    Pong,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    version: u32,
    nonce: Bytes32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    book: String,
    epoch: i64,
    nonce: Bytes32,
    proof: Bytes32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Welcome {
    proof: Bytes32,
}

/// The nonces of one connection: the writer's and the gateway's.
#[derive(Clone, Copy)]
struct Nonces {
    writer: Bytes32,
    gateway: Bytes32,
}

impl Secret {
    /// A value that only whoever knows the token can compute, for one purpose on one connection.
    fn derive(&self, purpose: &str, nonces: Nonces) -> Bytes32 {
        // HMAC takes a key of any length: `new_from_slice` has no error to give for it.
        #[expect(clippy::unwrap_used, reason = "HMAC takes a key of any length")]
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.token).unwrap();
        let epoch = self.epoch.to_be_bytes();
        let parts: [&[u8]; 5] =
            [purpose.as_bytes(), self.book.as_bytes(), &epoch, &nonces.writer, &nonces.gateway];
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn proves(&self, proof: &Bytes32, purpose: &str, nonces: Nonces) -> bool {
        self.derive(purpose, nonces).ct_eq(proof).into()
    }

    fn seal(&self, purpose: &str, nonces: Nonces) -> Seal {
        let key = Key::from(self.derive(purpose, nonces));
        Seal { cipher: ChaCha20Poly1305::new(&key), count: 0 }
    }
}

/// One direction of a connection: every frame has its number.
struct Seal {
    cipher: ChaCha20Poly1305,
    count: u64,
}

impl Seal {
    /// The number of the next frame. A connection ends long before they run out.
    fn next(&mut self) -> io::Result<Nonce> {
        let mut nonce = [0; 12];
        let (_, tail) = nonce.split_at_mut(4);
        tail.copy_from_slice(&self.count.to_be_bytes());
        self.count = self.count.checked_add(1).ok_or_else(unproven)?;
        Ok(Nonce::from(nonce))
    }

    /// Adds a message to `out`, as a frame.
    fn close(&mut self, message: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
        let plain = serde_json::to_vec(message).map_err(io::Error::other)?;
        let nonce = self.next()?;
        let sealed = self.cipher.encrypt(&nonce, plain.as_slice()).map_err(|_| unproven())?;
        frame(&sealed, FRAME_BYTES_MAX, out)
    }

    /// Reads the message in a frame.
    fn open<T: DeserializeOwned>(&mut self, sealed: &[u8]) -> io::Result<T> {
        let nonce = self.next()?;
        let plain = self.cipher.decrypt(&nonce, sealed).map_err(|_| unproven())?;
        serde_json::from_slice(&plain).map_err(io::Error::other)
    }
}

/// Adds a frame to `out`.
fn frame(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= bytes_max);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Reads a frame of at most `bytes_max`.
async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
    bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Says something before there are keys.
async fn say(
    stream: &mut (impl AsyncWriteExt + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut out = Vec::new();
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    frame(&body, HANDSHAKE_BYTES_MAX, &mut out)?;
    stream.write_all(&out).await
}

/// Hears something before there are keys.
async fn hear<T: DeserializeOwned>(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<T> {
    let body = read_frame(stream, HANDSHAKE_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

fn nonce() -> io::Result<Bytes32> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// The other side does not know the token, or not any more.
fn unproven() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}
