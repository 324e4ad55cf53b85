//! `farthing policy`, `farthing approvals` and `farthing agents`: what an owner allows, and to whom.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farthing_core::Clock;
use farthing_gate::SystemClock;
use farthing_gateway::{BookReader, StoreConfig};
use farthing_keys::SecretKey;
use farthing_ledger::{Decided, Event, OwnerStep, Record, Ruling};
use farthing_money::Timestamp;
use farthing_policy::{
    Decision, Facts, Grant, Limits, Policy, PolicyError, Token, TokenRoot, Usage, Verdict,
};
use farthing_wallet::{
    ApprovalRequest, ApprovalState, Authority, Desk, Memory, WalletConfig, plain,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{Agents, Approvals, DecideOn, PolicyCommand, ReadyPolicy};
use crate::failure::{Done, Exit, Failure};
use crate::home::{Home, passphrase};
use crate::prepaid::parse_amount;
use crate::wallet::print_json;

mod rollout;

pub(crate) use rollout::draft;

/// The variable that an agent's token comes in.
pub(crate) const TOKEN: &str = "FARTHING_AGENT_TOKEN";

/// How long to pause between two looks at a request that waits.
const POLL: Duration = Duration::from_millis(250);

/// Under which name the accepted policy is kept.
const ACCEPTED: &str = "policy";

/// Under which name the root of the tokens is kept.
const ROOT: &str = "token root";

/// The text of a policy, and of the Cedar beside it.
type Texts = (String, Vec<(String, String)>);

/// A policy that was accepted, and the decimals that its amounts were read with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    texts: Texts,
    decimals: BTreeMap<String, u8>,
}

fn decimals(config: &WalletConfig) -> BTreeMap<String, u8> {
    config.assets.iter().map(|asset| (asset.id().to_string(), asset.decimals())).collect()
}

/// Reads a policy and the files it names, which stand beside it.
fn texts(path: &Path) -> Result<Texts, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
    };
    let text = read(path)?;
    let names = Policy::files(&text)
        .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = |name: String| Ok((name.clone(), read(&folder.join(&name))?));
    Ok((text, names.into_iter().map(file).collect::<Result<_, Failure>>()?))
}

fn parse((text, files): &Texts, config: &WalletConfig) -> Result<Policy, Failure> {
    let parsed = Policy::parse(text, files, &config.assets);
    parsed.map_err(|error| Failure::usage(format_args!("policy.toml: {error}")))
}

/// What the policy's file says; the caps of `wallet.toml` alone where there is none.
pub(crate) fn written(home: &Home, config: &WalletConfig) -> Result<Policy, Failure> {
    let path = home.policy_path();
    if path.exists() { parse(&texts(&path)?, config) } else { caps(config) }
}

/// The caps of `wallet.toml` as a policy for its owner.
fn caps(config: &WalletConfig) -> Result<Policy, Failure> {
    let rules = &config.rules;
    rules.policy(&config.assets).map_err(Failure::usage)
}

/// The policies that hold: the accepted one, and what the file says where that is something else. So a
/// change to the file can lower at once, and raises once it is accepted.
pub(crate) fn policies(
    home: &Home,
    config: &WalletConfig,
    memory: &Memory,
    key: &SecretKey,
) -> Result<Vec<Policy>, Failure> {
    let accepted = memory.unseal(ACCEPTED, key).map_err(Failure::other)?;
    let accepted = accepted.map(|bytes| serde_json::from_slice::<Accepted>(&bytes)).transpose();
    let accepted = accepted.map_err(Failure::other)?;
    let path = home.policy_path();
    let file = if path.exists() { Some(texts(&path)?) } else { None };
    let Some(Accepted { texts: accepted, decimals: then }) = accepted else {
        let file = file.map(|file| parse(&file, config)).transpose()?;
        return Ok(std::iter::once(caps(config)?).chain(file).collect());
    };
    if let Some(name) =
        then.iter().find_map(|(name, it)| (decimals(config).get(name) != Some(it)).then_some(name))
    {
        return Err(Failure::usage(format_args!(
            "wallet.toml has other decimals for {name} than when the policy was accepted; `farthing policy accept`"
        )));
    }
    let file =
        file.filter(|file| *file != accepted).map(|file| parse(&file, config)).transpose()?;
    Ok(std::iter::once(parse(&accepted, config)?).chain(file).collect())
}

/// Who asks: the owner, or whoever the token says.
pub(crate) fn authority(
    home: &Home,
    config: &WalletConfig,
    memory: &Memory,
    key: &SecretKey,
) -> Result<Authority, Failure> {
    let policies = policies(home, config, memory, key)?;
    let draft = rollout::draft(config, memory, key);
    let Ok(token) = std::env::var(TOKEN).map(Zeroizing::new) else {
        return Ok(Authority::owner(policies).trying(draft));
    };
    let refused =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Rules, format_args!("{TOKEN}: {error}"));
    let token = Token::parse(token.trim()).map_err(|error| refused(&error))?;
    let grant = root(memory, key)?.verify(&token).map_err(|error| refused(&error))?;
    of_token(&policies, draft, grant).map_err(|error| refused(&error))
}

/// The authority of whoever has a token; its limits are the draft's as well.
pub(crate) fn of_token(
    policies: &[Policy],
    draft: Option<Policy>,
    grant: Grant,
) -> Result<Authority, PolicyError> {
    let draft = draft.and_then(|draft| draft.within(grant.blocks.clone()).ok());
    Ok(Authority::of_token(policies, grant)?.trying(draft))
}

/// The secret that the wallet's tokens are made with; made anew where there is none.
pub(crate) fn root(memory: &Memory, key: &SecretKey) -> Result<TokenRoot, Failure> {
    if let Some(bytes) = memory.unseal(ROOT, key).map_err(Failure::other)? {
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(Failure::other)?;
        return Ok(TokenRoot::new(Zeroizing::new(bytes)));
    }
    let fresh = SecretKey::generate()?;
    memory.seal(ROOT, fresh.expose(), key).map_err(Failure::other)?;
    Ok(TokenRoot::new(Zeroizing::new(*fresh.expose())))
}

fn memory(home: &Home) -> Result<Memory, Failure> {
    Memory::open(&home.memory()).map_err(Failure::other)
}

fn unlock(home: &Home, name: &str) -> Result<SecretKey, Failure> {
    home.keys().info(name)?;
    Ok(home.keys().unlock(name, &passphrase(&format!("The passphrase of {name}: "))?)?)
}

fn now() -> Timestamp {
    SystemClock.now()
}

// --- policy -----------------------------------------------------------------------------------

pub(crate) fn run(command: PolicyCommand) -> Done {
    let home = Home::find()?;
    let config = home.config()?;
    match command {
        PolicyCommand::New { which } => begin(&home, which),
        PolicyCommand::Show => {
            let policy = written(&home, &config)?;
            let name = policy.name();
            println!("// {} sha256:{}\n", name.version, name.sha256);
            print!("{}", policy.cedar());
            Ok(())
        }
        PolicyCommand::Check { file } => {
            let path = file.unwrap_or_else(|| home.policy_path());
            let name = parse(&texts(&path)?, &config)?.name();
            println!("{} sha256:{}", name.version, name.sha256);
            Ok(())
        }
        PolicyCommand::Accept => accept(&home, &config),
        PolicyCommand::Rollout(command) => rollout::run(command, &home, &config),
        PolicyCommand::Decide(args) => decide(&home, &config, &args),
        PolicyCommand::Replay { since, policy, json } => {
            replay(&home, &config, &since, policy.as_deref(), json)
        }
    }
}

/// Begins a policy with a ready one, where there is none.
fn begin(home: &Home, which: ReadyPolicy) -> Done {
    let text = match which {
        ReadyPolicy::OneAgent => include_str!("../../../docs/policies/one-agent.toml"),
        ReadyPolicy::Team => include_str!("../../../docs/policies/team.toml"),
        ReadyPolicy::Crawler => include_str!("../../../docs/policies/crawler.toml"),
    };
    let path = home.policy_path();
    let made = std::fs::File::create_new(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::usage(format_args!("{} is there already", path.display()));
        }
        Failure::other(error)
    });
    std::io::Write::write_all(&mut made?, text.as_bytes()).map_err(Failure::other)?;
    println!("{}", path.display());
    eprintln!("farthing: look it through, and `farthing policy accept` makes it hold");
    Ok(())
}

/// Accepts what the file says, raised limits and all.
fn accept(home: &Home, config: &WalletConfig) -> Done {
    let texts = texts(&home.policy_path())?;
    let name = parse(&texts, config)?.name();
    let key = unlock(home, &config.key)?;
    let accepted = Accepted { texts, decimals: decimals(config) };
    let bytes = serde_json::to_vec(&accepted).map_err(Failure::other)?;
    memory(home)?.seal(ACCEPTED, &bytes, &key).map_err(Failure::other)?;
    println!("{} sha256:{}", name.version, name.sha256);
    Ok(())
}

/// Says what the file's policy would say to a payment, with its budgets as they stand.
fn decide(home: &Home, config: &WalletConfig, args: &DecideOn) -> Done {
    let policy = written(home, config)?;
    let amount = parse_amount(&args.amount, &config.assets)?;
    let category = policy.category(&args.seller).map(str::to_owned);
    let facts = Facts {
        agent: args.agent.clone(),
        task: args.task.clone(),
        operation: args.operation.clone(),
        origin: args.seller.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
        tool: args.tool.clone(),
        category,
        rail: args.rail.clone(),
        network: args.network.clone(),
        asset: amount.asset().clone(),
        atoms: amount.atoms(),
        recipient: args.recipient.clone(),
        identity: args.identity.clone(),
        known_identity: args.identity.clone(),
        known_recipient: (!args.first_payment).then(|| args.recipient.clone()),
        known_atoms: None,
        before_atoms: None,
        purses: Vec::new(),
        intent: "as asked for".to_owned(),
        at: now(),
    };
    let decision = policy.decide(&facts);
    let books = crate::books::open(home, config)?;
    let keys = decision.draws.iter().map(|draw| draw.key.clone()).collect();
    let view = books.owner(keys).map_err(Failure::other)?;
    let usage: Usage = view.used.into_iter().map(|it| (it.key, it.amount)).collect();
    let decision = policy.decide_with(&facts, &usage);
    print_json(&serde_json::to_value(&decision).map_err(Failure::other)?)?;
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Ask => Err(Failure::new(Exit::Waiting, "it would wait for approval")),
        Verdict::Deny => Err(Failure::new(Exit::Rules, "it would be denied")),
    }
}

/// Decides again upon everything that was decided, under the same policy or another.
fn replay(
    home: &Home,
    config: &WalletConfig,
    since: &str,
    file: Option<&Path>,
    json: bool,
) -> Done {
    let since: Timestamp =
        since.parse().map_err(|error| Failure::usage(format_args!("{since:?}: {error}")))?;
    let policy = match file {
        Some(file) => parse(&texts(file)?, config)?,
        None => written(home, config)?,
    };
    let name = policy.name();
    let (mut same, mut other, mut broken) = (0_u64, Vec::new(), Vec::new());
    for (seq, at, decided) in decisions((home, config), since)? {
        let facts = serde_json::from_str::<Facts>(&decided.facts).ok();
        let facts = facts.filter(|_| Decided::digest_of(&decided.facts) == decided.digest);
        let Some(facts) = facts else {
            broken.push(format!(
                "record {seq}: its facts cannot be read, or are not what was decided on"
            ));
            continue;
        };
        let usage: Usage = decided.draws.iter().map(|draw| (draw.key.clone(), draw.used)).collect();
        let again = policy.decide_with(&facts, &usage);
        if is_same(&decided, &again) {
            same = same.saturating_add(1);
        } else if decided.policy_sha256 == name.sha256 {
            broken.push(format!(
                "record {seq}: the same policy decides otherwise: {:?}",
                again.verdict
            ));
        } else {
            other.push((seq, at, decided, again));
        }
    }
    if json {
        let line = |(seq, at, was, is): &(u64, Timestamp, Box<Decided>, Decision)| {
            json!({ "record": seq, "at": at.to_string(), "agent": was.agent, "was": was.ruling,
                    "wasBy": was.rules, "is": is.verdict, "reasons": is.reasons })
        };
        let other: Vec<_> = other.iter().map(line).collect();
        print_json(&json!({ "policy": name, "same": same, "other": other, "broken": broken }))?;
    } else {
        for (seq, at, was, is) in &other {
            let rules: Vec<&str> = is.reasons.iter().map(|it| it.rule.as_str()).collect();
            let (was, by) = (was.ruling, was.rules.join(" "));
            println!(
                "{at}  record {seq}: {was:?} by {by}; {:?} by {}",
                is.verdict,
                rules.join(" ")
            );
        }
        println!("{same} the same, {} other", other.len());
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::other(broken.join("\n"))) }
}

/// Whether a decision is what was written down. What was approved had been asked for.
fn is_same(was: &Decided, is: &Decision) -> bool {
    let verdict = match (was.ruling, &was.approval) {
        (Ruling::Allowed, None) => Verdict::Allow,
        (Ruling::Allowed, Some(_)) | (Ruling::Asked, _) => Verdict::Ask,
        (Ruling::Denied, _) => Verdict::Deny,
    };
    // What people or the wallet itself have denied, the policy had let pass or asked for.
    let by_people = was.rules.iter().any(|rule| rule.starts_with("approvals."));
    verdict == is.verdict || (by_people && is.verdict == Verdict::Ask)
}

/// Every decision in the book from a moment on.
fn decisions(
    (home, config): (&Home, &WalletConfig),
    since: Timestamp,
) -> Result<Vec<(u64, Timestamp, Box<Decided>)>, Failure> {
    let records = match crate::books::place(home, config)? {
        StoreConfig::Sqlite(path) if !path.exists() => return Ok(Vec::new()),
        place @ (StoreConfig::Sqlite(_) | StoreConfig::Postgres(_) | StoreConfig::Memory) => {
            BookReader::open(&place).map_err(Failure::other)?.journal()
        }
    };
    let decided = |record: Record| {
        let decided = if let Event::Owner { step: OwnerStep::Decided(decided) } = record.event {
            Some(decided)
        } else if let Event::Claimed { payment, .. } = record.event {
            payment.decision
        } else {
            None
        };
        decided.map(|decided| (record.seq, record.at, decided))
    };
    let records = records.map_err(Failure::other)?.into_iter();
    Ok(records.filter(|record| record.at >= since).filter_map(decided).collect())
}

// --- approvals --------------------------------------------------------------------------------

pub(crate) async fn approvals(command: Approvals) -> Done {
    let home = Home::find()?;
    match command {
        Approvals::Link { by } => link(&home, by.as_deref()),
        Approvals::List { all, json } => list(&home, all, json),
        Approvals::Show { id, wait } => {
            let mut found = find(&home, &id)?;
            while wait && state(&found) == "waiting" {
                tokio::time::sleep(POLL).await;
                found = find(&home, &id)?;
            }
            // What has expired was denied by that, which is written down by whoever finds it.
            desk(&home)?.expire().await.map_err(Failure::other)?;
            print_json(&serde_json::to_value(&found).map_err(Failure::other)?)?;
            match state(&found) {
                "approved" => Ok(()),
                "waiting" => Err(Failure::new(Exit::Waiting, "it waits for approval")),
                other => Err(Failure::new(Exit::Rules, format_args!("it is {other}"))),
            }
        }
        Approvals::Approve { id, by } => answer(&home, &id, by.as_deref(), true).await,
        Approvals::Deny { id, by } => answer(&home, &id, by.as_deref(), false).await,
    }
}

/// The desk of whoever is at the command line, under the policy that the file says.
fn desk(home: &Home) -> Result<Desk, Failure> {
    let config = home.config()?;
    let clock = std::sync::Arc::new(SystemClock);
    Ok(Desk {
        memory: memory(home)?,
        books: crate::books::open(home, &config)?,
        policies: vec![written(home, &config)?],
        waiting: config.rules.waiting,
        clock,
    })
}

/// Prints a link that opens the owner's page, once, for whoever has the approver's passphrase.
fn link(home: &Home, by: Option<&str>) -> Done {
    let config = home.config()?;
    let by = by.unwrap_or(&config.key);
    let page = std::fs::read_to_string(home.page()).ok().filter(|page| is_served(page));
    let page = page.ok_or_else(|| {
        Failure::usage(
            "no page is served; `farthing wallet serve --page 127.0.0.1:4042` serves one, and so does \
             page = \"127.0.0.1:4042\" in [approvals] of wallet.toml",
        )
    })?;
    unlock(home, by)?;
    println!("{}", give_link(&memory(home)?, page.trim(), by)?);
    Ok(())
}

fn is_served(page: &str) -> bool {
    let address = page.trim().strip_prefix("http://").and_then(|it| it.parse().ok());
    address.is_some_and(|it: std::net::SocketAddr| std::net::TcpStream::connect(it).is_ok())
}

/// A link to the owner's page that can be opened once.
pub(crate) fn give_link(memory: &Memory, page: &str, by: &str) -> Result<String, Failure> {
    let secret = SecretKey::generate()?;
    let mut digits = Zeroizing::new(String::with_capacity(64));
    for byte in secret.expose() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    memory.give_link(&digits, by, now()).map_err(Failure::other)?;
    Ok(format!("{page}/open/{}", *digits))
}

/// Where a request stands by now. One that nobody has answered in time is denied by that.
fn state(request: &ApprovalRequest) -> &'static str {
    request.state_at(now()).name()
}

fn find(home: &Home, id: &str) -> Result<ApprovalRequest, Failure> {
    memory(home)?.approval(id).map_err(Failure::other)?.ok_or_else(|| {
        Failure::usage(format_args!(
            "there is no request {id}; `farthing approvals list` shows which there are"
        ))
    })
}

fn list(home: &Home, everything: bool, json: bool) -> Done {
    let mut requests = memory(home)?.approvals().map_err(Failure::other)?;
    requests.retain(|request| everything || state(request) == "waiting");
    if json {
        return print_json(&serde_json::to_value(&requests).map_err(Failure::other)?);
    }
    let assets = home.config()?.assets;
    for request in &requests {
        let asked = &request.asked;
        let atoms = farthing_money::parse_atoms(&asked.atoms).unwrap_or_default();
        let amount = assets.print(&farthing_money::Amount::new(asked.asset.clone(), atoms));
        println!(
            "{}  {:<8}  {amount:>14} to {} for {} {} ({}), until {}",
            request.id,
            state(request),
            plain(&asked.recipient),
            asked.origin,
            plain(&asked.what),
            request.agent,
            request.expires_at
        );
        for because in &asked.because {
            println!("      {}", plain(because));
        }
    }
    Ok(())
}

/// Answers with the key of whoever answers, unlocked: an agent has none.
async fn answer(home: &Home, id: &str, by: Option<&str>, approve: bool) -> Done {
    let config = home.config()?;
    let by = by.unwrap_or(&config.key);
    unlock(home, by)?;
    let desk = desk(home)?;
    if !desk.may_answer(by) {
        let named = desk.policies.iter().flat_map(Policy::approvers).cloned();
        let named: Vec<String> = named.collect();
        let what = format!("{by} is none of the policy's approvers: {}", named.join(", "));
        return Err(Failure::usage(what));
    }
    let answered = desk.answer(id, by, approve).await.map_err(Failure::other)?;
    let request = answered.map_err(Failure::usage)?;
    let missing = usize::from(request.asked.approvals).saturating_sub(request.asked.by.len());
    if request.state == ApprovalState::Waiting {
        println!("{id} waits for {missing} more");
    } else {
        println!("{id} is {}", request.state.name());
    }
    Ok(())
}

// --- agents -----------------------------------------------------------------------------------

pub(crate) fn agents(command: Agents) -> Done {
    match command {
        Agents::Issue { agent, task, expires, limits } => {
            let home = Home::find()?;
            let config = home.config()?;
            let policy = written(&home, &config)?;
            if !policy.agents().any(|it| it == agent) {
                return Err(Failure::usage(format_args!("policy.toml has no [agents.{agent}]")));
            }
            let limits = Limits { expires: Some(expires), ..read_limits(limits)? };
            let key = unlock(&home, &config.key)?;
            let nonce = SecretKey::generate()?;
            let nonce = nonce.expose().first_chunk::<16>().copied().unwrap_or_default();
            let root = root(&memory(&home)?, &key)?;
            let token = root.issue(&agent, task.as_deref(), limits, now(), nonce);
            let token = token.map_err(Failure::usage)?;
            // What cannot be evaluated is found out now, and not by the agent.
            let grant = root.verify(&token).map_err(Failure::usage)?;
            policy.within(grant.blocks).map_err(Failure::usage)?;
            eprintln!(
                "farthing: {} can be revoked with `farthing agents revoke {0}`",
                token.name()
            );
            println!("{}", *token.expose());
            Ok(())
        }
        Agents::Narrow { to, task, limits } => {
            let token = std::env::var(TOKEN).map(Zeroizing::new);
            let token =
                token.map_err(|_| Failure::usage(format_args!("{TOKEN} has to hold the token")))?;
            let token = Token::parse(token.trim()).map_err(Failure::usage)?;
            let narrowed = token.narrowed(to.as_deref(), task.as_deref(), read_limits(limits)?);
            let narrowed = narrowed.map_err(Failure::usage)?;
            eprintln!(
                "farthing: {} can be revoked with `farthing agents revoke {0}`",
                narrowed.name()
            );
            println!("{}", *narrowed.expose());
            Ok(())
        }
        Agents::Revoke { name } => {
            memory(&Home::find()?)?.revoke(&name, now()).map_err(Failure::other)?;
            Ok(())
        }
    }
}

fn read_limits(file: Option<PathBuf>) -> Result<Limits, Failure> {
    let Some(file) = file else { return Ok(Limits::default()) };
    let wrong =
        |error: &dyn std::fmt::Display| Failure::usage(format_args!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(&error))?;
    Limits::parse(&text).map_err(|error| wrong(&error))
}
