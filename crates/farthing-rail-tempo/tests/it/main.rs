//! The Tempo rail on a real chain of its own: the suite every rail must pass, and what only a chain
//! can do to it.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod chain;
mod channels;
mod evm;
mod evm_tills;
mod nodes;
mod refunds;
mod reserve;
mod world;

use farthing_testkit::rail::Railway;

use crate::world::World;

async fn railway() -> Option<Railway> {
    let world = World::start().await?;
    let railway = world.railway();
    Some(Railway { guard: Some(Box::new(world.chain)), ..railway })
}

farthing_testkit::rail_suite!(railway().await);
mod sessions;
mod sponsored;
mod subscribed;
mod tills;
mod unpaid;
