//! The index of claimed proofs, ordered by when they stop mattering.

use std::time::Duration;

use farthing_money::Timestamp;

/// The width of a bucket, as a power of two.
const BUCKET_MICROS_LOG2: u32 = 16;

/// How long a proof may outlive its use in memory, so that a clock set back a little finds it there.
pub const REMEMBERED: Duration = Duration::from_mins(1);

/// How long outdated proofs stay in the index, so that a clock set back a lot finds them here.
pub const PROOFS_KEPT: Duration = Duration::from_hours(24 * 7);

/// Which bucket of the index a proof lies in; 0 is kept for ever. A bucket is 66 milliseconds: at ten
/// thousand payments a second it fills a dozen pages, and a search through a day of them stays a matter
/// of seconds.
#[must_use]
pub fn bucket(keep_until: Option<Timestamp>) -> i64 {
    keep_until.map_or(0, |until| {
        let bucket = until.as_micros() >> BUCKET_MICROS_LOG2;
        i64::try_from(bucket).unwrap_or(i64::MAX).max(1)
    })
}
