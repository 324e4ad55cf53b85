//! Paying for a stream as it comes.
//!
//! ```text
//! events ─► the caller                         payment-receipt ─► what was spent
//!    │
//!    └─ payment-need-voucher ─► may it be signed? ─► does the policy allow it? ─► remember ─► sign ─► HEAD
//!                                    │ no                 │ no                            while it is open
//!                                    └────────────────────┴─► hang up, and say why
//! ```
//!
//! **Architecture invariant:** a wallet signs on for a stream only if something of it has come since it
//! signed last, each time for no more than the owner lets it pay ahead, and in all for no more than a single
//! payment may cost. What a seller can keep without having given anything for it is that lead.

use std::time::{Duration, Instant};

use bytes::Bytes;
use farthing_core::{Act, Object};
use farthing_ledger::TraceId;
use farthing_meter::{NeedVoucher, Reader, Said};
use farthing_policy::{Decision, Facts};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};

use crate::memory::{WalletSession, WalletSessionState};
use crate::outcome::PaidFor;
use crate::owner::Ruled;
use crate::sessions::{Ahead, InSession, atoms_in, beside, call, voucher_of};
use crate::wallet::{SendError, offer, problem_detail};
use crate::{BooksError, Objection, Outcome, PayFailure, PayRequest, StoredReceipt, Wallet};

#[cfg(test)]
mod tests;

/// The longest event that is held until it is whole, in bytes.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// How often a seller may ask for what was signed before: its voucher may have been lost.
const REPEATS_MAX: u32 = 3;

/// What of the most that a payment may cost is paid ahead where the owner has not said it.
const LEAD_SHARE: u128 = 8;

/// Takes a streamed answer as it comes.
pub trait Sink: Send + Sync {
    /// The head of the answer.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is given up.
    fn begin(&mut self, status: StatusCode, fields: &HeaderMap) -> std::io::Result<()>;

    /// More of its body.
    ///
    /// # Errors
    ///
    /// As [`Sink::begin`].
    fn data(&mut self, bytes: &Bytes) -> std::io::Result<()>;
}

/// Why a stream was given up. What had come of it was handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The next voucher would exceed what a single payment may cost.
    #[error("the next part would exceed what a single payment may cost")]
    Cap,
    /// The owner's total cap leaves no room for what would have to be deposited.
    #[error("the next part would exceed the total cap")]
    Total,
    /// The owner's policy does not allow the next part, or would have to be asked.
    #[error("{}", Objection::Policy(.0.clone()))]
    Denied(Box<Decision>),
    /// The seller wants to be paid further ahead than the owner allows.
    #[error(
        "the seller asks for {asked} atoms at once, and the wallet pays at most {lead} ahead; \
         stream_lead_max allows more"
    )]
    Lead {
        /// What it asks for on top of what was signed.
        asked: u128,
        /// The most.
        lead: u128,
    },
    /// The seller asks again, and nothing has come for the last voucher.
    #[error("the seller asks for more, and nothing has come for what was paid last")]
    Nothing,
    /// The seller speaks of another session.
    #[error("the seller asks for another session")]
    Stranger,
    /// The seller did not take the voucher it asked for.
    #[error("the seller did not take the voucher it asked for{}", .0.as_deref().map(|it| format!(": {it}")).unwrap_or_default())]
    Refused(Option<String>),
    /// It broke off, or an event was too long.
    #[error("the stream broke off: {0}")]
    Broken(String),
    /// It could not be handed on.
    #[error("the stream could not be written: {0}")]
    Unwritten(String),
}

/// What may be signed for one stream. Amounts are in atoms; cumulative ones since the session was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bill {
    /// The price of one unit.
    pub(crate) unit: u128,
    /// Whether units are seconds, so that time counts as well as what comes.
    pub(crate) by_time: bool,
    /// What had been spent in the session before this request.
    pub(crate) before: u128,
    /// What was signed for.
    pub(crate) signed: u128,
    /// The most that the request may cost.
    pub(crate) cap: u128,
    /// The most that is signed for ahead.
    pub(crate) lead: u128,
    /// Whether something has come since it was signed for last.
    pub(crate) came: bool,
    /// How often what was signed before was asked for.
    pub(crate) repeats: u32,
}

impl Bill {
    /// What to sign for, `since` after it was signed for last. Pure.
    pub(crate) fn answer(&mut self, required: u128, since: Duration) -> Result<u128, Stopped> {
        let Some(asked) = required.checked_sub(self.signed).filter(|asked| *asked > 0) else {
            self.repeats = self.repeats.saturating_add(1);
            let often = self.repeats > REPEATS_MAX;
            return if often { Err(Stopped::Nothing) } else { Ok(self.signed) };
        };
        let most = self.before.saturating_add(self.cap);
        if required > most {
            return Err(Stopped::Cap);
        }
        if asked > self.lead {
            return Err(Stopped::Lead { asked, lead: self.lead });
        }
        let units = u128::from(since.as_secs()).saturating_add(1);
        let for_time = self.by_time && asked <= self.unit.saturating_mul(units);
        if !self.came && !for_time {
            return Err(Stopped::Nothing);
        }
        (self.came, self.repeats) = (false, 0);
        // As far ahead as the owner allows, so that a stream does not pause for every unit of it.
        Ok(self.signed.saturating_add(self.lead).min(most).max(required))
    }
}

/// A stream that is being paid for.
struct Stream<'a> {
    session: WalletSession,
    /// A further deposit that is being made meanwhile.
    ahead: Option<Ahead<'a>>,
    bill: Bill,
    signed_at: Instant,
    receipt: Option<Object>,
}

impl Wallet {
    /// Whether an answer is a stream of events.
    pub(crate) fn is_stream(status: StatusCode, fields: &HeaderMap) -> bool {
        let kind = fields.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        status.is_success() && essence.eq_ignore_ascii_case(b"text/event-stream")
    }

    /// Hands a stream on and pays for it as it comes.
    ///
    /// # Crash safety
    ///
    /// A stream that breaks off before anything more was signed for is asked for with the same voucher again.
    /// From then on, the request counts as bought, and everything that is signed for counts as spent until the
    /// seller's receipt says less.
    pub(crate) async fn stream<'a>(
        &'a self,
        at: &mut InSession<'_>,
        mut session: WalletSession,
        mut response: reqwest::Response,
        mut paid: PaidFor,
        ahead: Option<Ahead<'a>>,
    ) -> Result<Outcome, PayFailure> {
        let before = session.spent.atoms();
        let price = at.choice.terms.unit.clone();
        session.state = WalletSessionState::Open;
        self.memory.keep_session(&session)?;
        self.offers.keep(at.request, &at.choice.invitation);
        let (status, fields) = (response.status(), response.headers().clone());
        let head = self.buyers.iter().find_map(|buyer| buyer.read_receipt(&fields));
        let bill = Bill {
            unit: price.atoms(),
            by_time: at.choice.terms.unit_type.as_deref() == Some("second"),
            before,
            signed: session.signed.atoms(),
            cap: self.cap_of(at),
            lead: self.lead_of(at),
            // The head has come.
            came: true,
            repeats: 0,
        };
        let mut stream = Stream { session, ahead, bill, signed_at: Instant::now(), receipt: None };
        let ended = self.follow(at, &mut stream, &mut response).await;
        // Hanging up is how a seller learns that no more is wanted.
        drop(response);
        let Stream { mut session, mut ahead, receipt, .. } = stream;
        self.finish_ahead(&mut session, &mut ahead).await;
        let least = before.saturating_add(price.atoms());
        let said = receipt.as_ref().and_then(|receipt| atoms_in(receipt, "spent"));
        let spent = said.map_or(session.spent.atoms(), |said| said.min(session.signed.atoms()));
        let spent = spent.max(least);
        // With its last receipt, a seller says that it has nothing more to give for it.
        let broke_off = matches!(ended, Err(Ended::Stopped(Stopped::Broken(_))));
        if !broke_off || receipt.is_some() || session.asked.is_none() {
            session.asked = None;
            session.spent = session.with(spent);
        }
        self.memory.keep_session(&session)?;
        paid.amount = Some(session.with(spent.saturating_sub(before)));
        paid.receipt = receipt.or(head);
        if let Some(receipt) = &paid.receipt {
            let (payment, url) = (paid.payment, at.request.url.to_string());
            let (at, receipt) = (self.clock.now(), receipt.clone());
            self.memory.keep_receipt(&StoredReceipt { payment, at, url, receipt })?;
        }
        match ended {
            Ok(()) => {
                let body = Bytes::new();
                Ok(Outcome { status, fields, body, paid: Some(paid), streamed: true })
            }
            Err(Ended::Stopped(why)) => {
                let (why, payment) = (Box::new(why), paid.payment);
                Err(PayFailure::Stopped { why, payment, paid: paid.amount })
            }
            Err(Ended::Failed(failure)) => Err(*failure),
        }
    }

    /// Reads to the end.
    async fn follow<'a>(
        &'a self,
        at: &mut InSession<'_>,
        stream: &mut Stream<'a>,
        response: &mut reqwest::Response,
    ) -> Result<(), Ended> {
        let unwritten = |error: std::io::Error| Stopped::Unwritten(error.to_string());
        at.sink.begin(response.status(), response.headers()).map_err(unwritten)?;
        let mut reader = Reader::new(EVENT_BYTES_MAX);
        loop {
            let broken =
                |error: reqwest::Error| Stopped::Broken(SendError::from(error).to_string());
            let (chunk, made) = beside(response.chunk(), &mut stream.ahead).await;
            self.made_ahead(&mut stream.session, made).await;
            let Some(chunk) = chunk.map_err(broken)? else { break };
            reader.push(chunk);
            let long = |error: farthing_meter::EventTooLong| Stopped::Broken(error.to_string());
            while let Some(said) = reader.read().map_err(long)? {
                match said {
                    Said::Event { bytes, has_data } => {
                        stream.bill.came |= has_data;
                        at.sink.data(&bytes).map_err(unwritten)?;
                    }
                    Said::NeedVoucher(need) => self.pay_on(at, stream, &need).await?,
                    Said::Receipt(receipt) => stream.receipt = Some(receipt),
                    Said::Unreadable => {
                        tracing::warn!(
                            "the seller says something about payments that cannot be read"
                        );
                    }
                }
            }
        }
        if let Some(rest) = reader.rest() {
            at.sink.data(&rest).map_err(unwritten)?;
        }
        Ok(())
    }

    /// Signs on, if that may be, and tells the seller while the stream is open.
    async fn pay_on<'a>(
        &'a self,
        at: &mut InSession<'_>,
        stream: &mut Stream<'a>,
        need: &NeedVoucher,
    ) -> Result<(), Ended> {
        let Stream { session, ahead, bill, signed_at, .. } = stream;
        if need.channel_id != session.channel {
            return Err(Stopped::Stranger.into());
        }
        let required = need.required_cumulative;
        let mut cumulative = bill.answer(required, signed_at.elapsed())?;
        if required > session.deposit.atoms() {
            self.finish_ahead(session, ahead).await;
        }
        if required > session.deposit.atoms() {
            match self.top_up(at, session, cumulative.max(required)).await {
                Ok(()) => {}
                Err(
                    PayFailure::Books(BooksError::OverTotal | BooksError::OverBudget { .. })
                    | PayFailure::Denied(_)
                    | PayFailure::Parked(_),
                ) => return Err(Stopped::Total.into()),
                Err(failure) => return Err(failure.into()),
            }
        }
        cumulative = cumulative.min(session.deposit.atoms()).max(required);
        if cumulative > session.signed.atoms() {
            cumulative = self.permit_more(at, (session, bill), (required, cumulative)).await?;
        }
        // Remembered before it is signed, and counted as spent until the seller says less.
        session.asked = None;
        session.signed = session.with(session.signed.atoms().max(cumulative));
        session.spent = session.with(session.spent.atoms().max(cumulative));
        session.used_at = self.clock.now();
        self.memory.keep_session(session)?;
        (bill.signed, *signed_at) = (session.signed.atoms(), Instant::now());
        self.authorise(at, session, cumulative).await?;
        if ahead.is_none() {
            *ahead = self.top_up_ahead(at, session).await?;
        }
        Ok(())
    }

    /// Asks the owner's policy whether to sign on, up to `wanted` or else for what is `required`, and writes
    /// down what it said.
    async fn permit_more(
        &self,
        at: &InSession<'_>,
        (session, bill): (&WalletSession, &Bill),
        (required, wanted): (u128, u128),
    ) -> Result<u128, Ended> {
        let signed = session.signed.atoms();
        let mut cumulative = wanted;
        loop {
            let total = session.with(cumulative.saturating_sub(bill.before));
            let more = session.with(cumulative.saturating_sub(signed));
            let stream = call(&at.choice, total);
            let facts = self.facts("stream", &offer(at.request, &stream))?;
            let facts = Facts {
                before_atoms: Some(signed.saturating_sub(bill.before)),
                ..self.in_session(facts, Some(session))
            };
            let decision = match self.rule(facts)? {
                Ruled::Allowed(permit) => {
                    let voucher = voucher_of(session, at.request, cumulative);
                    let trace = TraceId::new(self.clock.now(), rand::random());
                    let part = call(&at.choice, more);
                    match self.books.draw((voucher, &part), at.request, &permit, trace).await {
                        Ok(()) => return Ok(cumulative),
                        Err(BooksError::OverBudget { draw, used }) => {
                            self.over_budget(*permit, draw, used).await?
                        }
                        Err(error) => return Err(PayFailure::from(error).into()),
                    }
                }
                // A stream does not wait for whoever would have to be asked.
                Ruled::Asked(refusal) | Ruled::Denied(refusal) => {
                    self.not_waited_for(*refusal).await?
                }
            };
            if cumulative == required {
                return Err(Stopped::Denied(Box::new(decision)).into());
            }
            // Less far ahead may be allowed.
            cumulative = required;
        }
    }

    async fn authorise(
        &self,
        at: &mut InSession<'_>,
        session: &WalletSession,
        cumulative: u128,
    ) -> Result<(), Ended> {
        let head = PayRequest { method: Method::HEAD, ..at.request.clone() };
        for _ in 0..2 {
            let act = Act::Voucher { cumulative };
            let answer = self.do_in_session(&head, &at.choice, session, act).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            if answer.status != StatusCode::PAYMENT_REQUIRED {
                return Err(Stopped::Refused(problem_detail(&answer.body)).into());
            }
            // The offer that the stream began with may have expired meanwhile.
            at.choice = self.fresh_choice(at.request, session).await?;
        }
        Err(Stopped::Refused(None).into())
    }

    /// The most that a request may cost, in atoms.
    fn cap_of(&self, at: &InSession<'_>) -> u128 {
        let asset = at.choice.terms.unit.asset();
        let cap = self.rules.per_payment.get(asset).copied().unwrap_or_default();
        let limit = at.options.limit.as_ref().filter(|limit| limit.asset() == asset);
        limit.map_or(cap, |limit| limit.atoms().min(cap))
    }

    /// The most that is signed for ahead of what has come, in atoms: one unit at least.
    fn lead_of(&self, at: &InSession<'_>) -> u128 {
        let unit = &at.choice.terms.unit;
        let set = self.rules.stream_lead.get(unit.asset()).copied();
        let share = self.cap_of(at).checked_div(LEAD_SHARE).unwrap_or_default();
        set.unwrap_or(share).max(unit.atoms())
    }
}

/// Why a stream did not come to its end.
enum Ended {
    Stopped(Stopped),
    Failed(Box<PayFailure>),
}

impl From<Stopped> for Ended {
    fn from(why: Stopped) -> Self {
        Self::Stopped(why)
    }
}

impl From<PayFailure> for Ended {
    fn from(failure: PayFailure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<crate::MemoryError> for Ended {
    fn from(error: crate::MemoryError) -> Self {
        PayFailure::from(error).into()
    }
}

/// A stream that nobody takes as it comes: it is collected.
#[derive(Default)]
pub(crate) struct Collected(pub(crate) Vec<u8>);

impl Sink for Collected {
    fn begin(&mut self, _: StatusCode, _: &HeaderMap) -> std::io::Result<()> {
        Ok(())
    }

    fn data(&mut self, bytes: &Bytes) -> std::io::Result<()> {
        if self.0.len().saturating_add(bytes.len()) > crate::wallet::BODY_BYTES_MAX {
            return Err(std::io::Error::other(SendError::TooLong));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
