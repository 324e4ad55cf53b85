//! How channels stand on the books, in the books' words.
//!
//! A deposit comes from the holder `tempo-escrow`, which stands for what lies in the escrow, and what is
//! settled arrives at `tempo`, as a charge does.

use alloy_primitives::{B256, Bytes};
use farthing_core::{Object, Rejection};
use farthing_ledger::{
    Account, AccountKind, ChannelDeposit, ChannelId, Fingerprint, Holder, Money, Proof, Source,
};
use farthing_money::{AssetId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::METHOD;
use crate::session::funding::{BadTransaction, Funded, Unfit};
use crate::session::payload::Funding;
use crate::session::terms::SessionTerms;
use crate::session::voucher::{Voucher, VoucherError};
use crate::wire::Address;

/// The holder, on the books, of what lies in the escrow.
const ESCROW: &str = "tempo-escrow";

/// What stands in the books for whoever carries something out: nothing in it is a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inquiry {
    pub(crate) request: Object,
    pub(crate) descriptor: Object,
}

/// A voucher of a channel, in this rail's words.
pub(crate) fn spoken(voucher: &farthing_ledger::Voucher, id: B256) -> Option<Voucher> {
    let signature: Bytes = voucher.signature.parse().ok()?;
    Some(Voucher {
        channel: id,
        cumulative: voucher.cumulative,
        signature: signature.to_vec().into(),
    })
}

/// A deposit in the book's words: the order is the payer's transaction, which is claimed by what it means.
pub(crate) fn deposit(
    terms: &SessionTerms,
    funded: &Funded,
    funding: &Funding,
) -> Result<ChannelDeposit, Rejection> {
    let Funding::Transaction(order) = funding else { return Err(Rejection::Unsupported) };
    let chain = terms.escrow.chain_id.to_be_bytes();
    let identity = funded.identity();
    let fingerprint = Fingerprint::of("tempo transaction", &[&chain, identity.as_slice()]);
    Ok(ChannelDeposit {
        atoms: funded.atoms,
        from: Source::Account(clearing(ESCROW, terms.amount.asset())?),
        money: Money::Rail,
        order: Some(order.clone()),
        proofs: vec![Proof { fingerprint, keep_until: None }],
    })
}

pub(crate) fn clearing(holder: &str, asset: &AssetId) -> Result<Account, Rejection> {
    let holder = Holder::new(holder).map_err(|_| Rejection::Foreign)?;
    Ok(Account::new(AccountKind::Clearing, holder, asset.clone()))
}

/// A channel's name on the books.
pub(crate) fn named(channel: B256) -> Result<ChannelId, Rejection> {
    ChannelId::new(METHOD, &channel.to_string()).map_err(|_| Rejection::Malformed)
}

/// A signer, as the books spell it.
pub(crate) fn spelled(signer: Address) -> String {
    format!("{:#x}", signer.0)
}

pub(crate) const fn moment(at_s: u64) -> Timestamp {
    Timestamp::from_micros(at_s.saturating_mul(1_000_000))
}

impl From<Unfit> for Rejection {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Transaction(BadTransaction(mismatch)) => mismatch.into(),
            Unfit::Deposit => Self::Insufficient,
            Unfit::Calls
            | Unfit::Approval
            | Unfit::Payee
            | Unfit::Token
            | Unfit::Operator
            | Unfit::Channel
            | Unfit::Signer => Self::Invalid,
        }
    }
}

impl From<VoucherError> for Rejection {
    fn from(error: VoucherError) -> Self {
        match error {
            VoucherError::Malformed | VoucherError::Signer => Self::Signature,
            VoucherError::Amount => Self::Malformed,
        }
    }
}
