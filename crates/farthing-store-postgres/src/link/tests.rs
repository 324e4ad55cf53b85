use std::time::Duration;

use farthing_store_writer::{Ask, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{HANDSHAKE_BYTES_MAX, Nonces, Secret, ToWriter, gateway, writer};

const SILENCE: Duration = Duration::from_secs(20);

fn secret() -> Secret {
    Secret { book: "main".to_owned(), epoch: 7, token: vec![3; 32] }
}

fn nonces() -> Nonces {
    Nonces { writer: [1; 32], gateway: [2; 32] }
}

/// A writer that serves one connection, and says how that ended.
async fn listening() -> (String, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (desk, queue) = farthing_store_writer::open(&Options::default());
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let served = writer::serve(stream, desk, &secret(), SILENCE).await;
        drop(queue);
        served
    });
    (address, served)
}

/// Whoever has not read the lease, or an old one, is not spoken to.
#[tokio::test]
async fn both_sides_prove_that_they_know_the_token() {
    let (address, served) = listening().await;
    let opened = gateway::open(&address, &secret(), SILENCE, 8).await;
    assert!(opened.is_ok(), "the control");
    drop(opened);
    // Closed without a word: an end, and not a refusal.
    let ended = served.await.unwrap().unwrap_err();
    assert_ne!(ended.kind(), std::io::ErrorKind::PermissionDenied);

    let wrong = [
        Secret { token: vec![4; 32], ..secret() },
        Secret { epoch: 6, ..secret() },
        Secret { book: "other".to_owned(), ..secret() },
    ];
    for wrong in wrong {
        let (address, served) = listening().await;
        assert!(gateway::open(&address, &wrong, SILENCE, 8).await.is_err());
        let refused = served.await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

/// A writer that does not know the token cannot pass for one by repeating what it heard.
#[tokio::test]
async fn an_impostor_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let impostor = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        super::say(&mut stream, &super::Hello { version: 1, nonce: [9; 32] }).await.unwrap();
        let claim: super::Claim = super::hear(&mut stream).await.unwrap();
        super::say(&mut stream, &super::Welcome { proof: claim.proof }).await.unwrap();
        stream
    });
    let opened = gateway::open(&address, &secret(), SILENCE, 8).await;
    assert_eq!(opened.err().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    drop(impostor.await.unwrap());
}

#[tokio::test]
async fn a_stranger_cannot_make_the_writer_keep_much() {
    let (address, served) = listening().await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let long = u32::try_from(HANDSHAKE_BYTES_MAX + 1).unwrap();
    stream.write_all(&long.to_be_bytes()).await.unwrap();
    let refused = served.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::FileTooLarge);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[test]
fn a_frame_cannot_be_changed_repeated_or_left_out() {
    let sealed = |count: usize| {
        let mut seal = secret().seal("to writer", nonces());
        (0..count)
            .map(|_| {
                let mut out = Vec::new();
                seal.close(&ToWriter::Tell(Ask::Work), &mut out).unwrap();
                out.split_off(4)
            })
            .collect::<Vec<_>>()
    };
    let open = |frames: &[&[u8]]| -> Vec<bool> {
        let mut seal = secret().seal("to writer", nonces());
        frames.iter().map(|frame| seal.open::<ToWriter>(frame).is_ok()).collect()
    };
    let frames = sealed(2);
    let [first, second] = frames.as_slice() else { unreachable!() };
    assert_eq!(open(&[first, second]), [true, true], "the control");
    assert_eq!(open(&[first, first]), [true, false]);
    assert_eq!(open(&[second]), [false]);
    let mut changed = first.clone();
    changed[0] ^= 1;
    assert_eq!(open(&[&changed]), [false]);
    // The other direction has another key.
    let mut other = secret().seal("to gateway", nonces());
    assert!(other.open::<ToWriter>(first).is_err());
}

#[test]
fn what_is_too_long_is_not_sent() {
    let mut out = Vec::new();
    assert!(super::frame(&[0; 9], 8, &mut out).is_err());
    assert!(out.is_empty());
    assert!(super::frame(&[0; 8], 8, &mut out).is_ok(), "the control");
    assert_eq!(out.len(), 12);
}
