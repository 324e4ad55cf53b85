//! What became of payments, counted.

use std::collections::BTreeMap;

use crate::crash::shop::Point;

/// What became of a payment, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Paid and answered.
    Served,
    /// Paid and given back.
    Refunded,
    /// Nothing was taken, and nothing ever will be.
    NotCharged,
    /// `payments stuck` says where it hangs and what happens next.
    Listed,
    /// Answered, and given back.
    ServedAndRefunded,
    /// Paid, and nobody knows of it.
    Lost,
    /// Paid twice, or carried out twice where it must not be.
    Double,
}

const FATES: [Fate; 7] = [
    Fate::Served,
    Fate::Refunded,
    Fate::NotCharged,
    Fate::Listed,
    Fate::ServedAndRefunded,
    Fate::Lost,
    Fate::Double,
];

/// How often each fate came to the payments of each arm.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, BTreeMap<Fate, usize>>);

impl Tally {
    pub(crate) fn count(&mut self, arm: String, fate: Fate) {
        *self.0.entry(arm).or_default().entry(fate).or_default() += 1;
    }

    fn of(&self, fate: Fate) -> usize {
        self.0.values().filter_map(|fates| fates.get(&fate)).sum()
    }

    /// The rows of a table.
    pub(crate) fn rows(&self, point: &str) -> Vec<String> {
        let row = |(arm, fates): (&String, &BTreeMap<Fate, usize>)| {
            let count = |fate| fates.get(&fate).copied().unwrap_or_default();
            let cells: Vec<String> = FATES.iter().map(|fate| count(*fate).to_string()).collect();
            let all: usize = fates.values().sum();
            format!("| {point} | {arm} | {all} | {} |", cells.join(" | "))
        };
        self.0.iter().map(row).collect()
    }

    /// What must hold where everybody comes back and nothing can fail but the gateway.
    pub(crate) fn all_served(&self) {
        let all: usize = FATES.iter().map(|fate| self.of(*fate)).sum();
        assert!(all > 0 && self.of(Fate::Served) == all, "{} of {all}", self.of(Fate::Served));
    }

    /// What must hold at every point, and what must hold at this one.
    pub(crate) fn must_be_sound(&self, point: Point) {
        assert_eq!((self.of(Fate::Lost), self.of(Fate::Double)), (0, 0), "{point:?}");
        assert!(self.of(Fate::Served) > 0, "{point:?}: honest clients are served");
        match point {
            // Nothing was written, and nothing was done: everybody who comes back buys.
            Point::Verified => assert_eq!(self.of(Fate::Refunded) + self.of(Fate::Listed), 0),
            // What may have been done twice is not begun again, and what nobody asks for is owed.
            Point::Claimed | Point::Settled | Point::Executed => {
                assert!(self.of(Fate::Refunded) > 0 && self.of(Fate::Listed) > 0, "{point:?}");
            }
            // What was written is given again.
            Point::Delivered => {
                let all: usize = FATES.iter().map(|fate| self.of(*fate)).sum();
                assert_eq!(self.of(Fate::Served), all, "{point:?}");
            }
            // What must not happen twice was written before it was answered.
            Point::Answered => {
                let all: usize = FATES.iter().map(|fate| self.of(*fate)).sum();
                assert_eq!(self.of(Fate::Served) + self.of(Fate::Listed), all, "{point:?}");
            }
        }
    }
}
