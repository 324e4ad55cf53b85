//! Chains of one's own: real nodes on this machine, gone with the test that started them.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The secret keys of the first accounts of every development chain, known to everybody and worth
/// nothing anywhere else.
pub const DEVELOPMENT_KEYS: [&str; 7] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
];

/// The bytes of one of [`DEVELOPMENT_KEYS`].
pub fn development_key(number: usize) -> [u8; 32] {
    let text = DEVELOPMENT_KEYS[number];
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

/// The accounts of [`DEVELOPMENT_KEYS`]; on a Tempo chain each holds plenty of every token.
pub const DEVELOPMENT_ACCOUNTS: [&str; 7] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
];

/// pathUSD and `AlphaUSD`, as every Tempo chain has them from its first block on.
pub const PATH_USD: &str = "0x20c0000000000000000000000000000000000000";

/// See [`PATH_USD`].
pub const ALPHA_USD: &str = "0x20C0000000000000000000000000000000000001";

/// The number of Tempo's public test network, which clients know.
pub const TEMPO_CHAIN_ID: u64 = 42_431;

/// A Tempo chain: anvil, with a block each second and one at once for each transaction.
pub struct TempoChain {
    /// Where it is asked.
    pub url: String,
    _process: Child,
}

impl TempoChain {
    /// Starts a chain whose first block is at `start_s`, or now. Nothing where anvil is not
    /// installed, and says so.
    pub async fn start(start_s: Option<u64>) -> Option<Self> {
        let chain_id = TEMPO_CHAIN_ID.to_string();
        let rules = ["--network", "tempo", "--hardfork", "T4", "--chain-id", &chain_id];
        let (url, process) = run(&[&rules[..], &MIXED].concat(), start_s).await?;
        Some(Self { url, _process: process })
    }
}

/// The number of the EVM chains that tests start.
pub const EVM_CHAIN_ID: u64 = 31_337;

/// An EVM chain like many: anvil as it comes.
pub struct EvmChain {
    /// Where it is asked.
    pub url: String,
    _process: Child,
}

impl EvmChain {
    /// Starts a chain whose first block is now. Nothing where anvil is not installed, and says so.
    pub async fn start() -> Option<Self> {
        let (url, process) = run(&MIXED, None).await?;
        Some(Self { url, _process: process })
    }
}

/// A block each second, and one at once for each transaction.
const MIXED: [&str; 3] = ["--block-time", "1", "--mixed-mining"];

/// Starts anvil and waits until it says where it listens.
async fn run(args: &[&str], start_s: Option<u64>) -> Option<(String, Child)> {
    let Some(anvil) = anvil() else {
        eprintln!("skipped: FARTHING_PEERS does not say where anvil is; ./x test installs it");
        return None;
    };
    let mut command = Command::new(anvil);
    command.args(args).args(["--port", "0"]);
    if let Some(start_s) = start_s {
        command.args(["--timestamp", &start_s.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("anvil says where it listens");
        if let Some(address) = line.strip_prefix("Listening on ") {
            break address.to_owned();
        }
    };
    // Whoever stops listening would stop the one who speaks.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some((format!("http://{address}"), process))
}

/// The program itself, beside the script that npm installs for it.
fn anvil() -> Option<PathBuf> {
    let peers = PathBuf::from(std::env::var_os("FARTHING_PEERS")?);
    let scope = std::fs::read_dir(peers.join("node_modules/@foundry-rs")).ok()?;
    let programs = scope.filter_map(|entry| Some(entry.ok()?.path().join("bin/anvil")));
    programs.into_iter().find(|program| program.exists())
}
