//! Sessions on accounts in the seller's own books: `docs/prepaid-session.md`.
//!
//! The deposit moves from the account into the channel in the book, and each voucher moves what it pays out
//! of it. Nothing is ever carried out elsewhere.

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use farthing_core::{
    Act, Action, BoxFuture, Invitation, Object, Opening, Paid, PayError, PreparedSession,
    Presented, Rejection, SESSION, SessionPayer, SessionPrice, SessionRail, SessionRules,
    SessionTerms, TopUp, Unpayable, Unquotable,
};
use farthing_ledger::{
    ChannelDeposit, ChannelId, Fingerprint, Holder, Money, Source, SpendingKey, Voucher,
    VoucherClaim,
};
use farthing_money::{Amount, Timestamp, parse_atoms};
use farthing_mpp::base64url;
use serde_json::{Value, json};

use crate::message::{ChannelName, DepositMessage, VoucherMessage};
use crate::{METHOD, PrepaidPayer, PrepaidRail, Terms, parse_did_key};

/// How many bytes make a channel's name new.
const SALT_BYTES: usize = 32;

/// What counts as what: the book is the rail.
const RULES: SessionRules = SessionRules {
    authorised: "an Ed25519 signature over channel, cumulative amount, asset, payee and realm, by the \
                 channel's signer",
    settled: "the record in the book that takes it from the channel",
    captures_spent: true,
    heard_within: None,
    ascertains: false,
};

impl SessionRail for PrepaidRail {
    fn session_rules(&self) -> &'static SessionRules {
        &RULES
    }

    fn quote_session(&self, price: &SessionPrice, payee: &Holder) -> Result<Object, Unquotable> {
        let mut request = self.quoted(&price.unit, payee)?;
        if let Some(unit_type) = &price.unit_type {
            request.insert("unitType".into(), unit_type.as_ref().into());
        }
        if let Some(deposit) = &price.suggested_deposit {
            if deposit.asset() != price.unit.asset() {
                return Err(Unquotable::Asset);
            }
            request.insert("suggestedDeposit".into(), deposit.atoms().to_string().into());
        }
        if price.delta_min_atoms > 0
            && let Some(details) = request.get_mut("methodDetails").and_then(Value::as_object_mut)
        {
            let delta = price.delta_min_atoms.to_string();
            details.insert("minVoucherDelta".into(), delta.into());
        }
        Ok(request)
    }

    fn check_action(&self, presented: &Presented, _: Timestamp) -> Result<Action, Rejection> {
        if presented.intent != SESSION {
            return Err(Rejection::Unsupported);
        }
        // The request is our own, bound into the challenge's id; what does not fit is not ours.
        let terms =
            Terms::read(&presented.request, &self.assets).map_err(|_| Rejection::Foreign)?;
        let delta_min = delta_min(&presented.request).map_err(|_| Rejection::Foreign)?;
        let source = presented.source.as_deref().ok_or(Rejection::Malformed)?;
        let payer = parse_did_key(source).map_err(|_| Rejection::Malformed)?;
        let payload = &presented.payload;
        let text = |name| payload.get(name).and_then(Value::as_str).ok_or(Rejection::Malformed);
        let action = Presentation { presented, terms, delta_min, source, payer };
        match text("action")? {
            "open" => action.open(),
            "topUp" => action.top_up(),
            "voucher" => Ok(Action::Voucher(Box::new(action.voucher(&action.channel()?)?))),
            "close" => Ok(Action::Close(Box::new(action.voucher(&action.channel()?)?))),
            _ => Err(Rejection::Malformed),
        }
    }
}

/// An action that is being checked.
struct Presentation<'a> {
    presented: &'a Presented,
    terms: Terms<'a>,
    delta_min: u128,
    source: &'a str,
    payer: [u8; 32],
}

impl Presentation<'_> {
    fn text(&self, name: &str) -> Result<&str, Rejection> {
        let value = self.presented.payload.get(name).and_then(Value::as_str);
        value.ok_or(Rejection::Malformed)
    }

    fn atoms(&self, name: &str) -> Result<u128, Rejection> {
        parse_atoms(self.text(name)?).map_err(|_| Rejection::Malformed)
    }

    /// Who signs vouchers: the payer, unless another key is named.
    fn signer(&self) -> Result<&str, Rejection> {
        match self.presented.payload.get("signer") {
            Some(signer) => signer.as_str().ok_or(Rejection::Malformed),
            None => Ok(self.source),
        }
    }

    /// The channel's name in its one spelling. Letters may come in either case.
    fn channel(&self) -> Result<String, Rejection> {
        let name = self.text("channelId")?.to_ascii_lowercase();
        let is_name = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_name { Ok(name) } else { Err(Rejection::Malformed) }
    }

    fn open(&self) -> Result<Action, Rejection> {
        let channel = self.channel()?;
        let salt = self.text("salt")?;
        let bytes = base64url::decode(salt).map_err(|_| Rejection::Malformed)?;
        if bytes.len() != SALT_BYTES {
            return Err(Rejection::Malformed);
        }
        let name = ChannelName {
            currency: self.terms.amount.asset().as_str(),
            payer: self.source,
            realm: &self.presented.realm,
            recipient: self.terms.recipient,
            salt,
            signer: self.signer()?,
        };
        if name.hex() != channel {
            return Err(Rejection::Invalid);
        }
        let deposit = self.deposit(&channel, "deposit", "depositSignature")?;
        let voucher = self.voucher(&channel)?;
        Ok(Action::Open(Box::new(Opening {
            payer: self.source.to_owned(),
            deposit,
            cash: None,
            inquiry: None,
            voucher,
        })))
    }

    fn top_up(&self) -> Result<Action, Rejection> {
        let channel = self.channel()?;
        let deposit = self.deposit(&channel, "additionalDeposit", "signature")?;
        Ok(Action::TopUp(Box::new(TopUp {
            channel: channel_id(&channel)?,
            payer: self.source.to_owned(),
            binding: self.binding(),
            deposit,
        })))
    }

    /// What the payer moves into the channel: signed together with the challenge, which is answered once.
    fn deposit(
        &self,
        channel: &str,
        amount: &str,
        signature: &str,
    ) -> Result<ChannelDeposit, Rejection> {
        let atoms = self.atoms(amount)?;
        let message = DepositMessage {
            channel,
            challenge: &self.presented.challenge,
            deposit: &atoms.to_string(),
        };
        verify(&self.payer, &message.bytes(), self.text(signature)?)?;
        Ok(ChannelDeposit {
            atoms,
            from: Source::Key(SpendingKey(self.payer)),
            money: Money::Book,
            order: None,
            proofs: Vec::new(),
        })
    }

    fn voucher(&self, channel: &str) -> Result<VoucherClaim, Rejection> {
        let cumulative = self.atoms("cumulativeAmount")?;
        let signature = self.text("signature")?;
        let signer = self.signer()?;
        let key = parse_did_key(signer).map_err(|_| Rejection::Malformed)?;
        let message = VoucherMessage {
            channel,
            cumulative: &cumulative.to_string(),
            currency: self.terms.amount.asset().as_str(),
            realm: &self.presented.realm,
            recipient: self.terms.recipient,
        };
        verify(&key, &message.bytes(), signature)?;
        Ok(VoucherClaim {
            voucher: Voucher {
                channel: channel_id(channel)?,
                cumulative,
                signature: signature.into(),
            },
            signer: signer.to_owned(),
            binding: self.binding(),
            delta_min: self.delta_min,
            heard_since: None,
        })
    }

    /// Whom and what for: the same for every offer of one seller in one asset, whatever it costs.
    fn binding(&self) -> Fingerprint {
        let parts = [
            self.presented.realm.as_str(),
            self.terms.recipient,
            self.terms.amount.asset().as_str(),
        ];
        Fingerprint::of("prepaid session", &parts.map(str::as_bytes))
    }
}

/// Whether a key has signed a message, in the one spelling that counts.
fn verify(key: &[u8; 32], message: &[u8], signature: &str) -> Result<(), Rejection> {
    let bytes = base64url::decode(signature).map_err(|_| Rejection::Malformed)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| Rejection::Malformed)?;
    let key = VerifyingKey::from_bytes(key).map_err(|_| Rejection::Signature)?;
    // Strict: one signature has one spelling, and a key that verifies anything is no key.
    key.verify_strict(message, &signature).map_err(|_| Rejection::Signature)
}

/// The least by which vouchers must advance, as a request says it.
fn delta_min(request: &Object) -> Result<u128, Unpayable> {
    let details = request.get("methodDetails").ok_or(Unpayable::Malformed)?;
    let Some(delta) = details.get("minVoucherDelta") else { return Ok(0) };
    parse_atoms(delta.as_str().ok_or(Unpayable::Malformed)?).map_err(|_| Unpayable::Malformed)
}

impl SessionPayer for PrepaidPayer {
    fn session_terms(&self, invitation: &Invitation) -> Result<SessionTerms, Unpayable> {
        if invitation.method != METHOD || invitation.intent != SESSION {
            return Err(Unpayable::Method);
        }
        let terms = Terms::read(&invitation.request, &self.assets)?;
        let text = |name| invitation.request.get(name).and_then(Value::as_str);
        let deposit = text("suggestedDeposit").map(|atoms| {
            let atoms = parse_atoms(atoms).map_err(|_| Unpayable::Malformed)?;
            Ok(Amount::new(terms.amount.asset().clone(), atoms))
        });
        let recipient = terms.recipient.to_owned();
        let asset = terms.amount.asset().as_str();
        Ok(SessionTerms {
            unit_type: text("unitType").map(str::to_owned),
            suggested_deposit: deposit.transpose()?,
            delta_min_atoms: delta_min(&invitation.request)?,
            binding: format!("{METHOD} {} {recipient} {asset}", invitation.realm),
            recipient,
            unit: terms.amount,
        })
    }

    fn prepare<'a>(
        &'a self,
        invitation: &'a Invitation,
        deposit: &'a Amount,
        entropy: [u8; 32],
    ) -> BoxFuture<'a, Result<PreparedSession, PayError>> {
        Box::pin(async move {
            let terms = self.session_terms(invitation)?;
            let salt = base64url::encode(entropy);
            let account = farthing_core::Payer::account(self);
            let name = ChannelName {
                currency: terms.unit.asset().as_str(),
                payer: &account,
                realm: &invitation.realm,
                recipient: &terms.recipient,
                salt: &salt,
                signer: &account,
            };
            let channel = name.hex();
            let keepsake = json!({ "salt": salt, "deposit": deposit.atoms().to_string() });
            let keepsake = keepsake.as_object().cloned().unwrap_or_default();
            Ok(PreparedSession { channel, keepsake })
        })
    }

    fn act<'a>(
        &'a self,
        invitation: &'a Invitation,
        session: &'a PreparedSession,
        act: Act,
    ) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async move {
            let terms = self.session_terms(invitation)?;
            let channel = session.channel.as_str();
            let voucher = |action: &str, cumulative: u128| {
                let message = VoucherMessage {
                    channel,
                    cumulative: &cumulative.to_string(),
                    currency: terms.unit.asset().as_str(),
                    realm: &invitation.realm,
                    recipient: &terms.recipient,
                };
                json!({
                    "action": action,
                    "channelId": channel,
                    "cumulativeAmount": cumulative.to_string(),
                    "signature": self.signed(&message.bytes()),
                })
            };
            let deposit = |atoms: &str| {
                let challenge = &invitation.challenge;
                self.signed(&DepositMessage { channel, challenge, deposit: atoms }.bytes())
            };
            let kept = |name: &str| session.keepsake.get(name).and_then(Value::as_str);
            let payload = match act {
                Act::Voucher { cumulative } => voucher("voucher", cumulative),
                Act::Close { cumulative } => voucher("close", cumulative),
                Act::TopUp { additional, .. } => json!({
                    "action": "topUp",
                    "channelId": channel,
                    "additionalDeposit": additional.to_string(),
                    "signature": deposit(&additional.to_string()),
                }),
                Act::Open { cumulative } => {
                    let malformed = PayError::Invitation(Unpayable::Malformed);
                    let atoms = kept("deposit").ok_or(malformed)?;
                    let mut payload = voucher("open", cumulative);
                    payload["deposit"] = atoms.into();
                    payload["salt"] = kept("salt").ok_or(malformed)?.into();
                    payload["depositSignature"] = deposit(atoms).into();
                    payload
                }
            };
            let payload = payload.as_object().cloned().unwrap_or_default();
            let source = Some(farthing_core::Payer::account(self));
            Ok(Paid { payload, source, keepsake: None })
        })
    }
}

impl PrepaidPayer {
    fn signed(&self, message: &[u8]) -> String {
        base64url::encode(self.key.sign(message).to_bytes())
    }
}

fn channel_id(channel: &str) -> Result<ChannelId, Rejection> {
    ChannelId::new(METHOD, channel).map_err(|_| Rejection::Malformed)
}
