use farthing_ledger::BudgetKey;
use farthing_money::{Asset, Timestamp};

use super::*;

#[test]
fn a_budget_is_read_by_people() {
    let usd = Asset::new(AssetId::new("usd").unwrap(), 2).unwrap();
    let assets: Assets = [usd].into_iter().collect();
    let draw = |key: &str, limit, window| Draw {
        key: BudgetKey::new(key.to_owned()),
        rule: "agents.bot.budgets[0].max".to_owned(),
        amount: 0,
        limit,
        window,
        used: 0,
    };
    let end = Timestamp::from_micros(1);
    let day = draw("agent bot|2026-11-26|usd|seller https://a|b", 200, Window::Until(end));
    let day = BudgetView::of(&day, 51, &assets);
    assert_eq!(
        (day.level.as_str(), day.each.as_deref()),
        ("agent bot", Some("seller https://a|b"))
    );
    assert_eq!((day.used_text.as_str(), day.limit_text.as_str()), ("0.51 usd", "2.00 usd"));
    assert_eq!((day.used_permille, day.resets_at, day.rolls_s), (255, Some(When(end)), None));
    let any = draw("wallet|3600s|any", 1_500_000_000, Window::Rolling(3_600));
    let any = BudgetView::of(&any, 1, &assets);
    assert_eq!((any.used_text.as_str(), any.limit_text.as_str()), ("0.000000001", "1.5"));
    assert_eq!((any.used_permille, any.rolls_s), (1, Some(3_600)));
    let none = draw("wallet|ever|payments", 0, Window::Ever);
    assert_eq!(BudgetView::of(&none, 0, &assets).used_permille, 1_000);
    assert_eq!(BudgetView::of(&none, 7, &assets).used_text, "7 payments");
}
