//! The payment decision as a tower layer, for sellers who embed it.
//!
//! ```text
//! request ─► price? ─ free ─────────────────────────────► your service
//!               │ priced                                       ▲
//!               ▼                                              │ only with `Posted` in hand
//!            limits ─► body digest ─► Till::admit ─────────────┘
//!               │429        │413          │ no: 402 with offers, or what the refusal says
//! ```
//!
//! A [`Gate`] joins a [`Till`] to HTTP; [`Gate::layer`] wraps any service with it. What a request
//! costs is a function of its head, so a price can be computed for every request. The reverse proxy
//! of the gateway is this same layer around an upstream.
//!
//! **Architecture invariant:** `problem` is the only place that knows status codes of refusals:
//! 402 is the payer's to fix, 503 is ours, 409 is a key used twice, 429 is too often.
//!
//! **Architecture invariant:** a credential is taken off the request before anything behind the
//! layer sees it, whether the route is free or not.

mod body;
mod cache;
mod clock;
mod gate;
mod joins;
mod keep;
mod limiter;
mod observe;
mod pricing;
mod problem;
mod query;
mod service;
mod streams;

pub use body::{Body, BodyError, BoxError};
pub use clock::SystemClock;
pub use farthing_core::Clock;
pub use gate::{Gate, GateBuilder};
pub use limiter::{ClientAddress, RateLimit};
pub use observe::{Decision, Observer, StreamEnd, Verdict};
pub use pricing::{PriceTag, Pricing, Tag};
pub use query::{BoundQuery, normalise_query};
pub use service::{FARTHING_RECEIPT, GateLayer, GateService, Purchase, Sale, take_credentials};
pub use streams::{Streams, Tab};

/// One seller's counter, from the core.
pub use farthing_core::Till;
