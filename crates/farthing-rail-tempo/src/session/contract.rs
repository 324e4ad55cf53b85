//! The escrow of our own, ready to be put on a chain.
//!
//! What is kept here is the compiled code of `contracts/src/FarthingEscrow.sol`, so that neither a
//! build nor a seller needs a compiler; a test compiles the source and compares.

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::SolValue as _;
use serde_json::Value;

use crate::session::channel::{Family, NOBODY};
use crate::wire::Address;

/// The compiled escrow.
const COMPILED: &str = include_str!("../../../../contracts/artifacts/FarthingEscrow.json");

/// Where Tempo checks signatures that are not ECDSA's (TIP-1020).
const VERIFIER: Address =
    Address(alloy_primitives::address!("5165300000000000000000000000000000000000"));

/// What makes an escrow for a family of channels, as the data of a transaction that creates a contract.
/// Nothing for version 2 of Tempo's sessions, whose escrow is a part of the chain.
#[must_use]
pub fn creation_code(family: Family) -> Option<Bytes> {
    let verifier = match family {
        Family::TempoV1 => VERIFIER,
        Family::Evm => NOBODY,
        Family::TempoV2 => return None,
    };
    let compiled: Value = serde_json::from_str(COMPILED).ok()?;
    let mut code = hex::decode(compiled.get("creation")?.as_str()?).ok()?;
    code.extend((family.domain(), verifier.0).abi_encode_params());
    Some(code.into())
}
