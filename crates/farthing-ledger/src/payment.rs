//! Payments: what was claimed, and where it stands.

use farthing_money::{Amount, Timestamp};
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;
use crate::{
    Account, Decided, Fingerprint, Holder, PaymentId, SpendingKey, Subscribed, TraceId, Voucher,
};

/// The facts of one payment, written down once, when its proof is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// Names the payment.
    pub id: PaymentId,
    /// Names the payment's whole story.
    pub trace: TraceId,
    /// The wire protocol, such as `mpp`.
    pub protocol: String,
    /// The payment method, such as `prepaid`.
    pub method: String,
    /// The intent, such as `charge`.
    pub intent: String,
    /// The challenge that was answered.
    pub challenge: String,
    /// The price.
    pub amount: Amount,
    /// Who pays, as the method knows them.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// What was bought: the route's name.
    pub route: String,
    /// The digest of everything the purchase is bound to: method, route, query and body.
    pub scope: String,
    /// The SHA-256 of the credential, which itself is never written down.
    pub credential: Fingerprint,
    /// When the challenge expires.
    pub expires_at: Timestamp,
    /// The digest of the whole request that was paid for, its body included; kept where the client
    /// named the purchase with an `Idempotency-Key`, so that misuse of the name can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Fingerprint>,
    /// What the rail needs to find out later what became of the payment, in its own words. Nothing
    /// where the book itself knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inquiry: Option<Box<str>>,
    /// What the seller undertook for the answer when it was paid for.
    #[serde(default, skip_serializing_if = "Terms::is_usual")]
    pub terms: Terms,
    /// The voucher that it was made with, where it was made on a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher: Option<Box<Voucher>>,
    /// The decision of the wallet's owner that let it be paid, and what it draws from their budgets. In a
    /// seller's book there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decided>>,
    /// What it is to a subscription, where it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscribed>,
}

/// What a seller undertakes for an answer. Written down with the payment, so that a configuration that
/// changes later changes nothing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Whether what is bought may happen twice, as reading may: a delivery that was interrupted is
    /// then begun again, at least once, and at most once otherwise.
    pub repeatable: bool,
    /// When the money moves.
    pub capture: Capture,
    /// What is done where the answer fails.
    pub remedy: Remedy,
}

impl Terms {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// When a payment's money moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Before the handler runs.
    #[default]
    Before,
    /// Once the handler has succeeded; until then it is held, and given up if the handler fails. Only
    /// where the money lies in the book.
    After,
}

/// What is done for a payer whose answer fails after the money has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The same credential is answered until it expires; what is owed then is given back, or credited
    /// where the rail cannot.
    #[default]
    Redeliver,
    /// The money is given back at once, or credited where the rail cannot.
    Refund,
    /// The money is credited to the payer at once, in the seller's book.
    Credit,
    /// Nothing by itself: a person decides, and until then it is listed.
    Review,
}

impl Remedy {
    /// Every remedy.
    pub const ALL: [Self; 4] = [Self::Redeliver, Self::Refund, Self::Credit, Self::Review];

    /// Its name, as configurations and answers write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redeliver => "redeliver",
            Self::Refund => "refund",
            Self::Credit => "credit",
            Self::Review => "review",
        }
    }
}

/// A fingerprint and how long it has to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What must not be used again.
    pub fingerprint: Fingerprint,
    /// From when on it could not be presented anyway; nothing means it is remembered for ever, as
    /// a transaction hash must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<Timestamp>,
}

/// Where the money of a payment comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// This account.
    Account(Account),
    /// The prepaid account this key may spend.
    Key(SpendingKey),
}

/// The rail's word that the money moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The rail's reference: a transaction hash, an invoice id, a payment id.
    pub reference: String,
    /// When it moved.
    pub settled_at: Timestamp,
    /// What moving it cost us beside the price: the network's fee, where we pay it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Amount>,
    /// How much of what was held moved, in its asset, where that is not all of it; the rest is let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Amount>,
    /// Where the channel stood behind it, if it was paid on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelSpent>,
}

/// Where a channel stood behind one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpent {
    /// How much vouchers had authorised in all, in atoms.
    #[serde(with = "atoms_text")]
    pub accepted: u128,
    /// How much was taken in all, in atoms.
    #[serde(with = "atoms_text")]
    pub spent: u128,
}

impl Settlement {
    /// The rail's word, at no cost of ours.
    #[must_use]
    pub const fn new(reference: String, settled_at: Timestamp) -> Self {
        Self { reference, settled_at, cost: None, moved: None, channel: None }
    }
}

/// What became of the answer that was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The HTTP status the seller answered with.
    pub status: u16,
}

/// The digest of an answer that is kept to be given again: its status, its header fields and its body,
/// as they are kept. Of nothing where none is.
#[must_use]
pub fn answer_digest(answer: Option<(u16, &[u8], &[u8])>) -> Fingerprint {
    match answer {
        Some((status, fields, body)) => {
            Fingerprint::of("answer", &[&status.to_be_bytes(), fields, body])
        }
        None => Fingerprint::of("answer", &[]),
    }
}

/// Why a pending payment was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// The rail said no, for good.
    Declined,
    /// The proof expired without ever reaching the rail.
    Expired,
    /// The handler failed, and the money had only been held for it.
    Failed,
    /// Whoever ran the handler stopped in the middle, and the money had only been held for it.
    Interrupted,
}

/// Where a payment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Claimed; the rail has not said whether the money moved.
    Pending,
    /// The money moved; the answer is still owed.
    Posted(Settlement),
    /// The answer was given, and can be given again until the credential expires.
    Delivered(Settlement, Outcome),
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The proof is ours now, and its record is durable.
    Fresh,
    /// The voucher has bought this payment, which is written down as it stands here: now, or before and
    /// its answer is owed still. The caller holds the right to deliver.
    Bought(Box<Payment>, Settlement),
    /// This payment is being settled or delivered by somebody else. It is the payment itself, or the
    /// one that the client gave the same `Idempotency-Key` for the same request.
    Pending(PaymentId),
    /// This very payment was claimed, and whoever was settling it has stopped: nobody knows whether
    /// the money moved, or it was only held for a handler. The caller now holds the right to find out,
    /// or to run the handler.
    Unsettled,
    /// This very payment's money was held for a handler, and whoever ran the handler has stopped: it may
    /// have run, and what was bought must not happen twice. The caller now holds the right to give the
    /// hold up.
    Abandoned,
    /// This very payment was posted and never delivered: an honest retry after a crash or a
    /// failed delivery. The caller now holds the right to deliver.
    Undelivered(Settlement),
    /// This very payment was posted, and whoever was delivering it stopped in the middle: the
    /// handler may have run, and what was bought must not happen twice. Nobody holds any right.
    Interrupted,
    /// This payment was delivered: the same answer may be given again, and no other. It is the
    /// payment itself, or the one that the client gave the same `Idempotency-Key` for the same
    /// request.
    Delivered(PaymentId, Settlement, Outcome),
    /// This payment was given back, or is on its way: nothing is owed for it any more.
    GivenBack,
    /// The proof bought something already, or was declined.
    Spent,
}
