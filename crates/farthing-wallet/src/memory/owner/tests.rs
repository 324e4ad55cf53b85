use farthing_keys::SecretKey;
use farthing_ledger::Ruling;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

fn memory() -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("memory.db")).unwrap();
    (folder, memory)
}

fn asking(approvals: u8) -> Asking {
    Asking {
        origin: "https://api.example.com".to_owned(),
        what: "GET /forecast".to_owned(),
        recipient: "inc".to_owned(),
        asset: AssetId::new("usd").unwrap(),
        atoms: "25".to_owned(),
        because: vec!["wallet.ask_above.usd: dear".to_owned()],
        approvals,
        by: Vec::new(),
        answered_at: None,
        task: None,
        tool: None,
        method: "prepaid".to_owned(),
        reasons: Vec::new(),
        draws: Vec::new(),
        quote: None,
        answer_by: None,
    }
}

fn decided() -> Decided {
    Decided {
        agent: "researcher".to_owned(),
        ruling: Ruling::Asked,
        policy: "1".to_owned(),
        policy_sha256: String::new(),
        facts: "{}".into(),
        digest: Decided::digest_of("{}"),
        rules: vec!["wallet.ask_above.usd".to_owned()],
        draws: Vec::new(),
        approval: None,
        draft: None,
    }
}

fn terms(name: &str) -> Fingerprint {
    Fingerprint::of("terms", &[name.as_bytes()])
}

fn ask(memory: &Memory, id: &str, approvals: u8, now: Timestamp) -> AskedFor {
    let asked = (asking(approvals), &decided());
    memory.ask((id.to_owned(), terms(id), "researcher"), asked, Waiting::default(), now).unwrap()
}

#[test]
fn as_many_approvers_as_it_takes_and_each_of_them_once() {
    let (_folder, memory) = memory();
    ask(&memory, "a", 2, NOW);
    let answer = |by: &str, approve| memory.answer("a", by, approve, NOW).unwrap();
    assert_eq!(answer("alice", true).unwrap().state, ApprovalState::Waiting);
    assert_eq!(answer("alice", true), Err(AnswerError::Twice("alice".to_owned())));
    assert_eq!(answer("bob", true).unwrap().state, ApprovalState::Approved);
    let found = memory.approval_of(&terms("a"), NOW).unwrap().unwrap();
    assert_eq!(
        (found.state, found.asked.by),
        (ApprovalState::Approved, vec!["alice".to_owned(), "bob".to_owned()])
    );
    memory.used("a").unwrap();
    assert_eq!(memory.approval_of(&terms("a"), NOW).unwrap(), None, "it was used");
    assert_eq!(answer("carol", true), Err(AnswerError::Answered("used")));
    assert_eq!(memory.answer("b", "alice", true, NOW).unwrap(), Err(AnswerError::Unknown));
}

#[test]
fn a_denial_stays_and_time_denies() {
    let (_folder, memory) = memory();
    ask(&memory, "a", 1, NOW);
    memory.answer("a", "alice", false, NOW).unwrap().unwrap();
    assert_eq!(memory.answer("a", "bob", true, NOW).unwrap(), Err(AnswerError::Answered("denied")));
    let later = NOW.after(APPROVAL_LASTS).after(APPROVAL_LASTS);
    assert_eq!(
        memory.approval_of(&terms("a"), later).unwrap().unwrap().state,
        ApprovalState::Denied
    );
    let AskedFor::Stands(known) = ask(&memory, "a", 1, later) else { panic!("it is known") };
    assert_eq!(known.state, ApprovalState::Denied, "asking again does not help");
    ask(&memory, "b", 1, NOW);
    assert_eq!(memory.answer("b", "alice", true, later).unwrap(), Err(AnswerError::Expired));
    assert_eq!(memory.approval_of(&terms("b"), later).unwrap(), None);
}

#[test]
fn nobody_is_flooded_with_requests() {
    let (_folder, memory) = memory();
    for at in 0..WAITING_PER_AGENT_MAX {
        assert!(matches!(ask(&memory, &at.to_string(), 1, NOW), AskedFor::Stands(_)));
    }
    assert_eq!(ask(&memory, "more", 1, NOW), AskedFor::TooMany);
    assert!(matches!(ask(&memory, "0", 1, NOW), AskedFor::Stands(_)), "it waits already");
    let named = ("other".to_owned(), terms("other"), "b");
    let other = memory.ask(named, (asking(1), &decided()), Waiting::default(), NOW).unwrap();
    assert!(matches!(other, AskedFor::Stands(_)), "another agent may ask");
    memory.answer("0", "alice", false, NOW).unwrap().unwrap();
    assert!(matches!(ask(&memory, "more", 1, NOW), AskedFor::Stands(_)), "one was answered");
}

/// P-13: a price that creeps up is compared with where it began, until somebody has approved more.
#[test]
fn a_price_is_remembered_as_it_was_and_a_recipient_as_the_first() {
    let (_folder, memory) = memory();
    let learn = |recipient: &str, atoms, approved| {
        let (seller, what, origin) = ("s", "w", "https://shop.example");
        let lesson = Lesson { seller, recipient, what, atoms, origin, identity: None, approved };
        memory.learn(&lesson).unwrap();
        (memory.known_recipient("s").unwrap().unwrap(), memory.known_price("w").unwrap().unwrap())
    };
    assert_eq!(memory.known_price("w").unwrap(), None);
    assert_eq!(learn("a", 100, false), ("a".to_owned(), 100));
    assert_eq!(learn("b", 101, false), ("a".to_owned(), 100));
    assert_eq!(learn("a", 90, false), ("a".to_owned(), 90));
    assert_eq!(learn("b", 150, true), ("b".to_owned(), 150));
}

#[test]
fn who_is_frozen_stays_so_in_every_process() {
    let (folder, memory) = memory();
    let other = Memory::open(&folder.path().join("memory.db")).unwrap();
    memory.freeze(Some("researcher"), true).unwrap();
    assert!(other.is_frozen("researcher").unwrap());
    assert!(!other.is_frozen("owner").unwrap());
    memory.freeze(None, true).unwrap();
    memory.freeze(Some("researcher"), false).unwrap();
    assert!(other.is_frozen("owner").unwrap() && other.is_frozen("researcher").unwrap());
    memory.freeze(None, false).unwrap();
    assert!(!other.is_frozen("owner").unwrap());
}

#[test]
fn what_is_kept_under_the_key_is_only_the_key_s() {
    let (_folder, memory) = memory();
    let [key, other] = [[1; 32], [2; 32]].map(SecretKey::from_bytes);
    assert!(memory.unseal("policy", &key).unwrap().is_none());
    memory.seal("policy", b"text", &key).unwrap();
    assert_eq!(memory.unseal("policy", &key).unwrap().unwrap().as_slice(), b"text");
    assert!(memory.unseal("policy", &other).is_err());
    memory.revoke("a1b2", NOW).unwrap();
    memory.revoke("a1b2", NOW).unwrap();
    assert!(memory.is_revoked("a1b2").unwrap() && !memory.is_revoked("c3d4").unwrap());
}
