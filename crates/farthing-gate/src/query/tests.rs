use proptest::prelude::*;

use super::{BoundQuery, normalise_query};

/// B-15: every spelling of one query is the same purchase, and no two queries are.
#[test]
fn a_query_has_one_spelling() {
    for (query, want) in [
        ("", ""),
        ("tier=basic", "tier=basic"),
        ("b=2&a=1", "a=1&b=2"),
        ("a=1&&b=2&", "a=1&b=2"),
        ("a=2&a=1", "a=2&a=1"),
        ("%61=%31", "a=1"),
        ("q=a+b", "q=a%20b"),
        ("q=a%20b", "q=a%20b"),
        ("q=a%2Bb", "q=a%2Bb"),
        ("q=%c3%a9", "q=%C3%A9"),
        ("q=é", "q=%C3%A9"),
        ("flag", "flag"),
        ("flag=", "flag="),
        ("q=%zz", "q=%25zz"),
        ("q=a%26b=c", "q=a%26b%3Dc"),
    ] {
        assert_eq!(normalise_query(query), want, "{query}");
    }
    assert_ne!(normalise_query("tier=basic"), normalise_query("tier=premium"));
    assert_ne!(normalise_query("a=1&a=2"), normalise_query("a=2&a=1"));
    assert_ne!(normalise_query("flag"), normalise_query("flag="));
}

#[test]
fn only_the_bound_part_counts() {
    let only = BoundQuery::Only(vec!["tier".into()]);
    assert_eq!(only.of("utm=x&tier=basic"), "tier=basic");
    assert_eq!(only.of("t%69er=basic&b=1"), "tier=basic");
    assert_eq!(BoundQuery::None.of("tier=basic"), "");
    assert_eq!(BoundQuery::All.of("utm=x&tier=basic"), "tier=basic&utm=x");
}

proptest! {
    #[test]
    fn normal_is_a_fixed_point(query in "[a-c&=%+0-9A-F~é ]{0,30}") {
        let once = normalise_query(&query);
        prop_assert_eq!(normalise_query(&once), once);
    }

    #[test]
    fn order_of_different_names_does_not_matter(a in "[a-z]{1,3}", b in "[A-Z]{1,3}", x in "[a-z]{0,3}", y in "[a-z]{0,3}") {
        prop_assert_eq!(normalise_query(&format!("{a}={x}&{b}={y}")), normalise_query(&format!("{b}={y}&{a}={x}")));
    }

    #[test]
    fn no_text_panics(query in "(?s).{0,60}") {
        let _ = normalise_query(&query);
    }
}
