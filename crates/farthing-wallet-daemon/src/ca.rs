//! A certificate authority of the owner's own, with which the proxy reads what is said to named hosts.
//!
//! Whoever trusts it trusts whoever has its key. So it is good for the hosts that it was made for and no others
//! (name constraints, RFC 5280 §4.2.1.10), for a short while, and its key is for the wallet to seal.
//!
//! **Architecture invariant:** no certificate is made for a host that the authority was not made for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farthing_money::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroize;

#[cfg(test)]
mod tests;

/// How long a host's certificate is good for.
const LEAF_LASTS: Duration = Duration::from_hours(24);

/// How far other clocks may be behind.
const SKEW: Duration = Duration::from_hours(1);

/// What the authority calls itself, where people look at certificates.
const NAME: &str = "farthing wallet, of this machine alone";

/// An authority as it is kept: its key among it, so that it has to be sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeCa {
    /// The certificate, to be trusted by the programs that shall pay.
    pub certificate: String,
    /// The hosts it is good for.
    pub hosts: Vec<String>,
    /// Until when.
    pub expires_at: Timestamp,
    key: String,
}

impl Drop for MadeCa {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl MadeCa {
    /// Makes an authority for these hosts: names, whose subdomains are among them, or addresses.
    ///
    /// # Errors
    ///
    /// A [`CaError`].
    pub fn make(hosts: Vec<String>, lasts: Duration, now: Timestamp) -> Result<Self, CaError> {
        if hosts.is_empty() {
            return Err(CaError::NoHost);
        }
        let expires_at = now.after(lasts);
        let key = KeyPair::generate().map_err(CaError::Made)?;
        let permitted = hosts.iter().map(|host| subtree(host)).collect::<Result<_, _>>()?;
        let mut params = authority();
        params.not_before = date(now.before(SKEW))?;
        params.not_after = date(expires_at)?;
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: excluded(&hosts),
        });
        let certificate = params.self_signed(&key).map_err(CaError::Made)?.pem();
        Ok(Self { certificate, hosts, expires_at, key: key.serialize_pem() })
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn subtree(host: &str) -> Result<GeneralSubtree, CaError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Ok(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits)));
    }
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if host.is_empty() || host.starts_with('.') || !host.bytes().all(plain) {
        return Err(CaError::Host(host.to_owned()));
    }
    Ok(GeneralSubtree::DnsName(host.to_owned()))
}

/// A kind of name of which nothing is permitted is not constrained at all; so all of it is excluded.
fn excluded(hosts: &[String]) -> Vec<GeneralSubtree> {
    let addresses = hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok());
    let (four, six): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
    let mut excluded = Vec::new();
    if four.is_empty() && six.is_empty() {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    if hosts.len() == four.len().saturating_add(six.len()) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    excluded
}

/// A moment as certificates have it.
fn date(at: Timestamp) -> Result<OffsetDateTime, CaError> {
    let seconds = i64::try_from(at.as_secs()).map_err(|_| CaError::Date)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CaError::Date)
}

/// An authority at work.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    hosts: Vec<String>,
    expires_at: Timestamp,
    /// What was made for hosts, and until when it is used.
    made: Mutex<BTreeMap<String, (Timestamp, Arc<ServerConfig>)>>,
}

impl Ca {
    /// Takes up an authority that was made before.
    ///
    /// # Errors
    ///
    /// A [`CaError`].
    pub fn open(made: &MadeCa) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(&made.key).map_err(CaError::Made)?;
        Ok(Self {
            issuer: Issuer::new(authority(), key),
            hosts: made.hosts.clone(),
            expires_at: made.expires_at,
            made: Mutex::default(),
        })
    }

    /// Whether it was made for a host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let below = |known: &String| {
            host.strip_suffix(known.as_str()).is_some_and(|it| it.is_empty() || it.ends_with('.'))
        };
        let address = host.parse::<IpAddr>().is_ok();
        self.hosts.iter().any(|known| if address { known == host } else { below(known) })
    }

    /// A server that passes for `host` among those who trust the authority.
    ///
    /// # Errors
    ///
    /// A [`CaError`].
    pub(crate) fn server(&self, host: &str, now: Timestamp) -> Result<Arc<ServerConfig>, CaError> {
        if !self.covers(host) {
            return Err(CaError::Host(host.to_owned()));
        }
        if self.expires_at <= now {
            return Err(CaError::Expired(self.expires_at));
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, server)) = made.get(host)
            && *until > now
        {
            return Ok(Arc::clone(server));
        }
        let server = self.make_server(host, now)?;
        made.retain(|_, (until, _)| *until > now);
        let until = now.after(LEAF_LASTS.saturating_sub(SKEW)).min(self.expires_at);
        made.insert(host.to_owned(), (until, Arc::clone(&server)));
        Ok(server)
    }

    fn make_server(&self, host: &str, now: Timestamp) -> Result<Arc<ServerConfig>, CaError> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(CaError::Made)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = date(now.before(SKEW))?;
        params.not_after = date(now.after(LEAF_LASTS).min(self.expires_at))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(CaError::Made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(CaError::Made)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut server =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(CaError::Tls)?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(CaError::Tls)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// An authority for nobody.
    #[error("an authority is made for hosts, and none is named")]
    NoHost,
    /// It is none of the authority's, or none at all.
    #[error("{0:?} is no host of the authority's; names are in lower case, without a port")]
    Host(String),
    /// The authority has expired.
    #[error("the authority has expired at {0}; `farthing wallet ca create` makes another")]
    Expired(Timestamp),
    /// A moment that certificates cannot name.
    #[error("the authority would last for too long")]
    Date,
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Made(#[source] rcgen::Error),
    /// It cannot be served.
    #[error("the certificate cannot be served: {0}")]
    Tls(#[source] rustls::Error),
}
