//! Asks a wallet's daemon to pay, or makes a request by itself and asks the wallet for the signature only.
//!
//! ```text
//!  Client::fetch ─► seller ─► 402 ─► wallet: POST /v1/credentials ─► seller, with the credential ─► the answer
//!                                                                        └─► wallet: POST …/outcome
//!  Wallet::pay ───► wallet: POST /v1/pay ─► the answer, and what was paid for it
//! ```
//!
//! For small devices: it blocks, has no runtime and no TLS of its own, and needs one crate, `serde_json`; five in
//! all with those that it needs. Whoever has TLS brings it as a [`Dial`].
//!
//! ```no_run
//! use farthing_wallet_client::{At, Client, Plain, Request, Wallet};
//!
//! let wallet = Wallet::new(At::parse("unix:/run/farthing/wallet.sock")?, &std::env::var("FARTHING_AGENT_TOKEN")?);
//! let client = Client::new(wallet, Plain);
//! let fetched = client.fetch(&Request::get("http://127.0.0.1:4021/forecast/rome"))?;
//! println!("{}: {}", fetched.answer.status, String::from_utf8_lossy(&fetched.answer.body));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Architecture invariant:** no key is here, and nothing is signed here.
//!
//! **Architecture invariant:** a credential is sent to the URL that asked for it and nowhere else; no redirect is
//! followed.

mod base64;
mod error;
mod fetch;
mod http;
mod wallet;

pub use error::{Error, Problem};
pub use fetch::{Client, Fetched};
pub use http::{Answer, Dial, Plain, Request, Stream, Target};
pub use wallet::{At, Credential, Ending, Paid, PayOptions, Wallet};

#[cfg(test)]
mod tests;
