//! What a wallet's owner has decided, by a policy or in person, as the wallet's book tells it.

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::budget::Used;
use crate::{Draw, Fingerprint};

/// What the policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It may be paid.
    Allowed,
    /// It waits for approval.
    Asked,
    /// It may not be paid.
    Denied,
}

/// One decision upon one payment, with all that is needed to make it again. Written once, with the claim of
/// the payment where it was allowed, and by itself otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// Who asked.
    pub agent: String,
    /// What was said.
    pub ruling: Ruling,
    /// The owner's own name for the version of the policy.
    pub policy: String,
    /// The digest of the policy, in hexadecimal digits.
    pub policy_sha256: String,
    /// The facts it was decided on, as JSON.
    pub facts: Box<str>,
    /// Their digest, as [`Decided::digest_of`] makes it.
    pub digest: Fingerprint,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// What it draws, or would have drawn, from budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Draw>,
    /// The approval that let it pass, where it had to be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What a policy would have said that was only tried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Box<Drafted>>,
}

/// What a policy would have said that was only tried out. It has decided nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drafted {
    /// The owner's own name for its version.
    pub policy: String,
    /// Its digest, in hexadecimal digits.
    pub policy_sha256: String,
    /// What its rules would have said, whatever its budgets hold.
    pub ruling: Ruling,
    /// The rules that would have decided.
    pub rules: Vec<String>,
    /// What it would have drawn, with what was used of each budget before. What the policies that hold count
    /// as well is counted once; the rest is counted under names of the draft's own, and refuses nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Draw>,
}

impl Drafted {
    /// The budgets that would not have held the payment.
    pub fn over(&self) -> impl Iterator<Item = &Draw> {
        let holds = |draw: &Draw| {
            draw.used.checked_add(draw.amount).is_some_and(|total| total <= draw.limit)
        };
        self.draws.iter().filter(move |draw| !holds(draw))
    }

    /// What it would have said in the end.
    #[must_use]
    pub fn would(&self) -> Ruling {
        if self.over().next().is_some() { Ruling::Denied } else { self.ruling }
    }
}

impl Decided {
    /// Everything that is counted with the payment's claim: what is drawn, and what a draft counts apart.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &Draw> {
        let drafted = self.draft.iter().flat_map(|draft| &draft.draws);
        let apart = drafted.filter(|draw| !self.draws.iter().any(|held| held.key == draw.key));
        self.draws.iter().chain(apart)
    }

    /// The digest of facts.
    #[must_use]
    pub fn digest_of(facts: &str) -> Fingerprint {
        Fingerprint::of("facts", &[facts.as_bytes()])
    }
}

/// That people have approved a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The request that they approved, which is used once.
    pub id: String,
    /// Who they are.
    pub by: Vec<String>,
    /// When the last of them did.
    pub at: Timestamp,
}

/// What else an owner decides in a wallet's book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerStep {
    /// A payment was not allowed, or has to be asked for.
    Decided(Box<Decided>),
    /// Nothing is paid any more for an agent, or for anybody.
    Frozen {
        /// The agent; nobody named means everybody.
        agent: Option<String>,
        /// Why.
        reason: String,
    },
    /// It is paid again.
    Thawed {
        /// The agent, or everybody, as it was frozen.
        agent: Option<String>,
        /// Why.
        reason: String,
    },
}

/// How a wallet's owner has left it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerView {
    /// How much of the budgets that were asked about is held and spent, in their order.
    pub used: Vec<Used>,
    /// The agents that nothing is paid for; nobody named means everybody.
    pub frozen: Vec<Option<String>>,
}
