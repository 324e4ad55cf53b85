//! A rail with sessions that is somebody else's: it keeps deposits, and knows what it has paid of which.
//!
//! It takes several vouchers in one go, leaves those out that are not signed for it, and can lose its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_core::{
    Action, BoxFuture, ChannelFate, Evidence, Held, Object, Presented, Rail, RailRules, Refunds,
    Rejection, SessionPrice, SessionRail, SessionRules, SettleError, Settled, SettledInAll,
    Unquotable,
};
use farthing_ledger::{
    Account, Channel, ChannelDeposit, ChannelFacts, ChannelId, ChannelOpening, ChannelSeen,
    ChannelStep, ChannelsHeard, ClaimRequest, Fingerprint, Holder, Money, Payment, PaymentId,
    Proof, Settlement, Source, TraceId, Voucher, VoucherClaim,
};
use farthing_money::{Amount, Timestamp};

use crate::store::{START, asset, challenge, holder, purchase};

/// Its payment method.
pub const METHOD: &str = "vault";

/// What its vouchers are signed with.
pub const SIGNED: &str = "signed";

const RULES: RailRules = RailRules {
    authorised: "nothing: it has sessions only",
    settled: "nothing",
    reversed: "never",
    reference: "none",
    holds: false,
    refunds: Refunds::Never,
    recheck_after: None,
};

const SESSIONS: SessionRules = SessionRules {
    authorised: "a signed voucher",
    settled: "the vault's word",
    captures_spent: false,
    heard_within: Some(Duration::from_mins(1)),
    ascertains: false,
};

/// The rail. Its clock is what it was told last.
#[derive(Default)]
pub struct Vault(Mutex<Truth>);

/// What is true of the vault.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// What it has paid of which channel, in atoms.
    pub paid: BTreeMap<ChannelId, u128>,
    /// The channels it has closed.
    pub closed: BTreeSet<ChannelId>,
    /// How many channels each of its transactions was about.
    pub transactions: Vec<usize>,
    /// How often it was asked about one channel.
    pub inquiries: usize,
    /// How often it was asked what it has to tell.
    pub listened: usize,
    /// What it has to tell of since somebody asked last.
    pub told: BTreeSet<ChannelId>,
    /// Whose payer has asked for the rest, and from when on it is paid out.
    pub close_requested: BTreeMap<ChannelId, Timestamp>,
    /// Its time.
    pub now: Timestamp,
    /// How many of its next answers are lost.
    pub answers_lost: usize,
    /// Whether it cannot be reached.
    pub is_down: bool,
}

impl Vault {
    /// What is true of it, to look at or to change.
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pays by several vouchers, in one transaction.
    fn pay(&self, channels: &[Channel], closes: bool) -> Vec<Result<SettledInAll, SettleError>> {
        let mut truth = self.truth();
        if truth.is_down {
            return vec![Err(SettleError::Unsent); channels.len()];
        }
        let reference = format!("vault-{}", truth.transactions.len());
        let (mut came, mut count) = (Vec::new(), 0);
        for channel in channels {
            let id = channel.facts.id.clone();
            let before = truth.paid.get(&id).copied().unwrap_or(0);
            let covered = channel.covered().filter(|it| it.cumulative > before);
            let is_new = covered.is_some() || (closes && !truth.closed.contains(&id));
            if covered.as_ref().is_some_and(|voucher| *voucher.signature != *SIGNED) {
                came.push(Err(SettleError::Declined));
                continue;
            }
            let atoms = covered.map_or(before, |voucher| voucher.cumulative);
            count += usize::from(is_new);
            truth.paid.insert(id.clone(), atoms);
            if closes {
                truth.closed.insert(id);
            }
            let settled = Settled::new(reference.clone());
            came.push(Ok(SettledInAll { atoms, settled }));
        }
        if count > 0 {
            truth.transactions.push(count);
        }
        if truth.answers_lost > 0 {
            truth.answers_lost -= 1;
            return vec![Err(SettleError::Unknown); channels.len()];
        }
        came
    }
}

impl Rail for Vault {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn rules(&self) -> &'static RailRules {
        &RULES
    }

    fn quote(&self, _amount: &Amount, _payee: &Holder) -> Result<Object, Unquotable> {
        Err(Unquotable::Amount)
    }

    fn check(&self, _presented: &Presented, _now: Timestamp) -> Result<Evidence, Rejection> {
        Err(Rejection::Unsupported)
    }

    fn settle<'a>(&'a self, _held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async { Err(SettleError::Declined) })
    }

    fn inquire<'a>(&'a self, _: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(async { Err(SettleError::Unknown) })
    }

    fn session(&self) -> Option<&dyn SessionRail> {
        Some(self)
    }
}

impl SessionRail for Vault {
    fn session_rules(&self) -> &'static SessionRules {
        &SESSIONS
    }

    fn quote_session(&self, _: &SessionPrice, _: &Holder) -> Result<Object, Unquotable> {
        Err(Unquotable::Amount)
    }

    fn check_action(&self, _: &Presented, _: Timestamp) -> Result<Action, Rejection> {
        Err(Rejection::Unsupported)
    }

    fn settle_voucher<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(async { self.pay(std::slice::from_ref(channel), false).remove(0) })
    }

    fn close<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(async { self.pay(std::slice::from_ref(channel), true).remove(0) })
    }

    fn settle_vouchers<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(async { self.pay(channels, false) })
    }

    fn close_channels<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(async { self.pay(channels, true) })
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<ChannelsHeard>, SettleError>> {
        Box::pin(async {
            let mut truth = self.truth();
            if truth.is_down {
                return Err(SettleError::Unsent);
            }
            truth.listened += 1;
            let anew = truth.listened == 1;
            let told = std::mem::take(&mut truth.told).into_iter().collect();
            Ok(Some(ChannelsHeard { method: METHOD.to_owned(), at: truth.now, told, anew }))
        })
    }

    fn inquire_channel<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<ChannelFate, SettleError>> {
        Box::pin(async {
            let mut truth = self.truth();
            truth.inquiries += 1;
            let id = &channel.facts.id;
            let settled = truth.paid.get(id).copied().unwrap_or(0);
            if truth.closed.contains(id) {
                let settled =
                    SettledInAll { atoms: settled, settled: Settled::new("vault".into()) };
                return Ok(ChannelFate::Closed(settled));
            }
            let close_requested = truth.close_requested.get(id).copied();
            Ok(ChannelFate::There(ChannelSeen { at: truth.now, settled, close_requested }))
        })
    }
}

/// Alice's channel in the vault called `name`.
///
/// # Panics
///
/// If the name cannot name a channel.
#[must_use]
pub fn channel(name: &str) -> ChannelId {
    ChannelId::new(METHOD, name).unwrap()
}

/// The steps that open it with `atoms`.
#[must_use]
pub fn opening(name: &str, atoms: u128) -> [ChannelStep; 2] {
    let opening = ChannelOpening {
        facts: ChannelFacts {
            id: channel(name),
            trace: TraceId::new(START, [9; 10]),
            payer: "alice".into(),
            payee: holder("seller"),
            asset: asset(),
            signer: "alice".into(),
            binding: Fingerprint::of("binding", &[]),
            inquiry: None,
            cash: Some(clearing(METHOD)),
        },
        deposit: deposit(&format!("open {name}"), atoms),
        voucher: None,
    };
    let settlement = Settlement::new("vault".into(), START);
    [
        ChannelStep::Open(Box::new(opening)),
        ChannelStep::Confirm { channel: channel(name), settlement },
    ]
}

/// Deposits `atoms` more, once for each `deposit_name`; the rail is to confirm it.
#[must_use]
pub fn topping_up(name: &str, deposit_name: &str, atoms: u128) -> ChannelStep {
    ChannelStep::TopUp {
        channel: channel(name),
        payer: "alice".into(),
        binding: Fingerprint::of("binding", &[]),
        deposit: Box::new(deposit(deposit_name, atoms)),
    }
}

fn deposit(name: &str, atoms: u128) -> ChannelDeposit {
    let keep_until = Some(START.after(Duration::from_mins(5)));
    ChannelDeposit {
        atoms,
        from: Source::Account(clearing("vault-escrow")),
        money: Money::Rail,
        order: Some("order".into()),
        proofs: vec![Proof { fingerprint: challenge(name), keep_until }],
    }
}

fn clearing(holder: &str) -> Account {
    format!("clearing/{holder}/usd").parse().unwrap()
}

/// A request to buy something for `atoms` with the voucher over `cumulative` of the channel called `name`.
#[must_use]
pub fn voucher_purchase(
    name: &str,
    cumulative: u128,
    atoms: u128,
    signature: &str,
) -> ClaimRequest {
    let channel = channel(name);
    let identity = channel.voucher(cumulative);
    let mut request = purchase(&format!("{name} {cumulative}"), atoms);
    request.payment.id = PaymentId::of(&identity);
    request.payment.payer = String::new();
    request.proofs[0].fingerprint = identity;
    request.legs[0].from = Source::Account(channel.account(&asset()));
    request.voucher = Some(Box::new(VoucherClaim {
        voucher: Voucher { channel, cumulative, signature: signature.into() },
        signer: "alice".into(),
        binding: Fingerprint::of("binding", &[]),
        delta_min: 0,
        heard_since: None,
    }));
    request
}
