//! What comes within a socket: the same decision, for a credential that came in a frame.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use farthing_core::{Posted, ReceiptFacts};
use farthing_ledger::Outcome;
use farthing_meter::ws::Dialect;
use farthing_meter::{PAYMENT_RECEIPT, Terms, Unmeterable};
use farthing_mpp::Receipt;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Empty};

use super::{GateService, Paid, Purchase, Right, decide, purchase};
use crate::problem;
use crate::streams::{Given, Tab};
use crate::{Body, BoxError, Gate, PriceTag, Pricing, Tag};

impl<S, P: Pricing> GateService<S, P> {
    /// Sells what is given within a socket. `head` is that of its handshake, with a credential in it, whether
    /// it came with the handshake or in a frame.
    ///
    /// # Errors
    ///
    /// The answer to give instead, as to a request.
    pub async fn sell_socket(&self, head: &Parts) -> Result<Sale, Response<Body>> {
        match self.decide_in_socket(head, true).await? {
            Paid { right: Right::Posted(mut posted), tab: Some(tab), .. } => {
                posted.begin();
                Ok(Sale { gate: self.layer.gate.clone(), posted, tab })
            }
            // What is given within a socket is paid for within a session.
            Paid { .. } => Err(problem::unpayable().response()),
        }
    }

    /// Answers a credential that came later within the socket: it opens, tops up, authorises or closes, and
    /// buys nothing.
    pub async fn authorise(&self, head: &Parts) -> Response<Body> {
        match self.decide_in_socket(head, false).await {
            Err(answer) => answer,
            Ok(_) => problem::unpayable().response(),
        }
    }

    async fn decide_in_socket(&self, head: &Parts, buys: bool) -> Result<Paid, Response<Body>> {
        match self.layer.pricing.price(head) {
            Tag::Priced(tag) => {
                let tag = PriceTag { vouchers_buy: Some(buys), body_bytes_max: None, ..tag };
                decide(&self.layer.gate, tag, head, Empty::<Bytes>::new()).await
            }
            Tag::Free | Tag::Unpayable => Err(problem::unpayable().response()),
        }
    }
}

/// What was sold within a socket: the right to give it, once.
///
/// Dropped, it counts as a delivery that was interrupted.
pub struct Sale {
    gate: Gate,
    posted: Box<Posted>,
    tab: Tab,
}

impl Sale {
    /// What was bought.
    #[must_use]
    pub fn purchase(&self) -> Purchase {
        purchase(self.posted.payment())
    }

    /// The receipt for the first unit; nothing where the wire writes none.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        let (payment, settlement) = (self.posted.payment(), self.posted.settlement());
        let facts = ReceiptFacts { payment, settlement, units: 1 };
        let mut fields = HeaderMap::new();
        let protocols = self.gate.till().protocols.iter();
        for protocol in protocols.filter(|it| it.name() == payment.protocol) {
            protocol.write_receipt(&facts, &mut fields);
        }
        Receipt::parse(fields.get(PAYMENT_RECEIPT)?.to_str().ok()?).ok()
    }

    /// Notes that nothing could be given: the answer is owed to the same voucher.
    pub fn failed(self, status: u16) {
        let Self { gate, posted, .. } = self;
        let payment = posted.payment().id;
        posted.failed(Outcome { status }, gate.clock().now());
        gate.joins().wake(payment);
    }

    /// Gives messages as far as vouchers pay for them, each frame of the body being one. Each frame of the
    /// upstream's body is a message. Once `is_over` says so, no voucher is waited for any more.
    ///
    /// # Errors
    ///
    /// [`Unmeterable`]; nothing was given.
    pub fn meter_messages<B>(
        self,
        upstream: B,
        terms: &Terms,
        dialect: Dialect,
        is_over: Arc<AtomicBool>,
    ) -> Result<Body, Unmeterable>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { gate, posted, tab } = self;
        let (body, streamed) = tab.meter_messages(upstream, terms, dialect, is_over)?;
        Ok(Given::new(gate, posted, 101, body, streamed).boxed_unsync())
    }
}
