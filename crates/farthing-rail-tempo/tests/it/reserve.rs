//! Version 2 of Tempo's sessions, on a stand-in of ours where its reserve would be: anvil has no chain
//! with the reserve yet. What only the chain knows of an opening, a story tells the stand-in beforehand.

use alloy_primitives::{Address as Word, B256, U256, hex, keccak256};
use alloy_sol_types::SolValue as _;
use farthing_core::{Object, PayError, Rail as _, SessionPrice};
use farthing_ledger::Holder;
use farthing_money::Amount;
use farthing_rail_tempo::session::{
    Action, Errand, Escrow, Family, Funded, Happened, Leave, Opening, Outcome, RESERVE, Revert,
    SessionSettings, SessionTerms, Take, Unfit, Voucher, Watch,
};
use farthing_rail_tempo::{Address, TempoPayer, TempoRail};
use farthing_testkit::chain::{PATH_USD, TEMPO_CHAIN_ID};
use serde_json::{Value, json};

use crate::channels::{PAYEE, Town, account, done};
use crate::sponsored::{limits, sponsor};
use crate::world::{World, settings, tokens};

fn word(address: Address) -> Word {
    address.to_string().parse().unwrap()
}

fn compiled() -> String {
    let artifacts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts");
    let text = std::fs::read_to_string(format!("{artifacts}/ReserveStandIn.json")).unwrap();
    let compiled: Value = serde_json::from_str(&text).unwrap();
    format!("0x{}", compiled["runtime"].as_str().unwrap())
}

/// A chain with the stand-in, and two buyers who let it take their tokens.
async fn town() -> Option<Town> {
    let town = Town::start().await?;
    let code = json!([RESERVE.to_string(), compiled()]);
    town.world.ask("anvil_setCode", code).await;
    let approve = (word(RESERVE), U256::MAX).abi_encode();
    let approve = [hex!("095ea7b3").as_slice(), &approve].concat();
    for payer in [2, 3] {
        town.world.call(payer, PATH_USD, &approve).await;
    }
    Some(Town { escrow: Escrow::new(Family::TempoV2, TEMPO_CHAIN_ID, RESERVE), ..town })
}

/// Tells the stand-in which transaction is about to open a channel.
async fn foretell(world: &World, opening: &Opening) {
    let slot = (word(opening.descriptor.payer), U256::ZERO).abi_encode();
    let hash = opening.descriptor.expiring_nonce_hash;
    let set = json!([RESERVE.to_string(), keccak256(slot), hash]);
    world.ask("anvil_setStorageAt", set).await;
}

async fn opened(town: &Town, payer: &TempoPayer, deposit: u128) -> Opening {
    let terms = town.terms();
    let opening = payer.open_channel(&terms, deposit, 0, town.salt()).await.unwrap();
    foretell(&town.world, &opening).await;
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    let credited = town.channels().fund(&funded).await.unwrap();
    assert_eq!(credited.state.what.deposit, deposit);
    opening
}

/// TSE.S01, TSE.S07, S-14: a channel of version 2 lives; its close takes what was spent of a voucher that
/// says more, and the reserve forgets it.
#[tokio::test]
async fn a_channel_of_version_two_lives() {
    let Some(town) = town().await else { return };
    let payer = town.world.payer(2);
    let mut watch = Watch::new(town.nodes(), town.escrow, account(PAYEE), 0);
    let opening = opened(&town, &payer, 10_000).await;
    let descriptor = opening.descriptor;
    assert_eq!(descriptor.id(&town.escrow), opening.channel);
    let top_up = payer.top_up_channel(&town.terms(), &descriptor, 500).await.unwrap();
    let funded = town.read_top_up(&top_up, &town.terms()).unwrap();
    let credited = town.channels().fund(&funded).await.unwrap();
    assert_eq!(credited.state.what.deposit, 10_500);
    let voucher = |owed| town.voucher(&payer, &descriptor, owed);
    done(&town.settle(descriptor, voucher(75)).await);
    let before = town.holds(account(2)).await;
    let errand =
        |capture| Errand { descriptor, take: Take::Close { voucher: voucher(400), capture } };
    for capture in [74, 401] {
        let outcome = town.teller().run(&town.escrow, &[errand(capture)]).await.remove(0);
        assert_eq!(outcome, Outcome::Refused(Revert::Capture), "{capture}");
    }
    let outcome = town.teller().run(&town.escrow, &[errand(100)]).await.remove(0);
    let closed = Happened::Closed { to_payee: 100, to_payer: 10_400 };
    assert_eq!(done(&outcome).events[0].what, closed);
    assert_eq!(town.holds(account(2)).await, before + 10_400);
    assert_eq!(town.state(opening.channel).await, None);
    let told = watch.look().await.unwrap().events;
    assert_eq!(told.len(), 4, "opened, topped up, settled, closed: {told:?}");
    let late = town.settle(descriptor, voucher(500)).await;
    assert_eq!(late, Outcome::Refused(Revert::NotFound));
}

/// S-16: the way out without the seller is the same.
#[tokio::test]
async fn a_payer_leaves_version_two() {
    let Some(town) = town().await else { return };
    let payer = town.world.payer(2);
    let opening = opened(&town, &payer, 10_000).await;
    let leave = |what| payer.leave(&town.escrow, &opening.descriptor, what);
    assert!(leave(Leave::Withdraw).await.is_err());
    let asked = leave(Leave::RequestClose).await.unwrap();
    assert!(matches!(asked[0].what, Happened::CloseRequested { .. }));
    assert!(!town.state(opening.channel).await.unwrap().is_open());
    town.world.wait(15 * 60 + 5).await;
    let left = leave(Leave::Withdraw).await.unwrap();
    assert_eq!(left[0].what, Happened::Closed { to_payee: 0, to_payer: 10_000 });
}

/// TSE.S03, TSE.S01: a sponsored opening makes the channel that the payer signed for, whoever pays the
/// fee; another transaction makes another.
#[tokio::test]
async fn a_sponsors_signature_does_not_change_the_channel() {
    let Some(town) = town().await else { return };
    let payer = town.world.payer(2);
    let terms = SessionTerms { sponsored: true, ..town.terms() };
    let budget = farthing_rail_tempo::SponsorLimits { per_payment: 1_000_000, ..limits() };
    let seller = town.channels_over(town.nodes(), Some(sponsor(budget)));
    let opening = payer.open_channel(&terms, 10_000, 0, town.salt()).await.unwrap();
    foretell(&town.world, &opening).await;
    let before = town.holds(account(2)).await;
    let funded = town.read_open(&opening.payload, &terms).unwrap();
    let credited = seller.fund(&funded).await.unwrap();
    assert!(credited.cost.is_some());
    assert_eq!(town.holds(account(2)).await, before - 10_000);
    let found = seller.inquire(&funded).await.unwrap();
    assert_eq!(found.transaction, credited.transaction);
    // The same descriptor with another's transaction is not what that makes.
    let other = payer.open_channel(&terms, 10_000, 0, town.salt()).await.unwrap();
    let mut mixed = opening.payload.clone();
    mixed.insert("transaction".into(), other.payload["transaction"].clone());
    let Ok(Action::Open(mixed)) = Action::read(Family::TempoV2, &mixed) else { panic!() };
    let refused = Funded::opening(&mixed, &terms, u64::MAX).unwrap_err();
    assert_eq!(refused, Unfit::Channel);
}

/// B-13: a channel whose signer is a key of P-256 is settled with its vouchers; the chain itself checks
/// them.
#[tokio::test]
async fn a_key_of_p256_signs_for_its_channel() {
    use p256::ecdsa::signature::hazmat::PrehashSigner as _;

    let Some(town) = town().await else { return };
    let key = p256::ecdsa::SigningKey::from_slice(&[0x21; 32]).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    let point = &point.as_bytes()[1..];
    let signer = keccak256(point);
    let signer: Address = hex::encode_prefixed(&signer[12..]).parse().unwrap();
    let payer = town.world.payer(2);
    // The wallet has no such keys; another's opening is made by hand from one of its own.
    let plain = opened(&town, &payer, 10_000).await;
    let descriptor = farthing_rail_tempo::session::Descriptor {
        authorized_signer: signer,
        salt: B256::repeat_byte(0x77),
        expiring_nonce_hash: B256::repeat_byte(0x78),
        ..plain.descriptor
    };
    let told = Opening { descriptor, ..plain };
    foretell(&town.world, &told).await;
    let open = (
        word(descriptor.payee),
        word(descriptor.operator),
        word(descriptor.token),
        U256::from(1_000),
        descriptor.salt,
        word(signer),
    )
        .abi_encode();
    let open = [hex!("edc53b00").as_slice(), &open].concat();
    town.world.call(2, &RESERVE.to_string(), &open).await;
    let channel = descriptor.id(&town.escrow);
    assert_eq!(town.state(channel).await.unwrap().deposit, 1_000);
    let digest = town.escrow.voucher_digest(channel, 100);
    let signed: p256::ecdsa::Signature = key.sign_prehash(digest.as_slice()).unwrap();
    let signed = signed.normalize_s().unwrap_or(signed);
    let signature = [&[1], &signed.to_bytes()[..], point, &[0]].concat();
    let voucher = Voucher { channel, cumulative: 100, signature: signature.into() };
    assert_eq!(voucher.verify(&town.escrow, signer), Ok(()));
    let more = Voucher { cumulative: 101, ..voucher.clone() };
    let refused = town.settle(descriptor, more).await;
    assert_eq!(refused, Outcome::Refused(Revert::Signature));
    done(&town.settle(descriptor, voucher).await);
}

/// TSE.S02, TSE.S07: what a seller of version 2 asks for says so; a payer's word that it may be closed is
/// verified where it comes, and not missed where it does not.
#[tokio::test]
async fn a_close_is_agreed_to_or_only_vouched_for() {
    let Some(town) = town().await else { return };
    let payer = town.world.payer(2);
    let sessions = SessionSettings { escrow: town.escrow, teller: town.teller() };
    let rail = TempoRail::new(town.nodes(), settings()).with_sessions(sessions);
    let price = SessionPrice {
        unit: Amount::new("usd".parse().unwrap(), 25),
        unit_type: None,
        suggested_deposit: None,
        deposit_min_atoms: 0,
        delta_min_atoms: 0,
    };
    let session = rail.session().unwrap();
    let request = session.quote_session(&price, &Holder::new("seller").unwrap()).unwrap();
    assert_eq!(request["methodDetails"]["sessionProtocol"], "v2");
    assert!(session.session_rules().captures_spent);
    let terms = SessionTerms::read("tempo", &request, &tokens()).unwrap();
    assert_eq!(terms.escrow, town.escrow);
    let opening = payer.open_channel(&terms, 10_000, 0, town.salt()).await.unwrap();
    let close = payer.close(&town.escrow, &opening.descriptor, 75).unwrap();
    assert!(close.contains_key("closeSignature"));
    let check = |payload: Object| {
        let presented = crate::tills::presented(&request, "a", payload, Some(payer.source()));
        session.check_action(&presented, farthing_testkit::store::START)
    };
    assert!(check(close.clone()).is_ok(), "agreed to");
    let mut vouched = close.clone();
    vouched.remove("closeSignature");
    assert!(check(vouched).is_ok(), "as older clients close");
    let mut forged = close.clone();
    forged.insert("closeSignature".into(), close["signature"].clone());
    assert_eq!(
        check(forged),
        Err(farthing_core::Rejection::Signature),
        "a voucher agrees to nothing"
    );
    let mut moved = close;
    moved["descriptor"]["payee"] = account(5).to_string().into();
    assert!(check(moved).is_err());
    // More than the reserve's amounts can say is not signed.
    let over = payer.open_channel(&terms, 1 << 96, 0, town.salt()).await.unwrap_err();
    assert_eq!(over, PayError::Refused);
}
