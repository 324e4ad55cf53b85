//! Which route a request is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::RouteConfig;

/// Finds routes by path and method.
///
/// The path decides first: the most specific pattern that matches it. Only then the method; a
/// method that this path does not have is refused, and never falls back to a wider, cheaper
/// pattern.
#[derive(Clone)]
pub(crate) struct Router {
    paths: matchit::Router<usize>,
    methods: Vec<BTreeMap<String, Arc<RouteConfig>>>,
}

/// What a path and a method lead to.
pub(crate) enum Found {
    /// This route.
    Route(Arc<RouteConfig>),
    /// The path exists, for these methods.
    OtherMethods(Vec<String>),
    /// Nothing.
    Nothing,
}

/// Two routes that could both match one request.
pub(crate) struct Clash {
    /// The later one.
    pub(crate) route: usize,
    /// What is wrong.
    pub(crate) what: String,
}

impl Router {
    /// Builds a router over routes that were checked before.
    pub(crate) fn new(routes: &[RouteConfig]) -> Self {
        // Routes come from a `Config`, which has called `check`.
        Self::build(routes)
            .unwrap_or_else(|_| Self { paths: matchit::Router::new(), methods: Vec::new() })
    }

    /// Whether every route can be told from every other.
    pub(crate) fn check(routes: &[RouteConfig]) -> Result<(), Clash> {
        Self::build(routes).map(drop)
    }

    fn build(routes: &[RouteConfig]) -> Result<Self, Clash> {
        let mut router = Self { paths: matchit::Router::new(), methods: Vec::new() };
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, route) in routes.iter().enumerate() {
            let pattern = route.path.as_str();
            let slot = if let Some(&slot) = known.get(pattern) {
                slot
            } else {
                let slot = router.methods.len();
                let inserted = router.paths.insert(pattern, slot);
                inserted.map_err(|error| Clash { route: at, what: error.to_string() })?;
                router.methods.push(BTreeMap::new());
                known.insert(pattern, slot);
                slot
            };
            let Some(methods) = router.methods.get_mut(slot) else { continue };
            let shared = Arc::new(route.clone());
            for method in &route.methods {
                let taken = methods.insert(method.clone(), Arc::clone(&shared));
                if taken.is_some_and(|other| other.name != route.name) {
                    let what = format!("{method} {pattern} belongs to another route already");
                    return Err(Clash { route: at, what });
                }
            }
        }
        router.manage(routes, &known);
        Ok(router)
    }

    /// Adds the methods by which sessions are dealt with, where nothing is sold by them.
    fn manage(&mut self, routes: &[RouteConfig], known: &BTreeMap<&str, usize>) {
        for route in routes {
            let slot = known.get(route.path.as_str());
            let Some(methods) = slot.and_then(|slot| self.methods.get_mut(*slot)) else { continue };
            for method in &route.manages {
                methods.entry(method.clone()).or_insert_with(|| Arc::new(route.clone()));
            }
        }
    }

    /// The route of a request.
    pub(crate) fn find(&self, path: &str, method: &str) -> Found {
        let Ok(matched) = self.paths.at(path) else { return Found::Nothing };
        let Some(methods) = self.methods.get(*matched.value) else { return Found::Nothing };
        match methods.get(method) {
            Some(route) => Found::Route(Arc::clone(route)),
            None => Found::OtherMethods(methods.keys().cloned().collect()),
        }
    }
}
