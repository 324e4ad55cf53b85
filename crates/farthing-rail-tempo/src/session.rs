//! Sessions: a deposit in escrow, and vouchers that say how much of it is owed
//! (draft-tempo-session-00 in both of its versions, draft-evm-session-00).
//!
//! ```text
//! payer    open ─► vouchers, each for everything so far ─► close      or request_close ─► withdraw
//!           │ deposit                    │                  │            │ a quarter of an hour ─┘
//! escrow   opened ──────────► settled ◄──┼─────────────► closed ◄───────┴── settled, if the payee comes
//!                              ▲         ▼                  ▲
//! payee                     settle ◄─ verified ─────────► close
//! ```
//!
//! Whose signature a voucher needs, how much stands behind it and whether the payer has asked for its
//! money back are facts of the chain. What is served for a voucher, and what of it was spent, is the
//! book's.
//!
//! **Architecture invariant:** nothing that a payload says about a channel is believed: ids are made
//! again from their parts, and parts, deposits and signers are read from the escrow.

mod abi;
mod books;
mod buyer;
mod channel;
mod contract;
mod events;
mod evm;
mod evm_payer;
mod evm_seller;
mod follow;
mod funding;
mod payload;
mod pushed;
mod rail;
mod relayed;
mod revert;
mod seller;
mod simulate;
mod state;
mod teller;
mod terms;
mod voucher;
mod wallet;
mod watch;
mod wayout;

pub use alloy_primitives::B256;
pub use buyer::{Leave, Opening};
pub use channel::{Descriptor, Escrow, Family, RESERVE};
pub use contract::{Deployed, creation_code, deploy};
pub use events::{ChannelEvent, Happened};
pub use evm::EvmAccount;
pub use evm_payer::EvmPayer;
pub(crate) use evm_seller::EvmSeller;
pub use funding::{BadTransaction, Funded, Unfit};
pub use payload::{Action, Authorization, Funding, Open, Shown, TopUp};
pub use pushed::Sent;
pub(crate) use rail::Sessions;
pub use rail::{GRACE_MIN, SessionSettings};
pub use revert::Revert;
pub use seller::{Channels, Credited};
pub use state::{ChannelState, Head, Parties, Seen};
pub use teller::{Errand, Order, Outcome, Take, Taken, Teller};
pub use terms::{Means, SessionTerms};
pub use voucher::{Voucher, VoucherError, VoucherKey};
pub use watch::{Look, Told, Watch};
