//! The official SDKs as peers and as oracles, in tests only.
//!
//! `tests/it/matrix.rs` lets every buyer pay every seller on one chain and looks at what moved.
//! `tests/it/tempo.rs` and `tests/it/mppx.rs` let the `mppx` command from npm judge a running gateway.
//! `tests/it/webhooks.rs` lets the standard's library from npm verify what a gateway tells.
//! `tests/it/mpp_crate.rs` holds our codec against the `mpp` crate's, case by random case. What comes
//! from npm and `PyPI` is pinned in `npm/` and `python/`, beside the scripts that use it, and installed by
//! `./x test`, which says where in `FARTHING_PEERS`.
//!
//! **Architecture invariant:** no crate depends on a peer outside tests and benchmarks; the protocol
//! is what this project exists for.
