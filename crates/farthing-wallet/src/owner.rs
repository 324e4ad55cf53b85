//! Asking the owner before anything is held or signed.
//!
//! ```text
//! offer ─► facts ─► policy ─┬─ allowed ─► hold what it draws, and the decision with it ─► sign
//!                           ├─ asked ───► approved by whom it needs? ─ yes ─► the same, the approval used up
//!                           │                  └─ no ─► parked: the same request again finds it
//!                           └─ denied ──► written down
//! ```
//!
//! **Architecture invariant:** every decision is written down: what was allowed with its claim, in one record,
//! and what was not by itself.
//!
//! **Architecture invariant:** an approval is for exactly the terms that were approved, and is used once. The
//! book takes it with the claim, as it takes a proof.

use farthing_core::{Invitation, Payer};
use farthing_ledger::{Approval, Decided, Drafted, Draw, Fingerprint, Proof, Ruling};
use farthing_money::{Amount, Assets};
use farthing_policy::{
    BudgetKey, Decision, Facts, Grant, OWNER, Policy, PolicyError, Reason, Verdict,
};

use crate::memory::{
    ApprovalRequest, ApprovalState, AskedFor, Asker, Asking, Depositor, Lesson, Quote, Waiting,
};
use crate::{BooksError, PayFailure, PayRequest, Rules, Wallet};

/// Who asks the wallet to pay, under which policies.
#[derive(Clone, Debug)]
pub struct Authority {
    /// All of them have to allow it.
    policies: Vec<Policy>,
    /// What is only tried out: it is asked as well, and what it says is written down and changes nothing.
    draft: Option<Policy>,
    agent: String,
    task: Option<String>,
    tool: Option<String>,
    /// The names of the token's blocks.
    blocks: Vec<String>,
}

impl Authority {
    /// The owner's own, under every one of `policies`.
    #[must_use]
    pub fn owner(policies: Vec<Policy>) -> Self {
        Self {
            policies,
            draft: None,
            agent: OWNER.to_owned(),
            task: None,
            tool: None,
            blocks: Vec::new(),
        }
    }

    /// The owner's own, under the caps alone.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] for a cap of an asset that nobody knows.
    pub fn under_caps(rules: &Rules, assets: &Assets) -> Result<Self, PolicyError> {
        let policy = rules.policy(assets)?;
        Ok(Self::owner(vec![policy]))
    }

    /// That of whoever has a token.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] where the token has limits that are none, such as of an asset nobody knows.
    pub fn of_token(policies: &[Policy], grant: Grant) -> Result<Self, PolicyError> {
        let Grant { agent, task, blocks, .. } = grant;
        let within = |policy: &Policy| policy.within(blocks.clone());
        let policies = policies.iter().map(within).collect::<Result<_, _>>()?;
        let blocks = blocks.into_iter().map(|(name, _)| name).collect();
        Ok(Self { policies, draft: None, agent, task, tool: None, blocks })
    }

    /// The same, with a policy that is tried out beside those that hold: what it would have said is written
    /// down with each decision, and changes none.
    #[must_use]
    pub fn trying(self, draft: Option<Policy>) -> Self {
        Self { draft, ..self }
    }

    /// The same, for a task and a tool. A task that the token names stays.
    #[must_use]
    pub fn working_on(self, task: Option<String>, tool: Option<String>) -> Self {
        Self { task: self.task.or(task), tool, ..self }
    }

    /// Who asks.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// The policies, all of which have to allow it.
    pub(crate) fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// What every policy says together. Without any, nothing is allowed.
    #[must_use]
    pub fn decide(&self, facts: &Facts) -> Option<Decision> {
        self.policies.iter().map(|policy| policy.decide(facts)).reduce(Decision::and)
    }

    /// Who asks, and in whose budgets of money what they are asked about counts.
    pub(crate) fn depositor(&self, facts: &Facts) -> Depositor {
        Depositor {
            agent: self.agent.clone(),
            task: self.task.clone(),
            blocks: self.blocks.clone(),
            purses: self.policies.iter().flat_map(|policy| policy.purses(facts)).collect(),
        }
    }

    /// Whether it matters which key a seller proves to have.
    pub(crate) fn asks_identity(&self) -> bool {
        self.policies.iter().any(Policy::asks_identity)
    }

    /// What the draft would say, if one is tried out. What it counts and the policies that hold do not is
    /// counted apart from them, under its own name.
    fn drafted(&self, facts: &Facts, holds: &[Draw]) -> Option<Drafted> {
        let decision = self.draft.as_ref()?.decide(facts);
        let own = |mut draw: Draw| {
            if !holds.iter().any(|held| held.key == draw.key) {
                let name = decision.policy.sha256.get(..12).unwrap_or_default();
                draw.key = BudgetKey::new(format!("draft {name}|{}", draw.key));
            }
            draw
        };
        Some(Drafted {
            ruling: ruling(decision.verdict),
            rules: decision.reasons.into_iter().map(|reason| reason.rule).collect(),
            draws: decision.draws.into_iter().map(own).collect(),
            policy: decision.policy.version,
            policy_sha256: decision.policy.sha256,
        })
    }

    /// The amount that a rule compares with.
    fn threshold(&self, rule: &str) -> Option<String> {
        self.policies.iter().find_map(|policy| policy.threshold(rule))
    }

    fn category(&self, origin: &str) -> Option<String> {
        self.policies.last().and_then(|policy| policy.category(origin)).map(str::to_owned)
    }

    /// Whether an answer of `name` counts.
    fn may_approve(&self, name: &str) -> bool {
        may_approve(&self.policies, name)
    }
}

/// Whether an answer of `name` counts under every one of `policies`.
#[must_use]
pub fn may_approve(policies: &[Policy], name: &str) -> bool {
    let may = |policy: &Policy| {
        policy.approvers().is_empty() || policy.approvers().iter().any(|it| it == name)
    };
    policies.iter().all(may)
}

/// That a payment may be made, and everything that has to be written down with it.
pub(crate) struct Permit {
    pub(crate) decided: Decided,
    /// What makes sure that its approval is used once.
    pub(crate) proof: Option<Proof>,
    decision: Decision,
}

/// What the owner's policy says to one offer.
pub(crate) enum Ruled {
    Allowed(Box<Permit>),
    Asked(Box<Refusal>),
    Denied(Box<Refusal>),
}

/// A decision that does not let a payment pass, and what it was decided on.
pub(crate) struct Refusal {
    pub(crate) decision: Decision,
    facts: Facts,
    quote: Option<Quote>,
}

impl Refusal {
    fn new(decision: Decision, facts: Facts) -> Box<Self> {
        Box::new(Self { decision, facts, quote: None })
    }

    /// The same, upon an offer that whoever is asked may see.
    pub(crate) fn upon(self, offer: &Invitation) -> Self {
        let quote = Quote {
            challenge: offer.challenge.clone(),
            expires_at: offer.expires_at,
            description: offer.description.clone(),
        };
        Self { quote: Some(quote), ..self }
    }
}

/// What is to be decided upon.
pub(crate) struct Offer<'a> {
    pub(crate) request: &'a PayRequest,
    pub(crate) invitation: &'a Invitation,
    pub(crate) amount: &'a Amount,
    pub(crate) recipient: &'a str,
    pub(crate) payer: &'a dyn Payer,
}

impl Offer<'_> {
    /// Whom its seller is paid through may differ by rail and asset.
    fn seller(&self) -> String {
        format!("{} {} {}", self.request.origin(), self.invitation.method, self.amount.asset())
    }

    /// What is bought, as far as its price is concerned.
    fn what(&self) -> String {
        let (request, asset) = (self.request, self.amount.asset());
        format!("{} {}{} {asset}", request.method, request.origin(), request.url.path())
    }
}

/// The network that a payer's account is on, where its name says so.
fn network(payer: &dyn Payer) -> Option<String> {
    let account = payer.account();
    let (network, _) = account.strip_prefix("did:pkh:")?.rsplit_once(':')?;
    Some(network.to_owned())
}

impl Wallet {
    /// The facts of a payment.
    pub(crate) fn facts(&self, operation: &str, offer: &Offer<'_>) -> Result<Facts, PayFailure> {
        let Offer { request, invitation, amount, recipient, payer } = offer;
        let operation = if amount.is_zero() { "prove" } else { operation };
        let bought = matches!(operation, "pay" | "call");
        let known_atoms = if bought { self.memory.known_price(&offer.what())? } else { None };
        Ok(Facts {
            agent: self.authority.agent.clone(),
            task: self.authority.task.clone(),
            operation: operation.to_owned(),
            origin: request.origin(),
            method: request.method.to_string(),
            path: request.url.path().to_owned(),
            tool: self.authority.tool.clone(),
            category: self.authority.category(&request.origin()),
            rail: invitation.method.clone(),
            network: network(*payer),
            asset: amount.asset().clone(),
            atoms: amount.atoms(),
            recipient: (*recipient).to_owned(),
            identity: self.identity(request, &invitation.realm),
            known_identity: self.memory.known_identity(&request.origin())?,
            known_recipient: self.memory.known_recipient(&offer.seller())?,
            known_atoms,
            before_atoms: None,
            purses: Vec::new(),
            intent: request.intent().to_string(),
            at: self.clock.now(),
        })
    }

    /// What the owner says to a payment, right now.
    pub(crate) fn rule(&self, facts: Facts) -> Result<Ruled, PayFailure> {
        self.check_frozen()?;
        let Some(decision) = self.authority.decide(&facts) else {
            return Err(PayFailure::NoPolicy);
        };
        let approved = match decision.verdict {
            Verdict::Deny => return Ok(Ruled::Denied(Refusal::new(decision, facts))),
            Verdict::Allow => None,
            Verdict::Ask => {
                let Some(known) = self.memory.approval_of(&terms(&facts), facts.at)? else {
                    return Ok(Ruled::Asked(Refusal::new(decision, facts)));
                };
                match known.state {
                    ApprovalState::Approved if self.is_enough(&known, decision.approvals) => {
                        Some(known)
                    }
                    ApprovalState::Waiting
                    | ApprovalState::Approved
                    | ApprovalState::Used
                    | ApprovalState::Expired => {
                        return Ok(Ruled::Asked(Refusal::new(decision, facts)));
                    }
                    ApprovalState::Denied => {
                        let reason = Reason {
                            rule: "approvals.denied".to_owned(),
                            because: "an approver has denied it".to_owned(),
                            exceeded: None,
                        };
                        let decision = Decision::denied(decision.policy, reason);
                        return Ok(Ruled::Denied(Refusal::new(decision, facts)));
                    }
                }
            }
        };
        let proof = approved.as_ref().map(|it| Proof {
            fingerprint: Fingerprint::of("approval", &[it.id.as_bytes()]),
            keep_until: Some(it.expires_at),
        });
        let approval = approved.map(|it| Approval {
            at: it.asked.answered_at.unwrap_or(it.asked_at),
            by: it.asked.by,
            id: it.id,
        });
        let decided = Decided { approval, ..self.decided(&decision, &facts, Ruling::Allowed) };
        Ok(Ruled::Allowed(Box::new(Permit { decided, proof, decision })))
    }

    fn is_enough(&self, request: &ApprovalRequest, approvals: u8) -> bool {
        let may = request.asked.by.iter().filter(|name| self.authority.may_approve(name));
        may.count() >= usize::from(approvals)
    }

    /// Nothing is signed for who is frozen, or whose token was revoked. Asked before each signature.
    pub(crate) fn check_frozen(&self) -> Result<(), PayFailure> {
        if self.memory.is_frozen(&self.authority.agent)? {
            return Err(BooksError::Frozen.into());
        }
        for block in &self.authority.blocks {
            if self.memory.is_revoked(block)? {
                return Err(PayFailure::Revoked);
            }
        }
        Ok(())
    }

    /// Writes down that a payment was not allowed.
    pub(crate) async fn write_down(&self, refusal: &Refusal) -> Result<(), PayFailure> {
        let decided = self.refused(refusal);
        Ok(self.books.decide(decided).await?)
    }

    /// What is written down of a decision that lets nothing pass.
    fn refused(&self, Refusal { decision, facts, .. }: &Refusal) -> Decided {
        let mut decided = self.decided(decision, facts, ruling(decision.verdict));
        self.look_up_draft(&mut decided);
        decided
    }

    /// Writes down how much is used of what a draft would draw. The book does so with a claim; without one, it
    /// is asked, and where it does not answer, the draft has said nothing.
    fn look_up_draft(&self, decided: &mut Decided) {
        if let Some(draft) = &mut decided.draft {
            match self.books.used(&draft.draws) {
                Ok(used) => draft.draws = used,
                Err(_) => decided.draft = None,
            }
        }
    }

    fn decided(&self, decision: &Decision, facts: &Facts, ruling: Ruling) -> Decided {
        // In-memory data with string keys always serialises.
        let text = serde_json::to_string(facts).unwrap_or_default();
        Decided {
            agent: facts.agent.clone(),
            ruling,
            policy: decision.policy.version.clone(),
            policy_sha256: decision.policy.sha256.clone(),
            digest: Decided::digest_of(&text),
            facts: text.into(),
            rules: decision.reasons.iter().map(|reason| reason.rule.clone()).collect(),
            draws: decision.draws.clone(),
            approval: None,
            draft: self.authority.drafted(facts, &decision.draws).map(Box::new),
        }
    }

    /// Writes down that a payment was denied, and says so.
    pub(crate) async fn denied(&self, refusal: Refusal) -> Result<PayFailure, PayFailure> {
        self.write_down(&refusal).await?;
        Ok(PayFailure::Denied(Box::new(refusal.decision)))
    }

    /// The denial that follows when a budget did not hold what was allowed.
    pub(crate) async fn over_budget(
        &self,
        permit: Permit,
        draw: u16,
        used: u128,
    ) -> Result<Decision, PayFailure> {
        let Permit { mut decided, decision, .. } = permit;
        let Some(over) = decided.draws.get_mut(usize::from(draw)) else {
            return Err(BooksError::Unavailable.into());
        };
        over.used = used;
        let decision = decision.over(over, used);
        decided.ruling = Ruling::Denied;
        decided.rules = decision.reasons.iter().map(|reason| reason.rule.clone()).collect();
        decided.approval = None;
        self.look_up_draft(&mut decided);
        self.books.decide(decided).await?;
        Ok(decision)
    }

    /// The same for what cannot wait to be approved: what would have to be asked for is denied.
    pub(crate) async fn not_waited_for(&self, refusal: Refusal) -> Result<Decision, PayFailure> {
        self.write_down(&refusal).await?;
        Ok(Decision { verdict: Verdict::Deny, approvals: 0, ..refusal.decision })
    }

    /// Parks a payment until it is approved, and says so.
    pub(crate) async fn park(&self, refusal: Refusal) -> PayFailure {
        match Box::pin(self.try_to_park(refusal)).await {
            Ok(failure) | Err(failure) => failure,
        }
    }

    async fn try_to_park(&self, mut refusal: Refusal) -> Result<PayFailure, PayFailure> {
        let facts = &refusal.facts;
        self.expire().await?;
        // What waits already was written down when it began to.
        if let Some(known) = self.memory.approval_of(&terms(facts), facts.at)? {
            return Ok(PayFailure::Parked(Box::new(known)));
        }
        let entropy: [u8; 12] = rand::random();
        let id = entropy.iter().fold("apr_".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let named = (id.clone(), terms(facts), facts.agent.as_str());
        let (asking, decided) = (self.asking(&refusal)?, self.refused(&refusal));
        let waiting = self.rules.waiting;
        match self.memory.ask(named, (asking, &decided), waiting, facts.at)? {
            AskedFor::Stands(request) => {
                if request.id == id {
                    self.books.decide(decided).await?;
                }
                Ok(PayFailure::Parked(request))
            }
            AskedFor::TooMany => {
                let Waiting { per_agent_max, max, .. } = waiting;
                let reason = Reason {
                    rule: "approvals.waiting".to_owned(),
                    because: format!(
                        "too many payments wait for approval already: at most {per_agent_max} of an \
                         agent, and {max} in all"
                    ),
                    exceeded: None,
                };
                refusal.decision = Decision::denied(refusal.decision.policy, reason);
                self.write_down(&refusal).await?;
                Ok(PayFailure::Denied(Box::new(refusal.decision)))
            }
        }
    }

    /// What an approver is asked.
    fn asking(&self, Refusal { decision, facts, quote }: &Refusal) -> Result<Asking, PayFailure> {
        let because = |reason: &Reason| format!("{}: {}", reason.rule, reason.because);
        let asker = |reason: &Reason| Asker {
            rule: reason.rule.clone(),
            because: reason.because.clone(),
            limit: self.authority.threshold(&reason.rule),
        };
        Ok(Asking {
            origin: facts.origin.clone(),
            what: format!("{} {}", facts.method, facts.path),
            recipient: facts.recipient.clone(),
            asset: facts.asset.clone(),
            atoms: facts.atoms.to_string(),
            because: decision.reasons.iter().map(because).collect(),
            approvals: decision.approvals,
            by: Vec::new(),
            answered_at: None,
            task: facts.task.clone(),
            tool: facts.tool.clone(),
            method: facts.rail.clone(),
            reasons: decision.reasons.iter().map(asker).collect(),
            draws: self.books.used(&decision.draws)?,
            quote: quote.clone(),
            answer_by: None,
        })
    }

    /// Writes down that nobody has answered what has waited for its whole time, which denies it.
    async fn expire(&self) -> Result<(), PayFailure> {
        Ok(crate::desk::expire(&self.memory, &self.books, self.clock.now()).await?)
    }

    /// Remembers what was bought from whom at which price, now that it was answered.
    pub(crate) fn learn(&self, offer: &Offer<'_>, approved: bool) -> Result<(), PayFailure> {
        if offer.amount.is_zero() {
            return Ok(());
        }
        let lesson = Lesson {
            seller: &offer.seller(),
            recipient: offer.recipient,
            what: &offer.what(),
            atoms: offer.amount.atoms(),
            origin: &offer.request.origin(),
            identity: self.identity(offer.request, &offer.invitation.realm),
            approved,
        };
        Ok(self.memory.learn(&lesson)?)
    }
}

/// A verdict, as it is written down.
const fn ruling(verdict: Verdict) -> Ruling {
    match verdict {
        Verdict::Deny => Ruling::Denied,
        Verdict::Ask => Ruling::Asked,
        Verdict::Allow => Ruling::Allowed,
    }
}

/// What exactly is approved: who asks, for what, from whom, to whom, how much of what, over which rail. Not the
/// seller's nonce, which is another each time it is asked.
fn terms(facts: &Facts) -> Fingerprint {
    let Facts {
        agent,
        task,
        operation,
        origin,
        rail,
        network,
        asset,
        atoms,
        recipient,
        identity,
        intent,
        ..
    } = facts;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let (task, network, identity) = (optional(task), optional(network), optional(identity));
    let atoms = atoms.to_be_bytes();
    let parts: [&[u8]; 11] = [
        agent.as_bytes(),
        task.as_bytes(),
        operation.as_bytes(),
        origin.as_bytes(),
        rail.as_bytes(),
        network.as_bytes(),
        asset.as_str().as_bytes(),
        &atoms,
        recipient.as_bytes(),
        identity.as_bytes(),
        intent.as_bytes(),
    ];
    Fingerprint::of("terms", &parts)
}
