//! A shared cache in front of the gateway: nginx, as Debian has it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::shop::{Shop, serve};

/// The program: where the setup has put it, or the machine's own. Nothing where there is none, and says so.
fn nginx() -> Option<PathBuf> {
    let peers = std::env::var_os("FARTHING_PEERS").map(PathBuf::from);
    let own = peers.map(|peers| peers.join("nginx/usr/sbin/nginx"));
    let usual = PathBuf::from("/usr/sbin/nginx");
    let found = own.into_iter().chain([usual]).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: FARTHING_PEERS does not say where nginx is; ./x test installs it");
    }
    found
}

/// A cache that keeps what it may, for everybody.
struct Cache {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cache {
    /// In front of `gateway`. One that is `deaf` does not hear what the gateway says about caching: the
    /// control.
    async fn open(gateway: SocketAddr, deaf: bool) -> Option<Self> {
        let (program, folder) = (nginx()?, tempfile::tempdir().unwrap());
        let place = folder.path().display();
        let deaf = if deaf {
            "proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;
             proxy_cache_valid 200 10m;"
        } else {
            ""
        };
        loop {
            // Free a moment ago.
            let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let text = format!(
                "daemon off; master_process off; pid {place}/pid; error_log stderr;
                 events {{ }}
                 http {{
                   access_log off;
                   client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
                   fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
                   proxy_cache_path {place}/cache keys_zone=shared:1m;
                   server {{
                     listen {address};
                     location / {{
                       proxy_pass http://{gateway};
                       proxy_cache shared;
                       proxy_cache_key $uri;
                       add_header X-Cache $upstream_cache_status always;
                       {deaf}
                     }}
                   }}
                 }}"
            );
            let file = folder.path().join("nginx.conf");
            std::fs::write(&file, text).unwrap();
            let mut process = Command::new(&program)
                .args(["-p", &place.to_string(), "-e", "stderr", "-c"])
                .arg(&file)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            while process.try_wait().unwrap().is_none() {
                if tokio::net::TcpStream::connect(address).await.is_ok() {
                    return Some(Self { address, process, _folder: folder });
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

const ROUTES: &str = r#"
[[routes]]
name = "sold"
methods = ["GET"]
path = "/sold"
upstream = "up"
price = "0.25 usd"

[[routes]]
name = "free"
methods = ["GET"]
path = "/free"
upstream = "up"
free = true
"#;

/// An upstream that invites every cache there is.
async fn inviting() -> crate::shop::Upstream {
    let router = axum::Router::new().fallback(|| async {
        let fields = [
            ("cache-control", "public, max-age=600, s-maxage=600"),
            ("expires", "Thu, 31 Dec 2099 00:00:00 GMT"),
            ("x-accel-expires", "600"),
            ("surrogate-control", "max-age=600"),
            ("etag", "\"v1\""),
            ("last-modified", "Sat, 21 Nov 2026 08:00:00 GMT"),
        ];
        (fields, "worth its price")
    });
    crate::shop::Upstream::at(serve(router).await)
}

/// How many of a hundred who have not paid are given what one has paid for, asking in `fields`.
async fn leaked(cache: &Cache, shop: &Shop, fields: &[(&str, &str)]) -> usize {
    let url = format!("http://{}/sold", cache.address);
    let credential = shop.buy("GET /sold", "").await;
    let paid = shop.http.get(&url).header("authorization", &credential).send().await.unwrap();
    assert_eq!(paid.text().await.unwrap(), "worth its price");
    let mut leaked = 0;
    for _ in 0..100 {
        let mut request = shop.http.get(&url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!([200, 206, 304, 402].contains(&status), "{status}");
        leaked += usize::from(status != 402);
    }
    leaked
}

/// W-01, W-02: one pays and a hundred do not, through a cache that keeps what it may: with our fields
/// nobody is given anything, in whole, in part or by its validator. A cache that does not hear them gives it to
/// all, which is the control; and what is free is kept as its seller likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_cache_gives_nothing_away() {
    let shop = Shop::open_before(inviting().await, "", ROUTES).await;
    let Some(cache) = Cache::open(shop.address, false).await else { return };
    let asks: [&[(&str, &str)]; 5] = [
        &[],
        &[("range", "bytes=0-3")],
        &[("if-none-match", "\"v1\"")],
        &[("if-modified-since", "Sat, 21 Nov 2026 08:00:00 GMT")],
        &[("if-range", "\"v1\""), ("range", "bytes=0-3")],
    ];
    for fields in asks {
        assert_eq!(leaked(&cache, &shop, fields).await, 0, "{fields:?}");
    }
    let url = format!("http://{}/free", cache.address);
    for want in ["MISS", "HIT"] {
        let free = shop.http.get(&url).send().await.unwrap();
        assert_eq!(
            (free.status().as_u16(), free.headers()["x-cache"].to_str().unwrap()),
            (200, want)
        );
    }
    for fields in asks {
        let deaf = Cache::open(shop.address, true).await.unwrap();
        assert_eq!(leaked(&deaf, &shop, fields).await, 100, "{fields:?}");
    }
}
