#![allow(clippy::unwrap_used)]

use super::*;

fn word(byte: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].fill(byte);
    word
}

fn small(value: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[31] = value;
    word
}

/// A record is read in either layout, and what is not one is not.
#[test]
fn a_record_is_read_in_either_layout() {
    let (payer, payee, token, signer) = (word(0x11), word(0x22), word(0x33), [0; 32]);
    let (deposit, settled, asked, over) = (small(9), small(4), small(7), small(1));
    let as_read = [over, asked, payer, payee, token, signer, deposit, settled].concat();
    let as_specified = [payer, payee, token, signer, deposit, settled, asked, over].concat();
    let state = record(&as_read).unwrap().unwrap();
    assert_eq!(state, record(&as_specified).unwrap().unwrap());
    assert_eq!((state.deposit, state.settled, state.left()), (9, 4, 5));
    assert_eq!((state.close_requested_at_s, state.is_finalized), (Some(7), true));
    assert!(!state.is_open());
    assert_eq!(state.parties.unwrap().payer, Address([0x11; 20].into()));
    assert_eq!(record(&[0; 256]).unwrap(), None, "nobody has opened it");
    for odd in [&as_read[..255], &[&as_read[..], &[0]].concat(), &[], &[0xff; 256]] {
        assert!(record(odd).is_err());
    }
}

/// The reserve forgets what is over.
#[test]
fn a_channel_without_a_deposit_is_not_known() {
    let state = reserve::ChannelState {
        settled: alloy_primitives::Uint::from(4),
        deposit: alloy_primitives::Uint::from(9),
        closeRequestedAt: 0,
    };
    assert!(reserved(&state).unwrap().is_open());
    let gone = reserve::ChannelState { deposit: alloy_primitives::Uint::ZERO, ..state };
    assert_eq!(reserved(&gone), None);
}
