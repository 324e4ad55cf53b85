//! Vouchers: the sum of everything owed on a channel so far, signed.
//!
//! A signature has one spelling: 65 bytes with a recovery of 27 or 28, or 64 bytes as in EIP-2098, and
//! the lower of the two values of s. Whoever could write the same signature in two ways could show one
//! voucher twice. Version 2 of Tempo's sessions also takes P-256 and passkeys, in the spelling of the
//! chain (TIP-1020), and never an access key in its wrapper: such a key is a channel's
//! `authorizedSigner` and signs as itself.
//!
//! The signer is recovered rather than compared with a key that is known: with libsecp256k1 that takes
//! 49 µs against 42 on one core of a small machine (k256: 233 against 116), and needs no memory of keys.

use alloy_primitives::{B256, Signature, U256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use tempo_primitives::transaction::{PrimitiveSignature, TempoSignature};
use zeroize::Zeroizing;

use crate::payer::MalformedKey;
use crate::session::channel::{Escrow, Family};
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// Half the order of secp256k1, the greatest s that counts.
const HALF_ORDER: U256 = U256::from_be_bytes([
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
]);

/// The longest signature, in bytes: a passkey's.
const BYTES_MAX: usize = 2_048;

/// A voucher, as its payer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// The channel.
    pub channel: B256,
    /// Everything owed on it so far, in atoms.
    pub cumulative: u128,
    /// The signature, as it was shown: whoever shows it on the chain shows the same bytes.
    pub signature: Box<[u8]>,
}

/// Why a voucher is not its channel's. Each is the payer's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It is no signature in its one spelling.
    #[error("a signature has 65 or 64 bytes, a recovery of 27 or 28, and the lower s")]
    Malformed,
    /// The amount is more than the escrow can hold.
    #[error("the amount has more bits than the escrow's amounts")]
    Amount,
    /// Nobody, or somebody else, has signed it.
    #[error("the channel's signer has not signed it")]
    Signer,
}

impl Voucher {
    /// Whether `signer` has signed it for a channel of `escrow`. Pure.
    ///
    /// # Errors
    ///
    /// A [`VoucherError`].
    pub fn verify(&self, escrow: &Escrow, signer: Address) -> Result<(), VoucherError> {
        if self.signer(escrow)? == signer { Ok(()) } else { Err(VoucherError::Signer) }
    }

    /// Who has signed it for a channel of `escrow`. Pure.
    ///
    /// # Errors
    ///
    /// A [`VoucherError`].
    pub fn signer(&self, escrow: &Escrow) -> Result<Address, VoucherError> {
        if self.cumulative > escrow.family.atoms_max() {
            return Err(VoucherError::Amount);
        }
        let digest = escrow.voucher_digest(self.channel, self.cumulative);
        signer_of(escrow.family, &self.signature, digest)
    }
}

/// Who made `signature` over `digest`, in the one spelling that a family knows.
pub(crate) fn signer_of(
    family: Family,
    signature: &[u8],
    digest: B256,
) -> Result<Address, VoucherError> {
    match (family, signature.len()) {
        (_, 64 | 65) => recover(signature, digest),
        (Family::TempoV2, 66..=BYTES_MAX) => primitive(signature, digest),
        (Family::TempoV1 | Family::TempoV2 | Family::Evm, _) => Err(VoucherError::Malformed),
    }
}

/// Who made an ECDSA signature.
fn recover(signature: &[u8], digest: B256) -> Result<Address, VoucherError> {
    let malformed = || VoucherError::Malformed;
    let (rs, odd) = match signature.split_at_checked(64).ok_or_else(malformed)? {
        (rs, []) => {
            let mut rs: [u8; 64] = rs.try_into().map_err(|_| malformed())?;
            // EIP-2098: the highest bit of s says which of two points it is.
            let odd = rs[32] >> 7 == 1;
            rs[32] &= 0x7f;
            (rs, odd)
        }
        (rs, [v @ (27 | 28)]) => (rs.try_into().map_err(|_| malformed())?, *v == 28),
        _ => return Err(malformed()),
    };
    let s = U256::try_from_be_slice(rs.get(32..).unwrap_or_default()).ok_or_else(malformed)?;
    if s > HALF_ORDER {
        return Err(malformed());
    }
    let recovery = if odd { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&rs, recovery).map_err(|_| malformed())?;
    let key = SECP256K1.recover_ecdsa(&Message::from_digest(digest.0), &signature);
    // What recovers to nobody was signed by nobody.
    let key = key.map_err(|_| VoucherError::Signer)?.serialize_uncompressed();
    let point = key.get(1..).unwrap_or_default();
    Ok(Address(alloy_primitives::Address::from_raw_public_key(point)))
}

/// Who made a signature of another curve, or of a passkey.
fn primitive(signature: &[u8], digest: B256) -> Result<Address, VoucherError> {
    let read = PrimitiveSignature::from_bytes(signature).map_err(|_| VoucherError::Malformed)?;
    if *read.to_bytes() != *signature || matches!(read, PrimitiveSignature::Secp256k1(_)) {
        return Err(VoucherError::Malformed);
    }
    read.recover_signer(&digest).map(Address).map_err(|_| VoucherError::Signer)
}

/// Signs vouchers and transactions: a key of secp256k1.
pub struct VoucherKey {
    secret: Zeroizing<[u8; 32]>,
    account: Address,
}

impl std::fmt::Debug for VoucherKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoucherKey").field("account", &self.account).finish_non_exhaustive()
    }
}

impl VoucherKey {
    /// The key of these bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`].
    pub fn new(secret: &[u8; 32]) -> Result<Self, MalformedKey> {
        let account = Address::of_secret(secret).ok_or(MalformedKey)?;
        Ok(Self { secret: Zeroizing::new(*secret), account })
    }

    /// The account it is the key of.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// Signs a voucher for a channel of `escrow`; nothing for an amount that it cannot hold.
    #[must_use]
    pub fn sign(&self, escrow: &Escrow, channel: B256, cumulative: u128) -> Option<Voucher> {
        if cumulative > escrow.family.atoms_max() {
            return None;
        }
        let signature = self.ecdsa(escrow.voucher_digest(channel, cumulative))?;
        let signature = signature.as_bytes().into();
        Some(Voucher { channel, cumulative, signature })
    }

    /// Agrees that a channel of version 2 is closed with a voucher of this amount.
    #[must_use]
    pub fn agree_to_close(
        &self,
        escrow: &Escrow,
        channel: B256,
        cumulative: u128,
    ) -> Option<Box<[u8]>> {
        let signature = self.ecdsa(escrow.close_digest(channel, cumulative))?;
        Some(signature.as_bytes().into())
    }

    /// A signature over a digest.
    pub(crate) fn ecdsa(&self, digest: B256) -> Option<Signature> {
        alloy_consensus::crypto::secp256k1::sign_message(B256::from(*self.secret), digest).ok()
    }

    /// The same, as the signature of a transaction.
    pub(crate) fn seal(&self, digest: B256) -> Option<TempoSignature> {
        let signature = self.ecdsa(digest)?;
        Some(TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature)))
    }
}
