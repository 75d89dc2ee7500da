use std::env::{self, VarError};
use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use thiserror::Error;

/// An HTTP proxy, and the hosts to which connections go without it.
///
/// A request to an `https` URL, and one of [`Versions::Http2`](crate::Versions::Http2), goes through a tunnel
/// (`CONNECT`): the proxy sees the host and encrypted bytes. A request to an `http` URL is forwarded by the proxy, which
/// can read it. The connection to the proxy has no TLS.
///
/// A proxy connects to hosts that the client itself might be kept from: it cannot be combined with
/// [`connect_only_to`](crate::ConnectionsBuilder::connect_only_to).
///
/// # Examples
/// ```
/// use motet_http::Proxy;
///
/// let proxy = Proxy::new("http://me:secret@proxy.example:3128").unwrap().except("localhost, 10.0.0.0/8, .internal");
/// assert!(!format!("{proxy:?}").contains("secret"));
/// assert!(Proxy::new("socks5://proxy.example").is_err());
/// ```
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

struct Shared {
    settings: Settings,
    matcher: Matcher,
}

/// The settings as text, as [`Matcher`] takes them.
#[derive(Clone, Default)]
struct Settings {
    http: String,
    https: String,
    except: String,
}

/// The URL of a proxy is invalid. It is not part of the message, since it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}: {problem}")]
pub struct ProxyError {
    /// The source of the URL.
    origin: &'static str,
    problem: &'static str,
}

impl Proxy {
    /// Creates a proxy for all hosts. Its URL is `http://HOST:PORT`, or `http://USER:PASSWORD@HOST:PORT` with
    /// percent-encoded parts; the default port is 80.
    ///
    /// # Errors
    /// [`ProxyError`]: the URL is invalid, or its scheme is not `http`.
    pub fn new(url: &str) -> Result<Self, ProxyError> {
        check("the URL of the proxy", url)?;
        Ok(Self::with(Settings { http: url.to_owned(), https: url.to_owned(), except: String::new() }))
    }

    /// Returns the proxies that the environment names, or `None` if it names none: `HTTP_PROXY` for `http` URLs,
    /// `HTTPS_PROXY` for `https` URLs, `ALL_PROXY` for both, and `NO_PROXY` for the hosts to reach without them, each also
    /// in lower case.
    ///
    /// The environment is read now, and only by this function. In a CGI program, in which a request can set
    /// `HTTP_PROXY`, there is no proxy.
    ///
    /// # Errors
    /// [`ProxyError`]: a variable has an invalid value. Its hosts would otherwise be connected to without the proxy.
    pub fn from_env() -> Result<Option<Self>, ProxyError> {
        Self::from_variables(|name| match env::var(name) {
            Ok(value) => Some(Ok(value)),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => Some(Err(ProxyError {
                origin: name,
                problem: "it is not UTF-8; write a URL such as `http://proxy:3128`",
            })),
        })
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<Result<String, ProxyError>>,
    ) -> Result<Option<Self>, ProxyError> {
        if variable("REQUEST_METHOD").is_some() {
            return Ok(None);
        }
        let url = |names: [&'static str; 2]| {
            for name in names {
                match variable(name).transpose()? {
                    // Set to nothing is not set, as for other programs.
                    Some(url) if !url.is_empty() => return check(name, &url).map(|()| Some(url)),
                    _ => {}
                }
            }
            Ok(None)
        };
        let all = url(["ALL_PROXY", "all_proxy"])?;
        let http = url(["HTTP_PROXY", "http_proxy"])?.or_else(|| all.clone());
        let https = url(["HTTPS_PROXY", "https_proxy"])?.or(all);
        if http.is_none() && https.is_none() {
            return Ok(None);
        }
        let mut except = None;
        for name in ["NO_PROXY", "no_proxy"] {
            except = except.or(variable(name).transpose()?.filter(|hosts| !hosts.is_empty()));
        }
        let (http, https) = (http.unwrap_or_default(), https.unwrap_or_default());
        Ok(Some(Self::with(Settings { http, https, except: except.unwrap_or_default() })))
    }

    /// Connects to further hosts without the proxy: a list, separated by commas, of names, addresses and networks.
    ///
    /// A name covers its subdomains, with and without a leading dot; `*` covers every host. A network such as
    /// `10.0.0.0/8` covers URLs with an address, not names that resolve to one.
    #[must_use]
    pub fn except(self, hosts: &str) -> Self {
        let mut settings = self.0.settings.clone();
        if !settings.except.is_empty() {
            settings.except.push(',');
        }
        settings.except.push_str(hosts);
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let Settings { http, https, except } = &settings;
        let matcher =
            Matcher::builder().http(http.as_str()).https(https.as_str()).no(except.as_str()).build();
        Self(Arc::new(Shared { settings, matcher }))
    }

    /// Returns the proxy for a URL, or `None` if its host is connected to without one.
    pub(super) fn of(&self, uri: &Uri) -> Option<Via> {
        self.0.matcher.intercept(uri).map(Via)
    }

    /// Returns the credentials to send with a request that the proxy forwards.
    pub(super) fn forwarding(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.of(uri)?.0.basic_auth().cloned()
    }
}

/// The proxy of one connection.
pub(super) struct Via(Intercept);

impl Via {
    pub(super) fn uri(&self) -> &Uri {
        self.0.uri()
    }

    /// The name and the port, for messages.
    pub(super) fn name(&self) -> String {
        self.uri().authority().map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.0.basic_auth()
    }
}

/// Refuses what [`Matcher`] would skip or understand as something else.
fn check(origin: &'static str, url: &str) -> Result<(), ProxyError> {
    let error = |problem| Err(ProxyError { origin, problem });
    let Ok(uri) = url.parse::<Uri>() else {
        return error("it is not the URL of a proxy; write one such as `http://proxy:3128`");
    };
    // Without a scheme, `host:port` is an authority.
    match uri.scheme_str() {
        Some("http") | None => {}
        Some("https") => return error("a proxy with TLS is not supported; its scheme must be `http`"),
        Some(_) => {
            return error(
                "its scheme must be `http`; for another kind of proxy, dial through it with `connect_by`",
            );
        }
    }
    match uri.authority() {
        Some(authority) if !authority.host().is_empty() => Ok(()),
        _ => error("it has no host; write a URL such as `http://proxy:3128`"),
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the credentials.
        f.debug_tuple("Proxy").field(&self.0.matcher).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(proxy: &Proxy, url: &str) -> Option<String> {
        proxy.of(&url.parse().unwrap()).map(|via| via.name())
    }

    fn of_variables(variables: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
        Proxy::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| Ok((*value).to_owned()))
        })
    }

    #[test]
    fn excepted_hosts_are_reached_without_the_proxy() {
        let proxy = Proxy::new("http://proxy.example:3128").unwrap();
        let proxy = proxy.except("localhost, .internal").except("10.0.0.0/8,::1");
        for url in ["http://a.example", "https://a.example:8443", "http://notlocalhost", "http://11.0.0.1"] {
            assert_eq!(via(&proxy, url).as_deref(), Some("proxy.example:3128"), "{url}");
        }
        for url in [
            "http://localhost:80",
            "https://a.internal",
            "http://internal",
            "http://10.1.2.3",
            "https://[::1]",
        ] {
            assert_eq!(via(&proxy, url), None, "{url}");
        }
        assert_eq!(via(&proxy.except("*"), "http://a.example"), None);
    }

    #[test]
    fn environment_names_a_proxy_for_each_scheme() {
        let both = [("HTTP_PROXY", "http://one:1"), ("https_proxy", "two:2"), ("no_proxy", "c.example")];
        let proxy = of_variables(&both).unwrap().unwrap();
        assert_eq!(via(&proxy, "http://a.example").as_deref(), Some("one:1"));
        assert_eq!(via(&proxy, "https://a.example").as_deref(), Some("two:2"));
        assert_eq!(via(&proxy, "https://c.example"), None);
        let rest = [("ALL_PROXY", "http://all:3"), ("HTTPS_PROXY", "http://two:2"), ("HTTP_PROXY", "")];
        let proxy = of_variables(&rest).unwrap().unwrap();
        assert_eq!(via(&proxy, "http://a.example").as_deref(), Some("all:3"));
        let one = of_variables(&[("https_proxy", "http://two:2")]).unwrap().unwrap();
        assert_eq!(via(&one, "http://a.example"), None);
    }

    #[test]
    fn environment_without_proxy_or_of_a_cgi_program_names_none() {
        assert!(of_variables(&[("NO_PROXY", "a.example")]).unwrap().is_none());
        let lower =
            of_variables(&[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", ""), ("no_proxy", "a.example")]);
        let upper = of_variables(&[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", "a.example")]);
        assert_eq!(format!("{:?}", lower.unwrap()), format!("{:?}", upper.unwrap()));
        assert!(
            of_variables(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:1")]).unwrap().is_none()
        );
    }

    #[test]
    fn invalid_proxy_is_refused_without_its_password() {
        for url in [
            "",
            "http://",
            "https://me:secret@a.example",
            "socks5://me:secret@a.example:1",
            "http://me:secret@ a",
        ] {
            let error = Proxy::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = of_variables(&[("http_proxy", "ftp://a.example")]).unwrap_err();
        assert!(error.to_string().starts_with("http_proxy: its scheme must be `http`"), "{error}");
    }
}
