//! Deposits that are made before they are needed, beside what is asked for.
//!
//! ```text
//! little left? ─► fresh offer ─► hold more ─► remember ─┬─► the request, or the stream, goes on
//!                                                       └─► top up ─► remember that it is there
//! ```
//!
//! **Architecture invariant:** of one session, one further deposit is made at a time, over all processes:
//! whoever makes it holds the session's lock, and remembers it before anything of it is signed. One whose end
//! nobody has seen is looked for before the next.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use farthing_core::{Act, PayError, SessionPayer};
use farthing_ledger::PaymentId;
use farthing_money::Amount;

use crate::choose::SessionChoice;
use crate::memory::{WalletSession, WalletSessionState};
use crate::sessions::{InSession, is_undone};
use crate::wallet::problem_detail;
use crate::{PayFailure, PayRequest, Refused, Wallet};

/// A further deposit that is being made.
pub(crate) type Ahead<'a> = Pin<Box<dyn Future<Output = Made> + Send + 'a>>;

/// What became of a further deposit.
pub(crate) enum Made {
    /// The seller has it.
    Done,
    /// It was not made, and will not be: what was held for it is free again.
    Never(PayFailure),
    /// Nobody knows, or it is to be shown again: it stays held.
    Open(PayFailure),
}

impl Wallet {
    /// Begins a further deposit where less is left than the owner wants to be left, and the owner's rules allow
    /// one. It is remembered; it is made as the future is polled, and ends with [`Wallet::topped_up`].
    pub(crate) async fn top_up_ahead(
        &self,
        at: &InSession<'_>,
        session: &mut WalletSession,
    ) -> Result<Option<Ahead<'_>>, PayFailure> {
        let unit = &at.choice.terms.unit;
        let mark = self.rules.session_low.get(unit.asset()).copied().unwrap_or_default();
        let left = session.deposit.atoms().saturating_sub(session.signed.atoms());
        let is_open = session.state == WalletSessionState::Open && session.topping.is_none();
        if !is_open || left >= mark {
            return Ok(None);
        }
        let wanted = self.deposit_max(unit).max(unit.atoms());
        // Whatever is held is held for a challenge of its own.
        let Ok(choice) = self.fresh_choice(at.request, session).await else { return Ok(None) };
        let invitation = &choice.invitation;
        let held = match self.hold_deposit(at, invitation, wanted, unit.atoms(), true).await {
            Ok(held) => held,
            // What is not allowed now is asked for when it is needed.
            Err(PayFailure::Books(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        self.is_held(at, session, &held)?;
        let (request, before) = (at.request.clone(), session.clone());
        Ok(Some(Box::pin(
            async move { self.deposit_more(&request, &choice, &before, &held).await },
        )))
    }

    /// Makes a further deposit that was remembered.
    pub(crate) async fn deposit_more(
        &self,
        request: &PayRequest,
        choice: &SessionChoice,
        session: &WalletSession,
        (payment, more): &(PaymentId, Amount),
    ) -> Made {
        let repeats = self.rail_of(session).is_some_and(SessionPayer::repeats_deposits);
        let act = Act::TopUp { additional: more.atoms(), before: session.deposit.atoms() };
        let field = match self.acted(choice, session, act).await {
            Ok(field) => field,
            // What was sent may still be made: it is asked for again.
            Err(error @ PayFailure::Rail(PayError::Unsent | PayError::Unknown)) if repeats => {
                return Made::Open(error);
            }
            // Nothing was signed, so nothing can be deposited.
            Err(error) => return Made::Never(error),
        };
        let bare = PayRequest { body: bytes::Bytes::new(), ..request.clone() };
        let answer = match self.insist(&bare, &field, &choice.invitation).await {
            Ok(answer) => answer,
            Err(failure) => return Made::Open(failure),
        };
        if answer.status.is_success() {
            return Made::Done;
        }
        let refused = PayFailure::Refused(Refused {
            payment: *payment,
            status: answer.status,
            detail: problem_detail(&answer.body),
            held_until: choice.invitation.expires_at.unwrap_or_default(),
        });
        // It was not taken, and cannot be any more: its challenge was answered. What was made without the seller
        // is there all the same, and is shown again.
        let is_there = repeats && !is_undone(&answer.body);
        if is_there { Made::Open(refused) } else { Made::Never(refused) }
    }

    /// Remembers what became of a further deposit.
    pub(crate) async fn topped_up(
        &self,
        session: &mut WalletSession,
        made: Made,
    ) -> Result<(), PayFailure> {
        let Some(more) = session.topping.clone() else { return Ok(()) };
        match made {
            Made::Done => {
                session.topping = None;
                let deposit = session.deposit.atoms().saturating_add(more.atoms());
                session.deposit = session.with(deposit);
                Ok(self.memory.keep_session(session)?)
            }
            Made::Never(failure) => {
                if let Some((payment, _)) = session.holds.last().cloned() {
                    self.take_back(session, payment).await?;
                }
                Err(failure)
            }
            Made::Open(failure) => Err(failure),
        }
    }
}

impl Wallet {
    /// Notes a deposit that has ended beside something else. What came of it is no reason to give that up: it is
    /// tried again when it is needed.
    pub(crate) async fn made_ahead(&self, session: &mut WalletSession, made: Option<Made>) {
        let Some(made) = made else { return };
        if let Err(error) = self.topped_up(session, made).await {
            let channel = &session.channel;
            tracing::info!(channel, %error, "a deposit ahead of its need has come to nothing yet");
        }
    }

    /// Waits for a deposit that is being made.
    pub(crate) async fn finish_ahead(
        &self,
        session: &mut WalletSession,
        ahead: &mut Option<Ahead<'_>>,
    ) {
        if let Some(ahead) = ahead.take() {
            let made = ahead.await;
            self.made_ahead(session, Some(made)).await;
        }
    }
}

/// Does something, and makes a deposit beside it. What came of the deposit, if it has ended by then.
pub(crate) async fn beside<T>(
    doing: impl Future<Output = T>,
    ahead: &mut Option<Ahead<'_>>,
) -> (T, Option<Made>) {
    let mut doing = pin!(doing);
    let mut made = None;
    let done = poll_fn(|context| {
        if let Some(making) = ahead
            && let Poll::Ready(it) = making.as_mut().poll(context)
        {
            (made, *ahead) = (Some(it), None);
        }
        doing.as_mut().poll(context)
    });
    (done.await, made)
}
