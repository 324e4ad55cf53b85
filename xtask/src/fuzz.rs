//! Running the fuzz targets, on a stable toolchain: libFuzzer needs coverage counters, and those
//! are a pass of LLVM.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::root;

/// Counters for every edge and comparison, which libFuzzer steers by.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions=on -Coverflow-checks=on --cfg=fuzzing";

/// The longest input, in bytes. Longer ones are refused by limits that have tests of their own.
const INPUT_BYTES_MAX: u32 = 4_096;

/// When a target has run enough.
pub(crate) enum Limit {
    /// After so many inputs from a fixed seed: the same each time.
    Runs(u32),
    /// After so many seconds, from a seed of the day's own.
    Seconds(u32),
}

/// Runs one target, or all of them. What crashes one is left in `fuzz/artifacts/TARGET`; what
/// reaches new code, when time is the limit, in `fuzz/corpus/TARGET`.
pub(crate) fn run(shell: &Shell, target: Option<&str>, limit: &Limit) -> Result<()> {
    let binary = build(shell)?;
    let all = cmd!(shell, "{binary}").env("FUZZ_TARGET", "list").quiet().read()?;
    let known: Vec<&str> = all.lines().collect();
    if let Some(target) = target {
        ensure!(known.contains(&target), "no target {target}; there are {}", known.join(", "));
    }
    let mut scratches = Vec::new();
    for target in known.into_iter().filter(|&known| target.is_none_or(|target| target == known)) {
        let artifacts = root().join("fuzz/artifacts").join(target);
        let corpus = root().join("fuzz/corpus").join(target);
        let seeds = root().join("fuzz/seeds").join(target);
        shell.create_dir(&artifacts)?;
        let mut args = vec![
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-artifact_prefix={}/", artifacts.display()),
            "-timeout=10".to_owned(),
            "-verbosity=0".to_owned(),
        ];
        match limit {
            // What is found goes to the first folder: one that is empty each time.
            Limit::Runs(runs) => {
                let scratch = shell.create_temp_dir()?;
                args.extend([format!("-runs={runs}"), "-seed=1".to_owned()]);
                args.push(scratch.path().display().to_string());
                scratches.push(scratch);
            }
            Limit::Seconds(seconds) => {
                shell.create_dir(&corpus)?;
                args.push(format!("-max_total_time={seconds}"));
                args.push(corpus.display().to_string());
            }
        }
        if seeds.exists() {
            args.push(seeds.display().to_string());
        }
        eprintln!("fuzz: {target}");
        let fuzz = cmd!(shell, "{binary} {args...}").env("FUZZ_TARGET", target).quiet();
        let output = fuzz.ignore_status().output()?;
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            bail!("{target} found a failure; its input is in {}", artifacts.display());
        }
    }
    Ok(())
}

fn build(shell: &Shell) -> Result<PathBuf> {
    let target = crate::target().join("fuzz");
    // With a target named, the flags stay away from build scripts.
    let host = cmd!(shell, "rustc --print host-tuple").quiet().read()?;
    let manifest = root().join("fuzz/Cargo.toml");
    cmd!(shell, "cargo build --quiet --release --manifest-path {manifest} --target {host}")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
    Ok(target.join(host).join("release/farthing-fuzz"))
}
