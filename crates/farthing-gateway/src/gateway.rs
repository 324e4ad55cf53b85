//! The running gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use farthing_core::{
    Protocol, Quote, Rail, Recovered, Recovery, Renewed, Renewing, SESSION, SessionPrice, Settling,
    SubscriptionPrice, Tended, Tending, Till, Unfounded,
};
use farthing_evidence::{IdentityNonce, Notary, prove_identity};
use farthing_gate::{
    Body, ClientAddress, Clock, GateBuilder, GateService, PriceTag, Pricing, Streams, SystemClock,
    Tag, normalise_query,
};
use farthing_ledger::RefundLimits;
use farthing_money::{Amount, Assets};
use farthing_protocols::mpp::{Mpp, UnfitRealm};
use farthing_rail_prepaid::PrepaidRail;
use farthing_rail_tempo::session::{EvmAccount, SessionSettings, Teller};
use farthing_rail_tempo::{
    EvmRail, EvmSettings, KeyRing, MalformedKey, Nodes, NodesError, Refunder, Sponsor,
    SubscriptionSettings, TempoRail,
};
use farthing_rail_test::{Dial, TestRail};
use http::header::{
    ACCEPT_LANGUAGE, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service as _;

use crate::config::{
    BodyPolicy, Config, EvmConfig, RailConfig, RouteConfig, SessionConfig, SponsorSigner,
    TempoConfig,
};
use crate::connection::{self, Peer, TlsSlot};
use crate::desk::Desk;
use crate::management::{self, Office};
use crate::metrics::Metrics;
use crate::path::canonical_path;
use crate::proxy::{Matched, Proxy, full, problem};
use crate::router::{Found, Router};
use crate::store::{OpenStore, StoreConfig, StoreOpenError};
use crate::webhooks::{Postman, PostmanError, WebhookDesk};
use crate::{discovery, socket, tls};

/// How long a discovery document may be kept (§4.7).
const DISCOVERY_CACHE: &str = "max-age=300";

/// Where the keys are published that sign receipts. Not `/.well-known/jwks.json`, which may be the
/// upstream's own.
const JWKS: &str = "/.well-known/farthing/jwks.json";

/// Where the seller proves that it has its key: `?nonce=`, 32 bytes in base64url.
const IDENTITY: &str = "/.well-known/farthing/identity";

/// How long after a look at the rails the next one follows.
const RAILS_WATCHED: Duration = Duration::from_secs(10);

/// How long after a look at unfinished payments the next one follows.
const RECOVERED: Duration = Duration::from_secs(1);

/// How long the books of streams that were broken off may take when the gateway stops.
const STREAMS_SETTLED: Duration = Duration::from_secs(2);

/// A running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    site: RwLock<Arc<Site>>,
    tls: TlsSlot,
    metrics: Arc<Metrics>,
    store: OpenStore,
    postman: Arc<Postman>,
    streams: Streams,
    /// What a reload cannot change.
    fixed: Fixed,
}

#[derive(Clone, PartialEq)]
struct Fixed {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    store: StoreConfig,
    tls: bool,
    streams_paused_max: usize,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            listen: config.listen,
            admin: config.admin.as_ref().map(|admin| admin.listen),
            store: config.store.clone(),
            tls: config.tls.is_some(),
            streams_paused_max: config.streams_paused_max,
        }
    }
}

/// Everything that a reload swaps.
struct Site {
    router: Router,
    service: Service,
    proxy: Proxy,
    openapi: bytes::Bytes,
    llms: bytes::Bytes,
    /// The keys that sign receipts, where they are signed.
    jwks: Option<bytes::Bytes>,
    notary: Option<Arc<Notary>>,
    rails: Vec<Arc<dyn Rail>>,
    refund_limits: RefundLimits,
    session_idle: Duration,
    settling: Settling,
    dunning: farthing_core::Dunning,
    chains: Chains,
}

/// The rails on chains, and what each was made of. What one has spent or signed outlives a reload.
#[derive(Clone, Default)]
struct Chains {
    tempo: Option<(Arc<TempoConfig>, TempoRail)>,
    evm: Option<(Arc<EvmConfig>, EvmRail)>,
}

impl Gateway {
    /// Opens the book, builds the rails and listens.
    ///
    /// # Errors
    ///
    /// A [`StartError`]; nothing listens then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let tls = config.tls.as_ref().map(tls::server).transpose()?;
        let store = OpenStore::open(&config.store, SystemClock.now())?;
        let streams = Streams::with_paused_max(config.streams_paused_max);
        let site = Site::build(config, &store, (&metrics, &streams), None)?;
        site.check_escrow().await?;
        let postman = Postman::new(config, store.port(), Arc::clone(&metrics)).await?;
        let bind = |address| async move {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|error| StartError::Listen { address, error })
        };
        let listener = bind(config.listen).await?;
        let address = listener.local_addr().map_err(StartError::Io)?;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            site: RwLock::new(Arc::new(site)),
            tls: Arc::new(RwLock::new(tls)),
            metrics: Arc::clone(&metrics),
            store: store.clone(),
            postman: Arc::clone(&postman),
            streams,
            fixed: Fixed::of(config),
        });
        let mut tasks = Vec::new();
        let mut admin_address = None;
        if let Some(admin) = &config.admin {
            let listener = bind(admin.listen).await?;
            admin_address = Some(listener.local_addr().map_err(StartError::Io)?);
            let router = management::router(Office {
                store,
                metrics: Arc::clone(&metrics),
                token: admin.token.clone(),
                assets: config.assets.clone(),
                postman: Arc::clone(&postman),
                desk: {
                    let (shared, assets) = (Arc::clone(&shared), config.assets.clone());
                    Arc::new(move || shared.desk(assets.clone()))
                },
            });
            let mut stopping = stopping.clone();
            tasks.push(tokio::spawn(async move {
                let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
                // An error here is the listener's end, which the shutdown brings about anyway.
                let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
            }));
        }
        let handler = {
            let (shared, stopping) = (Arc::clone(&shared), stopping.clone());
            move |request, peer| handle(shared.current(), request, peer, stopping.clone())
        };
        tasks.push(tokio::spawn(watch_rails(Arc::clone(&shared), stopping.clone())));
        tasks.push(tokio::spawn(recover(Arc::clone(&shared), stopping.clone())));
        tasks.push(tokio::spawn(postman.run(stopping.clone())));
        let tls = Arc::clone(&shared.tls);
        let grace = config.shutdown_grace;
        tasks.push(tokio::spawn(connection::serve(
            listener, tls, metrics, stopping, grace, handler,
        )));
        Ok(Self { shared, address, admin_address, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is managed.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The open book.
    #[must_use]
    pub fn store(&self) -> &OpenStore {
        &self.shared.store
    }

    /// Swaps routes, prices, upstreams, secrets, rails, webhooks and certificates. Requests that are being
    /// served finish as they began.
    ///
    /// # Errors
    ///
    /// A [`ReloadError`]; the old configuration stays in force then.
    pub fn reload(&self, config: &Config) -> Result<(), ReloadError> {
        if Fixed::of(config) != self.shared.fixed {
            return Err(ReloadError::Fixed);
        }
        let tls = config.tls.as_ref().map(tls::server).transpose().map_err(StartError::from)?;
        let Shared { store, metrics, streams, .. } = &*self.shared;
        let before = self.shared.current();
        let site = Site::build(config, store, (metrics, streams), Some(&before))?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        *self.shared.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
        self.shared.postman.configure(config);
        Ok(())
    }

    /// Stops: no new connections, running requests finish within the grace period, and everything
    /// that was acknowledged is on disk.
    pub async fn stop(self) {
        // Nobody listening means everything has ended already.
        let _ = self.stop.send(true);
        for task in self.tasks {
            // A task that panicked has nothing left to finish.
            let _ = task.await;
        }
        // What is not done by then stays as it was taken, and is noted as given by the next start.
        let _ = tokio::time::timeout(STREAMS_SETTLED, self.shared.streams.settled()).await;
    }
}

impl Shared {
    fn desk(&self, assets: Assets) -> Desk {
        let site = self.current();
        let till =
            Till { protocols: Vec::new(), rails: site.rails.clone(), store: self.store.port() };
        Desk { till, limits: site.refund_limits.clone(), assets }
    }

    fn current(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An operator's desk over a book that no gateway has open.
///
/// # Errors
///
/// A [`StartError`], as when a gateway has it open.
pub fn desk(config: &Config) -> Result<Desk, StartError> {
    let store = OpenStore::open(&config.store, SystemClock.now())?;
    let rails = rails(config, None)?.0;
    let till = Till { protocols: Vec::new(), rails, store: store.port() };
    Ok(Desk { till, limits: config.refund_limits.clone(), assets: config.assets.clone() })
}

/// Whether every price can be paid on a rail of its route.
///
/// # Errors
///
/// The [`StartError`] with which the gateway would not start.
pub fn check_prices(config: &Config) -> Result<(), StartError> {
    let (rails, _) = rails(config, None)?;
    Prices::build(config, &rails).map(drop)
}

/// An operator's desk for webhooks over a book that no gateway has open.
///
/// # Errors
///
/// A [`StartError`], as when a gateway has it open.
pub fn webhook_desk(config: &Config) -> Result<WebhookDesk, StartError> {
    let store = OpenStore::open(&config.store, SystemClock.now())?.port();
    let names = config.webhooks.iter().map(|it| Arc::clone(&it.name)).collect();
    Ok(WebhookDesk { store, names })
}

/// The rails of a configuration, and those on chains once more.
type Rails = (Vec<Arc<dyn Rail>>, Chains);

fn rails(config: &Config, before: Option<&Chains>) -> Result<Rails, StartError> {
    let tempo = config.rails.iter().find_map(RailConfig::tempo).map(|tempo| {
        let rail = match before.and_then(|it| it.tempo.as_ref()) {
            // What a sponsor has spent, it has spent.
            Some((known, rail)) if known == tempo => rail.clone(),
            Some(_) | None => tempo_rail(tempo, config)?,
        };
        Ok((Arc::clone(tempo), rail))
    });
    let evm = config.rails.iter().find_map(RailConfig::evm).and_then(|evm| {
        let before = before.and_then(|it| it.evm.as_ref());
        let rail = match before {
            Some((known, rail)) if known == evm => Ok(rail.clone()),
            // An account has one owner.
            Some((_, rail)) => evm_rail(evm, Some(rail)).transpose()?,
            None => evm_rail(evm, None).transpose()?,
        };
        Some(rail.map(|rail| (Arc::clone(evm), rail)))
    });
    let chains = Chains {
        tempo: tempo.transpose().map_err(|error: StartError| error)?,
        evm: evm.transpose()?,
    };
    let all = config.rails.iter().filter_map(|it| rail(it, config, &chains));
    Ok((all.collect(), chains))
}

impl Site {
    fn build(
        config: &Config,
        store: &OpenStore,
        (metrics, streams): (&Arc<Metrics>, &Streams),
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let (rails, chains) = rails(config, before.map(|site| &site.chains))?;
        let mpp = Mpp::new(&config.realm, config.secrets.clone())?;
        let protocols: Vec<Arc<dyn Protocol>> = vec![Arc::new(mpp)];
        let builder = GateBuilder::new(protocols).rails(rails.clone()).streams(streams.clone());
        let mut builder = builder.observer(metrics.clone());
        if let Some(limit) = config.limit {
            builder = builder.limit(limit);
        }
        if let Some(notary) = &config.notary {
            builder = builder.receipts(Arc::clone(notary));
        }
        let gate = builder.store(store.port());
        let prices = Prices::build(config, &rails)?;
        let proxy = Proxy::new(&config.routes, config.assets.clone(), Arc::clone(metrics));
        let proxy = proxy.map_err(StartError::Io)?;
        let service = gate.layer(prices).layer(proxy.clone());
        let offers = |route: &RouteConfig| {
            let own: Vec<&dyn Rail> = rails_of(route, &rails).map(AsRef::as_ref).collect();
            let intents = |rail: &dyn Rail, amount: &Amount| {
                // A subscription is no intent that discovery knows; it is told of elsewhere.
                let quotes = quoted(config, route, rail, amount)
                    .filter(|quote| quote.subscription_price().is_none());
                quotes.map(|quote| quote.session_price().is_some()).collect::<Vec<bool>>()
            };
            discovery::offers(route, &own, &intents)
        };
        let openapi = discovery::openapi(&config.service, &config.routes, &offers);
        let llms = discovery::llms_txt(&config.service, &config.routes, &config.assets);
        Ok(Self {
            router: Router::new(&config.routes),
            service,
            proxy,
            openapi: openapi.to_string().into(),
            llms: llms.into(),
            jwks: config.notary.as_ref().map(|it| it.published().to_jwks().into()),
            notary: config.notary.clone(),
            rails,
            refund_limits: config.refund_limits.clone(),
            session_idle: config.session_idle,
            settling: config.settling.clone(),
            dunning: config.dunning.clone(),
            chains,
        })
    }
}

impl Site {
    /// Whether the escrow on an EVM chain is one that deposits may be taken in. A chain that does not answer
    /// now is asked again before the first of them.
    async fn check_escrow(&self) -> Result<(), StartError> {
        let Some((_, rail)) = &self.chains.evm else { return Ok(()) };
        match rail.fits().await {
            Ok(()) => Ok(()),
            Err(Unfounded::Later) => {
                tracing::warn!("no node of the EVM chain says how long the escrow's grace is");
                Ok(())
            }
            Err(Unfounded::Undone | Unfounded::Short | Unfounded::Declined) => {
                Err(StartError::Escrow)
            }
        }
    }
}

/// A rail; nothing where it is configured and cannot be paid on yet.
fn rail(config: &RailConfig, whole: &Config, chains: &Chains) -> Option<Arc<dyn Rail>> {
    Some(match config {
        RailConfig::Prepaid => Arc::new(PrepaidRail::new(whole.assets.clone())),
        RailConfig::Tempo(_) => Arc::new(chains.tempo.as_ref()?.1.clone()),
        RailConfig::Evm(_) => Arc::new(chains.evm.as_ref()?.1.clone()),
        RailConfig::Test { teller } => Arc::new(match teller {
            Some(teller) => TestRail::at(whole.assets.clone(), *teller),
            None => TestRail::new(whole.assets.clone(), Dial::default()),
        }),
    })
}

/// The rail of an EVM chain, once there is an escrow on it.
fn evm_rail(evm: &EvmConfig, before: Option<&EvmRail>) -> Result<Option<EvmRail>, StartError> {
    let Some(session) = &evm.session else { return Ok(None) };
    let nodes = Arc::new(Nodes::new(evm.chain_id, evm.nodes.clone(), evm.node_timeout)?);
    let (confirmations, wait) = (evm.confirmations, evm.settle_timeout);
    let account = EvmAccount::new(&session.key, nodes, confirmations, session.replace_after, wait)?;
    let account = match session.fee_max {
        Some(fee_max) => account.offering_at_most(fee_max),
        None => account,
    };
    let account = match &session.gas_asset {
        Some(coin) => account.counting_gas_in(coin.clone()),
        None => account,
    };
    let account = match before {
        Some(before) => account.taking_turns_with(before.account()),
        None => account,
    };
    Ok(Some(EvmRail::new(EvmSettings {
        escrow: session.escrow,
        tokens: evm.tokens.clone(),
        account: Arc::new(account),
        confirmations,
        wait,
        relays: session.relays,
        forgone_max: session.forgone_max.clone(),
    })))
}

fn tempo_rail(tempo: &TempoConfig, whole: &Config) -> Result<TempoRail, StartError> {
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes.clone(), tempo.node_timeout)?;
    let sponsor = tempo.sponsor.as_ref().map(|sponsor| {
        let (token, limits) = (sponsor.token.clone(), sponsor.limits);
        match &sponsor.signer {
            SponsorSigner::Key(key) => Ok(Sponsor::local(key, token, limits)?),
            SponsorSigner::Relay(url) => {
                Ok(Sponsor::relay(url.clone(), token, limits, tempo.node_timeout)?)
            }
        }
    });
    let sponsor = sponsor.transpose().map_err(|error: StartError| error)?;
    let settings = farthing_rail_tempo::Settings {
        payee: whole.seller.clone(),
        recipient: tempo.recipient,
        tokens: tempo.tokens.clone(),
        push: tempo.push,
        confirmations: tempo.confirmations,
        wait: tempo.settle_timeout,
        sponsor,
        splits: tempo.splits.clone(),
        refunder: tempo.refund_key.as_deref().map(Refunder::new).transpose()?,
    };
    let rail = TempoRail::new(Arc::new(nodes), settings);
    let rail = match &tempo.subscription {
        Some(own) => rail.with_subscriptions(SubscriptionSettings {
            keys: KeyRing::new(*own.key, own.former.iter().map(|key| **key).collect()),
            periods: own.periods,
            fee_max: own.fee_max,
        }),
        None => rail,
    };
    let Some(session) = &tempo.session else { return Ok(rail) };
    let (nodes, token) = (Arc::clone(rail.nodes()), session.fee_token.clone());
    let (confirmations, wait) = (tempo.confirmations, tempo.settle_timeout);
    let teller = Teller::new(&session.key, nodes, token, confirmations, wait)?;
    let settings = SessionSettings { escrow: session.escrow, teller };
    Ok(rail.with_sessions_forgoing(settings, session.forgone_max.clone()))
}

fn rails_of<'a>(
    route: &'a RouteConfig,
    rails: &'a [Arc<dyn Rail>],
) -> impl Iterator<Item = &'a Arc<dyn Rail>> {
    let own = |rail: &&Arc<dyn Rail>| route.rails.iter().any(|it| it.method() == rail.method());
    rails.iter().filter(own)
}

/// Looks after the rails from time to time, and counts what it finds.
async fn watch_rails(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        let chains = shared.current().chains.clone();
        if let Some((_, rail)) = &chains.tempo {
            shared.metrics.watched_tempo(rail).await;
        }
        if let Some((_, rail)) = &chains.evm {
            shared.metrics.watched_evm(rail).await;
        }
        let stopped = stopping.wait_for(|stop| *stop);
        if tokio::time::timeout(RAILS_WATCHED, stopped).await.is_ok() {
            return;
        }
    }
}

/// Finishes what was begun, from the start and as long as the gateway runs.
async fn recover(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let (mut recovery, mut tending) = (Recovery::default(), Tending::default());
    let mut renewing = Renewing::default();
    loop {
        let store = shared.store.port();
        if store.leads() {
            let site = shared.current();
            let till = Till { protocols: Vec::new(), rails: site.rails.clone(), store };
            recovery.limit(site.refund_limits.clone());
            let found = till.recover(&mut recovery, SystemClock.now()).await;
            shared.metrics.recovered(&found);
            tell(&found);
            tending.close_after(Some(site.session_idle));
            tending.settle(&site.settling);
            let tended = till.tend(&mut tending, SystemClock.now()).await;
            shared.metrics.tended(&tended);
            shared.metrics.sessions(tending.tally());
            tell_tended(&tended);
            renewing.dunning.clone_from(&site.dunning);
            let renewed = till.renew(&mut renewing, SystemClock.now()).await;
            shared.metrics.renewed(&renewed);
            if renewed != Renewed::default() {
                let Renewed { charged, failed, ended, open } = renewed;
                tracing::info!(charged, failed, ended, open, "looked after subscriptions");
            }
            shared.metrics.subscriptions(renewing.census());
        }
        let stopped = stopping.wait_for(|stop| *stop);
        if tokio::time::timeout(RECOVERED, stopped).await.is_ok() {
            return;
        }
    }
}

/// What recovery did, for the log; each thing that came to nothing is told where it did.
fn tell(found: &Recovered) {
    if *found == Recovered::default() {
        return;
    }
    let Recovered { posted, voided, refunded, concluded, matched, missing, open, owed } = found;
    tracing::info!(
        posted,
        voided,
        refunded,
        concluded,
        matched,
        missing,
        open,
        "looked after what is open"
    );
    for (payment, refusal) in owed {
        tracing::warn!(%payment, %refusal, "money that is owed back could not be given back");
    }
}

/// What was done about sessions, for the log.
fn tell_tended(tended: &Tended) {
    let Tended { confirmed, abandoned, settled, closed, open, refused, overdue, .. } = tended;
    if [confirmed, abandoned, settled, closed, open].into_iter().any(|count| *count > 0) {
        tracing::info!(confirmed, abandoned, settled, closed, open, "looked after sessions");
    }
    for channel in refused {
        tracing::warn!(%channel, "the rail would not settle a session's voucher, or not close it");
    }
    for channel in overdue {
        tracing::error!(%channel, "a session is not closed yet, and what is not settled may be lost");
    }
}

/// The proxy behind its gate.
pub(crate) type Service = GateService<Proxy, Prices>;

/// The tag of every route, made once.
pub(crate) struct Prices(BTreeMap<Arc<str>, RoutePrices>);

struct RoutePrices {
    usual: Tag,
    variants: Vec<(BTreeMap<String, String>, Tag)>,
    body: BodyPolicy,
    description: BTreeMap<String, Arc<str>>,
}

impl Prices {
    fn build(config: &Config, rails: &[Arc<dyn Rail>]) -> Result<Self, StartError> {
        let mut prices = BTreeMap::new();
        for route in &config.routes {
            let tag = |amounts: &[Amount]| tag(config, route, rails, amounts);
            let variant =
                |variant: &crate::Variant| Ok((variant.query.clone(), tag(&variant.prices)?));
            let entry = RoutePrices {
                usual: tag(&route.prices)?,
                variants: route.variants.iter().map(variant).collect::<Result<_, StartError>>()?,
                body: route.body,
                description: route.description.clone(),
            };
            prices.insert(Arc::clone(&route.name), entry);
        }
        Ok(Self(prices))
    }
}

/// What a route costs in `amounts`: every rail that carries one of them, and at least one rail for
/// each.
fn tag(
    config: &Config,
    route: &RouteConfig,
    rails: &[Arc<dyn Rail>],
    amounts: &[Amount],
) -> Result<Tag, StartError> {
    if amounts.is_empty() {
        return Ok(Tag::Free);
    }
    let mut quotes = Vec::new();
    for amount in amounts {
        let before = quotes.len();
        for rail in rails_of(route, rails) {
            quotes.extend(quoted(config, route, rail.as_ref(), amount).map(Arc::new));
        }
        if quotes.len() == before {
            let price = config.assets.print(amount);
            return Err(StartError::Unpayable { route: route.name.to_string(), price });
        }
    }
    Ok(Tag::Priced(PriceTag {
        query: route.query.clone(),
        offer_ttl: route.offer_ttl,
        authorization_is_taken: route.authorization_is_taken,
        answer_bytes_max: route.answer_bytes_max,
        repeatable: route.repeatable,
        capture: route.capture,
        remedy: route.remedy,
        ..PriceTag::new(&route.name, quotes)
    }))
}

/// How a rail can be paid `amount` for a route: by the period, in a session, request by request, or in any
/// of these ways.
fn quoted<'a>(
    config: &'a Config,
    route: &'a RouteConfig,
    rail: &'a dyn Rail,
    amount: &'a Amount,
) -> impl Iterator<Item = Quote> {
    let payee = &config.seller;
    let session = route.intents.session.as_ref().and_then(|session| {
        let atoms = |of: &[Amount]| SessionConfig::of(of, amount).map_or(0, Amount::atoms);
        let price = SessionPrice {
            unit: amount.clone(),
            unit_type: session.unit.clone(),
            suggested_deposit: SessionConfig::of(&session.deposit, amount).cloned(),
            deposit_min_atoms: atoms(&session.deposit_min),
            delta_min_atoms: atoms(&session.delta_min),
        };
        let request = rail.session()?.quote_session(&price, payee).ok()?;
        Some(Quote::session(rail.method(), price, payee.clone(), &request))
    });
    let charge = route.intents.charge.then(|| rail.quote(amount, payee).ok()).flatten();
    let charge = charge.map(|request| {
        Quote::new(rail.method(), "charge", amount.clone(), payee.clone(), &request)
    });
    let subscription = route.intents.subscription.as_ref().and_then(|plan| {
        let price = SubscriptionPrice {
            amount: SessionConfig::of(&plan.price, amount)?.clone(),
            period: plan.period,
            expires_at: plan.until,
            plan: Arc::clone(&plan.plan),
            dunning: config.dunning.clone(),
        };
        let subscriptions = rail.subscription()?;
        let request = subscriptions.quote_subscription(&price, payee).ok()?;
        let quote = Quote::subscription(rail.method(), price, payee.clone(), &request);
        Some(match subscriptions.completes() {
            Some(by) => quote.completed(by, &request),
            None => quote,
        })
    });
    subscription.into_iter().chain(session).chain(charge)
}

impl Pricing for Prices {
    fn price(&self, head: &Parts) -> Tag {
        let Some(matched) = head.extensions.get::<Matched>() else { return Tag::Free };
        let Some(prices) = self.0.get(&matched.route.name) else { return Tag::Free };
        let query = head.uri.query().unwrap_or_default();
        let applies = |(wanted, _): &&(BTreeMap<String, String>, Tag)| {
            wanted.iter().all(|(name, value)| parameter(query, name).as_deref() == Some(value))
        };
        let variant = prices.variants.iter().find(applies).map(|(_, tag)| tag);
        let mut tag = variant.unwrap_or(&prices.usual).clone();
        if let Tag::Priced(priced) = &mut tag {
            priced.path = Some(matched.path.matched.clone());
            priced.body_bytes_max = prices.body.bytes_max(&head.method);
            priced.description = in_language(&prices.description, &head.headers);
            if manages(matched, &head.method) {
                priced.vouchers_buy = Some(false);
                priced.quotes.retain(|quote| quote.intent() == SESSION);
            }
        }
        tag
    }
}

/// Whether a request deals with a session and buys nothing. `HEAD` does, and so does a `POST` where nothing
/// is sold by it; where answers are metered, any `POST` without a body, since in the middle of a stream peers
/// send their vouchers so.
fn manages(matched: &Matched, method: &Method) -> bool {
    let route = &matched.route;
    let bodiless = *method == Method::POST && route.meter.is_some() && matched.bodiless;
    let in_session = *method == Method::HEAD && route.meter.is_some();
    bodiless || in_session || route.manages.contains(method.as_str())
}

/// The value of a query parameter, decoded and encoded again in one spelling.
fn parameter(query: &str, name: &str) -> Option<String> {
    let normal = normalise_query(query);
    let wanted = normalise_query(&format!("{name}="));
    let value = normal.split('&').find_map(|pair| pair.strip_prefix(wanted.as_str()))?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// Whether a parameter that decides the price stands twice with different values, so that the
/// upstream might read another one than the gateway did.
fn is_ambiguous(route: &RouteConfig, query: &str) -> bool {
    let normal = normalise_query(query);
    let names = route.variants.iter().flat_map(|variant| variant.query.keys());
    names.into_iter().any(|name| {
        let wanted = normalise_query(name);
        let of_name = |pair: &&str| pair.split('=').next() == Some(wanted.as_str());
        normal.split('&').filter(of_name).count() > 1
    })
}

/// The description in the language the client prefers (§10.2), or in the default one.
fn in_language(texts: &BTreeMap<String, Arc<str>>, fields: &HeaderMap) -> Option<Arc<str>> {
    let accepted = fields.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut ranges: Vec<(u16, &str)> = accepted
        .unwrap_or_default()
        .split(',')
        .filter_map(|range| {
            let (language, weight) = range.split_once(";q=").unwrap_or((range, "1"));
            Some((quality(weight.trim())?, language.trim()))
        })
        .collect();
    ranges.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    let primary = |range: &str| range.split('-').next().unwrap_or_default().to_ascii_lowercase();
    let preferred = ranges
        .iter()
        .filter(|(quality, _)| *quality > 0)
        .find_map(|(_, range)| texts.get(*range).or_else(|| texts.get(&primary(range))));
    preferred.or_else(|| texts.get("")).or_else(|| texts.values().next()).cloned()
}

/// A weight in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: u16 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" => Some(1_000),
        _ => None,
    }
}

/// Answers one request.
async fn handle(
    site: Arc<Site>,
    request: Request<Incoming>,
    peer: Peer,
    stopping: watch::Receiver<bool>,
) -> Response<Body> {
    let Ok(path) = canonical_path(request.uri().path()) else {
        let detail = "The path is not in its plain spelling; another server might read it as \
                      another path.";
        return problem(StatusCode::BAD_REQUEST, detail);
    };
    if let Some(answer) = discover(&site, &request, &path.matched) {
        return answer;
    }
    let route = match site.router.find(&path.matched, request.method().as_str()) {
        Found::Route(route) => route,
        Found::OtherMethods(methods) => {
            let detail = "The path has other methods; see Allow.";
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, detail);
            if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
                answer.headers_mut().insert(ALLOW, allow);
            }
            return answer;
        }
        Found::Nothing => {
            let detail = "Nothing is sold here; /openapi.json lists what is.";
            return problem(StatusCode::NOT_FOUND, detail);
        }
    };
    if is_ambiguous(&route, request.uri().query().unwrap_or_default()) {
        let detail = "A query parameter that decides the price stands twice; send it once.";
        return problem(StatusCode::BAD_REQUEST, detail);
    }
    let mut request = request;
    let bodiless = hyper::body::Body::is_end_stream(request.body());
    let fields = request.extensions_mut();
    fields.insert(ClientAddress(peer.address.ip()));
    let matched = Matched { route, path, https: peer.https, bodiless };
    fields.insert(matched.clone());
    if let Some(meter) = matched.route.meter.clone()
        && socket::is_asked_for(&request)
    {
        let (service, proxy) = (site.service.clone(), site.proxy.clone());
        let opening = socket::Opening { service, proxy, matched, meter, stopping };
        return socket::open(opening, request).await;
    }
    let mut service = site.service.clone();
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The documents the gateway serves itself.
fn discover(site: &Site, request: &Request<Incoming>, path: &str) -> Option<Response<Body>> {
    let mut caching = DISCOVERY_CACHE;
    let proof: bytes::Bytes;
    let (body, media_type) = match path {
        IDENTITY => {
            let notary = site.notary.as_ref()?;
            let nonce = parameter(request.uri().query().unwrap_or_default(), "nonce");
            let nonce = nonce.as_deref().and_then(IdentityNonce::parse);
            let Some(nonce) = nonce else {
                let detail = "Name a nonce of 32 bytes in base64url: ?nonce=…";
                return Some(problem(StatusCode::BAD_REQUEST, detail));
            };
            caching = "no-store";
            proof = prove_identity(notary, &nonce).into();
            (&proof, "application/jwt")
        }
        "/openapi.json" => (&site.openapi, "application/json"),
        "/llms.txt" => (&site.llms, "text/plain; charset=utf-8"),
        JWKS => (site.jwks.as_ref()?, "application/jwk-set+json"),
        _ => return None,
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "This document can only be read.");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(answer);
    }
    let mut response = Response::new(full(body.clone()));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Some(response)
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The book cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The realm cannot be challenged for.
    #[error(transparent)]
    Realm(#[from] UnfitRealm),
    /// The certificate or its key does not work.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A chain's nodes cannot be asked.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The sponsor's key is none.
    #[error(transparent)]
    Sponsor(#[from] MalformedKey),
    /// The escrow on an EVM chain is none that deposits may be taken in.
    #[error(
        "rails.evm.session: the escrow gives the payee less than ten minutes after a request to close, or \
         is none"
    )]
    Escrow,
    /// Nobody can be told what happened to payments.
    #[error(transparent)]
    Webhooks(#[from] PostmanError),
    /// A price cannot be paid on any rail of its route.
    #[error("route {route}: no rail of the route can carry {price}")]
    Unpayable {
        /// The route.
        route: String,
        /// The price.
        price: String,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The system says no.
    #[error(transparent)]
    Io(std::io::Error),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Something changed that needs a restart.
    #[error(
        "addresses, the store, and turning TLS on or off need a restart; the rest can be reloaded"
    )]
    Fixed,
    /// The new configuration could not be started either.
    #[error(transparent)]
    Start(#[from] StartError),
}
