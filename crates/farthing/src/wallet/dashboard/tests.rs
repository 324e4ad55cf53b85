use farthing_wallet::WalletStatus;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;

fn status() -> WalletStatus {
    let when = "2026-11-27T00:00:00Z";
    let sum = json!({ "asset": "usd", "atoms": "25", "text": "0.25 usd" });
    let budget = |used: u32, permille: u32| {
        json!({
            "budget": "agent bot|2026-11-26|usd", "rule": "agents.bot.budgets[0].max.usd",
            "level": "agent bot", "used": used.to_string(), "limit": "200",
            "usedText": format!("{used} cents"), "limitText": "200 cents",
            "usedPermille": permille, "resetsAt": when,
        })
    };
    serde_json::from_value(json!({
        "agent": "owner", "frozen": false, "frozenAgents": ["other"],
        "caps": [{ "asset": "usd", "totalMax": "20.00 usd", "used": "5.00 usd", "usedPermille": 250 }],
        "budgets": [budget(150, 750), budget(200, 1_000)],
        "payments": [{
            "payment": "pay_00000000000000000000000000000001",
            "trace": "019ab0b6-0000-7000-8000-000000000000", "at": when, "agent": "bot",
            "what": "GET http://127.0.0.1/quote", "amount": sum, "recipient": "sel\u{1b}ler",
            "method": "prepaid", "state": "paid",
        }],
        "approvals": [{
            "id": "apr_1", "agent": "bot", "askedAt": when, "expiresAt": when, "state": "waiting",
            "origin": "http://127.0.0.1", "what": "GET /report", "recipient": "seller",
            "asset": "usd", "atoms": "25", "because": [], "approvals": 1, "by": [],
            "answeredAt": null, "amount": sum, "method": "prepaid", "reasons": [], "budgets": [],
        }],
        "outstanding": [], "deposits": [sum], "sessions": [], "subscriptions": [],
    }))
    .unwrap()
}

/// What is drawn, as text.
fn drawn(status: &WalletStatus, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, status)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_dashboard_shows_what_is_used_what_waits_and_what_was_paid() {
    let shown = drawn(&status(), 130, 24);
    for text in [
        "frozen: other",
        "█████···············  5.00 usd of 20.00 usd",
        "███████████████·····  150 cents of 200 cents",
        "████████████████████  200 cents of 200 cents",
        "agent bot  anew 2026-11-27T00:00:00Z",
        "waits       apr_1  0.25 usd to seller for GET /report, asked by bot",
        "deposited   0.25 usd in sessions",
        "paid            0.25 usd to sel\u{fffd}ler  GET http://127.0.0.1/quote (bot)",
    ] {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
}

#[test]
fn a_small_terminal_and_an_empty_wallet_are_drawn_too() {
    drawn(&status(), 20, 5);
    let mut empty = status();
    empty.frozen = true;
    (empty.budgets, empty.caps, empty.payments) = (Vec::new(), Vec::new(), Vec::new());
    (empty.approvals, empty.deposits) = (Vec::new(), Vec::new());
    let shown = drawn(&empty, 80, 20);
    assert!(shown.contains("FROZEN") && shown.contains("nothing was paid"), "{shown}");
}
