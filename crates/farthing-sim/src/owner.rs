//! A wallet whose owner has rules: many agents at once, every kind of budget, approvals, freezes, deposits,
//! outcomes that nobody knows yet, crashes between any two steps, and an auditor that computes every limit from
//! the journal by itself.
//!
//! ```text
//! agents ─► Policy::decide ─► (others come in between) ─► Book::claim ─► a disk that tears its tail ─► signed
//!                │                                            │                                          │
//!                └─ denied, asked: on record                  └─ a budget does not hold it: on record    ▼
//!                                                                                        what moves, if it does
//! ```
//!
//! What is simulated is around the policy and the book: [`Policy`] and [`Book`] are the ones that run in
//! production. The auditor shares no code with them, and reads the owner's limits as plain numbers.
//!
//! **Architecture invariant:** a run is a function of its seed.

mod auditor;
mod plant;
mod rules;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use farthing_ledger::Fingerprint;

use crate::owner::world::World;

pub use plant::OwnerPlanted;

/// What must always hold for an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerInvariant {
    /// At no moment is more held and spent of a limit than it allows.
    Within,
    /// What does not fit is refused, and nothing else.
    RefusedRightly,
    /// Every decision is one record, which says what was asked.
    Recorded,
    /// An approval lets one payment pass, and what needs one has one.
    ApprovedOnce,
    /// Nothing is claimed for who is frozen.
    Frozen,
    /// A deposit is spent by whom it counts for, and no further than it goes.
    OwnDeposit,
    /// What moved is spent, what did not is free, and what is held has an end that nobody knows yet.
    Settled,
    /// The journal is whole, sound by the ledger's own audit, and makes the book again.
    Rebuilt,
}

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct OwnerPlan {
    /// The seed, which decides everything.
    pub seed: u64,
    /// How many decisions are made before everything is left to come to rest.
    pub decisions: u64,
    /// A bug on purpose.
    pub planted: Option<OwnerPlanted>,
}

/// A run in which every invariant held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerRun {
    /// How often each thing happened: decisions by what came of them, crashes, and others.
    pub counts: BTreeMap<&'static str, u64>,
    /// What the disk contains, in short.
    pub digest: Option<Fingerprint>,
}

/// A run in which an invariant broke.
#[derive(Clone, Debug)]
pub struct OwnerFailure {
    /// What was simulated.
    pub plan: OwnerPlan,
    /// What broke.
    pub invariant: OwnerInvariant,
    /// How it was seen.
    pub what: String,
}

impl fmt::Display for OwnerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan: OwnerPlan { seed, decisions, planted }, invariant, what } = self;
        writeln!(f, "seed {seed}: {invariant:?} does not hold: {what}")?;
        write!(f, "again: ./x sim --owner --seed {seed} --runs 1 --steps {decisions}")?;
        planted.map_or(Ok(()), |planted| write!(f, " --plant {}", planted.name()))
    }
}

/// Simulates one run.
///
/// # Errors
///
/// The first [`OwnerFailure`].
pub fn run_owner(plan: OwnerPlan) -> Result<OwnerRun, Box<OwnerFailure>> {
    let failed = |(invariant, what)| Box::new(OwnerFailure { plan, invariant, what });
    let mut world = World::new(&plan).map_err(failed)?;
    world.live(plan.decisions).map_err(failed)?;
    world.rest().map_err(failed)?;
    Ok(world.end())
}
