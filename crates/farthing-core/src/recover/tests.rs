use farthing_ledger::{Fingerprint, Holder, TraceId};
use farthing_money::{Amount, Asset, AssetId};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

fn unfinished(name: &str, open: Open) -> Unfinished {
    let fingerprint = Fingerprint::of("challenge", &[name.as_bytes()]);
    let payment = Payment {
        id: PaymentId::of(&fingerprint),
        trace: TraceId::new(NOW, [7; 10]),
        protocol: "mpp".into(),
        method: "tempo".into(),
        intent: "charge".into(),
        challenge: name.into(),
        amount: Amount::new(AssetId::new("usd").unwrap(), 5),
        payer: "alice".into(),
        payee: Holder::new("seller").unwrap(),
        route: "weather".into(),
        scope: "scope".into(),
        credential: fingerprint,
        expires_at: NOW.after(Duration::from_mins(5)),
        request: None,
        inquiry: None,
    };
    Unfinished { payment, open }
}

/// Only what nobody is at is asked about, and less and less often.
#[test]
fn what_nobody_is_at_is_asked_about() {
    let all: Vec<_> =
        [Open::Settling, Open::Unsettled, Open::Delivering, Open::Owed, Open::Interrupted]
            .into_iter()
            .map(|open| unfinished(&format!("{open:?}"), open))
            .collect();
    let mut recovery = Recovery::default();
    let due = |recovery: &Recovery, now| -> Vec<String> {
        recovery.plan(&all, now).iter().map(|payment| payment.challenge.clone()).collect()
    };
    assert_eq!(due(&recovery, NOW), ["Unsettled"]);
    let id = all[1].payment.id;
    let mut now = NOW;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        recovery.asked_in_vain(id, now);
        let pause = Duration::from_secs(seconds);
        assert!(due(&recovery, now.after(pause).before(Duration::from_millis(1))).is_empty());
        now = now.after(pause);
        assert_eq!(due(&recovery, now), ["Unsettled"], "{seconds}");
    }
}

/// F-07: an unknown outcome is never given up; what was never sent is, once nobody can send it.
#[test]
fn an_unknown_outcome_is_never_given_up() {
    let payment = unfinished("a", Open::Unsettled).payment;
    let (late, settled) = (payment.expires_at, Settled::new("tx".into()));
    for now in [NOW, late] {
        assert_eq!(conclude(Ok(settled.clone()), &payment, now), Conclusion::Post(settled.clone()));
        let declined = Conclusion::Void(VoidReason::Declined);
        assert_eq!(conclude(Err(SettleError::Declined), &payment, now), declined);
        assert_eq!(conclude(Err(SettleError::Unknown), &payment, now), Conclusion::Leave);
    }
    assert_eq!(conclude(Err(SettleError::Unsent), &payment, NOW), Conclusion::Leave);
    let expired = Conclusion::Void(VoidReason::Expired);
    assert_eq!(conclude(Err(SettleError::Unsent), &payment, late), expired);
}

/// Each says where it hangs and what happens next.
#[test]
fn every_open_payment_is_explained() {
    let assets: Assets =
        [Asset::new(AssetId::new("usd").unwrap(), 2).unwrap()].into_iter().collect();
    let later = NOW.after(Duration::from_hours(1));
    for (open, now, part) in [
        (Open::Settling, NOW, "being settled on tempo"),
        (Open::Unsettled, NOW, "asks the rail"),
        (Open::Delivering, NOW, "being answered"),
        (Open::Owed, NOW, "The same credential is answered until"),
        (Open::Owed, later, "nobody can ask for it any more"),
        (Open::Interrupted, NOW, "may have been carried out"),
    ] {
        let text = explain(&unfinished("a", open), &assets, now);
        assert!(text.starts_with("0.05 usd for weather from alice"), "{text}");
        assert!(text.contains(part), "{text}");
    }
}
