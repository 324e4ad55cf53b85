//! `farthing store erase`: personal data that is not needed any more.

use std::time::Duration;

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{BookConfig, BookReader, ErasureOrder, OpenStore, StoreConfig};
use farthing_ledger::{Erased, Erasure, Record, Rewritten, Survey};
use farthing_money::Timestamp;
use reqwest::Method;

use crate::admin;
use crate::book::{read_config, rebuilt};
use crate::cli::Erase;
use crate::failure::{Done, Failure};
use crate::wallet::print_json;

/// A day.
const DAY: Duration = Duration::from_hours(24);

pub(crate) async fn run(args: Erase) -> Done {
    let config = read_config(&args.at.config)?;
    if config.store == StoreConfig::Memory {
        return Err(Failure::usage("the configuration keeps its book in memory"));
    }
    let now = SystemClock.now();
    let order = ErasureOrder {
        payer: args.payer.clone(),
        before: before(&args, &config, now)?,
        reason: args.reason.clone().unwrap_or_default(),
    };
    let erased = if args.dry_run {
        look(&config, order.erasure(now).map_err(Failure::other)?)?
    } else {
        erase(&args, &config, order, now).await?
    };
    if args.json {
        return print_json(&serde_json::to_value(erased).map_err(Failure::other)?);
    }
    say(&args, &erased);
    Ok(())
}

/// Until when everything is erased, if somebody says so.
fn before(args: &Erase, config: &BookConfig, now: Timestamp) -> Result<Option<String>, Failure> {
    if !args.outdated {
        return Ok(args.before.clone());
    }
    let days = config.retention_days.ok_or_else(|| {
        Failure::usage("[retention] days says how long personal data is kept, and is not there")
    })?;
    Ok(Some(now.before(DAY.saturating_mul(days)).to_string()))
}

/// What an erasure would come to, as the book stands.
fn look(config: &BookConfig, erasure: Erasure) -> Result<Erased, Failure> {
    let reader = BookReader::open(&config.store).map_err(Failure::other)?;
    let book = rebuilt(&reader)?;
    let journal = reader.journal().map_err(Failure::other)?;
    let mut survey = Survey::begin(erasure);
    for record in &journal {
        survey.take(record);
    }
    let plan = survey.end(&book).map_err(Failure::other)?;
    let rewrite = |record: &Record| plan.rewrite(record.seq, &record.to_json()).transpose();
    let chosen = plan.seqs();
    let chosen = journal.iter().filter(|record| chosen.binary_search(&record.seq).is_ok());
    let rows: Vec<Rewritten> =
        chosen.filter_map(rewrite).collect::<Result<_, _>>().map_err(Failure::other)?;
    Ok(plan.counts(&rows))
}

/// Erases in the book itself, or through the gateway that has it open.
async fn erase(
    args: &Erase,
    config: &BookConfig,
    order: ErasureOrder,
    now: Timestamp,
) -> Result<Erased, Failure> {
    match OpenStore::open(&config.store, now) {
        Ok(store) => {
            let erasure = order.erasure(now).map_err(Failure::other)?;
            store.port().erase(erasure, now).await.map_err(Failure::other)
        }
        Err(error) if error.is_locked() => {
            admin::ask(&args.at.config, config, (Method::POST, "erasures"), &order).await
        }
        Err(error) => Err(Failure::other(error)),
    }
}

fn say(args: &Erase, erased: &Erased) {
    let Erased { payments, holders, keys, rows, wiped } = erased;
    let what = if args.dry_run { "would be erased" } else { "erased" };
    println!(
        "{payments} payments, {holders} accounts' holders and {keys} keys {what}, in {rows} records"
    );
    if !args.dry_run && !wiped {
        println!(
            "somebody is reading the book, so that old pages are left in its file; run this again to \
             clear them away"
        );
    }
}
