//! `farthing evidence`, `farthing receipt` and `farthing ledger checkpoint`: what others can check.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;

use farthing_evidence::{
    Checkpoint, Expected, Notary, NoteKey, PackReport, ReceiptClaims, SecretKey, Selection,
    TrustedKeys, export, verify,
};
use farthing_gate::{Clock as _, SystemClock};
use farthing_ledger::{Event, PaymentId, Published};
use farthing_money::Timestamp;
use serde_json::json;

use crate::book::{Opened, read_config};
use crate::cli::{Book, Evidence, Export, Receipt};
use crate::failure::{Done, Failure};
use crate::wallet::print_json;

/// The longest receipt that is read from standard input, in bytes.
const RECEIPT_BYTES_MAX: u64 = 64 * 1024;

/// `farthing evidence`.
pub(crate) fn run(command: Evidence) -> Done {
    match command {
        Evidence::Export(args) => write_pack(&args),
        Evidence::Verify { file, keys, json } => {
            let bytes = std::fs::read(&file).map_err(|error| named(&file, error))?;
            let report = verify(&bytes, &read_keys(&keys)?).map_err(|fault| named(&file, fault))?;
            describe(&report, json)
        }
    }
}

/// `farthing receipt`.
pub(crate) fn receipt(command: Receipt) -> Done {
    match command {
        Receipt::Verify { receipt, keys, challenge, issuer } => {
            let token = if receipt == "-" { from_stdin()? } else { receipt };
            let expected = Expected { issuer: issuer.as_deref(), challenge: challenge.as_deref() };
            let claims = ReceiptClaims::verify(&token, &read_keys(&keys)?, expected);
            let claims = claims.map_err(Failure::other)?;
            print_json(&serde_json::to_value(claims).map_err(Failure::other)?)
        }
        Receipt::NewKey { file } => new_key(&file),
        Receipt::Keys { config, note } => {
            let notary = notary(&config)?;
            if !note {
                println!("{}", notary.published().to_jwks());
                return Ok(());
            }
            let origin = format!("{}/book", notary.realm());
            for key in notary.published().keys() {
                // A notary's realm can always name a note.
                println!(
                    "{}",
                    NoteKey::new(&origin, *key).map(|key| key.text()).unwrap_or_default()
                );
            }
            Ok(())
        }
    }
}

/// `farthing ledger checkpoint`: signs what the journal is, once it is known to be sound.
pub(crate) fn checkpoint(config: &Path) -> Done {
    let notary = notary(config)?;
    let sound = gateways(config)?.verify(Vec::new())?;
    print!("{}", Checkpoint::new(&notary, sound.audit.records, sound.root).sign(&notary));
    Ok(())
}

/// What was published of a book, from signed checkpoints.
pub(crate) fn published(
    book: &Book,
    checkpoints: &[std::path::PathBuf],
    keys: Option<&Path>,
) -> Result<Vec<Published>, Failure> {
    if checkpoints.is_empty() {
        return Ok(Vec::new());
    }
    if book.wallet {
        return Err(Failure::usage("checkpoints are those of a gateway's book"));
    }
    let realm = read_config(&book.config)?.realm;
    let keys = match keys {
        Some(keys) => read_keys(keys)?,
        None => notary(&book.config)?.published().clone(),
    };
    let open = |path: &std::path::PathBuf| {
        let note = std::fs::read_to_string(path).map_err(|error| named(path, error))?;
        let checkpoint = Checkpoint::open(&note, &keys).map_err(|error| named(path, error))?;
        if checkpoint.realm() != Some(realm.as_str()) {
            return Err(named(path, format_args!("it is one of {}", checkpoint.origin)));
        }
        Ok(checkpoint.published())
    };
    checkpoints.iter().map(open).collect()
}

fn write_pack(args: &Export) -> Done {
    let notary = notary(&args.config)?;
    let book = gateways(&args.config)?;
    // What is not sound is not exported: whoever asks for evidence has to be told so.
    book.verify(Vec::new())?;
    let selection = selection(args, &book)?;
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).map_err(|error| named(path, error))
    };
    let published = args.checkpoints.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let journal = book.reader.lines().map_err(Failure::other)?;
    let pack = export(&notary, &journal, selection, &published, SystemClock.now());
    let pack = pack.map_err(Failure::other)?;
    let Some(path) = &args.output else {
        print!("{}", pack.to_json());
        return Ok(());
    };
    std::fs::write(path, pack.to_json()).map_err(|error| named(path, error))?;
    let (records, payments) = (pack.manifest.records, pack.manifest.payments);
    println!("{}: {records} records, {payments} payments", path.display());
    Ok(())
}

fn selection(args: &Export, book: &Opened) -> Result<Selection, Failure> {
    let moment = |text: &String| {
        let moment = text.parse::<Timestamp>();
        moment.map_err(|error| Failure::usage(format_args!("{text}: {error}")))
    };
    match (&args.payment, &args.from, &args.until, &args.party) {
        (Some(id), ..) => Ok(Selection::Payment(payment(book, id)?)),
        (None, Some(from), Some(until), _) => {
            Ok(Selection::Period { from: moment(from)?, until: moment(until)? })
        }
        (None, _, _, Some(party)) => Ok(Selection::Party(party.clone())),
        (None, ..) => Err(Failure::usage("say which: --payment, --from and --until, or --party")),
    }
}

/// The payment that a person names by its trace, itself or its challenge.
fn payment(book: &Opened, id: &str) -> Result<PaymentId, Failure> {
    let story = book.reader.of_trace(book.trace(id)?).map_err(Failure::other)?;
    let claimed = story.iter().find_map(|record| {
        if let Event::Claimed { payment, .. } = &record.event { Some(payment.id) } else { None }
    });
    claimed.ok_or_else(|| Failure::other(format_args!("{id}: no payment of this name in the book")))
}

fn describe(report: &PackReport, json: bool) -> Done {
    let PackReport { pack, checkpoint, continues, erased } = report;
    let manifest = &pack.manifest;
    if json {
        return print_json(&json!({
            "genuine": true,
            "realm": manifest.realm,
            "manifest": manifest,
            "journal": { "records": checkpoint.size, "root": checkpoint.root },
            "continues": continues,
            "erased": erased,
        }));
    }
    println!(
        "genuine: {} records and {} payments of {}, from a journal of {} records, as of {}",
        manifest.records, manifest.payments, manifest.realm, checkpoint.size, manifest.made_at
    );
    for size in continues {
        println!("continues the published checkpoint of {size} records");
    }
    if !erased.is_empty() {
        let erased: Vec<String> = erased.iter().map(ToString::to_string).collect();
        println!("personal data was erased since they were sealed: records {}", erased.join(", "));
    }
    for (asset, sums) in &manifest.totals {
        println!(
            "{asset}: {} settled = {} in the ledger = {} with receipts + {} without, in atoms; {} \
             given back",
            sums.settlements, sums.ledger, sums.receipts, sums.without_receipt, sums.refunded
        );
    }
    Ok(())
}

/// Makes a key. An existing file is never overwritten.
fn new_key(file: &Path) -> Done {
    let drawn = farthing_keys::SecretKey::generate()?;
    let key = SecretKey::from_bytes(drawn.expose());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(file).map_err(|error| named(file, error))?;
    let text = key.expose();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    written.and_then(|()| out.sync_all()).map_err(|error| named(file, error))?;
    println!("{}", key.public().kid());
    Ok(())
}

/// Who signs for a gateway's book.
fn notary(config: &Path) -> Result<Notary, Failure> {
    let folder = config.parent().unwrap_or(Path::new("."));
    let notary = read_config(config)?.notary(folder, &|name| std::env::var(name).ok());
    let notary = notary.map_err(|what| Failure::usage(format_args!("[receipts] keys: {what}")))?;
    notary.ok_or_else(|| {
        Failure::usage(format_args!(
            "{}: nobody signs for this book; `farthing receipt new-key receipt.key` makes a key, \
             and [receipts] keys = [\"file:receipt.key\"] names it",
            config.display()
        ))
    })
}

fn gateways(config: &Path) -> Result<Opened, Failure> {
    Opened::open(&Book { config: config.to_owned(), wallet: false })
}

fn read_keys(path: &Path) -> Result<TrustedKeys, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, error))?;
    TrustedKeys::from_jwks(&text).map_err(|error| named(path, error))
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().take(RECEIPT_BYTES_MAX).read_to_string(&mut text).map_err(Failure::other)?;
    Ok(text)
}

fn named(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::other(format_args!("{}: {what}", path.display()))
}
