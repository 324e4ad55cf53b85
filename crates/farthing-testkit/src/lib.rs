//! One suite per port, run against every implementation.
//!
//! A suite is a set of stories that an implementation must tell the same way as every other. A
//! macro turns each story into a test of the implementing crate, so that they run in parallel and
//! a failure names its rule.
//!
//! **Architecture invariant:** what is not in a suite is not relied upon by anybody who speaks to
//! the port.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unused_async,
    clippy::unwrap_used,
    reason = "everything here runs inside a test, where a panic is the verdict"
)]

pub mod chain;
pub mod disk;
pub mod killed;
pub mod postgres;
pub mod rail;
pub mod store;
pub mod vault;
