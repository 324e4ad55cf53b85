//! The payer's side as the core knows it: a session is prepared once, and then acted in.

use alloy_primitives::B256;
use farthing_core::{
    Act, BoxFuture, Invitation, Object, Paid, PayError, PreparedSession, SESSION, SessionPayer,
    SessionTerms as Understood, Standing, Unpayable,
};
use farthing_money::Amount;
use serde::{Deserialize, Serialize};

use crate::payer::TempoPayer;
use crate::session::books::moment;
use crate::session::buyer::Leave;
use crate::session::channel::{Descriptor, Escrow};
use crate::session::events::Happened;
use crate::session::terms::SessionTerms;
use crate::session::wayout::stepped;
use crate::{LATE_S, METHOD, VALID_S_MAX, is_late};

/// What the payer wants to be told when a session is gone on with. Nothing in it is a secret to the seller.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keepsake {
    /// What the channel is made of.
    descriptor: Object,
    /// What its opening says. The transaction in it is the one that was signed first, so that the deposit
    /// moves once.
    open: Object,
    /// What was asked for, which names the escrow: whoever leaves has no seller to ask.
    request: Object,
    /// When the chain stops taking the opening, in seconds since 1970.
    valid_before_s: u64,
}

/// A session that was kept, read again.
struct Kept {
    escrow: Escrow,
    descriptor: Descriptor,
    channel: B256,
    open: Object,
    valid_before_s: u64,
}

/// A channel, as far as a payer acts on it, and the chain's time of that.
struct Seen {
    standing: Standing,
    at_s: u64,
}

impl TempoPayer {
    fn kept(&self, session: &PreparedSession) -> Result<Kept, PayError> {
        let kept = serde_json::Value::Object(session.keepsake.clone());
        let kept: Keepsake = serde_json::from_value(kept).map_err(|_| PayError::Refused)?;
        let terms = SessionTerms::read(METHOD, &kept.request, &self.tokens);
        let escrow = self.ours(&terms.map_err(|_| PayError::Refused)?.escrow)?;
        let descriptor = Descriptor::read(&kept.descriptor).ok_or(PayError::Refused)?;
        let channel = descriptor.id(&escrow);
        if channel.to_string() != session.channel {
            return Err(PayError::Refused);
        }
        let Keepsake { open, valid_before_s, .. } = kept;
        Ok(Kept { escrow, descriptor, channel, open, valid_before_s })
    }

    async fn seen(&self, kept: &Kept) -> Result<Seen, PayError> {
        let seen = self.channel(&kept.escrow, kept.channel).await.map_err(|_| PayError::Unsent)?;
        let at_s = seen.head.time_s;
        let standing = match seen.what {
            Some(state) => self.nodes.standing_of(&kept.escrow, &state).await?,
            // The reserve forgets what is over: its events tell.
            None => match self.paid_out(kept).await? {
                Some(settled) => Standing::Over { settled },
                None if is_late(at_s, kept.valid_before_s) => Standing::Never,
                None => {
                    let until = moment(kept.valid_before_s.saturating_add(LATE_S));
                    Standing::Coming { until }
                }
            },
        };
        Ok(Seen { standing, at_s })
    }

    /// What the payee got of a channel that is over, if an event tells.
    async fn paid_out(&self, kept: &Kept) -> Result<Option<u128>, PayError> {
        let since_s = kept.valid_before_s.saturating_sub(VALID_S_MAX);
        let told = self.nodes.told_of(&kept.escrow, kept.channel, since_s).await?;
        Ok(told.iter().find_map(|it| match it.event.what {
            Happened::Closed { to_payee, .. } => Some(to_payee),
            Happened::Opened { .. }
            | Happened::ToppedUp { .. }
            | Happened::Settled { .. }
            | Happened::CloseRequested { .. }
            | Happened::CloseCancelled => None,
        }))
    }

    async fn next_step_out(&self, kept: &Kept) -> Result<Standing, PayError> {
        let Seen { standing, at_s } = self.seen(kept).await?;
        let Some(step) = Leave::next(standing, at_s) else { return Ok(standing) };
        let left = Self::leave(self, &kept.escrow, &kept.descriptor, step).await;
        stepped(left, standing, async { Ok(self.seen(kept).await?.standing) }).await
    }

    fn asked(&self, invitation: &Invitation) -> Result<SessionTerms, Unpayable> {
        if invitation.method != METHOD || invitation.intent != SESSION {
            return Err(Unpayable::Method);
        }
        let terms = SessionTerms::read(METHOD, &invitation.request, &self.tokens)?;
        let here = terms.escrow.chain_id == self.nodes.chain_id();
        if here { Ok(terms) } else { Err(Unpayable::Method) }
    }

    async fn acted(
        &self,
        invitation: &Invitation,
        session: &PreparedSession,
        act: Act,
    ) -> Result<Paid, PayError> {
        let terms = self.asked(invitation)?;
        let Kept { escrow, descriptor, open, .. } = self.kept(session)?;
        if terms.escrow != escrow {
            return Err(PayError::Refused);
        }
        let payload = match act {
            Act::Open { cumulative } => {
                let (mut payload, voucher) =
                    (open, self.voucher(&escrow, &descriptor, cumulative)?);
                for name in ["cumulativeAmount", "signature"] {
                    let value = voucher.get(name).ok_or(PayError::Refused)?;
                    payload.insert(name.into(), value.clone());
                }
                payload
            }
            Act::TopUp { additional, .. } => {
                self.top_up_channel(&terms, &descriptor, additional).await?
            }
            Act::Voucher { cumulative } => self.voucher(&escrow, &descriptor, cumulative)?,
            Act::Close { cumulative } => self.close(&escrow, &descriptor, cumulative)?,
        };
        Ok(Paid { payload, source: Some(self.source()), keepsake: None })
    }
}

impl SessionPayer for TempoPayer {
    fn session_terms(&self, invitation: &Invitation) -> Result<Understood, Unpayable> {
        let terms = self.asked(invitation)?;
        let binding =
            format!("{:?} {} {} {}", terms.escrow, terms.recipient, terms.token, terms.operator);
        Ok(terms.understood(binding))
    }

    fn prepare<'a>(
        &'a self,
        invitation: &'a Invitation,
        deposit: &'a Amount,
        entropy: [u8; 32],
    ) -> BoxFuture<'a, Result<PreparedSession, PayError>> {
        Box::pin(async move {
            let terms = self.asked(invitation)?;
            if deposit.asset() != terms.amount.asset() {
                return Err(Unpayable::Asset.into());
            }
            let salt = B256::from(entropy);
            let opening = self.open_channel(&terms, deposit.atoms(), 0, salt).await?;
            let keepsake = Keepsake {
                descriptor: opening.descriptor.write(),
                open: opening.payload,
                request: invitation.request.clone(),
                valid_before_s: opening.valid_before_s,
            };
            // In-memory JSON with string keys always serialises, and to an object.
            let keepsake = serde_json::to_value(keepsake).unwrap_or_default();
            let keepsake = keepsake.as_object().cloned().unwrap_or_default();
            Ok(PreparedSession { channel: opening.channel.to_string(), keepsake })
        })
    }

    fn act<'a>(
        &'a self,
        invitation: &'a Invitation,
        session: &'a PreparedSession,
        act: Act,
    ) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(self.acted(invitation, session, act))
    }

    fn standing<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Option<Standing>, PayError>> {
        Box::pin(async move {
            let kept = self.kept(session)?;
            Ok(Some(self.seen(&kept).await?.standing))
        })
    }

    fn leave<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Standing, PayError>> {
        Box::pin(async move {
            let kept = self.kept(session)?;
            self.next_step_out(&kept).await
        })
    }
}
