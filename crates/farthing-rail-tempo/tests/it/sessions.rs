//! The life of channels on a real chain: opened, topped up, settled, closed, and left.

use alloy_primitives::B256;
use farthing_core::{PayError, SettleError};
use farthing_rail_tempo::TempoPayer;
use farthing_rail_tempo::session::{
    Action, ChannelEvent, Errand, Happened, Leave, Outcome, Revert, Take, Unfit, Voucher, Watch,
};
use serde_json::{Value, json};

use crate::channels::{PAYEE, Town, account, done};
use crate::sponsored::{SPONSOR, limits, sponsor};
use crate::world::{Fault, Proxy, nodes, tokens};

/// A quarter of an hour, which the payee has.
const GRACE_S: u64 = 15 * 60;

fn happened(events: &[ChannelEvent]) -> Vec<Happened> {
    events.iter().map(|it| it.what).collect()
}

/// S-14, TSE.S04, SES.P01: open, three rounds, a settlement, a close. One opening and one close stand on
/// the chain, and everybody holds what they should, to the atom.
#[tokio::test]
async fn a_channel_lives_from_its_opening_to_its_close() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (before, earned) = (town.holds(account(2)).await, town.holds(account(PAYEE)).await);
    let (opening, credited) = town.open(&payer, 10_000).await;
    let state = credited.state.what;
    assert!(state.is_open() && state.settled == 0 && credited.cost.is_none());
    let parties = state.parties.unwrap();
    assert_eq!((parties.payer, parties.payee), (account(2), account(PAYEE)));
    let descriptor = opening.descriptor;
    let after_open = town.holds(account(2)).await;
    let mut last = None;
    for owed in [25, 50, 75] {
        last = Some(town.voucher(&payer, &descriptor, owed));
    }
    let outcome = town.settle(descriptor, last.unwrap()).await;
    let settled = Happened::Settled { delta: 75, settled: 75 };
    assert_eq!(happened(&done(&outcome).events), [settled]);
    let fees = done(&outcome).cost.as_ref().map_or(0, farthing_money::Amount::atoms);
    let outcome = town.close(descriptor, town.voucher(&payer, &descriptor, 100)).await;
    let closed = Happened::Closed { to_payee: 100, to_payer: 9_900 };
    assert_eq!(happened(&done(&outcome).events), [closed]);
    let fees = fees + done(&outcome).cost.as_ref().map_or(0, farthing_money::Amount::atoms);
    assert!(fees > 0);
    assert_eq!(town.holds(account(PAYEE)).await, earned + 100 - fees);
    assert_eq!(town.holds(account(2)).await, after_open + 9_900);
    assert!(before - after_open >= 10_000, "the deposit, and the fee of its opening");
    assert_eq!(town.holds(town.escrow.address).await, 0);
    let over = town.state(opening.channel).await.unwrap();
    assert!(over.is_finalized && over.settled == 100);
}

/// TSE.S03, TSE.S05, X-03: a sponsored payer deposits to the atom and pays no fee, for the opening and for
/// the top-up; both escrows' widths of a top-up are read.
#[tokio::test]
async fn a_sponsored_payer_deposits_and_pays_no_fee() {
    let Some(town) = Town::start().await else { return };
    let payer = TempoPayer::new(&[0x77; 32], town.nodes(), tokens()).unwrap();
    town.world.leave(payer.address(), 15_000).await;
    let terms = farthing_rail_tempo::session::SessionTerms { sponsored: true, ..town.terms() };
    let budget = farthing_rail_tempo::SponsorLimits { per_payment: 1_000_000, ..limits() };
    let seller = town.channels_over(town.nodes(), Some(sponsor(budget)));
    let fees = town.holds(account(SPONSOR)).await;
    let opening = payer.open_channel(&terms, 10_000, 0, town.salt()).await.unwrap();
    assert!(opening.payload["transaction"].as_str().unwrap().starts_with("0x78"));
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    let now_s = town.channels().states(&[]).await.unwrap().head.time_s;
    assert_eq!(seller.permits(&funded, now_s), Ok(()));
    let credited = seller.fund(&funded).await.unwrap();
    assert!(credited.cost.is_some());
    assert_eq!(town.holds(payer.address()).await, 5_000);
    let top_up = payer.top_up_channel(&terms, &opening.descriptor, 5_000).await.unwrap();
    let funded = town.read_top_up(&top_up, &terms).unwrap();
    let credited_again = seller.fund(&funded).await.unwrap();
    assert_eq!(credited_again.state.what.deposit, 15_000);
    assert_eq!(town.holds(payer.address()).await, 0);
    let paid = [&credited, &credited_again].map(|it| it.cost.as_ref().unwrap().atoms());
    assert_eq!(fees - town.holds(account(SPONSOR)).await, paid.iter().sum::<u128>());
    // Whoever asks again is told the same, and nothing moves.
    let again = seller.fund(&funded).await;
    assert!(again.is_err() || again.as_ref().unwrap().state.what.deposit == 15_000);
    assert_eq!(town.state(opening.channel).await.unwrap().deposit, 15_000);
    // Without a sponsor it is nobody's to hand over.
    let bare = town.terms();
    let refused = town.read_open(&opening.payload, &bare).unwrap_err();
    assert!(matches!(refused, Unfit::Transaction(_)));
    assert_eq!(town.channels().fund(&funded).await.unwrap_err(), SettleError::Declined);
}

/// X-03, TSE.S03: what would fail is found out before the sponsor pays for it.
#[tokio::test]
async fn a_sponsor_of_channels_is_not_drained() {
    let Some(town) = Town::start().await else { return };
    let payer = TempoPayer::new(&[0x78; 32], town.nodes(), tokens()).unwrap();
    town.world.leave(payer.address(), 10_000).await;
    let terms = farthing_rail_tempo::session::SessionTerms { sponsored: true, ..town.terms() };
    let budget = farthing_rail_tempo::SponsorLimits { per_payment: 1_000_000, ..limits() };
    let seller = town.channels_over(town.nodes(), Some(sponsor(budget)));
    let opening = payer.open_channel(&terms, 10_000, 0, town.salt()).await.unwrap();
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    let fees = town.holds(account(SPONSOR)).await;
    town.world.leave(payer.address(), 9_999).await;
    assert_eq!(seller.fund(&funded).await.unwrap_err(), SettleError::Declined);
    assert_eq!(town.holds(account(SPONSOR)).await, fees);
    town.world.leave(payer.address(), 10_000).await;
    assert!(seller.fund(&funded).await.is_ok(), "the control");
    // What one opening may cost is known beforehand.
    let now_s = town.channels().states(&[]).await.unwrap().head.time_s;
    let tiny = farthing_rail_tempo::SponsorLimits { per_payment: 1, ..limits() };
    let seller = town.channels_over(town.nodes(), Some(sponsor(tiny)));
    assert!(seller.permits(&funded, now_s).is_err());
}

/// S-19: one balance does not stand behind two channels.
#[tokio::test]
async fn one_balance_opens_one_channel() {
    let Some(town) = Town::start().await else { return };
    let payer = TempoPayer::new(&[0x79; 32], town.nodes(), tokens()).unwrap();
    town.world.leave(payer.address(), 500_000).await;
    let terms = town.terms();
    let first = payer.open_channel(&terms, 300_000, 0, town.salt()).await.unwrap();
    let second = payer.open_channel(&terms, 300_000, 0, town.salt()).await.unwrap();
    let (one, two) = (
        town.read_open(&first.payload, &terms).unwrap(),
        town.read_open(&second.payload, &terms).unwrap(),
    );
    let seller = town.channels();
    let (one, two) = tokio::join!(seller.fund(&one), seller.fund(&two));
    let opened = [one.is_ok(), two.is_ok()];
    assert_eq!(opened.iter().filter(|it| **it).count(), 1, "{one:?} {two:?}");
    let states = seller.states(&[first.channel, second.channel]).await.unwrap();
    assert_eq!(states.what.iter().flatten().count(), 1);
    // And what the wallet does not hold it does not sign.
    let refused = payer.open_channel(&terms, 300_000, 0, town.salt()).await.unwrap_err();
    assert_eq!(refused, PayError::Refused);
}

/// S-05, SES.P03, EVS.P07: what was settled is never settled again, and a close takes no less.
#[tokio::test]
async fn a_settlement_goes_up_and_never_down() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let descriptor = opening.descriptor;
    let voucher = |owed| town.voucher(&payer, &descriptor, owed);
    done(&town.settle(descriptor, voucher(500)).await);
    for owed in [499, 500] {
        let outcome = town.settle(descriptor, voucher(owed)).await;
        assert_eq!(outcome, Outcome::Refused(Revert::NotIncreasing));
    }
    let more = town.settle(descriptor, voucher(1_001)).await;
    assert_eq!(more, Outcome::Refused(Revert::Exceeds));
    assert_eq!(town.state(opening.channel).await.unwrap().settled, 500);
    done(&town.settle(descriptor, voucher(501)).await);
    // Whoever takes nothing more needs no voucher for it.
    let errand = Errand { descriptor, take: Take::Release { settled: 501 } };
    let outcome = town.teller().run(&town.escrow, &[errand]).await.remove(0);
    let closed = Happened::Closed { to_payee: 501, to_payer: 499 };
    assert_eq!(happened(&done(&outcome).events), [closed]);
    // S-08: what is over stays over.
    let late = town.settle(descriptor, voucher(600)).await;
    assert_eq!(late, Outcome::Refused(Revert::Finalized));
}

/// S-03, EVS.P01: a channel that was there cannot be opened again, open or over.
#[tokio::test]
async fn an_id_is_used_once() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let salt = B256::repeat_byte(0xee);
    let terms = town.terms();
    let opening = payer.open_channel(&terms, 1_000, 0, salt).await.unwrap();
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    town.channels().fund(&funded).await.unwrap();
    let again = payer.open_channel(&terms, 1_000, 0, salt).await.unwrap_err();
    assert_eq!(again, PayError::Refused);
    done(&town.close(opening.descriptor, town.voucher(&payer, &opening.descriptor, 400)).await);
    let again = payer.open_channel(&terms, 1_000, 0, salt).await.unwrap_err();
    assert_eq!(again, PayError::Refused);
    let control = payer.open_channel(&terms, 1_000, 0, town.salt()).await;
    assert!(control.is_ok(), "the control");
}

/// S-16, SES.P05, SES.C03: a payer whose seller stays silent gets the rest after the payee's time, and
/// not before.
#[tokio::test]
async fn a_payer_leaves_without_the_seller() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000_000).await;
    let descriptor = opening.descriptor;
    done(&town.settle(descriptor, town.voucher(&payer, &descriptor, 300_000)).await);
    let leave = |what| payer.leave(&town.escrow, &descriptor, what);
    // Nobody withdraws who has not asked, and nobody asks for another.
    assert_eq!(leave(Leave::Withdraw).await, Err(SettleError::Declined));
    let stranger = town.world.payer(3);
    let other = stranger.leave(&town.escrow, &descriptor, Leave::RequestClose).await;
    assert_eq!(other, Err(SettleError::Declined));
    assert_eq!(town.channels().grace_s().await, Ok(GRACE_S));
    let events = leave(Leave::RequestClose).await.unwrap();
    let [ChannelEvent { what: Happened::CloseRequested { grace_end_s }, .. }] = events[..] else {
        panic!("{events:?}")
    };
    let state = town.state(opening.channel).await.unwrap();
    assert!(!state.is_open());
    assert_eq!(state.close_requested_at_s, Some(grace_end_s - GRACE_S));
    town.world.wait(GRACE_S - 60).await;
    assert_eq!(leave(Leave::Withdraw).await, Err(SettleError::Declined));
    town.world.wait(120).await;
    let before = town.holds(account(2)).await;
    let events = leave(Leave::Withdraw).await.unwrap();
    let closed = Happened::Closed { to_payee: 300_000, to_payer: 700_000 };
    assert_eq!(happened(&events), [closed]);
    let fee = before + 700_000 - town.holds(account(2)).await;
    assert!((1..700_000).contains(&fee), "{fee}");
    assert_eq!(town.holds(town.escrow.address).await, 0);
    assert_eq!(leave(Leave::Withdraw).await, Err(SettleError::Declined), "and only once");
}

/// S-15, S-17, S-09: the payer asks for the rest as of an old state; the seller comes with a newer voucher
/// in its time, and that counts.
#[tokio::test]
async fn the_newer_voucher_wins() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let descriptor = opening.descriptor;
    done(&town.settle(descriptor, town.voucher(&payer, &descriptor, 100)).await);
    let newest = town.voucher(&payer, &descriptor, 900);
    payer.leave(&town.escrow, &descriptor, Leave::RequestClose).await.unwrap();
    town.world.wait(GRACE_S - 60).await;
    let outcome = town.close(descriptor, newest).await;
    let closed = Happened::Closed { to_payee: 900, to_payer: 100 };
    assert_eq!(happened(&done(&outcome).events), [closed]);
    let refused = payer.leave(&town.escrow, &descriptor, Leave::Withdraw).await;
    assert_eq!(refused, Err(SettleError::Declined));
}

/// SES.P04: a top-up takes a request to close back.
#[tokio::test]
async fn a_top_up_takes_a_request_to_close_back() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let descriptor = opening.descriptor;
    payer.leave(&town.escrow, &descriptor, Leave::RequestClose).await.unwrap();
    assert!(!town.state(opening.channel).await.unwrap().is_open());
    let terms = town.terms();
    let top_up = payer.top_up_channel(&terms, &descriptor, 500).await.unwrap();
    let funded = town.read_top_up(&top_up, &terms).unwrap();
    assert_eq!((funded.channel, funded.payer()), (opening.channel, account(2)));
    let credited = town.channels().fund(&funded).await.unwrap();
    assert!(credited.state.what.is_open() && credited.state.what.deposit == 1_500);
}

/// S-20: one bad voucher among many is left out, and the rest are settled exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_voucher_does_not_hold_up_the_others() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let mut errands = Vec::new();
    for _ in 0..12 {
        let (opening, _) = town.open(&payer, 1_000).await;
        let voucher = town.voucher(&payer, &opening.descriptor, 100);
        errands.push(Errand { descriptor: opening.descriptor, take: Take::Settle(voucher) });
    }
    let stranger = town.world.payer(3);
    let forged = stranger.voucher(&town.escrow, &errands[5].descriptor, 100).unwrap();
    let Ok(Action::Voucher(forged)) = Action::read(town.escrow.family, &forged) else { panic!() };
    errands[5].take = Take::Settle(forged.voucher);
    // Two that are in order are closed at the same time.
    let Take::Settle(voucher) = errands[7].take.clone() else { panic!() };
    errands[7].take = Take::Close { capture: voucher.cumulative, voucher };
    let earned = town.holds(account(PAYEE)).await;
    let outcomes = town.teller().run(&town.escrow, &errands).await;
    let bad: Vec<usize> = (0..12).filter(|at| !matches!(outcomes[*at], Outcome::Done(_))).collect();
    assert_eq!(bad, [5]);
    assert_eq!(outcomes[5], Outcome::Refused(Revert::Signature));
    let taken = done(&outcomes[0]);
    assert_eq!(taken.events.len(), 11, "all in one transaction");
    let fee = taken.cost.as_ref().unwrap().atoms();
    assert_eq!(town.holds(account(PAYEE)).await, earned + 1_100 - fee);
    // The same again takes nothing, and costs nothing.
    let again = town.teller().run(&town.escrow, &errands).await;
    assert!(again.iter().all(|it| matches!(it, Outcome::Refused(_))), "{again:?}");
    assert_eq!(town.holds(account(PAYEE)).await, earned + 1_100 - fee);
}

/// S-01, S-21: nobody but the payee takes from a channel, whatever voucher they have.
#[tokio::test]
async fn only_the_payee_takes() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let voucher = town.voucher(&payer, &opening.descriptor, 100);
    let settle = Errand { descriptor: opening.descriptor, take: Take::Settle(voucher.clone()) };
    let close = Errand {
        descriptor: opening.descriptor,
        take: Take::Close { voucher: voucher.clone(), capture: 100 },
    };
    let stranger = Town::teller_over(&town.world.chain.url, 5);
    let outcomes = stranger.run(&town.escrow, &[settle, close]).await;
    assert_eq!(outcomes, vec![Outcome::Refused(Revert::NotYours); 2]);
    done(&town.settle(opening.descriptor, voucher).await);
}

/// F-07, F-08: an opening whose answer was lost is found again by whoever asks, and opens one channel.
#[tokio::test]
async fn a_lost_answer_does_not_lose_a_channel() {
    let Some(town) = Town::start().await else { return };
    let proxy = Proxy::start(&town.world).await;
    let payer = town.world.payer(2);
    let terms = town.terms();
    let seller = town.channels_over(nodes(&[&proxy.url]), None);
    let opening = payer.open_channel(&terms, 1_000, 0, town.salt()).await.unwrap();
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    // A receipt without the event opens nothing.
    proxy.turn(Fault::Lies);
    assert_eq!(seller.fund(&funded).await.unwrap_err(), SettleError::Unknown);
    proxy.turn(Fault::Busy);
    assert_eq!(seller.fund(&funded).await.unwrap_err(), SettleError::Unsent);
    assert_eq!(seller.inquire(&funded).await.unwrap_err(), SettleError::Unsent);
    proxy.turn(Fault::Loses);
    assert!(seller.fund(&funded).await.is_ok(), "it is found on the chain");
    proxy.turn(Fault::None);
    let found = seller.inquire(&funded).await.unwrap();
    let again = seller.fund(&funded).await.unwrap();
    assert_eq!(found.transaction, again.transaction);
    assert_eq!(found.state.what, again.state.what);
    // One that was dropped is over when the chain can take it no more.
    let opening = payer.open_channel(&terms, 1_000, 0, town.salt()).await.unwrap();
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    assert_eq!(seller.inquire(&funded).await.unwrap_err(), SettleError::Unsent);
    town.world.wait(60).await;
    assert_eq!(seller.inquire(&funded).await.unwrap_err(), SettleError::Declined);
    assert_eq!(town.state(opening.channel).await, None);
}

/// S-10: an order that gets stuck is over before another is signed; taking the same twice takes it once.
#[tokio::test]
async fn a_stuck_order_is_signed_anew_when_it_is_over() {
    let Some(town) = Town::start().await else { return };
    let proxy = Proxy::start(&town.world).await;
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let voucher = town.voucher(&payer, &opening.descriptor, 100);
    let errand = Errand { descriptor: opening.descriptor, take: Take::Settle(voucher) };
    let teller = Town::teller_over(&proxy.url, PAYEE);
    let (orders, left_out) =
        teller.prepare(&town.escrow, std::slice::from_ref(&errand)).await.unwrap();
    assert!(orders.len() == 1 && left_out.is_empty());
    proxy.turn(Fault::Drops);
    let stuck = teller.carry_out(&town.escrow, &orders[0].raw).await;
    assert_eq!(stuck, Err(SettleError::Unknown), "it may be mined yet");
    town.world.wait(60).await;
    let over = teller.carry_out(&town.escrow, &orders[0].raw).await;
    assert_eq!(over, Err(SettleError::Declined), "and now it cannot be");
    proxy.turn(Fault::None);
    let outcome = teller.run(&town.escrow, std::slice::from_ref(&errand)).await.remove(0);
    assert_eq!(happened(&done(&outcome).events), [Happened::Settled { delta: 100, settled: 100 }]);
    // An order that is carried out twice was carried out once.
    let more = town.voucher(&payer, &opening.descriptor, 150);
    let errand = Errand { take: Take::Settle(more), ..errand };
    let (orders, _) = teller.prepare(&town.escrow, &[errand]).await.unwrap();
    let first = teller.carry_out(&town.escrow, &orders[0].raw).await.unwrap();
    assert_eq!(teller.carry_out(&town.escrow, &orders[0].raw).await, Ok(first));
    assert_eq!(town.state(opening.channel).await.unwrap().settled, 150);
}

/// SES.S11, S-09: a watch tells what happened, up to which block, and when that was.
#[tokio::test]
async fn a_watch_says_how_far_it_has_seen() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let mut watch = Watch::new(town.nodes(), town.escrow, account(PAYEE), 0);
    assert_eq!(watch.look().await.unwrap().events, []);
    let (opening, _) = town.open(&payer, 1_000).await;
    let opened = watch.look().await.unwrap();
    assert_eq!(opened.events.len(), 1);
    assert!(opened.events[0].block <= opened.head.number && !opened.went_back);
    assert!(matches!(opened.events[0].event.what, Happened::Opened { deposit: 1_000, .. }));
    done(&town.settle(opening.descriptor, town.voucher(&payer, &opening.descriptor, 10)).await);
    payer.leave(&town.escrow, &opening.descriptor, Leave::RequestClose).await.unwrap();
    let asked = watch.look().await.unwrap();
    let whats: Vec<Happened> = asked.events.iter().map(|it| it.event.what).collect();
    assert!(matches!(
        whats[..],
        [Happened::Settled { settled: 10, .. }, Happened::CloseRequested { .. }]
    ));
    // Another payee's channels are not told of.
    let mut other = Watch::new(town.nodes(), town.escrow, account(5), 0);
    assert_eq!(other.look().await.unwrap().events, []);
    // Nothing new is told, and still the head moves on.
    town.world.wait(10).await;
    let quiet = watch.look().await.unwrap();
    assert!(quiet.events.is_empty() && quiet.head.time_s >= asked.head.time_s + 10);
    assert_eq!(watch.seen(), Some(quiet.head));
}

/// A chain that takes blocks back is followed back, and the watch says so.
#[tokio::test]
async fn a_watch_notices_that_the_chain_went_back() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let mut watch = Watch::new(town.nodes(), town.escrow, account(PAYEE), 0);
    let snapshot = town.world.ask("evm_snapshot", json!([])).await["result"].clone();
    let (opening, _) = town.open(&payer, 1_000).await;
    let first = watch.look().await.unwrap();
    assert!(first.events.len() == 1 && !first.went_back);
    let back = town.world.ask("evm_revert", json!([snapshot])).await;
    assert_eq!(back["result"], Value::Bool(true));
    assert_eq!(town.state(opening.channel).await, None);
    town.world.wait(30).await;
    let second = watch.look().await.unwrap();
    assert!(second.went_back && second.events.is_empty());
    let (_, _) = town.open(&payer, 2_000).await;
    let third = watch.look().await.unwrap();
    assert!(third.events.len() == 1 && !third.went_back, "the control");
}

/// S-01, SES.S02: an access key signs vouchers as itself, and the channel names it; the account's own key
/// does not sign for it then.
#[tokio::test]
async fn an_access_key_signs_vouchers_as_itself() {
    let Some(town) = Town::start().await else { return };
    let agent = TempoPayer::new(&[0x5a; 32], town.nodes(), tokens()).unwrap();
    crate::unpaid::authorise(&town.world, agent.address()).await;
    let agent = agent.acting_for(account(2));
    let (opening, _) = town.open(&agent, 1_000).await;
    assert_eq!(opening.descriptor.payer, account(2));
    assert_ne!(opening.descriptor.signer(), account(2));
    let voucher = town.voucher(&agent, &opening.descriptor, 100);
    let root = town.world.payer(2).voucher(&town.escrow, &opening.descriptor, 200).unwrap();
    let Ok(Action::Voucher(root)) = Action::read(town.escrow.family, &root) else { panic!() };
    assert!(root.voucher.verify(&town.escrow, opening.descriptor.signer()).is_err());
    let refused = town.settle(opening.descriptor, root.voucher).await;
    assert_eq!(refused, Outcome::Refused(Revert::Signature));
    done(&town.settle(opening.descriptor, voucher).await);
}

/// B-13, SES.P02: the contract itself takes one spelling of a signature and no twin of it.
#[tokio::test]
async fn the_escrow_takes_one_spelling() {
    let Some(town) = Town::start().await else { return };
    let payer = town.world.payer(2);
    let (opening, _) = town.open(&payer, 1_000).await;
    let voucher = town.voucher(&payer, &opening.descriptor, 100);
    let with = |bytes: Vec<u8>| Voucher { signature: bytes.into(), ..voucher.clone() };
    let bytes = voucher.signature.to_vec();
    let order = alloy_primitives::U256::from_be_slice(&alloy_primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let s = alloy_primitives::U256::from_be_slice(&bytes[32..64]);
    let twin = [&bytes[..32], &(order - s).to_be_bytes::<32>(), &[55 - bytes[64]]].concat();
    for bad in [twin, [&bytes[..64], &[0]].concat(), vec![0; 65], vec![0; 64], vec![]] {
        let outcome = town.settle(opening.descriptor, with(bad)).await;
        assert_eq!(outcome, Outcome::Refused(Revert::Signature));
    }
    let mut compact = bytes[..64].to_vec();
    compact[32] |= (bytes[64] - 27) << 7;
    done(&town.settle(opening.descriptor, with(compact)).await);
    let more = town.voucher(&payer, &opening.descriptor, 200);
    done(&town.settle(opening.descriptor, more).await);
}
