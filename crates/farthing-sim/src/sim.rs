//! What every task shares: the clock, chance, the disk, what is true, and who watches.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use farthing_money::Timestamp;
use tokio::sync::oneshot;

use crate::auditor::Auditor;
use crate::disk::Disk;
use crate::executor::{Job, Side};
use crate::fault::{Fault, Rates};
use crate::process::Process;
use crate::random::Random;
use crate::truth::Truth;
use crate::{Invariant, Planted};

/// When every run begins.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

/// How many lines of what happened are kept.
const TRACE_MAX: usize = 4_000;

/// Everything that is not a task. Clones are the same.
#[derive(Clone)]
pub(crate) struct Sim(Arc<Mutex<State>>);

/// What the tasks share.
pub(crate) struct State {
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) planted: Option<Planted>,
    /// The true time, which nobody in the process knows.
    pub(crate) now: Timestamp,
    /// How far the process's clock is from it, in microseconds.
    pub(crate) skew: i64,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    spawned: Vec<(Side, Job)>,
    pub(crate) disk: Disk,
    pub(crate) truth: Truth,
    pub(crate) auditor: Auditor,
    /// The process that runs, if one does.
    pub(crate) process: Option<Arc<Process>>,
    /// Which process it is, counting from 1.
    pub(crate) life: u64,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    /// The store has stopped: the process is about to.
    pub(crate) is_stopping: bool,
    pub(crate) steps: u64,
    serial: u64,
    pub(crate) counts: BTreeMap<Fault, u64>,
    trace: VecDeque<String>,
    pub(crate) broken: Option<(Invariant, String)>,
}

impl Sim {
    pub(crate) fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut random = Random::new(seed);
        let rates = Rates::draw(&mut random);
        Self(Arc::new(Mutex::new(State {
            random,
            rates,
            planted,
            now: START,
            skew: 0,
            timers: BTreeMap::new(),
            spawned: Vec::new(),
            disk: Disk::default(),
            truth: Truth::default(),
            auditor: Auditor::default(),
            process: None,
            life: 0,
            is_calm: false,
            is_stopping: false,
            steps: 0,
            serial: 0,
            counts: BTreeMap::new(),
            trace: VecDeque::new(),
            broken: None,
        })))
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut lock(&self.0))
    }

    /// Whether something goes wrong now.
    pub(crate) fn fault(&self, fault: Fault) -> bool {
        self.with(|state| state.fault(fault))
    }

    pub(crate) fn is_planted(&self, planted: Planted) -> bool {
        self.with(|state| state.planted == Some(planted))
    }

    pub(crate) fn note(&self, line: &str) {
        self.with(|state| state.note(line));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.with(|state| state.now)
    }

    /// What the process takes for now.
    pub(crate) fn clock(&self) -> Timestamp {
        self.with(|state| state.clock())
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.with(|state| state.random.between(low, high))
    }

    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// A number that was never given before.
    pub(crate) fn serial(&self) -> u64 {
        self.with(State::serial)
    }

    pub(crate) fn spawn(&self, side: Side, task: impl Future<Output = ()> + Send + 'static) {
        self.with(|state| state.spawned.push((side, Box::pin(task))));
    }

    pub(crate) fn spawned(&self) -> Vec<(Side, Job)> {
        self.with(|state| std::mem::take(&mut state.spawned))
    }

    /// Lets others go first; whatever can happen between two steps happens here.
    pub(crate) async fn pause(&self) {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Waits in true time.
    pub(crate) async fn sleep(&self, span: Duration) {
        let until = self.now().after(span);
        std::future::poll_fn(|context| {
            self.with(|state| {
                if state.now >= until {
                    return Poll::Ready(());
                }
                state.wake_at(until, context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// What comes in time; nothing if it is lost or comes later.
    pub(crate) async fn within<T>(
        &self,
        span: Duration,
        mut receiver: oneshot::Receiver<T>,
    ) -> Option<T> {
        let mut late = Box::pin(self.sleep(span));
        std::future::poll_fn(|context| {
            if let Poll::Ready(received) = Pin::new(&mut receiver).poll(context) {
                return Poll::Ready(received.ok());
            }
            late.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Reports that an invariant does not hold.
    pub(crate) fn breaks(&self, invariant: Invariant, what: String) {
        self.with(|state| state.breaks(invariant, what));
    }
}

impl State {
    pub(crate) fn fault(&mut self, fault: Fault) -> bool {
        let rate = self.rates.of(fault);
        let happens = self.random.chance(rate);
        if happens {
            let count = self.counts.entry(fault).or_default();
            *count = count.saturating_add(1);
            self.note(&format!("fault: {fault:?}"));
        }
        happens
    }

    pub(crate) fn note(&mut self, line: &str) {
        let at = self.now.since(START);
        self.trace.push_back(format!("{:>6} {:>12.6}s  {line}", self.steps, at.as_secs_f64()));
        if self.trace.len() > TRACE_MAX {
            self.trace.pop_front();
        }
    }

    pub(crate) fn clock(&self) -> Timestamp {
        let skew = Duration::from_micros(self.skew.unsigned_abs());
        if self.skew < 0 { self.now.before(skew) } else { self.now.after(skew) }
    }

    pub(crate) const fn serial(&mut self) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    fn wake_at(&mut self, until: Timestamp, waker: Waker) {
        let serial = self.serial();
        self.timers.insert((until, serial), waker);
    }

    /// Lets `span` pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        while let Some(timer) = self.timers.first_entry().filter(|it| it.key().0 <= self.now) {
            timer.remove().wake();
        }
    }

    /// Jumps to the next moment at which somebody wants to be woken; `false` if nobody does.
    pub(crate) fn jump(&mut self) -> bool {
        let Some(((at, _), _)) = self.timers.first_key_value() else { return false };
        let span = at.since(self.now);
        self.pass(span);
        true
    }

    pub(crate) fn breaks(&mut self, invariant: Invariant, what: String) {
        self.note(&format!("broken: {invariant:?}: {what}"));
        self.broken.get_or_insert((invariant, what));
    }

    /// Lets the auditor read what has become durable.
    pub(crate) fn audit(&mut self) {
        if let Err((invariant, what)) = self.auditor.read(&self.disk.image.records, &self.truth) {
            self.breaks(invariant, what);
        }
    }

    /// The last lines of what happened that contain any of `words`, or all of the last few.
    pub(crate) fn trace(&self, words: &[String], max: usize) -> Vec<String> {
        let is_about =
            |line: &&String| words.is_empty() || words.iter().any(|it| line.contains(it.as_str()));
        let skipped = self.trace.iter().filter(is_about).count().saturating_sub(max);
        self.trace.iter().filter(is_about).skip(skipped).cloned().collect()
    }

    /// Lets go of everything that holds the simulation in a circle.
    pub(crate) fn close(&mut self) -> (Vec<(Side, Job)>, Option<Arc<Process>>) {
        (std::mem::take(&mut self.spawned), self.process.take())
    }
}

/// A panic elsewhere is reported by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
