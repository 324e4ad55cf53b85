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
mod choose;
mod config;
mod history;
mod identity;
mod memory;
mod outcome;
mod owner;
mod request;
mod sessions;
mod streams;
mod subscriptions;
mod wallet;

pub use books::{Books, BooksError, OpenBook, SharedBook};
pub use choose::{Choice, Objection, Rules, SellerRules, choose};
pub use config::{BookPlace, EvmChain, TempoChain, WalletConfig, WalletConfigError};
pub use history::{History, PastPayment, PaymentState};
pub use memory::{
    APPROVAL_LASTS, AnswerError, ApprovalRequest, ApprovalState, Asked, Asking, DENIAL_LASTS,
    Depositor, IntentLock, Memory, MemoryError, Outstanding, StoredReceipt, WAITING_MAX,
    WAITING_PER_AGENT_MAX, WalletSession, WalletSessionState, WalletSubscription,
    WalletSubscriptionState,
};
pub use outcome::{Outcome, PaidFor, Preview, PreviewOffer, Refused};
pub use owner::Authority;
pub use request::{PayRequest, UnsafeUrl};
pub use sessions::KnownOffers;
pub use streams::{Sink, Stopped};
pub use wallet::{Ending, PayFailure, PayOptions, SendError, Signed, Told, Wallet};
