//! The payer's side: signs an authorisation that is exactly what was asked for, and takes it back.

use std::num::NonZeroU64;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{B256, TxKind, U256};
use alloy_sol_types::{SolCall as _, sol};
use farthing_core::{
    BoxFuture, Invitation, Object, Paid, PayError, SUBSCRIPTION, SubscriptionAct,
    SubscriptionPayer, SubscriptionTerms, Unpayable,
};
use farthing_money::Timestamp;
use serde_json::{Value, json};
use tempo_primitives::transaction::{Call, PrimitiveSignature};
use tokio::time::{sleep, timeout};

use super::act::{self, Act, Bound};
use super::grant;
use super::terms::{self, Asked};
use crate::METHOD;
use crate::payer::{LOOK_AGAIN, TempoPayer, VALID_S, WAIT};
use crate::rpc::{KEYCHAIN, KeyStanding};
use crate::transaction::{batch, raw};
use crate::wire::Address;

sol! {
    function revokeKey(address keyId);
}

impl TempoPayer {
    fn asked_of(&self, invitation: &Invitation) -> Result<Asked, Unpayable> {
        // Only an account's own key can authorise another.
        if invitation.method != METHOD || invitation.intent != SUBSCRIPTION || self.is_access_key {
            return Err(Unpayable::Method);
        }
        let asked = Asked::read(&invitation.request, &self.tokens)?;
        if asked.chain_id != self.nodes.chain_id() {
            return Err(Unpayable::Method);
        }
        // What ends with its offer authorises nothing, and a key that is the account's own cannot be limited.
        let offered_s = invitation.expires_at.map_or(0, Timestamp::as_secs);
        let nobody = Address(alloy_primitives::Address::ZERO);
        if asked.expires_s <= offered_s || [self.account, nobody].contains(&asked.key) {
            return Err(Unpayable::Malformed);
        }
        Ok(asked)
    }

    fn signed_by_account(&self, digest: B256) -> Result<PrimitiveSignature, PayError> {
        let signature = sign_message(B256::from(*self.key), digest);
        signature.map(PrimitiveSignature::Secp256k1).map_err(|_| PayError::Refused)
    }

    /// The transaction that takes a key back, which the account pays the fee of in `token`.
    async fn revocation(&self, key: Address, token: Address) -> Result<Vec<u8>, PayError> {
        let now_s = self.nodes.latest_block_time_s().await?;
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S));
        let call = Call {
            to: TxKind::Call(KEYCHAIN.0),
            value: U256::ZERO,
            input: revokeKeyCall { keyId: key.0 }.abi_encode().into(),
        };
        let valid_before = valid_before.ok_or(PayError::Refused)?;
        let mut tx = batch(self.nodes.chain_id(), Some(token), vec![call], valid_before);
        self.nodes.limit(self.account, KEYCHAIN, &mut tx).await?;
        let signature = self.sign(tx.signature_hash())?;
        Ok(raw(&tx.into_signed(signature)).to_vec())
    }

    async fn revoked(&self, key: Address, token: Address) -> Result<(), PayError> {
        match self.nodes.key_standing(self.account, key).await? {
            KeyStanding::Revoked | KeyStanding::Expired => return Ok(()),
            // The chain takes back only what it knows; the seller can still make it known.
            KeyStanding::Unknown => return Err(PayError::Refused),
            KeyStanding::Active => {}
        }
        let raw = self.revocation(key, token).await?;
        // Whatever the node says of it, what counts is how the key stands.
        let sent = self.nodes.send(&raw.into()).await;
        if matches!(sent, Err(crate::rpc::CallError::Unsent)) {
            return Err(PayError::Unsent);
        }
        let waiting = async {
            loop {
                let standing = self.nodes.key_standing(self.account, key).await;
                if matches!(standing, Ok(KeyStanding::Revoked | KeyStanding::Expired)) {
                    return;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(WAIT, waiting).await.map_err(|_| PayError::Unknown)
    }
}

impl SubscriptionPayer for TempoPayer {
    fn subscription_terms(&self, invitation: &Invitation) -> Result<SubscriptionTerms, Unpayable> {
        let asked = self.asked_of(invitation)?;
        let recipient = terms::hex(asked.recipient);
        let plan = asked.plan.as_deref().unwrap_or_default();
        let (realm, token) = (&invitation.realm, terms::hex(asked.token));
        let revocable = json!({ "key": terms::hex(asked.key), "token": token });
        Ok(SubscriptionTerms {
            period: asked.period,
            expires_at: Some(terms::moment(asked.expires_s)),
            // The chain wants the seller's own end, to the second (§6.5).
            payer_ends: false,
            binding: format!("{METHOD} {realm} {recipient} {token} {plan}"),
            recipient,
            amount: asked.amount,
            revocable: revocable.as_object().cloned(),
        })
    }

    fn subscribe<'a>(
        &'a self,
        invitation: &'a Invitation,
        act: SubscriptionAct,
    ) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async move {
            let asked = self.asked_of(invitation)?;
            let acted = |act: Act, id: &str| -> Result<Object, PayError> {
                let bound = Bound {
                    chain_id: asked.chain_id,
                    account: self.account,
                    subscription: id,
                    challenge: &invitation.challenge,
                    realm: &invitation.realm,
                };
                let signature = self.signed_by_account(act::digest(act, &bound))?;
                Ok(act::payload(act, id, &signature))
            };
            let payload = match act {
                // Another end than the seller's cannot be signed.
                SubscriptionAct::Begin { until: Some(_) } => return Err(PayError::Refused),
                SubscriptionAct::Begin { until: None } => {
                    let authorization = grant::asked_for(&asked);
                    let signature = self.signed_by_account(authorization.signature_hash())?;
                    let signed = authorization.into_signed(signature);
                    let mut payload = Object::new();
                    payload.insert("type".into(), "keyAuthorization".into());
                    payload.insert("signature".into(), grant::write(&signed).into());
                    payload
                }
                SubscriptionAct::Use { id } => acted(Act::Use, &id)?,
                SubscriptionAct::Cancel { id } => acted(Act::Cancel, &id)?,
            };
            let source = crate::wire::did(asked.chain_id, self.account);
            Ok(Paid { payload, source: Some(source), keepsake: None })
        })
    }

    fn revoke<'a>(&'a self, revocable: &'a Object) -> BoxFuture<'a, Result<(), PayError>> {
        Box::pin(async {
            let address = |name: &str| {
                let text = revocable.get(name).and_then(Value::as_str);
                text.and_then(|text| text.parse().ok()).ok_or(PayError::Refused)
            };
            self.revoked(address("key")?, address("token")?).await
        })
    }
}
