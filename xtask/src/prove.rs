//! Long runs of tests that are short otherwise, and what they count.

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

/// Where the book lies of a gateway that is killed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    /// In a file
    Sqlite,
    /// In PostgreSQL
    Postgres,
    /// Not a gateway's: a wallet's in PostgreSQL, which two daemons share
    Wallet,
}

/// Kills the gateway `runs` times at each point.
pub(crate) fn crash(shell: &Shell, runs: u32, store: Store) -> Result<()> {
    let _runs = shell.push_env("FARTHING_CRASH_RUNS", runs.to_string());
    let head = "| point | arm | payments | served once | refunded | not charged | listed | \
                served and refunded | lost | double |";
    if store == Store::Wallet {
        let test = "wallets::two_daemons_are_killed_at_every_step_and_spend_one_budget";
        return Ok(cmd!(shell, "cargo test --package farthing --test it -- {test}").run()?);
    }
    let tests = match store {
        Store::Sqlite => "crash::killed",
        Store::Postgres | Store::Wallet => "crash::on_postgres::killed",
    };
    table(shell, head, &["--package", "farthing", "--test", "it", "--", tests])
}

/// Attacks both gates for `rounds` rounds.
pub(crate) fn leak(shell: &Shell, rounds: u32) -> Result<()> {
    let _rounds = shell.push_env("FARTHING_LEAK_ROUNDS", rounds.to_string());
    let head = "| scenario | gate | rounds | uses | served | unpaid | requestLeakage, 95 % | \
                value served | unpaid | valueLeakage, 95 % | of the uses nobody paid for |";
    table(shell, head, &["--package", "farthing-gateway", "--test", "it", "--", "leak::"])
}

/// Runs tests that print rows, and puts the rows under one head.
fn table(shell: &Shell, head: &str, tests: &[&str]) -> Result<()> {
    let run = cmd!(shell, "cargo test --quiet {tests...} --nocapture");
    let output = run.ignore_status().output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A row may follow a mark of the test runner's on the same line.
    let rows = text.lines().filter_map(|line| line.find("| ").and_then(|at| line.get(at..)));
    let mut rows: Vec<&str> = rows.collect();
    rows.sort_unstable();
    println!("{head}\n|{}", "---|".repeat(head.matches('|').count().saturating_sub(1)));
    for row in rows {
        println!("{row}");
    }
    if !output.status.success() {
        eprint!("{text}{}", String::from_utf8_lossy(&output.stderr));
        bail!("not everything holds");
    }
    Ok(())
}
