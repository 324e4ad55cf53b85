//! The reverse proxy in front of a seller's API.
//!
//! ```text
//! listener (TLS) ─► path, in one spelling ─► route ─► gate ─► upstream
//!                      │400                   │404     │402     └ learns trace, payer, amount;
//!                      │                      │405     │          never sees a credential
//! ```
//!
//! A [`Config`] is a file that was read and found whole; [`Gateway::start`] opens the book, builds
//! the rails and listens. [`Gateway::reload`] swaps routes, prices, upstreams, secrets and
//! certificates under running requests; what cannot be swapped is said so and nothing changes.
//!
//! **Architecture invariant:** a path reaches the router in one spelling or not at all, so that the
//! gateway and the upstream cannot read one request as two different ones.
//!
//! **Architecture invariant:** nothing is proxied that no route names; a path that is priced for
//! one method is not free for another.

mod config;
mod connection;
mod desk;
mod discovery;
mod erasure;
mod gateway;
mod management;
mod metered;
mod metrics;
mod path;
mod proxy;
mod router;
mod socket;
mod store;
mod tls;
mod webhooks;

pub use config::{
    AdminConfig, BodyPolicy, BookConfig, Config, ConfigError, Environment, EvmConfig,
    EvmSessionConfig, Intents, MeterConfig, RailConfig, RouteConfig, SessionConfig, SponsorConfig,
    SponsorSigner, SubscriptionConfig, TempoConfig, TempoSessionConfig, TempoSubscriptionConfig,
    TlsConfig, UpstreamConfig, Variant, WebhookConfig, look_up, parse_chain_key, secret_files,
};
pub use desk::{
    CancelOrder, CloseOrder, Desk, DeskError, PayoutKind, PayoutStep, RefundMade, RefundOrder,
    Resolution, SessionLine, SubscriptionLine,
};
pub use erasure::{ErasureOrder, ErasureOrderError};

pub use gateway::{Gateway, ReloadError, StartError, check_prices, desk, webhook_desk};
pub use management::{AdminToken, FundRequest, KeyRequest, Made, WeakToken};
pub use path::{CanonicalPath, OddPath, canonical_path};
pub use store::{
    BookReadError, BookReader, OpenStore, PostgresConfig, StoreConfig, StoreOpenError,
};
pub use tls::{TlsError, check as check_tls};
pub use webhooks::{
    EnableOrder, EndpointView, EventId, EventKind, Fault, LastPlace, LetterView, ParseEventIdError,
    PostmanError, Replay, ReplayOrder, Replayed, Retries, UnfitSecret, WebhookDesk, WebhookError,
    WebhookSecret, dead_letters, endpoint_view, webhook_note,
};
