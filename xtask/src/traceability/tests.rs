use super::*;
use crate::root;

#[test]
fn every_requirement_has_a_test() {
    let tests = trace(root()).unwrap();
    let required = GROUPS.iter().flat_map(|group| group.requirements);
    let missing: Vec<_> = required.filter(|(id, _)| !tests.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_document_is_what_the_tests_say() {
    let written = std::fs::read_to_string(root().join(DOCUMENT)).unwrap_or_default();
    let wanted = document(root()).unwrap();
    assert!(written == wanted, "{DOCUMENT} is out of date; ./x conformance writes it");
}

#[test]
fn ids_stand_at_the_start_of_a_tests_comment() {
    let text = "
        /// CORE.S16, R-01: once.
        /// More words: here.
        #[test]
        fn once() {}

        /// A note on R-02: no claim.
        fn helper() {}

        /// R-03: a claim that
        struct Wrong;

        fn no_test() {}
    ";
    let once = Named { ids: vec!["CORE.S16".into(), "R-01".into()], test: "once".into() };
    assert_eq!(named(text), [once]);
}
