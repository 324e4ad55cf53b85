//! A link between client and gateway that loses everything on the way back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes requests on to `gateway` and answers to nobody. A client sees its connection end when the
/// gateway's does.
pub(crate) async fn lossy(gateway: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // Either side may break off at any time: that is what a link is for.
            tokio::spawn(async move { pass(client, gateway).await });
        }
    });
    address
}

async fn pass(mut client: TcpStream, gateway: SocketAddr) -> std::io::Result<()> {
    let mut gateway = TcpStream::connect(gateway).await?;
    let (mut answers, mut asks) = gateway.split();
    let (mut from, _to) = client.split();
    let mut lost = Vec::new();
    let (mut asking, mut chunk) = (true, [0; 4_096]);
    loop {
        tokio::select! {
            read = from.read(&mut chunk), if asking => match read? {
                0 => asking = false,
                length => asks.write_all(&chunk[..length]).await?,
            },
            read = answers.read_buf(&mut lost) => if read? == 0 { return Ok(()) },
        }
    }
}
