//! The suite for [`Rail`] and its buyer's side, [`Payer`].

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Admission, Ask, Invitation, Object, Offer, Paid, Payer, Posted, Presented, Protocol, Quote,
    Rail, ReceiptFacts, Recovered, Recovery, RefundAsk, RefundRefusal, Refusal, Rejection, Scope,
    Till, Unquotable,
};
use farthing_ledger::{
    Audit, Entry, Event, Fingerprint, Holder, Money, Outcome, Payment, Record, Refund,
    RefundLimits, RefundRequest, RefundStanding, Remedy, SpendingKey, Story, Terms, TraceId, Way,
    audit,
};
use farthing_money::{Amount, Asset, AssetId, Assets, Timestamp};
use farthing_store_memory::MemoryStore;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::store::START;

/// A rail, two payers on it, and what is paid in these stories.
pub struct Railway {
    /// The rail.
    pub rail: Arc<dyn Rail>,
    /// Pays.
    pub payer: Arc<dyn Payer>,
    /// Could pay too, and must not be mistaken for the first.
    pub stranger: Arc<dyn Payer>,
    /// What makes the payer good for it in a book, if the book has to know.
    pub entries: Vec<Entry>,
    /// The seller, as the rail names them to buyers.
    pub recipient: String,
    /// What has to stay alive for as long as the rail is used: a chain, for one.
    pub guard: Option<Box<dyn std::any::Any + Send>>,
}

/// The assets of these stories: `usd` with six decimals and `sat` with none.
pub fn assets() -> Assets {
    let asset = |name: &str, decimals| Asset::new(AssetId::new(name).unwrap(), decimals).unwrap();
    [asset("usd", 6), asset("sat", 0)].into_iter().collect()
}

/// Entries that give `key` an account with 1,000,000 atoms of `usd`.
pub fn funded(key: SpendingKey) -> Vec<Entry> {
    let holder = Holder::new("customer").unwrap();
    let amount = Amount::new(AssetId::new("usd").unwrap(), 1_000_000);
    vec![
        Entry::AttachKey { key, holder: holder.clone() },
        Entry::Fund { holder, amount, reference: "opening".into() },
    ]
}

fn usd(atoms: u128) -> Amount {
    Amount::new(AssetId::new("usd").unwrap(), atoms)
}

fn seller() -> Holder {
    Holder::new("seller").unwrap()
}

impl Railway {
    /// What a buyer would read for a price of 2,500, under challenge `name`.
    pub fn invite(&self, name: &str) -> Invitation {
        self.invite_for(name, 2_500)
    }

    /// What a buyer would read for a price of `atoms`, under challenge `name`.
    pub fn invite_for(&self, name: &str, atoms: u128) -> Invitation {
        let expires_at = START.after(Duration::from_mins(5));
        Invitation {
            protocol: "fake",
            method: self.rail.method().to_owned(),
            intent: "charge".into(),
            realm: "api.example.com".into(),
            challenge: name.to_owned(),
            request: self.rail.quote(&usd(atoms), &seller()).unwrap(),
            expires_at: Some(expires_at),
            expires: Some(expires_at.to_string()),
            description: None,
            body: None,
            echo: String::new(),
        }
    }

    /// The payer's credential for it.
    pub async fn pay(&self, invitation: &Invitation) -> Presented {
        let paid = self.payer.pay(invitation).await.ok().unwrap();
        present(invitation, paid)
    }
}

/// The credential as a protocol would hand it on.
pub fn present(invitation: &Invitation, paid: Paid) -> Presented {
    let Invitation { method, intent, realm, challenge, request, expires_at, expires, .. } =
        invitation.clone();
    let credential = json!({ "challenge": challenge, "payload": paid.payload });
    let named = *Fingerprint::of("trace", &[challenge.as_bytes()]).as_bytes();
    Presented {
        protocol: "fake",
        method,
        intent,
        realm,
        trace: TraceId::new(START, std::array::from_fn(|at| named[at])),
        route: "route".into(),
        scope: Scope::default().digest(),
        request,
        payload: paid.payload,
        source: paid.source,
        expires_at: expires_at.unwrap(),
        expires: expires.unwrap(),
        credential: Fingerprint::of("credential", &[credential.to_string().as_bytes()]),
        idempotency_key: None,
        challenge,
    }
}

/// Makes a test of every story of the suite. `$railway` is an expression, inside an async function,
/// that makes a fresh [`Railway`], or nothing where what the rail needs is not installed.
#[macro_export]
macro_rules! rail_suite {
    ($railway:expr) => {
        $crate::rail_suite!(@each $railway;
            a_quote_can_be_read_and_paid
            a_check_is_a_function_of_its_arguments
            a_proof_pays_for_one_challenge_alone
            a_proof_pays_for_what_was_asked_and_nothing_else
            a_strangers_name_does_not_fit_the_proof
            every_alteration_of_a_payload_is_refused
            odd_payloads_are_refused_calmly
            other_intents_are_refused
            what_cannot_be_moved_is_not_quoted
            a_payer_reads_before_it_signs
            a_payment_is_admitted_once_and_the_books_say_so
        );
    };
    (@each $railway:expr; $($story:ident)*) => {$(
        #[tokio::test]
        async fn $story() {
            let railway: Option<$crate::rail::Railway> = $railway.into();
            if let Some(railway) = railway {
                $crate::rail::$story(railway).await;
            }
        }
    )*};
}

/// What the seller asks, the buyer understands, and what the buyer pays, the seller finds.
pub async fn a_quote_can_be_read_and_paid(railway: Railway) {
    let invitation = railway.invite("a");
    let price = railway.payer.price(&invitation).unwrap();
    assert_eq!((price.amount, price.recipient), (usd(2_500), railway.recipient.clone()));
    let evidence = railway.rail.check(&railway.pay(&invitation).await, START).unwrap();
    assert_eq!((evidence.amount, evidence.payee), (usd(2_500), seller()));
    assert_eq!(evidence.payer, railway.payer.account());
}

/// The same arguments give the same answer.
pub async fn a_check_is_a_function_of_its_arguments(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    let first = railway.rail.check(&presented, START);
    assert_eq!(railway.rail.check(&presented, START), first);
}

/// a proof presented for another challenge is refused, or is recognised as the same money.
pub async fn a_proof_pays_for_one_challenge_alone(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    let evidence = railway.rail.check(&presented, START).unwrap();
    let moved = Presented { challenge: "b".into(), ..presented };
    match railway.rail.check(&moved, START) {
        Err(rejection) => assert_eq!(rejection, Rejection::Invalid),
        Ok(again) => {
            assert!(again.proofs.iter().any(|proof| evidence.proofs.contains(proof)));
        }
    }
}

/// B-14: realm, amount, asset and recipient are what was signed, or the proof is refused.
pub async fn a_proof_pays_for_what_was_asked_and_nothing_else(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    assert!(railway.rail.check(&presented, START).is_ok(), "unaltered, it is accepted");
    let alter = |name: &str, value: Value| {
        let mut altered = presented.clone();
        altered.request.insert(name.into(), value);
        altered
    };
    for altered in [
        Presented { realm: "api.example.org".into(), ..presented.clone() },
        alter("amount", "2499".into()),
        alter("amount", "25000".into()),
        alter("recipient", "mallory".into()),
        alter("currency", "sat".into()),
        alter("currency", "eur".into()),
        alter("amount", 2_500.into()),
    ] {
        assert!(railway.rail.check(&altered, START).is_err(), "{:?}", altered.request);
    }
}

/// B-09: the payer that is named is the payer that is charged.
pub async fn a_strangers_name_does_not_fit_the_proof(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    let renamed = Presented { source: Some(railway.stranger.account()), ..presented };
    if let Ok(evidence) = railway.rail.check(&renamed, START) {
        // A rail without identities says who claims to pay; its money is the proof itself.
        assert!(!evidence.proofs.is_empty());
    }
}

/// Whichever member of the payload is changed, the payment is refused.
pub async fn every_alteration_of_a_payload_is_refused(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    assert!(railway.rail.check(&presented, START).is_ok(), "unaltered, it is accepted");
    for (name, value) in presented.payload.clone() {
        let text = value.as_str().unwrap().to_owned();
        let last = if text.ends_with('A') { 'B' } else { 'A' };
        let swapped = format!("{}{last}", &text[..text.len() - 1]);
        let alterations = [
            None,
            Some(Value::Null),
            Some(json!("")),
            Some(json!(7)),
            Some(json!([text])),
            Some(json!(format!("{text}A"))),
            Some(json!(format!(" {text}"))),
            Some(json!(swapped)),
            Some(json!(&text[..text.len() / 2])),
        ];
        for alteration in alterations {
            let mut altered = presented.clone();
            match alteration.clone() {
                Some(value) => drop(altered.payload.insert(name.clone(), value)),
                None => drop(altered.payload.remove(&name)),
            }
            assert!(railway.rail.check(&altered, START).is_err(), "{name}: {alteration:?}");
        }
    }
}

/// Nothing in a payload makes a rail panic.
pub async fn odd_payloads_are_refused_calmly(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    for odd in [
        json!({}),
        json!({"type": "signature"}),
        json!({"type": {"a": [1, {"b": null}]}, "signature": "\u{0}"}),
        json!({"signature": "é".repeat(10_000)}),
        json!({"token": "", "amount": "-1", "seal": 1e99}),
    ] {
        let altered = Presented { payload: odd.as_object().unwrap().clone(), ..presented.clone() };
        assert!(railway.rail.check(&altered, START).is_err(), "{odd}");
        for source in [None, Some(String::new()), Some("did:key:z".repeat(999))] {
            let _ = railway.rail.check(&Presented { source, ..altered.clone() }, START);
        }
    }
}

/// A charge is a charge.
pub async fn other_intents_are_refused(railway: Railway) {
    let presented = railway.pay(&railway.invite("a")).await;
    let altered = Presented { intent: "session".into(), ..presented };
    assert_eq!(railway.rail.check(&altered, START).err(), Some(Rejection::Unsupported));
    let invitation = Invitation { intent: "session".into(), ..railway.invite("a") };
    assert!(railway.payer.price(&invitation).is_err());
    let invitation = Invitation { method: "barter".into(), ..railway.invite("a") };
    assert!(railway.payer.price(&invitation).is_err());
}

/// M-08: an asset the rail does not carry is refused; and so is a price of nothing, unless a buyer can
/// prove who it is without paying.
pub async fn what_cannot_be_moved_is_not_quoted(railway: Railway) {
    assert!(railway.rail.quote(&usd(1), &seller()).is_ok());
    if let Err(error) = railway.rail.quote(&usd(0), &seller()) {
        assert_eq!(error, Unquotable::Amount);
    } else {
        let proved = railway.pay(&railway.invite_for("a", 0)).await;
        let evidence = railway.rail.check(&proved, START).unwrap();
        assert_eq!((evidence.amount, evidence.money), (usd(0), Money::None));
    }
    let unknown = Amount::new(AssetId::new("eur").unwrap(), 1);
    assert_eq!(railway.rail.quote(&unknown, &seller()), Err(Unquotable::Asset));
}

/// CORE.C04: an offer that lacks something, or says something impossible, is not signed.
pub async fn a_payer_reads_before_it_signs(railway: Railway) {
    let invitation = railway.invite("a");
    assert!(railway.payer.price(&invitation).is_ok(), "unaltered, it can be paid");
    let alter = |name: &str, value: Option<Value>| {
        let mut altered = invitation.clone();
        match value {
            Some(value) => drop(altered.request.insert(name.into(), value)),
            None => drop(altered.request.remove(name)),
        }
        altered
    };
    for altered in [
        alter("amount", None),
        alter("amount", Some("".into())),
        alter("amount", Some("1e3".into())),
        alter("amount", Some(2_500.into())),
        alter("currency", None),
        alter("currency", Some("eur".into())),
        alter("recipient", None),
        alter("recipient", Some("".into())),
    ] {
        assert!(railway.payer.price(&altered).is_err(), "{:?}", altered.request);
        assert!(railway.payer.pay(&altered).await.is_err(), "{:?}", altered.request);
    }
}

/// From the offer to the books: paid once, delivered once, and the journal is sound.
pub async fn a_payment_is_admitted_once_and_the_books_say_so(railway: Railway) {
    let counter = Counter::new(&railway.rail, &railway.entries).await;
    let presented = railway.pay(&railway.invite("a")).await;
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.take(&presented).await, Err(Refusal::Answered));
    let sound = counter.audit();
    assert_eq!((sound.claimed, sound.delivered), (1, 1));
    assert_eq!(counter.earned(), 2_500);
}

/// A seller's counter with one rail and a book of its own, to present credentials at.
pub struct Counter {
    rail: Arc<dyn Rail>,
    store: Arc<MemoryStore>,
}

impl Counter {
    /// A counter whose book begins with these entries.
    pub async fn new(rail: &Arc<dyn Rail>, entries: &[Entry]) -> Self {
        let store = Arc::new(MemoryStore::new(START));
        for entry in entries {
            farthing_core::Store::enter(&*store, entry.clone(), START).await.unwrap();
        }
        Self { rail: Arc::clone(rail), store }
    }

    /// Presents a credential, and delivers what it buys.
    ///
    /// # Errors
    ///
    /// What the counter refuses.
    pub async fn take(&self, presented: &Presented) -> Result<(), Refusal> {
        let posted = self.admit(presented, Remedy::default()).await?;
        posted.delivered(Outcome { status: 200 }, None, START);
        Ok(())
    }

    /// Presents a credential, and fails to deliver what it buys, where the money is given back then.
    ///
    /// # Errors
    ///
    /// What the counter refuses.
    pub async fn take_in_vain(&self, presented: &Presented) -> Result<(), Refusal> {
        let posted = self.admit(presented, Remedy::Refund).await?;
        posted.failed(Outcome { status: 502 }, START);
        Ok(())
    }

    async fn admit(&self, presented: &Presented, remedy: Remedy) -> Result<Posted, Refusal> {
        let till = Till { protocols: vec![Arc::new(Hand(presented.clone()))], ..self.till() };
        let method = self.rail.method();
        let quote = Quote::new(method, "charge", usd(2_500), seller(), &Object::new());
        let ask = Ask {
            scope: Scope::default(),
            quotes: vec![Arc::new(quote)],
            description: None,
            offer_ttl: Duration::from_mins(5),
            authorization_is_taken: false,
            terms: Terms { repeatable: true, remedy, ..Terms::default() },
            vouchers_buy: true,
            idempotency_key: None,
        };
        match till.admit(&ask, &HeaderMap::new(), START).await? {
            Admission::Deliver(posted) => Ok(*posted),
            Admission::Again(_) => panic!("no answer is kept here"),
            Admission::Execute(_) => panic!("these terms hold nothing"),
            Admission::Managed(_) => panic!("no session is had here"),
            Admission::Unsubscribed(_) => panic!("no subscription is had here"),
            Admission::Challenge => panic!("a credential was presented"),
        }
    }

    fn till(&self) -> Till {
        let (rails, store) = (vec![Arc::clone(&self.rail)], self.store.clone());
        Till { protocols: Vec::new(), rails, store }
    }

    /// The story of a payment so far.
    pub fn story(&self, payment: &Payment) -> Story {
        let mut records = self.store.records();
        records.retain(|record| record.trace == Some(payment.trace));
        Story::tell(&records).unwrap()
    }

    /// Gives `atoms` of a payment back, or all that is left of it, by command; and says which way, and
    /// where it stands then.
    ///
    /// # Errors
    ///
    /// What the till refuses.
    pub async fn refund(
        &self,
        payment: &Payment,
        atoms: Option<u128>,
        reference: &str,
    ) -> Result<(Way, RefundStanding), RefundRefusal> {
        let asked = RefundAsk::of(&self.story(payment), atoms.map(usd))?;
        let ask = RefundAsk { reference: reference.into(), reason: "a story".into(), ..asked };
        let (refund, standing) = self.till().refund(&ask, &RefundLimits::default(), START).await?;
        Ok((refund.way, standing))
    }

    /// Orders all of a payment back, as the till does, and is gone before anything is sent.
    pub async fn order_refund(&self, payment: &Payment, reference: &str) -> Refund {
        let to = self.story(payment).from().unwrap().clone();
        let amount = payment.amount.clone();
        let mut request = RefundRequest::new(payment, amount, to, Way::Back, reference);
        request.refund.order = Some(self.rail.prepare_refund(&request.refund).await.unwrap());
        let refund = request.refund.clone();
        farthing_core::Store::refund(&*self.store, request, START).await.unwrap();
        refund
    }

    /// The same counter after a restart, with another rail.
    #[must_use]
    pub fn on(&self, rail: &Arc<dyn Rail>) -> Self {
        Self { rail: Arc::clone(rail), store: Arc::clone(&self.store) }
    }

    /// Lets recovery look at what is unfinished, at `now`.
    pub async fn recover(&self, now: Timestamp) -> Recovered {
        self.till().recover(&mut Recovery::default(), now).await
    }

    /// Every payment that was claimed, in order.
    pub fn payments(&self) -> Vec<Payment> {
        let claimed = |record: Record| {
            if let Event::Claimed { payment, .. } = record.event { Some(*payment) } else { None }
        };
        self.store.records().into_iter().filter_map(claimed).collect()
    }

    /// What every settlement cites, in order.
    pub fn settlements(&self) -> Vec<String> {
        let settled = |record: Record| match record.event {
            Event::Claimed { settlement, .. } => settlement.map(|it| it.reference),
            Event::Posted { settlement, .. } => Some(settlement.reference),
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Delivered { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Resumed { .. }
            | Event::PaidOut { .. }
            | Event::Channel { .. }
            | Event::Owner { .. }
            | Event::Subscription { .. }
            | Event::Erased { .. } => None,
        };
        self.store.records().into_iter().filter_map(settled).collect()
    }

    /// Recomputes the book from its journal, which is sound.
    pub fn audit(&self) -> Audit {
        audit(&self.store.records()).unwrap()
    }

    /// What the seller has earned, in atoms of `usd`.
    pub fn earned(&self) -> u128 {
        let account = "payable/seller/usd".parse().unwrap();
        self.audit().accounts.get(&account).map_or(0, |balance| balance.credits_posted)
    }
}

/// A protocol that hands over the same credential every time.
pub struct Hand(pub Presented);

impl Protocol for Hand {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn present(
        &self,
        _: &HeaderMap,
        _: &Ask,
        _: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        Ok(Some(self.0.clone()))
    }

    fn write_offers(&self, _: &[Offer], _: &HeaderMap, _: &mut HeaderMap) {}

    fn write_receipt(&self, _: &ReceiptFacts<'_>, _: &mut HeaderMap) {}
}
