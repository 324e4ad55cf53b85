//! The payer's side of sessions on an EVM chain, as the core knows it.
//!
//! ```text
//! prepared: a salt, and so the channel's id ─► remembered ─► there already? ─► sent, and shown by its hash
//!                                                           └─► found by its event, and shown
//! ```
//!
//! Where the seller wants it, the payer signs for the transfer instead, and the seller sends it.
//!
//! **Architecture invariant:** before a deposit is sent, the chain is asked whether it was made, and nothing
//! that this account has signed before may still be mined by then: so that a deposit that is asked for again
//! is the same deposit.

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue as _;
use farthing_core::{
    Act, BoxFuture, Invitation, Object, Paid, PayError, Payer, PreparedSession, Price, SESSION,
    SessionPayer, SessionTerms as Understood, Standing, Unpayable,
};
use farthing_money::Amount;
use serde::{Deserialize, Serialize};

use crate::evm::METHOD;
use crate::rpc::CallError;
use crate::session::books::moment;
use crate::session::buyer::Leave;
use crate::session::channel::{Descriptor, Escrow, NOBODY};
use crate::session::events::Happened;
use crate::session::evm::EvmAccount;
use crate::session::payload::Authorization;
use crate::session::relayed::{opening_nonce, top_up_nonce};
use crate::session::terms::{Means, SessionTerms};
use crate::session::wayout::{stepped, unpaid};
use crate::wire::{Address, Token, Tokens, did};
use crate::{LATE_S, is_late};

/// How long what is signed for a seller is good, in seconds: long enough to be tried again.
const VALID_S: u64 = 15 * 60;

/// How long before an opening its channel is searched for, in seconds: clocks differ.
const SINCE_S: u64 = 60;

/// After how long a transaction that waits is looked for again, in seconds.
const COMING_S: u64 = 60;

/// Pays in sessions with the account of a key, whose transactions follow one another.
#[derive(Debug)]
pub struct EvmPayer {
    account: EvmAccount,
    tokens: Tokens,
}

/// What the payer wants to be told when a session is gone on with. Nothing in it is a secret to the seller.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keepsake {
    /// What the channel is made of.
    descriptor: Object,
    /// What was asked for, which names the escrow: whoever leaves has no seller to ask.
    request: Object,
    /// What is deposited to open it, in atoms.
    deposit: String,
    /// When that was decided, by the chain's clock, in seconds since 1970.
    since_s: u64,
    /// What was signed for the seller to send; nothing where the payer sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<Object>,
}

/// A session that was kept, read again.
struct Kept {
    terms: SessionTerms,
    descriptor: Descriptor,
    channel: B256,
    deposit: u128,
    since_s: u64,
    signed: Option<(Authorization, Object)>,
}

/// A channel, as far as a payer acts on it, and the chain's time of that.
struct Looked {
    standing: Standing,
    at_s: u64,
}

impl EvmPayer {
    /// Pays with `account` in the `tokens` the wallet knows.
    #[must_use]
    pub const fn new(account: EvmAccount, tokens: Tokens) -> Self {
        Self { account, tokens }
    }

    /// The account that pays.
    #[must_use]
    pub const fn account(&self) -> &EvmAccount {
        &self.account
    }

    fn source(&self) -> String {
        did(self.account.nodes().chain_id(), self.account.address())
    }

    fn asked(&self, invitation: &Invitation) -> Result<SessionTerms, Unpayable> {
        if invitation.method != METHOD || invitation.intent != SESSION {
            return Err(Unpayable::Method);
        }
        let terms = SessionTerms::read(METHOD, &invitation.request, &self.tokens)?;
        let here = terms.escrow.chain_id == self.account.nodes().chain_id();
        // A seller that takes no way of ours is not to be paid.
        if here && !terms.means.is_empty() { Ok(terms) } else { Err(Unpayable::Method) }
    }

    fn kept(&self, session: &PreparedSession) -> Result<Kept, PayError> {
        let kept = serde_json::Value::Object(session.keepsake.clone());
        let kept: Keepsake = serde_json::from_value(kept).map_err(|_| PayError::Refused)?;
        let terms = SessionTerms::read(METHOD, &kept.request, &self.tokens);
        let terms = terms.map_err(|_| PayError::Refused)?;
        let descriptor = Descriptor::read(&kept.descriptor).ok_or(PayError::Refused)?;
        let channel = descriptor.id(&terms.escrow);
        let ours = descriptor.payer == self.account.address()
            && terms.escrow.chain_id == self.account.nodes().chain_id();
        if channel.to_string() != session.channel || !ours {
            return Err(PayError::Refused);
        }
        let deposit = farthing_money::parse_atoms(&kept.deposit).map_err(|_| PayError::Refused)?;
        let read = |signed: Object| {
            let read = Authorization::read(&signed).map_err(|_| PayError::Refused);
            read.map(|read| (read, signed))
        };
        let signed = kept.signed.map(read).transpose()?;
        Ok(Kept { terms, descriptor, channel, deposit, since_s: kept.since_s, signed })
    }

    async fn holds_of(&self, token: Address) -> Result<u128, PayError> {
        let balance = self.account.nodes().balance(token, self.account.address()).await;
        balance.map_err(|_| PayError::Unsent)
    }

    /// Signs for a transfer to the escrow, good for a while from now.
    async fn sign_away(
        &self,
        escrow: &Escrow,
        token: Address,
        value: u128,
        (nonce, salt): (B256, Option<B256>),
    ) -> Result<Authorization, PayError> {
        let nodes = self.account.nodes();
        let domain = nodes.token_domain(token).await.map_err(|error| match error {
            CallError::Refused(_) => PayError::Refused,
            CallError::Unsent | CallError::Lost => PayError::Unsent,
        })?;
        let now_s = nodes.latest().await?.time_s;
        let authorization = Authorization {
            from: self.account.address(),
            to: escrow.address,
            value,
            valid_after_s: 0,
            valid_before_s: now_s.saturating_add(VALID_S),
            nonce,
            salt,
            signature: Bytes::new(),
        };
        authorization.signed(self.account.key(), domain).ok_or(PayError::Refused)
    }

    /// How a deposit is made: as the seller likes best, of what works with the token.
    async fn signed_opening(
        &self,
        terms: &SessionTerms,
        descriptor: &Descriptor,
        deposit: u128,
    ) -> Result<Option<Object>, PayError> {
        for means in &terms.means {
            match means {
                Means::Hash => {
                    // Gas is paid in the chain's coin.
                    let coins = self.account.coins().await.map_err(|_| PayError::Unsent)?;
                    return if coins == 0 { Err(PayError::Refused) } else { Ok(None) };
                }
                Means::Authorization => {
                    let nonce = (opening_nonce(descriptor), None);
                    match self.sign_away(&terms.escrow, terms.token, deposit, nonce).await {
                        Ok(it) => return Ok(Some(written(&it))),
                        // The token knows of no such signatures.
                        Err(PayError::Refused) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(PayError::Refused)
    }

    /// Waits until nothing that this account has signed before can be mined any more.
    async fn quiet(&self) -> Result<(), PayError> {
        if self.account.owes().await {
            self.account.clear().await.map_err(unpaid)?;
        }
        Ok(())
    }

    /// The transaction of a deposit that was made before, if an event tells.
    async fn told(
        &self,
        kept: &Kept,
        is_it: impl Fn(&Happened) -> bool,
    ) -> Result<Option<B256>, PayError> {
        let since_s = kept.since_s.saturating_sub(SINCE_S);
        let nodes = self.account.nodes();
        let told = nodes.told_of(&kept.terms.escrow, kept.channel, since_s).await?;
        Ok(told.iter().find(|it| is_it(&it.event.what)).map(|it| it.transaction))
    }

    /// The hash of the opening, which is sent unless it was.
    async fn opened(&self, kept: &Kept) -> Result<B256, PayError> {
        self.quiet().await?;
        let escrow = &kept.terms.escrow;
        let seen = self.account.nodes().channels(escrow, &[kept.channel]).await?;
        if seen.what.iter().any(Option::is_some) {
            let opened = self.told(kept, |it| matches!(it, Happened::Opened { .. })).await?;
            return opened.ok_or(PayError::Unknown);
        }
        self.account.opened(escrow, &kept.descriptor, kept.deposit).await.map_err(unpaid)
    }

    /// The hash of a further deposit, which is sent unless it was.
    async fn topped_up(&self, kept: &Kept, before: u128, more: u128) -> Result<B256, PayError> {
        self.quiet().await?;
        let escrow = &kept.terms.escrow;
        let seen = self.account.nodes().channels(escrow, &[kept.channel]).await?;
        let state = seen.what.into_iter().next().flatten().ok_or(PayError::Refused)?;
        let after = before.saturating_add(more);
        if state.deposit >= after {
            let made = self.told(kept, |it| match it {
                Happened::ToppedUp { additional, deposit } => {
                    *additional == more && *deposit == after
                }
                Happened::Opened { .. }
                | Happened::Settled { .. }
                | Happened::CloseRequested { .. }
                | Happened::CloseCancelled
                | Happened::Closed { .. } => false,
            });
            return made.await?.ok_or(PayError::Refused);
        }
        if state.deposit != before || state.is_finalized {
            return Err(PayError::Refused);
        }
        self.account.topped_up(escrow, &kept.descriptor, more).await.map_err(unpaid)
    }

    async fn acted(
        &self,
        invitation: &Invitation,
        session: &PreparedSession,
        act: Act,
    ) -> Result<Paid, PayError> {
        let terms = self.asked(invitation)?;
        let kept = self.kept(session)?;
        let (escrow, descriptor) = (&kept.terms.escrow, &kept.descriptor);
        if terms.escrow != *escrow {
            return Err(PayError::Refused);
        }
        let of = |action, owed| self.account.payload(action, escrow, descriptor, owed);
        let payload = match act {
            Act::Open { cumulative } => {
                let mut payload = of("open", Some(cumulative));
                payload.insert("salt".into(), descriptor.salt.to_string().into());
                if let Some((_, signed)) = &kept.signed {
                    let voucher = payload.remove("signature").ok_or(PayError::Refused)?;
                    payload.insert("voucherSignature".into(), voucher);
                    payload.extend(signed.clone());
                } else {
                    shown(&mut payload, self.opened(&kept).await?);
                }
                payload
            }
            Act::TopUp { additional, before } => {
                let mut payload = of("topUp", None);
                payload.insert("additionalDeposit".into(), additional.to_string().into());
                if terms.means.first() == Some(&Means::Authorization) && kept.signed.is_some() {
                    let salt = top_up_salt(kept.channel, before, additional);
                    let from = self.account.address();
                    let nonce = top_up_nonce(kept.channel, additional, from, salt);
                    let nonce = (nonce, Some(salt));
                    let signed = self.sign_away(escrow, terms.token, additional, nonce).await?;
                    payload.extend(written(&signed));
                } else {
                    shown(&mut payload, self.topped_up(&kept, before, additional).await?);
                }
                payload
            }
            Act::Voucher { cumulative } => of("voucher", Some(cumulative)),
            Act::Close { cumulative } => of("close", Some(cumulative)),
        };
        Ok(Paid { payload, source: Some(self.source()), keepsake: None })
    }

    async fn looked(&self, kept: &Kept) -> Result<Looked, PayError> {
        // First whether anything may still come: what is mined between the two questions is then seen.
        let waits = kept.signed.is_none() && self.account.owes().await;
        let (nodes, escrow) = (self.account.nodes(), &kept.terms.escrow);
        let seen = nodes.channels(escrow, &[kept.channel]).await?;
        let at_s = seen.head.time_s;
        let standing = match seen.what.into_iter().next().flatten() {
            Some(state) => nodes.standing_of(escrow, &state).await?,
            None => match &kept.signed {
                Some((signed, _)) if !is_late(at_s, signed.valid_before_s) => {
                    let until = moment(signed.valid_before_s.saturating_add(LATE_S));
                    Standing::Coming { until }
                }
                None if waits => Standing::Coming { until: moment(at_s.saturating_add(COMING_S)) },
                Some(_) | None => Standing::Never,
            },
        };
        Ok(Looked { standing, at_s })
    }

    async fn next_step_out(&self, kept: &Kept) -> Result<Standing, PayError> {
        let Looked { standing, at_s } = self.looked(kept).await?;
        // What was sent and waits is overtaken, so that it never comes.
        if matches!(standing, Standing::Coming { .. }) && kept.signed.is_none() {
            self.quiet().await?;
            return Ok(self.looked(kept).await?.standing);
        }
        let Some(step) = Leave::next(standing, at_s) else { return Ok(standing) };
        let left = self.account.leave_channel(&kept.terms.escrow, &kept.descriptor, step).await;
        stepped(left, standing, async { Ok(self.looked(kept).await?.standing) }).await
    }
}

/// The salt of a top-up: the same for the same top-up, so that its nonce is, and it is taken once.
fn top_up_salt(channel: B256, before: u128, additional: u128) -> B256 {
    keccak256((channel, U256::from(before), U256::from(additional)).abi_encode())
}

/// What a payload says of a transfer that was signed for.
fn written(signed: &Authorization) -> Object {
    let mut payload = Object::new();
    payload.insert("type".into(), "authorization".into());
    payload.insert("authorization".into(), signed.write().into());
    payload.insert("signature".into(), signed.signature.to_string().into());
    if let Some(salt) = signed.salt {
        payload.insert("salt".into(), salt.to_string().into());
    }
    payload
}

/// What a payload says of a transaction that was sent.
fn shown(payload: &mut Object, hash: B256) {
    payload.insert("type".into(), "hash".into());
    payload.insert("hash".into(), hash.to_string().into());
}

impl Payer for EvmPayer {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn account(&self) -> String {
        self.source()
    }

    fn price(&self, _invitation: &Invitation) -> Result<Price, Unpayable> {
        Err(Unpayable::Method)
    }

    fn session(&self) -> Option<&dyn SessionPayer> {
        Some(self)
    }

    fn holds<'a>(&'a self, price: &'a Price) -> BoxFuture<'a, Result<bool, PayError>> {
        Box::pin(async {
            let token: Option<&Token> = self.tokens.named(price.amount.asset());
            let token = token.ok_or(Unpayable::Asset)?.address;
            Ok(self.holds_of(token).await? >= price.amount.atoms())
        })
    }

    fn pay<'a>(&'a self, _invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async { Err(Unpayable::Method.into()) })
    }
}

impl SessionPayer for EvmPayer {
    fn session_terms(&self, invitation: &Invitation) -> Result<Understood, Unpayable> {
        let terms = self.asked(invitation)?;
        let binding = format!("{:?} {} {}", terms.escrow, terms.recipient, terms.token);
        Ok(terms.understood(binding))
    }

    fn repeats_deposits(&self) -> bool {
        true
    }

    fn prepare<'a>(
        &'a self,
        invitation: &'a Invitation,
        deposit: &'a Amount,
        entropy: [u8; 32],
    ) -> BoxFuture<'a, Result<PreparedSession, PayError>> {
        Box::pin(async move {
            let terms = self.asked(invitation)?;
            if deposit.asset() != terms.amount.asset() {
                return Err(Unpayable::Asset.into());
            }
            if deposit.is_zero() || self.holds_of(terms.token).await? < deposit.atoms() {
                return Err(PayError::Refused);
            }
            let descriptor = terms.descriptor(self.account.address(), B256::from(entropy), NOBODY);
            let signed = self.signed_opening(&terms, &descriptor, deposit.atoms()).await?;
            let keepsake = Keepsake {
                descriptor: descriptor.write(),
                request: invitation.request.clone(),
                deposit: deposit.atoms().to_string(),
                since_s: self.account.nodes().latest().await?.time_s,
                signed,
            };
            // In-memory JSON with string keys always serialises, and to an object.
            let keepsake = serde_json::to_value(keepsake).unwrap_or_default();
            let keepsake = keepsake.as_object().cloned().unwrap_or_default();
            let channel = descriptor.id(&terms.escrow).to_string();
            Ok(PreparedSession { channel, keepsake })
        })
    }

    fn act<'a>(
        &'a self,
        invitation: &'a Invitation,
        session: &'a PreparedSession,
        act: Act,
    ) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(self.acted(invitation, session, act))
    }

    fn standing<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Option<Standing>, PayError>> {
        Box::pin(async move {
            let kept = self.kept(session)?;
            Ok(Some(self.looked(&kept).await?.standing))
        })
    }

    fn leave<'a>(
        &'a self,
        session: &'a PreparedSession,
    ) -> BoxFuture<'a, Result<Standing, PayError>> {
        Box::pin(async move {
            let kept = self.kept(session)?;
            self.next_step_out(&kept).await
        })
    }
}
