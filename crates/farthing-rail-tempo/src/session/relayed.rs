//! Deposits that a payer signs for and a seller sends (draft-evm-session-00 §10.2.2): both sides.
//!
//! ```text
//! payer   signs the token's transfer to the escrow (EIP-3009), under a nonce that says what it is for
//! seller  held against the challenge ─► tried ─► written down ─► sent ─► found by its nonce
//! ```
//!
//! What is signed can be taken by the escrow alone, for one channel alone, once, and for a while. Whoever
//! sends it pays the gas and gains nothing else by it.

use alloy_primitives::{B256, Bytes, U64, U256, keccak256};
use alloy_sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use farthing_core::Rejection;
use serde::Deserialize;
use serde_json::json;

use crate::rpc::{CallError, Nodes, SEARCHED_AT_ONCE};
use crate::session::abi::{authorized, contract};
use crate::session::channel::{Descriptor, Escrow, NOBODY};
use crate::session::funding::Unfit;
use crate::session::payload::{Authorization, Funding, Open, TopUp};
use crate::session::state::{Block, Head};
use crate::session::terms::SessionTerms;
use crate::session::voucher::VoucherKey;
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// How long what was signed has to be good still, in seconds: chains make blocks as seldom as that.
const VALID_S_MIN: u64 = 60;

/// How long what was signed may be good, in seconds, so that nothing stays open for longer.
pub(crate) const VALID_S_MAX: u64 = 60 * 60;

/// The type of what a payer signs, as tokens hash it (EIP-3009).
const RECEIVE_TYPE: &str = "ReceiveWithAuthorization(address from,address to,uint256 value,\
uint256 validAfter,uint256 validBefore,bytes32 nonce)";

/// The type of a token's domain (EIP-712).
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// The event of an authorisation that its payer has taken back.
const CANCELLED: &str = "AuthorizationCanceled(address,bytes32)";

/// What a nonce of an opening stands for.
pub(crate) fn opening_nonce(of: &Descriptor) -> B256 {
    let parts = (of.payer.0, of.payee.0, of.token.0, of.salt, of.authorized_signer.0);
    keccak256(parts.abi_encode())
}

/// What a nonce of a top-up stands for.
pub(crate) fn top_up_nonce(channel: B256, additional: u128, from: Address, salt: B256) -> B256 {
    keccak256((channel, U256::from(additional), from.0, salt).abi_encode())
}

/// A deposit that a payer has signed for, held against its challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) authorization: Authorization,
    /// What the channel is made of; nothing for a top-up.
    pub(crate) descriptor: Option<Descriptor>,
    channel: B256,
}

impl Signed {
    /// Reads an opening and holds it against the challenge. Pure.
    pub(crate) fn opening(open: &Open, terms: &SessionTerms) -> Result<Self, Unfit> {
        let (Funding::Authorization(it), Some(salt)) = (&open.funding, open.salt) else {
            return Err(Unfit::Calls);
        };
        let descriptor = terms.descriptor(it.from, salt, open.authorized_signer.unwrap_or(NOBODY));
        let descriptor = spoken_of(descriptor, &terms.escrow, open.voucher.channel)?;
        if it.nonce != opening_nonce(&descriptor) {
            return Err(Unfit::Approval);
        }
        Self::held(it, Some(descriptor), open.voucher.channel, terms)
    }

    /// Reads a top-up, likewise. Pure.
    pub(crate) fn top_up(top_up: &TopUp, terms: &SessionTerms) -> Result<Self, Unfit> {
        let Funding::Authorization(it) = &top_up.funding else { return Err(Unfit::Calls) };
        let salt = it.salt.ok_or(Unfit::Approval)?;
        if it.value != top_up.additional {
            return Err(Unfit::Deposit);
        }
        if it.nonce != top_up_nonce(top_up.channel, it.value, it.from, salt) {
            return Err(Unfit::Approval);
        }
        Self::held(it, None, top_up.channel, terms)
    }

    fn held(
        it: &Authorization,
        descriptor: Option<Descriptor>,
        channel: B256,
        terms: &SessionTerms,
    ) -> Result<Self, Unfit> {
        if it.to != terms.escrow.address {
            return Err(Unfit::Approval);
        }
        if it.value == 0 {
            return Err(Unfit::Deposit);
        }
        Ok(Self { authorization: it.clone(), descriptor, channel })
    }

    /// Whether it is good now, and not for too long. Pure.
    pub(crate) fn in_time(&self, now_s: u64) -> Result<(), Rejection> {
        let Authorization { valid_after_s, valid_before_s, .. } = self.authorization;
        let is_good = valid_after_s < now_s && valid_before_s >= now_s.saturating_add(VALID_S_MIN);
        if !is_good {
            return Err(Rejection::Expired);
        }
        let is_short = valid_before_s <= now_s.saturating_add(VALID_S_MAX);
        if is_short { Ok(()) } else { Err(Rejection::Invalid) }
    }
}

/// The descriptor that makes this channel, by the parts that were said. Whoever names itself as the signer may
/// have left it out on the chain.
pub(crate) fn spoken_of(
    descriptor: Descriptor,
    escrow: &Escrow,
    channel: B256,
) -> Result<Descriptor, Unfit> {
    let silent = Descriptor { authorized_signer: NOBODY, ..descriptor };
    let made = [descriptor, silent]
        .into_iter()
        .find(|it| it.id(escrow) == channel && it.signer() == descriptor.signer());
    made.ok_or(Unfit::Channel)
}

impl Authorization {
    /// What is said to the escrow, to open the channel of `descriptor` or to add to `channel`.
    pub(crate) fn input(&self, opens: Option<&Descriptor>, channel: B256) -> Vec<u8> {
        let (after, before) = (U256::from(self.valid_after_s), U256::from(self.valid_before_s));
        match opens {
            Some(descriptor) => contract::openWithAuthorizationCall {
                payee: descriptor.payee.0,
                token: descriptor.token.0,
                deposit: self.value,
                salt: descriptor.salt,
                authorizedSigner: descriptor.authorized_signer.0,
                from: self.from.0,
                validAfter: after,
                validBefore: before,
                nonce: self.nonce,
                signature: self.signature.clone(),
            }
            .abi_encode(),
            None => contract::topUpWithAuthorizationCall {
                channelId: channel,
                additionalDeposit: self.value,
                from: self.from.0,
                topUpSalt: self.salt.unwrap_or_default(),
                validAfter: after,
                validBefore: before,
                nonce: self.nonce,
                signature: self.signature.clone(),
            }
            .abi_encode(),
        }
    }

    /// What is signed, for a token with this domain.
    fn digest(&self, separator: B256) -> B256 {
        let message = (
            keccak256(RECEIVE_TYPE),
            self.from.0,
            self.to.0,
            U256::from(self.value),
            U256::from(self.valid_after_s),
            U256::from(self.valid_before_s),
            self.nonce,
        );
        let message = keccak256(message.abi_encode());
        keccak256([&[0x19, 0x01], separator.as_slice(), message.as_slice()].concat())
    }

    /// The same, signed.
    pub(crate) fn signed(self, key: &VoucherKey, separator: B256) -> Option<Self> {
        let signature = key.ecdsa(self.digest(separator))?;
        Some(Self { signature: Bytes::from(signature.as_bytes().to_vec()), ..self })
    }
}

/// What became of an authorisation on the chain.
pub(crate) enum Used {
    /// Nobody has used it.
    No,
    /// It was used by this transaction.
    By(B256),
    /// Its payer has taken it back.
    Cancelled,
    /// It was used, and no node tells by what.
    Somehow,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    transaction_hash: B256,
    topics: Vec<B256>,
}

impl Nodes {
    /// A token's domain, as its holders sign for transfers. The chain and the token are put in here, so that
    /// what is signed is for no other, whatever a node says of the rest.
    pub(crate) async fn token_domain(&self, token: Address) -> Result<B256, CallError> {
        let name = self.look_at(token, authorized::nameCall {}.abi_encode()).await?;
        let name = authorized::nameCall::abi_decode_returns(&name).map_err(|_| CallError::Lost)?;
        let version = self.look_at(token, authorized::versionCall {}.abi_encode()).await?;
        let version = authorized::versionCall::abi_decode_returns(&version);
        let version = version.map_err(|_| CallError::Lost)?;
        let chain = U256::from(self.chain_id());
        let (name, version) = (keccak256(name), keccak256(version));
        let domain = (keccak256(DOMAIN_TYPE), name, version, chain, token.0);
        Ok(keccak256(domain.abi_encode()))
    }

    /// What became of an authorisation.
    pub(crate) async fn used(
        &self,
        token: Address,
        authorization: &Authorization,
    ) -> Result<Used, CallError> {
        let Authorization { from, nonce, valid_before_s, .. } = authorization;
        let asked = authorized::authorizationStateCall { authorizer: from.0, nonce: *nonce };
        let answer = self.look_at(token, asked.abi_encode()).await?;
        let is_used = authorized::authorizationStateCall::abi_decode_returns(&answer);
        if !is_used.map_err(|_| CallError::Lost)? {
            return Ok(Used::No);
        }
        let since_s = valid_before_s.saturating_sub(2 * VALID_S_MAX);
        let cancelled = keccak256(CANCELLED);
        let names = [authorized::AuthorizationUsed::SIGNATURE_HASH, cancelled];
        let topics = json!([names, from.0.into_word(), nonce]);
        let mut to = self.latest().await?.number;
        loop {
            let first = to.saturating_sub(SEARCHED_AT_ONCE);
            let filter = json!({
                "address": token.to_string(), "topics": topics,
                "fromBlock": U64::from(first), "toBlock": U64::from(to),
            });
            let found: Vec<Found> = self.call("eth_getLogs", json!([filter])).await?;
            if let Some(found) = found.first() {
                let is_back = found.topics.first() == Some(&cancelled);
                let by = found.transaction_hash;
                return Ok(if is_back { Used::Cancelled } else { Used::By(by) });
            }
            let number = json!([U64::from(first), false]);
            let block: Option<Block> = self.call("eth_getBlockByNumber", number).await?;
            let block = block.map(Head::from).ok_or(CallError::Lost)?;
            if first == 0 || block.time_s < since_s {
                return Ok(Used::Somehow);
            }
            to = first.saturating_sub(1);
        }
    }

    /// What a view of a contract answers.
    pub(crate) async fn look_at(&self, to: Address, input: Vec<u8>) -> Result<Bytes, CallError> {
        let call = json!({ "to": to.to_string(), "data": Bytes::from(input) });
        self.call("eth_call", json!([call, "latest"])).await
    }
}
