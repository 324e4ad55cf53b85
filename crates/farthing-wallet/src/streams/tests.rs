use super::*;

fn bill() -> Bill {
    Bill {
        unit: 1,
        by_time: false,
        before: 100,
        signed: 101,
        cap: 40,
        lead: 8,
        came: true,
        repeats: 0,
    }
}

fn next(bill: &mut Bill, required: u128) -> Result<u128, Stopped> {
    let answer = bill.answer(required, Duration::ZERO);
    if let Ok(signed) = answer {
        bill.signed = signed;
    }
    answer
}

/// Each voucher is for a lead ahead, and none is signed before something has come for the last one.
#[test]
fn a_wallet_signs_as_a_stream_comes() {
    let mut bill = bill();
    assert_eq!(next(&mut bill, 102), Ok(109));
    assert_eq!(next(&mut bill, 110), Err(Stopped::Nothing), "nothing has come");
    bill.came = true;
    assert_eq!(next(&mut bill, 117), Ok(117), "the control: all of the lead at once");
    bill.came = true;
    assert_eq!(next(&mut bill, 126), Err(Stopped::Lead { asked: 9, lead: 8 }));
    assert_eq!(next(&mut bill, 125), Ok(125));
}

/// No stream costs more than a payment may, to the atom.
#[test]
fn a_wallet_stops_at_the_cap() {
    let mut bill = Bill { signed: 136, ..bill() };
    assert_eq!(next(&mut bill, 137), Ok(140), "what is left");
    bill.came = true;
    assert_eq!(next(&mut bill, 141), Err(Stopped::Cap));
    assert_eq!(bill.signed, 140);
}

/// A voucher that was lost is sent again, and not for ever.
#[test]
fn what_was_signed_is_said_again_a_few_times() {
    let mut bill = bill();
    for _ in 0..REPEATS_MAX {
        assert_eq!(next(&mut bill, 101), Ok(101));
    }
    assert_eq!(next(&mut bill, 101), Err(Stopped::Nothing));
}

/// Where time is paid for, it counts as what has come, and only as much of it as has passed.
#[test]
fn time_counts_where_time_is_sold() {
    let mut bill = Bill { by_time: true, came: false, ..bill() };
    assert_eq!(bill.answer(104, Duration::from_secs(1)), Err(Stopped::Nothing));
    assert_eq!(bill.answer(103, Duration::from_secs(1)), Ok(109), "the second that begins, too");
}
