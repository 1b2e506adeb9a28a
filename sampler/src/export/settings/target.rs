//! From settings to what a request needs: its URL and its headers.

use std::net::IpAddr;

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use serde::Serializer;

use super::{ExportSettings, HIDDEN, Protocol, Secret, SettingError};

/// Path of the gRPC method that takes metrics.
const GRPC_METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The whole URL, the path of the signal or of the gRPC method included.
    pub uri: Uri,
    /// How OTLP travels.
    pub protocol: Protocol,
}

impl Target {
    /// The URL as it may be shown: what a query has may be a token.
    #[must_use]
    pub fn label(&self) -> String {
        shown(&self.uri.to_string())
    }

    /// Whether connections are made with TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether the URL itself says that the receiver runs on this host.
    pub(crate) fn is_this_host(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback() || address.is_unspecified();
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost")
    }
}

impl ExportSettings {
    /// The URL that requests go to.
    ///
    /// # Errors
    /// No endpoint is set, or the one that is set cannot be used.
    pub fn target(&self) -> Result<Target, SettingError> {
        let (name, text, is_base) = match (&self.metrics_endpoint, &self.endpoint) {
            (Some(text), _) => ("export.metrics_endpoint", text, false),
            (None, Some(text)) => ("export.endpoint", text, true),
            (None, None) => {
                return Err(SettingError::new(
                    "export.endpoint",
                    "is not set",
                    "give the receiver's URL, for example \"http://127.0.0.1:4318\"",
                ));
            }
        };
        let uri = match self.protocol {
            Protocol::Grpc => self.grpc_uri(text),
            Protocol::HttpProtobuf => http_uri(text, is_base),
        };
        let uri = uri
            .map_err(|(problem, fix)| SettingError::new(name, format!("{:?} {problem}", shown(text)), fix))?;
        Ok(Target { uri, protocol: self.protocol })
    }

    /// What is wrong with headers, but for values that are in files.
    pub(super) fn problems_of_headers(&self) -> impl Iterator<Item = SettingError> {
        self.headers.0.iter().filter_map(|(name, secret)| match secret {
            Secret::Text(value) => header(name, value).err(),
            Secret::File { .. } => header(name, "").err(),
        })
    }

    fn grpc_uri(&self, text: &str) -> Result<Uri, Refusal> {
        let uri = if text.contains("://") {
            parse(text)?
        } else {
            parse(&format!("{}://{text}", if self.tls.insecure { "http" } else { "https" }))?
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err((
                "has a path, which gRPC does not use",
                "give scheme, host and port alone, for example \"http://127.0.0.1:4317\", or set export.protocol to \"http/protobuf\"",
            ));
        }
        with_path(uri, GRPC_METHOD)
    }
}

/// A header, ready to be sent.
///
/// # Errors
/// Name or value have characters that HTTP does not allow.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), SettingError> {
    let refuse = |problem: String, fix: &str| SettingError::new("export.headers", problem, fix);
    let not_allowed = |what: &str| format!("the {what} of {name:?} is not allowed in HTTP");
    if value == HIDDEN {
        let problem = format!("the value of {name:?} is what is shown in place of a secret");
        return Err(refuse(problem, "give the secret itself"));
    }
    let header = HeaderName::try_from(name)
        .map_err(|_| refuse(not_allowed("name"), "use letters, digits and hyphens"))?;
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| refuse(not_allowed("value"), "use printable ASCII without line breaks"))?;
    value.set_sensitive(true);
    Ok((header, value))
}

/// A URL as it may be shown, for messages end in journals: without the values of a query, and without what
/// stands before an `@`. A URL that is refused may be cut up in any way: where an `@` stands behind a `?`
/// nothing is shown of it.
fn shown(url: &str) -> String {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| url.starts_with(scheme)).unwrap_or("");
    let (before, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    if query.is_some_and(|query| query.contains('@')) {
        return format!("{scheme}{HIDDEN}");
    }
    let host = match before.rsplit_once('@') {
        None => before.to_owned(),
        Some((_, host)) => format!("{scheme}{HIDDEN}@{host}"),
    };
    let Some(query) = query else { return host };
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((key, _)) => format!("{key}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    format!("{host}?{}", query.split('&').map(hidden).collect::<Vec<_>>().join("&"))
}

/// For `#[serde(serialize_with = "target::serialize")]`: as it may be shown.
pub(super) fn serialize<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.serialize_some(&shown(url)),
        None => serializer.serialize_none(),
    }
}

/// What is wrong, and what is accepted.
type Refusal = (&'static str, &'static str);

fn http_uri(text: &str, is_base: bool) -> Result<Uri, Refusal> {
    let uri = parse(text)?;
    if !is_base {
        return Ok(uri);
    }
    if uri.query().is_some() {
        return Err(("has a query", "set export.metrics_endpoint, which is used as it is"));
    }
    let path = format!("{}/v1/metrics", uri.path().trim_end_matches('/'));
    with_path(uri, &path)
}

fn parse(text: &str) -> Result<Uri, Refusal> {
    let uri: Uri = text
        .parse()
        .map_err(|_| ("is not a URL", "give scheme, host and port, for example \"http://127.0.0.1:4318\""))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err((
            "has neither http:// nor https:// in front",
            "say which of the two the receiver speaks",
        ));
    }
    if text.contains(HIDDEN) {
        return Err(("has what is shown in place of a secret", "give the secret itself"));
    }
    // Credentials in a URL end up in logs.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(("holds a user name", "put credentials into export.headers"));
    }
    // The URL type takes any digits and then reports no port at all, which would mean the scheme's own.
    if uri
        .authority()
        .is_some_and(|authority| authority.port().is_none() && authority.as_str() != authority.host())
    {
        return Err(("has a port that cannot be", "give a port from 1 to 65535"));
    }
    Ok(uri)
}

fn with_path(uri: Uri, path: &str) -> Result<Uri, Refusal> {
    const REFUSAL: Refusal = (
        "has a path that cannot be used",
        "give scheme, host and port, for example \"http://127.0.0.1:4318\"",
    );
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| REFUSAL)?);
    Uri::from_parts(parts).map_err(|_| REFUSAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(settings: &ExportSettings) -> Result<String, SettingError> {
        settings.target().map(|target| target.uri.to_string())
    }

    #[test]
    fn urls_that_name_this_host() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("0.0.0.0", true),
            ("[::]", true),
            ("localhost", true),
            ("LocalHost.", true),
            ("otel.localhost", true),
            ("notlocalhost", false),
            ("localhost.example", false),
            ("192.0.2.1", false),
            ("[2001:db8::1]", false),
            ("collector", false),
        ] {
            for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
                let endpoint = Some(format!("http://{host}:4318"));
                let settings = ExportSettings { endpoint, protocol, ..Default::default() };
                assert_eq!(settings.target().unwrap().is_this_host(), expected, "{host}");
            }
        }
    }

    #[test]
    fn no_message_shows_a_password() {
        for text in
            ["http://u:s3cret@h", "ftp://u:s3cret@h", "u:s3cret@h", "http://u:s3/cret@h", "http://u:s3cret@"]
        {
            let settings = ExportSettings { endpoint: Some(text.into()), ..Default::default() };
            let message = url(&settings).unwrap_err().to_string();
            assert!(!message.contains("s3") && message.contains("(hidden)@"), "{message}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_has_no_secret() {
        for (url, expected) in [
            ("http://h:1/v1/metrics", "http://h:1/v1/metrics"),
            ("https://h/a?token=s3cret&x=s3cret", "https://h/a?token=(hidden)&x=(hidden)"),
            ("https://h/a?s3cret", "https://h/a?(hidden)"),
            ("https://u:s3cret@h/a?b=s3cret", "https://(hidden)@h/a?b=(hidden)"),
            ("https://h/a?b=@s3cret", "https://(hidden)"),
            ("https://u:s3?cret@h", "https://(hidden)"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let settings =
            ExportSettings { metrics_endpoint: Some("https://h/a?t=s3".into()), ..Default::default() };
        assert_eq!(settings.target().unwrap().label(), "https://h/a?t=(hidden)");
        let settings = ExportSettings { metrics_endpoint: Some("https://h/a?t=(hidden)".into()), ..settings };
        assert!(url(&settings).unwrap_err().problem.ends_with("has what is shown in place of a secret"));
    }

    #[test]
    fn a_base_gets_the_path_of_the_signal() {
        for (base, expected) in [
            ("http://h:4318", "http://h:4318/v1/metrics"),
            ("http://h:4318/", "http://h:4318/v1/metrics"),
            ("https://h/otlp", "https://h/otlp/v1/metrics"),
            ("https://h/otlp/", "https://h/otlp/v1/metrics"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/metrics"),
        ] {
            let settings = ExportSettings { endpoint: Some(base.into()), ..Default::default() };
            assert_eq!(url(&settings).unwrap(), expected);
        }
    }

    #[test]
    fn the_metrics_endpoint_is_used_as_it_is_and_wins() {
        for (exact, expected) in [
            ("http://h:4318", "http://h:4318/"),
            ("http://h/v1/metrics", "http://h/v1/metrics"),
            ("https://h/a/b?tenant=7", "https://h/a/b?tenant=7"),
        ] {
            let settings = ExportSettings {
                endpoint: Some("http://other:1".into()),
                metrics_endpoint: Some(exact.into()),
                ..Default::default()
            };
            assert_eq!(url(&settings).unwrap(), expected);
        }
    }

    #[test]
    fn grpc_takes_scheme_host_and_port() {
        for (text, insecure, expected) in [
            ("http://h:4317", false, "http://h:4317"),
            ("https://h:4317/", true, "https://h:4317"),
            ("h:4317", true, "http://h:4317"),
            ("h:4317", false, "https://h:4317"),
        ] {
            let mut settings = ExportSettings {
                endpoint: Some(text.into()),
                protocol: Protocol::Grpc,
                ..Default::default()
            };
            settings.tls.insecure = insecure;
            assert_eq!(url(&settings).unwrap(), format!("{expected}{GRPC_METHOD}"));
        }
    }

    #[test]
    fn unusable_endpoints_are_refused_with_a_fix() {
        let http = Protocol::HttpProtobuf;
        for (text, protocol) in [
            ("", http),
            ("h:4318", http),
            ("ftp://h", http),
            ("http://", http),
            ("http://user:pw@h", http),
            ("http://h?x=1", http),
            ("http://h/v1/metrics", Protocol::Grpc),
            ("http://h:99999999", http),
        ] {
            let settings = ExportSettings { endpoint: Some(text.into()), protocol, ..Default::default() };
            let error = url(&settings).unwrap_err();
            assert!(error.name == "export.endpoint" && !error.fix.is_empty(), "{text}: {error}");
        }
        assert_eq!(url(&ExportSettings::default()).unwrap_err().problem, "is not set");
    }

    #[test]
    fn header_errors_do_not_print_values() {
        let mut settings = ExportSettings::default();
        settings.headers.0.insert("x-token".into(), "s3cret\n".into());
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains("x-token") && !error.contains("s3cret"), "{error}");
    }
}
