//! What can go wrong, and how often it does in one run.

use crate::random::Random;

/// Something that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process dies at some await.
    Crash,
    /// The process dies while it takes the book over.
    CrashAtStart,
    /// The disk says that it could not sync.
    SyncFails,
    /// The disk is full for a while.
    DiskFull,
    /// Too many wait for the writer.
    QueueFull,
    /// The disk cannot be read now.
    Unreadable,
    /// A message to the rail never leaves.
    Unsent,
    /// The rail says no.
    Declined,
    /// A message to the rail is lost.
    Lost,
    /// The rail's answer is lost.
    AnswerLost,
    /// A message arrives twice, in whatever order.
    Duplicate,
    /// A message or an answer comes after everybody stopped waiting.
    Late,
    /// The rail forgets a payment that it had confirmed.
    Disowned,
    /// The rail cannot prepare a refund.
    NoRefund,
    /// The rail never carries a refund's order out.
    RefundDeclined,
    /// The process starts with a clock that is wrong.
    Skew,
    /// The clock of the running process jumps.
    ClockJump,
    /// A day passes.
    Day,
    /// A handler fails.
    HandlerFails,
    /// A handler dies in the middle.
    HandlerDies,
    /// A handler takes its time.
    HandlerHangs,
    /// A request is dropped at some await.
    Cut,
    /// A client goes away.
    Vanish,
    /// Somebody presents what somebody else paid with.
    Replay,
    /// A client misuses its `Idempotency-Key`.
    Misuse,
    /// A client pays twice for one purchase that it has named.
    PaysTwice,
    /// The seller's terms are others from now on.
    OtherTerms,
    /// An operator gives back, holds, pays out.
    Operator,
    /// A subscriber's account does not hold the price.
    Short,
    /// A subscriber takes back what is charged by.
    Revokes,
}

impl Fault {
    const ALL: [Self; 30] = [
        Self::Crash,
        Self::CrashAtStart,
        Self::SyncFails,
        Self::DiskFull,
        Self::QueueFull,
        Self::Unreadable,
        Self::Unsent,
        Self::Declined,
        Self::Lost,
        Self::AnswerLost,
        Self::Duplicate,
        Self::Late,
        Self::Disowned,
        Self::NoRefund,
        Self::RefundDeclined,
        Self::Skew,
        Self::ClockJump,
        Self::Day,
        Self::HandlerFails,
        Self::HandlerDies,
        Self::HandlerHangs,
        Self::Cut,
        Self::Vanish,
        Self::Replay,
        Self::Misuse,
        Self::PaysTwice,
        Self::OtherTerms,
        Self::Operator,
        Self::Short,
        Self::Revokes,
    ];

    /// How often it happens at most, of ten thousand times that it could.
    const fn rate_max(self) -> u64 {
        match self {
            Self::Crash => 80,
            Self::Day => 12,
            Self::ClockJump => 30,
            Self::SyncFails | Self::DiskFull => 150,
            Self::QueueFull | Self::Cut => 400,
            Self::CrashAtStart
            | Self::Short
            | Self::Unreadable
            | Self::Unsent
            | Self::Declined
            | Self::Lost
            | Self::AnswerLost
            | Self::Late
            | Self::Disowned
            | Self::HandlerDies
            | Self::HandlerHangs
            | Self::Misuse => 2_000,
            Self::Duplicate
            | Self::Skew
            | Self::HandlerFails
            | Self::Vanish
            | Self::Replay
            | Self::PaysTwice
            | Self::OtherTerms
            | Self::Operator
            | Self::NoRefund => 5_000,
            // Few refunds are sent at all, and few have something to take back.
            Self::RefundDeclined | Self::Revokes => 9_000,
        }
    }
}

/// How often each fault happens in one run, of ten thousand times that it could.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates(Vec<(Fault, u64)>);

impl Rates {
    /// Draws the faults of one run: some are off, so that the others are seen alone, and the rest happen
    /// more or less often. A swarm of runs finds what no mixture of everything would.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut rates = Vec::new();
        for fault in Fault::ALL {
            let is_on = random.chance(5_000);
            let rate = random.between(1, fault.rate_max());
            rates.extend(is_on.then_some((fault, rate)));
        }
        Self(rates)
    }

    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0.iter().find(|(known, _)| *known == fault).map_or(0, |(_, rate)| *rate)
    }
}
