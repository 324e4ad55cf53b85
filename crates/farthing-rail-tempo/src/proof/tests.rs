use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{b256, hex};
use tempo_primitives::transaction::{KeychainSignature, PrimitiveSignature};

use super::*;

const REALM: &str = "api.example.com";
const CHALLENGE: &str = "kM9xPqWvT2nJrHsY4aDfEb";

/// Golden vectors, computed with another library.
#[test]
fn the_digest_is_what_the_sdks_sign() {
    let account: Address = "0x1234567890abcdef1234567890abcdef12345678".parse().unwrap();
    let mainnet = b256!("f4289415722462c49b85b4daa4ffa8d9c6e3e9134b8bf75a99b5c8047cb12898");
    assert_eq!(digest(4_217, account, REALM, CHALLENGE), mainnet);
    let testnet = b256!("2db63a8e8956c79d20ff472f201ab368bd8935acb36e72582ce396ab7dafe08e");
    assert_eq!(digest(42_431, account, REALM, CHALLENGE), testnet);
}

fn sign(secret: u8, digest: B256) -> PrimitiveSignature {
    let signature = sign_message(B256::repeat_byte(secret), digest).unwrap();
    PrimitiveSignature::Secp256k1(signature)
}

/// B-08, TCH.S05: a proof is one account's, for one challenge of one realm on one chain.
#[test]
fn a_proof_is_its_signers_for_one_challenge() {
    let account = Address::of_secret(&[7; 32]).unwrap();
    let signed = digest(42_431, account, REALM, CHALLENGE);
    let text = hex::encode_prefixed(sign(7, signed).to_bytes());
    let check = |digest, account| signer(&text, digest, account);
    assert_eq!(check(signed, account), Some(Signer::Account), "the control");
    let other = Address::of_secret(&[8; 32]).unwrap();
    for (chain_id, named, realm, challenge) in [
        (4_217, account, REALM, CHALLENGE),
        (42_431, other, REALM, CHALLENGE),
        (42_431, account, "api.example.org", CHALLENGE),
        (42_431, account, REALM, "another"),
    ] {
        let found = check(digest(chain_id, named, realm, challenge), named);
        assert_ne!(found, Some(Signer::Account), "{chain_id} {named} {realm} {challenge}");
    }
    for odd in ["", "0x", &text[2..], &format!("{text}00"), &text.to_uppercase(), "0xzz"] {
        assert_eq!(signer(odd, signed, account), None, "{odd}");
    }
}

/// An access key says whose it is, and the account it names has to be the one that is claimed.
#[test]
fn an_access_key_names_its_account() {
    let account = Address::of_secret(&[7; 32]).unwrap();
    let key = Address::of_secret(&[9; 32]).unwrap();
    let proof = digest(42_431, account, REALM, CHALLENGE);
    let inner = sign(9, KeychainSignature::signing_hash(proof, account.0));
    let keychain = TempoSignature::Keychain(KeychainSignature::new(account.0, inner));
    let text = hex::encode_prefixed(keychain.to_bytes());
    assert_eq!(signer(&text, proof, account), Some(Signer::Key(key)));
    assert_eq!(signer(&text, proof, key), None);
}
