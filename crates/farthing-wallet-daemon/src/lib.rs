//! The wallet as a daemon: programs that have a token ask it to pay, and no key leaves it.
//!
//! ```text
//!  a program with a token ──┬─ HTTP over a Unix socket ─► api ───┐
//!                           │                                    ├─► Keeper ─► the wallet, as this token
//!  a program without code ──┴─ HTTP_PROXY ──────────────► proxy ─┘             may use it ─► decide, hold, sign
//!  the owner, with a link ─── a browser ────────────────► page ────► Desk ───► approve or deny what waits
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
mod page;
mod problem;
mod proxy;
mod tell;

pub use api::{OPENAPI, routes};
pub use ca::{Ca, CaError, MadeCa};
pub use keeper::{Guest, Keeper, Stranger};
pub use listen::{ListenError, Place};
pub use page::{AnswerKey, Desktop};
pub use proxy::Intercept;
pub use tell::Hook;

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
    /// The page on which its owner answers, if there is to be one.
    pub desktop: Option<Desktop>,
    /// Who is told what is asked and decided, and whether they may answer.
    pub hook: Option<(Hook, bool)>,
}

/// A running daemon.
pub struct Daemon {
    api: Option<Place>,
    proxy: Option<SocketAddr>,
    page: Option<SocketAddr>,
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
        let page = match &offered.desktop {
            Some(desktop) => Some(Bound::to(&Place::Tcp(desktop.address)).await?),
            None => None,
        };
        let place = |bound: &Option<Bound>| bound.as_ref().map(Bound::place);
        let (at_api, at_proxy, at_page) = (place(&api), place(&proxy), place(&page));
        let ours: Vec<u16> =
            [&at_api, &at_proxy, &at_page].into_iter().flatten().filter_map(Place::port).collect();
        let url = at_page.as_ref().map(ToString::to_string);
        let mut tasks = vec![tokio::spawn(tell::expire(Arc::clone(&keeper), stopping.clone()))];
        if let Some((hook, answers)) = offered.hook {
            let key = offered.desktop.as_ref().filter(|_| answers).map(|it| it.key.clone());
            let client = farthing_webhook::client();
            let client = client.map_err(|error| ListenError::Io("TLS".to_owned(), io(error)))?;
            let telling = tell::Telling { hook, client, page: url.clone(), key };
            let telling = tell::tell(Arc::clone(&keeper), telling, stopping.clone());
            tasks.push(tokio::spawn(telling));
        }
        if let (Some(bound), Some(desktop)) = (page, &offered.desktop) {
            let address = bound.place().address().unwrap_or(desktop.address);
            let pages = page::Pages::new(Arc::clone(&keeper), desktop, address);
            tasks.push(tokio::spawn(listen::serve(bound, stopping.clone(), pages.handler())));
        }
        if let Some(bound) = api {
            let place = bound.place();
            let api = api::Api::new(Arc::clone(&keeper), place, offered.signs, url.clone());
            tasks.push(tokio::spawn(listen::serve(bound, stopping.clone(), api.handler())));
        }
        if let Some(bound) = proxy {
            let proxy = proxy::Proxy::new(keeper, ours, offered.intercept, url)?;
            tasks.push(tokio::spawn(listen::serve(bound, stopping, proxy.handler())));
        }
        let address = |place: &Option<Place>| place.as_ref().and_then(Place::address);
        let (proxy, page) = (address(&at_proxy), address(&at_page));
        Ok(Self { api: at_api, proxy, page, stop, tasks })
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

    /// Where the owner's page is.
    #[must_use]
    pub const fn page(&self) -> Option<SocketAddr> {
        self.page
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

fn io(error: reqwest::Error) -> std::io::Error {
    std::io::Error::other(error)
}
