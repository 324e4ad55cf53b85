//! Whose key is whose.

use farthing_ledger::TraceId;
use farthing_money::Timestamp;

use super::*;

fn offer(number: u8) -> TraceId {
    TraceId::new(Timestamp::from_micros(1_763_712_000_000_000), [number; 10])
}

/// TSU.S09: each challenge has a key of its own, made again from its name; on another chain, or of another
/// seller, it is another.
#[test]
fn each_challenge_has_a_key_of_its_own() {
    let ring = KeyRing::new([1; 32], vec![[2; 32]]);
    let address = |ring: &KeyRing, chain, number| ring.of(chain, offer(number)).unwrap().address();
    let first = address(&ring, 1, 1);
    assert_eq!(first, address(&ring, 1, 1));
    let others = [
        address(&ring, 1, 2),
        address(&ring, 2, 1),
        address(&KeyRing::new([2; 32], Vec::new()), 1, 1),
    ];
    assert!(others.iter().all(|other| *other != first));
}

/// What was begun under a former secret is charged under it, and what nobody has made by nobody.
#[test]
fn former_keys_are_found() {
    let former = KeyRing::new([2; 32], Vec::new());
    let address = former.of(1, offer(1)).unwrap().address().unwrap();
    let ring = KeyRing::new([1; 32], vec![[2; 32]]);
    assert_eq!(ring.find(1, offer(1), address).unwrap().address(), Some(address));
    assert!(ring.find(1, offer(2), address).is_none());
    assert!(KeyRing::new([1; 32], Vec::new()).find(1, offer(1), address).is_none());
}

/// A secret is not shown.
#[test]
fn a_secret_has_no_place_in_a_log() {
    assert_eq!(format!("{:?}", KeyRing::new([0xab; 32], Vec::new())), "KeyRing(1)");
}
