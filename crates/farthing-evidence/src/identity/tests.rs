//! A proof is believed for the seller and the question it was made for, and for no other.

use super::*;
use crate::keys::SecretKey;
use crate::receipt::{Expected, ReceiptClaims};

fn notary(realm: &str, byte: u8) -> Notary {
    Notary::new(realm, SecretKey::from_bytes(&[byte; 32]), &[]).unwrap()
}

fn nonce(byte: u8) -> IdentityNonce {
    IdentityNonce::new([byte; 32])
}

#[test]
fn a_proof_is_for_one_seller_and_one_question() {
    let ours = notary("api.example.com", 1);
    let proof = prove_identity(&ours, &nonce(7));
    let verified = |proof: &str, keys: &Notary, realm: &str, at: u8| {
        verify_identity(proof, keys.published(), realm, &nonce(at)).map(|key| key.kid())
    };
    let kid = SecretKey::from_bytes(&[1; 32]).public().kid();
    assert_eq!(verified(&proof, &ours, "api.example.com", 7), Ok(kid));
    // Whoever passes another's proof on shows another's realm.
    let fault = verified(&proof, &ours, "impostor.example", 7);
    assert_eq!(fault, Err(IdentityFault::Realm("api.example.com".to_owned())));
    assert_eq!(verified(&proof, &ours, "api.example.com", 8), Err(IdentityFault::Nonce));
    let others = notary("api.example.com", 2);
    assert!(matches!(
        verified(&proof, &others, "api.example.com", 7),
        Err(IdentityFault::Signature(_))
    ));
    let forged = format!("{}A", &proof[..proof.len() - 1]);
    assert_ne!(forged, proof);
    assert!(verified(&forged, &ours, "api.example.com", 7).is_err());
    // It is no receipt, and nothing else that is signed is a proof.
    let receipt = ReceiptClaims::verify(&proof, ours.published(), Expected::default());
    assert!(receipt.is_err());
    let other = jws::sign(ours.key(), "farthing-receipt+jwt", b"{}");
    assert!(verified(&other, &ours, "api.example.com", 7).is_err());
}

#[test]
fn only_what_a_buyer_can_draw_is_signed() {
    assert_eq!(IdentityNonce::parse(&nonce(7).to_text()), Some(nonce(7)));
    for odd in ["", "AAAA", &"A".repeat(44), &"A".repeat(86), "!"] {
        assert_eq!(IdentityNonce::parse(odd), None, "{odd}");
    }
}
