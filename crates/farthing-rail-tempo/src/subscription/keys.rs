//! The keys that charge: one for each challenge, made again whenever it is needed.

use std::fmt;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::B256;
use farthing_ledger::TraceId;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tempo_primitives::transaction::PrimitiveSignature;
use zeroize::Zeroizing;

use crate::wire::Address;

#[cfg(test)]
mod tests;

/// Keeps derived keys apart from every other use of a secret.
const DOMAIN: &[u8] = b"farthing tempo subscription key v1";

/// What access keys are derived from. The first secret makes those of new challenges; the others are known
/// for as long as subscriptions go on that were begun under them.
///
/// Whoever has one of them can charge each subscription under it once a period, to the seller's own account,
/// until its end, and nothing else: that is all that the keys may do.
#[derive(Clone)]
pub struct KeyRing(Vec<Zeroizing<[u8; 32]>>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.0.len()).finish()
    }
}

/// A key that may charge a subscription.
pub(crate) struct AccessKey(Zeroizing<[u8; 32]>);

impl KeyRing {
    /// Keys derived from `current`; and, for what goes on, from `former` secrets.
    #[must_use]
    pub fn new(current: [u8; 32], former: Vec<[u8; 32]>) -> Self {
        let all = std::iter::once(current).chain(former);
        Self(all.map(Zeroizing::new).collect())
    }

    /// The key of a new challenge.
    pub(crate) fn of(&self, chain_id: u64, offer: TraceId) -> Option<AccessKey> {
        AccessKey::derive(self.0.first()?, chain_id, offer)
    }

    /// The key of a challenge whose address is known, under whichever secret it was made.
    pub(crate) fn find(
        &self,
        chain_id: u64,
        offer: TraceId,
        address: Address,
    ) -> Option<AccessKey> {
        let mut all = self.0.iter().filter_map(|it| AccessKey::derive(it, chain_id, offer));
        all.find(|key| key.address() == Some(address))
    }
}

impl AccessKey {
    fn derive(secret: &[u8; 32], chain_id: u64, offer: TraceId) -> Option<Self> {
        // Of all 2²⁵⁶ numbers some 2¹²⁸ are no key: the next is, then.
        let at = |round: u8| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(DOMAIN);
            mac.update(&chain_id.to_be_bytes());
            mac.update(&offer.to_bytes());
            mac.update(&[round]);
            let key: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
            Address::of_secret(&key).is_some().then_some(Self(key))
        };
        (0..=u8::MAX).find_map(at)
    }

    pub(crate) fn address(&self) -> Option<Address> {
        Address::of_secret(&self.0)
    }

    pub(crate) fn sign(&self, digest: B256) -> Option<PrimitiveSignature> {
        let signature = sign_message(B256::from(*self.0), digest).ok()?;
        Some(PrimitiveSignature::Secp256k1(signature))
    }
}
