use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};
use std::rc::Rc;

use crate::http::{exchange, place, written};
use crate::{Answer, At, Error, Request, base64};

/// A connection that says what a test tells it, and keeps what it is told.
struct Canned {
    says: Cursor<Vec<u8>>,
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Read for Canned {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // A byte at a time: nothing may hang on how an answer is cut up.
        let most = bytes.len().min(1);
        self.says.read(&mut bytes[..most])
    }
}

impl Write for Canned {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hear(says: &str, method: &str) -> io::Result<Answer> {
    let heard = Rc::default();
    let canned = Canned { says: Cursor::new(says.into()), heard: Rc::clone(&heard) };
    let answer = exchange(Box::new(canned), b"sent", method);
    assert_eq!(*heard.borrow(), b"sent");
    answer
}

#[test]
fn answers_are_read_however_long_they_say_they_are() {
    let sized =
        hear("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nx-a:  2 \r\n\r\nhimore", "GET")
            .unwrap();
    assert_eq!((sized.status, sized.body.as_slice()), (200, b"hi".as_slice()));
    assert_eq!(sized.all("x-a").collect::<Vec<_>>(), ["1", "2"]);
    let ended = hear("HTTP/1.0 402 \n\nuntil the end", "GET").unwrap();
    assert_eq!((ended.status, ended.body.as_slice()), (402, b"until the end".as_slice()));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(hear(chunked, "GET").unwrap().body, b"hi0123456789");
    let early =
        hear("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "GET");
    assert_eq!(early.unwrap().status, 204);
    assert_eq!(hear("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD").unwrap().body, b"");
}

#[test]
fn what_is_no_answer_is_an_error() {
    for wrong in [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 two OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        assert!(hear(wrong, "GET").is_err(), "{wrong:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(20_000));
    assert!(hear(&endless, "GET").is_err());
}

#[test]
fn urls_say_where_a_request_goes() {
    let to = |url: &str| place(url).map(|it| (it.target.tls, it.target.host, it.target.port));
    assert_eq!(to("https://shop.example/a?b#c").unwrap(), (true, "shop.example".to_owned(), 443));
    assert_eq!(to("http://127.0.0.1:4021").unwrap(), (false, "127.0.0.1".to_owned(), 4_021));
    assert_eq!(to("http://[::1]:80/").unwrap(), (false, "::1".to_owned(), 80));
    assert_eq!(to("http://[::1]?q").unwrap(), (false, "::1".to_owned(), 80));
    for wrong in [
        "ftp://shop.example/",
        "shop.example",
        "http://",
        "http:///path",
        "http://me@shop.example/",
        "http://shop.example:port/",
        "http://shop.example/a b",
        "http://shop.example/\r\nX: y",
        "http://shop.example\\@other.example/",
    ] {
        assert!(matches!(to(wrong), Err(Error::Request(_))), "{wrong:?}");
    }
}

#[test]
fn nothing_is_smuggled_into_a_request() {
    let written = |request: &Request| {
        let bytes = written(request, &place(&request.url)?, Some(("authorization", "Bearer x")))?;
        Ok::<_, Error>(String::from_utf8(bytes).unwrap())
    };
    let post = Request::post("http://shop.example:81?q=1#f", "body").with("X-A", "1");
    assert_eq!(
        written(&post).unwrap(),
        "POST /?q=1 HTTP/1.1\r\nhost: shop.example:81\r\nconnection: close\r\ncontent-length: 4\r\n\
         authorization: Bearer x\r\nX-A: 1\r\n\r\nbody"
    );
    let get = Request::get("http://shop.example/");
    assert!(!written(&get).unwrap().contains("content-length"));
    for (name, value) in [
        ("X", "a\r\nY: b"),
        ("X\r\nY", "b"),
        ("", "b"),
        ("Host", "other.example"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
    ] {
        let wrong = get.clone().with(name, value);
        assert!(matches!(written(&wrong), Err(Error::Request(_))), "{name:?}: {value:?}");
    }
    let method = Request { method: "GET / HTTP/1.1\r\nX:".to_owned(), ..get };
    assert!(matches!(written(&method), Err(Error::Request(_))));
}

#[test]
fn base64_is_the_standards() {
    // RFC 4648 §10
    let known = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
    for (length, text) in known.into_iter().enumerate() {
        assert_eq!(base64::encode(&b"foobar"[..length]), text);
        assert_eq!(base64::decode(text).unwrap(), &b"foobar"[..length]);
    }
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(base64::decode(&base64::encode(&all)).unwrap(), all);
    assert_eq!(base64::decode("a-b"), None);
}

#[test]
fn a_wallet_is_at_a_socket_or_an_address() {
    assert_eq!(At::parse("unix:/run/w.sock").unwrap(), At::Unix("/run/w.sock".into()));
    assert_eq!(At::parse("/run/w.sock").unwrap(), At::Unix("/run/w.sock".into()));
    let tcp = At::Tcp("127.0.0.1:4040".parse().unwrap());
    assert_eq!(At::parse("http://127.0.0.1:4040").unwrap(), tcp);
    assert!(At::parse("http://[::1]:4040").is_ok());
    // A token is not for the network.
    for elsewhere in ["http://wallet.example", "http://192.0.2.1:4040", "http://0.0.0.0:4040"] {
        assert!(matches!(At::parse(elsewhere), Err(Error::Request(_))), "{elsewhere}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let request = Request::post("https://shop.example/a?key=secret", "secret");
    let shown = format!("{:?}", request.with("Authorization", "secret"));
    assert!(shown.contains("https://shop.example/a") && !shown.contains("secret"), "{shown}");
    let fields = vec![("set-cookie".to_owned(), "secret".to_owned())];
    let answer = Answer { status: 200, fields, body: b"secret".to_vec() };
    let shown = format!("{answer:?}");
    assert!(shown.contains("200") && !shown.contains("secret"), "{shown}");
}
