use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

fn root(byte: u8) -> TokenRoot {
    TokenRoot::new(Zeroizing::new([byte; 32]))
}

fn most(usdc: &str) -> Limits {
    Limits { max: BTreeMap::from([("usdc".to_owned(), usdc.to_owned())]), ..Limits::default() }
}

fn until_new_year() -> Limits {
    Limits { expires: Some("2027-01-01T00:00:00Z".to_owned()), ..most("1") }
}

fn issued() -> Token {
    root(1).issue("researcher", None, until_new_year(), NOW, [7; 16]).unwrap()
}

#[test]
fn a_token_says_who_asks_within_which_limits() {
    let token = Token::parse(&issued().expose()).unwrap();
    let grant = root(1).verify(&token).unwrap();
    assert_eq!((grant.agent.as_str(), grant.issued_at), ("researcher", NOW));
    assert_eq!(grant.blocks, [(token.name(), until_new_year())]);
    assert!(
        !format!("{token:?}").contains(token.expose().rsplit('.').next().unwrap()),
        "no secret in Debug"
    );
}

#[test]
fn a_token_is_handed_on_offline_and_only_narrows() {
    let token = issued();
    let sub = token.narrowed(Some("crawler"), Some("survey"), most("0.05")).unwrap();
    let grant = root(1).verify(&Token::parse(&sub.expose()).unwrap()).unwrap();
    assert_eq!((grant.agent.as_str(), grant.task.as_deref()), ("researcher", Some("survey")));
    assert_eq!(grant.handed_to, ["crawler"]);
    let names: Vec<&String> = grant.blocks.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&token.name(), &sub.name()], "who revokes the first revokes both");
    assert_eq!(grant.blocks[1].1, most("0.05"));
    // A task that was set is not left for another one with wider limits.
    let other = sub.narrowed(None, Some("summary"), Limits::default()).unwrap();
    assert_eq!(root(1).verify(&other), Err(TokenError::Malformed));
    let same = sub.narrowed(None, Some("survey"), Limits::default()).unwrap();
    assert!(root(1).verify(&same).is_ok());
}

/// P-04, P-09: who asks is what the token says, and nothing that its holder can write.
#[test]
fn a_block_cannot_be_taken_away_changed_or_swapped() {
    let token = issued();
    let sub = token.narrowed(None, None, most("0.05")).unwrap();
    assert!(root(1).verify(&sub).is_ok(), "the positive control");
    let of = |blocks: Vec<String>, tag: &Token| Token { blocks, tag: tag.tag.clone() };
    let (first, second) = (sub.blocks[0].clone(), sub.blocks[1].clone());
    let richer = first.replacen(char::is_alphanumeric, "A", 1);
    for forged in [
        of(vec![first.clone()], &sub),
        of(vec![second.clone()], &sub),
        of(vec![second.clone(), first.clone()], &sub),
        of(vec![first.clone(), second.clone(), second.clone()], &sub),
        of(vec![first.clone(), second], &token),
        of(vec![richer], &token),
        of(vec![first, written(&Block { limits: most("900"), ..Block::default() })], &sub),
    ] {
        assert_eq!(root(1).verify(&forged), Err(TokenError::Forged));
    }
    assert_eq!(root(2).verify(&token), Err(TokenError::Forged), "another wallet's");
}

#[test]
fn only_the_first_block_names_the_agent_and_it_expires() {
    assert_eq!(root(1).issue("x", None, most("1"), NOW, [7; 16]), Err(TokenError::Endless));
    let token = issued();
    let renamed = Block { agent: Some("owner".to_owned()), ..Block::default() };
    let block = written(&renamed);
    let forged =
        Token { tag: tag(&token.tag, &block), blocks: vec![token.blocks[0].clone(), block] };
    assert_eq!(root(1).verify(&forged), Err(TokenError::Malformed));
}

#[test]
fn a_token_does_not_grow_without_bound() {
    let mut token = issued();
    for _ in 1..BLOCKS_MAX {
        token = token.narrowed(None, None, Limits::default()).unwrap();
    }
    assert!(root(1).verify(&token).is_ok());
    assert_eq!(token.narrowed(None, None, Limits::default()), Err(TokenError::Malformed));
    let long = Limits { sellers: Some(vec!["x".repeat(BYTES_MAX)]), ..Limits::default() };
    assert_eq!(issued().narrowed(None, None, long), Err(TokenError::Malformed));
}

proptest! {
    /// No text is read as a token that verifies, unless the wallet made it.
    #[test]
    fn any_text_is_refused(text in "(fta1_)?[A-Za-z0-9_.-]{0,120}") {
        if let Ok(token) = Token::parse(&text) {
            prop_assert!(root(1).verify(&token).is_err());
        }
    }

    /// One character changed anywhere, and nothing is granted.
    #[test]
    fn one_other_character_is_another_token(at in 0_usize..1_000, char in "[A-Za-z0-9_.-]") {
        let text = issued().expose();
        let at = at.checked_rem(text.len()).unwrap();
        prop_assume!(text.get(at..=at) != Some(char.as_str()));
        let mut changed = text.to_string();
        changed.replace_range(at..=at, &char);
        // The last character of base64 has bits that mean nothing; such spellings are refused as well.
        let granted = Token::parse(&changed).and_then(|token| root(1).verify(&token));
        prop_assert!(granted.is_err(), "{changed}");
    }
}
