//! What the escrow says of a channel, at one block.

use alloy_primitives::{B256, Bytes, U64, U256};
use alloy_sol_types::{SolCall as _, SolValue};
use serde::Deserialize;
use serde_json::json;

use crate::rpc::{CallError, NoAnswer, Nodes};
use crate::session::abi::{contract, reserve};
use crate::session::channel::{Escrow, Family, NOBODY};
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// How many channels are asked for at once.
const ASKED_AT_ONCE: usize = 100;

/// How many words a channel's record has in the first version.
const WORDS: usize = 8;

/// The latest block that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub time_s: u64,
    /// Its hash: another one at the same number is another chain.
    pub hash: B256,
}

/// A block, as far as it is a head.
#[derive(Deserialize)]
pub(crate) struct Block {
    number: U64,
    timestamp: U64,
    hash: B256,
}

impl From<Block> for Head {
    fn from(block: Block) -> Self {
        Self { number: block.number.to(), time_s: block.timestamp.to(), hash: block.hash }
    }
}

/// A channel, as the escrow has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// What was deposited, in atoms.
    pub deposit: u128,
    /// What the payee has got of it, in atoms.
    pub settled: u128,
    /// When the payer asked for the rest, in seconds since 1970.
    pub close_requested_at_s: Option<u64>,
    /// Whether it is over. The reserve of version 2 forgets what is over instead.
    pub is_finalized: bool,
    /// Between whom, where the escrow says so (version 1, EVM).
    pub parties: Option<Parties>,
}

/// Between whom a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Who deposited.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The token.
    pub token: Address,
    /// Who signs vouchers; nobody's address means the payer.
    pub authorized_signer: Address,
}

/// What was asked for, and of which block it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// What was asked for.
    pub what: T,
    /// The block it is true of.
    pub head: Head,
}

impl ChannelState {
    /// What the payee can still get, in atoms.
    #[must_use]
    pub const fn left(&self) -> u128 {
        self.deposit.saturating_sub(self.settled)
    }

    /// Whether vouchers may be taken on it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.is_finalized && self.close_requested_at_s.is_none()
    }
}

impl Nodes {
    /// The latest block.
    ///
    /// # Errors
    ///
    /// A [`CallError`].
    pub(crate) async fn latest(&self) -> Result<Head, CallError> {
        let latest = json!(["latest", false]);
        let block: Option<Block> = self.call("eth_getBlockByNumber", latest).await?;
        block.map(Head::from).ok_or(CallError::Lost)
    }

    /// What the escrow says of channels, in their order, at the latest block; nothing of those that it
    /// does not know.
    ///
    /// # Errors
    ///
    /// A [`CallError`].
    pub(crate) async fn channels(
        &self,
        escrow: &Escrow,
        ids: &[B256],
    ) -> Result<Seen<Vec<Option<ChannelState>>>, CallError> {
        let head = self.latest().await?;
        let mut what = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ASKED_AT_ONCE) {
            what.extend(self.channels_at(escrow, ids, &head).await?);
        }
        Ok(Seen { what, head })
    }

    async fn channels_at(
        &self,
        escrow: &Escrow,
        ids: &[B256],
        head: &Head,
    ) -> Result<Vec<Option<ChannelState>>, CallError> {
        let ids = ids.to_vec();
        if escrow.family == Family::TempoV2 {
            let asked = reserve::getChannelStatesBatchCall { channelIds: ids }.abi_encode();
            let answer = self.view(escrow, asked, head).await?;
            let states = reserve::getChannelStatesBatchCall::abi_decode_returns(&answer);
            return Ok(states.map_err(|_| CallError::Lost)?.iter().map(reserved).collect());
        }
        if let [id] = ids.as_slice() {
            return Ok(vec![self.channel_at(escrow, *id, head).await?]);
        }
        let asked = contract::getChannelsBatchCall { channelIds: ids.clone() }.abi_encode();
        match self.view(escrow, asked, head).await {
            Ok(answer) => records(&answer, ids.len()),
            // Not every escrow answers for many at once.
            Err(CallError::Refused(_)) => {
                let mut all = Vec::with_capacity(ids.len());
                for id in ids {
                    all.push(self.channel_at(escrow, id, head).await?);
                }
                Ok(all)
            }
            Err(error) => Err(error),
        }
    }

    async fn channel_at(
        &self,
        escrow: &Escrow,
        id: B256,
        head: &Head,
    ) -> Result<Option<ChannelState>, CallError> {
        let asked = contract::getChannelCall { channelId: id }.abi_encode();
        let answer = self.view(escrow, asked, head).await?;
        record(&answer)
    }

    /// How long a payee has after a request to close, in seconds.
    ///
    /// # Errors
    ///
    /// A [`CallError`].
    pub(crate) async fn grace_s(&self, escrow: &Escrow) -> Result<u64, CallError> {
        let head = self.latest().await?;
        let asked = contract::CLOSE_GRACE_PERIODCall {}.abi_encode();
        let answer = self.view(escrow, asked, &head).await?;
        let grace = contract::CLOSE_GRACE_PERIODCall::abi_decode_returns(&answer);
        grace.map_err(|_| CallError::Lost)
    }

    /// The same, for whoever only wants to know.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn grace_of(&self, escrow: &Escrow) -> Result<u64, NoAnswer> {
        self.grace_s(escrow).await.map_err(|_| NoAnswer)
    }

    async fn view(&self, escrow: &Escrow, input: Vec<u8>, head: &Head) -> Result<Bytes, CallError> {
        let call = json!({ "to": escrow.address.to_string(), "data": Bytes::from(input) });
        self.call("eth_call", json!([call, U64::from(head.number)])).await
    }
}

/// The state of a channel of version 2. What has no deposit is not known, or over.
fn reserved(state: &reserve::ChannelState) -> Option<ChannelState> {
    let deposit: u128 = state.deposit.to();
    (deposit > 0).then(|| ChannelState {
        deposit,
        settled: state.settled.to(),
        close_requested_at_s: (state.closeRequestedAt > 0).then(|| state.closeRequestedAt.into()),
        is_finalized: false,
        parties: None,
    })
}

/// The records of a list of channels.
fn records(answer: &[u8], count: usize) -> Result<Vec<Option<ChannelState>>, CallError> {
    let list = Vec::<[B256; WORDS]>::abi_decode(answer).ok().filter(|it| it.len() == count);
    let list = list.ok_or(CallError::Lost)?;
    list.iter().map(|words| record(&words.map(|word| word.0).concat())).collect()
}

/// Reads one record, in either of its two layouts; nothing where the escrow does not know the channel.
///
/// ```text
/// as clients read it   finalized, close requested, payer, payee, token, signer, deposit, settled
/// as it is specified   payer, payee, token, signer, deposit, settled, close requested, finalized
/// ```
fn record(answer: &[u8]) -> Result<Option<ChannelState>, CallError> {
    let state = words(answer).and_then(read).ok_or(CallError::Lost)?;
    // Whoever has no payer was never opened.
    let is_known = state.parties.is_some_and(|it| it.payer != NOBODY);
    Ok(is_known.then_some(state))
}

fn words(answer: &[u8]) -> Option<[U256; WORDS]> {
    let (words, rest) = answer.as_chunks::<32>();
    let words: &[[u8; 32]; WORDS] = words.try_into().ok().filter(|_| rest.is_empty())?;
    Some(words.map(U256::from_be_bytes))
}

fn read(words: [U256; WORDS]) -> Option<ChannelState> {
    // No payer's address is 0 or 1.
    let [finalized, requested, payer, payee, token, signer, deposit, settled] =
        if words[0] <= U256::ONE {
            words
        } else {
            let [payer, payee, token, signer, deposit, settled, requested, finalized] = words;
            [finalized, requested, payer, payee, token, signer, deposit, settled]
        };
    let requested: u64 = requested.try_into().ok()?;
    let parties = Parties {
        payer: account(payer)?,
        payee: account(payee)?,
        token: account(token)?,
        authorized_signer: account(signer)?,
    };
    (finalized <= U256::ONE).then_some(ChannelState {
        deposit: deposit.try_into().ok()?,
        settled: settled.try_into().ok()?,
        close_requested_at_s: (requested > 0).then_some(requested),
        is_finalized: !finalized.is_zero(),
        parties: Some(parties),
    })
}

fn account(word: U256) -> Option<Address> {
    let bytes = word.to_be_bytes::<32>();
    let (high, low) = bytes.split_at_checked(12)?;
    let account = alloy_primitives::Address::try_from(low).ok().map(Address);
    account.filter(|_| high.iter().all(|byte| *byte == 0))
}
