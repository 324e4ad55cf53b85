#![allow(clippy::unwrap_used)]

use alloy_primitives::{Bytes, address, b256};

use super::*;
use crate::session::channel::RESERVE;

fn escrow(family: Family) -> Escrow {
    Escrow::new(family, 42_431, RESERVE)
}

fn log<E: SolEvent>(event: &E) -> Log {
    let data = event.encode_log_data();
    Log { address: RESERVE.0, topics: data.topics().to_vec(), data: data.data }
}

const CHANNEL: B256 = B256::repeat_byte(1);

/// The names of events are those that clients and contracts know.
#[test]
fn events_have_their_names() {
    let (v1, v2) = (names(Family::TempoV1), names(Family::TempoV2));
    let begins = |names: &[B256], with: [u8; 4]| names.iter().any(|it| it.starts_with(&with));
    for with in [
        [0x45, 0x16, 0xed, 0xb7],
        [0xcd, 0x6e, 0x60, 0x36],
        [0xe0, 0xb9, 0x7d, 0x7c],
        [0xe9, 0x6f, 0x4c, 0x65],
        [0x92, 0xed, 0x5f, 0xe0],
        [0xf5, 0xa3, 0x6f, 0xc0],
        [0x6b, 0xbc, 0xbc, 0x59],
    ] {
        assert!(begins(&v1, with), "{with:x?}");
    }
    for with in [
        [0xde, 0xba, 0xba, 0x36],
        [0x11, 0xc4, 0xe4, 0xc7],
        [0x2a, 0x96, 0xf5, 0x34],
        [0x56, 0x13, 0xae, 0xd9],
    ] {
        assert!(begins(&v2, with), "{with:x?}");
    }
}

/// Only the escrow's own logs tell of its channels.
#[test]
fn another_contract_tells_nothing() {
    let closed = contract::ChannelClosed {
        channelId: CHANNEL,
        payer: address!("1111111111111111111111111111111111111111"),
        payee: address!("2222222222222222222222222222222222222222"),
        settledToPayee: U256::from(7),
        refundedToPayer: U256::from(3),
    };
    let told = read(&escrow(Family::TempoV1), &log(&closed)).unwrap();
    assert_eq!(told.channel, CHANNEL);
    assert_eq!(told.what, Happened::Closed { to_payee: 7, to_payer: 3 });
    let elsewhere =
        Log { address: address!("3333333333333333333333333333333333333333"), ..log(&closed) };
    assert_eq!(read(&escrow(Family::TempoV1), &elsewhere), None);
    // Version 2 has other words for it.
    assert_eq!(read(&escrow(Family::TempoV2), &log(&closed)), None);
    let torn = Log { data: Bytes::new(), ..log(&closed) };
    assert_eq!(read(&escrow(Family::TempoV1), &torn), None);
    let strange = Log {
        topics: vec![b256!("1111111111111111111111111111111111111111111111111111111111111111")],
        ..log(&closed)
    };
    assert_eq!(read_all(&escrow(Family::TempoV1), &[strange, log(&closed)]).len(), 1);
    let beyond = contract::ChannelClosed { settledToPayee: U256::MAX, ..closed };
    assert_eq!(read(&escrow(Family::TempoV1), &log(&beyond)), None);
}
