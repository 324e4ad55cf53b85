//! Benchmarks through the whole HTTP path, beside a peer in the same run: `./x bench NAME`.
//!
//! Every server runs in a process of its own and answers one load generator over keep-alive
//! connections on loopback. All of them share the machine's cores, so that what counts is the ratio
//! of two numbers of one run. Nothing here fails for being slow; an unexpected answer does fail.
//!
//! **Architecture invariant:** a number is only printed when every answer behind it was the one
//! that was asked for, and, for payments, when the book balances afterwards.

#![allow(
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::arithmetic_side_effects,
    reason = "measurements are read by people; nothing here touches money"
)]

mod buyer;
mod chain;
mod durability;
mod load;
mod machine;
mod peer;
mod policy;
mod server;
mod session;
mod tempo;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

/// As in the `farthing` binary; the peer has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use crate::buyer::Buyer;
use crate::load::{Measured, Plan, Requests};
use crate::server::{Kind, Process, Setting};

/// Farthing's benchmarks.
#[derive(Parser)]
#[command(name = "farthing-bench", bin_name = "./x bench")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// 402s a second, beside each server's own free route and the peer's 402s
    Challenge(Options),
    /// Durable paid requests a second, beside the free route and the peer's payments
    Prepaid(Options),
    /// Payments on a Tempo chain, from the credential to the answer, beside the peer's
    Tempo(tempo::Options),
    /// Vouchers of sessions a second, each durable before its answer, beside the peer's and the machine's
    /// signatures; and what a session costs of the chain and the disk, beside single payments
    Session(session::Options),
    /// An owner's policy against agents that overspend and credentials that are no good: three baselines, six
    /// scenarios, with what was prevented, what was denied, and how long each stage takes
    Policy(policy::Options),
    /// Durable postings a second on one book, in SQLite and in PostgreSQL, on the disk as it is and on a
    /// slower one
    Durability(durability::Options),
    /// One of the servers, for the benchmarks themselves
    #[command(hide = true)]
    Serve {
        kind: Kind,
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        upstream: Option<std::net::SocketAddr>,
        /// The node of a Tempo chain, where it is paid on one
        #[arg(long)]
        node: Option<String>,
        /// The escrow on it, where it is paid in sessions
        #[arg(long)]
        escrow: Option<String>,
    },
}

#[derive(clap::Args)]
struct Options {
    /// Requests in flight, one on each connection
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// How long each rate is measured, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Payments of each round
    #[arg(long, default_value_t = 40_000)]
    payments: usize,
    /// Rounds; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this server; for a profiler
    #[arg(long)]
    server: Option<Kind>,
    /// Where books are kept; the disk matters
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Challenge(options) => block_on(challenge(&options)),
        Task::Prepaid(options) => block_on(prepaid(&options)),
        Task::Tempo(options) => block_on(tempo::run(&options)),
        Task::Policy(options) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(policy::run(&options))
        }
        Task::Durability(options) => durability::run(&options),
        Task::Session(options) => block_on(session::run(&options)),
        Task::Serve { kind, folder, upstream, node, escrow } => {
            server::serve(kind, &folder, upstream, node.as_deref(), escrow.as_deref())
        }
    }
}

/// The load generator is one thread, which leaves what it can of two cores to the server.
fn block_on(task: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

async fn challenge(options: &Options) -> Result<()> {
    let folder = folder(options.folder.as_deref())?;
    machine::print(folder.path(), &options.in_flight)?;
    let servers = Servers::start(folder.path()).await?;
    let mut table = Table::default();
    for _ in 0..options.rounds {
        for server in servers.measured(options.server) {
            let plan = Plan {
                address: server.address,
                in_flight: options.in_flight,
                time: Duration::from_secs(options.seconds),
            };
            table.add(server.kind, "free", plan.run(Requests::same("/free", 200)).await?);
            table.add(server.kind, "402", plan.run(Requests::same("/paid", 402)).await?);
        }
    }
    table.print();
    table.ratio((Kind::Gateway, "402"), (Kind::Gateway, "free"));
    table.ratio((Kind::Layer, "402"), (Kind::Layer, "free"));
    table.ratio((Kind::Peer, "402"), (Kind::Peer, "free"));
    table.ratio((Kind::Layer, "402"), (Kind::Peer, "402"));
    table.ratio((Kind::Gateway, "402"), (Kind::Peer, "402"));
    servers.stop().await
}

async fn prepaid(options: &Options) -> Result<()> {
    let folder = folder(options.folder.as_deref())?;
    machine::print(folder.path(), &options.in_flight)?;
    println!(
        "payments a round {}; each is a fresh challenge and a fresh signature",
        options.payments
    );
    let servers = Servers::start(folder.path()).await?;
    let mut table = Table::default();
    for _ in 0..options.rounds {
        for server in servers.measured(options.server) {
            let mut plan = Plan {
                address: server.address,
                in_flight: options.in_flight,
                time: Duration::from_secs(options.seconds),
            };
            table.add(server.kind, "free", plan.run(Requests::same("/free", 200)).await?);
            // All challenges are asked for and answered first: what is timed is the payment.
            let challenges = plan.collect("/paid", options.payments).await?;
            let requests = Buyer::for_server(server.kind).answer(&challenges)?;
            plan.time = Duration::MAX;
            table.add(server.kind, "paid", plan.run(Requests::each(requests, 200)).await?);
        }
    }
    servers.stop().await?;
    let audited = [Kind::Gateway, Kind::Layer].into_iter();
    for kind in audited.filter(|kind| options.server.is_none_or(|only| only == *kind)) {
        server::audit(kind, folder.path(), options.payments * options.rounds)?;
    }
    table.print();
    table.ratio((Kind::Gateway, "paid"), (Kind::Gateway, "free"));
    table.ratio((Kind::Layer, "paid"), (Kind::Layer, "free"));
    table.ratio((Kind::Peer, "paid"), (Kind::Peer, "free"));
    table.ratio((Kind::Layer, "paid"), (Kind::Peer, "paid"));
    table.ratio((Kind::Gateway, "paid"), (Kind::Peer, "paid"));
    println!("the books of gateway and layer balance and hold every payment; the peer keeps none");
    Ok(())
}

fn folder(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    tempfile::tempdir_in(parent).context("no folder for the books")
}

/// The servers of a run. Only one is asked at a time.
struct Servers {
    upstream: Process,
    gateway: Process,
    layer: Process,
    peer: Process,
}

impl Servers {
    async fn start(folder: &Path) -> Result<Self> {
        let alone = Setting::default();
        let upstream = Process::start(Kind::Upstream, folder, alone).await?;
        let before = Setting { upstream: Some(upstream.address), ..alone };
        let gateway = Process::start(Kind::Gateway, folder, before).await?;
        let layer = Process::start(Kind::Layer, folder, alone).await?;
        let peer = Process::start(Kind::Peer, folder, alone).await?;
        Ok(Self { upstream, gateway, layer, peer })
    }

    fn measured(&self, only: Option<Kind>) -> impl Iterator<Item = &Process> {
        let all = [&self.gateway, &self.layer, &self.peer];
        all.into_iter().filter(move |server| only.is_none_or(|only| only == server.kind))
    }

    async fn stop(self) -> Result<()> {
        for process in [self.gateway, self.layer, self.peer, self.upstream] {
            process.stop().await?;
        }
        Ok(())
    }
}

/// What was measured, by server and route.
#[derive(Default)]
struct Table(Vec<(Kind, &'static str, Vec<Measured>)>);

impl Table {
    fn add(&mut self, kind: Kind, route: &'static str, measured: Measured) {
        eprintln!("  {kind} {route}: {:.0}/s", measured.rate());
        match self.0.iter_mut().find(|row| (row.0, row.1) == (kind, route)) {
            Some((_, _, rounds)) => rounds.push(measured),
            None => self.0.push((kind, route, vec![measured])),
        }
    }

    /// The round with the median rate.
    fn median(&self, of: (Kind, &str)) -> Option<&Measured> {
        let (_, _, rounds) = self.0.iter().find(|row| (row.0, row.1) == of)?;
        let mut rounds: Vec<&Measured> = rounds.iter().collect();
        rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        rounds.get(rounds.len() / 2).copied()
    }

    fn print(&self) {
        println!(
            "\n{:<10} {:<6} {:>10} {:>9} {:>9} {:>9}",
            "server", "route", "per s", "p50 ms", "p99 ms", "max ms"
        );
        for (kind, route, _) in &self.0 {
            if let Some(measured) = self.median((*kind, route)) {
                let [p50, p99, max] = [0.5, 0.99, 1.0].map(|it| measured.millis(it));
                println!(
                    "{kind:<10} {route:<6} {:>10.0} {p50:>9.2} {p99:>9.2} {max:>9.2}",
                    measured.rate()
                );
            }
        }
        println!();
    }

    fn ratio(&self, one: (Kind, &str), other: (Kind, &str)) {
        if let (Some(a), Some(b)) = (self.median(one), self.median(other)) {
            let ratio = a.rate() / b.rate();
            println!("{} {} / {} {} = {ratio:.2}", one.0, one.1, other.0, other.1);
        }
    }
}

/// Fails with what came instead.
fn expect(status: u16, wanted: u16, head: &[u8]) -> Result<()> {
    let head = String::from_utf8_lossy(head);
    ensure!(status == wanted, "wanted {wanted}, and {status} came:\n{head}");
    Ok(())
}
