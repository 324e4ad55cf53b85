//! One message to one endpoint, signed as [Standard Webhooks](https://www.standardwebhooks.com) says.
//!
//! What is told, to whom, in which order and how often is for those who tell: a gateway of payments, a wallet
//! of what waits for approval. Here is what a receiver sees of both.
//!
//! **Architecture invariant:** a message is sent where its operator has written, and nowhere else: no redirect
//! is followed, and plain HTTP is for one's own machine unless the operator says otherwise.

mod post;
mod retries;
mod sign;

pub use post::{Answered, Message, client, is_loopback, send};
pub use retries::Retries;
pub use sign::{UnfitSecret, WebhookSecret};
