//! Who has opened the page, and what proves that a form is theirs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_money::Timestamp;
use farthing_wallet::ApprovalRequest;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

#[cfg(test)]
pub(in crate::page) mod tests;

/// How long a session lasts.
const SESSION_LASTS: Duration = Duration::from_hours(12);

/// How many there may be; the oldest makes room.
const SESSIONS_MAX: usize = 16;

/// The cookie's name.
const COOKIE: &str = "farthing-desk";

/// Signs links that answer one request, once. It has no `Debug`.
#[derive(Clone)]
pub struct AnswerKey(Zeroizing<[u8; 32]>);

impl AnswerKey {
    /// A key of these bytes.
    #[must_use]
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The signature over a request and its exact terms.
    pub(crate) fn sign(&self, request: &ApprovalRequest) -> String {
        hex(&mac(&self.0, "answer", request).finalize().into_bytes())
    }

    pub(crate) fn is_signature(&self, text: &str, request: &ApprovalRequest) -> bool {
        is_same(text, &self.sign(request))
    }
}

/// Somebody who has opened the page.
#[derive(Clone)]
pub(crate) struct Session {
    /// In whose name they answer.
    pub(crate) approver: String,
    cookie: Zeroizing<String>,
    key: Zeroizing<[u8; 32]>,
    until: Timestamp,
}

impl Session {
    /// What a form has to show: it is for this session, this request and its terms.
    pub(crate) fn seal(&self, request: &ApprovalRequest) -> String {
        hex(&mac(&self.key, "form", request).finalize().into_bytes())
    }

    pub(crate) fn is_seal(&self, text: &str, request: &ApprovalRequest) -> bool {
        is_same(text, &self.seal(request))
    }
}

/// Everybody who has opened the page, by the path that they do it at.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Session>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session: its path, and the field that sets its cookie.
    pub(crate) fn begin(&self, approver: String, now: Timestamp) -> (String, String) {
        let (path, cookie) = (hex(&rand::random::<[u8; 16]>()), hex(&rand::random::<[u8; 32]>()));
        let field = format!("{COOKIE}={cookie}; Path=/desk/{path}; HttpOnly; SameSite=Strict");
        let session = Session {
            approver,
            cookie: Zeroizing::new(cookie),
            key: Zeroizing::new(rand::random()),
            until: now.after(SESSION_LASTS),
        };
        let mut all = self.all();
        all.retain(|_, session| session.until > now);
        if all.len() >= SESSIONS_MAX {
            let oldest = all.iter().min_by_key(|(_, it)| it.until).map(|(path, _)| path.clone());
            oldest.and_then(|path| all.remove(&path));
        }
        all.insert(path.clone(), session);
        (path, field)
    }

    /// The session at a path, for whoever shows its cookie.
    pub(crate) fn find(&self, path: &str, cookies: &[&str], now: Timestamp) -> Option<Session> {
        let all = self.all();
        let session = all.get(path).filter(|session| session.until > now)?;
        let shown = cookies.iter().filter_map(|it| it.strip_prefix(COOKIE)?.strip_prefix('='));
        let is_theirs = shown.into_iter().any(|value| is_same(value, &session.cookie));
        is_theirs.then(|| session.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, path: &str) {
        self.all().remove(path);
    }
}

fn mac(key: &[u8; 32], what: &str, request: &ApprovalRequest) -> Hmac<Sha256> {
    // A key of any length is a key of HMAC.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    for part in [what.as_bytes(), request.id.as_bytes(), request.terms.as_bytes()] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // A string takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
