//! A folder with a gateway's and a wallet's files, and the processes that work in it.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

/// A secret for development.
pub(crate) const SECRET: &str = "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf";

pub(crate) const TOKEN: &str = "operators-only-operators-only-32";

/// A development secret of a webhook.
pub(crate) const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const PASSPHRASE: &str = "correct horse";

/// The secret half of a development key.
pub(crate) const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

pub(crate) const WALLET: &str = r#"key = "agent"

[assets.usd]
decimals = 2
per_payment_max = "0.50"
total_max = "3.00"
"#;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, why: &str) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(why), "{}", self.err);
        self.err
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

pub(crate) struct World {
    folder: TempDir,
}

impl World {
    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A wallet with a key, capped, and a gateway's configuration in front of `upstream`, with
    /// 5.00 usd in the wallet's account.
    pub(crate) fn set_up(upstream: SocketAddr) -> Self {
        let world = Self::empty();
        world.farthing_with(&["wallet", "import", "agent"], KEY).ok();
        world.write("home/wallet.toml", WALLET);
        world.write("farthing.toml", &gateway_toml(upstream, ""));
        let did = world.did();
        world.farthing(&["prepaid", "attach", &did, "agent-inc"]).ok();
        let fund = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "first"];
        world.farthing(&fund).ok();
        world
    }

    /// The wallet's account.
    pub(crate) fn did(&self) -> String {
        let keys = self.farthing(&["wallet", "list", "--json"]).json();
        keys[0]["account"].as_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("FARTHING_HOME", self.path("home"))
            .env("FARTHING_PASSPHRASE", PASSPHRASE)
            .env("SECRET", SECRET)
            .env("TOKEN", TOKEN)
            .env("DATABASE", std::fs::read_to_string(self.path("database")).unwrap_or_default())
            .env("HOOK", HOOK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn farthing(&self, args: &[&str]) -> Ended {
        self.farthing_with(args, "")
    }

    pub(crate) fn farthing_with(&self, args: &[&str], input: &str) -> Ended {
        run(self.command(args), input)
    }

    /// Starts the gateway and waits until it listens.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, args: &[&str]) -> Serving {
        let mut all = vec!["serve"];
        all.extend(args);
        Self::serve_by(self.command(&all))
    }

    /// Starts the wallet's daemon and waits until it listens.
    pub(crate) fn serve_wallet(&self, args: &[&str]) -> Serving {
        let mut all = vec!["wallet", "serve"];
        all.extend(args);
        Self::serve_by(self.command(&all))
    }

    /// Starts the gateway where no file may grow beyond `kib`: a write beyond it is an error.
    pub(crate) fn serve_within(&self, kib: u64) -> Serving {
        let plain = self.command(&[]);
        let mut limited = Command::new("sh");
        // The signal that comes with the error is for those who do not look at errors.
        let line = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" serve", kib * 2);
        limited.args(["-c", &line]).arg(plain.get_program());
        limited.current_dir(self.folder.path()).env_clear();
        limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::serve_by(limited)
    }

    pub(crate) fn serve_by(mut command: Command) -> Serving {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                lines.push(line.unwrap());
            }
            lines.end();
        });
        let stdin = child.stdin.take();
        let mut serving = Serving {
            child,
            log,
            reader: Some(reader),
            _stdin: stdin,
            url: String::new(),
            admin: None,
            proxy: None,
            page: None,
        };
        let line = serving.log.wait_for("\"message\":\"listening\"");
        let line: Value = serde_json::from_str(&line).unwrap();
        let gateway = line["address"].as_str().map(|address| format!("http://{address}"));
        serving.url = gateway.unwrap_or_else(|| line["api"].as_str().unwrap().to_owned());
        serving.page = line["page"].as_str().map(str::to_owned);
        serving.proxy = line["proxy"].as_str().map(str::to_owned);
        serving.admin = line["admin"].as_str().map(str::to_owned);
        serving
    }

    /// Fetches a URL with `farthing pay`.
    pub(crate) fn pay(&self, args: &[&str]) -> Ended {
        let mut all = vec!["pay"];
        all.extend(args);
        self.farthing(&all)
    }
}

pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A log, as it is written.
#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: std::sync::Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().0.push(line);
        self.grown.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().1 = true;
        self.grown.notify_all();
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!lines.1, "the log ends without {text:?}: {:#?}", lines.0);
            lines = self.grown.wait(lines).unwrap();
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().0.join("\n")
    }
}

/// A running gateway, or a wallet's daemon.
pub(crate) struct Serving {
    child: Child,
    pub(crate) log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    _stdin: Option<ChildStdin>,
    pub(crate) url: String,
    pub(crate) admin: Option<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) page: Option<String>,
}

impl Serving {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Stops it in good order, and gives its exit code and its whole log.
    pub(crate) fn stop(mut self) -> (i32, String) {
        self.signal("-TERM");
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.reader.take().unwrap().join().unwrap();
        (code, self.log.text())
    }

    /// Waits until it has ended by itself, and gives its exit code and its whole log.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.reader.take().unwrap().join().unwrap();
        (code, self.log.text())
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Stopped already, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with two prices and something free, with `more` in `[gateway]`.
pub(crate) fn gateway_toml(upstream: SocketAddr, more: &str) -> String {
    format!(
        r#"[gateway]
listen = "127.0.0.1:0"
realm = "127.0.0.1"
secrets = ["env:SECRET"]
{more}

[store]
sqlite = "book.db"

[assets.usd]
decimals = 2

[rails.prepaid]

[seller]
name = "seller"

[upstreams.up]
url = "http://{upstream}"

[[routes]]
name = "quote"
methods = ["GET", "POST"]
path = "/quote"
upstream = "up"
price = "0.25 usd"

[[routes]]
name = "report"
methods = ["GET"]
path = "/report"
upstream = "up"
price = "0.75 usd"

[[routes]]
name = "free"
methods = ["GET"]
path = "/free"
upstream = "up"
free = true
"#
    )
}

/// A server that says what it was asked, and a folder for it.
pub(crate) async fn echo() -> SocketAddr {
    let router = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let agent = head.headers.get("x-agent").map(|it| it.to_str().unwrap().to_owned());
        let kind = head.headers.get("content-type").map(|it| it.to_str().unwrap().to_owned());
        format!(
            "{} {} {} {} {}",
            head.method,
            head.uri,
            kind.unwrap_or_default(),
            agent.unwrap_or_default(),
            String::from_utf8_lossy(&body)
        )
    });
    serve(router).await
}

/// Serves a router on a free port.
/// A service that begins and does not end before it is told to.
pub(crate) struct Hanging {
    /// One for each request that has begun.
    pub(crate) started: tokio::sync::Semaphore,
    /// Closed, it lets all go on.
    pub(crate) release: tokio::sync::Semaphore,
}

pub(crate) async fn hanging() -> (SocketAddr, Arc<Hanging>) {
    let semaphore = || tokio::sync::Semaphore::new(0);
    let hanging = Arc::new(Hanging { started: semaphore(), release: semaphore() });
    let state = Arc::clone(&hanging);
    let router = axum::Router::new().fallback(move || {
        let state = Arc::clone(&state);
        async move {
            state.started.add_permits(1);
            // Closed is what lets it go on.
            let _ = state.release.acquire().await;
            "at last"
        }
    });
    (serve(router).await, hanging)
}

pub(crate) async fn serve(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address where nobody listens, now or later: it is taken.
pub(crate) fn nowhere() -> SocketAddr {
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    std::mem::forget(taken);
    address
}

/// An address where somebody can listen: nobody here is told the same one twice, and no connection that the
/// system numbers gets it meanwhile, as those are above 32,768.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let place = process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], 12_000 + place));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether any file below `folder` contains `needle`.
pub(crate) fn any_file_contains(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return any_file_contains(&path, needle);
        }
        std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}
