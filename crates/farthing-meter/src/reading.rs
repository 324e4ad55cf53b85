//! A paid stream of events, as its client reads it: what is its own, and what is said of payments.

use bytes::Bytes;
use farthing_mpp::json;
use serde_json::{Map, Value};

use crate::balance::NeedVoucher;
use crate::sse::{Cutter, Fields, TooLong};

#[cfg(test)]
mod tests;

/// Takes a stream of events apart. It holds one incomplete event at most.
#[derive(Debug)]
pub struct Reader {
    cutter: Cutter,
    chunk: Bytes,
    bytes_max: usize,
}

/// What a stream says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event of the stream's own, with every byte of it.
    Event {
        /// Its bytes.
        bytes: Bytes,
        /// Whether it has data, so that somebody is told of it.
        has_data: bool,
    },
    /// More has to be authorised before the stream goes on.
    NeedVoucher(NeedVoucher),
    /// What it cost so far; the last one is the whole.
    Receipt(Map<String, Value>),
    /// Something about payments that cannot be read. It is not part of the stream, and nothing follows from
    /// it.
    Unreadable,
}

/// An event is longer than the client holds: the seller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {0} bytes")]
pub struct EventTooLong(usize);

impl Reader {
    /// Reads events of at most `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { cutter: Cutter::new(bytes_max), chunk: Bytes::new(), bytes_max }
    }

    /// More came. To be called when [`Reader::read`] had nothing left.
    pub fn push(&mut self, bytes: Bytes) {
        self.chunk =
            if self.chunk.is_empty() { bytes } else { [&*self.chunk, &*bytes].concat().into() };
    }

    /// The next thing that came whole; nothing if more has to come first.
    ///
    /// # Errors
    ///
    /// [`EventTooLong`]; the rest cannot be read.
    pub fn read(&mut self) -> Result<Option<Said>, EventTooLong> {
        while !self.chunk.is_empty() {
            let cut = self.cutter.cut(&mut self.chunk);
            if let Some(bytes) = cut.map_err(|TooLong| EventTooLong(self.bytes_max))? {
                return Ok(Some(said(bytes)));
            }
        }
        Ok(None)
    }

    /// The stream has ended: what there is of an event.
    pub fn rest(&mut self) -> Option<Bytes> {
        Some(self.cutter.finish()?.0)
    }
}

fn said(bytes: Bytes) -> Said {
    let Fields { name, data } = Fields::read(&bytes);
    let object = || json::parse(data.as_deref().unwrap_or_default()).ok();
    match &*name {
        b"payment-need-voucher" => object()
            .and_then(|data| NeedVoucher::read(&data))
            .map_or(Said::Unreadable, Said::NeedVoucher),
        b"payment-receipt" => object().map_or(Said::Unreadable, Said::Receipt),
        _ => Said::Event { bytes, has_data: data.is_some() },
    }
}

impl NeedVoucher {
    /// Reads the JSON object of the wire; nothing unless all of it is there.
    #[must_use]
    pub fn read(object: &Map<String, Value>) -> Option<Self> {
        let text = |name| object.get(name)?.as_str();
        let atoms = |name| {
            let digits = text(name)?;
            let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        Some(Self {
            accepted_cumulative: atoms("acceptedCumulative")?,
            channel_id: text("channelId")?.to_owned(),
            deposit: atoms("deposit")?,
            required_cumulative: atoms("requiredCumulative")?,
        })
    }
}
