//! `farthing payments`, `farthing refund` and `farthing payouts`: what hangs, and what an operator
//! does about it.

use farthing_core::{explain, explain_missing, explain_refund};
use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{
    BookConfig, Desk, DeskError, Made, PayoutKind, PayoutStep, RefundMade, RefundOrder, Resolution,
    StartError, desk,
};
use farthing_ledger::{RefundStanding, TraceId, Way};
use farthing_money::Timestamp;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin;
use crate::book::{Opened, read_config, rebuilt};
use crate::cli::{Book, Gateway, Payments, Payouts, Refund};
use crate::failure::{Done, Failure};
use crate::serve;
use crate::wallet::print_json;

pub(crate) async fn run(command: Payments) -> Done {
    match command {
        Payments::Stuck { book, json } => stuck(&book, json),
        Payments::Resolve { id, note, at } => {
            let counter = Counter::find(&at, &id)?;
            let note = Resolution { payment: counter.trace, note };
            let made: Made = counter
                .ask("payments/resolve", note, async |desk: &Desk, note, now| {
                    desk.resolve(note, now).await.map(|new| Made { new })
                })
                .await?;
            say(made);
            Ok(())
        }
    }
}

/// `farthing payouts`.
pub(crate) async fn payouts(command: Payouts) -> Done {
    let (id, step, why, at) = match command {
        Payouts::Hold { id, reason, at } => (id, PayoutKind::Hold, reason, at),
        Payouts::Release { id, reason, at } => (id, PayoutKind::Release, reason, at),
        Payouts::Paid { id, reference, at } => (id, PayoutKind::Paid, reference, at),
    };
    let counter = Counter::find(&at, &id)?;
    let step = PayoutStep { payment: counter.trace, step, why };
    let made: Made = counter
        .ask("payouts", step, async |desk: &Desk, step, now| {
            desk.payout(step, now).await.map(|new| Made { new })
        })
        .await?;
    say(made);
    Ok(())
}

/// `farthing refund`.
pub(crate) async fn refund(args: Refund) -> Done {
    let counter = Counter::find(&args.at, &args.id)?;
    let order = RefundOrder {
        payment: counter.trace,
        amount: args.amount,
        way: if args.credit { Way::Credit } else { Way::Back },
        reference: args.reference,
        reason: args.reason,
    };
    let made: RefundMade = counter
        .ask("refunds", order, async |desk: &Desk, order, now| desk.refund(order, now).await)
        .await?;
    if args.json {
        return print_json(&serde_json::to_value(&made).map_err(Failure::other)?);
    }
    let RefundMade { refund, amount, way, standing } = made;
    let what = match (way, &standing) {
        (_, RefundStanding::Voided) => "was not given back: the rail did not move it",
        (_, RefundStanding::Pending) => "ordered back; a running gateway sends it and finds out",
        (Way::Back, RefundStanding::Posted(_)) => "given back",
        (Way::Credit, RefundStanding::Posted(_)) => "credited to the payer",
    };
    println!("{amount} {what}, {refund}");
    Ok(())
}

fn say(made: Made) {
    println!("{}", if made.new { "done" } else { "done before; nothing has changed" });
}

/// Where an operator asks for something about one payment.
struct Counter<'a> {
    at: &'a Gateway,
    config: BookConfig,
    trace: TraceId,
}

impl<'a> Counter<'a> {
    fn find(at: &'a Gateway, id: &str) -> Result<Self, Failure> {
        let book = Book { config: at.config.clone(), wallet: false };
        let trace = Opened::open(&book)?.trace(id)?;
        Ok(Self { at, config: read_config(&at.config)?, trace })
    }

    /// Asks at a desk of our own, or at that of the gateway which has the book open.
    async fn ask<A: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        asked: A,
        act: impl AsyncFnOnce(&Desk, A, Timestamp) -> Result<T, DeskError>,
    ) -> Result<T, Failure> {
        let whole = serve::read_config(&self.at.config)?;
        match desk(&whole) {
            Ok(desk) => act(&desk, asked, SystemClock.now()).await.map_err(Failure::other),
            Err(StartError::Store(error)) if error.is_locked() => {
                admin::ask(&self.at.config, &self.config, (Method::POST, path), &asked).await
            }
            Err(error) => Err(Failure::other(error)),
        }
    }
}

/// `farthing payments stuck`: what is not finished, in a sentence each.
fn stuck(book: &Book, json: bool) -> Done {
    let Opened { reader, assets } = Opened::open(book)?;
    let rebuilt = rebuilt(&reader)?;
    let now = SystemClock.now();
    let line = |what: Value, trace: TraceId, why: String| json!({ "what": what, "trace": trace, "why": why });
    let payments = rebuilt
        .all_unfinished()
        .map(|it| line(json!(it.payment.id), it.payment.trace, explain(&it, &assets, now)));
    let work = rebuilt.work();
    let refunds = work
        .refunds
        .iter()
        .map(|refund| line(json!(refund.id), refund.trace, explain_refund(refund, &assets)));
    let missing = work.expected.iter().filter_map(|it| {
        let why = explain_missing(it, &assets)?;
        Some(line(json!(it.payment.id), it.payment.trace, why))
    });
    let stuck: Vec<_> = payments.chain(refunds).chain(missing).collect();
    if json {
        return print_json(&json!(stuck));
    }
    for thing in &stuck {
        let text = |name| thing[name].as_str().unwrap_or_default();
        println!("{}\n  {}", text("what"), text("why"));
    }
    println!("{} unfinished", stuck.len());
    Ok(())
}
