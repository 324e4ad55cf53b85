//! How often and when a message is sent again.

use std::time::Duration;

/// How often and when a message is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts there are, the first included.
    pub attempts_max: u32,
    /// How long to wait after the first failure, the second, and so on; the last one repeats.
    pub waits: Vec<Duration>,
}

impl Retries {
    /// How long to wait after so many failures, at least.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        self.waits.get(at).or(self.waits.last()).copied().unwrap_or_default()
    }
}
