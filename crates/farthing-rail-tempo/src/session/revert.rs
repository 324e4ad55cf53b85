//! Why an escrow would not, by the name of its refusal.

use alloy_sol_types::SolError as _;

use crate::session::abi::{contract, reserve};

/// Why an escrow would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Revert {
    /// It does not know the channel; the reserve of version 2 has forgotten those that are over.
    #[error("the escrow does not know the channel")]
    NotFound,
    /// The channel is over.
    #[error("the channel is over")]
    Finalized,
    /// There is a channel of that id.
    #[error("there is such a channel already")]
    Exists,
    /// Nobody who may has signed the voucher.
    #[error("the voucher's signature is not the channel's signer's")]
    Signature,
    /// There is less in the channel than that.
    #[error("there is less in the channel")]
    Exceeds,
    /// The payee has got that already.
    #[error("the payee has got that much already")]
    NotIncreasing,
    /// A close takes less than what was settled, or more than was signed for.
    #[error("a close takes what was settled at least and what was signed for at most")]
    Capture,
    /// Somebody else asked for it.
    #[error("the channel is for somebody else to handle")]
    NotYours,
    /// The token would not move.
    #[error("the token would not move")]
    Transfer,
    /// The payee still has its time.
    #[error("the payee still has its time")]
    NotReady,
    /// What was signed away was signed away for something else.
    #[error("the authorisation is for something else")]
    Nonce,
    /// Something else.
    #[error("the escrow would not, and does not say why")]
    Other,
}

impl Revert {
    /// Reads the answer of a call that failed.
    pub(crate) fn read(answer: &[u8]) -> Self {
        let Some((name, _)) = answer.split_first_chunk::<4>() else { return Self::Other };
        match *name {
            contract::ChannelNotFound::SELECTOR => Self::NotFound,
            contract::ChannelFinalized::SELECTOR => Self::Finalized,
            contract::ChannelAlreadyExists::SELECTOR => Self::Exists,
            contract::InvalidSignature::SELECTOR => Self::Signature,
            contract::AmountExceedsDeposit::SELECTOR => Self::Exceeds,
            contract::AmountNotIncreasing::SELECTOR => Self::NotIncreasing,
            reserve::CaptureAmountInvalid::SELECTOR => Self::Capture,
            contract::NotPayer::SELECTOR
            | contract::NotPayee::SELECTOR
            | reserve::NotPayeeOrOperator::SELECTOR => Self::NotYours,
            contract::TransferFailed::SELECTOR => Self::Transfer,
            contract::CloseNotReady::SELECTOR => Self::NotReady,
            contract::NonceMismatch::SELECTOR => Self::Nonce,
            _ => Self::Other,
        }
    }
}
