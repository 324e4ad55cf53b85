//! The gateway on real sockets, with the journal on disk as the oracle.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod discovery;
mod disk;
mod failing;
mod flood;
mod forwarding;
mod leak;
mod life;
mod management;
mod receipts;
mod receiver;
mod selling;
mod sessions;
mod shared_cache;
mod shop;
mod sockets;
mod spoofing;
mod streams;
mod subscriptions;
mod webhooks;
