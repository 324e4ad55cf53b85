//! Metered answers, paid from a purse that notes every unit: by hand, and over HTTP.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod http;
mod purse;
mod streams;
mod upstream;
