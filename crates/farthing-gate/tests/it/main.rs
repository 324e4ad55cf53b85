//! The gate around a service, on the test rail, with the books as the oracle.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod answers;
mod binding;
mod finality;
mod http_rules;
mod races;
mod receipts;
mod shop;
mod time;
