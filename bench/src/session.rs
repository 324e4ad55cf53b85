//! Sessions: vouchers a second, each durable before its answer; and what a session costs of the chain and of
//! the disk, beside single payments through the same code.
//!
//! Channels are opened on a chain before anything is measured, by each server for itself, and vouchers are
//! signed before the clock starts. A channel's vouchers go one after the other over a connection of their
//! own, since each says what was spent in all; channels go side by side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use farthing_core::{Act, Invitation, Payer as _, PreparedSession, SessionPayer};
use farthing_money::{Amount, Asset};
use farthing_rail_tempo::session::{B256, Escrow, Voucher, VoucherKey, deploy};
use farthing_rail_tempo::{Nodes, TempoPayer, Token, Tokens, parse_node};
use farthing_store_sqlite::Reader;
use farthing_testkit::chain::{DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, development_key};
use tokio::task::JoinSet;

use crate::buyer::{ChainBuyers, invitation, ready, written};
use crate::chain::{Cadence, Chain};
use crate::load::{Connection, Connections, Measured, Plan, get, in_sequences};
use crate::machine;
use crate::server::{Kind, Process, SELLER, Setting, UNIT_ATOMS};

/// How much is deposited in each channel, in atoms: more than any run spends.
const DEPOSIT: u128 = 1_000_000_000;

/// How many channels are opened at once.
const OPENED_AT_ONCE: usize = 8;

/// How many single payments are presented at once.
const SINGLY_AT_ONCE: usize = 64;

/// How long signatures are checked to see how many there can be.
const CEILING: Duration = Duration::from_secs(2);

/// How long a steady state is measured.
const STEADY: Duration = Duration::from_secs(4);

/// How many channels bursts come from.
const BURST_CHANNELS: usize = 100;

/// How many requests a burst has.
const BURSTS: [usize; 3] = [100, 1_000, 10_000];

/// Counts syncs in a file that it shares with whoever looks.
const COUNTER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static uint64_t *count;
__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FARTHING_BENCH_SYNCS");
    int file = name ? open(name, O_RDWR) : -1;
    if (file < 0) return;
    void *page = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) count = page;
    close(file);
}
static void counted(void) { if (count) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED); }
int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    counted();
    return real(file);
}
int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    counted();
    return real(file);
}
"#;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Channels that are paid on at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    channels: Vec<usize>,
    /// Vouchers of each round; the peer gets a tenth, as it asks its node about each
    #[arg(long, default_value_t = 40_000)]
    vouchers: usize,
    /// Rounds; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this server; for a profiler
    #[arg(long)]
    server: Option<Kind>,
    /// Only vouchers a second
    #[arg(long)]
    rates_only: bool,
    /// How many requests are paid for at most to see what that costs
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Where books are kept; the disk matters
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let folder = crate::folder(options.folder.as_deref())?;
    machine::print(folder.path(), &"as many as there are channels")?;
    println!("payments   vouchers of secp256k1, one a request; signed before the clock starts");
    println!("channels   opened on the chain, in FarthingEscrow; anvil on the same cores");
    let mut chain = Chain::start(Cadence::Mixed).await?;
    let nodes = nodes(&chain.url)?;
    let deployed = deploy(&nodes, &development_key(SELLER), &token()?).await;
    let deployed = deployed.map_err(|error| anyhow::anyhow!("no escrow: {error}"))?;
    let world = World { nodes, escrow: deployed.escrow, folder: folder.path().to_owned() };
    let ceiling = Ceiling::measure(&world.escrow)?;
    ceiling.print();
    let (node, escrow) = (chain.url.clone(), world.escrow.address.to_string());
    let sold = Setting { node: Some(&node), escrow: Some(&escrow), ..Setting::default() };
    let upstream = Process::start(Kind::Upstream, folder.path(), Setting::default()).await?;
    let before = Setting { upstream: Some(upstream.address), ..sold };
    rates(options, &world, sold, before, &ceiling).await?;
    if !options.rates_only {
        bursts(&world, before).await?;
        costs(options, &mut chain, &world, before).await?;
    }
    upstream.stop().await
}

fn token() -> Result<Token> {
    Ok(Token { asset: Asset::new("usd".parse()?, 6)?, address: PATH_USD.parse()? })
}

fn nodes(url: &str) -> Result<Arc<Nodes>> {
    let url = parse_node(url).context("the address of a node")?;
    Ok(Arc::new(Nodes::new(TEMPO_CHAIN_ID, vec![url], Duration::from_secs(10))?))
}

/// A chain with an escrow.
struct World {
    nodes: Arc<Nodes>,
    escrow: Escrow,
    folder: PathBuf,
}

impl World {
    fn payer(&self, number: usize) -> Result<Arc<TempoPayer>> {
        let tokens = Tokens::new(vec![token()?]);
        Ok(Arc::new(TempoPayer::new(&development_key(number), Arc::clone(&self.nodes), tokens)?))
    }
}

// --- the machine -------------------------------------------------------------------------------

/// How many signatures the machine can check, with nothing else to do.
struct Ceiling {
    one: f64,
    all: f64,
    cores: usize,
}

impl Ceiling {
    fn measure(escrow: &Escrow) -> Result<Self> {
        let key = VoucherKey::new(&development_key(2))?;
        let voucher = key.sign(escrow, B256::repeat_byte(7), 1_000).context("a voucher")?;
        let cores = std::thread::available_parallelism()?.get();
        let one = checked(1, escrow, &key, &voucher);
        Ok(Self { one, all: checked(cores, escrow, &key, &voucher), cores })
    }

    fn print(&self) {
        println!(
            "ceiling    {:.0} voucher signatures a second on one core, {:.0} on all {}: the digest, and \
             the signer recovered",
            self.one, self.all, self.cores
        );
    }
}

/// How many checks of a voucher `threads` make a second.
fn checked(threads: usize, escrow: &Escrow, key: &VoucherKey, voucher: &Voucher) -> f64 {
    let begin = Instant::now();
    let check = || {
        let mut count = 0_u64;
        while begin.elapsed() < CEILING {
            for _ in 0..64 {
                let voucher = std::hint::black_box(voucher);
                count += u64::from(voucher.verify(escrow, key.account()).is_ok());
            }
        }
        count
    };
    let count: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        all.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    count as f64 / begin.elapsed().as_secs_f64()
}

// --- channels ----------------------------------------------------------------------------------

/// A channel, and what was signed on it so far.
struct Channel {
    payer: Arc<TempoPayer>,
    session: PreparedSession,
    signed: u128,
}

/// The channels of one server.
struct Channels {
    path: &'static str,
    all: Vec<Channel>,
}

impl Channels {
    /// Opens channels with a server, over the chain.
    async fn open(
        world: &World,
        server: &Process,
        path: &'static str,
        count: usize,
    ) -> Result<Self> {
        let payers = (0..DEVELOPMENT_KEYS.len()).filter(|number| *number != SELLER);
        let payers: Vec<_> = payers.map(|number| world.payer(number)).collect::<Result<_>>()?;
        let (mut opening, mut all) = (JoinSet::new(), Vec::with_capacity(count));
        let mut next = payers.iter().cycle().take(count);
        loop {
            while opening.len() < OPENED_AT_ONCE
                && let Some(payer) = next.next()
            {
                opening.spawn(opened(Arc::clone(payer), server.address, path));
            }
            let Some(channel) = opening.join_next().await else { break };
            all.push(channel??);
        }
        Ok(Self { path, all })
    }

    /// Signs `count` vouchers in all, shared out among the first `channels`, under one challenge.
    async fn sign(
        &mut self,
        server: &Process,
        channels: usize,
        count: usize,
    ) -> Result<Vec<Vec<Vec<u8>>>> {
        let invitation = asked(server.address, self.path).await?;
        let each = count.div_ceil(channels).max(1);
        let path = self.path;
        let all = self.all.get_mut(..channels).context("enough channels")?;
        let half = channels.div_ceil(2);
        std::thread::scope(|scope| {
            let sign = |part: &mut [Channel]| -> Result<Vec<Vec<Vec<u8>>>> {
                part.iter_mut().map(|it| it.sign(&invitation, path, each)).collect()
            };
            let parts = all.chunks_mut(half).map(|part| scope.spawn(move || sign(part)));
            let mut sequences = Vec::with_capacity(channels);
            for part in parts.collect::<Vec<_>>() {
                sequences.extend(part.join().ok().context("a signing thread panicked")??);
            }
            Ok(sequences)
        })
    }
}

impl Channel {
    fn rail(&self) -> Result<&dyn SessionPayer> {
        self.payer.session().context("a payer of sessions")
    }

    fn sign(&mut self, invitation: &Invitation, path: &str, count: usize) -> Result<Vec<Vec<u8>>> {
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            self.signed += UNIT_ATOMS;
            requests.push(self.request(
                invitation,
                path,
                Act::Voucher { cumulative: self.signed },
            )?);
        }
        Ok(requests)
    }

    fn request(&self, invitation: &Invitation, path: &str, act: Act) -> Result<Vec<u8>> {
        let paid = ready(self.rail()?.act(invitation, &self.session, act))?;
        let paid = paid.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(get(path, &written(invitation, &paid)?))
    }

    /// Closes it, with what was spent.
    async fn close(&self, server: &Process, path: &str) -> Result<()> {
        let invitation = asked(server.address, path).await?;
        let close = self.request(&invitation, path, Act::Close { cumulative: self.signed })?;
        let mut connection = Connection::open(server.address).await?;
        let status = connection.ask_for_nothing(&close).await?;
        ensure!(status == 204, "wanted 204, and {status} came:\n{}", connection.text());
        Ok(())
    }
}

async fn opened(
    payer: Arc<TempoPayer>,
    address: std::net::SocketAddr,
    path: &'static str,
) -> Result<Channel> {
    let invitation = asked(address, path).await?;
    let deposit = Amount::new("usd".parse()?, DEPOSIT);
    let entropy: [u8; 32] = {
        let mut bytes = [0; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        bytes
    };
    let rail = payer.session().context("a payer of sessions")?;
    let session = rail.prepare(&invitation, &deposit, entropy).await;
    let session = session.map_err(|error| anyhow::anyhow!("{error}"))?;
    let channel = Channel { payer: Arc::clone(&payer), session, signed: UNIT_ATOMS };
    let open = channel.request(&invitation, path, Act::Open { cumulative: UNIT_ATOMS })?;
    let mut connection = Connection::open(address).await?;
    let status = connection.ask(&open).await?;
    ensure!(status == 200, "wanted 200, and {status} came:\n{}", connection.text());
    Ok(channel)
}

/// The offer of a session.
async fn asked(address: std::net::SocketAddr, path: &str) -> Result<Invitation> {
    let mut connection = Connection::open(address).await?;
    let status = connection.ask(&get(path, "")).await?;
    ensure!(status == 402, "wanted 402, and {status} came:\n{}", connection.text());
    invitation(&connection.challenge()?)
}

// --- rates -------------------------------------------------------------------------------------

async fn rates(
    options: &Options,
    world: &World,
    sold: Setting<'_>,
    before: Setting<'_>,
    ceiling: &Ceiling,
) -> Result<()> {
    let most = options.channels.iter().copied().max().context("channels")?;
    let mut rows: Vec<(Kind, usize, Vec<Measured>)> = Vec::new();
    let kinds = [(Kind::Layer, sold), (Kind::Gateway, before), (Kind::Peer, sold)];
    let kinds = kinds.into_iter().filter(|(kind, _)| options.server.is_none_or(|it| it == *kind));
    let mut servers = Vec::new();
    for (kind, setting) in kinds {
        let server = Process::start(kind, &world.folder, setting).await?;
        let begin = Instant::now();
        let channels = Channels::open(world, &server, "/paid", most).await?;
        let took = begin.elapsed().as_secs_f64();
        eprintln!("  {kind}: {most} channels opened in {took:.1} s");
        servers.push((server, channels, most));
    }
    for _ in 0..options.rounds {
        for &channels in &options.channels {
            for (server, opened, paid) in &mut servers {
                // One channel at a time waits for the disk, and the peer for its node.
                let share = match (server.kind, channels) {
                    (Kind::Peer, _) | (_, 1) => 10,
                    (_, 2..16) => 2,
                    (_, _) => 1,
                };
                let count = options.vouchers / share;
                let sequences = opened.sign(server, channels, count).await?;
                *paid += sequences.iter().map(Vec::len).sum::<usize>();
                let measured = in_sequences(server.address, sequences, Duration::MAX).await?;
                eprintln!("  {} {channels}: {:.0}/s", server.kind, measured.rate());
                let place = (server.kind, channels);
                match rows.iter_mut().find(|row| (row.0, row.1) == place) {
                    Some((_, _, rounds)) => rounds.push(measured),
                    None => rows.push((server.kind, channels, vec![measured])),
                }
            }
        }
    }
    for (server, _, paid) in servers {
        let kind = server.kind;
        server.stop().await?;
        if kind != Kind::Peer {
            crate::server::audit(kind, &world.folder, paid)?;
        }
    }
    print_rates(&rows, ceiling);
    println!("the books of layer and gateway balance and hold every payment; the peer keeps none");
    Ok(())
}

/// The round with the median rate.
fn median(rounds: &[Measured]) -> Option<&Measured> {
    let mut rounds: Vec<&Measured> = rounds.iter().collect();
    rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    rounds.get(rounds.len() / 2).copied()
}

fn print_rates(rows: &[(Kind, usize, Vec<Measured>)], ceiling: &Ceiling) {
    println!(
        "\n{:<10} {:>8} {:>12} {:>9} {:>9} {:>12} {:>12}",
        "server", "channels", "vouchers/s", "p50 ms", "p99 ms", "of ceiling", "of the peer"
    );
    for (kind, channels, rounds) in rows {
        let Some(measured) = median(rounds) else { continue };
        let peer = rows.iter().find(|row| (row.0, row.1) == (Kind::Peer, *channels));
        let peer = peer.and_then(|row| median(&row.2)).map(Measured::rate);
        let beside = peer.map_or_else(|| "-".into(), |it| format!("{:.1}", measured.rate() / it));
        println!(
            "{kind:<10} {channels:>8} {:>12.0} {:>9.2} {:>9.2} {:>12.2} {beside:>12}",
            measured.rate(),
            measured.millis(0.5),
            measured.millis(0.99),
            measured.rate() / ceiling.all,
        );
    }
    println!();
}

// --- bursts ------------------------------------------------------------------------------------

/// How long bursts take, and what a steady state runs at, with a handler that does nothing and one that
/// takes 200 ms.
async fn bursts(world: &World, before: Setting<'_>) -> Result<()> {
    let folder = world.folder.join("bursts");
    std::fs::create_dir(&folder)?;
    println!(
        "\nbursts     through the gateway, on {BURST_CHANNELS} channels, all at once; steady: for {} s",
        STEADY.as_secs()
    );
    println!(
        "{:<10} {:>8} {:>12} {:>10} {:>9} {:>9}",
        "handler", "requests", "whole s", "per s", "p50 ms", "p99 ms"
    );
    for (handler, path) in [("0 ms", "/paid"), ("200 ms", "/slow")] {
        let folder = folder.join(path.trim_start_matches('/'));
        std::fs::create_dir(&folder)?;
        let server = Process::start(Kind::Gateway, &folder, before).await?;
        let mut channels = Channels::open(world, &server, path, BURST_CHANNELS).await?;
        let shown = |requests: &str, measured: &Measured| {
            let (p50, p99) = (measured.millis(0.5), measured.millis(0.99));
            let (took, rate) = (measured.time().as_secs_f64(), measured.rate());
            println!("{handler:<10} {requests:>8} {took:>12.2} {rate:>10.0} {p50:>9.2} {p99:>9.2}");
        };
        for requests in BURSTS {
            let sequences = channels.sign(&server, BURST_CHANNELS, requests).await?;
            let measured = in_sequences(server.address, sequences, Duration::MAX).await?;
            shown(&measured.count().to_string(), &measured);
        }
        let enough = if path == "/slow" { 4_000 } else { 80_000 };
        let sequences = channels.sign(&server, BURST_CHANNELS, enough).await?;
        let measured = in_sequences(server.address, sequences, STEADY).await?;
        shown("steady", &measured);
        server.stop().await?;
    }
    Ok(())
}

// --- costs -------------------------------------------------------------------------------------

/// What paying for some requests has cost.
struct Cost {
    transactions: u64,
    bytes: u64,
    syncs: u64,
    records: usize,
}

/// What n requests cost the chain and the disk: in one session, and paid for singly.
async fn costs(
    options: &Options,
    chain: &mut Chain,
    world: &World,
    before: Setting<'_>,
) -> Result<()> {
    let library = counter(&world.folder)?;
    println!(
        "\ncosts      of n requests through the gateway: one channel, opened, used and closed, one request \
         after the other;"
    );
    println!(
        "           and the same price paid singly on the chain, up to {SINGLY_AT_ONCE} at once, which \
         shares syncs"
    );
    println!(
        "{:<9} {:>8} {:>13} {:>12} {:>9} {:>9} {:>13}",
        "paid", "requests", "transactions", "bytes", "syncs", "records", "bytes/request"
    );
    for in_session in [true, false] {
        let mode = if in_session { "session" } else { "singly" };
        for requests in [1_usize, 10, 100, 1_000, 10_000] {
            if requests > options.requests {
                continue;
            }
            let folder = world.folder.join(format!("{mode}-{requests}"));
            std::fs::create_dir(&folder)?;
            let syncs = folder.join("syncs");
            std::fs::write(&syncs, [0; 8])?;
            let counted = Setting { counted: Some((&library, &syncs)), ..before };
            let server = Process::start(Kind::Gateway, &folder, counted).await?;
            let start = (chain.transactions().await?, server.written_bytes()?, count(&syncs)?);
            if in_session {
                let mut channels = Channels::open(world, &server, "/paid", 1).await?;
                // The first is bought with the opening.
                if requests > 1 {
                    let sequences = channels.sign(&server, 1, requests - 1).await?;
                    in_sequences(server.address, sequences, Duration::MAX).await?;
                }
                let channel = channels.all.first().context("a channel")?;
                channel.close(&server, "/paid").await?;
            } else {
                singly(chain, &server, requests).await?;
            }
            let (bytes, syncs) = (server.written_bytes()? - start.1, count(&syncs)? - start.2);
            let transactions = chain.transactions().await? - start.0;
            server.stop().await?;
            crate::server::audit(Kind::Gateway, &folder, requests)?;
            let records = Reader::open(&folder.join("gateway.db"))?.journal()?.len();
            print_cost(mode, requests, &Cost { transactions, bytes, syncs, records });
        }
    }
    Ok(())
}

fn print_cost(mode: &str, requests: usize, cost: &Cost) {
    let Cost { transactions, bytes, syncs, records } = cost;
    let each = *bytes as f64 / requests as f64;
    println!(
        "{mode:<9} {requests:>8} {transactions:>13} {bytes:>12} {syncs:>9} {records:>9} {each:>13.0}"
    );
}

/// Pays for each request on the chain, up to some at once: transactions live for half a minute.
async fn singly(chain: &Chain, server: &Process, requests: usize) -> Result<()> {
    let buyers = ChainBuyers::new(&chain.url)?;
    let mut left = requests;
    while left > 0 {
        let at_once = left.min(SINGLY_AT_ONCE);
        let plan = Plan { address: server.address, in_flight: at_once, time: Duration::MAX };
        let challenges = plan.collect("/once", at_once).await?;
        let requests = buyers.answer_at("/once", &challenges).await?;
        let connections = Connections::open(server.address, at_once).await?;
        for answer in connections.present(requests).await? {
            ensure!(answer.status == 200, "wanted 200, and another came:\n{}", answer.text);
        }
        left -= at_once;
    }
    Ok(())
}

/// What the library has counted.
fn count(file: &Path) -> Result<u64> {
    let bytes = std::fs::read(file)?;
    Ok(u64::from_ne_bytes(bytes.as_slice().try_into()?))
}

/// Builds the library that counts syncs.
fn counter(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("count.c"), folder.join("count.so"));
    std::fs::write(&source, COUNTER)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    ensure!(compiler.status().context("there is no C compiler")?.success(), "cc failed");
    Ok(library)
}
