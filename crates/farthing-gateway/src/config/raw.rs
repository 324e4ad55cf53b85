//! The configuration as it is written. Unknown fields are refused, so that a typo is not silence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use farthing_mpp::discovery::Docs;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) gateway: Gateway,
    pub(super) admin: Option<Spanned<Admin>>,
    pub(super) store: Spanned<Store>,
    #[serde(default)]
    pub(super) assets: BTreeMap<String, Spanned<Asset>>,
    #[serde(default)]
    pub(super) rails: BTreeMap<String, Spanned<Rail>>,
    pub(super) seller: Seller,
    pub(super) limits: Option<Limits>,
    pub(super) refunds: Option<Refunds>,
    pub(super) receipts: Option<Receipts>,
    pub(super) retention: Option<Retention>,
    #[serde(default)]
    pub(super) sessions: Sessions,
    #[serde(default)]
    pub(super) streams: Streams,
    #[serde(default)]
    pub(super) subscriptions: Subscriptions,
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, Spanned<Upstream>>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<Route>>,
    #[serde(default)]
    pub(super) webhooks: Vec<Spanned<Webhook>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) listen: Spanned<SocketAddr>,
    pub(super) realm: Spanned<String>,
    pub(super) secrets: Spanned<Vec<Spanned<String>>>,
    pub(super) tls: Option<Spanned<Tls>>,
    #[serde(default)]
    pub(super) plain_http: bool,
    pub(super) title: Option<String>,
    pub(super) version: Option<String>,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) categories: Vec<String>,
    #[serde(default)]
    pub(super) docs: Docs,
    pub(super) shutdown_grace_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: SocketAddr,
    pub(super) token: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) plain_http: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) sqlite: Option<PathBuf>,
    pub(super) memory: Option<bool>,
    pub(super) postgres: Option<Spanned<String>>,
    pub(super) book: Option<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) lease_ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asset {
    pub(super) decimals: u8,
}

/// The settings of a rail. All but `teller`, which is the test rail's, are Tempo's; some are those of `evm`,
/// too.
#[derive(Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rail {
    pub(super) chain_id: Option<u64>,
    pub(super) nodes: Option<Vec<Spanned<String>>>,
    pub(super) recipient: Option<Spanned<String>>,
    pub(super) tokens: Option<BTreeMap<String, Spanned<String>>>,
    pub(super) push: Option<bool>,
    pub(super) confirmations: Option<u64>,
    pub(super) settle_timeout_ms: Option<u64>,
    pub(super) node_timeout_ms: Option<u64>,
    pub(super) sponsor: Option<Spanned<Sponsor>>,
    pub(super) splits: Option<Vec<Spanned<Split>>>,
    pub(super) refund_key: Option<Spanned<String>>,
    pub(super) session: Option<Spanned<Session>>,
    pub(super) subscription: Option<Spanned<RailSubscription>>,
    pub(super) teller: Option<Spanned<SocketAddr>>,
}

#[derive(PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) escrow: Option<Spanned<String>>,
    pub(super) key: Spanned<String>,
    pub(super) fee_asset: Option<Spanned<String>>,
    pub(super) forgone_max: Option<Spanned<Price>>,
    pub(super) gas_asset: Option<Spanned<String>>,
    pub(super) fee_max_gwei: Option<Spanned<u64>>,
    pub(super) replace_after_ms: Option<Spanned<u64>>,
    pub(super) relays: Option<Spanned<bool>>,
}

impl Session {
    /// The first setting that only an account on another EVM chain has, if there is one.
    pub(super) fn evm_only(&self) -> Option<std::ops::Range<usize>> {
        let gas = self.gas_asset.as_ref().map(Spanned::span);
        let fee = self.fee_max_gwei.as_ref().map(Spanned::span);
        let pace = self.replace_after_ms.as_ref().map(Spanned::span);
        gas.or(fee).or(pace).or_else(|| self.relays.as_ref().map(Spanned::span))
    }
}

#[derive(PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RailSubscription {
    pub(super) keys: Vec<Spanned<String>>,
    pub(super) periods: Option<Spanned<u32>>,
    pub(super) fee_max: Option<Spanned<String>>,
}

#[derive(PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sponsor {
    pub(super) key: Option<Spanned<String>>,
    pub(super) relay: Option<Spanned<String>>,
    pub(super) asset: Spanned<String>,
    pub(super) per_payment_max: Option<Spanned<String>>,
    pub(super) per_payer_per_day: Spanned<String>,
    pub(super) total_per_day: Spanned<String>,
    pub(super) balance_min: Option<Spanned<String>>,
}

#[derive(PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    pub(super) payee: Spanned<String>,
    pub(super) recipient: Spanned<String>,
    pub(super) percent: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seller {
    pub(super) name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) requests_per_second: u32,
    pub(super) burst: Option<u32>,
}

/// How long personal data is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) days: NonZeroU32,
}

/// What receipts and checkpoints are signed with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipts {
    pub(super) keys: Spanned<Vec<Spanned<String>>>,
}

/// How much may be given back, asset by asset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refunds {
    pub(super) each_max: Spanned<Price>,
    pub(super) per_day_max: Spanned<Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) url: Spanned<String>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) response_timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) name: Spanned<String>,
    pub(super) methods: Vec<Spanned<String>>,
    pub(super) path: Spanned<String>,
    pub(super) upstream: Spanned<String>,
    #[serde(default)]
    pub(super) free: bool,
    pub(super) price: Option<Spanned<Price>>,
    #[serde(default)]
    pub(super) when: Vec<Spanned<Variant>>,
    pub(super) rails: Option<Vec<Spanned<String>>>,
    pub(super) description: Option<Spanned<Description>>,
    pub(super) query: Option<Spanned<Query>>,
    pub(super) body: Option<Spanned<String>>,
    pub(super) body_bytes_max: Option<usize>,
    pub(super) answer_bytes_max: Option<usize>,
    pub(super) repeatable: Option<bool>,
    pub(super) settle: Option<Spanned<String>>,
    pub(super) on_failure: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) authorization_is_taken: bool,
    pub(super) offer_ttl_s: Option<u64>,
    pub(super) intents: Option<Spanned<Vec<String>>>,
    pub(super) session: Option<Spanned<RouteSession>>,
    pub(super) meter: Option<Spanned<Meter>>,
    pub(super) subscription: Option<Spanned<RouteSubscription>>,
    pub(super) input_schema: Option<Value>,
    pub(super) input_example: Option<Value>,
}

/// What a route's sessions are like.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteSession {
    pub(super) unit: Option<Spanned<String>>,
    pub(super) deposit: Option<Spanned<Price>>,
    pub(super) deposit_min: Option<Spanned<Price>>,
    pub(super) delta_min: Option<Spanned<Price>>,
}

/// What a route's answers are charged by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meter {
    pub(super) measure: Spanned<String>,
    pub(super) every: Option<NonZeroU64>,
    pub(super) reserve_units: Option<u64>,
    pub(super) batch_units: Option<NonZeroU64>,
    pub(super) wait_s: Option<u64>,
    pub(super) event_bytes_max: Option<usize>,
    pub(super) answer_bytes_max: Option<usize>,
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) input_estimate: Option<u64>,
    pub(super) estimate_bytes: Option<NonZeroU64>,
    pub(super) token_bytes_max: Option<NonZeroU64>,
    pub(super) ask_for_usage: Option<bool>,
    pub(super) field: Option<Spanned<String>>,
    pub(super) event: Option<String>,
    pub(super) pointer: Option<Spanned<String>>,
    pub(super) cumulative: Option<bool>,
    pub(super) estimate: Option<u64>,
}

/// What holds for all answers that are paid for as they are given.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Streams {
    pub(super) paused_max: Option<usize>,
}

/// What holds for all sessions.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sessions {
    pub(super) idle_s: Option<u64>,
    pub(super) settle_above: Option<Spanned<Price>>,
    pub(super) settle_payer_above: Option<Spanned<Price>>,
    pub(super) settle_after_s: Option<u64>,
    pub(super) settle_at_percent: Option<Spanned<u8>>,
    pub(super) settle_min: Option<Spanned<Price>>,
    pub(super) settle_at_once: Option<Spanned<usize>>,
}

/// What a route's subscription is like.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteSubscription {
    pub(super) price: Spanned<Price>,
    pub(super) period: Spanned<String>,
    pub(super) plan: Option<Spanned<String>>,
    pub(super) until: Option<Spanned<String>>,
}

/// What holds for all subscriptions.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Subscriptions {
    pub(super) retries_s: Option<Spanned<Vec<u64>>>,
    pub(super) grace_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    pub(super) query: BTreeMap<String, String>,
    pub(super) price: Spanned<Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub(super) name: Spanned<String>,
    pub(super) url: Spanned<String>,
    pub(super) secrets: Spanned<Vec<Spanned<String>>>,
    pub(super) events: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) timeout_ms: Option<Spanned<u64>>,
    pub(super) attempts_max: Option<Spanned<u32>>,
    pub(super) retry_ms: Option<Spanned<Vec<u64>>>,
    pub(super) parallel: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) plain_http: bool,
}

/// A value with alternatives is spanned whole: serde tries them on a copy, which has no places.
#[derive(PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "an amount is a number and an asset, like \"0.25 usd\", or a list of such"
)]
pub(super) enum Price {
    One(String),
    Many(Vec<String>),
}

impl Price {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a description is a text, or a table of texts by language")]
pub(super) enum Description {
    One(String),
    ByLanguage(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "query is \"all\", \"none\" or a list of parameters")]
pub(super) enum Query {
    Word(String),
    Names(Vec<String>),
}
