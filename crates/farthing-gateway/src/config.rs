//! The configuration: a TOML file, read into something that works or refused with the place that
//! does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Dunning, SESSION, Settling};
use farthing_evidence::{Notary, SecretKey};
use farthing_gate::{BoundQuery, RateLimit};
use farthing_ledger::{Capture, Holder, RefundLimit, RefundLimits, Remedy};
use farthing_money::{Amount, Asset, AssetId, Assets};
use farthing_mpp::discovery::ServiceInfo;
use farthing_mpp::{Secret, Secrets};
use farthing_protocols::mpp::Mpp;
use farthing_store_postgres::Address;
use http::{Method, Uri};
use serde_json::Value;
use toml::Spanned;

use crate::management::AdminToken;
use crate::path::canonical_path;
use crate::store::{PostgresConfig, StoreConfig};

mod evm;
mod meters;
mod raw;
mod sessions;
mod subscriptions;
mod tempo;
mod webhooks;

pub use evm::{EvmConfig, EvmSessionConfig};
pub use meters::MeterConfig;
pub use sessions::{Intents, SessionConfig};
pub use subscriptions::SubscriptionConfig;
pub use tempo::{
    SponsorConfig, SponsorSigner, TempoConfig, TempoSessionConfig, TempoSubscriptionConfig,
    parse_chain_key,
};
pub use webhooks::WebhookConfig;

#[cfg(test)]
mod tests;

/// The longest body that payments can be bound to unless the route says otherwise.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest answer that is kept unless the seller says otherwise, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long after it was last used a session is closed unless the seller says otherwise: a day.
const SESSION_IDLE_S: u64 = 86_400;

/// How many streams may wait for vouchers at once unless the seller says otherwise.
const STREAMS_PAUSED_MAX: usize = 1_024;

/// A configuration that can be started.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The protection space challenges are issued for.
    pub realm: String,
    /// What challenges are bound with.
    pub secrets: Secrets,
    /// TLS from files; none for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// What the discovery document says of the service.
    pub service: ServiceText,
    /// The management listener, if there is one.
    pub admin: Option<AdminConfig>,
    /// Where the book is kept.
    pub store: StoreConfig,
    /// The assets prices are in.
    pub assets: Assets,
    /// The ways to be paid.
    pub rails: Vec<RailConfig>,
    /// Who is paid.
    pub seller: Holder,
    /// What is sold.
    pub routes: Vec<RouteConfig>,
    /// How often one address may ask.
    pub limit: Option<RateLimit>,
    /// How much money may be given back.
    pub refund_limits: RefundLimits,
    /// Who signs receipts that anybody can check, if they are signed.
    pub notary: Option<Arc<Notary>>,
    /// Who is told what happened to payments.
    pub webhooks: Vec<Arc<WebhookConfig>>,
    /// How long after it was last used a session is closed.
    pub session_idle: Duration,
    /// How many streams may wait for vouchers at once.
    pub streams_paused_max: usize,
    /// When what was taken in a session is settled while it stays open.
    pub settling: Settling,
    /// What is done where the charge of a subscription comes to nothing.
    pub dunning: Dunning,
    /// How long running requests may take to finish when the gateway stops.
    pub shutdown_grace: Duration,
}

/// What the discovery document says of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceText {
    /// Its title.
    pub title: String,
    /// Its version.
    pub version: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// Categories and links.
    pub info: ServiceInfo,
}

/// TLS from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// The management listener.
#[derive(Clone)]
pub struct AdminConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What operators show to make entries; without it, nobody can.
    pub token: Option<AdminToken>,
}

/// A way to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RailConfig {
    /// Accounts in the book.
    Prepaid,
    /// Stablecoins on Tempo.
    Tempo(Arc<TempoConfig>),
    /// Sessions on another EVM chain.
    Evm(Arc<EvmConfig>),
    /// The rail for tests and demos, which moves no real money.
    Test {
        /// Who keeps its account; nothing where the gateway does, and loses it with the process.
        teller: Option<SocketAddr>,
    },
}

impl RailConfig {
    /// How to be paid on Tempo, if that is what it is.
    #[must_use]
    pub const fn tempo(&self) -> Option<&Arc<TempoConfig>> {
        match self {
            Self::Tempo(tempo) => Some(tempo),
            Self::Prepaid | Self::Evm(_) | Self::Test { .. } => None,
        }
    }

    /// How to be paid on another EVM chain, if that is what it is.
    #[must_use]
    pub const fn evm(&self) -> Option<&Arc<EvmConfig>> {
        match self {
            Self::Evm(evm) => Some(evm),
            Self::Prepaid | Self::Tempo(_) | Self::Test { .. } => None,
        }
    }

    /// The payment method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Prepaid => "prepaid",
            Self::Tempo(_) => "tempo",
            Self::Evm(_) => "evm",
            Self::Test { .. } => "test",
        }
    }
}

/// Where requests go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Scheme, authority and base path.
    pub url: Uri,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the head of the answer.
    pub response_timeout: Duration,
}

/// Something that is sold, or given away.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Its name, in logs, in books and in what a payment is bound to.
    pub name: Arc<str>,
    /// The methods it is sold for.
    pub methods: BTreeSet<String>,
    /// The path pattern, like `/weather/{city}` or `/files/{*path}`.
    pub path: String,
    /// Where requests go on.
    pub upstream: Arc<UpstreamConfig>,
    /// What it costs, in each asset it is sold for; empty if it is free.
    pub prices: Vec<Amount>,
    /// Prices that depend on the query; the first that applies counts.
    pub variants: Vec<Variant>,
    /// The rails it can be paid on.
    pub rails: Vec<RailConfig>,
    /// Words for people, by language; the empty language is the default.
    pub description: BTreeMap<String, Arc<str>>,
    /// The part of the query that is bought.
    pub query: BoundQuery,
    /// Whether payments are bound to the body.
    pub body: BodyPolicy,
    /// The longest body of an answer that is kept to be given again, in bytes.
    pub answer_bytes_max: usize,
    /// Whether what is bought may happen twice; where it is not said, the method says it.
    pub repeatable: Option<bool>,
    /// When the money moves, on rails whose money lies in the book; on others it moves before.
    pub capture: Capture,
    /// What is done where the answer fails after the money has moved.
    pub remedy: Remedy,
    /// Whether `Authorization` belongs to the upstream's own users.
    pub authorization_is_taken: bool,
    /// How long an offer stands.
    pub offer_ttl: Duration,
    /// How it can be paid for.
    pub intents: Intents,
    /// What its answers are charged by as they are given, if they are.
    pub meter: Option<MeterConfig>,
    /// The methods by which sessions are dealt with and nothing is bought: as peers do it, `POST`.
    pub manages: BTreeSet<String>,
    /// The schema of the request body, for the discovery document.
    pub input_schema: Option<Value>,
    /// An example of the request body, for the discovery document.
    pub input_example: Option<Value>,
}

impl RouteConfig {
    /// Whether it costs nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.prices.is_empty()
    }
}

/// Whether payments of a route are bound to the request's body. A bound body is read whole before
/// anything is decided; any other streams through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPolicy {
    /// Any body may follow the payment.
    Any,
    /// Bodies are bound, of at most this many bytes: those of every method, or of `POST`, `PUT` and
    /// `PATCH` only, which is what §5.1.2 asks for.
    Bind {
        /// The longest body read.
        bytes_max: usize,
        /// Whether the bodies of other methods are bound too.
        every_method: bool,
    },
}

impl BodyPolicy {
    /// The longest body that is read for a request of this method; nothing if it is not bound.
    #[must_use]
    pub fn bytes_max(self, method: &Method) -> Option<usize> {
        let carries = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        match self {
            Self::Bind { bytes_max, every_method } if every_method || carries => Some(bytes_max),
            Self::Bind { .. } | Self::Any => None,
        }
    }
}

/// A price that applies to some queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The parameters and values it applies to, all of them.
    pub query: BTreeMap<String, String>,
    /// What it costs then.
    pub prices: Vec<Amount>,
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ConfigError {
    /// The line, counting from 1.
    pub line: usize,
    /// The column, counting from 1.
    pub column: usize,
    /// What is wrong there, and what to write instead.
    pub what: String,
}

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads a configuration that stands in `folder`, which relative paths in it start from. Secrets
    /// come from `environment` or from files, never from the text.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`], with its place in the text.
    pub fn parse(
        text: &str,
        folder: &Path,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let raw = raw::Raw::parse(text)?;
        Reader { text, folder, environment }.read(&raw)
    }
}

/// The part of a configuration that says where the books are: all that reading them needs, and no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookConfig {
    /// Where the book is kept.
    pub store: StoreConfig,
    /// The assets amounts are printed in.
    pub assets: Assets,
    /// Where a running gateway is managed.
    pub admin: Option<SocketAddr>,
    /// Where the admin token is found, such as `env:NAME`.
    pub admin_token: Option<String>,
    /// The protection space, by which checkpoints name the book.
    pub realm: String,
    /// Where the keys are found that sign receipts and checkpoints.
    pub receipt_keys: Vec<String>,
    /// The names of the endpoints that are told what happened to payments.
    pub webhooks: Vec<String>,
    /// How many days personal data is kept, as `farthing store erase --outdated` counts them.
    pub retention_days: Option<u32>,
}

impl BookConfig {
    /// Reads where the books are from a configuration that stands in `folder`. Of all its secrets, only
    /// the address of a database is looked up.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`], with its place in the text.
    pub fn parse(
        text: &str,
        folder: &Path,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let raw = raw::Raw::parse(text)?;
        let reader = Reader { text, folder, environment };
        let admin = raw.admin.as_ref().map(Spanned::get_ref);
        Ok(Self {
            store: reader.store(&raw.store)?,
            assets: reader.assets(&raw.assets)?,
            admin: admin.map(|admin| admin.listen),
            admin_token: admin.and_then(|admin| admin.token.as_ref()?.get_ref().clone().into()),
            realm: raw.gateway.realm.get_ref().clone(),
            receipt_keys: raw.receipts.iter().flat_map(places).collect(),
            webhooks: raw.webhooks.iter().map(|it| it.get_ref().name.get_ref().clone()).collect(),
            retention_days: raw.retention.as_ref().map(|it| it.days.get()),
        })
    }

    /// Who signs for the book, if anybody does. The keys are looked up as those of a gateway are, from
    /// `folder` on.
    ///
    /// # Errors
    ///
    /// What is wrong, in words; never a secret.
    pub fn notary(
        &self,
        folder: &Path,
        environment: Environment<'_>,
    ) -> Result<Option<Notary>, String> {
        let key = |place: &String| {
            let text = look_up(place, folder, environment)?;
            SecretKey::parse(&text).map_err(|error| format!("{place}: {error}"))
        };
        let mut keys = self.receipt_keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Ok(None);
        }
        let active = keys.remove(0);
        Notary::new(&self.realm, active, &keys).map(Some).map_err(|error| error.to_string())
    }
}

fn places(raw: &raw::Receipts) -> impl Iterator<Item = String> {
    raw.keys.get_ref().iter().map(|place| place.get_ref().clone())
}

impl raw::Raw {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            at_byte(text, at, error.message())
        })
    }
}

/// Looks a secret up where `place` says it is: `env:NAME`, or `file:PATH` from `folder` on.
///
/// # Errors
///
/// What is wrong, in words; never the secret.
pub fn look_up(place: &str, folder: &Path, environment: Environment<'_>) -> Result<String, String> {
    if let Some(variable) = place.strip_prefix("env:") {
        let found = environment(variable).filter(|text| !text.is_empty());
        return found.ok_or_else(|| format!("the environment variable {variable} is not set"));
    }
    let Some(path) = place.strip_prefix("file:") else {
        return Err("a secret is named, not written here: \"env:NAME\" or \"file:/path\"".into());
    };
    let text = std::fs::read_to_string(folder.join(path))
        .map_err(|error| format!("the file cannot be read: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The files that a configuration in `folder` names as holding secrets: every `file:PATH` in it.
#[must_use]
pub fn secret_files(text: &str, folder: &Path) -> Vec<PathBuf> {
    fn collect(value: &toml::Value, files: &mut Vec<String>) {
        match value {
            toml::Value::String(text) => {
                files.extend(text.strip_prefix("file:").map(ToOwned::to_owned));
            }
            toml::Value::Array(all) => all.iter().for_each(|it| collect(it, files)),
            toml::Value::Table(all) => all.values().for_each(|it| collect(it, files)),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => {}
        }
    }
    let mut files = Vec::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        collect(&toml::Value::Table(table), &mut files);
    }
    files.iter().map(|file| folder.join(file)).collect()
}

fn at_byte(text: &str, at: usize, what: &str) -> ConfigError {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let last = before.rsplit('\n').next().unwrap_or_default();
    ConfigError { line, column: last.chars().count().saturating_add(1), what: what.to_owned() }
}

/// Turns what was written into what was meant.
struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    environment: Environment<'a>,
}

type Read<T> = Result<T, ConfigError>;

impl Reader<'_> {
    fn fault<T>(&self, at: &Spanned<T>, what: impl AsRef<str>) -> ConfigError {
        at_byte(self.text, at.span().start, what.as_ref())
    }

    fn read(&self, raw: &raw::Raw) -> Read<Config> {
        let assets = self.assets(&raw.assets)?;
        let rails = self.rails(&raw.rails, &assets)?;
        let gateway = &raw.gateway;
        let secrets = self.secrets(&gateway.secrets)?;
        let realm = gateway.realm.as_ref().clone();
        Mpp::new(&realm, secrets.clone())
            .map_err(|error| self.fault(&gateway.realm, error.to_string()))?;
        let seller = Holder::new(raw.seller.name.as_ref())
            .map_err(|error| self.fault(&raw.seller.name, error.to_string()))?;
        let upstreams = self.upstreams(&raw.upstreams)?;
        let context = RouteContext { assets: &assets, rails: &rails, upstreams: &upstreams };
        let routes = raw.routes.iter().map(|route| self.route(route, &context));
        let routes = routes.collect::<Read<Vec<_>>>()?;
        self.distinct_names(&raw.routes)?;
        crate::router::Router::check(&routes).map_err(|clash| {
            let at = raw.routes.get(clash.route).map_or(0, |it| it.get_ref().path.span().start);
            at_byte(self.text, at, &clash.what)
        })?;
        let listen = self.listen(gateway)?;
        let limit = raw.limits.as_ref().map(|limits| RateLimit {
            per_second: limits.requests_per_second,
            burst: limits.burst.unwrap_or(limits.requests_per_second),
        });
        Ok(Config {
            listen,
            realm,
            secrets,
            tls: gateway.tls.as_ref().map(|tls| TlsConfig {
                certificate: self.folder.join(&tls.get_ref().certificate),
                key: self.folder.join(&tls.get_ref().key),
            }),
            service: ServiceText {
                title: gateway.title.clone().unwrap_or_else(|| gateway.realm.get_ref().clone()),
                version: gateway.version.clone().unwrap_or_else(|| "1".to_owned()),
                description: gateway.description.clone(),
                info: ServiceInfo {
                    categories: gateway.categories.clone(),
                    docs: gateway.docs.clone(),
                },
            },
            admin: raw.admin.as_ref().map(|admin| self.admin(admin)).transpose()?,
            store: self.store(&raw.store)?,
            refund_limits: self.refund_limits(raw.refunds.as_ref(), &assets)?,
            notary: self.notary(raw)?,
            webhooks: self.webhooks(&raw.webhooks)?,
            settling: self.settling(&raw.sessions, &assets)?,
            assets,
            rails,
            seller,
            routes,
            limit,
            session_idle: Duration::from_secs(raw.sessions.idle_s.unwrap_or(SESSION_IDLE_S).max(1)),
            streams_paused_max: raw.streams.paused_max.unwrap_or(STREAMS_PAUSED_MAX),
            dunning: self.dunning(&raw.subscriptions)?,
            shutdown_grace: Duration::from_millis(gateway.shutdown_grace_ms.unwrap_or(30_000)),
        })
    }

    /// The scheme allows challenges over TLS only (§11.2); plain HTTP is for one's own machine.
    fn listen(&self, gateway: &raw::Gateway) -> Read<SocketAddr> {
        let listen = *gateway.listen.get_ref();
        if gateway.tls.is_none() && !listen.ip().is_loopback() && !gateway.plain_http {
            return Err(self.fault(
                &gateway.listen,
                "payment needs TLS: set [gateway.tls], or plain_http = true behind a proxy that \
                 terminates it, or listen on 127.0.0.1",
            ));
        }
        Ok(listen)
    }

    fn secrets(&self, names: &Spanned<Vec<Spanned<String>>>) -> Read<Secrets> {
        let secret = |name: &Spanned<String>| {
            let text = self.secret(name)?;
            Secret::new(text).map_err(|error| self.fault(name, error.to_string()))
        };
        let mut keys = names.get_ref().iter().map(secret).collect::<Read<Vec<_>>>()?.into_iter();
        let signing = keys.next().ok_or_else(|| {
            self.fault(names, "at least one secret is needed, such as \"env:FARTHING_SECRET\"")
        })?;
        Ok(Secrets::new(signing, keys.collect()))
    }

    /// Looks a secret up where the file says it is.
    fn secret(&self, name: &Spanned<String>) -> Read<String> {
        look_up(name.get_ref(), self.folder, self.environment)
            .map_err(|what| self.fault(name, what))
    }

    fn assets(&self, raw: &BTreeMap<String, Spanned<raw::Asset>>) -> Read<Assets> {
        raw.iter()
            .map(|(name, asset)| {
                AssetId::new(name)
                    .and_then(|id| Asset::new(id, asset.get_ref().decimals))
                    .map_err(|error| self.fault(asset, error.to_string()))
            })
            .collect()
    }

    fn rails(
        &self,
        raw: &BTreeMap<String, Spanned<raw::Rail>>,
        assets: &Assets,
    ) -> Read<Vec<RailConfig>> {
        let plain = |rail: &Spanned<raw::Rail>, config| {
            let is_plain = *rail.get_ref() == raw::Rail::default();
            if is_plain { Ok(config) } else { Err(self.fault(rail, "this rail has no settings")) }
        };
        let tellers = |rail: &Spanned<raw::Rail>, config| {
            let teller = rail.get_ref().teller.clone();
            let is_tellers = *rail.get_ref() == raw::Rail { teller, ..raw::Rail::default() };
            let what = "this rail has no settings but a teller";
            if is_tellers { Ok(config) } else { Err(self.fault(rail, what)) }
        };
        raw.iter()
            .map(|(name, rail)| match name.as_str() {
                "prepaid" => plain(rail, RailConfig::Prepaid),
                "tempo" => match &rail.get_ref().teller {
                    None => Ok(RailConfig::Tempo(Arc::new(self.tempo(rail, assets)?))),
                    Some(teller) => Err(self.fault(teller, "only the test rail has a teller")),
                },
                "evm" => Ok(RailConfig::Evm(Arc::new(self.evm(rail, assets)?))),
                "test" => {
                    let teller = rail.get_ref().teller.as_ref().map(|it| *it.get_ref());
                    tellers(rail, RailConfig::Test { teller })
                }
                _ => Err(self.fault(
                    rail,
                    format!(
                        "there is no rail called {name}; this build has prepaid, tempo, evm \
                         and test"
                    ),
                )),
            })
            .collect()
    }

    fn store(&self, raw: &Spanned<raw::Store>) -> Read<StoreConfig> {
        let store = raw.get_ref();
        let is_shared = store.postgres.is_some();
        let shares = [
            store.book.is_some(),
            store.listen.is_some(),
            store.advertise.is_some(),
            store.lease_ttl_ms.is_some(),
        ];
        if !is_shared && shares.contains(&true) {
            return Err(
                self.fault(raw, "book, listen, advertise and lease_ttl_ms go with postgres")
            );
        }
        match (&store.sqlite, store.memory.unwrap_or(false), &store.postgres) {
            (Some(path), false, None) => Ok(StoreConfig::Sqlite(self.folder.join(path))),
            (None, true, None) => Ok(StoreConfig::Memory),
            (None, false, Some(place)) => self.postgres(raw, place),
            _ => Err(self.fault(
                raw,
                "a book is kept in one place: sqlite = \"book.db\", postgres = \"env:DATABASE_URL\", \
                 or memory = true to lose it with the process",
            )),
        }
    }

    fn postgres(&self, at: &Spanned<raw::Store>, place: &Spanned<String>) -> Read<StoreConfig> {
        let store = at.get_ref();
        let address = Address::parse(&self.secret(place)?)
            .map_err(|error| self.fault(place, error.to_string()))?;
        let book = store.book.clone().unwrap_or_else(|| "book".to_owned());
        if Holder::new(&book).is_err() {
            return Err(self.fault(at, "a book's name is one printable word"));
        }
        Ok(StoreConfig::Postgres(Box::new(PostgresConfig {
            address,
            place: place.get_ref().clone(),
            book,
            listen: store.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            advertise: store.advertise.clone(),
            lease_ttl: Duration::from_millis(store.lease_ttl_ms.unwrap_or(5_000).max(500)),
        })))
    }

    fn admin(&self, raw: &Spanned<raw::Admin>) -> Read<AdminConfig> {
        let admin = raw.get_ref();
        if !admin.listen.ip().is_loopback() && !admin.plain_http {
            return Err(self.fault(
                raw,
                "the management listener speaks plain HTTP: listen on 127.0.0.1, or set \
                 plain_http = true on a network that only operators reach",
            ));
        }
        let token = admin.token.as_ref().map(|name| {
            let text = self.secret(name)?;
            AdminToken::new(text).map_err(|error| self.fault(name, error.to_string()))
        });
        Ok(AdminConfig { listen: admin.listen, token: token.transpose()? })
    }

    fn upstreams(
        &self,
        raw: &BTreeMap<String, Spanned<raw::Upstream>>,
    ) -> Read<BTreeMap<String, Arc<UpstreamConfig>>> {
        raw.iter()
            .map(|(name, spanned)| {
                let upstream = spanned.get_ref();
                let wrong = || {
                    self.fault(
                        &upstream.url,
                        "an upstream is http://host:port or https://host, with a path if need be",
                    )
                };
                let url: Uri = upstream.url.get_ref().parse().map_err(|_| wrong())?;
                let known = matches!(url.scheme_str(), Some("http" | "https"));
                if !known || url.authority().is_none() || url.query().is_some() {
                    return Err(wrong());
                }
                let millis = |set: Option<u64>, default| {
                    set.map_or(Duration::from_secs(default), Duration::from_millis)
                };
                let upstream = UpstreamConfig {
                    url,
                    connect_timeout: millis(upstream.connect_timeout_ms, 5),
                    response_timeout: millis(upstream.response_timeout_ms, 60),
                };
                Ok((name.clone(), Arc::new(upstream)))
            })
            .collect()
    }

    fn route(&self, raw: &Spanned<raw::Route>, context: &RouteContext<'_>) -> Read<RouteConfig> {
        let route = raw.get_ref();
        let name = route.name.get_ref();
        if Holder::new(name).is_err() {
            return Err(self.fault(&route.name, "a route's name is one printable word"));
        }
        if canonical_path(&pattern_sample(route.path.get_ref())).is_err() {
            return Err(self.fault(
                &route.path,
                "a path is written in its plain spelling, like /weather/{city}",
            ));
        }
        let prices = route.price.as_ref().map(|price| self.prices(price, context.assets));
        let mut prices = prices.transpose()?.unwrap_or_default();
        let intents = self.intents(route, context.assets)?;
        if let Some(subscription) = &intents.subscription {
            let alone = !intents.charge && intents.session.is_none();
            if alone != prices.is_empty() {
                return Err(self.fault(
                    raw,
                    "price is of a request: a route has one if its intents are more than \
                     \"subscription\", whose price is its own",
                ));
            }
            if alone {
                prices.clone_from(&subscription.price);
            }
        }
        if route.free != prices.is_empty() {
            return Err(self.fault(raw, "a route is either free = true or has a price"));
        }
        let upstream = context.upstreams.get(route.upstream.get_ref()).ok_or_else(|| {
            self.fault(&route.upstream, "there is no upstream of this name in [upstreams]")
        })?;
        let rails = self.route_rails(route, context.rails)?;
        self.payable(raw, &prices, &rails)?;
        self.subscribable(raw, intents.subscription.as_ref(), &rails)?;
        let methods = self.methods(route)?;
        let variants = self.variants(route, &prices, context.assets)?;
        let of_variants = variants.iter().flat_map(|variant| &variant.prices);
        let of_units: Vec<&Amount> = prices.iter().chain(of_variants).collect();
        let meter = self.meter(route, &intents, &of_units)?;
        let sells_post = methods.contains("POST");
        let manages = intents.session.is_some() && !sells_post;
        Ok(RouteConfig {
            name: name.as_str().into(),
            methods,
            path: route.path.get_ref().clone(),
            upstream: Arc::clone(upstream),
            variants,
            prices,
            rails,
            description: self.description(route)?,
            query: self.query(route)?,
            body: self.body(route)?,
            answer_bytes_max: route.answer_bytes_max.unwrap_or(ANSWER_BYTES_MAX),
            repeatable: route.repeatable,
            capture: self.capture(route)?,
            remedy: self.remedy(route)?,
            authorization_is_taken: route.authorization_is_taken,
            offer_ttl: Duration::from_secs(route.offer_ttl_s.unwrap_or(300).max(1)),
            meter,
            manages: manages.then(|| "POST".to_owned()).into_iter().collect(),
            intents,
            input_schema: route.input_schema.clone(),
            input_example: route.input_example.clone(),
        })
    }

    fn methods(&self, route: &raw::Route) -> Read<BTreeSet<String>> {
        let mut methods = BTreeSet::new();
        for name in &route.methods {
            let method = Method::from_bytes(name.get_ref().as_bytes());
            let known = method.is_ok_and(|it| it != Method::CONNECT && it != Method::TRACE);
            if !known || name.get_ref().to_ascii_uppercase() != *name.get_ref() {
                return Err(self.fault(name, "a method is written like GET or POST"));
            }
            methods.insert(name.get_ref().clone());
        }
        if methods.is_empty() {
            return Err(self.fault(&route.name, "a route needs at least one method"));
        }
        // Whoever may read a resource may ask for its head, at the same price.
        // Within a session, a request for the head opens, tops up or authorises ahead.
        let in_session =
            route.intents.as_ref().is_some_and(|it| it.get_ref().iter().any(|it| it == SESSION));
        if methods.contains("GET") || in_session {
            methods.insert("HEAD".to_owned());
        }
        Ok(methods)
    }

    fn prices(&self, raw: &Spanned<raw::Price>, assets: &Assets) -> Read<Vec<Amount>> {
        raw.get_ref().as_slice().iter().map(|price| self.price(raw, price, assets)).collect()
    }

    fn price(&self, raw: &Spanned<raw::Price>, text: &str, assets: &Assets) -> Read<Amount> {
        assets.read(text).map_err(|error| self.fault(raw, error.to_string()))
    }

    fn query(&self, route: &raw::Route) -> Read<BoundQuery> {
        let Some(raw) = &route.query else { return Ok(BoundQuery::All) };
        match raw.get_ref() {
            raw::Query::Names(names) => Ok(BoundQuery::Only(names.clone())),
            raw::Query::Word(word) if word == "all" => Ok(BoundQuery::All),
            raw::Query::Word(word) if word == "none" => Ok(BoundQuery::None),
            raw::Query::Word(_) => {
                Err(self.fault(raw, "query is \"all\", \"none\" or a list of parameters"))
            }
        }
    }

    fn route_rails(&self, route: &raw::Route, rails: &[RailConfig]) -> Read<Vec<RailConfig>> {
        let Some(names) = &route.rails else { return Ok(rails.to_vec()) };
        names
            .iter()
            .map(|name| {
                let known = rails.iter().find(|rail| rail.method() == name.get_ref());
                known
                    .cloned()
                    .ok_or_else(|| self.fault(name, "there is no rail of this name in [rails]"))
            })
            .collect()
    }

    fn payable<T>(&self, at: &Spanned<T>, prices: &[Amount], rails: &[RailConfig]) -> Read<()> {
        if !prices.is_empty() && rails.is_empty() {
            return Err(self.fault(at, "a priced route needs a rail; add one to [rails]"));
        }
        let proves = rails.iter().any(|rail| rail.tempo().is_some());
        if prices.iter().any(Amount::is_zero) && !proves {
            return Err(self.fault(
                at,
                "a price of nothing asks who it is, and only the tempo rail takes such proofs; what \
                 is given to everybody is free = true",
            ));
        }
        Ok(())
    }

    fn variants(
        &self,
        route: &raw::Route,
        prices: &[Amount],
        assets: &Assets,
    ) -> Read<Vec<Variant>> {
        let variant = |raw: &Spanned<raw::Variant>| {
            let variant = raw.get_ref();
            let own = self.prices(&variant.price, assets)?;
            if own.is_empty() || prices.is_empty() {
                return Err(self.fault(raw, "a variant of a priced route has a price"));
            }
            Ok(Variant { query: variant.query.clone(), prices: own })
        };
        let variants = route.when.iter().map(variant).collect::<Read<Vec<_>>>()?;
        let query = self.query(route)?;
        let bound = |name: &String| match &query {
            BoundQuery::All => true,
            BoundQuery::Only(names) => names.contains(name),
            BoundQuery::None => false,
        };
        for (raw, variant) in route.when.iter().zip(&variants) {
            if !variant.query.keys().all(bound) {
                return Err(self.fault(
                    raw,
                    "a parameter that decides the price must be part of what is bought: add it \
                     to query",
                ));
            }
        }
        Ok(variants)
    }

    fn description(&self, route: &raw::Route) -> Read<BTreeMap<String, Arc<str>>> {
        let Some(raw) = &route.description else { return Ok(BTreeMap::new()) };
        let texts = match raw.get_ref() {
            raw::Description::One(text) => BTreeMap::from([(String::new(), text.clone())]),
            raw::Description::ByLanguage(texts) => texts.clone(),
        };
        if texts.values().any(|text| text.chars().any(char::is_control)) {
            return Err(self.fault(raw, "a description is one line of text"));
        }
        Ok(texts.into_iter().map(|(language, text)| (language, text.into())).collect())
    }

    fn body(&self, route: &raw::Route) -> Read<BodyPolicy> {
        let bytes_max = route.body_bytes_max.unwrap_or(BODY_BYTES_MAX);
        let bind = |every_method| Ok(BodyPolicy::Bind { bytes_max, every_method });
        let Some(word) = &route.body else { return bind(false) };
        match word.get_ref().as_str() {
            "bind" => bind(true),
            "any" => Ok(BodyPolicy::Any),
            _ => Err(self.fault(word, "body is \"bind\" or \"any\"")),
        }
    }

    fn capture(&self, route: &raw::Route) -> Read<Capture> {
        let Some(word) = &route.settle else { return Ok(Capture::Before) };
        match word.get_ref().as_str() {
            "before" => Ok(Capture::Before),
            "after" => Ok(Capture::After),
            _ => Err(self.fault(
                word,
                "settle is \"before\" delivery, or \"after\": the money is held, and moves once \
                 the upstream has succeeded",
            )),
        }
    }

    fn remedy(&self, route: &raw::Route) -> Read<Remedy> {
        let Some(word) = &route.on_failure else { return Ok(Remedy::default()) };
        Remedy::ALL.into_iter().find(|remedy| remedy.name() == word.get_ref()).ok_or_else(|| {
            self.fault(word, "on_failure is \"redeliver\", \"refund\", \"credit\" or \"review\"")
        })
    }

    /// Limits are written asset by asset, and a limit for one refund has one for the day.
    fn refund_limits(&self, raw: Option<&raw::Refunds>, assets: &Assets) -> Read<RefundLimits> {
        let Some(raw) = raw else { return Ok(RefundLimits::default()) };
        let each = self.prices(&raw.each_max, assets)?;
        let days = self.prices(&raw.per_day_max, assets)?;
        let limit = |each_max: &Amount| {
            let per_day_max = days.iter().find(|day| day.asset() == each_max.asset());
            let per_day_max = per_day_max.cloned().ok_or_else(|| {
                self.fault(&raw.per_day_max, "every asset of each_max has a limit for the day")
            })?;
            Ok(RefundLimit { each_max: each_max.clone(), per_day_max })
        };
        if each.len() != days.len() {
            return Err(
                self.fault(&raw.each_max, "every asset of per_day_max has a limit for each")
            );
        }
        each.iter().map(limit).collect::<Read<Vec<_>>>().map(RefundLimits)
    }

    /// The first key signs; all are published.
    fn notary(&self, raw: &raw::Raw) -> Read<Option<Arc<Notary>>> {
        let Some(receipts) = &raw.receipts else { return Ok(None) };
        let key = |name: &Spanned<String>| {
            let text = self.secret(name)?;
            SecretKey::parse(&text).map_err(|error| self.fault(name, error.to_string()))
        };
        let names = &receipts.keys;
        let mut keys = names.get_ref().iter().map(key).collect::<Read<Vec<_>>>()?.into_iter();
        let active = keys.next().ok_or_else(|| {
            self.fault(names, "at least one key is needed, such as \"file:receipt.key\"")
        })?;
        let realm = &raw.gateway.realm;
        let notary = Notary::new(realm.get_ref(), active, keys.as_slice());
        notary.map(|it| Some(Arc::new(it))).map_err(|error| self.fault(realm, error.to_string()))
    }

    fn distinct_names(&self, routes: &[Spanned<raw::Route>]) -> Read<()> {
        let mut seen = BTreeSet::new();
        for route in routes {
            let name = &route.get_ref().name;
            if !seen.insert(name.get_ref()) {
                return Err(self.fault(name, "two routes have this name"));
            }
        }
        Ok(())
    }
}

struct RouteContext<'a> {
    assets: &'a Assets,
    rails: &'a [RailConfig],
    upstreams: &'a BTreeMap<String, Arc<UpstreamConfig>>,
}

/// A path that a pattern would match, to see whether the pattern is spelled plainly.
fn pattern_sample(pattern: &str) -> String {
    let mut sample = String::new();
    let mut inside = false;
    for char in pattern.chars() {
        match char {
            '{' => {
                inside = true;
                sample.push('x');
            }
            '}' => inside = false,
            _ if inside => {}
            _ => sample.push(char),
        }
    }
    sample
}
