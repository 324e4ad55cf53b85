//! A channel in memory: vouchers come in from one side, streams take from the other.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use farthing_meter::{Balance, NeedVoucher, Stopped, Take, Wanted};
use farthing_money::Timestamp;
use farthing_mpp::Receipt;
use tokio::sync::{Semaphore, watch};

/// What a unit costs, in atoms.
pub(crate) const PRICE: u128 = 25;

/// A channel. Its clones are the same channel.
#[derive(Clone)]
pub(crate) struct Purse {
    state: Arc<watch::Sender<State>>,
    /// Permits for takings to end, where a test holds them up.
    gate: Option<Arc<Semaphore>>,
    log: Arc<Mutex<Vec<Wanted>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) deposit: u128,
    pub(crate) accepted: u128,
    pub(crate) spent: u128,
    /// What was taken in all, whether it was given back or not.
    pub(crate) taken: u128,
    pub(crate) stopped: Option<Stopped>,
}

impl Purse {
    /// A channel with a voucher over so many units.
    pub(crate) fn with_units(units: u128) -> Self {
        let state = State {
            deposit: 1_000 * PRICE,
            accepted: units * PRICE,
            spent: 0,
            taken: 0,
            stopped: None,
        };
        Self { state: Arc::new(watch::Sender::new(state)), gate: None, log: Arc::default() }
    }

    /// The same, whose takings wait for [`Purse::let_one_through`].
    pub(crate) fn held(mut self) -> Self {
        self.gate = Some(Arc::new(Semaphore::new(0)));
        self
    }

    pub(crate) fn let_one_through(&self) {
        self.gate.as_ref().unwrap().add_permits(1);
    }

    /// The payer signs a voucher over so many units in all.
    pub(crate) fn accept_units(&self, units: u128) {
        self.state.send_modify(|state| state.accepted = units * PRICE);
    }

    pub(crate) fn stop(&self, stopped: Stopped) {
        self.state.send_modify(|state| state.stopped = Some(stopped));
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn spent_units(&self) -> u128 {
        self.state().spent / PRICE
    }

    /// Waits until so many units were taken in all, and so many of them are still spent.
    pub(crate) async fn until(&self, taken: u128, spent: u128) {
        let mut states = self.state.subscribe();
        let is_so = |state: &State| (state.taken, state.spent) == (taken * PRICE, spent * PRICE);
        states.wait_for(is_so).await.unwrap();
    }

    /// What was wanted, one taking after the other.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        self.log.lock().unwrap().clone()
    }

    fn need(&self, least: u64) -> NeedVoucher {
        let state = self.state();
        NeedVoucher {
            accepted_cumulative: state.accepted,
            channel_id: "0xc4a7".to_owned(),
            deposit: state.deposit,
            required_cumulative: state.spent + u128::from(least) * PRICE,
        }
    }
}

impl Balance for Purse {
    async fn take(&self, wanted: Wanted) -> Result<Take, Stopped> {
        self.log.lock().unwrap().push(wanted);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if let Some(stopped) = self.state().stopped {
            return Err(stopped);
        }
        let mut taken = 0;
        self.state.send_modify(|state| {
            let left = (state.accepted - state.spent) / PRICE;
            let units = left.min(u128::from(wanted.most));
            if units >= u128::from(wanted.least) {
                state.spent += units * PRICE;
                state.taken += units * PRICE;
                taken = u64::try_from(units).unwrap();
            }
        });
        let taken = NonZeroU64::new(taken).map(Take::Taken);
        Ok(taken.unwrap_or_else(|| Take::Short(self.need(wanted.least))))
    }

    async fn advanced(&self, seen: NeedVoucher) {
        let mut states = self.state.subscribe();
        let is_new = |state: &State| {
            state.stopped.is_some()
                || (state.accepted, state.deposit) != (seen.accepted_cumulative, seen.deposit)
        };
        states.wait_for(is_new).await.unwrap();
    }

    fn give_back(&self, units: u64) {
        self.state.send_modify(|state| state.spent -= u128::from(units) * PRICE);
    }

    async fn receipt(&self, units: u64) -> Result<Receipt, Stopped> {
        let state = self.state();
        let at: Timestamp = "2026-11-26T08:00:00Z".parse().unwrap();
        Ok(Receipt::new("tempo", at, "0xc4a7")
            .with("intent", "session")
            .with("acceptedCumulative", state.accepted.to_string())
            .with("spent", state.spent.to_string())
            .with("units", units))
    }
}
