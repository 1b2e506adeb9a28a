//! What a client takes from its settings and from the files that they name.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{ClientError, encoding_header, files, tls::Material};
use crate::export::settings::{ExportSettings, Protocol, Secret, header as configured_header};

/// Headers, keys and certificates, as they are at one moment. They can be compared: a file may have changed
/// where the settings have not.
#[derive(Clone, PartialEq, Eq)]
pub struct Inputs {
    pub(super) headers: HeaderMap,
    pub(super) material: Material,
}

impl Inputs {
    /// Reads all files that the settings name.
    ///
    /// # Errors
    /// A setting, a secret, a key or a certificate cannot be used.
    pub fn read(settings: &ExportSettings) -> Result<Self, ClientError> {
        let target = settings.target()?;
        Ok(Self { headers: headers(settings)?, material: Material::read(&settings.tls, &target)? })
    }

    /// What an operator should change, though it works.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.material.key_is_open.then_some(
            "everybody on this host may read or write the file of export.tls.client_key: take that from them (chmod o=)",
        )
    }
}

/// What every request carries: configured headers over our name, the protocol's own over both.
fn headers(settings: &ExportSettings) -> Result<HeaderMap, ClientError> {
    const USER_AGENT: &str = concat!("hvsampler/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, secret) in &settings.headers.0 {
        let (name, value) = match secret {
            Secret::Text(value) => configured_header(name, value)?,
            Secret::File { file } => configured_header(name, &files::secret(file)?)?,
        };
        headers.insert(name, value);
    }
    // It would contradict the body.
    headers.remove(encoding_header(settings.protocol));
    match settings.protocol {
        Protocol::HttpProtobuf => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        Protocol::Grpc => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(HeaderName::from_static("grpc-timeout"), grpc_timeout(settings.timeout));
        }
    }
    Ok(headers)
}

/// At most eight digits and a unit; hours enough in milliseconds.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let ms = timeout.as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{ms}m")).unwrap_or(HeaderValue::from_static("10S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::settings::Headers;

    #[test]
    fn protocol_headers_win_over_configured_ones_and_those_over_our_name() {
        let configured = [
            ("content-encoding", "br"),
            ("content-type", "text/plain"),
            ("user-agent", "mine"),
            ("x-tenant", "7"),
        ];
        let configured = configured.map(|(name, value)| (name.to_owned(), value.into()));
        let settings = ExportSettings { headers: Headers(configured.into()), ..Default::default() };
        let headers = headers(&settings).unwrap();
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers.get("content-encoding"), None, "each request has its own");
        assert_eq!(headers["user-agent"], "mine");
        assert_eq!(headers["x-tenant"], "7");
    }

    #[test]
    fn the_grpc_timeout_fits_into_eight_digits() {
        assert_eq!(grpc_timeout(Duration::from_secs(10)), "10000m");
        assert_eq!(grpc_timeout(Duration::from_nanos(1)), "1m");
        assert_eq!(grpc_timeout(Duration::from_secs(u32::MAX.into())), "99999999m");
    }
}
