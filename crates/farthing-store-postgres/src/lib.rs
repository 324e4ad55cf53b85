//! A book in PostgreSQL: one writer at a time, any number of gateways.
//!
//! ```text
//!  gateway A ── writer thread ── BEGIN · fence · records · COMMIT ──► PostgreSQL (and its standbys)
//!      ▲  holds the lease of the book                                   journal · proof · answer
//!      │                                                                snapshot · lease
//!  gateways B, C, … forward what they are asked, and compete for the lease when A is gone
//! ```
//!
//! Everything is keyed by the name of a book, and no statement touches two. Whoever holds the book's
//! *lease* decides in memory and writes, exactly as over a file; the others speak to it over a link of
//! their own, whose address and secret stand in the lease: whoever can read the database may speak to the
//! writer.
//!
//! # Crash safety
//!
//! A caller is answered after the commit that contains its record, which waits for whatever the cluster
//! calls durable, a synchronous standby included. A connection that is lost at `COMMIT` leaves the
//! outcome open; the writer then looks whether the records are there before it says anything.
//!
//! # Fencing
//!
//! Each commit first renews the lease under the epoch in which it was acquired. Where somebody else has
//! acquired it since, nothing is written, and whoever waits is told to try again.
//!
//! **Architecture invariant:** nobody writes under an epoch that is over; the database itself says so, in
//! the same transaction.
//!
//! **Architecture invariant:** passes the store suite of the testkit; a behaviour that is not in the suite
//! is not relied upon.

mod address;
mod check;
mod connection;
mod copy;
mod erasing;
mod journal;
mod lease;
mod link;
mod load;
mod node;
mod reader;
mod schema;
mod store;
mod verify;
mod wait;

pub use address::{Address, AddressError};
pub use check::{Health, LeaseHealth, Problem, check};
pub use connection::ConnectError;
pub use copy::{Copied, CopyError, copy};
pub use journal::WriteError;
pub use load::LoadError;
pub use reader::{ReadError, Reader};
pub use schema::{Guards, SCHEMA_VERSION, SchemaError, migrate};
pub use store::{OpenError, Options, PostgresStore, Role};
pub use verify::VerifyError;
