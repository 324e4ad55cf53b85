//! `farthing doctor`: what is well is called well, and what is ill is found.

use serde_json::Value;

use crate::world::{SECRET, World, echo, nowhere};

/// The findings of one kind about one part.
fn about(report: &Value, level: &str, part: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of = findings.filter(|it| it["level"] == level && it["part"] == part);
    of.map(|it| it["what"].as_str().unwrap().to_owned()).collect()
}

fn examine(world: &World) -> Value {
    let ended = world.farthing(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let ill = report["verdict"] == "ill";
    assert_eq!(ended.code, i32::from(ill), "{report:#}");
    assert!(!ended.out.contains(SECRET), "no secret is printed");
    report
}

/// A deployment that works has nothing ill, whether its gateway runs or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_sound_deployment_is_called_sound() {
    let world = World::set_up(echo().await);
    let report = examine(&world);
    assert_ne!(report["verdict"], "ill", "{report:#}");
    for part in ["configuration", "permissions", "store", "upstreams", "gateway"] {
        assert!(!about(&report, "well", part).is_empty(), "{part}: {report:#}");
    }
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    assert_ne!(examine(&world)["verdict"], "ill");
    let people = world.farthing(&["doctor"]).ok();
    assert!(people.contains("well  permissions"), "{people}");
}

/// Each thing that is ill is found, and said with what to do about it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ill_is_found() {
    use std::os::unix::fs::PermissionsExt;

    let sound = World::set_up(echo().await);
    let toml = sound.read("farthing.toml");
    let ill = |toml: &str, part: &str, why: &str| {
        sound.write("farthing.toml", toml);
        let report = examine(&sound);
        let found = about(&report, "ill", part);
        assert!(found.iter().any(|it| it.contains(why)), "{part}, {why}: {report:#}");
    };
    ill(&toml.replace("env:SECRET", "env:NO_SUCH"), "configuration", "NO_SUCH is not set");
    ill(&toml.replace("sqlite = \"book.db\"", "memory = true"), "store", "forgotten");
    ill(&toml.replace("book.db", "no/such/book.db"), "store", "nothing can be written");
    sound.write("junk.db", "not a book");
    ill(&toml.replace("book.db", "junk.db"), "store", "");
    let (url, down) = (toml.find("http://").unwrap(), format!("http://{}", nowhere()));
    let end = toml[url..].find('"').unwrap() + url;
    ill(&toml.replace(&toml[url..end], &down), "upstreams", "does not answer");
    std::fs::set_permissions(sound.path("book.db"), PermissionsExt::from_mode(0o644)).unwrap();
    ill(&toml, "permissions", "chmod 600");
    // The log is made as open as the book was.
    for name in ["book.db", "book.db-wal"].map(|name| sound.path(name)) {
        if name.exists() {
            std::fs::set_permissions(name, PermissionsExt::from_mode(0o600)).unwrap();
        }
    }
    sound.write("farthing.toml", &toml);
    let report = examine(&sound);
    assert_ne!(report["verdict"], "ill", "it was these and nothing else: {report:#}");
}
