//! What a request costs.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::Quote;
use farthing_ledger::{Capture, Remedy};
use http::request::Parts;

use crate::BoundQuery;

/// How long an offer stands unless the seller says otherwise.
const OFFER_TTL: Duration = Duration::from_mins(5);

/// The longest answer that is kept unless the seller says otherwise, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Says what a request costs, from its head alone.
///
/// Any `Fn(&Parts) -> Tag` is one.
pub trait Pricing: Send + Sync + 'static {
    /// The price of the request with this head.
    fn price(&self, head: &Parts) -> Tag;
}

impl<F: Fn(&Parts) -> Tag + Send + Sync + 'static> Pricing for F {
    fn price(&self, head: &Parts) -> Tag {
        self(head)
    }
}

/// What a request costs.
#[derive(Clone, Debug)]
pub enum Tag {
    /// Nothing.
    Free,
    /// This.
    Priced(PriceTag),
    /// It has a price that no rail can carry, which is the seller's to mend: 500.
    Unpayable,
}

/// A price and what it buys.
#[derive(Clone, Debug)]
pub struct PriceTag {
    /// The route's name, in logs, in books and in what a payment is bound to.
    pub route: Arc<str>,
    /// The ways to pay.
    pub quotes: Vec<Arc<Quote>>,
    /// Words for people.
    pub description: Option<Arc<str>>,
    /// The path that is bought; the request's own if there is none.
    pub path: Option<String>,
    /// The part of the query that is bought.
    pub query: BoundQuery,
    /// Binds payments to the body: the longest body read, in bytes.
    pub body_bytes_max: Option<usize>,
    /// How long an offer stands.
    pub offer_ttl: Duration,
    /// Whether `Authorization` belongs to the seller's own users.
    pub authorization_is_taken: bool,
    /// The longest body of an answer that is kept to be given again, in bytes; 0 keeps none.
    pub answer_bytes_max: usize,
    /// Whether what is bought may happen twice: a delivery that a crash interrupted is then begun
    /// again. Where it is not said, the method says it (RFC 9110 §9.2.2).
    pub repeatable: Option<bool>,
    /// When the money moves. [`Capture::After`] holds for rails whose money lies in the book; on others
    /// it moves before.
    pub capture: Capture,
    /// What is done where the answer fails after the money has moved.
    pub remedy: Remedy,
    /// Whether a session's vouchers buy something with the request, or authorise ahead. Where it is not
    /// said, all but `HEAD` buys.
    pub vouchers_buy: Option<bool>,
}

impl PriceTag {
    /// What `route` costs in each of `quotes`.
    #[must_use]
    pub fn new(route: &str, quotes: Vec<Arc<Quote>>) -> Self {
        Self {
            route: route.into(),
            quotes,
            description: None,
            path: None,
            query: BoundQuery::All,
            body_bytes_max: None,
            offer_ttl: OFFER_TTL,
            authorization_is_taken: false,
            answer_bytes_max: ANSWER_BYTES_MAX,
            repeatable: None,
            capture: Capture::default(),
            remedy: Remedy::default(),
            vouchers_buy: None,
        }
    }
}
