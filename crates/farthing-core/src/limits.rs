//! Rate limits, as a pure function of time.

use std::time::Duration;

use farthing_money::Timestamp;

#[cfg(test)]
mod tests;

/// A rate: on average one event per `interval`, and up to `burst` at once.
///
/// The generic cell rate algorithm: one instant of state per subject, no counters to reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    interval: Duration,
    tolerance: Duration,
}

/// What one subject has used up: the instant at which its next event is due on schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcraState {
    due_at: Timestamp,
}

impl Gcra {
    /// Allows `per_second` events a second on average and `burst` of them at once.
    ///
    /// Zero is read as one: a limit that lets nothing through is a closed route, not a rate.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second.max(1)).unwrap_or_default();
        let tolerance = interval.saturating_mul(burst.max(1).saturating_sub(1));
        Self { interval, tolerance }
    }

    /// Counts one event.
    ///
    /// # Errors
    ///
    /// How long to wait, when the event comes too early; it is then not counted.
    pub fn take(&self, state: &mut GcraState, now: Timestamp) -> Result<(), Duration> {
        let earliest = state.due_at.before(self.tolerance);
        if now < earliest {
            return Err(earliest.since(now));
        }
        state.due_at = state.due_at.max(now).after(self.interval);
        Ok(())
    }

    /// Whether a subject has nothing used up any more and can be forgotten.
    #[must_use]
    pub fn is_idle(&self, state: &GcraState, now: Timestamp) -> bool {
        state.due_at <= now
    }
}
