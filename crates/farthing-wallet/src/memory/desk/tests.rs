use farthing_ledger::Ruling;
use farthing_money::AssetId;

use super::*;
use crate::memory::owner::{AskedFor, Waiting};
use crate::memory::{APPROVAL_LASTS, Asking};

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

fn memory() -> (tempfile::TempDir, Memory) {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("memory.db")).unwrap();
    (folder, memory)
}

fn ask(memory: &Memory, id: &str, now: Timestamp) {
    let asking = Asking {
        origin: "https://api.example.com".to_owned(),
        what: "GET /forecast".to_owned(),
        recipient: "inc".to_owned(),
        asset: AssetId::new("usd").unwrap(),
        atoms: "25".to_owned(),
        because: Vec::new(),
        approvals: 1,
        by: Vec::new(),
        answered_at: None,
        task: None,
        tool: None,
        method: "prepaid".to_owned(),
        reasons: Vec::new(),
        draws: Vec::new(),
        quote: None,
        answer_by: None,
    };
    let decided = Decided {
        agent: "bot".to_owned(),
        ruling: Ruling::Asked,
        policy: "1".to_owned(),
        policy_sha256: String::new(),
        facts: "{}".into(),
        digest: Decided::digest_of("{}"),
        rules: Vec::new(),
        draws: Vec::new(),
        approval: None,
        draft: None,
    };
    let terms = Fingerprint::of("terms", &[id.as_bytes()]);
    let named = (id.to_owned(), terms, "bot");
    let asked = memory.ask(named, (asking, &decided), Waiting::default(), now).unwrap();
    assert!(matches!(asked, AskedFor::Stands(_)));
}

/// What is told, and in which order.
fn told(memory: &Memory, now: Timestamp) -> Vec<String> {
    let notices = memory.notices(now).unwrap();
    notices.iter().map(|it| format!("{} {}", it.request.id, it.event.name())).collect()
}

#[test]
fn a_link_is_opened_once_and_in_its_time() {
    let (_folder, memory) = memory();
    memory.give_link("secret", "alice", NOW).unwrap();
    memory.give_link("other", "bob", NOW).unwrap();
    assert_eq!(memory.whose_link("secret", NOW).unwrap().as_deref(), Some("alice"));
    assert_eq!(memory.open_link("secrets", NOW).unwrap(), None);
    assert_eq!(memory.open_link("secret", NOW).unwrap().as_deref(), Some("alice"));
    assert_eq!(memory.open_link("secret", NOW).unwrap(), None, "it was opened");
    assert_eq!(memory.open_link("other", NOW.after(LINK_LASTS)).unwrap(), None, "it is over");
    assert_eq!(memory.open_link("other", NOW).unwrap().as_deref(), Some("bob"));
}

#[test]
fn what_was_asked_is_told_before_how_it_ended() {
    let (_folder, memory) = memory();
    ask(&memory, "a", NOW);
    ask(&memory, "b", NOW.after(Duration::from_secs(1)));
    let later = NOW.after(Duration::from_secs(2));
    assert_eq!(told(&memory, later), ["a requested", "b requested"]);
    memory.answer("a", "alice", true, later).unwrap().unwrap();
    assert_eq!(told(&memory, later), ["a requested", "b requested"]);
    let first = memory.notices(later).unwrap().remove(0);
    let again = later.after(Duration::from_secs(5));
    memory.noticed(&first, Some(again)).unwrap();
    let tried = memory.notices(later).unwrap().remove(0);
    assert_eq!((tried.attempts, tried.next_at), (1, again));
    memory.noticed(&tried, None).unwrap();
    assert_eq!(told(&memory, later), ["a approved", "b requested"]);
    memory.used("a").unwrap();
    assert_eq!(told(&memory, later), ["a approved", "b requested"], "used is approved");
    memory.noticed(&memory.notices(later).unwrap().remove(0), None).unwrap();
    assert_eq!(told(&memory, later), ["b requested"]);
    assert!(told(&memory, later.after(TOLD_FOR)).is_empty(), "what is old is nobody's concern");
}

#[test]
fn what_nobody_answers_expires_once() {
    let (_folder, memory) = memory();
    ask(&memory, "a", NOW);
    assert!(memory.overdue(NOW).unwrap().is_empty());
    let late = NOW.after(APPROVAL_LASTS);
    let overdue = memory.overdue(late).unwrap();
    assert_eq!(overdue.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(overdue[0].state_at(late), ApprovalState::Expired, "noted or not");
    memory.expired("a").unwrap();
    assert!(memory.overdue(late).unwrap().is_empty());
    assert_eq!(memory.approval("a").unwrap().unwrap().state, ApprovalState::Expired);
    let answered = memory.answer("a", "alice", true, NOW).unwrap();
    assert_eq!(answered, Err(crate::AnswerError::Expired), "whatever the clock says then");
    assert_eq!(memory.asked("a").unwrap().unwrap().ruling, Ruling::Asked);
}

#[test]
fn who_is_frozen_is_listed() {
    let (_folder, memory) = memory();
    memory.freeze(Some("bot"), true).unwrap();
    memory.freeze(None, true).unwrap();
    assert_eq!(memory.frozen().unwrap(), ["*", "bot"]);
}
