use farthing_money::{Asset, AssetId, Assets};

use super::millis;
use crate::book::tests::{Desk, purchase};
use crate::*;

#[test]
fn a_story_reads_from_challenge_to_delivery() {
    let mut desk = Desk::new();
    let now = desk.now;
    let request = purchase("ch_1", Money::Rail);
    let id = request.payment.id;
    let mut records = vec![desk.book.claim(request, &desk.shelf, now).unwrap().1.unwrap()];
    assert_eq!(Story::tell(&records).unwrap().standing, StoryStanding::Pending);
    let settlement = Settlement::new("tx_9".into(), now);
    records.extend(desk.book.post(id, settlement, now));
    assert_eq!(Story::tell(&records).unwrap().standing, StoryStanding::Undelivered);
    records.extend(desk.book.deliver(id, Outcome { status: 200 }, now));
    let story = Story::tell(&records).unwrap();
    assert_eq!(story.standing, StoryStanding::Delivered);
    let assets = Assets::from_iter([Asset::new(AssetId::new("usd").unwrap(), 2).unwrap()]);
    let text = story.print(&assets).to_string();
    for line in [
        "paid and delivered",
        "amount   0.05 usd",
        "challenged: ch_1 for weather",
        "#4  claimed, waiting for the rail",
        "debit  clearing/test/usd                        0.05 usd  pending",
        "credit payable/seller/usd                       0.05 usd",
        "posted, reference tx_9",
        "delivered with status 200",
    ] {
        assert!(text.contains(line), "{line:?} in:\n{text}");
    }
    assert_eq!(Story::tell(&records[1..]), None);
}

#[test]
fn moments_line_up() {
    for (at, want) in [
        ("2026-11-21T08:00:00Z", "2026-11-21T08:00:00.000Z"),
        ("2026-11-21T08:00:00.4Z", "2026-11-21T08:00:00.400Z"),
        ("2026-11-21T08:00:00.456789Z", "2026-11-21T08:00:00.456Z"),
    ] {
        assert_eq!(millis(at.parse().unwrap()), want);
    }
}
