//! Listening, and serving connections until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use farthing_gate::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;

/// How many connections may be open at once; the next one waits to be accepted.
const CONNECTIONS_MAX: usize = 10_000;

/// How long a client may take to send a request's head or to finish a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to pause when the system cannot accept, as when it is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The TLS that new connections get; swapped on reload.
pub(crate) type TlsSlot = Arc<RwLock<Option<Arc<ServerConfig>>>>;

/// What is known of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) https: bool,
}

/// Serves connections until `stop` turns true, and then lets running requests finish, but no
/// longer than `grace`.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    tls: TlsSlot,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
    handler: H,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let (cut, cutting) = watch::channel(false);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        let (Ok(place), Ok((stream, address))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers should not wait for more to say; a socket that refuses is still a socket.
        let _ = stream.set_nodelay(true);
        let tls = tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let watcher = graceful.watcher();
        let (handler, metrics, mut cutting) =
            (handler.clone(), Arc::clone(&metrics), cutting.clone());
        tokio::spawn(async move {
            metrics.connected();
            let peer = Peer { address, https: tls.is_some() };
            let served = async {
                match tls {
                    None => one(stream, peer, handler, watcher).await,
                    Some(tls) => {
                        if let Some(stream) = handshake(stream, tls).await {
                            one(stream, peer, handler, watcher).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = served => {}
                _ = cutting.wait_for(|cut| *cut) => {}
            }
            metrics.disconnected();
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("the grace period is over; connections are cut");
    }
    // Nobody left to cut is the usual case.
    let _ = cut.send(true);
    // All places free means that no task of ours is left.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

async fn handshake(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let accepted = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, accepted).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Serves one connection, of HTTP/1 or HTTP/2.
///
/// A message with two lengths is either refused by hyper, or read by its transfer coding alone and
/// its connection closed (RFC 9112 §6.3); what goes on to the upstream is framed anew in any case.
async fn one<I, H, F>(
    stream: I,
    peer: Peer,
    handler: H,
    watcher: hyper_util::server::graceful::Watcher,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let service = service_fn(move |request| {
        let answer = handler(request, peer);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection =
        server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}
