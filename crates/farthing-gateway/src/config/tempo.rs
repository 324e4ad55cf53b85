//! How to be paid on Tempo, as it is written.

use std::fmt;
use std::time::Duration;

use farthing_ledger::Holder;
use farthing_money::{Amount, Asset, AssetId, Assets};
use farthing_rail_tempo::session::{Escrow, Family, RESERVE};
use farthing_rail_tempo::{
    Address, MalformedAddress, Split, SponsorLimits, Token, Tokens, Url, parse_node,
};
use toml::Spanned;
use zeroize::Zeroizing;

use super::{Read, Reader, raw};

/// How long a day is, as the sponsor's budgets count it: from the first payment on.
const DAY: Duration = Duration::from_hours(24);

/// What a sponsor pays for one payment unless the seller says otherwise, in hundredths of the asset.
const PER_PAYMENT_MAX: &str = "0.05";

/// What is forgone at a close so as not to take more than was spent, unless the seller says otherwise.
const FORGONE_MAX: &str = "0.01";

/// What the network may be paid for one charge of a subscription, unless the seller says otherwise: the first
/// writes a key down.
const CHARGE_FEE_MAX: &str = "0.25";

/// For how many periods a subscription is authorised, unless the seller says otherwise, and at most.
const PERIODS: u32 = 12;
const PERIODS_MAX: u32 = 1_000;

/// The most splits of one charge.
const SPLITS_MAX: usize = 10;

/// How to be paid on Tempo.
#[derive(Clone, PartialEq, Eq)]
pub struct TempoConfig {
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
    /// Whether buyers may send a payment themselves and show its hash.
    pub push: bool,
    /// How many blocks a payment has to be deep.
    pub confirmations: u64,
    /// How long to wait for a payment.
    pub settle_timeout: Duration,
    /// Who pays the network's fees, if not the buyers.
    pub sponsor: Option<SponsorConfig>,
    /// Who else is paid out of each price.
    pub splits: Vec<Split>,
    /// The key of secp256k1 of the account that money is given back from.
    pub refund_key: Option<Zeroizing<[u8; 32]>>,
    /// How to be paid in sessions, if at all.
    pub session: Option<TempoSessionConfig>,
    /// How to be paid by the period, if at all.
    pub subscription: Option<TempoSubscriptionConfig>,
}

/// How to be paid by the period.
#[derive(Clone, PartialEq, Eq)]
pub struct TempoSubscriptionConfig {
    /// What new access keys are derived from.
    pub key: Zeroizing<[u8; 32]>,
    /// What those were derived from that are in use still.
    pub former: Vec<Zeroizing<[u8; 32]>>,
    /// For how many periods one is authorised at most.
    pub periods: u32,
    /// The most that the network may be paid for one charge, in atoms of what the sponsor pays in.
    pub fee_max: u128,
}

/// How to be paid in sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct TempoSessionConfig {
    /// Who holds the deposits: a contract, or the chain's own reserve.
    pub escrow: Escrow,
    /// The key of secp256k1 of the account that settles: the recipient's own, or, where the chain's own
    /// reserve holds the deposits, that of an operator.
    pub key: Zeroizing<[u8; 32]>,
    /// What that account pays the network's fees in.
    pub fee_token: Token,
    /// How much of what was spent is forgone at a close, at most, by asset: where no voucher says exactly
    /// that, and the escrow pays whatever a voucher says.
    pub forgone_max: Vec<Amount>,
}

/// Who pays the network's fees.
#[derive(Clone, PartialEq, Eq)]
pub struct SponsorConfig {
    /// Who signs.
    pub signer: SponsorSigner,
    /// What the fees are paid in.
    pub token: Token,
    /// How much of it.
    pub limits: SponsorLimits,
}

/// Who signs for the sponsor.
#[derive(Clone, PartialEq, Eq)]
pub enum SponsorSigner {
    /// The gateway, with this key of secp256k1.
    Key(Zeroizing<[u8; 32]>),
    /// A service at this address, which may contain a key.
    Relay(Url),
}

impl fmt::Debug for TempoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TempoConfig");
        debug.field("chain_id", &self.chain_id).field("recipient", &self.recipient);
        debug.finish_non_exhaustive()
    }
}

impl Reader<'_> {
    pub(super) fn tempo(&self, raw: &Spanned<raw::Rail>, assets: &Assets) -> Read<TempoConfig> {
        let rail = raw.get_ref();
        let missing = |name| self.fault(raw, format!("the tempo rail needs {name}"));
        let recipient = rail.recipient.as_ref().ok_or_else(|| missing("recipient = \"0x…\""))?;
        let nodes = self.chain_nodes(raw, "tempo")?;
        let tokens = self.chain_tokens(raw, "tempo", assets)?;
        let sponsor = rail.sponsor.as_ref().map(|sponsor| self.sponsor(sponsor, &tokens));
        let session = rail.session.as_ref().map(|it| self.tempo_session(it, raw, &tokens, assets));
        let push = rail.push.unwrap_or(false);
        if let Some(sponsor) = rail.sponsor.as_ref().filter(|_| push) {
            let what = "a payment that a buyer sends has its fee paid: push or sponsor, not both";
            return Err(self.fault(sponsor, what));
        }
        let sponsor = sponsor.transpose()?;
        let subscription =
            rail.subscription.as_ref().map(|it| self.tempo_subscription(it, sponsor.as_ref()));
        let millis = |set: Option<u64>, usual| Duration::from_millis(set.unwrap_or(usual));
        Ok(TempoConfig {
            // A chain that is guessed is somebody else's money.
            chain_id: rail.chain_id.ok_or_else(|| missing("chain_id"))?,
            nodes,
            node_timeout: millis(rail.node_timeout_ms, 5_000),
            recipient: self.address(recipient)?,
            tokens,
            push,
            confirmations: rail.confirmations.unwrap_or(1).max(1),
            settle_timeout: millis(rail.settle_timeout_ms, 20_000),
            sponsor,
            splits: self.splits(raw)?,
            refund_key: rail.refund_key.as_ref().map(|key| self.key(key)).transpose()?,
            session: session.transpose()?,
            subscription: subscription.transpose()?,
        })
    }

    /// Subscriptions are charged with keys that may pay no fee, so that a sponsor does.
    fn tempo_subscription(
        &self,
        raw: &Spanned<raw::RailSubscription>,
        sponsor: Option<&SponsorConfig>,
    ) -> Read<TempoSubscriptionConfig> {
        let subscription = raw.get_ref();
        let needs =
            "subscriptions on tempo need [rails.tempo.sponsor], who pays the network's fees";
        let sponsor = sponsor.ok_or_else(|| self.fault(raw, needs))?;
        let keys = subscription.keys.iter().map(|key| self.key(key)).collect::<Read<Vec<_>>>()?;
        let none =
            "keys = [\"env:NAME\"]: what access keys are derived from, the current one first";
        let mut keys = keys.into_iter();
        let key = keys.next().ok_or_else(|| self.fault(raw, none))?;
        let periods = subscription.periods.as_ref();
        if let Some(periods) = periods.filter(|it| !(1..=PERIODS_MAX).contains(it.get_ref())) {
            return Err(self.fault(periods, "a subscription is authorised for 1 to 1000 periods"));
        }
        let asset = &sponsor.token.asset;
        let fee_max = subscription.fee_max.as_ref().map(|it| self.atoms(it, asset)).transpose()?;
        let usual = || asset.parse(CHARGE_FEE_MAX).map_or(0, |amount| amount.atoms());
        Ok(TempoSubscriptionConfig {
            key,
            former: keys.collect(),
            periods: periods.map_or(PERIODS, |it| *it.get_ref()),
            fee_max: fee_max.unwrap_or_else(usual),
        })
    }

    /// The nodes of a rail's chain.
    pub(super) fn chain_nodes(&self, raw: &Spanned<raw::Rail>, name: &str) -> Read<Vec<Url>> {
        let nodes = raw.get_ref().nodes.as_deref().filter(|nodes| !nodes.is_empty());
        let missing = || self.fault(raw, format!("the {name} rail needs nodes = [\"https://…\"]"));
        nodes.ok_or_else(missing)?.iter().map(|node| self.node(node)).collect()
    }

    /// The tokens of a rail's chain.
    pub(super) fn chain_tokens(
        &self,
        raw: &Spanned<raw::Rail>,
        name: &str,
        assets: &Assets,
    ) -> Read<Tokens> {
        let tokens = raw.get_ref().tokens.as_ref().filter(|tokens| !tokens.is_empty());
        let missing =
            || self.fault(raw, format!("the {name} rail needs tokens = {{ usd = \"0x…\" }}"));
        let token = |(name, address): (&String, &Spanned<String>)| {
            let asset = AssetId::new(name).ok().and_then(|id| assets.get(&id));
            let unknown = || format!("there is no asset called {name} in [assets]");
            let asset = asset.ok_or_else(|| self.fault(address, unknown()))?.clone();
            Ok(Token { asset, address: self.address(address)? })
        };
        Ok(Tokens::new(tokens.ok_or_else(missing)?.iter().map(token).collect::<Read<_>>()?))
    }

    fn tempo_session(
        &self,
        raw: &Spanned<raw::Session>,
        rail: &Spanned<raw::Rail>,
        tokens: &Tokens,
        assets: &Assets,
    ) -> Read<TempoSessionConfig> {
        let session = raw.get_ref();
        let missing = || self.fault(rail, "the tempo rail needs chain_id");
        let chain_id = rail.get_ref().chain_id.ok_or_else(missing)?;
        let escrow = match &session.escrow {
            Some(address) => Escrow::new(Family::TempoV1, chain_id, self.address(address)?),
            None => Escrow::new(Family::TempoV2, chain_id, RESERVE),
        };
        let key = self.key(&session.key)?;
        let recipient = rail.get_ref().recipient.as_ref();
        let recipient = recipient.map(|it| self.address(it)).transpose()?;
        // A contract pays the recipient alone, and only when it asks itself.
        if escrow.family == Family::TempoV1 && Address::of_secret(&key) != recipient {
            let what = "the escrow settles for the recipient alone: the key has to be its own";
            return Err(self.fault(&session.key, what));
        }
        if session.evm_only().is_some() {
            let what = "gas_asset, fee_max_gwei, replace_after_ms and relays are for rails.evm";
            return Err(self.fault(raw, what));
        }
        let missing = || self.fault(raw, "fee_asset says what the account pays its fees in");
        let name = session.fee_asset.as_ref().ok_or_else(missing)?;
        let token = AssetId::new(name.get_ref()).ok().and_then(|id| tokens.named(&id));
        let token = token.ok_or_else(|| self.fault(name, "fees are paid in one of the tokens"))?;
        let forgone_max = self.forgone_max(session, tokens, assets)?;
        Ok(TempoSessionConfig { escrow, key, fee_token: token.clone(), forgone_max })
    }

    /// How much of what was spent is forgone at a close, at most.
    pub(super) fn forgone_max(
        &self,
        session: &raw::Session,
        tokens: &Tokens,
        assets: &Assets,
    ) -> Read<Vec<Amount>> {
        match &session.forgone_max {
            Some(amounts) => self.prices(amounts, assets),
            None => Ok(tokens.iter().filter_map(|it| it.asset.parse(FORGONE_MAX).ok()).collect()),
        }
    }

    fn sponsor(&self, raw: &Spanned<raw::Sponsor>, tokens: &Tokens) -> Read<SponsorConfig> {
        let sponsor = raw.get_ref();
        let signer = match (&sponsor.key, &sponsor.relay) {
            (Some(key), None) => SponsorSigner::Key(self.key(key)?),
            (None, Some(relay)) => SponsorSigner::Relay(self.node(relay)?),
            (Some(_), Some(_)) | (None, None) => {
                let what = "a sponsor signs with key = \"env:NAME\", or lets relay = \"https://…\"";
                return Err(self.fault(raw, what));
            }
        };
        let name = &sponsor.asset;
        let token = AssetId::new(name.get_ref()).ok().and_then(|id| tokens.named(&id));
        let token = token.ok_or_else(|| self.fault(name, "fees are paid in one of the tokens"))?;
        let amount = |text: &Spanned<String>| self.atoms(text, &token.asset);
        let usual = || token.asset.parse(PER_PAYMENT_MAX).map_or(0, |amount| amount.atoms());
        let per_payment = sponsor.per_payment_max.as_ref().map(amount).transpose()?;
        let per_payment = per_payment.unwrap_or_else(usual);
        let balance_min = sponsor.balance_min.as_ref().map(amount).transpose()?;
        Ok(SponsorConfig {
            signer,
            token: token.clone(),
            limits: SponsorLimits {
                per_payment,
                per_payer: amount(&sponsor.per_payer_per_day)?,
                total: amount(&sponsor.total_per_day)?,
                period: DAY,
                balance_min: balance_min.unwrap_or(per_payment),
            },
        })
    }

    fn splits(&self, raw: &Spanned<raw::Rail>) -> Read<Vec<Split>> {
        let splits = raw.get_ref().splits.as_deref().unwrap_or_default();
        if splits.len() > SPLITS_MAX {
            return Err(self.fault(raw, "a price is split into ten parts at most"));
        }
        let splits: Vec<Split> =
            splits.iter().map(|split| self.split(split)).collect::<Read<_>>()?;
        let total: u32 = splits.iter().map(|split| u32::from(split.basis_points)).sum();
        if total >= 10_000 {
            return Err(self.fault(raw, "the splits leave the seller nothing"));
        }
        Ok(splits)
    }

    fn split(&self, raw: &Spanned<raw::Split>) -> Read<Split> {
        let split = raw.get_ref();
        let payee = Holder::new(split.payee.get_ref());
        let percent = AssetId::new("percent").ok().and_then(|id| Asset::new(id, 2).ok());
        let points = percent.and_then(|percent| percent.parse(split.percent.get_ref()).ok());
        let points = points.and_then(|points| u16::try_from(points.atoms()).ok());
        let points = points.filter(|points| (1..10_000).contains(points));
        let share = "a share is a percentage such as \"2.5\", above 0 and below 100";
        Ok(Split {
            payee: payee.map_err(|error| self.fault(&split.payee, error.to_string()))?,
            recipient: self.address(&split.recipient)?,
            basis_points: points.ok_or_else(|| self.fault(&split.percent, share))?,
        })
    }

    fn atoms(&self, text: &Spanned<String>, asset: &Asset) -> Read<u128> {
        let amount = asset.parse(text.get_ref());
        amount.map(|it| it.atoms()).map_err(|error| self.fault(text, error.to_string()))
    }

    pub(super) fn address(&self, text: &Spanned<String>) -> Read<Address> {
        text.get_ref()
            .parse()
            .map_err(|error: MalformedAddress| self.fault(text, error.to_string()))
    }

    /// A key of secp256k1, from where it stands.
    pub(super) fn key(&self, name: &Spanned<String>) -> Read<Zeroizing<[u8; 32]>> {
        parse_chain_key(&Zeroizing::new(self.secret(name)?)).map_err(|what| self.fault(name, what))
    }

    /// A node's address, or where it stands: providers put keys into theirs.
    fn node(&self, text: &Spanned<String>) -> Read<Url> {
        let hidden = ["env:", "file:"].iter().any(|place| text.get_ref().starts_with(place));
        let found = if hidden { self.secret(text)? } else { text.get_ref().clone() };
        let url = parse_node(&found);
        url.ok_or_else(|| self.fault(text, "a node is an http or https URL, or env:NAME of one"))
    }
}

/// Reads a key of secp256k1: 64 hexadecimal digits.
///
/// # Errors
///
/// What is wrong, in words; never the key.
pub fn parse_chain_key(text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at.saturating_add(2))?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(Zeroizing::new(bytes).as_slice()).ok());
    let key = key.filter(|key| Address::of_secret(key).is_some()).map(Zeroizing::new);
    key.ok_or("a key of secp256k1 is 64 hexadecimal digits")
}
