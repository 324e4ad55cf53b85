//! Polls tasks one at a time, in an order that chance decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use farthing_core::BoxFuture;

use crate::sim::lock;

/// A task, boxed.
pub(crate) type Job = BoxFuture<'static, ()>;

/// Where a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// In the process, and dies with it.
    Process,
    /// Outside: clients, the rails, the network.
    World,
}

struct Task {
    side: Side,
    future: Job,
    waker: Waker,
}

/// The tasks that can go on.
#[derive(Default)]
struct Ready(Mutex<BTreeSet<u64>>);

struct Wakes {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        lock(&self.ready.0).insert(self.task);
    }
}

/// Every task there is.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Ready>,
    next: u64,
}

impl Executor {
    /// Takes tasks on.
    pub(crate) fn adopt(&mut self, spawned: Vec<(Side, Job)>) {
        for (side, future) in spawned {
            self.next = self.next.saturating_add(1);
            let waker = Wakes { task: self.next, ready: Arc::clone(&self.ready) };
            let waker = Waker::from(Arc::new(waker));
            waker.wake_by_ref();
            self.tasks.insert(self.next, Task { side, future, waker });
        }
    }

    /// Polls one task that can go on; `false` if none can. `choose` is told how many there are.
    pub(crate) fn step(&mut self, choose: impl FnOnce(usize) -> usize) -> bool {
        let chosen = {
            let mut ready = lock(&self.ready.0);
            ready.retain(|task| self.tasks.contains_key(task));
            let chosen = ready.iter().nth(choose(ready.len())).copied();
            chosen.inspect(|task| {
                ready.remove(task);
            })
        };
        let Some(chosen) = chosen else { return false };
        let Some(task) = self.tasks.get_mut(&chosen) else { return false };
        let waker = task.waker.clone();
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
            self.tasks.remove(&chosen);
        }
        true
    }

    /// Drops every task of one side, wherever it waits.
    pub(crate) fn kill(&mut self, side: Side) {
        let doomed: Vec<u64> =
            self.tasks.iter().filter(|(_, task)| task.side == side).map(|(id, _)| *id).collect();
        let doomed: Vec<Task> = doomed.iter().filter_map(|id| self.tasks.remove(id)).collect();
        // What they hold may wake others while it is dropped.
        drop(doomed);
    }
}
