//! The wallet against sellers: honest ones with books of their own, and others.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::unnecessary_wraps)]

mod apart;
mod honest;
mod lost;
mod owner;
mod paying;
mod refusing;
mod scene;
mod subscriptions;
