//! What is said within sessions: a payer's signature is a digest of what it signs, under the payer's name.

use std::sync::atomic::Ordering;
use std::time::Duration;

use farthing_core::{
    Action, BoxFuture, ChannelFate, Object, Opening, Presented, Rejection, SESSION, SessionPrice,
    SessionRail, SessionRules, SettleError, Settled, SettledInAll, TopUp, Unquotable,
};
use farthing_ledger::{
    Account, AccountKind, Channel, ChannelDeposit, ChannelId, ChannelsHeard, Fingerprint, Holder,
    Money, Proof, Source, Voucher, VoucherClaim,
};
use farthing_money::{AssetId, Timestamp, parse_atoms};
use serde_json::Value;

use super::{Kind, PATIENCE, SimRail, key_of, text};
use crate::Planted;
use crate::fault::Fault;

/// How long ago the chest may have been heard of.
const HEARD_WITHIN: Duration = Duration::from_mins(1);

const PURSE: SessionRules = SessionRules {
    authorised: "the payer's word",
    settled: "the book",
    captures_spent: true,
    heard_within: None,
    ascertains: false,
};

const CHEST: SessionRules =
    SessionRules { settled: "the chest's word", heard_within: Some(HEARD_WITHIN), ..PURSE };

/// What a payer signs who authorises `cumulative` on a channel, or a deposit of it.
pub(crate) fn signature(payer: &str, what: &str, channel: &str, atoms: u128) -> String {
    let parts = [payer.as_bytes(), what.as_bytes(), channel.as_bytes(), &atoms.to_be_bytes()];
    Fingerprint::of("session signature", &parts).to_string()
}

/// What is presented within a session.
struct Said<'a> {
    act: &'a Object,
    payer: String,
    channel: ChannelId,
    binding: Fingerprint,
    asset: AssetId,
}

impl Said<'_> {
    fn atoms(&self, name: &str) -> Result<u128, Rejection> {
        let text = text(self.act, name).ok_or(Rejection::Malformed)?;
        parse_atoms(text).map_err(|_| Rejection::Malformed)
    }

    /// Whether the payer has signed it.
    fn is_signed(&self, what: &str, atoms: u128) -> Result<(), Rejection> {
        let signed = signature(&self.payer, what, self.channel.on_rail(), atoms);
        let fits = text(self.act, what) == Some(&signed);
        if fits { Ok(()) } else { Err(Rejection::Signature) }
    }
}

impl SimRail {
    fn said<'a>(&self, presented: &'a Presented) -> Result<Said<'a>, Rejection> {
        let of = |name| text(&presented.request, name).ok_or(Rejection::Foreign);
        let act = presented.payload.get("act").and_then(Value::as_object);
        let act = act.ok_or(Rejection::Malformed)?;
        let channel = text(act, "channel").ok_or(Rejection::Malformed)?;
        let (asset, recipient) = (of("currency")?, of("recipient")?);
        Ok(Said {
            act,
            payer: presented.source.clone().ok_or(Rejection::Malformed)?,
            channel: ChannelId::new(self.kind.method(), channel)
                .map_err(|_| Rejection::Malformed)?,
            binding: Fingerprint::of("binding", &[asset.as_bytes(), recipient.as_bytes()]),
            asset: AssetId::new(asset).map_err(|_| Rejection::Foreign)?,
        })
    }

    fn claim(&self, said: &Said<'_>, now: Timestamp) -> Result<VoucherClaim, Rejection> {
        let cumulative = said.atoms("cumulative")?;
        said.is_signed("voucher", cumulative)?;
        let signature = text(said.act, "voucher").unwrap_or_default();
        Ok(VoucherClaim {
            voucher: Voucher {
                channel: said.channel.clone(),
                cumulative,
                signature: signature.into(),
            },
            signer: said.payer.clone(),
            binding: said.binding,
            delta_min: 0,
            heard_since: (self.kind == Kind::Chest).then(|| now.before(HEARD_WITHIN)),
        })
    }

    /// A deposit: at once out of the payer's account, or by what the payer has authorised.
    fn deposit(&self, said: &Said<'_>, presented: &Presented) -> Result<ChannelDeposit, Rejection> {
        let atoms = said.atoms("deposit")?;
        said.is_signed("signed", atoms)?;
        if self.kind == Kind::Purse {
            let (from, money) = (Source::Key(key_of(&said.payer)), Money::Book);
            return Ok(ChannelDeposit { atoms, from, money, order: None, proofs: Vec::new() });
        }
        let token = text(&presented.payload, "token").ok_or(Rejection::Malformed)?;
        let fingerprint = Fingerprint::of("token", &[token.as_bytes()]);
        Ok(ChannelDeposit {
            atoms,
            from: Source::Account(clearing("chest-deposits", &said.asset)?),
            money: Money::Rail,
            order: Some(token.into()),
            proofs: vec![Proof { fingerprint, keep_until: None }],
        })
    }

    fn checked(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection> {
        if presented.intent != SESSION {
            return Err(Rejection::Unsupported);
        }
        let said = self.said(presented)?;
        Ok(match text(said.act, "act").unwrap_or_default() {
            "open" => {
                let elsewhere = self.kind == Kind::Chest;
                let cash = elsewhere.then(|| clearing(self.kind.method(), &said.asset));
                Action::Open(Box::new(Opening {
                    payer: said.payer.clone(),
                    deposit: self.deposit(&said, presented)?,
                    cash: cash.transpose()?,
                    inquiry: None,
                    voucher: self.claim(&said, now)?,
                }))
            }
            "top up" => Action::TopUp(Box::new(TopUp {
                channel: said.channel.clone(),
                payer: said.payer.clone(),
                binding: said.binding,
                deposit: self.deposit(&said, presented)?,
            })),
            "voucher" => Action::Voucher(Box::new(self.claim(&said, now)?)),
            "close" => Action::Close(Box::new(self.claim(&said, now)?)),
            _ => return Err(Rejection::Malformed),
        })
    }

    async fn deposited(&self, channel: &Channel) -> Result<Settled, SettleError> {
        self.sim.pause().await;
        if self.sim.fault(Fault::Unsent) {
            return Err(SettleError::Unsent);
        }
        let pending = channel.pending.clone().ok_or(SettleError::Unknown)?;
        let token = pending.order.as_deref().unwrap_or_default().to_owned();
        let (id, atoms) = (channel.facts.id.clone(), pending.atoms);
        let answered = self.send(move |state| state.deposit_at_rail(&token, &id, atoms));
        self.sim.within(PATIENCE, answered).await.unwrap_or(Err(SettleError::Unknown))
    }

    async fn taken(&self, channel: &Channel, closes: bool) -> Result<SettledInAll, SettleError> {
        self.sim.pause().await;
        if self.sim.fault(Fault::Unsent) {
            return Err(SettleError::Unsent);
        }
        let highest = channel.voucher.as_ref().map_or(0, |voucher| voucher.cumulative);
        let covered = channel.covered().map_or(0, |voucher| voucher.cumulative);
        let atoms = match closes {
            _ if self.sim.is_planted(Planted::TakesTheVoucher) => highest,
            true => channel.spent.max(channel.settled),
            false => covered,
        };
        let id = channel.facts.id.clone();
        let answered = self.send(move |state| state.take_at_rail(&id, atoms, closes));
        self.sim.within(PATIENCE, answered).await.unwrap_or(Err(SettleError::Unknown))
    }

    async fn inquired_of(&self, channel: &Channel) -> Result<ChannelFate, SettleError> {
        self.sim.pause().await;
        let id = channel.facts.id.clone();
        let answered = self.send(move |state| state.inquire_at_chest(&id));
        let said = self.sim.within(PATIENCE, answered).await.ok_or(SettleError::Unknown)?;
        Ok(match said {
            None => ChannelFate::Nowhere,
            Some((seen, false)) => ChannelFate::There(seen),
            Some((seen, true)) => {
                let settled = Settled::new("chest".to_owned());
                ChannelFate::Closed(SettledInAll { atoms: seen.settled, settled })
            }
        })
    }

    async fn heard(&self) -> Result<Option<ChannelsHeard>, SettleError> {
        if self.kind != Kind::Chest {
            return Ok(None);
        }
        self.sim.pause().await;
        if self.sim.fault(Fault::Unsent) {
            return Err(SettleError::Unsent);
        }
        let anew = !self.has_told.swap(true, Ordering::Relaxed);
        Ok(Some(self.sim.with(|state| ChannelsHeard {
            method: self.kind.method().to_owned(),
            at: state.clock(),
            told: std::mem::take(&mut state.truth.told).into_iter().collect(),
            anew,
        })))
    }
}

fn clearing(holder: &str, asset: &AssetId) -> Result<Account, Rejection> {
    let holder = Holder::new(holder).map_err(|_| Rejection::Foreign)?;
    Ok(Account::new(AccountKind::Clearing, holder, asset.clone()))
}

impl SessionRail for SimRail {
    fn session_rules(&self) -> &'static SessionRules {
        if self.kind == Kind::Chest { &CHEST } else { &PURSE }
    }

    fn quote_session(&self, price: &SessionPrice, payee: &Holder) -> Result<Object, Unquotable> {
        if price.unit.is_zero() {
            return Err(Unquotable::Amount);
        }
        let mut request = Object::new();
        request.insert("amount".into(), price.unit.atoms().to_string().into());
        request.insert("currency".into(), price.unit.asset().as_str().into());
        request.insert("recipient".into(), payee.as_str().into());
        Ok(request)
    }

    fn check_action(&self, presented: &Presented, now: Timestamp) -> Result<Action, Rejection> {
        self.checked(presented, now)
    }

    fn open<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.deposited(channel))
    }

    fn top_up<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Settled, SettleError>> {
        Box::pin(self.deposited(channel))
    }

    fn settle_voucher<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(self.taken(channel, false))
    }

    fn close<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<SettledInAll, SettleError>> {
        Box::pin(self.taken(channel, true))
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<ChannelsHeard>, SettleError>> {
        Box::pin(self.heard())
    }

    fn inquire_channel<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<ChannelFate, SettleError>> {
        Box::pin(self.inquired_of(channel))
    }
}
