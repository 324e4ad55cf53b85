//! Bugs on purpose, so that the auditor can be seen to find them.
//!
//! Each is planted in what stands around the production code: the disk, the rails, the copy of the
//! gate's delivery. The production code has no switch.

use crate::Invariant;

/// A bug that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The store answers before it has synced.
    AnswersBeforeSync,
    /// The store forgets at a restart which proofs were claimed.
    ForgetsProofs,
    /// The disk leaves a record out of the journal.
    SkipsARecord,
    /// The store writes another moment than the one it decided by.
    WritesAnotherTime,
    /// An answer is given before its money has moved.
    AnswersBeforeSettling,
    /// An answer that must not be given twice is given before that is written down.
    AnswersBeforeRecording,
    /// A handler begins and nobody says so.
    ForgetsToBegin,
    /// An unknown outcome is taken for one that was never sent.
    SendsUnknownAgain,
    /// An unknown outcome is taken for a no.
    GivesUpUnknown,
    /// A message that arrives twice moves the money twice.
    MovesTwice,
    /// A refund is sent when it is prepared, before it is ordered.
    RefundsUnordered,
    /// Money is given back without limits.
    IgnoresLimits,
    /// Nobody recovers anything.
    NeverRecovers,
    /// What a rail has declined is taken for a deposit.
    ConfirmsUnmoved,
    /// A session is settled by the highest voucher, whatever was spent.
    TakesTheVoucher,
    /// A voucher is written down that authorises less than the one before.
    VoucherGoesBack,
    /// What is left in a session is kept when it is closed.
    KeepsTheRest,
    /// A subscription's order is carried out when it is made ready, before it is written down.
    ChargesUnordered,
    /// A period of a subscription is charged under the name of the one before.
    ChargesTheLastPeriod,
    /// Whoever cancels a subscription is told so, and nothing is written.
    CancelsInWords,
}

impl Planted {
    /// Every planted bug.
    pub const ALL: [Self; 20] = [
        Self::AnswersBeforeSync,
        Self::ForgetsProofs,
        Self::SkipsARecord,
        Self::WritesAnotherTime,
        Self::AnswersBeforeSettling,
        Self::AnswersBeforeRecording,
        Self::ForgetsToBegin,
        Self::SendsUnknownAgain,
        Self::GivesUpUnknown,
        Self::MovesTwice,
        Self::RefundsUnordered,
        Self::IgnoresLimits,
        Self::NeverRecovers,
        Self::ConfirmsUnmoved,
        Self::TakesTheVoucher,
        Self::VoucherGoesBack,
        Self::KeepsTheRest,
        Self::ChargesUnordered,
        Self::ChargesTheLastPeriod,
        Self::CancelsInWords,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnswersBeforeSync => "answers-before-sync",
            Self::ForgetsProofs => "forgets-proofs",
            Self::SkipsARecord => "skips-a-record",
            Self::WritesAnotherTime => "writes-another-time",
            Self::AnswersBeforeSettling => "answers-before-settling",
            Self::AnswersBeforeRecording => "answers-before-recording",
            Self::ForgetsToBegin => "forgets-to-begin",
            Self::SendsUnknownAgain => "sends-unknown-again",
            Self::GivesUpUnknown => "gives-up-unknown",
            Self::MovesTwice => "moves-twice",
            Self::RefundsUnordered => "refunds-unordered",
            Self::IgnoresLimits => "ignores-limits",
            Self::NeverRecovers => "never-recovers",
            Self::ConfirmsUnmoved => "confirms-unmoved",
            Self::TakesTheVoucher => "takes-the-voucher",
            Self::VoucherGoesBack => "voucher-goes-back",
            Self::KeepsTheRest => "keeps-the-rest",
            Self::ChargesUnordered => "charges-unordered",
            Self::ChargesTheLastPeriod => "charges-the-last-period",
            Self::CancelsInWords => "cancels-in-words",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|planted| planted.name() == name)
    }

    /// What it breaks.
    #[must_use]
    pub const fn breaks(self) -> Invariant {
        match self {
            Self::AnswersBeforeSync | Self::CancelsInWords => Invariant::Durable,
            Self::ForgetsProofs => Invariant::ConsumedOnce,
            Self::SkipsARecord => Invariant::Gapless,
            Self::WritesAnotherTime => Invariant::Replayable,
            Self::AnswersBeforeSettling => Invariant::PaidFirst,
            Self::AnswersBeforeRecording => Invariant::OwedOnly,
            Self::ForgetsToBegin => Invariant::BegunOnce,
            Self::SendsUnknownAgain => Invariant::SentOnce,
            Self::GivesUpUnknown | Self::ConfirmsUnmoved => Invariant::Agreed,
            Self::MovesTwice => Invariant::ChargedOnce,
            Self::RefundsUnordered => Invariant::RefundedOnce,
            Self::IgnoresLimits => Invariant::Limits,
            Self::NeverRecovers => Invariant::NotStuck,
            Self::TakesTheVoucher => Invariant::SettledWithin,
            Self::VoucherGoesBack => Invariant::Authorised,
            Self::KeepsTheRest => Invariant::Conserved,
            Self::ChargesUnordered | Self::ChargesTheLastPeriod => Invariant::PeriodOnce,
        }
    }
}
