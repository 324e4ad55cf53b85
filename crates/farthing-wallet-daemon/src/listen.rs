//! Listening to this machine, and to nobody else.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// How many connections may be open at once; the next one waits to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// How long a program may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long running requests may take to finish when the daemon stops.
const GRACE: Duration = Duration::from_secs(30);

/// How long to pause when the system cannot accept, as when it is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket that only its owner reaches.
    Unix(PathBuf),
    /// An address of this machine's own.
    Tcp(SocketAddr),
}

impl Place {
    /// The address, if it is one.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.address().map(|address| address.port())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not this machine's alone.
    #[error(
        "{0} can be reached from elsewhere; the wallet listens on 127.0.0.1, ::1 or a Unix socket"
    )]
    Elsewhere(SocketAddr),
    /// Another daemon has the socket.
    #[error("somebody listens on {} already", .0.display())]
    Taken(PathBuf),
    /// The operating system says no.
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
}

/// A socket that is listened on.
pub(crate) struct Bound {
    socket: Socket,
    place: Place,
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Bound {
    pub(crate) async fn to(place: &Place) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Io(place.to_string(), error);
        match place {
            Place::Tcp(address) if !address.ip().is_loopback() => {
                Err(ListenError::Elsewhere(*address))
            }
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let place = Place::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(listener), place })
            }
            Place::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::Taken(path.clone()));
                }
                let listener = private_socket(path).map_err(failed)?;
                Ok(Self { socket: Socket::Unix(listener), place: place.clone() })
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match &self.socket {
            Socket::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers should not wait for more to say.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Place::Unix(path) = &self.place {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket at `path` that nobody but its owner can connect to at any moment: it is made in a folder of its
/// owner's alone and then moved, over whatever a daemon that died has left.
fn private_socket(path: &Path) -> std::io::Result<UnixListener> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let folder = path.with_file_name(name);
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&folder)?;
    let made = folder.join("s");
    let bound = UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&made, path)?;
        Ok(listener)
    });
    // Nothing is in it any more, or a socket that nobody listens on.
    let _ = std::fs::remove_dir_all(&folder);
    bound
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What answers requests.
pub(crate) type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// Serves connections until `stop` turns true, and then lets running requests finish.
pub(crate) async fn serve(bound: Bound, mut stop: watch::Receiver<bool>, handler: Handler) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async { (place.await, bound.accept().await) } => accepted,
        };
        let (Ok(place), Ok(stream)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let one = one(connection(stream, Arc::clone(&handler)), stop.clone());
        tokio::spawn(async move {
            one.await;
            drop(place);
        });
    }
    drop(bound);
    // All places free means that no task of ours is left.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// Serves one connection until it ends; once `stop` turns true, no longer than its running request, and than
/// the grace.
async fn one(connection: Connection, mut stop: watch::Receiver<bool>) {
    let mut connection = pin!(connection);
    let stopped = async {
        // A sender that is gone has stopped as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!("the grace period is over; a connection is cut"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

type Connection = http1::UpgradeableConnection<TokioIo<Box<dyn Stream>>, Answers>;

/// What answers the requests of a connection.
pub(crate) struct Answers(Handler);

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async { Ok(answer.await) })
    }
}

/// One connection, which may become a tunnel.
pub(crate) fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    handler: Handler,
) -> Connection {
    let stream: Box<dyn Stream> = Box::new(stream);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    server.serve_connection(TokioIo::new(stream), Answers(handler)).with_upgrades()
}
