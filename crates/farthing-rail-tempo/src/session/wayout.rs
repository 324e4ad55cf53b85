//! What a payer makes of a channel as it stands, and of its way out, on whichever kind of chain.

use std::time::Duration;

use farthing_core::{PayError, SettleError, Standing};

use crate::rpc::{CallError, Nodes};
use crate::session::books::moment;
use crate::session::buyer::Leave;
use crate::session::channel::Escrow;
use crate::session::state::ChannelState;

impl Nodes {
    /// How a channel stands that the escrow knows. Asks for its grace where the payer has asked for the rest.
    pub(crate) async fn standing_of(
        &self,
        escrow: &Escrow,
        state: &ChannelState,
    ) -> Result<Standing, CallError> {
        let ChannelState { deposit, settled, .. } = *state;
        if state.is_finalized {
            return Ok(Standing::Over { settled });
        }
        let leaves_at = match state.close_requested_at_s {
            None => None,
            Some(asked_at_s) => {
                let grace_s = self.grace_s(escrow).await?;
                Some(moment(asked_at_s).after(Duration::from_secs(grace_s)))
            }
        };
        Ok(Standing::There { deposit, settled, leaves_at })
    }
}

impl Leave {
    /// The next step out of a channel that stands so at `at_s`, by the chain's clock; nothing where there is
    /// nothing to do, or not yet.
    pub(crate) fn next(standing: Standing, at_s: u64) -> Option<Self> {
        match standing {
            Standing::There { leaves_at: None, .. } => Some(Self::RequestClose),
            Standing::There { leaves_at: Some(at), .. } if at <= moment(at_s) => {
                Some(Self::Withdraw)
            }
            Standing::There { .. }
            | Standing::Coming { .. }
            | Standing::Never
            | Standing::Over { .. } => None,
        }
    }
}

/// How a channel stands `after` a step out of it that was taken when it stood as `before`.
pub(crate) async fn stepped<T>(
    left: Result<T, SettleError>,
    before: Standing,
    after: impl Future<Output = Result<Standing, PayError>>,
) -> Result<Standing, PayError> {
    match left {
        Ok(_) => after.await,
        // What the escrow says no to may have been done meanwhile, by the seller or another process.
        Err(SettleError::Declined) => match after.await? {
            unchanged if unchanged == before => Err(PayError::Refused),
            changed => Ok(changed),
        },
        Err(error @ (SettleError::Unsent | SettleError::Unknown)) => Err(unpaid(error)),
    }
}

/// What it means to a payer that a transaction of its own was not carried out.
pub(crate) const fn unpaid(error: SettleError) -> PayError {
    match error {
        SettleError::Declined => PayError::Refused,
        SettleError::Unsent => PayError::Unsent,
        SettleError::Unknown => PayError::Unknown,
    }
}
