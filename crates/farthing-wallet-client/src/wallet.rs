//! The wallet's API, from outside.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::http::{Dial as _, Place, Plain, Stream, Target, exchange, place, written};
use crate::{Answer, Error, Problem, Request, base64};

/// Where a wallet's daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address of this machine.
    Tcp(SocketAddr),
}

impl At {
    /// Reads `unix:/path`, a path, or `http://127.0.0.1:4040`.
    ///
    /// # Errors
    ///
    /// [`Error::Request`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        match text.strip_prefix("http://") {
            Some(address) => {
                let address = address.trim_end_matches('/').parse::<SocketAddr>().ok();
                // The token travels as it is, and so within the machine only.
                let address = address.filter(|address| address.ip().is_loopback());
                let none = "a wallet is at unix:/path or http://127.0.0.1:port";
                address.map(Self::Tcp).ok_or(Error::Request(none))
            }
            None => Ok(Self::Unix(text.into())),
        }
    }

    fn dial(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                // Whoever pays waits for as long as paying takes.
                stream.set_write_timeout(Some(crate::http::TIMEOUT))?;
                Ok(Box::new(stream))
            }
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tcp(address) => {
                let (host, port) = (address.ip().to_string(), address.port());
                Plain.dial(&Target { tls: false, host, port })
            }
        }
    }

    fn url(&self, path: &str) -> String {
        match self {
            Self::Unix(_) => format!("http://localhost{path}"),
            Self::Tcp(address) => format!("http://{address}{path}"),
        }
    }
}

/// A wallet that listens, and the token to be let in with. It has no `Debug`.
#[derive(Clone)]
pub struct Wallet {
    at: At,
    token: String,
}

/// What is wanted of a payment beside the request itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayOptions {
    /// Pays again although an earlier payment for the same purchase was never resolved.
    pub pay_again: bool,
    /// The task it is for.
    pub task: Option<String>,
    /// The tool it belongs to.
    pub tool: Option<String>,
}

/// What was paid for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The payment.
    pub payment: String,
    /// How much, for people; not said where an earlier attempt was answered.
    pub amount: Option<String>,
    /// Who was paid.
    pub recipient: Option<String>,
    /// Everything that the wallet says of it.
    pub document: Value,
}

/// A credential. It is worth its price and has no `Debug`.
pub struct Credential {
    /// The payment.
    pub payment: String,
    /// The header field to send it in.
    pub header: String,
    /// Its value.
    pub value: String,
    /// Everything that the wallet says of it but the credential.
    pub document: Value,
}

/// What a payment has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Spent, and answered.
    Paid,
    /// The seller does not take it; its price is held until the credential has expired.
    Refused,
    /// Nobody knows; the same credential can be sent again.
    Open,
}

impl Wallet {
    /// A wallet at a place, with a token of its own.
    #[must_use]
    pub fn new(at: At, token: &str) -> Self {
        Self { at, token: token.trim().to_owned() }
    }

    /// Has the wallet make a request and pay for it if need be, once.
    ///
    /// # Idempotency
    ///
    /// While nobody knows how a payment ended, the same request (under the same name) sends the same credential
    /// again.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn pay(
        &self,
        request: &Request,
        options: &PayOptions,
    ) -> Result<(Answer, Option<Paid>), Error> {
        let answer = self.ask("POST", "/v1/pay", Some(&purchase(request, options)))?;
        answered(&answer).ok_or_else(nonsense)
    }

    /// Asks what would be paid. Nothing is.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn decide(&self, request: &Request, options: &PayOptions) -> Result<Value, Error> {
        self.ask("POST", "/v1/decide", Some(&purchase(request, options)))
    }

    /// Asks for a credential that answers one of the challenges of a seller's `402`: the values of its
    /// `WWW-Authenticate` fields.
    ///
    /// # Idempotency
    ///
    /// The same one for the same request, until its outcome was told.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn sign(&self, request: &Request, challenges: &[&str]) -> Result<Credential, Error> {
        let mut purchase = purchase(request, &PayOptions::default());
        if let Value::Object(purchase) = &mut purchase {
            purchase.insert("challenges".to_owned(), json!(challenges));
        }
        let mut document = self.ask("POST", "/v1/credentials", Some(&purchase))?;
        let mut taken = |name: &str| {
            let value = document.as_object_mut()?.remove(name)?;
            value.as_str().map(str::to_owned)
        };
        let parts = (taken("payment"), taken("header"), taken("credential"));
        let (Some(payment), Some(header), Some(value)) = parts else { return Err(nonsense()) };
        Ok(Credential { payment, header, value, document })
    }

    /// Tells what the seller said to a credential; nothing where no answer came.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn conclude(&self, payment: &str, answer: Option<&Answer>) -> Result<Ending, Error> {
        let told = match answer {
            Some(answer) => {
                json!({ "status": answer.status, "receipt": answer.field("payment-receipt") })
            }
            None => json!({}),
        };
        let path = format!("/v1/payments/{payment}/outcome");
        let ended = self.ask("POST", &path, Some(&told))?;
        match ended.get("state").and_then(Value::as_str) {
            Some("paid") => Ok(Ending::Paid),
            Some("refused") => Ok(Ending::Refused),
            Some("open") => Ok(Ending::Open),
            Some(_) | None => Err(nonsense()),
        }
    }

    /// How the wallet stands: `GET /v1/status`.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn status(&self) -> Result<Value, Error> {
        self.ask("GET", "/v1/status", None)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let mut request = Request {
            method: method.to_owned(),
            url: self.at.url(path),
            body: body.map(Value::to_string).unwrap_or_default().into_bytes(),
            ..Request::default()
        };
        if body.is_some() {
            request = request.with("content-type", "application/json");
        }
        let place: Place = place(&request.url)?;
        let bearer = format!("Bearer {}", self.token);
        let bytes = written(&request, &place, Some(("authorization", &bearer)))?;
        let answered = self.at.dial().and_then(|stream| exchange(stream, &bytes, method));
        let answer = answered.map_err(Error::Wallet)?;
        let document: Value = serde_json::from_slice(&answer.body).map_err(|_| nonsense())?;
        if (200..300).contains(&answer.status) {
            return Ok(document);
        }
        Err(Error::Refused(Box::new(Problem::read(answer.status, document))))
    }
}

fn nonsense() -> Error {
    Error::Wallet(io::Error::new(io::ErrorKind::InvalidData, "this is not a wallet's answer"))
}

/// A request as the wallet is told of it.
fn purchase(request: &Request, options: &PayOptions) -> Value {
    let mut purchase = Map::new();
    let mut say = |name: &str, value: Value| {
        if !value.is_null() {
            purchase.insert(name.to_owned(), value);
        }
    };
    say("method", request.method.as_str().into());
    say("url", request.url.as_str().into());
    let fields = request.fields.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
    say("headers", Value::Object(fields.collect()));
    match std::str::from_utf8(&request.body) {
        Ok("") => {}
        Ok(text) => say("body", text.into()),
        Err(_) => say("bodyBase64", base64::encode(&request.body).into()),
    }
    say("name", request.name.clone().into());
    say("maxAmount", request.max_amount.clone().into());
    say("task", options.task.clone().into());
    say("tool", options.tool.clone().into());
    if options.pay_again {
        say("payAgain", true.into());
    }
    Value::Object(purchase)
}

/// What the wallet says that the seller answered.
fn answered(document: &Value) -> Option<(Answer, Option<Paid>)> {
    let field = |pair: &Value| {
        let text = |at: usize| pair.get(at)?.as_str().map(str::to_owned);
        Some((text(0)?, text(1)?))
    };
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let body = match (text("body"), text("bodyBase64")) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => base64::decode(text)?,
        (None, None) => Vec::new(),
    };
    let answer = Answer {
        status: u16::try_from(document.get("status")?.as_u64()?).ok()?,
        fields: document.get("headers")?.as_array()?.iter().filter_map(field).collect(),
        body,
    };
    Some((answer, document.get("paid").and_then(paid)))
}

fn paid(document: &Value) -> Option<Paid> {
    let text = |name: &str| document.get(name)?.as_str().map(str::to_owned);
    Some(Paid {
        payment: text("payment")?,
        amount: document.get("amount").and_then(|it| it.get("text")?.as_str().map(str::to_owned)),
        recipient: text("recipient"),
        document: document.clone(),
    })
}
