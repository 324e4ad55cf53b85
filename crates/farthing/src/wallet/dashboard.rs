//! `farthing wallet dashboard`: how the wallet stands, full screen, until `q` is pressed.

use std::time::Duration;

use farthing_wallet::{WalletStatus, plain};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::status::{Reading, reset, total, whose};
use crate::failure::{Done, Failure};
use crate::home::Home;

#[cfg(test)]
mod tests;

/// How often it is looked again.
const LOOKED: Duration = Duration::from_secs(1);

/// From how many thousandths on a budget is nearly used up.
const NEARLY: u16 = 800;

/// Shows the dashboard until somebody ends it.
pub(super) async fn run(home: Home) -> Done {
    let shown = tokio::task::spawn_blocking(move || {
        let reading = Reading::of(&home)?;
        // What cannot be read at all is said where it can be read.
        let mut status = reading.read();
        if let Err(failure) = status {
            return Err(failure);
        }
        let mut terminal = ratatui::try_init().map_err(Failure::other)?;
        let ended = loop {
            let drawn = terminal.draw(|frame| match &status {
                Ok(status) => draw(frame, status),
                Err(failure) => {
                    frame.render_widget(Paragraph::new(failure.to_string()), frame.area());
                }
            });
            if let Err(error) = drawn {
                break Err(error);
            }
            match is_over() {
                Ok(false) => status = reading.read(),
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        ratatui::restore();
        ended.map_err(Failure::other)
    });
    shown.await.map_err(Failure::other)?
}

/// Waits for a key, or until it is time to look again. `true` if the key ends the dashboard.
fn is_over() -> std::io::Result<bool> {
    if !event::poll(LOOKED)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else { return Ok(false) };
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_end = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || is_interrupt;
    Ok(is_end && key.kind == KeyEventKind::Press)
}

/// Draws a status.
fn draw(frame: &mut Frame<'_>, status: &WalletStatus) {
    let bars = bars(status);
    let waiting = waiting(status);
    let height = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2);
    let [head, budgets, open, payments, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Max(height(bars.len().max(1))),
        Constraint::Max(height(waiting.len().max(1))),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(status), head);
    block(frame, budgets, "Budgets and caps", bars, "none stands");
    block(frame, open, "Open", waiting, "nothing waits, and every end is known");
    block(frame, payments, "Payments", paid(status), "nothing was paid");
    frame.render_widget(Line::from("q ends").dim(), foot);
}

fn title(status: &WalletStatus) -> Line<'static> {
    let mut spans = vec![format!("Farthing, for {}", status.agent).bold()];
    let frozen: Vec<&str> = status.frozen_agents.iter().map(String::as_str).collect();
    if status.frozen || frozen.contains(&"*") {
        spans.push("  FROZEN".fg(Color::Red).add_modifier(Modifier::BOLD));
    } else if !frozen.is_empty() {
        spans.push(format!("  frozen: {}", frozen.join(", ")).fg(Color::Red));
    }
    Line::from(spans)
}

fn block(frame: &mut Frame<'_>, area: Rect, name: &str, lines: Vec<Line<'_>>, none: &str) {
    let lines = if lines.is_empty() { vec![Line::from(none.to_owned()).dim()] } else { lines };
    frame
        .render_widget(Paragraph::new(lines).block(Block::bordered().title(name.to_owned())), area);
}

/// A bar of twenty cells, in the colour of how near its end it is.
fn bar(permille: u16) -> Span<'static> {
    let full = usize::from(permille).saturating_mul(20).div_ceil(1_000).min(20);
    let text = format!("{}{}", "█".repeat(full), "·".repeat(20_usize.saturating_sub(full)));
    let color = match permille {
        1_000.. => Color::Red,
        NEARLY.. => Color::Yellow,
        _ => Color::Green,
    };
    Span::styled(text, Style::new().fg(color))
}

fn bars(status: &WalletStatus) -> Vec<Line<'static>> {
    let caps = status.caps.iter().filter_map(total);
    let caps = caps.map(|(used, permille)| {
        Line::from(vec![bar(permille), format!("  {used:<28}  in all").into()])
    });
    let budgets = status.budgets.iter().map(|budget| {
        let used = format!("{} of {}", budget.used_text, budget.limit_text);
        let rest = format!("  {used:<28}  {}  {}", whose(budget), reset(budget));
        Line::from(vec![bar(budget.used_permille), rest.into()])
    });
    caps.chain(budgets).collect()
}

/// What somebody should know of: what waits, what has no end yet, and what is held.
fn waiting(status: &WalletStatus) -> Vec<Line<'static>> {
    let approvals = status.approvals.iter().map(|it| {
        let (to, what) = (plain(&it.recipient), plain(&it.what));
        let text = format!(
            "{} to {to} for {what}, asked by {}, until {}",
            it.amount.text, it.agent, it.expires_at
        );
        Line::from(vec!["waits       ".fg(Color::Yellow), format!("{}  {text}", it.id).into()])
    });
    let outstanding = status.outstanding.iter().map(|it| {
        let word = if it.refused { "refused     " } else { "unanswered  " };
        let text = format!("{}  held until {}  {}", it.payment, it.expires_at, it.origin);
        Line::from(vec![word.fg(Color::Magenta), text.into()])
    });
    let deposits = status.deposits.iter().map(|sum| {
        Line::from(vec!["deposited   ".cyan(), format!("{} in sessions", sum.text).into()])
    });
    let subscriptions = status.subscriptions.iter().map(|it| {
        let (each, at) = (&it.period, plain(&it.origin));
        let text =
            format!("{} each {each} at {at} ({}), until {}", it.amount.text, it.state, it.until);
        Line::from(vec!["subscribed  ".cyan(), text.into()])
    });
    approvals.chain(outstanding).chain(deposits).chain(subscriptions).collect()
}

fn paid(status: &WalletStatus) -> Vec<Line<'static>> {
    let line = |it: &farthing_wallet::PaymentLine| {
        let agent = it.agent.as_ref().map(|agent| format!(" ({agent})")).unwrap_or_default();
        let (to, what) = (plain(&it.recipient), plain(&it.what));
        Line::from(format!(
            "{}  {:<8}  {:>14} to {to}  {what}{agent}",
            it.at, it.state, it.amount.text
        ))
    };
    status.payments.iter().map(line).collect()
}
