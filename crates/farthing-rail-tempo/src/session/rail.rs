//! Sessions as the core knows them, on Tempo: actions are checked here, and deposits, settlements and
//! closes are carried out.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use farthing_core::{
    Action, BoxFuture, ChannelFate, Object, Opening, Presented, Rejection, SESSION, SessionPrice,
    SessionRail, SessionRules, SettleError, Settled, SettledInAll, TopUp, Unquotable,
};
use farthing_ledger::{Channel, ChannelSeen, Fingerprint, Holder, VoucherClaim};
use farthing_money::Timestamp;
use tokio::sync::OnceCell;

use crate::rpc::{NoAnswer, Nodes};
use crate::session::books::{Inquiry, clearing, deposit, highest, moment, named, spelled};
use crate::session::channel::{Descriptor, Escrow, Family, NOBODY};
use crate::session::events::{ChannelEvent, Happened};
use crate::session::follow::Follower;
use crate::session::funding::Funded;
use crate::session::payload::{self, Funding, Open};
use crate::session::seller::Channels;
use crate::session::state::ChannelState;
use crate::session::teller::{Errand, Outcome, Take, Taken, Teller};
use crate::session::terms::SessionTerms;
use crate::session::voucher::{Voucher, signer_of};
use crate::wire::{Address, Token, Tokens, did, parse_did, parse_word};
use crate::{METHOD, Settings, VALID_S_MIN};

/// How long ago a channel may have been heard of. A payer who asks for the rest has to wait for a quarter
/// of an hour, so that there is time to settle what was taken before that was known.
const HEARD_WITHIN: Duration = Duration::from_mins(1);

/// How far back the closing of a channel is searched for, in seconds.
const SEARCHED_S: u64 = 30 * 24 * 60 * 60;

/// What counts as what where the escrow is a contract, which pays whatever a voucher says.
const CONTRACT: SessionRules = SessionRules {
    authorised: "a voucher that the channel's signer has signed, within the deposit in the escrow",
    settled: "a mined transaction of the payee's, whose event tells what the escrow has paid",
    captures_spent: false,
    heard_within: Some(HEARD_WITHIN),
};

/// The same where the escrow is a part of the chain, which pays what the payee asks for of it.
const RESERVE: SessionRules = SessionRules { captures_spent: true, ..CONTRACT };

/// What a seller has decided about sessions.
#[derive(Debug)]
pub struct SessionSettings {
    /// Who holds the deposits.
    pub escrow: Escrow,
    /// Who acts for the recipient on the chain; the recipient itself, or its operator in version 2.
    pub teller: Teller,
}

/// The sessions of a seller on Tempo.
#[derive(Debug)]
pub(crate) struct Sessions {
    channels: Channels,
    teller: Teller,
    follower: Follower,
    recipient: Address,
    operator: Address,
    tokens: Tokens,
    sponsored: bool,
    /// How long the payee has after a request to close.
    grace: OnceCell<Duration>,
}

/// A channel of the book's, in this rail's words.
struct Known {
    terms: SessionTerms,
    descriptor: Descriptor,
    id: B256,
}

impl Sessions {
    /// The sessions of a seller who has also decided about charges.
    pub(crate) fn new(nodes: &Arc<Nodes>, seller: &Settings, settings: SessionSettings) -> Self {
        let SessionSettings { escrow, teller } = settings;
        let (recipient, sponsor) = (seller.recipient, seller.sponsor.clone());
        let sponsored = sponsor.is_some();
        let by_itself = teller.account() == recipient || escrow.family != Family::TempoV2;
        let operator = if by_itself { NOBODY } else { teller.account() };
        let (confirmations, wait) = (seller.confirmations, seller.wait);
        Self {
            channels: Channels::new(Arc::clone(nodes), escrow, sponsor, confirmations, wait),
            follower: Follower::new(Arc::clone(nodes), escrow, recipient),
            teller,
            recipient,
            operator,
            tokens: seller.tokens.clone(),
            sponsored,
            grace: OnceCell::new(),
        }
    }

    const fn escrow(&self) -> &Escrow {
        self.channels.escrow()
    }

    /// The session that a request of ours asked for.
    fn terms(&self, request: &Object) -> Option<SessionTerms> {
        let terms = SessionTerms::read(METHOD, request, &self.tokens).ok()?;
        let ours = terms.escrow == *self.escrow()
            && terms.recipient == self.recipient
            && terms.operator == self.operator
            && terms.sponsored == self.sponsored;
        ours.then_some(terms)
    }

    /// Stands for everything that vouchers of a session are bound to.
    fn binding(&self, terms: &SessionTerms) -> Fingerprint {
        let escrow = self.escrow();
        let (chain, family) = (escrow.chain_id.to_be_bytes(), escrow.family.domain());
        let parts: [&[u8]; 6] = [
            &chain,
            family.as_bytes(),
            escrow.address.0.as_slice(),
            terms.recipient.0.as_slice(),
            terms.token.0.as_slice(),
            terms.operator.0.as_slice(),
        ];
        Fingerprint::of("tempo session", &parts)
    }

    /// A voucher whose signature holds, in the book's words.
    fn claim(
        &self,
        voucher: &Voucher,
        signer: Address,
        terms: &SessionTerms,
        now: Timestamp,
    ) -> Result<VoucherClaim, Rejection> {
        let signature = Bytes::copy_from_slice(&voucher.signature).to_string();
        Ok(VoucherClaim {
            voucher: farthing_ledger::Voucher {
                channel: named(voucher.channel)?,
                cumulative: voucher.cumulative,
                signature: signature.into(),
            },
            signer: spelled(signer),
            binding: self.binding(terms),
            delta_min: terms.delta_min,
            heard_since: Some(now.before(HEARD_WITHIN)),
        })
    }

    fn check(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection> {
        if presented.intent != SESSION {
            return Err(Rejection::Unsupported);
        }
        let terms = self.terms(&presented.request).ok_or(Rejection::Foreign)?;
        let source = presented.source.as_deref().map(|source| {
            let (chain_id, account) = parse_did(source).ok_or(Rejection::Malformed)?;
            if chain_id == terms.escrow.chain_id { Ok(account) } else { Err(Rejection::Invalid) }
        });
        let source = source.transpose()?;
        let is_payer = |payer| source.is_none_or(|source| source == payer);
        let action = payload::Action::read(terms.escrow.family, &presented.payload)?;
        let expires_at_s = presented.expires_at.as_secs();
        match &action {
            payload::Action::Open(open) => {
                let funded = Funded::opening(open, &terms, expires_at_s)?;
                self.in_time(&funded, now)?;
                let descriptor = funded.descriptor.ok_or(Rejection::Invalid)?;
                let signer = descriptor.signer();
                open.voucher.verify(&terms.escrow, signer)?;
                if !is_payer(funded.payer()) {
                    return Err(Rejection::Invalid);
                }
                self.opening(presented, &terms, &funded, &descriptor, open, signer, now)
            }
            payload::Action::TopUp(top_up) => {
                let funded = Funded::top_up(top_up, &terms, expires_at_s)?;
                self.in_time(&funded, now)?;
                if !is_payer(funded.payer()) {
                    return Err(Rejection::Invalid);
                }
                Ok(Action::TopUp(Box::new(TopUp {
                    channel: named(top_up.channel)?,
                    payer: did(terms.escrow.chain_id, funded.payer()),
                    binding: self.binding(&terms),
                    deposit: deposit(&terms, &funded, &top_up.funding)?,
                })))
            }
            payload::Action::Voucher(shown) => {
                let signer = self.shown(shown, &terms)?;
                let claim = self.claim(&shown.voucher, signer, &terms, now)?;
                Ok(Action::Voucher(Box::new(claim)))
            }
            payload::Action::Close(shown, agreed) => {
                let signer = self.shown(shown, &terms)?;
                if let Some(agreed) = agreed {
                    self.agreed(shown, agreed, signer)?;
                }
                let claim = self.claim(&shown.voucher, signer, &terms, now)?;
                Ok(Action::Close(Box::new(claim)))
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one opening, each checked before")]
    fn opening(
        &self,
        presented: &Presented,
        terms: &SessionTerms,
        funded: &Funded,
        descriptor: &Descriptor,
        open: &Open,
        signer: Address,
        now: Timestamp,
    ) -> Result<Action, Rejection> {
        let inquiry =
            Inquiry { request: presented.request.clone(), descriptor: descriptor.write() };
        // In-memory JSON with string keys always serialises.
        let inquiry = serde_json::to_string(&inquiry).unwrap_or_default();
        Ok(Action::Open(Box::new(Opening {
            payer: did(terms.escrow.chain_id, funded.payer()),
            deposit: deposit(terms, funded, &open.funding)?,
            cash: Some(clearing(METHOD, terms.amount.asset())?),
            inquiry: Some(inquiry.into()),
            voucher: self.claim(&open.voucher, signer, terms, now)?,
        })))
    }

    /// Whether a transaction can still be mined, and is sponsored where it asks for it.
    fn in_time(&self, funded: &Funded, now: Timestamp) -> Result<(), Rejection> {
        if funded.valid_before_s() < now.as_secs().saturating_add(VALID_S_MIN) {
            return Err(Rejection::Expired);
        }
        Ok(self.channels.permits(funded, now.as_secs())?)
    }

    /// Who has signed a voucher that was shown, for the channel that it says.
    fn shown(&self, shown: &payload::Shown, terms: &SessionTerms) -> Result<Address, Rejection> {
        let escrow = self.escrow();
        if let Some(descriptor) = &shown.descriptor {
            let fits = descriptor.id(escrow) == shown.voucher.channel
                && descriptor.payee == terms.recipient
                && descriptor.token == terms.token
                && descriptor.operator == terms.operator;
            if !fits {
                return Err(Rejection::Invalid);
            }
        }
        let signer = shown.voucher.signer(escrow)?;
        match &shown.descriptor {
            Some(descriptor) if descriptor.signer() != signer => Err(Rejection::Signature),
            Some(_) | None => Ok(signer),
        }
    }

    /// A payer's word that a channel may be closed is the payer's or its signer's.
    fn agreed(
        &self,
        shown: &payload::Shown,
        agreed: &[u8],
        signer: Address,
    ) -> Result<(), Rejection> {
        let (escrow, voucher) = (self.escrow(), &shown.voucher);
        let digest = escrow.close_digest(voucher.channel, voucher.cumulative);
        let found = signer_of(escrow.family, agreed, digest)?;
        let is_payer = shown.descriptor.is_some_and(|it| it.payer == found);
        if found == signer || is_payer { Ok(()) } else { Err(Rejection::Signature) }
    }

    /// A channel of the book's. What stands there was checked before it was written.
    fn known(&self, channel: &Channel) -> Result<Known, SettleError> {
        let inquiry = channel.facts.inquiry.as_deref().unwrap_or_default();
        let inquiry: Inquiry = serde_json::from_str(inquiry).map_err(|_| SettleError::Unknown)?;
        let terms = self.terms(&inquiry.request).ok_or(SettleError::Unknown)?;
        let descriptor = Descriptor::read(&inquiry.descriptor).ok_or(SettleError::Unknown)?;
        let id = descriptor.id(self.escrow());
        let same = parse_word(channel.facts.id.on_rail()) == Some(id);
        if same { Ok(Known { terms, descriptor, id }) } else { Err(SettleError::Unknown) }
    }

    /// The transaction of a deposit that is on its way.
    fn on_its_way(&self, channel: &Channel, opens: bool) -> Result<Funded, SettleError> {
        let Known { terms, descriptor, id } = self.known(channel)?;
        let pending = channel.pending.as_ref().ok_or(SettleError::Unknown)?;
        let funding = Funding::Transaction(pending.order.clone().ok_or(SettleError::Unknown)?);
        // Whether it comes in time, its challenge has said.
        let funded = if opens {
            let voucher = Voucher { channel: id, cumulative: 0, signature: Box::default() };
            let descriptor = Some(descriptor);
            let open = Open { funding, descriptor, authorized_signer: None, salt: None, voucher };
            Funded::opening(&open, &terms, u64::MAX)
        } else {
            let descriptor = (terms.escrow.family == Family::TempoV2).then_some(descriptor);
            let additional = pending.atoms;
            let top_up = payload::TopUp { channel: id, descriptor, funding, additional };
            Funded::top_up(&top_up, &terms, u64::MAX)
        };
        funded.map_err(|_| SettleError::Unknown)
    }

    async fn carry(&self, channel: &Channel, opens: bool) -> Result<Settled, SettleError> {
        let funded = self.on_its_way(channel, opens)?;
        let credited = self.channels.fund(&funded).await?;
        let reference = credited.transaction.to_string();
        Ok(Settled { reference, cost: credited.cost })
    }

    async fn state(&self, id: B256) -> Result<Option<ChannelState>, SettleError> {
        let seen = self.channels.states(&[id]).await.map_err(|NoAnswer| SettleError::Unsent)?;
        Ok(seen.what.into_iter().next().flatten())
    }

    /// Does one errand.
    async fn run(&self, errand: Errand) -> Outcome {
        let mut outcomes = self.teller.run(self.escrow(), &[errand]).await;
        outcomes.pop().unwrap_or(Outcome::Unsent)
    }

    async fn settle(&self, channel: &Channel) -> Result<SettledInAll, SettleError> {
        let known = self.known(channel)?;
        let voucher = highest(channel, known.id).ok_or(SettleError::Declined)?;
        let Some(state) = self.state(known.id).await? else { return Err(SettleError::Unknown) };
        if state.is_finalized || voucher.cumulative <= state.settled {
            return self.told(&known).await;
        }
        let take = Take::Settle(voucher);
        let outcome = self.run(Errand { descriptor: known.descriptor, take }).await;
        self.concluded(&known, outcome).await
    }

    async fn shut(&self, channel: &Channel) -> Result<SettledInAll, SettleError> {
        let known = self.known(channel)?;
        let state = self.state(known.id).await?;
        let Some(state) = state.filter(|it| !it.is_finalized) else {
            return self.told(&known).await;
        };
        let voucher = highest(channel, known.id).filter(|it| it.cumulative > state.settled);
        let capture = channel.spent.max(state.settled);
        let take = match voucher {
            Some(voucher) if capture > state.settled => Take::Close { voucher, capture },
            // Nothing was spent beyond what was settled: nothing more is taken.
            Some(_) | None => Take::Release { settled: state.settled },
        };
        let outcome = self.run(Errand { descriptor: known.descriptor, take }).await;
        self.concluded(&known, outcome).await
    }

    async fn concluded(
        &self,
        known: &Known,
        outcome: Outcome,
    ) -> Result<SettledInAll, SettleError> {
        match outcome {
            Outcome::Done(taken) => in_all(&taken, known.id).ok_or(SettleError::Unknown),
            // Whatever the escrow says no to may have been done before.
            Outcome::Refused(why) => {
                tracing::info!(channel = %known.id, %why, "the escrow would not");
                self.told(known).await
            }
            Outcome::Unsent => Err(SettleError::Unsent),
            Outcome::Unknown => Err(SettleError::Unknown),
        }
    }

    /// What the escrow's last event about a channel says was settled in all.
    async fn told(&self, known: &Known) -> Result<SettledInAll, SettleError> {
        let nodes = self.channels.nodes();
        let head = nodes.latest().await.map_err(|_| SettleError::Unsent)?;
        let since_s = head.time_s.saturating_sub(SEARCHED_S);
        let told = nodes.told_of(self.escrow(), known.id, since_s).await;
        let mut told = told.map_err(|_| SettleError::Unsent)?;
        told.sort_by_key(|it| it.block);
        let last = told.iter().rev().find_map(|it| Some((settled(&it.event)?, it.transaction)));
        let (atoms, transaction) = last.ok_or(SettleError::Declined)?;
        Ok(SettledInAll { atoms, settled: Settled::new(transaction.to_string()) })
    }

    async fn grace(&self) -> Result<Duration, SettleError> {
        let asked = || async { self.channels.grace_s().await.map(Duration::from_secs) };
        let grace = self.grace.get_or_try_init(asked).await;
        grace.copied().map_err(|NoAnswer| SettleError::Unsent)
    }

    async fn fate(&self, channel: &Channel) -> Result<ChannelFate, SettleError> {
        let known = self.known(channel)?;
        let seen = self.follower.state(known.id).await;
        let seen = seen.map_err(|NoAnswer| SettleError::Unsent)?;
        match seen.what {
            Some(state) if !state.is_finalized => {
                let close_requested = match state.close_requested_at_s {
                    None => None,
                    Some(at_s) => Some(moment(at_s).after(self.grace().await?)),
                };
                let at = moment(seen.head.time_s);
                let settled = state.settled;
                Ok(ChannelFate::There(ChannelSeen { at, settled, close_requested }))
            }
            Some(_) => Ok(ChannelFate::Closed(self.told(&known).await?)),
            // The reserve forgets what is over: its events tell.
            None => match self.told(&known).await {
                Ok(settled) if self.is_closed(&known).await? => Ok(ChannelFate::Closed(settled)),
                Ok(_) | Err(SettleError::Declined) => Ok(ChannelFate::Nowhere),
                Err(error) => Err(error),
            },
        }
    }

    async fn is_closed(&self, known: &Known) -> Result<bool, SettleError> {
        let nodes = self.channels.nodes();
        let head = nodes.latest().await.map_err(|_| SettleError::Unsent)?;
        let since_s = head.time_s.saturating_sub(SEARCHED_S);
        let told = nodes.told_of(self.escrow(), known.id, since_s).await;
        let told = told.map_err(|_| SettleError::Unsent)?;
        Ok(told.iter().any(|it| matches!(it.event.what, Happened::Closed { .. })))
    }
}

/// What was settled of a channel in all, by what a transaction has told.
fn in_all(taken: &Taken, channel: B256) -> Option<SettledInAll> {
    let mut told = taken.events.iter().filter(|it| it.channel == channel).filter_map(settled);
    let settled = Settled { reference: taken.transaction.to_string(), cost: taken.cost.clone() };
    Some(SettledInAll { atoms: told.next_back()?, settled })
}

/// What an event says was settled in all, if it is about that.
const fn settled(event: &ChannelEvent) -> Option<u128> {
    match event.what {
        Happened::Settled { settled, .. } => Some(settled),
        Happened::Closed { to_payee, .. } => Some(to_payee),
        Happened::Opened { .. }
        | Happened::ToppedUp { .. }
        | Happened::CloseRequested { .. }
        | Happened::CloseCancelled => None,
    }
}

impl SessionRail for Sessions {
    fn session_rules(&self) -> &'static SessionRules {
        match self.escrow().family {
            Family::TempoV1 | Family::Evm => &CONTRACT,
            Family::TempoV2 => &RESERVE,
        }
    }

    fn quote_session(&self, price: &SessionPrice, _payee: &Holder) -> Result<Object, Unquotable> {
        let token: Option<&Token> = self.tokens.named(price.unit.asset());
        let token = token.ok_or(Unquotable::Asset)?;
        let terms = SessionTerms {
            amount: price.unit.clone(),
            unit: price.unit_type.as_deref().map(str::to_owned),
            suggested_deposit: price.suggested_deposit.as_ref().map(farthing_money::Amount::atoms),
            token: token.address,
            recipient: self.recipient,
            escrow: *self.escrow(),
            channel: None,
            delta_min: price.delta_min_atoms,
            operator: self.operator,
            sponsored: self.sponsored,
        };
        Ok(terms.write())
    }

    fn check_action(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection> {
        self.check(presented, now)
    }

    fn open<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.carry(channel, true))
    }

    fn top_up<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.carry(channel, false))
    }

    fn settle_voucher<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(self.settle(channel))
    }

    fn close<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(self.shut(channel))
    }

    fn inquire_channel<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<ChannelFate, SettleError>> {
        Box::pin(self.fate(channel))
    }
}
