//! What a seller asks for one request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::{Fingerprint, Holder, Terms, TraceId};
use farthing_money::{Amount, Timestamp};

use crate::{Complete, Object, SESSION, SUBSCRIPTION, SessionPrice, SubscriptionPrice};

/// What a seller asks for one request: what is bought, and the ways to pay for it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is bought.
    pub scope: Scope,
    /// The ways to pay, each enough by itself, in the seller's order of preference.
    pub quotes: Vec<Arc<Quote>>,
    /// Words for people; never a reason to pay.
    pub description: Option<Arc<str>>,
    /// How long an offer stands.
    pub offer_ttl: Duration,
    /// Whether `Authorization` belongs to the seller's own users, so that credentials must travel
    /// elsewhere.
    pub authorization_is_taken: bool,
    /// The client's `Idempotency-Key`, if it sent one.
    pub idempotency_key: Option<String>,
    /// What the seller undertakes for the answer.
    pub terms: Terms,
    /// Whether a voucher buys something with this request. Where it does not, it authorises ahead; sessions
    /// are opened, topped up and closed either way.
    pub vouchers_buy: bool,
}

/// What exactly is bought. A payment for one scope buys nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The route's name.
    pub route: Arc<str>,
    /// The HTTP method.
    pub method: String,
    /// The path, normalised.
    pub path: String,
    /// The query, normalised; empty where it is not part of the purchase.
    pub query: String,
    /// The SHA-256 of the body, where the route binds it.
    pub body: Option<[u8; 32]>,
}

impl Scope {
    /// A digest of what a session is opened for: the route, whichever of its requests are made in it. What
    /// each costs, the offer says.
    #[must_use]
    pub fn session_digest(&self) -> ScopeDigest {
        ScopeDigest::of("session scope", &[self.route.as_bytes()])
    }

    /// A digest of everything that is bought but the body, which has a digest of its own on every
    /// wire.
    #[must_use]
    pub fn digest(&self) -> ScopeDigest {
        let parts = [&*self.route, &self.method, &self.path, &self.query];
        ScopeDigest::of("scope", &parts.map(str::as_bytes))
    }
}

impl ScopeDigest {
    fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(Fingerprint::of(kind, parts).as_bytes().split_at(16).0);
        Self(digest)
    }
}

/// Stands for a [`Scope`] on the wire and in the books. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ScopeDigest([u8; 16]);

impl fmt::Display for ScopeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ScopeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A price as one rail asks for it. Made once for a fixed price, per request for a computed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    method: String,
    intent: String,
    amount: Amount,
    payee: Holder,
    request: String,
    session: Option<SessionPrice>,
    subscription: Option<SubscriptionPrice>,
    completion: Option<Completion>,
}

/// What each offer's request is completed by, and what is completed.
#[derive(Clone)]
struct Completion {
    by: Arc<dyn Complete>,
    begun: Object,
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").finish_non_exhaustive()
    }
}

impl PartialEq for Completion {
    fn eq(&self, other: &Self) -> bool {
        self.begun == other.begun && Arc::ptr_eq(&self.by, &other.by)
    }
}

impl Eq for Completion {}

impl Quote {
    /// The quote of rail `method` for `amount`, payable to `payee`, whose wire form is `request`.
    #[must_use]
    pub fn new(
        method: &str,
        intent: &str,
        amount: Amount,
        payee: Holder,
        request: &Object,
    ) -> Self {
        let request = canonical(request);
        let (method, intent) = (method.to_owned(), intent.to_owned());
        let (session, subscription, completion) = (None, None, None);
        Self { method, intent, amount, payee, request, session, subscription, completion }
    }

    /// The quote of rail `method` for a session with `payee`, whose wire form is `request`.
    #[must_use]
    pub fn session(method: &str, price: SessionPrice, payee: Holder, request: &Object) -> Self {
        let unit = price.unit.clone();
        Self { session: Some(price), ..Self::new(method, SESSION, unit, payee, request) }
    }

    /// The quote of rail `method` for a subscription, payable to `payee`, whose wire form is `request`.
    #[must_use]
    pub fn subscription(
        method: &str,
        price: SubscriptionPrice,
        payee: Holder,
        request: &Object,
    ) -> Self {
        let amount = price.amount.clone();
        let quote = Self::new(method, SUBSCRIPTION, amount, payee, request);
        Self { subscription: Some(price), ..quote }
    }

    /// The same, whose `request` is completed for each offer.
    #[must_use]
    pub fn completed(self, by: Arc<dyn Complete>, request: &Object) -> Self {
        Self { completion: Some(Completion { by, begun: request.clone() }), ..self }
    }

    /// What is subscribed to, if it is a subscription.
    #[must_use]
    pub const fn subscription_price(&self) -> Option<&SubscriptionPrice> {
        self.subscription.as_ref()
    }

    /// What the session costs, if it is one.
    #[must_use]
    pub const fn session_price(&self) -> Option<&SessionPrice> {
        self.session.as_ref()
    }

    /// The payment method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The intent.
    #[must_use]
    pub fn intent(&self) -> &str {
        &self.intent
    }

    /// The price; of one unit, where it is a session's, and of a period, where it is a subscription's.
    #[must_use]
    pub const fn amount(&self) -> &Amount {
        &self.amount
    }

    /// Who is paid.
    #[must_use]
    pub const fn payee(&self) -> &Holder {
        &self.payee
    }

    /// What the rail asks for, as canonical JSON (RFC 8785); less what completes it for each offer.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// What the rail asks for in the offer that is named `trace`, as canonical JSON (RFC 8785).
    #[must_use]
    pub fn request_of(&self, trace: TraceId) -> Cow<'_, str> {
        match &self.completion {
            Some(Completion { by, begun }) => canonical(&by.complete(begun, trace)).into(),
            None => self.request.as_str().into(),
        }
    }
}

fn canonical(request: &Object) -> String {
    // In-memory JSON with string keys always serialises.
    serde_json_canonicalizer::to_string(request).unwrap_or_default()
}

/// A quote bound to one purchase: pay this, for this, before this moment.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The price and how to pay it.
    pub quote: Arc<Quote>,
    /// Names the payment that will answer this offer. No two offers share one.
    pub trace: TraceId,
    /// What is bought.
    pub scope: ScopeDigest,
    /// The SHA-256 of the body, where the route binds it.
    pub body: Option<[u8; 32]>,
    /// The offer is void from this instant on.
    pub expires_at: Timestamp,
    /// Words for people.
    pub description: Option<Arc<str>>,
    /// Whether the credential must not travel in `Authorization`.
    pub authorization_is_taken: bool,
}

impl Offer {
    /// What the rail asks for, as canonical JSON (RFC 8785).
    #[must_use]
    pub fn request(&self) -> Cow<'_, str> {
        self.quote.request_of(self.trace)
    }
}

impl Ask {
    /// The offers that answer a request without payment.
    ///
    /// `entropy` is drawn once for each; it must be unpredictable and never repeat, since it is what
    /// makes two challenges for the same thing differ.
    pub fn offers(&self, now: Timestamp, mut entropy: impl FnMut() -> [u8; 10]) -> Vec<Offer> {
        let scope = self.scope.digest();
        let expires_at = now.after(self.offer_ttl).floor_to_millis();
        let offer = |quote: &Arc<Quote>| Offer {
            quote: Arc::clone(quote),
            trace: TraceId::new(now, entropy()),
            scope: if quote.session.is_some() { self.scope.session_digest() } else { scope },
            // Many requests are made within one session, whatever their bodies.
            body: self.scope.body.filter(|_| quote.session.is_none()),
            expires_at,
            description: self.description.clone(),
            authorization_is_taken: self.authorization_is_taken,
        };
        // A subscription is offered for as long as it outlives the offer.
        let lasts = |quote: &&Arc<Quote>| {
            let until = quote.subscription.as_ref().and_then(|price| price.expires_at);
            until.is_none_or(|until| expires_at < until)
        };
        self.quotes.iter().filter(lasts).map(offer).collect()
    }
}
