//! The owner's side of asking: what waits, who answers, and what becomes of what nobody answers.
//!
//! ```text
//! waiting ─┬─ enough approve ─► approved ─► used, once, with the claim
//!          ├─ one denies ─────► denied  ─┐
//!          └─ nobody answers ─► expired ─┴─► a decision of its own in the book
//! ```
//!
//! **Architecture invariant:** what has an end has one: the memory answers in one transaction, so that of two
//! answers at the same time one is told that the other was first.

use std::sync::Arc;

use farthing_core::Clock;
use farthing_ledger::{Decided, Ruling};
use farthing_policy::Policy;

use crate::memory::{AnswerError, ApprovalRequest, ApprovalState};
use crate::owner::may_approve;
use crate::{Books, BooksError, Memory, MemoryError, Waiting};

/// Where an owner looks at what waits, and answers.
pub struct Desk {
    /// What the wallet remembers.
    pub memory: Memory,
    /// Its book.
    pub books: Books,
    /// The policies that hold: all of them say who may answer.
    pub policies: Vec<Policy>,
    /// How long what is approved may be used.
    pub waiting: Waiting,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Desk {
    /// Whether the answers of `name` count.
    #[must_use]
    pub fn may_answer(&self, name: &str) -> bool {
        may_approve(&self.policies, name)
    }

    /// Answers a request in the name of an approver, who has shown who they are. A denial is written into the
    /// book as a decision; an approval stands there with the payment that it lets pass.
    ///
    /// # Errors
    ///
    /// An [`AnswerError`] within, where it cannot be answered so; a [`DeskError`] where nobody knows.
    pub async fn answer(
        &self,
        id: &str,
        approver: &str,
        approve: bool,
    ) -> Result<Result<ApprovalRequest, AnswerError>, DeskError> {
        self.expire().await?;
        if !self.may_answer(approver) {
            return Ok(Err(AnswerError::Nobody(approver.to_owned())));
        }
        let when = (self.waiting.lasts, self.clock.now());
        let answered = self.memory.answer_for(id, approver, approve, when)?;
        if let Ok(request) = &answered
            && request.state == ApprovalState::Denied
        {
            write_down(&self.memory, &self.books, request, "approvals.denied").await?;
        }
        Ok(answered)
    }

    /// Writes down that nobody has answered what has waited for its whole time, which denies it.
    ///
    /// # Crash safety
    ///
    /// What was written down and not noted is written down once more.
    ///
    /// # Errors
    ///
    /// A [`DeskError`]; what is left is found the next time.
    pub async fn expire(&self) -> Result<(), DeskError> {
        expire(&self.memory, &self.books, self.clock.now()).await
    }
}

/// See [`Desk::expire`].
pub(crate) async fn expire(
    memory: &Memory,
    books: &Books,
    now: farthing_money::Timestamp,
) -> Result<(), DeskError> {
    if memory.overdue(now)?.is_empty() {
        return Ok(());
    }
    let _lock = memory.lock_expiry().await?;
    for request in memory.overdue(now)? {
        write_down(memory, books, &request, "approvals.expired").await?;
        memory.expired(&request.id)?;
    }
    Ok(())
}

/// Writes down that what was asked for is denied after all, in the words in which it was asked.
async fn write_down(
    memory: &Memory,
    books: &Books,
    request: &ApprovalRequest,
    rule: &str,
) -> Result<(), DeskError> {
    // What was asked for by a version that did not keep its decision has none to end.
    let Some(asked) = memory.asked(&request.id)? else { return Ok(()) };
    let rules = vec![rule.to_owned()];
    let denied = Decided { ruling: Ruling::Denied, rules, draft: None, ..asked };
    Ok(books.decide(denied).await?)
}

/// Why the desk does not answer. Asking again is safe.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The wallet's memory fails.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The wallet's book fails.
    #[error(transparent)]
    Books(#[from] BooksError),
}

impl From<DeskError> for crate::PayFailure {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Memory(error) => Self::Memory(error),
            DeskError::Books(error) => Self::Books(error),
        }
    }
}
