//! Sessions, top to bottom: what is done about each action, and what is finished beside.
//!
//! ```text
//! presented ─► check (pure) ─► ascertain ─► open │ top up │ close   written down, carried out, written down
//!                                       └─► voucher                 a payment like any other, in one record
//! ```
//!
//! Whatever is sent here was written down before and can be sent any number of times: the rail finds by the
//! channel's name what was sent already.

use farthing_ledger::{
    Channel, ChannelDeposit, ChannelError, ChannelFacts, ChannelFigures, ChannelId, ChannelOpening,
    ChannelState, ChannelStep, PaymentId, Proof, VoucherClaim,
};
use farthing_money::Timestamp;

use crate::books;
use crate::{
    Action, Admission, Ask, Checked, Opening, Presented, Quote, Refusal, Rejection, SessionRail,
    SettleError, SettledInAll, Till, TopUp, Unfounded, identity,
};

/// What was done with a session, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The wire.
    pub protocol: &'static str,
    /// The challenge that was answered.
    pub challenge: String,
    /// When.
    pub at: Timestamp,
    /// How the channel stands now.
    pub channel: Channel,
    /// The rail's reference, where it has carried something out.
    pub reference: Option<String>,
}

/// What came of taking more for an answer that is being given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken: so much more may be given.
    Taken(Box<Channel>),
    /// It was not, since vouchers do not authorise it: ask the payer for one, and try again when it has
    /// come.
    Wait(ChannelFigures),
    /// It was not and never will be: the session is over.
    Over,
    /// The store does not answer; nothing was taken.
    TryAgain,
}

impl Till {
    /// Decides one request that comes within a session. Where [`Ask::vouchers_buy`] says no, it buys nothing:
    /// it opens, tops up or authorises ahead.
    pub(crate) async fn admit_in_session(
        &self,
        presented: Presented,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let quote = quoted(ask, &presented)?;
        let rail = self.session_rail(&presented.method)?;
        let action = rail.check_action(&presented, now)?;
        if action.channel().method() != presented.method {
            return Err(Rejection::Invalid.into());
        }
        let action = self.ascertained(rail, action, now).await?;
        let buys = ask.vouchers_buy;
        let (channel, reference) = match action {
            Action::Open(opening) => {
                let voucher = opening.voucher.clone();
                let opened = self.open(rail, *opening, &presented, quote, buys, now).await?;
                if buys {
                    return self.pay(presented, voucher, quote, ask, now).await;
                }
                opened
            }
            Action::TopUp(top_up) => self.top_up(rail, *top_up, &presented, now).await?,
            Action::Voucher(voucher) if buys => {
                return self.pay(presented, *voucher, quote, ask, now).await;
            }
            Action::Voucher(voucher) => (self.step(ChannelStep::Vouch(voucher), now).await?, None),
            Action::Close(voucher) => self.close(rail, *voucher, now).await?,
        };
        let Presented { protocol, challenge, .. } = presented;
        Ok(Admission::Managed(Box::new(Managed {
            protocol,
            challenge,
            at: now,
            channel,
            reference,
        })))
    }

    /// An action of which everything is known. For a top-up the rail is asked only where the book would take
    /// it: nothing that the payer has signed stands in some of them.
    async fn ascertained(
        &self,
        rail: &dyn SessionRail,
        action: Action,
        now: Timestamp,
    ) -> Result<Action, Refusal> {
        if !rail.session_rules().ascertains {
            return Ok(action);
        }
        if let Action::TopUp(top_up) = &action {
            let TopUp { channel, payer, binding, deposit } = (**top_up).clone();
            // A deposit of nothing is never written down, and is refused last.
            let deposit = Box::new(ChannelDeposit { atoms: 0, ..deposit });
            let step = ChannelStep::TopUp { channel: channel.clone(), payer, binding, deposit };
            match self.store.step(step, now).await {
                Ok(_) | Err(ChannelError::OutOfOrder) => {}
                Err(error) => return Err(Refusal::of(channel, error)),
            }
        }
        let channel = action.channel().clone();
        rail.ascertain(action).await.map_err(|why| match why {
            Unfounded::Undone => Refusal::Undone(Box::new(channel)),
            Unfounded::Short => Refusal::Unfunded,
            Unfounded::Declined => Refusal::Declined,
            Unfounded::Later => Refusal::TryAgain,
        })
    }

    /// Pays with a voucher: from here on, a payment like any other.
    async fn pay(
        &self,
        presented: Presented,
        voucher: VoucherClaim,
        quote: &Quote,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let checked = Checked::with_voucher(presented, voucher, quote, ask);
        // A voucher's money lies in the book and has moved with the claim.
        self.admitted(books::claim(&self.store, checked, now).await?).await
    }

    async fn open(
        &self,
        rail: &dyn SessionRail,
        opening: Opening,
        presented: &Presented,
        quote: &Quote,
        buys: bool,
        now: Timestamp,
    ) -> Result<(Channel, Option<String>), Refusal> {
        let Opening { payer, mut deposit, cash, inquiry, voucher } = opening;
        let least = quote.session_price().map_or(0, |price| price.deposit_min_atoms);
        if deposit.atoms < least {
            return Err(Rejection::Insufficient.into());
        }
        deposit.proofs.insert(0, challenge_of(presented));
        let facts = ChannelFacts {
            id: voucher.voucher.channel.clone(),
            trace: presented.trace,
            payer,
            payee: quote.payee().clone(),
            asset: quote.amount().asset().clone(),
            signer: voucher.signer.clone(),
            binding: voucher.binding,
            inquiry,
            cash,
        };
        // What buys something is claimed for it, and is not accepted before.
        let voucher = (!buys).then_some(voucher);
        let opening = Box::new(ChannelOpening { facts, deposit, voucher });
        let channel = self.step(ChannelStep::Open(opening), now).await?;
        self.carried_out(rail, channel, now).await
    }

    async fn top_up(
        &self,
        rail: &dyn SessionRail,
        top_up: TopUp,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<(Channel, Option<String>), Refusal> {
        let TopUp { channel, payer, binding, mut deposit } = top_up;
        deposit.proofs.insert(0, challenge_of(presented));
        let deposit = Box::new(deposit);
        let step = ChannelStep::TopUp { channel, payer, binding, deposit };
        let channel = self.step(step, now).await?;
        self.carried_out(rail, channel, now).await
    }

    /// Has the rail carry out the deposit that is on its way, if one is.
    pub(crate) async fn carried_out(
        &self,
        rail: &dyn SessionRail,
        channel: Channel,
        now: Timestamp,
    ) -> Result<(Channel, Option<String>), Refusal> {
        if channel.pending.is_none() {
            return Ok((channel, None));
        }
        let settled = match channel.state {
            ChannelState::Opening => rail.open(&channel).await,
            ChannelState::Open
            | ChannelState::CloseRequested { .. }
            | ChannelState::Closing
            | ChannelState::Closed => rail.top_up(&channel).await,
        };
        let channel = channel.facts.id;
        match settled {
            Ok(settled) => {
                let reference = settled.reference.clone();
                let settlement = settled.written(now);
                let step = ChannelStep::Confirm { channel, settlement };
                Ok((self.step(step, now).await?, Some(reference)))
            }
            Err(SettleError::Declined) => {
                self.step(ChannelStep::Abandon { channel }, now).await?;
                Err(Refusal::Declined)
            }
            // It is written down: the same credential, or recovery, finishes it.
            Err(SettleError::Unsent | SettleError::Unknown) => Err(Refusal::TryAgain),
        }
    }

    async fn close(
        &self,
        rail: &dyn SessionRail,
        voucher: VoucherClaim,
        now: Timestamp,
    ) -> Result<(Channel, Option<String>), Refusal> {
        let channel = voucher.voucher.channel.clone();
        let exactly = !rail.session_rules().captures_spent;
        let voucher = Some(Box::new(voucher));
        let step = ChannelStep::Close { channel, voucher, exactly };
        let channel = self.step(step, now).await?;
        self.closed(rail, channel, now).await
    }

    /// Has the rail close a channel that is to be closed.
    async fn closed(
        &self,
        rail: &dyn SessionRail,
        channel: Channel,
        now: Timestamp,
    ) -> Result<(Channel, Option<String>), Refusal> {
        if channel.state != ChannelState::Closing {
            return Ok((channel, None));
        }
        match rail.close(&channel).await {
            Ok(SettledInAll { atoms, settled }) => {
                let reference = settled.reference.clone();
                let settlement = settled.written(now);
                let channel = channel.facts.id;
                let step = ChannelStep::Closed { channel, settled: atoms, settlement };
                Ok((self.step(step, now).await?, Some(reference)))
            }
            // It is written down that it is to be closed; a rail that says no is asked again.
            Err(SettleError::Declined | SettleError::Unsent | SettleError::Unknown) => {
                Err(Refusal::TryAgain)
            }
        }
    }

    /// Closes a channel on the seller's side: by the highest voucher, and never for more than was spent
    /// where the rail can tell the two apart.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; what was written down is finished by [`Till::tend`].
    pub async fn close_channel(&self, id: &ChannelId, now: Timestamp) -> Result<Channel, Refusal> {
        let rail = self.session_rail(id.method())?;
        let step = ChannelStep::Close { channel: id.clone(), voucher: None, exactly: false };
        let channel = self.step(step, now).await?;
        Ok(self.closed(rail, channel, now).await?.0)
    }

    /// Takes `units` more, `atoms` in all, for an answer that is being given: before it is given, and from
    /// what vouchers have authorised. Does not wait: [`Taken::Wait`] says what is missing, and any voucher
    /// that comes meanwhile, through whichever gateway, counts for the next try.
    ///
    /// # Idempotency
    ///
    /// None: each time it takes.
    pub async fn take_more(
        &self,
        channel: &ChannelId,
        payment: PaymentId,
        (units, atoms): (u64, u128),
        now: Timestamp,
    ) -> Taken {
        let channel = channel.clone();
        let step = ChannelStep::Take { channel, payment, atoms, units };
        match self.store.step(step, now).await {
            Ok(channel) => Taken::Taken(Box::new(channel)),
            Err(ChannelError::Short(figures)) => Taken::Wait(figures),
            Err(ChannelError::Opening | ChannelError::Stale | ChannelError::Unavailable) => {
                Taken::TryAgain
            }
            Err(
                ChannelError::Unknown
                | ChannelError::Closed
                | ChannelError::Signer
                | ChannelError::Binding
                | ChannelError::NotAdvancing(_)
                | ChannelError::DeltaTooSmall(_)
                | ChannelError::OverDeposit(_)
                | ChannelError::Taken
                | ChannelError::Busy
                | ChannelError::Overdrawn
                | ChannelError::UnknownKey
                | ChannelError::NoPayment
                | ChannelError::OutOfOrder,
            ) => Taken::Over,
        }
    }

    /// The same, and waits where vouchers do not authorise it yet. `wait` is told what is missing, asks the
    /// payer for it, and answers when it is worth trying again; `false` gives up. `clock` tells the time of
    /// each try.
    pub async fn take_when_allowed<W, F>(
        &self,
        channel: &ChannelId,
        payment: PaymentId,
        more: (u64, u128),
        clock: &dyn crate::Clock,
        mut wait: W,
    ) -> Taken
    where
        W: FnMut(ChannelFigures) -> F,
        F: Future<Output = bool>,
    {
        loop {
            match self.take_more(channel, payment, more, clock.now()).await {
                Taken::Wait(figures) => {
                    if !wait(figures).await {
                        return Taken::Wait(figures);
                    }
                }
                came @ (Taken::Taken(_) | Taken::Over | Taken::TryAgain) => return came,
            }
        }
    }

    /// Gives back what was taken for an answer beyond `keep` atoms: to the channel, or to the payer's account
    /// with us once it is closed. The price of the request is not part of either.
    ///
    /// # Idempotency
    ///
    /// It says what is kept, and not what goes back: any number of times is once. What was taken and not
    /// heard of goes back too.
    ///
    /// # Crash safety
    ///
    /// Whatever is not given back when this process dies stays taken: the payer is charged what was taken,
    /// never more.
    pub async fn keep_only(
        &self,
        channel: &ChannelId,
        payment: PaymentId,
        keep: u128,
        now: Timestamp,
    ) -> Taken {
        let channel = channel.clone();
        match self.store.step(ChannelStep::Return { channel, payment, keep }, now).await {
            Ok(channel) => Taken::Taken(Box::new(channel)),
            Err(ChannelError::Unavailable) => Taken::TryAgain,
            // The answer is not being given any more.
            Err(_) => Taken::Over,
        }
    }

    pub(crate) async fn step(&self, step: ChannelStep, now: Timestamp) -> Result<Channel, Refusal> {
        let channel = step.channel().clone();
        self.store.step(step, now).await.map_err(|error| Refusal::of(channel, error))
    }

    pub(crate) fn session_rail(&self, method: &str) -> Result<&dyn SessionRail, Rejection> {
        self.rail(method)?.session().ok_or(Rejection::Unsupported)
    }
}

/// The offer that is answered, among those that are made now: a price that has changed since is another
/// offer, and what it buys is not sold for the old one.
pub(crate) fn quoted<'a>(ask: &'a Ask, presented: &Presented) -> Result<&'a Quote, Rejection> {
    let request = serde_json_canonicalizer::to_string(&presented.request);
    let request = request.map_err(|_| Rejection::Foreign)?;
    let made = |quote: &&std::sync::Arc<Quote>| {
        (quote.method(), quote.intent()) == (presented.method.as_str(), presented.intent.as_str())
            && quote.request_of(presented.trace) == request
    };
    ask.quotes.iter().find(made).map(AsRef::as_ref).ok_or(Rejection::Foreign)
}

/// Opening and topping up answer a challenge once; vouchers answer it as often as they advance.
fn challenge_of(presented: &Presented) -> Proof {
    let fingerprint = identity(presented.protocol, &presented.challenge);
    Proof { fingerprint, keep_until: Some(presented.expires_at) }
}
