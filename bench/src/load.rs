//! The load generator: keep-alive connections with one request in flight each.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::expect;

/// How long a rate settles before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is asked for.
pub(crate) struct Requests {
    /// Each of these once and in order, or the only one again and again.
    bytes: Vec<Vec<u8>>,
    once: bool,
    wanted: u16,
}

impl Requests {
    pub(crate) fn same(path: &str, wanted: u16) -> Self {
        Self { bytes: vec![get(path, "")], once: false, wanted }
    }

    pub(crate) fn each(bytes: Vec<Vec<u8>>, wanted: u16) -> Self {
        Self { bytes, once: true, wanted }
    }

    fn at(&self, count: usize) -> Option<&[u8]> {
        let at = if self.once { count } else { 0 };
        self.bytes.get(at).map(Vec::as_slice)
    }
}

/// A request as it goes over the wire; `fields` are whole lines.
pub(crate) fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n").into_bytes()
}

/// Where to, how much at once, and how long.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) in_flight: usize,
    /// [`Duration::MAX`]: until there are no more requests.
    pub(crate) time: Duration,
}

/// A rate and its latencies.
pub(crate) struct Measured {
    latency_micros: Histogram<u64>,
    time: Duration,
}

impl Measured {
    /// How many answers.
    pub(crate) fn count(&self) -> u64 {
        self.latency_micros.len()
    }

    /// How long all of them took.
    pub(crate) const fn time(&self) -> Duration {
        self.time
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latency_micros.len() as f64 / self.time.as_secs_f64()
    }

    /// The latency that this share of the answers did not exceed.
    pub(crate) fn millis(&self, share: f64) -> f64 {
        self.latency_micros.value_at_quantile(share) as f64 / 1_000.0
    }
}

impl Plan {
    /// Sends requests and measures the answers.
    pub(crate) async fn run(&self, requests: Requests) -> Result<Measured> {
        let begin = Instant::now();
        let from = if requests.once { begin } else { begin + WARM_UP };
        let until = from.checked_add(self.time);
        let (address, next, requests) = (self.address, Rc::new(Cell::new(0)), Rc::new(requests));
        let task = || {
            let (next, requests) = (Rc::clone(&next), Rc::clone(&requests));
            async move {
                let mut connection = Connection::open(address).await?;
                let mut latency = Histogram::<u64>::new(3)?;
                while until.is_none_or(|until| Instant::now() < until)
                    && let Some(request) = requests.at(next.replace(next.get() + 1))
                {
                    let sent = Instant::now();
                    let status = connection.ask(request).await?;
                    expect(status, requests.wanted, connection.head())?;
                    if sent >= from {
                        latency.record(u64::try_from(sent.elapsed().as_micros())?)?;
                    }
                }
                Ok(latency)
            }
        };
        let mut latency_micros = Histogram::new(3)?;
        for latency in side_by_side(self.in_flight, task).await? {
            latency_micros.add(latency)?;
        }
        Ok(Measured { latency_micros, time: from.elapsed() })
    }

    /// Asks `count` times for `path` without paying, and gives the challenges in the order they came.
    pub(crate) async fn collect(&self, path: &str, count: usize) -> Result<Vec<String>> {
        let (address, next) = (self.address, Rc::new(Cell::new(0)));
        let request: Rc<[u8]> = get(path, "").into();
        let task = || {
            let (next, request) = (Rc::clone(&next), Rc::clone(&request));
            async move {
                let mut connection = Connection::open(address).await?;
                let mut challenges = Vec::new();
                while next.replace(next.get() + 1) < count {
                    let status = connection.ask(&request).await?;
                    expect(status, 402, connection.head())?;
                    challenges.push((Instant::now(), connection.challenge()?));
                }
                Ok(challenges)
            }
        };
        let mut challenges = side_by_side(self.in_flight, task).await?.concat();
        challenges.sort();
        Ok(challenges.into_iter().map(|(_, challenge)| challenge).collect())
    }
}

/// Sends each sequence over a connection of its own, one request after the other, all sequences at once; each
/// must be answered with 200. Stops after `time`, where the sequences do not end before.
pub(crate) async fn in_sequences(
    address: SocketAddr,
    sequences: Vec<Vec<Vec<u8>>>,
    time: Duration,
) -> Result<Measured> {
    let mut connections = Vec::with_capacity(sequences.len());
    for _ in &sequences {
        connections.push(Connection::open(address).await?);
    }
    let begin = Instant::now();
    let until = begin.checked_add(time);
    let count = sequences.len();
    let each = Rc::new(std::cell::RefCell::new(
        connections.into_iter().zip(sequences).collect::<Vec<_>>(),
    ));
    let task = || {
        let each = Rc::clone(&each);
        async move {
            let taken = each.borrow_mut().pop();
            let (mut connection, sequence) = taken.context("a connection")?;
            let mut latency = Histogram::<u64>::new(3)?;
            for request in &sequence {
                let sent = Instant::now();
                if until.is_some_and(|until| sent >= until) {
                    break;
                }
                let status = connection.ask(request).await?;
                if status != 200 {
                    bail!("wanted 200, and {status} came:\n{}", connection.text());
                }
                latency.record(u64::try_from(sent.elapsed().as_micros())?)?;
            }
            Ok(latency)
        }
    };
    let mut latency_micros = Histogram::new(3)?;
    for latency in side_by_side(count, task).await? {
        latency_micros.add(latency)?;
    }
    Ok(Measured { latency_micros, time: begin.elapsed() })
}

/// Runs one task for each connection, side by side on this thread.
async fn side_by_side<T: 'static, F: Future<Output = Result<T>> + 'static>(
    count: usize,
    task: impl Fn() -> F,
) -> Result<Vec<T>> {
    let (local, mut tasks) = (LocalSet::new(), JoinSet::new());
    for _ in 0..count {
        tasks.spawn_local_on(task(), &local);
    }
    let join = async {
        let mut results = Vec::with_capacity(count);
        while let Some(result) = tasks.join_next().await {
            results.push(result??);
        }
        Ok(results)
    };
    local.run_until(join).await
}

/// Keep-alive connections that wait for the same moment.
pub(crate) struct Connections(Vec<Connection>);

/// What came of one request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) time: Duration,
    /// The whole of it.
    pub(crate) text: String,
}

impl Connections {
    /// Opens them, and uses each of them once.
    pub(crate) async fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let free = get("/free", "");
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = Connection::open(address).await?;
            let status = connection.ask(&free).await?;
            expect(status, 200, connection.head())?;
            all.push(connection);
        }
        Ok(Self(all))
    }

    /// Sends all requests at once, one on each connection, and measures every answer.
    pub(crate) async fn present(self, requests: Vec<Vec<u8>>) -> Result<Vec<Answer>> {
        let (local, mut tasks) = (LocalSet::new(), JoinSet::new());
        for (mut connection, request) in self.0.into_iter().zip(requests) {
            let task = async move {
                let sent = Instant::now();
                let status = connection.ask(&request).await?;
                let time = sent.elapsed();
                let text = String::from_utf8_lossy(&connection.buffer).into_owned();
                anyhow::Ok(Answer { status, time, text })
            };
            tasks.spawn_local_on(task, &local);
        }
        let answers = local.run_until(tasks.join_all()).await;
        answers.into_iter().collect()
    }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    head_len: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4_096), head_len: 0 })
    }

    /// Sends a request and reads the whole answer; gives its status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some((status, head_len, len)) = self.parsed()? {
                while self.buffer.len() < len {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        bail!("the server closed the connection inside an answer");
                    }
                }
                self.head_len = head_len;
                return Ok(status);
            }
        }
    }

    /// The same for an answer that has no body, nor says so (`204`).
    pub(crate) async fn ask_for_nothing(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(head_len) = response.parse(&self.buffer)? {
                self.head_len = head_len;
                return response.code.context("an answer without a status");
            }
        }
    }

    /// The status, the length of the head and of the answer, once the head is whole.
    fn parsed(&self) -> Result<Option<(u16, usize, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(head_len) = response.parse(&self.buffer)? else {
            return Ok(None);
        };
        let status = response.code.context("an answer without a status")?;
        let length = field(response.headers, "content-length").context("no content-length")?;
        let length: usize = std::str::from_utf8(length)?.parse()?;
        Ok(Some((status, head_len, head_len + length)))
    }

    fn head(&self) -> &[u8] {
        self.buffer.get(..self.head_len).unwrap_or_default()
    }

    /// The whole answer.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.buffer.get(self.head_len..).unwrap_or_default()
    }

    pub(crate) fn challenge(&self) -> Result<String> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(&self.buffer)?;
        let line = field(response.headers, "www-authenticate").context("a 402 without offers")?;
        Ok(String::from_utf8(line.to_vec())?)
    }
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}
