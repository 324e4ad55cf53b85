//! `farthing ledger` and `farthing trace`: reading books, a gateway's or the wallet's own.

use std::path::Path;

use farthing_core::identity;
use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{BookConfig, BookReadError, BookReader};
use farthing_ledger::{
    Account, Audit, Balance, PaymentId, Published, Record, Story, TraceId, Transfer, Verified,
    audit as recompute,
};
use farthing_money::{Amount, Assets};
use serde_json::json;

use crate::cli::{Book, Ledger, Trace};
use crate::evidence;
use crate::failure::{Done, Failure};
use crate::home::Home;
use crate::wallet::print_json;

/// How many records are read at once.
const PAGE: u32 = 1_000;

/// The wire protocols whose challenges a payment can be found by.
const PROTOCOLS: [&str; 1] = ["mpp"];

pub(crate) fn run(command: Ledger) -> Done {
    match command {
        Ledger::Balances { book, json } => balances(&Opened::open(&book)?, json),
        Ledger::Journal { book, from, json } => journal(&Opened::open(&book)?, from, json),
        Ledger::Verify { book, checkpoints, keys, json } => {
            let published = evidence::published(&book, &checkpoints, keys.as_deref())?;
            verify(&Opened::open(&book)?, published, json)
        }
        Ledger::Checkpoint { config } => evidence::checkpoint(&config),
    }
}

/// A book, open for reading, and the assets its amounts are in.
pub(crate) struct Opened {
    pub(crate) reader: BookReader,
    pub(crate) assets: Assets,
}

impl Opened {
    pub(crate) fn open(book: &Book) -> Result<Self, Failure> {
        let (store, assets) = if book.wallet {
            let home = Home::find()?;
            let config = home.config()?;
            (crate::books::place(&home, &config)?, config.assets)
        } else {
            let config = read_config(&book.config)?;
            (config.store, config.assets)
        };
        let reader = BookReader::open(&store).map_err(|error| match error {
            BookReadError::Memory => Failure::usage(error),
            BookReadError::File { .. }
            | BookReadError::Sqlite(_)
            | BookReadError::Postgres(_)
            | BookReadError::Wrong(_) => Failure::other(error),
        })?;
        Ok(Self { reader, assets })
    }

    /// The trace that a person names: itself, by its payment, or by its challenge.
    pub(crate) fn trace(&self, id: &str) -> Result<TraceId, Failure> {
        match id.parse() {
            Ok(trace) => Ok(trace),
            Err(_) => trace_of(&self.reader, id)?.ok_or_else(|| unknown(id)),
        }
    }

    /// Recomputes everything, and holds it against what was published.
    pub(crate) fn verify(&self, published: Vec<Published>) -> Result<Verified, Failure> {
        self.reader.verify(published, SystemClock.now()).map_err(Failure::other)
    }

    fn audit(&self) -> Result<Audit, Failure> {
        let journal = self.reader.journal().map_err(Failure::other)?;
        recompute(&journal).map_err(|fault| Failure::other(format_args!("not sound: {fault}")))
    }
}

/// The book as its journal makes it.
pub(crate) fn rebuilt(reader: &BookReader) -> Result<farthing_ledger::Book, Failure> {
    let mut rebuilt = farthing_ledger::Book::default();
    for record in reader.journal().map_err(Failure::other)? {
        rebuilt.replay(&record).map_err(|error| {
            Failure::other(format_args!("record {} does not follow: {error}", record.seq))
        })?;
    }
    Ok(rebuilt)
}

/// Reads where a gateway's books are.
pub(crate) fn read_config(path: &Path) -> Result<BookConfig, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    BookConfig::parse(&text, folder, &|name| std::env::var(name).ok())
        .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// Recomputed from the journal, never read from a projection.
fn balances(book: &Opened, json: bool) -> Done {
    let audit = book.audit()?;
    if json {
        return print_json(&serde_json::to_value(&audit.accounts).map_err(Failure::other)?);
    }
    println!("{:<48} {:>20} {:>20}", "account", "balance", "pending");
    for (account, balance) in &audit.accounts {
        let (posted, pending) = read_as_people_do(account, balance);
        let name = account.to_string();
        let (posted, pending) = (signed(book, account, posted), signed(book, account, pending));
        println!("{name:<48} {posted:>20} {pending:>20}");
    }
    print_totals(&audit, &book.assets);
    Ok(())
}

/// An account's balance and what is pending on it, with the sign people expect: whether it is
/// negative, and how much.
fn read_as_people_do(account: &Account, balance: &Balance) -> ((bool, u128), (bool, u128)) {
    let difference = |plus: u128, minus: u128| (minus > plus, plus.abs_diff(minus));
    let Balance { debits_posted, debits_pending, credits_posted, credits_pending } = *balance;
    if account.kind.is_credit_normal() {
        (difference(credits_posted, debits_posted), difference(credits_pending, debits_pending))
    } else {
        (difference(debits_posted, credits_posted), difference(debits_pending, credits_pending))
    }
}

fn signed(book: &Opened, account: &Account, (negative, atoms): (bool, u128)) -> String {
    let sign = if negative { "-" } else { "" };
    let amount = book.assets.print(&Amount::new(account.asset.clone(), atoms));
    format!("{sign}{amount}")
}

fn print_totals(audit: &Audit, assets: &Assets) {
    for (debits, credits) in audit.totals.values() {
        let (debits, credits) = (assets.print(debits), assets.print(credits));
        println!("debits {debits} = credits {credits}");
    }
}

fn journal(book: &Opened, from: u64, json: bool) -> Done {
    let mut next = from;
    loop {
        let page = book.reader.records(next, PAGE).map_err(Failure::other)?;
        let Some(last) = page.last() else { return Ok(()) };
        next = last.seq.saturating_add(1);
        for record in &page {
            if json {
                println!("{}", record.to_json());
            } else {
                print_record(record, &book.assets);
            }
        }
    }
}

fn print_record(record: &Record, assets: &Assets) {
    let trace = record.trace.map(|trace| trace.to_string()).unwrap_or_default();
    println!("#{:<7} {}  {trace:<36}  {}", record.seq, record.at, record.summary());
    for Transfer { debit, credit, atoms, .. } in &record.transfers {
        let amount = assets.print(&Amount::new(debit.asset.clone(), *atoms));
        println!("{:>9}{amount:>20}  from {debit} to {credit}", "");
    }
}

fn verify(book: &Opened, published: Vec<Published>, json: bool) -> Done {
    let continued = published.len();
    let Verified { audit, seals, root, erased } = book.verify(published)?;
    if json {
        let root = root.to_string();
        return print_json(&json!({
            "sound": true, "audit": audit, "seals": seals, "root": root, "continues": continued,
            "erased": erased,
        }));
    }
    let Audit { records, claimed, pending, voided, undelivered, delivered, .. } = &audit;
    println!(
        "sound: {records} records, {claimed} payments ({delivered} delivered, {undelivered} owed \
         an answer, {pending} pending, {voided} voided)"
    );
    print_totals(&audit, &book.assets);
    println!("{seals} seals, root {root}");
    if erased > 0 {
        println!("personal data was erased from {erased} records since they were sealed");
    }
    if continued > 0 {
        println!("continues {continued} published");
    }
    Ok(())
}

/// `farthing trace`.
pub(crate) fn trace(args: &Trace) -> Done {
    let book = Opened::open(&args.book)?;
    let trace = book.trace(&args.id)?;
    let records = book.reader.of_trace(trace).map_err(Failure::other)?;
    let story = Story::tell(&records).ok_or_else(|| unknown(&args.id))?;
    if args.json {
        return print_json(&serde_json::to_value(&story).map_err(Failure::other)?);
    }
    print!("{}", story.print(&book.assets));
    Ok(())
}

fn unknown(id: &str) -> Failure {
    Failure::other(format_args!("{id}: no payment of this name in the book"))
}

/// The trace of a payment, by its own id or by its challenge's.
fn trace_of(reader: &BookReader, id: &str) -> Result<Option<TraceId>, Failure> {
    if let Ok(payment) = id.parse::<PaymentId>() {
        return reader.trace_of_payment(payment).map_err(Failure::other);
    }
    for protocol in PROTOCOLS {
        let found = reader.trace_of(&identity(protocol, id)).map_err(Failure::other)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
