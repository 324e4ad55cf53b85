//! What is signed to use a subscription.

use super::*;

fn bound(account: Address) -> Bound<'static> {
    Bound {
        chain_id: 42_431,
        account,
        subscription: "sub_00112233445566778899aabbccddeeff",
        challenge: "ch_1",
        realm: "api.example.com",
    }
}

/// Everything that is signed counts, and a use is no cancellation.
#[test]
fn each_part_of_what_is_signed_counts() {
    let account = Address::of_secret(&[7; 32]).unwrap();
    let usual = digest(Act::Use, &bound(account));
    assert_eq!(usual, digest(Act::Use, &bound(account)));
    let stranger = Address::of_secret(&[8; 32]).unwrap();
    let others = [
        digest(Act::Cancel, &bound(account)),
        digest(Act::Use, &bound(stranger)),
        digest(Act::Use, &Bound { chain_id: 1, ..bound(account) }),
        digest(Act::Use, &Bound { subscription: "sub_x", ..bound(account) }),
        digest(Act::Use, &Bound { challenge: "ch_2", ..bound(account) }),
        digest(Act::Use, &Bound { realm: "example.com", ..bound(account) }),
    ];
    assert!(others.iter().all(|other| *other != usual));
}

#[test]
fn acts_are_known_by_their_names() {
    for act in [Act::Use, Act::Cancel] {
        assert_eq!(Act::named(act.name()), Some(act));
    }
    assert_eq!(Act::named("keyAuthorization"), None);
}
