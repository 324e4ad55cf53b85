//! How a stream speaks of payments to its client, if it can at all.

use bytes::Bytes;
use farthing_mpp::Receipt;

use crate::balance::{NeedVoucher, receipt_event};
use crate::ending::End;
use crate::ws::{Dialect, ServerFrame};

/// In what words a stream speaks of payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// In none: a byte of ours would be one of the answer.
    Silent,
    /// In server-sent events.
    Events,
    /// In frames of a WebSocket.
    Frames(Dialect),
}

impl Voice {
    /// What stands in for a message of the upstream's.
    pub(crate) fn message(self, message: Bytes) -> Bytes {
        match self {
            Self::Silent | Self::Events => message,
            Self::Frames(dialect) => {
                let text = String::from_utf8_lossy(&message);
                ServerFrame::Message(&text).to_text(dialect).into()
            }
        }
    }

    /// The call for a voucher.
    pub(crate) fn need_voucher(self, need: &NeedVoucher) -> Option<Bytes> {
        match self {
            Self::Silent => None,
            Self::Events => Some(need.to_event().into()),
            Self::Frames(dialect) => Some(ServerFrame::NeedVoucher(need).to_text(dialect).into()),
        }
    }

    /// Why the stream ends, where the client cannot tell from what it got.
    pub(crate) fn reason(self, end: End) -> Option<Bytes> {
        let (status, message) = match end {
            End::Unpaid => (402, "ended, as no voucher came in time"),
            End::Closed => (402, "ended, as the channel is closed"),
            End::Upstream | End::TooLong => (502, "ended, as the upstream broke off"),
            End::Complete | End::Unavailable | End::Dropped => return None,
        };
        match self {
            Self::Silent => None,
            // A comment, since clients take events they do not know for the upstream's.
            Self::Events => Some(format!(": {message}\n\n").into()),
            Self::Frames(dialect) => {
                Some(ServerFrame::Error { status, message }.to_text(dialect).into())
            }
        }
    }

    /// The last receipt.
    pub(crate) fn receipt(self, receipt: &Receipt) -> Option<Bytes> {
        match self {
            Self::Silent => None,
            Self::Events => Some(receipt_event(receipt).into()),
            Self::Frames(dialect) => Some(ServerFrame::CloseReady(receipt).to_text(dialect).into()),
        }
    }
}
