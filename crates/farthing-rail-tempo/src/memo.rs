//! The attribution memo: 32 bytes in a transfer that say which challenge it pays.
//!
//! ```text
//! keccak("mpp")[0..4] │ 01 │ keccak(realm)[0..10] │ client[0..10] or zeros │ keccak(challenge)[0..7]
//! ```

use alloy_primitives::{B256, keccak256};

#[cfg(test)]
mod tests;

/// The version this code reads and writes.
const VERSION: u8 = 1;

/// The memo for a challenge of a realm, from a client that does not say who it is.
pub(crate) fn attribution(realm: &str, challenge: &str) -> B256 {
    let mut memo = [0; 32];
    let parts =
        [(0, keccak256("mpp"), 4), (5, keccak256(realm), 10), (25, keccak256(challenge), 7)];
    for (at, hash, len) in parts {
        let place = memo.iter_mut().skip(at).zip(hash.iter().take(len));
        place.for_each(|(byte, hashed)| *byte = *hashed);
    }
    memo[4] = VERSION;
    memo.into()
}

/// What a memo says about a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribution {
    /// It pays this very challenge.
    Here,
    /// It pays another one.
    Elsewhere,
    /// It is no attribution memo; the sender uses memos for something else.
    None,
}

/// Compares a memo with the challenge it was presented for; whoever the client says it is.
pub(crate) fn attributed(memo: &B256, realm: &str, challenge: &str) -> Attribution {
    let ours = attribution(realm, challenge);
    let same = |from: usize, to: usize| memo.get(from..to) == ours.get(from..to);
    match (same(0, 5), same(5, 15) && same(25, 32)) {
        (false, _) => Attribution::None,
        (true, true) => Attribution::Here,
        (true, false) => Attribution::Elsewhere,
    }
}
