//! `farthing wallet status` and its dashboard: the same wallet, through a daemon and through its files.

use serde_json::{Value, json};

use crate::daemon::{Scene, token};
use crate::world::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_the_same_through_the_daemon_and_the_files() {
    let scene = Scene::new(&[]).await;
    let world = &scene.world;
    let empty = world.farthing(&["wallet", "status", "--json"]).json();
    assert_eq!(empty["payments"], json!([]));
    assert_eq!(
        empty["budgets"][0]["usedText"], "0.00 usd",
        "one that nobody has drawn from stands: {empty}"
    );
    let (bot, careful) = (token(world, "bot"), token(world, "careful"));
    let pay = |token: &str, path: &str| {
        let mut command = world.command(&["pay", &scene.shop.url(path)]);
        command.env("FARTHING_WALLET", scene.socket()).env("FARTHING_AGENT_TOKEN", token);
        run(command, "")
    };
    pay(&bot, "/quote").ok();
    pay(&careful, "/quote").fails(9, "waits");
    world.farthing(&["wallet", "freeze", "--agent", "other"]).ok();
    let owner = world.farthing(&["wallet", "token"]).ok();
    let status = |variable: &str, token: &str| {
        let mut command = world.command(&["wallet", "status", "--json"]);
        command.env(variable, token.trim());
        run(command, "").json()
    };
    let (daemons, files) = (
        status("FARTHING_OWNER_TOKEN", &owner),
        world.farthing(&["wallet", "status", "--json"]).json(),
    );
    assert_eq!(daemons, files);
    let budget = &files["budgets"][0];
    assert_eq!(
        (&budget["level"], &budget["used"], &budget["usedText"], &budget["usedPermille"]),
        (&json!("agent bot"), &json!("25"), &json!("0.25 usd"), &json!(334))
    );
    assert!(budget["resetsAt"].as_str().unwrap().ends_with("T00:00:00Z"), "{budget}");
    assert_eq!(
        (&files["frozenAgents"], &files["caps"][0]["used"]),
        (&json!(["other"]), &json!("0.25 usd"))
    );
    assert_eq!(files["approvals"][0]["agent"], "careful");
    assert_eq!(files["payments"][0]["state"], "paid");
    // An agent sees what is its own.
    let own = status("FARTHING_AGENT_TOKEN", &careful);
    assert_eq!(
        (&own["agent"], &own["payments"], &own["frozenAgents"]),
        (&json!("careful"), &json!([]), &json!([]))
    );
    assert_eq!(own["approvals"].as_array().unwrap().len(), 1);
    let bots = status("FARTHING_AGENT_TOKEN", &bot);
    assert_eq!((&bots["approvals"], &bots["budgets"][0]["used"]), (&json!([]), &json!("25")));
    // The daemon's memory of the book goes on with what other processes write into it.
    world.farthing(&["pay", &scene.shop.url("/quote")]).ok();
    let both = status("FARTHING_OWNER_TOKEN", &owner);
    let count = |status: &Value| status["payments"].as_array().unwrap().len();
    assert_eq!(
        (count(&daemons), count(&both), &both["caps"][0]["used"]),
        (1, 2, &json!("0.50 usd"))
    );
    let text = world.farthing(&["wallet", "status"]).ok();
    for line in [
        "frozen: other",
        "0.50 usd of 3.00 usd in all",
        "0.25 usd of 0.75 usd  agent bot  anew ",
        "waits: apr_",
        "paid",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// The dashboard in a real terminal: `script` gives it one, and `q` ends it.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_runs_in_a_terminal() {
    let scene = Scene::new(&[]).await;
    scene.world.farthing(&["pay", &scene.shop.url("/quote")]).ok();
    let ours = scene.world.command(&["wallet", "dashboard"]);
    let mut script = std::process::Command::new("script");
    let line =
        format!("stty cols 120 rows 30; exec {} wallet dashboard", ours.get_program().display());
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
    script.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = script.spawn().unwrap();
    // It is drawn before the key is pressed.
    let mut out = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("q ends") {
        let mut some = [0; 4096];
        let read = std::io::Read::read(&mut out, &mut some).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&some[..read]);
    }
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"q").unwrap();
    std::io::Read::read_to_end(&mut out, &mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    let shown = cells(&String::from_utf8_lossy(&shown));
    assert!(shown.contains("0.25usdof3.00usd") && shown.contains("GEThttp://"), "{shown}");
}

/// What is drawn, without where and in which colour, and without spaces, which are moves of the cursor.
fn cells(drawn: &str) -> String {
    let mut cells = String::new();
    let mut parts = drawn.split('\u{1b}');
    cells.push_str(parts.next().unwrap());
    for part in parts {
        let end = part.char_indices().skip(1).find(|(_, it)| ('@'..='~').contains(it));
        cells.push_str(end.map_or("", |(at, it)| &part[at + it.len_utf8()..]));
    }
    cells.retain(|it| !it.is_whitespace());
    cells
}
