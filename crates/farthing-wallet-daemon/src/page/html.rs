//! How the page looks: what is asked, in the wallet's words and with every text escaped.

use farthing_money::{Amount, Assets, Timestamp, parse_atoms};
use farthing_wallet::{ApprovalRequest, ApprovalState, BudgetView, plain};
use maud::{DOCTYPE, Markup, html};

use super::sessions::Session;

#[cfg(test)]
mod tests;

/// How many of those that were answered are listed.
const ANSWERED_MAX: usize = 20;

/// Something that is said instead of a request.
pub(super) struct Notice {
    pub(super) title: String,
    pub(super) text: String,
    /// Where to go on.
    pub(super) back: Option<String>,
}

/// Who looks.
pub(super) struct Viewer<'a> {
    pub(super) assets: &'a Assets,
    pub(super) now: Timestamp,
    /// The path of a session, whose it is, and whether their answers count; nothing for whoever came by a link
    /// that is for one request.
    pub(super) desk: Option<(String, &'a Session, bool)>,
}

fn page(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Farthing" }
                link rel="stylesheet" href="/style.css";
            }
            body { main { (content) } }
        }
    }
}

pub(super) fn notice(Notice { title, text, back }: &Notice) -> Markup {
    page(
        title,
        &html! {
            h1 { (title) }
            p { (text) }
            @if let Some(back) = back { p { a href=(back) { "See how it stands" } } }
        },
    )
}

pub(super) fn invite(approver: &str) -> Markup {
    page(
        "What waits for approval",
        &html! {
            h1 { "What waits for approval" }
            p { "This link is for " strong { (approver) } ", and opens once." }
            form method="post" { button type="submit" id="open" { "Open" } }
        },
    )
}

pub(super) fn list(requests: &[ApprovalRequest], viewer: &Viewer<'_>) -> Markup {
    let stands =
        |request: &&ApprovalRequest| request.state_at(viewer.now) == ApprovalState::Waiting;
    let waiting: Vec<&ApprovalRequest> = requests.iter().filter(stands).collect();
    let answered = requests.iter().filter(|request| !stands(request)).take(ANSWERED_MAX);
    let Some((path, session, _)) = &viewer.desk else { return html! {} };
    page(
        "What waits for approval",
        &html! {
            h1 { "What waits for approval" }
            p.quiet {
                "You answer as " strong { (session.approver) } ". As of " (moment(viewer.now)) ". "
                a href=(format!("/desk/{path}")) { "Look again" }
            }
            @if waiting.is_empty() { p id="nothing" { "Nothing waits." } }
            // The one that has waited longest stands first, so that what comes in moves nothing under a hand.
            @for request in waiting.iter().rev() { (card(request, viewer)) }
            h2 { "Answered" }
            ul {
                @for request in answered {
                    li {
                        a href=(format!("/desk/{path}/approvals/{}", request.id)) { (price(request, viewer)) }
                        " to " (plain(&request.asked.recipient)) " for " (request.agent) ": "
                        (request.state_at(viewer.now).name())
                    }
                }
            }
            form method="post" action=(format!("/desk/{path}/leave")) {
                button.quiet type="submit" { "Leave" }
            }
        },
    )
}

pub(super) fn one(request: &ApprovalRequest, viewer: &Viewer<'_>) -> Markup {
    let state = request.state_at(viewer.now);
    let title = match state {
        ApprovalState::Waiting => "It waits for an answer",
        ApprovalState::Approved => "Approved",
        ApprovalState::Denied => "Denied",
        ApprovalState::Used => "Approved, and used",
        ApprovalState::Expired => "This request has expired",
    };
    page(
        title,
        &html! {
            h1 id="state" class=(state.name()) { (title) }
            (card(request, viewer))
            @if let Some((path, ..)) = &viewer.desk {
                p { a href=(format!("/desk/{path}")) { "All that waits" } }
            }
        },
    )
}

fn price(request: &ApprovalRequest, viewer: &Viewer<'_>) -> String {
    let asked = &request.asked;
    let atoms = parse_atoms(&asked.atoms).unwrap_or_default();
    viewer.assets.print(&Amount::new(asked.asset.clone(), atoms))
}

fn moment(at: Timestamp) -> Markup {
    html! { time datetime=(at.to_string()) { (at.to_string()) } }
}

/// One request, with everything that an answer is about.
fn card(request: &ApprovalRequest, viewer: &Viewer<'_>) -> Markup {
    let ApprovalRequest { id, asked_at, expires_at, asked, .. } = request;
    let state = request.state_at(viewer.now);
    html! {
        section.card id=(id) {
            p.price { (price(request, viewer)) }
            dl {
                (row("To", &asked.recipient))
                (row("At", &asked.origin))
                (row("For", &asked.what))
                (row("Asked by", &who(request)))
                (row("Paid by", &format!("{} of {}", asked.method, asked.asset)))
                @if let Some(quote) = &asked.quote {
                    dt { "The offer" }
                    dd {
                        code { (plain(&quote.challenge)) }
                        @if let Some(until) = quote.expires_at { ", which stands until " (moment(until)) }
                        @if let Some(words) = &quote.description {
                            br; "In the seller’s own words, which prove nothing: " q { (plain(words)) }
                        }
                    }
                }
                dt { "Why it is asked" }
                @for reason in &asked.reasons {
                    dd {
                        code { (reason.rule) } ": " (reason.because)
                        @if let Some(limit) = &reason.limit { " (limit " (limit) ")" }
                    }
                }
                @for draw in &asked.draws {
                    @let view = BudgetView::of(draw, draw.used, viewer.assets);
                    dt { "Budget of " (view.level) }
                    dd {
                        (view.used_text) " of " (view.limit_text) " were used when it was asked"
                        @if let Some(reset) = view.resets_at { ", until " (moment(reset.0)) }
                        " (" code { (view.rule) } ")"
                    }
                }
                dt { "Asked at" } dd { (moment(*asked_at)) }
                dt { (match state {
                    ApprovalState::Waiting => "Answer by",
                    ApprovalState::Approved => "To be used by",
                    ApprovalState::Denied => "Stays denied until",
                    ApprovalState::Used | ApprovalState::Expired => "It stood until",
                }) }
                dd { (moment(*expires_at)) }
                dt { "Approved" }
                dd {
                    (asked.by.len()) " of " (asked.approvals)
                    @if !asked.by.is_empty() { ": " (asked.by.join(", ")) }
                }
            }
            (form(request, viewer))
        }
    }
}

fn who(request: &ApprovalRequest) -> String {
    let asked = &request.asked;
    let task = asked.task.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
    let tool = asked.tool.as_ref().map(|tool| format!(", tool {tool}")).unwrap_or_default();
    format!("{}{task}{tool}", request.agent)
}

fn row(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (plain(value)) } }
}

/// The buttons, where an answer would count.
fn form(request: &ApprovalRequest, viewer: &Viewer<'_>) -> Markup {
    let buttons = html! {
        button.approve type="submit" name="answer" value="approve" { "Approve " (price(request, viewer)) }
        button.deny type="submit" name="answer" value="deny" { "Deny" }
    };
    match (&viewer.desk, request.state_at(viewer.now)) {
        (Some((_, session, _)), ApprovalState::Waiting)
            if request.asked.by.contains(&session.approver) =>
        {
            html! { p.state { "You have approved it, and others have to as well." } }
        }
        (Some((path, session, true)), ApprovalState::Waiting) => html! {
            form method="post" action=(format!("/desk/{path}/approvals/{}", request.id)) {
                input type="hidden" name="seal" value=(session.seal(request));
                (buttons)
            }
        },
        (Some((_, session, false)), ApprovalState::Waiting) => html! {
            p.quiet { (session.approver) " is none of the policy’s approvers." }
        },
        (None, ApprovalState::Waiting) => html! { form method="post" { (buttons) } },
        (
            _,
            ApprovalState::Approved
            | ApprovalState::Denied
            | ApprovalState::Used
            | ApprovalState::Expired,
        ) => html! { p.state { "It is " (request.state_at(viewer.now).name()) "." } },
    }
}
