//! Subscribing: authorise once, use it as long as it is paid for, and cancel it.
//!
//! ```text
//! 402 ─► subscribed? ─ no ─► allowed? ─► hold all of it ─► remember ─► begin, and ask with it
//!             │ yes
//!             ▼
//!         prove who asks, for this very request ─┬─ answered
//!                                                ├─ 402, past due: the account is to be funded
//!                                                └─ 402, over: count up, and begin another
//! ```
//!
//! **Architecture invariant:** everything that a seller may charge without asking again is held under the
//! owner's caps from before it is signed: the price of every period up to the end that the wallet has signed.
//! What was not charged is free again when the subscription is over.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Invitation, Object, PayError, Payer, Price, SUBSCRIPTION, SubscriptionAct, SubscriptionPayer,
    SubscriptionTerms, Unpayable,
};
use farthing_ledger::{PaymentId, TraceId};
use farthing_money::{Amount, Timestamp};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::choose::{SubscriptionChoice, choose_subscriptions};
use crate::memory::{NewOutstanding, Secret, WalletSubscription, WalletSubscriptionState};
use crate::outcome::PaidFor;
use crate::owner::Ruled;
use crate::wallet::{Answer, offer, problem_detail};
use crate::{BooksError, Choice, Outcome, PayFailure, PayOptions, PayRequest, Refused, Wallet};

/// How far the clocks of a wallet and of a seller may be apart: what is authorised ends so much before the
/// period begins that is not held any more.
const CLOCKS_APART: Duration = Duration::from_mins(10);

/// How many answers of a seller are acted upon before the wallet gives up on a request.
const ROUNDS_MAX: u32 = 3;

impl Wallet {
    /// The subscription offer that is answered, if one is: one that the wallet has subscribed to, or the
    /// cheapest that its owner allows.
    pub(crate) fn subscription_choice(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        answer: &Answer,
    ) -> Result<Option<SubscriptionChoice>, PayFailure> {
        let invitations = self.invitations(&answer.fields);
        let now = self.clock.now();
        let choices = choose_subscriptions(invitations, request, &self.payers, &self.rules, now);
        for choice in &choices {
            let known = self.memory.subscription_with(&request.origin(), &choice.terms.binding)?;
            if known.is_some() {
                return Ok(Some(choice.clone()));
            }
        }
        let limit = options.limit.as_ref();
        let allowed = |it: &SubscriptionChoice| {
            let amount = &it.terms.amount;
            let owners = self.rules.subscription.get(amount.asset()).copied().unwrap_or_default();
            let callers = limit.is_none_or(|limit| {
                limit.asset() == amount.asset() && amount.atoms() <= limit.atoms()
            });
            amount.atoms() <= owners && callers
        };
        Ok(choices.into_iter().filter(allowed).min_by_key(|it| it.terms.amount.atoms()))
    }

    /// Asks within a subscription, beginning one if there is none.
    ///
    /// # Idempotency
    ///
    /// A request whose end is not known is asked for with the same credential again.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]. [`BooksError::OverTotal`] before anything was signed.
    pub(crate) async fn pay_subscribed(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        mut choice: SubscriptionChoice,
    ) -> Result<Outcome, PayFailure> {
        let origin = request.origin();
        let _ours = self.memory.lock_subscription(&origin, &choice.terms.binding).await?;
        for _ in 0..ROUNDS_MAX {
            let known = self.memory.subscription_with(&origin, &choice.terms.binding)?;
            let (it, act) = match known {
                Some(it) => match &it.id {
                    Some(id) => {
                        let act = SubscriptionAct::Use { id: id.clone() };
                        (it, act)
                    }
                    // Another request has begun it, and has not heard of it.
                    None if it.offered_until > self.clock.now() => {
                        return Err(PayFailure::Hanging);
                    }
                    None => {
                        self.lose(it)?;
                        continue;
                    }
                },
                None => self.begin_subscription(request, &choice).await?,
            };
            let begins = matches!(act, SubscriptionAct::Begin { .. });
            match self.ask_subscribed(request, options, &choice, &it, act).await {
                // It is over by the seller's word: what was written down of that decides what comes next.
                Err(PayFailure::Refused(refused)) if !begins => {
                    let still = self.memory.subscription_with(&origin, &choice.terms.binding)?;
                    if still.is_some() {
                        return Err(PayFailure::Refused(refused));
                    }
                    let asked = self.send(request, None).await.map_err(PayFailure::Unreachable)?;
                    choice = self
                        .subscription_choice(request, options, &asked)?
                        .filter(|it| it.terms.binding == choice.terms.binding)
                        .ok_or(PayFailure::Refused(refused))?;
                }
                ended => return ended,
            }
        }
        Err(PayFailure::Disputed { detail: "the seller ends every subscription".to_owned() })
    }

    /// Holds everything that may be charged, and remembers the subscription, before anything is signed.
    async fn begin_subscription(
        &self,
        request: &PayRequest,
        choice: &SubscriptionChoice,
    ) -> Result<(WalletSubscription, SubscriptionAct), PayFailure> {
        let SubscriptionChoice { invitation, terms, payer } = choice;
        let now = self.clock.now();
        let most = self.rules.subscription_periods.get(terms.amount.asset()).copied();
        let mut periods = u64::from(most.unwrap_or(crate::choose::SUBSCRIPTION_PERIODS).max(1));
        let (hold, periods, until) = loop {
            let (covered, until) = end_of(terms, periods, now).ok_or(BooksError::OverTotal)?;
            let atoms = terms.amount.atoms().saturating_mul(u128::from(covered));
            let price = Price {
                amount: Amount::new(terms.amount.asset().clone(), atoms),
                recipient: terms.recipient.clone(),
                shares: Vec::new(),
            };
            let exposure =
                Choice { invitation: invitation.clone(), price, payer: Arc::clone(payer) };
            let trace = TraceId::new(now, rand::random());
            // A cap that leaves less is authorised for less, where the payer says for how long.
            let fewer = (covered > 1 && terms.payer_ends)
                .then(|| covered.checked_div(2).unwrap_or(1).max(1));
            let permit = match self.rule(self.facts("subscribe", &offer(request, &exposure))?)? {
                Ruled::Allowed(permit) => permit,
                Ruled::Asked(refusal) => match fewer {
                    Some(fewer) => {
                        periods = fewer;
                        continue;
                    }
                    None => return Err(self.park(refusal.upon(invitation)).await),
                },
                Ruled::Denied(refusal) => match fewer {
                    Some(fewer) => {
                        periods = fewer;
                        continue;
                    }
                    None => return Err(self.denied(*refusal).await?),
                },
            };
            let held =
                self.books.hold_subscription(&exposure, request, &self.rules, &permit, trace);
            match (held.await, fewer) {
                (Ok(hold), _) => {
                    if let Some(approval) = &permit.decided.approval {
                        self.memory.used(&approval.id)?;
                    }
                    break (hold, covered, until);
                }
                (Err(BooksError::OverTotal | BooksError::OverBudget { .. }), Some(fewer)) => {
                    periods = fewer;
                }
                (Err(BooksError::OverBudget { draw, used }), None) => {
                    let decision = self.over_budget(*permit, draw, used).await?;
                    return Err(PayFailure::Denied(Box::new(decision)));
                }
                (Err(error), _) => return Err(error.into()),
            }
        };
        let it = WalletSubscription {
            hold,
            id: None,
            method: invitation.method.clone(),
            origin: request.origin(),
            binding: terms.binding.clone(),
            recipient: terms.recipient.clone(),
            url: request.url.to_string(),
            http_method: request.method.to_string(),
            state: WalletSubscriptionState::Beginning,
            amount: terms.amount.clone(),
            period: terms.period,
            periods,
            until,
            charges: 0,
            begun_with: hold,
            offered_until: invitation.expires_at.unwrap_or(now),
            begun_at: now,
            used_at: now,
            revocable: terms.revocable.clone(),
        };
        let payers = terms.payer_ends && terms.expires_at.is_none_or(|sellers| until < sellers);
        Ok((it, SubscriptionAct::Begin { until: payers.then_some(until) }))
    }

    /// Holds nothing, for a request that costs nothing by itself, if the owner allows to prove who asks.
    async fn hold_use(
        &self,
        request: &PayRequest,
        free: &Choice,
        trace: TraceId,
    ) -> Result<PaymentId, PayFailure> {
        let permit = match self.rule(self.facts("prove", &offer(request, free))?)? {
            Ruled::Allowed(permit) => permit,
            Ruled::Asked(refusal) => {
                return Err(self.park(refusal.upon(&free.invitation)).await);
            }
            Ruled::Denied(refusal) => return Err(self.denied(*refusal).await?),
        };
        Ok(self.books.hold(free, request, &self.rules, &permit, trace).await?)
    }

    /// Signs, remembers, and presents. The request itself costs nothing: what it is asked within does.
    async fn ask_subscribed(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        choice: &SubscriptionChoice,
        it: &WalletSubscription,
        act: SubscriptionAct,
    ) -> Result<Outcome, PayFailure> {
        let SubscriptionChoice { invitation, terms, payer } = choice;
        let begins = matches!(act, SubscriptionAct::Begin { .. });
        let trace = TraceId::new(self.clock.now(), rand::random());
        let nothing = Amount::zero(terms.amount.asset().clone());
        let free = Choice {
            invitation: invitation.clone(),
            price: Price {
                amount: nothing.clone(),
                recipient: terms.recipient.clone(),
                shares: Vec::new(),
            },
            payer: Arc::clone(payer),
        };
        let payment = match self.hold_use(request, &free, trace).await {
            Ok(payment) => payment,
            Err(error) => {
                if begins {
                    self.books.release(it.hold).await?;
                }
                return Err(error);
            }
        };
        let mut it = it.clone();
        it.used_at = self.clock.now();
        if begins {
            it.begun_with = payment;
        }
        self.memory.keep_subscription(&it)?;
        let field = match self.signed(invitation, payer.as_ref(), act).await {
            Ok(field) => field,
            Err(error) => {
                // Nothing was signed, so nothing can be charged.
                self.books.release(payment).await?;
                if begins {
                    self.over(&mut it, 0).await?;
                }
                return Err(PayFailure::Rail(error));
            }
        };
        let expires_at = invitation.expires_at.unwrap_or_else(|| self.clock.now());
        self.memory.remember(
            &NewOutstanding {
                payment,
                intent: self.attempt(request, options),
                origin: &request.origin(),
                header: field.0.as_str(),
                secret: Secret {
                    credential: field.1.to_str().unwrap_or_default().to_owned(),
                    method: payer.method().to_owned(),
                    keepsake: None,
                    agent: Some(self.authority.agent().to_owned()),
                },
                expires_at,
            },
            &self.key,
        )?;
        let paid = PaidFor {
            payment,
            trace: Some(trace),
            amount: Some(if begins { terms.amount.clone() } else { nothing }),
            recipient: Some(terms.recipient.clone()),
            resumed: false,
            kept_until: None,
            receipt: None,
        };
        self.present(request, options, field, paid, expires_at).await
    }

    async fn signed(
        &self,
        invitation: &Invitation,
        payer: &dyn Payer,
        act: SubscriptionAct,
    ) -> Result<(http::HeaderName, http::HeaderValue), PayError> {
        let paid = subscriptions_of(payer)?.subscribe(invitation, act).await?;
        self.credential(invitation, &paid)
    }

    /// Writes down what a receipt says of a subscription.
    pub(crate) fn note_subscribed(
        &self,
        payment: PaymentId,
        receipt: Option<&Object>,
    ) -> Result<(), PayFailure> {
        let Some(receipt) = receipt else { return Ok(()) };
        let Some(id) = receipt.get("subscriptionId").and_then(Value::as_str) else {
            return Ok(());
        };
        let all = self.memory.subscriptions()?;
        let of = |it: &WalletSubscription| {
            let named = it.id.as_deref() == Some(id);
            it.begun_with == payment || (named && it.state != WalletSubscriptionState::Over)
        };
        let Some(mut it) = all.into_iter().find(of) else { return Ok(()) };
        if it.state == WalletSubscriptionState::Beginning {
            it.state = WalletSubscriptionState::Active;
            it.id = Some(id.to_owned());
        }
        let period = receipt.get("period").and_then(Value::as_u64).unwrap_or_default();
        // What the seller says counts as far as it can be true.
        let begun = it.period.begun_before(it.begun_at, self.clock.now().after(CLOCKS_APART));
        it.charges = it.charges.max(period.saturating_add(1).min(begun.max(1)));
        Ok(self.memory.keep_subscription(&it)?)
    }

    /// Writes down what a refusal says of a subscription.
    pub(crate) async fn note_unsubscribed(
        &self,
        payment: PaymentId,
        body: &[u8],
    ) -> Result<(), PayFailure> {
        let all = self.memory.subscriptions()?;
        let begun = all.iter().find(|it| it.begun_with == payment);
        if let Some(it) = begun {
            if it.state == WalletSubscriptionState::Beginning {
                let state = WalletSubscriptionState::Refused;
                self.memory.keep_subscription(&WalletSubscription { state, ..it.clone() })?;
            }
            return Ok(());
        }
        let Ok(Value::Object(problem)) = serde_json::from_slice(body) else { return Ok(()) };
        let text = |name| problem.get(name).and_then(Value::as_str);
        let Some(id) = text("subscriptionId") else { return Ok(()) };
        let Some(mut it) = all.into_iter().find(|it| it.id.as_deref() == Some(id)) else {
            return Ok(());
        };
        let is_over = match text("state") {
            Some(state) => matches!(state, "cancelled" | "expired" | "ended"),
            // The seller does not know it.
            None => true,
        };
        if is_over {
            let said = problem.get("charges").and_then(Value::as_u64).unwrap_or_default();
            self.over(&mut it, said).await?;
        }
        Ok(())
    }

    /// Counts a subscription up: what was charged is spent, and the rest is free again.
    async fn over(&self, it: &mut WalletSubscription, said: u64) -> Result<(), PayFailure> {
        let counted = it.state == WalletSubscriptionState::Cancelled;
        it.charges = self.charges(it, said);
        if !counted {
            self.books.counted_up(it.hold, it.spent(), "subscription over").await?;
        }
        it.state = WalletSubscriptionState::Over;
        Ok(self.memory.keep_subscription(it)?)
    }

    /// How many periods were charged: what the seller says, as far as so many have begun.
    fn charges(&self, it: &WalletSubscription, said: u64) -> u64 {
        let begun = it.period.begun_before(it.begun_at, self.clock.now().after(CLOCKS_APART));
        it.charges.max(said.min(begun)).min(it.periods)
    }

    fn lose(&self, mut it: WalletSubscription) -> Result<(), PayFailure> {
        it.state = WalletSubscriptionState::Lost;
        Ok(self.memory.keep_subscription(&it)?)
    }

    /// Frees what is held for subscriptions that cannot be charged any more.
    pub(crate) async fn sweep_subscriptions(&self) -> Result<(), PayFailure> {
        let now = self.clock.now();
        for mut it in self.memory.subscriptions()? {
            match it.state {
                WalletSubscriptionState::Refused if it.offered_until <= now => {
                    self.over(&mut it, 0).await?;
                }
                // Its answer cannot be asked for any more.
                WalletSubscriptionState::Beginning if it.offered_until <= now => self.lose(it)?,
                // Whoever may charge every period is taken to have done so.
                WalletSubscriptionState::Active | WalletSubscriptionState::Lost
                    if it.until <= now =>
                {
                    let periods = it.periods;
                    self.over(&mut it, periods).await?;
                }
                WalletSubscriptionState::Cancelled if it.until <= now => {
                    self.over(&mut it, 0).await?;
                }
                WalletSubscriptionState::Beginning
                | WalletSubscriptionState::Active
                | WalletSubscriptionState::Cancelled
                | WalletSubscriptionState::Refused
                | WalletSubscriptionState::Lost
                | WalletSubscriptionState::Over => {}
            }
        }
        Ok(())
    }

    /// Cancels a subscription: nothing is charged any more, and what was not charged is free again. What is
    /// paid for can be used to its end.
    ///
    /// Where the rail can take the authorisation back, it is: whatever the seller does then, nothing can be
    /// charged, and every period that has begun counts as charged. Elsewhere it is the seller who says that
    /// nothing is charged any more.
    ///
    /// # Idempotency
    ///
    /// Cancelling again says where it stands.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]; what is held stays held.
    pub async fn cancel_subscription(
        &self,
        hold: PaymentId,
    ) -> Result<WalletSubscription, PayFailure> {
        let find = || -> Result<WalletSubscription, PayFailure> {
            let all = self.memory.subscriptions()?;
            all.into_iter().find(|it| it.hold == hold).ok_or(PayFailure::NoSubscription)
        };
        let known = find()?;
        let _ours = self.memory.lock_subscription(&known.origin, &known.binding).await?;
        let mut it = find()?;
        if let Some(revocable) = it.revocable.clone() {
            return self.revoke_subscription(it, &revocable).await;
        }
        if it.id.is_none() {
            return Err(PayFailure::NoSubscription);
        }
        match it.state {
            WalletSubscriptionState::Active => {}
            WalletSubscriptionState::Beginning
            | WalletSubscriptionState::Cancelled
            | WalletSubscriptionState::Refused
            | WalletSubscriptionState::Lost
            | WalletSubscriptionState::Over => return Ok(it),
        }
        let charges = match self.cancel_with_seller(&it).await? {
            Cancelled::Charged(said) => self.charges(&it, said),
            Cancelled::Over => return find(),
        };
        it.charges = charges;
        self.books.counted_up(it.hold, it.spent(), "subscription cancelled").await?;
        it.state = WalletSubscriptionState::Cancelled;
        self.memory.keep_subscription(&it)?;
        Ok(it)
    }

    /// Takes an authorisation back at the rail, and tells the seller.
    async fn revoke_subscription(
        &self,
        mut it: WalletSubscription,
        revocable: &Object,
    ) -> Result<WalletSubscription, PayFailure> {
        match it.state {
            WalletSubscriptionState::Active
            | WalletSubscriptionState::Beginning
            | WalletSubscriptionState::Lost => {}
            WalletSubscriptionState::Cancelled
            | WalletSubscriptionState::Refused
            | WalletSubscriptionState::Over => return Ok(it),
        }
        let payer = self.payers.iter().find(|payer| payer.method() == it.method);
        let payer = payer.ok_or(PayFailure::NoSubscription)?;
        let revoked = subscriptions_of(payer.as_ref()).map_err(PayFailure::Rail)?;
        revoked.revoke(revocable).await.map_err(PayFailure::Rail)?;
        // Whoever could charge every period that has begun is taken to have done so.
        if it.id.is_none() {
            self.over(&mut it, u64::MAX).await?;
            return Ok(it);
        }
        it.charges = self.charges(&it, u64::MAX);
        self.books.counted_up(it.hold, it.spent(), "subscription revoked").await?;
        it.state = WalletSubscriptionState::Cancelled;
        self.memory.keep_subscription(&it)?;
        // A seller who is not told finds out when it next tries to charge.
        if let Err(error) = self.cancel_with_seller(&it).await {
            tracing::debug!(%error, "the seller of a revoked subscription was not told");
        }
        Ok(it)
    }

    /// Tells a seller that nothing is to be charged any more.
    async fn cancel_with_seller(&self, it: &WalletSubscription) -> Result<Cancelled, PayFailure> {
        let Some(id) = it.id.clone() else { return Err(PayFailure::NoSubscription) };
        let request = request_of(it)?;
        let asked = self.send(&request, None).await.map_err(PayFailure::Unreachable)?;
        let mut offers = self.invitations(&asked.fields).into_iter().filter_map(|invitation| {
            let payer = self.payers.iter().find(|payer| payer.method() == invitation.method)?;
            let terms = payer.subscription()?.subscription_terms(&invitation).ok()?;
            (terms.binding == it.binding).then_some((invitation, payer))
        });
        let (invitation, payer) = offers.next().ok_or_else(|| PayFailure::Disputed {
            detail: "the seller offers no such subscription any more".to_owned(),
        })?;
        let act = SubscriptionAct::Cancel { id };
        let field =
            self.signed(&invitation, payer.as_ref(), act).await.map_err(PayFailure::Rail)?;
        let answer = self.send(&request, Some(&field)).await.map_err(|_| PayFailure::Hanging)?;
        if answer.status == StatusCode::PAYMENT_REQUIRED {
            self.note_unsubscribed(invitation_payment(&invitation), &answer.body).await?;
            let all = self.memory.subscriptions()?;
            let stands = all.iter().find(|other| other.hold == it.hold).map(|other| other.state);
            if stands == Some(WalletSubscriptionState::Over) {
                return Ok(Cancelled::Over);
            }
        }
        if answer.status != StatusCode::NO_CONTENT {
            return Err(PayFailure::Refused(Refused {
                payment: it.hold,
                status: answer.status,
                detail: problem_detail(&answer.body),
                held_until: it.until,
            }));
        }
        let receipt = self.buyers.iter().find_map(|buyer| buyer.read_receipt(&answer.fields));
        let said = receipt.as_ref().and_then(|it| it.get("charges")?.as_u64());
        Ok(Cancelled::Charged(said.unwrap_or_default()))
    }
}

/// What a seller says of a cancellation.
enum Cancelled {
    /// It has charged so many periods, and charges no more.
    Charged(u64),
    /// It was over before, and was counted up.
    Over,
}

/// For how many periods a subscription is authorised, at most as many as are wanted, and until when; nothing
/// where the seller's end lies beyond and the payer cannot say otherwise.
fn end_of(terms: &SubscriptionTerms, wanted: u64, now: Timestamp) -> Option<(u64, Timestamp)> {
    let own = terms.period.boundary(now, wanted)?.before(CLOCKS_APART);
    match terms.expires_at {
        Some(sellers) if sellers <= own || !terms.payer_ends => {
            let begun = terms.period.begun_before(now, sellers.after(CLOCKS_APART)).max(1);
            (begun <= wanted).then_some((begun, sellers))
        }
        Some(_) | None if terms.payer_ends => Some((wanted, own)),
        Some(_) | None => None,
    }
}

/// The payment that answering an invitation would be.
fn invitation_payment(invitation: &Invitation) -> PaymentId {
    PaymentId::of(&farthing_core::identity(invitation.protocol, &invitation.challenge))
}

/// The request that a subscription is cancelled with: where it was begun, and nothing else.
fn request_of(it: &WalletSubscription) -> Result<PayRequest, PayFailure> {
    let url = it.url.parse().map_err(|_| PayFailure::NoSubscription)?;
    let method = Method::from_bytes(it.http_method.as_bytes());
    let method = method.map_err(|_| PayFailure::NoSubscription)?;
    let (fields, body) = (http::HeaderMap::new(), bytes::Bytes::new());
    Ok(PayRequest { method, url, fields, body })
}

fn subscriptions_of(payer: &dyn Payer) -> Result<&dyn SubscriptionPayer, PayError> {
    payer.subscription().ok_or(PayError::Invitation(Unpayable::Method))
}

/// Whether an invitation is one to subscribe.
pub(crate) fn is_subscription(invitation: &Invitation) -> bool {
    invitation.intent == SUBSCRIPTION
}
