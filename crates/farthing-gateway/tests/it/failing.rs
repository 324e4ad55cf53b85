//! What becomes of the money when the answer does not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::http::StatusCode;
use farthing_ledger::{Balance, Open};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::shop::{Answer, Shop, TOKEN, Upstream, config, serve};

/// One route, as `terms` have it.
fn route(terms: &str) -> String {
    format!(
        r#"
[[routes]]
name = "quote"
methods = ["GET", "POST"]
path = "/quote"
upstream = "up"
price = "0.25 usd"
{terms}
"#
    )
}

/// A shop whose upstream answers with a status that the test sets.
async fn shop(terms: &str) -> (Shop, Arc<AtomicU16>) {
    shop_with("", terms).await
}

async fn shop_with(more: &str, terms: &str) -> (Shop, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let next = Arc::clone(&status);
    let router = axum::Router::new().fallback(move || async move {
        (StatusCode::from_u16(next.load(Ordering::SeqCst)).unwrap(), "the answer")
    });
    let upstream = Upstream::at(serve(router).await);
    let routes = format!("{}{more}", route(terms));
    (Shop::open_before(upstream, "", &routes).await, status)
}

impl Shop {
    fn account(&self, name: &str) -> Balance {
        self.books().accounts.get(&name.parse().unwrap()).copied().unwrap_or_default()
    }

    /// What the agent has left, and what the seller has, in atoms.
    fn money(&self) -> (u128, u128) {
        let agent = self.account("prepaid/agent/usd").available();
        let seller = self.account("payable/seller/usd");
        (agent, seller.credits_posted - seller.debits_posted)
    }

    /// Waits until the money lies as `wanted`; recovery looks every second.
    async fn until(&self, wanted: (u128, u128)) {
        while self.money() != wanted {
            tokio::task::yield_now().await;
        }
    }

    async fn ask(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let url = format!("http://{}/v1/{path}", self.admin);
        let mut request = self.http.post(url).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.body(body.to_string()).send().await.unwrap();
        Answer {
            status: answer.status(),
            fields: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// What hangs.
    async fn open_payments(&self) -> Vec<Open> {
        let work = self.gateway.store().port().work().await.unwrap();
        work.payments.iter().map(|it| it.open).collect()
    }
}

fn remedy(answer: &Answer) -> &str {
    answer.fields.get("farthing-remedy").map_or("", |it| it.to_str().unwrap())
}

/// R-12, F-05: where the money is held for the upstream, a failure costs nothing and sells nothing: the
/// hold is given up, and the credential with it.
#[tokio::test(flavor = "multi_thread")]
async fn money_is_held_until_the_upstream_has_succeeded() {
    let (shop, status) = shop("settle = \"after\"").await;
    for failure in [500, 503, 404] {
        status.store(failure, Ordering::SeqCst);
        let credential = shop.buy("GET /quote", "").await;
        let failed = shop.present("GET /quote", &credential, "").await;
        assert_eq!((failed.status.as_u16(), remedy(&failed)), (failure, "released"));
        assert!(!failed.fields.contains_key("payment-receipt"));
        assert_eq!(shop.money(), (1_000, 0));
        status.store(200, Ordering::SeqCst);
        let again = shop.present("GET /quote", &credential, "").await;
        assert_eq!(again.status, 402, "the hold was given up for good");
        assert_eq!(again.invitations().len(), 1, "and another payment is asked for");
    }
    let credential = shop.buy("GET /quote", "").await;
    let served = shop.present("GET /quote", &credential, "").await;
    assert_eq!((served.status.as_u16(), served.body.as_str()), (200, "the answer"));
    assert!(served.fields.contains_key("payment-receipt"));
    assert_eq!(shop.money(), (975, 25));
    let again = shop.present("GET /quote", &credential, "").await;
    assert_eq!(
        (again.status.as_u16(), &again.fields["farthing-replayed"]),
        (200, &"true".parse().unwrap())
    );
    let books = shop.books();
    assert_eq!((books.voided, books.delivered, books.pending), (3, 1, 0));
}

/// What is held for a handler cannot be spent elsewhere meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_not_spent_twice() {
    let (began, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let router = {
        let (began, go) = (Arc::clone(&began), Arc::clone(&go));
        axum::Router::new().fallback(move || async move {
            began.add_permits(1);
            go.acquire().await.unwrap().forget();
            "the answer"
        })
    };
    let upstream = Upstream::at(serve(router).await);
    let dear = route("settle = \"after\"").replace("0.25 usd", "6.00 usd");
    let shop = Arc::new(Shop::open_before(upstream, "", &dear).await);
    let first = shop.buy("GET /quote", "").await;
    let second = shop.buy("GET /quote", "").await;
    let running = {
        let (shop, first) = (Arc::clone(&shop), first.clone());
        tokio::spawn(async move { shop.present("GET /quote", &first, "").await })
    };
    began.acquire().await.unwrap().forget();
    assert_eq!(shop.open_payments().await, [], "somebody is at it");
    let refused = shop.present("GET /quote", &second, "").await;
    assert_eq!(refused.status, 402);
    assert!(refused.body.contains("payment-insufficient"), "{}", refused.body);
    go.add_permits(1);
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(shop.money(), (400, 600));
}

/// R-12: money that was taken for an answer that failed goes back by itself, once, and the client is told
/// so; nothing is owed for it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_answer_is_refunded() {
    for way in ["refund", "credit"] {
        let (shop, status) = shop(&format!("on_failure = \"{way}\"")).await;
        status.store(500, Ordering::SeqCst);
        let credential = shop.buy("GET /quote", "").await;
        let failed = shop.present("GET /quote", &credential, "").await;
        assert_eq!((failed.status.as_u16(), remedy(&failed)), (500, way));
        shop.until((1_000, 0)).await;
        status.store(200, Ordering::SeqCst);
        let again = shop.present("GET /quote", &credential, "").await;
        assert_eq!(again.status, 402);
        assert!(again.body.contains("given back"), "{}", again.body);
        assert_eq!(shop.pay("GET /quote", "").await.status, 200);
        assert_eq!(shop.money(), (975, 25));
        assert_eq!(shop.open_payments().await, []);
        let metrics = shop.admin("/metrics").await.body;
        assert!(metrics.contains("farthing_recovered_total{outcome=\"refunded\"} 1"), "{metrics}");
    }
}

/// R-12: the usual remedy is the answer itself, by the same credential, for as long as it is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_answer_is_given_after_all() {
    let (shop, status) = shop("").await;
    status.store(503, Ordering::SeqCst);
    let credential = shop.buy("GET /quote", "").await;
    let failed = shop.present("GET /quote", &credential, "").await;
    assert_eq!((failed.status.as_u16(), remedy(&failed)), (503, "redeliver"));
    status.store(200, Ordering::SeqCst);
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 200);
    assert_eq!(shop.money(), (975, 25));
}

/// Where a person is to decide, nothing happens by itself, and the desk gives back what it is told to:
/// once, no more than was paid, and no more than the limits allow.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_back() {
    let limits = "\n[refunds]\neach_max = \"0.20 usd\"\nper_day_max = \"0.30 usd\"\n";
    let (shop, status) = shop_with(limits, "on_failure = \"review\"").await;
    status.store(500, Ordering::SeqCst);
    let failed = shop.pay("GET /quote", "").await;
    assert_eq!((failed.status.as_u16(), remedy(&failed)), (500, "review"));
    let work = shop.gateway.store().port().work().await.unwrap();
    let trace = work.payments[0].payment.trace.to_string();
    let refund = |amount: &str, reference: &str| json!({ "payment": trace, "amount": amount, "reference": reference, "reason": "a fault" });
    let order = refund("0.20 usd", "ticket 1");
    assert_eq!(shop.ask("refunds", None, &order).await.status, 401);
    let other = json!({ "payment": "019aa56d-6000-7981-892d-914fbaa91cbf", "reference": "a", "reason": "b" });
    assert_eq!(shop.ask("refunds", Some(TOKEN), &other).await.status, 404);
    for (amount, reference, status, why) in [
        ("0.255 usd", "odd", 422, "decimals"),
        ("0.20 eur", "odd", 422, "no asset called eur"),
        ("0 usd", "none", 409, "no more can be given back"),
        ("0.26 usd", "much", 409, "no more can be given back"),
        ("0.21 usd", "each", 409, "limits"),
    ] {
        let refused = shop.ask("refunds", Some(TOKEN), &refund(amount, reference)).await;
        assert_eq!(refused.status, status, "{}", refused.body);
        assert!(refused.body.contains(why), "{}", refused.body);
    }
    assert_eq!(shop.money(), (975, 25));
    for _ in 0..2 {
        let made = shop.ask("refunds", Some(TOKEN), &order).await;
        assert_eq!(made.status, 200, "{}", made.body);
        assert_eq!(made.json()["amount"], "0.20 usd");
        assert_eq!(shop.money(), (995, 5), "the same reference is the same refund");
    }
    let taken = shop.ask("refunds", Some(TOKEN), &refund("0.05 usd", "ticket 1")).await;
    assert_eq!(taken.status, 409, "{}", taken.body);
    let rest = json!({ "payment": trace, "reference": "ticket 2", "reason": "the rest" });
    assert_eq!(shop.ask("refunds", Some(TOKEN), &rest).await.status, 200);
    assert_eq!(shop.money(), (1_000, 0));
    assert_eq!(shop.open_payments().await, [], "nothing is owed any more");
    let day = shop.ask("refunds", Some(TOKEN), &refund("0.20 usd", "ticket 3")).await;
    assert_eq!(day.status, 409, "{}", day.body);
}

/// What was earned is held, released and paid out once; what was given back is not paid out.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_earned_is_paid_out_once() {
    let (shop, _) = shop("").await;
    let served = shop.pay("GET /quote", "").await;
    let trace = served.fields["farthing-trace"].to_str().unwrap().to_owned();
    let step = |step: &str, why: &str| json!({ "payment": trace, "step": step, "why": why });
    let ask = async |body: Value| {
        let answer = shop.ask("payouts", Some(TOKEN), &body).await;
        (answer.status.as_u16(), answer.body)
    };
    let new = |new: bool| (200, json!({ "new": new }).to_string());
    assert_eq!(ask(step("hold", "looks odd")).await, new(true));
    assert_eq!(ask(step("paid", "wire 1")).await.0, 409);
    assert_eq!(ask(step("release", "is fine")).await, new(true));
    let part =
        json!({ "payment": trace, "amount": "0.05 usd", "reference": "r", "reason": "late" });
    assert_eq!(shop.ask("refunds", Some(TOKEN), &part).await.status, 200);
    assert_eq!(ask(step("paid", "wire 1")).await, new(true));
    assert_eq!(ask(step("paid", "wire 1")).await, new(false));
    assert_eq!(shop.account("paid-out/seller/usd").credits_posted, 20);
    assert_eq!(shop.money(), (980, 0));
    let more = json!({ "payment": trace, "reference": "r2", "reason": "late" });
    let more = shop.ask("refunds", Some(TOKEN), &more).await;
    assert_eq!(more.status, 409, "the seller has it already: {}", more.body);
    // Nothing was disowned, so there is nothing to look into.
    let note = json!({ "payment": trace, "note": "?" });
    assert_eq!(shop.ask("payments/resolve", Some(TOKEN), &note).await.status, 409);
}

/// Terms and limits that make no sense are said where they stand.
#[test]
fn odd_terms_are_refused() {
    let text = |terms: &str, more: &str| {
        let folder = std::path::Path::new("/nowhere");
        let routes = format!("{}{more}", route(terms));
        crate::shop::config_text(folder, ([127, 0, 0, 1], 9).into(), "", &routes)
    };
    config(&text("settle = \"after\"\non_failure = \"credit\"", ""));
    let environment = |_: &str| Some(TOKEN.to_owned());
    for (terms, more, why) in [
        ("settle = \"later\"", "", "settle is \"before\" delivery, or \"after\""),
        ("on_failure = \"pray\"", "", "on_failure is \"redeliver\""),
        ("", "\n[refunds]\neach_max = \"1 eur\"\nper_day_max = \"1 usd\"", "no asset called eur"),
        ("", "\n[refunds]\neach_max = \"1 usd\"\nper_day_max = []", "has a limit"),
    ] {
        let text = text(terms, more);
        let error = farthing_gateway::Config::parse(&text, std::path::Path::new("."), &environment);
        let error = error.err().unwrap();
        assert!(error.to_string().contains(why), "{error}");
    }
}
