//! The production core, ledger and recovery under a seeded clock, disk and rails, and an auditor that
//! believes none of it.
//!
//! ```text
//! seed ─► faults of this run (a swarm: some on, some off)
//!     ├─► clients · thieves · operators ─► Till::admit · recover · refund ─► SimStore ─► Book
//!     │        one task at a time, in an order that chance decides             │
//!     ├─► rails: messages lost, late, twice; money that moves or does not      ▼
//!     └─► crashes at any await ──────────────────────────────────► a disk that tears its tail
//!                                                                              │
//!         the auditor: a model of its own, held against the rails' truth ◄─────┘
//! ```
//!
//! Everything that could make two runs differ comes from the seed, so that a failure is found again by its
//! seed alone. What is simulated is around the core: the [`Till`](farthing_core::Till), its stages, its
//! recovery, the [`Book`](farthing_ledger::Book) and its audit are the ones that run in production.
//!
//! **Architecture invariant:** a run is a function of its seed: no clock, no thread, no order of a hash.
//!
//! **Architecture invariant:** the auditor asks the book for nothing that it could find out from the
//! journal and from what is true outside.

mod auditor;
mod channels;
mod client;
mod disk;
mod executor;
mod fault;
mod input;
mod owner;
mod planted;
mod process;
mod protocol;
mod rail;
mod random;
mod session;
mod sim;
mod store;
mod subscriber;
mod subscriptions;
mod truth;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::Fingerprint;
use tokio::sync::oneshot;

use crate::executor::{Executor, Side};
use crate::fault::{Fault, Rates};
use crate::process::Process;
use crate::sim::Sim;

pub use owner::{OwnerFailure, OwnerInvariant, OwnerPlan, OwnerPlanted, OwnerRun, run_owner};
pub use planted::Planted;

/// How long everything is given to come to rest, before and after a last day passes.
const REST: Duration = Duration::from_mins(50);

/// The steps after which a run that does not come to rest has failed.
const STEPS_MAX: u64 = 400_000;

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Debits equal credits in every asset, and nobody's account is overdrawn.
    Balanced,
    /// The journal is whole: each record follows the one before.
    Gapless,
    /// What somebody was told is done is on the disk, then and after every crash.
    Durable,
    /// A snapshot and the journal since make the book that the whole journal makes.
    Rebuilt,
    /// The same requests make the same journal, byte for byte.
    Replayable,
    /// A credential, a proof and a name of a purchase are consumed at most once.
    ConsumedOnce,
    /// What must not happen twice is begun once, and nothing is begun by two at once.
    BegunOnce,
    /// An answer is given only for money that is durably there.
    PaidFirst,
    /// An answer that is given again is the one that was given.
    SameAnswer,
    /// What may have been sent is not sent again.
    SentOnce,
    /// The book and the rails agree on whose money moved.
    Agreed,
    /// A client is charged once for one purchase.
    ChargedOnce,
    /// A refund is ordered before it is sent, moves once, and never more than the price.
    RefundedOnce,
    /// By itself, money is given back only for what was not delivered.
    OwedOnly,
    /// What is paid out was earned and not given back.
    EarnedOnly,
    /// The limits of refunds are kept.
    Limits,
    /// Everything that hangs has a reason, and is listed with it.
    NotStuck,
    /// What was deposited into a session is what was spent, what is left, and what was given back.
    Conserved,
    /// Vouchers advance within the deposit, and no more is spent than they authorise.
    Authorised,
    /// Nothing happens to a session that is closed, and nothing is left in it.
    ClosedForGood,
    /// No more is settled of a session than was spent in it.
    SettledWithin,
    /// A period of a subscription is charged once, by an order that the journal knows.
    PeriodOnce,
    /// A period is charged when it has begun, and never after the end; what is used was paid for.
    InTerm,
    /// The ledger's own audit finds the journal sound.
    Audited,
}

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed, which decides everything.
    pub seed: u64,
    /// How many steps faults and clients go on for, before everything is left to come to rest.
    pub steps: u64,
    /// A bug on purpose.
    pub planted: Option<Planted>,
}

/// A run in which every invariant held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How many times a task was polled.
    pub steps: u64,
    /// How many payments were claimed.
    pub payments: usize,
    /// How often each thing went wrong.
    pub faults: BTreeMap<String, u64>,
    /// What the disk contains, in short.
    pub digest: Option<Fingerprint>,
}

/// A run in which an invariant broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was simulated.
    pub plan: Plan,
    /// At which step it was seen.
    pub step: u64,
    /// What broke.
    pub invariant: Invariant,
    /// How it was seen.
    pub what: String,
    /// The last things that happened to whatever it is about.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan: Plan { seed, steps, planted }, step, invariant, what, trace } = self;
        writeln!(f, "seed {seed}, step {step}: {invariant:?} does not hold: {what}")?;
        trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "again: ./x sim --seed {seed} --runs 1 --steps {steps}")?;
        planted.map_or(Ok(()), |planted| write!(f, " --plant {}", planted.name()))
    }
}

/// Simulates one run.
///
/// # Errors
///
/// The first [`Failure`].
pub fn run(plan: Plan) -> Result<Run, Box<Failure>> {
    let mut simulation = Simulation::new(plan);
    simulation.live();
    simulation.rest();
    simulation.end()
}

struct Simulation {
    plan: Plan,
    sim: Sim,
    executor: Executor,
    /// The terms of the last process, which its successor keeps unless they were changed.
    terms: Option<Vec<farthing_ledger::Terms>>,
    starts_at: farthing_money::Timestamp,
}

impl Simulation {
    fn new(plan: Plan) -> Self {
        let sim = Sim::new(plan.seed, plan.planted);
        Self { plan, sim, executor: Executor::default(), terms: None, starts_at: sim::START }
    }

    fn is_broken(&self) -> bool {
        self.sim.with(|state| state.broken.is_some())
    }

    /// Clients come, and things go wrong.
    fn live(&mut self) {
        let every = self.sim.between(8, 60);
        let subscribes = self.sim.between(0, 2) == 0;
        if subscribes {
            self.sim.spawn(Side::World, client::subscribe(self.sim.clone()));
        }
        while self.sim.with(|state| state.steps) < self.plan.steps && !self.is_broken() {
            if self.sim.between(0, every) == 0 {
                self.sim.spawn(Side::World, client::buy(self.sim.clone()));
                if self.sim.between(0, 2) == 0 {
                    self.sim.spawn(Side::World, session::spend(self.sim.clone()));
                }
                if self.sim.between(0, 5) == 0 {
                    self.sim.spawn(Side::World, subscriber::subscribe(self.sim.clone()));
                }
                if self.sim.fault(Fault::Replay) {
                    self.sim.spawn(Side::World, client::steal(self.sim.clone()));
                }
                if self.sim.fault(Fault::Operator) {
                    client::visit(&self.sim);
                }
            }
            self.disturb();
            self.step();
        }
    }

    /// Everything is well from now on, and time passes.
    fn rest(&mut self) {
        self.sim.with(|state| {
            state.rates = Rates::default();
            state.is_calm = true;
            state.skew = 0;
            state.disk.full_until = state.now;
        });
        for pass in [Duration::ZERO, Duration::from_hours(26)] {
            self.sim.with(|state| state.pass(pass));
            let until = self.sim.now().after(REST);
            while self.sim.now() < until && !self.is_broken() {
                self.step();
                if self.sim.with(|state| state.steps) > STEPS_MAX {
                    let what = "it does not come to rest".to_owned();
                    self.sim.breaks(Invariant::NotStuck, what);
                }
            }
        }
        if !self.is_broken() {
            self.look();
        }
    }

    /// Asks the book what is open, and holds everything against everything.
    fn look(&mut self) {
        let (tell, mut told) = oneshot::channel();
        let process = self.sim.with(|state| state.process.clone());
        if let Some(process) = process {
            self.sim.spawn(Side::Process, process::open(process, tell));
        }
        for _ in 0..1_000 {
            self.step();
            if let Ok(open) = told.try_recv() {
                let checked =
                    self.sim.with(|it| it.auditor.finish_up(&it.disk.image, &it.truth, &open));
                if let Err((invariant, what)) = checked {
                    self.sim.breaks(invariant, what);
                }
                return;
            }
        }
        self.sim.breaks(Invariant::NotStuck, "the book does not say what is open".to_owned());
    }

    /// Polls one task, or lets time pass until one can go on; starts the process if it is not running.
    fn step(&mut self) {
        self.start();
        self.executor.adopt(self.sim.spawned());
        let sim = self.sim.clone();
        let went_on = self.executor.step(|count| sim.with(|state| state.random.place(count)));
        self.sim.with(|state| {
            state.steps = state.steps.saturating_add(1);
            if !went_on && !state.jump() {
                state.pass(Duration::from_millis(100));
            }
            let span = Duration::from_micros(state.random.below(400));
            state.pass(span);
            state.audit();
        });
        if self.sim.with(|state| state.is_stopping) && self.sim.between(0, 30) == 0 {
            self.crash();
        }
    }

    /// What goes wrong by itself.
    fn disturb(&mut self) {
        let is_running = self.sim.with(|state| state.process.is_some());
        if is_running && self.sim.fault(Fault::Crash) {
            self.crash();
        }
        if self.sim.fault(Fault::ClockJump) {
            self.skew();
        }
        if self.sim.fault(Fault::Day) {
            let hours = self.sim.between(1, 30);
            self.sim.with(|state| state.pass(Duration::from_hours(hours)));
        }
    }

    /// Sets the process's clock wrong: by seconds, minutes or hours, one way or the other.
    fn skew(&self) {
        self.sim.with(|state| {
            let most = [2, 90, 8_000].get(state.random.place(3)).copied().unwrap_or(2);
            let seconds = i64::try_from(state.random.below(most)).unwrap_or(0);
            let micros = seconds.saturating_mul(1_000_000);
            state.skew = if state.random.chance(5_000) { micros } else { micros.saturating_neg() };
            let skew = state.skew;
            state.note(&format!("the clock is {skew} µs off"));
        });
    }

    /// The process dies, with everything in it. The world goes on.
    fn crash(&mut self) {
        self.sim.note("the process dies");
        let process = self.sim.with(|state| {
            state.is_stopping = false;
            state.process.take()
        });
        self.terms = process.as_ref().map(|it| it.terms().to_vec()).or(self.terms.take());
        // What was about to run in it never does.
        self.executor.adopt(self.sim.spawned());
        self.executor.kill(Side::Process);
        drop(process);
        self.sim.with(sim::State::lose_power);
        self.starts_at = self.sim.now().after(self.sim.millis(1, 20_000));
    }

    fn start(&mut self) {
        let (is_running, now) = self.sim.with(|state| (state.process.is_some(), state.now));
        if is_running || now < self.starts_at {
            return;
        }
        if self.sim.fault(Fault::Skew) {
            self.skew();
        }
        self.sim.with(|state| {
            state.life = state.life.saturating_add(1);
            let life = state.life;
            state.note(&format!("process {life} starts"));
        });
        let process: Option<Arc<Process>> = process::start(&self.sim, self.terms.as_deref());
        if process.is_none() {
            self.starts_at = now.after(Duration::from_secs(5));
        }
        self.sim.with(|state| state.process = process);
    }

    /// Lets go of everything, and says how it went.
    fn end(mut self) -> Result<Run, Box<Failure>> {
        self.executor.adopt(self.sim.spawned());
        self.executor.kill(Side::Process);
        self.executor.kill(Side::World);
        let left = self.sim.with(sim::State::close);
        drop(left);
        self.sim.with(|state| {
            let Some((invariant, what)) = state.broken.take() else {
                let faults = state.counts.iter().map(|(it, count)| (format!("{it:?}"), *count));
                return Ok(Run {
                    steps: state.steps,
                    payments: state.auditor.len(),
                    faults: faults.collect(),
                    digest: Some(state.disk.digest()),
                });
            };
            // What it is about, and what happens to everybody.
            let names = what.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let named = |it: &&str| {
                ["pay_", "ref_", "ses_", "sub_"].iter().any(|start| it.starts_with(start))
            };
            let mut words: Vec<String> = names.filter(named).map(str::to_owned).collect();
            if !words.is_empty() {
                words.extend(["process ", "clock", "power"].map(str::to_owned));
            }
            let trace = state.trace(&words, 40);
            let (plan, step) = (self.plan, state.steps);
            Err(Box::new(Failure { plan, step, invariant, what, trace }))
        })
    }
}
