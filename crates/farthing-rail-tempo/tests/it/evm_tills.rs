//! Sessions on an EVM chain through the core: what payers have sent or signed, what the books say of it, and
//! what the chain does.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::hex;
use alloy_sol_types::{SolCall as _, SolError as _, SolValue as _};
use farthing_core::{
    Act, Admission, Ask, Invitation, Object, PreparedSession, Presented, Protocol, Quote, Rail,
    Refusal, Rejection, SESSION, Scope, SessionPayer as _, SessionPrice, Settling, Standing,
    Store as _, Tended, Tending, Till, Unfounded,
};
use farthing_ledger::{
    Audit, Channel, ChannelState, Fingerprint, Holder, Outcome, Terms, TraceId, audit,
};
use farthing_money::{Amount, Asset, Timestamp};
use farthing_rail_tempo::session::{Descriptor, Escrow, EvmAccount, EvmPayer, Family};
use farthing_rail_tempo::{Address, EvmRail, EvmSettings, Nodes, Token, Tokens};
use farthing_store_memory::MemoryStore;
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, EVM_CHAIN_ID, development_key};
use farthing_testkit::rail::Hand;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::channels::{PAYEE, account};
use crate::evm::{PAYER, Village, WAIT};
use crate::tills::posted;
use crate::world::{Fault, Proxy};

/// A till with a rail on an EVM chain, a book, and a payer.
struct Shop {
    village: Village,
    rail: Arc<EvmRail>,
    store: Arc<MemoryStore>,
    /// Where the rail asks.
    proxy: Proxy,
    payer: EvmPayer,
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap())
}

fn usd(atoms: u128) -> Amount {
    Amount::new("usd".parse().unwrap(), atoms)
}

fn price() -> SessionPrice {
    SessionPrice {
        unit: usd(25),
        unit_type: Some("request".into()),
        suggested_deposit: Some(usd(10_000)),
        deposit_min_atoms: 100,
        delta_min_atoms: 0,
    }
}

fn seller() -> Holder {
    Holder::new("seller").unwrap()
}

fn nodes(url: &str) -> Arc<Nodes> {
    let urls = vec![url.parse().unwrap()];
    Arc::new(Nodes::new(EVM_CHAIN_ID, urls, Duration::from_secs(5)).unwrap())
}

fn tokens(token: Address) -> Tokens {
    let asset = Asset::new("usd".parse().unwrap(), 6).unwrap();
    Tokens::new(vec![Token { asset, address: token }])
}

impl Shop {
    /// `relays` what payers have signed for.
    async fn open(relays: bool) -> Option<Self> {
        let village = Village::start().await?;
        let proxy = Proxy::at(&village.chain.url).await;
        let rail = rail(&village, &proxy.url, village.escrow, relays);
        let payer = EvmPayer::new(village.payer(), tokens(village.token));
        let (rail, store) = (Arc::new(rail), Arc::new(MemoryStore::new(now())));
        Some(Self { village, rail, store, proxy, payer })
    }

    fn request(&self) -> Object {
        self.rail.session().unwrap().quote_session(&price(), &seller()).unwrap()
    }

    fn invitation(&self, challenge: &str) -> Invitation {
        Invitation {
            protocol: "fake",
            method: "evm".into(),
            intent: SESSION.into(),
            realm: "api.example.com".into(),
            challenge: challenge.into(),
            request: self.request(),
            expires_at: None,
            expires: None,
            description: None,
            body: None,
            echo: String::new(),
        }
    }

    async fn prepare(&self, deposit: u128, salt: u8) -> PreparedSession {
        let prepared = self.payer.prepare(&self.invitation("p"), &usd(deposit), [salt; 32]).await;
        prepared.unwrap()
    }

    /// What the payer presents, under a challenge of this name.
    async fn acts(&self, challenge: &str, session: &PreparedSession, act: Act) -> Presented {
        let paid = self.payer.act(&self.invitation(challenge), session, act).await;
        let paid = paid.ok().unwrap_or_else(|| panic!("{act:?} is not refused"));
        self.presented(challenge, paid.payload, paid.source)
    }

    fn presented(&self, challenge: &str, payload: Object, source: Option<String>) -> Presented {
        let named = *Fingerprint::of("trace", &[challenge.as_bytes()]).as_bytes();
        let expires_at = now().after(Duration::from_hours(1));
        Presented {
            protocol: "fake",
            method: "evm".into(),
            intent: SESSION.into(),
            realm: "api.example.com".into(),
            trace: TraceId::new(now(), std::array::from_fn(|at| named[at])),
            route: "route".into(),
            scope: Scope::default().session_digest(),
            request: self.request(),
            payload,
            source,
            expires_at,
            expires: expires_at.to_string(),
            credential: Fingerprint::of("credential", &[challenge.as_bytes()]),
            idempotency_key: None,
            challenge: challenge.into(),
        }
    }

    fn till(&self, protocols: Vec<Arc<dyn Protocol>>) -> Till {
        let rail: Arc<dyn Rail> = self.rail.clone();
        Till { protocols, rails: vec![rail], store: self.store.clone() }
    }

    /// Nothing where it bought an answer, and how the channel stands where it did not.
    async fn take(&self, method: &str, presented: Presented) -> Result<Option<Channel>, Refusal> {
        let till = self.till(vec![Arc::new(Hand(presented))]);
        let quote = Quote::session("evm", price(), seller(), &self.request());
        let ask = Ask {
            scope: Scope { method: method.into(), ..Scope::default() },
            quotes: vec![Arc::new(quote)],
            description: None,
            offer_ttl: Duration::from_mins(5),
            authorization_is_taken: false,
            terms: Terms { repeatable: true, ..Terms::default() },
            vouchers_buy: method != "HEAD",
            idempotency_key: None,
        };
        match till.admit(&ask, &HeaderMap::new(), now()).await? {
            Admission::Deliver(posted) => {
                posted.delivered(Outcome { status: 200 }, None, now());
                Ok(None)
            }
            Admission::Managed(managed) => Ok(Some(managed.channel)),
            Admission::Again(_)
            | Admission::Execute(_)
            | Admission::Unsubscribed(_)
            | Admission::Challenge => panic!("no such"),
        }
    }

    async fn tend(&self, after: Duration) -> Tended {
        self.till(Vec::new()).tend(&mut Tending::default(), now().after(after)).await
    }

    /// Looks after channels until one of them is settled.
    async fn settle(&self) {
        let mut tending = Tending::default();
        tending.settle(&Settling { after: Some(Duration::ZERO), ..Settling::default() });
        let settling = async {
            while self.till(Vec::new()).tend(&mut tending, now()).await.settled == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settling).await.expect("it is settled");
    }

    async fn channel(&self) -> Channel {
        self.store.channels().await.unwrap().remove(0)
    }

    fn audit(&self) -> Audit {
        audit(&self.store.records()).unwrap()
    }

    /// What an account has been credited and debited.
    fn books(&self, account: &str) -> (u128, u128) {
        posted(&self.audit(), account)
    }

    /// How many transactions an account has had mined.
    async fn sent_by(&self, number: usize) -> u64 {
        let asked = json!([DEVELOPMENT_ACCOUNTS[number], "latest"]);
        let count = self.village.ask("eth_getTransactionCount", asked).await;
        let text = count["result"].as_str().unwrap().trim_start_matches("0x").to_owned();
        u64::from_str_radix(&text, 16).unwrap()
    }

    async fn coins_of(&self, number: usize) -> u128 {
        self.village.account(number, WAIT).coins().await.unwrap()
    }

    /// What lies in the escrow for a channel.
    async fn deposit(&self, session: &PreparedSession) -> Option<u128> {
        match self.payer.standing(session).await.unwrap().unwrap() {
            Standing::There { deposit, .. } => Some(deposit),
            Standing::Coming { .. } | Standing::Never | Standing::Over { .. } => None,
        }
    }

    async fn mining(&self, on: bool) {
        self.village.ask("evm_setAutomine", json!([on])).await;
        self.village.ask("evm_setIntervalMining", json!([u8::from(on)])).await;
    }
}

fn rail(village: &Village, url: &str, escrow: Escrow, relays: bool) -> EvmRail {
    let coin = Asset::new("eth".parse().unwrap(), 18).unwrap();
    let key = development_key(PAYEE);
    let wait = Duration::from_secs(4);
    let account = EvmAccount::new(&key, nodes(url), 1, Duration::from_secs(2), wait).unwrap();
    EvmRail::new(EvmSettings {
        escrow,
        tokens: tokens(village.token),
        account: Arc::new(account.counting_gas_in(coin)),
        confirmations: 1,
        wait,
        relays,
        forgone_max: Vec::new(),
    })
}

/// S-14, EVS.S01, EVS.S03, EVS.S04, EVS.S05, EVS.S07: a session from an opening that the payer sends to its
/// close: the chain and the books agree to the atom, and what the gas has cost stands in the books.
#[tokio::test]
async fn a_session_on_an_evm_chain_is_had_in_the_books() {
    let Some(shop) = Shop::open(false).await else { return };
    let (held, coins) = (shop.village.holds(account(PAYER)).await, shop.coins_of(PAYEE).await);
    let session = shop.prepare(10_000, 1).await;
    assert_eq!(shop.payer.standing(&session).await, Ok(Some(Standing::Never)), "nothing was sent");
    let opened = shop.acts("a", &session, Act::Open { cumulative: 25 }).await;
    assert_eq!(shop.take("GET", opened.clone()).await, Ok(None));
    let channel = shop.channel().await;
    assert_eq!((channel.state, channel.deposit, channel.spent), (ChannelState::Open, 10_000, 25));
    assert_eq!(channel.facts.id.to_string(), format!("evm:{}", session.channel));
    // Opened again, under whichever challenge, it is the same session; the chain has one opening.
    let again = shop.acts("b", &session, Act::Open { cumulative: 25 }).await;
    assert_eq!(again.payload["hash"], opened.payload["hash"]);
    assert!(shop.take("HEAD", again).await.is_ok());
    let voucher = |owed| shop.acts("a", &session, Act::Voucher { cumulative: owed });
    assert_eq!(shop.take("GET", voucher(50).await).await, Ok(None));
    // A top-up counts once, however often and under whichever challenge it is shown.
    let more = Act::TopUp { additional: 500, before: 10_000 };
    let topped = shop.take("HEAD", shop.acts("c", &session, more).await).await.unwrap().unwrap();
    assert_eq!(topped.deposit, 10_500);
    let again = shop.acts("d", &session, more).await;
    assert_eq!(shop.take("HEAD", again).await, Err(Refusal::Replayed));
    assert_eq!(
        (shop.channel().await.deposit, shop.deposit(&session).await),
        (10_500, Some(10_500))
    );
    // What is lower, or says no more, buys nothing; neither does what somebody else has signed.
    for owed in [50, 30] {
        assert!(shop.take("GET", voucher(owed).await).await.is_err());
    }
    let mut forged = voucher(100).await;
    let stranger = EvmPayer::new(shop.village.account(3, WAIT), tokens(shop.village.token));
    let of = stranger.account().key().sign(&shop.village.escrow, channel_word(&session), 100);
    let signature = hex::encode_prefixed(&of.unwrap().signature);
    forged.payload.insert("signature".into(), signature.into());
    assert!(matches!(shop.take("GET", forged).await, Err(Refusal::Session(_))));
    // It is settled while it goes on, and then closed with what was spent.
    shop.settle().await;
    assert_eq!(shop.village.holds(account(PAYEE)).await, 50);
    assert_eq!(shop.take("GET", voucher(100).await).await, Ok(None));
    assert!(
        shop.take("GET", shop.acts("a", &session, Act::Close { cumulative: 500 }).await)
            .await
            .is_err()
    );
    // 75 were spent, and the voucher before said 100.
    let close = shop.acts("a", &session, Act::Close { cumulative: 75 }).await;
    let closed = shop.take("GET", close).await.unwrap().unwrap();
    assert_eq!((closed.state, closed.settled, closed.returned), (ChannelState::Closed, 75, 10_425));
    assert_eq!(shop.village.holds(account(PAYER)).await, held - 75);
    assert_eq!(shop.village.holds(account(PAYEE)).await, 75);
    assert_eq!(shop.village.holds(shop.village.escrow.address).await, 0);
    assert_eq!(shop.books("payable/seller/usd").0, 75);
    assert_eq!(shop.books("clearing/evm/usd").1, 75);
    let (into, out_of) = shop.books("clearing/evm-escrow/usd");
    assert_eq!(into, out_of, "nothing is left in the escrow");
    assert_eq!(shop.books("spent/fees/eth").1, coins - shop.coins_of(PAYEE).await);
    assert!(matches!(
        shop.payer.standing(&session).await,
        Ok(Some(Standing::Over { settled: 75 }))
    ));
}

fn channel_word(session: &PreparedSession) -> alloy_primitives::B256 {
    session.channel.parse().unwrap()
}

/// EVS.S02, EVS.S03, EVS.S06, B-07: a hash counts for what it did: what was undone is said to be at once, what
/// did something else opens nothing, and what is not mined yet waits for the same credential.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_looked_for_before_anything_is_written_down() {
    let Some(shop) = Shop::open(false).await else { return };
    let session = shop.prepare(10_000, 1).await;
    let opened = shop.acts("a", &session, Act::Open { cumulative: 25 }).await;
    let with = |hash: &Value| {
        let mut other = opened.clone();
        other.payload.insert("hash".into(), hash.clone());
        other
    };
    // A transaction of the payer's that was undone.
    let call = json!([{
        "from": DEVELOPMENT_ACCOUNTS[PAYER], "to": shop.village.escrow.address.to_string(),
        "data": "0x8e19899e", "gas": "0x30000"
    }]);
    let undone = shop.village.ask("eth_sendTransaction", call).await;
    let refused = shop.take("GET", with(&undone["result"])).await;
    assert!(matches!(refused, Err(Refusal::Undone(_))), "{refused:?}");
    // One that opened another channel.
    let other = shop.prepare(500, 2).await;
    let others = shop.acts("b", &other, Act::Open { cumulative: 0 }).await;
    let refused = shop.take("GET", with(&others.payload["hash"])).await;
    assert_eq!(refused, Err(Refusal::Declined));
    assert!(shop.store.channels().await.unwrap().is_empty(), "nothing was written down");
    // One that nobody has mined, for as long as nobody has.
    let third = shop.prepare(700, 3).await;
    shop.mining(false).await;
    let hash = shop.send_opening(&third, 700).await;
    let early = shop.shows(&third, "c", &hash, 25);
    assert_eq!(shop.take("GET", early.clone()).await, Err(Refusal::TryAgain));
    assert!(shop.store.channels().await.unwrap().is_empty(), "nothing was written down");
    shop.mining(true).await;
    shop.village.ask("evm_mine", json!([])).await;
    assert_eq!(shop.take("GET", early).await, Ok(None), "the same credential again");
    assert_eq!(shop.take("GET", opened).await, Ok(None), "the control");
}

fn descriptor(session: &PreparedSession) -> Descriptor {
    Descriptor::read(session.keepsake["descriptor"].as_object().unwrap()).unwrap()
}

fn word(of: Address) -> alloy_primitives::Address {
    of.to_string().parse().unwrap()
}

impl Shop {
    /// Has the payer's account open a channel without waiting for it.
    async fn send_opening(&self, session: &PreparedSession, deposit: u128) -> Value {
        let (of, escrow) = (descriptor(session), self.village.escrow.address);
        let approve = (word(escrow), alloy_primitives::U256::from(deposit)).abi_encode();
        let open = (word(of.payee), word(of.token), deposit, of.salt, word(of.authorized_signer));
        let calls = [(of.token, "095ea7b3", approve), (escrow, "c79ea485", open.abi_encode())];
        let mut hash = Value::Null;
        for (to, name, args) in calls {
            let data = format!("0x{name}{}", hex::encode(args));
            let from = DEVELOPMENT_ACCOUNTS[PAYER];
            let (to, gas) = (to.to_string(), "0x40000");
            let call = json!([{ "from": from, "to": to, "data": data, "gas": gas }]);
            let sent = self.village.ask("eth_sendTransaction", call).await;
            assert!(sent["result"].is_string(), "{sent}");
            hash = sent["result"].clone();
        }
        hash
    }

    /// What a payer presents that shows `hash` for the opening of `session`.
    fn shows(
        &self,
        session: &PreparedSession,
        challenge: &str,
        hash: &Value,
        owed: u128,
    ) -> Presented {
        let (of, escrow) = (descriptor(session), &self.village.escrow);
        let mut payload = self.payer.account().payload("open", escrow, &of, Some(owed));
        payload.insert("type".into(), "hash".into());
        payload.insert("hash".into(), hash.clone());
        payload.insert("salt".into(), of.salt.to_string().into());
        let source = format!("did:pkh:eip155:{EVM_CHAIN_ID}:{}", DEVELOPMENT_ACCOUNTS[PAYER]);
        self.presented(challenge, payload, Some(source))
    }
}

/// EVS.S01, SES.S02, B-04: no node is asked for whoever has not signed, or has signed for something else: for
/// another escrow, another payee, another chain, without saying who it is.
#[tokio::test]
async fn nobody_is_asked_for_who_has_not_signed() {
    let Some(shop) = Shop::open(false).await else { return };
    let session = shop.prepare(10_000, 1).await;
    let hash = shop.send_opening(&session, 10_000).await;
    let opened = shop.shows(&session, "a", &hash, 25);
    let asked = shop.proxy.asked();
    let refused = async |presented: Presented, why: Rejection| {
        assert_eq!(shop.take("GET", presented).await, Err(Refusal::Payer(why)));
        assert_eq!(shop.proxy.asked(), asked, "nobody was asked");
    };
    let nameless = Presented { source: None, ..opened.clone() };
    refused(nameless, Rejection::Malformed).await;
    let source = |chain: u64, who: usize| {
        Some(format!("did:pkh:eip155:{chain}:{}", DEVELOPMENT_ACCOUNTS[who]))
    };
    refused(Presented { source: source(1, PAYER), ..opened.clone() }, Rejection::Invalid).await;
    let others = Presented { source: source(EVM_CHAIN_ID, 3), ..opened.clone() };
    refused(others, Rejection::Invalid).await;
    let mut unsigned = opened.clone();
    unsigned.payload.insert("cumulativeAmount".into(), "26".into());
    refused(unsigned, Rejection::Signature).await;
    let mut high = opened.clone();
    let mut signature = high.payload["signature"].as_str().unwrap().to_owned();
    signature.replace_range(130..132, "1d");
    high.payload.insert("signature".into(), signature.into());
    refused(high, Rejection::Signature).await;
    let mut relayed = opened.clone();
    relayed.payload.insert("type".into(), "permit2".into());
    refused(relayed, Rejection::Unsupported).await;
    // A top-up carries no signature: of a channel that is not in the book, no node is asked.
    let mut top_up =
        shop.payer.account().payload("topUp", &shop.village.escrow, &descriptor(&session), None);
    top_up.insert("type".into(), "hash".into());
    top_up.insert("hash".into(), hash);
    top_up.insert("additionalDeposit".into(), "500".into());
    let unknown = shop.presented("b", top_up, source(EVM_CHAIN_ID, PAYER));
    let unknown = shop.take("HEAD", unknown).await;
    assert!(matches!(unknown, Err(Refusal::Session(_))), "{unknown:?}");
    assert_eq!(shop.proxy.asked(), asked);
    assert_eq!(shop.take("GET", opened).await, Ok(None), "the control");
    assert!(shop.proxy.asked() > asked);
}

/// A top-up that somebody else makes up holds nothing up: nothing is written down that the chain does not tell.
#[tokio::test]
async fn a_made_up_top_up_holds_nothing_up() {
    let Some(shop) = Shop::open(false).await else { return };
    let session = shop.prepare(1_000, 1).await;
    let opened = shop.acts("a", &session, Act::Open { cumulative: 25 }).await;
    assert_eq!(shop.take("GET", opened.clone()).await, Ok(None));
    let made_up = |hash: Value| {
        let of = descriptor(&session);
        let mut payload = shop.payer.account().payload("topUp", &shop.village.escrow, &of, None);
        payload.insert("type".into(), "hash".into());
        payload.insert("hash".into(), hash);
        payload.insert("additionalDeposit".into(), "500".into());
        shop.presented("m", payload, opened.source.clone())
    };
    let absent = format!("0x{}", "ab".repeat(32));
    assert_eq!(shop.take("HEAD", made_up(absent.into())).await, Err(Refusal::TryAgain));
    let opening = opened.payload["hash"].clone();
    assert_eq!(shop.take("HEAD", made_up(opening)).await, Err(Refusal::Replayed));
    let another = shop.prepare(700, 3).await;
    let another = shop.send_opening(&another, 700).await;
    assert_eq!(shop.take("HEAD", made_up(another)).await, Err(Refusal::Declined));
    assert_eq!(shop.channel().await.pending, None);
    let more = Act::TopUp { additional: 500, before: 1_000 };
    let topped = shop.take("HEAD", shop.acts("c", &session, more).await).await.unwrap().unwrap();
    assert_eq!(topped.deposit, 1_500, "the control");
}

/// EVS.S09, EVS.S10, EVS.C02: a payer without a coin for gas signs, and the seller sends, once: the
/// opening, and a top-up. Books and chain agree, and the seller's gas is counted.
#[tokio::test]
async fn what_a_payer_has_signed_is_sent_once() {
    let Some(shop) = Shop::open(true).await else { return };
    let details = &shop.request()["methodDetails"];
    assert_eq!(details["credentialTypes"], json!(["authorization", "hash"]));
    assert_eq!(details["feePayer"], true);
    shop.village.ask("anvil_setBalance", json!([DEVELOPMENT_ACCOUNTS[PAYER], "0x0"])).await;
    let (sent, coins) = (shop.sent_by(PAYEE).await, shop.coins_of(PAYEE).await);
    let session = shop.prepare(10_000, 1).await;
    let opened = shop.acts("a", &session, Act::Open { cumulative: 25 }).await;
    assert_eq!(opened.payload["type"], "authorization");
    let session_rail = shop.rail.session().unwrap();
    let altered = |name: &str, value: Value| {
        let mut other = opened.clone();
        let signed = other.payload["authorization"].as_object_mut().unwrap();
        signed.insert(name.into(), value);
        session_rail.check_action(&other, now()).err()
    };
    assert!(session_rail.check_action(&opened, now()).is_ok(), "the control");
    assert_eq!(altered("to", DEVELOPMENT_ACCOUNTS[5].into()), Some(Rejection::Invalid));
    assert_eq!(altered("nonce", format!("0x{}", "07".repeat(32)).into()), Some(Rejection::Invalid));
    assert_eq!(altered("validBefore", "1".into()), Some(Rejection::Expired));
    assert_eq!(altered("validBefore", "99999999999".into()), Some(Rejection::Invalid));
    // The amount is the token's to find out: it is signed for.
    let mut more = opened.clone();
    more.payload["authorization"].as_object_mut().unwrap().insert("value".into(), "20000".into());
    assert_eq!(shop.take("GET", more).await, Err(Refusal::Unfunded));
    assert_eq!(shop.sent_by(PAYEE).await, sent, "what would fail is not sent");
    assert!(shop.store.channels().await.unwrap().is_empty());
    assert_eq!(shop.take("GET", opened.clone()).await, Ok(None));
    let again = shop.take("HEAD", Presented { challenge: "b".into(), ..opened.clone() }).await;
    assert_eq!(again.unwrap().unwrap().deposit, 10_000);
    let more = Act::TopUp { additional: 500, before: 10_000 };
    let topped = shop.acts("c", &session, more).await;
    assert_eq!(shop.take("HEAD", topped).await.unwrap().unwrap().deposit, 10_500);
    // The same further deposit, signed once more, is the same.
    let again = shop.take("HEAD", shop.acts("d", &session, more).await).await;
    assert_eq!(again, Err(Refusal::Replayed));
    assert_eq!(shop.deposit(&session).await, Some(10_500));
    assert_eq!(shop.sent_by(PAYEE).await, sent + 2, "one opening and one top-up");
    let close = shop.acts("a", &session, Act::Close { cumulative: 25 }).await;
    let closed = shop.take("GET", close).await.unwrap().unwrap();
    assert_eq!((closed.settled, closed.returned), (25, 10_475));
    assert_eq!(shop.books("spent/fees/eth").1, coins - shop.coins_of(PAYEE).await);
}

/// F-07, C-03: what a payer has signed is written down before it is sent. Whether the node or its answer is
/// lost, whoever looks after it asks the chain first, and it is sent once.
#[tokio::test]
async fn a_signed_opening_that_got_lost_is_finished_once() {
    let Some(shop) = Shop::open(true).await else { return };
    let sent = shop.sent_by(PAYEE).await;
    let session = shop.prepare(10_000, 1).await;
    let opened = shop.acts("a", &session, Act::Open { cumulative: 0 }).await;
    // The node takes it and does not say so; and then the gateway is another one.
    shop.mining(false).await;
    shop.proxy.turn(Fault::Loses);
    assert_eq!(shop.take("HEAD", opened.clone()).await, Err(Refusal::TryAgain));
    assert_eq!(shop.channel().await.state, ChannelState::Opening);
    shop.proxy.turn(Fault::None);
    shop.mining(true).await;
    shop.village.ask("evm_mine", json!([])).await;
    let other = rail(&shop.village, &shop.proxy.url, shop.village.escrow, true);
    let shop = Shop { rail: Arc::new(other), ..shop };
    let tended = shop.tend(Duration::from_secs(10)).await;
    assert_eq!((tended.confirmed, tended.open), (1, 0));
    assert_eq!(shop.channel().await.deposit, 10_000);
    assert_eq!(shop.sent_by(PAYEE).await, sent + 1, "once");
    // One that could not be sent, and whose time is over, is given up: nothing was taken.
    let other = shop.prepare(5_000, 2).await;
    let opened = shop.acts("b", &other, Act::Open { cumulative: 0 }).await;
    shop.proxy.turn(Fault::Busy);
    assert_eq!(shop.take("HEAD", opened).await, Err(Refusal::TryAgain));
    shop.proxy.turn(Fault::None);
    shop.village.ask("evm_increaseTime", json!([20 * 60])).await;
    shop.village.ask("evm_mine", json!([])).await;
    let tended = shop.tend(Duration::from_secs(10)).await;
    assert_eq!((tended.abandoned, tended.confirmed), (1, 0), "{tended:?}");
    assert_eq!(shop.deposit(&other).await, None);
    let (into, out_of) = shop.books("clearing/evm-escrow/usd");
    assert_eq!((into, out_of), (0, 10_000));
}

/// EVS.S09: what a seller does not offer to send, it does not send; a payer it does not suit is told so.
#[tokio::test]
async fn a_seller_that_relays_nothing_takes_hashes_alone() {
    let Some(shop) = Shop::open(false).await else { return };
    assert_eq!(shop.request()["methodDetails"]["credentialTypes"], json!(["hash"]));
    let relaying = rail(&shop.village, &shop.proxy.url, shop.village.escrow, true);
    let relaying = Shop { rail: Arc::new(relaying), ..shop };
    let session = relaying.prepare(10_000, 1).await;
    let opened = relaying.acts("a", &session, Act::Open { cumulative: 0 }).await;
    let plain = rail(&relaying.village, &relaying.proxy.url, relaying.village.escrow, false);
    let shop = Shop { rail: Arc::new(plain), ..relaying };
    let opened = Presented { request: shop.request(), ..opened };
    let refused = shop.take("HEAD", opened).await;
    assert_eq!(refused, Err(Refusal::Payer(Rejection::Unsupported)));
}

/// EVS.S08: an escrow that leaves the payee too little time, or is none, is not used.
#[tokio::test]
async fn an_escrow_leaves_the_payee_its_time() {
    let Some(shop) = Shop::open(false).await else { return };
    assert_eq!(shop.rail.fits().await, Ok(()), "the control");
    // A contract that answers 300, whatever it is asked.
    let hasty = "0x7000000000000000000000000000000000000007";
    let code = "0x61012c60005260206000f3";
    shop.village.ask("anvil_setCode", json!([hasty, code])).await;
    let escrow = Escrow::new(Family::Evm, EVM_CHAIN_ID, hasty.parse().unwrap());
    let hasty = rail(&shop.village, &shop.proxy.url, escrow, false);
    assert_eq!(hasty.fits().await, Err(Unfounded::Declined));
}

/// S-16, C-03: a payer that dies after it has sent an opening, and before it has shown it, finds it on the
/// chain; one whose transaction waits overtakes it, and knows then that it never comes.
#[tokio::test]
async fn a_payer_finds_what_it_has_sent() {
    let Some(shop) = Shop::open(false).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nonce");
    let payer = || {
        let account = shop.village.account(PAYER, Duration::from_secs(1)).sharing(&file);
        EvmPayer::new(account, tokens(shop.village.token))
    };
    let first = payer();
    let session = first.prepare(&shop.invitation("a"), &usd(1_000), [1; 32]).await.unwrap();
    let act = Act::Open { cumulative: 25 };
    let shown = first.act(&shop.invitation("a"), &session, act).await.ok().unwrap();
    let again = payer().act(&shop.invitation("b"), &session, act).await.ok().unwrap();
    assert_eq!(again.payload["hash"], shown.payload["hash"]);
    assert_eq!(shop.sent_by(PAYER).await, 3, "the token, an approval, and one opening");
    // An opening that waits when its sender dies.
    let other = first.prepare(&shop.invitation("c"), &usd(2_000), [2; 32]).await.unwrap();
    shop.mining(false).await;
    {
        let (invitation, dying) = (shop.invitation("c"), payer());
        let acting = dying.act(&invitation, &other, act);
        let waits = async {
            loop {
                let pool = shop.village.ask("txpool_status", json!([])).await;
                if pool["result"]["pending"] != "0x0" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = acting => panic!("nothing is mined"),
            () = waits => {}
        }
    }
    let heir = payer();
    assert!(matches!(heir.standing(&other).await, Ok(Some(Standing::Coming { .. }))));
    shop.mining(true).await;
    let left = heir.leave(&other).await.unwrap();
    assert_eq!(left, Standing::Never, "whichever was mined, no opening can be any more");
    assert!(
        matches!(heir.standing(&session).await, Ok(Some(Standing::There { .. }))),
        "the control"
    );
}

alloy_sol_types::sol! {
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes signature
    ) returns (bytes32);
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes signature
    );
    error NonceMismatch();
    error TransferFailed();
}

/// EVS.P03, S-21: whoever sees what a payer has signed can only do what it was signed for: the escrow makes the
/// nonce again and receives by itself, and nobody takes the money past it.
#[tokio::test]
async fn what_was_signed_away_opens_its_own_channel_alone() {
    let Some(shop) = Shop::open(true).await else { return };
    let session = shop.prepare(10_000, 1).await;
    let opened = shop.acts("a", &session, Act::Open { cumulative: 0 }).await;
    let (of, signed) = (descriptor(&session), &opened.payload["authorization"]);
    let text = |name: &str| signed[name].as_str().unwrap();
    let open = || openWithAuthorizationCall {
        payee: word(of.payee),
        token: word(of.token),
        deposit: 10_000,
        salt: of.salt,
        authorizedSigner: word(of.authorized_signer),
        from: word(of.payer),
        validAfter: text("validAfter").parse().unwrap(),
        validBefore: text("validBefore").parse().unwrap(),
        nonce: text("nonce").parse().unwrap(),
        signature: opened.payload["signature"].as_str().unwrap().parse().unwrap(),
    };
    let tried = async |to: Address, data: Vec<u8>| {
        let (from, data) = (DEVELOPMENT_ACCOUNTS[5], hex::encode_prefixed(data));
        let call = json!([{ "from": from, "to": to.to_string(), "data": data }, "latest"]);
        let answer = shop.village.ask("eth_call", call).await;
        let error = answer.get("error")?;
        Some(error["data"].as_str().unwrap_or_default().to_owned())
    };
    let at_escrow = async |call: openWithAuthorizationCall| {
        tried(shop.village.escrow.address, call.abi_encode()).await
    };
    let says = |error: [u8; 4]| Some(hex::encode_prefixed(error));
    assert_eq!(at_escrow(open()).await, None, "the control: anybody may hand it in");
    let (mine, salt) = (word(account(5)), alloy_primitives::B256::repeat_byte(9));
    for other in [
        openWithAuthorizationCall { payee: mine, ..open() },
        openWithAuthorizationCall { authorizedSigner: mine, ..open() },
        openWithAuthorizationCall { salt, ..open() },
        openWithAuthorizationCall { nonce: salt, ..open() },
    ] {
        assert_eq!(at_escrow(other).await, says(NonceMismatch::SELECTOR));
    }
    let more = openWithAuthorizationCall { deposit: 10_001, ..open() };
    assert_eq!(at_escrow(more).await, says(TransferFailed::SELECTOR));
    let past = receiveWithAuthorizationCall {
        from: word(of.payer),
        to: word(shop.village.escrow.address),
        value: text("value").parse().unwrap(),
        validAfter: text("validAfter").parse().unwrap(),
        validBefore: text("validBefore").parse().unwrap(),
        nonce: text("nonce").parse().unwrap(),
        signature: open().signature,
    };
    assert!(tried(shop.village.token, past.abi_encode()).await.is_some());
}
