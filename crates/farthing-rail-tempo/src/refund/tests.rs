use alloy_primitives::U256;
use farthing_ledger::{Fingerprint, Holder, PaymentId, RefundId, TraceId, Way};
use farthing_money::{AssetId, Timestamp};
use tempo_primitives::TempoTransaction;

use super::*;

const SELLER: [u8; 32] = [9; 32];
const LATE_S: u64 = 1_763_712_300;

fn payer() -> Address {
    Address::of_secret(&[7; 32]).unwrap()
}

fn refund(name: &str, reference: &str) -> Refund {
    let payment = PaymentId::of(&Fingerprint::of("challenge", &[name.as_bytes()]));
    Refund {
        id: RefundId::of(payment, reference),
        payment,
        trace: TraceId::new(Timestamp::from_micros(0), [0; 10]),
        method: "tempo".into(),
        amount: Amount::new(AssetId::new("usd").unwrap(), 2_500),
        payer: String::new(),
        payee: Holder::new("seller").unwrap(),
        way: Way::Back,
        reference: reference.into(),
        reason: String::new(),
        order: None,
    }
}

/// The order of a refund, changed before it is signed.
fn order(refund: &Refund, change: impl FnOnce(&mut TempoTransaction)) -> String {
    let terms = Terms {
        amount: refund.amount.clone(),
        recipient: payer(),
        ..crate::transaction::tests::terms()
    };
    let memo = refunding(refund.payment, refund.id);
    let mut tx = build(&terms, memo, NonZeroU64::new(LATE_S).unwrap());
    change(&mut tx);
    let signature = sign_message(B256::from(SELLER), tx.signature_hash()).unwrap();
    let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
    raw(&tx.into_signed(signature)).to_string()
}

/// An order is its own refund's, to whoever paid, and expires; or it is none, and is never sent.
#[test]
fn an_order_is_one_refunds() {
    let read = |order: String, of: &Refund, to| {
        let booked = Refund { order: Some(order.into()), ..of.clone() };
        Order::read(&booked, to).map(|it| (it.account, it.valid_before_s))
    };
    let ours = refund("a", "one");
    let good = order(&ours, |_| {});
    let seller = Address::of_secret(&SELLER).unwrap();
    assert_eq!(read(good.clone(), &ours, payer()), Some((seller, LATE_S)), "the control");
    assert_eq!(read(good.clone(), &ours, seller), None, "somebody else's money");
    for other in [refund("a", "two"), refund("b", "one")] {
        assert_eq!(read(good.clone(), &other, payer()), None, "another refund");
    }
    let more = Refund { amount: Amount::new(AssetId::new("usd").unwrap(), 2_501), ..ours.clone() };
    assert_eq!(read(good, &more, payer()), None);
    let altered = |change: fn(&mut TempoTransaction)| read(order(&ours, change), &ours, payer());
    assert_eq!(altered(|tx| tx.nonce_key = U256::ZERO), None, "it would not expire");
    assert_eq!(altered(|tx| tx.valid_before = None), None);
    assert_eq!(altered(|tx| tx.calls.push(tx.calls[0].clone())), None);
    assert_eq!(altered(|tx| tx.calls[0].input = vec![1].into()), None);
    for odd in ["", "0x", "0x76", "0x76c0"] {
        assert_eq!(read(odd.into(), &ours, payer()), None, "{odd}");
    }
    assert!(Order::read(&ours, payer()).is_none());
    let key = Refunder::new(&SELLER).unwrap();
    assert!(!format!("{key:?}").contains("09"), "a key is not shown: {key:?}");
}
