//! Asking the gateway that has the book open, at its admin address.

use std::path::Path;

use farthing_gateway::{BookConfig, look_up};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Sends `request` to `/v1/{path}` of the gateway whose configuration stands at `at`.
pub(crate) async fn ask<T: DeserializeOwned>(
    at: &Path,
    config: &BookConfig,
    (method, path): (Method, &str),
    request: &impl Serialize,
) -> Result<T, Failure> {
    let (Some(admin), Some(place)) = (config.admin, &config.admin_token) else {
        return Err(Failure::usage(
            "a gateway has the book open: set listen and token in [admin] to reach it, or stop it",
        ));
    };
    let folder = at.parent().unwrap_or(Path::new("."));
    let token = look_up(place, folder, &|name| std::env::var(name).ok());
    let token = token.map_err(|what| Failure::usage(format_args!("[admin] token: {what}")))?;
    let url = format!("http://{admin}/v1/{path}");
    let body = serde_json::to_vec(request).map_err(Failure::other)?;
    let asked = reqwest::Client::new()
        .request(method, url)
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body);
    let answer = asked.send().await.map_err(|error| Failure::other(error.without_url()))?;
    let (status, body) = (answer.status(), answer.bytes().await.map_err(Failure::other)?);
    if !status.is_success() {
        let body = String::from_utf8_lossy(&body);
        return Err(Failure::other(format_args!("the gateway says {status}: {body}")));
    }
    serde_json::from_slice(&body).map_err(Failure::other)
}
