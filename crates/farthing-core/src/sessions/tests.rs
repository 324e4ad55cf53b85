//! What is planned for channels, and when.

use std::time::Duration;

use farthing_ledger::{
    Account, Channel, ChannelFacts, ChannelId, ChannelState, Fingerprint, Holder, PendingDeposit,
    TraceId, TransferId,
};
use farthing_money::{AssetId, Timestamp};

use super::{Errand, Tending};
use crate::SessionRules;

const START: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

const BOOK: SessionRules =
    SessionRules { authorised: "", settled: "", captures_spent: true, heard_within: None };

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
        pending: None,
        opened_at: START,
        used_at: START,
    }
}

#[track_caller]
fn check(channel: &Channel, after_s: u64, planned: &str) {
    let mut tending = Tending::default();
    tending.close_after(Some(Duration::from_mins(10)));
    let rules = |method: &str| match method {
        "book" => Some(&BOOK),
        "chain" => Some(&CHAIN),
        _ => None,
    };
    let now = START.after(Duration::from_secs(after_s));
    let channels = [channel.clone()];
    let errands = tending.plan(&channels, rules, now);
    let words = errands.iter().map(|errand| match errand {
        Errand::Finish(_) => "finish",
        Errand::Close(_) => "close",
        Errand::Follow(_) => "follow",
    });
    assert_eq!(words.collect::<Vec<_>>().join(" "), planned, "{channel:?} after {after_s} s");
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
    let channels = [open.clone()];
    let due = |tending: &Tending, after_s| {
        let now = START.after(Duration::from_secs(after_s));
        tending.plan(&channels, |_| Some(&CHAIN), now).len()
    };
    assert_eq!(due(&tending, 0), 1, "at the start, nobody has heard of it");
    tending.asked.insert(open.facts.id, START);
    assert_eq!((due(&tending, 14), due(&tending, 15)), (0, 1));
    check(&channel("book", ChannelState::Open), 300, "");
}

#[test]
fn what_came_to_nothing_waits_longer_each_time() {
    let closing = channel("chain", ChannelState::Closing);
    let id = closing.facts.id.clone();
    let mut tending = Tending::default();
    let channels = [closing];
    let due = |tending: &Tending, after_s| {
        let now = START.after(Duration::from_secs(after_s));
        tending.plan(&channels, |_| Some(&CHAIN), now).len()
    };
    tending.came_to(&id, false, START);
    assert_eq!((due(&tending, 0), due(&tending, 1)), (0, 1));
    tending.came_to(&id, false, START);
    assert_eq!((due(&tending, 1), due(&tending, 2)), (0, 1));
    tending.came_to(&id, true, START);
    assert_eq!(due(&tending, 0), 1);
}
