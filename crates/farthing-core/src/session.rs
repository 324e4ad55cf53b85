//! The port to money that is paid in a session: one deposit, and many small payments on it.
//!
//! ```text
//!          checked (pure)     written down          carried out           written down
//!            │ what only the rail can say is asked for: SessionRail::ascertain
//! open  ─► Action::Open ────► Opening ────────────► SessionRail::open ──► Open
//! pay   ─► Action::Voucher ─► paid, in one record   (no rail is asked)
//! top up ► Action::TopUp ───► on its way ─────────► SessionRail::top_up ► Open, with more
//! close ─► Action::Close ───► Closing ────────────► SessionRail::close ─► Closed, the rest given back
//! ```
//!
//! Where the money is the book's own, the columns on the right fall together: each step is one record.
//!
//! **Architecture invariant:** a voucher's signature is checked before the book is asked about it, and no
//! rail is asked while one is taken: what a rail knows of a channel is followed beside, and a channel that
//! nobody has heard of for longer than [`SessionRules::heard_within`] takes no voucher.

use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::{
    Account, Channel, ChannelDeposit, ChannelId, ChannelSeen, ChannelsHeard, Fingerprint, Holder,
    VoucherClaim,
};
use farthing_money::{Amount, Timestamp};

use crate::{BoxFuture, Object, Presented, Rejection, SettleError, Settled, Unquotable};

/// The intent of session offers, as the wire names it.
pub const SESSION: &str = "session";

/// A rail on which many small payments are made on one authorisation. [`Rail::session`](crate::Rail::session)
/// gives it.
///
/// A channel's name, its binding and its signer are the rail's to spell, each in one way: lower-case
/// hexadecimal, decimal atoms. What is written down of them is compared letter by letter.
pub trait SessionRail: Send + Sync {
    /// What counts as what in this rail's sessions.
    fn session_rules(&self) -> &'static SessionRules;

    /// Says on the wire what a session with `payee` costs: the `request` of a session challenge.
    ///
    /// It must contain `amount`, the price of one unit; and where the price says so, `unitType`,
    /// `suggestedDeposit` and `methodDetails.minVoucherDelta` (`draft-tempo-session-00` §7.2).
    ///
    /// # Errors
    ///
    /// [`Unquotable`], as [`Rail::quote`](crate::Rail::quote).
    fn quote_session(&self, price: &SessionPrice, payee: &Holder) -> Result<Object, Unquotable>;

    /// Decides what was presented: reads the action, verifies its signature, and says what it is bound to.
    /// Whether that is what the channel was opened for, the book decides.
    ///
    /// Pure, and never asks a chain: the same arguments give the same answer. The signature of every action
    /// is verified here, those that buy nothing included.
    ///
    /// # Errors
    ///
    /// A [`Rejection`]; [`Rejection::Signature`] for a signature that does not hold.
    fn check_action(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection>;

    /// Finds out what is to be written down and stands in no credential: how much a transaction has
    /// deposited that the payer has sent, or whether one that the payer has signed would go through. Called
    /// once the action was checked and before anything of it is written down, so that nobody is asked
    /// anything for whoever has signed nothing. Only asks.
    ///
    /// # Errors
    ///
    /// [`Unfounded`]; nothing was written down, and the same credential may be shown again.
    fn ascertain(&self, action: Action) -> BoxFuture<'_, Result<Action, Unfounded>> {
        Box::pin(async { Ok(action) })
    }

    /// Carries the opening deposit out, whose order is in [`Channel::pending`], and makes sure that the
    /// channel is there as it was agreed on.
    ///
    /// # Idempotency
    ///
    /// Called any number of times for one channel, moves the money at most once and keeps giving the first
    /// answer. After a crash it is called with the channel as it was written down, and finds by its id what
    /// was sent before.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]. [`SettleError::Declined`] only when the deposit has not moved and never will.
    fn open<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let _ = channel;
        Box::pin(async { Err(SettleError::Unsent) })
    }

    /// Carries a further deposit out, as [`SessionRail::open`] does the first.
    ///
    /// # Errors
    ///
    /// See [`SettleError`].
    fn top_up<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let _ = channel;
        Box::pin(async { Err(SettleError::Unsent) })
    }

    /// Settles by [`Channel::covered`], so that never more is settled than was spent, and leaves the channel
    /// open.
    ///
    /// # Idempotency
    ///
    /// As [`SessionRail::open`]: what was settled before is found, and not settled again.
    ///
    /// # Errors
    ///
    /// See [`SettleError`].
    fn settle_voucher<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        let _ = channel;
        Box::pin(async { Err(SettleError::Unsent) })
    }

    /// The same for many, in as few transactions as the rail can. What comes of each is in its place; one that
    /// comes to nothing keeps no other from being settled.
    fn settle_vouchers<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(async move {
            let mut came = Vec::with_capacity(channels.len());
            for channel in channels {
                came.push(self.settle_voucher(channel).await);
            }
            came
        })
    }

    /// Settles what was spent and closes the channel, so that the payer gets the rest back. Also answers
    /// for a channel that somebody else has closed: with what was settled in all.
    ///
    /// # Idempotency
    ///
    /// As [`SessionRail::open`].
    ///
    /// # Errors
    ///
    /// See [`SettleError`].
    fn close<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        let _ = channel;
        Box::pin(async { Err(SettleError::Unsent) })
    }

    /// The same for many, as [`SessionRail::settle_vouchers`].
    fn close_channels<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(async move {
            let mut came = Vec::with_capacity(channels.len());
            for channel in channels {
                came.push(self.close(channel).await);
            }
            came
        })
    }

    /// Asks what the rail has told of any channel since this was asked last; nothing where it has to be asked
    /// about each. Only asks.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]; nothing is concluded from any of them.
    fn listen(&self) -> BoxFuture<'_, Result<Option<ChannelsHeard>, SettleError>> {
        Box::pin(async { Ok(None) })
    }

    /// Asks what the rail knows of a channel by now. Only asks.
    ///
    /// A rail whose money always lies in the book is never asked.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]; nothing is concluded from any of them.
    fn inquire_channel<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<ChannelFate, SettleError>> {
        let _ = channel;
        Box::pin(async { Err(SettleError::Unknown) })
    }
}

/// Why there is no deposit to write down, by the rail's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfounded {
    /// The rail has undone, or would undo, what the payer has sent or signed.
    #[error("the rail has undone the payer's transaction")]
    Undone,
    /// The payer's account does not give what is to be deposited.
    #[error("the payer's account does not give the deposit")]
    Short,
    /// The rail tells of something else than the payer.
    #[error("the rail tells of something else")]
    Declined,
    /// Nobody can say yet: the same credential again, later.
    #[error("nobody can say yet")]
    Later,
}

/// What counts as what in a rail's sessions. Plain data, so that finance can read it and the core can go by
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// What counts as the payer's authorisation.
    pub authorised: &'static str,
    /// What counts as settled.
    pub settled: &'static str,
    /// Whether closing can settle less than the highest voucher says: what was spent. Where it cannot, the
    /// payer's last voucher must say exactly that (§13.2).
    pub captures_spent: bool,
    /// How long ago the rail may have been heard of last for a channel to take vouchers; nothing where the
    /// book is the rail. Whoever follows the rail asks about every open channel several times as often.
    pub heard_within: Option<Duration>,
    /// Whether there is something to [ascertain](SessionRail::ascertain) before a deposit is written down.
    pub ascertains: bool,
}

/// What a session costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPrice {
    /// The price of one unit.
    pub unit: Amount,
    /// What is counted, such as `request` or `token`; nothing where it is not said.
    pub unit_type: Option<Arc<str>>,
    /// The deposit that is proposed.
    pub suggested_deposit: Option<Amount>,
    /// The least deposit that a session is opened for, in atoms.
    pub deposit_min_atoms: u128,
    /// The least by which a voucher must advance, in atoms.
    pub delta_min_atoms: u128,
}

/// What a payer asks for within a session, as the rail has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To open it.
    Open(Box<Opening>),
    /// To deposit more.
    TopUp(Box<TopUp>),
    /// To pay, or to authorise ahead.
    Voucher(Box<VoucherClaim>),
    /// To close it, by a last voucher.
    Close(Box<VoucherClaim>),
}

impl Action {
    /// The channel it is about.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        match self {
            Self::Open(opening) => &opening.voucher.voucher.channel,
            Self::TopUp(top_up) => &top_up.channel,
            Self::Voucher(claim) | Self::Close(claim) => &claim.voucher.channel,
        }
    }
}

/// What a rail found in a valid opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Who pays, as the rail has verified it.
    pub payer: String,
    /// The deposit: how much, whence, by whom it is moved, and what must not be used again beside the
    /// challenge, which the core adds in front.
    pub deposit: ChannelDeposit,
    /// Where what is settled on the rail arrives; nothing where the money is the book's own.
    pub cash: Option<Account>,
    /// What the rail will need to find the channel again and to settle it. Not a secret.
    pub inquiry: Option<Box<str>>,
    /// The voucher that comes with it. Its channel, signer and binding are those of the channel from now
    /// on.
    pub voucher: VoucherClaim,
}

/// What a rail found in a valid top-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    /// The channel.
    pub channel: ChannelId,
    /// Who deposits, as the rail has verified it.
    pub payer: String,
    /// What it is bound to; see [`farthing_ledger::ChannelFacts::binding`].
    pub binding: Fingerprint,
    /// As in [`Opening::deposit`].
    pub deposit: ChannelDeposit,
}

/// The rail's word that it has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledInAll {
    /// How much of the channel was settled in all by now, in atoms.
    pub atoms: u128,
    /// Its word.
    pub settled: Settled,
}

/// What a rail knows of a channel by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelFate {
    /// It is there.
    There(ChannelSeen),
    /// It is there, and more was settled than the book knows of: by this.
    Settled(ChannelSeen, SettledInAll),
    /// It is closed, whoever asked for it.
    Closed(SettledInAll),
    /// It is not there. Where its opening was never seen, it may still come.
    Nowhere,
}
