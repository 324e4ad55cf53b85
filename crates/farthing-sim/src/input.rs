//! What the book is asked, as data, so that it can be asked the same again.

use std::time::Duration;

use farthing_core::{Answer, Ordered};
use farthing_ledger::{
    Answered, Book, Channel, ChannelError, ChannelId, ChannelNews, ChannelStep, ChannelsHeard,
    ChannelsPlace, Claim, ClaimError, ClaimRequest, Cold, Entry, EntryError, Finding, Fingerprint,
    Outcome, PaymentId, Record, RefundError, RefundId, RefundRequest, Settlement, Subscription,
    SubscriptionError, SubscriptionStep, SubscriptionsDue, VoidReason, Work,
};
use farthing_money::Timestamp;

/// One request of the book.
#[derive(Clone)]
pub(crate) enum Input {
    Claim(Box<ClaimRequest>, Timestamp),
    Post(PaymentId, Settlement, Timestamp),
    Void(PaymentId, VoidReason, Timestamp),
    Enter(Box<Entry>, Timestamp),
    Deliver(PaymentId, Outcome, Option<Box<Answer>>, Timestamp),
    Fail(PaymentId, Outcome, Timestamp),
    GiveBack(PaymentId, bool),
    Answer(PaymentId),
    IsClaimed(Fingerprint),
    Work,
    Refund(Box<RefundRequest>, Timestamp),
    PostRefund(PaymentId, RefundId, Settlement, Timestamp),
    VoidRefund(PaymentId, RefundId, Timestamp),
    Reconcile(PaymentId, Finding, Timestamp),
    TakeUp(PaymentId),
    Note(String, String),
    Step(Box<ChannelStep>, Timestamp),
    Channels,
    News(Option<ChannelsPlace>, Vec<ChannelId>),
    Heard(Box<ChannelsHeard>),
    Subscribe(Box<SubscriptionStep>, Timestamp),
    Subscriptions,
    SubscriptionsDue(Timestamp, Duration),
}

/// What the book said.
pub(crate) enum Output {
    Claim(Result<Claim, ClaimError>),
    Entered(Result<bool, EntryError>),
    Refund(Result<Ordered, RefundError>),
    Work(Work),
    Channel(Box<Result<Channel, ChannelError>>),
    Channels(Vec<Channel>),
    News(Box<ChannelNews>),
    Subscription(Box<Result<Subscription, SubscriptionError>>),
    Subscriptions(Vec<Subscription>),
    SubscriptionsDue(SubscriptionsDue),
    Said(bool),
    /// To be read from the disk once the commit is on it.
    Answer(PaymentId),
    Done,
}

/// What became of one request.
pub(crate) struct Decided {
    pub(crate) output: Output,
    pub(crate) record: Option<Record>,
    pub(crate) answered: Option<(Answered, Option<Box<Answer>>)>,
    pub(crate) note: Option<(String, String)>,
}

impl Decided {
    const fn new(output: Output, record: Option<Record>) -> Self {
        Self { output, record, answered: None, note: None }
    }
}

/// Asks `book`, as the writer of the SQLite store does.
pub(crate) fn decide(book: &mut Book, cold: &impl Cold, input: Input) -> Decided {
    match input {
        Input::Claim(request, now) => match book.claim(*request, cold, now) {
            Ok((claim, record)) => Decided::new(Output::Claim(Ok(claim)), record),
            Err(error) => Decided::new(Output::Claim(Err(error)), None),
        },
        Input::Post(payment, settlement, now) => {
            Decided::new(Output::Done, book.post(payment, settlement, now))
        }
        Input::Void(payment, reason, now) => {
            Decided::new(Output::Done, book.void(payment, reason, now))
        }
        Input::Enter(entry, now) => match book.enter(*entry, cold, now) {
            Ok(record) => Decided::new(Output::Entered(Ok(record.is_some())), record),
            Err(error) => Decided::new(Output::Entered(Err(error)), None),
        },
        Input::Deliver(payment, outcome, answer, now) => {
            let kept = Answer::digest(answer.as_deref());
            let record = book.deliver_kept(payment, outcome, Some(kept), now);
            let answered = book.answered(payment);
            let is_noted = Output::Said(record.is_some() || answered.is_some());
            let answered = answered.filter(|_| record.is_some());
            let answered = answered.map(|answered| (answered, answer));
            Decided { answered, ..Decided::new(is_noted, record) }
        }
        Input::Fail(payment, outcome, now) => {
            Decided::new(Output::Done, book.fail(payment, outcome, now))
        }
        Input::GiveBack(payment, begun) => {
            book.give_back(payment, begun);
            Decided::new(Output::Done, None)
        }
        Input::Answer(payment) => Decided::new(Output::Answer(payment), None),
        Input::IsClaimed(proof) => Decided::new(Output::Said(book.knows(&proof)), None),
        Input::Work => Decided::new(Output::Work(book.work()), None),
        Input::Refund(request, now) => match book.refund(*request, now) {
            Ok((standing, record)) => {
                let ordered = Ordered { standing, is_new: record.is_some() };
                Decided::new(Output::Refund(Ok(ordered)), record)
            }
            Err(error) => Decided::new(Output::Refund(Err(error)), None),
        },
        Input::PostRefund(payment, refund, settlement, now) => {
            Decided::new(Output::Done, book.post_refund(payment, refund, settlement, now))
        }
        Input::VoidRefund(payment, refund, now) => {
            Decided::new(Output::Done, book.void_refund(payment, refund, now))
        }
        Input::Reconcile(payment, finding, now) => {
            Decided::new(Output::Done, book.reconcile(payment, finding, now))
        }
        Input::Step(step, now) => match book.step(*step, cold, now) {
            Ok((channel, record)) => Decided::new(Output::Channel(Box::new(Ok(channel))), record),
            Err(error) => Decided::new(Output::Channel(Box::new(Err(error))), None),
        },
        Input::Channels => Decided::new(Output::Channels(book.channels().cloned().collect()), None),
        Input::News(since, named) => {
            Decided::new(Output::News(Box::new(book.channel_news(since, &named))), None)
        }
        Input::Heard(heard) => {
            book.heard_of_channels(&heard);
            Decided::new(Output::Done, None)
        }
        Input::Subscribe(step, now) => match book.subscribe(*step, cold, now) {
            Ok((it, record)) => Decided::new(Output::Subscription(Box::new(Ok(it))), record),
            Err(error) => Decided::new(Output::Subscription(Box::new(Err(error))), None),
        },
        Input::Subscriptions => {
            Decided::new(Output::Subscriptions(book.subscriptions().cloned().collect()), None)
        }
        Input::SubscriptionsDue(now, grace) => {
            Decided::new(Output::SubscriptionsDue(book.subscriptions_due(now, grace)), None)
        }
        Input::TakeUp(payment) => Decided::new(Output::Said(book.take_up(payment)), None),
        Input::Note(name, text) => {
            Decided { note: Some((name, text)), ..Decided::new(Output::Done, None) }
        }
    }
}
