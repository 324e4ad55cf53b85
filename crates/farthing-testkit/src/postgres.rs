//! PostgreSQL of one's own: real servers on this machine, gone with the process that started them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where Debian keeps the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The password of the only user, of a server that nobody else reaches.
const PASSWORD: &str = "a well-known development password";

/// Starts a server, says its process id, and ends it when nobody holds the other end of its input any
/// more, however that came.
const KEEPER: &str = r#"
folder=$1; shift
trap : INT TERM
"$@" >"$folder/log" 2>&1 &
server=$!
echo $server
read -r _
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$folder"
"#;

/// How often to look whether a server has started: for a minute.
const LOOKS: u32 = 1_200;

/// A server with its own data, on loopback.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    process: u32,
    keeper: Child,
    input: Option<ChildStdin>,
}

impl Cluster {
    /// The server that all tests of a process share. It does not sync:
    /// nobody pulls the plug on it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off", "max_connections=300"]))
    }

    /// Starts a server of its own with these settings.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_prepared(settings, |_| {})
    }

    /// Starts a server of its own; `prepare` may add to its folder, where its data is in `data`.
    pub fn start_prepared(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = new_folder();
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        own(&folder);
        let mut initdb = unprivileged("initdb");
        initdb.args(["--username=farthing", "--auth=scram-sha-256", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync"]);
        initdb.arg(format!("--pwfile={}", password.display()));
        succeed(initdb.arg("-D").arg(folder.join("data")));
        prepare(&folder);
        own(&folder);
        Self::run(folder, settings)
    }

    /// Starts a standby that follows this server, under the name `standby`.
    #[must_use]
    pub fn start_standby(&self) -> Self {
        let folder = new_folder();
        own(&folder);
        let mut backup = unprivileged("pg_basebackup");
        backup.env("PGPASSWORD", PASSWORD).args(["--checkpoint=fast", "--write-recovery-conf"]);
        let from =
            format!("host=127.0.0.1 port={} user=farthing application_name=standby", self.port);
        succeed(backup.arg("-d").arg(from).arg("-D").arg(folder.join("data")));
        Self::run(folder, &[])
    }

    fn run(folder: PathBuf, settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = unprivileged("postgres");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder);
        keeper.arg(server.get_program()).args(server.get_args());
        keeper.arg("-D").arg(folder.join("data")).arg("-k").arg(&folder);
        keeper.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in settings {
            keeper.args(["-c", setting]);
        }
        keeper.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let input = keeper.stdin.take();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = line.trim().parse().unwrap();
        let cluster = Self { folder, port, process, keeper, input };
        cluster.wait();
        cluster
    }

    /// Waits until it can be spoken to.
    fn wait(&self) {
        for _ in 0..LOOKS {
            let mut look = Command::new(Path::new(PROGRAMS).join("pg_isready"));
            look.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if look.status().unwrap().success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the database called `postgres` is.
    pub fn url(&self) -> String {
        url(&[self.port], "postgres")
    }

    /// Where a new database is.
    pub fn new_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("books_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"));
        url(&[self.port], &name)
    }

    /// Where a new database is whose tables and indexes lie in `folder`; what is written ahead does not.
    pub fn new_database_in(&self, folder: &Path) -> String {
        own(folder);
        self.sql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", folder.display()));
        self.sql("CREATE DATABASE elsewhere TABLESPACE elsewhere");
        url(&[self.port], "elsewhere")
    }

    /// Says something to the database called `postgres`, and gives what comes back, in plain lines.
    pub fn sql(&self, statement: &str) -> String {
        ask(&self.url(), statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        succeed(Command::new("kill").args(["-9", &self.process.to_string()]));
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote()"), "t");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.keeper.wait();
    }
}

/// Where a database is, on any of several servers.
pub fn url(ports: &[u16], name: &str) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let password = PASSWORD.replace(' ', "%20");
    format!("postgres://farthing:{password}@{}/{name}", hosts.join(","))
}

/// Says something to a database, in the words of `psql`.
///
/// # Errors
///
/// What the database says.
pub fn ask(url: &str, statement: &str) -> Result<String, String> {
    let mut psql = Command::new(Path::new(PROGRAMS).join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"]);
    let output = psql.arg("-d").arg(url).arg("-c").arg(statement).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Somebody in the middle of a transaction. Dropping it rolls it back.
pub struct Begun {
    psql: Child,
    input: Option<ChildStdin>,
}

/// Begins a transaction with `statement` and stays in the middle of it.
pub fn begin(url: &str, statement: &str) -> Begun {
    let mut psql = Command::new(Path::new(PROGRAMS).join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"]);
    psql.arg("-d").arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    let mut input = psql.stdin.take().unwrap();
    writeln!(input, "BEGIN; {statement};\n\\echo begun").unwrap();
    let mut lines = BufReader::new(psql.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "begun"), "{statement}");
    Begun { psql, input: Some(input) }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.psql.wait();
    }
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("farthing-postgres-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    // What another process of the same number left behind.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A program of PostgreSQL, which refuses to run as root.
fn unprivileged(program: &str) -> Command {
    let program = Path::new(PROGRAMS).join(program);
    let there = program.display();
    assert!(program.exists(), "{there} is missing: ./x test installs Debian's postgresql-15");
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(std::env::temp_dir());
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Gives a folder to whoever runs the programs.
fn own(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        succeed(Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder));
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
