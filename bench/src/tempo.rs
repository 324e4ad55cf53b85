//! Payments on a Tempo chain: from the credential to the answer, beside the time that a block takes.
//!
//! Challenges are asked for and transactions are signed before the clock starts. Where blocks come
//! each second, credentials are presented when one has just been made: a whole one is waited for, and
//! what an answer takes beyond it is the server's, and the chain's work on the block.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use crate::buyer::ChainBuyers;
use crate::chain::{BLOCK_TIME, Cadence, Chain};
use crate::load::{Connections, Plan};
use crate::machine;
use crate::server::{self, Kind, Process, Setting};

/// How many are presented at once, and in how many rounds.
const LOADS: [(usize, usize); 3] = [(1, 20), (16, 5), (256, 5)];

/// What is presented before anything is measured, so that everybody has asked which chain it is.
const WARM_UP: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these blocks
    #[arg(long)]
    blocks: Option<Cadence>,
    /// Only this server; for a profiler
    #[arg(long)]
    server: Option<Kind>,
    /// Where books are kept; the disk matters
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let folder = crate::folder(options.folder.as_deref())?;
    machine::print(folder.path(), &"1, 16 and 256")?;
    println!("payments   unsponsored, handed over by the server; signed before the clock starts");
    println!("chain      anvil on the same cores; its blocks are of one of two kinds");
    println!("interval   one each {} s; presented just after one", BLOCK_TIME.as_secs());
    println!("mixed      as interval, and one at once for whatever arrives");
    let mut table = Table::default();
    for cadence in Cadence::ALL {
        if options.blocks.is_none_or(|only| only == cadence) {
            let folder = folder.path().join(cadence.to_string());
            std::fs::create_dir(&folder)?;
            measure(cadence, options.server, &folder, &mut table).await?;
        }
    }
    table.print();
    table.verdict()
}

async fn measure(
    cadence: Cadence,
    only: Option<Kind>,
    folder: &Path,
    table: &mut Table,
) -> Result<()> {
    let mut chain = Chain::start(cadence).await?;
    let upstream = Process::start(Kind::Upstream, folder, Setting::default()).await?;
    let paid = Setting { node: Some(&chain.url), ..Setting::default() };
    let before = Setting { upstream: Some(upstream.address), ..paid };
    let gateway = Process::start(Kind::Gateway, folder, before).await?;
    let peer = Process::start(Kind::Peer, folder, paid).await?;
    let buyers = ChainBuyers::new(&chain.url)?;
    let servers = [&gateway, &peer];
    let servers = servers.into_iter().filter(|it| only.is_none_or(|only| only == it.kind));
    let servers: Vec<&Process> = servers.collect();
    let mut delivered = 0;
    for server in &servers {
        let warm_up = round(&mut chain, cadence, server, &buyers, WARM_UP).await?;
        if server.kind == Kind::Gateway {
            delivered += warm_up.settled();
        }
    }
    let (begin, first) = (Instant::now(), chain.height().await?);
    for (at_once, rounds) in LOADS {
        for _ in 0..rounds {
            for server in &servers {
                let round = round(&mut chain, cadence, server, &buyers, at_once).await?;
                let (kind, settled) = (server.kind, round.settled());
                let median = round.median().as_secs_f64() * 1_000.0;
                eprintln!("  {cadence} {at_once} {kind}: {settled} settled, p50 {median:.1} ms");
                if server.kind == Kind::Gateway {
                    delivered += round.settled();
                }
                table.add((cadence, at_once, server.kind), round)?;
            }
        }
    }
    let blocks = chain.height().await? - first;
    let apart = begin.elapsed().as_secs_f64() / blocks as f64;
    println!("{cadence:<10} {blocks} blocks, {apart:.3} s apart on average");
    for process in [gateway, peer, upstream] {
        process.stop().await?;
    }
    server::audit(Kind::Gateway, folder, delivered)?;
    println!("{cadence:<10} the gateway's book balances and holds its {delivered} payments");
    Ok(())
}

/// What became of payments that were presented at once.
struct Round {
    /// How long each took that was settled, shortest first.
    times: Vec<Duration>,
    presented: usize,
    /// How many blocks were made meanwhile.
    blocks: u64,
    /// How many challenges were the same as another: one payment can answer both only once.
    twins: usize,
    /// The answer to one that was not settled.
    unsettled: Option<String>,
}

impl Round {
    const fn settled(&self) -> usize {
        self.times.len()
    }

    fn median(&self) -> Duration {
        self.times.get(self.times.len() / 2).copied().unwrap_or_default()
    }
}

async fn round(
    chain: &mut Chain,
    cadence: Cadence,
    server: &Process,
    buyers: &ChainBuyers,
    at_once: usize,
) -> Result<Round> {
    let plan = Plan { address: server.address, in_flight: at_once.min(16), time: Duration::MAX };
    let challenges = plan.collect("/paid", at_once).await?;
    let twins = at_once - challenges.iter().collect::<HashSet<_>>().len();
    let requests = buyers.answer(&challenges).await?;
    let connections = Connections::open(server.address, at_once).await?;
    if cadence == Cadence::Interval {
        chain.next_block().await?;
    }
    let before = chain.height().await?;
    let answers = connections.present(requests).await?;
    let blocks = chain.height().await? - before;
    let unsettled = answers.iter().find(|answer| answer.status != 200);
    let unsettled = unsettled.map(|answer| answer.text.clone());
    let settled = answers.iter().filter(|answer| answer.status == 200);
    let mut times: Vec<Duration> = settled.map(|answer| answer.time).collect();
    times.sort();
    Ok(Round { times, presented: at_once, blocks, twins, unsettled })
}

/// When blocks are made, how many payments are presented at once, and to whom.
type Place = (Cadence, usize, Kind);

/// What was measured, by place.
#[derive(Default)]
struct Table(Vec<(Place, Row)>);

struct Row {
    micros: Histogram<u64>,
    presented: usize,
    rounds: usize,
    blocks: u64,
    twins: usize,
    unsettled: Option<String>,
}

impl Row {
    /// The time that this share of the answers did not exceed.
    fn millis(&self, share: f64) -> f64 {
        self.micros.value_at_quantile(share) as f64 / 1_000.0
    }
}

impl Table {
    fn add(&mut self, place: Place, round: Round) -> Result<()> {
        if self.get(place).is_none() {
            let micros = Histogram::new(3)?;
            let (presented, rounds, blocks, twins) = (0, 0, 0, 0);
            let row = Row { micros, presented, rounds, blocks, twins, unsettled: None };
            self.0.push((place, row));
        }
        let row = self.0.iter_mut().find(|(known, _)| *known == place);
        let (_, row) = row.context("a row")?;
        for time in &round.times {
            row.micros.record(u64::try_from(time.as_micros())?)?;
        }
        row.presented += round.presented;
        row.rounds += 1;
        row.blocks += round.blocks;
        row.twins += round.twins;
        row.unsettled = row.unsettled.take().or(round.unsettled);
        Ok(())
    }

    fn get(&self, place: Place) -> Option<&Row> {
        self.0.iter().find(|(known, _)| *known == place).map(|(_, row)| row)
    }

    fn print(&self) {
        println!(
            "\n{:<9} {:>7} {:<10} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8}",
            "chain",
            "at once",
            "server",
            "settled",
            "p50 ms",
            "p90 ms",
            "max ms",
            "p50-block",
            "blocks"
        );
        for ((cadence, at_once, kind), row) in &self.0 {
            let [p50, p90, max] = [0.5, 0.9, 1.0].map(|it| row.millis(it));
            let beyond = match cadence {
                Cadence::Interval => format!("{:+.1}", p50 - BLOCK_TIME.as_secs_f64() * 1_000.0),
                Cadence::Mixed => "-".to_owned(),
            };
            let settled = format!("{}/{}", row.micros.len(), row.presented);
            let blocks = row.blocks as f64 / row.rounds as f64;
            println!(
                "{cadence:<9} {at_once:>7} {kind:<10} {settled:>9} {p50:>9.1} {p90:>9.1} \
                 {max:>9.1} {beyond:>10} {blocks:>8.1}"
            );
        }
        println!();
        for cadence in Cadence::ALL {
            for (at_once, _) in LOADS {
                let row = |kind| self.get((cadence, at_once, kind));
                if let (Some(ours), Some(theirs)) = (row(Kind::Gateway), row(Kind::Peer)) {
                    let ratio = ours.millis(0.5) / theirs.millis(0.5);
                    println!("{cadence} {at_once}: gateway / mpp crate at the median = {ratio:.2}");
                }
            }
        }
        for (place, row) in &self.0 {
            let (cadence, at_once, kind) = place;
            if row.twins > 0 {
                println!("{cadence} {at_once} {kind}: challenges given twice: {}", row.twins);
            }
            if let Some(answer) = &row.unsettled {
                println!("{cadence} {at_once} {kind}: not settled: {answer}");
            }
        }
    }

    /// Fails where a payment to the gateway was not settled. All of them are honest.
    fn verdict(&self) -> Result<()> {
        for ((cadence, at_once, kind), row) in &self.0 {
            let (settled, presented) = (row.micros.len(), u64::try_from(row.presented)?);
            ensure!(
                *kind != Kind::Gateway || settled == presented,
                "{cadence} {at_once}: {settled} of {presented} payments were settled"
            );
        }
        Ok(())
    }
}
