//! An escrow of our own on a chain of our own, a seller with a teller, and a buyer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use alloy_primitives::{B256, hex};
use farthing_core::Object;
use farthing_money::Amount;
use farthing_rail_tempo::session::{
    Action, ChannelState, Channels, Credited, Descriptor, Errand, Escrow, Family, Funded, Opening,
    Outcome, SessionTerms, Take, Taken, Teller, Unfit, Voucher, creation_code,
};
use farthing_rail_tempo::{Address, Nodes, Sponsor, TempoPayer};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD, TEMPO_CHAIN_ID, development_key};
use serde_json::json;

use crate::world::{World, nodes, tokens};

/// Who is paid in these stories: the development account of this number.
pub(crate) const PAYEE: usize = 1;

/// A chain with an escrow.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) escrow: Escrow,
    /// No two channels have the same salt.
    pub(crate) salts: AtomicU8,
}

impl Town {
    pub(crate) async fn start() -> Option<Self> {
        let world = World::start().await?;
        let code = creation_code(Family::TempoV1).unwrap();
        let address = world.deploy(&code).await;
        let escrow = Escrow::new(Family::TempoV1, TEMPO_CHAIN_ID, address);
        Some(Self { world, escrow, salts: AtomicU8::new(1) })
    }

    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        self.world.nodes()
    }

    /// What the seller asks for.
    pub(crate) fn terms(&self) -> SessionTerms {
        SessionTerms {
            amount: Amount::new("usd".parse().unwrap(), 25),
            unit: Some("request".into()),
            suggested_deposit: Some(10_000),
            token: PATH_USD.parse().unwrap(),
            recipient: account(PAYEE),
            escrow: self.escrow,
            channel: None,
            delta_min: 0,
            operator: "0x0000000000000000000000000000000000000000".parse().unwrap(),
            sponsored: false,
            means: Vec::new(),
        }
    }

    pub(crate) fn salt(&self) -> B256 {
        B256::repeat_byte(self.salts.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn channels(&self) -> Channels {
        self.channels_over(self.nodes(), None)
    }

    pub(crate) fn channels_over(&self, nodes: Arc<Nodes>, sponsor: Option<Sponsor>) -> Channels {
        Channels::new(nodes, self.escrow, sponsor, 1, Duration::from_secs(20))
    }

    pub(crate) fn teller(&self) -> Teller {
        Self::teller_over(&self.world.chain.url, PAYEE)
    }

    pub(crate) fn teller_over(url: &str, number: usize) -> Teller {
        let token = tokens().named(&"usd".parse().unwrap()).unwrap().clone();
        let wait = Duration::from_secs(5);
        Teller::new(&development_key(number), nodes(&[url]), token, 1, wait).unwrap()
    }

    /// Reads an opening as the seller does.
    pub(crate) fn read_open(
        &self,
        payload: &Object,
        terms: &SessionTerms,
    ) -> Result<Funded, Unfit> {
        let Action::Open(open) = Action::read(self.escrow.family, payload).unwrap() else {
            panic!("no opening")
        };
        Funded::opening(&open, terms, u64::MAX)
    }

    pub(crate) fn read_top_up(
        &self,
        payload: &Object,
        terms: &SessionTerms,
    ) -> Result<Funded, Unfit> {
        let Action::TopUp(top_up) = Action::read(self.escrow.family, payload).unwrap() else {
            panic!("no top-up")
        };
        Funded::top_up(&top_up, terms, u64::MAX)
    }

    /// Opens a channel of the buyer's with this number, all the way.
    pub(crate) async fn open(&self, payer: &TempoPayer, deposit: u128) -> (Opening, Credited) {
        let terms = self.terms();
        let opening = payer.open_channel(&terms, deposit, 0, self.salt()).await.unwrap();
        let funded = self.read_open(&opening.payload, &terms).unwrap();
        let credited = self.channels().fund(&funded).await.unwrap();
        assert_eq!(credited.state.what.deposit, deposit);
        (opening, credited)
    }

    /// What the payer signs for everything owed so far, as the seller reads it.
    pub(crate) fn voucher(&self, payer: &TempoPayer, of: &Descriptor, owed: u128) -> Voucher {
        let payload = payer.voucher(&self.escrow, of, owed).unwrap();
        let Action::Voucher(shown) = Action::read(self.escrow.family, &payload).unwrap() else {
            panic!("no voucher")
        };
        assert_eq!(shown.voucher.verify(&self.escrow, of.signer()), Ok(()));
        shown.voucher
    }

    pub(crate) async fn state(&self, channel: B256) -> Option<ChannelState> {
        self.channels().states(&[channel]).await.unwrap().what[0]
    }

    /// What an account holds of pathUSD.
    pub(crate) async fn holds(&self, account: Address) -> u128 {
        self.world.holds(account).await
    }

    pub(crate) async fn settle(&self, descriptor: Descriptor, voucher: Voucher) -> Outcome {
        let errand = Errand { descriptor, take: Take::Settle(voucher) };
        self.teller().run(&self.escrow, &[errand]).await.remove(0)
    }

    pub(crate) async fn close(&self, descriptor: Descriptor, voucher: Voucher) -> Outcome {
        let capture = voucher.cumulative;
        let errand = Errand { descriptor, take: Take::Close { voucher, capture } };
        self.teller().run(&self.escrow, &[errand]).await.remove(0)
    }
}

/// What an errand that was done has taken.
pub(crate) fn done(outcome: &Outcome) -> &Taken {
    let Outcome::Done(taken) = outcome else { panic!("{outcome:?}") };
    taken
}

pub(crate) fn account(number: usize) -> Address {
    DEVELOPMENT_ACCOUNTS[number].parse().unwrap()
}

impl World {
    /// Puts a contract on the chain.
    pub(crate) async fn deploy(&self, code: &[u8]) -> Address {
        let data = hex::encode_prefixed(code);
        let call = json!([{ "from": DEVELOPMENT_ACCOUNTS[0], "data": data, "gas": "0x1c00000" }]);
        let sent = self.ask("eth_sendTransaction", call).await;
        let hash = sent["result"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
        loop {
            let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt["result"].is_null() {
                assert_eq!(receipt["result"]["status"], "0x1", "{receipt}");
                return receipt["result"]["contractAddress"].as_str().unwrap().parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
