//! One line is one step of a channel, and what the book says to it.

#![allow(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use proptest::prelude::*;

use super::EARLIER_MAX;
use crate::book::tests::{Desk, START, holder, key, purchase, usd};
use crate::*;

/// Alice's channel to the seller.
fn id(name: &str) -> ChannelId {
    ChannelId::new("prepaid", name).unwrap()
}

fn binding(of: &str) -> Fingerprint {
    Fingerprint::of("binding", &[of.as_bytes()])
}

fn voucher(name: &str, cumulative: u128) -> VoucherClaim {
    VoucherClaim {
        voucher: Voucher { channel: id(name), cumulative, signature: "s".into() },
        signer: "alice".into(),
        binding: binding("seller"),
        delta_min: 0,
        heard_since: None,
    }
}

fn opening(name: &str, atoms: u128, money: Money) -> ChannelOpening {
    let elsewhere = money == Money::Rail;
    let clearing = || "clearing/escrow/usd".parse::<Account>().unwrap();
    ChannelOpening {
        facts: ChannelFacts {
            id: id(name),
            trace: TraceId::new(START, [9; 10]),
            payer: "alice".into(),
            payee: holder("seller"),
            asset: usd(0).asset().clone(),
            signer: "alice".into(),
            binding: binding("seller"),
            inquiry: None,
            cash: elsewhere.then(|| "clearing/chain/usd".parse().unwrap()),
        },
        deposit: deposit(&format!("open {name}"), atoms, money, clearing),
        voucher: None,
    }
}

fn deposit(
    name: &str,
    atoms: u128,
    money: Money,
    clearing: impl Fn() -> Account,
) -> ChannelDeposit {
    let elsewhere = money == Money::Rail;
    ChannelDeposit {
        atoms,
        from: if elsewhere { Source::Account(clearing()) } else { Source::Key(key("alice")) },
        money,
        order: elsewhere.then(|| "0x76".into()),
        proofs: vec![Proof {
            fingerprint: Fingerprint::of("challenge", &[name.as_bytes()]),
            keep_until: Some(START.after(Duration::from_mins(5))),
        }],
    }
}

/// A request for what costs `atoms`, paid with a voucher.
fn bought(claim: VoucherClaim, what: &str, atoms: u128) -> ClaimRequest {
    let Voucher { channel, cumulative, .. } = &claim.voucher;
    let identity = channel.voucher(*cumulative);
    let mut request = purchase("x", Money::Book);
    request.payment.id = PaymentId::of(&identity);
    request.payment.amount = usd(atoms);
    request.payment.payer = String::new();
    request.payment.credential = Fingerprint::of("credential", &[what.as_bytes()]);
    request.proofs[0].fingerprint = identity;
    request.legs[0].from = Source::Account(channel.account(usd(0).asset()));
    request.legs[0].atoms = atoms;
    request.voucher = Some(Box::new(claim));
    request
}

fn top_up(name: &str, deposit_name: &str, atoms: u128) -> ChannelStep {
    ChannelStep::TopUp {
        channel: id(name),
        payer: "alice".into(),
        binding: binding("seller"),
        deposit: Box::new(deposit(deposit_name, atoms, Money::Book, || unreachable!())),
    }
}

fn close(name: &str, cumulative: Option<u128>) -> ChannelStep {
    let voucher = cumulative.map(|it| Box::new(voucher(name, it)));
    ChannelStep::Close { channel: id(name), voucher, exactly: false }
}

impl Desk {
    fn step(&mut self, step: ChannelStep) -> Result<Channel, ChannelError> {
        let (channel, record) = self.book.step(step, &self.shelf, self.now)?;
        self.write(record);
        Ok(channel)
    }

    fn open(&mut self, name: &str, atoms: u128) -> Result<Channel, ChannelError> {
        self.step(ChannelStep::Open(Box::new(opening(name, atoms, Money::Book))))
    }

    /// Pays `atoms` for `what` with a voucher of channel `a`, and says in words what came of it.
    fn pay(&mut self, cumulative: u128, what: &str, atoms: u128) -> String {
        match self.claim(bought(voucher("a", cumulative), what, atoms)) {
            Ok(Claim::Bought(payment, settlement)) => {
                let spent = settlement.channel.unwrap();
                assert_eq!(payment.payer, "alice", "the book knows whose channel it is");
                format!("bought, {} of {}", spent.spent, spent.accepted)
            }
            Ok(claim) => format!("{claim:?}").split('(').next().unwrap().to_lowercase(),
            Err(ClaimError::Channel(error)) => words(error),
            Err(error) => error.to_string(),
        }
    }

    /// Gives `atoms` back of what was bought with a voucher of channel `a`.
    fn give_back(&mut self, cumulative: u128, atoms: u128) {
        let payment = bought(voucher("a", cumulative), "x", atoms).payment;
        let answered = self.book.deliver(payment.id, Outcome { status: 200 }, self.now);
        self.write(answered);
        let to = id("a").account(usd(0).asset());
        let refund = RefundRequest::new(&payment, usd(atoms), to, Way::Back, "case 1");
        let (_, record) = self.book.refund(refund, self.now).unwrap();
        assert!(record.is_some());
        self.write(record);
    }

    /// Ten seconds pass.
    fn pass(&mut self) {
        self.now = self.now.after(Duration::from_secs(10));
    }

    fn balance(&self, account: &str) -> u128 {
        let account: Account = account.parse().unwrap();
        let balance = self.book.balances().of(&account);
        if account.kind == AccountKind::Clearing {
            return balance.debits_posted - balance.credits_posted;
        }
        balance.available()
    }

    /// Whatever happened, the journal is sound, and a book that reads it anew is the same book.
    #[track_caller]
    fn holds(&self) {
        audit(&self.journal).unwrap();
        let mut again = Book::default();
        for record in &self.journal {
            let line = record.to_json();
            again.replay(&Record::from_json(line.as_bytes()).unwrap()).unwrap();
        }
        assert_eq!(again.snapshot().difference(&self.book.snapshot()), None);
        let json = serde_json::to_string(&self.book.snapshot()).unwrap();
        let restored = Book::restore(serde_json::from_str(&json).unwrap());
        assert!(restored.channels().eq(self.book.channels()));
    }
}

fn words(error: ChannelError) -> String {
    match error {
        ChannelError::NotAdvancing(figures) => format!("not advancing, needs {}", figures.required),
        ChannelError::Short(figures) => format!("short, needs {}", figures.required),
        ChannelError::OverDeposit(figures) => format!("over the deposit of {}", figures.deposit),
        ChannelError::DeltaTooSmall(figures) => format!("too small, needs {}", figures.required),
        error => error.to_string(),
    }
}

/// S-14: one opening, three rounds, one close; and what was not spent is the payer's again.
#[test]
fn one_deposit_pays_for_many_requests_and_the_rest_goes_back() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    assert_eq!((desk.balance("prepaid/alice/usd"), desk.balance("channel/prepaid:a/usd")), (2, 10));
    assert_eq!(desk.pay(2, "one", 2), "bought, 2 of 2");
    assert_eq!(desk.pay(4, "two", 2), "bought, 4 of 4");
    assert_eq!(desk.pay(7, "three", 3), "bought, 7 of 7");
    let channel = desk.step(close("a", Some(7))).unwrap();
    assert_eq!((channel.state, channel.spent, channel.returned), (ChannelState::Closed, 7, 3));
    assert_eq!(channel.settled, 7, "what the book moves is settled");
    assert_eq!((desk.balance("prepaid/alice/usd"), desk.balance("payable/seller/usd")), (5, 7));
    assert_eq!(desk.balance("channel/prepaid:a/usd"), 0);
    let of_channel = |record: &&Record| matches!(record.event, Event::Channel { .. });
    assert_eq!(desk.journal.iter().filter(of_channel).count(), 2, "one open and one close");
    desk.holds();
}

/// R-05, B-12: a voucher buys what it newly authorises, once; a dearer route asks for more.
#[test]
fn a_voucher_buys_once_and_never_more_than_it_authorises() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    assert_eq!(desk.pay(1, "cheap", 1), "bought, 1 of 1");
    assert_eq!(desk.pay(1, "cheap", 1), "pending", "it is being answered");
    assert_eq!(desk.pay(1, "dear", 5), "not advancing, needs 6", "for another request");
    assert_eq!(desk.pay(2, "dear", 5), "short, needs 6");
    assert_eq!(desk.pay(0, "cheap", 1), "not advancing, needs 2");
    assert_eq!(desk.pay(6, "dear", 5), "bought, 6 of 6", "the control");
    desk.holds();
}

/// what was authorised ahead counts for the next request that advances, and for no other.
#[test]
fn what_is_authorised_ahead_counts_for_the_next_that_advances() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    desk.step(ChannelStep::Vouch(Box::new(voucher("a", 4)))).unwrap();
    let before = desk.journal.len();
    let again = desk.step(ChannelStep::Vouch(Box::new(voucher("a", 4)))).unwrap();
    assert_eq!((again.accepted, desk.journal.len()), (4, before), "equal is no step");
    let lower = desk.step(ChannelStep::Vouch(Box::new(voucher("a", 3))));
    assert!(matches!(lower, Err(ChannelError::NotAdvancing(_))));
    assert_eq!(desk.pay(4, "one", 2), "not advancing, needs 5");
    assert_eq!(desk.pay(5, "one", 5), "bought, 5 of 5");
    desk.holds();
}

/// S-01, S-02, B-04: the signer, the channel and what the session is for are compared on every action.
#[test]
fn a_voucher_of_somebody_else_or_for_something_else_is_none() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    let thief = VoucherClaim { signer: "mallory".into(), ..voucher("a", 5) };
    let elsewhere = VoucherClaim { binding: binding("other"), ..voucher("a", 5) };
    for (claim, error) in [
        (thief, ChannelError::Signer),
        (elsewhere, ChannelError::Binding),
        (voucher("b", 5), ChannelError::Unknown),
    ] {
        let claimed = desk.claim(bought(claim.clone(), "x", 1));
        assert_eq!(claimed, Err(ClaimError::Channel(error)), "paying");
        assert_eq!(desk.step(ChannelStep::Vouch(Box::new(claim.clone()))), Err(error), "ahead");
        let channel = claim.voucher.channel.clone();
        let voucher = Some(Box::new(claim));
        let closing = desk.step(ChannelStep::Close { channel, voucher, exactly: false });
        assert_eq!(closing, Err(error), "closing");
    }
    let mut other_payee = bought(voucher("a", 5), "x", 1);
    other_payee.payment.payee = holder("mallory");
    assert_eq!(desk.claim(other_payee), Err(ClaimError::Channel(ChannelError::Binding)));
    let mut by_other = top_up("a", "t", 1);
    if let ChannelStep::TopUp { payer, .. } = &mut by_other {
        *payer = "mallory".into();
    }
    assert_eq!(desk.step(by_other), Err(ChannelError::Signer));
    let mut elsewhere = top_up("a", "t", 1);
    if let ChannelStep::TopUp { binding: bound, .. } = &mut elsewhere {
        *bound = binding("other");
    }
    assert_eq!(desk.step(elsewhere), Err(ChannelError::Binding));
    let before = desk.journal.len();
    assert_eq!(desk.pay(5, "x", 1), "bought, 1 of 5", "the control");
    assert_eq!(desk.journal.len(), before + 1, "nothing was written before");
    desk.holds();
}

/// S-04: no voucher beyond the deposit, up to the largest number there is.
#[test]
fn a_voucher_stays_within_the_deposit() {
    for (cumulative, said) in [
        (11, "over the deposit of 10"),
        (u128::MAX, "over the deposit of 10"),
        (10, "bought, 1 of 10"),
    ] {
        let mut desk = Desk::new();
        desk.open("a", 10).unwrap();
        assert_eq!(desk.pay(cumulative, "x", 1), said, "{cumulative}");
    }
    let mut desk = Desk::new();
    let mut over = opening("a", 10, Money::Book);
    over.voucher = Some(voucher("a", 11));
    let opened = desk.step(ChannelStep::Open(Box::new(over)));
    assert!(matches!(opened, Err(ChannelError::OverDeposit(_))));
}

#[test]
fn a_voucher_advances_by_the_least_that_was_asked() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    let small = VoucherClaim { delta_min: 3, ..voucher("a", 2) };
    let claimed = desk.claim(bought(small, "x", 1)).unwrap_err();
    let ClaimError::Channel(error) = claimed else { panic!("{claimed}") };
    assert_eq!(words(error), "too small, needs 3");
    let enough = VoucherClaim { delta_min: 3, ..voucher("a", 3) };
    assert!(desk.claim(bought(enough, "x", 1)).is_ok(), "the control");
}

/// S-03, S-08: closed is for good: no voucher, no top-up, no opening under the same name.
#[test]
fn a_closed_channel_stays_closed() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    assert_eq!(desk.pay(2, "x", 2), "bought, 2 of 2");
    desk.step(close("a", None)).unwrap();
    let before = desk.journal.len();
    assert_eq!(desk.pay(3, "y", 1), "the channel is closed");
    assert_eq!(desk.step(top_up("a", "t", 1)), Err(ChannelError::Closed));
    assert_eq!(desk.open("a", 10), Err(ChannelError::Closed));
    assert!(desk.step(close("a", Some(2))).is_ok(), "closing again is no step");
    assert_eq!(desk.journal.len(), before);
    // Nor when the book has forgotten all but that it was.
    desk.book.channels = super::Channels::default();
    assert_eq!(desk.open("a", 2), Err(ChannelError::Closed));
    assert_eq!(desk.pay(3, "y", 1), "the channel is closed");
    assert!(desk.open("b", 2).is_ok(), "the control");
}

/// S-06: a close never takes more than was spent, whatever was authorised.
#[test]
fn closing_takes_what_was_spent() {
    for by in [Some(9), None] {
        let mut desk = Desk::new();
        desk.open("a", 10).unwrap();
        assert_eq!(desk.pay(9, "x", 4), "bought, 4 of 9");
        let channel = desk.step(close("a", by)).unwrap();
        assert_eq!((channel.settled, channel.returned), (4, 6), "{by:?}");
        assert_eq!(desk.balance("payable/seller/usd"), 4);
        desk.holds();
    }
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    assert_eq!(desk.pay(9, "x", 4), "bought, 4 of 9");
    let low = desk.step(close("a", Some(3))).unwrap_err();
    assert_eq!(words(low), "not advancing, needs 4", "less than was spent");
}

/// S-19: one deposit is not put into two channels.
#[test]
fn a_deposit_is_in_one_channel() {
    let mut desk = Desk::new();
    desk.open("a", 8).unwrap();
    assert_eq!(desk.open("b", 8), Err(ChannelError::Overdrawn));
    let mut reused = opening("b", 2, Money::Book);
    reused.deposit.proofs = opening("a", 2, Money::Book).deposit.proofs;
    let opened = desk.step(ChannelStep::Open(Box::new(reused)));
    assert_eq!(opened, Err(ChannelError::Taken), "one challenge opens one channel");
    assert!(desk.open("b", 4).is_ok(), "the control");
    desk.holds();
}

#[test]
fn opening_and_topping_up_again_is_no_step() {
    let mut desk = Desk::new();
    desk.open("a", 5).unwrap();
    let before = desk.journal.len();
    assert_eq!(desk.open("a", 5).unwrap().deposit, 5);
    let mut other = opening("a", 5, Money::Book);
    other.facts.signer = "bob".into();
    assert_eq!(desk.step(ChannelStep::Open(Box::new(other))), Err(ChannelError::Taken));
    assert_eq!(desk.journal.len(), before);
    assert_eq!(desk.step(top_up("a", "t", 3)).unwrap().deposit, 8);
    assert_eq!(desk.step(top_up("a", "t", 3)).unwrap().deposit, 8, "once");
    assert_eq!(desk.step(top_up("a", "u", 3)).unwrap().deposit, 11);
    desk.holds();
}

/// An answer that failed is owed: the same voucher gets it, and its money goes back into the channel.
#[test]
fn what_is_given_back_goes_back_to_where_it_came_from() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    for (cumulative, open) in [(4, true), (8, false)] {
        assert!(desk.pay(cumulative, "x", 4).starts_with("bought"));
        let payment = PaymentId::of(&id("a").voucher(cumulative));
        let record = desk.book.fail(payment, Outcome { status: 500 }, desk.now);
        desk.write(record);
        assert!(desk.pay(cumulative, "x", 4).starts_with("bought"), "owed to the same voucher");
        let record = desk.book.fail(payment, Outcome { status: 500 }, desk.now);
        desk.write(record);
        if !open {
            desk.step(close("a", None)).unwrap();
        }
        let facts = desk.book.all_unfinished().next().unwrap();
        let to = facts.from.unwrap();
        let mut refund = RefundRequest::new(&facts.payment, usd(4), to, Way::Back, "owed");
        refund.refund.reason = "the handler failed".into();
        let (_, record) = desk.book.refund(refund, desk.now).unwrap();
        desk.write(record);
        let channel = desk.book.channel(&id("a")).unwrap().clone();
        if open {
            assert_eq!((channel.spent, channel.available(), channel.refundable()), (0, 4, 10));
        } else {
            assert_eq!(desk.balance("prepaid/alice/usd"), 12, "all of it");
        }
        desk.holds();
    }
}

/// What more is taken for an answer that is being given comes from what vouchers have authorised.
#[test]
fn more_is_taken_as_far_as_vouchers_allow() {
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    desk.pay(3, "stream", 1);
    let payment = PaymentId::of(&id("a").voucher(3));
    let take = |atoms| ChannelStep::Take { channel: id("a"), payment, atoms, units: 1 };
    assert_eq!(desk.step(take(2)).unwrap().spent, 3);
    let short = desk.step(take(2)).unwrap_err();
    assert_eq!(words(short), "short, needs 5");
    desk.step(ChannelStep::Vouch(Box::new(voucher("a", 5)))).unwrap();
    assert_eq!(desk.step(take(2)).unwrap().spent, 5);
    let stranger = PaymentId::from_bytes([1; 16]);
    let step = ChannelStep::Take { channel: id("a"), payment: stranger, atoms: 0, units: 1 };
    assert_eq!(desk.step(step), Err(ChannelError::NoPayment));
    let record = desk.book.deliver(payment, Outcome { status: 200 }, desk.now);
    desk.write(record);
    assert_eq!(desk.step(take(0)), Err(ChannelError::NoPayment), "the answer was given");
    desk.holds();
}

/// S-13: what was taken for an answer and bought nothing goes back where it came from, once: to the channel,
/// and once that is closed to the payer's account. An answer of which something was taken is not given a
/// second time, and its money is not given back by itself.
#[test]
fn what_bought_nothing_goes_back() {
    for open in [true, false] {
        let mut desk = Desk::new();
        desk.open("a", 10).unwrap();
        assert_eq!(desk.pay(8, "stream", 1), "bought, 1 of 8");
        let payment = PaymentId::of(&id("a").voucher(8));
        let take = |atoms| ChannelStep::Take { channel: id("a"), payment, atoms, units: 1 };
        let keep = |keep| ChannelStep::Return { channel: id("a"), payment, keep };
        let unfinished = |desk: &Desk| desk.book.all_unfinished().next().unwrap().open;
        assert_eq!(desk.step(keep(0)).unwrap().spent, 1, "the price is not part of it");
        assert_eq!(desk.step(take(5)).unwrap().spent, 6);
        desk.book.give_back(payment, true);
        assert_eq!(unfinished(&desk), Open::Given, "not owed, and not to be made up for");
        assert_eq!(desk.pay(8, "stream", 1), "delivered", "as far as it was paid for");
        if !open {
            desk.step(close("a", None)).unwrap();
            assert_eq!(desk.balance("prepaid/alice/usd"), 6);
        }
        for _ in 0..2 {
            let channel = desk.step(keep(2)).unwrap();
            if open {
                assert_eq!((channel.spent, channel.available(), channel.refundable()), (3, 5, 7));
            } else {
                assert_eq!(desk.balance("prepaid/alice/usd"), 9);
            }
            assert_eq!(desk.balance("payable/seller/usd"), 3);
        }
        assert_eq!(desk.step(keep(9)).unwrap().spent, desk.step(keep(2)).unwrap().spent);
        let record = desk.book.deliver(payment, Outcome { status: 200 }, desk.now);
        desk.write(record);
        assert_eq!(desk.step(keep(0)), Err(ChannelError::NoPayment), "the answer was given");
        desk.holds();
    }
}

/// S-05, S-09, S-21: on a rail, a deposit counts once it is confirmed, settlements only grow, whoever
/// sends them, and the payer's request to close stops the channel.
#[test]
fn a_channel_on_a_rail_follows_the_rail() {
    let mut desk = Desk::new();
    let on_chain =
        |cumulative| VoucherClaim { heard_since: Some(START), ..voucher("a", cumulative) };
    let settlement = || Settlement::new("0xabc".into(), START);
    let opened = desk.step(ChannelStep::Open(Box::new(opening("a", 10, Money::Rail)))).unwrap();
    assert_eq!((opened.state, opened.deposit), (ChannelState::Opening, 0));
    let claimed = desk.claim(bought(on_chain(1), "x", 1));
    assert_eq!(claimed, Err(ClaimError::Channel(ChannelError::Opening)));
    let confirm = ChannelStep::Confirm { channel: id("a"), settlement: settlement() };
    assert_eq!(desk.step(confirm.clone()).unwrap().deposit, 10);
    assert_eq!(desk.step(confirm).unwrap().deposit, 10, "once");
    assert!(desk.claim(bought(on_chain(4), "x", 4)).is_ok());
    let settle =
        |settled| ChannelStep::Settle { channel: id("a"), settled, settlement: settlement() };
    assert_eq!(desk.step(settle(5)), Err(ChannelError::OutOfOrder), "never signed for");
    assert_eq!(desk.step(settle(3)).unwrap().settled, 3);
    let before = desk.journal.len();
    assert_eq!(desk.step(settle(3)).unwrap().settled, 3);
    assert_eq!(desk.journal.len(), before, "equality is no progress");
    assert_eq!(desk.step(settle(2)), Err(ChannelError::OutOfOrder), "less was settled before");
    assert_eq!(desk.balance("clearing/chain/usd"), 3);
    let seen = |settled, close_requested| ChannelStep::Note {
        channel: id("a"),
        seen: ChannelSeen { at: START, settled, close_requested },
    };
    let by_other = desk.step(seen(4, None)).unwrap();
    assert_eq!(by_other.settled, 4, "whoever settled, it is settled");
    let until = START.after(Duration::from_mins(15));
    let asked = desk.step(seen(4, Some(until))).unwrap();
    assert_eq!(asked.state, ChannelState::CloseRequested { until });
    let claimed = desk.claim(bought(on_chain(5), "y", 1));
    assert_eq!(claimed, Err(ClaimError::Channel(ChannelError::Closed)), "the service stops");
    assert_eq!(desk.step(seen(4, None)).unwrap().state, ChannelState::Open);
    assert!(desk.claim(bought(on_chain(5), "y", 1)).is_ok(), "the payer thought better of it");
    assert_eq!(desk.step(close("a", None)).unwrap().state, ChannelState::Closing);
    let closed = ChannelStep::Closed { channel: id("a"), settled: 5, settlement: settlement() };
    let channel = desk.step(closed).unwrap();
    assert_eq!((channel.settled, channel.returned, channel.spent), (5, 5, 5));
    assert_eq!(desk.balance("clearing/escrow/usd"), 0, "deposited, settled, given back");
    assert_eq!((desk.balance("clearing/chain/usd"), desk.balance("payable/seller/usd")), (5, 5));
    desk.holds();
}

/// S-16: a rail that has closed a channel by itself ends it, whatever was settled; what was spent and not
/// settled in time shows where the deposit came from.
#[test]
fn a_rail_that_closes_by_itself_ends_the_channel() {
    let mut desk = Desk::new();
    let settlement = || Settlement::new("0xabc".into(), START);
    desk.step(ChannelStep::Open(Box::new(opening("a", 10, Money::Rail)))).unwrap();
    desk.step(ChannelStep::Confirm { channel: id("a"), settlement: settlement() }).unwrap();
    desk.claim(bought(voucher("a", 4), "x", 4)).unwrap();
    let closed = ChannelStep::Closed { channel: id("a"), settled: 1, settlement: settlement() };
    for _ in 0..2 {
        let channel = desk.step(closed.clone()).unwrap();
        assert_eq!((channel.state, channel.returned), (ChannelState::Closed, 6));
    }
    assert_eq!(desk.balance("payable/seller/usd"), 4);
    assert_eq!(desk.balance("clearing/escrow/usd"), 3, "spent and never settled");
    desk.holds();
}

#[test]
fn what_a_rail_settles_beyond_what_was_spent_is_the_payers() {
    let mut desk = Desk::new();
    let settlement = || Settlement::new("0xabc".into(), START);
    desk.step(ChannelStep::Open(Box::new(opening("a", 10, Money::Rail)))).unwrap();
    desk.step(ChannelStep::Confirm { channel: id("a"), settlement: settlement() }).unwrap();
    desk.claim(bought(voucher("a", 6), "x", 4)).unwrap();
    desk.step(close("a", None)).unwrap();
    let closed = ChannelStep::Closed { channel: id("a"), settled: 6, settlement: settlement() };
    desk.step(closed).unwrap();
    assert_eq!(desk.balance("prepaid/alice/usd"), 12 + 2);
    assert_eq!(desk.balance("clearing/escrow/usd"), 0);
    desk.holds();
}

#[test]
fn a_channel_that_nobody_has_heard_of_takes_no_voucher() {
    let mut desk = Desk::new();
    let settlement = Settlement::new("0xabc".into(), START);
    desk.step(ChannelStep::Open(Box::new(opening("a", 10, Money::Rail)))).unwrap();
    desk.step(ChannelStep::Confirm { channel: id("a"), settlement }).unwrap();
    let later = START.after(Duration::from_mins(1));
    let fresh = |cumulative| VoucherClaim { heard_since: Some(later), ..voucher("a", cumulative) };
    let claimed = desk.claim(bought(fresh(1), "x", 1));
    assert_eq!(claimed, Err(ClaimError::Channel(ChannelError::Stale)));
    let seen = ChannelSeen { at: later, settled: 0, close_requested: None };
    let before = desk.journal.len();
    desk.step(ChannelStep::Note { channel: id("a"), seen }).unwrap();
    assert_eq!(desk.journal.len(), before, "nothing new is nothing to write");
    assert!(desk.claim(bought(fresh(1), "x", 1)).is_ok(), "the control");
}

#[test]
fn a_deposit_that_never_came_closes_the_channel_it_was_to_open() {
    let mut desk = Desk::new();
    desk.step(ChannelStep::Open(Box::new(opening("a", 10, Money::Rail)))).unwrap();
    let channel = desk.step(ChannelStep::Abandon { channel: id("a") }).unwrap();
    assert_eq!((channel.state, channel.deposit), (ChannelState::Closed, 0));
    assert_eq!(desk.balance("clearing/escrow/usd"), 0);
    desk.holds();
}

/// The audit names a journal in which a channel paid more than it was authorised to.
#[test]
fn a_forged_voucher_is_found_out() {
    let sound = || {
        let mut desk = Desk::new();
        desk.open("a", 10).unwrap();
        desk.pay(4, "x", 4);
        desk.step(close("a", None)).unwrap();
        desk.journal
    };
    assert!(audit(&sound()).is_ok(), "the control");
    let alter = |change: fn(&mut Record)| {
        let mut journal = sound();
        journal.iter_mut().for_each(change);
        audit(&journal).unwrap_err().what
    };
    let lower = alter(|record| {
        if let Event::Claimed { payment, .. } = &mut record.event {
            payment.voucher.as_mut().unwrap().cumulative = 3;
        }
    });
    assert_eq!(lower, What::ChannelSum(id("a")), "spent beyond what was authorised");
    let stray = alter(|record| {
        if let Event::Claimed { payment, .. } = &mut record.event {
            payment.voucher = None;
        }
    });
    assert!(matches!(stray, What::ChannelAccount(_)), "{stray}");
    let kept = alter(|record| {
        if matches!(record.event, Event::Channel { step: ChannelEvent::Closed { .. }, .. }) {
            record.transfers.clear();
        }
    });
    // The record that should have given it back moves nothing: what is left says so at the end.
    assert_eq!(kept, What::ChannelSum(id("a")));
}

proptest! {
    /// S-11, S-07: whatever is asked in whatever order, a deposit is what was spent and what is left, and no
    /// more is ever spent than was authorised.
    #[test]
    fn deposits_are_conserved(steps in prop::collection::vec((0..5_u8, 0..14_u128, 0..6_u128), 1..60)) {
        let mut desk = Desk::new();
        let mut served = 0;
        desk.open("a", 6).unwrap();
        for (at, (verb, n, atoms)) in steps.into_iter().enumerate() {
            match verb {
                0 | 1 => {
                    let said = desk.pay(n, &format!("{at}"), atoms);
                    if said.starts_with("bought") { served += atoms; }
                }
                2 => drop(desk.step(ChannelStep::Vouch(Box::new(voucher("a", n))))),
                3 => drop(desk.step(top_up("a", &format!("t{}", n % 4), atoms))),
                _ if n == 13 => drop(desk.step(close("a", Some(atoms)))),
                _ => {}
            }
            let channel = desk.book.channel(&id("a")).unwrap();
            let left = desk.balance("channel/prepaid:a/usd");
            prop_assert_eq!(channel.deposit, channel.spent + left + channel.returned);
            prop_assert!(channel.spent <= channel.accepted && channel.accepted <= channel.deposit);
            prop_assert_eq!(served, channel.spent);
            let all = desk.balance("prepaid/alice/usd") + left + desk.balance("payable/seller/usd");
            prop_assert_eq!(all, 12);
        }
        desk.holds();
    }
}

/// Who has paid in a session is erased once it is closed, and not before; what is read anew is the same
/// book.
#[test]
fn who_has_paid_in_a_session_is_erased_once_it_is_closed() {
    let mut desk = Desk::new();
    desk.open("a", 12).unwrap();
    assert_eq!(desk.pay(12, "x", 12), "bought, 12 of 12");
    let payment = PaymentId::of(&id("a").voucher(12));
    let record = desk.book.deliver(payment, Outcome { status: 200 }, desk.now);
    desk.write(record);
    let plan = |desk: &Desk| {
        let whose = Whose::Payer { name: "alice".into(), key: None };
        let erasure = Erasure { whose, reason: "case 17".into(), key: ErasureKey([3; 32]) };
        let mut survey = Survey::begin(erasure);
        desk.journal.iter().for_each(|record| survey.take(record));
        survey.end(&desk.book)
    };
    let open = plan(&desk).err();
    assert_eq!(open, Some(EraseError::Open(vec![StillOpen::Session(id("a"))])));
    desk.step(close("a", None)).unwrap();
    let plan = plan(&desk).unwrap();
    let mut anew = Vec::new();
    for record in &mut desk.journal {
        if let Some(rewritten) = plan.rewrite(record.seq, &record.to_json()).unwrap() {
            *record = Record::from_json(rewritten.line.as_bytes()).unwrap();
            anew.push(rewritten);
        }
    }
    for record in desk.book.erase(&plan, &anew, desk.now) {
        desk.write(Some(record));
    }
    let journal: String = desk.journal.iter().map(Record::to_json).collect();
    let known = serde_json::to_string(&desk.book.snapshot()).unwrap();
    assert!(!journal.contains("alice") && !known.contains("alice"), "{journal} {known}");
    assert!(journal.contains("\"12\""), "what was paid stays");
    desk.holds();
}

/// A channel of ten that a rail has opened.
fn on_a_rail(atoms: u128) -> Desk {
    let mut desk = Desk::new();
    desk.step(ChannelStep::Open(Box::new(opening("a", atoms, Money::Rail)))).unwrap();
    let settlement = Settlement::new("0xabc".into(), START);
    desk.step(ChannelStep::Confirm { channel: id("a"), settlement }).unwrap();
    desk
}

/// What could be settled by: the voucher that says no more than was taken, and the one that says no less.
#[track_caller]
fn settles(desk: &Desk, covered: Option<u128>, covering: Option<u128>) {
    let channel = desk.book.channel(&id("a")).unwrap();
    let of = |voucher: Option<Voucher>| voucher.map(|it| it.cumulative);
    assert_eq!((of(channel.covered()), of(channel.covering())), (covered, covering), "{channel:?}");
    assert_eq!(channel.due(), covered.unwrap_or(0).saturating_sub(channel.settled));
}

/// S-06: where the highest voucher is ahead of what was spent, an earlier one that is not is kept to settle
/// by, and the payer's last one too; what is given back is not settled.
#[test]
fn a_voucher_that_says_no_more_than_was_spent_is_kept() {
    let mut desk = on_a_rail(100);
    settles(&desk, None, None);
    assert_eq!(desk.pay(30, "x", 10), "bought, 10 of 30");
    settles(&desk, None, Some(30));
    assert_eq!(desk.pay(50, "y", 10), "bought, 20 of 50");
    assert_eq!(desk.pay(100, "z", 20), "bought, 40 of 100");
    settles(&desk, Some(30), Some(50));
    assert_eq!(desk.book.channel(&id("a")).unwrap().owed(), 40);
    // The payer's last voucher says exactly what was spent, and is lower than another before it.
    let last = Some(Box::new(voucher("a", 40)));
    let close = ChannelStep::Close { channel: id("a"), voucher: last, exactly: true };
    assert_eq!(desk.step(close).unwrap().state, ChannelState::Closing);
    settles(&desk, Some(40), Some(40));
    let settlement = Settlement::new("0xdef".into(), START);
    let closed = ChannelStep::Closed { channel: id("a"), settled: 40, settlement };
    let channel = desk.step(closed).unwrap();
    assert_eq!((channel.settled, channel.returned, channel.earlier.len()), (40, 60, 0));
    desk.holds();
}

/// A payer who signs any number of vouchers makes the book keep a few of them: the last that were covered, so
/// that something may be given back, and some of those ahead.
#[test]
fn few_vouchers_are_kept() {
    let mut desk = on_a_rail(10_000);
    for at in 1..=100 {
        assert_eq!(desk.pay(at * 10, &format!("{at}"), 10), format!("bought, {0} of {0}", at * 10));
    }
    settles(&desk, Some(1_000), Some(1_000));
    desk.give_back(1_000, 10);
    settles(&desk, Some(990), Some(990));
    for ahead in 1..=200 {
        let ahead = ChannelStep::Vouch(Box::new(voucher("a", 1_000 + ahead * 3)));
        desk.step(ahead).unwrap();
    }
    let kept = desk.book.channel(&id("a")).unwrap().earlier.clone();
    assert!(kept.len() <= EARLIER_MAX, "{kept:?}");
    settles(&desk, Some(990), Some(990));
    // Those ahead that are left lie apart, so that little is lost wherever the payer stops.
    let ahead: Vec<u128> = kept.iter().map(|it| it.cumulative).filter(|it| *it > 990).collect();
    let widest = ahead.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(ahead.len() >= 4 && widest <= 400, "{ahead:?}");
    // A channel whose money lies in the book keeps none.
    let mut desk = Desk::new();
    desk.open("a", 10).unwrap();
    (1..=10).for_each(|at| drop(desk.pay(at, &format!("{at}"), 1)));
    assert!(desk.book.channel(&id("a")).unwrap().earlier.is_empty());
}

/// What is owed is owed since it was taken, and what a settlement leaves since then.
#[test]
fn what_is_owed_has_an_age() {
    let mut desk = on_a_rail(100);
    let owed_since = |desk: &Desk| desk.book.channel(&id("a")).unwrap().owed_since;
    assert_eq!(owed_since(&desk), None);
    desk.pass();
    desk.pay(10, "x", 10);
    let first = desk.now;
    desk.pass();
    desk.pay(25, "y", 10);
    assert_eq!(owed_since(&desk), Some(first));
    desk.pass();
    let settle = |settled| ChannelStep::Settle {
        channel: id("a"),
        settled,
        settlement: Settlement::new("0xabc".into(), START),
    };
    desk.step(settle(10)).unwrap();
    assert_eq!(owed_since(&desk), Some(desk.now), "ten are left, from now on");
    desk.step(settle(25)).unwrap();
    assert_eq!(owed_since(&desk), None, "more than was taken");
    desk.holds();
}

/// S-09: when the payer has asked to close is known until it is done, also over a restart; that it is late is
/// noted once; and a payer who thinks better of it has asked for nothing.
#[test]
fn a_close_that_is_late_is_noted_once() {
    let mut desk = on_a_rail(10);
    let overdue = || ChannelStep::Overdue { channel: id("a") };
    let note = |close_requested| ChannelStep::Note {
        channel: id("a"),
        seen: ChannelSeen { at: START, settled: 0, close_requested },
    };
    let before = desk.journal.len();
    desk.step(overdue()).unwrap();
    assert_eq!(desk.journal.len(), before, "nobody has asked for anything");
    let until = START.after(Duration::from_mins(15));
    desk.step(note(Some(until))).unwrap();
    desk.step(note(None)).unwrap();
    assert_eq!(desk.book.channel(&id("a")).unwrap().closing, None);
    desk.step(note(Some(until))).unwrap();
    let since = desk.now;
    desk.pass();
    let channel = desk.step(close("a", None)).unwrap();
    let closing = Closing { since, until: Some(until), is_overdue: false };
    assert_eq!((channel.state, channel.closing), (ChannelState::Closing, Some(closing)));
    assert_eq!(closing.late_at(Duration::from_mins(10)), since.after(Duration::from_secs(450)));
    let before = desk.journal.len();
    for _ in 0..2 {
        let channel = desk.step(overdue()).unwrap();
        assert!(channel.closing.unwrap().is_overdue);
        assert_eq!(desk.journal.len(), before + 1);
    }
    assert_eq!(audit(&desk.journal).unwrap().sessions_overdue, 1, "for whoever looks at the book");
    let settlement = Settlement::new("0xabc".into(), START);
    let closed = ChannelStep::Closed { channel: id("a"), settled: 0, settlement };
    assert_eq!(desk.step(closed).unwrap().closing, None);
    assert_eq!(audit(&desk.journal).unwrap().sessions_overdue, 0);
    desk.holds();
}

/// What has changed is told, and nothing else, however many channels there are; in another life of the book,
/// everything.
#[test]
fn what_has_changed_is_told_and_nothing_else() {
    let mut desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.open(name, 2).unwrap();
    }
    let told = |desk: &Desk, since, named: &[ChannelId]| {
        let news = desk.book.channel_news(since, named);
        let names: Vec<String> =
            news.channels.iter().map(|it| it.facts.id.on_rail().to_owned()).collect();
        (names.join(" "), news.is_all, news.until)
    };
    let (all, is_all, until) = told(&desk, None, &[]);
    assert_eq!((all.as_str(), is_all), ("a b c", true));
    assert_eq!(told(&desk, Some(until), &[]), (String::new(), false, until), "nothing is new");
    assert_eq!(told(&desk, Some(until), &[id("c"), id("x")]).0, "c");
    desk.pay(1, "x", 1);
    desk.pay(2, "y", 1);
    desk.step(close("b", None)).unwrap();
    let (news, is_all, later) = told(&desk, Some(until), &[]);
    assert_eq!((news.as_str(), is_all), ("a b", false), "one that was closed too");
    assert_eq!(told(&desk, Some(later), &[]).0, "");
    // What is given back into a channel changes it.
    desk.give_back(2, 1);
    assert_eq!(told(&desk, Some(later), &[]).0, "a");
    let opened = desk.book.open(desk.now);
    desk.write(Some(opened));
    let (all, is_all, _) = told(&desk, Some(later), &[]);
    assert_eq!((all.as_str(), is_all), ("a c", true), "another life");
}

/// A rail that tells of all its channels is believed of those that somebody has looked at, and of which it
/// has told nothing since. One of which it told something takes vouchers for as long as it would have if
/// nothing had been heard since: whoever has just opened a channel need not wait until somebody has looked.
#[test]
fn what_a_rail_says_of_all_counts_for_those_it_told_nothing_of() {
    let mut desk = on_a_rail(10);
    let later = |minutes| START.after(Duration::from_mins(minutes));
    let pay = |desk: &mut Desk, cumulative, minutes| {
        let fresh = VoucherClaim { heard_since: Some(later(minutes)), ..voucher("a", cumulative) };
        let claimed = desk.claim(bought(fresh, &format!("{cumulative}"), 1));
        claimed.map(drop).map_err(|error| error.to_string())
    };
    let heard = |minutes, told: &[&str], anew| ChannelsHeard {
        method: "prepaid".into(),
        at: later(minutes),
        told: told.iter().map(|name| id(name)).collect(),
        anew,
    };
    let stale = || Err(ClaimError::Channel(ChannelError::Stale).to_string());
    let note = |minutes| ChannelStep::Note {
        channel: id("a"),
        seen: ChannelSeen { at: later(minutes), settled: 0, close_requested: None },
    };
    assert_eq!(pay(&mut desk, 1, 1), stale());
    desk.book.heard_of_channels(&heard(2, &["b"], false));
    assert_eq!(pay(&mut desk, 1, 1), Ok(()), "nothing was told of it");
    desk.book.heard_of_channels(&heard(4, &["a"], false));
    assert_eq!(pay(&mut desk, 2, 2), Ok(()), "what was heard before");
    assert_eq!(pay(&mut desk, 3, 3), stale(), "something was, whatever it was");
    desk.book.heard_of_channels(&heard(5, &[], false));
    assert_eq!(pay(&mut desk, 3, 3), stale(), "and stays so");
    desk.step(note(4)).unwrap();
    assert_eq!(pay(&mut desk, 3, 5), Ok(()), "somebody has looked");
    desk.book.heard_of_channels(&heard(6, &[], true));
    assert_eq!(pay(&mut desk, 4, 5), Ok(()), "what was heard before");
    assert_eq!(pay(&mut desk, 5, 6), stale(), "something may have been told");
    desk.step(note(6)).unwrap();
    assert_eq!(pay(&mut desk, 5, 6), Ok(()));
}

/// A channel is not closed while a deposit is on its way into it; and where the rail has closed it by itself,
/// the deposit is given up with it, wherever it was.
#[test]
fn a_deposit_on_its_way_is_waited_for_or_given_up() {
    let clearing = || "clearing/escrow/usd".parse::<Account>().unwrap();
    let more = || ChannelStep::TopUp {
        channel: id("a"),
        payer: "alice".into(),
        binding: binding("seller"),
        deposit: Box::new(deposit("more", 5, Money::Rail, clearing)),
    };
    let settlement = || Settlement::new("0xabc".into(), START);
    let mut desk = on_a_rail(10);
    desk.pay(4, "x", 4);
    assert_eq!(desk.step(more()).unwrap().pending.unwrap().atoms, 5);
    assert_eq!(desk.step(close("a", None)), Err(ChannelError::Busy));
    let confirm = ChannelStep::Confirm { channel: id("a"), settlement: settlement() };
    assert_eq!(desk.step(confirm).unwrap().deposit, 15);
    assert_eq!(desk.step(close("a", None)).unwrap().state, ChannelState::Closing, "the control");
    desk.holds();
    let mut desk = on_a_rail(10);
    desk.pay(4, "x", 4);
    desk.step(more()).unwrap();
    let closed = ChannelStep::Closed { channel: id("a"), settled: 4, settlement: settlement() };
    let channel = desk.step(closed).unwrap();
    assert_eq!((channel.deposit, channel.returned, channel.pending), (10, 6, None));
    assert_eq!(desk.balance("clearing/escrow/usd"), 0);
    assert_eq!(desk.book.balances().all_pending().count(), 0);
    desk.holds();
}
