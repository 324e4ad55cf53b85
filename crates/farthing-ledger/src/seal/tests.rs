//! Seals follow one another, and one that was altered is named.

use super::*;

fn seals() -> Vec<Seal> {
    let mut sealer = Sealer::default();
    vec![
        sealer.seal(["a"]),
        sealer.seal(["b", "c"]),
        sealer.seal(["d", "e", "f"]),
        sealer.seal(["g"]),
    ]
}

#[track_caller]
fn check(alter: impl FnOnce(&mut Vec<Seal>), want: (u64, SealFault)) {
    let mut altered = seals();
    alter(&mut altered);
    assert_eq!(follow(&altered).unwrap_err(), want);
}

#[test]
fn a_sealer_goes_on_where_another_stopped() {
    let all = seals();
    let (before, last) = all.split_at(3);
    let tree = follow(before).unwrap().tree;
    let mut next = Sealer::after(tree, before.last().unwrap().chain);
    assert_eq!(next.seal(["g"]), last[0]);
    assert_eq!(follow(&all).unwrap(), next);
}

#[test]
fn one_line_more_or_less_in_a_commit_is_the_same_tree_and_another_chain() {
    let mut other = Sealer::default();
    let one = other.seal(["a", "b", "c"]);
    let two = &seals()[1];
    assert_eq!((one.size, one.root), (two.size, two.root));
    assert_ne!(one.chain, two.chain);
}

#[test]
fn an_altered_seal_is_named() {
    let other = Hash::leaf(b"other");
    check(|seals| drop(seals.remove(0)), (3, SealFault::Gap));
    check(|seals| drop(seals.remove(1)), (6, SealFault::Gap));
    check(|seals| seals.swap(1, 2), (6, SealFault::Gap));
    check(|seals| seals.insert(2, seals[1].clone()), (3, SealFault::Gap));
    check(|seals| seals[1].size = 4, (4, SealFault::Gap));
    check(|seals| seals[1].leaves.clear(), (3, SealFault::Gap));
    check(|seals| seals[1].leaves[1] = other, (3, SealFault::Root));
    check(|seals| seals[1].leaves.swap(0, 1), (3, SealFault::Root));
    check(|seals| seals[2].root = other, (6, SealFault::Root));
    check(|seals| seals[2].chain = other, (6, SealFault::Chain));
}

/// What was sealed once must verify for ever: these are the bytes of version 1.
#[test]
fn the_chain_keeps_its_hashes() {
    let chains: Vec<String> = seals().iter().map(|seal| seal.chain.to_string()).collect();
    assert_eq!(chains[0], "ff323a740ac3452f06f0a40af155d6f6db3cad12318458ab50c18d5b74e54d1c");
    assert_eq!(chains[3], "46dadf91ea393682de905cee1f67715206e28fc072452a79c917de8487002191");
}

/// What a line of an ordinary length costs, for whoever asks: `cargo test -p farthing-ledger --release
/// -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, which asserts nothing about time"]
fn what_a_seal_costs() {
    const RECORDS: u32 = 100_000;
    let lines: Vec<String> =
        (0..RECORDS).map(|at| format!("{at:010}{}", "x".repeat(1_000))).collect();
    for batch in [1, 10, 1_000] {
        let mut sealer = Sealer::default();
        #[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
        let begun = std::time::Instant::now();
        for lines in lines.chunks(batch) {
            std::hint::black_box(sealer.seal(lines));
        }
        let took = begun.elapsed();
        println!("batches of {batch}: {:?} a record", took / RECORDS);
        assert_eq!(sealer.tree().size(), u64::from(RECORDS));
    }
}
