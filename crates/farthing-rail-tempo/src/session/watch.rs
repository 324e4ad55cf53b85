//! Following what happens to a payee's channels.
//!
//! A watch asks for the events of new blocks and says up to which block it has seen, and when that
//! block was made: whoever acts on what it knows can bound how old that is. Events say where to look;
//! what is true is read from the escrow. A chain that takes blocks back is followed back, and the
//! watch says so; events may then come again.
//!
//! **Architecture invariant:** a watch never says that it has seen a block whose events it did not ask
//! for. A head is answered for by the node that gave the events.

use std::sync::Arc;

use alloy_primitives::{B256, U64};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rpc::{CallError, Log, NoAnswer, Node, Nodes, SEARCHED_AT_ONCE};
use crate::session::channel::Escrow;
use crate::session::events::{self, ChannelEvent};
use crate::session::state::{Block, Head};
use crate::wire::Address;

/// How far a watch goes back when the chain does, in blocks.
const BACK: u64 = 64;

/// Follows the channels of one payee in one escrow.
#[derive(Debug)]
pub struct Watch {
    nodes: Arc<Nodes>,
    escrow: Escrow,
    payee: Address,
    /// The first block that was not looked at yet.
    next: u64,
    /// The last block that was looked at.
    seen: Option<Head>,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What happened, in order.
    pub events: Vec<Told>,
    /// The block that all of this is true of.
    pub head: Head,
    /// Whether the chain took blocks back: what was told before may not have happened.
    pub went_back: bool,
}

/// An event, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub event: ChannelEvent,
    /// In which block.
    pub block: u64,
    /// In which transaction.
    pub transaction: B256,
}

/// A log, and where it stands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(flatten)]
    log: Log,
    block_number: U64,
    transaction_hash: B256,
    #[serde(default)]
    removed: bool,
}

impl Found {
    /// What it tells of, unless it was taken back.
    fn told(&self, escrow: &Escrow) -> Option<Told> {
        let event = events::read(escrow, &self.log).filter(|_| !self.removed)?;
        Some(Told { event, block: self.block_number.to(), transaction: self.transaction_hash })
    }
}

impl Nodes {
    /// What an escrow tells of one channel since a moment, in seconds since 1970.
    pub(crate) async fn told_of(
        &self,
        escrow: &Escrow,
        channel: B256,
        since_s: u64,
    ) -> Result<Vec<Told>, CallError> {
        let topics = json!([events::names(escrow.family), channel]);
        let mut told = Vec::new();
        let mut to = self.latest().await?.number;
        loop {
            let first = to.saturating_sub(SEARCHED_AT_ONCE);
            let filter = json!({
                "address": escrow.address.to_string(),
                "topics": topics,
                "fromBlock": U64::from(first),
                "toBlock": U64::from(to),
            });
            let found: Vec<Found> = self.call("eth_getLogs", json!([filter])).await?;
            told.extend(found.iter().filter_map(|it| it.told(escrow)));
            let number = json!([U64::from(first), false]);
            let block: Option<Block> = self.call("eth_getBlockByNumber", number).await?;
            let block = block.map(Head::from).ok_or(CallError::Lost)?;
            if first == 0 || block.time_s < since_s {
                return Ok(told);
            }
            to = first.saturating_sub(1);
        }
    }
}

impl Watch {
    /// Follows `payee`'s channels from the block `from` on.
    #[must_use]
    pub const fn new(nodes: Arc<Nodes>, escrow: Escrow, payee: Address, from: u64) -> Self {
        Self { nodes, escrow, payee, next: from, seen: None }
    }

    /// The last block that was looked at.
    #[must_use]
    pub const fn seen(&self) -> Option<Head> {
        self.seen
    }

    /// Asks for what is new. One that fails has seen nothing, and the next goes on where this began.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn look(&mut self) -> Result<Look, NoAnswer> {
        let nodes = Arc::clone(&self.nodes);
        for (_, node) in nodes.each() {
            if let Ok(look) = self.look_at(&nodes, node).await {
                self.next = look.head.number.saturating_add(1);
                self.seen = Some(look.head);
                return Ok(look);
            }
        }
        Err(NoAnswer)
    }

    async fn look_at(&self, nodes: &Nodes, node: &Node) -> Result<Look, CallError> {
        let head = block(nodes, node, "latest".into()).await?.ok_or(CallError::Lost)?;
        let went_back = match self.seen {
            None => false,
            Some(seen) => {
                // A node that does not know the block any more, or knows another in its place, is on
                // another chain; or it is behind, and has nothing to tell.
                let then = block(nodes, node, json!(U64::from(seen.number))).await?;
                if then.is_none() && head.time_s <= seen.time_s {
                    return Err(CallError::Lost);
                }
                then.is_none_or(|then| then.hash != seen.hash)
            }
        };
        let first = if went_back { self.next.saturating_sub(BACK) } else { self.next };
        let mut told = Vec::new();
        let mut from = first;
        while from <= head.number {
            let to = from.saturating_add(SEARCHED_AT_ONCE).min(head.number);
            told.extend(self.events(nodes, node, from, to).await?);
            from = to.saturating_add(1);
        }
        Ok(Look { events: told, head, went_back })
    }

    async fn events(
        &self,
        nodes: &Nodes,
        node: &Node,
        from: u64,
        to: u64,
    ) -> Result<Vec<Told>, CallError> {
        let filter = json!({
            "address": self.escrow.address.to_string(),
            "topics": [events::names(self.escrow.family), null, null, self.payee.0.into_word()],
            "fromBlock": U64::from(from),
            "toBlock": U64::from(to),
        });
        let found: Vec<Found> = nodes.ask_one(node, "eth_getLogs", &json!([filter])).await?;
        let told = found.iter().filter_map(|it| it.told(&self.escrow));
        Ok(told.filter(|it| it.event.payee == self.payee).collect())
    }
}

async fn block(nodes: &Nodes, node: &Node, which: Value) -> Result<Option<Head>, CallError> {
    let which = json!([which, false]);
    let found: Option<Block> = nodes.ask_one(node, "eth_getBlockByNumber", &which).await?;
    Ok(found.map(Head::from))
}
