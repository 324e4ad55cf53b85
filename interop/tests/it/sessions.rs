//! Channels with others: what viem makes of the same channel, what the official SDK's payers send, and
//! that the compiled escrow is the source's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farthing_money::{Amount, Asset, AssetId};
use farthing_rail_tempo::session::{
    Action, B256, Channels, Descriptor, Errand, Escrow, Family, Funded, Happened, Outcome, RESERVE,
    SessionTerms, Take, Teller, VoucherKey, creation_code,
};
use farthing_rail_tempo::{Address, Nodes, Token, Tokens};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain, development_key,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::matrix::{Script, node_script};
use crate::mppx::peers;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap();
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    "0x".chars().chain(digits).collect()
}

fn nobody() -> Address {
    address("0x0000000000000000000000000000000000000000")
}

/// What a script from npm says for this input, line by line.
async fn script(peers: &Path, name: &str, input: &Value) -> Vec<Value> {
    // A module's imports are looked for from where it stands.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("npm").join(name);
    let text = std::fs::read_to_string(ours).unwrap();
    let file = tempfile::Builder::new().suffix(".mjs").tempfile_in(peers).unwrap();
    std::fs::write(file.path(), text).unwrap();
    let output = Command::new("node").arg(file.path()).arg(input.to_string()).output().await;
    let output = output.expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The code that is kept is what the pinned compiler makes of the source.
#[tokio::test]
async fn the_escrow_is_compiled_from_its_source() {
    let Some(peers) = peers() else { return };
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
    let compile = Command::new("node").arg(contracts.join("compile.mjs")).arg(&peers).output();
    let output = compile.await.expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compiled: Value = serde_json::from_slice(&output.stdout).unwrap();
    let compiled = compiled.as_object().unwrap();
    assert!(compiled.contains_key("FarthingEscrow") && compiled.contains_key("ReserveStandIn"));
    for (name, code) in compiled {
        let kept: PathBuf = contracts.join("artifacts").join(format!("{name}.json"));
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
        assert!(kept == *code, "{name}: node contracts/compile.mjs PEERS --write");
    }
}

/// SES.C07, TSE.S01: ids, digests and signatures of every family, as viem makes them from the same parts.
#[tokio::test]
async fn vouchers_are_those_of_viem() {
    let Some(peers) = peers() else { return };
    let families = [(Family::TempoV1, "v1"), (Family::TempoV2, "v2"), (Family::Evm, "evm")];
    let (mut asked, mut ours) = (Vec::new(), Vec::new());
    let key = VoucherKey::new(&development_key(2)).unwrap();
    for (at, (family, name)) in (0_u8..).zip(families.into_iter().cycle().take(24)) {
        let account = |with: u8| address(&hex(&[at ^ with; 20]));
        let descriptor = Descriptor {
            payer: account(1),
            payee: account(2),
            operator: account(3),
            token: account(4),
            salt: B256::repeat_byte(at),
            authorized_signer: if at % 2 == 0 { nobody() } else { account(5) },
            expiring_nonce_hash: B256::repeat_byte(at ^ 6),
        };
        let chain_id = 4217 + u64::from(at);
        let place = if family == Family::TempoV2 { RESERVE } else { account(7) };
        let escrow = Escrow::new(family, chain_id, place);
        let cumulative = family.atoms_max() / (u128::from(at) + 1);
        asked.push(json!({
            "family": name, "chainId": chain_id, "escrow": place.to_string(),
            "descriptor": descriptor.write(), "cumulative": cumulative.to_string(),
        }));
        let channel = descriptor.id(&escrow);
        let voucher = key.sign(&escrow, channel, cumulative).unwrap();
        ours.push(json!({
            "channelId": channel,
            "digest": escrow.voucher_digest(channel, cumulative),
            "signature": hex(&voucher.signature),
            "close": escrow.close_digest(channel, cumulative),
        }));
    }
    let input = json!({ "key": format!("0x{}", DEVELOPMENT_KEYS[2]), "channels": asked });
    let theirs = script(&peers, "vouchers.mjs", &input).await.remove(0);
    let theirs = theirs.as_array().unwrap();
    assert_eq!(theirs.len(), 24);
    for ((theirs, ours), (family, _)) in theirs.iter().zip(ours).zip(families.into_iter().cycle()) {
        for name in ["channelId", "digest", "signature"] {
            assert_eq!(theirs[name], ours[name], "{name} {family:?}");
        }
        // Only version 2 has a word of its own for closing.
        assert!(family != Family::TempoV2 || theirs["close"] == ours["close"]);
    }
}

fn tokens() -> Tokens {
    let asset = Asset::new(AssetId::new("usd").unwrap(), 6).unwrap();
    Tokens::new(vec![Token { asset, address: address(PATH_USD) }])
}

fn terms(escrow: Escrow, sponsored: bool) -> SessionTerms {
    SessionTerms {
        amount: Amount::new("usd".parse().unwrap(), 25),
        unit: Some("request".into()),
        suggested_deposit: Some(1_000_000),
        token: address(PATH_USD),
        recipient: address(DEVELOPMENT_ACCOUNTS[1]),
        escrow,
        channel: None,
        delta_min: 0,
        operator: nobody(),
        sponsored,
        means: Vec::new(),
    }
}

/// What the official SDK's payer sends for these terms.
async fn paid(peers: &Path, rpc: &str, terms: &SessionTerms, steps: Value) -> Vec<Action> {
    let challenge = json!({
        "id": "kM9xPqWvT2nJrHsY4aDfEb", "realm": "api.example.com",
        "method": "tempo", "intent": "session", "request": terms.write(),
    });
    let input = json!({
        "key": format!("0x{}", DEVELOPMENT_KEYS[2]), "rpc": rpc,
        "challenge": challenge, "deposit": "1", "steps": steps,
    });
    let read = |credential: Value| {
        let payload = credential["payload"].as_object().unwrap();
        Action::read(terms.escrow.family, payload).unwrap()
    };
    script(peers, "channel.mjs", &input).await.into_iter().map(read).collect()
}

async fn deploy(chain: &TempoChain, code: &[u8]) -> Address {
    let ask = async |method: &str, params: Value| -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let sent = reqwest::Client::new().post(&chain.url);
        let sent = sent.header("content-type", "application/json").body(request.to_string());
        serde_json::from_slice(&sent.send().await.unwrap().bytes().await.unwrap()).unwrap()
    };
    let data = hex(code);
    let call = json!([{ "from": DEVELOPMENT_ACCOUNTS[0], "data": data, "gas": "0x1c00000" }]);
    let hash = ask("eth_sendTransaction", call).await["result"].clone();
    loop {
        let receipt = ask("eth_getTransactionReceipt", json!([hash])).await;
        if let Some(at) = receipt["result"]["contractAddress"].as_str() {
            assert_eq!(receipt["result"]["status"], "0x1");
            return address(at);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// TSE.S04, S-14: the official SDK's payer of version 1 opens a channel in our escrow, pays on it and asks
/// for its close; we hand the opening over, verify what it signs, and settle.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_pays_on_our_escrow() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    // The SDK's payer asks its node what its calls burn, which anvil does not say.
    let (mut shim, file) = node_script(&peers, include_str!("../../npm/shim.mjs"));
    shim.env("RPC", &chain.url);
    let shim = Script::start(shim, Some(file)).await;
    let at = deploy(&chain, &creation_code(Family::TempoV1).unwrap()).await;
    let escrow = Escrow::new(Family::TempoV1, TEMPO_CHAIN_ID, at);
    let terms = terms(escrow, false);
    let steps = json!(["auto", "auto", { "close": "50" }]);
    let actions = paid(&peers, &shim.said, &terms, steps).await;
    let [Action::Open(open), Action::Voucher(second), Action::Close(last, None)] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    let payer = address(DEVELOPMENT_ACCOUNTS[2]);
    let funded = Funded::opening(open, &terms, u64::MAX).unwrap();
    assert_eq!((funded.payer(), funded.atoms), (payer, 1_000_000));
    let urls = vec![chain.url.parse().unwrap()];
    let nodes = Arc::new(Nodes::new(TEMPO_CHAIN_ID, urls, Duration::from_secs(5)).unwrap());
    let wait = Duration::from_secs(20);
    let seller = Channels::new(Arc::clone(&nodes), escrow, None, 1, wait);
    let credited = seller.fund(&funded).await.unwrap();
    assert_eq!(credited.state.what.deposit, 1_000_000);
    let descriptor = funded.descriptor.unwrap();
    for (voucher, owed) in [(&open.voucher, 25), (&second.voucher, 50), (&last.voucher, 50)] {
        assert_eq!(voucher.cumulative, owed);
        assert_eq!(voucher.verify(&escrow, descriptor.signer()), Ok(()));
    }
    let token = tokens().named(&"usd".parse().unwrap()).unwrap().clone();
    let teller = Teller::new(&development_key(1), nodes, token, 1, wait).unwrap();
    let take = Take::Close { voucher: last.voucher.clone(), capture: 50 };
    let outcome = teller.run(&escrow, &[Errand { descriptor, take }]).await.remove(0);
    let Outcome::Done(taken) = outcome else { panic!("{outcome:?}") };
    assert_eq!(taken.events[0].what, Happened::Closed { to_payee: 50, to_payer: 999_950 });
}

/// TSE.S01, TSE.S03: what the official SDK's payer of version 2 sends is read and verified, sponsored or
/// not: its ids, its descriptors and its vouchers. The chain's own part of it no chain here has.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_payers_of_version_two_are_understood() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = Escrow::new(Family::TempoV2, TEMPO_CHAIN_ID, RESERVE);
    for sponsored in [false, true] {
        let terms = terms(escrow, sponsored);
        let steps = json!(["auto", "auto", { "close": "60" }]);
        let actions = paid(&peers, &chain.url, &terms, steps).await;
        let [Action::Open(open), Action::Voucher(second), Action::Close(last, _)] = &actions[..]
        else {
            panic!("{actions:?}")
        };
        let funded = Funded::opening(open, &terms, u64::MAX).unwrap();
        assert_eq!(funded.payer(), address(DEVELOPMENT_ACCOUNTS[2]));
        let descriptor = funded.descriptor.unwrap();
        assert_eq!(descriptor.expiring_nonce_hash, funded.identity());
        for shown in [second, last] {
            assert_eq!(shown.descriptor, Some(descriptor));
            assert_eq!(shown.voucher.verify(&escrow, descriptor.signer()), Ok(()));
        }
        assert_eq!(open.voucher.verify(&escrow, descriptor.signer()), Ok(()));
    }
}
