//! `farthing doctor`: a look at a deployment before it meets anybody, and whenever something is odd.
//!
//! It only looks: nothing is written but a file of its own beside the book, which is removed again. It
//! says what it looked at, what is wrong, and what to do about it.

use std::fmt;
use std::io::{Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{
    BookReadError, BookReader, Config, EvmConfig, PostgresConfig, StoreConfig, TempoConfig,
    TlsConfig, UpstreamConfig, check_tls, secret_files,
};
use farthing_rail_tempo::Nodes;
use farthing_rail_tempo::session::GRACE_MIN;
use farthing_store_postgres::Problem;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::cli::Doctor;
use crate::failure::{Done, Failure};
use crate::rail::SponsorStatus;
use crate::serve::read_config;
use crate::wallet::print_json;

/// How far two clocks may differ before challenges expire too early or too late for somebody.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// How long before its end a certificate is to be renewed.
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 21);

/// How long somebody who is asked may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a sync of a few bytes may take before payments are slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// It is well.
    Well,
    /// It works, and is worth a look.
    Odd,
    /// It does not work, or is dangerous.
    Ill,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Well => "well",
            Self::Odd => "odd",
            Self::Ill => "ILL",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    part: &'static str,
    /// What was found, and what to do about it.
    what: String,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, part: &'static str, what: impl fmt::Display) {
        self.0.push(Finding { level, part, what: what.to_string() });
    }

    fn well(&mut self, part: &'static str, what: impl fmt::Display) {
        self.add(Level::Well, part, what);
    }

    fn odd(&mut self, part: &'static str, what: impl fmt::Display) {
        self.add(Level::Odd, part, what);
    }

    fn ill(&mut self, part: &'static str, what: impl fmt::Display) {
        self.add(Level::Ill, part, what);
    }
}

pub(crate) async fn run(args: Doctor) -> Done {
    let mut found = Findings::default();
    match read_config(&args.config) {
        Ok(config) => examine(&args.config, &config, &mut found).await,
        // Secrets that are missing, weak or misspelled are said here, with their line.
        Err(failure) => found.ill("configuration", failure),
    }
    let worst = found.0.iter().map(|it| it.level).max().unwrap_or(Level::Well);
    if args.json {
        print_json(&json!({ "verdict": worst, "findings": found.0 }))?;
    } else {
        for Finding { level, part, what } in &found.0 {
            println!("{level:<5} {part:<14} {what}");
        }
    }
    match worst {
        Level::Well | Level::Odd => Ok(()),
        Level::Ill => Err(Failure::other("something does not work; see above")),
    }
}

async fn examine(path: &Path, config: &Config, found: &mut Findings) {
    found.well("configuration", "can be read; every secret is there and long enough");
    permissions(path, config, found);
    let running = listener(config, found).await;
    store(config, running, found);
    if let Some(tls) = &config.tls {
        certificate(tls, &config.realm, found);
    } else if config.listen.ip().is_loopback() {
        found.well("tls", "none, and only this machine reaches the gateway");
    } else {
        found.odd("tls", "none here: whatever stands in front has to speak TLS (§11.2)");
    }
    admin(config, found);
    for rail in &config.rails {
        if let Some(tempo) = rail.tempo() {
            let asked = Nodes::new(tempo.chain_id, tempo.nodes.clone(), tempo.node_timeout);
            match asked {
                Ok(asked) => {
                    nodes("tempo", &asked, found).await;
                    sponsor(tempo, &asked, config, found).await;
                }
                Err(error) => found.ill("tempo", error),
            }
        } else if let Some(evm) = rail.evm() {
            match Nodes::new(evm.chain_id, evm.nodes.clone(), evm.node_timeout) {
                Ok(asked) => {
                    nodes("evm", &asked, found).await;
                    escrow(evm, &asked, found).await;
                }
                Err(error) => found.ill("evm", error),
            }
        } else if rail.method() == "test" {
            found.odd("rails", "[rails.test] gives everything away: it moves no money");
        } else {
            found.well("rails", format_args!("{} needs nobody but the book", rail.method()));
        }
    }
    if let Err(error) = farthing_gateway::check_prices(config) {
        found.ill("prices", error);
    }
    for upstream in distinct_upstreams(config) {
        ask_upstream(upstream, found).await;
    }
}

/// Files that hold money or secrets belong to their user alone.
fn permissions(path: &Path, config: &Config, found: &mut Findings) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = secret_files(&text, folder);
    files.extend(config.tls.iter().map(|tls| tls.key.clone()));
    if let StoreConfig::Sqlite(book) = &config.store {
        let beside = |end: &str| {
            let mut name = book.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        files.extend([book.clone(), beside("-wal")]);
    }
    let mut open = 0_usize;
    for file in files.iter().filter(|file| file.exists()) {
        if let Some(mode) = open_to_others(file) {
            open = open.saturating_add(1);
            let file = file.display();
            found.ill("permissions", format_args!("others may read {file} ({mode:o}); chmod 600"));
        }
    }
    if open == 0 {
        found.well("permissions", "the book, keys and secrets belong to their user alone");
    }
}

#[cfg(unix)]
fn open_to_others(file: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<u32> {
    None
}

/// Whether a gateway runs, and whether another could.
async fn listener(config: &Config, found: &mut Findings) -> bool {
    if let Some(admin) = config.admin.as_ref().filter(|admin| admin.listen.port() != 0) {
        let url = format!("http://{}/readyz", admin.listen);
        let asked = reqwest::Client::new().get(url).timeout(PATIENCE).send().await;
        if let Ok(answer) = asked {
            if answer.status().is_success() {
                found.well("gateway", format_args!("runs, and is ready at {}", config.listen));
            } else {
                found.ill("gateway", "runs and is not ready: its book cannot be written");
            }
            return true;
        }
    }
    let any: SocketAddr = config.listen;
    match std::net::TcpListener::bind(any) {
        Ok(_) => found.well("gateway", format_args!("does not run; {any} is free")),
        Err(error) => found.odd("gateway", format_args!("{any} cannot be listened on: {error}")),
    }
    false
}

fn store(config: &Config, running: bool, found: &mut Findings) {
    let path = match &config.store {
        StoreConfig::Memory => {
            found.ill("store", "memory = true: every payment is forgotten with the process");
            return;
        }
        StoreConfig::Postgres(shared) => return database(shared, found),
        StoreConfig::Sqlite(path) => path,
    };
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match time_of_a_sync(folder) {
        Err(error) => {
            let folder = folder.display();
            found.ill("store", format_args!("nothing can be written in {folder}: {error}"));
        }
        Ok(took) if took > SYNC_SLOW => {
            let took = took.as_millis();
            found.odd("store", format_args!("a sync takes {took} ms: every payment waits for one"));
        }
        Ok(took) => {
            found.well("store", format_args!("a sync takes {} µs", took.as_micros()));
        }
    }
    if !path.exists() {
        found.well("store", format_args!("{} will be made at the first start", path.display()));
        return;
    }
    sound(&config.store, running, found);
}

/// A database, and everything of the book in it.
fn database(shared: &PostgresConfig, found: &mut Findings) {
    let health =
        match farthing_store_postgres::check(&shared.address, &shared.book, || SystemClock.now()) {
            Ok(health) => health,
            Err(error) => return found.ill("store", error),
        };
    if health.schema_version == 0 {
        found.well("store", "the database answers, and its schema will be made at the first start");
        return;
    }
    for problem in &health.problems {
        match problem {
            Problem::Clock { .. } => found.odd("clock", problem),
            Problem::Unguarded => found.odd("store", problem),
            Problem::Version { .. } | Problem::Gaps { .. } | Problem::NotSynced => {
                found.ill("store", problem);
            }
        }
    }
    match &health.lease {
        Some(lease) if lease.valid_for_ms > 0 => {
            found.well("store", format_args!("written by {} at {}", lease.holder, lease.address));
        }
        Some(_) | None => found.well("store", "nobody writes the book at this moment"),
    }
    sound(&StoreConfig::Postgres(Box::new(shared.clone())), true, found);
}

/// Recomputes the whole book.
fn sound(store: &StoreConfig, running: bool, found: &mut Findings) {
    let verified =
        BookReader::open(store).and_then(|reader| reader.verify(Vec::new(), SystemClock.now()));
    let audit = match verified {
        Ok(verified) => verified.audit,
        Err(error @ BookReadError::Wrong(_)) => {
            return found.ill("store", format_args!("{error}; restore a backup"));
        }
        Err(error) => return found.ill("store", error),
    };
    found.well("store", format_args!("sound: {} records", audit.records));
    let open = audit.pending.saturating_add(audit.undelivered);
    let at = if running { "at this moment" } else { "and no gateway finishes them" };
    if open > 0 {
        found.odd("store", format_args!("{open} payments are not finished {at}"));
    }
    let late = audit.sessions_overdue;
    if late > 0 {
        found.ill(
            "sessions",
            format_args!("{late} are to be closed and are late {at}; see the log"),
        );
    }
}

/// How long this disk takes to keep a few bytes for certain.
fn time_of_a_sync(folder: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut once = || {
        let began = Instant::now();
        file.rewind()?;
        file.write_all(&[0; 256])?;
        file.sync_data()?;
        Ok::<_, std::io::Error>(began.elapsed())
    };
    // The first one pays for the file itself.
    once()?;
    let mut took = [once()?, once()?, once()?];
    took.sort_unstable();
    let [_, median, _] = took;
    Ok(median)
}

fn certificate(tls: &TlsConfig, realm: &str, found: &mut Findings) {
    if let Err(error) = check_tls(tls) {
        return found.ill("tls", error);
    }
    let first = CertificateDer::pem_file_iter(&tls.certificate).ok();
    let first = first.and_then(|mut all| all.next()?.ok());
    let parsed = first.as_ref().and_then(|der| X509Certificate::from_der(der).ok());
    let Some((_, certificate)) = parsed else {
        return found.ill("tls", "the certificate is no X.509 certificate");
    };
    let left = certificate.validity().time_to_expiration();
    let left = left.and_then(|left| Duration::try_from(left).ok());
    let until = certificate.validity().not_after;
    match left {
        None => found.ill("tls", format_args!("the certificate is not valid now, until {until}")),
        Some(left) if left < RENEW_BEFORE => {
            found.odd("tls", format_args!("the certificate ends {until}: renew it"));
        }
        Some(_) => found.well("tls", format_args!("the certificate is good until {until}")),
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .map(|names| names.value.general_names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    if !names.iter().any(|name| name.contains(realm)) {
        let names = names.join(", ");
        let what = format_args!("the certificate is for {names}, and the realm is {realm}");
        found.odd("tls", what);
    }
}

fn admin(config: &Config, found: &mut Findings) {
    match &config.admin {
        None => found.odd("admin", "no [admin]: no health, no metrics, no refunds while it runs"),
        Some(admin) if !admin.listen.ip().is_loopback() => {
            let what = "listens in the clear beyond this machine: only operators may reach it";
            found.odd("admin", what);
        }
        Some(admin) if admin.token.is_none() => {
            found.odd("admin", "no token: nobody can make entries while the gateway runs");
        }
        Some(_) => found.well("admin", "on this machine, with a token"),
    }
}

async fn nodes(rail: &'static str, nodes: &Nodes, found: &mut Findings) {
    let mut serving = 0_usize;
    for node in nodes.health().await {
        let host = &node.host;
        match (node.chain_id, node.block_time_s) {
            (None, _) => found.odd(rail, format_args!("{host} does not answer")),
            (Some(other), _) if other != nodes.chain_id() => {
                let what = format_args!("{host} serves chain {other}, not {}", nodes.chain_id());
                found.ill(rail, what);
            }
            (Some(_), block_time_s) => {
                serving = serving.saturating_add(1);
                let now_s = SystemClock.now().as_secs();
                let ahead = block_time_s.unwrap_or(now_s).saturating_sub(now_s);
                if Duration::from_secs(ahead) > SKEW_MAX {
                    let what =
                        format_args!("{host} is {ahead} s ahead of this clock: set it by NTP");
                    found.ill("clock", what);
                } else {
                    found.well(rail, format_args!("{host} serves chain {}", nodes.chain_id()));
                }
            }
        }
    }
    if serving == 0 {
        found.ill(rail, "no node serves the chain: payments on it will not settle");
    } else if serving == 1 {
        found.odd(rail, "one node serves the chain: a second stands in when it fails");
    }
}

/// Whether the escrow of an EVM chain leaves its payee enough time.
async fn escrow(evm: &EvmConfig, nodes: &Nodes, found: &mut Findings) {
    let Some(session) = &evm.session else {
        return found.odd("evm", "no escrow: nothing is sold on it until there is one");
    };
    match nodes.grace_of(&session.escrow).await {
        Ok(grace_s) if Duration::from_secs(grace_s) < GRACE_MIN => {
            found.ill(
                "evm",
                format_args!(
                    "the escrow gives the payee {grace_s} s, ten minutes at least are wanted"
                ),
            );
        }
        Ok(grace_s) => found.well("evm", format_args!("the escrow gives the payee {grace_s} s")),
        Err(_) => found.odd("evm", "nobody says how long the escrow gives the payee"),
    }
}

async fn sponsor(tempo: &TempoConfig, nodes: &Nodes, config: &Config, found: &mut Findings) {
    let Some(sponsor) = &tempo.sponsor else { return };
    let status = SponsorStatus::ask(sponsor, nodes, config).await;
    match (&status.account, &status.balance) {
        (None, _) => found.well("tempo", "fees are paid by a relay"),
        (Some(_), None) => found.odd("tempo", "nobody says what the sponsor's account holds"),
        (Some(_), Some(_)) if status.is_low => {
            found.ill("tempo", "the sponsor's account is low: fund it");
        }
        (Some(_), Some(_)) => found.well("tempo", "the sponsor's account holds enough"),
    }
}

fn distinct_upstreams(config: &Config) -> Vec<&UpstreamConfig> {
    let mut all: Vec<&UpstreamConfig> = Vec::new();
    for route in &config.routes {
        if !all.iter().any(|known| **known == *route.upstream) {
            all.push(&route.upstream);
        }
    }
    all
}

/// Whether an upstream answers, and what it takes for the time.
async fn ask_upstream(upstream: &UpstreamConfig, found: &mut Findings) {
    let url = upstream.url.to_string();
    let asked = reqwest::Client::new().head(&url).timeout(PATIENCE).send().await;
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            let error = error.without_url();
            return found.ill("upstreams", format_args!("{url} does not answer: {error}"));
        }
    };
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let now = SystemTime::now();
    let skew = date.map(|date| {
        let behind = now.duration_since(date).unwrap_or_default();
        behind.max(date.duration_since(now).unwrap_or_default())
    });
    match skew {
        Some(skew) if skew > SKEW_MAX => {
            let skew = skew.as_secs();
            let what = format_args!("{url} is {skew} s away from this clock: set both by NTP");
            found.odd("clock", what);
        }
        Some(_) => found.well("upstreams", format_args!("{url} answers, at the same time as here")),
        None => found.well("upstreams", format_args!("{url} answers")),
    }
}
