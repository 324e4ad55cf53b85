//! The body by hand, frame by frame, on a clock that a test turns.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farthing_meter::ws::Dialect;
use farthing_meter::{
    End, Measure, Metered, NeedVoucher, PAYMENT_RECEIPT, Settings, Stopped, StreamError, Summary,
    Terms, Tokens, Wanted, metered,
};
use farthing_mpp::Receipt;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use sse_parse::SseParser;

use crate::purse::{PRICE, Purse};
use crate::upstream::{Sender, Upstream, upstream};

struct Story {
    sender: Option<Sender>,
    body: Pin<Box<Metered<Upstream, Purse>>>,
    head: HeaderMap,
    purse: Purse,
    summary: Arc<Mutex<Option<Summary>>>,
}

impl Story {
    fn new(measure: Measure, kind: &'static str, purse: Purse) -> Self {
        Self::with_terms(&Terms::new(measure), kind, purse)
    }

    fn with_terms(terms: &Terms, kind: &'static str, purse: Purse) -> Self {
        let (sender, body) = upstream();
        let te = HeaderMap::from_iter([(http::header::TE, HeaderValue::from_static("trailers"))]);
        let answer = Response::builder()
            .header("content-type", kind)
            .header("content-length", "5")
            .header("payment-receipt", "forged");
        let answer = metered(answer.body(body).unwrap(), &te, terms, purse.clone()).unwrap();
        let (head, body) = answer.into_parts();
        let summary = Arc::new(Mutex::new(None));
        let note = Arc::clone(&summary);
        let body = body.on_end(move |it| *note.lock().unwrap() = Some(it));
        Self { sender: Some(sender), body: Box::pin(body), head: head.headers, purse, summary }
    }

    fn send(&self, bytes: &'static str) {
        self.sender.as_ref().unwrap().data(bytes);
    }

    fn end(&mut self) {
        self.sender = None;
    }

    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, StreamError>> {
        self.body.frame().await
    }

    /// The next bytes, as text; empty at the end.
    async fn text(&mut self) -> String {
        let Some(frame) = self.frame().await else { return String::new() };
        String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap()
    }

    /// The data of the next event, which has this name.
    async fn event(&mut self, name: &str) -> Value {
        let text = self.text().await;
        let data = text.strip_prefix(&format!("event: {name}\ndata: "));
        serde_json::from_str(data.unwrap_or_else(|| panic!("{text:?} is no {name}"))).unwrap()
    }

    /// Nothing comes, however often it is asked.
    async fn is_still(&mut self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            assert!(futures_now(self.body.frame()).await.is_none());
        }
    }

    fn summary(&self) -> Summary {
        self.summary.lock().unwrap().expect("the stream has ended")
    }
}

/// What a future gives at once.
async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// SES.S08, S-13: a stream pauses when the balance is used up, says what it needs, and goes on exactly
/// where it stopped; the receipt comes last.
#[tokio::test(start_paused = true)]
async fn a_stream_pauses_and_goes_on_where_it_stopped() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(2));
    story.send("data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
    assert_eq!(story.text().await, "data: 1\n\n");
    assert_eq!(story.text().await, "data: 2\n\n");
    let need = story.event("payment-need-voucher").await;
    assert_eq!(need["acceptedCumulative"], "50");
    assert_eq!(need["requiredCumulative"], "75");
    assert_eq!(need["deposit"], "25000");
    assert_eq!(need["channelId"], "0xc4a7");
    assert_eq!(need.as_object().unwrap().len(), 4);

    tokio::time::advance(Duration::from_secs(59)).await;
    story.is_still().await;
    story.purse.accept_units(4);
    assert_eq!(story.text().await, "data: 3\n\n");
    assert_eq!(story.text().await, "data: 4\n\n");
    story.end();
    let receipt = story.event("payment-receipt").await;
    assert_eq!((&receipt["spent"], &receipt["units"]), (&"100".into(), &4.into()));
    assert_eq!(receipt["status"], "success");
    assert!(story.frame().await.is_none());
    assert!(story.body.is_end_stream());
    let expected = Summary { end: End::Complete, units: 4, pauses: 1, forged: 1 };
    assert_eq!(story.summary(), expected);
    assert_eq!(story.purse.spent_units(), 4);
}

/// SES.S08: while a stream waits for money it does not read its upstream.
#[tokio::test(start_paused = true)]
async fn a_pause_stops_the_upstream() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(0));
    for _ in 0..100 {
        story.send("data: 1\n\n");
    }
    story.event("payment-need-voucher").await;
    story.is_still().await;
    assert_eq!(story.sender.as_ref().unwrap().read(), 1);
    assert_eq!(story.purse.spent_units(), 0);
}

/// SES.S08: a stream that nobody pays for ends after its wait, with a word of why and a receipt.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_paid_ends() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(1));
    story.send("data: 1\n\ndata: 2\n\n");
    assert_eq!(story.text().await, "data: 1\n\n");
    story.event("payment-need-voucher").await;
    let started = tokio::time::Instant::now();
    assert_eq!(story.text().await, ": ended, as no voucher came in time\n\n");
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(story.event("payment-receipt").await["units"], 1);
    assert!(story.frame().await.is_none());
    assert_eq!(story.summary().end, End::Unpaid);
    story.sender.as_ref().unwrap().until_dropped().await;
}

/// SES.S08: who pays a part is told what is lacking.
#[tokio::test(start_paused = true)]
async fn a_part_of_what_is_needed_is_answered() {
    let mut story = Story::with_terms(&reserving(3), "text/event-stream", Purse::with_units(0));
    story.send("data: 1\n\n");
    assert_eq!(story.event("payment-need-voucher").await["requiredCumulative"], "75");
    story.purse.accept_units(2);
    assert_eq!(story.event("payment-need-voucher").await["acceptedCumulative"], "50");
    story.is_still().await;
    story.purse.accept_units(3);
    assert_eq!(story.text().await, "data: 1\n\n");
    story.end();
    let receipt = story.event("payment-receipt").await;
    let expected = (&"25".into(), &1.into());
    assert_eq!((&receipt["spent"], &receipt["units"]), expected, "the rest is given back");
    assert_eq!(story.summary().pauses, 1);
}

/// D-06: vouchers over dust do not keep a stream, its connection and its upstream open.
#[tokio::test(start_paused = true)]
async fn dust_does_not_hold_a_stream_open() {
    let mut story = Story::with_terms(&reserving(3), "text/event-stream", Purse::with_units(0));
    story.send("data: 1\n\n");
    story.event("payment-need-voucher").await;
    let started = tokio::time::Instant::now();
    for units in 1..=2 {
        tokio::time::advance(Duration::from_secs(20)).await;
        story.purse.accept_units(units);
        story.event("payment-need-voucher").await;
    }
    assert!(story.text().await.starts_with(": ended, as no voucher came in time"));
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!((story.summary().end, story.purse.spent_units()), (End::Unpaid, 0));
}

fn reserving(reserve_units: u64) -> Terms {
    Terms { reserve_units, ..Terms::new(Measure::Events) }
}

/// S-09: a channel that closes ends its stream, paused or not.
#[tokio::test(start_paused = true)]
async fn a_closed_channel_ends_its_stream() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(1));
    story.send("data: 1\n\ndata: 2\n\n");
    assert_eq!(story.text().await, "data: 1\n\n");
    story.event("payment-need-voucher").await;
    story.purse.stop(Stopped::Closed);
    assert_eq!(story.text().await, ": ended, as the channel is closed\n\n");
    assert_eq!(story.event("payment-receipt").await["units"], 1);
    assert!(story.frame().await.is_none());
    assert_eq!(story.summary().end, End::Closed);
}

/// SES.S05: while the books cannot be written nothing is given, and nothing looks complete.
#[tokio::test(start_paused = true)]
async fn books_that_fail_break_the_answer_off() {
    for kind in ["text/event-stream", "text/plain"] {
        let purse = Purse::with_units(9);
        purse.stop(Stopped::Unavailable);
        let mut story = Story::new(Measure::Lines, kind, purse);
        story.send("data: 1\n\n");
        assert!(matches!(story.frame().await, Some(Err(StreamError::Unavailable))));
        assert!(story.frame().await.is_none());
        assert_eq!(story.summary().end, End::Unavailable);
    }
}

/// S-13: a client that goes away is charged what it was given; what was paid beyond is given back.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_stops_the_charge() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(9));
    story.send("data: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!(story.text().await, "data: 1\n\n");
    assert_eq!(story.purse.spent_units(), 3, "all that was at hand");
    let Story { sender, body, purse, summary, .. } = story;
    drop(body);
    sender.unwrap().until_dropped().await;
    assert_eq!(purse.spent_units(), 1);
    let expected = Summary { end: End::Dropped, units: 1, pauses: 0, forged: 1 };
    assert_eq!(*summary.lock().unwrap(), Some(expected));
}

/// S-13: a taking that ends after its client has gone is given back.
#[tokio::test(start_paused = true)]
async fn a_taking_that_comes_too_late_is_given_back() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(9).held());
    story.send("data: 1\n\n");
    story.is_still().await;
    assert_eq!(story.purse.wanted(), [Wanted { least: 1, most: 1 }]);
    let Story { body, purse, .. } = story;
    drop(body);
    purse.let_one_through();
    purse.until(1, 0).await;
    let control = Purse::with_units(9).held();
    let mut story = Story::new(Measure::Events, "text/event-stream", control);
    story.send("data: 1\n\n");
    story.purse.let_one_through();
    assert_eq!(story.text().await, "data: 1\n\n");
    assert_eq!(story.purse.spent_units(), 1, "and a client that stays pays");
}

/// SES.S09: an answer that is no stream of events ends with its receipt in a trailer.
#[tokio::test(start_paused = true)]
async fn other_answers_end_with_a_trailer() {
    let mut story = Story::new(Measure::Bytes, "text/plain", Purse::with_units(9));
    assert_eq!(story.head["trailer"], "payment-receipt");
    assert!(
        !story.head.contains_key("content-length") && !story.head.contains_key("payment-receipt")
    );
    story.send("hello");
    let forged = HeaderName::from_static("payment-receipt");
    let own = HeaderName::from_static("x-checksum");
    let trailers =
        HeaderMap::from_iter([(forged, "x".parse().unwrap()), (own, "7".parse().unwrap())]);
    story.sender.as_ref().unwrap().frame(Frame::trailers(trailers));
    story.end();
    assert_eq!(story.text().await, "hello");
    let trailers = story.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["x-checksum"], "7", "the upstream's own are passed on");
    let receipt = Receipt::parse(trailers[PAYMENT_RECEIPT].to_str().unwrap()).unwrap();
    assert_eq!(receipt.extra["units"], 5);
    assert!(story.frame().await.is_none());
    assert_eq!(story.summary().forged, 2, "the head and the trailer spoke of payments");
}

/// SES.S08: an answer that says nothing of its own end breaks off when it is not paid for.
#[tokio::test(start_paused = true)]
async fn a_part_is_not_taken_for_the_whole() {
    let mut story = Story::new(Measure::Bytes, "text/plain", Purse::with_units(3));
    story.send("hello");
    assert_eq!(story.text().await, "hel");
    assert!(matches!(story.frame().await, Some(Err(StreamError::Unpaid))));
    assert_eq!((story.summary().end, story.purse.spent_units()), (End::Unpaid, 3));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_breaks_off_is_charged_to_its_last_event() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(9));
    story.send("data: 1\n\ndata: {\"ha");
    story.sender.as_ref().unwrap().fail();
    assert_eq!(story.text().await, "data: 1\n\n");
    assert_eq!(story.text().await, ": ended, as the upstream broke off\n\n");
    assert_eq!(story.event("payment-receipt").await["units"], 1);
    assert!(matches!(story.frame().await, Some(Err(StreamError::Upstream(_)))));
    assert!(story.frame().await.is_none());
    assert_eq!((story.summary().end, story.purse.spent_units()), (End::Upstream, 1));
}

/// SES.S08: clients that find the ends of events by two LF find ours in any stream, and no parser of the
/// standard is told anything else.
#[tokio::test(start_paused = true)]
async fn our_events_stand_apart_in_streams_of_crlf() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(1));
    story.send("data: 1\r\n\r\ndata: 2\r\n\r\n");
    let mut read = story.text().await;
    read += &story.text().await;
    story.purse.accept_units(2);
    read += &story.text().await;
    story.end();
    read += &story.text().await;
    assert!(story.frame().await.is_none());
    let blocks: Vec<&str> = read.split("\n\n").collect();
    let ours = blocks.iter().filter(|block| block.starts_with("event: payment-"));
    assert_eq!(ours.count(), 2, "{read:?}");
    let mut parser = SseParser::new();
    parser.feed(read.as_bytes());
    let named = std::iter::from_fn(|| parser.next_event()).map(|event| event.event);
    let expected = ["message", "payment-need-voucher", "message", "payment-receipt"];
    assert_eq!(named.collect::<Vec<_>>(), expected);
}

/// W-08: what the upstream says of payments is not what the client reads of them.
#[tokio::test(start_paused = true)]
async fn only_ours_are_payments() {
    let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(9));
    story.send("event: payment-need-vou");
    story.send("cher\ndata: {\"requiredCumulative\":\"999\"}\n\n");
    let text = story.text().await;
    assert!(text.starts_with("event: upstream-payment-need-voucher\ndata: {"), "{text:?}");
    story.end();
    story.event("payment-receipt").await;
    assert_eq!(story.summary().forged, 2, "the event, and a field of the head");
}

/// SES.S14: tokens are taken as they seem to come, and settled by the report; the answer's last words
/// wait for it.
#[tokio::test(start_paused = true)]
async fn tokens_are_settled_by_the_report() {
    let tokens = Tokens { input: 0, ..Tokens::default() };
    let mut story = Story::new(Measure::Tokens(tokens), "text/event-stream", Purse::with_units(4));
    story.send("data: {\"choices\":[{\"delta\":{\"content\":\"twelve bytes\"}}]}\n\n");
    assert!(story.text().await.contains("twelve bytes"));
    assert_eq!(story.purse.spent_units(), 3);
    story.send("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":6}}\n\ndata: [DONE]\n\n");
    assert_eq!(story.event("payment-need-voucher").await["requiredCumulative"], "150");
    story.purse.accept_units(6);
    assert!(story.text().await.contains("usage"));
    assert_eq!(story.text().await, "data: [DONE]\n\n");
    story.end();
    assert_eq!(story.event("payment-receipt").await["spent"], (6 * PRICE).to_string());
}

/// SES.S08: a silent upstream is paid by the second, a pause is not.
#[tokio::test(start_paused = true)]
async fn seconds_are_charged_while_they_pass() {
    let mut story = Story::new(Measure::Seconds, "text/event-stream", Purse::with_units(3));
    story.send("data: 1\n\n");
    assert_eq!(story.text().await, "data: 1\n\n");
    let started = tokio::time::Instant::now();
    let need = story.event("payment-need-voucher").await;
    assert_eq!(started.elapsed().as_secs(), 3);
    assert_eq!(need["requiredCumulative"], "100");
    tokio::time::advance(Duration::from_secs(40)).await;
    story.purse.accept_units(5);
    let need = story.event("payment-need-voucher").await;
    assert_eq!((started.elapsed().as_secs(), &need["requiredCumulative"]), (45, &"150".into()));
    assert_eq!(story.purse.spent_units(), 5);
}

/// SES.S08, SES.S09: over a WebSocket, messages, calls for vouchers and receipts are frames of one
/// stream.
#[tokio::test(start_paused = true)]
async fn a_conversation_is_paid_by_the_message() {
    for dialect in [Dialect::Mpp, Dialect::Typed] {
        let (sender, upstream) = upstream();
        let terms = Terms::new(Measure::Events);
        let purse = Purse::with_units(1);
        let meter = terms.meter_messages(dialect).unwrap();
        let settings = Settings { wait: terms.wait, trailers: false };
        let mut body = Metered::new(upstream, meter, purse.clone(), settings);
        sender.data("one");
        sender.data(r#"{"mpp":"payment-receipt","type":"receipt"}"#);
        drop(sender);
        let mut frames: Vec<Value> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.unwrap().into_data().unwrap();
            frames.push(serde_json::from_slice(&frame).unwrap());
            if frames.len() == 2 {
                purse.accept_units(2);
            }
        }
        let (kind, kinds) = match dialect {
            Dialect::Mpp => {
                ("mpp", ["message", "payment-need-voucher", "message", "payment-close-ready"])
            }
            Dialect::Typed => ("type", ["message", "needVoucher", "message", "receipt"]),
        };
        assert_eq!(frames.iter().map(|it| &it[kind]).collect::<Vec<_>>(), kinds);
        assert_eq!(frames[0]["data"], "one");
        assert_eq!(frames[2]["data"], r#"{"mpp":"payment-receipt","type":"receipt"}"#);
        assert_eq!(purse.spent_units(), 2);
    }
}

#[test]
fn what_a_payer_has_to_know_has_one_spelling() {
    let need = NeedVoucher {
        accepted_cumulative: 250_000,
        channel_id: "0x6d0f".to_owned(),
        deposit: 500_000,
        required_cumulative: 250_025,
    };
    let expected = "event: payment-need-voucher\ndata: {\"acceptedCumulative\":\"250000\",\
        \"channelId\":\"0x6d0f\",\"deposit\":\"500000\",\"requiredCumulative\":\"250025\"}\n\n";
    assert_eq!(need.to_event(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S-13: whenever a client goes, and however it paid until then, it had nothing that was not paid,
    /// and it has paid for nothing that it had not.
    #[test]
    fn whoever_goes_has_paid_for_what_it_got(
        chunks in vec(1usize..5, 1..10),
        first in 0u128..6,
        vouchers in vec(0u128..4, 0..8),
        frames in 0usize..30,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut story = Story::new(Measure::Events, "text/event-stream", Purse::with_units(first));
            for events in chunks {
                let chunk = "data: 1\n\n: hi\n\n".repeat(events);
                story.sender.as_ref().unwrap().data(chunk);
            }
            story.end();
            let (mut accepted, mut vouchers) = (first, vouchers.into_iter());
            let mut given = 0;
            for _ in 0..frames {
                let text = story.text().await;
                if text.starts_with("event: payment-need-voucher") {
                    accepted += vouchers.next().unwrap_or(0);
                    story.purse.accept_units(accepted);
                }
                given += u128::from(text.starts_with("data: 1"));
                assert!(given <= story.purse.spent_units(), "{given} were given");
                assert!(story.purse.spent_units() <= accepted);
            }
            let Story { body, purse, .. } = story;
            drop(body);
            assert_eq!(purse.spent_units(), given);
        });
    }
}
