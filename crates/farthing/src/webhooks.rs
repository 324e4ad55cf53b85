//! `farthing webhooks`: who is told what happened to payments, and what they have not taken.

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{
    BookReader, EnableOrder, EndpointView, LastPlace, LetterView, Made, Replay, ReplayOrder,
    Replayed, StartError, WebhookDesk, WebhookError, dead_letters, endpoint_view, webhook_desk,
    webhook_note,
};
use farthing_ledger::Record;
use farthing_money::Timestamp;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin;
use crate::book::{Opened, read_config};
use crate::cli::{Book, Gateway, ReplayWhat, Webhooks};
use crate::failure::{Done, Failure};
use crate::serve;
use crate::wallet::print_json;

pub(crate) async fn run(command: Webhooks) -> Done {
    match command {
        Webhooks::List { at, json } => list(&at, json),
        Webhooks::Dead { name, at, json } => dead(&at, &name, json),
        Webhooks::Replay { name, what, at } => replay(&at, name, what).await,
        Webhooks::Enable { name, at } => {
            let order = EnableOrder { name };
            let made: Made = ask(&at, "enable", &order, async |desk, order, now| {
                desk.enable(order, now).await.map(|new| Made { new })
            })
            .await?;
            let said = if made.new { "done" } else { "it was enabled; nothing has changed" };
            println!("{said}");
            Ok(())
        }
    }
}

/// What a gateway has noted, read beside it, or without it.
struct Notes {
    reader: BookReader,
    names: Vec<String>,
}

impl Notes {
    fn open(at: &Gateway) -> Result<Self, Failure> {
        let names = read_config(&at.config)?.webhooks;
        let book = Book { config: at.config.clone(), wallet: false };
        Ok(Self { reader: Opened::open(&book)?.reader, names })
    }

    fn note(&self, name: &str) -> Result<Option<String>, Failure> {
        self.reader.noted(&webhook_note(name)).map_err(Failure::other)
    }

    fn record(&self, seq: u64) -> Option<Record> {
        let found = self.reader.records(seq, 1).ok()?.into_iter().next();
        found.filter(|record| record.seq == seq)
    }

    /// The journal's last record.
    fn head(&self) -> u64 {
        let mut search = LastPlace::from(0);
        loop {
            match search.next() {
                Ok(place) => search.learn(place, self.record(place).is_some()),
                Err(last) => return last,
            }
        }
    }
}

fn list(at: &Gateway, json: bool) -> Done {
    let notes = Notes::open(at)?;
    let head = notes.head();
    let view = |name: &String| {
        let note = notes.note(name)?;
        let view = endpoint_view(name, note.as_deref(), head, &|seq| notes.record(seq));
        view.map_err(Failure::other)
    };
    let views = notes.names.iter().map(view).collect::<Result<Vec<EndpointView>, Failure>>()?;
    if json {
        return print_json(&serde_json::to_value(&views).map_err(Failure::other)?);
    }
    for EndpointView { name, cursor, lag, open, dead, disabled_at } in &views {
        let disabled = disabled_at.as_ref().map(|at| format!(", disabled since {at}"));
        let disabled = disabled.unwrap_or_default();
        let open_count = open.len();
        println!("{name}: record {cursor}, {lag} behind, {open_count} open, {dead} dead{disabled}");
        for letter in open {
            print_letter(letter, "again");
        }
    }
    Ok(())
}

fn dead(at: &Gateway, name: &str, json: bool) -> Done {
    let notes = Notes::open(at)?;
    if !notes.names.iter().any(|known| known == name) {
        return Err(Failure::other(WebhookError::Unknown));
    }
    let note = notes.note(name)?;
    let letters =
        dead_letters(note.as_deref(), &|seq| notes.record(seq)).map_err(Failure::other)?;
    if json {
        return print_json(&serde_json::to_value(&letters).map_err(Failure::other)?);
    }
    for letter in &letters {
        print_letter(letter, "given up");
    }
    println!("{} dead", letters.len());
    Ok(())
}

fn print_letter(letter: &LetterView, what: &str) {
    let LetterView { event, kind, trace, attempts, fault, at, .. } = letter;
    let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
    let fault = fault.as_ref().map(|fault| format!(", {fault}")).unwrap_or_default();
    println!("  {event}  {kind}  {trace}\n    {attempts} attempts{fault}; {what} {at}");
}

async fn replay(at: &Gateway, name: String, what: ReplayWhat) -> Done {
    let what = match what {
        ReplayWhat { event: Some(event), .. } => Replay::Event(event),
        ReplayWhat { from: Some(from), .. } => Replay::FromSeq(from),
        ReplayWhat { since: Some(since), .. } => Replay::Since(since),
        ReplayWhat { .. } => Replay::Dead,
    };
    let unit = match what {
        Replay::Event(_) | Replay::Dead => "events",
        Replay::FromSeq(_) | Replay::Since(_) => "records of the journal",
    };
    let order = ReplayOrder { name, what };
    let done: Replayed = ask(at, "replay", &order, async |desk, order, now| {
        desk.replay(order, now).await.map(|again| Replayed { again })
    })
    .await?;
    println!("{} {unit} are told again", done.again);
    Ok(())
}

/// Asks at a desk of our own, or at that of the gateway which has the book open.
async fn ask<A: Serialize, T: DeserializeOwned>(
    at: &Gateway,
    path: &str,
    order: &A,
    act: impl AsyncFnOnce(&WebhookDesk, &A, Timestamp) -> Result<T, WebhookError>,
) -> Result<T, Failure> {
    let whole = serve::read_config(&at.config)?;
    match webhook_desk(&whole) {
        Ok(desk) => act(&desk, order, SystemClock.now()).await.map_err(Failure::other),
        Err(StartError::Store(error)) if error.is_locked() => {
            let (config, path) = (read_config(&at.config)?, format!("webhooks/{path}"));
            admin::ask(&at.config, &config, (Method::POST, &path), order).await
        }
        Err(error) => Err(Failure::other(error)),
    }
}
