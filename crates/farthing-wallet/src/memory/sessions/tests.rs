//! What a request signs for, given what was bought and signed before.

use farthing_ledger::Fingerprint;
use farthing_money::{Amount, Timestamp};

use super::{Asked, Depositor, Memory, WalletSession, WalletSessionState};

fn usd(atoms: u128) -> Amount {
    Amount::new("usd".parse().unwrap(), atoms)
}

fn intent(of: &str) -> Fingerprint {
    Fingerprint::of("intent", &[of.as_bytes()])
}

/// An agent whose payments count in these budgets.
fn by(agent: &str, purses: &[&str]) -> Depositor {
    Depositor {
        agent: agent.to_owned(),
        task: None,
        blocks: Vec::new(),
        purses: purses.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn session(spent: u128, signed: u128) -> WalletSession {
    WalletSession {
        method: "prepaid".into(),
        channel: "a".into(),
        origin: "https://shop.example".into(),
        binding: "prepaid shop.example seller usd".into(),
        recipient: "seller".into(),
        url: "https://shop.example/quote".into(),
        http_method: "GET".into(),
        state: WalletSessionState::Open,
        deposit: usd(100),
        signed: usd(signed),
        spent: usd(spent),
        asked: None,
        by: None,
        holds: Vec::new(),
        topping: None,
        leaves_at: None,
        keepsake: farthing_core::Object::new(),
        opened_at: Timestamp::default(),
        used_at: Timestamp::default(),
    }
}

#[test]
fn a_request_signs_for_what_was_bought_and_its_price() {
    for (spent, signed, price, delta_min, next) in [
        (0, 0, 25, 0, 25),
        (25, 25, 25, 0, 50),
        (25, 25, 10, 30, 55),
        // What was signed for and not bought is not signed for again, and a voucher advances.
        (0, 25, 25, 0, 26),
        (0, 25, 50, 0, 50),
        (u128::MAX, u128::MAX, 1, 0, u128::MAX),
    ] {
        let got = session(spent, signed).next(&intent("a"), &usd(price), delta_min);
        assert_eq!(got, next, "{price} after {spent} of {signed}");
    }
}

#[test]
fn a_request_that_was_never_answered_signs_for_the_same() {
    let asked = Asked { intent: intent("a"), cumulative: usd(40), price: usd(25) };
    let session = WalletSession { asked: Some(asked), ..session(15, 40) };
    assert_eq!(session.next(&intent("a"), &usd(25), 0), 40);
    assert_eq!(session.next(&intent("a"), &usd(30), 0), 45, "at another price it is another");
    assert_eq!(session.next(&intent("b"), &usd(25), 0), 41);
}

/// Whoever opens the memory next finds a session as it was, until it is closed.
#[test]
fn sessions_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let kept = session(25, 50);
    Memory::open(&path).unwrap().keep_session(&kept).unwrap();
    let memory = Memory::open(&path).unwrap();
    let find = || memory.session_with(&kept.origin, &kept.binding, &by("a", &[])).unwrap();
    assert_eq!(find().as_ref(), Some(&kept));
    assert_eq!(
        memory.session_with("https://other.example", &kept.binding, &by("a", &[])).unwrap(),
        None
    );
    let closed = WalletSession { state: WalletSessionState::Closed, ..kept.clone() };
    memory.keep_session(&closed).unwrap();
    assert_eq!(find(), None);
    assert_eq!(memory.sessions().unwrap(), [closed]);
}

#[test]
fn a_deposit_is_spent_by_whom_it_counts_for() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("memory.db")).unwrap();
    let own = WalletSession {
        by: Some(by("a", &["wallet", "agent a"])),
        opened_at: Timestamp::from_micros(2),
        ..session(0, 0)
    };
    memory.keep_session(&own).unwrap();
    let found = |by: &Depositor| {
        let found = memory.session_with(&own.origin, &own.binding, by).unwrap();
        found.map(|session| session.channel)
    };
    let channel = |name: &str| Some(name.to_owned());
    assert_eq!(found(&by("a", &["wallet", "agent a"])), channel("a"));
    assert_eq!(found(&by("a", &["wallet"])), channel("a"), "its budgets have changed meanwhile");
    assert_eq!(found(&by("b", &["wallet", "agent b"])), None);
    assert_eq!(found(&by("b", &["wallet"])), None, "the other's budget would pay for it");
    assert_eq!(found(&by("b", &["wallet", "agent a", "agent b"])), None, "its own would not");
    let task = Depositor { task: Some("survey".to_owned()), ..by("a", &["wallet"]) };
    assert_eq!(found(&task), None, "another task");
    // What counts in everybody's budgets alone is everybody's, and what is one's own comes first.
    let shared =
        WalletSession { channel: "shared".into(), by: Some(by("c", &["wallet"])), ..session(0, 0) };
    memory.keep_session(&shared).unwrap();
    assert_eq!(found(&by("b", &["wallet"])), channel("shared"));
    assert_eq!(found(&by("a", &["wallet"])), channel("a"));
}
