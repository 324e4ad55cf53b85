//! TLS from files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// Reads certificate and key, and makes a server of TLS 1.2 and 1.3 out of them.
pub(crate) fn server(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(TlsError::Certificate("the file has no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Pair(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| TlsError::Pair(error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// Whether certificate and key can be served.
///
/// # Errors
///
/// A [`TlsError`].
pub fn check(config: &TlsConfig) -> Result<(), TlsError> {
    server(config).map(drop)
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be read.
    #[error("the TLS certificate cannot be read: {0}")]
    Certificate(String),
    /// The key cannot be read.
    #[error("the TLS key cannot be read: {0}")]
    Key(String),
    /// The two do not fit.
    #[error("the TLS certificate and key do not work together: {0}")]
    Pair(String),
}
