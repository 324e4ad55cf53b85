//! HTTP/1.1 (RFC 9112), as much of it as one request a connection needs.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::Error;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// The longest body of an answer, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a connection, and each read from it, may take.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);

/// A request.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Where: `http` or `https`.
    pub url: String,
    /// The header fields; `Host`, `Connection` and the length are said without being asked.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The caller's own name for the purchase: another name is another purchase.
    pub name: Option<String>,
    /// The most it may cost, such as `0.25 usd`.
    pub max_amount: Option<String>,
}

impl Request {
    /// A request for what is there.
    #[must_use]
    pub fn get(url: &str) -> Self {
        Self { method: "GET".to_owned(), url: url.to_owned(), ..Self::default() }
    }

    /// A request with a body.
    #[must_use]
    pub fn post(url: &str, body: impl Into<Vec<u8>>) -> Self {
        let (method, url) = ("POST".to_owned(), url.to_owned());
        Self { method, url, body: body.into(), ..Self::default() }
    }

    /// The same with a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query, fields and body may hold secrets.
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &url)
            .finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of a name, which is in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// Every field of a name, which is in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fields and body may hold secrets.
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it has to be TLS, verified for the host.
    pub tls: bool,
    /// The host, an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A connection.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Makes connections: what a device has for TLS is behind it.
pub trait Dial {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from connecting. Where [`Target::tls`] is set, a connection that is not TLS, or not
    /// verified, has to be an error.
    fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>>;
}

/// Plain TCP. It has no TLS, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Dial for Plain {
    fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        if target.tls {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "there is no TLS here: bring a Dial that has it",
            ));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (target.host.as_str(), target.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A URL, taken apart.
pub(crate) struct Place {
    pub(crate) target: Target,
    /// As `Host` says it.
    authority: String,
    /// Path and query.
    path: String,
}

/// Takes a URL apart.
pub(crate) fn place(url: &str) -> Result<Place, Error> {
    if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Error::Request("its URL has spaces or control characters in it"));
    }
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(Error::Request("its URL is neither https nor http")),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.contains(['@', '\\']) {
        return Err(Error::Request("its URL has a user name in it"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().map_err(|_| Error::Request("the port of its URL is none"))?;
            (host, port)
        }
        Some(_) | None => (authority, if tls { 443 } else { 80 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(Error::Request("its URL has no host"));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Place { target: Target { tls, host, port }, authority: authority.to_owned(), path })
}

/// Whether a text is a token of HTTP, as methods and names of fields are.
fn is_token(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(sign)
}

/// The bytes of a request, and whether its answer has a body.
pub(crate) fn written(
    request: &Request,
    place: &Place,
    more: Option<(&str, &str)>,
) -> Result<Vec<u8>, Error> {
    if !is_token(&request.method) {
        return Err(Error::Request("its method is none"));
    }
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, place.path);
    let length = request.body.len().to_string();
    let ours = ["host", "connection", "content-length", "transfer-encoding"];
    let fields = request.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let usual = [("host", place.authority.as_str()), ("connection", "close")];
    let length = Some(("content-length", length.as_str()))
        .filter(|_| !request.body.is_empty() || request.method != "GET");
    for (at, (name, value)) in usual.into_iter().chain(length).chain(more).chain(fields).enumerate()
    {
        let asked = at >= usual.len().saturating_add(length.iter().len());
        if !is_token(name) || value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Error::Request("a header field of it cannot be sent"));
        }
        if asked && ours.iter().any(|it| name.eq_ignore_ascii_case(it)) {
            return Err(Error::Request("host, connection and length are said without being asked"));
        }
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&request.body);
    Ok(bytes)
}

/// Sends a request and reads its answer.
pub(crate) fn exchange(stream: Box<dyn Stream>, bytes: &[u8], method: &str) -> io::Result<Answer> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(bytes)?;
    stream.get_mut().flush()?;
    loop {
        let (status, fields) = head(&mut stream)?;
        // "Go on" and "hints" come before the answer.
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let empty = method == "HEAD" || status == 204 || status == 304;
        let body = if empty { Vec::new() } else { body(&mut stream, &fields)? };
        return Ok(Answer { status, fields, body });
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A line without its end.
fn line(stream: &mut impl BufRead, left: &mut u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = stream.by_ref().take(*left).read_until(b'\n', &mut bytes)?;
    *left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
    if bytes.pop() != Some(b'\n') {
        return Err(if *left == 0 { wrong("the answer is too long") } else { cut() });
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| wrong("the answer's head is no text"))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends early")
}

type Head = (u16, Vec<(String, String)>);

fn head(stream: &mut impl BufRead) -> io::Result<Head> {
    let mut left = HEAD_BYTES_MAX;
    let first = line(stream, &mut left)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|it| it.split(' ').nth(1));
    let status =
        status.and_then(|it| it.parse().ok()).ok_or_else(|| wrong("this is not HTTP/1"))?;
    let mut fields = Vec::new();
    loop {
        let text = line(stream, &mut left)?;
        if text.is_empty() {
            return Ok((status, fields));
        }
        let (name, value) = text.split_once(':').ok_or_else(|| wrong("a field has no colon"))?;
        if !is_token(name) {
            return Err(wrong("a field has no name"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn body(stream: &mut impl BufRead, fields: &[(String, String)]) -> io::Result<Vec<u8>> {
    let all = |name: &'static str| fields.iter().filter(move |(it, _)| it == name);
    if let Some((_, coding)) = all("transfer-encoding").next_back() {
        if !coding.eq_ignore_ascii_case("chunked") || all("content-length").count() > 0 {
            return Err(wrong("the answer says in two ways how long it is"));
        }
        return chunks(stream);
    }
    let mut lengths = all("content-length").map(|(_, value)| value.as_str());
    let Some(length) = lengths.next() else {
        let mut body = Vec::new();
        let most = BODY_BYTES_MAX.saturating_add(1);
        let read = stream.take(most).read_to_end(&mut body)?;
        return if u64::try_from(read).is_ok_and(|it| it < most) {
            Ok(body)
        } else {
            Err(wrong("the answer is too long"))
        };
    };
    if lengths.any(|other| other != length) {
        return Err(wrong("the answer says in two ways how long it is"));
    }
    sized(stream, length.parse().map_err(|_| wrong("the answer's length is none"))?)
}

/// So many bytes, and no fewer.
fn sized(stream: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(wrong("the answer is too long"));
    }
    let mut body = Vec::new();
    let read = stream.take(length).read_to_end(&mut body)?;
    if u64::try_from(read).ok() == Some(length) { Ok(body) } else { Err(cut()) }
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut body, mut left) = (Vec::new(), BODY_BYTES_MAX);
    // Sizes and trailers are limited like a head.
    let mut lines = HEAD_BYTES_MAX.saturating_add(BODY_BYTES_MAX);
    loop {
        let size = line(stream, &mut lines)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| wrong("a chunk has no size"))?;
        if size == 0 {
            break;
        }
        left = left.checked_sub(size).ok_or_else(|| wrong("the answer is too long"))?;
        body.append(&mut sized(stream, size)?);
        if !line(stream, &mut lines)?.is_empty() {
            return Err(wrong("a chunk is longer than it says"));
        }
    }
    while !line(stream, &mut lines)?.is_empty() {}
    Ok(body)
}
