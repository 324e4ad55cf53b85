//! A paid endpoint in an axum app, priced by the length of the question.
//!
//! `FARTHING_SECRET=$(openssl rand -base64 32) cargo run -p farthing-gate --example translate`

use std::path::Path;
use std::sync::Arc;

use axum::{Router, routing::get};
use farthing_gate::{Clock, Gate, SystemClock, Tag};
use farthing_ledger::Holder;
use farthing_money::{Asset, Assets};
use farthing_mpp::Secret;
use farthing_rail_prepaid::PrepaidRail;
use farthing_store_sqlite::{Options, SqliteStore};
use http::request::Parts;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usd = Asset::new("usd".parse()?, 6)?;
    let book = Path::new("translate.db");
    let store = SqliteStore::open(book, Options::default(), SystemClock.now())?;
    let gate = Gate::builder("localhost", Secret::new(std::env::var("FARTHING_SECRET")?)?)?
        .rail(PrepaidRail::new(Assets::from_iter([usd.clone()])))
        .store(Arc::new(store));

    let (till, seller) = (gate.clone(), Holder::new("translator")?);
    let price = move |head: &Parts| {
        let letters = head.uri.query().map_or(1, str::len).max(1);
        match usd.atoms(10).checked_mul(u128::try_from(letters).unwrap_or(u128::MAX)) {
            Ok(amount) => till.tag("translate", &amount, &seller),
            Err(_) => Tag::Unpayable,
        }
    };
    let app =
        Router::new().route("/translate", get(|| async { "bonjour" })).layer(gate.layer(price));
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?, app).await?;
    Ok(())
}
