//! What web pages may do by way of a browser: which pages may ask (CORS), and under which names the server may be asked
//! for.
//!
//! A browser sends what any page tells it to. So a request that changes or costs something and comes from another site is
//! refused unless the site is in the list, whatever the browser would do with the answer. And where everybody on this
//! machine is let in, a page could make its own name mean 127.0.0.1 (DNS rebinding), so names that are not ours are refused.

use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};

use super::principal::Scopes;
use super::{Access, Rules};
use crate::error::{Kind, Result, ServeError, shown};

/// Headers that a page may send.
const SENT: &str = "authorization, content-type, content-encoding, accept-encoding, x-api-key, x-request-id, \
                    traceparent, tracestate, inference-header-content-length";
/// Headers of an answer that a page may read.
const READ: &str =
    "inference-header-content-length, retry-after, server-timing, www-authenticate, x-request-id";

/// The page that asks, where it is one that may.
#[derive(Clone, Debug)]
pub struct Page(Option<HeaderValue>);

impl Access {
    /// Looks at who asks by way of a browser.
    ///
    /// # Errors
    /// 403 for a name that is not ours, and for what another site may not ask.
    pub fn page(&self, method: &Method, headers: &HeaderMap) -> Result<Page> {
        self.page_by(&self.rules(), method, headers)
    }

    /// The same by rules that have been looked up.
    pub(super) fn page_by(&self, rules: &Rules, method: &Method, headers: &HeaderMap) -> Result<Page> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(HOST.as_str());
        let by_name = rules.hosts.iter().any(|own| host.is_some_and(|host| is_host(host, own)));
        let everybody = rules.anonymous.scopes != Scopes::default()
            && self.loopback.load(std::sync::atomic::Ordering::Acquire);
        if let Some(host) = host.filter(|_| !by_name)
            && (everybody || !rules.hosts.is_empty())
            && !is_address(host)
        {
            return Err(ServeError::new(
                Kind::Forbidden,
                format!("this server is not {}; it would be if `access.hosts` named that", shown(host)),
            ));
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(Page(None)) };
        if rules.origins.iter().any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())) {
            return Ok(Page(Some(origin.clone())));
        }
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
            || is_own(origin, host, text("sec-fetch-site"))
        {
            return Ok(Page(None));
        }
        Err(ServeError::new(
            Kind::Forbidden,
            "a page of another site may not ask this; it may if `access.origins` names its origin",
        ))
    }
}

impl Page {
    /// Whether a browser asks if it may ask. The answer is in the headers.
    #[must_use]
    pub fn is_question(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.0.is_some() && *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Tells the browser of a page that may ask that it may.
    pub fn tell(&self, headers: &mut HeaderMap, question: bool) {
        let Some(origin) = &self.0 else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(VARY, HeaderValue::from_static("origin"));
        if question {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        } else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
        }
    }
}

/// Whether a page is the server's own: as the browser says, else by its name.
fn is_own(origin: &HeaderValue, host: Option<&str>, site: Option<&str>) -> bool {
    if let Some(site) = site {
        return matches!(site, "same-origin" | "none");
    }
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| host.is_some_and(|host| origin.eq_ignore_ascii_case(host)))
}

/// Whether what is asked for is a name of the list, with its port where the list has one.
fn is_host(host: &str, own: &str) -> bool {
    host.eq_ignore_ascii_case(own) || without_port(host).eq_ignore_ascii_case(own)
}

/// Whether what is asked for is this machine by its address, or a name that nobody can make mean another.
fn is_address(host: &str) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let local = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    local || bare.parse::<std::net::IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::config::AccessConfig;
    use crate::access::principal::Scope;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn access(hosts: &[&str], origins: &[&str]) -> Access {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let config = AccessConfig { hosts: list(hosts), origins: list(origins), ..AccessConfig::default() };
        Access::read(&config, Arc::new(SystemTime::now)).unwrap()
    }

    fn ask(access: &Access, method: &Method, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        access.page(method, &map).is_ok()
    }

    #[test]
    fn names_that_are_not_ours_are_refused_where_everybody_is_let_in() {
        let (anywhere, local, named) =
            (access(&[], &[]), access(&[], &[]), access(&["models.example", "b:81"], &[]));
        local.on_loopback(true);
        for (host, on_loopback, by_name) in [
            ("127.0.0.1:8080", true, true),
            ("127.0.0.1", true, true),
            ("[::1]:8080", true, true),
            ("localhost:8080", true, true),
            ("a.localhost", true, true),
            ("evil.example:8080", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("", false, false),
            ("models.example", false, true),
            ("MODELS.example:8080", false, true),
            ("b:81", false, true),
            ("b:82", false, false),
        ] {
            let host = [("host", host)];
            assert!(ask(&anywhere, &Method::GET, &host), "{host:?}");
            assert_eq!(ask(&local, &Method::GET, &host), on_loopback, "{host:?}");
            assert_eq!(ask(&named, &Method::GET, &host), by_name, "{host:?}");
        }
        assert!(ask(&local, &Method::GET, &[]), "no browser leaves the name out");
    }

    #[test]
    fn keys_for_some_change_nothing_where_everybody_else_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        std::fs::write(&keys, "version = 1\n").unwrap();
        let access = |anonymous: &[Scope]| {
            let (keys, anonymous) = (Some(keys.clone()), anonymous.to_vec());
            let config = AccessConfig { keys, anonymous, ..AccessConfig::default() };
            let access = Access::read(&config, Arc::new(SystemTime::now)).unwrap();
            access.on_loopback(true);
            access
        };
        let evil = [("host", "evil.example")];
        assert!(!ask(&access(&[Scope::Infer]), &Method::GET, &evil));
        assert!(ask(&access(&[]), &Method::GET, &evil), "who needs a key is protected by it");
    }

    #[test]
    fn other_sites_may_not_post() {
        let access = access(&[], &["https://app.example"]);
        let host = ("host", "127.0.0.1:8080");
        for (headers, expected) in [
            (vec![host], true),
            (vec![host, ("origin", "http://127.0.0.1:8080")], true),
            (vec![host, ("origin", "http://127.0.0.1:8081")], false),
            (vec![host, ("origin", "https://evil.example")], false),
            (vec![host, ("origin", "null")], false),
            (vec![host, ("origin", "https://app.example")], true),
            (vec![host, ("origin", "https://app.example.evil.example")], false),
            // Behind a proxy that changes the name, the browser knows better.
            (vec![host, ("origin", "https://public.example"), ("sec-fetch-site", "same-origin")], true),
            (vec![host, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(ask(&access, &Method::POST, &headers), expected, "{headers:?}");
            assert!(ask(&access, &Method::GET, &headers), "{headers:?}");
        }
    }
}
