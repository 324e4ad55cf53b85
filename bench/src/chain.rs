//! A Tempo chain of the benchmark's own: anvil, from the folder that `FARTHING_PEERS` names.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use farthing_testkit::chain::TEMPO_CHAIN_ID;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::load::Connection;

/// How often a block is made that no payment asks for.
pub(crate) const BLOCK_TIME: Duration = Duration::from_secs(1);

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cadence {
    /// One each second, as a real chain does.
    Interval,
    /// The same, and one at once for whatever arrives.
    Mixed,
}

impl Cadence {
    pub(crate) const ALL: [Self; 2] = [Self::Interval, Self::Mixed];
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Interval => "interval",
            Self::Mixed => "mixed",
        })
    }
}

/// A chain, gone with the run.
pub(crate) struct Chain {
    /// Where it is asked.
    pub(crate) url: String,
    connection: Connection,
    address: SocketAddr,
    _process: Child,
}

impl Chain {
    pub(crate) async fn start(cadence: Cadence) -> Result<Self> {
        let mut command = Command::new(anvil()?);
        let chain_id = TEMPO_CHAIN_ID.to_string();
        command.args(["--network", "tempo", "--hardfork", "T4", "--chain-id", &chain_id]);
        command.args(["--block-time", &BLOCK_TIME.as_secs().to_string(), "--port", "0"]);
        // Calls run at the time of the latest block, and anvil's own first one is of 1970.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        command.args(["--timestamp", &now.as_secs().to_string()]);
        if cadence == Cadence::Mixed {
            command.arg("--mixed-mining");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let output = process.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let address: SocketAddr = loop {
            let line = lines.next_line().await?.context("anvil did not start")?;
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.parse()?;
            }
        };
        // Whoever stops listening would stop the one who speaks.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let connection = Connection::open(address).await?;
        let url = format!("http://{address}");
        let mut chain = Self { url, connection, address, _process: process };
        // A line for each call would be measured with the call.
        chain.call("anvil_setLoggingEnabled", &json!([false])).await?;
        chain.next_block().await?;
        Ok(chain)
    }

    /// How many blocks there are.
    pub(crate) async fn height(&mut self) -> Result<u64> {
        let height = self.call("eth_blockNumber", &json!([])).await?;
        let digits = height.as_str().and_then(|text| text.strip_prefix("0x"));
        Ok(u64::from_str_radix(digits.context("a height")?, 16)?)
    }

    /// How many transactions there are in all blocks.
    pub(crate) async fn transactions(&mut self) -> Result<u64> {
        let height = self.height().await?;
        let mut count = 0;
        for number in 0..=height {
            let method = "eth_getBlockTransactionCountByNumber";
            let found = self.call(method, &json!([format!("{number:#x}")])).await?;
            let digits = found.as_str().and_then(|text| text.strip_prefix("0x"));
            count += u64::from_str_radix(digits.context("a count")?, 16)?;
        }
        Ok(count)
    }

    /// Waits until a block has just been made: what follows then waits for a whole one.
    pub(crate) async fn next_block(&mut self) -> Result<()> {
        let height = self.height().await?;
        while self.height().await? == height {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let (host, length) = (self.address, body.len());
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.connection.ask(format!("{head}{body}").as_bytes()).await?;
        let mut answer: Value = serde_json::from_slice(self.connection.body())?;
        answer.get_mut("result").map(Value::take).with_context(|| format!("{method}: {answer}"))
    }
}

/// The program itself, beside the script that npm installs for it.
fn anvil() -> Result<PathBuf> {
    let peers = std::env::var_os("FARTHING_PEERS").map(PathBuf::from);
    let peers = peers.context("FARTHING_PEERS does not say where anvil is; ./x bench does")?;
    let scope = std::fs::read_dir(peers.join("node_modules/@foundry-rs"))?;
    let mut programs = scope.filter_map(|entry| Some(entry.ok()?.path().join("bin/anvil")));
    programs.find(|program| program.exists()).context("no anvil for this machine")
}
