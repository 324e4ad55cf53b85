//! Metered answers, paid from a purse that notes every unit: by hand, and over HTTP.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::disallowed_methods, reason = "clients and readers of tests know time")]

mod http;
mod purse;
mod streams;
mod upstream;
