//! How channels stand on the books, in the books' words.
//!
//! A deposit comes from the holder `tempo-escrow` or `evm-escrow`, which stands for what lies in the escrow,
//! and what is settled arrives at `tempo` or `evm`, as a charge does.

use alloy_primitives::{B256, Bytes};
use farthing_core::{Object, Rejection};
use farthing_ledger::{
    Account, AccountKind, ChannelDeposit, ChannelId, Fingerprint, Holder, Money, Proof, Source,
};
use farthing_money::{AssetId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::session::channel::{Family, NOBODY};
use crate::session::funding::{BadTransaction, Unfit};
use crate::session::payload::Funding;
use crate::session::terms::SessionTerms;
use crate::session::voucher::{Voucher, VoucherError};
use crate::wire::Address;

/// The payment method of a family of escrows.
pub(crate) const fn method(family: Family) -> &'static str {
    match family {
        Family::TempoV1 | Family::TempoV2 => crate::METHOD,
        Family::Evm => crate::evm::METHOD,
    }
}

/// The holder, on the books, of what lies in the escrow.
const fn holder(family: Family) -> &'static str {
    match family {
        Family::TempoV1 | Family::TempoV2 => "tempo-escrow",
        Family::Evm => "evm-escrow",
    }
}

/// What stands in the books for whoever carries something out: nothing in it is a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inquiry {
    pub(crate) request: Object,
    pub(crate) descriptor: Object,
}

impl Inquiry {
    /// What is kept of a session: the same whichever route it was opened at.
    pub(crate) fn of(request: &Object, terms: &SessionTerms, descriptor: Object) -> Self {
        let request = match terms.escrow.family {
            Family::TempoV1 | Family::TempoV2 => request.clone(),
            Family::Evm => {
                let asset = terms.amount.asset().clone();
                let (amount, channel) = (farthing_money::Amount::zero(asset), None);
                let (unit, suggested_deposit) = (None, None);
                let (delta_min, operator, means) = (0, NOBODY, terms.means.clone());
                SessionTerms {
                    amount,
                    unit,
                    suggested_deposit,
                    channel,
                    delta_min,
                    operator,
                    means,
                    ..*terms
                }
                .write()
            }
        };
        Self { request, descriptor }
    }
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

/// A deposit in the book's words: the order is what the payer has signed or sent, which is claimed by what it
/// means.
pub(crate) fn deposit(
    terms: &SessionTerms,
    atoms: u128,
    funding: &Funding,
    identity: B256,
) -> Result<ChannelDeposit, Rejection> {
    let chain = terms.escrow.chain_id.to_be_bytes();
    let fingerprint = match funding {
        Funding::Transaction(_) => {
            Fingerprint::of("tempo transaction", &[&chain, identity.as_slice()])
        }
        Funding::Hash(hash) => Fingerprint::of("evm transaction", &[&chain, hash.as_slice()]),
        Funding::Authorization(it) => {
            let (token, from) = (terms.token.0.as_slice(), it.from.0.as_slice());
            Fingerprint::of("evm authorization", &[&chain, token, from, it.nonce.as_slice()])
        }
    };
    let (asset, family) = (terms.amount.asset(), terms.escrow.family);
    Ok(ChannelDeposit {
        atoms,
        from: Source::Account(clearing(holder(family), asset)?),
        money: Money::Rail,
        order: Some(funding.order()),
        proofs: vec![Proof { fingerprint, keep_until: None }],
    })
}

pub(crate) fn clearing(holder: &str, asset: &AssetId) -> Result<Account, Rejection> {
    let holder = Holder::new(holder).map_err(|_| Rejection::Foreign)?;
    Ok(Account::new(AccountKind::Clearing, holder, asset.clone()))
}

/// A channel's name on the books.
pub(crate) fn named(family: Family, channel: B256) -> Result<ChannelId, Rejection> {
    ChannelId::new(method(family), &channel.to_string()).map_err(|_| Rejection::Malformed)
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
