//! The official SDKs as peers and as oracles, in tests only.
//!
//! `tests/it/mpp_crate.rs` holds our codec against the `mpp` crate's, case by random case.
//! `tests/it/mppx.rs` lets the `mppx` command from npm judge a running gateway. What comes from npm
//! is pinned in `npm/` and installed by `./x test`, which says where in `FARTHING_PEERS`.
//!
//! **Architecture invariant:** no crate depends on a peer outside tests and benchmarks; the protocol
//! is what this project exists for.
