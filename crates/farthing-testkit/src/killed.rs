//! Processes that are killed in the middle of something, at one moment of it after the other.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a child prints when it begins with what it is to be killed in.
pub const BEGUN: &str = "it has begun";

/// What it prints when that is done.
pub const DONE: &str = "it is done";

/// The test called `name` of this program, to be run as a process of its own. It is marked as ignored, since
/// it is none.
#[must_use]
pub fn child(name: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--ignored", "--nocapture"]);
    child
}

/// How long a child takes that nobody kills.
pub fn takes(child: &mut Command) -> Duration {
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(BEGUN)));
    let begun = Instant::now();
    assert!(lines.any(|line| line.contains(DONE)));
    let took = begun.elapsed();
    assert!(child.wait().unwrap().success());
    took
}

/// Kills a child so long after it has begun. Whether it said that it was done.
pub fn kill_after(child: &mut Command, after: Duration) -> bool {
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(BEGUN)));
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.any(|line| line.contains(DONE))
}
