//! The buyer's side: signs a transaction that pays a charge, and lets the seller hand it over, or sends
//! it where the seller wants that.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{B256, Bytes};
use farthing_core::{
    BoxFuture, Fate, Invitation, Object, Paid, PayError, Payer, Price, PriceShare, SessionPayer,
    SubscriptionPayer, Unpayable,
};
use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};
use tempo_primitives::transaction::{KeychainSignature, PrimitiveSignature, TempoSignature};
use tempo_primitives::{AASigned, TempoTransaction};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::rpc::{CallError, Nodes, Sighting};
use crate::transaction::{build, fee_max, raw};
use crate::wire::{Address, Terms, Tokens, did};
use crate::{METHOD, envelope, is_late, owed, proof, receipt};

/// How long a signed transaction may wait, in seconds; the chain allows thirty (TIP-1009).
pub(crate) const VALID_S: u64 = 25;

/// How long after a look at the chain the next one follows, for a transaction that the wallet sent.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the wallet waits for what it sent.
pub(crate) const WAIT: Duration = Duration::from_secs(35);

/// Pays with a secp256k1 key: an account's own, or an access key of another account.
pub struct TempoPayer {
    pub(crate) key: Zeroizing<[u8; 32]>,
    /// The account whose money it is.
    pub(crate) account: Address,
    /// Whether the key is another one than the account's own.
    pub(crate) is_access_key: bool,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) tokens: Tokens,
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

/// What the payer wants to be told when it is asked about a payment later. Nothing in it is a secret to
/// the seller; to others it is until the payment was handed over.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keepsake {
    /// The transaction, as it was signed.
    raw: Bytes,
    /// Its hash; nothing where a sponsor still has to sign, which changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<B256>,
    /// Whether the wallet hands it over itself.
    push: bool,
    request: Object,
    realm: String,
    challenge: String,
    valid_before_s: u64,
}

impl TempoPayer {
    /// Pays with `secret` in the `tokens` the wallet knows, over `nodes`.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(secret: &[u8; 32], nodes: Arc<Nodes>, tokens: Tokens) -> Result<Self, MalformedKey> {
        let account = Address::of_secret(secret).ok_or(MalformedKey)?;
        let key = Zeroizing::new(*secret);
        Ok(Self { key, account, is_access_key: false, nodes, tokens })
    }

    /// Pays for `account`, which has authorised the key on the chain (an access key, with the limits
    /// that the account has set).
    #[must_use]
    pub fn acting_for(self, account: Address) -> Self {
        let is_access_key = account != self.account;
        Self { account, is_access_key, ..self }
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
        if terms.chain_id != self.nodes.chain_id() {
            return Err(Unpayable::Method);
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
        let owed = owed(terms, &invitation.realm, &invitation.challenge);
        let memo = owed.first().and_then(|primary| primary.memo).unwrap_or_default();
        let now_s = self.nodes.latest_block_time_s().await?;
        let expires_s = invitation.expires_at.map_or(u64::MAX, Timestamp::as_secs);
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S).min(expires_s));
        let mut transaction = build(terms, memo, valid_before.ok_or(Unpayable::Malformed)?);
        self.nodes.limit(self.account, terms.token, &mut transaction).await?;
        if !terms.sponsored && !self.affords(terms, &transaction).await? {
            return Err(PayError::Refused);
        }
        Ok(transaction)
    }

    /// Whether there is enough for the price and the most that the fee can be. The chain asks for both
    /// before it takes a transaction, and a node that is only to estimate does not.
    async fn affords(&self, terms: &Terms, tx: &TempoTransaction) -> Result<bool, PayError> {
        let token = self.tokens.named(terms.amount.asset()).ok_or(Unpayable::Asset)?;
        let fee = fee_max(tx, token.asset.decimals());
        let balance = self.nodes.balance(terms.token, self.account).await;
        let needed = terms.amount.atoms().saturating_add(fee);
        Ok(balance.map_err(|_| PayError::Unsent)? >= needed)
    }

    pub(crate) fn sign(&self, digest: B256) -> Result<TempoSignature, PayError> {
        let sign = |digest| {
            let signature = sign_message(B256::from(*self.key), digest);
            signature.map(PrimitiveSignature::Secp256k1).map_err(|_| PayError::Refused)
        };
        if !self.is_access_key {
            return sign(digest).map(TempoSignature::Primitive);
        }
        let signature = sign(KeychainSignature::signing_hash(digest, self.account.0))?;
        Ok(TempoSignature::Keychain(KeychainSignature::new(self.account.0, signature)))
    }

    /// Says who it is; nothing moves, and nobody needs to be asked.
    fn prove(&self, terms: &Terms, invitation: &Invitation) -> Result<Paid, PayError> {
        let (realm, challenge) = (&invitation.realm, &invitation.challenge);
        let digest = proof::digest(terms.chain_id, self.account, realm, challenge);
        let signature = self.sign(digest)?.to_bytes();
        Ok(self.paid("proof", "signature", signature.to_string(), None))
    }

    async fn transfer(&self, terms: &Terms, invitation: &Invitation) -> Result<Paid, PayError> {
        let transaction = match self.transaction(terms, invitation).await {
            // By the clock of a node that has stopped everything is over: another may be sounder.
            Err(PayError::Refused) if self.nodes.are_several() => {
                self.nodes.health().await;
                self.transaction(terms, invitation).await?
            }
            transaction => transaction?,
        };
        let valid_before_s = transaction.valid_before.map_or(0, NonZeroU64::get);
        let signature = self.sign(transaction.signature_hash())?;
        let signed = transaction.into_signed(signature);
        let keepsake = Keepsake {
            raw: raw(&signed),
            hash: (!terms.sponsored).then(|| *signed.hash()),
            push: !terms.pull,
            request: invitation.request.clone(),
            realm: invitation.realm.clone(),
            challenge: invitation.challenge.clone(),
            valid_before_s,
        };
        let keepsake = serde_json::to_value(&keepsake).ok();
        let keepsake = keepsake.and_then(|it| it.as_object().cloned());
        Ok(if terms.pull {
            let signature = self.wire_form(&signed, terms.sponsored)?;
            self.paid("transaction", "signature", signature, keepsake)
        } else {
            self.paid("hash", "hash", signed.hash().to_string(), keepsake)
        })
    }

    /// The transaction as the seller takes it.
    pub(crate) fn wire_form(&self, signed: &AASigned, sponsored: bool) -> Result<String, PayError> {
        let raw = raw(signed);
        if !sponsored {
            return Ok(raw.to_string());
        }
        let waiting = envelope::close(&raw, self.account.0).ok_or(PayError::Refused)?;
        Ok(alloy_primitives::hex::encode_prefixed(waiting))
    }

    fn paid(&self, kind: &str, name: &str, value: String, keepsake: Option<Object>) -> Paid {
        let mut payload = Object::new();
        payload.insert("type".into(), kind.into());
        payload.insert(name.into(), value.into());
        Paid { payload, source: Some(self.account()), keepsake }
    }

    /// What the chain says of a payment by now.
    async fn look(&self, kept: &Keepsake) -> Result<Fate, PayError> {
        let terms = Terms::read(&kept.request, &self.tokens).map_err(Unpayable::from)?;
        let owed = owed(&terms, &kept.realm, &kept.challenge);
        let mut sighting = self.nodes.sight(kept.hash.unwrap_or_default()).await?;
        // Where a sponsor signed, only the chain knows under which name it was mined. It is searched
        // afterwards: what is not found then did not happen by the time that was said.
        if let (None, Some(primary)) = (kept.hash, owed.first()) {
            let since_s = kept.valid_before_s.saturating_sub(VALID_S);
            let found = self.nodes.transferred(terms.token, self.account, primary, since_s).await?;
            if let Some(hash) = found {
                sighting = self.nodes.sight(hash).await?;
            }
        }
        match sighting {
            Sighting::Mined(mined) if receipt::pays(&mined, terms.token, self.account, &owed) => {
                Ok(Fate::Moved { reference: mined.transaction_hash.to_string() })
            }
            Sighting::Mined(mined) if receipt::failed(&mined) => Ok(Fate::Never),
            Sighting::Unmined { at_s, .. } if is_late(at_s, kept.valid_before_s) => Ok(Fate::Never),
            // What succeeds pays: whoever says otherwise is wrong somewhere.
            Sighting::Mined(_) | Sighting::Unmined { .. } => Ok(Fate::Open),
        }
    }

    /// Hands over what the wallet is to send itself, and waits until it is mined.
    async fn push(&self, kept: &Keepsake) -> Result<(), PayError> {
        let sent = self.nodes.send(&kept.raw).await;
        if matches!(sent, Err(CallError::Unsent)) {
            return Err(PayError::Unsent);
        }
        let waiting = async {
            loop {
                match self.look(kept).await {
                    Ok(Fate::Moved { .. }) => return Ok(()),
                    Ok(Fate::Never) => return Err(PayError::Refused),
                    Ok(Fate::Open) | Err(_) => sleep(LOOK_AGAIN).await,
                }
            }
        };
        timeout(WAIT, waiting).await.unwrap_or(Err(PayError::Unknown))
    }
}

fn kept(keepsake: &Object) -> Result<Keepsake, PayError> {
    let kept = serde_json::Value::Object(keepsake.clone());
    serde_json::from_value(kept).map_err(|_| PayError::Unknown)
}

impl Payer for TempoPayer {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn account(&self) -> String {
        did(self.nodes.chain_id(), self.account)
    }

    fn session(&self) -> Option<&dyn SessionPayer> {
        Some(self)
    }

    fn subscription(&self) -> Option<&dyn SubscriptionPayer> {
        Some(self)
    }

    fn price(&self, invitation: &Invitation) -> Result<Price, Unpayable> {
        let terms = self.terms(invitation)?;
        let asset = terms.amount.asset().clone();
        let share = |split: &crate::wire::Transfer| PriceShare {
            recipient: split.to.to_string(),
            amount: farthing_money::Amount::new(asset.clone(), split.atoms),
        };
        let shares = terms.splits.iter().map(share).collect();
        Ok(Price { amount: terms.amount, recipient: terms.recipient.to_string(), shares })
    }

    fn holds<'a>(&'a self, price: &'a Price) -> BoxFuture<'a, Result<bool, PayError>> {
        Box::pin(async {
            if price.amount.is_zero() {
                return Ok(true);
            }
            let token = self.tokens.named(price.amount.asset()).ok_or(Unpayable::Asset)?;
            let balance = self.nodes.balance(token.address, self.account).await;
            Ok(balance.map_err(|_| PayError::Unsent)? >= price.amount.atoms())
        })
    }

    fn pay<'a>(&'a self, invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async {
            let terms = self.terms(invitation)?;
            if terms.amount.is_zero() {
                return self.prove(&terms, invitation);
            }
            self.transfer(&terms, invitation).await
        })
    }

    fn send<'a>(&'a self, keepsake: &'a Object) -> BoxFuture<'a, Result<(), PayError>> {
        Box::pin(async {
            let kept = kept(keepsake)?;
            if kept.push { self.push(&kept).await } else { Ok(()) }
        })
    }

    fn fate<'a>(&'a self, keepsake: &'a Object) -> BoxFuture<'a, Result<Fate, PayError>> {
        Box::pin(async { self.look(&kept(keepsake)?).await })
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
