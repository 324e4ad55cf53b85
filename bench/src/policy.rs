//! An owner's policy against agents that overspend and against credentials that are no good: `./x bench policy`.
//!
//! The shape is that of APEX (`arXiv:2604.02023`): three baselines, six scenarios. Its workload is not public; ours is
//! 22 purchases of 25 dollars against a budget of 400, at that size and larger ones in the same proportion. The
//! wallet, the gateway and both books are the ones that run in production, over HTTP on loopback; they share one
//! process and its cores with whoever asks.
//!
//! ```text
//! free      the seller asks for nothing
//! paid      the wallet pays whatever is asked, within no limit
//! policy    the wallet pays what its owner's policy and budgets allow
//! ```

mod bounds;
mod cells;
mod shop;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::machine;
use crate::policy::bounds::clopper_pearson;
use crate::policy::cells::{Baseline, Scenario};
use crate::policy::shop::Shop;

/// The purchases of the published shape, and how many of them the budget holds.
const SHAPE: (u64, u64) = (22, 16);

/// What one of them costs, in cents.
pub(crate) const PRICE_ATOMS: u128 = 2_500;

/// How many agents share one budget in the cell that the original has not.
const SHARING: usize = 64;

/// How sure the bounds are.
const CONFIDENCE: f64 = 0.95;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How large each cell is, beside one of the published shape
    #[arg(long = "n", default_values_t = [40_u64, 10_000])]
    sizes: Vec<u64>,
    /// How many agents ask at once
    #[arg(long, default_value_t = 4)]
    agents: usize,
    /// Where books are kept; the disk matters
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// How long each stage took, in microseconds.
pub(crate) struct Stages(Vec<(&'static str, Histogram<u64>)>);

impl Stages {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, stage: &'static str, took: Duration) -> Result<()> {
        let micros = u64::try_from(took.as_micros())?;
        if let Some((_, histogram)) = self.0.iter_mut().find(|(name, _)| *name == stage) {
            histogram.record(micros)?;
        } else {
            let mut histogram = Histogram::new(3)?;
            histogram.record(micros)?;
            self.0.push((stage, histogram));
        }
        Ok(())
    }

    pub(crate) fn join(&mut self, other: Self) -> Result<()> {
        for (stage, histogram) in other.0 {
            match self.0.iter_mut().find(|(name, _)| *name == stage) {
                Some((_, known)) => known.add(histogram)?,
                None => self.0.push((stage, histogram)),
            }
        }
        Ok(())
    }
}

/// Runs every cell, and prints the tables.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let folder = crate::folder(options.folder.as_deref())?;
    machine::print(folder.path(), &options.agents)?;
    println!(
        "agents     {} at once, each with a connection and a memory of its own",
        options.agents
    );
    let mut stages = Stages::new();
    let mut rows = Vec::new();
    for size in std::iter::once(&SHAPE.0).chain(&options.sizes) {
        for scenario in Scenario::ALL {
            for baseline in Baseline::ALL {
                let shop = Shop::open(folder.path()).await?;
                let agents = if *size == SHAPE.0 { 1 } else { options.agents };
                let cell = cells::run(&shop, baseline, scenario, *size, agents).await?;
                eprintln!("  {} {} {size}: {cell:?}", scenario.name(), baseline.name());
                cell.check(baseline, scenario, *size)?;
                if *size > SHAPE.0 && baseline == Baseline::Policy {
                    stages.join(cell.stages)?;
                }
                rows.push((*size, scenario, baseline, cell.counts));
                shop.close().await?;
            }
        }
    }
    print(&rows);
    let shared = cells::shared(&Shop::open(folder.path()).await?, SHARING, SHAPE.1).await?;
    println!(
        "\n{SHARING} agents at once on one budget of {}: {} were served, {} denied, {} spent",
        dollars(u128::from(SHAPE.1) * PRICE_ATOMS),
        shared.served,
        shared.denied,
        dollars(shared.spent_atoms)
    );
    ensure!(shared.served == SHAPE.1, "the budget was passed or not used up");
    let labelled = cells::labelled(&Shop::open(folder.path()).await?).await?;
    println!("{labelled}");
    for in_flight in [1, SHARING] {
        let reserved = cells::reserve(folder.path(), in_flight).await?;
        stages.join(reserved)?;
    }
    println!("\n{:<34} {:>8} {:>9} {:>9} {:>9}", "stage", "count", "p50 ms", "p99 ms", "max ms");
    for (stage, took) in &stages.0 {
        let millis = |share| took.value_at_quantile(share) as f64 / 1_000.0;
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(millis);
        println!("{stage:<34} {:>8} {p50:>9.2} {p99:>9.2} {max:>9.2}", took.len());
    }
    Ok(())
}

fn print(rows: &[(u64, Scenario, Baseline, cells::Counts)]) {
    println!(
        "\n{:<12} {:<8} {:>6} {:>7} {:>7} {:>8} {:>11} {:>13} {:>22}",
        "scenario",
        "baseline",
        "N",
        "served",
        "denied",
        "blocked",
        "spent",
        "prevented",
        "95 % bounds"
    );
    for (size, scenario, baseline, counts) in rows {
        let wished = u128::from(counts.wished) * PRICE_ATOMS;
        let prevented =
            wished.saturating_sub(counts.spent_atoms) as f64 * 100.0 / wished.max(1) as f64;
        let of_interest = if scenario.is_attack() { counts.blocked } else { counts.served };
        let (low, high) = clopper_pearson(of_interest, *size, CONFIDENCE);
        let bounds = format!("[{:.3} %, {:.3} %]", low * 100.0, high * 100.0);
        println!(
            "{:<12} {:<8} {size:>6} {:>7} {:>7} {:>8} {:>11} {:>11.1} % {bounds:>22}",
            scenario.name(),
            baseline.name(),
            counts.served,
            counts.denied,
            counts.blocked,
            dollars(counts.spent_atoms),
            prevented,
        );
    }
}

/// Cents, as people write them.
fn dollars(atoms: u128) -> String {
    format!("${}.{:02}", atoms / 100, atoms % 100)
}
