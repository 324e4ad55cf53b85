//! What a stream is paid from: the port to a channel's books.

use std::future::Future;
use std::num::NonZeroU64;

use farthing_mpp::Receipt;
use serde_json::{Value, json};

use crate::Wanted;

/// One stream's way to take units from its channel.
///
/// It is made for one stream: it knows the channel, the price of a unit and the challenge the receipt
/// names. A stream asks for one thing at a time.
pub trait Balance: Send + Sync + 'static {
    /// Takes as many units of what is wanted as the accepted balance allows, and none if it does not
    /// allow the least.
    ///
    /// What is taken is spent from then on, durably, before the answer: it may be delivered at once
    /// (tempo-session §12.3). An answer comes soon; waiting for a voucher is what
    /// [`Balance::advanced`] is for. The taking may outlive the stream that asked for it: whoever runs
    /// the stream lets it end and gives back what came too late.
    ///
    /// # Errors
    ///
    /// [`Stopped`]; nothing was taken. What may pass by itself, an implementation tries again: a stream
    /// breaks off at the first [`Stopped::Unavailable`].
    fn take(&self, wanted: Wanted) -> impl Future<Output = Result<Take, Stopped>> + Send;

    /// Waits until the channel is no more as it was `seen`: the accepted balance or the deposit
    /// advanced, or the channel closed. At once, if that has happened already. The waiting can be
    /// given up without harm.
    fn advanced(&self, seen: NeedVoucher) -> impl Future<Output = ()> + Send;

    /// Gives back units that were taken and bought nothing: an estimate that was too high, or what a
    /// client did not wait for. It is noted before any later [`Balance::receipt`]. It is called from
    /// destructors too, so it must not block.
    ///
    /// It need not be durable: after a crash the payer is charged what was taken, never more. Books in
    /// which nothing is undone may keep such units in hand for the next taking on the channel.
    fn give_back(&self, units: u64);

    /// The receipt of this stream, which used `units`, as the books have it now.
    ///
    /// # Errors
    ///
    /// [`Stopped`]; the answer ends without a receipt.
    fn receipt(&self, units: u64) -> impl Future<Output = Result<Receipt, Stopped>> + Send;
}

/// What came of a taking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// So many units are paid: not fewer than the least that was wanted, not more than the most.
    Taken(NonZeroU64),
    /// The accepted balance does not allow the least. Nothing was taken.
    Short(NeedVoucher),
}

/// Why a channel gives nothing more to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It is closed or closing, or another stream took its place: the payer's doing.
    #[error("the channel is closed to this stream")]
    Closed,
    /// Vouchers do not allow it, and nobody waits for one: too many streams wait already.
    #[error("no voucher is waited for")]
    Unpaid,
    /// The books cannot be written: ours to mend.
    #[error("the channel's books cannot be written")]
    Unavailable,
}

/// What a payer has to know to go on (tempo-session §12.6). Amounts are in the asset's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedVoucher {
    /// The highest voucher accepted so far.
    pub accepted_cumulative: u128,
    /// The channel, as it is spelled on the wire.
    pub channel_id: String,
    /// What lies in the channel. If more is required, a payer adds to it first.
    pub deposit: u128,
    /// The least that the next voucher has to be over.
    pub required_cumulative: u128,
}

impl NeedVoucher {
    /// As the JSON object of the wire: four members, all of them strings.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "acceptedCumulative": self.accepted_cumulative.to_string(),
            "channelId": self.channel_id,
            "deposit": self.deposit.to_string(),
            "requiredCumulative": self.required_cumulative.to_string(),
        })
    }

    /// As a server-sent event.
    #[must_use]
    pub fn to_event(&self) -> String {
        format!("event: payment-need-voucher\ndata: {}\n\n", self.to_json())
    }
}

/// A receipt as a server-sent event, the last of its stream (tempo-session §13.6).
#[must_use]
pub fn receipt_event(receipt: &Receipt) -> String {
    format!("event: payment-receipt\ndata: {}\n\n", receipt_json(receipt))
}

/// A receipt as a JSON object.
pub(crate) fn receipt_json(receipt: &Receipt) -> Value {
    // In-memory JSON with string keys always serialises.
    serde_json::to_value(receipt).unwrap_or_default()
}
