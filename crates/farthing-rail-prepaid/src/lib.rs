//! Accounts held in the seller's own books, spent with an Ed25519 key.
//!
//! The operator funds an account and attaches a key to it; the agent that holds the key pays by
//! signing what it pays: challenge, amount, asset, payee and expiry. No chain, no card and no other
//! party is involved, so the claim itself moves the money, in one durable step. The method is
//! written down in `docs/prepaid-charge.md`, `docs/prepaid-session.md` and
//! `docs/prepaid-subscription.md`, in the form of the scheme's method specifications.
//!
//! **Architecture invariant:** a signature names everything it pays for. One that was made for a
//! challenge, an amount or a payee says nothing about any other.
//!
//! **Architecture invariant:** passes the rail suite of the testkit; a behaviour that is not in the
//! suite is not relied upon.

mod did;
mod message;
mod session;
mod subscription;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use farthing_core::{
    BoxFuture, Evidence, Held, Invitation, Object, Paid, PayError, Payer, Presented, Price, Rail,
    RailRules, Refunds, Rejection, SessionPayer, SessionRail, SettleError, Settled,
    SubscriptionPayer, SubscriptionRail, Unpayable, Unquotable,
};
use farthing_ledger::{Holder, Money, Source, SpendingKey};
use farthing_money::{Amount, AssetId, Assets, Timestamp, parse_atoms};
use farthing_mpp::base64url;
use serde_json::{Value, json};

pub use did::{MalformedDid, did_key, parse_did_key};
use message::Message;

/// The payment method.
const METHOD: &str = "prepaid";

/// The intent of single payments; [`farthing_core::SESSION`] and [`farthing_core::SUBSCRIPTION`] are the
/// others.
const INTENT: &str = "charge";

/// What counts as what: the book is the rail.
const RULES: RailRules = RailRules {
    authorised: "an Ed25519 signature over the challenge, by a key of the account",
    settled: "the record in the book that claims the payment",
    reversed: "by a refund in the book",
    reference: "the payment's id",
    holds: true,
    refunds: Refunds::Book,
    recheck_after: None,
};

/// The seller's side: knows which assets accounts are held in.
#[derive(Clone, Debug)]
pub struct PrepaidRail {
    assets: Assets,
}

impl PrepaidRail {
    /// A rail for accounts in `assets`.
    #[must_use]
    pub const fn new(assets: Assets) -> Self {
        Self { assets }
    }

    fn quoted(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable> {
        let asset = self.assets.get(amount.asset()).ok_or(Unquotable::Asset)?;
        if amount.is_zero() {
            return Err(Unquotable::Amount);
        }
        let mut request = Object::new();
        request.insert("amount".into(), amount.atoms().to_string().into());
        request.insert("currency".into(), asset.id().as_str().into());
        request.insert("recipient".into(), payee.as_str().into());
        request.insert("methodDetails".into(), json!({ "decimals": asset.decimals() }));
        Ok(request)
    }
}

impl Rail for PrepaidRail {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn rules(&self) -> &'static RailRules {
        &RULES
    }

    fn quote(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable> {
        self.quoted(amount, payee)
    }

    fn session(&self) -> Option<&dyn SessionRail> {
        Some(self)
    }

    fn subscription(&self) -> Option<&dyn SubscriptionRail> {
        Some(self)
    }

    fn check(&self, presented: &Presented, _now: Timestamp) -> Result<Evidence, Rejection> {
        if presented.intent != INTENT {
            return Err(Rejection::Unsupported);
        }
        // The request is our own, bound into the challenge's id; what does not fit is not ours.
        let terms =
            Terms::read(&presented.request, &self.assets).map_err(|_| Rejection::Foreign)?;
        let payee = Holder::new(terms.recipient).map_err(|_| Rejection::Foreign)?;
        let source = presented.source.as_deref().ok_or(Rejection::Malformed)?;
        let key = parse_did_key(source).map_err(|_| Rejection::Malformed)?;
        let signature = signature(&presented.payload).ok_or(Rejection::Malformed)?;
        let message = Message {
            amount: &terms.amount.atoms().to_string(),
            challenge: &presented.challenge,
            currency: terms.amount.asset().as_str(),
            expires: &presented.expires,
            realm: &presented.realm,
            recipient: terms.recipient,
        };
        let verifier = VerifyingKey::from_bytes(&key).map_err(|_| Rejection::Invalid)?;
        // Strict: one signature has one spelling, and a key that verifies anything is no key.
        verifier.verify_strict(&message.bytes(), &signature).map_err(|_| Rejection::Invalid)?;
        Ok(Evidence {
            payer: source.to_owned(),
            payee,
            amount: terms.amount,
            shares: Vec::new(),
            from: Source::Key(SpendingKey(key)),
            proofs: Vec::new(),
            money: Money::Book,
            inquiry: None,
        })
    }

    fn settle<'a>(&'a self, _: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        // The claim moves the money; there is nothing to send anywhere.
        Box::pin(async { Err(SettleError::Unsent) })
    }
}

/// The buyer's side: holds the key.
pub struct PrepaidPayer {
    key: SigningKey,
    assets: Assets,
}

impl PrepaidPayer {
    /// Pays with `secret`, an Ed25519 seed, in the `assets` the wallet knows.
    #[must_use]
    pub fn new(secret: &[u8; 32], assets: Assets) -> Self {
        Self { key: SigningKey::from_bytes(secret), assets }
    }
}

impl Payer for PrepaidPayer {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn account(&self) -> String {
        did_key(self.key.verifying_key().as_bytes())
    }

    fn price(&self, invitation: &Invitation) -> Result<Price, Unpayable> {
        if invitation.method != METHOD || invitation.intent != INTENT {
            return Err(Unpayable::Method);
        }
        if invitation.expires.is_none() {
            return Err(Unpayable::Malformed);
        }
        let terms = Terms::read(&invitation.request, &self.assets)?;
        Ok(Price {
            amount: terms.amount,
            recipient: terms.recipient.to_owned(),
            shares: Vec::new(),
        })
    }

    fn session(&self) -> Option<&dyn SessionPayer> {
        Some(self)
    }

    fn subscription(&self) -> Option<&dyn SubscriptionPayer> {
        Some(self)
    }

    fn pay<'a>(&'a self, invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async {
            let price = self.price(invitation)?;
            let message = Message {
                amount: &price.amount.atoms().to_string(),
                challenge: &invitation.challenge,
                currency: price.amount.asset().as_str(),
                expires: invitation.expires.as_deref().unwrap_or_default(),
                realm: &invitation.realm,
                recipient: &price.recipient,
            };
            let signature = self.key.sign(&message.bytes()).to_bytes();
            let mut payload = Object::new();
            payload.insert("type".into(), "signature".into());
            payload.insert("signature".into(), base64url::encode(signature).into());
            Ok(Paid { payload, source: Some(self.account()), keepsake: None })
        })
    }
}

/// A charge request of this method, read.
struct Terms<'a> {
    amount: Amount,
    recipient: &'a str,
}

impl<'a> Terms<'a> {
    fn read(request: &'a Object, assets: &Assets) -> Result<Self, Unpayable> {
        let text = |name| request.get(name).and_then(Value::as_str).ok_or(Unpayable::Malformed);
        let atoms = parse_atoms(text("amount")?).map_err(|_| Unpayable::Malformed)?;
        let id = AssetId::new(text("currency")?).map_err(|_| Unpayable::Asset)?;
        let asset = assets.get(&id).ok_or(Unpayable::Asset)?;
        let details = request.get("methodDetails").ok_or(Unpayable::Malformed)?;
        // A counterparty that counts in other decimals would mean another price.
        if details.get("decimals").and_then(Value::as_u64) != Some(asset.decimals().into()) {
            return Err(Unpayable::Asset);
        }
        let recipient = text("recipient")?;
        if atoms == 0 || recipient.is_empty() {
            return Err(Unpayable::Malformed);
        }
        Ok(Self { amount: asset.atoms(atoms), recipient })
    }
}

/// The payload's signature, if the payload is `{"type":"signature","signature":…}`.
fn signature(payload: &Object) -> Option<Signature> {
    if payload.get("type")?.as_str()? != "signature" {
        return None;
    }
    let text = payload.get("signature")?.as_str()?;
    let bytes = base64url::decode(text).ok()?;
    Signature::from_slice(&bytes).ok()
}
