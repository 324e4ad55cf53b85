//! Sessions on an EVM chain that is not Tempo: the same escrow, another domain, and an account whose
//! transactions follow one another.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, hex};
use alloy_sol_types::SolValue as _;
use farthing_core::SettleError;
use farthing_money::Amount;
use farthing_rail_tempo::session::{
    Action, Descriptor, Errand, Escrow, EvmAccount, Family, Happened, Leave, Means, Outcome,
    Revert, Sent, SessionTerms, Take, Unfit, Voucher, creation_code,
};
use farthing_rail_tempo::{Address, Nodes};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, EVM_CHAIN_ID, EvmChain, development_key};
use serde_json::{Value, json};

use crate::channels::{PAYEE, account, done};

pub(crate) const PAYER: usize = 2;

pub(crate) const WAIT: Duration = Duration::from_secs(15);

pub(crate) struct Village {
    pub(crate) chain: EvmChain,
    pub(crate) escrow: Escrow,
    pub(crate) token: Address,
}

fn compiled(name: &str) -> Vec<u8> {
    let artifacts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts");
    let text = std::fs::read_to_string(format!("{artifacts}/{name}.json")).unwrap();
    let compiled: Value = serde_json::from_str(&text).unwrap();
    hex::decode(compiled["creation"].as_str().unwrap()).unwrap()
}

impl Village {
    pub(crate) async fn start() -> Option<Self> {
        let chain = EvmChain::start().await?;
        let escrow = creation_code(Family::Evm).unwrap();
        let escrow = deploy(&chain.url, 0, &escrow).await;
        // The token is its maker's.
        let token = deploy(&chain.url, PAYER, &compiled("TestToken")).await;
        Some(Self { escrow: Escrow::new(Family::Evm, EVM_CHAIN_ID, escrow), chain, token })
    }

    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        let urls = vec![self.chain.url.parse().unwrap()];
        Arc::new(Nodes::new(EVM_CHAIN_ID, urls, Duration::from_secs(5)).unwrap())
    }

    pub(crate) fn account(&self, number: usize, patience: Duration) -> EvmAccount {
        EvmAccount::new(&development_key(number), self.nodes(), 1, patience, WAIT).unwrap()
    }

    pub(crate) fn payer(&self) -> EvmAccount {
        self.account(PAYER, WAIT)
    }

    pub(crate) fn terms(&self) -> SessionTerms {
        SessionTerms {
            amount: Amount::new("usd".parse().unwrap(), 25),
            unit: None,
            suggested_deposit: None,
            token: self.token,
            recipient: account(PAYEE),
            escrow: self.escrow,
            channel: None,
            delta_min: 0,
            operator: "0x0000000000000000000000000000000000000000".parse().unwrap(),
            sponsored: false,
            means: vec![Means::Hash],
        }
    }

    pub(crate) async fn holds(&self, account: Address) -> u128 {
        self.nodes().balance(self.token, account).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        ask(&self.chain.url, method, params).await
    }

    async fn open(&self, payer: &EvmAccount, deposit: u128, salt: u8) -> Descriptor {
        let (_, descriptor) =
            payer.open_channel(&self.terms(), deposit, 0, B256::repeat_byte(salt)).await.unwrap();
        descriptor
    }

    fn voucher(&self, payer: &EvmAccount, of: &Descriptor, owed: u128) -> Voucher {
        let voucher = payer.key().sign(&self.escrow, of.id(&self.escrow), owed).unwrap();
        assert_eq!(voucher.verify(&self.escrow, of.signer()), Ok(()));
        voucher
    }
}

async fn ask(url: &str, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let sent = reqwest::Client::new().post(url).header("content-type", "application/json");
    let sent = sent.body(request.to_string()).send().await.unwrap();
    serde_json::from_slice(&sent.bytes().await.unwrap()).unwrap()
}

async fn deploy(url: &str, from: usize, code: &[u8]) -> Address {
    let data = hex::encode_prefixed(code);
    let call = json!([{ "from": DEVELOPMENT_ACCOUNTS[from], "data": data, "gas": "0x600000" }]);
    let sent = ask(url, "eth_sendTransaction", call).await;
    let hash = sent["result"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
    loop {
        let receipt = ask(url, "eth_getTransactionReceipt", json!([hash])).await;
        if !receipt["result"].is_null() {
            assert_eq!(receipt["result"]["status"], "0x1", "{receipt}");
            return receipt["result"]["contractAddress"].as_str().unwrap().parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// EVS.S03, EVS.S04, S-14: a payer opens by itself and shows the hash, tops up, pays and is closed with;
/// everybody holds what they should, to the atom.
#[tokio::test]
async fn a_channel_lives_on_an_evm_chain() {
    let Some(village) = Village::start().await else { return };
    let (payer, terms) = (village.payer(), village.terms());
    let before = village.holds(account(PAYER)).await;
    let salt = B256::repeat_byte(1);
    let (payload, descriptor) = payer.open_channel(&terms, 10_000, 25, salt).await.unwrap();
    let Ok(Action::Open(open)) = Action::read(Family::Evm, &payload) else { panic!() };
    assert_eq!(open.voucher.verify(&village.escrow, account(PAYER)), Ok(()));
    let sent = Sent::opening(&open, &terms, account(PAYER)).unwrap();
    let credited = sent.credited(&village.nodes(), 1, WAIT).await.unwrap();
    assert_eq!((credited.state.what.deposit, sent.descriptor), (10_000, Some(descriptor)));
    let payload = payer.top_up_channel(&terms, &descriptor, 500).await.unwrap();
    let Ok(Action::TopUp(top_up)) = Action::read(Family::Evm, &payload) else { panic!() };
    let sent = Sent::top_up(&top_up, &terms).unwrap();
    let credited = sent.credited(&village.nodes(), 1, WAIT).await.unwrap();
    assert_eq!(credited.state.what.deposit, 10_500);
    let payee = village.account(PAYEE, WAIT);
    let settle = Take::Settle(village.voucher(&payer, &descriptor, 75));
    let close = Take::Close { voucher: village.voucher(&payer, &descriptor, 100), capture: 100 };
    let errands = [settle, close].map(|take| Errand { descriptor, take });
    let outcomes = payee.run(&village.escrow, &errands).await;
    let what = |at: usize| done(&outcomes[at]).events[0].what;
    assert_eq!(what(0), Happened::Settled { delta: 75, settled: 75 });
    assert_eq!(what(1), Happened::Closed { to_payee: 100, to_payer: 10_400 });
    assert_eq!(village.holds(account(PAYEE)).await, 100);
    assert_eq!(village.holds(account(PAYER)).await, before - 100);
    assert_eq!(village.holds(village.escrow.address).await, 0);
    let again = payee.run(&village.escrow, &errands).await;
    assert_eq!(again, vec![Outcome::Refused(Revert::Finalized); 2]);
}

/// B-07, S-02, EVS.S02, EVS.S04: a hash counts for its own channel and its own amount, and what was undone
/// counts for nothing, at once.
#[tokio::test]
async fn a_hash_is_what_it_did() {
    let Some(village) = Village::start().await else { return };
    let (payer, terms) = (village.payer(), village.terms());
    let salt = B256::repeat_byte(1);
    let (payload, descriptor) = payer.open_channel(&terms, 10_000, 25, salt).await.unwrap();
    let Ok(Action::Open(open)) = Action::read(Family::Evm, &payload) else { panic!() };
    // Another's name, another payee, another salt make another channel.
    let stranger = Sent::opening(&open, &terms, account(5));
    assert_eq!(stranger, Err(Unfit::Channel));
    let elsewhere = SessionTerms { recipient: account(5), ..terms.clone() };
    assert_eq!(Sent::opening(&open, &elsewhere, account(PAYER)), Err(Unfit::Channel));
    let mut salted = open.clone();
    salted.salt = Some(B256::ZERO);
    assert_eq!(Sent::opening(&salted, &terms, account(PAYER)), Err(Unfit::Channel));
    // Another transaction's hash opens nothing.
    let other = village.open(&payer, 500, 2).await;
    let nodes = village.nodes();
    let mut borrowed = open.clone();
    borrowed.voucher.channel = other.id(&village.escrow);
    borrowed.salt = Some(other.salt);
    let borrowed = Sent::opening(&borrowed, &terms, account(PAYER)).unwrap();
    assert_eq!(borrowed.credited(&nodes, 1, WAIT).await, Err(SettleError::Declined));
    let control = Sent::opening(&open, &terms, account(PAYER)).unwrap();
    assert!(control.credited(&nodes, 1, WAIT).await.is_ok(), "the control");
    // A top-up is by as much as it is.
    let payload = payer.top_up_channel(&terms, &descriptor, 500).await.unwrap();
    let Ok(Action::TopUp(mut top_up)) = Action::read(Family::Evm, &payload) else { panic!() };
    top_up.additional = 501;
    let more = Sent::top_up(&top_up, &terms).unwrap();
    assert_eq!(more.credited(&nodes, 1, WAIT).await, Err(SettleError::Declined));
    // What was undone is told at once, and what nobody has sent stays open.
    let call = json!([{
        "from": DEVELOPMENT_ACCOUNTS[5], "to": village.escrow.address.to_string(),
        "data": "0x8e19899e", "gas": "0x30000"
    }]);
    let undone = village.ask("eth_sendTransaction", call).await;
    let mut failed = open.clone();
    let hash = undone["result"].as_str().unwrap().parse().unwrap();
    failed.funding = farthing_rail_tempo::session::Funding::Hash(hash);
    let failed = Sent::opening(&failed, &terms, account(PAYER)).unwrap();
    assert_eq!(failed.credited(&nodes, 1, WAIT).await, Err(SettleError::Declined));
    let mut absent = open;
    absent.funding = farthing_rail_tempo::session::Funding::Hash(B256::repeat_byte(9));
    let absent = Sent::opening(&absent, &terms, account(PAYER)).unwrap();
    let waited = absent.credited(&nodes, 1, Duration::from_millis(300)).await;
    assert_eq!(waited, Err(SettleError::Unknown));
}

/// S-10, F-08: a transaction that gets stuck is replaced by one that pays more, under the same nonce: one
/// of them is mined, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_transaction_is_replaced() {
    let Some(village) = Village::start().await else { return };
    let payer = village.payer();
    let descriptor = village.open(&payer, 1_000, 1).await;
    let voucher = village.voucher(&payer, &descriptor, 100);
    village.ask("evm_setAutomine", json!([false])).await;
    village.ask("evm_setIntervalMining", json!([0])).await;
    let payee = Arc::new(village.account(PAYEE, Duration::from_millis(300)));
    let (escrow, owner) = (village.escrow, Arc::clone(&payee));
    let errand = Errand { descriptor, take: Take::Settle(voucher) };
    let running = tokio::spawn(async move { owner.run(&escrow, &[errand]).await.remove(0) });
    let waits = || async {
        let pool = village.ask("txpool_content", json!([])).await;
        let ours = pool["result"]["pending"].as_object().unwrap().values().next().cloned();
        ours.and_then(|it| it.as_object().unwrap().values().next().cloned())
    };
    let price = |tx: &Value| {
        let text = tx["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x").to_owned();
        u128::from_str_radix(&text, 16).unwrap()
    };
    let mut prices = Vec::new();
    while prices.len() < 3 {
        assert!(!running.is_finished(), "it goes on as long as nothing is mined");
        if let Some(waiting) = waits().await {
            let price = price(&waiting);
            if prices.last() != Some(&price) {
                prices.push(price);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(prices.windows(2).all(|pair| pair[1] >= pair[0] + pair[0] / 4), "{prices:?}");
    village.ask("evm_mine", json!([])).await;
    let outcome = running.await.unwrap();
    assert_eq!(done(&outcome).events[0].what, Happened::Settled { delta: 100, settled: 100 });
    assert_eq!(village.holds(account(PAYEE)).await, 100);
    let asked = json!([DEVELOPMENT_ACCOUNTS[PAYEE], "latest"]);
    let nonce = village.ask("eth_getTransactionCount", asked).await;
    assert_eq!(nonce["result"], "0x1", "one nonce was used");
}

/// F-08: there is a ceiling to what is offered: at it, a transaction waits, is found when it is mined, and
/// nothing was offered beyond. After a restart, what waits is replaced, and what was to be done is done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_transaction_is_not_replaced_at_any_price() {
    let Some(village) = Village::start().await else { return };
    let payer = village.payer();
    let descriptor = village.open(&payer, 1_000, 1).await;
    let errand = |owed| {
        let take = Take::Settle(village.voucher(&payer, &descriptor, owed));
        Errand { descriptor, take }
    };
    let (first, second) = (errand(100), errand(150));
    village.ask("evm_setAutomine", json!([false])).await;
    village.ask("evm_setIntervalMining", json!([0])).await;
    let escrow = village.escrow;
    let waiting = || async {
        let pool = village.ask("txpool_content", json!([])).await;
        let ours = pool["result"]["pending"].as_object().unwrap().values().next().cloned();
        ours.and_then(|it| it.as_object().unwrap().values().next().cloned())
    };
    let price = |tx: &Value| {
        let text = tx["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x").to_owned();
        u128::from_str_radix(&text, 16).unwrap()
    };
    let ceiling = 4_000_000_000;
    let patience = Duration::from_millis(100);
    let payee = village.account(PAYEE, patience).offering_at_most(ceiling);
    let running = tokio::spawn(async move { payee.run(&escrow, &[first]).await.remove(0) });
    // It is raised as long as it may be, and then stays: ten times as long as it would wait otherwise.
    let (mut last, mut same) = (0, 0);
    while same < 50 {
        assert!(!running.is_finished(), "it goes on as long as nothing is mined");
        if let Some(price) = waiting().await.map(|tx| price(&tx)) {
            assert!(price <= ceiling, "{price}");
            same = if price == last { same + 1 } else { 0 };
            last = price;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last > ceiling / 2, "{last}");
    // Whoever ran it dies. The next one has more to settle and knows nothing of what waits.
    running.abort();
    let payee = village.account(PAYEE, patience);
    let running = tokio::spawn(async move { payee.run(&escrow, &[second]).await.remove(0) });
    loop {
        assert!(!running.is_finished(), "it goes on as long as nothing is mined");
        if waiting().await.is_some_and(|tx| price(&tx) > ceiling) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    village.ask("evm_mine", json!([])).await;
    let outcome = running.await.unwrap();
    assert_eq!(done(&outcome).events[0].what, Happened::Settled { delta: 150, settled: 150 });
    assert_eq!(village.holds(account(PAYEE)).await, 150);
}

/// One owner of an account's nonces: what is asked for at once is sent one after the other, and all of it
/// is done.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_one_owner() {
    let Some(village) = Village::start().await else { return };
    let payer = village.payer();
    let payee = Arc::new(village.account(PAYEE, WAIT));
    let mut running = Vec::new();
    for salt in 1..=8 {
        let descriptor = village.open(&payer, 1_000, salt).await;
        let take = Take::Settle(village.voucher(&payer, &descriptor, u128::from(salt)));
        let (owner, escrow) = (Arc::clone(&payee), village.escrow);
        running.push(tokio::spawn(async move {
            owner.run(&escrow, &[Errand { descriptor, take }]).await.remove(0)
        }));
    }
    for outcome in running {
        done(&outcome.await.unwrap());
    }
    assert_eq!(village.holds(account(PAYEE)).await, (1..=8).sum::<u128>());
}

/// SES.P02, EVS.S02: a contract account's signature counts on the chain (ERC-1271), and only its own.
#[tokio::test]
async fn a_contract_signs_for_its_channel() {
    let Some(village) = Village::start().await else { return };
    let payer = village.payer();
    let owner: alloy_primitives::Address = DEVELOPMENT_ACCOUNTS[PAYER].parse().unwrap();
    let code = [compiled("TestWallet"), (owner,).abi_encode()].concat();
    let wallet = deploy(&village.chain.url, 0, &code).await;
    let plain = village.open(&payer, 1_000, 1).await;
    let descriptor = Descriptor { authorized_signer: wallet, salt: B256::repeat_byte(2), ..plain };
    let word = |it: Address| it.to_string().parse::<alloy_primitives::Address>().unwrap();
    let approve = (word(village.escrow.address), alloy_primitives::U256::from(1_000)).abi_encode();
    let open =
        (word(descriptor.payee), word(descriptor.token), 1_000_u128, descriptor.salt, word(wallet))
            .abi_encode();
    for (to, name, args) in
        [(village.token, "095ea7b3", approve), (village.escrow.address, "c79ea485", open)]
    {
        let data = format!("0x{name}{}", hex::encode(args));
        let call =
            json!([{ "from": DEVELOPMENT_ACCOUNTS[PAYER], "to": to.to_string(), "data": data }]);
        let sent = village.ask("eth_sendTransaction", call).await;
        assert!(sent["result"].is_string(), "{sent}");
    }
    let channel = descriptor.id(&village.escrow);
    let payee = village.account(PAYEE, WAIT);
    let signed = |by: usize| {
        let key = village.account(by, WAIT);
        let voucher = key.key().sign(&village.escrow, channel, 100).unwrap();
        Errand { descriptor, take: Take::Settle(voucher) }
    };
    let refused = payee.run(&village.escrow, &[signed(5)]).await;
    assert_eq!(refused, [Outcome::Refused(Revert::Signature)]);
    let settled = payee.run(&village.escrow, &[signed(PAYER)]).await;
    done(&settled[0]);
}

/// S-16, SES.P05: the way out without the seller, with the chain's time moved on.
#[tokio::test]
async fn a_payer_leaves_an_evm_channel() {
    let Some(village) = Village::start().await else { return };
    let payer = village.payer();
    let descriptor = village.open(&payer, 1_000, 1).await;
    let before = village.holds(account(PAYER)).await;
    let leave = |what| payer.leave_channel(&village.escrow, &descriptor, what);
    assert_eq!(leave(Leave::Withdraw).await, Err(SettleError::Declined));
    let asked = leave(Leave::RequestClose).await.unwrap();
    assert!(matches!(asked[0].what, Happened::CloseRequested { .. }));
    assert_eq!(leave(Leave::Withdraw).await, Err(SettleError::Declined));
    village.ask("evm_increaseTime", json!([15 * 60 + 5])).await;
    village.ask("evm_mine", json!([])).await;
    let left = leave(Leave::Withdraw).await.unwrap();
    assert_eq!(left[0].what, Happened::Closed { to_payee: 0, to_payer: 1_000 });
    assert_eq!(village.holds(account(PAYER)).await, before + 1_000);
}
