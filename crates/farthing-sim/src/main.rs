//! `./x sim`: simulates runs from a seed on, for a while, and stops at the first failure.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use farthing_sim::{Plan, Planted, run};

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
    /// How many steps of each run things go wrong for
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// Plants a bug, to see it found
    #[arg(long, value_parser = planted)]
    plant: Option<Planted>,
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let began = Instant::now();
    let (mut runs, mut steps, mut payments) = (0_u64, 0_u64, 0_usize);
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    while began.elapsed() < cli.span && cli.runs.is_none_or(|most| runs < most) {
        let seed = cli.seed.saturating_add(runs);
        match run(Plan { seed, steps: cli.steps, planted: cli.plant }) {
            Ok(done) => {
                runs = runs.saturating_add(1);
                steps = steps.saturating_add(done.steps);
                payments = payments.saturating_add(done.payments);
                for (fault, count) in done.faults {
                    let sum = faults.entry(fault).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
            Err(failure) => {
                say(&format!("{failure}"));
                return ExitCode::FAILURE;
            }
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
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn say(text: &str) {
    println!("{text}");
}
