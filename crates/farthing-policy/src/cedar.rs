//! The engine: one schema, limits written as Cedar, and asking Cedar.
//!
//! Two questions are asked of the same policies. `pay_unattended` is whether the payment may be made as it
//! stands; where it may not, `pay` is whether it may be made once somebody has approved it. So what only
//! asks forbids the first action, and what denies forbids both. Cedar gives no answer to a policy that
//! fails while it is evaluated and goes on without it; here that is a denial.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as Answer, Entities, EntityId, EntityTypeName, EntityUid,
    PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};

use crate::budget::{ANY, known, nano_asset, unknown_asset};
use crate::calendar::{UtcOffset, minutes_of};
use crate::decision::Reason;
use crate::facts::{Facts, NANO_DECIMALS, OPERATIONS, Seen};
use crate::limits::{Hours, Limits, Then};
use crate::policy::{Level, PolicyError};
use farthing_money::{Assets, Timestamp};

/// The schema that every policy is checked against, in Cedar's own words.
pub const SCHEMA: &str = r#"namespace Farthing {
  // Who asks: the name in an agent's token, or "owner".
  entity Agent;
  // Who is paid: an origin, such as "https://api.example.com".
  entity Seller;

  type Payment = {
    // "pay"; "deposit" into a session, a "call" within one, and what a "stream" asks for beyond the call that it
    // began with, its amount being that of the whole stream by then; "subscribe" for all that may be charged
    // before the end; or "prove" who one is, which costs nothing.
    operation: String,
    task?: String,
    // The request that is paid for.
    origin: String,
    method: String,
    path: String,
    tool?: String,
    category?: String,
    // The money. Amounts are in billionths of a unit, rounded up, and rounded down in amount_floor.
    rail: String,
    network?: String,
    asset: String,
    amount: Long,
    amount_floor: Long,
    // In billionths of the reference currency, rounded up; absent where the asset has no rate.
    reference?: Long,
    recipient: String,
    identity?: String,
    // What was seen before.
    first_payment: Bool,
    recipient_changed: Bool,
    identity_changed: Bool,
    // By how much the price rose over the last one for the same thing, in hundredths of a percent.
    rise_bps: Long,
    // Seconds since 1970; the minute of the day and the day of the week (Monday is 1) on the policy's clock.
    now: Long,
    minute: Long,
    weekday: Long,
  };

  action payment;
  // May it be paid as it stands?
  action pay_unattended in [payment] appliesTo { principal: Agent, resource: Seller, context: Payment };
  // May it be paid once somebody has approved it?
  action pay in [payment] appliesTo { principal: Agent, resource: Seller, context: Payment };
}
"#;

/// What a compiled policy refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refuses {
    /// Everything.
    Both,
    /// To pay without having asked.
    Unattended,
}

impl Then {
    const fn refuses(self) -> Option<Refuses> {
        match self {
            Self::Allow => None,
            Self::Ask => Some(Refuses::Unattended),
            Self::Deny => Some(Refuses::Both),
        }
    }
}

/// Writes the limits of one level as policies.
pub(crate) struct Writer<'a> {
    pub(crate) text: String,
    assets: &'a Assets,
    reference: &'a str,
    level: Level,
    approvals: u8,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(assets: &'a Assets, reference: &'a str) -> Self {
        Self { text: String::new(), assets, reference, level: Level::Wallet, approvals: 1 }
    }

    /// Lets an agent ask at all.
    pub(crate) fn permit(&mut self, id: &str, agent: &str, because: &str) {
        let (id, because, agent) = (quoted(id), quoted(because), quoted(agent));
        let _ = write!(
            self.text,
            "@id({id})\n@because({because})\npermit (\n  principal == Farthing::Agent::{agent},\n  \
             action in Farthing::Action::\"payment\",\n  resource\n);\n\n"
        );
    }

    /// An agent that has tasks works for one of them.
    pub(crate) fn only_tasks(&mut self, agent: &str, tasks: &[&String]) {
        self.level = Level::Agent(agent.to_owned());
        let known = set(tasks.iter().map(|it| quoted(it)));
        let rule = format!("agents.{agent}.tasks");
        let condition = format!("!(context has task && {known}.contains(context.task))");
        self.forbid(&rule, "the agent works for one of its tasks", Refuses::Both, &condition);
    }

    /// One policy that forbids, within the level it is of.
    fn forbid(&mut self, rule: &str, because: &str, refuses: Refuses, condition: &str) {
        let guard = match &self.level {
            Level::Wallet | Level::Token(_) => String::new(),
            Level::Agent(agent) => format!("principal == Farthing::Agent::{} && ", quoted(agent)),
            Level::Task(agent, task) => format!(
                "principal == Farthing::Agent::{} && context has task && context.task == {} && ",
                quoted(agent),
                quoted(task)
            ),
        };
        let (action, approvals) = match refuses {
            Refuses::Both => ("action", String::new()),
            Refuses::Unattended => (
                "action == Farthing::Action::\"pay_unattended\"",
                format!("@approvals(\"{}\")\n", self.approvals),
            ),
        };
        let (rule, because) = (quoted(rule), quoted(because));
        let _ = write!(
            self.text,
            "@id({rule})\n@because({because})\n{approvals}forbid (principal, {action}, resource)\nwhen {{ \
             {guard}({condition}) }};\n\n"
        );
    }

    /// Writes every limit of a level, whose place in the policy is `place`.
    pub(crate) fn level(
        &mut self,
        level: &Level,
        place: &str,
        limits: &Limits,
        offset: UtcOffset,
    ) -> Result<(), PolicyError> {
        self.level = level.clone();
        self.approvals = limits.approvals.unwrap_or(1);
        if self.approvals == 0 {
            return Err(PolicyError::at(
                place,
                "approvals is at least 1; leave ask_above out to ask nobody",
            ));
        }
        self.amounts(place, limits)?;
        self.lists(place, limits)?;
        self.times(place, limits, offset)?;
        self.changes(place, limits);
        Ok(())
    }

    fn amounts(&mut self, place: &str, limits: &Limits) -> Result<(), PolicyError> {
        let of = |operation: &str| format!("context.operation == {}", quoted(operation));
        let apart = [
            ("deposit", "deposit_max", "a deposit is", &limits.deposit_max),
            ("subscribe", "subscription_max", "a subscription charges", &limits.subscription_max),
        ];
        for (name, text) in &limits.max {
            // What has a limit of its own is not held against the one of a single payment.
            let mut others = String::new();
            for (operation, .., own) in &apart {
                if own.contains_key(name) {
                    let _ = write!(others, "!({}) && ", of(operation));
                }
            }
            let because = format!("a payment costs at most {text} {}", self.unit(name));
            self.more_than(place, ("max", name, text), Refuses::Both, &because, &others)?;
        }
        for (operation, what, that, own) in apart {
            for (name, text) in own {
                let because = format!("{that} at most {text} {}", self.unit(name));
                let only = format!("{} && ", of(operation));
                self.more_than(place, (what, name, text), Refuses::Both, &because, &only)?;
            }
        }
        for (name, text) in &limits.ask_above {
            let because = format!("what costs more than {text} {} is asked for", self.unit(name));
            self.more_than(place, ("ask_above", name, text), Refuses::Unattended, &because, "")?;
        }
        for (name, text) in &limits.min {
            let least = self.nano(place, ("min", name, text))?;
            let because = format!("a payment costs at least {text} {}", self.unit(name));
            let less = if name == ANY {
                format!("(if context has reference then context.reference < {least} else true)")
            } else {
                format!("context.asset == {} && context.amount_floor < {least}", quoted(name))
            };
            let condition = format!("context.operation != \"prove\" && {less}");
            self.forbid(&format!("{place}.min.{name}"), &because, Refuses::Both, &condition);
        }
        // The wallet names what it pays at most: an asset it does not name is not paid in.
        if self.level == Level::Wallet && !limits.max.contains_key(ANY) {
            let named = set(limits.max.keys().map(|it| quoted(it)));
            let condition = if limits.max.is_empty() {
                "context.amount > 0".to_owned()
            } else {
                format!("context.amount > 0 && !({named}.contains(context.asset))")
            };
            let because = "the wallet has no max for the asset";
            self.forbid(&format!("{place}.max"), because, Refuses::Both, &condition);
        }
        Ok(())
    }

    fn more_than(
        &mut self,
        place: &str,
        (what, name, text): (&str, &str, &str),
        refuses: Refuses,
        because: &str,
        only: &str,
    ) -> Result<(), PolicyError> {
        let most = self.nano(place, (what, name, text))?;
        let more = if name == ANY {
            // What has no rate cannot be compared, so it is more; nothing is nothing in every currency.
            format!(
                "(if context has reference then context.reference > {most} else context.amount > 0)"
            )
        } else {
            format!("context.asset == {} && context.amount > {most}", quoted(name))
        };
        self.forbid(&format!("{place}.{what}.{name}"), because, refuses, &format!("{only}{more}"));
        Ok(())
    }

    /// An amount of a limit in billionths, exactly.
    fn nano(
        &self,
        place: &str,
        (what, name, text): (&str, &str, &str),
    ) -> Result<i64, PolicyError> {
        if name == ANY && self.reference.is_empty() {
            return Err(PolicyError::at(
                place,
                &format!("{what}.any needs a [reference] currency with rates"),
            ));
        }
        if name != ANY {
            let asset = known(name, self.assets).ok_or_else(|| unknown_asset(place, name))?;
            // It has to be an amount of the asset, too.
            asset.parse(text).map_err(|error| {
                PolicyError::at(place, &format!("{what}.{name}: {text}: {error}"))
            })?;
        }
        let amount = nano_asset()
            .parse(text)
            .map_err(|error| PolicyError::at(place, &format!("{what}.{name}: {text}: {error}")))?;
        i64::try_from(amount.atoms()).map_err(|_| {
            let most = nano_asset().print(i64::MAX.unsigned_abs().into());
            PolicyError::at(
                place,
                &format!("{what}.{name}: {text} is more than {most}, which is the most"),
            )
        })
    }

    fn unit<'b>(&self, name: &'b str) -> &'b str
    where
        'a: 'b,
    {
        if name == ANY { self.reference } else { name }
    }

    fn lists(&mut self, place: &str, limits: &Limits) -> Result<(), PolicyError> {
        if let Some(operations) = &limits.operations {
            for operation in operations {
                if !OPERATIONS.contains(&operation.as_str()) {
                    let what =
                        format!("operations: {operation:?} is none of {}", OPERATIONS.join(", "));
                    return Err(PolicyError::at(place, &what));
                }
            }
            self.only(place, "operations", Some(operations), Shape::Exact("operation", false))?;
        }
        if let Some(assets) = &limits.assets {
            for name in assets {
                known(name, self.assets).ok_or_else(|| unknown_asset(place, name))?;
            }
        }
        self.only(place, "assets", limits.assets.as_deref(), Shape::Exact("asset", false))?;
        self.only(place, "sellers", limits.sellers.as_deref(), Shape::Origin)?;
        self.only(
            place,
            "recipients",
            limits.recipients.as_deref(),
            Shape::Exact("recipient", false),
        )?;
        self.only(
            place,
            "identities",
            limits.identities.as_deref(),
            Shape::Exact("identity", true),
        )?;
        self.only(
            place,
            "categories",
            limits.categories.as_deref(),
            Shape::Exact("category", true),
        )?;
        self.only(place, "routes", limits.routes.as_deref(), Shape::Path)?;
        self.only(place, "methods", limits.methods.as_deref(), Shape::Exact("method", false))?;
        self.only(place, "tools", limits.tools.as_deref(), Shape::Exact("tool", true))?;
        self.only(place, "rails", limits.rails.as_deref(), Shape::Exact("rail", false))?;
        self.only(place, "networks", limits.networks.as_deref(), Shape::Exact("network", true))?;
        for (what, list, shape) in [
            ("block_sellers", &limits.block_sellers, Shape::Origin),
            ("block_recipients", &limits.block_recipients, Shape::Exact("recipient", false)),
            ("block_identities", &limits.block_identities, Shape::Exact("identity", true)),
        ] {
            if !list.is_empty() {
                let condition = shape.condition(place, what, list)?;
                let because = format!("{} blocks it", self.level);
                self.forbid(&format!("{place}.{what}"), &because, Refuses::Both, &condition);
            }
        }
        Ok(())
    }

    /// Forbids everything that a list does not name.
    fn only(
        &mut self,
        place: &str,
        what: &str,
        list: Option<&[String]>,
        shape: Shape,
    ) -> Result<(), PolicyError> {
        let Some(list) = list else { return Ok(()) };
        let condition = match list {
            [] => "true".to_owned(),
            list => format!("!({})", shape.condition(place, what, list)?),
        };
        let because = format!("{what} of {} does not name it", self.level);
        self.forbid(&format!("{place}.{what}"), &because, Refuses::Both, &condition);
        Ok(())
    }

    fn times(
        &mut self,
        place: &str,
        limits: &Limits,
        offset: UtcOffset,
    ) -> Result<(), PolicyError> {
        if let Some(hours) = &limits.hours {
            let (condition, because) = outside(place, hours, offset)?;
            self.forbid(&format!("{place}.hours"), &because, Refuses::Both, &condition);
        }
        for (what, text, over, because) in [
            ("not_before", &limits.not_before, "<", "it begins later"),
            ("expires", &limits.expires, ">=", "it has expired"),
        ] {
            let Some(text) = text else { continue };
            let at: Timestamp = text
                .parse()
                .map_err(|error| PolicyError::at(place, &format!("{what}: {text:?}: {error}")))?;
            let condition = format!("context.now {over} {}", at.as_secs());
            self.forbid(&format!("{place}.{what}"), because, Refuses::Both, &condition);
        }
        Ok(())
    }

    fn changes(&mut self, place: &str, limits: &Limits) {
        if let Some(refuses) = limits.first_payment.and_then(Then::refuses) {
            let because = "the seller was never paid before";
            self.forbid(
                &format!("{place}.first_payment"),
                because,
                refuses,
                "context.first_payment",
            );
        }
        // Whoever was paid first stays who is paid, unless the owner says otherwise.
        let change = match self.level {
            Level::Wallet => Some(limits.recipient_change.unwrap_or(Then::Ask)),
            Level::Agent(_) | Level::Task(..) | Level::Token(_) => limits.recipient_change,
        };
        if let Some(refuses) = change.and_then(Then::refuses) {
            let because = "the seller names somebody else to be paid than before";
            let rule = format!("{place}.recipient_change");
            self.forbid(&rule, because, refuses, "context.recipient_changed");
        }
        if let Some(refuses) = limits.identity_change.and_then(Then::refuses) {
            let because = "the seller proves another key than before, or none";
            let rule = format!("{place}.identity_change");
            self.forbid(&rule, because, refuses, "context.identity_changed");
        }
        if let Some(rise) = &limits.price_rise
            && let Some(refuses) = rise.then.refuses()
        {
            let bps = i64::from(rise.percent).saturating_mul(100);
            let because = format!("the price rose by more than {} %", rise.percent);
            let condition = format!("context.rise_bps > {bps}");
            self.forbid(&format!("{place}.price_rise"), &because, refuses, &condition);
        }
    }
}

/// How the entries of a list are compared.
#[derive(Clone, Copy)]
enum Shape {
    /// With one text of the context, which may be absent.
    Exact(&'static str, bool),
    /// With the origin; `https://*.` stands for every host below.
    Origin,
    /// With the path; `*` stands for anything.
    Path,
}

impl Shape {
    /// The condition under which one of a list's entries, of which there are some, is met.
    fn condition(self, place: &str, what: &str, list: &[String]) -> Result<String, PolicyError> {
        for entry in list {
            if entry.is_empty() || entry.chars().any(char::is_control) {
                return Err(PolicyError::at(
                    place,
                    &format!("{what}: {entry:?} is empty or not printable"),
                ));
            }
        }
        let any_of = |conditions: Vec<String>| conditions.join(" || ");
        match self {
            Self::Exact(attribute, optional) => {
                let named = set(list.iter().map(|it| quoted(it)));
                let has =
                    if optional { format!("context has {attribute} && ") } else { String::new() };
                Ok(format!("{has}{named}.contains(context.{attribute})"))
            }
            Self::Origin => {
                let origin = |entry: &String| {
                    origin_condition(entry).ok_or_else(|| {
                    let what = format!(
                        "{what}: {entry:?} is no origin; one is written like \"https://api.example.com\" or \
                         \"https://*.example.com\", in lower case and without a path"
                    );
                    PolicyError::at(place, &what)
                })
                };
                Ok(any_of(list.iter().map(origin).collect::<Result<_, _>>()?))
            }
            Self::Path => {
                let path = |entry: &String| {
                    if entry.starts_with('/') || entry == "*" {
                        Ok(format!("context.path like {}", pattern(entry)))
                    } else {
                        let what = format!("{what}: {entry:?}: a path begins with \"/\"");
                        Err(PolicyError::at(place, &what))
                    }
                };
                Ok(any_of(list.iter().map(path).collect::<Result<_, _>>()?))
            }
        }
    }
}

fn origin_condition(entry: &str) -> Option<String> {
    let (scheme, host) = entry.split_once("://")?;
    let below = host.strip_prefix("*.");
    let host = below.unwrap_or(host);
    let spelled = matches!(scheme, "https" | "http")
        && !host.is_empty()
        && host.bytes().all(|it| {
            it.is_ascii_lowercase()
                || it.is_ascii_digit()
                || matches!(it, b'.' | b'-' | b':' | b'[' | b']')
        });
    spelled.then(|| match below {
        // An origin has no path, so that what stands before the dot is hosts' names only.
        Some(_) => format!("context.origin like {}", pattern(entry)),
        None => format!("context.origin == {}", quoted(entry)),
    })
}

/// When it is outside of the hours.
fn outside(place: &str, hours: &Hours, offset: UtcOffset) -> Result<(String, String), PolicyError> {
    let minute = |name: &str, text: &str| {
        minutes_of(text).filter(|it| *it <= 1_440).ok_or_else(|| {
            PolicyError::at(
                place,
                &format!("hours.{name}: {text:?}: a time of day is written \"08:30\""),
            )
        })
    };
    let (from, until) = (minute("from", &hours.from)?, minute("until", &hours.until)?);
    let over = if from < until { "||" } else { "&&" };
    let mut condition = format!("context.minute < {from} {over} context.minute >= {until}");
    let mut because = format!("it is allowed from {} until {} ({offset})", hours.from, hours.until);
    if let Some(days) = &hours.days {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let number = |name: &String| {
            let at = names.iter().position(|it| it == name);
            at.map(|at| at.saturating_add(1).to_string()).ok_or_else(|| {
                PolicyError::at(
                    place,
                    &format!("hours.days: {name:?} is none of {}", names.join(", ")),
                )
            })
        };
        let numbers: Vec<String> = days.iter().map(number).collect::<Result<_, _>>()?;
        if numbers.is_empty() {
            return Ok(("true".to_owned(), "it is allowed on no day".to_owned()));
        }
        condition =
            format!("({condition}) || !({}.contains(context.weekday))", set(numbers.into_iter()));
        let _ = write!(because, " on {}", days.join(", "));
    }
    Ok((condition, because))
}

fn set(entries: impl Iterator<Item = String>) -> String {
    format!("[{}]", entries.collect::<Vec<_>>().join(", "))
}

/// A text as Cedar writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        escape(char, &mut out);
    }
    out.push('"');
    out
}

/// The same as a pattern: `*` stands for anything.
fn pattern(text: &str) -> String {
    // Only what is not escaped stands for anything, and nothing here escapes it.
    quoted(text)
}

fn escape(char: char, out: &mut String) {
    match char {
        '"' | '\\' => out.extend(['\\', char]),
        ' '..='~' => out.push(char),
        other => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(other));
        }
    }
}

/// Policies that were parsed and checked against the schema.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    policies: PolicySet,
    rules: BTreeMap<PolicyId, Rule>,
    schema: Schema,
    actions: Entities,
}

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    because: Option<String>,
    approvals: u8,
}

/// What Cedar says to one question.
struct Said {
    allowed: bool,
    reasons: Vec<Reason>,
    approvals: u8,
    failed: bool,
}

/// What Cedar says in the end.
pub(crate) enum Spoken {
    Allow(Vec<Reason>),
    Ask(Vec<Reason>, u8),
    Deny(Vec<Reason>),
}

impl Engine {
    /// Reads policies and checks them.
    pub(crate) fn new(texts: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let broken =
            |error: &dyn std::fmt::Display| PolicyError::at("the schema", &error.to_string());
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| broken(&error))?;
        let actions = schema.action_entities().map_err(|error| broken(&error))?;
        let (mut policies, mut rules) = (PolicySet::new(), BTreeMap::new());
        let mut taken = std::collections::BTreeSet::new();
        for (name, text) in texts {
            let parsed = PolicySet::from_str(text).map_err(|error| {
                let at = line_of(&error, text);
                PolicyError::at(&format!("{name}{at}"), &error.to_string())
            })?;
            if parsed.templates().next().is_some() {
                return Err(PolicyError::at(
                    name,
                    "templates have nobody to link them; write policies",
                ));
            }
            for policy in parsed.policies() {
                let at = policy.id();
                let id =
                    policy.annotation("id").map_or_else(|| format!("{name}:{at}"), str::to_owned);
                if !taken.insert(id.clone()) {
                    return Err(PolicyError::at(
                        name,
                        &format!("there are two policies with @id({id:?})"),
                    ));
                }
                let approvals = policy.annotation("approvals").map_or(Ok(1), |text| {
                    text.parse::<u8>().ok().filter(|it| *it > 0).ok_or_else(|| {
                        PolicyError::at(
                            name,
                            &format!("{id}: @approvals({text:?}) is no number from 1 to 255"),
                        )
                    })
                });
                let because = policy.annotation("because").map(str::to_owned);
                let unique = PolicyId::new(format!("{name}:{at}"));
                rules.insert(unique.clone(), Rule { id, because, approvals: approvals? });
                policies
                    .add(policy.new_id(unique))
                    .map_err(|error| PolicyError::at(name, &error.to_string()))?;
            }
        }
        let engine = Self { policies, rules, schema, actions };
        engine.validate()?;
        Ok(engine)
    }

    fn validate(&self) -> Result<(), PolicyError> {
        let validator = Validator::new(self.schema.clone());
        let result = validator.validate(&self.policies, ValidationMode::Strict);
        match result.validation_errors().next() {
            None => Ok(()),
            Some(error) => {
                let rule =
                    self.rules.get(error.policy_id()).map_or("a policy", |rule| rule.id.as_str());
                Err(PolicyError::at(rule, &error.to_string()))
            }
        }
    }

    /// Asks both questions.
    pub(crate) fn ask(&self, facts: &Facts, seen: &Seen, offset: UtcOffset) -> Spoken {
        let Some(unattended) = self.one("pay_unattended", facts, seen, offset) else {
            return unasked();
        };
        if unattended.failed {
            return Spoken::Deny(unattended.reasons);
        }
        if unattended.allowed {
            return Spoken::Allow(unattended.reasons);
        }
        let Some(attended) = self.one("pay", facts, seen, offset) else { return unasked() };
        if attended.allowed && !attended.failed {
            return Spoken::Ask(unattended.reasons, unattended.approvals);
        }
        let mut reasons = attended.reasons;
        if reasons.is_empty() {
            reasons.push(Reason::new("default", "no rule allows it"));
        }
        Spoken::Deny(reasons)
    }

    fn one(&self, action: &str, facts: &Facts, seen: &Seen, offset: UtcOffset) -> Option<Said> {
        let uid = |kind: &str, id: &str| {
            let kind = EntityTypeName::from_str(&format!("Farthing::{kind}")).ok()?;
            Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
        };
        let request = Request::new(
            uid("Agent", &facts.agent)?,
            uid("Action", action)?,
            uid("Seller", &facts.origin)?,
            context(facts, seen, offset)?,
            Some(&self.schema),
        );
        let response =
            Authorizer::new().is_authorized(&request.ok()?, &self.policies, &self.actions);
        let diagnostics = response.diagnostics();
        let failures: Vec<Reason> =
            diagnostics.errors().map(|error| Reason::new("error", error.to_string())).collect();
        let decided: Vec<&Rule> =
            diagnostics.reason().filter_map(|id| self.rules.get(id)).collect();
        let said = |rule: &&Rule| {
            Reason::new(&rule.id, rule.because.as_deref().unwrap_or("the policy says so"))
        };
        let failed = !failures.is_empty();
        let mut reasons = if failed { failures } else { decided.iter().map(said).collect() };
        reasons.sort_by(|a, b| a.rule.cmp(&b.rule));
        Some(Said {
            allowed: response.decision() == Answer::Allow,
            reasons,
            approvals: decided.iter().map(|rule| rule.approvals).max().unwrap_or(1),
            failed,
        })
    }
}

fn unasked() -> Spoken {
    Spoken::Deny(vec![Reason::new("error", "the payment cannot be put to the policy")])
}

/// Where in a text a parse error is.
fn line_of(error: &cedar_policy::ParseErrors, text: &str) -> String {
    use miette::Diagnostic;
    let label = error.labels().and_then(|mut labels| labels.next());
    let before = label.and_then(|label| text.get(..label.offset()));
    before
        .map(|text| format!(", line {}", text.matches('\n').count().saturating_add(1)))
        .unwrap_or_default()
}

fn context(facts: &Facts, seen: &Seen, offset: UtcOffset) -> Option<Context> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let (minute, weekday) = offset.minute_and_weekday(facts.at);
    let (long, bool) = (RestrictedExpression::new_long, RestrictedExpression::new_bool);
    let mut pairs = vec![
        ("operation", text(&facts.operation)),
        ("origin", text(&facts.origin)),
        ("method", text(&facts.method)),
        ("path", text(&facts.path)),
        ("rail", text(&facts.rail)),
        ("asset", text(facts.asset.as_str())),
        ("amount", long(seen.amount)),
        ("amount_floor", long(seen.amount_floor)),
        ("recipient", text(&facts.recipient)),
        ("first_payment", bool(facts.is_first_payment())),
        ("recipient_changed", bool(facts.is_recipient_changed())),
        ("identity_changed", bool(facts.is_identity_changed())),
        ("rise_bps", long(seen.rise_bps)),
        ("now", long(i64::try_from(facts.at.as_secs()).ok()?)),
        ("minute", long(minute)),
        ("weekday", long(weekday)),
    ];
    for (name, value) in [
        ("task", &facts.task),
        ("tool", &facts.tool),
        ("category", &facts.category),
        ("network", &facts.network),
        ("identity", &facts.identity),
    ] {
        pairs.extend(value.as_deref().map(|value| (name, text(value))));
    }
    pairs.extend(seen.reference.map(|it| ("reference", long(it))));
    Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value))).ok()
}

const _: () = assert!(NANO_DECIMALS == 9, "the schema says billionths");
