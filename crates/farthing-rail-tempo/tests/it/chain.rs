//! What a chain and its nodes can do to a payment.

use std::time::Duration;

use alloy_primitives::U256;
use farthing_core::{Paid, Presented, Recovered, Refusal, Rejection};
use farthing_ledger::Holder;
use farthing_rail_tempo::{Settings, Split, TempoRail};
use farthing_testkit::chain::{ALPHA_USD, DEVELOPMENT_ACCOUNTS, PATH_USD};
use farthing_testkit::rail::{Counter, Railway, assets, present};
use farthing_testkit::store::START;
use serde_json::json;

use crate::world::{Fault, Proxy, World, nodes, settings};

/// TCH.S01, TCH.S02, TCH.S07: the seller hands over what the buyer signed, and the money is there.
#[tokio::test]
async fn a_pulled_payment_moves_the_money() {
    let Some(world) = World::start().await else { return };
    let (railway, before) = (world.railway(), world.balance(1).await);
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(world.balance(1).await, before, "signing moves nothing");
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
    // Again, and nothing more happens.
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// what was pulled cannot be shown as pushed, nor what was pushed be pulled, for the same
/// challenge or for another.
#[tokio::test]
async fn a_transaction_pays_once() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let (pulled, shown) = pushed(&world, &railway, "a").await;
    assert_eq!(counter.take(&pulled).await, Ok(()), "the control");
    assert_eq!(counter.take(&shown).await, Err(Refusal::Replayed));
    let under_another = |it: &Presented| Presented { challenge: "b".into(), ..it.clone() };
    let refused = counter.take(&under_another(&pulled)).await;
    assert_eq!(refused, Err(Refusal::Payer(Rejection::Invalid)));
    assert_eq!(counter.take(&under_another(&shown)).await, Err(Refusal::Declined));
    assert_eq!(counter.earned(), 2_500);
    // And the other way around.
    let other = Counter::new(&railway.rail, &[]).await;
    assert_eq!(other.take(&shown).await, Ok(()), "the control");
    assert_eq!(other.take(&pulled).await, Err(Refusal::Replayed));
    assert_eq!(other.earned(), 2_500);
}

/// F-10: two sellers' nodes that settle one payment at once, and again afterwards, move the money
/// once and both find out that it moved.
#[tokio::test]
async fn settling_twice_moves_the_money_once() {
    let Some(world) = World::start().await else { return };
    let (railway, before) = (world.railway(), world.balance(1).await);
    let presented = railway.pay(&railway.invite("a")).await;
    let one = Counter::new(&railway.rail, &[]).await;
    let two = Counter::new(&railway.rail, &[]).await;
    let (first, second) = tokio::join!(one.take(&presented), two.take(&presented));
    assert_eq!((first, second), (Ok(()), Ok(())));
    let three = Counter::new(&railway.rail, &[]).await;
    assert_eq!(three.take(&presented).await, Ok(()));
    assert_eq!(world.balance(1).await, before + 2_500);
}

/// B-09: the name on a payment is the signer's, on the chain that is paid on, or there is none.
#[tokio::test]
async fn a_payment_is_its_signers() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let presented = railway.pay(&railway.invite("a")).await;
    let named = |source: Option<String>| {
        let renamed = Presented { source, ..presented.clone() };
        railway.rail.check(&renamed, START).map(|evidence| evidence.payer)
    };
    let signer = railway.payer.account();
    assert_eq!(named(Some(signer.clone())), Ok(signer.clone()), "the control");
    assert_eq!(named(None), Ok(signer.clone()));
    assert_eq!(named(Some(railway.stranger.account())), Err(Rejection::Invalid));
    let elsewhere = signer.replace("eip155:42431", "eip155:4217");
    assert_eq!(named(Some(elsewhere)), Err(Rejection::Invalid));
    assert_eq!(named(Some("did:key:z6Mk".into())), Err(Rejection::Malformed));
}

/// F-09: a transaction that the chain is about to refuse is refused before it is claimed.
#[tokio::test]
async fn a_transaction_has_time_left() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let presented = railway.pay(&railway.invite("a")).await;
    let late = START.after(Duration::from_mins(1));
    assert_eq!(railway.rail.check(&presented, late).err(), Some(Rejection::Expired));
    assert!(railway.rail.check(&presented, START).is_ok(), "the control");
}

/// A credential to be pulled, and the same payment pushed: the buyer sends the transaction itself.
async fn pushed(world: &World, railway: &Railway, challenge: &str) -> (Presented, Presented) {
    let invitation = railway.invite(challenge);
    let paid = railway.payer.pay(&invitation).await.ok().unwrap();
    let pulled = present(&invitation, paid.clone());
    let hash = world.push(paid.payload["signature"].as_str().unwrap()).await;
    let payload = json!({ "type": "hash", "hash": hash });
    let payload = payload.as_object().unwrap().clone();
    (pulled, present(&invitation, Paid { payload, ..paid }))
}

/// TCH.S03, B-07: a payment that was pushed is good for the challenge its memo names, from the
/// account that sent it, once.
#[tokio::test]
async fn a_pushed_payment_names_its_challenge() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let (_, presented) = pushed(&world, &railway, "a").await;
    let elsewhere = Presented { challenge: "b".into(), ..presented.clone() };
    assert_eq!(counter.take(&elsewhere).await, Err(Refusal::Declined));
    let stranger = Some(railway.stranger.account());
    let renamed = Presented { source: stranger, challenge: "a".into(), ..presented.clone() };
    let other = Counter::new(&railway.rail, &[]).await;
    assert_eq!(other.take(&renamed).await, Err(Refusal::Declined));
    assert_eq!((counter.earned(), other.earned()), (0, 0));
    // Nobody has used it up by trying.
    assert_eq!(counter.take(&presented).await, Ok(()), "the control");
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    assert_eq!(counter.earned(), 2_500);
}

/// TCH.S04: a hash is refused where push is not offered.
#[tokio::test]
async fn push_is_taken_where_it_is_offered() {
    let Some(world) = World::start().await else { return };
    let pull_only = Settings { push: false, ..settings() };
    let railway = world.railway_with(TempoRail::new(world.nodes(), pull_only));
    let (_, presented) = pushed(&world, &railway, "a").await;
    assert_eq!(railway.rail.check(&presented, START).err(), Some(Rejection::Invalid));
    let pulled = railway.pay(&railway.invite("b")).await;
    assert!(railway.rail.check(&pulled, START).is_ok(), "the control");
}

/// A seller over one node, which waits for a second only.
fn impatient(world: &World, url: &str) -> Railway {
    let settings = Settings { wait: Duration::from_secs(1), ..settings() };
    world.railway_with(TempoRail::new(nodes(&[url]), settings))
}

/// F-07: a node that drops a transaction leaves an outcome nobody knows: the payment stays pending, and
/// is neither served nor given up. The same credential finds out that it never arrived, and pays.
#[tokio::test]
async fn a_dropped_transaction_is_an_unknown_outcome() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = impatient(&world, &proxy.url);
    let counter = Counter::new(&railway.rail, &[]).await;
    proxy.turn(Fault::Drops);
    let (presented, before) = (railway.pay(&railway.invite("a")).await, world.balance(1).await);
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!((counter.audit().pending, counter.earned()), (1, 0));
    proxy.turn(Fault::None);
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-07: what was dropped and has expired can never be mined: it is given up, and not before.
#[tokio::test]
async fn a_transaction_that_comes_too_late_is_given_up() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = impatient(&world, &proxy.url);
    let counter = Counter::new(&railway.rail, &[]).await;
    proxy.turn(Fault::Drops);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!(counter.audit().pending, 1);
    world.wait(60).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::Declined));
    assert_eq!((counter.audit().pending, counter.audit().voided, counter.earned()), (0, 1, 0));
}

/// F-08: a chain that stalls settles late: the money that arrives after everybody stopped waiting is
/// found, and counts once.
#[tokio::test]
async fn a_late_settlement_counts_once() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = impatient(&world, &proxy.url);
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    proxy.turn(Fault::Stalls);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!((counter.audit().pending, world.balance(1).await), (1, before));
    proxy.catch_up().await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-07, F-08: recovery finds out by itself, without the buyer: what was mined late is posted and owed,
/// what can never be mined any more is given up, and what is open stays open.
#[tokio::test]
async fn recovery_finds_out_what_became_of_payments() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = impatient(&world, &proxy.url);
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    proxy.turn(Fault::Stalls);
    let late = railway.pay(&railway.invite("late")).await;
    assert_eq!(counter.take(&late).await, Err(Refusal::TryAgain));
    proxy.turn(Fault::Drops);
    let dropped = railway.pay(&railway.invite("dropped")).await;
    assert_eq!(counter.take(&dropped).await, Err(Refusal::TryAgain));
    let open = Recovered { open: 2, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, open);
    assert_eq!((counter.audit().pending, world.balance(1).await), (2, before), "it only asked");
    proxy.catch_up().await;
    let posted = loop {
        let found = counter.recover(START).await;
        if found.posted > 0 {
            break found;
        }
    };
    assert_eq!(posted, Recovered { posted: 1, open: 1, ..Recovered::default() });
    world.wait(60).await;
    let voided = Recovered { voided: 1, ..Recovered::default() };
    assert_eq!(counter.recover(START).await, voided);
    assert_eq!(counter.recover(START).await, Recovered::default(), "nothing is left to find out");
    // The buyer comes back for what was paid, and is answered once.
    assert_eq!(counter.take(&late).await, Ok(()));
    let sound = counter.audit();
    assert_eq!((sound.pending, sound.voided, sound.delivered), (0, 1, 1));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// A chain may think better of a block that is not deep yet. The payment comes again in another, and
/// is taken when it is as deep as the seller wants.
#[tokio::test]
async fn a_reorganised_payment_is_paid_once() {
    let Some(world) = World::start().await else { return };
    let deep = Settings { confirmations: 4, ..settings() };
    let railway = world.railway_with(TempoRail::new(world.nodes(), deep));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    let snapshot = world.ask("evm_snapshot", json!([])).await;
    let presented = railway.pay(&railway.invite("a")).await;
    let raw = presented.payload["signature"].as_str().unwrap();
    let hash = alloy_primitives::keccak256(alloy_primitives::hex::decode(raw).unwrap());
    let undo = async {
        while world.ask("eth_getTransactionReceipt", json!([hash])).await["result"].is_null() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let undone = world.ask("evm_revert", json!([snapshot["result"]])).await;
        assert_eq!(undone["result"], true, "{undone}");
        let receipt = world.ask("eth_getTransactionReceipt", json!([hash])).await;
        assert!(receipt["result"].is_null(), "the block is gone: {receipt}");
    };
    let (taken, ()) = tokio::join!(counter.take(&presented), undo);
    assert_eq!(taken, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-07: an answer that is lost on its way back does not lose the payment.
#[tokio::test]
async fn a_lost_answer_is_found_on_the_chain() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = world.railway_with(TempoRail::new(nodes(&[&proxy.url]), settings()));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    proxy.turn(Fault::Loses);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// F-03: a receipt that says success and shows no transfer pays nothing. What really happened nobody
/// knows, so that the payment is not given up either.
#[tokio::test]
async fn a_status_is_not_a_payment() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let railway = impatient(&world, &proxy.url);
    let counter = Counter::new(&railway.rail, &[]).await;
    proxy.turn(Fault::Lies);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!((counter.audit().pending, counter.earned()), (1, 0));
}

/// F-12: what succeeds on the chain and moves nothing is no payment: a token's address at which there is no
/// token, and contracts that answer whatever they are asked, `false` or a large number, and do nothing.
#[tokio::test]
async fn an_asset_that_is_none_pays_nothing() {
    let Some(world) = World::start().await else { return };
    // PUSH3 answer, MSTORE, RETURN: a contract that gives every call the same answer.
    let always = |answer: &str| format!("0x62{answer}60005260206000f3");
    let (nobody, says_no) = ("0x00000000000000000000000000000000000f0001", always("000000"));
    let (refuses, agrees) = ("0x00000000000000000000000000000000000f0002", always("ffffff"));
    let pretends = "0x00000000000000000000000000000000000f0003";
    for (address, code) in [(refuses, says_no), (pretends, agrees)] {
        world.ask("anvil_setCode", json!([address, code])).await;
    }
    for address in [nobody, refuses, pretends] {
        let token = farthing_rail_tempo::Token {
            asset: assets().get(&"usd".parse().unwrap()).unwrap().clone(),
            address: address.parse().unwrap(),
        };
        let tokens = farthing_rail_tempo::Tokens::new(vec![token]);
        let rail = TempoRail::new(world.nodes(), Settings { tokens, ..settings() });
        let railway = world.railway_with(rail);
        let counter = Counter::new(&railway.rail, &[]).await;
        let presented = shown(&world, &railway, "a", (address, 1, 2_500, &[7; 32])).await;
        assert_eq!(counter.take(&presented).await, Err(Refusal::Declined), "{address}");
        assert_eq!(counter.earned(), 0);
    }
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    assert_eq!(counter.take(&railway.pay(&railway.invite("a")).await).await, Ok(()), "the control");
}

/// With one node down, or on another chain, the next one is asked; with none, nothing was sent.
#[tokio::test]
async fn nodes_stand_in_for_each_other() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    proxy.turn(Fault::Broken);
    let nowhere = "http://127.0.0.1:1";
    let both = nodes(&[nowhere, &proxy.url, &world.chain.url]);
    let railway = world.railway_with(TempoRail::new(both, settings()));
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    let alone = world.railway_with(TempoRail::new(nodes(&[nowhere]), settings()));
    let counter = Counter::new(&alone.rail, &[]).await;
    let presented = railway.pay(&railway.invite("b")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!(counter.audit().pending, 1);
}

/// TCH.C04: what the chain refuses is declined, and the seller asks anew; a wallet that sees it coming
/// does not sign.
#[tokio::test]
async fn a_payment_that_fails_is_declined() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    // The buyer spends what it had before the seller comes to it.
    world.drain(2).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::Declined));
    assert_eq!((counter.audit().voided, counter.earned()), (1, 0));
    assert!(railway.payer.pay(&railway.invite("b")).await.is_err());
}

/// R-04, B-06: what does something else than pay is no charge, whichever way it is shown, and a charge is
/// no session.
#[tokio::test]
async fn a_charge_is_paid_by_a_transfer() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    // An approval moves nothing, though it is a call of the token with the seller and the amount in it.
    let mut approve = vec![0x09, 0x5e, 0xa7, 0xb3];
    approve.extend([0; 12]);
    approve.extend(alloy_primitives::hex::decode(DEVELOPMENT_ACCOUNTS[1]).unwrap());
    approve.extend(U256::from(2_500).to_be_bytes::<32>());
    let hash = world.call(2, PATH_USD, &approve).await;
    let payload = json!({ "type": "hash", "hash": hash }).as_object().unwrap().clone();
    let paid = Paid { payload, source: Some(railway.payer.account()), keepsake: None };
    let shown = present(&railway.invite("a"), paid);
    assert_eq!(counter.take(&shown).await, Err(Refusal::Declined));
    let presented = railway.pay(&railway.invite("b")).await;
    let session = Presented { intent: "session".into(), ..presented.clone() };
    let refused = Err(Refusal::Payer(Rejection::Foreign));
    assert_eq!(counter.take(&session).await, refused, "no session was offered");
    assert_eq!(counter.take(&presented).await, Ok(()), "the control");
    assert_eq!(counter.earned(), 2_500);
}

/// M-05: a hash in another case is the same transaction, and what is no hash is none.
#[tokio::test]
async fn a_hash_has_one_meaning() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let (_, shown) = pushed(&world, &railway, "a").await;
    let hash = shown.payload["hash"].as_str().unwrap().to_owned();
    let spelled = |text: String| {
        let mut other = shown.clone();
        other.payload.insert("hash".into(), text.into());
        other
    };
    let digits = &hash[2..];
    for wrong in [digits.to_owned(), format!("0x00{digits}"), format!("0X{digits}"), "0x".into()] {
        let refused = counter.take(&spelled(wrong)).await;
        assert_eq!(refused, Err(Refusal::Payer(Rejection::Malformed)));
    }
    assert_eq!(counter.take(&spelled(format!("0x{}", digits.to_uppercase()))).await, Ok(()));
    assert_eq!(counter.take(&shown).await, Err(Refusal::Answered));
    assert_eq!(counter.earned(), 2_500);
}

/// one transfer is shown for one challenge.
#[tokio::test]
async fn one_transfer_pays_one_challenge() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    let (_, first) = pushed(&world, &railway, "a").await;
    let (_, second) = pushed(&world, &railway, "b").await;
    let mixed = Presented { payload: first.payload.clone(), ..second.clone() };
    assert_eq!(counter.take(&mixed).await, Err(Refusal::Declined));
    assert_eq!(counter.take(&first).await, Ok(()), "the control");
    assert_eq!(counter.earned(), 2_500);
}

/// Sends a transfer of the buyer's with a memo, and shows its hash for `challenge`.
async fn shown(
    world: &World,
    railway: &Railway,
    challenge: &str,
    (token, to, atoms, memo): (&str, usize, u64, &[u8]),
) -> Presented {
    let account = alloy_primitives::hex::decode(DEVELOPMENT_ACCOUNTS[to]).unwrap();
    let mut call = vec![0x95, 0x77, 0x7d, 0x59];
    call.extend([0; 12]);
    call.extend(account);
    call.extend(U256::from(atoms).to_be_bytes::<32>());
    call.extend(memo);
    let hash = world.call(2, token, &call).await;
    let payload = json!({ "type": "hash", "hash": hash }).as_object().unwrap().clone();
    let paid = Paid { payload, source: Some(railway.payer.account()), keepsake: None };
    present(&railway.invite(challenge), paid)
}

/// TCH.S03, F-03: what was pushed has to be the price, in the token that was asked for, to the seller,
/// under the challenge's memo; an amount beyond it is another payment too.
#[tokio::test]
async fn a_pushed_payment_is_exactly_what_was_asked() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let counter = Counter::new(&railway.rail, &[]).await;
    // The memo of challenge `a`, as the wallet writes it.
    let paid = railway.payer.pay(&railway.invite("a")).await.ok().unwrap();
    let raw = alloy_primitives::hex::decode(paid.payload["signature"].as_str().unwrap()).unwrap();
    let tag = &alloy_primitives::keccak256("mpp")[..4];
    let at = raw.windows(4).position(|window| window == tag).unwrap();
    let memo = &raw[at..at + 32];
    for wrong in [
        (PATH_USD, 1, 2_499, memo),
        (PATH_USD, 1, 2_501, memo),
        (ALPHA_USD, 1, 2_500, memo),
        (PATH_USD, 3, 2_500, memo),
        (PATH_USD, 1, 2_500, &[7; 32]),
    ] {
        let presented = shown(&world, &railway, "a", wrong).await;
        let alone = Counter::new(&railway.rail, &[]).await;
        assert_eq!(alone.take(&presented).await, Err(Refusal::Declined), "{wrong:?}");
    }
    let right = shown(&world, &railway, "a", (PATH_USD, 1, 2_500, memo)).await;
    assert_eq!(counter.take(&right).await, Ok(()), "the control");
    assert_eq!(counter.earned(), 2_500);
}

/// TCH.S03, R-08: a split that is pushed shows every part, each by a transfer of its own.
#[tokio::test]
async fn a_pushed_payment_is_split() {
    let Some(world) = World::start().await else { return };
    let half = |payee: &str| Split {
        payee: Holder::new(payee).unwrap(),
        recipient: DEVELOPMENT_ACCOUNTS[5].parse().unwrap(),
        basis_points: 2_000,
    };
    // Two equal parts to one account: one transfer is not both.
    let splits = vec![half("partner-a"), half("partner-b")];
    let railway =
        world.railway_with(TempoRail::new(world.nodes(), Settings { splits, ..settings() }));
    let before = [world.balance(1).await, world.balance(5).await];
    let (_, presented) = pushed(&world, &railway, "a").await;
    let counter = Counter::new(&railway.rail, &[]).await;
    // The whole price in one piece, under the right memo, is no split payment.
    let whole = world.railway();
    let (_, unsplit) = pushed(&world, &whole, "b").await;
    let unsplit = Presented { request: railway.invite("b").request, ..unsplit };
    assert_eq!(counter.take(&unsplit).await, Err(Refusal::Declined));
    assert_eq!(counter.take(&presented).await, Ok(()), "the control");
    let after = [world.balance(1).await, world.balance(5).await];
    assert_eq!(after, [before[0] + 1_500 + 2_500, before[1] + 1_000]);
    assert_eq!(counter.earned(), 1_500);
    let books = counter.audit().accounts;
    let earned =
        |payee: &str| books[&format!("payable/{payee}/usd").parse().unwrap()].credits_posted;
    assert_eq!((earned("partner-a"), earned("partner-b")), (500, 500));
}
