//! `kill -9` of the running program at six points of a payment, and what became of everybody's money.
//!
//! One run brings eighteen payments to the same point at once, kills the gateway there, starts it again on
//! the same book, and lets the clients come back: on three kinds of route, for what may happen twice and
//! for what may not, with an honest client, with one whose credential was stolen, and with one that never
//! comes back. The book, the rail's own account and what the handlers did are then held against each
//! other. Every point is reached for certain: whoever comes next on the way, the disk, the rail, the
//! upstream or the link to the client, holds everybody there and says so.
//!
//! The book is a file, or lies in a database that outlives the gateway, and its lease with it.
//!
//! `./x crash --runs N` runs each point N times and prints a table, `--store postgres` the same in a
//! database; otherwise it is three times in a file, and once in a database.

mod book;
mod kitchen;
mod link;
mod sessions;
mod shop;
mod subscriptions;
mod tally;

use crate::crash::book::Place;
use crate::crash::kitchen::Hold;
use crate::crash::sessions::Street;
use crate::crash::shop::{Point, Shop};

/// How often each point is gone through.
fn runs(place: Place) -> usize {
    let short = if place == Place::File { 3 } else { 1 };
    std::env::var("FARTHING_CRASH_RUNS").map_or(short, |runs| runs.parse().unwrap())
}

async fn killed_at(point: Point) {
    killed_in(point, Place::File).await;
}

async fn killed_in(point: Point, place: Place) {
    let mut shop = Shop::open(point, place).await;
    for _ in 0..runs(place) {
        shop.run().await;
    }
    let tally = shop.close().await;
    for row in tally.rows(&place.name(point.id())) {
        println!("{row}");
    }
    tally.must_be_sound(point);
}

/// The same at every step of sessions.
async fn killed_in_sessions(place: Place) {
    for point in [Point::Verified, Point::Delivered, Point::Answered] {
        let mut street = Street::open(point, place).await;
        for _ in 0..runs(place) {
            street.run().await;
        }
        let tally = street.close();
        for row in tally.rows(&place.name(point.id())) {
            println!("{row}");
        }
        tally.all_served();
    }
}

/// C-01, C-05, C-06, S-14, S-11: killed at every point of opening, paying, depositing more and closing:
/// nothing that was acknowledged is lost, each step is made once, and a deposit is what was spent and what is
/// left.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_session() {
    killed_in_sessions(Place::File).await;
}

/// C-01: killed after the credential was verified, and before anything was written. Nobody has paid, and
/// the same credential buys.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_it_verified() {
    killed_at(Point::Verified).await;
}

/// C-02: killed after the claim was written, before the money moved where the rail moves it and before
/// the handler began where the book does.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_it_claimed() {
    killed_at(Point::Claimed).await;
}

/// C-03, F-07: killed after the money moved: before the rail's word was heard, before the handler was done,
/// or, where the handler comes first, before its answer was given.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_it_settled() {
    killed_at(Point::Settled).await;
}

/// C-04, F-04: killed after the handler had done its work, and before its answer arrived.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_handler() {
    killed_at(Point::Executed).await;
}

/// C-05, F-06: killed after the delivery was written, and before the client had the answer.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_it_delivered() {
    killed_at(Point::Delivered).await;
}

/// C-06: killed as soon as the client had the whole answer, whether that was written or not.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_response() {
    killed_at(Point::Answered).await;
}

/// The same, of a gateway whose book lies in PostgreSQL: what it had begun there ends with it, and the
/// next one has the lease once it is over.
mod on_postgres {
    use super::{Place, Point, killed_in, killed_in_sessions};

    /// C-01, C-05, C-06, S-14, S-11: a session's steps are in the database once.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_at_every_step_of_a_session() {
        killed_in_sessions(Place::Database).await;
    }

    /// C-01: nothing was written in the database, though it had begun.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_it_verified() {
        killed_in(Point::Verified, Place::Database).await;
    }

    /// C-02: the claim is in the database.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_it_claimed() {
        killed_in(Point::Claimed, Place::Database).await;
    }

    /// C-03: the money has moved, and the database may not say so.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_it_settled() {
        killed_in(Point::Settled, Place::Database).await;
    }

    /// C-04: the handler has done its work.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_the_handler() {
        killed_in(Point::Executed, Place::Database).await;
    }

    /// C-05: the delivery is in the database, and the answer to be given again with it.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_it_delivered() {
        killed_in(Point::Delivered, Place::Database).await;
    }

    /// C-06: the client has the answer, and the database may not know.
    #[tokio::test(flavor = "multi_thread")]
    async fn killed_after_the_response() {
        killed_in(Point::Answered, Place::Database).await;
    }
}

/// F-02, F-01: a rail that says settled and has not moved anything is found out by asking it again: the
/// payment is listed, and the seller is not paid out for it. The control tells the truth.
#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_lies_is_found_out() {
    use farthing_ledger::{Matching, Payout};
    for (answer, matching, payout) in [
        (farthing_rail_test::Answer::Settled, Matching::Matched, Payout::Eligible),
        (farthing_rail_test::Answer::Lies, Matching::Missing, Payout::Ineligible),
    ] {
        let shop = Shop::open(Point::Answered, Place::File).await;
        shop.dial.set(answer);
        let order = shop.order("outside", "GET").await;
        let (status, _) = shop.present(&order).await.unwrap();
        assert_eq!(status, 200, "the rail's word is what a release goes by");
        let story = shop.until_story(&order, |story| story.lifecycle.matching == matching).await;
        assert_eq!(story.lifecycle.payout, payout);
        let stuck = shop.world.farthing(&["payments", "stuck"]).ok();
        let is_listed = stuck.contains("the rail does not know it any more");
        assert_eq!(is_listed, matching == Matching::Missing, "{stuck}");
        assert_eq!(shop.dial.moved().len(), usize::from(!is_listed));
    }
}

/// C-08: a disk that takes no more stops the gateway: what it could not write it has not acknowledged,
/// it ends with an error and says why, and with room again the same credentials are answered, paid once.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_stops_it() {
    let mut shop = Shop::open(Point::Answered, Place::File).await;
    shop.restart_within(384);
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    // Challenges are not written, and are given whatever the disk does.
    let mut orders = Vec::new();
    for _ in 0..60 {
        orders.push(shop.order("before", "GET").await);
    }
    for order in orders {
        match shop.present(&order).await {
            Some((200, _)) => answered.push(order),
            Some((503, problem)) => {
                assert!(problem.contains("do not pay again"), "{problem}");
                refused.push(order);
            }
            // It has ended.
            None => refused.push(order),
            other => panic!("{other:?}"),
        }
    }
    let (code, log) = shop.end();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("the book cannot be written"), "{log}");
    assert!(answered.len() > 3 && !refused.is_empty(), "{} were answered", answered.len());
    for order in &answered {
        assert!(shop.story(order).is_some(), "what was acknowledged is on disk");
    }
    shop.restart();
    for order in answered.iter().chain(&refused) {
        assert_eq!(shop.present(order).await.unwrap().0, 200);
    }
    let verified = shop.world.farthing(&["ledger", "verify", "--json"]).json();
    let seller = &verified["audit"]["accounts"]["payable/seller/usd"];
    let earned = (25 * (answered.len() + refused.len())).to_string();
    assert_eq!(seller["credits_posted"], earned.as_str(), "each has paid once");
}

impl Point {
    /// What holds a payment at this point on a route, behind the gateway.
    const fn hold(self, route: &str) -> Hold {
        let (before, after) =
            (matches!(route.as_bytes(), b"before"), matches!(route.as_bytes(), b"after"));
        match self {
            Self::Claimed if before || after => Hold::BeforeWork,
            Self::Settled if before => Hold::BeforeWork,
            Self::Settled if after => Hold::HalfAnswered,
            Self::Executed => Hold::AfterWork,
            Self::Verified | Self::Claimed | Self::Settled | Self::Delivered | Self::Answered => {
                Hold::Nothing
            }
        }
    }
}
