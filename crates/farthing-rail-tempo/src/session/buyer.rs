//! The payer's side of channels on Tempo: opens them, signs vouchers, and gets the rest back, with the
//! seller's help or without.
//!
//! Which channel there is, and how much was signed away on it, the wallet has to know before it signs:
//! nothing here remembers anything. A salt is the caller's, random, and never the same twice.

use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_sol_types::SolCall as _;
use farthing_core::{Object, PayError, SettleError, Unpayable};
use tempo_primitives::transaction::Call;
use tempo_primitives::{AASigned, TempoTransaction};

use crate::handover::Handover;
use crate::payer::{MalformedKey, TempoPayer, VALID_S};
use crate::receipt;
use crate::rpc::{CallError, NoAnswer};
use crate::session::abi::{contract, reserve};
use crate::session::channel::{Descriptor, Escrow, Family, NOBODY};
use crate::session::events::{self, ChannelEvent};
use crate::session::funding::{opening_calls, top_up_calls};
use crate::session::state::{ChannelState, Seen};
use crate::session::terms::SessionTerms;
use crate::session::voucher::VoucherKey;
use crate::transaction::{batch, fee_max};
use crate::wire::{Address, did};

/// How many times what gas costs now a transaction may pay.
const PRICE_FACTOR: u128 = 2;

/// How long the wallet waits for what it sends itself.
const WAIT: Duration = Duration::from_secs(35);

/// A channel that is about to be open: nothing was sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What the credential says.
    pub payload: Object,
    /// What the channel is made of: without it, nothing can be got back in version 2.
    pub descriptor: Descriptor,
    /// Its id.
    pub channel: B256,
    /// When the chain stops taking the transaction, in seconds since 1970.
    pub valid_before_s: u64,
}

/// What a payer can ask of an escrow by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Asks for the rest: the payee has its time from then on.
    RequestClose,
    /// Takes the rest, once the payee has had its time.
    Withdraw,
}

impl TempoPayer {
    /// Who the payer is, in a credential.
    #[must_use]
    pub fn source(&self) -> String {
        did(self.nodes.chain_id(), self.account)
    }

    /// The key that signs vouchers: the account's own, or its access key by itself, which a channel
    /// names then.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`], which a payer never has.
    fn voucher_key(&self) -> Result<VoucherKey, MalformedKey> {
        VoucherKey::new(&self.key)
    }

    /// Signs the opening of a channel with `deposit` atoms, and a first voucher for `owed` of them.
    /// Nothing is sent: whoever gets the payload can open the channel, once, until its transaction
    /// expires.
    ///
    /// # Errors
    ///
    /// A [`PayError`]: the terms are another chain's, or the account does not hold the deposit.
    pub async fn open_channel(
        &self,
        terms: &SessionTerms,
        deposit: u128,
        owed: u128,
        salt: B256,
    ) -> Result<Opening, PayError> {
        let escrow = self.ours(&terms.escrow)?;
        if deposit == 0 || deposit > escrow.family.atoms_max() || owed > deposit {
            return Err(PayError::Refused);
        }
        let key = self.voucher_key().map_err(|_| PayError::Refused)?;
        let mut descriptor = Descriptor {
            payer: self.account,
            payee: terms.recipient,
            operator: terms.operator,
            token: terms.token,
            salt,
            authorized_signer: if self.is_access_key { key.account() } else { NOBODY },
            expiring_nonce_hash: B256::ZERO,
        };
        let calls = opening_calls(&escrow, &descriptor, deposit);
        let (signed, valid_before_s) = self.funding(terms, calls, deposit).await?;
        if escrow.family == Family::TempoV2 {
            descriptor.expiring_nonce_hash = signed.expiring_nonce_hash(self.account.0);
        }
        let channel = descriptor.id(&escrow);
        let mut payload = Object::new();
        payload.insert("action".into(), "open".into());
        payload.insert("type".into(), "transaction".into());
        let transaction = self.wire_form(&signed, terms.sponsored)?;
        payload.insert("transaction".into(), transaction.into());
        // A descriptor says it already, and sellers of version 2 compare the two to the letter.
        if escrow.family != Family::TempoV2 {
            payload.insert("authorizedSigner".into(), descriptor.signer().to_string().into());
        }
        self.sign_voucher(&mut payload, &escrow, &descriptor, owed)?;
        Ok(Opening { payload, descriptor, channel, valid_before_s })
    }

    /// Signs a top-up by `additional` atoms. Nothing is sent.
    ///
    /// # Errors
    ///
    /// As [`TempoPayer::open_channel`].
    pub async fn top_up_channel(
        &self,
        terms: &SessionTerms,
        descriptor: &Descriptor,
        additional: u128,
    ) -> Result<Object, PayError> {
        let escrow = self.ours(&terms.escrow)?;
        let narrow = top_up_calls(&escrow, descriptor, additional, false);
        let (signed, _) = match self.funding(terms, narrow, additional).await {
            // Escrows in use write the amount in one of two widths.
            Err(PayError::Refused) if escrow.family != Family::TempoV2 => {
                let wide = top_up_calls(&escrow, descriptor, additional, true);
                self.funding(terms, wide, additional).await?
            }
            signed => signed?,
        };
        let mut payload = Object::new();
        payload.insert("action".into(), "topUp".into());
        payload.insert("type".into(), "transaction".into());
        let transaction = self.wire_form(&signed, terms.sponsored)?;
        payload.insert("transaction".into(), transaction.into());
        payload.insert("additionalDeposit".into(), additional.to_string().into());
        name(&mut payload, &escrow, descriptor);
        Ok(payload)
    }

    /// Signs a voucher for everything owed so far. Nobody is asked.
    ///
    /// # Errors
    ///
    /// [`PayError::Refused`] for an amount that the escrow cannot hold.
    pub fn voucher(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        owed: u128,
    ) -> Result<Object, PayError> {
        let mut payload = Object::new();
        payload.insert("action".into(), "voucher".into());
        self.sign_voucher(&mut payload, escrow, descriptor, owed)?;
        Ok(payload)
    }

    /// Asks the seller to close the channel with everything owed. Nobody is asked before.
    ///
    /// # Errors
    ///
    /// As [`TempoPayer::voucher`].
    pub fn close(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        owed: u128,
    ) -> Result<Object, PayError> {
        let mut payload = Object::new();
        payload.insert("action".into(), "close".into());
        self.sign_voucher(&mut payload, escrow, descriptor, owed)?;
        if escrow.family == Family::TempoV2 {
            let key = self.voucher_key().map_err(|_| PayError::Refused)?;
            let agreed = key.agree_to_close(escrow, descriptor.id(escrow), owed);
            let agreed = Bytes::from(agreed.ok_or(PayError::Refused)?);
            payload.insert("closeSignature".into(), agreed.to_string().into());
        }
        Ok(payload)
    }

    /// What the escrow says of a channel of ours.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn channel(
        &self,
        escrow: &Escrow,
        channel: B256,
    ) -> Result<Seen<Option<ChannelState>>, NoAnswer> {
        let seen = self.nodes.channels(escrow, &[channel]).await.map_err(|_| NoAnswer)?;
        Ok(Seen { what: seen.what.into_iter().next().flatten(), head: seen.head })
    }

    /// Asks the escrow for the rest, or takes it; sends, and waits for it. The fee is the payer's.
    /// Doing it again does no harm.
    ///
    /// # Errors
    ///
    /// As [`farthing_core::Rail::settle`]; [`SettleError::Declined`] where the escrow would not, e.g.
    /// because the payee still has its time.
    pub async fn leave(
        &self,
        escrow: &Escrow,
        descriptor: &Descriptor,
        what: Leave,
    ) -> Result<Vec<ChannelEvent>, SettleError> {
        let escrow = self.ours(escrow).map_err(|_| SettleError::Declined)?;
        let call = Call {
            to: TxKind::Call(escrow.address.0),
            value: U256::ZERO,
            input: what.input(&escrow, descriptor).into(),
        };
        let (signed, _) =
            self.signed(Some(descriptor.token), vec![call], &escrow).await.map_err(|error| {
                match error {
                    PayError::Refused | PayError::Invitation(_) => SettleError::Declined,
                    PayError::Unsent => SettleError::Unsent,
                    PayError::Unknown => SettleError::Unknown,
                }
            })?;
        let handover = Handover::new(self.nodes.clone(), 1);
        let receipt = handover.hand_over(&signed, WAIT).await?;
        if receipt::failed(&receipt) {
            return Err(SettleError::Declined);
        }
        Ok(events::read_all(&escrow, &receipt.logs))
    }

    /// An escrow of the chain that the payer is on.
    pub(crate) fn ours(&self, escrow: &Escrow) -> Result<Escrow, PayError> {
        let tempo = matches!(escrow.family, Family::TempoV1 | Family::TempoV2);
        if tempo && escrow.chain_id == self.nodes.chain_id() {
            Ok(*escrow)
        } else {
            Err(Unpayable::Method.into())
        }
    }

    /// A signed transaction that deposits; there has to be enough for it, and for the fee.
    async fn funding(
        &self,
        terms: &SessionTerms,
        calls: Vec<Call>,
        atoms: u128,
    ) -> Result<(AASigned, u64), PayError> {
        let fee_token = (!terms.sponsored).then_some(terms.token);
        let token = self.tokens.at(terms.token).ok_or(Unpayable::Asset)?;
        let balance = self.nodes.balance(terms.token, self.account).await;
        let balance = balance.map_err(|_| PayError::Unsent)?;
        if balance < atoms {
            return Err(PayError::Refused);
        }
        let (signed, valid_before_s) = self.signed(fee_token, calls, &terms.escrow).await?;
        let fee = fee_max(signed.tx(), token.asset.decimals());
        let needed = if terms.sponsored { atoms } else { atoms.saturating_add(fee) };
        if balance < needed {
            return Err(PayError::Refused);
        }
        Ok((signed, valid_before_s))
    }

    /// A signed transaction of these calls, that lives for less than half a minute.
    async fn signed(
        &self,
        fee_token: Option<Address>,
        calls: Vec<Call>,
        escrow: &Escrow,
    ) -> Result<(AASigned, u64), PayError> {
        let now_s = self.nodes.latest_block_time_s().await?;
        let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S));
        let valid_before = valid_before.ok_or(Unpayable::Malformed)?;
        let mut tx = batch(escrow.chain_id, fee_token, calls, valid_before);
        self.limit_channel(escrow, &mut tx).await?;
        let signature = self.sign(tx.signature_hash())?;
        Ok((tx.into_signed(signature), valid_before.get()))
    }

    async fn limit_channel(
        &self,
        escrow: &Escrow,
        tx: &mut TempoTransaction,
    ) -> Result<(), CallError> {
        match escrow.family {
            // The reserve makes a channel of the transaction that opens it, which is more than a call.
            Family::TempoV2 => self.nodes.limit_whole(self.account, tx, PRICE_FACTOR).await,
            Family::TempoV1 | Family::Evm => {
                self.nodes.limit_batch(self.account, tx, PRICE_FACTOR).await
            }
        }
    }

    /// Adds a voucher, and which channel it is for.
    fn sign_voucher(
        &self,
        payload: &mut Object,
        escrow: &Escrow,
        descriptor: &Descriptor,
        owed: u128,
    ) -> Result<(), PayError> {
        let key = self.voucher_key().map_err(|_| PayError::Refused)?;
        let voucher = key.sign(escrow, descriptor.id(escrow), owed).ok_or(PayError::Refused)?;
        let signature = Bytes::from(voucher.signature);
        payload.insert("cumulativeAmount".into(), owed.to_string().into());
        payload.insert("signature".into(), signature.to_string().into());
        name(payload, escrow, descriptor);
        Ok(())
    }
}

/// Adds which channel a payload is about.
fn name(payload: &mut Object, escrow: &Escrow, descriptor: &Descriptor) {
    payload.insert("channelId".into(), descriptor.id(escrow).to_string().into());
    if escrow.family == Family::TempoV2 {
        payload.insert("descriptor".into(), descriptor.write().into());
    }
}

impl Leave {
    /// What is said to the escrow.
    pub(crate) fn input(self, escrow: &Escrow, descriptor: &Descriptor) -> Vec<u8> {
        let channel = descriptor.id(escrow);
        match (escrow.family, self) {
            (Family::TempoV2, Self::RequestClose) => {
                reserve::requestCloseCall { descriptor: descriptor.into() }.abi_encode()
            }
            (Family::TempoV2, Self::Withdraw) => {
                reserve::withdrawCall { descriptor: descriptor.into() }.abi_encode()
            }
            (Family::TempoV1 | Family::Evm, Self::RequestClose) => {
                contract::requestCloseCall { channelId: channel }.abi_encode()
            }
            (Family::TempoV1 | Family::Evm, Self::Withdraw) => {
                contract::withdrawCall { channelId: channel }.abi_encode()
            }
        }
    }
}
