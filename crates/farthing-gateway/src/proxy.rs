//! Handing a request on, and its answer back.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use farthing_gate::{Body, ClientAddress, Purchase, Tab};
use farthing_money::Assets;
use farthing_mpp::Problem;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::config::{RouteConfig, UpstreamConfig};
use crate::metered;
use crate::metrics::Metrics;
use crate::path::CanonicalPath;

/// Fields that speak of one connection and never of the next (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("trailer"),
    HeaderName::from_static("transfer-encoding"),
    HeaderName::from_static("upgrade"),
];

/// Fields in which only the gateway says who asks; a client's own are dropped.
const FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

const TRACE: HeaderName = HeaderName::from_static("farthing-trace");
const PAYER: HeaderName = HeaderName::from_static("farthing-payer");
const AMOUNT: HeaderName = HeaderName::from_static("farthing-amount");
const METHOD: HeaderName = HeaderName::from_static("farthing-method");

type UpstreamClient = Client<HttpsConnector<HttpConnector>, Body>;

/// What the router found, as an extension of the request.
#[derive(Clone)]
pub(crate) struct Matched {
    pub(crate) route: Arc<RouteConfig>,
    pub(crate) path: CanonicalPath,
    pub(crate) https: bool,
    /// Whether the request has no body.
    pub(crate) bodiless: bool,
}

/// Clients of upstreams, one for each way of connecting.
#[derive(Clone)]
pub(crate) struct Proxy {
    clients: Arc<Vec<(Arc<UpstreamConfig>, UpstreamClient)>>,
    assets: Assets,
    metrics: Arc<Metrics>,
}

impl Proxy {
    pub(crate) fn new(
        routes: &[RouteConfig],
        assets: Assets,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let mut clients: Vec<(Arc<UpstreamConfig>, UpstreamClient)> = Vec::new();
        for route in routes {
            if clients.iter().all(|(known, _)| known != &route.upstream) {
                clients.push((Arc::clone(&route.upstream), client(&route.upstream)?));
            }
        }
        Ok(Self { clients: Arc::new(clients), assets, metrics })
    }

    /// A request to the upstream of a route, with these fields made fit to go on; nothing if it cannot be
    /// addressed.
    pub(crate) fn outgoing(
        &self,
        matched: &Matched,
        head: &Parts,
        mut fields: HeaderMap,
        purchase: &Purchase,
    ) -> Option<Request<Body>> {
        self.prepare(&mut fields, matched, head.extensions.get(), Some(purchase));
        let mut request = Request::new(full(bytes::Bytes::new()));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = target(matched, &head.uri)?;
        *request.headers_mut() = fields;
        Some(request)
    }

    /// Asks the upstream of a route for the head of its answer; nothing if it gives none.
    pub(crate) async fn ask(
        &self,
        matched: &Matched,
        request: Request<Body>,
    ) -> Option<Response<Incoming>> {
        let (route, upstream) = (&*matched.route.name, &matched.route.upstream);
        let (_, client) = self.clients.iter().find(|(known, _)| known == upstream)?;
        let asked = tokio::time::timeout(upstream.response_timeout, client.request(request));
        let answer = asked.await.inspect_err(|_| tracing::warn!(route, "upstream timed out"));
        let answer = answer.ok()?;
        let answer = answer.inspect_err(|error| tracing::warn!(route, %error, "upstream failed"));
        let answer = answer.ok()?;
        self.metrics.answered(route, answer.status().as_u16());
        Some(answer)
    }

    async fn forward(self, request: Request<Body>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let Some(matched) = head.extensions.remove::<Matched>() else {
            return problem(StatusCode::NOT_FOUND, "Nothing is sold here.");
        };
        let purchase = head.extensions.remove::<Purchase>();
        let tab = head.extensions.remove::<Tab>();
        let upstream = &matched.route.upstream;
        let client = self.clients.iter().find(|(known, _)| known == upstream);
        let (Some((_, client)), Some(uri)) = (client, target(&matched, &head.uri)) else {
            return problem(StatusCode::BAD_GATEWAY, "The upstream cannot be addressed.");
        };
        if let Some(authority) = head.uri.authority() {
            // HTTP/2 names the host here.
            insert(&mut head.headers, HOST, authority.as_str());
        }
        let asked = head.headers.clone();
        self.prepare(&mut head.headers, &matched, head.extensions.get(), purchase.as_ref());
        let body = match metered::prepare(&matched, &mut head, body).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = head.method;
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = head.headers;
        let answer =
            tokio::time::timeout(upstream.response_timeout, client.request(outgoing)).await;
        let mut response = match answer {
            Ok(Ok(response)) => response.map(|body| body.map_err(hyper_error).boxed_unsync()),
            Ok(Err(error)) => {
                tracing::warn!(route = &*matched.route.name, %error, "upstream failed");
                unanswered(StatusCode::BAD_GATEWAY, purchase.as_ref())
            }
            Err(_) => {
                tracing::warn!(route = &*matched.route.name, "upstream timed out");
                unanswered(StatusCode::GATEWAY_TIMEOUT, purchase.as_ref())
            }
        };
        self.metrics.answered(&matched.route.name, response.status().as_u16());
        drop_hop_by_hop(response.headers_mut());
        if let Some(meter) = &matched.route.meter
            && response.status().is_success()
        {
            let route = &*matched.route.name;
            response = metered::meter(route, meter, response, &asked, tab)
                .unwrap_or_else(|| unanswered(StatusCode::BAD_GATEWAY, purchase.as_ref()));
        }
        if let Some(purchase) = &purchase {
            insert(response.headers_mut(), TRACE, &purchase.trace.to_string());
        }
        response
    }

    /// Makes the fields of a request fit to go on.
    fn prepare(
        &self,
        fields: &mut HeaderMap,
        matched: &Matched,
        client: Option<&ClientAddress>,
        purchase: Option<&Purchase>,
    ) {
        let trailers =
            fields.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
        let host = fields.remove(HOST);
        drop_hop_by_hop(fields);
        fields.remove(TE);
        if trailers {
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
        let ours: Vec<HeaderName> =
            fields.keys().filter(|name| name.as_str().starts_with("farthing-")).cloned().collect();
        for name in ours.iter().chain(&FORWARDED) {
            fields.remove(name);
        }
        let [_, forwarded_for, forwarded_host, forwarded_proto, _] = FORWARDED;
        if let Some(client) = client {
            insert(fields, forwarded_for, &client.0.to_canonical().to_string());
        }
        if let Some(host) = host {
            fields.insert(forwarded_host, host);
        }
        insert(fields, forwarded_proto, if matched.https { "https" } else { "http" });
        if let Some(purchase) = purchase {
            insert(fields, TRACE, &purchase.trace.to_string());
            insert(fields, PAYER, &purchase.payer);
            insert(fields, AMOUNT, &self.assets.print(&purchase.amount));
            insert(fields, METHOD, &purchase.method);
        }
    }
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async { Ok(proxy.forward(request).await) })
    }
}

fn client(upstream: &UpstreamConfig) -> std::io::Result<UpstreamClient> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(upstream.connect_timeout));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build(connector))
}

/// The upstream's address of what was asked for.
fn target(matched: &Matched, asked: &Uri) -> Option<Uri> {
    let base = &matched.route.upstream.url;
    let path = base.path().trim_end_matches('/');
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{path}{}{query}", matched.path.forwarded);
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
    Uri::from_parts(parts).ok()
}

/// Drops what speaks of one connection, and what `Connection` names besides.
fn drop_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

fn insert(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(name, value);
    }
}

/// The upstream did not answer. Whoever paid is owed an answer and is told so.
fn unanswered(status: StatusCode, purchase: Option<&Purchase>) -> Response<Body> {
    let detail = match purchase {
        Some(_) => {
            "The service did not answer. The payment is kept: send the same credential again; do \
             not pay again."
        }
        None => "The service did not answer.",
    };
    let mut response = problem(status, detail);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A problem that is not about payment.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let json = Problem::untyped(status.as_u16(), title, detail).to_json();
    let mut response = Response::new(full(json));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(Problem::MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// A body made here.
pub(crate) fn full(bytes: impl Into<bytes::Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn hyper_error(error: hyper::Error) -> farthing_gate::BodyError {
    farthing_gate::BodyError::new(error)
}
