//! `farthing pay`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_core::{Invitation, PayError, Payer};
use farthing_gate::SystemClock;
use farthing_keys::{KeyKind, SecretKey};
use farthing_money::Assets;
use farthing_policy::Decision;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_rail_tempo::session::{EvmAccount, EvmPayer};
use farthing_rail_tempo::{MalformedKey, TempoPayer};
use farthing_wallet::{
    BooksError, KnownOffers, Memory, Objection, Outcome, PaidFor, PayFailure, PayOptions,
    PayRequest, Preview, Sink, Stopped, Wallet, WalletConfig,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use url::Url;

use crate::cli::Pay;
use crate::failure::{Done, Exit, Failure};
use crate::home::{Home, passphrase};
use crate::prepaid::parse_amount;
use crate::wallet::{evm_nodes, no_chain, nodes};

/// How long a transaction of the wallet's may wait before another replaces it that pays more.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the wallet waits for what it has sent, before it says that nobody knows.
const OUTCOME_WAIT: Duration = Duration::from_mins(3);

/// Where an answer goes, and what is said of its payment.
pub(crate) struct Places {
    pub(crate) output: Option<File>,
    pub(crate) report: Option<File>,
}

impl Places {
    /// Whatever cannot be written is found out before anything is paid.
    fn of(args: &Pay) -> Result<Self, Failure> {
        let output = args.output.as_deref().map(writable).transpose()?;
        let report = args.report.as_deref().map(writable).transpose()?;
        Ok(Self { output, report })
    }
}

pub(crate) async fn run(args: Pay) -> Done {
    let request = request(&args)?;
    if let Some(at) = &args.wallet {
        let places = Places::of(&args)?;
        return crate::daemon::pay(&args, at, request, places).await;
    }
    let home = Home::find()?;
    let config = home.config()?;
    let limit = args.max_amount.as_deref().map(|text| parse_amount(text, &config.assets));
    let options =
        PayOptions { limit: limit.transpose()?, pay_again: args.again, name: args.name.clone() };
    let Places { output, report } = Places::of(&args)?;
    let assets = config.assets.clone();
    let mut wallet = open(&home, config, args.key.as_deref())?;
    wallet.authority = wallet.authority.working_on(args.task.clone(), args.tool.clone());
    if args.dry_run {
        return match wallet
            .preview(&request, &options)
            .await
            .map_err(|error| failure(error, &assets))?
        {
            Ok(preview) => show_preview(&preview, &assets, report.as_ref()),
            Err(outcome) => show(&args, &outcome, (output.as_ref(), report.as_ref()), &assets),
        };
    }
    let mut printer = Printer { include: args.include, output: output.as_ref() };
    let outcome = match wallet.pay_into(&request, &options, &mut printer).await {
        Ok(outcome) => outcome,
        Err(error) => {
            if let (Some(report), Some(refusal)) = (report.as_ref(), refusal(&error)) {
                write_report(report, &refusal).map_err(Failure::other)?;
            }
            return Err(failure(error, &assets));
        }
    };
    show(&args, &outcome, (output.as_ref(), report.as_ref()), &assets)
}

/// Unlocks the key and opens everything else.
pub(crate) fn open(
    home: &Home,
    config: WalletConfig,
    key: Option<&str>,
) -> Result<Wallet, Failure> {
    let name = key.unwrap_or(&config.key);
    // A key that is not there is not worth typing a passphrase for.
    let info = home.keys().info(name)?;
    let key = home.keys().unlock(name, &passphrase(&format!("The passphrase of {name}: "))?)?;
    let payers = payers(home, &config, info.kind, &key)?;
    let clock = Arc::new(SystemClock);
    let memory = Memory::open(&home.memory()).map_err(Failure::other)?;
    let authority = crate::policy::authority(home, &config, &memory, &key)?;
    Ok(Wallet {
        payers,
        buyers: vec![Arc::new(MppBuyer)],
        books: crate::books::open(home, &config)?,
        rules: config.rules,
        authority,
        memory,
        key,
        clock,
        http: Wallet::client().map_err(Failure::other)?,
        pause: Wallet::PAUSE,
        offers: KnownOffers::default(),
    })
}

/// What pays with a key, by chain.
pub(crate) fn payers(
    home: &Home,
    config: &WalletConfig,
    kind: KeyKind,
    key: &SecretKey,
) -> Result<Vec<Arc<dyn Payer>>, Failure> {
    match kind {
        KeyKind::Ed25519 => {
            Ok(vec![Arc::new(PrepaidPayer::new(key.expose(), config.assets.clone()))])
        }
        KeyKind::Secp256k1 => {
            let mut payers: Vec<Arc<dyn Payer>> = Vec::new();
            let bad_key = |error: MalformedKey| Failure::new(Exit::Key, error);
            if let Some(chain) = &config.tempo {
                let payer = TempoPayer::new(key.expose(), nodes(chain)?, chain.tokens.clone());
                let payer = payer.map_err(bad_key)?;
                payers.push(Arc::new(match chain.account {
                    Some(account) => payer.acting_for(account),
                    None => payer,
                }));
            }
            if let Some(chain) = &config.evm {
                let (nodes, confirmations) = (evm_nodes(chain)?, chain.confirmations);
                let account =
                    EvmAccount::new(key.expose(), nodes, confirmations, PATIENCE, OUTCOME_WAIT);
                let account = account.map_err(bad_key)?;
                let file = home.nonces(chain.chain_id, &account.address().to_string());
                let account = account.sharing(&file);
                let account = match chain.fee_max {
                    Some(fee_max) => account.offering_at_most(fee_max),
                    None => account,
                };
                payers.push(Arc::new(EvmPayer::new(account, chain.tokens.clone())));
            }
            if payers.is_empty() { Err(no_chain()) } else { Ok(payers) }
        }
    }
}

fn request(args: &Pay) -> Result<PayRequest, Failure> {
    let mut url: Url = args
        .url
        .parse()
        .map_err(|error| Failure::usage(format_args!("{:?}: {error}", args.url)))?;
    url.set_fragment(None);
    let mut fields = HeaderMap::new();
    for field in &args.fields {
        let (name, value) = field_of(field)?;
        fields.append(name, value);
    }
    let body = match &args.json {
        Some(json) => {
            for name in ["content-type", "accept"] {
                let json = HeaderValue::from_static("application/json");
                fields.entry(name).or_insert(json);
            }
            Some(data(json)?)
        }
        None if args.data.is_empty() => None,
        None => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            fields.entry("content-type").or_insert(form);
            let parts = args.data.iter().map(|part| data(part)).collect::<Result<Vec<_>, _>>()?;
            Some(parts.join(&b'&').into())
        }
    };
    let method = match &args.method {
        Some(name) => Method::from_bytes(name.as_bytes())
            .map_err(|_| Failure::usage(format_args!("{name:?} is not a method")))?,
        None if body.is_some() => Method::POST,
        None => Method::GET,
    };
    Ok(PayRequest { method, url, fields, body: body.unwrap_or_default() })
}

/// Reads `Name: value`. Credentials are the wallet's own business.
fn field_of(text: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let malformed = || Failure::usage(format_args!("{text:?}: a header field is \"Name: value\""));
    let (name, value) = text.split_once(':').ok_or_else(malformed)?;
    let name: HeaderName = name.trim().parse().map_err(|_| malformed())?;
    let value: HeaderValue = value.trim().parse().map_err(|_| malformed())?;
    let pays = farthing_mpp::Credential::token(value.to_str().unwrap_or_default()).is_some();
    if pays || name.as_str() == "payment-authorization" {
        return Err(Failure::usage(
            "the wallet makes payment credentials itself; leave that field",
        ));
    }
    Ok((name, value))
}

/// Data as it stands, or from where `@` points.
fn data(text: &str) -> Result<Bytes, Failure> {
    let Some(place) = text.strip_prefix('@') else { return Ok(text.to_owned().into()) };
    let mut bytes = Vec::new();
    let read = match place {
        "-" => std::io::stdin().read_to_end(&mut bytes),
        path => File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format_args!("{place}: {error}")))?;
    Ok(bytes.into())
}

/// Opens a file for writing and leaves what stands in it alone for now.
fn writable(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).write(true).truncate(false).open(path);
    opened.map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// Writes a whole file, over whatever stood in it.
fn overwrite(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Prints a stream as it comes.
struct Printer<'a> {
    include: bool,
    output: Option<&'a File>,
}

impl Sink for Printer<'_> {
    fn begin(&mut self, status: StatusCode, fields: &HeaderMap) -> std::io::Result<()> {
        if let Some(file) = self.output {
            file.set_len(0)?;
        }
        if self.include {
            std::io::stdout().write_all(head(status, fields).as_bytes())?;
        }
        std::io::stdout().flush()
    }

    fn data(&mut self, bytes: &Bytes) -> std::io::Result<()> {
        if let Some(mut file) = self.output {
            return file.write_all(bytes);
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}

/// Prints the answer, and says what was paid for it.
pub(crate) fn show(
    args: &Pay,
    outcome: &Outcome,
    (output, report): (Option<&File>, Option<&File>),
    assets: &Assets,
) -> Done {
    let unwritten = |error: std::io::Error| match &outcome.paid {
        Some(paid) => Failure::other(format_args!(
            "{} was paid and its answer could not be written: {error}",
            paid.payment
        )),
        None => Failure::other(error),
    };
    if !args.silent {
        tell(args, outcome, assets);
    }
    if let Some(report) = report {
        write_report(report, &outcome.paid).map_err(unwritten)?;
    }
    if outcome.streamed {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    if args.include {
        let head = head(outcome.status, &outcome.fields);
        out.write_all(head.as_bytes()).map_err(unwritten)?;
    }
    match output {
        Some(file) => overwrite(file, &outcome.body).map_err(unwritten)?,
        None => out.write_all(&outcome.body).and_then(|()| out.flush()).map_err(unwritten)?,
    }
    if outcome.status.is_client_error() || outcome.status.is_server_error() {
        return Err(Failure::new(
            Exit::Answer,
            format_args!("the seller answered {}", outcome.status),
        ));
    }
    Ok(())
}

fn tell(args: &Pay, outcome: &Outcome, assets: &Assets) {
    if args.verbose {
        let head = head(outcome.status, &outcome.fields);
        eprint!("{}", head.replace("\r\n", "\n"));
    }
    let Some(paid) = &outcome.paid else { return };
    let amount = paid.amount.as_ref().map(|amount| assets.print(amount)).unwrap_or_default();
    let recipient = paid.recipient.as_deref().unwrap_or("the seller");
    if let Some(until) = paid.kept_until {
        eprintln!(
            "farthing: {} may have been taken; the same command sends the same credential until {until}",
            paid.payment
        );
    } else if paid.resumed {
        eprintln!("farthing: {} of an earlier attempt was answered", paid.payment);
    } else if let Some((id, period)) = subscribed(paid) {
        match period {
            0 if paid.amount.as_ref().is_some_and(|amount| !amount.is_zero()) => eprintln!(
                "farthing: subscribed: {amount} to {recipient} now, and again each period without asking, \
                 until it ends or you cancel it: farthing subscriptions cancel {id}"
            ),
            _ => eprintln!("farthing: asked within subscription {id}, {}", paid.payment),
        }
    } else {
        eprintln!("farthing: paid {amount} to {recipient}, {}", paid.payment);
    }
}

/// The subscription that an answer was given within, and its period.
fn subscribed(paid: &PaidFor) -> Option<(&str, u64)> {
    let receipt = paid.receipt.as_ref()?;
    Some((receipt.get("subscriptionId")?.as_str()?, receipt.get("period")?.as_u64()?))
}

fn head(status: StatusCode, fields: &HeaderMap) -> String {
    let mut text = format!("HTTP {status}\r\n");
    for (name, value) in fields {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

pub(crate) fn write_report(file: &File, what: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    overwrite(file, &line)
}

fn show_preview(preview: &Preview, assets: &Assets, report: Option<&File>) -> Done {
    if let Some(report) = report {
        write_report(report, preview).map_err(Failure::other)?;
    }
    for offer in &preview.offers {
        let mark = if offer.chosen { "pay" } else { "  -" };
        let amount = offer.amount.as_ref().map(|amount| assets.print(amount));
        println!(
            "{mark} {:>16} to {} by {}/{} for {}",
            amount.as_deref().unwrap_or("?"),
            offer.recipient.as_deref().unwrap_or("?"),
            offer.method,
            offer.intent,
            offer.realm
        );
        if let Some(objection) = &offer.objection {
            println!("      {}", objection.explain(assets));
        }
    }
    if preview.offers.iter().any(|offer| offer.chosen) {
        return Ok(());
    }
    Err(Failure::new(Exit::Rules, "none of the offers would be paid"))
}

/// What an agent is told of a refusal of the owner's: the rules, the limits, what is used, and the request to
/// wait for, if it waits.
fn refusal(error: &PayFailure) -> Option<serde_json::Value> {
    let decided = |decision: &Decision| serde_json::json!({ "verdict": decision.verdict, "reasons": decision.reasons, "policy": decision.policy });
    if let PayFailure::Parked(request) = error {
        return Some(serde_json::json!({
            "verdict": "ask",
            "approval": request,
            "poll": format!("farthing approvals show {}", request.id),
        }));
    }
    if let PayFailure::Denied(decision) = error {
        return Some(decided(decision));
    }
    let PayFailure::Objections(objections) = error else { return None };
    let offer = |(offer, objection): &(Invitation, Objection)| {
        let said = if let Objection::Policy(decision) = objection {
            decided(decision)
        } else {
            serde_json::json!({ "verdict": "deny", "because": objection.to_string() })
        };
        serde_json::json!({ "method": offer.method, "intent": offer.intent, "decision": said })
    };
    let offers: Vec<_> = objections.iter().map(offer).collect();
    Some(serde_json::json!({ "verdict": "deny", "offers": offers }))
}

/// Whether money may have moved decides the exit code.
pub(crate) fn failure(error: PayFailure, assets: &Assets) -> Failure {
    let exit = match &error {
        PayFailure::Unsafe(_)
        | PayFailure::NoSession
        | PayFailure::NoPayment
        | PayFailure::NoWayOut
        | PayFailure::NoSubscription => Exit::Usage,
        PayFailure::Unreachable(_) => Exit::Unreachable,
        PayFailure::Objections(_)
        | PayFailure::Denied(_)
        | PayFailure::NoPolicy
        | PayFailure::Revoked
        | PayFailure::Books(
            BooksError::OverTotal | BooksError::OverBudget { .. } | BooksError::Frozen,
        ) => Exit::Rules,
        PayFailure::Parked(_) => Exit::Waiting,
        PayFailure::Stopped { why, .. } => match &**why {
            Stopped::Cap | Stopped::Total | Stopped::Denied(_) | Stopped::Lead { .. } => {
                Exit::Rules
            }
            Stopped::Nothing | Stopped::Stranger | Stopped::Refused(_) => Exit::Refused,
            Stopped::Broken(_) => Exit::Answer,
            Stopped::Unwritten(_) => Exit::Other,
        },
        PayFailure::Refused(_) | PayFailure::Disputed { .. } => Exit::Refused,
        PayFailure::Unknown { .. }
        | PayFailure::Hanging
        | PayFailure::Unresolved { .. }
        | PayFailure::Unanswered { .. }
        | PayFailure::Rail(PayError::Unknown) => Exit::Unknown,
        PayFailure::Memory(_)
        | PayFailure::Answered { .. }
        | PayFailure::Books(
            BooksError::PaidBefore | BooksError::Open(_) | BooksError::Unavailable,
        )
        | PayFailure::Rail(PayError::Invitation(_) | PayError::Refused | PayError::Unsent) => {
            Exit::Other
        }
    };
    if let PayFailure::Stopped { payment, paid: Some(paid), .. } = &error {
        let paid = assets.print(paid);
        return Failure::new(exit, format_args!("{error}; at most {paid} was paid, {payment}"));
    }
    if let PayFailure::Objections(objections) = &error
        && !objections.is_empty()
    {
        let line = |(offer, objection): &(Invitation, Objection)| {
            format!("\n  {}/{}: {}", offer.method, offer.intent, objection.explain(assets))
        };
        let lines: String = objections.iter().map(line).collect();
        return Failure::new(exit, format_args!("no offer may be paid{lines}"));
    }
    Failure::new(exit, error)
}
