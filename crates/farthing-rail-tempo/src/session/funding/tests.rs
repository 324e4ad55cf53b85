#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::address;
use farthing_core::Object;
use tempo_primitives::TempoTransaction;
use tempo_primitives::transaction::{PrimitiveSignature, TempoSignature};

use super::*;
use crate::envelope;
use crate::session::channel::RESERVE;
use crate::session::payload::Action;
use crate::session::terms::tests::terms;
use crate::session::voucher::VoucherKey;
use crate::transaction::{batch, raw};

const SECRET: [u8; 32] = [7; 32];
const EXPIRES_S: u64 = 1_763_712_300;
const DEPOSIT: u128 = 10_000;

fn payer() -> Address {
    Address::of_secret(&SECRET).unwrap()
}

fn stranger() -> Address {
    Address(address!("9999999999999999999999999999999999999999"))
}

fn descriptor(terms: &SessionTerms) -> Descriptor {
    Descriptor {
        payer: payer(),
        payee: terms.recipient,
        operator: terms.operator,
        token: terms.token,
        salt: B256::repeat_byte(3),
        authorized_signer: NOBODY,
        expiring_nonce_hash: B256::ZERO,
    }
}

/// An honest payer's opening, its transaction changed before it is signed, and its payload afterwards.
fn opening(
    terms: &SessionTerms,
    change: impl FnOnce(&mut TempoTransaction),
    say: impl FnOnce(&mut Object),
) -> Result<Funded, Unfit> {
    let mut descriptor = descriptor(terms);
    let calls = opening_calls(&terms.escrow, &descriptor, DEPOSIT);
    let text = signed(terms, calls, change, &mut descriptor);
    let channel = descriptor.id(&terms.escrow);
    let mut payload = payload(terms, &descriptor, "open", channel, text);
    let voucher = VoucherKey::new(&SECRET).unwrap().sign(&terms.escrow, channel, 0).unwrap();
    let signature = alloy_primitives::hex::encode_prefixed(&voucher.signature);
    payload.insert("cumulativeAmount".into(), "0".into());
    payload.insert("signature".into(), signature.into());
    say(&mut payload);
    let Ok(Action::Open(open)) = Action::read(terms.escrow.family, &payload) else {
        panic!("{payload:?}")
    };
    Funded::opening(&open, terms, EXPIRES_S)
}

/// An honest payer's top-up, likewise.
fn top_up(
    terms: &SessionTerms,
    is_wide: bool,
    change: impl FnOnce(&mut TempoTransaction),
    say: impl FnOnce(&mut Object),
) -> Result<Funded, Unfit> {
    let known = Descriptor { expiring_nonce_hash: B256::repeat_byte(5), ..descriptor(terms) };
    let calls = top_up_calls(&terms.escrow, &known, DEPOSIT, is_wide);
    let text = signed(terms, calls, change, &mut known.clone());
    let channel = known.id(&terms.escrow);
    let mut payload = payload(terms, &known, "topUp", channel, text);
    payload.insert("additionalDeposit".into(), DEPOSIT.to_string().into());
    say(&mut payload);
    let Ok(Action::TopUp(top_up)) = Action::read(terms.escrow.family, &payload) else {
        panic!("{payload:?}")
    };
    Funded::top_up(&top_up, terms, EXPIRES_S)
}

fn payload(
    terms: &SessionTerms,
    descriptor: &Descriptor,
    action: &str,
    channel: B256,
    transaction: String,
) -> Object {
    let mut payload = Object::new();
    payload.insert("action".into(), action.into());
    payload.insert("type".into(), "transaction".into());
    payload.insert("channelId".into(), channel.to_string().into());
    payload.insert("transaction".into(), transaction.into());
    if terms.escrow.family == Family::TempoV2 {
        payload.insert("descriptor".into(), descriptor.write().into());
    }
    payload
}

fn signed(
    terms: &SessionTerms,
    calls: Vec<Call>,
    change: impl FnOnce(&mut TempoTransaction),
    descriptor: &mut Descriptor,
) -> String {
    let fee_token = (!terms.sponsored).then_some(terms.token);
    let valid_before = NonZeroU64::new(EXPIRES_S).unwrap();
    let mut tx = batch(terms.escrow.chain_id, fee_token, calls, valid_before);
    change(&mut tx);
    let signature = sign_message(B256::from(SECRET), tx.signature_hash()).unwrap();
    let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
    let signed = tx.into_signed(signature);
    if terms.escrow.family == Family::TempoV2 {
        descriptor.expiring_nonce_hash = signed.expiring_nonce_hash(payer().0);
    }
    let bytes = raw(&signed).to_vec();
    let bytes = if terms.sponsored { envelope::close(&bytes, payer().0).unwrap() } else { bytes };
    alloy_primitives::hex::encode_prefixed(bytes)
}

fn honest(_: &mut TempoTransaction) {}

fn silent(_: &mut Object) {}

/// All ways a session is asked for.
fn all() -> Vec<SessionTerms> {
    let (v1, v2) = (terms(Family::TempoV1), terms(Family::TempoV2));
    let sponsored = |it: &SessionTerms| SessionTerms { sponsored: true, ..it.clone() };
    vec![sponsored(&v1), sponsored(&v2), v1, v2]
}

/// TSE.S04, TSE.S05: an honest payer's opening and top-up are taken, sponsored or not, in both versions,
/// and say what they are.
#[test]
fn what_an_honest_payer_signs_is_taken() {
    for terms in all() {
        let funded = opening(&terms, honest, silent).unwrap();
        assert_eq!((funded.payer(), funded.atoms, funded.opens), (payer(), DEPOSIT, true));
        assert_eq!(funded.descriptor.unwrap().id(&terms.escrow), funded.channel);
        let funded = top_up(&terms, false, honest, silent).unwrap();
        assert_eq!((funded.payer(), funded.atoms, funded.opens), (payer(), DEPOSIT, false));
        assert!(top_up(&terms, true, honest, silent).is_ok(), "as other clients write it");
    }
    // Whoever has approved the escrow before needs no approval now.
    let v1 = terms(Family::TempoV1);
    assert!(opening(&v1, |tx| drop(tx.calls.remove(0)), silent).is_ok());
}

/// TSE.S03, X-04: a transaction that does anything else, or more, is not handed over, whoever pays for it.
#[test]
fn a_transaction_funds_a_channel_and_does_nothing_else() {
    for terms in all() {
        let extra = |tx: &mut TempoTransaction| tx.calls.push(tx.calls[0].clone());
        assert_eq!(opening(&terms, extra, silent).unwrap_err(), Unfit::Calls);
        assert_eq!(top_up(&terms, false, extra, silent).unwrap_err(), Unfit::Calls);
        let elsewhere = |tx: &mut TempoTransaction| {
            tx.calls.last_mut().unwrap().to = TxKind::Call(stranger().0);
        };
        assert_eq!(opening(&terms, elsewhere, silent).unwrap_err(), Unfit::Calls);
        let money = |tx: &mut TempoTransaction| tx.calls.last_mut().unwrap().value = U256::ONE;
        assert_eq!(opening(&terms, money, silent).unwrap_err(), Unfit::Calls);
        // One call has one encoding.
        let longer = |tx: &mut TempoTransaction| {
            let call = tx.calls.last_mut().unwrap();
            call.input = [&call.input[..], &[0; 32]].concat().into();
        };
        assert_eq!(opening(&terms, longer, silent).unwrap_err(), Unfit::Calls);
        assert_eq!(top_up(&terms, false, longer, silent).unwrap_err(), Unfit::Calls);
        // A top-up is no opening.
        let calls = top_up_calls(&terms.escrow, &descriptor(&terms), DEPOSIT, false);
        let swapped = |tx: &mut TempoTransaction| tx.calls = calls;
        assert_eq!(opening(&terms, swapped, silent).unwrap_err(), Unfit::Calls);
    }
}

/// TSE.S03: an approval is for this escrow and this deposit, in this token.
#[test]
fn an_approval_is_for_the_deposit_alone() {
    let terms = terms(Family::TempoV1);
    let approve = |spender: Address, amount: u128| {
        let call = contract::approveCall { spender: spender.0, amount: U256::from(amount) };
        move |tx: &mut TempoTransaction| tx.calls[0].input = call.abi_encode().into()
    };
    let ours = terms.escrow.address;
    assert!(opening(&terms, approve(ours, DEPOSIT), silent).is_ok(), "the control");
    for (spender, amount) in [(ours, DEPOSIT + 1), (ours, 1), (stranger(), DEPOSIT)] {
        let refused = opening(&terms, approve(spender, amount), silent).unwrap_err();
        assert_eq!(refused, Unfit::Approval);
        let refused = top_up(&terms, false, approve(spender, amount), silent).unwrap_err();
        assert_eq!(refused, Unfit::Approval);
    }
    let token = |tx: &mut TempoTransaction| tx.calls[0].to = TxKind::Call(stranger().0);
    assert_eq!(opening(&terms, token, silent).unwrap_err(), Unfit::Calls);
}

/// B-04, TSE.S01, TSE.S04: a channel for another payee, in another token, with another operator, or under
/// another id, is not this challenge's.
#[test]
fn a_channel_is_the_challenges() {
    for terms in all() {
        let with = |change: fn(&mut Descriptor)| {
            let mut other = descriptor(&terms);
            change(&mut other);
            let calls = opening_calls(&terms.escrow, &other, DEPOSIT);
            opening(&terms, |tx| tx.calls = calls, silent).unwrap_err()
        };
        assert_eq!(with(|it| it.payee = stranger()), Unfit::Payee);
        assert_eq!(with(|it| it.token = stranger()), Unfit::Token);
        assert_eq!(with(|it| it.salt = B256::ZERO), Unfit::Channel);
        assert_eq!(with(|it| it.authorized_signer = stranger()), Unfit::Channel);
        if terms.escrow.family == Family::TempoV2 {
            assert_eq!(with(|it| it.operator = stranger()), Unfit::Operator);
        }
        let named = |it: &mut Object| {
            it.insert("channelId".into(), B256::repeat_byte(9).to_string().into());
        };
        assert_eq!(opening(&terms, honest, named).unwrap_err(), Unfit::Channel);
        assert_eq!(top_up(&terms, false, honest, named).unwrap_err(), Unfit::Channel);
        let signer = |it: &mut Object| {
            it.insert("authorizedSigner".into(), stranger().to_string().into());
        };
        assert_eq!(opening(&terms, honest, signer).unwrap_err(), Unfit::Signer);
        let own = |it: &mut Object| {
            it.insert("authorizedSigner".into(), payer().to_string().into());
        };
        assert!(opening(&terms, honest, own).is_ok(), "who signs anyway may say so");
    }
}

/// TSE.S01: what a payer says of a channel of version 2 is what its transaction makes.
#[test]
fn a_descriptor_is_what_the_transaction_makes() {
    let terms = terms(Family::TempoV2);
    for name in ["payer", "payee", "operator", "token", "authorizedSigner"] {
        let say = |it: &mut Object| {
            it["descriptor"][name] = stranger().to_string().into();
        };
        assert_eq!(opening(&terms, honest, say).unwrap_err(), Unfit::Channel, "{name}");
        assert!(top_up(&terms, false, honest, say).is_err(), "{name}");
    }
    for name in ["salt", "expiringNonceHash"] {
        let say = |it: &mut Object| {
            it["descriptor"][name] = B256::repeat_byte(8).to_string().into();
        };
        assert_eq!(opening(&terms, honest, say).unwrap_err(), Unfit::Channel, "{name}");
    }
    // The chain makes channels of transactions whose nonce expires, and of no others.
    let counted = |tx: &mut TempoTransaction| tx.nonce_key = U256::ZERO;
    assert_eq!(opening(&terms, counted, silent).unwrap_err(), Unfit::Channel);
}

/// S-04, TSE.S05: a deposit is what was said, and something.
#[test]
fn a_deposit_is_what_was_said() {
    for terms in all() {
        let of = |atoms: u128| {
            let calls = opening_calls(&terms.escrow, &descriptor(&terms), atoms);
            opening(&terms, |tx| tx.calls = calls, silent).map(|it| it.atoms)
        };
        assert_eq!(of(0).unwrap_err(), Unfit::Deposit);
        let most = terms.escrow.family.atoms_max();
        let said = |it: &mut Object| {
            it.insert("additionalDeposit".into(), "9999".into());
        };
        assert_eq!(top_up(&terms, false, honest, said).unwrap_err(), Unfit::Deposit);
        if terms.escrow.family == Family::TempoV1 {
            assert_eq!(of(most), Ok(most));
            let over = wide::topUpCall { channelId: B256::ZERO, additionalDeposit: U256::MAX };
            let over = |tx: &mut TempoTransaction| tx.calls[1].input = over.abi_encode().into();
            assert_eq!(top_up(&terms, true, over, silent).unwrap_err(), Unfit::Deposit);
        }
    }
}

/// X-05, TSE.S03: what holds for every transaction of a challenge's holds for these.
#[test]
fn a_transaction_keeps_to_its_challenge() {
    for terms in all() {
        let chain = |tx: &mut TempoTransaction| tx.chain_id = 4217;
        let outlives = |tx: &mut TempoTransaction| {
            tx.valid_before = NonZeroU64::new(EXPIRES_S + 1);
        };
        let mismatch = |refused: Unfit| {
            let Unfit::Transaction(BadTransaction(mismatch)) = refused else { panic!("{refused}") };
            mismatch
        };
        let refused = mismatch(opening(&terms, chain, silent).unwrap_err());
        assert_eq!(refused, Mismatch::Chain);
        let refused = mismatch(opening(&terms, outlives, silent).unwrap_err());
        assert_eq!(refused, Mismatch::Outlives);
        let refused = mismatch(top_up(&terms, false, outlives, silent).unwrap_err());
        assert_eq!(refused, Mismatch::Outlives);
        let torn = |it: &mut Object| drop(it.insert("transaction".into(), "0x76".into()));
        let refused = mismatch(opening(&terms, honest, torn).unwrap_err());
        assert_eq!(refused, Mismatch::Malformed);
    }
    let (waits, bare) = (all().remove(0), terms(Family::TempoV1));
    let mut descriptor = descriptor(&waits);
    let calls = opening_calls(&waits.escrow, &descriptor, DEPOSIT);
    let waiting = signed(&waits, calls, honest, &mut descriptor);
    let text = |it: &mut Object| drop(it.insert("transaction".into(), waiting.into()));
    let refused = opening(&bare, honest, text).unwrap_err();
    assert_eq!(refused, Unfit::Transaction(BadTransaction(Mismatch::NotSponsored)));
    assert!(RESERVE != bare.escrow.address);
}
