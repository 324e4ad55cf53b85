//! How far a share that was counted may be from the true one.

use statrs::distribution::{Beta, ContinuousCDF};

/// The bounds of Clopper and Pearson (1934), exact and two-sided, for `hits` of `of`.
pub(crate) fn clopper_pearson(hits: u64, of: u64, confidence: f64) -> (f64, f64) {
    let tail = (1.0 - confidence) / 2.0;
    let misses = of.saturating_sub(hits);
    let quantile = |a: u64, b: u64, at: f64| {
        Beta::new(a as f64, b as f64).map_or(f64::NAN, |beta| beta.inverse_cdf(at))
    };
    let low = if hits == 0 { 0.0 } else { quantile(hits, misses + 1, tail) };
    let high = if misses == 0 { 1.0 } else { quantile(hits + 1, misses, 1.0 - tail) };
    (low, high)
}
