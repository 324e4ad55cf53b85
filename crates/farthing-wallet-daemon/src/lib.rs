//! The wallet as a daemon: programs that have a token ask it to pay, and no key leaves it.
//!
//! ```text
//!  a program with a token ──┬─ HTTP over a Unix socket ─► api ───┐
//!                           │                                    ├─► Keeper ─► the wallet, as this token
//!  a program without code ──┴─ HTTP_PROXY ──────────────► proxy ─┘             may use it ─► decide, hold, sign
//!                                                           │
//!                                                           ├─ http:   paid for where this machine sells it
//!                                                           ├─ CONNECT: bytes, unread
//!                                                           └─ CONNECT to a host the owner has named: read with
//!                                                              a certificate of the owner's own authority
//! ```
//!
//! Whoever may use the wallet, and how far, is the owner's policy; here it is only asked. What is answered says
//! so in a form that programs can act upon: a problem document (RFC 9457) with the rule, its limit and what is
//! used of it.
//!
//! **Architecture invariant:** nothing is done for a request before its token was checked, and everything that
//! is done for it is done under that token's authority.
//!
//! **Architecture invariant:** no key and no passphrase is ever answered, and a credential only to the program
//! that asked for one.
//!
//! **Architecture invariant:** nobody beyond this machine is listened to.

mod answers;
mod api;
mod ca;
mod keeper;
mod listen;
mod problem;
mod proxy;

pub use api::{OPENAPI, routes};
pub use ca::{Ca, CaError, MadeCa};
pub use keeper::{Guest, Keeper, Stranger};
pub use listen::{ListenError, Place};
pub use proxy::Intercept;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::listen::Bound;

/// What a daemon is to offer.
pub struct Offered {
    /// Where its API listens; nowhere if nothing is said.
    pub api: Option<Place>,
    /// Where its proxy listens.
    pub proxy: Option<SocketAddr>,
    /// Which hosts the proxy reads, with which authority's certificates.
    pub intercept: Option<Intercept>,
    /// Whether it signs for programs that make their requests themselves. The wallet then relies on their
    /// word for whom an offer came from.
    pub signs: bool,
}

/// A running daemon.
pub struct Daemon {
    api: Option<Place>,
    proxy: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// A [`ListenError`]: an address beyond this machine, or one that is taken.
    pub async fn start(offered: Offered, keeper: Arc<dyn Keeper>) -> Result<Self, ListenError> {
        let (stop, stopping) = watch::channel(false);
        let api = match &offered.api {
            Some(place) => Some(Bound::to(place).await?),
            None => None,
        };
        let proxy = match offered.proxy {
            Some(address) => Some(Bound::to(&Place::Tcp(address)).await?),
            None => None,
        };
        let places = (api.as_ref().map(Bound::place), proxy.as_ref().map(Bound::place));
        let ours: Vec<u16> =
            [&places.0, &places.1].into_iter().flatten().filter_map(Place::port).collect();
        let mut tasks = Vec::new();
        if let Some(bound) = api {
            let api = api::Api::new(Arc::clone(&keeper), bound.place(), offered.signs);
            tasks.push(tokio::spawn(listen::serve(bound, stopping.clone(), api.handler())));
        }
        if let Some(bound) = proxy {
            let proxy = proxy::Proxy::new(keeper, ours, offered.intercept)?;
            tasks.push(tokio::spawn(listen::serve(bound, stopping, proxy.handler())));
        }
        let proxy = places.1.as_ref().and_then(Place::address);
        Ok(Self { api: places.0, proxy, stop, tasks })
    }

    /// Where the API listens, its port known.
    #[must_use]
    pub const fn api(&self) -> Option<&Place> {
        self.api.as_ref()
    }

    /// Where the proxy listens.
    #[must_use]
    pub const fn proxy(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// Stops listening, lets running requests finish, and cuts what does not within half a minute. A payment
    /// that was cut is outstanding, and taken up again by the same request.
    pub async fn stop(self) {
        // Nobody may be left to tell.
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
