//! Fuzz targets: every parser that a stranger, a peer or a file can reach.
//!
//! No target may panic, whatever the input. Most also say what must hold of what was read, above all
//! that writing it and reading it again changes nothing. `FUZZ_TARGET` names the target to run.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use farthing_core::{Ask, Buyer, Presented, Protocol, Rail, Scope};
use farthing_gate::normalise_query;
use farthing_gateway::{BookConfig, Config, canonical_path};
use farthing_keys::{Cost, KeyFolder};
use farthing_ledger::{
    Account, Book, Fingerprint, Holder, Money, PaymentId, Record, SpendingKey, TraceId, TransferId,
};
use farthing_meter::ws::{ClientFrame, Dialect, ServerFrame};
use farthing_meter::{
    Limits, Measure, Meter, MeterError, NEUTRALISED_PREFIX, Next, Report, Terms, Tokens as Counted,
    Voice,
};
use farthing_money::{Asset, AssetId, Assets, Timestamp, parse_atoms};
use farthing_mpp::discovery::PaymentInfo;
use farthing_mpp::{
    AcceptPayment, BodyDigest, Challenge, Credential, Problem, Receipt, Secret, Secrets, base64url,
    json,
};
use farthing_protocols::mpp::{Mpp, MppBuyer};
use farthing_rail_prepaid::{PrepaidRail, did_key, parse_did_key};
use farthing_rail_tempo::{Nodes, Settings, Sponsor, SponsorLimits, TempoRail, Token, Tokens};
use farthing_wallet::WalletConfig;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("accept_payment", accept_payment),
    ("account", account),
    ("amount", amount),
    ("base64url", base64),
    ("challenge", challenge),
    ("challenges", challenges),
    ("credential", credential),
    ("did_key", did),
    ("digest", digest),
    ("discovery", discovery),
    ("gateway_config", gateway_config),
    ("journal", journal),
    ("json", json_object),
    ("key_file", key_file),
    ("path", path),
    ("prepaid_payload", prepaid_payload),
    ("problem", problem),
    ("query", query),
    ("receipt", receipt),
    ("request", request),
    ("response", response),
    ("stream", stream),
    ("tempo_payload", tempo_payload),
    ("timestamp", timestamp),
    ("wallet_config", wallet_config),
    ("websocket", websocket),
];

fuzz_target!(init: {
    if std::env::var("FUZZ_TARGET").as_deref() == Ok("list") {
        for (name, _) in TARGETS {
            println!("{name}");
        }
        std::process::exit(0);
    }
}, |data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        found.expect("FUZZ_TARGET is one of those that FUZZ_TARGET=list prints").1
    })(data);
});

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// What is read from text prints as text that reads the same.
fn round_trip<T: std::str::FromStr + ToString + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let again = read.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == read), "{text:?}");
    }
}

fn accept_payment(data: &[u8]) {
    let offers = [("tempo", "charge"), ("prepaid", "charge"), ("tempo", "session")];
    if let Ok(accept) = text(data).parse::<AcceptPayment>() {
        let ranked = accept.rank(&offers);
        assert!(!ranked.is_empty() && ranked.iter().all(|&at| at < offers.len()));
    }
}

fn account(data: &[u8]) {
    let text = text(data);
    round_trip::<Account>(text);
    round_trip::<Holder>(text);
    round_trip::<SpendingKey>(text);
    round_trip::<Fingerprint>(text);
    round_trip::<TraceId>(text);
    round_trip::<PaymentId>(text);
    round_trip::<TransferId>(text);
    round_trip::<AssetId>(text);
}

fn amount(data: &[u8]) {
    let text = text(data);
    if let Ok(atoms) = parse_atoms(text) {
        assert_eq!(atoms.to_string(), text);
    }
    for decimals in [0, 2, 6, 18] {
        let asset = usd(decimals);
        if let Ok(amount) = asset.parse(text) {
            let printed = asset.print(amount.atoms());
            assert_eq!(asset.parse(&printed).as_ref(), Ok(&amount), "{text:?} as {printed:?}");
        }
    }
}

fn base64(data: &[u8]) {
    let encoded = base64url::encode(data);
    assert_eq!(base64url::decode(&encoded).as_deref(), Ok(data));
    if let Ok(bytes) = base64url::decode(text(data)) {
        assert_eq!(base64url::decode(&base64url::encode(&bytes)), Ok(bytes));
    }
}

fn challenge(data: &[u8]) {
    if let Ok(challenge) = Challenge::parse(text(data))
        && let Ok(line) = challenge.format()
    {
        assert_eq!(Challenge::parse(&line).as_ref(), Ok(&challenge), "{line:?}");
    }
}

fn challenges(data: &[u8]) {
    let found = Challenge::parse_all(text(data).lines());
    let lines: Result<Vec<String>, _> = found.iter().map(Challenge::format).collect();
    if let Ok(lines) = lines {
        let line = lines.join(", ");
        assert_eq!(Challenge::parse_all([line.as_str()]), found, "{line:?}");
    }
}

fn credential(data: &[u8]) {
    let sealed = format!("Payment {}", base64url::encode(data));
    for line in [text(data), &sealed] {
        if let Ok(credential) = Credential::parse(line) {
            let again = Credential::parse(&credential.format());
            assert!(again.is_ok_and(|again| again == credential), "{line:?}");
        }
    }
}

fn did(data: &[u8]) {
    if let Ok(key) = parse_did_key(text(data)) {
        assert_eq!(did_key(&key), text(data));
    }
}

fn digest(data: &[u8]) {
    round_trip::<BodyDigest>(text(data));
}

fn discovery(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    if let Ok(info) = PaymentInfo::parse(&value) {
        let written = serde_json::to_value(&info).expect("what was read can be written");
        assert_eq!(PaymentInfo::parse(&written).as_ref(), Ok(&info));
    }
}

fn gateway_config(data: &[u8]) {
    let secret = |_: &str| Some("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".to_owned());
    let folder = Path::new("/nonexistent");
    if let Err(error) = Config::parse(text(data), folder, &secret) {
        assert!(!error.to_string().is_empty());
    }
    drop(BookConfig::parse(text(data), folder, &secret));
}

/// Records in any order: a book takes them or refuses them, and always balances.
fn journal(data: &[u8]) {
    let mut book = Book::default();
    for line in data.split(|&byte| byte == b'\n') {
        let Ok(record) = Record::from_json(line) else { continue };
        assert_eq!(Record::from_json(record.to_json().as_bytes()).ok().as_ref(), Some(&record));
        assert!(!record.summary().is_empty());
        if book.replay(&record).is_err() {
            return;
        }
    }
    let snapshot = serde_json::to_string(&book.snapshot()).expect("a snapshot can be written");
    let again = serde_json::from_str(&snapshot).expect("and read");
    assert_eq!(serde_json::to_string(&Book::restore(again).snapshot()).ok(), Some(snapshot));
}

fn json_object(data: &[u8]) {
    if let Ok(object) = json::parse(data) {
        // Canonical numbers are doubles, so a long integer changes once and never again.
        let once = json::encode(&object);
        let again = json::decode(&once).expect("what was written can be read");
        assert_eq!(json::encode(&again), once);
    }
}

fn key_file(data: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let file = folder.path().join("agent.json");
    std::fs::write(file, data).expect("a temporary file");
    drop(KeyFolder::new(folder.path(), Cost::LEAST).info("agent"));
}

fn path(data: &[u8]) {
    if let Ok(once) = canonical_path(text(data)) {
        assert_eq!(canonical_path(&once.forwarded), Ok(once.clone()));
        assert!(!once.forwarded.contains("/../") && !once.matched.contains("//"));
    }
}

fn prepaid_payload(data: &[u8]) {
    let Some(presented) = presented(data, "prepaid", &prepaid()) else { return };
    // Nobody guesses a signature.
    assert!(prepaid().check(&presented, now()).is_err());
}

/// A transaction, complete or waiting for a sponsor, or a proof, as a stranger presents it: read from the
/// payload as it is, and from its bytes.
fn tempo_payload(data: &[u8]) {
    static RAILS: OnceLock<[TempoRail; 2]> = OnceLock::new();
    let rails = RAILS.get_or_init(|| [tempo(false), tempo(true)]);
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = |kind: &str, prefix: &str| {
        serde_json::json!({
            "payload": { "type": kind, "signature": format!("0x{prefix}{hex}") },
            "source": "did:pkh:eip155:42431:0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        })
    };
    let mut proof = signed("proof", "");
    let payee = Holder::new("forecasts-inc").expect("a name");
    let free = rails[0].quote(&usd(2).atoms(0), &payee).expect("a quote");
    proof["request"] = serde_json::Value::Object(free);
    let shown = [signed("transaction", "76"), signed("transaction", "78"), proof];
    let shown = shown.map(|it| it.to_string());
    for text in std::iter::once(data).chain(shown.iter().map(String::as_bytes)) {
        for rail in rails {
            let Some(presented) = presented(text, "tempo", rail) else { continue };
            // A hash is believed only by the chain, and so is somebody else's key; a transaction or an
            // account's own signature nobody guesses.
            let Ok(evidence) = rail.check(&presented, now()) else { continue };
            let kind = presented.payload.get("type").and_then(|it| it.as_str());
            assert!(kind != Some("transaction") && evidence.money == Money::Rail, "{kind:?}");
        }
    }
}

fn prepaid() -> PrepaidRail {
    PrepaidRail::new(Assets::from_iter([usd(2)]))
}

fn tempo(sponsored: bool) -> TempoRail {
    let address = |text: &str| text.parse().expect("an address");
    let node = "http://127.0.0.1:1".parse().expect("a node");
    let nodes = Nodes::new(42_431, vec![node], Duration::from_secs(1)).expect("nodes");
    let token =
        Token { asset: usd(2), address: address("0x20c0000000000000000000000000000000000000") };
    let limits = SponsorLimits {
        per_payment: 50_000,
        per_payer: 500_000,
        total: 5_000_000,
        period: Duration::from_hours(24),
        balance_min: 0,
    };
    let sponsor = Sponsor::local(&[9; 32], token.clone(), limits).expect("a key");
    let settings = Settings {
        payee: Holder::new("forecasts-inc").expect("a name"),
        recipient: address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        tokens: Tokens::new(vec![token]),
        push: !sponsored,
        confirmations: 1,
        wait: Duration::from_secs(1),
        sponsor: sponsored.then_some(sponsor),
        splits: Vec::new(),
        refunder: None,
    };
    TempoRail::new(nodes.into(), settings)
}

/// A credential with the payload, the source and, if there is one, the request of a JSON object.
fn presented(data: &[u8], method: &str, rail: &dyn Rail) -> Option<Presented> {
    let parts = json::parse(data).ok()?;
    let object = |name: &str| parts.get(name).and_then(|it| it.as_object()).cloned();
    let source = parts.get("source").and_then(|it| it.as_str()).map(ToOwned::to_owned);
    let payee = Holder::new("forecasts-inc").expect("a name");
    let asked = rail.quote(&usd(2).atoms(25), &payee).expect("a quote");
    Some(Presented {
        protocol: "mpp",
        method: method.to_owned(),
        intent: "charge".to_owned(),
        realm: "localhost".to_owned(),
        challenge: "challenge".to_owned(),
        trace: TraceId::from_bytes([7; 16]),
        route: "route".into(),
        scope: Scope::default().digest(),
        request: object("request").unwrap_or(asked),
        payload: object("payload").unwrap_or_default(),
        source,
        expires_at: now(),
        expires: "2026-11-21T08:00:00Z".to_owned(),
        credential: Fingerprint::of("credential", &[data]),
        idempotency_key: None,
    })
}

fn problem(data: &[u8]) {
    if let Ok(problem) = serde_json::from_slice::<Problem>(data) {
        let written = serde_json::to_vec(&problem).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Problem>(&written).ok(), Some(problem));
    }
}

fn query(data: &[u8]) {
    let once = normalise_query(text(data));
    assert_eq!(normalise_query(&once), once);
}

fn receipt(data: &[u8]) {
    let sealed = base64url::encode(data);
    for line in [text(data), &sealed] {
        if let Ok(receipt) = Receipt::parse(line) {
            assert_eq!(Receipt::parse(&receipt.format()).as_ref(), Ok(&receipt));
        }
    }
}

/// A request's fields, as a seller reads them; nobody guesses a challenge's id.
fn request(data: &[u8]) {
    static MPP: OnceLock<Mpp> = OnceLock::new();
    let mpp = MPP.get_or_init(|| {
        let secret = Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".to_owned());
        let secrets = Secrets::new(secret.expect("a long secret"), Vec::new());
        Mpp::new("localhost", secrets).expect("a realm")
    });
    let ask = Ask {
        scope: Scope::default(),
        quotes: Vec::new(),
        description: None,
        offer_ttl: Duration::from_mins(5),
        authorization_is_taken: false,
        terms: farthing_ledger::Terms::default(),
        vouchers_buy: true,
        idempotency_key: None,
    };
    assert!(!matches!(mpp.present(&fields(data), &ask, now()), Ok(Some(_))));
}

/// A response's fields, as a wallet reads them.
fn response(data: &[u8]) {
    let fields = fields(data);
    drop(MppBuyer.read_offers(&fields));
    drop(MppBuyer.read_receipt(&fields));
}

/// An upstream's answer, whole and in pieces: the same is given and charged, nothing is given unpaid, and
/// there is nothing in it that a client could take for a payment.
fn stream(data: &[u8]) {
    let [kind, every, size, stream @ ..] = data else { return };
    let report = |cumulative| {
        let (event, pointer) = ("usage".to_owned(), "/units".to_owned());
        Measure::Report(Report { event, pointer, cumulative, estimate: 1 })
    };
    let (measure, kind) = match kind % 8 {
        0 => (Measure::Bytes, "text/plain"),
        1 => (Measure::Lines, "text/plain"),
        2 => (Measure::Tokens(Counted::default()), "application/json"),
        3 => (Measure::Bytes, "text/event-stream"),
        4 => (Measure::Lines, "text/event-stream"),
        5 => (Measure::Tokens(Counted::default()), "text/event-stream"),
        6 => (report(*kind < 128), "text/event-stream"),
        _ => (Measure::Events, "text/event-stream"),
    };
    let terms = Terms {
        every: u64::from(*every).try_into().unwrap_or(std::num::NonZeroU64::MIN),
        limits: Limits { event_bytes_max: 256, answer_bytes_max: 1_024, batch_units_max: 3 },
        ..Terms::new(measure)
    };
    let head = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let meter = || terms.meter(&head).expect("a kind that its measure knows");
    let whole = metered(meter(), [stream].into_iter());
    assert_eq!(metered(meter(), stream.chunks(usize::from(*size).max(1))), whole);
    let (given, _, error) = whole;
    if meter().voice() != Voice::Events {
        assert!(error.is_some() || given == stream);
        return;
    }
    let mut rest = stream;
    let mut at = given.as_slice();
    while !at.is_empty() && !rest.is_empty() {
        if at[0] == rest[0] && !at.starts_with(NEUTRALISED_PREFIX.as_bytes()) {
            (at, rest) = (&at[1..], &rest[1..]);
        } else if let Some(marked) = at.strip_prefix(NEUTRALISED_PREFIX.as_bytes()) {
            // Either a mark of ours, or the upstream's own word.
            rest = rest.strip_prefix(NEUTRALISED_PREFIX.as_bytes()).unwrap_or(rest);
            at = marked;
        } else {
            panic!("{at:?} was {rest:?}");
        }
    }
    assert!(at.iter().all(|&byte| byte == b'\n') && at.len() <= 2, "{at:?}");
    assert!(error.is_some() || rest.is_empty(), "{rest:?}");
    for line in given.split(|byte| matches!(byte, b'\r' | b'\n')) {
        let line = String::from_utf8_lossy(line);
        let name = line.trim_start_matches('\u{FEFF}').strip_prefix("event:").unwrap_or_default();
        assert!(!name.trim().to_lowercase().starts_with("payment-"), "{line:?}");
    }
}

/// What a meter gives of these chunks, paid as it asks, how many units that takes, and its error.
fn metered<'a>(
    mut meter: Meter,
    mut chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, u64, Option<MeterError>) {
    let mut given = Vec::new();
    let mut paid = 0;
    loop {
        match meter.next(Duration::ZERO) {
            Ok(Next::Release(bytes)) => given.extend_from_slice(&bytes),
            Ok(Next::Take(wanted)) => {
                assert!(0 < wanted.least && wanted.least <= wanted.most);
                paid += u128::from(wanted.most);
                meter.paid(wanted.most);
            }
            Ok(Next::Upstream) => match chunks.next() {
                Some(chunk) => meter.push(chunk.to_vec().into()),
                None => meter.end(),
            },
            Ok(Next::Done) => return (given, meter.used(), None),
            Err(error) => return (given, meter.used(), Some(error)),
        }
        assert!(u128::from(meter.used()) <= paid);
    }
}

fn timestamp(data: &[u8]) {
    round_trip::<Timestamp>(text(data));
}

fn wallet_config(data: &[u8]) {
    if let Err(error) = WalletConfig::parse(text(data)) {
        assert!(!error.to_string().is_empty());
    }
}

/// A client's frames, and an upstream's messages within ours.
fn websocket(data: &[u8]) {
    let text = text(data);
    drop(ClientFrame::parse(text));
    for (dialect, kind) in [(Dialect::Mpp, "mpp"), (Dialect::Typed, "type")] {
        let frame = ServerFrame::Message(text).to_text(dialect);
        let frame: serde_json::Value = serde_json::from_str(&frame).expect("a frame is JSON");
        assert!(frame[kind] == "message" && frame["data"] == text);
        assert_eq!(frame.as_object().map(serde_json::Map::len), Some(2));
    }
}

/// Lines `name: value` as header fields.
fn fields(data: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

fn usd(decimals: u8) -> Asset {
    Asset::new("usd".parse().expect("an asset"), decimals).expect("decimals")
}

fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a timestamp")
}
