//! What an owner allows: rules that become Cedar, budgets that become holds, decisions with reasons.
//!
//! ```text
//!  policy.toml ─► Limits, level by level ─┬─► Cedar text ─┐
//!  *.cedar ───────────────────────────────┼───────────────┼─► checked against one schema ─► Policy
//!  a token's caveats ─► Limits ───────────┘               │
//!                                                         ▼
//!  Facts of one payment ─────────────────────────► Policy::decide ─► Allow │ Ask │ Deny, and why
//!                                                         │
//!                                                         └─► [Draw]: what its budgets must hold
//! ```
//!
//! A *level* is somebody's limits: the wallet's, an agent's, a task's, a token's. Each level only
//! forbids, so that what is allowed is what every level allows; and nothing is, unless the policy names
//! the agent. [`Policy::decide`] knows no balance. What a payment draws from its budgets is declared in
//! [`Draw`]s, which the ledger checks and holds in the one transaction that claims the payment.
//!
//! **Architecture invariant:** no clock, no IO, no randomness: the same policy and the same facts give
//! the same decision, today and when it is held against its record years later.
//!
//! **Architecture invariant:** denial is the default. It beats asking, which beats allowing; and
//! whatever is unknown, cannot be computed or fails while it is evaluated is denied.
//!
//! **Architecture invariant:** adding a level or lowering a limit never allows more than before.

mod budget;
mod calendar;
mod cedar;
mod decision;
mod facts;
mod limits;
mod policy;
mod token;

pub use budget::{Budget, Counted, Usage};
pub use calendar::{Period, UtcOffset};
pub use cedar::SCHEMA;
pub use decision::{Decision, Exceeded, Reason, Verdict};
pub use facts::{Facts, OPERATIONS, Unclear};
pub use farthing_ledger::{BudgetKey, Draw, Window};
pub use limits::{BudgetRule, Hours, Limits, PriceRise, Then};
pub use policy::{Level, OWNER, Policy, PolicyError, PolicyName};
pub use token::{Grant, Token, TokenError, TokenRoot};
