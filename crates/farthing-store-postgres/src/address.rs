//! Where a database is.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

#[cfg(test)]
mod tests;

/// How long each host of an address is given to answer, where the address itself does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a database is, and who comes: a connection string as libpq reads it, in either form.
///
/// Several hosts are tried in turn, and with `target_session_attrs=read-write`, which is what a store
/// asks for anyway, the one that takes writes is used: after a failover that is the promoted standby.
///
/// `sslmode=require`, `verify-ca` and `verify-full` all mean TLS with a certificate that is verified,
/// against the system's roots or those in `sslrootcert`. Anything less means no TLS.
///
/// It may contain a password, and therefore has no `Debug`.
#[derive(Clone)]
pub struct Address {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) roots: Option<PathBuf>,
}

impl Address {
    /// Reads a connection string.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (head, separator, options) = match text.split_once('?') {
            Some((head, options)) if is_url => (head, '&', options),
            None if is_url => (text, '&', ""),
            Some(_) | None => ("", ' ', text),
        };
        let mut roots = None;
        let mut kept = Vec::new();
        for option in options.split(separator).filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslrootcert", path)) => roots = Some(path_of(path, is_url)?),
                Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
                Some(_) | None => kept.push(option),
            }
        }
        let mut text = head.to_owned();
        if is_url && !kept.is_empty() {
            text.push('?');
        }
        text.push_str(&kept.join(&separator.to_string()));
        let mut config: tokio_postgres::Config = text.parse()?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("farthing");
        }
        Ok(Self { config, roots })
    }

    /// Whether the connection is to be encrypted.
    pub(crate) fn wants_tls(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    /// The same, for whoever writes.
    pub(crate) fn for_writing(&self, silence: Duration) -> Self {
        let mut own = self.clone();
        own.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        own.config.tcp_user_timeout(silence);
        // The operating system counts whole seconds here, and at least one.
        own.config.keepalives_idle(silence.max(Duration::from_secs(1)));
        own
    }
}

fn path_of(text: &str, is_url: bool) -> Result<PathBuf, AddressError> {
    if !is_url {
        return Ok(PathBuf::from(text.trim_matches('\'')));
    }
    let path = percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Roots)?;
    Ok(PathBuf::from(path.into_owned()))
}

/// Why a text is no address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no connection string.
    #[error(
        "the address of the database cannot be read ({0}); write it as postgres://user@host:5432/name"
    )]
    Malformed(#[from] tokio_postgres::Error),
    /// The file of certificates has no name.
    #[error("`sslrootcert` in the address of the database is not the path of a file")]
    Roots,
}
