//! Durable postings a second, on one book, in a file and in a database.
//!
//! Every posting is a claim of a payment whose money lies in the book: one record, its proof in the
//! index, its seal, and an answer after the sync. Nothing else runs: no HTTP and no signature. Both
//! stores are measured once on the disk as it is, and once with a millisecond added to every sync, by a
//! library that is loaded before libc's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use farthing_core::Store;
use farthing_ledger::{Claim, Entry, Record, Sealer, SpendingKey, audit};
use farthing_money::Amount;
use farthing_store_postgres::{Address, PostgresStore};
use farthing_store_sqlite::SqliteStore;
use farthing_store_writer::Source;
use farthing_testkit::postgres::Cluster;
use farthing_testkit::store::{START, purchase};
use hdrhistogram::Histogram;

use crate::machine;

/// What is loaded to make a disk slower.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    usleep(1000);
    return real(file);
}
int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    usleep(1000);
    return real(file);
}
"#;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each rate is measured, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Postings in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    in_flight: Vec<usize>,
    /// Where books are kept; the disk matters
    #[arg(long)]
    folder: Option<PathBuf>,
    /// One store, in this process
    #[arg(long, hide = true)]
    only: Option<Kept>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    Sqlite,
    Postgres,
}

impl Kept {
    const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = crate::folder(options.folder.as_deref())?;
    if let Some(kept) = options.only {
        return measured(kept, options, folder.path());
    }
    machine::print(folder.path(), &"1, 64 and 1,024 postings")?;
    println!(
        "store      one book; PostgreSQL 15 on the same machine, fsync and synchronous_commit on"
    );
    println!(
        "\nsync       store     in flight    per second     p50 ms     p99 ms   records a commit"
    );
    let shim = shim(folder.path())?;
    for (label, shim) in [("disk", None), ("disk + 1 ms", Some(&shim))] {
        for kept in [Kept::Sqlite, Kept::Postgres] {
            let mut own = Command::new(std::env::current_exe()?);
            own.args(["durability", "--only", kept.name()]);
            own.args(["--seconds", &options.seconds.to_string()]);
            let in_flight: Vec<_> = options.in_flight.iter().map(ToString::to_string).collect();
            own.args(["--in-flight", &in_flight.join(",")]);
            own.args(["--folder".as_ref(), folder.path().as_os_str()]);
            own.env("FARTHING_BENCH_SYNC", label);
            if let Some(shim) = shim {
                own.env("LD_PRELOAD", shim);
            }
            ensure!(own.status()?.success(), "{} failed", kept.name());
        }
    }
    sealing();
    Ok(())
}

/// Builds the library that makes syncs slower.
fn shim(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    std::fs::write(&source, SHIM)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    ensure!(compiler.status().context("there is no C compiler")?.success(), "cc failed");
    // The server runs as another user.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, readable)?;
    Ok(library)
}

/// One store, at each number in flight.
fn measured(kept: Kept, options: &Options, folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let label = std::env::var("FARTHING_BENCH_SYNC").unwrap_or_default();
    let cluster = (kept == Kept::Postgres).then(|| Cluster::start(&["max_wal_size=4GB"]));
    for (at, &in_flight) in options.in_flight.iter().enumerate() {
        let path = folder.join(format!("{at}-{}.db", label.replace(' ', "")));
        let (store, address): (Arc<dyn Store>, _) = match &cluster {
            None => (
                Arc::new(SqliteStore::open(
                    &path,
                    farthing_store_sqlite::Options::default(),
                    START,
                )?),
                None,
            ),
            Some(cluster) => {
                let address = Address::parse(&cluster.url())?;
                let name = format!("book {at}");
                let options = farthing_store_postgres::Options::default();
                let store = PostgresStore::open(address.clone(), &name, &options, START)?;
                (Arc::new(store), Some((address, name)))
            }
        };
        let time = Duration::from_secs(options.seconds);
        let measured = runtime.block_on(posting(&store, in_flight, time))?;
        drop(store);
        let journal = match &address {
            None => farthing_store_sqlite::Reader::open(&path)?.journal()?,
            Some((address, name)) => {
                farthing_store_postgres::Reader::open(address, name)?.journal()?
            }
        };
        // A number is only printed when every posting behind it is in a sound book.
        let sound = audit(&journal)?;
        ensure!(sound.claimed == measured.count, "postings are missing");
        println!(
            "{label:<10} {:<9} {in_flight:>9} {:>13.0} {:>10.2} {:>10.2} {:>18.1}",
            kept.name(),
            measured.count as f64 / measured.took.as_secs_f64(),
            measured.times.value_at_quantile(0.5) as f64 / 1_000.0,
            measured.times.value_at_quantile(0.99) as f64 / 1_000.0,
            per_commit(address.as_ref(), &path, journal.len())?,
        );
    }
    Ok(())
}

/// How many records a commit had, on average: each commit has a seal.
fn per_commit(address: Option<&(Address, String)>, path: &Path, records: usize) -> Result<f64> {
    let seals = match address {
        None => seals(&farthing_store_sqlite::Reader::open(path)?)?,
        Some((address, name)) => seals(&farthing_store_postgres::Reader::open(address, name)?)?,
    };
    Ok(records as f64 / seals.max(1) as f64)
}

fn seals<S: Source>(source: &S) -> Result<usize> {
    let (mut size, mut count) = (0, 0);
    loop {
        let page = source.seals(size, 10_000)?;
        let Some(last) = page.last() else { return Ok(count) };
        (size, count) = (last.size, count + page.len());
    }
}

struct Measured {
    count: u64,
    took: Duration,
    /// In microseconds.
    times: Histogram<u64>,
}

/// Keeps `in_flight` postings under way for as long as it is told to.
async fn posting(store: &Arc<dyn Store>, in_flight: usize, time: Duration) -> Result<Measured> {
    let usd = "usd".parse()?;
    let holder: farthing_ledger::Holder = "alice".parse()?;
    let fund = Entry::Fund {
        holder: holder.clone(),
        amount: Amount::new(usd, u128::MAX / 2),
        reference: "all of it".into(),
    };
    store.enter(fund, START).await?;
    let key = match purchase("any", 1).legs.remove(0).from {
        farthing_ledger::Source::Key(key) => key,
        farthing_ledger::Source::Account(_) => SpendingKey([0; 32]),
    };
    store.enter(Entry::AttachKey { key, holder }, START).await?;
    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let until = began + time;
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (store, next) = (Arc::clone(store), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3)?;
                while Instant::now() < until {
                    let name = next.fetch_add(1, Ordering::Relaxed).to_string();
                    let request = purchase(&name, 1);
                    let asked = Instant::now();
                    let claim = store.claim(request, START).await?;
                    ensure!(claim == Claim::Fresh, "{claim:?}");
                    times.record(u64::try_from(asked.elapsed().as_micros())?)?;
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Histogram::<u64>::new(3)?;
    for task in tasks {
        times.add(task.await??)?;
    }
    Ok(Measured { count: times.len(), took: began.elapsed(), times })
}

/// What tamper evidence costs of a posting: the sealing of the same lines, alone.
fn sealing() {
    let lines: Vec<String> = (0..20_000_u64)
        .map(|seq| {
            let payment = Box::new(purchase(&seq.to_string(), 1).payment);
            let event = farthing_ledger::Event::Claimed {
                payment,
                proofs: purchase(&seq.to_string(), 1).proofs,
                settlement: None,
            };
            Record { seq, at: START, trace: None, event, transfers: Vec::new() }.to_json()
        })
        .collect();
    let (mut sealer, began) = (Sealer::default(), Instant::now());
    for batch in lines.chunks(64) {
        std::hint::black_box(sealer.seal(batch));
    }
    let each = began.elapsed().as_secs_f64() * 1e6 / lines.len() as f64;
    println!(
        "\nsealing    {each:.2} µs a record in commits of 64: its part of a posting at 20,000/s"
    );
    println!("           on one core is {:.1}%", each / 50.0 * 100.0);
}
