//! Looking after sessions beside requests.
//!
//! ```text
//! rails ─► listen ─► what was told of          store ─► what has changed, what is due
//!              │                                            │
//!              └──────────────► plan (pure) ◄───────────────┘
//!                                 ├─► finish   a deposit that was written down and not heard of again
//!                                 ├─► settle   what was taken, while the channel stays open; in batches
//!                                 ├─► close    idle, or to be closed, or the payer has asked the rail to
//!                                 ├─► follow   ask the rail, so that vouchers may go on being taken
//!                                 ├─► warn     it is to be closed and is not, and time runs out
//!                                 └─► later    nothing now: it waits in the order in which things fall due
//! ```
//!
//! A look costs as much as there is to do: channels that nobody uses and nothing is due of are not touched,
//! however many there are.
//!
//! Whatever is sent here was written down before, or can be sent any number of times: the rail finds by the
//! channel's name what was sent already, and what is taken twice is taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{
    Channel, ChannelId, ChannelNews, ChannelState, ChannelStep, ChannelsHeard, ChannelsPlace,
};
use farthing_money::{AssetId, Timestamp};

use crate::recover::{PAUSE, PAUSE_MAX};
use crate::{ChannelFate, Refusal, SessionRail, SessionRules, SettleError, SettledInAll, Till};

#[cfg(test)]
mod tests;

/// How long whoever began a deposit has it to themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How many times a rail is asked about a channel within the time after which vouchers stop counting.
const ASKED_WITHIN: u32 = 4;

/// How long a channel may be closed for before somebody is to look into it.
const PATIENCE: Duration = Duration::from_mins(10);

/// How much is done in one look, at most. The rest waits for the next.
const ERRANDS_MAX: usize = 1_000;

/// How many channels are settled in one look unless something else is said, and how many are closed.
const AT_ONCE: usize = 50;

/// When what was taken is settled while the channel stays open. Closing settles it in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    /// Once so much could be settled, in atoms, by asset.
    pub above: BTreeMap<AssetId, u128>,
    /// Once a payer owes so much over all of its channels, in atoms, by asset: each of them that something
    /// could be settled of.
    pub payer_above: BTreeMap<AssetId, u128>,
    /// Once some of it is owed for so long.
    pub after: Option<Duration>,
    /// Once what is owed has reached so many hundredths of the deposit.
    pub at_percent: Option<u8>,
    /// Never less than this at once, in atoms, by asset: it would not be worth the fee.
    pub min: BTreeMap<AssetId, u128>,
    /// How many channels are settled in one look, at most.
    pub at_once: usize,
}

impl Default for Settling {
    fn default() -> Self {
        let (above, payer_above, min) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { above, payer_above, after: None, at_percent: None, min, at_once: AT_ONCE }
    }
}

impl Settling {
    /// From when on a channel is to be settled, whose payer owes so much over all of its channels; nothing if
    /// that is not to be foreseen.
    fn due_at(&self, channel: &Channel, payer_owes: u128) -> Option<Timestamp> {
        let (due, asset) = (channel.due(), &channel.facts.asset);
        let is_rails = channel.facts.cash.is_some();
        if !is_rails || due == 0 || self.min.get(asset).is_some_and(|min| due < *min) {
            return None;
        }
        let is_much = self.above.get(asset).is_some_and(|above| due >= *above);
        let is_risky = self.at_percent.is_some_and(|percent| {
            let limit = channel.deposit.saturating_sub(channel.settled);
            channel.owed().saturating_mul(100) >= limit.saturating_mul(percent.into())
        });
        let is_payers = self.payer_above.get(asset).is_some_and(|above| payer_owes >= *above);
        if is_much || is_risky || is_payers {
            return Some(AT_ONCE_DUE);
        }
        Some(channel.owed_since?.after(self.after?))
    }
}

/// A moment that is over, whatever time it is.
const AT_ONCE_DUE: Timestamp = Timestamp::from_micros(0);

/// One thing to do about a channel, which can be done any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Note that it is to be closed and is not.
    Warn,
    /// Finish a deposit that was written down and not heard of again.
    Finish,
    /// Close it.
    Close,
    /// Settle what was taken, and leave it open.
    Settle,
    /// Ask the rail what it knows of it.
    Follow,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Deposits that the rail confirmed.
    pub confirmed: usize,
    /// Deposits that were given up.
    pub abandoned: usize,
    /// Channels that were settled and stay open.
    pub settled: usize,
    /// Channels that were closed.
    pub closed: usize,
    /// Things that came to nothing and will be tried again.
    pub open: usize,
    /// Channels that the rail would not settle or close, as things stand.
    pub refused: Vec<ChannelId>,
    /// Channels whose closing is late, from now on.
    pub overdue: Vec<ChannelId>,
    /// How many channels were looked at.
    pub looked_at: usize,
}

/// Where sessions stand that are not closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are, by method and state.
    pub sessions: BTreeMap<(String, &'static str), u64>,
    /// How many are to be closed and are late, by method.
    pub overdue: BTreeMap<String, u64>,
    /// What of their deposits was neither spent nor given back, in atoms, by method and asset.
    pub refundable: BTreeMap<(String, AssetId), u128>,
    /// What was taken and is not settled on the rail, in atoms, by method and asset.
    pub owed: BTreeMap<(String, AssetId), u128>,
}

/// What is remembered of one channel.
#[derive(Clone, Debug)]
struct Known {
    state: &'static str,
    is_overdue: bool,
    asset: AssetId,
    payer: String,
    refundable: u128,
    owed: u128,
    due_at: Option<Timestamp>,
}

/// What a payer owes over all of its channels in an asset, and which they are.
#[derive(Clone, Debug, Default)]
struct Exposure {
    owed: u128,
    channels: BTreeSet<ChannelId>,
}

/// How often something was tried in vain.
#[derive(Clone, Copy, Debug)]
struct Tried {
    pause: Duration,
    next_at: Timestamp,
}

/// What looking after channels remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Tending {
    idle: Option<Duration>,
    settling: Settling,
    until: Option<ChannelsPlace>,
    known: BTreeMap<ChannelId, Known>,
    queue: BTreeSet<(Timestamp, ChannelId)>,
    tally: Tally,
    exposures: BTreeMap<(String, AssetId), Exposure>,
    tried: BTreeMap<ChannelId, Tried>,
    asked: BTreeMap<ChannelId, Timestamp>,
    /// When each rail was listened to last that tells of all its channels at once.
    listened: BTreeMap<String, Timestamp>,
    /// Rails of which something may have been missed.
    missed: BTreeSet<String>,
}

impl Tending {
    /// Closes channels that were not used for `idle`; none, if nothing is said.
    pub fn close_after(&mut self, idle: Option<Duration>) {
        if self.idle != idle {
            (self.idle, self.until) = (idle, None);
        }
    }

    /// Settles channels as `settling` says, from now on.
    pub fn settle(&mut self, settling: &Settling) {
        if self.settling != *settling {
            (self.settling, self.until) = (settling.clone(), None);
        }
    }

    /// Where sessions stood at the last look.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is to be done about a channel now, or from when on something is. Pure.
    fn plan(
        &self,
        channel: &Channel,
        rules: &SessionRules,
        now: Timestamp,
    ) -> Option<(Errand, Timestamp)> {
        let id = &channel.facts.id;
        let tried = self.tried.get(id).map_or(AT_ONCE_DUE, |tried| tried.next_at);
        let (state, pending) = (channel.state, channel.pending.is_some());
        let is_open = state == ChannelState::Open;
        let late = channel.closing.filter(|closing| !closing.is_overdue);
        let finish = pending && state != ChannelState::Closed;
        let is_asked = matches!(state, ChannelState::Closing | ChannelState::CloseRequested { .. });
        let asked_to = is_asked && !pending;
        let idle_at = self.idle.filter(|_| is_open && !pending).map(|it| channel.used_at.after(it));
        let settle_at = self.settling.due_at(channel, self.payer_owes(channel));
        let settle_at = settle_at.filter(|_| is_open);
        let follow_at = if is_open { self.follow_at(id, rules) } else { None };
        let things = [
            (Errand::Warn, late.map(|closing| closing.late_at(PATIENCE))),
            (Errand::Finish, finish.then(|| channel.used_at.after(GRACE).max(tried))),
            (Errand::Close, asked_to.then_some(tried)),
            (Errand::Close, idle_at.map(|at| at.max(tried))),
            // No voucher is taken until somebody has looked: settling waits for that.
            (Errand::Follow, follow_at.map(|at| at.max(tried))),
            (Errand::Settle, settle_at.map(|at| at.max(tried))),
        ];
        let things = things.into_iter().filter_map(|(errand, at)| Some((errand, at?)));
        let first = things.clone().find(|(_, at)| *at <= now);
        first.or_else(|| things.min_by_key(|(_, at)| *at))
    }

    /// What a channel's payer owes over all of its channels in the channel's asset, in atoms.
    fn payer_owes(&self, channel: &Channel) -> u128 {
        let facts = &channel.facts;
        let all = self.exposures.get(&(facts.payer.clone(), facts.asset.clone()));
        let before = self.known.get(&facts.id).map_or(0, |known| known.owed);
        let others = all.map_or(0, |it| it.owed.saturating_sub(before));
        others.saturating_add(channel.owed())
    }

    /// From when on a rail is to be asked about a channel. Where it tells of all of them at once, only about
    /// those that nobody has asked about since.
    fn follow_at(&self, id: &ChannelId, rules: &SessionRules) -> Option<Timestamp> {
        let every = rules.heard_within?.checked_div(ASKED_WITHIN)?;
        match self.asked.get(id) {
            None => Some(AT_ONCE_DUE),
            Some(_) if self.listened.contains_key(id.method()) => None,
            Some(asked) => Some(asked.after(every)),
        }
    }

    /// The channels of which something is due.
    fn due(&self, now: Timestamp) -> Vec<ChannelId> {
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        due.take(ERRANDS_MAX).map(|(_, id)| id.clone()).collect()
    }

    /// Takes in how channels stand, and says what is to be done now.
    fn take(
        &mut self,
        news: ChannelNews,
        rules: impl Fn(&str) -> Option<&'static SessionRules>,
        now: Timestamp,
    ) -> Vec<(Errand, Channel)> {
        if news.is_all {
            (self.known, self.queue) = (BTreeMap::new(), BTreeSet::new());
            (self.tally, self.asked) = (Tally::default(), BTreeMap::new());
            self.exposures = BTreeMap::new();
            let alive: BTreeSet<_> = news.channels.iter().map(|it| &it.facts.id).collect();
            self.tried.retain(|id, _| alive.contains(id));
        }
        self.until = Some(news.until);
        let mut errands = Vec::new();
        for channel in news.channels {
            let Some(rules) = rules(channel.facts.id.method()) else {
                self.know(&channel, None);
                continue;
            };
            let planned = self.plan(&channel, rules, now);
            self.know(&channel, planned.map(|(_, at)| at));
            if let Some((errand, _)) = planned.filter(|(_, at)| *at <= now)
                && errands.len() < ERRANDS_MAX
            {
                errands.push((errand, channel));
            }
        }
        errands
    }

    /// Forgets what was asked for and is in the book no more.
    fn forget(&mut self, due: &[ChannelId], news: &ChannelNews) {
        let told: BTreeSet<_> = news.channels.iter().map(|it| &it.facts.id).collect();
        for id in due.iter().filter(|id| !told.contains(id)) {
            if let Some(known) = self.known.remove(id) {
                self.tally.change(id, &known, u128::saturating_sub);
                self.expose(id, Some(&known), None);
                known.due_at.map(|at| self.queue.remove(&(at, id.clone())));
            }
        }
    }

    /// Remembers where a channel stands, and when something is due of it.
    fn know(&mut self, channel: &Channel, due_at: Option<Timestamp>) {
        let id = &channel.facts.id;
        let before = self.known.remove(id);
        if let Some(before) = &before {
            self.tally.change(id, before, u128::saturating_sub);
            before.due_at.map(|at| self.queue.remove(&(at, id.clone())));
        }
        if channel.state == ChannelState::Closed {
            self.expose(id, before.as_ref(), None);
            self.tried.remove(id);
            self.asked.remove(id);
            return;
        }
        let known = Known {
            state: channel.state.name(),
            is_overdue: channel.closing.is_some_and(|closing| closing.is_overdue),
            asset: channel.facts.asset.clone(),
            payer: channel.facts.payer.clone(),
            refundable: channel.refundable(),
            owed: channel.owed(),
            due_at,
        };
        self.tally.change(id, &known, u128::saturating_add);
        due_at.map(|at| self.queue.insert((at, id.clone())));
        self.expose(id, before.as_ref(), Some(&known));
        self.known.insert(id.clone(), known);
    }

    /// Counts what a channel's payer owes, no more as it was known `before` and as it is now. Once that is too
    /// much, something is due of all of the payer's channels.
    fn expose(&mut self, id: &ChannelId, before: Option<&Known>, now: Option<&Known>) {
        let name = |known: &Known| (known.payer.clone(), known.asset.clone());
        let Some(name) = now.or(before).map(name) else { return };
        let all = self.exposures.entry(name.clone()).or_default();
        let owed = all.owed;
        let less = owed.saturating_sub(before.map_or(0, |it| it.owed));
        all.owed = less.saturating_add(now.map_or(0, |it| it.owed));
        let limit = self.settling.payer_above.get(&name.1);
        let is_too_much = limit.is_some_and(|limit| owed < *limit && *limit <= all.owed);
        if now.is_some() {
            all.channels.insert(id.clone());
        } else {
            all.channels.remove(id);
        }
        if all.channels.is_empty() {
            self.exposures.remove(&name);
        } else if is_too_much {
            let others = all.channels.clone();
            others.into_iter().filter(|other| other != id).for_each(|other| self.hasten(other));
        }
    }

    /// Something is due of a channel now.
    fn hasten(&mut self, id: ChannelId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.due_at.map(|at| self.queue.remove(&(at, id.clone())));
            known.due_at = Some(AT_ONCE_DUE);
            self.queue.insert((AT_ONCE_DUE, id));
        }
    }

    fn came_to(&mut self, id: &ChannelId, done: bool, now: Timestamp) {
        if done {
            self.tried.remove(id);
            return;
        }
        let before = self.tried.get(id).map(|tried| tried.pause);
        let pause = before.map_or(PAUSE, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        self.tried.insert(id.clone(), Tried { pause, next_at: now.after(pause) });
    }

    /// What a rail has told of all its channels was noted: those it told of are to be asked about.
    fn heard(&mut self, heard: &ChannelsHeard, now: Timestamp) {
        let ChannelsHeard { method, told, anew, .. } = heard;
        let all = anew.then(|| {
            self.asked.retain(|id, _| id.method() != method);
            self.known.keys().filter(|id| id.method() == method).cloned().collect()
        });
        for id in all.unwrap_or_else(|| told.clone()) {
            self.asked.remove(&id);
            self.hasten(id);
        }
        self.missed.remove(method);
        self.listened.insert(method.clone(), now);
    }
}

impl Tally {
    fn change(&mut self, id: &ChannelId, known: &Known, by: fn(u128, u128) -> u128) {
        let method = || id.method().to_owned();
        let count = |count: &mut u64| {
            *count = u64::try_from(by((*count).into(), 1)).unwrap_or(u64::MAX);
        };
        count(self.sessions.entry((method(), known.state)).or_default());
        if known.is_overdue {
            count(self.overdue.entry(method()).or_default());
        }
        for (sums, atoms) in
            [(&mut self.refundable, known.refundable), (&mut self.owed, known.owed)]
        {
            let sum = sums.entry((method(), known.asset.clone())).or_default();
            *sum = by(*sum, atoms);
        }
    }
}

impl Till {
    /// Looks after channels once: finishes what was begun, settles what is due, closes what is to be closed,
    /// and follows what rails say. One such call at a time.
    ///
    /// # Idempotency
    ///
    /// Whatever it does was written down before, or is done and then written down, and found where it was
    /// done; a crash in the middle leaves it to the next look.
    pub async fn tend(&self, tending: &mut Tending, now: Timestamp) -> Tended {
        let mut tended = Tended::default();
        self.listen(tending, now).await;
        let due = tending.due(now);
        // A store that does not answer is asked at the next look.
        let news = self.store.channel_news(tending.until, due.clone()).await;
        let Ok(news) = news else { return tended };
        tending.forget(&due, &news);
        tended.looked_at = news.channels.len();
        let rules = |method: &str| self.session_rail(method).ok().map(SessionRail::session_rules);
        let (mut settle, mut close) = (Batches::new(), Batches::new());
        let mut done = Vec::new();
        for (errand, channel) in tending.take(news, rules, now) {
            let method = channel.facts.id.method().to_owned();
            match errand {
                Errand::Warn => {
                    let came = self.warn(&channel, &mut tended, now).await;
                    done.push((channel, came));
                }
                Errand::Finish => {
                    let came = self.finish_deposit(&channel, &mut tended, now).await;
                    done.push((channel, came));
                }
                Errand::Follow => {
                    let came = self.follow(&channel, now).await;
                    if came {
                        tending.asked.insert(channel.facts.id.clone(), now);
                    }
                    done.push((channel, came));
                }
                Errand::Settle => settle.entry(method).or_default().push(channel),
                Errand::Close => close.entry(method).or_default().push(channel),
            }
        }
        // What the payer has asked for comes first.
        done.extend(self.close_batches(close, &mut tended, now).await);
        done.extend(self.settle_batches(settle, tending.settling.at_once, &mut tended, now).await);
        for (channel, came) in done {
            let id = &channel.facts.id;
            tending.came_to(id, came, now);
            tended.open = tended.open.saturating_add(usize::from(!came));
            // What has changed is told by the next news.
            let planned = rules(id.method()).and_then(|rules| tending.plan(&channel, rules, now));
            tending.know(&channel, planned.map(|(_, at)| at));
        }
        tended
    }

    /// Asks the rails that tell of all their channels at once.
    async fn listen(&self, tending: &mut Tending, now: Timestamp) {
        for rail in &self.rails {
            let Some(session) = rail.session() else { continue };
            let within = session.session_rules().heard_within;
            let every = within.and_then(|within| within.checked_div(ASKED_WITHIN));
            let listened = tending.listened.get(rail.method());
            let is_due =
                every.is_some_and(|every| listened.is_none_or(|at| at.after(every) <= now));
            if !is_due {
                continue;
            }
            let Ok(Some(mut heard)) = session.listen().await else { continue };
            heard.anew |= tending.missed.contains(rail.method());
            if self.store.heard_of_channels(heard.clone()).await.is_ok() {
                tending.heard(&heard, now);
            } else {
                tending.missed.insert(heard.method);
            }
        }
    }

    async fn warn(&self, channel: &Channel, tended: &mut Tended, now: Timestamp) -> bool {
        let id = channel.facts.id.clone();
        let noted = self.store.step(ChannelStep::Overdue { channel: id.clone() }, now).await;
        let is_noted = noted.is_ok();
        tended.overdue.extend(is_noted.then_some(id));
        is_noted
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

    /// Has rails settle channels, and writes down what they say.
    async fn settle_batches(
        &self,
        batches: Batches,
        at_once: usize,
        tended: &mut Tended,
        now: Timestamp,
    ) -> Vec<(Channel, bool)> {
        let mut done = Vec::new();
        for (method, mut channels) in batches {
            let Ok(rail) = self.session_rail(&method) else { continue };
            channels.truncate(at_once.max(1));
            let came = rail.settle_vouchers(&channels).await;
            for (channel, came) in channels.into_iter().zip(came) {
                let id = channel.facts.id.clone();
                let is_done = match came {
                    Ok(SettledInAll { atoms, settled }) => {
                        let settlement = settled.written(now);
                        let step = ChannelStep::Settle { channel: id, settled: atoms, settlement };
                        atoms > channel.settled && self.store.step(step, now).await.is_ok()
                    }
                    Err(SettleError::Declined) => {
                        tended.refused.push(id);
                        false
                    }
                    Err(SettleError::Unsent | SettleError::Unknown) => false,
                };
                tended.settled = tended.settled.saturating_add(usize::from(is_done));
                done.push((channel, is_done));
            }
        }
        done
    }

    /// Closes channels: writes down that they are to be closed, has the rails close them, and writes down
    /// what they say.
    async fn close_batches(
        &self,
        batches: Batches,
        tended: &mut Tended,
        now: Timestamp,
    ) -> Vec<(Channel, bool)> {
        let mut done = Vec::new();
        for (method, mut channels) in batches {
            let Ok(rail) = self.session_rail(&method) else { continue };
            channels.truncate(ERRANDS_MAX);
            let mut at_rail = Vec::new();
            for channel in channels {
                let id = channel.facts.id.clone();
                let step = ChannelStep::Close { channel: id, voucher: None, exactly: false };
                match self.store.step(step, now).await {
                    Ok(stands) if stands.state == ChannelState::Closing => at_rail.push(stands),
                    Ok(stands) => done.push((stands, true)),
                    Err(_) => done.push((channel, false)),
                }
            }
            // The rest is to be closed from now on, and is at the next look.
            at_rail.truncate(AT_ONCE);
            let came = rail.close_channels(&at_rail).await;
            for (channel, came) in at_rail.into_iter().zip(came) {
                let came = match came {
                    Ok(SettledInAll { atoms, settled }) => {
                        let (id, settlement) = (channel.facts.id.clone(), settled.written(now));
                        let step = ChannelStep::Closed { channel: id, settled: atoms, settlement };
                        self.store.step(step, now).await.ok()
                    }
                    Err(SettleError::Declined) => {
                        tended.refused.push(channel.facts.id.clone());
                        None
                    }
                    Err(SettleError::Unsent | SettleError::Unknown) => None,
                };
                let is_closed = came.is_some();
                done.push((came.unwrap_or(channel), is_closed));
            }
        }
        let closed = done.iter().filter(|(it, _)| it.state == ChannelState::Closed).count();
        tended.closed = tended.closed.saturating_add(closed);
        done
    }

    /// Asks the rail about a channel and writes down what it says, if that is news.
    async fn follow(&self, channel: &Channel, now: Timestamp) -> bool {
        let id = &channel.facts.id;
        let Ok(rail) = self.session_rail(id.method()) else { return false };
        let step = match rail.inquire_channel(channel).await {
            Ok(ChannelFate::There(seen)) => ChannelStep::Note { channel: id.clone(), seen },
            Ok(ChannelFate::Settled(seen, SettledInAll { atoms, settled })) => {
                let (channel, settlement) = (id.clone(), settled.written(now));
                let step = ChannelStep::Settle { channel, settled: atoms, settlement };
                if self.store.step(step, now).await.is_err() {
                    return false;
                }
                ChannelStep::Note { channel: id.clone(), seen }
            }
            Ok(ChannelFate::Closed(SettledInAll { atoms, settled })) => {
                let settlement = settled.written(now);
                ChannelStep::Closed { channel: id.clone(), settled: atoms, settlement }
            }
            // It was there: a node that does not know it any more decides nothing.
            Ok(ChannelFate::Nowhere) | Err(_) => return false,
        };
        self.store.step(step, now).await.is_ok()
    }
}

/// Channels of which the same is to be done, by method.
type Batches = BTreeMap<String, Vec<Channel>>;
