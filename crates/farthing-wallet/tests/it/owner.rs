//! What an owner allows, asked before anything is signed, and written down.

use std::collections::BTreeMap;
use std::time::Duration;

use farthing_core::Clock;
use farthing_ledger::{Decided, Event, OwnerStep, Ruling};
use farthing_policy::{Facts, Policy, Usage, Verdict};
use farthing_wallet::{ApprovalRequest, PayFailure, PayOptions};

use crate::honest::Seller;
use crate::scene::{Answer, Owner, START, Server, TestClock, answer, assets, get};

/// Everything up to 1.00 usd, but nothing dearer than `ask_above` without having asked.
fn asking_above(atoms: &str) -> String {
    format!("[wallet]\nmax = {{ usd = \"1\" }}\nask_above = {{ usd = \"{atoms}\" }}\n")
}

async fn parked(owner: &Owner, url: &str) -> ApprovalRequest {
    let error = owner.pay(url).await.unwrap_err();
    if let PayFailure::Parked(request) = error { *request } else { panic!("{error}") }
}

fn approve(owner: &Owner, clock: &TestClock, request: &ApprovalRequest) {
    let answered = owner.wallet().memory.answer(&request.id, "agent", true, clock.now()).unwrap();
    answered.unwrap();
}

/// Every decision in the wallet's book, in order.
fn decisions(owner: &Owner) -> Vec<Decided> {
    let decided = |event: Event| {
        if let Event::Owner { step: OwnerStep::Decided(decided) } = event {
            Some(*decided)
        } else if let Event::Claimed { payment, .. } = event {
            payment.decision.map(|it| *it)
        } else {
            None
        }
    };
    owner.journal().into_iter().filter_map(|record| decided(record.event)).collect()
}

/// P-01: the control: what the owner allows is bought, without anybody being asked.
#[tokio::test(flavor = "multi_thread")]
async fn honest_purchases_within_the_policy_all_succeed() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let policy = format!(
        "{}[[wallet.budgets]]\nmax = {{ usd = \"1\" }}\nper = \"day\"\n",
        asking_above("0.25")
    );
    let owner = Owner::under(&clock, &policy);
    for _ in 0..4 {
        owner.pay(&seller.server.url("/quote")).await.unwrap();
    }
    assert_eq!((owner.spent_and_held(), seller.earned()), ((100, 0), 100));
}

/// P-03: what was paid with is presented again, by whoever saw it, for the same and for something else: nobody pays
/// for it, and nothing more is sold.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_used_buys_nothing_more() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let owner = Owner::under(&clock, &asking_above("0.25"));
    owner.pay(&seller.server.url("/quote")).await.unwrap();
    let used = seller.server.credentials().remove(0);
    let http = farthing_wallet::Wallet::client().unwrap();
    for path in ["/quote", "/quote?other", "/report"] {
        for _ in 0..5 {
            let replay = http.get(seller.server.url(path)).header("authorization", &used);
            let status = replay.send().await.unwrap().status();
            assert!(status == 200 && path == "/quote" || status == 402, "{path}: {status}");
        }
    }
    // The answer that was sold may be read again; the handler did not run for it.
    assert_eq!((seller.served(), seller.earned(), owner.spent_and_held()), (1, 25, (25, 0)));
    owner.pay(&seller.server.url("/quote?other")).await.unwrap();
    assert_eq!((seller.served(), seller.earned()), (2, 50), "the control: an honest one");
}

/// P-07: of an allowance of 500, ten that ask for 100 each at once are allowed five, and nobody ever more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_allowance_is_spent_once() {
    let clock = TestClock::new();
    let text = "[wallet]\nmax = { usd = \"1\" }\n[[wallet.budgets]]\nmax = { usd = \"5\" }\nper = \"ever\"\n";
    let owner = Owner::under(&clock, text);
    let serial = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        let serial = serial.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let is_paid = seen.credential().is_some();
            if is_paid {
                answer(200, &[], "sold")
            } else {
                offer_to("inc", "100", &format!("c{serial}"))
            }
        }
    })
    .await;
    for round in 0..2 {
        let paying = (0..10).map(|at| {
            let (wallet, url) = (owner.wallet(), server.url(&format!("/{round}/{at}")));
            tokio::spawn(
                async move { wallet.pay(&get(&url), &PayOptions::default()).await.is_ok() },
            )
        });
        let mut paid = 0;
        for paying in paying.collect::<Vec<_>>() {
            paid += usize::from(paying.await.unwrap());
        }
        assert_eq!(paid, if round == 0 { 5 } else { 0 });
        clock.advance(Duration::from_hours(24 * 400));
    }
    assert_eq!((owner.spent_and_held(), server.credentials().len()), ((500, 0), 5));
}

/// A-12: the four controls, which are legitimate: read something, send something, where the seller's own users have
/// taken the usual field, and what costs nothing. All of them succeed, each time, beside every rule there is.
#[tokio::test(flavor = "multi_thread")]
async fn four_kinds_of_legitimate_purchases_all_succeed() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let text = "[wallet]\nmax = { usd = \"0.30\" }\nask_above = { usd = \"0.25\" }\nmethods = [\"GET\", \"POST\"]\n\
                recipients = [\"seller\"]\nrails = [\"prepaid\"]\nassets = [\"usd\"]\n\
                price_rise = { percent = 1 }\nrecipient_change = \"deny\"\n\
                [[wallet.budgets]]\nmax = { usd = \"7.50\" }\nper = \"day\"\n\
                [[wallet.budgets]]\npayments = 1\nper = \"1h\"\neach = \"request\"\n";
    let owner = Owner::under(&clock, text);
    let mut succeeded = 0;
    for round in 0..10 {
        for (method, path, body) in [
            ("GET", "/quote", ""),
            ("POST", "/quote", "hello"),
            ("GET", "/taken", ""),
            ("GET", "/about", ""),
        ] {
            let request = farthing_wallet::PayRequest {
                method: method.parse().unwrap(),
                body: body.into(),
                ..get(&seller.server.url(&format!("{path}?{round}")))
            };
            let outcome = owner.wallet().pay(&request, &PayOptions::default()).await.unwrap();
            assert_eq!(&outcome.body[..], b"the answer", "{method} {path}");
            succeeded += 1;
        }
    }
    assert_eq!((succeeded, seller.served()), (40, 40));
    assert_eq!(
        (owner.spent_and_held(), seller.earned()),
        ((750, 0), 750),
        "30 of them cost something"
    );
}

/// P-17: every decision is one record, from which it can be made again, to the same verdict.
#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_written_down_and_can_be_made_again() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let text = "[wallet]\nmax = { usd = \"0.30\" }\n[[wallet.budgets]]\nmax = { usd = \"0.40\" }\nper = \"day\"\n";
    let mut owner = Owner::under(&clock, text);
    let url = seller.server.url("/quote");
    owner.pay(&url).await.unwrap();
    owner.pay(&url).await.unwrap_err();
    let lower = text.replace("0.30", "0.20");
    owner.policy = Some(lower.clone());
    owner.pay(&url).await.unwrap_err();
    let decided = decisions(&owner);
    let said: Vec<_> = decided.iter().map(|it| (it.ruling, it.rules.join(" "))).collect();
    let expected = [
        (Ruling::Allowed, "wallet"),
        (Ruling::Denied, "wallet.budgets[0].max.usd"),
        (Ruling::Denied, "wallet.max.usd"),
    ];
    assert_eq!(said, expected.map(|(ruling, rules)| (ruling, rules.to_owned())));
    let policies: BTreeMap<String, Policy> = [text, &lower]
        .map(|text| Policy::parse(text, &[], &assets()).unwrap())
        .map(|policy| (policy.name().sha256, policy))
        .into();
    for decided in &decided {
        let facts: Facts = serde_json::from_str(&decided.facts).unwrap();
        assert_eq!(Decided::digest_of(&decided.facts), decided.digest);
        let usage: Usage = decided.draws.iter().map(|it| (it.key.clone(), it.used)).collect();
        let again = policies[&decided.policy_sha256].decide_with(&facts, &usage);
        let rules: Vec<_> = again.reasons.iter().map(|it| it.rule.clone()).collect();
        assert_eq!(
            (again.verdict == Verdict::Allow, &rules),
            (decided.ruling == Ruling::Allowed, &decided.rules)
        );
    }
    assert_eq!((owner.spent_and_held(), seller.earned()), ((25, 0), 25));
}

/// P-02, P-10: many at once and many small ones: a budget is not passed by a cent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_holds_however_many_ask_at_once() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let text = "[wallet]\nmax = { usd = \"1\" }\n[[wallet.budgets]]\nmax = { usd = \"1.10\" }\nper = \"24h\"\n";
    let owner = Owner::under(&clock, text);
    let paying = (0..12).map(|at| {
        let (wallet, url) = (owner.wallet(), seller.server.url(&format!("/quote?at={at}")));
        tokio::spawn(async move { wallet.pay(&get(&url), &PayOptions::default()).await.is_ok() })
    });
    let mut paid = 0;
    for paying in paying.collect::<Vec<_>>() {
        paid += i32::from(paying.await.unwrap());
    }
    assert_eq!((paid, owner.spent_and_held(), seller.earned()), (4, (100, 0), 100));
    // A day later what was spent does not count any more.
    clock.advance(Duration::from_hours(25));
    let late = owner.pay(&seller.server.url("/quote?late")).await;
    assert_eq!(late.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_parked_and_an_approval_lets_it_pass_once() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let owner = Owner::under(&clock, &asking_above("0.10"));
    let url = seller.server.url("/quote");
    let request = parked(&owner, &url).await;
    assert_eq!((request.asked.atoms.as_str(), request.asked.approvals), ("25", 1));
    assert_eq!(parked(&owner, &url).await.id, request.id, "asking again is the same request");
    assert_eq!(owner.spent_and_held(), (0, 0));
    approve(&owner, &clock, &request);
    // Other terms are another request: another address is not what was approved.
    assert_ne!(parked(&owner, &seller.server.url("/quote?other")).await.id, request.id);
    owner.pay(&url).await.unwrap();
    assert_eq!((owner.spent_and_held(), seller.earned()), ((25, 0), 25));
    assert_ne!(parked(&owner, &url).await.id, request.id, "an approval is used once");
    let evidence = decisions(&owner).into_iter().find_map(|it| it.approval).unwrap();
    assert_eq!((evidence.id, evidence.by), (request.id, vec!["agent".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_s_answer_is_no_and_a_no_stays() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let owner = Owner::under(&clock, &asking_above("0.10"));
    let url = seller.server.url("/quote");
    let first = parked(&owner, &url).await;
    clock.advance(Duration::from_hours(2));
    let late = owner.wallet().memory.answer(&first.id, "agent", true, clock.now()).unwrap();
    assert!(late.is_err(), "it has expired");
    let second = parked(&owner, &url).await;
    assert_ne!(first.id, second.id);
    owner.wallet().memory.answer(&second.id, "agent", false, clock.now()).unwrap().unwrap();
    clock.advance(Duration::from_hours(2));
    let error = owner.pay(&url).await.unwrap_err();
    assert!(error.to_string().contains("approvals.denied"), "{error}");
    assert_eq!((owner.spent_and_held(), seller.served()), ((0, 0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_is_not_enough_is_none() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let policy =
        format!("approvers = [\"alice\", \"bob\"]\n{}approvals = 2\n", asking_above("0.10"));
    let owner = Owner::under(&clock, &policy);
    for (path, second, is_paid) in [("/quote", "mallory", false), ("/quote?other", "bob", true)] {
        let url = seller.server.url(path);
        let request = parked(&owner, &url).await;
        for by in ["alice", second] {
            assert_eq!(parked(&owner, &url).await.id, request.id, "one is not enough");
            owner.wallet().memory.answer(&request.id, by, true, clock.now()).unwrap().unwrap();
        }
        assert_eq!(owner.pay(&url).await.is_ok(), is_paid, "{second}");
    }
    assert_eq!((owner.spent_and_held(), seller.earned()), ((25, 0), 25));
}

/// A freeze counts from the next signature on, in every process, and leaves nothing held.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_signs_nothing() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let owner = Owner::new(&clock);
    let url = seller.server.url("/quote");
    owner.pay(&url).await.unwrap();
    let (wallet, other) = (owner.wallet(), owner.wallet());
    other.memory.freeze(Some("owner"), true).unwrap();
    let error = wallet.pay(&get(&url), &PayOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("frozen"), "{error}");
    assert_eq!((owner.spent_and_held(), seller.earned()), ((25, 0), 25));
    // The book knows it as well, whoever shares it.
    other.memory.freeze(Some("owner"), false).unwrap();
    let step = |frozen| {
        let (agent, reason) = (None, "odd".to_owned());
        if frozen {
            OwnerStep::Frozen { agent, reason }
        } else {
            OwnerStep::Thawed { agent, reason }
        }
    };
    other.books.step(step(true)).await.unwrap();
    assert!(owner.pay(&url).await.unwrap_err().to_string().contains("frozen"));
    other.books.step(step(false)).await.unwrap();
    owner.pay(&url).await.unwrap();
    assert_eq!((owner.spent_and_held(), seller.earned()), ((50, 0), 50));
}

/// A 402 that offers one prepaid charge of `atoms` to `recipient`.
fn offer_to(recipient: &str, atoms: &str, id: &str) -> Answer {
    let request = format!(
        r#"{{"amount":"{atoms}","currency":"usd","methodDetails":{{"decimals":2}},"recipient":"{recipient}"}}"#
    );
    let request = farthing_mpp::base64url::encode(request);
    let expires = START.after(Duration::from_mins(5));
    let challenge = format!(
        "Payment id=\"{id}\", realm=\"127.0.0.1\", method=\"prepaid\", intent=\"charge\", \
         request=\"{request}\", expires=\"{expires}\""
    );
    answer(402, &[("www-authenticate", &challenge)], "")
}

/// A-02: a seller that names somebody else to be paid than before has to be approved anew.
#[tokio::test(flavor = "multi_thread")]
async fn another_recipient_is_parked() {
    let clock = TestClock::new();
    let owner = Owner::under(&clock, "[wallet]\nmax = { usd = \"1\" }\n");
    let script = vec![
        offer_to("inc", "25", "c1"),
        answer(200, &[], "sold"),
        offer_to("mallory", "25", "c2"),
        offer_to("inc", "25", "c3"),
        answer(200, &[], "sold"),
    ];
    let server = Server::script(script).await;
    owner.pay(&server.url("/")).await.unwrap();
    let request = parked(&owner, &server.url("/")).await;
    assert!(request.asked.because[0].starts_with("wallet.recipient_change"), "{request:?}");
    owner.pay(&server.url("/")).await.unwrap();
    assert_eq!((owner.spent_and_held(), server.credentials().len()), ((50, 0), 2));
}

/// P-13: one cent more with each call: the first price is what is compared with.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_creeps_up_is_parked_at_the_bound() {
    let clock = TestClock::new();
    let owner =
        Owner::under(&clock, "[wallet]\nmax = { usd = \"1\" }\nprice_rise = { percent = 5 }\n");
    let mut script = Vec::new();
    for atoms in 50..60 {
        script.extend([
            offer_to("inc", &atoms.to_string(), &format!("c{atoms}")),
            answer(200, &[], "sold"),
        ]);
    }
    let server = Server::script(script).await;
    for _ in 50..=52 {
        owner.pay(&server.url("/")).await.unwrap();
    }
    let request = parked(&owner, &server.url("/")).await;
    assert_eq!((request.asked.atoms.as_str(), owner.spent_and_held()), ("53", (153, 0)));
}

/// A-10, A-11: a seller that asks for the same again and again is paid as often as the owner says.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_is_bought_as_often_as_the_owner_says() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let text = "[wallet]\nmax = { usd = \"1\" }\n[[wallet.budgets]]\npayments = 2\nper = \"10m\"\neach = \"request\"\n";
    let owner = Owner::under(&clock, text);
    let url = seller.server.url("/quote");
    for _ in 0..2 {
        owner.pay(&url).await.unwrap();
    }
    let error = owner.pay(&url).await.unwrap_err();
    assert!(error.to_string().contains("wallet.budgets[0].payments"), "{error}");
    owner.pay(&seller.server.url("/quote?other")).await.unwrap();
    assert_eq!(seller.earned(), 75);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_the_policy_would_and_writes_nothing_down() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let owner = Owner::under(&clock, &asking_above("0.10"));
    let request = get(&seller.server.url("/quote"));
    let preview = owner.wallet().preview(&request, &PayOptions::default()).await.unwrap().unwrap();
    let said = preview.offers[0].objection.as_ref().unwrap().to_string();
    assert!(said.contains("to be approved") && said.contains("wallet.ask_above.usd"), "{said}");
    assert!(decisions(&owner).is_empty());
    assert!(owner.wallet().memory.approvals().unwrap().is_empty());
}
