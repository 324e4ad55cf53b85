//! Finding out who a seller is before it is paid: the key that it proves to have.
//!
//! ```text
//! nonce ─► GET /.well-known/farthing/identity ─► proof ─┐
//!          GET /.well-known/farthing/jwks.json ─► keys ─┴─► verified, for the realm of the offer ─► a fact
//! ```
//!
//! It is asked only where the owner's policy depends on it, of the origin that is to be paid, and remembered for a
//! while. Whoever proves nothing has no key, and what a policy says of that holds.

use std::collections::BTreeSet;
use std::time::Duration;

use farthing_evidence::{IdentityNonce, TrustedKeys, verify_identity};
use http::{HeaderMap, Method, StatusCode};

use crate::{PayRequest, Wallet};

/// How long a proof is believed.
const PROOF_LASTS: Duration = Duration::from_mins(10);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl Wallet {
    /// Has the sellers of these realms prove their keys, where that matters and was not done lately.
    pub(crate) async fn find_identities(
        &self,
        request: &PayRequest,
        realms: impl IntoIterator<Item = String>,
    ) {
        if !self.authority.asks_identity() {
            return;
        }
        let now = self.clock.now();
        for realm in realms.into_iter().collect::<BTreeSet<_>>() {
            let known = self.offers.identity(request, &realm);
            if known.is_some_and(|(_, at)| at.after(PROOF_LASTS) > now) {
                continue;
            }
            let identity = self.prove(request, &realm).await;
            self.offers.keep_identity(request, &realm, identity, now);
        }
    }

    /// The key that a seller has proven to have.
    pub(crate) fn identity(&self, request: &PayRequest, realm: &str) -> Option<String> {
        self.offers.identity(request, realm).and_then(|(identity, _)| identity)
    }

    async fn prove(&self, request: &PayRequest, realm: &str) -> Option<String> {
        let nonce = IdentityNonce::new(rand::random());
        let keys = self.read(request, "/.well-known/farthing/jwks.json").await?;
        let published = TrustedKeys::from_jwks(&keys).ok()?;
        let path = format!("/.well-known/farthing/identity?nonce={}", nonce.to_text());
        let proof = self.read(request, &path).await?;
        match verify_identity(&proof, &published, realm, &nonce) {
            Ok(key) => Some(key.kid()),
            Err(fault) => {
                tracing::warn!(realm, %fault, "the seller does not prove who it is");
                None
            }
        }
    }

    /// A document of the seller's own origin.
    async fn read(&self, request: &PayRequest, path: &str) -> Option<String> {
        let url = request.url.join(path).ok()?;
        let (fields, body) = (HeaderMap::new(), bytes::Bytes::new());
        let asked = PayRequest { method: Method::GET, url, fields, body };
        let answer = self.send(&asked, None).await.ok()?;
        let is_read = answer.status == StatusCode::OK && answer.body.len() <= ANSWER_BYTES_MAX;
        is_read.then(|| String::from_utf8(answer.body.to_vec()).ok()).flatten()
    }
}
