//! Evidence that stands without us: signed receipts, signed checkpoints, and packs of both.
//!
//! ```text
//! journal ──► Seal ──► Checkpoint ──signed──► published: the journal cannot be rewritten any more
//!    │                     ▲ consistency
//!    └── records ── inclusion ──► Pack ──► verified offline, with nothing but the seller's public keys
//! payment ──► receipt ──signed──► the payer keeps it; anybody can check it
//! a buyer's nonce ──► proof of identity ──signed──► the buyer knows whom it pays, before it does
//! ```
//!
//! A [`Notary`] signs, with one Ed25519 key at a time; keys that are retired stay published, as a JWK
//! set. Whoever verifies has [`TrustedKeys`] and needs no database, no network and no clock.
//!
//! **Architecture invariant:** nothing here reads a clock, draws a random number or opens a file; the
//! same payment always gets the same receipt, byte for byte.
//!
//! **Architecture invariant:** what is signed says first what it is, so that nothing signed as one
//! thing can be shown as another.

mod checkpoint;
mod identity;
mod jws;
mod keys;
mod note;
mod pack;
mod receipt;
mod sums;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use identity::{IdentityFault, IdentityNonce, prove_identity, verify_identity};
pub use jws::JwsError;
pub use keys::{KeyError, Notary, PublicKey, SecretKey, TrustedKeys, UnfitRealm};
pub use note::{NoteError, NoteKey, open as open_note};
pub use pack::{
    Decided, Earlier, ExportError, Manifest, Pack, PackFault, PackReport, PaymentEvidence, Proven,
    Selection, export, verify,
};
pub use receipt::{Expected, ReceiptClaims, ReceiptFault};
pub use sums::{Sums, sums};
