//! Bodies, whatever they were before.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};

/// An error, whatever it was before.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on either side of the gate: streamed through, or made here.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// An error of a body, whatever it was before.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(BoxError);

impl BodyError {
    /// Wraps an error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

/// A body made here.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that streams through.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(BodyError::new).boxed_unsync()
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than the route reads.
    TooLong,
    /// It broke off.
    Broken,
    /// It took too long.
    Slow,
}

/// How long a body that is read whole may take. Nobody has paid yet who sends one, and each holds a
/// connection and memory.
const READ_WAIT: Duration = Duration::from_secs(30);

/// Reads a whole body of at most `bytes_max`.
pub(crate) async fn read<B>(body: B, bytes_max: usize) -> Result<Bytes, Unread>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(Unread::TooLong);
    }
    let reading = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(READ_WAIT, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Unread::TooLong),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::Slow),
    }
}
