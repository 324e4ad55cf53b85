//! `farthing sessions`.

use farthing_money::{Amount, Assets};
use farthing_wallet::{Memory, WalletSession, WalletSessionState};

use crate::cli::Sessions;
use crate::failure::{Done, Failure};
use crate::home::Home;
use crate::pay;
use crate::wallet::print_json;

pub(crate) async fn run(command: Sessions) -> Done {
    let home = Home::find()?;
    match command {
        Sessions::List { json, all } => list(&home, json, all),
        Sessions::Show { channel, json } => show(&home, &channel, json),
        Sessions::Close { channel, all, force, key } => {
            let chosen = match (&channel, all) {
                (Some(channel), false) => vec![find(&home, channel)?],
                (_, _) => unclosed(&home)?,
            };
            close(&home, chosen, force, key.as_deref()).await
        }
        Sessions::Recover { key } => recover(&home, key.as_deref()).await,
    }
}

fn memory(home: &Home) -> Result<Memory, Failure> {
    Memory::open(&home.memory()).map_err(Failure::other)
}

fn unclosed(home: &Home) -> Result<Vec<WalletSession>, Failure> {
    let mut sessions = memory(home)?.sessions().map_err(Failure::other)?;
    sessions.retain(|session| session.state != WalletSessionState::Closed);
    Ok(sessions)
}

/// The one session whose channel begins so.
fn find(home: &Home, channel: &str) -> Result<WalletSession, Failure> {
    let sessions = memory(home)?.sessions().map_err(Failure::other)?;
    let mut found = sessions.into_iter().filter(|session| session.channel.starts_with(channel));
    match (found.next(), found.next()) {
        (Some(session), None) => Ok(session),
        (None, _) => Err(Failure::usage(format_args!(
            "the wallet has no session {channel}; `farthing sessions list --all` says which it has"
        ))),
        (Some(_), Some(_)) => Err(Failure::usage(format_args!(
            "more than one session begins with {channel}; write more of it"
        ))),
    }
}

fn list(home: &Home, json: bool, all: bool) -> Done {
    let mut sessions = memory(home)?.sessions().map_err(Failure::other)?;
    sessions.retain(|session| all || session.state != WalletSessionState::Closed);
    if json {
        return print_json(&serde_json::to_value(&sessions).map_err(Failure::other)?);
    }
    let assets = home.config()?.assets;
    for session in &sessions {
        let short: String = session.channel.chars().take(16).collect();
        println!(
            "{short}  {:<8}  {:>14} of {:<14}  {}",
            session.state.name(),
            assets.print(&session.spent),
            assets.print(&session.deposit),
            session.origin,
        );
    }
    Ok(())
}

fn show(home: &Home, channel: &str, json: bool) -> Done {
    let session = find(home, channel)?;
    if json {
        return print_json(&serde_json::to_value(&session).map_err(Failure::other)?);
    }
    let assets = home.config()?.assets;
    let asked = session.asked.as_ref().map(|asked| assets.print(&asked.price));
    for (name, value) in [
        ("channel", session.channel.clone()),
        ("state", session.state.name().to_owned()),
        ("seller", session.origin.clone()),
        ("paid to", session.recipient.clone()),
        ("opened at", session.opened_at.to_string()),
        ("used at", session.used_at.to_string()),
        ("deposit", assets.print(&session.deposit)),
        ("spent", assets.print(&session.spent)),
        ("signed for", assets.print(&session.signed)),
        ("unanswered", asked.unwrap_or_else(|| "nothing".to_owned())),
    ] {
        println!("{name:<11} {value}");
    }
    if let Some(at) = session.leaves_at {
        println!("{:<11} {at}", "leaves at");
    }
    Ok(())
}

async fn close(home: &Home, sessions: Vec<WalletSession>, force: bool, key: Option<&str>) -> Done {
    if sessions.is_empty() {
        return Ok(());
    }
    let config = home.config()?;
    let assets = config.assets.clone();
    let wallet = pay::open(home, config, key)?;
    let mut failed = None;
    for session in sessions {
        let ended = if force {
            wallet.leave_session(&session.channel).await
        } else {
            wallet.close_session(&session.channel).await
        };
        match ended {
            Ok(closed) => tell(&closed, &assets),
            // What one seller says keeps nothing from the others.
            Err(error) => {
                eprintln!("farthing: {}: {error}", session.channel);
                failed = Some(pay::failure(error, &assets));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn recover(home: &Home, key: Option<&str>) -> Done {
    let config = home.config()?;
    let assets = config.assets.clone();
    let wallet = pay::open(home, config, key)?;
    let mut failed = None;
    let recovered = wallet.recover_sessions().await;
    for (channel, closed) in recovered.map_err(|error| pay::failure(error, &assets))? {
        match closed {
            Ok(closed) => tell(&closed, &assets),
            Err(error) => {
                eprintln!("farthing: {channel}: {error}");
                failed = Some(pay::failure(error, &assets));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn tell(session: &WalletSession, assets: &Assets) {
    let WalletSession { channel, spent, deposit, .. } = session;
    let left = deposit.atoms().saturating_sub(spent.atoms());
    let (spent, left) =
        (assets.print(spent), assets.print(&Amount::new(deposit.asset().clone(), left)));
    if session.state == WalletSessionState::Closed {
        println!("{channel}  closed: {spent} spent, {left} free again");
        return;
    }
    let when = session.leaves_at.map_or_else(|| "later".to_owned(), |at| format!("after {at}"));
    println!(
        "{channel}  {}: {left} not back yet, at least; run `farthing sessions recover` {when}",
        session.state.name()
    );
}
