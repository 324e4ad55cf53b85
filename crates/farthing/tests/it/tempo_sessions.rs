//! Sessions on Tempo, as processes: a wallet, a gateway, and a chain with an escrow between them.

use std::time::Duration;

use axum::extract::Request;
use farthing_rail_tempo::session::{Escrow, Family, Happened, RESERVE};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain,
};
use serde_json::{Value, json};

use crate::channels::{PAYEE, opened, stands, told};
use crate::tempo::{add, ask, atoms, leave, set_up};
use crate::world::{Serving, TOKEN, World, echo, free_address, nowhere, serve};

/// Longer than the payee has to answer who asks the escrow for the rest.
const GRACE_S: u64 = 15 * 60 + 5;

/// A chain with an escrow, and a wallet and a gateway that know both.
struct Town {
    chain: TempoChain,
    world: World,
    escrow: Escrow,
}

impl Town {
    /// The escrow is one of version 1, which the gateway's own command puts there. A wallet deposits up to
    /// 0.05 usd at once, of `total_max` in all; a request costs 0.01.
    async fn start(total_max: &str) -> Option<Self> {
        let chain = TempoChain::start(None).await?;
        let world = set_up(&chain).await;
        world.write("payee.key", DEVELOPMENT_KEYS[PAYEE]);
        let deploy = ["rail", "tempo", "deploy-escrow", "--key", "file:payee.key"];
        let address = world.farthing(&deploy).ok();
        let address = address.trim_end();
        let session = format!("escrow = \"{address}\"\nkey = \"file:payee.key\"\n");
        let escrow = Escrow::new(Family::TempoV1, TEMPO_CHAIN_ID, address.parse().unwrap());
        Some(Self::with(chain, world, escrow, &session, total_max))
    }

    fn with(
        chain: TempoChain,
        world: World,
        escrow: Escrow,
        session: &str,
        total_max: &str,
    ) -> Self {
        add(&world, &format!("[rails.tempo.session]\n{session}fee_asset = \"usd\"\n"));
        let selling = "price = \"0.01 usd\"\nintents = [\"session\", \"charge\"]\n\
            session = { deposit = \"0.10 usd\" }";
        let desk = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TOKEN\"\n\n[store]";
        let place = format!("listen = \"{}\"\nrealm", free_address());
        let config = world.read("farthing.toml").replace("price = \"0.01 usd\"", selling);
        let config = config.replace("listen = \"127.0.0.1:0\"\nrealm", &place);
        world.write("farthing.toml", &config.replace("[store]", desk));
        let caps = format!("total_max = \"{total_max}\"\nsession_deposit_max = \"0.05\"");
        let wallet = world.read("home/wallet.toml").replace("total_max = \"1\"", &caps);
        world.write("home/wallet.toml", &wallet);
        Self { chain, world, escrow }
    }

    /// What the escrow has told of the payee's channels, in order.
    async fn told(&self) -> Vec<Happened> {
        told(&self.chain.url, self.escrow).await
    }

    /// Waits until what the escrow has told last is so.
    async fn told_at_last(&self, is_so: impl Fn(&Happened) -> bool) {
        let waiting = async {
            while !self.told().await.last().is_some_and(&is_so) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), waiting)
            .await
            .expect("the escrow tells of it");
    }

    /// Lets time go by on the chain.
    async fn wait(&self, seconds: u64) {
        ask(&self.chain, "evm_increaseTime", json!([seconds])).await;
        ask(&self.chain, "evm_mine", json!([])).await;
    }

    fn earned(&self) -> String {
        let balances = self.world.farthing(&["ledger", "balances", "--json"]).json();
        balances["payable/seller/usd"].to_string()
    }
}

/// S-14: many processes pay in one session: one opening and one close stand on the chain, and what the
/// payer does not have any more, the seller's account and both books agree about, to the atom.
#[tokio::test(flavor = "multi_thread")]
async fn one_opening_and_one_close_for_many_payments() {
    let Some(town) = Town::start("1").await else { return };
    let (shop, before) = (town.world.serve(), atoms(&town.world));
    for round in 1..=4_u128 {
        let paid = town.world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
        assert!(paid.err.contains("paid 0.01 usd to 0x70997970C5"), "{}", paid.err);
        assert!(paid.ok().contains(&format!("GET /quote?round={round}")));
        assert_eq!(town.world.stand(), [stands("open", 50_000, round * 10_000, round * 10_000)]);
    }
    let told = town.told().await;
    assert!(told.len() == 1 && opened(&told[0], 50_000), "four payments, one opening: {told:?}");
    let closed = town.world.farthing(&["sessions", "close", "--all"]).ok();
    assert!(closed.contains("closed: 0.04 usd spent, 0.01 usd free again"), "{closed}");
    let told = town.told().await;
    assert_eq!(told[1..], [Happened::Closed { to_payee: 40_000, to_payer: 10_000 }], "{told:?}");
    let fee = before - atoms(&town.world) - 40_000;
    assert!(fee < 40_000, "the fee of the opening: {fee}");
    assert_eq!(shop.stop().0, 0);
    town.world.verify(4);
    assert!(town.earned().contains("40000"), "{}", town.earned());
    let receipts = town.world.farthing(&["wallet", "receipts", "--json"]).json();
    assert_eq!(receipts.as_array().unwrap().len(), 4);
}

/// A session that runs short is topped up just in time, as far as the owner's cap goes, and no further.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_topped_up_to_the_cap_and_no_further() {
    let Some(town) = Town::start("0.08").await else { return };
    let shop = town.world.serve();
    for round in 1..=8 {
        town.world.pay(&[&shop.url(&format!("/quote?round={round}"))]).ok();
    }
    town.world.pay(&[&shop.url("/quote?round=9")]).fails(3, "total cap");
    assert_eq!(town.world.stand(), [stands("open", 80_000, 80_000, 80_000)]);
    let told = town.told().await;
    assert!(opened(&told[0], 50_000), "{told:?}");
    let topped_up = told[1..].iter().map(|it| {
        let Happened::ToppedUp { additional, .. } = it else { panic!("{it:?}") };
        *additional
    });
    assert_eq!(topped_up.sum::<u128>(), 30_000);
    let closed = town.world.farthing(&["sessions", "close", "--all"]).ok();
    assert!(closed.contains("0.08 usd spent, 0.00 usd free again"), "{closed}");
    drop(shop);
    town.world.verify(8);
}

/// S-16: the seller is silent for good: the wallet asks the escrow for the rest, and takes it after the
/// seller's time. What it was not charged on the chain is free again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_leaves_a_silent_seller() {
    let Some(town) = Town::start("1").await else { return };
    let shop = town.world.serve();
    town.world.pay(&[&shop.url("/quote?a")]).ok();
    drop(shop);
    town.world.farthing(&["sessions", "close", "--all"]).fails(7, "cannot be reached");
    let before = atoms(&town.world);
    let force = ["sessions", "close", "--all", "--force"];
    let asked = town.world.farthing(&force).ok();
    assert!(asked.contains("leaving: 0.04 usd not back yet"), "{asked}");
    assert!(matches!(town.told().await[..], [_, Happened::CloseRequested { .. }]));
    // Too early, and once more: it is asked for once.
    town.world.farthing(&["sessions", "recover"]).ok();
    town.world.farthing(&force).ok();
    assert_eq!(town.told().await.len(), 2);
    assert_eq!(town.world.sessions()[0]["state"], "leaving");
    town.wait(GRACE_S).await;
    let left = town.world.farthing(&["sessions", "recover"]).ok();
    assert!(left.contains("closed: 0.00 usd spent, 0.05 usd free again"), "{left}");
    let told = town.told().await;
    assert_eq!(told[2], Happened::Closed { to_payee: 0, to_payer: 50_000 });
    let back = atoms(&town.world) - before;
    assert!((45_000..50_000).contains(&back), "the deposit, less two fees: {back}");
    town.world.farthing(&["ledger", "verify", "--wallet"]).ok();
    assert_eq!(town.world.farthing(&["sessions", "recover"]).ok(), "", "nothing is left to do");
}

/// S-15, S-17: a payer asks the escrow for everything back although it has bought; the seller comes with
/// the newest voucher while it has time, and the wallet counts what the chain says.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_voucher_wins_over_who_leaves() {
    let Some(town) = Town::start("1").await else { return };
    let shop = town.world.serve();
    for round in 1..=3 {
        town.world.pay(&[&shop.url(&format!("/quote?round={round}"))]).ok();
    }
    drop(shop);
    town.world.farthing(&["sessions", "close", "--all", "--force"]).ok();
    // Nothing is paid with it any more; the seller notices, and takes what it is owed.
    let shop = town.world.serve();
    town.told_at_last(|it| matches!(it, Happened::Closed { .. })).await;
    let told = town.told().await;
    let last = told.last().unwrap();
    assert_eq!(*last, Happened::Closed { to_payee: 30_000, to_payer: 20_000 });
    let left = town.world.farthing(&["sessions", "recover"]).ok();
    assert!(left.contains("closed: 0.03 usd spent, 0.02 usd free again"), "{left}");
    drop(shop);
    town.world.verify(3);
}

/// The answer to an opening is lost, and asked for so late that no chain would take the opening again: the
/// chain says that it is open, and the same voucher gets the answer. The deposit moved once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_opening_is_found_on_the_chain() {
    let Some(town) = Town::start("1").await else { return };
    let upstream = echo().await;
    town.world.sell(nowhere());
    let shop = town.world.serve();
    // The gateway took the voucher and cannot answer.
    town.world.pay(&[&shop.url("/quote?a")]).fails(5, "does not pay twice");
    assert_eq!(town.world.stand(), [stands("opening", 50_000, 10_000, 0)]);
    drop(shop);
    town.world.sell(upstream);
    town.wait(60).await;
    let shop = town.world.serve();
    let answered = town.world.pay(&[&shop.url("/quote?a")]).ok();
    assert!(answered.contains("GET /quote?a"), "{answered}");
    assert_eq!(town.world.stand(), [stands("open", 50_000, 10_000, 10_000)]);
    assert_eq!(town.told().await.len(), 1);
    drop(shop);
    town.world.verify(1);
}

/// An opening that the chain never took frees what was held, once no chain can take it any more; and not
/// before, whatever the seller says.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_never_came_frees_its_hold() {
    let Some(town) = Town::start("0.05").await else { return };
    let config = town.world.read("farthing.toml");
    let hasty = config.replace("\nrecipient =", "\nsettle_timeout_ms = 300\nrecipient =");
    town.world.write("farthing.toml", &hasty);
    let shop = town.world.serve();
    ask(&town.chain, "evm_setIntervalMining", json!([0])).await;
    ask(&town.chain, "evm_setAutomine", json!([false])).await;
    let lost = town.world.pay(&[&shop.url("/quote?a")]);
    assert_eq!(lost.code, 5, "{}", lost.err);
    drop(shop);
    ask(&town.chain, "anvil_dropAllTransactions", json!([])).await;
    // Nobody says anything, and nothing is free.
    town.world.farthing(&["sessions", "recover"]).fails(7, "cannot be reached");
    assert_eq!(town.world.sessions()[0]["state"], "opening");
    town.wait(60).await;
    let recovered = town.world.farthing(&["sessions", "recover"]).ok();
    assert!(recovered.contains("closed: 0.00 usd spent, 0.05 usd free again"), "{recovered}");
    ask(&town.chain, "evm_setAutomine", json!([true])).await;
    ask(&town.chain, "evm_setIntervalMining", json!([1])).await;
    let shop = town.world.serve();
    town.world.pay(&[&shop.url("/quote?b")]).ok();
    let told = town.told().await;
    assert!(told.len() == 1 && opened(&told[0], 50_000), "{told:?}");
}

async fn close_at(shop: &Serving, channel: &str) {
    let url = format!("http://{}/v1/sessions/close", shop.admin.as_ref().unwrap());
    let order = format!("{{\"channel\":\"tempo:{channel}\"}}");
    let request = reqwest::Client::new().post(url).bearer_auth(TOKEN).body(order);
    let closed = request.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(closed.status(), 200, "{}", closed.text().await.unwrap());
}

/// A session that the seller has closed is counted up by what the chain says, and another one is opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_is_replaced() {
    let Some(town) = Town::start("1").await else { return };
    let shop = town.world.serve();
    town.world.pay(&[&shop.url("/quote?a")]).ok();
    let first = town.world.sessions()[0]["channel"].as_str().unwrap().to_owned();
    close_at(&shop, &first).await;
    town.world.pay(&[&shop.url("/quote?b")]).ok();
    let (new, old) =
        (stands("open", 50_000, 10_000, 10_000), stands("closed", 50_000, 20_000, 10_000));
    assert_eq!(town.world.stand(), [new, old]);
    let told = town.told().await;
    assert_eq!(told[1], Happened::Closed { to_payee: 10_000, to_payer: 40_000 });
    assert!(told.len() == 3 && opened(&told[2], 50_000), "{told:?}");
}

/// A deposit that there is no money for is smaller; and where there is none for any, and the fee of it, the
/// request is paid for by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_as_large_as_there_is_money() {
    let Some(town) = Town::start("1").await else { return };
    let wallet = town.world.read("home/wallet.toml");
    let generous =
        wallet.replace("session_deposit_max = \"0.05\"", "session_deposit_max = \"0.5\"");
    town.world.write("home/wallet.toml", &generous);
    let config = town.world.read("farthing.toml");
    town.world.write("farthing.toml", &config.replace("\"0.10 usd\"", "\"0.40 usd\""));
    let shop = town.world.serve();
    leave(&town.chain, DEVELOPMENT_ACCOUNTS[2], 330_000).await;
    town.world.pay(&[&shop.url("/quote?a")]).ok();
    assert_eq!(town.world.stand(), [stands("open", 200_000, 10_000, 10_000)]);
    town.world.farthing(&["sessions", "close", "--all"]).ok();
    // Enough for a deposit to the atom, and nothing for its fee.
    leave(&town.chain, DEVELOPMENT_ACCOUNTS[2], 100_000).await;
    town.world.pay(&[&shop.url("/quote?b")]).ok();
    assert_eq!(town.world.stand(), [stands("closed", 200_000, 10_000, 10_000)], "and no other");
    drop(shop);
    town.world.verify(2);
    assert!(town.earned().contains("20000"), "{}", town.earned());
}

/// S-14: the same over the chain's own reserve, as version 2 has it: the close takes what was spent, with
/// an operator who acts for the seller. A stand-in of ours is where the reserve would be; what only a
/// chain knows of an opening, it is told beforehand.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_over_the_chains_own_reserve() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let compiled = include_str!("../../../../contracts/artifacts/ReserveStandIn.json");
    let compiled: Value = serde_json::from_str(compiled).unwrap();
    let code = format!("0x{}", compiled["runtime"].as_str().unwrap());
    ask(&chain, "anvil_setCode", json!([RESERVE.to_string(), code])).await;
    let approve = format!("0x095ea7b3{:0>64}{}", &RESERVE.to_string()[2..], "f".repeat(64));
    let approve = json!([{
        "from": DEVELOPMENT_ACCOUNTS[2], "to": PATH_USD, "data": approve, "gas": "0x200000",
    }]);
    ask(&chain, "eth_sendTransaction", approve).await;
    let world = set_up(&chain).await;
    world.write("operator.key", DEVELOPMENT_KEYS[4]);
    let escrow = Escrow::new(Family::TempoV2, TEMPO_CHAIN_ID, RESERVE);
    let town = Town::with(chain, world, escrow, "key = \"file:operator.key\"\n", "1");
    let shop = town.world.serve();
    let (gateway, node) = (shop.url.clone(), town.chain.url.clone());
    let foretelling = axum::Router::new().fallback(move |request: Request| {
        let (gateway, node) = (gateway.clone(), node.clone());
        async move { foretell(&gateway, &node, request).await }
    });
    let front = format!("http://{}", serve(foretelling).await);
    for round in 1..=6_u128 {
        let paid = town.world.pay(&[&format!("{front}/quote?round={round}")]);
        assert!(paid.ok().contains(&format!("GET /quote?round={round}")));
        assert_eq!(town.world.stand()[0].3, round * 10_000);
    }
    let closed = town.world.farthing(&["sessions", "close", "--all"]).ok();
    assert!(closed.contains("0.06 usd spent, 0.04 usd free again"), "{closed}");
    let told = town.told().await;
    assert!(opened(&told[0], 50_000), "{told:?}");
    assert!(matches!(told[1], Happened::ToppedUp { additional: 50_000, .. }), "{told:?}");
    assert_eq!(told[2..], [Happened::Closed { to_payee: 60_000, to_payer: 40_000 }]);
    drop(shop);
    town.world.verify(6);
}

/// Passes a request on; and tells the stand-in before which transaction is about to open a channel.
async fn foretell(gateway: &str, node: &str, request: Request) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let (head, _) = request.into_parts();
    let line = head.headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
    let token = line.as_deref().and_then(|line| line.strip_prefix("Payment "));
    if let Some(token) = token {
        let credential = farthing_mpp::base64url::decode(token).unwrap();
        let credential: Value = serde_json::from_slice(&credential).unwrap();
        let payload = &credential["payload"];
        if payload["action"] == "open" {
            let descriptor = &payload["descriptor"];
            let payer = &descriptor["payer"].as_str().unwrap()[2..];
            let chain = json!([format!("0x{payer:0>64}{:064}", 0)]);
            let call = |method: &str, params: Value| {
                let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
                let sent = reqwest::Client::new().post(node);
                sent.header("content-type", "application/json").body(call.to_string()).send()
            };
            let slot = call("web3_sha3", chain).await.unwrap().bytes().await.unwrap();
            let slot = serde_json::from_slice::<Value>(&slot).unwrap()["result"].clone();
            let set = json!([RESERVE.to_string(), slot, descriptor["expiringNonceHash"]]);
            call("anvil_setStorageAt", set).await.unwrap();
        }
    }
    let url = format!("{gateway}{}", head.uri);
    let mut fields = head.headers.clone();
    fields.remove("host");
    let answer = reqwest::Client::new().request(head.method, url).headers(fields).send();
    let answer = answer.await.unwrap();
    let (status, mut fields) = (answer.status(), answer.headers().clone());
    fields.remove("transfer-encoding");
    fields.remove("content-length");
    (status, fields, answer.bytes().await.unwrap()).into_response()
}
