//! Where requests go, and where they must not be led.

use ureq::http::Uri;
use ureq::http::uri::Scheme;

use super::{Fault, HttpError};

pub(super) fn parse(url: &str) -> Result<Uri, HttpError> {
    let bad = |problem: &str| HttpError {
        url: url.chars().filter(|c| !c.is_control()).take(200).collect(),
        problem: problem.into(),
        fault: Fault::Final,
        retry_after: None,
    };
    let uri: Uri = url.parse().map_err(|_| bad("this is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(bad("a URL begins with http:// or https://")),
    }
}

/// An address without what may be secret in it: user, password, query.
pub(super) fn shown(uri: &Uri) -> String {
    let port = uri.port().map(|p| format!(":{p}")).unwrap_or_default();
    let all =
        format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("?"), uri.host().unwrap_or("?"), uri.path());
    if all.len() > 300 { all.chars().take(300).chain("…".chars()).collect() } else { all }
}

/// Scheme, host and port: what a token belongs to.
pub(super) fn origin(uri: &Uri) -> (bool, String, u16) {
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (secure, host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))
}

pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Where a `Location` leads, by RFC 3986 except that `..` is left to the server.
pub(super) fn next_hop(from: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let (scheme, authority) =
        (from.scheme_str().unwrap_or_default(), from.authority().map(|a| a.as_str()).unwrap_or_default());
    let path = from.path();
    let has_scheme = location.split_once(':').is_some_and(|(s, _)| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let target = match location {
        "" => return Err("it redirects without saying where to".into()),
        _ if has_scheme => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ if location.starts_with('?') => format!("{scheme}://{authority}{path}{location}"),
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let short: String = target.chars().take(100).collect();
    let uri: Uri = target.parse().map_err(|_| format!("it redirects to {short:?}, which is not a URL"))?;
    match (scheme, uri.scheme_str()) {
        ("https", Some("http")) => Err(format!("it redirects from https to {short:?}, which is not secure")),
        (_, Some("http" | "https")) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(format!("it redirects to {short:?}, which is not a web address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_lead_from_https_to_http() {
        let from: Uri = "https://hub.example:444/a/b/c?q=1".parse().unwrap();
        for (location, expected) in [
            ("/x/y?z", Ok("https://hub.example:444/x/y?z")),
            ("d", Ok("https://hub.example:444/a/b/d")),
            ("?r=2", Ok("https://hub.example:444/a/b/c?r=2")),
            ("//cdn.example/x", Ok("https://cdn.example/x")),
            ("https://cdn.example/x#part", Ok("https://cdn.example/x")),
            ("HTTPS://cdn.example/x", Ok("https://cdn.example/x")),
            ("", Err("where to")),
            ("#", Err("where to")),
            ("http://hub.example:444/x", Err("not secure")),
            ("file:///etc/passwd", Err("not a")),
            ("ftp://hub.example/x", Err("not a web address")),
            ("https://", Err("not a")),
            ("https://:80/x", Err("not a")),
            ("http:x", Err("not a")),
            ("https://hub.example/\u{0}", Err("not a URL")),
            ("https://[::1/x", Err("not a URL")),
        ] {
            match (next_hop(&from, location), expected) {
                (Ok(uri), Ok(url)) => assert_eq!(uri.to_string(), url, "{location}"),
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{location}: {problem}"),
                (got, _) => panic!("{location:?}: {got:?}"),
            }
        }
        let plain: Uri = "http://mirror/x".parse().unwrap();
        assert_eq!(next_hop(&plain, "https://mirror/x").unwrap().to_string(), "https://mirror/x");
    }

    #[test]
    fn a_token_belongs_to_scheme_host_and_port() {
        let origin = |url: &str| origin(&url.parse().unwrap());
        assert_eq!(origin("https://Hub.example/a"), origin("https://hub.example:443/b?c"));
        assert_eq!(origin("http://hub.example"), origin("http://hub.example:80/"));
        for other in [
            "http://hub.example/",
            "https://hub.example:444/",
            "https://x.hub.example/",
            "https://hub.example@x/",
        ] {
            assert_ne!(origin("https://hub.example/"), origin(other), "{other}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let uri: Uri = "https://user:word@mirror:8443/a/b?signature=secret".parse().unwrap();
        assert_eq!(shown(&uri), "https://mirror:8443/a/b");
    }
}
