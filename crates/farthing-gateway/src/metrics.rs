//! What is counted.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use farthing_core::{Recovered, Renewed, Tally, Tended};
use farthing_gate::{Clock as _, Decision, Observer, StreamEnd, SystemClock, Verdict};
use farthing_ledger::SubscriptionState;
use farthing_meter::{End, Summary};
use farthing_rail_tempo::{EvmRail, Nodes, TempoRail};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::store::OpenStore;

/// Bounds of the decision's histogram, in seconds: from a challenge to a slow chain.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    route: String,
    verdict: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAsset {
    asset: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNode {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEndpoint {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAsset {
    asset: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    route: String,
    status: String,
}

/// Everything that is counted. No label names a person, a key or a credential.
pub(crate) struct Metrics {
    registry: Registry,
    decisions: Family<ByVerdict, Counter>,
    paid_atoms: Family<ByAsset, Counter<u64, AtomicU64>>,
    decision_seconds: Histogram,
    upstream: Family<ByStatus, Counter>,
    connections: Gauge,
    store_up: Gauge,
    store_queue: Gauge,
    unfinished: Gauge,
    recovered: Family<ByOutcome, Counter>,
    node_up: Family<ByNode, Gauge>,
    node_block_age: Family<ByNode, Gauge>,
    evm_node_up: Family<ByNode, Gauge>,
    evm_node_block_age: Family<ByNode, Gauge>,
    evm_gas: Gauge<u64, AtomicU64>,
    sponsor_balance: Gauge<u64, AtomicU64>,
    sponsor_balance_min: Gauge<u64, AtomicU64>,
    sponsor_budget_left: Gauge<u64, AtomicU64>,
    refund_balance: Family<OfAsset, Gauge<u64, AtomicU64>>,
    webhooks: Webhooks,
    sessions: Sessions,
    streams: Streams,
    subscriptions: Subscriptions,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    method: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMethod {
    method: String,
}

/// What is counted of sessions.
#[derive(Default)]
struct Sessions {
    by_state: Family<ByState, Gauge>,
    refundable: Family<ByAsset, Gauge<u64, AtomicU64>>,
    owed: Family<ByAsset, Gauge<u64, AtomicU64>>,
    overdue: Family<ByMethod, Gauge>,
    tended: Family<ByOutcome, Counter>,
}

impl Sessions {
    fn register(&self, registry: &mut Registry) {
        let help = "Sessions that are not closed, by where they stand";
        registry.register("sessions", help, self.by_state.clone());
        let help = "What of sessions' deposits was neither spent nor given back, in atoms";
        registry.register("sessions_refundable_atoms", help, self.refundable.clone());
        let help = "What was spent in sessions and is not settled on the rail, in atoms";
        registry.register("sessions_owed_atoms", help, self.owed.clone());
        let help = "Sessions that are to be closed and are late: what is not settled may be lost";
        registry.register("sessions_overdue", help, self.overdue.clone());
        let help = "What was done about sessions beside requests, by what became of it";
        registry.register("sessions_tended", help, self.tended.clone());
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnd {
    route: String,
    end: &'static str,
}

/// What is counted of answers that are paid for as they are given.
#[derive(Default)]
struct Streams {
    open: Family<ByRoute, Gauge>,
    paused: Family<ByRoute, Gauge>,
    ended: Family<ByEnd, Counter>,
    units: Family<ByRoute, Counter>,
    pauses: Family<ByRoute, Counter>,
    forged: Family<ByRoute, Counter>,
}

impl Streams {
    fn register(&self, registry: &mut Registry) {
        let help = "Answers that are being given and paid for as they are";
        registry.register("streams_open", help, self.open.clone());
        let help = "Such answers that wait for a voucher";
        registry.register("streams_paused", help, self.paused.clone());
        let help = "Such answers that have ended, by how";
        registry.register("streams_ended", help, self.ended.clone());
        let help = "Units that such answers have used";
        registry.register("streams_units", help, self.units.clone());
        let help = "How often such answers have waited for a voucher";
        registry.register("streams_pauses", help, self.pauses.clone());
        let help =
            "Names of events and fields by which upstreams spoke of payments, and were escaped";
        registry.register("streams_forged", help, self.forged.clone());
    }

    fn ended(&self, route: &str, summary: Summary) {
        let labels = ByRoute { route: route.to_owned() };
        let end = match summary.end {
            End::Complete => "complete",
            End::Unpaid => "unpaid",
            End::Closed => "closed",
            End::Unavailable => "unavailable",
            End::Upstream => "upstream",
            End::TooLong => "too_long",
            End::Dropped => "dropped",
        };
        self.open.get_or_create(&labels).dec();
        self.ended.get_or_create(&ByEnd { route: route.to_owned(), end }).inc();
        self.units.get_or_create(&labels).inc_by(summary.units.max(1));
        self.pauses.get_or_create(&labels).inc_by(summary.pauses);
        self.forged.get_or_create(&labels).inc_by(summary.forged);
    }
}

/// What is counted of subscriptions.
#[derive(Default)]
struct Subscriptions {
    by_state: Family<ByState, Gauge>,
    renewed: Family<ByOutcome, Counter>,
}

impl Subscriptions {
    fn register(&self, registry: &mut Registry) {
        let help = "Subscriptions that are not over, by where they stand";
        registry.register("subscriptions", help, self.by_state.clone());
        let help = "What was done about subscriptions beside requests, by what became of it";
        registry.register("subscriptions_renewed", help, self.renewed.clone());
    }
}

/// What is counted of webhooks, by endpoint.
#[derive(Default)]
struct Webhooks {
    delivered: Family<ByEndpoint, Counter>,
    failed: Family<ByEndpoint, Counter>,
    lag: Family<ByEndpoint, Gauge>,
    open: Family<ByEndpoint, Gauge>,
    dead: Family<ByEndpoint, Gauge>,
    disabled: Family<ByEndpoint, Gauge>,
}

impl Webhooks {
    fn register(&self, registry: &mut Registry) {
        let help = "Events that endpoints have taken";
        registry.register("webhooks_delivered", help, self.delivered.clone());
        let help = "Attempts to tell an endpoint something that failed";
        registry.register("webhooks_failed", help, self.failed.clone());
        let help = "Records of the journal that wait to be looked at for an endpoint";
        registry.register("webhooks_lag_records", help, self.lag.clone());
        let help = "Events that are tried again, or wait for an earlier one of their payment";
        registry.register("webhooks_open", help, self.open.clone());
        let help = "Events that were given up and wait to be replayed";
        registry.register("webhooks_dead", help, self.dead.clone());
        let help = "Whether an endpoint has said that it wants nothing any more";
        registry.register("webhooks_disabled", help, self.disabled.clone());
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("farthing");
        let metrics = Self {
            decisions: Family::default(),
            paid_atoms: Family::default(),
            decision_seconds: Histogram::new(SECONDS),
            upstream: Family::default(),
            connections: Gauge::default(),
            store_up: Gauge::default(),
            store_queue: Gauge::default(),
            unfinished: Gauge::default(),
            recovered: Family::default(),
            node_up: Family::default(),
            node_block_age: Family::default(),
            evm_node_up: Family::default(),
            evm_node_block_age: Family::default(),
            evm_gas: Gauge::default(),
            sponsor_balance: Gauge::default(),
            sponsor_balance_min: Gauge::default(),
            sponsor_budget_left: Gauge::default(),
            webhooks: Webhooks::default(),
            sessions: Sessions::default(),
            streams: Streams::default(),
            subscriptions: Subscriptions::default(),
            refund_balance: Family::default(),
            registry: Registry::default(),
        };
        let help = "Decisions on requests of priced routes";
        registry.register("decisions", help, metrics.decisions.clone());
        registry.register("paid_atoms", "Money taken, in atoms", metrics.paid_atoms.clone());
        registry.register_with_unit(
            "decision",
            "Time to decide, the upstream's work not included",
            Unit::Seconds,
            metrics.decision_seconds.clone(),
        );
        registry.register("upstream_answers", "Answers of upstreams", metrics.upstream.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("store_up", "Whether the book can be written", metrics.store_up.clone());
        let help = "Requests that wait for the book";
        registry.register("store_queue", help, metrics.store_queue.clone());
        let help = "Payments that were claimed and are neither delivered nor given up";
        registry.register("payments_unfinished", help, metrics.unfinished.clone());
        let help = "What recovery did: payments and refunds by what became of them";
        registry.register("recovered", help, metrics.recovered.clone());
        let help = "Whether a node answers and serves the right chain";
        registry.register("tempo_node_up", help, metrics.node_up.clone());
        let help = "How old a node's latest block is";
        let age = metrics.node_block_age.clone();
        registry.register_with_unit("tempo_node_block_age", help, Unit::Seconds, age);
        let help = "Whether a node answers and serves the right chain";
        registry.register("evm_node_up", help, metrics.evm_node_up.clone());
        let help = "How old a node's latest block is";
        let age = metrics.evm_node_block_age.clone();
        registry.register_with_unit("evm_node_block_age", help, Unit::Seconds, age);
        let help = "What the account that settles can pay gas with, in billionths of the coin";
        registry.register("evm_gas_gwei", help, metrics.evm_gas.clone());
        let help = "What the account that pays network fees holds, in atoms";
        registry.register("tempo_sponsor_balance", help, metrics.sponsor_balance.clone());
        let help = "Below this balance nothing is sponsored, in atoms";
        registry.register("tempo_sponsor_balance_min", help, metrics.sponsor_balance_min.clone());
        let help = "What is left of the day's budget for network fees, in atoms";
        registry.register("tempo_sponsor_budget_left", help, metrics.sponsor_budget_left.clone());
        metrics.webhooks.register(&mut registry);
        metrics.sessions.register(&mut registry);
        metrics.streams.register(&mut registry);
        metrics.subscriptions.register(&mut registry);
        let help = "What the account that refunds are paid from holds, in atoms";
        registry.register("tempo_refund_balance", help, metrics.refund_balance.clone());
        Arc::new(Self { registry, ..metrics })
    }

    pub(crate) fn answered(&self, route: &str, status: u16) {
        let labels = ByStatus { route: route.to_owned(), status: status.to_string() };
        self.upstream.get_or_create(&labels).inc();
    }

    pub(crate) fn webhook_delivered(&self, endpoint: &str) {
        self.webhooks.delivered.get_or_create(&by_endpoint(endpoint)).inc();
    }

    pub(crate) fn webhook_failed(&self, endpoint: &str) {
        self.webhooks.failed.get_or_create(&by_endpoint(endpoint)).inc();
    }

    /// Where an endpoint stands: records it is behind, events that are open and given up.
    pub(crate) fn webhook_stands(
        &self,
        endpoint: &str,
        lag: u64,
        (open, dead): (usize, usize),
        is_disabled: bool,
    ) {
        let labels = by_endpoint(endpoint);
        let webhooks = &self.webhooks;
        webhooks.lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
        webhooks.open.get_or_create(&labels).set(i64::try_from(open).unwrap_or(i64::MAX));
        webhooks.dead.get_or_create(&labels).set(i64::try_from(dead).unwrap_or(i64::MAX));
        webhooks.disabled.get_or_create(&labels).set(is_disabled.into());
    }

    /// Forgets where endpoints stand that may be gone.
    pub(crate) fn webhooks_change(&self) {
        let Webhooks { lag, open, dead, disabled, .. } = &self.webhooks;
        [lag, open, dead, disabled].into_iter().for_each(Family::clear);
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    /// Counts what recovery did.
    pub(crate) fn recovered(&self, found: &Recovered) {
        for (outcome, count) in [
            ("posted", found.posted),
            ("voided", found.voided),
            ("refunded", found.refunded),
            ("concluded", found.concluded),
            ("matched", found.matched),
            ("missing", found.missing),
            ("in_vain", found.open),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.recovered.get_or_create(&ByOutcome { outcome }).inc_by(count);
        }
    }

    /// Counts what was done about sessions.
    pub(crate) fn tended(&self, tended: &Tended) {
        for (outcome, count) in [
            ("confirmed", tended.confirmed),
            ("abandoned", tended.abandoned),
            ("settled", tended.settled),
            ("closed", tended.closed),
            ("in_vain", tended.open),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.sessions.tended.get_or_create(&ByOutcome { outcome }).inc_by(count);
        }
    }

    /// Counts what was done about subscriptions.
    pub(crate) fn renewed(&self, renewed: &Renewed) {
        for (outcome, count) in [
            ("charged", renewed.charged),
            ("failed", renewed.failed),
            ("ended", renewed.ended),
            ("in_vain", renewed.open),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.subscriptions.renewed.get_or_create(&ByOutcome { outcome }).inc_by(count);
        }
    }

    /// Where subscriptions stand.
    pub(crate) fn subscriptions(&self, census: &[(String, SubscriptionState, u64)]) {
        self.subscriptions.by_state.clear();
        for (method, state, count) in census {
            let labels = ByState { method: method.clone(), state: state.name() };
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            // Who has cancelled does not show.
            self.subscriptions.by_state.get_or_create(&labels).inc_by(count);
        }
    }

    /// Where sessions stand.
    pub(crate) fn sessions(&self, tally: &Tally) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for ((method, state), number) in &tally.sessions {
            let labels = ByState { method: method.clone(), state };
            self.sessions.by_state.get_or_create(&labels).set(count(*number));
        }
        for method in tally.sessions.keys().map(|(method, _)| method) {
            let number = tally.overdue.get(method).copied().unwrap_or(0);
            let labels = ByMethod { method: method.clone() };
            self.sessions.overdue.get_or_create(&labels).set(count(number));
        }
        for (family, sums) in
            [(&self.sessions.refundable, &tally.refundable), (&self.sessions.owed, &tally.owed)]
        {
            for ((method, asset), sum) in sums {
                let labels = ByAsset { asset: asset.to_string(), method: method.clone() };
                let sum = u64::try_from(*sum).unwrap_or(u64::MAX);
                family.get_or_create(&labels).set(sum);
            }
        }
    }

    /// Looks after the nodes of a chain, the account that pays fees on it, and the one that refunds are
    /// paid from.
    pub(crate) async fn watched_tempo(&self, rail: &TempoRail) {
        let nodes = rail.nodes();
        watched_nodes(nodes, &self.node_up, &self.node_block_age).await;
        let atoms = |atoms| u64::try_from(atoms).unwrap_or(u64::MAX);
        for token in rail.tokens().iter() {
            let Some(refunder) = rail.refunder() else { break };
            if let Ok(balance) = nodes.balance(token.address, refunder.account()).await {
                let labels = OfAsset { asset: token.asset.id().to_string() };
                self.refund_balance.get_or_create(&labels).set(atoms(balance));
            }
        }
        let Some(sponsor) = rail.sponsor() else { return };
        self.sponsor_balance_min.set(atoms(sponsor.limits().balance_min));
        self.sponsor_budget_left.set(atoms(sponsor.left()));
        let Some(account) = sponsor.account() else { return };
        if let Ok(balance) = nodes.balance(sponsor.token().address, account).await {
            self.sponsor_balance.set(atoms(balance));
        }
    }

    /// The same of another EVM chain, and of the account that settles on it.
    pub(crate) async fn watched_evm(&self, rail: &EvmRail) {
        watched_nodes(rail.nodes(), &self.evm_node_up, &self.evm_node_block_age).await;
        if let Ok(wei) = rail.account().coins().await {
            let gwei = wei.checked_div(1_000_000_000).unwrap_or_default();
            self.evm_gas.set(u64::try_from(gwei).unwrap_or(u64::MAX));
        }
    }

    /// The metrics as text, with the store's state at this moment.
    pub(crate) fn text(&self, store: &OpenStore) -> String {
        let (store_up, queue) = (store.is_running(), store.queue_len());
        self.unfinished.set(i64::try_from(store.unfinished()).unwrap_or(i64::MAX));
        self.store_up.set(i64::from(store_up));
        self.store_queue.set(i64::try_from(queue).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Looks after the nodes of a chain.
async fn watched_nodes(nodes: &Nodes, up: &Family<ByNode, Gauge>, age: &Family<ByNode, Gauge>) {
    let now_s = SystemClock.now().as_secs();
    for node in nodes.health().await {
        let port = node.port.map(|port| format!(":{port}")).unwrap_or_default();
        let labels = ByNode { node: format!("{}{port}", node.host) };
        up.get_or_create(&labels).set(nodes.serves(&node).into());
        let seconds = node.block_time_s.map(|at| now_s.saturating_sub(at));
        let seconds = seconds.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1);
        age.get_or_create(&labels).set(seconds);
    }
}

fn by_endpoint(endpoint: &str) -> ByEndpoint {
    ByEndpoint { endpoint: endpoint.to_owned() }
}

impl Observer for Metrics {
    fn stream_began(&self, route: &str) {
        self.streams.open.get_or_create(&ByRoute { route: route.to_owned() }).inc();
    }

    fn stream_paused(&self, route: &str, paused: bool) {
        let change = if paused { 1 } else { -1 };
        let labels = ByRoute { route: route.to_owned() };
        self.streams.paused.get_or_create(&labels).inc_by(change);
    }

    fn stream_ended(&self, end: &StreamEnd<'_>) {
        let StreamEnd { payment, summary } = *end;
        self.streams.ended(&payment.route, summary);
        // The first unit was counted when it was paid.
        let more = summary.units.saturating_sub(1);
        let atoms = payment.amount.atoms().saturating_mul(more.into());
        let asset = payment.amount.asset().to_string();
        let labels = ByAsset { asset, method: payment.method.clone() };
        let atoms = u64::try_from(atoms).unwrap_or(u64::MAX);
        self.paid_atoms.get_or_create(&labels).inc_by(atoms);
        tracing::info!(
            route = payment.route,
            trace = %payment.trace,
            end = ?summary.end,
            units = summary.units,
            pauses = summary.pauses,
            forged = summary.forged,
            "stream ended"
        );
    }

    fn decided(&self, decision: &Decision<'_>) {
        let verdict = decision.verdict;
        let labels =
            ByVerdict { route: decision.route.to_owned(), verdict: verdict.label().to_owned() };
        self.decisions.get_or_create(&labels).inc();
        self.decision_seconds.observe(decision.took.as_secs_f64());
        let micros = u64::try_from(decision.took.as_micros()).unwrap_or(u64::MAX);
        if let Verdict::Paid(payment) = verdict {
            let asset = payment.amount.asset().to_string();
            let labels = ByAsset { asset, method: payment.method.clone() };
            let atoms = u64::try_from(payment.amount.atoms()).unwrap_or(u64::MAX);
            self.paid_atoms.get_or_create(&labels).inc_by(atoms);
            tracing::info!(
                route = decision.route,
                verdict = verdict.label(),
                trace = %payment.trace,
                method = payment.method,
                amount = ?payment.amount,
                took_us = micros,
                "decided"
            );
        } else {
            tracing::debug!(
                route = decision.route,
                verdict = verdict.label(),
                took_us = micros,
                "decided"
            );
        }
    }
}
