//! The buyer's side: choose, hold, pay once, remember.
//!
//! ```text
//! request ─► 402 ─► offers ─► choose (pure) ─► hold (durable) ─► sign ─► remember ─► resend
//!               │ no             │ none payable   │ over a cap              │
//!               ▼                ▼                ▼                         ├─ answered: post, keep the receipt
//!            the answer        refused          refused                     ├─ refused: hold until it expires
//!                                                                           └─ silence: the same credential again
//! ```
//!
//! A wallet is a gateway facing the other way: the same words, the same book, with its accounts
//! mirrored. What it holds is a promise it signed and does not yet know the end of.
//!
//! **Architecture invariant:** nothing is signed before its amount, asset, recipient, realm and
//! validity were checked against the owner's rules, before the owner's policy has allowed it, and before
//! its price is held durably under the owner's caps and budgets.
//!
//! **Architecture invariant:** one intent is paid once. A retry sends the same credential, over a
//! restart too; a second one is not made while the first could still be spent.
//!
//! **Architecture invariant:** a credential goes to the very URL that asked for it, over TLS or to
//! this machine, and is erased when its end is known.

mod books;
mod budgets;
mod choose;
mod config;
mod desk;
mod history;
mod identity;
mod memory;
mod outcome;
mod owner;
mod request;
mod sessions;
mod status;
mod streams;
mod subscriptions;
mod wallet;
mod words;

pub use books::{Books, BooksError, OpenBook, SharedBook};
pub use budgets::BudgetView;
pub use choose::{Choice, Objection, Rules, SellerRules, choose};
pub use config::{
    ApprovalWebhook, Approvals, BookPlace, EvmChain, TempoChain, WalletConfig, WalletConfigError,
};
pub use desk::{Desk, DeskError};
pub use history::{History, PastPayment, PaymentState};
pub use memory::{
    APPROVAL_LASTS, AnswerError, ApprovalRequest, ApprovalState, Asked, Asker, Asking,
    DENIAL_LASTS, Depositor, IntentLock, LINK_LASTS, Memory, MemoryError, Notice, NoticeEvent,
    Outstanding, Quote, StoredReceipt, TOLD_FOR, WAITING_MAX, WAITING_PER_AGENT_MAX, Waiting,
    WalletSession, WalletSessionState, WalletSubscription, WalletSubscriptionState,
};
pub use outcome::{Outcome, PaidFor, Preview, PreviewOffer, Refused};
pub use owner::{Authority, may_approve};
pub use request::{PayRequest, UnsafeUrl};
pub use sessions::KnownOffers;
pub use status::{
    ApprovalLine, CapLine, OutstandingLine, PaymentLine, QuoteLine, SessionLine, Sources,
    SubscriptionLine, Sum, WalletStatus, When,
};
pub use streams::{Sink, Stopped};
pub use wallet::{Ending, PayFailure, PayOptions, SendError, Signed, Told, Wallet};
pub use words::plain;
