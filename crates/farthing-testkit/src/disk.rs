//! A small disk of one's own, to be filled.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A disk in memory, gone when it is dropped.
pub struct Disk(TempDir);

impl Disk {
    /// Mounts one, as `mount` would with these options. Nothing where the system does not give one, and
    /// says so.
    pub fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        let mounted = mount.output();
        if mounted.is_ok_and(|it| it.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: a disk of one's own is mounted by root alone");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk that `path` is on, to the last byte, with a file called `filler`.
    pub fn fill(path: &Path) {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(path.join("filler")).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    /// Makes room again.
    pub fn clear(path: &Path) {
        std::fs::remove_file(path.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
