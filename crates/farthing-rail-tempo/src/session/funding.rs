//! The transaction that opens a channel or adds to its deposit: decoded, and held against what the
//! challenge and the payload say, before anybody signs or sends anything for it.
//!
//! ```text
//! version 1   [approve(escrow, deposit)], open(payee, token, deposit, salt, signer)
//! version 2                               open(payee, operator, token, deposit, salt, signer)
//! ```
//!
//! Nothing else is ever handed over: each call has to be one of these, encoded in the one way there is,
//! and move exactly what was said.

use alloy_primitives::{B256, TxKind, U256};
use alloy_sol_types::SolCall;
use tempo_primitives::transaction::Call;

use crate::session::abi::{contract, narrow, reserve, wide};
use crate::session::channel::{Descriptor, Escrow, Family, NOBODY};
use crate::session::payload::{Funding, Open, TopUp};
use crate::session::terms::SessionTerms;
use crate::transaction::{Mismatch, Payment};
use crate::wire::{Address, Transfer};

#[cfg(test)]
mod tests;

/// Why a transaction is not what was to be funded. Each is the payer's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is no transaction of the payer's for this challenge.
    #[error("the transaction cannot be used: {0}")]
    Transaction(#[from] BadTransaction),
    /// Its calls are not those of an opening or of a top-up.
    #[error("the transaction does something else, or more")]
    Calls,
    /// It lets the escrow, or somebody else, take something else than the deposit.
    #[error("the approval is not for this escrow and this deposit")]
    Approval,
    /// It pays somebody else.
    #[error("the channel pays somebody else")]
    Payee,
    /// It deposits another token.
    #[error("the channel is in another token")]
    Token,
    /// It lets somebody else act for the seller.
    #[error("the channel has another operator")]
    Operator,
    /// It deposits nothing, or more than an escrow can hold, or something else than was said.
    #[error("the deposit is not what was said")]
    Deposit,
    /// It is about another channel.
    #[error("the channel is another one")]
    Channel,
    /// Somebody else would sign vouchers.
    #[error("the channel has another signer")]
    Signer,
}

/// What is wrong with a transaction, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct BadTransaction(#[from] pub(crate) Mismatch);

impl From<Mismatch> for Unfit {
    fn from(mismatch: Mismatch) -> Self {
        Self::Transaction(BadTransaction(mismatch))
    }
}

/// A signed transaction that funds a channel and does nothing else.
#[derive(Debug)]
pub struct Funded {
    pub(crate) payment: Payment,
    /// The channel.
    pub channel: B256,
    /// What the channel is made of; nothing for a top-up of a channel that only the escrow can describe.
    pub descriptor: Option<Descriptor>,
    /// What it deposits, in atoms.
    pub atoms: u128,
    pub(crate) token: Address,
    pub(crate) opens: bool,
}

impl Funded {
    /// Who signed it, and deposits.
    #[must_use]
    pub const fn payer(&self) -> Address {
        self.payment.sender
    }

    /// When the chain stops taking it, in seconds since 1970.
    #[must_use]
    pub const fn valid_before_s(&self) -> u64 {
        self.payment.valid_before_s
    }

    /// The same for every encoding and signature of the same intention, whoever pays the fee.
    #[must_use]
    pub const fn identity(&self) -> B256 {
        self.payment.identity
    }

    /// Reads the transaction of an opening and holds it against the challenge (§11.1). Pure.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn opening(open: &Open, terms: &SessionTerms, expires_at_s: u64) -> Result<Self, Unfit> {
        let payment = signed(&open.funding, terms, expires_at_s)?;
        let escrow = terms.escrow;
        let (approval, call) = calls(&payment, &escrow)?;
        let (descriptor, atoms) = opened(call, &payment, &escrow)?;
        ensure(descriptor.payee == terms.recipient, Unfit::Payee)?;
        ensure(descriptor.token == terms.token, Unfit::Token)?;
        ensure(descriptor.operator == terms.operator, Unfit::Operator)?;
        ensure(atoms > 0 && atoms <= escrow.family.atoms_max(), Unfit::Deposit)?;
        approves(approval, &escrow, terms.token, atoms)?;
        ensure(open.descriptor.is_none_or(|said| said == descriptor), Unfit::Channel)?;
        ensure(descriptor.id(&escrow) == open.voucher.channel, Unfit::Channel)?;
        // Whoever leaves the signer out may name itself, who signs then.
        let signs = |it: Address| it == descriptor.authorized_signer || it == descriptor.signer();
        ensure(open.authorized_signer.is_none_or(signs), Unfit::Signer)?;
        ensure(open.salt.is_none_or(|salt| salt == descriptor.salt), Unfit::Channel)?;
        let channel = open.voucher.channel;
        Ok(Self::new(payment, terms, channel, Some(descriptor), atoms, true))
    }

    /// Reads the transaction of a top-up and holds it against the challenge (§11.2). Pure. Whether the
    /// channel is one of ours, and its payer this one, is for the caller to find out.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn top_up(top_up: &TopUp, terms: &SessionTerms, expires_at_s: u64) -> Result<Self, Unfit> {
        let payment = signed(&top_up.funding, terms, expires_at_s)?;
        let escrow = terms.escrow;
        let (approval, call) = calls(&payment, &escrow)?;
        let (channel, atoms) = topped_up(call, &escrow)?;
        ensure(channel == top_up.channel, Unfit::Channel)?;
        let most = escrow.family.atoms_max();
        ensure(atoms == top_up.additional && (1..=most).contains(&atoms), Unfit::Deposit)?;
        approves(approval, &escrow, terms.token, atoms)?;
        if let Some(descriptor) = &top_up.descriptor {
            ensure(descriptor.id(&escrow) == channel, Unfit::Channel)?;
            ensure(descriptor.payer == payment.sender, Unfit::Channel)?;
            ensure(descriptor.payee == terms.recipient, Unfit::Payee)?;
            ensure(descriptor.token == terms.token, Unfit::Token)?;
        }
        Ok(Self::new(payment, terms, channel, top_up.descriptor, atoms, false))
    }

    fn new(
        payment: Payment,
        terms: &SessionTerms,
        channel: B256,
        descriptor: Option<Descriptor>,
        atoms: u128,
        opens: bool,
    ) -> Self {
        let transfers = vec![Transfer { to: terms.escrow.address, atoms, memo: None }];
        let payment = Payment { transfers, ..payment };
        Self { payment, channel, descriptor, atoms, token: terms.token, opens }
    }
}

fn ensure(holds: bool, otherwise: Unfit) -> Result<(), Unfit> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn signed(funding: &Funding, terms: &SessionTerms, expires_at_s: u64) -> Result<Payment, Unfit> {
    let Funding::Transaction(text) = funding else { return Err(Unfit::Calls) };
    let chain_id = terms.escrow.chain_id;
    Ok(Payment::signed(text, chain_id, terms.sponsored, expires_at_s)?)
}

/// The call to the escrow, and the approval before it, if there is one.
fn calls<'a>(payment: &'a Payment, escrow: &Escrow) -> Result<(Option<&'a Call>, &'a Call), Unfit> {
    let (approval, call) = match payment.signed.tx().calls.as_slice() {
        [call] => (None, call),
        // The reserve of version 2 needs no approval.
        [approval, call] if escrow.family != Family::TempoV2 => (Some(approval), call),
        _ => return Err(Unfit::Calls),
    };
    let plain = call.to == TxKind::Call(escrow.address.0) && call.value.is_zero();
    ensure(plain, Unfit::Calls)?;
    Ok((approval, call))
}

/// Reads a call that is encoded in the one way there is.
pub(crate) fn canonical<C: SolCall>(input: &[u8]) -> Option<C> {
    let call = C::abi_decode(input).ok()?;
    (call.abi_encode() == input).then_some(call)
}

/// What an opening makes, and what it deposits.
fn opened(call: &Call, payment: &Payment, escrow: &Escrow) -> Result<(Descriptor, u128), Unfit> {
    let payer = payment.sender;
    match escrow.family {
        Family::TempoV1 | Family::Evm => {
            let call: contract::openCall = canonical(&call.input).ok_or(Unfit::Calls)?;
            let descriptor = Descriptor {
                payer,
                payee: Address(call.payee),
                operator: NOBODY,
                token: Address(call.token),
                salt: call.salt,
                authorized_signer: Address(call.authorizedSigner),
                expiring_nonce_hash: B256::ZERO,
            };
            Ok((descriptor, call.deposit))
        }
        Family::TempoV2 => {
            let call: reserve::openCall = canonical(&call.input).ok_or(Unfit::Calls)?;
            // Only such a transaction has the hash that the chain makes the channel of.
            ensure(payment.signed.tx().is_expiring_nonce_tx(), Unfit::Channel)?;
            let descriptor = Descriptor {
                payer,
                payee: Address(call.payee),
                operator: Address(call.operator),
                token: Address(call.token),
                salt: call.salt,
                authorized_signer: Address(call.authorizedSigner),
                expiring_nonce_hash: payment.identity,
            };
            Ok((descriptor, call.deposit.to()))
        }
    }
}

/// The channel of a top-up, and its amount.
fn topped_up(call: &Call, escrow: &Escrow) -> Result<(B256, u128), Unfit> {
    match escrow.family {
        Family::TempoV1 | Family::Evm => {
            if let Some(call) = canonical::<narrow::topUpCall>(&call.input) {
                return Ok((call.channelId, call.additionalDeposit));
            }
            let call: wide::topUpCall = canonical(&call.input).ok_or(Unfit::Calls)?;
            let atoms = call.additionalDeposit.try_into().map_err(|_| Unfit::Deposit)?;
            Ok((call.channelId, atoms))
        }
        Family::TempoV2 => {
            let call: reserve::topUpCall = canonical(&call.input).ok_or(Unfit::Calls)?;
            let descriptor = Descriptor::from(&call.descriptor);
            Ok((descriptor.id(escrow), call.additionalDeposit.to()))
        }
    }
}

/// Whether what comes before is the approval of exactly this deposit, or nothing.
fn approves(
    approval: Option<&Call>,
    escrow: &Escrow,
    token: Address,
    atoms: u128,
) -> Result<(), Unfit> {
    let Some(call) = approval else { return Ok(()) };
    let plain = call.to == TxKind::Call(token.0) && call.value.is_zero();
    ensure(plain, Unfit::Calls)?;
    let call: contract::approveCall = canonical(&call.input).ok_or(Unfit::Calls)?;
    let fits = call.spender == escrow.address.0 && call.amount == U256::from(atoms);
    ensure(fits, Unfit::Approval)
}

impl From<&reserve::ChannelDescriptor> for Descriptor {
    fn from(it: &reserve::ChannelDescriptor) -> Self {
        Self {
            payer: Address(it.payer),
            payee: Address(it.payee),
            operator: Address(it.operator),
            token: Address(it.token),
            salt: it.salt,
            authorized_signer: Address(it.authorizedSigner),
            expiring_nonce_hash: it.expiringNonceHash,
        }
    }
}

impl From<&Descriptor> for reserve::ChannelDescriptor {
    fn from(it: &Descriptor) -> Self {
        Self {
            payer: it.payer.0,
            payee: it.payee.0,
            operator: it.operator.0,
            token: it.token.0,
            salt: it.salt,
            authorizedSigner: it.authorized_signer.0,
            expiringNonceHash: it.expiring_nonce_hash,
        }
    }
}

/// The calls that open a channel, in order.
pub(crate) fn opening_calls(escrow: &Escrow, descriptor: &Descriptor, deposit: u128) -> Vec<Call> {
    let open = match escrow.family {
        Family::TempoV1 | Family::Evm => contract::openCall {
            payee: descriptor.payee.0,
            token: descriptor.token.0,
            deposit,
            salt: descriptor.salt,
            authorizedSigner: descriptor.authorized_signer.0,
        }
        .abi_encode(),
        Family::TempoV2 => reserve::openCall {
            payee: descriptor.payee.0,
            operator: descriptor.operator.0,
            token: descriptor.token.0,
            deposit: alloy_primitives::Uint::saturating_from(deposit),
            salt: descriptor.salt,
            authorizedSigner: descriptor.authorized_signer.0,
        }
        .abi_encode(),
    };
    approved(escrow, descriptor.token, deposit, open)
}

/// The calls that add to a deposit, in order. `wide` as clients of the first escrow write them.
pub(crate) fn top_up_calls(
    escrow: &Escrow,
    descriptor: &Descriptor,
    atoms: u128,
    is_wide: bool,
) -> Vec<Call> {
    let channel = descriptor.id(escrow);
    let top_up = match (escrow.family, is_wide) {
        (Family::TempoV2, _) => reserve::topUpCall {
            descriptor: descriptor.into(),
            additionalDeposit: alloy_primitives::Uint::saturating_from(atoms),
        }
        .abi_encode(),
        (Family::TempoV1 | Family::Evm, true) => {
            let additional = U256::from(atoms);
            wide::topUpCall { channelId: channel, additionalDeposit: additional }.abi_encode()
        }
        (Family::TempoV1 | Family::Evm, false) => {
            narrow::topUpCall { channelId: channel, additionalDeposit: atoms }.abi_encode()
        }
    };
    approved(escrow, descriptor.token, atoms, top_up)
}

/// A call to an escrow, after the approval it needs.
fn approved(escrow: &Escrow, token: Address, atoms: u128, input: Vec<u8>) -> Vec<Call> {
    let call = |to: Address, input: Vec<u8>| Call {
        to: TxKind::Call(to.0),
        value: U256::ZERO,
        input: input.into(),
    };
    let approval = contract::approveCall { spender: escrow.address.0, amount: U256::from(atoms) };
    let approval = call(token, approval.abi_encode());
    let last = call(escrow.address, input);
    if escrow.family == Family::TempoV2 { vec![last] } else { vec![approval, last] }
}
