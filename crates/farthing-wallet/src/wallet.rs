//! Paying.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Buyer, Clock, Fate, Invitation, Object, Paid, PayError, Payer, SESSION, SUBSCRIPTION,
};
use farthing_keys::SecretKey;
use farthing_ledger::{Draw, Fingerprint, PaymentId, TraceId, Used};
use farthing_money::Amount;
use farthing_policy::{Decision, OWNER, Verdict};
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::choose::{Choice, Objection, Rules, choose};
use crate::memory::{Kept, NewOutstanding, Secret};
use crate::outcome::PaidFor;
use crate::owner::{Offer, Permit, Ruled};
use crate::request::{UnsafeUrl, check_url};
use crate::streams::{Collected, Sink, Stopped};
use crate::{
    ApprovalRequest, Authority, Books, BooksError, KnownOffers, Memory, MemoryError, Outcome,
    Outstanding, PayRequest, Preview, PreviewOffer, Refused, StoredReceipt,
};

mod remote;

pub use remote::{Ending, Signed, Told};

/// How often one credential is sent before the wallet leaves it for later.
pub(crate) const ATTEMPTS_MAX: u32 = 5;

/// The longest the wallet waits between two attempts.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The longest body read, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A wallet, unlocked.
pub struct Wallet {
    /// The ways to pay, in the owner's order of preference.
    pub payers: Vec<Arc<dyn Payer>>,
    /// The wires it reads.
    pub buyers: Vec<Arc<dyn Buyer>>,
    /// What the owner allows.
    pub rules: Rules,
    /// Who asks, and the policy they are under.
    pub authority: Authority,
    /// Its book.
    pub books: Books,
    /// Its memory.
    pub memory: Memory,
    /// What it seals its memory with.
    pub key: SecretKey,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its connections. Must not follow redirects: see [`Wallet::client`].
    pub http: reqwest::Client,
    /// How long to wait before a credential is sent a second time, where the seller does not say;
    /// twice as long before the third, and so on. [`Wallet::PAUSE`] is a good one.
    pub pause: Duration,
    /// The offers that were made last.
    pub offers: KnownOffers,
}

/// What the caller wants of one payment.
#[derive(Clone, Debug, Default)]
pub struct PayOptions {
    /// The most this payment may cost; only its asset is paid in then.
    pub limit: Option<Amount>,
    /// Pays again although an earlier payment for the same request was never resolved.
    pub pay_again: bool,
    /// The caller's own name for the purchase: the same request under another name is another purchase, and
    /// not a further attempt at the same one. One that was answered is answered again.
    pub name: Option<String>,
}

impl Wallet {
    /// A good pause before a credential is sent a second time.
    pub const PAUSE: Duration = Duration::from_millis(200);

    /// Connections as a wallet wants them: no redirect is followed, since a credential belongs to
    /// the origin that asked for it, and a body comes as it was sent.
    ///
    /// # Errors
    ///
    /// Whatever the system's TLS settings say.
    pub fn client() -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(2))
            .build()
    }

    /// Makes a request and pays for it if need be, once.
    ///
    /// # Idempotency
    ///
    /// If an earlier attempt at the same request left a credential whose end is not known, that one
    /// is sent again and no other is made. Once it has expired, the rail is asked what became of it:
    /// if its money did not move and never will, the request is paid for anew. While another attempt at the same request is running, in
    /// whichever process, this one waits to see how it ends.
    ///
    /// A purchase with a name of its own is over once it was answered: for a day the same answer is given
    /// again, and nothing is paid.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`], which says whether money may have moved.
    pub async fn pay(
        &self,
        request: &PayRequest,
        options: &PayOptions,
    ) -> Result<Outcome, PayFailure> {
        let mut collected = Collected::default();
        let mut outcome = self.pay_into(request, options, &mut collected).await?;
        if std::mem::take(&mut outcome.streamed) {
            outcome.body = collected.0.into();
        }
        Ok(outcome)
    }

    /// The same, and hands a stream of events that is bought in a session on to `sink` as it comes, paying for
    /// it as it comes.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]; with [`PayFailure::Stopped`], part of the stream was handed on.
    pub async fn pay_into(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        sink: &mut dyn Sink,
    ) -> Result<Outcome, PayFailure> {
        check_url(&request.url)?;
        self.sweep().await?;
        let attempt = self.attempt(request, options);
        let _ours = self.memory.lock(&attempt).await?;
        if options.name.is_none() {
            return self.pay_once(request, options, attempt, sink).await;
        }
        let now = self.clock.now();
        match self.memory.answer_to(&attempt, &self.key, now)? {
            Some(Kept::Whole(outcome)) => return Ok(*outcome),
            Some(Kept::Cut(payment)) => return Err(PayFailure::Answered { payment }),
            None => {}
        }
        let outcome = self.pay_once(request, options, attempt, sink).await?;
        self.keep_answer(request, options, &outcome)?;
        Ok(outcome)
    }

    async fn pay_once(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        attempt: Fingerprint,
        sink: &mut dyn Sink,
    ) -> Result<Outcome, PayFailure> {
        if let Some(outstanding) = self.earlier(&attempt, options).await? {
            return self.resume(request, options, &outstanding).await;
        }
        if let Some(choice) = self.known_choice(request, options)? {
            self.find_identities(request, [choice.invitation.realm.clone()]).await;
            return Box::pin(self.pay_in_session(request, options, choice, sink)).await;
        }
        let asked = self.send(request, None).await.map_err(PayFailure::Unreachable)?;
        if asked.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Outcome {
                status: asked.status,
                fields: asked.fields,
                body: asked.body,
                paid: None,
                streamed: false,
            });
        }
        let realms = self.invitations(&asked.fields).into_iter().map(|it| it.realm);
        self.find_identities(request, realms).await;
        let choices = self.choices(request, options, &asked.fields);
        if let Some(choice) = self.subscription_choice(request, options, &asked)? {
            match self.pay_subscribed(request, options, choice).await {
                // What no period fits into may be paid for otherwise.
                Err(PayFailure::Books(BooksError::OverTotal)) if choices.is_ok() => {}
                ended => return ended,
            }
        }
        if let Some(choice) = self.session_choice(request, options, &asked) {
            match Box::pin(self.pay_in_session(request, options, choice, sink)).await {
                // What no deposit fits into, is there for, or is allowed for may be paid for by itself: nothing
                // of this request was signed.
                Err(
                    PayFailure::Books(BooksError::OverTotal | BooksError::OverBudget { .. })
                    | PayFailure::Denied(_)
                    | PayFailure::Parked(_)
                    | PayFailure::Rail(PayError::Refused),
                ) if choices.is_ok() => {}
                ended => return ended,
            }
        }
        let choices = choices.map_err(PayFailure::Objections)?;
        let promise = self.promise_one(request, attempt, choices).await?;
        self.keep(request, options, promise).await
    }

    /// What one purchase is to the wallet, over all the attempts at it. An agent's are its own: nobody resumes
    /// what another has paid for.
    pub(crate) fn attempt(&self, request: &PayRequest, options: &PayOptions) -> Fingerprint {
        let (intent, agent) = (request.intent(), self.authority.agent());
        match &options.name {
            None if agent == OWNER => intent,
            name => {
                let name = name.as_deref().unwrap_or_default();
                Fingerprint::of("attempt", &[intent.as_bytes(), agent.as_bytes(), name.as_bytes()])
            }
        }
    }

    /// The credential of an earlier attempt, if it can still be sent.
    async fn earlier(
        &self,
        attempt: &Fingerprint,
        options: &PayOptions,
    ) -> Result<Option<Outstanding>, PayFailure> {
        let known = self.memory.outstanding_for(attempt)?;
        let Some(outstanding) = known.filter(|it| !it.refused) else { return Ok(None) };
        if outstanding.expires_at > self.clock.now() {
            return Ok(Some(outstanding));
        }
        match self.find_out(&outstanding).await? {
            Fate::Never => Ok(None),
            Fate::Open if options.pay_again => Ok(None),
            Fate::Moved { .. } if options.pay_again => {
                self.memory.forget(outstanding.payment)?;
                Ok(None)
            }
            Fate::Moved { reference } => {
                Err(PayFailure::Unanswered { payment: outstanding.payment, reference })
            }
            Fate::Open => Err(PayFailure::Unresolved { payment: outstanding.payment }),
        }
    }

    /// Signs for the best offer that the owner's policy allows and there is enough money for; where none is
    /// allowed, the best of those that it asks for is parked. One that the rail would not take is passed over,
    /// as when there is enough for the price and not for the network's fee: nothing of it has moved, and
    /// nothing can.
    async fn promise_one(
        &self,
        request: &PayRequest,
        attempt: Fingerprint,
        choices: Vec<Choice>,
    ) -> Result<Promise, PayFailure> {
        let (mut objections, mut refused, mut asked) = (Vec::new(), None, None);
        for choice in choices {
            if !is_funded(&choice).await {
                objections.push((choice.invitation, Objection::Funds));
                continue;
            }
            let facts = self.facts("pay", &offer(request, &choice))?;
            let permit = match self.rule(facts)? {
                Ruled::Allowed(permit) => permit,
                Ruled::Asked(refusal) => {
                    let objection = Objection::Policy(Box::new(refusal.decision.clone()));
                    asked = asked.or_else(|| Some(refusal.upon(&choice.invitation)));
                    objections.push((choice.invitation, objection));
                    continue;
                }
                Ruled::Denied(refusal) => {
                    self.write_down(&refusal).await?;
                    let objection = Objection::Policy(Box::new(refusal.decision));
                    objections.push((choice.invitation, objection));
                    continue;
                }
            };
            let invitation = choice.invitation.clone();
            match self.promise(request, attempt, choice, *permit).await {
                Err(PayFailure::Rail(error @ PayError::Refused)) => refused = Some(error),
                Err(PayFailure::Denied(decision)) => {
                    objections.push((invitation, Objection::Policy(decision)));
                }
                ended => return ended,
            }
        }
        match (refused, asked) {
            (Some(error), _) => Err(PayFailure::Rail(error)),
            (None, Some(asked)) => Err(self.park(asked).await),
            (None, None) => Err(PayFailure::Objections(objections)),
        }
    }

    /// Asks, and says what would be paid. Signs nothing, holds nothing, sends no credential.
    ///
    /// # Errors
    ///
    /// [`PayFailure::Unsafe`] or [`PayFailure::Unreachable`].
    pub async fn preview(
        &self,
        request: &PayRequest,
        options: &PayOptions,
    ) -> Result<Result<Preview, Outcome>, PayFailure> {
        check_url(&request.url)?;
        let asked = self.send(request, None).await.map_err(PayFailure::Unreachable)?;
        if asked.status != StatusCode::PAYMENT_REQUIRED {
            let Answer { status, fields, body } = asked;
            return Ok(Err(Outcome { status, fields, body, paid: None, streamed: false }));
        }
        let realms = self.invitations(&asked.fields).into_iter().map(|it| it.realm);
        self.find_identities(request, realms).await;
        let subscribed = self.subscription_choice(request, options, &asked)?;
        let (chosen, objections) = match subscribed {
            Some(choice) => (Some(choice.invitation), Vec::new()),
            None => match self.choose(request, options, &asked.fields).await {
                Ok(choice) => (Some(choice.invitation), Vec::new()),
                Err(objections) => (None, objections),
            },
        };
        let offers = self.invitations(&asked.fields).into_iter().map(|invitation| {
            let price = self.payers.iter().find_map(|payer| {
                let periods = || payer.subscription()?.subscription_terms(&invitation).ok();
                let period = || periods().map(|it| (it.amount, it.recipient));
                let single = payer.price(&invitation).ok().map(|it| (it.amount, it.recipient));
                single.or_else(period)
            });
            let objection = objections.iter().find(|(it, _)| it.challenge == invitation.challenge);
            PreviewOffer {
                chosen: chosen.as_ref().is_some_and(|it| it.challenge == invitation.challenge),
                objection: objection.map(|(_, objection)| objection.clone()),
                amount: price.as_ref().map(|(amount, _)| amount.clone()),
                recipient: price.map(|(_, recipient)| recipient),
                method: invitation.method,
                intent: invitation.intent,
                realm: invitation.realm,
                expires_at: invitation.expires_at,
            }
        });
        Ok(Ok(Preview { offers: offers.collect() }))
    }

    /// Gives up what cannot be spent any more and was refused by its seller; unless the rail says that
    /// the seller took it all the same.
    async fn sweep(&self) -> Result<(), PayFailure> {
        self.sweep_subscriptions().await?;
        let now = self.clock.now();
        for outstanding in self.memory.all_outstanding()? {
            if outstanding.refused
                && outstanding.expires_at <= now
                && self.find_out(&outstanding).await? != Fate::Open
            {
                self.memory.forget(outstanding.payment)?;
            }
        }
        Ok(())
    }

    /// Finds out what became of a credential that has expired, and writes it down.
    async fn find_out(&self, outstanding: &Outstanding) -> Result<Fate, PayFailure> {
        let payment = outstanding.payment;
        let secret = outstanding.secret(&self.key)?;
        let payer = self.payers.iter().find(|payer| payer.method() == secret.method);
        let fate = match (payer, &secret.keepsake) {
            // An outage now is no answer, and asking again later is free.
            (Some(payer), Some(keepsake)) => payer.fate(keepsake).await.unwrap_or(Fate::Open),
            // There is nobody to ask, and whoever had it may have spent it.
            _ if outstanding.hearsay => Fate::Moved { reference: "said to be refused".to_owned() },
            // There is nobody to ask: what was refused and has expired is done with.
            _ if outstanding.refused => Fate::Never,
            _ => Fate::Open,
        };
        match &fate {
            Fate::Never => {
                self.books.release(payment).await?;
                self.memory.forget(payment)?;
            }
            // It stays remembered: the same request is not paid for again unawares.
            Fate::Moved { reference } => self.books.spent(payment, reference).await?,
            Fate::Open => {}
        }
        Ok(fate)
    }

    pub(crate) fn invitations(&self, fields: &HeaderMap) -> Vec<Invitation> {
        self.buyers.iter().flat_map(|buyer| buyer.read_offers(fields)).collect()
    }

    /// The offers that may be paid, the best first.
    fn choices(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        fields: &HeaderMap,
    ) -> Result<Vec<Choice>, Vec<(Invitation, Objection)>> {
        let (limit, now) = (options.limit.as_ref(), self.clock.now());
        choose(self.invitations(fields), request, &self.payers, &self.rules, limit, now)
    }

    /// The best offer that may be paid and that there is enough money for.
    async fn choose(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        fields: &HeaderMap,
    ) -> Result<Choice, Vec<(Invitation, Objection)>> {
        let mut objections = Vec::new();
        for choice in self.choices(request, options, fields)? {
            if !is_funded(&choice).await {
                objections.push((choice.invitation, Objection::Funds));
                continue;
            }
            let decision = self.look(request, &choice);
            if decision.verdict == Verdict::Allow {
                return Ok(choice);
            }
            objections.push((choice.invitation, Objection::Policy(Box::new(decision))));
        }
        Err(objections)
    }

    /// What the owner's policy would say to a choice by now, budgets and all. Nothing is written down.
    fn look(&self, request: &PayRequest, choice: &Choice) -> Decision {
        let facts = self.facts("pay", &offer(request, choice)).ok();
        let decided = facts.and_then(|facts| {
            let decision = self.authority.decide(&facts)?;
            let keys = decision.draws.iter().map(|draw| draw.key.clone()).collect();
            let used = self.books.owner(keys).ok()?.used;
            let draws = decision.draws.clone();
            let over =
                |decision: Decision, (draw, used): (&Draw, Used)| decision.over(draw, used.amount);
            Some(draws.iter().zip(used).fold(decision, over))
        });
        decided.unwrap_or_else(Decision::undecided)
    }

    /// Holds, signs and remembers. Nothing is presented yet.
    async fn promise(
        &self,
        request: &PayRequest,
        attempt: Fingerprint,
        choice: Choice,
        permit: Permit,
    ) -> Result<Promise, PayFailure> {
        let trace = TraceId::new(self.clock.now(), rand::random());
        let payment = match self.books.hold(&choice, request, &self.rules, &permit, trace).await {
            Ok(payment) => payment,
            Err(BooksError::OverBudget { draw, used }) => {
                let decision = self.over_budget(permit, draw, used).await?;
                return Err(PayFailure::Denied(Box::new(decision)));
            }
            Err(error) => return Err(error.into()),
        };
        let approval = permit.decided.approval.as_ref();
        if let Some(approval) = approval {
            self.memory.used(&approval.id)?;
        }
        if let Err(frozen) = self.check_frozen() {
            self.books.release(payment).await?;
            return Err(frozen);
        }
        let Choice { invitation, payer, .. } = &choice;
        let (field, made) = match self.sign(invitation, payer.as_ref()).await {
            Ok(signed) => signed,
            Err(error) => {
                // Nothing was signed, so nothing can be spent.
                self.books.release(payment).await?;
                return Err(PayFailure::Rail(error));
            }
        };
        let secret = Secret {
            credential: field.1.to_str().unwrap_or_default().to_owned(),
            method: payer.method().to_owned(),
            keepsake: made.keepsake,
            agent: Some(self.authority.agent().to_owned()),
        };
        let keepsake = secret.keepsake.clone();
        let expires_at = invitation.expires_at.unwrap_or_else(|| self.clock.now());
        self.memory.remember(
            &NewOutstanding {
                payment,
                intent: attempt,
                origin: &request.origin(),
                header: field.0.as_str(),
                secret,
                expires_at,
            },
            &self.key,
        )?;
        self.hand_over(payment, payer.as_ref(), keepsake.as_ref()).await?;
        let approved = approval.is_some();
        Ok(Promise { payment, trace, choice, field, expires_at, approved })
    }

    /// Presents what was promised.
    async fn keep(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        promise: Promise,
    ) -> Result<Outcome, PayFailure> {
        let Promise { payment, trace, choice, field, expires_at, approved } = promise;
        let paid = PaidFor {
            payment,
            trace: Some(trace),
            amount: Some(choice.price.amount.clone()),
            recipient: Some(choice.price.recipient.clone()),
            resumed: false,
            kept_until: None,
            receipt: None,
        };
        let outcome = self.present(request, options, field, paid, expires_at).await?;
        if outcome.status.is_success() {
            self.learn(&offer(request, &choice), approved)?;
        }
        Ok(outcome)
    }

    async fn sign(
        &self,
        invitation: &Invitation,
        payer: &dyn Payer,
    ) -> Result<((HeaderName, HeaderValue), Paid), PayError> {
        let paid = payer.pay(invitation).await?;
        Ok((self.credential(invitation, &paid)?, paid))
    }

    pub(crate) fn credential(
        &self,
        invitation: &Invitation,
        paid: &Paid,
    ) -> Result<(HeaderName, HeaderValue), PayError> {
        let buyer = self.buyers.iter().find(|buyer| buyer.name() == invitation.protocol);
        let buyer = buyer.ok_or(PayError::Invitation(farthing_core::Unpayable::Method))?;
        buyer.write_credential(invitation, paid)
    }

    /// Moves the money, where that is left to the wallet.
    async fn hand_over(
        &self,
        payment: PaymentId,
        payer: &dyn Payer,
        keepsake: Option<&Object>,
    ) -> Result<(), PayFailure> {
        let Some(keepsake) = keepsake else { return Ok(()) };
        match payer.send(keepsake).await {
            Ok(()) => Ok(()),
            // It is remembered, and asking again hands the same over.
            Err(error @ (PayError::Unsent | PayError::Unknown)) => Err(PayFailure::Rail(error)),
            Err(error @ (PayError::Refused | PayError::Invitation(_))) => {
                self.books.release(payment).await?;
                self.memory.forget(payment)?;
                Err(PayFailure::Rail(error))
            }
        }
    }

    /// Sends a credential of an earlier attempt again.
    async fn resume(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        outstanding: &Outstanding,
    ) -> Result<Outcome, PayFailure> {
        let field = self.again(request, outstanding).await?;
        let paid = PaidFor {
            payment: outstanding.payment,
            trace: None,
            amount: None,
            recipient: None,
            resumed: true,
            kept_until: None,
            receipt: None,
        };
        self.present(request, options, field, paid, outstanding.expires_at).await
    }

    /// The credential of an earlier attempt, its money moved where that is left to the wallet.
    async fn again(
        &self,
        request: &PayRequest,
        outstanding: &Outstanding,
    ) -> Result<(HeaderName, HeaderValue), PayFailure> {
        // The intent names the URL, so the origin can only differ if somebody meddled with it.
        if outstanding.origin != request.origin() {
            return Err(PayFailure::Unresolved { payment: outstanding.payment });
        }
        let unresolved = || PayFailure::Unresolved { payment: outstanding.payment };
        let header = HeaderName::try_from(outstanding.header.as_str()).map_err(|_| unresolved())?;
        let secret = outstanding.secret(&self.key)?;
        let mut value = HeaderValue::try_from(secret.credential).map_err(|_| unresolved())?;
        value.set_sensitive(true);
        if let Some(payer) = self.payers.iter().find(|payer| payer.method() == secret.method) {
            let keepsake = secret.keepsake.as_ref();
            self.hand_over(outstanding.payment, payer.as_ref(), keepsake).await?;
        }
        Ok((header, value))
    }

    /// Presents a credential until its end is known, or leaves it for later.
    pub(crate) async fn present(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        field: (HeaderName, HeaderValue),
        mut paid: PaidFor,
        expires_at: farthing_money::Timestamp,
    ) -> Result<Outcome, PayFailure> {
        let payment = paid.payment;
        let mut pause = self.pause;
        for attempt in 1..=ATTEMPTS_MAX {
            let (wait, why) = match self.send(request, Some(&field)).await {
                Ok(answer) if is_passing(answer.status) => {
                    (retry_after(&answer.fields).unwrap_or(pause), answer.status.to_string())
                }
                Ok(answer) if answer.status == StatusCode::PAYMENT_REQUIRED => {
                    self.memory.refused(payment)?;
                    self.note_unsubscribed(payment, &answer.body).await?;
                    let detail = problem_detail(&answer.body);
                    let status = answer.status;
                    let held_until = expires_at;
                    return Err(PayFailure::Refused(Refused {
                        payment,
                        status,
                        detail,
                        held_until,
                    }));
                }
                Ok(answer) if answer.status.is_server_error() => {
                    // The seller fails and may or may not have taken the payment: its credential
                    // is kept, so that asking again does not pay again.
                    paid.kept_until = Some(expires_at);
                    let Answer { status, fields, body } = answer;
                    return Ok(Outcome { status, fields, body, paid: Some(paid), streamed: false });
                }
                Ok(answer) => {
                    let Answer { status, fields, .. } = &answer;
                    let url = request.url.as_str();
                    paid.receipt = self.settle(url, payment, *status, fields).await?;
                    self.note_subscribed(payment, paid.receipt.as_ref())?;
                    let Answer { status, fields, body } = answer;
                    let outcome =
                        Outcome { status, fields, body, paid: Some(paid), streamed: false };
                    self.keep_answer(request, options, &outcome)?;
                    self.memory.forget(payment)?;
                    return Ok(outcome);
                }
                Err(error) => (pause, error.to_string()),
            };
            let wait = wait.min(PAUSE_MAX);
            tracing::info!(%payment, attempt, why, "no answer yet; the same credential goes again");
            if attempt < ATTEMPTS_MAX && self.clock.now().after(wait) < expires_at {
                tokio::time::sleep(wait).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(PayFailure::Unknown { payment, held_until: expires_at })
    }

    /// Keeps the answer to a purchase that has a name. Only then is its credential forgotten, so that whoever asks
    /// again after a crash finds one of the two.
    fn keep_answer(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        outcome: &Outcome,
    ) -> Result<(), PayFailure> {
        let is_final = outcome.paid.as_ref().is_some_and(|paid| paid.kept_until.is_none());
        if options.name.is_none() || !is_final {
            return Ok(());
        }
        let attempt = self.attempt(request, options);
        Ok(self.memory.keep_answer(&attempt, outcome, &self.key, self.clock.now())?)
    }

    /// The seller has answered: the money is spent, and the receipt is kept. The credential is still to be erased.
    async fn settle(
        &self,
        url: &str,
        payment: PaymentId,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> Result<Option<Object>, PayFailure> {
        let receipt = self.buyers.iter().find_map(|buyer| buyer.read_receipt(fields));
        let reference = receipt.as_ref().and_then(|it| it.get("reference")?.as_str());
        let reference = reference.unwrap_or("without a receipt");
        self.books.paid(payment, reference, status.as_u16()).await?;
        if let Some(receipt) = &receipt {
            self.memory.keep_receipt(&StoredReceipt {
                payment,
                at: self.clock.now(),
                url: url.to_owned(),
                receipt: receipt.clone(),
            })?;
        }
        Ok(receipt)
    }

    /// The ways to pay on a rail, the preferred first.
    fn intents_of<'a>(
        &self,
        payer: &'a Arc<dyn Payer>,
    ) -> impl Iterator<Item = (&'a str, &'static str)> {
        let allowed = payer.session().is_some() && !self.rules.session_deposit.is_empty();
        let session = allowed.then_some((payer.method(), SESSION));
        // One that was begun is used and cancelled, whatever its owner allows by now.
        let has_some = || self.memory.subscriptions().is_ok_and(|all| !all.is_empty());
        let allowed =
            payer.subscription().is_some() && (!self.rules.subscription.is_empty() || has_some());
        let subscription = allowed.then_some((payer.method(), SUBSCRIPTION));
        let charge = std::iter::once((payer.method(), "charge"));
        subscription.into_iter().chain(session).chain(charge)
    }

    /// Sends the request, with a credential or without. No redirect is followed.
    pub(crate) async fn send(
        &self,
        request: &PayRequest,
        credential: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Answer, SendError> {
        Answer::read(self.send_for_head(request, credential).await?).await
    }

    /// The same, and leaves the body to be read.
    pub(crate) async fn send_for_head(
        &self,
        request: &PayRequest,
        credential: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<reqwest::Response, SendError> {
        let mut fields = request.fields.clone();
        if !fields.contains_key(USER_AGENT) {
            let agent = concat!("farthing/", env!("CARGO_PKG_VERSION"));
            fields.insert(USER_AGENT, HeaderValue::from_static(agent));
        }
        let methods: Vec<_> = self.payers.iter().flat_map(|payer| self.intents_of(payer)).collect();
        for buyer in &self.buyers {
            buyer.write_preferences(&methods, &mut fields);
        }
        if let Some((name, value)) = credential {
            fields.insert(name, value.clone());
        }
        let outgoing = self
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(fields)
            .body(request.body.clone());
        Ok(outgoing.send().await?)
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) async fn read(mut response: reqwest::Response) -> Result<Self, SendError> {
        let (status, fields) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
                return Err(SendError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, fields, body: body.into() })
    }
}

/// A credential that was made and not presented yet.
struct Promise {
    payment: PaymentId,
    trace: TraceId,
    choice: Choice,
    field: (HeaderName, HeaderValue),
    expires_at: farthing_money::Timestamp,
    /// Whether somebody has approved it.
    approved: bool,
}

/// A choice, as the owner is asked about it.
pub(crate) fn offer<'a>(request: &'a PayRequest, choice: &'a Choice) -> Offer<'a> {
    let Choice { invitation, price, payer } = choice;
    Offer {
        request,
        invitation,
        amount: &price.amount,
        recipient: &price.recipient,
        payer: payer.as_ref(),
    }
}

/// Whether there is enough money for an offer. Whoever cannot say leaves it to the rail.
pub(crate) async fn is_funded(choice: &Choice) -> bool {
    choice.payer.holds(&choice.price).await.unwrap_or(true)
}

/// Why no answer came. It never repeats the request, which may carry a credential.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// The answer is longer than a wallet reads.
    #[error("the answer is longer than 256 MiB")]
    TooLong,
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Connection(text)
    }
}

/// An answer that says "later" and not "no".
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

pub(crate) fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let seconds = fields.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a problem document says is wrong; for people only.
pub(crate) fn problem_detail(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let detail = value.get("detail")?.as_str()?;
    Some(detail.chars().filter(|char| !char.is_control()).take(300).collect())
}

/// Why a request was not answered as a paid one.
#[derive(Debug, thiserror::Error)]
pub enum PayFailure {
    /// Money may not travel to the URL. Nothing was sent.
    #[error(transparent)]
    Unsafe(#[from] UnsafeUrl),
    /// The seller could not be reached. Nothing was signed.
    #[error("the seller cannot be reached: {0}")]
    Unreachable(#[source] SendError),
    /// No offer may be paid. Nothing was signed.
    #[error("no offer may be paid{}", objections(.0))]
    Objections(Vec<(Invitation, Objection)>),
    /// The book did not take the hold, or a later step.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The memory fails.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The owner's policy does not let it pass. Nothing was signed.
    #[error("{}", Objection::Policy(.0.clone()))]
    Denied(Box<Decision>),
    /// It waits for approval. Nothing was signed; the same request again finds the answer.
    #[error(
        "{} waits for approval until {}: {}; `farthing approvals approve {}` lets it pass, once", .0.id,
        .0.expires_at, .0.asked.because.join("; "), .0.id
    )]
    Parked(Box<ApprovalRequest>),
    /// There is no policy, so that nothing is allowed.
    #[error("the wallet has no policy, so that nothing is allowed")]
    NoPolicy,
    /// The token was revoked.
    #[error("the agent's token was revoked")]
    Revoked,
    /// The rail made no proof.
    #[error(transparent)]
    Rail(PayError),
    /// The seller was paid and did not take it.
    #[error("the seller did not take the payment{}", detail(.0))]
    Refused(Refused),
    /// The seller asks for more than is owed by the wallet's count. Nothing more was signed.
    #[error("the session is not gone on with: {detail}")]
    Disputed {
        /// What it asks for.
        detail: String,
    },
    /// A stream was given up. What had come of it was handed on.
    #[error("the stream was given up: {why}")]
    Stopped {
        /// Why.
        why: Box<Stopped>,
        /// The payment.
        payment: PaymentId,
        /// The most that it cost.
        paid: Option<Amount>,
    },
    /// The same purchase, by its name, was paid and answered, at a length that was not kept.
    #[error("{payment} was paid and answered before, at a length that was not kept")]
    Answered {
        /// The payment.
        payment: PaymentId,
    },
    /// The wallet has no such payment whose end it does not know, or another agent's.
    #[error("there is no such payment whose end is not known")]
    NoPayment,
    /// The wallet has no such session.
    #[error("the wallet has no such session; `farthing sessions list` says which it has")]
    NoSession,
    /// The deposit of a session lies in the seller's own books.
    #[error("the deposit lies in the seller's own books, and only the seller can give it back")]
    NoWayOut,
    /// The wallet has no such subscription, or none that its seller has a name for.
    #[error(
        "the wallet has no such subscription with its seller; `farthing subscriptions list` says which it \
         has"
    )]
    NoSubscription,
    /// No answer came within a session. Asking again sends the same voucher.
    #[error(
        "no answer came; the request may or may not have been sold. Run the same command again: it \
         sends the same voucher and does not pay twice"
    )]
    Hanging,
    /// Nobody knows whether the seller took the payment. Asking again sends the same credential.
    #[error(
        "no answer came; {payment} may or may not have been taken. Run the same command again: it \
         sends the same credential and does not pay twice"
    )]
    Unknown {
        /// The payment.
        payment: PaymentId,
        /// Until when the credential can be sent again, and its price is held.
        held_until: farthing_money::Timestamp,
    },
    /// An earlier payment for the same request was taken, and never answered.
    #[error(
        "an earlier payment for this request, {payment}, was taken ({reference}) and never answered; \
         ask the seller, or pay again with --pay-again"
    )]
    Unanswered {
        /// The payment.
        payment: PaymentId,
        /// What the rail calls it.
        reference: String,
    },
    /// An earlier payment for the same request was never resolved, and its credential has expired.
    #[error(
        "an earlier payment for this request, {payment}, was never answered and can no longer be \
         sent; ask the seller, or pay again with --pay-again"
    )]
    Unresolved {
        /// The payment.
        payment: PaymentId,
    },
}

fn objections(objections: &[(Invitation, Objection)]) -> String {
    if objections.is_empty() {
        return ": the seller makes no offer that can be read".to_owned();
    }
    let line = |(invitation, objection): &(Invitation, Objection)| {
        format!("\n  {}/{}: {objection}", invitation.method, invitation.intent)
    };
    objections.iter().map(line).collect()
}

fn detail(refused: &Refused) -> String {
    let said = refused.detail.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
    format!(" ({}){said}; its price stays held until {}", refused.status, refused.held_until)
}
