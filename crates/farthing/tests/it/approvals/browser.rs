//! The owner's page in a real browser: Chromium from Debian, driven through its own driver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource, MouseActions, PointerAction};
use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;

use super::{POLICY, Scene, id};
use crate::daemon::payments;
use crate::world::serve;

/// How often a page is looked at before it is given up, and how soon again.
const LOOKS: u32 = 600;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A browser, and the driver that it hangs on.
struct Browser {
    client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    async fn open() -> Self {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = driver.expect("chromedriver is installed; `./x test` installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // Whoever does not read what it says keeps it from going on.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            &folder,
        ];
        let wanted = json!({ "goog:chromeOptions": { "args": args } });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        Self { client, driver, _profile: profile }
    }

    async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    async fn find(&self, css: &str) -> Element {
        self.client.wait().for_element(Locator::Css(css)).await.unwrap()
    }

    /// Waits until an element says this: a page may change between finding it and asking it.
    async fn reads(&self, css: &str, want: &str) {
        let mut last = None;
        for _ in 0..LOOKS {
            let text = self.find(css).await.text().await;
            if text.as_ref().is_ok_and(|text| text == want) {
                return;
            }
            last = Some(text);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        panic!("{css} is to say {want:?}: {last:?}");
    }

    async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    /// Opens the owner's page by its link.
    async fn enter(&self, scene: &Scene) {
        self.go(&scene.link()).await;
        self.click("#open").await;
        self.find("h2").await;
    }

    async fn url(&self) -> String {
        self.client.current_url().await.unwrap().to_string()
    }

    async fn close(mut self) {
        self.client.clone().close().await.unwrap();
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closed already, unless the test has failed.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The buttons of one request.
fn button(id: &str, which: &str) -> String {
    format!("#{id} button.{which}")
}

/// A press on Approve lets exactly this payment pass, once; a press on Deny lets nothing pass.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_approves_one_and_denies_another() {
    let scene = Scene::new("", POLICY).await;
    let (one, two) = (id(&scene.park(1)), id(&scene.park(2)));
    let browser = Browser::open().await;
    let link = scene.link();
    browser.go(&link).await;
    browser.click("#open").await;
    let card = browser.find(&format!("#{one}")).await.text().await.unwrap();
    for text in [
        "0.25 usd",
        "seller",
        "GET /quote",
        "careful",
        "what costs more than 0.10 usd is asked for",
    ] {
        assert!(card.contains(text), "{text}: {card}");
    }
    // It is styled, by its own style sheet and no other.
    let width = browser.find(&format!("#{one}")).await.css_value("border-top-width").await.unwrap();
    assert_eq!(width, "1px");
    browser.click(&button(&one, "approve")).await;
    browser.reads("#state", "Approved").await;
    assert!(scene.pays(1));
    browser.client.refresh().await.unwrap();
    browser.reads("#state", "Approved, and used").await;
    browser.click("p > a").await;
    browser.click(&button(&two, "deny")).await;
    browser.reads("#state", "Denied").await;
    assert!(!scene.pays(2));
    scene.park(1);
    // The link was for once, and whoever has no cookie is outside.
    let desk = browser.url().await;
    browser.go(&link).await;
    browser.reads("h1", "You are not logged in, or no longer").await;
    browser.go(&desk).await;
    browser.reads("#state", "Denied").await;
    browser.client.delete_all_cookies().await.unwrap();
    browser.go(&desk).await;
    browser.reads("h1", "You are not logged in, or no longer").await;
    browser.close().await;
    assert_eq!(payments(&scene.world), (1, 1));
}

/// A form that was open for too long says so, and nothing passes.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_meanwhile_is_not_approved() {
    let scene = Scene::new("lasts_s = 5", POLICY).await;
    let browser = Browser::open().await;
    browser.enter(&scene).await;
    let asked = id(&scene.park(1));
    browser.client.refresh().await.unwrap();
    browser.find(&button(&asked, "approve")).await;
    scene.until(&asked, "expired").await;
    browser.click(&button(&asked, "approve")).await;
    browser.reads("h1", "This request has expired").await;
    browser.click("p > a").await;
    browser.reads("#state", "This request has expired").await;
    browser.close().await;
    assert_ne!(id(&scene.park(1)), asked, "it waits anew");
    assert_eq!(payments(&scene.world), (0, 0));
}

/// Two quick presses are one approval, and one payment.
#[tokio::test(flavor = "multi_thread")]
async fn a_double_click_approves_once() {
    let scene = Scene::new("", POLICY).await;
    let asked = id(&scene.park(1));
    let browser = Browser::open().await;
    browser.enter(&scene).await;
    let approve = browser.find(&button(&asked, "approve")).await;
    let press = || PointerAction::Down { button: fantoccini::actions::MOUSE_BUTTON_LEFT };
    let release = || PointerAction::Up { button: fantoccini::actions::MOUSE_BUTTON_LEFT };
    let to = PointerAction::MoveToElement { element: approve, duration: None, x: 0.0, y: 0.0 };
    let mouse = MouseActions::new("mouse".to_owned()).then(to);
    let mouse = mouse.then(press()).then(release()).then(press()).then(release());
    browser.client.perform_actions(mouse).await.unwrap();
    // Whichever of the two the browser shows, it says how it stands.
    scene.until(&asked, "approved").await;
    let said =
        browser.client.wait().for_element(Locator::Css("h1")).await.unwrap().text().await.unwrap();
    assert!(
        ["Approved", "It was answered already: it is approved", "What waits for approval"]
            .contains(&said.as_str()),
        "{said}"
    );
    browser.close().await;
    assert_eq!(scene.state(&asked)["by"], json!(["agent"]));
    assert!(scene.pays(1));
    scene.park(1);
    assert_eq!(payments(&scene.world), (1, 1));
}

/// A tab that was left open says that somebody has answered, and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_tab_answers_nothing() {
    let scene = Scene::new("", POLICY).await;
    let asked = id(&scene.park(1));
    let browser = Browser::open().await;
    browser.enter(&scene).await;
    let (desk, stale) = (browser.url().await, browser.client.window().await.unwrap());
    let fresh = browser.client.new_window(true).await.unwrap().handle;
    browser.client.switch_to_window(fresh).await.unwrap();
    browser.go(&desk).await;
    browser.click(&button(&asked, "approve")).await;
    browser.reads("#state", "Approved").await;
    browser.client.switch_to_window(stale).await.unwrap();
    browser.click(&button(&asked, "approve")).await;
    browser.reads("h1", "It was answered already: it is approved").await;
    assert!(scene.pays(1));
    browser.client.back().await.unwrap();
    browser.go(&desk).await;
    browser.reads("#nothing", "Nothing waits.").await;
    browser.close().await;
    assert_eq!(scene.state(&asked)["by"], json!(["agent"]));
    scene.park(1);
    assert_eq!(payments(&scene.world), (1, 1));
}

/// A page of another origin gets neither the cookie nor an answer, whatever port of this machine it is at, and
/// though it knew where the owner's page is.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_answers_nothing() {
    let scene = Scene::new("", POLICY).await;
    let asked = id(&scene.park(1));
    let browser = Browser::open().await;
    browser.enter(&scene).await;
    let desk = browser.url().await;
    let seal = browser.find("input[name=seal]").await.attr("value").await.unwrap().unwrap();
    // The worst case: it knows the path and the form, and lacks the cookie and the origin.
    let (tell, told) = tokio::sync::watch::channel(String::new());
    let form = format!(
        "<form method=post action='{desk}/approvals/{asked}'><input name=seal value='{seal}'>\
         <button id=go name=answer value=approve>go</button></form>"
    );
    let router = axum::Router::new().fallback(async move |fields: axum::http::HeaderMap| {
        let cookie = fields.get("cookie").map(|it| it.to_str().unwrap().to_owned());
        tell.send_replace(cookie.unwrap_or_default());
        axum::response::Html(form)
    });
    let evil = serve(router).await;
    browser.go(&format!("http://{evil}/")).await;
    assert_eq!(*told.borrow(), "", "no cookie goes to another port");
    browser.click("#go").await;
    browser.reads("h1", "This page is for the wallet's owner").await;
    // Another name for this machine is another host, as whoever rebinds a name would have it.
    browser.go(&desk.replace("127.0.0.1", "localhost")).await;
    browser.reads("h1", "This page is for the wallet's owner").await;
    assert_eq!(scene.state(&asked)["state"], "waiting");
    // The control: the same form, of the page itself.
    browser.go(&desk).await;
    browser.click(&button(&asked, "approve")).await;
    browser.reads("#state", "Approved").await;
    browser.close().await;
    assert!(scene.pays(1));
    assert_eq!(payments(&scene.world), (1, 1));
}
