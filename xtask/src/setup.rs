//! What the tests need besides a Rust toolchain, installed where it is missing, and said so.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::root;

/// The oldest Node that the peers from npm run on.
const NODE_MAJOR_MIN: u32 = 20;

/// The oldest Python that the peers written in it run on: (major, minor).
const PYTHON_MIN: (u32, u32) = (3, 11);

/// Where Debian keeps PostgreSQL's programs.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// A machine to be set up.
pub(crate) struct Setup<'a> {
    shell: &'a Shell,
    /// What outlives a clone.
    cache: PathBuf,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(shell: &'a Shell) -> Result<Self> {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/farthing"));
        let cache = std::env::var_os("FARTHING_CACHE").map(PathBuf::from).or_else(home);
        Ok(Self { shell, cache: cache.context("neither FARTHING_CACHE nor HOME is set")? })
    }

    /// Installs everything; gives the folder of the peers.
    pub(crate) fn all(&self) -> Result<PathBuf> {
        let folder = self.npm()?;
        self.python()?;
        self.curl()?;
        self.python_peers(&folder.join("python"))?;
        self.postgres()?;
        self.nginx(&folder.join("nginx"))?;
        self.chromium()?;
        Ok(folder)
    }

    /// Installs what comes from npm; gives the folder of the peers.
    pub(crate) fn npm(&self) -> Result<PathBuf> {
        self.node()?;
        self.peers()
    }

    /// Node, for the peers that are written in TypeScript.
    fn node(&self) -> Result<()> {
        if self.node_major().is_none() {
            self.debian(&["nodejs", "npm"])?;
        }
        match self.node_major() {
            Some(major) if major >= NODE_MAJOR_MIN => Ok(()),
            Some(major) => self.newer_node(major),
            None => bail!("node is not on the path, even after Debian's nodejs was installed"),
        }
    }

    /// curl, which pays through the wallet's proxy.
    fn curl(&self) -> Result<()> {
        if cmd!(self.shell, "curl --version").quiet().ignore_stdout().ignore_stderr().run().is_ok()
        {
            return Ok(());
        }
        self.debian(&["curl", "ca-certificates"])
    }

    fn node_major(&self) -> Option<u32> {
        let version = cmd!(self.shell, "node --version").quiet().ignore_stderr().read().ok()?;
        version.strip_prefix('v')?.split('.').next()?.parse().ok()
    }

    /// Debian's Node may be older than the peers allow; npm carries newer ones.
    fn newer_node(&self, major: u32) -> Result<()> {
        let folder = self.cache.join("node");
        let bin = folder.join("node_modules/node/bin");
        if !bin.join("node").exists() {
            eprintln!("setup: node {major} is too old for the peers; installing node 22 from npm");
            let shell = self.shell;
            shell.create_dir(&folder)?;
            cmd!(shell, "npm install --prefix {folder} --no-save --no-fund --no-audit node@22")
                .run()?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        self.shell.set_var("PATH", format!("{}:{path}", bin.display()));
        Ok(())
    }

    /// The peers from npm, as `interop/npm/package-lock.json` pins them.
    fn peers(&self) -> Result<PathBuf> {
        let (ours, folder) = (root().join("interop/npm"), self.cache.join("peers"));
        let lock = self.shell.read_file(ours.join("package-lock.json"))?;
        let done = folder.join("installed.lock");
        if self.shell.read_file(&done).is_ok_and(|installed| installed == lock) {
            return Ok(folder);
        }
        eprintln!("setup: installing the peers from npm into {}", folder.display());
        self.shell.create_dir(&folder)?;
        for file in ["package.json", "package-lock.json"] {
            self.shell.copy_file(ours.join(file), folder.join(file))?;
        }
        cmd!(self.shell, "npm ci --prefix {folder} --no-fund --no-audit --loglevel=error").run()?;
        self.shell.write_file(done, lock)?;
        Ok(folder)
    }

    /// Python, with what makes environments of its own.
    fn python(&self) -> Result<()> {
        let has_ensurepip = cmd!(self.shell, "python3 -c 'import ensurepip'");
        if has_ensurepip.quiet().ignore_stderr().run().is_err() {
            self.debian(&["python3", "python3-venv"])?;
        }
        let (major_min, minor_min) = PYTHON_MIN;
        match self.python_version() {
            Some(version) if version >= PYTHON_MIN => Ok(()),
            Some((major, minor)) => bail!(
                "python3 is {major}.{minor}, and the peers from PyPI need \
                 {major_min}.{minor_min}; put a newer one first on the path"
            ),
            None => bail!("python3 is not on the path, even after Debian's was installed"),
        }
    }

    fn python_version(&self) -> Option<(u32, u32)> {
        let version = cmd!(self.shell, "python3 --version").quiet().ignore_stderr().read().ok()?;
        let mut parts = version.strip_prefix("Python ")?.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    }

    /// The peers in Python, as `interop/python/requirements.txt` pins them, in an environment of
    /// their own.
    fn python_peers(&self, folder: &Path) -> Result<()> {
        let requirements = root().join("interop/python/requirements.txt");
        let lock = self.shell.read_file(&requirements)?;
        let done = folder.join("installed.lock");
        if self.shell.read_file(&done).is_ok_and(|installed| installed == lock) {
            return Ok(());
        }
        eprintln!("setup: installing the peers from PyPI into {}", folder.display());
        // What an earlier list named would linger.
        cmd!(self.shell, "python3 -m venv --clear {folder}").run()?;
        let python = folder.join("bin/python");
        cmd!(self.shell, "{python} -m pip install --quiet --requirement {requirements}")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .run()?;
        Ok(self.shell.write_file(done, lock)?)
    }

    /// PostgreSQL's programs, with which tests start servers of their own.
    fn postgres(&self) -> Result<()> {
        if Path::new(POSTGRES).join("initdb").exists() {
            return Ok(());
        }
        self.debian(&["postgresql-15"])
    }

    /// Chromium and its driver, which look at the wallet's page as its owner does.
    fn chromium(&self) -> Result<()> {
        let driver = cmd!(self.shell, "chromedriver --version");
        if driver.quiet().ignore_stdout().ignore_stderr().run().is_ok() {
            return Ok(());
        }
        self.debian(&["chromium", "chromium-driver"])
    }

    /// nginx, a shared cache as there are many: unpacked, so that none is started on this machine.
    fn nginx(&self, folder: &Path) -> Result<()> {
        if folder.join("usr/sbin/nginx").exists() || Path::new("/usr/sbin/nginx").exists() {
            return Ok(());
        }
        if cmd!(self.shell, "apt-get --version").quiet().ignore_stdout().run().is_err() {
            eprintln!(
                "setup: there is neither nginx nor apt-get; tests of shared caches are skipped"
            );
            return Ok(());
        }
        eprintln!("setup: unpacking nginx from Debian into {}", folder.display());
        self.shell.create_dir(folder)?;
        let _folder = self.shell.push_dir(folder);
        let download = || {
            let own = "APT::Sandbox::User=root";
            cmd!(self.shell, "apt-get download -qq -o {own} nginx").ignore_stdout().run()
        };
        if download().is_err() {
            self.apt_get(&["update", "-qq"])?;
            download()?;
        }
        let packages = self.shell.read_dir(".")?;
        let package = packages.iter().find(|it| it.extension().is_some_and(|it| it == "deb"));
        let package = package.context("Debian gave no package of nginx")?;
        Ok(cmd!(self.shell, "dpkg -x {package} .").run()?)
    }

    fn debian(&self, packages: &[&str]) -> Result<()> {
        eprintln!("setup: installing {} from Debian", packages.join(", "));
        self.apt_get(&["update", "-qq"])?;
        self.apt_get(&[&["install", "-y", "-qq"], packages].concat())
    }

    /// As root, whoever runs this.
    fn apt_get(&self, args: &[&str]) -> Result<()> {
        let is_root = cmd!(self.shell, "id -u").quiet().read()? == "0";
        let sudo: &[&str] = if is_root { &[] } else { &["sudo"] };
        let line = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], args].concat();
        let (program, args) = line.split_first().context("an empty command")?;
        Ok(cmd!(self.shell, "{program} {args...}").ignore_stdout().run()?)
    }
}
