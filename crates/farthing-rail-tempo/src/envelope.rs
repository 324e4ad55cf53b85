//! How a transaction travels while it waits for somebody to pay its fee.
//!
//! ```text
//! complete     76 │ rlp [ … fee token, signature of the fee's payer, … ]
//! placeholder  76 │ rlp [ … empty,     00,                           … ]   (draft-tempo-charge-00 §6.2)
//! envelope     78 │ rlp [ … empty,     the sender's address,         … ]   (as the SDKs send it)
//! ```
//!
//! Both waiting forms are opened into the one that the codec knows, with a marker for a signature.

use alloy_primitives::Address;
use alloy_rlp::Header;
use tempo_primitives::transaction::TEMPO_TX_TYPE_ID;
use tempo_primitives::transaction::tempo_transaction::FEE_PAYER_SIGNATURE_MAGIC_BYTE;

#[cfg(test)]
mod tests;

/// The place of the fee payer's signature among a transaction's fields.
const SIGNATURE_AT: usize = 11;

/// The marker for a signature to come: a list of three zeros.
const MARKER: [u8; 4] = [0xc3, 0x80, 0x80, 0x80];

/// The form a transaction came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Ready to be broadcast.
    Complete,
    /// With a zero where the signature goes.
    Placeholder,
    /// With the sender where the signature goes.
    Envelope(Address),
}

/// Opens a waiting transaction; one that is complete stays as it is. Nothing if it is neither, or is
/// not spelled in the one way it can be.
pub(crate) fn open(bytes: &[u8]) -> Option<(Vec<u8>, Form)> {
    let (&kind, list) = bytes.split_first()?;
    let (before, field, after) = split(list)?;
    let form = match (kind, field) {
        (TEMPO_TX_TYPE_ID, [0x00]) => Form::Placeholder,
        // A marker is nobody's signature.
        (TEMPO_TX_TYPE_ID, field) if field == MARKER => return None,
        (TEMPO_TX_TYPE_ID, _) => return Some((bytes.to_vec(), Form::Complete)),
        (FEE_PAYER_SIGNATURE_MAGIC_BYTE, [0x94, sender @ ..]) => {
            Form::Envelope(Address::try_from(sender).ok()?)
        }
        _ => return None,
    };
    let closed = join(kind, before, field, after);
    (closed == bytes).then(|| (join(TEMPO_TX_TYPE_ID, before, &MARKER, after), form))
}

/// Closes a transaction that carries the marker into the envelope that the SDKs send and take.
pub(crate) fn close(bytes: &[u8], sender: Address) -> Option<Vec<u8>> {
    let (before, field, after) = split(bytes.get(1..)?)?;
    let sender = [&[0x94], sender.as_slice()].concat();
    (field == MARKER).then(|| join(FEE_PAYER_SIGNATURE_MAGIC_BYTE, before, &sender, after))
}

/// The fields before the signature, the signature, and the fields behind it, as they are encoded.
fn split(mut list: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let header = Header::decode(&mut list).ok().filter(|header| header.list)?;
    let fields = (list.len() == header.payload_length).then_some(list)?;
    let mut rest = fields;
    for _ in 0..SIGNATURE_AT {
        skip(&mut rest)?;
    }
    let before = fields.get(..fields.len().checked_sub(rest.len())?)?;
    let from = rest;
    skip(&mut rest)?;
    Some((before, from.get(..from.len().checked_sub(rest.len())?)?, rest))
}

fn skip(rest: &mut &[u8]) -> Option<()> {
    // A byte below 0x80 is its own encoding.
    if rest.first().is_some_and(|&byte| byte < 0x80) {
        *rest = rest.get(1..)?;
        return Some(());
    }
    let header = Header::decode(rest).ok()?;
    *rest = rest.get(header.payload_length..)?;
    Some(())
}

fn join(kind: u8, before: &[u8], field: &[u8], after: &[u8]) -> Vec<u8> {
    let fields = [before, field, after].concat();
    let mut bytes = vec![kind];
    Header { list: true, payload_length: fields.len() }.encode(&mut bytes);
    bytes.extend(fields);
    bytes
}
