//! Handing transactions to the chain, and waiting until they are as deep as they have to be.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use farthing_core::SettleError;
use tempo_primitives::AASigned;
use tokio::time::{Instant, sleep, timeout};

use crate::rpc::{CallError, Nodes, Sighting, TxReceipt};
use crate::{is_late, transaction};

/// How long after handing a transaction over the chain is looked at: some mine at once.
const LOOK_FIRST: Duration = Duration::from_millis(2);

/// How long after a look at the chain the next one follows at most.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// How many looks at an unchanged chain go by before a receipt is asked for all the same: a node may
/// show a block before its receipts.
const LOOKS_MAX: u32 = 20;

/// At each how manieth block a receipt is asked for by its transaction's name.
const BY_NAME: u32 = 3;

/// How long a transaction stays away before it is handed over once more: a node may have forgotten it.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(2);

/// Hands transactions over to one chain.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    nodes: Arc<Nodes>,
    /// How many blocks a transaction has to be deep; 1 is the block it is mined in.
    confirmations: u64,
}

impl Handover {
    pub(crate) const fn new(nodes: Arc<Nodes>, confirmations: u64) -> Self {
        Self { nodes, confirmations }
    }

    /// Hands a complete transaction to the chain, and waits until it is as deep as it has to be.
    pub(crate) async fn hand_over(
        &self,
        signed: &AASigned,
        wait: Duration,
    ) -> Result<TxReceipt, SettleError> {
        self.hand_over_raw(&transaction::raw(signed), *signed.hash(), wait).await
    }

    /// The same, of a transaction in the encoding that nodes take.
    pub(crate) async fn hand_over_raw(
        &self,
        raw: &Bytes,
        hash: B256,
        wait: Duration,
    ) -> Result<TxReceipt, SettleError> {
        match self.nodes.send(raw).await {
            Ok(()) | Err(CallError::Lost) => {}
            Err(CallError::Unsent) => return Err(SettleError::Unsent),
            Err(CallError::Refused(why)) => {
                tracing::info!(%hash, why, "refused by the chain");
                // It may have been handed over before: then it is mined, or about to be.
                match self.nodes.sight(hash).await.map_err(|_| SettleError::Unknown)? {
                    Sighting::Mined(_) | Sighting::Unmined { is_waiting: true, .. } => {}
                    Sighting::Unmined { is_waiting: false, .. } => {
                        return Err(SettleError::Declined);
                    }
                }
            }
        }
        let waiting = self.deep(hash, Some(raw));
        timeout(wait, waiting).await.map_err(|_| SettleError::Unknown)
    }

    /// A transaction that somebody else sent. Only questions are asked, so that asking again is always
    /// safe.
    pub(crate) async fn sent(&self, hash: B256, wait: Duration) -> Result<TxReceipt, SettleError> {
        match self.nodes.receipt(hash).await {
            Err(CallError::Unsent) => return Err(SettleError::Unsent),
            Ok(_) | Err(CallError::Lost | CallError::Refused(_)) => {}
        }
        let waiting = self.deep(hash, None);
        timeout(wait, waiting).await.map_err(|_| SettleError::Unknown)
    }

    /// Waits until a transaction is as deep as it has to be, and says what it did from there. The chain
    /// may think better of a block meanwhile, and the transaction comes again in another.
    async fn deep(&self, hash: B256, raw: Option<&Bytes>) -> TxReceipt {
        let more = self.confirmations.saturating_sub(1);
        let mut handed_over = Instant::now();
        let (mut seen, mut looks, mut blocks, mut pause) = (None, 0_u32, 0_u32, LOOK_FIRST);
        loop {
            let head = self.nodes.head(pause).await.ok();
            looks = if head == seen { looks.saturating_add(1) } else { 0_u32 };
            if head.is_none() || head != seen || looks >= LOOKS_MAX {
                // Where one block follows another, it is in that block or still to come; unless the
                // node was not done with the block, which is why it is asked for by name now and then.
                let next = seen.zip(head).filter(|(seen, head)| seen.saturating_add(1) == *head);
                let by_name = blocks % BY_NAME == 0 || more > 0;
                (seen, looks, blocks) = (head, 0, blocks.saturating_add(1));
                let found = match next.filter(|_| !by_name) {
                    Some((_, head)) => self.nodes.receipt_in(hash, head).await,
                    None => self.nodes.receipt(hash).await,
                };
                match found {
                    Ok(Some(receipt)) => {
                        let deep = receipt.block_number.to::<u64>().saturating_add(more);
                        if more == 0 || head.is_some_and(|head| head >= deep) {
                            return receipt;
                        }
                    }
                    Ok(None) | Err(_) if handed_over.elapsed() >= HAND_OVER_AGAIN => {
                        if let Some(raw) = raw {
                            // The same bytes are mined at most once; what becomes of them shows.
                            self.nodes.send_to_all(raw).await;
                        }
                        if self.nodes.are_several() {
                            // A node that has stopped says so by what the others have seen: whoever knows
                            // the transaction is asked from now on.
                            let _ = self.nodes.sight(hash).await;
                        }
                        handed_over = Instant::now();
                    }
                    Ok(None) | Err(_) => {}
                }
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(LOOK_AGAIN);
        }
    }

    /// A transaction that is as deep as it has to be; or what it means that it is not: it waits, it was
    /// never sent, or it comes too late.
    pub(crate) async fn mined(
        &self,
        hash: B256,
        valid_before_s: u64,
    ) -> Result<TxReceipt, SettleError> {
        match self.nodes.sight(hash).await.map_err(|_| SettleError::Unknown)? {
            Sighting::Mined(receipt) => {
                let more = self.confirmations.saturating_sub(1);
                let head = self.nodes.head(Duration::ZERO).await;
                let deep = receipt.block_number.to::<u64>().saturating_add(more);
                let is_deep = head.is_ok_and(|head| head >= deep);
                if is_deep { Ok(receipt) } else { Err(SettleError::Unknown) }
            }
            Sighting::Unmined { at_s, .. } if is_late(at_s, valid_before_s) => {
                Err(SettleError::Declined)
            }
            Sighting::Unmined { is_waiting: true, .. } => Err(SettleError::Unknown),
            Sighting::Unmined { is_waiting: false, .. } => Err(SettleError::Unsent),
        }
    }
}
