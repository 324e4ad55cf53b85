//! Answers to challenges, made before the clock starts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use farthing_core::{Buyer as _, Invitation, Paid, Payer as _};
use farthing_money::{Asset, Assets};
use farthing_mpp::{Challenge, Credential, base64url};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::{PrepaidPayer, did_key};
use farthing_rail_tempo::{Nodes, TempoPayer, Token, Tokens, parse_node};
use farthing_testkit::chain::{DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, development_key};
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use crate::load::get;
use crate::server::{Kind, SELLER, usd};

/// A development key; it spends play money on loopback.
const SEED: [u8; 32] = [7; 32];

/// How long the chain may take to answer a buyer.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// Somebody who pays.
pub(crate) struct Buyer {
    kind: Kind,
}

/// The key that spends.
pub(crate) fn public_key() -> [u8; 32] {
    SigningKey::from_bytes(&SEED).verifying_key().to_bytes()
}

impl Buyer {
    pub(crate) const fn for_server(kind: Kind) -> Self {
        Self { kind }
    }

    /// One paying request for each challenge.
    pub(crate) fn answer(&self, challenges: &[String]) -> Result<Vec<Vec<u8>>> {
        let half = challenges.len().div_ceil(2);
        let sign = |part: &[String]| -> Result<Vec<Vec<u8>>> {
            part.iter().map(|line| Ok(get("/paid", &self.credential(line)?))).collect()
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = challenges
                .chunks(half.max(1))
                .map(|part| scope.spawn(move || sign(part)))
                .collect();
            let mut requests = Vec::with_capacity(challenges.len());
            for part in parts {
                requests.extend(part.join().ok().context("a signing thread panicked")??);
            }
            Ok(requests)
        })
    }

    /// The header line that answers a challenge.
    fn credential(&self, line: &str) -> Result<String> {
        if self.kind == Kind::Peer {
            return Ok(format!("authorization: {}\r\n", peer_credential(line)?));
        }
        let invitation = invitation(line)?;
        let payer = PrepaidPayer::new(&SEED, Assets::from_iter([usd()?]));
        let paid = ready(payer.pay(&invitation))?.map_err(|error| anyhow::anyhow!("{error}"))?;
        written(&invitation, &paid)
    }
}

/// The offer in a challenge's line.
pub(crate) fn invitation(line: &str) -> Result<Invitation> {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_str(line)?);
    MppBuyer.read_offers(&fields).pop().context("an offer")
}

/// The header line that presents a payment.
pub(crate) fn written(invitation: &Invitation, paid: &Paid) -> Result<String> {
    let (name, value) =
        MppBuyer.write_credential(invitation, paid).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!("{name}: {}\r\n", value.to_str()?))
}

/// Buyers with accounts on a chain. They pay both servers in the same way.
pub(crate) struct ChainBuyers(Vec<Arc<TempoPayer>>);

impl ChainBuyers {
    pub(crate) fn new(node: &str) -> Result<Self> {
        let url = parse_node(node).context("the address of a node")?;
        let nodes = Arc::new(Nodes::new(TEMPO_CHAIN_ID, vec![url], NODE_TIMEOUT)?);
        let usd = Asset::new("usd".parse()?, 6)?;
        let tokens = Tokens::new(vec![Token { asset: usd, address: PATH_USD.parse()? }]);
        let payer = |number| {
            let secret = development_key(number);
            Ok(Arc::new(TempoPayer::new(&secret, Arc::clone(&nodes), tokens.clone())?))
        };
        let buyers = (0..DEVELOPMENT_KEYS.len()).filter(|number| *number != SELLER);
        Ok(Self(buyers.map(payer).collect::<Result<_>>()?))
    }

    /// One paying request for each challenge, signed side by side: the chain takes them for only half
    /// a minute.
    pub(crate) async fn answer(&self, challenges: &[String]) -> Result<Vec<Vec<u8>>> {
        self.answer_at("/paid", challenges).await
    }

    /// The same, for another path.
    pub(crate) async fn answer_at(
        &self,
        path: &'static str,
        challenges: &[String],
    ) -> Result<Vec<Vec<u8>>> {
        let share = challenges.len().div_ceil(self.0.len()).max(1);
        let mut signing = Vec::with_capacity(self.0.len());
        for (payer, share) in self.0.iter().zip(challenges.chunks(share)) {
            let (payer, share) = (Arc::clone(payer), share.to_vec());
            signing.push(tokio::spawn(async move {
                let mut requests = Vec::with_capacity(share.len());
                for line in &share {
                    let invitation = invitation(line)?;
                    let paid = payer.pay(&invitation).await;
                    let paid = paid.map_err(|error| anyhow::anyhow!("{error}"))?;
                    requests.push(get(path, &written(&invitation, &paid)?));
                }
                anyhow::Ok(requests)
            }));
        }
        let mut requests = Vec::with_capacity(challenges.len());
        for share in signing {
            requests.extend(share.await??);
        }
        Ok(requests)
    }
}

/// The same signature over what the peer's method asks for.
fn peer_credential(line: &str) -> Result<String> {
    let challenge = Challenge::parse(line)?;
    let key = SigningKey::from_bytes(&SEED);
    let signature = base64url::encode(key.sign(challenge.id.as_bytes()).to_bytes());
    let payload = json!({ "type": "signature", "signature": signature });
    let source = Some(did_key(&public_key()));
    let payload = payload.as_object().cloned().unwrap_or_default();
    Ok(Credential { challenge, source, payload }.format())
}

/// The result of a future that never waits.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> Result<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Ok(value),
        std::task::Poll::Pending => anyhow::bail!("signing waits for something"),
    }
}
