//! Bugs on purpose, so that the owner's auditor can be seen to find them.
//!
//! Each is planted in what stands around the production code: in how the wallet uses the policy and the book,
//! or in the disk. The production code has no switch.

use crate::owner::OwnerInvariant;

/// A bug that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerPlanted {
    /// Budgets are checked when it is decided, and not again when it is claimed.
    ChecksThenActs,
    /// What comes to nothing is not let go.
    ForgetsARelease,
    /// A restart lets go once more of what was let go last.
    ReleasesTwice,
    /// A restart forgets what is held.
    ForgetsHolds,
    /// An unknown outcome is taken for a no.
    GivesUpUnknown,
    /// A window ends a second too early.
    WindowTooShort,
    /// Amounts in the reference currency are rounded down.
    RoundsDown,
    /// A budget of everybody's is counted for each agent.
    CountsApart,
    /// A budget of the euro is not drawn from.
    ForgetsAnAsset,
    /// What is spent of a deposit counts once more.
    CountsTwice,
    /// Anybody spends any deposit.
    SpendsOthersDeposits,
    /// An approval is not used up.
    ReusesApprovals,
    /// What needs an approval is paid without.
    AsksNobody,
    /// A claim is made in another agent's name.
    NamesAnother,
    /// What is denied is not written down.
    KeepsDenialsQuiet,
    /// What is decided in one day is counted in the next, where it is claimed then.
    CountsInAnotherDay,
}

impl OwnerPlanted {
    /// Every bug.
    pub const ALL: [Self; 16] = [
        Self::ChecksThenActs,
        Self::ForgetsARelease,
        Self::ReleasesTwice,
        Self::ForgetsHolds,
        Self::GivesUpUnknown,
        Self::WindowTooShort,
        Self::RoundsDown,
        Self::CountsApart,
        Self::ForgetsAnAsset,
        Self::CountsTwice,
        Self::SpendsOthersDeposits,
        Self::ReusesApprovals,
        Self::AsksNobody,
        Self::NamesAnother,
        Self::KeepsDenialsQuiet,
        Self::CountsInAnotherDay,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChecksThenActs => "checks-then-acts",
            Self::ForgetsARelease => "forgets-a-release",
            Self::ReleasesTwice => "releases-twice",
            Self::ForgetsHolds => "forgets-holds",
            Self::GivesUpUnknown => "gives-up-unknown",
            Self::WindowTooShort => "window-too-short",
            Self::RoundsDown => "rounds-down",
            Self::CountsApart => "counts-apart",
            Self::ForgetsAnAsset => "forgets-an-asset",
            Self::CountsTwice => "counts-twice",
            Self::SpendsOthersDeposits => "spends-others-deposits",
            Self::ReusesApprovals => "reuses-approvals",
            Self::AsksNobody => "asks-nobody",
            Self::NamesAnother => "names-another",
            Self::KeepsDenialsQuiet => "keeps-denials-quiet",
            Self::CountsInAnotherDay => "counts-in-another-day",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// What it breaks.
    #[must_use]
    pub const fn breaks(self) -> OwnerInvariant {
        match self {
            Self::ChecksThenActs
            | Self::ReleasesTwice
            | Self::ForgetsHolds
            | Self::WindowTooShort
            | Self::RoundsDown
            | Self::CountsApart
            | Self::ForgetsAnAsset
            | Self::CountsInAnotherDay => OwnerInvariant::Within,
            Self::ForgetsARelease | Self::GivesUpUnknown => OwnerInvariant::Settled,
            Self::CountsTwice => OwnerInvariant::RefusedRightly,
            Self::SpendsOthersDeposits => OwnerInvariant::OwnDeposit,
            Self::ReusesApprovals | Self::AsksNobody => OwnerInvariant::ApprovedOnce,
            Self::NamesAnother | Self::KeepsDenialsQuiet => OwnerInvariant::Recorded,
        }
    }
}
