//! What shared caches are told (§11.10).

use http::header::{CACHE_CONTROL, EXPIRES, PRAGMA};
use http::{HeaderMap, HeaderValue};

#[cfg(test)]
mod tests;

/// Directives that invite a shared cache, each of which would contradict `private`.
const SHARED: [&str; 4] = ["public", "s-maxage", "must-revalidate", "proxy-revalidate"];

/// Fields that speak to shared caches alone and overrule `Cache-Control` there: RFC 9213's, its older
/// relative, and those of single products.
const TARGETED: [&str; 4] =
    ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control", "x-accel-expires"];

/// Marks an answer that was paid for as its buyer's alone.
///
/// What the seller said for the buyer's own cache stays; what it said for shared ones goes.
pub(crate) fn make_private(fields: &mut HeaderMap) {
    let said: Vec<String> = fields
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_owned())
        .filter(|directive| !directive.is_empty() && !invites_shared_caches(directive))
        .collect();
    let private = std::iter::once("private".to_owned());
    let directives: Vec<String> = private.chain(said).collect();
    fields.remove(PRAGMA);
    fields.remove(EXPIRES);
    for name in TARGETED {
        fields.remove(name);
    }
    // Directives that came in a header value can go out in one.
    let value = HeaderValue::try_from(directives.join(", "));
    fields.insert(CACHE_CONTROL, value.unwrap_or(HeaderValue::from_static("private")));
}

fn invites_shared_caches(directive: &str) -> bool {
    let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    name == "private" || SHARED.contains(&name.as_str())
}
