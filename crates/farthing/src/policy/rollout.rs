//! `farthing policy rollout`: a policy is tried out on every real payment before it holds.

use std::path::Path;

use farthing_core::Clock as _;
use farthing_gate::SystemClock;
use farthing_keys::SecretKey;
use farthing_ledger::{Decided, Drafted, Ruling};
use farthing_money::Timestamp;
use farthing_policy::{Policy, PolicyName};
use farthing_wallet::{Memory, WalletConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Texts, accept, decisions, memory, parse, texts, unlock};
use crate::cli::Rollout;
use crate::failure::{Done, Failure};
use crate::home::Home;
use crate::wallet::print_json;

/// Under which name what is tried out is kept.
const DRAFT: &str = "policy draft";

/// Under which name it is said, for whoever has no passphrase, what is tried out since when.
const FILE: &str = "rollout.json";

/// A policy that is tried out.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    texts: Texts,
    policy: PolicyName,
    since: String,
}

/// What anybody may know of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    policy: PolicyName,
    since: String,
}

pub(super) fn run(command: Rollout, home: &Home, config: &WalletConfig) -> Done {
    match command {
        Rollout::Start { file } => start(home, config, &file),
        Rollout::Status { json } => status(home, config, json),
        Rollout::Accept => make_it_hold(home, config),
        Rollout::Stop => {
            let key = unlock(home, &config.key)?;
            end(home, &key)
        }
    }
}

/// The policy that is tried out, if one is. One that cannot be read any more, as after an asset has gone, is
/// tried out no longer: it must not keep anything from being paid.
pub(crate) fn draft(config: &WalletConfig, memory: &Memory, key: &SecretKey) -> Option<Policy> {
    let bytes = memory.unseal(DRAFT, key).ok().flatten()?;
    let draft: Option<Draft> = serde_json::from_slice(&bytes).ok()?;
    parse(&draft?.texts, config).ok()
}

fn start(home: &Home, config: &WalletConfig, file: &Path) -> Done {
    let texts = texts(file)?;
    let policy = parse(&texts, config)?.name();
    let key = unlock(home, &config.key)?;
    let since = SystemClock.now().to_string();
    let card = Card { policy: policy.clone(), since: since.clone() };
    let draft = Draft { texts, policy, since };
    let bytes = serde_json::to_vec(&draft).map_err(Failure::other)?;
    memory(home)?.seal(DRAFT, &bytes, &key).map_err(Failure::other)?;
    let card_text = serde_json::to_string_pretty(&card).map_err(Failure::other)?;
    std::fs::write(home.folder().join(FILE), card_text).map_err(Failure::other)?;
    println!("{} sha256:{}", card.policy.version, card.policy.sha256);
    Ok(())
}

fn card(home: &Home) -> Result<Card, Failure> {
    let text = std::fs::read_to_string(home.folder().join(FILE)).map_err(|_| none())?;
    serde_json::from_str(&text).map_err(Failure::other)
}

fn none() -> Failure {
    Failure::usage("no policy is tried out; `farthing policy rollout start FILE` begins to")
}

/// What was decided since a policy is tried out, and what it would have said.
struct Compared {
    seq: u64,
    at: Timestamp,
    was: Box<Decided>,
    would: Drafted,
}

/// What people or the wallet itself have decided was asked for.
fn policy_said(was: &Decided) -> Ruling {
    let by_people = was.rules.iter().any(|rule| rule.starts_with("approvals."));
    if by_people || was.approval.is_some() { Ruling::Asked } else { was.ruling }
}

impl Compared {
    fn is_same(&self) -> bool {
        policy_said(&self.was) == self.would.would()
    }

    /// The rules that would have decided.
    fn by(&self) -> Vec<&str> {
        let over: Vec<&str> = self.would.over().map(|draw| draw.rule.as_str()).collect();
        let rules = || self.would.rules.iter().map(String::as_str).collect();
        if over.is_empty() || self.would.ruling == Ruling::Denied { rules() } else { over }
    }

    fn json(&self) -> Value {
        json!({
            "record": self.seq, "at": self.at.to_string(), "agent": self.was.agent,
            "was": self.was.ruling, "wasBy": self.was.rules,
            "would": self.would.would(), "wouldBy": self.by(),
        })
    }
}

fn status(home: &Home, config: &WalletConfig, json: bool) -> Done {
    let Card { policy, since } = card(home)?;
    let from: Timestamp = since.parse().map_err(Failure::other)?;
    let tried = |(seq, at, mut was): (u64, Timestamp, Box<Decided>)| {
        let would = was.draft.take().filter(|draft| draft.policy_sha256 == policy.sha256)?;
        Some(Compared { seq, at, was, would: *would })
    };
    let all = decisions((home, config), from)?.into_iter().filter_map(tried);
    let (same, other): (Vec<Compared>, Vec<Compared>) = all.partition(Compared::is_same);
    if json {
        let other: Vec<Value> = other.iter().map(Compared::json).collect();
        let same = same.len();
        return print_json(
            &json!({ "policy": policy, "since": since, "same": same, "other": other }),
        );
    }
    println!("{} sha256:{} is tried out since {since}", policy.version, policy.sha256);
    for it in &other {
        let Compared { seq, at, was, would } = it;
        println!(
            "{at}  record {seq}: {:?} by {}; it would have been {:?} by {}",
            was.ruling,
            was.rules.join(" "),
            would.would(),
            it.by().join(" ")
        );
    }
    println!("{} the same, {} other", same.len(), other.len());
    Ok(())
}

/// Writes what is tried out over the policy's file, and accepts it.
fn make_it_hold(home: &Home, config: &WalletConfig) -> Done {
    card(home)?;
    let key = unlock(home, &config.key)?;
    let bytes = memory(home)?.unseal(DRAFT, &key).map_err(Failure::other)?.ok_or_else(none)?;
    let draft: Option<Draft> = serde_json::from_slice(&bytes).map_err(Failure::other)?;
    let Draft { texts: (text, files), .. } = draft.ok_or_else(none)?;
    let path = home.policy_path();
    let folder = path.parent().unwrap_or(Path::new("."));
    for (name, text) in &files {
        std::fs::write(folder.join(name), text).map_err(Failure::other)?;
    }
    std::fs::write(&path, text).map_err(Failure::other)?;
    accept(home, config)?;
    end(home, &key)
}

fn end(home: &Home, key: &SecretKey) -> Done {
    memory(home)?.seal(DRAFT, b"null", key).map_err(Failure::other)?;
    match std::fs::remove_file(home.folder().join(FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::other(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
