//! The seller pays the network's fee, and prices are split.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{B256, hex};
use axum::Router;
use axum::extract::State;
use farthing_core::{Payer as _, Refusal, Rejection};
use farthing_ledger::Holder;
use farthing_money::Amount;
use farthing_rail_tempo::{
    Address, Settings, Split, Sponsor, SponsorLimits, TempoPayer, TempoRail,
};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD, development_key};
use farthing_testkit::rail::{Counter, Railway, present};
use farthing_testkit::store::START;
use serde_json::{Value, json};
use tempo_primitives::AASigned;

use crate::world::{Fault, Proxy, World, nodes, settings, tokens};

/// Who pays the fees here.
pub(crate) const SPONSOR: usize = 4;

pub(crate) fn limits() -> SponsorLimits {
    SponsorLimits {
        per_payment: 100_000,
        per_payer: 10_000_000,
        total: 100_000_000,
        period: Duration::from_hours(24),
        balance_min: 1,
    }
}

pub(crate) fn sponsor(limits: SponsorLimits) -> Sponsor {
    let token = tokens().named(&"usd".parse().unwrap()).unwrap().clone();
    Sponsor::local(&development_key(SPONSOR), token, limits).unwrap()
}

fn sponsored(world: &World, limits: SponsorLimits) -> Railway {
    let settings = Settings { push: false, sponsor: Some(sponsor(limits)), ..settings() };
    world.railway_with(TempoRail::new(world.nodes(), settings))
}

/// TCH.C02, X-03: the buyer pays the price and nothing else, the sponsor pays the fee, and the books
/// know what it was.
#[tokio::test]
async fn a_sponsored_buyer_pays_the_price_alone() {
    let Some(world) = World::start().await else { return };
    let railway = sponsored(&world, limits());
    let counter = Counter::new(&railway.rail, &[]).await;
    // Somebody who holds the price to the atom.
    let poor = TempoPayer::new(&[0x77; 32], world.nodes(), tokens()).unwrap();
    world.leave(poor.address(), 2_500).await;
    let (before, fees) = (world.balance(1).await, world.balance(SPONSOR).await);
    let invitation = railway.invite("a");
    assert_eq!(invitation.request["methodDetails"]["feePayer"], true);
    let presented = present(&invitation, poor.pay(&invitation).await.ok().unwrap());
    let envelope = presented.payload["signature"].as_str().unwrap();
    assert!(envelope.starts_with("0x78"), "what waits for a sponsor cannot be broadcast");
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    assert_eq!((world.holds(poor.address()).await, world.balance(1).await), (0, before + 2_500));
    let paid = fees - world.balance(SPONSOR).await;
    let spent = counter.audit().accounts[&"spent/fees/usd".parse().unwrap()].debits_posted;
    assert!(paid > 0);
    assert_eq!((spent, counter.earned()), (paid, 2_500));
}

/// The form of the specification is taken too: a zero where the sponsor's signature goes.
#[tokio::test]
async fn a_placeholder_is_sponsored_too() {
    let Some(world) = World::start().await else { return };
    let railway = sponsored(&world, limits());
    let counter = Counter::new(&railway.rail, &[]).await;
    let mut presented = railway.pay(&railway.invite("a")).await;
    let opened = open(presented.payload["signature"].as_str().unwrap(), world.payer(2).address());
    let mut placeholder = Vec::new();
    opened.encode_for_fee_payer_service(&mut placeholder);
    presented.payload.insert("signature".into(), hex::encode_prefixed(placeholder).into());
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.earned(), 2_500);
}

/// what would fail costs the sponsor nothing, nor does a buyer who has used up a share of the
/// budget.
#[tokio::test]
async fn a_sponsor_is_not_drained() {
    let Some(world) = World::start().await else { return };
    let railway = sponsored(&world, limits());
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("a")).await;
    world.drain(2).await;
    let fees = world.balance(SPONSOR).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::Declined));
    assert_eq!((world.balance(SPONSOR).await, counter.audit().voided), (fees, 1));
    world.leave(world.payer(2).address(), 1_000_000).await;
    let presented = railway.pay(&railway.invite("b")).await;
    assert_eq!(counter.take(&presented).await, Ok(()), "the control");
    let small = sponsored(&world, SponsorLimits { per_payer: 1, ..limits() });
    let counter = Counter::new(&small.rail, &[]).await;
    let presented = small.pay(&small.invite("c")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::Declined));
    // What one payment may cost is known beforehand, and nothing is claimed.
    let tiny = sponsored(&world, SponsorLimits { per_payment: 1, ..limits() });
    let counter = Counter::new(&tiny.rail, &[]).await;
    let presented = tiny.pay(&tiny.invite("d")).await;
    let refused = counter.take(&presented).await;
    assert_eq!(refused, Err(Refusal::Payer(Rejection::Invalid)));
    assert_eq!(counter.audit().claimed, 0);
}

/// TCH.S06: a sponsor whose account is low pays for nothing. That is the seller's to mend: the buyer
/// keeps the credential, and it is good once the account is.
#[tokio::test]
async fn a_poor_sponsor_waits_for_money() {
    let Some(world) = World::start().await else { return };
    let balance_min = u128::from(u64::MAX) + 1;
    let poor = sponsored(&world, SponsorLimits { balance_min, ..limits() });
    let counter = Counter::new(&poor.rail, &[]).await;
    let presented = poor.pay(&poor.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    assert_eq!(counter.audit().pending, 1);
    let rich = sponsored(&world, limits());
    assert_eq!(counter.on(&rich.rail).take(&presented).await, Ok(()));
    assert_eq!(counter.earned(), 2_500);
}

/// One key sponsors any number of payments at once, and a restart in the middle signs the same bytes:
/// nothing waits for anything, and nothing is paid twice.
#[tokio::test(flavor = "multi_thread")]
async fn one_sponsor_pays_for_many_at_once() {
    let Some(world) = World::start().await else { return };
    let railway = sponsored(&world, limits());
    let counter = Arc::new(Counter::new(&railway.rail, &[]).await);
    let before = world.balance(1).await;
    let mut taking = Vec::new();
    for at in 0..64 {
        let invitation = railway.invite(&format!("c{at}"));
        let payer = world.payer(2 + at % 2);
        let presented = present(&invitation, payer.pay(&invitation).await.ok().unwrap());
        let counter = Arc::clone(&counter);
        taking.push(tokio::spawn(async move { counter.take(&presented).await }));
    }
    for taken in taking {
        assert_eq!(taken.await.unwrap(), Ok(()));
    }
    assert_eq!((counter.earned(), world.balance(1).await), (64 * 2_500, before + 64 * 2_500));
    // Another gateway with the same key, which knows nothing of the first.
    let presented = railway.pay(&railway.invite("again")).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    let restarted = sponsored(&world, limits());
    let other = Counter::new(&restarted.rail, &[]).await;
    assert_eq!(other.take(&presented).await, Ok(()), "it finds what was paid");
    assert_eq!(world.balance(1).await, before + 65 * 2_500);
}

/// F-07, F-08: a sponsored payment whose answer was lost is found again by whoever restarts.
#[tokio::test]
async fn a_sponsored_payment_survives_a_crash() {
    let Some(world) = World::start().await else { return };
    let proxy = Proxy::start(&world).await;
    let impatient = || Settings {
        push: false,
        wait: Duration::from_millis(500),
        sponsor: Some(sponsor(limits())),
        ..settings()
    };
    let railway = world.railway_with(TempoRail::new(nodes(&[&proxy.url]), impatient()));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = world.balance(1).await;
    proxy.turn(Fault::Stalls);
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
    proxy.catch_up().await;
    let restarted = world.railway_with(TempoRail::new(
        world.nodes(),
        Settings { wait: Duration::from_secs(10), ..impatient() },
    ));
    assert_eq!(counter.on(&restarted.rail).take(&presented).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
}

/// CHG.S03: everybody gets their part on the chain and in the books.
#[tokio::test]
async fn a_price_is_split() {
    let Some(world) = World::start().await else { return };
    let split = |number: usize, basis_points| Split {
        payee: Holder::new(&format!("partner-{number}")).unwrap(),
        recipient: DEVELOPMENT_ACCOUNTS[number].parse().unwrap(),
        basis_points,
    };
    let splits = vec![split(5, 2_000), split(6, 1_000)];
    let railway =
        world.railway_with(TempoRail::new(world.nodes(), Settings { splits, ..settings() }));
    let counter = Counter::new(&railway.rail, &[]).await;
    let before = [world.balance(1).await, world.balance(5).await, world.balance(6).await];
    let invitation = railway.invite("a");
    let price = railway.payer.price(&invitation).unwrap();
    let shares: Vec<u128> = price.shares.iter().map(|it| it.amount.atoms()).collect();
    assert_eq!((price.amount.atoms(), shares), (2_500, vec![500, 250]));
    let presented = railway.pay(&invitation).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    let after = [world.balance(1).await, world.balance(5).await, world.balance(6).await];
    assert_eq!(after, [before[0] + 1_750, before[1] + 500, before[2] + 250]);
    let books = counter.audit().accounts;
    let earned = |account: &str| books[&account.parse().unwrap()].credits_posted;
    assert_eq!(counter.earned(), 1_750);
    assert_eq!((earned("payable/partner-5/usd"), earned("payable/partner-6/usd")), (500, 250));
    // A price too small to be split is not quoted.
    let dust = Amount::new("usd".parse().unwrap(), 9);
    assert!(railway.rail.quote(&dust, &Holder::new("seller").unwrap()).is_err());
}

/// B-03: whatever is altered in a request with splits is no charge of ours any more.
#[tokio::test]
async fn a_split_that_is_altered_is_not_paid_for() {
    let Some(world) = World::start().await else { return };
    let split = Split {
        payee: Holder::new("partner").unwrap(),
        recipient: DEVELOPMENT_ACCOUNTS[5].parse().unwrap(),
        basis_points: 2_000,
    };
    let settings = Settings { splits: vec![split], ..settings() };
    let railway = world.railway_with(TempoRail::new(world.nodes(), settings));
    let presented = railway.pay(&railway.invite("a")).await;
    assert!(railway.rail.check(&presented, START).is_ok(), "the control");
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut other = presented.clone();
        change(other.request.get_mut("methodDetails").unwrap());
        railway.rail.check(&other, START)
    };
    let memo = "0x1111111111111111111111111111111111111111111111111111111111111111";
    assert!(altered(&|it| drop(it.as_object_mut().unwrap().remove("splits"))).is_err());
    assert!(altered(&|it| it["splits"][0]["amount"] = "1".into()).is_err());
    assert!(altered(&|it| it["splits"][0]["recipient"] = DEVELOPMENT_ACCOUNTS[6].into()).is_err());
    assert!(altered(&|it| it["splits"][0]["memo"] = memo.into()).is_err());
    assert!(altered(&|it| it["memo"] = memo.into()).is_err());
    assert!(altered(&|it| it["splits"].as_array_mut().unwrap().push(json!({}))).is_err());
}

/// What a relay does with what it is given.
#[derive(Clone, Copy)]
enum Relayed {
    Signs,
    Cheats,
    Refuses,
}

/// A relay, and how often it signed. It stands in for a hosted one: a JSON-RPC service with
/// `eth_signRawTransaction`.
async fn relay(sender: Address, does: Relayed) -> (farthing_rail_tempo::Url, Arc<Mutex<u32>>) {
    let signed = Arc::<Mutex<u32>>::default();
    let count = Arc::clone(&signed);
    let answer = async move |State(count): State<Arc<Mutex<u32>>>, body: String| {
        let request: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(request["method"], "eth_signRawTransaction");
        let waiting = open(request["params"][0].as_str().unwrap(), sender);
        let mut tx = waiting.tx().clone();
        tx.fee_token = Some(PATH_USD.parse().unwrap());
        if matches!(does, Relayed::Cheats) {
            tx.calls.clear();
        }
        let sender = sender.to_string().parse().unwrap();
        let digest = tx.fee_payer_signature_hash(sender);
        let signature = sign_message(B256::from(development_key(SPONSOR)), digest).unwrap();
        tx.fee_payer_signature = Some(signature);
        let mut raw = Vec::new();
        tx.into_signed(waiting.signature().clone()).eip2718_encode(&mut raw);
        *count.lock().unwrap() += 1;
        let id = &request["id"];
        match does {
            Relayed::Refuses => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32000, "message": "no" } })
            }
            Relayed::Signs | Relayed::Cheats => {
                json!({ "jsonrpc": "2.0", "id": id, "result": hex::encode_prefixed(raw) })
            }
        }
        .to_string()
    };
    let router = Router::new().fallback(answer).with_state(count);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url.parse().unwrap(), signed)
}

/// Opens an envelope of `sender`'s: the sender stands where the marker goes.
fn open(text: &str, sender: Address) -> AASigned {
    let bytes = hex::decode(text).unwrap();
    assert_eq!((bytes[0], bytes[1]), (0x78, 0xf9), "an envelope of more than 255 bytes");
    let sender = [vec![0x94], hex::decode(sender.to_string()).unwrap()].concat();
    let at = bytes.windows(21).position(|window| window == sender).unwrap();
    let fields = [&bytes[4..at], &[0xc3, 0x80, 0x80, 0x80], &bytes[at + 21..]].concat();
    let length = u16::try_from(fields.len()).unwrap().to_be_bytes();
    let list = [&[0xf9], length.as_slice(), fields.as_slice()].concat();
    AASigned::rlp_decode(&mut list.as_slice()).unwrap()
}

/// A relay signs for the sponsor; it is asked for nothing else, and believed nothing else.
#[tokio::test]
async fn a_relay_signs_and_changes_nothing() {
    let Some(world) = World::start().await else { return };
    let railway = async |does| {
        let (url, signed) = relay(world.payer(2).address(), does).await;
        let token = tokens().named(&"usd".parse().unwrap()).unwrap().clone();
        let sponsor = Sponsor::relay(url, token, limits(), Duration::from_secs(2)).unwrap();
        let settings = Settings { push: false, sponsor: Some(sponsor), ..settings() };
        (world.railway_with(TempoRail::new(world.nodes(), settings)), signed)
    };
    let before = world.balance(1).await;
    for does in [Relayed::Cheats, Relayed::Refuses] {
        let (railway, signed) = railway(does).await;
        let counter = Counter::new(&railway.rail, &[]).await;
        let presented = railway.pay(&railway.invite("a")).await;
        assert_eq!(counter.take(&presented).await, Err(Refusal::TryAgain));
        assert_eq!(world.balance(1).await, before);
        assert_eq!(*signed.lock().unwrap(), 1);
    }
    let (railway, signed) = railway(Relayed::Signs).await;
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = railway.pay(&railway.invite("b")).await;
    assert_eq!(counter.take(&presented).await, Ok(()), "the control");
    assert_eq!((*signed.lock().unwrap(), counter.earned()), (1, 2_500));
    assert_eq!(world.balance(1).await, before + 2_500);
    // Whoever restarts finds it by its memo, since only the chain knows its name.
    let evidence = railway.rail.check(&presented, START).unwrap();
    let booked =
        farthing_ledger::Payment { inquiry: evidence.inquiry, ..counter.payments().remove(0) };
    assert!(railway.rail.inquire(&booked).await.is_ok());
}
