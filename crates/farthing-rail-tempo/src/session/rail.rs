//! Sessions as the core knows them, on Tempo and on EVM chains: actions are checked here, and deposits,
//! settlements and closes are carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use farthing_core::{
    Action, BoxFuture, ChannelFate, Object, Opening, Presented, Rejection, SESSION, SessionPrice,
    SessionRail, SessionRules, SettleError, Settled, SettledInAll, TopUp, Unfounded, Unquotable,
};
use farthing_ledger::{
    Channel, ChannelDeposit, ChannelSeen, ChannelsHeard, Fingerprint, Holder, Source, VoucherClaim,
};
use farthing_money::{Amount, Timestamp};
use tokio::sync::OnceCell;

use crate::rpc::{NoAnswer, Nodes};
use crate::session::books::{Inquiry, clearing, deposit, method, moment, named, spelled, spoken};
use crate::session::channel::{Descriptor, Escrow, Family, NOBODY};
use crate::session::events::{ChannelEvent, Happened};
use crate::session::evm_seller::EvmSeller;
use crate::session::follow::Follower;
use crate::session::funding::Funded;
use crate::session::payload::{self, Funding, Open};
use crate::session::pushed::{Expected, Sent};
use crate::session::relayed::Signed;
use crate::session::seller::{Channels, Credited};
use crate::session::state::ChannelState;
use crate::session::teller::{Errand, Outcome, Take, Taken, Teller};
use crate::session::terms::{Means, SessionTerms};
use crate::session::voucher::{Voucher, signer_of};
use crate::wire::{Address, Token, Tokens, did, parse_did, parse_word};
use crate::{Settings, VALID_S_MIN};

/// The least that a payee has to have after a request to close (draft-evm-session-00 §14.3).
pub const GRACE_MIN: Duration = Duration::from_mins(10);

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
    ascertains: false,
};

/// The same where the escrow is a part of the chain, which pays what the payee asks for of it.
const RESERVE: SessionRules = SessionRules { captures_spent: true, ..CONTRACT };

/// A contract on a chain on which payers deposit by themselves.
const EVM: SessionRules = SessionRules { ascertains: true, ..CONTRACT };

/// What a seller has decided about sessions.
#[derive(Debug)]
pub struct SessionSettings {
    /// Who holds the deposits.
    pub escrow: Escrow,
    /// Who acts for the recipient on the chain; the recipient itself, or its operator in version 2.
    pub teller: Teller,
}

/// The sessions of a seller on a chain.
#[derive(Debug)]
pub(crate) struct Sessions {
    nodes: Arc<Nodes>,
    escrow: Escrow,
    agent: Agent,
    follower: Follower,
    recipient: Address,
    operator: Address,
    tokens: Tokens,
    sponsored: bool,
    means: Vec<Means>,
    /// How much of what was spent is forgone at a close where no voucher says exactly that, by asset.
    forgone_max: Vec<Amount>,
    /// How long the payee has after a request to close.
    grace: OnceCell<Duration>,
}

/// Who acts for the seller on the chain.
#[derive(Debug)]
enum Agent {
    /// On Tempo: hands over what payers have signed, and takes what many vouchers say in one transaction.
    Tempo { channels: Box<Channels>, teller: Box<Teller> },
    /// On other chains: looks for what payers have sent, and sends one thing after the other.
    Evm(Box<EvmSeller>),
}

impl Agent {
    async fn run(&self, escrow: &Escrow, errands: &[Errand]) -> Vec<Outcome> {
        match self {
            Self::Tempo { teller, .. } => teller.run(escrow, errands).await,
            Self::Evm(seller) => seller.account().run(escrow, errands).await,
        }
    }

    async fn look_up(&self, escrow: &Escrow, transaction: B256) -> Option<Taken> {
        match self {
            Self::Tempo { teller, .. } => teller.look_up(escrow, transaction).await,
            Self::Evm(seller) => seller.account().look_up(escrow, transaction).await,
        }
    }
}

/// What is to be done with channels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Take what was earned, and go on.
    Settle,
    /// Take what was earned, and give the rest back.
    Close,
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
        let channels = Channels::new(Arc::clone(nodes), escrow, sponsor, confirmations, wait);
        let (channels, teller) = (Box::new(channels), Box::new(teller));
        Self {
            nodes: Arc::clone(nodes),
            escrow,
            agent: Agent::Tempo { channels, teller },
            follower: Follower::new(Arc::clone(nodes), escrow, recipient),
            recipient,
            operator,
            tokens: seller.tokens.clone(),
            sponsored,
            means: Vec::new(),
            forgone_max: Vec::new(),
            grace: OnceCell::new(),
        }
    }

    /// The sessions of a seller on an EVM chain, who is the payee itself.
    pub(crate) fn on_evm(seller: EvmSeller, escrow: Escrow, tokens: Tokens, relays: bool) -> Self {
        let (nodes, recipient) = (Arc::clone(seller.account().nodes()), seller.account().address());
        Self {
            follower: Follower::new(Arc::clone(&nodes), escrow, recipient),
            nodes,
            escrow,
            agent: Agent::Evm(Box::new(seller)),
            recipient,
            operator: NOBODY,
            tokens,
            sponsored: relays,
            means: if relays { vec![Means::Authorization, Means::Hash] } else { vec![Means::Hash] },
            forgone_max: Vec::new(),
            grace: OnceCell::new(),
        }
    }

    /// Forgoes as much of what was spent, at most, so as not to take more than that.
    pub(crate) fn forgoing(self, forgone_max: Vec<Amount>) -> Self {
        Self { forgone_max, ..self }
    }

    pub(crate) const fn escrow(&self) -> &Escrow {
        &self.escrow
    }

    const fn family(&self) -> Family {
        self.escrow.family
    }

    fn method(&self) -> &'static str {
        method(self.family())
    }

    /// The session that a request of ours asked for.
    fn terms(&self, request: &Object) -> Option<SessionTerms> {
        let terms = self.kept_terms(request)?;
        let same = terms.sponsored == self.sponsored && terms.means == self.means;
        same.then_some(terms)
    }

    /// The same of a request that was answered long ago: who pays for what may have changed since.
    fn kept_terms(&self, request: &Object) -> Option<SessionTerms> {
        let terms = SessionTerms::read(self.method(), request, &self.tokens).ok()?;
        let ours = terms.escrow == *self.escrow()
            && terms.recipient == self.recipient
            && terms.operator == self.operator;
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
        let what = match escrow.family {
            Family::TempoV1 | Family::TempoV2 => "tempo session",
            Family::Evm => "evm session",
        };
        Fingerprint::of(what, &parts)
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
                channel: named(self.family(), voucher.channel)?,
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
                let found = match &self.agent {
                    Agent::Tempo { channels, .. } => {
                        let funded = Funded::opening(open, &terms, expires_at_s)?;
                        in_time(channels, &funded, now)?;
                        let descriptor = funded.descriptor.ok_or(Rejection::Invalid)?;
                        Found { descriptor, atoms: funded.atoms, identity: funded.identity() }
                    }
                    Agent::Evm(_) => opened(open, &terms, source, now)?,
                };
                let Found { descriptor, .. } = &found;
                open.voucher.verify(&terms.escrow, descriptor.signer())?;
                if !is_payer(descriptor.payer) {
                    return Err(Rejection::Invalid);
                }
                self.opening(presented, &terms, &found, open, now)
            }
            payload::Action::TopUp(top_up) => {
                let (payer, atoms, identity) = match &self.agent {
                    Agent::Tempo { channels, .. } => {
                        let funded = Funded::top_up(top_up, &terms, expires_at_s)?;
                        in_time(channels, &funded, now)?;
                        (funded.payer(), funded.atoms, funded.identity())
                    }
                    Agent::Evm(_) => topped_up(top_up, &terms, source, now)?,
                };
                if !is_payer(payer) {
                    return Err(Rejection::Invalid);
                }
                Ok(Action::TopUp(Box::new(TopUp {
                    channel: named(self.family(), top_up.channel)?,
                    payer: did(terms.escrow.chain_id, payer),
                    binding: self.binding(&terms),
                    deposit: deposit(&terms, atoms, &top_up.funding, identity)?,
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

    fn opening(
        &self,
        presented: &Presented,
        terms: &SessionTerms,
        found: &Found,
        open: &Open,
        now: Timestamp,
    ) -> Result<Action, Rejection> {
        let Found { descriptor, atoms, identity } = found;
        let inquiry = Inquiry::of(&presented.request, terms, descriptor.write());
        // In-memory JSON with string keys always serialises.
        let inquiry = serde_json::to_string(&inquiry).unwrap_or_default();
        Ok(Action::Open(Box::new(Opening {
            payer: did(terms.escrow.chain_id, descriptor.payer),
            deposit: deposit(terms, *atoms, &open.funding, *identity)?,
            cash: Some(clearing(self.method(), terms.amount.asset())?),
            inquiry: Some(inquiry.into()),
            voucher: self.claim(&open.voucher, descriptor.signer(), terms, now)?,
        })))
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
        let terms = self.kept_terms(&inquiry.request).ok_or(SettleError::Unknown)?;
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
        let Credited { transaction, cost, .. } = match &self.agent {
            Agent::Tempo { channels, .. } => {
                let funded = self.on_its_way(channel, opens)?;
                channels.fund(&funded).await?
            }
            Agent::Evm(seller) => {
                let Known { terms, descriptor, id } = self.known(channel)?;
                let pending = channel.pending.as_ref().ok_or(SettleError::Unknown)?;
                let order = pending.order.as_deref().unwrap_or_default();
                let funding = Funding::of_order(self.family(), order);
                let funding = funding.ok_or(SettleError::Unknown)?;
                let expected = Expected {
                    channel: id,
                    opens: opens.then_some(descriptor),
                    token: terms.token,
                    atoms: Some(pending.atoms),
                };
                seller.carry(&expected, &funding).await?
            }
        };
        Ok(Settled::new(transaction.to_string()).costing(cost))
    }

    /// What only the chain can say of a deposit.
    async fn ascertained(&self, action: Action) -> Result<Action, Unfounded> {
        let Agent::Evm(seller) = &self.agent else { return Ok(action) };
        let funding = |deposit: &ChannelDeposit| {
            Funding::of_order(Family::Evm, deposit.order.as_deref().unwrap_or_default())
        };
        match action {
            Action::Open(mut opening) => {
                self.fits().await?;
                let inquiry = opening.inquiry.as_deref().unwrap_or_default();
                let inquiry: Option<Inquiry> = serde_json::from_str(inquiry).ok();
                let descriptor = inquiry.and_then(|it| Descriptor::read(&it.descriptor));
                let descriptor = descriptor.ok_or(Unfounded::Declined)?;
                let said = opening.deposit.atoms;
                let expected = Expected {
                    channel: descriptor.id(self.escrow()),
                    opens: Some(descriptor),
                    token: descriptor.token,
                    atoms: (said > 0).then_some(said),
                };
                let funding = funding(&opening.deposit).ok_or(Unfounded::Declined)?;
                opening.deposit.atoms = seller.ascertain(&expected, &funding).await?;
                Ok(Action::Open(opening))
            }
            Action::TopUp(top_up) => {
                let asset = &top_up.deposit.from;
                let token = match asset {
                    Source::Account(account) => self.tokens.named(&account.asset),
                    Source::Key(_) => None,
                };
                let expected = Expected {
                    channel: parse_word(top_up.channel.on_rail()).ok_or(Unfounded::Declined)?,
                    opens: None,
                    token: token.ok_or(Unfounded::Declined)?.address,
                    atoms: Some(top_up.deposit.atoms),
                };
                let funding = funding(&top_up.deposit).ok_or(Unfounded::Declined)?;
                seller.ascertain(&expected, &funding).await?;
                Ok(Action::TopUp(top_up))
            }
            Action::Voucher(_) | Action::Close(_) => Ok(action),
        }
    }

    /// Whether the escrow leaves the payee enough time (draft-evm-session-00 §14.3). An escrow that does not is
    /// none that deposits are taken in.
    pub(crate) async fn fits(&self) -> Result<(), Unfounded> {
        let grace = self.grace().await.map_err(|_| Unfounded::Later)?;
        if grace >= GRACE_MIN {
            return Ok(());
        }
        tracing::error!(escrow = ?self.escrow, ?grace, "the escrow leaves the payee too little time");
        Err(Unfounded::Declined)
    }

    /// What is to be taken of a channel; nothing if there is nothing to take any more.
    fn take(
        &self,
        channel: &Channel,
        known: &Known,
        state: &ChannelState,
        how: How,
    ) -> Option<Take> {
        if state.is_finalized {
            return None;
        }
        let settled = state.settled;
        let words = |voucher: farthing_ledger::Voucher| spoken(&voucher, known.id);
        let beyond = |voucher: Option<Voucher>| voucher.filter(|it| it.cumulative > settled);
        let covered = beyond(channel.covered().and_then(words));
        let capture = channel.spent.max(settled);
        match (how, self.escrow().family) {
            (How::Settle, _) => Some(Take::Settle(covered?)),
            // Nothing was spent beyond what was settled: nothing more is taken.
            (How::Close, _) if capture == settled => Some(Take::Release { settled }),
            (How::Close, Family::TempoV2) => {
                let voucher = beyond(channel.voucher.clone().and_then(words));
                Some(
                    voucher.map_or(Take::Release { settled }, |voucher| Take::Close {
                        voucher,
                        capture,
                    }),
                )
            }
            (How::Close, Family::TempoV1 | Family::Evm) => {
                let earned = covered.as_ref().map_or(settled, |voucher| voucher.cumulative);
                let forgone = capture.saturating_sub(earned);
                let voucher = if forgone > self.forgone_max(channel) {
                    beyond(channel.covering().and_then(words)).or(covered)
                } else {
                    covered
                };
                let take = |voucher: Voucher| Take::Close { capture: voucher.cumulative, voucher };
                Some(voucher.map_or(Take::Release { settled }, take))
            }
        }
    }

    /// How much of what was spent is forgone at a close, in atoms, so as not to take more than that.
    fn forgone_max(&self, channel: &Channel) -> u128 {
        let of = self.forgone_max.iter().find(|it| *it.asset() == channel.facts.asset);
        of.map_or(0, Amount::atoms)
    }

    /// Settles or closes channels, as many in one transaction as go into it.
    async fn take_all(
        &self,
        channels: &[Channel],
        how: How,
    ) -> Vec<Result<SettledInAll, SettleError>> {
        let known: Vec<_> = channels.iter().map(|channel| self.known(channel)).collect();
        let ids: Vec<B256> = known.iter().flatten().map(|known| known.id).collect();
        let Ok(seen) = self.nodes.channels(&self.escrow, &ids).await else {
            return vec![Err(SettleError::Unsent); channels.len()];
        };
        let mut states = seen.what.into_iter();
        let (mut errands, mut plans) = (Vec::new(), Vec::with_capacity(channels.len()));
        for (channel, known) in channels.iter().zip(known) {
            let known = match known {
                Ok(known) => known,
                Err(error) => {
                    plans.push(Err(error));
                    continue;
                }
            };
            let state = states.next().flatten();
            let take = state.and_then(|state| self.take(channel, &known, &state, how));
            let at = take.map(|take| {
                let settles = take.settles();
                errands.push(Errand { descriptor: known.descriptor, take });
                (errands.len().saturating_sub(1), settles)
            });
            plans.push(Ok((known, at)));
        }
        let outcomes = self.agent.run(self.escrow(), &errands).await;
        let mut came = Vec::with_capacity(plans.len());
        for plan in plans {
            came.push(match plan {
                Err(error) => Err(error),
                Ok((known, None)) => self.told_of(&known, how).await,
                Ok((known, Some((at, settles)))) => {
                    let outcome = outcomes.get(at).cloned().unwrap_or(Outcome::Unsent);
                    self.concluded(&known, outcome, how, settles).await
                }
            });
        }
        came
    }

    async fn take_one(&self, channel: &Channel, how: How) -> Result<SettledInAll, SettleError> {
        let came = self.take_all(std::slice::from_ref(channel), how).await;
        came.into_iter().next().unwrap_or(Err(SettleError::Unsent))
    }

    async fn concluded(
        &self,
        known: &Known,
        outcome: Outcome,
        how: How,
        settles: u128,
    ) -> Result<SettledInAll, SettleError> {
        match outcome {
            Outcome::Done(taken) => match in_all(&taken, known.id) {
                Some(told) if told.atoms == settles => Ok(told),
                told => {
                    // The transaction cannot have done something else: whoever says so is wrong somewhere.
                    let (channel, told) = (known.id, told.map(|it| it.atoms));
                    tracing::error!(%channel, settles, ?told, "a receipt contradicts its transaction");
                    Err(SettleError::Unknown)
                }
            },
            // Whatever the escrow says no to may have been done before.
            Outcome::Refused(why) => {
                tracing::warn!(channel = %known.id, %why, "the escrow would not");
                self.told_of(known, how).await
            }
            Outcome::Unsent => Err(SettleError::Unsent),
            Outcome::Unknown => Err(SettleError::Unknown),
        }
    }

    /// The same, where only a close answers for a close.
    async fn told_of(&self, known: &Known, how: How) -> Result<SettledInAll, SettleError> {
        let (settled, is_closed) = self.told(known).await?;
        if is_closed || how == How::Settle { Ok(settled) } else { Err(SettleError::Declined) }
    }

    /// What the escrow's last event about a channel says was settled in all, and whether that closed it.
    async fn told(&self, known: &Known) -> Result<(SettledInAll, bool), SettleError> {
        let nodes = &self.nodes;
        let head = nodes.latest().await.map_err(|_| SettleError::Unsent)?;
        let since_s = head.time_s.saturating_sub(SEARCHED_S);
        let told = nodes.told_of(self.escrow(), known.id, since_s).await;
        let mut told = told.map_err(|_| SettleError::Unsent)?;
        told.sort_by_key(|it| it.block);
        let last = told.iter().rev().find_map(|it| Some((settled(&it.event)?, it.transaction)));
        let (atoms, transaction) = last.ok_or(SettleError::Declined)?;
        let is_closed = told.iter().any(|it| matches!(it.event.what, Happened::Closed { .. }));
        // It may have been ours, by a transaction that nobody heard of again: it has cost what it has cost.
        let taken = self.agent.look_up(self.escrow(), transaction).await;
        let found = taken.and_then(|taken| in_all(&taken, known.id));
        let settled = found.map_or_else(|| Settled::new(transaction.to_string()), |it| it.settled);
        Ok((SettledInAll { atoms, settled }, is_closed))
    }

    async fn grace(&self) -> Result<Duration, SettleError> {
        let asked = || async { self.nodes.grace_s(&self.escrow).await.map(Duration::from_secs) };
        let grace = self.grace.get_or_try_init(asked).await;
        grace.copied().map_err(|_| SettleError::Unsent)
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
                let seen = ChannelSeen { at, settled, close_requested };
                if settled <= channel.settled {
                    return Ok(ChannelFate::There(seen));
                }
                // By a transaction that nobody heard of again, or by somebody else with the same key.
                match self.told(&known).await {
                    Ok((told, false)) if told.atoms == settled => {
                        Ok(ChannelFate::Settled(seen, told))
                    }
                    Ok(_) | Err(_) => Ok(ChannelFate::There(seen)),
                }
            }
            Some(_) => Ok(ChannelFate::Closed(self.told(&known).await?.0)),
            // The reserve forgets what is over: its events tell.
            None => match self.told(&known).await {
                Ok((settled, true)) => Ok(ChannelFate::Closed(settled)),
                Ok((_, false)) | Err(SettleError::Declined) => Ok(ChannelFate::Nowhere),
                Err(error) => Err(error),
            },
        }
    }

    /// What the chain has told of our channels since somebody asked last.
    async fn heard(&self) -> Result<ChannelsHeard, SettleError> {
        let heard = self.follower.listen().await.map_err(|NoAnswer| SettleError::Unsent)?;
        let named = |channel| named(self.family(), channel).ok();
        let told = heard.told.into_iter().filter_map(named);
        Ok(ChannelsHeard {
            method: self.method().to_owned(),
            at: moment(heard.head.time_s),
            told: told.collect(),
            anew: heard.anew,
        })
    }
}

/// What an opening was found to be.
struct Found {
    descriptor: Descriptor,
    /// How much it deposits; nothing where only the chain can say.
    atoms: u128,
    identity: B256,
}

/// Whether a transaction can still be mined, and is sponsored where it asks for it.
fn in_time(channels: &Channels, funded: &Funded, now: Timestamp) -> Result<(), Rejection> {
    if funded.valid_before_s() < now.as_secs().saturating_add(VALID_S_MIN) {
        return Err(Rejection::Expired);
    }
    Ok(channels.permits(funded, now.as_secs())?)
}

/// Reads an opening on an EVM chain. Whoever shows a hash says whose it is.
fn opened(
    open: &Open,
    terms: &SessionTerms,
    source: Option<Address>,
    now: Timestamp,
) -> Result<Found, Rejection> {
    let (descriptor, atoms) = match &open.funding {
        Funding::Hash(_) => {
            let payer = source.ok_or(Rejection::Malformed)?;
            (Sent::opening(open, terms, payer)?.descriptor, 0)
        }
        Funding::Authorization(it) if terms.means.contains(&Means::Authorization) => {
            let signed = Signed::opening(open, terms)?;
            signed.in_time(now.as_secs())?;
            (signed.descriptor, it.value)
        }
        Funding::Authorization(_) | Funding::Transaction(_) => return Err(Rejection::Unsupported),
    };
    let descriptor = descriptor.ok_or(Rejection::Invalid)?;
    Ok(Found { descriptor, atoms, identity: B256::ZERO })
}

/// Reads a top-up on an EVM chain, likewise: its payer, and how much it is.
fn topped_up(
    top_up: &payload::TopUp,
    terms: &SessionTerms,
    source: Option<Address>,
    now: Timestamp,
) -> Result<(Address, u128, B256), Rejection> {
    let payer = match &top_up.funding {
        Funding::Hash(_) => {
            Sent::top_up(top_up, terms)?;
            source.ok_or(Rejection::Malformed)?
        }
        Funding::Authorization(it) if terms.means.contains(&Means::Authorization) => {
            Signed::top_up(top_up, terms)?.in_time(now.as_secs())?;
            it.from
        }
        Funding::Authorization(_) | Funding::Transaction(_) => return Err(Rejection::Unsupported),
    };
    Ok((payer, top_up.additional, B256::ZERO))
}

/// What was settled of a channel in all, by what a transaction has told. What that has cost is shared by the
/// channels it was for, and the first of them bears what does not divide.
fn in_all(taken: &Taken, channel: B256) -> Option<SettledInAll> {
    let ours = taken.events.iter().filter_map(|it| Some((it.channel, settled(it)?)));
    let atoms = ours.clone().rfind(|(id, _)| *id == channel)?.1;
    let all: BTreeSet<B256> = ours.map(|(id, _)| id).collect();
    let count = u128::try_from(all.len()).unwrap_or(u128::MAX);
    let bears_rest = u128::from(all.first() == Some(&channel));
    let share = |cost: &Amount| {
        let part = cost.atoms().checked_div(count).unwrap_or(0);
        let rest = cost.atoms().checked_rem(count).unwrap_or(0).saturating_mul(bears_rest);
        Amount::new(cost.asset().clone(), part.saturating_add(rest))
    };
    let cost = taken.cost.as_ref().map(share).filter(|cost| !cost.is_zero());
    Some(SettledInAll { atoms, settled: Settled::new(taken.transaction.to_string()).costing(cost) })
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
            Family::TempoV1 => &CONTRACT,
            Family::Evm => &EVM,
            Family::TempoV2 => &RESERVE,
        }
    }

    fn quote_session(&self, price: &SessionPrice, _payee: &Holder) -> Result<Object, Unquotable> {
        let token: Option<&Token> = self.tokens.named(price.unit.asset());
        let token = token.ok_or(Unquotable::Asset)?;
        let terms = SessionTerms {
            amount: price.unit.clone(),
            unit: price.unit_type.as_deref().map(str::to_owned),
            suggested_deposit: price.suggested_deposit.as_ref().map(Amount::atoms),
            token: token.address,
            recipient: self.recipient,
            escrow: *self.escrow(),
            channel: None,
            delta_min: price.delta_min_atoms,
            operator: self.operator,
            sponsored: self.sponsored,
            means: self.means.clone(),
        };
        Ok(terms.write())
    }

    fn check_action(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection> {
        self.check(presented, now)
    }

    fn ascertain(&self, action: Action) -> BoxFuture<'_, Result<Action, Unfounded>> {
        Box::pin(self.ascertained(action))
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
        Box::pin(self.take_one(channel, How::Settle))
    }

    fn close<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(self.take_one(channel, How::Close))
    }

    fn settle_vouchers<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(self.take_all(channels, How::Settle))
    }

    fn close_channels<'a>(
        &'a self,
        channels: &'a [Channel],
    ) -> BoxFuture<'a, Vec<Result<SettledInAll, SettleError>>> {
        Box::pin(self.take_all(channels, How::Close))
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<ChannelsHeard>, SettleError>> {
        Box::pin(async { self.heard().await.map(Some) })
    }

    fn inquire_channel<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<ChannelFate, SettleError>> {
        Box::pin(self.fate(channel))
    }
}
