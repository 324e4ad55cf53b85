use farthing_money::{Asset, AssetId};
use farthing_wallet::Quote;

use super::*;
use crate::page::sessions::tests::request;

/// What sellers and agents write is text, and reads as what it is.
#[test]
fn nothing_that_others_wrote_is_markup() {
    let assets: Assets =
        [Asset::new(AssetId::new("usd").unwrap(), 2).unwrap()].into_iter().collect();
    let mut asked = request("apr_1", "terms");
    asked.asked.recipient = "<script>alert(1)</script>".to_owned();
    asked.asked.task = Some("\"><img src=x>".to_owned());
    asked.asked.quote = Some(Quote {
        challenge: "c".to_owned(),
        expires_at: None,
        description: Some("pay \u{202e}<b>now</b>".to_owned()),
    });
    let viewer = Viewer { assets: &assets, now: asked.asked_at, desk: None };
    let page = one(&asked, &viewer).into_string();
    assert!(page.contains("0.25 usd"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    for markup in ["<script", "<img", "<b>", "\u{202e}"] {
        assert!(!page.contains(markup), "{markup}: {page}");
    }
}
