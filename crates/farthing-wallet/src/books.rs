//! The wallet's book: the same as a seller's, with its accounts mirrored.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farthing_core::{Clock, Invitation, Store, identity};
use farthing_ledger::{
    Account, AccountKind, Cap, Claim, ClaimError, ClaimRequest, Decided, Entry, Fingerprint,
    Holder, Leg, Money, Outcome, OwnerStep, Payment, PaymentId, Proof, Record, Settlement, Source,
    Terms, TraceId, VoidReason,
};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_store_sqlite::{OpenError, Options, Reader, SqliteStore};

use crate::history::Seen;
use crate::owner::Permit;
use crate::{Choice, PayRequest, Rules};

mod kept;

pub use kept::OpenBook;

/// How long to wait for another process of the same wallet to be done with the book.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// How long to pause between two attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How many records are read at once.
const PAGE: u32 = 1_024;

/// The wallet's book. Several processes share it: each opens its file for a step, or [keeps](OpenBook) it for a
/// while; or it lies [where all of them have it open](SharedBook). Clones share what was read of it.
#[derive(Clone)]
pub struct Books {
    keeping: Keeping,
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone)]
enum Keeping {
    EachStep(PathBuf),
    Kept(OpenBook),
    Shared(SharedBook),
}

/// A book that other processes write as well, such as one in a database. Clones are the same.
#[derive(Clone)]
pub struct SharedBook {
    store: Arc<dyn Store>,
    journal: Arc<ReadJournal>,
}

/// Reads every record; nothing where it cannot be read now.
type ReadJournal = dyn Fn() -> Option<Vec<Record>> + Send + Sync;

impl SharedBook {
    /// The book that `store` writes and `journal` reads.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        journal: impl Fn() -> Option<Vec<Record>> + Send + Sync + 'static,
    ) -> Self {
        Self { store, journal: Arc::new(journal) }
    }
}

impl Books {
    /// The book at `path`, opened for each step.
    #[must_use]
    pub fn new(path: &Path, clock: Arc<dyn Clock>) -> Self {
        Self::with(Keeping::EachStep(path.to_owned()), clock)
    }

    /// A book that is kept open between steps.
    #[must_use]
    pub fn keeping(book: OpenBook, clock: Arc<dyn Clock>) -> Self {
        Self::with(Keeping::Kept(book), clock)
    }

    /// A book that others have open as well.
    #[must_use]
    pub fn sharing(book: SharedBook, clock: Arc<dyn Clock>) -> Self {
        Self::with(Keeping::Shared(book), clock)
    }

    fn with(keeping: Keeping, clock: Arc<dyn Clock>) -> Self {
        Self { keeping, clock, seen: Arc::default() }
    }

    /// Holds the price of a choice, under the owner's total caps and budgets, before anything is signed; and
    /// writes down the decision that lets it pass.
    ///
    /// # Crash safety
    ///
    /// The hold is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`BooksError::OverTotal`] when the total cap would be passed, [`BooksError::OverBudget`] when a budget
    /// does not hold it, [`BooksError::Frozen`] where the owner has frozen whoever asks; nothing is held then.
    pub(crate) async fn hold(
        &self,
        choice: &Choice,
        request: &PayRequest,
        rules: &Rules,
        permit: &Permit,
        trace: TraceId,
    ) -> Result<PaymentId, BooksError> {
        let claim = claim(choice, request, rules, permit, trace, self.clock.now())?;
        self.held(claim).await
    }

    /// Holds everything that a subscription may be charged, as [`Books::hold`] does a price. The request that
    /// it is begun with is another payment.
    ///
    /// # Errors
    ///
    /// As [`Books::hold`].
    pub(crate) async fn hold_subscription(
        &self,
        choice: &Choice,
        request: &PayRequest,
        rules: &Rules,
        permit: &Permit,
        trace: TraceId,
    ) -> Result<PaymentId, BooksError> {
        let mut claim = claim(choice, request, rules, permit, trace, self.clock.now())?;
        let Invitation { protocol, challenge, .. } = &choice.invitation;
        let parts = [protocol.as_bytes(), challenge.as_bytes()];
        let fingerprint = Fingerprint::of("wallet subscription", &parts);
        claim.payment.id = PaymentId::of(&fingerprint);
        claim.proofs = vec![Proof { fingerprint, keep_until: Some(claim.payment.expires_at) }];
        claim.proofs.extend(permit.proof);
        self.held(claim).await
    }

    /// Writes down the decision that lets a voucher be signed, with what it draws from budgets that its deposit
    /// is not held in. It counts as spent from here on: nothing is ever known to be less than what was signed.
    ///
    /// # Idempotency
    ///
    /// One payment is written down, and counts, once.
    ///
    /// # Crash safety
    ///
    /// It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// As [`Books::hold`].
    pub(crate) async fn draw(
        &self,
        (fingerprint, choice): (Fingerprint, &Choice),
        request: &PayRequest,
        permit: &Permit,
        trace: TraceId,
    ) -> Result<(), BooksError> {
        let now = self.clock.now();
        let mut claim = claim(choice, request, &Rules::default(), permit, trace, now)?;
        let payment = PaymentId::of(&fingerprint);
        claim.payment.id = payment;
        claim.payment.credential = fingerprint;
        claim.proofs = vec![Proof { fingerprint, keep_until: Some(claim.payment.expires_at) }];
        claim.proofs.extend(permit.proof);
        // It moves nothing by itself: the money is in the deposit, which the book holds already, and the price is
        // among the facts of the decision.
        claim.payment.amount = Amount::zero(claim.payment.amount.asset().clone());
        claim.legs.clear();
        claim.money = Money::None;
        let store = self.open().await?;
        let claimed = store.claim(claim, now).await;
        // Whether it is answered is the session's business.
        store.deliver(payment, Outcome { status: 200 }, None, now);
        match fresh(&claimed) {
            Ok(()) | Err(BooksError::PaidBefore) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn held(&self, claim: ClaimRequest) -> Result<PaymentId, BooksError> {
        let id = claim.payment.id;
        let store = self.open().await?;
        fresh(&store.claim(claim, self.clock.now()).await).map(|()| id)
    }

    /// Writes down that the seller was paid and answered with `status`.
    ///
    /// # Errors
    ///
    /// A [`BooksError`]; the hold stays.
    pub async fn paid(
        &self,
        payment: PaymentId,
        reference: &str,
        status: u16,
    ) -> Result<(), BooksError> {
        let now = self.clock.now();
        let store = self.open().await?;
        let settlement = Settlement::new(reference.to_owned(), now);
        let posted = store.post(payment, settlement, now).await;
        posted.map_err(|_| BooksError::Unavailable)?;
        store.deliver(payment, Outcome { status }, None, now);
        Ok(())
    }

    /// Writes down that the seller was paid, and has not answered.
    ///
    /// # Errors
    ///
    /// A [`BooksError`]; the hold stays.
    pub async fn spent(&self, payment: PaymentId, reference: &str) -> Result<(), BooksError> {
        let now = self.clock.now();
        let store = self.open().await?;
        let settlement = Settlement::new(reference.to_owned(), now);
        store.post(payment, settlement, now).await.map_err(|_| BooksError::Unavailable)
    }

    /// Writes down what of a session's deposit was spent; the rest is free again.
    ///
    /// # Errors
    ///
    /// A [`BooksError`]; the hold stays.
    pub async fn counted_up(
        &self,
        payment: PaymentId,
        spent: Amount,
        reference: &str,
    ) -> Result<(), BooksError> {
        if spent.is_zero() {
            return self.release(payment).await;
        }
        let now = self.clock.now();
        let store = self.open().await?;
        let moved = Some(spent);
        let settlement = Settlement { moved, ..Settlement::new(reference.to_owned(), now) };
        let posted = store.post(payment, settlement, now).await;
        posted.map_err(|_| BooksError::Unavailable)?;
        store.deliver(payment, Outcome { status: 200 }, None, now);
        Ok(())
    }

    /// Gives a hold up whose credential cannot be spent any more.
    ///
    /// # Errors
    ///
    /// A [`BooksError`]; the hold stays.
    pub async fn release(&self, payment: PaymentId) -> Result<(), BooksError> {
        let store = self.open().await?;
        let voided = store.void(payment, VoidReason::Expired, self.clock.now()).await;
        voided.map_err(|_| BooksError::Unavailable)
    }

    /// Writes down a decision that let nothing pass.
    ///
    /// # Errors
    ///
    /// A [`BooksError`].
    pub(crate) async fn decide(&self, decided: Decided) -> Result<(), BooksError> {
        self.step(OwnerStep::Decided(Box::new(decided))).await.map(drop)
    }

    /// Writes down something that the owner has decided. `true` if it was new.
    ///
    /// # Errors
    ///
    /// A [`BooksError`].
    pub async fn step(&self, step: OwnerStep) -> Result<bool, BooksError> {
        let store = self.open().await?;
        let entered = store.enter(Entry::Owner(Box::new(step)), self.clock.now()).await;
        entered.map_err(|_| BooksError::Unavailable)
    }

    /// Records of the book from place `from` on, in order; none where nothing was ever held.
    pub(crate) fn records(&self, from: u64) -> Result<Vec<Record>, BooksError> {
        let path = match &self.keeping {
            Keeping::EachStep(path) => path.as_path(),
            Keeping::Kept(book) => book.path(),
            Keeping::Shared(book) => {
                let mut all = (book.journal)().ok_or(BooksError::Unavailable)?;
                all.retain(|record| record.seq >= from);
                return Ok(all);
            }
        };
        if !path.exists() {
            return Ok(Vec::new());
        }
        Reader::open(path)?.records(from, PAGE).map_err(|_| BooksError::Unavailable)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| {
            // What a panic has left half read is read anew.
            self.seen.clear_poison();
            let mut seen = poisoned.into_inner();
            *seen = Seen::default();
            seen
        })
    }

    async fn open(&self) -> Result<Arc<dyn Store>, BooksError> {
        let now = self.clock.now();
        Ok(match &self.keeping {
            Keeping::EachStep(path) => Arc::new(open(path, now).await?),
            Keeping::Kept(book) => book.store(now).await?,
            Keeping::Shared(book) => Arc::clone(&book.store),
        })
    }
}

/// Opens the book, waiting for another process to be done with it, and asking for it meanwhile.
async fn open(path: &Path, now: Timestamp) -> Result<SqliteStore, BooksError> {
    let mut waited = Duration::ZERO;
    loop {
        match SqliteStore::open(path, Options::default(), now) {
            Ok(store) => {
                if !waited.is_zero() {
                    kept::wanted_no_more(path);
                }
                return Ok(store);
            }
            Err(OpenError::Locked) if waited < BUSY_WAIT => {
                kept::want(path);
                tokio::time::sleep(BUSY_PAUSE).await;
                waited = waited.saturating_add(BUSY_PAUSE);
            }
            Err(error) => return Err(BooksError::Open(error)),
        }
    }
}

/// Whether a claim was made now, and by nobody before.
fn fresh(claimed: &Result<Claim, ClaimError>) -> Result<(), BooksError> {
    match claimed {
        Ok(Claim::Fresh) => Ok(()),
        Ok(
            Claim::Bought(..)
            | Claim::Pending(_)
            | Claim::Unsettled
            | Claim::Abandoned
            | Claim::Undelivered(_)
            | Claim::Interrupted
            | Claim::Delivered(..)
            | Claim::GivenBack
            | Claim::Spent,
        ) => Err(BooksError::PaidBefore),
        Err(ClaimError::OverCap) => Err(BooksError::OverTotal),
        Err(ClaimError::OverBudget { draw, used }) => {
            Err(BooksError::OverBudget { draw: *draw, used: *used })
        }
        Err(ClaimError::Frozen) => Err(BooksError::Frozen),
        Err(
            ClaimError::Overdrawn
            | ClaimError::UnknownKey
            | ClaimError::Duplicate
            | ClaimError::KeyMisused
            | ClaimError::Legs
            | ClaimError::Channel(_)
            | ClaimError::Subscription(_)
            | ClaimError::Unavailable,
        ) => Err(BooksError::Unavailable),
    }
}

/// What a purchase is in the wallet's book: what was spent grows, what is left in the purse shrinks.
fn claim(
    choice: &Choice,
    request: &PayRequest,
    rules: &Rules,
    permit: &Permit,
    trace: TraceId,
    now: Timestamp,
) -> Result<ClaimRequest, BooksError> {
    let Choice { invitation, price, payer } = choice;
    let asset = price.amount.asset();
    let purse = purse(asset);
    let payee = holder(&price.recipient)?;
    let spent = Account::new(AccountKind::Spent, payee.clone(), asset.clone());
    let identity = identity(invitation.protocol, &invitation.challenge);
    let expires_at = invitation.expires_at.unwrap_or(now);
    let cap =
        rules.total.get(asset).map(|&credits_max| Cap { account: purse.clone(), credits_max });
    let atoms = price.amount.atoms();
    let leg = (atoms > 0).then_some(Leg { from: Source::Account(spent), to: purse, atoms });
    Ok(ClaimRequest {
        payment: Payment {
            id: PaymentId::of(&identity),
            trace,
            protocol: invitation.protocol.to_owned(),
            method: invitation.method.clone(),
            intent: invitation.intent.clone(),
            challenge: invitation.challenge.clone(),
            amount: price.amount.clone(),
            payer: payer.account(),
            payee,
            route: format!("{} {}{}", request.method, request.origin(), request.url.path()),
            scope: request.intent().to_string(),
            credential: Fingerprint::of("invitation", &[invitation.echo.as_bytes()]),
            expires_at,
            request: None,
            inquiry: None,
            terms: Terms { repeatable: true, ..Terms::default() },
            voucher: None,
            decision: Some(Box::new(permit.decided.clone())),
            subscription: None,
        },
        proofs: [Proof { fingerprint: identity, keep_until: Some(expires_at) }]
            .into_iter()
            .chain(permit.proof)
            .collect(),
        idempotency: None,
        legs: leg.into_iter().collect(),
        money: Money::Rail,
        caps: cap.into_iter().collect(),
        voucher: None,
    })
}

/// The wallet's money in one asset.
pub(crate) fn purse(asset: &AssetId) -> Account {
    // A name of printable letters is always a holder.
    let holder = Holder::new("wallet").ok();
    let holder = holder.unwrap_or_else(|| unreachable!("\"wallet\" is a holder's name"));
    Account::new(AccountKind::Purse, holder, asset.clone())
}

/// A recipient as a holder in the book; a name that cannot be one stands there as its digest.
fn holder(recipient: &str) -> Result<Holder, BooksError> {
    Holder::new(recipient)
        .or_else(|_| {
            let digest = Fingerprint::of("recipient", &[recipient.as_bytes()]);
            Holder::new(&format!("sha256:{digest}"))
        })
        .map_err(|_| BooksError::Unavailable)
}

/// Why the book did not take a step.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The owner's total cap would be passed.
    #[error("the payment would pass the wallet's total cap")]
    OverTotal,
    /// A budget of the owner's does not hold the payment.
    #[error("a budget does not hold the payment")]
    OverBudget {
        /// Which one: the place among the draws of the decision.
        draw: u16,
        /// How much of it is held and spent.
        used: u128,
    },
    /// The owner has frozen whoever asks.
    #[error("the wallet is frozen for whoever asks; `farthing wallet unfreeze` thaws it")]
    Frozen,
    /// This very offer was paid before.
    #[error("this offer was paid before; ask the seller again for another")]
    PaidBefore,
    /// The book cannot be opened.
    #[error("the wallet's book: {0}")]
    Open(#[from] OpenError),
    /// The book does not answer.
    #[error("the wallet's book does not answer")]
    Unavailable,
}
