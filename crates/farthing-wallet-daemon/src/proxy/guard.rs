//! Where a proxy does not go.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use http::{StatusCode, Uri};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::problem::Problem;

/// Addresses that only speak to their own machine although they are not link-local: metadata of clouds.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The IPv4 address that an IPv6 address stands for, if it does: mapped, or behind a translator (RFC 6052).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address.to_canonical() else { return address.to_canonical() };
    match six.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => IpAddr::V6(six),
    }
}

/// Whether an address is nobody's to be asked through a proxy.
pub(super) fn is_off_limits(address: IpAddr) -> bool {
    let address = plain(address);
    let special = match address {
        IpAddr::V4(it) => it.is_link_local() || it.is_broadcast(),
        IpAddr::V6(it) => it.is_unicast_link_local(),
    };
    special || address.is_unspecified() || address.is_multicast() || METADATA.contains(&address)
}

/// What must not be reached.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The daemon's own ports.
    ours: Arc<[u16]>,
}

fn forbidden() -> Problem {
    let detail =
        "The proxy does not go there: it is the wallet's own, or speaks to its own machine only.";
    Problem::new(StatusCode::FORBIDDEN, "off-limits", detail)
}

impl Guard {
    pub(super) fn new(ours: Vec<u16>) -> Self {
        Self { ours: ours.into() }
    }

    fn allows(&self, address: SocketAddr) -> bool {
        let own = plain(address.ip()).is_loopback() && self.ours.contains(&address.port());
        !own && !is_off_limits(address.ip())
    }

    /// The addresses of a host. One that must not be reached is a refusal of all: a name that points to both is
    /// up to something.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Problem> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
            let detail = format!("{host} is not found: {error}");
            Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail)
        })?;
        let found: Vec<SocketAddr> = found.collect();
        if found.iter().all(|address| self.allows(*address)) { Ok(found) } else { Err(forbidden()) }
    }

    /// Whether a host may be asked, as far as that can be said before a connection. The rest is
    /// [`GuardedResolver`]'s and [`Guarded`]'s.
    pub(super) async fn check(&self, host: &str, port: u16) -> Result<(), Problem> {
        match host.parse::<IpAddr>() {
            Ok(ip) if self.allows(SocketAddr::new(ip, port)) => Ok(()),
            Ok(_) => Err(forbidden()),
            Err(_) if self.ours.contains(&port) => self.resolve(host, port).await.map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// Looks names up, and finds nothing that must not be reached.
#[derive(Clone, Copy)]
pub(crate) struct GuardedResolver;

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_off_limits(address.ip())) {
                return Err(io::Error::other("the name points to where the proxy does not go"));
            }
            Ok(found.into_iter())
        })
    }
}

/// Connects, and lets go again, nothing said, of what must not be reached: a name may point elsewhere from one
/// moment to the next, and a connection goes where it goes.
#[derive(Clone)]
pub(crate) struct Guarded<C> {
    connector: C,
    guard: Guard,
}

impl<C> Guarded<C> {
    pub(super) fn new(connector: C, guard: Guard) -> Self {
        Self { connector, guard }
    }
}

impl<C> Service<Uri> for Guarded<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, guard) = (self.connector.call(uri), self.guard.clone());
        Box::pin(async move {
            let stream = connecting.await.map_err(Into::into)?;
            if guard.allows(stream.inner().peer_addr()?) {
                return Ok(stream);
            }
            Err(io::Error::other("the name points to where the proxy does not go").into())
        })
    }
}
