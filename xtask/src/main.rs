//! Development tasks: `./x TASK` from outside, `cargo xtask TASK` from inside.
//!
//! The rules of the source tree that no compiler knows are tests here: `tidy` reads the manifests,
//! `traceability` finds the test of every requirement. They run with all the others.

mod demo;
mod fuzz;
mod prove;
mod setup;
#[cfg(test)]
mod tidy;
mod traceability;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xshell::{Shell, cmd};

use crate::setup::Setup;

/// Farthing's tasks.
#[derive(Parser)]
#[command(name = "x", bin_name = "./x")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sell and buy one API call in this terminal, with every step shown
    Demo {
        /// In stablecoins, on a Tempo chain of its own, with the official `mppx` as a second buyer
        #[arg(long)]
        tempo: bool,
    },
    /// Set up, then run every check and every test
    Test,
    /// Only what needs no setup: format, lints, and the rules of the source tree
    Check,
    /// Measure: `challenge` (402s a second), `prepaid` (durable payments a second), `tempo` (how long a
    /// payment takes beside a block)
    Bench {
        /// What to measure, and its options; `./x bench --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Feed parsers with mutated input; without a name, all of them
    Fuzz {
        /// A target of `fuzz/src/main.rs`
        target: Option<String>,
        /// How long each target runs, in seconds
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
        seconds: u32,
    },
    /// Kill the gateway at six points of a payment, and see what became of everybody's money
    Crash {
        /// How often at each point; each time with eighteen payments at once
        #[arg(long, default_value_t = 200)]
        runs: u32,
        /// Where its book lies
        #[arg(long, value_enum, default_value_t = prove::Store::Sqlite)]
        store: prove::Store,
    },
    /// Use one payment many times at once, at a naive gate and at ours, and count what leaks
    Leak {
        /// How many rounds of each
        #[arg(long, default_value_t = 50)]
        rounds: u32,
    },
    /// Live through payments under crashes, lost messages and wrong clocks, from a seed on;
    /// `./x sim --help` lists the options
    Sim {
        /// `--seed N`, `--for 60s` and others
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write docs/conformance.md: which test holds which requirement
    Conformance,
    /// Install what the tests need and the machine lacks
    Setup,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let shell = Shell::new()?;
    shell.change_dir(root());
    match cli.task {
        Task::Demo { tempo: true } => demo::tempo(&shell),
        Task::Demo { tempo: false } => {
            Ok(cmd!(shell, "cargo run --quiet --package farthing -- demo").run()?)
        }
        Task::Test => test(&shell),
        Task::Check => {
            check(&shell)?;
            Ok(cmd!(shell, "cargo test --quiet --package xtask").run()?)
        }
        Task::Bench { args } => {
            // A chain of one's own is among the peers.
            let chain = args.first().is_some_and(|name| name == "tempo" || name == "session");
            let peers = chain.then(|| Setup::new(&shell)?.npm()).transpose()?;
            let _peers = peers.map(|peers| shell.push_env("FARTHING_PEERS", peers));
            let bench =
                cmd!(shell, "cargo run --quiet --release --package farthing-bench -- {args...}");
            Ok(bench.run()?)
        }
        Task::Fuzz { target, seconds } => {
            fuzz::run(&shell, target.as_deref(), &fuzz::Limit::Seconds(seconds))
        }
        Task::Crash { runs, store } => prove::crash(&shell, runs, store),
        Task::Leak { rounds } => prove::leak(&shell, rounds),
        Task::Sim { args } => {
            let sim =
                cmd!(shell, "cargo run --quiet --release --package farthing-sim -- {args...}");
            Ok(sim.run()?)
        }
        Task::Conformance => {
            shell.write_file(traceability::DOCUMENT, traceability::document(root())?)?;
            Ok(())
        }
        Task::Setup => Setup::new(&shell)?.all().map(drop),
    }
}

/// Everything, in the order in which a mistake is cheapest to find.
fn test(shell: &Shell) -> Result<()> {
    let peers = Setup::new(shell)?.all()?;
    check(shell)?;
    step("tests");
    let peers = shell.push_env("FARTHING_PEERS", peers);
    cmd!(shell, "cargo test --workspace").run()?;
    drop(peers);
    step("fuzz targets, a fixed number of runs each");
    fuzz::run(shell, None, &fuzz::Limit::Runs(20_000))?;
    eprintln!("\nall of it passes");
    Ok(())
}

fn check(shell: &Shell) -> Result<()> {
    step("format");
    cmd!(shell, "cargo fmt --all --check").run()?;
    step("lints");
    cmd!(shell, "cargo clippy --quiet --workspace --all-targets -- -D warnings").run()?;
    step("documentation");
    let flags = shell.push_env("RUSTDOCFLAGS", "-D warnings");
    cmd!(shell, "cargo doc --quiet --workspace --no-deps").run()?;
    drop(flags);
    Ok(())
}

fn step(name: &str) {
    eprintln!("\n=== {name}");
}

/// The root of the source tree that cargo runs this from.
fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        here.parent().map(Path::to_owned).unwrap_or(here)
    });
    &ROOT
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
