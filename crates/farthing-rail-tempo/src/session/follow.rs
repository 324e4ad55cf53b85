//! What is known of channels, and of which block that is true, without asking for each of them.
//!
//! One watch serves all channels: as long as it tells nothing of a channel, what the escrow said of it
//! before is true of the block that the watch has seen. So a thousand open channels cost one question a
//! look, and not a thousand.
//!
//! **Architecture invariant:** nothing is remembered across a chain that went back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::rpc::{NoAnswer, Nodes};
use crate::session::channel::Escrow;
use crate::session::state::{ChannelState, Head, Seen};
use crate::session::watch::Watch;
use crate::wire::Address;

/// How old a look at the chain may be for whoever asks.
const FRESH: Duration = Duration::from_millis(500);

/// How many channels are remembered; beyond them, all are asked for anew.
const KNOWN_MAX: usize = 100_000;

/// Follows the channels of one payee in one escrow, for many who ask.
#[derive(Debug)]
pub(crate) struct Follower {
    nodes: Arc<Nodes>,
    escrow: Escrow,
    payee: Address,
    inner: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    watch: Watch,
    looked: Instant,
    states: HashMap<B256, ChannelState>,
    /// Of which something was told that nobody was told of.
    told: BTreeSet<B256>,
    /// Whether something may have been missed.
    anew: bool,
}

/// What was told since somebody listened last.
#[derive(Debug)]
pub(crate) struct Listened {
    /// The block up to which it is.
    pub(crate) head: Head,
    /// The channels.
    pub(crate) told: BTreeSet<B256>,
    /// Whether it may be more than these.
    pub(crate) anew: bool,
}

impl Follower {
    pub(crate) fn new(nodes: Arc<Nodes>, escrow: Escrow, payee: Address) -> Self {
        Self { nodes, escrow, payee, inner: Mutex::default() }
    }

    /// What the escrow says of a channel, and of which block that is true.
    pub(crate) async fn state(
        &self,
        channel: B256,
    ) -> Result<Seen<Option<ChannelState>>, NoAnswer> {
        let mut inner = self.inner.lock().await;
        let (known, head) = self.looked(&mut inner).await?;
        if let Some(state) = known.states.get(&channel) {
            return Ok(Seen { what: Some(*state), head });
        }
        let seen = self.nodes.channels(&self.escrow, &[channel]).await.map_err(|_| NoAnswer)?;
        let state = seen.what.into_iter().next().flatten();
        // What a node says that is behind the watch is true of then, and not kept.
        if let Some(state) = state.filter(|_| seen.head.number >= head.number) {
            known.states.insert(channel, state);
        }
        Ok(Seen { what: state, head: seen.head })
    }

    /// What was told since this was asked last, of whichever channel.
    pub(crate) async fn listen(&self) -> Result<Listened, NoAnswer> {
        let mut inner = self.inner.lock().await;
        let (known, head) = self.looked(&mut inner).await?;
        let (told, anew) = (std::mem::take(&mut known.told), std::mem::take(&mut known.anew));
        Ok(Listened { head, told, anew })
    }

    /// A look at the chain that is fresh.
    async fn looked<'a>(
        &self,
        inner: &'a mut Option<Known>,
    ) -> Result<(&'a mut Known, Head), NoAnswer> {
        if inner.is_none() {
            let head = self.nodes.latest().await.map_err(|_| NoAnswer)?;
            let from = head.number.saturating_add(1);
            let watch = Watch::new(Arc::clone(&self.nodes), self.escrow, self.payee, from);
            let (states, told) = (HashMap::new(), BTreeSet::new());
            *inner = Some(Known { watch, looked: Instant::now(), states, told, anew: true });
        }
        let known = inner.as_mut().ok_or(NoAnswer)?;
        if known.watch.seen().is_none() || known.looked.elapsed() > FRESH {
            let look = known.watch.look().await?;
            known.looked = Instant::now();
            if look.went_back || known.states.len() > KNOWN_MAX {
                known.states.clear();
            }
            if look.went_back || known.told.len() > KNOWN_MAX {
                known.told.clear();
                known.anew = true;
            }
            for told in look.events {
                known.states.remove(&told.event.channel);
                known.told.insert(told.event.channel);
            }
        }
        let head = known.watch.seen().ok_or(NoAnswer)?;
        Ok((known, head))
    }
}
