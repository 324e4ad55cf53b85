//! What the gateway says of itself: `/openapi.json` and `/llms.txt`
//! (`draft-payment-discovery-00`).

use std::collections::BTreeMap;
use std::fmt::Write;

use farthing_core::Rail;
use farthing_money::{Amount, Assets};
use farthing_mpp::discovery::{Intent, Offer, PaymentInfo};
use serde_json::{Map, Value, json};

use crate::config::{RouteConfig, ServiceText};

/// The document for machines.
pub(crate) fn openapi(
    service: &ServiceText,
    routes: &[RouteConfig],
    offers: &dyn Fn(&RouteConfig) -> Vec<Offer>,
) -> Value {
    let mut info = json!({ "title": service.title, "version": service.version });
    if let Some(description) = &service.description {
        info["description"] = description.as_str().into();
    }
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let item = paths.entry(template(&route.path)).or_default();
        for method in route.methods.iter().filter(|method| *method != "HEAD") {
            item.insert(method.to_ascii_lowercase(), operation(route, method, offers(route)));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": info,
        "x-service-info": service.info,
        "paths": paths,
    })
}

fn operation(route: &RouteConfig, method: &str, offers: Vec<Offer>) -> Value {
    let mut operation = json!({
        "operationId": format!("{}-{}", method.to_ascii_lowercase(), route.name),
        "responses": { "200": { "description": "The answer" } },
    });
    if let Some(description) = route.description.values().next() {
        operation["summary"] = (**description).into();
    }
    let parameters: Vec<Value> = parameters(&route.path)
        .map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if matches!(method, "POST" | "PUT" | "PATCH") {
        let schema = route.input_schema.clone().unwrap_or_else(|| json!({ "type": "object" }));
        let mut content = json!({ "schema": schema });
        if let Some(example) = &route.input_example {
            content["example"] = example.clone();
        }
        operation["requestBody"] = json!({ "content": { "application/json": content } });
    }
    // Of what is not an intent of the specification, an extension of our own tells.
    if let Some(plan) = &route.intents.subscription {
        let offer = |price: &Amount| {
            json!({
                "plan": &*plan.plan,
                "amount": price.atoms().to_string(),
                "currency": price.asset().as_str(),
                "periodUnit": plan.period.unit.name(),
                "periodCount": plan.period.count.to_string(),
                "subscriptionExpires": plan.until.map(|until| until.to_string()),
            })
        };
        operation["x-farthing-subscriptions"] = plan.price.iter().map(offer).collect();
        operation["responses"]["402"] = json!({ "description": "Payment Required" });
    }
    if !offers.is_empty() {
        // Serialising in-memory data with string keys has no error to give.
        operation["x-payment-info"] =
            serde_json::to_value(PaymentInfo { offers }).unwrap_or_default();
        operation["responses"]["402"] = json!({ "description": "Payment Required" });
    }
    operation
}

/// The ways to pay for a route, as discovery says them: the price, or nothing where it depends on
/// the query.
pub(crate) fn offers(route: &RouteConfig, rails: &[&dyn Rail], carried: Carried<'_>) -> Vec<Offer> {
    let mut offers = Vec::new();
    for price in &route.prices {
        let intents = rails.iter().flat_map(|rail| {
            carried(*rail, price).into_iter().map(move |is_session| (rail, is_session))
        });
        for (rail, is_session) in intents {
            let fixed = route.variants.is_empty();
            offers.push(Offer {
                intent: if is_session { Intent::Session } else { Intent::Charge },
                method: rail.method().to_owned(),
                amount: fixed.then(|| price.atoms().to_string()),
                currency: Some(price.asset().to_string()),
                description: (!fixed).then(|| "The price depends on the query.".to_owned()),
            });
        }
    }
    offers
}

/// How a rail carries an amount: `true` for a session, `false` for a single payment.
pub(crate) type Carried<'a> = &'a dyn Fn(&dyn Rail, &Amount) -> Vec<bool>;

/// The document for language models.
pub(crate) fn llms_txt(service: &ServiceText, routes: &[RouteConfig], assets: &Assets) -> String {
    let mut text = format!("# {}\n\n", service.title);
    if let Some(description) = &service.description {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "> {description}\n\n");
    }
    text.push_str(
        "Paid routes answer `402 Payment Required` with challenges of the Payment HTTP \
         authentication scheme. Answer one of them and repeat the request with the credential. The \
         402 is authoritative; prices here are for orientation.\n\n## Routes\n\n",
    );
    for route in routes {
        let methods: Vec<&str> = route.methods.iter().map(String::as_str).collect();
        let prices: Vec<String> = route.prices.iter().map(|price| assets.print(price)).collect();
        let price = match prices.as_slice() {
            [] => "free".to_owned(),
            prices if route.variants.is_empty() => prices.join(" or "),
            prices => format!("from {}, depending on the query", prices.join(" or ")),
        };
        let description = route.description.values().next().map_or("", |text| text);
        let colon = if description.is_empty() { "" } else { ": " };
        let (methods, path) = (methods.join("|"), template(&route.path));
        let _ = writeln!(text, "- `{methods} {path}` ({price}){colon}{description}");
    }
    text.push_str("\n## More\n\n- [OpenAPI document](/openapi.json)\n");
    text
}

/// The path as OpenAPI writes it: a catch-all is a parameter like any other.
fn template(path: &str) -> String {
    path.replace("{*", "{")
}

fn parameters(path: &str) -> impl Iterator<Item = String> {
    let opened = path.split('{').skip(1);
    let names: Vec<String> = opened
        .filter_map(|rest| rest.split('}').next())
        .map(|name| name.trim_start_matches('*').to_owned())
        .collect();
    names.into_iter()
}
