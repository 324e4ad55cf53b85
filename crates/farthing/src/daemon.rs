//! `farthing wallet serve`, `farthing wallet ca` and `farthing wallet token`; and `farthing pay` by a wallet that
//! serves.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Clock, Payer};
use farthing_gate::SystemClock;
use farthing_gateway::look_up;
use farthing_keys::SecretKey;
use farthing_money::Assets;
use farthing_policy::{Grant, Policy, Token, TokenRoot};
use farthing_protocols::mpp::MppBuyer;
use farthing_wallet::{
    Authority, Books, Desk, KnownOffers, Memory, Outcome, PayRequest, Wallet, WalletConfig,
    may_approve,
};
use farthing_wallet_client::{At, Error, Paid, PayOptions, Problem, Request};
use farthing_wallet_daemon::{
    AnswerKey, Ca, Daemon, Desktop, Guest, Hook, Intercept, Keeper, MadeCa, Offered, Place,
    Stranger,
};
use farthing_webhook::{Retries, WebhookSecret};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::books::LongBook;
use crate::cli::{CaCommand, Pay, ServeWallet};
use crate::failure::{Done, Exit, Failure};
use crate::home::{Home, passphrase};
use crate::pay::{Places, payers, show, write_report};
use crate::policy;
use crate::serve::log_to_stderr;

/// The variable that the owner's token comes in.
pub(crate) const OWNER_TOKEN: &str = "FARTHING_OWNER_TOKEN";

/// Under which name the owner's token is kept.
const OWNER: &str = "owner token";

/// Under which name the key is kept that signs links which answer one request.
const ANSWERS: &str = "approval links";

/// How long to wait after each failure to tell somebody what is asked, in seconds: a request does not wait long.
const HOOK_WAITS_S: [u64; 6] = [1, 5, 30, 120, 600, 3_600];

/// How often it is tried at most, which is about a day.
const HOOK_ATTEMPTS_MAX: u32 = 30;

/// Under which name the proxy's authority is kept.
const AUTHORITY: &str = "proxy authority";

/// Runs the wallet's daemon until it is told to stop: SIGTERM or SIGINT.
pub(crate) async fn serve(args: ServeWallet) -> Done {
    let home = Home::find()?;
    let config = home.config()?;
    log_to_stderr(args.log_format, &args.log)?;
    let unlocked = Unlocked::open(home, config, args.key.as_deref())?;
    let intercept = intercept(&unlocked, args.intercept)?;
    let place = match (args.socket, args.listen) {
        (_, Some(address)) => Place::Tcp(address),
        (Some(path), None) => Place::Unix(path),
        (None, None) => Place::Unix(unlocked.home.socket()),
    };
    let desktop = unlocked.desktop(args.page)?;
    let hook = unlocked.hook()?;
    let (page_file, approver) = (unlocked.home.page(), unlocked.config.key.clone());
    let links = memory(&unlocked.home)?;
    let offered = Offered {
        api: Some(place),
        proxy: args.proxy,
        intercept,
        signs: args.sign_for_others,
        desktop,
        hook,
    };
    // Whoever reads that it listens may signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
    let daemon = Daemon::start(offered, Arc::new(unlocked)).await.map_err(Failure::other)?;
    let api = daemon.api().map(ToString::to_string);
    let proxy = daemon.proxy().map(|address| format!("http://{address}"));
    let page = daemon.page().map(|address| format!("http://{address}"));
    if let Some(page) = &page {
        std::fs::write(&page_file, page).map_err(Failure::other)?;
        // A link is a secret for a moment: it is for a person's terminal, and for no log.
        if std::io::stdout().is_terminal() {
            println!("{}", policy::give_link(&links, page, &approver)?);
        }
    }
    tracing::info!(api, proxy, page, "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
    if page.is_some() {
        // Gone already is as good.
        let _ = std::fs::remove_file(&page_file);
    }
    daemon.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A wallet, its key unlocked for as long as the daemon runs.
struct Unlocked {
    home: Home,
    config: WalletConfig,
    key: SecretKey,
    payers: Vec<Arc<dyn Payer>>,
    http: reqwest::Client,
    offers: KnownOffers,
    root: TokenRoot,
    owner: Zeroizing<String>,
    books: Books,
}

impl Unlocked {
    fn open(home: Home, config: WalletConfig, name: Option<&str>) -> Result<Self, Failure> {
        let name = name.unwrap_or(&config.key);
        let info = home.keys().info(name)?;
        let key = home.keys().unlock(name, &passphrase(&format!("The passphrase of {name}: "))?)?;
        let payers = payers(&home, &config, info.kind, &key)?;
        let memory = memory(&home)?;
        // What the owner has written is found to be wrong now, and not by the first program that asks.
        policy::policies(&home, &config, &memory, &key)?;
        Ok(Self {
            http: Wallet::client().map_err(Failure::other)?,
            offers: KnownOffers::default(),
            root: policy::root(&memory, &key)?,
            owner: owner_token(&memory, &key, false)?,
            books: LongBook::open(&home, &config)?.books(Arc::new(SystemClock)),
            home,
            config,
            key,
            payers,
        })
    }

    /// Whose token it is: an agent's, as far as the grant says, or the owner's, who needs none. Whether it is in
    /// force is still to be seen.
    fn whose(&self, token: &str) -> Result<Option<Grant>, Stranger> {
        if bool::from(token.as_bytes().ct_eq(self.owner.as_bytes())) {
            return Ok(None);
        }
        let token = Token::parse(token).map_err(|_| Stranger::Token)?;
        self.root.verify(&token).map(Some).map_err(|_| Stranger::Token)
    }

    /// The owner's page, where there is to be one.
    fn desktop(&self, address: Option<SocketAddr>) -> Result<Option<Desktop>, Failure> {
        let Some(address) = address.or(self.config.approvals.page) else { return Ok(None) };
        let memory = memory(&self.home)?;
        let key = secret(&memory, &self.key, ANSWERS, false)?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(Failure::other)?;
        let key = AnswerKey::new(Zeroizing::new(key));
        Ok(Some(Desktop { address, key, approver: self.config.key.clone() }))
    }

    /// Who is told what is asked and decided, and whether they may answer.
    fn hook(&self) -> Result<Option<(Hook, bool)>, Failure> {
        let Some(webhook) = &self.config.approvals.webhook else { return Ok(None) };
        let folder = self.home.folder();
        let text = look_up(&webhook.secret, folder, &|name| std::env::var(name).ok());
        let text = Zeroizing::new(text.map_err(Failure::usage)?);
        let secret = WebhookSecret::parse(text.trim()).map_err(Failure::usage)?;
        let waits = HOOK_WAITS_S.map(Duration::from_secs).to_vec();
        let retries = Retries { attempts_max: HOOK_ATTEMPTS_MAX, waits };
        let hook = Hook { url: webhook.url.clone(), secrets: vec![secret], retries };
        Ok(Some((hook, webhook.answers)))
    }

    /// The authority of whoever has a token, and under which name they approve.
    fn authority(
        &self,
        grant: Option<Grant>,
        policies: Vec<Policy>,
        draft: Option<Policy>,
    ) -> Result<(Authority, Option<String>), Stranger> {
        let Some(grant) = grant else {
            let may = may_approve(&policies, &self.config.key);
            let approver = may.then(|| self.config.key.clone());
            return Ok((Authority::owner(policies).trying(draft), approver));
        };
        Ok((policy::of_token(&policies, draft, grant).map_err(broken)?, None))
    }
}

/// Whether no block of a token has expired or was revoked.
fn is_in_force(grant: &Grant, memory: &Memory) -> Result<bool, farthing_wallet::MemoryError> {
    let now = SystemClock.now();
    for (block, limits) in &grant.blocks {
        let ends = limits.expires.as_ref().map(|text| text.parse::<farthing_money::Timestamp>());
        let over = ends.is_some_and(|ends| ends.is_ok_and(|ends| ends <= now));
        if over || memory.is_revoked(block)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn broken(error: impl std::fmt::Display) -> Stranger {
    Stranger::Broken(error.to_string())
}

impl Keeper for Unlocked {
    fn admit(&self, token: &str) -> Result<Guest, Stranger> {
        let Self { home, config, key, .. } = self;
        let grant = self.whose(token)?;
        let memory = Memory::open(&home.memory()).map_err(broken)?;
        if let Some(grant) = &grant
            && !is_in_force(grant, &memory).map_err(broken)?
        {
            return Err(Stranger::Token);
        }
        let policies = policy::policies(home, config, &memory, key).map_err(broken)?;
        let draft = policy::draft(config, &memory, key);
        let (authority, approver) = self.authority(grant, policies, draft)?;
        let clock = Arc::new(SystemClock);
        let wallet = Wallet {
            payers: self.payers.clone(),
            buyers: vec![Arc::new(MppBuyer)],
            rules: config.rules.clone(),
            authority,
            books: self.books.clone(),
            memory,
            key: key.clone(),
            clock,
            http: self.http.clone(),
            pause: Wallet::PAUSE,
            offers: self.offers.clone(),
        };
        Ok(Guest { wallet, approver })
    }

    fn desk(&self) -> Result<Desk, Stranger> {
        let Self { home, config, key, .. } = self;
        let memory = Memory::open(&home.memory()).map_err(broken)?;
        let policies = policy::policies(home, config, &memory, key).map_err(broken)?;
        let (books, waiting) = (self.books.clone(), config.rules.waiting);
        Ok(Desk { memory, books, policies, waiting, clock: Arc::new(SystemClock) })
    }

    fn assets(&self) -> &Assets {
        &self.config.assets
    }
}

fn memory(home: &Home) -> Result<Memory, Failure> {
    Memory::open(&home.memory()).map_err(Failure::other)
}

/// Unlocks the wallet's own key.
fn unlocked(home: &Home, config: &WalletConfig) -> Result<SecretKey, Failure> {
    home.keys().info(&config.key)?;
    let passphrase = passphrase(&format!("The passphrase of {}: ", config.key))?;
    Ok(home.keys().unlock(&config.key, &passphrase)?)
}

// --- the owner's token --------------------------------------------------------------------------

/// Prints the token that the owner shows to the daemon.
pub(crate) fn token(renew: bool) -> Done {
    let home = Home::find()?;
    let key = unlocked(&home, &home.config()?)?;
    println!("{}", *owner_token(&memory(&home)?, &key, renew)?);
    Ok(())
}

/// The owner's token, which is kept under the wallet's key; made anew where there is none.
fn owner_token(
    memory: &Memory,
    key: &SecretKey,
    renew: bool,
) -> Result<Zeroizing<String>, Failure> {
    let bytes = secret(memory, key, OWNER, renew)?;
    let mut token = Zeroizing::new(String::with_capacity(69));
    token.push_str("fto1_");
    for byte in bytes.iter() {
        // A string takes whatever is written.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

/// A secret of the wallet's own, which is kept under its key; made anew where there is none.
fn secret(
    memory: &Memory,
    key: &SecretKey,
    name: &str,
    renew: bool,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let known = if renew { None } else { memory.unseal(name, key).map_err(Failure::other)? };
    if let Some(bytes) = known {
        return Ok(bytes);
    }
    let fresh = SecretKey::generate()?;
    memory.seal(name, fresh.expose(), key).map_err(Failure::other)?;
    Ok(Zeroizing::new(fresh.expose().to_vec()))
}

// --- the proxy's authority ----------------------------------------------------------------------

pub(crate) fn ca(command: CaCommand) -> Done {
    let home = Home::find()?;
    let config = home.config()?;
    let key = unlocked(&home, &config)?;
    let memory = memory(&home)?;
    match command {
        CaCommand::Create { hosts, days } => {
            let lasts = Duration::from_hours(u64::from(days).saturating_mul(24));
            let made = MadeCa::make(hosts, lasts, SystemClock.now()).map_err(Failure::usage)?;
            let bytes = Zeroizing::new(serde_json::to_vec(&made).map_err(Failure::other)?);
            memory.seal(AUTHORITY, &bytes, &key).map_err(Failure::other)?;
            let path = home.authority();
            std::fs::write(&path, &made.certificate).map_err(Failure::other)?;
            let (hosts, path) = (made.hosts.join(","), path.display());
            eprintln!(
                "farthing: {path} is good for {hosts} until {}. Its key is kept under the wallet's.\n\
                 Whoever trusts it lets this wallet read what is said to these hosts. Do not put it where the \
                 whole system trusts it; name it to single programs:\n\n  \
                 farthing wallet serve --proxy 127.0.0.1:4041 --intercept {hosts}\n  \
                 HTTPS_PROXY=http://agent:TOKEN@127.0.0.1:4041 curl --cacert {path} https://…\n\n\
                 `farthing wallet ca remove` ends it.",
                made.expires_at
            );
            Ok(())
        }
        CaCommand::Show => {
            let made = authority(&memory, &key)?;
            print!("{}", made.certificate);
            Ok(())
        }
        CaCommand::Remove => {
            memory.seal(AUTHORITY, b"null", &key).map_err(Failure::other)?;
            match std::fs::remove_file(home.authority()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Failure::other(error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        }
    }
}

fn authority(memory: &Memory, key: &SecretKey) -> Result<MadeCa, Failure> {
    let none = || {
        Failure::usage(
            "the wallet has no authority to read with; `farthing wallet ca create` makes one",
        )
    };
    let bytes = memory.unseal(AUTHORITY, key).map_err(Failure::other)?.ok_or_else(none)?;
    let made: Option<MadeCa> = serde_json::from_slice(&bytes).map_err(Failure::other)?;
    made.ok_or_else(none)
}

/// What the proxy reads: nothing, unless the owner has made an authority and named hosts of its.
fn intercept(unlocked: &Unlocked, hosts: Vec<String>) -> Result<Option<Intercept>, Failure> {
    if hosts.is_empty() {
        return Ok(None);
    }
    let made = authority(&memory(&unlocked.home)?, &unlocked.key)?;
    let ca = Ca::open(&made).map_err(Failure::other)?;
    if let Some(host) = hosts.iter().find(|host| !ca.covers(host)) {
        let what = format!(
            "the authority is good for {} and not for {host}; make another with `farthing wallet ca create`",
            made.hosts.join(", ")
        );
        return Err(Failure::usage(what));
    }
    Ok(Some(Intercept { ca, hosts: hosts.into_iter().collect::<BTreeSet<_>>() }))
}

// --- paying by a wallet that serves ---------------------------------------------------------------

/// `farthing pay --wallet`: the same request, by a wallet that has its key unlocked. None is needed here.
pub(crate) async fn pay(args: &Pay, at: &str, request: PayRequest, places: Places) -> Done {
    let at = At::parse(at).map_err(Failure::usage)?;
    let token = [policy::TOKEN, OWNER_TOKEN].into_iter().find_map(|name| std::env::var(name).ok());
    let token = token.ok_or_else(|| {
        Failure::new(
            Exit::Key,
            format_args!("set {} to an agent's token, or {OWNER_TOKEN}", policy::TOKEN),
        )
    })?;
    let wallet = farthing_wallet_client::Wallet::new(at, &token);
    let request = outward(args, &request)?;
    let options =
        PayOptions { pay_again: args.again, task: args.task.clone(), tool: args.tool.clone() };
    let dry = args.dry_run;
    let asking = tokio::task::spawn_blocking(move || {
        if dry {
            return wallet.decide(&request, &options).map(Said::Decided);
        }
        wallet.pay(&request, &options).map(|(answer, paid)| Said::Answered(answer, paid))
    });
    match asking.await.map_err(Failure::other)? {
        Ok(Said::Answered(answer, paid)) => answered(args, answer, paid.as_ref(), &places),
        Ok(Said::Decided(decided)) => tell_decided(&decided, places.report.as_ref()),
        Err(error) => {
            if let (Some(report), Error::Refused(problem)) = (&places.report, &error) {
                write_report(report, &problem.document).map_err(Failure::other)?;
            }
            Err(failure(&error))
        }
    }
}

enum Said {
    Answered(farthing_wallet_client::Answer, Option<Paid>),
    Decided(Value),
}

fn outward(args: &Pay, request: &PayRequest) -> Result<Request, Failure> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().map_err(|_| {
            Failure::usage(format_args!("{name}: the wallet takes only text in header fields"))
        })?;
        Ok((name.to_string(), value.to_owned()))
    };
    Ok(Request {
        method: request.method.to_string(),
        url: request.url.to_string(),
        fields: request.fields.iter().map(field).collect::<Result<_, Failure>>()?,
        body: request.body.to_vec(),
        name: args.name.clone(),
        max_amount: args.max_amount.clone(),
    })
}

fn answered(
    args: &Pay,
    answer: farthing_wallet_client::Answer,
    paid: Option<&Paid>,
    places: &Places,
) -> Done {
    if let Some(paid) = paid.filter(|_| !args.silent) {
        let until = paid.document.get("keptUntil").and_then(Value::as_str);
        let recipient = paid.recipient.as_deref().unwrap_or("the seller");
        match (until, &paid.amount) {
            (Some(until), _) => eprintln!(
                "farthing: {} may have been taken; the same command sends the same credential until {until}",
                paid.payment
            ),
            (None, Some(amount)) => {
                eprintln!("farthing: paid {amount} to {recipient}, {}", paid.payment);
            }
            (None, None) => {
                eprintln!("farthing: {} of an earlier attempt was answered", paid.payment);
            }
        }
    }
    if let Some(report) = &places.report {
        let document = paid.map_or(&Value::Null, |paid| &paid.document);
        write_report(report, document).map_err(Failure::other)?;
    }
    let mut fields = HeaderMap::new();
    for (name, value) in &answer.fields {
        let pair = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()));
        if let (Ok(name), Ok(value)) = pair {
            fields.append(name, value);
        }
    }
    let status = StatusCode::from_u16(answer.status).map_err(Failure::other)?;
    let outcome = Outcome { status, fields, body: answer.body.into(), paid: None, streamed: false };
    show(args, &outcome, (places.output.as_ref(), None), &Assets::default())
}

/// Prints the offers, as a dry run does.
fn tell_decided(decided: &Value, report: Option<&File>) -> Done {
    if let Some(report) = report {
        write_report(report, decided).map_err(Failure::other)?;
    }
    if decided.get("asks") == Some(&Value::Bool(false)) {
        println!("it costs nothing");
        return Ok(());
    }
    let offers = decided.get("offers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut any = false;
    for offer in &offers {
        let text = |name: &str| offer.get(name).and_then(Value::as_str).unwrap_or("?");
        let amount = offer.get("amount").and_then(|it| it.get("text")?.as_str()).unwrap_or("?");
        let chosen = offer.get("chosen") == Some(&Value::Bool(true));
        any |= chosen;
        let mark = if chosen { "pay" } else { "  -" };
        let (recipient, method, intent, realm) =
            (text("recipient"), text("method"), text("intent"), text("realm"));
        println!("{mark} {amount:>16} to {recipient} by {method}/{intent} for {realm}");
        if let Some(objection) = offer.get("objection").and_then(Value::as_str) {
            println!("      {objection}");
        }
    }
    if any { Ok(()) } else { Err(Failure::new(Exit::Rules, "none of the offers would be paid")) }
}

/// Whether money may have moved decides the exit code, as it does without a daemon.
fn failure(error: &Error) -> Failure {
    match error {
        Error::Request(_) => Failure::usage(error),
        Error::Refused(problem) => refused(problem),
        Error::Wallet(io) => {
            use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
            // Before there was a connection, nothing was asked.
            let asked = !matches!(io.kind(), ConnectionRefused | NotFound | PermissionDenied);
            Failure::new(if asked { Exit::Unknown } else { Exit::Unreachable }, error)
        }
        Error::Seller(_) => Failure::new(Exit::Unreachable, error),
        Error::NotTaken { .. } => Failure::new(Exit::Refused, error),
        Error::Unknown { .. } => Failure::new(Exit::Unknown, error),
    }
}

fn refused(problem: &Problem) -> Failure {
    let exit = match problem.code.as_str() {
        "denied" | "frozen" | "no-offer" | "no-policy" | "rail-refused" => Exit::Rules,
        "waiting" => Exit::Waiting,
        "seller-refused" | "disputed" => Exit::Refused,
        "unknown" | "unanswered" | "unresolved" => Exit::Unknown,
        "unreachable" => Exit::Unreachable,
        "token" => Exit::Key,
        "unsafe-url" | "malformed" | "too-long" => Exit::Usage,
        _ => Exit::Other,
    };
    let reasons = problem.document.get("reasons").and_then(Value::as_array);
    let line = |reason: &Value| {
        let text = |name: &str| reason.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("\n  {}: {}", text("rule"), text("because"))
    };
    let lines: String = reasons.into_iter().flatten().map(line).collect();
    Failure::new(exit, format_args!("{}{lines}", problem.detail))
}
