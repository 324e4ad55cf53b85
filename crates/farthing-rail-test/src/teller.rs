//! A teller: keeps the account of a test rail in another process than the one that sells.
//!
//! A test that kills the seller is the teller: what its [`Dial`] has moved stays moved, and what it holds
//! is held for certain while the seller dies. One connection asks one question, in a line:
//!
//! ```text
//! settle  pay_…  usd 25  ─► settled │ declined │ unsent │ unknown
//! inquire pay_…          ─►
//! refund  ref_…  usd 25  ─►
//! ```

use std::net::SocketAddr;

use farthing_core::{SettleError, Settled};
use farthing_ledger::{PaymentId, RefundId};
use farthing_money::{Amount, AssetId, parse_atoms};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{Dial, given_back, settled};

/// The longest line that either side reads.
const LINE_BYTES_MAX: u64 = 256;

/// Answers whoever asks at `listener` as `dial` says, until the future is dropped.
pub async fn serve(listener: TcpListener, dial: Dial) {
    // A listener that fails is as good as one that is gone.
    while let Ok((stream, _)) = listener.accept().await {
        let dial = dial.clone();
        tokio::spawn(async move { answer(stream, &dial).await });
    }
}

/// Answers one question. Whoever goes away while it is held has not asked.
async fn answer(mut stream: TcpStream, dial: &Dial) -> std::io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(LINE_BYTES_MAX));
    let mut line = String::new();
    reading.read_line(&mut line).await?;
    let gone = async {
        // Nothing more is said; what ends is the connection.
        let _ = reading.read_line(&mut String::new()).await;
    };
    let word = tokio::select! {
        word = word(&line, dial) => word,
        () = gone => return Ok(()),
    };
    writing.write_all(word.as_bytes()).await
}

/// The answer to one question, in a word.
async fn word(line: &str, dial: &Dial) -> &'static str {
    let words: Vec<&str> = line.split_whitespace().collect();
    let said = match words.as_slice() {
        ["settle", payment, asset, atoms] => match (payment_id(payment), amount(asset, atoms)) {
            (Some(payment), Some(amount)) => dial.settle(payment, amount).await,
            _ => Err(SettleError::Declined),
        },
        ["inquire", payment] => match payment_id(payment) {
            Some(payment) => dial.inquire(payment),
            None => Err(SettleError::Declined),
        },
        ["refund", refund, asset, atoms] => match (refund_id(refund), amount(asset, atoms)) {
            (Some(refund), Some(amount)) => dial.refund(refund, amount),
            _ => Err(SettleError::Declined),
        },
        _ => Err(SettleError::Declined),
    };
    match said {
        Ok(_) => "settled\n",
        Err(SettleError::Declined) => "declined\n",
        Err(SettleError::Unsent) => "unsent\n",
        Err(SettleError::Unknown) => "unknown\n",
    }
}

fn payment_id(text: &str) -> Option<PaymentId> {
    PaymentId::try_from(text.to_owned()).ok()
}

fn refund_id(text: &str) -> Option<RefundId> {
    RefundId::try_from(text.to_owned()).ok()
}

fn amount(asset: &str, atoms: &str) -> Option<Amount> {
    Some(Amount::new(AssetId::new(asset).ok()?, parse_atoms(atoms).ok()?))
}

/// Asks the teller to move the money of a payment.
pub(crate) async fn settle(
    teller: SocketAddr,
    payment: PaymentId,
    amount: &Amount,
) -> Result<Settled, SettleError> {
    let question = format!("settle {payment} {} {}\n", amount.asset(), amount.atoms());
    ask(teller, &question).await.map(|()| settled(payment))
}

/// Asks the teller what became of a payment. One that cannot be reached says nothing.
pub(crate) async fn inquire(
    teller: SocketAddr,
    payment: PaymentId,
) -> Result<Settled, SettleError> {
    match TcpStream::connect(teller).await {
        Ok(stream) => {
            let question = format!("inquire {payment}\n");
            said(stream, &question).await.map(|()| settled(payment))
        }
        Err(_) => Err(SettleError::Unknown),
    }
}

/// Asks the teller to move money back.
pub(crate) async fn refund(
    teller: SocketAddr,
    refund: RefundId,
    amount: &Amount,
) -> Result<Settled, SettleError> {
    let question = format!("refund {refund} {} {}\n", amount.asset(), amount.atoms());
    ask(teller, &question).await.map(|()| given_back(refund))
}

/// Asks a question that moves money. Where there is no connection it was never sent.
async fn ask(teller: SocketAddr, question: &str) -> Result<(), SettleError> {
    let stream = TcpStream::connect(teller).await.map_err(|_| SettleError::Unsent)?;
    said(stream, question).await
}

/// What a teller says to a question. Silence says nothing.
async fn said(mut stream: TcpStream, question: &str) -> Result<(), SettleError> {
    stream.write_all(question.as_bytes()).await.map_err(|_| SettleError::Unknown)?;
    let mut line = String::new();
    let mut reading = BufReader::new(stream.take(LINE_BYTES_MAX));
    reading.read_line(&mut line).await.map_err(|_| SettleError::Unknown)?;
    match line.as_str() {
        "settled\n" => Ok(()),
        "declined\n" => Err(SettleError::Declined),
        "unsent\n" => Err(SettleError::Unsent),
        _ => Err(SettleError::Unknown),
    }
}
