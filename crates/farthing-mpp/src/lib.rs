//! The "Payment" HTTP authentication scheme (`draft-httpauth-payment-00`), as pure code.
//!
//! ```text
//! 402  WWW-Authenticate: Payment id="…", realm="…", …   Challenge
//! try again  Authorization: Payment eyJj…               Credential
//! 200  Payment-Receipt: eyJt…                           Receipt
//! ```
//!
//! The crate turns header text into values and back, computes and checks the binding of challenge
//! ids, and knows the problem types and the discovery document. What a payment method puts into
//! `request` and `payload` is data here; rails give it meaning.
//!
//! **Architecture invariant:** a wire crate never learns what time it is, never draws a random
//! number and never opens a socket; expiry is compared by its callers.
//!
//! **Architecture invariant:** what is emitted can be parsed, and what is parsed keeps its wire
//! spelling: a challenge id is verified over the strings that arrived, never over a re-encoding.

mod accept_payment;
mod auth_param;
pub mod base64url;
mod binding;
mod challenge;
mod credential;
mod digest;
pub mod discovery;
pub mod json;
mod problem;
mod receipt;

pub use accept_payment::{AcceptPayment, MalformedAcceptPayment};
pub use binding::{BindingInput, NotBound, Secret, Secrets, WeakSecret, challenge_id};
pub use challenge::{
    Challenge, ChallengeError, CredentialHeader, FormatError, Terms, field_text, is_intent,
    is_method,
};
pub use credential::{Credential, CredentialError};
pub use digest::{BodyDigest, BodyHasher, MalformedDigest};
pub use problem::{Problem, ProblemType};
pub use receipt::{Receipt, ReceiptError};

/// The scheme's name; compared without regard to case.
pub const SCHEME: &str = "Payment";

/// The longest header field value read, in bytes.
///
/// The scheme asks for challenges under 8 KB and for credentials of at least 4 KB (§9.4); a 402 may
/// join several challenges in one line.
pub const FIELD_BYTES_MAX: usize = 64 * 1024;
