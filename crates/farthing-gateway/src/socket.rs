//! Web sockets that are paid for by the message.
//!
//! ```text
//! client                         gateway                                  upstream
//!   │ GET, Upgrade: websocket       │                                         │
//!   ├──────────────────────────────►│ 402, if a credential of it buys nothing │
//!   │ 101                           │                                         │
//!   │◄──────────────────────────────┤                                         │
//!   │ credential, unless it came    │ buys: the first unit                    │
//!   ├──────────────────────────────►├─── GET, Upgrade: websocket ────────────►│
//!   │ receipt                       │                                         │
//!   │◄──────────────────────────────┤◄───────────────────────────── a message ┤
//!   │ the message, in a frame       │ paid before it is given                 │
//!   │◄──────────────────────────────┤                                         │
//!   │ credential                    │ authorises, and buys nothing            │
//!   ├──────────────────────────────►│                                         │
//!   │ a message, in a frame         │                                         │
//!   ├──────────────────────────────►├── the message ─────────────────────────►│
//! ```
//!
//! The frames are those of [`farthing_meter::ws`]. What a client sends is not charged for.
//!
//! **Architecture invariant:** nothing the upstream says leaves outside a frame, so that none of it can be
//! taken for a word about payments.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farthing_gate::{Body, BoxError, Purchase, Sale, take_credentials};
use farthing_meter::ws::{ClientFrame, Dialect, FRAME_BYTES_MAX, FrameTooLong, ServerFrame};
use farthing_mpp::Receipt;
use farthing_protocols::mpp::{PAYMENT_AUTHORIZATION, PAYMENT_RECEIPT};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, Utf8Bytes};

use crate::config::MeterConfig;
use crate::gateway::Service;
use crate::proxy::{Matched, Proxy, full, problem};

/// How long a client may take for the credential that buys.
const CREDENTIAL_WAIT: Duration = Duration::from_secs(30);

/// How many credentials that buy nothing a client may send first.
const REFUSALS_MAX: u32 = 3;

/// The longest message of an upstream, in bytes: it is held until it is paid for.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for a WebSocket (RFC 6455 §4.1).
pub(crate) fn is_asked_for(request: &Request<Incoming>) -> bool {
    let listed = |name: HeaderName, word: &str| {
        let values = request.headers().get_all(name);
        let words = values.iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && listed(CONNECTION, "upgrade")
        && listed(UPGRADE, "websocket")
}

/// What a socket is opened with.
pub(crate) struct Opening {
    pub(crate) service: Service,
    pub(crate) proxy: Proxy,
    pub(crate) matched: Matched,
    pub(crate) meter: MeterConfig,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Answers a request for a socket: it is opened, unless a credential that came with it buys nothing.
pub(crate) async fn open(opening: Opening, mut request: Request<Incoming>) -> Response<Body> {
    if opening.meter.terms.meter_messages(Dialect::Mpp).is_err() {
        let detail = "What is sold here is not sold by the message.";
        return problem(StatusCode::NOT_IMPLEMENTED, detail);
    }
    if request.headers().get(SEC_WEBSOCKET_VERSION).is_none_or(|it| it != "13") {
        let mut answer = problem(StatusCode::UPGRADE_REQUIRED, "The version is not 13.");
        let fields = answer.headers_mut();
        fields.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    }
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return problem(StatusCode::BAD_REQUEST, "There is no Sec-WebSocket-Key.");
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let paid = [AUTHORIZATION, PAYMENT_AUTHORIZATION].iter().any(|it| is_paid(&head.headers, it));
    let mut sale = None;
    if paid {
        match opening.service.sell_socket(&head).await {
            Ok(sold) => sale = Some(sold),
            Err(refused) => return refused,
        }
    }
    tokio::spawn(serve(opening, head, upgrade, sale));
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = answer.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

fn is_paid(fields: &HeaderMap, name: &HeaderName) -> bool {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|it| farthing_mpp::Credential::token(it).is_some())
}

/// Serves a socket to its end.
async fn serve(opening: Opening, head: Parts, upgrade: OnUpgrade, sale: Option<Sale>) {
    let Ok(upgraded) = upgrade.await else { return };
    let limits = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let mut client = Client { socket, dialect: Dialect::Mpp };
    let code = opening.serve(&mut client, head, sale).await.unwrap_or(CloseCode::Away);
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static("") };
    // Whoever is gone need not be told.
    let _ = client.socket.close(Some(frame)).await;
}

/// The client's side of a socket.
struct Client {
    socket: Socket,
    dialect: Dialect,
}

/// What a client says.
enum Said {
    Frame(ClientFrame),
    /// Nothing that is one of the protocol.
    Nonsense,
    TooLong,
    Gone,
}

impl Client {
    /// What it says next. Can be given up without harm.
    async fn next(&mut self) -> Said {
        loop {
            let text = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => return Said::Nonsense,
                Some(Err(SocketError::Capacity(_))) => return Said::TooLong,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Said::Gone,
            };
            return match ClientFrame::parse(&text) {
                Ok(Some((frame, dialect))) => {
                    self.dialect = dialect;
                    Said::Frame(frame)
                }
                Ok(None) => Said::Nonsense,
                Err(FrameTooLong) => Said::TooLong,
            };
        }
    }

    /// Says something; nothing if the client is gone.
    async fn say(&mut self, frame: ServerFrame<'_>) -> Option<()> {
        let text = frame.to_text(self.dialect);
        self.socket.send(Message::text(text)).await.ok()
    }

    async fn give(&mut self, words: Bytes) -> Option<()> {
        let text = Utf8Bytes::try_from(words).ok()?;
        self.socket.send(Message::Text(text)).await.ok()
    }

    /// Says what an HTTP answer says: a receipt, or what is wrong.
    async fn answer(&mut self, answer: Response<Body>) -> Option<()> {
        let receipt = answer.headers().get(PAYMENT_RECEIPT).and_then(|it| it.to_str().ok());
        if let Some(receipt) = receipt.and_then(|it| Receipt::parse(it).ok()) {
            return self.say(ServerFrame::Receipt(&receipt)).await;
        }
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let detail = problem.as_ref().and_then(|it| it.get("detail")?.as_str());
        let message = detail.unwrap_or("The credential was not taken.");
        self.say(ServerFrame::Error { status, message }).await
    }
}

impl Opening {
    /// Serves to the end, and says with which code to close; nothing if the client is gone.
    async fn serve(
        self,
        client: &mut Client,
        mut head: Parts,
        sale: Option<Sale>,
    ) -> Option<CloseCode> {
        let sale = if let Some(sale) = sale {
            sale
        } else {
            let selling = self.sell(client, &mut head);
            let Ok(sold) = tokio::time::timeout(CREDENTIAL_WAIT, selling).await else {
                return Some(CloseCode::Policy);
            };
            match sold? {
                Ok(sale) => sale,
                Err(code) => return Some(code),
            }
        };
        if let Some(receipt) = sale.receipt() {
            client.say(ServerFrame::Receipt(&receipt)).await?;
        }
        let purchase = sale.purchase();
        let Some(upstream) = self.connect(&head, &purchase).await else {
            sale.failed(StatusCode::BAD_GATEWAY.as_u16());
            let message = "The service did not answer. The payment is kept: send the same credential \
                           again; do not pay again.";
            client.say(ServerFrame::Error { status: 502, message }).await?;
            return Some(CloseCode::Error);
        };
        let (mut forth, back) = upstream.split();
        let is_over = Arc::new(AtomicBool::new(false));
        let messages = Messages { back, is_over: Arc::clone(&is_over) };
        let (terms, over) = (&self.meter.terms, Arc::clone(&is_over));
        let metered = sale.meter_messages(messages, terms, client.dialect, over);
        let Ok(mut given) = metered else { return Some(CloseCode::Error) };
        let mut stopping = self.stopping.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => return Some(CloseCode::Away),
                frame = given.frame() => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(words) = frame.into_data() {
                            client.give(words).await?;
                        }
                    }
                    Some(Err(_)) => return Some(CloseCode::Error),
                    None => return Some(CloseCode::Normal),
                },
                said = client.next() => match said {
                    Said::Frame(ClientFrame::Credential(credential)) => {
                        self.carry(&mut head, &credential);
                        let answer = self.service.authorise(&head).await;
                        client.answer(answer).await?;
                    }
                    Said::Frame(ClientFrame::Message(message)) => {
                        forward(&mut forth, &message).await?;
                    }
                    // What is at hand is given still, and the receipt.
                    Said::Frame(ClientFrame::CloseRequest) => is_over.store(true, Ordering::Relaxed),
                    Said::Nonsense => {
                        let message = "This is no frame of the protocol.";
                        client.say(ServerFrame::Error { status: 400, message }).await?;
                    }
                    Said::TooLong => return Some(CloseCode::Size),
                    Said::Gone => return None,
                },
            }
        }
    }

    /// Waits for a credential that buys.
    async fn sell(&self, client: &mut Client, head: &mut Parts) -> Option<Result<Sale, CloseCode>> {
        for _ in 0..REFUSALS_MAX {
            let Said::Frame(ClientFrame::Credential(credential)) = client.next().await else {
                let message = "A credential comes first.";
                client.say(ServerFrame::Error { status: 402, message }).await?;
                continue;
            };
            self.carry(head, &credential);
            match self.service.sell_socket(head).await {
                Ok(sale) => return Some(Ok(sale)),
                Err(answer) => client.answer(answer).await?,
            }
        }
        Some(Err(CloseCode::Policy))
    }

    /// Puts a frame's credential where a request's stands.
    fn carry(&self, head: &mut Parts, credential: &str) {
        take_credentials(&mut head.headers);
        let taken = self.matched.route.authorization_is_taken;
        let name = if taken { PAYMENT_AUTHORIZATION } else { AUTHORIZATION };
        if let Ok(mut value) = HeaderValue::try_from(credential) {
            value.set_sensitive(true);
            head.headers.insert(name, value);
        }
    }

    /// Opens a socket to the upstream.
    async fn connect(&self, head: &Parts, purchase: &Purchase) -> Option<Socket> {
        let mut fields = head.headers.clone();
        take_credentials(&mut fields);
        for field in [SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_ACCEPT] {
            fields.remove(field);
        }
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        let mut request = self.proxy.outgoing(&self.matched, head, fields, purchase)?;
        let fields = request.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        fields.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
        let answer = self.proxy.ask(&self.matched, request).await?;
        let is_its = answer.headers().get(SEC_WEBSOCKET_ACCEPT).is_some_and(|it| *it == accept);
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !is_its {
            let (route, status) = (&*self.matched.route.name, answer.status().as_u16());
            tracing::warn!(route, status, "upstream opens no WebSocket");
            return None;
        }
        let upgraded = hyper::upgrade::on(answer).await.ok()?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        Some(WebSocketStream::from_raw_socket(io, Role::Client, Some(limits)).await)
    }
}

/// Waits until the gateway stops. Nobody to hear it from means that it does.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Hands a client's message on; nothing if the upstream is gone, which its own side says.
async fn forward(
    upstream: &mut SplitSink<Socket, Message>,
    message: &serde_json::Value,
) -> Option<()> {
    let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    // An upstream that has gone ends the stream by itself.
    let _ = upstream.send(Message::text(text)).await;
    Some(())
}

/// The messages of an upstream, as a body.
struct Messages {
    back: SplitStream<Socket>,
    /// Whether no more are wanted.
    is_over: Arc<AtomicBool>,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        loop {
            let message = ready!(Pin::new(&mut self.back).poll_next(context));
            return Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => Some(Ok(Frame::data(text.into()))),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Binary(_))) => Some(Err("a message is not text".into())),
                Some(Ok(Message::Close(_)) | Err(SocketError::ConnectionClosed)) | None => None,
                Some(Err(error)) => Some(Err(error.into())),
            });
        }
    }
}
