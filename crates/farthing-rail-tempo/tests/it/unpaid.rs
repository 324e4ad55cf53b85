//! Who asks, and not who pays: proofs of wallets, and keys that act for them.

use alloy_sol_types::{SolCall as _, sol};
use farthing_core::{Fate, Paid, Payer as _, Presented, Refusal, Rejection};
use farthing_ledger::Money;
use farthing_rail_tempo::{Address, TempoPayer, TempoRail};
use farthing_testkit::chain::DEVELOPMENT_ACCOUNTS;
use farthing_testkit::rail::{Counter, present};
use farthing_testkit::store::START;
use serde_json::json;

use crate::world::{World, nodes, settings, tokens};

/// Where the chain keeps accounts' keys.
const KEYCHAIN: &str = "0xaAAAaaAA00000000000000000000000000000000";

sol! {
    struct TokenLimit { address token; uint256 amount; uint64 period; }
    struct SelectorRule { bytes4 selector; address[] recipients; }
    struct CallScope { address target; SelectorRule[] selectorRules; }
    struct KeyRestrictions {
        uint64 expiry;
        bool enforceLimits;
        TokenLimit[] limits;
        bool allowAnyCalls;
        CallScope[] allowedCalls;
    }
    function authorizeKey(address keyId, uint8 signatureType, KeyRestrictions config);
    function revokeKey(address keyId);
}

/// TCH.S05, TCH.C03, B-08: a wallet without money, and without a node, says who it is; once for each
/// challenge, for its realm, and for nobody else.
#[tokio::test]
async fn a_wallet_without_money_proves_who_it_is() {
    let nowhere = || nodes(&["http://127.0.0.1:1"]);
    let rail: std::sync::Arc<dyn farthing_core::Rail> =
        std::sync::Arc::new(TempoRail::new(nowhere(), settings()));
    let poor = TempoPayer::new(&[0x55; 32], nowhere(), tokens()).unwrap();
    let request = rail
        .quote(&tokens().named(&"usd".parse().unwrap()).unwrap().asset.atoms(0), &settings().payee)
        .unwrap();
    let invitation = |challenge: &str| farthing_core::Invitation {
        protocol: "fake",
        method: "tempo".into(),
        intent: "charge".into(),
        realm: "api.example.com".into(),
        challenge: challenge.into(),
        request: request.clone(),
        expires_at: Some(START.after(std::time::Duration::from_mins(5))),
        expires: Some(START.to_string()),
        description: None,
        body: None,
        echo: String::new(),
    };
    let proved = present(&invitation("a"), poor.pay(&invitation("a")).await.ok().unwrap());
    assert_eq!(proved.payload["type"], "proof");
    let evidence = rail.check(&proved, START).unwrap();
    assert_eq!((evidence.payer, evidence.money), (poor.account(), Money::None));
    let counter = Counter::new(&rail, &[]).await;
    assert_eq!(counter.take(&proved).await, Ok(()));
    assert_eq!(counter.take(&proved).await, Err(Refusal::Answered));
    assert_eq!(counter.audit().delivered, 1);
    assert_eq!(counter.settlements(), ["a"], "the receipt cites the challenge");
    // Another challenge, another realm, another wallet, another chain.
    let stranger = TempoPayer::new(&[0x56; 32], nowhere(), tokens()).unwrap();
    for altered in [
        Presented { challenge: "b".into(), ..proved.clone() },
        Presented { realm: "api.example.org".into(), ..proved.clone() },
        Presented { source: Some(stranger.account()), ..proved.clone() },
    ] {
        let refused = counter.take(&altered).await;
        assert!(
            matches!(refused, Err(Refusal::TryAgain | Refusal::Replayed | Refusal::Answered)),
            "{refused:?}"
        );
    }
    for source in [None, Some("did:key:z6Mk".into())] {
        let refused = counter.take(&Presented { source, ..proved.clone() }).await;
        assert_eq!(refused, Err(Refusal::Payer(Rejection::Malformed)));
    }
    let elsewhere = poor.account().replace("42431", "4217");
    let refused = counter.take(&Presented { source: Some(elsewhere), ..proved.clone() }).await;
    assert_eq!(refused, Err(Refusal::Payer(Rejection::Invalid)));
    assert_eq!(counter.audit().delivered, 1);
}

/// TCH.C03: what costs something is not proved, and what costs nothing is not paid.
#[tokio::test]
async fn a_proof_pays_for_nothing() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let (free, priced) = (railway.invite_for("a", 0), railway.invite("b"));
    let (proof, payment) = (railway.pay(&free).await, railway.pay(&priced).await);
    let swapped = Presented { payload: proof.payload.clone(), ..payment.clone() };
    assert_eq!(railway.rail.check(&swapped, START).err(), Some(Rejection::Invalid));
    let swapped = Presented { payload: payment.payload.clone(), ..proof.clone() };
    assert_eq!(railway.rail.check(&swapped, START).err(), Some(Rejection::Invalid));
    assert!(railway.rail.check(&proof, START).is_ok(), "the control");
    assert!(railway.rail.check(&payment, START).is_ok(), "the control");
}

pub(crate) async fn authorise(world: &World, key: Address) {
    let config = KeyRestrictions {
        expiry: u64::MAX,
        enforceLimits: false,
        limits: Vec::new(),
        allowAnyCalls: true,
        allowedCalls: Vec::new(),
    };
    let key_id = key.to_string().parse().unwrap();
    let call = authorizeKeyCall { keyId: key_id, signatureType: 0, config }.abi_encode();
    world.call(2, KEYCHAIN, &call).await;
}

/// An access key pays for the account that has authorised it, and proves to be it; until it is revoked.
#[tokio::test]
async fn an_access_key_acts_for_its_account() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let account: Address = DEVELOPMENT_ACCOUNTS[2].parse().unwrap();
    let agent = TempoPayer::new(&[0x66; 32], world.nodes(), tokens()).unwrap();
    let key = agent.address();
    let agent = agent.acting_for(account);
    assert_eq!(agent.account(), world.payer(2).account());
    let counter = Counter::new(&railway.rail, &[]).await;
    // Nobody has authorised it yet.
    let proved = present(
        &railway.invite_for("a", 0),
        agent.pay(&railway.invite_for("a", 0)).await.ok().unwrap(),
    );
    assert_eq!(counter.take(&proved).await, Err(Refusal::Declined));
    authorise(&world, key).await;
    let before = world.balance(1).await;
    let paid = present(&railway.invite("b"), agent.pay(&railway.invite("b")).await.ok().unwrap());
    assert_eq!(counter.take(&paid).await, Ok(()));
    assert_eq!((counter.earned(), world.balance(1).await), (2_500, before + 2_500));
    let proved = present(
        &railway.invite_for("c", 0),
        agent.pay(&railway.invite_for("c", 0)).await.ok().unwrap(),
    );
    assert_eq!(counter.take(&proved).await, Ok(()));
    let payers: Vec<String> = counter.payments().into_iter().map(|it| it.payer).collect();
    assert!(payers.iter().all(|payer| *payer == agent.account()), "{payers:?}");
    let revoke = revokeKeyCall { keyId: key.to_string().parse().unwrap() }.abi_encode();
    world.call(2, KEYCHAIN, &revoke).await;
    let proved = present(
        &railway.invite_for("d", 0),
        agent.pay(&railway.invite_for("d", 0)).await.ok().unwrap(),
    );
    assert_eq!(counter.take(&proved).await, Err(Refusal::Declined));
}

/// TCH.C01: where the seller wants it, the buyer sends the payment, once, however often it is told to;
/// and knows later what became of it.
#[tokio::test]
async fn a_buyer_pushes_and_remembers() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let mut invitation = railway.invite("a");
    let modes = json!({ "chainId": 42431, "supportedModes": ["push"] });
    invitation.request.insert("methodDetails".into(), modes);
    let (payer, before) = (world.payer(2), world.balance(1).await);
    let Paid { payload, source, keepsake } = payer.pay(&invitation).await.ok().unwrap();
    let kept = keepsake.clone().unwrap();
    assert_eq!(payload["type"], "hash");
    assert_eq!(payer.fate(&kept).await, Ok(Fate::Open));
    assert_eq!(world.balance(1).await, before, "nothing moves before it is remembered");
    assert_eq!(payer.send(&kept).await, Ok(()));
    assert_eq!(payer.send(&kept).await, Ok(()));
    assert_eq!(world.balance(1).await, before + 2_500);
    let hash = payload["hash"].as_str().unwrap().to_owned();
    assert_eq!(payer.fate(&kept).await, Ok(Fate::Moved { reference: hash }));
    let counter = Counter::new(&railway.rail, &[]).await;
    let presented = present(&invitation, Paid { payload, source, keepsake });
    assert_eq!(counter.take(&presented).await, Ok(()));
    assert_eq!(counter.earned(), 2_500);
}

/// What the seller never handed over never moves once it has expired; and a wallet can tell.
#[tokio::test]
async fn a_buyer_finds_out_what_became_of_a_payment() {
    let Some(world) = World::start().await else { return };
    let railway = world.railway();
    let payer = world.payer(2);
    let made = payer.pay(&railway.invite("a")).await.ok().unwrap();
    let kept = made.keepsake.clone().unwrap();
    assert_eq!(payer.fate(&kept).await, Ok(Fate::Open));
    world.wait(60).await;
    assert_eq!(payer.fate(&kept).await, Ok(Fate::Never));
    let made = payer.pay(&railway.invite("b")).await.ok().unwrap();
    let kept = made.keepsake.clone().unwrap();
    let counter = Counter::new(&railway.rail, &[]).await;
    assert_eq!(counter.take(&present(&railway.invite("b"), made)).await, Ok(()));
    assert!(matches!(payer.fate(&kept).await, Ok(Fate::Moved { .. })));
    // Nothing about it can be read as something else.
    assert!(payer.fate(&json!({}).as_object().unwrap().clone()).await.is_err());
}
