//! Rules of the source tree that no compiler knows, over `cargo metadata` and the files themselves.
//!
//! They run as tests. Each rule is a function from what it reads to the places that break it, so
//! that the tests can also show it something broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::root;

mod tests;

/// The layers, lowest first, as ARCHITECTURE.md draws them. A crate depends only on lower layers,
/// and on what [`BESIDE`] allows it in its own.
const LAYERS: &[&[&str]] = &[
    &["farthing-money"],
    &["farthing-mpp"],
    &["farthing-ledger", "farthing-core", "farthing-policy"],
    &[
        "farthing-evidence",
        "farthing-keys",
        "farthing-meter",
        "farthing-protocols",
        "farthing-rail-prepaid",
        "farthing-rail-tempo",
        "farthing-rail-test",
        "farthing-store-memory",
        "farthing-store-postgres",
        "farthing-store-sqlite",
        "farthing-store-writer",
        "farthing-webhook",
    ],
    &[
        "farthing-gate",
        "farthing-gateway",
        "farthing-wallet",
        "farthing-wallet-client",
        "farthing-wallet-daemon",
    ],
    &["farthing"],
];

/// Where one crate may lean on another of its own layer: (the one, the other).
const BESIDE: &[(&str, &str)] = &[
    ("farthing-core", "farthing-ledger"),
    ("farthing-gateway", "farthing-gate"),
    ("farthing-policy", "farthing-ledger"),
    ("farthing-store-postgres", "farthing-store-writer"),
    ("farthing-store-sqlite", "farthing-store-writer"),
    ("farthing-wallet-daemon", "farthing-wallet"),
];

/// Crates that stand beside the layers; nothing depends on them outside tests.
const TOOLS: &[&str] =
    &["farthing-bench", "farthing-interop", "farthing-sim", "farthing-testkit", "xtask"];

/// The highest layer that is a function of its arguments.
const PURE_LAYER_MAX: usize = 2;

/// What pure layers do without: (the dependency, what it would bring).
const IMPURE: &[(&str, &str)] = &[
    ("axum", "a server"),
    ("getrandom", "randomness"),
    ("hyper", "a server"),
    ("rand", "randomness"),
    ("reqwest", "a client"),
    ("rusqlite", "a database"),
    ("tokio", "a runtime"),
    ("tracing", "a log"),
];

/// What only the crates of chains may depend on: (how its name begins, the crates).
const CHAINS: &[(&str, &[&str])] =
    &[("alloy-", &["farthing-rail-tempo"]), ("tempo-", &["farthing-rail-tempo"])];

/// Crates for those who have little room: (the crate, all that it may depend on).
const LEAN: &[(&str, &[&str])] = &[("farthing-wallet-client", &["serde_json"])];

/// Other implementations of what this project exists for; they are oracles, never parts.
const ORACLES: &[&str] =
    &["mpp", "sse-parse", "standardwebhooks", "x402-rs", "x402-types", "x402-axum", "x402-reqwest"];

/// Where the rules of the workspace do without a crate's root that states an invariant.
const WITHOUT_INVARIANT: &[&str] = &["xtask"];

/// File names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helpers", "misc", "mod", "util", "utils"];

/// The workspace as cargo sees it.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// A dependency of a crate of ours.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    in_tests_only: bool,
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn edges(metadata: &Value) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for package in list(metadata, "packages") {
        for dependency in list(package, "dependencies") {
            edges.push(Edge {
                from: package["name"].as_str().unwrap_or_default(),
                to: dependency["name"].as_str().unwrap_or_default(),
                in_tests_only: dependency["kind"].as_str() == Some("dev"),
            });
        }
    }
    edges
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Dependencies that point up or sideways, and crates that no layer names.
fn layers(metadata: &Value) -> Vec<String> {
    let is_ours = |name: &str| name.starts_with("farthing") || name == "xtask";
    let mut broken = Vec::new();
    for name in list(metadata, "packages").iter().filter_map(|package| package["name"].as_str()) {
        if layer(name).is_none() && !TOOLS.contains(&name) {
            broken.push(format!("{name} stands in no layer"));
        }
    }
    for Edge { from, to, in_tests_only } in edges(metadata) {
        if in_tests_only || !is_ours(to) || TOOLS.contains(&from) {
            continue;
        }
        let is_lower = layer(to) < layer(from) || BESIDE.contains(&(from, to));
        if TOOLS.contains(&to) || !is_lower {
            broken.push(format!("{from} depends on {to}, which is not below it"));
        }
    }
    broken
}

/// What makes a pure layer impure, chains beyond their rails, and oracles outside tests.
fn foreign(metadata: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for Edge { from, to, in_tests_only } in edges(metadata) {
        let pure = layer(from).is_some_and(|layer| layer <= PURE_LAYER_MAX);
        let brings = IMPURE.iter().find(|(name, _)| *name == to);
        if let Some((_, what)) = brings.filter(|_| pure && !in_tests_only) {
            broken.push(format!("{from} depends on {to}, which brings {what} into a pure layer"));
        }
        let chain = CHAINS.iter().find(|(prefix, _)| to.starts_with(prefix));
        if chain.is_some_and(|(_, allowed)| !allowed.contains(&from)) {
            broken.push(format!("{from} depends on {to}, which only chains may"));
        }
        if ORACLES.contains(&to) && !in_tests_only && from != "farthing-bench" {
            broken.push(format!("{from} depends on {to}, which is an oracle"));
        }
    }
    broken
}

/// What makes a lean crate fat.
fn fat(metadata: &Value) -> Vec<String> {
    let fat = |edge: &Edge<'_>| {
        let (_, few) = LEAN.iter().find(|(name, _)| *name == edge.from)?;
        let allowed = edge.in_tests_only || few.contains(&edge.to);
        (!allowed).then(|| format!("{} depends on {} and promises not to", edge.from, edge.to))
    };
    edges(metadata).iter().filter_map(fat).collect()
}

/// Everything that a lean crate needs in the end, itself among it, as cargo resolves it.
fn needs(name: &str) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(cargo);
    command.args(["tree", "--package", name, "--edges", "normal", "--prefix", "none"]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut crates: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    crates.sort();
    crates.dedup();
    crates
}

/// Lines of the root's `clippy.toml` that a crate's own leaves out: the nearest file wins whole.
fn clippy_lines(root: &str, own: &str) -> Vec<String> {
    let shared = root.lines().filter(|line| !own.lines().any(|known| known == *line));
    shared.map(|line| format!("leaves out {line:?}")).collect()
}

/// Dependencies of the workspace without a sentence that says what they are for. The crates of ours,
/// and a run of lines under one sentence, need none.
fn unexplained(manifest: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let mut explained: Option<String> = None;
    let mut theirs = false;
    for line in manifest.lines() {
        match line {
            line if line.starts_with("# --- theirs") => theirs = true,
            line if line.starts_with('[') => theirs = false,
            line if line.starts_with('#') => explained = Some(String::new()),
            line if theirs && line.contains(" = ") => {
                let name = line.split(' ').next().unwrap_or_default();
                let stem = name.split('-').next().unwrap_or_default().to_owned();
                match &explained {
                    Some(known) if known.is_empty() || *known == stem => explained = Some(stem),
                    _ => broken.push(format!("{name} has no sentence")),
                }
            }
            _ => {}
        }
    }
    broken
}

/// A crate's root that does not state an invariant, or does not open with a sentence.
fn undocumented(name: &str, root: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !root.starts_with("//! ") {
        broken.push(format!("{name} does not open with a sentence"));
    }
    if !root.contains("**Architecture invariant:**") && !WITHOUT_INVARIANT.contains(&name) {
        broken.push(format!("{name} states no architecture invariant"));
    }
    broken
}

/// Files with names that say nothing.
fn empty_names(files: &[PathBuf]) -> Vec<String> {
    let stem = |file: &PathBuf| file.file_stem().map(|it| it.to_string_lossy().into_owned());
    let says_nothing = |file: &&PathBuf| stem(file).is_some_and(|it| EMPTY_NAMES.contains(&&*it));
    files.iter().filter(says_nothing).map(|file| file.display().to_string()).collect()
}

/// Each crate's folder, by name.
fn folders(metadata: &Value) -> BTreeMap<String, PathBuf> {
    let folder = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str()?);
        Some((package["name"].as_str()?.to_owned(), manifest.parent()?.to_owned()))
    };
    list(metadata, "packages").iter().filter_map(folder).collect()
}
