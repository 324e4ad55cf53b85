//! `farthing demo`: the first thing a newcomer runs.

use crate::world::World;

#[test]
fn the_demo_holds() {
    let world = World::empty();
    let shown = world.farthing(&["demo"]).ok();
    for part in [
        "HTTP/1.1 402 Payment Required",
        "farthing: paid 0.25 usd to forecasts-inc",
        "payment-receipt: ",
        "farthing-replayed: true",
        "the offer costs 2.00 usd and the cap is 0.50 usd",
        "(exit code 3)",
        "paid and delivered",
        "sound: ",
        "All of it held.",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
