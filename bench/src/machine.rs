//! What a number was measured on.

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// How often the disk is asked to sync.
const SYNCS: usize = 200;

/// Prints the machine, the disk and how the books are kept.
pub(crate) fn print(folder: &Path, in_flight: &dyn Display) -> Result<()> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism()?;
    println!("machine    {cores} cores, {model}");
    println!(
        "disk       {}; write and fdatasync {:.2} ms",
        filesystem(folder),
        sync_millis(folder)?
    );
    println!("durability SQLite WAL, synchronous=FULL: answered after the commit was synced");
    println!("load       {in_flight} in flight over keep-alive, from one thread on the same cores");
    println!(
        "build      {}",
        if cfg!(debug_assertions) { "debug: not a measurement" } else { "release" }
    );
    Ok(())
}

/// The type of the file system that holds `folder`.
fn filesystem(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let holding = mounts.filter(|(place, _)| folder.starts_with(place));
    let nearest = holding.max_by_key(|(place, _)| place.len());
    nearest.map(|(_, kind)| kind.to_owned()).unwrap_or_default()
}

/// The median time of a small append and its sync.
fn sync_millis(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("probe"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort();
    let median = times.get(SYNCS / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1_000.0)
}
