//! JSON-RPC to the chain's nodes: several of them, each with a deadline, and none believed further
//! than it must be.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use alloy_primitives::{B256, Bytes, U64, U128, U256, address};
use alloy_sol_types::{SolCall as _, SolEvent as _, sol};
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempo_primitives::TempoTransaction;
use tokio::time::Instant;

use crate::receipt::event::TransferWithMemo;
use crate::wire::{Address, Transfer};

/// A chain, through its nodes. Their addresses may contain keys and are not shown.
pub struct Nodes {
    client: reqwest::Client,
    chain_id: u64,
    all: Vec<Node>,
    /// The node that answered last.
    preferred: AtomicUsize,
    next_id: AtomicU64,
    /// The latest block, and when it was asked for: one question serves everybody who waits.
    head: tokio::sync::Mutex<Option<(Instant, u64)>>,
    /// The receipts of the block that was asked for last: one answer serves everybody who waits.
    block: tokio::sync::Mutex<Option<(u64, Arc<BlockReceipts>)>>,
    /// Whether nodes answer for whole blocks.
    by_block: AtomicBool,
}

/// The receipts of one block.
type BlockReceipts = HashMap<B256, TxReceipt>;

pub(crate) struct Node {
    url: Url,
    /// Whether it was asked which chain it serves, and serves ours.
    is_ours: AtomicBool,
}

/// Why nodes cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// There are none.
    #[error("a chain needs at least one node: an http or https URL")]
    None,
    /// The client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// What became of a call. The variants are the things a caller may do next.
#[derive(Debug)]
pub(crate) enum CallError {
    /// No node was reached: nothing was sent.
    Unsent,
    /// A request may have arrived, and no answer came.
    Lost,
    /// A node answered that it will not.
    Refused(String),
}

/// A transaction's receipt, as far as a payment needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TxReceipt {
    pub(crate) transaction_hash: B256,
    pub(crate) block_number: U64,
    pub(crate) status: U64,
    pub(crate) logs: Vec<Log>,
    /// The contract that it has made, if it has made one.
    #[serde(default)]
    pub(crate) contract_address: Option<alloy_primitives::Address>,
    /// Who has sent it.
    #[serde(default)]
    pub(crate) from: Option<alloy_primitives::Address>,
    /// What it has burnt.
    #[serde(default)]
    pub(crate) gas_used: Option<U64>,
    /// What a unit of that has cost.
    #[serde(default)]
    pub(crate) effective_gas_price: Option<U128>,
    /// What the chain above has taken for it, on chains that have one.
    #[serde(default)]
    pub(crate) l1_fee: Option<U128>,
}

/// An event of a contract.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Log {
    pub(crate) address: alloy_primitives::Address,
    pub(crate) topics: Vec<B256>,
    pub(crate) data: Bytes,
}

/// A block, as far as its time.
#[derive(Debug, Deserialize)]
struct Block {
    timestamp: U64,
}

/// An event that was searched for, as far as where it happened.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundLog {
    transaction_hash: B256,
}

/// What all nodes together know of a transaction.
#[derive(Debug)]
pub(crate) enum Sighting {
    /// It was mined, by the word of the node that is asked first from now on.
    Mined(TxReceipt),
    /// No node that answers has seen it mined.
    Unmined {
        /// Whether one of them has it waiting.
        is_waiting: bool,
        /// How far the last of them is, in seconds since 1970.
        at_s: u64,
    },
}

/// The codes by which a node says that it did not look at the request: too many came.
const BUSY: [i64; 2] = [-32_005, 429];

/// The codes by which a node says that something in it failed, before or after it took what it was sent.
const FAILED: [i64; 2] = [-32_603, -32_002];

/// How far a node may be behind another before that one is asked instead, in seconds.
const BEHIND_S: u64 = 10;

/// How much of what is estimated a transaction may burn, in percent: the chain moves on meanwhile.
pub(crate) const GAS_PERCENT: u64 = 120;

/// Hands a transaction over.
const SEND: &str = "eth_sendRawTransaction";

/// How many blocks are searched at once.
pub(crate) const SEARCHED_AT_ONCE: u64 = 5_000;

/// Where the chain keeps accounts' access keys.
pub(crate) const KEYCHAIN: Address = Address(address!("aAAAaaAA00000000000000000000000000000000"));

sol! {
    struct KeyInfo {
        uint8 signatureType;
        address keyId;
        uint64 expiry;
        bool enforceLimits;
        bool isRevoked;
    }
    function getKey(address account, address keyId) view returns (KeyInfo);
    function getRemainingLimitWithPeriod(address account, address keyId, address token)
        view returns (uint256 remaining, uint64 periodEnd);
}

/// How an account's access key stands, by the chain's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyStanding {
    /// The account has authorised no such key.
    Unknown,
    /// It may act.
    Active,
    /// The account has taken it back.
    Revoked,
    /// It was authorised until a moment that is over.
    Expired,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("chain_id", &self.chain_id).finish_non_exhaustive()
    }
}

impl Nodes {
    /// The chain `chain_id` through `urls`, in the order they are preferred. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A [`NodesError`].
    pub fn new(chain_id: u64, urls: Vec<Url>, timeout: Duration) -> Result<Self, NodesError> {
        if urls.is_empty() || !urls.iter().all(is_http) {
            return Err(NodesError::None);
        }
        let client = reqwest::Client::builder().timeout(timeout).connect_timeout(timeout);
        let client = client.build().map_err(NodesError::Client)?;
        let node = |url| Node { url, is_ours: AtomicBool::new(false) };
        Ok(Self {
            client,
            chain_id,
            all: urls.into_iter().map(node).collect(),
            preferred: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            head: tokio::sync::Mutex::default(),
            block: tokio::sync::Mutex::default(),
            by_block: AtomicBool::new(true),
        })
    }

    /// A service that speaks as nodes do and serves no chain of its own.
    pub(crate) fn service(url: Url, timeout: Duration) -> Result<Self, NodesError> {
        let mut service = Self::new(0, vec![url], timeout)?;
        service.all.iter_mut().for_each(|node| node.is_ours = AtomicBool::new(true));
        Ok(service)
    }

    /// The chain's number.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Asks every node how it is, in the order they are preferred; and from then on one of those first
    /// that serve the chain and have not stopped.
    pub async fn health(&self) -> Vec<NodeHealth> {
        let mut all = Vec::with_capacity(self.all.len());
        for node in &self.all {
            let chain_id = self.ask(node, "eth_chainId", &json!([])).await;
            let block = self.ask(node, "eth_getBlockByNumber", &json!(["latest", false])).await;
            let number = |value: Value| serde_json::from_value::<U64>(value).ok();
            let of_block = |name: &str| number(block.as_ref().ok()?.get(name)?.clone());
            all.push(NodeHealth {
                host: node.url.host_str().unwrap_or_default().to_owned(),
                port: node.url.port_or_known_default(),
                chain_id: chain_id.ok().and_then(number).map(|it| it.to()),
                block: of_block("number").map(|it| it.to()),
                block_time_s: of_block("timestamp").map(|it| it.to()),
            });
        }
        self.prefer_the_sound(&all);
        all
    }

    /// Stays with the node that answered last, unless it is not the chain's, or far behind another.
    fn prefer_the_sound(&self, all: &[NodeHealth]) {
        let time = |node: &NodeHealth| node.block_time_s.filter(|_| self.serves(node));
        let newest = all.iter().filter_map(time).max();
        let is_sound = |node: &NodeHealth| {
            let at_s = time(node).zip(newest);
            at_s.is_some_and(|(at_s, newest)| at_s.saturating_add(BEHIND_S) >= newest)
        };
        let preferred = self.preferred.load(Ordering::Relaxed);
        if all.get(preferred).is_some_and(is_sound) {
            return;
        }
        if let Some(sound) = all.iter().position(is_sound) {
            self.preferred.store(sound, Ordering::Relaxed);
        }
    }

    /// Whether a node answers and serves this chain.
    #[must_use]
    pub fn serves(&self, node: &NodeHealth) -> bool {
        node.chain_id == Some(self.chain_id) && node.block.is_some()
    }

    /// Whether there is more than one node.
    pub(crate) const fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Hands a signed transaction to the chain. The same bytes may be handed over any number of
    /// times; they are mined at most once.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<(), CallError> {
        let hash: B256 = self.call(SEND, json!([raw])).await?;
        tracing::debug!(%hash, "handed over");
        Ok(())
    }

    /// Hands a signed transaction to every node, whatever they say: one may have stopped, and not know.
    pub(crate) async fn send_to_all(&self, raw: &Bytes) {
        for node in &self.all {
            let _ = self.ask_ours(node, SEND, &json!([raw])).await;
        }
    }

    /// What all nodes together know of a transaction. One that does not answer has no say.
    ///
    /// # Errors
    ///
    /// [`CallError::Lost`], when none answers.
    pub(crate) async fn sight(&self, hash: B256) -> Result<Sighting, CallError> {
        let (mut is_waiting, mut last_s) = (false, None::<u64>);
        for (at, node) in self.each() {
            match self.sight_at(node, hash).await {
                Ok(Sighting::Mined(receipt)) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(Sighting::Mined(receipt));
                }
                Ok(Sighting::Unmined { is_waiting: waits, at_s }) => {
                    is_waiting |= waits;
                    last_s = Some(last_s.map_or(at_s, |last_s| last_s.min(at_s)));
                }
                Err(_) => {}
            }
        }
        let unmined = last_s.map(|at_s| Sighting::Unmined { is_waiting, at_s });
        unmined.ok_or(CallError::Lost)
    }

    /// What one node knows of a transaction. It says first how far it is: what it does not know then, it
    /// had not seen by that time.
    async fn sight_at(&self, node: &Node, hash: B256) -> Result<Sighting, CallError> {
        let block: Option<Block> =
            self.ask_one(node, "eth_getBlockByNumber", &json!(["latest", false])).await?;
        let at_s = block.ok_or(CallError::Lost)?.timestamp.to();
        let receipt: Option<TxReceipt> =
            self.ask_one(node, "eth_getTransactionReceipt", &json!([hash])).await?;
        if let Some(receipt) = receipt {
            let is_its = receipt.transaction_hash == hash;
            return if is_its { Ok(Sighting::Mined(receipt)) } else { Err(CallError::Lost) };
        }
        let found: Value = self.ask_one(node, "eth_getTransactionByHash", &json!([hash])).await?;
        Ok(Sighting::Unmined { is_waiting: !found.is_null(), at_s })
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<TxReceipt>, CallError> {
        let receipt: Option<TxReceipt> =
            self.call("eth_getTransactionReceipt", json!([hash])).await?;
        // A node that answers about something else has not answered.
        Ok(receipt.filter(|receipt| receipt.transaction_hash == hash))
    }

    /// A transaction's receipt, if it was mined in the block `number`, which is the latest. Asks for
    /// the whole block where nodes answer that, so that many who wait for one block ask once.
    pub(crate) async fn receipt_in(
        &self,
        hash: B256,
        number: u64,
    ) -> Result<Option<TxReceipt>, CallError> {
        if !self.by_block.load(Ordering::Relaxed) {
            return self.receipt(hash).await;
        }
        let mut kept = self.block.lock().await;
        if let Some((at, receipts)) = &*kept
            && *at == number
        {
            return Ok(receipts.get(&hash).cloned());
        }
        let block = json!([U64::from(number)]);
        let asked = self.call::<Option<Vec<TxReceipt>>>("eth_getBlockReceipts", block).await;
        let receipts = match asked {
            Ok(Some(receipts)) => receipts,
            // The block is not one of this node's any more, or not yet.
            Ok(None) => return Ok(None),
            Err(CallError::Refused(_)) => {
                self.by_block.store(false, Ordering::Relaxed);
                drop(kept);
                return self.receipt(hash).await;
            }
            Err(error) => return Err(error),
        };
        let receipts = receipts.into_iter().map(|it| (it.transaction_hash, it)).collect();
        let receipts: Arc<BlockReceipts> = Arc::new(receipts);
        let found = receipts.get(&hash).cloned();
        *kept = Some((number, receipts));
        Ok(found)
    }

    /// The latest block, as of no longer ago than `within`.
    pub(crate) async fn head(&self, within: Duration) -> Result<u64, CallError> {
        let mut head = self.head.lock().await;
        if let Some((_, number)) = head.filter(|(at, _)| at.elapsed() < within) {
            return Ok(number);
        }
        let number = self.call::<U64>("eth_blockNumber", json!([])).await?.to();
        *head = Some((Instant::now(), number));
        Ok(number)
    }

    /// The transaction that made a transfer with a memo, if a node knows of one since a moment, in
    /// seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`CallError::Lost`], when none answers.
    pub(crate) async fn transferred(
        &self,
        token: Address,
        from: Address,
        transfer: &Transfer,
        since_s: u64,
    ) -> Result<Option<B256>, CallError> {
        let mut answered = false;
        for (_, node) in self.each() {
            match self.transferred_at(node, token, from, transfer, since_s).await {
                Ok(Some(hash)) => return Ok(Some(hash)),
                Ok(None) => answered = true,
                Err(_) => {}
            }
        }
        if answered { Ok(None) } else { Err(CallError::Lost) }
    }

    async fn transferred_at(
        &self,
        node: &Node,
        token: Address,
        from: Address,
        transfer: &Transfer,
        since_s: u64,
    ) -> Result<Option<B256>, CallError> {
        let word = |address: Address| address.0.into_word();
        let topics = json!([
            TransferWithMemo::SIGNATURE_HASH,
            word(from),
            word(transfer.to),
            transfer.memo.unwrap_or_default()
        ]);
        // Nodes search a limited number of blocks at once: from the latest backwards.
        let mut to = self.ask_one::<U64>(node, "eth_blockNumber", &json!([])).await?.to::<u64>();
        loop {
            let first = to.saturating_sub(SEARCHED_AT_ONCE);
            let filter = json!({
                "address": token.to_string(),
                "topics": topics,
                "fromBlock": U64::from(first),
                "toBlock": U64::from(to),
            });
            let logs: Vec<FoundLog> = self.ask_one(node, "eth_getLogs", &json!([filter])).await?;
            if let Some(log) = logs.first() {
                return Ok(Some(log.transaction_hash));
            }
            let number = json!([U64::from(first), false]);
            let block = self.ask_one::<Option<Block>>(node, "eth_getBlockByNumber", &number);
            if first == 0 || block.await?.ok_or(CallError::Lost)?.timestamp.to::<u64>() < since_s {
                return Ok(None);
            }
            to = first.saturating_sub(1);
        }
    }

    /// Whether `key` may act for `account` now.
    pub(crate) async fn is_access_key(
        &self,
        account: Address,
        key: Address,
    ) -> Result<bool, CallError> {
        match self.key_standing(account, key).await {
            Ok(standing) => Ok(standing == KeyStanding::Active),
            Err(CallError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How `key` stands as one of `account`'s; refused where the chain knows no access keys.
    pub(crate) async fn key_standing(
        &self,
        account: Address,
        key: Address,
    ) -> Result<KeyStanding, CallError> {
        let data = Bytes::from(getKeyCall { account: account.0, keyId: key.0 }.abi_encode());
        let info = getKeyCall::abi_decode_returns(&self.keychain(data).await?);
        let info = info.map_err(|_| CallError::Refused("no access keys".to_owned()))?;
        if info.isRevoked {
            return Ok(KeyStanding::Revoked);
        }
        if info.keyId != key.0 {
            return Ok(KeyStanding::Unknown);
        }
        let now_s = self.latest_block_time_s().await?;
        Ok(if info.expiry > now_s { KeyStanding::Active } else { KeyStanding::Expired })
    }

    /// How much of `token` a key of `account`'s may still spend in the limit's period, in atoms.
    pub(crate) async fn key_limit(
        &self,
        account: Address,
        key: Address,
        token: Address,
    ) -> Result<u128, CallError> {
        let asked =
            getRemainingLimitWithPeriodCall { account: account.0, keyId: key.0, token: token.0 };
        let answer = self.keychain(Bytes::from(asked.abi_encode())).await?;
        let left = getRemainingLimitWithPeriodCall::abi_decode_returns(&answer);
        let left = left.map_err(|_| CallError::Refused("no limits by period".to_owned()))?;
        Ok(left.remaining.saturating_to())
    }

    async fn keychain(&self, data: Bytes) -> Result<Bytes, CallError> {
        let call = json!([{ "to": KEYCHAIN.to_string(), "data": data }, "latest"]);
        self.call("eth_call", call).await
    }

    /// Lets a service sign a transaction that waits for a sponsor.
    pub(crate) async fn sign_raw(&self, waiting: &Bytes) -> Result<Bytes, CallError> {
        self.call("eth_signRawTransaction", json!([waiting])).await
    }

    /// The seconds since 1970 of the latest block.
    pub(crate) async fn latest_block_time_s(&self) -> Result<u64, CallError> {
        let latest = json!(["latest", false]);
        let block: Option<Block> = self.call("eth_getBlockByNumber", latest).await?;
        block.map(|block| block.timestamp.to()).ok_or(CallError::Lost)
    }

    /// The seconds since 1970 of block `number`.
    pub(crate) async fn block_time_s(&self, number: u64) -> Result<u64, CallError> {
        let block = json!([U64::from(number), false]);
        let block: Option<Block> = self.call("eth_getBlockByNumber", block).await?;
        block.map(|block| block.timestamp.to()).ok_or(CallError::Lost)
    }

    /// What a unit of gas costs now.
    pub(crate) async fn gas_price(&self) -> Result<u128, CallError> {
        self.call::<U128>("eth_gasPrice", json!([])).await.map(|price| price.to())
    }

    /// Tries a call without sending anything; refused where it would not succeed.
    pub(crate) async fn try_call(
        &self,
        from: Address,
        to: Address,
        data: &Bytes,
    ) -> Result<(), CallError> {
        let call = json!({ "from": from.to_string(), "to": to.to_string(), "data": data });
        self.call::<Value>("eth_call", json!([call, "latest"])).await.map(drop)
    }

    /// Tries a transaction of `from` that pays in `token`, and gives it the limits it needs. One that would
    /// not succeed is refused.
    pub(crate) async fn limit(
        &self,
        from: Address,
        token: Address,
        transaction: &mut TempoTransaction,
    ) -> Result<(), CallError> {
        for call in &transaction.calls {
            self.try_call(from, token, &call.input).await?;
        }
        let gas = self.estimate_gas(from, transaction).await?;
        transaction.gas_limit = gas.saturating_mul(GAS_PERCENT).saturating_div(100);
        transaction.max_fee_per_gas = self.gas_price().await?.saturating_mul(2);
        Ok(())
    }

    /// What a transaction of `from` would burn.
    pub(crate) async fn estimate_gas(
        &self,
        from: Address,
        transaction: &TempoTransaction,
    ) -> Result<u64, CallError> {
        // The transaction in the node's own words, less the limits that are to be found out.
        let mut request = serde_json::to_value(transaction).unwrap_or_default();
        if let Some(request) = request.as_object_mut() {
            for unknown in ["gas", "maxFeePerGas", "maxPriorityFeePerGas", "feePayerSignature"] {
                request.remove(unknown);
            }
            request.retain(|_, value| !value.is_null());
            request.insert("from".into(), from.to_string().into());
            request.insert("type".into(), format!("{:#x}", TempoTransaction::tx_type()).into());
        }
        self.call::<U64>("eth_estimateGas", json!([request])).await.map(|gas| gas.to())
    }

    /// What an account holds of a token, in atoms.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`], when no node says.
    pub async fn balance(&self, token: Address, account: Address) -> Result<u128, NoAnswer> {
        let mut data = vec![0x70, 0xa0, 0x82, 0x31];
        data.extend_from_slice(account.0.into_word().as_slice());
        let call = json!([{ "to": token.to_string(), "data": Bytes::from(data) }, "latest"]);
        let answer: Bytes = self.call("eth_call", call).await.map_err(|_| NoAnswer)?;
        let balance = U256::try_from_be_slice(&answer).ok_or(NoAnswer)?;
        Ok(balance.saturating_to())
    }

    /// Asks one node after the other, from the one that answered last on.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, CallError> {
        let mut lost = false;
        for (at, node) in self.each() {
            match self.ask_ours(node, method, &params).await {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    let answer = serde_json::from_value(answer);
                    return answer.map_err(|_| CallError::Lost);
                }
                // What one node may have taken is not off because another refuses it.
                Err(CallError::Refused(_)) if lost && method == SEND => {}
                Err(CallError::Refused(why)) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Err(CallError::Refused(why));
                }
                Err(CallError::Lost) => lost = true,
                Err(CallError::Unsent) => {}
            }
            tracing::warn!(node = %node.url.host_str().unwrap_or_default(), method, "no answer");
        }
        Err(if lost { CallError::Lost } else { CallError::Unsent })
    }

    /// The nodes in the order they are asked, each with its place.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, &Node)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let all = self.all.iter().enumerate();
        all.clone().skip(first).chain(all.take(first))
    }

    pub(crate) async fn ask_one<T: DeserializeOwned>(
        &self,
        node: &Node,
        method: &str,
        params: &Value,
    ) -> Result<T, CallError> {
        let answer = self.ask_ours(node, method, params).await?;
        serde_json::from_value(answer).map_err(|_| CallError::Lost)
    }

    /// Asks a node that was found to serve our chain. Another chain's node is as good as none.
    async fn ask_ours(
        &self,
        node: &Node,
        method: &str,
        params: &Value,
    ) -> Result<Value, CallError> {
        if !node.is_ours.load(Ordering::Relaxed) {
            let found = self.ask(node, "eth_chainId", &json!([])).await;
            let found = found.map_err(|_| CallError::Unsent)?;
            let found: U64 = serde_json::from_value(found).map_err(|_| CallError::Unsent)?;
            if found.to::<u64>() != self.chain_id {
                let host = node.url.host_str().unwrap_or_default();
                tracing::error!(node = %host, chain = %found, "the node serves another chain");
                return Err(CallError::Unsent);
            }
            node.is_ours.store(true, Ordering::Relaxed);
        }
        self.ask(node, method, params).await
    }

    async fn ask(&self, node: &Node, method: &str, params: &Value) -> Result<Value, CallError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let sent = self.client.post(node.url.clone());
        let sent = sent.header("content-type", "application/json").body(request.to_string());
        let response = sent.send().await.map_err(|error| {
            // A connection that was never made carried nothing.
            if error.is_connect() || error.is_builder() {
                CallError::Unsent
            } else {
                CallError::Lost
            }
        })?;
        let body = response.bytes().await.map_err(|_| CallError::Lost)?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(|_| CallError::Lost)?;
        if answer.get("id") != Some(&id.into()) {
            return Err(CallError::Lost);
        }
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let why = error.get("message").and_then(Value::as_str).unwrap_or_default();
            return Err(match code {
                code if BUSY.contains(&code) => CallError::Unsent,
                code if FAILED.contains(&code) && method == SEND => CallError::Lost,
                _ => CallError::Refused(why.to_owned()),
            });
        }
        answer.get_mut("result").map(Value::take).ok_or(CallError::Lost)
    }
}

/// Reads where a node is: an http or https URL.
#[must_use]
pub fn parse_node(text: &str) -> Option<Url> {
    text.parse().ok().filter(is_http)
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeHealth {
    /// Its host; the rest of its address may be a secret.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// The chain it serves; nothing if it does not say.
    pub chain_id: Option<u64>,
    /// Its latest block.
    pub block: Option<u64>,
    /// When that was made, in seconds since 1970.
    pub block_time_s: Option<u64>,
}

/// No node of the chain answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no node of the chain answers")]
pub struct NoAnswer;
