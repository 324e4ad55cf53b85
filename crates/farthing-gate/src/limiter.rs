//! How often one client may ask (§11.12).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farthing_core::{Gcra, GcraState};
use farthing_money::Timestamp;

#[cfg(test)]
mod tests;

/// The most clients remembered at once; beyond it, idle ones are forgotten, and if none is idle the
/// newcomer waits.
const CLIENTS_MAX: usize = 100_000;

/// How many idle clients are forgotten at a time.
const FORGET_MAX: usize = 64;

/// Who asks, as the server saw it: put into a request's extensions by whoever accepted the
/// connection. Without it nothing is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// How often one client address may ask for a challenge or have a credential verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// On average.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

pub(crate) struct Limiter {
    rate: Gcra,
    clients: Mutex<BTreeMap<IpAddr, GcraState>>,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { rate: Gcra::new(limit.per_second, limit.burst), clients: Mutex::default() }
    }

    /// Counts a request of `client`, or says how long it should wait.
    pub(crate) fn take(&self, client: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let client = subject(client);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            self.forget_idle(&mut clients, now);
            if clients.len() >= CLIENTS_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        self.rate.take(clients.entry(client).or_default(), now)
    }

    fn forget_idle(&self, clients: &mut BTreeMap<IpAddr, GcraState>, now: Timestamp) {
        let idle = clients.iter().filter(|(_, state)| self.rate.is_idle(state, now));
        let idle: Vec<IpAddr> = idle.map(|(client, _)| *client).take(FORGET_MAX).collect();
        for client in idle {
            clients.remove(&client);
        }
    }
}

/// Whom an address stands for: a household of IPv6 is one /64.
fn subject(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}
