//! The buyer's side of sessions.

use farthing_money::{Amount, Timestamp};

use crate::{BoxFuture, Invitation, Object, Paid, PayError, Unpayable};

/// One rail's sessions, as a buyer has them. [`Payer::session`](crate::Payer::session) gives it.
pub trait SessionPayer: Send + Sync {
    /// Understands what a session invitation asks for. Pure; nothing is signed.
    ///
    /// # Errors
    ///
    /// [`Unpayable`] when this rail cannot or will not pay it.
    fn session_terms(&self, invitation: &Invitation) -> Result<SessionTerms, Unpayable>;

    /// Makes everything ready to open a session with `deposit`, and sends nothing. `entropy` must be
    /// unpredictable and new.
    ///
    /// # Errors
    ///
    /// A [`PayError`].
    fn prepare<'a>(
        &'a self,
        invitation: &'a Invitation,
        deposit: &'a Amount,
        entropy: [u8; 32],
    ) -> BoxFuture<'a, Result<PreparedSession, PayError>>;

    /// Whether a deposit that is asked for again is the same deposit: where the payer sends it, for example,
    /// and finds it where it was sent. Elsewhere only the seller can say what became of a further deposit.
    fn repeats_deposits(&self) -> bool {
        false
    }

    /// Makes the proof of one action. Called once the action is remembered durably. Nothing is sent, but for
    /// deposits where the payer sends them.
    ///
    /// # Idempotency
    ///
    /// However often one session is opened, under whichever invitation, its deposit moves at most once. The
    /// same of further deposits where [they are repeated](SessionPayer::repeats_deposits).
    ///
    /// # Errors
    ///
    /// A [`PayError`].
    fn act<'a>(
        &'a self,
        invitation: &'a Invitation,
        session: &'a PreparedSession,
        act: Act,
    ) -> BoxFuture<'a, Result<Paid, PayError>>;

    /// Asks the rail what became of a session's deposit. Only asks, and not the seller. Nothing where the
    /// deposit lies in the seller's own books, so that nobody else can tell.
    ///
    /// # Errors
    ///
    /// A [`PayError`]; nothing is concluded from it.
    fn standing<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Option<Standing>, PayError>> {
        let _ = session;
        Box::pin(async { Ok(None) })
    }

    /// Takes the next step out of a session without its seller: asks the rail for what is left, or takes
    /// it once the seller has had its time. Says how it stands afterwards.
    ///
    /// # Idempotency
    ///
    /// Any number of times: a step that was taken is not taken again.
    ///
    /// # Errors
    ///
    /// A [`PayError`]; [`Unpayable::Method`] where there is no such way.
    fn leave<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Standing, PayError>> {
        let _ = session;
        Box::pin(async { Err(Unpayable::Method.into()) })
    }
}

/// What a rail knows of a payer's session. Amounts are in atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was not opened, and may still be until then.
    Coming {
        /// From when on it never will be.
        until: Timestamp,
    },
    /// It was not opened, and never will be: the deposit has not moved.
    Never,
    /// The deposit lies there.
    There {
        /// How much was deposited in all.
        deposit: u128,
        /// How much of it the seller has taken.
        settled: u128,
        /// When the payer may take the rest, where it has asked for it.
        leaves_at: Option<Timestamp>,
    },
    /// It is over: this much went to the seller, and the rest is the payer's again.
    Over {
        /// How much of it the seller has taken in all.
        settled: u128,
    },
}

/// What a session invitation asks for, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// The price of one unit.
    pub unit: Amount,
    /// What is counted, if it is said.
    pub unit_type: Option<String>,
    /// Who is paid, as the rail names them.
    pub recipient: String,
    /// The deposit that is proposed.
    pub suggested_deposit: Option<Amount>,
    /// The least by which a voucher must advance, in atoms.
    pub delta_min_atoms: u128,
    /// Stands for everything a session is bound to: sessions of one origin with the same binding are one.
    pub binding: String,
}

/// A session that can be opened, or was: what its rail needs to go on with it. It holds no key, and is
/// kept by the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedSession {
    /// The channel, as the rail spells it.
    pub channel: String,
    /// What the rail wants to be given again.
    pub keepsake: Object,
}

/// What is to be done within a session. Amounts are in atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Open it, and authorise so much in all.
    Open {
        /// How much in all.
        cumulative: u128,
    },
    /// Deposit more.
    TopUp {
        /// How much more.
        additional: u128,
        /// How much was deposited before, as far as the seller has confirmed: with the rest, it names this
        /// further deposit.
        before: u128,
    },
    /// Authorise so much in all.
    Voucher {
        /// How much in all.
        cumulative: u128,
    },
    /// Close it, having authorised so much in all.
    Close {
        /// How much in all.
        cumulative: u128,
    },
}
