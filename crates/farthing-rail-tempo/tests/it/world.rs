//! A chain, a seller, two buyers, and a node that cannot be trusted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{B256, U256};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use farthing_ledger::Holder;
use farthing_rail_tempo::{Address, Nodes, Settings, TempoPayer, TempoRail, Token, Tokens};
use farthing_testkit::chain::{
    ALPHA_USD, DEVELOPMENT_ACCOUNTS, PATH_USD, TEMPO_CHAIN_ID, TempoChain, development_key,
};
use farthing_testkit::rail::{Railway, assets};
use farthing_testkit::store::START;
use serde_json::{Value, json};

pub(crate) struct World {
    pub(crate) chain: TempoChain,
}

impl World {
    /// A chain whose clock stands where the stories begin.
    pub(crate) async fn start() -> Option<Self> {
        let chain = TempoChain::start(Some(START.as_secs())).await?;
        Some(Self { chain })
    }

    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        nodes(&[&self.chain.url])
    }

    /// The buyer with the development key of this number.
    pub(crate) fn payer(&self, number: usize) -> TempoPayer {
        TempoPayer::new(&development_key(number), self.nodes(), tokens()).unwrap()
    }

    /// The seller over the chain itself.
    pub(crate) fn railway(&self) -> Railway {
        self.railway_with(TempoRail::new(self.nodes(), settings()))
    }

    pub(crate) fn railway_with(&self, rail: TempoRail) -> Railway {
        Railway {
            rail: Arc::new(rail),
            payer: Arc::new(self.payer(2)),
            stranger: Arc::new(self.payer(3)),
            entries: Vec::new(),
            recipient: DEVELOPMENT_ACCOUNTS[1].into(),
            guard: None,
        }
    }

    /// What an account of this number holds of pathUSD.
    pub(crate) async fn balance(&self, number: usize) -> u128 {
        let account: Address = DEVELOPMENT_ACCOUNTS[number].parse().unwrap();
        self.nodes().balance(PATH_USD.parse().unwrap(), account).await.unwrap()
    }

    /// Hands a signed transaction to the chain, as a buyer who pushes does.
    pub(crate) async fn push(&self, raw: &str) -> String {
        let answer = self.ask("eth_sendRawTransaction", json!([raw])).await;
        answer["result"].as_str().unwrap().to_owned()
    }

    /// Leaves an account nothing of pathUSD.
    pub(crate) async fn drain(&self, number: usize) {
        self.leave(DEVELOPMENT_ACCOUNTS[number].parse().unwrap(), 0).await;
    }

    /// Leaves an account this much of pathUSD. A TIP-20 token keeps balances in a mapping at slot 9.
    pub(crate) async fn leave(&self, account: Address, atoms: u64) {
        let word: alloy_primitives::Address = account.to_string().parse().unwrap();
        let slot = [word.into_word().0, U256::from(9).to_be_bytes()].concat();
        let slot = alloy_primitives::keccak256(slot);
        let value = B256::from(U256::from(atoms));
        self.ask("anvil_setStorageAt", json!([PATH_USD, slot, value])).await;
        assert_eq!(self.holds(account).await, u128::from(atoms));
    }

    /// What an account holds of pathUSD.
    pub(crate) async fn holds(&self, account: Address) -> u128 {
        self.nodes().balance(PATH_USD.parse().unwrap(), account).await.unwrap()
    }

    /// Lets time pass on the chain.
    pub(crate) async fn wait(&self, seconds: u64) {
        self.ask("evm_increaseTime", json!([seconds])).await;
        self.ask("evm_mine", json!([])).await;
    }

    /// Sends a call from a development account.
    pub(crate) async fn call(&self, from: usize, to: &str, data: &[u8]) -> String {
        let data = alloy_primitives::hex::encode_prefixed(data);
        let from = DEVELOPMENT_ACCOUNTS[from];
        let call = json!([{ "from": from, "to": to, "data": data, "gas": "0x200000" }]);
        let sent = self.ask("eth_sendTransaction", call).await;
        let hash = sent["result"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
        loop {
            let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt["result"].is_null() {
                assert_eq!(receipt["result"]["status"], "0x1", "{receipt}");
                return hash;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let sent = reqwest::Client::new().post(&self.chain.url);
        let sent = sent.header("content-type", "application/json").body(request.to_string());
        serde_json::from_slice(&sent.send().await.unwrap().bytes().await.unwrap()).unwrap()
    }
}

pub(crate) fn nodes(urls: &[&str]) -> Arc<Nodes> {
    nodes_within(urls, Duration::from_secs(2))
}

/// Nodes that may take so long to answer.
pub(crate) fn nodes_within(urls: &[&str], timeout: Duration) -> Arc<Nodes> {
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    Arc::new(Nodes::new(TEMPO_CHAIN_ID, urls, timeout).unwrap())
}

pub(crate) fn settings() -> Settings {
    Settings {
        payee: Holder::new("seller").unwrap(),
        recipient: DEVELOPMENT_ACCOUNTS[1].parse().unwrap(),
        tokens: tokens(),
        push: true,
        confirmations: 1,
        wait: Duration::from_secs(20),
        sponsor: None,
        splits: Vec::new(),
        refunder: None,
    }
}

/// The assets of the suite, on two of the chain's tokens.
pub(crate) fn tokens() -> Tokens {
    let token = |name: &str, address: &str| Token {
        asset: assets().get(&name.parse().unwrap()).unwrap().clone(),
        address: address.parse().unwrap(),
    };
    Tokens::new(vec![token("usd", PATH_USD), token("sat", ALPHA_USD)])
}

/// What a node does with a transaction that is handed to it. Everything else it passes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes it on.
    None,
    /// Says that it has it, and drops it.
    Drops,
    /// Says that it has it, and keeps it until the fault is over.
    Stalls,
    /// Passes it on, and breaks off instead of answering.
    Loses,
    /// Passes nothing on and answers nothing but errors of its own.
    Broken,
    /// Says of every transaction that it was mined and succeeded, without an event.
    Lies,
    /// Tells nothing of the first of several channels that a transaction has settled.
    Omits,
    /// Tells of the first of them that more was settled than was.
    Adds,
    /// Passes it on, and never answers.
    Hangs,
    /// Listens, and never answers anything.
    Deaf,
    /// Says that it has too much to do.
    Busy,
    /// Says that it will not.
    Refuses,
    /// Passes it on, and knows nothing of any transaction afterwards.
    Forgets,
    /// Says that it has it, and stands still at its first block.
    Stopped,
}

/// A node in front of the chain, whose faults are turned on and off.
pub(crate) struct Proxy {
    pub(crate) url: String,
    fault: Arc<Mutex<Fault>>,
    chain: String,
    kept: Kept,
    asked: Arc<AtomicUsize>,
}

/// What a node that stalls has not passed on.
type Kept = Arc<Mutex<Vec<axum::body::Bytes>>>;

/// The chain behind a node, its fault, what it kept, and how many questions have come.
type Passing = (String, Arc<Mutex<Fault>>, Kept, Arc<AtomicUsize>);

impl Proxy {
    pub(crate) async fn start(world: &World) -> Self {
        Self::at(&world.chain.url).await
    }

    /// In front of the chain that is asked there.
    pub(crate) async fn at(url: &str) -> Self {
        let fault = Arc::new(Mutex::new(Fault::None));
        let (chain, kept) = (url.to_owned(), Kept::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let state = (chain.clone(), Arc::clone(&fault), Arc::clone(&kept), Arc::clone(&asked));
        let router = Router::new().fallback(pass).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, fault, chain, kept, asked }
    }

    /// How many questions have come.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn turn(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Passes on what was kept while it stalled.
    pub(crate) async fn catch_up(&self) {
        self.turn(Fault::None);
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        for body in kept {
            let sent = reqwest::Client::new().post(&self.chain);
            sent.header("content-type", "application/json").body(body).send().await.unwrap();
        }
    }
}

async fn pass(
    State((chain, fault, kept, asked)): State<Passing>,
    body: axum::body::Bytes,
) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let request: Value = serde_json::from_slice(&body).unwrap();
    let (sends, fault) = (request["method"] == "eth_sendRawTransaction", *fault.lock().unwrap());
    let asks_receipt = request["method"] == "eth_getTransactionReceipt";
    let hash = "0x".to_owned() + &"ab".repeat(32);
    let answer = |result: Value| {
        json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()
    };
    if fault == Fault::Broken {
        return (StatusCode::BAD_GATEWAY, "down for maintenance").into_response();
    }
    if fault == Fault::Deaf {
        return std::future::pending().await;
    }
    let error = |code: i64| {
        let error = json!({ "code": code, "message": "no" });
        json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string()
    };
    match (fault, request["method"].as_str().unwrap()) {
        (Fault::Busy, "eth_sendRawTransaction") => return error(-32_005).into_response(),
        (Fault::Refuses, "eth_sendRawTransaction") => return error(-32_000).into_response(),
        (Fault::Stopped, "eth_sendRawTransaction") => return answer(hash.into()).into_response(),
        (Fault::Stopped, "eth_blockNumber") => return answer("0x1".into()).into_response(),
        (Fault::Stopped, "eth_getBlockByNumber") => {
            let start = format!("{:#x}", START.as_secs());
            return answer(json!({ "number": "0x1", "timestamp": start })).into_response();
        }
        (
            Fault::Stopped | Fault::Forgets,
            "eth_getTransactionReceipt" | "eth_getTransactionByHash",
        ) => return answer(Value::Null).into_response(),
        _ => {}
    }
    if fault == Fault::Drops && sends {
        return answer(hash.into()).into_response();
    }
    if fault == Fault::Stalls && sends {
        kept.lock().unwrap().push(body);
        return answer(hash.into()).into_response();
    }
    if fault == Fault::Lies && sends {
        return answer(hash.into()).into_response();
    }
    if fault == Fault::Lies && asks_receipt {
        let receipt = json!({
            "transactionHash": request["params"][0],
            "blockNumber": "0x1",
            "status": "0x1",
            "logs": [],
        });
        return answer(receipt).into_response();
    }
    let passed = reqwest::Client::new().post(&chain).header("content-type", "application/json");
    let answer = passed.body(body).send().await.unwrap().bytes().await.unwrap();
    if matches!(fault, Fault::Omits | Fault::Adds) && asks_receipt {
        return altered(&answer, fault).into_response();
    }
    if fault == Fault::Hangs && sends {
        return std::future::pending().await;
    }
    if fault == Fault::Loses && sends {
        return (StatusCode::GATEWAY_TIMEOUT, "upstream timed out").into_response();
    }
    answer.into_response()
}

/// A receipt whose first word about a channel is kept back, or is another one.
fn altered(receipt: &[u8], fault: Fault) -> String {
    let mut answer: Value = serde_json::from_slice(receipt).unwrap();
    let logs = answer["result"]["logs"].as_array_mut();
    // What the escrow tells names the channel, the payer and the payee, beside the event's own name.
    let told = |log: &Value| log["topics"].as_array().is_some_and(|it| it.len() == 4);
    let found = logs.and_then(|logs| Some((logs.iter().position(told)?, logs)));
    if let Some((at, logs)) = found {
        if fault == Fault::Omits {
            logs.remove(at);
        } else {
            let data = logs[at]["data"].as_str().unwrap().to_owned();
            let (rest, last) = data.split_at(data.len() - 32);
            let settled = u128::from_str_radix(last, 16).unwrap() + 5;
            logs[at]["data"] = format!("{rest}{settled:032x}").into();
        }
    }
    answer.to_string()
}
