//! `./x sim`: simulates runs from a seed on, for a while, and stops at the first failure.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use farthing_sim::{OwnerPlan, OwnerPlanted, Plan, Planted, run, run_owner};

/// The simulator.
#[derive(Parser)]
#[command(name = "sim", bin_name = "./x sim")]
struct Cli {
    /// The first run's seed; each next run has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long to go on, such as `60s` or `10m`
    #[arg(long = "for", value_name = "SPAN", default_value = "60s", value_parser = span)]
    span: Duration,
    /// How many runs at most
    #[arg(long)]
    runs: Option<u64>,
    /// How many steps of each run things go wrong for; with --owner, how many decisions it makes
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// Plants a bug, to see it found
    #[arg(long)]
    plant: Option<String>,
    /// A wallet under its owner's limits, and not a seller
    #[arg(long)]
    owner: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let count: u64 = digits.parse().map_err(|_| "a span is written like 60s".to_owned())?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_mins(count)),
        "h" => Ok(Duration::from_hours(count)),
        _ => Err("a span is written like 60s, 10m or 1h".to_owned()),
    }
}

fn planted(name: &str) -> Result<Planted, String> {
    let names = || Planted::ALL.map(Planted::name).join(", ");
    Planted::named(name).ok_or_else(|| format!("one of: {}", names()))
}

fn owners(name: &str) -> Result<OwnerPlanted, String> {
    let names = || OwnerPlanted::ALL.map(OwnerPlanted::name).join(", ");
    OwnerPlanted::named(name).ok_or_else(|| format!("one of: {}", names()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = if cli.owner { owner(&cli) } else { seller(&cli) };
    done.unwrap_or_else(|why| {
        say(&why);
        ExitCode::FAILURE
    })
}

/// Runs of a wallet whose owner has limits.
fn owner(cli: &Cli) -> Result<ExitCode, String> {
    let planted = cli.plant.as_deref().map(owners).transpose()?;
    let began = Instant::now();
    let mut runs = 0_u64;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    while began.elapsed() < cli.span && cli.runs.is_none_or(|most| runs < most) {
        let seed = cli.seed.saturating_add(runs);
        let done = run_owner(OwnerPlan { seed, decisions: cli.steps, planted });
        for (what, count) in done.map_err(|failure| failure.to_string())?.counts {
            let sum = counts.entry(what).or_default();
            *sum = sum.saturating_add(count);
        }
        runs = runs.saturating_add(1);
    }
    let decisions = runs.saturating_mul(cli.steps);
    say(&format!("no limit was passed: {runs} seeds from {} on, {decisions} decisions", cli.seed));
    let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
    say(&counts.collect::<Vec<_>>().join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Runs of a seller.
fn seller(cli: &Cli) -> Result<ExitCode, String> {
    let plant = cli.plant.as_deref().map(planted).transpose()?;
    let began = Instant::now();
    let (mut runs, mut steps, mut payments) = (0_u64, 0_u64, 0_usize);
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    while began.elapsed() < cli.span && cli.runs.is_none_or(|most| runs < most) {
        let seed = cli.seed.saturating_add(runs);
        match run(Plan { seed, steps: cli.steps, planted: plant }) {
            Ok(done) => {
                runs = runs.saturating_add(1);
                steps = steps.saturating_add(done.steps);
                payments = payments.saturating_add(done.payments);
                for (fault, count) in done.faults {
                    let sum = faults.entry(fault).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
            Err(failure) => return Err(failure.to_string()),
        }
    }
    let millis = began.elapsed().as_millis().max(1);
    let a_second = u128::from(runs).saturating_mul(1_000).checked_div(millis).unwrap_or_default();
    say(&format!(
        "every invariant held: {runs} seeds from {} on ({a_second} a second), {steps} steps, \
         {payments} payments",
        cli.seed
    ));
    let faults = faults.iter().map(|(fault, count)| format!("{fault} {count}"));
    say(&format!("faults: {}", faults.collect::<Vec<_>>().join(", ")));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn say(text: &str) {
    println!("{text}");
}
