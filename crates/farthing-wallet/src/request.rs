//! What the wallet is asked to fetch.

use bytes::Bytes;
use farthing_ledger::Fingerprint;
use farthing_mpp::BodyDigest;
use http::{HeaderMap, Method};
use url::{Host, Url};

/// A request to make, and to pay for if need be.
#[derive(Clone, Debug)]
pub struct PayRequest {
    /// The method.
    pub method: Method,
    /// Where; never with a fragment or a password in it.
    pub url: Url,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl PayRequest {
    /// What is to be bought, in one fingerprint: the method, the address and the body.
    ///
    /// Two requests with the same fingerprint are one intent.
    #[must_use]
    pub fn intent(&self) -> Fingerprint {
        let body = Fingerprint::of("body", &[&self.body]);
        let parts =
            [self.method.as_str().as_bytes(), self.url.as_str().as_bytes(), body.as_bytes()];
        Fingerprint::of("intent", &parts)
    }

    /// The SHA-256 of the body, which an offer may be bound to.
    pub(crate) fn body_digest(&self) -> [u8; 32] {
        *BodyDigest::of(&self.body).as_bytes()
    }

    /// Scheme, host and port: whom a credential may be sent to.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Whether money may travel to a URL: over TLS, or to this machine.
///
/// # Errors
///
/// An [`UnsafeUrl`] that says why not.
pub(crate) fn check_url(url: &Url) -> Result<(), UnsafeUrl> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UnsafeUrl::Userinfo);
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err(UnsafeUrl::PlainHttp),
        _ => Err(UnsafeUrl::Scheme),
    }
}

/// Whether a URL names this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why no money may travel to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeUrl {
    /// The connection could be read on its way.
    #[error("plain HTTP is for this machine only; use https")]
    PlainHttp,
    /// It is not HTTP at all.
    #[error("only https, and http to this machine, can be paid")]
    Scheme,
    /// A name or password stands in it.
    #[error("a URL with a user name in it is not paid; it may be dressed up as another")]
    Userinfo,
}
