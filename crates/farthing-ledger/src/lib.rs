//! The book: accounts, transfers, payments, and the journal they are projections of.
//!
//! ```text
//!  request ──► Book ──► Record ──► journal (append-only, the truth)
//!                │
//!                └─ projections: balances · payments · claimed proofs · spending keys · budgets
//! ```
//!
//! A [`Book`] is a state machine without IO. A store asks it what a request means, writes the
//! [`Record`] it answers with, and only then tells anybody. Feeding the records of a journal to
//! [`Book::replay`] rebuilds every projection; [`audit`] does so from nothing and trusts nobody. What
//! was written cannot be altered unnoticed: each commit ends with a [`Seal`] over the whole journal, and
//! [`Verification`] holds everything that a store keeps against them.
//!
//! What was sealed stays so when personal data is erased from it: [`Erasure`].
//!
//! Words keep their accounting meaning. A transfer *debits* one account and *credits* another. It
//! is *posted* at once, or *pending* until a later transfer *posts* or *voids* it. A payment is
//! *claimed* when its proof is taken, and *delivered* when the seller has answered.
//!
//! **Architecture invariant:** for every asset, debits equal credits after every record.
//!
//! **Architecture invariant:** a proof is claimed by one payment, once, for as long as it could be
//! presented again.
//!
//! **Architecture invariant:** nothing here reads a clock, draws a random number or opens a file;
//! the same requests in the same order make the same journal, byte for byte.

mod account;
mod audit;
mod balance;
mod book;
mod budget;
mod channel;
mod decided;
mod erase;
mod id;
mod lifecycle;
pub mod merkle;
mod payment;
mod record;
mod refund;
mod report;
mod seal;
mod subscription;
mod verify;

pub use account::{Account, AccountKind, Holder, ParseAccountError, Rule};
pub use audit::{Audit, Fault, What, audit};
pub use balance::{Balance, Balances, Phase, Transfer, TransferError, totals};
pub use book::{
    Answered, Book, Cap, ClaimError, ClaimRequest, Cold, Earned, Entry, EntryError, Expected, Leg,
    Money, Open, Snapshot, Unfinished, Work, claimed_proofs,
};
pub use budget::{BudgetKey, Draw, Used, Window};
pub use channel::{
    Channel, ChannelDeposit, ChannelError, ChannelEvent, ChannelFacts, ChannelFigures, ChannelId,
    ChannelNews, ChannelOpening, ChannelSeen, ChannelState, ChannelStep, ChannelsHeard,
    ChannelsPlace, Closing, EarlierVoucher, PendingDeposit, Voucher, VoucherClaim,
};
pub use decided::{Approval, Decided, Drafted, OwnerStep, OwnerView, Ruling};
pub use erase::{
    ERASED, ERASED_ROWS_MAX, EraseError, Erased, ErasedRow, Erasure, ErasureKey, Leaves, Plan,
    Rewritten, StillOpen, Survey, Unexplained, Whose, is_pseudonym,
};
pub use id::{
    Fingerprint, ParseIdError, PaymentId, RefundId, SpendingKey, SubscriptionId, TraceId,
    TransferId,
};
pub use lifecycle::{Delivery, Finding, Lifecycle, Matching, OutOfOrder, Pay, Payout};
pub use payment::{
    Capture, ChannelSpent, Claim, Outcome, Payment, Proof, Remedy, Settlement, Source, Standing,
    Terms, VoidReason, answer_digest,
};
pub use record::{Event, Record};
pub use refund::{
    Refund, RefundError, RefundLimit, RefundLimits, RefundRequest, RefundStanding, Way,
};
pub use report::{Step, Story, StoryStanding};
pub use seal::{Seal, SealFault, Sealer};
pub use subscription::{
    ChargeFailure, Ending, InFlight, Side, Subscribed, SubscribedPart, Subscription,
    SubscriptionError, SubscriptionEvent, SubscriptionFacts, SubscriptionState, SubscriptionStep,
    SubscriptionsDue,
};
pub use verify::{AllWrong, Indexed, Published, Row, SnapshotPart, Verification, Verified, Wrong};
