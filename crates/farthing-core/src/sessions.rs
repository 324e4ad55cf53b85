//! Sessions, top to bottom: what is done about each action, and what is finished beside.
//!
//! ```text
//! presented ─► check (pure) ─► open │ top up │ close   written down, carried out, written down
//!                          └─► voucher                 a payment like any other, in one record
//!
//! channels ─► plan (pure) ─► finish   a deposit that was written down and not heard of again
//!                        ├─► close    idle, or to be closed, or the payer has asked the rail to
//!                        └─► follow   ask the rail, so that vouchers may go on being taken
//! ```
//!
//! Whatever is sent here was written down before and can be sent any number of times: the rail finds by the
//! channel's name what was sent already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{
    Channel, ChannelError, ChannelFacts, ChannelFigures, ChannelId, ChannelOpening, ChannelState,
    ChannelStep, PaymentId, Proof, Settlement, VoucherClaim,
};
use farthing_money::Timestamp;

use crate::books::{self, Standing};
use crate::recover::{PAUSE, PAUSE_MAX};
use crate::{
    Action, Admission, Ask, ChannelFate, Checked, Opening, Presented, Quote, Refusal, Rejection,
    SESSION, SessionRail, SessionRules, SettleError, Settled, SettledInAll, Till, TopUp, identity,
};

#[cfg(test)]
mod tests;

/// How long whoever began a deposit has it to themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How many times a rail is asked about a channel within the time after which vouchers stop counting.
const ASKED_WITHIN: u32 = 4;

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
        match books::claim(&self.store, checked, now).await? {
            Standing::Posted(posted) => Ok(Admission::Deliver(posted)),
            Standing::Delivered(payment) => self.again(payment).await,
            Standing::Pending(payment) => Err(Refusal::InProgress(payment)),
            Standing::Interrupted => Err(Refusal::Interrupted),
            Standing::GivenBack => Err(Refusal::GivenBack),
            Standing::Spent => Err(Refusal::Replayed),
            // A voucher's money lies in the book and has moved with the claim.
            Standing::Held(_)
            | Standing::Unsettled(_)
            | Standing::Reserved(_)
            | Standing::Abandoned(_) => Err(Refusal::TryAgain),
        }
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
    async fn carried_out(
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
                let settlement = written(settled, now);
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
                let settlement = written(settled, now);
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

    async fn step(&self, step: ChannelStep, now: Timestamp) -> Result<Channel, Refusal> {
        let channel = step.channel().clone();
        self.store.step(step, now).await.map_err(|error| Refusal::of(channel, error))
    }

    pub(crate) fn session_rail(&self, method: &str) -> Result<&dyn SessionRail, Rejection> {
        self.rail(method)?.session().ok_or(Rejection::Unsupported)
    }
}

/// The offer that is answered, among those that are made now: a price that has changed since is another
/// offer, and what it buys is not sold for the old one.
fn quoted<'a>(ask: &'a Ask, presented: &Presented) -> Result<&'a Quote, Rejection> {
    let request = serde_json_canonicalizer::to_string(&presented.request);
    let request = request.map_err(|_| Rejection::Foreign)?;
    let made = |quote: &&std::sync::Arc<Quote>| {
        (quote.method(), quote.intent()) == (presented.method.as_str(), SESSION)
            && quote.request() == request
    };
    ask.quotes.iter().find(made).map(AsRef::as_ref).ok_or(Rejection::Foreign)
}

/// Opening and topping up answer a challenge once; vouchers answer it as often as they advance.
fn challenge_of(presented: &Presented) -> Proof {
    let fingerprint = identity(presented.protocol, &presented.challenge);
    Proof { fingerprint, keep_until: Some(presented.expires_at) }
}

fn written(settled: Settled, now: Timestamp) -> Settlement {
    let Settled { reference, cost } = settled;
    Settlement { cost, ..Settlement::new(reference, now) }
}

// --- tending -----------------------------------------------------------------------------------

/// What looking after channels remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Tending {
    idle: Option<Duration>,
    tried: BTreeMap<ChannelId, (Duration, Timestamp)>,
    asked: BTreeMap<ChannelId, Timestamp>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Deposits that the rail confirmed.
    pub confirmed: usize,
    /// Deposits that were given up.
    pub abandoned: usize,
    /// Channels that were closed.
    pub closed: usize,
    /// Things that came to nothing and will be tried again.
    pub open: usize,
}

/// One thing to do about a channel, which can be done any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand<'a> {
    /// Finish a deposit that was written down and not heard of again.
    Finish(&'a Channel),
    /// Close it.
    Close(&'a Channel),
    /// Ask the rail what it knows of it.
    Follow(&'a Channel),
}

impl Tending {
    /// Closes channels that were not used for `idle`; none, if nothing is said.
    pub fn close_after(&mut self, idle: Option<Duration>) {
        self.idle = idle;
    }

    /// What is to be done now. Pure.
    pub fn plan<'a>(
        &self,
        channels: &'a [Channel],
        rules: impl Fn(&str) -> Option<&'static SessionRules>,
        now: Timestamp,
    ) -> Vec<Errand<'a>> {
        let errand = |channel: &'a Channel| {
            let id = &channel.facts.id;
            let rules = rules(id.method())?;
            if self.tried.get(id).is_some_and(|(_, next_at)| *next_at > now) {
                return None;
            }
            let is_idle = self.idle.is_some_and(|idle| channel.used_at.after(idle) <= now);
            match channel.state {
                ChannelState::Closing | ChannelState::CloseRequested { .. } => {
                    Some(Errand::Close(channel))
                }
                ChannelState::Opening | ChannelState::Open
                    if channel.pending.is_some() && channel.used_at.after(GRACE) <= now =>
                {
                    Some(Errand::Finish(channel))
                }
                ChannelState::Open if is_idle && channel.pending.is_none() => {
                    Some(Errand::Close(channel))
                }
                ChannelState::Open => {
                    let every = rules.heard_within?.checked_div(ASKED_WITHIN)?;
                    let asked = self.asked.get(id);
                    let is_due = asked.is_none_or(|asked| asked.after(every) <= now);
                    is_due.then_some(Errand::Follow(channel))
                }
                ChannelState::Opening | ChannelState::Closed => None,
            }
        };
        channels.iter().filter_map(errand).collect()
    }

    fn came_to(&mut self, id: &ChannelId, done: bool, now: Timestamp) {
        if done {
            self.tried.remove(id);
            return;
        }
        let before = self.tried.get(id).map(|(pause, _)| *pause);
        let pause = before.map_or(PAUSE, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        self.tried.insert(id.clone(), (pause, now.after(pause)));
    }

    fn keep(&mut self, channels: &[Channel]) {
        let alive = channels.iter().filter(|it| it.state != ChannelState::Closed);
        let alive: BTreeSet<_> = alive.map(|it| &it.facts.id).collect();
        self.tried.retain(|id, _| alive.contains(id));
        self.asked.retain(|id, _| alive.contains(id));
    }
}

impl Till {
    /// Looks after every channel once: finishes what was begun, closes what is to be closed, and follows
    /// what rails say.
    ///
    /// # Idempotency
    ///
    /// Whatever it does was written down before, or is written down and then done; a crash in the middle
    /// leaves it to the next look.
    pub async fn tend(&self, tending: &mut Tending, now: Timestamp) -> Tended {
        let mut tended = Tended::default();
        // A store that does not answer is asked at the next look.
        let Ok(channels) = self.store.channels().await else { return tended };
        tending.keep(&channels);
        let rules = |method: &str| self.session_rail(method).ok().map(SessionRail::session_rules);
        for errand in tending.plan(&channels, rules, now) {
            let (id, done) = match errand {
                Errand::Finish(channel) => {
                    let done = self.finish_deposit(channel, &mut tended, now).await;
                    (&channel.facts.id, done)
                }
                Errand::Close(channel) => {
                    let closed = self.close_channel(&channel.facts.id, now).await;
                    let done = closed.is_ok_and(|it| it.state == ChannelState::Closed);
                    tended.closed = tended.closed.saturating_add(usize::from(done));
                    (&channel.facts.id, done)
                }
                Errand::Follow(channel) => {
                    tending.asked.insert(channel.facts.id.clone(), now);
                    (&channel.facts.id, self.follow(channel, now).await)
                }
            };
            tending.came_to(id, done, now);
            tended.open = tended.open.saturating_add(usize::from(!done));
        }
        tended
    }

    async fn finish_deposit(&self, channel: &Channel, tended: &mut Tended, now: Timestamp) -> bool {
        let Ok(rail) = self.session_rail(channel.facts.id.method()) else { return false };
        match self.carried_out(rail, channel.clone(), now).await {
            Ok(_) => tended.confirmed = tended.confirmed.saturating_add(1),
            Err(Refusal::Declined) => tended.abandoned = tended.abandoned.saturating_add(1),
            Err(_) => return false,
        }
        true
    }

    /// Asks the rail about a channel and writes down what it says, if that is news.
    async fn follow(&self, channel: &Channel, now: Timestamp) -> bool {
        let id = &channel.facts.id;
        let Ok(rail) = self.session_rail(id.method()) else { return false };
        let step = match rail.inquire_channel(channel).await {
            Ok(ChannelFate::There(seen)) => ChannelStep::Note { channel: id.clone(), seen },
            Ok(ChannelFate::Closed(SettledInAll { atoms, settled })) => {
                let settlement = written(settled, now);
                ChannelStep::Closed { channel: id.clone(), settled: atoms, settlement }
            }
            // It was there: a node that does not know it any more decides nothing.
            Ok(ChannelFate::Nowhere) | Err(_) => return false,
        };
        self.store.step(step, now).await.is_ok()
    }
}
