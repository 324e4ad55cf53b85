//! How to be paid in sessions on an EVM chain, as it is written.

use std::fmt;
use std::time::Duration;

use farthing_money::{Amount, Asset, AssetId, Assets};
use farthing_rail_tempo::session::{Escrow, Family};
use farthing_rail_tempo::{Address, Tokens, Url};
use toml::Spanned;
use zeroize::Zeroizing;

use super::{Read, Reader, raw};

/// A unit of gas is priced in billionths.
const WEI_PER_GWEI: u128 = 1_000_000_000;

/// How long a transaction waits before it is replaced, unless the seller says otherwise.
const REPLACE_AFTER_MS: u64 = 15_000;

/// How long a deposit, or an outcome, is waited for, unless the seller says otherwise.
const SETTLE_TIMEOUT_MS: u64 = 60_000;

/// How to be paid in sessions on an EVM chain.
#[derive(Clone, PartialEq, Eq)]
pub struct EvmConfig {
    /// The chain's number.
    pub chain_id: u64,
    /// Its nodes, in the order they are asked. They may contain keys.
    pub nodes: Vec<Url>,
    /// How long a node may take to answer.
    pub node_timeout: Duration,
    /// Who is paid on the chain.
    pub recipient: Address,
    /// The tokens that are the assets on the chain.
    pub tokens: Tokens,
    /// How many blocks a deposit, or a settlement, has to be deep.
    pub confirmations: u64,
    /// How long to wait for that.
    pub settle_timeout: Duration,
    /// Who holds the deposits and who settles; nothing where there is no escrow yet.
    pub session: Option<EvmSessionConfig>,
}

/// Who holds the deposits and who settles.
#[derive(Clone, PartialEq, Eq)]
pub struct EvmSessionConfig {
    /// The contract.
    pub escrow: Escrow,
    /// The key of secp256k1 of the recipient's own account.
    pub key: Zeroizing<[u8; 32]>,
    /// How much of what was spent is forgone at a close, at most, by asset.
    pub forgone_max: Vec<Amount>,
    /// What gas is paid in, where the book counts it.
    pub gas_asset: Option<Asset>,
    /// The most that is offered for a unit of gas, in the smallest unit of the chain's coin.
    pub fee_max: Option<u128>,
    /// How long a transaction waits before it is replaced.
    pub replace_after: Duration,
    /// Whether the account sends, at its expense, deposits that payers have signed for.
    pub relays: bool,
}

impl fmt::Debug for EvmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("EvmConfig");
        debug.field("chain_id", &self.chain_id).field("recipient", &self.recipient);
        debug.finish_non_exhaustive()
    }
}

impl Reader<'_> {
    pub(super) fn evm(&self, raw: &Spanned<raw::Rail>, assets: &Assets) -> Read<EvmConfig> {
        let rail = raw.get_ref();
        let missing = |name| self.fault(raw, format!("the evm rail needs {name}"));
        let only_tempos = rail.push.is_some()
            || rail.sponsor.is_some()
            || rail.splits.is_some()
            || rail.refund_key.is_some();
        if only_tempos || rail.teller.is_some() {
            let what = "the evm rail has sessions alone: no push, sponsor, splits or refund_key";
            return Err(self.fault(raw, what));
        }
        let recipient = rail.recipient.as_ref().ok_or_else(|| missing("recipient = \"0x…\""))?;
        let recipient = self.address(recipient)?;
        // A chain that is guessed is somebody else's money.
        let chain_id = rail.chain_id.ok_or_else(|| missing("chain_id"))?;
        let tokens = self.chain_tokens(raw, "evm", assets)?;
        let session = rail.session.as_ref();
        let session =
            session.map(|it| self.evm_session(it, (chain_id, recipient), &tokens, assets));
        let millis = |set: Option<u64>, usual| Duration::from_millis(set.unwrap_or(usual));
        Ok(EvmConfig {
            chain_id,
            nodes: self.chain_nodes(raw, "evm")?,
            node_timeout: millis(rail.node_timeout_ms, 5_000),
            recipient,
            confirmations: rail.confirmations.unwrap_or(1).max(1),
            settle_timeout: millis(rail.settle_timeout_ms, SETTLE_TIMEOUT_MS),
            session: session.transpose()?,
            tokens,
        })
    }

    fn evm_session(
        &self,
        raw: &Spanned<raw::Session>,
        (chain_id, recipient): (u64, Address),
        tokens: &Tokens,
        assets: &Assets,
    ) -> Read<EvmSessionConfig> {
        let session = raw.get_ref();
        if let Some(fee_asset) = &session.fee_asset {
            let what = "gas is paid in the chain's coin: gas_asset, not fee_asset";
            return Err(self.fault(fee_asset, what));
        }
        let missing = || self.fault(raw, "sessions on an EVM chain need escrow = \"0x…\"");
        let escrow = self.address(session.escrow.as_ref().ok_or_else(missing)?)?;
        let key = self.key(&session.key)?;
        // The contract pays the recipient alone, and only when it asks itself.
        if Address::of_secret(&key) != Some(recipient) {
            let what = "the escrow settles for the recipient alone: the key has to be its own";
            return Err(self.fault(&session.key, what));
        }
        let coin = |name: &Spanned<String>| {
            let asset = AssetId::new(name.get_ref()).ok().and_then(|id| assets.get(&id).cloned());
            asset.ok_or_else(|| self.fault(name, "there is no asset of this name in [assets]"))
        };
        let fee_max = session.fee_max_gwei.as_ref();
        if let Some(none) = fee_max.filter(|gwei| *gwei.get_ref() == 0) {
            return Err(self.fault(none, "at no price nothing is mined"));
        }
        let gwei = |gwei: &Spanned<u64>| u128::from(*gwei.get_ref()).saturating_mul(WEI_PER_GWEI);
        let pace = session.replace_after_ms.as_ref().map_or(REPLACE_AFTER_MS, |it| *it.get_ref());
        Ok(EvmSessionConfig {
            escrow: Escrow::new(Family::Evm, chain_id, escrow),
            key,
            forgone_max: self.forgone_max(session, tokens, assets)?,
            gas_asset: session.gas_asset.as_ref().map(coin).transpose()?,
            fee_max: fee_max.map(gwei),
            replace_after: Duration::from_millis(pace),
            relays: session.relays.as_ref().is_some_and(|it| *it.get_ref()),
        })
    }
}
