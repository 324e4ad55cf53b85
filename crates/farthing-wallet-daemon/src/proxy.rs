//! A forward proxy: what any program asks for through it is paid for where it costs something.
//!
//! ```text
//!  GET http://…  ─► guard ─► the request as it came ─┬─ no 402 ────────────────► the answer, streamed
//!                                                    └─ 402 ─► wallet: sign ─┬─► with the credential ─► streamed
//!                                                                            └─ not allowed: a problem, 403
//!  CONNECT host  ─► guard ─┬─ bytes, unread
//!                          └─ a host that the owner has named: TLS with the owner's authority, and as above
//! ```
//!
//! What a program pays for itself is handed on untouched, and so is everything that costs nothing. Money travels
//! over TLS or within this machine only: elsewhere a `402` over plain HTTP is handed on like any other answer.
//!
//! **Architecture invariant:** nothing is asked for on behalf of who has no token, and nothing at the daemon's
//! own addresses or at those that only speak to their own machine (link-local, as of clouds' metadata).

mod exchange;
mod guard;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use farthing_money::Timestamp;
use http::header::{HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::api::admit;
use crate::ca::Ca;
use crate::keeper::{Guest, Keeper};
use crate::listen::{Answering, Handler, ListenError, connection};
use crate::problem::Problem;
use exchange::Turns;
use guard::{Guard, Guarded, GuardedResolver};

#[cfg(test)]
mod tests;

/// How long a connection to a seller may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a TLS handshake with a program may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many tunnels may be open at once; they count as connections no more.
const TUNNELS_MAX: usize = 256;

pub(crate) type Outwards = Client<HttpsConnector<Guarded<HttpConnector<GuardedResolver>>>, Body>;

/// Which hosts are read, and with whose certificates.
pub struct Intercept {
    /// The owner's authority.
    pub ca: Ca,
    /// The hosts. Every other one is a tunnel of bytes.
    pub hosts: BTreeSet<String>,
}

pub(crate) struct Proxy {
    keeper: Arc<dyn Keeper>,
    outwards: Outwards,
    guard: Guard,
    intercept: Option<Intercept>,
    tunnels: Arc<Semaphore>,
    turns: Turns,
    /// The owner's page, for those whose payment waits.
    page: Option<String>,
}

/// Whom a request is for, and on whose behalf.
struct Asked {
    token: Zeroizing<String>,
    scheme: Scheme,
    authority: Authority,
}

impl Proxy {
    pub(crate) fn new(
        keeper: Arc<dyn Keeper>,
        ours: Vec<u16>,
        intercept: Option<Intercept>,
        page: Option<String>,
    ) -> Result<Arc<Self>, ListenError> {
        let guard = Guard::new(ours);
        let outwards = outwards(guard.clone());
        let outwards = outwards.map_err(|error| ListenError::Io("TLS".to_owned(), error))?;
        let (tunnels, turns) = (Arc::new(Semaphore::new(TUNNELS_MAX)), Turns::default());
        Ok(Arc::new(Self { keeper, outwards, guard, intercept, tunnels, turns, page }))
    }

    pub(crate) fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request| -> Answering {
            let proxy = Arc::clone(&self);
            Box::pin(async move {
                match proxy.answer(request).await {
                    Ok(response) => response,
                    Err(problem) => refusal(problem),
                }
            })
        })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response, Problem> {
        let token = token(request.headers()).ok_or_else(|| {
            let detail = "Name the wallet's token: HTTP_PROXY=http://agent:TOKEN@127.0.0.1:PORT";
            Problem::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "token", detail)
        })?;
        let guest = self.admit(&token).await?;
        if request.method() == Method::CONNECT {
            return self.connect(request, token, guest.wallet.clock.now()).await;
        }
        let (Some(scheme), Some(authority)) = (request.uri().scheme(), request.uri().authority())
        else {
            return Err(Problem::malformed("This is a proxy; it is asked for whole addresses."));
        };
        if *scheme != Scheme::HTTP {
            return Err(Problem::malformed("Ask for https with CONNECT."));
        }
        let asked = Asked { token, scheme: scheme.clone(), authority: authority.clone() };
        check_host(request.headers(), &asked)?;
        self.exchange(request, &asked, guest).await
    }

    async fn admit(&self, token: &str) -> Result<Guest, Problem> {
        let admitted = admit(&self.keeper, token.to_owned()).await;
        admitted.map_err(|problem| {
            if problem.code() == "token" {
                let detail = "The token is none of this wallet's, has expired, or was revoked.";
                return Problem::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "token", detail);
            }
            problem
        })
    }

    /// Opens a tunnel: of bytes, or to be read.
    async fn connect(
        self: Arc<Self>,
        request: Request<Incoming>,
        token: Zeroizing<String>,
        now: Timestamp,
    ) -> Result<Response, Problem> {
        let authority = request.uri().authority().cloned();
        let authority =
            authority.filter(|it| it.port_u16().is_some() && !it.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| Problem::malformed("CONNECT names host and port."))?;
        let (host, port) = (bare(authority.host()), authority.port_u16().unwrap_or_default());
        let addresses = self.guard.resolve(&host, port).await?;
        let place = Arc::clone(&self.tunnels).try_acquire_owned().map_err(|_| {
            let detail = "Too many tunnels are open.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        })?;
        let read = self.intercept.as_ref().filter(|it| it.hosts.contains(&host));
        if let Some(intercept) = read {
            let server = intercept
                .ca
                .server(&host, now)
                .map_err(|error| Problem::new(StatusCode::BAD_GATEWAY, "authority", error))?;
            let acceptor = TlsAcceptor::from(server);
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                self.read_tunnel(upgrade, acceptor, authority, token).await;
                drop(place);
            });
            return Ok(Response::new(Body::empty()));
        }
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&*addresses));
        let mut there = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(Problem::new(StatusCode::BAD_GATEWAY, "unreachable", error));
            }
            Err(_) => {
                let detail = "The host does not answer.";
                return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "unreachable", detail));
            }
        };
        tokio::spawn(async move {
            let Ok(here) = hyper::upgrade::on(request).await else { return };
            // Both ends close as they like.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(here), &mut there).await;
            drop(place);
        });
        Ok(Response::new(Body::empty()))
    }

    /// Reads what goes through a tunnel.
    async fn read_tunnel(
        self: Arc<Self>,
        upgrade: hyper::upgrade::OnUpgrade,
        acceptor: TlsAcceptor,
        authority: Authority,
        token: Zeroizing<String>,
    ) {
        let Ok(here) = upgrade.await else { return };
        let accepting = acceptor.accept(TokioIo::new(here));
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await else {
            tracing::info!(host = authority.host(), "a program does not trust the authority");
            return;
        };
        let handler: Handler = Arc::new(move |request| -> Answering {
            let (proxy, token) = (Arc::clone(&self), token.clone());
            let (scheme, authority) = (Scheme::HTTPS, authority.clone());
            Box::pin(async move {
                let asked = Asked { token, scheme, authority };
                match proxy.answer_read(request, &asked).await {
                    Ok(response) => response,
                    Err(problem) => refusal(problem),
                }
            })
        });
        if let Err(error) = connection(stream, handler).await {
            tracing::debug!(%error, "connection ended early");
        }
    }

    async fn answer_read(
        &self,
        request: Request<Incoming>,
        asked: &Asked,
    ) -> Result<Response, Problem> {
        if request.method() == Method::CONNECT || request.uri().authority().is_some() {
            return Err(Problem::malformed("Within a tunnel, paths are asked for."));
        }
        check_host(request.headers(), asked)?;
        let guest = self.admit(&asked.token).await?;
        self.exchange(request, asked, guest).await
    }
}

fn refusal(problem: Problem) -> Response {
    let challenge: (HeaderName, &'static str) =
        (PROXY_AUTHENTICATE, "Basic realm=\"farthing wallet\"");
    let asks = problem.is(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    problem.answer(asks.then_some(challenge))
}

fn outwards(guard: Guard) -> std::io::Result<Outwards> {
    let mut connector = HttpConnector::new_with_resolver(GuardedResolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(Guarded::new(connector, guard));
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build(connector))
}

/// The token that a program shows: as a password, whatever the name, or as it is.
fn token(fields: &HeaderMap) -> Option<Zeroizing<String>> {
    let mut shown = fields.get_all(PROXY_AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = Zeroizing::new(BASE64.decode(rest.trim()).ok()?);
    let (_, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(Zeroizing::new(password.to_owned()))
}

/// A request is for one host, whichever way it is named: two names are for two readers to disagree about.
fn check_host(fields: &HeaderMap, asked: &Asked) -> Result<(), Problem> {
    let wrong = || Problem::malformed("Host has to name the host that is asked for, once.");
    if asked.authority.as_str().contains('@') {
        return Err(Problem::malformed("An address with a user name in it is not asked for."));
    }
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(wrong()) };
    let host: Authority = host.to_str().ok().and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
    let port = |it: &Authority| it.port_u16().unwrap_or(usual_port(&asked.scheme));
    let same = host.host().eq_ignore_ascii_case(asked.authority.host())
        && port(&host) == port(&asked.authority);
    if same { Ok(()) } else { Err(wrong()) }
}

fn usual_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// A host in lower case, an address without its brackets.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// The whole address of what is asked for.
fn target(asked: &Asked, uri: &Uri) -> Result<Uri, Problem> {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let built = Uri::builder()
        .scheme(asked.scheme.clone())
        .authority(asked.authority.clone())
        .path_and_query(path)
        .build();
    built.map_err(Problem::malformed)
}
