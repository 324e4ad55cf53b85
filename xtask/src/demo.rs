//! `./x demo --tempo`: the gateway paid on a chain of its own, by our wallet and by a foreign one.
//!
//! The chain is anvil in its Tempo mode, the foreign wallet is the official `mppx`, both from npm. All
//! keys are the development keys that every such chain knows.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::setup::Setup;

/// Development keys of every local chain: the buyers'. Worth nothing anywhere else.
const BUYER: &str = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

/// See [`BUYER`].
const FOREIGN_BUYER: &str = "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";

const GATEWAY: &str = r#"[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[rails.tempo]
chain_id = 42431
nodes = ["NODE"]
recipient = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
tokens = { usd = "0x20c0000000000000000000000000000000000000" }

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast/{city}"
upstream = "api"
price = "0.01 usd"
"#;

const WALLET: &str = r#"key = "agent"

[assets.usd]
decimals = 6
per_payment_max = "0.05"
total_max = "1"

[tempo]
chain_id = 42431
nodes = ["NODE"]
tokens = { usd = "0x20c0000000000000000000000000000000000000" }
"#;

const UPSTREAM: &str = "require('node:http')\
    .createServer((_, answer) => answer.end('sunny, 24 degrees\\n'))\
    .listen(0, '127.0.0.1', function () { console.log('http://127.0.0.1:' + this.address().port) })";

/// A process that ends with the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that is gone already needs no ending.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn boxed(stream: impl std::io::Read + Send + 'static) -> Box<dyn std::io::Read + Send> {
    Box::new(stream)
}

/// Where a process says that it is ready.
#[derive(Clone, Copy)]
enum Stream {
    Output,
    Error,
}

/// Starts a process and reads its output up to the line in which `find` finds something.
fn start(
    command: &mut Command,
    from: Stream,
    find: impl Fn(&str) -> Option<String>,
) -> Result<(Running, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let command = match from {
        Stream::Output => command.stdout(Stdio::piped()),
        Stream::Error => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let output = child.stdout.take().map(boxed);
    let output = output.or(child.stderr.take().map(boxed)).context("a process without output")?;
    let running = Running(child);
    let mut lines = BufReader::new(output).lines();
    let found = lines.by_ref().map_while(Result::ok).find_map(|line| find(&line));
    let found = found.with_context(|| format!("{command:?} does not start"))?;
    // Whoever stops listening would stop the one who speaks.
    std::thread::spawn(move || lines.for_each(drop));
    Ok((running, found))
}

pub(crate) fn tempo(shell: &Shell) -> Result<()> {
    let peers = Setup::new(shell)?.npm()?;
    cmd!(shell, "cargo build --quiet --package farthing").run()?;
    let farthing = crate::target().join("debug/farthing");
    let folder = shell.create_temp_dir()?;
    let _there = shell.push_dir(folder.path());

    title("A Tempo chain of our own, and an API");
    let mut anvil =
        Command::new(peers.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"));
    anvil.args(["--network", "tempo", "--hardfork", "T4", "--chain-id", "42431"]);
    anvil.args(["--block-time", "1", "--mixed-mining", "--port", "0"]);
    let listening = |line: &str| Some(format!("http://{}", line.strip_prefix("Listening on ")?));
    let (_chain, node) = start(&mut anvil, Stream::Output, listening)?;
    let whole = |line: &str| Some(line.to_owned());
    let (_api, upstream) =
        start(Command::new("node").args(["-e", UPSTREAM]), Stream::Output, whole)?;
    println!("chain {node}\nAPI   {upstream}");

    title("A gateway in front of it, paid in pathUSD");
    shell.write_file(
        "farthing.toml",
        GATEWAY.replace("NODE", &node).replace("UPSTREAM", &upstream),
    )?;
    println!("$ farthing serve &");
    let secret = shell.read_file("/proc/sys/kernel/random/uuid")?.repeat(2).replace('\n', "");
    let mut gateway = Command::new(&farthing);
    gateway.args(["serve", "--log-format", "text"]).env("SECRET", secret);
    let (_gateway, url) = start(gateway.current_dir(folder.path()), Stream::Error, address)?;
    println!("listening on {url}");
    let forecast = format!("{url}/forecast/rome");

    title("Our wallet pays, within its owner's caps");
    let _home = shell.push_env("FARTHING_HOME", folder.path().join("wallet"));
    let _passphrase = shell.push_env("FARTHING_PASSPHRASE", "a passphrase for a demo");
    cmd!(shell, "{farthing} wallet import agent --kind secp256k1")
        .stdin(BUYER)
        .ignore_stderr()
        .quiet()
        .run()?;
    shell.write_file("wallet/wallet.toml", WALLET.replace("NODE", &node))?;
    shown(shell, &farthing, &["wallet", "balance"])?;
    shown(shell, &farthing, &["pay", &forecast])?;
    shown(shell, &farthing, &["wallet", "balance"])?;

    title("And so does somebody else's: mppx, the official command");
    let mppx = peers.join("node_modules/mppx/dist/bin.js");
    println!("$ mppx {forecast}");
    let paid = cmd!(shell, "node {mppx} {forecast}")
        .env("HOME", folder.path())
        .env("MPPX_PRIVATE_KEY", format!("0x{FOREIGN_BUYER}"))
        .env("MPPX_RPC_URL", &node)
        .quiet()
        .read()?;
    println!("{paid}");
    ensure!(paid.contains("sunny"), "mppx did not get its forecast");

    title("The seller's books know of both");
    shown(shell, &farthing, &["ledger", "balances"])?;
    shown(shell, &farthing, &["ledger", "verify"])?;
    println!("\nAll of it held. Next: README.md, docs/gateway.md, docs/wallet.md.");
    Ok(())
}

/// The address in the line with which a gateway says that it listens, by the name clients use.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("127.0.0.1:").filter(|_| line.contains("listening"))?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("http://localhost:{port}"))
}

/// Runs a command of ours as a reader would type it.
fn shown(shell: &Shell, farthing: &Path, args: &[&str]) -> Result<()> {
    println!("\n$ farthing {}", args.join(" "));
    Ok(cmd!(shell, "{farthing} {args...}").quiet().run()?)
}

fn title(text: &str) {
    println!("\n── {text}");
}
