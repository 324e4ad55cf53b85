//! The payer's side as the core knows it: a session is prepared once, and then acted in.

use alloy_primitives::B256;
use farthing_core::{
    Act, BoxFuture, Invitation, Object, Paid, PayError, PreparedSession, SESSION, SessionPayer,
    SessionTerms as Understood, Unpayable,
};
use farthing_money::Amount;
use serde_json::Value;

use crate::METHOD;
use crate::payer::TempoPayer;
use crate::session::channel::Descriptor;
use crate::session::terms::SessionTerms;

impl TempoPayer {
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
        let kept = |name: &str| session.keepsake.get(name).and_then(Value::as_object);
        let descriptor = kept("descriptor").and_then(Descriptor::read);
        let descriptor = descriptor.ok_or(PayError::Refused)?;
        if descriptor.id(&terms.escrow).to_string() != session.channel {
            return Err(PayError::Refused);
        }
        let payload = match act {
            Act::Open { cumulative } => {
                // The transaction is the one that was prepared, so that the deposit moves once.
                let mut payload = kept("open").ok_or(PayError::Refused)?.clone();
                let voucher = self.voucher(&terms.escrow, &descriptor, cumulative)?;
                for name in ["cumulativeAmount", "signature"] {
                    let value = voucher.get(name).ok_or(PayError::Refused)?;
                    payload.insert(name.into(), value.clone());
                }
                payload
            }
            Act::TopUp { additional } => {
                self.top_up_channel(&terms, &descriptor, additional).await?
            }
            Act::Voucher { cumulative } => self.voucher(&terms.escrow, &descriptor, cumulative)?,
            Act::Close { cumulative } => self.close(&terms.escrow, &descriptor, cumulative)?,
        };
        Ok(Paid { payload, source: Some(self.source()), keepsake: None })
    }
}

impl SessionPayer for TempoPayer {
    fn session_terms(&self, invitation: &Invitation) -> Result<Understood, Unpayable> {
        let terms = self.asked(invitation)?;
        let asset = terms.amount.asset().clone();
        Ok(Understood {
            unit: terms.amount,
            unit_type: terms.unit,
            recipient: terms.recipient.to_string(),
            suggested_deposit: terms.suggested_deposit.map(|it| Amount::new(asset, it)),
            delta_min_atoms: terms.delta_min,
            binding: format!(
                "{:?} {} {} {}",
                terms.escrow, terms.recipient, terms.token, terms.operator
            ),
        })
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
            let mut keepsake = Object::new();
            keepsake.insert("descriptor".into(), opening.descriptor.write().into());
            keepsake.insert("open".into(), opening.payload.into());
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
}
