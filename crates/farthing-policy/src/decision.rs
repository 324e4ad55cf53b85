//! What was decided, and why.

use farthing_ledger::{BudgetKey, Draw};
use serde::{Deserialize, Serialize};

use crate::budget::merged;
use crate::facts::atoms_text;
use crate::policy::PolicyName;

/// What may be done. In this order: the later beats the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Pay.
    Allow,
    /// Pay once enough approvers said so.
    Ask,
    /// Do not pay.
    Deny,
}

/// A decision, as it is answered and written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What may be done.
    pub verdict: Verdict,
    /// The rules that decided, and why.
    pub reasons: Vec<Reason>,
    /// How many approvers must say so; none unless it is asked.
    #[serde(default, skip_serializing_if = "is_none")]
    pub approvals: u8,
    /// What the payment must hold of its budgets. Nothing where it is denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Draw>,
    /// Under which policy.
    pub policy: PolicyName,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_none(approvals: &u8) -> bool {
    *approvals == 0
}

/// One rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Its name: the place in the policy, or the `@id` of a Cedar policy.
    pub rule: String,
    /// Why, for people.
    pub because: String,
    /// The budget that does not hold it, if that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceeded: Option<Exceeded>,
}

impl Reason {
    pub(crate) fn new(rule: impl Into<String>, because: impl Into<String>) -> Self {
        Self { rule: rule.into(), because: because.into(), exceeded: None }
    }
}

/// A budget that does not hold a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exceeded {
    /// The budget.
    pub budget: BudgetKey,
    /// How much may be held and spent in all.
    #[serde(with = "atoms_text")]
    pub limit: u128,
    /// How much is by now.
    #[serde(with = "atoms_text")]
    pub used: u128,
    /// How much was asked for.
    #[serde(with = "atoms_text")]
    pub requested: u128,
}

impl Decision {
    /// A denial for one reason.
    #[must_use]
    pub fn denied(policy: PolicyName, reason: Reason) -> Self {
        Self {
            verdict: Verdict::Deny,
            reasons: vec![reason],
            approvals: 0,
            draws: Vec::new(),
            policy,
        }
    }

    /// The denial of what could not be decided upon.
    #[must_use]
    pub fn undecided() -> Self {
        let policy = PolicyName { version: String::new(), sha256: String::new() };
        Self::denied(policy, Reason::new("error", "it cannot be decided upon"))
    }

    /// The same decision when `used` is what is held and spent of a budget it draws from: a denial where
    /// that leaves too little.
    #[must_use]
    pub fn over(self, draw: &Draw, used: u128) -> Self {
        if used.checked_add(draw.amount).is_some_and(|total| total <= draw.limit) {
            return self;
        }
        let exceeded =
            Exceeded { budget: draw.key.clone(), limit: draw.limit, used, requested: draw.amount };
        let reason = Reason {
            exceeded: Some(exceeded),
            ..Reason::new(draw.rule.as_str(), "the budget does not hold the payment")
        };
        let mut reasons = if self.verdict == Verdict::Deny { self.reasons } else { Vec::new() };
        reasons.push(reason);
        Self {
            verdict: Verdict::Deny,
            reasons,
            approvals: 0,
            draws: Vec::new(),
            policy: self.policy,
        }
    }

    /// What two policies decide together: the stricter verdict, and what each draws. So a change that was not
    /// accepted yet can lower what was, and raise nothing.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let policy = self.policy.and(&other.policy);
        let (mut strict, lenient) =
            if other.verdict > self.verdict { (other, self) } else { (self, other) };
        if lenient.verdict == strict.verdict {
            for reason in lenient.reasons {
                if !strict.reasons.contains(&reason) {
                    strict.reasons.push(reason);
                }
            }
            strict.approvals = strict.approvals.max(lenient.approvals);
        }
        let draws = match strict.verdict {
            Verdict::Deny => Vec::new(),
            Verdict::Allow | Verdict::Ask => {
                merged(strict.draws.into_iter().chain(lenient.draws).collect())
            }
        };
        Self { draws, policy, ..strict }
    }
}
