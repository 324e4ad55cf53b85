//! The tree against RFC 6962's own recursive definition, and against vectors.

use proptest::prelude::*;

use super::*;

/// RFC 6962 §2.1, as it is written.
fn root_as_written(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty(),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Hash::node(&root_as_written(left), &root_as_written(right))
        }
    }
}

/// RFC 6962 §2.1.1, as it is written.
fn path_as_written(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = match index.checked_sub(left.len()) {
        None => (path_as_written(index, left), right),
        Some(index) => (path_as_written(index, right), left),
    };
    path.push(root_as_written(sibling));
    path
}

/// RFC 6962 §2.1.2, as it is written.
fn consistency_as_written(older: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if older == leaves.len() {
        return if whole { Vec::new() } else { vec![root_as_written(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut proof, sibling) = match older.checked_sub(left.len()) {
        None | Some(0) => (consistency_as_written(older, left, whole), right),
        Some(older) => (consistency_as_written(older, right, false), left),
    };
    proof.push(root_as_written(sibling));
    proof
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|at| Hash::leaf(format!("line {at}").as_bytes())).collect()
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap()
}

/// The eight leaves that Certificate Transparency's implementations are tested with.
const KNOWN: [&[u8]; 8] = [
    b"",
    &[0x00],
    &[0x10],
    &[0x20, 0x21],
    &[0x30, 0x31],
    &[0x40, 0x41, 0x42, 0x43],
    &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
    &[
        0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
        0x6f,
    ],
];

/// The roots of the first 0, 1, … of them.
const KNOWN_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn roots_are_those_that_others_publish() {
    let mut tree = Tree::default();
    for (size, known) in KNOWN_ROOTS.iter().enumerate() {
        assert_eq!(tree.root().to_string(), *known, "of {size} leaves");
        if let Some(line) = KNOWN.get(size) {
            tree.push(Hash::leaf(line));
        }
    }
}

/// Our own: what a book has sealed must verify for as long as there are books.
#[test]
fn the_journals_own_lines_keep_their_hashes() {
    let line = br#"{"seq":1,"at":1763712000000000,"event":{"is":"opened","epoch":1}}"#;
    let leaf = Hash::leaf(line);
    assert_eq!(
        leaf.to_string(),
        "846a4a823663b029ec9a92e4e7501ffbb1752f6bbeced16614a88c91bcd89515"
    );
    let root = Hash::node(&leaf, &Hash::leaf(b"{}"));
    assert_eq!(
        root.to_string(),
        "7cfd7385c53181ce60eaabadcffcdb85281d4632705c41d9d4e78784fa8101af"
    );
}

#[test]
fn a_leaf_is_not_a_node() {
    let [left, right] = [Hash::leaf(b"a"), Hash::leaf(b"b")];
    let forged = [left.as_bytes().as_slice(), right.as_bytes()].concat();
    assert_ne!(Hash::leaf(&forged), Hash::node(&left, &right));
    assert_ne!(Hash::leaf(&[&[1], forged.as_slice()].concat()), Hash::node(&left, &right));
}

/// Every proof of every tree up to a size that has all shapes: as written, and believed.
#[test]
fn proofs_are_those_of_the_definition_and_are_believed() {
    let all = leaves(70);
    let forest: Forest = all.iter().copied().collect();
    for size in 1..=all.len() {
        let these = all.get(..size).unwrap();
        let root = forest.root(wide(size)).unwrap();
        assert_eq!(root, root_as_written(these));
        for (index, leaf) in these.iter().enumerate() {
            let proof = forest.inclusion(wide(index), wide(size)).unwrap();
            assert_eq!(proof, path_as_written(index, these), "{index} of {size}");
            assert!(includes(&root, wide(size), wide(index), leaf, &proof), "{index} of {size}");
        }
        for older in 1..=size {
            let older_root = forest.root(wide(older)).unwrap();
            let proof = forest.consistency(wide(older), wide(size)).unwrap();
            assert_eq!(proof, consistency_as_written(older, these, true), "{older} to {size}");
            let believed = continues(&root, wide(size), &older_root, wide(older), &proof);
            assert!(believed, "{older} to {size}");
        }
    }
    assert_eq!(forest.inclusion(70, 70), None);
    assert_eq!(forest.inclusion(0, 71), None);
    assert_eq!(forest.consistency(5, 71), None);
    assert_eq!(forest.consistency(6, 5), None);
}

#[test]
fn nothing_is_continued_by_everything_and_contains_nothing() {
    let forest: Forest = leaves(3).into_iter().collect();
    let root = forest.root(3).unwrap();
    assert!(continues(&root, 3, &Hash::empty(), 0, &forest.consistency(0, 3).unwrap()));
    assert!(!continues(&root, 3, &root, 0, &[]), "of size 0 there is one root");
    assert!(!includes(&Hash::empty(), 0, 0, &Hash::empty(), &[]));
    assert_eq!(Forest::default().root(0), Some(Hash::empty()));
}

#[test]
fn an_edge_of_another_size_is_refused() {
    let mut tree = Tree::default();
    for leaf in leaves(11) {
        tree.push(leaf);
    }
    let edge = tree.edge().to_vec();
    assert_eq!(edge.len(), 3, "11 is 8 and 2 and 1");
    assert_eq!(Tree::from_edge(11, edge.clone()), Some(tree));
    assert_eq!(Tree::from_edge(12, edge), None);
}

proptest! {
    #[test]
    fn growing_line_by_line_gives_the_root_of_the_definition(count in 0_usize..300) {
        let all = leaves(count);
        let mut tree = Tree::default();
        for leaf in &all {
            tree.push(*leaf);
        }
        prop_assert_eq!(tree.root(), root_as_written(&all));
        prop_assert_eq!(tree.size(), wide(count));
    }

    /// A proof with anything about it altered is not believed.
    #[test]
    fn an_altered_proof_of_inclusion_is_not_believed(
        (size, index) in (2_usize..200).prop_flat_map(|size| (Just(size), 0..size)),
        what in 0_usize..6,
        at in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let forest: Forest = all.iter().copied().collect();
        let mut root = forest.root(wide(size)).unwrap();
        let mut proof = forest.inclusion(wide(index), wide(size)).unwrap();
        let (mut size, mut place, mut leaf) = (wide(size), wide(index), all[index]);
        prop_assert!(includes(&root, size, place, &leaf, &proof));
        let other = Hash::leaf(b"other");
        match what {
            0 => root = other,
            1 => leaf = other,
            2 => { let at = at.index(proof.len()); proof[at] = other; }
            3 => { proof.remove(at.index(proof.len())); }
            4 => proof.insert(at.index(proof.len().saturating_add(1)), other),
            _ => place = place.saturating_add(1).checked_rem(size).unwrap(),
        }
        prop_assert!(!includes(&root, size, place, &leaf, &proof));
        size = place;
        prop_assert!(!includes(&root, size, place, &leaf, &proof));
    }

    #[test]
    fn an_altered_proof_of_consistency_is_not_believed(
        (size, older) in (2_usize..200).prop_flat_map(|size| (Just(size), 1..size)),
        what in 0_usize..4,
        at in any::<prop::sample::Index>(),
    ) {
        let forest: Forest = leaves(size).into_iter().collect();
        let (size, older) = (wide(size), wide(older));
        let mut roots = (forest.root(size).unwrap(), forest.root(older).unwrap());
        let mut proof = forest.consistency(older, size).unwrap();
        prop_assert!(continues(&roots.0, size, &roots.1, older, &proof));
        let other = Hash::leaf(b"other");
        match what {
            0 => roots.0 = other,
            1 => roots.1 = other,
            2 => { let at = at.index(proof.len()); proof[at] = other; }
            _ => { proof.remove(at.index(proof.len())); }
        }
        prop_assert!(!continues(&roots.0, size, &roots.1, older, &proof));
    }

    /// Two journals that differ in one early line have no proof that one continues the other.
    #[test]
    fn a_rewritten_beginning_is_not_continued(
        (size, older) in (2_usize..100).prop_flat_map(|size| (Just(size), 1..size)),
        at in any::<prop::sample::Index>(),
    ) {
        let honest: Forest = leaves(size).into_iter().collect();
        let mut all = leaves(size);
        all[at.index(older)] = Hash::leaf(b"rewritten");
        let forged: Forest = all.into_iter().collect();
        let published = honest.root(wide(older)).unwrap();
        let proof = forged.consistency(wide(older), wide(size)).unwrap();
        let root = forged.root(wide(size)).unwrap();
        prop_assert!(!continues(&root, wide(size), &published, wide(older), &proof));
    }
}
