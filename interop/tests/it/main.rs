//! The official SDKs as peers and as oracles.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod evidence;
mod lost;
mod matrix;
mod mpp_crate;
mod mppx;
mod session_peers;
mod sessions;
mod subscriptions;
mod tempo;
mod webhooks;
