//! Requests that are paid for, with nothing but a signature of the wallet's.

use std::io;
use std::time::Duration;

use crate::http::{exchange, place, written};
use crate::{Answer, Credential, Dial, Ending, Error, Request, Wallet};

/// How often one credential is sent before it is left for later.
const ATTEMPTS_MAX: u32 = 5;

/// How long to wait before a credential is sent a second time, where the seller does not say; twice as long
/// before the third, and so on.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Makes requests, and has the wallet sign where they cost something.
pub struct Client<D: Dial> {
    wallet: Wallet,
    dial: D,
}

/// An answer, and which payment it came for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The seller's answer.
    pub answer: Answer,
    /// The payment; nothing if nothing was asked.
    pub payment: Option<String>,
    /// What the wallet has written down. [`Ending::Open`] also where it could not be told: the price then stays
    /// held until the credential has expired.
    pub ending: Option<Ending>,
}

impl<D: Dial> Client<D> {
    /// A client of a wallet, with its own connections to sellers.
    #[must_use]
    pub fn new(wallet: Wallet, dial: D) -> Self {
        Self { wallet, dial }
    }

    /// Makes a request. Where it costs something, the wallet is asked for a credential, the request is sent again
    /// with it, and the wallet is told what the seller said.
    ///
    /// # Idempotency
    ///
    /// As of [`Wallet::sign`].
    ///
    /// # Errors
    ///
    /// An [`Error`], which says whether money may have moved.
    pub fn fetch(&self, request: &Request) -> Result<Fetched, Error> {
        let asked = self.send(request, None)?.map_err(Error::Seller)?;
        let challenges: Vec<&str> = asked.all("www-authenticate").collect();
        if asked.status != 402 || challenges.is_empty() {
            return Ok(Fetched { answer: asked, payment: None, ending: None });
        }
        let credential = self.wallet.sign(request, &challenges)?;
        let payment = credential.payment.clone();
        match self.insist(request, &credential)? {
            Ok(answer) => {
                let told = self.wallet.conclude(&payment, Some(&answer));
                if answer.status == 402 {
                    return Err(Error::NotTaken { payment, answer });
                }
                // The answer is there, whatever has become of the wallet.
                let ending = Some(told.unwrap_or(Ending::Open));
                Ok(Fetched { answer, payment: Some(payment), ending })
            }
            Err(error) => Err(Error::Unknown { payment, error }),
        }
    }

    /// Sends a credential until it is answered.
    fn insist(
        &self,
        request: &Request,
        credential: &Credential,
    ) -> Result<io::Result<Answer>, Error> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            match self.send(request, Some(credential))? {
                Ok(answer) if matches!(answer.status, 429 | 502 | 503 | 504) => {
                    let seconds = answer.field("retry-after").and_then(|it| it.parse().ok());
                    pause = seconds.map_or(pause, Duration::from_secs);
                }
                Ok(answer) => return Ok(Ok(answer)),
                Err(_) => {}
            }
            std::thread::sleep(pause.min(PAUSE_MAX));
            pause = pause.saturating_mul(2);
        }
        self.send(request, Some(credential))
    }

    fn send(
        &self,
        request: &Request,
        credential: Option<&Credential>,
    ) -> Result<io::Result<Answer>, Error> {
        let place = place(&request.url)?;
        let more = credential.map(|it| (it.header.as_str(), it.value.as_str()));
        let bytes = written(request, &place, more)?;
        let dialled = self.dial.dial(&place.target);
        Ok(dialled.and_then(|stream| exchange(stream, &bytes, &request.method)))
    }
}
