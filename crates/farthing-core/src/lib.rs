//! The life of one payment, as types.
//!
//! ```text
//!            Protocol        Rail          Store            Rail          Store
//! request ─► Presented ────► Checked ────► Held ──────────► Settled ────► Posted ─► delivered
//!    │          │ not ours      │ invalid    │ taken           │ declined
//!    ▼          ▼               ▼            ▼                 ▼
//!  offers     402 again       402 again    402 or 503        402, or 503 until it is known
//! ```
//!
//! Each arrow consumes the value on its left and only this crate can make the value on its right,
//! so a step can be neither skipped nor repeated: settling wants a durable hold, and running a paid
//! handler wants a [`Posted`]. [`Till::admit`] is the whole of it, top to bottom.
//!
//! The outside world is reached through three ports that speak plain data: [`Protocol`] (the wire),
//! [`Rail`] (money) and [`Store`] (memory). A buyer's side of the first two is [`Buyer`] and
//! [`Payer`].
//!
//! **Architecture invariant:** nothing here reads a clock, draws a random number or opens a socket.
//! Time comes in as `now`, randomness comes in as entropy, identity comes in with the credential.
//!
//! **Architecture invariant:** a proof is claimed durably before any rail is called.
//!
//! **Architecture invariant:** our outage is never the payer's fault: what a payer can mend is a
//! [`Refusal::Payer`], and an outcome nobody knows is [`Refusal::TryAgain`].

mod admit;
mod ask;
mod books;
mod buyer;
mod limits;
mod protocol;
mod rail;
mod recover;
mod refund;
mod refusal;
mod session;
mod sessions;
mod stage;
mod store;
mod subscription;
mod subscriptions;
mod tending;

pub use admit::{Admission, Till};
pub use ask::{Ask, Offer, Quote, Scope, ScopeDigest};
pub use buyer::{
    Act, Buyer, Fate, Invitation, Paid, PayError, Payer, PreparedSession, Price, PriceShare,
    SessionPayer, SessionTerms, Standing, SubscriptionAct, SubscriptionPayer, SubscriptionTerms,
    Unpayable,
};
pub use limits::{Gcra, GcraState};
pub use protocol::{ManagedFacts, Protocol, ReceiptFacts, UnsubscribedFacts};
pub use rail::{Evidence, NoRefund, Rail, RailRules, Refunds, SettleError, Share, Unquotable};
pub use recover::{
    Conclusion, Recovered, Recovery, Step, conclude, explain, explain_missing, explain_refund,
};
pub use refund::{RefundAsk, RefundRefusal};
pub use refusal::{Refusal, Rejection, SessionRefusal, SubscriptionRefusal};
pub use session::{
    Action, ChannelFate, Opening, SESSION, SessionPrice, SessionRail, SessionRules, SettledInAll,
    TopUp, Unfounded,
};
pub use sessions::{Managed, Taken};
pub use stage::{Checked, Held, Posted, Presented, Reserved, Settled, identity};
pub use store::{Answer, Ordered, Store, StoreError, write_fields};
pub use subscription::{
    Complete, Due, Dunning, Grant, NoCharge, SUBSCRIPTION, Subscribing, SubscriptionPrice,
    SubscriptionRail,
};
pub use subscriptions::{Chore, Renewed, Renewing, Unsubscribed};
pub use tending::{Errand, Settling, Tally, Tended, Tending};

/// Tells the time. Roles hold one; everything below them is told.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> farthing_money::Timestamp;
}

/// A JSON object: the one shape that requests and payloads have on every wire.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// A future behind a pointer, so that ports stay `dyn`-compatible.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
