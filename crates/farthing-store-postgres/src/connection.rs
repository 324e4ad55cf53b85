//! Connections to the database.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::Address;

/// Connects, and drives the connection on the runtime that this is called on.
pub(crate) async fn connect(address: &Address) -> Result<Client, ConnectError> {
    // A failure of the connection shows at whoever uses it.
    if address.wants_tls() {
        let tls = MakeRustlsConnect::new(tls(address)?);
        let (client, connection) = address.config.connect(tls).await?;
        tokio::spawn(async { drop(connection.await) });
        return Ok(client);
    }
    let (client, connection) = address.config.connect(NoTls).await?;
    tokio::spawn(async { drop(connection.await) });
    Ok(client)
}

/// Connects as one that writes: it does not hold a lock for longer than `silence` when its peer is gone,
/// and a commit waits for the disk, whatever the server's default is.
pub(crate) async fn connect_to_write(
    address: &Address,
    silence: Duration,
) -> Result<Client, ConnectError> {
    let client = connect(&address.for_writing(silence)).await?;
    let silence_ms = silence.as_millis().max(1);
    let settings = format!(
        "SET idle_in_transaction_session_timeout = '{silence_ms}ms';
         SET lock_timeout = '{silence_ms}ms';
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit', true) IN ('off', 'local');"
    );
    client.batch_execute(&settings).await?;
    Ok(client)
}

fn tls(address: &Address) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    match &address.roots {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| ConnectError::Roots(error.to_string()))?;
            roots.add_parsable_certificates(certificates);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::Roots("there is no certificate in them".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Roots(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Whether trying again may help: the connection broke, the server is starting, stopping or a standby,
/// or somebody else was in the way.
pub(crate) fn is_passing(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                || ["08", "40", "53", "57"].iter().any(|class| code.code().starts_with(class))
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The certificates to trust cannot be read.
    #[error("the certificates that the database is to be verified with cannot be read: {0}")]
    Roots(String),
    /// The database says no, or nothing.
    #[error("the database cannot be reached: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
}

/// What the database says, in full: an error of its client alone does not repeat it.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
