//! `farthing`, one binary: sell an API by the call, pay for one, and read the books of both.
//!
//! **Architecture invariant:** only wiring is here: what is decided about a payment is decided in a
//! crate below, where tests and other programs reach it.

mod admin;
mod book;
mod books;
mod cli;
mod conformance;
mod daemon;
mod demo;
mod doctor;
mod erase;
mod evidence;
mod failure;
mod home;
mod pay;
mod payments;
mod policy;
mod prepaid;
mod rail;
mod serve;
mod sessions;
mod store;
mod subscriptions;
mod wallet;
mod webhooks;

use std::process::ExitCode;

use clap::Parser;

/// A payment is many small allocations on several threads; the system's allocator costs a tenth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use cli::{Cli, Command};
use failure::{Done, Failure};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Done {
    match command {
        Command::Serve(args) => concurrently(serve::run(args)),
        Command::Pay(args) => concurrently(pay::run(*args)),
        Command::Wallet(command) => concurrently(wallet::run(command)),
        Command::Policy(command) => policy::run(command),
        Command::Approvals(command) => concurrently(policy::approvals(command)),
        Command::Agents(command) => policy::agents(command),
        Command::Sessions(command) => concurrently(sessions::run(command)),
        Command::Subscriptions(command) => concurrently(subscriptions::run(command)),
        Command::Prepaid(command) => concurrently(prepaid::run(command)),
        Command::Ledger(command) => book::run(command),
        Command::Evidence(command) => evidence::run(command),
        Command::Receipt(command) => evidence::receipt(command),
        Command::Trace(args) => book::trace(&args),
        Command::Payments(command) => concurrently(payments::run(command)),
        Command::Refund(args) => concurrently(payments::refund(args)),
        Command::Payouts(command) => concurrently(payments::payouts(command)),
        Command::Store(command) => store::run(command),
        Command::Webhooks(command) => concurrently(webhooks::run(command)),
        Command::Rail(command) => concurrently(rail::run(command)),
        Command::Doctor(args) => concurrently(doctor::run(args)),
        Command::Demo => concurrently(demo::run()),
        Command::Conformance => conformance::run(),
    }
}

/// Runs a command that waits for sockets.
fn concurrently(command: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Failure::other)?.block_on(command)
}
