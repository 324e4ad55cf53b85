use farthing_ledger::Fingerprint;
use farthing_wallet::{ApprovalState, Asking};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

pub(in crate::page) fn request(id: &str, terms: &str) -> ApprovalRequest {
    ApprovalRequest {
        id: id.to_owned(),
        terms: Fingerprint::of("terms", &[terms.as_bytes()]),
        agent: "bot".to_owned(),
        asked_at: NOW,
        expires_at: NOW.after(Duration::from_hours(1)),
        state: ApprovalState::Waiting,
        asked: Asking {
            origin: "https://api.example.com".to_owned(),
            what: "GET /forecast".to_owned(),
            recipient: "inc".to_owned(),
            asset: "usd".parse().unwrap(),
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
        },
    }
}

/// The path and the cookie of a session that begins.
fn begin(sessions: &Sessions, approver: &str, now: Timestamp) -> (String, String) {
    let (path, field) = sessions.begin(approver.to_owned(), now);
    let (cookie, rest) = field.split_once("; ").unwrap();
    assert_eq!(rest, format!("Path=/desk/{path}; HttpOnly; SameSite=Strict"));
    (path, cookie.to_owned())
}

#[test]
fn a_session_needs_its_path_and_its_cookie() {
    let sessions = Sessions::default();
    let (path, cookie) = begin(&sessions, "alice", NOW);
    let (other_path, other) = begin(&sessions, "bob", NOW);
    let whose = |path: &str, cookies: &[&str], now| {
        sessions.find(path, cookies, now).map(|session| session.approver)
    };
    assert_eq!(whose(&path, &["a=b", &cookie], NOW).as_deref(), Some("alice"));
    assert_eq!(whose(&other_path, &[&other], NOW).as_deref(), Some("bob"));
    assert_eq!(whose(&path, &[&other], NOW), None);
    assert_eq!(whose(&path, &["farthing-desk=", "farthing-desk"], NOW), None);
    assert_eq!(whose(&path, &[], NOW), None);
    assert_eq!(whose(&path, &[&cookie], NOW.after(SESSION_LASTS)), None);
    sessions.end(&path);
    assert_eq!(whose(&path, &[&cookie], NOW), None);
}

#[test]
fn the_oldest_session_makes_room() {
    let sessions = Sessions::default();
    let begun: Vec<_> = (0..=SESSIONS_MAX)
        .map(|at| {
            let at = NOW.after(Duration::from_secs(u64::try_from(at).unwrap()));
            begin(&sessions, "alice", at)
        })
        .collect();
    let lives = |(path, cookie): &(String, String)| sessions.find(path, &[cookie], NOW).is_some();
    assert!(!lives(&begun[0]) && begun[1..].iter().all(lives));
}

#[test]
fn a_form_is_for_one_request_of_one_session_and_its_terms() {
    let sessions = Sessions::default();
    let session = |name: &str| {
        let (path, cookie) = begin(&sessions, name, NOW);
        sessions.find(&path, &[&cookie], NOW).unwrap()
    };
    let (alice, bob) = (session("alice"), session("alice"));
    let asked = request("apr_1", "terms");
    let seal = alice.seal(&asked);
    assert!(alice.is_seal(&seal, &asked));
    assert!(!alice.is_seal(&seal, &request("apr_2", "terms")));
    assert!(!alice.is_seal(&seal, &request("apr_1", "others")));
    assert!(!bob.is_seal(&seal, &asked));
    assert!(!alice.is_seal("", &asked));
    let key = AnswerKey::new(Zeroizing::new([7; 32]));
    let signed = key.sign(&asked);
    assert!(key.is_signature(&signed, &asked) && !key.is_signature(&seal, &asked));
    assert!(!key.is_signature(&signed, &request("apr_1", "others")));
}
