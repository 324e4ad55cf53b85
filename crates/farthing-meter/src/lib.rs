//! Metering of streamed answers: measured, paid for as they come, and never given ahead.
//!
//! ```text
//! upstream ──frames──► Meter ──Release(bytes)──► client
//!    ▲                  │  ▲
//!    │ Upstream         │  └─ paid(units)
//!    │ (only when       ▼
//!    │  nothing is      Take ──► Balance::take ─┬─ taken: on it goes
//!    │  left to give)                           └─ short: need-voucher, and a pause until it advances
//!    └─ not polled during a pause
//! ```
//!
//! [`Terms`] say what a route charges for. [`metered`] puts a [`Meter`] and a channel's [`Balance`]
//! around an upstream's answer; the body it makes is a [`Metered`]. The meter itself is a state
//! machine without IO, which also serves [messages of a WebSocket](ws).
//!
//! What a stream owes is counted in units; what a unit costs is the channel's affair.
//!
//! **Architecture invariant:** a byte leaves only after the units it costs were taken. So what was
//! served never exceeds what was paid, and what was paid and not served is given back. Where the
//! upstream reports its price late, served means as estimated; see [`Tokens`].
//!
//! **Architecture invariant:** where streams are cut and what they cost is a function of their bytes,
//! never of the chunks they come in.
//!
//! **Architecture invariant:** bytes of the upstream pass unchanged, names of events that begin with
//! `payment-` aside: they become [`NEUTRALISED_PREFIX`]`payment-…`. What a client reads of payments is
//! ours.
//!
//! **Architecture invariant:** no more is held than one frame of the upstream and one event or JSON
//! answer within [`Limits`]; during a pause the upstream is not polled.
//!
//! **Architecture invariant:** only `body` knows time and a runtime; all else is a function of its
//! arguments.

mod balance;
mod body;
mod count;
mod ending;
mod forgery;
mod head;
mod meter;
mod reading;
mod sse;
mod terms;
mod usage;
mod voice;
pub mod ws;

pub use balance::{Balance, NeedVoucher, Stopped, Take, receipt_event};
pub use body::{Metered, Settings};
pub use ending::{BoxError, End, PAYMENT_RECEIPT, StreamError, Summary};
pub use forgery::NEUTRALISED_PREFIX;
pub use head::{metered, takes_trailers};
pub use meter::{Meter, MeterError, Next, Wanted};
pub use reading::{EventTooLong, Reader, Said};
pub use terms::{Limits, Measure, Report, Terms, Tokens, Unmeterable};
pub use usage::{Asked, Usage, ask_for_usage};
pub use voice::Voice;
