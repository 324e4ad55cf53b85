//! Receipts and checkpoints, checked by a program that shares no line with us.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use farthing_evidence::{Checkpoint, Notary, ReceiptClaims, SecretKey};
use farthing_ledger::merkle::Hash;
use farthing_ledger::{Fingerprint, Holder, Payment, PaymentId, Settlement, Terms, TraceId};
use farthing_money::{Amount, Timestamp};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_123_456);

fn payment() -> Payment {
    let identity = Fingerprint::of("challenge", &[b"mpp", b"c-1"]);
    Payment {
        id: PaymentId::of(&identity),
        trace: TraceId::new(NOW, [7; 10]),
        protocol: "mpp".into(),
        method: "prepaid".into(),
        intent: "charge".into(),
        challenge: "c-1".into(),
        amount: Amount::new("usd".parse().unwrap(), 25),
        payer: "did:key:z6Mk".into(),
        payee: Holder::new("seller").unwrap(),
        route: "forecast".into(),
        scope: "0".repeat(32),
        credential: Fingerprint::of("credential", &[]),
        expires_at: NOW,
        request: None,
        inquiry: None,
        terms: Terms::default(),
        voucher: None,
        decision: None,
        subscription: None,
    }
}

/// Lets Node check a receipt and a checkpoint by themselves.
fn node(jwks: &str, receipt: &str, checkpoint: &str) -> Output {
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let input = json!({ "jwks": jwks, "receipt": receipt, "checkpoint": checkpoint });
    let script = include_str!("../../npm/evidence.mjs");
    let mut node = Command::new("node")
        .args(["--input-type=module", "--eval", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node is installed");
    node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    node.wait_with_output().unwrap()
}

/// U-01: what we sign, others verify; and what was altered, they refuse as we do.
#[test]
fn receipts_and_checkpoints_are_checked_by_another_program() {
    let key = |byte| SecretKey::from_bytes(&[byte; 32]);
    let notary = Notary::new("api.example.com", key(2), &[key(1)]).ok().unwrap();
    let settlement = Settlement::new("tx-1".into(), NOW);
    let claims = ReceiptClaims::of(notary.realm(), &payment(), &settlement, Some(&[0xab; 32]));
    let receipt = claims.sign(&notary);
    let checkpoint = Checkpoint::new(&notary, 1_204, Hash::leaf(b"a line")).sign(&notary);
    let jwks = notary.published().to_jwks();
    let checked = node(&jwks, &receipt, &checkpoint);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(said["claims"], serde_json::to_value(&claims).unwrap());
    assert_eq!((&said["origin"], &said["size"]), (&"api.example.com/book".into(), &"1204".into()));
    let mut altered = receipt.clone().into_bytes();
    altered[receipt.len() / 2] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    assert!(!node(&jwks, &altered, &checkpoint).status.success());
    assert!(!node(&jwks, &receipt, &checkpoint.replace("1204", "1205")).status.success());
}
