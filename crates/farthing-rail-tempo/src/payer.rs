//! The buyer's side: signs a transaction that pays a charge, and lets the seller hand it over.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::B256;
use farthing_core::{BoxFuture, Invitation, Object, Paid, PayError, Payer, Price, Unpayable};
use tempo_primitives::TempoTransaction;
use tempo_primitives::transaction::{PrimitiveSignature, TempoSignature};
use zeroize::Zeroizing;

use crate::METHOD;
use crate::memo::attribution;
use crate::rpc::{CallError, Nodes};
use crate::transaction::build;
use crate::wire::{Address, Terms, Tokens, did};

/// How long a signed transaction may wait, in seconds; the chain allows thirty (TIP-1009).
const VALID_S: u64 = 25;

/// How much of what is estimated a transaction may burn, in percent: the chain moves on meanwhile.
const GAS_PERCENT: u64 = 120;

/// Pays with a secp256k1 key.
pub struct TempoPayer {
    key: Zeroizing<[u8; 32]>,
    account: Address,
    nodes: Arc<Nodes>,
    tokens: Tokens,
}

/// Bytes are no key of secp256k1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a key of secp256k1")]
pub struct MalformedKey;

impl fmt::Debug for TempoPayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TempoPayer").field("account", &self.account).finish_non_exhaustive()
    }
}

impl TempoPayer {
    /// Pays with `secret` in the `tokens` the wallet knows, over `nodes`.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(secret: &[u8; 32], nodes: Arc<Nodes>, tokens: Tokens) -> Result<Self, MalformedKey> {
        let key = k256::ecdsa::SigningKey::from_slice(secret).map_err(|_| MalformedKey)?;
        let public = key.verifying_key().to_encoded_point(true);
        let account = Address::of_public_key(public.as_bytes()).ok_or(MalformedKey)?;
        Ok(Self { key: Zeroizing::new(*secret), account, nodes, tokens })
    }

    /// The account that pays.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.account
    }

    fn terms(&self, invitation: &Invitation) -> Result<Terms, Unpayable> {
        if invitation.method != METHOD || invitation.intent != "charge" {
            return Err(Unpayable::Method);
        }
        let terms = Terms::read(&invitation.request, &self.tokens)?;
        if terms.chain_id != self.nodes.chain_id() || !terms.pull {
            return Err(Unpayable::Method);
        }
        if terms.amount.is_zero() {
            return Err(Unpayable::Malformed);
        }
        Ok(terms)
    }

    /// The transaction, with limits from what the chain says. One that would not succeed is found
    /// out here, before anything is signed.
    async fn transaction(
        &self,
        terms: &Terms,
        invitation: &Invitation,
    ) -> Result<TempoTransaction, PayError> {
        let memo = attribution(&invitation.realm, &invitation.challenge);
        let now_s = self.nodes.latest_block_time_s().await?;
        let expires_s = invitation.expires_at.map_or(u64::MAX, farthing_money::Timestamp::as_secs);
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S).min(expires_s));
        let mut transaction = build(terms, memo, valid_before.ok_or(Unpayable::Malformed)?);
        for call in &transaction.calls {
            self.nodes.try_call(self.account, terms.token, &call.input).await?;
        }
        let gas = self.nodes.estimate_gas(self.account, &transaction).await?;
        transaction.gas_limit = gas.saturating_mul(GAS_PERCENT).saturating_div(100);
        transaction.max_fee_per_gas = self.nodes.gas_price().await?.saturating_mul(2);
        Ok(transaction)
    }
}

impl Payer for TempoPayer {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn account(&self) -> String {
        did(self.nodes.chain_id(), self.account)
    }

    fn price(&self, invitation: &Invitation) -> Result<Price, Unpayable> {
        let terms = self.terms(invitation)?;
        Ok(Price { amount: terms.amount, recipient: terms.recipient.to_string() })
    }

    fn pay<'a>(&'a self, invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async {
            let terms = self.terms(invitation)?;
            let transaction = self.transaction(&terms, invitation).await?;
            let signature = sign_message(B256::from(*self.key), transaction.signature_hash());
            let signature = signature.map_err(|_| PayError::Refused)?;
            let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
            let mut raw = Vec::new();
            transaction.into_signed(signature).eip2718_encode(&mut raw);
            let mut payload = Object::new();
            payload.insert("type".into(), "transaction".into());
            payload.insert("signature".into(), alloy_primitives::hex::encode_prefixed(raw).into());
            Ok(Paid { payload, source: Some(self.account()) })
        })
    }
}

/// Nothing was sent: these calls only ask.
impl From<CallError> for PayError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unsent | CallError::Lost => Self::Unsent,
            CallError::Refused(_) => Self::Refused,
        }
    }
}
