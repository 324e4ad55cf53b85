//! `farthing conformance`, as the suite's runner calls it.

use crate::world::World;

#[test]
fn one_request_is_answered_on_standard_output() {
    let world = World::empty();
    let request = r#"{"schema":1,"op":"base64url.encode","input":{"text":"~~~"}}"#;
    let answer = world.farthing_with(&["conformance"], request);
    assert_eq!(answer.err, "");
    assert_eq!(answer.ok(), "{\"ok\":true,\"value\":{\"text\":\"fn5-\"}}\n");
    let failed = world.farthing_with(&["conformance"], "no request").json();
    assert_eq!(failed["error"]["type"], "unknown_error");
}
