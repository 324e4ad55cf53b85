//! Who may come in, and as whom.

use farthing_money::Assets;
use farthing_wallet::{Desk, Wallet};

/// Opens the wallet for whoever shows a token.
///
/// It is asked for each request, so that what the owner changes, freezes or revokes holds from the next one on.
/// It may read files: it is called where blocking is no harm.
pub trait Keeper: Send + Sync + 'static {
    /// The wallet, as whoever has this token may use it.
    ///
    /// # Errors
    ///
    /// A [`Stranger`].
    fn admit(&self, token: &str) -> Result<Guest, Stranger>;

    /// The owner's side of asking. Whoever answers there has shown that they may.
    ///
    /// # Errors
    ///
    /// [`Stranger::Broken`].
    fn desk(&self) -> Result<Desk, Stranger>;

    /// The assets that the wallet knows.
    fn assets(&self) -> &Assets;
}

/// Somebody who was let in.
pub struct Guest {
    /// The wallet under their authority.
    pub wallet: Wallet,
    /// Under which name the owner approves, where it is the owner and may.
    pub approver: Option<String>,
}

/// Why somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// The token is none of this wallet's, has expired or was revoked. Which of them is not said to
    /// whoever asks.
    #[error("the token is none of this wallet's, has expired, or was revoked")]
    Token,
    /// The wallet cannot be opened: its files say something impossible.
    #[error("the wallet cannot be opened: {0}")]
    Broken(String),
}
