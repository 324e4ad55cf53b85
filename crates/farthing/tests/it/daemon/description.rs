//! The API's description, held against what it answers.

use serde_json::{Value, json};

use crate::daemon::{Scene, challenges, raw};

/// Whether a value is what a schema says: as much of JSON Schema as the description uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#'));
        return check(document, schema.expect(reference), value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let schema = any.iter().find(|schema| (schema["type"] == "null") == value.is_null());
        return check(document, schema.unwrap(), value, at);
    }
    if let Some(one) = schema["enum"].as_array() {
        assert!(one.contains(value), "{at}: {value}");
        return;
    }
    match schema["type"].as_str().unwrap() {
        "string" => {
            let text = value.as_str().unwrap_or_else(|| panic!("{at}: {value}"));
            let date = schema["format"] == "date-time";
            assert!(!date || text.parse::<farthing_money::Timestamp>().is_ok(), "{at}: {text}");
        }
        "boolean" => assert!(value.is_boolean(), "{at}: {value}"),
        "integer" => assert!(value.is_u64(), "{at}: {value}"),
        "null" => assert!(value.is_null(), "{at}: {value}"),
        "array" => {
            for (place, item) in value.as_array().expect(at).iter().enumerate() {
                check(document, &schema["items"], item, &format!("{at}[{place}]"));
            }
        }
        "object" => {
            let members = value.as_object().expect(at);
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    members.contains_key(name.as_str().unwrap()),
                    "{at} has no {name}: {value}"
                );
            }
            for (name, member) in members {
                let known = schema["properties"].get(name);
                assert!(known.is_some() || schema["additionalProperties"] != false, "{at}.{name}");
                if let Some(known) = known {
                    check(document, known, member, &format!("{at}.{name}"));
                }
            }
        }
        other => panic!("{at}: {other}"),
    }
}

fn body(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// Every route is described, everything described is a route, and what is answered is as it is described.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_it_is_described() {
    let scene = Scene::new(&["--sign-for-others"]).await;
    let owner = scene.world.farthing(&["wallet", "token"]).ok().trim().to_owned();
    let careful = scene.token("careful");
    let ask = |token: &str, method: &str, path: &str, sent: &Value| {
        let sent = if sent.is_null() { String::new() } else { sent.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{sent}",
            sent.len()
        );
        body(&raw(&scene.socket(), &request))
    };
    // Anybody may read the description, and it is the one of the source.
    let (status, document) = ask("", "GET", "/v1/openapi.json", &Value::Null);
    assert_eq!(status, 200);
    assert_eq!(document, serde_json::from_str::<Value>(farthing_wallet_daemon::OPENAPI).unwrap());
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys();
        described.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    let mut offered: Vec<(String, String)> = farthing_wallet_daemon::routes()
        .into_iter()
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    described.sort();
    offered.sort();
    assert_eq!(described, offered);

    let quote = scene.shop.url("/quote");
    let asked = challenges(&quote);
    let purchase = json!({ "url": quote, "maxAmount": "0.50 usd" });
    let signed = json!({ "url": quote, "name": "a device's", "challenges": asked });
    let (status, credential) = ask(&owner, "POST", "/v1/credentials", &signed);
    assert_eq!(status, 200, "{credential}");
    let payment = credential["payment"].as_str().unwrap().to_owned();
    let (status, waiting) = ask(&careful, "POST", "/v1/pay", &purchase);
    assert_eq!((status, &waiting["code"]), (403, &json!("waiting")), "{waiting}");
    let approval = waiting["approval"]["id"].as_str().unwrap().to_owned();
    let problem = &document["components"]["schemas"]["Problem"];
    check(&document, problem, &waiting, "problem");
    for (method, path) in &offered {
        let sent = match (method.as_str(), path.as_str()) {
            ("POST", "/v1/pay" | "/v1/decide") => purchase.clone(),
            ("POST", "/v1/credentials") => signed.clone(),
            ("POST", "/v1/payments/{payment}/outcome") => json!({ "status": 200 }),
            ("POST", "/v1/approvals/{approval}") => json!({ "approve": false }),
            ("GET", _) => Value::Null,
            other => panic!("{other:?} is not tried"),
        };
        let operation = &document["paths"][path][method.to_lowercase()];
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
            check(&document, schema, &sent, path);
        }
        let path = path.replace("{payment}", &payment).replace("{approval}", &approval);
        let (status, said) = ask(&owner, method, &path, &sent);
        assert_eq!(status, 200, "{method} {path}: {said}");
        let schema = operation.pointer("/responses/200/content/application~1json/schema");
        check(&document, schema.unwrap(), &said, &path);
        // Whoever has no token learns nothing but that.
        if operation["security"] != json!([]) {
            let (status, said) = ask("fta1_x", method, &path, &sent);
            assert_eq!((status, &said["code"]), (401, &json!("token")), "{method} {path}");
            check(&document, problem, &said, &path);
        }
    }
    // A page of payments is as long as it is asked to be.
    let (_, page) = ask(&owner, "GET", "/v1/payments?limit=1", &Value::Null);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}
