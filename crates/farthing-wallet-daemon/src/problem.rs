//! What went wrong, as programs can act upon it: problem documents (RFC 9457).
//!
//! 403 is the owner's policy, 401 is a token, 409 is an earlier payment, 502 and 504 are the seller's, 503 is
//! ours. Whether money may have moved is in `payment`: where it is said, its price is held or spent.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use farthing_core::PayError;
use farthing_ledger::PaymentId;
use farthing_money::{Assets, Timestamp};
use farthing_policy::Decision;
use farthing_wallet::{ApprovalRequest, BooksError, BudgetView, Objection, PayFailure, When};
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use crate::keeper::Stranger;

/// What every problem's type begins with; its code follows.
const TYPE: &str = "urn:farthing:problem:";

/// A problem document.
#[derive(Debug)]
pub(crate) struct Problem(Box<Document>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// Stable, for programs.
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<PaymentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<Asked>,
}

/// One rule that decided.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    rule: String,
    because: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<String>,
}

/// Where the answer to a request for approval is found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    id: String,
    href: String,
    /// Where the owner answers, if the wallet shows a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    expires_at: When,
}

impl Problem {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over as they come")]
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self(Box::new(Document {
            kind: format!("{TYPE}{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.to_string(),
            code,
            reasons: Vec::new(),
            payment: None,
            held_until: None,
            approval: None,
        }))
    }

    /// The request itself cannot be understood.
    pub(crate) fn malformed(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// Its code, stable, for programs.
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    pub(crate) fn is(&self, status: StatusCode) -> bool {
        self.0.status == status.as_u16()
    }

    fn of(mut self, payment: PaymentId, held_until: Option<Timestamp>) -> Self {
        self.0.payment = Some(payment);
        self.0.held_until = held_until.map(When);
        self
    }

    fn because(mut self, reasons: Vec<Why>) -> Self {
        self.0.reasons = reasons;
        self
    }

    /// What became of a payment that was not made, or not answered.
    pub(crate) fn of_failure(failure: &PayFailure, assets: &Assets) -> Self {
        let at = |status, code| Self::new(status, code, failure);
        match failure {
            PayFailure::Unsafe(_) => at(StatusCode::BAD_REQUEST, "unsafe-url"),
            PayFailure::Unreachable(_) => at(StatusCode::BAD_GATEWAY, "unreachable"),
            PayFailure::Objections(objections) => {
                let why = objections.iter().flat_map(|(_, objection)| why(objection, assets));
                let detail = if objections.is_empty() {
                    "The seller makes no offer that can be read."
                } else {
                    "None of the seller's offers may be paid."
                };
                Self::new(StatusCode::FORBIDDEN, "no-offer", detail).because(why.collect())
            }
            PayFailure::Books(error) => Self::of_books(error),
            PayFailure::Memory(_) => at(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            PayFailure::Denied(decision) => {
                at(StatusCode::FORBIDDEN, "denied").because(of(decision))
            }
            PayFailure::Parked(request) => Self::parked(request, assets),
            PayFailure::NoPolicy => at(StatusCode::FORBIDDEN, "no-policy"),
            PayFailure::Revoked => at(StatusCode::UNAUTHORIZED, "token"),
            PayFailure::Rail(error) => match error {
                PayError::Invitation(_) => at(StatusCode::FORBIDDEN, "no-offer"),
                PayError::Refused => at(StatusCode::FORBIDDEN, "rail-refused"),
                PayError::Unsent => at(StatusCode::SERVICE_UNAVAILABLE, "rail-unavailable"),
                PayError::Unknown => at(StatusCode::GATEWAY_TIMEOUT, "unknown"),
            },
            PayFailure::Refused(refused) => at(StatusCode::BAD_GATEWAY, "seller-refused")
                .of(refused.payment, Some(refused.held_until)),
            PayFailure::Disputed { .. } => at(StatusCode::BAD_GATEWAY, "disputed"),
            PayFailure::Answered { payment } => {
                at(StatusCode::CONFLICT, "answered").of(*payment, None)
            }
            PayFailure::NoPayment => at(StatusCode::NOT_FOUND, "no-payment"),
            PayFailure::Stopped { payment, .. } => {
                at(StatusCode::BAD_GATEWAY, "stopped").of(*payment, None)
            }
            PayFailure::NoWayOut => at(StatusCode::CONFLICT, "no-way-out"),
            PayFailure::NoSession => at(StatusCode::NOT_FOUND, "no-session"),
            PayFailure::NoSubscription => at(StatusCode::NOT_FOUND, "no-subscription"),
            PayFailure::Hanging => at(StatusCode::GATEWAY_TIMEOUT, "unknown"),
            PayFailure::Unknown { payment, held_until } => {
                at(StatusCode::GATEWAY_TIMEOUT, "unknown").of(*payment, Some(*held_until))
            }
            PayFailure::Unanswered { payment, .. } => {
                at(StatusCode::CONFLICT, "unanswered").of(*payment, None)
            }
            PayFailure::Unresolved { payment } => {
                at(StatusCode::CONFLICT, "unresolved").of(*payment, None)
            }
        }
    }

    fn of_books(error: &BooksError) -> Self {
        let at = |status, code| Self::new(status, code, error);
        match error {
            BooksError::OverTotal => {
                let why = Why::new("total_max", error);
                at(StatusCode::FORBIDDEN, "denied").because(vec![why])
            }
            BooksError::OverBudget { used, .. } => {
                let why = Why { used: Some(used.to_string()), ..Why::new("budgets", error) };
                at(StatusCode::FORBIDDEN, "denied").because(vec![why])
            }
            BooksError::Frozen => {
                at(StatusCode::FORBIDDEN, "frozen").because(vec![Why::new("frozen", error)])
            }
            BooksError::PaidBefore => at(StatusCode::CONFLICT, "paid-before"),
            BooksError::Open(_) | BooksError::Unavailable => {
                at(StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        }
    }

    fn parked(request: &ApprovalRequest, assets: &Assets) -> Self {
        let detail = format!("{} waits for approval.", request.id);
        let mut problem = Self::new(StatusCode::FORBIDDEN, "waiting", detail);
        problem.0.reasons = asked(request, assets);
        problem.0.approval = Some(Asked {
            id: request.id.clone(),
            href: format!("/v1/approvals/{}", request.id),
            link: None,
            expires_at: When(request.expires_at),
        });
        problem
    }

    /// The same, where the owner's page is at an address: whoever waits can show their people where to answer.
    pub(crate) fn shown_at(mut self, page: Option<&str>) -> Self {
        if let (Some(approval), Some(page)) = (&mut self.0.approval, page) {
            approval.link = Some(format!("{page}/approvals/{}", approval.id));
        }
        self
    }

    /// The document, for a proxy's client or an API's.
    pub(crate) fn answer(self, challenge: Option<(HeaderName, &'static str)>) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        // In-memory data with string keys always serialises.
        let body = Body::from(serde_json::to_vec(&self.0).unwrap_or_default());
        let mut response = Response::new(body);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = challenge {
            fields.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Self {
        match &stranger {
            Stranger::Token => Self::new(StatusCode::UNAUTHORIZED, "token", stranger),
            Stranger::Broken(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", stranger)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let unauthorized = self.is(StatusCode::UNAUTHORIZED);
        self.answer(unauthorized.then_some((WWW_AUTHENTICATE, "Bearer realm=\"farthing wallet\"")))
    }
}

impl Why {
    fn new(rule: &str, because: &impl ToString) -> Self {
        let because = because.to_string();
        Self { rule: rule.to_owned(), because, limit: None, used: None, requested: None }
    }
}

/// The rules that ask, and the budgets that it would draw from as they stood then.
fn asked(request: &ApprovalRequest, assets: &Assets) -> Vec<Why> {
    let asked = &request.asked;
    let atoms = farthing_money::parse_atoms(&asked.atoms).unwrap_or_default();
    let price = assets.print(&farthing_money::Amount::new(asked.asset.clone(), atoms));
    let asks = asked.reasons.iter().map(|asker| Why {
        limit: asker.limit.clone(),
        requested: Some(price.clone()),
        ..Why::new(&asker.rule, &asker.because)
    });
    let draws = asked.draws.iter().map(|draw| {
        let view = BudgetView::of(draw, draw.used, assets);
        Why {
            limit: Some(view.limit),
            used: Some(view.used),
            requested: Some(BudgetView::of(draw, draw.amount, assets).used),
            ..Why::new(&draw.rule, &"it would draw from this budget")
        }
    });
    asks.chain(draws).collect()
}

/// The rules that a decision rests on.
fn of(decision: &Decision) -> Vec<Why> {
    let why = |reason: &farthing_policy::Reason| {
        let exceeded = reason.exceeded.as_ref();
        Why {
            limit: exceeded.map(|it| it.limit.to_string()),
            used: exceeded.map(|it| it.used.to_string()),
            requested: exceeded.map(|it| it.requested.to_string()),
            ..Why::new(&reason.rule, &reason.because)
        }
    };
    decision.reasons.iter().map(why).collect()
}

/// Why an offer may not be paid.
fn why(objection: &Objection, assets: &Assets) -> Vec<Why> {
    let rule = match objection {
        Objection::Policy(decision) => return of(decision),
        Objection::OverCap { price, cap } => {
            return vec![Why {
                limit: Some(assets.print(cap)),
                requested: Some(assets.print(price)),
                ..Why::new("per_payment_max", &objection.explain(assets))
            }];
        }
        Objection::Session => "session_deposit_max",
        Objection::Subscription => "subscription_max",
        Objection::Unpayable(_) => "unpayable",
        Objection::Validity => "validity_max_s",
        Objection::Expired => "expired",
        Objection::Realm { .. } => "sellers.realm",
        Objection::Body => "body",
        Objection::Funds => "funds",
        Objection::Recipient(_) => "sellers.recipients",
        Objection::NoCap(_) => "assets",
        Objection::OtherAsset { .. } => "maxAmount",
    };
    vec![Why::new(rule, &objection.explain(assets))]
}
