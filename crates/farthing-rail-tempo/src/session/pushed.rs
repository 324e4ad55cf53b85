//! Channels that payers open by themselves on EVM chains, and show by the hash of what they sent
//! (draft-evm-session-00 §10.2.1, §12.3): both sides.
//!
//! A hash is known to everybody who watches the chain. What makes it a payer's is the first voucher, which
//! the channel's signer has signed; and a hash counts once.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::SolCall as _;
use farthing_core::{Object, SettleError};
use tempo_primitives::transaction::Call;

use crate::handover::Handover;
use crate::receipt;
use crate::rpc::{Nodes, TxReceipt};
use crate::session::abi::contract;
use crate::session::buyer::Leave;
use crate::session::channel::{Descriptor, Escrow, Family, NOBODY};
use crate::session::events::{self, ChannelEvent, Happened};
use crate::session::evm::EvmAccount;
use crate::session::funding::{Unfit, opening_calls, top_up_calls};
use crate::session::payload::{Funding, Open, TopUp};
use crate::session::relayed::spoken_of;
use crate::session::seller::Credited;
use crate::session::state::Seen;
use crate::session::terms::SessionTerms;
use crate::wire::Address;

/// An opening or a top-up that the payer has sent, held against its challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The transaction.
    pub hash: B256,
    /// The channel.
    pub channel: B256,
    /// What the channel is made of; nothing for a top-up.
    pub descriptor: Option<Descriptor>,
    /// What was added, for a top-up.
    pub additional: Option<u128>,
    terms: SessionTerms,
}

impl Sent {
    /// Reads an opening by hash of `payer`'s. The channel's id has to be the one that its parts make. Pure.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn opening(open: &Open, terms: &SessionTerms, payer: Address) -> Result<Self, Unfit> {
        let (Funding::Hash(hash), Some(salt)) = (&open.funding, open.salt) else {
            return Err(Unfit::Calls);
        };
        let descriptor = terms.descriptor(payer, salt, open.authorized_signer.unwrap_or(NOBODY));
        let descriptor = spoken_of(descriptor, &terms.escrow, open.voucher.channel)?;
        let (hash, channel) = (*hash, open.voucher.channel);
        let descriptor = Some(descriptor);
        Ok(Self { hash, channel, descriptor, additional: None, terms: terms.clone() })
    }

    /// Reads a top-up by hash. Pure.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn top_up(top_up: &TopUp, terms: &SessionTerms) -> Result<Self, Unfit> {
        let Funding::Hash(hash) = top_up.funding else { return Err(Unfit::Calls) };
        if top_up.additional == 0 {
            return Err(Unfit::Deposit);
        }
        let (channel, additional) = (top_up.channel, Some(top_up.additional));
        Ok(Self { hash, channel, descriptor: None, additional, terms: terms.clone() })
    }

    /// What the chain has to tell of it.
    pub(crate) fn expected(&self) -> Expected {
        Expected {
            channel: self.channel,
            opens: self.descriptor,
            token: self.terms.token,
            atoms: self.additional,
        }
    }

    /// Waits for the transaction, and finds out what it did: its event and the escrow have to agree
    /// with what was said. Nothing is sent, so that asking again is always safe. A transaction that was
    /// undone is told at once.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::settle`].
    pub async fn credited(
        &self,
        nodes: &Arc<Nodes>,
        confirmations: u64,
        wait: Duration,
    ) -> Result<Credited, SettleError> {
        let handover = Handover::new(Arc::clone(nodes), confirmations);
        let receipt = handover.sent(self.hash, wait).await?;
        let escrow = &self.terms.escrow;
        // Whoever shows somebody else's transaction shows none of its own.
        if receipt::failed(&receipt) || self.expected().found_in(escrow, &receipt).is_none() {
            return Err(SettleError::Declined);
        }
        let seen = nodes.channels(escrow, &[self.channel]).await;
        let Seen { what, head } = seen.map_err(|_| SettleError::Unknown)?;
        let state = what.into_iter().next().flatten().ok_or(SettleError::Unknown)?;
        let ours = state.parties.is_some_and(|it| {
            let signed =
                self.descriptor.is_none_or(|of| of.authorized_signer == it.authorized_signer);
            it.payee == self.terms.recipient && it.token == self.terms.token && signed
        });
        let worth = state.left() >= self.terms.amount.atoms();
        if ours && worth && state.is_open() {
            Ok(Credited {
                transaction: receipt.transaction_hash,
                state: Seen { what: state, head },
                cost: None,
            })
        } else {
            Err(SettleError::Declined)
        }
    }
}

/// What the chain has to tell of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The channel.
    pub(crate) channel: B256,
    /// What the channel is made of that it opens; nothing for a top-up.
    pub(crate) opens: Option<Descriptor>,
    /// The token.
    pub(crate) token: Address,
    /// How much, in atoms, where that was said.
    pub(crate) atoms: Option<u128>,
}

impl Expected {
    /// How much a transaction has deposited, if it is told to have deposited this, once.
    pub(crate) fn found_in(&self, escrow: &Escrow, receipt: &TxReceipt) -> Option<u128> {
        let told = events::read_all(escrow, &receipt.logs);
        let mut found = told.iter().filter_map(|it| self.told_by(it));
        // One deposit is one event: of two that are alike, nobody could say which one was shown.
        found.next().filter(|_| found.next().is_none())
    }

    fn told_by(&self, event: &ChannelEvent) -> Option<u128> {
        let atoms = match (event.what, self.opens) {
            (Happened::Opened { token, deposit, .. }, Some(of)) => {
                (event.payer == of.payer && token == self.token).then_some(deposit)?
            }
            (Happened::ToppedUp { additional, .. }, None) => additional,
            (
                Happened::Opened { .. }
                | Happened::ToppedUp { .. }
                | Happened::Settled { .. }
                | Happened::CloseRequested { .. }
                | Happened::CloseCancelled
                | Happened::Closed { .. },
                _,
            ) => return None,
        };
        let fits = self.atoms.is_none_or(|said| said == atoms);
        (event.channel == self.channel && fits).then_some(atoms)
    }
}

impl EvmAccount {
    /// Opens a channel, and says what its credential says: sends an approval where there is none yet, and
    /// the opening, and waits for both.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::settle`].
    pub async fn open_channel(
        &self,
        terms: &SessionTerms,
        deposit: u128,
        owed: u128,
        salt: B256,
    ) -> Result<(Object, Descriptor), SettleError> {
        let descriptor = terms.descriptor(self.address(), salt, NOBODY);
        let hash = self.opened(&terms.escrow, &descriptor, deposit).await?;
        let mut payload = self.payload("open", &terms.escrow, &descriptor, Some(owed));
        payload.insert("type".into(), "hash".into());
        payload.insert("hash".into(), hash.to_string().into());
        payload.insert("salt".into(), salt.to_string().into());
        Ok((payload, descriptor))
    }

    /// Adds to a channel's deposit, likewise.
    ///
    /// # Errors
    ///
    /// As [`EvmAccount::open_channel`].
    pub async fn top_up_channel(
        &self,
        terms: &SessionTerms,
        descriptor: &Descriptor,
        additional: u128,
    ) -> Result<Object, SettleError> {
        let hash = self.topped_up(&terms.escrow, descriptor, additional).await?;
        let mut payload = self.payload("topUp", &terms.escrow, descriptor, None);
        payload.insert("type".into(), "hash".into());
        payload.insert("hash".into(), hash.to_string().into());
        payload.insert("additionalDeposit".into(), additional.to_string().into());
        Ok(payload)
    }

    /// Sends an opening, and an approval before it where there is none yet; waits for both.
    pub(crate) async fn opened(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        deposit: u128,
    ) -> Result<B256, SettleError> {
        let calls = opening_calls(escrow, descriptor, deposit);
        self.fund(escrow, descriptor.token, deposit, &calls).await
    }

    /// Sends a top-up, likewise.
    pub(crate) async fn topped_up(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        additional: u128,
    ) -> Result<B256, SettleError> {
        let calls = top_up_calls(escrow, descriptor, additional, false);
        self.fund(escrow, descriptor.token, additional, &calls).await
    }

    /// What a credential of this action says; with a voucher for everything owed so far, where it
    /// carries one.
    #[must_use]
    pub fn payload(
        &self,
        action: &str,
        escrow: &Escrow,
        descriptor: &Descriptor,
        owed: Option<u128>,
    ) -> Object {
        let channel = descriptor.id(escrow);
        let mut payload = Object::new();
        payload.insert("action".into(), action.into());
        payload.insert("channelId".into(), channel.to_string().into());
        if let Some((owed, voucher)) =
            owed.and_then(|owed| Some((owed, self.key().sign(escrow, channel, owed)?)))
        {
            payload.insert("cumulativeAmount".into(), owed.to_string().into());
            let signature = Bytes::from(voucher.signature).to_string();
            payload.insert("signature".into(), signature.into());
        }
        payload
    }

    /// Asks the escrow for the rest, or takes it.
    ///
    /// # Errors
    ///
    /// As [`EvmAccount::open_channel`].
    pub async fn leave_channel(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        what: Leave,
    ) -> Result<Vec<ChannelEvent>, SettleError> {
        let receipt = self.call(escrow.address, what.input(escrow, descriptor)).await?;
        Ok(events::read_all(escrow, &receipt.logs))
    }

    /// Sends calls one after the other; an approval only where what was approved does not suffice.
    async fn fund(
        &self,
        escrow: &Escrow,
        token: Address,
        atoms: u128,
        calls: &[Call],
    ) -> Result<B256, SettleError> {
        if escrow.family != Family::Evm {
            return Err(SettleError::Declined);
        }
        let [approval, last] = calls else { return Err(SettleError::Declined) };
        let asked = contract::allowanceCall { owner: self.address().0, spender: escrow.address.0 };
        let answer = self.nodes().look_at(token, asked.abi_encode()).await;
        let allowed = answer.map_err(|_| SettleError::Unsent)?;
        let allowed = U256::try_from_be_slice(&allowed).unwrap_or_default();
        if allowed < U256::from(atoms) {
            self.call(token, approval.input.to_vec()).await?;
        }
        let receipt = self.call(escrow.address, last.input.to_vec()).await?;
        Ok(receipt.transaction_hash)
    }
}
