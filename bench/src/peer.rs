//! The peer: an axum server of the `mpp` crate, with a method like ours but no ledger and no disk, or
//! with its own method for Tempo and the store it comes with, in memory.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use ed25519_dalek::{Signature, VerifyingKey};
use farthing_mpp::base64url;
use farthing_rail_prepaid::parse_did_key;
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD, TEMPO_CHAIN_ID};
use mpp::protocol::core::{
    Base64UrlJson, PaymentChallenge, PaymentCredential, Receipt, format_receipt,
    parse_authorization,
};
use mpp::protocol::intents::ChargeRequest;
use mpp::protocol::traits::{ChargeMethod, VerificationError};
use mpp::server::axum::{ChargeChallenger, ChargeConfig, MppCharge, PaymentRequired, WithReceipt};
use mpp::server::{
    Mpp, SessionChallengeOptions, SessionChannelStore, SessionMethodConfig, TempoChargeMethod,
    TempoConfig, TempoProvider, TempoSessionMethod, deduct_from_channel, tempo, tempo_provider,
};

use crate::server::{PRICE_ATOMS, SECRET, SELLER, UNIT_ATOMS};

/// Checks a signature over the challenge's id, and counts down a balance in memory.
#[derive(Clone, Default)]
struct Signed(Arc<Mutex<Spent>>);

#[derive(Default)]
struct Spent {
    challenges: HashSet<String>,
    atoms: u128,
}

impl ChargeMethod for Signed {
    fn method(&self) -> &'static str {
        "prepaid"
    }

    async fn verify(
        &self,
        credential: &PaymentCredential,
        request: &ChargeRequest,
    ) -> Result<Receipt, VerificationError> {
        let invalid = || VerificationError::new("the signature does not verify");
        let source = credential.source.as_deref().ok_or_else(invalid)?;
        let key = parse_did_key(source).map_err(|_| invalid())?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| invalid())?;
        let signature = credential.payload["signature"].as_str().ok_or_else(invalid)?;
        let signature = base64url::decode(signature).map_err(|_| invalid())?;
        let signature = Signature::from_slice(&signature).map_err(|_| invalid())?;
        let id = &credential.challenge.id;
        key.verify_strict(id.as_bytes(), &signature).map_err(|_| invalid())?;
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !spent.challenges.insert(id.clone()) {
            return Err(VerificationError::new("used before"));
        }
        spent.atoms += request.amount.parse::<u128>().map_err(|_| invalid())?;
        Ok(Receipt::success("prepaid", id.clone()))
    }
}

type Seller = Arc<Mpp<Signed>>;

pub(crate) fn router() -> Router {
    let seller: Seller = Arc::new(Mpp::new(Signed::default(), "localhost", SECRET));
    Router::new()
        .route("/free", get(async || "sunny\n"))
        .route("/paid", get(paid))
        .with_state(seller)
}

async fn paid(State(seller): State<Seller>, fields: HeaderMap) -> Response {
    let line = fields.get("authorization").and_then(|value| value.to_str().ok());
    let Some(credential) = line.and_then(|line| parse_authorization(line).ok()) else {
        return PaymentRequired(challenge()).into_response();
    };
    match seller.broadcast_credential_with_expected_request(&credential, &request()).await {
        Ok(receipt) => {
            let receipt = format_receipt(&receipt).unwrap_or_default();
            ([("payment-receipt", receipt), ("cache-control", "private".into())], "sunny\n")
                .into_response()
        }
        Err(_) => PaymentRequired(challenge()).into_response(),
    }
}

fn request() -> ChargeRequest {
    ChargeRequest {
        amount: PRICE_ATOMS.to_string(),
        currency: "usd".to_owned(),
        recipient: Some("forecasts-inc".to_owned()),
        ..ChargeRequest::default()
    }
}

/// A challenge with what ours carries but the `opaque`, which its verifier wants to be the same in all;
/// what is new each time is the expiry, in nanoseconds.
fn challenge() -> PaymentChallenge {
    let request = serde_json::to_value(request()).unwrap_or_default();
    let encode =
        |value| Base64UrlJson::from_value(&value).unwrap_or_else(|_| Base64UrlJson::from_raw(""));
    let expires = mpp::expires::minutes(5);
    PaymentChallenge::with_secret_key_full(
        SECRET,
        "localhost",
        "prepaid",
        "charge",
        encode(request),
        Some(&expires),
        None,
        Some("A forecast"),
        None,
        None,
    )
}

/// What a request costs on a chain.
struct Price;

impl ChargeConfig for Price {
    fn amount() -> &'static str {
        "0.25"
    }

    fn description() -> Option<&'static str> {
        Some("A forecast")
    }
}

/// Paid in pathUSD on the chain of `node`, with everything else as the crate has it.
pub(crate) fn chain_router(node: &str) -> Result<Router> {
    let seller = tempo(TempoConfig { recipient: DEVELOPMENT_ACCOUNTS[SELLER] })
        .rpc_url(node)
        .chain_id(TEMPO_CHAIN_ID)
        // It would offer a token first that a chain of one's own does not have.
        .currencies([PATH_USD])
        .realm("localhost")
        .secret_key(SECRET);
    let seller: Arc<dyn ChargeChallenger> = Arc::new(Mpp::create(seller)?);
    let paid =
        async |charge: MppCharge<Price>| WithReceipt { receipt: charge.receipt, body: "sunny\n" };
    Ok(Router::new()
        .route("/free", get(async || "sunny\n"))
        .route("/paid", get(paid))
        .with_state(seller))
}

/// Sessions as the crate has them, with the store it comes with, in memory.
struct Sessions {
    mpp: Mpp<TempoChargeMethod<TempoProvider>, TempoSessionMethod<TempoProvider>>,
    channels: Arc<SessionChannelStore>,
}

/// Paid in sessions on the chain of `node`, with deposits in `escrow`.
pub(crate) fn session_router(node: &str, escrow: &str) -> Result<Router> {
    let channels = Arc::new(SessionChannelStore::new());
    let config = SessionMethodConfig {
        escrow_contract: escrow.parse()?,
        chain_id: TEMPO_CHAIN_ID,
        min_voucher_delta: 0,
    };
    let provider = tempo_provider(node)?;
    let method = TempoSessionMethod::new(provider.clone(), channels.clone(), config);
    let mpp = Mpp::new(TempoChargeMethod::new(provider), "localhost", SECRET);
    let mpp = mpp.with_session_method(method);
    let seller = Arc::new(Sessions { mpp, channels });
    Ok(Router::new()
        .route("/free", get(async || "sunny\n"))
        .route("/paid", get(in_session))
        .with_state(seller))
}

/// Verifies a voucher, takes the price of a request of what it has authorised, and answers.
async fn in_session(State(seller): State<Arc<Sessions>>, fields: HeaderMap) -> Response {
    let line = fields.get("authorization").and_then(|value| value.to_str().ok());
    let Some(credential) = line.and_then(|line| parse_authorization(line).ok()) else {
        return seller.challenge();
    };
    let verified = match seller.mpp.verify_session(&credential).await {
        Ok(verified) => verified,
        Err(error) => return seller.refusal(&error),
    };
    let receipt = format_receipt(&verified.receipt).unwrap_or_default();
    let fields = [("payment-receipt", receipt), ("cache-control", "private".into())];
    if let Some(managed) = verified.management_response {
        return (fields, managed.to_string()).into_response();
    }
    let channel = &verified.receipt.reference;
    match deduct_from_channel(&*seller.channels, channel, UNIT_ATOMS).await {
        Ok(_) => (fields, "sunny\n").into_response(),
        Err(error) => seller.refusal(&error),
    }
}

impl Sessions {
    fn challenge(&self) -> Response {
        let options = SessionChallengeOptions { unit_type: Some("request"), ..Default::default() };
        let (price, recipient) = (UNIT_ATOMS.to_string(), DEVELOPMENT_ACCOUNTS[SELLER]);
        match self.mpp.session_challenge_with_details(&price, PATH_USD, recipient, options) {
            Ok(challenge) => PaymentRequired(challenge).into_response(),
            Err(error) => broken(&error),
        }
    }

    /// The challenge again, and why.
    fn refusal(&self, error: &VerificationError) -> Response {
        eprintln!("the peer refuses: {error}");
        self.challenge()
    }
}

fn broken(error: &dyn std::fmt::Display) -> Response {
    (axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
