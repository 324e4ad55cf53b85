//! The attribution memo: 32 bytes in a transfer that say which challenge it pays.
//!
//! ```text
//! keccak("mpp")[0..4] │ 01 │ keccak(realm)[0..10] │ client[0..10] or zeros │ keccak(challenge)[0..7]
//! ```
//!
//! And that of a refund, which says which payment it gives back, and pays no challenge:
//!
//! ```text
//! keccak("farthing refund")[0..4] │ 01 │ payment[0..16] │ refund[0..11]
//! ```

use alloy_primitives::{B256, keccak256};
use farthing_ledger::{PaymentId, RefundId};

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

/// The memo of a refund: no two refunds have the same.
pub(crate) fn refunding(payment: PaymentId, refund: RefundId) -> B256 {
    let tag = keccak256("farthing refund");
    let parts = tag.iter().take(4).copied().chain([VERSION]).chain(payment.to_bytes());
    let mut memo = [0; 32];
    let places = memo.iter_mut().zip(parts.chain(refund.to_bytes()));
    places.for_each(|(byte, part)| *byte = part);
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
