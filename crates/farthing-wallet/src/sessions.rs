//! Paying in sessions: open once, sign vouchers, top up, close, and never lose count.
//!
//! ```text
//! 402 ─► session there? ─ no ─► hold the deposit ─► remember ─► open, and buy with the first voucher
//!             │ yes
//!             ▼
//!         enough deposited? ─ no ─► hold more ─► remember ─► top up
//!             │
//!             ▼
//!         does the policy allow it? ─ no ─► refused
//!             │ yes: written down, with what it draws from budgets that the deposit is not held in
//!             ▼
//!         remember what is signed ─► voucher ─┬─ answered: the receipt says what was taken
//!                                             ├─ a stream of events: paid for as it comes, see `streams`
//!                                             ├─ 402: what it asks for, as far as it is owed
//!                                             ├─ 410: count up, and open another
//!                                             └─ silence: the same voucher again
//! ```
//!
//! **Architecture invariant:** no more is ever signed for than what was bought by the wallet's own count and
//! the price of the request at hand, whatever the seller says is missing.
//!
//! **Architecture invariant:** a deposit is held under the owner's caps from before it is signed until the
//! session is closed; then what was spent counts as spent, and the rest is free again.
//!
//! **Architecture invariant:** a voucher is signed after the owner's policy has allowed what it buys and that is
//! written down, and from a deposit that is held in the budgets of whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use farthing_core::{Act, Invitation, Object, PayError, Payer, SessionPayer, Standing, Unpayable};
use farthing_ledger::{Fingerprint, PaymentId, TraceId};
use farthing_money::{Amount, Timestamp};
use farthing_policy::Facts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

use crate::choose::{SessionChoice, choose_session};
use crate::memory::{Asked, Depositor, WalletSession, WalletSessionState};
use crate::outcome::PaidFor;
use crate::owner::{Offer, Permit, Ruled};
use crate::streams::Sink;
use crate::wallet::{
    ATTEMPTS_MAX, Answer, PAUSE_MAX, SendError, is_funded, is_passing, offer, problem_detail,
    retry_after,
};
use crate::{
    BooksError, Choice, MemoryError, Outcome, PayFailure, PayOptions, PayRequest, Refused,
    StoredReceipt, Wallet,
};

mod ahead;

pub(crate) use ahead::{Ahead, beside};

/// How many answers of a seller are acted upon before the wallet gives up on a request.
const ROUNDS_MAX: u32 = 6;

/// How often a deposit is tried at half the size, where the caps or the money do not allow all of it.
const HALVINGS_MAX: u32 = 16;

/// The offers that were made last, by what they are for: within a session, a request need not be refused
/// first to be paid for; and the keys that sellers have proven to have. Its clones share what they know.
#[derive(Clone, Default)]
pub struct KnownOffers(Arc<Known>);

#[derive(Default)]
struct Known {
    offers: Mutex<BTreeMap<String, Invitation>>,
    /// By origin and realm.
    identities: Mutex<BTreeMap<(String, String), Identified>>,
}

/// The key that a seller has proven to have, if any, and when that was found out.
type Identified = (Option<String>, Timestamp);

impl KnownOffers {
    fn name(request: &PayRequest) -> String {
        format!("{} {}{}", request.method, request.origin(), request.url.path())
    }

    fn get(&self, request: &PayRequest) -> Option<Invitation> {
        let known = self.0.offers.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&Self::name(request)).cloned()
    }

    pub(crate) fn keep(&self, request: &PayRequest, invitation: &Invitation) {
        let mut known = self.0.offers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(Self::name(request), invitation.clone());
    }

    /// What was found out about who the seller of a realm is.
    pub(crate) fn identity(&self, request: &PayRequest, realm: &str) -> Option<Identified> {
        let known = self.0.identities.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(request.origin(), realm.to_owned())).cloned()
    }

    pub(crate) fn keep_identity(
        &self,
        request: &PayRequest,
        realm: &str,
        identity: Option<String>,
        at: Timestamp,
    ) {
        let mut known = self.0.identities.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((request.origin(), realm.to_owned()), (identity, at));
    }
}

/// What a seller's refusal says of a session.
#[derive(Default)]
struct Figures {
    channel: Option<String>,
    required: Option<u128>,
    deposit: Option<u128>,
    /// Whether the seller has never known the session.
    never_was: bool,
}

impl Figures {
    fn read(body: &[u8]) -> Self {
        let Ok(Value::Object(problem)) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let text = |name| problem.get(name).and_then(Value::as_str);
        let atoms = |name| text(name).and_then(|it| farthing_money::parse_atoms(it).ok());
        Self {
            channel: text("channelId").map(str::to_owned),
            required: atoms("requiredCumulative"),
            deposit: atoms("deposit"),
            never_was: text("type").is_some_and(|it| it.ends_with("/session/channel-not-found")),
        }
    }
}

/// One request that is being paid for in a session.
pub(crate) struct InSession<'a> {
    pub(crate) request: &'a PayRequest,
    pub(crate) options: &'a PayOptions,
    pub(crate) choice: SessionChoice,
    /// Where a stream goes as it comes.
    pub(crate) sink: &'a mut dyn Sink,
    /// Whether it was asked for since it began to be paid for, and answered each time.
    began: bool,
    /// Whether somebody has approved it.
    approved: bool,
    /// At which price it was allowed since then, and under which names that was written down.
    allowed: Option<(Amount, PaymentId, TraceId)>,
}

/// What a seller answers with.
enum Came {
    Whole(Answer),
    /// A stream of events, of which only the head has come.
    Stream(reqwest::Response),
}

impl Wallet {
    /// The best session offer that may be paid, among those of an answer.
    pub(crate) fn session_choice(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        answer: &Answer,
    ) -> Option<SessionChoice> {
        let invitations = self.invitations(&answer.fields);
        let now = self.clock.now();
        choose_session(invitations, request, &self.payers, &self.rules, options.limit.as_ref(), now)
    }

    /// The same, from an offer that was made before, where there is a session to use it with.
    pub(crate) fn known_choice(
        &self,
        request: &PayRequest,
        options: &PayOptions,
    ) -> Result<Option<SessionChoice>, PayFailure> {
        let Some(invitation) = self.offers.get(request) else { return Ok(None) };
        let (limit, now) = (options.limit.as_ref(), self.clock.now());
        let choice =
            choose_session(vec![invitation], request, &self.payers, &self.rules, limit, now);
        let Some(choice) = choice else { return Ok(None) };
        Ok(self.session_for(request, &choice)?.map(|_| choice))
    }

    /// The session that a request can be paid for in.
    fn session_for(
        &self,
        request: &PayRequest,
        choice: &SessionChoice,
    ) -> Result<Option<WalletSession>, PayFailure> {
        let call = call(choice, choice.terms.unit.clone());
        let by = self.authority.depositor(&self.facts("call", &offer(request, &call))?);
        Ok(self.memory.session_with(&request.origin(), &choice.terms.binding, &by)?)
    }

    /// Pays for a request in a session, opening one if there is none.
    ///
    /// # Idempotency
    ///
    /// A request whose end is not known is asked for with the same voucher again.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]. [`BooksError::OverTotal`] before anything was signed for this request.
    pub(crate) async fn pay_in_session(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        choice: SessionChoice,
        sink: &mut dyn Sink,
    ) -> Result<Outcome, PayFailure> {
        let _ours = self.lock_session(&request.origin(), &choice.terms.binding).await?;
        let mut at = InSession {
            request,
            options,
            choice,
            sink,
            began: false,
            approved: false,
            allowed: None,
        };
        for _ in 0..ROUNDS_MAX {
            if let Some(outcome) = self.round(&mut at).await? {
                return Ok(outcome);
            }
        }
        Err(PayFailure::Disputed { detail: "the seller asks again and again".to_owned() })
    }

    /// One voucher and what the seller says to it. Nothing means that there is more to be said.
    async fn round(&self, at: &mut InSession<'_>) -> Result<Option<Outcome>, PayFailure> {
        let (request, terms) = (at.request, at.choice.terms.clone());
        let price = &terms.unit;
        let known = match self.session_for(request, &at.choice)? {
            Some(session) => self.usable(session).await?,
            None => None,
        };
        let permit = self.permit_call(at, known.as_ref()).await?;
        let mut session = match known {
            Some(session) => session,
            None => self.begin_session(at).await?,
        };
        let (cumulative, resumed) = self.asked_in(at, &mut session, permit).await?;
        let act = match session.state {
            WalletSessionState::Opening => Act::Open { cumulative },
            WalletSessionState::Open
            | WalletSessionState::Closing
            | WalletSessionState::Leaving
            | WalletSessionState::Closed => Act::Voucher { cumulative },
        };
        let field = match self.acted(&at.choice, &session, act).await {
            // What the rail has refused to open will not be opened, where the rail can say so.
            Err(error @ PayFailure::Rail(PayError::Refused)) if matches!(act, Act::Open { .. }) => {
                if let Ok(Some(Standing::Never)) = self.standing(&session).await {
                    self.count_up(&mut session, 0, "never opened").await?;
                }
                return Err(error);
            }
            field => field?,
        };
        let (payment, trace) = match &at.allowed {
            Some((_, payment, trace)) => (*payment, Some(*trace)),
            None => (payment_of(&session, request, cumulative), None),
        };
        let mut ahead = self.top_up_ahead(at, &mut session).await?;
        let asking = self.insist_on(request, &field, &at.choice.invitation);
        let (came, made) = beside(asking, &mut ahead).await;
        self.made_ahead(&mut session, made).await;
        if !matches!(came, Ok(Came::Stream(_))) {
            self.finish_ahead(&mut session, &mut ahead).await;
        }
        let came = came?;
        at.began = true;
        let paid = PaidFor {
            payment,
            trace,
            amount: Some(price.clone()),
            recipient: Some(terms.recipient.clone()),
            resumed,
            kept_until: None,
            receipt: None,
        };
        let answer = match came {
            Came::Whole(answer) => answer,
            Came::Stream(response) => {
                return self.stream(at, session, response, paid, ahead).await.map(Some);
            }
        };
        match answer.status {
            StatusCode::PAYMENT_REQUIRED => {
                self.refused_in_session(at, session, &answer, cumulative)?;
                Ok(None)
            }
            // What the rail has undone opened nothing.
            StatusCode::CONFLICT if is_undone(&answer.body) => {
                session.asked = None;
                let standing = self.standing(&session).await.map_err(PayFailure::Rail)?;
                self.conclude(&mut session, standing, 0, "undone by the rail").await?;
                Err(PayFailure::Refused(Refused {
                    payment,
                    status: answer.status,
                    detail: problem_detail(&answer.body),
                    held_until: at.choice.invitation.expires_at.unwrap_or_default(),
                }))
            }
            // A seller's own 410 is an answer like any other.
            StatusCode::GONE if Figures::read(&answer.body).channel.is_some() => {
                // The request was not bought now; one that was asked for before may have been.
                session.asked = None;
                let before = if resumed { price.atoms() } else { 0 };
                let spent = session.spent.atoms().saturating_add(before);
                let spent = if never_was(&session, &answer) { 0 } else { spent };
                self.part(&mut session, spent, "closed by the seller").await?;
                self.offered_anew(at, &answer)?;
                Ok(None)
            }
            _ => self.answered_in_session(at, session, act, answer, paid),
        }
    }

    /// The seller's answer to a request that was bought, or that failed. Nothing means that it has only opened the
    /// session.
    fn answered_in_session(
        &self,
        at: &InSession<'_>,
        mut session: WalletSession,
        act: Act,
        answer: Answer,
        mut paid: PaidFor,
    ) -> Result<Option<Outcome>, PayFailure> {
        let (request, terms, status) = (at.request, &at.choice.terms, answer.status);
        let price = &terms.unit;
        let receipt = self.buyers.iter().find_map(|buyer| buyer.read_receipt(&answer.fields));
        if matches!(act, Act::Open { .. })
            && status.is_success()
            && receipt.as_ref().is_some_and(|it| bought_nothing(it, price))
        {
            // Some sellers answer an opening with no more than that it is one. What was asked for is still to be
            // bought, and for some of them a voucher that buys has to advance.
            session.state = WalletSessionState::Open;
            session.asked = None;
            self.memory.keep_session(&session)?;
            return Ok(None);
        }
        paid.receipt.clone_from(&receipt);
        if status.is_server_error() {
            paid.kept_until = at.choice.invitation.expires_at;
        } else {
            self.answered(&mut session, price, receipt.as_ref())?;
            self.offers.keep(request, &at.choice.invitation);
            if status.is_success() {
                let SessionChoice { invitation, payer, .. } = &at.choice;
                let (amount, recipient, payer) = (price, terms.recipient.as_str(), payer.as_ref());
                let offer = Offer { request, invitation, amount, recipient, payer };
                self.learn(&offer, at.approved)?;
            }
            if let Some(receipt) = receipt {
                let (url, at) = (request.url.to_string(), self.clock.now());
                let payment = paid.payment;
                self.memory.keep_receipt(&StoredReceipt { payment, at, url, receipt })?;
            }
        }
        let Answer { status, fields, body } = answer;
        Ok(Some(Outcome { status, fields, body, paid: Some(paid), streamed: false }))
    }

    // --- deciding -----------------------------------------------------------------------------

    /// Asks the owner's policy whether a request may be bought in a session. Nothing means that it was allowed
    /// before.
    async fn permit_call(
        &self,
        at: &InSession<'_>,
        session: Option<&WalletSession>,
    ) -> Result<Option<Box<Permit>>, PayFailure> {
        let price = &at.choice.terms.unit;
        let is_resumed =
            !at.began && session.is_some_and(|it| it.asks(&at.request.intent(), price));
        let is_allowed = at.allowed.as_ref().is_some_and(|(allowed, ..)| allowed == price);
        if is_resumed || is_allowed {
            return Ok(None);
        }
        let call = call(&at.choice, price.clone());
        let facts = self.facts("call", &offer(at.request, &call))?;
        match self.rule(self.in_session(facts, session))? {
            Ruled::Allowed(permit) => Ok(Some(permit)),
            Ruled::Asked(refusal) => Err(self.park(*refusal).await),
            Ruled::Denied(refusal) => Err(self.denied(*refusal).await?),
        }
    }

    /// The facts of what is paid from a deposit: whom it pays was decided upon when it was made, or will be.
    pub(crate) fn in_session(&self, facts: Facts, session: Option<&WalletSession>) -> Facts {
        let purses = match session {
            Some(session) => session.by.as_ref().map(|by| by.purses.clone()).unwrap_or_default(),
            None => self.authority.depositor(&facts).purses,
        };
        Facts {
            known_recipient: Some(facts.recipient.clone()),
            purses: purses.into_iter().collect(),
            ..facts
        }
    }

    /// Writes down that a request was allowed, before anything is signed for it.
    async fn write_call(
        &self,
        at: &mut InSession<'_>,
        session: &mut WalletSession,
        (permit, cumulative): (Box<Permit>, u128),
    ) -> Result<(), PayFailure> {
        let price = at.choice.terms.unit.clone();
        let call = call(&at.choice, price.clone());
        let voucher = voucher_of(session, at.request, cumulative);
        let trace = TraceId::new(self.clock.now(), rand::random());
        match self.books.draw((voucher, &call), at.request, &permit, trace).await {
            Ok(()) => {}
            Err(error) => {
                self.give_up_unopened(session).await?;
                let BooksError::OverBudget { draw, used } = error else {
                    return Err(error.into());
                };
                let decision = self.over_budget(*permit, draw, used).await?;
                return Err(PayFailure::Denied(Box::new(decision)));
            }
        }
        if let Some(approval) = &permit.decided.approval {
            self.memory.used(&approval.id)?;
            at.approved = true;
        }
        at.allowed = Some((price, PaymentId::of(&voucher), trace));
        Ok(())
    }

    /// Gives up a session of which nothing was signed yet, so that nothing can be deposited.
    async fn give_up_unopened(&self, session: &mut WalletSession) -> Result<(), PayFailure> {
        if session.state == WalletSessionState::Opening && session.signed.is_zero() {
            self.count_up(session, 0, "never opened").await?;
        }
        Ok(())
    }

    /// Remembers what is asked for now, before it is signed: what the voucher is over, and whether the same was
    /// asked for before.
    async fn asked_in(
        &self,
        at: &mut InSession<'_>,
        session: &mut WalletSession,
        permit: Option<Box<Permit>>,
    ) -> Result<(u128, bool), PayFailure> {
        let (request, terms) = (at.request, at.choice.terms.clone());
        let price = &terms.unit;
        let is_same = session.asks(&request.intent(), price);
        let resumed = is_same && !at.began;
        // What was asked for before and never answered counts as bought.
        if !is_same && let Some(before) = session.asked.take() {
            session.spent =
                session.with(session.spent.atoms().saturating_add(before.price.atoms()));
        }
        let cumulative = session.next(&request.intent(), price, terms.delta_min_atoms);
        if cumulative > session.deposit.atoms() {
            self.top_up(at, session, cumulative).await?;
        }
        if let Some(permit) = permit {
            self.write_call(at, session, (permit, cumulative)).await?;
        }
        session.asked = Some(Asked {
            intent: request.intent(),
            cumulative: session.with(cumulative),
            price: price.clone(),
        });
        session.signed = session.with(session.signed.atoms().max(cumulative));
        session.used_at = self.clock.now();
        self.memory.keep_session(session)?;
        Ok((cumulative, resumed))
    }

    /// A session that was remembered, if it can be paid with. Of one of which nobody knows whether it was
    /// opened, the rail is asked, where it can be.
    async fn usable(
        &self,
        mut session: WalletSession,
    ) -> Result<Option<WalletSession>, PayFailure> {
        if session.state != WalletSessionState::Opening {
            return Ok(Some(session));
        }
        let repeats = self.rail_of(&session).is_some_and(SessionPayer::repeats_deposits);
        match self.standing(&session).await {
            // It is there by the payer's own doing: the seller may not have been told.
            Ok(Some(Standing::There { leaves_at: None, .. })) if repeats => Ok(Some(session)),
            Ok(Some(Standing::There { leaves_at: None, .. })) => {
                // What was asked for stays asked for: the same voucher buys it.
                session.state = WalletSessionState::Open;
                self.memory.keep_session(&session)?;
                Ok(Some(session))
            }
            Ok(Some(Standing::There { .. } | Standing::Over { .. } | Standing::Never)) => {
                let signed = session.signed.atoms();
                self.part(&mut session, signed, "closed by the seller").await?;
                Ok(None)
            }
            // The same opening is sent again.
            Ok(Some(Standing::Coming { .. }) | None) | Err(_) => Ok(Some(session)),
        }
    }

    /// The seller has answered: what was asked for is bought.
    fn answered(
        &self,
        session: &mut WalletSession,
        price: &Amount,
        receipt: Option<&Object>,
    ) -> Result<(), PayFailure> {
        session.state = WalletSessionState::Open;
        session.asked = None;
        let counted = session.spent.atoms().saturating_add(price.atoms());
        let said = receipt.and_then(|receipt| atoms_in(receipt, "spent"));
        // Less than counted is good news: a request whose end was not known had not been bought. More is
        // the seller's claim, and counts only as far as it was signed for when the session is closed.
        if said.is_some_and(|said| said > counted) {
            tracing::warn!(
                channel = session.channel,
                "the seller says it took more than was asked"
            );
        }
        session.spent = session.with(said.map_or(counted, |said| said.min(counted)));
        Ok(self.memory.keep_session(session)?)
    }

    /// The seller asks for something else than it was given.
    fn refused_in_session(
        &self,
        at: &mut InSession<'_>,
        mut session: WalletSession,
        answer: &Answer,
        cumulative: u128,
    ) -> Result<(), PayFailure> {
        let figures = Figures::read(&answer.body);
        let refused = PayFailure::Refused(Refused {
            payment: payment_of(&session, at.request, cumulative),
            status: answer.status,
            detail: problem_detail(&answer.body),
            held_until: at.choice.invitation.expires_at.unwrap_or_default(),
        });
        let own = figures.channel.as_deref() == Some(session.channel.as_str());
        if !own {
            // The offer was not taken: it is too old, or its price has changed. The voucher was not looked
            // at, and the next one is signed for another offer.
            let before = at.choice.invitation.challenge.clone();
            self.offered_anew(at, answer)?;
            return if at.choice.invitation.challenge == before || !is_stale_offer(&answer.body) {
                Err(refused)
            } else {
                Ok(())
            };
        }
        // It knows the session, so that it was opened; and it has not sold.
        session.state = WalletSessionState::Open;
        let required = figures.required.unwrap_or(u128::MAX);
        if required > cumulative {
            session.asked = None;
            self.memory.keep_session(&session)?;
            return Err(PayFailure::Disputed {
                detail: format!(
                    "the seller asks for {required} atoms in all, and by the wallet's count at most \
                     {cumulative} are owed"
                ),
            });
        }
        let Some(deposit) = figures.deposit.filter(|it| *it < cumulative) else {
            session.asked = None;
            self.memory.keep_session(&session)?;
            return Err(refused);
        };
        // Less was deposited than the wallet thought: the same voucher goes again once there is enough.
        session.deposit = session.with(deposit);
        self.memory.keep_session(&session)?;
        self.offered_anew(at, answer)
    }

    /// Takes the fresh offer of an answer, where there is one that may be paid.
    fn offered_anew(&self, at: &mut InSession<'_>, answer: &Answer) -> Result<(), PayFailure> {
        let choice = self.session_choice(at.request, at.options, answer);
        let same = choice.filter(|choice| choice.terms.binding == at.choice.terms.binding);
        at.choice = same.ok_or_else(|| PayFailure::Disputed {
            detail: "the seller has no session to offer any more that may be paid".to_owned(),
        })?;
        Ok(())
    }

    // --- deposits -----------------------------------------------------------------------------

    /// Holds a deposit and remembers the session, before anything of it is signed.
    async fn begin_session(&self, at: &InSession<'_>) -> Result<WalletSession, PayFailure> {
        let SessionChoice { invitation, terms, payer } = &at.choice;
        let least = terms.unit.atoms().max(terms.delta_min_atoms);
        let most = self.deposit_max(&terms.unit).max(least);
        let suggested = terms.suggested_deposit.as_ref().map_or(most, Amount::atoms);
        let wanted = suggested.min(most).max(least);
        let by = self.depositor(at)?;
        let (payment, deposit) = self.hold_deposit(at, invitation, wanted, least, false).await?;
        let prepared = match sessions_of(payer.as_ref())?
            .prepare(invitation, &deposit, rand::random())
            .await
        {
            Ok(prepared) => prepared,
            Err(error) => {
                // Nothing was signed, so nothing can be spent.
                self.books.release(payment).await?;
                return Err(PayFailure::Rail(error));
            }
        };
        let asset = deposit.asset().clone();
        let now = self.clock.now();
        let session = WalletSession {
            method: invitation.method.clone(),
            channel: prepared.channel,
            origin: at.request.origin(),
            binding: terms.binding.clone(),
            recipient: terms.recipient.clone(),
            url: at.request.url.to_string(),
            http_method: at.request.method.to_string(),
            state: WalletSessionState::Opening,
            by: Some(by),
            holds: vec![(payment, deposit.clone())],
            deposit,
            signed: Amount::zero(asset.clone()),
            spent: Amount::zero(asset),
            asked: None,
            topping: None,
            leaves_at: None,
            keepsake: prepared.keepsake,
            opened_at: now,
            used_at: now,
        };
        self.memory.keep_session(&session)?;
        Ok(session)
    }

    /// The most that the owner lets be deposited at once.
    fn deposit_max(&self, unit: &Amount) -> u128 {
        self.rules.session_deposit.get(unit.asset()).copied().unwrap_or_default()
    }

    /// Holds `wanted` of the caps, or half of it again and again, down to `least`: as much as the caps
    /// leave, and as there is money for. One that is made `ahead` of its need asks nobody: where it is not
    /// allowed, it is [`BooksError::OverTotal`], and nothing of that is written down.
    async fn hold_deposit(
        &self,
        at: &InSession<'_>,
        invitation: &Invitation,
        wanted: u128,
        least: u128,
        ahead: bool,
    ) -> Result<(PaymentId, Amount), PayFailure> {
        let mut atoms = wanted;
        for _ in 0..HALVINGS_MAX {
            let deposit = Amount::new(at.choice.terms.unit.asset().clone(), atoms);
            let choice =
                Choice { invitation: invitation.clone(), ..call(&at.choice, deposit.clone()) };
            if atoms > least && !is_funded(&choice).await {
                atoms = atoms.checked_div(2).unwrap_or_default().max(least);
                continue;
            }
            let trace = TraceId::new(self.clock.now(), rand::random());
            let facts = self.facts("deposit", &offer(at.request, &choice))?;
            let half = atoms.checked_div(2).unwrap_or_default().max(least);
            let permit = match self.rule(facts)? {
                Ruled::Allowed(permit) => permit,
                Ruled::Asked(_) | Ruled::Denied(_) if atoms > least => {
                    atoms = half;
                    continue;
                }
                Ruled::Asked(_) | Ruled::Denied(_) if ahead => {
                    return Err(BooksError::OverTotal.into());
                }
                Ruled::Asked(refusal) => {
                    return Err(self.park(refusal.upon(&choice.invitation)).await);
                }
                Ruled::Denied(refusal) => {
                    self.write_down(&refusal).await?;
                    return Err(PayFailure::Denied(Box::new(refusal.decision)));
                }
            };
            match self.books.hold(&choice, at.request, &self.rules, &permit, trace).await {
                Ok(payment) => {
                    if let Some(approval) = &permit.decided.approval {
                        self.memory.used(&approval.id)?;
                    }
                    return Ok((payment, deposit));
                }
                Err(BooksError::OverTotal | BooksError::OverBudget { .. }) if atoms > least => {
                    atoms = half;
                }
                Err(BooksError::OverBudget { .. }) if ahead => {
                    return Err(BooksError::OverTotal.into());
                }
                Err(BooksError::OverBudget { draw, used }) => {
                    let decision = self.over_budget(*permit, draw, used).await?;
                    return Err(PayFailure::Denied(Box::new(decision)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(BooksError::OverTotal.into())
    }

    /// Deposits more, so that `cumulative` can be signed for.
    pub(crate) async fn top_up(
        &self,
        at: &InSession<'_>,
        session: &mut WalletSession,
        cumulative: u128,
    ) -> Result<(), PayFailure> {
        if session.state == WalletSessionState::Opening {
            // It is opened with what there is: a price beyond the deposit is one that has changed.
            let detail = "the price is more than the deposit of a session that is being opened";
            return Err(PayFailure::Disputed { detail: detail.to_owned() });
        }
        if session.topping.is_some() {
            self.look_at_deposit(at.request, session).await?;
            if cumulative <= session.deposit.atoms() {
                return Ok(());
            }
        }
        let missing = cumulative.saturating_sub(session.deposit.atoms());
        let wanted = self.deposit_max(&at.choice.terms.unit).max(missing);
        let repeats = self.rail_of(session).is_some_and(SessionPayer::repeats_deposits);
        // Opening and topping up each answer a challenge of their own.
        let choice = self.fresh_choice(at.request, session).await?;
        let begun = session.topping.clone().zip(session.holds.last().map(|(held, _)| *held));
        let (payment, more) = match begun {
            // The same further deposit as before, which is found where it was made.
            Some((more, payment)) if repeats => (payment, more),
            Some(_) | None => {
                let held =
                    self.hold_deposit(at, &choice.invitation, wanted, missing, false).await?;
                self.is_held(at, session, &held)?;
                held
            }
        };
        let made = self.deposit_more(at.request, &choice, session, &(payment, more)).await;
        self.topped_up(session, made).await
    }

    /// Whose budgets a deposit is held in that is made for a request.
    fn depositor(&self, at: &InSession<'_>) -> Result<Depositor, PayFailure> {
        let call = call(&at.choice, at.choice.terms.unit.clone());
        Ok(self.authority.depositor(&self.facts("deposit", &offer(at.request, &call))?))
    }

    /// Remembers a further deposit that is held, and in whose budgets, before anything of it is signed.
    fn is_held(
        &self,
        at: &InSession<'_>,
        session: &mut WalletSession,
        held: &(PaymentId, Amount),
    ) -> Result<(), PayFailure> {
        let by = self.depositor(at)?;
        match &mut session.by {
            Some(known) => known.purses.extend(by.purses),
            None => session.by = Some(by),
        }
        session.holds.push(held.clone());
        session.topping = Some(held.1.clone());
        Ok(self.memory.keep_session(session)?)
    }

    /// Gives up the hold of a further deposit that will not be made.
    async fn take_back(
        &self,
        session: &mut WalletSession,
        payment: PaymentId,
    ) -> Result<(), PayFailure> {
        session.holds.retain(|(held, _)| *held != payment);
        session.topping = None;
        self.memory.keep_session(session)?;
        Ok(self.books.release(payment).await?)
    }

    /// Asks the seller how much lies in a session of which a further deposit was never answered.
    async fn look_at_deposit(
        &self,
        request: &PayRequest,
        session: &mut WalletSession,
    ) -> Result<(), PayFailure> {
        if session.signed.is_zero() {
            return Ok(());
        }
        let choice = self.fresh_choice(request, session).await?;
        let act = Act::Voucher { cumulative: session.signed.atoms() };
        let head = PayRequest { method: Method::HEAD, ..request.clone() };
        let answer = self.do_in_session(&head, &choice, session, act).await?;
        let receipt = self.buyers.iter().find_map(|buyer| buyer.read_receipt(&answer.fields));
        let Some(deposit) = receipt.as_ref().and_then(|it| atoms_in(it, "deposit")) else {
            return Ok(());
        };
        let held = session.holds.iter().map(|(_, held)| held.atoms()).fold(0, u128::saturating_add);
        let more = session.topping.as_ref().map_or(0, Amount::atoms);
        let is_made = deposit >= session.deposit.atoms().saturating_add(more);
        // Where the payer makes it, it is made in any case.
        if is_made || !self.rail_of(session).is_some_and(SessionPayer::repeats_deposits) {
            session.deposit = session.with(deposit.min(held));
            session.topping = None;
        }
        Ok(self.memory.keep_session(session)?)
    }

    // --- closing ------------------------------------------------------------------------------

    /// Closes a session with its seller, and gets back what was not spent.
    ///
    /// # Idempotency
    ///
    /// Closing again finds it closed.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]; what is not known to be closed stays held.
    pub async fn close_session(&self, channel: &str) -> Result<WalletSession, PayFailure> {
        let (mut session, _ours) = self.locked_session(channel).await?;
        match self.standing(&session).await {
            _ if session.state == WalletSessionState::Closed => return Ok(session),
            // The rail was asked already: it is asked for the next step, and not the seller.
            Ok(Some(Standing::There { leaves_at: Some(_), .. })) => {
                self.leave(&mut session).await?;
                return Ok(session);
            }
            Ok(Some(Standing::Over { .. } | Standing::Never)) => {
                let signed = session.signed.atoms();
                self.part(&mut session, signed, "closed by the seller").await?;
                return Ok(session);
            }
            Ok(Some(Standing::There { .. } | Standing::Coming { .. }) | None) | Err(_) => {}
        }
        let request = request_of(&session)?;
        if session.state == WalletSessionState::Open {
            session.state = WalletSessionState::Closing;
            self.memory.keep_session(&session)?;
        }
        let mut cumulative = session.signed.atoms();
        for _ in 0..ROUNDS_MAX {
            let choice = self.fresh_choice(&request, &session).await?;
            let act = Act::Close { cumulative };
            let answer = self.do_in_session(&request, &choice, &session, act).await?;
            if answer.status == StatusCode::GONE && Figures::read(&answer.body).channel.is_some() {
                let asked = session.asked.as_ref().map_or(0, |asked| asked.price.atoms());
                let counted = session.spent.atoms().saturating_add(asked);
                let counted = if never_was(&session, &answer) { 0 } else { counted };
                self.part(&mut session, counted, "closed by the seller").await?;
                // What the seller does not know and the rail does, only the rail gives back.
                if session.state == WalletSessionState::Leaving && session.leaves_at.is_none() {
                    self.leave(&mut session).await?;
                }
                return Ok(session);
            }
            if answer.status.is_success() {
                let receipt =
                    self.buyers.iter().find_map(|buyer| buyer.read_receipt(&answer.fields));
                let said = receipt.as_ref().and_then(|receipt| atoms_in(receipt, "spent"));
                let most = session.signed.atoms();
                let spent = said.unwrap_or(most).min(most);
                let reference = session.channel.clone();
                self.wait_until_over(&session).await;
                self.part(&mut session, spent, &reference).await?;
                return Ok(session);
            }
            let figures = Figures::read(&answer.body);
            // A rail that settles what a voucher says wants one for exactly what was spent.
            match figures.required {
                Some(required) if required < cumulative => cumulative = required,
                Some(_) | None => {
                    return Err(PayFailure::Refused(Refused {
                        payment: payment_of(&session, &request, cumulative),
                        status: answer.status,
                        detail: problem_detail(&answer.body),
                        held_until: choice.invitation.expires_at.unwrap_or_default(),
                    }));
                }
            }
        }
        Err(PayFailure::Disputed { detail: "the seller does not close the session".to_owned() })
    }

    /// Gets back what was not spent of a session without its seller: asks the rail for it, or takes it once
    /// the seller has had its time. Nothing is paid with the session any more.
    ///
    /// # Idempotency
    ///
    /// Each call takes the next step, if its time has come; what lies in between is told by
    /// [`WalletSession::leaves_at`].
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]; [`PayFailure::NoWayOut`] where the deposit lies in the seller's own books.
    pub async fn leave_session(&self, channel: &str) -> Result<WalletSession, PayFailure> {
        let (mut session, _ours) = self.locked_session(channel).await?;
        if session.state != WalletSessionState::Closed {
            self.leave(&mut session).await?;
        }
        Ok(session)
    }

    async fn leave(&self, session: &mut WalletSession) -> Result<(), PayFailure> {
        let rail = self.rail_of(session).ok_or(PayFailure::NoWayOut)?;
        if session.state != WalletSessionState::Leaving {
            session.state = WalletSessionState::Leaving;
            self.memory.keep_session(session)?;
        }
        let left = rail.leave(&session.prepared()).await;
        match left {
            Ok(standing) => {
                let signed = session.signed.atoms();
                self.conclude(session, Some(standing), signed, "left without the seller").await
            }
            Err(PayError::Invitation(Unpayable::Method)) => Err(PayFailure::NoWayOut),
            Err(error) => Err(PayFailure::Rail(error)),
        }
    }

    /// A session as it stands now that nobody else is at it.
    async fn locked_session(
        &self,
        channel: &str,
    ) -> Result<(WalletSession, crate::IntentLock), PayFailure> {
        let find = || -> Result<WalletSession, PayFailure> {
            let all = self.memory.sessions()?;
            let found = all.into_iter().find(|session| session.channel == channel);
            found.ok_or(PayFailure::NoSession)
        };
        let session = find()?;
        let ours = self.lock_session(&session.origin, &session.binding).await?;
        Ok((find()?, ours))
    }

    fn rail_of(&self, session: &WalletSession) -> Option<&dyn SessionPayer> {
        self.payers.iter().find(|payer| payer.method() == session.method)?.session()
    }

    /// What the rail knows of a session; nothing where its deposit lies in the seller's own books.
    async fn standing(&self, session: &WalletSession) -> Result<Option<Standing>, PayError> {
        match self.rail_of(session) {
            Some(rail) => rail.standing(&session.prepared()).await,
            None => Ok(None),
        }
    }

    /// Gives the rail a moment to say that what the seller has closed is over: nodes lag behind each other.
    async fn wait_until_over(&self, session: &WalletSession) {
        let mut pause = self.pause;
        for _ in 1..ATTEMPTS_MAX {
            match self.standing(session).await {
                Ok(Some(Standing::There { .. } | Standing::Coming { .. })) | Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Ok(Some(Standing::Over { .. } | Standing::Never) | None) => return,
            }
        }
    }

    /// The seller goes on no more with a session, of which `spent` was spent as far as it and the wallet
    /// know. What the rail says counts, where it can be asked; what it does not say yet stays held.
    async fn part(
        &self,
        session: &mut WalletSession,
        spent: u128,
        reference: &str,
    ) -> Result<(), PayFailure> {
        if let Ok(standing) = self.standing(session).await {
            return self.conclude(session, standing, spent, reference).await;
        }
        session.state = WalletSessionState::Leaving;
        session.spent = session.with(spent);
        (session.asked, session.topping) = (None, None);
        Ok(self.memory.keep_session(session)?)
    }

    /// Writes down what became of a session that is not gone on with.
    async fn conclude(
        &self,
        session: &mut WalletSession,
        standing: Option<Standing>,
        spent: u128,
        reference: &str,
    ) -> Result<(), PayFailure> {
        let leaves_at = match standing {
            None => return self.count_up(session, spent, reference).await,
            Some(Standing::Over { settled }) => {
                return self.count_up(session, settled, reference).await;
            }
            Some(Standing::Never) => return self.count_up(session, 0, "never opened").await,
            Some(Standing::There { leaves_at, .. }) => leaves_at,
            Some(Standing::Coming { until }) => Some(until),
        };
        session.state = WalletSessionState::Leaving;
        session.leaves_at = leaves_at;
        (session.asked, session.topping) = (None, None);
        Ok(self.memory.keep_session(session)?)
    }

    /// Finishes what earlier processes left: sessions of which it is not known whether they were opened, or
    /// that are to be closed, are closed. Answers with the sessions that were.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`] of the memory. A seller that cannot be reached is asked the next time.
    pub async fn recover_sessions(
        &self,
    ) -> Result<Vec<(String, Result<WalletSession, PayFailure>)>, PayFailure> {
        let mut recovered = Vec::new();
        for session in self.memory.sessions()? {
            let hangs = match session.state {
                WalletSessionState::Opening
                | WalletSessionState::Closing
                | WalletSessionState::Leaving => true,
                WalletSessionState::Open => session.asked.is_some() || session.topping.is_some(),
                WalletSessionState::Closed => false,
            };
            if hangs {
                let closed = self.close_session(&session.channel).await;
                recovered.push((session.channel, closed));
            }
        }
        Ok(recovered)
    }

    /// Writes down what a session came to: what was spent is spent, and the rest of what was held is free.
    async fn count_up(
        &self,
        session: &mut WalletSession,
        spent: u128,
        reference: &str,
    ) -> Result<(), PayFailure> {
        let mut left = spent;
        for (payment, held) in &session.holds {
            let moved = session.with(left.min(held.atoms()));
            left = left.saturating_sub(moved.atoms());
            self.books.counted_up(*payment, moved, reference).await?;
        }
        session.spent = session.with(spent);
        session.state = WalletSessionState::Closed;
        (session.asked, session.topping, session.leaves_at) = (None, None, None);
        Ok(self.memory.keep_session(session)?)
    }

    // --- speaking -----------------------------------------------------------------------------

    async fn lock_session(
        &self,
        origin: &str,
        binding: &str,
    ) -> Result<crate::IntentLock, MemoryError> {
        let parts = [origin, binding].map(str::as_bytes);
        self.memory.lock_apart(&Fingerprint::of("session", &parts)).await
    }

    /// A fresh offer for a session: what a request without payment is answered with.
    pub(crate) async fn fresh_choice(
        &self,
        request: &PayRequest,
        session: &WalletSession,
    ) -> Result<SessionChoice, PayFailure> {
        let bare = PayRequest { body: bytes::Bytes::new(), ..request.clone() };
        let asked = self.send(&bare, None).await.map_err(PayFailure::Unreachable)?;
        let mut offers = self.invitations(&asked.fields).into_iter().filter_map(|invitation| {
            let payer = self.payers.iter().find(|payer| payer.method() == invitation.method)?;
            let terms = payer.session()?.session_terms(&invitation).ok()?;
            (terms.binding == session.binding).then(|| SessionChoice {
                invitation,
                terms,
                payer: payer.clone(),
            })
        });
        offers.next().ok_or_else(|| PayFailure::Disputed {
            detail: "the seller offers no such session any more".to_owned(),
        })
    }

    /// Does something that buys nothing.
    pub(crate) async fn do_in_session(
        &self,
        request: &PayRequest,
        choice: &SessionChoice,
        session: &WalletSession,
        act: Act,
    ) -> Result<Answer, PayFailure> {
        let field = self.acted(choice, session, act).await?;
        let bare = PayRequest { body: bytes::Bytes::new(), ..request.clone() };
        self.insist(&bare, &field, &choice.invitation).await
    }

    async fn acted(
        &self,
        choice: &SessionChoice,
        session: &WalletSession,
        act: Act,
    ) -> Result<(HeaderName, HeaderValue), PayFailure> {
        // What gives back is signed for whoever is frozen, too.
        let gives_back = matches!(act, Act::Close { .. });
        if !gives_back {
            self.check_frozen()?;
        }
        let SessionChoice { invitation, payer, .. } = choice;
        let rail = sessions_of(payer.as_ref())?;
        let paid =
            rail.act(invitation, &session.prepared(), act).await.map_err(PayFailure::Rail)?;
        self.credential(invitation, &paid).map_err(PayFailure::Rail)
    }

    /// Sends a credential until it is answered, or leaves it for later.
    async fn insist(
        &self,
        request: &PayRequest,
        field: &(HeaderName, HeaderValue),
        invitation: &Invitation,
    ) -> Result<Answer, PayFailure> {
        match self.insist_on(request, field, invitation).await? {
            Came::Whole(answer) => Ok(answer),
            // What buys nothing is not answered with a stream; one that comes all the same is not waited for.
            Came::Stream(response) => {
                let (status, fields) = (response.status(), response.headers().clone());
                Ok(Answer { status, fields, body: bytes::Bytes::new() })
            }
        }
    }

    /// The same, for what may be answered with a stream of events.
    async fn insist_on(
        &self,
        request: &PayRequest,
        field: &(HeaderName, HeaderValue),
        invitation: &Invitation,
    ) -> Result<Came, PayFailure> {
        let expires_at = invitation.expires_at.unwrap_or_default();
        let mut pause = self.pause;
        for attempt in 1..=ATTEMPTS_MAX {
            let wait = match self.come(request, field).await {
                Ok(Came::Whole(answer)) if is_passing(answer.status) => {
                    retry_after(&answer.fields).unwrap_or(pause)
                }
                Ok(came) => return Ok(came),
                Err(error) => {
                    tracing::info!(%error, attempt, "no answer yet; the same goes again");
                    pause
                }
            };
            let wait = wait.min(PAUSE_MAX);
            if attempt < ATTEMPTS_MAX && self.clock.now().after(wait) < expires_at {
                tokio::time::sleep(wait).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(PayFailure::Hanging)
    }

    async fn come(
        &self,
        request: &PayRequest,
        field: &(HeaderName, HeaderValue),
    ) -> Result<Came, SendError> {
        let response = self.send_for_head(request, Some(field)).await?;
        if Self::is_stream(response.status(), response.headers()) {
            return Ok(Came::Stream(response));
        }
        Answer::read(response).await.map(Came::Whole)
    }
}

/// The request that a session is closed with: where it was opened, and nothing else.
fn request_of(session: &WalletSession) -> Result<PayRequest, PayFailure> {
    let url = session.url.parse().map_err(|_| PayFailure::NoSession)?;
    let method = Method::from_bytes(session.http_method.as_bytes());
    let method = method.map_err(|_| PayFailure::NoSession)?;
    let (fields, body) = (http::HeaderMap::new(), bytes::Bytes::new());
    Ok(PayRequest { method, url, fields, body })
}

fn sessions_of(payer: &dyn Payer) -> Result<&dyn SessionPayer, PayFailure> {
    let unpayable = PayFailure::Rail(farthing_core::PayError::Invitation(Unpayable::Method));
    payer.session().ok_or(unpayable)
}

/// Whether the receipt of an opening says that less than one request's price was spent.
fn bought_nothing(receipt: &Object, price: &Amount) -> bool {
    atoms_in(receipt, "spent").is_some_and(|spent| spent < price.atoms())
}

/// Whether a session was never opened: the seller says so, and has never said otherwise.
fn never_was(session: &WalletSession, answer: &Answer) -> bool {
    session.state == WalletSessionState::Opening && Figures::read(&answer.body).never_was
}

/// Names what a request buys with a voucher over so much in all.
pub(crate) fn voucher_of(
    session: &WalletSession,
    request: &PayRequest,
    cumulative: u128,
) -> Fingerprint {
    let (intent, cumulative) = (request.intent(), cumulative.to_be_bytes());
    let (method, channel) = (session.method.as_bytes(), session.channel.as_bytes());
    let parts: [&[u8]; 4] = [method, channel, &cumulative, intent.as_bytes()];
    Fingerprint::of("wallet voucher", &parts)
}

fn payment_of(session: &WalletSession, request: &PayRequest, cumulative: u128) -> PaymentId {
    PaymentId::of(&voucher_of(session, request, cumulative))
}

/// A purchase within a session, as the owner is asked about it.
pub(crate) fn call(choice: &SessionChoice, amount: Amount) -> Choice {
    let SessionChoice { invitation, terms, payer } = choice;
    let recipient = terms.recipient.clone();
    Choice {
        invitation: invitation.clone(),
        price: farthing_core::Price { amount, recipient, shares: Vec::new() },
        payer: payer.clone(),
    }
}

pub(crate) fn atoms_in(receipt: &Object, name: &str) -> Option<u128> {
    farthing_money::parse_atoms(receipt.get(name)?.as_str()?).ok()
}

/// Whether a refusal says that the rail has undone what was to be deposited.
pub(crate) fn is_undone(body: &[u8]) -> bool {
    let Ok(problem) = serde_json::from_slice::<Value>(body) else { return false };
    let kind = problem.get("type").and_then(Value::as_str).unwrap_or_default();
    kind.ends_with("/session/transaction-reverted")
}

/// Whether a refusal says that the offer was at fault, and not what was paid.
fn is_stale_offer(body: &[u8]) -> bool {
    let Ok(problem) = serde_json::from_slice::<Value>(body) else { return false };
    let kind = problem.get("type").and_then(Value::as_str).unwrap_or_default();
    kind.ends_with("/invalid-challenge") || kind.ends_with("/payment-expired")
}
