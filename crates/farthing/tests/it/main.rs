//! The binary itself: processes, sockets, files and exit codes.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod approvals;
mod books;
mod channels;
mod conformance;
mod crash;
mod daemon;
mod demo;
mod doctor;
mod erase;
mod evidence;
mod evm_sessions;
mod keys;
mod pay;
mod policy;
mod serve;
mod sessions;
mod shared;
mod status;
mod streams;
mod subscriptions;
mod tempo;
mod tempo_sessions;
mod tempo_subscriptions;
mod walk;
mod wallets;
mod webhooks;
mod world;
