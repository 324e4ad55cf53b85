//! Sessions, as every store must keep them.

use std::sync::Arc;

use farthing_ledger::{
    Channel, ChannelDeposit, ChannelError, ChannelFacts, ChannelId, ChannelOpening, ChannelSeen,
    ChannelState, ChannelStep, ClaimRequest, Fingerprint, Money, PaymentId, Proof, Settlement,
    Source, Voucher, VoucherClaim,
};

use super::{START, Stores, Story, asset, challenge, holder, key, purchase, sums};

/// Alice's channel called `name`.
///
/// # Panics
///
/// If the name cannot name a channel.
#[must_use]
pub fn channel(name: &str) -> ChannelId {
    ChannelId::new("prepaid", name).unwrap()
}

/// Opens it with `atoms` of alice's account.
#[must_use]
pub fn opening(name: &str, atoms: u128) -> ChannelStep {
    ChannelStep::Open(Box::new(ChannelOpening {
        facts: ChannelFacts {
            id: channel(name),
            trace: farthing_ledger::TraceId::new(START, [9; 10]),
            payer: "alice".into(),
            payee: holder("seller"),
            asset: asset(),
            signer: "alice".into(),
            binding: Fingerprint::of("binding", &[]),
            inquiry: None,
            cash: None,
        },
        deposit: deposit(&format!("open {name}"), atoms),
        voucher: None,
    }))
}

fn deposit(name: &str, atoms: u128) -> ChannelDeposit {
    let keep_until = Some(START.after(std::time::Duration::from_mins(5)));
    ChannelDeposit {
        atoms,
        from: Source::Key(key("alice")),
        money: Money::Book,
        order: None,
        proofs: vec![Proof { fingerprint: challenge(name), keep_until }],
    }
}

/// Deposits `atoms` more, once for each `deposit_name`.
#[must_use]
pub fn top_up(name: &str, deposit_name: &str, atoms: u128) -> ChannelStep {
    ChannelStep::TopUp {
        channel: channel(name),
        payer: "alice".into(),
        binding: Fingerprint::of("binding", &[]),
        deposit: Box::new(deposit(deposit_name, atoms)),
    }
}

fn voucher(name: &str, cumulative: u128) -> VoucherClaim {
    VoucherClaim {
        voucher: Voucher { channel: channel(name), cumulative, signature: "signed".into() },
        signer: "alice".into(),
        binding: Fingerprint::of("binding", &[]),
        delta_min: 0,
        heard_since: None,
    }
}

/// A request to buy `what` for `atoms` with the voucher over `cumulative` of the channel called `name`.
#[must_use]
pub fn voucher_purchase(name: &str, cumulative: u128, what: &str, atoms: u128) -> ClaimRequest {
    let identity = channel(name).voucher(cumulative);
    let mut request = purchase(what, atoms);
    request.payment.id = PaymentId::of(&identity);
    request.payment.payer = String::new();
    request.proofs[0].fingerprint = identity;
    request.legs[0].from = Source::Account(channel(name).account(&asset()));
    request.voucher = Some(Box::new(voucher(name, cumulative)));
    request
}

/// Closes it on the seller's side.
#[must_use]
pub fn closing(name: &str) -> ChannelStep {
    ChannelStep::Close { channel: channel(name), voucher: None, exactly: false }
}

async fn step(story: &Story<'_>, step: ChannelStep) -> Result<Channel, ChannelError> {
    story.store().step(step, story.now).await
}

async fn there(story: &Story<'_>, name: &str) -> Channel {
    let channels = story.store().channels().await.unwrap();
    channels.into_iter().find(|it| it.facts.id == channel(name)).unwrap()
}

/// S-14, S-03: a deposit pays for many requests, over restarts, and the rest goes back; what was spent is
/// never forgotten.
pub async fn a_session_lives_through_restarts(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    assert_eq!(step(&story, opening("a", 100)).await.unwrap().deposit, 100);
    for round in 1..=3 {
        let request = voucher_purchase("a", round * 10, &format!("round {round}"), 10);
        assert_eq!(story.claim(request.clone()).await, "bought");
        story.restart();
        assert_eq!(there(&story, "a").await.spent, round * 10);
        assert_eq!(
            story.claim(request).await,
            "bought",
            "it is owed an answer, and moves no money"
        );
        let other = voucher_purchase("a", round * 10, "something else", 10);
        assert!(story.claim(other).await.contains("NotAdvancing"));
    }
    assert_eq!(
        step(&story, opening("a", 100)).await.unwrap().spent,
        30,
        "opening again is no step"
    );
    let closed = step(&story, closing("a")).await.unwrap();
    assert_eq!((closed.spent, closed.returned), (30, 70));
    story.restart();
    assert_eq!(there(&story, "a").await.state, ChannelState::Closed);
    let late = voucher_purchase("a", 40, "late", 10);
    assert!(story.claim(late).await.contains("Closed"));
    assert_eq!(step(&story, opening("a", 100)).await, Err(ChannelError::Closed));
    assert_eq!(sums(&story.end()), (970, 30));
}

/// S-07: of vouchers that come in any order at once, the highest counts, and no more is sold than paid.
pub async fn of_vouchers_at_once_the_highest_counts(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    step(&story, opening("a", 64)).await.unwrap();
    // Every voucher once, in an order that is none.
    let tasks: Vec<_> = (0..64_u128)
        .map(|at| {
            let (store, cumulative) = (Arc::clone(story.store()), (at * 37) % 64 + 1);
            let request = voucher_purchase("a", cumulative, &format!("{cumulative}"), 1);
            tokio::spawn(async move { store.claim(request, START).await.is_ok() })
        })
        .collect();
    let mut sold = 0_u128;
    for task in tasks {
        sold += u128::from(task.await.unwrap());
    }
    let channel = there(&story, "a").await;
    assert_eq!((channel.accepted, channel.spent), (64, sold));
    assert!((1..=64).contains(&sold));
    assert_eq!(sums(&story.end()), (936, sold));
}

/// S-11: a thousand payments and top-ups at once leave a deposit that is what was spent and what is left.
pub async fn deposits_are_conserved_in_a_race(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    step(&story, opening("a", 100)).await.unwrap();
    let tasks: Vec<_> = (0..1_000_u128)
        .map(|at| {
            let store = Arc::clone(story.store());
            tokio::spawn(async move {
                if at % 10 == 0 {
                    // Each of fifty top-ups comes twice.
                    let name = format!("top-up {}", at % 500);
                    return (store.step(top_up("a", &name, 2), START).await.is_ok(), 0);
                }
                let request = voucher_purchase("a", at, &format!("{at}"), 1);
                let sold = store.claim(request, START).await.is_ok();
                (sold, u128::from(sold))
            })
        })
        .collect();
    let mut sold = 0;
    for task in tasks {
        sold += task.await.unwrap().1;
    }
    let channel = there(&story, "a").await;
    assert_eq!(channel.deposit, 100 + 50 * 2, "a top-up counts once");
    assert_eq!(channel.spent, sold);
    assert_eq!(channel.deposit, channel.spent + channel.refundable());
    assert_eq!(sums(&story.end()), (800, sold));
}

/// S-09: what the payer has asked the rail to close sells nothing, after a restart as before.
pub async fn a_request_to_close_survives_a_restart(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    step(&story, opening("a", 100)).await.unwrap();
    let until = START.after(std::time::Duration::from_mins(15));
    let note = |close_requested| ChannelStep::Note {
        channel: channel("a"),
        seen: ChannelSeen { at: START, settled: 0, close_requested },
    };
    step(&story, note(Some(until))).await.unwrap();
    for _ in 0..2 {
        let claimed = story.claim(voucher_purchase("a", 10, "x", 10)).await;
        assert!(claimed.contains("Closed"), "{claimed}");
        story.restart();
    }
    step(&story, note(None)).await.unwrap();
    assert_eq!(story.claim(voucher_purchase("a", 10, "x", 10)).await, "bought", "the control");
    story.end();
}

/// S-13: what was taken for a stream is taken over a restart, is given back once, and is not given a second
/// time: whoever died in the middle of it leaves what it had given.
pub async fn a_stream_is_paid_for_over_a_restart(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    step(&story, opening("a", 100)).await.unwrap();
    let request = voucher_purchase("a", 30, "stream", 1);
    let payment = request.payment.id;
    assert_eq!(story.claim(request.clone()).await, "bought");
    let take = |atoms| ChannelStep::Take { channel: channel("a"), payment, atoms, units: 1 };
    let keep = |keep| ChannelStep::Return { channel: channel("a"), payment, keep };
    assert_eq!(step(&story, take(19)).await.unwrap().spent, 20);
    assert!(matches!(step(&story, take(11)).await, Err(ChannelError::Short(_))));
    story.restart();
    assert_eq!(there(&story, "a").await.spent, 20);
    let work = story.store().work().await.unwrap();
    assert_eq!(work.payments[0].open, farthing_ledger::Open::Given);
    let again = story.claim(request).await;
    assert!(again.starts_with("delivered"), "{again}");
    for _ in 0..2 {
        assert_eq!(step(&story, keep(9)).await.unwrap().spent, 10);
        story.restart();
    }
    let outcome = farthing_ledger::Outcome { status: 200 };
    story.store().record_delivery(payment, outcome, None, story.now).await.unwrap();
    assert!(story.store().work().await.unwrap().payments.is_empty());
    let closed = step(&story, closing("a")).await.unwrap();
    assert_eq!((closed.spent, closed.returned), (10, 90));
    story.end();
}

/// A deposit that a rail has not confirmed is there after a restart, with its order, and counts once.
pub async fn a_deposit_under_way_survives_a_restart(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let mut on_a_rail = opening("a", 100);
    let ChannelStep::Open(opening) = &mut on_a_rail else { unreachable!("it opens") };
    opening.facts.cash = Some("clearing/chain/usd".parse().unwrap());
    opening.deposit.money = Money::Rail;
    opening.deposit.from = Source::Account("clearing/escrow/usd".parse().unwrap());
    opening.deposit.order = Some("0x76".into());
    step(&story, on_a_rail).await.unwrap();
    story.restart();
    let found = there(&story, "a").await;
    let pending = found.pending.unwrap();
    assert_eq!((found.state, pending.order.as_deref()), (ChannelState::Opening, Some("0x76")));
    for _ in 0..2 {
        let settlement = Settlement::new("0xabc".into(), story.now);
        let confirm = ChannelStep::Confirm { channel: channel("a"), settlement };
        let channel = step(&story, confirm).await.unwrap();
        assert_eq!((channel.state, channel.deposit), (ChannelState::Open, 100));
        story.restart();
    }
    story.end();
}
