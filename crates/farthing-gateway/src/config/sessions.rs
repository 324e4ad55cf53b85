//! Sessions, as the configuration has them.

use std::sync::Arc;

use farthing_core::SESSION;
use farthing_money::{Amount, Assets};
use toml::Spanned;

use super::{Read, Reader, raw};

/// The longest name of what is counted, in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// How a route can be paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intents {
    /// Request by request.
    pub charge: bool,
    /// On one deposit, where a rail has sessions.
    pub session: Option<SessionConfig>,
}

/// What a route's sessions are like. Amounts are by asset, one at most for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionConfig {
    /// What is counted, such as `request`.
    pub unit: Option<Arc<str>>,
    /// The deposits that are proposed.
    pub deposit: Vec<Amount>,
    /// The least deposits.
    pub deposit_min: Vec<Amount>,
    /// The least by which vouchers must advance.
    pub delta_min: Vec<Amount>,
}

impl SessionConfig {
    /// The amount of `amounts` that is in the asset of `price`.
    #[must_use]
    pub fn of<'a>(amounts: &'a [Amount], price: &Amount) -> Option<&'a Amount> {
        amounts.iter().find(|amount| amount.asset() == price.asset())
    }
}

impl Reader<'_> {
    /// A route is paid request by request, unless it says otherwise.
    pub(super) fn intents(&self, route: &raw::Route, assets: &Assets) -> Read<Intents> {
        let named = |name: &str| match &route.intents {
            Some(intents) => intents.get_ref().iter().any(|it| it == name),
            None => name == "charge",
        };
        if let Some(intents) = &route.intents {
            let known = |name: &String| name == "charge" || name == SESSION;
            if intents.get_ref().is_empty() || !intents.get_ref().iter().all(known) {
                return Err(self.fault(intents, "intents are \"charge\" and \"session\""));
            }
        }
        let session = match (named(SESSION), &route.session) {
            (true, Some(session)) => Some(self.session(session.get_ref(), assets)?),
            (true, None) => Some(SessionConfig::default()),
            (false, Some(session)) => {
                let what = "a route whose intents have no \"session\" has no sessions";
                return Err(self.fault(session, what));
            }
            (false, None) => None,
        };
        Ok(Intents { charge: named("charge"), session })
    }

    fn session(&self, raw: &raw::RouteSession, assets: &Assets) -> Read<SessionConfig> {
        let amounts = |price: &Option<Spanned<raw::Price>>| {
            price.as_ref().map_or(Ok(Vec::new()), |price| self.prices(price, assets))
        };
        if let Some(unit) = &raw.unit {
            let text = unit.get_ref();
            let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if text.is_empty() || text.len() > UNIT_BYTES_MAX || !is_word {
                return Err(self.fault(unit, "what is counted is one word, like request"));
            }
        }
        Ok(SessionConfig {
            unit: raw.unit.as_ref().map(|unit| unit.get_ref().as_str().into()),
            deposit: amounts(&raw.deposit)?,
            deposit_min: amounts(&raw.deposit_min)?,
            delta_min: amounts(&raw.delta_min)?,
        })
    }
}
