//! Zero-amount proofs: a wallet says which account it is, and no money moves
//! (draft-tempo-charge-00 §5.4, in the form the SDKs have shipped since their third version: bound to
//! the account and the realm as well as to the challenge).

use std::borrow::Cow;

use alloy_primitives::{B256, Bytes};
use alloy_sol_types::{Eip712Domain, SolStruct as _, sol};
use tempo_primitives::transaction::TempoSignature;

use crate::wire::Address;

#[cfg(test)]
mod tests;

sol! {
    /// What is signed (EIP-712).
    struct Proof {
        address account;
        string challengeId;
        string realm;
    }
}

/// The digest that the account signs.
pub(crate) fn digest(chain_id: u64, account: Address, realm: &str, challenge: &str) -> B256 {
    let domain = Eip712Domain {
        name: Some(Cow::Borrowed("MPP")),
        version: Some(Cow::Borrowed("3")),
        chain_id: Some(alloy_primitives::U256::from(chain_id)),
        ..Eip712Domain::default()
    };
    let proof =
        Proof { account: account.0, challengeId: challenge.to_owned(), realm: realm.to_owned() };
    proof.eip712_signing_hash(&domain)
}

/// Who signed a proof for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The account's own key.
    Account,
    /// Another key, which may be an access key of the account: the chain knows.
    Key(Address),
}

/// Who signed `digest` for `account`; nothing for a text that is no signature, or one of another
/// account.
pub(crate) fn signer(text: &str, digest: B256, account: Address) -> Option<Signer> {
    let bytes: Bytes = text.starts_with("0x").then(|| text.parse().ok()).flatten()?;
    let signature = TempoSignature::from_bytes(&bytes).ok()?;
    // One signature has one spelling.
    if signature.to_bytes() != bytes || bytes.to_string() != text {
        return None;
    }
    if let Some(keychain) = signature.as_keychain() {
        let named = Address(keychain.user_address);
        let key = keychain.key_id(&digest).ok()?;
        return (named == account).then_some(Signer::Key(Address(key)));
    }
    let signer = Address(signature.recover_signer(&digest).ok()?);
    Some(if signer == account { Signer::Account } else { Signer::Key(signer) })
}
