//! What is planned for channels, and when.

use std::time::Duration;

use farthing_ledger::{
    Account, Channel, ChannelFacts, ChannelId, ChannelState, Closing, Fingerprint, Holder,
    PendingDeposit, TraceId, TransferId, Voucher,
};
use farthing_money::{AssetId, Timestamp};

use super::{Errand, Settling, Tending, Tried};
use crate::SessionRules;

const START: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

const BOOK: SessionRules = SessionRules {
    authorised: "",
    settled: "",
    captures_spent: true,
    heard_within: None,
    ascertains: false,
};

const CHAIN: SessionRules = SessionRules { heard_within: Some(Duration::from_mins(1)), ..BOOK };

fn channel(method: &str, state: ChannelState) -> Channel {
    let asset = AssetId::new("usd").unwrap();
    Channel {
        facts: ChannelFacts {
            id: ChannelId::new(method, "a").unwrap(),
            trace: TraceId::new(START, [1; 10]),
            payer: "alice".into(),
            payee: Holder::new("seller").unwrap(),
            asset: asset.clone(),
            signer: "alice".into(),
            binding: Fingerprint::of("binding", &[]),
            inquiry: None,
            cash: None,
        },
        state,
        source: "prepaid/alice/usd".parse::<Account>().unwrap(),
        deposit: 10,
        accepted: 0,
        spent: 0,
        settled: 0,
        returned: 0,
        voucher: None,
        earlier: Vec::new(),
        pending: None,
        opened_at: START,
        used_at: START,
        owed_since: None,
        closing: None,
    }
}

/// What is planned at a moment, in a word; nothing if it is for later.
fn due(tending: &Tending, channel: &Channel, after_s: u64) -> &'static str {
    let now = START.after(Duration::from_secs(after_s));
    let rules = match channel.facts.id.method() {
        "book" => BOOK,
        "chain" => CHAIN,
        _ => return "",
    };
    match tending.plan(channel, &rules, now) {
        Some((errand, at)) if at <= now => match errand {
            Errand::Finish => "finish",
            Errand::Close => "close",
            Errand::Follow => "follow",
            Errand::Settle => "settle",
            Errand::Warn => "warn",
        },
        Some(_) | None => "",
    }
}

#[track_caller]
fn check(channel: &Channel, after_s: u64, planned: &str) {
    let mut tending = Tending::default();
    tending.close_after(Some(Duration::from_mins(10)));
    assert_eq!(due(&tending, channel, after_s), planned, "{channel:?} after {after_s} s");
}

#[test]
fn a_channel_that_nobody_uses_is_closed() {
    let open = channel("book", ChannelState::Open);
    check(&open, 599, "");
    check(&open, 600, "close");
    check(&channel("book", ChannelState::Closed), 600, "");
}

#[test]
fn a_deposit_is_finished_once_whoever_began_it_had_time() {
    let pending = PendingDeposit {
        named: Fingerprint::of("deposit", &[]),
        atoms: 10,
        transfer: TransferId::derive(b"a", "deposit"),
        order: Some("0x76".into()),
    };
    for state in [ChannelState::Opening, ChannelState::Open] {
        let waiting = Channel { pending: Some(pending.clone()), ..channel("chain", state) };
        check(&waiting, 5, "finish");
    }
    let opening = Channel { pending: Some(pending), ..channel("chain", ChannelState::Opening) };
    check(&opening, 4, "");
    check(&channel("unconfigured", ChannelState::Open), 600, "");
}

/// S-09: what the payer has asked the rail to close is settled in time, and what was to be closed is.
#[test]
fn what_is_to_be_closed_is_closed_at_once() {
    let until = START.after(Duration::from_mins(15));
    check(&channel("chain", ChannelState::CloseRequested { until }), 0, "close");
    check(&channel("chain", ChannelState::Closing), 0, "close");
}

#[test]
fn a_rail_is_followed_several_times_within_what_vouchers_wait_for() {
    let open = channel("chain", ChannelState::Open);
    let mut tending = Tending::default();
    assert_eq!(due(&tending, &open, 0), "follow", "at the start, nobody has heard of it");
    tending.asked.insert(open.facts.id.clone(), START);
    assert_eq!((due(&tending, &open, 14), due(&tending, &open, 15)), ("", "follow"));
    // A rail that tells of all its channels is asked about one when it has told something of it.
    tending.listened.insert("chain".into(), START);
    assert_eq!(due(&tending, &open, 1_000), "");
    tending.asked.clear();
    assert_eq!(due(&tending, &open, 1_000), "follow");
    check(&channel("book", ChannelState::Open), 300, "");
}

#[test]
fn what_came_to_nothing_waits_longer_each_time() {
    let closing = channel("chain", ChannelState::Closing);
    let id = closing.facts.id.clone();
    let mut tending = Tending::default();
    tending.came_to(&id, false, START);
    assert_eq!((due(&tending, &closing, 0), due(&tending, &closing, 1)), ("", "close"));
    tending.came_to(&id, false, START);
    assert_eq!((due(&tending, &closing, 1), due(&tending, &closing, 2)), ("", "close"));
    for _ in 0..20 {
        tending.came_to(&id, false, START);
    }
    assert_eq!((due(&tending, &closing, 59), due(&tending, &closing, 60)), ("", "close"));
    tending.came_to(&id, true, START);
    assert_eq!(due(&tending, &closing, 0), "close");
}

/// S-09: half of the time that the payer has to wait is left when somebody is told that a channel is not
/// closed yet; and whoever closes one by itself is not waited for longer than ten minutes.
#[test]
fn a_close_that_is_late_is_told_of_once() {
    let until = START.after(Duration::from_mins(15));
    let asked = Closing { since: START, until: Some(until), is_overdue: false };
    let state = ChannelState::CloseRequested { until };
    let requested = Channel { closing: Some(asked), ..channel("chain", state) };
    check(&requested, 7 * 60 + 29, "close");
    check(&requested, 7 * 60 + 30, "warn");
    let own = Closing { until: None, ..asked };
    let closing = Channel { closing: Some(own), ..channel("chain", ChannelState::Closing) };
    check(&closing, 599, "close");
    check(&closing, 600, "warn");
    let told = Closing { is_overdue: true, ..own };
    check(&Channel { closing: Some(told), ..closing }, 600, "close");
    // Whatever comes to nothing meanwhile, it is told of in time.
    let mut tending = Tending::default();
    let id = requested.facts.id.clone();
    let next_at = START.after(Duration::from_hours(1));
    tending.tried.insert(id, Tried { pause: Duration::from_mins(1), next_at });
    assert_eq!(due(&tending, &requested, 7 * 60 + 30), "warn");
}

/// What was taken is settled by how much it is, how old, and how much of the deposit, and never for less
/// than is worth it; where the book is the rail, there is nothing to settle.
#[test]
fn what_was_taken_is_settled_by_threshold_age_and_risk() {
    let usd = AssetId::new("usd").unwrap();
    let of = |atoms: u128| [(usd.clone(), atoms)].into();
    let owing = |spent: u128| Channel {
        accepted: spent,
        spent,
        deposit: 1_000,
        voucher: Some(Voucher {
            channel: ChannelId::new("chain", "a").unwrap(),
            cumulative: spent,
            signature: "s".into(),
        }),
        owed_since: Some(START),
        facts: ChannelFacts {
            cash: Some("clearing/chain/usd".parse().unwrap()),
            ..channel("chain", ChannelState::Open).facts
        },
        ..channel("chain", ChannelState::Open)
    };
    let check = |settling: Settling, channel: &Channel, after_s: u64, planned: &str| {
        let mut tending = Tending::default();
        tending.asked.insert(channel.facts.id.clone(), START);
        tending.listened.insert("chain".into(), START);
        tending.settle(&settling);
        assert_eq!(due(&tending, channel, after_s), planned, "{settling:?} {channel:?}");
    };
    let above = || Settling { above: of(100), ..Settling::default() };
    check(above(), &owing(99), 1_000_000, "");
    check(above(), &owing(100), 0, "settle");
    let settled = Channel { settled: 50, ..owing(149) };
    check(above(), &settled, 0, "");
    let after = || Settling { after: Some(Duration::from_mins(1)), ..Settling::default() };
    check(after(), &owing(1), 59, "");
    check(after(), &owing(1), 60, "settle");
    let risk = || Settling { at_percent: Some(80), ..Settling::default() };
    check(risk(), &owing(799), 0, "");
    check(risk(), &owing(800), 0, "settle");
    let topped_up = Channel { deposit: 2_000, ..owing(800) };
    check(risk(), &topped_up, 0, "");
    check(Settling { min: of(801), ..risk() }, &owing(800), 0, "");
    check(Settling { min: of(800), ..risk() }, &owing(800), 0, "settle");
    // Where no voucher covers what was taken, there is nothing to settle by.
    let ahead = Channel { spent: 900, ..owing(1_000) };
    check(risk(), &ahead, 0, "");
    let own = channel("book", ChannelState::Open);
    let own = Channel { accepted: 800, spent: 800, deposit: 1_000, ..own };
    check(Settling { at_percent: Some(1), ..above() }, &own, 1_000_000, "");
    let closing = Channel { state: ChannelState::Closing, ..owing(800) };
    check(risk(), &closing, 0, "close");
}
