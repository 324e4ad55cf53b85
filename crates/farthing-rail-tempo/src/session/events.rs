//! What an escrow tells of: the events of a mined transaction, in whichever of their shapes.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEvent;

use crate::rpc::Log;
use crate::session::abi::{contract, reserve, wide};
use crate::session::channel::{Escrow, Family};
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// Something that happened to a channel. Amounts are in atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelEvent {
    /// The channel.
    pub channel: B256,
    /// Its payer.
    pub payer: Address,
    /// Its payee.
    pub payee: Address,
    /// What happened.
    pub what: Happened,
}

/// What happened to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was opened with this deposit.
    Opened {
        /// The token.
        token: Address,
        /// Who signs vouchers; nobody's address means the payer.
        authorized_signer: Address,
        /// The deposit.
        deposit: u128,
        /// The opening transaction, in version 2; zero elsewhere.
        expiring_nonce_hash: B256,
    },
    /// Its deposit has grown.
    ToppedUp {
        /// By this much.
        additional: u128,
        /// To this much.
        deposit: u128,
    },
    /// The payee has got more.
    Settled {
        /// This much.
        delta: u128,
        /// So that it has got this much altogether.
        settled: u128,
    },
    /// The payer has asked for the rest.
    CloseRequested {
        /// And can have it from then on, in seconds since 1970.
        grace_end_s: u64,
    },
    /// The payer has thought better of it.
    CloseCancelled,
    /// It is over.
    Closed {
        /// What the payee has got altogether.
        to_payee: u128,
        /// What the payer has got back.
        to_payer: u128,
    },
}

/// The names of all events, for whoever searches for them.
pub(crate) fn names(family: Family) -> Vec<B256> {
    let mut names = vec![
        contract::CloseRequested::SIGNATURE_HASH,
        contract::CloseRequestCancelled::SIGNATURE_HASH,
    ];
    match family {
        Family::TempoV1 | Family::Evm => names.extend([
            contract::ChannelOpened::SIGNATURE_HASH,
            wide::ChannelOpened::SIGNATURE_HASH,
            contract::TopUp::SIGNATURE_HASH,
            contract::Settled::SIGNATURE_HASH,
            contract::ChannelClosed::SIGNATURE_HASH,
        ]),
        Family::TempoV2 => names.extend([
            reserve::ChannelOpened::SIGNATURE_HASH,
            reserve::TopUp::SIGNATURE_HASH,
            reserve::Settled::SIGNATURE_HASH,
            reserve::ChannelClosed::SIGNATURE_HASH,
        ]),
    }
    names
}

/// What an escrow's logs tell of, in their order. Logs of others, and unknown ones, tell nothing.
pub(crate) fn read_all(escrow: &Escrow, logs: &[Log]) -> Vec<ChannelEvent> {
    logs.iter().filter_map(|log| read(escrow, log)).collect()
}

/// What one log tells of.
pub(crate) fn read(escrow: &Escrow, log: &Log) -> Option<ChannelEvent> {
    if log.address != escrow.address.0 {
        return None;
    }
    match escrow.family {
        Family::TempoV1 | Family::Evm => contracts(log),
        Family::TempoV2 => reserves(log),
    }
    .or_else(|| closing(log))
}

fn decode<E: SolEvent>(log: &Log) -> Option<E> {
    E::decode_raw_log_validate(log.topics.iter().copied(), &log.data).ok()
}

macro_rules! happened {
    ($it:expr, $what:expr) => {
        Some(ChannelEvent {
            channel: $it.channelId,
            payer: Address($it.payer),
            payee: Address($it.payee),
            what: $what,
        })
    };
}

fn contracts(log: &Log) -> Option<ChannelEvent> {
    let atoms = |amount: U256| u128::try_from(amount).ok();
    let opened = |token, authorized_signer, deposit| {
        Some(Happened::Opened {
            token: Address(token),
            authorized_signer: Address(authorized_signer),
            deposit: atoms(deposit)?,
            expiring_nonce_hash: B256::ZERO,
        })
    };
    if let Some(it) = decode::<contract::ChannelOpened>(log) {
        return happened!(it, opened(it.token, it.authorizedSigner, it.deposit)?);
    }
    if let Some(it) = decode::<wide::ChannelOpened>(log) {
        return happened!(it, opened(it.token, it.authorizedSigner, it.deposit)?);
    }
    if let Some(it) = decode::<contract::TopUp>(log) {
        let (additional, deposit) = (atoms(it.additionalDeposit)?, atoms(it.newDeposit)?);
        return happened!(it, Happened::ToppedUp { additional, deposit });
    }
    if let Some(it) = decode::<contract::Settled>(log) {
        let (delta, settled) = (atoms(it.deltaPaid)?, atoms(it.newSettled)?);
        return happened!(it, Happened::Settled { delta, settled });
    }
    let it = decode::<contract::ChannelClosed>(log)?;
    let (to_payee, to_payer) = (atoms(it.settledToPayee)?, atoms(it.refundedToPayer)?);
    happened!(it, Happened::Closed { to_payee, to_payer })
}

fn reserves(log: &Log) -> Option<ChannelEvent> {
    if let Some(it) = decode::<reserve::ChannelOpened>(log) {
        let what = Happened::Opened {
            token: Address(it.token),
            authorized_signer: Address(it.authorizedSigner),
            deposit: it.deposit.to(),
            expiring_nonce_hash: it.expiringNonceHash,
        };
        return happened!(it, what);
    }
    if let Some(it) = decode::<reserve::TopUp>(log) {
        let (additional, deposit) = (it.additionalDeposit.to(), it.newDeposit.to());
        return happened!(it, Happened::ToppedUp { additional, deposit });
    }
    if let Some(it) = decode::<reserve::Settled>(log) {
        let (delta, settled) = (it.deltaPaid.to(), it.newSettled.to());
        return happened!(it, Happened::Settled { delta, settled });
    }
    let it = decode::<reserve::ChannelClosed>(log)?;
    let (to_payee, to_payer) = (it.settledToPayee.to(), it.refundedToPayer.to());
    happened!(it, Happened::Closed { to_payee, to_payer })
}

fn closing(log: &Log) -> Option<ChannelEvent> {
    if let Some(it) = decode::<contract::CloseRequested>(log) {
        let grace_end_s = it.closeGraceEnd.try_into().ok()?;
        return happened!(it, Happened::CloseRequested { grace_end_s });
    }
    let it = decode::<contract::CloseRequestCancelled>(log)?;
    happened!(it, Happened::CloseCancelled)
}
