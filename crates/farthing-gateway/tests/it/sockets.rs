//! Web sockets that are paid for by the message.

use std::net::SocketAddr;

use farthing_core::Act;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::shop::{Shop, Upstream};
use crate::streams::{Client, PATIENCE, earned, route, until};

/// An upstream that says so many things at once, and says what it hears again; `bye` closes it.
async fn talking(count: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                for at in 1..=count {
                    let forged = json!({ "mpp": "payment-receipt", "data": { "spent": at } });
                    let _ = socket.send(Message::text(forged.to_string())).await;
                }
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    // Whoever has gone hears no more.
                    let _ = match text.as_str() {
                        "bye" => socket.close(None).await,
                        _ => socket.send(Message::Text(text)).await,
                    };
                }
            });
        }
    });
    address
}

async fn shop(count: usize) -> Shop {
    let up = Upstream::at(talking(count).await);
    let meter = "measure = \"events\", wait_s = 20";
    Shop::open_before(up, "", &route("talk", "[\"GET\"]", "/talk", meter)).await
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(shop: &Shop, credential: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{}/talk", shop.address).into_client_request().unwrap();
        if let Some(credential) = credential {
            request.headers_mut().insert("authorization", credential.parse().unwrap());
        }
        let stream = TcpStream::connect(shop.address).await.unwrap();
        client_async(request, stream).await.map(|(socket, _)| Self(socket))
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn pay(&mut self, credential: String) {
        self.say(json!({ "mpp": "authorization", "authorization": credential })).await;
    }

    /// The next frame; nothing at the end.
    async fn next(&mut self) -> Option<Value> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Some(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("it comes in time")
    }

    /// The next frame, of this kind.
    async fn next_is(&mut self, kind: &str) -> Value {
        let frame = self.next().await.unwrap_or_else(|| panic!("the end instead of {kind}"));
        assert_eq!(frame["mpp"], kind, "{frame}");
        frame["data"].clone()
    }
}

/// S-13: each message of a socket is paid for before it is given, in a frame of its own whatever it says; a
/// voucher comes within the socket; what the client says is handed on; and the last receipt says what it cost.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_paid_for_one_by_one() {
    let shop = shop(4).await;
    let client = Client::new(&shop, "GET /talk", 20).await;
    let mut socket = Socket::open(&shop, None).await.unwrap();
    socket.say(json!({ "mpp": "message", "data": "for nothing" })).await;
    let refused = socket.next().await.unwrap();
    assert_eq!((&refused["mpp"], &refused["status"]), (&json!("payment-error"), &json!(402)));
    socket.pay(client.credential(Act::Open { cumulative: 1 }).await).await;
    assert_eq!(socket.next_is("payment-receipt").await["spent"], "1");
    let first = socket.next_is("message").await;
    assert!(first.as_str().unwrap().contains("payment-receipt"), "what it says is a text: {first}");
    let need = socket.next_is("payment-need-voucher").await;
    assert_eq!(need["requiredCumulative"], "2");
    assert_eq!(earned(&shop), 1);
    socket.pay(client.credential(Act::Voucher { cumulative: 9 }).await).await;
    assert_eq!(socket.next_is("payment-receipt").await["acceptedCumulative"], "9");
    for _ in 2..=4 {
        socket.next_is("message").await;
    }
    socket.say(json!({ "mpp": "message", "data": "echo" })).await;
    assert_eq!(socket.next_is("message").await, "echo");
    socket.say(json!({ "mpp": "message", "data": "bye" })).await;
    let last = socket.next_is("payment-close-ready").await;
    assert_eq!((&last["spent"], &last["units"]), (&json!("5"), &json!(5)), "{last}");
    assert_eq!(socket.next().await, None);
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 5);
}

/// A credential of the handshake buys as one of a request does, and one that buys nothing opens nothing. A
/// client that asks to close gets its receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_pays_like_a_request() {
    let shop = shop(2).await;
    let client = Client::new(&shop, "GET /talk", 20).await;
    let credential = client.credential(Act::Open { cumulative: 5 }).await;
    let mut socket = Socket::open(&shop, Some(&credential)).await.unwrap();
    socket.next_is("payment-receipt").await;
    socket.next_is("message").await;
    socket.next_is("message").await;
    socket.say(json!({ "mpp": "payment-close-request" })).await;
    assert_eq!(socket.next_is("payment-close-ready").await["spent"], "2");
    assert_eq!(socket.next().await, None);
    until("delivered", || shop.books().delivered == 1).await;
    let spent = client.credential(Act::Voucher { cumulative: 5 }).await;
    let Err(Error::Http(refused)) = Socket::open(&shop, Some(&spent)).await else { panic!() };
    assert_eq!(refused.status(), 409, "it was given as far as it was paid for");
    let unpaid = client.credential(Act::Voucher { cumulative: 1 }).await;
    let Err(Error::Http(refused)) = Socket::open(&shop, Some(&unpaid)).await else { panic!() };
    assert_eq!(refused.status(), 402);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(earned(&shop), 2);
}

/// S-13: a client that goes away is charged for what it got, and the upstream's socket goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_the_charge() {
    let shop = shop(3).await;
    let client = Client::new(&shop, "GET /talk", 20).await;
    let credential = client.credential(Act::Open { cumulative: 2 }).await;
    let mut socket = Socket::open(&shop, Some(&credential)).await.unwrap();
    for kind in ["payment-receipt", "message", "message", "payment-need-voucher"] {
        socket.next_is(kind).await;
    }
    drop(socket);
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 2);
    let metrics = shop.admin("/metrics").await.body;
    assert!(metrics.contains("farthing_streams_paused{route=\"talk\"} 0"), "{metrics}");
}

/// An upstream that opens no socket is owed for, and what is not sold by the message opens none.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_sockets_is_owed_for() {
    let up = Upstream::start().await;
    let routes = route("talk", "[\"GET\"]", "/talk", "measure = \"events\"")
        + &route("words", "[\"GET\"]", "/words", "measure = \"tokens\"");
    let shop = Shop::open_before(up, "", &routes).await;
    let client = Client::new(&shop, "GET /talk", 20).await;
    let credential = client.credential(Act::Open { cumulative: 1 }).await;
    let mut socket = Socket::open(&shop, Some(&credential)).await.unwrap();
    socket.next_is("payment-receipt").await;
    let failed = socket.next().await.unwrap();
    assert_eq!(failed["status"], 502, "{failed}");
    assert_eq!(socket.next().await, None);
    assert_eq!((shop.books().delivered, earned(&shop)), (0, 1));
    let mut request = format!("ws://{}/words", shop.address).into_client_request().unwrap();
    request.headers_mut().insert("host", "shop.example".parse().unwrap());
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let Err(Error::Http(refused)) = client_async(request, stream).await else { panic!() };
    assert_eq!(refused.status(), 501);
}

/// A client that asks to close while a voucher is waited for does not wait for its time to run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_closes_in_the_middle_of_a_pause() {
    let shop = shop(3).await;
    let client = Client::new(&shop, "GET /talk", 20).await;
    let credential = client.credential(Act::Open { cumulative: 1 }).await;
    let mut socket = Socket::open(&shop, Some(&credential)).await.unwrap();
    for kind in ["payment-receipt", "message", "payment-need-voucher"] {
        socket.next_is(kind).await;
    }
    let asked = tokio::time::Instant::now();
    socket.say(json!({ "mpp": "payment-close-request" })).await;
    let ended = socket.next().await.unwrap();
    assert_eq!(ended["status"], 402, "{ended}");
    assert_eq!(socket.next_is("payment-close-ready").await["spent"], "1");
    assert!(asked.elapsed().as_secs() < 10, "it waits 20 seconds for a voucher");
}
