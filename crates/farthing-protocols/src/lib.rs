//! Each wire codec to and from the core's words, seller and buyer side.
//!
//! **Architecture invariant:** a protocol knows header names and encodings, and neither a rail nor
//! a store: what it carries for a payment method is data to it.

pub mod mpp;
