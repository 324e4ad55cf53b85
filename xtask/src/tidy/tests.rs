use serde_json::{Value, json};

use super::*;
use crate::traceability::rust_files;

fn nothing(broken: &[String]) {
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn crate_with(name: &str, dependency: &str, kind: Option<&str>) -> Value {
    json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]})
}

#[test]
fn dependencies_point_down() {
    nothing(&layers(&metadata()));
    let broken = |from, to, kind| !layers(&crate_with(from, to, kind)).is_empty();
    assert!(broken("farthing-core", "farthing-gate", None));
    assert!(broken("farthing-store-sqlite", "farthing-store-memory", None));
    assert!(broken("farthing-gate", "farthing-testkit", None));
    assert!(broken("farthing-new", "serde", None));
    assert!(!broken("farthing-gate", "farthing-testkit", Some("dev")));
    assert!(!broken("farthing-gate", "farthing-core", None));
}

#[test]
fn low_layers_are_pure_and_oracles_are_not_parts() {
    nothing(&foreign(&metadata()));
    let broken = |from, to, kind| !foreign(&crate_with(from, to, kind)).is_empty();
    assert!(broken("farthing-core", "tokio", None));
    assert!(broken("farthing-gateway", "mpp", None));
    assert!(broken("farthing-gateway", "alloy-primitives", None));
    assert!(!broken("farthing-rail-tempo", "alloy-primitives", None));
    assert!(!broken("farthing-core", "tokio", Some("dev")));
    assert!(!broken("farthing-gateway", "tokio", None));
    assert!(!broken("farthing-interop", "mpp", Some("dev")));
}

/// A client for small devices stays one: its own docs say how many crates it needs.
#[test]
fn lean_crates_stay_lean() {
    nothing(&fat(&metadata()));
    assert_eq!(fat(&crate_with("farthing-wallet-client", "tokio", None)).len(), 1);
    assert!(fat(&crate_with("farthing-wallet-client", "tokio", Some("dev"))).is_empty());
    let needed = needs("farthing-wallet-client");
    assert!(needed.contains(&"serde_json".to_owned()), "{needed:?}");
    assert_eq!(needed.len(), 1 + 5, "{needed:?}");
}

#[test]
fn pure_crates_forbid_clocks_and_chance() {
    let shared = std::fs::read_to_string(root().join("clippy.toml")).unwrap();
    for (name, folder) in folders(&metadata()) {
        let own = std::fs::read_to_string(folder.join("clippy.toml"));
        let is_pure = layer(&name).is_some_and(|layer| layer <= PURE_LAYER_MAX);
        assert!(own.is_ok() || !is_pure, "{name}");
        if let Ok(own) = own {
            nothing(&clippy_lines(&shared, &own));
            assert!(own.contains("SystemTime::now") || !is_pure, "{name}");
        }
    }
    assert_eq!(clippy_lines("a = 1\nb = 2", "a = 1").len(), 1);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    nothing(&unexplained(&manifest));
    let broken =
        "# --- theirs\n# Why.\nserde = \"1\"\nserde_json = \"1\"\nserde-x = \"1\"\n[profile]";
    assert_eq!(unexplained(broken), ["serde_json has no sentence"]);
}

#[test]
fn every_crate_says_what_never_happens_in_it() {
    for (name, folder) in folders(&metadata()) {
        let roots = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
        let file = roots.iter().find(|file| file.exists()).unwrap();
        nothing(&undocumented(&name, &std::fs::read_to_string(file).unwrap()));
    }
    assert_eq!(undocumented("new", "mod a;").len(), 2);
}

#[test]
fn files_are_named_for_what_is_in_them() {
    nothing(&empty_names(&rust_files(root()).unwrap()));
    assert_eq!(empty_names(&["src/utils.rs".into(), "src/book.rs".into()]), ["src/utils.rs"]);
}
