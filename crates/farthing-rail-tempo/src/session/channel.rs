//! Which channel it is: escrows, descriptors, and the ids they make.

use std::fmt;
use std::sync::LazyLock;

use alloy_primitives::{B256, U256, address, keccak256};
use alloy_sol_types::SolValue as _;
use farthing_core::Object;
use serde_json::Value;

use crate::wire::{Address, parse_word};

#[cfg(test)]
mod tests;

/// The reserve that is part of Tempo from its hardfork T5 on (TIP-1034).
pub const RESERVE: Address = Address(address!("4D50500000000000000000000000000000000000"));

/// The address that is nobody's, and its place in a descriptor where something was left out.
pub(crate) const NOBODY: Address = Address(alloy_primitives::Address::ZERO);

/// What kind of escrow holds a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Version 1 of Tempo's sessions: a contract.
    TempoV1,
    /// Version 2 of Tempo's sessions: a part of the chain.
    TempoV2,
    /// Sessions on other EVM chains: a contract.
    Evm,
}

impl Family {
    /// What the domain of its vouchers is called (EIP-712); its version is always "1".
    #[must_use]
    pub const fn domain(self) -> &'static str {
        match self {
            Self::TempoV1 => "Tempo Stream Channel",
            Self::TempoV2 => "TIP20 Channel Reserve",
            Self::Evm => "EVM Payment Channel",
        }
    }

    /// The most that a channel can hold, in atoms.
    #[must_use]
    pub const fn atoms_max(self) -> u128 {
        match self {
            Self::TempoV1 | Self::Evm => u128::MAX,
            Self::TempoV2 => (1 << 96) - 1,
        }
    }

    /// The type of a voucher, as it is signed.
    const fn voucher_type(self) -> &'static str {
        match self {
            Self::TempoV1 | Self::Evm => "Voucher(bytes32 channelId,uint128 cumulativeAmount)",
            Self::TempoV2 => "Voucher(bytes32 channelId,uint96 cumulativeAmount)",
        }
    }
}

/// Where deposits are held. Knows the digests of its vouchers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Escrow {
    /// Its kind.
    pub family: Family,
    /// Its chain.
    pub chain_id: u64,
    /// Its contract.
    pub address: Address,
    separator: B256,
    voucher_type: B256,
}

impl fmt::Debug for Escrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} on chain {}", self.family, self.address, self.chain_id)
    }
}

/// The type of a domain (EIP-712).
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// What never changes of a domain: its type, its version, and of each family the name and the type of its
/// vouchers. A challenge names its escrow each time it is answered.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let of = |family: Family| (keccak256(family.domain()), keccak256(family.voucher_type()));
    Words {
        domain: keccak256(DOMAIN_TYPE),
        version: keccak256("1"),
        tempo_v1: of(Family::TempoV1),
        tempo_v2: of(Family::TempoV2),
        evm: of(Family::Evm),
    }
});

struct Words {
    domain: B256,
    version: B256,
    tempo_v1: (B256, B256),
    tempo_v2: (B256, B256),
    evm: (B256, B256),
}

/// The type of a payer's word that a channel of version 2 may be closed.
const CLOSE_TYPE: &str = "CloseAuthorization(bytes32 channelId,uint96 cumulativeAmount)";

impl Escrow {
    /// The escrow at `address`.
    #[must_use]
    pub fn new(family: Family, chain_id: u64, address: Address) -> Self {
        let Words { domain, version, tempo_v1, tempo_v2, evm } = &*WORDS;
        let (name, voucher_type) = match family {
            Family::TempoV1 => *tempo_v1,
            Family::TempoV2 => *tempo_v2,
            Family::Evm => *evm,
        };
        let domain = (*domain, name, *version, U256::from(chain_id), address.0);
        let separator = keccak256(domain.abi_encode());
        Self { family, chain_id, address, separator, voucher_type }
    }

    /// What is signed for a voucher: everything owed on a channel so far, in atoms.
    #[must_use]
    pub fn voucher_digest(&self, channel: B256, cumulative: u128) -> B256 {
        self.digest(self.voucher_type, channel, cumulative)
    }

    /// What a payer signs beside its last voucher, so that whoever shows that voucher cannot close.
    #[must_use]
    pub fn close_digest(&self, channel: B256, cumulative: u128) -> B256 {
        self.digest(keccak256(CLOSE_TYPE), channel, cumulative)
    }

    /// Every message here is a channel and an amount.
    fn digest(&self, kind: B256, channel: B256, cumulative: u128) -> B256 {
        let mut message = [0_u8; 96];
        let amount = U256::from(cumulative).to_be_bytes::<32>();
        let parts = [kind.0, channel.0, amount];
        message.iter_mut().zip(parts.as_flattened()).for_each(|(byte, part)| *byte = *part);
        let message = keccak256(message);
        let mut whole = [0_u8; 66];
        let parts = [0x19, 0x01].iter().chain(&self.separator.0).chain(&message.0);
        whole.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
        keccak256(whole)
    }
}

/// What a channel is made of. The same parts make the same id, and another part another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Who deposits, and gets back what is left.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// Who may act for the payee, in version 2; nobody's address elsewhere, and where there is none.
    pub operator: Address,
    /// The token.
    pub token: Address,
    /// The payer's choice, random.
    pub salt: B256,
    /// Who signs vouchers; nobody's address means the payer.
    pub authorized_signer: Address,
    /// The transaction that opened it, in version 2; zero elsewhere.
    pub expiring_nonce_hash: B256,
}

impl Descriptor {
    /// The channel's id.
    #[must_use]
    pub fn id(&self, escrow: &Escrow) -> B256 {
        let (payer, payee, token) = (self.payer.0, self.payee.0, self.token.0);
        let (signer, chain_id) = (self.authorized_signer.0, U256::from(escrow.chain_id));
        let preimage = match escrow.family {
            Family::TempoV1 | Family::Evm => {
                (payer, payee, token, self.salt, signer, escrow.address.0, chain_id).abi_encode()
            }
            Family::TempoV2 => (
                payer,
                payee,
                self.operator.0,
                token,
                self.salt,
                signer,
                self.expiring_nonce_hash,
                escrow.address.0,
                chain_id,
            )
                .abi_encode(),
        };
        keccak256(preimage)
    }

    /// Whose signature a voucher needs.
    #[must_use]
    pub fn signer(&self) -> Address {
        if self.authorized_signer == NOBODY { self.payer } else { self.authorized_signer }
    }

    /// As it stands in a payload of version 2.
    #[must_use]
    pub fn write(&self) -> Object {
        let fields = [
            ("payer", self.payer.to_string()),
            ("payee", self.payee.to_string()),
            ("operator", self.operator.to_string()),
            ("token", self.token.to_string()),
            ("salt", self.salt.to_string()),
            ("authorizedSigner", self.authorized_signer.to_string()),
            ("expiringNonceHash", self.expiring_nonce_hash.to_string()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Reads what stands in a payload of version 2; nothing if a part is missing or malformed.
    #[must_use]
    pub fn read(object: &Object) -> Option<Self> {
        let text = |name| object.get(name).and_then(Value::as_str);
        let account = |name| text(name)?.parse::<Address>().ok();
        let word = |name| text(name).and_then(parse_word);
        Some(Self {
            payer: account("payer")?,
            payee: account("payee")?,
            operator: account("operator")?,
            token: account("token")?,
            salt: word("salt")?,
            authorized_signer: account("authorizedSigner")?,
            expiring_nonce_hash: word("expiringNonceHash")?,
        })
    }
}
