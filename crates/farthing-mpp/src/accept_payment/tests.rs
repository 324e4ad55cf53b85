use proptest::prelude::*;

use super::AcceptPayment;

const OFFERS: [(&str, &str); 4] =
    [("tempo", "charge"), ("tempo", "session"), ("stripe", "charge"), ("solana", "charge")];

#[track_caller]
fn check(header: &str, want: &[usize]) {
    let ranked = header.parse::<AcceptPayment>().unwrap().rank(&OFFERS);
    assert_eq!(ranked, want, "{header}");
}

/// CORE.S09: filter by q>0, order by q, keep the server's order among equals, and let the most
/// specific range decide. The first three are the draft's own examples (§7.4).
#[test]
fn offers_are_ranked_as_the_client_prefers() {
    check("tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3", &[0, 1, 2, 3]);
    check("tempo/*, solana/*;q=0.6, */session;q=0.3", &[0, 1, 3]);
    check("tempo/charge, tempo/session;q=0, solana/charge", &[0, 3]);
    check("*/*;q=0.1, stripe/charge", &[2, 0, 1, 3]);
    check("*/*, tempo/*;q=0", &[2, 3]);
    check("tempo/*;q=0.2, tempo/session;q=0.9, */charge;q=0.5", &[1, 0, 2, 3]);
    check("TEMPO/charge;q=1".to_lowercase().as_str(), &[0]);
    check("tempo/charge ; q=1.000 ,, ", &[0]);
}

/// CORE.S09: when nothing matches, the server's own offers stand.
#[test]
fn no_match_gives_the_servers_order() {
    check("lightning/charge", &[0, 1, 2, 3]);
    check("*/*;q=0", &[0, 1, 2, 3]);
}

/// CORE.S09: a malformed field is as good as none.
#[test]
fn malformed_preferences_are_told_apart() {
    for header in [
        "",
        ",",
        "tempo",
        "tempo/",
        "/charge",
        "tempo/charge;q=2",
        "tempo/charge;q=1.5",
        "tempo/charge;q=0.1234",
        "tempo/charge;q=-1",
        "tempo/charge;level=1",
        "Tempo/charge",
        "tempo/charge;q=0.5;q=0.6",
        "tempo/char ge",
    ] {
        assert!(header.parse::<AcceptPayment>().is_err(), "{header:?}");
    }
    assert!("a/b,".repeat(64).parse::<AcceptPayment>().is_ok());
    assert!("a/b,".repeat(65).parse::<AcceptPayment>().is_err());
}

proptest! {
    #[test]
    fn a_ranking_never_repeats_or_invents(header in "[a-z*/;q=0.1, ]{0,40}") {
        if let Ok(accept) = header.parse::<AcceptPayment>() {
            let mut ranked = accept.rank(&OFFERS);
            prop_assert!(!ranked.is_empty());
            ranked.sort_unstable();
            ranked.dedup();
            prop_assert!(ranked.iter().all(|&at| at < OFFERS.len()));
        }
    }

    #[test]
    fn no_text_panics(text in "(?s).{0,100}") {
        let _ = text.parse::<AcceptPayment>();
    }
}
