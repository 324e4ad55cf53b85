//! Sessions on any EVM chain, as a rail of its own (draft-evm-session-00).
//!
//! One rail is one chain and one escrow on it: both are part of what every voucher and every channel is bound
//! to, so that what was signed for one means nothing on another. Single charges it has none.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    BoxFuture, Evidence, Held, Object, Presented, Rail, RailRules, Refunds, Rejection, SessionRail,
    SettleError, Settled, Unfounded, Unquotable,
};
use farthing_ledger::Holder;
use farthing_money::{Amount, Timestamp};

use crate::rpc::Nodes;
use crate::session::{Escrow, EvmAccount, EvmSeller, Sessions};
use crate::wire::Tokens;

/// The payment method.
pub(crate) const METHOD: &str = "evm";

/// What counts as what: the chain is right about deposits, and the book about what was spent of them.
const RULES: RailRules = RailRules {
    authorised: "a voucher of a session that the channel's signer has signed",
    settled: "a mined transaction as deep as `confirmations` asks, whose event tells of it",
    reversed: "not by the payer; a chain that goes back further than was waited for disowns it, and a \
               person decides",
    reference: "the transaction's hash",
    holds: false,
    refunds: Refunds::Never,
    recheck_after: None,
};

/// What a seller has decided about sessions on an EVM chain.
#[derive(Debug)]
pub struct EvmSettings {
    /// Who holds the deposits.
    pub escrow: Escrow,
    /// The tokens accepted.
    pub tokens: Tokens,
    /// The payee's own account, which settles, and pays the gas for it.
    pub account: Arc<EvmAccount>,
    /// How many blocks a deposit has to be deep; 1 is the block it is mined in.
    pub confirmations: u64,
    /// How long to wait for that.
    pub wait: Duration,
    /// Whether the account sends deposits, too, that payers have signed for, and pays the gas.
    pub relays: bool,
    /// How much of what was spent is forgone at a close, at most, by asset: where no voucher says exactly
    /// that.
    pub forgone_max: Vec<Amount>,
}

/// The seller's side.
#[derive(Clone, Debug)]
pub struct EvmRail {
    sessions: Arc<Sessions>,
    account: Arc<EvmAccount>,
}

impl EvmRail {
    /// A rail on the chain of the account. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: EvmSettings) -> Self {
        let EvmSettings { escrow, tokens, account, confirmations, wait, .. } = settings;
        let seller = EvmSeller::new(Arc::clone(&account), escrow, confirmations, wait);
        let sessions = Sessions::on_evm(seller, escrow, tokens, settings.relays);
        let sessions = Arc::new(sessions.forgoing(settings.forgone_max));
        Self { sessions, account }
    }

    /// The account that settles.
    #[must_use]
    pub const fn account(&self) -> &Arc<EvmAccount> {
        &self.account
    }

    /// The chain.
    #[must_use]
    pub fn nodes(&self) -> &Arc<Nodes> {
        self.account.nodes()
    }

    /// Whether the escrow leaves the payee the time that the specification wants (§14.3).
    ///
    /// # Errors
    ///
    /// [`Unfounded::Declined`] for an escrow that does not; [`Unfounded::Later`] where no node says.
    pub async fn fits(&self) -> Result<(), Unfounded> {
        self.sessions.fits().await
    }
}

impl Rail for EvmRail {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn rules(&self) -> &'static RailRules {
        &RULES
    }

    fn quote(&self, _amount: &Amount, _payee: &Holder) -> Result<Object, Unquotable> {
        Err(Unquotable::Amount)
    }

    fn check(&self, _presented: &Presented, _now: Timestamp) -> Result<Evidence, Rejection> {
        Err(Rejection::Unsupported)
    }

    fn session(&self) -> Option<&dyn SessionRail> {
        let sessions: &Sessions = &self.sessions;
        Some(sessions)
    }

    fn settle<'a>(&'a self, _held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>> {
        // Nothing of it passes the check.
        Box::pin(async { Err(SettleError::Declined) })
    }
}
