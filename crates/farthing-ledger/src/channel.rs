//! Channels: one authorisation, and the many small payments made on it.
//!
//! ```text
//!            deposit                 voucher (cumulative, ever more)          what is left
//! payer ───────────────► channel ───────────────────────────────────► payee
//!   ▲                       │
//!   └───────────────────────┘ closed
//! ```
//!
//! The payer deposits once and then signs one *voucher* after another: each says how much the seller may
//! have taken in all. The highest one counts, so that thousands of payments settle as one.
//!
//! The deposit lies in an account whose holder is the channel. What is paid goes from it to the payee,
//! and closing gives back what is left: that a deposit is what was spent and what is left is thus what the
//! ledger conserves anyway.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use farthing_money::{AssetId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;
use crate::{
    Account, AccountKind, Fingerprint, Holder, Money, ParseAccountError, PaymentId, Proof,
    Settlement, Source, TraceId, TransferId,
};

/// Names a channel: the method, and the rail's own id of it. Written `prepaid:5f0c…`.
///
/// It is also the holder of the account that the deposit lies in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelId(Holder);

impl ChannelId {
    /// The channel that `method` knows as `id`, in the one spelling that the rail gives it.
    ///
    /// # Errors
    ///
    /// [`ParseAccountError`] where the two cannot name an account's holder.
    pub fn new(method: &str, id: &str) -> Result<Self, ParseAccountError> {
        format!("{method}:{id}").parse()
    }

    /// The payment method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.parts().0
    }

    /// The channel's id as the rail spells it.
    #[must_use]
    pub fn on_rail(&self) -> &str {
        self.parts().1
    }

    /// The account its deposit lies in.
    #[must_use]
    pub fn account(&self, asset: &AssetId) -> Account {
        Account::new(AccountKind::Channel, self.0.clone(), asset.clone())
    }

    /// The channel whose account this is, if it is one's.
    #[must_use]
    pub fn of(account: &Account) -> Option<Self> {
        match account.kind {
            AccountKind::Channel => Self::try_from(account.holder.to_string()).ok(),
            AccountKind::Funding
            | AccountKind::Prepaid
            | AccountKind::Clearing
            | AccountKind::Payable
            | AccountKind::Purse
            | AccountKind::Spent
            | AccountKind::PaidOut => None,
        }
    }

    /// What makes sure that a channel is opened once.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let fingerprint = Fingerprint::of("channel", &[self.0.as_str().as_bytes()]);
        Proof { fingerprint, keep_until: None }
    }

    /// What identifies the payment that is made by authorising `cumulative` on this channel.
    #[must_use]
    pub fn voucher(&self, cumulative: u128) -> Fingerprint {
        let parts = [self.0.as_str().as_bytes(), &cumulative.to_be_bytes()];
        Fingerprint::of("voucher", &parts)
    }

    fn parts(&self) -> (&str, &str) {
        self.0.as_str().split_once(':').unwrap_or_default()
    }
}

impl FromStr for ChannelId {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<Self, ParseAccountError> {
        let (method, id) = text.split_once(':').ok_or(ParseAccountError)?;
        let named = !method.is_empty() && !id.is_empty();
        if named { Holder::new(text).map(Self) } else { Err(ParseAccountError) }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for ChannelId {
    type Error = ParseAccountError;

    fn try_from(text: String) -> Result<Self, ParseAccountError> {
        text.parse()
    }
}

impl From<ChannelId> for String {
    fn from(id: ChannelId) -> Self {
        id.to_string()
    }
}

/// What is agreed on when a channel is opened, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelFacts {
    /// Names it.
    pub id: ChannelId,
    /// Names its story: what happened to the channel, and not the payments made on it.
    pub trace: TraceId,
    /// Who pays, as the method knows them.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// What is paid in.
    pub asset: AssetId,
    /// Who may sign vouchers, as the rail spells them.
    pub signer: String,
    /// Stands for everything the rail's vouchers are bound to: payee, asset, chain, escrow. An action
    /// that is presented for another binding is not one of this channel.
    pub binding: Fingerprint,
    /// What the rail needs to find the channel again and to settle it, in its own words. Not a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inquiry: Option<Box<str>>,
    /// Where what is settled on the rail arrives; nothing where the money is the book's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cash: Option<Account>,
}

/// A signed word for how much may have been taken from a channel in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// The channel.
    pub channel: ChannelId,
    /// How much in all, in atoms.
    #[serde(with = "atoms_text")]
    pub cumulative: u128,
    /// The signature, as the rail spells it. It can settle this much and nothing else.
    pub signature: Box<str>,
}

/// What is remembered of a voucher that was accepted before the highest one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierVoucher {
    /// How much in all, in atoms.
    #[serde(with = "atoms_text")]
    pub cumulative: u128,
    /// See [`Voucher::signature`].
    pub signature: Box<str>,
}

/// A voucher whose signature holds, and what it was signed for: the book decides whether that is what its
/// channel is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoucherClaim {
    /// The voucher.
    pub voucher: Voucher,
    /// Who has signed it, as the rail has verified it.
    pub signer: String,
    /// What it is bound to; see [`ChannelFacts::binding`].
    pub binding: Fingerprint,
    /// The least by which it must advance, in atoms.
    #[serde(with = "atoms_text")]
    pub delta_min: u128,
    /// The moment since which somebody must have heard of the channel from its rail; nothing where the
    /// book itself is the rail.
    pub heard_since: Option<Timestamp>,
}

/// Asks to open a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelOpening {
    /// What is agreed on.
    pub facts: ChannelFacts,
    /// The deposit.
    pub deposit: ChannelDeposit,
    /// A voucher that comes with it and is to be accepted in the same moment.
    pub voucher: Option<VoucherClaim>,
}

/// Money on its way into a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelDeposit {
    /// How much, in atoms.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
    /// Where it comes from, and where what is left goes back to.
    pub from: Source,
    /// Who moves it: the book at once, or the rail once it has carried the order out.
    pub money: Money,
    /// What the rail carries out, in its own words: a signed transaction. Written down before it is
    /// carried out, so it must not be a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<str>>,
    /// What must not be used again beside the channel's own name: the challenge, a transaction's hash.
    /// The first of them names the deposit.
    pub proofs: Vec<Proof>,
}

/// What somebody asks to be done with a channel. One step is one record, or none if it was done before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStep {
    /// Opens it. Opening the same again says where it stands.
    Open(Box<ChannelOpening>),
    /// Deposits more.
    TopUp {
        /// The channel.
        channel: ChannelId,
        /// Who deposits, as the rail has verified them; only the payer may.
        payer: String,
        /// See [`ChannelFacts::binding`].
        binding: Fingerprint,
        /// How much, and whence.
        deposit: Box<ChannelDeposit>,
    },
    /// The rail has carried a deposit out.
    Confirm {
        /// The channel.
        channel: ChannelId,
        /// The rail's word.
        settlement: Settlement,
    },
    /// The rail has not carried a deposit out and never will. A channel that was to be opened with it is
    /// closed.
    Abandon {
        /// The channel.
        channel: ChannelId,
    },
    /// Accepts a voucher that buys nothing yet.
    Vouch(Box<VoucherClaim>),
    /// Takes more for an answer that is being given, from what vouchers have authorised.
    Take {
        /// The channel.
        channel: ChannelId,
        /// The payment that the answer is given for, which was made on this channel.
        payment: PaymentId,
        /// How much, in atoms.
        #[serde(with = "atoms_text")]
        atoms: u128,
        /// How many units that is.
        units: u64,
    },
    /// Gives back what was taken for an answer and bought nothing: to the channel, or to the payer's account
    /// with us once it is closed.
    Return {
        /// The channel.
        channel: ChannelId,
        /// The payment that it was taken for.
        payment: PaymentId,
        /// How much of what was taken is kept, in atoms, the price aside. The rest goes back, however much it
        /// is: what was taken without an acknowledgement too.
        #[serde(with = "atoms_text")]
        keep: u128,
    },
    /// Notes what the rail says of it by now.
    Note {
        /// The channel.
        channel: ChannelId,
        /// What it says.
        seen: ChannelSeen,
    },
    /// Notes that a voucher was settled on the rail while the channel stays open.
    Settle {
        /// The channel.
        channel: ChannelId,
        /// How much was settled in all, in atoms. It must be more than before.
        #[serde(with = "atoms_text")]
        settled: u128,
        /// The rail's word.
        settlement: Settlement,
    },
    /// Notes that a channel that is to be closed is not, and that time is running out.
    Overdue {
        /// The channel.
        channel: ChannelId,
    },
    /// Closes it: no voucher counts from here on. Where the book itself is the rail, what is left goes back
    /// in the same moment; elsewhere the rail is to be told.
    Close {
        /// The channel.
        channel: ChannelId,
        /// The payer's last voucher, where the payer asks for it.
        voucher: Option<Box<VoucherClaim>>,
        /// Whether that voucher must say exactly what was spent, since the rail settles what it says.
        exactly: bool,
    },
    /// Notes that the rail has closed it, whoever asked for it.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// How much was settled in all, in atoms.
        #[serde(with = "atoms_text")]
        settled: u128,
        /// The rail's word.
        settlement: Settlement,
    },
}

impl ChannelStep {
    /// The channel it is about.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        match self {
            Self::Open(opening) => &opening.facts.id,
            Self::Vouch(claim) => &claim.voucher.channel,
            Self::TopUp { channel, .. }
            | Self::Confirm { channel, .. }
            | Self::Abandon { channel }
            | Self::Overdue { channel }
            | Self::Take { channel, .. }
            | Self::Return { channel, .. }
            | Self::Note { channel, .. }
            | Self::Settle { channel, .. }
            | Self::Close { channel, .. }
            | Self::Closed { channel, .. } => channel,
        }
    }
}

/// What a rail says of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSeen {
    /// When the rail said so.
    pub at: Timestamp,
    /// How much was settled in all, in atoms.
    #[serde(with = "atoms_text")]
    pub settled: u128,
    /// From when on the payer may take back what is not settled, if the payer has asked to close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_requested: Option<Timestamp>,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Its deposit is on its way.
    Opening,
    /// Vouchers count.
    Open,
    /// The payer has asked the rail to close: no voucher counts, and what was accepted is to be settled in
    /// time. A payer may think better of it.
    CloseRequested {
        /// From when on the payer may take back what is not settled.
        until: Timestamp,
    },
    /// It is being closed: no voucher counts any more.
    Closing,
    /// It is closed, for good.
    Closed,
}

impl ChannelState {
    /// Its name, as listings and metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::CloseRequested { .. } => "close_requested",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// A channel, as the book knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What is agreed on.
    pub facts: ChannelFacts,
    /// Where it stands.
    pub state: ChannelState,
    /// Where the deposit came from.
    pub source: Account,
    /// How much was deposited, in atoms.
    #[serde(with = "atoms_text")]
    pub deposit: u128,
    /// How much vouchers have authorised in all, in atoms.
    #[serde(with = "atoms_text")]
    pub accepted: u128,
    /// How much was taken in all, in atoms. Kept for as long as the channel lives.
    #[serde(with = "atoms_text")]
    pub spent: u128,
    /// How much of it was settled on the rail, in atoms.
    #[serde(with = "atoms_text")]
    pub settled: u128,
    /// How much was given back when it was closed, in atoms.
    #[serde(with = "atoms_text")]
    pub returned: u128,
    /// The highest voucher.
    pub voucher: Option<Voucher>,
    /// Some of those before it, the lowest first, where a rail settles what one of them says. Bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierVoucher>,
    /// The deposit that is on its way, if one is.
    pub pending: Option<PendingDeposit>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last used, or topped up.
    pub used_at: Timestamp,
    /// Since when more was taken than was settled, where a rail settles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_since: Option<Timestamp>,
    /// Its closing, from when somebody has asked for it until it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Closing>,
}

/// A close that was asked for and is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// Since when.
    pub since: Timestamp,
    /// From when on the payer may take back what is not settled, where the payer has asked the rail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it was noted that time is running out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_overdue: bool,
}

impl Closing {
    /// From when on it is late: half of the time that the payer has to wait, and never more than `patience`.
    #[must_use]
    pub fn late_at(&self, patience: Duration) -> Timestamp {
        let whole = self.until.map(|until| until.since(self.since));
        let half = whole.and_then(|whole| whole.checked_div(2));
        self.since.after(half.map_or(patience, |half| half.min(patience)))
    }
}

/// A deposit that the rail has not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingDeposit {
    /// Names it: the first of its proofs.
    pub named: Fingerprint,
    /// How much, in atoms.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
    /// The transfer that waits.
    pub transfer: TransferId,
    /// What the rail is to carry out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<str>>,
}

impl Channel {
    /// How much vouchers have authorised and nobody has taken yet, in atoms.
    #[must_use]
    pub const fn available(&self) -> u128 {
        self.accepted.saturating_sub(self.spent)
    }

    /// How much of the deposit was not taken, in atoms: what closing gives back.
    #[must_use]
    pub const fn refundable(&self) -> u128 {
        match self.state {
            ChannelState::Closed => 0,
            ChannelState::Opening
            | ChannelState::Open
            | ChannelState::CloseRequested { .. }
            | ChannelState::Closing => self.deposit.saturating_sub(self.spent),
        }
    }

    /// The highest voucher that was kept and says no more than was taken: settling by it takes nothing that
    /// was not earned.
    #[must_use]
    pub fn covered(&self) -> Option<Voucher> {
        self.vouchers().rfind(|(cumulative, _)| *cumulative <= self.spent).map(self.as_one())
    }

    /// The lowest voucher that was kept and says no less than was taken: what it says beyond that, the payer
    /// has authorised and not used.
    #[must_use]
    pub fn covering(&self) -> Option<Voucher> {
        self.vouchers().find(|(cumulative, _)| *cumulative >= self.spent).map(self.as_one())
    }

    /// How much could be settled now without taking what was not earned, in atoms.
    #[must_use]
    pub fn due(&self) -> u128 {
        let mut vouchers = self.vouchers().map(|(cumulative, _)| cumulative);
        let covered = vouchers.rfind(|it| *it <= self.spent);
        covered.unwrap_or(0).saturating_sub(self.settled)
    }

    /// How much was taken and is not settled, where a rail settles it, in atoms.
    #[must_use]
    pub const fn owed(&self) -> u128 {
        if self.facts.cash.is_some() { self.spent.saturating_sub(self.settled) } else { 0 }
    }

    /// Every voucher that was kept, the lowest first.
    fn vouchers(&self) -> impl DoubleEndedIterator<Item = (u128, &str)> {
        let earlier = self.earlier.iter().map(|it| (it.cumulative, &*it.signature));
        earlier.chain(self.voucher.iter().map(|it| (it.cumulative, &*it.signature)))
    }

    fn as_one(&self) -> impl Fn((u128, &str)) -> Voucher {
        |(cumulative, signature)| Voucher {
            channel: self.facts.id.clone(),
            cumulative,
            signature: signature.into(),
        }
    }

    /// Where it stands, in figures, to somebody who wants to take `atoms` with a voucher that advances by
    /// at least `delta_min`.
    #[must_use]
    pub fn figures(&self, atoms: u128, delta_min: u128) -> ChannelFigures {
        let enough = self.spent.saturating_add(atoms);
        let advancing = self.accepted.saturating_add(delta_min.max(1));
        ChannelFigures {
            required: enough.max(advancing),
            accepted: self.accepted,
            spent: self.spent,
            deposit: self.deposit,
        }
    }
}

/// What has changed of a book's channels since somebody last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelNews {
    /// Those that have changed, and those that were asked for by name, as they stand now.
    pub channels: Vec<Channel>,
    /// Whether these are all that are not closed: nobody knows what has changed since then.
    pub is_all: bool,
    /// Up to where they are told.
    pub until: ChannelsPlace,
}

/// How far somebody has come who follows a book's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelsPlace {
    /// The life of the book: nothing is remembered into the next one.
    pub epoch: u64,
    /// The place in its journal.
    pub seq: u64,
}

/// What a rail tells of all its channels at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsHeard {
    /// The payment method.
    pub method: String,
    /// When the rail said so.
    pub at: Timestamp,
    /// Those of which it told something: until somebody has looked, they were last heard of before.
    pub told: Vec<ChannelId>,
    /// Whether something may have been told of any of them.
    pub anew: bool,
}

/// What a payer needs to know to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelFigures {
    /// How much the next voucher must authorise in all, in atoms.
    #[serde(with = "atoms_text")]
    pub required: u128,
    /// How much vouchers have authorised in all, in atoms.
    #[serde(with = "atoms_text")]
    pub accepted: u128,
    /// How much was taken in all, in atoms.
    #[serde(with = "atoms_text")]
    pub spent: u128,
    /// How much was deposited, in atoms.
    #[serde(with = "atoms_text")]
    pub deposit: u128,
}

/// What happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelEvent {
    /// It was opened, or is being opened where the rail has not confirmed its deposit.
    Opened {
        /// What is agreed on.
        facts: Box<ChannelFacts>,
        /// The voucher that came with it, if it authorises anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<Voucher>,
        /// What must not be used again.
        proofs: Vec<Proof>,
        /// What the rail is to carry out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Box<str>>,
    },
    /// More was deposited, or is on its way.
    ToppedUp {
        /// What must not be used again.
        proofs: Vec<Proof>,
        /// What the rail is to carry out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Box<str>>,
    },
    /// The rail has confirmed the deposit that was on its way.
    Confirmed {
        /// Its word.
        settlement: Settlement,
    },
    /// The deposit that was on its way will not come.
    Abandoned,
    /// A voucher was accepted that bought nothing yet.
    Vouched {
        /// The voucher.
        voucher: Voucher,
    },
    /// More was taken for an answer that is being given.
    Took {
        /// The payment.
        payment: PaymentId,
        /// How many units.
        units: u64,
    },
    /// What was taken for an answer and bought nothing was given back.
    Returned {
        /// The payment.
        payment: PaymentId,
    },
    /// The payer has asked the rail to close.
    CloseRequested {
        /// From when on the payer may take back what is not settled.
        until: Timestamp,
    },
    /// The payer has thought better of it.
    CloseCancelled,
    /// It is to be closed and is not, and time is running out.
    CloseOverdue,
    /// What was accepted was settled on the rail.
    Settled {
        /// How much in all, in atoms.
        #[serde(with = "atoms_text")]
        settled: u128,
        /// The rail's word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settlement: Option<Settlement>,
    },
    /// It is being closed.
    Closing {
        /// The payer's last voucher, where the payer asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<Voucher>,
    },
    /// It was closed, and what was left was given back.
    Closed {
        /// The payer's last voucher, where the payer asked for it and the book moved the money.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<Voucher>,
        /// How much was settled in all, in atoms.
        #[serde(with = "atoms_text")]
        settled: u128,
        /// The rail's word; nothing where the book itself is the rail.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settlement: Option<Settlement>,
    },
}

/// Why a step was not made. Nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ChannelError {
    /// There is no such channel.
    #[error("there is no such channel")]
    Unknown,
    /// It is closed, or being closed.
    #[error("the channel is closed")]
    Closed,
    /// Its deposit is on its way still; ours or the rail's to finish.
    #[error("the channel's deposit is on its way")]
    Opening,
    /// Somebody else has signed than whoever may.
    #[error("somebody else may sign for the channel")]
    Signer,
    /// It was opened for something else: another payee, asset, chain or escrow.
    #[error("the channel was opened for something else")]
    Binding,
    /// The voucher authorises no more than the one before.
    #[error("the voucher does not advance")]
    NotAdvancing(ChannelFigures),
    /// The voucher advances by less than it must.
    #[error("the voucher advances by too little")]
    DeltaTooSmall(ChannelFigures),
    /// The voucher authorises more than was deposited.
    #[error("the voucher authorises more than was deposited")]
    OverDeposit(ChannelFigures),
    /// What is authorised and not taken is less than the price.
    #[error("what is authorised is less than the price")]
    Short(ChannelFigures),
    /// The channel exists with other facts, or the deposit was made for something else.
    #[error("the channel or the deposit was used for something else")]
    Taken,
    /// Another deposit is on its way.
    #[error("another deposit is on its way")]
    Busy,
    /// The payer's account does not hold the deposit.
    #[error("the account does not hold the deposit")]
    Overdrawn,
    /// The key may not spend any account here.
    #[error("the key may not spend an account here")]
    UnknownKey,
    /// Nobody has heard of the channel from its rail for too long.
    #[error("nobody has heard of the channel from its rail for too long")]
    Stale,
    /// The payment is not one that more can be taken for.
    #[error("the payment is not being answered, or was made on another channel")]
    NoPayment,
    /// The request contradicts itself, or the rail contradicts the book.
    #[error("the step does not fit where the channel stands")]
    OutOfOrder,
    /// The store cannot answer.
    #[error("the store does not answer")]
    Unavailable,
}
